"""Scores between two point clouds, two boxes or two voxel sets: Chamfer distance, F-score, intersection over union.

An empty cloud has a defined outcome everywhere: it is infinitely far away, matches nothing and overlaps nothing.
Coordinates that are NaN or infinite are refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train.point_tree import PointTree

DEFAULT_TAU = 0.1
_MAX_LATTICE = 1 << 20
"""Voxel indices are packed 20 bits an axis to compare sets of them."""


@dataclass(frozen=True, kw_only=True)
class ChamferDistance:
    """Chamfer distance in the ways that papers mean it; all from the means of the two directions."""

    squared_sum: float
    """mean over a of d(a, B)^2 + mean over b of d(b, A)^2, in squared units of the coordinates."""
    unsquared_sum: float
    """mean over a of d(a, B) + mean over b of d(b, A), in units of the coordinates."""

    @property
    def unsquared_half(self) -> float:
        """Half of `unsquared_sum`: the mean of the two directions."""
        return self.unsquared_sum / 2


@dataclass(frozen=True, kw_only=True)
class NearestDistances:
    """Euclidean distances from every point of one cloud to the nearest of the other, both ways."""

    forward: NDArray[Any]
    """(A,) float64: from each point of `a` to `b`; infinite when `b` is empty."""
    backward: NDArray[Any]
    """(B,) float64: from each point of `b` to `a`; infinite when `a` is empty."""

    def chamfer(self) -> ChamferDistance:
        """Both Chamfer distances; infinite if either cloud is empty."""
        if not (len(self.forward) and len(self.backward)):
            return ChamferDistance(squared_sum=float("inf"), unsquared_sum=float("inf"))
        return ChamferDistance(
            squared_sum=float(np.mean(self.forward**2) + np.mean(self.backward**2)),
            unsquared_sum=float(np.mean(self.forward) + np.mean(self.backward)),
        )

    def f_score(self, tau: float = DEFAULT_TAU) -> float:
        """Harmonic mean of precision and recall at distance `tau`, in [0, 1]; 0 if either cloud is empty.

        Raises
        ------
        ValueError
            If `tau` is not positive.
        """
        if not tau > 0:
            raise ValueError(f"tau must be positive, not {tau}")
        if not (len(self.forward) and len(self.backward)):
            return 0.0
        precision = float(np.mean(self.forward < tau))
        recall = float(np.mean(self.backward < tau))
        return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def nearest_distances(a: NDArray[Any], b: NDArray[Any]) -> NearestDistances:
    """Exact nearest-neighbour distances between two clouds, both ways.

    Parameters
    ----------
    a, b : (A, 3) and (B, 3) float
        Points in one frame and unit.

    Raises
    ------
    ValueError
        If an array is not (n, 3) or holds NaN or infinity.
    """
    a, b = as_cloud(a, "a"), as_cloud(b, "b")
    if not (len(a) and len(b)):
        return NearestDistances(forward=np.full(len(a), np.inf), backward=np.full(len(b), np.inf))
    tree_a, tree_b = PointTree(a), PointTree(b)
    return NearestDistances(forward=_query(tree_b, tree_a), backward=_query(tree_a, tree_b))


def chamfer(a: NDArray[Any], b: NDArray[Any]) -> ChamferDistance:
    """Chamfer distance between two clouds, the squared and the unsquared sum of both directions' means.

    MIDI, SceneGen and I-Scene report the squared sum, PartCrafter the unsquared one, Gen3DSR half the unsquared one.

    Parameters
    ----------
    a, b : (A, 3) and (B, 3) float
        Points in one frame and unit; the clouds need not be of one size.

    Returns
    -------
    ChamferDistance
        Infinite in both fields if either cloud is empty.

    Raises
    ------
    ValueError
        If an array is not (n, 3) or holds NaN or infinity.
    """
    return nearest_distances(a, b).chamfer()


def f_score(a: NDArray[Any], b: NDArray[Any], tau: float = DEFAULT_TAU) -> float:
    """F-score between a predicted and a true cloud, in [0, 1].

    Precision is the share of `a` nearer than `tau` (strictly, unsquared) to `b`, recall the share of `b` nearer than
    `tau` to `a`; the score is their harmonic mean and symmetric in `a` and `b`. Tables print it in percent.

    Parameters
    ----------
    a, b : (A, 3) and (B, 3) float
        Points in one frame and unit.
    tau : float
        Distance threshold, in the unit of the coordinates.

    Returns
    -------
    float
        0 if either cloud is empty.

    Raises
    ------
    ValueError
        If an array is not (n, 3) or holds NaN or infinity, or `tau` is not positive.
    """
    return nearest_distances(a, b).f_score(tau)


def aabb_iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Intersection over union of the axis-aligned bounding boxes of two clouds, in [0, 1].

    Parameters
    ----------
    a, b : (A, 3) and (B, 3) float
        Points in one frame and unit.

    Returns
    -------
    float
        0 if either cloud is empty. Two boxes without volume score 1 if they are equal and 0 if not.

    Raises
    ------
    ValueError
        If an array is not (n, 3) or holds NaN or infinity.
    """
    a, b = as_cloud(a, "a"), as_cloud(b, "b")
    if not (len(a) and len(b)):
        return 0.0
    low_a, high_a, low_b, high_b = a.min(axis=0), a.max(axis=0), b.min(axis=0), b.max(axis=0)
    shared = float(np.prod(np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)))
    union = float(np.prod(high_a - low_a) + np.prod(high_b - low_b)) - shared
    if union <= 0:
        return float(np.array_equal(low_a, low_b) and np.array_equal(high_a, high_b))
    return shared / union


def voxel_iou(coords_a: NDArray[Any], coords_b: NDArray[Any]) -> float:
    """Intersection over union of two sets of occupied voxels, in [0, 1].

    Parameters
    ----------
    coords_a, coords_b : (A, 3) and (B, 3) integer
        Voxel indices in one grid, non-negative; repeated ones count once.

    Returns
    -------
    float
        0 if either set is empty, also when both are: an empty prediction is never a success.

    Raises
    ------
    ValueError
        If an array is not (n, 3) integers in [0, 2^20).
    """
    keys_a, keys_b = _voxel_keys(coords_a), _voxel_keys(coords_b)
    if not (len(keys_a) and len(keys_b)):
        return 0.0
    shared = len(np.intersect1d(keys_a, keys_b, assume_unique=True))
    return shared / (len(keys_a) + len(keys_b) - shared)


def as_cloud(points: NDArray[Any], name: str) -> NDArray[Any]:
    """`points` as (n, 3) float64.

    Raises
    ------
    ValueError
        If the array is not (n, 3) or holds NaN or infinity.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3:
        raise ValueError(f"{name} must have shape (n, 3), not {cloud.shape}")
    if not np.isfinite(cloud).all():
        raise ValueError(f"{name} holds NaN or infinite coordinates")
    return cloud


def _query(tree: PointTree, points: PointTree) -> NDArray[Any]:
    # Asking in the other tree's order keeps neighbouring questions in the processor's caches.
    distances = np.empty(len(points))
    distances[points.order] = tree.nearest(points.points)[0]
    return distances


def _voxel_keys(coords: NDArray[Any]) -> NDArray[Any]:
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype.kind not in "iu":
        raise ValueError(f"voxel coordinates must be (n, 3) integers, not {coords.shape} {coords.dtype}")
    if len(coords) and (coords.min() < 0 or coords.max() >= _MAX_LATTICE):
        raise ValueError("voxel coordinates must lie in [0, 2^20)")
    x, y, z = coords.astype(np.int64).T
    return np.unique((x << 40) | (y << 20) | z)
