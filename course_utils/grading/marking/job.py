"""One hand-in, one process: nbgrader in a folder of its own, ended by one JSON.

``python -I -m course_utils.grading.marking.job SPEC`` is started by
:mod:`course_utils.grading.grade`. It leaves ``result.json``, the executed notebook and the
feedback page in the folder that the specification names. Whatever goes wrong with the hand-in
is a part of the result; a crash is the grader's fault and leaves no result.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from course_utils.errors import CourseError, last_error
from course_utils.files import file_hashes, tree_hash, write_atomic
from course_utils.grading.marking.machine_faults import MachineFault, told_fault
from course_utils.grading.marking.settings import Settings
from course_utils.grading.marking.stored_outputs import shown_outputs
from course_utils.hand_in.notebook import read_notebook
from course_utils.paths import NOT_RELEASED

_PAUSE = 2
"""Seconds between two tries, in which a disk or memory may become free."""
_MEMORY = 3 << 30
"""Bytes: what a hand-in's kernel sends must not take the memory of all."""


@dataclass(frozen=True)
class Job:
    """What one process is to grade.

    Attributes
    ----------
    student, lesson
        Whose hand-in, of which lesson (full name).
    handed_in
        ``grading/submitted/<student>/<lesson>``: only read.
    hand_in_hash
        The hash of its files; if they have changed since, the job fails.
    gradebook
        A gradebook in which the lesson is registered, to be copied.
    output
        An existing folder to leave the result in.
    settings
        What holds for every hand-in of the run.
    """

    student: str
    lesson: str
    handed_in: str
    hand_in_hash: str
    gradebook: str
    output: str
    settings: Settings


def main() -> None:
    """Grade what the specification names whose path was given; end this process."""
    _end_with_parent()
    _limit_memory()
    failed = 1
    try:
        grade(sys.argv[1])
        failed = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failed)  # a thread or socket of a library that is stuck holds nobody up


def grade(path: str) -> None:
    """Grade what the specification in the file ``path`` names."""
    told = json.loads(Path(path).read_text())
    job = Job(**told | {"settings": Settings.from_json(told["settings"])})
    started = time.monotonic()
    # Whoever started this process removes its temporary folder.
    # Not elsewhere, as Python would where the disk is full.
    tempfile.tempdir = os.environ.get("TMPDIR")
    result = run(job, Path(tempfile.mkdtemp(prefix="")).resolve())
    result["seconds"] = round(time.monotonic() - started, 1)
    output = Path(job.output)
    names = (f"{job.lesson}.ipynb", f"{job.lesson}.html", "timestamp.txt")
    result["files"] = file_hashes(path for name in names if (path := output / name).exists())
    (output / "result.json").write_text(json.dumps(result, indent=1))


def run(job: Job, root: Path) -> dict:
    """Grade one hand-in inside the empty folder ``root``; return its result.

    Returns
    -------
    dict
        ``exercises`` and ``tasks`` by grade id, ``comments``, ``comment_places`` (the solution cell
        before each task), and what went wrong:
        ``problem`` (with the files), ``stopped`` (the kernel), ``tampered`` (names).
    """
    from traitlets.config import Config

    from course_utils.grading.marking import task_marks
    from course_utils.grading.marking.nbgrader_setup import configure, make_api

    notebook_name = f"{job.lesson}.ipynb"
    submitted = root / "grading" / "submitted" / job.student / job.lesson
    _copy_files(Path(job.handed_in), submitted)
    if tree_hash(submitted) != job.hand_in_hash:
        raise CourseError("a newer hand-in took its place while it waited")
    _copy_lesson(job.settings.course / "solutions" / job.lesson, root / "solutions" / job.lesson)
    shutil.copyfile(job.gradebook, root / "grading" / "gradebook.db")
    problem = None
    try:
        _, notebook = read_notebook(submitted / notebook_name)
        write_atomic(submitted / notebook_name, bare_notebook(notebook["cells"]))
    except CourseError as error:
        # The tasks can still be marked: an empty notebook gets all its tests back, unsolved.
        problem = str(error).replace(f"{submitted}/", "").replace(str(submitted), "the hand-in")
        write_atomic(submitted / notebook_name, _explaining(problem))
    config = Config()
    configure(config, root, job.settings)
    api = make_api(config)
    outcome = _autograde_twice(api, job)
    if not outcome["success"] and problem is None:
        # What the instructor's side has to mend comes again without the notebook.
        problem = f"{notebook_name} cannot be run or read: save it again in JupyterLab"
        write_atomic(submitted / notebook_name, _explaining(problem))
        outcome = api.autograde(job.lesson, job.student, force=True)
    _require_success(outcome)
    executed = root / "grading" / "autograded" / job.student / job.lesson / notebook_name
    result = read_result(root, job.student, job.lesson, executed)
    result |= {"problem": problem, "hand_in_hash": job.hand_in_hash}
    _require_success(api.generate_feedback(job.lesson, job.student))
    output = Path(job.output)
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    result["order"] = [
        cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]
    ]
    result["comment_places"] = task_marks.comment_places(notebook["cells"], result["tasks"])
    write_atomic(output / notebook_name, task_marks.annotate(notebook, result))
    page = root / "grading" / "feedback" / job.student / job.lesson / f"{job.lesson}.html"
    shutil.copyfile(page, output / page.name)
    if (stamp := submitted / "timestamp.txt").exists():
        shutil.copyfile(stamp, output / stamp.name)
    return result


