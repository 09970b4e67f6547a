"""A net that labels one patch, slid over an image: the same for training, export and scorer.

At every s-th pixel of every s-th row, from the upper left corner on, the net scores the square of
w x w pixels around it; beyond the border the image is continued by its mirror image. Between these
pixels the scores are interpolated (bilinear), beyond the last ones they are repeated.
"""

from collections.abc import Callable

import numpy as np

BATCH_PIXELS = 1 << 17
"""Patches of a batch have this many pixels together."""


def pad(images: np.ndarray, window: int) -> np.ndarray:
    """Return images ``(..., H, W, 3)`` with half a window more on each side, mirrored.

    The pixel at the border is not repeated: c b | a b c | b a.
    """
    half = window // 2
    sides = [(0, 0)] * (images.ndim - 3) + [(half, half), (half, half), (0, 0)]
    return np.pad(images, sides, mode="reflect")


def patches(image: np.ndarray, window: int, stride: int = 1) -> np.ndarray:
    """Return the patches around every ``stride``-th pixel, a view ``(h, w, 3, window, window)``.

    Parameters
    ----------
    image
        ``(H, W, 3)``, not padded yet.
    """
    size = (window, window)
    every = np.lib.stride_tricks.sliding_window_view(pad(image, window), size, axis=(0, 1))
    return every[::stride, ::stride]


def enlarge(scores: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """Interpolate scores ``(C, h, w)`` of every ``stride``-th pixel to all, ``(C, H, W)``.

    Examples
    --------
    >>> enlarge(np.array([[[0.0, 4.0]]]), (1, 4), 2)
    array([[[0., 2., 4., 4.]]])
    """
    rows, columns = (_between(side, stride) for side in size)
    return rows @ scores @ columns.T


def _between(side: int, stride: int) -> np.ndarray:
    """Return the weights ``(side, n)`` with which each pixel takes from every stride-th."""
    centres = np.arange(0, side, stride)
    unit = np.eye(len(centres), dtype=np.float32)
    weights = [np.interp(np.arange(side), centres, one) for one in unit]
    return np.stack(weights, axis=1).astype(np.float32)


def slide(
    classify: Callable[[np.ndarray], np.ndarray], image: np.ndarray, window: int, stride: int = 1
) -> np.ndarray:
    """Return the scores of every pixel of an image, ``(C, H, W)`` float32.

    Parameters
    ----------
    classify
        From float32 patches ``(B, 3, window, window)`` in [0, 1] to scores ``(B, C)``. Its number
        of calls depends on sizes alone.
    image
        ``(H, W, 3)`` uint8.
    window
        Side of the patches, odd: their middle is the pixel that is scored.
    stride
        Score every stride-th pixel, and interpolate between them.
    """
    cut = patches(image, window, stride)
    height, width = cut.shape[:2]
    cut = cut.reshape(height * width, 3, window, window)
    count = max(1, BATCH_PIXELS // window**2)
    batches = (cut[k : k + count].astype(np.float32) / 255 for k in range(0, len(cut), count))
    scores = np.concatenate([classify(batch) for batch in batches])
    return enlarge(scores.T.reshape(-1, height, width), image.shape[:2], stride)
