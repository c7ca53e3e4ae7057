"""PLY files: text and both byte orders, polygons of any size, and no silent loss."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_fixtures import BOX, BOX_FACES
from mesh_pack import PLY_POINTS, ply

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, load_asset_mesh


def load(folder: Path, content: bytes) -> AssetMesh:
    (folder / "mesh.ply").write_bytes(content)
    return load_asset_mesh(folder / "mesh.ply", up_axis="Z")


@pytest.mark.parametrize("order", ["<", ">", ""])
def test_text_and_both_byte_orders_read_alike(tmp_path, order):
    mesh = load(tmp_path, ply(order))
    assert mesh.vertices.tolist() == [list(point) for point in PLY_POINTS]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [4, 7, 8]]
    assert np.allclose(mesh.corner_color[0, 0], [0.002732, 0.124772, 1, 1], atol=1e-5)


@given(cut=st.integers(1, 500), order=st.sampled_from(["<", ">", ""]))
@settings(deadline=None, max_examples=60)
def test_a_truncated_file_is_never_read_as_a_smaller_one(tmp_path_factory, cut, order):
    content = ply(order).rstrip(b"\n")
    with pytest.raises(AssetError) as caught:
        load(tmp_path_factory.mktemp("mesh"), content[: max(len(content) - cut, 0)])
    assert caught.value.reason in ("unreadable", "bad_index")


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_what_another_library_writes_is_read(tmp_path, encoding):
    solid = trimesh.Trimesh(BOX, BOX_FACES, process=False)
    mesh = load(tmp_path, solid.export(file_type="ply", encoding=encoding))
    assert np.allclose(mesh.vertices[mesh.faces], BOX[BOX_FACES])


def test_faces_before_vertices_and_further_elements_are_understood(tmp_path):
    content = (
        "ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int vertex_index\nelement edge 1\n"
        "property int a\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        "3 0 1 2\n7\n0 0 0\n1 0 0\n0 1 0\n"
    )
    assert load(tmp_path, content.encode()).faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"format ascii 1.0", b"format ascii 2.0"), (b"property double x", b"property triple x"), (b"3 0 1 2", b"3 0 1"),
     (b"3 0 1 2", b"3 0 1 1.5"), (b"3 0 1 2", b"3 0 1 2 2"), (b"element face 3", b"element face -3")],
)  # fmt: skip
def test_what_is_no_ply_is_unreadable(tmp_path, old, new):
    with pytest.raises(AssetError) as caught:
        load(tmp_path, ply("").replace(old, new, 1))
    assert caught.value.reason == "unreadable"
