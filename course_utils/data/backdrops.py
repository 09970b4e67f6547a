"""What stands behind drawn people and pets: rooms, yards and meadows, of any colour.

Nothing here is a person or an animal, and much has their colours and some of their shapes:
coats on hooks, cushions, trunks, round lamps, bushes. So neither colour nor place tells.
"""

from dataclasses import replace

from course_utils.data.canvas import (
    BODIES,
    Canvas,
    Surface,
    any_surface,
    box,
    ellipse,
    limb,
    smooth,
)
from course_utils.data.scenes.painter import Draws, mix, times

SKY_BANDS = 16


def paint_backdrop(c: Canvas, r: Draws, clutter: int) -> float:
    """Paint a place and what stands there; return where its ground begins, from the top."""
    ground = r(0.45, 0.92)
    indoors = r.chance(0.5)
    (_room if indoors else _outdoors)(c, r, ground)
    things = (_coat, _plant, _picture, _cushions, _lamp, _cupboard, _boards, _balls)
    outside = (_tree, _bush, _pillar, _boards, _fence, _cart, _boards, _coat)
    for _ in range(clutter):
        (things if indoors else outside)[r.whole(0, 7)](c, r, r() * c.wide, ground)
    return ground


def paint_before(c: Canvas, r: Draws) -> None:
    """Paint something that stands in front of all: a bush, a bar, the edge of a table."""
    kind = r()
    if kind < 0.4:
        _bush(c, r, r() * c.wide, r(0.97, 1.1))
    elif kind < 0.7:
        x, surface = r() * c.wide, any_surface(r)
        c.paint(
            limb((x, -0.1), (x + r(-0.1, 0.1), 1.1), r(0.012, 0.03), r(0.012, 0.03)),
            surface,
            0,
            0.6,
        )
    else:
        top, tilt = r(0.8, 0.95), r(-0.05, 0.05)
        edge = [(-0.1, top + tilt), (c.wide + 0.1, top - tilt), (c.wide + 0.1, 1.2), (-0.1, 1.2)]
        c.paint([edge], any_surface(r), 0, 0.5)


def _room(c: Canvas, r: Draws, ground: float) -> None:
    wall, floor = any_surface(r, (0.03, 0.12)), any_surface(r, (0.04, 0.1))
    c.paint([box(-0.1, -0.1, c.wide + 0.1, ground + 0.01)], wall)
    floor = Surface(floor.colour, times(floor.colour, 0.7), "planks", r(0.03, 0.09), r(-1, 1), 0.1)
    c.paint([box(-0.1, ground, c.wide + 0.1, 1.1)], floor)
    c.paint(
        [box(-0.1, ground - 0.025, c.wide + 0.1, ground)], Surface(r.colour((40, 240), (0, 0.3)))
    )
    if r.chance(0.5):  # a window, and curtains beside it
        x, y = r() * c.wide, r(0.05, 0.2)
        w, h = r(0.12, 0.25), r(0.2, 0.4)
        frame, cloth = Surface(r.colour((120, 250), (0, 0.4))), any_surface(r, (0.01, 0.03))
        c.paint([box(x - w, y, x + w, y + h)], frame, 0, 0.3)
        for side in (-1, 1):
            middle = x + side * w / 2
            pane = Surface(
                r.colour((140, 255), (0, 0.5)), r.colour((60, 200), (0, 0.7)), "blobs", grain=0.03
            )
            c.paint([box(middle - 0.42 * w, y + 0.02, middle + 0.42 * w, y + h - 0.02)], pane)
            if r.chance(0.7):
                edge = x + side * w
                hang = [
                    (edge - 0.07, y - 0.03),
                    (edge + 0.06, y - 0.03),
                    (edge + 0.08, ground - 0.02),
                    (edge - 0.05, ground - 0.02),
                ]
                c.paint([hang], cloth, 0, 0.7, 0.03)
    if r.chance(0.5):  # a rug
        x, y = r() * c.wide, ground + r(0.4, 0.8) * (1 - ground)
        c.paint([ellipse(x, y, r(0.2, 0.5), r(0.03, 0.12))], any_surface(r, (0.02, 0.05)))


