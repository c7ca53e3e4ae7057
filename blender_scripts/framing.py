"""Where in a picture the scene can appear, so that the empty rest need not be traced. Imports no bpy."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.scene_description import Viewpoint

MARGIN = 2
"""Pixels added on each side: more than the pixel filter's reach and the rounding of the projection together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A box of pixels: columns [left, right) from the left, rows [bottom, top) from the bottom, as Blender counts."""

    left: int
    right: int
    bottom: int
    top: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.top - self.bottom, self.right - self.left

    def rows_and_columns(self, resolution: int) -> tuple[int, int, int, int]:
        """Rows [top, bottom) counted from the top and columns [left, right) of a picture of that side."""
        return resolution - self.top, resolution - self.bottom, self.left, self.right

    def place(self, crop: NDArray[Any], resolution: int) -> NDArray[Any]:
        """Put a (rows, columns, ...) crop, row 0 at the bottom, into a zero (R, R, ...) picture, row 0 on top."""
        canvas = np.zeros((resolution, resolution, *crop.shape[2:]), crop.dtype)
        canvas[resolution - self.top : resolution - self.bottom, self.left : self.right] = crop[::-1]
        return canvas


def scene_window(points: NDArray[Any], viewpoint: Viewpoint, resolution: int) -> Window | None:
    """The smallest window that holds every point of the scene, or None when the camera cannot see any.

    Parameters
    ----------
    points : (P, 3) float
        Points whose convex hull holds the scene, world metres.
    viewpoint : Viewpoint
    resolution : int
        Side of the picture, pixels.
    """
    world_to_camera = np.linalg.inv(viewpoint.camera_to_world)
    local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    depth = -local[:, 2]
    if depth.max() <= 0:
        return None
    if depth.min() <= 1e-3:
        # The hull reaches behind the camera: its projection has no bounds.
        return Window(left=0, right=resolution, bottom=0, top=resolution)
    pixels = resolution * (0.5 + local[:, :2] / (depth[:, None] * 2 * math.tan(math.radians(viewpoint.fov_deg) / 2)))
    low = np.clip(np.floor(pixels.min(axis=0)) - MARGIN, 0, resolution).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + MARGIN, 0, resolution).astype(int)
    if (low >= high).any():
        return None
    return Window(left=int(low[0]), right=int(high[0]), bottom=int(low[1]), top=int(high[1]))
