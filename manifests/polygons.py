"""Polygons cut into triangles, concave ones included: the faces of Wavefront and PLY files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def triangulated(
    corners: NDArray[np.int64], counts: NDArray[np.int64], points: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Cut polygons into triangles, in their order.

    Quadrilaterals are cut along the diagonal that lies inside, the one from the first corner if both do, as Blender
    does. Larger polygons are cut from their first corner if convex, by ear clipping else.

    Parameters
    ----------
    corners : ndarray
        (C,) int64: the polygons' corners one after the other, as indices into `points`.
    counts : ndarray
        (P,) int64: number of corners of each polygon; those with fewer than three have no triangles.
    points : ndarray
        (V, 3).

    Returns
    -------
    ndarray
        (T, 3) int64, indices into `corners`.
    """
    starts = np.cumsum(counts) - counts
    pieces: list[NDArray[np.int64]] = []
    owners: list[NDArray[np.int64]] = []
    for count in np.unique(counts[counts >= 3]):
        of_kind = np.flatnonzero(counts == count)
        rows = starts[of_kind, None] + np.arange(count)
        if count == 3:
            cut = rows
        elif count == 4:
            cut = _quadrilaterals(rows, points[corners[rows]])
        else:
            cut = _larger(rows, points[corners[rows]])
        pieces.append(cut)
        owners.append(np.repeat(of_kind, count - 2))
    if not pieces:
        return np.empty((0, 3), np.int64)
    return np.concatenate(pieces)[np.argsort(np.concatenate(owners), kind="stable")]


def _quadrilaterals(rows: NDArray[np.int64], points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    diagonal = points[:, 2] - points[:, 0]
    first = np.cross(points[:, 1] - points[:, 0], diagonal)
    second = np.cross(diagonal, points[:, 3] - points[:, 0])
    folded = np.einsum("pi,pi->p", first, second) < 0
    inside = rows[:, [0, 1, 2, 0, 2, 3]]
    inside[folded] = rows[folded][:, [0, 1, 3, 1, 2, 3]]
    return inside.reshape(-1, 3)


def _larger(rows: NDArray[np.int64], points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    import mapbox_earcut

    count = rows.shape[1]
    points = points.astype(np.float64)
    following = np.roll(points, -1, axis=1)
    normals = np.cross(points - points[:, :1], following - points[:, :1]).sum(axis=1)
    turns = np.cross(following - points, np.roll(points, -2, axis=1) - following)
    convex = (np.einsum("pci,pi->pc", turns, normals) >= 0).all(axis=1)
    fan = np.array([(0, i, i + 1) for i in range(1, count - 1)])
    result = rows[:, fan]
    for index in np.flatnonzero(~convex):
        drop = np.argmax(np.abs(normals[index]))  # seen along the axis that the polygon faces most
        flat = points[index][:, [(1, 2), (2, 0), (0, 1)][drop]]
        ears = mapbox_earcut.triangulate_float64(flat, np.array([count], np.uint32)).astype(np.int64).reshape(-1, 3)
        if len(ears) != count - 2:
            continue  # it crosses itself; no cut is right
        first, second = flat[ears[:, 1]] - flat[ears[:, 0]], flat[ears[:, 2]] - flat[ears[:, 0]]
        if (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() * normals[index, drop] < 0:
            ears = ears[:, ::-1]
        result[index] = rows[index][ears]
    return result.reshape(-1, 3)
