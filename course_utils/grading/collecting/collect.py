"""Hand-ins, as a learning platform or a folder gives them, into ``grading/submitted/``.

Understood are the names that Moodle gives (``Jane Doe_12345_assignsubmission_file_/...`` and the
same flat), those that Canvas gives (``doejane_LATE_12345_67890_...-1.zip``), and plain folders or
zips named after a student; each inside of zips and folders at will.

Students' zips are not trusted: the names inside of one never say whose it is where
anything outside of it does; paths, links, sizes and numbers of files are looked at before a
byte is unpacked; and a refused one does not stop the others.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from course_utils.errors import CourseError
from course_utils.files import tree_hash, write_atomic
from course_utils.grading.collecting.identity import (
    Student,
    by_platform,
    lesson_of,
    match_platform,
    plain_file,
    platform_file,
    platform_prefix,
    student_of,
    tell_apart,
)
from course_utils.grading.collecting.unpack import (
    MAX_BYTES,
    MAX_FILES,
    Refused,
    Room,
    is_junk,
    unpack,
)
from course_utils.grading.gradebook import enter_student, read_students
from course_utils.grading.workplace import grading_folder, read_timestamp
from course_utils.hand_in.notebook import is_untouched, read_notebook
from course_utils.hand_in.tasks import task_names
from course_utils.paths import course_root, list_lessons, resolve_lesson
from course_utils.table import printable, text_table

_BULK_FACTOR = 1000  # a platform's zip holds a class of hand-ins
_DEPTH = 3
_EARLIEST = datetime(1990, 1, 1).timestamp()
_OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_STRAYS = 20  # so many files without a notebook are named


@dataclass
class HandIn:
    """One student's files for one lesson, found somewhere in what was given."""

    student: Student
    lesson: str
    files: dict[str, Path]
    when: float | None
    upload: int = 0
    source: str = ""
    named: bool = True  # whether the notebook's own name tells the lesson


@dataclass
class _Item:
    parts: tuple[str, ...]
    path: Path
    when: float | None  # when it was handed in, where the platform's zip says so
    outer: int  # how many of the parts come from outside of the student's own zip


@dataclass(frozen=True)
class _Inside:
    """What a path lies in: how many zips, since which part a student's own, its time and room."""

    depth: int = 0
    outer: int | None = None
    when: float | None = None
    room: Room | None = None


@dataclass
class Collection:
    """What came of a collection: who came in, what was refused or left out and why, what to see."""

    taken: list[HandIn] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def collect(
    paths: Sequence[Path], lesson: str | None = None, root: Path | None = None
) -> Collection:
    """Put every hand-in below ``paths`` into ``grading/submitted/<student>/<lesson>/``.

    Parameters
    ----------
    paths
        Zips, or folders that hold zips or folders.
    lesson
        Take each notebook as one of this lesson, whatever its name.
    root
        The course's folder.

    Raises
    ------
    CourseError
        If a path does not exist, or not one hand-in was found.
    """
    root = root or course_root()
    folder = grading_folder(root)
    lessons = list_lessons(root / "solutions")
    if lesson is not None:
        lesson = resolve_lesson(lesson, root / "solutions")
    result = Collection()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".collect-") as scratch:
        items: list[_Item] = []
        seen: list[tuple[str, ...]] = []
        bulk = _bulk_zips(paths)
        for path in tqdm(paths, desc="unpacking", disable=len(paths) < 20):
            if not path.exists():
                raise CourseError(f"{path} does not exist. Give zips, or folders that hold them.")
            parts = _first_parts(path)
            items += _items(path, parts, _Inside(), bulk, Path(scratch), result.refused, seen)
        found = _hand_ins(items, lessons, lesson, result.refused)
        _note_vanished(seen, found, result.refused)
        _note_empty([path for path in paths if path.is_dir()], items, result.refused)
        found = _without_stubs(found, result.refused)
        students = read_students(root)
        tell_apart([(hand_in.student, hand_in.lesson) for hand_in in found], students)
        for hand_in in _latest(found, result.refused):
            try:
                note = _place(hand_in, folder / "submitted", Path(scratch))
            except Refused as error:
                result.refused.append((hand_in.source, str(error)))
                continue
            result.notes += [(hand_in.source, note)] if note else []
            result.taken.append(hand_in)
            _note(students, hand_in.student, hand_in.lesson)
        write_atomic(folder / "students.json", json.dumps(students, indent=1, ensure_ascii=False))
    if result.taken:
        _register(root, result.taken)
    _print(result)
    if not result.taken:
        reason = f" ({printable(': '.join(result.refused[0]))})" if result.refused else ""
        raise CourseError(
            f"no hand-in was taken{reason}. Hand-ins are zips of `course submit`, or folders "
            "NN_name/ with NN_name.ipynb, below a folder or in a zip named after the student."
        )
    return result


