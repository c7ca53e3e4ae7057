"""Wavefront files: relative references, polygons of any shape, and materials as Blender understands them."""

from pathlib import Path

import numpy as np
import pytest
from mesh_fixtures import picture

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, load_asset_mesh

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def load(folder: Path, text: str, *, library: str = "") -> AssetMesh:
    (folder / "mesh.mtl").write_text(library)
    (folder / "mesh.obj").write_text(text)
    return load_asset_mesh(folder / "mesh.obj", up_axis="Z")


def area(mesh: AssetMesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_negative_references_count_back_from_where_they_stand(tmp_path):
    mesh = load(tmp_path, SQUARE + "f -4 -3 -2 -1\nv 0 0 5\nv 1 0 5\nv 1 1 5\nf -3 -2 -1\n")
    assert np.allclose(mesh.bounds, [[0, 0, 0], [1, 1, 5]])
    assert area(mesh) == pytest.approx(1.5)


@pytest.mark.parametrize("order", ["1 2 3 4 5 6", "4 5 6 1 2 3", "6 5 4 3 2 1"])
def test_concave_polygons_cover_their_own_area_alone(tmp_path, order):
    mesh = load(tmp_path, f"v 0 0 0\nv 4 0 0\nv 4 1 0\nv 1 1 0\nv 1 4 0\nv 0 4 0\nf {order}\n")
    assert area(mesh) == pytest.approx(7)
    assert len(mesh.faces) == 4
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert len(np.unique(np.sign(np.cross(b - a, c - a)[:, 2]))) == 1


def test_statements_may_be_indented_continued_and_spaced_by_tabs(tmp_path):
    mesh = load(tmp_path, "  v\t0 0 0 \n\tv 1 \\\n 0 0\r\nv 1 1 0 # corner\nf 1// 2// 3//\r\n")
    assert area(mesh) == pytest.approx(0.5)


def test_a_line_that_is_no_statement_is_named(tmp_path):
    with pytest.raises(AssetError, match="line 2") as caught:
        load(tmp_path, SQUARE.replace("v 1 0 0", "v 1 0"))
    assert caught.value.reason == "unreadable"


def test_texture_coordinates_point_down_as_in_gltf(tmp_path):
    (tmp_path / "wood.png").write_bytes(picture([[[9, 9, 9]]]))
    text = "mtllib mesh.mtl\n" + SQUARE + "vt 0 0\nvt 1 0.25\nvt 1 1\nusemtl oak\nf 1/1 2/2 3/3\nf 1/1 3/3 4\n"
    mesh = load(tmp_path, text, library="newmtl oak\nmap_Kd wood.png\n")
    assert np.allclose(mesh.uv[0], [[0, 1], [1, 0.75], [1, 0]])
    assert np.allclose(mesh.uv[1], [[0, 1], [1, 0], [0, 0]])


def test_a_picture_replaces_the_colour_and_its_options_are_passed_over(tmp_path):
    (tmp_path / "old wood.png").write_bytes(picture([[[10, 20, 30]]]))
    library = (
        "newmtl oak\nKd 0 0 0\nmap_Kd -s 2 2 1 -clamp on old wood.png\nnewmtl paint\nKd 0.5 0.25 0.125\nd 0.5\nNs 250\n"
    )
    mesh = load(
        tmp_path, "mtllib mesh.mtl\n" + SQUARE + "usemtl oak\nf 1 2 3\nusemtl paint\nf 1 3 4\n", library=library
    )
    oak, paint = mesh.surfaces
    assert oak.base_color.tolist() == [1, 1, 1, 1]
    assert oak.texture.tolist() == [[[10, 20, 30, 255]]]
    assert paint.base_color.tolist() == [0.5, 0.25, 0.125, 0.5]
    assert (paint.alpha_mode, paint.roughness) == ("BLEND", 0.5)


def test_without_its_library_a_mesh_is_grey(tmp_path):
    mesh = load(tmp_path, "mtllib gone.mtl\n" + SQUARE + "usemtl oak\nf 1 2 3 4\n")
    assert np.allclose(mesh.surfaces[0].base_color, [0.8, 0.8, 0.8, 1])
    assert not mesh.has_texture


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "missing_file"),
        ("../x.png", "unsafe_path"),
        ("C:\\x.png", "unsafe_path"),
        ("mesh.obj", "bad_texture"),
    ],
)
def test_a_colour_picture_must_be_there(tmp_path, name, reason):
    with pytest.raises(AssetError) as caught:
        load(tmp_path, "mtllib mesh.mtl\n" + SQUARE + "usemtl a\nf 1 2 3\n", library=f"newmtl a\nmap_Kd {name}\n")
    assert caught.value.reason == reason


def test_materials_that_no_face_uses_do_not_matter(tmp_path):
    mesh = load(tmp_path, "mtllib mesh.mtl\n" + SQUARE + "f 1 2 3\n", library="newmtl a\nmap_Kd gone.png\n")
    assert len(mesh.faces) == 1


def test_pictures_lie_beside_their_library(tmp_path):
    (tmp_path / "materials").mkdir()
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / "wood.png").write_bytes(picture([[[1, 2, 3]]]))
    (tmp_path / "materials" / "a.mtl").write_text("newmtl a\nmap_Kd ..\\textures\\wood.png\n")
    assert load(tmp_path, "mtllib materials/a.mtl\n" + SQUARE + "usemtl a\nf 1 2 3\n").has_texture


def test_vertex_colours_show_where_no_material_is_asked_for(tmp_path):
    colored = "v 0 0 0 1 0 0.5\nv 1 0 0 1 0 0.5\nv 1 1 0 1 0 0.5\n"
    mesh = load(tmp_path, colored + "f 1 2 3\n")
    assert np.allclose(mesh.corner_color[0], [1, 0, 0.2140411, 1], atol=1e-6)
    assert load(tmp_path, colored + "usemtl a\nf 1 2 3\n").corner_color is None


def test_colours_that_are_no_numbers_are_black(tmp_path):
    mesh = load(tmp_path, "v 0 0 0 nan 0 1\nv 1 0 0 1 inf 1\nv 1 1 0 1 0 -inf\nf 1 2 3\n")
    assert np.array_equal(mesh.corner_color[0], [[0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]])


def test_names_of_materials_end_with_their_line_only(tmp_path):
    library = "newmtl old\u2028oak\nKd 1 0 0\nnewmtl old\nKd 0 1 0\n"
    (surface,) = load(tmp_path, f"mtllib mesh.mtl\n{SQUARE}usemtl old\u2028oak\nf 1 2 3\n", library=library).surfaces
    assert surface.base_color.tolist() == [1, 0, 0, 1]
