"""What stage 2 gives: a triangle mesh with a colour a vertex or a texture, and GLB files of such meshes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, kw_only=True)
class TexturedMesh:
    """A mesh in the view-centric cube, Z up, with either `colours` or `uv` and `texture`."""

    vertices: NDArray[Any]
    """(V, 3) float32."""
    faces: NDArray[Any]
    """(F, 3) int64, counter-clockwise seen from outside."""
    colours: NDArray[Any] | None = None
    """(V, 3) uint8 sRGB."""
    uv: NDArray[Any] | None = None
    """(V, 2) float32, origin at the lower left."""
    texture: NDArray[Any] | None = None
    """(H, W, 3) uint8 sRGB."""


def textured_glb(meshes: Sequence[tuple[str, TexturedMesh]]) -> bytes:
    """A binary glTF file: one node a mesh, its name as given.

    glTF is Y-up: a point (x, y, z) is written as (x, z, -y). Its vertex colours are linear light, 8 bits a channel
    here, so that the darkest sRGB values fall together; a texture is stored as sRGB, as glTF has it.
    """
    import trimesh

    scene = trimesh.Scene()
    for name, mesh in meshes:
        scene.add_geometry(_mesh(name, mesh), node_name=name, geom_name=name)
    data = scene.export(file_type="glb")
    assert isinstance(data, bytes)
    return data


def linear_light(colours: NDArray[Any]) -> NDArray[Any]:
    """sRGB to linear light, both uint8 over [0, 255]."""
    unit = np.arange(256) / 255
    table = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    linear: NDArray[Any] = np.rint(table * 255).astype(np.uint8)[colours]
    return linear


def _mesh(name: str, mesh: TexturedMesh) -> "trimesh.Trimesh":
    import trimesh

    x, y, z = mesh.vertices.T
    texture = None if mesh.texture is None else Image.fromarray(mesh.texture)
    material = trimesh.visual.material.PBRMaterial(
        name=name, baseColorTexture=texture, metallicFactor=0.0, roughnessFactor=1.0
    )
    visual = trimesh.visual.TextureVisuals(uv=mesh.uv, material=material)
    if mesh.colours is not None:
        opaque = np.full((len(mesh.colours), 1), 255, np.uint8)
        visual.vertex_attributes["color"] = np.concatenate([linear_light(mesh.colours), opaque], axis=1)
    return trimesh.Trimesh(vertices=np.stack([x, z, -y], axis=1), faces=mesh.faces, visual=visual, process=False)
