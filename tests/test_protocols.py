"""Named protocols: values that can be worked out by hand, what a perfect, moved or missing object scores under each."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from randscene.train import registration_steps as steps
from randscene.train.filter_registration import (
    FilterRegistrationParams,
    filter_registration,
    kernel_variance,
)
from randscene.train.legacy_icp import LegacyIcpParams, legacy_icp
from randscene.train.protocols import PROTOCOLS, load_protocol
from randscene.train.robust_icp import RobustIcpParams
from randscene.train.scene_scores import penalty, score_clouds

GOLDEN = Path(__file__).parent / "data" / "golden"
CASES = sorted(json.loads((GOLDEN / "alignment.json").read_text()))
LEGACY, FIXED = (LegacyIcpParams(wrong_transpose=wrong) for wrong in (True, False))
EXACT = sorted(set(PROTOCOLS) - {"midi-legacy", "scenegen"})
"""Those whose alignment leaves a perfect fit alone."""
BOXES = (
    ((0.0, 0.0, -0.2), (0.5, 0.3, 0.05)),
    ((0.2, 0.1, 0.0), (0.1, 0.15, 0.15)),
    ((-0.3, 0.15, 0.05), (0.15, 0.1, 0.2)),
)
"""Centre and half sides in the view-centric cube; the first is as wide as the scene, which is 1 long."""


def surface(seed: int, centre, half, n: int = 1500) -> np.ndarray:
    """Points on a box, a face by its area."""
    rng = np.random.default_rng(seed)
    half = np.array(half)
    points = rng.uniform(-1, 1, (n, 3))
    areas = half.prod() / half
    face = rng.choice(3, n, p=areas / areas.sum())
    points[np.arange(n), face] = rng.choice([-1.0, 1.0], n)
    return points * half + centre


def scene(seed: int, n: int = 1500) -> list[np.ndarray]:
    return [surface(10 * seed + i, *box, n=n) for i, box in enumerate(BOXES)]


def corners(centre, half) -> np.ndarray:
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return signs * np.array(half) + centre


def by_id(clouds) -> dict[int, np.ndarray]:
    return dict(enumerate(clouds, start=1))


def turn(degrees: float, axis=(0, 0, 1)) -> np.ndarray:
    return steps.rotation_from_vector(np.radians(degrees) * np.asarray(axis, float))


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations."""
    return float(np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(a - b) / np.sqrt(8)))))


