"""The training loop: the same code alone on a CPU and under torchrun on many GPUs.

A step is a pure function of (weights, settings, data, step number): which samples, which instances, t, noise and
dropped conditions all follow from the run's seed and the samples' positions in the data. Resuming is therefore loading
the last checkpoint and going on counting.
"""

import copy
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from randscene import seeding
from randscene.errors import CheckpointError, DatasetError, RandsceneError
from randscene.shards import Dataset, Mixture, open_dataset, torch_loader
from randscene.shards.latent_sidecar import MEMBER as LATENTS
from randscene.shards.latent_sidecar import latent_sets
from randscene.shards.store import open_store
from randscene.shards.torch_loading import positions_of
from randscene.train.batch import GroupBatch, LatentSource, build_batch, group_draws
from randscene.train.checkpoint import (
    check_run_folder,
    list_checkpoints,
    load_module,
    load_optimiser,
    open_run,
    optimiser_tensors,
    read_state,
    read_tensors,
    save_checkpoint,
)
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.flow_matching import GroupedLoss, diffuse, grouped_loss, velocity_target
from randscene.train.process_group import (
    ProcessGroup,
    deterministic_kernels,
    joined_process_group,
    stop_on_signals,
)
from randscene.train.run_log import RunLog, StepMetrics
from randscene.train.settings import OptimiserSettings, RunSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a call of `train` ended."""

    step: int
    """Steps done in the whole run."""
    steps_made: int
    """Steps done by this call."""
    loss: float | None
    """Of the last step; None if no step was made."""
    seconds: float
    interrupted: bool
    """Whether SIGINT or SIGTERM ended it before the last step."""
    checkpoint: Path
    """The newest checkpoint."""


def train(
    data: Sequence[str | Path],
    settings: RunSettings,
    out: Path,
    *,
    device: str | None = None,
    progress: Callable[[StepMetrics], None] | None = None,
) -> TrainReport:
    """Train a run up to `settings.optimiser.steps`, beginning or going on with the run folder `out`.

    Parameters
    ----------
    data : sequence of str or Path
        Datasets; a step draws from each in proportion to its number of samples.
    settings : RunSettings
    out : Path
        Run folder.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.
    progress : callable, optional
        Called after every step, on the main process.

    Returns
    -------
    TrainReport

    Raises
    ------
    SpecError
        If the settings ask for what this version or machine cannot do.
    DatasetError
        If a dataset is missing, broken, or of another frame or encoder than the run's.
    CheckpointError
        If `out` holds another run, was trained on other data, or its newest checkpoint is damaged.
    RandsceneError
        If the loss or the gradient is not finite (the last checkpoint stays good), or the disk is full.
    """
    with joined_process_group(device) as group, deterministic_kernels(settings.deterministic):
        check_run_folder(out, settings)
        trainer = _Trainer(_mixture(data, settings), settings, out, group)
        if group.is_main:
            open_run(out, settings)
        return trainer.run(progress)


def learning_rate(settings: OptimiserSettings, step: int) -> float:
    """The rate of the step after `step` done ones."""
    rate = settings.lr * min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    if settings.schedule == "cosine":
        rate *= 0.55 + 0.45 * math.cos(math.pi * min(1.0, step / settings.steps))
    return rate


class _Trainer:
    """One process's part of a run."""

    def __init__(self, mixture: Mixture, settings: RunSettings, out: Path, group: ProcessGroup) -> None:
        self.mixture, self.settings, self.out, self.group = mixture, settings, out, group
        self.step = 0
        self.model = ConditionedFlow(settings)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        checkpoints = list_checkpoints(out)
        state = read_state(checkpoints[-1]) if checkpoints else None
        encoder = state.data["encoder"]["sha256"] if state else None
        self.source = LatentSource(settings, sha256=encoder, device=str(group.device))
        self.facts = _data_facts(mixture, settings, self.source)
        if state and state.data != self.facts:
            raise CheckpointError(
                f"{out} was trained on other data ({_difference(state.data, self.facts)}): give the same datasets, "
                "or choose another --out"
            )
        for place in (self.model, self.average):
            place.to(group.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.optimiser.lr,
            betas=settings.optimiser.betas,
            weight_decay=settings.optimiser.weight_decay,
            fused=group.device.type == "cuda",
        )
        if state:
            self._restore(checkpoints[-1])
        self.wrapped: nn.Module = self.model
        if group.size > 1:
            self.wrapped = DistributedDataParallel(self.model)

    def run(self, progress: Callable[[StepMetrics], None] | None) -> TrainReport:
        settings, group = self.settings, self.group
        begun, first, last, stopped = time.monotonic(), self.step, None, False
        run_log = RunLog(self.out, self.step) if group.is_main else None
        batches = torch_loader(
            self.mixture,
            step=self.step,
            steps=max(settings.optimiser.steps - self.step, 0),
            batch_size=settings.data.scenes_per_step,
            rank=group.rank,
            world_size=group.size,
            num_workers=settings.data.loader_workers,
        )
        with stop_on_signals() as stop:
            samples_of = iter(batches)
            while self.step < settings.optimiser.steps:
                # Before a batch is asked for: a signal to the whole job has ended the loader's workers, too.
                stopped = group.sum([float(bool(stop))])[0] > 0
                if stopped:
                    break
                step_begun = time.monotonic()
                batch = self._batch(next(samples_of))
                waited = time.monotonic() - step_begun
                scene, instance, norm, rate, waited = self._update(batch, waited)
                if group.is_main:
                    assert run_log is not None
                    last = StepMetrics(
                        step=self.step,
                        loss=settings.optimiser.scene_weight * scene + instance,
                        loss_scene=scene,
                        loss_instance=instance,
                        grad_norm=norm,
                        lr=rate,
                        samples_per_s=settings.data.scenes_per_step * group.size / (time.monotonic() - step_begun),
                        data_wait_s=waited,
                    )
                    run_log.write(last)
                    if progress is not None:
                        progress(last)
                if self.step % settings.checkpoint_every == 0:
                    self._save()
            checkpoint = self._save()
        if run_log is not None:
            run_log.close()
        return TrainReport(
            step=self.step,
            steps_made=self.step - first,
            loss=last.loss if last else None,
            seconds=time.monotonic() - begun,
            interrupted=stopped,
            checkpoint=checkpoint,
        )

    def _batch(self, samples: list[Any]) -> GroupBatch:
        place = {"batch_size": len(samples), "rank": self.group.rank, "world_size": self.group.size}
        return build_batch(samples, self.settings, self.source, positions=positions_of(self.step, **place))

    def _losses(self, batch: GroupBatch) -> GroupedLoss:
        settings, device = self.settings.optimiser, self.group.device
        draws = group_draws(self.settings, batch)
        x_scene, x_instance, noise_scene, noise_instance, t, keep, images, scene_of = (
            tensor.to(device, non_blocking=True)
            for tensor in (
                batch.scene_latents,
                batch.instance_latents,
                draws.noise_scene,
                draws.noise_instance,
                draws.t,
                draws.keep,
                batch.images,
                batch.scene_of,
            )
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            v_scene, v_instance = self.wrapped(
                diffuse(x_scene, noise_scene, t),
                diffuse(x_instance, noise_instance, t[scene_of]),
                t,
                images,
                keep,
                scene_of,
            )
        return grouped_loss(
            v_scene, v_instance, velocity_target(x_scene, noise_scene), velocity_target(x_instance, noise_instance)
        )

    def _update(self, batch: GroupBatch, waited: float) -> tuple[float, float, float, float, float]:
        """One optimiser step: loss of the scenes and instances, gradient norm, rate, wait; means over ranks."""
        settings, group = self.settings.optimiser, self.group
        rate = learning_rate(settings, self.step)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        losses = self._losses(batch)
        losses.total(settings.scene_weight).backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        values = [losses.scene.item(), losses.instance.item(), norm.item(), waited]
        mean = [value / group.size for value in group.sum(values)]
        if not all(map(math.isfinite, mean)):
            raise RandsceneError(self._not_finite(batch))
        self.optimiser.step()
        self.step += 1
        if group.is_main:
            self._update_average()
        return mean[0], mean[1], mean[2], rate, mean[3]

    def _not_finite(self, batch: GroupBatch) -> str:
        kept = list_checkpoints(self.out)
        return (
            f"the loss or gradient is not finite at step {self.step + 1} (samples {', '.join(batch.keys)}): "
            f"{f'the last good checkpoint is {kept[-1]}' if kept else 'there is no checkpoint yet'}; "
            "try a smaller optimiser.lr"
        )

    def _update_average(self) -> None:
        settings = self.settings.optimiser
        decay = settings.ema_decay
        if settings.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _save(self) -> Path:
        """The checkpoint of this step; every process must call it."""
        folder = self.out / "checkpoints" / f"step_{self.step:07d}"
        if self.group.is_main:
            tensors: dict[str, dict[str, Tensor]] = {}
            for name, part in self.model.parts().items():
                tensors[name] = part.state_dict()
            for name, part in self.average.parts().items():
                tensors[f"{name}_ema"] = part.state_dict()
            tensors["optimiser"] = optimiser_tensors(self.model, self.optimiser)
            save_checkpoint(self.out, step=self.step, settings=self.settings, data=self.facts, tensors=tensors)
        self.group.wait_for_all()
        return folder

    def _restore(self, checkpoint: Path) -> None:
        for suffix, model in (("", self.model), ("_ema", self.average)):
            for name, part in model.parts().items():
                stem = f"{name}{suffix}"
                load_module(part, read_tensors(checkpoint, stem), where=str(checkpoint / f"{stem}.safetensors"))
        stem = "optimiser"
        where = str(checkpoint / f"{stem}.safetensors")
        load_optimiser(self.model, self.optimiser, read_tensors(checkpoint, stem), where=where)
        self.step = read_state(checkpoint).step


def _mixture(data: Sequence[str | Path], settings: RunSettings) -> Mixture:
    """The datasets, each weighted by its number of samples."""
    members: dict[str, Any] = {}
    for url in data:
        dataset = _open(url, settings)
        name = str(dataset.info["name"])
        if any(dataset.info["fingerprint"] == other.info["fingerprint"] for other, _ in members.values()):
            raise DatasetError(f"{url} is given twice, or is a copy of another one of the datasets: leave it out")
        unique = next(
            n for n in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))) if n not in members
        )
        members[unique] = (dataset, len(dataset))
    return Mixture(members, seed=seeding.integer(settings.seed, "data"))


def _open(url: str | Path, settings: RunSettings) -> Dataset:
    """The run's split, with latents from beside its shards where it has them of the run's encoder and none inside."""
    dataset = open_dataset(url, split=settings.data.split)
    inside = LATENTS in dataset.shards[0].index.members
    beside = [] if inside else [item.name for item in latent_sets(open_store(url))]
    if settings.data.encoder not in beside:
        return dataset
    return open_dataset(url, split=settings.data.split, latents=settings.data.encoder)


def _data_facts(mixture: Mixture, settings: RunSettings, source: LatentSource) -> dict[str, Any]:
    """What of the data a run depends on; looks at one sample of each dataset and refuses what does not fit."""
    for name in mixture.names:
        sample = mixture.datasets[name][0]
        source.check(sample.meta, has_latents=sample.latents is not None, where=f"{name}, sample {sample.key}")
    return {
        "frame": settings.data.frame,
        "encoder": {"name": settings.data.encoder, "sha256": source.encoder_sha256},
        "datasets": {
            name: {"fingerprint": dataset.info["fingerprint"], "samples": len(dataset)}
            for name, dataset in mixture.datasets.items()
        },
    }


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    return ", ".join(name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name))
