"""Progress survives the kernel, is shown by one function, and never costs a mark."""

import json
import os
from pathlib import Path

import pytest

from course_utils import progress, status
from course_utils.checks import CheckFailed
from course_utils.checks.lesson_00 import class_at
from course_utils.hand_in import record
from tests.test_notebooks import LESSONS, code_cells

LESSON = "00_start_here"
POINTS = {
    LESSON: {"test_class_at": 1, "test_count_pixels": 2},
    "06_unet_from_scratch": {"test_unet": 2, "task_unet": 10},
}


def right(mask, row, column, classes):
    return classes[mask[row, column]] if mask[row, column] < len(classes) else "void"


def wrong(mask, row, column, classes):
    return classes[0]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Work in a lesson's folder of a small course, as a student's kernel does."""
    root = tmp_path / "course"
    for lesson in POINTS:
        (root / "lessons" / lesson).mkdir(parents=True)
        (root / "lessons" / lesson / f"{lesson}.ipynb").write_text("{}")
    (root / "lessons" / "marks.json").write_text(json.dumps(POINTS))
    (root / "environment.yml").touch()
    monkeypatch.chdir(root / "lessons" / LESSON)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    return root


def no_folder():
    raise FileNotFoundError("the folder is gone")


def check(answer):
    if answer is right:
        class_at(right)
    else:
        with pytest.raises(CheckFailed):
            class_at(answer)


def test_a_check_is_noted_as_it_last_was(root):
    check(right)
    assert json.loads((root / "progress.json").read_text()) == {LESSON: {"test_class_at": True}}
    assert progress.read(root) == {LESSON: {"test_class_at": True}}
    check(wrong)
    assert progress.read(root)[LESSON] == {"test_class_at": False}


def test_what_is_noted_is_counted_in_points(root):
    standing = progress.note("test_count_pixels", True)
    assert str(standing) == "1 of 2 exercises passed, 2 of 3 points so far"
    assert progress.note("test_of_another_lesson", True) is None


@pytest.mark.parametrize("run_by", ["autograde", "validate"])
def test_nothing_is_written_under_nbgrader(root, monkeypatch, capsys, run_by):
    monkeypatch.setenv("NBGRADER_EXECUTION", run_by)
    check(right)
    check(wrong)
    capsys.readouterr()
    status.show(root)
    assert not (root / "progress.json").exists()
    assert capsys.readouterr().out == ""


def test_nothing_is_written_outside_of_a_lesson_s_folder(root, monkeypatch):
    for place in (root, root / "lessons"):
        monkeypatch.chdir(place)
        check(right)
    (root / "lessons" / "marks.json").unlink()
    monkeypatch.chdir(root / "lessons" / LESSON)
    check(right)
    assert not (root / "progress.json").exists()


def test_what_is_noted_stays_out_of_git():
    ignored = (Path(__file__).parents[1] / ".gitignore").read_text().splitlines()
    assert f"/{progress.FILE}" in ignored


DAMAGED = ["", "{", "[]", "3", '{"00_start_here": 3}', '{"00_start_here": {"test_class_at": "x"}}']


@pytest.mark.parametrize("content", [*DAMAGED, "\udcff", "[" * 100_000])
def test_a_damaged_file_is_ignored_and_written_anew(root, capsys, content):
    (root / "progress.json").write_bytes(content.encode(errors="surrogateescape"))
    status.show(root)
    assert "0 of 2" in capsys.readouterr().out
    check(right)
    assert progress.read(root) == {LESSON: {"test_class_at": True}}


def test_a_file_that_cannot_be_written_costs_nothing(root, monkeypatch, capsys):
    (root / "progress.json").mkdir()
    check(right)
    check(wrong)
    monkeypatch.setattr(os, "getcwd", no_folder)
    check(right)
    assert capsys.readouterr().out.count("✓") == 2


def test_status_tells_exercises_points_and_tasks_against_their_bounds(root, capsys):
    check(right)
    capsys.readouterr()
    status.show(root)
    text = capsys.readouterr().out
    first, net, total = text.splitlines()[2:5]
    assert first.split() == [LESSON, *["1", "of", "2", "1", "of", "3", "-"]]
    assert "0 of 1" in net
    assert "not yet (marks 0.45 to 0.72)" in net
    assert total.split()[:8] == ["all", "lessons", "1", "of", "3", "1", "of", "5"]
    assert "solutions" not in text

    path = record.record_path("unet", root / "lessons" / "06_unet_from_scratch")
    path.parent.mkdir()
    record.write_record(path, {"profile": "full", "validation": {"mean IoU": 0.33}})
    (root / "solutions").mkdir()
    status.show(root)
    text = capsys.readouterr().out
    assert "0.33 (marks 0.28 to 0.38), about 5.0 of 10" in text
    assert "solved, lies in solutions/" in text
    for damaged in ("{", '{"profile": "x"}', '{"profile": "quick", "validation": {}}'):
        path.write_text(damaged)
        status.show(root)
        assert "not yet (marks 0.45 to 0.72)" in capsys.readouterr().out


def test_a_notebook_shows_the_same_table(root, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(status, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    status.show(root)
    (card,) = shown
    for row in status.status_rows(root):
        assert all(text in card["text/plain"] and f">{text}<" in card["text/html"] for text in row)
    for lesson, *_ in status.status_rows(root)[:-1]:
        assert f'<a href="../{lesson}/{lesson}.ipynb">' in card["text/html"]


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_test_cell_is_named_after_the_exercise_that_it_checks(lesson):
    from course_utils.checks.cards import in_checks

    for cell in code_cells(lesson):
        meta = cell.metadata.get("nbgrader", {})
        if meta.get("grade") and not meta["grade_id"].startswith("task_"):
            name = meta["grade_id"].removeprefix("test_")
            assert f"checks.{name}(" in cell.source
            assert in_checks(name) == name
