"""The exact guide of a picture: mean base colour and coverage of pixels, by many embree rays through each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.generator import shading
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Camera
from randscene.generator.trigonometry import tan_half

MISS = -1
"""Surface of a ray that meets nothing."""

FIRST = 4
"""Rays through a pixel that show whether it holds one smooth piece of surface."""


@dataclass(frozen=True, kw_only=True)
class GuidePixels:
    """What the rays through K pixels met."""

    color: NDArray[Any]
    """(K, 3) float32: mean linear base colour, nothing counting as black."""
    variance: NDArray[Any]
    """(K,) float32: of the base colour within the pixel, mean of the channels."""
    coverage: NDArray[Any]
    """(K,) float32 in [0, 1]: share of the rays that met something."""
    surfaces: NDArray[Any]
    """(n, K) int32: surface that each ray met, counted over the scene, or `MISS`."""
    clear: NDArray[Any]
    """(K,) bool: some ray met a surface that light partly passes."""


class GuideSampler:
    """Shoots rays at a scene for its base colours; the sampling pattern is the same in each pixel.

    Parameters
    ----------
    rays : RayScene
    """

    def __init__(self, rays: RayScene) -> None:
        self._rays = rays
        table = rays.surfaces
        self._n_surfaces = len(table.surfaces)
        self._base = np.array([s.base_color for s in table.surfaces], np.float32).reshape(-1, 4)
        self._blended = np.array([s.alpha_mode == "BLEND" for s in table.surfaces], np.bool_)
        textures = [s.texture for s in table.surfaces]
        sizes = [(0, 0) if item is None else item.shape[:2] for item in textures]
        starts = np.cumsum([0, *(height * width for height, width in sizes)])[:-1]
        self._places = np.array([(start, *size) for start, size in zip(starts, sizes)], np.int64).reshape(-1, 3)
        flat = [item.reshape(-1, 4) for item in textures if item is not None]
        self._texels = np.concatenate(flat) if flat else np.zeros((1, 4), np.uint8)
        self._surface_of = table.surface_of.astype(np.int32)
        self._uv = np.ascontiguousarray(table.uv, np.float32)
        self._colors = np.empty((0, 3, 4), np.float32) if table.corner_color is None else table.corner_color

    @property
    def n_surfaces(self) -> int:
        """Number of surfaces of all meshes together."""
        return self._n_surfaces

    def sample(
        self, camera: Camera, resolution: int, rows: NDArray[Any], columns: NDArray[Any], count: int
    ) -> GuidePixels:
        """Shoot rays through some pixels.

        All rays are traced where the first few meet several surfaces, or where a neighbour's do. Elsewhere the texture
        is looked up along the plane through the first few, which is as good and costs an eighth.

        Parameters
        ----------
        camera : Camera
        resolution : int
            Side of the picture.
        rows, columns : (K,) integer
            The pixels, row 0 at the top; at least one.
        count : int
            Rays a pixel, a power of two.
        """
        matrix = np.asarray(camera.camera_to_world, np.float64)
        step = 2 * tan_half(camera.fov_deg) / resolution
        right, up, ahead = step * matrix[:3, 0], step * matrix[:3, 1], -matrix[:3, 2]
        middle = (resolution - 1) / 2
        centres = ((columns - middle)[:, None] * right - (rows - middle)[:, None] * up + ahead).astype(np.float32)
        position = matrix[:3, 3].astype(np.float32)
        pattern = pixel_pattern(count)

        def trace(numbers: range, directions: NDArray[Any]) -> list[NDArray[Any]]:
            origins = np.tile(position, (len(directions), 1))
            shifts = [
                (across - 0.5) * right - (down - 0.5) * up for across, down in pattern[numbers.start : numbers.stop]
            ]
            hits = [self._rays.first_hits(origins, directions + shift.astype(np.float32)) for shift in shifts]
            return [np.stack(parts) for parts in zip(*hits)]

        first = trace(range(min(FIRST, count)), centres)
        result = self._add_colors(first, pattern, spread=count > FIRST)
        if count > FIRST:
            even, *totals = result
            mixed = np.flatnonzero(~even | _beside_others(totals[0][0], even, rows, columns))
            if len(mixed):
                more = trace(range(FIRST, count), centres[mixed])
                hits = [np.concatenate([head[:, mixed], tail]) for head, tail in zip(first, more)]
                for total, part in zip(totals, self._add_colors(hits, pattern, spread=False)[1:]):
                    total[..., mixed] = part
        surfaces, sums, squares, clear = result[1:]
        color = np.ascontiguousarray(sums.T) / np.float32(count)
        return GuidePixels(
            color=color,
            variance=np.maximum(squares / np.float32(count) - (color * color).mean(axis=1), 0),
            coverage=(surfaces != MISS).mean(axis=0, dtype=np.float32),
            surfaces=surfaces,
            clear=clear,
        )

    def _add_colors(
        self, hits: list[NDArray[Any]], pattern: tuple[tuple[float, float], ...], *, spread: bool
    ) -> tuple[NDArray[Any], ...]:
        """Even (K,), surfaces (n, K), sums (3, K), squares (K,), clear (K,): see `_add_up`."""
        count = hits[0].shape[1]
        totals = (
            np.full((len(pattern), count), MISS, np.int32),
            np.zeros((3, count), np.float32),
            np.zeros(count, np.float32),
            np.zeros(count, np.bool_),
        )
        tables = (self._surface_of, self._uv, self._colors, self._base, self._blended, self._places, self._texels)
        return _compiled()(*hits, np.array(pattern), spread, *tables, shading.LINEAR, *totals), *totals


def _beside_others(
    surface: NDArray[Any], even: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[Any]:
    """(K,) bool: one of the eight neighbours of the pixel is known to show something else than its `surface` (K,)."""
    top, left = rows.min() - 1, columns.min() - 1
    unknown = MISS - 2
    shown = np.full((rows.max() - top + 2, columns.max() - left + 2), unknown, np.int32)
    shown[rows - top, columns - left] = np.where(even, surface, MISS - 1)
    beside = np.zeros(len(rows), np.bool_)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            other = shown[rows - top + down, columns - left + across]
            beside |= (other != surface) & (other != unknown)
    return beside


@cache
def pixel_pattern(count: int) -> tuple[tuple[float, float], ...]:
    """Points in the unit square, evenly spread, each with a row and a column to itself (Sobol's first two dimensions).

    Parameters
    ----------
    count : int
        A power of two.
    """
    points = []
    for index in range(count):
        first = second = 0
        bit, other, left = 1 << 31, 1 << 31, index
        while left:
            if left & 1:
                first ^= bit
                second ^= other
            bit >>= 1
            other ^= other >> 1
            left >>= 1
        points.append((first / 2**32 + 0.5 / count, second / 2**32 + 0.5 / count))
    return tuple(points)


@cache
def _compiled() -> Callable[..., NDArray[Any]]:
    return compiled(_add_up)


def _add_up(
    triangles: NDArray[Any],
    us: NDArray[Any],
    vs: NDArray[Any],
    pattern: NDArray[Any],
    spread: bool,
    surface_of: NDArray[Any],
    uv: NDArray[Any],
    colors: NDArray[Any],
    base: NDArray[Any],
    blended: NDArray[Any],
    places: NDArray[Any],
    texels: NDArray[Any],
    linear: NDArray[Any],
    surfaces: NDArray[Any],
    sums: NDArray[Any],
    squares: NDArray[Any],
    clear: NDArray[Any],
) -> NDArray[Any]:
    """Sums of the base colours at the hits (F, K) of K pixels, and of their squares.

    With `spread`, F is 4, and where these four lie on one smooth piece of surface the colours at all n points of the
    pattern are added. Returns (K,) bool: they do. Of the other pixels only the first row of `surfaces` is written then.
    """
    count = triangles.shape[1]
    even = np.zeros(count, np.bool_)
    steps = np.float32((len(linear) - 1) // 255)
    points = max(len(pattern), len(triangles))
    # Texture place and vertex colour of each point, and which surface it lies on.
    values = np.empty((points, 6))
    owner = np.empty(points, np.int32)
    plane = np.empty((3, 6))
    rgba = np.empty(4, np.float32)
    solve = np.empty((3, 4))
    if spread:
        # The affine map through four values, by least squares: the pattern's points never lie in a line.
        design = np.ones((4, 3))
        for i in range(4):
            design[i, 1], design[i, 2] = pattern[i, 0], pattern[i, 1]
        transposed = np.ascontiguousarray(design.T)
        normal = np.empty((3, 3))
        for i in range(3):
            for j in range(3):
                normal[i, j] = (transposed[i] * transposed[j]).sum()
        inverse = np.linalg.inv(normal)
        for i in range(3):
            for j in range(4):
                solve[i, j] = (inverse[i] * design[j]).sum()
    for k in range(count):
        met = 0
        for i in range(len(triangles)):
            triangle = triangles[i, k]
            if triangle < 0:
                continue
            surface = surface_of[triangle]
            if not spread or i == 0:
                surfaces[i, k] = surface
            c, d = us[i, k], vs[i, k]
            b = np.float32(1) - c - d
            owner[met] = surface
            for axis in range(2):
                values[met, axis] = b * uv[triangle, 0, axis] + c * uv[triangle, 1, axis] + d * uv[triangle, 2, axis]
            for channel in range(4):
                values[met, 2 + channel] = 1
                if len(colors):
                    values[met, 2 + channel] = (
                        b * colors[triangle, 0, channel]
                        + c * colors[triangle, 1, channel]
                        + d * colors[triangle, 2, channel]
                    )
            met += 1
        if spread:
            # What lies behind a blended surface may be anything.
            if met < 4 or blended[owner[0]]:
                continue
            same = owner[1] == owner[0] and owner[2] == owner[0] and owner[3] == owner[0]
            width = max(places[owner[0], 1], places[owner[0], 2])
            for q in range(6):
                for j in range(3):
                    plane[j, q] = 0
                    for i in range(4):
                        plane[j, q] += solve[j, i] * values[i, q]
                # A quarter of a texel, or a tenth of what the pixel spans, is straight enough.
                most = 0.01
                if q < 2:
                    most = max(0.25 / max(width, 1), 0.1 * (abs(plane[1, q]) + abs(plane[2, q])))
                for i in range(4):
                    rest = values[i, q] - plane[0, q] - plane[1, q] * pattern[i, 0] - plane[2, q] * pattern[i, 1]
                    same = same and (abs(rest) < most or (q < 2 and width == 0))
            if not same:
                continue
            even[k] = True
            met = len(pattern)
            for i in range(met):
                owner[i] = owner[0]
                surfaces[i, k] = owner[0]
                for q in range(6):
                    values[i, q] = plane[0, q] + plane[1, q] * pattern[i, 0] + plane[2, q] * pattern[i, 1]
        for i in range(met):
            surface = owner[i]
            for channel in range(4):
                rgba[channel] = base[surface, channel] * np.float32(values[i, 2 + channel])
            start, height, width = places[surface]
            if width:
                # As `shading` reads textures: bilinear in the stored codes, repeated, texel centres at halves.
                x, y = values[i, 0] * width - 0.5, values[i, 1] * height - 0.5
                left, top = np.int64(np.floor(x)), np.int64(np.floor(y))
                right_share, low_share = np.float32(x - left), np.float32(y - top)
                left, top = left % width, top % height
                right, low = (left + 1) % width, (top + 1) % height
                for channel in range(4):
                    value = np.float32(0)
                    for corner in range(4):
                        row, column = (low if corner & 2 else top), (right if corner & 1 else left)
                        share = (right_share if corner & 1 else np.float32(1) - right_share) * (
                            low_share if corner & 2 else np.float32(1) - low_share
                        )
                        value += share * np.float32(texels[start + row * width + column, channel])
                    if channel < 3:
                        value = linear[np.int64(np.rint(value * steps))]
                    else:
                        value /= np.float32(255)
                    rgba[channel] *= value
            if blended[surface] and rgba[3] < np.float32(0.999):
                clear[k] = True
            total = np.float32(0)
            for channel in range(3):
                sums[channel, k] += rgba[channel]
                total += rgba[channel] * rgba[channel]
            squares[k] += total / np.float32(3)
    return even
