"""How a step is fitted to a machine, what it counts as, and which kernels attention runs on."""

import dataclasses
import shutil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from randscene.errors import SpecError
from randscene.train import attention_backend as backends
from randscene.train.attention_backend import BACKENDS, attend, attention_backend, best_backend
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.model_flops import condition_tokens, step_flops
from randscene.train.settings import HardwareSettings, ModelSettings, load_settings, with_overrides
from randscene.train.sparse_structure_flow import SparseStructureFlow
from randscene.train.step_plan import apply_plan, fitting_policy, plan_step

CPU = torch.device("cpu")
GIB = 2**30
SMALL = ModelSettings(
    resolution=4, model_channels=32, cond_channels=48, num_blocks=3, num_heads=2, sca_blocks=(0, 2), patch_size=2
)


def test_operations_are_those_that_pytorch_counts():
    flow = SparseStructureFlow(**dataclasses.asdict(SMALL))
    scenes, instances, tokens = 2, 5, 7
    scene_of = torch.tensor([0, 0, 1, 1, 1])
    x = [torch.randn(count, 8, 4, 4, 4) for count in (scenes, instances)]
    cond = [torch.randn(count, tokens, 48) for count in (scenes, instances)]
    with torch.no_grad(), attention_backend("math"), FlopCounterMode(display=False) as counter:
        flow.grouped(*x, torch.rand(scenes), *cond, scene_of)
    time_embedding = 2 * (scenes + instances) * (256 * 32 + 32 * 32)
    counted = 3 * (counter.get_total_flops() - time_embedding)
    assert step_flops(SMALL, tokens, scenes=scenes, instances=instances) == counted


def test_the_released_model_takes_the_published_number_of_operations():
    settings = load_settings("iscene")
    tokens = condition_tokens(settings.conditioner)
    assert tokens == 1374
    forward = step_flops(settings.model, tokens, scenes=1, instances=0) / 3
    assert forward == pytest.approx(5.2275e12, rel=1e-3)


def test_groups_are_shared_out_evenly_or_refused_with_the_reason():
    flow = SparseStructureFlow(**dataclasses.asdict(SMALL))
    settings = with_overrides(load_settings("mini"), ["data.scenes_per_step=12", "hardware.groups_at_once=2"])
    plan = plan_step(settings, flow, CPU, 3)
    assert (plan.groups, plan.groups_at_once, plan.compiled, plan.checkpointing) == (4, 2, False, "none")
    assert plan.attention == "default"
    with pytest.raises(SpecError, match="12 groups a step cannot be shared by 5 processes"):
        plan_step(settings, flow, CPU, 5)
    with pytest.raises(SpecError, match="2 does not divide the 3 groups"):
        plan_step(settings, flow, CPU, 4)


def test_less_is_kept_where_there_is_less_memory():
    """The released model on 80 and 141 GB: what was measured there fits, and what ran out of memory is not chosen."""
    with torch.device("meta"):
        flow = SparseStructureFlow(**dataclasses.asdict(load_settings("iscene").model))
    flow.pos_emb = torch.empty(4096, 1024, device="meta")
    policy = {
        (sequences, memory): fitting_policy(flow, sequences, memory * GIB, compiled=True, bytes_each=2)
        for sequences in (8, 16, 64)
        for memory in (79, 140)
    }
    assert policy == {
        (8, 79): "none",
        (8, 140): "none",
        (16, 79): "every_other",
        (16, 140): "none",
        (64, 79): "every_block",
        (64, 140): "every_block",
    }


@pytest.mark.parametrize(("policy", "blocks"), [("none", ()), ("every_other", (1,)), ("every_block", (0, 1, 2))])
def test_a_policy_names_the_blocks_that_are_computed_again(policy, blocks):
    flow = SparseStructureFlow(**dataclasses.asdict(SMALL))
    settings = with_overrides(load_settings("mini"), [f"hardware.checkpointing={policy}"])
    apply_plan(plan_step(settings, flow, CPU, 1), flow)
    assert flow.checkpoint_blocks == set(blocks)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_keep_their_names_and_their_results(tmp_path):
    settings = with_overrides(load_settings("mini"), ["hardware.compile=always"])
    flow, plain = (SparseStructureFlow(**dataclasses.asdict(SMALL)) for _ in range(2))
    for model in (flow, plain):
        torch.nn.init.normal_(model.out_layer.weight, generator=torch.Generator().manual_seed(3))
    plan = plan_step(settings, flow, CPU, 1)
    assert plan.compiled and "compiled by block" in str(plan)
    apply_plan(plan, flow)
    assert flow.state_dict().keys() == plain.state_dict().keys()
    x, t, cond = torch.randn(2, 8, 4, 4, 4), torch.rand(2) * 1000, torch.randn(2, 5, 48)
    torch.testing.assert_close(flow(x, t, cond), plain(x, t, cond), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_trained_image_encoder_is_compiled_too_and_keeps_its_names_gradients_and_results():
    settings = with_overrides(load_settings("mini"), ["hardware.compile=always"])
    model, plain = ConditionedFlow(settings), ConditionedFlow(settings)
    apply_plan(plan_step(settings, model.flow, CPU, 1), model.flow, model.trained_encoder_blocks())
    assert model.state_dict().keys() == plain.state_dict().keys()
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    tokens = [one.conditioner(images) for one in (model, plain)]
    torch.testing.assert_close(*tokens, atol=1e-4, rtol=1e-4)
    gradients = [
        torch.autograd.grad(tokens[i].square().sum(), one.conditioner.stem[0].weight)[0]
        for i, one in enumerate((model, plain))
    ]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)
    assert all(block._compiled_call_impl is not None for block in model.conditioner.blocks)
    assert all(block._compiled_call_impl is None for block in model.average().conditioner.blocks)


