"""The view-centric frame: agreement with the reference, poles, and invariance under turning the world."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import AssetError, RandsceneError
from randscene.generator.cameras import Directions, look_at_matrices
from randscene.generator.view_centric import apply_transform, world_to_view
from randscene.generator.voxelization import SceneVoxelizer

ANGLES = st.floats(-1.0, 1.0)
FRAMES = ("yaw", "full", "canonical")


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "data" / "view_centric.npz", allow_pickle=False) as data:
        return dict(data)


def camera(turns: float, height: float, look_at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    return look_at_matrices(Directions(turns=np.array([turns]), height=np.array([height])), look_at, 3.0)[0]


def turn(turns: float) -> np.ndarray:
    angle = 2 * math.pi * turns
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return matrix


def cloud(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, 3)) * (1.0, 0.5, 0.3) + (0.2, 0.1, 0.4)


@pytest.mark.parametrize("view", range(6))
@pytest.mark.parametrize("frame", ["yaw", "full"])
def test_transforms_equal_the_reference(golden, frame, view):
    transform = world_to_view(golden["c2w"][view], golden["look_at"][view], golden["points"], frame=frame)
    assert transform.dtype == np.float64 and transform.shape == (4, 4)
    np.testing.assert_allclose(transform, golden[f"{frame}.world_to_vc"][view], atol=1e-12)
    moved = apply_transform(transform, golden["points"])
    np.testing.assert_allclose(moved, golden[f"{frame}.points_vc"][view], atol=1e-12)
    position = apply_transform(transform, golden["c2w"][view][None, :3, 3])[0]
    np.testing.assert_allclose(position, golden[f"{frame}.camera_vc"][view], atol=1e-12)


def test_the_canonical_frame_only_scales_and_shifts(golden):
    points = golden["points"]
    transform = world_to_view(golden["c2w"][1], golden["look_at"][1], points, frame="canonical")
    side = np.ptp(points, axis=0).max()
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    np.testing.assert_allclose(apply_transform(transform, points), (points - middle) / side, atol=1e-12)


@given(seed=st.integers(0, 1000), turns=ANGLES, height=st.floats(-1.0, 1.0), frame=st.sampled_from(FRAMES))
@settings(max_examples=100, deadline=None)
def test_the_scene_fills_the_cube_along_its_longest_side(seed, turns, height, frame):
    points = cloud(seed)
    moved = apply_transform(world_to_view(camera(turns, height), (0, 0, 0), points, frame=frame), points)
    assert np.abs(moved).max() == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_allclose(moved.max(axis=0) + moved.min(axis=0), 0, atol=1e-12)


@given(
    seed=st.integers(0, 1000),
    turns=ANGLES,
    height=st.one_of(st.floats(-1.0, 1.0), st.sampled_from([-1.0, 1.0])),
    by=ANGLES,
    frame=st.sampled_from(["yaw", "full"]),
)
@settings(max_examples=200, deadline=None)
def test_turning_scene_and_camera_together_about_z_changes_nothing(seed, turns, height, by, frame):
    points, look_at = cloud(seed), np.array([0.1, -0.3, 0.2])
    matrix, world = camera(turns, height, tuple(look_at)), turn(by)
    still = apply_transform(world_to_view(matrix, look_at, points, frame=frame), points)
    turned_points = apply_transform(world, points)
    turned_look_at = apply_transform(world, look_at[None])[0]
    turned = world_to_view(world @ matrix, turned_look_at, turned_points, frame=frame)
    np.testing.assert_allclose(apply_transform(turned, turned_points), still, atol=1e-9)


@given(
    seed=st.integers(0, 1000),
    turns=ANGLES,
    height=st.floats(-1.0, 1.0),
    by=ANGLES,
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    scale=st.floats(0.1, 10),
    frame=st.sampled_from(["yaw", "full"]),
)
@settings(max_examples=60, deadline=None)
def test_moving_a_scene_and_its_cameras_together_leaves_the_voxels_unchanged(
    seed, turns, height, by, shift, scale, frame
):
    points, look_at = cloud(seed), np.array([0.1, -0.3, 0.2])
    instances = [(points[:30], np.arange(30).reshape(-1, 3)), (points[30:], np.arange(30).reshape(-1, 3))]
    matrix, world = camera(turns, height, tuple(look_at)), turn(by)
    still = SceneVoxelizer(instances).view(world_to_view(matrix, look_at, points, frame=frame))
    world[:3] *= scale  # the scene grows, and so does the camera's distance
    world[:3, 3] = shift
    moved = [(apply_transform(world, vertices), faces) for vertices, faces in instances]
    camera_moved = world @ matrix
    camera_moved[:3, :3] /= scale
    transform = world_to_view(
        camera_moved, apply_transform(world, look_at[None])[0], apply_transform(world, points), frame=frame
    )
    coords, offsets = SceneVoxelizer(moved).view(transform)
    np.testing.assert_array_equal(coords, still[0])
    np.testing.assert_array_equal(offsets, still[1])


@given(turns=ANGLES, height=st.floats(-0.99, 0.99))
@settings(max_examples=100, deadline=None)
def test_the_camera_lands_on_minus_y_with_the_pictures_right_along_x(turns, height):
    points = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    matrix = camera(turns, height)
    transform = world_to_view(matrix, (0, 0, 0), points)
    position = apply_transform(transform, matrix[None, :3, 3])[0]
    assert abs(position[0]) < 1e-12 and position[1] < 0
    right = transform[:3, :3] @ matrix[:3, 0]
    np.testing.assert_allclose(right / np.linalg.norm(right), [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("height", [-1.0, 1.0])
@pytest.mark.parametrize("turns", [0.0, 0.15, 0.6])
@pytest.mark.parametrize("digits", [9, 16])
def test_a_pole_view_takes_the_azimuth_that_it_was_drawn_with(height, turns, digits):
    # Recipes round matrices to nine decimals: the horizontal offset of a pole may be noise.
    at_pole = world_to_view(np.round(camera(turns, height), digits), (0, 0, 0), cloud(1))
    beside = world_to_view(camera(turns, height * (1 - 1e-9)), (0, 0, 0), cloud(1))
    assert np.isfinite(at_pole).all()
    np.testing.assert_allclose(at_pole, beside, atol=1e-7)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_azimuth_offset_turns_the_view_frame_about_its_own_up_axis(frame):
    points, matrix = cloud(2), camera(0.3, 0.4)
    plain = world_to_view(matrix, (0, 0, 0), points, frame=frame)[:3, :3]
    offset = world_to_view(matrix, (0, 0, 0), points, frame=frame, azimuth_offset_deg=90.0)[:3, :3]
    plain, offset = plain / np.cbrt(np.linalg.det(plain)), offset / np.cbrt(np.linalg.det(offset))
    np.testing.assert_allclose(offset, turn(0.25)[:3, :3] @ plain, atol=1e-12)


@pytest.mark.parametrize(
    ("points", "reason"),
    [(np.empty((0, 3)), "empty"), (np.array([[0.0, np.nan, 0.0]]), "non_finite"), (np.ones((4, 3)), "degenerate")],
)
def test_scenes_without_a_frame_are_refused_with_a_reason(points, reason):
    with pytest.raises(AssetError) as caught:
        world_to_view(camera(0.0, 0.0), (0, 0, 0), points)
    assert caught.value.reason == reason


def test_an_unknown_frame_and_a_camera_without_direction_are_refused():
    with pytest.raises(RandsceneError, match="roll"):
        world_to_view(camera(0.0, 0.0), (0, 0, 0), cloud(0), frame="roll")
    with pytest.raises(RandsceneError, match="look-at"):
        world_to_view(np.eye(4), (0, 0, 0), cloud(0))
    with pytest.raises(RandsceneError, match="finite"):
        world_to_view(np.full((4, 4), np.nan), (0, 0, 0), cloud(0))
