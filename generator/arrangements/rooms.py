"""`rooms`: indoor-like. Furniture along four walls that are not there, a table with seats, small things on carriers.

Roles come from geometry alone: what has a support surface carries, what is higher than wide is tall.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from randscene.errors import PlanError
from randscene.generator.arrangements.chooser import Chooser, is_tall, standing
from randscene.generator.arrangements.footprint import Footprint
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.arrangements.ring import ring, seats_for
from randscene.generator.arrangements.tabletop import Topping, stand_on
from randscene.generator.placement import PlacedAsset
from randscene.manifests.asset_record import AssetRecord

OBJECTS = (5, 12)
SIDE = (2.8, 5.0)
"""Range of the room's two sides, metres, before it grows."""
AISLE = 0.08
"""Free distance of any two objects on the ground, metres."""
OFF_WALL = 0.05
"""Largest distance of a back from its wall, metres."""
ON_EACH = 3
_WALLS = (0.0, 0.25, 0.5, 0.75)
"""Yaw, in turns, of an object whose back (+Y) is to the wall at +Y, -X, -Y, +X."""


def rooms(choose: Chooser, rng: np.random.Generator) -> Outcome:
    """Furniture with its back to the walls, a table with two to four seats, small things on what carries."""
    count = choose.count(OBJECTS)
    seats = 2 + choose.whole(0, min(2, count - OBJECTS[0]))
    small = min(choose.whole(1, 3), count - seats - 3)
    table_size = choose.between(*choose.rules.table_scale)
    table = standing(choose.asset(choose.pool.carriers), table_size, choose.whole(0, 3) / 4)
    around = seats_for(choose, seats, table_size)
    wall = [_wall_item(choose) for _ in range(count - 1 - seats - small)]
    toppings = [Topping(asset=choose.asset(), share=choose.between(0.3, 0.7)) for _ in range(small)]
    sides = (choose.between(*SIDE), choose.between(*SIDE))
    tries = expansions = 0
    while True:
        room = _Room(sides=sides)
        group, looked = ring(table, around, rng)
        fits = _along_walls(room, wall, rng, choose.rules.tries)
        fits = fits and _in_the_middle(room, [table, *group], rng, choose.rules.tries)
        tries += looked + room.tries
        if fits:
            break
        if expansions == choose.rules.max_expansions:
            raise PlanError(f"no room for {count} objects: raise layout.max_expansions or layout.tries")
        expansions += 1
        sides = (sides[0] * choose.rules.expansion, sides[1] * choose.rules.expansion)
    ground = room.placed
    above, looked = _on_carriers(ground, toppings, choose, rng)
    return Outcome(placed=[*ground, *above], tries=tries + looked, expansions=expansions)


@dataclass(kw_only=True)
class _Room:
    """A rectangle about the origin that fills up."""

    sides: tuple[float, float]
    placed: list[PlacedAsset] = field(default_factory=list)
    tries: int = 0

    def take(self, items: list[PlacedAsset]) -> bool:
        """Add all of the items if they are within the room and clear of what is there."""
        self.tries += 1
        held = [Footprint.of(item) for item in self.placed]
        for item in (Footprint.of(item) for item in items):
            for middle, half, side in zip(item.centre, item.box(), self.sides):
                if abs(middle) + half > side / 2 + 1e-9:
                    return False
            if not all(item.apart(other, AISLE) for other in held):
                return False
        self.placed += items
        return True


def _wall_item(choose: Chooser) -> tuple[AssetRecord, float]:
    """A carrier, something tall or anything else, and its largest extent in metres."""
    draw = choose.rng.random()
    if draw < 0.4:
        return choose.asset(choose.pool.carriers), choose.between(*choose.rules.table_scale)
    if draw < 0.8:
        return choose.asset(like=lambda item: item.support is None and is_tall(item)), choose.between(
            *choose.rules.table_scale
        )
    return choose.asset(), choose.between(*choose.rules.scale)


def _along_walls(room: _Room, wall: list[tuple[AssetRecord, float]], rng: np.random.Generator, tries: int) -> bool:
    """Stand each item with its back to a wall, facing inwards; the largest first."""
    for asset, size in sorted(wall, key=lambda entry: -entry[1]):
        for _ in range(tries):
            number = int(4 * rng.random())
            item = standing(asset, size, _WALLS[number])
            width, depth = Footprint.of(item).box()
            across, off = 2 * rng.random() - 1, OFF_WALL * rng.random()
            x, y = room.sides[0] / 2 - width, room.sides[1] / 2 - depth
            if min(x, y) < 0:
                continue
            centre = ((across * x, y - off), (off - x, across * y), (across * x, off - y), (x - off, across * y))[
                number
            ]
            if room.take([replace(item, centre=centre)]):
                break
        else:
            return False
    return True


def _in_the_middle(room: _Room, group: list[PlacedAsset], rng: np.random.Generator, tries: int) -> bool:
    """Stand a table and its seats, as one, somewhere on the free floor."""
    for _ in range(tries):
        x, y = (side * (rng.random() - 0.5) for side in room.sides)
        if room.take([item.moved(x, y) for item in group]):
            return True
    return False


def _on_carriers(
    ground: list[PlacedAsset], toppings: list[Topping], choose: Chooser, rng: np.random.Generator
) -> tuple[list[PlacedAsset], int]:
    carriers = {record.uid for record in choose.pool.carriers}
    able = [number for number, item in enumerate(ground, start=1) if item.asset.uid in carriers]
    loads: dict[int, list[Topping]] = {number: [] for number in able}
    for topping in toppings:
        free = [number for number in able if len(loads[number]) < ON_EACH]
        loads[free[int(rng.random() * len(free))]].append(topping)
    above: list[PlacedAsset] = []
    tries = 0
    for number, items in loads.items():
        more, looked = stand_on(ground[number - 1], number, items, rng, tries=choose.rules.tries)
        above += more
        tries += looked
    return above, tries
