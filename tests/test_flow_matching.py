"""Flow matching: the published path and target, group-level draws, and losses by branch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from randscene.train.flow_matching import (
    diffuse,
    drop_condition,
    grouped_loss,
    keep_condition,
    logit_normal_times,
    predicted_data,
    velocity_target,
)

DATA = Path(__file__).parent / "data" / "model"


@pytest.fixture(scope="module")
def golden():
    with np.load(DATA / "sampler.npz") as arrays:
        return {name[6:]: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith("train.")}


def test_path_and_target_equal_the_reference(golden):
    x0, eps, t = golden["x0"], golden["eps"], golden["t"]
    torch.testing.assert_close(diffuse(x0, eps, t), golden["x_t"], atol=1e-6, rtol=0)
    torch.testing.assert_close(velocity_target(x0, eps), golden["v_target"], atol=1e-6, rtol=0)


def test_the_true_velocity_points_back_to_the_data(golden):
    x0, t = golden["x0"], golden["t"]
    back = predicted_data(golden["x_t"], golden["v_target"], t)
    torch.testing.assert_close(back, x0, atol=2e-5, rtol=0)


def test_times_follow_the_logit_normal_law_and_the_generator():
    t = logit_normal_times(20000, torch.Generator().manual_seed(0))
    assert ((t > 0) & (t < 1)).all()
    assert abs(t.mean().item() - 0.696) < 0.01
    assert abs((t > 0.5).float().mean().item() - 0.84) < 0.01
    assert t.equal(logit_normal_times(20000, torch.Generator().manual_seed(0)))
    shifted = logit_normal_times(20000, torch.Generator().manual_seed(0), mean=0.0, std=0.5)
    assert abs(shifted.median().item() - 0.5) < 0.01


def test_dropping_a_group_drops_its_scene_and_all_its_instances():
    keep = keep_condition(5000, 0.1, torch.Generator().manual_seed(0))
    assert abs((~keep).float().mean().item() - 0.1) < 0.015
    assert keep_condition(100, 0.0, torch.Generator().manual_seed(0)).all()
    scene, inst = torch.ones(3, 2, 4), torch.ones(5, 2, 4)
    scene_of = torch.tensor([2, 0, 1, 1, 0])
    scene, inst = drop_condition(scene, inst, torch.tensor([True, False, True]), scene_of)
    assert scene.amax((1, 2)).tolist() == [1, 0, 1]
    assert inst.amax((1, 2)).tolist() == [1, 1, 0, 0, 1]


def test_a_scene_weighs_as_much_as_the_mean_of_its_instances():
    zero = torch.zeros(1, 8, 2, 2, 2)
    loss = grouped_loss(zero + 2, torch.zeros(7, 8, 2, 2, 2) + 3, zero, torch.zeros(7, 8, 2, 2, 2))
    assert loss.scene.item() == 4
    assert loss.instance.item() == 9
    assert loss.total().item() == 13
    assert loss.total(scene_weight=0.5).item() == 11


def test_a_group_without_instances_has_a_finite_loss():
    empty = torch.zeros(0, 8, 2, 2, 2)
    zero = torch.zeros(1, 8, 2, 2, 2)
    assert grouped_loss(zero + 1, empty, zero, empty).total().item() == 1
