"""Right and wrong answers to the exercises of lesson 00."""

import numpy as np
import torch
from PIL import Image

from course_utils.checks import lesson_00 as checks
from course_utils.data import VOID, load
from course_utils.grading.hidden_tests import lesson_00 as hidden
from tests.wrong_answers import Exercise, Wrong


def class_at(mask, row, column, classes):
    number = mask[row, column]
    return "void" if number == VOID else classes[number]


def class_at_by_lookup(mask, row, column, classes):
    return dict(enumerate(classes)).get(int(mask[row][column]), "void")


CLASS_AT = Exercise(
    checks.class_at,
    [class_at, class_at_by_lookup],
    [
        Wrong(lambda m, r, c, k: class_at(m, c, r, k), r"swapped", "row and column swapped"),
        Wrong(lambda m, r, c, k: class_at(m.T, r, c, k), r"swapped", "mask transposed"),
        Wrong(lambda m, r, c, k: m[r, c], r"look its name up", "the number"),
        Wrong(lambda m, r, c, k: k[m[r, c]], r'return "void"', "void as an index"),
        Wrong(lambda m, r, c, k: k[m[r, c] % 4], r'return "void"', "void wrapped around"),
        Wrong(lambda m, r, c, k: class_at(m - 1, r, c, k), r"from 0", "counted from 1"),
        Wrong(lambda m, r, c, k: None, r"print shows", "return forgotten"),
        Wrong(lambda m, r, c, k: k, r"wanted the name", "all the names"),
        Wrong(
            lambda m, r, c, k: k[m[r, c]] if 0 < m[r, c] < len(k) else "void",
            r"is 0, 'sky'; class_at gives 'void'",
            "class 0 as void",
        ),
    ],
    hidden.class_at,
)


def count_pixels(mask, num_classes):
    return np.bincount(mask[mask != VOID], minlength=num_classes)


def count_pixels_by_loop(mask, num_classes):
    return [int(np.sum(mask == number)) for number in range(num_classes)]


def count_by_index(mask, num_classes):
    counts = np.zeros(num_classes, int)
    np.add.at(counts, mask.ravel(), 1)
    return counts


def count_shares(mask, num_classes):
    counts = count_pixels(mask, num_classes)
    return counts / counts.sum()


def count_after_filling(mask, num_classes):
    mask[mask == VOID] = 0
    return np.bincount(mask.ravel(), minlength=num_classes)


def count_by_torch(mask, num_classes):
    return torch.bincount(torch.from_numpy(mask[mask != VOID]).long(), minlength=num_classes)


def counts_in_front(mask, num_classes):
    counts = np.zeros(num_classes, int)
    found = np.unique(mask[mask != VOID], return_counts=True)[1]
    counts[: len(found)] = found
    return counts


COUNT_PIXELS = Exercise(
    checks.count_pixels,
    [count_pixels, count_pixels_by_loop, count_by_torch],
    [
        Wrong(counts_in_front, r"in its class's place", "the missing classes at the end"),
        Wrong(
            lambda m, c: np.bincount(m[m != VOID], minlength=5)[:10],
            r"must not be hard-coded",
            "five classes at least",
        ),
        Wrong(lambda m, c: np.bincount(m.ravel(), minlength=c), r"counted void", "void counted"),
        Wrong(lambda m, c: np.bincount(m, minlength=c), r"in one row", "bincount of two axes"),
        Wrong(lambda m, c: np.bincount(m[m != VOID]), r"count of 0 is missing", "no minlength"),
        Wrong(
            lambda m, c: np.unique(m[m != VOID], return_counts=True)[1],
            r"count of 0 is missing",
            "unique",
        ),
        Wrong(
            lambda m, c: np.unique(m, return_counts=True)[1],
            r"counts \[3, 3, 1, 3, 2\]|last class",
            "unique with void",
        ),
        Wrong(
            lambda m, c: count_pixels(np.where(m == VOID, 0, m), c), r"as class 0", "void as sky"
        ),
        Wrong(
            lambda m, c: count_pixels(np.minimum(m, c - 1), c), r"as the last class", "void clipped"
        ),
        Wrong(count_by_index, r"used as an index", "void as an index"),
        Wrong(count_shares, r"shares", "shares"),
        Wrong(lambda m, c: count_pixels(m, c).sum(), r"wanted \(5,\)", "the sum"),
        Wrong(lambda m, c: dict(enumerate(count_pixels(m, c))), r"gives a dict", "a dict"),
        Wrong(lambda m, c: None, r"`return` missing", "return forgotten"),
        Wrong(lambda m, c: count_pixels(m, c)[1:], r"class 0 is missing", "counted from 1"),
        Wrong(lambda m, c: count_pixels(m, c) / m.size, r"shares", "shares of all pixels"),
        Wrong(count_after_filling, r"changed the mask", "void filled in place"),
        Wrong(lambda m, c: count_pixels(m, c)[:10] * 2, r"1 pole", "each pixel twice"),
    ],
    hidden.count_pixels,
)


