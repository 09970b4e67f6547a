"""On how many threads a CPU computes a net: as many as are faster at this moment.

Threads that work on one net wait for each other after each layer, and while they wait they spin.
Where another program has one of the cores, two threads can take five times as long as one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import torch

from course_utils.machine import processors

TURNS, SECONDS = (2, 10), 0.3
"""A measurement takes at least and at most so many turns, and ends between them after so long."""
FIRST, WINDOW = 1.0, 3.0
"""Seconds of training before the first measurement, and between two looks at the pace."""
SOON, LATE = (15.0, 30), (60.0, 200)
"""Before the next measurement: seconds at least, and a multiple of what the last one took. Soon
where steps have become slower, or threads are left out. It costs 3 % of a training, else 0.5 %."""
SLOWER = 1.3
"""So many times as long as the fastest steps is slower."""
FASTER = 0.9
"""So much of the time is faster: in a tie all threads are kept, and with them the last bits."""


@contextlib.contextmanager
def limited_threads():
    """Compute on as many threads as this process may keep busy; put the number back at the end.

    Of itself torch starts one for each core of the machine, also where a container grants fewer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, processors()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_fastest(trial: Callable[[], object], most: int) -> int:
    """Measure a computation, set the number of threads that is fastest now, and return it.

    The numbers tried are ``most``, its half, the half of that, as long as half takes a tenth less.
    """
    number = most
    while number > 1:
        seconds = _measured(trial, number, number // 2)
        if seconds[number // 2] > FASTER * seconds[number]:
            break
        number //= 2
    torch.set_num_threads(number)
    return number


def _measured(trial: Callable[[], object], *numbers: int) -> dict[int, float]:
    """Return how long a computation takes on each number of threads, measured in turns."""
    seconds = dict.fromkeys(numbers, 0.0)
    for turn in range(TURNS[1] + 1):
        for threads in numbers:
            torch.set_num_threads(threads)
            started = time.perf_counter()
            trial()
            seconds[threads] += time.perf_counter() - started if turn else 0  # the first warms up
        if turn >= TURNS[0] and sum(seconds.values()) > SECONDS:
            break
    return seconds


class Pace:
    """Watches how long steps take, and measures the threads anew when that may pay.

    Parameters
    ----------
    trial
        What is measured: some of the net's work that leaves no trace.
    steps
        How many steps there will be: near their end nothing is measured.
    """

    def __init__(self, trial: Callable[[], object], steps: int):
        self._trial, self._left, self._most = trial, steps, torch.get_num_threads()
        self._best, self._soon, self._late = math.inf, FIRST, FIRST
        self._measured = time.perf_counter()
        self.rest()

    def rest(self) -> None:
        """Leave out what was done since the last step, such as a validation."""
        self._since, self._steps = time.perf_counter(), 0

    def step(self) -> None:
        """Count a step; measure if the machine may have become busy, or free again."""
        self._steps, self._left = self._steps + 1, self._left - 1
        now = time.perf_counter()
        if self._most == 1 or now - self._since < min(WINDOW, self._late) or self._left < 30:
            return
        pace = (now - self._since) / self._steps
        slower = pace > SLOWER * self._best
        self._best = min(pace, self._best)
        fewer = torch.get_num_threads() < self._most
        if now - self._measured > (self._soon if slower or fewer else self._late):
            self._measure()
        self.rest()

    def _measure(self) -> None:
        before, started = torch.get_num_threads(), time.perf_counter()
        if take_fastest(self._trial, self._most) != before:
            self._best = math.inf
        self._measured = time.perf_counter()
        cost = self._measured - started
        self._soon, self._late = (max(least, times * cost) for least, times in (SOON, LATE))
