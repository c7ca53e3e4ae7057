"""Placement: centres, yaw up to symmetry, and equal objects that share a place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.train.placement import duplicate_rate, instance_placement


def box(extents, points=20_480, seed=0):
    """Points on the surface of a box, uniform by area."""
    rng = np.random.default_rng(seed)
    a, b, c = extents
    faces = rng.choice(3, points, p=np.array([b * c, a * c, a * b]) / (b * c + a * c + a * b))
    cloud = rng.uniform(-0.5, 0.5, (points, 3))
    cloud[np.arange(points), faces] = np.sign(cloud[np.arange(points), faces]) / 2
    return cloud * extents


def l_shape(seed=0):
    """Two boxes at a right angle: no symmetry about Z."""
    side = box((0.2, 0.6, 0.4), seed=seed + 1) + np.array([0.4, 0.4, 0])
    return np.concatenate([box((1.0, 0.2, 0.4), seed=seed), side])


def drum(seed):
    """The side of a cylinder."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, 20_480)
    return np.stack([np.cos(angle), np.sin(angle), rng.uniform(-1, 1, 20_480)], axis=1)


def turned(points, degrees, shift=(0, 0, 0)):
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return points @ rotation.T + shift


@pytest.mark.parametrize("turn", [0, 15, 45, 90, 135, 180, -60])
def test_the_yaw_error_is_the_turn_whatever_size_and_place(turn):
    placed = instance_placement(1.4 * turned(l_shape(), turn, (0.3, -0.2, 0.1)), l_shape(seed=5))
    assert placed.yaw_error_deg == pytest.approx(abs(turn), abs=1e-9)


def test_symmetric_objects_have_no_yaw_error_beyond_their_symmetry():
    for shape, turn, expected in (
        ((1, 0.3, 0.3), 180, 0),
        ((1, 0.3, 0.3), 90, 90),
        ((0.8, 0.8, 0.2), 90, 0),
        ((0.8, 0.8, 0.2), 45, 45),
    ):
        placed = instance_placement(turned(box(shape, seed=3), turn), box(shape, seed=9))
        assert placed.yaw_error_deg == pytest.approx(expected)
    for seed in range(4):
        assert instance_placement(turned(drum(seed), 37 * seed), drum(seed + 30)).yaw_error_deg == 0


@settings(max_examples=25, deadline=None)
@given(shift=st.tuples(*[st.floats(-1, 1)] * 3))
def test_the_centre_error_is_the_length_of_a_shift(shift):
    cloud = l_shape()
    assert instance_placement(cloud + shift, cloud).centre_error == pytest.approx(np.linalg.norm(shift), abs=1e-9)


def test_two_equal_objects_in_one_place_are_a_duplicate_and_swapped_ones_are_not():
    places = [(-0.5, 0, 0), (0.5, 0, 0), (0, 0.8, 0)]
    true = [box((0.2, 0.2, 0.2)) + place for place in places]
    kinds = ["cube", "cube", "cube"]

    def rate(*where, kinds=kinds, ids=(1, 2, 3)):
        return duplicate_rate({number: box((0.2, 0.2, 0.2)) + at for number, at in zip(ids, where)}, true, kinds)

    assert rate(*places) == 0
    assert rate(places[1], places[0], places[2]) == 0, "a swap leaves no place empty"
    assert rate(places[0], places[0], places[2]) == pytest.approx(1 / 3)
    assert rate(places[0], places[0], places[0]) == 1
    assert rate(places[0], places[0], kinds=["cube", "cube", "ball"], ids=(1, 3)) is None, "no pair of equals is there"
    assert rate(places[0], (0.1, 0.75, 0), kinds=["cube", "ball", "cube"], ids=(1, 3)) == 0
    assert rate(places[0], places[0], places[0], kinds=["a", "b", "c"]) is None
