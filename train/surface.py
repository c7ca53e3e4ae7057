"""From a 64^3 field to triangle meshes: the surface of an instance, and GLB files.

The sparse-structure voxels are a *surface shell* (never filled), so the zero level of their logits wraps the shell on
both sides: a closed object comes out as two nested walls about one or two voxels apart, a plate as a thin slab.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import PredictionError

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A triangle mesh in the view-centric cube [-0.5, 0.5]^3, Z up."""

    vertices: NDArray[Any]
    """(V, 3) float32."""
    faces: NDArray[Any]
    """(F, 3) int64, counter-clockwise seen from outside."""


def extract_surface(field: NDArray[Any], *, smoothing: int = 0) -> Surface | None:
    """The closed surface around the cells of `field` that are above zero (marching cubes, level 0).

    Cell (i, j, k) is centred at (i + 0.5) / R - 0.5. The field is continued beyond the cube with its border's
    magnitude, negative: a surface that meets the cube's border closes exactly on it.

    Parameters
    ----------
    field : (R, R, R) float or bool
        Logits, occupied where > 0; or a boolean occupancy.
    smoothing : int
        Passes of Taubin smoothing (`smooth`); 0 for none.

    Returns
    -------
    Surface or None
        None when no cell is occupied. Both walls of a surface shell are part of it, see the module's first lines.
        Closed: every edge belongs to an even number of faces (two, save where cells touch along an edge).

    Raises
    ------
    PredictionError
        If the field is not a finite cube.
    """
    from skimage.measure import marching_cubes

    if field.ndim != 3 or len(set(field.shape)) != 1:
        raise PredictionError(f"a surface needs a cube of cells, not an array of shape {field.shape}")
    values = np.where(field, 1.0, -1.0) if field.dtype == bool else field.astype(np.float64)
    if not np.isfinite(values).all():
        raise PredictionError("the decoder's output holds NaN or infinity: the checkpoint or its decoder is broken")
    if not (values > 0).any():
        return None
    values = np.where(values == 0, -1e-2, values)  # zero counts as empty
    padded = np.pad(values, 1, mode="edge")
    inside = np.zeros(padded.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    padded = np.where(inside, padded, -np.abs(padded))
    # Magnitudes at most 1000 times apart keep every vertex apart from its edge's ends: no triangle collapses.
    padded = np.sign(padded) * np.clip(np.abs(padded), 1e-2, 1e1)
    vertices, faces, _, _ = marching_cubes(padded, level=0.0, gradient_direction="ascent")
    positions = ((vertices - 0.5) / field.shape[0] - 0.5).astype(np.float32)
    surface = Surface(vertices=positions, faces=faces.astype(np.int64))
    return smooth(surface, passes=smoothing) if smoothing else surface


def smooth(surface: Surface, *, passes: int, shrink: float = 0.5, inflate: float = 0.53) -> Surface:
    """Taubin smoothing: each pass moves every vertex towards its neighbours' mean by `shrink`, then away by `inflate`.

    Steps of voxels are softened without the shrinking of plain Laplacian smoothing. Vertices stay in the cube.
    Source: Taubin, "A signal processing approach to fair surface design", 1995.
    """
    from scipy import sparse

    count = len(surface.vertices)
    ends = np.concatenate([surface.faces[:, [0, 1]], surface.faces[:, [1, 2]], surface.faces[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    edges = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    edges.data[:] = 1.0
    mean = sparse.diags(1.0 / np.maximum(np.asarray(edges.sum(axis=1)).ravel(), 1.0)) @ edges
    positions = surface.vertices.astype(np.float64)
    for _ in range(passes):
        for amount in (shrink, -inflate):
            positions = positions + amount * (mean @ positions - positions)
    return Surface(vertices=np.clip(positions, -0.5, 0.5).astype(np.float32), faces=surface.faces)


def palette(count: int) -> list[tuple[int, int, int, int]]:
    """`count` well separated RGBA colours (uint8), the same ones for the same place in the list."""
    golden = 0.618033988749895
    colours = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb((0.08 + index * golden) % 1.0, 0.62, 0.9)
        colours.append((round(255 * red), round(255 * green), round(255 * blue), 255))
    return colours


def glb(surfaces: Sequence[tuple[str, Surface, tuple[int, int, int, int]]]) -> bytes:
    """A binary glTF file: one node a surface.

    Parameters
    ----------
    surfaces : sequence of (name, Surface, colour)
        Node name, mesh in Z-up view-centric coordinates, RGBA colour (uint8) of its material.

    Returns
    -------
    bytes
        glTF is Y-up: a point (x, y, z) is written as (x, z, -y).
    """
    import trimesh

    scene = trimesh.Scene()
    for name, surface, colour in surfaces:
        scene.add_geometry(_mesh(name, surface, colour), node_name=name, geom_name=name)
    data = scene.export(file_type="glb")
    assert isinstance(data, bytes)
    return data


def _mesh(name: str, surface: Surface, colour: tuple[int, int, int, int]) -> "trimesh.Trimesh":
    import trimesh

    x, y, z = surface.vertices.T
    material = trimesh.visual.material.PBRMaterial(
        name=name, baseColorFactor=colour, metallicFactor=0.0, roughnessFactor=0.8
    )
    return trimesh.Trimesh(
        vertices=np.stack([x, z, -y], axis=1),
        faces=surface.faces,
        visual=trimesh.visual.TextureVisuals(material=material),
        process=False,
    )
