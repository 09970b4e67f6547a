"""Faults of the machine, told from those of a hand-in: they are never marks.

A disk that is full, a kernel that the system killed: the hand-in is marked once more, and if that
does not help either, not at all. Then nothing is stored, and the next run tries again.
"""

import errno
import os
from pathlib import Path

from course_utils.errors import CourseError

SPACE, FILES = 64 << 20, 1000
"""Bytes and files that must be free where a notebook runs."""
_NUMBERS = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EIO)
_SIGNS = (*map(os.strerror, _NUMBERS), "database or disk is full", "disk I/O error")


class MachineFault(CourseError):
    """Something that no hand-in can be blamed for: it costs nobody a mark."""


def disk_fault(folder: Path) -> str | None:
    """Return that a folder's disk is full, in words, or None if there is space."""
    if not hasattr(os, "statvfs"):  # Windows
        return None
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < SPACE:
        return f"the disk of {folder.anchor}{_top(folder)} is full ({free >> 20} MB are free)"
    if disk.f_files and disk.f_favail < FILES:
        return f"the disk of {folder.anchor}{_top(folder)} can hold no more files"
    return None


def tells_of_disk(text: str) -> bool:
    """Tell whether a text, which may be a student's, holds an error of a full or broken disk."""
    return any(sign in text for sign in _SIGNS)


def told_fault(log: str) -> str | None:
    r"""Return the fault of the machine that a log of nbgrader tells of, or None.

    >>> told_fault("Traceback\nerrors.MachineFault: the kernel was killed\n[ERROR] see above")
    'the kernel was killed'
    """
    lines = log.splitlines()
    faults = [words for line in lines if (words := line.partition(f"{MachineFault.__name__}: ")[2])]
    faults += [line.strip() for line in lines if tells_of_disk(line)]
    faults += ["the memory does not suffice" for line in lines if line.startswith("MemoryError")]
    return faults[0].strip() if faults else None


def _top(folder: Path) -> str:
    """Return the mount point of a folder below its root, which says more than its whole path."""
    while folder != folder.parent and not os.path.ismount(folder):
        folder = folder.parent
    return str(folder.relative_to(folder.anchor)) if folder != folder.parent else ""
