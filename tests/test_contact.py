"""Contact: gaps are seen on flat, uneven and slatted tops, and outlines may not leave a polygon or cover its holes."""

import itertools

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from layout_fixtures import body, box, merged, moved, place, pose, square, without

from randscene.generator.collision_body import PlacedBody
from randscene.generator.contact import overhang, rest_gap, support_margin
from randscene.manifests import Support

TOLERANCE = 1e-3
TABLE = moved(box(2, 2, 0.8), 0, 0, 0.4)
RING = moved(trimesh.creation.annulus(0.3, 0.4, 0.2), 0, 0, 0.1)


@pytest.mark.parametrize("gap", [0.0, 2e-3, -2e-3, 0.1])
@pytest.mark.parametrize(
    "thing",
    [moved(box(0.4, 0.4, 0.2), 0, 0, 0.1), moved(trimesh.creation.icosphere(radius=0.2), 0, 0, 0.2), RING],
    ids=["box", "ball", "ring"],
)
def test_the_gap_over_a_flat_top_is_signed(thing, gap):
    found = rest_gap(place(thing, 0.3, 0.1, 0.8 + gap, yaw=0.4), place(TABLE), TOLERANCE)
    assert found == pytest.approx(gap, abs=2e-6)


def test_nothing_below_is_no_support():
    assert rest_gap(place(box(0.4, 0.4, 0.4), 5, 0, 1), place(TABLE), TOLERANCE) == np.inf


def test_a_box_whose_corners_hang_between_slats_does_not_float():
    slats = merged(*(moved(box(0.1, 2, 0.8), x, 0, 0.4) for x in np.arange(-0.9, 1, 0.3)))
    on_slats = place(box(0.4, 0.4, 0.2), 0.0, 0, 0.9 + 0.3e-3)  # its corners are over gaps, its faces over slats
    assert rest_gap(on_slats, place(slats), TOLERANCE) <= TOLERANCE
    assert rest_gap(place(box(0.4, 0.4, 0.2), 0.0, 0, 0.9 + 3e-3), place(slats), TOLERANCE) > TOLERANCE


def test_a_bump_below_the_middle_of_a_flat_bottom_carries_it():
    bumpy = place(merged(TABLE, moved(trimesh.creation.cone(0.05, 0.05), 0, 0, 0.8)))
    for gap in (0.0, 0.6e-3):
        assert rest_gap(place(box(0.6, 0.6, 0.2), 0, 0, 0.95 + gap), bumpy, TOLERANCE) == pytest.approx(gap, abs=2e-6)
    assert rest_gap(place(box(0.6, 0.6, 0.2), 0, 0, 0.95 - 3e-3), bumpy, TOLERANCE) == pytest.approx(-3e-3, abs=2e-6)


def test_two_crossed_edges_that_touch_are_contact():
    roof = trimesh.Trimesh(
        [[-1, 0, 1], [1, 0, 1], [-1, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]],
        [[0, 2, 1], [1, 2, 3], [0, 1, 4], [1, 5, 4], [2, 4, 3], [3, 4, 5], [0, 4, 2], [1, 3, 5]],
        process=False,
    )
    keel = roof.copy()
    keel.apply_transform(trimesh.transformations.rotation_matrix(np.pi, [1, 1, 0]))
    keel.apply_scale(0.5)
    assert keel.bounds[0, 2] == pytest.approx(-0.5)
    for gap, floats in ((0.5e-3, False), (1.2e-3, True)):
        found = rest_gap(place(moved(keel, 0.013, 0.027, 0.5), 0, 0, 1 + gap), place(roof), TOLERANCE)
        assert (found > TOLERANCE) is floats


def test_the_top_counts_and_not_the_floor_below_it():
    shelf = merged(without(TABLE, (0, 0, 1)), moved(box(2, 2, 0.05), 0, 0, 1.2))
    assert rest_gap(place(box(0.4, 0.4, 0.2), 0, 0, 1.2 + 0.025 + 0.1), place(shelf), TOLERANCE) == pytest.approx(
        0, abs=2e-6
    )


