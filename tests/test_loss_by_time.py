"""Losses by t: the right bin, plain means, sums that add up over processes, and no word of a device in between."""

import math

import pytest
import torch

from randscene.train.flow_matching import grouped_loss
from randscene.train.loss_by_time import LossByTime, branch_means


def drawn(seed, groups=64, each=3):
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(groups, generator=generator)
    scene_of = torch.randint(groups, (groups * each,), generator=generator)
    return t, torch.rand(groups, generator=generator), torch.rand(groups * each, generator=generator), scene_of


def filled(*batches, bins=10):
    by_time = LossByTime(bins)
    for batch in batches:
        by_time.add(*batch)
    return by_time


@pytest.mark.parametrize("bins", [1, 7, 10, 20])
def test_each_bin_holds_the_mean_of_its_own_losses(bins):
    t, scene, instance, scene_of = drawn(0)
    named = LossByTime.from_vector(filled((t, scene, instance, scene_of), bins=bins).as_vector())
    expected = []
    for losses, times in ((scene, t), (instance, t[scene_of])):
        for number in range(bins):
            inside = [loss for loss, time in zip(losses.tolist(), times.tolist()) if int(time * bins) == number]
            expected += [math.fsum(inside) / len(inside)] if inside else []
    assert list(named.values()) == pytest.approx(expected, rel=1e-12)
    assert len(set(named)) == len(expected)


def test_names_tell_branch_and_borders_and_empty_bins_have_none():
    by_time = filled((torch.tensor([0.35, 0.95]), torch.tensor([1.0, 2.0]), torch.tensor([5.0]), torch.tensor([1])))
    assert LossByTime.from_vector(by_time.as_vector()) == {
        "loss_scene/t_0.3_0.4": 1.0,
        "loss_scene/t_0.9_1.0": 2.0,
        "loss_instance/t_0.9_1.0": 5.0,
    }
    assert LossByTime.from_vector(LossByTime(4).as_vector()) == {}
    quarter = filled((torch.tensor([0.3]), torch.tensor([1.0]), torch.zeros(0), torch.zeros(0).long()), bins=4)
    assert list(LossByTime.from_vector(quarter.as_vector())) == ["loss_scene/t_0.25_0.50"]


def test_both_ends_of_time_and_all_borders_have_a_bin():
    t = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    vector = filled((t, torch.ones(11), torch.zeros(0), torch.zeros(0).long())).as_vector().view(4, 10)
    assert vector[1].tolist() == [1] * 9 + [2]
    assert vector[3].tolist() == [0] * 10


def test_vectors_of_ranks_add_up_to_that_of_one_process():
    batches = [drawn(seed) for seed in range(4)]
    alone = filled(*batches).as_vector()
    ranks = filled(*batches[::2]).as_vector() + filled(*batches[1::2]).as_vector()
    torch.testing.assert_close(ranks, alone, rtol=1e-14, atol=0)
    assert LossByTime.from_vector(ranks.tolist()) == LossByTime.from_vector(ranks)
    scene, instance = branch_means(ranks)
    assert scene == pytest.approx(torch.cat([batch[1] for batch in batches]).double().mean().item(), rel=1e-12)
    assert instance == pytest.approx(torch.cat([batch[2] for batch in batches]).double().mean().item(), rel=1e-12)
    assert branch_means(LossByTime(3).as_vector()) == (0.0, 0.0)


def test_the_vector_is_a_copy_and_clearing_begins_anew():
    by_time = filled(drawn(0))
    vector = by_time.as_vector()
    before = vector.clone()
    by_time.add(*drawn(1))
    assert torch.equal(vector, before) and vector.dtype == torch.float64 and vector.shape == (40,)
    vector.zero_()
    assert by_time.as_vector().sum() > 0
    by_time.clear()
    by_time.add(*drawn(0))
    assert torch.equal(by_time.as_vector(), before)


def test_one_loss_that_is_not_finite_spoils_its_own_bin_alone():
    t = torch.tensor([0.05, 0.55])
    named = LossByTime.from_vector(
        filled(
            (t, torch.tensor([float("nan"), 1.0]), torch.tensor([2.0, float("inf")]), torch.tensor([0, 1]))
        ).as_vector()
    )
    assert math.isnan(named.pop("loss_scene/t_0.0_0.1")) and math.isinf(named.pop("loss_instance/t_0.5_0.6"))
    assert named == {"loss_scene/t_0.5_0.6": 1.0, "loss_instance/t_0.0_0.1": 2.0}


def test_adding_asks_the_device_for_no_number_and_follows_no_gradient():
    """The meta device has shapes and no values: whatever would wait for a GPU fails on it."""
    by_time = LossByTime(device="meta")
    loss = torch.ones(4, device="meta", requires_grad=True)
    by_time.add(torch.rand(4, device="meta"), loss, torch.rand(6, device="meta"), torch.zeros(6, device="meta").long())
    assert by_time.as_vector().device.type == "meta" and not by_time.as_vector().requires_grad


def test_losses_of_single_sequences_average_to_the_trained_loss():
    generator = torch.Generator().manual_seed(0)
    scene, instance, scene_target, instance_target = (
        torch.randn(count, 8, 4, 4, 4, generator=generator, requires_grad=True) for count in (3, 6, 3, 6)
    )
    loss = grouped_loss(scene, instance, scene_target, instance_target)
    assert loss.scene.requires_grad and loss.instance.requires_grad
    assert not loss.per_scene.requires_grad and not loss.per_instance.requires_grad
    torch.testing.assert_close(loss.per_scene.mean(), loss.scene.detach())
    torch.testing.assert_close(loss.per_instance.mean(), loss.instance.detach())
    expected = [(instance[row] - instance_target[row]).detach().double().square().mean() for row in range(6)]
    torch.testing.assert_close(loss.per_instance.double(), torch.stack(expected), rtol=1e-5, atol=0)
    empty = torch.zeros(0, 8, 4, 4, 4)
    assert grouped_loss(scene, empty, scene_target, empty).per_instance.shape == (0,)


def test_a_number_of_bins_or_a_vector_that_cannot_be_is_refused():
    for bins in (0, 101):
        with pytest.raises(ValueError, match="1 to 100 bins"):
            LossByTime(bins)
    with pytest.raises(ValueError, match="four a bin"):
        LossByTime.from_vector([0.0] * 6)
    with pytest.raises(ValueError, match="1 to 100 bins"):
        LossByTime.from_vector([])
