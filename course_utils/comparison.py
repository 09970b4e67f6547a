"""Model files compared on the same images: how well they do, and what they cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.hand_in.gate import check_model_bytes, read_plain_file
from course_utils.hand_in.inference import open_model, predict
from course_utils.hand_in.tasks import get_task
from course_utils.metrics import bootstrap_interval, iou, mean_iou, per_image_matrices
from course_utils.table import text_table

THIN = ("pole", "pedestrian", "sign", "fence")
"""Classes that are few pixels wide at 96x128."""


@dataclass(frozen=True)
class Compared:
    """What one model file does on some images, and what it costs.

    Attributes
    ----------
    matrices
        One confusion matrix an image, ``(N, C, C)``.
    classes
        The C class names.
    parameters
        Stored weights and statistics.
    multiplications
        In convolutions and matrix products, for a whole image.
    activations
        Values that the layers give for a whole image.
    seconds
        An image, on this machine, as the scorer runs it.
    """

    matrices: np.ndarray
    classes: tuple[str, ...]
    parameters: int
    multiplications: int
    activations: int
    seconds: float

    @property
    def mean_iou(self) -> float:
        """Mean IoU over all images together."""
        return float(mean_iou(self.matrices.sum(0)))

    @property
    def interval(self) -> tuple[float, float]:
        """Where the mean IoU would lie with other such images, 95 %."""
        return bootstrap_interval(self.matrices)

    def iou_of(self, names: Sequence[str]) -> float:
        """Mean IoU of some classes."""
        scores = iou(self.matrices.sum(0))
        return float(np.nanmean([scores[self.classes.index(name)] for name in names]))

    @property
    def thin(self) -> float:
        """Mean IoU of the thin classes that there are."""
        return self.iou_of([name for name in self.classes if name in THIN])

    @property
    def large(self) -> float:
        """Mean IoU of the other classes."""
        return self.iou_of([name for name in self.classes if name not in THIN])


def compare(
    models: Mapping[str, tuple[str, Path | str]], data: SegmentationSet
) -> dict[str, Compared]:
    """Run model files on the same images, each through the gate and as the scorer does.

    Parameters
    ----------
    models
        What to call it -> (task, model file). One that is not there is left out, and told.
    data
        Images and masks of the size that the tasks are made for.

    Raises
    ------
    CourseError
        If a file is not what its task wants.
    """
    found = {}
    for name, (task, path) in models.items():
        if Path(path).is_file():
            found[name] = _measure(task, Path(path), data)
        else:
            print(f"{name}: {path} is not there yet, so it is left out; its lesson makes it.")
    return found


def _measure(task_name: str, path: Path, data: SegmentationSet) -> Compared:
    task = get_task(task_name)
    content = read_plain_file(path, task.max_megabytes)
    facts = check_model_bytes(content, task, str(path))
    session = open_model(content)
    times = 1
    if task.window is not None:  # what is counted is one patch
        times = int(np.prod([-(-side // task.stride) for side in data.size]))
    sliding = {"window": task.window, "stride": task.stride}
    predict(session, data.images[:2], len(data.classes), **sliding)  # the first ones are slower
    started = time.perf_counter()
    masks = predict(session, data.images, len(data.classes), **sliding)
    seconds = (time.perf_counter() - started) / len(data)
    return Compared(
        per_image_matrices(masks, data.masks, len(data.classes), VOID),
        data.classes,
        facts.parameters,
        facts.multiplications * times,
        facts.activations * times,
        seconds,
    )


def comparison_table(compared: Mapping[str, Compared]) -> str:
    """Return scores and costs in plain text, a row a model."""
    headings = ["", "mean IoU", "95 %", "thin", "large"]
    headings += ["ms", "million multiply-adds", "million values", "thousand weights"]
    rows = []
    for name, one in compared.items():
        low, high = one.interval
        scores = f"{one.mean_iou:.3f}", f"{low:.3f} to {high:.3f}"
        groups = f"{one.thin:.2f}", f"{one.large:.2f}"
        costs = one.multiplications / 1e6, one.activations / 1e6, one.parameters / 1e3
        dear = [f"{cost:,.0f}" if cost >= 10 else f"{cost:.1f}" for cost in costs]
        rows.append([name, *scores, *groups, f"{1000 * one.seconds:.1f}", *dear])
    return text_table(headings, rows)
