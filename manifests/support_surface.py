"""Support surfaces: which meshes have a top that can carry an object, found from geometry alone.

The mesh is sliced just below its top (I-Scene, section 3.2). Two things must agree: the polygons of the slice, which
say where there is a body, and the level faces at the top, which say where there is something to stand on. Meshes whose
top is a bare sheet have no closed slice; there the level faces alone decide.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.asset_mesh import AssetMesh
from randscene.manifests.asset_record import Support

if TYPE_CHECKING:
    import shapely

LEVEL_NORMAL = 0.985
"""Least |z| of the unit normal of a level face: 10 degrees."""
LEVEL_DEPTH = 0.012
"""How far below the highest level face another may lie and still belong to the top, over the mesh's height."""
SLICE_DEPTH = 0.004
"""How far below the top the mesh is sliced, over the mesh's height."""
TOP_OF_HEIGHT = 0.96
"""Least height of the supporting plane, over the mesh's height: nothing large may rise above it."""
SHARE_OF_FOOTPRINT = 0.5
"""Least area of the polygon, over the area of the convex hull of the mesh seen from above."""
HEIGHT_OF_REACH = (0.18, 1.6)
"""Range of the mesh's height over its longest horizontal side: no rugs, no towers."""
CLEARANCE_OF_HEIGHT = 0.2
"""Least clearance over the mesh's height: no walls, no railings."""
CENTROID_OF_BEST = 0.7
"""The centroid is the anchor if its clearance is at least this share of the most interior point's."""
_SEAM = 0.006
"""Gaps up to this width, over the largest extent, are closed: planks, inlays, coincident edges."""


def find_support(mesh: AssetMesh) -> Support | None:
    """The top polygon of a mesh that can carry objects, or None.

    Parameters
    ----------
    mesh : AssetMesh
        Z up, own units. It need not be watertight, in one part, or consistently oriented.

    Returns
    -------
    Support or None
        In the mesh's frame and units. `area` and `clearance` count holes of the polygon out; `polygon` is its outer
        ring, and the largest part's where the top has several.
    """
    lower, upper = mesh.bounds
    size = upper - lower
    unit = float(size.max())
    height = float(size[2]) / unit
    reach = float(size[:2].max()) / unit
    if reach == 0 or not HEIGHT_OF_REACH[0] <= height / reach <= HEIGHT_OF_REACH[1]:
        return None
    origin = np.array([(lower[0] + upper[0]) / 2, (lower[1] + upper[1]) / 2, lower[2]])
    vertices = (mesh.vertices - origin) / unit
    triangles = vertices[mesh.faces]
    footprint = _hull_area(vertices[:, :2])
    level = _top_level(triangles, height, SHARE_OF_FOOTPRINT * footprint)
    if level is None:
        return None
    plane, flat = level
    region = _top_region(triangles, flat, plane, height)
    if region is None or region.area < SHARE_OF_FOOTPRINT * footprint:
        return None
    anchor, clearance = _anchor(region)
    if clearance < CLEARANCE_OF_HEIGHT * height:
        return None
    ring = np.asarray(region.exterior.coords)[:-1]
    x, y = origin[:2]
    return Support(
        height=float(plane * unit + lower[2]),
        area=float(region.area * unit**2),
        clearance=float(clearance * unit),
        anchor=(float(anchor[0] * unit + x), float(anchor[1] * unit + y)),
        polygon=tuple((float(px * unit + x), float(py * unit + y)) for px, py in ring),
        holes=tuple(
            tuple((float(px * unit + x), float(py * unit + y)) for px, py in np.asarray(hole.coords)[:-1])
            for hole in region.interiors
        ),
    )


def _hull_area(points: NDArray[np.float64]) -> float:
    import shapely

    return float(shapely.convex_hull(shapely.multipoints(points)).area)


def _top_level(
    triangles: NDArray[np.float64], height: float, least_area: float
) -> tuple[float, NDArray[np.float64]] | None:
    """Height of the top plane and the level triangles at it, (K, 3, 2); None if there is no wide level top."""
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(cross, axis=1)
    level = (np.abs(cross[:, 2]) >= LEVEL_NORMAL * length) & (length > 0)
    high = triangles[:, :, 2].min(axis=1) >= (TOP_OF_HEIGHT - LEVEL_DEPTH) * height
    chosen = np.flatnonzero(level & high)
    if len(chosen) == 0:
        return None
    heights = triangles[chosen, :, 2].mean(axis=1)
    areas = np.abs(cross[chosen, 2]) / 2
    order = np.argsort(-heights, kind="stable")
    heights, areas, chosen = heights[order], areas[order], chosen[order]
    total = np.concatenate(([0.0], np.cumsum(areas)))
    ends = np.searchsorted(-heights, -heights + LEVEL_DEPTH * height, side="right")
    wide = np.flatnonzero(total[ends] - total[:-1] >= 0.9 * least_area)
    if len(wide) == 0 or heights[wide[0]] < TOP_OF_HEIGHT * height:
        return None
    window = slice(wide[0], ends[wide[0]])
    # The median by area: a small raised trim does not lift the plane on which things stand.
    covered = np.cumsum(areas[window])
    plane = heights[window][np.searchsorted(covered, covered[-1] / 2)]
    return float(plane), triangles[chosen[window]][:, :, :2]


def _top_region(
    triangles: NDArray[np.float64], flat: NDArray[np.float64], plane: float, height: float
) -> "shapely.Polygon | None":
    """The largest polygon that is level and, where the slice is closed, has a body below."""
    import shapely

    seam = _SEAM / 2
    rings = np.concatenate((flat, flat[:, :1]), axis=1)
    pieces = shapely.make_valid(shapely.polygons(rings))
    level = shapely.union_all(pieces, grid_size=1e-6)
    level = level.buffer(seam, join_style="mitre").buffer(-seam, join_style="mitre")
    body = _slice(triangles, plane - SLICE_DEPTH * height)
    region = level
    if body is not None:
        common = level.intersection(body.buffer(seam, join_style="mitre"))
        if common.area >= 0.5 * level.area:
            region = common
    parts = [part for part in shapely.get_parts(region) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        return None
    largest = max(parts, key=lambda part: part.area).simplify(_SEAM / 4)
    return shapely.geometry.polygon.orient(largest)


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
    """Where an object is put, and the distance from there to the nearest edge."""
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
