"""Lesson 00's exercises, told once each in the notebook's order: masks as arrays of numbers."""

import math
from functools import cache

import numpy as np

from course_utils.checks.exercise import Case, Exercise, as_array
from course_utils.data import VOID, load

SCENE = 4
"""The validation scene that the lesson looks at: void of two kinds, every common class."""

_CLASSES = ("sky", "building", "pole", "road")
_MASK = np.array([[0, 0, 1, 1], [0, 2, 1, VOID], [3, 3, 3, VOID]], dtype=np.uint8)


def scene_mask() -> np.ndarray:
    """Return the mask of the lesson's scene, (96, 128) uint8."""
    return load("scenes", "valid", count=SCENE + 1).masks[SCENE]


def _random_mask(rng: np.random.Generator, *values: int) -> np.ndarray:
    """Return a mask that holds each of the values, (8, 12) uint8."""
    return rng.permutation(np.resize(np.array(values, np.uint8), 96)).reshape(8, 12)


def _at(mask: np.ndarray, *places: tuple[int, int]) -> list[Case]:
    """Return the question for the class at each place; without places, everywhere."""
    says = "mask[{}, {}] is {}, {{wanted}}; {{name}} gives {{got}}."
    return [
        Case(mask, row, column, _CLASSES, says=says.format(row, column, mask[row, column]))
        for row, column in places or np.ndindex(mask.shape)
    ]


def _name_at(mask, row, column, classes):
    return dict(enumerate(classes)).get(int(mask[row, column]), "void")


class_at = Exercise(
    "class_at",
    form="the name of a class, a str",
    learnt="row first, names by number, void is no class",
    right=_name_at,
    cases=[*_at(_MASK, (2, 1), (1, 3)), *_at(_MASK)],
    drawn=lambda rng: _at(_random_mask(rng, 0, 1, 2, 3, VOID)),
    mistakes={
        "row and column are swapped: {name}(mask, 2, 1, ...) looks at row 1 and column 2. An array "
        "is mask[row, column]: down first, then right.": lambda m, r, c, k: _name_at(m, c, r, k),
        "{name} gives {got}, the name before {wanted}: classes count "
        "from 0, not from 1.": lambda m, r, c, k: k[int(m[r, c]) - 1],
    },
    facts={
        "{name} gives the number {got}; look its name up: classes[number].": lambda got, *_: (
            not isinstance(got, int | np.integer)
        ),
        "{name} gives {got}; wanted the name, a str.": lambda got, *_: isinstance(got, str),
        f'a void pixel ({VOID}) has no class: return "void"; '
        "you give {got}.": lambda got, m, r, c, k: m[r, c] != VOID or got == "void",
    },
    causes={"tuple index out of range": f'{VOID} is no class: return "void" for it'},
    same=lambda got, wanted: isinstance(got, str) and got == wanted,
    numbers=False,
)


def _count(mask, num_classes):
    return np.array([(mask == label).sum() for label in range(num_classes)])


count_pixels = Exercise(
    "count_pixels",
    form="one count for each class, (num_classes,)",
    learnt="one count a class, also a 0; void left out",
    right=_count,
    cases=[
        Case(_MASK, 5, says="There are 3 sky, 3 building, 1 pole, 3 road, 0 more; you give {got}."),
        Case(12, through=lambda answer, num_classes: answer(scene_mask(), num_classes)),
    ],
    drawn=lambda rng: [  # without the last class and some in the middle; of void alone
        Case(_random_mask(rng, 0, 8, 8, VOID, *rng.permutation(np.arange(1, 8))[:4]), 10),
        Case(np.full((4, 5), VOID, np.uint8), 3),
    ],
    mistakes={
        f"{{name}} gives {VOID + 1} counts: np.bincount counted void, the value {VOID}, too. "
        "Select mask[mask != VOID] first.": lambda m, c: np.bincount(m.ravel(), minlength=c),
        "class 0 is missing: classes are counted from 0.": lambda m, c: _count(m, c)[1:],
        "the last class does not occur, and its count of 0 is missing: every class has its place "
        "(np.bincount has minlength for that), and "
        "their number must not be hard-coded.": lambda m, c: np.bincount(m[m != VOID]),
        "void pixels are counted as class 0. Void has no class: leave it out.": lambda m, c: _count(
            np.where(m == VOID, 0, m), c
        ),
        "void pixels are counted as the last class. Leave them out.": lambda m, c: _count(
            np.minimum(m, c - 1), c
        ),
        "the counts of 0 all stand at the end: does each stand in its class's "
        "place?": lambda m, c: np.array(sorted(_count(m, c), key=lambda count: count == 0)),
    },
    facts={
        "these are shares of the pixels; wanted their number.": lambda got, *_: (
            not 0 < as_array(got).sum() < 1 + 1e-6
        )
    },
    causes={
        "out of bounds": f"the void value {VOID} is used as an index: leave void pixels out first",
        "broadcast": "the counts must have num_classes entries",
        "object too deep": "np.bincount takes numbers in one row; mask[mask != VOID] is such a row",
    },
)


