"""Reading mesh files: one frame, exact colours, and a typed reason for everything that cannot be read."""

import base64
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, load_asset_mesh

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], dtype=np.float32)


def gltf_of(
    positions=TRIANGLE, indices=(0, 1, 2), *, attributes=None, material=None, nodes=None, images=(), mode=4, **extra
):
    """A glTF header and its binary chunk: one mesh of one primitive."""
    blobs, views, accessors = [], [], []

    def add(array, kind, normalized=False):
        array = np.ascontiguousarray(array)
        component = {"f4": 5126, "u1": 5121, "u2": 5123, "u4": 5125}[array.dtype.str[1:]]
        views.append({"buffer": 0, "byteOffset": sum(map(len, blobs)), "byteLength": array.nbytes})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind}
            | ({"normalized": True} if normalized else {})
        )
        blobs.append(array.tobytes() + b"\0" * (-array.nbytes % 4))
        return len(accessors) - 1

    primitive = {"attributes": {"POSITION": add(np.asarray(positions, np.float32), "VEC3")}, "mode": mode}
    for name, (array, kind, normalized) in (attributes or {}).items():
        primitive["attributes"][name] = add(array, kind, normalized)
    if indices is not None:
        primitive["indices"] = add(np.asarray(indices, np.uint32), "SCALAR")
    header = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "nodes": nodes or [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
    }
    header["scenes"] = [{"nodes": [i for i in range(len(header["nodes"]))]}]
    for image in images:
        views.append({"buffer": 0, "byteOffset": sum(map(len, blobs)), "byteLength": len(image)})
        header.setdefault("images", []).append({"bufferView": len(views) - 1, "mimeType": "image/png"})
        header.setdefault("textures", []).append({"source": len(header["images"]) - 1})
        blobs.append(image + b"\0" * (-len(image) % 4))
    if material is not None:
        primitive["material"] = 0
        header["materials"] = [material]
    header["bufferViews"] = views
    data = b"".join(blobs)
    header["buffers"] = [{"byteLength": len(data)}]
    return header | extra, data


def write_glb(path: Path, header, data) -> Path:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(data), 0x004E4942) + data
    path.write_bytes(struct.pack("<3I", 0x46546C67, 2, 12 + len(body)) + body)
    return path


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def load(tmp_path: Path, *args, **kwargs) -> AssetMesh:
    return load_asset_mesh(write_glb(tmp_path / "mesh.glb", *gltf_of(*args, **kwargs)))


def reason(path: Path, **kwargs) -> str:
    with pytest.raises(AssetError) as caught:
        load_asset_mesh(path, **kwargs)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_y_up_becomes_z_up(tmp_path):
    mesh = load(tmp_path, [[1, 2, 3], [4, 2, 3], [1, 7, 3]])
    assert np.allclose(mesh.vertices[mesh.faces[0]], [[1, -3, 2], [4, -3, 2], [1, -3, 7]])
    assert mesh.vertices.dtype == np.float64
    assert mesh.faces.dtype == np.int32
    assert np.allclose(mesh.bounds, [[1, -3, 2], [4, -3, 7]])


@given(
    shift=st.tuples(*[st.integers(-50, 50)] * 3), turn=st.sampled_from([0, 1, 2, 3]), scale=st.sampled_from([0.25, 2])
)
def test_node_transforms_apply_from_the_root_down(tmp_path_factory, shift, turn, scale):
    half = turn * np.pi / 4
    nodes = [
        {"translation": list(shift), "children": [1]},
        {"rotation": [0, 0, np.sin(half), np.cos(half)], "scale": [scale] * 3, "mesh": 0},
    ]
    header, data = gltf_of(nodes=nodes)
    header["scenes"] = [{"nodes": [0]}]
    mesh = load_asset_mesh(write_glb(tmp_path_factory.mktemp("mesh") / "mesh.glb", header, data))
    cosine, sine = np.cos(2 * half), np.sin(2 * half)
    expected = scale * TRIANGLE @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]).T + shift
    expected = np.stack((expected[:, 0], -expected[:, 2], expected[:, 1]), axis=1)
    assert np.allclose(mesh.vertices[mesh.faces[0]], expected, atol=1e-6)


def test_instanced_nodes_repeat_and_mirrored_ones_stay_right_side_out(tmp_path):
    mesh = load(tmp_path, nodes=[{"mesh": 0}, {"mesh": 0, "scale": [-1, 1, 1]}])
    assert mesh.faces.shape == (2, 3)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.allclose(normals[0], normals[1])
    assert mesh.bounds[0, 0] == -1
    assert mesh.bounds[1, 0] == 1


