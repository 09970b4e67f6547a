"""Answers to lesson 02's exercises: how students measure a segmentation wrongly."""

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist, directed_hausdorff
from torch.nn import functional as F

from course_utils.checks import lesson_02 as checks
from course_utils.data import VOID
from course_utils.grading.hidden_tests import lesson_02 as hidden
from tests.wrong_answers import Exercise, Wrong

# --- confusion_matrix


def _counts(truth, prediction, num_classes):
    labelled = truth != VOID
    rows = truth[labelled].astype(np.int64)
    pairs = rows * num_classes + prediction[labelled]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _counts_class_by_class(truth, prediction, num_classes):
    return np.array(
        [
            [np.sum((truth == t) & (prediction == p)) for p in range(num_classes)]
            for t in range(num_classes)
        ]
    )


def _counts_void_kept(truth, prediction, num_classes):
    pairs = truth.astype(int).ravel() * num_classes + prediction.ravel()
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _counts_void_as_class_0(truth, prediction, num_classes):
    return _counts(np.where(truth == VOID, 0, truth), prediction, num_classes)


def _counts_void_as_last_class(truth, prediction, num_classes):
    return _counts(np.minimum(truth, num_classes - 1), prediction, num_classes)


def _counts_without_minlength(truth, prediction, num_classes):
    labelled = truth != VOID
    pairs = truth[labelled].astype(np.int64) * num_classes + prediction[labelled]
    return np.bincount(pairs).reshape(num_classes, num_classes)


def _counts_in_uint8(truth, prediction, num_classes):
    labelled = truth != VOID
    pairs = truth[labelled] * num_classes + prediction[labelled]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _counts_seen_classes_only(truth, prediction, num_classes):
    labelled = truth != VOID
    classes = np.unique(np.concatenate([truth[labelled], prediction[labelled]]))
    return _counts_class_by_class(truth, prediction, num_classes)[np.ix_(classes, classes)]


def _counts_overwritten(truth, prediction, num_classes):
    matrix = np.zeros((num_classes, num_classes), int)
    labelled = truth != VOID
    matrix[truth[labelled], prediction[labelled]] += 1  # counts a repeated pair once
    return matrix


CONFUSION = Exercise(
    check=checks.confusion_matrix,
    hidden=hidden.confusion_matrix,
    right=[_counts, _counts_class_by_class],
    wrong=[
        Wrong(lambda t, p, c: _counts(t, p, c).T, "rows and columns swapped", "swapped"),
        Wrong(lambda t, p, c: None, "returned nothing", "no return"),
        Wrong(_counts_void_kept, "void", "void left in"),
        Wrong(_counts_void_as_class_0, "void pixels as class 0", "void becomes class 0"),
        Wrong(_counts_void_as_last_class, "void pixels as the last class", "void clipped"),
        Wrong(_counts_without_minlength, "minlength", "no minlength"),
        Wrong(_counts_seen_classes_only, "classes 1 to 3 do not occur", "seen classes only"),
        Wrong(_counts_in_uint8, "uint8", "uint8 overflow"),
        Wrong(_counts_overwritten, "count how often", "plus-equals with an index array"),
        Wrong(
            lambda t, p, c: _counts(t, p, c) / _counts(t, p, c).sum(1, keepdims=True),
            "shares of each row",
            "normalised rows",
        ),
        Wrong(lambda t, p, c: _counts(t, p, c).ravel(), "reshape", "not reshaped"),
        Wrong(lambda t, p, c: _counts(t, p, c).astype(float), "whole numbers", "floats"),
    ],
)

# --- iou_per_class, dice_per_class


def _parts(confusion):
    return np.diag(confusion).astype(float), confusion.sum(1), confusion.sum(0)


def _iou(confusion):
    hit, truth, prediction = _parts(confusion)
    with np.errstate(invalid="ignore"):
        return hit / (truth + prediction - hit)


def _iou_in_a_loop(confusion):
    values = []
    for c in range(len(confusion)):
        union = confusion[c].sum() + confusion[:, c].sum() - confusion[c, c]
        values.append(confusion[c, c] / union if union else np.nan)
    return np.array(values)


def _dice(confusion):
    hit, truth, prediction = _parts(confusion)
    with np.errstate(invalid="ignore"):
        return 2 * hit / (truth + prediction)


def _of_parts(formula):
    """Return a score that is a formula of (right, true, predicted) pixels of each class."""
    return lambda confusion: formula(*_parts(confusion))


def _nan_where_not_in_truth(score):
    return lambda m: np.where(m.sum(1) > 0, score(m), np.nan)


def _iou_that_empties(confusion):
    hit = np.diag(confusion).copy()
    np.fill_diagonal(confusion, 0)
    with np.errstate(invalid="ignore"):
        return hit / (hit + confusion.sum(0) + confusion.sum(1))


