"""Support surfaces: which meshes have a top that can carry an object, found from geometry alone.

The mesh is sliced just below a level surface near its top (I-Scene, section 3.2). An object can stand where three
agree: the level faces, all of one height; the slice, which says where there is a body (a bare sheet has no closed
slice, and none is asked of it); and the sky, as nothing may rise above the plane there. `docs/assets.md` says how well
this does.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.asset_mesh import AssetMesh
from randscene.manifests.asset_record import Support
from randscene.manifests.level_region import level_planes, shadow, slice_at, union_from_above

if TYPE_CHECKING:
    import shapely

# Lengths without another word are in units of the mesh's largest extent.
LEVEL = 1e-5
"""How far the faces of a plane may differ in height. The smallest object that is stacked is some 0.02 large, and what
floats or sinks by a thousandth of its size is noticed."""
FLUSH = 1e-6
"""How far something may rise above the plane without being in the way: rounding of 32-bit coordinates."""
MARGIN = 1e-4
"""The polygon keeps this distance, or a little less, from the edges of what can carry."""
CLEAR = 2e-3
"""How far it keeps from what rises above the plane."""
SEAMS = (2e-5, 2e-3)
"""Gaps up to the first width are closed: parts that do not quite meet. Gaps up to the second, as between planks, only
where nothing carries otherwise: the lowest point of an object may come to lie over one."""
SLICE_DEPTH = 0.004
"""How far below the plane the mesh is sliced, over the mesh's height."""
TOP_OF_HEIGHT = 0.96
"""A plane at least so high, over the mesh's height, is the mesh's top."""
SHARE_OF_TOP = 0.75
"""Least area of what can carry, over the area that the mesh covers seen from above, of a top: no lids, no bumpers."""
UNDER_THINGS = 0.6
"""Least height of other planes, over the mesh's height: a desk may have a lamp on it, a chair has its back."""
SHARE_UNDER_THINGS = 0.8
"""The same as `SHARE_OF_TOP` where something rises above the plane."""
HEIGHT_OF_REACH = (0.18, 1.6)
"""Range of the plane's height over the mesh's longest horizontal side: no rugs, no towers."""
CLEARANCE_OF_HEIGHT = 0.25
"""Least clearance over the plane's height: the free circle is at least half as wide as the plane is high. No walls, no
railings, nothing covered with things; and what is stacked is large enough to be seen."""
CENTROID_OF_BEST = 0.7
"""The centroid is the anchor if its clearance is at least this share of the most interior point's."""
DECIMALS = 9
"""The result is rounded to this many decimals of the mesh's largest extent."""
_SNAP = 2.0**30
"""Coordinates are rounded to multiples of 1 / _SNAP first: what differs in the last bits between machines, or between
faces that share a corner, then differs no more."""


def find_support(mesh: AssetMesh) -> Support | None:
    """The top polygon of a mesh that can carry objects, or None.

    From every point of the polygon, holes left out, the mesh lies `LEVEL` or less below `height`, and nothing lies
    above; only over a gap that counts as closed (`SEAMS`) it may lie deeper.

    Parameters
    ----------
    mesh : AssetMesh
        Z up, own units. It need not be watertight, in one part, or consistently oriented.

    Returns
    -------
    Support or None
        In the mesh's frame and units, rounded to about 1e-9 of its largest extent; `clearance` is rounded down. Where
        the top is in several parts, the polygon is the roomiest one.
    """
    lower, upper = mesh.bounds
    unit = float((upper - lower).max())
    reach = float((upper - lower)[:2].max()) / unit
    if reach == 0:
        return None
    origin = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, lower[2]])
    vertices = np.round((mesh.vertices - origin) / unit * _SNAP) / _SNAP
    found = _best_plane(vertices[mesh.faces], reach)
    return None if found is None else _in_own_units(*found, origin, unit)


