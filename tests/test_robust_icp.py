"""Robust ICP: golden alignments, recovery of known motions, its steps, and its defined ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from randscene.train import registration_steps as steps
from randscene.train.correspondences import Correspondences
from randscene.train.robust_icp import RobustIcpParams, robust_icp

GOLDEN = Path(__file__).parent / "data" / "golden"
CASES = json.loads((GOLDEN / "alignment.json").read_text())


def turn(angle: float, axis: tuple = (0, 0, 1)) -> np.ndarray:
    return steps.rotation_from_vector(angle * np.asarray(axis, float))


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between the rotations of two similarity transforms."""
    rotations = [m[:3, :3] / np.cbrt(np.linalg.det(m[:3, :3])) for m in (a, b)]
    return float(np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(rotations[0] - rotations[1]) / np.sqrt(8)))))


def lopsided(seed: int, n: int = 3000) -> np.ndarray:
    """A cloud on the faces of three boxes of different sizes at random places: no symmetry."""
    rng = np.random.default_rng(seed)
    clouds = []
    for centre, half in (((0, 0, 0.1), (0.5, 0.3, 0.1)), ((0.3, 0.12, 0.35), (0.1, 0.15, 0.15))):
        clouds.append(on_box(rng, n // 3, centre, np.array(half) * rng.uniform(0.8, 1.2, 3)))
    clouds.append(on_box(rng, n // 3, (*rng.uniform(-0.7, -0.4, 2), 0.3), rng.uniform(0.05, 0.2, 3)))
    return np.concatenate(clouds)


def on_box(rng: np.random.Generator, n: int, centre: tuple, half: np.ndarray) -> np.ndarray:
    points = rng.uniform(-1, 1, (n, 3))
    face = rng.integers(3, size=n)
    points[np.arange(n), face] = rng.choice([-1.0, 1.0], n)
    return points * half + centre


@pytest.mark.parametrize("case", CASES)
def test_every_golden_alignment_is_solved_within_half_a_degree(case):
    facts = CASES[case]
    with np.load(GOLDEN / "alignment.npz", allow_pickle=False) as arrays:
        source, target, truth = (arrays[f"{case}.{name}"] for name in ("source", "target", "T_gt"))
    found = robust_icp(source, target, RobustIcpParams(estimate_scale=facts["scale"] != 1))
    order = facts["symmetry_order_about_z"]
    middle = np.append(source.mean(axis=0), 1)
    errors = []
    for i in range(order):
        wanted = steps.similarity(1, turn(2 * np.pi * i / order), np.zeros(3)) @ truth
        off = float(np.linalg.norm((wanted - found.transform) @ middle))
        errors.append((angle_between(wanted, found.transform), off))
    degrees, off = min(errors)
    assert degrees < 0.5
    assert off < 0.01
    assert np.cbrt(np.linalg.det(found.transform[:3, :3])) == pytest.approx(facts["scale"], rel=0.01)
    assert not found.fell_back


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(-180, 180),
    st.tuples(*[st.floats(-0.8, 0.8)] * 3),
    st.floats(0.1, 50),
)
def test_a_known_yaw_and_shift_is_recovered_at_any_size(seed, yaw, shift, size):
    target = lopsided(seed)
    motion = steps.similarity(1, turn(np.radians(yaw)), np.array(shift))
    source = steps.apply(np.linalg.inv(motion), target)
    found = robust_icp(size * source, size * target)
    moved = steps.apply(found.transform, size * source)
    assert np.abs(moved - size * target).max() < 1e-3 * size
    assert angle_between(found.transform, motion) < 0.1
    assert found.fitness == 1
    assert not found.fell_back


def test_the_up_axis_can_be_another():
    cloud = lopsided(1)
    to_y_up = turn(-np.pi / 2, (1, 0, 0))
    target = cloud @ to_y_up.T
    motion = turn(2.2, (0, 1, 0))
    found = robust_icp(target @ motion, target, RobustIcpParams(up_axis="y"))
    np.testing.assert_allclose(found.transform[:3, :3], motion, atol=1e-4)


def test_the_same_input_gives_the_same_bits():
    a, b = lopsided(2), lopsided(2) @ turn(1.0).T + 0.01
    one, two = robust_icp(a, b), robust_icp(a.copy(), b.copy())
    assert np.array_equal(one.transform, two.transform)
    assert (one.fitness, one.rmse) == (two.fitness, two.rmse)


def test_rigid_mode_never_scales():
    found = robust_icp(0.8 * lopsided(3), lopsided(3))
    np.testing.assert_allclose(found.transform[:3, :3] @ found.transform[:3, :3].T, np.eye(3), atol=1e-12)


def test_point_to_point_fine_stage_also_recovers_the_motion():
    cloud = lopsided(4)
    found = robust_icp(cloud @ turn(1.9), cloud, RobustIcpParams(fine="point_to_point"))
    np.testing.assert_allclose(found.transform[:3, :3], turn(1.9), atol=1e-4)


def test_a_round_object_is_left_where_it_fits():
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(2, 4000, 3))
    source, target = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    found = robust_icp(source + np.array([0.3, 0, 0]), target)
    assert np.isfinite(found.transform).all()
    np.testing.assert_allclose(found.transform[:3, :3] @ [0.3, 0, 0] + found.transform[:3, 3], 0, atol=0.01)


def test_an_unbelievable_result_falls_back_and_says_so():
    cloud = lopsided(6)
    # Nothing is near enough to the identity for this limit, so that neither stage is believed.
    found = robust_icp(cloud + np.array([0.5, 0, 0]), cloud, RobustIcpParams(largest_translation=1e-9))
    assert found.fell_back
    assert found.stage == "identity"
    np.testing.assert_array_equal(found.transform, np.eye(4))


def test_budgets_are_split_as_published():
    params = RobustIcpParams(iterations=101)
    assert (params.coarse_iterations, params.fine_iterations) == (50, 51)
    assert (RobustIcpParams(iterations=5).coarse_iterations, RobustIcpParams(iterations=5).fine_iterations) == (10, 10)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 3)), "at least three"),
        (np.full((5, 3), np.nan), "NaN"),
        (np.zeros((5, 3)), "coincide"),
        (np.zeros((5, 2)), r"\(n, 3\)"),
    ],
)
def test_what_cannot_be_aligned_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        robust_icp(source, np.zeros((5, 3)))


