"""Sampling: the published trajectory, and groups that share their scene branch and noise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from randscene.train.sampler import euler_steps, initial_noise, sample, time_steps
from randscene.train.settings import SamplingSettings
from randscene.train.sparse_structure_flow import SparseStructureFlow

DATA = Path(__file__).parent / "data" / "model"
CONFIGS = json.loads((DATA / "sampler.json").read_text())["configs"]
TINY = {
    "resolution": 4,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 24,
    "cond_channels": 6,
    "num_blocks": 3,
    "num_heads": 2,
    "patch_size": 1,
    "qk_rms_norm": True,
    "sca_blocks": (1,),
}


def settings_of(name):
    config = CONFIGS[name]
    return SamplingSettings(**(config | {"cfg_interval": tuple(config["cfg_interval"])}))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_trajectory_equals_the_reference(name):
    golden = np.load(DATA / "sampler.npz", allow_pickle=False)
    cond = torch.from_numpy(golden["cond"])
    calls = []

    def field(x, t, conditional):
        calls.append((float(t[0]), not conditional))
        c = cond if conditional else torch.zeros_like(cond)
        return (1 + t.view(-1, 1, 1, 1, 1) / 1000) * x - c[:, :, None, None, None] + 0.25 * torch.sin(3 * x)

    settings = settings_of(name)
    np.testing.assert_allclose(time_steps(settings.steps, settings.rescale_t), golden[f"{name}.t_seq"], atol=1e-15)
    steps = list(euler_steps(field, torch.from_numpy(golden["noise"]), settings))
    assert [step.guided for step in steps] == golden[f"{name}.guided_step"].tolist()
    assert calls == list(zip(golden[f"{name}.model_calls_t1000"], golden[f"{name}.model_calls_is_uncond"]))
    np.testing.assert_allclose([step.t for step in steps], golden[f"{name}.t_seq"][1:], atol=1e-15)
    for field_name, key in (("x", "x_t"), ("x0", "x_0")):
        found = torch.stack([getattr(step, field_name) for step in steps])
        np.testing.assert_allclose(found, golden[f"{name}.{key}"], atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(steps[-1].x, golden[f"{name}.samples"], atol=1e-5, rtol=1e-6)


@pytest.fixture(scope="module")
def flow():
    model = SparseStructureFlow(**TINY)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def conditions(scene_of, scenes):
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(scenes, 3, 6, generator=generator),
        torch.randn(len(scene_of), 3, 6, generator=generator),
        torch.tensor(scene_of),
    )


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_instances_of_a_scene_start_from_the_same_noise(flow):
    scene, instance = initial_noise(flow, generators(1, 2))
    assert scene.shape == instance.shape == (2, 2, 4, 4, 4)
    assert not scene.equal(instance)
    cond_scene, cond_inst, scene_of = conditions([0, 1, 0], 2)
    cond_inst[2] = cond_inst[0]
    settings = SamplingSettings(steps=3)
    _, z = sample(flow, cond_scene, cond_inst, scene_of, generators=generators(1, 2), settings=settings)
    torch.testing.assert_close(z[0], z[2], atol=1e-4, rtol=0)
    assert (z[0] - z[1]).abs().max() > 0.1


def test_a_scene_is_sampled_the_same_alone_and_among_others(flow):
    cond_scene, cond_inst, scene_of = conditions([0, 1, 1], 2)
    settings = SamplingSettings(steps=4)
    scenes, instances = sample(flow, cond_scene, cond_inst, scene_of, generators=generators(7, 8), settings=settings)
    alone = sample(
        flow, cond_scene[1:], cond_inst[1:], torch.tensor([0, 0]), generators=generators(8), settings=settings
    )
    torch.testing.assert_close(scenes[1:], alone[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(instances[1:], alone[1], atol=1e-5, rtol=0)


def test_the_scene_branch_runs_once_a_velocity_whatever_the_number_of_instances(flow):
    rows = []
    hook = flow.blocks[0].register_forward_hook(lambda module, args, out: rows.append(len(out)))
    settings = SamplingSettings(steps=4, rescale_t=1.0)
    seen = []
    sample(
        flow,
        *conditions([0] * 5, 1),
        generators=generators(0),
        settings=settings,
        progress=lambda done, steps: seen.append((done, steps)),
    )
    hook.remove()
    assert rows == [6] * (4 + 3)  # t = 1, 0.75 and 0.5 are guided
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_without_guidance_a_step_costs_one_velocity(flow):
    rows = []
    hook = flow.blocks[0].register_forward_hook(lambda module, args, out: rows.append(len(out)))
    settings = SamplingSettings(steps=3, cfg_strength=0, cfg_interval=(0, 1))
    sample(flow, *conditions([0], 1), generators=generators(0), settings=settings)
    hook.remove()
    assert len(rows) == 3


def test_one_generator_a_scene_is_required(flow):
    with pytest.raises(ValueError, match="generators"):
        sample(flow, *conditions([0, 1], 2), generators=generators(0))
