"""Whose a hand-in is, and of which lesson: read from the names that lead to its files."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(file|onlinetext)_?(?P<file>.*)")
# Canvas names files, not folders: with the ending, a folder `homework_2026_11_final` is no match.
_CANVAS = re.compile(
    r"(?P<name>\w+?)_(LATE_)?(?P<id>[0-9]+)_(?P<upload>[0-9]+)_(?P<file>.+\.[A-Za-z]\w*)"
)
_CANVAS_ANONYMOUS = re.compile(
    r"(?P<name>anon)_(LATE_)?(?P<id>\w+)_(?P<upload>[0-9]+)_(?P<file>.+\.[A-Za-z]\w*)"
)
# Folders that students make inside of their own.
_NOBODYS = {
    *("models", "work", "course", "lesson", "lessons", "notebook", "notebooks", "homework"),
    *("solution", "solutions", "submission", "submissions", "assignment", "abgabe", "l\u00f6sung"),
    *("files", "final", "upload", "hand-in", "entrega", "rendu"),
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
        if found := pattern.fullmatch(name):
            return found
    return None


def platform_file(name: str) -> str:
    """Return a file's name without what Moodle or Canvas has put before it."""
    found = match_platform(name)
    return (found and found["file"]) or name


def platform_prefix(name: str) -> str:
    """Return what is alike in the names of all files that Moodle or Canvas has of a student."""
    found = match_platform(name)
    return name[: found.start("file")].rsplit("_", 2)[0] if found and found["file"] else ""


def plain_file(name: str) -> str:
    """Return a file's name without what platforms and browsers add: ``(2)``, ``-1``, ``-Copy3``.

    >>> plain_file("doeann_12_345_unet-1.onnx"), plain_file("Copy of 02_metrics (1)-2.ipynb")
    ('unet.onnx', '02_metrics.ipynb')
    """
    path = Path(platform_file(name))
    stem = re.sub(r"(-\d+| ?\(\d+\)|-copy\d*)+$", "", path.stem, flags=re.IGNORECASE)
    return stem.removeprefix("Copy of ") + path.suffix.lower()


def lesson_of(file_name: str, lessons: list[str]) -> str | None:
    """Return the lesson that a notebook's name tells."""
    stem = Path(plain_file(file_name)).stem
    return next((lesson for lesson in lessons if lesson.casefold() == stem.casefold()), None)


def student_of(
    parts: tuple[str, ...], outer: int, lessons: list[str]
) -> tuple[Student, int] | None:
    """Return who the path belongs to, and Canvas's number of the upload.

    Names inside of a student's own zip count only where nothing outside names anybody.
    """
    folders = parts[:-1]
    return (
        by_platform(parts[:outer])
        or _by_folder(folders[:outer][::-1], lessons)
        or by_platform(parts[outer:])
        or _by_folder(folders[outer:], lessons)
    )


def by_platform(parts: tuple[str, ...]) -> tuple[Student, int] | None:
    """Return who the outermost of a platform's names is about."""
    for found in filter(None, map(match_platform, parts)):
        if found.re is _MOODLE:
            return Student("moodle", found["name"].strip(), found["id"]), 0
        return Student("canvas", found["name"], found["id"]), int(found["upload"])
    return None


def _by_folder(parts: tuple[str, ...], lessons: list[str]) -> tuple[Student, int] | None:
    """Return who the first folder or zip with a name of its own is about.

    ``Jane/homework/02_metrics.ipynb`` is Jane's; homework's only if there is no other name.
    """
    names = [part[:-4] if part.lower().endswith(".zip") else part for part in parts]
    names = [name for name in names if lesson_of(f"{name}.ipynb", lessons) is None]
    own = [name for name in names if name.casefold() not in _NOBODYS]
    named = next(iter(own or [name for name in names if name != "models"]), None)
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
    _tell_lookalikes_apart([student for student, _ in found], students)
    _tell_namesakes_apart(found, students)


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
                numbers.setdefault((student_id, lesson), set()).add(number)
    for student, lesson in found:
        if student.number:  # a folder tells none, and may be anybody's of that name
            numbers.setdefault((student.student_id, lesson), set()).add(student.number)
    for student, lesson in found:
        if student.platform == "moodle":
            namesakes = numbers[student.student_id, lesson]
            known = students.get(student.student_id, {}).get("numbers", {}).get(lesson)
            # One of two namesakes who hands in again, alone this time, has an id already.
            again = f"{student.student_id}_{student.number}" in students
            student.namesake = again or (len(namesakes) > 1 and student.number != known)
