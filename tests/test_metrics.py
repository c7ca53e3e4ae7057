"""Chamfer distance, F-score and IoU: published-definition values and defined outcomes for what is empty or broken."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randscene.train.metrics import aabb_iou, chamfer, f_score, voxel_iou

GOLDEN = Path(__file__).parent / "data" / "golden"
CASES = json.loads((GOLDEN / "metrics.json").read_text())
EMPTY = np.zeros((0, 3))


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_golden_values(case):
    with np.load(GOLDEN / "metrics.npz", allow_pickle=False) as arrays:
        a, b = arrays[f"{case}.pred"], arrays[f"{case}.gt"]
    wanted = CASES[case]
    distance = chamfer(a, b)
    np.testing.assert_allclose(distance.squared_sum, wanted["cd_sq_sum"], rtol=1e-12)
    np.testing.assert_allclose(distance.unsquared_sum, wanted["cd_l1_sum"], rtol=1e-12)
    np.testing.assert_allclose(100 * f_score(a, b, tau=0.1), wanted["fscore_percent"], rtol=1e-12)
    np.testing.assert_allclose(aabb_iou(a, b), wanted["aabb_iou"], rtol=1e-12)


def test_the_threshold_of_the_f_score_is_strict():
    a, b = np.zeros((1, 3)), np.array([[0.5, 0, 0]])
    assert f_score(a, b, tau=0.5) == 0
    assert f_score(a, b, tau=np.nextafter(0.5, 1)) == 1


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.integers(1, 60), st.integers(1, 60))
def test_scores_are_symmetric_and_scale_as_their_units(seed, scale, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    one, other, scaled = chamfer(a, b), chamfer(b, a), chamfer(scale * a, scale * b)
    np.testing.assert_allclose([one.squared_sum, one.unsquared_sum], [other.squared_sum, other.unsquared_sum])
    np.testing.assert_allclose(scaled.squared_sum, scale**2 * one.squared_sum)
    np.testing.assert_allclose(scaled.unsquared_sum, scale * one.unsquared_sum)
    assert f_score(a, b, 0.4) == pytest.approx(f_score(b, a, 0.4))
    assert f_score(a, b, 0.1) <= f_score(a, b, 0.5) <= 1
    assert aabb_iou(a, b) == pytest.approx(aabb_iou(scale * b, scale * a), abs=1e-12)


def test_an_empty_cloud_is_infinitely_far_and_never_a_success():
    cloud = np.random.default_rng(0).normal(size=(10, 3))
    for a, b in ((EMPTY, cloud), (cloud, EMPTY), (EMPTY, EMPTY)):
        distance = chamfer(a, b)
        assert distance.squared_sum == distance.unsquared_sum == np.inf
        assert f_score(a, b) == 0
        assert aabb_iou(a, b) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("score", [chamfer, f_score, aabb_iou])
def test_nan_and_infinity_are_refused(score, bad):
    cloud = np.zeros((4, 3))
    broken = cloud.copy()
    broken[2, 1] = bad
    for a, b in ((broken, cloud), (cloud, broken)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(a, b)


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        chamfer(np.zeros((3, 2)), np.zeros((3, 3)))


def test_flat_boxes_overlap_only_if_equal():
    flat = np.array([[0, 0, 0], [1, 1, 0.0]])
    assert aabb_iou(flat, flat) == 1
    assert aabb_iou(flat, flat + np.array([0, 0, 1])) == 0


def test_voxel_iou_counts_sets():
    a = np.array([[0, 0, 0], [1, 2, 3], [1, 2, 3]], np.uint8)
    b = np.array([[1, 2, 3], [63, 63, 63], [3, 2, 1]], np.int64)
    assert voxel_iou(a, b) == pytest.approx(1 / 4)
    assert voxel_iou(a, a[::-1]) == 1
    assert voxel_iou(a[:0], b) == voxel_iou(a[:0], b[:0]) == 0


def test_voxel_iou_refuses_what_is_no_voxel_set():
    with pytest.raises(ValueError, match="integers"):
        voxel_iou(np.zeros((2, 3)), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="must lie in"):
        voxel_iou(np.full((1, 3), -1), np.zeros((2, 3), np.uint8))
