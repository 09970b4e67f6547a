"""Unpacking zips that may be hostile."""

import os
import stat
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

MAX_BYTES = 400 * 10**6
"""Largest hand-in, unpacked."""
MAX_FILES = 500
"""Most files in a hand-in."""
MAX_RATIO = 200
"""A file of more than 10 MB that shrank more than this is a zip bomb."""
_JUNK = {"__MACOSX", "__pycache__"}


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


def unpack(archive: Path, into: Path, room: Room | None = None) -> None:
    """Unpack a zip that may be hostile.

    Parameters
    ----------
    archive
        The zip.
    into
        An empty folder.
    room
        What may be unpacked; what is unpacked is taken from it. By default, that of a hand-in.

    Raises
    ------
    Refused
        If it is no zip, is encrypted, has paths that leave the folder, links, names that
        differ in case only, more than is allowed, or parts that do not match their checksums.
    """
    room = room or Room.of()
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [(info, _safe_path(info)) for info in opened.infolist()]
            entries = [(info, path) for info, path in entries if path.parts and not is_junk(path)]
            _check_limits([info for info, _ in entries], room)
            names: dict[str, str] = {}
            for info, path in entries:
                for whole in (path, *path.parents[:-1]):
                    if names.setdefault(str(whole).casefold(), str(whole)) != str(whole):
                        raise Refused(f"two names differ in case only: {whole}")
                target = into / path
                if info.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if target.exists():
                    raise Refused(f"the name {path} occurs twice")
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, open(target, "xb") as sink:
                    _copy(source, sink, room)
                stamp = time.mktime((*info.date_time, 0, 0, -1))
                os.utime(target, (stamp, stamp))
    except (zipfile.BadZipFile, EOFError, zipfile.LargeZipFile):
        raise Refused("it is not a whole zip file; ask for it again") from None
    except (NotImplementedError, RuntimeError):
        raise Refused("it is encrypted or packed in a way that is not supported") from None
    except (OSError, ValueError, OverflowError, UnicodeError) as error:
        raise Refused(f"it cannot be unpacked: {error}") from None


def _safe_path(info: zipfile.ZipInfo) -> PurePosixPath:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
        raise Refused(f"its path {name!r} leaves the folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{name!r} is a link or a device, not a file")
    if info.flag_bits & 1:
        raise Refused("it is encrypted")
    if any(len(part.encode()) > 240 for part in path.parts) or len(path.parts) > 12:
        raise Refused(f"the name {name[:40]!r}... is too long or too deep")
    return path


def _check_limits(infos: list[zipfile.ZipInfo], room: Room) -> None:
    if len(infos) > room.files_left:
        raise Refused(f"it holds {len(infos)} files; at most {MAX_FILES} are taken")
    room.files_left -= len(infos)
    total = sum(info.file_size for info in infos)
    if total > room.bytes_left:
        raise Refused(
            f"it unpacks to {total / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} are taken"
        )
    for info in infos:
        if info.file_size > 10**7 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
            raise Refused(f"{info.filename!r} is a zip bomb")


def _copy(source: IO[bytes], sink: IO[bytes], room: Room) -> None:
    """Copy a file, as far as there is room: a zip may lie about its sizes."""
    while block := source.read(1 << 20):
        room.bytes_left -= len(block)
        if room.bytes_left < 0:
            raise Refused(f"it unpacks to more than {MAX_BYTES / 1e6:.0f} MB")
        sink.write(block)


def is_junk(path: PurePosixPath) -> bool:
    """Return whether a path is none of a hand-in: hidden, or left by a program."""
    return any(part in _JUNK or part.startswith(".") for part in path.parts)
