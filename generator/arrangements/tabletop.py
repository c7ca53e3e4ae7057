"""Several objects on one support polygon: a Poisson-disk in a region of any shape."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from randscene.errors import PlanError
from randscene.generator.placement import PlacedAsset
from randscene.generator.posture import upright
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.asset_record import AssetRecord, Support

SPACING = 0.1
"""Free distance of two circles on a top, over the mean of their radii."""
SLIM = 0.5
"""Largest extent of what stands on a carrier, over the carrier's own: a slim object would otherwise become a tower."""
SHRINK = 0.8
"""Factor on an object for which the tries found no place, and how often."""
SHRINKS = 12
_SLACK = 1e-6
"""Of the radius: what the rounding of recipes may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topping:
    """An object that is to stand on another."""

    asset: AssetRecord
    share: float
    """Its radius over the distance from the polygon's anchor to the nearest edge, in (0, 1]."""


def stand_on(
    carrier: PlacedAsset, parent: int, toppings: Sequence[Topping], rng: np.random.Generator, *, tries: int
) -> tuple[list[PlacedAsset], int]:
    """Stand objects on a carrier, the largest first, each circle inside the polygon and clear of the others.

    An object for which `tries` places are all taken becomes smaller by `SHRINK` and tries again.

    Parameters
    ----------
    carrier : PlacedAsset
        Upright, of an asset that has a support surface.
    parent : int
        Its id in the recipe, counted from 1.
    toppings : sequence of Topping
    rng : numpy.random.Generator
        Only its `random()` is used.
    tries : int

    Returns
    -------
    placed : list of PlacedAsset
        In the order of `toppings`.
    tries : int
        Places looked at.

    Raises
    ------
    PlanError
        If an object finds no place at any of its sizes.
    """
    below = carrier.asset
    support = below.support
    if support is None:
        raise ValueError(f"{below.uid} cannot carry an object")
    sized = []
    for topping in toppings:
        posture = upright(topping.asset)
        largest = SLIM * carrier.scale * max(below.extents) / max(topping.asset.extents)
        sized.append(min(topping.share * support.clearance * carrier.scale / posture.radius, largest))
    # Circles on the top, in the carrier's own units: (x, y, radius).
    circles: dict[int, tuple[float, float, float]] = {}
    drawn = 0
    for index in sorted(range(len(toppings)), key=lambda i: -sized[i] * upright(toppings[i].asset).radius):
        for _ in range(SHRINKS):
            radius = sized[index] * upright(toppings[index].asset).radius / carrier.scale
            place, looked = _free_place(support, radius, list(circles.values()), rng, tries)
            drawn += looked
            if place is not None:
                circles[index] = (*place, radius)
                break
            sized[index] *= SHRINK
        else:
            raise PlanError(
                f"no room for {len(toppings)} objects on {below.uid}: raise layout.tries or lower layout.objects"
            )
    placed = []
    for index, topping in enumerate(toppings):
        x, y, _ = circles[index]
        dx, dy = carrier.turned(
            (x - (below.bounds_min[0] + below.extents[0] / 2)) * carrier.scale,
            (y - (below.bounds_min[1] + below.extents[1] / 2)) * carrier.scale,
        )
        placed.append(
            PlacedAsset(
                asset=topping.asset,
                posture=upright(topping.asset),
                scale=sized[index],
                turn=cos_sin(rng.random()),
                centre=(carrier.centre[0] + dx, carrier.centre[1] + dy),
                base=carrier.base + (support.height - below.bounds_min[2]) * carrier.scale,
                parent=parent,
            )
        )
    return placed, drawn


def _free_place(
    support: Support,
    radius: float,
    circles: Sequence[tuple[float, float, float]],
    rng: np.random.Generator,
    tries: int,
) -> tuple[tuple[float, float] | None, int]:
    xs, ys = zip(*support.polygon)
    left, right, front, back = min(xs), max(xs), min(ys), max(ys)
    need = radius * (1 + _SLACK)
    for looked in range(1, tries + 1):
        x, y = left + (right - left) * rng.random(), front + (back - front) * rng.random()
        apart = all(
            math.sqrt((x - a) * (x - a) + (y - b) * (y - b)) >= radius + r + SPACING * (radius + r) / 2
            for a, b, r in circles
        )
        if apart and clearance_at(support, x, y) >= need:
            return (x, y), looked
    return None, tries


def clearance_at(support: Support, x: float, y: float) -> float:
    """Distance from a point to the edge of the polygon or of a hole, own units; negative where nothing carries."""
    inside, nearest = False, math.inf
    for ring in (support.polygon, *support.holes):
        for (ax, ay), (bx, by) in zip(ring, (*ring[1:], ring[0])):
            if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
                inside = not inside
            ux, uy = bx - ax, by - ay
            length = ux * ux + uy * uy
            along = min(max(((x - ax) * ux + (y - ay) * uy) / length, 0.0), 1.0) if length > 0 else 0.0
            dx, dy = x - (ax + along * ux), y - (ay + along * uy)
            nearest = min(nearest, math.sqrt(dx * dx + dy * dy))
    return nearest if inside else -nearest