IOU = Exercise(
    check=checks.iou_per_class,
    hidden=hidden.iou_per_class,
    right=[_iou, _iou_in_a_loop],
    wrong=[
        Wrong(
            _of_parts(lambda hit, t, p: hit / (t + p)), "intersection twice", "union double-counted"
        ),
        Wrong(_of_parts(lambda hit, t, p: hit / t), "recall", "recall"),
        Wrong(_of_parts(lambda hit, t, p: hit / p), "precision", "precision"),
        Wrong(_dice, "is Dice", "Dice"),
        Wrong(lambda m: np.diag(m) / m.sum(), "all pixels", "divided by all"),
        Wrong(lambda m: np.nan_to_num(_iou(m)), "gives 0 to a class", "absent is 0"),
        Wrong(lambda m: np.nan_to_num(_iou(m), nan=1), "gives 1 to a class", "absent is 1"),
        Wrong(_nan_where_not_in_truth(_iou), "wholly wrong", "NaN for absent from truth"),
        Wrong(lambda m: np.nanmean(_iou(m)), "one value a class", "averaged"),
        Wrong(lambda m: _iou(m)[~np.isnan(_iou(m))], "drops absent classes", "dropped"),
        Wrong(lambda m: m.hits / 1, "stops: AttributeError", "own exception"),
        Wrong(_iou_that_empties, "changes what it is given", "diagonal set to zero"),
    ],
)

DICE = Exercise(
    check=checks.dice_per_class,
    hidden=hidden.dice_per_class,
    right=[_dice, lambda m: 2 * _iou(m) / (1 + _iou(m))],
    wrong=[
        Wrong(_of_parts(lambda hit, t, p: hit / (t + p)), "lacks the factor 2", "no factor 2"),
        Wrong(_iou, "is the IoU", "IoU"),
        Wrong(lambda m: 2 * _iou(m), "divides by the union", "twice IoU"),
        Wrong(lambda m: _iou(m) / (2 - _iou(m)), "upside down", "inverse formula"),
        Wrong(lambda m: 2 * _iou(m) / (2 + _iou(m)), r"2J / \(1 \+ J\)", "formula misremembered"),
        Wrong(lambda m: np.nan_to_num(_dice(m)), "gives 0 to a class", "absent is 0"),
        Wrong(_of_parts(lambda hit, t, p: hit / t), "recall", "recall"),
        Wrong(_nan_where_not_in_truth(_dice), "wholly wrong", "NaN for absent from truth"),
        Wrong(lambda m: np.nanmean(_dice(m)), "one value a class", "averaged"),
    ],
)

# --- swapping_models


def _pair(a, b):
    return lambda: (np.array(a, float), np.array(b, float))


SWAP = Exercise(
    check=checks.swapping_models,
    right=[_pair([0.95, 0.10], [0.5, 0.5]), lambda: ([1.0, 1.0, 0.0], [0.6, 0.6, 0.6])],
    wrong=[
        Wrong(_pair([0.5, 0.5], [0.95, 0.1]), "the other way", "order of the two"),
        Wrong(_pair([0.9, 0.8], [0.5, 0.5]), "does not swap", "A better in both"),
        Wrong(_pair([0.51, 0.45], [0.5, 0.5]), "mean IoU must prefer A", "B better in both"),
        Wrong(_pair([0.6], [0.5]), "one image", "one image"),
        Wrong(_pair([100, 10], [50, 50]), r"contains 100\.0: .*not percent", "percentages"),
        Wrong(_pair([0.9, np.nan], [0.5, 0.5]), "none may be NaN", "NaN"),
        Wrong(_pair([0.9, 0.1, 0.2], [0.5, 0.5]), "same images", "different lengths"),
        Wrong(lambda: np.array([0.9, 0.1, 0.5]), "two arrays", "one array"),
        Wrong(lambda: (["a"], ["b"]), "no array of numbers", "words"),
        Wrong(_pair([0.66, 0.40], [0.5, 0.5]), "does not swap clearly", "margin too small"),
    ],
)

# --- mean_iou_per_image, pixel_averages


def _images_iou(confusions):
    return np.array([_iou(m) for m in confusions])


def _per_image(confusions, absent):
    fill = {"skip": np.nan, "one": 1.0, "zero": 0.0}[absent]
    return np.nanmean(np.nan_to_num(_images_iou(confusions), nan=fill), axis=1).mean()


def _per_image_in_a_loop(confusions, absent):
    means = []
    for matrix in confusions:
        values = _iou(matrix)
        if absent == "skip":
            values = values[~np.isnan(values)]
        values[np.isnan(values)] = 1 if absent == "one" else 0
        means.append(values.mean())
    return sum(means) / len(means)


def _filled(confusions, absent):
    fill = {"skip": np.nan, "one": 1.0, "zero": 0.0}[absent]
    return np.nan_to_num(_images_iou(confusions), nan=fill)


def _absent_from_truth(confusions, absent):
    values = np.where(confusions.sum(2) > 0, _images_iou(confusions), np.nan)
    fill = {"skip": np.nan, "one": 1.0, "zero": 0.0}[absent]
    return np.nanmean(np.nan_to_num(values, nan=fill), axis=1).mean()


