"""Robust rigid registration of a predicted cloud to the true one, over every yaw.

I-Scene, evaluation protocol: eight yaw candidates are pre-scored by a trimmed Chamfer distance, the best three are
refined by a short ICP, the winner runs coarse point-to-point and then fine point-to-plane ICP with Tukey's loss.
Where the paper leaves a value open the default says so in its comment.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from randscene.seeding import generator
from randscene.train import registration_steps as steps
from randscene.train.correspondences import Correspondences
from randscene.train.metrics import as_cloud
from randscene.train.point_tree import PointTree
from randscene.train.surface_normals import SurfaceNormals

_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, kw_only=True)
class RobustIcpParams:
    """Every setting of `robust_icp`. Lengths are in shares of the largest side of both clouds' common box."""

    voxel: float = 0.03
    """v: the length that the other ones are multiples of, and the cell of the down-sampling."""
    up_axis: Literal["x", "y", "z"] = "z"
    """The axis that yaw turns about."""
    yaws_deg: tuple[float, ...] = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
    trim: float = 0.2
    """Share of the largest distances that each direction of the pre-score leaves out (of unsquared distances)."""
    prescore_points: int = 2000
    """Most points of each cloud that the pre-score looks at."""
    keep: int = 3
    """Yaw candidates that go on to the seed ICP."""
    seed_iterations: int = 15
    """Open in the paper ("short")."""
    seed_threshold: float = 2.5
    """In v. Open in the paper; the coarse stage's."""
    score_weight: float | None = None
    """lambda of the choice between seeds, rmse + lambda (1 - fitness); None is v."""
    iterations: int = 100
    """T: budget of the two stages together. Open in the paper."""
    coarse_share: float = 0.5
    """Tc = max(least_iterations, floor(coarse_share T)), Tf = max(least_iterations, T - Tc)."""
    least_iterations: int = 10
    coarse_threshold: float = 2.5
    """In v."""
    fine: Literal["point_to_plane", "point_to_point"] = "point_to_plane"
    fine_threshold: float = 1.0
    """In v; for point-to-plane."""
    fine_threshold_point_to_point: float = 1.5
    """In v; for point-to-point."""
    tukey: float = 1.5
    """k of Tukey's loss, in v."""
    normal_radius: float = 2.0
    """In v. Open in the paper."""
    normal_neighbours: int = 30
    """Open in the paper."""
    estimate_scale: bool = False
    """Estimate one isotropic scale in the coarse stage. Off: predictions are aligned rigidly, so size counts."""
    scale_limit: float = 2.0
    """With `estimate_scale`: a scale above this or below its inverse is not believed. Open in the paper."""
    tolerance: float = 1e-5
    """ICP stops after a step whose matrix differs by less from the identity (1e-5 is 0.0006 degrees). Open in the
    paper. Changes of fitness and rmse are not the test: rmse is flat near its least value and would stop it early."""
    largest_det_error: float = 0.1
    """A rotation whose determinant is farther from 1 is not believed."""
    largest_translation: float = 1.0
    """A longer translation is not believed."""
    seed: int = 0
    """Of the pre-score's random subset."""

    def __post_init__(self) -> None:
        positive = ("voxel", "prescore_points", "keep", "iterations", "tukey", "normal_radius", "tolerance")
        for name in (*positive, "seed_threshold", "coarse_threshold", "fine_threshold"):
            if not getattr(self, name) > 0:
                raise ValueError(f"robust ICP: {name} must be positive, not {getattr(self, name)}")
        if not self.yaws_deg:
            raise ValueError("robust ICP: needs at least one yaw candidate")
        if not 0 <= self.trim < 1:
            raise ValueError(f"robust ICP: trim must lie in [0, 1), not {self.trim}")
        if self.up_axis not in _AXES or self.fine not in ("point_to_plane", "point_to_point"):
            raise ValueError(f"robust ICP: unknown up_axis {self.up_axis!r} or fine {self.fine!r}")

    @property
    def coarse_iterations(self) -> int:
        return max(self.least_iterations, int(self.coarse_share * self.iterations))

    @property
    def fine_iterations(self) -> int:
        return max(self.least_iterations, self.iterations - self.coarse_iterations)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A source cloud's way to its target."""

    transform: NDArray[Any]
    """(4, 4) float64: source to target, in the input's coordinates; its 3x3 is a rotation, times the scale if one
    was estimated."""
    fitness: float
    """Share of source points with a target point nearer than the fine stage's threshold, in [0, 1]."""
    rmse: float
    """Root mean square distance of those points, in the input's unit."""
    fell_back: bool
    """True if the fine stage's result did not pass the sanity checks."""
    stage: Literal["fine", "coarse", "identity"]
    """Where `transform` comes from."""


