"""What predictors reach that know nothing of shapes: any model must beat these.

Three of them, each learnt by counting on the training images:

- majority: every pixel is of the most frequent class;
- location prior: the most frequent class at each place of the picture;
- colour x position table: the most probable class for a colour at a place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from course_utils.data import load, module_of
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.metrics import ConfusionMatrix
from course_utils.table import text_table

BITS = 3
"""A channel of a colour is cut into 2**BITS steps for the table."""

GRID = (12, 16)
"""Rows and columns of the places that the table tells apart."""

BACK_OFF = 5.0
"""How many pixels' worth a coarser count weighs against a finer one (see `ColourTable`)."""


def majority(train: SegmentationSet) -> Callable[[np.ndarray], np.ndarray]:
    """Return a predictor of the most frequent class everywhere.

    A predictor takes images (N, H, W, 3) uint8 and returns masks (N, H, W) uint8.
    """
    counts = np.bincount(train.masks[train.masks != VOID], minlength=len(train.classes))
    best = np.uint8(counts.argmax())
    return lambda images: np.full(images.shape[:3], best)


def location_prior(train: SegmentationSet) -> Callable[[np.ndarray], np.ndarray]:
    """Return a predictor of the most frequent class at each pixel's place."""
    counts = np.stack([(train.masks == k).sum(axis=0) for k in range(len(train.classes))])
    best = counts.argmax(axis=0).astype(np.uint8)
    return lambda images: np.broadcast_to(best, images.shape[:3])


class ColourTable:
    """The most probable class given a colour and a place, counted and backed off.

    A pixel's colour is cut to 8 x 8 x 8 steps, its place to 12 x 16. Most of these
    98,304 cells are seen seldom, so their counts are blended with those of a coarser
    place (3 x 4), then of the place or the colour alone: ``p = (n + m * p_coarser) /
    (n.sum() + m)`` with ``m`` of five pixels, as in language models.
    """

    def __init__(self, train: SegmentationSet) -> None:
        classes = len(train.classes)
        colour, place, coarse = self._keys(train.images)
        known = train.masks != VOID
        labels = train.masks[known].astype(np.intp)
        colour, place, coarse = colour[known], place[known], coarse[known]
        colours, places, coarses = 1 << 3 * BITS, GRID[0] * GRID[1], GRID[0] * GRID[1] // 16

        def count(keys: np.ndarray, size: int) -> np.ndarray:
            counts = np.bincount(keys * classes + labels, minlength=size * classes)
            return counts.reshape(size, classes).astype(np.float32)

        def blend(counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
            total = counts.sum(axis=-1, keepdims=True)
            return (counts + BACK_OFF * prior) / (total + BACK_OFF)

        overall = np.bincount(labels, minlength=classes) / max(len(labels), 1)
        by_place = blend(count(place, places), overall)
        by_colour = blend(count(colour, colours), overall)
        joint = by_place[:, None] * by_colour[None] / np.maximum(overall, 1e-9)
        joint /= joint.sum(axis=-1, keepdims=True)
        rough = count(coarse * colours + colour, coarses * colours).reshape(coarses, colours, -1)
        rows, columns = np.divmod(np.arange(places), GRID[1])
        rough = rough[rows // 4 * (GRID[1] // 4) + columns // 4]
        fine = count(place * colours + colour, places * colours).reshape(places, colours, -1)
        self.best = blend(fine, blend(rough, joint)).argmax(axis=-1).astype(np.uint8)

    @staticmethod
    def _keys(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return colour, place and coarse place of every pixel, each (N, H, W)."""
        _, height, width, _ = images.shape
        step = (images >> (8 - BITS)).astype(np.intp)
        colour = (step[..., 0] << 2 * BITS) | (step[..., 1] << BITS) | step[..., 2]
        row = np.arange(height) * GRID[0] // height
        column = np.arange(width) * GRID[1] // width
        place = row[:, None] * GRID[1] + column
        coarse = row[:, None] // 4 * (GRID[1] // 4) + column // 4
        return colour, np.broadcast_to(place, colour.shape), np.broadcast_to(coarse, colour.shape)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return masks (N, H, W) uint8 of images (N, H, W, 3) uint8."""
        colour, place, _ = self._keys(images)
        return self.best[place, colour]


@dataclass(frozen=True)
class Floor:
    """What one trivial predictor reaches: both in 0..1, void ignored."""

    name: str
    accuracy: float
    mean_iou: float


PREDICTORS = {
    "majority class": majority,
    "location prior": location_prior,
    "colour x position table": ColourTable,
}


def floors(train: SegmentationSet, test: SegmentationSet) -> list[Floor]:
    """Learn each trivial predictor on ``train``, measure it on ``test``.

    The mean IoU is that of one confusion matrix over all of ``test``; classes that are
    neither in the truth nor predicted are left out.
    """
    found = []
    for name, learn in PREDICTORS.items():
        confusion = ConfusionMatrix(len(test.classes), VOID)
        confusion.update(learn(train)(test.images), test.masks)
        found.append(Floor(name, confusion.pixel_accuracy(), confusion.mean_iou()))
    return found


def print_floors(name: str) -> None:
    """Print the floors of a data set: drawn sets at their own size, others at 96x128.

    Raises
    ------
    CourseError
        If there is no such set, or it is not on this machine.
    """
    module = module_of(name)
    size = (96, 128) if hasattr(module, "files") else module.SIZE
    train, test = (load(name, split, size=size) for split in ("train", "valid"))
    height, width = size
    print(
        f"{name}: learnt on {len(train)} images, measured on {len(test)} others, {height}x{width}"
    )
    rows = [
        [floor.name, f"{floor.accuracy:.3f}", f"{floor.mean_iou:.3f}"]
        for floor in floors(train, test)
    ]
    print(text_table(["floor", "accuracy", "mean IoU"], rows))
