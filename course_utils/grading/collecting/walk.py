"""Every file of what was given, zips unpacked, with the names that lead to each."""

import os
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from course_utils.grading.collecting.identity import by_platform, match_platform
from course_utils.grading.collecting.unpack import (
    Refused,
    Room,
    is_junk,
    open_zip,
    unpack,
    without_junk,
)

_DEPTH = 3
_EARLIEST = datetime(1990, 1, 1).timestamp()


@dataclass
class Item:
    """A file, and the names of zips and folders that lead to it."""

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
class Search:
    """What a search has to go by, and has found.

    Attributes
    ----------
    bulk
        Zips that hold a class.
    scratch
        Where zips are unpacked.
    refused
        What was left out, and why.
    starts
        The names of what was given.
    items
        The files.
    seen
        Names that lead to a file or folder with a platform's name.
    rooms
        All zips of a student in a platform's zip share one.
    """

    bulk: set[Path]
    scratch: Path
    refused: list[tuple[str, str]]
    starts: dict[Path, tuple[str, ...]]
    items: list[Item] = field(default_factory=list)
    seen: list[tuple[str, ...]] = field(default_factory=list)
    rooms: dict[Hashable, Room] = field(default_factory=lambda: defaultdict(Room.of))


def find_files(paths: list[Path], scratch: Path, refused: list[tuple[str, str]]) -> Search:
    """Find every file below paths.

    Parameters
    ----------
    paths
        Zips and folders, absolute.
    scratch
        An empty folder, for what is in zips; it must last as long as the files are used.
    refused
        What is left out is added to it.
    """
    search = Search(_bulk_zips(paths), scratch, refused, _first_parts(paths))
    for path in tqdm(paths, desc="unpacking", disable=len(paths) < 20):
        parts = search.starts[path]
        inside = _Inside(len(parts), whole=not path.is_dir() or _is_hand_in(path))
        search.items += _items(path, parts, inside, search)
    return search


def _first_parts(paths: list[Path]) -> dict[Path, tuple[str, ...]]:
    """Return the names by which each path is known, as many of the last as differ from others'."""
    names = {path: tuple(map(readable, path.parts[1:])) or (readable(path.name),) for path in paths}
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


def readable(name: str) -> str:
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
        with open_zip(archive) as opened:
            names = [PurePosixPath(name.replace("\\", "/")) for name in opened.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []
    told = [by_platform(name.parts[:2]) for name in names if not is_junk(name)]
    return [who[0].person if who else None for who in told]


def _may_be_a_platform_s(archive: Path) -> bool:
    """Tell whether a zip's files have a platform's names: all of them, or most and several's."""
    people = _platform_names(archive)
    named = [who for who in people if who]
    several = len(set(named)) > 1 and 2 * len(named) > len(people)
    return bool(people) and (len(named) == len(people) or several)


def _items(path: Path, parts: tuple[str, ...], inside: _Inside, search: Search) -> Iterator[Item]:
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
        yield Item(parts, path, when, outer, inside.given, inside.whole)
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
        return who[0].person
    return path if path.suffix.lower() == ".zip" else path.parent


def _listing(
    folder: Path, label: str, refused: list[tuple[str, str]]
) -> list[tuple[tuple[str, ...], Path | None]]:
    """Return the names and places of the files below a folder, sorted; of folders the names."""

    def unreadable(error: OSError) -> None:
        where = Path(error.filename).relative_to(folder)
        names = map(readable, where.parts)
        refused.append(("/".join([label, *names]), f"it cannot be read: {error.strerror}"))

    found: dict[PurePosixPath, Path] = {}
    for above, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not is_junk(PurePosixPath(name))]
        for path in (Path(above, name) for name in (*folders, *files)):
            found[PurePosixPath(*map(readable, path.relative_to(folder).parts))] = path
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
