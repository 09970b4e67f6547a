"""``course report``: the class table in the terminal and as a page.

The page is one file without scripts; it links to nothing but the feedback pages beside it. A class
of more than `PAGE` students gets pages of so many each, and ``report.html`` is a summary that leads
to them, with a field to find a student by, which is its only script.
Nothing is said by colour alone: every mark is a number with a sign, every bar has its numbers
beside it. On a narrow screen each row of a table becomes a card.
"""

import json
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from course_utils.data.segmentation_set import SegmentationSet
from course_utils.display import colours
from course_utils.errors import CourseError
from course_utils.files import tree_files, tree_hash, write_atomic
from course_utils.grading.gradebook import Marked, class_marks, lesson_facts, lesson_table
from course_utils.grading.marking import samples
from course_utils.grading.marking.task_marks import update_marks
from course_utils.hand_in.tasks import Task, get_task
from course_utils.paths import course_root
from course_utils.table import shortened, text_table

PAGE = 200
"""Students on a page."""
_WIDTH, _HEIGHT = 240, 34
_LOOK = 50  # students that a large class's summary names


def report(open_page: bool = False, root: Path | None = None) -> Path:
    """Print the class table and write it to ``grading/report.html``; return that path.

    Parameters
    ----------
    open_page
        Whether to open the page in a browser.
    root
        The course's folder.

    Raises
    ------
    CourseError
        If nothing is graded yet.
    """
    root = root or course_root()
    marked = class_marks(root)
    waiting = not_graded(root, marked)
    print(text_report(marked, waiting))
    path = root / "grading" / "report.html"
    stale = {*(path.parent / "report").glob("*.html")}
    for place, text in html_pages(marked, waiting, _feedback_pages(path.parent, marked)):
        write_atomic(path.parent / place, text)
        stale.discard(path.parent / place)
    for left in stale:
        left.unlink()
    print(f"\nThe same with reasons and intervals: {path}")
    if open_page and not webbrowser.open(path.resolve().as_uri()):
        raise CourseError(f"no browser could be started; open {path} by hand.")
    return path


def text_report(marked: list[Marked], waiting: Sequence[str] = ()) -> str:
    """Return one table a lesson: marks per cell, total, IoU with its interval, what went wrong.

    Parameters
    ----------
    marked
        Graded hand-ins.
    waiting
        Those without a mark, or with that of an older one, as from :func:`not_graded`.
    """
    parts = []
    if len({one.student for one in marked}) > PAGE:
        parts = [lesson_table(marked), ""]
        marked = []  # the page has them
    for lesson, group in _by_lesson(marked).items():
        cells = list(group[0].marks)
        headings = ["student", *cells, "total", "IoU (95 %)"]
        rows = []
        for one in group:
            ious = [
                f"{task['iou']:.3f} ({task['interval'][0]:.2f}-{task['interval'][1]:.2f})"
                for task in one.tasks
                if task["iou"] is not None
            ]
            scores = [
                _number(one.marks[cell].score) if cell in one.marks else "-" for cell in cells
            ]
            total = f"{one.total:.4g} of {one.points:.4g}"
            rows.append([one.student, *scores, total, ", ".join(ious) or "-"])
        wrong = [f"  {one.student}: {remark}" for one in group for remark in one.remarks]
        parts += [lesson, text_table(headings, rows)]
        parts += ["What went wrong:", *wrong] if wrong else []
        parts.append("")
    if waiting:
        parts.append(f"Not graded yet: {shortened(waiting)}. Run course grade.")
    return "\n".join(parts).rstrip()


