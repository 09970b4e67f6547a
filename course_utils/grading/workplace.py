"""An instructor's working folder ``grading/``: where things lie in it, and the secret seed."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.hand_in.tasks import PROFILES

DATA_NOTE = "marking_data"
"""In ``grading/``: the folder on which models of profile ``full`` are marked."""
PROFILE_NOTE = "marking_profile"
"""In ``grading/``: the profile under which all models of the class are marked, if one is fixed."""
ANY_PROFILE = "any"
"""The name for no fixed profile: each model is marked under the one that it states."""


def grading_folder(root: Path) -> Path:
    """Return ``<root>/grading``, made on first use and readable by its owner only.

    Raises
    ------
    CourseError
        If ``root`` has no ``solutions/``: then this is a student's copy of the course.
    """
    if not (root / "solutions").is_dir():
        raise CourseError(
            f"{root} has no solutions/, so nothing can be marked here. Run this in the "
            "instructor's copy of the course."
        )
    folder = root / "grading"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def secret_seed(root: Path) -> int:
    """Return the seed of the hidden test set, drawn at random on first use.

    It is kept in ``grading/secret_seed`` with mode 0600. Two graders that start
    at the same time agree: the file is linked into place complete, and the
    second one to come reads what the first has written.

    Returns
    -------
    int
        128 random bits; the same at every later call.
    """
    path = grading_folder(root) / "secret_seed"
    if not path.exists():
        draft = path.with_name(f".secret_seed-{secrets.token_hex(8)}")
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{secrets.randbits(128)}\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    try:
        return int(path.read_text())
    except ValueError:
        raise CourseError(
            f"{path} does not hold a whole number. Put the seed back from a copy, or delete the "
            "file: a new hidden test set is drawn then, and every model is marked again."
        ) from None


@contextlib.contextmanager
def scratch_folder(
    folder: Path, name: str, clean: Callable[[Path], None] = lambda left: None
) -> Iterator[Path]:
    """Give an empty folder for the time of a run; remove what killed runs have left of theirs.

    Every run shares one lock, which the system takes off when its process ends, however
    it ends. Who gets it for himself knows that no other run is alive.

    Parameters
    ----------
    folder
        Where it lies, as ``.<name>-...``, beside the lock ``.<name>.lock``.
    clean
        What else to do with the folder of a killed run, before it is removed.
    """
    with open(folder / f".{name}.lock", "w") as lock:
        with contextlib.suppress(ImportError, OSError):  # Windows; a file system without locks
            import fcntl

            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for left in folder.glob(f".{name}-*"):
                    clean(left)
                    shutil.rmtree(left, ignore_errors=True)
            fcntl.flock(lock, fcntl.LOCK_SH)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as scratch:
            yield Path(scratch)


def marking_data(root: Path) -> Path | None:
    """Return the instructor's folder on which models of profile ``full`` are marked, if one is.

    `keep_marking_data` has stored it, so that a later run, nbgrader and its formgrader mark on
    the same images. It may be gone since.
    """
    note = root / "grading" / DATA_NOTE
    return Path(note.read_text(encoding="utf-8").strip()) if note.is_file() else None


def keep_marking_data(root: Path, folder: Path) -> None:
    """Store the folder, an absolute path, that `marking_data` returns."""
    write_atomic(grading_folder(root) / DATA_NOTE, f"{folder}\n")


def marking_profile(root: Path, named: str | None = None) -> str | None:
    """Return the only profile under which the class's models are marked; None if any is.

    Parameters
    ----------
    named
        What the instructor says now. Default: what `keep_marking_profile` has stored, so that
        all later runs, nbgrader's too, mark alike.

    Raises
    ------
    CourseError
        If there is no such profile.
    """
    note = root / "grading" / PROFILE_NOTE
    if named is None and not note.is_file():
        return None
    name = named or note.read_text(encoding="utf-8").strip()
    if name not in (*PROFILES, ANY_PROFILE):
        raise CourseError(
            f"there is no profile {name!r:.40}{'' if named else f', which {note} names'}. Give "
            f"--profile {', '.join(PROFILES)} or {ANY_PROFILE}."
        )
    return None if name == ANY_PROFILE else name


def keep_marking_profile(root: Path, name: str) -> None:
    """Store the name of a profile, or ``any``, for `marking_profile`."""
    write_atomic(grading_folder(root) / PROFILE_NOTE, f"{name}\n")


def read_timestamp(path: Path) -> datetime | None:
    """Return when a hand-in came, in UTC, from nbgrader's ``timestamp.txt``; None if unknown."""
    from nbgrader.utils import parse_utc

    try:
        return parse_utc(path.read_text().strip()) if path.exists() else None
    except ValueError:
        return None
