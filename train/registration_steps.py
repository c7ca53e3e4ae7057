"""The steps that robust ICP is made of: closed-form motions, down-sampling, one ICP loop.

All arrays are float64. A transform is a 4x4 matrix that acts on column vectors: x' = T[:3, :3] x + T[:3, 3].
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.train.correspondences import Correspondences
from randscene.train.point_tree import PointTree


@dataclass(frozen=True, kw_only=True)
class IcpResult:
    """Where an ICP loop ended."""

    transform: NDArray[Any]
    fitness: float
    rmse: float


Step = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""(moved source (N, 3), rows of their target points (N,), -1 for none) -> the (4, 4) motion that brings them closer."""


def apply(transform: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """(N, 3) points moved by a (4, 4) transform."""
    return points @ transform[:3, :3].T + transform[:3, 3]


def umeyama(
    source: NDArray[Any], target: NDArray[Any], nearest: NDArray[Any] | None = None, *, with_scale: bool = False
) -> NDArray[Any]:
    """Least-squares similarity (or rigid) motion between paired points.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991; never a
    reflection.

    Parameters
    ----------
    source, target : (N, 3) and (M, 3) float64
    nearest : (N,) int32, optional
        For each source point the row of its target point, -1 for none; at least three have one. Row by row by default.
    with_scale : bool
        Also estimate one isotropic scale.

    Returns
    -------
    (4, 4) float64
    """
    mean_source, mean_target, covariance, variance = _compiled()[0](source, target, _rows(source, nearest))
    u, singular, vh = np.linalg.svd(covariance)
    signs = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vh) < 0:
        signs[2] = -1
    rotation = (u * signs) @ vh
    scale = 1.0
    if with_scale:
        scale = float(singular @ signs) / variance if variance > 0 else 1.0
    return similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def tukey_point_to_plane(
    source: NDArray[Any], target: NDArray[Any], normals: NDArray[Any], k: float, nearest: NDArray[Any] | None = None
) -> NDArray[Any]:
    """One Gauss-Newton step of point-to-plane ICP with Tukey's biweight.

    Minimises sum w(r) r^2 over small motions, r = (x' - y) . n and w(r) = (1 - (r / k)^2)^2 for |r| < k, else 0.
    Directions that the surfaces do not constrain (sliding along a plane, turning a sphere) get no motion.

    Parameters
    ----------
    source : (N, 3) float64
    target, normals : (M, 3) float64
        The target's points and unit normals, whose sign does not matter. A zero normal takes no part.
    k : float
        Tukey's cut-off, in the unit of the coordinates.
    nearest : (N,) int32, optional
        For each source point the row of its target point, -1 for none; at least one has one. Row by row by default.

    Returns
    -------
    (4, 4) float64
        A rigid motion.
    """
    # Turning about the cloud's own centre keeps the six unknowns well scaled.
    matrix, right_side, centre = _compiled()[1](source, target, normals, _rows(source, nearest), k)
    motion = np.linalg.lstsq(matrix, -right_side, rcond=1e-9)[0]
    rotation = rotation_from_vector(motion[:3])
    return similarity(1.0, rotation, motion[3:] + centre - rotation @ centre)


def rotation_from_vector(vector: NDArray[Any]) -> NDArray[Any]:
    """(3, 3) rotation about `vector` by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-8:
        return project_to_so3(np.eye(3) + cross)
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * (cross @ cross)


def project_to_so3(matrix: NDArray[Any]) -> NDArray[Any]:
    """The rotation nearest to a (3, 3) matrix in the Frobenius norm."""
    u, _, vh = np.linalg.svd(matrix)
    return (u * [1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vh))]) @ vh


def similarity(scale: float, rotation: NDArray[Any], translation: NDArray[Any]) -> NDArray[Any]:
    """The (4, 4) transform x' = scale * rotation x + translation."""
    transform = np.eye(4)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = translation
    return transform


def voxel_down_sample(points: NDArray[Any], size: float) -> NDArray[Any]:
    """One point, the mean, for each occupied cell of a cubic grid.

    Parameters
    ----------
    points : (N, 3) float64
    size : float
        Side of a cell, in the unit of the coordinates; cells begin at the coordinates' origin.

    Returns
    -------
    (M, 3) float64, M <= N, in order of the cells.
    """
    cells = np.floor(points / size).astype(np.int64)
    cells -= cells.min(axis=0)
    _, cell_of, counts = np.unique(
        np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1)), return_inverse=True, return_counts=True
    )
    sums = [np.bincount(cell_of.ravel(), weights=points[:, axis]) for axis in range(3)]
    return np.stack(sums, axis=1) / counts[:, None]


