"""Nearest-point correspondences of a cloud that moves a little at a time."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.train.point_tree import PointTree

_REACH = 1.25
"""Searches look this much farther than the threshold, so that points just outside stay known while they move."""
_KEPT = 2
"""Target points kept for each source point."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """Correspondences of a moved source with its target under a distance threshold."""

    nearest: NDArray[Any]
    """(N,) int32: for each source point the row of its nearest target point in `PointTree.points`; -1 for outliers,
    which have none nearer than the threshold."""
    n_inliers: int
    fitness: float
    """Share of inliers, in [0, 1]."""
    rmse: float
    """Root mean square distance of the inliers, 0 if there are none."""


class Correspondences:
    """Exact nearest target points within a threshold, asked again and again for one moving cloud.

    For each point some of its nearest target points are kept, those nearer than some radius from where it was last
    searched for. Once it has moved by m, every other target point is at least radius - m away: if one of those kept
    is nearer than that, the nearest of them is the nearest of all (triangle inequality), and the point is not searched
    for again. In the late iterations of ICP this leaves few points to search for.

    Parameters
    ----------
    target : PointTree
        Over the target cloud.
    n_points : int
        N, size of the moving cloud.
    threshold : float
        Farthest correspondence, in the unit of the coordinates; may be infinite.
    """

    def __init__(self, target: PointTree, n_points: int, threshold: float) -> None:
        self._target = target
        self._threshold = threshold
        self._asked = np.zeros((n_points, 3))
        # A negative radius is smaller than any way: nothing is known at first.
        self._radius = np.full(n_points, -1.0)
        self._kept = np.full((n_points, _KEPT), -1, np.int32)
        self._squared = np.full((n_points, _KEPT), np.inf)

    def match(self, moved: NDArray[Any]) -> Match:
        """Correspondences of the cloud's points where they are now.

        Parameters
        ----------
        moved : (N, 3) float64
            The same points as ever, in the same order.
        """
        follow, remember = _compiled()
        nearest = np.empty(len(moved), np.int32)
        squared = np.empty(len(moved))
        state = (self._asked, self._radius, self._kept, self._squared)
        stale = follow(moved, *state, self._target.points, self._threshold, nearest, squared)
        if len(stale):
            reach = _REACH * self._threshold
            self._target.search(moved, stale, self._kept, self._squared, reach)
            remember(moved, stale, *state, reach, self._threshold, nearest, squared)
        inliers = nearest >= 0
        count = int(np.count_nonzero(inliers))
        return Match(
            nearest=nearest,
            n_inliers=count,
            fitness=count / len(moved),
            rmse=float(np.sqrt(np.sum(squared) / count)) if count else 0.0,
        )


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return compiled(_follow), compiled(_remember)


def _follow(
    moved: NDArray[Any],
    asked: NDArray[Any],
    radius: NDArray[Any],
    kept: NDArray[Any],
    kept_squared: NDArray[Any],
    points: NDArray[Any],
    threshold: float,
    nearest: NDArray[Any],
    squared: NDArray[Any],
) -> NDArray[Any]:
    """Settle what the kept points settle, in `nearest` and `squared`; the rows of the rest.

    `kept_squared` are squared distances from where a point was asked for, in ascending order.
    """
    stale = np.empty(len(moved), np.int64)
    n_stale = 0
    for row in range(len(moved)):
        x, y, z = moved[row, 0], moved[row, 1], moved[row, 2]
        dx, dy, dz = x - asked[row, 0], y - asked[row, 1], z - asked[row, 2]
        way = np.sqrt(dx * dx + dy * dy + dz * dz)
        # Nothing that is not kept can be nearer than this.
        free = radius[row] - way
        if free <= 0:
            stale[n_stale] = row
            n_stale += 1
            continue
        best, who = np.inf, -1
        enough = np.inf
        for j in range(kept.shape[1]):
            candidate = kept[row, j]
            if candidate < 0 or kept_squared[row, j] >= enough:
                break
            dx, dy, dz = x - points[candidate, 0], y - points[candidate, 1], z - points[candidate, 2]
            distance = dx * dx + dy * dy + dz * dz
            if distance < best:
                best, who = distance, candidate
                # One that was farther than this cannot have become nearer.
                enough = (np.sqrt(best) + way) ** 2
        if best >= free * free and free < threshold:
            stale[n_stale] = row
            n_stale += 1
        elif best < threshold * threshold:
            nearest[row], squared[row] = who, best
        else:
            nearest[row], squared[row] = -1, 0.0
    return stale[:n_stale]


def _remember(
    moved: NDArray[Any],
    rows: NDArray[Any],
    asked: NDArray[Any],
    radius: NDArray[Any],
    kept: NDArray[Any],
    kept_squared: NDArray[Any],
    reach: float,
    threshold: float,
    nearest: NDArray[Any],
    squared: NDArray[Any],
) -> None:
    """Take over what a search within `reach` has found for some rows."""
    last = kept.shape[1] - 1
    for row in rows:
        asked[row, 0], asked[row, 1], asked[row, 2] = moved[row, 0], moved[row, 1], moved[row, 2]
        radius[row] = np.sqrt(kept_squared[row, last]) if kept[row, last] >= 0 else reach
        if kept[row, 0] >= 0 and kept_squared[row, 0] < threshold * threshold:
            nearest[row], squared[row] = kept[row, 0], kept_squared[row, 0]
        else:
            nearest[row], squared[row] = -1, 0.0