def robust_icp(source: NDArray[Any], target: NDArray[Any], params: RobustIcpParams | None = None) -> Registration:
    """Align `source` to `target` by a rigid motion (or a similarity), whatever the yaw between them.

    Both clouds are moved and scaled together by the box around them (c = its midpoint, sigma = its largest side).
    Each yaw candidate turns the source about its box's centre and puts that centre on the target's. The seed and the
    coarse stage work on clouds down-sampled to cells of v, the fine stage on all points. The result is projected to
    SO(3) and checked (finite, determinant near 1, translation below the limit); if the fine result fails, the coarse
    one is taken, and if that fails too, the identity. A cloud with rotational symmetry gets one of its equally good
    poses, always the same one for the same input.

    Parameters
    ----------
    source, target : (N, 3) and (M, 3) float
        Points in one frame and unit, up along `params.up_axis`; at least three each.
    params : RobustIcpParams, optional

    Returns
    -------
    Registration

    Raises
    ------
    ValueError
        If a cloud is not (n, 3), has fewer than three points, holds NaN or infinity, or if all points coincide.
    """
    params = params or RobustIcpParams()
    source, target = as_cloud(source, "source"), as_cloud(target, "target")
    if min(len(source), len(target)) < 3:
        raise ValueError("robust ICP needs at least three points in each cloud")
    low = np.minimum(source.min(axis=0), target.min(axis=0))
    high = np.maximum(source.max(axis=0), target.max(axis=0))
    centre, side = (low + high) / 2, float((high - low).max())
    if not side > 0:
        raise ValueError("robust ICP: all points coincide")
    source, target = (source - centre) / side, (target - centre) / side
    target_tree = PointTree(target)
    # In the order of a tree neighbouring queries share the processor's caches.
    source = PointTree(source).points

    small_source, small_target = (steps.voxel_down_sample(cloud, params.voxel) for cloud in (source, target))
    small_tree = PointTree(small_target)

    def point_to_point(moved: NDArray[Any], nearest: NDArray[Any]) -> NDArray[Any]:
        return steps.umeyama(moved, small_tree.points, nearest)

    seeds = [
        steps.icp(
            small_source,
            small_tree,
            start,
            point_to_point,
            threshold=params.seed_threshold * params.voxel,
            iterations=params.seed_iterations,
            tolerance=params.tolerance,
        )
        for start in _yaw_candidates(source, target, small_source, small_target, params)
    ]
    seed = min(seeds, key=lambda result: _seed_score(result, params))

    def coarse_step(moved: NDArray[Any], nearest: NDArray[Any]) -> NDArray[Any]:
        return steps.umeyama(moved, small_tree.points, nearest, with_scale=params.estimate_scale)

    coarse = steps.icp(
        small_source,
        small_tree,
        seed.transform,
        coarse_step,
        threshold=params.coarse_threshold * params.voxel,
        iterations=params.coarse_iterations,
        tolerance=params.tolerance,
    ).transform
    coarse_sane = _sane(coarse, params)
    threshold, fine_step = _fine_stage(target_tree, params)
    begin = _clean(coarse, params) if coarse_sane else seed.transform
    # The scale, if any, is applied to the source beforehand; the fine stage starts from there and stays rigid.
    fine = steps.icp(
        steps.apply(begin, source),
        target_tree,
        np.eye(4),
        fine_step,
        threshold=threshold,
        iterations=params.fine_iterations,
        tolerance=params.tolerance,
    )
    composed = fine.transform @ begin
    stage: Literal["fine", "coarse", "identity"]
    if _sane(composed, params):
        stage, result = "fine", _clean(composed, params)
    elif coarse_sane:
        stage, result = "coarse", begin
    else:
        stage, result = "identity", np.eye(4)
    found = Correspondences(target_tree, len(source), threshold).match(steps.apply(result, source))
    whole = result.copy()
    whole[:3, 3] = side * result[:3, 3] + centre - result[:3, :3] @ centre
    return Registration(
        transform=whole, fitness=found.fitness, rmse=side * found.rmse, fell_back=stage != "fine", stage=stage
    )


