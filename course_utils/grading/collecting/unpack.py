"""Unpacking zips that may be hostile."""

import contextlib
import errno
import io
import lzma
import os
import re
import shutil
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO

from course_utils.errors import CourseError

MAX_BYTES = 400 * 10**6
"""Largest hand-in, unpacked."""
MAX_FILES = 500
"""Most files in a hand-in."""
MAX_RATIO = 200
"""A file of more than 25 MB that shrank more than this is a zip bomb."""
MAX_NAME = 1000
"""Most letters in a name; a platform puts names and numbers before a student's 255 bytes."""
_BOMB = 25 * 10**6  # an honest array of zeros may be as large
_DEEP = 12
_NOT_SUPPORTED = "it is packed in a way that is not supported; ask for a plain zip"
_JUNK = {"__MACOSX", "__pycache__", "node_modules", "site-packages"}
# Folders of a virtual environment, which lie beside its pyvenv.cfg.
_ENVIRONMENT = {"bin", "etc", "include", "lib", "lib64", "scripts", "share"}
_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_MEMORY = 1 << 30
"""Bytes: a larger zip whose list of files is damaged is not searched for files."""
_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError)
_UNREADABLE = (OSError, ValueError, OverflowError, UnicodeError, struct.error)
_MACHINE = {
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE")
}


class Refused(Exception):
    """A hand-in cannot be taken; the message says why."""


@dataclass
class Room:
    """How many bytes and files a hand-in may still unpack, all zips inside of its zip together."""

    bytes_left: int
    files_left: int

    @classmethod
    def of(cls, hand_ins: int = 1) -> "Room":
        """Return the room of so many hand-ins."""
        return cls(MAX_BYTES * hand_ins, MAX_FILES * hand_ins)


@dataclass
class Unpacked:
    """What came of a zip.

    Attributes
    ----------
    files
        By the path in the zip, where the file lies now; None for a folder.
    refused
        Paths in the zip that were left out, and why.
    """

    files: dict[PurePosixPath, Path | None] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)


def unpack(
    archive: Path,
    into: Path,
    room: Room | None = None,
    owner: Callable[[PurePosixPath], Hashable] | None = None,
) -> Unpacked:
    """Unpack a zip that may be hostile.

    Files are numbered, not named, as they are written: no name in a zip, however long or odd,
    becomes a path of this machine. Junk is passed over. An entry that is encrypted, damaged, a
    link or a bomb, whose path leaves the folder, or whose name another one has too, is
    left out, and the others are taken.

    Parameters
    ----------
    archive
        The zip.
    into
        An empty folder.
    room
        What may be unpacked; what is unpacked is taken from it. By default, that of a hand-in.
    owner
        For a zip of many hand-ins, what is alike for the files of one: each of these has a
        room of its own, and is left out alone if it is too large.

    Raises
    ------
    Refused
        If it is no zip or holds more than is allowed.
    CourseError, OSError
        If this machine has no space for it.
    """
    try:
        with open_zip(archive) as opened:
            result = _unpack(opened, into, room or Room.of(), owner)
            if opened.filename is None:
                result.refused.append(
                    ("its list of files", "it is damaged: files may be missing; ask for it again")
                )
            return result
    except _DAMAGED:
        raise Refused("it is not a whole zip file; ask for it again") from None
    except NotImplementedError:
        raise Refused(_NOT_SUPPORTED) from None
    except _UNREADABLE as error:
        if is_machine_fault(error):
            raise
        raise Refused(f"it cannot be unpacked: {error}") from None


def open_zip(archive: Path) -> zipfile.ZipFile:
    """Open a zip; where its list of files is damaged, with one made of what stands before each.

    Such a one has no ``filename``.

    Raises
    ------
    zipfile.BadZipFile, NotImplementedError, OSError, ValueError
        If it cannot be opened, and no file in it is whole.
    """
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        if archive.stat().st_size > _MEMORY:
            raise
        content = archive.read_bytes()
        found = list(_local_headers(content))
        if not found:
            raise
        return zipfile.ZipFile(io.BytesIO(content + _list_of_files(found, len(content))))


