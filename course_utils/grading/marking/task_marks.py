"""The marks of tasks: from the trusted scorer into results, gradebook and notebook.

A task's result is the scorer's record (:class:`course_utils.grading.marking.scorer.Score`, as
plain JSON values) with the grade id of its cell. Marks are always worked out from
the IoU and the bounds in tasks.toml, so they follow when the bounds change.
"""

import json
import math
from pathlib import Path

from course_utils.grading.marking.settings import Settings
from course_utils.hand_in.record import model_path
from course_utils.hand_in.submit import misnamed
from course_utils.hand_in.tasks import Task, get_task, task_names


def tasks_by_grade_id(lesson: str) -> dict[str, Task]:
    """Return the tasks of a lesson under the grade ids of their cells."""
    tasks = [get_task(name, "quick") for name in task_names(lesson)]
    return {task.grade_id: task for task in tasks}


def prepare(task: Task, executed: Path, course: Path) -> None:
    """Lay out hidden images, without labels, where the notebook's function will look for them.

    Parameters
    ----------
    task
        Whose result is a function. Its cell is about to run.
    executed
        The folder that the notebook runs in.
    course
        The folder that holds ``grading/secret_seed``.
    """
    from course_utils.grading.marking.function_marks import prepare_function_task
    from course_utils.grading.workplace import secret_seed

    prepare_function_task(executed, task, secret_seed(course))


def mark_task(
    name: str,
    *,
    handed_in: Path,
    executed: Path,
    settings: Settings,
    isolation: str,
    late: bool = False,
) -> dict:
    """Return one task's result; whatever is wrong with the hand-in is its ``reason``.

    Parameters
    ----------
    name
        The task.
    handed_in
        The hand-in as it was collected: model files are read from here.
    executed
        The folder that the notebook has run in: a function's masks are read from here.
    settings
        For the secret seed, the folder of data, and whether a sandbox must be.
    isolation
        The isolation that the notebook ran in.
    late
        Whether a function took longer than the task allows.

    Raises
    ------
    CourseError
        If the instructor's side is at fault: missing data, no isolation.
    """
    from course_utils.grading.marking import scorer
    from course_utils.grading.workplace import secret_seed

    task = get_task(name, "quick")
    if task.kind == "function":
        from course_utils.grading.marking.function_marks import score_function_task

        record = score_function_task(
            executed, task, secret_seed(settings.course), isolation=isolation, late=late
        ).as_record()
    else:
        path = model_path(name, handed_in)
        record = scorer.score_model_file(path, name, settings).as_record()
        if not path.exists() and (told := misnamed(path)):
            record["reason"] = f"no {path.name}, {told}"
    result = record | {"grade_id": task.grade_id, "kind": task.kind}
    update_marks({task.grade_id: result})
    return result


def update_marks(results: dict[str, dict]) -> bool:
    """Work out marks and bounds anew from each IoU, in place; tell whether one has changed."""
    changed = False
    for result in results.values():
        task = get_task(result["task"], result["profile"])
        iou = result["iou"]
        marks = 0.0 if iou is None else task.marks(iou)
        now = {
            "marks": marks,
            "points": float(task.points),
            "floor": task.floor,
            "low": task.low,
            "high": task.high,
        }
        changed |= any(result.get(key) != value for key, value in now.items())
        result |= now
    return changed


def given(result: dict) -> float | None:
    """Return a task's marks; None where they wait for the instructor."""
    return None if result.get("waits") else result["marks"]


def describe(result: dict) -> str:
    """Return a task's result as one line for student and instructor."""
    if given(result) is None:
        return f"not marked yet: {result['reason']}"
    marks = f"{result['marks']:.4g} of {result['points']:.4g} points"
    if result["iou"] is None:
        return f"{marks}: {result['reason']}"
    low, high = result["interval"] or (math.nan, math.nan)
    return (
        f"{marks}: {result.get('measure', 'mean IoU')} {result['iou']:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}) on {result['source']}; "
        f"floor {result['floor']:g}, marks from {result['low']:g}, full at {result['high']:g}"
    )


def write_mark(gradebook, where: dict, result: dict) -> None:
    """Write a task's mark as the automatic score of its cell; one by hand still counts more."""
    grade = gradebook.find_grade(
        result["grade_id"], where["notebook"], where["assignment"], where["student"]
    )
    marks = given(result)
    grade.auto_score = None if marks is None else min(max(marks, 0.0), grade.max_score)
    grade.needs_manual_grade = grade.manual_score is not None or marks is None


def annotate(notebook: dict, result: dict) -> str:
    """Return an executed notebook's text with each task's result in its cell and metadata.

    Parameters
    ----------
    notebook
        The content of the ``.ipynb``; it is changed.
    result
        The job's: ``tasks`` by grade id, ``problem`` with the files, ``hand_in_hash`` of them.
    """
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if grade_id in result["tasks"]:
            cell["outputs"] = [output_of(result["tasks"][grade_id])]
    kept = ("tasks", "problem", "hand_in_hash")
    notebook["metadata"]["course"] |= {key: result[key] for key in kept}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def task_comments(cells: list[dict], results: dict[str, dict]) -> dict[str, str]:
    """Return the comment for the solution cell before each task, by its grade id."""
    places = comment_places(cells, results)
    return {place: describe(results[grade_id]) for grade_id, place in places.items()}


def comment_places(cells: list[dict], results: dict[str, dict]) -> dict[str, str]:
    """Return the grade id of the solution cell before each task, by the task's."""
    places, before = {}, None
    for cell in cells:
        meta = cell["metadata"].get("nbgrader", {})
        if meta.get("solution"):
            before = meta["grade_id"]
        elif before and meta.get("grade_id") in results:
            places[meta["grade_id"]] = before
    return places


def output_of(result: dict) -> dict:
    """Return a notebook output that says a task's result."""
    return {"output_type": "stream", "name": "stdout", "text": describe(result) + "\n"}
