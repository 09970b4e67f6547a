"""Drawn pets: cats and dogs of any coat in rooms and gardens, with exact masks.

For lessons that need pets and have no photographs: three classes as the trimaps of the
Oxford-IIIT Pet data set have them, in their order: pet, background, and the border between
the two, which is drawn on both sides of the outline.

A picture depends on its seed alone (see `canvas`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from course_utils.data.backdrops import paint_backdrop, paint_before
from course_utils.data.canvas import (
    BODIES,
    Canvas,
    Outline,
    Point,
    Surface,
    any_surface,
    ellipse,
    limb,
    mirrored,
    smooth,
)
from course_utils.data.drawing import draw, seeds_of
from course_utils.data.scenes.painter import Draws, mix, times
from course_utils.data.segmentation_set import SegmentationSet

CLASSES = ("pet", "background", "border")
SIZE = (128, 128)
SPLITS = {"train": (0, 400), "valid": (10_000_000, 100), "test": (20_000_000, 100)}
"""First seed and default number of pictures of each split."""

PET, BACKGROUND, BORDER = range(3)
POOL = 4096
FURS = (*BODIES[1:], (238, 234, 228), (232, 214, 184), (206, 130, 62), (120, 122, 130))
COATS = ("plain", "plain", "stripes", "stripes", "blobs", "blobs", "dots")
_FUR = 1  # the canvas's label of an animal, before the border is drawn


def pet_image(
    seed: int, height: int = SIZE[0], width: int = SIZE[1]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the picture of a seed.

    Parameters
    ----------
    seed
        Any non-negative integer; equal seeds give equal pictures.
    height, width
        In pixels.

    Returns
    -------
    image : (height, width, 3) uint8
    mask : (height, width) uint8, 0 pet, 1 background, 2 border

    Examples
    --------
    >>> image, mask = pet_image(3)
    >>> image.shape, sorted(set(mask.ravel().tolist()))
    ((128, 128, 3), [0, 1, 2])
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    r = Draws(rng.random(POOL).tolist(), -1)
    c = Canvas(height, width, rng, (-1 if r.chance(0.5) else 1, r(-1, -0.3)))
    ground = paint_backdrop(c, r, r.whole(1, 5))
    if r.chance(0.35):
        c.blurred(r(0.004, 0.012))
    _lair(c, r, ground)
    x, size = r(0.1, 0.9) * c.wide, r(0.11, 0.22)
    pet = Pet.drawn(c, r, size)
    (pet.portrait, pet.sitting, pet.standing, pet.lying)[r.whole(0, 3)](x)
    if r.chance(0.25):
        paint_before(c, r)
    image, mask = c.finished(r)
    return image, trimap(mask == _FUR)


def trimap(animal: np.ndarray) -> np.ndarray:
    """Return the three classes of a bool mask ``(H, W)``: its outline becomes a band.

    The band is 5 pixels wide in a picture that is 128 high, and wider in proportion.
    """
    reach = 2 * max(1, animal.shape[0] // 64) + 1
    filled = Image.fromarray(animal.astype(np.uint8))
    grown, shrunk = (
        np.asarray(filled.filter(kind(reach))) > 0
        for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    return np.where(shrunk, PET, np.where(grown, BORDER, BACKGROUND)).astype(np.uint8)


def _lair(c: Canvas, r: Draws, ground: float) -> None:
    """Paint a blanket, a cushion or long grass, of the colours that coats have."""
    for _ in range(r.whole(0, 2)):
        x, y = r() * c.wide, ground + r(0.1, 0.5) * (1.1 - ground)
        cloth = replace(any_surface(r, (0.02, 0.06)), grain=r(0.1, 0.35))
        c.paint([ellipse(x, y, r(0.15, 0.45), r(0.05, 0.16))], cloth, 0, 0.6, 0.05)


@dataclass
class Pet:
    """One animal: ``size`` is half the width of its head, in picture heights."""

    c: Canvas
    r: Draws
    size: float
    cat: bool
    coat: Surface
    pale: Surface
    points: Surface

    @classmethod
    def drawn(cls, c: Canvas, r: Draws, size: float) -> "Pet":
        """Choose species and coat: ``points`` are ears and paws, ``pale`` muzzle and chest."""
        first, second = FURS[r.whole(0, 14)], FURS[r.whole(0, 14)]
        pattern = COATS[r.whole(0, 6)]
        grain, scale = r(0.12, 0.3), r(0.25, 0.6) * size
        second = mix(first, second, r(0.5, 1.0))
        coat = Surface(times(first, r(0.85, 1.1)), second, pattern, scale, r(-0.8, 0.8), grain)
        pale = Surface((240.0, 236.0, 228.0), grain=0.12) if r.chance(0.45) else coat.darker(1.12)
        points = Surface(times(second, 0.75), grain=grain) if r.chance(0.3) else coat.darker(0.94)
        return cls(c, r, size, r.chance(0.5), coat, pale, points)

    def stamp(
        self, outlines: Sequence[Outline], surface: Surface, relief: float = 0.5, soft: float = 0.4
    ) -> None:
        """Paint outlines as part of the animal; ``soft`` in sizes."""
        self.c.paint(outlines, surface, _FUR, relief, soft * self.size)

    def furred(self, outline: Outline, length: float = 0.05) -> Outline:
        """Return an outline with tufts: every other point is moved away from the middle."""
        r, n = self.r, len(outline)
        x, y = (sum(point[k] for point in outline) / n for k in (0, 1))
        tufts = [1 + length * r() * (k % 2) for k in range(n)]
        return [
            (x + (u - x) * t, y + (v - y) * t) for (u, v), t in zip(outline, tufts, strict=True)
        ]

    # ------------------------------------------------------------------ poses

    def portrait(self, x: float) -> None:
        """Paint head and shoulders, cut off by the picture's lower edge."""
        self.size *= self.r(1.1, 1.7)
        s = self.size
        y = self.r(0.9, 1.6) * s
        wide, low = self.r(1.0, 1.5) * s, 1.15
        half = [
            (x, y + 0.2 * s),
            (x - 0.75 * s, y + 0.6 * s),
            (x - wide, y + 1.9 * s),
            (x - 1.15 * wide, low),
        ]
        self.stamp([self.furred(smooth(mirrored([*half, (x, low)], x), 4))], self.coat, 0.5, 0.6)
        chest = [(x, y + 0.4 * s), (x - 0.4 * s, y + 0.9 * s), (x - 0.5 * s, low), (x, low)]
        if self.r.chance(0.5):
            self.stamp([smooth(mirrored(chest, x), 3)], self.pale, 0.4)
        self._collar(x, y + 0.95 * s, 0.75 * s)
        self._head(x, y)

    def sitting(self, x: float) -> None:
        """Paint it from the front, on its hind legs."""
        r, s = self.r, self.size
        foot = r(0.86, 1.05)
        tall = r(2.3, 3.2) * s
        y = foot - tall - 0.7 * s
        self.c.shadow([ellipse(x, foot, 1.8 * s, 0.3 * s)], 0.5, 0.3 * s)
        self._tail((x + 1.0 * s, foot - 0.25 * s), r(-0.4, 1.2), low=True)
        belly = r(1.0, 1.35) * s
        half = [
            (x, y + 0.3 * s),
            (x - 0.6 * s, y + 0.7 * s),
            (x - 0.85 * s, foot - 1.5 * s),
            (x - belly, foot - 0.5 * s),
            (x - 0.9 * belly, foot),
        ]
        self.stamp([self.furred(smooth(mirrored([*half, (x, foot)], x), 4))], self.coat, 0.5, 0.6)
        for side in (-1, 1):
            self.stamp(
                [ellipse(x + side * 0.8 * belly, foot - 0.55 * s, 0.45 * s, 0.6 * s)], self.coat
            )
            self.stamp(
                [ellipse(x + side * 0.95 * belly, foot - 0.08 * s, 0.42 * s, 0.17 * s)], self.points
            )
        if r.chance(0.6):
            chest = [(x, y + 0.6 * s), (x - 0.42 * s, y + 1.1 * s), (x - 0.4 * s, foot - 1.0 * s)]
            self.stamp([smooth(mirrored([*chest, (x, foot - 0.6 * s)], x), 3)], self.pale, 0.4)
        for side in (-1, 1):
            top, paw = (x + side * 0.4 * s, foot - 1.7 * s), (x + side * 0.36 * s, foot - 0.1 * s)
            self.stamp(limb(top, paw, 0.3 * s, 0.23 * s), self.coat)
            self.stamp([ellipse(paw[0], paw[1] + 0.02 * s, 0.3 * s, 0.17 * s)], self.points)
        self._collar(x, y + 0.85 * s, 0.6 * s)
        self._head(x, y)

    def standing(self, x: float) -> None:
        """Paint it from the side, its face to the camera."""
        r, s = self.r, 0.85 * self.size
        self.size = s
        side = -1 if r.chance(0.5) else 1
        foot, long, leg = r(0.78, 1.03), r(1.5, 2.3) * s, r(1.1, 1.9) * s
        y = foot - leg - 0.6 * s
        self.c.shadow([ellipse(x, foot, long + 0.8 * s, 0.3 * s)], 0.5, 0.3 * s)
        self._tail((x - side * (long + 0.1 * s), y - 0.3 * s), -side * r(0.3, 2.0))
        for k, u in enumerate((-0.85, 0.7, -0.7, 0.85)):
            fur = self.coat.darker(0.75) if k < 2 else self.coat
            hip = (x + side * u * long, y + 0.2 * s)
            paw = (hip[0] + r(-0.35, 0.35) * s, foot - (0.12 if k < 2 else 0.05) * s)
            knee = ((hip[0] + paw[0]) / 2 - side * 0.12 * s, (hip[1] + paw[1]) / 2)
            self.stamp(
                [*limb(hip, knee, 0.42 * s, 0.25 * s), *limb(knee, paw, 0.25 * s, 0.19 * s)], fur
            )
            self.stamp([ellipse(paw[0] + side * 0.1 * s, paw[1], 0.28 * s, 0.15 * s)], self.points)
        head = (x + side * (long + r(0.2, 0.5) * s), y - r(0.5, 1.1) * s)
        back = [
            (x - side * long * 1.12, y - 0.35 * s),
            (x - side * 0.3 * long, y - r(0.6, 0.8) * s),
            (x + side * 0.7 * long, y - 0.75 * s),
            (x + side * 1.15 * long, y - 0.4 * s),
            (x + side * 1.1 * long, y + 0.5 * s),
            (x + side * 0.3 * long, y + r(0.5, 0.75) * s),
            (x - side * 0.6 * long, y + 0.45 * s),
            (x - side * 1.1 * long, y + 0.4 * s),
        ]
        neck = limb(
            (x + side * 0.85 * long, y - 0.2 * s), (head[0], head[1] + 0.3 * s), 0.7 * s, 0.5 * s
        )
        self.stamp([self.furred(smooth(back, 5)), *neck], self.coat, 0.5, 0.6)
        if r.chance(0.4):
            under = ellipse(x, y + 0.45 * s, 0.7 * long, 0.2 * s)
            self.stamp([under], self.pale, 0.3)
        self._head(*head)

    def lying(self, x: float) -> None:
        """Paint it on its belly, its paws before it."""
        r, s = self.r, self.size * 1.05
        self.size = s
        side = -1 if r.chance(0.5) else 1
        foot, long = r(0.7, 1.0), r(1.6, 2.4) * s
        y = foot - 0.65 * s
        self.c.shadow([ellipse(x, foot, long + 0.6 * s, 0.3 * s)], 0.5, 0.3 * s)
        self._tail((x - side * (long - 0.1 * s), foot - 0.2 * s), -side * r(0.6, 1.4), low=True)
        back = [
            (x - side * long * 1.1, y + 0.1 * s),
            (x - side * 0.8 * long, y - 0.55 * s),
            (x, y - r(0.5, 0.8) * s),
            (x + side * 0.8 * long, y - 0.85 * s),
            (x + side * 1.1 * long, y),
            (x + side * long, foot),
            (x - side * long, foot),
        ]
        self.stamp([self.furred(smooth(back, 5))], self.coat, 0.5, 0.6)
        self.stamp([ellipse(x - side * 0.75 * long, foot - 0.5 * s, 0.7 * s, 0.5 * s)], self.coat)
        self.stamp(
            [ellipse(x - side * 0.45 * long, foot - 0.1 * s, 0.5 * s, 0.16 * s)], self.points
        )
        for u in (0.6, 0.95):
            paw = (x + side * (u * long + 0.7 * s), foot - 0.08 * s)
            self.stamp(
                limb((x + side * u * long * 0.8, foot - 0.3 * s), paw, 0.3 * s, 0.2 * s), self.coat
            )
            self.stamp([ellipse(*paw, 0.28 * s, 0.18 * s)], self.points)
        self._head(x + side * (long * 0.85), y - r(0.7, 1.3) * s)

    # ------------------------------------------------------------------ parts

    def _tail(self, root: Point, bend: float, low: bool = False) -> None:
        r, s = self.r, self.size
        rise = r(0.0, 0.4) if low else r(-0.3, 1.5)
        (x, y), length = root, r(0.9, 1.7) if self.cat else r(0.6, 1.2)
        middle = (x + 0.6 * bend * s, y - 0.5 * rise * s)
        tip = (x + bend * length * 0.8 * s, y - rise * length * s)
        thick = r(0.14, 0.3) * s
        parts = [*limb(root, middle, thick, thick), *limb(middle, tip, thick, 0.7 * thick)]
        self.stamp(parts, self.coat if r.chance(0.6) else self.points)

    def _collar(self, x: float, y: float, half: float) -> None:
        if self.r.chance(0.3):
            band = Surface(self.r.colour((30, 240), (0, 0.9)), grain=0.02)
            self.stamp([ellipse(x, y, half, 0.16 * self.size)], band, 0.4)

    def _head(self, x: float, y: float) -> None:
        r, s = self.r, self.size
        tilt = r(-0.12, 0.12)

        def at(u: float, v: float) -> Point:
            return x + (u + 2 * tilt * v) * s, y + (v - 2 * tilt * u) * s

        self._ears(at, tilt)
        if self.cat:
            rim = [(0, -0.78), (-0.55, -0.7), (-0.95, -0.1), (-0.85, 0.4), (-0.4, 0.76), (0, 0.85)]
        else:
            rim = [
                (0, -0.95),
                (-0.55, -0.85),
                (-0.82, -0.2),
                (-0.68, 0.45),
                (-0.45, 0.9),
                (0, 1.05),
            ]
        skull = smooth([at(u, v) for u, v in mirrored(rim)], 5)
        masked = self.points.colour != self.coat.darker(0.94).colour and r.chance(0.5)
        self.stamp([self.furred(skull, 0.07)], self.points if masked else self.coat, 0.5, 0.6)
        if r.chance(0.35):  # a blaze
            blaze = [
                at(u, v) for u, v in ((-0.14, -0.75), (0.14, -0.75), (0.22, 0.3), (-0.22, 0.3))
            ]
            self.stamp([smooth(blaze, 3)], self.pale, 0.2)
        self._face(at, tilt)

    def _ears(self, at, tilt: float) -> None:
        r = self.r
        hanging = not self.cat and r.chance(0.6)
        tip, spread = r(1.1, 1.65), r(0.5, 0.85)
        inner = Surface((214.0, 150.0, 140.0), grain=0.08)
        for side in (-1, 1):
            if hanging:
                drop = r(0.5, 1.1)
                ear = [
                    (0.5, -0.8),
                    (0.95, -0.6),
                    (1.15, 0.0),
                    (0.95, drop),
                    (0.65, drop - 0.2),
                    (0.6, -0.3),
                ]
                outline = smooth([at(side * u, v) for u, v in ear], 4)
                self.stamp([self.furred(outline)], self.points.darker(0.85), 0.6)
                continue
            ear = [(0.12, -0.7), (spread, -tip), (0.92, -0.25)]
            self.stamp([self.furred([at(side * u, v) for u, v in ear], 0.03)], self.points, 0.4)
            hollow = [(0.32, -0.75), (spread, -tip + 0.22), (0.78, -0.45)]
            self.stamp([[at(side * u, v) for u, v in hollow]], inner, 0.3)

    def _face(self, at, tilt: float) -> None:
        r, s = self.r, self.size
        black = Surface((22.0, 18.0, 18.0), grain=0.02)
        if self.cat:
            iris = ((120, 170, 80), (205, 165, 60), (90, 150, 200), (180, 110, 50))[r.whole(0, 3)]
            nose = Surface((205.0, 125.0, 120.0) if r.chance(0.6) else (70.0, 50.0, 50.0))
            self.stamp(
                [ellipse(*at(side * 0.2, 0.42), 0.27 * s, 0.21 * s) for side in (-1, 1)],
                self.pale,
                0.4,
            )
            eye, pupil, level = (0.21, 0.17), r(0.05, 0.14), -0.08
        else:
            iris = ((70, 42, 24), (110, 70, 30), (90, 130, 170))[
                r.whole(0, 2) if r.chance(0.4) else 0
            ]
            nose = black
            self.stamp([ellipse(*at(0, 0.45), 0.42 * s, 0.42 * s, tilt)], self.pale, 0.5)
            eye, pupil, level = (0.13, 0.13), 0.09, -0.2
            if r.chance(0.3):
                tongue = [
                    at(u, v) for u, v in ((-0.14, 0.7), (0.14, 0.7), (0.12, 1.15), (-0.12, 1.15))
                ]
                self.stamp([smooth(tongue, 3)], Surface((215.0, 100.0, 110.0), grain=0.03), 0.4)
        closed = r.chance(0.1)
        for side in (-1, 1):
            place = at(side * 0.4, level)
            if closed:
                self.stamp([ellipse(*place, eye[0] * s, 0.03 * s, tilt)], black, 0.0)
                continue
            self.stamp(
                [ellipse(*place, (eye[0] + 0.03) * s, (eye[1] + 0.03) * s, tilt)], black, 0.0
            )
            self.stamp(
                [ellipse(*place, eye[0] * s, eye[1] * s, tilt)], Surface(iris, grain=0.02), 0.0
            )
            self.stamp([ellipse(*place, pupil * s, 0.9 * eye[1] * s, tilt)], black, 0.0)
            glint = ellipse(place[0] - 0.05 * s, place[1] - 0.06 * s, 0.04 * s, 0.04 * s)
            self.stamp([glint], Surface((250.0, 250.0, 250.0), grain=0.0), 0.0)
        (x, y) = at(0, 0.25)
        wide = 0.13 if self.cat else 0.2
        snout = [(x - wide * s, y - 0.08 * s), (x + wide * s, y - 0.08 * s), (x, y + 0.14 * s)]
        self.stamp([smooth(snout, 4)], nose, 0.3, 0.1)
        for side in (-1, 1):
            mouth = limb(at(0, 0.56), at(side * 0.2, 0.5), 0.02 * s, 0.02 * s)
            self.stamp(mouth, black, 0.0)
        self.stamp(limb(at(0, 0.3), at(0, 0.56), 0.015 * s, 0.015 * s), black, 0.0)


def drawn_pets(
    seeds: Iterable[int], size: tuple[int, int] = SIZE, split: str = "seeds"
) -> SegmentationSet:
    """Draw one picture a seed, all of ``size`` (height, width)."""
    return draw("drawn_pets", split, CLASSES, pet_image, seeds, size)


def load(split: str, size: tuple[int, int] = SIZE, count: int | None = None) -> SegmentationSet:
    """Draw the first ``count`` pictures of a split (see `course_utils.data.load`)."""
    return drawn_pets(seeds_of("drawn_pets", split, SPLITS, count), size, split)
