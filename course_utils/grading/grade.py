"""``course grade``: every collected hand-in, each in a process of its own, into one gradebook.

A hand-in is one job. Its result, one folder with one JSON, is put in place in one
step under a key made of the hand-in's bytes, the test set and the grader's own
code (``result_folders``): it stays valid as long as its key is the same. So a crash
loses nothing, a second run skips what is done, and only this process writes to the
class's gradebook. Marks of tasks are worked out from the stored
IoU at that moment: a changed threshold needs no model to be run again.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from functools import cache
from pathlib import Path

from tqdm import tqdm

from course_utils.errors import CourseError, last_error
from course_utils.files import files_hash, tree_hash, write_atomic
from course_utils.grading import shards
from course_utils.grading.cluster import why, workers_at
from course_utils.grading.gradebook import (
    Marked,
    cell_points,
    class_marks,
    enter_marks,
    enter_student,
    file_facts,
    lesson_table,
    open_gradebook,
    read_facts,
    refuse_damaged,
    register,
    states,
    student_names,
    wait_for_writers,
    write_facts,
)
from course_utils.grading.marking import hidden_sets, sandbox, task_marks, warm
from course_utils.grading.marking.job import Job, specification
from course_utils.grading.marking.nbgrader_setup import (
    configure,
    database_url,
    gradebook_url,
    make_api,
)
from course_utils.grading.marking.settings import Settings
from course_utils.grading.results import Unsound, read_result, remove
from course_utils.grading.shards import Shard
from course_utils.grading.workplace import (
    DATA_NOTE,
    grading_folder,
    keep_marking_data,
    keep_marking_profile,
    marking_data,
    marking_profile,
    read_timestamp,
    scratch_folder,
    secret_seed,
)
from course_utils.hand_in.tasks import PROFILES, Task, get_task, task_names
from course_utils.machine import memory, processors
from course_utils.paths import course_root, data_setting, list_lessons, resolve_lesson
from course_utils.table import shortened, text_table

_PACKAGE = Path(__file__).resolve().parents[1]
_MEMORY_PER_JOB = 3 << 30
_LOOK = 2  # seconds
_TEMPORARY = "course-"
_MOST_ROWS = 500  # in the terminal
_children: set[subprocess.Popen] = set()  # the running jobs' processes, to be killed by Ctrl-C


def grade(
    lessons: list[str] | None = None,
    *,
    data: Path | None = None,
    jobs: int | None = None,
    require_isolation: bool = False,
    profile: str | None = None,
    root: Path | None = None,
    executor: Executor | None = None,
    shard: str | None = None,
    merge_only: bool = False,
    cluster: str | None = None,
) -> list[Marked]:
    """Mark every collected hand-in and merge the marks into ``grading/gradebook.db``.

    Parameters
    ----------
    lessons
        Lessons to mark; default: all that were handed in.
    data
        Folder of ``images/`` and ``masks/`` on which models of profile ``full`` are marked;
        default: the one that was named last, else the test split of the task's data.
    jobs
        Hand-ins at a time; default: by processors and memory.
    require_isolation
        Stop rather than run a notebook or a model without a sandbox.
    profile
        The only one under which models are marked, or ``"any"``: the one that each states;
        default: what was named last, else ``"any"``.
    root
        The course's folder.
    executor
        Where the jobs run; default: threads that start child processes.
    shard
        Such as ``"3/16"``: mark only this share and leave the results for ``merge_only``.
    merge_only
        Put in place what shards have left, and start no job.
    cluster
        Address of a dask scheduler, or its scheduler file: the jobs run on its workers.

    Returns
    -------
    list of Marked
        What each hand-in got; of a shard nothing, since it does not open the gradebook.

    Raises
    ------
    CourseError
        If there is nothing to grade, or a hand-in could not be graded: the others are.
    """
    if shard and merge_only:
        raise CourseError("--shard marks and --merge puts in place: give one of them.")
    if cluster and (shard or merge_only or jobs):
        raise CourseError(
            "--cluster marks on its workers, as many at a time as these have threads: leave "
            "--shard, --merge and --jobs out."
        )
    part = Shard.parse(shard) if shard else None
    root = root or course_root()
    folder = grading_folder(root)
    names = [resolve_lesson(name, root / "solutions") for name in lessons or []]
    found = submissions(root, names or list_lessons(root / "solutions"))
    if not found:
        raise CourseError(
            f"nothing was handed in for {', '.join(names) or 'any lesson'}. Take hand-ins in with "
            "`course collect PATH`."
        )
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if part:
            _grade_shard(root, part, found, data, jobs, require_isolation, profile, executor)
            return []
        with contextlib.ExitStack() as opened:
            if cluster:
                executor = opened.enter_context(workers_at(cluster, grader_version))
            scratch = opened.enter_context(_scratch(folder))
            failures, marked = _grade(
                root, scratch, found, data, jobs, require_isolation, profile, executor, merge_only
            )
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CourseError(
            f"{folder / 'gradebook.db'} cannot be used now ({why}). What is graded is kept: run "
            "the command again."
        ) from None
    if not failures:
        shards.forget(root)
    _tell_failures(failures, len(found), folder / "failures.log", merge_only and _again(root))
    return marked


def _grade_shard(
    root: Path,
    shard: Shard,
    found: list[tuple[str, str]],
    data: Path | None,
    jobs: int | None,
    require_isolation: bool,
    profile: str | None,
    executor: Executor | None,
) -> None:
    """Mark one share of a class; tell of it in the shard's note."""
    lessons = sorted({pair[1] for pair in found})
    settings = _ready(root, data, require_isolation, lessons, profile, writer=False)
    mine = shard.share(found)
    shards.note(root, shard, len(mine))
    hashes = _hashes(root, mine)
    todo = result_folders(root, hashes, settings)
    for folder in todo.values():
        if folder.exists() or folder.is_symlink():
            try:
                read_result(folder)
            except Unsound:  # half-written, as where a disk was full or a machine lost
                remove(folder)
    place = shards.shards_folder(root)
    with (
        shards.stopped_by_the_system(),
        _scratch(place, f"grade-{shard.file_name}") as scratch,
    ):
        local = Path(tempfile.gettempdir())  # a disk that machines share may have no locks
        what = f"grading, shard {shard}"
        failures = _run_jobs(settings, scratch, todo, hashes, jobs, executor, what, local)
    path = shards.note(root, shard, len(mine), failures)
    done = len(mine) - len(failures)
    print(
        f"Shard {shard}: {done} of {len(mine)} hand-ins have a result in "
        f"{root / 'grading' / 'results'}. Isolation: {sandbox.isolation_level()}. When all shards "
        "have ended: course grade --merge"
    )
    _tell_failures(failures, len(mine), path.with_suffix(".log"))