def test_duplicate_faces_are_kept_and_unused_vertices_dropped(tmp_path):
    mesh = load(tmp_path, [*TRIANGLE, [100, 100, 100]], (0, 1, 2, 0, 1, 2))
    assert mesh.faces.shape == (2, 3)
    assert mesh.vertices.max() == 2


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
    mesh = load(tmp_path, attributes={"TEXCOORD_0": (uv, "VEC2", False)}, material=material, images=[png(pixels)])
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
        images=[png(np.zeros((1, 1, 3)))],
    )
    assert np.allclose(mesh.uv[0], [[0.5, 0.25], [0.5, -1.75], [4.5, 0.25]], atol=1e-6)


def test_integer_texture_coordinates_and_colours_stand_for_zero_to_one(tmp_path):
    uv = np.array([[0, 65535], [65535, 0], [32768, 0]], np.uint16)
    color = np.array([[0, 65535, 257, 65535]] * 3, np.uint16)
    mesh = load(
        tmp_path,
        attributes={"TEXCOORD_0": (uv, "VEC2", True), "COLOR_0": (color, "VEC4", True)},
        material={"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}},
        images=[png(np.zeros((1, 1, 3)))],
    )
    assert np.allclose(mesh.uv[0], uv / 65535)
    assert np.allclose(mesh.corner_color[0], color / 65535)


def test_specular_glossiness_keeps_colour_and_texture(tmp_path):
    glossy = {"diffuseFactor": [0.2, 0.4, 0.6, 1], "diffuseTexture": {"index": 0}, "glossinessFactor": 0.75}
    mesh = load(
        tmp_path,
        attributes={"TEXCOORD_0": (np.zeros((3, 2), np.float32), "VEC2", False)},
        material={"extensions": {"KHR_materials_pbrSpecularGlossiness": glossy}},
        images=[png([[[10, 20, 30]]])],
    )
    (surface,) = mesh.surfaces
    assert np.allclose(surface.base_color, [0.2, 0.4, 0.6, 1])
    assert surface.texture.tolist() == [[[10, 20, 30, 255]]]
    assert surface.roughness == 0.25


def test_metallic_and_roughness_are_weighed_by_their_texture(tmp_path):
    material = {"pbrMetallicRoughness": {"metallicRoughnessTexture": {"index": 0}, "roughnessFactor": 0.5}}
    mesh = load(tmp_path, material=material, images=[png([[[0, 51, 255], [0, 51, 0]]])])
    assert mesh.surfaces[0].metallic == pytest.approx(0.5)
    assert mesh.surfaces[0].roughness == pytest.approx(0.1)


def test_triangles_without_indices_are_read(tmp_path):
    assert load(tmp_path, np.tile(TRIANGLE, (2, 1)), None).faces.shape == (2, 3)


def test_other_formats_follow_the_up_axis_that_is_stated(tmp_path):
    path = tmp_path / "mesh.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 2 3\nf 1 2 3\n")
    assert np.allclose(load_asset_mesh(path, up_axis="Z").bounds[1], [1, 2, 3])
    assert np.allclose(load_asset_mesh(path, up_axis="Y").bounds, [[0, -3, 0], [1, 0, 2]])


def test_screen_colours_of_other_formats_become_linear(tmp_path):
    path = tmp_path / "mesh.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
        "0 0 0 255 0 188\n1 0 0 255 0 188\n0 1 0 255 0 188\n3 0 1 2\n"
    )
    mesh = load_asset_mesh(path, up_axis="Z")
    assert np.allclose(mesh.corner_color[0], [1, 0, 0.5028865, 1], atol=1e-5)


BROKEN = {
    "bad_index": lambda: gltf_of(indices=(0, 1, 3)),
    "non_finite": lambda: gltf_of([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]]),
    "degenerate": lambda: gltf_of([[0, 0, 0], [1, 0, 0], [2, 0, 0]]),
    "empty": lambda: gltf_of(mode=0),
    "needs_meshopt": lambda: gltf_of(extensionsRequired=["EXT_meshopt_compression"]),
    "unsupported_extension": lambda: gltf_of(extensionsRequired=["VENDOR_unheard_of"]),
    "bad_texture": lambda: gltf_of(
        material={"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}, images=[b"no image"]
    ),
    "missing_file": lambda: gltf_of(images=[png([[[0, 0, 0]]])], material={}),
}


