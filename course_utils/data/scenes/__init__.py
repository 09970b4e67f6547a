"""Street scenes drawn from an integer seed, with exact masks.

The embedded data set: nothing to download, as many images as wanted, and a hidden
test set is just a seed that nobody has seen. The same seed gives the same bytes on
every machine, and the same street at every size.

A scene is drawn in metres first (`layout`), then painted at twice its size from far to
near (`ground`, `street`), halved, and given texture, glow and noise.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from course_utils.data.drawing import draw, seeds_of
from course_utils.data.scenes import street
from course_utils.data.scenes.ground import paint_background
from course_utils.data.scenes.layout import Placer, draw_light, draw_street, draw_view
from course_utils.data.scenes.painter import Draws, Painter, upscaled
from course_utils.data.segmentation_set import SegmentationSet

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
)
SPLITS = {"train": (0, 600), "valid": (10_000_000, 100), "test": (20_000_000, 100)}
"""First seed and default number of images of each split."""

SIZE = (96, 128)
"""Height and width of a scene, unless others are asked for."""

POOL = 6144
"""How many numbers are drawn for a scene before anything is painted."""

FIRST_OBJECT, STEP = 1024, 53
"""Where in the pool the first object's numbers begin, and how much further each next one's."""

GRAIN = np.zeros((256, 3), np.float32)
"""How strongly a class is grained, as a share of its brightness: coarse, middle, fine."""
GRAIN[: len(CLASSES)] = (
    (0.03, 0.0, 0.0),
    (0.08, 0.01, 0.05),
    (0.03, 0.01, 0.03),
    (0.10, 0.03, 0.10),
    (0.10, 0.03, 0.06),
    (0.08, 0.14, 0.26),
    (0.0, 0.02, 0.02),
    (0.05, 0.05, 0.06),
    (0.04, 0.02, 0.01),
    (0.03, 0.06, 0.05),
)


def scenes(
    seeds: Iterable[int], size: tuple[int, int] = SIZE, split: str = "custom"
) -> SegmentationSet:
    """Draw one scene for each seed, all of ``size`` (height, width)."""
    return draw("scenes", split, CLASSES, scene, seeds, size)


def load(split: str, size: tuple[int, int] = SIZE, count: int | None = None) -> SegmentationSet:
    """Draw the first ``count`` scenes of a split (see `course_utils.data.load`)."""
    return scenes(seeds_of("scenes", split, SPLITS, count), size, split)


def scene(seed: int, height: int = 96, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Draw the street scene of a seed.

    Parameters
    ----------
    seed
        Any non-negative integer, however large.
    height, width
        In pixels. A wider picture of the same height shows more of the street.

    Returns
    -------
    image : (height, width, 3) uint8
    mask : (height, width) uint8, 0..9 (see `CLASSES`) or 255 (void)

    Examples
    --------
    >>> image, mask = scene(7)
    >>> image.shape, mask.shape, int(mask[0, 64])
    ((96, 128, 3), (96, 128), 0)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    pool = rng.random(POOL).tolist()
    r = Draws(pool, -1)
    sky, light = draw_light(r)
    view = draw_view(r)
    plan = draw_street(r)
    objects = Placer(plan, view, Draws(pool, FIRST_OBJECT // 2))
    objects.place()

    # Four bytes a pixel, the fourth for the label: RGBX, since Pillow would take the fourth
    # byte of RGBA for opacity when it halves the canvas.
    canvas = Image.new("RGBX", (2 * width, 2 * height))
    p = Painter(2 * height, 2 * width, view, light, canvas)
    paint_background(p, r, plan, sky, objects.shadows)
    at = FIRST_OBJECT
    for group in (objects.backs, objects.fronts):
        for item in sorted(group, key=lambda item: -item.depth):
            item.paint(p, Draws(pool, at if item.draws is None else item.draws), *item.args)
            at += STEP
    if r.chance(0.2):
        for k in range(3):
            street.bird(p, Draws(pool, at + k * STEP))
    if r.chance(0.35):
        street.bonnet(p, Draws(pool, at + 3 * STEP))
    image, mask = halved(canvas)
    return finished(image, mask, p.glows, rng, r), mask


def halved(canvas: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Halve a canvas: average its colours; of four labels, the most frequent one stays."""
    height, width = canvas.height // 2, canvas.width // 2
    blocks = np.asarray(canvas)[..., 3].reshape(height, 2, width, 2)
    a, b, c, d = blocks.transpose(1, 3, 0, 2).reshape(4, height, width)
    mask = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    mask = np.where((a == b) | (a == c) | (a == d), a, mask)
    return np.asarray(canvas.reduce(2))[..., :3], mask


def finished(
    image: np.ndarray, mask: np.ndarray, glows: list, rng: np.random.Generator, r: Draws
) -> np.ndarray:
    """Add texture by class, the glow of lamps, exposure and the sensor's noise."""
    height, width = mask.shape
    fine = (120, 160) if height < 200 else (360, 480)
    grain = GRAIN.take(mask, axis=0)
    factor = np.ones(mask.shape, np.float32)
    for layer, cells in enumerate(((9, 12), (48, 64), fine)):
        noise = rng.integers(0, 256, cells, np.uint8)
        factor += upscaled(noise, height, width) * grain[..., layer]
    factor *= np.float32(r(0.92, 1.2))
    x = image * factor[..., None]
    for u, v, radius, colour in glows:
        reach = radius * 4
        x0, x1 = max(int(u - reach), 0), min(int(u + reach) + 1, width)
        y0, y1 = max(int(v - reach), 0), min(int(v + reach) + 1, height)
        if x0 < x1 and y0 < y1:
            dx = (np.arange(x0, x1, dtype=np.float32) - np.float32(u)) / np.float32(radius)
            dy = (np.arange(y0, y1, dtype=np.float32) - np.float32(v)) / np.float32(radius)
            square = (dx * dx)[None] + (dy * dy)[:, None]
            shine = (1 - square / 16).clip(0, 1) / (1 + 2 * square) * np.float32(0.5)
            x[y0:y1, x0:x1] += shine[..., None] * np.array(colour, np.float32)
    noise = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    x += (np.add(*noise, dtype=np.int16) - 255) * np.float32(r(0.005, 0.018))
    return x.clip(0, 255).astype(np.uint8)
