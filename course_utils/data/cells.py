"""Cells: generated micrographs of bright, touching cells on uneven light, with exact masks.

What makes real micrographs hard for classical methods is in them: light that
changes over the picture by more than the cells stand out, cells of unlike
brightness that touch, noise, a striped sensor, bright fibres thinner than any cell.

A picture depends on its seed alone. Labels are made with uniform random
numbers and ``+ - * /`` only, so that they are the same on every machine.
"""

from collections.abc import Sequence

import numpy as np

from course_utils.data.drawing import seeds_of
from course_utils.data.segmentation_set import SegmentationSet

CLASSES = ("background", "cell")
SIZE = (120, 160)
SPLITS = {"train": (0, 60), "valid": (10_000_000, 40), "test": (20_000_000, 40)}
"""First seed and usual number of pictures of each split."""


def cell_image(
    seed: int, height: int = SIZE[0], width: int = SIZE[1]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture of cells and the label map of its single cells.

    Parameters
    ----------
    seed
        Any non-negative integer; equal seeds give equal pictures.
    height, width
        Size in pixels, at least 32 each.

    Returns
    -------
    image
        uint8, shape (height, width, 3), RGB.
    instances
        uint16, shape (height, width): 0 background, 1..N the cells. Cells may touch.

    Examples
    --------
    >>> image, instances = cell_image(7)
    >>> image.shape, int(instances.max()) > 5
    ((120, 160, 3), True)
    """
    if height < 32 or width < 32:
        raise ValueError(f"a picture of cells is at least 32 x 32 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    instances, cells = _draw_cells(rng, height, width)
    light = _smooth_field(rng, height, width, 3, 0.10, 0.62)
    gain = _smooth_field(rng, height, width, 3, 0.55, 1.0)
    scene = light + gain * (cells + _fibres(rng, height, width))
    scene = _blur(scene) + _stripes(rng, height, width)
    grain = sum(rng.random((height, width)) for _ in range(4)) - 2.0
    scene = scene + (0.03 + 0.09 * rng.random()) * grain
    tint = 0.75 + 0.25 * rng.random(3)
    picture = scene[..., None] * tint + 0.03 * (rng.random((height, width, 3)) - 0.5)
    return np.clip(picture * 235.0, 0, 255).astype(np.uint8), instances


def cells(
    seeds: Sequence[int], size: tuple[int, int] = SIZE, split: str = "seeds"
) -> SegmentationSet:
    """Draw one picture a seed; masks hold 0 for background and 1 for cell."""
    height, width = size
    images = np.empty((len(seeds), height, width, 3), np.uint8)
    masks = np.empty((len(seeds), height, width), np.uint8)
    for i, seed in enumerate(seeds):
        images[i], instances = cell_image(seed, height, width)
        masks[i] = instances > 0
    return SegmentationSet("cells", split, CLASSES, images, masks)


def load(split: str, size: tuple[int, int] = SIZE, count: int | None = None) -> SegmentationSet:
    """Draw the first ``count`` pictures of a split (see `course_utils.data.load`)."""
    return cells(seeds_of("cells", split, SPLITS, count), size, split)


def _draw_cells(rng, height, width):
    """Place clusters of one to four cells; the first drawn keeps a contested pixel."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    instances = np.zeros((height, width), np.uint16)
    glow = np.zeros((height, width))
    label = 0
    for _ in range(max(4, height * width // 2100)):
        y, x = height * rng.random(), width * rng.random()
        radius = 6.0 + 6.0 * rng.random()
        for _ in range(1 + int(rng.integers(0, 4))):
            inside, profile = _blob(rng, rows - y, columns - x, radius)
            inside &= instances == 0
            strength = 0.20 + 0.35 * rng.random()
            if inside.sum() >= 60:
                label += 1
                instances[inside] = label
                glow[inside] = strength * profile[inside]
            # The next one of the cluster lies one diameter away: it touches this one.
            cosine, sine = _direction(rng)
            y, x = y + 1.75 * radius * sine, x + 1.75 * radius * cosine
            radius *= 0.8 + 0.4 * rng.random()
    return instances, glow


def _blob(rng, dy, dx, radius):
    """Return where a three-lobed ellipse is, and how it shines (1 in the middle)."""
    cosine, sine = _direction(rng)
    squeeze = 0.75 + 0.25 * rng.random()
    u = (cosine * dx + sine * dy) / radius
    v = (cosine * dy - sine * dx) / (radius * squeeze)
    r2 = u * u + v * v
    lobes = (0.3 * rng.random() - 0.15) * (u * u * u - 3 * u * v * v)
    # Far away the cubic term wins over the square: hence the second condition.
    return (r2 + lobes < 1.0) & (r2 < 2.0), 1.0 - 0.35 * r2


def _direction(rng):
    """Return cosine and sine of a random angle without calling either."""
    t = 2 * rng.random() - 1
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return (cosine, sine) if rng.integers(0, 2) else (-cosine, sine)


def _smooth_field(rng, height, width, knots, low, high):
    """Interpolate a (knots, knots + 1) grid of random values bilinearly."""
    grid = low + (high - low) * rng.random((knots, knots + 1))
    y = np.arange(height) * (knots - 1) / height
    x = np.arange(width) * knots / width
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[:, None], (x - j)[None, :]
    i, j = i[:, None], j[None, :]
    top = grid[i, j] * (1 - fx) + grid[i, j + 1] * fx
    return top * (1 - fy) + (grid[i + 1, j] * (1 - fx) + grid[i + 1, j + 1] * fx) * fy


def _fibres(rng, height, width):
    """Bright threads, two pixels wide: nothing that is to be found."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    threads = np.zeros((height, width))
    for _ in range(int(rng.integers(1, 5))):
        cosine, sine = _direction(rng)
        y, x = height * rng.random(), width * rng.random()
        across = cosine * (rows - y) - sine * (columns - x)
        along = sine * (rows - y) + cosine * (columns - x)
        bend = across + (0.02 * rng.random() - 0.01) * along * along
        threads[(bend * bend < 1.0) & (along * along < 900.0)] = 0.25 + 0.3 * rng.random()
    return threads


def _stripes(rng, height, width):
    """A triangular wave down the rows, as some sensors add."""
    period = 4 + int(rng.integers(0, 4))
    phase = (np.arange(height)[:, None] + int(rng.integers(0, period))) % period
    wave = np.abs(2.0 * phase / period - 1.0) - 0.5
    return 0.12 * rng.random() * wave * np.ones((1, width))


def _blur(scene):
    """Average over 3 x 3 pixels, the border repeated."""
    padded = np.pad(scene, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9.0
