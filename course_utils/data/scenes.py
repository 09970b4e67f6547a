"""Street scenes drawn from an integer seed, with exact masks.

The embedded data set: nothing to download, as many images as wanted, and a hidden
test set is just a seed that nobody has seen. The same seed gives the same bytes on
every machine, and the same street at every size.

A scene is a street in perspective. Its layout, light and colours are drawn first, in
metres; the ground and the sky are painted by numbers (one code a pixel, one colour a
code and row); objects follow from far to near; texture, glow and noise come last.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from course_utils.data import SegmentationSet, street
from course_utils.data.painter import (
    NEAR,
    Draws,
    Light,
    Painter,
    View,
    mix,
    times,
    upscaled,
)
from course_utils.data.street import PAVEMENT, ROAD, SKY
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

FAR = 140.0
POOL = 6144
LAYOUT_DRAWS = 1024

# Codes of the sky and the ground; a code plus SHADED is the same in shadow.
CLEAR, CLOUD, CLOUD_BELOW, DISC, SLABS, JOINT, ASPHALT, PAINT, KERB, PATCH, LAID = range(11)
SHADED = 16
CODE_LABELS = (SKY, SKY, SKY, SKY, PAVEMENT, PAVEMENT, ROAD, ROAD, PAVEMENT, ROAD, PAVEMENT)

# How strongly a class is grained, in percent of its brightness: coarse, middle, fine.
GRAIN = np.zeros((256, 3), np.float32)
GRAIN[:10] = (
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
    seeds: Iterable[int], size: tuple[int, int] = (96, 128), split: str = "custom"
) -> SegmentationSet:
    """Draw one scene for each seed, all of ``size`` (height, width)."""
    seeds = list(seeds)
    images = np.empty((len(seeds), *size, 3), np.uint8)
    masks = np.empty((len(seeds), *size), np.uint8)
    for i, seed in enumerate(seeds):
        images[i], masks[i] = scene(seed, *size)
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
    >>> image.shape, mask.shape, int(mask[0, 0])
    ((96, 128, 3), (96, 128), 0)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    pool = rng.random(POOL).tolist()
    r = Draws(pool, -1)
    light, sky, hour = draw_light(r)
    view = View(
        horizon=r(0.38, 0.54),
        vanishing=r(-0.3, 0.3),
        focal=r(0.85, 1.2),
        eye=r(1.5, 2.2),
        bend=r(-0.004, 0.004) if r.chance(0.5) else 0.0,
    )
    # Four bytes a pixel. CMYK only because Pillow averages its fourth channel like the rest.
    canvas = Image.new("RGBX", (2 * width, 2 * height))
    p = Painter(2 * height, 2 * width, view, light, canvas)
    plan = draw_plan(r)
    paint_ground(p, r, plan, sky, hour)
    paint_objects(p, pool, plan)
    image, mask = reduced(canvas)
    return finished(image, mask, p.glows, rng, r), mask


def draw_light(r: Draws) -> tuple[Light, tuple, str]:
    """Draw the hour, the weather and the sky's colours (top, at the horizon)."""
    pick = r()
    hour = "day" if pick < 0.5 else "grey" if pick < 0.72 else "dusk" if pick < 0.88 else "night"
    side = 1 if r.chance(0.5) else -1
    tint = r.colour((235, 255), (0, 0.18))
    if hour == "day":
        top = mix((60, 110, 200), r.colour((70, 240), (0, 0.7)), r(0.0, 0.8))
        low = mix(top, (235, 238, 240), r(0.4, 0.95))
        ambient, sun, lit = r(1.0, 1.2), (side * r(0.15, 1.1), r(-0.35, 0.5)), 0.0
    elif hour == "grey":
        top = r.colour((120, 225), (0, 0.2))
        low = mix(top, (240, 240, 240), r(0.0, 0.6))
        ambient, sun, lit = r(0.88, 1.08), None, r(0.0, 0.15)
    elif hour == "dusk":
        top = mix(r.colour((60, 150), (0.2, 0.7)), (70, 80, 140), 0.4)
        low = mix((250, 160, 90), r.colour((170, 255), (0.2, 0.7)), r(0.0, 0.6))
        ambient, sun, lit = r(0.68, 0.9), (side * r(0.8, 2.0), r(0.0, 0.6)), r(0.2, 0.5)
        tint = mix(tint, low, 0.35)
    else:
        top = r.colour((8, 45), (0, 0.7))
        low = mix(top, r.colour((50, 120), (0, 0.6)), r(0.2, 0.8))
        ambient, sun, lit = r(0.52, 0.68), None, r(0.35, 0.7)
        tint = mix(tint, (170, 185, 255), 0.6)
    density = r(0.002, 0.01) if r.chance(0.88) else r(0.015, 0.04)
    light = Light(
        (ambient * tint[0] / 250, ambient * tint[1] / 250, ambient * tint[2] / 250),
        low,
        density,
        sun,
        lit,
    )
    return light, (top, low), hour