PER_IMAGE = Exercise(
    check=checks.mean_iou_per_image,
    hidden=hidden.mean_iou_per_image,
    right=[_per_image, _per_image_in_a_loop],
    wrong=[
        Wrong(lambda m, absent: np.nanmean(_iou(m.sum(0))), "adds up the images", "data set"),
        Wrong(lambda m, absent: _filled(m, absent).mean(1).mean(), "is NaN", "mean, not nanmean"),
        Wrong(lambda m, absent: np.nanmean(_filled(m, absent)), "one pot", "pooled"),
        Wrong(
            lambda m, absent: np.nanmean(_filled(m, absent), axis=0).mean(),
            "over images first",
            "axis 0",
        ),
        Wrong(_absent_from_truth, "absent from the truth alone", "absent from truth only"),
        Wrong(
            lambda m, absent: _per_image(m, absent) * len(m) / m.shape[1],
            "number of images",
            "divided by the number of classes",
        ),
        Wrong(lambda m, absent: _per_image(m, "zero"), "gives what absent='zero'", "always zero"),
        Wrong(lambda m, absent: _per_image(m, "skip"), "gives what absent='skip'", "always skip"),
        Wrong(lambda m, absent: np.nanmean(_filled(m, absent), axis=1), "one number", "no mean"),
        Wrong(
            lambda m, absent: np.nanmean(np.diag(m) / m.sum()),
            r"2-d\. It was .*call it for each image",
            "all matrices at once",
        ),
    ],
)


def _micro(m):
    hit, truth, prediction = _parts(m)
    return hit.sum() / (truth + prediction - hit).sum()


def _micro_from_accuracy(m):
    accuracy = np.trace(m) / m.sum()
    return accuracy / (2 - accuracy)


def _weighted(m):
    return np.nansum(_iou(m) * m.sum(1) / m.sum())


PIXEL_AVERAGES = Exercise(
    check=checks.pixel_averages,
    hidden=hidden.pixel_averages,
    right=[
        lambda m: (_micro(m), _weighted(m)),
        lambda m: np.array(
            [_micro_from_accuracy(m), (np.nan_to_num(_iou(m)) @ m.sum(1)) / m.sum()]
        ),
    ],
    wrong=[
        Wrong(lambda m: (np.trace(m) / m.sum(), _weighted(m)), "pixel accuracy", "accuracy"),
        Wrong(lambda m: (_weighted(m), _micro(m)), "wrong order", "order"),
        Wrong(lambda m: (np.nanmean(_iou(m)), _weighted(m)), "micro is the mean IoU", "macro"),
        Wrong(
            lambda m: (np.trace(m) / (2 * m.sum()), _weighted(m)),
            "intersections twice",
            "union double-counted",
        ),
        Wrong(lambda m: (_micro(m), np.sum(_iou(m) * m.sum(1) / m.sum())), "0 \\* NaN", "NaN"),
        Wrong(
            lambda m: (_micro(m), np.nansum(_iou(m) * m.sum(0) / m.sum())),
            "predicted counts",
            "weights from columns",
        ),
        Wrong(lambda m: (_micro(m), np.nanmean(_iou(m))), "unweighted", "unweighted"),
        Wrong(
            lambda m: (_micro(m), np.nansum(_iou(m) * m.sum(1))), "counts as weights", "not divided"
        ),
        Wrong(
            lambda m: (_micro(m), np.nanmean(_iou(m) * m.sum(1) / m.sum())),
            "sum to 1 already",
            "mean of weighted values",
        ),
        Wrong(lambda m: _micro(m), "return two numbers", "one number"),
        Wrong(
            lambda m: (_micro(m), _iou(m) * m.sum(1)), "no array of numbers", "values not summed up"
        ),
    ],
)

# --- match_definitions

_DEFINITIONS = list(checks.DEFINITIONS)
_RIGHT = {letter: _DEFINITIONS[i] for letter, i in zip("ABCDEFGH", checks._ORDER, strict=True)}
_LETTER = {definition: letter for letter, definition in _RIGHT.items()}


def _exchanged(one, other):
    """Return the right answer with two definitions exchanged."""
    answer = dict(_RIGHT)
    answer[_LETTER[one]], answer[_LETTER[other]] = other, one
    return lambda: answer


def _fixed_masks():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (3, 8, 8)).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.7, truth, 0).astype(np.uint8)
    truth[:, :, 0] = VOID
    return truth, prediction


_NUMBERS = checks.lettered_numbers(*_fixed_masks(), 4)

