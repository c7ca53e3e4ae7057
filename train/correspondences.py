"""Nearest-point correspondences of a cloud that moves a little at a time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_REACH = 1.25
"""Searches look this much farther than the threshold, so that points just outside stay known while they move."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """Correspondences of a moved source with its target under a distance threshold."""

    inliers: np.ndarray
    """(N,) bool: source points with a target point nearer than the threshold."""
    nearest: np.ndarray
    """(M,) int64: for each inlier the index of its nearest target point."""
    fitness: float
    """Share of inliers, in [0, 1]."""
    rmse: float
    """Root mean square distance of the inliers, 0 if there are none."""


class Correspondences:
    """Exact nearest target points within a threshold, asked again and again for one moving cloud.

    A point's two nearest target points, at distances d1 < d2, are remembered. Once it has moved by less than
    (d2 - d1) / 2 its nearest one is still the same (triangle inequality), and it is not searched for again. In the
    late iterations of ICP this leaves few points to search for; the answers are those of a full search.

    Parameters
    ----------
    target : scipy.spatial.cKDTree
        Over the (M, 3) target cloud.
    n_points : int
        N, size of the moving cloud.
    threshold : float
        Farthest correspondence, in the unit of the coordinates.
    """

    def __init__(self, target: "cKDTree", n_points: int, threshold: float) -> None:
        self._tree = target
        self._points = np.asarray(target.data)
        self._threshold = threshold
        self._where_asked = np.zeros((n_points, 3))
        self._nearest = np.zeros(n_points, dtype=np.int64)
        # How far a point may go from where it was last searched for; nothing is known at first.
        self._free_way = np.full(n_points, -1.0)
        self._has_near = np.zeros(n_points, dtype=bool)

    def match(self, moved: np.ndarray) -> Match:
        """Correspondences of the cloud's points where they are now.

        Parameters
        ----------
        moved : (N, 3) float64
            The same points as ever, in the same order.
        """
        way = moved - self._where_asked
        stale = np.flatnonzero(np.einsum("ij,ij->i", way, way) >= np.square(self._free_way) * np.sign(self._free_way))
        if len(stale):
            self._search(moved, stale)
        gap = moved - self._points[self._nearest]
        squared = np.einsum("ij,ij->i", gap, gap)
        inliers = self._has_near & (squared < self._threshold**2)
        count = int(np.count_nonzero(inliers))
        return Match(
            inliers=inliers,
            nearest=self._nearest[inliers],
            fitness=count / len(moved),
            rmse=float(np.sqrt(np.mean(squared[inliers]))) if count else 0.0,
        )

    def _search(self, moved: np.ndarray, rows: np.ndarray) -> None:
        reach = _REACH * self._threshold
        distance, index = self._tree.query(moved[rows], k=2, distance_upper_bound=reach)
        first, second = distance[:, 0], np.minimum(distance[:, 1], reach)
        found = np.isfinite(first)
        self._where_asked[rows] = moved[rows]
        self._has_near[rows] = found
        self._nearest[rows] = np.where(found, index[:, 0], 0)
        # With nothing in reach a point stays an outlier until it has come nearer by reach - threshold.
        self._free_way[rows] = np.where(found, (second - np.where(found, first, 0)) / 2, reach - self._threshold)
