"""The tasks: what is trained, on which data, and how an IoU becomes marks. Read from tasks.toml."""

import math
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.data import find, load, module_of
from course_utils.data.segmentation_set import VOID, SegmentationSet, data_hash
from course_utils.errors import CourseError
from course_utils.metrics import mean_iou

PROFILES = ("quick", "full")
KINDS = ("model", "function")
_FILE = Path(__file__).with_name("tasks.toml")


@dataclass(frozen=True)
class Task:
    """One task under one profile: an open exercise that is marked by IoU on hidden images.

    Attributes
    ----------
    name
        What notebooks call it, such as ``"unet"``.
    kind
        ``"model"`` (handed in as ``models/<name>.onnx``) or ``"function"`` (of an
        image, run on the hidden images by the notebook itself).
    data, size
        The data set and the ``(height, width)`` of its images and masks.
    train, valid, hidden
        Numbers of images; None: all that the data set has.
    judged
        Names of the classes whose IoU counts; empty: all. Where one class fills most of a picture,
        its own IoU is high with no model at all.
    floor, low, high
        IoU of the best trivial predictor, where marks begin, where they are full.
    max_megabytes, max_parameters
        The largest model file (of 10**6 bytes) and the most values that it may store.
    seconds
        Wall-clock time that the grader grants all hidden images together.
    window, stride
        Of a net that labels one patch: the side of the patches, and that every ``stride``-th pixel
        is labelled by it (see ``sliding.py``). None: the net takes whole images.
    max_multiplications
        The most multiplications for one image, or for one patch.
    """

    name: str
    profile: str
    lesson: str
    title: str
    kind: str
    grade_id: str
    points: float
    metric: str
    data: str
    size: tuple[int, int]
    floor: float
    low: float
    high: float
    judged: tuple[str, ...] = ()
    train: int | None = None
    valid: int | None = None
    hidden: int | None = None
    max_megabytes: float = 40
    max_parameters: int = 10_000_000
    seconds: float = 120
    window: int | None = None
    stride: int = 1
    max_multiplications: float = 500e9  # of an image: about a minute on one slow core

    def __post_init__(self):
        def insist(condition: bool, message: str) -> None:
            if not condition:
                raise CourseError(f"tasks.toml, task {self.name!r} ({self.profile}): {message}")

        insist(self.kind in KINDS, f"kind is {self.kind!r}; use one of {', '.join(KINDS)}.")
        insist(
            0 <= self.floor < self.low < self.high <= 1,
            f"floor {self.floor}, low {self.low} and high {self.high} must grow within 0..1.",
        )
        insist(self.points > 0, f"points is {self.points}; it must be above 0.")
        insist(
            len(self.size) == 2 and all(isinstance(side, int) and side > 0 for side in self.size),
            f"size is {list(self.size)}; give [height, width] in pixels.",
        )
        insist(
            self.window is None or self.window % 2 == 1,
            f"window is {self.window}; it must be odd, so that it has a middle.",
        )
        limits = ("max_megabytes", "max_parameters", "seconds", "max_multiplications")
        for key in ("train", "valid", "hidden", "window", "stride", *limits):
            value = getattr(self, key)
            insist(value is None or value > 0, f"{key} is {value}; it must be above 0.")
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "judged", tuple(self.judged))
        strange = set(self.judged) - set(self.classes) if self.judged else set()
        insist(not strange, f"judged names {', '.join(strange)}, no class of {self.data!r}.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 0..C-1."""
        return tuple(module_of(self.data).CLASSES)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the net is given: an image, or a patch."""
        return (self.window, self.window) if self.window else self.size

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the logits for one input: ``(C, H, W)``, of a patch ``(C,)``."""
        return (len(self.classes),) if self.window else (len(self.classes), *self.size)

    @property
    def generated(self) -> bool:
        """Whether the data are drawn from seeds, so that hidden images need no folder."""
        return hasattr(module_of(self.data), self.data)

    @property
    def here(self) -> bool:
        """Whether the data are drawn, or lie on this machine."""
        try:
            return self.generated or bool(find(self.data))
        except CourseError:
            return False

    @property
    def measure(self) -> str:
        """The name of what is marked, such as ``"IoU of person"``."""
        if not self.judged:
            return "mean IoU"
        return f"{'mean ' if len(self.judged) > 1 else ''}IoU of {' and '.join(self.judged)}"

    def iou(self, matrix: np.ndarray) -> np.ndarray:
        """Return the IoU that is marked, ``(...)``, of confusion matrices ``(..., C, C)``."""
        judged = [self.classes.index(name) for name in self.judged]
        return mean_iou(matrix, judged or None)

    def stated_iou(self, record: dict[str, Any]) -> float:
        """Return the IoU that a training record tells of the validation images."""
        validation = record["validation"]
        if not self.judged:
            return float(validation["mean IoU"])
        return float(np.mean([validation["IoU"][name] for name in self.judged]))

    def marks(self, iou: float) -> float:
        """Return ``points * clip((iou - low) / (high - low), 0, 1)`` as a plain, finite float.

        >>> get_task("unet", "quick").marks(float("nan"))
        0.0
        """
        iou = float(iou)
        if not math.isfinite(iou):
            return 0.0
        share = (iou - self.low) / (self.high - self.low)
        return float(self.points) * min(max(share, 0.0), 1.0)

    def load(self, split: str) -> SegmentationSet:
        """Return the public ``"train"`` or ``"valid"`` images and masks at the task's size."""
        if split not in ("train", "valid"):
            raise CourseError(f"there is no split {split!r}; use 'train' or 'valid'.")
        return load(self.data, split, size=self.size, count=getattr(self, split))

    def hidden_set(self, secret: int, folder: Path | None = None) -> "HiddenSet":
        """Return the images that this task is marked on.

        Parameters
        ----------
        secret
            The instructor's secret seed. Generated data are drawn from the seeds
            ``secret * 2**20 + i``.
        folder
            A folder of ``images/`` and ``masks/`` to mark on instead, for data
            that are not generated. Default: the data set's public test split.
        """
        return _hidden_set(self, secret, None if folder is None else Path(folder).resolve())


@dataclass(frozen=True)
class HiddenSet:
    """Images and masks that a task is marked on.

    Attributes
    ----------
    version
        Hash of every image and mask byte: the same version is the same test set.
    source
        Where the images come from, in words for the report.
    """

    data: SegmentationSet
    version: str
    source: str


def profile() -> str:
    """Return ``quick`` (default) or ``full``, from the environment variable COURSE_PROFILE."""
    name = os.environ.get("COURSE_PROFILE") or "quick"
    if name not in PROFILES:
        raise CourseError(f"COURSE_PROFILE is {name!r}; set it to one of {', '.join(PROFILES)}.")
    return name


def task_names(lesson: str | None = None) -> list[str]:
    """Return the names of all tasks, or of those that belong to one lesson."""
    return [name for name, entry in _entries().items() if lesson in (None, entry.get("lesson"))]


def get_task(name: str, profile_name: str | None = None) -> Task:
    """Return the task ``name`` under a profile (default: :func:`profile`).

    A task without a table of its own for ``full`` is the same under both profiles.

    Raises
    ------
    CourseError
        If there is no such task or profile, or tasks.toml is wrong about it.
    """
    wanted = profile_name or profile()
    if wanted not in PROFILES:
        raise CourseError(f"there is no profile {wanted!r}; use one of {', '.join(PROFILES)}.")
    entries = _entries()
    if not isinstance(name, str):
        raise CourseError(
            f"a task is named by a text such as 'unet'; found a {type(name).__name__}."
        )
    if name not in entries:
        raise CourseError(f"there is no task {name!r}. The tasks are: {', '.join(entries)}.")
    return _task(name, entries[name], wanted)


class MarkedOutside(float):
    """What a task's cell ends in: 0.0 for nbgrader, which reads its text; a sentence for people."""

    task: Task

    def _repr_html_(self) -> str:
        task = self.task
        a = "an" if task.measure.startswith("I") else "a"
        return (
            f"<p>The grader marks <code>models/{task.name}.onnx</code> on hidden images, outside "
            f"of this notebook: up to {task.points:g} points, from {a} {task.measure} of "
            f"{task.low:.2f} on, all at {task.high:.2f}.</p>"
        )


def marked_outside(name: str) -> MarkedOutside:
    """Return what a task's cell shows: that and how its model is marked, by the grader alone.

    >>> marked_outside("unet")
    0.0
    """
    shown = MarkedOutside(0)
    shown.task = get_task(name)
    return shown


@cache
def _entries() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def _task(name: str, entry: dict[str, Any], profile_name: str) -> Task:
    common = {key: value for key, value in entry.items() if key not in PROFILES}
    table = entry.get(profile_name, entry.get("quick", {}))
    try:
        return Task(name=name, profile=profile_name, **(common | table))
    except TypeError as error:  # a missing or an unknown key
        detail = str(error).replace("Task.__init__()", "").strip()
        raise CourseError(f"tasks.toml, task {name!r} ({profile_name}): {detail}.") from None


@cache
def _hidden_set(task: Task, secret: int, folder: Path | None) -> HiddenSet:
    # Kept for the whole run of a grader: many hand-ins are marked on the same images.
    if task.generated:
        if task.hidden is None:
            raise CourseError(f"tasks.toml, task {task.name!r}: say how many images are hidden.")
        draw = getattr(module_of(task.data), task.data)
        first = secret * 2**20
        data = draw(range(first, first + task.hidden), task.size)
        source = f"{task.hidden} hidden images of {task.data!r}, drawn from the secret seed"
    elif folder is not None:
        from course_utils.data.pairs import load_folder

        data = load_folder(folder, task.classes, task.size)
        source = f"{len(data)} images of the instructor's folder {folder.name!r}"
    else:
        data = load(task.data, "test", size=task.size, count=task.hidden)
        source = f"{len(data)} images of the test split of {task.data!r}, which is public"
    if (data.masks == VOID).all():
        raise CourseError(f"{folder or task.data}: every pixel of every mask is void ({VOID}).")
    return HiddenSet(data, data_hash(data), source)
