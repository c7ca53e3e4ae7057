"""The view-centric frame: the scene turned so that the camera looks along +Y, scaled into the unit cube."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.errors import AssetError, RandsceneError
from randscene.generator.trigonometry import cos_sin

FRAMES = ("yaw", "full", "canonical")

POLE = 1e-6
"""A camera whose horizontal distance from the look-at point is below this share of its distance stands at a pole."""


def world_to_view(
    camera_to_world: NDArray[Any],
    look_at: NDArray[Any],
    vertices: NDArray[Any],
    frame: str = "yaw",
    azimuth_offset_deg: float = 0.0,
) -> NDArray[Any]:
    """The transform from the world to the view-centric cube [-0.5, 0.5]^3: x' = s (R x - c).

    `yaw` turns the scene about Z until the camera stands at -Y (picture right is +X, away from the camera +Y, up +Z);
    `full` takes over the camera's whole rotation; `canonical` does not rotate. Then c is the midpoint of the bounding
    box of the rotated vertices and s one over its largest side, so one transform serves the scene and its instances.

    Parameters
    ----------
    camera_to_world : numpy.ndarray
        (4, 4), metres, Blender/OpenGL camera (looks down -Z, +Y up).
    look_at : numpy.ndarray
        (3,) metres, world Z-up.
    vertices : numpy.ndarray
        (V, 3) metres, world: all vertices of all instances that belong to the scene.
    frame : {"yaw", "full", "canonical"}
    azimuth_offset_deg : float
        A further turn about the view frame's +Z, degrees, counter-clockwise seen from above.

    Returns
    -------
    numpy.ndarray
        (4, 4) float64, scale included; acts on column vectors.

    Raises
    ------
    AssetError
        If the vertices are empty, not finite, or all the same point.
    RandsceneError
        If the frame is unknown or the camera stands on the look-at point.
    """
    camera, target = np.asarray(camera_to_world, np.float64), np.asarray(look_at, np.float64)
    points = np.ascontiguousarray(vertices, np.float64).reshape(-1, 3)
    if not len(points):
        raise AssetError("empty", "the scene has no vertices, so it has no view-centric frame")
    if not (np.isfinite(camera).all() and np.isfinite(target).all()):
        raise RandsceneError("the camera or its look-at point is not finite")
    transform = _affine(_rotation(camera, target, frame))
    if azimuth_offset_deg:
        turn = _about_z(*cos_sin(azimuth_offset_deg / 360))
        transform[:3, :3] = apply_transform(_affine(turn), transform[:3, :3].T).T
    low, high = _compiled()(points, transform)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise AssetError("non_finite", "the scene has vertices that are not finite; drop the asset")
    side = float((high - low).max())
    if side <= 0:
        raise AssetError("degenerate", "all vertices of the scene are the same point, so it has no scale")
    transform[:3, :3] /= side
    transform[:3, 3] = -(low + high) / (2 * side)
    return transform


def apply_transform(transform: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Map points by an affine matrix.

    Parameters
    ----------
    transform : numpy.ndarray
        (4, 4), acts on column vectors.
    points : numpy.ndarray
        (V, 3).

    Returns
    -------
    numpy.ndarray
        (V, 3) float64.
    """
    matrix = np.asarray(transform, np.float64)
    x, y, z = np.asarray(points, np.float64).reshape(-1, 3).T
    # Written out: a BLAS product may differ in its last bit from one kind of processor to the next.
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]], axis=1)


@functools.cache
def _compiled() -> Callable[..., tuple[NDArray[Any], NDArray[Any]]]:
    return compiled(_bounds)


def _bounds(points: NDArray[Any], transform: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper corner, (3,) each, of points (V, 3) mapped by a (4, 4) affine; not finite if a point is not."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for v in range(len(points)):
        for axis in range(3):
            # In the order of `apply_transform`: the same bits.
            value = transform[axis, 0] * points[v, 0] + transform[axis, 1] * points[v, 1]
            value = value + transform[axis, 2] * points[v, 2] + transform[axis, 3]
            if not np.isfinite(value):
                low[axis] = high[axis] = value
                return low, high
            low[axis], high[axis] = min(low[axis], value), max(high[axis], value)
    return low, high


def _rotation(camera: NDArray[Any], look_at: NDArray[Any], frame: str) -> NDArray[Any]:
    """(3, 3) rotation from world to view axes."""
    if frame == "yaw":
        cosine, sine = _heading(camera, look_at)
        return _about_z(-sine, -cosine)  # the angle -pi/2 - psi
    if frame == "full":
        right, up, backwards = camera[:3, 0], camera[:3, 1], camera[:3, 2]
        return np.stack([right, -backwards, up])
    if frame == "canonical":
        return np.eye(3)
    raise RandsceneError(f"frame {frame!r} is none of {', '.join(FRAMES)}")


def _heading(camera: NDArray[Any], look_at: NDArray[Any]) -> tuple[float, float]:
    """(cos, sin) of psi, the azimuth of the camera about the look-at point.

    Only square roots and divisions, no trigonometry: the same bits on every machine. At a pole the position has no
    azimuth; it is read off the picture's horizontal right axis, which still has the azimuth the camera was drawn with.
    """
    arm_x, arm_y, arm_z = (float(value) for value in camera[:3, 3] - look_at)
    flat, distance = math.sqrt(arm_x * arm_x + arm_y * arm_y), math.sqrt(arm_x * arm_x + arm_y * arm_y + arm_z * arm_z)
    if distance == 0:
        raise RandsceneError("the camera stands on its look-at point, so the view has no direction")
    if flat > POLE * distance:
        return arm_x / flat, arm_y / flat
    right_x, right_y = float(camera[0, 0]), float(camera[1, 0])
    flat = math.sqrt(right_x * right_x + right_y * right_y)
    if flat < POLE:
        raise RandsceneError("the camera looks straight up or down and its right axis is vertical: it has no azimuth")
    return right_y / flat, -right_x / flat


def _affine(rotation: NDArray[Any]) -> NDArray[Any]:
    transform = np.eye(4)
    transform[:3, :3] = rotation
    return transform


def _about_z(cosine: float, sine: float) -> NDArray[Any]:
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float64)
