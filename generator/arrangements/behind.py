"""`behind`: large objects in front, others behind them and partly hidden from a front view."""

from dataclasses import replace

import numpy as np

from randscene.errors import PlanError
from randscene.generator.arrangements.chooser import Chooser, is_slab, standing
from randscene.generator.arrangements.footprint import Footprint
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.placement import PlacedAsset

OBJECTS = (2, 7)
SIZE = (0.5, 1.0)
"""Largest extent of what is behind, over that of what is in front of it."""
COVERED = (0.4, 0.8)
"""Share of the width (of the narrower one of the two) that is behind the front object, seen along +Y."""
_STEPS = 200


def behind(choose: Chooser, rng: np.random.Generator) -> Outcome:
    """One to three groups side by side: one object in front, one or two behind it, off to the sides."""
    count = choose.count(OBJECTS)
    groups = count // 2
    placed: list[PlacedAsset] = []
    tries, edge = 0, 0.0
    for number in range(groups):
        size = choose.between(*choose.rules.table_scale)
        front = standing(choose.asset(like=lambda item: not is_slab(item)), size, rng.random())
        side = 1 if choose.chance(0.5) else -1
        backs: list[PlacedAsset] = []
        for back_side in (side, -side)[: 1 + (number == groups - 1 and count % 2)]:
            asset = choose.asset()
            covered, away = choose.between(*COVERED), choose.between(*choose.rules.gap)
            back = standing(asset, size * choose.between(*SIZE), rng.random())
            back, steps = _put_behind(front, back, backs, back_side, covered, away)
            backs.append(back)
            tries += steps
        # The whole group is moved to the right of the one before, and a little to or fro.
        group = [front, *backs]
        left = min(item.centre[0] - Footprint.of(item).box()[0] for item in group)
        right = max(item.centre[0] + Footprint.of(item).box()[0] for item in group)
        y = size * (rng.random() - 0.5) / 2
        placed += [item.moved(edge - left, y) for item in group]
        edge += right - left + size * choose.between(*choose.rules.gap) / 2
    return Outcome(placed=placed, tries=tries + groups)


def _put_behind(
    front: PlacedAsset, back: PlacedAsset, others: list[PlacedAsset], side: int, covered: float, away: float
) -> tuple[PlacedAsset, int]:
    """Right behind the front object, on its left (-1) or right (1), and farther back while others are in the way."""
    (width_f, depth_f), (width_b, depth_b) = Footprint.of(front).box(), Footprint.of(back).box()
    x = front.centre[0] + side * (width_f + width_b - 2 * covered * min(width_f, width_b))
    y = front.centre[1] + depth_f + depth_b + away * (depth_f + depth_b) / 2
    stride = front.scale * max(front.asset.extents) / 20
    for step in range(_STEPS):
        candidate = replace(back, centre=(x, y + step * stride))
        mine = Footprint.of(candidate)
        if all(mine.apart(Footprint.of(other), away * depth_b / 4) for other in others):
            return candidate, step + 1
    raise PlanError("no room behind an object: lower layout.objects")
