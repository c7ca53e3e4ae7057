"""A floor without an end, as a mesh whose triangles are small where the scene stands."""

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.compat import enable_nodes
from randscene.blender_scripts.guide_pass import show_base_colors
from randscene.blender_scripts.scene_description import GroundSurface

RINGS = 10
"""Each doubles the floor's size: its edge is 2,048 radii of the scene away, less than a pixel below the horizon."""

SINK = 1e-4
"""Of the scene's radius: how far the floor lies below z = 0, so that a flat object on the ground is not in it."""


def ground_mesh(points: NDArray[Any], ground: GroundSurface) -> Any:
    """A bpy.types.Mesh with its material, world frame.

    Squares about the origin, each twice as large as the one inside it: rays meet a triangle of the scene's own size to
    single precision, which they do not with one that reaches to the horizon.

    Parameters
    ----------
    points : numpy.ndarray
        (P, 3) float64: every vertex of the scene, metres.
    ground : GroundSurface
    """
    radius = float(np.abs(points).max())
    vertices, faces = _rings(2 * radius, -SINK * radius)
    mesh = bpy.data.meshes.new("ground")
    mesh.from_pydata(vertices, [], faces)
    material = bpy.data.materials.new("ground")
    enable_nodes(material)
    nodes = material.node_tree.nodes
    nodes.clear()
    surface = nodes.new("ShaderNodeBsdfPrincipled")
    output = nodes.new("ShaderNodeOutputMaterial")
    material.node_tree.links.new(surface.outputs["BSDF"], output.inputs["Surface"])
    surface.inputs["Base Color"].default_value = (*ground.color, 1.0)
    surface.inputs["Roughness"].default_value = ground.roughness
    mesh.materials.append(material)
    show_base_colors(mesh)
    return mesh


def _rings(half: float, z: float) -> tuple[list[tuple[float, float, float]], list[tuple[int, int, int, int]]]:
    """Vertices and quads, facing up: a square of side 2 `half`, and rings of eight quads around it."""
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int, int]] = []

    def quad(left: float, right: float, front: float, back: float) -> None:
        first = len(vertices)
        vertices.extend([(left, front, z), (right, front, z), (right, back, z), (left, back, z)])
        faces.append((first, first + 1, first + 2, first + 3))

    quad(-half, half, -half, half)
    for _ in range(RINGS):
        lines = (-2 * half, -half, half, 2 * half)
        for i in range(3):
            for j in range(3):
                if (i, j) != (1, 1):
                    quad(lines[i], lines[i + 1], lines[j], lines[j + 1])
        half *= 2
    return vertices, faces
