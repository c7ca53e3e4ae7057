"""Voxel grids as a picture: one fixed camera, no perspective, soft light; NumPy and Pillow alone.

The camera stands on the side from which the image was taken (it looks along +Y of the view-centric cube) and a little
higher: equal shapes give equal pictures wherever they stand. In the frame `yaw`, left and right agree with the image.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from randscene.shards.preview_data import PALETTE
from randscene.shards.view_sample import RESOLUTION

ELEVATION_DEG = 24.0
CARD, LINE = (25, 28, 34), (54, 60, 71)
"""Behind the voxels, and the cube's edges: of the preview page's dark theme."""
_SIN, _COS = math.sin(math.radians(ELEVATION_DEG)), math.cos(math.radians(ELEVATION_DEG))
_SUPER = 2
"""Pictures are drawn so many times larger, and averaged down."""
_LIGHT = np.array([-0.45, -0.55, 0.70])
"""Towards the light, from the camera's upper left; about unit length."""
_REACH = 4
"""Empty cells around a grid: as far as its blurred gradient reaches."""


def voxel_picture(
    grids: Sequence[NDArray[Any]],
    size: int,
    *,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> NDArray[Any]:
    """Voxel grids in one cube, each in a colour of its own.

    Parameters
    ----------
    grids : sequence of (V, 3) uint8
        Occupied voxels (x, y, z) of each grid in the 64^3 cube; V may be 0. Where two grids share a voxel, the first
        one keeps it.
    size : int
        Pixels along a side.
    colours : sequence of (r, g, b), optional
        One a grid, 0 to 255; the preview page's colours in order by default.

    Returns
    -------
    (size, size, 3) uint8
        sRGB, the whole cube in view.
    """
    tints = np.array(colours if colours is not None else instance_colours(len(grids)), np.float64).reshape(-1, 3)
    wide = _SUPER * size
    canvas = Image.new("RGB", (wide, wide), CARD)
    _draw_cube(canvas, front=False)
    pixels = np.array(canvas)
    coords = np.concatenate([np.zeros((0, 3), np.int64), *(grid.astype(np.int64) for grid in grids)])
    if len(coords):
        owner = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
        colour = tints[owner] * _shading(grids, coords)[:, None]
        place, voxel = _splat(coords, wide)
        pixels.reshape(-1, 3)[place] = np.clip(np.rint(colour[voxel]), 0, 255).astype(np.uint8)
    canvas = Image.fromarray(pixels)
    _draw_cube(canvas, front=True)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def instance_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours of `count` instances in id order: the preview page's."""
    return [_rgb(PALETTE[place % len(PALETTE)]) for place in range(count)]


def occupancy(grids: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(64, 64, 64) bool: the union of voxel grids (V, 3) uint8."""
    grid = np.zeros((RESOLUTION,) * 3, bool)
    for coords in grids:
        grid[tuple(coords.T)] = True
    return grid


def _view(points: NDArray[Any], wide: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Column, row (pixels, downwards) and depth (voxels, growing away from the camera) of points in voxel units."""
    x, y, z = (points - RESOLUTION / 2).T
    scale = _scale(wide)
    return wide / 2 + scale * x, wide / 2 - scale * (_COS * z + _SIN * y), _COS * y - _SIN * z


def _scale(wide: int) -> float:
    """Pixels a voxel: the cube is taller than wide from this camera, and has a margin of 3 % on each side."""
    return 0.94 * wide / (RESOLUTION * (_SIN + _COS))


def _splat(coords: NDArray[Any], wide: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixels that voxels cover, (P,) int64 counted row by row, and for each the voxel in front, (P,) int64.

    A voxel covers the outline of its cube: a rectangle, as the camera is turned about the x axis alone.
    """
    scale = _scale(wide)
    half_high = scale * (_SIN + _COS) / 2
    column, row, depth = _view(coords + 0.5, wide)
    left, right = np.ceil(column - scale / 2 - 0.5), np.ceil(column + scale / 2 - 0.5)
    top, bottom = np.ceil(row - half_high - 0.5), np.ceil(row + half_high - 0.5)
    front = np.full(wide * wide, len(coords))
    # Nearest first; voxels of equal depth in their own order.
    order = np.argsort(depth, kind="stable")
    for dy in range(int((bottom - top).max())):
        for dx in range(int((right - left).max())):
            inside = (top[order] + dy < bottom[order]) & (left[order] + dx < right[order])
            pixel = ((top[order] + dy) * wide + left[order] + dx)[inside].astype(np.int64)
            np.minimum.at(front, pixel, np.flatnonzero(inside))
    place = np.flatnonzero(front < len(coords))
    return place, order[front[place]]


def _shading(grids: Sequence[NDArray[Any]], coords: NDArray[Any]) -> NDArray[Any]:
    """(V,) float64 brightness of each voxel: light on its surface, and shade where others stand close above."""
    light = _LIGHT / np.linalg.norm(_LIGHT)
    normals = np.concatenate([_normals(grid.astype(np.int64)) for grid in grids])
    normals = np.where((normals @ (0.0, -_COS, _SIN))[:, None] < 0, -normals, normals)  # towards the camera
    lit = 0.46 + 0.54 * np.clip(normals @ light, 0, 1)
    # What stands in front of the surface within a few voxels takes light from it: objects that touch are seen to.
    crowd = np.pad(_blurred(occupancy(grids).astype(np.float32), 3), 1)
    ahead = np.clip(np.rint(coords + 3 * normals).astype(np.int64) + 1, 0, RESOLUTION + 1)
    open_sky = 1 - 0.5 * np.clip(6 * crowd[tuple(ahead.T)] - 0.35, 0, 1)
    return lit * open_sky * (1.06 - 0.12 * coords[:, 1] / RESOLUTION)


def _normals(coords: NDArray[Any]) -> NDArray[Any]:
    """(V, 3) float64 unit normals, of either sign, at the voxels (V, 3) of one grid.

    The main direction of the blurred grid's gradient around a voxel. Its mean would vanish inside a thin shell, where
    the two sides' gradients are opposed; their directions agree.
    """
    if not len(coords):
        return np.zeros((0, 3))
    low = coords.min(axis=0)
    field = np.zeros(coords.max(axis=0) - low + 1 + 2 * _REACH, np.float32)
    at = tuple((coords - low + _REACH).T)
    field[at] = 1
    slopes = np.gradient(_blurred(field, 1))
    tensors = np.empty((len(coords), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            tensors[:, i, j] = tensors[:, j, i] = _blurred(slopes[i] * slopes[j], 2)[at]
    return np.linalg.eigh(tensors)[1][:, :, 2]


def _blurred(field: NDArray[Any], passes: int) -> NDArray[Any]:
    """`passes` times weights 1/4, 1/2, 1/4 along each axis; nothing beyond the border."""
    for axis in range(3):
        for _ in range(passes):
            quarter = np.moveaxis(0.25 * field, axis, 0)
            field = 0.5 * field
            along = np.moveaxis(field, axis, 0)
            along[1:] += quarter[:-1]
            along[:-1] += quarter[1:]
    return field


def _draw_cube(canvas: Image.Image, *, front: bool) -> None:
    """The cube's edges: behind the voxels with its floor, or those in front, fainter."""
    pen = ImageDraw.Draw(canvas, "RGBA")
    side, wide = RESOLUTION, canvas.width

    def on_canvas(*corners: tuple[int, int, int]) -> list[tuple[float, float]]:
        column, row, _ = _view(np.array(corners, float), wide)
        return list(zip(column.tolist(), row.tolist()))

    width = max(1, round(wide / 400))
    if not front:
        pen.polygon(on_canvas((0, 0, 0), (side, 0, 0), (side, side, 0), (0, side, 0)), fill=(255, 255, 255, 10))
        behind = [(0, 0, 0), (0, side, 0), (side, side, 0), (side, 0, 0)]
        for start, end in itertools.pairwise(behind):
            pen.line(on_canvas(start, end), fill=LINE, width=width)
        for start in behind[1:3]:
            pen.line(on_canvas(start, (start[0], start[1], side)), fill=LINE, width=width)
        pen.line(on_canvas((0, side, side), (side, side, side)), fill=LINE, width=width)
    else:
        pen.line(on_canvas((0, 0, 0), (side, 0, 0)), fill=(*LINE, 200), width=width)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
