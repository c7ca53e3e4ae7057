"""Putting an object on another: where it goes and how large it may be."""

from randscene.generator.placement import PlacedAsset
from randscene.generator.posture import Posture
from randscene.manifests.asset_record import AssetRecord


def stack(
    asset: AssetRecord,
    posture: Posture,
    turn: tuple[float, float],
    carrier: PlacedAsset,
    *,
    parent: int,
    fill: float,
    largest: float,
) -> PlacedAsset:
    """Stand `asset` on the supporting polygon of `carrier` (I-Scene, section 3.2).

    The object is centred on the polygon's anchor, its lowest vertex on the polygon's plane. Its bounding circle, and so
    the object at any yaw, stays within the distance from the anchor to the polygon's nearest edge.

    Parameters
    ----------
    asset : AssetRecord
    posture : Posture
    turn : (float, float)
        Cosine and sine of the object's yaw.
    carrier : PlacedAsset
        Upright, of an asset that has a support surface.
    parent : int
        Id of the carrier in the recipe, counted from 1.
    fill : float
        Radius of the object over the anchor's distance to the edge, in (0, 1].
    largest : float
        Upper bound of the object's largest extent, metres: a slim object would otherwise become a tower.
    """
    below = carrier.asset
    support = below.support
    if support is None:
        raise ValueError(f"{below.uid} cannot carry an object")
    tallest = largest / max(asset.extents)
    scale = min(fill * support.clearance * carrier.scale / posture.radius, tallest) if posture.radius > 0 else tallest
    x, y = carrier.turned(
        (support.anchor[0] - (below.bounds_min[0] + below.extents[0] / 2)) * carrier.scale,
        (support.anchor[1] - (below.bounds_min[1] + below.extents[1] / 2)) * carrier.scale,
    )
    return PlacedAsset(
        asset=asset,
        posture=posture,
        scale=scale,
        turn=turn,
        centre=(carrier.centre[0] + x, carrier.centre[1] + y),
        base=carrier.base + (support.height - below.bounds_min[2]) * carrier.scale,
        parent=parent,
    )