MATCH = Exercise(
    check=lambda answer: checks.match_definitions(answer, _NUMBERS),
    right=[lambda: dict(_RIGHT), lambda: dict(reversed(_RIGHT.items()))],
    wrong=[
        Wrong(_exchanged("data set", "per image, skip"), r"sum\(axis=0\)|'skip'", "data set"),
        Wrong(_exchanged("per image, one", "per image, zero"), "largest|smallest", "rules"),
        Wrong(_exchanged("micro", "frequency weighted"), r"acc / \(2 - acc\)|large", "pixels"),
        Wrong(_exchanged("void as a class", "per image, zero"), "void pixel|smallest", "void"),
        Wrong(_exchanged("mean Dice", "data set"), "Dice is below|sum", "Dice"),
        Wrong(lambda: dict.fromkeys(_RIGHT, "micro"), "twice", "one for all"),
        Wrong(lambda: {d: k for k, d in _RIGHT.items()}, "wrong way round", "turned round"),
        Wrong(lambda: {"A": "micro"}, "says nothing about", "incomplete"),
        Wrong(lambda: _RIGHT | {"A": "accuracy"}, "is no definition", "unknown definition"),
        Wrong(lambda: list(_RIGHT.values()), "must return a dict", "a list"),
        Wrong(lambda: {k: [v] for k, v in _RIGHT.items()}, "is no definition", "lists of names"),
    ],
)

# --- inner_boundary, boundary_f1, hausdorff_distance

_SQUARE = np.ones((3, 3), bool)


def _boundary(mask, width):
    return mask & ~ndimage.binary_erosion(mask, _SQUARE, iterations=width)


def _boundary_by_distance(mask, width):
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return mask & (distance <= width)


def _boundary_of_squares(mask, width):
    size = min(mask.shape)
    result = np.zeros_like(mask)
    result[:size, :size] = _boundary(mask[:size, :size], width)
    return result


BOUNDARY = Exercise(
    check=checks.inner_boundary,
    hidden=hidden.inner_boundary,
    right=[_boundary, _boundary_by_distance],
    wrong=[
        Wrong(
            lambda m, w: ndimage.binary_dilation(m, _SQUARE, iterations=w) & ~m,
            "outside of the object",
            "outer boundary",
        ),
        Wrong(
            lambda m, w: (
                ndimage.binary_dilation(m, _SQUARE, iterations=w)
                ^ ndimage.binary_erosion(m, _SQUARE, iterations=w)
            ),
            "half of it outside",
            "both sides",
        ),
        Wrong(
            lambda m, w: ndimage.binary_erosion(m, _SQUARE, iterations=w), "is the core", "eroded"
        ),
        Wrong(lambda m, w: _boundary(m, 1), "erode `width` times", "width ignored"),
        Wrong(lambda m, w: _boundary(m, w + 1), "too many", "one too wide"),
        Wrong(
            lambda m, w: (
                m & ~ndimage.binary_erosion(m, np.ones((2 * w + 1, 2 * w + 1)), iterations=2)
            ),
            "do not repeat it",
            "width twice",
        ),
        Wrong(lambda m, w: m & ~ndimage.binary_erosion(m, iterations=w), "by a corner", "cross"),
        Wrong(
            lambda m, w: m & ~ndimage.binary_erosion(m, _SQUARE, iterations=w, border_value=1),
            "frame",
            "frame is object",
        ),
        Wrong(lambda m, w: _boundary(m, w).astype(int), "bool mask", "integers"),
        Wrong(_boundary_of_squares, "12 x 20", "square pictures only"),
        Wrong(lambda m, w: m - ndimage.binary_erosion(m), "TypeError", "minus on bools"),
    ],
)


def _precision_recall(truth, prediction, tolerance):
    truth, prediction = _boundary(truth, 1), _boundary(prediction, 1)
    to_truth = ndimage.distance_transform_edt(~truth)
    to_prediction = ndimage.distance_transform_edt(~prediction)
    return (
        (to_truth[prediction] <= tolerance).mean(),
        (to_prediction[truth] <= tolerance).mean(),
    )


def _guarded(value):
    """Put the rules for empty masks around a function of two masks and a tolerance."""

    def score(truth, prediction, tolerance):
        if not truth.any() and not prediction.any():
            return np.nan
        if not truth.any() or not prediction.any():
            return 0.0
        return value(truth, prediction, tolerance)

    return score


def _f1(truth, prediction, tolerance):
    precision, recall = _precision_recall(truth, prediction, tolerance)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _f1_by_all_pairs(truth, prediction, tolerance):
    a, b = np.argwhere(_boundary(truth, 1)), np.argwhere(_boundary(prediction, 1))
    if len(a) == 0 or len(b) == 0:
        return np.nan if len(a) == len(b) else 0.0
    near = cdist(a, b) <= tolerance
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _f1_strict(truth, prediction, tolerance):
    return _f1(truth, prediction, np.nextafter(tolerance, 0))


def _f1_of_regions(truth, prediction, tolerance):
    return 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())


def _f1_by_dilation(truth, prediction, tolerance):
    t, p = _boundary(truth, 1), _boundary(prediction, 1)
    near_t = ndimage.binary_dilation(t, _SQUARE, iterations=tolerance)
    near_p = ndimage.binary_dilation(p, _SQUARE, iterations=tolerance)
    precision, recall = near_t[p].mean(), near_p[t].mean()
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _f1_of_wrong_distances(truth, prediction, tolerance):
    t, p = _boundary(truth, 1), _boundary(prediction, 1)
    to_t, to_p = ndimage.distance_transform_edt(t), ndimage.distance_transform_edt(p)
    precision, recall = (to_t[p] <= tolerance).mean(), (to_p[t] <= tolerance).mean()
    return 2 * precision * recall / (precision + recall)


