"""Files written in one step, named by their content, and packed the same way every time."""

import contextlib
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Iterable
from pathlib import Path

from course_utils.errors import CourseError


def tree_hash(folder: Path, leave_out: tuple[str, ...] = ()) -> str:
    """Return a hash of the names and bytes of `tree_files`, time stamps left out."""
    files = (path.relative_to(folder) for path in tree_files(folder))
    kept = (name for name in files if not {*leave_out} & {*name.parts})
    return files_hash(
        (name.as_posix(), (folder / name).read_bytes())
        for name in kept
        if name.name != "timestamp.txt"
    )


def tree_files(folder: Path) -> list[Path]:
    """Return a folder's files, sorted, without links and what programs leave beside them."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
        if not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts
        )
    ]


def files_hash(files: Iterable[tuple[str, bytes]]) -> str:
    """Return a hash of names and contents."""
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Return a hash of each file's content, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Who may read it is the umask's to say, as for any new file.

    Raises
    ------
    CourseError
        If it cannot be written; what was there stays.
    """
    # A name or an output may hold half a character, as of a file name that is no UTF-8.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "xb") as file:
            file.write(data)
        os.replace(draft, path)
    except OSError as error:
        raise CourseError(
            f"{path} cannot be written ({error.strerror}). Look for a full disk, a folder that is "
            "read-only, or a program that has the file open."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # such as a folder that could not be made
            draft.unlink(missing_ok=True)


def with_unix_lines(content: bytes) -> bytes:
    r"""Return a text file's bytes with LF as line ends; what is no text, such as a picture, as is.

    >>> with_unix_lines(b"#!/bin/sh\r\nset -eu\r\n"), with_unix_lines(b"\x00\r\n")
    (b'#!/bin/sh\nset -eu\n', b'\x00\r\n')
    """
    try:
        is_text = "\0" not in content.decode()
    except UnicodeDecodeError:
        is_text = False
    return content.replace(b"\r\n", b"\n") if is_text else content


def zip_bytes(files: dict[str, bytes]) -> bytes:
    """Return a zip of named contents; equal files give equal bytes, on any day and machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def exchange(draft: Path, target: Path, old: Path) -> None:
    """Put a folder in place of another, which goes to ``old`` and comes back if that fails."""
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
