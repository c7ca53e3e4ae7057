"""Cameras around a scene: directions over the sphere, axes, look-at matrices, intrinsics."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import SpecError
from randscene.generator.trigonometry import cos_sin, tan_half

GOLDEN_TURN = (3 - math.sqrt(5)) / 2
"""The golden angle, in turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Directions:
    """From the look-at point to each of V cameras; world Z up."""

    turns: NDArray[Any]
    """(V,) float64 azimuth from +X towards +Y, in turns. Defined at the poles too: there it alone decides which way is
    up in the picture."""
    height: NDArray[Any]
    """(V,) float64 sine of the elevation, in [-1, 1]."""


def uniform_directions(views: int, rng: np.random.Generator, *, lowest: float = -1.0) -> Directions:
    """Spherical Fibonacci points: even over the sphere, with a random turn about Z.

    Parameters
    ----------
    views : int
    rng : numpy.random.Generator
        Gives the turn.
    lowest : float
        Sine of the lowest elevation: -1 for the whole sphere, 0 for the upper half.
    """
    index = np.arange(views)
    return Directions(
        turns=GOLDEN_TURN * index + rng.random(),
        height=1 - (1 - lowest) * (index + 0.5) / views,
    )


def trellis_directions(views: int, offset: tuple[float, float]) -> Directions:
    """TRELLIS's Hammersley sequence (`dataset_toolkits/utils.py::sphere_hammersley_sequence`).

    Not even: its first coordinate is bent so that a quarter of the views lies below the horizon.

    Parameters
    ----------
    views : int
    offset : (float, float)
        Shifts of the two coordinates, each in [0, 1); TRELLIS draws them unseeded.
    """
    u = (np.arange(views) + offset[0]) / views
    u = np.where(u < 0.25, 2 * u, 2 / 3 * u + 1 / 3)
    v = np.array([_radical_inverse(index) for index in range(views)])
    return Directions(turns=v + offset[1], height=2 * u - 1)


def random_directions(views: int, rng: np.random.Generator) -> Directions:
    """Independent directions, uniform over the sphere."""
    draws = np.array([[rng.random(), rng.random()] for _ in range(views)])
    return Directions(turns=draws[:, 0], height=2 * draws[:, 1] - 1)


def front_directions(
    views: int, rng: np.random.Generator, *, azimuth_deg: float, elevation_deg: tuple[float, float]
) -> Directions:
    """Independent directions from the front, as people take pictures.

    Parameters
    ----------
    views : int
    rng : numpy.random.Generator
        Only its `random()` is used, twice a view.
    azimuth_deg : float
        Azimuths are uniform within this of -Y, either way.
    elevation_deg : (float, float)
        Elevations are uniform over this range.
    """
    draws = np.array([[rng.random(), rng.random()] for _ in range(views)])
    low, high = elevation_deg
    return Directions(
        turns=0.75 + (2 * draws[:, 0] - 1) * (azimuth_deg / 360),
        height=cos_sin((low + (high - low) * draws[:, 1]) / 360)[1],
    )


def directions(
    kind: str,
    views: int,
    rng: np.random.Generator,
    *,
    azimuth_deg: float = 60.0,
    elevation_deg: tuple[float, float] = (5.0, 45.0),
) -> Directions:
    """Directions of one of the kinds that a spec names: `uniform`, `trellis`, `upper`, `random`, `front`.

    The two angles are for `front` alone.

    Raises
    ------
    SpecError
        If there is no such kind.
    """
    if kind == "uniform":
        return uniform_directions(views, rng)
    if kind == "upper":
        return uniform_directions(views, rng, lowest=0.0)
    if kind == "trellis":
        return trellis_directions(views, (rng.random(), rng.random()))
    if kind == "random":
        return random_directions(views, rng)
    if kind == "front":
        return front_directions(views, rng, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg)
    raise SpecError(f"cameras.kind: {kind!r} is none of uniform, trellis, upper, random, front")


def camera_axes(towards: Directions, roll: NDArray[Any] | float = 0.0) -> NDArray[Any]:
    """Right, up and backwards of cameras that look along `-towards`, world Z up in the picture before the roll.

    The picture's right is horizontal and follows from the azimuth alone, so straight up and straight down are no
    special case.

    Parameters
    ----------
    towards : Directions
        V directions from what is looked at to the cameras.
    roll : numpy.ndarray or float
        (V,) or one for all: turn about the camera's own axis, counter-clockwise as it looks, in turns.

    Returns
    -------
    numpy.ndarray
        (V, 3, 3) float64 rotations: columns are right, up, backwards, world frame.
    """
    cosine, sine = cos_sin(towards.turns)
    height = towards.height
    flat = np.sqrt(np.maximum(0.0, (1 - height) * (1 + height)))
    right = np.stack([-sine, cosine, np.zeros_like(sine)], axis=1)
    up = np.stack([-height * cosine, -height * sine, flat], axis=1)
    if np.any(roll):
        c, s = (value[:, None] for value in cos_sin(np.broadcast_to(np.asarray(roll, np.float64), height.shape)))
        right, up = c * right + s * up, c * up - s * right
    return np.stack([right, up, np.stack([flat * cosine, flat * sine, height], axis=1)], axis=2)


def look_at_matrices(towards: Directions, look_at: tuple[float, float, float], distance: float) -> NDArray[Any]:
    """Camera-to-world matrices of cameras that look at one point from one distance, world Z up in the picture.

    Parameters
    ----------
    towards : Directions
        V directions from the point to the cameras.
    look_at : (float, float, float)
        Metres, world frame.
    distance : float
        Metres.

    Returns
    -------
    numpy.ndarray
        (V, 4, 4) float64, Blender/OpenGL convention: columns are right, up, backwards, position.
    """
    axes = camera_axes(towards)
    matrices = np.tile(np.eye(4), (len(axes), 1, 1))
    matrices[:, :3, :3] = axes
    matrices[:, :3, 3] = np.asarray(look_at, np.float64) + distance * axes[:, :, 2]
    return matrices


def intrinsics(fov_deg: float, resolution: int) -> NDArray[Any]:
    """Pinhole matrix of a square camera.

    Parameters
    ----------
    fov_deg : float
        Field of view over the whole width, degrees.
    resolution : int
        Width and height, pixels.

    Returns
    -------
    numpy.ndarray
        (3, 3) float64: pixel u to the right, v down, the upper left corner of the picture at (0, 0), so pixel
        (row, column) has its centre at (column + 0.5, row + 0.5). The depth axis is -Z of the camera.
    """
    focal = resolution / (2 * tan_half(fov_deg))
    return np.array([[focal, 0, resolution / 2], [0, focal, resolution / 2], [0, 0, 1]], np.float64)


def _radical_inverse(index: int) -> float:
    """Radical inverse in base 2."""
    value, weight = 0.0, 0.5
    while index:
        value += weight * (index & 1)
        index >>= 1
        weight /= 2
    return value