def _f1_undefined_at_0(truth, prediction, tolerance):
    precision, recall = _precision_recall(truth, prediction, tolerance)
    return 2 * precision * recall / (precision + recall)


def _f1_of_crosses(truth, prediction, tolerance):
    a, b = (np.argwhere(m & ~ndimage.binary_erosion(m)) for m in (truth, prediction))
    if len(a) == 0 or len(b) == 0:
        return np.nan if len(a) == len(b) else 0.0
    near = cdist(a, b) <= tolerance
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _f1_pooled(truth, prediction, tolerance):
    precision, recall = _precision_recall(truth, prediction, tolerance)
    p, t = _boundary(prediction, 1).sum(), _boundary(truth, 1).sum()
    return (precision * p + recall * t) / (p + t)


BOUNDARY_F1 = Exercise(
    check=checks.boundary_f1,
    hidden=hidden.boundary_f1,
    right=[_guarded(_f1), _f1_by_all_pairs],
    wrong=[
        Wrong(_guarded(_f1_pooled), "two L shapes", "both contours in one pot"),
        Wrong(_f1_of_crosses, "two L shapes", "contours by a cross"),
        Wrong(lambda t, p, d: _precision_recall(t, p, d)[0], "is the precision", "precision"),
        Wrong(lambda t, p, d: _precision_recall(t, p, d)[1], "is the recall", "recall"),
        Wrong(lambda t, p, d: sum(_precision_recall(t, p, d)) / 2, "arithmetic mean", "plain mean"),
        Wrong(lambda t, p, d: _f1(t, p, d) / 2, "factor 2", "no factor 2"),
        Wrong(_guarded(_f1_of_regions), "areas, not contours", "regions"),
        Wrong(_guarded(_f1_strict), "<=, not <", "strict tolerance"),
        Wrong(lambda t, p, d: _guarded(_f1)(t, p, 2), "is the tolerance used", "fixed tolerance"),
        Wrong(_guarded(_f1_by_dilation), "Euclidean", "square dilation"),
        Wrong(_guarded(_f1_of_wrong_distances), "every contour .*~contour", "forgotten ~"),
        Wrong(_guarded(_f1_undefined_at_0), "P and R are both 0", "NaN where nothing matches"),
        Wrong(_guarded(lambda t, p, d: max(_f1(t, p, d), 0.5)), "expected 0", "never below 0.5"),
        Wrong(
            lambda t, p, d: np.nan if not (t.any() and p.any()) else _f1(t, p, d),
            "one mask is empty",
            "NaN for one empty",
        ),
        Wrong(
            lambda t, p, d: 0.0 if not (t.any() and p.any()) else _f1(t, p, d),
            "both masks are empty",
            "0 for both empty",
        ),
    ],
)


def _directed(a, b):
    return directed_hausdorff(a, b)[0]


def _empties(distance):
    def measured(truth, prediction):
        a, b = np.argwhere(_boundary(truth, 1)), np.argwhere(_boundary(prediction, 1))
        if len(a) == 0 or len(b) == 0:
            return np.nan if len(a) == len(b) else np.inf
        return distance(a, b)

    return measured


def _hausdorff_by_transform(truth, prediction):
    t, p = _boundary(truth, 1), _boundary(prediction, 1)
    if not t.any() and not p.any():
        return np.nan
    if not t.any() or not p.any():
        return np.inf
    return max(
        ndimage.distance_transform_edt(~t)[p].max(), ndimage.distance_transform_edt(~p)[t].max()
    )


def _hausdorff_of_wrong_distances(truth, prediction):
    t, p = _boundary(truth, 1), _boundary(prediction, 1)
    return max(
        ndimage.distance_transform_edt(t)[p].max(), ndimage.distance_transform_edt(p)[t].max()
    )


def _both_ways(metric):
    return _empties(
        lambda a, b: max(cdist(a, b, metric).min(1).max(), cdist(a, b, metric).min(0).max())
    )


def _of_all_pixels(truth, prediction):
    a, b = np.argwhere(truth), np.argwhere(prediction)
    return max(_directed(a, b), _directed(b, a))


