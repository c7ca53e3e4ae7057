"""Reading mesh files: one frame, exact geometry, and a typed reason for everything that cannot be read."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from mesh_fixtures import BOX, BOX_FACES, TRIANGLE, Draft, box_draft, gltf_of, picture, write_glb

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, find_support, load_asset_mesh
from randscene.manifests.geometry_hash import geometry_hash


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


def test_triangles_without_indices_are_read(tmp_path):
    assert load(tmp_path, np.tile(TRIANGLE, (2, 1)), None).faces.shape == (2, 3)


def test_other_formats_follow_the_up_axis_that_is_stated(tmp_path):
    path = tmp_path / "mesh.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 2 3\nf 1 2 3\n")
    assert np.allclose(load_asset_mesh(path, up_axis="Z").bounds[1], [1, 2, 3])
    assert np.allclose(load_asset_mesh(path, up_axis="Y").bounds, [[0, -3, 0], [1, 0, 2]])


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


def written(folder: Path, draft: Draft) -> AssetMesh:
    return load_asset_mesh(draft.save(folder / "mesh.glb"))


def table(scale: float, offset: tuple[float, float, float] = (0, 0, 0)) -> Draft:
    """A plate on a foot, Y up: it can carry things."""
    draft = Draft()
    parts = [(BOX * (1, 0.05, 0.6) + (0, 1, 0)), (BOX * (0.2, 0.5, 0.2) + (0, 0.45, 0))]
    for part in parts:
        draft.add_mesh((scale * part).astype(np.float32) + np.float32(offset), BOX_FACES)
    return draft.show({"mesh": 0}, {"mesh": 1})


@pytest.mark.parametrize("unit", [0.1, 1.0, 7.3, 1000.0])
def test_units_do_not_matter_to_shape_and_support(tmp_path, unit):
    metres, other = written(tmp_path, table(1.0)), written(tmp_path, table(unit))
    assert np.allclose(other.bounds / unit, metres.bounds, rtol=1e-6, atol=1e-6)
    assert geometry_hash(other) == geometry_hash(metres)
    ours, theirs = find_support(other), find_support(metres)
    assert ours is not None and theirs is not None
    assert np.allclose((ours.height / unit, ours.area / unit**2), (theirs.height, theirs.area), rtol=1e-5)


@pytest.mark.parametrize(("sizes", "error"), [(56, 1e-5), (2000, 5e-4)])
def test_a_mesh_far_from_its_origin_keeps_its_shape(tmp_path, sizes, error):
    near, far = written(tmp_path, table(1.0)), written(tmp_path, table(1.0, (1.8 * sizes, -30.0, 11.0)))
    assert np.allclose(np.ptp(far.bounds, axis=0), np.ptp(near.bounds, axis=0), atol=error)
    ours, theirs = find_support(far), find_support(near)
    assert ours is not None and theirs is not None
    assert np.isclose(ours.area, theirs.area, rtol=0.01)
    assert np.isclose(ours.height + 30.0, theirs.height, atol=10 * error)


def test_a_mesh_too_far_for_its_coordinates_is_refused_but_a_far_node_is_not(tmp_path):
    assert reason(table(1.0, (2e6, 0, 0)).save(tmp_path / "far.glb")) == "too_far"
    far = written(tmp_path, box_draft({"mesh": 0, "translation": [2e6, 0, 0]}))
    assert np.allclose(np.ptp(far.bounds, axis=0), (1, 3, 2), rtol=1e-9)


@given(thickness=st.floats(0, 1), side=st.sampled_from([0.01, 1, 300]))
def test_sheets_are_meshes_and_lines_are_not(tmp_path_factory, thickness, side):
    folder = tmp_path_factory.mktemp("mesh")
    corners = np.float32([[0, 0, 0], [side, 0, 0], [side, thickness * side, 0], [0, thickness * side, 0]])
    path = write_glb(folder / "mesh.glb", *gltf_of(corners, (0, 1, 2, 0, 2, 3)))
    if thickness > 2e-6:
        assert np.allclose(np.ptp(load_asset_mesh(path).bounds, axis=0), (side, 0, thickness * side), rtol=1e-6)
    elif thickness < 0.9e-6:
        assert reason(path) == "degenerate"


def test_triangles_that_use_a_vertex_twice_leave_no_trace(tmp_path):
    mesh = load(tmp_path, [*TRIANGLE, [9, 9, 9]], (0, 1, 2, 3, 3, 0, 3, 3, 3))
    assert mesh.faces.shape == (1, 3) and len(mesh.uv) == 1
    assert mesh.vertices.max() == 2


@pytest.mark.parametrize("name", ["mesh.glb", "mesh.obj", "mesh.ply", "mesh.stl"])
def test_more_triangles_than_allowed_are_too_many(tmp_path, name):
    trimesh.Trimesh(BOX, BOX_FACES, process=False).export(tmp_path / name)
    assert len(load_asset_mesh(tmp_path / name, max_faces=12).faces) == 12
    assert reason(tmp_path / name, max_faces=11) == "too_large"


def test_copies_of_a_node_count_as_triangles_before_they_are_made(tmp_path):
    path = box_draft(*[{"mesh": 0}] * 50).save(tmp_path / "mesh.glb")
    assert len(load_asset_mesh(path, max_faces=600).faces) == 600
    assert reason(path, max_faces=599) == "too_large"


def test_large_textures_are_refused_by_their_header(tmp_path):
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    path = write_glb(
        tmp_path / "mesh.glb", *gltf_of(material=material, images=[picture(np.zeros((8, 16, 3), np.uint8))])
    )
    assert load_asset_mesh(path, max_texture_pixels=128).surfaces[0].texture.shape == (8, 16, 4)
    assert reason(path, max_texture_pixels=127) == "too_large"


@pytest.mark.shared
def test_real_files_have_the_extents_that_their_manifest_states():
    pack = Path(__file__).parents[2] / "shared" / "assets" / "dev"
    if not pack.is_dir():
        pytest.skip("the pack of real meshes is not here")
    rows = [json.loads(line) for line in (pack / "manifest.jsonl").read_text().splitlines()][::6]
    read = 0
    for row in rows:
        if row["skins"]:  # the manifest's extents are those of the node, which does not move a skin
            continue
        extents = np.ptp(load_asset_mesh(pack / row["file"]).bounds, axis=0)
        stated = np.array([row["extent_x"], row["extent_z"], row["extent_y"]])
        assert np.allclose(extents, stated, rtol=1e-3, atol=1e-3 * stated.max()), row["file"]
        read += 1
    assert read > 30
