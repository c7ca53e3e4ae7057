"""Regions of a mesh seen from above: its level surfaces, its horizontal slices, and the shadows of its triangles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import shapely

MANY_TRIANGLES = 2000
"""From here on the shadow of small triangles is made of cells: the exact union of foliage takes far longer."""
CELLS = (1 / 256, 1 / 64)
"""Sides of such cells: first the fine ones; then the coarse ones, if many triangles are too large for the fine ones."""
SMALL = 4
"""Largest width and depth, in cells, of a triangle whose shadow is made of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelPlane:
    """Level triangles of one height."""

    height: float
    """Of the highest of their corners."""
    triangles: NDArray[np.float64]
    """(K, 3, 3) float64."""


def level_planes(triangles: NDArray[np.float64], *, within: float, least_area: float) -> Iterator[LevelPlane]:
    """The level surfaces of a mesh, from the highest downwards.

    Parameters
    ----------
    triangles : numpy.ndarray
        (F, 3, 3) float64, Z up.
    within : float
        The corners of a plane's triangles differ in height by no more.
    least_area : float
        Planes whose triangles have less area, each counted, are passed over.

    Yields
    ------
    LevelPlane
        No triangle is in two of them.
    """
    z = triangles[:, :, 2]
    area = _area_from_above(triangles)
    level = np.flatnonzero((np.ptp(z, axis=1) <= within) & (area > 0))
    level = level[np.argsort(-z[level].max(axis=1), kind="stable")]
    heights = z[level].max(axis=1)
    total = np.concatenate(([0.0], np.cumsum(area[level])))
    ends = np.searchsorted(-heights, within - heights, side="right")
    done = 0
    for first in np.flatnonzero(total[ends] - total[:-1] >= least_area):
        if first < done:
            continue
        done = ends[first]
        chosen = level[first:done]
        chosen = chosen[z[chosen].min(axis=1) >= heights[first] - within]
        yield LevelPlane(height=float(heights[first]), triangles=triangles[chosen])


def union_from_above(triangles: NDArray[np.float64]) -> "shapely.Geometry":
    """Union of triangles seen from above; repeated ones and overlaps do no harm.

    Parameters
    ----------
    triangles : numpy.ndarray
        (K, 3, 3) float64. Quickest where triangles of one height meet along whole edges.
    """
    import shapely

    flat = triangles[:, :, :2]
    order = np.lexsort((flat[:, :, 1], flat[:, :, 0]), axis=1)
    corners = np.take_along_axis(flat, order[:, :, None], axis=1).reshape(-1, 6)
    rows = np.unique(np.concatenate((triangles[:, :, 2].max(axis=1)[:, None], corners), axis=1), axis=0)
    pieces = shapely.polygons(rows[:, [1, 2, 3, 4, 5, 6, 1, 2]].reshape(-1, 4, 2))
    whole = _joined(pieces)
    if whole is not None:
        return whole
    sheets = np.split(pieces, np.flatnonzero(np.diff(rows[:, 0])) + 1)
    joined = [_joined(sheet) or shapely.union_all(sheet) for sheet in sheets]
    return shapely.union_all(joined)


def slice_at(triangles: NDArray[np.float64], z: float) -> "shapely.Geometry | None":
    """Union of the closed polygons in which the plane at height `z` cuts triangles (F, 3, 3); None if there is none."""
    import shapely
    import trimesh

    height = triangles[:, :, 2]
    crossing = triangles[(height.min(axis=1) < z) & (height.max(axis=1) > z)]
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


def shadow(triangles: NDArray[np.float64], *, above: float = -np.inf) -> "shapely.Geometry":
    """What the parts of triangles above a height cover, seen from above; walls give lines.

    Parameters
    ----------
    triangles : numpy.ndarray
        (F, 3, 3) float64, of a mesh of about unit size.
    above : float
        Height; what lies at it or below has no shadow.

    Returns
    -------
    shapely.Geometry
        Never too small. With `MANY_TRIANGLES` or more, small ones count as the cells around them.
    """
    import shapely

    corners = _cut(triangles[triangles[:, :, 2].max(axis=1) > above], above)
    pieces: list[shapely.Geometry] = []
    for side in CELLS:
        if len(corners) >= MANY_TRIANGLES:
            first = np.floor(corners.min(axis=1) / side).astype(np.int64)
            last = np.floor(corners.max(axis=1) / side).astype(np.int64)
            small = (last - first < SMALL).all(axis=1)
            pieces.append(_cells(first[small], last[small], side))
            corners = corners[~small]
    # Hulls, not polygons: of a wall seen from above, a line remains.
    pieces.extend(shapely.convex_hull(shapely.linestrings(corners)))
    return shapely.union_all(pieces)


def _area_from_above(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    edges = triangles[:, 1:, :2] - triangles[:, :1, :2]
    area: NDArray[np.float64] = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
    return area


def _joined(pieces: NDArray[np.object_]) -> "shapely.Geometry | None":
    """Union of triangles that share whole edges; None if they overlap or meet in other ways."""
    import shapely

    try:
        union = shapely.coverage_union_all(pieces)
    except shapely.errors.GEOSException:
        return None
    if not shapely.is_valid(union) or not np.isclose(union.area, shapely.area(pieces).sum(), rtol=1e-9, atol=0):
        return None
    return union


def _cut(triangles: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    """(F, 6, 2) points whose convex hull is the part of each triangle (F, 3, 3) above `z`; each reaches above it."""
    height = triangles[:, :, 2]
    top = triangles[np.arange(len(triangles)), height.argmax(axis=1)]
    points = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        points.append(np.where((height[:, i] > z)[:, None], triangles[:, i], top))
        crosses = (height[:, i] > z) != (height[:, j] > z)
        rise = np.where(crosses, height[:, j] - height[:, i], 1.0)
        share = np.where(crosses, z - height[:, i], 0.0) / rise
        crossing = triangles[:, i] + share[:, None] * (triangles[:, j] - triangles[:, i])
        points.append(np.where(crosses[:, None], crossing, top))
    return np.stack(points, axis=1)[:, :, :2]


def _cells(first: NDArray[np.int64], last: NDArray[np.int64], side: float) -> "shapely.Geometry":
    """Union of the blocks of square cells from `first` to `last`, both (K, 2) and included."""
    import shapely

    if len(first) == 0:
        return shapely.Polygon()
    origin = first.min(axis=0)
    covered = np.zeros(last.max(axis=0) - origin + 2, np.int64)
    (left, front), (right, back) = (first - origin).T, (last - origin + 1).T
    for x, y, sign in ((left, front, 1), (right, back, 1), (left, back, -1), (right, front, -1)):
        np.add.at(covered, (x, y), sign)
    filled = covered.cumsum(axis=0).cumsum(axis=1) > 0
    edges = np.diff(np.pad(filled, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (row, begin), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    low = (origin + np.stack((row, begin), axis=1)) * side
    high = (origin + np.stack((row + 1, end), axis=1)) * side
    return shapely.union_all(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))
