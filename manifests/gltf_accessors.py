"""Accessors: the arrays of a glTF file, decoded as the specification says (glTF 2.0, section 3.6).

Whatever does not lie within its buffer is refused; nothing is filled in. Decoded are strides, sparse values,
normalised integers (KHR_mesh_quantization) and Draco.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.gltf_header import MESHOPT, resolve_inside

TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
"""NumPy type of a component type."""
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
"""Numbers in one element of an accessor."""
MAX_ZEROS = 50_000_000
"""Most elements of an accessor that is zero but for its sparse values: a few bytes must not fill the memory."""


class GltfData:
    """The binary data of one glTF file.

    Parameters
    ----------
    header : dict
    chunk : bytes
        The binary chunk of a `.glb`.
    folder : Path
        Where the file lies.
    """

    def __init__(self, header: dict[str, Any], chunk: bytes, folder: Path) -> None:
        self.header = header
        self._chunk = chunk
        self._folder = folder
        self._buffers: dict[int, memoryview] = {}

    def item(self, kind: str, index: int) -> dict[str, Any]:
        """`header[kind][index]`; `bad_index` if there is none."""
        items = self.header.get(kind, [])
        if not 0 <= index < len(items):
            raise AssetError("bad_index", f"it refers to item {index} of {len(items)} in {kind!r}")
        found: dict[str, Any] = items[index]
        return found

    def bytes_of(self, uri: str) -> bytes:
        """The content that a URI stands for: inline base64, or a file in the folder.

        Raises
        ------
        AssetError
            `unreadable`, or what `resolve_inside` says of the file.
        """
        if not uri.startswith("data:"):
            return resolve_inside(self._folder, uri).read_bytes()
        _, mark, text = uri.partition(";base64,")
        try:
            if not mark:
                raise ValueError("it is not base64")
            return base64.b64decode(text)
        except (ValueError, binascii.Error) as error:
            raise AssetError("unreadable", f"inline data cannot be read: {error}") from error

    def view(self, index: int) -> memoryview:
        """The bytes of a buffer view.

        Raises
        ------
        AssetError
            `bad_index`, `bad_buffer` (it reaches beyond its buffer) or `needs_meshopt`.
        """
        view = self.item("bufferViews", index)
        if any(name in view.get("extensions", {}) for name in MESHOPT) and not self._has_fallback(view):
            raise AssetError("needs_meshopt", "its geometry is compressed by meshopt, which is not supported")
        start, length = view.get("byteOffset", 0), view["byteLength"]
        buffer = self._buffer(view["buffer"])
        if start < 0 or length < 0 or start + length > len(buffer):
            raise AssetError(
                "bad_buffer", f"bytes {start} to {start + length} are wanted of a buffer that holds {len(buffer)}"
            )
        return buffer[start : start + length]

    def accessor(self, index: int) -> NDArray[Any]:
        """(count, components): float32 where the values stand for fractions, else the type as stored.

        Raises
        ------
        AssetError
            `bad_index`, `bad_buffer`, or `malformed` for types that do not exist.
        """
        accessor = self.item("accessors", index)
        component, kind, count = accessor.get("componentType"), accessor.get("type"), accessor.get("count", 0)
        if component not in TYPES or kind not in COMPONENTS or count < 0:
            raise AssetError("malformed", f"accessor {index} is of no known type: {count} x {kind} of {component}")
        dtype, width = np.dtype(TYPES[component]).newbyteorder("<"), COMPONENTS[kind]
        if "bufferView" in accessor:
            values = self._elements(accessor["bufferView"], accessor.get("byteOffset", 0), dtype, count, width)
        elif "sparse" in accessor:
            if count > MAX_ZEROS:
                raise AssetError("too_large", f"accessor {index} stands for {count:,} zeros")
            values = np.zeros((count, width), dtype)
        else:
            raise AssetError("bad_buffer", f"accessor {index} has no data")
        if "sparse" in accessor:
            values = self._with_sparse(values, accessor["sparse"], dtype, width)
        return normalised(values) if accessor.get("normalized", False) else values

    def _buffer(self, index: int) -> memoryview:
        if index not in self._buffers:
            buffer = self.item("buffers", index)
            if "uri" in buffer:
                data = self.bytes_of(buffer["uri"])
            elif index == 0:
                data = self._chunk
            else:
                raise AssetError("bad_buffer", f"buffer {index} has no data")
            self._buffers[index] = memoryview(data)
        return self._buffers[index]

    def _has_fallback(self, view: dict[str, Any]) -> bool:
        buffer = self.item("buffers", view["buffer"])
        marked = any(buffer.get("extensions", {}).get(name, {}).get("fallback") for name in MESHOPT)
        return "uri" in buffer or (view["buffer"] == 0 and bool(self._chunk) and not marked)

    def _elements(self, view: int, offset: int, dtype: np.dtype[Any], count: int, width: int) -> NDArray[Any]:
        data = self.view(view)
        size = dtype.itemsize * width
        stride = self.item("bufferViews", view).get("byteStride", size)
        if stride < size or stride % dtype.itemsize:
            raise AssetError("malformed", f"elements of {size} bytes lie {stride} bytes apart")
        needed = offset + (count - 1) * stride + size if count else 0
        if offset < 0 or needed > len(data):
            raise AssetError("bad_buffer", f"{needed} bytes are wanted of a part of its data that holds {len(data)}")
        return (
            np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
            if count
            else np.empty((0, width), dtype)
        )

    def _with_sparse(
        self, values: NDArray[Any], sparse: dict[str, Any], dtype: np.dtype[Any], width: int
    ) -> NDArray[Any]:
        places, stored, count = sparse["indices"], sparse["values"], sparse["count"]
        if places.get("componentType") not in (5121, 5123, 5125):
            raise AssetError("malformed", "places of sparse values are not stored as unsigned integers")
        if count < 0:
            raise AssetError("malformed", f"there are {count} sparse values")
        kind = np.dtype(TYPES[places["componentType"]]).newbyteorder("<")
        where = self._elements(places["bufferView"], places.get("byteOffset", 0), kind, count, 1)[:, 0]
        if count and where.max() >= len(values):
            raise AssetError("bad_index", f"a sparse value belongs at place {where.max()} of {len(values)}")
        result = values.copy()
        result[where] = self._elements(stored["bufferView"], stored.get("byteOffset", 0), dtype, count, width)
        return result


def normalised(values: NDArray[Any]) -> NDArray[Any]:
    """Integers as the fractions that they stand for, float32: [0, 1], or [-1, 1] if signed."""
    if values.dtype.kind == "f":
        return values
    result = values / np.float32(np.iinfo(values.dtype).max)
    return np.maximum(result, -1.0).astype(np.float32)
