"""Validation: fixed groups, an even choice of views, stratified times, and one number on any number of processes."""

import dataclasses
import math
import statistics

import numpy as np
import pytest
import torch
from shard_fixtures import make_dataset
from tiny_model import TINY_MODEL
from torch import nn

from randscene.errors import DatasetError
from randscene.shards import Mixture, open_dataset
from randscene.train.batch import LatentSource
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.flow_matching import logit_normal_times
from randscene.train.image_conditioner import crop_images
from randscene.train.settings import load_settings, with_overrides
from randscene.train.validation import Validation, ValidationLoss, spread_views, stratified_times

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = with_overrides(
    load_settings("mini"),
    [
        "data.encoder=synthetic",
        "data.instances_per_scene=2",
        *TINY_MODEL,
        "optimiser.condition_dropout=0.9",
    ],
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return open_dataset(
        make_dataset(folder, scenes=4, views=3, resolution=24, latents=True, splits=("val",)), split="val"
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "other"
    made = make_dataset(
        folder, scenes=3, views=2, resolution=24, latents=True, splits=("val",), fingerprint="beef" * 16
    )
    return open_dataset(made, split="val")


@pytest.fixture(scope="module")
def model():
    flow = ConditionedFlow(SETTINGS)
    nn.init.normal_(flow.flow.out_layer.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return flow


def validation(data, groups, settings=SETTINGS, **more):
    return Validation(data, settings, LatentSource(settings), groups, **more)


class Spy(nn.Module):
    """A model that keeps what it is called with, and answers with a constant velocity."""

    def __init__(self, velocity=0.0):
        super().__init__()
        self.velocity, self.calls = velocity, []

    def forward(self, x_scene, x_instance, t, images, keep, scene_of):
        assert not self.training and not torch.is_grad_enabled()
        self.calls.append((x_scene, x_instance, t, images, keep, scene_of))
        return torch.full_like(x_scene, self.velocity), torch.full_like(x_instance, self.velocity)


def scene_of_key(key):
    return key.partition("_")[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9, 12])
def test_all_different_scenes_come_first_and_no_view_twice_while_there_are_others(dataset, count):
    keys = [dataset.keys[index] for index in spread_views(dataset, count)]
    assert len(set(keys)) == count
    for start in range(0, count, 4):
        part = [scene_of_key(key) for key in keys[start : start + 4]]
        assert len(set(part)) == len(part)
    assert len(dataset) == 12


def test_views_spread_over_all_scenes_and_sides():
    class Sorted:
        """A hundred scenes of ten views, one of them of two."""

        keys = tuple(f"{scene:06d}_{view:03d}" for scene in range(100) for view in range(10 if scene else 2))

        def __len__(self):
            return len(self.keys)

    few = [Sorted.keys[index] for index in spread_views(Sorted(), 10)]
    assert [int(scene_of_key(key)) for key in few] == list(range(5, 100, 10))
    hundred = [Sorted.keys[index] for index in spread_views(Sorted(), 100)]
    views = np.bincount([int(key[-3:]) for key in hundred], minlength=10)
    assert views.min() >= 8 and views.max() <= 12, "every side of a scene as often as any other"
    every = [Sorted.keys[index] for index in spread_views(Sorted(), 1500)]
    assert set(every[:992]) == set(Sorted.keys) and every[992:] == every[: 1500 - 992]


def test_times_are_the_middles_of_equal_shares_of_the_runs_distribution():
    times = stratified_times(1000, mean=2.0, std=1.5).double()
    assert (times.diff() > 0).all()
    law = statistics.NormalDist(2.0, 1.5)
    shares = [law.cdf(math.log(t / (1 - t))) for t in times.tolist()]
    np.testing.assert_allclose(shares, (np.arange(1000) + 0.5) / 1000, atol=2e-5)
    drawn = logit_normal_times(200_000, torch.Generator().manual_seed(0), mean=2.0, std=1.5).double()
    assert abs(times.mean() - drawn.mean()) < 2e-3
    assert stratified_times(1, mean=0.0, std=1.0).tolist() == [0.5]


def test_groups_are_the_same_at_every_call_and_no_condition_is_dropped(dataset):
    held_out, spy = validation(dataset, 10), Spy()
    first, second = held_out.loss(spy, "cpu", "float32"), held_out.loss(spy, "cpu", "float32")
    assert first == second == validation(dataset, 10).loss(Spy(), "cpu", "float32")
    assert len(spy.calls) == 6
    for one, again in zip(spy.calls[:3], spy.calls[3:]):
        assert all(torch.equal(a, b) for a, b in zip(one, again))
    assert all(keep.all() for *_, keep, _ in spy.calls)
    assert torch.equal(torch.cat([call[2] for call in spy.calls[:3]]), held_out.times)


def test_the_loss_is_the_mean_over_groups_of_the_velocitys_squared_error(dataset):
    spy = Spy(velocity=0.5)
    held_out = validation(dataset, 7, groups_at_once=3)
    loss = held_out.loss(spy, "cpu", "float32")
    scene, instance = [], []
    for number, (x_scene, x_instance, t, images, _, scene_of) in enumerate(spy.calls):
        for row in range(len(t)):
            view = dataset[dataset.keys.index(held_out.keys[3 * number + row])]
            x0 = torch.from_numpy(view.latents[0]).double()
            # x_t = (1 - t) x0 + t noise, so the target is (x_t - x0) / t.
            target = (x_scene[row].double() - x0) / t[row].double()
            scene.append((0.5 - target).square().mean().item())
        for x, group, image in zip(x_instance, scene_of, images[len(t) :]):
            view = dataset[dataset.keys.index(held_out.keys[3 * number + int(group)])]
            known = torch.as_tensor(crop_images(view, 32))[1:]
            (instance_id,) = (known == image).flatten(1).all(1).nonzero()[:, 0] + 1
            x0 = torch.from_numpy(view.latents[instance_id]).double()
            instance.append((0.5 - (x.double() - x0) / t[group].double()).square().mean().item())
    assert loss.scene == pytest.approx(np.mean(scene), rel=1e-3)
    assert loss.instance == pytest.approx(np.mean(instance), rel=1e-3)
    assert loss.total(0.5) == pytest.approx(0.5 * loss.scene + loss.instance)
    # Mean square of noise - x0 - 0.5 for independent noise and normal latents.
    assert loss.scene == pytest.approx(2.25, rel=0.02)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_together_measure_what_one_process_does(dataset, model, world_size):
    alone = validation(dataset, 9, groups_at_once=2).sums(model, "cpu", "float32")
    shares = [
        validation(dataset, 9, groups_at_once=2).sums(model, "cpu", "float32", rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    torch.testing.assert_close(sum(shares), alone, rtol=1e-14, atol=0)
    assert all((share < alone).any() for share in shares)
    assert alone.view(4, -1)[[1, 3]].sum(1).tolist() == [9, 18]


def test_the_size_of_the_micro_batches_changes_no_more_than_rounding(dataset, model):
    losses = [validation(dataset, 9, groups_at_once=n).loss(model, "cpu", "float32") for n in (1, 4, 9)]
    for loss in losses[1:]:
        assert loss.scene == pytest.approx(losses[0].scene, rel=1e-5)
        assert loss.by_time == pytest.approx(losses[0].by_time, rel=1e-5)


def test_parts_of_time_average_to_the_whole(dataset, model):
    vector = validation(dataset, 12).sums(model, "cpu", "float32")
    loss = ValidationLoss.from_vector(vector.tolist())
    counts = vector.view(4, 10)[1].tolist()
    parts = [value for name, value in loss.by_time.items() if name.startswith("loss_scene/")]
    assert len(parts) > 3
    weights = [count for count in counts if count]
    assert np.average(parts, weights=weights) == pytest.approx(loss.scene, rel=1e-12)


def test_another_seed_gives_other_instances_and_noise_to_the_same_views(dataset):
    spies, settings = (Spy(), Spy()), with_overrides(SETTINGS, ["seed=1"])
    here, there = validation(dataset, 8), validation(dataset, 8, settings)
    assert here.keys == there.keys and torch.equal(here.times, there.times)
    losses = [held_out.loss(spy, "cpu", "float32") for held_out, spy in zip((here, there), spies)]
    assert losses[0].scene != losses[1].scene
    images = [torch.cat([call[3] for call in spy.calls]) for spy in spies]
    assert not torch.equal(*images), "other instances"
    scenes = [torch.cat([call[3][: len(call[2])] for call in spy.calls]) for spy in spies]
    assert torch.equal(*scenes)


def test_views_that_are_taken_again_have_other_noise_and_another_time(dataset):
    held_out, spy = validation(dataset, 24, groups_at_once=24), Spy()
    held_out.loss(spy, "cpu", "float32")
    assert held_out.keys[:12] == held_out.keys[12:]
    x_scene, _, t, *_ = spy.calls[0]
    assert len(set(t.tolist())) == 24
    noise = [
        (x_scene[row] - (1 - t[row]) * torch.from_numpy(dataset[spread_views(dataset, 24)[row]].latents[0])) / t[row]
        for row in (0, 12)
    ]
    assert (noise[0] * noise[1]).mean().abs() < 0.05


def test_a_mixtures_datasets_take_turns_in_its_proportion(dataset, other):
    mixture = Mixture({"a": (dataset, 3.0), "b": (other, 1.0)}, seed=5)
    held_out = validation(mixture, 8)
    from_a = [key for place, key in enumerate(held_out.keys) if held_out.names[place] == "a"]
    assert held_out.names.count("a") == 6 and held_out.names[:4].count("b") == held_out.names[4:].count("b") == 1
    assert from_a == [dataset.keys[index] for index in spread_views(dataset, 6)]
    assert math.isfinite(held_out.loss(Spy(), "cpu", "float32").scene)
    assert validation(Mixture({"a": (dataset, 3.0), "b": (other, 1.0)}, seed=6), 8).keys == held_out.keys


def test_samples_for_pictures_are_the_first_different_views(dataset):
    held_out = validation(dataset, 24)
    assert [sample.key for sample in held_out.samples(3)] == list(held_out.keys[:3])
    assert len(held_out.samples(100)) == 12


def test_a_model_goes_back_to_its_own_mode_even_after_an_error(dataset, model):
    model.train()
    model.conditioner.eval()  # as a frozen encoder is
    validation(dataset, 2).loss(model, "cpu", "bfloat16")
    assert model.training and model.flow.training and not any(m.training for m in model.conditioner.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    wrong = with_overrides(SETTINGS, ["data.frame=full"])
    with pytest.raises(DatasetError, match="is in frame yaw"):
        validation(dataset, 2, wrong).loss(model, "cpu", "float32")
    assert model.training
    model.eval()
    validation(dataset, 2).loss(model, "cpu", "float32")
    assert not model.training


def test_no_global_random_state_is_used(dataset, model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = validation(dataset, 3).loss(model, "cpu", "float32")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert validation(dataset, 3).loss(model, "cpu", "float32") == first


def test_fewer_than_one_group_is_refused(dataset):
    for numbers in ({"groups": 0}, {"groups": 1, "groups_at_once": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            validation(dataset, **numbers)


def test_a_loss_is_a_plain_record():
    loss = ValidationLoss.from_vector([1.0, 3.0, 1.0, 1.0, 0.0, 8.0, 0.0, 2.0])
    assert dataclasses.asdict(loss) == {
        "scene": 2.0,
        "instance": 4.0,
        "by_time": {"loss_scene/t_0.0_0.5": 1.0, "loss_scene/t_0.5_1.0": 3.0, "loss_instance/t_0.5_1.0": 4.0},
    }
