"""Who watches a training: a bar in a terminal, a few lines in a file, a figure in a notebook.

What watches is called with a :class:`Progress`. It only looks: where it fails, the training goes
on. What is to take part is given to ``fit`` as ``on_step`` and ``on_epoch``. The figure stands
above this package, which draws nothing: it is named here, as matplotlib names its backends, and
found when it is needed.
"""

from __future__ import annotations

import contextlib
import math
import pkgutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from course_utils.errors import CourseError
from course_utils.execution import run_by
from course_utils.training.devices import own_randomness
from course_utils.training.faults import require_finite
from course_utils.training.history import History
from course_utils.training.threads import Pace

FIGURE = "course_utils.figures.training:LiveFigure"
SECONDS = 2.0
"""Between two looks at a training, at least. To read the loss is to wait for a GPU, too."""


@dataclass
class Progress:
    """Where a training stands.

    Attributes
    ----------
    history
        Of the whole epochs so far.
    epochs, steps
        How many epochs there will be, and steps in each.
    classes
        The names of the classes.
    image, truth, prediction
        One validation picture ``(H, W, 3)``, its mask, and what the net made of it after the last
        epoch; None before the first one.
    moment
        Why the watcher is called: the training starts, goes on, has ended an epoch, is over.
    step, loss
        Steps taken in this epoch, and their mean loss.
    stopped
        Whether it is over before its last epoch.
    """

    history: History
    epochs: int
    steps: int
    classes: tuple[str, ...]
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray | None = None
    moment: Literal["start", "step", "epoch", "end"] = "start"
    step: int = 0
    loss: float = math.nan
    stopped: bool = False
    _since: tuple[float, int] = field(default=(0.0, 0), repr=False)

    @property
    def done(self) -> int:
        """Steps taken in all epochs."""
        return len(self.history) * self.steps + self.step

    def begin(self) -> None:
        """Count the time from here on."""
        self._since = time.perf_counter(), self.done

    def seconds_left(self) -> float:
        """Return about how long it will still take, by the steps so far; NaN if there are none."""
        started, before = self._since
        taken, left = self.done - before, self.epochs * self.steps - self.done
        return (time.perf_counter() - started) / taken * left if taken else math.nan

    def __str__(self) -> str:
        epoch = len(self.history) + (self.moment in ("start", "step"))
        parts = [f"epoch {min(epoch, self.epochs)} of {self.epochs}"]
        if self.moment == "step":
            parts.append(f"step {self.step} of {self.steps}")
        if self.moment == "end":
            parts = [f"stopped after {epoch} of {self.epochs} epochs"] if self.stopped else []
            parts.append(str(self.history))
        elif self.history.mean_iou:
            parts.append(f"loss {self._loss():.3f}")
            parts.append(f"validation mean IoU {self.history.mean_iou[-1]:.3f}")
        elif not math.isnan(self.loss):
            parts.append(f"loss {self.loss:.3f}")
        left = self.seconds_left()
        if self.moment != "end" and not math.isnan(left) and left > 0:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _loss(self) -> float:
        return self.history.train_loss[-1] if math.isnan(self.loss) else self.loss


Watcher = Callable[[Progress], None]


def duration(seconds: float) -> str:
    """Return a time in words, no more exact than a guess is.

    >>> duration(3), duration(52), duration(100), duration(4000)
    ('5 s', '55 s', '2 min', '1 h 7 min')
    """
    if seconds <= 90:
        return f"{5 * max(1, math.ceil(seconds / 5))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Lines:
    """Prints a few lines of text: after the first epoch, and about ten times in all."""

    def __call__(self, progress: Progress) -> None:
        """Print a line where one is due."""
        done, epochs = len(progress.history), progress.epochs
        due = done == 1 or done * 10 // epochs > (done - 1) * 10 // epochs
        if (progress.moment == "epoch" and due) or progress.stopped:
            print(progress, flush=True)


