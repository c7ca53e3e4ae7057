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
from randscene.train.point_tree import PointTree
from randscene.train.robust_icp import RobustIcpParams, robust_icp
from randscene.train.surface_normals import SurfaceNormals

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
    tree = PointTree(np.concatenate([sphere, [[9.0, 9, 9]]]))
    surface = SurfaceNormals(tree, radius=0.2, neighbours=30)
    surface.find(np.arange(len(tree), dtype=np.int32))
    lonely = tree.points[:, 0] == 9
    cosines = np.einsum("ij,ij->i", surface.normals, tree.points)
    assert np.abs(cosines[~lonely]).min() > 0.98
    np.testing.assert_array_equal(surface.normals[lonely], 0)


def test_normals_are_the_directions_of_least_scatter_of_the_nearest_points():
    rng = np.random.default_rng(12)
    cloud = rng.uniform(-1, 1, (800, 3)) * [1, 0.4, 0.1]
    tree = PointTree(cloud)
    surface = SurfaceNormals(tree, radius=0.25, neighbours=12)
    asked = np.array([5, 700, 5, -1, 31], np.int32)
    surface.find(asked)
    assert np.count_nonzero(surface.normals.any(axis=1)) == 3
    surface.find(np.arange(len(tree), dtype=np.int32))
    distance, nearest = cKDTree(tree.points).query(tree.points, k=12, distance_upper_bound=0.25)
    for row in range(len(tree)):
        near = tree.points[nearest[row, np.isfinite(distance[row])]]
        spread, directions = np.linalg.eigh(np.cov(near.T, bias=True))
        assert abs(surface.normals[row] @ directions[:, 0]) > 1 - 1e-9 or spread[1] - spread[0] < 1e-4 * spread[2]


def test_a_flat_patch_along_the_axes_has_its_normal():
    x, y = np.meshgrid(np.arange(5.0), np.arange(5.0))
    surface = SurfaceNormals(PointTree(np.column_stack([x.ravel(), y.ravel(), np.zeros(25)])), 2.0, 9)
    surface.find(np.arange(25, dtype=np.int32))
    np.testing.assert_array_equal(np.abs(surface.normals), np.tile([0.0, 0, 1], (25, 1)))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("reach", [0.2, np.inf])
@given(st.integers(0, 2**32 - 1), st.integers(1, 500))
@settings(max_examples=20, deadline=None)
def test_the_tree_finds_the_nearest_points_whatever_it_is_told_to_begin_with(k, reach, seed, size):
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(size, 3)) * rng.choice([0.0, 0.01, 1.0], (1, 3))
    queries = rng.normal(size=(200, 3))
    tree = PointTree(cloud)
    np.testing.assert_array_equal(tree.points, cloud[tree.order])
    np.testing.assert_array_equal(np.sort(tree.order), np.arange(size))
    nearest = np.array([rng.permutation(np.arange(-k, size))[:k] for _ in range(200)], np.int32).clip(-1)
    squared = np.zeros((200, k))
    rows = np.flatnonzero(rng.random(200) < 0.7)
    untouched = np.setdiff1d(np.arange(200), rows)
    before = nearest.copy()
    tree.search(queries, rows, nearest, squared, reach)
    wanted = cKDTree(cloud).query(queries, k=[*range(1, k + 1)], distance_upper_bound=reach)[0]
    np.testing.assert_allclose(np.sqrt(squared[rows]), wanted[rows], rtol=1e-12)
    np.testing.assert_array_equal(nearest[rows] < 0, np.isinf(wanted[rows]))
    found = nearest[rows]
    gaps = np.linalg.norm(queries[rows][:, None] - tree.points[found], axis=2)
    np.testing.assert_allclose(gaps[found >= 0], wanted[rows][found >= 0], rtol=1e-12)
    assert all(len(set(row[row >= 0])) == np.count_nonzero(row >= 0) for row in found)
    np.testing.assert_array_equal(nearest[untouched], before[untouched])