def _yaw_candidates(
    source: NDArray[Any],
    target: NDArray[Any],
    small_source: NDArray[Any],
    small_target: NDArray[Any],
    params: RobustIcpParams,
) -> list[NDArray[Any]]:
    """The `keep` best (4, 4) starts by trimmed Chamfer distance, best first."""
    source_centre, target_centre = ((cloud.min(axis=0) + cloud.max(axis=0)) / 2 for cloud in (source, target))
    source_tree, target_tree = (
        PointTree(_subset(cloud, params.prescore_points, params.seed, name))
        for cloud, name in ((small_source, "source"), (small_target, "target"))
    )
    axis = np.eye(3)[_AXES[params.up_axis]]
    starts = []
    for yaw in params.yaws_deg:
        rotation = steps.rotation_from_vector(np.radians(yaw) * axis)
        starts.append(steps.similarity(1.0, rotation, target_centre - rotation @ source_centre))
    scores = [steps.trimmed_chamfer(source_tree, target_tree, start, params.trim) for start in starts]
    return [starts[i] for i in np.argsort(scores, kind="stable")[: params.keep]]


def _subset(points: NDArray[Any], most: int, seed: int, name: str) -> NDArray[Any]:
    if len(points) <= most:
        return points
    rows = generator(seed, "robust-icp", name).choice(len(points), most, replace=False)
    return points[np.sort(rows)]


def _fine_stage(target: PointTree, params: RobustIcpParams) -> tuple[float, steps.Step]:
    """Threshold and step of the fine stage, in normalised lengths."""
    if params.fine == "point_to_point":
        threshold = params.fine_threshold_point_to_point * params.voxel
        return threshold, lambda moved, nearest: steps.umeyama(moved, target.points, nearest)
    surface = SurfaceNormals(target, params.normal_radius * params.voxel, params.normal_neighbours)
    k = params.tukey * params.voxel

    def point_to_plane(moved: NDArray[Any], nearest: NDArray[Any]) -> NDArray[Any]:
        surface.find(nearest)
        return steps.tukey_point_to_plane(moved, target.points, surface.normals, k, nearest)

    return params.fine_threshold * params.voxel, point_to_plane


def _scale_of(transform: NDArray[Any], params: RobustIcpParams) -> float:
    return float(np.cbrt(np.linalg.det(transform[:3, :3]))) if params.estimate_scale else 1.0


def _sane(transform: NDArray[Any], params: RobustIcpParams) -> bool:
    """Finite, a rotation (times a believable scale), not far away; of a transform in normalised coordinates."""
    if not np.isfinite(transform).all():
        return False
    scale = _scale_of(transform, params)
    if not 1 / params.scale_limit <= scale <= params.scale_limit:
        return False
    determinant = float(np.linalg.det(transform[:3, :3] / scale))
    translation = float(np.linalg.norm(transform[:3, 3]))
    return abs(determinant - 1) < params.largest_det_error and translation < params.largest_translation


def _clean(transform: NDArray[Any], params: RobustIcpParams) -> NDArray[Any]:
    """The same transform with its 3x3 part projected to SO(3), times the scale if one is estimated."""
    rotation = steps.project_to_so3(transform[:3, :3])
    return steps.similarity(_scale_of(transform, params), rotation, transform[:3, 3])


def _seed_score(seed: steps.IcpResult, params: RobustIcpParams) -> float:
    # Without a single correspondence rmse is 0, which would look like the best seed of all.
    if not seed.fitness > 0:
        return float("inf")
    weight = params.voxel if params.score_weight is None else params.score_weight
    return seed.rmse + weight * (1 - seed.fitness)
