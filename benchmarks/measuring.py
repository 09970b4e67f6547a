"""What the benchmarks share: two ways measured in turns, their ratio, and on what machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median

from course_utils.machine import memory, processors

ROUNDS = 5
PACKAGES = ("torch", "torchvision", "fastai", "onnxruntime", "nbgrader")


@dataclass
class Row:
    """One line of the table: the same work by two ways, measured in turns.

    Attributes
    ----------
    what
        The work.
    way, ours
        What the two ways are called.
    before, after
        Seconds of the usual way and of the course's, one number a round.
    """

    what: str
    way: str
    ours: str = "course"
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times as fast the course's way was, by round."""
        return [a / b for a, b in zip(self.before, self.after, strict=True)]

    def line(self) -> str:
        """Return the line of the table: medians of both ways, median and range of the ratios."""
        low, high = min(self.ratios), max(self.ratios)
        times = [seconds(median(part)) for part in (self.before, self.after)]
        return (
            f"| {self.what} | {self.way} | {times[0]} | {self.ours} | {times[1]} "
            f"| **{median(self.ratios):.1f}** ({low:.1f} to {high:.1f}) |"
        )


def seconds(value: float) -> str:
    """Return a time with three digits.

    >>> seconds(0.0613), seconds(4.21), seconds(163.2)
    ('61.3 ms', '4.21 s', '163 s')
    """
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def table(rows: Iterable[Row]) -> str:
    """Return rows as one table in Markdown."""
    head = "| what | usual way | | here | | times as fast |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(row.line() for row in rows)])


def in_turns(row: Row, before: Callable[[], float], after: Callable[[], float], rounds: int) -> Row:
    """Fill a row: call both, which return seconds, in turns, each first in every other round.

    What it comes to is told on stderr at once, since more may take long.
    """
    for turn in range(rounds):
        order = [(before, row.before), (after, row.after)]
        for work, kept in order[:: -1 if turn % 2 else 1]:
            kept.append(work())
    print(row.line(), file=sys.stderr, flush=True)
    return row


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how many seconds of a clock a function takes."""
    started = clock()
    work()
    return clock() - started


def hardware() -> str:
    """Return on what was measured, in two lines: the machine with its load, and the versions."""
    parts = [f"{processors()} cores of {_processor()}", f"{memory().total / 2**30:.0f} GB"]
    try:
        import torch

        if torch.cuda.is_available():
            parts.append(torch.cuda.get_device_name())
    except ImportError:
        pass
    parts.append(f"{platform.system()} {platform.release()}")
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(parts) + "\n" + ", ".join(versions)


def _processor() -> str:
    """Return the name of the processor, with what it has for half precision."""
    names, flags = [], ""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = dict(
            [part.strip() for part in line.split(":", 1)]
            for line in information.read_text().splitlines()
            if ":" in line
        )
        names, flags = [lines.get("model name", "")], lines.get("flags", "")
    name = next(filter(None, [*names, platform.processor(), platform.machine()]))
    half = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags.split()]
    return " with ".join([name, *half])