def trimmed_chamfer(source: PointTree, target: PointTree, motion: NDArray[Any], trim: float) -> float:
    """Symmetric Chamfer distance without the farthest points.

    Parameters
    ----------
    source, target : PointTree
        Over the two clouds.
    motion : (4, 4) float64
        A rigid motion to apply to the source first.
    trim : float
        Share of the largest distances that each direction leaves out.

    Returns
    -------
    float
        Sum of the two directions' means of unsquared distances.
    """
    forward = target.nearest(apply(motion, source.points))[0]
    # A rigid motion keeps distances, so the target is moved back instead of building a tree for every motion.
    backward = source.nearest(apply(np.linalg.inv(motion), target.points))[0]
    return _trimmed_mean(forward, trim) + _trimmed_mean(backward, trim)


def icp(
    source: NDArray[Any],
    target: PointTree,
    start: NDArray[Any],
    step: Step,
    *,
    threshold: float,
    iterations: int,
    tolerance: float,
) -> IcpResult:
    """Iterated closest points: match, move, until nothing moves or the budget is spent.

    Parameters
    ----------
    source : (N, 3) float64
    target : PointTree
        Over the target cloud; a step's rows are those of its points.
    start : (4, 4) float64
    step : Step
        The motion for one set of correspondences.
    threshold : float
        Farthest correspondence, in the unit of the coordinates.
    iterations : int
        Most steps to take.
    tolerance : float
        Stop after a step whose matrix differs from the identity by less than this in every entry: with coordinates
        of the order of 1, no point moves by more than a few times as much.

    Returns
    -------
    IcpResult
        Fitness and rmse belong to its transform. With fewer than three correspondences the loop ends where it is.
    """
    transform = start
    correspondences = Correspondences(target, len(source), threshold)
    moved = apply(transform, source)
    found = correspondences.match(moved)
    for _ in range(iterations):
        if found.n_inliers < 3:
            break
        motion = step(moved, found.nearest)
        transform = motion @ transform
        moved = apply(transform, source)
        found = correspondences.match(moved)
        if np.abs(motion - np.eye(4)).max() < tolerance:
            break
    return IcpResult(transform=transform, fitness=found.fitness, rmse=found.rmse)


def _trimmed_mean(distances: NDArray[Any], trim: float) -> float:
    keep = max(1, int(np.ceil((1 - trim) * len(distances))))
    return float(np.mean(np.partition(distances, keep - 1)[:keep]))


def _rows(source: NDArray[Any], nearest: NDArray[Any] | None) -> NDArray[Any]:
    return np.arange(len(source), dtype=np.int32) if nearest is None else nearest


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return compiled(_moments), compiled(_plane_system)


def _moments(
    source: NDArray[Any], target: NDArray[Any], nearest: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    """Means of the pairs, their covariance (target by source), and the source's variance."""
    mean_source, mean_target, covariance = np.zeros(3), np.zeros(3), np.zeros((3, 3))
    count = 0
    for row in range(len(source)):
        other = nearest[row]
        if other < 0:
            continue
        count += 1
        for i in range(3):
            mean_source[i] += source[row, i]
            mean_target[i] += target[other, i]
    mean_source /= count
    mean_target /= count
    variance = 0.0
    for row in range(len(source)):
        other = nearest[row]
        if other < 0:
            continue
        for j in range(3):
            centred = source[row, j] - mean_source[j]
            variance += centred * centred
            for i in range(3):
                covariance[i, j] += (target[other, i] - mean_target[i]) * centred
    return mean_source, mean_target, covariance / count, variance / count


def _plane_system(
    source: NDArray[Any], target: NDArray[Any], normals: NDArray[Any], nearest: NDArray[Any], k: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(6, 6) matrix and right side of the normal equations of a small turn about the centre and a shift; the centre."""
    centre = np.zeros(3)
    count = 0
    for row in range(len(source)):
        if nearest[row] >= 0:
            count += 1
            for i in range(3):
                centre[i] += source[row, i]
    centre /= count
    matrix, right_side, gradient = np.zeros((6, 6)), np.zeros(6), np.empty(6)
    for row in range(len(source)):
        other = nearest[row]
        if other < 0:
            continue
        nx, ny, nz = normals[other, 0], normals[other, 1], normals[other, 2]
        x, y, z = source[row, 0], source[row, 1], source[row, 2]
        residual = (x - target[other, 0]) * nx + (y - target[other, 1]) * ny + (z - target[other, 2]) * nz
        share = residual / k
        if abs(share) >= 1:
            continue
        weight = (1 - share * share) ** 2
        x, y, z = x - centre[0], y - centre[1], z - centre[2]
        gradient[0], gradient[1], gradient[2] = y * nz - z * ny, z * nx - x * nz, x * ny - y * nx
        gradient[3], gradient[4], gradient[5] = nx, ny, nz
        for i in range(6):
            weighted = weight * gradient[i]
            right_side[i] += weighted * residual
            for j in range(i + 1):
                matrix[i, j] += weighted * gradient[j]
    for i in range(6):
        for j in range(i):
            matrix[j, i] = matrix[i, j]
    return matrix, right_side, centre
