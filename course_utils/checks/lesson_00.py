"""Checks of lesson 00: masks as arrays of class numbers."""

import math
from collections.abc import Callable

import numpy as np

from course_utils.checks import explain, passed, require
from course_utils.data import load
from course_utils.data.segmentation_set import VOID

_CLASSES = ("sky", "building", "pole", "road")
_MASK = np.array([[0, 0, 1, 1], [0, 2, 1, VOID], [3, 3, 3, VOID]], dtype=np.uint8)


SCENE = 4
"""The validation scene that the lesson looks at: void of two kinds, every common class."""


def scene_mask() -> np.ndarray:
    """Return the mask of the lesson's scene, (96, 128) uint8."""
    return load("scenes", "valid", count=SCENE + 1).masks[SCENE]


def _require_unchanged(name: str, mask: np.ndarray) -> None:
    require(
        np.array_equal(mask, _MASK),
        f"{name} changed the mask that it was given: work on a copy, or select with mask[...]. If "
        "it has changed the lesson's mask, too, run the notebook's first cells again.",
    )


def class_at(answer: Callable) -> None:
    """Check ``class_at(mask, row, column, classes)``: the name of a pixel's class, or "void"."""
    mask = _MASK.copy()
    with explain("class_at(mask, 2, 1, classes) stops"):
        found = answer(mask, 2, 1, _CLASSES)
    require(found is not None, "class_at returns None: print shows a name, `return` gives it back.")
    require(
        not isinstance(found, (int, np.integer)),
        f"class_at gives the number {found}; look its name up: classes[number].",
    )
    require(
        isinstance(found, str), f"class_at gives a {type(found).__name__}; wanted the name, a str."
    )
    require(
        found != "building",
        "class_at(mask, 2, 1, ...) looks at row 1 and column 2: row and column are swapped. "
        "An array is indexed mask[row, column]: down first, then to the right.",
    )
    require(
        found != "pole",
        "class_at gives 'pole' for class number 3: numbers count from 0, classes[0] is 'sky'.",
    )
    require(found == "road", f"mask[2, 1] is 3, 'road'; class_at gives {found!r}.")
    with explain(
        "class_at on a void pixel stops",
        {"out of range": f'{VOID} is no class: return "void" for it'},
    ):
        found = answer(mask, 1, 3, _CLASSES)
    _require_unchanged("class_at", mask)
    require(
        found == "void", f'a void pixel ({VOID}) has no class: return "void"; you give {found!r}.'
    )
    for (row, column), number in np.ndenumerate(_MASK):
        wanted = "void" if number == VOID else _CLASSES[number]
        with explain(f"class_at(mask, {row}, {column}, classes) stops"):
            found = answer(mask, row, column, _CLASSES)
        require(
            found == wanted,
            f"mask[{row}, {column}] is {number}, {wanted!r}; class_at gives {found!r}.",
        )
    passed("class_at", "row first, names by number, void is no class")


def count_pixels(answer: Callable) -> None:
    """Check ``count_pixels(mask, num_classes)``: pixels of each class, (C,), void left out."""
    causes = {
        "out of bounds": f"the void value {VOID} is used as an index: leave void pixels out first",
        "broadcast": "the counts must have num_classes entries",
        "object too deep": "np.bincount takes numbers in one row; mask[mask != VOID] is such a row",
    }
    mask = _MASK.copy()
    with explain("count_pixels(mask, 5) stops", causes):
        found = answer(mask, 5)
    _require_unchanged("count_pixels", mask)
    require(found is not None, "count_pixels returns None: is its `return` missing?")
    require(
        not isinstance(found, dict),
        "count_pixels gives a dict; wanted an array, one entry a class.",
    )
    with explain("reading the counts as an array stops", causes):
        counts = np.asarray(found)
    require(
        counts.shape != (VOID + 1,),
        f"count_pixels gives {VOID + 1} counts: np.bincount counted void, the value {VOID}, too. "
        "Select mask[mask != VOID] first.",
    )
    require(counts.tolist() != [3, 1, 3, 0], "class 0 is missing: classes are counted from 0.")
    require(
        counts.shape != (4,),
        "class 4 does not occur in this mask, and its count of 0 is missing: every class has its "
        "place (np.bincount has minlength for that).",
    )
    require(
        counts.shape == (5,),
        f"count_pixels gives shape {counts.shape}; wanted (5,), one count for each class.",
    )
    require(
        counts.dtype.kind != "f" or counts.sum() > 1 + 1e-6,
        "these are shares of the pixels; wanted their number.",
    )
    require(
        counts[0] != 5,
        "two void pixels are counted as class 0. Void has no class: leave it out.",
    )
    require(counts[4] != 2, "two void pixels are counted as the last class. Leave them out.")
    require(
        counts.tolist() == [3, 3, 1, 3, 0],
        "the mask has 3 sky, 3 building, 1 pole, 3 road and 0 of class 4; "
        f"you give {counts.tolist()}.",
    )
    mask = scene_mask()
    with explain("count_pixels on a scene stops", causes):
        counts = np.asarray(answer(mask, 12))
    wanted = np.array([(mask == label).sum() for label in range(12)])
    require(
        counts.shape == (12,),
        f"count_pixels(mask, 12) gives shape {counts.shape} on a scene; wanted (12,): the number "
        "of classes must not be hard-coded.",
    )
    require(
        counts.sum() == wanted.sum(),
        f"on a scene the counts add up to {int(counts.sum())}, but it has {wanted.sum()} pixels "
        "that are not void.",
    )
    wrong = np.flatnonzero(counts != wanted)
    require(
        not len(wrong),
        f"on a scene the counts add up, but class {wrong[:1].sum()} has {wanted[wrong[:1]].sum()} "
        f"pixels and not {counts[wrong[:1]].sum()}: does each count stand in its class's place?",
    )
    passed("count_pixels", "one count a class, also a 0; void left out")


