"""Images with their masks, as plain arrays in memory. Nothing here imports torch."""

import hashlib
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
            raise CourseError(
                f"images must be (N, H, W, 3) uint8, not {images.shape} {images.dtype}."
            )
        if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
            raise CourseError(
                f"masks must be {images.shape[:3]} uint8 like the images, "
                f"not {masks.shape} {masks.dtype}."
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


def data_hash(data: SegmentationSet) -> str:
    """Return a hash (16 hexadecimal digits) of the shape and of every image and mask byte."""
    digest = hashlib.sha256()
    for array in (data.images, data.masks):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
