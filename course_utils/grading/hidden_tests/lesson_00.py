"""Hidden tests of lesson 00, on other masks than the checks use."""

import numpy as np

from course_utils.checks import require
from course_utils.checks.lesson_00 import scene_mask
from course_utils.data import load
from course_utils.data.segmentation_set import VOID


def class_at(answer) -> None:
    """Every pixel of a small scene."""
    data = load("scenes", "valid", size=(12, 16), count=1)
    mask = data.masks[0].copy()
    mask[2, 5] = VOID
    for row, column in np.ndindex(mask.shape):
        number = mask[row, column]
        wanted = "void" if number == VOID else data.classes[number]
        require(answer(mask, row, column, data.classes) == wanted, "other name at a pixel")


def count_pixels(answer) -> None:
    """Three other scenes, and a mask that is void only."""
    for mask in load("scenes", "valid", count=3).masks:
        wanted = [int((mask == c).sum()) for c in range(10)]
        require(np.asarray(answer(mask, 10)).tolist() == wanted, "other counts")
    void = np.full((4, 5), VOID, np.uint8)
    require(not np.asarray(answer(void, 3)).any(), "other counts on a mask of void")


def half_mask(answer) -> None:
    """No new value on scenes, and blocks of one class keep it."""
    for mask in load("scenes", "valid", count=3).masks:
        small = answer(mask)
        require(small.shape == (48, 64), "other shape")
        require(set(np.unique(small)) <= set(np.unique(mask)), "new values")
        blocks = mask.reshape(48, 2, 64, 2)
        plain = blocks.max((1, 3)) == blocks.min((1, 3))
        require(np.array_equal(small[plain], mask[::2, ::2][plain]), "a plain block changed")


def road_percent(answer) -> None:
    """The number again, more closely."""
    mask = scene_mask()
    wanted = 100 * (mask == 3).sum() / (mask != VOID).sum()
    require(abs(float(answer) - wanted) < 0.051, "other percentage")
