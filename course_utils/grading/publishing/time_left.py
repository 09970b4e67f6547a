"""How long is left of a run of unlike steps, such as a notebook's cells, and a bar that says so.

Counting cells would be wrong by minutes: one of seventy trains a net. So each step has its usual
seconds, measured once on a quiet laptop; how much slower or faster this machine is shows in the
steps that are done, and in what the running one prints of its own progress.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from tqdm import tqdm

RECORD = Path(__file__).with_name("cell_seconds.json")
"""Usual seconds by lesson and cell; ``python -m benchmarks.cells`` writes them."""

_EPOCHS = re.compile(r"epoch (\d+) of (\d+)")
_TQDM = re.compile(r"(\d+)/(\d+) \[")
_ENOUGH = 5.0  # usual seconds of what is done, before its pace says something of this machine


class TimeLeft:
    """The time left of steps that run one after the other.

    Parameters
    ----------
    usual
        Seconds of each step by name, in their order.
    clock
        Returns seconds.
    """

    def __init__(self, usual: Mapping[str, float], clock: Callable[[], float] = time.monotonic):
        self._usual, self._clock = dict(usual), clock
        self._names = list(usual)
        self._done, self._started = 0, clock()
        self._since, self._share, self._told_at = self._started, 0.0, 0.0
        self._pace, self._measured = 1.0, 0.0

    def begin(self, step: str) -> None:
        """Say that a step begins: those before it are done."""
        now = self._clock()
        done = self._names.index(step)
        usual = sum(self._usual[name] for name in self._names[self._done : done])
        self._measured += usual
        if self._measured >= _ENOUGH and usual >= _ENOUGH / 2:
            self._pace = (now - self._since) / usual
        self._done, self._since, self._share = done, now, 0.0

    def told(self, share: float) -> None:
        """Say which share of the running step is done, 0..1."""
        if share > self._share:
            self._share, self._told_at = min(share, 1.0), self._clock() - self._since

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def left(self) -> float:
        """Return the seconds that are left of all steps."""
        usual, *later = [self._usual[name] for name in self._names[self._done :]] or [0.0]
        spent, pace = self._clock() - self._since, self._pace
        wanted = self._told_at / self._share if self._share else usual * pace
        if spent >= wanted:  # it takes longer than thought, and nobody knows how much
            wanted = spent / 0.9 if self._share < 1 else spent
        if usual >= _ENOUGH and (self._share or spent > usual * pace):
            pace = wanted / usual
        return max(wanted - spent, 0.0) + pace * sum(later)


@cache
def _recorded() -> dict[str, dict[str, float]]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def usual_seconds(lesson: str, cells: Sequence[str]) -> dict[str, float] | None:
    """Return the usual seconds of a notebook's cells by id; None for one that was never measured.

    A cell that is not in the record is quick.
    """
    known = _recorded().get(lesson)
    return known and {cell: known.get(cell, 0.05) for cell in cells}


def share_in(text: str) -> float:
    """Return the share that a progress text says is done, 0 if it says none.

    >>> share_in("epoch 2 of 8, loss 0.3")
    0.25
    >>> share_in(" 40%|####      | 400/1000 [00:20<00:30]")
    0.4
    """
    found = _EPOCHS.findall(text) or _TQDM.findall(text)
    done, of = map(int, found[-1]) if found else (0, 1)
    return done / of if of else 0.0


def minutes(seconds: float) -> str:
    """Return a duration as minutes and seconds.

    >>> minutes(131)
    '2:11'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class CellBar:
    """A bar for a notebook that runs: the cell, the time since the start, the time left.

    Parameters
    ----------
    lesson
        Its name.
    cells
        The notebook's, as they are executed: what a cell prints is read from them.
    usual
        Seconds by cell id; None: the time left is not known, and not said.
    """

    def __init__(self, lesson: str, cells: Sequence[dict], usual: Mapping[str, float] | None):
        self._lesson, self._cells, self._at = lesson, cells, 0
        self._time = TimeLeft(usual or {cell["id"]: 0.0 for cell in cells})
        self._known = usual is not None
        self._bar = tqdm(desc=lesson, total=1.0, bar_format="|{bar:20}| {desc}", mininterval=0)
        # In a file every state is another line.
        self._every = 1.0 if sys.stderr.isatty() else 30.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._bar.set_description_str(self._text(), refresh=False)
        self._bar.close()

    def begin(self, cell: dict, cell_index: int) -> None:
        """Say that a cell begins; nbclient's hook ``on_cell_start``."""
        self._at = cell_index
        self._time.begin(cell["id"])

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._draw()

    def _draw(self) -> None:
        self._bar.set_description_str(self._text())

    def _text(self) -> str:
        cell = self._cells[self._at]
        printed = [out.get("text", "") for out in list(cell.get("outputs", []))]
        self._time.told(share_in("".join(printed)[-400:]))
        elapsed, left = self._time.elapsed, self._time.left()
        over = self._stop.is_set()
        share = 1.0 if over else elapsed / (elapsed + left) if self._known else 0.0
        self._bar.n = max(self._bar.n, share)
        what = f"{self._lesson}, cell {self._at + 1} of {len(self._cells)}: {cell['id']}"
        rest = f", about {minutes(left)} left" if self._known and not over else ""
        return f"{what}, {minutes(elapsed)}{rest}"
