"""Penetration of meshes: verdicts agree with what is known of boxes and balls, in any unit, and contact is none."""

import itertools

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given
from hypothesis import strategies as st
from layout_fixtures import body, box, merged, moved, place, pose, tray, without

from randscene.generator.collision import SurfacePair, penetration
from randscene.generator.collision_body import CollisionBody, PlacedBody
from randscene.generator.containment import is_inside

TOLERANCE = 1e-3
NOWHERE = np.zeros(3)
BALL = body(trimesh.creation.icosphere(subdivisions=4, radius=1.0))
CUBE = body(box(1, 1, 1))


@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (0, -1, 0)])
def test_boxes_that_overlap_by_twice_the_tolerance_are_flagged_with_their_depth(direction):
    other = place(box(1, 1, 1), *(np.array(direction) * (1 - 2 * TOLERANCE)))
    assert penetration(place(box(1, 1, 1)), other, TOLERANCE) == pytest.approx(2 * TOLERANCE, rel=0.03)


@pytest.mark.parametrize("distance", [1 - 0.5 * TOLERANCE, 1.0, 1 + 1e-12, 1.5])
@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (0, -1, 0)])
def test_boxes_that_touch_or_overlap_by_half_the_tolerance_are_not(distance, direction):
    other = place(box(1, 1, 1), *(np.array(direction) * distance))
    assert penetration(place(box(1, 1, 1)), other, TOLERANCE) is None


def test_what_stands_on_something_is_freed_upwards_even_between_walls():
    side, walls = 0.8 - TOLERANCE, place(tray(1.0, 0.6, 0.1))  # any shift sideways runs into a wall
    assert penetration(place(box(side, side, 0.5), 0, 0, 0.35), walls, TOLERANCE, stands=True) is None
    sunk = penetration(place(box(side, side, 0.5), 0, 0, 0.33), walls, TOLERANCE, stands=True)
    assert sunk == pytest.approx(0.02, rel=0.03)


def test_a_pair_that_crosses_by_a_tenth_of_a_micrometre_meets_and_one_that_far_apart_does_not():
    one = place(box(1, 1, 1))
    for gap, meets in ((1e-7, False), (-1e-7, True)):
        pair = SurfacePair(place(box(1, 1, 1), 0.2, 0.1, 1 + gap), one, 0.1)
        assert pair.meet(NOWHERE) is meets
        assert pair.meet(np.array([0, 0, -2 * gap])) is not meets


def test_the_depth_of_an_edge_in_a_face_is_found_along_the_normal_of_the_face():
    roof = np.array([[0, -1, 0], [0, 1, 0], [1, -1, 1], [1, 1, 1], [-1, -1, 1], [-1, 1, 1]], np.float64)
    wedge = PlacedBody(CollisionBody.of_triangles(roof, np.array([[0, 2, 1], [1, 2, 3], [0, 1, 4], [1, 5, 4]])), pose())
    slope = np.array([1.0, 0, 2.0]) / np.sqrt(5)  # a direction that none of the fixed ones has
    tilted = trimesh.creation.box((8, 8, 1))
    turn = trimesh.geometry.align_vectors([0, 0, 1], slope)
    floor = PlacedBody(body(tilted), turn)
    # The wedge's edge runs across; its lowest point along the slope is the edge's end at the origin.
    for depth in (2e-3, 0.5e-3):
        shifted = PlacedBody(wedge.body, pose(*(slope * (0.5 - depth))))
        found = penetration(shifted, floor, TOLERANCE)
        assert (found is None) if depth < TOLERANCE else found == pytest.approx(depth, rel=0.03)


@given(
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(0.2, 1.0),
    st.floats(-0.15, 0.3),
)
def test_the_verdict_on_two_balls_is_that_of_their_radii(direction, radius, depth):
    away = np.array(direction)
    assume(np.linalg.norm(away) > 0.1)
    away /= np.linalg.norm(away)
    tolerance, facets = 0.08 * radius, 0.005  # the balls are inscribed: facets lie up to this far inside
    assume(abs(depth * radius - tolerance) > 3 * facets)
    centre = away * (1 + radius - depth * radius)
    small = PlacedBody(BALL, pose(*centre, scale=radius))
    found = penetration(small, PlacedBody(BALL, pose()), tolerance)
    if depth * radius < tolerance:
        assert found is None
    else:
        # An upper bound of the depth, and not much more: the line of centres is among the directions.
        assert depth * radius - 2 * facets <= found <= 1.03 * depth * radius


@given(
    st.tuples(*[st.floats(-0.9, 0.9)] * 3), st.floats(0, 6.3), st.floats(0, 6.3), st.tuples(*[st.floats(0.2, 1.2)] * 3)
)
def test_the_verdict_on_two_boxes_is_that_of_their_separating_axes(at, yaw, other_yaw, sides):
    first, second = place(box(*sides), *at, yaw=yaw), place(box(1, 1, 1), yaw=other_yaw)
    axes = [(np.cos(a), np.sin(a), 0) for turn in (yaw, other_yaw) for a in (turn, turn + np.pi / 2)] + [(0, 0, 1)]
    overlaps = []
    for axis in np.array(axes):
        one, two = first.hull @ axis, second.hull @ axis
        overlaps.append(min(one.max() - two.min(), two.max() - one.min()))
    depth, tolerance = min(overlaps), 0.05
    assume(abs(depth) > 1e-9 and abs(depth - tolerance) > 1e-6)
    found = penetration(first, second, tolerance)
    if depth < tolerance:
        assert found is None
    else:
        assert depth - 1e-6 <= found
        surfaces_meet = SurfacePair(first, second, 0.0).meet(NOWHERE)
        if surfaces_meet:  # then the normals of the faces that meet are tried
            assert found <= 2.5 * depth


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("overlap", [2.0, 0.5])
def test_verdicts_do_not_depend_on_the_unit(scale, overlap):
    ball = PlacedBody(BALL, pose(0, 0, scale * (1.5 - overlap * TOLERANCE), scale=scale))
    cube = PlacedBody(CUBE, pose(scale=scale))
    found = penetration(ball, cube, TOLERANCE * scale)
    assert (found is not None) == (overlap > 1)


