"""``course solve``: solution notebooks on fresh kernels, with what they cost and what they reach.

A solution is run like a student runs it: from the top, training included. Its test
cells are then read as the grader reads them, and its tasks are marked by the trusted
scorer on hidden images.
"""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.grading.marking import sandbox, task_marks
from course_utils.grading.marking.settings import Settings
from course_utils.grading.publishing.time_left import CellBar, usual_seconds
from course_utils.hand_in.tasks import profile
from course_utils.paths import NOT_RELEASED, course_root, data_setting, list_lessons, resolve_lesson
from course_utils.table import text_table

# A cell that hangs must end; in `full` one trains for hours on a CPU.
_CELL_SECONDS = {"quick": 1800, "full": 24 * 3600}


@dataclass
class Solved:
    """What running one notebook has come to.

    Attributes
    ----------
    seconds
        Wall-clock time from the kernel's start to its end.
    peak_bytes
        Largest resident memory of the kernel and its children together.
    marks, points
        Of all cells that are marked automatically.
    tasks
        The scorer's records by grade id.
    failures
        What went wrong, one line each.
    """

    lesson: str
    seconds: float = 0
    peak_bytes: int = 0
    marks: float = 0
    points: float = 0
    tasks: dict[str, dict] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def solve(
    lessons: list[str] | None = None, keep: Path | None = None, root: Path | None = None
) -> list[Solved]:
    """Run solutions and print the table: lesson, seconds, peak memory, marks, IoU and bounds.

    Parameters
    ----------
    lessons
        Which; default all.
    keep
        A folder to leave each executed lesson in, with the models that it trained.
    root
        The course's folder.

    Raises
    ------
    CourseError
        If a cell fails, a test cell has not full points, or a task stays below high; and
        if nothing can be left in ``keep``: before a lesson is run, which may take long.
    """
    root = root or course_root()
    names = [resolve_lesson(name, root / "solutions") for name in lessons or []]
    names = names or list_lessons(root / "solutions")
    if not names:
        raise CourseError(f"{root} has no solutions/, so there is nothing to solve.")
    if keep is not None:
        if keep.resolve() in (root / "solutions", root / "lessons"):
            raise CourseError(f"{keep} holds the course's own notebooks. Name another folder.")
        _try_folder(keep)
    done = []
    with tempfile.TemporaryDirectory(prefix="course-solve-", ignore_cleanup_errors=True) as scratch:
        for name in names:
            folder = Path(scratch) / name
            shutil.copytree(root / "solutions" / name, folder, ignore=NOT_RELEASED)
            done.append(run_lesson(folder, root))
            if keep is not None:
                shutil.rmtree(keep / name, ignore_errors=True)
                shutil.copytree(folder, keep / name)
    rows = []
    for one in done:
        memory = f"{one.peak_bytes / 1e9:.2f} GB"
        marks = f"{one.marks:.4g} of {one.points:.4g}"
        costs = [round(one.seconds), memory, marks]
        for grade_id, task in (one.tasks or {"": None}).items():
            several = f", {grade_id.removeprefix('task_')}" if len(one.tasks) > 1 else ""
            rows.append([one.lesson + several, *costs, *_scores(task)])
            costs = [None] * len(costs)  # they are the lesson's, and said once
    headings = ["lesson", "seconds", "peak", "marks", "IoU", "floor", "low", "high"]
    print(text_table(headings, rows))
    if failures := [f"{one.lesson}: {failure}" for one in done for failure in one.failures]:
        raise CourseError("; ".join(failures))
    return done


def _try_folder(folder: Path) -> None:
    """Make a folder and write into it once, or say that it does not go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CourseError(
            f"the lessons cannot be kept in {folder} ({error.strerror}). Name another folder."
        ) from None


def _scores(task: dict | None) -> list:
    """Return IoU, floor, low and high of a scorer's record, as the table has them."""
    if task is None:
        return [None] * 4
    iou = f"{task['iou']:.3f}" if task["iou"] is not None else None
    return [iou, *(task[key] for key in ("floor", "low", "high"))]


