"""The means that textures are drawn with: periodic noise, indexed colours, and a PNG writer.

Images are indexed (at most 256 colours), drawn from a seeded generator, and repeat without a seam in both directions.
The PNG holds plain stored blocks: what a compression library emits changes with its version, these bytes do not.
"""

import colorsys
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.procedural.model import Color, FloatArray, IntArray, Texture


def grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Pixel-centre coordinates u (along columns) and v (along rows) in (0, 1), each (height, width)."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return u, v


def _axis(size: int, cells: int) -> tuple[IntArray, IntArray, FloatArray]:
    x = (np.arange(size) + 0.5) * cells / size
    low = np.floor(x).astype(np.int64)
    f = x - low
    return low % cells, (low + 1) % cells, f * f * (3 - 2 * f)


def noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int = 3, gain: float = 0.5
) -> FloatArray:
    """Seamless value noise.

    Parameters
    ----------
    cells : (rows, columns)
        Lattice cells of the first octave along v and u; each further octave doubles them.
    gain : float
        Amplitude of an octave over the one before.

    Returns
    -------
    (height, width) float64, stretched to [0, 1].
    """
    total, amplitude = np.zeros((height, width)), 1.0
    rows, columns = cells
    for _ in range(octaves):
        lattice = rng.random((rows, columns))
        r0, r1, fr = _axis(height, rows)
        c0, c1, fc = _axis(width, columns)
        across = lattice[:, c0] * (1 - fc) + lattice[:, c1] * fc
        total += amplitude * (across[r0] * (1 - fr)[:, None] + across[r1] * fr[:, None])
        rows, columns, amplitude = min(2 * rows, height), min(2 * columns, width), amplitude * gain
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-12)


def cells(rng: np.random.Generator, height: int, width: int, count: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Seamless Voronoi cells of `count` random points.

    Returns
    -------
    nearest : (height, width) int64
        Number of the nearest point.
    first, second : (height, width) float64
        Distances to the nearest and the second nearest point, in units of the image's width.
    """
    u, v = grid(height, width)
    points = rng.random((count, 2))
    nearest = np.zeros((height, width), dtype=np.int64)
    first, second = np.full((height, width), 9.0), np.full((height, width), 9.0)
    for i, (pu, pv) in enumerate(points):
        du = np.abs(u - pu)
        dv = np.abs(v - pv)
        d = np.minimum(du, 1 - du) ** 2 + (np.minimum(dv, 1 - dv) * height / width) ** 2
        closer = d < first
        second = np.where(closer, first, np.minimum(second, d))
        nearest = np.where(closer, i, nearest)
        first = np.where(closer, d, first)
    return nearest, np.sqrt(first), np.sqrt(second)


def hsv(hue: float, saturation: float, value: float) -> Color:
    """sRGB colour from hue (any real, period 1), saturation and value in [0, 1]."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def shade(color: Color, factor: float) -> Color:
    """`color` made darker (factor < 1) or lighter (factor > 1, towards white)."""
    if factor <= 1:
        return (color[0] * factor, color[1] * factor, color[2] * factor)
    t = min(factor - 1.0, 1.0)
    return (color[0] + (1 - color[0]) * t, color[1] + (1 - color[1]) * t, color[2] + (1 - color[2]) * t)


def _bytes(colors: FloatArray) -> NDArray[Any]:
    return np.clip(np.rint(colors * 255), 0, 255).astype(np.uint8)


def ramp(value: FloatArray, stops: Sequence[Color], levels: int = 64) -> Texture:
    """A texture whose colour runs through evenly spaced `stops` as `value` (H, W) goes from 0 to 1."""
    t = np.linspace(0.0, 1.0, levels)
    table = np.array(stops, dtype=np.float64)
    at = np.linspace(0.0, 1.0, len(table))
    palette = np.stack([np.interp(t, at, table[:, k]) for k in range(3)], axis=1)
    indices = np.clip(np.floor(value * levels), 0, levels - 1).astype(np.uint8)
    return Texture(indices=indices, palette=_bytes(palette))


def layers(classes: IntArray, light: FloatArray, colors: Sequence[Color], depth: float = 0.35) -> Texture:
    """A texture of flat colours with shading.

    Parameters
    ----------
    classes : (H, W) int64
        Row of `colors` at each pixel, below 64.
    light : (H, W) float64
        Shading in [0, 1]; 1 leaves the colour, 0 darkens it by `depth`.
    """
    levels = 256 // len(colors)
    factor = 1 - depth * (1 - np.linspace(0.0, 1.0, levels))
    palette = np.array(colors, dtype=np.float64)[:, None] * factor[None, :, None]
    level = np.clip(np.floor(light * levels), 0, levels - 1).astype(np.int64)
    return Texture(indices=(classes * levels + level).astype(np.uint8), palette=_bytes(palette.reshape(-1, 3)))


def smoothstep(low: float, high: float, value: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, a smooth step between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(texture: Texture) -> bytes:
    """The texture as an 8-bit indexed PNG file, whose bytes depend on nothing but the texture."""
    height, width = texture.indices.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with filter type 0
    rows[:, 1:] = texture.indices
    raw = rows.tobytes()
    blocks = [b"\x78\x01"]
    count = math.ceil(len(raw) / 65535)
    for i in range(count):
        block = raw[i * 65535 : (i + 1) * 65535]
        blocks.append(struct.pack("<BHH", int(i == count - 1), len(block), len(block) ^ 0xFFFF) + block)
    blocks.append(struct.pack(">I", zlib.adler32(raw)))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", texture.palette.tobytes()),
            _chunk(b"IDAT", b"".join(blocks)),
            _chunk(b"IEND", b""),
        ]
    )
