"""Paints the sky and the ground by numbers: one code a pixel, one colour a code and row.

Depth on flat ground depends on the row alone, so haze and sky gradients come out smooth
from a table of a few colours for each row, and a shadow is just another code.
"""

import numpy as np
from PIL import Image, ImageDraw

from course_utils.data.scenes.layout import FAR, Shadow, Sky, Street
from course_utils.data.scenes.painter import NEAR, Draws, Painter, mix, times
from course_utils.data.scenes.street import PAVEMENT, ROAD, SKY

CLEAR, CLOUD, CLOUD_BELOW, DISC, SLABS, JOINT, KERB, ASPHALT, PATCH, PAINT = range(10)
LABELS = (SKY, SKY, SKY, SKY, PAVEMENT, PAVEMENT, PAVEMENT, ROAD, ROAD, ROAD)
SHADED = 16
"""What a shadow adds to a code."""


def paint_background(p: Painter, r: Draws, plan: Street, sky: Sky, shadows: list[Shadow]) -> None:
    """Paint sky, pavements and road with the shadows on them; leaves `Painter.shade`."""
    codes = Image.new("L", (p.width, p.height), CLEAR)
    d = ImageDraw.Draw(codes)
    paint_sky(p, r, d, sky)
    paint_street(p, r, d, plan)
    p.shade = shade_of(p, plan, shadows)
    index = np.asarray(codes) + np.asarray(p.shade) + np.arange(p.height)[:, None] * (2 * SHADED)
    colours = colour_table(p, r, sky)
    p.image.frombytes(colours.reshape(-1).take(index).tobytes())


def paint_sky(p: Painter, r: Draws, d: ImageDraw.ImageDraw, sky: Sky) -> None:
    """Paint clouds by day, the sun or the moon when it is low."""
    h, w, horizon = p.height, p.width, p.horizon
    for _ in range(r.whole(0, 4) if sky.hour != "night" else 0):
        u, v, q = w / 2 + r(-0.8, 0.8) * h, r(0.0, 0.8) * horizon, r(0.04, 0.11) * h
        for code, drop in ((CLOUD_BELOW, 0.3), (CLOUD, 0.0)):
            for k in range(6):
                off = k - 2.5
                x, y = u + (off * 0.8 + r(-0.2, 0.2)) * q, v + drop * q
                b = (r(0.4, 0.8) - 0.045 * off * off) * q
                d.ellipse((int(x - b * 1.3), int(y - b), int(x + b * 1.3), int(y + b)), fill=code)
    if sky.hour in ("night", "dusk") and r.chance(0.5):
        u, v, q = w / 2 + r(-0.55, 0.55) * h, r(0.1, 0.7) * horizon, r(0.02, 0.035) * h
        d.ellipse((int(u - q), int(v - q), int(u + q), int(v + q)), fill=DISC)


def _edge(p: Painter, x: float, low: float, high: float) -> list[tuple[int, int]]:
    """Return the pixels of a line along the street at x, from depth low to high."""
    depths = [low]
    while depths[-1] * 1.5 < high:
        depths.append(depths[-1] * 1.5)
    return [p.at(x, 0, z) for z in (*depths, high)]


def _strip(
    p: Painter, d: ImageDraw.ImageDraw, code: int, x0: float, x1: float, z0: float, z1: float
) -> None:
    """Fill a strip of the ground that runs along the street."""
    z0, z1 = max(z0, NEAR), max(z1, NEAR)
    d.polygon(_edge(p, x0, z0, z1) + _edge(p, x1, z0, z1)[::-1], fill=code)