class Bar:
    """A bar that runs in a terminal."""

    def __init__(self):
        self._bar = None

    def __call__(self, progress: Progress) -> None:
        """Move the bar on."""
        if progress.moment == "start":
            from tqdm import tqdm

            total = progress.epochs * progress.steps
            self._bar = tqdm(total=total, initial=progress.done, unit="step", file=sys.stdout)
        if self._bar is None:
            return
        self._bar.set_description_str(f"epoch {len(progress.history)}/{progress.epochs}")
        numbers = {"loss": f"{progress.loss:.3f}"}
        if progress.history.mean_iou:
            numbers["valid mIoU"] = f"{progress.history.mean_iou[-1]:.3f}"
        self._bar.set_postfix(numbers, refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.moment == "end":
            self._bar.close()


def watcher_here() -> Watcher | None:
    """Return what fits the place: a figure in a notebook, a bar, lines, or nothing in grading."""
    if run_by() != "student":
        return None
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return pkgutil.resolve_name(FIGURE)()
    return Bar() if sys.stdout.isatty() else Lines()


def as_watcher(watch: bool) -> Watcher | None:
    """Return what fits the place for True, nothing for False."""
    if not isinstance(watch, bool):
        raise CourseError(
            f"watch must be True or False, found {watch!r}. A function of yours is called after "
            "each step or epoch if you give it to fit as on_step or on_epoch."
        )
    return watcher_here() if watch else None


class Look:
    """Tells whoever watches where the training stands, and looks at its pace."""

    def __init__(self, watch, progress: Progress, pace: Pace, device: torch.device):
        self._watch, self.progress, self._pace = watch, progress, pace
        self._device, self._told = device, time.perf_counter()

    def step(self, total: torch.Tensor, steps: int) -> None:
        """Look after a step, each second or two; ``total`` is the sum of the losses."""
        progress = self.progress
        progress.step = steps
        if self._device.type == "cpu":
            self._pace.step()
        if time.perf_counter() - self._told > SECONDS:
            progress.loss = require_finite(total, progress.history) / steps
            self.tell("step")

    def epoch(self, prediction: np.ndarray) -> None:
        """Tell that an epoch has ended."""
        self.progress.prediction, self.progress.step = prediction, 0
        self.progress.loss = self.progress.history.train_loss[-1]
        self.tell("epoch")
        self._pace.rest()

    def tell(self, moment: str) -> None:
        """Call whoever watches; what goes wrong there does not end a training."""
        self.progress.moment, self._told = moment, time.perf_counter()
        if self._watch is None:
            return
        try:
            with own_randomness(self._device):
                self._watch(self.progress)
        except Exception as error:
            self._watch = None
            print(f"The training goes on without its figure ({type(error).__name__}: {error}).")


@contextlib.contextmanager
def ending(model: nn.Module, checkpoint: str | Path | None, look: Look):
    """Tell start and end; say what is kept when stopped; leave the model in eval mode."""
    progress, history = look.progress, look.progress.history
    try:
        progress.begin()
        if len(history) < progress.epochs:
            look.tell("start")
        yield
        look.tell("end")
    except KeyboardInterrupt:
        raise CourseError(
            f"training was stopped in epoch {len(history) + 1} of {progress.epochs}; "
            f"{_kept(checkpoint, len(history))}."
        ) from None
    finally:
        model.eval()
        if progress.moment != "end":
            progress.stopped = True
            with contextlib.suppress(KeyboardInterrupt):  # who stops may press twice
                look.tell("end")


def _kept(checkpoint: str | Path | None, done: int) -> str:
    """Return what is left of a training that was stopped."""
    if checkpoint is None:
        return "the model keeps what it has learnt so far; run this again to train it once more"
    if done:
        return f"{checkpoint} keeps what was done before it: run this again to go on from there"
    return "no epoch was kept: run this again to start anew"
