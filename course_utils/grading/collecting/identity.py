"""Whose a hand-in is, and of which lesson: read from the names that lead to its files."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from course_utils.grading.collecting.unpack import MAX_NAME

_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(file|onlinetext)_?(?P<file>.*)")
# Canvas names files, not folders: with the ending, a folder `homework_2026_11_final` is no match.
_UPLOAD = r"_(?P<upload>[0-9]+)_(?P<file>.+\.[A-Za-z]\w*)"
# Of ASCII, Canvas leaves letters, digits and _ in a name; accents of their own are no \w.
_CANVAS = re.compile(r"(?P<name>[\w\x80-\U0010ffff]+?)_(LATE_)?(?P<id>[0-9]+)" + _UPLOAD)
_CANVAS_ANONYMOUS = re.compile(r"(LATE_)?(?P<name>anon)_(?P<id>[A-Za-z0-9]+)" + _UPLOAD)
# What Moodle calls everybody whose names it hides, in some of its languages.
_HIDDEN = {"participant", "participante", "partecipante", "teilnehmer", "teilnehmerin", "deelnemer"}
# Names of folders that are no person's, whatever number they have.
_NOBODYS = {
    *("models", "work", "course", "lesson", "lessons", "notebook", "notebooks", "homework"),
    *("solution", "solutions", "submission", "submissions", "assignment", "abgabe", "l\u00f6sung"),
    *("files", "final", "upload", "hand-in", "entrega", "rendu", "hw", "week", "exercise"),
}
# Letters that Unicode does not take apart into one of ASCII and an accent.
_LETTERS = str.maketrans(
    {"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "ı": "i"}
    | {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th"}
)


@dataclass
class Student:
    """Who handed in: the platform's name and number, and a safe id made of them."""

    platform: str
    name: str
    number: str = ""
    namesake: bool = False
    lookalike: bool = False

    @property
    def student_id(self) -> str:
        """Letters, digits, ``.``, ``_`` and ``-`` only; the same at every collection.

        Canvas's number belongs to the person. Moodle's differs from assignment to
        assignment, so it is used only to tell namesakes apart; people whose names differ, but
        not in ASCII, are told apart by a hash of the name, which stays.
        """
        slug = safe_name(self.name)
        if self.lookalike:
            slug += f"_{hashlib.sha256(_full(self.name).encode()).hexdigest()[:6]}"
        return f"{slug}_{self.number}" if self.namesake or self.platform == "canvas" else slug

    @property
    def person(self) -> tuple[str, str, str]:
        """What is alike for two hand-ins of one person in what was given."""
        name = "" if self.platform == "canvas" else self.name  # there, the number is enough
        return self.platform, name, self.number


def safe_name(name: str) -> str:
    """Return a student id of letters, digits, ``.``, ``_`` and ``-``.

    >>> safe_name("Zoë O'Neil"), safe_name("../../etc"), safe_name("李 明"), safe_name("Wałęsa")
    ('Zoe-O-Neil', 'etc', 'student-674e-660e', 'Walesa')
    """
    plain = (
        unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
    )
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip(".-_")[:60]
    if slug:
        return slug
    return "student-" + "-".join(f"{ord(letter):x}" for letter in name if not letter.isspace())[:50]


def _full(name: str) -> str:
    """Return a name without what may differ for one person: case, spaces and signs."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in plain if letter.isalnum()) or plain


def match_platform(name: str) -> re.Match | None:
    """Return the parts of a name that Moodle or Canvas has given: ``name``, ``id``, ``file``."""
    for pattern in (_MOODLE, _CANVAS_ANONYMOUS, _CANVAS):
        if len(name) <= MAX_NAME and (found := pattern.fullmatch(name)):
            return found
    return None


def platform_file(name: str) -> str:
    """Return a file's name without what Moodle or Canvas has put before it."""
    found = match_platform(name)
    return (found and found["file"]) or name


def platform_prefix(name: str) -> str:
    """Return what is alike in the names of all files that Moodle or Canvas has of a student."""
    found = match_platform(name)
    return f"{found['name']}_{found['id']}" if found and found["file"] else ""


_COPY = "copy|kopie|copie|copia|kopia"
_COPIED = re.compile(rf"(-\d+| ?\(\d+\)|[ _-]{{1,3}}({_COPY})( ?\d+)?)+$", re.IGNORECASE)
_COPY_OF = re.compile(rf"^({_COPY}) (of|von|de|di|av) ", re.IGNORECASE)


