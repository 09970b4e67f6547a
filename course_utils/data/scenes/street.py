"""What stands in a street: buildings, trees, poles, signs, fences, cars, people.

Every function paints one object with a `Painter`; lengths are in metres. Colours are of
any hue, so that what a thing is shows in its shape, its texture and its surroundings.
"""

from dataclasses import dataclass
from itertools import pairwise

from course_utils.data.scenes.painter import (
    NEAR,
    OCTAGON,
    RGB,
    CutOut,
    Draws,
    Ink,
    Painter,
    mix,
    times,
)
from course_utils.data.segmentation_set import VOID

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN = range(10)

WARM = (255.0, 214.0, 140.0)
"""Light of windows and street lamps."""

LAMPS = ((90, 230, 120), (250, 190, 60), (245, 70, 60))
"""A traffic light's, from below."""


class Wall:
    """An upright wall between two points (x, z) of the ground, painted in strips along it."""

    def __init__(self, p: Painter, start: tuple[float, float], end: tuple[float, float]):
        (x0, z0), (x1, z1) = start, end
        z0, z1 = max(z0, NEAR), max(z1, NEAR)
        self.p, self.x, self.z = p, x0, z0
        self.dx, self.dz = x1 - x0, z1 - z0
        self.middle = (z0 + z1) / 2
        self.whole = self.upright(0), self.upright(1)

    def upright(self, s: float) -> tuple[int, float]:
        """Return the column of pixels and the scale, all of a point that its place decides on."""
        z = self.z + s * self.dz
        u, _ = self.p.at(self.x + s * self.dx, 0, z)
        return u, self.p.focal / z

    def strip(self, s: float, t: float, low: float, high: float, ink: Ink) -> None:
        """Paint from place s to t along the wall, 0 to 1, between two heights."""
        self.quad((self.upright(s), self.upright(t)), low, high, ink)

    def band(self, low: float, high: float, ink: Ink) -> None:
        """Paint the whole length between two heights."""
        self.quad(self.whole, low, high, ink)

    def quad(self, ends: tuple, low: float, high: float, ink: Ink) -> None:
        """Paint between two uprights and two heights."""
        (ua, ka), (ub, kb) = ends
        base, eye = self.p.horizon, self.p.view.eye
        a, b = int(base + ka * (eye - low)), int(base + ka * (eye - high))
        c, d = int(base + kb * (eye - high)), int(base + kb * (eye - low))
        self.p.draw.polygon((ua, a, ua, b, ub, c, ub, d), fill=ink)


def facade(
    p: Painter,
    r: Draws,
    start: tuple[float, float],
    end: tuple[float, float],
    height: float,
    wall: RGB,
    glass: RGB,
    storey: float,
    shop: bool,
) -> None:
    """Paint a wall with rows of windows between two points (x, z) of the ground."""
    side = Wall(p, start, end)
    u0, u1 = side.whole[0][0], side.whole[1][0]
    if max(u0, u1) < 0 or min(u0, u1) > p.width:
        return
    z = side.middle
    plaster = p.ink(wall, z, BUILDING)
    side.band(0, height, plaster)
    span = abs(min(max(u1, 0), p.width) - min(max(u0, 0), p.width))
    storeys = int((height - 0.6) / storey)
    if span < 5 or p.focal / z * storey < 5:
        return
    length = abs(side.dx) + abs(side.dz)
    columns = min(max(int(length / r(1.7, 3.2)), 2), 14)
    solid = r(0.3, 0.6)
    pane = p.ink(glass, z, BUILDING)
    sill = p.ink(times(wall, 1.15), z, BUILDING)
    if shop:
        front = p.glowing(mix(WARM, glass, 0.3), z, BUILDING) if r.chance(p.light.lit) else pane
        side.strip(0.04, 0.96, 0.5, storey * 0.78, front)
        sign = p.ink(r.colour((60, 230)), z, BUILDING)
        side.strip(0.02, 0.98, storey * 0.78, storey * 0.98, sign)
    bands = [
        (k * storey + storey * 0.3, k * storey + storey * 0.8)
        for k in range(int(shop), min(storeys, 9))
    ]
    _windows(side, r, bands, columns, solid / columns / 2, glass, plaster)
    if shop and span > 24:
        for k in range(1, columns, 3):
            side.strip((k - 0.08) / columns, (k + 0.08) / columns, 0.4, storey * 0.8, plaster)
    if not shop and span > 30:
        k = r.whole(0, columns - 1) + 0.5
        door = p.ink(r.colour((40, 200), (0, 0.8)), z, BUILDING)
        side.strip((k - 0.22) / columns, (k + 0.22) / columns, 0, 2.1, door)
    if span > 60:
        side.band(height - 0.5, height, sill)
    if span > 240 or (span > 80 and length < 9):
        for low, _ in bands:
            side.band(low - 0.14, low, sill)
    if span > 320:
        # Crossbars, which only a large picture has room for.
        for k in range(columns):
            middle, half = (k + 0.5) / columns, 0.03 / length
            for low, high in bands:
                side.strip(middle - half, middle + half, low, high, sill)


