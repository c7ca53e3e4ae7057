"""Import asset files once a process and keep their meshes for the scenes to come."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.compat import enable_nodes
from randscene.blender_scripts.gltf_flattening import import_flattened
from randscene.blender_scripts.guide_pass import show_base_colors
from randscene.blender_scripts.importer_errors import what_failed
from randscene.errors import RenderError

Y_UP_TO_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])

USUAL_UP_AXIS = {".glb": "Y", ".gltf": "Y", ".obj": "Y", ".ply": "Z", ".stl": "Z"}
"""File formats that can be read, and the axis that usually points up in them."""

BYTES_KEPT = 2 << 30
"""Rough memory that imported assets may hold before the least recently used are dropped."""

LARGEST_PICTURE = 4096
"""Side of a texture in pixels above which it is scaled down: no view shows more, and one of 16384 would hold 1 GiB."""


@dataclass(frozen=True, kw_only=True)
class AssetPart:
    """One mesh of an asset."""

    mesh: Any
    """bpy.types.Mesh with its materials."""
    matrix: NDArray[Any]
    """(4, 4) float64: mesh coordinates to the asset frame (Z up, own units)."""
    vertices: NDArray[Any]
    """(V, 3) float32, mesh coordinates."""


@dataclass(frozen=True, kw_only=True)
class ImportedAsset:
    """The meshes of one file."""

    parts: tuple[AssetPart, ...]
    cost: int
    """Estimate of the memory held, bytes."""


class AssetCache:
    """Imported assets by file. An asset is its meshes alone, at rest: lights, cameras and motion of the file are
    dropped (see `gltf_scene`)."""

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
            places = _run_importer(path, suffix)
        except RenderError:
            raise
        except Exception as error:
            # Importers raise whatever a broken file makes them stumble over.
            raise RenderError("import_failed", f"{path}: {what_failed(error)}") from error
        parts = _collect_parts(places, suffix, up_axis)
        if not parts:
            raise RenderError("no_geometry", f"{path}: holds no faces")
        if not all(np.isfinite(part.vertices).all() and np.isfinite(part.matrix).all() for part in parts):
            raise RenderError("no_geometry", f"{path}: has coordinates that are not finite")
        _shrink_pictures(parts)
        for part in parts:
            show_base_colors(part.mesh)
            part.mesh.use_fake_user = True
        return ImportedAsset(parts=parts, cost=_cost(parts))
    finally:
        _clear_import()


def _run_importer(path: str, suffix: str) -> dict[str, NDArray[Any]]:
    """Import a file into the current scene; see `import_flattened` for the matrices of a glTF's objects."""
    if suffix in (".glb", ".gltf"):
        return import_flattened(path)
    importers = {".obj": bpy.ops.wm.obj_import, ".ply": bpy.ops.wm.ply_import, ".stl": bpy.ops.wm.stl_import}
    # These axes mean: leave the coordinates as they are in the file.
    outcome = importers[suffix](filepath=path, forward_axis="Y", up_axis="Z")
    if "FINISHED" not in outcome:
        raise RuntimeError("the importer gave up")
    return {}


def _collect_parts(places: dict[str, NDArray[Any]], suffix: str, up_axis: str) -> tuple[AssetPart, ...]:
    layer = bpy.context.view_layer
    layer.update()
    # Blender's glTF importer turns the meshes' Y-up into Z-up by itself, the others leave that to us.
    turned = suffix in (".glb", ".gltf")
    to_z_up = Y_UP_TO_Z_UP if up_axis == "Y" else np.eye(4)
    from_mesh = np.linalg.inv(Y_UP_TO_Z_UP) if turned else np.eye(4)
    offsets: dict[str, NDArray[Any]] = {}
    parts = []
    for item in sorted(layer.objects, key=lambda item: item.name):
        if item.type != "MESH" or not len(item.data.polygons):
            continue
        mesh = item.data
        if mesh.name not in offsets:
            offsets[mesh.name] = _bring_near(mesh)
            _show_colors(mesh)
            _drop_missing_pictures(mesh)
        placed = places[item.name] if turned else np.array(item.matrix_world, dtype=np.float64)
        matrix = to_z_up @ placed @ from_mesh @ offsets[mesh.name]
        parts.append(AssetPart(mesh=mesh, matrix=matrix, vertices=_vertices(mesh)))
    return tuple(parts)


