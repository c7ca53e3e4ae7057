"""The training loop: the same code alone on a CPU and under torchrun on many GPUs.

A step is a pure function of (weights, settings, data, step number): which samples, which instances, t, noise and
dropped conditions all follow from the run's seed and the samples' positions in the data. Resuming is therefore loading
the last checkpoint and going on counting, on any number of processes that can share out a step's groups.

What a step did is read one step later, so that a GPU never waits for it. A loss that is not finite therefore stops the
run one step late; no checkpoint is written before its step was looked at.
"""

import contextlib
import inspect
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from randscene.errors import CheckpointError, RandsceneError
from randscene.files import write_atomic
from randscene.train.attention_backend import attention_backend
from randscene.train.batch import GroupBatch, GroupDraws, LatentSource
from randscene.train.checkpoint import (
    CheckpointState,
    check_run_folder,
    list_checkpoints,
    read_state,
    save_checkpoint,
)
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.flow_matching import GroupedLoss, grouped_flow_loss
from randscene.train.initial_weights import load_initial_conditioner, load_initial_flow
from randscene.train.loss_by_time import LossByTime
from randscene.train.process_group import (
    ProcessGroup,
    deterministic_kernels,
    joined_process_group,
    stop_on_signals,
)
from randscene.train.run_guard import claimed_run, explained_faults
from randscene.train.run_log import RunLog, StepMetrics
from randscene.train.run_tensors import restore_run, run_tensors
from randscene.train.run_validation import RunValidation
from randscene.train.settings import OptimiserSettings, RunSettings
from randscene.train.step_plan import StepPlan, apply_plan, plan_step
from randscene.train.step_reporter import PendingStep, StepReporter
from randscene.train.training_data import (
    MicroBatch,
    conditioner_facts,
    data_facts,
    micro_batches,
    open_mixture,
    open_validation,
    steps_of,
)

# Nothing in a buffer ever changes, so none is exchanged; newer versions of PyTorch have another word for that.
_SYNC_WORDS = inspect.signature(DistributedDataParallel.__init__).parameters.keys()
_CONSTANT_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _SYNC_WORDS else "broadcast_buffers": False
}


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
    is_main: bool
    """Whether this process is the one that reports."""


def train(
    data: Sequence[str | Path],
    settings: RunSettings,
    out: Path,
    *,
    device: str | None = None,
    started: Callable[[StepPlan, ProcessGroup], None] | None = None,
    progress: Callable[[StepMetrics], None] | None = None,
) -> TrainReport:
    """Train a run up to `settings.optimiser.steps`, beginning or going on with the run folder `out`.

    Parameters
    ----------
    data : sequence of str or Path
        Datasets; a step draws from each by `data.mixture`, or in proportion to its number of samples.
    settings : RunSettings
    out : Path
        Run folder.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.
    started : callable, optional
        Called once when everything is loaded, on the main process, with how a step is fitted to the machine.
    progress : callable, optional
        Called after every step, on the main process, one step late.

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
        If `out` holds another run, was trained on other data, or its newest checkpoint is damaged; if first weights do
        not fit the model.
    RandsceneError
        If the loss, the gradient or the validation loss is not finite, memory runs out or another process of the run
        ends (the last checkpoint stays good), or the disk is full.
    """
    with joined_process_group(device) as group, deterministic_kernels(settings.deterministic):
        check_run_folder(out, settings)
        with explained_faults(out, settings):
            trainer = _Trainer(data, settings, out, group)
            with claimed_run(out, settings, group), attention_backend(trainer.plan.attention):
                if group.is_main:
                    write_atomic(out / "hardware.json", json.dumps(trainer.hardware(), indent=2) + "\n")
                    if started is not None:
                        started(trainer.plan, group)
                return trainer.run(progress)


def learning_rate(settings: OptimiserSettings, step: int) -> float:
    """The rate of the step after `step` done ones."""
    rate = settings.lr * min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    if settings.schedule == "cosine":
        rate *= 0.55 + 0.45 * math.cos(math.pi * min(1.0, step / settings.steps))
    return rate


