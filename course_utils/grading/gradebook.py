"""The class's marks, read back: scores from the gradebook, reasons from the executed notebooks."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import groupby, islice
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory

from course_utils.errors import CourseError
from course_utils.files import tree_hash, write_atomic
from course_utils.grading.marking.nbgrader_setup import gradebook_url
from course_utils.grading.publishing.release import generate, sound_source
from course_utils.grading.workplace import grading_folder
from course_utils.table import text_table


@dataclass
class Mark:
    """The mark of one cell.

    Attributes
    ----------
    score
        Points, by hand if so given; None while a person has yet to mark it.
    points
        Possible.
    reason
        Why points were lost, or None.
    task
        The trusted scorer's record, for the cell of a task.
    automatic
        Points that the tests or the scorer give; None for an answer in words.
    """

    score: float | None
    points: float
    reason: str | None = None
    task: dict | None = None
    automatic: float | None = None


@dataclass
class Marked:
    """One student's graded hand-in of one lesson.

    ``hand_in_hash`` is that of the files that were marked; None if nbgrader alone marked them.
    """

    student: str
    name: str
    lesson: str
    marks: dict[str, Mark]
    total: float
    points: float
    isolation: str = ""
    stopped: str | None = None
    tampered: list[str] = field(default_factory=list)
    problem: str | None = None
    needs_hand: bool = False
    same_model_as: list[str] = field(default_factory=list)
    hand_in_hash: str | None = None

    @property
    def remarks(self) -> list[str]:
        """What went wrong, in words, the gravest first."""
        found = [self.problem] if self.problem else []
        if self.same_model_as:
            found.append(f"same model file as {', '.join(self.same_model_as)}")
        if self.tampered:
            found.append(f"tampered with {', '.join(_by_module(self.tampered))}")
        if self.stopped:
            found.append(self.stopped)
        reasons: dict[str, list[str]] = {}
        for name, mark in self.marks.items():
            if mark.task:
                found += _lost(mark.task)
            elif mark.reason and not self.problem and not mark.reason.startswith("not run:"):
                # With a problem an empty notebook was marked, whose stubs are not the student's.
                reasons.setdefault(mark.reason, []).append(name)
        found += [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return found + [
            words for name, mark in self.marks.items() if (words := _by_hand(name, mark))
        ]

    @property
    def tasks(self) -> list[dict]:
        """The scorer's records."""
        return [mark.task for mark in self.marks.values() if mark.task]


@dataclass
class LessonFacts:
    """Figures of one lesson over a class.

    Hand-ins, mean and possible points, and how many hand-ins have all points, nothing, something
    that waits for a person, something that went wrong.
    """

    lesson: str
    hand_ins: int = 0
    mean: float = 0
    points: float = 0
    full: int = 0
    nothing: int = 0
    by_hand: int = 0
    wrong: int = 0


def lesson_facts(marked: Iterable[Marked]) -> dict[str, LessonFacts]:
    """Return the figures of each lesson."""
    found: dict[str, LessonFacts] = {}
    for one in marked:
        facts = found.setdefault(one.lesson, LessonFacts(one.lesson, points=one.points))
        facts.hand_ins += 1
        facts.mean += (one.total - facts.mean) / facts.hand_ins
        facts.full += one.total >= one.points
        facts.nothing += one.total <= 0
        facts.by_hand += one.needs_hand
        facts.wrong += bool(one.remarks)
    return found


def lesson_table(marked: Iterable[Marked]) -> str:
    """Return the figures of each lesson as a table for the terminal."""
    headings = ["lesson", "hand-ins", "mean marks", "all", "none", "by hand", "remarks"]
    rows = []
    for _, one in sorted(lesson_facts(marked).items()):
        mean = f"{one.mean:.3g} of {one.points:.4g}"
        counts = [one.full, one.nothing, one.by_hand, one.wrong]
        rows.append([one.lesson, one.hand_ins, mean, *counts])
    return text_table(headings, rows)


def class_marks(root: Path) -> list[Marked]:
    """Return every graded hand-in, sorted by lesson and student.

    Raises
    ------
    CourseError
        If nothing is graded yet, or the gradebook is damaged.
    """
    from nbgrader.api import Gradebook

    folder = grading_folder(root)
    refuse_damaged(folder / "gradebook.db")
    names = student_names(root)
    found = []
    if (folder / "gradebook.db").exists():
        with Gradebook(gradebook_url(root)) as gradebook:
            for (lesson, student), rows in groupby(_graded_cells(gradebook), lambda row: row[:2]):
                path = folder / "autograded" / student / lesson / f"{lesson}.ipynb"
                if path.exists():
                    found.append(_marked([*rows], path, student, names.get(student, student)))
    if not found:
        raise CourseError("nothing is graded yet. Grade the hand-ins with `course grade` first.")
    _tell_copies(found)
    return sorted(found, key=lambda marked: (marked.lesson, marked.student.casefold()))


