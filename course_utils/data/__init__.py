"""Images with their masks, as plain arrays in memory.

``load`` is the one way in: it gives any data set of the course as a
`SegmentationSet`. Nothing here imports torch.
"""

from dataclasses import dataclass, replace

import numpy as np

from course_utils.errors import CourseError

VOID = 255
"""The mask value of pixels that belong to no class: never trained on, never scored."""


@dataclass(frozen=True)
class SegmentationSet:
    """Images and their masks, all of one size.

    Parameters
    ----------
    name, split
        Where they are from, such as ``"scenes"`` and ``"train"``.
    classes
        The C class names; a mask's value is an index into them, or `VOID`.
    images
        (N, H, W, 3) uint8, red, green, blue.
    masks
        (N, H, W) uint8, 0..C-1 or `VOID`.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray

    def __post_init__(self) -> None:
        images, masks = self.images, self.masks
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images must be (N, H, W, 3) uint8, not {images.shape} {images.dtype}"
            )
        if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
            raise ValueError(
                f"masks must be {images.shape[:3]} uint8 like the images, "
                f"not {masks.shape} {masks.dtype}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one image (H, W, 3) and its mask (H, W)."""
        return self.images[index], self.masks[index]

    def __repr__(self) -> str:
        n, height, width = self.masks.shape
        return (
            f"<SegmentationSet {self.name}/{self.split}: {n} images of {height}x{width}, "
            f"{len(self.classes)} classes>"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image, in pixels."""
        return self.images.shape[1:3]

    def subset(self, n: int) -> "SegmentationSet":
        """Return the first ``n`` images and masks (views, not copies)."""
        return replace(self, images=self.images[:n], masks=self.masks[:n])


def load(
    name: str,
    split: str = "train",
    size: tuple[int, int] | None = None,
    count: int | None = None,
) -> SegmentationSet:
    """Load a data set of the course into memory.

    Parameters
    ----------
    name
        ``"scenes"`` or ``"cells"`` (drawn on the spot), or ``"camvid"`` (must lie in the data
        folder).
    split
        ``"train"``, ``"valid"`` or ``"test"``.
    size
        (height, width) of every image. Default: (96, 128) for scenes, (120, 160) for
        cells, (256, 384) for CamVid.
    count
        Only the first so many. Default: 600 / 100 / 100 scenes, 60 / 40 / 40 cells, the whole
        split otherwise.

    Raises
    ------
    CourseError
        If there is no such set or split, or its files are not what they should be.

    Examples
    --------
    >>> load("scenes", "valid", count=2)
    <SegmentationSet scenes/valid: 2 images of 96x128, 10 classes>
    """
    if name == "scenes":
        from course_utils.data import scenes

        return scenes.load(split, size or (96, 128), count)
    if name == "cells":
        from course_utils.data import cells

        return cells.load(split, size or cells.SIZE, count)
    if name == "camvid":
        from course_utils.data import camvid

        return camvid.load(split, size or (256, 384), count)
    raise CourseError(f"there is no data set {name!r} to load. There are: scenes, cells, camvid.")
