"""Hand-ins, as a learning platform or a folder gives them, into ``grading/submitted/``.

Understood are the names that Moodle gives (``Jane Doe_12345_assignsubmission_file_/...`` and the
same flat), those that Canvas gives (``doejane_LATE_12345_67890_...-1.zip``), and plain folders or
zips named after a student; each inside of zips and folders at will.

Students' zips are not trusted: the names inside of one never say whose it is where
anything outside of it does; paths, links, sizes and numbers of files are looked at before a
byte is unpacked; and a refused one does not stop the others. A platform's zip is a list of
students: what is wrong with an entry costs the others nothing, and limits are per student.
Where folders name the students, `identity` finds out which of those above a notebook do.
"""

import errno
import json
import os
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from course_utils.errors import CourseError
from course_utils.files import tree_hash, write_atomic
from course_utils.grading.collecting.identity import (
    Place,
    Student,
    by_platform,
    lesson_in,
    lesson_of,
    match_platform,
    plain_file,
    platform_file,
    platform_prefix,
    students_of,
    tell_apart,
)
from course_utils.grading.collecting.unpack import (
    MAX_BYTES,
    MAX_FILES,
    Refused,
    Room,
    is_junk,
    is_machine_fault,
    unpack,
    without_junk,
)
from course_utils.grading.gradebook import (
    enter_student,
    read_students,
    refuse_damaged,
    wait_for_writers,
)
from course_utils.grading.workplace import grading_folder, read_timestamp
from course_utils.hand_in.notebook import is_untouched, read_notebook
from course_utils.hand_in.tasks import task_names
from course_utils.paths import course_root, list_lessons, resolve_lesson
from course_utils.table import printable, text_table

_DEPTH = 3
_EARLIEST = datetime(1990, 1, 1).timestamp()
_OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_PATIENCE = 60  # seconds for another program that writes to the gradebook
_STRAYS = 20  # so many files without a notebook are named
_NAME_BYTES = 240  # most that file systems take, with some left for what programs add


@dataclass
class HandIn:
    """One student's files for one lesson, found somewhere in what was given."""

    student: Student
    lesson: str
    files: dict[str, Path]
    when: float | None
    upload: int = 0
    source: str = ""
    named: int = 3  # 3 if the notebook has the lesson's name, 2 if a copy's, 1 if one with it


@dataclass
class _Item:
    parts: tuple[str, ...]
    path: Path
    when: float | None  # when it was handed in, where the platform's zip says so
    outer: int  # how many of the parts come from outside of the student's own zip
    given: int  # how many of the parts are the names of what was given
    whole: bool  # whether what was given may be one student's
    notebook: str = ""  # its name as a notebook, if it is one


@dataclass(frozen=True)
class _Inside:
    """What a path lies in: how many zips, since which part a student's own, its time and room."""

    given: int
    whole: bool
    depth: int = 0
    outer: int | None = None
    when: float | None = None
    room: Room | None = None
    alone: bool = False  # whether no other zip or folder lies beside it