def run_lesson(
    folder: Path, root: Path, mark: bool = True, usual: Mapping[str, float] | None = None
) -> Solved:
    """Run the notebook in ``folder/``, in place, and mark it.

    Parameters
    ----------
    folder
        Named after the lesson, with its notebook.
    root
        The course's folder: for the secret seed.
    mark
        Whether to mark it, too.
    usual
        Seconds that cells take by id, where they are others than usually.

    Returns
    -------
    Solved
        With the failures that made it stop, or that cost marks.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    lesson = folder.name
    result = Solved(lesson)
    path = folder / f"{lesson}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    tasks = task_marks.tasks_by_grade_id(lesson)
    environment = {**os.environ, "COURSE_STATIC": "1", "COURSE_DATA": data_setting(root)}
    for task in tasks.values():
        if task.kind == "function":
            # Then the function is run on the hidden images, as under the grader.
            environment["NBGRADER_EXECUTION"] = "autograde"
            task_marks.prepare(task, folder, root)
    seconds = usual_seconds(lesson, [cell["id"] for cell in notebook.cells])
    if seconds and usual:
        seconds |= {cell: usual[cell] for cell in seconds if cell in usual}
    bar = CellBar(lesson, notebook.cells, seconds)
    limit = _CELL_SECONDS[profile()]
    client = NotebookClient(
        notebook,
        timeout=limit,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=bar.begin,
    )
    started = time.monotonic()
    try:
        with bar, _PeakMemory() as memory:
            # The kernel's own log is no concern of the reader; a cell's output is in the notebook.
            client.execute(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        result.failures.append(f"a cell fails: {error.ename}: {error.evalue}"[:500])
    except CellTimeoutError:
        result.failures.append(f"a cell ran longer than {limit} s")
    except DeadKernelError:
        result.failures.append("the kernel died; was there too little memory?")
    result.seconds, result.peak_bytes = time.monotonic() - started, memory.peak
    nbformat.write(notebook, path)
    if mark and not result.failures:
        _mark(notebook.cells, folder, root, result)
    return result


def _mark(cells, folder: Path, root: Path, result: Solved) -> None:
    from nbgrader.utils import determine_grade, is_grade, is_solution

    from course_utils.grading.marking.preprocessors import refused_outcome

    for cell in cells:
        if not is_grade(cell) or is_solution(cell) or cell.cell_type != "code":
            continue
        meta = cell.metadata.nbgrader
        if meta.grade_id in task_marks.tasks_by_grade_id(result.lesson):
            continue
        # As under the grader, a warning costs nothing.
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        reason = refused_outcome(cell.outputs, meta.points)
        score = 0.0 if reason else determine_grade(cell)[0]
        if score < meta.points:
            reason = reason or f"{score:g} of {meta.points:g} points"
            result.failures.append(f"test cell {meta.grade_id}: {reason}")
        result.marks += score
        result.points += meta.points
    for grade_id, task in task_marks.tasks_by_grade_id(result.lesson).items():
        record = task_marks.mark_task(
            task.name,
            handed_in=folder,
            executed=folder,
            settings=Settings(root),
            isolation=sandbox.isolation_level(),
        )
        result.tasks[grade_id] = record
        result.marks += record["marks"]
        result.points += record["points"]
        if record["iou"] is None:
            result.failures.append(f"task {task.name}: {record['reason']}")
        elif record["iou"] < record["high"]:
            result.failures.append(
                f"task {task.name}: IoU {record['iou']:.3f} is below high, {record['high']:g}"
            )


class _PeakMemory:
    """Watch the resident memory of all children of this process, five times a second."""

    def __init__(self):
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._stop.wait(0.2):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # it has ended in between
                    continue
            self.peak = max(self.peak, total)
