"""The tensors of a run: what a checkpoint stores of the model, its moving average and the optimiser, and back."""

from pathlib import Path

import torch
from torch import Tensor

from randscene.train.checkpoint import load_optimiser, optimiser_tensors, read_tensors
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.state_dict import load_strict

_OPTIMISER = "optimiser"


def run_tensors(
    model: ConditionedFlow, average: ConditionedFlow, optimiser: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    """By file of a checkpoint, then by name."""
    tensors: dict[str, dict[str, Tensor]] = {}
    for suffix, whole in (("", model), ("_ema", average)):
        for name, part in whole.parts().items():
            tensors[f"{name}{suffix}"] = part.state_dict()
    tensors[_OPTIMISER] = optimiser_tensors(model, optimiser)
    return tensors


def restore_run(
    model: ConditionedFlow, average: ConditionedFlow, optimiser: torch.optim.Optimizer, checkpoint: Path
) -> None:
    """Inverse of `run_tensors`, in place.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or of another shape.
    """
    for suffix, whole in (("", model), ("_ema", average)):
        for name, part in whole.parts().items():
            stem = f"{name}{suffix}"
            load_strict(part, read_tensors(checkpoint, stem), str(checkpoint / f"{stem}.safetensors"))
    where = str(checkpoint / f"{_OPTIMISER}.safetensors")
    load_optimiser(model, optimiser, read_tensors(checkpoint, _OPTIMISER), where=where)
