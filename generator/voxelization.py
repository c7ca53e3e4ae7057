"""Surface voxels of meshes in the unit cube: an exact triangle/box overlap test, compiled.

A scene is voxelised once for every view, turned and scaled anew each time. What its views share is settled once, in
`SceneVoxelizer`: checks, memory layout, scratch space. Per view there is one pass over the vertices, which finds each
one's voxel, and one over the triangles. At this resolution most triangles lie in a single voxel or in a straight row of
them, and are done there; only the others are tested against the boxes around them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.errors import AssetError

BOUND = 0.5 - 1e-6
"""Vertices are clamped to +-BOUND: for those that normalisation left a rounding error outside the cube."""


def voxelize(vertices: NDArray[Any], faces: NDArray[Any], resolution: int = 64) -> NDArray[Any]:
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
    return SceneVoxelizer([(vertices, faces)], resolution).view(np.eye(4))[0]


class SceneVoxelizer:
    """Voxels of each instance of a scene, for any number of views.

    Parameters
    ----------
    meshes : sequence of (vertices, faces)
        N meshes as `voxelize` takes them, but in any one frame that `view` maps to the cube, such as the world.
    resolution : int

    Raises
    ------
    AssetError, ValueError
        As `voxelize`.
    """

    def __init__(self, meshes: Sequence[tuple[NDArray[Any], NDArray[Any]]], resolution: int = 64) -> None:
        if not 1 <= resolution <= 256:
            raise ValueError(f"voxelize: the resolution must lie between 1 and 256, not {resolution}")
        self._meshes = [_checked(vertices, faces) for vertices, faces in meshes]
        most = max((len(points) for points, _ in self._meshes), default=0)
        self._points = np.empty((most, 3), np.float64)
        self._cells = np.empty(most, np.int32)
        self._occupied = np.zeros((resolution, resolution, resolution), np.bool_)

    def view(self, transform: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Voxels of all instances in one view.

        Parameters
        ----------
        transform : numpy.ndarray
            (4, 4) affine, from the meshes' frame to the cube: a view's `world_to_view`.

        Returns
        -------
        coords : numpy.ndarray
            (V, 3) uint8, each instance's sorted lexicographically.
        offsets : numpy.ndarray
            (N + 1,) int32; instance i (1-based) has `coords[offsets[i - 1]:offsets[i]]`.
        """
        matrix = np.ascontiguousarray(transform, np.float64)
        mark, collect = _compiled()
        parts = [np.empty((0, 3), np.uint8)]
        for points, faces in self._meshes:
            touched = mark(points, faces, matrix, self._points, self._cells, self._occupied)
            parts.append(collect(self._occupied, *touched))
        offsets = np.cumsum([len(part) for part in parts]).astype(np.int32)
        return np.concatenate(parts), offsets


