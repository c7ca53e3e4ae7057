"""Putting an object on a table: where it goes and how large it may be."""

import math
from dataclasses import dataclass

from randscene.manifests.asset_record import AssetRecord, Support


@dataclass(frozen=True, kw_only=True, slots=True)
class Stacking:
    """Where an object stands on a table."""

    scale: float
    """Uniform factor from the stacked asset's own units to metres."""
    offset: tuple[float, float]
    """(x, y) of the object's box centre from the table's box centre, metres, before the table's yaw."""
    height: float
    """Height of the supporting plane above the table's lowest point, metres: the object's lowest point goes there."""


def half_diagonal(asset: AssetRecord) -> float:
    """Radius of the circle about the asset's horizontal bounding box, in its own units: it holds the asset at any yaw.

    Returns
    -------
    float
        Half the diagonal of the (x, y) extents.
    """
    width, depth, _ = asset.extents
    return math.sqrt(width * width + depth * depth) / 2


def stack(
    asset: AssetRecord, table: AssetRecord, support: Support, table_scale: float, *, fill: float, largest: float
) -> Stacking:
    """Stand `asset` on the supporting polygon of `table` (I-Scene, section 3.2).

    The object is centred on the polygon's anchor. Its bounding circle, and so the object at any yaw, stays within the
    distance from the anchor to the polygon's nearest edge.

    Parameters
    ----------
    asset, table : AssetRecord
    support : Support
        The table's supporting polygon.
    table_scale : float
        Factor from the table's units to metres.
    fill : float
        Radius of the object over the anchor's distance to the edge, in (0, 1].
    largest : float
        Upper bound of the object's largest extent, metres: a slim object would otherwise become a tower.
    """
    clearance = support.clearance * table_scale
    radius = half_diagonal(asset)
    tallest = largest / max(asset.extents)
    scale = min(fill * clearance / radius, tallest) if radius > 0 else tallest
    return Stacking(
        scale=scale,
        offset=(
            (support.anchor[0] - (table.bounds_min[0] + table.extents[0] / 2)) * table_scale,
            (support.anchor[1] - (table.bounds_min[1] + table.extents[1] / 2)) * table_scale,
        ),
        height=(support.height - table.bounds_min[2]) * table_scale,
    )
