"""The triangles of a glTF file: its placed primitives, decoded and posed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.gltf_scene import Placement, apply, has_faces, morphed, placements, skinning_matrices
from randscene.manifests.gltf_accessors import TYPES, GltfData, normalised
from randscene.manifests.gltf_draco import decode_draco
from randscene.manifests.gltf_header import DRACO, check_header, read_gltf
from randscene.manifests.gltf_materials import GltfMaterials
from randscene.manifests.mesh_part import MeshPart, float32_step
from randscene.manifests.texture import TextureRules

_KINDS = {
    "POSITION": ("VEC3",),
    "NORMAL": ("VEC3",),
    "TEXCOORD": ("VEC2",),
    "COLOR": ("VEC3", "VEC4"),
    "JOINTS": ("VEC4",),
    "WEIGHTS": ("VEC4",),
}
"""Element types that an attribute may have."""


def gltf_parts(path: Path, *, max_faces: int, textures: TextureRules) -> list[MeshPart]:
    """Read the default scene of a `.glb` or `.gltf` file, at rest (see `gltf_scene`).

    Parameters
    ----------
    path : Path
    max_faces : int
        Most triangles that it may have.
    textures : TextureRules
        How textures are read.

    Raises
    ------
    AssetError
        See `load_asset_mesh`.
    """
    header, chunk = read_gltf(path)
    check_header(header, path.parent)
    data = GltfData(header, chunk, path.parent)
    placed = placements(header, data.accessor)
    shown = [(placement, primitive) for placement in placed for primitive in _primitives(data, placement)]
    _check_count(sum(_stated_faces(data, primitive) for _, primitive in shown), max_faces)
    materials = GltfMaterials(data, textures)
    decoded: dict[int, _Primitive] = {}
    parts = []
    total = 0
    for placement, primitive in shown:
        if id(primitive) not in decoded:
            decoded[id(primitive)] = _Primitive(data, primitive)
        source = decoded[id(primitive)]
        total += len(source.faces)
        _check_count(total, max_faces)
        if len(source.faces):
            parts.append(_part(source, primitive.get("material"), placement, materials))
    return parts


def _primitives(data: GltfData, placement: Placement) -> list[dict[str, Any]]:
    return [primitive for primitive in data.item("meshes", placement.mesh)["primitives"] if has_faces(primitive)]


def _stated_faces(data: GltfData, primitive: dict[str, Any]) -> int:
    counted = primitive.get("indices", primitive.get("attributes", {}).get("POSITION"))
    if counted is None:
        raise AssetError("no_positions", "a mesh has no vertex positions")
    count = int(data.item("accessors", counted).get("count", 0))
    return count // 3 if primitive.get("mode", 4) == 4 else max(count - 2, 0)


def _check_count(faces: int, most: int) -> None:
    if faces > most:
        raise AssetError("too_large", f"it has {faces:,} triangles or more; {most:,} are allowed")


class _Primitive:
    """One primitive as stored: triangles, and the attributes of the vertices that they use."""

    def __init__(self, data: GltfData, primitive: dict[str, Any]) -> None:
        self._data = data
        self._accessors: dict[str, int] = primitive.get("attributes", {})
        self._decoded: dict[str, NDArray[Any]] = {}
        faces: NDArray[np.int64] | None = None
        if DRACO in primitive.get("extensions", {}):
            faces, self._decoded = decode_draco(data, primitive)
        if "POSITION" not in self._accessors:
            raise AssetError("no_positions", "a mesh has no vertex positions")
        positions = self._attribute("POSITION")
        self._count = len(positions)
        for name in self._accessors:
            self._check(name)
        faces = self._triangles(primitive) if faces is None else faces
        if faces.size and faces.max() >= self._count:
            raise AssetError("bad_index", f"a triangle refers to vertex {faces.max()} of {self._count} vertices")
        # Vertices that no triangle uses are dropped here, so that copies of a node cost no more than their triangles.
        self._used, places = np.unique(faces, return_inverse=True)
        self.faces = places.reshape(-1, 3).astype(np.int64)
        self.positions = positions[self._used]
        self.deltas = [
            self._moves(target["POSITION"])[self._used] if "POSITION" in target else None
            for target in primitive.get("targets", [])
        ]

    def get(self, name: str) -> NDArray[Any] | None:
        """(V, components) of an attribute of the used vertices, or None."""
        return self._attribute(name)[self._used] if name in self._accessors else None

    def skin(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """(V, K) joints and weights of all sets, or None."""
        joints, weights = [], []
        for number in range(len(self._accessors)):
            first, second = self.get(f"JOINTS_{number}"), self.get(f"WEIGHTS_{number}")
            if first is None or second is None:
                break
            joints.append(first.astype(np.int64))
            weights.append(normalised(second))
        return (np.concatenate(joints, axis=1), np.concatenate(weights, axis=1)) if joints else None

    def _attribute(self, name: str) -> NDArray[Any]:
        values = self._decoded.get(name)
        return self._data.accessor(self._accessors[name]) if values is None else values

    def _check(self, name: str) -> None:
        """Refuse an attribute of the wrong type or length; the renderer would stumble over it."""
        accessor = self._data.item("accessors", self._accessors[name])
        kinds = _KINDS.get(name.rstrip("0123456789").rstrip("_"))
        if kinds is None:
            return
        if accessor.get("type") not in kinds or accessor.get("componentType") not in TYPES:
            raise AssetError("malformed", f"the attribute {name} is stored as {accessor.get('type')}")
        self._sized(self._attribute(name), name)

    def _moves(self, accessor: int) -> NDArray[Any]:
        """(all vertices, 3) of a morph target."""
        kind = self._data.item("accessors", accessor).get("type")
        if kind != "VEC3":
            raise AssetError("malformed", f"a morph target is stored as {kind}")
        return self._sized(self._data.accessor(accessor), "a morph target")

    def _sized(self, values: NDArray[Any], what: str) -> NDArray[Any]:
        if len(values) != self._count:
            raise AssetError("malformed", f"{what} has {len(values)} values for {self._count} vertices")
        return values

    def _triangles(self, primitive: dict[str, Any]) -> NDArray[np.int64]:
        if "indices" in primitive:
            accessor = self._data.item("accessors", primitive["indices"])
            if accessor.get("type") != "SCALAR" or accessor.get("componentType") not in (5121, 5123, 5125):
                raise AssetError("malformed", "indices are not stored as unsigned integers")
            if accessor.get("normalized", False):
                raise AssetError("malformed", "indices are stored as fractions")
            order = self._data.accessor(primitive["indices"])[:, 0].astype(np.int64)
        else:
            order = np.arange(self._count)
        mode = primitive.get("mode", 4)
        if mode == 4:
            if len(order) % 3:
                raise AssetError("malformed", f"{len(order)} indices make no whole number of triangles")
            return order.reshape(-1, 3)
        if len(order) < 3:
            return np.empty((0, 3), np.int64)
        if mode == 6:
            return np.stack((np.broadcast_to(order[0], len(order) - 2), order[1:-1], order[2:]), axis=1)
        strip = np.stack((order[:-2], order[1:-1], order[2:]), axis=1)
        strip[1::2, 1:] = strip[1::2, :0:-1]  # every other triangle of a strip runs the other way round
        return strip


def _part(source: _Primitive, material: int | None, placement: Placement, materials: GltfMaterials) -> MeshPart:
    color = source.get("COLOR_0")
    surface = materials.surface(material, has_color=color is not None)
    positions: NDArray[Any] = source.positions
    step = float32_step(positions) if positions.dtype.kind == "f" else 0.0
    if placement.weights:
        positions = morphed(positions, source.deltas, placement.weights)
    skin = source.skin() if placement.joints is not None else None
    faces = source.faces
    uv = None
    if surface.texture is not None:
        uv = materials.uv(material, source.get)
    corner_uv = None if uv is None else uv[faces].astype(np.float32)
    corner_color = None if color is None else _linear_rgba(color)[faces]
    if skin is not None and placement.joints is not None:
        matrices = skinning_matrices(*skin, placement.joints)
        vertices = apply(matrices, positions)
        stretch = float(np.linalg.norm(matrices[:, :, :3], axis=1).max(initial=0.0))
    else:
        vertices = apply(placement.matrix, positions)
        stretch = float(np.linalg.norm(placement.matrix[:3, :3], axis=0).max())
        if np.linalg.det(placement.matrix[:3, :3]) < 0:  # a mirrored node turns its triangles inside out
            faces = faces[:, ::-1]
            corner_uv = None if corner_uv is None else corner_uv[:, ::-1]
            corner_color = None if corner_color is None else corner_color[:, ::-1]
    return MeshPart(
        vertices=vertices,
        faces=faces,
        surface=surface,
        uv=corner_uv,
        corner_color=corner_color,
        step=step * stretch,
    )


def _linear_rgba(stored: NDArray[Any]) -> NDArray[np.float32]:
    """(V, 4) float32 in [0, 1]; opaque where no alpha is stored."""
    result = np.ones((len(stored), 4), np.float32)
    result[:, : stored.shape[1]] = np.clip(np.nan_to_num(stored.astype(np.float32)), 0, 1)
    return result