def draw_plan(r: Draws) -> dict:
    """Draw the layout of the street, in metres: where the road, the houses and all else is."""
    road = r(6.0, 10.5)
    left = (
        -r(0.22, 0.78) * road
        if r.chance(0.85)
        else (r(0.6, 2.5) if r.chance(0.5) else -road - r(0.6, 2.5))
    )
    right = left + road
    crossing = r(9, 34) if r.chance(0.45) else None
    end = r(30, 90)
    plan = {
        "left": left,
        "right": right,
        "house": (left - r(2.2, 5.5), right + r(2.2, 5.5)),
        "crossing": crossing,
        "crossing_width": r(6, 9),
        "end": end,
        "closed": r.chance(0.5),
        "zebra": r.chance(0.5),
    }
    plan["buildings"], plan["yards"] = [], []
    for side, x in zip((-1, 1), plan["house"], strict=True):
        style = r()  # town, suburb, park
        z = r(-6.0, 4.0)
        tall = r.chance(0.6)
        while z < end:
            length = r(7, 15)
            if (
                crossing is not None
                and z < crossing + plan["crossing_width"]
                and z + length > crossing
            ):
                z = crossing + plan["crossing_width"]
                crossing_done = r(0, 1)
                z += crossing_done
                if z > end:
                    break
            if style < 0.5 or (style < 0.82 and r.chance(0.6)):
                plan["buildings"].append((side, x + side * r(0, 0.6), z, z + length, tall))
                z += length + (r(2, 5) if r.chance(0.25) else 0.0)
            else:
                plan["yards"].append((side, x, z, z + length, r()))
                z += length
    return plan


def edge(p: Painter, x: float, low: float, high: float) -> list[tuple[int, int]]:
    """Return the pixels of a line along the street at x, from depth low to high."""
    depths = [low]
    while depths[-1] * 1.5 < high:
        depths.append(depths[-1] * 1.5)
    depths.append(high)
    return [p.at(x, 0, z) for z in depths]


def strip(
    p: Painter, d: ImageDraw.ImageDraw, x0: float, x1: float, z0: float, z1: float, code: int
) -> None:
    """Fill a strip of the ground between x0 and x1, z0 and z1."""
    z0, z1 = max(z0, NEAR), max(z1, NEAR)
    d.polygon(edge(p, x0, z0, z1) + edge(p, x1, z0, z1)[::-1], fill=code)


def paint_ground(p: Painter, r: Draws, plan: dict, sky: tuple, hour: str) -> None:
    """Paint the sky and the ground by numbers, with the shadows that fall on them."""
    h, w = p.height, p.width
    codes = Image.new("L", (w, h), CLEAR)
    d = ImageDraw.Draw(codes)
    hy = p.horizon
    clouds = r.whole(0, 4) if hour != "night" else 0
    for _ in range(clouds):
        u, v, q = r(-0.2, 1.2) * w, r(0.0, 0.8) * hy, r(0.04, 0.11) * h
        for code, shift in ((CLOUD_BELOW, 0.3), (CLOUD, 0.0)):
            for k in range(6):
                a, b = (k - 2.5) * 0.8 + r(-0.2, 0.2), r(0.4, 0.8) - 0.09 * abs(k - 2.5) ** 2 / 2
                x, y = u + a * q, v + shift * q
                d.ellipse(
                    (int(x - b * q * 1.3), int(y - b * q), int(x + b * q * 1.3), int(y + b * q)),
                    fill=code,
                )
    if hour in ("night", "dusk") and r.chance(0.5):
        u, v, q = r(0.1, 0.9) * w, r(0.1, 0.7) * hy, r(0.02, 0.035) * h
        d.ellipse((int(u - q), int(v - q), int(u + q), int(v + q)), fill=DISC)
    d.rectangle((0, hy, w, h), fill=SLABS)
    left, right = plan["left"], plan["right"]
    end = plan["end"] if plan["closed"] else FAR
    far = min(end, FAR)
    joints = r.chance(0.6)
    if joints:
        gap, line = r(0.8, 1.6), max(h // 320, 1)
        for side, x in ((-1, left), (1, right)):
            for k in range(1, 5):
                d.line(edge(p, x + side * k * gap, 1.6, 30), fill=JOINT, width=line)
            z = 1.8
            while z < 16:
                d.line((p.at(x, 0, z), p.at(x + side * 6, 0, z)), fill=JOINT, width=line)
                z += gap if z < 7 else 2 * gap
    strip(p, d, left - 0.28, right + 0.28, NEAR, far, KERB)
    strip(p, d, left, right, NEAR, far, ASPHALT)
    for _ in range(r.whole(0, 3)):
        x, z = left + r() * (right - left), r(2, 16)
        strip(p, d, x, x + r(0.6, 2.2), z, z + r(0.6, 4), PATCH)
    lanes = r()
    middle = left + (right - left) * r(0.42, 0.58)
    if lanes < 0.7:
        z, dash, pause = r(0.9, 4), r(1.5, 3.5), r(1.5, 4)
        while z < min(far, 45):
            strip(p, d, middle - 0.09, middle + 0.09, z, z + dash, PAINT)
            z += dash + pause
    elif lanes < 0.85:
        for x in (middle - 0.14, middle + 0.14):
            strip(p, d, x - 0.05, x + 0.05, NEAR, far, PAINT)
    if r.chance(0.3):
        for x in (left + 0.35, right - 0.35):
            strip(p, d, x - 0.06, x + 0.06, NEAR, far, PAINT)
    crossing = plan["crossing"]
    if crossing is not None:
        z0, z1 = crossing, crossing + plan["crossing_width"]
        span = 3 * FAR
        d.polygon(
            [p.at(-span, 0, z0), p.at(-span, 0, z1), p.at(span, 0, z1), p.at(span, 0, z0)],
            fill=ASPHALT,
        )
        d.polygon(
            [
                p.at(left - 0.2, 0, z0 - 0.4),
                p.at(left - 0.2, 0, z1),
                p.at(right + 0.2, 0, z1),
                p.at(right + 0.2, 0, z0 - 0.4),
            ],
            fill=ASPHALT,
        )
        if plan["zebra"]:
            x = left + 0.3
            while x < right - 0.5:
                strip(p, d, x, x + 0.5, crossing - 3.2, crossing - 0.6, PAINT)
                x += 1.0
    if plan["closed"]:
        u, v = p.at(0, 0, end)
        d.rectangle((0, hy, w, v), fill=SLABS)
    shade = None
    if p.light.sun is not None:
        sx, sz = p.light.sun
        shade = Image.new("L", (w, h), 0)
        s = ImageDraw.Draw(shade)
        for side, x, z0, z1, tall in plan["buildings"]:
            if (sx > 0) == (side < 0):
                tallness = (13 if tall else 6) * (1 + 0.1 * (z0 % 3))
                z0, z1 = max(z0, NEAR), max(z1, NEAR)
                reach, slip = sx * tallness, sz * tallness
                s.polygon(
                    [
                        p.at(x, 0, z0),
                        p.at(x, 0, z1),
                        p.at(x + reach, 0, max(z1 + slip, NEAR)),
                        p.at(x + reach, 0, max(z0 + slip, NEAR)),
                    ],
                    fill=SHADED,
                )
        p.shade = shade
    plan["codes"] = codes
    plan["colours"] = ground_colours(p, r, sky, hour)
    plan["joints"] = joints


def ground_colours(p: Painter, r: Draws, sky: tuple, hour: str) -> np.ndarray:
    """Return the colour of each code in each row, (height, 32) packed as uint32."""
    h, hy, light = p.height, p.horizon, p.light
    rows = np.arange(h, dtype=np.float64)
    dark, light_ = (r(62, 128), r(128, 215)) if r.chance(0.85) else (r(125, 185), r(80, 125))
    slabs = r.colour((light_, light_), (0, 0.35))
    asphalt = r.colour((dark, dark), (0, 0.18))
    paint = mix((235, 235, 225), r.colour((150, 255), (0, 0.6)), 0.35)
    top, low = sky
    lift = (245, 245, 245) if hour in ("day", "grey") else mix(low, (255, 210, 190), 0.4)
    cloud, below = mix(top, lift, 0.75), mix(top, lift, 0.45)
    disc = (255, 244, 214) if hour == "dusk" else (230, 232, 240)
    flats = {
        SLABS: slabs,
        JOINT: times(slabs, 0.8),
        ASPHALT: asphalt,
        PAINT: mix(paint, asphalt, 0.15),
        KERB: mix(slabs, (200, 200, 200), 0.35),
        PATCH: times(asphalt, r(0.72, 0.92)),
        LAID: slabs,
    }
    table = np.zeros((h, 2 * SHADED, 4), np.uint8)
    up = (rows / max(hy, 1)).clip(0, 1)
    up = up * up * 0.6 + up * 0.4
    depth = p.focal * p.view.eye / (rows - hy + 0.5).clip(0.5, None)
    haze = depth * light.density
    haze = haze / (1 + haze)
    for c in range(3):
        table[:, CLEAR, c] = (top[c] * (1 - up) + low[c] * up).clip(0, 255)
        table[:, CLOUD, c] = (cloud[c] * (1 - up) + mix(cloud, low, 0.5)[c] * up).clip(0, 255)
        table[:, CLOUD_BELOW, c] = (below[c] * (1 - up) + mix(below, low, 0.6)[c] * up).clip(0, 255)
        table[:, DISC, c] = int(disc[c])
        for code, colour in flats.items():
            bright = colour[c] * light.ambient[c]
            for shift, k in ((0, 1.0), (SHADED, 0.6)):
                table[:, code + shift, c] = (bright * k * (1 - haze) + light.haze[c] * haze).clip(
                    0, 255
                )
    table[:, SHADED : SHADED + SLABS] = table[:, :SLABS]
    for code, label in enumerate(CODE_LABELS):
        table[:, [code, code + SHADED], 3] = label
    return table.view(np.uint32)[..., 0]


def paint_objects(p: Painter, pool: list[float], plan: dict) -> None:
    """Place everything that stands on the ground, cast its shadows, paint from far to near."""
    own = LAYOUT_DRAWS
    left, right = plan["left"], plan["right"]
    crossing, end = plan["crossing"], plan["end"]

    def next_draws() -> Draws:
        nonlocal own
        own += 53
        return Draws(pool, own)

    r = next_draws()
    backs, fronts = [], []
    shadows = []

    if plan["closed"]:
        backs.append((end, street.far_row, (end, -1.3 * end, 1.3 * end)))
    else:
        backs.append((FAR, street.far_row, (FAR, -1.3 * FAR, 1.3 * FAR)))
    for side, x, z0, z1, tall in plan["buildings"]:
        if z1 > NEAR + 0.5:
            backs.append((z1, street.building, (side, x, z0, z1, tall)))
    for side, x, z0, z1, kind in plan["yards"]:
        if z1 < 2:
            continue
        if kind < 0.35:
            backs.append((z1, street.hedge, (side, x, max(z0, 1.2), z1)))
        elif kind < 0.8:
            backs.append((z0, street.fence, ((x, max(z0, 1.2)), (x, z1))))
        for _ in range(r.whole(1, 3)):
            tx, tz = x + side * r(1.5, 7), r(max(z0, 4), max(z1, 5))
            backs.append((tz + 1.5, street.tree, (tx, tz)))
            shadows.append(("crown", tx, tz, 4.2, 0.15, 1.7))

    def beside(offset_low: float, offset_high: float, side: int | None = None) -> tuple[float, int]:
        side = (1 if r.chance(0.5) else -1) if side is None else side
        house = plan["house"][0] if side < 0 else plan["house"][1]
        kerb = left if side < 0 else right
        wide = abs(house - kerb)
        return kerb + side * (0.35 + r(offset_low, offset_high) * max(wide - 0.7, 0.3)), side

    def seen(z_low: float, z_high: float) -> float:
        # Even in 1 / z, so that an object's size in the picture is spread evenly.
        return 1 / r(1 / z_high, 1 / z_low)

    for _ in range(r.whole(2, 4)):
        x, side = beside(0.1, 0.35)
        z = seen(4.5, 15)
        fronts.append((z, street.pole, (x, z, -side)))
        shadows.append(("post", x, z, 6.0, 0.12, 0))
    for _ in range(r.whole(1, 3)):
        x, side = beside(0.0, 0.5)
        z = seen(3.5, 8.5)
        fronts.append((z, street.sign, (x, z)))
        shadows.append(("crown", x, z, 2.8, 0.08, 0.45))
    for _ in range(r.whole(0, 2)):
        x, side = beside(0.3, 1.1)
        z = seen(5, 25)
        fronts.append((z, street.tree, (x, z)))
        shadows.append(("crown", x, z, 4.2, 0.15, 1.7))
    if r.chance(0.75):
        side = 1 if r.chance(0.5) else -1
        x, _ = beside(0.0, 0.1, side) if r.chance(0.5) else beside(0.85, 1.0, side)
        z = r(2.5, 6)
        panels, length = r.whole(2, 5), r(1.8, 2.6)
        style = next_draws()
        for k in range(panels):
            a, b = z + k * length, z + (k + 1) * length
            fronts.append((b, street.fence, ((x, a), (x, b)), style.at))
    for _ in range(r.whole(2, 5)):
        z = seen(4, 11)
        if r.chance(0.8):
            x, _ = beside(0.1, 0.95)
        else:
            x = r(left, right)
            z = (
                crossing - 1.5
                if crossing is not None and plan["zebra"] and r.chance(0.7)
                else max(z, 6)
            )
        fronts.append((z, street.pedestrian, (x, z)))
        shadows.append(("post", x, z, 1.6, 0.2, 0))
    # Cars: parked along the kerbs, in the lanes, on the side street.
    taken: list[tuple[float, float, float]] = []
    middle = (left + right) / 2
    for _ in range(r.whole(1, 5)):
        place, z = r(), seen(4.5, 34)
        if place < 0.45:
            side = 1 if r.chance(0.5) else -1
            x = left + 0.1 if side < 0 else right - 1.95
            heading = "away" if side > 0 else "towards"
        else:
            side = 1 if r.chance(0.5) else -1
            lane = (middle + right) / 2 if side > 0 else (middle + left) / 2
            x = lane - 0.9 + r(-0.3, 0.3)
            heading = "away" if side > 0 else "towards"
            z = max(z, 6.0)
        if any(abs(z - z2) < 6 and x - 2.2 < x2 < x + 2.2 for x2, _, z2 in taken):
            continue
        taken.append((x, 0, z))
        fronts.append((z, street.car, (x, z, heading)))
        shadows.append(("body", x + 0.9, z, 1.3, 0.9, 4.2))
    if crossing is not None and r.chance(0.6):
        x, z = r(-6, 6), crossing + r(1.0, 4.0)
        fronts.append((z, street.car, (x, z, "left" if r.chance(0.5) else "right")))
        shadows.append(("body", x + 2.1, z, 1.3, 2.1, 1.7))
    for _ in range(r.whole(0, 2)):
        x, side = beside(0.05, 0.9)
        z = seen(4, 15)
        fronts.append((z, street.bin_, (x, z)))
        shadows.append(("body", x, z - 0.3, 1.0, 0.3, 0.6))
    if r.chance(0.2):
        x, z = r(left + 0.5, right - 0.5), seen(6, 18)
        fronts.append((z, street.bicycle, (x, z)))
        shadows.append(("post", x, z, 1.5, 0.3, 0))

    paint_shadows(p, shadows)
    flat = np.asarray(plan["codes"]).astype(np.intp)
    if p.shade is not None:
        flat += np.asarray(p.shade)
    flat += (np.arange(p.height) * (2 * SHADED))[:, None]
    packed = plan["colours"].reshape(-1).take(flat)
    p.image.frombytes(packed.tobytes())
    for group in (backs, fronts):
        group.sort(key=lambda item: -item[0])
        for item in group:
            draws = Draws(pool, item[3]) if len(item) > 3 else next_draws()
            item[1](p, draws, *item[2])
    r = next_draws()
    for _ in range(r.whole(0, 3) if r.chance(0.3) else 0):
        street.bird(p, next_draws())
    if r.chance(0.3):
        street.bonnet(p, next_draws())


def paint_shadows(p: Painter, shadows: list) -> None:
    """Cast the shadows of objects, each a tuple (kind, x, z, height, half width, length).

    A ``"post"`` throws a strip, a ``"crown"`` a strip that ends in an ellipse. A
    ``"body"`` stands on a rectangle, which is dark under a grey sky too.
    """
    if p.shade is None:
        p.shade = Image.new("L", (p.width, p.height), 0)
    d = ImageDraw.Draw(p.shade)
    for kind, x, z, tall, half, length in shadows:
        if kind == "body":
            for step in (0.0, 0.4, 0.8) if p.light.sun else (0.0,):
                sx, sz = (step * tall * k for k in p.light.sun or (0, 0))
                near, far = max(z + sz - 0.1, NEAR), max(z + sz + length, NEAR)
                a, b = x + sx - half * 1.06, x + sx + half * 1.06
                corners = [(a, near), (a, far), (b, far), (b, near)]
                d.polygon([p.at(u, 0, v) for u, v in corners], fill=SHADED)
        elif p.light.sun:
            sx, sz = p.light.sun[0] * tall, p.light.sun[1] * tall
            tip = max(z + sz, NEAR)
            corners = [(x - half, z), (x + half, z), (x + sx + half, tip), (x + sx - half, tip)]
            d.polygon([p.at(u, 0, v) for u, v in corners], fill=SHADED)
            if kind == "crown":
                u, v = p.at(x + sx, 0, tip)
                a, b = length * p.focal / tip, max(length * 0.3 * p.focal / tip, 1)
                d.ellipse((int(u - a), int(v - b), int(u + a), int(v + b)), fill=SHADED)


def reduced(canvas: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Halve the canvas: average the colours, let the majority decide on the label."""
    image = np.asarray(canvas.reduce(2))[..., :3]
    labels = np.asarray(canvas)[..., 3]
    a, b, c, d = labels[::2, ::2], labels[::2, 1::2], labels[1::2, ::2], labels[1::2, 1::2]
    mask = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return image, np.where((a == b) | (a == c) | (a == d), a, mask)


def finished(
    image: np.ndarray, mask: np.ndarray, glows: list, rng: np.random.Generator, r: Draws
) -> np.ndarray:
    """Add texture, the glow of lamps, exposure and the sensor's noise."""
    height, width = mask.shape
    coarse = upscaled(rng.integers(0, 256, (9, 12), np.uint8), height, width)
    middle = upscaled(rng.integers(0, 256, (48, 64), np.uint8), height, width)
    cells = (120, 160) if height < 200 else (360, 480)
    fine = upscaled(rng.integers(0, 256, cells, np.uint8), height, width)
    grain = GRAIN[mask]
    factor = 1 + coarse * grain[..., 0] + middle * grain[..., 1] + fine * grain[..., 2]
    factor *= np.float32(r(0.85, 1.12))
    x = image * factor[..., None]
    for u, v, radius, colour in glows:
        reach = radius * 4
        x0, x1 = max(int(u - reach), 0), min(int(u + reach) + 1, width)
        y0, y1 = max(int(v - reach), 0), min(int(v + reach) + 1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = (np.arange(x0, x1, dtype=np.float32) - np.float32(u)) / np.float32(radius)
        dy = (np.arange(y0, y1, dtype=np.float32) - np.float32(v)) / np.float32(radius)
        square = (dx * dx)[None] + (dy * dy)[:, None]
        shine = ((1 - square / 16).clip(0, 1) / (1 + 2 * square)) * np.float32(0.75)
        x[y0:y1, x0:x1] += shine[..., None] * np.array(colour, np.float32)
    noise = rng.integers(0, 256, (2, height, width, 3), np.uint8).astype(np.float32)
    x += (noise[0] + noise[1] - 255) * np.float32(r(0.006, 0.026))
    return x.clip(0, 255).astype(np.uint8)
