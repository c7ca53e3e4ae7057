"""`around_table`: objects in a ring around a table, each turned to face it."""

from collections.abc import Sequence

import numpy as np

from randscene.errors import PlanError
from randscene.generator.arrangements.chooser import Chooser, is_slab, standing
from randscene.generator.arrangements.footprint import Footprint
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.arrangements.tabletop import Topping, stand_on
from randscene.generator.placement import PlacedAsset
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.asset_record import AssetRecord

OBJECTS = (3, 8)
SEATS = (2, 6)
SEAT_SIZE = (0.4, 0.75)
"""Largest extent of what stands around the table, over the table's."""
FACING_JITTER_DEG = 8.0
"""How far an object's front may look past the table's middle, either way."""
_ANGLE_JITTER = 0.12
"""How far an object may stand off its equal share of the circle, over that share, either way."""
_SPREAD = 0.1
"""How far sizes in one ring differ from their mean, over it, either way."""
_GROWTH, _GROWTHS = 1.05, 96


def around_table(choose: Chooser, rng: np.random.Generator) -> Outcome:
    """A table, two to six objects around it, and sometimes one on it."""
    count = choose.count(OBJECTS)
    with_topping = (choose.chance(0.5) and count - 2 >= SEATS[0]) or count - 1 > SEATS[1]
    table_asset = choose.asset(choose.pool.carriers)
    size = choose.between(*choose.rules.table_scale)
    seats = seats_for(choose, count - 1 - with_topping, size)
    toppings = [Topping(asset=choose.asset(), share=choose.between(0.4, 0.8)) for _ in range(with_topping)]
    table = standing(table_asset, size, rng.random())
    around, tries = ring(table, seats, rng)
    above, more = stand_on(table, 1, toppings, rng, tries=choose.rules.tries)
    return Outcome(placed=[table, *above, *around], tries=1 + tries + more)


def seats_for(choose: Chooser, count: int, table_size: float) -> list[tuple[AssetRecord, float]]:
    """Assets and largest extents (metres) for a ring: all of one kind in half of the cases."""
    same = choose.chance(0.5)
    size = table_size * choose.between(*SEAT_SIZE)
    seats: list[tuple[AssetRecord, float]] = []
    for _ in range(count):
        if not (same and seats):
            asset = choose.asset(like=lambda item: item.support is None and not is_slab(item))
        factor = 1.0 if same else choose.between(1 - _SPREAD, 1 + _SPREAD)
        seats.append((asset, size * factor))
    return seats


def ring(
    table: PlacedAsset, seats: Sequence[tuple[AssetRecord, float]], rng: np.random.Generator
) -> tuple[list[PlacedAsset], int]:
    """Stand objects around a table, at equal angles but for some jitter, as near as their rectangles allow.

    Parameters
    ----------
    table : PlacedAsset
    seats : sequence of (AssetRecord, float)
        With their largest extents, metres.
    rng : numpy.random.Generator
        Only its `random()` is used.

    Returns
    -------
    placed : list of PlacedAsset
    tries : int
        Places looked at.

    Raises
    ------
    PlanError
        If they meet one another even far away from the table.
    """
    centre, cosine_sine = table.centre, table.turn
    core = Footprint.of(table)
    gap = (0.05 + 0.15 * rng.random()) * sum(size for _, size in seats) / len(seats)
    # The first stands before one of the table's sides.
    first = int(4 * rng.random()) / 4
    drawn = []
    for index in range(len(seats)):
        angle = first + (index + _ANGLE_JITTER * (2 * rng.random() - 1)) / len(seats)
        drawn.append((angle, FACING_JITTER_DEG / 360 * (2 * rng.random() - 1)))
    factor = 1.0
    for round_number in range(1, _GROWTHS + 1):
        placed: list[PlacedAsset] = []
        for (asset, size), (angle, off) in zip(seats, drawn):
            c, s = cos_sin(angle)
            direction = (cosine_sine[0] * c - cosine_sine[1] * s, cosine_sine[1] * c + cosine_sine[0] * s)
            # Its front, -Y, shall look against `direction`: the yaw is that direction's angle less a quarter turn.
            turned = cos_sin(angle - 0.25 + off)
            yaw = (
                cosine_sine[0] * turned[0] - cosine_sine[1] * turned[1],
                cosine_sine[1] * turned[0] + cosine_sine[0] * turned[1],
            )
            item = standing(asset, size, 0.0)
            seat = Footprint(centre=(0.0, 0.0), half=Footprint.of(item).half, turn=yaw)
            distance = factor * core.distance_along(direction, seat, gap)
            placed.append(
                PlacedAsset(
                    asset=asset,
                    posture=item.posture,
                    scale=item.scale,
                    turn=yaw,
                    centre=(centre[0] + distance * direction[0], centre[1] + distance * direction[1]),
                    base=0.0,
                    parent=None,
                )
            )
        prints = [Footprint.of(item) for item in placed]
        if all(a.apart(b, gap / 2) for i, a in enumerate(prints) for b in prints[:i]):
            return placed, round_number * len(seats)
        factor *= _GROWTH
    raise PlanError(f"no room for {len(seats)} objects around a table: lower layout.objects")
