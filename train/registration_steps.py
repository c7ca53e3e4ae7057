"""The steps that robust ICP is made of: closed-form motions, normals, down-sampling, one ICP loop.

All arrays are float64. A transform is a 4x4 matrix that acts on column vectors: x' = T[:3, :3] x + T[:3, 3].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from randscene.train.correspondences import Correspondences

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_CHUNK = 16384
"""Points whose neighbourhoods are gathered at once, to bound memory."""


@dataclass(frozen=True, kw_only=True)
class IcpResult:
    """Where an ICP loop ended."""

    transform: np.ndarray
    fitness: float
    rmse: float


Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(moved inliers (M, 3), indices of their target points (M,)) -> the (4, 4) motion that brings them closer."""


def apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3) points moved by a (4, 4) transform."""
    return points @ transform[:3, :3].T + transform[:3, 3]


def umeyama(source: np.ndarray, target: np.ndarray, *, with_scale: bool = False) -> np.ndarray:
    """Least-squares similarity (or rigid) motion between paired points.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991; never a
    reflection.

    Parameters
    ----------
    source, target : (N, 3) float64, N >= 3
        Pairs, row by row.
    with_scale : bool
        Also estimate one isotropic scale.

    Returns
    -------
    (4, 4) float64
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    centred = source - mean_source
    covariance = (target - mean_target).T @ centred / len(source)
    u, singular, vh = np.linalg.svd(covariance)
    signs = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vh) < 0:
        signs[2] = -1
    rotation = (u * signs) @ vh
    scale = 1.0
    if with_scale:
        variance = float(np.mean(np.sum(centred**2, axis=1)))
        scale = float(singular @ signs) / variance if variance > 0 else 1.0
    return similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def tukey_point_to_plane(source: np.ndarray, target: np.ndarray, normals: np.ndarray, k: float) -> np.ndarray:
    """One Gauss-Newton step of point-to-plane ICP with Tukey's biweight.

    Minimises sum w(r) r^2 over small motions, r = (x' - y) . n and w(r) = (1 - (r / k)^2)^2 for |r| < k, else 0.
    Directions that the surfaces do not constrain (sliding along a plane, turning a sphere) get no motion.

    Parameters
    ----------
    source, target, normals : (N, 3) float64
        Pairs, row by row; the target's unit normals, whose sign does not matter. A zero normal takes no part.
    k : float
        Tukey's cut-off, in the unit of the coordinates.

    Returns
    -------
    (4, 4) float64
        A rigid motion.
    """
    residual = np.einsum("ij,ij->i", source - target, normals)
    weight = np.clip(1 - (residual / k) ** 2, 0, None) ** 2
    # Turning about the cloud's own centre keeps the six unknowns well scaled.
    centre = source.mean(axis=0)
    jacobian = np.concatenate([np.cross(source - centre, normals), normals], axis=1)
    weighted = jacobian * weight[:, None]
    motion = np.linalg.lstsq(weighted.T @ jacobian, -(weighted.T @ residual), rcond=1e-9)[0]
    rotation = rotation_from_vector(motion[:3])
    return similarity(1.0, rotation, motion[3:] + centre - rotation @ centre)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about `vector` by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-8:
        return project_to_so3(np.eye(3) + cross)
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * (cross @ cross)


def project_to_so3(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to a (3, 3) matrix in the Frobenius norm."""
    u, _, vh = np.linalg.svd(matrix)
    return (u * [1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vh))]) @ vh


def similarity(scale: float, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """The (4, 4) transform x' = scale * rotation x + translation."""
    transform = np.eye(4)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = translation
    return transform


def voxel_down_sample(points: np.ndarray, size: float) -> np.ndarray:
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


def estimate_normals(tree: "cKDTree", radius: float, neighbours: int) -> np.ndarray:
    """Unit normals of a cloud by local plane fits.

    Parameters
    ----------
    tree : scipy.spatial.cKDTree
        Over the (N, 3) cloud.
    radius : float
        Only points nearer than this take part.
    neighbours : int
        At most so many of the nearest take part, the point itself among them.

    Returns
    -------
    (N, 3) float64
        Of either sign. Zero where fewer than three points lie in reach: such a point has no plane.
    """
    points = np.asarray(tree.data)
    normals = np.zeros_like(points)
    order = np.asarray(tree.indices)
    for start in range(0, len(points), _CHUNK):
        rows = order[start : start + _CHUNK]
        distance, index = tree.query(points[rows], k=min(neighbours, len(points)), distance_upper_bound=radius)
        distance, index = distance.reshape(len(rows), -1), index.reshape(len(rows), -1)
        near = np.isfinite(distance)
        # A missing neighbour is replaced by the point itself and weighted out.
        offset = points[np.where(near, index, rows[:, None])] - points[rows][:, None]
        count = near.sum(axis=1)
        mean = offset.sum(axis=1) / count[:, None]
        scatter = np.matmul(offset.transpose(0, 2, 1), offset) - count[:, None, None] * mean[:, :, None] * mean[:, None]
        _, vectors = np.linalg.eigh(scatter)
        normals[rows] = np.where(count[:, None] >= 3, vectors[:, :, 0], 0.0)
    return normals


def trimmed_chamfer(source_tree: "cKDTree", target_tree: "cKDTree", motion: np.ndarray, trim: float) -> float:
    """Symmetric Chamfer distance without the farthest points.

    Parameters
    ----------
    source_tree, target_tree : scipy.spatial.cKDTree
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
    forward = target_tree.query(apply(motion, np.asarray(source_tree.data)))[0]
    # A rigid motion keeps distances, so the target is moved back instead of building a tree for every motion.
    backward = source_tree.query(apply(np.linalg.inv(motion), np.asarray(target_tree.data)))[0]
    return _trimmed_mean(forward, trim) + _trimmed_mean(backward, trim)


def icp(
    source: np.ndarray,
    target: "cKDTree",
    start: np.ndarray,
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
    target : scipy.spatial.cKDTree
        Over the target cloud.
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
        if len(found.nearest) < 3:
            break
        motion = step(moved[found.inliers], found.nearest)
        transform = motion @ transform
        moved = apply(transform, source)
        found = correspondences.match(moved)
        if np.abs(motion - np.eye(4)).max() < tolerance:
            break
    return IcpResult(transform=transform, fitness=found.fitness, rmse=found.rmse)


def _trimmed_mean(distances: np.ndarray, trim: float) -> float:
    keep = max(1, int(np.ceil((1 - trim) * len(distances))))
    return float(np.mean(np.partition(distances, keep - 1)[:keep]))
