"""The JSON header of a glTF file: read, checked and simplified before the mesh library sees it.

The mesh library is lenient: it fills what it cannot decode with zeros, leaves out textures that it cannot find and
rounds colours to 8 bits. Here the header is read first, everything that would be silently wrong is refused with a typed
reason, and materials are reduced to the metallic-roughness form with their index as their name, so that the exact
factors can be looked up again.
"""

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from randscene.errors import AssetError

_GLB_MAGIC = 0x46546C67
_JSON_CHUNK = 0x4E4F534A
_MODES_WITH_FACES = (4, 5, 6)

COLOR = "_RANDSCENE_COLOR"
"""Name that `expose_attributes` gives to vertex colours."""
UV = "_RANDSCENE_UV"
"""Name that `expose_attributes` gives to texture coordinates."""

_HARMLESS_REQUIRED = frozenset(
    {
        "KHR_draco_mesh_compression",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_lights_punctual",
        "KHR_materials_emissive_strength",
        "KHR_materials_unlit",
        "KHR_texture_transform",
        "KHR_mesh_quantization",
        "EXT_texture_webp",
    }
)
"""Extensions that may be listed as required: they are decoded, or their effect is checked accessor by accessor."""


def read_gltf(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a `.glb` or `.gltf` file, and the bytes that follow it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    header : dict
    rest : bytes
        What follows the JSON chunk of a `.glb`, chunk headers included; empty for a `.gltf`.

    Raises
    ------
    AssetError
        `unreadable` if the container or its JSON is broken.
    """
    data = path.read_bytes()
    rest = b""
    text = data
    if path.suffix.lower() == ".glb":
        if len(data) < 20:
            raise AssetError("unreadable", f"{path}: too short for a GLB file ({len(data)} bytes)")
        magic, version, length, chunk_length, chunk_type = struct.unpack_from("<5I", data)
        if magic != _GLB_MAGIC or version != 2 or chunk_type != _JSON_CHUNK:
            raise AssetError("unreadable", f"{path}: not a GLB 2.0 file")
        if length != len(data) or 20 + chunk_length > length:
            raise AssetError("unreadable", f"{path}: {len(data)} bytes, but its header speaks of {length}: truncated?")
        text, rest = data[20 : 20 + chunk_length], data[20 + chunk_length :]
    try:
        header = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AssetError("unreadable", f"{path}: its JSON cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise AssetError("unreadable", f"{path}: its JSON is not an object")
    return header, rest


def pack_gltf(header: dict[str, Any], rest: bytes, suffix: str) -> bytes:
    """The bytes of a file with `header` in place of its own JSON; the inverse of `read_gltf`."""
    text = json.dumps(header).encode()
    if suffix != ".glb":
        return text
    text += b" " * (-len(text) % 4)
    return struct.pack("<5I", _GLB_MAGIC, 2, 20 + len(text) + len(rest), len(text), _JSON_CHUNK) + text + rest


def resolve_inside(folder: Path, uri: str) -> Path:
    """The file that a relative URI names, which must lie in `folder` or below.

    Raises
    ------
    AssetError
        `unsafe_path` if the URI is a URL, absolute, or leaves the folder (symbolic links included);
        `missing_file` if there is no such file.
    """
    name = unquote(uri).replace("\\", "/")
    root = folder.resolve()
    target = (root / name).resolve()
    windows_drive = len(name) > 1 and name[1] == ":"
    if "://" in name or windows_drive or name.startswith("/") or not target.is_relative_to(root):
        raise AssetError("unsafe_path", f"the file refers to {uri!r}, which lies outside its folder: refused")
    if not target.is_file():
        raise AssetError("missing_file", f"the file refers to {uri!r}, which does not exist beside it")
    return target


def check_header(header: dict[str, Any], folder: Path) -> None:
    """Refuse what would load as something else than it is.

    Raises
    ------
    AssetError
        `unsafe_path`, `missing_file` (outside references), `needs_draco`, `needs_meshopt` (no decoder),
        `unsupported_extension`, `unsupported_accessor` (sparse, normalised positions), `no_positions`, `bad_index`.
    """
    for item in [*header.get("buffers", []), *header.get("images", [])]:
        uri = item.get("uri")
        if isinstance(uri, str) and not uri.startswith("data:"):
            resolve_inside(folder, uri)
    required = set(header.get("extensionsRequired", []))
    if "EXT_meshopt_compression" in required or "KHR_meshopt_compression" in required:
        raise AssetError("needs_meshopt", "its geometry is compressed by meshopt, which is not supported")
    unknown = sorted(required - _HARMLESS_REQUIRED)
    if unknown:
        raise AssetError("unsupported_extension", f"it requires {', '.join(unknown)}, which is not supported")
    accessors = header.get("accessors", [])
    for primitive in _primitives(header):
        if "KHR_draco_mesh_compression" in primitive.get("extensions", {}):
            if importlib.util.find_spec("DracoPy") is None:
                raise AssetError("needs_draco", "its geometry is compressed by Draco: pip install DracoPy to read it")
            continue
        attributes = primitive.get("attributes", {})
        if "POSITION" not in attributes:
            raise AssetError("no_positions", "a mesh has no vertex positions")
        for index in [*attributes.values(), primitive.get("indices")]:
            if index is None:
                continue
            if not 0 <= index < len(accessors):
                raise AssetError("bad_index", f"a mesh refers to accessor {index} of {len(accessors)}")
            if "sparse" in accessors[index]:
                raise AssetError("unsupported_accessor", "its geometry is stored sparse")
        if accessors[attributes["POSITION"]].get("normalized"):
            raise AssetError("unsupported_accessor", "its vertex positions are stored as normalised integers")


def simplify_materials(header: dict[str, Any]) -> None:
    """Reduce every material to metallic-roughness with its index as its name; in place.

    Specular-glossiness materials keep their diffuse colour and texture as base colour.
    """
    for index, material in enumerate(header.get("materials", [])):
        glossy = material.get("extensions", {}).pop("KHR_materials_pbrSpecularGlossiness", None)
        if glossy is not None:
            base = {
                "baseColorFactor": glossy.get("diffuseFactor", [1, 1, 1, 1]),
                "metallicFactor": 0.0,
                "roughnessFactor": 1.0 - glossy.get("glossinessFactor", 1.0),
            }
            if "diffuseTexture" in glossy:
                base["baseColorTexture"] = glossy["diffuseTexture"]
            material["pbrMetallicRoughness"] = base
        material["name"] = str(index)


def expose_attributes(header: dict[str, Any]) -> None:
    """Rename the colours and the base-colour texture's coordinates of every primitive to `COLOR` and `UV`; in place.

    Custom names reach the caller as they are stored; under their own names they would be rounded to 8 bits or
    flipped as integers.
    """
    for primitive in _primitives(header):
        attributes = primitive.get("attributes", {})
        texture = base_texture(header, primitive["material"]) if "material" in primitive else {}
        chosen = (
            texture.get("extensions", {}).get("KHR_texture_transform", {}).get("texCoord", texture.get("texCoord", 0))
        )
        for name, alias in (("COLOR_0", COLOR), (f"TEXCOORD_{chosen}", UV)):
            if name in attributes:
                attributes[alias] = attributes.pop(name)
        attributes.pop("TEXCOORD_0", None)


def base_texture(header: dict[str, Any], material: int) -> dict[str, Any]:
    """The base-colour texture reference of a material, or an empty dict."""
    texture: dict[str, Any] = header["materials"][material].get("pbrMetallicRoughness", {}).get("baseColorTexture", {})
    return texture


def _primitives(header: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        primitive
        for mesh in header.get("meshes", [])
        for primitive in mesh.get("primitives", [])
        if primitive.get("mode", 4) in _MODES_WITH_FACES
    ]
