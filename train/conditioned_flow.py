"""The trained whole: flow transformer and image encoder, as one module that training wraps and prediction loads."""

import copy
import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from randscene import seeding
from randscene.errors import CheckpointError
from randscene.train.checkpoint import load_module, load_run_settings, read_tensors
from randscene.train.flow_matching import drop_condition
from randscene.train.image_conditioner import build_conditioner
from randscene.train.settings import RunSettings
from randscene.train.sparse_structure_flow import SparseStructureFlow


class ConditionedFlow(nn.Module):
    """`SparseStructureFlow` with its image encoder.

    Parameters
    ----------
    settings : RunSettings
        `model`, `conditioner` and `seed` decide the shapes and the initial weights.

    Raises
    ------
    SpecError, CheckpointError
        If the image encoder that the settings name does not fit them or cannot be loaded.
    """

    def __init__(self, settings: RunSettings) -> None:
        super().__init__()
        self.conditioner = build_conditioner(settings.conditioner, seeding.integer(settings.seed, "conditioner"))
        self.flow = SparseStructureFlow(**dataclasses.asdict(settings.model))
        self.flow.reset_parameters(torch.Generator().manual_seed(seeding.integer(settings.seed, "flow")))

    @property
    def frozen_conditioner(self) -> bool:
        """Whether the image encoder is taken as it is published."""
        return bool(getattr(self.conditioner, "frozen", False))

    def parts(self) -> dict[str, nn.Module]:
        """The modules that are trained and that a checkpoint stores, by the name of their file."""
        parts: dict[str, nn.Module] = {"model": self.flow}
        return parts if self.frozen_conditioner else parts | {"conditioner": self.conditioner}

    def average(self) -> "ConditionedFlow":
        """A copy without gradients, for a moving average; a frozen encoder is shared, not copied."""
        shared = {id(self.conditioner): self.conditioner} if self.frozen_conditioner else {}
        return copy.deepcopy(self, shared).requires_grad_(False)

    def forward(
        self,
        x_scene: Tensor,
        x_instance: Tensor,
        t: Tensor,
        images: Tensor,
        keep: Tensor,
        scene_of: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocities of noised groups.

        Parameters
        ----------
        x_scene, x_instance : (S, 8, 16, 16, 16), (M, 8, 16, 16, 16) float
        t : (S,) float
            In [0, 1]; the instances of a group share it.
        images : (S + M, 3, size, size) float or uint8
            Scenes first.
        keep : (S,) bool
            False where a group is trained without its images: all its condition tokens are zero then.
        scene_of : (M,) int64

        Returns
        -------
        tuple of Tensor
            v_scene and v_instance, shaped as the inputs.
        """
        tokens, scenes = self.conditioner(images), len(x_scene)
        cond_scene, cond_instance = drop_condition(tokens[:scenes], tokens[scenes:], keep, scene_of)
        v_scene, v_instance = self.flow.grouped(x_scene, x_instance, t * 1000, cond_scene, cond_instance, scene_of)
        return v_scene, v_instance


def load_conditioned_flow(checkpoint: Path, *, averaged: bool = True) -> ConditionedFlow:
    """The model of a checkpoint, for prediction: on the CPU, in evaluation mode, without gradients.

    Parameters
    ----------
    checkpoint : Path
        `RUN/checkpoints/step_...`.
    averaged : bool
        The moving average of the weights (as released models are), not the last ones.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or of another shape.
    """
    if checkpoint.parent.name != "checkpoints":
        raise CheckpointError(f"{checkpoint} does not lie in the checkpoints folder of a run")
    model = ConditionedFlow(load_run_settings(checkpoint.parent.parent))
    for name, part in model.parts().items():
        stem = f"{name}_ema" if averaged else name
        load_module(part, read_tensors(checkpoint, stem), where=str(checkpoint / f"{stem}.safetensors"))
    return model.eval().requires_grad_(False)
