"""Checks of lesson 02: how to measure a segmentation.

Each check asks the student's function for cases that can be worked out by hand. An answer that
is wrong in a known way is recognised by its value, and the message names that way.
"""

import copy
from collections.abc import Callable, Iterable

import numpy as np
from scipy.spatial.distance import cdist

from course_utils import metrics
from course_utils.checks import CheckFailed, explain, passed, require
from course_utils.data.segmentation_set import VOID


def _ask(name: str, function: Callable, *args, hint: str = "", **kwargs):
    """Call an answer; its own exception becomes one line that names the call and a likely cause."""
    before = copy.deepcopy([_values(argument) for argument in args])
    with np.errstate(all="ignore"), explain(f"{name} stops", hint=hint):
        result = function(*args, **kwargs)
    require(result is not None, f"{name} returned nothing: end it with `return`.")
    for was, argument in zip(before, args, strict=True):
        require(
            np.array_equal(was, _values(argument)),
            f"{name} changes what it is given, and the notebook goes on with it: work on a copy.",
        )
    return result


def _values(argument):
    """Return an argument's values: a tensor's as an array."""
    return argument.detach().numpy() if hasattr(argument, "detach") else argument


def _array(name: str, value, form: str) -> np.ndarray:
    """Return an answer as an array; one that is no array of numbers is refused in words."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # such as rows of different lengths
        array = np.empty(0, object)
    require(
        array.dtype.kind in "biuf",
        f"{name} returned a {type(value).__name__} that is no array of numbers: return {form}.",
    )
    return array


def _ask_array(name: str, function: Callable, *args, form: str, hint: str = "") -> np.ndarray:
    return _array(name, _ask(name, function, *args, hint=hint), form)


def _ask_number(name: str, function: Callable, *args, hint: str = "") -> float:
    array = _array(name, _ask(name, function, *args, hint=hint), "one number")
    require(array.size == 1, f"{name} returned shape {array.shape}: return one number.")
    return float(array.reshape(()))


def _same(got, expected, atol: float = 1e-6) -> bool:
    try:
        got = np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        return False
    expected = np.asarray(expected, dtype=float)
    return got.shape == expected.shape and np.allclose(got, expected, atol=atol, equal_nan=True)


def _expect(got, expected, suspects: Iterable[tuple[object, str]], otherwise: str, atol=1e-6):
    """Refuse ``got`` unless it is ``expected``; suspects are (a known mistake's value, message)."""
    if _same(got, expected, atol):
        return
    for value, message in suspects:
        require(not _same(got, value, atol), message)
    raise CheckFailed(otherwise)


def _text(value) -> str:
    """Write numbers on one short line."""
    text = np.array2string(np.asarray(value), precision=3, separator=", ")
    return " ".join(text.split())


# --- 1: the confusion matrix ---------------------------------------------------------------------


def confusion_matrix(answer: Callable) -> None:
    """Check ``confusion_matrix(truth, prediction, num_classes)``."""
    name = "confusion_matrix"
    truth = np.array([[0, 0, 1], [2, 1, 0]], np.uint8)
    prediction = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
    by_hand = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    form = "counts (num_classes, num_classes)"
    got = _ask_array(name, answer, truth.copy(), prediction.copy(), 3, form=form)
    require(
        got.shape == (3, 3),
        f"{name} has shape {got.shape} for 3 classes, expected (3, 3): one row for each class of "
        "the truth, one column for each class of the prediction (np.bincount gives one long row: "
        "reshape it).",
    )
    shares = by_hand / by_hand.sum(1, keepdims=True)
    _expect(
        got,
        by_hand,
        [
            (by_hand.T, f"{name} has rows and columns swapped: row = truth, column = prediction."),
            (shares, f"{name} holds shares of each row: count pixels, and divide later."),
            (by_hand / by_hand.sum(), f"{name} holds shares: count pixels, and divide later."),
            (by_hand > 0, f"{name} only marks which pairs occur: count how often each does."),
        ],
        f"{name} of truth {truth.ravel()} and prediction {prediction.ravel()} is {_text(got)}, "
        f"by hand it is {_text(by_hand)}.",
    )
    require(
        got.dtype.kind in "iu", f"{name} holds {got.dtype}: pixel counts are whole numbers (int64)."
    )

    void_truth = np.array([0, VOID, 1, VOID], np.uint8)
    void_prediction = np.array([0, 1, 1, 0], np.uint8)
    hint = f"Here 2 of 4 pixels are void ({VOID}): leave them out before you count."
    got = _ask_array(name, answer, void_truth.copy(), void_prediction, 2, form=form, hint=hint)
    _expect(
        got,
        [[1, 0], [0, 1]],
        [
            ([[2, 1], [0, 1]], f"{name} counts void pixels as class 0. " + hint),
            ([[1, 0], [1, 2]], f"{name} counts void pixels as the last class. " + hint),
        ],
        f"{name} counts {int(np.sum(got))} pixels where 2 are labelled. " + hint,
    )
    absent = np.zeros((2, 2), np.uint8)
    hint = "Here classes 1 to 3 do not occur: np.bincount needs minlength=num_classes**2."
    got = _ask_array(name, answer, absent, absent, 4, form=form, hint=hint)
    require(got.shape == (4, 4), f"{name} has shape {got.shape} for 4 classes. " + hint)
    # 19 * 20 + 19 = 399 does not fit into the masks' uint8
    high = np.full((2, 3), 19, np.uint8)
    hint = "uint8 stops at 255 and 19 * 20 does not fit: use truth.astype(np.int64)."
    got = _ask_array(name, answer, high, high, 20, form=form, hint=hint)
    require(
        got.shape == (20, 20) and got[19, 19] == 6,
        f"{name} puts 6 pixels of class 19 of 20 into another entry. " + hint,
    )
    batch = np.stack([truth, truth])
    hint = "Masks may be (N, H, W)."
    got = _ask_array(name, answer, batch, np.stack([prediction] * 2), 3, form=form, hint=hint)
    require(_same(got, 2 * by_hand), f"{name} of a batch (N, H, W) must count all its images.")
    passed(name, "rows are truth, columns prediction, void is left out, absent classes keep a row")


# --- 2, 3: IoU and Dice --------------------------------------------------------------------------

_COUNTS = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 1]])
# class 2 is predicted but never true, class 3 is neither
_ABSENT = np.array([[4, 0, 2, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def _per_class(name: str, answer: Callable, formula: str, good, absent_good, suspects) -> None:
    hint = "It takes a (C, C) confusion matrix; its diagonal is np.diag(confusion)."
    got = _ask_array(name, answer, _COUNTS.copy(), form="one value a class", hint=hint)
    require(
        np.shape(got) == (3,),
        f"{name} has shape {np.shape(got)} for 3 classes: return one value a class, shape (3,); "
        "averaging comes later.",
    )
    _expect(
        got,
        good,
        suspects,
        f"{name} of {_text(_COUNTS)} is {_text(got)}, expected {_text(good)} = {formula}.",
    )
    got = _ask_array(name, answer, _ABSENT.copy(), form="one value a class", hint=hint)
    require(np.shape(got) == (4,), f"{name} drops absent classes: keep all 4, NaN where absent.")
    tail = "Class 3 is neither in truth nor in prediction: 0 / 0, so NaN."
    require(got[3] != 0, f"{name} gives 0 to a class that is absent from both. {tail}")
    require(got[3] != 1, f"{name} gives 1 to a class that is absent from both. {tail}")
    require(np.isnan(got[3]), f"{name} gives {got[3]:.3g} to an absent class. {tail}")
    require(
        not np.isnan(got[2]),
        f"{name} gives NaN to class 2, which is predicted where it is not: that is wholly wrong, "
        "0. Only a class absent from truth and prediction is NaN.",
    )
    require(
        _same(got, absent_good),
        f"{name} of {_text(_ABSENT)} is {_text(got)}, expected {_text(absent_good)} = {formula}.",
    )


def iou_per_class(answer: Callable) -> None:
    """Check ``iou_per_class(confusion)``."""
    name = "iou_per_class"
    hit, truth, prediction = np.diag(_COUNTS), _COUNTS.sum(1), _COUNTS.sum(0)
    _per_class(
        name,
        answer,
        "intersection / union",
        [2 / 3, 1 / 3, 1 / 2],
        [4 / 7, 3 / 4, 0, np.nan],
        [
            (
                hit / (truth + prediction),
                f"{name} counts the intersection twice in the union: truth + prediction contains "
                "it two times, so take it away once.",
            ),
            (
                2 * hit / (truth + prediction),
                f"{name} is Dice, 2 |A and B| / (|A| + |B|): IoU divides by the union.",
            ),
            (hit / truth, f"{name} is the recall: pixels wrongly given to the class must count."),
            (hit / prediction, f"{name} is the precision: the class's missed pixels must count."),
            (hit / _COUNTS.sum(), f"{name} divides by all pixels: divide by the class's union."),
        ],
    )
    passed(name, "intersection over union, 0 for wholly wrong, NaN for absent from both")


def dice_per_class(answer: Callable) -> None:
    """Check ``dice_per_class(confusion)``."""
    name = "dice_per_class"
    hit, truth, prediction = np.diag(_COUNTS), _COUNTS.sum(1), _COUNTS.sum(0)
    iou = hit / (truth + prediction - hit)
    _per_class(
        name,
        answer,
        "2 |A and B| / (|A| + |B|)",
        [4 / 5, 2 / 4, 2 / 3],
        [8 / 11, 6 / 7, 0, np.nan],
        [
            (hit / (truth + prediction), f"{name} lacks the factor 2: a perfect class gets 0.5."),
            (iou, f"{name} is the IoU: Dice divides twice the intersection by |A| + |B|."),
            (
                2 * iou,
                f"{name} divides by the union, so a perfect class gets 2: divide by the sum of "
                "both sizes, |A| + |B|.",
            ),
            (iou / (2 - iou), f"{name} has 2J / (1 + J) upside down: this is J from Dice."),
            (2 * iou / (2 + iou), f"{name} is 2J / (2 + J): the formula is 2J / (1 + J)."),
            (hit / truth, f"{name} is the recall: pixels wrongly given to the class must count."),
            (hit / prediction, f"{name} is the precision: the class's missed pixels must count."),
        ],
    )
    passed(name, "Dice, equal to 2J / (1 + J) class by class")


# --- 4: two models that swap ---------------------------------------------------------------------

_SWAP_MARGIN = 0.02


def swapping_models(answer: Callable) -> None:
    """Check ``swapping_models()``: mean IoU prefers A, mean Dice prefers B."""
    name = "swapping_models"
    pair = _ask(name, answer)
    require(
        isinstance(pair, tuple | list) and len(pair) == 2,
        f"{name} must return two arrays, the IoUs of A and of B: `return model_a, model_b`.",
    )
    a, b = (_array(name, iou, "two arrays of IoUs").astype(float) for iou in pair)
    require(
        a.ndim == 1 and a.shape == b.shape,
        f"{name} gives IoUs of shapes {a.shape} and {b.shape}: both models see the same images, "
        "so both are (N,) with the same N.",
    )
    require(
        a.size > 1,
        f"{name} uses one image: there Dice = 2J / (1 + J) never changes the order. Take two.",
    )
    both = np.concatenate([a, b])
    outside = both[~((both >= 0) & (both <= 1))]
    require(
        outside.size == 0,
        f"{name} contains {outside[:1].sum()}: an IoU lies in 0..1 (not percent), and none may be "
        "NaN.",
    )
    iou_lead = a.mean() - b.mean()
    dice_lead = (2 * a / (1 + a)).mean() - (2 * b / (1 + b)).mean()
    told = f"A leads by {iou_lead:+.3f} in mean IoU and by {dice_lead:+.3f} in mean Dice"
    require(
        not (iou_lead < 0 < dice_lead),
        f"{name} swaps, but the other way: {told}. Return the two in the other order.",
    )
    require(
        iou_lead >= _SWAP_MARGIN,
        f"{name}: {told}; mean IoU must prefer A by {_SWAP_MARGIN} or more. Raise A's best image.",
    )
    require(
        dice_lead <= -_SWAP_MARGIN,
        f"{name} does not swap clearly: {told}. 2J / (1 + J) gains least near 1 and near 0, so "
        "let A be uneven (one image near 1, one near 0) and B even.",
    )
    passed(name, f"{told}")


# --- 5, 6: ways to average -----------------------------------------------------------------------

_FIRST = "If it calls an earlier function of yours whose check fails, mend that one first."
_IMAGES = np.array(
    [
        [[4, 1, 0], [1, 2, 0], [0, 0, 0]],
        [[6, 0, 2], [0, 0, 0], [0, 0, 0]],
        [[3, 0, 0], [0, 2, 1], [1, 0, 3]],
    ]
)
# the same three images, class by class: NaN = absent from truth and prediction
_IMAGE_IOU = np.array([[4 / 6, 2 / 4, np.nan], [6 / 8, np.nan, 0], [3 / 4, 2 / 3, 3 / 5]])


def mean_iou_per_image(answer: Callable) -> None:
    """Check ``mean_iou_per_image(confusions, absent)``."""
    name = "mean_iou_per_image"
    filled = {
        "skip": _IMAGE_IOU,
        "one": np.nan_to_num(_IMAGE_IOU, nan=1.0),
        "zero": np.nan_to_num(_IMAGE_IOU, nan=0.0),
    }
    good = {rule: np.nanmean(values, axis=1).mean() for rule, values in filled.items()}
    total = _IMAGES.sum(0)
    hits = np.diag(total)
    data_set = (hits / (total.sum(0) + total.sum(1) - hits)).mean()
    in_truth = np.where(_IMAGES.sum(2) > 0, _IMAGE_IOU, np.nan)
    for rule in filled:
        hint = (
            f"It was called with 3 images of 3 classes and absent={rule!r}. iou_per_class takes "
            "one matrix: call it for each image."
        )
        got = _ask_number(name, answer, _IMAGES.copy(), rule, hint=hint)
        _expect(
            got,
            good[rule],
            [
                (
                    data_set,
                    f"{name} adds up the images first: that is the data set's mean IoU. Take each "
                    "image's own mean, then the mean of those.",
                ),
                (
                    np.nan,
                    f"{name} is NaN for absent={rule!r}: a class absent from an image is still in "
                    "the mean (np.nanmean leaves NaN out).",
                ),
                (
                    np.nanmean(_IMAGE_IOU),
                    f"{name} averages all images' classes in one pot: an image with more classes "
                    "then weighs more. Average the classes of each image first.",
                ),
                (
                    np.nanmean(_IMAGE_IOU, axis=0).mean(),
                    f"{name} averages over images first, then over classes (axis 0): take the mean "
                    "over the classes of each image first (axis 1).",
                ),
                (
                    np.nanmean(in_truth, axis=1).mean(),
                    f"{name} skips a class that is absent from the truth alone. Where it is "
                    "predicted it is wholly wrong, 0; absent means absent from both.",
                ),
                *(
                    (value, f"{name} with absent={rule!r} gives what absent={other!r} should.")
                    for other, value in good.items()
                    if other != rule
                ),
            ],
            f"{name} with absent={rule!r} is {got:.4f}, expected "
            f"{good[rule]:.4f}; each image by itself: {_text(np.nanmean(filled[rule], axis=1))}. "
            f"{_FIRST}",
        )
    got = _ask_number(name, answer, _IMAGES[:2].copy(), "zero")
    require(
        _same(got, filled["zero"][:2].mean()),
        f"{name} of 2 images of 3 classes is {got:.4f}, expected {filled['zero'][:2].mean():.4f}: "
        "divide by the number of images, which is another number than that of classes.",
    )
    passed(name, "each image by itself, with three rules for absent classes")


def pixel_averages(answer: Callable) -> None:
    """Check ``pixel_averages(confusion) -> (micro, frequency_weighted)``."""
    name = "pixel_averages"
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    iou, share = np.array([6 / 9, 3 / 6]), np.array([8 / 12, 4 / 12])
    micro, weighted = 9 / 15, float((iou * share).sum())
    form = "two numbers, `return micro, frequency_weighted`"
    got = _ask_array(name, answer, counts.copy(), form=form)
    require(
        got.shape == (2,),
        f"{name} has shape {got.shape}: return {form}.",
    )
    require(
        not _same(got, [weighted, micro]), f"{name} returns its two numbers in the wrong order."
    )
    _expect(
        got[0],
        micro,
        [
            (9 / 12, f"{name}: micro is the pixel accuracy; divide by the sum of the unions."),
            (9 / 24, f"{name}: micro counts the intersections twice in the unions."),
            (iou.mean(), f"{name}: micro is the mean IoU; add up first, divide once."),
            (np.nan, f"{name}: micro is NaN; add up counts, which are never NaN, divide once."),
        ],
        f"{name}: micro of {_text(counts)} is {_text(got[0])}, expected {micro:.4f} = "
        "all intersections / all unions.",
    )
    by_prediction = float((iou * np.array([7 / 12, 5 / 12])).sum())
    _expect(
        got[1],
        weighted,
        [
            (
                np.nan,
                f"{name}: frequency_weighted is NaN; an absent class has weight 0, but 0 * NaN is "
                "NaN: use np.nansum.",
            ),
            (
                by_prediction,
                f"{name}: frequency_weighted weights by the predicted counts (columns); weight by "
                "the class's share of the truth (rows).",
            ),
            (iou.mean(), f"{name}: frequency_weighted is unweighted: weight by share of truth."),
            (weighted * 12, f"{name}: frequency_weighted uses counts as weights: divide by all."),
            (weighted / 3, f"{name}: frequency_weighted divides by C: the weights sum to 1."),
            (
                weighted / 2,
                f"{name}: frequency_weighted is averaged: the weights sum to 1 already.",
            ),
        ],
        f"{name}: frequency_weighted of {_text(counts)} is {_text(got[1])}, expected "
        f"{weighted:.4f} = sum of share of truth x IoU. {_FIRST}",
    )
    passed(name, "micro and frequency-weighted IoU")


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
_ORDER = (4, 2, 6, 0, 7, 3, 5, 1)  # which definition gets the letter A, B, ...
_HOW = {
    "data set": "add up the images' matrices with .sum(axis=0), then iou_per_class, then nanmean",
    "per image, skip": "mean_iou_per_image(confusions, 'skip')",
    "per image, one": "mean_iou_per_image(confusions, 'one'): the largest of the three rules",
    "per image, zero": "mean_iou_per_image(confusions, 'zero'): the smallest of the three rules",
    "micro": "it is acc / (2 - acc), so compute the pixel accuracy first",
    "frequency weighted": "large classes are the easy ones, so it lies far above the plain mean",
    "void as a class": "give void the number C: every void pixel is then an error",
    "mean Dice": "no class's Dice is below its IoU, so it lies above the data set's mean IoU",
}


def lettered_numbers(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict:
    """Return the eight numbers of :data:`DEFINITIONS` for one prediction, under letters.

    Parameters
    ----------
    truth, prediction
        uint8 (N, H, W), classes 0..num_classes-1; void in ``truth`` is 255.
    num_classes
        The number of classes without void.

    Returns
    -------
    dict[str, float]
        ``{"A": number, ...}``, in the same shuffled order every time.
    """
    values = list(_numbers(truth, prediction, num_classes).values())
    return {letter: values[i] for letter, i in zip("ABCDEFGH", _ORDER, strict=True)}


def _numbers(truth, prediction, num_classes) -> dict[str, float]:
    images = metrics.per_image_matrices(prediction, truth, num_classes)
    with_void = metrics.ConfusionMatrix(num_classes + 1, ignore_index=None)
    with_void.update(prediction, np.where(truth == VOID, num_classes, truth))
    whole, image_iou = images.sum(0), metrics.iou(images)
    accuracy = metrics.pixel_accuracy(whole)
    values = (
        metrics.mean_iou(whole),
        metrics.mean_iou(images).mean(),
        np.nan_to_num(image_iou, nan=1.0).mean(),
        np.nan_to_num(image_iou, nan=0.0).mean(),
        accuracy / (2 - accuracy),
        metrics.frequency_weighted_iou(whole),
        with_void.mean_iou(),
        metrics.mean_dice(whole),
    )
    return {name: float(value) for name, value in zip(DEFINITIONS, values, strict=True)}


def match_definitions(answer: Callable, numbers: dict[str, float]) -> None:
    """Check ``match_definitions()``: the definition of each lettered number."""
    name = "match_definitions"
    given = _ask(name, answer)
    require(isinstance(given, dict), f"{name} must return a dict such as {{'A': 'micro', ...}}.")
    if set(given) == set(DEFINITIONS):
        raise CheckFailed(f"{name} is the wrong way round: letters are keys, definitions values.")
    missing = sorted(set(numbers) - set(given))
    require(not missing, f"{name} says nothing about {', '.join(missing)}.")
    for letter in numbers:
        require(
            given[letter] in list(DEFINITIONS),
            f"{name}: {given[letter]!r} is no definition. They are: {', '.join(DEFINITIONS)}.",
        )
    used = [given[letter] for letter in numbers]
    twice = sorted({one for one in used if used.count(one) > 1})
    require(
        not twice,
        f"{name} uses {', '.join(map(repr, twice))} twice; each fits one letter. {_FIRST}",
    )
    names = list(DEFINITIONS)
    for letter, i in zip("ABCDEFGH", _ORDER, strict=True):
        said = given[letter]
        require(
            said == names[i],
            f"{name}: {letter} = {numbers[letter]:.4f} is not {said!r} ({_HOW[said]}).",
        )
    passed(name, "eight numbers, one prediction, and you know which is which")


# --- 8 to 10: boundaries -------------------------------------------------------------------------


def _square(size: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def inner_boundary(answer: Callable) -> None:
    """Check ``inner_boundary(mask, width)``."""
    name = "inner_boundary"
    mask = _square(17, 3, 14)
    hint = "mask is bool (H, W), width a whole number of pixels."
    form = "a bool mask (H, W)"
    for width in (2, 1):
        core, grown = _square(17, 3 + width, 14 - width), _square(17, 3 - width, 14 + width)
        got = _ask_array(name, answer, mask.copy(), width, form=form, hint=hint)
        require(got.shape == mask.shape, f"{name} has shape {got.shape}, expected {mask.shape}.")
        _expect(
            got,
            mask & ~core,
            [
                (core, f"{name} is the core that erosion leaves: the boundary is what it takes."),
                (grown & ~mask, f"{name} lies outside of the object: erode, do not dilate."),
                (
                    grown & ~core,
                    f"{name} is {2 * width} pixels wide, half of it outside of the object: only "
                    "pixels of the object belong to its inner boundary.",
                ),
                (mask, f"{name} is the whole object."),
                (
                    mask & ~_square(17, 4, 13),
                    f"{name} is 1 pixel wide for width={width}: erode `width` times.",
                ),
                (
                    mask & ~_square(17, 4 + width, 13 - width),
                    f"{name} is {width + 1} pixels wide for width={width}: one erosion too many.",
                ),
                (
                    mask & ~_square(17, 3 + 2 * width, 14 - 2 * width),
                    f"{name} is {2 * width} pixels wide for width={width}: a square of side "
                    "2 * width + 1 takes `width` pixels in one go, so do not repeat it.",
                ),
            ],
            f"{name} of an 11 x 11 square at width={width} has {int(got.sum())} pixels, by hand it "
            f"has {int((mask & ~core).sum())}.",
        )
    require(
        got.dtype == bool, f"{name} returns {got.dtype}: return a bool mask, to use with & and ~."
    )
    corner = _square(9, 1, 8)
    corner[:4, :4] = False  # an L: at its inner corner a square reaches further than a cross
    got = _ask_array(name, answer, corner.copy(), 1, form=form, hint=hint)
    require(
        bool(got[4, 4]),
        f"{name} forgets the pixel that touches the outside by a corner: erode with a 3 x 3 square "
        "(np.ones((3, 3))), not with the default cross.",
    )
    wide = np.zeros((12, 20), bool)
    wide[2:10, 3:18] = True
    core = np.zeros_like(wide)
    core[4:8, 5:16] = True
    got = _ask_array(name, answer, wide.copy(), 2, form=form, hint=hint)
    require(
        _same(got, wide & ~core),
        f"{name} is right on square pictures, but not on one of 12 x 20 pixels: are rows and "
        "columns mixed up?",
    )
    got = _ask_array(name, answer, np.ones((5, 5), bool), 1, form=form, hint=hint)
    require(
        _same(got, np.ones((5, 5), bool) & ~_square(5, 1, 4)),
        f"{name} treats the outside of the picture as object: count it as background "
        "(border_value=0), so an object cut off by the frame has a boundary there.",
    )
    passed(name, "inside the object, of the right width, corners and frame included")


def boundary_f1(answer: Callable) -> None:
    """Check ``boundary_f1(truth, prediction, tolerance)``."""
    name = "boundary_f1"
    hint = "Both masks are bool (H, W), neither is empty here."
    got = _ask_number(name, answer, _square(20, 2, 6), _square(20, 13, 17), 1, hint=hint)
    _expect(
        got,
        0.0,
        [
            (np.nan, f"{name} is NaN where nothing matches: if P and R are both 0, F1 is 0."),
            (
                1.0,
                f"{name} finds every contour pixel matched, however far away: "
                "distance_transform_edt measures to the nearest ZERO, so hand it ~contour.",
            ),
        ],
        f"{name} of two squares 9 pixels apart is {got:.4f} at tolerance 1, expected 0: no contour "
        "pixel is matched.",
    )
    truth = _square(20, 5, 15)
    prediction = truth.copy()
    prediction[0:2, 0:2] = True  # a speck of 4 pixels, far from everything
    got = _ask_number(name, answer, truth, prediction, 1, hint=hint)
    precision, recall = 36 / 40, 1.0
    region = (truth & prediction).sum() * 2 / (truth.sum() + prediction.sum())
    f1 = 2 * precision * recall / (precision + recall)
    _expect(
        got,
        f1,
        [
            (precision, f"{name} is the precision: recall, the other way round, must count too."),
            (recall, f"{name} is the recall: a predicted contour far from any true one is free."),
            ((precision + recall) / 2, f"{name} is the arithmetic mean: F1 = 2PR / (P + R)."),
            (precision * recall / (precision + recall), f"{name} lacks the factor 2 of F1."),
            (region, f"{name} measures areas, not contours: take inner_boundary(mask, 1) first."),
        ],
        f"{name} of a 10 x 10 square against itself and a speck of 4 pixels is {got:.4f}, expected "
        f"{f1:.4f}: precision 36/40, recall 1. distance_transform_edt(x) gives each non-zero "
        "pixel's distance to the nearest zero of x: give it ~contour.",
    )
    moved = _square(20, 5, 15)
    moved = np.roll(moved, 2, axis=1)
    for tolerance in (2, 1):
        got = _ask_number(name, answer, truth, moved, tolerance, hint=hint)
        # at 2 px everything is matched; at 1 px a contour column finds only the parallel rows
        good = _contour_scores(truth, moved, tolerance)[2]
        if tolerance == 2:
            require(
                _same(got, good),
                f"{name} of a square shifted by 2 pixels is {got:.4f} at tolerance 2, expected 1: "
                "a distance equal to the tolerance still matches (<=, not <), and distances are "
                "between contours.",
            )
        else:
            require(
                _same(got, good),
                f"{name} of a square shifted by 2 pixels is {got:.4f} at tolerance 1, expected "
                f"{good:.4f}: is the tolerance used?",
            )
    diagonal_truth, diagonal = np.zeros((2, 9, 9), bool)
    diagonal_truth[2, 2] = diagonal[3, 3] = True
    got = _ask_number(name, answer, diagonal_truth, diagonal, 1, hint=hint)
    require(
        _same(got, 0),
        f"{name} matches two pixels that touch by a corner at tolerance 1: their Euclidean "
        "distance is 1.41. A dilation with a square measures another distance.",
    )
    empty = np.zeros_like(truth)
    for first, second in ((truth, empty), (empty, truth)):
        got = _ask_number(name, answer, first, second, 1, hint="Here one of the masks is empty.")
        require(got == 0, f"{name} is {got:g} where one mask is empty: nothing matches, so 0.")
    got = _ask_number(name, answer, empty, empty, 1, hint="Here both masks are empty.")
    require(
        np.isnan(got), f"{name} is {got:g} where both masks are empty: absent from both, so NaN."
    )
    truth, prediction = np.zeros((2, 20, 24), bool)
    truth[3:14, 3:14], truth[3:8, 3:8] = True, False
    prediction[5:16, 4:20], prediction[5:9, 4:10] = True, False
    for tolerance in (1.5, 2):
        precision, recall, good = _contour_scores(truth, prediction, tolerance)
        got = _ask_number(name, answer, truth, prediction, tolerance, hint=hint)
        require(
            _same(got, good),
            f"{name} of two L shapes at tolerance {tolerance} is {got:.4f}, expected {good:.4f}: "
            f"precision {precision:.3f} of the predicted contour, recall {recall:.3f} of the true "
            "one, F1 = 2PR / (P + R); contours are inner_boundary(mask, 1).",
        )
    passed(name, "precision and recall of contours within the tolerance")


def _contour(mask: np.ndarray) -> np.ndarray:
    """Return the pixels (N, 2) of an object, away from the frame, that touch the background."""
    inside = np.zeros_like(mask)
    inside[1:-1, 1:-1] = np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).all((2, 3))
    return np.argwhere(mask & ~inside)


def _contour_scores(truth: np.ndarray, prediction: np.ndarray, tolerance: float) -> tuple:
    """Return precision, recall and F1 of two contours, pair by pair."""
    near = cdist(_contour(truth), _contour(prediction)) <= tolerance
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return precision, recall, 2 * precision * recall / (precision + recall)


def hausdorff_distance(answer: Callable) -> None:
    """Check ``hausdorff_distance(truth, prediction)``."""
    name = "hausdorff_distance"
    truth = _square(20, 8, 16)
    speck = truth.copy()
    speck[4, 5] = True  # 4 rows and 3 columns from the square's corner: 5 pixels
    hint = "Both masks are bool (H, W), neither is empty here."
    for first, second, extra in ((truth, speck, "prediction"), (speck, truth, "truth")):
        got = _ask_number(name, answer, first, second, hint=hint)
        _expect(
            got,
            5.0,
            [
                (
                    0.0,
                    f"{name} looks one way only: every contour pixel of the one mask lies on the "
                    f"other's, but the {extra} has a speck 5 pixels off. Take the larger way.",
                ),
                (
                    1.0,
                    f"{name} is 1, though the {extra} has a speck 5 pixels off: "
                    "distance_transform_edt measures to the nearest ZERO, so hand it ~contour.",
                ),
                (2.5, f"{name} is the mean of both ways: take the larger."),
                (25.0, f"{name} is the squared distance: 5 pixels, not 25."),
                (4.0, f"{name} counts steps of a king (chessboard): use Euclidean distances."),
                (7.0, f"{name} counts steps along rows and columns: use Euclidean distances."),
                (5 / 29, f"{name} is a mean distance: one pixel far off is what it is about."),
            ],
            f"{name} of a square against itself and a speck 3 columns and 4 rows off is "
            f"{got:.4f}, expected 5.",
        )
    ring = _square(21, 3, 18)
    ring[8:13, 8:13] = False
    got = _ask_number(name, answer, _square(21, 3, 18), ring, hint=hint)
    # the hole's edge (row 7) lies 4 from the outer contour (row 3); with all pixels it is 3
    require(
        _same(got, 4),
        f"{name} of a filled square against one with a hole is {got:.4f}, expected 4: measure "
        "between contours (inner_boundary(mask, 1)), not between all pixels of the masks.",
    )
    empty = np.zeros_like(truth)
    for first, second in ((truth, empty), (empty, truth)):
        got = _ask_number(name, answer, first, second, hint="Here one of the masks is empty.")
        require(
            got == np.inf, f"{name} is {got:g} where one mask is empty: nothing is near, so inf."
        )
    got = _ask_number(name, answer, empty, empty, hint="Here both masks are empty.")
    require(
        np.isnan(got), f"{name} is {got:g} where both masks are empty: absent from both, so NaN."
    )
    truth, prediction = np.zeros((2, 24, 30), bool)
    truth[4:14, 4:14] = prediction[4:14, 5:17] = prediction[18, 3] = True
    far = cdist(_contour(truth), _contour(prediction))
    good = max(far.min(1).max(), far.min(0).max())
    for first, second in ((truth, prediction), (prediction, truth)):
        got = _ask_number(name, answer, first, second, hint=hint)
        require(
            _same(got, good),
            f"{name} is {got:.4f} where the one way gives {far.min(1).max():.3f} and the other "
            f"{far.min(0).max():.3f}: the larger of the two, {good:.3f}, not rounded.",
        )
    passed(name, "the worst contour pixel, either way round")


# --- 11: the bootstrap ---------------------------------------------------------------------------

# standard deviation and mean of the difference, from 200,000 draws (tests recompute them)
_PAIRED_SD, _PAIRED_MEAN = 0.0206, 0.1012


def _two_models(images: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return confusion matrices (N, 3, 3) of two models that find the same images hard.

    A is better than B on images with many labelled pixels, so the data set's difference is not
    the mean of the images' differences.
    """
    rng = np.random.default_rng(2)
    size = rng.lognormal(0, 1.0, (images, 1))
    pixels = (4000 * size * rng.dirichlet([4, 2, 1], images)).astype(int) + 10
    hard = rng.beta(1.5, 3, (images, 1)) * np.array([0.5, 0.8, 1.0])
    models = []
    for factor in (np.where(size > 1, 0.6, 1.1), 1.0):
        error = np.clip(hard * factor + rng.normal(0, 0.02, hard.shape), 0.01, 0.99)
        wrong = (pixels * error).astype(int)
        matrix = np.zeros((images, 3, 3), np.int64)
        for c in range(3):
            matrix[:, c, c] = pixels[:, c] - wrong[:, c]
            matrix[:, c, (c + 1) % 3] = wrong[:, c]
        models.append(matrix)
    return models[0], models[1]


def bootstrap_differences(answer: Callable) -> None:
    """Check ``bootstrap_differences(a, b, draws, seed)``."""
    name = "bootstrap_differences"
    a, b = _two_models()
    draws = 2000
    hint = f"It was called with two (24, 3, 3) arrays, draws={draws} and a seed."
    form = "one difference a draw"
    got = _ask_array(name, answer, a.copy(), b.copy(), draws, 0, form=form, hint=hint)
    require(
        got.shape == (draws,),
        f"{name} has shape {got.shape}, expected ({draws},): return every draw's difference; the "
        "interval is read off afterwards.",
    )
    again = _ask_array(name, answer, a.copy(), b.copy(), draws, 0, form=form, hint=hint)
    require(
        np.array_equal(got, again),
        f"{name} differs from call to call: draw from np.random.default_rng(seed).",
    )
    other = _ask_array(name, answer, a.copy(), b.copy(), draws, 1, form=form, hint=hint)
    require(np.isfinite(got).all(), f"{name} has NaN or inf among its differences.")
    width, centre = got.std() / _PAIRED_SD, got.mean()
    require(
        width > 1e-6,
        f"{name} gives the same difference in every draw: draw WITH replacement "
        "(rng.integers(0, N, N)), a permutation holds the same images again.",
    )
    require(
        not np.array_equal(got, other), f"{name} does not use its seed: two seeds, the same draws."
    )
    slack = 0.15 * _PAIRED_SD
    require(
        abs(centre + _PAIRED_MEAN) > slack, f"{name} is B minus A: return A minus B for each draw."
    )
    require(
        width > 0.5,
        f"{name} spreads by {got.std():.4f}, expected {_PAIRED_SD:.4f}: far too sure. Draw images, "
        "not pixels: pixels of one image are right or wrong together.",
    )
    per_image = (metrics.mean_iou(a) - metrics.mean_iou(b)).mean()
    require(
        abs(centre - per_image) > slack,
        f"{name} averages the images' own mean IoUs: add up the drawn images' matrices first, "
        "then take the mean IoU of the sum.",
    )
    require(
        width < 1.6,
        f"{name} spreads by {got.std():.4f}, expected {_PAIRED_SD:.4f}: draw the images once and "
        "use the same draw for A and B (both find the same images hard), as many as there are.",
    )
    for place, said in ((-1, "last"), (0, "first")):
        a, b, by_times = _one_image_apart(place)
        hint = f"It was called with two {a.shape} arrays; class 2 is in the {said} image alone."
        got = _ask_array(name, answer, a.copy(), b.copy(), 200, 0, form=form, hint=hint)
        require(
            np.isfinite(got).all(),
            f"{name} is NaN where the drawn images lack a class: np.nanmean leaves it out.",
        )
        require(
            not np.allclose(got, by_times[0]),
            f"{name} never draws the {said} image: rng.integers(0, N) already excludes N, and "
            "includes 0.",
        )
        odd = got[~np.isclose(got[:, None], by_times).any(axis=1)]
        require(
            odd.size == 0,
            f"{name} contains {odd[:1].sum():.4f}, which no draw of N of these images gives: "
            f"the mean leaves out a class that is absent (np.nanmean). {hint}",
        )
    require(
        0.85 < width < 1.15 and abs(centre - _PAIRED_MEAN) < slack,
        f"{name} has mean {centre:.4f} and spread {got.std():.4f}, expected {_PAIRED_MEAN:.4f} and "
        f"{_PAIRED_SD:.4f}: each draw takes N of the N images with replacement.",
    )
    passed(name, "images drawn with replacement, the same ones for both models")


def _one_image_apart(place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return matrices (6, 3, 3) of a perfect and a poor model; one image alone holds class 2.

    The third array, (7,), holds their difference in mean IoU when it is drawn 0, 1, ..., 6 times.
    """
    perfect = np.tile(np.diag([10, 10, 0]), (6, 1, 1))
    poor = np.tile([[5, 5, 0], [0, 10, 0], [0, 0, 0]], (6, 1, 1))
    perfect[place], poor[place] = np.diag([10, 10, 10]), [[10, 0, 0], [0, 10, 0], [8, 0, 2]]
    times = np.arange(7)[:, None, None]
    by_times = [
        metrics.mean_iou(times * model[place] + (6 - times) * model[1]) for model in (perfect, poor)
    ]
    return perfect, poor, by_times[0] - by_times[1]


# --- 12, 13: losses ------------------------------------------------------------------------------


def _require_gradient(name: str, loss, logits, wanted: list, cause: str) -> None:
    """Require the gradient of the loss by the logits of class 0, (H, W)."""
    require(loss.requires_grad, f"{name} has no gradient: {cause}")
    with explain(f"the gradient of {name} cannot be computed"):
        loss.backward()
    require(logits.grad is not None, f"no gradient of {name} reaches the logits: {cause}")
    got = logits.grad[0, 0].numpy().reshape(1, -1)
    require(
        _same(got, wanted, 1e-4),
        f"the gradient of {name} by the logits of class 0 is {_text(got[0])}, by hand it is "
        f"{_text(wanted[0])}: a part of it is cut off. {cause}",
    )


def soft_dice_loss(answer: Callable) -> None:
    """Check ``soft_dice_loss(logits, target, smooth=1.0)``."""
    import torch

    name = "soft_dice_loss"
    hint = (
        "logits are float32 (B, C, H, W), target is int64 (B, H, W). The number of classes is "
        "logits.shape[1]."
    )

    def ask(logits, target, **kwargs):
        loss = _ask(name, answer, logits, target, hint=hint, **kwargs)
        require(
            isinstance(loss, torch.Tensor) and loss.ndim == 0,
            f"{name} must return a tensor of one number: take the mean over the classes.",
        )
        return loss

    target = torch.tensor([[[0, 0, 0], [0, 0, 1]]])
    logits = torch.zeros(1, 2, 2, 3, requires_grad=True)
    loss = ask(logits, target)
    got, good = float(loss.detach()), 1 - (6 / 9 + 2 / 5) / 2
    _expect(
        got,
        good,
        [
            (1 - good, f"{name} is Dice itself: a loss falls as Dice grows, 1 - Dice."),
            (good - 1, f"{name} is -Dice: 1 - Dice is 0 when all is right."),
            (
                1 - (5 / 8 + 1 / 4) / 2,
                f"{name} ignores `smooth`: a class absent from both is then 0 / 0.",
            ),
            (1 - (6 / 8 + 2 / 4) / 2, f"{name} adds `smooth` above only: Dice may then exceed 1."),
            (1 - (5 / 9 + 1 / 5) / 2, f"{name} adds `smooth` below only: all right is not 0."),
            (1 - (3.5 / 9 + 1.5 / 5) / 2, f"{name} lacks the factor 2 of Dice."),
            (
                1 - 7 / 13,
                f"{name} adds the classes up before dividing: one Dice a class, then their mean.",
            ),
            (1 - (11 / 12 + 1 / 2) / 2, f"{name} counts hard labels (argmax): use probabilities."),
            (
                1 - (1 / 6 + 1 / 2) / 2,
                f"{name} takes logits as probabilities: softmax over dim 1 first.",
            ),
        ],
        f"{name} of all-zero logits (p = 1/2) and target [[0, 0, 0], [0, 0, 1]] is {got:.4f}, "
        f"by hand it is {good:.4f} = 1 - (6/9 + 2/5) / 2.",
    )
    require(
        loss.requires_grad,
        f"{name} has no gradient: argmax, .detach() and .item() cut it off. Use probabilities.",
    )
    first = loss, logits
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 2, (2, 4, 5), generator=generator)  # class 2 is absent
    shifted = float(ask(logits + 3.0, target)) - float(ask(logits, target))
    require(
        abs(shifted) < 1e-5,
        f"{name} changes when 3 is added to every logit: softmax (over the classes), not sigmoid.",
    )
    values = {}
    for dim in (1, 2, 3):
        p = logits.softmax(dim)
        t = torch.stack([target == c for c in range(3)], 1).float()
        dims = (0, 2, 3)
        dice = (2 * (p * t).sum(dims) + 1) / (p.sum(dims) + t.sum(dims) + 1)
        values[dim] = float(1 - dice.mean())
        if dim == 1:
            image = (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
            values["image"] = float(1 - image.mean())
            present = float(1 - dice[:2].mean())
    expected = values[1]
    got = float(ask(logits, target))
    _expect(
        got,
        expected,
        [
            (values[2], f"{name} takes the softmax over rows: the classes are dim 1."),
            (values[3], f"{name} takes the softmax over columns: the classes are dim 1."),
            (
                values["image"],
                f"{name} is taken image by image: sum over the batch too, (0, 2, 3).",
            ),
            (present, f"{name} leaves out a class that is absent: `smooth` takes care of it."),
        ],
        f"{name} of random logits with an absent class is {got:.4f}, expected {expected:.4f}: "
        "softmax over dim 1, sums over (0, 2, 3), mean over the classes.",
        atol=1e-5,
    )
    sure = 40.0 * torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    require(
        abs(float(ask(sure, target))) < 1e-5,
        f"{name} of a sure and right prediction is not 0 (an absent class counts as right here).",
    )
    loss, logits = first
    # of class 0, p = 1/2 each: dp/dz = 1/4, and class 1 has the opposite slope
    zeros, ones = 1 / 9 * (2 - 6 / 9), 1 / 9 * (0 - 6 / 9)
    against = 1 / 5 * np.array([0, 0, 0, 0, 0, 2]) - 1 / 5 * 2 / 5
    by_hand = -(np.array([zeros] * 5 + [ones]) - against) / 4 / 2
    _require_gradient(
        name, loss, logits, [by_hand], ".detach(), .item() and torch.tensor cut it off."
    )
    target = torch.tensor([[[0, 0, 0], [0, 0, 1]]])
    halved, good = float(ask(torch.zeros(1, 2, 2, 3), target, smooth=0.5)), 5.5 / 8.5 + 1.5 / 4.5
    require(
        _same(halved, 1 - good / 2, 1e-5),
        f"{name} with smooth=0.5 is {halved:.4f}, by hand it is {1 - good / 2:.4f}: use the "
        "argument, above and below.",
    )
    passed(name, "differentiable, one Dice a class, finite for absent classes")


def focal_loss(answer: Callable) -> None:
    """Check ``focal_loss(logits, target, gamma)``."""
    import torch
    from torch.nn.functional import cross_entropy

    name = "focal_loss"
    hint = f"logits are float32 (B, C, H, W), target is int64 (B, H, W) with void {VOID}."

    def ask(logits, target, gamma):
        loss = _ask(name, answer, logits, target, gamma, hint=hint)
        require(
            isinstance(loss, torch.Tensor) and loss.ndim == 0,
            f"{name} must return a tensor of one number: the mean over the labelled pixels.",
        )
        return loss

    # two pixels of class 0 with probability 0.8 and 0.5
    logits = torch.tensor([[[[np.log(4.0), 0.0]], [[0.0, 0.0]]]], requires_grad=True)
    target = torch.tensor([[[0, 0]]])
    p = np.array([0.8, 0.5])
    good = float((-((1 - p) ** 2) * np.log(p)).mean())
    rows = np.array([0.8, 0.2])  # the same logits after a softmax along the row
    loss = ask(logits, target, 2.0)
    got = float(loss.detach())
    _expect(
        got,
        good,
        [
            (0.0, f"{name} takes the softmax over another dim: the classes are dim 1."),
            (
                (-((1 - rows) ** 2) * np.log(rows)).mean(),
                f"{name} takes the softmax over columns: the classes are dim 1.",
            ),
            (-good, f"{name} has the wrong sign: log p is negative, so the loss is -(...) log p."),
            (
                (-(p**2) * np.log(p)).mean(),
                f"{name} weights by p^gamma: that keeps the easy pixels. Weight by (1 - p)^gamma.",
            ),
            (-np.log(p).mean(), f"{name} is the cross-entropy: multiply by (1 - p)^gamma."),
            (2 * good, f"{name} is a sum: take the mean over the labelled pixels."),
            (
                (-2 * (1 - p) * np.log(p)).mean(),
                f"{name} multiplies by gamma: (1 - p) is raised to the power gamma.",
            ),
            (
                (1 - np.exp(np.log(p).mean())) ** 2 * -np.log(p).mean(),
                f"{name} weights the mean: weight each pixel by its own (1 - p)^gamma, then mean.",
            ),
        ],
        f"{name} of two pixels with p = 0.8 and 0.5 for their class is {got:.4f}, by hand "
        f"it is {good:.4f} = mean of -(1 - p)^2 log p.",
    )
    _require_gradient(
        name,
        loss,
        logits,
        [[-0.01114, -0.14914]],
        ".detach(), .item(), numpy and torch.tensor cut it off; the weight (1 - p)^gamma has one, "
        "too.",
    )
    cubed = float(ask(logits, target, 3.0).detach())
    require(
        _same(cubed, (-((1 - p) ** 3) * np.log(p)).mean(), 1e-5),
        f"{name} with gamma = 3 is {cubed:.4f}, by hand {(-((1 - p) ** 3) * np.log(p)).mean():.4f}"
        ": use the argument.",
    )
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    plain = float(cross_entropy(logits, target))
    got = float(ask(logits, target, 0.0))
    require(
        _same(got, plain, 1e-5),
        f"{name} with gamma = 0 is {got:.4f}, the cross-entropy is {plain:.4f}: they must be "
        "equal. Softmax runs over dim 1, and p is the probability of each pixel's own class.",
    )
    target[:, :2] = VOID
    labelled = float(ask(logits[:, :, 2:], target[:, 2:], 2.0))
    got = float(ask(logits, target, 2.0))
    _expect(
        got,
        labelled,
        [
            (
                labelled / 2,
                f"{name} divides by all pixels, void too: take the mean over labelled pixels only.",
            )
        ],
        f"{name} changes from {labelled:.4f} to {got:.4f} when void pixels ({VOID}) are added: "
        "leave them out (ignore_index).",
        atol=1e-5,
    )
    extreme = torch.tensor([[[[200.0]], [[-200.0]]]])
    got = float(ask(extreme, torch.tensor([[[1]]]), 2.0))
    require(
        np.isfinite(got) and got > 300,
        f"{name} is {got:g} for a logit 400 below: log(softmax) underflows; use log_softmax or "
        "cross_entropy(reduction='none').",
    )
    passed(name, "easy pixels weigh less, gamma = 0 is the cross-entropy, void is left out")
