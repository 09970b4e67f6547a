"""Draws what a street scene is like: hour, weather, camera, and what stands where.

All lengths are in metres: ``x`` to the right of the camera, ``z`` away from it. Nothing
here knows of pixels, so a scene is the same at every size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from course_utils.data.scenes import street
from course_utils.data.scenes.painter import NEAR, RGB, Draws, Light, View, mix

FAR = 140.0
"""How far a street that nothing closes can be seen."""


@dataclass(frozen=True)
class Sky:
    """The hour (day, grey, dusk or night) and the sky's colours at the top and low down."""

    hour: str
    top: RGB
    low: RGB


@dataclass(frozen=True)
class Building:
    """A building whose front runs along the street at x, from z0 to z1; side -1 is left."""

    side: int
    x: float
    z0: float
    z1: float
    storeys: int
    storey: float

    @property
    def height(self) -> float:
        """Height of the wall."""
        return self.storeys * self.storey + 0.7


@dataclass(frozen=True)
class Yard:
    """A gap between buildings, with a hedge, a fence or neither."""

    side: int
    x: float
    z0: float
    z1: float
    border: str


@dataclass
class Street:
    """Where the road lies, its side street, and what lines it."""

    left: float
    right: float
    houses: tuple[float, float]
    crossing: tuple[float, float] | None
    zebra: bool
    end: float
    closed: bool
    buildings: list[Building] = field(default_factory=list)
    yards: list[Yard] = field(default_factory=list)


@dataclass(frozen=True)
class Item:
    """Something to paint at a depth: ``paint(painter, draws, *args)``.

    ``draws`` is where its numbers are read from, if several items must look alike.
    """

    depth: float
    paint: Callable
    args: tuple
    draws: int | None = None


@dataclass(frozen=True)
class Shadow:
    """What casts a shadow: a post, a crown (a post with an ellipse on top) or a body.

    ``half`` is half its width; ``reach`` is a crown's half width, or a body's length along z.
    """

    kind: str
    x: float
    z: float
    height: float
    half: float
    reach: float = 0.0


def draw_light(r: Draws) -> tuple[Sky, Light]:
    """Draw the hour and the weather."""
    pick, side = r(), 1 if r.chance(0.5) else -1
    tint = r.colour((235, 255), (0, 0.18))
    sun = None
    if pick < 0.54:
        hour = "day"
        top = mix((60, 110, 200), r.colour((90, 240), (0, 0.6)), r(0.0, 0.6))
        low = mix(top, (235, 238, 240), r(0.4, 0.95))
        ambient, sun, lit = r(1.0, 1.2), (side * r(0.15, 1.1), r(-0.35, 0.5)), 0.0
    elif pick < 0.76:
        hour = "grey"
        top = r.colour((120, 225), (0, 0.2))
        low = mix(top, (240, 240, 240), r(0.0, 0.6))
        ambient, lit = r(0.88, 1.08), r(0.0, 0.15)
    elif pick < 0.92:
        hour = "dusk"
        top = mix(r.colour((60, 150), (0.2, 0.7)), (70, 80, 140), 0.4)
        low = mix((250, 160, 90), r.colour((170, 255), (0.2, 0.7)), r(0.0, 0.6))
        ambient, sun, lit = r(0.78, 0.98), (side * r(0.8, 2.0), r(0.0, 0.6)), r(0.2, 0.5)
        tint = mix(tint, low, 0.35)
    else:
        hour = "night"
        top = r.colour((8, 45), (0, 0.7))
        low = mix(top, r.colour((50, 120), (0, 0.6)), r(0.2, 0.8))
        ambient, lit = r(0.6, 0.76), r(0.35, 0.7)
        tint = mix(tint, (170, 185, 255), 0.6)
    density = r(0.002, 0.01) if r.chance(0.92) else r(0.012, 0.03)
    brightness = tuple(ambient * channel / 250 for channel in tint)
    return Sky(hour, top, low), Light(brightness, low, density, sun, lit)


def draw_view(r: Draws) -> View:
    """Draw where the camera looks."""
    return View(
        horizon=r(0.38, 0.54),
        vanishing=r(-0.3, 0.3),
        focal=r(0.85, 1.2),
        eye=r(1.5, 2.2),
        bend=r(-0.004, 0.004) if r.chance(0.5) else 0.0,
    )


