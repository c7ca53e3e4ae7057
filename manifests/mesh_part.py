"""MeshPart: the triangles of one material as a file reader hands them over, and the Surface that they are made of."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

AlphaMode = Literal["OPAQUE", "MASK", "BLEND"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """What a set of triangles is made of: glTF's metallic-roughness model without its detail maps."""

    base_color: NDArray[np.float32]
    """(4,) float32, linear RGBA factor in [0, 1]; multiplies the texture and the corner colours."""
    texture: NDArray[np.uint8] | None
    """(H, W, 4) uint8, sRGB colour and linear alpha, row 0 at v = 0 (top); None for a plain colour."""
    metallic: float
    """Factor times the mean of its texture."""
    roughness: float
    """Factor times the mean of its texture."""
    emissive: NDArray[np.float32]
    """(3,) float32, linear RGB; factor times the mean of its texture."""
    alpha_mode: AlphaMode
    alpha_cutoff: float


@dataclass(frozen=True, kw_only=True, eq=False)
class MeshPart:
    """Triangles of one surface, placed in the scene, still in the file's axes."""

    vertices: NDArray[np.float64]
    """(V, 3) float64, the file's units."""
    faces: NDArray[np.int64]
    """(F, 3) int64, counter-clockwise seen from outside; every index lies in [0, V)."""
    surface: Surface
    uv: NDArray[np.float32] | None = None
    """(F, 3, 2) float32, glTF convention; None without a texture."""
    corner_color: NDArray[np.float32] | None = None
    """(F, 3, 4) float32, linear RGBA; None without vertex colours."""
    step: float = 0.0
    """Distance between neighbouring coordinates that the file can tell apart here, in the scene's units."""


def plain_surface(
    color: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 1.0),
    *,
    texture: NDArray[np.uint8] | None = None,
    roughness: float = 0.5,
    metallic: float = 0.0,
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Surface:
    """A surface without detail; by default the grey that Blender gives to objects without a material."""
    return Surface(
        base_color=np.array(color, dtype=np.float32),
        texture=texture,
        metallic=metallic,
        roughness=roughness,
        emissive=np.array(emissive, dtype=np.float32),
        alpha_mode="OPAQUE" if color[3] >= 1 else "BLEND",
        alpha_cutoff=0.5,
    )


def float32_step(points: NDArray[Any]) -> float:
    """Spacing of 32-bit numbers at the farthest of the finite coordinates."""
    reach = np.abs(points[np.isfinite(points)]).max(initial=0.0)
    return float(np.spacing(np.float32(min(float(reach), float(np.finfo(np.float32).max)))))


def linear_from_srgb(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light of screen colours in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)
