"""MIDI's point-to-point ICP, as published and corrected: every point matched, from where the cloud stands.

The published code takes a matrix of right singular vectors for its transpose, so that its rotation is V^T U^T where
the least-squares one is V U^T. That is kept here, on demand, to reproduce numbers made with it. Two things follow:

* A cloud that already fits is turned away, unless its principal axes are the coordinate axes in order of size.
* Singular vectors are defined up to sign. V U^T does not depend on the signs, V^T U^T does: it is what the linear
  algebra library happens to return (LAPACK's `gesdd` here; another library or a GPU may differ).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train import registration_steps as steps
from randscene.train.correspondences import Correspondences
from randscene.train.metrics import as_cloud
from randscene.train.point_tree import PointTree
from randscene.train.robust_icp import Registration


@dataclass(frozen=True, kw_only=True)
class LegacyIcpParams:
    """Every setting of `legacy_icp`."""

    wrong_transpose: bool
    """True: the rotation V^T U^T of the published code. False: the least-squares one, V U^T."""
    iterations: int = 50
    tolerance: float = 1e-5
    """Stop once the mean distance to the matched points changes by less, in the unit of the coordinates."""

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.tolerance > 0:
            raise ValueError(
                f"legacy ICP: iterations and tolerance must be positive, not {self.iterations} and {self.tolerance}"
            )


def legacy_icp(source: NDArray[Any], target: NDArray[Any], params: LegacyIcpParams) -> Registration:
    """Align `source` to `target` rigidly by plain point-to-point ICP from the identity.

    In each iteration every source point, however far, is matched with its nearest target point; there are no
    thresholds, no starts from other yaws and no checks of the result.

    Parameters
    ----------
    source, target : (N, 3) and (M, 3) float
        Points in one frame and unit; at least one each.
    params : LegacyIcpParams

    Returns
    -------
    Registration
        Its fitness is 1, because every point has a match, and its rmse is over all of them.

    Raises
    ------
    ValueError
        If a cloud is not (n, 3), is empty, or holds NaN or infinity.
    """
    source, target = as_cloud(source, "source"), as_cloud(target, "target")
    if not (len(source) and len(target)):
        raise ValueError("legacy ICP needs at least one point in each cloud")
    motion_of = wrongly_transposed_motion if params.wrong_transpose else steps.umeyama
    tree = PointTree(target)
    # In the order of a tree neighbouring queries share the processor's caches.
    start = PointTree(source).points
    correspondences = Correspondences(tree, len(start), np.inf)
    transform, moved = np.eye(4), start
    nearest = correspondences.match(moved).nearest
    last = np.inf
    for _ in range(params.iterations):
        matched = tree.points[nearest]
        motion = motion_of(moved, matched)
        transform = motion @ transform
        moved = steps.apply(transform, start)
        # Against the points that the motion was found for, as published, not against the next matches.
        error = float(np.mean(np.linalg.norm(moved - matched, axis=1)))
        found = correspondences.match(moved)
        nearest = found.nearest
        if abs(last - error) < params.tolerance:
            break
        last = error
    return Registration(transform=transform, fitness=1.0, rmse=found.rmse, fell_back=False, stage="fine")


def wrongly_transposed_motion(source: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """The published code's motion between paired points: rotation V^T diag(1, 1, d) U^T of H = U S V^T.

    H is the sum of source times target vectors about their means, d the determinant of V^T U^T. Right would be
    V in place of V^T. See the module's notes on what this means.

    Parameters
    ----------
    source, target : (N, 3) float64
        Pairs, row by row.

    Returns
    -------
    (4, 4) float64
        A rigid motion that puts the source's mean on the target's.
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    u, _, v_transposed = np.linalg.svd((source - mean_source).T @ (target - mean_target))
    determinant = float(np.linalg.det(v_transposed @ u.T))
    rotation = (v_transposed * [1.0, 1.0, determinant]) @ u.T
    return steps.similarity(1.0, rotation, mean_target - rotation @ mean_source)