def _outdoors(c: Canvas, r: Draws, ground: float) -> None:
    low, top = r.colour((130, 250), (0, 0.4)), r.colour((90, 230), (0, 0.6))
    for k in range(SKY_BANDS):
        y, shade = k * ground / SKY_BANDS, mix(top, low, k / (SKY_BANDS - 1))
        band = box(-0.1, y - 0.02, c.wide + 0.1, y + ground / SKY_BANDS + 0.02)
        c.paint([band], Surface(shade, grain=0.03))
    kind = r()
    if kind < 0.45:  # a wall of bricks or plaster, with a door
        wall = any_surface(r, (0.03, 0.06))
        if r.chance(0.6):
            wall = Surface(
                wall.colour, times(wall.colour, r(0.6, 1.3)), "bricks", r(0.03, 0.07), 1.0, 0.12
            )
        c.paint([box(-0.1, r(-0.1, 0.15), c.wide + 0.1, ground + 0.01)], wall)
        if r.chance(0.6):
            x, w, h = r() * c.wide, r(0.08, 0.14), r(0.35, 0.5)
            c.paint([box(x - w, ground - h, x + w, ground)], any_surface(r), 0, 0.5)
            c.paint(
                [box(x - 0.8 * w, ground - 0.94 * h, x + 0.8 * w, ground - 0.5 * h)],
                Surface(r.colour((30, 200), (0, 0.5))),
                0,
                -0.4,
            )
    else:  # a hedge, hills, far houses
        for _ in range(r.whole(2, 5)):
            x, w, h = r() * c.wide, r(0.15, 0.45), r(0.08, 0.35)
            far = any_surface(r, (0.02, 0.04))
            if r.chance(0.5):
                c.paint([box(x - w / 2, ground - h, x + w / 2, ground + 0.01)], far, 0, 0.3)
            else:
                leaves = Surface(far.colour, times(far.colour, 0.6), "blobs", grain=0.3)
                c.paint([ellipse(x, ground, w, h)], leaves, 0, 0.5, 0.05)
    kind, colour = r(), r.colour((60, 220), (0, 0.6))
    if kind < 0.4:
        floor = Surface(colour, times(colour, 0.7), "blobs", grain=0.35)
    elif kind < 0.7:
        floor = Surface(colour, times(colour, r(0.7, 1.25)), "bricks", r(0.03, 0.08), r(-1, 1), 0.1)
    else:
        floor = Surface(colour, grain=0.12)
    c.paint([box(-0.1, ground, c.wide + 0.1, 1.1)], floor)


def _coat(c: Canvas, r: Draws, x: float, ground: float) -> None:
    """Paint a coat on a stand: all of a person's clothes and nobody in it."""
    h, w = r(0.2, 0.4), r(0.05, 0.09)
    top = ground - r(0.02, 0.3) - h
    c.paint(
        limb((x, top - 0.05), (x, ground + 0.05), 0.008, 0.008),
        Surface(r.colour((30, 160))),
        0,
        0.6,
    )
    half = [
        (x, top - 0.01),
        (x - 0.5 * w, top + 0.01),
        (x - w, top + 0.06),
        (x - 1.2 * w, top + 0.7 * h),
        (x - w, top + 0.72 * h),
        (x - 0.9 * w, top + h),
    ]
    c.paint(
        [[*half, *((2 * x - u, v) for u, v in reversed(half))]],
        any_surface(r, (0.015, 0.04)),
        0,
        0.6,
        0.03,
    )


def _plant(c: Canvas, r: Draws, x: float, ground: float) -> None:
    y, size = ground + r(0.0, 0.1), r(0.08, 0.2)
    leaf = r.colour((40, 190), (0.2, 0.8))
    for k in range(9):
        t = (k - 4) * 0.16 + r(-0.05, 0.05)
        tip = (x + 2.2 * t * size, y - size - r(0.4, 1.4) * size)
        bend = (x + 0.7 * t * size, y - 1.6 * size)
        blade = smooth(
            [(x, y - size), (bend[0] - 0.02, bend[1]), tip, (bend[0] + 0.02, bend[1])], 3
        )
        c.paint([blade], Surface(times(leaf, r(0.7, 1.3)), grain=0.1), 0, 0.5, 0.01)
    pot = [
        (x - 0.45 * size, y - size),
        (x + 0.45 * size, y - size),
        (x + 0.32 * size, y),
        (x - 0.32 * size, y),
    ]
    c.paint([pot], any_surface(r, (0.01, 0.03)), 0, 0.6)


