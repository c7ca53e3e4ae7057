"""Cameras: agreement with the reference sequence and matrices, evenness, and poles without special cases."""

from pathlib import Path

import numpy as np
import pytest

from randscene import seeding
from randscene.errors import SpecError
from randscene.generator.cameras import (
    Directions,
    camera_axes,
    directions,
    intrinsics,
    look_at_matrices,
    trellis_directions,
)
from randscene.generator.trigonometry import cos_sin

KINDS = ("uniform", "trellis", "upper", "random", "front")


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "data" / "cameras.npz", allow_pickle=False) as data:
        return dict(data)


def draw(kind: str, views: int = 150, seed: int = 0) -> Directions:
    return directions(kind, views, seeding.generator(seed, "cameras"))


def vectors(towards: Directions) -> np.ndarray:
    return look_at_matrices(towards, (0.0, 0.0, 0.0), 1.0)[:, :3, 3]


@pytest.mark.parametrize("case", ["0", "1"])
def test_the_trellis_sequence_and_its_matrices_equal_the_reference(golden, case):
    towards = trellis_directions(150, tuple(golden[f"{case}.offset"]))
    matrices = look_at_matrices(towards, (0.0, 0.0, 0.0), 2.0)
    valid = golden[f"{case}.c2w_valid"]
    np.testing.assert_allclose(matrices[:, :3, 3], golden[f"{case}.position"], atol=1e-12)
    np.testing.assert_allclose(matrices[valid], golden[f"{case}.c2w"][valid], atol=1e-12)


def test_the_camera_at_the_south_pole_is_the_one_blender_tracks_to(golden):
    assert not golden["1.c2w_valid"][0]
    matrix = look_at_matrices(trellis_directions(150, tuple(golden["1.offset"])), (0.0, 0.0, 0.0), 2.0)[0]
    np.testing.assert_allclose(matrix[:3, :3], [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-12)


def test_intrinsics_project_points_to_the_reference_pixels(golden):
    matrix = intrinsics(float(np.degrees(golden["fov_rad"])), 512)
    np.testing.assert_allclose(matrix, golden["K_512"], rtol=1e-12)
    for view, expected in zip(golden["project.views"], golden["project.uv_depth"]):
        camera = golden["0.c2w"][view]
        local = (golden["project.points"] - camera[:3, 3]) @ camera[:3, :3]
        seen = local * (1, -1, -1) @ matrix.T
        np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], expected[:, :2], atol=1e-8)
        np.testing.assert_allclose(seen[:, 2], expected[:, 2], atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [1, 2, 150])
def test_matrices_are_rotations_that_look_at_the_point_with_a_horizontal_right(kind, views):
    centre = (0.3, -0.2, 0.5)
    matrices = look_at_matrices(draw(kind, views), centre, 3.0)
    assert matrices.shape == (views, 4, 4)
    rotation = matrices[:, :3, :3]
    np.testing.assert_allclose(rotation.transpose(0, 2, 1) @ rotation, np.tile(np.eye(3), (views, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    np.testing.assert_allclose(matrices[:, :3, 3] - 3.0 * rotation[:, :, 2], np.tile(centre, (views, 1)), atol=1e-12)
    assert np.abs(rotation[:, 2, 0]).max() == 0
    assert rotation[:, 2, 1].min() >= 0


@pytest.mark.parametrize("height", [-1.0, 1.0])
def test_straight_up_and_straight_down_follow_the_azimuth_continuously(height):
    turns = np.array([0.0, 0.2, 0.7])
    at_pole = look_at_matrices(Directions(turns=turns, height=np.full(3, height)), (0.0, 0.0, 0.0), 2.0)
    beside = look_at_matrices(Directions(turns=turns, height=np.full(3, height * (1 - 1e-12))), (0.0, 0.0, 0.0), 2.0)
    assert np.isfinite(at_pole).all()
    np.testing.assert_allclose(at_pole, beside, atol=1e-5)


def test_uniform_directions_are_even_over_the_whole_sphere():
    points = vectors(draw("uniform"))
    nearest = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 1]
    assert nearest.min() > 0.85 * nearest.mean()
    assert np.abs(points.mean(axis=0)).max() < 0.02
    assert (points[:, 2] < 0).mean() == 0.5


def test_upper_directions_lie_above_the_horizon():
    assert vectors(draw("upper"))[:, 2].min() > 0


@pytest.mark.parametrize(("azimuth", "elevation"), [(60.0, (5.0, 45.0)), (0.0, (30.0, 30.0)), (180.0, (-90.0, 90.0))])
def test_front_directions_lie_within_their_azimuth_of_the_minus_y_side_and_their_range_of_elevations(
    azimuth, elevation
):
    rng = seeding.generator(0, "cameras")
    points = vectors(directions("front", 2000, rng, azimuth_deg=azimuth, elevation_deg=elevation))
    sideways = np.degrees(np.arctan2(points[:, 0], -points[:, 1]))
    heights = np.degrees(np.arcsin(points[:, 2]))
    for found, low, high in ((sideways, -azimuth, azimuth), (heights, *elevation)):
        assert low - 1e-5 <= found.min() and found.max() <= high + 1e-5
        # Uniform: each quarter of the range has a quarter of the views.
        if high > low:
            shares = np.histogram(found, np.linspace(low - 1e-5, high + 1e-5, 5))[0] / len(found)
            np.testing.assert_allclose(shares, 0.25, atol=0.04)


def test_one_more_front_view_moves_no_other():
    np.testing.assert_array_equal(vectors(draw("front", 5))[:4], vectors(draw("front", 4)))


def test_a_quarter_of_the_trellis_directions_lies_below_the_horizon():
    assert (vectors(draw("trellis"))[:, 2] < 0).mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_directions(kind):
    assert np.array_equal(vectors(draw(kind)), vectors(draw(kind)))
    assert not np.allclose(vectors(draw(kind)), vectors(draw(kind, seed=1)))


def test_an_unknown_kind_is_refused():
    with pytest.raises(SpecError, match="orbit"):
        draw("orbit")


def test_a_roll_turns_the_camera_counter_clockwise_about_its_own_axis():
    towards = draw("random", 20)
    plain, quarter = camera_axes(towards), camera_axes(towards, np.full(20, 0.25))
    np.testing.assert_array_equal(quarter[:, :, 0], plain[:, :, 1])
    np.testing.assert_array_equal(quarter[:, :, 1], -plain[:, :, 0])
    np.testing.assert_array_equal(quarter[:, :, 2], plain[:, :, 2])
    rolled = camera_axes(towards, np.linspace(-1, 1, 20))
    np.testing.assert_allclose(rolled.transpose(0, 2, 1) @ rolled, np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rolled), 1, atol=1e-12)


def test_sine_and_cosine_are_right_to_the_last_digits_and_exact_at_quarter_turns():
    turns = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 20_000), np.arange(-8, 9) / 8])
    cosine, sine = cos_sin(turns)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * turns), atol=2e-15)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * turns), atol=2e-15)
    assert [cos_sin(quarter / 4) for quarter in range(4)] == [(1, 0), (0, 1), (-1, 0), (0, -1)]
    assert cos_sin(float(turns[0])) == (cosine[0], sine[0])
