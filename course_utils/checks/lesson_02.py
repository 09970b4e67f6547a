"""Lesson 02's exercises, told once each in the notebook's order: how to measure a segmentation.

Most cases can be worked out by hand. Above an exercise stands what makes its mistakes: the score
with a part of it replaced.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from course_utils import metrics
from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise, as_array, is_same
from course_utils.data import VOID

# --- 1: the confusion matrix ---------------------------------------------------------------------


def _counts(truth, prediction, num_classes):
    return metrics.ConfusionMatrix(num_classes).update(prediction, truth).matrix


def _made_of(formula: Callable) -> Callable:
    """Return a formula of the right counts."""
    return lambda *labels: formula(_counts(*labels))


def _counted_in_uint8(truth, prediction, num_classes):
    labelled = truth != VOID
    pairs = truth[labelled] * np.uint8(num_classes) + prediction[labelled]  # modulo 256
    counts = np.bincount(pairs, minlength=num_classes**2)[: num_classes**2]
    return counts.reshape(num_classes, num_classes)


def _kind(array) -> str:
    """Return the first letter of what an array is of: b for bool, iu for whole numbers, f."""
    return as_array(array).dtype.kind


def _labels(rng: np.random.Generator, num_classes: int) -> Case:
    """Return random masks with void; the last class is in neither."""
    truth, prediction = rng.integers(0, num_classes - 1, (2, 2, 30, 20)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = VOID
    return Case(truth, prediction, num_classes)


_TRUTH = np.array([[0, 0, 1], [2, 1, 0]], np.uint8)
_PREDICTION = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
_TWO = np.array([0, 1, 1, 0], np.uint8)
_VOID = np.where([False, True, False, True], np.uint8(VOID), _TWO)

confusion_matrix = Exercise(
    "confusion_matrix",
    form="counts (num_classes, num_classes), rows truth, columns prediction",
    learnt="rows are truth, columns prediction, void is left out, absent classes keep a row",
    right=_counts,
    cases=[
        Case(_TRUTH, _PREDICTION, 3),
        Case(_VOID, _TWO, 2, says=f"Here 2 of 4 pixels are void ({VOID}): leave them out first."),
        Case(
            *(_TWO * 0, _TWO * 0, 4),
            says="Here classes 1 to 3 do not occur: np.bincount needs minlength=num_classes**2.",
        ),
        Case(_TWO * 19, _TWO * 19, 20, says="Here is class 19 of 20, in uint8."),
        Case(_TRUTH[None], _PREDICTION[None], 3, says="Masks may be (N, H, W)."),
    ],
    drawn=lambda rng: [_labels(rng, num_classes) for num_classes in (3, 11, 33)],
    mistakes={
        "{name} has rows and columns swapped: rows are truth.": _made_of(lambda n: n.T),
        "{name} holds shares of each row: count pixels.": _made_of(lambda n: n / n.sum(1)[:, None]),
        "{name} holds shares: count pixels, divide later.": _made_of(lambda n: n / n.sum()),
        "{name} only marks what occurs: count how often it does.": _made_of(lambda n: n > 0),
        f"{{name}} counts void pixels as class 0: leave out what is {VOID} in the truth, whatever "
        "is predicted.": lambda t, p, c: _counts(np.where(t == VOID, 0, t), p, c),
        f"{{name}} counts void pixels as the last class: leave out what is {VOID} in the truth, "
        "whatever is predicted.": lambda t, p, c: _counts(np.minimum(t, c - 1), p, c),
        "{name} is one long row, as of np.bincount: reshape it.": _made_of(np.ravel),
        "{name} counts pixels at the wrong place: uint8 ends at 255, and 19 * 20 starts again from "
        "0. Give the masks .astype(np.int64) before you multiply.": _counted_in_uint8,
    },
    facts={
        "{name} is of floats; counts are integers, whole numbers.": lambda n, *_: _kind(n) in "iu",
    },
    causes={
        "object too deep": "np.bincount takes one row of numbers, and masks are (H, W) or (N, H, "
        "W): index both with one bool mask, or flatten both with .ravel()",
        "truth value of an array": "`if` asks for one answer, but here are many pixels at once: "
        "select with a bool array, or flatten both masks with .ravel()",
    },
)

# --- 2, 3: IoU and Dice --------------------------------------------------------------------------


def _random_matrix(rng: np.random.Generator, classes: int = 6) -> np.ndarray:
    """Return a confusion matrix with an absent class, and one that is predicted, never true."""
    matrix = rng.integers(1, 50, (classes, classes))
    absent = rng.integers(classes)
    matrix[absent] = matrix[:, absent] = matrix[(absent + 1) % classes] = 0
    return matrix


def _of_parts(formula: Callable) -> Callable:
    """Return a score that is a formula of (right, true, predicted) pixels of each class."""
    return lambda m: formula(np.diag(m), m.sum(1), m.sum(0))


def _per_class(name: str, right: Callable, formula: str, learnt: str, mistakes: dict) -> Exercise:
    """Return the exercise of a score of each class; ``mistakes`` are those that others lack."""
    absent = "a class that is absent from both truth and prediction: that is NaN."
    return Exercise(
        name,
        form=f"one value a class, {formula}; averaging comes later",
        learnt=learnt,
        right=right,
        cases=[
            Case(np.array([[2, 1, 0], [0, 1, 1], [0, 0, 1]])),
            # class 2 is predicted but never true, class 3 is neither
            Case(np.array([[4, 0, 2, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])),
        ],
        drawn=lambda rng: [Case(_random_matrix(rng))],
        mistakes=mistakes
        | {
            "{name} is the recall, the share of the class that is found: pixels wrongly given to "
            "the class must count, too.": _of_parts(lambda hit, t, p: hit / t),
            "{name} is the precision, the share of right finds: the class's missed pixels must "
            "count, too.": _of_parts(lambda hit, t, p: hit / p),
            f"{{name}} gives 0 to {absent}": lambda m: np.nan_to_num(right(m)),
            f"{{name}} gives 1 to {absent}": lambda m: np.nan_to_num(right(m), nan=1),
            "{name} gives NaN to a class that is predicted where it is not: that is wholly wrong, "
            "0. Only absence from both is NaN.": lambda m: np.where(m.sum(1) > 0, right(m), np.nan),
            "{name} drops absent classes, so the others lose their places: keep all, NaN where "
            "absent.": lambda m: right(m)[~np.isnan(right(m))],
        },
        hint="It takes a (C, C) confusion matrix; its diagonal is np.diag(confusion).",
    )


iou_per_class = _per_class(
    "iou_per_class",
    metrics.iou,
    "intersection / union",
    "intersection over union, 0 for wholly wrong, NaN for absent from both",
    {
        "{name} counts the intersection twice in the union: truth + prediction contains it two "
        "times, so take it away once.": _of_parts(lambda hit, t, p: hit / (t + p)),
        "{name} is Dice, 2 |A and B| / (|A| + |B|): IoU divides by the union.": metrics.dice,
        "{name} divides by all pixels: divide by the union.": lambda m: np.diag(m) / m.sum(),
    },
)
dice_per_class = _per_class(
    "dice_per_class",
    metrics.dice,
    "2 |A and B| / (|A| + |B|)",
    "Dice, equal to 2J / (1 + J) class by class",
    {
        "{name} lacks the factor 2: a perfect class gets 0.5, as its pixels are in both |A| and "
        "|B|.": _of_parts(lambda hit, t, p: hit / (t + p)),
        "{name} is the IoU: Dice divides twice the intersection by |A| + |B|.": metrics.iou,
        "{name} divides by the union, so a perfect class gets 2: divide by the sum of both sizes, "
        "|A| + |B|.": lambda m: 2 * metrics.iou(m),
        "{name} is J / (2 - J), which is 2J / (1 + J) upside down: it would give J from Dice, not "
        "Dice from J.": lambda m: metrics.iou(m) / (2 - metrics.iou(m)),
        "{name} is 2J / (2 + J), but the formula that makes Dice from an IoU of J is another one: "
        "2J / (1 + J).": lambda m: 2 * metrics.iou(m) / (2 + metrics.iou(m)),
    },
)

# --- 4: two models that swap ---------------------------------------------------------------------


def _leads(answer: Callable) -> tuple[float, float]:
    """Return by how much model A leads in mean IoU and in mean Dice."""
    pair, name = answer(), "swapping_models"
    require(
        isinstance(pair, tuple | list) and len(pair) == 2,
        f"{name} must return two arrays, the IoUs of A and of B: `return model_a, model_b`.",
    )
    a, b = map(as_array, pair)
    require(
        _kind(a) in "biuf" and _kind(b) in "biuf",
        f"{name} gives what is no array of numbers: return two arrays of IoUs.",
    )
    require(
        a.ndim == 1 and a.shape == b.shape,
        f"{name} gives IoUs of shapes {a.shape} and {b.shape}: both models see the same images.",
    )
    require(a.size > 1, f"{name} uses one image: there Dice, 2J / (1 + J), keeps the order.")
    for iou in (*a, *b):
        require(
            0 <= iou <= 1,
            f"{name} contains {iou}: an IoU lies in 0..1 (not percent), and none may be NaN.",
        )
    dice_a, dice_b = 2 * a / (1 + a), 2 * b / (1 + b)
    return a.mean() - b.mean(), dice_a.mean() - dice_b.mean()


_LEADS = "A minus B is {got} in mean IoU and in mean Dice"

swapping_models = Exercise(
    "swapping_models",
    form="two arrays, the IoUs of A and of B",
    learnt=_LEADS,
    right=None,
    cases=[Case(through=_leads)],
    facts={
        f"{{name}} swaps, but the other way: {_LEADS}. Return the two in the other "
        "order.": lambda leads: not leads[0] < 0 < leads[1],
        f"{{name}}: {_LEADS}; mean IoU must prefer A by 0.02 or more. Raise A's best "
        "image.": lambda leads: leads[0] >= 0.02,
        f"{{name}} does not swap clearly: {_LEADS}. 2J / (1 + J) gains least near 1 and near 0, so "
        "let A be uneven (one image near 1, one near 0), B even.": lambda leads: leads[1] <= -0.02,
    },
)

# --- 5, 6: ways to average -----------------------------------------------------------------------

_FIRST = "If it calls an earlier function of yours whose check fails, mend that one first."
_RULES = ("skip", "one", "zero")  # for a class that is absent from an image
_IMAGES = np.array(
    [
        [[4, 1, 0], [1, 2, 0], [0, 0, 0]],
        [[6, 0, 2], [0, 0, 0], [0, 0, 0]],
        [[3, 0, 0], [0, 2, 1], [1, 0, 3]],
    ]
)


def _images(rng: np.random.Generator) -> np.ndarray:
    """Return matrices (7, 5, 5): one image without a mistake, six that lack a class."""
    return np.stack([np.diag([5, 4, 3, 2, 1]), *(_random_matrix(rng, 5) for _ in range(6))])


def _mean_per_image(matrices, absent):
    if absent == "skip":
        return metrics.mean_iou(matrices).mean()
    return np.nan_to_num(metrics.iou(matrices), nan=float(absent == "one")).mean()


def _mean_iou_of_true(matrices):
    return np.nanmean(np.where(matrices.sum(2) > 0, metrics.iou(matrices), np.nan), axis=1).mean()


mean_iou_per_image = Exercise(
    "mean_iou_per_image",
    form="one number, the mean over the images of each image's mean IoU",
    learnt="each image by itself, with three rules for absent classes",
    right=_mean_per_image,
    cases=[
        *(Case(_IMAGES, rule, says=f"Here absent={rule!r}. {_FIRST}") for rule in _RULES),
        Case(_IMAGES[:2], "zero"),
    ],
    drawn=lambda rng: [Case(matrices, rule) for matrices in [_images(rng)] for rule in _RULES],
    mistakes={
        "{name} adds up the images first: that is the data set's mean IoU. Take each image's own "
        "mean, then the mean of those.": lambda m, absent: metrics.mean_iou(m.sum(0)),
        "{name} is NaN: a class absent from an image is still in its mean, and np.nanmean leaves "
        "NaN out.": lambda m, absent: metrics.iou(m).mean(),
        "{name} averages all images' classes in one pot: an image with more of them then weighs "
        "more. Average each image's first.": lambda m, absent: np.nanmean(metrics.iou(m)),
        "{name} averages over images first, then over classes (axis 0): take each image's mean "
        "over the classes first (axis "
        "1).": lambda m, absent: np.nanmean(metrics.iou(m), axis=0).mean(),
        "{name} skips a class that is absent from the truth alone. Where it is predicted it is "
        "wholly wrong, 0.": lambda m, absent: _mean_iou_of_true(m),
        "{name} divides by the number of classes: divide by the number of "
        "images.": lambda m, absent: _mean_per_image(m, absent) * len(m) / m.shape[1],
        **{
            f"{{name}} gives what absent={rule!r} should, for another "
            "rule.": lambda m, absent, rule=rule: _mean_per_image(m, rule)
            for rule in _RULES
        },
    },
    hint="It was called with (N, C, C). iou_per_class takes one matrix: call it for each image.",
)


def _micro(m):
    return np.trace(m) / (2 * m.sum() - np.trace(m))


def _pair(
    micro: Callable = _micro, weighted: Callable = metrics.frequency_weighted_iou
) -> Callable:
    return lambda m: (micro(m), weighted(m))


_MICRO, _WEIGHTED = "{name}: micro", "{name}: frequency_weighted"
_AVERAGED = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])

pixel_averages = Exercise(
    "pixel_averages",
    form="two numbers, `return micro, frequency_weighted`",
    learnt="micro and frequency-weighted IoU",
    right=_pair(),
    cases=[
        Case(
            _AVERAGED,
            through=lambda answer, m: np.ravel(as_array(answer(m)))[:1],
            says="This is micro: all intersections / all unions.",
        ),
        Case(_AVERAGED, says=f"frequency_weighted is the sum of share of truth x IoU. {_FIRST}"),
    ],
    drawn=lambda rng: [Case(_random_matrix(rng))],
    mistakes={
        "{name} returns its two numbers in the wrong order.": lambda m: _pair()(m)[::-1],
        f"{_MICRO} is the pixel accuracy; divide by all unions.": _pair(metrics.pixel_accuracy),
        f"{_MICRO} counts the intersections twice in the unions, where truth and prediction hold "
        "it once each.": _pair(lambda m: np.trace(m) / (2 * m.sum())),
        f"{_MICRO} is the mean IoU; add up first, divide once.": _pair(metrics.mean_iou),
        f"{_MICRO} is NaN; add up counts, never NaN.": _pair(lambda m: metrics.iou(m).sum()),
        f"{_WEIGHTED} is NaN; an absent class has weight 0, but 0 * NaN is NaN: use "
        "np.nansum.": _pair(weighted=lambda m: (metrics.iou(m) * m.sum(1) / m.sum()).sum()),
        f"{_WEIGHTED} weights by the predicted counts (columns): take the class's share of the "
        "truth, rows.": _pair(weighted=lambda m: np.nansum(metrics.iou(m) * m.sum(0) / m.sum())),
        f"{_WEIGHTED} is unweighted: weight by share of truth.": _pair(weighted=metrics.mean_iou),
        f"{_WEIGHTED} uses counts as weights: divide them by the count of all labelled "
        "pixels.": _pair(weighted=lambda m: np.nansum(metrics.iou(m) * m.sum(1))),
        f"{_WEIGHTED} divides by C: the weights sum to 1 already, so the weighted IoUs are only to "
        "be added up.": _pair(weighted=lambda m: metrics.frequency_weighted_iou(m) / len(m)),
        f"{_WEIGHTED} is averaged: the weights sum to 1 already, so the weighted IoUs are only to "
        "be added up.": _pair(weighted=lambda m: np.nanmean(metrics.iou(m) * m.sum(1) / m.sum())),
    },
)

# --- 7: one prediction, many numbers -------------------------------------------------------------

DEFINITIONS = {
    "data set": "counts added over all images, then the mean of the classes' IoU",
    "per image, skip": "each image's mean IoU, averaged; a class absent from both is left out",
    "per image, one": "the same, but a class absent from both counts as 1",
    "per image, zero": "the same, but a class absent from both counts as 0",
    "micro": "all intersections divided by all unions",
    "frequency weighted": "each class's IoU, weighted by its share of the truth",
    "void as a class": "as 'data set', but void is one class more, which is never predicted",
    "mean Dice": "as 'data set', but Dice in place of IoU",
}
_HOW = {  # in the order of the letters A to H
    "micro": "it is acc / (2 - acc), so compute the pixel accuracy first",
    "per image, one": "mean_iou_per_image(confusions, 'one'): the largest of the three rules",
    "void as a class": "give void the number C: every void pixel is then an error",
    "data set": "add up the images' matrices with .sum(axis=0), then iou_per_class, then nanmean",
    "mean Dice": "no class's Dice is below its IoU, so it lies above the data set's mean IoU",
    "per image, zero": "mean_iou_per_image(confusions, 'zero'): the smallest of the three rules",
    "frequency weighted": "large classes are the easy ones, so it lies far above the plain mean",
    "per image, skip": "mean_iou_per_image(confusions, 'skip')",
}
_LETTERED = dict(zip("ABCDEFGH", _HOW, strict=True))


def lettered_numbers(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict:
    """Return ``{"A": number, ...}``: the eight numbers of :data:`DEFINITIONS`, always so shuffled.

    ``truth`` and ``prediction`` are uint8 (N, H, W), classes 0..num_classes-1; ``truth`` also void.
    """
    values = _numbers(truth, prediction, num_classes)
    return {letter: values[definition] for letter, definition in _LETTERED.items()}


def _numbers(truth, prediction, num_classes) -> dict[str, float]:
    images = metrics.per_image_matrices(prediction, truth, num_classes)
    with_void = np.where(truth == VOID, num_classes, truth)
    values = {
        "data set": metrics.mean_iou(images.sum(0)),
        **{f"per image, {rule}": _mean_per_image(images, rule) for rule in _RULES},
        "micro": _micro(images.sum(0)),
        "frequency weighted": metrics.frequency_weighted_iou(images.sum(0)),
        "void as a class": metrics.mean_iou(_counts(with_void, prediction, num_classes + 1)),
        "mean Dice": metrics.mean_dice(images.sum(0)),
    }
    return {name: float(value) for name, value in values.items()}


match_definitions = Exercise(
    "match_definitions",
    form="a dict such as {'A': 'micro', ...}",
    learnt="eight numbers, one prediction, and you know which is which",
    right=lambda: dict(_LETTERED),
    cases=[Case()],
    facts={
        "{name} must return a dict such as {'A': 'micro', ...}.": lambda got: isinstance(got, dict),
        "{name} is the wrong way round: keys are letters.": lambda got: {*got} != {*DEFINITIONS},
        "{name} says nothing about some of the letters A to H.": lambda got: {*got} >= {*_LETTERED},
        f"{{name}} holds {{got}}, where something is no definition. They are: {', '.join(_HOW)}.": (
            lambda got: all(value in [*_HOW] for value in got.values())
        ),
        f"{{name}} uses a definition twice. {_FIRST}": lambda got: len({*got.values()}) == len(got),
        **{
            f"{{name}}: {definition!r} has another letter ({_HOW[definition]}).": (
                lambda got, letter=letter, definition=definition: got[letter] == definition
            )
            for letter, definition in _LETTERED.items()
        },
    },
    same=lambda got, wanted: isinstance(got, dict) and got == wanted,
    numbers=False,
)

# --- 8 to 10: boundaries -------------------------------------------------------------------------


def _square(size: int, low: int, high: int) -> np.ndarray:
    """Return a mask (size, size) of the square from ``low`` to before ``high``."""
    return np.pad(np.ones((high - low, high - low), bool), (low, size - high))


def _blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks (40, 50) of blobs that overlap in part; the first one touches the frame."""
    noise, other = ndimage.gaussian_filter(rng.normal(size=(2, 40, 50)), (0, 4, 4))
    first, second = noise > np.quantile(noise, 0.7), noise + 0.6 * other > 0.02
    row, column = rng.integers(5, 25, 2)
    first[row : row + 12, :10] = first[:10, column : column + 12] = True
    return first, second


