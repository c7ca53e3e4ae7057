"""A Model as a binary glTF 2.0 file (.glb): Y up, metres, one mesh with a primitive for each material.

Written here, not by a library, so that the same model gives the same bytes under every version of everything.
Positions are rounded to 2^-16 m and normals to 2^-12: far below what can be seen, and coarse enough that the last bit
of a sine on another processor does not show.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import canonical_json
from randscene.manifests.procedural.model import Color, FloatArray, Material, Model, Part
from randscene.manifests.procedural.textures import png

GENERATOR = "randscene procedural"
LICENCE = "CC0-1.0"

_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_ARRAY_BUFFER, _INDEX_BUFFER = 34962, 34963


def _linear(color: Color) -> list[float]:
    """sRGB to linear, as glTF wants its factors."""
    return [round(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4, 5) for c in color]


def _on_grid(values: FloatArray, per_unit: int) -> FloatArray:
    return np.rint(values * per_unit) / per_unit + 0.0  # adding zero turns -0 into 0


def _y_up(vectors: FloatArray) -> FloatArray:
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1)


class _Buffer:
    """The binary chunk and the JSON that points into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.data += data
        self.views.append(view)
        return len(self.views) - 1

    def vectors(self, values: FloatArray, *, bounds: bool = False) -> int:
        single = np.ascontiguousarray(values, dtype="<f4")
        accessor: dict[str, Any] = {
            "bufferView": self.view(single.tobytes(), _ARRAY_BUFFER),
            "componentType": _FLOAT,
            "count": len(single),
            "type": f"VEC{single.shape[1]}",
        }
        if bounds:
            accessor["min"], accessor["max"] = single.min(axis=0).tolist(), single.max(axis=0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def indices(self, faces: NDArray[Any], n_vertices: int) -> int:
        small = n_vertices < 65535
        self.accessors.append(
            {
                "bufferView": self.view(faces.astype("<u2" if small else "<u4").tobytes(), _INDEX_BUFFER),
                "componentType": _USHORT if small else _UINT,
                "count": int(faces.size),
                "type": "SCALAR",
            }
        )
        return len(self.accessors) - 1


def _material(material: Material, texture: int | None) -> dict[str, Any]:
    surface: dict[str, Any] = {
        "baseColorFactor": [*_linear(material.color), 1.0],
        "metallicFactor": round(material.metallic, 4),
        "roughnessFactor": round(material.roughness, 4),
    }
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    result: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": surface}
    if any(material.emissive):
        result["emissiveFactor"] = _linear(material.emissive)
    return result


def export_glb(model: Model, name: str) -> bytes:
    """The bytes of a .glb file.

    Parameters
    ----------
    model : Model
        Z up, metres; written Y up: (x, y, z) becomes (x, z, -y).
    name : str
        Name of the node and its mesh.

    Returns
    -------
    bytes
        glTF 2.0 with indices, positions, normals, texture coordinates (textured materials only), embedded PNG images
        and metallic-roughness materials. A pure function of its arguments.
    """
    groups: dict[int, list[tuple[int, Part]]] = {}
    materials: list[Material] = []
    for order, part in enumerate(model.parts):
        if id(part.material) not in groups:
            groups[id(part.material)] = []
            materials.append(part.material)
        groups[id(part.material)].append((order, part))

    buffer = _Buffer()
    primitives: list[dict[str, Any]] = []
    material_items: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    image_of: dict[int, int] = {}
    for number, material in enumerate(materials):
        members = groups[id(material)]
        sizes = [len(part.surface.vertices) for _, part in members]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        faces = np.concatenate([part.surface.faces + start for (_, part), start in zip(members, starts)])
        positions = _on_grid(_y_up(np.concatenate([part.surface.vertices for _, part in members])), 1 << 16)
        normals = _on_grid(_y_up(np.concatenate([part.surface.normals for _, part in members])), 1 << 12)
        primitive: dict[str, Any] = {
            "attributes": {"POSITION": buffer.vectors(positions, bounds=True), "NORMAL": buffer.vectors(normals)},
            "indices": buffer.indices(faces, int(starts[-1])),
            "material": number,
        }
        texture = material.texture
        if texture is not None:
            uv = np.concatenate([part.texture_coordinates(order) for order, part in members])
            primitive["attributes"]["TEXCOORD_0"] = buffer.vectors(_on_grid(uv, 1 << 14))
            if id(texture) not in image_of:
                image_of[id(texture)] = len(images)
                images.append({"bufferView": buffer.view(png(texture)), "mimeType": "image/png"})
        primitives.append(primitive)
        material_items.append(_material(material, None if texture is None else image_of[id(texture)]))

    buffer.data += b"\0" * (-len(buffer.data) % 4)
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": GENERATOR, "copyright": LICENCE},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": primitives}],
        "materials": material_items,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    if images:
        document["images"] = images
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}]
        document["textures"] = [{"sampler": 0, "source": i} for i in range(len(images))]
    text = canonical_json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(buffer.data)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(buffer.data), b"BIN\0"),
            bytes(buffer.data),
        ]
    )
