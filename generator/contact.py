"""How an object stands: its gap to what carries it, its overhang over the supporting polygon, its footing."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.generator.collision import SurfacePair
from randscene.generator.collision_body import PlacedBody
from randscene.manifests.asset_record import Support

if TYPE_CHECKING:
    import shapely

LIFT = 0.01
"""How far above an object's lowest points its support is looked for, over the object's largest extent. What is sunk
deeper than this is a matter of penetration."""
_JITTER = 1e-5
"""Each ray has four neighbours this far away, over the object's largest extent: one may slip through along an edge."""
_MOST_RAYS = 4096
"""Of each kind. Where an object has more lowest points, evenly chosen ones stand for all."""
_EDGE_STEPS = 256
"""Points at which the edge of an overhang is measured, beside its corners."""
_AROUND = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float64)


def rest_gap(body: PlacedBody, parent: PlacedBody, tolerance: float) -> float:
    """Height of an object above the surface that carries it.

    Rays fall from the object's lowest points (those within `tolerance` of the lowest) onto the parent's surface, and
    rise from the parent's vertices below the object onto the object. What touches between the rays, as where two edges
    cross, is found by lowering the object by the tolerance: if the surfaces meet then, the gap is no larger.

    Parameters
    ----------
    body, parent : PlacedBody
    tolerance : float
        Metres.

    Returns
    -------
    float
        The smallest distance straight down, metres; negative where the object is sunk (seen up to `LIFT`), infinite
        where nothing lies below.
    """
    low = body.lowest
    lift = LIFT * body.size
    feet = body.vertices[body.vertices[:, 2] <= low + tolerance]
    gap = _drop(_some(feet), parent, body.size, down=True)
    column = np.array([[*body.bounds[0, :2], low - lift - tolerance], [*body.bounds[1, :2], low + lift]])
    bumps, _ = parent.triangles_in(column)
    bumps = bumps[((bumps >= column[0]) & (bumps <= column[1])).all(axis=1)]
    gap = min(gap, _drop(_some(bumps), body, body.size, down=False))
    if gap > tolerance and SurfacePair(body, parent, tolerance).meet(np.array([0.0, 0.0, -tolerance])):
        return tolerance
    return gap


def overhang(body: PlacedBody, parent: PlacedBody, support: Support) -> tuple[float, float]:
    """How far an object's outline leaves the supporting polygon that it stands on.

    The outline is the convex hull of the object seen along the normal of the parent's supporting plane. Holes of the
    polygon do not carry: an outline over one leaves the polygon too.

    Parameters
    ----------
    body, parent : PlacedBody
    support : Support
        The parent's, in its asset frame.

    Returns
    -------
    outside : float
        Distance from the polygon to the farthest point of the outline outside of it, metres; 0 when it lies inside.
    clearance : float
        Distance from the outline to the polygon's nearest edge, metres; 0 when it is not inside.
    """
    import shapely

    region = _region(support)
    outline = shapely.convex_hull(shapely.multipoints(parent.in_asset_frame(body.hull)[:, :2]))
    beyond = shapely.difference(outline, region)
    if shapely.is_empty(beyond):
        return 0.0, float(shapely.distance(outline, shapely.boundary(region))) * parent.scale
    # The farthest point lies on the edge of what is beyond, or inside where a hole is covered from edge to edge.
    edge = shapely.get_coordinates(shapely.segmentize(beyond, shapely.length(beyond) / _EDGE_STEPS or 1.0))
    outside = float(shapely.distance(shapely.points(edge), region).max())
    for part in shapely.get_parts(beyond):
        if part.geom_type == "Polygon" and part.area > 0:
            outside = max(outside, float(shapely.length(shapely.maximum_inscribed_circle(part))))
    return outside * parent.scale, 0.0


def support_margin(body: PlacedBody, tolerance: float) -> float:
    """How far inside its footing an object's centre of mass lies.

    Parameters
    ----------
    body : PlacedBody
    tolerance : float
        Metres; vertices within it of the lowest are the footing.

    Returns
    -------
    float
        Distance in metres, seen from above, from the centre of mass (of the surface) to the edge of the footing's
        convex hull. Negative outside: a rigid body would topple.
    """
    import shapely

    feet = body.vertices[body.vertices[:, 2] <= body.lowest + tolerance]
    footing = shapely.convex_hull(shapely.multipoints(feet[:, :2]))
    centre = shapely.Point((body.pose[:3, :3] @ body.body.centroid + body.pose[:3, 3])[:2])
    if footing.geom_type != "Polygon":
        return -float(shapely.distance(centre, footing))
    edge = float(shapely.distance(centre, shapely.boundary(footing)))
    return edge if shapely.covers(footing, centre) else -edge


@lru_cache(maxsize=4096)
def _region(support: Support) -> "shapely.Geometry":
    import shapely

    return shapely.make_valid(shapely.Polygon(support.polygon, support.holes))


def _some(points: NDArray[Any]) -> NDArray[Any]:
    return points[:: max(1, -(-len(points) // _MOST_RAYS))]


def _drop(points: NDArray[Any], onto: PlacedBody, size: float, *, down: bool) -> float:
    """Least signed distance from points (K, 3) straight down (or up) to the surface of `onto`; infinite if none is hit.

    Rays start `LIFT * size` behind the points, and what they hit there counts as negative.
    """
    if not len(points):
        return np.inf
    lift, jitter = LIFT * size, _JITTER * size
    sign = -1.0 if down else 1.0
    flat = points[:, :2]
    box = np.array([[*(flat.min(axis=0) - jitter), -np.inf], [*(flat.max(axis=0) + jitter), np.inf]])
    box[1 if down else 0, 2] = points[:, 2].max() + lift if down else points[:, 2].min() - lift
    vertices, faces = onto.triangles_in(box)
    if not len(faces):
        return np.inf
    origin = points.mean(axis=0)  # embree computes in single precision: keep the numbers small
    starts = np.repeat(points - origin - [0, 0, sign * lift], len(_AROUND), axis=0)
    starts[:, :2] += np.tile(jitter * _AROUND, (len(points), 1))
    directions = np.tile(np.array([[0, 0, sign]], np.float32), (len(starts), 1))
    hits = _embree((vertices - origin)[faces]).run(starts.astype(np.float32), directions, output=1)
    found = hits["primID"] >= 0
    return float(hits["tfar"][found].min() - lift) if found.any() else np.inf


def _embree(corners: NDArray[Any]) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene(_device(), robust=True)
    TriangleMesh(scene, np.ascontiguousarray(corners, np.float32))
    return scene


@lru_cache(maxsize=1)
def _device() -> Any:
    from embreex.rtcore import EmbreeDevice

    return EmbreeDevice()