def _best_plane(triangles: NDArray[np.float64], reach: float) -> "tuple[float, shapely.Polygon] | None":
    """Height and polygon of the highest plane that can carry."""
    import shapely

    height = float(triangles[:, :, 2].max())
    footprint = float(shapely.convex_hull(shapely.linestrings(triangles[:, :, :2].reshape(-1, 2))).area)
    exact = False
    for plane in level_planes(triangles, within=LEVEL, least_area=SHARE_OF_TOP / 2 * footprint):
        if plane.height < UNDER_THINGS * height:
            break
        if not HEIGHT_OF_REACH[0] <= plane.height / reach <= HEIGHT_OF_REACH[1]:
            continue
        share = SHARE_OF_TOP if plane.height >= TOP_OF_HEIGHT * height else SHARE_UNDER_THINGS
        level = union_from_above(plane.triangles)
        if level.area < math.pi * (CLEARANCE_OF_HEIGHT * plane.height) ** 2:
            continue
        if level.area < share * footprint and not exact:
            # Only an L or a U covers much less than its convex hull, which is quicker to find.
            footprint, exact = shadow(triangles).area, True
        if level.area < share * footprint:
            continue
        body = slice_at(triangles, plane.height - SLICE_DEPTH * height)
        above = shadow(triangles, above=plane.height + FLUSH)
        for seam in SEAMS:
            region = _carrying(level, body, above, seam)
            if region.area < share * footprint:
                continue
            # The margin is not held against tops of round proportions.
            polygon = _roomiest(region, CLEARANCE_OF_HEIGHT * plane.height - 2 * MARGIN)
            if polygon is not None:
                return plane.height, polygon
    return None


def _carrying(
    level: "shapely.Geometry", body: "shapely.Geometry | None", above: "shapely.Geometry", seam: float
) -> "shapely.Geometry":
    """Where objects can stand: level, with a body below, under the open sky; kept clear of all edges."""
    # GEOS divides by zero on the way, which does no harm.
    with np.errstate(divide="ignore", invalid="ignore"):
        region = level.buffer(seam / 2, join_style="mitre").buffer(-seam / 2, join_style="mitre")
        if body is not None:
            common = region.intersection(body.buffer(seam / 2, join_style="mitre"))
            if common.area >= level.area / 2:
                region = common
        if not above.is_empty:
            region = region.difference(above.buffer(CLEAR, quad_segs=2))
        # Fewer points, and still inside: simplifying moves edges by less than the margin.
        return region.buffer(-MARGIN, join_style="mitre").simplify(MARGIN / 2)


def _roomiest(region: "shapely.Geometry", least: float) -> "shapely.Polygon | None":
    """The part of a region with room for the largest disc; None if that has a radius below `least`."""
    import shapely

    best, widest = None, least
    for part in shapely.get_parts(region):
        if part.geom_type != "Polygon" or part.area < math.pi * widest**2:
            continue
        radius = _anchor(part)[1]
        if radius >= widest:
            best, widest = part, radius
    return best


def _anchor(polygon: "shapely.Polygon") -> "tuple[shapely.Point, float]":
    """Where an object is put, and the distance from there to the nearest edge."""
    import shapely

    edge = shapely.boundary(polygon)
    radius = shapely.maximum_inscribed_circle(polygon)  # a line from the centre to the nearest edge
    best = shapely.Point(radius.coords[0])
    centroid = shapely.centroid(polygon)
    room = float(shapely.distance(centroid, edge)) if shapely.contains(polygon, centroid) else 0.0
    if room >= CENTROID_OF_BEST * shapely.distance(best, edge):
        return centroid, room
    return best, float(shapely.distance(best, edge))


def _in_own_units(height: float, polygon: "shapely.Polygon", origin: NDArray[np.float64], unit: float) -> Support:
    import shapely

    decimals = DECIMALS - math.floor(math.log10(unit))

    def rounded(points: "shapely.Geometry") -> list[tuple[float, float]]:
        coordinates = shapely.get_coordinates(points) * unit + origin[:2]
        return [(round(x, decimals) + 0.0, round(y, decimals) + 0.0) for x, y in coordinates.tolist()]

    polygon = shapely.geometry.polygon.orient(polygon)
    outer = rounded(polygon.exterior)[:-1]
    holes = tuple(tuple(rounded(hole)[:-1]) for hole in polygon.interiors)
    anchor = rounded(_anchor(polygon)[0])[0]
    # Measured on what is stored, so that it holds for what is stored.
    shift = np.array(anchor)
    stored = shapely.Polygon(np.array(outer) - shift, [np.array(hole) - shift for hole in holes])
    clearance = float(shapely.distance(shapely.Point(0, 0), shapely.boundary(stored)))
    quantum = 10.0**-decimals
    return Support(
        height=round(height * unit + float(origin[2]), decimals) + 0.0,
        area=round(float(stored.area), decimals - math.floor(math.log10(unit))) + 0.0,
        clearance=round((math.floor(clearance / quantum) - 1) * quantum, decimals),
        anchor=anchor,
        polygon=tuple(outer),
        holes=holes,
    )
