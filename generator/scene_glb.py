"""Ground-truth geometry of a scene as GLB, one node an instance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def scene_glb(instances: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """The bare geometry of a scene as a GLB file.

    Parameters
    ----------
    instances : sequence of (vertices (V, 3) float64 in world metres Z-up, faces (F, 3) int32)
        Nodes are named `instance_01`, `instance_02`, ... in id order; coordinates are turned Y-up, as glTF wants:
        (x, y, z) -> (x, z, -y).
    """
    import trimesh

    scene = trimesh.Scene()
    for number, (vertices, faces) in enumerate(instances, start=1):
        turned = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], axis=1)
        name = f"instance_{number:02d}"
        scene.add_geometry(trimesh.Trimesh(turned, faces, process=False), node_name=name, geom_name=name)
    return bytes(scene.export(file_type="glb"))
