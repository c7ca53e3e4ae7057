"""PLY files: polygons and vertex colours, in text or binary of either byte order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.mesh_part import MeshPart, float32_step, linear_from_srgb, plain_surface
from randscene.manifests.polygons import triangulated

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_FACE_LISTS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True, kw_only=True)
class _Property:
    name: str
    dtype: np.dtype[Any]
    count: np.dtype[Any] | None
    """Type of the length of a list; None for a single value."""


@dataclass(frozen=True, kw_only=True)
class _Element:
    name: str
    length: int
    properties: list[_Property]


_Columns = dict[str, NDArray[Any] | list[NDArray[Any]]]
"""By property: (length,) values, (length, k) lists that are all of one length, or lists one by one."""


def ply_parts(path: Path) -> list[MeshPart]:
    """Read a PLY file as one part.

    Parameters
    ----------
    path : Path

    Raises
    ------
    AssetError
        `unreadable` if it is broken or truncated, `bad_index`, `malformed` if a face passes a vertex twice or faces are
        stored as strips, `unsupported_texture` if it names a texture, which Blender would leave out.
    """
    data = path.read_bytes()
    order, elements, body = _header(data)
    columns: dict[str, _Columns] = {}
    rest = memoryview(data)[body:]
    lines = iter(bytes(rest).splitlines()) if order == "" else iter(())
    for element in elements:
        if order == "":
            columns[element.name] = _text_columns(lines, element)
        else:
            columns[element.name], rest = _binary_columns(rest, element)
    if "tristrips" in columns:
        raise AssetError("malformed", f"{path}: its triangles are stored as strips, which is not supported")
    vertex, face = columns.get("vertex", {}), columns.get("face", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise AssetError("no_positions", f"{path}: it has no vertex positions")
    points = np.stack([np.asarray(vertex[axis], dtype=np.float32) for axis in "xyz"], axis=1)
    lists = next((face[name] for name in _FACE_LISTS if name in face), None)
    if lists is None or len(lists) == 0:
        return []
    counts = np.array([len(polygon) for polygon in lists], dtype=np.int64)
    corners = np.concatenate([np.ravel(polygon) for polygon in lists]).astype(np.int64)
    if corners.size and not 0 <= corners.min() <= corners.max() < len(points):
        worst = corners.min() if corners.min() < 0 else corners.max()
        raise AssetError("bad_index", f"{path}: a face refers to vertex {worst} of {len(points)}")
    _check_polygons(corners, counts)
    faces = corners[triangulated(corners, counts, points)]
    color = _colors(vertex)
    return [
        MeshPart(
            vertices=points.astype(np.float64),
            faces=faces,
            surface=plain_surface() if color is None else plain_surface((1, 1, 1, 1)),
            corner_color=None if color is None else color[faces],
            step=float32_step(points),
        )
    ]


def _check_polygons(corners: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Refuse larger polygons that pass a vertex twice: Blender drops them."""
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 3]):
        rows = np.sort(corners[starts[counts == count][:, None] + np.arange(count)], axis=1)
        if (rows[:, 1:] == rows[:, :-1]).any():
            raise AssetError("malformed", "a face passes a vertex twice")