def _again(root: Path) -> str:
    """Return what to do where shards have left results out."""
    found = shards.progress(root)
    if found is None or not found.not_ended:
        return "run the array again (what is done is passed over), or `course grade` for the rest"
    numbers = ",".join(map(str, found.not_ended))
    return (
        f"if they do not run any more, run shards {numbers} of {found.of} again, then "
        "`course grade --merge`; `course grade` marks the rest here"
    )


def _grade(
    root: Path,
    scratch: Path,
    found: list[tuple[str, str]],
    data: Path | None,
    jobs: int | None,
    require_isolation: bool,
    profile: str | None,
    executor: Executor | None,
    merge_only: bool = False,
) -> tuple[dict[tuple[str, str], str], list[Marked]]:
    """Run the jobs, merge, print what came of it; return why some have failed, and the marks."""
    folder = root / "grading"
    settings = _ready(root, data, require_isolation, sorted({one[1] for one in found}), profile)
    hashes = _hashes(root, found)
    todo = result_folders(root, hashes, settings)
    if merge_only:
        absent = [pair for pair in found if not (todo[pair] / "result.json").exists()]
        failures = shards.missing(absent, shards.progress(root))
    else:
        failures = _run_jobs(settings, scratch, todo, hashes, jobs, executor)
    (folder / "failures.log").unlink(missing_ok=True)
    failures |= _merge_all(
        root, {pair: todo[pair] for pair in found if pair not in failures}, hashes
    )
    graded = {pair for pair in found if pair not in failures}
    marked = _class_marks(root) if graded else []
    marked = [one for one in marked if (one.student, one.lesson) in graded]
    print(summary(marked))
    if settings.data is not None:
        print(
            f"Models of profile full are marked on {settings.data}, until --data names another "
            "folder."
        )
    if settings.profile is not None:
        print(
            f"Models are marked under profile {settings.profile} only, until --profile names "
            "another or any."
        )
    if seen := sorted({one.lesson for one in marked if _shows_images(one.lesson)}):
        print(
            f"Notebooks of {', '.join(seen)} had hidden images within reach: before a class hands "
            f"in again, delete {folder / 'secret_seed'} to draw new ones."
        )
    levels = {one.isolation for one in marked if one.isolation} or {sandbox.isolation_level()}
    place = folder / "gradebook.db"
    print(f"Isolation: {', '.join(sorted(levels))}. Gradebook: {place}. Next: course report")
    return failures, marked