def student_names(root: Path) -> dict[str, str]:
    """Return the platform's name of each student id."""
    return {key: entry["name"] for key, entry in read_students(root).items()}


def enter_student(gradebook, student: str, name: str | None) -> None:
    """Enter a student, with the platform's name where it is known, into an open gradebook."""
    first, _, last = (name or "").rpartition(" ")
    gradebook.update_or_create_student(
        student, **({"first_name": first, "last_name": last} if name else {})
    )


def read_students(root: Path) -> dict[str, dict]:
    """Return ``grading/students.json``: by student id the platform, name and numbers."""
    path = root / "grading" / "students.json"
    try:
        students = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for entry in students.values():
            texts = [entry["platform"], entry["name"], *entry["numbers"].values()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CourseError(
            f"{path} is damaged. Put it back from a copy, or delete it and take the hand-ins in "
            "again with `course collect`."
        ) from None
    return students


def wait_for_writers(path: Path, seconds: float) -> None:
    """Wait, and say so, while another program writes to a gradebook.

    Raises
    ------
    CourseError
        If it still does after so many seconds, or the file cannot be written.
    """
    for patience in (0, seconds):
        if not path.exists():
            return
        try:
            with closing(sqlite3.connect(path, timeout=patience, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or patience:
                raise CourseError(
                    f"{path} cannot be written now ({error}). What is here is kept; close the "
                    "program that has it open, then run the command again."
                ) from None
            print(f"{path.name} is in use by another program; waiting for up to {seconds:g} s.")
        except sqlite3.DatabaseError:
            return  # damaged, which `refuse_damaged` reports


def refuse_damaged(path: Path) -> None:
    """Raise if a gradebook is there but is no whole database, in words instead of SQLAlchemy's."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        found = found if path.stat().st_size else "it is empty"
    except sqlite3.OperationalError as error:
        raise CourseError(f"{path} cannot be opened now ({error}). Try again later.") from None
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise CourseError(
            f"{path} is damaged ({found.splitlines()[-1]}). Put it back from a copy, or move it "
            "away and run `course grade` again: results are kept, only marks given by hand are "
            "in this file alone."
        )


def write_facts(notebook: Path, result: dict, merged: dict | None = None) -> None:
    """Write beside an executed notebook what the class's marks need of it, so that none is read.

    And with it what :func:`read_facts` is asked at the next merge: what this one has found.
    """
    facts = {"file": file_facts(notebook)} | {key: result[key] for key in _FACTS}
    facts["merged"] = merged
    facts["reasons"] = {
        name: entry["reason"] for name, entry in result["exercises"].items() if entry["reason"]
    }
    write_atomic(notebook.with_name(_FACTS_FILE), json.dumps(facts))


_FACTS = ("stopped", "tampered", "isolation", "tasks", "problem", "hand_in_hash", "order")
_FACTS_FILE = "marked.json"


def file_facts(path: Path) -> list[int]:
    """Return a file's size and time, which tell whether it was written since."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def read_facts(notebook: Path) -> dict | None:
    """Return what `write_facts` has written; None if nbgrader alone has marked since."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(notebook.with_name(_FACTS_FILE).read_text(encoding="utf-8"))
        if facts["file"] == file_facts(notebook):
            return facts
    return None


def _facts(notebook: Path) -> tuple[dict, list]:
    """Return what marking has found, and the order of the cells."""
    with suppress(KeyError):
        if facts := read_facts(notebook):
            return facts, facts["order"]
    content = json.loads(notebook.read_text(encoding="utf-8"))
    order = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in content["cells"]]
    return content["metadata"].get("course", {}), order


def _graded_cells(gradebook) -> Iterator:
    """Yield lesson, student, cell, scores and points of all marks, those of a hand-in together.

    One question to the database, and no object for each of its rows: a class can be large.
    """
    from nbgrader import api
    from sqlalchemy import func, select

    lesson, hand_in = api.Assignment.__table__, api.SubmittedAssignment.__table__
    notebook, submitted = api.Notebook.__table__, api.SubmittedNotebook.__table__
    grade, cell = api.Grade.__table__, api.BaseCell.__table__
    graded, task = api.GradeCell.__table__, api.TaskCell.__table__
    rows = (
        select(
            lesson.c.name.label("lesson"),
            hand_in.c.student_id,
            cell.c.name,
            *(grade.c[name] for name in ("auto_score", "manual_score", "extra_credit")),
            func.coalesce(graded.c.max_score, task.c.max_score).label("max_score"),
        )
        .select_from(hand_in)
        .join(lesson, lesson.c.id == hand_in.c.assignment_id)
        .join(submitted, submitted.c.assignment_id == hand_in.c.id)
        .join(notebook, notebook.c.id == submitted.c.notebook_id)
        .outerjoin(grade, grade.c.notebook_id == submitted.c.id)
        .outerjoin(cell, cell.c.id == grade.c.cell_id)
        .outerjoin(graded, graded.c.id == grade.c.cell_id)
        .outerjoin(task, task.c.id == grade.c.cell_id)
        .where(notebook.c.name == lesson.c.name)
        .order_by(lesson.c.name, hand_in.c.student_id)
    )
    yield from gradebook.db.execute(rows, execution_options={"yield_per": 1000})


def cell_points(gradebook, lesson: str) -> dict[str, float]:
    """Return the points of each marked cell of a lesson, as it is registered."""
    from nbgrader import api
    from sqlalchemy import func, select

    assignment, notebook = api.Assignment.__table__, api.Notebook.__table__
    cell, graded = api.BaseCell.__table__, api.GradeCell.__table__
    task = api.TaskCell.__table__
    points = func.coalesce(graded.c.max_score, task.c.max_score)
    rows = (
        select(cell.c.name, points)
        .join(notebook, notebook.c.id == cell.c.notebook_id)
        .join(assignment, assignment.c.id == notebook.c.assignment_id)
        .outerjoin(graded, graded.c.id == cell.c.id)
        .outerjoin(task, task.c.id == cell.c.id)
        .where(assignment.c.name == lesson, notebook.c.name == lesson, points.is_not(None))
    )
    return dict(map(tuple, gradebook.db.execute(rows)))


def enter_marks(
    gradebook,
    student: str,
    lesson: str,
    when: datetime | None,
    scores: dict[str, float | None],
    comments: dict[str, str | None],
) -> bool:
    """Enter a hand-in with automatic scores and comments by cell, but do not commit it.

    The student is entered already. Rows are as nbgrader's ``add_submission`` makes them; it reads
    each cell of the lesson again for each hand-in, which takes ten times as long.

    Returns
    -------
    bool
        Whether a person has given marks or comments, which stay.
    """
    from nbgrader import api
    from sqlalchemy import bindparam, insert, select, update

    db = gradebook.db
    assignment, notebook = api.Assignment.__table__, api.Notebook.__table__
    hand_in, submitted = api.SubmittedAssignment.__table__, api.SubmittedNotebook.__table__
    cell = api.BaseCell.__table__
    own = select(assignment.c.id, notebook.c.id.label("notebook")).join(
        notebook, notebook.c.assignment_id == assignment.c.id
    )
    of, of_notebook = db.execute(
        own.where(assignment.c.name == lesson, notebook.c.name == lesson)
    ).one()
    known = (
        select(hand_in.c.id, submitted.c.id.label("notebook"))
        .join(submitted, submitted.c.assignment_id == hand_in.c.id)
        .where(hand_in.c.student_id == student, hand_in.c.assignment_id == of)
        .where(submitted.c.notebook_id == of_notebook)
    )
    found = db.execute(known).first()
    if found:
        db.execute(update(hand_in).where(hand_in.c.id == found.id).values(timestamp=when))
        place = found.notebook
    else:
        new, place = api.new_uuid(), api.new_uuid()
        facts = {"id": new, "assignment_id": of, "student_id": student, "timestamp": when}
        db.execute(insert(hand_in).values(facts))
        db.execute(insert(submitted).values(id=place, assignment_id=new, notebook_id=of_notebook))
        cells = db.execute(select(cell.c.id, cell.c.type).where(cell.c.notebook_id == of_notebook))
        kinds = [(one.id, one.type) for one in cells]
        for table, of_it in ((api.Grade, "GradeCell"), (api.Comment, "SolutionCell")):
            rows = [
                {"cell_id": i, "notebook_id": place} for i, k in kinds if k in (of_it, "TaskCell")
            ]
            if rows:
                db.execute(insert(table.__table__), rows)
    by_hand = False
    for table, values in ((api.Grade.__table__, scores), (api.Comment.__table__, comments)):
        rows = db.execute(
            select(table, cell.c.name)
            .join(cell, cell.c.id == table.c.cell_id)
            .where(table.c.notebook_id == place)
        ).all()
        new = [{"row": row.id, "value": values.get(row.name)} for row in rows]
        if table is api.Grade.__table__:
            by_hand |= any(row.manual_score is not None or row.extra_credit for row in rows)
            waits = [row.manual_score is not None or values.get(row.name) is None for row in rows]
            new = [one | {"waits": wait} for one, wait in zip(new, waits, strict=True)]
            more = {"auto_score": bindparam("value"), "needs_manual_grade": bindparam("waits")}
        else:
            by_hand |= any(row.manual_comment for row in rows)
            more = {"auto_comment": bindparam("value")}
        if new:
            change = update(table).where(table.c.id == bindparam("row")).values(more)
            db.connection().execute(change, new)
    return by_hand


def states(gradebook, student: str | None = None, lesson: str | None = None) -> dict:
    """Return what stands for all that a gradebook has of each hand-in, or of one: a hash.

    So `course grade` knows what nobody has touched since it was merged. By ``(student, lesson)``.
    """
    one = {} if student is None else {"student": student, "lesson": lesson}
    options = {"yield_per": 1000}
    rows = gradebook.db.execute(_state_query(bool(one)), one, execution_options=options)
    return {
        key: hashlib.sha256(json.dumps([[*map(str, row)] for row in group]).encode()).hexdigest()
        for key, group in groupby(rows, lambda row: tuple(row[:2]))
    }


@cache
def _state_query(of_one: bool):
    from nbgrader import api
    from sqlalchemy import bindparam, literal, null, select, text, union_all

    assignment, hand_in = api.Assignment.__table__, api.SubmittedAssignment.__table__
    submitted, cell = api.SubmittedNotebook.__table__, api.BaseCell.__table__
    parts = []
    for kind in (api.Grade.__table__, api.Comment.__table__):
        values = ["auto_score", "manual_score", "extra_credit", "needs_manual_grade"]
        if kind is not api.Grade.__table__:
            values = ["auto_comment", "manual_comment", None, None]
        part = (
            select(
                hand_in.c.student_id,
                assignment.c.name,
                literal(kind.name).label("kind"),
                cell.c.name.label("cell"),
                hand_in.c.timestamp,
                *(kind.c[name] if name else null() for name in values),
            )
            .select_from(hand_in)
            .join(assignment, assignment.c.id == hand_in.c.assignment_id)
            .join(submitted, submitted.c.assignment_id == hand_in.c.id)
            .join(kind, kind.c.notebook_id == submitted.c.id)
            .join(cell, cell.c.id == kind.c.cell_id)
        )
        if of_one:
            part = part.where(hand_in.c.student_id == bindparam("student"))
            part = part.where(assignment.c.name == bindparam("lesson"))
        parts.append(part)
    return union_all(*parts).order_by(*map(text, "1234"))


@contextmanager
def open_gradebook(root: Path, patience: float) -> Iterator:
    """Give nbgrader's ``Gradebook`` of a course, for many hand-ins one after another.

    The database finds the marks of one hand-in without reading those of all others, and SQLAlchemy
    translates each question once.
    """
    from nbgrader.api import Gradebook
    from sqlalchemy import text

    with Gradebook(gradebook_url(root, patience)) as gradebook:
        gradebook.db().expire_on_commit = False  # a hand-in's rows are written and not read again
        for table, column in _INDEXES:
            name = f"course_{table}_{column}"
            gradebook.db.execute(text(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({column})"))
        gradebook.db.commit()
        yield gradebook


# nbgrader's own begin with the other column.
_INDEXES = (
    ("submitted_assignment", "student_id"),
    ("submitted_notebook", "assignment_id"),
    ("grade", "notebook_id"),
    ("comment", "notebook_id"),
)


def _marked(grades: list, path: Path, student: str, name: str) -> Marked:
    lesson = path.stem
    course, order = _facts(path)
    places = {cell: place for place, cell in reversed([*enumerate(order)])}
    grades = sorted(
        (grade for grade in grades if grade.name is not None),
        key=lambda grade: places.get(grade.name, len(order)),
    )
    marks = {
        grade.name: Mark(
            score=_score(grade),
            points=grade.max_score,
            reason=course.get("reasons", {}).get(grade.name),
            task=course.get("tasks", {}).get(grade.name),
            automatic=grade.auto_score,
        )
        for grade in grades
    }
    return Marked(
        student=student,
        name=name,
        lesson=lesson,
        marks=marks,
        total=sum(mark.score or 0 for mark in marks.values()),
        points=sum(mark.points for mark in marks.values()),
        isolation=course.get("isolation", ""),
        stopped=course.get("stopped"),
        tampered=course.get("tampered", []),
        problem=course.get("problem"),
        hand_in_hash=course.get("hand_in_hash"),
        needs_hand=any(mark.score is None for mark in marks.values()),
    )


def _by_module(names: list[str]) -> list[str]:
    """Return names of ``course_utils``, those of one module together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        module = ".".join(name.split(".")[: 2 + name.startswith("course_utils.checks.")])
        groups.setdefault(module, []).append(name)
    return [
        group[0] if len(group) == 1 else f"{len(group)} names in {module}"
        for module, group in groups.items()
    ]


def _tell_copies(found: list[Marked]) -> None:
    """Name to each hand-in those whose model file has the very same bytes."""
    owners: dict[tuple[str, str], dict[str, None]] = {}
    for one in found:
        for task in one.tasks:
            if task["kind"] == "model" and task["sha256"]:
                owners.setdefault((task["task"], task["sha256"]), {})[one.student] = None
    for one in found:
        keys = [(task["task"], task["sha256"]) for task in one.tasks]
        groups = [group for key in keys if len(group := owners.get(key, ())) > 1]
        # Of a file that a thousand have, a thousand lists of all would fill the memory.
        others = {name for group in groups for name in islice(group, _COPIES + 1)} - {one.student}
        one.same_model_as = sorted(others)[:_COPIES]
        if (more := max(map(len, groups), default=0) - 1 - _COPIES) > 0:
            one.same_model_as.append(f"{more} more")


_COPIES = 20
"""Students that are named to each other as having one model file."""


def _by_hand(name: str, mark: Mark) -> str | None:
    """Return that a person has overruled the tests, so that it leaves a trace."""
    if (
        mark.score is None
        or mark.automatic is None
        or isclose(mark.score, mark.automatic, abs_tol=1e-9)
    ):
        return None
    who = "the scorer gives" if mark.task else "the tests give"
    return f"{name}: {mark.score:.4g} by hand ({who} {mark.automatic:.4g})"


def _lost(task: dict) -> list[str]:
    """Return why a task has not all its points."""
    if task["reason"]:
        return [task["reason"]]
    if task["iou"] < task["low"]:
        return [f"task {task['task']}: IoU {task['iou']:.3f}, marks begin at {task['low']:g}"]
    if task["iou"] < task["high"]:
        return [f"task {task['task']}: IoU {task['iou']:.3f}, full marks from {task['high']:g}"]
    return []


def _score(grade) -> float | None:
    if grade.manual_score is None and grade.auto_score is None:
        return None
    by_hand = grade.manual_score is not None
    return (grade.manual_score if by_hand else grade.auto_score) + (grade.extra_credit or 0)


def register(root: Path, lessons: Iterable[str], url: str | None = None) -> None:
    """Enter lessons, with their marked cells, into a gradebook, or bring them up to date.

    Lessons that the course's own gradebook has as they are now are passed over.

    Parameters
    ----------
    root
        The course's folder.
    lessons
        Full names of lessons, as in ``solutions/``.
    url
        The gradebook; by default the course's own.

    Raises
    ------
    CourseError
        If a lesson's marked cells have changed since hand-ins of it were graded, or
        its notebook is faulty, such as a task's cell with other points than tasks.toml has.
    """
    note = root / "grading" / "registered.json"
    own = url is None
    known = {}
    if own and note.exists() and (root / "grading" / "gradebook.db").exists():
        with suppress(ValueError):  # damaged: all are entered anew
            known = dict(json.loads(note.read_text()))
    for lesson in lessons:
        version = tree_hash(root / "solutions" / lesson, leave_out=("models",))
        if known.get(lesson) == version and _has(gradebook_url(root), lesson):
            sound_source(root, lesson)  # as generate does: tasks.toml may have changed since
            continue
        with TemporaryDirectory() as draft:
            try:
                generate(root, [lesson], Path(draft), database=url or gradebook_url(root))
            except CourseError as error:
                if "there are submissions associated with it" not in str(error):
                    raise
                raise CourseError(
                    f"{lesson} has gained or lost marked cells since its first hand-in was graded. "
                    f"Undo that, or forget its marks with `nbgrader db assignment remove {lesson} "
                    "--force` and grade again."
                ) from None
        if own:
            known[lesson] = version
            write_atomic(note, json.dumps(known))


def _has(url: str, lesson: str) -> bool:
    """Tell whether a gradebook knows a lesson; somebody may have removed it by nbgrader."""
    from nbgrader.api import Gradebook

    with Gradebook(url) as gradebook:
        return any(assignment.name == lesson for assignment in gradebook.assignments)