def half_mask(answer: Callable) -> None:
    """Check ``half_mask(mask)``: half the height and width, by nearest neighbour."""
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 3, 7, 9, VOID], np.uint8), (8, 12))
    before = mask.copy()
    with explain("half_mask(mask) stops"):
        found = answer(mask)
    require(np.array_equal(mask, before), "half_mask changed its input: return a new array.")
    require(isinstance(found, np.ndarray), "half_mask must return a NumPy array.")
    require(
        found.shape != (6, 4),
        "half_mask gives (6, 4) for a mask of (8, 12): height and width are swapped. "
        "PIL's resize wants (width, height).",
    )
    require(
        found.shape == (4, 6),
        f"half_mask gives {found.shape} for a mask of (8, 12); wanted (4, 6).",
    )
    new = sorted(set(np.unique(found).tolist()) - set(np.unique(mask).tolist()))
    require(
        not new,
        f"half_mask makes the values {new[:3]}, which the mask does not hold: class numbers were "
        "averaged. Between sky (0) and fence (7) there is no class 3.5: pick a pixel, never mix.",
    )
    require(
        found.dtype == np.uint8, f"half_mask gives {found.dtype}; class numbers stay uint8 here."
    )
    blocks = mask.reshape(4, 2, 6, 2).transpose(0, 2, 1, 3).reshape(4, 6, 4)
    inside = (blocks == found[..., None]).any(-1)
    require(
        bool(inside.all()),
        "half_mask takes labels from elsewhere: each pixel of the small mask must be one of the "
        "2x2 pixels that it replaces (a crop, for one, is no resize).",
    )
    for pick, which in ((blocks.max(-1), "highest"), (blocks.min(-1), "lowest")):
        require(
            not np.array_equal(found, pick),
            f"half_mask takes the {which} class number of each 2x2 block: numbers are names, not "
            "amounts; a fence is not more than a road.",
        )
    passed("half_mask", "half the size, and no value that was not there before")


def road_percent(answer: float) -> None:
    """Check the number: the percentage of road among the labelled pixels of validation scene 4."""
    mask = scene_mask()
    labelled, road = int((mask != VOID).sum()), int((mask == _CLASSES.index("road")).sum())
    many = "that is one number for each class; take the entry of road"
    with explain("reading your number stops", {"0-dimensional|length-1|size-1": many}):
        found = float(answer)
    near = lambda value: math.isclose(found, value, rel_tol=2e-3)  # noqa: E731
    require(math.isfinite(found), "road_percent is not a finite number.")
    require(not near(road), f"{found:g} is the number of road pixels; wanted their percentage.")
    require(
        not near(road / labelled), f"{found:.3f} is the fraction; times 100 it is a percentage."
    )
    require(
        not near(100 * road / mask.size),
        f"{found:.2f} is the percentage of all pixels; void pixels ({mask.size - labelled} here) "
        "have no label, so divide by the labelled ones only.",
    )
    require(not near(100 * (1 - road / labelled)), "that is the percentage of what is not road.")
    others = [100 * (mask == c).sum() / labelled for c in range(10)]
    for number, share in enumerate(others):
        require(
            number == 3 or not near(share),
            f"{found:.2f} belongs to class {number}; road is class 3 (counted from 0).",
        )
    right = math.isclose(found, others[3], abs_tol=0.05)
    if not right:
        everywhere = load("scenes", "valid", count=24).masks
        require(
            not near(100 * (everywhere == 3).sum() / (everywhere != VOID).sum()),
            f"{found:.2f} is the percentage in all the scenes of `valid`; wanted that of `mask` "
            "alone.",
        )
    require(
        right,
        f"{found:.2f} is not the percentage of road. Take count_pixels(mask, 10) of the scene's "
        "mask, and divide the entry of road by the sum.",
    )
    passed("road_percent", f"{others[3]:.1f} % of the labelled pixels are road")
