"""The triangles of glTF files: primitives, quantised and sparse data, poses and places."""

import copy
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_fixtures import BOX, BOX_FACES, Draft, box_draft, write_glb
from mesh_pack import add_attribute, draco, instanced, morphing, quantised, skinned, sparse, textured

from randscene.errors import AssetError
from randscene.gltf_scene import skinning_matrices
from randscene.manifests import AssetMesh, load_asset_mesh
from randscene.manifests.conversion import is_conversion


def shown(folder: Path, draft: Draft) -> AssetMesh:
    return load_asset_mesh(draft.save(folder / "mesh.glb"))


def corners(mesh: AssetMesh) -> np.ndarray:
    """(F, 3, 3) in the file's axes."""
    x, y, z = np.moveaxis(mesh.vertices[mesh.faces], -1, 0)
    return np.stack((x, z, -y), axis=-1)


def test_a_header_that_is_nested_too_deeply_is_unreadable_and_nobodys_conversion(tmp_path):
    draft = box_draft()
    draft.header["asset"]["extras"] = functools.reduce(lambda inner, _: [inner], range(600), "deep")
    path = draft.save(tmp_path / "mesh.glb")
    with pytest.raises(AssetError, match="its JSON cannot be read") as caught:
        load_asset_mesh(path)
    assert caught.value.reason == "unreadable" and not is_conversion(path)


def test_a_strip_turns_every_other_triangle(tmp_path):
    draft = Draft()
    draft.add_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]], range(5), mode=5)
    mesh = shown(tmp_path, draft.show({"mesh": 0}))
    triangles = corners(mesh)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    assert len(triangles) == 3
    assert (normals[:, 2] > 0).all()


def test_a_fan_shares_its_first_vertex(tmp_path):
    draft = Draft()
    draft.add_mesh([[5, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 3]], range(4), mode=6)
    triangles = corners(shown(tmp_path, draft.show({"mesh": 0})))
    assert triangles[:, 0].tolist() == [[5, 0, 0]] * 2
    assert triangles[1, 1:].tolist() == [[0, 1, 0], [1, 1, 3]]


def test_points_and_lines_beside_triangles_are_left_out(tmp_path):
    draft = box_draft()
    primitives = draft.header["meshes"][0]["primitives"]
    primitives += [primitives[0] | {"mode": 0}, primitives[0] | {"mode": 1}]
    assert len(shown(tmp_path, draft).faces) == 12


@pytest.mark.parametrize(
    ("dtype", "normalized", "unit"),
    [
        (np.uint8, False, 1),
        (np.int16, False, 1),
        (np.int8, True, 127),
        (np.uint16, True, 65535),
        (np.int16, True, 32767),
    ],
)
def test_quantised_positions_are_what_they_stand_for(tmp_path, dtype, normalized, unit):
    mesh = shown(tmp_path, quantised(dtype, normalized=normalized))
    expected = np.round((BOX + 2) * 25) / unit * (0.01, 0.02, 0.01)
    assert np.allclose(corners(mesh), expected[BOX_FACES], rtol=1e-6)


def test_the_lowest_signed_fraction_is_minus_one(tmp_path):
    draft = Draft()
    positions = draft.add([[-128, 0, 0], [127, 0, 0], [0, 127, 0]], "VEC3", dtype=np.int8, normalized=True, padding=1)
    draft.add_mesh(positions, (0, 1, 2))
    assert corners(shown(tmp_path, draft.show({"mesh": 0})))[0, 0].tolist() == [-1, 0, 0]


def test_sparse_values_replace_their_places(tmp_path):
    expected = BOX.copy()
    expected[1], expected[6] = (5, 5, 5), (-4, 0, 0)
    assert np.allclose(corners(shown(tmp_path, sparse())), expected[BOX_FACES])


@pytest.mark.parametrize("order", [True, False])
def test_draco_gives_positions_coordinates_and_colours(tmp_path, order):
    texture = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    mesh = shown(tmp_path, draco(material=texture, preserve_order=order))
    triangles = corners(mesh)
    places = np.abs(triangles[:, :, None] - BOX).sum(axis=-1).argmin(axis=-1)
    assert np.allclose(triangles, BOX[places], atol=1e-5)
    assert sorted(map(sorted, places.tolist())) == sorted(map(sorted, BOX_FACES.tolist()))
    uv = np.linspace(0, 1, 16, dtype=np.float32).reshape(-1, 2)
    colors = (np.arange(32) * 7 % 256).reshape(-1, 4) / 255
    assert np.allclose(mesh.uv, uv[places], atol=1e-6)
    assert np.allclose(mesh.corner_color, colors[places], atol=1e-6)


def test_without_the_draco_library_the_reason_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(AssetError, match="pip install DracoPy") as caught:
        shown(tmp_path, draco())
    assert caught.value.reason == "needs_draco"


def test_a_skin_is_bent_by_its_joints_and_not_moved_by_its_node(tmp_path):
    mesh = shown(tmp_path, skinned())
    turn = np.array([[0.28, 0, 0.96], [0, 1, 0], [-0.96, 0, 0.28]])  # of the quaternion (0, 0.6, 0, 0.8)
    first = turn * (2, 3, 1)
    weight = np.linspace(0, 1, 8)[:, None]
    weight[3] = 1  # no weight at all: the first joint's
    by_first = BOX @ first.T
    by_second = ((BOX * 0.5 + (1, 2, 3)) * 2 + (1, 0, 0)) @ first.T
    expected = weight * by_first + (1 - weight) * by_second
    assert np.allclose(corners(mesh)[:12], expected[BOX_FACES], atol=1e-5)
    assert np.allclose(corners(mesh)[12:], np.add(BOX, (0, 0, 50))[BOX_FACES], atol=1e-5)


