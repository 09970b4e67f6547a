"""The demo's class: every student gets the mark that he deserves, and a reason."""

import json

import pytest

from course_utils.grading.demo import HURRIED
from course_utils.grading.marking import sandbox
from course_utils.hand_in.tasks import get_task

NET = "06_unet_from_scratch"
START = "00_start_here"
OTHERS = [lesson for name in HURRIED if (lesson := get_task(name).lesson) != NET]


pytestmark = pytest.mark.slow


def task(demo_run, student):
    (record,) = demo_run.marked[student, NET].tasks
    return record


def exercises(demo_run, student):
    """Return the points for code only."""
    one = demo_run.marked[student, NET]
    cells = {name: mark for name, mark in one.marks.items() if not mark.task}
    return sum(mark.score or 0 for mark in cells.values()), sum(m.points for m in cells.values())


def remarks(demo_run, student):
    return "; ".join(demo_run.marked[student, NET].remarks)


def test_excellent_work_gets_every_point(demo_run):
    one = demo_run.marked["Ada-Excellent", NET]
    assert one.total == one.points
    assert (
        demo_run.marked["Ada-Excellent", START].total
        == demo_run.marked["Ada-Excellent", START].points
    )


def test_too_few_epochs_cost_points_of_the_task_only(demo_run):
    got, possible = exercises(demo_run, "Ben-Hurried")
    assert got == possible
    record = task(demo_run, "Ben-Hurried")
    assert record["marks"] < 10
    assert record["iou"] < task(demo_run, "Ada-Excellent")["iou"]
    assert "marks" in remarks(demo_run, "Ben-Hurried")


@pytest.mark.parametrize("lesson", OTHERS)
def test_each_other_lesson_with_a_model_goes_the_whole_way(demo_run, lesson):
    one = demo_run.marked["Ben-Hurried", lesson]
    (record,) = (record for record in one.tasks if record["task"] in HURRIED)
    assert record["iou"] > 0.05
    assert record["marks"] < record["points"]
    for other in (other for other in one.tasks if other is not record):  # no time for it
        assert "no file" in other["reason"]
    code = [mark for mark in one.marks.values() if not mark.task]
    assert sum(mark.score for mark in code) == sum(mark.points for mark in code) > 0
    assert (demo_run.place / "grading/feedback/Ben-Hurried" / lesson / f"{lesson}.html").exists()


def test_half_of_the_exercises_get_about_half_of_the_points(demo_run):
    got, possible = exercises(demo_run, "Cleo-Halfway")
    assert 0.15 * possible < got < 0.85 * possible
    assert "stub is still there" in remarks(demo_run, "Cleo-Halfway")
    assert 0 < task(demo_run, "Cleo-Halfway")["iou"] < task(demo_run, "Ada-Excellent")["iou"]


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ("Dan-Pickle", "pickle"),
        ("Finn-Forgetful", "no file models/unet.onnx"),
        ("Gus-Mixup", "task 'classical', not of 'unet'"),
    ],
)
def test_a_refused_model_costs_the_task_and_says_why(demo_run, student, reason):
    assert task(demo_run, student)["marks"] == 0
    assert reason in remarks(demo_run, student)


def test_tampering_wins_nothing_and_is_named(demo_run):
    one = demo_run.marked["Eve-Tamper", NET]
    assert one.total == 0
    assert task(demo_run, "Eve-Tamper")["iou"] < 0.1
    assert "course_utils.metrics.ConfusionMatrix.mean_iou" in one.tampered
    assert any("checks" in name for name in one.tampered)


def test_a_copied_model_is_named_at_both(demo_run):
    assert demo_run.marked["Hana-Copy", NET].same_model_as == ["Ada-Excellent"]
    assert demo_run.marked["Ada-Excellent", NET].same_model_as == ["Hana-Copy"]


def test_every_mark_is_reported_and_exported(demo_run):
    place = demo_run.place
    page = (place / "grading" / "report.html").read_text()
    assert all(student.replace("-", " ") in page for student, _ in demo_run.marked)
    assert "Weak isolation" not in page or sandbox.isolation_level() == sandbox.LIMITS
    names = json.loads((place / "grading" / "students.json").read_text())
    assert len(names) == 8
    assert (place / "grading" / "marks-moodle.csv").exists()
    for student, lesson in demo_run.marked:
        assert (place / "grading/feedback" / student / lesson / f"{lesson}.html").exists()
