"""Support surfaces: which meshes have a top that can carry an object, found from geometry alone.

The mesh is sliced just below its top (I-Scene, section 3.2). What is kept of the slice is where an object really finds
ground and room: the faces at one exact level, with a body below where the mesh is closed there, and nothing above. So a
stacked object neither floats over an uneven top nor stands in a rim, a trim or a thing that is part of the mesh.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.asset_mesh import AssetMesh
from randscene.manifests.asset_record import Support

if TYPE_CHECKING:
    import shapely

LEVEL_NORMAL = 0.985
"""Least |z| of the unit normal of a level face: 10 degrees. Small faces of an even top may be off by rounding."""
LEVEL = 4e-5
"""How far apart in height faces of one level may be, over the largest extent: a thousandth of the smallest objects."""
TOP_OF_HEIGHT = 0.96
"""Where the plane is at least so high, over the mesh's height, it is the top: then `SHARE_OF_TOP` is enough."""
SHARE_OF_TOP = 0.5
"""Least area of the polygon, over the area of the convex hull of the mesh seen from above, of a top."""
SHARE_BELOW = 0.8
"""The same where something rises above the plane: a desk with a lamp carries, a chair with its back does not."""
HEIGHT_OF_REACH = (0.18, 1.6)
"""Range of the plane's height over the mesh's longest horizontal side: no rugs, no towers."""
CLEARANCE_OF_HEIGHT = 0.2
"""Least clearance over the plane's height: no walls, no railings."""
CENTROID_OF_BEST = 0.7
"""The centroid is the anchor if its clearance is at least this share of the most interior point's."""
SEAM = 0.002
"""Gaps up to this width, over the largest extent, are closed: planks, inlays, coincident edges."""
CLEAR = 0.002
"""How far an object keeps from what rises above the plane, over the largest extent."""
SLICE_DEPTH = 0.004
"""How far below the plane the mesh is sliced, over the largest extent."""
MANY = 20_000
"""More outlines above the plane than that are taken by their convex hull."""


def find_support(mesh: AssetMesh) -> Support | None:
    """The top polygon of a mesh that can carry objects, or None.

    Levels are tried from the highest down, those of enough area; the first whose polygon has enough area, height and
    clearance is taken (see the constants of this module).

    Parameters
    ----------
    mesh : AssetMesh
        Z up, own units. It need not be watertight, in one part, or consistently oriented.

    Returns
    -------
    Support or None
        In the mesh's frame and units. The polygon is the largest part's where the top has several; its holes are
        openings and what rises above the plane. `clearance` is rounded down, the other lengths to a billionth of the
        largest extent.
    """
    lower, upper = mesh.bounds
    size = upper - lower
    unit = float(size.max())
    height, reach = float(size[2]) / unit, float(size[:2].max()) / unit
    if reach == 0 or height < HEIGHT_OF_REACH[0] * reach:
        return None
    origin = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, lower[2]])
    triangles = ((mesh.vertices - origin) / unit)[mesh.faces]
    footprint = _hull_area(triangles.reshape(-1, 3)[:, :2])
    overhead = _Overhead(triangles)
    for plane, flat in _levels(triangles, SHARE_OF_TOP * footprint):
        if not HEIGHT_OF_REACH[0] * reach <= plane <= HEIGHT_OF_REACH[1] * reach:
            continue
        share = SHARE_OF_TOP if plane >= TOP_OF_HEIGHT * height else SHARE_BELOW
        above = overhead.over(plane)
        if above is not None and above.area > (1 - SHARE_OF_TOP) * footprint * 1.1:
            return None  # what is over this level is over all lower ones
        region = _region(triangles, flat, plane, above, share * footprint)
        if region is None:
            continue
        anchor, clearance = _anchor(region)
        if clearance >= CLEARANCE_OF_HEIGHT * plane:
            return _support(region, plane, anchor, clearance, unit, origin)
    return None


