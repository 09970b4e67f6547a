"""Drawn people: dressed, posed and placed at random, with exact masks.

For lessons that need people and have no photographs: a person (with what he wears and
carries) against everything else, which has the same colours. As in photographs of people,
some are cut off by the picture's edge, some stand behind something, some come in twos.

A picture depends on its seed alone (see `canvas`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from course_utils.data.backdrops import paint_backdrop, paint_before
from course_utils.data.canvas import (
    BODIES,
    Canvas,
    Point,
    Surface,
    along,
    any_surface,
    ellipse,
    limb,
    mirrored,
    smooth,
)
from course_utils.data.drawing import draw, seeds_of
from course_utils.data.scenes.painter import Draws, mix, times
from course_utils.data.segmentation_set import SegmentationSet

CLASSES = ("background", "person")
SIZE = (144, 96)
"""Height and width, as photographs of people are: upright."""
SPLITS = {"train": (0, 400), "valid": (10_000_000, 100), "test": (20_000_000, 100)}
"""First seed and default number of pictures of each split."""

PERSON = 1
POOL = 4096
SKINS, HAIRS = BODIES[:6], BODIES[6:]


def person_image(
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
    mask : (height, width) uint8, 0 background, 1 person

    Examples
    --------
    >>> image, mask = person_image(3)
    >>> image.shape, sorted(set(mask.ravel().tolist()))
    ((144, 96, 3), [0, 1])
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    r = Draws(rng.random(POOL).tolist(), -1)
    c = Canvas(height, width, rng, (-1 if r.chance(0.5) else 1, r(-1, -0.3)))
    paint_backdrop(c, r, r.whole(3, 7))
    if r.chance(0.35):
        c.blurred(r(0.004, 0.012))
    crowd = r()
    count = 1 if crowd < 0.62 else 2 if crowd < 0.9 else 3
    # The nearer, the larger, and painted later.
    for size in sorted(r(0.07, 0.17) / (1 + 0.2 * (count - 1)) for _ in range(count)):
        x = r(0.0, 1.0) * c.wide
        Person.drawn(c, r, x, size).paint()
    if r.chance(0.3):
        paint_before(c, r)
    return c.finished(r)


@dataclass
class Person:
    """One person: lengths in heads, of which a grown person has seven or eight.

    ``at`` is the middle of the hips; ``head`` how high a head is, in picture heights.
    """

    c: Canvas
    r: Draws
    at: Point
    head: float
    skin: Surface
    hair: Surface
    top: Surface
    legs: Surface

    @classmethod
    def drawn(cls, c: Canvas, r: Draws, x: float, head: float) -> "Person":
        """Choose who it is; feet stand in the lower part of the picture, or beyond its edge."""
        tall, place = 8.0 * head, r()
        # From the head down, more or less of a person is in the picture; seldom less than a half.
        foot = tall + 0.02 + place * max(1.0 - 0.6 * tall, 0.0) - 0.06 * r()
        skin = mix(SKINS[r.whole(0, 5)], SKINS[r.whole(0, 5)], 0.3)
        hair = HAIRS[r.whole(0, 5)] if r.chance(0.9) else r.colour((60, 230), (0.3, 0.9))
        return cls(
            c,
            r,
            (x, foot - 4.0 * head),
            head,
            Surface(times(skin, r(0.85, 1.05)), grain=0.04),
            Surface(
                times(hair, r(0.8, 1.2)),
                times(hair, 0.6),
                "stripes",
                0.12 * head,
                r(-0.2, 0.2),
                0.2,
            ),
            any_surface(r, (0.12 * head, 0.5 * head)),
            any_surface(r, (0.12 * head, 0.4 * head)),
        )

    def point(self, x: float, y: float) -> Point:
        """Return a point given in heads from the hips."""
        return self.at[0] + x * self.head, self.at[1] + y * self.head

    def stamp(self, outlines, surface: Surface, relief: float = 0.55, soft: float = 0.25) -> None:
        """Paint outlines (picture heights) as part of the person; ``soft`` in heads."""
        self.c.paint(outlines, surface, PERSON, relief, soft * self.head)

    def paint(self) -> None:
        """Paint the person, from what is behind to what is in front."""
        r, n = self.r, self.head
        lean, self.build = r(-0.12, 0.12), r(0.85, 1.25)
        self.neck = self.point(lean * 4, -2.55)
        self.shoulder = 0.95 * self.build
        self.face = r(-0.3, 0.3) if r.chance(0.75) else None  # None: seen from behind
        self.crown = (self.neck[0] + r(-0.15, 0.15) * n, self.neck[1] - 0.72 * n)
        skirted, coated = r.chance(0.35), r.chance(0.25)
        sleeves = r.whole(0, 2)  # none, short, long
        style = r.whole(0, 5)
        foot = self.point(0, 4.0)
        self.c.shadow([ellipse(foot[0] + 0.8 * n, foot[1], 2.0 * n, 0.3 * n)], 0.5, 0.25 * n)
        if style in (2, 3):
            self._long_hair(style)
        arms = [self._arm(side) for side in (-1, 1)]
        behind = r.whole(0, 2) - 1
        for side, arm in zip((-1, 1), arms, strict=True):
            if side == behind:
                self._paint_arm(arm, sleeves, coated)
        self._legs(skirted)
        self._torso(skirted, coated)
        self._head(style)
        for side, arm in zip((-1, 1), arms, strict=True):
            if side != behind:
                self._paint_arm(arm, sleeves, coated)
        if r.chance(0.35):
            self._bag(arms[r.whole(0, 1)][2])

    def _arm(self, side: int) -> tuple[Point, Point, Point]:
        """Return shoulder, elbow and hand of one side."""
        r, n = self.r, self.head
        shoulder = (self.neck[0] + side * self.shoulder * n, self.neck[1] + 0.35 * n)
        pose = r()
        if pose < 0.45:  # hangs
            upper, lower = r(0.02, 0.14), r(-0.05, 0.15)
        elif pose < 0.65:  # on the hip, or folded
            upper, lower = r(0.2, 0.35), r(-0.6, -0.3)
        elif pose < 0.85:  # holds something before it
            upper, lower = r(0.0, 0.2), r(0.4, 1.0)
        else:  # raised
            upper, lower = r(0.7, 1.6), r(1.0, 4.0)
        elbow = along(shoulder, side * upper, 1.3 * n)
        return shoulder, elbow, along(elbow, side * lower, 1.2 * n)

    def _paint_arm(self, arm: tuple[Point, Point, Point], sleeves: int, coated: bool) -> None:
        shoulder, elbow, hand = arm
        n, b = self.head, self.head * self.build
        forearm = limb(elbow, hand, 0.2 * b, 0.15 * n)
        bare = [
            *limb(shoulder, elbow, 0.26 * b, 0.2 * b),
            *forearm,
            ellipse(*hand, 0.19 * n, 0.22 * n),
        ]
        self.stamp(bare, self.skin)
        if sleeves == 2 or coated:
            wrist = _between(elbow, hand, 0.85)
            lower = limb(elbow, wrist, 0.26 * b, 0.22 * n)
            self.stamp([*limb(shoulder, elbow, 0.31 * b, 0.26 * b), *lower], self.top)
        elif sleeves == 1:
            self.stamp(
                limb(shoulder, _between(shoulder, elbow, 0.55), 0.31 * b, 0.29 * b), self.top
            )

    def _legs(self, skirted: bool) -> None:
        r, n, b = self.r, self.head, self.head * self.build
        bare = r.chance(0.6) if skirted else r.chance(0.2)
        shoe = Surface(r.colour((20, 240), (0, 0.7)), grain=0.03)
        walking = r.chance(0.4)
        for side in (-1, 1):
            hip = self.point(side * 0.42 * self.build, 0.05)
            swing = side * r(0.08, 0.22) if walking else side * r(0.0, 0.07)
            knee = along(hip, swing, 1.85 * n)
            ankle = along(knee, swing * r(-0.2, 0.6) - (0.1 if walking else 0.0), 1.85 * n)
            cloth = self.skin if bare else self.legs
            toe = (ankle[0] + side * r(0.1, 0.35) * n, ankle[1] + 0.18 * n)
            self.stamp(limb((ankle[0], ankle[1] + 0.12 * n), toe, 0.17 * n, 0.15 * n), shoe)
            wide = r(1.0, 1.3) if not bare else 1.0
            shin = limb(knee, ankle, 0.27 * b * wide, 0.17 * n * wide)
            self.stamp([*limb(hip, knee, 0.42 * b, 0.27 * b * wide), *shin], cloth)
            if bare and not skirted:  # shorts
                middle = ((hip[0] + knee[0]) / 2, (hip[1] + knee[1]) / 2)
                self.stamp(limb(hip, middle, 0.45 * b, 0.42 * b), self.legs)

    def _torso(self, skirted: bool, coated: bool) -> None:
        r, n, s = self.r, self.head, self.shoulder
        (nx, ny), (hx, hy) = self.neck, self.at
        if skirted:
            hem, flare = r(1.0, 3.3), r(0.6, 1.6)
            half = [
                (hx - 0.5 * s * n, hy - 0.6 * n),
                (hx - 0.75 * s * n, hy),
                (hx - flare * n, hy + hem * n),
            ]
            low = (hx, hy + (hem + 0.1) * n)
            self.stamp([mirrored([*half, low], hx)], self.legs, 0.6, 0.4)
        left = [
            (nx - 0.22 * n, ny - 0.1 * n),
            (nx - 0.8 * s * n, ny + 0.1 * n),
            (nx - 1.08 * s * n, ny + 0.45 * n),
            (hx - 0.82 * s * n, hy - 1.3 * n),
            (hx - 0.68 * s * n, hy - 0.75 * n),
            (hx - 0.84 * s * n, hy + 0.15 * n),
        ]
        right = [(2 * nx - x, y) if k < 3 else (2 * hx - x, y) for k, (x, y) in enumerate(left)]
        body = smooth([*left, *reversed(right)], 4)
        self.stamp(limb((nx, ny - 0.5 * n), (nx, ny + 0.1 * n), 0.22 * n, 0.26 * n), self.skin)
        self.stamp([body], self.top, 0.6, 0.5)
        if self.face is not None and r.chance(0.6):  # a neckline
            depth = r(0.15, 0.5)
            cut = [
                (nx - 0.28 * n, ny - 0.05 * n),
                (nx + 0.28 * n, ny - 0.05 * n),
                (nx, ny + depth * n),
            ]
            self.stamp([cut], self.skin)
        if coated:
            hem, open_ = r(0.8, 2.6), r(0.05, 0.5)
            coat = self.top.darker(r(0.6, 1.3))
            self.top = coat
            for side in (-1, 1):
                flap = [
                    (nx + side * 0.2 * n, ny - 0.1 * n),
                    (nx + side * 0.9 * s * n, ny + 0.1 * n),
                    (nx + side * 1.12 * s * n, ny + 0.5 * n),
                    (hx + side * 0.9 * s * n, hy - 0.7 * n),
                    (hx + side * 1.1 * s * n, hy + hem * n),
                    (hx + side * open_ * n, hy + hem * n),
                    (nx + side * open_ * 0.7 * n, ny + 1.2 * n),
                ]
                self.stamp([flap], coat, 0.6, 0.35)
        elif r.chance(0.5) and not skirted:
            belt = Surface(r.colour((20, 220), (0, 0.6)))
            y = hy - 0.25 * n
            self.stamp(
                [
                    [
                        (hx - 0.72 * s * n, y),
                        (hx + 0.72 * s * n, y),
                        (hx + 0.76 * s * n, y + 0.2 * n),
                        (hx - 0.76 * s * n, y + 0.2 * n),
                    ]
                ],
                belt,
            )

    def _long_hair(self, style: int) -> None:
        (x, y), n = self.crown, self.head
        reach = 1.1 if style == 2 else self.r(1.4, 2.2)
        half = [
            (x, y - 0.62 * n),
            (x - 0.5 * n, y - 0.3 * n),
            (x - 0.62 * n, y + 0.4 * n),
            (x - 0.7 * n, y + reach * n),
            (x - 0.2 * n, y + (reach + 0.15) * n),
        ]
        self.stamp([smooth(mirrored(half, x), 4)], self.hair, 0.6, 0.3)

    def _head(self, style: int) -> None:
        r, n, (x, y) = self.r, self.head, self.crown
        turned = self.face or 0.0
        self.stamp([ellipse(x, y, 0.4 * n, 0.52 * n)], self.skin, 0.5, 0.35)
        for side in (-1, 1):
            self.stamp([ellipse(x + side * 0.4 * n, y + 0.05 * n, 0.08 * n, 0.13 * n)], self.skin)
        if self.face is None:
            self.stamp([ellipse(x, y - 0.06 * n, 0.45 * n, 0.52 * n)], self.hair, 0.5)
        else:
            self._features(x + 0.4 * turned * n, y)
            if style != 5:  # 5 is bald
                fringe = r(0.12, 0.4)
                hair = [
                    (x - 0.46 * n, y + 0.05 * n),
                    (x - 0.48 * n, y - 0.32 * n),
                    (x, y - 0.62 * n),
                    (x + 0.48 * n, y - 0.32 * n),
                    (x + 0.46 * n, y + 0.05 * n),
                    (x + 0.32 * n, y - 0.22 * n),
                    (x + r(-0.2, 0.2) * n, y - (0.55 - fringe) * n),
                    (x - 0.32 * n, y - 0.22 * n),
                ]
                self.stamp([smooth(hair, 3)], self.hair, 0.5)
        if style == 4:  # a bun
            self.stamp(
                [ellipse(x + 0.5 * turned * n, y - 0.68 * n, 0.24 * n, 0.22 * n)], self.hair, 0.6
            )
        if r.chance(0.28):
            self._hat(x, y)

    def _features(self, x: float, y: float) -> None:
        r, n = self.r, self.head
        dark, glasses = Surface((30.0, 24.0, 22.0), grain=0.0), r.chance(0.25)
        for side in (-1, 1):
            eye = x + side * 0.16 * n
            if glasses:
                self.stamp([ellipse(eye, y, 0.14 * n, 0.1 * n)], dark, 0.0)
            else:
                self.stamp(
                    [ellipse(eye, y, 0.075 * n, 0.045 * n)],
                    Surface((235.0, 232.0, 228.0), grain=0.0),
                    0.0,
                )
                self.stamp([ellipse(eye, y, 0.045 * n, 0.045 * n)], dark, 0.0)
                brow = [ellipse(eye, y - 0.11 * n, 0.1 * n, 0.025 * n)]
                self.stamp(brow, self.hair.darker(0.8), 0.0)
        nose = self.skin.darker(0.82)
        self.stamp(
            [[(x, y + 0.02 * n), (x + 0.06 * n, y + 0.18 * n), (x - 0.06 * n, y + 0.18 * n)]],
            nose,
            0.0,
        )
        mouth = Surface(mix(self.skin.colour, (165.0, 40.0, 48.0), r(0.3, 0.8)), grain=0.0)
        self.stamp([ellipse(x, y + 0.3 * n, r(0.09, 0.16) * n, 0.04 * n)], mouth, 0.0)
        if r.chance(0.15):
            self.stamp([ellipse(x, y + 0.42 * n, 0.24 * n, 0.14 * n)], self.hair, 0.3)

    def _hat(self, x: float, y: float) -> None:
        r, n = self.r, self.head
        felt = any_surface(r, (0.1 * n, 0.3 * n))
        crown = [
            (x - 0.44 * n, y - 0.2 * n),
            (x - 0.4 * n, y - 0.72 * n),
            (x + 0.4 * n, y - 0.72 * n),
            (x + 0.44 * n, y - 0.2 * n),
        ]
        if r.chance(0.6):
            self.stamp([ellipse(x, y - 0.22 * n, r(0.55, 0.9) * n, 0.13 * n)], felt.darker(0.85))
        self.stamp([smooth(crown, 3)], felt, 0.6)

    def _bag(self, hand: Point) -> None:
        r, n = self.r, self.head
        w, h, (x, y) = r(0.35, 0.7), r(0.4, 0.8), hand
        leather = any_surface(r, (0.1 * n, 0.4 * n))
        for side in (-1, 1):
            strap = limb((x, y), (x + side * 0.6 * w * n, y + 0.4 * n), 0.035 * n, 0.035 * n)
            self.stamp(strap, leather.darker(0.6), 0.3)
        bag = [
            (x - 0.8 * w * n, y + 0.4 * n),
            (x + 0.8 * w * n, y + 0.4 * n),
            (x + w * n, y + (0.4 + h) * n),
            (x - w * n, y + (0.4 + h) * n),
        ]
        self.stamp([smooth(bag, 3)], leather, 0.6)


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])


def drawn_people(
    seeds: Iterable[int], size: tuple[int, int] = SIZE, split: str = "seeds"
) -> SegmentationSet:
    """Draw one picture a seed, all of ``size`` (height, width)."""
    return draw("drawn_people", split, CLASSES, person_image, seeds, size)


def load(split: str, size: tuple[int, int] = SIZE, count: int | None = None) -> SegmentationSet:
    """Draw the first ``count`` pictures of a split (see `course_utils.data.load`)."""
    return drawn_people(seeds_of("drawn_people", split, SPLITS, count), size, split)