class _Trainer:
    """One process's part of a run."""

    def __init__(self, data: Sequence[str | Path], settings: RunSettings, out: Path, group: ProcessGroup) -> None:
        mixture = open_mixture(data, settings)
        held_out = open_validation(data, settings)
        self.settings, self.out, self.group = settings, out, group
        self.step = 0
        self.model = ConditionedFlow(settings)
        self.plan = plan_step(settings, self.model.flow, group.device, group.size)
        checkpoints = list_checkpoints(out)
        state = read_state(checkpoints[-1]) if checkpoints else None
        encoder = state.data["encoder"]["sha256"] if state else None
        self.source = LatentSource(settings, sha256=encoder, device=str(group.device))
        self.facts = data_facts(mixture, settings, self.source) | conditioner_facts(self.model)
        if settings.init:
            self.facts["init"] = state.data.get("init") if state else self._begin_from(settings.init)
        if state and state.data != self.facts:
            raise CheckpointError(
                f"{out} was trained on other data ({_difference(state, self.facts)}): give the same datasets, "
                "or choose another --out"
            )
        self.average = self.model.average()
        for place in (self.model, self.average):
            place.to(group.device)
        parts = {name: list(part.parameters()) for name, part in self.model.parts().items()}
        self.parameters: list[Tensor] = [parameter for part in parts.values() for parameter in part]
        self.averaged: list[Tensor] = [
            parameter for part in self.average.parts().values() for parameter in part.parameters()
        ]
        scales = {"conditioner": settings.optimiser.conditioner_lr_scale}
        self.optimiser = torch.optim.AdamW(
            [{"params": part, "lr_scale": scales.get(name, 1.0)} for name, part in parts.items()],
            lr=settings.optimiser.lr,
            betas=settings.optimiser.betas,
            weight_decay=settings.optimiser.weight_decay,
            fused=group.device.type == "cuda",
        )
        if state:
            restore_run(self.model, self.average, self.optimiser, checkpoints[-1])
            self.step = state.step
        apply_plan(self.plan, self.model.flow, self.model.trained_encoder_blocks())
        self.wrapped: nn.Module = self.model
        if group.size > 1:
            self.wrapped = DistributedDataParallel(self.model, gradient_as_bucket_view=True, **_CONSTANT_BUFFERS)
        self.by_time = LossByTime(device=group.device)
        self.validation: RunValidation | None = None
        if held_out is not None:
            self.validation = RunValidation(held_out, settings, self.source, self.average, group)
        self.batches = micro_batches(mixture, settings, self.source, self.plan, group, self.step)

    def _begin_from(self, source: str) -> str:
        """Load the first weights; a run's image encoder comes with its flow where it is trained here, too."""
        sha256 = load_initial_flow(self.model.flow, source)
        if not self.model.frozen_conditioner:
            load_initial_conditioner(self.model.conditioner, source)
        return sha256

    def hardware(self) -> dict[str, object]:
        """What `hardware.json` says of the last start."""
        return {
            "device": self.group.device_name,
            "processes": self.group.size,
            "torch": torch.__version__,
            **asdict(self.plan),
        }

    def run(self, progress: Callable[[StepMetrics], None] | None) -> TrainReport:
        settings, group = self.settings, self.group
        begun, first, stopped = time.monotonic(), self.step, False
        run_log = RunLog(self.out, self.step) if group.is_main else None
        reporter = StepReporter(settings, self.plan, group, run_log, progress)
        pending: PendingStep | None = None
        with stop_on_signals() as stop, contextlib.closing(reporter), steps_of(self.batches) as batches:
            while self.step < settings.optimiser.steps:
                stopped = reporter.stop_asked or (group.size == 1 and bool(stop))
                if stopped:
                    break
                asked = time.monotonic()
                parts = next(batches)
                done = self._update(parts, time.monotonic() - asked, bool(stop))
                self._look(pending, reporter)
                pending = replace(done, seconds=time.monotonic() - asked)
                if self.step % settings.checkpoint_every == 0:
                    self._look(pending, reporter)
                    pending = None
                    self._save(reporter.log)
            self._look(pending, reporter)
            checkpoint = self._save(reporter.log)
        return TrainReport(
            step=self.step,
            steps_made=self.step - first,
            loss=reporter.last_loss,
            seconds=time.monotonic() - begun,
            interrupted=stopped,
            checkpoint=checkpoint,
            is_main=group.is_main,
        )

    def _losses(self, batch: GroupBatch, draws: GroupDraws) -> tuple[GroupedLoss, Tensor, Tensor]:
        """The losses, the groups' t and the instances' groups, on the device."""
        settings, device = self.settings.optimiser, self.group.device
        batch = self.source.encode(batch)
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
        losses = grouped_flow_loss(
            self.wrapped,
            x_scene,
            x_instance,
            noise_scene,
            noise_instance,
            t,
            images,
            keep,
            scene_of,
            half=settings.precision == "bfloat16",
        )
        return losses, t, scene_of

    def _update(self, parts: Sequence[MicroBatch], waited: float, stop: bool) -> PendingStep:
        """One optimiser step on the micro-batches of this process."""
        settings, group = self.settings.optimiser, self.group
        rate = learning_rate(settings, self.step)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = rate * parameters["lr_scale"]
        self.optimiser.zero_grad(set_to_none=True)
        self.by_time.clear()
        for number, (batch, draws) in enumerate(parts):
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else self._without_exchange():
                losses, t, scene_of = self._losses(batch, draws)
                (losses.total(settings.scene_weight) / len(parts)).backward()
            self.by_time.add(t, losses.per_scene, losses.per_instance, scene_of)
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip)
        self.optimiser.step()
        self.step += 1
        if group.is_main:
            self._update_average()
        told = torch.tensor([waited, float(stop)], dtype=torch.float64).to(group.device, non_blocking=True)
        values = torch.cat([norm.detach().double().reshape(1), told, self.by_time.as_vector()])
        group.sum_in_place(values)
        keys = tuple(key for batch, _ in parts for key in batch.keys)
        return PendingStep(step=self.step, values=values, rate=rate, keys=keys)

    def _without_exchange(self) -> contextlib.AbstractContextManager[None]:
        """Gradients of all but the last micro-batch stay in this process."""
        if isinstance(self.wrapped, DistributedDataParallel):
            return self.wrapped.no_sync()
        return contextlib.nullcontext()

    def _look(self, pending: PendingStep | None, reporter: StepReporter) -> None:
        if pending is not None and (broken := reporter.show(pending)):
            # A sound loss with an infinite gradient is more often a kernel's fault than the learning rate's.
            cure = ", or other kernels: hardware.attention=math" if broken == "gradient" else ""
            raise self._not_finite(broken, f"step {pending.step} (samples {', '.join(pending.keys)})", cure)

    def _not_finite(self, what: str, where: str, cure: str = "") -> RandsceneError:
        kept = list_checkpoints(self.out)
        return RandsceneError(
            f"the {what} is not finite at {where}: "
            f"{f'the last good checkpoint is {kept[-1]}' if kept else 'there is no checkpoint yet'}; "
            f"try a smaller optimiser.lr{cure}"
        )

    def _update_average(self) -> None:
        settings = self.settings.optimiser
        decay = settings.ema_decay
        if settings.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.parameters, 1 - decay)

    def _save(self, run_log: RunLog | None) -> Path:
        """The checkpoint of this step, measured; every process must call it."""
        folder = self.out / "checkpoints" / f"step_{self.step:07d}"
        if not self.group.any(folder.exists()):
            validation = self._validate(run_log)
            if self.group.is_main:
                save_checkpoint(
                    self.out,
                    step=self.step,
                    settings=self.settings,
                    data=self.facts,
                    tensors=run_tensors(self.model, self.average, self.optimiser),
                    validation=validation,
                )
        self.group.wait_for_all()
        return folder

    def _validate(self, run_log: RunLog | None) -> float | None:
        """Loss of the averaged weights on the held-out groups."""
        if self.validation is None:
            return None
        total = self.validation.measure(self.step, run_log)
        if not math.isfinite(total):
            raise self._not_finite("validation loss", f"step {self.step} (averaged weights, held-out groups)")
        return total


def _difference(there: CheckpointState, here: dict[str, object]) -> str:
    return ", ".join(name for name in sorted(there.data.keys() | here.keys()) if there.data.get(name) != here.get(name))
