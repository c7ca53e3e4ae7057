"""Materials of glTF files: exact factors, textures in their place, and pictures that Blender reads as well."""

import io
from pathlib import Path

import numpy as np
import pytest
from mesh_fixtures import BOX, Draft, gltf_of, picture, write_glb
from mesh_pack import textured
from PIL import Image

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, load_asset_mesh


def load(tmp_path: Path, *args, **kwargs) -> AssetMesh:
    return load_asset_mesh(write_glb(tmp_path / "mesh.glb", *gltf_of(*args, **kwargs)))


def test_factors_are_exact_and_the_texture_keeps_its_place(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [0, 255, 0, 128]]])
    material = {
        "pbrMetallicRoughness": {
            "baseColorFactor": [0.001, 0.5, 0.25, 0.75],
            "baseColorTexture": {"index": 0},
            "metallicFactor": 0.125,
            "roughnessFactor": 0.3,
        },
        "emissiveFactor": [0, 0.5, 1],
        "alphaMode": "MASK",
        "alphaCutoff": 0.4,
    }
    uv = np.array([[0.1, 0.2], [0.3, 0.9], [1.5, -0.5]], np.float32)
    mesh = load(tmp_path, attributes={"TEXCOORD_0": (uv, "VEC2", False)}, material=material, images=[picture(pixels)])
    (surface,) = mesh.surfaces
    assert np.array_equal(surface.base_color, np.float32([0.001, 0.5, 0.25, 0.75]))
    assert np.array_equal(surface.texture, pixels)
    assert (surface.metallic, surface.roughness) == (0.125, 0.3)
    assert np.allclose(surface.emissive, [0, 0.5, 1])
    assert (surface.alpha_mode, surface.alpha_cutoff) == ("MASK", 0.4)
    assert np.array_equal(mesh.uv[0], uv)
    assert mesh.has_texture


def test_another_set_of_texture_coordinates_and_their_transform_are_followed(tmp_path):
    first, second = np.full((3, 2), 9, np.float32), np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    transform = {"offset": [0.5, 0.25], "scale": [2, 4], "rotation": np.pi / 2}
    texture = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": transform}}
    mesh = load(
        tmp_path,
        attributes={"TEXCOORD_0": (first, "VEC2", False), "TEXCOORD_1": (second, "VEC2", False)},
        material={"pbrMetallicRoughness": {"baseColorTexture": texture}},
        images=[picture(np.zeros((1, 1, 3)))],
    )
    assert np.allclose(mesh.uv[0], [[0.5, 0.25], [0.5, -1.75], [4.5, 0.25]], atol=1e-6)


