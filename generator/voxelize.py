"""Surface voxels of a mesh in the unit cube: an exact triangle/box overlap test, compiled."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from randscene.errors import AssetError

ROUNDING = 1e-6
"""Vertices are clamped to +-(0.5 - ROUNDING): for those that normalisation left a rounding error outside the cube."""


def voxelize(vertices: np.ndarray, faces: np.ndarray, resolution: int = 64) -> np.ndarray:
    """Voxels of the cube [-0.5, 0.5]^3 that a mesh's surface touches.

    Agrees with TRELLIS, which uses Open3D's `create_from_triangle_mesh_within_bounds` (`dataset_toolkits/voxelize.py`):
    vertices are clamped to the cube, voxels are closed boxes, and a face that lies exactly between two layers of
    voxels belongs to the upper one. The surface alone, never filled; normalise into the cube first, since clamping
    bends what sticks out.

    Parameters
    ----------
    vertices : numpy.ndarray
        (P, 3) float, cube frame.
    faces : numpy.ndarray
        (F, 3) integer indices into `vertices`. Points and lines (faces without area) count too.
    resolution : int
        Voxels a side, at most 256. Voxel i spans [i / resolution - 0.5, (i + 1) / resolution - 0.5].

    Returns
    -------
    numpy.ndarray
        (V, 3) uint8, (x, y, z), sorted lexicographically; (0, 3) when there are no faces.

    Raises
    ------
    AssetError
        If a vertex is not finite or a face names a vertex that does not exist.
    ValueError
        If the resolution is not between 1 and 256.
    """
    if not 1 <= resolution <= 256:
        raise ValueError(f"voxelize: the resolution must lie between 1 and 256, not {resolution}")
    points = np.ascontiguousarray(vertices, np.float64).reshape(-1, 3)
    corners = np.ascontiguousarray(faces, np.int64).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise AssetError("non_finite", "a mesh has vertices that are not finite; drop the asset")
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(points):
        raise AssetError("bad_index", "a mesh has faces that name vertices it does not have; drop the asset")
    occupied = np.zeros((resolution, resolution, resolution), np.bool_)
    _compiled()(np.clip(points, ROUNDING - 0.5, 0.5 - ROUNDING), corners, occupied)
    index = np.flatnonzero(occupied)
    coords = np.empty((len(index), 3), np.uint8)
    rest, coords[:, 2] = np.divmod(index, resolution)
    coords[:, 0], coords[:, 1] = np.divmod(rest, resolution)
    return coords


def voxelize_instances(
    meshes: Sequence[tuple[np.ndarray, np.ndarray]], resolution: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of each instance of a scene, one after the other.

    Parameters
    ----------
    meshes : sequence of (vertices, faces)
        N meshes as `voxelize` takes them, all in the scene's view-centric cube.
    resolution : int

    Returns
    -------
    coords : numpy.ndarray
        (V, 3) uint8.
    offsets : numpy.ndarray
        (N + 1,) int32; instance i (1-based) has `coords[offsets[i - 1]:offsets[i]]`.
    """
    parts = [voxelize(vertices, faces, resolution) for vertices, faces in meshes]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
    return np.concatenate([np.empty((0, 3), np.uint8), *parts]), offsets


@functools.cache
def _compiled() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    # Imported at first use: it takes a while, and a reader of datasets never needs it.
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(_mark)
    except RuntimeError:
        # Numba finds no folder for its cache (a read-only installation without a home): compile in every process.
        return numba.njit(**options)(_mark)


def _mark(vertices: np.ndarray, faces: np.ndarray, occupied: np.ndarray) -> None:
    """Mark every voxel that a triangle overlaps: separating axes of a triangle and a box, both closed.

    The box's own three axes are settled by the range of voxels looked at: from the voxel that holds the triangle's
    least coordinate to the one that holds its greatest. That range is what gives a face between two layers to the
    upper one. Left are the triangle's normal and the nine products of an axis with an edge.
    """
    resolution = occupied.shape[0]
    half = 0.5 / resolution
    a, b = np.empty((3, 3)), np.empty((10, 3))
    low, high = np.empty(10), np.empty(10)
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    for face in range(len(faces)):
        for corner in range(3):
            for axis in range(3):
                a[corner, axis] = vertices[faces[face, corner], axis]
        for axis in range(3):
            least = min(a[0, axis], a[1, axis], a[2, axis])
            most = max(a[0, axis], a[1, axis], a[2, axis])
            first[axis] = min(max(int(np.floor((least + 0.5) * resolution)), 0), resolution - 1)
            last[axis] = min(max(int(np.floor((most + 0.5) * resolution)), 0), resolution - 1)
        if first[0] == last[0] and first[1] == last[1] and first[2] == last[2]:
            occupied[first[0], first[1], first[2]] = True
            continue
        for corner in range(3):
            after = (corner + 1) % 3
            x, y, z = a[after, 0] - a[corner, 0], a[after, 1] - a[corner, 1], a[after, 2] - a[corner, 2]
            b[3 * corner, 0], b[3 * corner, 1], b[3 * corner, 2] = 0.0, -z, y
            b[3 * corner + 1, 0], b[3 * corner + 1, 1], b[3 * corner + 1, 2] = z, 0.0, -x
            b[3 * corner + 2, 0], b[3 * corner + 2, 1], b[3 * corner + 2, 2] = -y, x, 0.0
        for axis in range(3):
            p, q = (axis + 1) % 3, (axis + 2) % 3
            b[9, axis] = (a[1, p] - a[0, p]) * (a[2, q] - a[0, q]) - (a[1, q] - a[0, q]) * (a[2, p] - a[0, p])
        for k in range(10):
            d0 = b[k, 0] * a[0, 0] + b[k, 1] * a[0, 1] + b[k, 2] * a[0, 2]
            d1 = b[k, 0] * a[1, 0] + b[k, 1] * a[1, 1] + b[k, 2] * a[1, 2]
            d2 = b[k, 0] * a[2, 0] + b[k, 1] * a[2, 1] + b[k, 2] * a[2, 2]
            reach = half * (abs(b[k, 0]) + abs(b[k, 1]) + abs(b[k, 2]))
            # The interval of box centres whose projection overlaps the triangle's.
            low[k] = min(d0, d1, d2) - reach
            high[k] = max(d0, d1, d2) + reach
        for i in range(first[0], last[0] + 1):
            x = (i + 0.5) / resolution - 0.5
            for j in range(first[1], last[1] + 1):
                y = (j + 0.5) / resolution - 0.5
                for k in range(first[2], last[2] + 1):
                    if occupied[i, j, k]:
                        continue
                    z = (k + 0.5) / resolution - 0.5
                    apart = False
                    for axis in range(9, -1, -1):
                        centre = b[axis, 0] * x + b[axis, 1] * y + b[axis, 2] * z
                        if centre < low[axis] or centre > high[axis]:
                            apart = True
                            break
                    if not apart:
                        occupied[i, j, k] = True