def test_a_box_inside_a_closed_box_is_flagged_with_the_way_out():
    shell, small = place(box(1, 1, 1)), place(box(0.1, 0.1, 0.1), 0.2, 0, 0)
    assert penetration(small, shell, 1e-4) == pytest.approx(0.35, rel=0.03)
    assert penetration(shell, small, 1e-4) == pytest.approx(0.35, rel=0.03)


def test_one_part_of_an_object_inside_a_part_of_another_is_enough():
    pair = merged(moved(box(0.1, 0.1, 0.1), -2, 0, 0), moved(box(0.1, 0.1, 0.1), 0.1, 0, 0))
    walls = merged(moved(without(box(9, 9, 9), (0, 0, 1)), 0, 0, 0), box(1, 1, 1))
    assert penetration(place(pair), place(walls), 1e-4) is not None
    assert penetration(place(moved(pair, 3, 0, 0)), place(walls), 1e-4) is None


@pytest.mark.parametrize(
    "around",
    [tray(1.0, 0.6, 0.1), without(moved(box(1, 1, 0.6), 0, 0, 0.3), (0, 0, 1)), without(box(1, 1, 2), (0, -1, 0))],
    ids=["a watertight tray", "an open box", "a cupboard"],
)
def test_a_box_that_stands_in_something_open_is_not_inside_it(around):
    inside = place(box(0.2, 0.2, 0.2), 0.1, 0, 0.25)
    assert penetration(inside, place(around), 1e-4) is None
    assert penetration(place(around), inside, 1e-4) is None


def test_a_box_under_a_table_is_not_inside_it():
    legs = [moved(box(0.1, 0.1, 0.7), x, y, 0.35) for x, y in itertools.product((-0.4, 0.4), repeat=2)]
    table = place(merged(moved(box(1, 1, 0.1), 0, 0, 0.75), *legs))
    assert penetration(place(box(0.5, 0.5, 0.5), 0, 0, 0.3), table, 1e-4) is None
    assert penetration(place(box(0.5, 0.5, 0.5), 0.2, 0.2, 0.3), table, 1e-4) is not None


def test_split_vertices_do_not_open_a_shell_and_a_hole_does():
    solid = box(1, 1, 1)
    split = trimesh.Trimesh(solid.vertices[solid.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    assert len(body(split).parts[1]) == 1
    assert not body(without(solid, (1, 0, 0))).parts[1]


@given(st.lists(st.tuples(*[st.floats(-1.5, 1.5)] * 3), min_size=1, max_size=20))
def test_points_are_inside_a_shell_as_its_planes_say(points):
    shell = body(trimesh.creation.icosahedron()).parts[1][0]
    corners = shell.vertices[shell.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals *= np.sign((normals * corners[:, 0]).sum(axis=1))[:, None]
    heights = (np.array(points) @ normals.T - (normals * corners[:, 0]).sum(axis=1)) / np.linalg.norm(normals, axis=1)
    assume(np.abs(heights.max(axis=1)).min() > 1e-9)
    assert (is_inside(shell, np.array(points)) == (heights < 0).all(axis=1)).all()


def test_triangles_without_area_are_no_surface():
    cube = box(1, 1, 1)
    needle = np.array([[0, 0, 0.4], [0, 0, 2.0], [0, 0, 3.0]])
    vertices, faces = np.concatenate((cube.vertices, needle)), np.concatenate((cube.faces, [[8, 9, 10]]))
    spiked = PlacedBody(CollisionBody.of_triangles(vertices, faces), pose())
    assert penetration(place(box(1, 1, 1), 0, 0, 1.0), spiked, 1e-4) is None


def test_the_hull_spans_the_body_in_any_pose():
    knot = body(trimesh.creation.torus(1.0, 0.3))
    assert len(knot.hull) < len(knot.vertices)
    turn = trimesh.transformations.random_rotation_matrix(np.array([0.2, 0.7, 0.4]))
    turn[:3, :3] *= 2.5
    placed = PlacedBody(knot, turn)
    assert np.allclose(placed.bounds, [placed.vertices.min(axis=0), placed.vertices.max(axis=0)], rtol=0, atol=1e-12)
    assert placed.size == pytest.approx(2.5 * 2.6, rel=1e-3)
    flat = CollisionBody.of_triangles(np.array([[0, 0, 0], [1, 0, 0], [0, 1.0, 0]]), np.array([[0, 1, 2]]))
    assert len(flat.hull) == 3


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 1, 2, 1]),
        np.diag([-1.0, 1, 1, 1]),
        np.diag([0.0, 0, 0, 1]),
        np.diag([1.0, 1, np.nan, 1]),
        np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["stretched", "mirrored", "flattened", "not a number", "sheared"],
)
def test_a_pose_that_is_no_rotation_with_a_scale_is_refused(matrix):
    with pytest.raises(ValueError, match="rotation with one positive scale"):
        PlacedBody(CUBE, matrix)