def _shows_images(lesson: str) -> bool:
    """Tell whether a lesson has a function task, whose images the notebook sees."""
    return any(get_task(name, "quick").kind == "function" for name in task_names(lesson))


def _class_marks(root: Path) -> list[Marked]:
    """Return all marks; a gradebook that is in use is told in one line."""
    wait_for_writers(root / "grading" / "gradebook.db", 60)
    return class_marks(root)


def _ready(
    root: Path,
    data: Path | None,
    require_isolation: bool,
    lessons: list[str],
    named: str | None = None,
    writer: bool = True,
) -> Settings:
    """Return the run's settings; what is wrong with the workplace is told now, not after hours.

    Only a ``writer`` opens the gradebook.
    """
    folder = grading_folder(root)
    if writer:
        refuse_damaged(folder / "gradebook.db")
        student_names(root)
    sandbox.require_limits()
    if require_isolation:
        sandbox.require_isolation()
    profile = marking_profile(root, named)
    images = _marking_folder(root, data, lessons, profile)
    settings = Settings(root, images, require_isolation, profile=profile)
    sandbox.require_out_of_reach(settings.private_places, [Path(data_setting(root)).expanduser()])
    if settings.data is not None:
        keep_marking_data(root, settings.data)
    if named is not None:
        keep_marking_profile(root, named)
    if writer:
        register(root, lessons)
    return settings


