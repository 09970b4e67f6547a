"""Paints a street seen in perspective: colours and labels in one stroke.

The picture has four bytes a pixel: red, green, blue and the label, so that one
drawing call sets colour and mask together and they cannot disagree.

So that a picture comes out the same on every machine, only ``+ - * /`` on
numbers decides what is drawn, and Pillow is handed whole pixels.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[float, float, float]
Ink = tuple[int, int, int, int]

NEAR = 0.9
"""Nothing nearer to the camera than this (metres) is drawn."""

OCTAGON = (
    (1, 0.41),
    (0.41, 1),
    (-0.41, 1),
    (-1, 0.41),
    (-1, -0.41),
    (-0.41, -1),
    (0.41, -1),
    (1, -0.41),
)


class Draws:
    """An endless stream of numbers in [0, 1), read from a pool at a place of its own.

    Each object of a scene reads from a place of its own. So an object may draw more
    numbers in a large picture, for details that a small one has no room for, and
    all that follows it stays the same.
    """

    __slots__ = ("at", "pool")

    def __init__(self, pool: list[float], at: int) -> None:
        self.pool = pool
        self.at = at % len(pool)

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return the next number, between ``low`` and ``high``."""
        at = self.at + 1
        self.at = at = at if at < len(self.pool) else 0
        return low + (high - low) * self.pool[at]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return low + int(self() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self() < probability

    def colour(
        self, light: tuple[float, float] = (70, 235), saturation: tuple[float, float] = (0, 0.8)
    ) -> RGB:
        """Return a colour of any hue."""
        value, colourful = self(*light), self(*saturation)
        return (
            value * (1 - colourful * self()),
            value * (1 - colourful * self()),
            value * (1 - colourful * self()),
        )


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Return the colour that lies ``t`` of the way from ``a`` to ``b``."""
    s = 1 - t
    return (a[0] * s + b[0] * t, a[1] * s + b[1] * t, a[2] * s + b[2] * t)


def times(a: RGB, k: float) -> RGB:
    """Return the colour ``k`` times as bright (`Painter.ink` clips it)."""
    return (a[0] * k, a[1] * k, a[2] * k)


@dataclass(frozen=True)
class Light:
    """The hour and the weather.

    Parameters
    ----------
    ambient
        What each channel of a surface's colour is multiplied by.
    haze, density
        Colour of the haze, and how fast (per metre) things fade into it.
    sun
        How far (metres, to the right and away) the shadow of a metre's height falls;
        None where the sky is grey and nothing casts one.
    lit
        Share of the windows and lamps that are lit.
    """

    ambient: RGB
    haze: RGB
    density: float
    sun: tuple[float, float] | None
    lit: float


@dataclass(frozen=True)
class View:
    """The camera: all lengths in picture heights, but for ``eye`` (metres above ground)."""

    horizon: float
    vanishing: float
    focal: float
    eye: float
    bend: float


class Painter:
    """A canvas, the camera that looks on the street, and the light."""

    def __init__(self, height: int, width: int, view: View, light: Light, image: Image.Image):
        self.height, self.width = height, width
        self.view, self.light, self.image = view, light, image
        self.focal = view.focal * height
        self.horizon = int(view.horizon * height)
        self.centre = width / 2 + view.vanishing * height
        self.eye, self.turn = view.eye, view.bend * self.focal
        self.draw = ImageDraw.Draw(image)
        self.shade: Image.Image | None = None
        self.glows: list[tuple[float, float, float, RGB]] = []

    def at(self, x: float, y: float, z: float) -> tuple[int, int]:
        """Return the pixel of a point: metres to the right, up, and away from the camera."""
        if z < NEAR:
            z = NEAR
        k = self.focal / z
        return int(self.centre + k * x + self.turn * z), int(self.horizon + k * (self.eye - y))

    def ink(self, colour: RGB, z: float, label: int) -> Ink:
        """Return a surface's colour in this light and at this depth, with its label."""
        light = self.light
        t = z * light.density
        t = t / (1 + t)
        s = 1 - t
        a, h = light.ambient, light.haze
        r = int(colour[0] * a[0] * s + h[0] * t)
        g = int(colour[1] * a[1] * s + h[1] * t)
        b = int(colour[2] * a[2] * s + h[2] * t)
        return (r if r < 255 else 255, g if g < 255 else 255, b if b < 255 else 255, label)

    def glowing(self, colour: RGB, z: float, label: int) -> Ink:
        """Return the colour of something that shines by itself."""
        t = z * self.light.density
        c = mix(colour, self.light.haze, t / (1 + t))
        return (min(int(c[0]), 255), min(int(c[1]), 255), min(int(c[2]), 255), label)

    def glow(self, x: float, y: float, z: float, radius: float, colour: RGB) -> None:
        """Let light shine around a point (radius in metres)."""
        u, v = self.at(x, y, z)
        size = min(radius * self.focal / z, 0.055 * self.height)
        # The glow is laid over the finished picture, which is half as large.
        self.glows.append((u / 2, v / 2, size / 2, colour))

    def face(self, corners: list[tuple[float, float, float]], ink: Ink) -> None:
        """Fill a flat face given by its corners in metres."""
        at = self.at
        self.draw.polygon([at(*corner) for corner in corners], fill=ink)

    def cut_out(self, x: float, z: float, size: float = 1.0) -> "CutOut":
        """Return where to paint something flat that stands at (x, z) and faces the camera."""
        u, v = self.at(x, 0, z)
        return CutOut(self.draw, u, v, self.focal / z * size)

    def shaded(self, x: float, z: float) -> float:
        """Return how bright the ground is at a place: 1 in the sun, less in a shadow."""
        if self.shade is None:
            return 1.0
        u, v = self.at(x, 0, z)
        if 0 <= u < self.width and 0 <= v < self.height and self.shade.getpixel((u, v)):
            return 0.72
        return 1.0


@dataclass(frozen=True)
class CutOut:
    """A flat figure that faces the camera: pixel (u, v) of its foot, s pixels a unit."""

    draw: ImageDraw.ImageDraw
    u: float
    v: float
    s: float

    def shape(self, ink: Ink, *corners: tuple[float, float]) -> None:
        """Fill a polygon; corners are (right, up) of the foot."""
        u, v, s = self.u, self.v, self.s
        self.draw.polygon([(int(u + s * x), int(v - s * y)) for x, y in corners], fill=ink)

    def board(self, ink: Ink, left: float, low: float, right: float, high: float) -> None:
        """Fill an upright rectangle."""
        u, v, s = self.u, self.v, self.s
        box = (int(u + s * left), int(v - s * high), int(u + s * right), int(v - s * low))
        self.draw.rectangle(box, fill=ink)

    def disc(self, ink: Ink, x: float, y: float, rx: float, ry: float) -> None:
        """Fill an ellipse around (x, y)."""
        u, v, s = self.u + self.s * x, self.v - self.s * y, self.s
        box = (int(u - s * rx), int(v - s * ry), int(u + s * rx), int(v + s * ry))
        self.draw.ellipse(box, fill=ink)


def upscaled(noise: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (n, m) uint8 noise drawn out to (height, width), as float32 in -1..1."""
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(image, np.float32) - 127.5) / 127.5