def _note(students: dict[str, dict], student: Student, lesson: str) -> None:
    """Enter a student; a folder's name replaces nothing that a platform has told."""
    entry = students.setdefault(student.student_id, {"numbers": {}})
    better = student.name != student.student_id and entry.get("platform") == "folder"
    if student.platform != "folder" or better or "name" not in entry:
        entry |= {"platform": student.platform, "name": student.name}
    if student.number:
        entry["numbers"][lesson] = student.number


def _register(root: Path, taken: list[HandIn]) -> None:
    """Enter lessons and students into the gradebook, so that formgrader shows them by name."""
    from nbgrader.api import Gradebook

    from course_utils.grading.gradebook import register
    from course_utils.grading.marking.nbgrader_setup import gradebook_url

    register(root, sorted({hand_in.lesson for hand_in in taken}))
    with Gradebook(gradebook_url(root)) as gradebook:
        for hand_in in taken:
            enter_student(gradebook, hand_in.student.student_id, hand_in.student.name)


def _first_parts(path: Path) -> tuple[str, ...]:
    """A zip's own name may be the student's; a folder's only if it is a hand-in itself."""
    if path.is_dir() and not any(path.glob("*.ipynb")) and not any(path.glob("*/*.ipynb")):
        return ()
    return (_readable(path.resolve().name),)


def _readable(name: str) -> str:
    """Return a name with each byte that is not UTF-8 replaced by its number: no two become one."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _bulk_zips(paths: Sequence[Path]) -> set[Path]:
    """Return the zips that hold a class: the only one that is given, or the platform's.

    Among several, a student's could pose as the platform's; so all must be, or none is.
    """
    in_folders = [child for path in paths if path.is_dir() for child in path.iterdir()]
    zips = set(filter(_may_be_bulk, [*paths, *in_folders]))
    if any(False in _platform_names(path) for path in zips):
        return zips & set(paths) if len(paths) == 1 else set()
    return zips


def _may_be_bulk(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file() and not match_platform(path.name)


def _platform_names(archive: Path) -> set[bool]:
    """Return of a zip's files whether they have a platform's names; nothing if it is broken."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name) for name in opened.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()
    return {any(map(match_platform, name.parts[:2])) for name in names if not is_junk(name)}