def _inner(mask, width=1):
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return mask & (distance <= width)


def _eroded(mask, width, **options):
    return ndimage.binary_erosion(mask, np.ones((3, 3)), width, **options)


def _grown(mask, width):
    return ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=width)


_L_SHAPES = np.zeros((2, 20, 24), bool)
_L_SHAPES[0, 3:14, 3:14], _L_SHAPES[0, 3:8, 3:8] = True, False
_L_SHAPES[1, 5:16, 4:20], _L_SHAPES[1, 5:9, 4:10] = True, False

inner_boundary = Exercise(
    "inner_boundary",
    form="a bool mask (H, W)",
    learnt="inside the object, of the right width, corners and frame included",
    right=_inner,
    cases=[
        *(Case(_square(17, 3, 14), width, says=f"Here width={width}.") for width in (2, 1)),
        Case(_square(9, 1, 8) & ~_square(9, 0, 4), 1),  # where a square reaches beyond a cross
        Case(
            np.pad(np.ones((8, 16), bool), 2), 2, says="The mask has 12 x 20 pixels, is no square."
        ),
        Case(np.ones((5, 5), bool), 1),
    ],
    drawn=lambda rng: [Case(_blobs(rng)[0], width) for width in (1, 3)],
    mistakes={
        "{name} treats the outside of the picture as object: count it as background, so an object "
        "cut off by the frame has a boundary "
        "there.": lambda m, w: m & ~_eroded(m, w, border_value=1),
        "{name} is the core that erosion leaves: take what it takes.": _eroded,
        "{name} lies outside of the object: erode, do not dilate.": lambda m, w: _grown(m, w) & ~m,
        "{name} marks the background as well: it is what was in the mask AND is not in the "
        "core.": lambda m, w: ~_eroded(m, w),
        "{name} is twice as wide, half of it outside of the object: only pixels of the object "
        "belong to it.": lambda m, w: _inner(m, w) | _grown(m, w) & ~m,
        "{name} is the whole object.": lambda m, w: m,
        "{name} is 1 pixel wide for any width: erode `width` times.": lambda m, w: _inner(m),
        "{name} is a pixel too wide: one erosion too many.": lambda m, w: _inner(m, w + 1),
        "{name} is twice as wide: a square of side 2 * width + 1 takes `width` pixels in one go, "
        "so do not repeat it.": lambda m, w: _inner(m, 2 * w),
        "{name} forgets the pixel that touches the outside by a corner: erode with np.ones((3, "
        "3)), not with the cross.": lambda m, w: m & ~ndimage.binary_erosion(m, iterations=w),
    },
    facts={
        "{name} is of numbers: return a bool mask, for & and ~.": lambda got, *_: _kind(got) == "b",
    },
    hint="mask is bool (H, W), width a whole number of pixels.",
)


