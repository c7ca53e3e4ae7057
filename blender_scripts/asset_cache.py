"""Import asset files once a process and keep their meshes for the scenes to come."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from randscene.errors import RenderError

Y_UP_TO_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])

USUAL_UP_AXIS = {".glb": "Y", ".gltf": "Y", ".obj": "Y", ".ply": "Z", ".stl": "Z"}
"""File formats that can be read, and the axis that usually points up in them."""

BYTES_KEPT = 2 << 30
"""Rough memory that imported assets may hold before the least recently used are dropped."""


@dataclass(frozen=True, kw_only=True)
class AssetPart:
    """One mesh of an asset."""

    mesh: Any
    """bpy.types.Mesh with its materials."""
    matrix: np.ndarray
    """(4, 4) float64: mesh coordinates to the asset frame (Z up, own units)."""
    vertices: np.ndarray
    """(V, 3) float32, mesh coordinates."""


@dataclass(frozen=True, kw_only=True)
class ImportedAsset:
    """The meshes of one file."""

    parts: tuple[AssetPart, ...]
    cost: int
    """Estimate of the memory held, bytes."""


class AssetCache:
    """Imported assets by file. An asset is its meshes alone: lights, cameras and motion of the file are dropped,
    skins and morph targets stay in their rest shape."""

    def __init__(self, bytes_kept: int = BYTES_KEPT) -> None:
        self._bytes_kept = bytes_kept
        self._assets: OrderedDict[tuple[str, str, int, int], ImportedAsset] = OrderedDict()

    def get(self, path: str, up_axis: str | None = None) -> ImportedAsset:
        """The asset in a file, imported unless this very file already was.

        Parameters
        ----------
        path : str
            `.glb`, `.gltf`, `.obj`, `.ply` or `.stl`.
        up_axis : str, optional
            `Y` or `Z`; by default the usual one of the format.

        Raises
        ------
        RenderError
            `import_failed` if the file is absent or unreadable, `no_geometry` if it holds no faces.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in USUAL_UP_AXIS:
            raise RenderError("import_failed", f"{path}: cannot read files of type {suffix or '(none)'}")
        axis = up_axis or USUAL_UP_AXIS[suffix]
        if axis not in ("Y", "Z"):
            raise RenderError("bad_request", f"{path}: the up axis must be Y or Z, not {axis}")
        try:
            stat = Path(path).stat()
        except OSError as error:
            raise RenderError("import_failed", f"{path}: {error.strerror}") from error
        key = (path, axis, stat.st_size, stat.st_mtime_ns)
        if key not in self._assets:
            self._assets[key] = _import(path, suffix, axis)
        self._assets.move_to_end(key)
        return self._assets[key]

    def trim(self) -> None:
        """Drop the least recently used assets over the budget. Call it when no scene uses any."""
        held = sum(asset.cost for asset in self._assets.values())
        dropped = False
        while held > self._bytes_kept and len(self._assets) > 1:
            _, asset = self._assets.popitem(last=False)
            held -= asset.cost
            dropped = True
            for mesh in {part.mesh for part in asset.parts}:
                mesh.use_fake_user = False
        if dropped:
            bpy.data.orphans_purge(do_recursive=True)


def _import(path: str, suffix: str, up_axis: str) -> ImportedAsset:
    try:
        try:
            _run_importer(path, suffix)
        except Exception as error:
            # Importers raise whatever a broken file makes them stumble over.
            line = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise RenderError("import_failed", f"{path}: {line}") from error
        parts = _collect_parts(suffix, up_axis)
        if not parts:
            raise RenderError("no_geometry", f"{path}: holds no faces")
        if not all(np.isfinite(part.vertices).all() and np.isfinite(part.matrix).all() for part in parts):
            raise RenderError("no_geometry", f"{path}: has coordinates that are not finite")
        for part in parts:
            part.mesh.use_fake_user = True
        return ImportedAsset(parts=parts, cost=_cost(parts))
    finally:
        _clear_import()


def _run_importer(path: str, suffix: str) -> None:
    if suffix in (".glb", ".gltf"):
        outcome = bpy.ops.import_scene.gltf(filepath=path, merge_vertices=False, import_shading="NORMALS")
    else:
        importers = {".obj": bpy.ops.wm.obj_import, ".ply": bpy.ops.wm.ply_import, ".stl": bpy.ops.wm.stl_import}
        # These axes mean: leave the coordinates as they are in the file.
        outcome = importers[suffix](filepath=path, forward_axis="Y", up_axis="Z")
    if "FINISHED" not in outcome:
        raise RuntimeError("the importer gave up")


def _collect_parts(suffix: str, up_axis: str) -> tuple[AssetPart, ...]:
    layer = bpy.context.view_layer
    # A file's second and later scenes are imported too, but excluded from the view layer.
    objects = sorted(layer.objects, key=lambda item: item.name)
    for item in objects:
        item.animation_data_clear()
        if item.type == "MESH" and item.data.shape_keys is not None:
            item.data.shape_keys.animation_data_clear()
            for block in item.data.shape_keys.key_blocks:
                block.value = 0.0
    layer.update()
    # Blender's glTF importer turns Y-up into Z-up by itself, the others leave that to us.
    turned = suffix in (".glb", ".gltf")
    to_z_up = np.eye(4) if (up_axis == "Y") == turned else Y_UP_TO_Z_UP
    if turned and up_axis == "Z":
        to_z_up = np.linalg.inv(Y_UP_TO_Z_UP)
    return tuple(
        AssetPart(
            mesh=item.data,
            matrix=to_z_up @ np.array(item.matrix_world, dtype=np.float64),
            vertices=_vertices(item.data),
        )
        for item in objects
        if item.type == "MESH" and len(item.data.polygons)
    )


def _vertices(mesh: Any) -> np.ndarray:
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def _cost(parts: tuple[AssetPart, ...]) -> int:
    meshes = {part.mesh for part in parts}
    images = {
        node.image
        for mesh in meshes
        for material in mesh.materials
        if material is not None and material.node_tree is not None
        for node in material.node_tree.nodes
        if node.type == "TEX_IMAGE" and node.image is not None
    }
    # About 64 bytes a face corner with its attributes; pictures as 8-bit RGBA.
    return sum(64 * len(mesh.loops) for mesh in meshes) + sum(4 * image.size[0] * image.size[1] for image in images)


def _clear_import() -> None:
    """Leave of an import only the meshes that are kept (and what these use)."""
    scene = bpy.context.scene
    bpy.data.batch_remove([*bpy.data.actions, *(item for item in scene.collection.all_objects)])
    bpy.data.batch_remove(list(scene.collection.children_recursive))
    bpy.data.orphans_purge(do_recursive=True)
