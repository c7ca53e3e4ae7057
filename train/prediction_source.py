"""What predicts: a run, one of its checkpoints, or published weights, each with all the networks that it needs.

* a run folder: its newest checkpoint, or the best one, by its validation loss;
* a checkpoint, in its run's folder, which holds the settings;
* everything else that `load_initial_flow` takes is published weights. They say nothing of how they are used, so a
  preset does: `iscene` by default. Their image encoder is frozen and comes from `conditioner.source`, their decoder
  belongs to `data.encoder`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from randscene.canonical_json import digest
from randscene.errors import CheckpointError, SpecError
from randscene.train.checkpoint import (
    best_checkpoint,
    checkpoint_sha256,
    latest_checkpoint,
    load_run_settings,
    read_state,
)
from randscene.train.conditioned_flow import ConditionedFlow, load_conditioned_flow, load_published_flow, run_of
from randscene.train.published import refuse_folder_of_runs, refuse_mistyped_run
from randscene.train.settings import RunSettings, load_settings, with_overrides
from randscene.train.structure_encoder import MINI, LoadedDecoder, load_decoder

PUBLISHED_PRESET = "iscene"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """Everything that turns images into occupancy, ready to run."""

    flow: ConditionedFlow
    """On the CPU, in evaluation mode, without gradients."""
    decoder: LoadedDecoder
    """On the device that was asked for."""
    sha256: str
    """Of a checkpoint (`checkpoint_sha256`), or of the published file of the flow."""
    step: int | None
    """Steps that a checkpoint was trained; None for published weights."""
    about: dict[str, Any]
    """What was loaded from where, as JSON values: `prediction.json` holds it."""
    identity: str
    """Equal for equal networks, wherever their files lie."""


@dataclass(frozen=True, kw_only=True)
class PredictionSource:
    """Weights and how to use them, not loaded yet."""

    name: str
    """As it was given."""
    settings: RunSettings
    checkpoint: Path | None
    """None for published weights."""

    def load(self, device: str = "cpu") -> LoadedModel:
        """Read the flow, its image encoder and its decoder.

        Parameters
        ----------
        device : str
            Where the decoder shall run.

        Raises
        ------
        CheckpointError
            If a file is missing, damaged, cannot be fetched or does not fit, or if the image encoder or the decoder is
            not the one that the checkpoint was trained with.
        SpecError
            If the image encoder is of other sizes than the settings say.
        """
        if self.checkpoint is None:
            flow, sha256 = load_published_flow(self.name, self.settings)
            step = None
        else:
            flow, sha256 = load_conditioned_flow(self.checkpoint), checkpoint_sha256(self.checkpoint)
            step = read_state(self.checkpoint).step
        decoder = load_decoder(self.settings.data.encoder, device)
        conditioner = {
            "kind": self.settings.conditioner.kind,
            "source": self.settings.conditioner.source if flow.frozen_conditioner else None,
            "sha256": getattr(flow.conditioner, "weights_sha256", None),
            "image_size": self.settings.conditioner.image_size,
        }
        if self.checkpoint is not None:
            self._check(self.checkpoint, flow, decoder)
        about = {
            "name": self.name,
            "kind": "published" if self.checkpoint is None else "checkpoint",
            "sha256": sha256,
            "model": self.settings.to_dict()["model"],
            "conditioner": conditioner,
            "decoder": {"name": decoder.name, "sha256": decoder.sha256},
            "precision": self.settings.optimiser.precision,
        }
        return LoadedModel(
            flow=flow,
            decoder=decoder,
            sha256=sha256,
            step=step,
            about=about,
            identity=sha256 if self.checkpoint is not None else self._published_identity(about),
        )

    def _check(self, checkpoint: Path, flow: ConditionedFlow, decoder: LoadedDecoder) -> None:
        """Refuse other networks around the flow than those it was trained with."""
        facts = read_state(checkpoint).data
        encoder = facts.get("encoder")
        if not isinstance(encoder, dict) or "sha256" not in encoder:
            raise CheckpointError(
                f"{checkpoint}/state.json does not say which encoder it was trained with: delete {checkpoint} to use "
                "an earlier one"
            )
        # The mini encoder and decoder share one file; the published ones do not, and only their name can be compared.
        if decoder.name == MINI and decoder.sha256 != encoder["sha256"]:
            raise CheckpointError(
                f"{checkpoint} was trained on latents of another mini encoder than this version's: train it again"
            )
        if flow.frozen_conditioner and facts.get("conditioner") != getattr(flow.conditioner, "weights_sha256", None):
            raise CheckpointError(
                f"{checkpoint} was trained with other weights of the image encoder than those in "
                f"{self.settings.conditioner.source} now: put the former ones back"
            )

    def _published_identity(self, about: dict[str, Any]) -> str:
        """The weights do not say how they are used, so that the settings count, too; where files lie does not."""
        conditioner = asdict(self.settings.conditioner) | {"sha256": about["conditioner"]["sha256"]}
        if conditioner["sha256"] is not None:
            del conditioner["source"]
        seed = self.settings.seed if conditioner["sha256"] is None else None
        decoder = about["decoder"]["sha256"]
        parts = {name: about[name] for name in ("sha256", "model", "precision")}
        return digest(parts | {"conditioner": conditioner, "seed": seed, "decoder": decoder})


def find_source(
    source: str | Path, *, best: bool = False, preset: str | None = None, overrides: Sequence[str] = ()
) -> PredictionSource:
    """What `source` names; nothing but settings is read yet.

    Parameters
    ----------
    source : str or Path
        See the module's first lines.
    best : bool
        Of a run, the checkpoint of the lowest validation loss instead of the newest.
    preset : str, optional
        Of published weights, whose settings they are used with: a preset's name or a YAML file.
    overrides : sequence of str
        Single fields of those settings, each `section.field=value`.

    Raises
    ------
    CheckpointError
        If a run has no such checkpoint, a checkpoint does not lie in a run, or a path is mistyped or that of the folder
        around a run or its checkpoints.
    SpecError
        If the settings are not valid, or an option does not belong to this kind of source.
    """
    name, path = str(source), Path(source)
    is_checkpoint = (path / "state.json").is_file()
    is_run = not is_checkpoint and (path / "settings.json").is_file()
    if best and not is_run:
        raise SpecError(f"--best chooses among the checkpoints of a run, and {name} is not a run folder: leave it out")
    if is_run or is_checkpoint:
        if preset is not None or overrides:
            raise SpecError(
                f"--preset and --set say how published weights are used; {name} has the settings that it was trained "
                "with: leave them out"
            )
        if is_checkpoint:
            checkpoint = path.resolve()
        else:
            checkpoint = best_checkpoint(path) if best else latest_checkpoint(path)
        return PredictionSource(name=name, settings=load_run_settings(run_of(checkpoint)), checkpoint=checkpoint)
    refuse_mistyped_run(name)
    refuse_folder_of_runs(name)
    settings = with_overrides(load_settings(preset or PUBLISHED_PRESET), overrides)
    if settings.conditioner.kind != "dinov2":
        raise SpecError(
            f"conditioner.kind: published weights are used with the frozen dinov2; {settings.conditioner.kind} is "
            "trained with its flow, and is only in a run"
        )
    return PredictionSource(name=name, settings=settings, checkpoint=None)