def draw_street(r: Draws) -> Street:
    """Draw the plan of the street."""
    width = r(6.0, 10.5)
    if r.chance(0.87):
        left = -r(0.22, 0.78) * width
    else:
        # The camera stands on a pavement, right or left of the road.
        left = r(0.6, 2.5) if r.chance(0.5) else -width - r(0.6, 2.5)
    right = left + width
    start = r(9, 34)
    crossing = (start, start + r(6, 9)) if r.chance(0.45) else None
    plan = Street(
        left=left,
        right=right,
        houses=(left - r(2.4, 4.8), right + r(2.4, 4.8)),
        crossing=crossing,
        zebra=r.chance(0.5),
        end=r(30, 90),
        closed=r.chance(0.5),
    )
    for side, x in zip((-1, 1), plan.houses, strict=True):
        density = (1.0, 0.6, 0.0)[min(int(r() * 2.6), 2)]
        tall = r.chance(0.6)
        z = r(-6.0, 4.0)
        while z < plan.end:
            length = r(7, 15)
            if crossing and z < crossing[1] and z + length > crossing[0]:
                z = crossing[1] + r(0, 1)
                continue
            if r.chance(density):
                storeys, storey = r.whole(3, 7) if tall else r.whole(1, 3), r(2.8, 3.6)
                house = Building(side, x + side * r(0, 0.6), z, z + length, storeys, storey)
                plan.buildings.append(house)
                z += length + (r(2, 5) if r.chance(0.25) else 0.0)
            else:
                border = ("hedge", "fence", "fence", "none")[r.whole(0, 3)]
                plan.yards.append(Yard(side, x, z, z + length, border))
                z += length
    return plan