@pytest.mark.parametrize("joint", [-1, 2])
def test_a_joint_that_is_not_there_is_refused(joint):
    with pytest.raises(AssetError, match=f"joint {joint} of 2") as caught:
        skinning_matrices(np.array([[0], [joint]]), np.ones((2, 1)), np.stack([np.eye(4)] * 2))
    assert caught.value.reason == "bad_index"
    unused = skinning_matrices(np.array([[0, joint]]), np.array([[1.0, 0.0]]), np.stack([np.eye(4)] * 2))
    assert np.array_equal(unused, np.eye(4)[None, :3])


def test_primitives_without_joints_follow_their_node_even_under_a_skin(tmp_path):
    draft = skinned()
    attributes = draft.header["meshes"][0]["primitives"][0]["attributes"]
    del attributes["JOINTS_0"]
    assert np.allclose(corners(shown(tmp_path, draft))[:12], np.add(BOX, (100, 0, 0))[BOX_FACES], atol=1e-5)


def test_morph_targets_have_the_weights_that_the_file_gives_them(tmp_path):
    triangles = corners(shown(tmp_path, morphing())).reshape(3, 12, 3, 3)
    for part, weight, shift in zip(triangles, (0.5, -1.5, 0), ((0, 0, 0), (9, 0, 0), (0, 9, 0))):
        assert np.allclose(part, (BOX + weight * 0.3 * BOX[::-1] + shift)[BOX_FACES], atol=1e-5)


def test_copies_of_a_node_stand_where_its_instances_are(tmp_path):
    triangles = corners(shown(tmp_path, instanced())).reshape(3, 12, 3, 3)
    quarter = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    half = np.diag([-1, -1, 1])
    for part, turn, shift in zip(triangles, (np.eye(3), quarter, half), ([4, 0, 0], [0, 5, 0], [-3, 0, 2])):
        assert np.allclose(part, (2 * (BOX @ turn.T + shift) + (0, 0, 1))[BOX_FACES], atol=1e-5)


def test_only_the_default_scene_is_shown(tmp_path):
    draft = box_draft({"mesh": 0}, {"mesh": 0, "translation": [9, 0, 0]})
    draft.header["scenes"] = [{"nodes": [0]}, {"nodes": [1]}]
    draft.header["scene"] = 1
    assert corners(shown(tmp_path, draft))[:, :, 0].min() == 8.5
    del draft.header["scene"]
    assert corners(shown(tmp_path, draft))[:, :, 0].max() == 0.5
    del draft.header["scenes"]
    assert len(shown(tmp_path, draft).faces) == 24


def test_a_node_that_a_scene_lists_beside_its_parent_is_shown_once(tmp_path):
    draft = box_draft({"children": [1], "translation": [3, 0, 0]}, {"mesh": 0})
    triangles = corners(shown(tmp_path, draft))
    assert len(triangles) == 12
    assert triangles[:, :, 0].min() == 2.5


def test_a_broken_mesh_that_nothing_shows_does_not_matter(tmp_path):
    draft = box_draft()
    draft.header["meshes"].append({"primitives": [{"attributes": {"POSITION": 99}}]})
    assert len(shown(tmp_path, draft).faces) == 12


@given(stride=st.integers(0, 4), count=st.integers(3, 40), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_strided_and_plain_data_read_alike(tmp_path_factory, stride, count, seed):
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    draft = Draft()
    draft.add_mesh(draft.add(points, "VEC3", padding=4 * stride), range(count - count % 3))
    mesh = shown(tmp_path_factory.mktemp("mesh"), draft.show({"mesh": 0}))
    assert np.array_equal(corners(mesh).reshape(-1, 3), points[: count - count % 3].astype(np.float64))


def test_attributes_that_only_blender_reads_must_fit_too(tmp_path):
    draft = add_attribute(box_draft(), "TEXCOORD_3", np.zeros((2, 2), np.float32), "VEC2")
    with pytest.raises(AssetError, match="2 values for 8 vertices") as caught:
        shown(tmp_path, draft)
    assert caught.value.reason == "malformed"


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Every place in a header, as keys from the top."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


ODD = (None, True, -1, 0, 1, 3, 99, 2**31, 2**40, -0.5, 1e30, "", "x", "VEC2", [], [1, 2], {}, 5122)


@pytest.mark.parametrize("make", [box_draft, draco, instanced, morphing, skinned, sparse, textured])
def test_whatever_stands_in_a_field_the_file_is_read_or_refused_with_a_reason(tmp_path, make):
    draft = make()
    for *path, last in places(draft.header):
        for value in ODD:
            header = copy.deepcopy(draft.header)
            inner = header
            for key in path:
                inner = inner[key]
            inner[last] = value
            try:
                mesh = load_asset_mesh(write_glb(tmp_path / "mesh.glb", header, draft.data))
            except AssetError as error:
                known = error.reason != "unreadable" or path == ["asset"] or last == "asset"
                assert known, f"{[*path, last]} = {value!r}: {error}"
            else:
                assert np.isfinite(mesh.bounds).all(), f"{[*path, last]} = {value!r}"


def test_messages_name_the_broken_field(tmp_path):
    draft = box_draft()
    draft.header["accessors"][1]["count"] = 36.0
    with pytest.raises(AssetError, match=r"accessors\[1\]\.count is not a whole number"):
        shown(tmp_path, draft)