def _bring_near(mesh: Any) -> NDArray[Any]:
    """Move a mesh that lies far from its origin to it; returns the (4, 4) matrix that undoes the move.

    Far from the origin, the 32-bit products of coordinates and matrices would lose the shape. Only axes on which the
    mesh lies farther off than it is large are moved: there the difference of two 32-bit numbers is exact.
    """
    vertices = _vertices(mesh)
    lower, upper = vertices.min(axis=0), vertices.max(axis=0)
    centre = (lower / 2 + upper / 2).astype(np.float32)
    centre[np.abs(centre) < (upper - lower).max()] = 0.0
    undo = np.eye(4)
    if centre.any() and np.isfinite(centre).all():
        mesh.vertices.foreach_set("co", (vertices - centre).ravel())
        mesh.update()
        undo[:3, 3] = centre
    return undo


def _show_colors(mesh: Any) -> None:
    """Give a mesh without materials, but with vertex colours, a material that shows them (glTF meshes have one)."""
    if len(mesh.materials) or not len(mesh.color_attributes):
        return
    material = bpy.data.materials.new("colors")
    enable_nodes(material)
    nodes = material.node_tree.nodes
    source = nodes.new("ShaderNodeVertexColor")
    source.layer_name = mesh.color_attributes[0].name
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    material.node_tree.links.new(source.outputs["Color"], shader.inputs["Base Color"])
    mesh.materials.append(material)


def _drop_missing_pictures(mesh: Any) -> None:
    """Cut off pictures that could not be loaded, which would show in magenta; inspection asks for base colours only."""
    for material in mesh.materials:
        if material is None or material.node_tree is None:
            continue
        nodes = material.node_tree.nodes
        for node in [node for node in nodes if node.type == "TEX_IMAGE"]:
            if node.image is None or not node.image.size[0]:
                nodes.remove(node)


def _shrink_pictures(parts: tuple[AssetPart, ...]) -> None:
    """Scale large pictures down, but for those that cut holes: labels see these at their full size."""
    nodes = _picture_nodes(part.mesh for part in parts)
    kept = {node.image for node in nodes if node.outputs["Alpha"].is_linked}
    for image in {node.image for node in nodes} - kept:
        width, height = image.size
        if max(width, height) > LARGEST_PICTURE:
            share = LARGEST_PICTURE / max(width, height)
            image.scale(max(1, round(share * width)), max(1, round(share * height)))


def _picture_nodes(meshes: Iterable[Any]) -> list[Any]:
    """The texture nodes of the materials of some meshes."""
    return [
        node
        for mesh in set(meshes)
        for material in mesh.materials
        if material is not None and material.node_tree is not None
        for node in material.node_tree.nodes
        if node.type == "TEX_IMAGE" and node.image is not None
    ]


def _vertices(mesh: Any) -> NDArray[Any]:
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def _cost(parts: tuple[AssetPart, ...]) -> int:
    meshes = {part.mesh for part in parts}
    images = {node.image for node in _picture_nodes(meshes)}
    # About 64 bytes a face corner with its attributes; pictures as 8-bit RGBA.
    return sum(64 * len(mesh.loops) for mesh in meshes) + sum(4 * image.size[0] * image.size[1] for image in images)


def _clear_import() -> None:
    """Leave of an import only the meshes that are kept (and what these use)."""
    scene = bpy.context.scene
    bpy.data.batch_remove([*bpy.data.actions, *(item for item in scene.collection.all_objects)])
    bpy.data.batch_remove(list(scene.collection.children_recursive))
    bpy.data.orphans_purge(do_recursive=True)
