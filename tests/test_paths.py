"""The course is found from any folder inside it, and its lessons by number or name."""

import pytest

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.paths import course_root, data_folder, list_lessons, resolve_lesson


@pytest.fixture
def course(tmp_path):
    (tmp_path / "environment.yml").write_text("name: x\n")
    for name in ("00_start_here", "06_unet_from_scratch"):
        folder = tmp_path / "lessons" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.ipynb").write_text("{}")
    return tmp_path


def test_course_is_found_from_a_folder_deep_inside(course):
    deep = course / "lessons" / "06_unet_from_scratch" / "models"
    deep.mkdir()
    assert course_root(deep) == course


def test_course_without_lessons_yet_is_found_by_its_solutions(tmp_path):
    (tmp_path / "environment.yml").write_text("name: x\n")
    (tmp_path / "solutions").mkdir()
    assert course_root(tmp_path) == tmp_path


def test_outside_of_a_course_its_checkout_is_taken_else_one_line_says_what_to_do(
    course, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(paths, "__file__", str(course / "course_utils" / "paths.py"))
    assert course_root(elsewhere) == course
    monkeypatch.setattr(paths, "__file__", str(elsewhere / "course_utils" / "paths.py"))
    with pytest.raises(CourseError, match=r"not inside a copy of the course.*Change into"):
        course_root(elsewhere)


@pytest.mark.parametrize(
    "name",
    [
        "6",
        "06",
        "06_unet_from_scratch",
        "lessons/06_unet_from_scratch/",
        "06_unet_from_scratch.ipynb",
    ],
)
def test_lesson_is_known_by_number_name_and_path(course, name):
    assert resolve_lesson(name, course / "lessons") == "06_unet_from_scratch"


def test_the_folder_that_one_is_in_is_a_lesson(course, monkeypatch):
    monkeypatch.chdir(course / "lessons" / "06_unet_from_scratch")
    assert resolve_lesson(".", course / "lessons") == "06_unet_from_scratch"


def test_renamed_notebook_is_told_from_a_lesson_that_does_not_exist(course):
    folder = course / "lessons" / "06_unet_from_scratch"
    (folder / "06_unet_from_scratch.ipynb").rename(folder / "06_unet_from_scratch (1).ipynb")
    with pytest.raises(CourseError, match=r"has no 06_unet_from_scratch.ipynb; .*\(1\).ipynb"):
        resolve_lesson("06", course / "lessons")


def test_two_lessons_of_one_number_are_not_called_renamed(course):
    folder = course / "lessons" / "06_other"
    folder.mkdir()
    (folder / "06_other.ipynb").write_text("{}")
    with pytest.raises(CourseError, match=r"The lessons are: .*06_other"):
        resolve_lesson("06", course / "lessons")


@pytest.mark.parametrize("name", ["7", "unet", "", "60"])
def test_unknown_lesson_lists_those_that_are_there(course, name):
    with pytest.raises(CourseError, match="The lessons are: 00_start_here, 06_unet_from_scratch"):
        resolve_lesson(name, course / "lessons")


def test_only_folders_with_a_notebook_of_their_own_name_are_lessons(course):
    (course / "lessons" / "07_empty").mkdir()
    (course / "lessons" / "notes").mkdir()
    (course / "lessons" / "06_unet_from_scratch" / "scratch.ipynb").write_text("{}")
    assert list_lessons(course / "lessons") == ["00_start_here", "06_unet_from_scratch"]


def test_data_folder_is_a_setting_or_lies_in_the_course(course, monkeypatch):
    monkeypatch.chdir(course)
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert data_folder() == course / "data" / "cache"
    monkeypatch.setenv("COURSE_DATA", "~/pictures")
    assert data_folder().name == "pictures"
    assert "~" not in str(data_folder())
