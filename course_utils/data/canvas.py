"""A canvas on which colours and labels are painted in one stroke, with a look of volume.

What `drawn_people` and `drawn_pets` have in common: a shape is a list of outlines; it is
filled with a surface (a colour, a pattern, a grain), lit from one side, and takes its label
with it, so that picture and mask cannot disagree. All is painted at twice the size and halved.

Coordinates are picture heights, to the right and down from the upper left corner. So that a
picture comes out the same on every machine and at every size, only ``+ - * /`` and square
roots decide what is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from course_utils.data.scenes import halved
from course_utils.data.scenes.painter import RGB, Draws, mix, times, upscaled

Point = tuple[float, float]
Outline = Sequence[Point]

_QUARTER = [
    ((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t))
    for t in (0.0, 0.1317, 0.2679, 0.4142, 0.5774, 0.7673)
]
CIRCLE = [
    *_QUARTER,
    *((-y, x) for x, y in _QUARTER),
    *((-x, -y) for x, y in _QUARTER),
    *((y, -x) for x, y in _QUARTER),
]
"""24 points of the unit circle."""

PATTERNS = ("plain", "stripes", "checks", "dots", "blobs", "planks", "bricks")


BODIES: tuple[RGB, ...] = (
    *(
        (255, 224, 196),
        (240, 190, 150),
        (214, 160, 118),
        (170, 116, 80),
        (120, 78, 54),
        (74, 48, 36),
    ),
    *((24, 20, 20), (60, 38, 24), (110, 72, 40), (190, 150, 90), (150, 62, 30), (185, 185, 190)),
)
"""Colours of skin, and of hair and fur: walls, cushions and trunks have them, too."""


def turn(t: float) -> Point:
    """Return the direction of an angle whose half has the tangent ``t``: 0 is down, 1 right."""
    return 2 * t / (1 + t * t), (1 - t * t) / (1 + t * t)


def along(start: Point, t: float, length: float) -> Point:
    """Return the point a length away from ``start``, in the direction `turn` (t)."""
    x, y = turn(t)
    return start[0] + length * x, start[1] + length * y


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Outline:
    """Return an ellipse around (x, y), turned by `turn` (tilt)."""
    s, c = turn(tilt)
    return [(x + c * rx * u + s * ry * v, y - s * rx * u + c * ry * v) for u, v in CIRCLE]


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """Return an upright rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def limb(a: Point, b: Point, ra: float, rb: float) -> list[Outline]:
    """Return what lies between two discs, of radius ``ra`` and ``rb``, and the discs."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = sqrt(dx * dx + dy * dy) or 1.0
    nx, ny = -dy / length, dx / length
    between = [
        (a[0] + nx * ra, a[1] + ny * ra),
        (b[0] + nx * rb, b[1] + ny * rb),
        (b[0] - nx * rb, b[1] - ny * rb),
        (a[0] - nx * ra, a[1] - ny * ra),
    ]
    return [between, ellipse(*a, ra, ra), ellipse(*b, rb, rb)]


def smooth(corners: Outline, steps: int = 5) -> Outline:
    """Return a closed curve through the corners (Catmull-Rom)."""
    n, curve = len(corners), []
    for i in range(n):
        p, q, r, s = (corners[(i + k) % n] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            weights = (
                t * (t * (2 - t) - 1) / 2,
                (t * t * (3 * t - 5) + 2) / 2,
                t * (t * (4 - 3 * t) + 1) / 2,
                t * t * (t - 1) / 2,
            )
            curve.append(
                tuple(
                    sum(w * c[k] for w, c in zip(weights, (p, q, r, s), strict=True))
                    for k in (0, 1)
                )
            )
    return curve


def mirrored(half: Outline, axis: float = 0.0) -> Outline:
    """Return a left half, given from top to bottom, and its mirror image as one outline."""
    return [*half, *((2 * axis - x, y) for x, y in reversed(half) if x != axis)]


@dataclass(frozen=True)
class Surface:
    """What a shape is filled with.

    Parameters
    ----------
    colour, second
        The two colours of the pattern.
    pattern
        One of `PATTERNS`.
    scale
        Width of a stripe, a tile, a dot, in picture heights.
    tilt
        Its direction, as `turn` takes it.
    grain
        How rough it is, as a share of its brightness.
    """

    colour: RGB
    second: RGB = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: float = 0.05
    tilt: float = 0.0
    grain: float = 0.06

    def darker(self, k: float) -> "Surface":
        """Return the same ``k`` times as bright."""
        return replace(self, colour=times(self.colour, k), second=times(self.second, k))


class Canvas:
    """A picture of twice ``height`` and ``width``, its labels, and the light on it.

    Parameters
    ----------
    height, width
        Of the finished picture.
    rng
        For the grain of surfaces and the noise of the sensor.
    light
        Where the light is from, in the plane of the picture: (-1, -1) is above to the left.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator, light: Point):
        self.size = 2 * height, 2 * width
        self.unit, self.wide, self.light = 2 * height, width / height, light
        self.rgb = np.zeros((*self.size, 3), np.float32)
        self.labels = np.zeros(self.size, np.uint8)
        # Three sizes of grain; cells are counted over a square, so that wider shows more of it.
        cells = [rng.integers(0, 256, (n, 2 * n), np.uint8) for n in (9, 30, 90)]
        side = max(self.size[0], (self.size[1] + 1) // 2)
        coarse, self.noise, fine = (
            upscaled(c, side, 2 * side)[: self.size[0], : self.size[1]] for c in cells
        )
        self.grain = coarse + np.float32(0.6) * self.noise + np.float32(0.8) * fine
        self.rng = rng

    def paint(
        self,
        outlines: Sequence[Outline],
        surface: Surface,
        label: int = 0,
        relief: float = 0.0,
        soft: float = 0.02,
    ) -> None:
        """Fill outlines with a surface and a label.

        Parameters
        ----------
        relief
            How round it looks, 0 to 1.
        soft
            How far from its edge it is round, in picture heights.
        """
        cut = self._region(outlines, soft if relief else 0.0)
        if cut is None:
            return
        inside, rows, columns, shade = cut
        light = np.float32(surface.grain) * self.grain[rows, columns] + np.float32(1)
        if relief:
            light *= 1 + np.float32(relief) * shade
        colours = self._colours(surface, rows, columns) * light[..., None]
        np.copyto(self.rgb[rows, columns], colours, where=inside[..., None])
        self.labels[rows, columns][inside] = label

    def shadow(self, outlines: Sequence[Outline], strength: float, soft: float) -> None:
        """Darken what lies there, softly; labels stay."""
        cut = self._region(outlines, soft, blurred=True)
        if cut is not None:
            _, rows, columns, dark = cut
            self.rgb[rows, columns] *= (1 - strength * dark)[..., None]

    def _region(self, outlines: Sequence[Outline], soft: float, blurred: bool = False):
        """Return the inside of outlines in their box, that box as slices, and how they are lit."""
        u = self.unit
        points = [[(int(x * u), int(y * u)) for x, y in outline] for outline in outlines]
        xs, ys = zip(*(point for outline in points for point in outline), strict=True)
        margin = int(2 * soft * u) + 1
        x0, x1 = max(min(xs) - margin, 0), min(max(xs) + margin + 1, self.size[1])
        y0, y1 = max(min(ys) - margin, 0), min(max(ys) + margin + 1, self.size[0])
        if x0 >= x1 or y0 >= y1:
            return None
        # Drawn with a margin, so that the picture's edge is none of the shape.
        left, top = x0 - margin, y0 - margin
        drawn = Image.new("L", (x1 - x0 + 2 * margin, y1 - y0 + 2 * margin))
        draw = ImageDraw.Draw(drawn)
        for outline in points:
            draw.polygon([(x - left, y - top) for x, y in outline], fill=255)
        here = slice(margin, -margin), slice(margin, -margin)
        inside = np.asarray(drawn)[here] > 0
        place = inside, slice(y0, y1), slice(x0, x1)
        if not soft:
            return *place, None
        radius = max(int(soft * u / 2), 1)
        round_ = np.asarray(drawn.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
        if blurred:
            return *place, round_[here]
        dx, dy = (int(-k * radius) for k in self.light)
        ahead = round_[margin + dy :, margin + dx :][: y1 - y0, : x1 - x0]
        behind = round_[margin - dy :, margin - dx :][: y1 - y0, : x1 - x0]
        return *place, ahead - behind

    def _colours(self, s: Surface, rows: slice, columns: slice) -> np.ndarray:
        """Return a surface's colours in a box: (h, w, 3) float32, or (3,) if it has one."""
        first, second = (np.array(c, np.float32) for c in (s.colour, s.second))
        if s.pattern == "plain":
            return first
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) / self.unit)[None]
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) / self.unit)[:, None]
        share = self._share(s, x, y, self.noise[rows, columns])
        return first + (second - first) * share[..., None]

    @staticmethod
    def _share(s: Surface, x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return how much of the second colour each pixel has, 0 to 1."""
        if s.pattern == "blobs":
            return (noise * 4 + 0.2).clip(0, 1)
        sin, cos = turn(s.tilt)
        a, b = (cos * x - sin * y) / s.scale, (sin * x + cos * y) / s.scale
        if s.pattern == "stripes":
            return ((a + 0.15 * noise) % 1 < 0.42).astype(np.float32)
        if s.pattern == "checks":
            return ((a % 1 < 0.5).astype(np.float32) + (b % 1 < 0.5)) / 2
        if s.pattern == "dots":
            p, q = a % 1 - 0.5, (b + 0.5 * (a // 1 % 2)) % 1 - 0.5
            return (p * p + q * q < 0.07).astype(np.float32)
        # Planks are long, bricks are short; a joint between each two.
        long = 5.0 if s.pattern == "planks" else 2.0
        c = b / long + 0.37 * (a // 1)
        return ((a % 1 < 0.12) | (c % 1 < 0.12 / long)).astype(np.float32)

    def blurred(self, radius: float) -> None:
        """Put what is painted so far out of focus; labels stay."""
        whole = Image.fromarray(self.rgb.clip(0, 255).astype(np.uint8))
        whole = whole.filter(ImageFilter.BoxBlur(max(radius * self.unit, 0.5)))
        self.rgb = np.array(whole, np.float32)

    def finished(self, r: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Return image (H, W, 3) and mask (H, W), uint8: tinted, exposed, halved, with noise."""
        tint = np.array([r(0.75, 1.15), r(0.85, 1.1), r(0.7, 1.2)], np.float32)
        # Light falls off to one side, as from a window or a lamp.
        y = np.linspace(-1, 1, self.size[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self.size[1], dtype=np.float32)[None]
        fall = 1 + np.float32(r(0.0, 0.22)) * (x * np.sign(self.light[0]) - 0.5 * y)
        picture = self.rgb * (tint * np.float32(r(0.7, 1.15))) * fall[..., None]
        four = np.dstack([picture.clip(0, 255).astype(np.uint8), self.labels])
        image, mask = halved(Image.frombytes("RGBX", self.size[::-1], four.tobytes()))
        noise = self.rng.integers(0, 256, (2, *image.shape), np.uint8)
        noisy = image + (np.add(*noise, dtype=np.int16) - 255) * np.float32(r(0.01, 0.05))
        return noisy.clip(0, 255).astype(np.uint8), mask


def any_surface(r: Draws, scale: tuple[float, float] = (0.02, 0.08)) -> Surface:
    """Return a cloth, a wall, a rug: any colour, often plain."""
    colour = r.colour((35, 245), (0.0, r(0.1, 0.75)))
    if r.chance(0.55):
        colour = times(mix(BODIES[r.whole(0, 11)], BODIES[r.whole(0, 11)], 0.3), r(0.85, 1.1))
    second = mix(colour, r.colour((20, 250), (0.0, r(0.1, 0.8))), r(0.4, 1.0))
    pattern = "plain" if r.chance(0.5) else PATTERNS[1 + r.whole(0, 3)]
    return Surface(colour, second, pattern, r(*scale), r(-0.6, 0.6), r(0.02, 0.12))