def _picture(c: Canvas, r: Draws, x: float, ground: float) -> None:
    y, w, h = r(0.1, 0.4) * ground / 0.6, r(0.04, 0.12), r(0.04, 0.12)
    c.paint([box(x - w, y - h, x + w, y + h)], Surface(r.colour((20, 230), (0, 0.5))), 0, 0.4, 0.01)
    inner = any_surface(r, (0.01, 0.04))
    c.paint([box(x - 0.8 * w, y - 0.8 * h, x + 0.8 * w, y + 0.8 * h)], inner)
    c.paint([ellipse(x, y + 0.2 * h, 0.4 * w, 0.4 * h)], Surface(r.colour((60, 240), (0, 0.7))))


def _cushions(c: Canvas, r: Draws, x: float, ground: float) -> None:
    """Paint a sofa or a box with cushions."""
    w, y = r(0.15, 0.3), ground + r(0.02, 0.15)
    cloth = any_surface(r, (0.02, 0.05))
    back = smooth([(x - w, y - 0.26), (x + w, y - 0.26), (x + 1.02 * w, y), (x - 1.02 * w, y)], 4)
    c.paint([back], cloth.darker(0.85), 0, 0.6, 0.04)
    c.paint([box(x - w, y - 0.13, x + w, y)], cloth, 0, 0.6, 0.03)
    for _ in range(r.whole(0, 3)):
        q, size = x + r(-0.7, 0.7) * w, r(0.05, 0.08)
        pillow = smooth(
            [
                (q - size, y - 0.13 - size),
                (q + size, y - 0.13 - size * r(0.7, 1.1)),
                (q + size, y - 0.1),
                (q - size, y - 0.1),
            ],
            4,
        )
        c.paint([pillow], any_surface(r, (0.01, 0.03)), 0, 0.8, 0.03)


def _lamp(c: Canvas, r: Draws, x: float, ground: float) -> None:
    """Paint a round lamp on a foot: of the shape of a head on a neck."""
    y, size = ground - r(0.15, 0.5), r(0.03, 0.07)
    c.paint(
        limb((x, y), (x, ground + 0.03), 0.007, 0.01),
        Surface(r.colour((30, 200), (0, 0.4))),
        0,
        0.6,
    )
    c.paint(
        [ellipse(x, y, size, size * r(0.8, 1.3))],
        replace(any_surface(r), pattern="plain"),
        0,
        0.6,
        0.03,
    )


def _cupboard(c: Canvas, r: Draws, x: float, ground: float) -> None:
    w, h, y = r(0.08, 0.2), r(0.2, 0.6), ground + r(0.01, 0.08)
    wood = replace(any_surface(r), pattern="plain", grain=0.12)
    c.paint([box(x - w, y - h, x + w, y)], wood, 0, 0.4)
    n = r.whole(2, 4)
    for k in range(n):
        low = y - h + (k + 0.1) * h / n
        drawer = box(x - 0.9 * w, low, x + 0.9 * w, low + 0.8 * h / n)
        c.paint(
            [drawer],
            any_surface(r, (0.01, 0.03)) if r.chance(0.3) else wood.darker(0.8),
            0,
            0.5,
            0.01,
        )


def _pillar(c: Canvas, r: Draws, x: float, ground: float) -> None:
    w = r(0.015, 0.06)
    c.paint(
        [box(x - w, -0.1, x + w, ground + r(0.0, 0.1))], any_surface(r, (0.02, 0.06)), 0, 0.7, w
    )


def _balls(c: Canvas, r: Draws, x: float, ground: float) -> None:
    for _ in range(r.whole(1, 4)):
        size, u, v = r(0.02, 0.07), x + r(-0.2, 0.2), ground + r(-0.4, 0.3)
        c.paint(
            [ellipse(u, v, size, size * r(0.9, 1.3))], any_surface(r, (0.02, 0.04)), 0, 0.8, 0.04
        )


