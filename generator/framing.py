"""How far a camera stands, so that the scene fills its picture without being cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import SpecError
from randscene.generator.cameras import camera_axes, directions
from randscene.generator.placement import PlacedAsset
from randscene.generator.recipe import DECIMALS, Camera, Vector3
from randscene.generator.trigonometry import tan_half
from randscene.manifests.spec_sections import CameraSpec

CLEARANCE = 0.1
"""Of the scene's radius: no camera stands nearer to its look-at point, nor to the plane of the nearest corner."""

ANGLE_DECIMALS = 6
"""Angles in a recipe are rounded to 1e-6 degrees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What the cameras of a scene look at, as far as planning knows it; metres, world frame."""

    corners: NDArray[Any]
    """(P, 3) float64: corners of the boxes of all instances. What they enclose holds the scene."""
    look_at: Vector3
    """Middle of the scene's box."""
    radius: float
    """Of the sphere around `look_at` that holds all corners."""
    extent: float
    """Largest side of the scene's box."""

    @classmethod
    def of(cls, placed: Sequence[PlacedAsset]) -> "Subject":
        """A scene whose box is centred above the origin, as layouts are."""
        corners = np.array([corner for item in placed for corner in item.corners()])
        low, high = corners.min(axis=0), corners.max(axis=0)
        look_at = (0.0, 0.0, round(float(low[2] + high[2]) / 2, DECIMALS))
        x, y, z = (corners - np.asarray(look_at)).T
        radius = math.sqrt(float((x * x + y * y + z * z).max()))
        return cls(corners=corners, look_at=look_at, radius=radius, extent=float((high - low).max()))


def make_cameras(rules: CameraSpec, rng: np.random.Generator, subject: Subject) -> tuple[Camera, ...]:
    """The cameras of one scene.

    Directions are drawn first, then all jitter of all views, used or not: one setting moves no other's draws.

    Parameters
    ----------
    rules : CameraSpec
    rng : numpy.random.Generator
        Only its `random()` is used.
    subject : Subject

    Raises
    ------
    SpecError
        If the kind or the framing is unknown.
    """
    towards = directions(rules.kind, rules.views, rng, azimuth_deg=rules.azimuth_deg, elevation_deg=rules.elevation_deg)
    draws = rng.random((rules.views, 6))

    def between(low: float, high: float, column: int) -> NDArray[Any]:
        return low + (high - low) * draws[:, column]

    fov = rules.fov_deg if isinstance(rules.fov_deg, tuple) else (rules.fov_deg, rules.fov_deg)
    angles = np.round(between(*fov, 0), ANGLE_DECIMALS)
    axes = camera_axes(towards, between(*rules.roll_deg, 1) / 360)
    # Each coordinate within 1/sqrt(3) of it: never farther off than this.
    reach = rules.look_at_jitter * subject.radius / math.sqrt(3)
    offsets = (2 * draws[:, 2:5] - 1) * reach
    distances = fitted_distances(rules.framing, axes, offsets, tan_half(angles), rules.margin, subject)
    distances = distances * between(*rules.distance_jitter, 5)
    matrices = np.tile(np.eye(4), (rules.views, 1, 1))
    matrices[:, :3, :3] = axes
    matrices[:, :3, 3] = np.asarray(subject.look_at) + offsets + distances[:, None] * axes[:, :, 2]
    # Adding zero turns -0.0 into 0.0.
    matrices = np.round(matrices, DECIMALS) + 0.0
    return tuple(
        Camera(camera_to_world=tuple(map(tuple, matrix)), fov_deg=angle)
        for matrix, angle in zip(matrices.tolist(), angles.tolist())
    )


def fitted_distances(
    framing: str, axes: NDArray[Any], offsets: NDArray[Any], slopes: NDArray[Any], margin: float, subject: Subject
) -> NDArray[Any]:
    """Distances of V cameras from the points that they look at, by the framing that a spec names.

    `tight` is the smallest distance at which all corners are in the picture and off its border by the margin; `sphere`
    the same for the scene's bounding sphere; `trellis` two times the largest extent, which is TRELLIS's unit cube seen
    from a radius of 2 (`dataset_toolkits/render.py`): no margin is kept there, and corners may be cut.

    Parameters
    ----------
    framing : str
    axes : numpy.ndarray
        (V, 3, 3) rotations, columns right, up, backwards.
    offsets : numpy.ndarray
        (V, 3) metres, from the subject's `look_at` to the point that each camera looks at.
    slopes : numpy.ndarray
        (V,) tangents of half the fields of view.
    margin : float
        Share of the half frame that stays free.
    subject : Subject

    Returns
    -------
    numpy.ndarray
        (V,) float64 metres.

    Raises
    ------
    SpecError
        If there is no such framing.
    """
    if framing == "tight":
        return box_distances(axes, offsets, (1 - margin) * slopes, subject)
    if framing == "sphere":
        x, y, z = offsets.T
        return sphere_distances(subject.radius + np.sqrt(x * x + y * y + z * z), (1 - margin) * slopes)
    if framing == "trellis":
        return np.full(len(axes), 2 * subject.extent)
    raise SpecError(f"cameras.framing: {framing!r} is none of tight, sphere, trellis")


def box_distances(axes: NDArray[Any], offsets: NDArray[Any], slopes: NDArray[Any], subject: Subject) -> NDArray[Any]:
    """The smallest distances at which every corner projects within `slopes` of the picture's centre, both ways.

    A corner q, from the point looked at, has the depth D - q.backwards and stands |q.right| and |q.up| off the axis, so
    D >= q.backwards + max(|q.right|, |q.up|) / slope. All corners are ahead of the camera then, and what they enclose
    with them; `CLEARANCE` keeps it off a scene that is thin as seen from there.

    Parameters
    ----------
    axes : numpy.ndarray
        (V, 3, 3) rotations, columns right, up, backwards.
    offsets : numpy.ndarray
        (V, 3) metres, from the subject's `look_at` to the point looked at.
    slopes : numpy.ndarray
        (V,) lateral over axial.
    subject : Subject

    Returns
    -------
    numpy.ndarray
        (V,) float64 metres.
    """
    x, y, z = (subject.corners - np.asarray(subject.look_at)).T

    def along(column: int) -> NDArray[Any]:
        # Products and sums one by one, not a matrix product, whose last bits depend on the machine's linear algebra.
        a, b, c = (np.ascontiguousarray(axes[:, row, column, None]) for row in range(3))
        result = a * x
        result += b * y
        result += c * z
        result -= a * offsets[:, 0:1] + b * offsets[:, 1:2] + c * offsets[:, 2:3]
        return result

    depth = along(2)
    nearest = np.maximum(depth.max(axis=1), 0.0)
    across, up = along(0), along(1)
    lateral = np.maximum(np.abs(across, out=across), np.abs(up, out=up), out=up)
    lateral *= 1 / slopes[:, None]
    lateral += depth
    return np.maximum(lateral.max(axis=1), nearest + CLEARANCE * subject.radius)


def sphere_distances(radii: NDArray[Any], slopes: NDArray[Any]) -> NDArray[Any]:
    """Distances at which spheres fit square pictures.

    Parameters
    ----------
    radii : numpy.ndarray
        (V,) of the spheres around the points looked at, metres.
    slopes : numpy.ndarray
        (V,) lateral over axial: where the sphere's outline shall be.

    Returns
    -------
    numpy.ndarray
        (V,) float64 metres from the sphere's centre to the camera.
    """
    return radii * np.sqrt(1 + slopes * slopes) / slopes
