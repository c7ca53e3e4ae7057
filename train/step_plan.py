"""How a step is fitted to a machine: micro-batches, compilation, activation checkpointing, attention kernels."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from randscene.errors import SpecError
from randscene.train.attention_backend import best_backend
from randscene.train.compile_workers import start_compile_workers
from randscene.train.settings import RunSettings
from randscene.train.sparse_structure_flow import SparseStructureFlow

_STATIC_BYTES = 22
"""A trained parameter's: weight, gradient, two moments and average in float32, and the 16-bit copy of autocast."""
_EAGER, _COMPILED = 40, 26
"""Activations that a block keeps for its backward pass, in multiples of tokens x channels (measured on the released
model: 320 and 210 MB a sequence and block in bfloat16)."""
_HEADROOM = 0.88
"""Share of a GPU's memory that the estimate may fill."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What was chosen; a run's `hardware.json` states it."""

    groups: int
    """Groups of a step in each process."""
    groups_at_once: int
    compiled: bool
    checkpointing: str
    attention: str

    def __str__(self) -> str:
        parts = [
            f"{self.groups} group{'s' * (self.groups > 1)} a step and process"
            + (f", {self.groups_at_once} at once" if self.groups_at_once < self.groups else ""),
            "compiled by block" if self.compiled else "not compiled",
            f"activations kept in {_KEPT[self.checkpointing]}",
            f"attention by {_KERNELS.get(self.attention, self.attention)}",
        ]
        return "; ".join(parts)


_KEPT = {"none": "all blocks", "every_other": "every other block", "every_block": "no block"}
_KERNELS = {"default": "PyTorch's choice", "flash": "PyTorch's flash", "flash4": "FlashAttention-4", "cudnn": "cuDNN"}


def plan_step(settings: RunSettings, flow: SparseStructureFlow, device: torch.device, world_size: int) -> StepPlan:
    """Choose for this machine what the settings leave to `auto`.

    Raises
    ------
    SpecError
        If the groups of a step cannot be shared out.
    """
    hardware, total = settings.hardware, settings.data.scenes_per_step
    if total % world_size:
        raise SpecError(
            f"data.scenes_per_step: {total} groups a step cannot be shared by {world_size} processes; start as many as "
            f"divide {total}, or change it"
        )
    groups = total // world_size
    at_once = min(hardware.groups_at_once or groups, groups)
    if groups % at_once:
        raise SpecError(
            f"hardware.groups_at_once: {at_once} does not divide the {groups} groups that a process takes in a step "
            f"(data.scenes_per_step {total}, processes {world_size})"
        )
    half = settings.optimiser.precision == "bfloat16"
    compiled = hardware.compile == "always" or (hardware.compile == "auto" and device.type == "cuda")
    attention: str = hardware.attention
    if attention == "auto":
        attention = best_backend(device, half=half, deterministic=settings.deterministic)
    checkpointing: str = hardware.checkpointing
    if checkpointing == "auto":
        checkpointing = "none"
        if device.type == "cuda":
            sequences = at_once * (1 + settings.data.instances_per_scene)
            memory = torch.cuda.get_device_properties(device).total_memory
            checkpointing = fitting_policy(flow, sequences, memory, compiled=compiled, bytes_each=2 if half else 4)
    return StepPlan(
        groups=groups, groups_at_once=at_once, compiled=compiled, checkpointing=checkpointing, attention=attention
    )


def fitting_policy(flow: SparseStructureFlow, sequences: int, memory: float, *, compiled: bool, bytes_each: int) -> str:
    """The cheapest checkpointing policy that an estimate says will fit.

    Parameters
    ----------
    flow : SparseStructureFlow
    sequences : int
        That go through the model together.
    memory : float
        Of the GPU, bytes.
    compiled : bool
    bytes_each : int
        Of an activation: 2 or 4.
    """
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    token_bytes = flow.pos_emb.numel() * bytes_each  # tokens x channels
    block = sequences * token_bytes * (_COMPILED if compiled else _EAGER)
    static = _STATIC_BYTES * parameters
    for policy, kept in (("none", len(flow.blocks)), ("every_other", (len(flow.blocks) + 1) // 2)):
        inputs = (len(flow.blocks) - kept) * sequences * token_bytes
        if static + kept * block + inputs + (block if policy != "none" else 0) < _HEADROOM * memory:
            return policy
    return "every_block"


def apply_plan(plan: StepPlan, flow: SparseStructureFlow, others: Iterable[nn.Module] = ()) -> None:
    """Set up the flow model for training, and compile `others` where its own blocks are compiled.

    Tensors and their names stay as they are.
    """
    flow.checkpoint_blocks = {
        "none": frozenset[int](),
        "every_other": frozenset(range(1, len(flow.blocks), 2)),
        "every_block": frozenset(range(len(flow.blocks))),
    }[plan.checkpointing]
    if plan.compiled:
        # Gradients are exchanged between blocks. If a block's graph were cut at the exchange's buckets, too, what it
        # keeps would differ from what a checkpointed block computes again, which PyTorch refuses.
        torch._dynamo.config.optimize_ddp = False
        start_compile_workers()
        for block in (*flow.blocks, *others):
            block.compile(dynamic=False)
