"""Lesson 00 says what its solution computes."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_utils.checks import lesson_00 as checks
from course_utils.data import VOID, load

NOTEBOOK = Path(__file__).parent.parent / "solutions" / "00_start_here" / "00_start_here.ipynb"


@pytest.fixture(scope="module")
def lesson():
    """Run the solution's cells in this process; the lesson as a namespace."""
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_STATIC", "1")
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), namespace)
    return SimpleNamespace(**namespace)


def test_the_scene_has_void_and_most_classes(lesson):
    assert 0.01 < (lesson.mask == VOID).mean() < 0.15
    assert {0, 1, 2, 3, 4, 8} <= set(np.unique(lesson.mask))
    # on pixels so few that void in the denominator would pass, the check could not tell
    with_void = 100 * (lesson.mask == 3).mean()
    assert abs(with_void - lesson.road_percent) > 0.1


def test_the_three_places_hit_a_sign_the_bin_and_a_building(lesson):
    assert lesson.names == ["sign", "void", "building"]


def test_a_program_that_finds_no_sign_can_be_right_at_nearly_98_percent_of_the_pixels(lesson):
    sign = lesson.valid.classes.index("sign")
    assert 97.5 < 100 - lesson.share[sign] < 98


def test_averaging_names_invents_classes_along_the_edges(lesson):
    assert 3 < 100 * lesson.invented.mean() < 20
    assert len(np.setdiff1d(lesson.averaged, [*range(10), VOID])) > 0
    assert set(np.unique(lesson.halved)) <= set(np.unique(lesson.mask))


def test_some_poles_are_two_pixels_wide(lesson):
    poles = (lesson.valid.masks == lesson.valid.classes.index("pole")).astype(np.int8)
    steps = np.diff(np.pad(poles, ((0, 0), (0, 0), (1, 1))), axis=2)
    widths = np.argwhere(steps == -1)[:, 2] - np.argwhere(steps == 1)[:, 2]
    assert (widths == 2).any()


def test_the_number_is_the_scenes(lesson):
    mask = load("scenes", "valid", count=checks.SCENE + 1).masks[checks.SCENE]
    assert lesson.road_percent == 100 * (mask == 3).sum() / (mask != VOID).sum()