def _windows(
    side: Wall,
    r: Draws,
    bands: list[tuple[float, float]],
    columns: int,
    half: float,
    glass: RGB,
    plaster: Ink,
) -> None:
    """Paint bands of glass, curtains and lit rooms, and over them the wall between the columns.

    ``half`` is half the wall between two windows, as a share of the whole length.
    """
    p, z = side.p, side.middle
    pane = p.ink(glass, z, BUILDING)
    for low, high in bands:
        side.band(low, high, pane)
    if p.light.lit > 0.05 or r.chance(0.5):
        curtain = p.ink(mix(glass, (235, 230, 215), 0.5), z, BUILDING)
        for _ in range(min(len(bands) * columns // 3, 12)):
            k, c = r.whole(0, columns - 1), int(r() * len(bands))
            if bands:
                shine = r.chance(p.light.lit)
                colour = (
                    p.glowing(mix(WARM, (255, 245, 225), r()), z, BUILDING) if shine else curtain
                )
                side.strip(k / columns, (k + 1) / columns, *bands[c], colour)
    if bands:
        low, high = bands[0][0] - 0.05, bands[-1][1] + 0.05
        for k in range(columns + 1):
            s, t = max(k / columns - half, 0.0), min(k / columns + half, 1.0)
            side.strip(s, t, low, high, plaster)


def building(
    p: Painter,
    r: Draws,
    side: int,
    x: float,
    z0: float,
    z1: float,
    height: float,
    storey: float,
) -> None:
    """Paint a building on one side (-1 left, 1 right) whose front runs from z0 to z1 at x."""
    wall = r.colour((100, 245), (0, 0.36))
    glass = r.colour((25, 120), (0, 0.4)) if r.chance(0.8) else r.colour((150, 230), (0, 0.3))
    tall = height > 3 * storey
    depth = r(7, 12)
    roof = r.colour((50, 170), (0, 0.6))
    shop, gable = r.chance(0.35 if tall else 0.1), r.chance(0.2 if tall else 0.8)
    sunny = p.light.sun is not None and (p.light.sun[0] > 0) == (side < 0)
    front = 0.62 if sunny else 1.0
    if p.light.sun is None:
        front = 0.92
    z0 = max(z0, NEAR)
    if gable:
        ridge = height + depth * r(0.2, 0.4)
        back = x + side * depth / 2
        p.face(
            [(x, height, z0), (x, height, z1), (back, ridge, z1), (back, ridge, z0)],
            p.ink(times(roof, front), (z0 + z1) / 2, BUILDING),
        )
        p.face(
            [(x, height, z0), (back, ridge, z0), (x + side * depth, height, z0)],
            p.ink(times(wall, 0.8), z0, BUILDING),
        )
        chimney = r(0.2, 0.8)
        zc = z0 + (z1 - z0) * chimney
        brick = p.ink(times(roof, 0.7), zc, BUILDING)
        p.cut_out(back, max(zc, NEAR)).board(brick, -0.4, ridge - 0.6, 0.4, ridge + 1.0)
    end = Draws(r.pool, r.at + 31)
    facade(p, end, (x + side * depth, z0), (x, z0), height, times(wall, 0.8), glass, storey, False)
    facade(p, r, (x, z0), (x, z1), height, times(wall, front), times(glass, front), storey, shop)


def far_row(p: Painter, r: Draws, z: float, left: float, right: float) -> None:
    """Close the view at depth z with buildings and trees, seen from the front."""
    x, k = left, 0
    while x < right:
        k += 1
        own = Draws(r.pool, r.at + 29 * k)
        width, gap = own(6, 16), own(0.0, 3.0) if own.chance(0.3) else 0.0
        u0, u1 = p.at(x, 0, z)[0], p.at(x + width, 0, z)[0]
        if u1 > 0 and u0 < p.width:
            if own.chance(0.25):
                crown = p.ink(foliage(own), z, TREE)
                for i in range(4):
                    cut, q = p.cut_out(x + width * (i + 0.5) / 4, z), own(2.0, 4.0)
                    cut.board(crown, -q, 0, q, q)
                    cut.disc(crown, 0, q, q, q)
            else:
                wall, glass = own.colour((90, 240), (0, 0.4)), own.colour((30, 130), (0, 0.4))
                height, shop = own.whole(2, 6) * 3 + 0.8, own.chance(0.3)
                facade(p, own, (x, z), (x + width, z), height, wall, glass, 3.0, shop)
        x += width + gap


def foliage(r: Draws) -> RGB:
    """Return a colour of leaves: mostly greens, often autumn, sometimes anything."""
    kind, value = r(), r(80, 190)
    if kind < 0.74:
        return (value * r(0.3, 0.8), value, value * r(0.2, 0.6))
    if kind < 0.94:
        return (value * 1.2, value * r(0.4, 0.95), value * r(0.1, 0.4))
    return r.colour((80, 220), (0.1, 0.7))


def tree(p: Painter, r: Draws, x: float, z: float) -> None:
    """Paint a tree: round, tall or a conifer."""
    cut = p.cut_out(x, z)
    if not -4 * cut.s < cut.u < p.width + 4 * cut.s:
        return
    leaves = times(foliage(r), p.shaded(x, z))
    bark = times(r.colour((50, 140), (0, 0.5)), p.shaded(x, z))
    height, kind = r(4.0, 8.5), r()
    sun = p.light.sun
    lean = 0.0 if sun is None else (-0.25 if sun[0] > 0 else 0.25)
    dark, plain, bright = (
        p.ink(times(leaves, k), z, TREE) for k in ((0.62, 0.9, 1.22) if sun else (0.75, 0.9, 1.1))
    )
    foot, top, trunk = p.ink(bark, z, TREE), height * 0.55, max(height * 0.028, 0.1)
    cut.shape(foot, (-trunk * 1.3, 0), (trunk * 1.3, 0), (trunk * 0.7, top), (-trunk * 0.7, top))
    if kind < 0.22:
        layers = r.whole(3, 5)
        for k in range(layers):
            low, width = height * (0.15 + 0.72 * k / layers), height * 0.3 * (1 - 0.75 * k / layers)
            peak = height * (0.15 + 0.72 * (k + 1.7) / layers)
            cut.shape(dark, (-width, low), (width, low), (0, peak))
            tip = lean * width
            cut.shape(
                plain, (tip - 0.5 * width, low + 0.05), (tip + width * 0.4, low + 0.1), (0, peak)
            )
        return
    wide, tall = (height * 0.15, height * 0.42) if kind < 0.4 else (height * 0.33, height * 0.31)
    middle = height - tall
    blobs = [(r(-0.7, 0.7) * wide, r(-0.7, 0.7) * tall, r(0.36, 0.56)) for _ in range(9)]
    if wide * cut.s < 14:
        blobs = blobs[::3]
    cut.disc(dark, 0, middle, wide * 0.88, tall * 0.88)
    for shift, ink, size in ((-0.25, dark, 1.0), (0.05, plain, 0.86), (0.3, bright, 0.5)):
        for bx, by, q in blobs if size > 0.6 else blobs[::2]:
            cx, cy = bx + lean * shift * wide, by + shift * 0.5 * tall
            cut.disc(ink, cx, middle + cy, q * size * wide, q * size * min(tall, wide * 1.6))
    if wide * cut.s > 70:
        for _ in range(420):
            a, b = r(-1, 1), r(-1, 1)
            if a * a + b * b > 0.95:
                continue
            ink = (dark, plain, bright)[min(int((b + 1) * 1.1 + r() * 0.9), 2)]
            q = r(0.02, 0.045) * height * 0.33
            cut.disc(ink, a * wide, middle + b * tall, q * 1.3, q)


def hedge(p: Painter, r: Draws, side: int, x: float, z0: float, z1: float) -> None:
    """Paint a hedge along the street from z0 to z1 at x."""
    height, depth = r(0.9, 2.2), r(0.8, 1.5)
    leaves = foliage(r)
    z0 = max(z0, NEAR)
    top, front = p.ink(times(leaves, 1.1), z0, TREE), p.ink(times(leaves, 0.8), (z0 + z1) / 2, TREE)
    back = x + side * depth
    p.face([(x, height, z0), (x, height, z1), (back, height, z1), (back, height, z0)], top)
    p.face([(x, 0, z0), (x, height, z0), (back, height, z0), (back, 0, z0)], top)
    p.face([(x, 0, z0), (x, height, z0), (x, height, z1), (x, 0, z1)], front)


def fence(p: Painter, r: Draws, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Paint a fence between two points (x, z): pickets on two rails, gaps in shadow."""
    (x0, z0), (x1, z1) = start, end
    z0, z1 = max(z0, NEAR), max(z1, NEAR)
    z, height, pitch, thick = (z0 + z1) / 2, r(1.2, 1.8), r(0.36, 0.6), r(0.4, 0.62)
    paint = r.colour((185, 255), (0, 0.2)) if r.chance(0.7) else r.colour((150, 245), (0.1, 0.6))
    dx, dz = x1 - x0, z1 - z0
    length = abs(dx) + abs(dz)

    def quad(s: float, t: float, low: float, high: float, ink: Ink) -> None:
        xs, zs, xt, zt = x0 + s * dx, z0 + s * dz, x0 + t * dx, z0 + t * dz
        p.face([(xs, low, zs), (xs, high, zs), (xt, high, zt), (xt, low, zt)], ink)

    bright = p.ink(paint, z, FENCE)
    quad(0, 1, 0, height * 0.96, p.ink(times(paint, 0.36), z, FENCE))
    quad(0, 1, height * 0.78, height * 0.9, bright)
    quad(0, 1, height * 0.12, height * 0.24, bright)
    n = max(int(length / pitch), 1)
    if p.focal / z * pitch < 2.5:
        # Too fine for this picture: fewer pickets, as wide as four pixels with their gap.
        n = max(int(length * p.focal / z / 4), 1)
    for k in range(min(n, 40)):
        quad(k / n, (k + thick) / n, 0, height, bright)


def pole(p: Painter, r: Draws, x: float, z: float, inward: float) -> None:
    """Paint a street lamp, a telegraph pole, a plain mast or a bollard."""
    cut = p.cut_out(x, z)
    metal = r.colour((28, 90), (0, 0.35)) if r.chance(0.8) else r.colour((170, 245), (0, 0.3))
    metal = times(metal, p.shaded(x, z))
    kind, height, half = r(), r(4.5, 8.0), r(0.14, 0.21)
    ink = p.ink(metal, z, POLE)
    if kind > 0.9:
        height, half = r(0.9, 1.2), 0.16
    cut.board(ink, -half, 0, half, height)
    shine = p.ink(times(metal, 1.35), z, POLE)
    cut.board(shine, -half * 0.5, 0, -half * 0.1, height)
    cut.board(ink, -half * 1.7, 0, half * 1.7, 0.5)
    if kind < 0.55:
        reach = inward * r(0.9, 1.8)
        top = height - 0.12
        cut.shape(ink, (0, top - 0.1), (reach, top + 0.22), (reach, top + 0.42), (0, top + 0.15))
        lit = r.chance(p.light.lit * 1.3)
        head = p.glowing((255, 240, 200), z, POLE) if lit else shine
        a, b = reach - 0.38, reach + 0.38
        cut.shape(
            head, (a, top + 0.15), (b, top + 0.15), (b - 0.1, top + 0.45), (a + 0.1, top + 0.45)
        )
        if lit:
            p.glow(x + reach, top + 0.2, z, 1.6, WARM)
            p.glow(x + reach, 0.0, z, 2.2, times(WARM, 0.35))
    elif kind < 0.75:
        for y in (height * 0.86, height * 0.95):
            cut.board(ink, -0.9, y - 0.12, 0.9, y + 0.12)


def sign(p: Painter, r: Draws, x: float, z: float) -> None:
    """Paint a traffic sign, a board or a traffic light on its post."""
    cut = p.cut_out(x, z)
    light = p.shaded(x, z)
    kind, q = r(), r(0.5, 0.72)
    height, half = r(2.1, 2.8), r(0.08, 0.12)
    post = p.ink(times(r.colour((40, 110), (0, 0.2)), light), z, POLE)
    cut.board(post, -half, 0, half, height)
    edge, field, mark = (
        p.ink(times(colour, light), z, SIGN)
        for colour in (
            r.colour((225, 255), (0.0, 0.25)),
            r.colour((130, 255), (0.7, 1.0)),
            r.colour((10, 255), (0.0, 0.5)),
        )
    )
    if r.chance(0.4):
        edge, field = field, edge
    y = height
    if kind < 0.25:
        for k, ink in ((1.0, edge), (0.74, field)):
            cut.shape(ink, *((a * q * k, y + b * q * k) for a, b in OCTAGON))
        cut.board(mark, -q * 0.5, y - 0.08, q * 0.5, y + 0.08)
    elif kind < 0.5:
        for k, ink in ((1.0, edge), (0.72, field)):
            cut.disc(ink, 0, y, q * k, q * k)
        cut.board(mark, -0.07, y - q * 0.45, 0.07, y + q * 0.45)
    elif kind < 0.66:
        up = 1 if r.chance(0.7) else -1
        for k, ink in ((1.15, edge), (0.7, field)):
            cut.shape(
                ink,
                (-q * k, y - up * q * k * 0.7),
                (q * k, y - up * q * k * 0.7),
                (0, y + up * q * k),
            )
    elif kind < 0.84:
        wide = q * r(0.9, 2.0)
        for k, ink in ((1.0, edge), (0.84, field)):
            a, b = wide * k, q * k
            cut.board(ink, -a, y - b, a, y + b)
        for k in (-0.3, 0.25):
            cut.shape(
                mark,
                (-wide * 0.6, y + q * k),
                (wide * r(0.1, 0.6), y + q * k),
                (wide * 0.5, y + q * (k + 0.25)),
                (-wide * 0.6, y + q * (k + 0.25)),
            )
    else:
        cut.board(p.ink((38, 40, 44), z, SIGN), -0.3, y - 0.75, 0.3, y + 0.75)
        on = r.whole(0, 2)
        for k, lamp in enumerate(LAMPS):
            shine = p.glowing(lamp if k == on else times(lamp, 0.25), z, SIGN)
            cut.disc(shine, 0, y - 0.48 + 0.48 * k, 0.19, 0.19)
        if p.light.lit > 0.2:
            p.glow(x, y - 0.48 + 0.48 * on, z, 0.7, LAMPS[on])


@dataclass(frozen=True)
class Body:
    """A car's shape, seen from its left, 0 at the rear and 1 at the front.

    ``outline`` is (place along the length, height in metres) from the rear bumper over the
    roof to the front; ``panes`` are the stretches of it that are glass; ``window`` is the
    glass of the side.
    """

    length: float
    width: float
    outline: tuple[tuple[float, float], ...]
    panes: tuple[int, ...]
    window: tuple[tuple[float, float], ...]


# fmt: off
SALOON = Body(
    4.3, 1.75,
    ((0, 0.32), (0, 0.82), (0.03, 0.95), (0.15, 0.99), (0.29, 1.42), (0.62, 1.45), (0.79, 1.0),
     (0.96, 0.88), (1, 0.72), (1, 0.32)),
    (3, 5), ((0.21, 1.0), (0.31, 1.34), (0.6, 1.37), (0.74, 1.0)),
)
HATCHBACK = Body(
    3.8, 1.7,
    ((0, 0.32), (0, 0.9), (0.04, 1.02), (0.13, 1.48), (0.6, 1.52), (0.79, 1.03), (0.96, 0.9),
     (1, 0.7), (1, 0.32)),
    (2, 4), ((0.12, 1.02), (0.17, 1.4), (0.58, 1.44), (0.74, 1.04)),
)
ESTATE = Body(
    4.6, 1.9,
    ((0, 0.4), (0, 1.0), (0.02, 1.12), (0.08, 1.72), (0.66, 1.78), (0.8, 1.2), (0.97, 1.05),
     (1, 0.85), (1, 0.4)),
    (2, 4), ((0.1, 1.15), (0.13, 1.62), (0.64, 1.66), (0.76, 1.18)),
)
VAN = Body(
    5.2, 2.0,
    ((0, 0.42), (0, 1.15), (0.01, 2.1), (0.72, 2.2), (0.88, 1.25), (0.98, 1.05), (1, 0.8),
     (1, 0.42)),
    (1, 3), ((0.6, 1.3), (0.6, 1.95), (0.73, 1.95), (0.83, 1.3)),
)
BUS = Body(
    9.0, 2.5,
    ((0, 0.45), (0, 1.3), (0, 2.7), (0.01, 3.1), (0.99, 3.1), (1, 2.8), (1, 1.2), (1, 0.45)),
    (1, 5), ((0.04, 1.4), (0.04, 2.4), (0.94, 2.4), (0.94, 1.4)),
)
# fmt: on
BODIES = (*(SALOON,) * 7, *(HATCHBACK,) * 6, *(ESTATE,) * 4, *(VAN,) * 2, BUS)
"""As often as they are seen."""


def car(p: Painter, r: Draws, x: float, z: float, heading: str) -> None:
    """Paint a car, van or bus whose near left corner of the ground is at (x, z).

    ``heading`` is ``"away"``, ``"towards"``, ``"left"`` or ``"right"``.
    """
    body = BODIES[r.whole(0, len(BODIES) - 1)]
    length, width, outline = body.length, body.width, body.outline
    light = p.shaded(x + width / 2, z)
    paint = times(r.colour((50, 255), (0, 0.9)), light)
    glass = times(mix((40, 48, 58), r.colour((60, 200), (0, 0.4)), 0.35), light)
    across = heading in ("left", "right")
    flip = heading in ("towards", "left")
    z = max(z, NEAR + 0.3)

    def at(a: float, y: float, b: float) -> tuple[int, int]:
        a = (1 - a if flip else a) * length
        return p.at(x + a, y, z + b * width) if across else p.at(x + b * width, y, z + a)

    def side(ink: Ink, *corners: tuple[float, float]) -> None:
        """Fill a shape (place along the car, height) of the side that is seen."""
        p.draw.polygon([at(a, y, near) for a, y in corners], fill=ink)

    def across_it(ink: Ink, a0: float, y0: float, a1: float, y1: float, b0=0.0, b1=1.0) -> None:
        """Fill a stretch from (a0, y0) to (a1, y1) of the outline, between two widths."""
        p.draw.polygon([at(a0, y0, b0), at(a1, y1, b0), at(a1, y1, b1), at(a0, y0, b1)], fill=ink)

    flank, dark, roof = (p.ink(times(paint, k), z, CAR) for k in (1.0, 0.66, 1.2))
    pane, tyre = p.ink(glass, z, CAR), p.ink((26, 26, 28), z, CAR)
    near = 0.0 if across or x + width / 2 > 0 else 1.0
    for a in (0.17, 0.8):
        for b in (0.02, 0.85) if not across else ():
            across_it(tyre, a, 0, a, 0.5, b, b + 0.13)
    stretches = list(enumerate(pairwise(outline)))
    for k, ((a0, y0), (a1, y1)) in stretches if flip else stretches[::-1]:
        if k in body.panes:
            across_it(flank, a0, y0, a1, y1)
            across_it(pane, a0, y0, a1, y1, 0.06, 0.94)
        elif a1 - a0 > 0.08 and abs(y1 - y0) < 0.3:
            across_it(roof, a0, y0, a1, y1)
        else:
            across_it(dark if across else flank, a0, y0, a1, y1)
    seen = flank if across else dark
    side(seen, *outline)
    side(pane, *body.window)
    top = outline[3][1]
    for a in (0.38, 0.56, 0.74) if body is BUS else (0.47,):
        side(seen, (a - 0.012, 0.9), (a + 0.012, 0.9), (a + 0.012, top), (a - 0.012, top))
    radius, hub = 0.48 if body is BUS else 0.34, p.ink((150, 152, 158), z, CAR)
    for a in (0.17, 0.8):
        for q, ink in ((radius, tyre), (0.55 * radius, hub)):
            side(ink, *((a + q * i / length, radius + q * j) for i, j in OCTAGON))
    if across:
        return
    end = 1.0 if flip else 0.0
    lit = r.chance(p.light.lit * 1.4)
    lamp = (255, 250, 225) if flip else (235, 40, 35)
    ink = p.glowing(lamp, z, CAR) if lit else p.ink(times(lamp, 0.8), z, CAR)
    y = 0.8 if body is BUS else outline[1][1] - 0.22
    for b in (0.04, 0.8):
        across_it(ink, end, y, end, y + 0.17, b, b + 0.16)
        if lit:
            p.glow(x + (b + 0.08) * width, y, z, 0.9 if flip else 0.5, lamp)
    across_it(p.ink((235, 235, 220), z, CAR), end, 0.45, end, 0.58, 0.36, 0.64)
    across_it(p.ink(times(paint, 0.5), z, CAR), end, 0.3, end, 0.42)


def pedestrian(p: Painter, r: Draws, x: float, z: float) -> None:
    """Paint a person who walks or stands."""
    light = p.shaded(x, z)
    # From here on a person's height is 1.
    cut = p.cut_out(x, z, r(1.05, 1.35) if r.chance(0.15) else r(1.58, 1.92))
    coat, legs, hair, bag = (
        p.ink(times(r.colour(*c), light), z, PEDESTRIAN)
        for c in (
            ((110, 255), (0.3, 1.0)),
            ((25, 130), (0, 0.8)),
            ((20, 200), (0, 0.6)),
            ((30, 240), (0, 0.9)),
        )
    )
    tone = r(0.4, 1.0)
    skin = p.ink(times((235, 190, 160), tone * light), z, PEDESTRIAN)
    stride, turn, swing = r(0.02, 0.13), 1 if r.chance(0.5) else -1, r(0.0, 0.12)
    wide = r(0.13, 0.165)
    shoe = p.ink(times((60, 50, 45), light), z, PEDESTRIAN)
    for k in (-1, 1):
        foot = k * stride
        cut.shape(
            legs,
            (k * 0.01 - 0.06, 0.5),
            (k * 0.01 + 0.06, 0.5),
            (foot + 0.04, 0.02),
            (foot - 0.04, 0.02),
        )
        cut.shape(
            shoe,
            (foot - 0.045, 0.035),
            (foot + 0.045, 0.035),
            (foot + 0.05 + 0.03 * turn, 0),
            (foot - 0.05 + 0.03 * turn, 0),
        )
    hem = 0.3 if r.chance(0.3) else 0.44
    cut.shape(coat, (-wide, 0.81), (wide, 0.81), (wide * 1.05, hem), (-wide * 1.05, hem))
    cut.shape(coat, (-wide * 0.6, 0.84), (wide * 0.6, 0.84), (wide, 0.8), (-wide, 0.8))
    sleeve = (
        p.ink(times(r.colour((40, 250), (0, 0.9)), light), z, PEDESTRIAN) if r.chance(0.2) else coat
    )
    for k in (-1, 1):
        hand = k * (wide + 0.02) + k * swing * 0.7
        cut.shape(
            sleeve,
            (k * wide - 0.03, 0.8),
            (k * wide + 0.03, 0.8),
            (hand + 0.03, 0.46),
            (hand - 0.03, 0.46),
        )
        cut.disc(skin, hand, 0.45, 0.026, 0.03)
    if r.chance(0.4):
        b = turn * (wide + 0.06)
        cut.shape(bag, (b - 0.06, 0.52), (b + 0.06, 0.52), (b + 0.07, 0.36), (b - 0.07, 0.36))
    cut.board(skin, -0.03, 0.82, 0.03, 0.88)
    cut.disc(hair, 0, 0.935, 0.056, 0.072)
    if r.chance(0.75):
        cut.disc(skin, turn * 0.012, 0.918, 0.046, 0.055)


def litter_bin(p: Painter, r: Draws, x: float, z: float) -> None:
    """Paint a litter bin, which is of no class."""
    cut = p.cut_out(x, z)
    paint = r.colour((50, 220), (0, 0.8))
    height, half = r(0.8, 1.2), r(0.25, 0.42)
    ink, lid = p.ink(paint, z, VOID), p.ink(times(paint, 0.6), z, VOID)
    cut.shape(ink, (-half, height), (half, height), (half * 0.85, 0), (-half * 0.85, 0))
    cut.board(lid, -half * 1.1, height, half * 1.1, height + 0.12)


def cyclist(p: Painter, r: Draws, x: float, z: float) -> None:
    """Paint a rider on a bicycle, which is of no class here (CamVid has one for it)."""
    cut = p.cut_out(x, z)
    frame, coat = p.ink(r.colour((40, 240)), z, VOID), p.ink(r.colour((40, 250)), z, VOID)
    tyre, grey = p.ink((35, 35, 38), z, VOID), p.ink((70, 70, 75), z, VOID)
    skin = p.ink(times((235, 190, 160), r(0.4, 1)), z, VOID)
    turn = 1 if r.chance(0.5) else -1
    for k in (-0.5, 0.5):
        cut.disc(tyre, k, 0.34, 0.34, 0.34)
        cut.disc(grey, k, 0.34, 0.26, 0.26)
    cut.shape(frame, (-0.5, 0.3), (-0.1, 0.28), (0.42 * turn, 0.9), (0.0, 0.8))
    cut.shape(grey, (-0.15 * turn, 0.95), (0.1 * turn, 0.95), (0.12 * turn, 0.3), (0.0, 0.3))
    cut.shape(coat, (-0.28 * turn, 0.9), (0.05 * turn, 0.9), (0.3 * turn, 1.45), (0.02 * turn, 1.5))
    cut.shape(coat, (0.1 * turn, 1.4), (0.25 * turn, 1.4), (0.5 * turn, 0.95), (0.42 * turn, 0.95))
    cut.disc(skin, 0.22 * turn, 1.62, 0.13, 0.15)


def bird(p: Painter, r: Draws) -> None:
    """Paint a bird in the sky, which is of no class."""
    u, v = p.width / 2 + r(-0.7, 0.7) * p.height, r(0.04, 0.3) * p.height
    cut = CutOut(p.draw, u, v, r(0.008, 0.018) * p.height)
    ink, lift = p.ink((50, 50, 55), 20, VOID), r(0.1, 0.6)
    for k in (-1, 1):
        cut.shape(ink, (0, 0), (k, lift), (2 * k, lift * 0.5), (k, lift * 0.6), (0, -0.3))


def bonnet(p: Painter, r: Draws) -> None:
    """Paint the bonnet of the car that carries the camera, which is of no class."""
    paint = r.colour((30, 220), (0, 0.7))
    h = p.height
    cut = CutOut(p.draw, p.width / 2 + r(-0.2, 0.2) * h, h * r(0.93, 0.965), h)
    body, shine = (p.ink(times(paint, k), 0.5, VOID) for k in (1.0, 1.4))
    side = ((0.52, 0.0), (0.81, -0.02), (1.0, -0.063), (1.3, -0.2))
    cut.shape(body, *((-x, y) for x, y in side[::-1]), *side)
    cut.shape(shine, (-0.3, -0.007), (0.3, -0.007), (0.36, -0.02), (-0.36, -0.02))