def test_integer_texture_coordinates_and_colours_stand_for_zero_to_one(tmp_path):
    uv = np.array([[0, 65535], [65535, 0], [32768, 0]], np.uint16)
    color = np.array([[0, 65535, 257, 65535]] * 3, np.uint16)
    mesh = load(
        tmp_path,
        attributes={"TEXCOORD_0": (uv, "VEC2", True), "COLOR_0": (color, "VEC4", True)},
        material={"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}},
        images=[picture(np.zeros((1, 1, 3)))],
    )
    assert np.allclose(mesh.uv[0], uv / 65535)
    assert np.allclose(mesh.corner_color[0], color / 65535)


def test_specular_glossiness_keeps_colour_and_texture(tmp_path):
    glossy = {"diffuseFactor": [0.2, 0.4, 0.6, 1], "diffuseTexture": {"index": 0}, "glossinessFactor": 0.75}
    mesh = load(
        tmp_path,
        attributes={"TEXCOORD_0": (np.zeros((3, 2), np.float32), "VEC2", False)},
        material={"extensions": {"KHR_materials_pbrSpecularGlossiness": glossy}},
        images=[picture([[[10, 20, 30]]])],
    )
    (surface,) = mesh.surfaces
    assert np.allclose(surface.base_color, [0.2, 0.4, 0.6, 1])
    assert surface.texture.tolist() == [[[10, 20, 30, 255]]]
    assert surface.roughness == 0.25


def test_metallic_and_roughness_are_weighed_by_their_texture(tmp_path):
    material = {"pbrMetallicRoughness": {"metallicRoughnessTexture": {"index": 0}, "roughnessFactor": 0.5}}
    mesh = load(tmp_path, material=material, images=[picture([[[0, 51, 255], [0, 51, 0]]])])
    assert mesh.surfaces[0].metallic == pytest.approx(0.5)
    assert mesh.surfaces[0].roughness == pytest.approx(0.1)


def shown(tmp_path: Path, draft: Draft) -> AssetMesh:
    return load_asset_mesh(draft.save(tmp_path / "mesh.glb"))


def reason(tmp_path: Path, draft: Draft) -> str:
    with pytest.raises(AssetError) as caught:
        shown(tmp_path, draft)
    return caught.value.reason


def test_webp_is_read_even_where_it_is_the_only_source(tmp_path):
    content = picture(np.full((2, 2, 3), (10, 200, 90)), "WEBP", lossless=True)
    draft = textured(content, mime="image/webp", extensions={"EXT_texture_webp": {"source": 0}})
    assert shown(tmp_path, draft).surfaces[0].texture[0, 0].tolist() == [10, 200, 90, 255]
    required = textured(content, mime="image/webp", extensions={"EXT_texture_webp": {"source": 0}})
    assert shown(tmp_path, required.require("EXT_texture_webp")).has_texture


def test_of_two_sources_the_plain_one_is_shown_as_in_blender(tmp_path):
    draft = textured(picture([[[1, 2, 3]]]))
    draft.add_image(picture([[[7, 8, 9]]], "WEBP", lossless=True), "image/webp")
    draft.header["textures"] = [{"source": 0, "extensions": {"EXT_texture_webp": {"source": 1}}}]
    assert shown(tmp_path, draft).surfaces[0].texture.tolist() == [[[1, 2, 3, 255]]]


def test_basis_textures_need_a_plain_fallback(tmp_path):
    only = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    assert reason(tmp_path, textured(**only)) == "unsupported_texture"
    assert shown(tmp_path, textured(source=0, **only)).has_texture


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(buffer, "PNG")
    texture = shown(tmp_path, textured(buffer.getvalue())).surfaces[0].texture
    assert texture[0, :, 0].tolist() == [0, 128, 255]


def test_reduced_textures_are_their_mean(tmp_path):
    path = textured(picture([[[0, 10, 20], [100, 30, 20]]])).save(tmp_path / "mesh.glb")
    mesh = load_asset_mesh(path, reduce_textures=True)
    assert mesh.has_texture
    assert mesh.surfaces[0].texture.tolist() == [[[50, 20, 20, 255]]]


def test_a_reduced_texture_must_decode_all_the_same(tmp_path):
    content = picture(np.arange(3072).reshape(32, 32, 3) % 251)
    path = textured(content[:-900]).save(tmp_path / "mesh.glb")
    with pytest.raises(AssetError) as caught:
        load_asset_mesh(path, reduce_textures=True)
    assert caught.value.reason == "bad_texture"


def test_emission_is_weighed_by_its_texture_in_linear_light(tmp_path):
    material = {"emissiveTexture": {"index": 0}, "emissiveFactor": [1, 1, 0.5]}
    mesh = shown(tmp_path, textured(picture([[[0, 255, 188], [0, 0, 188]]]), material=material))
    assert np.allclose(mesh.surfaces[0].emissive, [0, 0.5, 0.5028865 / 2], atol=1e-5)


@pytest.mark.parametrize("field", ["metallicFactor", "roughnessFactor"])
def test_numbers_that_are_too_large_for_one_are_refused(tmp_path, field):
    path = textured(material={"pbrMetallicRoughness": {field: 777.25}}).save(tmp_path / "mesh.glb")
    path.write_bytes(path.read_bytes().replace(b"777.25", b"1e9999"))  # JSON knows no infinity, but such numbers
    with pytest.raises(AssetError, match="not made of finite numbers") as caught:
        load_asset_mesh(path)
    assert caught.value.reason == "malformed"


def test_every_texture_of_a_material_must_be_there(tmp_path):
    draft = textured(material={"normalTexture": {"index": 0}})
    assert not shown(tmp_path, draft).has_texture
    draft.header["images"] = [{"uri": "gone.png"}]
    assert reason(tmp_path, draft) == "missing_file"


def test_materials_that_nothing_shows_do_not_matter(tmp_path):
    draft = textured()
    draft.header["materials"].append({"normalTexture": {"index": 99}})
    assert shown(tmp_path, draft).has_texture


def test_vertex_colours_multiply_materials_and_show_without_one(tmp_path):
    colors = np.linspace(0, 1, 4 * len(BOX), dtype=np.float32).reshape(-1, 4)
    mesh = load(tmp_path, BOX, (0, 1, 2), attributes={"COLOR_0": (colors, "VEC4", False)})
    assert np.allclose(mesh.corner_color[0], colors[:3])
    assert mesh.surfaces[0].base_color.tolist() == [1, 1, 1, 1]
    plain = load(tmp_path)
    assert plain.corner_color is None
    assert np.allclose(plain.surfaces[0].base_color, [0.8, 0.8, 0.8, 1])
