"""lessons/ are what solutions/ give, always the same bytes, and never a half of them."""

import json
import shutil

import pytest

from course_utils.errors import CourseError
from course_utils.grading.publishing import release as release_module
from course_utils.grading.publishing.release import check_release, make_release, source_faults
from tests.mini_course import HIDDEN, MINI, NET, make_course, mini_cells, save


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path / "course")


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_release_has_stubs_and_no_answer(root):
    assert make_release(root) == [NET, MINI]
    text = (root / "lessons" / MINI / f"{MINI}.ipynb").read_text()
    assert "NotImplementedError" in text
    assert "return 2 * x" not in text
    assert "BEGIN" not in text
    assert HIDDEN not in text
    assert (root / "lessons" / MINI / "beside.txt").exists()


def test_the_same_solutions_give_the_same_bytes(root):
    make_release(root)
    first = tree(root / "lessons")
    make_release(root)
    assert tree(root / "lessons") == first
    check_release(root)


def test_stale_files_go_and_trained_models_stay(root):
    make_release(root)
    (root / "lessons" / "05_gone").mkdir()
    (root / "lessons" / MINI / "old.txt").write_text("old")
    models = root / "lessons" / NET / "models"
    models.mkdir()
    (models / "unet.onnx").write_bytes(b"trained")
    make_release(root)
    assert not (root / "lessons" / "05_gone").exists()
    assert not (root / "lessons" / MINI / "old.txt").exists()
    assert (root / "lessons.previous-1" / MINI / "old.txt").read_text() == "old"
    assert (models / "unet.onnx").read_bytes() == b"trained"
    assert not list(root.glob(".release-*"))


def test_lessons_that_somebody_worked_in_are_kept_aside(root, capsys):
    make_release(root)
    make_release(root)
    assert not list(root.glob("lessons.previous-*")), "nobody has"
    worked = root / "lessons" / MINI / f"{MINI}.ipynb"
    run = worked.read_text().replace('"execution_count": null', '"execution_count": 3', 1)
    written = worked.read_text().replace("raise NotImplementedError()", "return 2 * x", 1)
    for n, text in enumerate((run, written), 1):  # also where the outputs were cleared again
        assert text != worked.read_text()
        worked.write_text(text)
        capsys.readouterr()
        make_release(root)
        assert f"what it held is kept in lessons.previous-{n}/" in capsys.readouterr().out
        assert (root / f"lessons.previous-{n}" / MINI / f"{MINI}.ipynb").read_text() == text
    check_release(root)


def test_a_notebook_that_was_only_saved_again_is_no_work(root):
    make_release(root)
    path = root / "lessons" / MINI / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"] = {"display_name": "another", "name": "another"}
    path.write_text(json.dumps(notebook))
    make_release(root)
    assert not list(root.glob("lessons.previous-*"))


def test_nothing_of_an_instructors_run_is_released(root):
    for name in ("models/unet.onnx", ".ipynb_checkpoints/x.ipynb", "__pycache__/x.pyc", ".hidden"):
        path = root / "solutions" / NET / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    make_release(root)
    assert [p.name for p in (root / "lessons" / NET).iterdir()] == [f"{NET}.ipynb"]


@pytest.mark.parametrize("change", ["edit", "delete", "add"])
def test_check_names_what_differs(root, change):
    make_release(root)
    path = root / "lessons" / MINI / "beside.txt"
    if change == "edit":
        path.write_text("edited")
    elif change == "delete":
        path.unlink()
    else:
        path.with_name("more.txt").write_text("more")
    word = {"edit": "changed", "delete": "missing", "add": "stale"}[change]
    with pytest.raises(CourseError, match=rf"{word}: {MINI}/(beside|more).txt.*course release"):
        check_release(root)


def test_a_failure_leaves_the_old_release(root, monkeypatch):
    make_release(root)
    before = tree(root / "lessons")
    path = root / "solutions" / MINI / f"{MINI}.ipynb"
    path.write_text(path.read_text().replace('"id": "double"', '"id": "title"'))
    with pytest.raises(CourseError, match="cell id used twice: title"):
        make_release(root)
    assert tree(root / "lessons") == before
    shutil.rmtree(root / "solutions" / MINI)
    real = release_module.os.rename

    def fails_once(source, target):
        if str(target).endswith("lessons"):
            monkeypatch.setattr(release_module.os, "rename", real)
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(release_module.os, "rename", fails_once)
    with pytest.raises(OSError, match="disk full"):
        make_release(root)
    assert tree(root / "lessons") == before


def faults(change):
    cells = mini_cells()
    change(cells)
    return "; ".join(source_faults(MINI, {"cells": [json.loads(json.dumps(c)) for c in cells]}))


def test_a_sound_notebook_has_no_faults():
    assert faults(lambda cells: None) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[0].pop("id"), "cells without an id: number 0"),
        (lambda c: c[1].update(id="title"), "cell id used twice: title"),
        (lambda c: c[1].update(execution_count=3), r"cells with outputs (clear them): double"),
        (lambda c: c[1].update(source="x = 1"), "without ### BEGIN SOLUTION: double"),
        (
            lambda c: c[3]["metadata"]["nbgrader"].update(grade_id="double"),
            "grade id used twice: double",
        ),
        (
            lambda c: c[4]["metadata"].update(tags=["show"]),
            "tagged show, but marked or needed by what is: test-share",
        ),
    ],
)
def test_each_fault_of_a_notebook_is_named(change, words):
    assert words in faults(change)


def test_a_task_without_its_test_cell_is_a_fault():
    notebook = {"cells": [json.loads(json.dumps(cell)) for cell in mini_cells()]}
    assert "task unet needs a test cell task_unet of 10 points (found none)" in "; ".join(
        source_faults(NET, notebook)
    )


def test_nbgraders_own_refusal_becomes_one_line(root):
    cells = mini_cells()
    cells[1]["source"] = "### BEGIN SOLUTION\n1"
    save(root / "solutions" / MINI / f"{MINI}.ipynb", cells)
    with pytest.raises(CourseError, match="no end solution") as caught:
        make_release(root)
    assert "\n" not in str(caught.value)


def test_no_solutions_is_told(tmp_path):
    (tmp_path / "solutions").mkdir()
    with pytest.raises(CourseError, match="nothing to release"):
        make_release(tmp_path)
