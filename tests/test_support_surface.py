"""Support surfaces, found from geometry: which tops can carry, where, and with how much room to the edge."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.manifests import AssetMesh, Support, find_support

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


def tilted(mesh: AssetMesh, slope: float) -> AssetMesh:
    return replace(mesh, vertices=mesh.vertices + [0, 0, slope] * mesh.vertices[:, :1])


def bumpy(mesh: AssetMesh, height: float) -> AssetMesh:
    vertices, faces = mesh.vertices, mesh.faces
    for _ in range(4):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    bumps = height * np.random.default_rng(0).random(len(vertices))
    return mesh_of(trimesh.Trimesh(vertices + np.outer(bumps, [0, 0, 1]), faces, process=False))


def misses(mesh: AssetMesh, support: Support) -> int:
    """How many of the rays down over the circle around the anchor first meet anything but the plane."""
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    unit = float(np.ptp(mesh.bounds, axis=0).max())
    scene = rtcore_scene.EmbreeScene(robust=True)
    corners = ((mesh.vertices - [*support.anchor, support.height]) / unit)[mesh.faces]
    TriangleMesh(scene, corners.astype(np.float32))
    at = np.linspace(-1, 1, 82) * support.clearance / unit
    x, y = (axis.ravel() for axis in np.meshgrid(at, at))
    inside = np.hypot(x, y) < support.clearance / unit
    starts = np.stack((x, y, np.full(len(x), 2.0)), axis=1)[inside].astype(np.float32)
    down = np.tile(np.array([0, 0, -1], np.float32), (len(starts), 1))
    return int((np.abs(scene.run(starts, down, output=1)["tfar"] - 2) > 1.2e-5).sum())


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


def chair(seat: float = 0.45, height: float = 0.9) -> AssetMesh:
    square, back = shapely.box(-0.25, -0.25, 0.25, 0.25), shapely.box(-0.25, 0.2, 0.25, 0.25)
    return mesh_of(slab(square, z=seat), *legs(square, z=seat - 0.02), slab(back, z=height, thickness=height - seat))


NOT_SUPPORTS = {
    "chair on its legs": chair,
    "chair with a low back": lambda: chair(0.45, 0.8),
    "slope": lambda: tilted(table(RECTANGLE), 0.005),
    "jar with a lid": lambda: mesh_of(
        slab(shapely.Point(0, 0).buffer(0.3), z=0.5, thickness=0.5), slab(shapely.Point(0, 0).buffer(0.24), 0.55, 0.05)
    ),
    "shelf under a shelf": lambda: mesh_of(
        slab(RECTANGLE), slab(shapely.box(-0.8, -0.1, 0.8, 0.5), z=0.9), *legs(RECTANGLE)
    ),
    "dented top": lambda: bumpy(table(RECTANGLE), 1e-3),
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


def block(x: float, y: float, size: float = 0.1, z: float = 0.72, height: float = 0.2) -> trimesh.Trimesh:
    box = trimesh.creation.box((size, size, height))
    box.apply_translation((x, y, z + height / 2))
    return box


def carried(support) -> shapely.Polygon:
    return shapely.Polygon(support.polygon, support.holes)


def test_things_on_a_top_are_cut_out_of_its_polygon():
    support = find_support(mesh_of(slab(RECTANGLE), *legs(RECTANGLE), block(0.5, 0.2), block(-0.6, -0.3, size=0.05)))
    assert support.height == pytest.approx(0.72, abs=1e-9)
    region = carried(support)
    assert len(support.holes) == 2
    assert region.distance(shapely.box(0.45, 0.15, 0.55, 0.25)) > 1e-3
    assert shapely.Point(support.anchor).distance(region.boundary) >= support.clearance
    assert shapely.Point(support.anchor).distance(region.boundary) == pytest.approx(support.clearance, abs=1e-6)


def test_an_ornament_in_the_middle_moves_the_anchor():
    plain = find_support(table(RECTANGLE))
    support = find_support(mesh_of(slab(RECTANGLE), *legs(RECTANGLE), block(0, 0, size=0.06, height=0.02)))
    assert np.hypot(*plain.anchor) < 1e-6 and np.hypot(*support.anchor) > 0.2
    assert 0.1 < support.clearance < plain.clearance


def test_a_raised_rim_leaves_the_sunk_top():
    rim = slab(RECTANGLE.difference(RECTANGLE.buffer(-0.03, join_style="mitre")), z=0.74, thickness=0.02)
    support = find_support(mesh_of(slab(RECTANGLE), rim, *legs(RECTANGLE)))
    assert support.height == pytest.approx(0.72, abs=1e-9)
    assert RECTANGLE.buffer(-0.03).contains(carried(support))


def test_a_back_that_takes_little_of_the_top_leaves_the_rest():
    support = find_support(
        mesh_of(slab(RECTANGLE), *legs(RECTANGLE), slab(shapely.box(-0.8, 0.45, 0.8, 0.5), 1.1, 0.38))
    )
    assert support.height == pytest.approx(0.72, abs=1e-9)
    assert max(y for _, y in support.polygon) < 0.45


def test_a_top_of_two_heights_carries_on_one_of_them_only():
    high, low = shapely.box(-0.8, -0.5, 0.5, 0.5), shapely.box(0.5, -0.5, 0.8, 0.5)
    support = find_support(mesh_of(slab(high, z=0.72), slab(low, z=0.715), *legs(RECTANGLE)))
    assert support.height == pytest.approx(0.72, abs=1e-9)
    assert carried(support).difference(high.buffer(2e-3)).area < 1e-9


def test_gaps_as_wide_as_a_foot_part_the_top():
    boards = [shapely.box(x, -0.5, x + 0.39, 0.5) for x in (-0.8, -0.4, 0.0, 0.4)]
    support = find_support(mesh_of(*(slab(board) for board in boards), *legs(RECTANGLE)))
    assert any(board.contains(carried(support)) for board in boards)
    narrow = [shapely.box(x, -0.5, x + 0.19, 0.5) for x in np.arange(8) * 0.2 - 0.8]
    assert find_support(mesh_of(*(slab(board) for board in narrow), *legs(RECTANGLE))) is None


def test_a_seam_is_bridged_only_where_nothing_carries_without():
    halves = [shapely.box(-0.8, -0.5, -0.001, 0.5), shapely.box(0.001, -0.5, 0.8, 0.5)]
    support = find_support(mesh_of(*(slab(half) for half in halves), *legs(RECTANGLE)))
    assert any(half.contains(carried(support)) for half in halves)
    assert misses(mesh_of(*(slab(half) for half in halves)), support) == 0


def test_parts_that_almost_meet_are_one_top():
    halves = [shapely.box(-0.8, -0.5, -1e-5, 0.5), shapely.box(1e-5, -0.5, 0.8, 0.5)]
    support = find_support(mesh_of(*(slab(half) for half in halves), *legs(RECTANGLE)))
    assert support.area == pytest.approx(RECTANGLE.area, rel=1e-3)


def test_of_two_nearly_equal_coincident_tops_the_upper_counts():
    support = find_support(mesh_of(slab(RECTANGLE), slab(RECTANGLE, z=0.72 + 2e-5, thickness=0.01), *legs(RECTANGLE)))
    assert support.height == pytest.approx(0.72 + 2e-5, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    things=st.lists(st.tuples(st.floats(-0.75, 0.75), st.floats(-0.45, 0.45), st.floats(0.02, 0.15)), max_size=6),
    yaw=st.floats(0, 2 * math.pi),
)
def test_the_circle_around_the_anchor_is_level_and_free_above(things, yaw):
    blocks = [block(x, y, size) for x, y, size in things]
    mesh = mesh_of(slab(RECTANGLE), *legs(RECTANGLE), *blocks)
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    mesh = AssetMesh(**{**vars(mesh), "vertices": mesh.vertices @ turn.T})
    support = find_support(mesh)
    if support is None:
        return
    circle = shapely.Point(support.anchor).buffer(support.clearance)
    for x, y, size in things:
        outline = shapely.affinity.rotate(
            shapely.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2), yaw, origin=(0, 0), use_radians=True
        )
        assert circle.distance(outline) > 0
    top = shapely.affinity.rotate(RECTANGLE, yaw, origin=(0, 0), use_radians=True)
    assert top.buffer(1e-9).contains(circle)


def test_a_finely_divided_top_has_the_same_polygon():
    mesh = slab(RECTANGLE)
    vertices, faces = mesh.vertices, mesh.faces
    while len(faces) < 100_000:
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    support = find_support(mesh_of(trimesh.Trimesh(vertices, faces, process=False), *legs(RECTANGLE)))
    assert support.area == pytest.approx(RECTANGLE.area, rel=1e-3)
    assert len(support.polygon) == 4


def test_a_slim_l_carries_though_its_convex_hull_is_mostly_empty():
    slim = shapely.Polygon([(0, 0), (2, 0), (2, 0.5), (0.5, 0.5), (0.5, 2), (0, 2)])
    support = find_support(table(slim))
    assert slim.contains(shapely.Point(support.anchor).buffer(support.clearance))
    assert support.area == pytest.approx(slim.area, rel=1e-3)


def test_a_keyboard_is_cut_out_however_thin():
    flat = slab(shapely.box(-0.2, -0.1, 0.2, 0.1), z=0.7202, thickness=0.0002)
    mesh = mesh_of(slab(RECTANGLE), flat, *legs(RECTANGLE))
    support = find_support(mesh)
    assert support.height == pytest.approx(0.72, abs=1e-9)
    assert carried(support).disjoint(shapely.box(-0.2, -0.1, 0.2, 0.1))
    assert misses(mesh, support) == 0


def test_an_upright_sheet_is_cut_out_though_it_has_no_area_from_above():
    sheet = trimesh.Trimesh(
        [(-0.5, 0.1, 0.72), (0.5, 0.1, 0.72), (0.5, 0.1, 0.9), (-0.5, 0.1, 0.9)], [(0, 1, 2), (0, 2, 3)]
    )
    support = find_support(mesh_of(slab(RECTANGLE), sheet, *legs(RECTANGLE)))
    assert carried(support).distance(shapely.LineString([(-0.5, 0.1), (0.5, 0.1)])) > 1e-3


def test_a_face_missing_in_the_top_is_an_opening():
    mesh = table(RECTANGLE)
    vertices, faces = mesh.vertices, mesh.faces
    for _ in range(3):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    centres = vertices[faces].mean(axis=1)
    gone = (centres[:, 2] > 0.719) & (np.hypot(centres[:, 0] - 0.3, centres[:, 1]) < 0.15)
    broken = mesh_of(trimesh.Trimesh(vertices, faces[~gone], process=False))
    support = find_support(broken)
    assert gone.any() and len(support.holes) > 0
    assert misses(broken, support) == 0


def test_a_dense_plant_on_a_table_is_cut_out_in_reasonable_time():
    rng = np.random.default_rng(1)
    leaves = np.array([0.5, 0.25, 0.85]) + 0.04 * rng.standard_normal((60_000, 1, 3))
    leaves = np.maximum(leaves + 0.01 * rng.standard_normal((60_000, 3, 3)), [-9, -9, 0.72])
    plant = trimesh.Trimesh(leaves.reshape(-1, 3), np.arange(180_000).reshape(-1, 3), process=False)
    mesh = mesh_of(slab(RECTANGLE), *legs(RECTANGLE), plant)
    begun = time.process_time()
    support = find_support(mesh)
    assert time.process_time() - begun < 10
    assert misses(mesh, support) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_last_bits_do_not_reach_the_record(seed):
    rng = np.random.default_rng(seed)
    mesh = mesh_of(slab(L_SHAPE), *legs(L_SHAPE), block(0.3, 0.3, size=0.1))
    noise = 1 + 1e-15 * rng.integers(-2, 3, mesh.vertices.shape)
    assert find_support(replace(mesh, vertices=mesh.vertices * noise)) == find_support(mesh)


@settings(max_examples=25, deadline=None)
@given(
    things=st.lists(st.tuples(st.floats(-0.7, 0.7), st.floats(-0.4, 0.4), st.floats(0.03, 0.2)), max_size=4),
    scale=st.sampled_from([1e-6, 0.01, 1.0, 39.37, 1e6]),
    shift=st.tuples(*[st.floats(-1000, 1000)] * 3),
)
def test_the_record_keeps_its_word_in_any_unit_and_place(things, scale, shift):
    mesh = mesh_of(slab(RECTANGLE), *legs(RECTANGLE), *(block(x, y, size) for x, y, size in things))
    mesh = replace(mesh, vertices=scale * (mesh.vertices + shift))
    support = find_support(mesh)
    if support is None:
        return
    region = carried(support)
    assert region.is_valid and region.exterior.is_ccw
    assert region.area == pytest.approx(support.area, rel=1e-6)
    room = shapely.Point(support.anchor).distance(region.boundary)
    assert region.contains(shapely.Point(support.anchor))
    assert room * (1 - 1e-6) <= support.clearance + 1e-9 * scale and support.clearance <= room * (1 + 1e-12)
    assert misses(mesh, support) == 0