def _nearest(truth, prediction, metric="euclidean", contour=_inner):
    """Return each contour pixel's distance to the other contour: (of truth, of prediction)."""
    pairs = cdist(np.argwhere(contour(truth)), np.argwhere(contour(prediction)), metric)
    return pairs.min(1), pairs.min(0)


def _nearest_zero(truth, prediction):
    """Return what distance_transform_edt gives of the contours and not of their opposite."""
    t, p = _inner(truth), _inner(prediction)
    return ndimage.distance_transform_edt(p)[t], ndimage.distance_transform_edt(t)[p]


def _unless_empty(score: Callable, one: float, both: float) -> Callable:
    """Return a score of two masks that is ``one`` if one of them is empty, ``both`` if both are."""
    return lambda t, p, *more: (
        score(t, p, *more) if t.any() and p.any() else one if t.any() or p.any() else both
    )


def _with_empty(mask: np.ndarray, *tolerance: float) -> list[Case]:
    """Return the questions with one mask empty, the other, and both."""
    pairs = (mask, 0 * mask), (0 * mask, mask), (0 * mask, 0 * mask)
    return [Case(t > 0, p > 0, *tolerance, says="One mask is empty, or both.") for t, p in pairs]


def _f1_of(formula: Callable, distances: Callable = _nearest) -> Callable:
    """Return a score that is a formula of the precision and the recall of two contours."""

    def score(truth, prediction, tolerance):
        of_truth, of_prediction = distances(truth, prediction)
        return formula((of_prediction <= tolerance).mean(), (of_truth <= tolerance).mean())

    return _unless_empty(score, 0.0, np.nan)