HAUSDORFF = Exercise(
    check=checks.hausdorff_distance,
    hidden=hidden.hausdorff_distance,
    right=[
        _empties(lambda a, b: max(_directed(a, b), _directed(b, a))),
        _hausdorff_by_transform,
    ],
    wrong=[
        Wrong(_empties(_directed), "one way only", "truth to prediction"),
        Wrong(_empties(lambda a, b: _directed(b, a)), "one way only", "prediction to truth"),
        Wrong(
            _empties(lambda a, b: (_directed(a, b) + _directed(b, a)) / 2), "mean of both", "mean"
        ),
        Wrong(_both_ways("sqeuclidean"), "squared", "squared"),
        Wrong(
            _empties(lambda a, b: _directed(a, b) + _directed(b, a)),
            "larger of the two",
            "the sum of both",
        ),
        Wrong(
            _empties(lambda a, b: int(max(_directed(a, b), _directed(b, a)))),
            "not rounded",
            "rounded",
        ),
        Wrong(_both_ways("chebyshev"), "chessboard", "chessboard"),
        Wrong(_both_ways("cityblock"), "rows and columns", "city block"),
        Wrong(
            _empties(lambda a, b: max(cdist(a, b).min(1).mean(), cdist(a, b).min(0).mean())),
            "mean distance",
            "average distance",
        ),
        Wrong(_of_all_pixels, "between contours", "all pixels"),
        Wrong(_hausdorff_of_wrong_distances, "hand it ~contour", "forgotten ~"),
        Wrong(
            lambda t, p: 0.0 if not (t.any() and p.any()) else _hausdorff_by_transform(t, p),
            "one mask is empty",
            "0 for one empty",
        ),
        Wrong(
            lambda t, p: np.inf if not (t.any() and p.any()) else _hausdorff_by_transform(t, p),
            "both masks are empty",
            "inf for both empty",
        ),
        Wrong(lambda t, p: np.argwhere(t).max(0) @ None, "stops", "own exception"),
        Wrong(_empties(lambda a, b: cdist(a, b).min(1)), "return one number", "all distances"),
    ],
)

# --- bootstrap_differences


def _miou(matrices):
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.nanmean(hit / (matrices.sum(-1) + matrices.sum(-2) - hit), axis=-1)


def _paired(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(a), (draws, len(a)))
    return _miou(a[drawn].sum(1)) - _miou(b[drawn].sum(1))


