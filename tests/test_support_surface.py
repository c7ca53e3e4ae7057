"""Support surfaces, found from geometry: which tops can carry, where, and with how much room to the edge."""

import math

import numpy as np
import pytest
import shapely
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.manifests import AssetMesh, find_support

RECTANGLE = shapely.box(-0.8, -0.5, 0.8, 0.5)
ROUND = shapely.Point(0, 0).buffer(0.6, quad_segs=16)
L_SHAPE = shapely.Polygon([(0, 0), (1.6, 0), (1.6, 0.6), (0.6, 0.6), (0.6, 1.4), (0, 1.4)])


def mesh_of(*parts: trimesh.Trimesh) -> AssetMesh:
    joined = trimesh.util.concatenate(list(parts))
    faces = np.asarray(joined.faces, np.int32)
    return AssetMesh(
        vertices=np.asarray(joined.vertices, np.float64),
        faces=faces,
        surface_of_face=np.zeros(len(faces), np.int32),
        surfaces=(),
        uv=np.zeros((len(faces), 3, 2), np.float32),
        corner_color=None,
    )


def slab(outline: shapely.Polygon, z: float = 0.72, thickness: float = 0.03) -> trimesh.Trimesh:
    plate = trimesh.creation.extrude_polygon(outline, thickness)
    plate.apply_translation((0, 0, z - thickness))
    return plate


def legs(outline: shapely.Polygon, z: float = 0.7) -> list[trimesh.Trimesh]:
    ring = outline.buffer(-0.08).exterior
    spots = [ring.interpolate(t, normalized=True) for t in (0.1, 0.35, 0.6, 0.85)]
    posts = [trimesh.creation.box((0.05, 0.05, z)) for _ in spots]
    for post, spot in zip(posts, spots):
        post.apply_translation((spot.x, spot.y, z / 2))
    return posts


def table(outline: shapely.Polygon) -> AssetMesh:
    return mesh_of(slab(outline), *legs(outline))


@pytest.mark.parametrize("outline", [RECTANGLE, ROUND, L_SHAPE], ids=["rectangle", "round", "l_shape"])
def test_a_table_has_the_polygon_of_its_top(outline):
    support = find_support(table(outline))
    assert support is not None
    assert support.height == pytest.approx(0.72)
    assert support.area == pytest.approx(outline.area, rel=0.01)
    polygon = shapely.Polygon(support.polygon)
    assert polygon.exterior.is_ccw
    assert polygon.symmetric_difference(outline).area < 0.01 * outline.area
    anchor = shapely.Point(support.anchor)
    assert support.clearance == pytest.approx(anchor.distance(outline.exterior), abs=0.01)


def test_the_anchor_is_the_centroid_where_that_has_room():
    support = find_support(table(RECTANGLE))
    assert support.anchor == pytest.approx((0, 0), abs=1e-6)
    assert support.clearance == pytest.approx(0.5, rel=1e-3)


def test_the_anchor_of_an_l_lies_inside_with_room_around_it():
    support = find_support(table(L_SHAPE))
    best = shapely.maximum_inscribed_circle(L_SHAPE).length
    assert L_SHAPE.contains(shapely.Point(support.anchor))
    assert support.clearance >= 0.69 * best


def test_a_top_in_two_parts_has_the_larger_one():
    left, right = shapely.box(-0.8, -0.5, 0.3, 0.5), shapely.box(0.36, -0.5, 0.8, 0.5)
    support = find_support(mesh_of(slab(left), slab(right), *legs(RECTANGLE)))
    assert support.area == pytest.approx(left.area, rel=0.01)
    assert left.contains(shapely.Point(support.anchor))


def test_planks_with_narrow_seams_are_one_top():
    planks = [slab(shapely.box(-0.8, y, 0.8, y + 0.199)) for y in (-0.5, -0.3, -0.1, 0.1, 0.3)]
    support = find_support(mesh_of(*planks, *legs(RECTANGLE)))
    assert support.area == pytest.approx(1.6, rel=0.01)
    assert support.clearance == pytest.approx(0.5, rel=0.02)


def test_a_bare_sheet_on_legs_carries():
    sheet = slab(RECTANGLE)
    sheet.update_faces(sheet.triangles_center[:, 2] > 0.7199)
    support = find_support(mesh_of(sheet, *legs(RECTANGLE)))
    assert support.area == pytest.approx(1.6, rel=0.01)