def _run_jobs(
    settings: Settings,
    scratch: Path,
    todo: dict[tuple[str, str], Path],
    hashes: dict[tuple[str, str], str],
    jobs: int | None,
    executor: Executor | None,
    what: str = "grading",
    place: Path | None = None,
) -> dict[tuple[str, str], str]:
    """Run the jobs whose result is not there yet; return why some have failed.

    Their gradebooks, one a lesson to be copied, lie in ``place``, or with the results in
    ``scratch``.
    """
    root, folder = settings.course, settings.course / "grading"
    waiting = [pair for pair in todo if not (todo[pair] / "result.json").exists()]
    failures: dict[tuple[str, str], str] = {}
    place = place or scratch
    books = {lesson: place / f"{lesson}.db" for lesson in sorted({pair[1] for pair in waiting})}
    for lesson, book in books.items():
        register(root, [lesson], database_url(book))
    workers = min(jobs or default_jobs(), max(len(waiting), 1))
    threads = max(1, processors() // workers)
    pool = executor or ThreadPoolExecutor(workers)
    done = len(todo) - len(waiting)
    # A log that is no terminal gets a line now and then, not ten a second.
    pause = 0.1 if sys.stderr.isatty() else 30
    bar = tqdm(total=len(todo), initial=done, desc=what, unit="hand-in", mininterval=pause)
    futures: dict[Future, tuple[str, str]] = {}
    try:
        for student, lesson in sorted(waiting, key=lambda pair: pair[1]):  # see `warm`
            try:
                output = tempfile.mkdtemp(dir=scratch)
            except OSError as error:  # a full disk
                failures[student, lesson] = str(error)
                continue
            job = Job(
                student=student,
                lesson=lesson,
                handed_in=str(folder / "submitted" / student / lesson),
                hand_in_hash=hashes[student, lesson],
                gradebook=str(books[lesson]),
                output=output,
                settings=settings,
            )
            future = pool.submit(_run_job, job, todo[student, lesson], threads)
            futures[future] = student, lesson
        for future in as_completed(futures):
            pair = futures[future]
            if (error := _failed(future)) and not (todo[pair] / "result.json").exists():
                failures[pair] = error  # a lost worker's result may be there
                bar.set_postfix(failed=len(failures), refresh=False)
            bar.update()
    except BaseException as error:
        warm.close()  # a job may wait for it
        _stop(futures)
        if isinstance(error, KeyboardInterrupt):
            kept = sum((folder / "result.json").exists() for folder in todo.values())
            tqdm.write(
                f"Stopped; {kept} of {len(todo)} hand-ins are done and kept. Run the command "
                "again to go on."
            )
        raise
    finally:
        bar.close()
        if executor is None:
            pool.shutdown()
            warm.close()
    return failures


def _failed(future: Future) -> str:
    """Return why a job has failed; "" if it has not."""
    try:
        error = future.exception()
    except CancelledError as lost:  # by nobody here
        error = lost
    return why(error) if error else ""


def _tell_failures(
    failures: dict[tuple[str, str], str],
    count: int,
    log: Path,
    advice: str | bool = False,
) -> None:
    """Write the log of what failed, and raise with its summary, if anything has."""
    if failures:
        with contextlib.suppress(CourseError):  # as where the disk is full
            write_atomic(log, "\n\n".join(f"{'/'.join(k)}\n{v}" for k, v in failures.items()))
        names = shortened(["/".join(pair) for pair in failures], 3)
        first = _reason(next(iter(failures.values()))).rstrip(".")
        what = "are not in place" if advice else "could not be graded"
        raise CourseError(
            f"{len(failures)} of {count} hand-ins {what}: {names}. The first "
            f"because {first}. All reasons are in {log}; "
            f"{advice or 'run the command again to try these once more'}."
        )


def submissions(root: Path, lessons: Iterable[str]) -> list[tuple[str, str]]:
    """Return the collected ``(student, lesson)`` pairs, sorted."""
    lessons = set(lessons)
    return sorted(
        (path.parent.name, path.name)
        for path in (root / "grading" / "submitted").glob("*/*")
        if path.is_dir() and path.name in lessons and not path.parent.name.startswith(".")
    )


def _hashes(root: Path, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the hash of each hand-in's files."""
    submitted = root / "grading" / "submitted"
    bar = tqdm(pairs, desc="reading", unit="hand-in", disable=len(pairs) < 500)
    return {pair: tree_hash(submitted / Path(*pair)) for pair in bar}


def result_folders(
    root: Path, hashes: dict[tuple[str, str], str], settings: Settings
) -> dict[tuple[str, str], Path]:
    """Return where each hand-in's result lies, or will lie; what a lesson's share is read once."""
    shared = {
        lesson: _lesson_key(root, lesson, settings.data, settings.profile)
        for lesson in {pair[1] for pair in hashes}
    }
    return {
        (student, lesson): _folder_of(root, student, lesson, [digest, *shared[lesson]])
        for (student, lesson), digest in hashes.items()
    }


def result_folder(
    root: Path,
    student: str,
    lesson: str,
    data: Path | None = None,
    hand_in_hash: str | None = None,
    profile: str | None = None,
) -> Path:
    """Return where the result of this hand-in, test set and grader lies, or will lie.

    The hash of the hand-in's files, where it is known already, is not worked out again.
    """
    digest = hand_in_hash or tree_hash(root / "grading" / "submitted" / student / lesson)
    return _folder_of(root, student, lesson, [digest, *_lesson_key(root, lesson, data, profile)])


def _lesson_key(root: Path, lesson: str, data: Path | None, profile: str | None) -> list[str]:
    """Return what stands for all but the hand-in that a result depends on."""
    return [
        _tests_hash(root, lesson, data, profile),
        grader_version(lesson),
        tree_hash(root / "solutions" / lesson, leave_out=("models",)),
    ]


def _folder_of(root: Path, student: str, lesson: str, key: list[str]) -> Path:
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    return root / "grading" / "results" / lesson / student / digest


@cache
def grader_version(lesson: str) -> str:
    """Return a hash of all code that can change a result of a lesson.

    That is the package, of the instructor's side ``grading/`` only ``grading/marking``, and of all
    lessons' exercises its own: a new lesson must not have the others marked anew.
    """
    side, own = _PACKAGE / "grading", f"lesson_{lesson[:2]}.py"
    exercises = set(_PACKAGE.glob("checks/lesson_*.py"))
    files = sorted(
        path
        for path in _PACKAGE.rglob("*.py")
        if (not path.is_relative_to(side) or path.is_relative_to(side / "marking"))
        and (path not in exercises or path.name == own)
    )
    return files_hash((str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in files)


def default_jobs() -> int:
    """Return how many hand-ins to grade at a time: one a processor, if memory suffices."""
    return max(1, min(processors(), memory().total // _MEMORY_PER_JOB))


def merge(
    root: Path,
    folder: Path,
    patience: float = 60,
    gradebook=None,
    names: dict[str, str] | None = None,
    of: tuple[str, str, str] | None = None,
) -> None:
    """Write one result into the gradebook, ``autograded/`` and ``feedback/``.

    Marks given by hand are left as they are. Doing it twice changes nothing.

    Parameters
    ----------
    root
        The course's folder.
    folder
        What a job has left.
    patience
        Seconds for which another program may lock the gradebook.
    gradebook, names
        nbgrader's, open, and the students' names; else they are opened and read for this hand-in.
    of
        Student, lesson and hash of the hand-in that it must be the result of.

    Raises
    ------
    Unsound
        If the result is damaged, or not of the lesson's cells as they are: nothing is written.
    """
    if gradebook is None:
        with open_gradebook(root, patience) as gradebook:
            return merge(root, folder, patience, gradebook, student_names(root), of)
    result = read_result(folder)
    student, lesson = result["student"], result["lesson"]
    if of not in (None, (student, lesson, result["hand_in_hash"])):
        raise Unsound("its stored result was damaged (it is that of another hand-in)")
    stale = task_marks.update_marks(result["tasks"])
    handed_in = root / "grading" / "submitted" / student / lesson
    same = tree_hash(handed_in) == result["hand_in_hash"]  # else a newer one has come since
    stamp = (handed_in if same else folder) / "timestamp.txt"
    when = read_timestamp(stamp)
    scores = {name: entry["score"] for name, entry in result["exercises"].items()}
    scores |= {name: task_marks.given(task) for name, task in result["tasks"].items()}
    comments = result["comments"] | {
        place: task_marks.describe(result["tasks"][task])
        for task, place in result["comment_places"].items()
    }
    points = cell_points(gradebook, lesson)
    wrong = {name for name, score in scores.items() if (score or 0) > points.get(name, -1)}
    if wrong := wrong | (points.keys() - scores):
        raise Unsound(f"its stored result was damaged (the mark of {min(wrong)})")
    enter_student(gradebook, student, names.get(student))
    by_hand = enter_marks(gradebook, student, lesson, when, scores, comments)
    gradebook.db.commit()
    page = root / "grading" / "feedback" / student / lesson / f"{lesson}.html"
    target = root / "grading" / "autograded" / student / lesson
    text = (folder / f"{lesson}.ipynb").read_bytes()
    if stale:
        text = task_marks.annotate(json.loads(text), result)
    write_atomic(target / f"{lesson}.ipynb", text)
    write_facts(target / f"{lesson}.ipynb", result)
    if when:
        shutil.copyfile(stamp, target / "timestamp.txt")
    if stale or by_hand:
        _render_feedback(root, student, lesson)
    else:
        write_atomic(page, (folder / page.name).read_bytes())
    state = states(gradebook, student, lesson).get((student, lesson))
    found = _found(folder, page, names.get(student), when, state)
    write_facts(target / f"{lesson}.ipynb", result, found)


def _found(folder: Path, page: Path, name: str | None, when, state: str | None) -> dict:
    """Return what a merge depends on, or has made: the same again, and nothing is left to do."""
    found = {"result": folder.name, "name": name, "time": str(when), "state": state}
    return found | {"page": file_facts(page) if page.exists() else None}


def _is_merged(root: Path, folder: Path, name: str | None, state: str | None) -> bool:
    """Tell whether a result was merged, and neither marks, pages nor bounds have changed since."""
    lesson, student = folder.parts[-3:-1]
    facts = read_facts(root / "grading" / "autograded" / student / lesson / f"{lesson}.ipynb")
    if not facts or not facts.get("merged"):
        return False
    page = root / "grading" / "feedback" / student / lesson / f"{lesson}.html"
    when = read_timestamp(root / "grading" / "submitted" / student / lesson / "timestamp.txt")
    found = _found(folder, page, name, when, state)
    return facts["merged"] == found and not task_marks.update_marks(facts["tasks"])


def summary(marked: list[Marked]) -> str:
    """Return the table of one row a hand-in: marks, IoU, what went wrong; of many, of a lesson."""
    if len(marked) > _MOST_ROWS:
        return lesson_table(marked)
    rows = []
    for one in marked:
        ious = [f"{task['iou']:.3f}" for task in one.tasks if task["iou"] is not None]
        waits = " + by hand" if one.needs_hand else ""
        total = f"{one.total:.4g} of {one.points:.4g}{waits}"
        remarks = "; ".join(one.remarks) or "-"
        rows.append([one.student, one.lesson, total, ", ".join(ious) or "-", remarks])
    return text_table(["student", "lesson", "marks", "IoU", "what went wrong"], rows)


def _marking_folder(
    root: Path, named: Path | None, lessons: list[str], profile: str | None
) -> Path | None:
    """Return the folder on which models of profile full are marked, if any: checked now, once."""
    tasks = [task for lesson in lessons for task in _tasks_on_data(lesson, profile)]
    if named and profile == "quick":
        raise CourseError(
            "--data is for models of profile full, and this class is marked under profile quick. "
            "Leave --data out, or give --profile full or --profile any with it."
        )
    data = named or marking_data(root)
    if data is None and profile and (gone := [task.data for task in tasks if not task.here]):
        raise CourseError(
            f"profile {profile} is marked on {gone[0]}, which is not here. Run `course data fetch "
            f"{gone[0]}`, or name a folder of images/ and masks/ with --data."
        )
    if data is None or not (named or tasks):
        return None
    try:
        if not data.is_dir():
            raise CourseError(
                f"{data} is no folder. Name one that holds images/ and masks/ after --data."
            )
        for task in tasks:
            task.hidden_set(secret_seed(root), data)  # a wrong mask is told now, not by every job
    except CourseError as error:
        if named:
            raise
        raise CourseError(
            f"{error} This is the folder that --data named last; delete "
            f"{root / 'grading' / DATA_NOTE} to mark on the public test split."
        ) from None
    return data.resolve() if tasks else None  # nothing else is marked on it


def _tasks_on_data(lesson: str, profile: str | None) -> list[Task]:
    """Return a lesson's tasks whose models of profile full may have an instructor's folder."""
    tasks = [get_task(name, profile or "full") for name in task_names(lesson)]
    return [task for task in tasks if not task.generated]


@contextlib.contextmanager
def _scratch(folder: Path, name: str = "grade") -> Iterator[Path]:
    """Give a run its folder and one for temporary files; clean up after the dead."""
    with (
        scratch_folder(folder, name, _remove_temporary) as scratch,
        _temporary(scratch),
    ):
        yield scratch


@contextlib.contextmanager
def _temporary(scratch: Path) -> Iterator[None]:
    """Keep all temporary files of a run in one folder, whose path stands in its scratch folder."""
    base = sandbox.short_temporary_folder(room=len("/course-01234567") + sandbox.JOB_ROOM)
    place = base / f"{_TEMPORARY}{secrets.token_hex(4)}"
    write_atomic(scratch / "temporary", str(place))  # before it is made: a run can die any time
    before = tempfile.tempdir
    try:
        place.mkdir(mode=0o700)
        tempfile.tempdir = str(place)
        yield
    finally:
        tempfile.tempdir = before
        sandbox.remove_tree(place)


def _remove_temporary(scratch: Path) -> None:
    """Remove the folder of temporary files that a killed run has left."""
    with contextlib.suppress(OSError):
        place = Path((scratch / "temporary").read_text(encoding="utf-8"))
        if place.name.startswith(_TEMPORARY) and not place.is_symlink():
            sandbox.remove_tree(place)


def _stop(futures: Iterable[Future]) -> None:
    """Cancel the jobs that wait, kill those that run, and return when none is left."""
    running = [future for future in futures if not future.cancel()]
    # Again and again: a job may be about to start its process.
    while wait(running, timeout=0.2).not_done:
        for child in list(_children):
            sandbox.kill_group(child)


def _merge_all(
    root: Path, results: dict[tuple[str, str], Path], hashes: dict[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """Merge results; return why some could not be, which does not stop the others."""
    failures = {}
    patience = 60.0
    names = student_names(root)
    with contextlib.ExitStack() as opened:
        gradebook = opened.enter_context(open_gradebook(root, patience))
        known = states(gradebook)
        bar = tqdm(results.items(), desc="merging", unit="hand-in", disable=len(results) < 20)
        for pair, folder in bar:
            if _is_merged(root, folder, names.get(pair[0]), known.get(pair)):
                continue
            try:
                merge(root, folder, patience, gradebook, names, (*pair, hashes[pair]))
            except Unsound as error:
                remove(folder)  # out of the way, so that the next run makes it anew
                failures[pair] = str(error)
            except CourseError as error:
                failures[pair] = str(error)
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                failures[pair] = (
                    f"its stored result cannot be merged ({type(error).__name__}: {error}); delete "
                    f"{folder} to have it graded anew"
                )
            except Exception as error:
                if "database is locked" in str(error):
                    failures[pair] = "another program has locked the gradebook: close that program"
                    if patience > 2:  # for a class not a minute each
                        patience = 2.0
                        gradebook = opened.enter_context(open_gradebook(root, patience))
                else:
                    first = (str(error).splitlines() or [""])[0]
                    failures[pair] = f"it cannot be merged ({type(error).__name__}: {first:.200})"
            gradebook.db.rollback()  # what has failed; and all that it has read is forgotten
            gradebook.db.expunge_all()
            if pair in failures:
                bar.set_postfix(failed=len(failures))
    return failures


def _run_job(job: Job, target: Path, threads: int) -> None:
    """Run one job in a child process and put its result in place in one step."""
    output = Path(job.output)
    for _ in range(2):  # what the system kills is run once more
        code = _job_process(job, threads)
        if code >= 0:
            break
        for left in output.iterdir():
            left.unlink()
    else:
        raise RuntimeError(
            f"its process was ended twice by {signal.Signals(-code).name}. Most often the memory "
            "does not suffice: run the command again with --jobs 1"
        )
    if code or not (output / "result.json").exists():
        raise RuntimeError((output / "log.txt").read_text(errors="replace")[-4000:])
    (output / "job.json").unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(output, target)
    except OSError:  # a grader that runs beside this one was first
        if not (target / "result.json").exists():
            raise


def _job_process(job: Job, threads: int) -> int:
    """Run a job's process to its end; return its exit code, negative if a signal has ended it."""
    output = Path(job.output)
    specified = output / "job.json"
    specified.write_text(specification(job))
    seconds = _time_limit(job.lesson, job.settings.notebook_seconds)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("NBGRADER_")},
        **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL")},
        "PYTHONDONTWRITEBYTECODE": "1",
        "COURSE_DATA": data_setting(job.settings.course),
        hidden_sets.FOLDER: str(hidden_sets.shared_folder()),
    }
    with (
        sandbox.temporary_folder("j-") as temporary,
        open(output / "log.txt", "w") as log,
        warm.ready(job.settings.course, job.lesson, environment) as ready,
    ):
        # A job that is killed cannot tidy up.
        environment |= ready.variables | {"TMPDIR": temporary}
        child = ready.start_job(str(specified), log, environment, output)
        _children.add(child)
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(_LOOK)
                if not output.is_dir():  # on another machine, which nothing else tells
                    raise RuntimeError("the run that asked for it has ended")
            raise RuntimeError(f"it took longer than {seconds:.0f} s in all")
        finally:
            sandbox.kill_group(child)
            child.wait()
            child.stdin.close()
            _children.discard(child)


def _reason(log: str) -> str:
    r"""Return the line of a job's log that says why it failed: the course's words, or an error's.

    >>> _reason("Traceback\ncourse_utils.errors.CourseError: no mask.\n[ERROR] see above")
    'no mask.'
    """
    lines = [line for line in log.splitlines() if "see the the above" not in line]  # nbgrader's
    named = re.compile(r"(?:CourseError|MachineFault): (.+)")
    told = [found[1].strip() for line in lines if (found := named.search(line))]
    return (told[-1] if told else last_error("\n".join(lines)) or "it left no log.")[:300]


def _time_limit(lesson: str, seconds: int) -> float:
    # Twice, since a job that fails is tried again; a model states its profile itself.
    tasks = sum(max(get_task(n, p).seconds for p in PROFILES) for n in task_names(lesson))
    return 2 * seconds + tasks + 180


def _tests_hash(root: Path, lesson: str, data: Path | None, profile: str | None) -> str:
    """Return what stands for the test sets of a lesson, without drawing a picture of them."""
    parts = [str(secret_seed(root))]  # hidden tests draw from it, too
    for name in task_names(lesson):
        model = get_task(name, "quick").kind == "model"
        for one in (profile,) if profile and model else PROFILES:
            task = get_task(name, one)
            parts += [task.kind, task.data, str(task.size), str(task.hidden)]
            parts.append(str(data is not None or task.here))  # what waited is marked once it is
            parts += [str(task.max_megabytes), str(task.max_parameters), str(task.seconds)]
    if data is not None and _tasks_on_data(lesson, profile):
        for path in sorted(filter(Path.exists, data.rglob("*"))):  # no link to nothing
            facts = path.stat()
            name = path.relative_to(data).as_posix()
            parts += [name, str(facts.st_size), str(facts.st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _render_feedback(root: Path, student: str, lesson: str) -> None:
    """Write a feedback page anew from the class's gradebook, whose marks have changed."""
    from traitlets.config import Config

    inside = Path("grading", "autograded", student, lesson)
    with tempfile.TemporaryDirectory() as place:  # nbgrader reads the course's path as a pattern
        shutil.copytree(root / inside, place / inside)
        config = Config()
        configure(config, Path(place), Settings(root))
        config.CourseDirectory.db_url = gradebook_url(root)
        outcome = make_api(config).generate_feedback(lesson, student)
        if not outcome["success"]:
            raise CourseError(
                f"the feedback for {student} cannot be written: {outcome.get('log', '')[-300:]}"
            )
        page = Path("grading", "feedback", student, lesson, f"{lesson}.html")
        write_atomic(root / page, (place / page).read_bytes())