def _items(
    path: Path,
    parts: tuple[str, ...],
    inside: _Inside,
    bulk: set[Path],
    scratch: Path,
    refused: list[tuple[str, str]],
    seen: list[tuple[str, ...]],
) -> Iterator[_Item]:
    """Yield the files below ``path``, zips unpacked, with the names that lead to each.

    What is refused, and where a platform's name was seen, is added to the lists.
    """
    label = "/".join(parts) or path.name
    if inside.outer is None and parts and match_platform(parts[-1]):
        seen.append(parts)
    if path.is_symlink():
        refused.append((label, "it is a symbolic link"))
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if not is_junk(PurePosixPath(child.name)):
                longer = (*parts, _readable(child.name))
                yield from _items(child, longer, inside, bulk, scratch, refused, seen)
    elif path.suffix.lower() == ".zip":
        into = Path(tempfile.mkdtemp(dir=scratch))
        is_bulk = path in bulk
        try:
            if inside.depth == _DEPTH:
                raise Refused(f"zips are packed into zips more than {_DEPTH} deep")
            nobodys = inside.outer is None and not is_bulk and not any(map(match_platform, parts))
            if nobodys and _platform_names(path) == {True}:  # or a student's, posing as one
                raise Refused("it looks like a platform's zip; if it is one, give it alone")
            room = inside.room or Room.of(_BULK_FACTOR if is_bulk else 1)
            unpack(path, into, room)
        except Refused as error:
            shutil.rmtree(into)  # what is there of it already, takes space for nothing
            refused.append((label, str(error)))
            return
        now = _Inside(depth=1) if is_bulk else _in_own_zip(path, parts, inside, room)
        yield from _items(into, parts, now, bulk, scratch, refused, seen)
    elif path.is_file():
        outer = len(parts) if inside.outer is None else inside.outer
        by_platform = inside.depth > 0 and inside.outer is None and any(map(match_platform, parts))
        yield _Item(parts, path, _handed_in(path) if by_platform else inside.when, outer)


def _in_own_zip(path: Path, parts: tuple[str, ...], inside: _Inside, room: Room) -> _Inside:
    """Return what the files of a student's zip lie in; it says nothing about its time itself."""
    depth = inside.depth + 1
    if inside.outer is not None:
        return replace(inside, depth=depth)
    # Inside a platform's zip, a file's time is when it was handed in.
    when = _handed_in(path) if inside.depth else None
    # A zip that is alone in a student's folder has a name of the student's choice.
    in_folder = len(parts) > 1 and not parts[-2].lower().endswith(".zip")
    alone = in_folder and not any(
        other != path and (other.is_dir() or other.suffix.lower() == ".zip")
        for other in path.parent.iterdir()
        if not is_junk(PurePosixPath(other.name))
    )
    return _Inside(depth, len(parts) - alone, when, room)


def _handed_in(path: Path) -> float | None:
    """Return a file's time, unless it is the 1980 of a zip without times."""
    when = path.stat().st_mtime
    return when if when > _EARLIEST else None


def _hand_ins(
    items: list[_Item], lessons: list[str], lesson: str | None, refused: list[tuple[str, str]]
) -> list[HandIn]:
    """Group files around each lesson's notebook."""
    found = []
    used: set[tuple[str, ...]] = set()
    for item in items:
        if not item.parts[-1].lower().endswith(".ipynb"):
            continue
        folder, label = item.parts[:-1], "/".join(item.parts)
        own = lesson_of(item.parts[-1], lessons)
        name = lesson or own
        if lesson and own not in (lesson, None) and _better(item, items, lesson, lessons):
            refused.append((label, f"its name is that of another lesson, {own}"))
            continue
        if name is None:
            why = (
                f"no lesson has this name ({', '.join(lessons)}); to take it as one, give the "
                "student's zip or folder: course collect FILE --lesson NN"
            )
            refused.append((label, why))
            continue
        who = student_of(item.parts, item.outer, lessons)
        if who is None:
            refused.append((label, "whose is it? Put it into a folder named after the student"))
            continue
        student, upload = who
        prefix = platform_prefix(item.parts[-1])
        files = {}
        for other in items:
            below = other.parts[len(folder) :]
            if other.parts[: len(folder)] != folder or platform_prefix(below[0]) != prefix:
                continue
            below = (platform_file(below[0]), *below[1:])
            if other is item:
                below = (f"{name}.ipynb",)
            elif below[-1].endswith(".ipynb") and len(below) == 1:
                continue
            files["/".join(below)] = other.path
            used.add(other.parts)
        _into_models(files, name)
        found.append(HandIn(student, name, files, item.when, upload, label, own == name))
    strays = [
        ("/".join(item.parts), _why_stray(item.parts[-1]))
        for item in items
        if item.parts not in used and not item.parts[-1].lower().endswith(".ipynb")
        # What platforms put beside the hand-ins; of those without one another line tells.
        if not (
            item.parts[-1].lower().endswith((".html", ".txt"))
            and any(map(match_platform, item.parts))
        )
    ]
    refused += strays[:_STRAYS]
    if len(strays) > _STRAYS:
        refused.append((f"and {len(strays) - _STRAYS} more", strays[0][1]))
    return found


