"""Whether something lies wholly inside a closed mesh, which a test of the surfaces alone cannot tell."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.generator.collision_body import PlacedBody, Shell

_DIRECTIONS = np.array([[0.267, 0.534, 0.802], [-0.872, 0.218, 0.436], [0.371, -0.743, 0.557]])
"""Odd directions, which the edges of hand-made meshes do not run along."""
_BLOCK = 1 << 21
"""Point and triangle pairs that are looked at together, which bounds the memory."""


def holds_part_of(solid: PlacedBody, other: PlacedBody, shift: NDArray[Any]) -> bool:
    """Whether a connected part of `other`, moved by `shift`, lies inside a closed shell of `solid`.

    Only where the two surfaces do not meet: then a part is inside a shell if one of its points is. A shell is a
    connected part of a mesh without an open edge. Meshes that are open hold nothing, and neither does the hollow of a
    bowl or the room under a table, which are outside of their shells.

    Parameters
    ----------
    solid, other : PlacedBody
    shift : numpy.ndarray
        (3,) metres, world.
    """
    lower, upper = solid.bounds
    if (other.bounds[1] + shift < lower).any() or (other.bounds[0] + shift > upper).any():
        return False
    samples, _ = other.body.parts
    points = samples @ other.pose[:3, :3].T + (other.pose[:3, 3] + shift)
    points = points[((points >= lower) & (points <= upper)).all(axis=1)]
    if not len(points):
        return False
    points = solid.in_asset_frame(points)
    return any(bool(is_inside(shell, points).any()) for shell in solid.body.parts[1])


def is_inside(shell: Shell, points: NDArray[Any]) -> NDArray[Any]:
    """Which points lie inside a shell: rays from them cross it an odd number of times, by a majority of three rays.

    Parameters
    ----------
    shell : Shell
    points : numpy.ndarray
        (K, 3) float64, the frame of the shell.

    Returns
    -------
    numpy.ndarray
        (K,) bool.
    """
    result = np.zeros(len(points), bool)
    near = np.flatnonzero(((points >= shell.bounds[0]) & (points <= shell.bounds[1])).all(axis=1))
    block = max(1, _BLOCK // len(shell.faces))
    for start in range(0, len(near), block):
        chosen = near[start : start + block]
        votes = sum(_crossings(shell, points[chosen], _frame(direction)) % 2 for direction in _DIRECTIONS)
        result[chosen] = votes >= 2
    return result


def _crossings(shell: Shell, points: NDArray[Any], frame: NDArray[Any]) -> NDArray[Any]:
    """(K,) int: how often rays along the last axis of `frame` (3, 3) cross the shell."""
    corners = (shell.vertices @ frame.T)[shell.faces]
    rays = (points @ frame.T)[:, None]
    # A side is the sign of one expression, which is exactly opposite for the edge's other direction: no ray slips
    # through between two triangles.
    sides = []
    for one, two in ((0, 1), (1, 2), (2, 0)):
        a, b = corners[:, one] - rays, corners[:, two] - rays
        sides.append(a[..., 0] * b[..., 1] - b[..., 0] * a[..., 1])
    first, second, third = sides
    total = first + second + third
    across = ((first >= 0) == (second >= 0)) & ((second >= 0) == (third >= 0)) & (total != 0)
    height = second * corners[:, 0, 2] + third * corners[:, 1, 2] + first * corners[:, 2, 2]
    return np.count_nonzero(across & (height * np.sign(total) > rays[..., 2] * np.abs(total)), axis=1)


def _frame(direction: NDArray[Any]) -> NDArray[Any]:
    """A rotation (3, 3) whose last row is along `direction`."""
    axis = direction / np.linalg.norm(direction)
    across = np.cross(axis, [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    return np.stack((across, np.cross(axis, across), axis))
