"""Hand-ins, as a learning platform or a folder gives them, into ``grading/submitted/``.

Understood are the names that Moodle gives (``Jane Doe_12345_assignsubmission_file_/...`` and the
same flat), those that Canvas gives (``doejane_LATE_12345_67890_...-1.zip``), and plain folders or
zips named after a student; each inside of zips and folders at will.

Students' zips are not trusted: the names inside of one never say whose it is where
anything outside of it does; paths, links, sizes and numbers of files are looked at before a
byte is unpacked; and a refused one does not stop the others. A platform's zip is a list of
students: what is wrong with an entry costs the others nothing, and limits are per student.
`walk` finds the files, `hand_ins` groups them, and `identity` finds out whose they are.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from course_utils.errors import CourseError
from course_utils.files import exchange, tree_hash, write_atomic
from course_utils.grading.collecting.hand_ins import HandIn, hand_ins
from course_utils.grading.collecting.identity import Student, tell_apart
from course_utils.grading.collecting.unpack import MAX_BYTES, MAX_FILES, Refused, is_machine_fault
from course_utils.grading.collecting.walk import find_files
from course_utils.grading.gradebook import (
    enter_student,
    read_students,
    refuse_damaged,
    wait_for_writers,
)
from course_utils.grading.workplace import grading_folder, read_timestamp, scratch_folder
from course_utils.paths import course_root, list_lessons, resolve_lesson
from course_utils.table import printable, text_table

_PATIENCE = 60  # seconds for another program that writes to the gradebook
_NAME_BYTES = 240  # most that file systems take, with some left for what programs add


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
        with scratch_folder(folder, "collect") as scratch:
            # Links are the instructor's own here; below they are not followed.
            given = list(dict.fromkeys(path.resolve() for path in paths))
            search = find_files(given, scratch, result.refused)
            found = hand_ins(search, lessons, lesson)
            tell_apart([(hand_in.student, hand_in.lesson) for hand_in in found], students)
            _take(found, folder, students, scratch, result)
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
    exchange(draft, target, old)
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
