"""The flow transformer computes what the published one computes, and loads its files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from randscene.errors import CheckpointError, SpecError
from randscene.train.sparse_structure_flow import SparseStructureFlow, patchify, position_table, unpatchify
from randscene.train.state_dict import load_strict

DATA = Path(__file__).parent / "data" / "model"
MINI = {
    "resolution": 16,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 128,
    "cond_channels": 128,
    "num_blocks": 6,
    "num_heads": 4,
    "patch_size": 2,
    "qk_rms_norm": True,
    "sca_blocks": (2, 3),
}


def golden(name, **more):
    config = json.loads((DATA / f"{name}.json").read_text())["config"]
    flow = SparseStructureFlow(**config, **more)
    load_strict(flow, load_file(DATA / f"{name}.weights.safetensors"), name)
    return flow.eval().requires_grad_(False), load_file(DATA / f"{name}.io.safetensors")


@pytest.mark.parametrize("name", ["flow_small", "flow_small_p2"])
def test_output_time_embedding_and_every_block_equal_the_reference(name):
    flow, io = golden(name)
    stride = json.loads((DATA / f"{name}.json").read_text())["token_stride_of_h_block"]
    seen = []
    for block in flow.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(out))
    out = flow(io["x"], io["t"], io["cond"])
    torch.testing.assert_close(flow.t_embedder(io["t"]), io["t_emb"], atol=3e-5, rtol=0)
    for index, h in enumerate(seen):
        torch.testing.assert_close(h[:, ::stride], io[f"h_block{index:02d}"], atol=3e-5, rtol=0)
    torch.testing.assert_close(out, io["out"], atol=3e-5, rtol=0)
    torch.testing.assert_close(flow(io["x"], io["t"], io["cond"] * 0), io["out_zero_cond"], atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", ["flow_small", "flow_small_p2"])
def test_float16_torso_equals_the_reference_in_float16(name):
    flow, io = golden(name, use_fp16=True)
    assert flow.blocks[0].self_attn.to_qkv.weight.dtype == torch.float16
    assert flow.input_layer.weight.dtype == flow.blocks[0].norm2.weight.dtype == torch.float32
    out = flow(io["x"], io["t"], io["cond"])
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, io["out_fp16_torso"], atol=2e-2, rtol=0)


def test_position_table_is_the_published_buffer():
    stored = load_file(DATA / "flow_small.weights.safetensors")["pos_emb"]
    torch.testing.assert_close(position_table(8, 64), stored, atol=1e-6, rtol=0)
    table = position_table(16, 1024)
    assert table.shape == (4096, 1024)
    assert (table[:, 1020:] == 0).all()
    np.testing.assert_allclose(table[(3 * 16 + 5) * 16 + 7, [0, 340, 680]], np.sin([3, 5, 7]), atol=1e-6)


def test_names_shapes_and_types_equal_the_published_checkpoint():
    expected = json.loads((DATA / "state_dicts.json").read_text())["ss_flow_img_dit_L_16l8_fp16"]
    with torch.device("meta"):
        flow = SparseStructureFlow(**expected["config"]["args"], sca_blocks=(10, 11, 12, 13, 14))
    types = {torch.float32: "F32", torch.float16: "F16"}
    found = {name: [list(value.shape), types[value.dtype]] for name, value in flow.state_dict().items()}
    assert found == expected["tensors"]
    assert sum(p.numel() for p in flow.parameters()) == expected["n_parameters"]


def test_patches_come_back_where_they_were():
    x = torch.arange(2 * 3 * 4**3, dtype=torch.float32).view(2, 3, 4, 4, 4)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 8, 24)
    assert tokens[0, 1].view(3, 2, 2, 2)[1].equal(x[0, 1, :2, :2, 2:])  # token (0, 0, 1)
    assert unpatchify(tokens, 2, 4).equal(x)


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_tensor_that_differs():
    flow, _ = golden("flow_small")
    state = flow.state_dict()
    for change, message in (
        ({"pos_emb": None}, "pos_emb is missing"),
        ({"extra": torch.zeros(1)}, "extra is not part of the model"),
        ({"out_layer.bias": torch.zeros(3)}, r"out_layer.bias has shape \(3,\)"),
    ):
        broken = {name: value for name, value in (state | change).items() if value is not None}
        with pytest.raises(CheckpointError, match=message):
            load_strict(flow, broken, "here")


@pytest.mark.parametrize(
    "change", [{"pe_mode": "rope"}, {"share_mod": True}, {"sca_blocks": (6,)}, {"num_heads": 3}, {"patch_size": 3}]
)
def test_settings_that_cannot_be_met_are_refused(change):
    with pytest.raises(SpecError):
        SparseStructureFlow(**(MINI | change))


def test_inputs_of_another_shape_are_refused():
    flow, io = golden("flow_small")
    with pytest.raises(ValueError, match="x must be"):
        flow(io["x"][:, :4], io["t"], io["cond"])


def test_fresh_weights_depend_on_the_generator_alone_and_not_on_the_global_stream():
    state = torch.random.get_rng_state()
    a = SparseStructureFlow(**MINI)
    assert torch.random.get_rng_state().equal(state)
    b = SparseStructureFlow(**MINI)
    a.reset_parameters(torch.Generator().manual_seed(3))
    b.reset_parameters(torch.Generator().manual_seed(3))
    assert all(x.equal(y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert all(value.isfinite().all() for value in a.state_dict().values())
    b.reset_parameters(torch.Generator().manual_seed(4))
    assert not a.blocks[0].mlp.mlp[0].weight.equal(b.blocks[0].mlp.mlp[0].weight)


def test_a_fresh_model_predicts_zero_and_learns():
    flow = SparseStructureFlow(**MINI)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 16, 16, 16, generator=generator)
    cond = torch.randn(2, 9, 128, generator=generator)
    t = torch.tensor([300.0, 900.0])
    assert flow(x, t, cond).abs().max() == 0
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = (flow(x, t, cond) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_recomputing_blocks_changes_no_gradient():
    flow, io = golden("flow_small_p2")
    flow.requires_grad_(True)
    gradients = []
    for blocks in ((), (1,), range(len(flow.blocks))):
        flow.checkpoint_blocks = frozenset(blocks)
        flow.zero_grad()
        flow(io["x"], io["t"], io["cond"]).square().mean().backward()
        gradients.append([p.grad.clone() for p in flow.parameters()])
    for kept, *again in zip(*gradients, strict=True):
        for other in again:
            torch.testing.assert_close(kept, other, atol=0, rtol=1e-6)


def test_autocast_runs_the_torso_in_bfloat16_and_the_ends_in_float32():
    flow, io = golden("flow_small")
    seen = []
    flow.blocks[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = flow(io["x"], io["t"], io["cond"])
    assert seen == [torch.bfloat16]
    assert out.dtype == torch.float32
    assert (out - io["out"]).abs().mean() < 0.05