def _support(
    region: "shapely.Polygon",
    plane: float,
    anchor: tuple[float, float],
    clearance: float,
    unit: float,
    origin: NDArray[np.float64],
) -> Support:
    # Last bits differ between machines; they must not reach a lock.
    decimals = 9 - math.floor(math.log10(unit))

    def place(point: NDArray[np.float64] | tuple[float, float]) -> tuple[float, float]:
        return (
            round(float(point[0] * unit + origin[0]), decimals) + 0.0,
            round(float(point[1] * unit + origin[1]), decimals) + 0.0,
        )

    def ring(line: "shapely.LinearRing") -> tuple[tuple[float, float], ...]:
        return tuple(place(point) for point in np.asarray(line.coords)[:-1])

    return Support(
        height=round(plane * unit + float(origin[2]), decimals) + 0.0,
        area=round(region.area * unit**2, 2 * decimals),
        clearance=max(0.0, round(clearance * unit - 2 * 10.0**-decimals, decimals)),
        anchor=place(anchor),
        polygon=ring(region.exterior),
        holes=tuple(ring(hole) for hole in region.interiors),
    )


def _hull_area(points: NDArray[np.float64]) -> float:
    import shapely

    return float(shapely.convex_hull(shapely.multipoints(points)).area)


def _levels(triangles: NDArray[np.float64], least_area: float) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Heights with enough level faces, from the highest down, and those faces, (K, 3, 2)."""
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(cross, axis=1)
    low, high = triangles[:, :, 2].min(axis=1), triangles[:, :, 2].max(axis=1)
    chosen = np.flatnonzero((np.abs(cross[:, 2]) >= LEVEL_NORMAL * length) & (length > 0) & (high - low <= LEVEL))
    chosen = chosen[np.argsort(-high[chosen], kind="stable")]
    tops, areas = high[chosen], np.abs(cross[chosen, 2]) / 2
    total = np.concatenate(([0.0], np.cumsum(areas)))
    # From each height on down as far as a level goes; a face must lie in it as a whole.
    ends = np.searchsorted(-tops, -tops + LEVEL, side="right")
    wide = total[ends] - total[:-1] >= least_area
    start = 0
    while start < len(chosen):
        if wide[start]:
            window = chosen[start : ends[start]]
            yield float(tops[start]), triangles[window][:, :, :2]
            start = int(ends[start])
        else:
            start += 1


def _region(
    triangles: NDArray[np.float64],
    flat: NDArray[np.float64],
    plane: float,
    above: "shapely.Geometry | None",
    least_area: float,
) -> "shapely.Polygon | None":
    """The largest polygon that is level, has a body below where the slice is closed, and nothing above."""
    import shapely

    seam = SEAM / 2
    region = _union(flat)
    region = region.buffer(seam, join_style="mitre").buffer(-seam, join_style="mitre")
    if region.area < least_area:
        return None
    body = _slice(triangles, plane - SLICE_DEPTH)
    if body is not None:
        common = region.intersection(body.buffer(seam, join_style="mitre"))
        if common.area >= 0.5 * region.area:
            region = common
    if above is not None:
        region = region.difference(above)
    parts = [part for part in shapely.get_parts(region) if part.geom_type == "Polygon"]
    largest = max(parts, key=lambda part: part.area, default=None)
    if largest is None or largest.area < least_area:
        return None
    # Points on straight edges go; what that moves is far below a millionth of the anchor's clearance.
    largest = shapely.simplify(largest, 1e-7)
    return shapely.geometry.polygon.orient(largest)


def _union(triangles: NDArray[np.float64]) -> "shapely.Geometry":
    """Union of triangles (K, 3, 2): quickly where they only meet at their edges, by overlay where they overlap."""
    import shapely

    rounded = _distinct(np.round(triangles, 7))
    pieces = shapely.polygons(np.concatenate((rounded, rounded[:, :1]), axis=1))
    pieces = pieces[shapely.area(pieces) > 0]
    quick = _coverage(pieces) if len(pieces) > 100 else None
    if quick is not None:
        return quick
    return shapely.union_all(pieces, grid_size=1e-7)


def _distinct(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangles (K, 3, 2) without repetitions, whatever corner they begin with."""
    order = np.lexsort((triangles[:, :, 1], triangles[:, :, 0]), axis=1)
    return np.unique(np.take_along_axis(triangles, order[:, :, None], axis=1), axis=0)