@dataclass
class _Search:
    """What a search has, and finds besides hand-ins: what is refused, where platforms' names are.

    All zips of a student in a platform's zip share a room.
    """

    bulk: set[Path]
    scratch: Path
    refused: list[tuple[str, str]]
    seen: list[tuple[str, ...]] = field(default_factory=list)
    rooms: dict[Hashable, Room] = field(default_factory=lambda: defaultdict(Room.of))


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

    What was taken and what was refused is printed, also when a later step fails.

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
        If a path does not exist, not one hand-in was found, or the gradebook could not be brought
        up to date: hand-ins stay taken then.
    OSError
        If this machine has no space for a hand-in: those before it stay taken.
    """
    root = root or course_root()
    folder = grading_folder(root)
    lessons = list_lessons(root / "solutions")
    if lesson is not None:
        lesson = resolve_lesson(lesson, root / "solutions")
    for path in paths:
        if not path.exists():
            raise CourseError(f"{path} does not exist. Give zips, or folders that hold them.")
    students = read_students(root)
    result = Collection()
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".collect-") as scratch:
            # Links are the instructor's own here; below they are not followed.
            given = list(dict.fromkeys(path.resolve() for path in paths))
            found = _find(given, lessons, lesson, Path(scratch), result.refused)
            tell_apart([(hand_in.student, hand_in.lesson) for hand_in in found], students)
            _take(found, folder, students, Path(scratch), result)
    finally:
        _print(result)  # whatever fails, here or later
    if result.taken:
        _register(root, result.taken)
    else:
        reason = f" ({printable(': '.join(result.refused[0]))})" if result.refused else ""
        raise CourseError(
            f"no hand-in was taken{reason}. Hand-ins are zips of `course submit`, or folders "
            "NN_name/ with NN_name.ipynb, below a folder or in a zip named after the student."
        )
    return result


def _find(
    paths: list[Path],
    lessons: list[str],
    lesson: str | None,
    scratch: Path,
    refused: list[tuple[str, str]],
) -> list[HandIn]:
    """Return the hand-ins below paths; what is none is added to ``refused``."""
    items: list[_Item] = []
    search = _Search(_bulk_zips(paths), scratch, refused)
    starts = _first_parts(paths)
    for path in tqdm(paths, desc="unpacking", disable=len(paths) < 20):
        parts = starts[path]
        inside = _Inside(len(parts), whole=not path.is_dir() or _is_hand_in(path))
        items += _items(path, parts, inside, search)
    found = _hand_ins(items, lessons, lesson, refused)
    _note_vanished(search.seen, found, refused)
    _note_empty({path: starts[path] for path in paths if path.is_dir()}, items, refused)
    return _without_stubs(found, refused)


def _take(
    found: list[HandIn],
    folder: Path,
    students: dict[str, dict],
    scratch: Path,
    result: Collection,
) -> None:
    """Put hand-ins in place, and enter into ``students.json`` who handed in."""
    try:
        for hand_in in _latest(found, result.refused):
            try:
                notes = _place(hand_in, folder / "submitted", scratch)
            except (Refused, OSError) as error:
                if is_machine_fault(error):
                    raise
                why = str(error)
                if isinstance(error, OSError):
                    why = f"it cannot be put in place: {error.strerror} ({error.filename})"
                result.refused.append((hand_in.source, why))
                continue
            result.notes += [(hand_in.source, note) for note in notes]
            result.taken.append(hand_in)
            _note(students, hand_in.student, hand_in.lesson)
    finally:
        if result.taken:
            content = json.dumps(students, indent=1, ensure_ascii=False)
            write_atomic(folder / "students.json", content)


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
    from sqlalchemy.exc import SQLAlchemyError

    from course_utils.grading.gradebook import register
    from course_utils.grading.marking.nbgrader_setup import gradebook_url

    path = root / "grading" / "gradebook.db"
    wait_for_writers(path, _PATIENCE)
    refuse_damaged(path)
    try:
        register(root, sorted({hand_in.lesson for hand_in in taken}))
        with Gradebook(gradebook_url(root)) as gradebook:
            for hand_in in taken:
                enter_student(gradebook, hand_in.student.student_id, hand_in.student.name)
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CourseError(
            f"{path} cannot be brought up to date ({why}). The hand-ins are taken all the same, "
            "and `course grade` will enter them."
        ) from None


def _first_parts(paths: list[Path]) -> dict[Path, tuple[str, ...]]:
    """Return the names by which each path is known, as many of the last as differ from others'."""
    names = {
        path: tuple(map(_readable, path.parts[1:])) or (_readable(path.name),) for path in paths
    }
    found = {}
    for path, whole in names.items():
        lengths = range(1, len(whole) + 1)
        found[path] = next(
            whole[-length:]
            for length in lengths
            if length == len(whole)
            or [other[-length:] for other in names.values()].count(whole[-length:]) == 1
        )
    return found


def _is_hand_in(folder: Path) -> bool:
    """Tell whether a folder may be a student's: it is a hand-in, not one that holds hand-ins."""
    return any(folder.glob("*.ipynb")) or any(folder.glob("*/*.ipynb"))


def _readable(name: str) -> str:
    """Return a name with each byte that is not UTF-8 replaced by its number: no two become one."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _bulk_zips(paths: Sequence[Path]) -> set[Path]:
    """Return the zips that hold a class: the only one that is given, or the platform's.

    Among several, a student's could pose as the platform's; so all must be, or none is.
    """
    in_folders = [child for path in paths if path.is_dir() for child in path.iterdir()]
    zips = set(filter(_may_be_bulk, [*paths, *in_folders]))
    if any(None in _platform_names(path) for path in zips):
        return zips & set(paths) if len(paths) == 1 else set()
    return zips


def _may_be_bulk(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file() and not match_platform(path.name)


def _platform_names(archive: Path) -> list[tuple[str, ...] | None]:
    """Return whom a platform's names of a zip's files are about, None for a file without one."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name.replace("\\", "/")) for name in opened.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []
    told = [by_platform(name.parts[:2]) for name in names if not is_junk(name)]
    return [_person(who[0]) if who else None for who in told]