def _better(item: _Item, items: list[_Item], lesson: str, lessons: list[str]) -> bool:
    """Tell whether a notebook beside this one has the lesson's name, or none of another."""
    return any(
        lesson_of(other.parts[-1], lessons) in (lesson, None)
        for other in items
        if other.parts[:-1] == item.parts[:-1] and other.parts[-1].lower().endswith(".ipynb")
        if platform_prefix(other.parts[-1]) == platform_prefix(item.parts[-1])
    )


def _into_models(files: dict[str, Path], lesson: str) -> None:
    """Bring a task's files to where they belong: they are handed in singly, or in a zip more."""
    for task in task_names(lesson):
        for wanted in (f"{task}.onnx", f"{task}.json"):
            near = [name for name in files if plain_file(PurePosixPath(name).name) == wanted]
            if near and f"models/{wanted}" not in files:
                # Rather one of that very name, little deep; of a platform's copies the last.
                best = min(
                    near,
                    key=lambda name: (
                        PurePosixPath(name).name != wanted,
                        name.count("/"),
                        -len(name),
                        name,
                    ),
                )
                files[f"models/{wanted}"] = files.pop(best)


def _why_stray(name: str) -> str:
    if name.lower().endswith(_OTHER_ARCHIVES):
        return "only zips are unpacked: ask for a zip"
    return "it belongs to no notebook"


def _note_vanished(
    seen: list[tuple[str, ...]], found: list[HandIn], refused: list[tuple[str, str]]
) -> None:
    """Name those by a platform's name of whom neither a hand-in nor a reason has come."""
    known = {_person(hand_in.student) for hand_in in found}
    known |= {_person(who[0]) for what, _ in refused if (who := by_platform(what.split("/")))}
    for parts in seen:
        person = _person(by_platform(parts)[0])
        if person not in known:
            refused.append(("/".join(parts), "no notebook in it"))
        known.add(person)


def _note_empty(folders: list[Path], items: list[_Item], refused: list[tuple[str, str]]) -> None:
    """Name the folders directly below those given, a student's each, that hold nothing at all."""
    told = {"/".join(item.parts) for item in items} | {what for what, _ in refused}
    for folder in folders:
        if any(folder.glob("*.ipynb")):
            continue  # a hand-in itself
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            name = "/".join((*_first_parts(folder), _readable(inner.name)))
            empty = not any(what == name or what.startswith(f"{name}/") for what in told)
            if empty and not is_junk(PurePosixPath(inner.name)):
                refused.append((name, "no notebook in it"))


def _without_stubs(found: list[HandIn], refused: list[tuple[str, str]]) -> list[HandIn]:
    """Leave out the untouched lessons of students who hand in their whole course's folder."""
    judged = [(hand_in, _is_stub(hand_in)) for hand_in in found]
    working = {_person(hand_in.student) for hand_in, stub in judged if not stub}
    kept = []
    for hand_in, stub in judged:
        if stub and _person(hand_in.student) in working:
            refused.append((hand_in.source, "nothing in it was changed, but in another lesson"))
        else:
            kept.append(hand_in)
    return kept