def _local_headers(content: bytes) -> Iterator[tuple[int, tuple, bytes]]:
    """Yield where each file of a zip begins, the fields before it, and its name.

    From the first on, without a gap: what looks like one inside another file is none. Whether
    a file is whole shows when it is read.
    """
    at = 0
    while content[at : at + 4] == b"PK\3\4" and len(content) >= at + _LOCAL.size:
        fields = _LOCAL.unpack_from(content, at)
        flags, method, packed, size, named, extra = (fields[n] for n in (2, 3, 7, 8, 9, 10))
        name = content[at + _LOCAL.size : at + _LOCAL.size + named]
        start = at + _LOCAL.size + named + extra
        if flags & 8 or packed > len(content) - start or size == 0xFFFFFFFF or method not in (0, 8):
            return  # its size stands behind it, or it is no plain file
        yield at, fields, name
        at = start + packed


def _list_of_files(found: list[tuple[int, tuple, bytes]], at: int) -> bytes:
    """Return the list with which a zip ends; ``at`` is where it begins."""
    entries = b"".join(
        _CENTRAL.pack(b"PK\1\2", 20, *fields[1:9], len(name), 0, 0, 0, 0, 0, offset) + name
        for offset, fields, name in found
    )
    numbers = (0, 0, len(found), len(found), len(entries), at, 0)
    return entries + struct.pack("<4s4H2LH", b"PK\5\6", *numbers)


def is_machine_fault(error: BaseException) -> bool:
    """Tell whether a file could not be written for a reason that is nobody's hand-in."""
    return isinstance(error, OSError) and error.errno in _MACHINE


def is_junk(path: PurePosixPath) -> bool:
    """Return whether a path is none of a hand-in: hidden, or left by a program."""
    return any(part in _JUNK or part.startswith(".") for part in path.parts)


