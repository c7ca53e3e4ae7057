"""What vessels share: hollow profiles with a lip, handles."""

import math
from collections.abc import Sequence

import numpy as np

from randscene.manifests.procedural import curves
from randscene.manifests.procedural.model import FloatArray, Surface
from randscene.manifests.procedural.primitives import lathe, tube


def shell(outer: FloatArray, thickness: float, floor: float) -> FloatArray:
    """Profile of an open vessel with a rounded lip.

    Parameters
    ----------
    outer : (K, 2) float64
        Radius and height of the outer wall from the foot to the lip, metres.
    thickness : float
        Wall thickness, metres.
    floor : float
        Height of the inner floor, metres.

    Returns
    -------
    (M, 2) float64
        Up the outer wall, over the lip, down the inner wall to the axis.
    """
    along = np.concatenate([outer[1:], outer[-1:]]) - np.concatenate([outer[:1], outer[:-1]])
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    inner = outer + thickness * np.stack([-along[:, 1], along[:, 0]], axis=1)
    middle, half = (outer[-1] + inner[-1]) / 2, (outer[-1] - inner[-1]) / 2
    angle = np.linspace(0, math.pi, 7)[1:-1]
    lip = middle + np.cos(angle)[:, None] * half + np.sin(angle)[:, None] * along[-1] * thickness / 2
    inner = inner[(inner[:, 1] > floor + thickness * 0.2) & (inner[:, 0] > 0.003)]
    down = [inner[-1]]
    for point in inner[-2::-1]:  # only ever downwards
        if point[1] < down[-1][1] - 1e-5:
            down.append(point)
    bottom = np.array([[max(down[-1][0] - thickness * 0.6, 0.002), floor], [0.0, floor]])
    return np.concatenate([outer, lip, np.array(down), bottom])


def hollow(
    outer: FloatArray, thickness: float, floor: float, segments: int = 40, section: FloatArray | None = None
) -> Surface:
    return lathe(shell(outer, thickness, floor), segments, section=section)


def handle_tube(points: Sequence[Sequence[float]], radius: float, flat: float = 1.0, samples: int = 22) -> Surface:
    """A bent grip in the plane y = 0 through (x, z) points; `flat` widens it along y."""
    bent = curves.resampled(curves.smooth(points, 60), samples)
    path = np.stack([bent[:, 0], np.zeros(samples), bent[:, 1]], axis=1)
    return tube(path, np.tile([[radius * flat, radius]], (samples, 1)), 12, up=(0.0, 1.0, 0.0))


def radius_at(outer: FloatArray, z: float) -> float:
    order = np.argsort(outer[:, 1], kind="stable")
    return float(np.interp(z, outer[order, 1], outer[order, 0]))