def _boards(c: Canvas, r: Draws, x: float, ground: float) -> None:
    """Paint boards that lean at something: as long as arms and legs, and of their colours."""
    for _ in range(r.whole(2, 3)):
        colour = mix(BODIES[r.whole(0, 5)], BODIES[r.whole(0, 5)], 0.3)
        wood = Surface(times(colour, r(0.85, 1.1)), times(colour, 0.7), "planks", 0.02, 0.0, 0.12)
        u, v, thick = x + r(-0.15, 0.15), ground + r(-0.2, 0.15), r(0.015, 0.05)
        end = (u + r(-0.2, 0.2), v - r(0.1, 0.45))
        c.paint(limb((u, v), end, thick, thick)[:1], wood, 0, 0.5, 0.012)


def _tree(c: Canvas, r: Draws, x: float, ground: float) -> None:
    bark, y = replace(any_surface(r), pattern="plain", grain=0.25), ground + r(0.0, 0.1)
    fork = (x + r(-0.04, 0.04), y - r(0.25, 0.45))
    c.paint(limb((x, y), fork, r(0.02, 0.04), 0.02), bark, 0, 0.7)
    for t in (-1, 1):
        c.paint(
            limb(fork, (fork[0] + t * r(0.05, 0.15), fork[1] - r(0.1, 0.3)), 0.018, 0.006),
            bark,
            0,
            0.7,
        )
    leaf = r.colour((40, 210), (0.2, 0.8))
    for _ in range(5):
        u, v = fork[0] + r(-0.2, 0.2), fork[1] - r(0.1, 0.35)
        crown = Surface(times(leaf, r(0.7, 1.2)), times(leaf, 0.6), "blobs", grain=0.35)
        c.paint([ellipse(u, v, r(0.07, 0.14), r(0.06, 0.11))], crown, 0, 0.6, 0.05)


def _bush(c: Canvas, r: Draws, x: float, ground: float) -> None:
    leaf = r.colour((40, 210), (0.2, 0.8))
    for _ in range(4):
        u, size = x + r(-0.12, 0.12), r(0.05, 0.11)
        leaves = Surface(times(leaf, r(0.7, 1.2)), times(leaf, 0.6), "blobs", grain=0.4)
        c.paint([ellipse(u, ground - 0.5 * size, size, size)], leaves, 0, 0.7, 0.04)


def _fence(c: Canvas, r: Draws, x: float, ground: float) -> None:
    wood, h = Surface(r.colour((70, 240), (0, 0.5)), grain=0.1), r(0.12, 0.3)
    y, gap = ground + r(0.0, 0.06), r(0.05, 0.09)
    for rail in (0.3, 0.75):
        c.paint(
            [box(x - 0.4, y - rail * h - 0.012, x + 0.4, y - rail * h + 0.012)],
            wood.darker(0.8),
            0,
            0.5,
        )
    for k in range(int(0.8 / gap)):
        left = x - 0.4 + k * gap
        c.paint([box(left, y - h, left + 0.025, y)], wood, 0, 0.6, 0.01)


def _cart(c: Canvas, r: Draws, x: float, ground: float) -> None:
    """Paint a small car or a cart: a body on two wheels."""
    w, y = r(0.15, 0.3), ground + r(0.02, 0.12)
    h = w * r(0.35, 0.5)
    paint = Surface(r.colour((30, 240), (0, 0.8)), grain=0.02)
    cabin = smooth(
        [
            (x - 0.6 * w, y - h),
            (x - 0.35 * w, y - 1.7 * h),
            (x + 0.3 * w, y - 1.7 * h),
            (x + 0.6 * w, y - h),
        ],
        3,
    )
    c.paint([cabin], Surface(r.colour((40, 180), (0, 0.3)), grain=0.02), 0, 0.5)
    body = smooth(
        [(x - w, y - h), (x + w, y - h), (x + 1.04 * w, y - 0.2 * h), (x - 1.04 * w, y - 0.2 * h)],
        4,
    )
    c.paint([body], paint, 0, 0.6, 0.03)
    for side in (-0.6, 0.6):
        c.paint(
            [ellipse(x + side * w, y - 0.15 * h, 0.3 * h, 0.3 * h)],
            Surface((35.0, 35.0, 38.0)),
            0,
            0.4,
        )
        c.paint(
            [ellipse(x + side * w, y - 0.15 * h, 0.15 * h, 0.15 * h)],
            Surface(r.colour((120, 220), (0, 0.2))),
        )