def golden(case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(GOLDEN / "alignment.npz", allow_pickle=False) as arrays:
        source, target, truth = (arrays[f"{case}.{name}"].astype(float) for name in ("source", "target", "T_gt"))
    return source, target, truth


def literal_icp(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The published loop as described, with the library call whose answer it misreads; a full search each time."""
    import torch

    tree = cKDTree(target)
    moved, whole, previous = source, np.eye(4), float("inf")
    for _ in range(50):
        matched = target[tree.query(moved)[1]]
        mean_a, mean_b = moved.mean(axis=0), matched.mean(axis=0)
        u, _, called_vt = torch.svd(torch.from_numpy((moved - mean_a).T @ (matched - mean_b)))
        v = called_vt.T  # the library has already returned V
        flip = torch.diag(torch.stack([torch.tensor(1.0).double(), torch.tensor(1.0).double(), torch.det(v @ u.T)]))
        step = np.eye(4)
        step[:3, :3] = (v @ flip @ u.T).numpy()
        step[:3, 3] = mean_b - step[:3, :3] @ mean_a
        moved = moved @ step[:3, :3].T + step[:3, 3]
        whole = step @ whole
        error = np.linalg.norm(moved - matched, axis=1).mean()
        if abs(previous - error) < 1e-5:
            break
        previous = error
    return whole


def noise_floor(half, n: int = 1500) -> float:
    """Squared Chamfer sum of two draws of n points on a box: 1 / (pi density) either way."""
    half = np.array(half)
    return 2 * 8 * float((half.prod() / half).sum()) / (np.pi * n)


@pytest.mark.parametrize("name", EXACT)
def test_a_perfect_prediction_scores_the_sampling_noise(name):
    protocol = load_protocol(name)
    aligned, in_scene, realigned = score_clouds(by_id(scene(1)), scene(2), protocol)
    floors = [noise_floor(2 * np.array(half)) for _, half in BOXES]
    assert [one.cd_squared for one in in_scene] == pytest.approx(floors, rel=0.25)
    assert aligned.scores.cd_squared == pytest.approx(np.mean(floors), rel=0.25)
    assert aligned.scores.f_score > 0.999
    assert aligned.scores.aabb_iou > 0.97
    if not protocol.realigned_objects:
        assert realigned == [None] * 3
        return
    own = [
        [0.95] * 3 if protocol.object_normalisation == "per_axis" else np.array(half) / max(half) for _, half in BOXES
    ]
    assert [one.cd_squared for one in realigned] == pytest.approx([noise_floor(half) for half in own], rel=0.3)


def test_scenegen_leaves_a_perfect_prediction_near_its_place():
    # Its wide Gaussian does not leave even a perfect fit quite where it is: the floor lies above the sampling noise.
    aligned, in_scene, _ = score_clouds(by_id(scene(1)), scene(2), load_protocol("scenegen"))
    floors = [noise_floor(2 * np.array(half)) for _, half in BOXES]
    assert all(floor < one.cd_squared < 2 * floor for one, floor in zip(in_scene, floors, strict=True))
    assert aligned.scores.f_score > 0.99
    assert 0.7 < aligned.scores.aabb_iou < 0.95


def test_midi_legacy_turns_even_a_perfect_prediction_away():
    protocol = load_protocol("midi-legacy")
    yawed = [cloud @ turn(30).T for cloud in scene(1)]
    same, _, _ = score_clouds(by_id(yawed), yawed, protocol)
    right, _, _ = score_clouds(by_id(yawed), yawed, load_protocol("midi-fixed"))
    assert right.scores.cd_squared < 1e-20
    assert same.scores.cd_squared > 0.02
    assert same.scores.f_score < 0.8
    # Nothing turns where the principal axes are the coordinate axes in order of size: all factors are the identity.
    box = corners((0, 0, 0), (0.5, 0.3, 0.1))
    np.testing.assert_allclose(legacy_icp(box, box, LEGACY).transform, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_midi_legacy_equals_the_published_formula_taken_literally(case):
    source, target, _ = golden(case)
    found = legacy_icp(source, target, LEGACY)
    np.testing.assert_allclose(found.transform, literal_icp(source, target), atol=1e-9)
    assert angle_between(found.transform[:3, :3], legacy_icp(source, target, FIXED).transform[:3, :3]) > 10
    np.testing.assert_allclose(found.transform[:3, :3] @ found.transform[:3, :3].T, np.eye(3), atol=1e-9)
    distance = cKDTree(target).query(steps.apply(found.transform, source))[0]
    assert found.rmse == pytest.approx(np.sqrt(np.mean(distance**2)))


def test_midi_legacy_fails_on_a_yawed_prediction_that_midi_fixed_solves():
    source, target, truth = golden("yaw_off_grid")
    assert angle_between(legacy_icp(source, target, FIXED).transform[:3, :3], truth[:3, :3]) < 1
    assert angle_between(legacy_icp(source, target, LEGACY).transform[:3, :3], truth[:3, :3]) > 20
    yawed = by_id(cloud @ turn(12).T for cloud in scene(1))
    fixed, legacy = (score_clouds(yawed, scene(2), load_protocol(f"midi-{kind}"))[0] for kind in ("fixed", "legacy"))
    turned = [angle_between(one.registration.transform[:3, :3], turn(-12)) for one in (fixed, legacy)]
    assert turned[0] < 0.5
    assert turned[1] > 5
    assert legacy.scores.cd_squared > 3 * fixed.scores.cd_squared
    assert legacy.scores.f_score < 0.95 < fixed.scores.f_score


@pytest.mark.parametrize("kind", ["fixed", "legacy"])
def test_midi_compares_objects_boxes_before_alignment_and_counts_a_missing_one_as_zero(kind):
    protocol = load_protocol(f"midi-{kind}")
    true = [corners((-0.3, 0, 0), (0.2, 0.1, 0.05)), corners((0.3, 0, 0.1), (0.2, 0.15, 0.1))]
    shift = np.array([0.1, 0, 0])
    # Sides of 0.4 along x, apart by 0.1: 0.3 in common of 0.5.
    moved, _, _ = score_clouds(by_id(cloud + shift for cloud in true), true, protocol)
    assert moved.scores.aabb_iou == pytest.approx(0.6)
    alone, in_scene, realigned = score_clouds({1: true[0] + shift}, true, protocol)
    assert alone.scores.aabb_iou == pytest.approx(0.3)
    assert in_scene[1] == realigned[1] == penalty(protocol)


def test_midi_fixed_aligns_a_shifted_scene_exactly():
    true = scene(1, n=400)
    shift = np.array([0.01, -0.02, 0.015])
    aligned, in_scene, _ = score_clouds(by_id(cloud + shift for cloud in true), true, load_protocol("midi-fixed"))
    np.testing.assert_allclose(aligned.registration.transform[:3, 3], -2 * shift, atol=1e-3)
    assert aligned.scores.cd_squared < 1e-5
    assert all(one.aabb_iou > 0.98 for one in in_scene)


@pytest.mark.parametrize("name", ["midi-fixed", "scenegen"])
def test_objects_scaled_by_axis_forgive_wrong_proportions_and_fill_the_range(name):
    protocol = load_protocol(name)
    unaligned = dataclasses.replace(protocol, registration=None)
    true = scene(1)
    stretched = by_id(cloud * [1, 1, 1.6] for cloud in true)
    _, _, forgiven = score_clouds(stretched, true, unaligned)
    _, _, seen = score_clouds(stretched, true, dataclasses.replace(unaligned, object_normalisation="isotropic"))
    assert max(one.cd_squared for one in forgiven) < 1e-20
    assert min(one.cd_squared for one in seen) > 1e-3
    # Opposite corners of the range, 1.9 apart along each axis, whatever the sides; a flat axis has no corner to be in.
    pair, other = np.array([[0, 0, 0], [0.1, 0.3, 0.0]]), np.array([[0, 0.2, 0.1], [0.1, 0, 0.1]])
    _, _, (score,) = score_clouds({1: pair}, [other], unaligned)
    assert score.cd_unsquared == pytest.approx(2 * 1.9)


def test_scenegen_compares_objects_boxes_after_alignment():
    protocol = load_protocol("scenegen")
    true = scene(2, n=400)
    shift = np.array([0.1, 0.05, 0])
    moved = by_id(cloud + shift for cloud in scene(1, n=400))
    protocol = dataclasses.replace(protocol, realigned_objects=False)
    aligned, in_scene, _ = score_clouds(moved, true, protocol)
    before, _, _ = score_clouds(moved, true, dataclasses.replace(protocol, box_iou="objects_before_alignment"))
    assert aligned.scores.aabb_iou == pytest.approx(np.mean([one.aabb_iou for one in in_scene]))
    assert before.scores.aabb_iou < 0.6 * aligned.scores.aabb_iou
    del moved[2]
    alone, in_scene, _ = score_clouds(moved, true, protocol)
    assert in_scene[1] == penalty(protocol)
    assert alone.scores.aabb_iou == pytest.approx(np.mean([one.aabb_iou for one in in_scene]))


def test_gen3dsr_scores_where_things_stand_with_half_the_chamfer_sum_at_three_distances():
    protocol = load_protocol("gen3dsr")
    true = [corners((0, 0, 0), (0.5, 0.4, 0.3))]
    # 0.02 and 0.002 of the view-centric cube are twice as much in the space of the metrics.
    for shift, f_scores in ((0.02, (1, 0, 0)), (0.002, (1, 1, 0)), (0.0002, (1, 1, 1)), (0.06, (0, 0, 0))):
        aligned, (one,), (own,) = score_clouds(by_id([true[0] + [shift, 0, 0]]), true, protocol)
        assert aligned.registration is None
        assert own is None
        assert one == aligned.scores
        assert one.cd_half == pytest.approx(2 * shift)
        assert one.cd_unsquared == pytest.approx(4 * shift)
        assert one.cd_squared == pytest.approx(2 * (2 * shift) ** 2)
        assert (one.f_score, one.f_score_tenth, one.f_score_hundredth) == f_scores
        assert one.aabb_iou == pytest.approx((1 - shift) / (1 + shift))


def test_partcrafter_normalises_each_side_by_its_own_box_and_adds_unsquared_distances():
    protocol = load_protocol("partcrafter")
    true = [corners((0, 0, 0), (0.5, 0.4, 0.3)), corners((0, 0, 0), (0.1, 0.1, 0.1))]
    place = [0.1, -0.2, 0.05]
    # Size and place of the whole do not count.
    same, _, _ = score_clouds(by_id(0.7 * cloud + place for cloud in true), true, protocol)
    assert same.scores.cd_unsquared == pytest.approx(0, abs=1e-12)
    assert same.scores.aabb_iou == pytest.approx(1)
    # The inner box moved: 8 of 16 points are 0.04 off in [-1, 1]^3, either way.
    inner = [true[0], true[1] + [0.02, 0, 0]]
    moved, in_scene, _ = score_clouds(by_id(0.7 * cloud + place for cloud in inner), true, protocol)
    assert moved.scores.cd_unsquared == pytest.approx(2 * 0.02)
    assert [one.cd_unsquared for one in in_scene] == pytest.approx([0, 0.08], abs=1e-12)
    assert moved.registration is None


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_missing_object_is_penalised_and_lowers_the_scenes_recall(name):
    protocol = load_protocol(name)
    predicted = by_id(scene(1, n=800))
    del predicted[3]
    aligned, in_scene, realigned = score_clouds(predicted, scene(2, n=800), protocol)
    stated = penalty(protocol)
    assert in_scene[2] == stated
    assert realigned[2] == (stated if protocol.realigned_objects else None)
    assert (stated.cd_squared, stated.cd_unsquared, stated.cd_half) == pytest.approx((24, 4 * 3**0.5, 2 * 3**0.5))
    assert stated.f_score == stated.f_score_tenth == stated.f_score_hundredth == stated.aabb_iou == 0
    assert in_scene[0].cd_squared < stated.cd_squared
    assert aligned.scores.f_score < 0.96
    nothing, all_missing, _ = score_clouds({}, scene(2), protocol)
    assert nothing is None
    assert all_missing == [stated] * 3


def test_filter_registration_is_the_exact_weighted_mean_iteration():
    rng = np.random.default_rng(3)
    target = np.concatenate(scene(1, n=130))
    source = np.concatenate(scene(2, n=120)) @ turn(9, (0.2, 0.1, 0.97)).T + [0.05, 0.02, -0.03]
    squared = ((source[:, None] - target[None]) ** 2).sum(axis=-1)
    variance = kernel_variance(source, target)
    assert variance == pytest.approx(squared.mean() / 3)
    moved = rng.permutation(source)
    unordered = moved.copy()
    for _ in range(60):
        weights = np.exp(-((moved[:, None] - target[None]) ** 2).sum(axis=-1) / (2 * variance))
        moved = steps.apply(steps.umeyama(moved, weights @ target / weights.sum(axis=1, keepdims=True)), moved)
    found = filter_registration(source, target)
    exact = steps.umeyama(unordered, moved)
    np.testing.assert_allclose(found.transform, exact, atol=2e-3)


def test_alignments_refuse_what_they_cannot_use():
    cloud = np.eye(3)
    for align, params in ((legacy_icp, FIXED), (filter_registration, None)):
        with pytest.raises(ValueError, match="at least one point"):
            align(np.zeros((0, 3)), cloud, params)
        with pytest.raises(ValueError, match="NaN"):
            align(cloud, np.full((3, 3), np.nan), params)
    with pytest.raises(ValueError, match="legacy ICP"):
        LegacyIcpParams(wrong_transpose=True, iterations=0)
    with pytest.raises(ValueError, match="tolerance"):
        FilterRegistrationParams(tolerance=0)


def test_the_same_input_gives_the_same_bits():
    for name in ("midi-legacy", "scenegen"):
        one, two = (score_clouds(by_id(scene(1, 100)[:2]), scene(2, 100)[:2], load_protocol(name)) for _ in "ab")
        assert np.array_equal(one[0].registration.transform, two[0].registration.transform)
        assert one[1:] == two[1:]


def test_what_each_protocol_states_is_what_its_source_does():
    stated = {
        name: (p.points_per_object, p.tau, p.box_iou, p.object_normalisation, p.chamfer, p.object_level)
        for name, p in PROTOCOLS.items()
    }
    midi = (20_480, 0.1, "objects_before_alignment", "per_axis", "cd_squared", "object_realigned")
    assert stated == {
        "iscene": (20_480, 0.1, "scene", "isotropic", "cd_squared", "object"),
        "iscene-quick": (4_096, 0.1, "scene", "isotropic", "cd_squared", "object"),
        "midi-fixed": midi,
        "midi-legacy": midi,
        "scenegen": (10_240, 0.1, "objects", "per_axis", "cd_squared", "object_realigned"),
        "gen3dsr": (125_000, 0.1, "scene", "isotropic", "cd_half", "object"),
        "partcrafter": (10_000, 0.1, "scene", "isotropic", "cd_unsquared", "object"),
    }
    assert {name: type(p.registration) for name, p in PROTOCOLS.items()} == {
        "iscene": RobustIcpParams,
        "iscene-quick": RobustIcpParams,
        "midi-fixed": LegacyIcpParams,
        "midi-legacy": LegacyIcpParams,
        "scenegen": FilterRegistrationParams,
        "gen3dsr": type(None),
        "partcrafter": type(None),
    }
    assert (LEGACY.iterations, LEGACY.tolerance) == (50, 1e-5)
    assert "transpose of the wrong SVD factor" in load_protocol("midi-legacy").about


def test_every_protocol_is_one_line_plain_json_and_documented():
    page = (Path(__file__).parents[1] / "docs" / "protocols.md").read_text()
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name
        assert "\n" not in protocol.about
        assert json.loads(json.dumps(dataclasses.asdict(protocol), allow_nan=False))["name"] == name
        assert f"`{name}`" in page
        assert f"{protocol.points_per_object:,}" in page
