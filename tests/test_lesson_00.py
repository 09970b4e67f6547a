"""Lesson 00 says what its solution computes."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_utils.checks import NotYet
from course_utils.checks import lesson_00 as checks
from course_utils.data import VOID, load
from course_utils.paths import list_lessons
from tests.executed import without_pictures

SOLUTIONS = Path(__file__).parent.parent / "solutions"
NOTEBOOK = SOLUTIONS / "00_start_here" / "00_start_here.ipynb"


@pytest.fixture(scope="module")
def lesson():
    """Run the solution's cells in this process; the lesson as a namespace."""
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), namespace)
    return SimpleNamespace(**namespace)


def cells(lesson):
    return nbformat.read(SOLUTIONS / lesson / f"{lesson}.ipynb", as_version=4).cells


def test_the_map_links_every_lesson_with_the_time_that_its_first_cell_states():
    (text,) = (cell.source for cell in cells("00_start_here") if cell.id == "course-map")
    rows = re.findall(r"^\| (\d\d) \| (.+?) \| .+ \| (.+?) \|$", text, re.M)
    lessons = list_lessons(SOLUTIONS)
    assert [number for number, _, _ in rows] == [lesson[:2] for lesson in lessons]
    for (_, name, time), lesson in zip(rows, lessons, strict=True):
        assert lesson == "00_start_here" or f"(../{lesson}/{lesson}.ipynb)" in name
        assert re.search(rf"\*\*Reading[^:]*: {re.escape(time)}", cells(lesson)[0].source), lesson


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


def test_road_and_building_fill_more_than_half_and_the_fence_is_the_rarest(lesson):
    share = dict(zip(lesson.valid.classes, lesson.share, strict=True))
    assert share["road"] + share["building"] > 50
    assert min(share, key=share.get) == "fence"


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


def test_a_number_that_is_not_computed_yet_is_no_wrong_answer():
    with pytest.raises(NotImplementedError, match="first: compute road_percent"):
        checks.road_percent(NotYet("compute road_percent"))