class Placer:
    """Puts objects into a street, out of each other's way where that matters.

    After ``place`` has run, ``backs`` holds what stands at the building line and behind
    it, ``fronts`` all else, ``shadows`` what falls on the ground.
    """

    def __init__(self, plan: Street, view: View, r: Draws) -> None:
        self.plan, self.view, self.r = plan, view, r
        self.backs: list[Item] = []
        self.fronts: list[Item] = []
        self.shadows: list[Shadow] = []

    def place(self) -> None:
        """Draw all objects of the scene."""
        self.line_the_street()
        self.posts_and_trees()
        self.railing()
        self.people()
        self.cars()
        self.odds_and_ends()

    def near(self, low: float, high: float) -> float:
        """Draw a depth so that sizes in the picture, not depths, are spread evenly."""
        return 1 / self.r(1 / high, 1 / low)

    def in_view(self, x: float, z: float) -> float:
        """Return a depth from which a picture of 4:3 shows x: z, or further away."""
        side = 1 if x > 0 else -1
        edge = self.r(0.4, 0.62) - side * self.view.vanishing
        return max(z, min(self.view.focal * abs(x) / max(edge, 0.1), 9))

    def pavement(self, low: float, high: float, side: int | None = None) -> tuple[float, int]:
        """Draw a place on a pavement: 0 is the kerb, 1 the building line. Return x, side."""
        r, plan = self.r, self.plan
        side = (1 if r.chance(0.5) else -1) if side is None else side
        kerb, house = (plan.left, plan.houses[0]) if side < 0 else (plan.right, plan.houses[1])
        room = max(abs(house - kerb) - 0.7, 0.3)
        return kerb + side * (0.35 + r(low, high) * room), side

    def line_the_street(self) -> None:
        """Buildings, yards with their trees, and what closes the view."""
        r, plan = self.r, self.plan
        end = plan.end if plan.closed else FAR
        self.backs.append(Item(end, street.far_row, (end, -1.3 * end, 1.3 * end)))
        for house in plan.buildings:
            if house.z1 > NEAR + 0.5:
                args = (house.side, house.x, house.z0, house.z1, house.height, house.storey)
                self.backs.append(Item(house.z1, street.building, args))
        for yard in plan.yards:
            if yard.z1 < 2:
                continue
            start = max(yard.z0, 1.2)
            if yard.border == "hedge":
                args = (yard.side, yard.x, start, yard.z1)
                self.backs.append(Item(yard.z1, street.hedge, args))
            elif yard.border == "fence" and start < 22:
                args = ((yard.x, start), (yard.x, yard.z1))
                self.backs.append(Item(start, street.fence, args))
            for _ in range(r.whole(1, 3)):
                x, z = yard.x + yard.side * r(1.5, 7), r(max(yard.z0, 4), max(yard.z1, 5))
                self.backs.append(Item(z + 1.5, street.tree, (x, z)))
                self.shadows.append(Shadow("crown", x, z, 4.2, 0.15, 1.7))

    def posts_and_trees(self) -> None:
        """Poles, signs and street trees along the kerb."""
        r = self.r
        for _ in range(r.whole(1, 3)):
            x, side = self.pavement(0.1, 0.35)
            z = self.in_view(x, self.near(4, 9))
            self.fronts.append(Item(z, street.pole, (x, z, -side)))
            self.shadows.append(Shadow("post", x, z, 6.0, 0.12))
        for _ in range(r.whole(1, 2)):
            x, _ = self.pavement(0.0, 0.5)
            z = self.in_view(x, self.near(3.8, 6.8))
            self.fronts.append(Item(z, street.sign, (x, z)))
            self.shadows.append(Shadow("crown", x, z, 2.6, 0.08, 0.45))
        for _ in range(r.whole(0, 2)):
            x, _ = self.pavement(0.3, 1.1)
            z = self.near(6, 25)
            self.fronts.append(Item(z, street.tree, (x, z)))
            self.shadows.append(Shadow("crown", x, z, 4.2, 0.15, 1.7))

    def railing(self) -> None:
        """Perhaps a fence along the kerb or along the houses, in panels."""
        r = self.r
        if not r.chance(0.85):
            return
        side = 1 if r.chance(0.5) else -1
        x, _ = self.pavement(*((0.0, 0.1) if r.chance(0.5) else (0.85, 1.0)), side)
        z, length, look = r(2.2, 5), r(1.8, 2.6), r.at
        for _ in range(r.whole(2, 5)):
            self.fronts.append(Item(z + length, street.fence, ((x, z), (x, z + length)), look))
            z += length

    def people(self) -> None:
        """Pedestrians, most of them on the pavements, some on a zebra crossing."""
        r, plan = self.r, self.plan
        for _ in range(r.whole(2, 5)):
            z = self.near(3.4, 7)
            if r.chance(0.85):
                x, _ = self.pavement(0.1, 0.95)
                z = self.in_view(x, z)
            else:
                x = r(plan.left, plan.right)
                z = plan.crossing[0] - 1.6 if plan.crossing and plan.zebra else max(z, 5)
            self.fronts.append(Item(z, street.pedestrian, (x, z)))
            self.shadows.append(Shadow("post", x, z, 1.6, 0.2))

    def cars(self) -> None:
        """Cars parked at the kerbs, in the lanes and on the side street."""
        r, plan = self.r, self.plan
        middle = (plan.left + plan.right) / 2
        taken: list[tuple[float, float]] = []
        for _ in range(r.whole(1, 5)):
            parked, z = r.chance(0.45), self.near(4.5, 34)
            side = 1 if r.chance(0.5) else -1
            if parked:
                x = plan.left + 0.1 if side < 0 else plan.right - 1.95
            else:
                lane = (middle + (plan.right if side > 0 else plan.left)) / 2
                x, z = lane - 0.9 + r(-0.3, 0.3), max(z, 6.0)
            if any(abs(z - z2) < 6 and abs(x - x2) < 2.2 for x2, z2 in taken):
                continue
            taken.append((x, z))
            self.fronts.append(Item(z, street.car, (x, z, "away" if side > 0 else "towards")))
            self.shadows.append(Shadow("body", x + 0.9, z, 1.3, 0.9, 4.2))
        if plan.crossing and r.chance(0.6):
            x, z = r(-6, 6), plan.crossing[0] + r(1.0, 4.0)
            heading = "left" if r.chance(0.5) else "right"
            self.fronts.append(Item(z, street.car, (x, z, heading)))
            self.shadows.append(Shadow("body", x + 2.1, z, 1.3, 2.1, 1.7))

    def odds_and_ends(self) -> None:
        """What is of no class: litter bins, a cyclist."""
        r, plan = self.r, self.plan
        for _ in range(r.whole(0, 2)):
            x, _ = self.pavement(0.05, 0.9)
            z = self.in_view(x, self.near(4, 15))
            self.fronts.append(Item(z, street.litter_bin, (x, z)))
            self.shadows.append(Shadow("body", x, z - 0.3, 1.0, 0.3, 0.6))
        if r.chance(0.2):
            x, z = r(plan.left + 0.5, plan.right - 0.5), self.near(6, 18)
            self.fronts.append(Item(z, street.cyclist, (x, z)))
            self.shadows.append(Shadow("post", x, z, 1.5, 0.3))