def _is_stub(hand_in: HandIn) -> bool:
    """Tell whether a hand-in is a notebook as it was released, without a model."""
    if any(f"models/{task}.onnx" in hand_in.files for task in task_names(hand_in.lesson)):
        return False
    try:
        _, notebook = read_notebook(hand_in.files[f"{hand_in.lesson}.ipynb"])
    except CourseError:
        return False
    return is_untouched(notebook)


def _person(student: Student) -> tuple[str, str, str]:
    return student.platform, student.name, student.number


def _latest(found: list[HandIn], refused: list[tuple[str, str]]) -> list[HandIn]:
    """Return each student's latest hand-in of each lesson; the others are named as left out.

    Of copies in one zip, which has one time, the one that lies least deep counts.
    """
    by_key: dict[tuple[str, str], HandIn] = {}
    for hand_in in sorted(
        found, key=lambda h: (h.when or 0, h.upload, h.named, -h.source.count("/"))
    ):
        key = (hand_in.student.student_id.casefold(), hand_in.lesson)
        if other := by_key.get(key):
            later = (other.when, other.upload) != (hand_in.when, hand_in.upload)
            why = "replaced by a later one" if later else "left out for another"
            refused.append((other.source, f"{why}: {hand_in.source}"))
        by_key[key] = hand_in
    return [by_key[key] for key in sorted(by_key)]


def _place(hand_in: HandIn, submitted: Path, scratch: Path) -> str | None:
    """Put a hand-in in place in one step; keep one there that is later. Return what to look at."""
    if len(hand_in.files) > MAX_FILES:
        raise Refused(f"it holds {len(hand_in.files)} files; at most {MAX_FILES} are taken")
    if sum(path.stat().st_size for path in hand_in.files.values()) > MAX_BYTES:
        raise Refused(f"it is larger than {MAX_BYTES / 1e6:.0f} MB")
    folders = {str(above) for name in hand_in.files for above in PurePosixPath(name).parents}
    if both := sorted(folders & set(hand_in.files)):
        raise Refused(f"{both[0]!r} is a file, where a folder is needed; ask for it again")
    target = submitted / hand_in.student.student_id / hand_in.lesson
    stamp = target / "timestamp.txt"
    present = read_timestamp(stamp)
    if hand_in.when and present and present.replace(tzinfo=UTC).timestamp() > hand_in.when:
        raise Refused(f"a later one of {present} UTC is here already")
    draft = Path(tempfile.mkdtemp(dir=scratch)) / "new"
    draft.mkdir()  # as the umask has it; the folder around it is for nobody else
    try:
        for name, path in hand_in.files.items():
            if name == "timestamp.txt":
                continue
            copy = draft / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy, follow_symlinks=False)
    except OSError as error:
        raise Refused(f"it cannot be copied: {error.strerror}") from None
    if hand_in.when:
        moment = datetime.fromtimestamp(hand_in.when, UTC)
        (draft / "timestamp.txt").write_text(f"{moment:%Y-%m-%d %H:%M:%S} UTC\n")
    if (
        target.is_dir()
        and tree_hash(draft) == tree_hash(target)
        and read_timestamp(draft / stamp.name) == present
    ):
        return None  # the same again: whoever has marked it is up to date
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.rename(target, Path(tempfile.mkdtemp(dir=scratch)) / "old")
    os.rename(draft, target)
    if present and not hand_in.when:
        return f"it tells no time; it has replaced the one of {present} UTC"
    return None


def _print(result: Collection) -> None:
    if result.taken:
        rows = [
            [
                hand_in.student.student_id,
                hand_in.student.name,
                hand_in.lesson,
                len(hand_in.files),
                f"{datetime.fromtimestamp(hand_in.when):%Y-%m-%d %H:%M}" if hand_in.when else None,
            ]
            for hand_in in result.taken
        ]
        print(text_table(["student", "name", "lesson", "files", "handed in"], rows))
    if result.notes:
        print("\nTaken, but look:\n" + text_table(["what", "why"], result.notes))
    if result.refused:
        print("\nNot taken:\n" + text_table(["what", "why"], result.refused))