@given(st.floats(0, 6.3), st.floats(0.2, 3.0), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_an_outline_inside_the_polygon_has_its_distance_to_the_edge(yaw, scale, x, y):
    table = place(TABLE, 4, -3, 0.5, scale=scale, yaw=yaw)
    at = table.pose @ np.array([x, y, 0.8, 1])
    thing = PlacedBody(body(moved(box(0.4, 0.2, 0.3), 0, 0, 0.15)), pose(*at[:3], scale=scale, yaw=yaw))
    outside, clearance = overhang(thing, table, square(0.9, 0.8))
    assert outside == 0
    assert clearance == pytest.approx(scale * min(0.9 - 0.2 - abs(x), 0.9 - 0.1 - abs(y)), rel=1e-6)


@given(st.floats(0, 6.3), st.floats(0.2, 3.0), st.floats(1e-6, 0.3))
def test_an_outline_that_leaves_the_polygon_is_measured(yaw, scale, beyond):
    table = place(TABLE, 4, -3, 0.5, scale=scale, yaw=yaw)
    at = table.pose @ np.array([0.9 - 0.2 + beyond, 0.1, 0.8, 1])
    thing = PlacedBody(body(moved(box(0.4, 0.2, 0.3), 0, 0, 0.15)), pose(*at[:3], scale=scale, yaw=yaw))
    outside, clearance = overhang(thing, table, square(0.9, 0.8))
    assert outside == pytest.approx(scale * beyond, rel=1e-4, abs=1e-9 * scale)
    assert clearance == 0


def ring(half: float) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in ((-half, -half), (half, -half), (half, half), (-half, half)))


def test_a_hole_of_the_polygon_does_not_carry():
    table, support = place(TABLE), square(0.9, 0.8, holes=(ring(0.05),))
    over = overhang(place(box(0.4, 0.4, 0.2), 0, 0, 0.9), table, support)  # covers the hole from edge to edge
    assert over == (pytest.approx(0.05, rel=0.05), 0)
    half_over = overhang(place(box(0.4, 0.4, 0.2), 0.22, 0, 0.9), table, support)  # up to x = 0.02
    assert half_over == (pytest.approx(0.03, rel=0.05), 0)
    beside = overhang(place(box(0.4, 0.4, 0.2), 0.3, 0, 0.9), table, support)
    assert beside == (0, pytest.approx(0.05))


def test_an_arm_of_an_l_does_not_carry_its_notch():
    shape = ((0.0, 0.0), (8.0, 0.0), (8.0, 3.0), (3.0, 3.0), (3.0, 6.0), (0.0, 6.0))
    support = Support(height=1.0, area=33.0, clearance=1.5, anchor=(1.5, 4.5), polygon=shape, holes=())
    parent = place(moved(box(8, 6, 1), 4, 3, 0.5))
    assert overhang(place(box(2, 2, 1), 1.5, 4.5, 1.5), parent, support) == (0, pytest.approx(0.5))
    assert overhang(place(box(4, 4, 1), 3, 3, 1.5), parent, support)[0] == pytest.approx(2, rel=0.3)


def test_the_margin_tells_a_box_that_stands_from_one_that_would_topple():
    assert support_margin(place(box(0.4, 0.2, 1)), TOLERANCE) == pytest.approx(0.1)
    feet = [moved(box(0.1, 0.1, 0.3), x, y, 0.15) for x, y in itertools.product((0.3, 0.5), (-0.3, 0.3))]
    lopsided = merged(moved(box(2, 1, 0.2), 0, 0, 0.4), *feet)
    assert -0.25 < support_margin(place(lopsided), TOLERANCE) < -0.1
    assert support_margin(place(trimesh.creation.cone(0.2, -0.5)), TOLERANCE) == pytest.approx(0, abs=1e-6)