def plain_file(name: str) -> str:
    """Return a file's name without what platforms and browsers add: ``(2)``, ``-1``, ``-Copy3``.

    >>> plain_file("doeann_12_345_unet-1.onnx"), plain_file("Copy of 02_metrics (1)-2.ipynb")
    ('unet.onnx', '02_metrics.ipynb')
    """
    path = Path(platform_file(name))
    return _COPY_OF.sub("", _COPIED.sub("", path.stem)) + path.suffix.lower()


def lesson_of(file_name: str, lessons: list[str]) -> str | None:
    """Return the lesson whose name this is."""
    stem = Path(plain_file(file_name)).stem
    return next((lesson for lesson in lessons if lesson.casefold() == stem.casefold()), None)


def lesson_in(file_name: str, lessons: list[str]) -> str | None:
    """Return the lesson whose name stands in a notebook's, the longest if there are two.

    >>> lesson_in("final 02_metrics_jane.ipynb", ["00_start", "02_metrics"])
    '02_metrics'
    """
    stem = Path(platform_file(file_name)).stem.casefold()
    named = [
        lesson
        for lesson in lessons
        if re.search(rf"(?<![^\W_]){re.escape(lesson.casefold())}(?![^\W_])", stem)
    ]
    return lesson_of(file_name, lessons) or max(named, key=len, default=None)


@dataclass(frozen=True)
class Place:
    """The names that lead to a notebook, and the lesson that it is of.

    Attributes
    ----------
    parts
        Names of zips and folders, and its own.
    outer
        How many of them come from outside of the student's own zip.
    given
        How many of them are names of what was given to be collected.
    whole
        Whether what was given may be one student's, not a folder that holds several.
    """

    parts: tuple[str, ...]
    outer: int
    given: int
    whole: bool
    lesson: str


def students_of(places: list[Place], lessons: list[str]) -> list[tuple[Student, int] | None]:
    """Return who each notebook belongs to, and Canvas's number of the upload.

    Names inside of a student's own zip count only where nothing outside names anybody.
    """
    told = [by_platform(place.parts[: place.outer]) for place in places]
    others = [place for place, known in zip(places, told, strict=True) if not known]
    names = iter(_by_level(others, lessons))
    found = []
    for place, known in zip(places, told, strict=True):
        name = None if known else next(names)
        by_folder = (Student("folder", name), 0) if name else None
        found.append(known or by_folder or _by_inside(place, lessons))
    return found


def by_platform(parts: tuple[str, ...]) -> tuple[Student, int] | None:
    """Return who the outermost of a platform's names is about."""
    for found in filter(None, map(match_platform, parts)):
        if found.re is _MOODLE:
            return Student("moodle", found["name"].strip(), found["id"]), 0
        return Student("canvas", found["name"], found["id"]), int(found["upload"])
    return None


def _by_level(places: list[Place], lessons: list[str]) -> list[str | None]:
    """Return the name of the folder or zip that is each student's, by where people's names stand.

    Below a wrapper (``Section A``) lie several hand-ins of a lesson; below a student's name
    one. So people's names stand in the outermost folders of which most hold a lesson once;
    what is below them (``Jane/attempt``, ``Max/attempt``) is nobody's name. What was given to
    be collected names somebody only if nothing in it does.
    """
    chains, above = [], []
    for place in places:
        outside = place.parts[:-1][: place.outer]
        chains.append(_own_names(outside[place.given :], lessons))
        above.append(_own_names(outside[: place.given], lessons))
    # Of a folder of many, the name is none for what lies in it without any other.
    rows = [
        (chain or (given if place.whole else []), given if chain or place.whole else [])
        for place, chain, given in zip(places, chains, above, strict=True)
    ]
    depth = max((len(chain) for chain, _ in rows), default=0)
    levels = [[_at(level, chain) for chain, _ in rows] for level in range(depth)]
    levels.append([_at(0, given or chain) for chain, given in rows])
    names = next((level for level in levels if _tells_apart(level, places)), levels[0])
    return [name or _last_resort(place, lessons) for name, place in zip(names, places, strict=True)]


def _at(level: int, names: list[str]) -> str | None:
    return names[min(level, len(names) - 1)] if names else None


def _tells_apart(names: list[str | None], places: list[Place]) -> bool:
    """Tell whether most of the names have at most one folder with a hand-in of each lesson."""
    folders: dict[str, dict[str, set[tuple[str, ...]]]] = {}
    for name, place in zip(names, places, strict=True):
        by_lesson = folders.setdefault((name or "").casefold(), {})
        by_lesson.setdefault(place.lesson, set()).add(place.parts[:-1][: place.outer])
    once = [all(len(found) == 1 for found in own.values()) for own in folders.values()]
    return 2 * sum(once) >= len(once)