def test_settings_without_sense_are_refused():
    for wrong in ({"voxel": 0}, {"trim": 1.0}, {"yaws_deg": ()}, {"keep": 0}, {"up_axis": "w"}):
        with pytest.raises(ValueError, match="robust ICP"):
            RobustIcpParams(**wrong)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_umeyama_inverts_an_exact_similarity(seed, with_scale):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(20, 3))
    scale = rng.uniform(0.2, 5) if with_scale else 1.0
    truth = steps.similarity(scale, steps.rotation_from_vector(rng.normal(size=3)), rng.normal(size=3))
    np.testing.assert_allclose(
        steps.umeyama(source, steps.apply(truth, source), with_scale=with_scale), truth, atol=1e-9
    )


def test_umeyama_never_mirrors():
    source = np.random.default_rng(7).normal(size=(50, 3))
    found = steps.umeyama(source, source * [1, 1, -1])
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


def test_point_to_plane_converges_quadratically_to_a_small_motion():
    rng = np.random.default_rng(8)
    target, normals = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    moved = steps.apply(steps.similarity(1, turn(0.02, (0.5, -0.5, 0.7)), np.array([0.01, 0.02, -0.01])), target)
    for _ in range(4):
        moved = steps.apply(steps.tukey_point_to_plane(moved, target, normals, k=1.0), moved)
    np.testing.assert_allclose(moved, target, atol=1e-12)


def test_tukey_ignores_outliers_beyond_its_cut_off():
    rng = np.random.default_rng(9)
    target, normals = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    source = target.copy()
    source[:80] += 0.5 * normals[:80]
    np.testing.assert_allclose(steps.tukey_point_to_plane(source, target, normals, k=0.4), np.eye(4), atol=1e-12)


def test_sliding_along_a_plane_moves_nothing_sideways():
    rng = np.random.default_rng(10)
    plane = np.column_stack([rng.uniform(-1, 1, (300, 2)), np.zeros(300)])
    up = np.tile([0.0, 0, 1], (300, 1))
    step = steps.tukey_point_to_plane(plane + np.array([0, 0, 0.02]), plane, up, k=1.0)
    np.testing.assert_allclose(step[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(step[:3, 3], [0, 0, -0.02], atol=1e-9)


def test_normals_of_a_sphere_point_to_its_centre_and_lonely_points_have_none():
    rng = np.random.default_rng(11)
    sphere = rng.normal(size=(5000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    normals = steps.estimate_normals(cKDTree(np.concatenate([sphere, [[9.0, 9, 9]]])), radius=0.2, neighbours=30)
    assert np.abs(np.einsum("ij,ij->i", normals[:-1], sphere)).min() > 0.98
    np.testing.assert_array_equal(normals[-1], 0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_remembered_correspondences_are_those_of_a_full_search(seed):
    rng = np.random.default_rng(seed)
    tree = cKDTree(rng.uniform(-1, 1, (400, 3)))
    moving = rng.uniform(-1.3, 1.3, (300, 3))
    correspondences = Correspondences(tree, len(moving), 0.15)
    for _ in range(8):
        moving = moving + rng.normal(size=3) * 10 ** rng.uniform(-5, -0.5)
        found = correspondences.match(moving)
        distance, nearest = tree.query(moving, distance_upper_bound=0.15)
        inliers = np.isfinite(distance)
        np.testing.assert_array_equal(found.inliers, inliers)
        np.testing.assert_array_equal(found.nearest, nearest[inliers])
        assert found.fitness == inliers.mean()
        assert found.rmse == pytest.approx(np.sqrt(np.mean(distance[inliers] ** 2)) if inliers.any() else 0)


def test_down_sampling_leaves_one_mean_a_cell():
    points = np.array([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [-0.2, 0.1, 0.1], [5.0, 5, 5]])
    np.testing.assert_allclose(
        steps.voxel_down_sample(points, 1.0), [[-0.2, 0.1, 0.1], [0.2, 0.1, 0.1], [5, 5, 5]], atol=1e-12
    )


def test_trimmed_chamfer_leaves_the_farthest_out():
    a = np.zeros((10, 3))
    a[:, 0] = np.arange(10)
    b = a.copy()
    b[:2, 2] = 100.0
    assert steps.trimmed_chamfer(cKDTree(a), cKDTree(b), np.eye(4), 0.2) == pytest.approx(0)
    assert steps.trimmed_chamfer(cKDTree(a), cKDTree(b), np.eye(4), 0.0) > 10
