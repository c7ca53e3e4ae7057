"""Normals of a cloud by local plane fits, for those of its points that are asked about."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.train.point_tree import PointTree

_CHUNK = 4096
"""Points whose neighbourhoods are gathered at once: they stay in the processor's caches."""


class SurfaceNormals:
    """Unit normals of a cloud's points, each found when it is first asked for.

    Parameters
    ----------
    cloud : PointTree
    radius : float
        Only points nearer than this take part in a point's plane.
    neighbours : int
        At most so many of the nearest take part, the point itself among them.

    Attributes
    ----------
    normals : (N, 3) float64
        Of either sign, in the order of the tree's points. Zero where fewer than three points lie in reach (such a
        point has no plane) and where `find` was not asked.
    """

    def __init__(self, cloud: PointTree, radius: float, neighbours: int) -> None:
        self._cloud = cloud
        self._radius = radius
        self._neighbours = min(neighbours, len(cloud))
        self._known = np.zeros(len(cloud), bool)
        self.normals = np.zeros((len(cloud), 3))

    def find(self, rows: NDArray[Any]) -> None:
        """Fill in the normals of some points.

        Parameters
        ----------
        rows : (R,) int32
            Rows of the tree's points, in any order and number; negative ones are passed over.
        """
        missing, fit = _compiled()
        wanted = missing(rows, self._known)
        points = self._cloud.points
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            near = np.full((len(some), self._neighbours), -1, np.int32)
            self._cloud.search(points[some], np.arange(len(some)), near, np.empty(near.shape), self._radius)
            fit(points, some, near, self.normals)


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return compiled(_missing), compiled(_fit)


def _missing(rows: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """The rows that were not known, in ascending order; they are from now on."""
    asked = np.zeros(len(known), np.bool_)
    for row in rows:
        if row >= 0 and not known[row]:
            known[row] = asked[row] = True
    return np.flatnonzero(asked)


def _fit(points: NDArray[Any], rows: NDArray[Any], near: NDArray[Any], normals: NDArray[Any]) -> None:
    """Write the normals of `rows`, whose neighbours are `near`: the direction of least scatter, by Jacobi rotations."""
    scatter = np.empty((3, 3))
    vectors = np.empty((3, 3))
    for number in range(len(rows)):
        row = rows[number]
        count = 0
        x = y = z = 0.0
        xx = xy = xz = yy = yz = zz = 0.0
        for j in range(near.shape[1]):
            other = near[number, j]
            if other < 0:
                break
            count += 1
            # About the point itself: sums of small numbers keep their digits.
            dx = points[other, 0] - points[row, 0]
            dy = points[other, 1] - points[row, 1]
            dz = points[other, 2] - points[row, 2]
            x, y, z = x + dx, y + dy, z + dz
            xx, xy, xz = xx + dx * dx, xy + dx * dy, xz + dx * dz
            yy, yz, zz = yy + dy * dy, yz + dy * dz, zz + dz * dz
        if count < 3:
            continue
        scatter[0, 0] = xx - x * x / count
        scatter[1, 1] = yy - y * y / count
        scatter[2, 2] = zz - z * z / count
        scatter[0, 1] = xy - x * y / count
        scatter[0, 2] = xz - x * z / count
        scatter[1, 2] = yz - y * z / count
        for i in range(3):
            for j in range(3):
                vectors[i, j] = 1.0 if i == j else 0.0
        size = scatter[0, 0] + scatter[1, 1] + scatter[2, 2]
        for _ in range(30):
            off = abs(scatter[0, 1]) + abs(scatter[0, 2]) + abs(scatter[1, 2])
            if off <= 1e-15 * size:
                break
            for p, q in ((0, 1), (0, 2), (1, 2)):
                if scatter[p, q] == 0:
                    continue
                # The rotation in the plane of axes p and q that makes their product of inertia vanish.
                theta = (scatter[q, q] - scatter[p, p]) / (2 * scatter[p, q])
                tangent = 1 / (abs(theta) + np.sqrt(theta * theta + 1))
                if theta < 0:
                    tangent = -tangent
                cosine = 1 / np.sqrt(tangent * tangent + 1)
                sine = tangent * cosine
                other = 3 - p - q
                shared = scatter[p, q]
                scatter[p, p] -= tangent * shared
                scatter[q, q] += tangent * shared
                scatter[p, q] = 0.0
                a = scatter[min(p, other), max(p, other)]
                b = scatter[min(q, other), max(q, other)]
                scatter[min(p, other), max(p, other)] = cosine * a - sine * b
                scatter[min(q, other), max(q, other)] = sine * a + cosine * b
                for i in range(3):
                    a, b = vectors[i, p], vectors[i, q]
                    vectors[i, p], vectors[i, q] = cosine * a - sine * b, sine * a + cosine * b
        least = 0
        for i in range(1, 3):
            if scatter[i, i] < scatter[least, least]:
                least = i
        for i in range(3):
            normals[row, i] = vectors[i, least]
