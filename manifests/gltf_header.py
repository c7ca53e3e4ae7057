"""The JSON header of a glTF file: read, and refused with a typed reason where it asks for what is not supported."""

import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from randscene.errors import AssetError
from randscene.manifests.gltf_schema import check_schema

_GLB_MAGIC = 0x46546C67
_JSON_CHUNK = 0x4E4F534A
_BINARY_CHUNK = 0x004E4942

DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")

_SUPPORTED = frozenset(
    {
        DRACO,
        "EXT_mesh_gpu_instancing",
        "EXT_texture_webp",
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_emissive_strength",
        "KHR_materials_ior",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_variants",
        "KHR_materials_volume",
        "KHR_mesh_quantization",
        "KHR_texture_transform",
    }
)
"""Extensions that a file may require: this reader follows them or can do without, and Blender's importer knows them."""


def read_gltf(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a `.glb` or `.gltf` file, and its binary chunk.

    Null values are left out of the header, as if their keys were absent.

    Parameters
    ----------
    path : Path

    Returns
    -------
    header : dict
    chunk : bytes
        Content of the binary chunk of a `.glb`; empty if there is none.

    Raises
    ------
    AssetError
        `unreadable` if the container or its JSON is broken or of another version, `malformed` if fields of the JSON
        are not of the kind that they must be.
    """
    data = path.read_bytes()
    chunk = b""
    text = data
    if path.suffix.lower() == ".glb":
        text, chunk = _unpack_glb(path, data)
    try:
        header = json.loads(text.decode(), parse_constant=_refuse_constant)
        cleaned = _without_nulls(header)
    except (ValueError, RecursionError) as error:
        raise AssetError("unreadable", f"{path}: its JSON cannot be read: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("asset"), dict):
        raise AssetError("unreadable", f"{path}: its JSON is no glTF document")
    version = header["asset"].get("version")
    if version != "2.0":
        raise AssetError("unreadable", f"{path}: glTF version {version!r}, but only 2.0 can be read")
    check_schema(header)
    return cleaned, chunk


def _unpack_glb(path: Path, data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 20:
        raise AssetError("unreadable", f"{path}: too short for a GLB file ({len(data)} bytes)")
    magic, version, length, text_length, kind = struct.unpack_from("<5I", data)
    if magic != _GLB_MAGIC or version != 2 or kind != _JSON_CHUNK:
        raise AssetError("unreadable", f"{path}: not a GLB 2.0 file")
    end = 20 + text_length
    if length != len(data) or end > length:
        raise AssetError("unreadable", f"{path}: {len(data)} bytes, but its header speaks of {length}: truncated?")
    if length < end + 8:
        return data[20:end], b""
    chunk_length, kind = struct.unpack_from("<2I", data, end)
    if kind != _BINARY_CHUNK:
        return data[20:end], b""
    if end + 8 + chunk_length > length:
        raise AssetError("unreadable", f"{path}: its binary chunk is truncated")
    return data[20:end], data[end + 8 : end + 8 + chunk_length]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no JSON")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def resolve_inside(folder: Path, uri: str, *, quoted: bool = True, base: Path | None = None) -> Path:
    """The file that a relative URI names, which must lie in `folder` or below.

    Parameters
    ----------
    folder : Path
    uri : str
    quoted : bool
        Whether `%20` stands for a space, as in URIs; False for plain file names.
    base : Path, optional
        Where relative names begin; `folder` by default.

    Raises
    ------
    AssetError
        `unsafe_path` if the URI is a URL, absolute, or leaves the folder (symbolic links included);
        `missing_file` if there is no such file.
    """
    name = (unquote(uri) if quoted else uri).strip().replace("\\", "/")
    root = folder.resolve()
    base = root if base is None else base.resolve()
    windows_drive = len(name) > 1 and name[1] == ":"
    unsafe = "://" in name or "\0" in name or windows_drive or name.startswith(("/", "~"))
    if unsafe or not (base / name).resolve().is_relative_to(root):
        raise AssetError("unsafe_path", f"the file refers to {uri!r}, which lies outside its folder: refused")
    target = (base / name).resolve()
    if not target.is_file():
        raise AssetError("missing_file", f"the file refers to {uri!r}, which does not exist beside it")
    return target


def check_header(header: dict[str, Any], folder: Path) -> None:
    """Refuse files that reach outside their folder, lack a part, or require what is not supported.

    Raises
    ------
    AssetError
        `unsafe_path`, `missing_file` (outside references), `needs_meshopt` (no decoder), `unsupported_texture`,
        `unsupported_extension`, `malformed` (its extensions are not declared as they must be).
    """
    for item in [*header.get("buffers", []), *header.get("images", [])]:
        uri = item.get("uri")
        if isinstance(uri, str) and not uri.startswith("data:"):
            resolve_inside(folder, uri)
    required = set(header.get("extensionsRequired", []))
    undeclared = required - set(header.get("extensionsUsed", []))
    if not required.isdisjoint(MESHOPT):
        raise AssetError("needs_meshopt", "its geometry is compressed by meshopt, which is not supported")
    unknown = sorted(required - _SUPPORTED)
    if unknown:
        texture = all(name.startswith(("KHR_texture_", "EXT_texture_", "MSFT_texture_")) for name in unknown)
        reason = "unsupported_texture" if texture else "unsupported_extension"
        raise AssetError(reason, f"it requires {', '.join(unknown)}, which is not supported")
    if undeclared:
        raise AssetError("malformed", f"it requires {', '.join(sorted(undeclared))} without listing it as used")