def _stems(parts: tuple[str, ...], lessons: list[str]) -> list[str]:
    """Return names of folders and zips, those of lessons left out."""
    names = [part[:-4] if part.lower().endswith(".zip") else part for part in parts]
    return [name for name in names if lesson_of(f"{name}.ipynb", lessons) is None]


def _own_names(parts: tuple[str, ...], lessons: list[str]) -> list[str]:
    return [
        name
        for name in _stems(parts, lessons)
        if re.sub(r"[\W\d_]+$", "", name).casefold() not in _NOBODYS
    ]


def _last_resort(place: Place, lessons: list[str]) -> str | None:
    """Return ``homework`` for ``homework/02_metrics.ipynb``: there is no other name."""
    first = 0 if place.whole else place.given
    outside = _stems(place.parts[first:-1][: place.outer - first], lessons)
    return next((name for name in reversed(outside) if name != "models"), None)


def _by_inside(place: Place, lessons: list[str]) -> tuple[Student, int] | None:
    """Return whom the names inside of a student's zip are about."""
    inside = place.parts[place.outer :]
    if told := by_platform(inside):
        return told
    names = _own_names(inside[:-1], lessons) or _stems(inside[:-1], lessons)
    named = next((name for name in names if name != "models"), None)
    return (Student("folder", named), 0) if named else None


def tell_apart(found: list[tuple[Student, str]], students: dict[str, dict]) -> None:
    """Give different people different ids.

    Parameters
    ----------
    found
        Who hands in now, and for which lesson; ``namesake`` and ``lookalike`` are set.
    students
        Who handed in before, as ``students.json`` holds them.
    """
    _keep_canvas_names([student for student, _ in found], students)
    _tell_lookalikes_apart([student for student, _ in found], students)
    _tell_namesakes_apart(found, students)


def _keep_canvas_names(found: list[Student], students: dict[str, dict]) -> None:
    """Call everybody by the name first known with Canvas's number: a person may change the name."""
    names = {
        number: entry["name"]
        for entry in students.values()
        if entry["platform"] == "canvas"
        for number in entry["numbers"].values()
    }
    for student in found:
        if student.platform == "canvas":
            student.name = names.setdefault(student.number, student.name)


def _tell_lookalikes_apart(found: list[Student], students: dict[str, dict]) -> None:
    """Give people whose different names make the same id, such as 李 Ming and 王 Ming, two ids."""
    named = [
        student
        for student in found
        if student.platform != "canvas"  # there, the number tells them apart
        if (student.platform, student.name) != ("folder", student.student_id)
    ]
    known = {
        student_id.casefold(): _full(entry["name"])
        for student_id, entry in students.items()
        if (entry["platform"], entry["name"]) != ("folder", student_id)
    }
    names = {student_id: {name} for student_id, name in known.items()}
    for student in named:
        names.setdefault(student.student_id.casefold(), set()).add(_full(student.name))
    for student in named:
        plain, full = student.student_id.casefold(), _full(student.name)
        clash = len(names[plain]) > 1 and known.get(plain) != full
        student.lookalike = clash or _as_lookalike(student) in students


def _as_lookalike(student: Student) -> str:
    return replace(student, lookalike=True).student_id


def _tell_namesakes_apart(found: list[tuple[Student, str]], students: dict[str, dict]) -> None:
    """Give two people of one name in one Moodle assignment different ids."""
    numbers: dict[tuple[str, str], set[str]] = {}
    for student_id, entry in students.items():
        for lesson, number in entry["numbers"].items():
            if number:
                numbers.setdefault((student_id.casefold(), lesson), set()).add(number)
    for student, lesson in found:
        if student.number:  # a folder tells none, and may be anybody's of that name
            key = (student.student_id.casefold(), lesson)
            numbers.setdefault(key, set()).add(student.number)
    for student, lesson in found:
        if student.platform == "moodle":
            namesakes = numbers[student.student_id.casefold(), lesson]
            known = students.get(student.student_id, {}).get("numbers", {}).get(lesson)
            # One of two namesakes who hands in again, alone this time, has an id already.
            again = f"{student.student_id}_{student.number}" in students
            hidden = student.name.rpartition("-")[2].casefold() in _HIDDEN
            alike = len(namesakes) > 1 and student.number != known
            student.namesake = hidden or again or alike
