"""Lesson 00: right answers of other kinds, and wrong ones that are known by no value."""

import numpy as np
import torch
from PIL import Image

from course_utils.checks import lesson_00 as checks
from course_utils.data import VOID


def count(mask, num_classes):
    return np.bincount(mask[mask != VOID], minlength=num_classes)


def count_by_index(mask, num_classes):
    counts = np.zeros(num_classes, int)
    np.add.at(counts, mask.ravel(), 1)
    return counts


def resized(how, height=4, width=6):
    """Return a half_mask that resizes with PIL."""
    return lambda mask: np.asarray(Image.fromarray(mask).resize((width, height), how))


ROAD = checks.road_percent.right()
SAMPLING = Image.Resampling

RIGHT = {
    "class_at": [
        lambda m, r, c, k: "void" if m[r, c] == VOID else k[m[r, c]],
        lambda m, r, c, k: [*k, *["void"] * VOID][m[r][c]],
    ],
    "count_pixels": [
        count,
        lambda m, c: torch.bincount(torch.from_numpy(m[m != VOID]).long(), minlength=c),
    ],
    "half_mask": [lambda m: m[::2, ::2], resized(SAMPLING.NEAREST)],
    "road_percent": [ROAD, np.float32(round(ROAD, 1))],
}
WRONG = {
    "class_at": {
        "look its name up": lambda m, r, c, k: m[r, c],
        "255 is no class: return .void": lambda m, r, c, k: k[m[r, c]],
        "a void pixel .* you give 'road'": lambda m, r, c, k: k[m[r, c] % 4],
        "wanted the name": lambda m, r, c, k: k,
        "is 0, 'sky'; class_at gives 'void'": (
            lambda m, r, c, k: dict(enumerate(k[1:], 1)).get(m[r, c], "void")
        ),
    },
    "count_pixels": {
        "must not be hard-coded": lambda m, c: np.bincount(m[m != VOID], minlength=5)[:10],
        "in one row": lambda m, c: np.bincount(m, minlength=c),
        "used as an index": count_by_index,
        "shares": lambda m, c: count(m, c) / m.size,
        r"\(5,\) is wanted": lambda m, c: count(m, c).sum(),
        "gives a dict": lambda m, c: dict(enumerate(count(m, c))),
        "1 pole": lambda m, c: count(m, c) * 2,
    },
    "half_mask": {
        "NumPy array": lambda m: Image.fromarray(m[::2, ::2]),
        r"\(width, height\)": resized(SAMPLING.NEAREST, 6, 4),
        r"wanted \(4, 6\)": lambda m: m[::2],
        "averaged": resized(SAMPLING.BILINEAR),
        "stay uint8": lambda m: m[::2, ::2].astype(float),
        "a crop": lambda m: m[:4, :6],
    },
    "road_percent": {
        "finite": np.nan,
        "no array of numbers": "half",
        "take the entry of road": np.array([10.0, 20.0]),
        "is not the percentage": -1.0,
    },
}
