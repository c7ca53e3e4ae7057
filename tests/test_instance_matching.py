"""Partners without ids: the least total distance, whatever the order and the numbers."""

import dataclasses
import itertools

import numpy as np
import pytest

from randscene.seeding import generator
from randscene.train.instance_matching import chamfer_matrix, match_instances
from randscene.train.metrics import chamfer
from randscene.train.protocols import ISCENE
from randscene.train.scene_scores import score_clouds

PLAIN = dataclasses.replace(ISCENE, registration=None, normalisations=("fixed_range",))


def clouds(count: int, stream: str) -> list[np.ndarray]:
    rng = generator("matching", stream)
    return [rng.uniform(-0.1, 0.1, (300, 3)) + rng.uniform(-0.4, 0.4, 3) for _ in range(count)]


def test_the_assignment_is_the_best_of_all():
    true, predicted = clouds(4, "true"), clouds(4, "predicted")
    found = match_instances(dict(enumerate(predicted, start=1)), true)
    costs = chamfer_matrix(predicted, true)
    best = min(itertools.permutations(range(4)), key=lambda order: sum(costs[order[j], j] for j in range(4)))
    assert found == {j + 1: best[j] + 1 for j in range(4)}
    assert costs[1, 2] == pytest.approx(chamfer(predicted[1], true[2]).squared_sum)
    unsquared = chamfer_matrix(predicted, true, squared=False)
    assert unsquared[1, 2] == pytest.approx(chamfer(predicted[1], true[2]).unsquared_sum)


@pytest.mark.parametrize("numbers", [(9, 4, 7), (1, 2, 3)])
def test_neither_numbers_nor_order_matter(numbers):
    true = clouds(3, "true")
    shuffled = {numbers[0]: true[2], numbers[1]: true[0], numbers[2]: true[1]}
    assert match_instances(shuffled, true) == {1: numbers[1], 2: numbers[2], 3: numbers[0]}


def test_one_side_may_have_more_or_nothing():
    true = clouds(3, "true")
    assert match_instances({5: true[1]}, true) == {2: 5}
    assert match_instances({1: true[2], 2: true[0] + 0.3, 3: true[0]}, true[:1]) == {1: 3}
    assert match_instances({}, true) == match_instances({1: true[0]}, []) == {}


def test_scores_by_shape_are_those_by_id_of_the_right_order():
    true = clouds(3, "true")
    rng = generator("matching", "noise")
    right = {number: cloud + rng.normal(0, 0.01, cloud.shape) for number, cloud in enumerate(true, start=1)}
    aligned, in_scene, _ = score_clouds(right, true, PLAIN)
    wrong = {1: right[3], 2: right[1], 3: right[2], 4: clouds(1, "surplus")[0]}
    matched, by_shape, _ = score_clouds({i: wrong[i] for i in (1, 2, 3)}, true, PLAIN, "hungarian")
    assert aligned is not None
    assert matched is not None
    assert by_shape == in_scene
    assert matched.partners == {1: 2, 2: 3, 3: 1}
    with_surplus, again, _ = score_clouds(wrong, true, PLAIN, "hungarian")
    assert with_surplus is not None
    assert again == in_scene
    assert sorted(with_surplus.predicted) == [1, 2, 3, 4]
    assert with_surplus.scores.cd_squared > matched.scores.cd_squared
