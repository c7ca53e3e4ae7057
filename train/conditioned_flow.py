"""The trained whole: flow transformer and image encoder, as one module that training wraps and prediction loads."""

import copy
import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from randscene import seeding
from randscene.errors import CheckpointError
from randscene.train.checkpoint import load_run_settings, read_tensors
from randscene.train.flow_matching import drop_condition
from randscene.train.image_conditioner import MiniConditioner, build_conditioner
from randscene.train.initial_weights import load_initial_flow
from randscene.train.settings import RunSettings
from randscene.train.sparse_structure_flow import SparseStructureFlow
from randscene.train.state_dict import load_strict


class ConditionedFlow(nn.Module):
    """`SparseStructureFlow` with its image encoder.

    Parameters
    ----------
    settings : RunSettings
        `model`, `conditioner` and `seed` decide the shapes and the initial weights.
    flow : SparseStructureFlow, optional
        One that has its weights already; drawn from the seed by default.

    Raises
    ------
    SpecError, CheckpointError
        If the image encoder that the settings name does not fit them or cannot be loaded.
    """

    def __init__(self, settings: RunSettings, flow: SparseStructureFlow | None = None) -> None:
        super().__init__()
        self.conditioner = build_conditioner(settings.conditioner, seeding.integer(settings.seed, "conditioner"))
        if flow is None:
            flow = SparseStructureFlow(**dataclasses.asdict(settings.model))
            flow.reset_parameters(torch.Generator().manual_seed(seeding.integer(settings.seed, "flow")))
        self.flow = flow

    @property
    def frozen_conditioner(self) -> bool:
        """Whether the image encoder is taken as it is published."""
        return bool(getattr(self.conditioner, "frozen", False))

    def parts(self) -> dict[str, nn.Module]:
        """The modules that are trained and that a checkpoint stores, by the name of their file."""
        parts: dict[str, nn.Module] = {"model": self.flow}
        return parts if self.frozen_conditioner else parts | {"conditioner": self.conditioner}

    def trained_encoder_blocks(self) -> list[nn.Module]:
        """The transformer blocks of an image encoder that is trained."""
        return list(self.conditioner.blocks) if isinstance(self.conditioner, MiniConditioner) else []

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


def load_conditioned_flow(checkpoint: Path) -> ConditionedFlow:
    """The averaged model of a checkpoint, for prediction: on the CPU, in evaluation mode, without gradients.

    Parameters
    ----------
    checkpoint : Path
        `RUN/checkpoints/step_...`.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or of another shape.
    """
    model = ConditionedFlow(load_run_settings(run_of(checkpoint)))
    for name, part in model.parts().items():
        stem = f"{name}_ema"
        load_strict(part, read_tensors(checkpoint, stem), str(checkpoint / f"{stem}.safetensors"))
    return model.eval().requires_grad_(False)


def load_published_flow(source: str, settings: RunSettings) -> tuple[ConditionedFlow, str]:
    """The model of published weights with a frozen image encoder, for prediction: as `load_conditioned_flow` gives it.

    Parameters
    ----------
    source : str
        As `load_initial_flow` takes it.
    settings : RunSettings
        `model` and `conditioner` say what the weights are of.

    Returns
    -------
    tuple of ConditionedFlow, str
        The model, and the SHA-256 of the flow's file.

    Raises
    ------
    CheckpointError
        If the weights or the image encoder's cannot be had, or the weights are of another model.
    SpecError
        If the image encoder is not the one that the settings describe.
    """
    # The flow first: a source that is not there shall be named before another file is fetched. Nothing is drawn, since
    # loading fills every tensor or raises.
    with torch.device("meta"):
        flow = SparseStructureFlow(**dataclasses.asdict(settings.model))
    flow = flow.to_empty(device="cpu")
    sha256 = load_initial_flow(flow, source)
    return ConditionedFlow(settings, flow).eval().requires_grad_(False), sha256


def run_of(checkpoint: Path) -> Path:
    """The run folder in which a checkpoint lies.

    Raises
    ------
    CheckpointError
        If it lies elsewhere: a checkpoint does not say its settings itself.
    """
    if checkpoint.parent.name != "checkpoints":
        raise CheckpointError(
            f"{checkpoint} does not lie in the checkpoints folder of a run: give the run, or a folder in there"
        )
    return checkpoint.parent.parent