@pytest.mark.parametrize("expected", BROKEN)
def test_what_cannot_be_read_has_a_typed_reason(tmp_path, expected):
    header, data = BROKEN[expected]()
    if expected == "missing_file":
        header["images"] = [{"uri": "gone.png"}]
    assert reason(write_glb(tmp_path / "mesh.glb", header, data)) == expected


def test_infinite_transforms_are_not_finite_geometry(tmp_path):
    header, data = gltf_of(nodes=[{"mesh": 0, "scale": [3e38, 3e38, 1]}])
    path = write_glb(tmp_path / "mesh.glb", header, data)
    path.write_bytes(path.read_bytes().replace(b"3e+38", b"9e999"))
    assert reason(path) == "non_finite"


def test_sparse_and_missing_positions_are_refused(tmp_path):
    header, data = gltf_of()
    header["accessors"][0]["sparse"] = {"count": 1}
    assert reason(write_glb(tmp_path / "sparse.glb", header, data)) == "unsupported_accessor"
    header, data = gltf_of()
    header["meshes"][0]["primitives"][0]["attributes"] = {}
    assert reason(write_glb(tmp_path / "none.glb", header, data)) == "no_positions"


@pytest.mark.parametrize("cut", [0, 1, 11, 40, -1])
def test_truncated_files_are_unreadable(tmp_path, cut):
    path = write_glb(tmp_path / "mesh.glb", *gltf_of())
    path.write_bytes(path.read_bytes()[:cut])
    assert reason(path) == "unreadable"


@pytest.mark.parametrize(
    "uri",
    ["../secret.bin", "%2e%2e/secret.bin", "..\\secret.bin", "/etc/hostname", "https://example.org/a.bin", "C:/a"],
)
def test_files_outside_the_folder_are_refused(tmp_path, uri):
    (tmp_path / "inside").mkdir()
    header, data = gltf_of()
    (tmp_path / "secret.bin").write_bytes(data)
    header["buffers"][0]["uri"] = uri
    path = tmp_path / "inside" / "mesh.gltf"
    path.write_text(json.dumps(header))
    assert reason(path) == "unsafe_path"


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    header, data = gltf_of()
    (tmp_path / "secret.bin").write_bytes(data)
    (tmp_path / "inside" / "link.bin").symlink_to(tmp_path / "secret.bin")
    header["buffers"][0]["uri"] = "link.bin"
    path = tmp_path / "inside" / "mesh.gltf"
    path.write_text(json.dumps(header))
    assert reason(path) == "unsafe_path"


def test_materials_of_an_obj_outside_its_folder_are_refused(tmp_path):
    path = tmp_path / "mesh.obj"
    path.write_text("mtllib ../outside.mtl\nv 0 0 0\nv 1 0 0\nv 0 2 3\nf 1 2 3\n")
    assert reason(path) == "unsafe_path"


def test_a_gltf_reads_its_buffers_beside_it_and_inline(tmp_path):
    header, data = gltf_of()
    (tmp_path / "my mesh.bin").write_bytes(data)
    path = tmp_path / "mesh.gltf"
    for uri in ("my%20mesh.bin", "data:application/octet-stream;base64," + base64.b64encode(data).decode()):
        header["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(header))
        assert len(load_asset_mesh(path).faces) == 1


def test_missing_and_foreign_files_are_named(tmp_path):
    assert reason(tmp_path / "gone.glb") == "missing_file"
    (tmp_path / "mesh.blend").write_bytes(b"BLENDER")
    assert reason(tmp_path / "mesh.blend") == "unsupported_format"


@pytest.mark.shared
def test_real_files_have_the_extents_that_their_manifest_states():
    pack = Path(__file__).parents[2] / "shared" / "assets" / "dev"
    if not pack.is_dir():
        pytest.skip("the pack of real meshes is not here")
    rows = [json.loads(line) for line in (pack / "manifest.jsonl").read_text().splitlines()][::6]
    read = 0
    for row in rows:
        try:
            mesh = load_asset_mesh(pack / row["file"])
        except AssetError as error:
            assert error.reason == "needs_draco"
            continue
        extents = np.ptp(mesh.bounds, axis=0)
        stated = np.array([row["extent_x"], row["extent_z"], row["extent_y"]])
        assert np.allclose(extents, stated, rtol=1e-3, atol=1e-3 * stated.max()), row["file"]
        read += 1
    assert read > 30