def without_junk(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Return those of a folder's or zip's paths that are no junk, nor in an environment."""
    paths = {path for path in paths if ".." in path.parts or not is_junk(path)}
    environments = {path.parent for path in paths if path.name == "pyvenv.cfg"}

    def installed(path: PurePosixPath) -> bool:
        return path.name == "pyvenv.cfg" or any(
            folder.parent in environments and folder.name.lower() in _ENVIRONMENT
            for folder in (path, *path.parents)
        )

    return {path for path in paths if not installed(path)} if environments else paths


def _unpack(
    opened: zipfile.ZipFile,
    into: Path,
    room: Room,
    owner: Callable[[PurePosixPath], Hashable] | None,
) -> Unpacked:
    entries = [(info, PurePosixPath(_name(info))) for info in opened.infolist()]
    kept = without_junk(path for _, path in entries)
    entries = [(info, path) for info, path in entries if path.parts and path in kept]
    faults = _faults(entries)
    left_out: dict[tuple[Hashable, str], list[PurePosixPath]] = {}
    hand_ins: dict[Hashable, list[tuple[zipfile.ZipInfo, PurePosixPath]]] = {}
    for (info, path), fault in zip(entries, faults, strict=True):
        who = owner(path) if owner else None
        if fault:
            left_out.setdefault((who, fault), []).append(path)
        else:
            hand_ins.setdefault(who, []).append((info, path))
    result = Unpacked()
    into.mkdir(parents=True, exist_ok=True)
    numbers = count()
    for who, own in hand_ins.items():
        own_room = Room.of() if owner else room
        files: dict[PurePosixPath, Path | None] = {}
        try:
            _check_limits([info for info, _ in own if not _is_folder(info)], own_room, into)
            for info, path in own:
                target = into / str(next(numbers))
                try:
                    files[path] = None if _is_folder(info) else target
                    if not _is_folder(info):
                        _write(opened, info, target, own_room)
                except (*_DAMAGED, *_UNREADABLE, RuntimeError) as error:
                    if is_machine_fault(error):
                        raise
                    del files[path]
                    packed = isinstance(error, RuntimeError)
                    why = _NOT_SUPPORTED if packed else "it is damaged; ask for it again"
                    left_out.setdefault((who, why), []).append(path)
        except Refused as error:
            if not owner:
                raise
            for file in filter(None, files.values()):
                file.unlink(missing_ok=True)
            left_out.setdefault((who, str(error)), []).append(own[0][1])
        else:
            result.files |= files
    for (_, why), paths in left_out.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        result.refused.append((f"{paths[0]}{more}", why))
    return result


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.replace("\\", "/")


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return _name(info).endswith("/")


def _faults(entries: list[tuple[zipfile.ZipInfo, PurePosixPath]]) -> list[str | None]:
    """Return for each entry why it must be left out, or None."""
    folders = {
        _plain(folder)
        for info, path in entries
        for folder in ([path] if _is_folder(info) else []) + [*path.parents]
    }
    names: dict[str, PurePosixPath] = {}
    found = []
    for info, path in entries:
        fault = _fault(info, path)
        if not fault and not _is_folder(info):
            plain = _plain(path)
            if plain in folders:
                fault = "it cannot be unpacked: a folder has the same name"
            elif plain in names:
                same = names[plain] == path
                fault = "its name occurs twice" if same else "two names differ in case only"
                fault += "; the first was taken"
            else:
                names[plain] = path
        found.append(fault)
    return found


def _plain(path: PurePosixPath) -> str:
    """Return what is alike for names that are one on some machine."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _fault(info: zipfile.ZipInfo, path: PurePosixPath) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    drive = any(re.match("[A-Za-z]:", part) for part in path.parts)  # means a path on Windows
    if path.is_absolute() or ".." in path.parts or drive:
        return "its path leaves the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "it is a link or a device, not a file"
    if info.flag_bits & 1:
        return "it is encrypted; ask for it without a password"
    if any(len(part) > MAX_NAME for part in path.parts):
        return "its name is too long"
    if len(path.parts) > _DEEP:
        return f"it lies too deep, in more than {_DEEP - 1} folders"
    if info.file_size > _BOMB and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        megabytes = info.file_size / 1e6
        return f"it unpacks to {megabytes:.0f} MB of next to nothing, as a zip bomb does"
    return None


def _check_limits(infos: list[zipfile.ZipInfo], room: Room, into: Path) -> None:
    if len(infos) > room.files_left:
        raise Refused(f"it holds {len(infos)} files; at most {MAX_FILES} are taken")
    room.files_left -= len(infos)
    total = sum(info.file_size for info in infos)
    if total > room.bytes_left:
        raise Refused(
            f"it unpacks to {total / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} are taken"
        )
    free = shutil.disk_usage(into).free
    if total > free:
        raise CourseError(
            f"hand-ins unpack to {total / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free where "
            f"{into} is. Free some space on the disk, then run the command again."
        )


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, room: Room) -> None:
    """Write one file of a zip, with its time; nothing is left of one that cannot be read."""
    try:
        with opened.open(info) as source, open(target, "xb") as sink:
            _copy(source, sink, room)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    os.utime(target, (0, 0))
    with contextlib.suppress(ValueError, OverflowError, OSError):
        stamp = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(target, (stamp, stamp))


def _copy(source: IO[bytes], sink: IO[bytes], room: Room) -> None:
    """Copy a file, as far as there is room: a zip may lie about its sizes."""
    while block := source.read(1 << 20):
        room.bytes_left -= len(block)
        if room.bytes_left < 0:
            raise Refused(f"it unpacks to more than {MAX_BYTES / 1e6:.0f} MB")
        sink.write(block)
