"""An extension of Blender's glTF importer: it reduces a document to its default scene at rest before Blender builds it.

The importer by itself turns skins into armatures, morph targets into shape keys, plays the first animation, imports
every scene, and keeps nodes as 32-bit locations, rotations and scales. Labels are made from `gltf_scene` alone, so the
document is rewritten here to what that module says it shows: one object a placed mesh, its matrix kept aside at full
precision. The importer finds extensions by the class's name in the modules of enabled add-ons.
"""

import copy
import importlib
from typing import Any, ClassVar

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.errors import RenderError
from randscene.gltf_scene import Placement, apply, has_faces, morphed, placements, skinning_matrices

_DRACO = "KHR_draco_mesh_compression"
_VARIANTS = "KHR_materials_variants"
_FLOAT = 5126


def import_flattened(path: str) -> dict[str, NDArray[Any]]:
    """Import a glTF file into Blender's current scene; the objects stay at the origin.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict
        By name of the object, (4, 4) float64: from the mesh's coordinates as the file has them (Y up) to the scene's.

    Raises
    ------
    RenderError
        `import_failed` if the document is malformed.
    """
    addons = bpy.context.preferences.addons
    if __name__ not in addons.keys():  # noqa: SIM118 (a Blender collection, not a dict)
        addons.new().module = __name__
    glTF2ImportUserExtension.latest = None
    outcome = bpy.ops.import_scene.gltf(filepath=path, merge_vertices=False, import_shading="NORMALS")
    extension = glTF2ImportUserExtension.latest
    if extension is None or "FINISHED" not in outcome:
        raise RenderError("import_failed", f"{path}: Blender's importer gave up")
    if extension.error is not None:
        raise RenderError("import_failed", f"{path}: {extension.error}") from extension.error
    return extension.places


class glTF2ImportUserExtension:
    """Called by the importer; see the module."""

    latest: ClassVar["glTF2ImportUserExtension | None"] = None

    def __init__(self) -> None:
        glTF2ImportUserExtension.latest = self
        self.error: Exception | None = None
        """What went wrong; the importer itself goes on after an exception here."""
        self.places: dict[str, NDArray[Any]] = {}
        self._matrices: dict[int, NDArray[Any]] = {}

    def gather_import_gltf_before_hook(self, gltf: Any) -> None:
        """The file is parsed; nothing is built yet."""
        try:
            self._flatten(gltf)
        except Exception as error:
            self.error = error
            gltf.data.nodes, gltf.data.scenes, gltf.data.scene = [], [], None

    def gather_import_node_after_hook(self, _vnode: Any, node: Any, item: Any, _gltf: Any) -> None:
        """An object has been made for a node."""
        if id(node) in self._matrices:
            self.places[item.name] = self._matrices[id(node)]

    def _flatten(self, gltf: Any) -> None:
        data, structures = gltf.data, importlib.import_module("io_scene_gltf2.io.com.gltf2_io")
        document = {
            "nodes": [node.to_dict() for node in data.nodes or []],
            "scenes": [scene.to_dict() for scene in data.scenes or []],
            "scene": data.scene,
            "skins": [skin.to_dict() for skin in data.skins or []],
            "meshes": [
                {"primitives": [{"mode": item.mode} for item in mesh.primitives], "weights": mesh.weights}
                for mesh in data.meshes or []
            ],
        }
        placed = placements(document, lambda index: _read(gltf, index))
        data.nodes = []
        for number, placement in enumerate(placed):
            mesh, matrix = placement.mesh, placement.matrix
            if placement.joints is not None or placement.weights:
                data.meshes.append(_posed_mesh(gltf, placement))
                mesh = len(data.meshes) - 1
                matrix = matrix if placement.joints is None else np.eye(4)
            data.nodes.append(structures.Node.from_dict({"mesh": mesh, "name": f"{number:06d}"}))
            self._matrices[id(data.nodes[-1])] = matrix
        data.scenes = [structures.Scene.from_dict({"nodes": list(range(len(data.nodes)))})]
        data.scene = 0
        data.skins = data.animations = data.cameras = None
        for mesh in data.meshes or []:
            mesh.primitives = [_plain(gltf, item) for item in mesh.primitives if has_faces({"mode": item.mode})]


