"""The demo's class: every student gets the mark that he deserves, and a reason."""

import json
import shutil
from pathlib import Path

import pytest

from course_utils.grading import sandbox
from course_utils.grading.demo import demo

COURSE = Path(__file__).parents[1]
NET = "06_unet_from_scratch"
START = "00_start_here"


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Return the demo's hand-ins by student and lesson, and its folder."""
    root = tmp_path_factory.mktemp("instructor")
    shutil.copytree(COURSE / "solutions", root / "solutions")
    shutil.copy(COURSE / "environment.yml", root)
    with pytest.MonkeyPatch.context() as environment:  # the demo sets it for its processes
        environment.setenv("COURSE_DATA", str(root / "data" / "cache"))
        found = demo(root)
    assert not (root / "grading").exists(), "the demo must not touch an instructor's grading/"
    return {(one.student, one.lesson): one for one in found}, root / "build" / "demo"


pytestmark = pytest.mark.slow


def task(marked, student):
    (record,) = marked[0][student, NET].tasks
    return record


def exercises(marked, student):
    """Return the points for code only."""
    one = marked[0][student, NET]
    cells = {name: mark for name, mark in one.marks.items() if not mark.task}
    return sum(mark.score or 0 for mark in cells.values()), sum(m.points for m in cells.values())


def remarks(marked, student):
    return "; ".join(marked[0][student, NET].remarks)


def test_excellent_work_gets_every_point(marked):
    one = marked[0]["Ada-Excellent", NET]
    assert one.total == one.points
    assert marked[0]["Ada-Excellent", START].total == marked[0]["Ada-Excellent", START].points


def test_too_few_epochs_cost_points_of_the_task_only(marked):
    got, possible = exercises(marked, "Ben-Hurried")
    assert got == possible
    record = task(marked, "Ben-Hurried")
    assert record["marks"] < 10
    assert record["iou"] < task(marked, "Ada-Excellent")["iou"]
    assert "marks" in remarks(marked, "Ben-Hurried")


def test_half_of_the_exercises_get_about_half_of_the_points(marked):
    got, possible = exercises(marked, "Cleo-Halfway")
    assert 0.15 * possible < got < 0.85 * possible
    assert "stub is still there" in remarks(marked, "Cleo-Halfway")
    assert 0 < task(marked, "Cleo-Halfway")["iou"] < task(marked, "Ada-Excellent")["iou"]


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ("Dan-Pickle", "pickle"),
        ("Finn-Forgetful", "no file models/unet.onnx"),
        ("Gus-Mixup", "task 'classical', not of 'unet'"),
    ],
)
def test_a_refused_model_costs_the_task_and_says_why(marked, student, reason):
    assert task(marked, student)["marks"] == 0
    assert reason in remarks(marked, student)


def test_tampering_wins_nothing_and_is_named(marked):
    one = marked[0]["Eve-Tamper", NET]
    assert one.total == 0
    assert task(marked, "Eve-Tamper")["iou"] < 0.1
    assert "course_utils.metrics.ConfusionMatrix.mean_iou" in one.tampered
    assert any("checks" in name for name in one.tampered)


def test_a_copied_model_is_named_at_both(marked):
    assert marked[0]["Hana-Copy", NET].same_model_as == ["Ada-Excellent"]
    assert marked[0]["Ada-Excellent", NET].same_model_as == ["Hana-Copy"]


def test_every_mark_is_reported_and_exported(marked):
    place = marked[1]
    page = (place / "grading" / "report.html").read_text()
    assert all(student.replace("-", " ") in page for student, _ in marked[0])
    assert "Weak isolation" not in page or sandbox.isolation_level() == sandbox.LIMITS
    names = json.loads((place / "grading" / "students.json").read_text())
    assert len(names) == 8
    assert (place / "grading" / "marks-moodle.csv").exists()
    for student, lesson in marked[0]:
        assert (place / "grading/feedback" / student / lesson / f"{lesson}.html").exists()