def html_pages(
    marked: list[Marked],
    waiting: Sequence[str],
    pages: Mapping[tuple[str, str], str] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield the address, from ``grading/``, and the text of each page; parameters as below."""
    students = sorted({one.student for one in marked}, key=str.casefold)
    if len(students) <= PAGE:
        yield "report.html", html_report(marked, waiting, pages)
        return
    rows = {student: at for at, student in enumerate(students)}
    yield "report.html", _summary_page(marked, waiting, students, rows)
    inside = {key: f"../{place}" for key, place in (pages or {}).items()}
    chunks: dict[int, list[Marked]] = {}
    for one in marked:
        chunks.setdefault(rows[one.student] // PAGE, []).append(one)
    for number, chunk in sorted(chunks.items()):
        yield from _pages_of(chunk, number, len(chunks), rows, inside)


def _summary_page(
    marked: list[Marked], waiting: Sequence[str], students: list[str], rows: dict[str, int]
) -> str:
    """Return the first page of a large class: figures, where to look, and where everybody is."""
    names = {one.student: one.name for one in marked}
    first = range(0, len(students), PAGE)
    found = [names[s] if names[s] == s else f"{names[s]}\n{s}" for s in students]
    strange = [one for one in marked if one.tampered or one.problem or one.same_model_as]
    return _render(
        marked,
        parts={"facts", "index", "how"},
        links=[
            ("Students", "#students"),
            ("Lessons", "#lessons"),
            *([("To look at first", "#look")] if strange else []),
            ("How the marks were made", "#how"),
        ],
        waiting=shortened(waiting, _LOOK),
        page_size=PAGE,
        index=[
            (names[chunk[0]], names[chunk[-1]], f"report/{_page_name('students', at // PAGE)}")
            for at in first
            for chunk in [students[at : at + PAGE]]
        ],
        overview=[facts for _, facts in sorted(lesson_facts(marked).items())],
        look=[
            (
                one.name,
                f"report/{_page_name(one.lesson, rows[one.student] // PAGE)}#s{rows[one.student]}",
                one.remarks[0],
            )
            for one in strange[:_LOOK]
        ],
        more=max(0, len(strange) - _LOOK),
        names_json=_script_json(found),
    )


def _pages_of(
    chunk: list[Marked], number: int, count: int, rows: dict[str, int], pages: Mapping
) -> Iterator[tuple[str, str]]:
    """Yield the table of all lessons of some students, and a page of each of their lessons."""
    lessons = _by_lesson(chunk)
    places = {lesson: _page_name(lesson, number) for lesson in lessons}
    heading = f"Class report, page {number + 1} of {count}"
    near = [("earlier students", number - 1), ("later students", number + 1)]

    def links(kind: str) -> list[tuple[str, str]]:
        beside = [(words, _page_name(kind, at)) for words, at in near if 0 <= at < count]
        return [("Summary", "../report.html"), *beside]

    own = {"pages": pages, "rows": rows, "places": places}
    name = _page_name("students", number)
    text = _render(chunk, {"all"}, [*links("students"), *places.items()], heading, **own)
    yield f"report/{name}", text
    for lesson, group in lessons.items():
        around = [links(lesson)[0], ("All lessons", name)]
        text = _render(group, {"lessons"}, around, f"{heading}: {lesson}", **own)
        yield f"report/{places[lesson]}", text


def _page_name(kind: str, number: int) -> str:
    return f"{kind}-{number + 1:03d}.html"


def _script_json(value: object) -> Markup:
    """Return JSON that can stand in a script element, whatever signs a name holds."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def html_report(
    marked: list[Marked],
    waiting: Sequence[str],
    pages: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Return the page of a class that fits on one.

    Parameters
    ----------
    marked
        Graded hand-ins, as from :func:`course_utils.grading.gradebook.class_marks`.
    waiting
        Hand-ins that were collected and are not graded yet, as from :func:`not_graded`.
    pages
        Address of the feedback page by student and lesson, where there is one.
    """
    lessons = _by_lesson(marked)
    return _render(
        marked,
        {"facts", "all", "lessons", "how"},
        [
            ("All lessons", "#all"),
            *((lesson, f"#{lesson}") for lesson in lessons),
            ("How the marks were made", "#how"),
        ],
        waiting=", ".join(waiting),
        pages=pages or {},
        places={lesson: f"#{lesson}" for lesson in lessons},
        rows={},
    )


@cache
def _template():
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        **{"bar": bar, "sign": sign, "colour": _colour, "number": _number},
        **{"classes": class_scores, "gallery": _gallery},
    }
    return environment.from_string(
        files("course_utils.grading").joinpath("report.html").read_text(encoding="utf-8")
    )


def _render(
    marked: list[Marked],
    parts: set[str],
    links: list[tuple[str, str]],
    heading: str = "Class report",
    **more: object,
) -> str:
    """Return a page with some parts of the report; ``links`` are words and addresses."""
    lessons = _by_lesson(marked)
    students = sorted({one.student for one in marked}, key=str.casefold)
    of = {(one.student, one.lesson): one for one in marked}
    tasks = [task for one in marked for task in one.tasks]
    return _template().render(
        parts=parts,
        links=links,
        heading=heading,
        lessons=lessons,
        students=students,
        names={one.student: one.name for one in marked},
        of=of,
        points={lesson: group[0].points for lesson, group in lessons.items()},
        totals={s: sum(of[s, n].total for n in lessons if (s, n) in of) for s in students},
        least=least_solved(marked),
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
        isolation=sorted({one.isolation for one in marked if one.isolation}),
        sources=sorted({(t["task"], t["source"], t["test_set"]) for t in tasks if t["source"]}),
        tampered=sum(bool(one.tampered) for one in marked),
        unmarked=sum(task["iou"] is None for task in tasks),
        **more,
    )


def not_graded(root: Path, marked: list[Marked]) -> list[str]:
    """Return ``student/lesson`` of the hand-ins whose mark is missing or out of date.

    ``course grade`` leaves the hash of what it has marked; of ``nbgrader autograde`` the files'
    times tell this. Hidden files are not the hand-in's. A task's record leaves its bounds.
    """
    graded = {(one.student, one.lesson): one for one in marked}
    found = []
    for path in sorted((root / "grading" / "submitted").glob("[!.]*/*")):
        student, lesson = path.parent.name, path.name
        if not path.is_dir():
            continue
        executed = root / "grading" / "autograded" / student / lesson / f"{lesson}.ipynb"
        if (student, lesson) not in graded:
            found.append(f"{student}/{lesson}")
            continue
        one = graded[student, lesson]
        known = one.hand_in_hash
        newer = _newest(path) > executed.stat().st_mtime
        if newer if known is None else tree_hash(path) != known:
            found.append(f"{student}/{lesson} (handed in anew, the mark is of the old one)")
        elif update_marks({task["task"]: dict(task) for task in one.tasks}):
            found.append(f"{student}/{lesson} (the task's points or bounds have changed since)")
    return found


def sign(score: float | None, points: float) -> str:
    """Return the sign beside a mark: full, part, nothing, or waiting for a person."""
    if score is None:
        return "…"
    return "✓" if score >= points else "✗" if score <= 0 else "◐"


def bar(task: dict) -> str:
    """Return an SVG of a task's IoU with its interval on 0..1, against floor, low and high.

    The marks grow along the band from low to high. All numbers are in its title too.
    """

    def x(value: float) -> str:
        return f"{8 + value * (_WIDTH - 16):.1f}"

    words = (
        f"{task.get('measure', 'mean IoU')} {task['iou']:.3f}, "
        f"95 percent interval {task['interval'][0]:.3f} to {task['interval'][1]:.3f}; "
        f"floor {task['floor']:g}, marks from {task['low']:g}, full at {task['high']:g}"
    )
    left, right = (x(value) for value in task["interval"])
    return Markup(
        f'<svg class="bar" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}"><title>{words}</title>'
        f'<line class="axis" x1="{x(0)}" x2="{x(1)}" y1="14" y2="14"/>'
        f'<path class="band" d="M{x(task["low"])} 14L{x(task["high"])} 5V23L{x(task["low"])} 14"/>'
        f'<path class="rest" d="M{x(task["high"])} 5H{x(1)}V23H{x(task["high"])}Z"/>'
        f'<line class="floor" x1="{x(task["floor"])}" x2="{x(task["floor"])}" y1="4" y2="24"/>'
        f'<text x="{x(task["floor"])}" y="33" style="text-anchor: end">floor</text>'
        f'<text x="{x(task["low"])}" y="33">{task["low"]:g}</text>'
        f'<text x="{x(task["high"])}" y="33">{task["high"]:g}</text>'
        f'<line class="interval" x1="{left}" x2="{right}" y1="14" y2="14"/>'
        f'<circle class="iou" cx="{x(task["iou"])}" cy="14" r="3"/></svg>'
    )


def least_solved(marked: list[Marked], most: int = 8) -> list[tuple[str, str, float]]:
    """Return lesson, cell and the class's share of its points, where most were lost, lowest first.

    A mark that waits for a person counts nowhere.
    """
    given: dict[tuple[str, str], list[float]] = {}
    for one in marked:
        for cell, mark in one.marks.items():
            if mark.score is not None and mark.points:
                given.setdefault((one.lesson, cell), []).append(mark.score / mark.points)
    shares = [(*key, sum(parts) / len(parts)) for key, parts in given.items()]
    return sorted((one for one in shares if one[2] < 1), key=lambda one: one[2])[:most]


def class_scores(task: dict) -> list[tuple[str, float | None, bool]]:
    """Return name, IoU and whether it is the lowest, of each class of a task's record."""
    scores = task.get("per_class") or {}
    order = [name for name in get_task(task["task"], task["profile"]).classes if name in scores]
    scores = {name: scores[name] for name in order}
    lowest = min((score for score in scores.values() if score is not None), default=None)
    return [(name, score, score is not None and score == lowest) for name, score in scores.items()]


def _gallery(group: list[Marked]) -> list[dict]:
    """Return the public pictures that models of a lesson were shown, with their true masks."""
    shown = {(t["task"], t["profile"]) for one in group for t in one.tasks if t.get("samples")}
    found = []
    for name, profile in sorted(shown):
        task = get_task(name, profile)
        if public := _public(task):
            found.append(
                {
                    "task": name,
                    "profile": profile if len(shown) > 1 else "",
                    "pictures": samples.picture_strip(public.images),
                    "truth": samples.mask_strip(public.masks),
                    "colours": list(
                        zip(task.classes, colours(len(task.classes)).tolist(), strict=True)
                    ),
                }
            )
    return found


@cache
def _public(task: Task) -> SegmentationSet | None:
    """Return the public pictures of a task; a large class's report shows them on many pages."""
    return samples.sample_pictures(task)


def _feedback_pages(folder: Path, marked: list[Marked]) -> dict[tuple[str, str], str]:
    """Return the addresses of feedback pages, from ``grading/``, that are there."""
    places = {
        (m.student, m.lesson): f"feedback/{m.student}/{m.lesson}/{m.lesson}.html" for m in marked
    }
    return {key: quote(place) for key, place in places.items() if (folder / place).exists()}


def _colour(symbol: str) -> str:
    """Return the class of a mark with this sign in the page."""
    return {"✓": "full", "◐": "part", "✗": "none"}.get(symbol, "")


def _by_lesson(marked: list[Marked]) -> dict[str, list[Marked]]:
    lessons: dict[str, list[Marked]] = {}
    for one in marked:
        lessons.setdefault(one.lesson, []).append(one)
    return lessons


def _newest(folder: Path) -> float:
    """Return when a folder's newest file that is not hidden was written; 0 if it has none."""
    return max((path.stat().st_mtime for path in tree_files(folder)), default=0)


def _number(value: float | None) -> str:
    return "…" if value is None else f"{value:.3g}"