def half_mask(mask):
    return mask[::2, ::2]


def half_mask_by_pil(mask):
    height, width = mask.shape
    small = Image.fromarray(mask).resize((width // 2, height // 2), Image.Resampling.NEAREST)
    return np.asarray(small)


def pil_with(filter_, swap=False):
    def half(mask):
        height, width = mask.shape
        size = (height // 2, width // 2) if swap else (width // 2, height // 2)
        return np.asarray(Image.fromarray(mask).resize(size, filter_))

    return half


def blocks(mask):
    height, width = mask.shape
    return mask.reshape(height // 2, 2, width // 2, 2)


def half_in_place(mask):
    mask[1::2] = 0
    return mask[::2, ::2]


HALF_MASK = Exercise(
    checks.half_mask,
    [half_mask, half_mask_by_pil],
    [
        Wrong(pil_with(Image.Resampling.BILINEAR), r"averaged", "bilinear"),
        Wrong(pil_with(Image.Resampling.BOX), r"averaged", "box filter"),
        Wrong(lambda m: blocks(m).mean((1, 3)), r"averaged", "mean of the block"),
        Wrong(
            lambda m: blocks(m).mean((1, 3)).round().astype(np.uint8), r"averaged", "mean, rounded"
        ),
        Wrong(lambda m: blocks(m).max((1, 3)), r"highest class number", "maximum"),
        Wrong(lambda m: blocks(m).min((1, 3)), r"lowest class number", "minimum"),
        Wrong(pil_with(Image.Resampling.NEAREST, swap=True), r"\(width, height\)", "size swapped"),
        Wrong(lambda m: m[: len(m) // 2, : m.shape[1] // 2], r"a crop", "a crop"),
        Wrong(lambda m: m[::2], r"wanted \(4, 6\)", "rows only"),
        Wrong(lambda m: m[::2, ::2].astype(float), r"stay uint8", "floats"),
        Wrong(half_in_place, r"changed its input", "in place"),
        Wrong(lambda m: Image.fromarray(m[::2, ::2]), r"NumPy array", "a PIL image"),
    ],
    hidden.half_mask,
)

_MASK = checks.scene_mask()
_ROAD, _LABELLED = int((_MASK == 3).sum()), int((_MASK != VOID).sum())
_ALL = load("scenes", "valid", count=24).masks
_ROAD_IN_ALL = 100 * (_ALL == 3).sum() / (_ALL != VOID).sum()

ROAD_PERCENT = Exercise(
    checks.road_percent,
    [100 * _ROAD / _LABELLED, np.float32(round(100 * _ROAD / _LABELLED, 1))],
    [
        Wrong(_ROAD / _LABELLED, r"times 100", "the fraction"),
        Wrong(_ROAD, r"number of road pixels", "the count"),
        Wrong(100 * _ROAD / _MASK.size, r"void pixels", "void in the denominator"),
        Wrong(100 - 100 * _ROAD / _LABELLED, r"not road", "the rest"),
        Wrong(100 * (_MASK == 4).sum() / _LABELLED, r"class 4", "counted from 1"),
        Wrong(_ROAD_IN_ALL, r"in all the scenes", "all scenes"),
        Wrong(float("nan"), r"finite", "nan"),
        Wrong("half", r"ValueError", "words"),
        Wrong(np.array([10.0, 20.0]), r"take the entry of road", "one number a class"),
        Wrong(-1.0, r"is not the percentage", "a guess"),
    ],
    hidden.road_percent,
)

BANK = {
    "class_at": CLASS_AT,
    "count_pixels": COUNT_PIXELS,
    "half_mask": HALF_MASK,
    "road_percent": ROAD_PERCENT,
}