def test_compiled_blocks_stay_whole_in_data_parallel_training(tmp_path, monkeypatch):
    wide = dataclasses.replace(SMALL, model_channels=192, num_heads=4)  # more than one bucket of gradients a block
    settings = with_overrides(load_settings("mini"), ["hardware.compile=always", "hardware.checkpointing=every_other"])
    graphs: list[int] = []

    def count(graph, inputs):
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **words: compile_with(self, backend=count, **words))
    monkeypatch.setattr(torch._dynamo.config, "optimize_ddp", True)

    def step(flow):
        x, t, cond = torch.randn(2, 8, 4, 4, 4), torch.rand(2) * 1000, torch.randn(2, 5, 48)
        flow(x, t, cond).square().mean().backward()

    seen = []
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for data_parallel in (False, True):
            torch._dynamo.reset()
            graphs.clear()
            flow = SparseStructureFlow(**dataclasses.asdict(wide))
            torch.nn.init.normal_(flow.out_layer.weight, generator=torch.Generator().manual_seed(3))
            apply_plan(plan_step(settings, flow, CPU, 1), flow)
            step(torch.nn.parallel.DistributedDataParallel(flow, bucket_cap_mb=1) if data_parallel else flow)
            seen.append(sorted(graphs))
    finally:
        torch.distributed.destroy_process_group()
        torch._dynamo.reset()
    assert seen[0] and seen[1] == seen[0]


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "flash4"])
def test_every_backend_computes_the_same_attention(name):
    q, k, v = (torch.randn(2, length, 3, 16) for length in (5, 9, 9))
    expected = torch.einsum("bhqk,bkhd->bqhd", (torch.einsum("bqhd,bkhd->bhqk", q, k) / 4).softmax(-1), v)
    with attention_backend(name):
        torch.testing.assert_close(attend(q, k, v), expected)


def test_a_backend_that_is_not_there_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(backends, "flash4_installed", lambda: False)
    with pytest.raises(SpecError, match=r"pip install .*\[flash\].*, or choose flash"), attention_backend("flash4"):
        pass
    with pytest.raises(SpecError, match="attention backend slow: known are default, flash4"), attention_backend("slow"):
        pass
    assert set(BACKENDS) | {"auto"} == set(HardwareSettings.__annotations__["attention"].__args__)


def test_the_fastest_kernels_are_chosen_where_they_are_there_and_may_be_used(monkeypatch):
    gpu = torch.device("cuda")
    for capability, installed, fastest in (((9, 0), True, "flash4"), ((9, 0), False, "flash"), ((8, 0), True, "flash")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None, told=capability: told)
        monkeypatch.setattr(backends, "flash4_installed", lambda installed=installed: installed)
        assert best_backend(gpu, half=True, deterministic=False) == fastest
        assert best_backend(gpu, half=False, deterministic=False) == "flash"
        assert best_backend(gpu, half=True, deterministic=True) == "flash"
    assert best_backend(CPU, half=True, deterministic=False) == "default"


def test_no_kernel_of_cudnn_is_reached_unless_it_is_asked_for(monkeypatch):
    """PyTorch picks it by itself on new GPUs, and its backward pass may return infinite gradients."""
    monkeypatch.setattr(backends, "flash4_installed", lambda: True)
    monkeypatch.setattr(backends, "_flash4", lambda: None)
    assert torch.backends.cuda.cudnn_sdp_enabled()
    for name in ("flash4", "flash", "efficient", "math"):
        with attention_backend(name):
            assert not torch.backends.cuda.cudnn_sdp_enabled()
    with attention_backend("cudnn"):
        assert torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