def test_an_inside_out_top_and_doubled_faces_carry_the_same():
    inverted = slab(RECTANGLE)
    inverted.invert()
    plain = find_support(table(RECTANGLE))
    doubled = find_support(mesh_of(inverted, slab(RECTANGLE), *legs(RECTANGLE)))
    assert doubled.area == pytest.approx(plain.area)
    assert find_support(mesh_of(inverted, *legs(RECTANGLE))).area == pytest.approx(plain.area)


def test_a_bevelled_top_carries_on_its_level_part():
    lower, upper = slab(RECTANGLE, thickness=0.03), RECTANGLE.buffer(-0.01, join_style="mitre")
    top = np.abs(lower.vertices[:, 2] - 0.72) < 1e-9
    lower.vertices[top, :2] *= (0.79 / 0.8, 0.49 / 0.5)
    support = find_support(mesh_of(lower, *legs(RECTANGLE)))
    assert support.area == pytest.approx(upper.area, rel=0.01)
    assert support.clearance == pytest.approx(0.49, rel=0.01)


def test_a_hole_in_the_top_counts_for_the_clearance():
    ring = RECTANGLE.difference(shapely.box(-0.1, -0.1, 0.1, 0.1))
    support = find_support(table(ring))
    assert support.area == pytest.approx(ring.area, rel=0.01)
    assert ring.contains(shapely.Point(support.anchor))
    assert support.clearance < 0.41


NOT_SUPPORTS = {
    "ball": lambda: mesh_of(trimesh.creation.icosphere(radius=0.5)),
    "open box": lambda: mesh_of(
        slab(RECTANGLE.difference(RECTANGLE.buffer(-0.02)), z=0.7, thickness=0.69), slab(RECTANGLE, z=0.02)
    ),
    "rug": lambda: mesh_of(slab(RECTANGLE, z=0.03)),
    "tower": lambda: mesh_of(trimesh.creation.box((0.5, 0.5, 2.0))),
    "wall": lambda: mesh_of(trimesh.creation.box((2.0, 0.1, 1.5))),
    "chair": lambda: mesh_of(
        slab(shapely.box(-0.25, -0.25, 0.25, 0.25), z=0.45),
        slab(shapely.box(-0.25, 0.2, 0.25, 0.25), z=0.9, thickness=0.45),
    ),
    "roof": lambda: mesh_of(trimesh.creation.cone(radius=0.6, height=0.7, sections=32)),
    "post on a plate": lambda: mesh_of(slab(RECTANGLE, z=0.3), slab(shapely.box(-0.2, -0.2, 0.2, 0.2), 0.7, 0.4)),
}


@pytest.mark.parametrize("name", NOT_SUPPORTS)
def test_what_is_no_table_carries_nothing(name):
    assert find_support(NOT_SUPPORTS[name]()) is None


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(0, 2 * math.pi),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 40.0, 1e3]),
    shift=st.tuples(*[st.floats(-100, 100)] * 3),
)
def test_support_moves_with_the_mesh(yaw, scale, shift):
    still, moved = table(L_SHAPE), table(L_SHAPE)
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    vertices = moved.vertices.copy()
    vertices[:, :2] = vertices[:, :2] @ turn.T
    moved = AssetMesh(**{**vars(moved), "vertices": scale * (vertices + shift)})
    before, after = find_support(still), find_support(moved)
    assert after.height == pytest.approx(scale * (before.height + shift[2]), rel=1e-6, abs=1e-6 * scale)
    assert after.area == pytest.approx(scale**2 * before.area, rel=5e-3)
    assert after.clearance == pytest.approx(scale * before.clearance, rel=2e-2)
    expected = scale * (turn @ before.anchor + np.array(shift[:2]))
    assert np.allclose(after.anchor, expected, atol=0.02 * scale)


def test_every_family_of_flat_topped_tables_carries():
    from randscene import seeding
    from randscene.manifests.procedural import FAMILIES, build_model

    tables = [name for name in FAMILIES if name.startswith("table_") or name == "desk"]
    assert len(tables) >= 3
    for family in tables:
        model = build_model(family, seeding.integer("support test", family))
        parts = [trimesh.Trimesh(part.surface.vertices, part.surface.faces, process=False) for part in model.parts]
        assert find_support(mesh_of(*parts)) is not None, family