def _may_be_a_platform_s(archive: Path) -> bool:
    """Tell whether a zip's files have a platform's names: all of them, or most and several's."""
    people = _platform_names(archive)
    named = [who for who in people if who]
    several = len(set(named)) > 1 and 2 * len(named) > len(people)
    return bool(people) and (len(named) == len(people) or several)


def _items(path: Path, parts: tuple[str, ...], inside: _Inside, search: _Search) -> Iterator[_Item]:
    """Yield the files below ``path``, zips unpacked, with the names that lead to each."""
    label, name = "/".join(parts), parts[-1]
    if inside.outer is None and match_platform(name):
        search.seen.append(parts)
    if path.is_dir():
        listing = _listing(path, label, search.refused)
    elif name.lower().endswith(".zip"):
        into = Path(tempfile.mkdtemp(dir=search.scratch))
        is_bulk = path in search.bulk
        room = inside.room or search.rooms[_owner(PurePosixPath(*parts))]
        try:
            if inside.depth == _DEPTH:
                raise Refused(f"zips are packed into zips more than {_DEPTH} deep")
            nobodys = inside.outer is None and not is_bulk and not any(map(match_platform, parts))
            if nobodys and _may_be_a_platform_s(path):  # or a student's, posing as one
                raise Refused("it looks like a platform's zip; if it is one, give it alone")
            unpacked = unpack(path, into, room, _owner if is_bulk else None)
        except Refused as error:
            shutil.rmtree(into)  # what is there of it already, takes space for nothing
            search.refused.append((label, str(error)))
            return
        search.refused += [(f"{label}/{what}", why) for what, why in unpacked.refused]
        listing = sorted((found.parts, file) for found, file in unpacked.files.items())
        inside = replace(inside, depth=1) if is_bulk else _in_own_zip(path, parts, inside, room)
    else:
        outer = len(parts) if inside.outer is None else inside.outer
        by_platform = inside.depth > 0 and inside.outer is None and any(map(match_platform, parts))
        when = _handed_in(path) if by_platform else inside.when
        yield _Item(parts, path, when, outer, inside.given, inside.whole)
        return
    beside = _zips_and_folders(names for names, _ in listing)
    for names, file in listing:
        if inside.outer is None:
            above = [(*parts, *names[: i + 1]) for i in range(len(names) - bool(file))]
            search.seen += [longer for longer in above if match_platform(longer[-1])]
        if file:
            within = replace(inside, alone=beside[names[:-1]] == {names[-1]})
            yield from _items(file, (*parts, *names), within, search)


def _owner(path: PurePosixPath) -> Hashable:
    """Return what is alike for one student's files in a class's zip, for limits only."""
    if who := by_platform(path.parts):
        return _person(who[0])
    return path if path.suffix.lower() == ".zip" else path.parent


def _listing(
    folder: Path, label: str, refused: list[tuple[str, str]]
) -> list[tuple[tuple[str, ...], Path | None]]:
    """Return the names and places of the files below a folder, sorted; of folders the names."""

    def unreadable(error: OSError) -> None:
        where = Path(error.filename).relative_to(folder)
        names = map(_readable, where.parts)
        refused.append(("/".join([label, *names]), f"it cannot be read: {error.strerror}"))

    found: dict[PurePosixPath, Path] = {}
    for above, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not is_junk(PurePosixPath(name))]
        for path in (Path(above, name) for name in (*folders, *files)):
            found[PurePosixPath(*map(_readable, path.relative_to(folder).parts))] = path
    listing = []
    for names in sorted(without_junk(found)):
        path = found[names]
        if path.is_symlink():
            refused.append((f"{label}/{names}", "it is a symbolic link"))
        elif path.is_dir() or path.is_file():
            listing.append((names.parts, None if path.is_dir() else path))
    return listing


