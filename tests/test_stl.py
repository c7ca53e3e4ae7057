"""STL files: text and binary, and no silent loss."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_fixtures import BOX, BOX_FACES
from mesh_pack import SOLID

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, load_asset_mesh


def load(folder: Path, content: bytes) -> AssetMesh:
    (folder / "mesh.stl").write_bytes(content)
    return load_asset_mesh(folder / "mesh.stl", up_axis="Z")


@pytest.mark.parametrize("kind", ["stl", "stl_ascii"])
def test_triangles_are_read_and_corners_shared(tmp_path, kind):
    content = SOLID.export(file_type=kind)
    mesh = load(tmp_path, content.encode() if isinstance(content, str) else content)
    assert np.allclose(mesh.vertices[mesh.faces], BOX[BOX_FACES])
    assert len(mesh.vertices) == 8


def test_several_solids_in_capitals_are_read(tmp_path):
    content = SOLID.export(file_type="stl_ascii").upper()
    assert len(load(tmp_path, (content + "\n" + content).encode()).faces) == 24


def test_a_binary_file_may_begin_like_text(tmp_path):
    content = b"solid" + SOLID.export(file_type="stl")[5:]
    assert len(load(tmp_path, content).faces) == 12


@given(cut=st.integers(1, 600), kind=st.sampled_from(["stl", "stl_ascii"]))
@settings(deadline=None, max_examples=40)
def test_a_truncated_file_is_never_read_as_a_smaller_one(tmp_path_factory, cut, kind):
    content = SOLID.export(file_type=kind)
    content = content.strip().encode() if isinstance(content, str) else content
    with pytest.raises(AssetError) as caught:
        load(tmp_path_factory.mktemp("mesh"), content[:-cut])
    assert caught.value.reason == "unreadable"