@pytest.mark.parametrize("threshold", [0.15, np.inf])
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_remembered_correspondences_are_those_of_a_full_search(threshold, seed):
    rng = np.random.default_rng(seed)
    tree = PointTree(rng.uniform(-1, 1, (400, 3)))
    moving = rng.uniform(-1.3, 1.3, (300, 3))
    correspondences = Correspondences(tree, len(moving), threshold)
    for _ in range(8):
        moving = moving + rng.normal(size=3) * 10 ** rng.uniform(-5, -0.5)
        found = correspondences.match(moving)
        distance, nearest = cKDTree(tree.points).query(moving, distance_upper_bound=threshold)
        inliers = np.isfinite(distance)
        np.testing.assert_array_equal(found.nearest, np.where(inliers, nearest, -1))
        assert found.n_inliers == inliers.sum()
        assert found.fitness == inliers.mean()
        assert found.rmse == pytest.approx(np.sqrt(np.mean(distance[inliers] ** 2)) if inliers.any() else 0)


def test_pairs_by_row_numbers_are_those_pairs_and_rows_without_one_take_no_part():
    rng = np.random.default_rng(13)
    source, target, normals = (rng.normal(size=(size, 3)) for size in (60, 90, 90))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    nearest = rng.integers(-20, 90, 60).clip(-1).astype(np.int32)
    paired = nearest >= 0
    assert not paired.all()
    rows = nearest[paired]
    np.testing.assert_allclose(
        steps.umeyama(source, target, nearest, with_scale=True),
        steps.umeyama(source[paired], target[rows], with_scale=True),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        steps.tukey_point_to_plane(source, target, normals, 2.0, nearest),
        steps.tukey_point_to_plane(source[paired], target[rows], normals[rows], 2.0),
        atol=1e-12,
    )


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
    assert steps.trimmed_chamfer(PointTree(a), PointTree(b), np.eye(4), 0.2) == pytest.approx(0)
    assert steps.trimmed_chamfer(PointTree(a), PointTree(b), np.eye(4), 0.0) > 10


def test_every_stage_ends_where_open3d_s_registration_ends():
    open3d = pytest.importorskip("open3d")
    registration = open3d.pipelines.registration
    target = lopsided(14)
    motion = steps.similarity(1, turn(0.06, (0.2, -0.3, 0.9)), np.array([0.01, -0.02, 0.015]))
    source = steps.apply(np.linalg.inv(motion), lopsided(14, 2400)) + 0.004 * np.random.default_rng(14).normal(
        size=(2400, 3)
    )
    clouds = [open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points)) for points in (source, target)]
    clouds[1].estimate_normals(open3d.geometry.KDTreeSearchParamHybrid(radius=0.12, max_nn=30))
    tree = PointTree(target)
    surface = SurfaceNormals(tree, 0.12, 30)
    surface.find(np.arange(len(tree), dtype=np.int32))
    cosines = np.einsum("ij,ij->i", surface.normals, np.asarray(clouds[1].normals)[tree.order])
    # Where neighbours lie along a line, or two are equally far, a normal is a matter of rounding.
    assert np.mean(np.abs(cosines) > 1 - 1e-6) > 0.99

    k = 0.045
    normals = np.asarray(clouds[1].normals)[tree.order]
    cases = {
        "point_to_point": (
            lambda moved, nearest: steps.umeyama(moved, tree.points, nearest),
            registration.TransformationEstimationPointToPoint(False),
        ),
        "with_scale": (
            lambda moved, nearest: steps.umeyama(moved, tree.points, nearest, with_scale=True),
            registration.TransformationEstimationPointToPoint(True),
        ),
        "point_to_plane": (
            lambda moved, nearest: steps.tukey_point_to_plane(moved, tree.points, normals, k, nearest),
            registration.TransformationEstimationPointToPlane(registration.TukeyLoss(k=k)),
        ),
    }
    for name, (step, estimation) in cases.items():
        mine = steps.icp(source, tree, np.eye(4), step, threshold=0.1, iterations=300, tolerance=1e-10)
        theirs = registration.registration_icp(
            *clouds, 0.1, np.eye(4), estimation, registration.ICPConvergenceCriteria(1e-14, 1e-14, 300)
        )
        np.testing.assert_allclose(mine.transform, theirs.transformation, atol=1e-6, err_msg=name)
        assert mine.fitness == pytest.approx(theirs.fitness, abs=1e-9)
        assert mine.rmse == pytest.approx(theirs.inlier_rmse, rel=1e-5)
        assert np.abs(mine.transform - np.eye(4)).max() > 0.01
