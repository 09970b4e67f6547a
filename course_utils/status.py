"""``course status``, and the card of lesson 00: how far a learner is."""

import html
from pathlib import Path

from course_utils import progress
from course_utils.checks.cards import in_notebook
from course_utils.errors import CourseError
from course_utils.execution import run_by
from course_utils.hand_in.record import read_record, record_path
from course_utils.hand_in.tasks import Task, get_task, task_names
from course_utils.paths import course_root, list_lessons
from course_utils.table import text_table

_ALL = "all lessons"
_HEADINGS = ("lesson", "exercises passed", "points so far", "task: mean IoU on validation")


def show(root: Path | None = None) -> None:
    """Print the table of lessons, or show it as a card in a student's notebook.

    It is about what this copy's own checks have said; only the grader gives marks. Under it,
    nothing is shown.
    """
    if run_by() != "student":
        return
    try:
        root = root or course_root()
        rows = status_rows(root)
    except (CourseError, OSError) as error:
        if not in_notebook():
            raise
        print(f"No progress to show: {error}")
        return
    notes = _notes(root, rows)
    plain = "\n".join([text_table(_HEADINGS, rows), "", *notes])
    if in_notebook():
        from IPython.display import display

        display({"text/plain": plain, "text/html": _html(rows, notes)}, raw=True)
    else:
        print(plain)


def status_rows(root: Path) -> list[list[str]]:
    """Return a row of each lesson (name, exercises, points, what its tasks reached), and of all."""
    noted, points = progress.read(root), progress.read_points(root)
    rows, reached = [], []
    for lesson in list_lessons(root / "lessons"):
        mine = noted.get(lesson, {})
        standing = progress.standing(points.get(lesson, {}), mine)
        reached.append(standing)
        folder = root / "lessons" / lesson
        tasks = [_told(get_task(name), mine, folder) for name in task_names(lesson)]
        rows.append([lesson, *_counted(standing), "; ".join(tasks) or "-"])
    return [*rows, [_ALL, *_counted(sum(reached, progress.Standing())), "-"]]


def _counted(standing: progress.Standing) -> tuple[str, str]:
    return (
        f"{standing.passed} of {standing.exercises}",
        f"{standing.marks:g} of {standing.points:g}",
    )


def _told(task: Task, noted: dict, folder: Path) -> str:
    """Return what a task has reached, against its bounds."""
    iou = noted.get(task.grade_id)
    if task.kind == "model":
        task, iou = _recorded(task, folder)
    bounds = f"(marks {task.low:.2f} to {task.high:.2f})"
    if not isinstance(iou, float):
        return f"not yet {bounds}"
    return f"{iou:.2f} {bounds}, about {task.marks(iou):.1f} of {task.points:g}"


def _recorded(task: Task, folder: Path) -> tuple[Task, float | None]:
    """Return what the training record says of a model, under the profile that it names."""
    record = read_record(record_path(task.name, folder))
    try:
        task = get_task(task.name, record["profile"])
        return task, task.stated_iou(record)
    except (ValueError, KeyError, TypeError, CourseError):
        return task, None


def _notes(root: Path, rows: list[list[str]]) -> list[str]:
    notes = []
    if all(row[1].startswith("0 ") for row in rows):
        notes.append("Nothing is passed yet: the first check is in lesson 00.")
    if (root / "solutions").is_dir():  # not in what an instructor gives to a class
        notes.append("Learning alone? Each notebook, solved, lies in solutions/. Try first.")
    return notes


def _html(rows: list[list[str]], notes: list[str]) -> str:
    """Return the table as HTML, in the theme's own colours."""
    left = 'style="text-align: left; vertical-align: top"'
    head = "".join(f'<th scope="col" {left}>{html.escape(text)}</th>' for text in _HEADINGS)
    body = "".join(
        f'<tr><th scope="row" {left}>{_linked(lesson)}</th>'
        + "".join(f"<td {left}>{html.escape(text)}</td>" for text in texts)
        + "</tr>"
        for lesson, *texts in rows
    )
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _linked(lesson: str) -> str:
    """Return a lesson's name as a link that opens it from any other lesson's notebook."""
    name = html.escape(lesson)
    return name if lesson == _ALL else f'<a href="../{name}/{name}.ipynb">{name}</a>'