def _paired_in_a_loop(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    differences = np.empty(draws)
    for i in range(draws):
        times = rng.multinomial(len(a), np.full(len(a), 1 / len(a)))[:, None, None]
        differences[i] = _miou((a * times).sum(0)) - _miou((b * times).sum(0))
    return differences


def _unpaired(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(a), (draws, len(a)))
    second = rng.integers(0, len(a), (draws, len(a)))
    return _miou(a[first].sum(1)) - _miou(b[second].sum(1))


def _pixels(a, b, draws, seed):
    rng = np.random.default_rng(seed)

    def drawn(matrices):
        total = matrices.sum(0)
        return rng.multinomial(total.sum(), (total / total.sum()).ravel(), draws).reshape(
            draws, *total.shape
        )

    return _miou(drawn(a)) - _miou(drawn(b))


def _mean_of_images(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(a), (draws, len(a)))
    return (_miou(a) - _miou(b))[drawn].mean(1)


def _permuted(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = np.array([rng.permutation(len(a)) for _ in range(draws)])
    return _miou(a[drawn].sum(1)) - _miou(b[drawn].sum(1))


def _half_of_the_images(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(a), (draws, len(a) // 2))
    return _miou(a[drawn].sum(1)) - _miou(b[drawn].sum(1))


def _draws_of(low, high, score=_miou):
    """Return a bootstrap that draws numbers low..N+high-1, with a mean over the classes."""

    def differences(a, b, draws, seed):
        rng = np.random.default_rng(seed)
        drawn = rng.integers(low, len(a) + high, (draws, len(a)))
        return score(a[drawn].sum(1)) - score(b[drawn].sum(1))

    return differences


def _class_ious(matrices):
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        return hit / (matrices.sum(-1) + matrices.sum(-2) - hit)


BOOTSTRAP = Exercise(
    check=checks.bootstrap_differences,
    hidden=hidden.bootstrap_differences,
    right=[_paired, _paired_in_a_loop],
    wrong=[
        Wrong(_unpaired, "same draw for A and B", "unpaired"),
        Wrong(_pixels, "Draw images, not pixels", "pixels"),
        Wrong(_mean_of_images, "images' own mean IoUs", "mean of images"),
        Wrong(_permuted, "WITH replacement", "without replacement"),
        Wrong(_draws_of(0, -1), "never draws the last image", "last image never drawn"),
        Wrong(_draws_of(1, 0), "never draws the first image", "first image never drawn"),
        Wrong(
            _draws_of(0, 0, lambda m: _class_ious(m).mean(-1)), "np.nanmean", "mean, not nanmean"
        ),
        Wrong(
            _draws_of(0, 0, lambda m: np.nan_to_num(_class_ious(m)).mean(-1)),
            "leaves out a class that is absent",
            "absent is 0",
        ),
        Wrong(_half_of_the_images, "N of the N images", "too few images"),
        Wrong(lambda a, b, n, s: _paired(b, a, n, s), "B minus A", "sign"),
        Wrong(lambda a, b, n, s: _paired(a, b, n, None), "from call to call", "no seed"),
        Wrong(lambda a, b, n, s: _paired(a, b, n, 0), "does not use its seed", "fixed seed"),
        Wrong(
            lambda a, b, n, s: np.percentile(_paired(a, b, n, s), [2.5, 97.5]),
            "every draw's difference",
            "the interval",
        ),
        Wrong(
            lambda a, b, n, s: np.full(n, _miou(a.sum(0)) - _miou(b.sum(0))),
            "the same difference",
            "no drawing",
        ),
    ],
)

# --- soft_dice_loss, focal_loss


def _one_hot(target, classes):
    return F.one_hot(target, classes).permute(0, 3, 1, 2).float()


def _soft_dice(logits, target, smooth=1.0):
    p = logits.softmax(dim=1)
    t = _one_hot(target, logits.shape[1])
    both = (p * t).sum(dim=(0, 2, 3))
    size = p.sum(dim=(0, 2, 3)) + t.sum(dim=(0, 2, 3))
    return 1 - ((2 * both + smooth) / (size + smooth)).mean()


def _soft_dice_in_a_loop(logits, target, smooth=1.0):
    losses = []
    for c in range(logits.shape[1]):
        p, t = F.softmax(logits, 1)[:, c], target == c
        losses.append(1 - (2 * p[t].sum() + smooth) / (p.sum() + t.sum() + smooth))
    return torch.stack(losses).mean()


def _dice_of(p, logits, target, above=1.0, below=1.0, factor=2, dims=(0, 2, 3)):
    t = _one_hot(target, logits.shape[1])
    size = p.sum(dim=dims) + t.sum(dim=dims)
    return ((factor * (p * t).sum(dim=dims) + above) / (size + below)).mean()


def _dice_of_seen_classes(logits, target, smooth=1.0):
    p, t, dims = logits.softmax(1), F.one_hot(target).permute(0, 3, 1, 2), (0, 2, 3)
    return 1 - ((2 * (p * t).sum(dims) + smooth) / (p.sum(dims) + t.sum(dims) + smooth)).mean()


def _hard(logits, target, smooth=1.0):
    return 1 - _dice_of(_one_hot(logits.argmax(1), logits.shape[1]), logits, target)


def _present_classes(logits, target, smooth=1.0):
    p, t = logits.softmax(1), _one_hot(target, logits.shape[1])
    dims = (0, 2, 3)
    score = (2 * (p * t).sum(dims) + smooth) / (p.sum(dims) + t.sum(dims) + smooth)
    return 1 - score[t.sum(dims) > 0].mean()


def _softmax_dice(**options):
    return lambda z, t, smooth=1.0: 1 - _dice_of(z.softmax(1), z, t, **options)


def _dice_detached_below(logits, target, smooth=1.0):
    p, t, dims = logits.softmax(1), _one_hot(target, logits.shape[1]), (0, 2, 3)
    size = p.detach().sum(dims) + t.sum(dims)
    return 1 - ((2 * (p * t).sum(dims) + smooth) / (size + smooth)).mean()


SOFT_DICE = Exercise(
    check=checks.soft_dice_loss,
    hidden=hidden.soft_dice_loss,
    right=[_soft_dice, _soft_dice_in_a_loop],
    wrong=[
        Wrong(lambda z, t, smooth=1.0: 1 - _soft_dice(z, t, smooth), "Dice itself", "score"),
        Wrong(lambda z, t, smooth=1.0: _soft_dice(z, t, smooth) - 1, "is -Dice", "negative"),
        Wrong(_softmax_dice(above=0, below=0), "ignores `smooth`", "no smoothing"),
        Wrong(_softmax_dice(below=0), "above only", "smooth above only"),
        Wrong(_softmax_dice(above=0), "below only", "smooth below only"),
        Wrong(_softmax_dice(factor=1), "lacks the factor 2", "no factor 2"),
        Wrong(_softmax_dice(dims=(0, 1, 2, 3)), "classes up before dividing", "classes pooled"),
        Wrong(_softmax_dice(dims=(2, 3)), "image by image", "per image"),
        Wrong(_hard, "argmax", "hard labels"),
        Wrong(
            lambda z, t, smooth=1.0: 1 - _dice_of(z, z, t), "logits as probabilities", "no softmax"
        ),
        Wrong(lambda z, t, smooth=1.0: 1 - _dice_of(z.sigmoid(), z, t), "not sigmoid", "sigmoid"),
        Wrong(
            lambda z, t, smooth=1.0: 1 - _dice_of(z.softmax(2), z, t), "classes are dim 1", "dim 2"
        ),
        Wrong(
            lambda z, t, smooth=1.0: 1 - (z.softmax(1) * _one_hot(t, 10)).mean(),
            r"classes is logits\.shape\[1\]",
            "the notebook's ten classes",
        ),
        Wrong(
            _dice_of_seen_classes,
            r"classes is logits\.shape\[1\]",
            "classes counted in the target",
        ),
        Wrong(_present_classes, "leaves out a class", "absent classes left out"),
        Wrong(lambda z, t, smooth=1.0: _soft_dice(z, t), "smooth=0.5", "smooth fixed"),
        Wrong(
            lambda z, t, smooth=1.0: torch.tensor(float(_soft_dice(z, t)), requires_grad=True),
            "reaches the logits",
            "a new tensor",
        ),
        Wrong(_dice_detached_below, "a part of it is cut off", "denominator detached"),
        Wrong(
            lambda z, t, smooth=1.0: _soft_dice(z, t, smooth).detach(), "no gradient", "detached"
        ),
        Wrong(
            lambda z, t, smooth=1.0: _soft_dice(z, t, smooth).item(), "must return a tensor", "item"
        ),
    ],
)


def _focal(logits, target, gamma):
    losses = F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
    labelled = target != VOID
    return ((1 - torch.exp(-losses)) ** gamma * losses)[labelled].mean()


def _focal_by_gather(logits, target, gamma):
    labelled = target != VOID
    log_p = logits.log_softmax(dim=1)
    index = torch.where(labelled, target, 0)[:, None]
    log_p = log_p.gather(1, index)[:, 0]
    focal = -((1 - log_p.exp()) ** gamma) * log_p
    return (focal * labelled).sum() / labelled.sum()


def _pixel_losses(logits, target):
    return F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")


def _focal_of(weight):
    def loss(logits, target, gamma):
        losses = _pixel_losses(logits, target)
        return (weight(torch.exp(-losses), gamma) * losses)[target != VOID].mean()

    return loss


def _focal_of_the_mean(logits, target, gamma):
    mean = F.cross_entropy(logits, target, ignore_index=VOID)
    return (1 - torch.exp(-mean)) ** gamma * mean


def _focal_over_all_pixels(logits, target, gamma):
    losses = _pixel_losses(logits, target)
    return ((1 - torch.exp(-losses)) ** gamma * losses).mean()


def _focal_without_ignore(logits, target, gamma):
    losses = F.cross_entropy(logits, target, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses).mean()


def _focal_of_softmax_rows(logits, target, gamma):
    log_p = logits.softmax(dim=2).log()
    losses = F.nll_loss(log_p, target, ignore_index=VOID, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses)[target != VOID].mean()


def _focal_that_underflows(logits, target, gamma):
    labelled = target != VOID
    p = logits.softmax(1).gather(1, torch.where(labelled, target, 0)[:, None])[:, 0][labelled]
    return (-((1 - p) ** gamma) * torch.log(p + 1e-8)).mean()


def _focal_that_relabels(logits, target, gamma):
    labelled = target != VOID
    target[~labelled] = 0
    losses = F.cross_entropy(logits, target, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses)[labelled].mean()


FOCAL = Exercise(
    check=checks.focal_loss,
    hidden=hidden.focal_loss,
    right=[_focal, _focal_by_gather],
    wrong=[
        Wrong(lambda z, t, g: -_focal(z, t, g), "wrong sign", "sign"),
        Wrong(_focal_of(lambda p, g: p**g), "keeps the easy", "p to the gamma"),
        Wrong(_focal_of(lambda p, g: 1.0), "is the cross-entropy", "no weight"),
        Wrong(_focal_of(lambda p, g: g * (1 - p)), "power gamma", "times gamma"),
        Wrong(_focal_of_the_mean, "weights the mean", "weight of the mean"),
        Wrong(
            _focal_of(lambda p, g: (1 - p.detach()) ** g),
            "a part of it is cut off",
            "weight detached",
        ),
        Wrong(lambda z, t, g: _focal(z, t, 2.0 if g else 0.0), "gamma = 3", "gamma fixed"),
        Wrong(_focal_that_relabels, "changes what it is given", "void relabelled in place"),
        Wrong(lambda z, t, g: 2 * _focal(z, t, g), "is a sum", "sum"),
        Wrong(_focal_over_all_pixels, "labelled pixels only", "divided by all pixels"),
        Wrong(_focal_without_ignore, "stops", "void not ignored"),
        Wrong(_focal_of_softmax_rows, "dim 1", "softmax over rows"),
        Wrong(_focal_that_underflows, "underflows", "log of softmax"),
        Wrong(lambda z, t, g: _focal(z, t, g).detach(), "no gradient", "detached"),
        Wrong(lambda z, t, g: _pixel_losses(z, t), "mean over the labelled", "no mean"),
    ],
)

BANK = {
    "confusion_matrix": CONFUSION,
    "iou_per_class": IOU,
    "dice_per_class": DICE,
    "swapping_models": SWAP,
    "mean_iou_per_image": PER_IMAGE,
    "pixel_averages": PIXEL_AVERAGES,
    "match_definitions": MATCH,
    "inner_boundary": BOUNDARY,
    "boundary_f1": BOUNDARY_F1,
    "hausdorff_distance": HAUSDORFF,
    "bootstrap_differences": BOOTSTRAP,
    "soft_dice_loss": SOFT_DICE,
    "focal_loss": FOCAL,
}
