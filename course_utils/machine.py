"""The processors and the memory that this process may use.

A container's limits (Docker, Kubernetes and with it JupyterHub and Binder) are those of Linux'
control groups. They don't show in what Python, psutil and torch count, which is the whole
machine: torch would start a thread for each of 64 cores and share the time of two.

Files and their meaning: https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``,
``memory.*``) and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, for which
https://docs.kernel.org/scheduler/sched-bwc.html tells of the processors.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


class Memory(NamedTuple):
    """Bytes that this process and its children may fill: in all, and now still free."""

    total: int
    available: int


def processors() -> int:
    """Return how many processor cores this process may keep busy, at least 1.

    A limit that is no whole number is rounded down: one thread too many and all are held up.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([cores, *_granted_cores()])))


def memory() -> Memory:
    """Return the memory of the machine, or that of the container where it is less."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit, used in _granted_memory():
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Memory(total, available)


def _granted_cores() -> Iterator[float]:
    """Yield the processor time a second that each control group grants, where it sets a limit."""
    for group in _groups("cpu"):
        version_1 = [_read(group / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        limit = _read(group / "cpu.max").split() or version_1
        if all(number.isdecimal() for number in limit):  # not "max" and not -1: no limit
            quota, period = map(int, limit)
            yield quota / period


def _granted_memory() -> Iterator[tuple[int, int]]:
    """Yield the limit and the use of each control group that sets a limit, in bytes."""
    for group in _groups("memory"):
        for limit, used, spare in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _read(group / limit), _read(group / used)
            if limit.isdecimal() and used.isdecimal():
                # Files that were read lately count as used, but make room when it is needed.
                lines = (line.split() for line in _read(group / "memory.stat").splitlines())
                yield int(limit), int(used) - sum(int(n) for name, n in lines if name == spare)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, and of those that hold them."""
    for line in _read(_OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = _GROUPS / controller if controllers else _GROUPS  # version 1, version 2
        # Seen from inside a container the path may be the host's: then only the top is there.
        own = top / path.lstrip("/")
        yield top
        yield from (group for group in (own, *own.parents) if top in group.parents)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
