"""Street scenes drawn from an integer seed, with exact masks."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from course_utils.data import VOID, SegmentationSet
from course_utils.errors import CourseError

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

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN = range(10)


def scenes(
    seeds: Iterable[int], size: tuple[int, int] = (96, 128), split: str = "custom"
) -> SegmentationSet:
    """Draw one scene for each seed, all of ``size`` (height, width)."""
    pairs = [scene(seed, *size) for seed in seeds]
    images = np.stack([image for image, _ in pairs]) if pairs else np.zeros((0, *size, 3), np.uint8)
    masks = np.stack([mask for _, mask in pairs]) if pairs else np.zeros((0, *size), np.uint8)
    return SegmentationSet("scenes", split, CLASSES, images, masks)


def load(
    split: str, size: tuple[int, int] = (96, 128), count: int | None = None
) -> SegmentationSet:
    """Draw the first ``count`` scenes of a split (see `course_utils.data.load`)."""
    if split not in SPLITS:
        raise CourseError(f"scenes has no split {split!r}. Its splits are: {', '.join(SPLITS)}.")
    first, default = SPLITS[split]
    return scenes(range(first, first + (default if count is None else count)), size, split)


def scene(seed: int, height: int = 96, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Draw the street scene of a seed.

    Parameters
    ----------
    seed
        Any non-negative integer. The same seed gives the same bytes everywhere.
    height, width
        In pixels.

    Returns
    -------
    image : (height, width, 3) uint8
    mask : (height, width) uint8, 0..9 (see `CLASSES`) or 255 (void)
    """
    r = np.random.default_rng(seed)
    h, w = 2 * height, 2 * width
    canvas = Image.new("RGBA", (w, h))
    d = ImageDraw.Draw(canvas)

    def u(a: float, b: float) -> float:
        return a + (b - a) * r.random()

    def colour(low: float = 40, high: float = 230) -> tuple[int, ...]:
        return tuple(int(u(low, high)) for _ in range(3))

    def box(x0: float, y0: float, x1: float, y1: float, c: tuple[int, ...], k: int) -> None:
        if x1 >= x0 and y1 >= y0:
            d.rectangle((int(x0), int(y0), int(x1), int(y1)), (*c, k))

    horizon = int(h * u(0.38, 0.55))
    box(0, 0, w, h, colour(100, 255), SKY)
    x = -u(0, 0.1) * w
    while x < w:
        bw, bh = u(0.1, 0.3) * w, u(0.1, 0.42) * h
        if r.random() < 0.8:
            box(x, horizon - bh, x + bw, horizon, colour(), BUILDING)
        x += bw + u(0, 0.05) * w
    box(0, horizon, w, h, colour(), PAVEMENT)
    vx, rw = w * u(0.3, 0.7), u(0.4, 0.8) * w
    road = [(vx - 4, horizon), (vx + 4, horizon), (vx + rw, h), (vx - rw, h)]
    d.polygon([(int(a), int(b)) for a, b in road], (*colour(), ROAD))
    kinds = [TREE, TREE, FENCE, POLE, POLE, CAR, CAR, PEDESTRIAN, PEDESTRIAN]
    for z, k in sorted((u(0.05, 0.6), k) for k in kinds):
        y, s, c = horizon + (h - horizon) * z, (0.15 + z) * h, colour(20, 250)
        x = vx + (1 if r.random() < 0.5 else -1) * (rw * z + u(0, 0.25) * w)
        if k == TREE:
            box(x - 0.04 * s, y - 0.5 * s, x + 0.04 * s, y, c, k)
            c = colour(20, 250)
            for _ in range(8):
                cx, cy, q = x + u(-0.2, 0.2) * s, y - u(0.5, 0.9) * s, u(0.1, 0.2) * s
                d.ellipse((int(cx - q), int(cy - q), int(cx + q), int(cy + q)), (*c, k))
        elif k == FENCE:
            box(x, y - 0.2 * s, x + s, y, c, k)
        elif k == POLE:
            box(x - 0.02 * s, y - 1.1 * s, x + 0.02 * s, y, c, k)
            box(x - 0.1 * s, y - 1.2 * s, x + 0.1 * s, y - s, colour(), SIGN)
        elif k == CAR:
            x = vx + u(-0.6, 0.6) * rw * z
            box(x - 0.28 * s, y - 0.2 * s, x + 0.28 * s, y, c, k)
            box(x - 0.18 * s, y - 0.36 * s, x + 0.18 * s, y - 0.2 * s, c, k)
        else:
            box(x - 0.05 * s, y - 0.4 * s, x + 0.05 * s, y, c, k)
            box(x - 0.03 * s, y - 0.48 * s, x + 0.03 * s, y - 0.4 * s, colour(), k)
    if r.random() < 0.3:
        box(0, 0.94 * h, w, h, colour(), VOID)
    full = np.asarray(canvas)
    image = np.asarray(canvas.reduce(2))[..., :3].astype(np.int16)
    noise = r.integers(-6, 7, image.shape, np.int16) + r.integers(-6, 7, image.shape, np.int16)
    return (image + noise).clip(0, 255).astype(np.uint8), full[::2, ::2, 3].copy()
