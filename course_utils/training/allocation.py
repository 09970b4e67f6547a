"""Memory that a training step frees is kept for the next one, instead of going back and forth.

A step on a CPU takes and frees some hundred megabytes of feature maps. glibc, the C library of
most Linux systems, gives large blocks back to the system at once, which hands out empty pages at
the next step, one page fault for each 4 kB: thousands in each step, a tenth of its time.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# Of malloc.h. What is set is fixed from then on; so at the end these are set to what glibc, which
# adapts both to what is freed, arrives at after the first large blocks.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_USUAL = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_MAX: 65_536}


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory within this process, and give it back to the system at the end."""
    library = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    try:
        _set(library, _KEEP)
        yield
    finally:
        _set(library, _USUAL)
        if library is not None:
            library.malloc_trim(0)


def _set(library: ctypes.CDLL | None, values: dict[int, int]) -> None:
    if library is not None:
        for name, value in values.items():
            library.mallopt(name, value)
