"""Surface, Material, Part, Model: a procedural asset before it becomes a file.

Frame: right-handed, Z up, metres; the front of an object faces -Y and it stands on z = 0.
Texture coordinates follow glTF: u runs along the columns of the image, v along its rows, v = 0 is the first row.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Color = tuple[float, float, float]
"""Red, green, blue in [0, 1], sRGB-encoded, as a paint chart gives them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Texture:
    """A base-colour image of at most 256 colours, which repeats in both directions."""

    indices: npt.NDArray[np.uint8]
    """(H, W) uint8 rows of the palette."""
    palette: npt.NDArray[np.uint8]
    """(K, 3) uint8 sRGB, K in 1..256."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Material:
    """A metallic-roughness material. Two materials are the same only if they are the same object."""

    name: str
    color: Color = (1.0, 1.0, 1.0)
    """Base colour; the texture, when there is one, is multiplied by it."""
    metallic: float = 0.0
    roughness: float = 0.6
    emissive: Color = (0.0, 0.0, 0.0)
    texture: Texture | None = None
    tile: float | None = 0.5
    """Metres that one repeat of the texture covers; None stretches it once over each part."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Surface:
    """A closed, outward oriented triangle mesh. Vertices that share a place differ in normal or texture coordinate."""

    vertices: FloatArray
    """(V, 3) metres, Z-up frame."""
    normals: FloatArray
    """(V, 3) unit vectors."""
    uv: FloatArray
    """(V, 2) metres along the surface; u runs along the length (the grain of wood), v across it."""
    faces: IntArray
    """(F, 3) counter-clockwise seen from outside."""
    period: tuple[float, float] = (0.0, 0.0)
    """Metres after which u and v return to where they began, 0 where they do not: a texture must repeat
    a whole number of times there, or a seam shows."""

    def moved(self, x: float, y: float, z: float) -> "Surface":
        """The surface shifted by (x, y, z) metres."""
        return replace(self, vertices=self.vertices + np.array([x, y, z], dtype=np.float64))

    def turned(self, matrix: FloatArray) -> "Surface":
        """The surface under a (3, 3) rotation matrix that acts on column vectors."""
        return replace(self, vertices=self.vertices @ matrix.T, normals=self.normals @ matrix.T)

    def rotated(self, axis: str, angle: float) -> "Surface":
        """The surface turned by `angle` radians about the `x`, `y` or `z` axis through the origin."""
        return self.turned(rotation(axis, angle))

    def scaled(self, x: float, y: float, z: float) -> "Surface":
        """The surface stretched by positive factors along the axes; texture coordinates keep their values."""
        factors = np.array([x, y, z], dtype=np.float64)
        normals = self.normals / factors
        return replace(
            self,
            vertices=self.vertices * factors,
            normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        )


def rotation(axis: str, angle: float) -> FloatArray:
    """(3, 3) float64 rotation matrix by `angle` radians about the `x`, `y` or `z` axis."""
    c, s = math.cos(angle), math.sin(angle)
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One closed piece of a model and what it is made of."""

    surface: Surface
    material: Material

    def texture_coordinates(self, order: int) -> FloatArray:
        """(V, 2) float64 coordinates in units of the image.

        Parameters
        ----------
        order : int
            The part's place in its model: tiled textures are shifted by it, so that no two boards share their grain.
        """
        uv, tile = self.surface.uv, self.material.tile
        if tile is None:
            low = uv.min(axis=0)
            return (uv - low) / np.maximum(uv.max(axis=0) - low, 1e-9)
        scale = [max(1, round(period / tile)) / period if period else 1.0 / tile for period in self.surface.period]
        shift = [order * 0.6180339887 % 1.0, order * 0.7548776662 % 1.0]
        return uv * np.array(scale) + np.array(shift)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """An asset: its parts, Z up, metres, standing on z = 0 around the origin."""

    parts: tuple[Part, ...]

    @staticmethod
    def standing(pieces: Iterable[tuple[Surface, Material]]) -> "Model":
        """A model of `pieces`, shifted so that it rests on z = 0 and its bounding box is centred on x = y = 0."""
        listed = list(pieces)
        low = np.min([surface.vertices.min(axis=0) for surface, _ in listed], axis=0)
        high = np.max([surface.vertices.max(axis=0) for surface, _ in listed], axis=0)
        x, y, z = -(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]
        return Model(parts=tuple(Part(surface=surface.moved(x, y, z), material=m) for surface, m in listed))

    @property
    def n_faces(self) -> int:
        """Number of triangles."""
        return sum(len(part.surface.faces) for part in self.parts)

    @property
    def has_texture(self) -> bool:
        """Whether any part carries an image."""
        return any(part.material.texture is not None for part in self.parts)

    def bounds(self) -> FloatArray:
        """(2, 3) float64 lower and upper corner of the bounding box, metres, Z-up frame."""
        corners = [(p.surface.vertices.min(axis=0), p.surface.vertices.max(axis=0)) for p in self.parts]
        return np.array([np.min([c[0] for c in corners], axis=0), np.max([c[1] for c in corners], axis=0)])