def _posed_mesh(gltf: Any, placement: Placement) -> Any:
    """A copy of a mesh with its morph targets and its skin applied."""
    mesh = copy.copy(gltf.data.meshes[placement.mesh])
    mesh.primitives = [
        _posed_primitive(gltf, item, placement) for item in mesh.primitives if has_faces({"mode": item.mode})
    ]
    return mesh


def _posed_primitive(gltf: Any, original: Any, placement: Placement) -> Any:
    primitive = copy.copy(original)
    if _DRACO in (primitive.extensions or {}):
        importlib.import_module("io_scene_gltf2.blender.imp.draco_compression_extension").decode_primitive(
            gltf, primitive
        )
        primitive.extensions = {name: value for name, value in primitive.extensions.items() if name != _DRACO}
        primitive.mode = 4
    attributes = dict(primitive.attributes)
    places = [target.get("POSITION") for target in primitive.targets or []]
    deltas = [None if place is None else _read(gltf, place) for place in places]
    positions = morphed(_read(gltf, attributes["POSITION"]), deltas, placement.weights)
    if placement.joints is not None:
        matrices = _skin(gltf, attributes, placement.joints)
        if matrices is None:
            matrices = np.broadcast_to(placement.matrix[:3], (len(positions), 3, 4))
        positions = apply(matrices, positions)
        if "NORMAL" in attributes:
            normals = np.einsum("vij,vj->vi", matrices[:, :, :3], _read(gltf, attributes["NORMAL"]))
            lengths = np.linalg.norm(normals, axis=1, keepdims=True)
            attributes["NORMAL"] = _add_vectors(gltf, normals / np.where(lengths > 0, lengths, 1.0))
    attributes["POSITION"] = _add_vectors(gltf, positions)
    primitive.attributes = attributes
    return primitive


def _skin(gltf: Any, attributes: dict[str, int], joints: NDArray[Any]) -> NDArray[Any] | None:
    sets: list[int] = []
    while f"JOINTS_{len(sets)}" in attributes and f"WEIGHTS_{len(sets)}" in attributes:
        sets.append(len(sets))
    if not sets:
        return None
    indices = np.concatenate([_read(gltf, attributes[f"JOINTS_{number}"]) for number in sets], axis=1)
    weights = np.concatenate([_read(gltf, attributes[f"WEIGHTS_{number}"]) for number in sets], axis=1)
    return skinning_matrices(indices.astype(np.int64), weights, joints)


def _plain(gltf: Any, primitive: Any) -> Any:
    """A primitive without what would become shape keys, further materials, or normals that are no numbers."""
    primitive.targets = None
    extensions = primitive.extensions or {}
    if _DRACO in extensions:
        primitive.mode = 4  # what is decoded are triangles, even if the original was a strip
    elif "NORMAL" in primitive.attributes and not np.isfinite(_read(gltf, primitive.attributes["NORMAL"])).all():
        primitive.attributes = {name: index for name, index in primitive.attributes.items() if name != "NORMAL"}
    primitive.extensions = {name: value for name, value in extensions.items() if name != _VARIANTS} or None
    return primitive


def _read(gltf: Any, index: int) -> NDArray[Any]:
    """(count, components) of an accessor."""
    reader = importlib.import_module("io_scene_gltf2.io.imp.gltf2_io_binary").BinaryData
    values: NDArray[Any] = reader.decode_accessor(gltf, index)
    return values


def _add_vectors(gltf: Any, values: NDArray[Any]) -> int:
    """A new accessor that holds (count, 3) values; its index."""
    data, structures = gltf.data, importlib.import_module("io_scene_gltf2.io.com.gltf2_io")
    content = values.astype("<f4").tobytes()
    buffer = max(len(data.buffers), *gltf.buffers, 0) + 1
    gltf.buffers[buffer] = content
    data.buffer_views.append(structures.BufferView.from_dict({"buffer": buffer, "byteLength": len(content)}))
    data.accessors.append(
        structures.Accessor.from_dict(
            {
                "bufferView": len(data.buffer_views) - 1,
                "componentType": _FLOAT,
                "count": len(values),
                "type": "VEC3",
            }
        )
    )
    return len(data.accessors) - 1
