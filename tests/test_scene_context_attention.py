"""Scene context: equal to the pairwise reference, shared between instances, and one-way."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from randscene.train.scene_context_attention import gather_rows, scene_context_attention
from randscene.train.sparse_structure_flow import SparseStructureFlow

DATA = Path(__file__).parent / "data" / "model"
CONFIG = json.loads((DATA / "sca_small.json").read_text())
PAIRS = torch.tensor([0, 1])


def build(**more):
    flow = SparseStructureFlow(**CONFIG["config"], **({"sca_blocks": CONFIG["sca_blocks"]} | more))
    flow.load_state_dict(load_file(DATA / "flow_small.weights.safetensors"), strict=True)
    return flow.eval()


@pytest.fixture(scope="module")
def io():
    return load_file(DATA / "sca_small.io.safetensors")


def pairs(flow, x, t, cond):
    """The reference's layout: slot 0 the instance, slot 1 its scene."""
    scene, inst = flow.grouped(x[:, 1], x[:, 0], t, cond[:, 1], cond[:, 0], PAIRS)
    return torch.stack([inst, scene], dim=1)


def test_pairs_equal_the_reference(io):
    flow = build().requires_grad_(False)
    torch.testing.assert_close(pairs(flow, io["x"], io["t"], io["cond"]), io["out"], atol=1e-5, rtol=0)


def test_without_scene_context_blocks_each_branch_is_the_plain_model(io):
    flow = build(sca_blocks=()).requires_grad_(False)
    torch.testing.assert_close(pairs(flow, io["x"], io["t"], io["cond"]), io["plain_out"], atol=1e-5, rtol=0)


def test_equal_inputs_give_plain_self_attention(io):
    flow = build().requires_grad_(False)
    x, cond = io["x"][:, :1].expand_as(io["x"]), io["cond"][:, :1].expand_as(io["cond"])
    out = pairs(flow, x, io["t"], cond)
    torch.testing.assert_close(out, io["out_identity"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, 0], io["plain_out"][:, 0], atol=1e-5, rtol=0)


def test_gradients_of_weights_and_inputs_equal_the_reference(io):
    flow = build()
    x = io["x"].clone().requires_grad_()
    loss = (pairs(flow, x, io["t"], io["cond"]) - io["target"]).square().mean()
    loss.backward()
    torch.testing.assert_close(loss, io["loss"][0], atol=1e-5, rtol=1e-5)
    named = dict(flow.named_parameters())
    for name in CONFIG["grad_params"]:
        close_to_largest(named[name].grad, io[f"grad.{name}"])
    close_to_largest(x.grad, io["grad_x"])


def test_an_instance_loss_reaches_the_scene_as_in_the_reference_and_not_when_detached(io):
    for detach in (False, True):
        flow = build(detach_scene_kv=detach)
        x = io["x"].clone().requires_grad_()
        out = pairs(flow, x, io["t"], io["cond"])
        (out[:, 0] - io["target"][:, 0]).square().mean().backward()
        if detach:
            torch.testing.assert_close(out, io["out"], atol=1e-5, rtol=0)
            assert x.grad[:, 1].abs().max() == 0
            assert x.grad[:, 0].abs().max() > 0
        else:
            close_to_largest(x.grad, io["grad_x_instance_loss"])
            assert x.grad[:, 1].abs().max() > 0


def test_a_scene_loss_gives_instances_a_gradient_of_exactly_zero(io):
    flow = build()
    x_inst = io["x"][:, 0].clone().requires_grad_()
    cond_inst = io["cond"][:, 0].clone().requires_grad_()
    scene, _ = flow.grouped(io["x"][:, 1], x_inst, io["t"], io["cond"][:, 1], cond_inst, PAIRS)
    scene.square().mean().backward()
    assert x_inst.grad is not None
    assert x_inst.grad.abs().max() == 0
    assert cond_inst.grad.abs().max() == 0


@pytest.mark.parametrize("scene_of", [[0], [1, 1, 1], [1, 0, 1, 0, 0], []])
def test_any_number_of_instances_shares_the_scene_branch_and_equals_separate_pairs(io, scene_of):
    flow = build().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    count = len(scene_of)
    x_inst = torch.randn(count, *io["x"].shape[2:], generator=generator)
    cond_inst = torch.randn(count, *io["cond"].shape[2:], generator=generator)
    x_scene, cond_scene, t = io["x"][:, 1], io["cond"][:, 1], io["t"]
    rows = torch.tensor(scene_of, dtype=torch.int64)
    v_scene, v_inst = flow.grouped(x_scene, x_inst, t, cond_scene, cond_inst, rows)
    assert v_inst.shape == x_inst.shape
    torch.testing.assert_close(v_scene, flow(x_scene, t, cond_scene), atol=1e-5, rtol=0)
    for i, s in enumerate(scene_of):
        one = slice(s, s + 1)
        _, alone = flow.grouped(
            x_scene[one], x_inst[i : i + 1], t[one], cond_scene[one], cond_inst[i : i + 1], torch.zeros(1).long()
        )
        torch.testing.assert_close(v_inst[i : i + 1], alone, atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(scene_of=st.lists(st.integers(0, 2), min_size=1, max_size=6), seed=st.integers(0, 999))
def test_instances_attend_to_their_own_scene_and_no_other(scene_of, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor(scene_of)
    scene = tuple(torch.randn(3, 4, 2, 5, generator=generator) for _ in range(3))
    inst = tuple(torch.randn(len(rows), 4, 2, 5, generator=generator) for _ in range(3))
    _, out = scene_context_attention(scene, inst, rows)
    changed = tuple(tensor.clone() for tensor in scene)
    changed[1][scene_of[0]] += 1
    changed[2][scene_of[0]] -= 1
    _, other = scene_context_attention(changed, inst, rows)
    same = (out == other).flatten(1).all(1)
    assert same.tolist() == [s != scene_of[0] for s in scene_of]


@settings(max_examples=20, deadline=None)
@given(index=st.lists(st.integers(0, 3), max_size=7), seed=st.integers(0, 999))
def test_gathering_rows_has_the_gradient_of_indexing(index, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(len(index), 2, 3, generator=generator, dtype=torch.float64)
    a, b = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    picked = torch.tensor(index, dtype=torch.int64)
    gathered = gather_rows(a, picked)
    assert gathered.equal(b[picked])
    (gathered * weight).sum().backward()
    (b[picked] * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_scene_of_must_be_rows_of_the_batch(io):
    flow = build()
    x, t, cond = io["x"], io["t"], io["cond"]
    for wrong in (PAIRS[:1], PAIRS.float(), PAIRS.view(1, 2)):
        with pytest.raises(ValueError):
            flow.grouped(x[:, 1], x[:, 0], t, cond[:, 1], cond[:, 0], wrong)


def close_to_largest(found, expected, tolerance=1e-5):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