def _zips_and_folders(
    listing: Iterable[tuple[str, ...]],
) -> dict[tuple[str, ...], set[str]]:
    """Return by the names of each folder the zips and folders in it that are listed."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for names in listing:
        whole = names if names[-1].lower().endswith(".zip") else names[:-1]
        for i in range(len(whole)):
            found[whole[:i]].add(whole[i])
    return found


def _in_own_zip(path: Path, parts: tuple[str, ...], inside: _Inside, room: Room) -> _Inside:
    """Return what the files of a student's zip lie in; it says nothing about its time itself."""
    depth = inside.depth + 1
    if inside.outer is not None:
        return replace(inside, depth=depth)
    # Inside a platform's zip, a file's time is when it was handed in.
    when = _handed_in(path) if inside.depth else None
    # A zip that is alone in a student's folder has a name of the student's choice.
    folders = len(parts) - 1 - (0 if inside.whole else inside.given)
    in_folder = folders > 0 and not parts[-2].lower().endswith(".zip")
    outer = len(parts) - (in_folder and inside.alone)
    return replace(inside, depth=depth, outer=outer, when=when, room=room)


def _handed_in(path: Path) -> float | None:
    """Return a file's time, unless it is the 1980 of a zip without times."""
    when = path.stat().st_mtime
    return when if when > _EARLIEST else None


def _hand_ins(
    items: list[_Item], lessons: list[str], lesson: str | None, refused: list[tuple[str, str]]
) -> list[HandIn]:
    """Group files around each lesson's notebook."""
    notebooks = _notebooks(items, lessons, lesson, refused)
    places = [
        Place(item.parts, item.outer, item.given, item.whole, name) for item, name in notebooks
    ]
    found: list[tuple[_Item, HandIn]] = []
    used: set[tuple[str, ...]] = set()
    for (item, name), who in zip(notebooks, students_of(places, lessons), strict=True):
        label = "/".join(item.parts)
        if who is None:
            refused.append((label, "whose is it? Put it into a folder named after the student"))
            continue
        files = _files_around(item, items, name, used)
        stem = os.path.splitext(platform_file(item.notebook))[0]
        told = (stem, lesson_of(item.notebook, lessons), lesson_in(item.notebook, lessons))
        hand_in = HandIn(who[0], name, files, item.when, who[1], label, told.count(name))
        found.append((item, hand_in))
    _fetch_models(found, [item for item in items if item.parts not in used], used)
    _note_strays([item for item in items if item.parts not in used], refused)
    return [hand_in for _, hand_in in found]


def _notebooks(
    items: list[_Item], lessons: list[str], lesson: str | None, refused: list[tuple[str, str]]
) -> list[tuple[_Item, str]]:
    """Return the notebooks that are of a lesson, and of which."""
    for item in items:
        item.notebook = _notebook_name(item, lessons)
    found: list[tuple[_Item, str]] = []
    for item in (item for item in items if item.notebook):
        label = "/".join(item.parts)
        own = lesson_in(item.notebook, lessons)
        name = lesson or own
        if lesson and own not in (lesson, None) and _better(item, items, lesson, lessons):
            refused.append((label, f"its name is that of another lesson, {own}"))
        elif name is None:
            why = (
                f"no lesson has this name ({', '.join(lessons)}); to take it as one, give the "
                "student's zip or folder: course collect FILE --lesson NN"
            )
            refused.append((label, why))
        else:
            found.append((item, name))
    return found


def _notebook_name(item: _Item, lessons: list[str]) -> str:
    """Return a notebook's name, without what mail and browsers put behind it; else ""."""
    name = item.parts[-1]
    if name.lower().endswith(".ipynb"):
        return name
    cut = name.lower().rfind(".ipynb")
    stem, ending = (name[:cut], ".txt") if cut > 0 else os.path.splitext(name)
    if cut <= 0 and (ending.lower() not in (".txt", ".json") or not lesson_in(name, lessons)):
        return ""
    try:
        read_notebook(item.path)
    except (CourseError, OSError):
        return ""
    return f"{stem}.ipynb"


def _files_around(
    item: _Item, items: list[_Item], lesson: str, used: set[tuple[str, ...]]
) -> dict[str, Path]:
    """Return what belongs to a notebook by its name in the hand-in, and note it as used."""
    folder, prefix = item.parts[:-1], platform_prefix(item.parts[-1])
    files = {}
    for other in items:
        below = other.parts[len(folder) :]
        if other.parts[: len(folder)] != folder or platform_prefix(below[0]) != prefix:
            continue
        below = (platform_file(below[0]), *below[1:])
        if other is item:
            below = (f"{lesson}.ipynb",)
        elif other.notebook and len(below) == 1:
            continue
        files["/".join(below)] = other.path
        used.add(other.parts)
    _into_models(files, lesson)
    return files


