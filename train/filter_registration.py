"""FilterReg with a fixed width: rigid registration by Gaussian-weighted means instead of nearest points.

Gao and Tedrake, "FilterReg: Robust and Efficient Probabilistic Point-Set Registration using Gaussian Filter and Twist
Parameterization", 2019, point-to-point, as SceneGen's evaluation runs it: no outlier term, a width found once from
both clouds and never updated. Each source point is drawn to the mean of all target points weighted by a Gaussian about
it; the motion is the least-squares one to these means.

Width and target stay as they are, so the weighted means are a fixed field over space: it is blurred once on a grid and
then only looked up. (The published library blurs with a permutohedral lattice in each iteration: same field, another
approximation.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train import registration_steps as steps
from randscene.train.metrics import as_cloud
from randscene.train.robust_icp import Registration

_CELLS_PER_WIDTH = 8
_REACH = 4.0
"""Widths that the grid reaches beyond both clouds; points that leave it see its border."""
_MOST_CELLS = 160
"""Along an axis: a cloud that is long beside its width gets coarser cells."""


@dataclass(frozen=True, kw_only=True)
class FilterRegistrationParams:
    """Every setting of `filter_registration`."""

    iterations: int = 200
    tolerance: float = 1e-4
    """Stop once the sum of the source points' distances to their means, in widths, changes by less."""
    least_variance: float = 1e-4
    """The square of the width is at least this, in squared units of the coordinates."""

    def __post_init__(self) -> None:
        for name in ("iterations", "tolerance", "least_variance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"filter registration: {name} must be positive, not {getattr(self, name)}")


def filter_registration(
    source: NDArray[Any], target: NDArray[Any], params: FilterRegistrationParams | None = None
) -> Registration:
    """Align `source` to `target` rigidly from where it stands.

    Parameters
    ----------
    source, target : (N, 3) and (M, 3) float
        Points in one frame and unit; at least one each.
    params : FilterRegistrationParams, optional

    Returns
    -------
    Registration
        Its fitness is 1, because every point takes part, and its rmse is of the distances to nearest target points.

    Raises
    ------
    ValueError
        If a cloud is not (n, 3), is empty, or holds NaN or infinity.
    """
    from scipy.spatial import cKDTree

    params = params or FilterRegistrationParams()
    source, target = as_cloud(source, "source"), as_cloud(target, "target")
    if not (len(source) and len(target)):
        raise ValueError("filter registration needs at least one point in each cloud")
    variance = max(kernel_variance(source, target), params.least_variance)
    field = _MeanField(source, target, variance**0.5)
    transform, last = np.eye(4), np.inf
    for _ in range(params.iterations):
        moved = steps.apply(transform, source)
        means = field.at(moved)
        transform = steps.umeyama(moved, means) @ transform
        # Of the positions before this iteration's motion, as published.
        error = float(np.linalg.norm(moved - means, axis=1).sum()) / variance**0.5
        if abs(last - error) < params.tolerance:
            break
        last = error
    distances = cKDTree(target).query(steps.apply(transform, source))[0]
    return Registration(
        transform=transform, fitness=1.0, rmse=float(np.sqrt(np.mean(distances**2))), fell_back=False, stage="fine"
    )


def kernel_variance(source: NDArray[Any], target: NDArray[Any]) -> float:
    """Mean squared distance over all pairs of (N, 3) source and (M, 3) target points, by axis: a third of the sum."""
    apart = source.mean(axis=0) - target.mean(axis=0)
    return float(np.mean(source.var(axis=0) + target.var(axis=0) + apart**2))


class _MeanField:
    """For any place the mean of the target's points under a Gaussian of standard deviation `width` about it."""

    def __init__(self, source: NDArray[Any], target: NDArray[Any], width: float) -> None:
        from scipy.ndimage import gaussian_filter

        low = np.minimum(source.min(axis=0), target.min(axis=0)) - _REACH * width
        high = np.maximum(source.max(axis=0), target.max(axis=0)) + _REACH * width
        self._low = low
        self._cell = max(width / _CELLS_PER_WIDTH, float((high - low).max()) / (_MOST_CELLS - 1))
        shape = tuple(np.ceil((high - low) / self._cell).astype(int) + 2)
        self._mass = np.zeros(shape)
        self._moments = np.zeros((3, *shape))
        # Each point is shared among the eight corners of its cell, so that its mass and mean stay where they are.
        place = (target - low) / self._cell
        base = np.floor(place).astype(int)
        part = place - base
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(corner, part, 1 - part), axis=1)
            rows = np.ravel_multi_index(tuple((base + corner).T), shape)
            for field, weights in zip(
                (self._mass, *self._moments), (share, *(share * target[:, axis] for axis in range(3))), strict=True
            ):
                field += np.bincount(rows, weights=weights, minlength=field.size).reshape(shape)
        # Sharing among corners, and looking up between them, each blur by a sixth of a cell squared on average.
        sigma = float(np.sqrt(max((width / self._cell) ** 2 - 1 / 3, 0.25)))
        for field in (self._mass, *self._moments):
            gaussian_filter(field, sigma, output=field, mode="constant", truncate=2 * _REACH)

    def at(self, points: NDArray[Any]) -> NDArray[Any]:
        """(N, 3) means for (N, 3) places."""
        from scipy.ndimage import map_coordinates

        place = ((points - self._low) / self._cell).T
        mass = map_coordinates(self._mass, place, order=1, mode="nearest")
        moments = [map_coordinates(moment, place, order=1, mode="nearest") for moment in self._moments]
        # In the grid every place lies within a few widths of the target, but a mass may still underflow to nothing.
        return np.stack(moments, axis=1) / np.maximum(mass, np.finfo(float).tiny)[:, None]