def _coverage(pieces: NDArray[np.object_]) -> "shapely.Geometry | None":
    """Union of polygons that only meet along whole edges; None if they do not."""
    import shapely

    try:
        union = shapely.coverage_union_all(pieces)
    except shapely.GEOSException:  # they meet otherwise
        return None
    # Polygons that overlap have a union of another area than their sum, or an invalid one.
    whole = shapely.is_valid(union) and math.isclose(union.area, shapely.area(pieces).sum(), rel_tol=1e-6)
    return union if whole else None


class _Overhead:
    """What rises above one plane after another, from the highest down, seen from above and widened by `CLEAR`."""

    def __init__(self, triangles: NDArray[np.float64]) -> None:
        tops = triangles[:, :, 2].max(axis=1)
        order = np.argsort(-tops, kind="stable")
        self._tops = tops[order]
        # Many faces of an upright thing have the same outline; what rounding moves is made good by widening.
        self._grid = CLEAR / 4
        self._outlines = np.round(triangles[order][:, :, :2] / self._grid) * self._grid
        self._seen = 0
        self._union: shapely.Geometry | None = None

    def over(self, plane: float) -> "shapely.Geometry | None":
        """What rises above `plane`, which must not be higher than the one asked for before; None if nothing does."""
        import shapely

        rising = int(np.searchsorted(-self._tops, -(plane + LEVEL), side="left"))
        if rising > self._seen:
            outlines = _distinct(self._outlines[self._seen : rising])
            if len(outlines) > MANY:
                hulls = np.array([shapely.convex_hull(shapely.multipoints(outlines.reshape(-1, 2)))])
            else:  # as hulls of their corners, since a wall has no area of its own
                hulls = shapely.convex_hull(shapely.multipoints(outlines))
            widened = shapely.buffer(hulls, CLEAR + self._grid, quad_segs=2)
            self._union = shapely.union_all([*widened, *([self._union] if self._union is not None else [])])
            self._seen = rising
        return self._union


def _slice(triangles: NDArray[np.float64], z: float) -> "shapely.Geometry | None":
    """Union of the closed polygons in which a horizontal plane cuts the triangles; None if there are none."""
    import shapely
    import trimesh

    crossing = triangles[(triangles[:, :, 2].min(axis=1) < z) & (triangles[:, :, 2].max(axis=1) > z)]
    if len(crossing) == 0:
        return None
    soup = trimesh.Trimesh(
        vertices=crossing.reshape(-1, 3), faces=np.arange(len(crossing) * 3).reshape(-1, 3), process=False
    )
    segments = trimesh.intersections.mesh_plane(soup, plane_normal=(0, 0, 1), plane_origin=(0, 0, z))
    if len(segments) == 0:
        return None
    lines = shapely.union_all(shapely.linestrings(segments[:, :, :2]), grid_size=1e-6)
    polygons = shapely.get_parts(shapely.polygonize([lines]))
    return shapely.union_all(polygons) if len(polygons) else None


def _anchor(region: "shapely.Polygon") -> tuple[tuple[float, float], float]:
    """Where an object is put, and the distance from there to the nearest edge, of holes too."""
    import shapely

    edge = shapely.boundary(region)
    centroid = shapely.centroid(region)
    radius = shapely.maximum_inscribed_circle(region)  # a line from the centre to the nearest edge
    best = shapely.Point(radius.coords[0])
    chosen = best
    if shapely.contains(region, centroid):
        near = shapely.distance(centroid, edge)
        if near >= CENTROID_OF_BEST * shapely.distance(best, edge):
            chosen = centroid
    return (chosen.x, chosen.y), float(shapely.distance(chosen, edge))