def _fetch_models(
    found: list[tuple[_Item, HandIn]], unused: list[_Item], used: set[tuple[str, ...]]
) -> None:
    """Give hand-ins their tasks' files that lie in another zip or folder of the same student."""
    for item, hand_in in found:
        wanted = {
            f"{task}.{end}" for task in task_names(hand_in.lesson) for end in ("onnx", "json")
        }
        wanted = {name for name in wanted if f"models/{name}" not in hand_in.files}
        for other in unused if wanted else ():
            name = plain_file(other.parts[-1])
            if name in wanted and _same_student(hand_in.student, item, other):
                hand_in.files[f"models/{name}"] = other.path
                used.add(other.parts)


def _same_student(student: Student, item: _Item, other: _Item) -> bool:
    """Tell whether a file is of the student whose notebook this is."""
    told = by_platform(other.parts[: other.outer])
    if told or student.platform != "folder":
        return bool(told) and _person(told[0]) == _person(student)
    names = [Path(part).stem if part.lower().endswith(".zip") else part for part in item.parts]
    above = len(names) - names[::-1].index(student.name)
    return item.parts[:above] == other.parts[:above]


def _note_strays(unused: list[_Item], refused: list[tuple[str, str]]) -> None:
    """Name files that belong to no notebook, but not what platforms put beside the hand-ins."""
    strays = [
        ("/".join(item.parts), _why_stray(item.parts[-1]))
        for item in unused
        if not item.notebook
        # Of those who have nothing else, another line tells.
        if not (
            item.parts[-1].lower().endswith((".html", ".txt"))
            and any(map(match_platform, item.parts))
        )
    ]
    refused += strays[:_STRAYS]
    if len(strays) > _STRAYS:
        refused.append((f"and {len(strays) - _STRAYS} more", strays[0][1]))


def _better(item: _Item, items: list[_Item], lesson: str, lessons: list[str]) -> bool:
    """Tell whether a notebook beside this one has the lesson's name, or none of another."""
    return any(
        lesson_in(other.notebook, lessons) in (lesson, None)
        for other in items
        if other.notebook and other.parts[:-1] == item.parts[:-1]
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


def _note_empty(
    folders: dict[Path, tuple[str, ...]], items: list[_Item], refused: list[tuple[str, str]]
) -> None:
    """Name the folders directly below those given, a student's each, that hold nothing at all."""
    told = {"/".join(item.parts) for item in items} | {what for what, _ in refused}
    for folder, parts in folders.items():
        if any(folder.glob("*.ipynb")):
            continue  # a hand-in itself
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            name = "/".join((*parts, _readable(inner.name)))
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
    except (CourseError, OSError):
        return False
    return is_untouched(notebook)


def _person(student: Student) -> tuple[str, str, str]:
    name = "" if student.platform == "canvas" else student.name  # there, the number is enough
    return student.platform, name, student.number


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


def _place(hand_in: HandIn, submitted: Path, scratch: Path) -> list[str]:
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
    notes = _copy_files(hand_in.files, draft)
    if hand_in.when:
        moment = datetime.fromtimestamp(hand_in.when, UTC)
        (draft / "timestamp.txt").write_text(f"{moment:%Y-%m-%d %H:%M:%S} UTC\n")
    if (
        target.is_dir()
        and tree_hash(draft) == tree_hash(target)
        and read_timestamp(draft / stamp.name) == present
    ):
        return notes  # the same again: whoever has marked it is up to date
    target.parent.mkdir(parents=True, exist_ok=True)
    old = Path(tempfile.mkdtemp(dir=scratch)) / "old"
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    if present and not hand_in.when:
        notes.append(f"it tells no time; it has replaced the one of {present} UTC")
    return notes


def _copy_files(files: dict[str, Path], draft: Path) -> list[str]:
    """Copy a hand-in's files; return a note about those whose names cannot be kept here."""
    left_out = []
    for name, path in files.items():
        if name == "timestamp.txt":
            continue
        copy = draft / name
        try:
            if any(len(part.encode()) > _NAME_BYTES for part in copy.parts):
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy, follow_symlinks=False)
        except OSError as error:
            if is_machine_fault(error):
                raise
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
                raise Refused(f"it cannot be copied: {error.strerror}") from None
            left_out.append(f"without the file {name[:40]!r}...: {error.strerror}")
    return left_out


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