def paint_street(p: Painter, r: Draws, d: ImageDraw.ImageDraw, plan: Street) -> None:
    """Paint pavements with slabs, kerbs, the road with patches and markings, the crossing."""
    h, w, horizon = p.height, p.width, p.horizon
    left, right = plan.left, plan.right
    far = plan.end if plan.closed else FAR
    d.rectangle((0, horizon, w, h), fill=SLABS)
    if r.chance(0.85):
        gap, line = r(0.8, 1.6), max(h // 320, 1)
        for side, x in ((-1, left), (1, right)):
            for k in range(1, 5):
                d.line(_edge(p, x + side * k * gap, 1.6, 30), fill=JOINT, width=line)
            z = 1.8
            while z < 16:
                d.line((p.at(x, 0, z), p.at(x + side * 6, 0, z)), fill=JOINT, width=line)
                z += gap if z < 7 else 2 * gap
    _strip(p, d, KERB, left - 0.4, right + 0.4, NEAR, far)
    _strip(p, d, ASPHALT, left, right, NEAR, far)
    for _ in range(r.whole(0, 3)):
        x, z = left + r() * (right - left - 2), r(2, 16)
        _strip(p, d, PATCH, x, x + r(0.6, 2.0), z, z + r(0.6, 4))
    style, middle = r(), left + (right - left) * r(0.42, 0.58)
    if style < 0.7:
        z, dash, pause = r(0.9, 4), r(1.5, 3.5), r(1.5, 4)
        while z < min(far, 45):
            _strip(p, d, PAINT, middle - 0.09, middle + 0.09, z, z + dash)
            z += dash + pause
    elif style < 0.85:
        for x in (middle - 0.14, middle + 0.14):
            _strip(p, d, PAINT, x - 0.05, x + 0.05, NEAR, far)
    if r.chance(0.3):
        for x in (left + 0.35, right - 0.35):
            _strip(p, d, PAINT, x - 0.06, x + 0.06, NEAR, far)
    if plan.crossing:
        z0, z1 = plan.crossing
        for x0, x1, start in ((-3 * FAR, 3 * FAR, z0), (left - 0.3, right + 0.3, z0 - 0.4)):
            corners = ((x0, start), (x0, z1), (x1, z1), (x1, start))
            d.polygon([p.at(x, 0, z) for x, z in corners], fill=ASPHALT)
        if plan.zebra:
            x = left + 0.3
            while x < right - 0.5:
                _strip(p, d, PAINT, x, x + 0.5, z0 - 3.2, z0 - 0.6)
                x += 1.0
    if plan.closed:
        d.rectangle((0, horizon, w, p.at(0, 0, far)[1]), fill=SLABS)


def shade_of(p: Painter, plan: Street, shadows: list[Shadow]) -> Image.Image:
    """Return where the ground is in shadow, as an image of 0 and `SHADED`."""
    shade = Image.new("L", (p.width, p.height), 0)
    d = ImageDraw.Draw(shade)
    sun = p.light.sun

    def fill(*corners: tuple[float, float]) -> None:
        d.polygon([p.at(x, 0, z) for x, z in corners], fill=SHADED)

    for house in plan.buildings:
        if sun and (sun[0] > 0) == (house.side < 0):
            reach, slip = sun[0] * house.height, sun[1] * house.height
            x, z0, z1 = house.x, max(house.z0, NEAR), max(house.z1, NEAR)
            far, near = max(z1 + slip, NEAR), max(z0 + slip, NEAR)
            fill((x, z0), (x, z1), (x + reach, far), (x + reach, near))
    for s in shadows:
        if s.kind == "body":
            # The ground under a car is dark under a grey sky too.
            for step in (0.0, 0.4, 0.8) if sun else (0.0,):
                dx, dz = (step * s.height * k for k in sun or (0, 0))
                near, far = max(s.z + dz - 0.1, NEAR), max(s.z + dz + s.reach, NEAR)
                a, b = s.x + dx - s.half * 1.06, s.x + dx + s.half * 1.06
                fill((a, near), (a, far), (b, far), (b, near))
        elif sun:
            dx, tip = sun[0] * s.height, max(s.z + sun[1] * s.height, NEAR)
            a, b = s.x - s.half, s.x + s.half
            fill((a, s.z), (b, s.z), (b + dx, tip), (a + dx, tip))
            if s.kind == "crown":
                u, v = p.at(s.x + dx, 0, tip)
                q = s.reach * p.focal / tip
                flat = max(q * 0.3, 1)
                d.ellipse((int(u - q), int(v - flat), int(u + q), int(v + flat)), fill=SHADED)
    return shade


def colour_table(p: Painter, r: Draws, sky: Sky) -> np.ndarray:
    """Return the colour of each code in each row, with its label: (height, 32) uint32."""
    light = p.light
    # Mostly light slabs and dark asphalt, sometimes the other way round.
    pale, dark = (r(148, 222), r(55, 108)) if r.chance(0.88) else (r(80, 115), r(140, 190))
    slabs, asphalt = r.colour((pale, pale), (0, 0.35)), r.colour((dark, dark), (0, 0.12))
    marking = mix((235, 235, 225), r.colour((150, 255), (0, 0.6)), 0.35)
    ground = (
        slabs,
        times(slabs, 0.74),
        mix(slabs, (245, 245, 240), 0.5),
        asphalt,
        times(asphalt, r(0.72, 0.92)),
        mix(marking, asphalt, 0.15),
    )
    bright = sky.hour in ("day", "grey")
    lift = (245, 245, 245) if bright else mix(sky.low, (255, 210, 190), 0.4)
    cloud, below = mix(sky.top, lift, 0.75), mix(sky.top, lift, 0.45)
    disc = (255, 244, 214) if sky.hour == "dusk" else (230, 232, 240)
    above = np.array((sky.top, cloud, below, disc))
    beneath = np.array((sky.low, mix(cloud, sky.low, 0.5), mix(below, sky.low, 0.6), disc))

    rows = np.arange(p.height, dtype=np.float64)[:, None, None]
    down = (rows / max(p.horizon, 1)).clip(0, 1)
    down = down * (down * 0.6 + 0.4)
    depth = p.focal * p.view.eye / (rows - p.horizon + 0.5).clip(0.5, None)
    haze = depth * light.density
    haze = haze / (1 + haze)
    lit = np.array(ground) * np.array(light.ambient)

    table = np.zeros((p.height, 2 * SHADED, 4), np.uint8)
    table[:, :SLABS, :3] = (above * (1 - down) + beneath * down).clip(0, 255)
    table[:, SHADED : SHADED + SLABS] = table[:, :SLABS]
    for first, k in ((SLABS, 1.0), (SHADED + SLABS, 0.64)):
        colours = lit * k * (1 - haze) + np.array(light.haze) * haze
        table[:, first : first + len(ground), :3] = colours.clip(0, 255)
    table[:, : len(LABELS), 3] = LABELS
    table[:, SHADED : SHADED + len(LABELS), 3] = LABELS
    return table.view(np.uint32)[..., 0]