def _checked(vertices: NDArray[Any], faces: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    points = np.ascontiguousarray(vertices, np.float64).reshape(-1, 3)
    corners = np.asarray(faces).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise AssetError("non_finite", "a mesh has vertices that are not finite; drop the asset")
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(points):
        raise AssetError("bad_index", "a mesh has faces that name vertices it does not have; drop the asset")
    return points, np.ascontiguousarray(corners, np.int32)


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return compiled(_mark), compiled(_collect)


def _mark(
    vertices: NDArray[Any],
    faces: NDArray[Any],
    matrix: NDArray[Any],
    points: NDArray[Any],
    cells: NDArray[Any],
    occupied: NDArray[Any],
) -> tuple[int, int]:
    """Mark every voxel that a triangle overlaps; returns the first and last x of the marked voxels.

    A triangle whose corners lie in one voxel touches that one; if they lie in voxels of one straight row, it touches
    all from the first to the last. Else every voxel in the range of its corners' voxels is tested by separating axes,
    triangle and box both closed. The box's own three axes are settled by that range, which also gives a face between
    two layers to the upper one; left are the triangle's normal and the nine products of an axis with an edge.

    `points` and `cells` (three bytes of a number, x first) are scratch space; `occupied` must be empty.
    """
    resolution = occupied.shape[0]
    half = 0.5 / resolution
    for v in range(len(vertices)):
        cell = np.int32(0)
        for axis in range(3):
            # In this order, term by term: the same bits as `view_centric.apply_transform`.
            value = matrix[axis, 0] * vertices[v, 0] + matrix[axis, 1] * vertices[v, 1]
            value = value + matrix[axis, 2] * vertices[v, 2] + matrix[axis, 3]
            value = min(max(value, -BOUND), BOUND)
            points[v, axis] = value
            # All are positive, so that cutting off the fraction is rounding down.
            index = int((value + 0.5) * resolution)
            cell = (cell << 8) | np.int32(min(index, resolution - 1))
        cells[v] = cell
    a, b = np.empty((3, 3)), np.empty((10, 3))
    low, high = np.empty(10), np.empty(10)
    least, most = resolution, -1
    for face in range(len(faces)):
        p, q, r = faces[face, 0], faces[face, 1], faces[face, 2]
        c0, c1, c2 = cells[p], cells[q], cells[r]
        if c0 == c1 and c0 == c2:
            occupied[c0 >> 16, (c0 >> 8) & 255, c0 & 255] = True
            least, most = min(least, c0 >> 16), max(most, c0 >> 16)
            continue
        x0, y0, z0 = c0 >> 16, (c0 >> 8) & 255, c0 & 255
        x1, y1, z1 = c1 >> 16, (c1 >> 8) & 255, c1 & 255
        x2, y2, z2 = c2 >> 16, (c2 >> 8) & 255, c2 & 255
        first_x, last_x = min(x0, x1, x2), max(x0, x1, x2)
        first_y, last_y = min(y0, y1, y2), max(y0, y1, y2)
        first_z, last_z = min(z0, z1, z2), max(z0, z1, z2)
        least, most = min(least, first_x), max(most, last_x)
        if int(first_x < last_x) + int(first_y < last_y) + int(first_z < last_z) <= 1:
            for i in range(first_x, last_x + 1):
                for j in range(first_y, last_y + 1):
                    for k in range(first_z, last_z + 1):
                        occupied[i, j, k] = True
            continue
        for axis in range(3):
            a[0, axis], a[1, axis], a[2, axis] = points[p, axis], points[q, axis], points[r, axis]
        for corner in range(3):
            after = (corner + 1) % 3
            x, y, z = a[after, 0] - a[corner, 0], a[after, 1] - a[corner, 1], a[after, 2] - a[corner, 2]
            b[3 * corner, 0], b[3 * corner, 1], b[3 * corner, 2] = 0.0, -z, y
            b[3 * corner + 1, 0], b[3 * corner + 1, 1], b[3 * corner + 1, 2] = z, 0.0, -x
            b[3 * corner + 2, 0], b[3 * corner + 2, 1], b[3 * corner + 2, 2] = -y, x, 0.0
        for axis in range(3):
            u, w = (axis + 1) % 3, (axis + 2) % 3
            b[9, axis] = (a[1, u] - a[0, u]) * (a[2, w] - a[0, w]) - (a[1, w] - a[0, w]) * (a[2, u] - a[0, u])
        for k in range(10):
            d0 = b[k, 0] * a[0, 0] + b[k, 1] * a[0, 1] + b[k, 2] * a[0, 2]
            d1 = b[k, 0] * a[1, 0] + b[k, 1] * a[1, 1] + b[k, 2] * a[1, 2]
            d2 = b[k, 0] * a[2, 0] + b[k, 1] * a[2, 1] + b[k, 2] * a[2, 2]
            reach = half * (abs(b[k, 0]) + abs(b[k, 1]) + abs(b[k, 2]))
            # The interval of box centres whose projection overlaps the triangle's.
            low[k] = min(d0, d1, d2) - reach
            high[k] = max(d0, d1, d2) + reach
        for i in range(first_x, last_x + 1):
            x = (i + 0.5) / resolution - 0.5
            for j in range(first_y, last_y + 1):
                y = (j + 0.5) / resolution - 0.5
                for k in range(first_z, last_z + 1):
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
    return least, most


def _collect(occupied: NDArray[Any], least: int, most: int) -> NDArray[Any]:
    """(V, 3) uint8 of the marked voxels between two values of x, in order; unmarks them."""
    count = 0
    for i in range(least, most + 1):
        count += np.count_nonzero(occupied[i])
    coords = np.empty((count, 3), np.uint8)
    at = 0
    for i in range(least, most + 1):
        for j in range(occupied.shape[1]):
            row = occupied[i, j]
            for k in range(occupied.shape[2]):
                if row[k]:
                    coords[at, 0], coords[at, 1], coords[at, 2] = i, j, k
                    row[k] = False
                    at += 1
    return coords
