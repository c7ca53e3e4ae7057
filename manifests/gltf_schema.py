"""The shape of a glTF header: which fields hold what, after the glTF 2.0 specification, appendix A.

A number where a list should be, or a fraction where a count should be, would make one reader stumble and another one
read something else. Only kinds are checked here, not values, and fields that no reader looks at are left alone.
"""

from collections.abc import Callable
from typing import Any

from randscene.errors import AssetError


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)  # halves of a letter, which no file name holds


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def _dict_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(check(item) for item in value.values())


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", _is_int),
    "number": ("a number", _is_number),
    "text": ("a text", _is_text),
    "uri": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "dicts": ("an object of objects", _dict_of(lambda value: isinstance(value, dict))),
    "ints": ("a list of whole numbers", _list_of(_is_int)),
    "numbers": ("a list of numbers", _list_of(_is_number)),
    "texts": ("a list of texts", _list_of(_is_text)),
    "names": ("an object of whole numbers", _dict_of(_is_int)),
    "targets": ("a list of objects of whole numbers", _list_of(_dict_of(_is_int))),
}

_SCHEMAS: dict[str, str] = {
    "document": "asset=asset! accessors=accessor* animations=animation* buffers=buffer* bufferViews=view* "
    "cameras=camera* extensionsRequired=texts extensionsUsed=texts images=image* materials=material* meshes=mesh* "
    "nodes=node* samplers=sampler* scene=int scenes=scene* skins=skin* textures=texture*",
    "asset": "version=text! minVersion=text generator=text copyright=text",
    "accessor": "bufferView=int byteOffset=int componentType=int! count=int! max=numbers min=numbers normalized=bool "
    "sparse=sparse type=text!",
    "sparse": "count=int! indices=sparse_indices! values=sparse_values!",
    "sparse_indices": "bufferView=int! byteOffset=int componentType=int!",
    "sparse_values": "bufferView=int! byteOffset=int",
    "animation": "channels=channel*! samplers=animation_sampler*!",
    "channel": "sampler=int! target=channel_target!",
    "channel_target": "node=int path=text!",
    "animation_sampler": "input=int! interpolation=text output=int!",
    "buffer": "byteLength=int! uri=uri",
    "view": "buffer=int! byteLength=int! byteOffset=int byteStride=int target=int",
    "camera": "orthographic=orthographic perspective=perspective type=text!",
    "orthographic": "xmag=number! ymag=number! zfar=number! znear=number!",
    "perspective": "aspectRatio=number yfov=number! zfar=number znear=number!",
    "image": "bufferView=int mimeType=text uri=uri",
    "material": "alphaCutoff=number alphaMode=text doubleSided=bool emissiveFactor=numbers emissiveTexture=reference "
    "normalTexture=reference occlusionTexture=reference pbrMetallicRoughness=metallic_roughness",
    "metallic_roughness": "baseColorFactor=numbers baseColorTexture=reference metallicFactor=number "
    "metallicRoughnessTexture=reference roughnessFactor=number",
    "reference": "index=int! texCoord=int scale=number strength=number",
    "mesh": "primitives=primitive*! weights=numbers",
    "primitive": "attributes=names! indices=int material=int mode=int targets=targets",
    "node": "camera=int children=ints matrix=numbers mesh=int rotation=numbers scale=numbers skin=int "
    "translation=numbers weights=numbers",
    "sampler": "magFilter=int minFilter=int wrapS=int wrapT=int",
    "scene": "nodes=ints",
    "skin": "inverseBindMatrices=int joints=ints! skeleton=int",
    "texture": "sampler=int source=int",
    # Extensions, by their own names.
    "KHR_draco_mesh_compression": "attributes=names! bufferView=int!",
    "EXT_mesh_gpu_instancing": "attributes=names!",
    "EXT_texture_webp": "source=int",
    "KHR_texture_transform": "offset=numbers rotation=number scale=numbers texCoord=int",
    "KHR_materials_pbrSpecularGlossiness": "diffuseFactor=numbers diffuseTexture=reference glossinessFactor=number "
    "specularFactor=numbers specularGlossinessTexture=reference",
    "KHR_materials_emissive_strength": "emissiveStrength=number",
}
"""Fields of each object: `name=kind`, `!` where required, `*` for a list of objects."""

_EVERYWHERE = "name=text extensions=dicts"


def _parsed(fields: str) -> list[tuple[str, str, bool, bool]]:
    result = []
    for field in fields.split():
        name, kind = field.split("=")
        result.append((name, kind.rstrip("!*"), "*" in kind, "!" in kind))
    return result


_FIELDS = {name: _parsed(f"{fields} {_EVERYWHERE}") for name, fields in _SCHEMAS.items()}


def check_schema(header: dict[str, Any]) -> None:
    """Check that the fields of a glTF header are of the kinds that the specification gives them.

    Parameters
    ----------
    header : dict
        A null value stands for an absent field.

    Raises
    ------
    AssetError
        `malformed`, with the name of the field.
    """
    _check(header, "document", "")


def _check(value: Any, schema: str, where: str) -> None:
    if not isinstance(value, dict):
        raise AssetError("malformed", f"its header is broken: {where or 'it'} is not an object")
    prefix = f"{where}." if where else ""
    for name, kind, many, required in _FIELDS[schema]:
        item = value.get(name)
        place = prefix + name
        if item is None:
            if required:
                raise AssetError("malformed", f"its header is broken: {place} is missing")
        elif kind in _KINDS:
            words, fits = _KINDS[kind]
            if not fits(item):
                raise AssetError("malformed", f"its header is broken: {place} is not {words}")
        elif not many:
            _check(item, kind, place)
        elif not isinstance(item, list):
            raise AssetError("malformed", f"its header is broken: {place} is not a list")
        else:
            for number, entry in enumerate(item):
                _check(entry, kind, f"{place}[{number}]")
    for name, extension in (value.get("extensions") or {}).items():
        if name in _FIELDS:
            _check(extension, name, f"{prefix}extensions.{name}")