def _colors(vertex: _Columns) -> NDArray[np.float32] | None:
    """(V, 4) float32, linear RGBA, from screen colours."""
    if not {"red", "green", "blue"} <= vertex.keys():
        return None
    result = np.ones((len(vertex["red"]), 4), np.float32)
    for channel, name in enumerate(("red", "green", "blue", "alpha")):
        if name in vertex:
            values = np.asarray(vertex[name])
            result[:, channel] = values if values.dtype.kind == "f" else values / np.iinfo(values.dtype).max
    result = np.clip(np.nan_to_num(result), 0, 1)
    result[:, :3] = linear_from_srgb(result[:, :3])
    return result


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order, elements, and where the data begins."""
    order: str | None = None
    elements: list[_Element] = []
    place = 0
    while True:
        end = data.find(b"\n", place)
        if end < 0 or end - place > 10_000 or (place == 0 and data[:3] != b"ply"):
            raise AssetError("unreadable", "it has no PLY header")
        words = data[place:end].decode(errors="replace").split()
        place = end + 1
        try:
            if words[:1] == ["format"] and words[2:] == ["1.0"]:
                order = _ORDERS[words[1]]
            elif words[:2] == ["comment", "TextureFile"]:
                raise AssetError("unsupported_texture", "textures of PLY files are not supported")
            elif words[:1] == ["element"]:
                elements.append(_Element(name=words[1], length=int(words[2]), properties=[]))
            elif words[:2] == ["property", "list"]:
                count, dtype = (np.dtype((order or "") + _TYPES[word]) for word in words[2:4])
                elements[-1].properties.append(_Property(name=words[4], dtype=dtype, count=count))
            elif words[:1] == ["property"]:
                dtype = np.dtype((order or "") + _TYPES[words[1]])
                elements[-1].properties.append(_Property(name=words[2], dtype=dtype, count=None))
            elif words[:1] == ["end_header"]:
                break
            elif words[:1] not in (["ply"], ["comment"], ["obj_info"]):
                raise ValueError("no statement of a PLY header")
        except (KeyError, IndexError, ValueError) as error:
            raise AssetError("unreadable", f"its PLY header cannot be understood: {' '.join(words)[:80]}") from error
    if order is None or any(element.length < 0 for element in elements):
        raise AssetError("unreadable", "its PLY header does not say how the data is stored")
    return order, elements, place


def _binary_columns(data: memoryview, element: _Element) -> tuple[_Columns, memoryview]:
    uniform = _uniform_columns(data, element)
    if uniform is not None:
        return uniform
    columns: dict[str, list[Any]] = {item.name: [] for item in element.properties}
    place = 0
    for _ in range(element.length):
        for item in element.properties:
            count = 1
            if item.count is not None:
                count = int(_numbers(data, item.count, 1, place)[0])
                place += item.count.itemsize
            values = _numbers(data, item.dtype, count, place)
            place += values.nbytes
            columns[item.name].append(values if item.count is not None else values[0])
    return {name: values for name, values in columns.items()}, data[place:]


def _uniform_columns(data: memoryview, element: _Element) -> tuple[_Columns, memoryview] | None:
    """All rows at once, if every list is as long as in the first row."""
    fields: list[tuple[Any, ...]] = []
    place = 0
    for number, item in enumerate(element.properties):
        if item.count is None:
            fields.append((f"{number}", item.dtype))
            place += item.dtype.itemsize
            continue
        if element.length == 0:
            break
        count = int(_numbers(data, item.count, 1, place)[0])
        fields += [(f"{number} count", item.count), (f"{number}", item.dtype, (max(count, 0),))]
        place += item.count.itemsize + max(count, 0) * item.dtype.itemsize
    row = np.dtype(fields)
    if element.length == 0 or row.itemsize == 0:
        return {item.name: [] for item in element.properties}, data
    if row.itemsize * element.length > len(data):
        if all(item.count is None for item in element.properties):
            raise _truncated()
        return None
    rows = np.frombuffer(data, row, element.length)
    for number, item in enumerate(element.properties):
        if item.count is not None and (rows[f"{number} count"] != rows[f"{number} count"][0]).any():
            return None
    columns: _Columns = {item.name: rows[f"{number}"] for number, item in enumerate(element.properties)}
    return columns, data[row.itemsize * element.length :]


def _numbers(data: memoryview, dtype: np.dtype[Any], count: int, place: int) -> NDArray[Any]:
    if count < 0 or place + count * dtype.itemsize > len(data):
        raise _truncated()
    return np.frombuffer(data, dtype, count, place)


def _text_columns(lines: Iterator[bytes], element: _Element) -> _Columns:
    """One line a row, as Blender reads it."""
    columns: dict[str, list[Any]] = {item.name: [] for item in element.properties}
    for _ in range(element.length):
        line = next(lines, None)
        if line is None:
            raise _truncated()
        words = line.split()
        try:
            place = 0
            for item in element.properties:
                read = float if item.dtype.kind == "f" else int
                if item.count is None:
                    columns[item.name].append(read(words[place]))
                    place += 1
                else:
                    end = place + 1 + int(words[place])
                    columns[item.name].append([read(word) for word in words[place + 1 : end]])
                    place = end
            if place != len(words) or b"_" in line:
                raise ValueError("another number of words than of properties, or words that are no numbers")
        except (ValueError, IndexError) as error:
            text = line.decode(errors="replace").strip()[:80]
            raise AssetError("unreadable", f"a line is no {element.name} as the header describes it: {text}") from error
    return {
        item.name: [np.array(values, item.dtype) for values in columns[item.name]]
        if item.count is not None
        else np.array(columns[item.name]).astype(item.dtype)
        for item in element.properties
    }


def _truncated() -> AssetError:
    return AssetError("unreadable", "it ends before its last element: truncated?")