def _blocks(mask: np.ndarray) -> np.ndarray:
    """Return the four pixels of each 2x2 block, (4, H / 2, W / 2)."""
    return np.stack([mask[row::2, column::2] for row in (0, 1) for column in (0, 1)])


half_mask = Exercise(
    "half_mask",
    form="the labels at half the size, (H / 2, W / 2)",
    learnt="half the size, and no value that was not there before",
    right=None,  # any of the four pixels of a block will do
    cases=[Case(_random_mask(np.random.default_rng(0), 0, 3, 7, 9, VOID))],
    drawn=lambda rng: [Case(_random_mask(rng, 0, 2, 5, 8, VOID))],
    mistakes={
        f"{{name}} takes the {which} class number of each 2x2 block: numbers are names, not "
        "amounts; a fence is not more than a road.": lambda mask, of=of: of(_blocks(mask), axis=0)
        for which, of in {"highest": np.max, "lowest": np.min}.items()
    },
    facts={
        "{name} must return a NumPy array.": lambda got, _: isinstance(got, np.ndarray),
        "{name} gives (6, 4) for a mask of (8, 12): height and width are swapped. PIL's resize "
        "wants (width, height).": lambda got, _: got.shape != (6, 4),
        "{name} does not halve both sides of a mask of (8, 12); wanted (4, 6).": lambda got, _: (
            got.shape == (4, 6)
        ),
        "{name} makes values that the mask does not hold: class numbers were averaged. Between sky "
        "(0) and fence (7) there is no class 3.5: "
        "pick a pixel, never mix.": lambda got, mask: np.isin(got, mask).all(),
        "{name} gives floats or wider integers; class numbers stay uint8 here.": lambda got, _: (
            got.dtype == np.uint8
        ),
        "{name} takes labels from elsewhere: each pixel of the small mask must be one of the 2x2 "
        "pixels that it replaces (a crop, for one, is no "
        "resize).": lambda got, mask: (_blocks(mask) == got).any(axis=0).all(),
    },
)


@cache
def _percent(label: int, everywhere: bool = False) -> float:
    """Return a class's percentage of the labelled pixels of the lesson's scene, or of all."""
    counts = _count(load("scenes", "valid", count=24).masks if everywhere else scene_mask(), 10)
    return 100 * counts[label] / counts.sum()


road_percent = Exercise(
    "road_percent",
    form="one number: of one for each class take the entry of road",
    learnt="{got} % of the labelled pixels are road",
    right=lambda: _percent(3),
    cases=[
        Case(says="{got} is not the percentage of road. count_pixels(mask, 10) has both counts.")
    ],
    drawn=lambda rng: [Case()],  # the lesson's scene, again
    mistakes={
        "{got} is the number of road pixels; wanted their percentage.": lambda: (
            scene_mask() == 3
        ).sum(),
        "{got} is the fraction; times 100 it is a percentage.": lambda: _percent(3) / 100,
        "{got} is the fraction of all pixels. Times 100 it is a percentage; and void pixels have "
        "no label, so divide by the labelled ones only.": lambda: (scene_mask() == 3).mean(),
        "{got} is the percentage of all pixels; void pixels have no label, so divide by the "
        "labelled ones only.": lambda: 100 * (scene_mask() == 3).mean(),
        "that is the percentage of what is not road.": lambda: 100 - _percent(3),
        "{got} is the percentage in all the scenes of `valid`; "
        "wanted that of `mask` alone.": lambda: _percent(3, everywhere=True),
        **{
            f"{{got}} belongs to class {label}; road is class 3 (counted "
            "from 0).": lambda label=label: _percent(label)
            for label in (0, 1, 2, 4, 5, 6, 8, 9)  # class 7, fence, is not in the scene
        },
    },
    facts={"{name} is not a finite number.": lambda got: np.isfinite(got).all()},
    same=lambda got, wanted: np.ndim(got) == 0 and math.isclose(got, wanted, rel_tol=4e-3),
)
