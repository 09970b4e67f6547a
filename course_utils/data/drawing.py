"""What drawn data sets share: one picture a seed, and a range of seeds for each split."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from course_utils.data.pairs import require_split
from course_utils.data.segmentation_set import SegmentationSet


def seeds_of(
    name: str, split: str, splits: Mapping[str, tuple[int, int]], count: int | None
) -> range:
    """Return the first ``count`` seeds of a split; ``splits`` holds first seed and usual number.

    Raises
    ------
    CourseError
        If there is no such split.
    """
    require_split(name, split, splits)
    first, usual = splits[split]
    return range(first, first + (usual if count is None else count))


def draw(
    name: str,
    split: str,
    classes: Sequence[str],
    picture: Callable[..., tuple[np.ndarray, np.ndarray]],
    seeds: Iterable[int],
    size: tuple[int, int],
) -> SegmentationSet:
    """Return what ``picture(seed, height, width)``, an image and its mask, gives for each seed."""
    seeds = list(seeds)
    images = np.empty((len(seeds), *size, 3), np.uint8)
    masks = np.empty((len(seeds), *size), np.uint8)
    for i, seed in enumerate(seeds):
        images[i], masks[i] = picture(seed, *size)
    return SegmentationSet(name, split, classes, images, masks)
