"""``lessons/`` from ``solutions/``: the one source, checked, stripped of its answers, put in place.

nbgrader's ``generate_assignment`` does the stripping. Around it stand the checks
that keep its output the same bytes at every run, and an exchange of folders that
leaves the old release where anything goes wrong.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from tqdm import tqdm

from course_utils.errors import CourseError
from course_utils.files import exchange, with_unix_lines, write_atomic
from course_utils.grading.marking.task_marks import tasks_by_grade_id
from course_utils.hand_in.notebook import cells_hash, is_untouched, read_notebook
from course_utils.hand_in.show_cells import SHOW, left_out
from course_utils.paths import MARKS_FILE, NOT_RELEASED, course_root, list_lessons, previous_name


def make_release(root: Path | None = None) -> list[str]:
    """Make ``lessons/`` anew from ``solutions/`` and put it in place in one step.

    A failure leaves the old release. ``models/`` that somebody trained in ``lessons/`` are kept.
    If there are files that are no release's, or notebooks with outputs, the old folder is kept
    beside the new one as ``lessons.previous-1``.

    Returns
    -------
    list of str
        The lessons that were released.

    Raises
    ------
    CourseError
        If a notebook breaks a rule of :func:`source_faults`, or nbgrader refuses it.
    """
    root = root or course_root()
    with tempfile.TemporaryDirectory(dir=root, prefix=".release-") as draft_root:
        draft = generate(root, _lessons(root), Path(draft_root))
        lessons, old = root / "lessons", Path(draft_root) / "old"
        exchange(draft, lessons, old)
        for kept in [*old.glob("*/models"), *old.glob("*.zip")]:
            if (target := lessons / kept.relative_to(old)).parent.is_dir():
                os.rename(kept, target)
        if old.exists() and _worked_in(old, lessons):
            aside = previous_name(lessons)
            os.rename(old, aside)
            print(f"Somebody has worked in lessons/; what it held is kept in {aside.name}/.")
    names = list_lessons(root / "lessons")
    print(f"Released {len(names)} lessons: {', '.join(names)}")
    return names


def _worked_in(old: Path, new: Path) -> bool:
    """Tell whether a folder of lessons holds more than a release does."""
    for path in filter(Path.is_file, old.rglob("*")):
        inside = path.relative_to(old)
        if any(part.startswith((".", "__")) for part in inside.parts):
            continue
        if not (new / inside).exists():
            return True
        if path.suffix == ".ipynb" and _changed(path):
            return True
    return False


def _changed(path: Path) -> bool:
    """Tell whether a notebook was run, or has other cells than it was released with."""
    try:
        content, notebook = read_notebook(path)
    except CourseError:
        return True
    run = re.search(rb'"execution_count": \d', content)
    return bool(run) or ("released" in notebook["metadata"] and not is_untouched(notebook))


def check_release(root: Path | None = None) -> None:
    """Compare ``lessons/`` with what ``solutions/`` give now.

    Raises
    ------
    CourseError
        If they differ; it lists the files that are changed, missing or stale.
    """
    root = root or course_root()
    with tempfile.TemporaryDirectory() as draft_root:
        wanted = _contents(generate(root, _lessons(root), Path(draft_root)))
    found = _contents(root / "lessons")
    differences = [
        f"{word} {', '.join(map(str, sorted(paths)))}"
        for word, paths in [
            ("changed:", {p for p in wanted.keys() & found.keys() if wanted[p] != found[p]}),
            ("missing:", wanted.keys() - found.keys()),
            ("stale:", found.keys() - wanted.keys()),
        ]
        if paths
    ]
    if differences:
        raise CourseError(
            f"lessons/ is not what solutions/ give ({'; '.join(differences)}). "
            "Run `course release`."
        )
    print("lessons/ is up to date.")


def generate(root: Path, lessons: Iterable[str], into: Path, database: str | None = None) -> Path:
    """Make the release of ``lessons`` below ``into``; return the folder that holds it.

    Parameters
    ----------
    root
        The course's folder.
    lessons
        Full names of lessons.
    into
        An empty folder to work in.
    database
        URL of a gradebook in which the lessons are registered too.

    Raises
    ------
    CourseError
        If a source notebook is faulty or nbgrader refuses it.
    """
    from traitlets.config import Config

    from course_utils.grading.marking.nbgrader_setup import configure

    into = into.resolve()
    marks: dict[str, dict[str, float]] = {}
    for lesson in lessons:
        notebook = sound_source(root, lesson)
        shutil.copytree(
            root / "solutions" / lesson, into / "solutions" / lesson, ignore=NOT_RELEASED
        )
        marks[lesson] = {
            meta["grade_id"]: meta["points"] for meta in _nbgrader_cells(notebook) if meta["grade"]
        }
    config = Config()
    configure(config, into)
    config.SaveCells.enabled = database is not None
    for lesson in tqdm(marks, desc="releasing", unit="lesson", disable=len(marks) < 2, leave=False):
        _generate_assignment(config, into, lesson, database)
        path = into / "lessons" / lesson / f"{lesson}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"]["released"] = {"sha256": cells_hash(notebook)}
        write_atomic(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        for beside in filter(Path.is_file, path.parent.rglob("*")):
            # Whatever system and umask: nbgrader gives each the mode 644.
            write_atomic(beside, with_unix_lines(beside.read_bytes()))
    write_atomic(into / "lessons" / MARKS_FILE, json.dumps(marks, indent=1) + "\n")
    return into / "lessons"


def sound_source(root: Path, lesson: str) -> dict:
    """Return a solution notebook, or raise if :func:`source_faults` finds any."""
    path = root / "solutions" / lesson / f"{lesson}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if faults := source_faults(lesson, notebook):
        raise CourseError(f"solutions/{lesson}/{lesson}.ipynb: {'; '.join(faults)}.")
    return notebook


def source_faults(lesson: str, notebook: dict) -> list[str]:
    """Return what is wrong with a solution notebook, one phrase each.

    Every cell needs an id of its own and no outputs (else the release would change
    from run to run), every marked cell a grade id of its own, every solution
    cell in code a region to cut out, every task of the lesson a test cell with its points. What
    is tagged ``show`` is left out in marking, so nothing that counts may need it.
    """
    cells = notebook["cells"]
    faults = []
    if missing := [str(i) for i, cell in enumerate(cells) if not cell.get("id")]:
        faults.append(f"cells without an id: number {', '.join(missing)}")
    for what, names in [
        ("cell id", [cell["id"] for cell in cells if cell.get("id")]),
        ("grade id", [meta["grade_id"] for meta in _nbgrader_cells(notebook)]),
    ]:
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            faults.append(f"{what} used twice: {', '.join(repeated)}")
    if run := [_name(cell) for cell in cells if cell.get("outputs") or cell.get("execution_count")]:
        faults.append(f"cells with outputs (clear them): {', '.join(run)}")
    for cell in cells:
        meta = cell["metadata"].get("nbgrader", {})
        source = "".join(cell["source"])
        if meta.get("solution") and cell["cell_type"] == "code" and "BEGIN SOLUTION" not in source:
            faults.append(f"solution cell without ### BEGIN SOLUTION: {_name(cell)}")
    out = {cells[place].get("id") for place in left_out(cells, cells)}
    tagged = [cell for cell in cells if SHOW in cell["metadata"].get("tags", [])]
    if needed := [_name(cell) for cell in tagged if cell.get("id") not in out]:
        faults.append(f"tagged {SHOW}, but marked or needed by what is: {', '.join(needed)}")
    points = {meta["grade_id"]: meta.get("points") for meta in _nbgrader_cells(notebook)}
    for task in tasks_by_grade_id(lesson).values():
        if points.get(task.grade_id) != task.points:
            faults.append(
                f"task {task.name} needs a test cell {task.grade_id} of {task.points} points "
                f"(found {points.get(task.grade_id, 'none')})"
            )
    return faults


def _nbgrader_cells(notebook: dict) -> list[dict]:
    return [c["metadata"]["nbgrader"] for c in notebook["cells"] if "nbgrader" in c["metadata"]]


def _name(cell: dict) -> str:
    return cell.get("id") or "".join(cell["source"])[:30]


def _lessons(root: Path) -> list[str]:
    if lessons := list_lessons(root / "solutions"):
        return lessons
    raise CourseError(
        f"{root} has no solutions/NN_name/NN_name.ipynb, so there is nothing to release. "
        "Run this in the instructor's copy of the course."
    )


def _generate_assignment(config, root: Path, lesson: str, database: str | None) -> None:
    """Run nbgrader's converter on one lesson; its log becomes the error's text."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    log, text = logging.getLogger(f"course.release.{lesson}"), StringIO()
    log.handlers, log.propagate = [logging.StreamHandler(text)], False
    course = CourseDirectory(config=config, assignment_id=lesson)
    if database:
        course.db_url = database
    app = GenerateAssignment(coursedir=course, config=config, log=log)
    app.force, app.no_database = True, database is None
    try:
        app.start()
    except Exception:
        lines = [line for line in text.getvalue().splitlines() if "Error" in line]
        raise CourseError(
            f"nbgrader does not release {lesson}: {(lines or text.getvalue().splitlines())[-1]}"
        ) from None


def _contents(folder: Path) -> dict[Path, bytes]:
    """Return the released files below ``folder`` by path, without what a reader's work adds."""
    return {
        path.relative_to(folder): with_unix_lines(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix not in {".zip", ".onnx", ".pt"}
        and not {"models", "__pycache__"}.intersection(path.relative_to(folder).parts)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