def _autograde_twice(api, job: Job) -> dict:
    """Run nbgrader, and again if that fails: perhaps the disk was full, or the memory.

    Raises
    ------
    MachineFault
        If the second time failed by the machine's fault, too, or in another way than the first.
    """
    reasons = []
    for first in (True, False):
        api.config.SandboxedExecute.first_try = first
        outcome = api.autograde(job.lesson, job.student, force=not first)
        if outcome["success"]:
            return outcome
        log = f"{outcome.get('log', '')}\n{outcome.get('error', '')}"
        print(log, flush=True)
        reasons.append(told_fault(log) or last_error(log))
        if first:
            time.sleep(_PAUSE)
    if told_fault(log):
        raise MachineFault(reasons[-1])
    if reasons[0] != reasons[1]:
        raise MachineFault(f"nbgrader failed twice, and not alike: {reasons[0]}; {reasons[1]}")
    return outcome


def _require_success(outcome: dict) -> None:
    if not outcome["success"]:
        raise SystemExit(f"nbgrader failed:\n{outcome.get('log', '')}\n{outcome.get('error', '')}")


def read_result(root: Path, student: str, lesson: str, executed: Path) -> dict:
    """Read from a job's gradebook and executed notebook what the class's gradebook must know."""
    from nbgrader.api import Gradebook

    from course_utils.grading.marking.nbgrader_setup import gradebook_url

    course = json.loads(executed.read_text(encoding="utf-8"))["metadata"]["course"]
    exercises = {}
    with Gradebook(gradebook_url(root)) as gradebook:
        notebook = gradebook.find_submission_notebook(lesson, lesson, student)
        for grade in notebook.grades:
            if grade.name not in course["tasks"]:
                exercises[grade.name] = {
                    "score": grade.auto_score,
                    "points": grade.max_score,
                    "reason": course["reasons"].get(grade.name),
                }
        comments = {comment.name: comment.auto_comment for comment in notebook.comments}
    return {
        "student": student,
        "lesson": lesson,
        "exercises": exercises,
        "tasks": course["tasks"],
        "comments": comments,
        "stopped": course["stopped"],
        "tampered": course["tampered"],
        "isolation": course["isolation"],
    }


def specification(job: Job) -> str:
    """Return the text of the file that :func:`grade` reads."""
    return json.dumps(asdict(job) | {"settings": job.settings.as_json()})


def _copy_files(source: Path, target: Path) -> None:
    """Copy regular files only: a link in a hand-in could name any file of the instructor."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        linked = any(part.is_symlink() for part in (path, *path.parents) if part != source)
        if path.is_file() and not linked:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _copy_lesson(source: Path, target: Path) -> None:
    """Copy what a lesson has beside its notebook, which nbgrader lays over the hand-in."""
    shutil.copytree(source, target, ignore=NOT_RELEASED)
    # The answers stay away from the folder that the student's kernel runs beside.
    (target / f"{source.name}.ipynb").unlink()


def bare_notebook(cells: list[dict]) -> str:
    """Return a notebook of these cells' types, texts, marks and pictures alone.

    Whatever else a hand-in holds, such as values and other programs' metadata, is made anew or
    dropped in marking; so it need not be right.
    """
    kept = []
    for at, cell in enumerate(cells):
        source = "".join(cell["source"]).encode(errors="replace").decode()
        metadata = {key: cell["metadata"][key] for key in ("nbgrader",) if key in cell["metadata"]}
        bare = {"cell_type": cell["cell_type"], "id": f"c{at}", "metadata": metadata}
        bare["source"] = source
        if bare["cell_type"] == "code":
            # Of no marked cell; and what others have shown is only for the page, see `shown`.
            shown = [] if metadata else shown_outputs(cell.get("outputs"))
            bare |= {"outputs": shown, "execution_count": None}
        elif pictures := _attachments(cell.get("attachments")):
            bare["attachments"] = pictures
        kept.append(bare)
    return json.dumps({"cells": kept, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def _attachments(told: object) -> dict[str, dict[str, str]]:
    """Return the pictures that were pasted into a cell, of those that are written as they must."""
    pictures = told if isinstance(told, dict) else {}
    sound = {
        name: {kind: data for kind, data in kinds.items() if isinstance(data, str)}
        for name, kinds in pictures.items()
        if isinstance(kinds, dict)
    }
    return {name: kinds for name, kinds in sound.items() if kinds}


def _explaining(problem: str) -> str:
    """Return a notebook that only says why it was not marked."""
    text = f"**This notebook was not marked:** {problem}"
    return bare_notebook([{"cell_type": "markdown", "metadata": {}, "source": text}])


def _end_with_parent() -> None:
    """End this process when the one that started it is gone and so has closed our input."""
    if os.name != "posix":  # there a thread that reads it can hold up the start of a process
        return

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    with contextlib.suppress(ValueError, OSError):  # macOS does not take every number
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))  # the sandbox's own may be higher


if __name__ == "__main__":
    main()
