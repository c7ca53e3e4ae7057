"""Materials of a glTF file as Surfaces: metallic-roughness, or specular-glossiness reduced to it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.gltf_accessors import GltfData
from randscene.manifests.mesh_part import Surface, linear_from_srgb, plain_surface
from randscene.manifests.texture import TextureRules, channel_means, decoded, open_picture, pixels

if TYPE_CHECKING:
    from PIL.Image import Image

_OTHER_SOURCES = ("KHR_texture_basisu", "EXT_texture_avif", "MSFT_texture_dds")
_LEVELS = np.arange(256) / 255


class GltfMaterials:
    """The materials of one file, read when first asked for.

    Parameters
    ----------
    data : GltfData
    rules : TextureRules
    """

    def __init__(self, data: GltfData, rules: TextureRules) -> None:
        self._data = data
        self._rules = rules
        self._surfaces: dict[tuple[int | None, bool], Surface] = {}

    def surface(self, index: int | None, *, has_color: bool) -> Surface:
        """The surface of a material; None is what a primitive without a material is made of.

        Raises
        ------
        AssetError
            `bad_index`, `bad_texture`, `unsupported_texture`, `missing_file`, `unsafe_path`, `too_large`.
        """
        key = (index, has_color and index is None)
        if key not in self._surfaces:
            if index is None:
                self._surfaces[key] = plain_surface((1, 1, 1, 1)) if has_color else plain_surface()
            else:
                self._surfaces[key] = self._read(self._data.item("materials", index))
        return self._surfaces[key]

    def uv(self, index: int | None, get: Callable[[str], NDArray[Any] | None]) -> NDArray[np.float64] | None:
        """(V, 2) float64: where the base-colour texture is sampled; None if the vertices do not say.

        Parameters
        ----------
        index : int or None
        get : callable
            Attribute name -> (V, components) or None.
        """
        if index is None:
            return None
        texture = _base(self._data.item("materials", index)).get("baseColorTexture", {})
        transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
        stored = get(f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}")
        return None if stored is None else _transformed(stored.astype(np.float64), transform)

    def _read(self, material: dict[str, Any]) -> Surface:
        base = _base(material)
        for texture in _textures(material):
            self._open(texture)
        metallic, roughness = base.get("metallicFactor", 1.0), base.get("roughnessFactor", 1.0)
        if "metallicRoughnessTexture" in base:
            means = channel_means(decoded(*self._open(base["metallicRoughnessTexture"])), _LEVELS)
            metallic, roughness = metallic * means[2], roughness * means[1]
        strength = (
            material.get("extensions", {}).get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
        )
        emissive = np.asarray(material.get("emissiveFactor", (0, 0, 0)), dtype=np.float64) * strength
        if "emissiveTexture" in material:
            levels = linear_from_srgb(_LEVELS.astype(np.float32))
            emissive *= channel_means(decoded(*self._open(material["emissiveTexture"])), levels)[:3]
        picture = self._open(base["baseColorTexture"]) if "baseColorTexture" in base else None
        color = np.asarray(base.get("baseColorFactor", (1, 1, 1, 1)), dtype=np.float32)
        cutoff = material.get("alphaCutoff", 0.5)
        if (
            color.shape != (4,)
            or emissive.shape != (3,)
            or not np.isfinite([*color, *emissive, metallic, roughness, cutoff]).all()
        ):
            raise AssetError("malformed", "a material is not made of finite numbers")
        mode = material.get("alphaMode", "OPAQUE")
        return Surface(
            base_color=color,
            texture=None if picture is None else pixels(*picture, self._rules),
            metallic=float(metallic),
            roughness=float(roughness),
            emissive=emissive.astype(np.float32),
            alpha_mode=mode if mode in ("MASK", "BLEND") else "OPAQUE",
            alpha_cutoff=float(cutoff),
        )

    def _open(self, reference: dict[str, Any]) -> tuple["Image", str]:
        """The picture of a texture reference, header read, and its name."""
        texture = self._data.item("textures", reference["index"])
        if "sampler" in texture:
            self._data.item("samplers", texture["sampler"])
        extensions = texture.get("extensions", {})
        source = texture.get("source", extensions.get("EXT_texture_webp", {}).get("source"))
        if source is None:
            others = [name for name in _OTHER_SOURCES if name in extensions]
            if others:
                raise AssetError("unsupported_texture", f"a texture exists as {others[0]} only, which is not supported")
            raise AssetError("bad_texture", "a texture has no picture")
        image = self._data.item("images", source)
        uri = image.get("uri", "")
        name = f"image {source}" if not uri or uri.startswith("data:") else repr(uri).strip("'")
        if uri:
            content: bytes | memoryview = self._data.bytes_of(uri)
        elif "bufferView" in image:
            content = self._data.view(image["bufferView"])
        else:
            raise AssetError("bad_texture", f"the texture {name} has no data")
        return open_picture(content, name, self._rules), name


def _base(material: dict[str, Any]) -> dict[str, Any]:
    """The metallic-roughness part of a material; of specular-glossiness, colour and texture are kept."""
    glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
    if glossy is None:
        plain: dict[str, Any] = material.get("pbrMetallicRoughness", {})
        return plain
    base = {
        "baseColorFactor": glossy.get("diffuseFactor", [1, 1, 1, 1]),
        "metallicFactor": 0.0,
        "roughnessFactor": 1.0 - glossy.get("glossinessFactor", 1.0),
    }
    return base | ({"baseColorTexture": glossy["diffuseTexture"]} if "diffuseTexture" in glossy else {})


def _textures(value: Any) -> Iterator[dict[str, Any]]:
    """Every texture reference in a material, extensions included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.endswith("Texture") and isinstance(inner, dict) and "index" in inner:
                yield inner
            elif key != "extras":
                yield from _textures(inner)


def _transformed(uv: NDArray[np.float64], transform: dict[str, Any]) -> NDArray[np.float64]:
    """KHR_texture_transform: scale, then rotate, then move."""
    if not transform:
        return uv
    angle = transform.get("rotation", 0.0)
    sine, cosine = np.sin(angle), np.cos(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]]) * transform.get("scale", [1, 1])
    return uv @ matrix.T + transform.get("offset", [0, 0])
