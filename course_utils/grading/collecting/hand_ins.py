"""From files, with the names that lead to them, to hand-ins: a notebook and what belongs to it."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from course_utils.errors import CourseError
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
)
from course_utils.grading.collecting.unpack import is_junk
from course_utils.grading.collecting.walk import Item, Search, readable
from course_utils.hand_in.notebook import is_untouched, read_notebook
from course_utils.hand_in.tasks import task_names

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
    named: int = 3  # 3 if the notebook has the lesson's name, 2 if a copy's, 1 if one with it


def hand_ins(search: Search, lessons: list[str], lesson: str | None = None) -> list[HandIn]:
    """Return the hand-ins among the files found; what is none is added to those refused.

    Parameters
    ----------
    search
        The files.
    lessons
        Full names of all lessons.
    lesson
        Take each notebook as one of this lesson, whatever its name.
    """
    found = _hand_ins(search.items, lessons, lesson, search.refused)
    _note_vanished(search.seen, found, search.refused)
    folders = {path: parts for path, parts in search.starts.items() if path.is_dir()}
    _note_empty(folders, search.items, search.refused)
    return _without_stubs(found, search.refused)


def _hand_ins(
    items: list[Item], lessons: list[str], lesson: str | None, refused: list[tuple[str, str]]
) -> list[HandIn]:
    """Group files around each lesson's notebook."""
    notebooks = _notebooks(items, lessons, lesson, refused)
    places = [
        Place(item.parts, item.outer, item.given, item.whole, name) for item, name in notebooks
    ]
    found: list[tuple[Item, HandIn]] = []
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
    items: list[Item], lessons: list[str], lesson: str | None, refused: list[tuple[str, str]]
) -> list[tuple[Item, str]]:
    """Return the notebooks that are of a lesson, and of which."""
    for item in items:
        item.notebook = _notebook_name(item, lessons)
    found: list[tuple[Item, str]] = []
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


def _notebook_name(item: Item, lessons: list[str]) -> str:
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
    item: Item, items: list[Item], lesson: str, used: set[tuple[str, ...]]
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
    found: list[tuple[Item, HandIn]], unused: list[Item], used: set[tuple[str, ...]]
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


def _same_student(student: Student, item: Item, other: Item) -> bool:
    """Tell whether a file is of the student whose notebook this is."""
    told = by_platform(other.parts[: other.outer])
    if told or student.platform != "folder":
        return bool(told) and told[0].person == student.person
    names = [Path(part).stem if part.lower().endswith(".zip") else part for part in item.parts]
    above = len(names) - names[::-1].index(student.name)
    return item.parts[:above] == other.parts[:above]


def _note_strays(unused: list[Item], refused: list[tuple[str, str]]) -> None:
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


def _better(item: Item, items: list[Item], lesson: str, lessons: list[str]) -> bool:
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
    known = {hand_in.student.person for hand_in in found}
    known |= {who[0].person for what, _ in refused if (who := by_platform(what.split("/")))}
    for parts in seen:
        person = by_platform(parts)[0].person
        if person not in known:
            refused.append(("/".join(parts), "no notebook in it"))
        known.add(person)


def _note_empty(
    folders: dict[Path, tuple[str, ...]], items: list[Item], refused: list[tuple[str, str]]
) -> None:
    """Name the folders directly below those given, a student's each, that hold nothing at all."""
    told = {"/".join(item.parts) for item in items} | {what for what, _ in refused}
    for folder, parts in folders.items():
        if any(folder.glob("*.ipynb")):
            continue  # a hand-in itself
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            name = "/".join((*parts, readable(inner.name)))
            empty = not any(what == name or what.startswith(f"{name}/") for what in told)
            if empty and not is_junk(PurePosixPath(inner.name)):
                refused.append((name, "no notebook in it"))


def _without_stubs(found: list[HandIn], refused: list[tuple[str, str]]) -> list[HandIn]:
    """Leave out the untouched lessons of students who hand in their whole course's folder."""
    judged = [(hand_in, _is_stub(hand_in)) for hand_in in found]
    working = {hand_in.student.person for hand_in, stub in judged if not stub}
    kept = []
    for hand_in, stub in judged:
        if stub and hand_in.student.person in working:
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
