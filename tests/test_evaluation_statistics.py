"""Intervals that cover, and a paired test whose p-value is what its name says."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from randscene.seeding import generator
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.evaluation_statistics import (
    EXACT_SCENES,
    RANDOM_FLIPS,
    mean_interval,
    paired_test,
    scene_of,
    sign_flip_p,
)
from randscene.train.protocols import ISCENE
from randscene.train.scene_scores import InstanceScores, SceneScores, Scores


def keys(scenes: int, views: int = 1) -> list[str]:
    return [f"{scene:06d}_{view:03d}" for scene in range(scenes) for view in range(views)]


def scene_scores(key: str, chamfer: float, voxels: float | None = None) -> SceneScores:
    """One scene of one instance whose measures all follow from one Chamfer distance; the measures not named are 0."""
    known = {"cd_squared": chamfer, "cd_unsquared": 2 * chamfer, "f_score": 1 - chamfer, "aabb_iou": 1 - chamfer / 2}
    scores = Scores(**({field.name: 0.0 for field in dataclasses.fields(Scores)} | known))
    return SceneScores(
        key=key,
        scene=scores,
        instances=(InstanceScores(id=1, problem=None, in_scene=scores, realigned=None, voxel_iou=voxels),),
        voxel_iou=voxels,
        normalisation="recentred",
        transform=None,
        fitness=1.0,
        rmse=0.0,
        fell_back=False,
        prediction_seconds=None,
    )


def coverage(draw, truth: float, n: int, views: int, trials: int = 300) -> float:
    names, hits = keys(n, views), 0
    for trial in range(trials):
        found = mean_interval(list(draw(generator(5, trial))), names, seed=trial)
        hits += found.contains(truth)
    return hits / trials


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    # Skewed, as Chamfer distances are: a percentile interval covers a little less than 95 %.
    assert 0.89 <= coverage(lambda rng: rng.gamma(2.0, size=50), 2.0, 50, 1) <= 0.98


def test_views_of_one_scene_are_not_taken_for_independent():
    def draw(rng):
        return np.repeat(rng.normal(size=30), 4) + 0.1 * rng.normal(size=120)

    assert 0.88 <= coverage(draw, 0.0, 30, 4) <= 0.98
    values = list(draw(generator(1)))
    by_scene = mean_interval(values, keys(30, 4), 0)
    as_if_independent = mean_interval(values, keys(120), 0)
    assert by_scene.high - by_scene.low > 1.5 * (as_if_independent.high - as_if_independent.low)


def test_an_interval_holds_its_mean_over_views_and_follows_the_seed():
    names = ["000001_000", "000001_001", "000002_000", "000003_000"]
    values = [1.0, 3.0, 7.0, None]
    found = mean_interval(values, names, 3)
    assert found.value == pytest.approx(11 / 3)
    assert (found.low, found.high) == pytest.approx((2.0, 7.0))  # two scenes: one of them alone is often drawn
    assert found == mean_interval(values, names, 3)
    spread = [float(value) for value in generator(1).normal(size=40)]
    assert mean_interval(spread, keys(40), 3) != mean_interval(spread, keys(40), 4)


def test_what_has_no_spread_has_no_interval():
    assert mean_interval([None, None], keys(2), 0) is None
    alone = mean_interval([0.5, None], keys(2), 0)
    assert (alone.value, alone.low, alone.high) == (0.5, None, None)
    views = mean_interval([0.25, 0.75], keys(1, 2), 0)
    assert (views.value, views.low, views.high) == (0.5, None, None)


def test_p_is_exact_on_cases_counted_by_hand():
    # Sums of +-1 +-2 +-3 at least 6 from 0: +++ and ---.
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), generator(0)) == 2 / 8
    # 1 + 2 - 3 = 0 : every pattern reaches it.
    assert sign_flip_p(np.array([1.0, 2.0, -3.0]), generator(0)) == 1
    # -1 + 2 + 3 = 4: +++ (6), -++ (4) and their opposites.
    assert sign_flip_p(np.array([-1.0, 2.0, 3.0]), generator(0)) == 4 / 8
    assert sign_flip_p(np.zeros(3), generator(0)) == 1
    assert sign_flip_p(np.array([0.1, 0.2, 0.3]), generator(0)) == 2 / 8  # whatever the last bits say


def test_exact_p_equals_a_plain_enumeration():
    differences = generator(2).normal(0.4, size=9)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=9)]
    expected = np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums])
    assert 0 < expected < 1
    assert sign_flip_p(differences, generator(0)) == expected


def test_random_flips_come_near_the_exact_value(monkeypatch):
    differences = generator(3).normal(0.3, size=12)
    exact = sign_flip_p(differences, generator(0))
    monkeypatch.setattr("randscene.train.evaluation_statistics.EXACT_SCENES", 5)
    drawn = sign_flip_p(differences, generator(0))
    assert 0.02 < exact < 0.98
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(RANDOM_FLIPS))
    assert sign_flip_p(np.ones(40), generator(0)) == 1 / (RANDOM_FLIPS + 1)


def test_under_no_difference_p_is_small_as_seldom_as_it_says():
    values = [sign_flip_p(generator(4, trial).normal(size=10), generator(0)) for trial in range(400)]
    assert np.mean(np.array(values) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(np.array(values) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_a_scene_flips_with_all_of_its_views():
    # Two scenes: of 4 patterns, the seen one and its opposite. Ten independent views would say 2 / 1024.
    found = paired_test([0.0] * 10, [1.0] * 10, keys(2, 5), 0)
    assert (found.p, found.exact, found.n_views, found.n_scenes) == (0.5, True, 10, 2)
    # Views count once each, so the sums are 4, 1, -1. Of 4 +-1 +-1, all but 4 - 1 - 1 are at least 4.
    names = [*(f"000001_{view:03d}" for view in range(4)), "000002_000", "000003_000"]
    uneven = paired_test([0.0] * 6, [1.0] * 5 + [-1.0], names, 0)
    assert uneven.difference.value == pytest.approx(4 / 6)
    assert uneven.p == 3 / 4


def test_exchanged_methods_get_the_opposite_difference_and_the_same_p():
    n = EXACT_SCENES + 20
    a, b = (list(generator(6, side).normal(0.2 * side, size=n)) for side in (0, 1))
    there, back = paired_test(a, b, keys(n), 0), paired_test(b, a, keys(n), 0)
    assert not there.exact
    assert there.p == back.p
    assert there.difference.value == pytest.approx(np.mean(b) - np.mean(a))
    assert (back.difference.low, back.difference.high) == pytest.approx((-there.difference.high, -there.difference.low))
    assert there.difference.low < there.difference.value < there.difference.high


def test_views_without_a_value_in_either_method_take_no_part():
    found = paired_test([1.0, None, 3.0, 4.0], [2.0, 5.0, None, 4.5], keys(4), 0)
    assert (found.n_views, found.difference.value) == (2, 0.75)
    assert paired_test([None], [1.0], keys(1), 0) is None


def test_scenes_are_told_by_their_keys():
    assert [scene_of(key) for key in ("000007_001", "1000007_1000", "odd")] == ["000007", "1000007", "odd"]


def test_a_report_holds_the_interval_of_every_mean():
    rows = [scene_scores(key, 0.1 + 0.01 * place, 0.5 if place else None) for place, key in enumerate(keys(8))]
    report = EvaluationReport(protocol=ISCENE, seed=1, scenes=tuple(rows))
    content = json.loads(report.to_json())
    assert content["confidence"] == 0.95
    assert set(content["intervals"]) == set(content["means"])
    low, high = content["intervals"]["scene_cd_squared"]
    assert 0.1 < low < content["means"]["scene_cd_squared"] < high < 0.17
    assert content["intervals"]["prediction_seconds"] is None
    assert content["intervals"]["voxel_iou"] == pytest.approx([0.5, 0.5])
    assert report.to_json() == EvaluationReport(protocol=ISCENE, seed=1, scenes=tuple(rows)).to_json()