def _harmonic(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


_f1 = _f1_of(_harmonic)
_SMALL, _LARGE = _square(20, 2, 6), _square(20, 5, 15)

boundary_f1 = Exercise(
    "boundary_f1",
    form="one number, F1 = 2PR / (P + R) of the contours inner_boundary(mask, 1)",
    learnt="precision and recall of contours within the tolerance",
    right=_f1,
    cases=[
        Case(
            _SMALL, _square(20, 13, 17), 1, says="No contour pixel of two far squares is matched."
        ),
        Case(_LARGE, _LARGE | _square(20, 0, 2), 1, says="Precision is 36/40, recall 1."),
        *(Case(_LARGE, np.roll(_LARGE, 2, 1), far, says=f"Tolerance {far}.") for far in (2, 1)),
        Case(_square(9, 2, 3), _square(9, 3, 4), 1),
        *_with_empty(_LARGE, 1),
        *(Case(*_L_SHAPES, far, says="These are two L shapes.") for far in (1.5, 2)),
    ],
    drawn=lambda rng: [
        *(Case(*_blobs(rng), tolerance) for tolerance in (1, 3)),
        Case(_SMALL, np.roll(_SMALL, rng.integers(8, 12, 2), (0, 1)), 2.5),
        *_with_empty(_blobs(rng)[0], 2),
    ],
    mistakes={
        "{name} is NaN where nothing matches: F1 is 0 if P and R are both 0, and one does not "
        "divide by their sum.": _f1_of(lambda p, r: 2 * p * r / (p + r)),
        "{name} is the precision: recall, the other way, must count too.": _f1_of(lambda p, r: p),
        "{name} is the recall: contours far from any true one are free.": _f1_of(lambda p, r: r),
        "{name} is the arithmetic mean: F1 = 2PR / (P + R).": _f1_of(lambda p, r: (p + r) / 2),
        "{name} lacks the factor 2 of F1.": _f1_of(lambda p, r: _harmonic(p, r) / 2),
        "{name} measures areas, not contours: take inner_boundary(mask, 1) first.": _unless_empty(
            lambda t, p, _: 2 * (t & p).sum() / (t.sum() + p.sum()), 0.0, np.nan
        ),
        "{name} leaves out what is just as far away as the tolerance: that still matches (<=, not "
        "<).": lambda t, p, d: _f1(t, p, np.nextafter(d, 0)),
        "{name} measures as a dilation with a square does. Distances are Euclidean: 1.41 for "
        "pixels that touch by a "
        "corner.": _f1_of(_harmonic, lambda t, p: _nearest(t, p, "chebyshev")),
        "{name} is the same at any tolerance: is the tolerance used?": lambda t, p, d: _f1(t, p, 2),
        "{name} is NaN where one mask is empty: that is 0.": _unless_empty(_f1, np.nan, np.nan),
        "{name} is 0 where both masks are empty: that is NaN.": _unless_empty(_f1, 0.0, 0.0),
        "{name} finds every contour pixel matched, however far: distance_transform_edt measures to "
        "the nearest ZERO, so hand it ~contour.": _f1_of(_harmonic, _nearest_zero),
    },
    hint="Both masks are bool (H, W).",
)


def _worst_of(combine: Callable, distances: Callable = _nearest, **how) -> Callable:
    """Return a distance that is made of each contour pixel's distance to the other contour."""
    return _unless_empty(lambda t, p: combine(*distances(t, p, **how)), np.inf, np.nan)


def _larger(a, b):
    return max(a.max(), b.max())


def _both_ways(one: np.ndarray, other: np.ndarray) -> list[Case]:
    return [Case(one, other), Case(other, one)]


def _speck_and_ring(rng: np.random.Generator) -> list[Case]:
    """Return questions whose answer is no whole number, and one about a hole."""
    square, (row, column) = _square(30, 12, 22), rng.choice([[1, 3], [1, 5], [2, 3], [2, 7]])
    speck = square.copy()
    speck[12 - row, 12 - column] = True
    return [
        *_both_ways(square, speck),
        Case(square, square & ~_square(30, 16, rng.integers(17, 19))),
    ]


_worst = _worst_of(_larger)

hausdorff_distance = Exercise(
    "hausdorff_distance",
    form="one number, the larger of the largest distances each way, not rounded",
    learnt="the worst contour pixel, either way round",
    right=_worst,
    cases=[
        *_both_ways(_square(20, 8, 16), _square(20, 8, 16) | np.roll(_square(20, 4, 5), 1, 1)),
        Case(_square(21, 3, 18), _square(21, 3, 18) & ~_square(21, 8, 13)),
        *_with_empty(_LARGE),
        *_both_ways(*_L_SHAPES),
    ],
    drawn=lambda rng: [*_speck_and_ring(rng), Case(*_blobs(rng)), *_with_empty(_blobs(rng)[0])],
    mistakes={
        "{name} looks one way only, from the truth: the prediction may have a speck far off. Take "
        "the larger of the two.": _worst_of(lambda a, b: a.max()),
        "{name} looks one way only, from the prediction: the truth may have a speck far off. Take "
        "the larger of the two.": _worst_of(lambda a, b: b.max()),
        "{name} is the mean of both ways: take the larger one of the largest distance from the "
        "truth and that from the prediction.": _worst_of(lambda a, b: (a.max() + b.max()) / 2),
        "{name} is the sum of both ways: take the larger of the two largest distances, from the "
        "truth and from the prediction.": _worst_of(lambda a, b: a.max() + b.max()),
        "{name} is the squared distance.": _worst_of(lambda a, b: _larger(a, b) ** 2),
        "{name} is not rounded: {wanted}.": _worst_of(lambda a, b: int(_larger(a, b))),
        "{name} is in king's steps (chessboard), not Euclidean, as a dilation with a square would "
        "give it: pixels that touch by a corner are 1.41 "
        "apart.": _worst_of(_larger, metric="chebyshev"),
        "{name} counts steps along rows and columns, and not the straight way: use Euclidean "
        "distances, the root of the sum of both squares.": _worst_of(_larger, metric="cityblock"),
        "{name} is a mean distance, of which a single pixel far off is a small part: one pixel far "
        "off is what it is about.": _worst_of(lambda a, b: max(a.mean(), b.mean())),
        "{name} measures between all pixels of the masks: measure between contours "
        "(inner_boundary(mask, 1)).": _worst_of(_larger, contour=lambda mask: mask),
        "{name} is {got}, expected {wanted}: distance_transform_edt measures to the nearest ZERO, "
        "so hand it ~contour.": _worst_of(_larger, _nearest_zero),
        "{name} is 0 where one mask is empty: that is inf.": _unless_empty(_worst, 0.0, np.nan),
        "{name} is inf where both masks are empty: that is NaN.": _unless_empty(
            _worst, np.inf, np.inf
        ),
    },
    hint="Both masks are bool (H, W).",
)

# --- 11: the bootstrap ---------------------------------------------------------------------------


def _two_models(rng: np.random.Generator, images: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return confusion matrices (N, 3, 3) of two models that find the same images hard.

    A is better than B on images with many labelled pixels, so the data set's difference is not
    the mean of the images' differences.
    """
    size = rng.lognormal(0, 1.0, (images, 1))
    pixels = (4000 * size * rng.dirichlet([4, 2, 1], images)).astype(int) + 10
    hard = rng.beta(1.5, 3, (images, 1)) * np.array([0.5, 0.8, 1.0])

    def model(factor):
        error = np.clip(hard * factor + rng.normal(0, 0.02, hard.shape), 0.01, 0.99)
        wrong = (pixels * error).astype(int)
        as_next = np.roll(np.eye(3, dtype=int), 1, axis=1)
        return (pixels - wrong)[..., None] * np.eye(3, dtype=int) + wrong[..., None] * as_next

    return model(np.where(size > 1, 0.6, 1.1)), model(1.0)


def _one_image_apart(place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices (6, 3, 3) of a perfect and a poor model; one image alone holds class 2."""
    perfect = np.tile(np.diag([10, 10, 0]), (6, 1, 1))
    poor = np.tile([[5, 5, 0], [0, 10, 0], [0, 0, 0]], (6, 1, 1))
    perfect[place], poor[place] = np.diag([10, 10, 10]), [[10, 0, 0], [0, 10, 0], [8, 0, 2]]
    return perfect, poor


def _of_drawn(m, draws, seed, left_out=None, part=1, mean=metrics.mean_iou):
    """Return a model's mean IoU over each draw of images; by default N of N with replacement."""
    chances = np.ones(len(m))
    chances[[] if left_out is None else left_out] = 0
    rng = np.random.default_rng(seed)
    return mean(np.tensordot(rng.multinomial(len(m) // part, chances / chances.sum(), draws), m, 1))


def _paired(**how) -> Callable:
    """Return a bootstrap with the same draw for both models."""

    def differences(a, b, draws, seed):
        return _of_drawn(a, draws, seed, **how) - _of_drawn(b, draws, seed, **how)

    return differences


def _unpaired(drawn: Callable) -> Callable:
    return lambda a, b, draws, seed: drawn(a, draws, seed) - drawn(b, draws, seed + 1)


def _mean_of_drawn(a, b, draws, seed):
    drawn = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    return (metrics.mean_iou(a) - metrics.mean_iou(b))[drawn].mean(1)


def _of_drawn_pixels(m, draws, seed):
    total = m.sum(0)
    drawn = np.random.default_rng(seed).multinomial(total.sum(), total.ravel() / total.sum(), draws)
    return metrics.mean_iou(drawn.reshape(draws, *total.shape))


def _mean_and_spread(answer, a, b, draws, seed):
    name, found = "bootstrap_differences", as_array(answer(a, b, draws, seed))
    require(
        found.shape == (draws,),
        f"{name} has shape {found.shape}, expected ({draws},): return every draw's difference; the "
        "interval is read off afterwards.",
    )
    require(
        _kind(found) in "biuf" and np.isfinite(found).all(),
        f"{name} has NaN among its differences: where the drawn images lack a class, np.nanmean "
        "leaves it out.",
    )
    few, again, other = (
        as_array(answer(a.copy(), b.copy(), 20, s)) for s in (seed, seed, seed + 1)
    )
    require(
        np.array_equal(few, again),
        f"{name} differs from call to call: draw from np.random.default_rng(seed).",
    )
    require(
        np.ptp(few) == 0 or not np.array_equal(few, other),
        f"{name} does not use its seed: two seeds, the same draws.",
    )
    return found.mean(), found.std()


def _bootstraps(rng: np.random.Generator) -> list[Case]:
    models = _one_image_apart(-1), _one_image_apart(0), _two_models(rng)
    says = "This is mean and spread: each draw takes N of the N images with replacement."
    options = {"through": _mean_and_spread, "says": says}
    return [Case(*pair, 2000, int(rng.integers(99)), **options) for pair in models]


bootstrap_differences = Exercise(
    "bootstrap_differences",
    form="every draw's difference, (draws,)",
    learnt="images drawn with replacement, the same ones for both models",
    right=_paired(),
    cases=_bootstraps(np.random.default_rng(2)),
    drawn=_bootstraps,
    mistakes={
        "{name} is B minus A: return A minus B.": lambda a, b, *how: _paired()(b, a, *how),
        "{name} has mean and spread {got}, expected {wanted}: far too sure. Draw images, not "
        "pixels: pixels of one image are right or wrong together.": _unpaired(_of_drawn_pixels),
        "{name} averages the images' own mean IoUs: add up the drawn images' matrices first, then "
        "take the mean IoU of the sum.": _mean_of_drawn,
        "{name} has mean and spread {got}, expected {wanted}: draw the images once and use the "
        "same draw for A and B (both find the same images hard).": _unpaired(_of_drawn),
        "{name} draws too few images: each draw takes N of the N images.": _paired(part=2),
        "{name} never draws the last image: rng.integers(0, N) excludes N.": _paired(left_out=-1),
        "{name} never draws the first image: rng.integers(0, N) includes 0.": _paired(left_out=0),
        "{name} counts an absent class as 0: the mean leaves out a class that is absent "
        "(np.nanmean).": _paired(mean=lambda m: np.nan_to_num(metrics.iou(m)).mean(-1)),
    },
    facts={
        "{name} gives the same difference in every draw: make the generator once, before the loop, "
        "and draw WITH replacement, rng.integers(0, N, N); a permutation holds the same images "
        "again.": lambda got, *_: got[1] > 1e-9,
    },
    # two bootstraps agree to a small part of their spread; what has no spread must be equal
    same=lambda got, wanted: np.allclose(got, wanted, 0, 0.15 * wanted[1] + 1e-9),
    hint="It was called with two (N, 3, 3) arrays, a number of draws and a seed.",
)

# --- 12, 13: losses ------------------------------------------------------------------------------


def _ask_loss(answer, logits, target, *more, gradient=False, **options):
    """Ask for a loss of tensors, or for its gradient by the logits; the cases need no torch."""
    import torch

    logits = torch.from_numpy(logits).requires_grad_(gradient)
    loss = answer(logits, torch.from_numpy(target), *more, **options)
    require(
        isinstance(loss, torch.Tensor) and loss.ndim == 0,
        "the loss must return a tensor of one number: of soft Dice the mean over the classes, of "
        "the focal loss the mean over the labelled pixels.",
    )
    if not gradient:
        return float(loss.detach())
    cause = ".detach(), .item(), argmax, numpy and torch.tensor cut it off."
    require(loss.requires_grad, f"the loss has no gradient: {cause}")
    loss.backward()
    require(logits.grad is not None, f"no gradient of the loss reaches the logits: {cause}")
    return logits.grad


def _loss(*arguments, **options) -> Case:
    return Case(*arguments, through=_ask_loss, **options)


def _gradient(*arguments) -> Case:
    says = "This is the gradient by the logits: a part of it is cut off (.detach(), torch.tensor)."
    return Case(*arguments, through=_ask_loss, gradient=True, says=says)


def _random_logits(seed: int | np.random.Generator, classes: int, used: int) -> tuple:
    """Return logits (2, C, 4, 5) and a target (2, 4, 5) with the first of the classes only."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, classes, 4, 5)).astype(np.float32)
    return logits, rng.integers(0, used, (2, 4, 5))


def _one_hot(z, t):
    return (t[:, None] == z.new_tensor(range(z.shape[1])).view(1, -1, 1, 1)).to(z.dtype)


def _dice_loss(
    p_of=lambda z: z.softmax(1),
    factor=2,
    above=1,
    below=1,
    dims=(0, 2, 3),
    start=1,
    sign=-1,
    all_classes=True,
) -> Callable:
    """Return the soft Dice loss with parts of it replaced."""

    def loss(z, t, smooth=1.0):
        p, t = p_of(z), _one_hot(z, t)
        size = p.sum(dims) + t.sum(dims) + below * smooth
        dice = (factor * (p * t).sum(dims) + above * smooth) / size
        return start + sign * (dice if all_classes else dice[t.sum(dims) > 0]).mean()

    return loss


_ZEROS = (np.zeros((1, 2, 2, 3), np.float32), np.array([[[0, 0, 0], [0, 0, 1]]]))
_SURE = (np.float32(40 * (np.arange(3)[:, None, None] == _ZEROS[1])[None]), _ZEROS[1])

soft_dice_loss = Exercise(
    "soft_dice_loss",
    form="1 - the mean over the classes of soft Dice",
    learnt="differentiable, one Dice a class, finite for absent classes",
    right=_dice_loss(),
    cases=[
        _loss(*_ZEROS, says="Here p = 1/2; by hand it is 1 - (6/9 + 2/5) / 2."),
        _loss(*_random_logits(1, 3, 2), says="Class 2 is absent here. Sums are over (0, 2, 3)."),
        _gradient(*_ZEROS),
        _loss(*_ZEROS, smooth=0.5, says="Here smooth=0.5."),
        _loss(*_SURE, says="A sure and right prediction has loss 0, an absent class included."),
    ],
    drawn=lambda rng: [
        _loss(*_random_logits(rng, 4, 3), smooth=0.5),
        _gradient(*_random_logits(rng, 4, 3)),
    ],
    mistakes={
        "{name} is Dice itself: a loss falls as Dice grows, 1 - Dice.": _dice_loss(start=0, sign=1),
        "{name} is -Dice: 1 - Dice is 0 when all is right.": _dice_loss(start=0),
        "{name} ignores `smooth`: absent classes are then 0 / 0.": _dice_loss(above=0, below=0),
        "{name} adds `smooth` above only: Dice may then exceed 1.": _dice_loss(below=0),
        "{name} adds `smooth` below only: all right is not 0.": _dice_loss(above=0),
        "{name} lacks the factor 2 of Dice.": _dice_loss(factor=1),
        "{name} adds the classes up before dividing, so large classes count more: one Dice a "
        "class, then their mean.": _dice_loss(dims=(0, 1, 2, 3)),
        "{name} counts hard labels (argmax), whose gradient is cut off: use the probabilities of "
        "the softmax.": _dice_loss(lambda z: _one_hot(z, z.argmax(1))),
        "{name} takes logits as probabilities: softmax over dim 1 first.": _dice_loss(lambda z: z),
        "{name} takes the softmax over rows, dim 2, where it should run over the classes: the "
        "classes are dim 1.": _dice_loss(lambda z: z.softmax(2)),
        "{name} takes the softmax over columns, dim 3, where it should run over the classes: the "
        "classes are dim 1.": _dice_loss(lambda z: z.softmax(3)),
        "{name} takes the sigmoid of each class by itself: use the softmax (over the classes), not "
        "sigmoid.": _dice_loss(lambda z: z.sigmoid()),
        "{name} is taken image by image: sum over (0, 2, 3).": _dice_loss(dims=(2, 3)),
        "{name} leaves out a class that is absent.": _dice_loss(all_classes=False),
        "{name} with smooth=0.5 is as with smooth=1: use the argument, above and below, and not "
        "its default.": lambda z, t, smooth=1.0: _dice_loss()(z, t),
    },
    causes={
        "must match the size": "p and t have other shapes: t is F.one_hot(target, logits.shape[1]) "
        "with its classes brought to dim 1 by .permute(0, 3, 1, 2)"
    },
    same=lambda got, wanted: is_same(got, wanted, 1e-5),
    hint="logits are float32 (B, C, H, W), target is int64 (B, H, W).",
)


def _focal(weight=lambda p, gamma: (1 - p) ** gamma, dim=1, times=lambda t: 1) -> Callable:
    """Return the focal loss with its weight replaced, or with the softmax over another dim."""

    def loss(z, t, gamma):
        labelled = t != VOID
        log_p = z.log_softmax(dim).movedim(1, -1)[labelled].gather(1, t[labelled][:, None])
        return -(weight(log_p.exp(), gamma) * log_p).mean() * times(t)

    return loss


def _focal_of_mean(z, t, gamma):
    mean = _focal(lambda p, _: 1)(z, t, gamma)
    return (1 - (-mean).exp()) ** gamma * mean


def _half_void(seed: int | np.random.Generator) -> tuple:
    logits, target = _random_logits(seed, 4, 4)
    return logits, np.where(np.arange(4)[:, None] < 2, VOID, target)


_TWO_PIXELS = (np.array([[[[np.log(4), 0]], [[0, 0]]]], np.float32), np.array([[[0, 0]]]))
_EXTREME = (np.array([[[[200]], [[-200]]]], np.float32), np.array([[[1]]]))

focal_loss = Exercise(
    "focal_loss",
    form="the mean over the labelled pixels of -(1 - p)^gamma log p",
    learnt="easy pixels weigh less, gamma = 0 is the cross-entropy, void is left out",
    right=_focal(),
    cases=[
        _loss(*_TWO_PIXELS, 2.0, says="Here are two pixels with p = 0.8 and 0.5, gamma = 2."),
        _gradient(*_TWO_PIXELS, 2.0),
        _loss(*_TWO_PIXELS, 3.0, says="Here gamma = 3: use the argument."),
        _loss(*_random_logits(3, 3, 3), 0.0, says="With gamma = 0 it is the cross-entropy."),
        _loss(*_half_void(4), 2.0, says=f"Half the pixels are void ({VOID}): leave them out."),
        _loss(*_EXTREME, 2.0, says="Of logits 400 apart log(softmax) underflows: see log_softmax."),
    ],
    drawn=lambda rng: [
        _loss(*_half_void(rng), 3.0),
        _gradient(*_half_void(rng), 3.0),
        _loss(*_EXTREME, 2.0),
    ],
    mistakes={
        "{name} takes the softmax over another dim: the classes are dim 1.": _focal(dim=2),
        "{name} takes the softmax over columns: the classes are dim 1.": _focal(dim=3),
        "{name} has the wrong sign: log p is negative.": _focal(lambda p, g: -((1 - p) ** g)),
        "{name} weights by p^gamma: that keeps the easy pixels. Not p counts but how far it is "
        "from 1, (1 - p)^gamma.": _focal(lambda p, gamma: p**gamma),
        "{name} is the cross-entropy: multiply by (1 - p)^gamma.": _focal(lambda p, gamma: 1),
        "{name} is a sum, which grows with the image: take the mean over the labelled pixels in "
        "its place.": _focal(times=lambda t: (t != VOID).sum()),
        "{name} multiplies by gamma: raise to the power gamma.": _focal(lambda p, g: g * (1 - p)),
        "{name} weights the mean: weight each pixel by its own (1 - p)^gamma.": _focal_of_mean,
        "{name} with gamma = 3 is as with 2: use it.": _focal(lambda p, gamma: (1 - p) ** 2),
        "{name} divides by all pixels, void too: take the mean over labelled pixels only, those "
        "that the sum is of.": _focal(times=lambda t: (t != VOID).float().mean()),
    },
    causes={"out of bounds": f"{VOID} is no class: leave void pixels out (ignore_index)"},
    same=lambda got, wanted: is_same(got, wanted, 1e-5),
    hint=f"logits are float32 (B, C, H, W), target is int64 (B, H, W) with void {VOID}.",
)
