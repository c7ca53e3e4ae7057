"""The turn of the yaw frame where only a camera is known: `randscene.generator.world_to_view` is its definition."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

POLE = 1e-6
"""A camera whose horizontal distance from what it looks at is below this share of its distance stands at a pole."""


def yaw_rotation(arm: NDArray[Any], right: NDArray[Any]) -> NDArray[Any] | None:
    """(3, 3) float64 turn about Z that puts a camera on the -Y side: right in its picture is +X, away from it +Y.

    Parameters
    ----------
    arm : (3,) float
        From what the camera looks at to the camera, world Z-up.
    right : (3,) float
        The picture's right axis in the world: above or below the scene it alone still has a heading.

    Returns
    -------
    numpy.ndarray or None
        None where neither has a heading.
    """
    flat = math.hypot(arm[0], arm[1])
    if flat > POLE * float(np.linalg.norm(arm)):
        cosine, sine = arm[0] / flat, arm[1] / flat
    elif (flat := math.hypot(right[0], right[1])) > POLE:
        cosine, sine = right[1] / flat, -right[0] / flat
    else:
        return None
    # By -pi/2 - psi, where (cosine, sine) are psi's.
    return np.array([[-sine, cosine, 0], [-cosine, -sine, 0], [0, 0, 1]], np.float64)


def about_vertical(degrees: float) -> NDArray[Any]:
    """(4, 4) turn about Z, counter-clockwise seen from above."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn
