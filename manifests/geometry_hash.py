"""What shape a mesh has, as one short text: copies of a shape are found by it, whatever else differs."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.asset_mesh import AssetMesh

STEP = np.pi * 1e-4
"""Rounding of the numbers that are hashed. Irrational, so that the round numbers of hand-made shapes do not lie on the
border between two steps, where a unit conversion's last bit would decide."""


def geometry_hash(mesh: AssetMesh) -> str:
    """Hash of the surface that a mesh covers.

    The surface is moved and scaled into the unit cube; its area, centroid and second moments and its box's proportions
    are rounded and hashed. Materials, names, units, offsets, vertex order, split or merged vertices and the way in
    which faces are cut into triangles do not matter; proportions, turns and mirror images do. A copy that was
    rounded on the way is told from its original only where a number lies that near to the border between two steps.

    Parameters
    ----------
    mesh : AssetMesh
        With at least one triangle that has an area.

    Returns
    -------
    str
        32 hex digits.
    """
    steps = np.rint(shape_numbers(mesh) / STEP).astype(np.int64)
    return hashlib.sha256(b"geometry 1:" + steps.astype("<i8").tobytes()).hexdigest()[:32]


def shape_numbers(mesh: AssetMesh) -> NDArray[Any]:
    """(13,) float64: what is rounded and hashed, of the surface in the unit cube: the logarithm of its area, its
    centroid, its second moments (upper triangle) and the proportions of its box."""
    lower, upper = mesh.bounds
    size = upper - lower
    unit = size.max()
    corners = (mesh.vertices - (lower + upper) / 2)[mesh.faces] / unit
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    total = areas.sum()
    weights = areas / total
    sums = corners.sum(axis=1)
    centroid = weights @ sums / 3
    # The integral of x x^T over a triangle is area / 12 (sum of v v^T over its corners + s s^T), s the sum of corners.
    second = (
        np.einsum("f,fci,fcj->ij", weights, corners, corners) + np.einsum("f,fi,fj->ij", weights, sums, sums)
    ) / 12
    return np.concatenate(([np.log(total)], centroid, second[np.triu_indices(3)], size / unit))
