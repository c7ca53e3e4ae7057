"""Small mesh files for tests, written by hand, byte by byte."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], dtype=np.float32)
BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-1, 1) for z in (-1.5, 1.5)], dtype=np.float32)
"""Corners of a box of 1 x 2 x 3."""
BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip
"""Its twelve triangles, seen from outside."""
COMPONENTS = {"f4": 5126, "i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125}


class Draft:
    """A glTF file in the making: `header` may be changed at will, `add` stores arrays."""

    def __init__(self) -> None:
        self.header: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0}
        self.data = b""

    def add(
        self, array: Any, kind: str, *, normalized: bool = False, padding: int = 0, dtype: Any = None, **extra: Any
    ) -> int:
        """Store an array as an accessor; its index. `padding` bytes follow each element."""
        array = np.ascontiguousarray(array, dtype=dtype)
        stored = array.reshape(len(array), -1).view(np.uint8).reshape(len(array), -1) if len(array) else array
        if padding:
            stored = np.pad(stored, ((0, 0), (0, padding)))
        view = self.add_view(stored.tobytes())
        if padding:
            self.header["bufferViews"][view]["byteStride"] = stored.shape[1]
        accessor = {"bufferView": view, "componentType": COMPONENTS[array.dtype.str[1:]], "count": len(array)}
        accessors = self.header.setdefault("accessors", [])
        accessors.append(accessor | {"type": kind} | ({"normalized": True} if normalized else {}) | extra)
        return len(accessors) - 1

    def add_view(self, content: bytes) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        views = self.header.setdefault("bufferViews", [])
        views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)})
        self.data += content
        self.header["buffers"] = [{"byteLength": len(self.data)}]
        return len(views) - 1

    def add_image(self, content: bytes, mime: str = "image/png") -> int:
        """Store a picture and a texture that shows it; the texture's index."""
        images, textures = self.header.setdefault("images", []), self.header.setdefault("textures", [])
        images.append({"bufferView": self.add_view(content), "mimeType": mime})
        textures.append({"source": len(images) - 1})
        return len(textures) - 1

    def add_mesh(
        self, positions: Any, indices: Any = None, *, attributes: Mapping[str, int] | None = None, **extra: Any
    ) -> int:
        """Store a mesh of one primitive; its index. `positions` may be an accessor's index."""
        if not isinstance(positions, int):
            positions = self.add(np.asarray(positions, np.float32), "VEC3")
        primitive: dict[str, Any] = {"attributes": {"POSITION": positions} | dict(attributes or {})} | extra
        if indices is not None:
            primitive["indices"] = self.add(np.ravel(np.asarray(indices)).astype(np.uint32), "SCALAR")
        meshes = self.header.setdefault("meshes", [])
        meshes.append({"primitives": [primitive]})
        return len(meshes) - 1

    def show(self, *nodes: Mapping[str, Any], roots: Sequence[int] | None = None) -> "Draft":
        """Set the nodes, and the scene that shows all of them or those named."""
        self.header["nodes"] = [dict(node) for node in nodes]
        self.header["scenes"] = [{"nodes": list(range(len(nodes)) if roots is None else roots)}]
        return self

    def show_roots(self, *roots: int) -> "Draft":
        self.header["scenes"] = [{"nodes": list(roots)}]
        return self

    def require(self, *extensions: str) -> "Draft":
        self.header["extensionsUsed"] = self.header["extensionsRequired"] = list(extensions)
        return self

    def save(self, path: Path) -> Path:
        if path.suffix == ".gltf":
            (path.parent / f"{path.stem}.bin").write_bytes(self.data)
            self.header["buffers"][0]["uri"] = f"{path.stem}.bin"
            path.write_text(json.dumps(self.header))
            return path
        return write_glb(path, self.header, self.data)


def box_draft(*nodes: Mapping[str, Any], **extra: Any) -> Draft:
    """A box shown by the nodes, by default by one."""
    draft = Draft()
    draft.add_mesh(BOX, BOX_FACES, **extra)
    return draft.show(*(nodes or ({"mesh": 0},)))


def gltf_of(
    positions=TRIANGLE, indices=(0, 1, 2), *, attributes=None, material=None, nodes=None, images=(), mode=4, **extra
) -> tuple[dict[str, Any], bytes]:
    """A glTF header and its binary chunk: one mesh of one primitive."""
    draft = Draft()
    stored = {
        name: draft.add(array, kind, normalized=normalized)
        for name, (array, kind, normalized) in (attributes or {}).items()
    }
    draft.add_mesh(positions, indices, attributes=stored, mode=mode)
    draft.show(*(nodes or [{"mesh": 0}]))
    for image in images:
        draft.add_image(image)
    if material is not None:
        draft.header["materials"] = [material]
        draft.header["meshes"][0]["primitives"][0]["material"] = 0
    return draft.header | extra, draft.data


def write_glb(path: Path, header: Mapping[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    body = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(data), 0x004E4942) + data
    path.write_bytes(struct.pack("<3I", 0x46546C67, 2, 12 + len(body)) + body)
    return path


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()
