"""Posture: how an asset is turned before it is placed, and the box that it then fills."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from randscene.convex_hull import hull_points
from randscene.generator.recipe import Vector3
from randscene.generator.trigonometry import cos_sin
from randscene.manifests import load_asset_mesh, verified_path
from randscene.manifests.asset_record import AssetRecord

Rotation = tuple[Vector3, Vector3, Vector3]
"""Three rows of a rotation matrix that acts on column vectors."""

UPRIGHT: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SHAPES_KEPT = 4096
"""Convex hulls that a process keeps for turned postures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Posture:
    """An asset turned about its own origin, and its axis-aligned box after that; own units."""

    rotation: Rotation
    """Asset frame to the turned frame."""
    bounds_min: Vector3
    """Lower corner of the turned asset's box."""
    extents: Vector3
    """Size of the turned asset's box."""

    @property
    def radius(self) -> float:
        """Half the diagonal of the horizontal box: a circle about the box's centre that holds the asset at any yaw."""
        width, depth, _ = self.extents
        return math.sqrt(width * width + depth * depth) / 2


def upright(asset: AssetRecord) -> Posture:
    """The asset as its file has it; needs the lock's facts alone."""
    return Posture(rotation=UPRIGHT, bounds_min=asset.bounds_min, extents=asset.extents)


def turned(asset: AssetRecord, rotation: Rotation) -> Posture:
    """The asset under any rotation; its box is exact, from the vertices of the mesh's convex hull.

    Raises
    ------
    LockError
        If the file is missing or is not the one that was locked.
    AssetError
        If it cannot be read.
    """
    x, y, z = _hull(asset)
    # Products and sums one by one, not a matrix product, whose last bits depend on the machine's linear algebra.
    axes = [row[0] * x + row[1] * y + row[2] * z for row in rotation]
    low = [float(axis.min()) for axis in axes]
    high = [float(axis.max()) for axis in axes]
    return Posture(
        rotation=rotation,
        bounds_min=(low[0], low[1], low[2]),
        extents=(high[0] - low[0], high[1] - low[1], high[2] - low[2]),
    )


def random_rotation(rng: np.random.Generator) -> Rotation:
    """A rotation drawn uniformly from SO(3) (K. Shoemake, Uniform random rotations, Graphics Gems III, 1992).

    Parameters
    ----------
    rng : numpy.random.Generator
        Only its `random()` is used, three times.
    """
    share = rng.random()
    (cos_a, sin_a), (cos_b, sin_b) = cos_sin(rng.random()), cos_sin(rng.random())
    inner, outer = math.sqrt(1 - share), math.sqrt(share)
    x, y, z, w = inner * sin_a, inner * cos_a, outer * sin_b, outer * cos_b
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def _hull(asset: AssetRecord) -> NDArray[np.float64]:
    return _hull_of_file(str(verified_path(asset)), asset.sha256, asset.up_axis)


@functools.lru_cache(maxsize=SHAPES_KEPT)
def _hull_of_file(path: str, sha256: str, up_axis: str) -> NDArray[np.float64]:
    """(3, H) float64: vertices of the convex hull, asset frame; all vertices of a mesh that has no volume."""
    vertices = load_asset_mesh(path, up_axis="Z" if up_axis == "Z" else "Y").vertices
    return np.ascontiguousarray(hull_points(vertices).T)
