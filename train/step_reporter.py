"""Reads what training steps did, one step late, and tells it: to the run's log and to whoever watches."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from randscene.train.loss_by_time import LossByTime, branch_means
from randscene.train.model_flops import condition_tokens, step_flops
from randscene.train.process_group import ProcessGroup
from randscene.train.run_log import RunLog, StepMetrics
from randscene.train.settings import RunSettings
from randscene.train.step_plan import StepPlan


@dataclass(frozen=True, kw_only=True)
class PendingStep:
    """A step that was computed and not looked at yet."""

    step: int
    """Steps done after it."""
    values: Tensor
    """(3 + 4 bins,) float64, sums over processes: gradient norm, seconds waited, wishes to stop, losses by time."""
    rate: float
    keys: tuple[str, ...]
    """This process's samples."""
    seconds: float = 0.0
    """From asking for its batch until the step before it was done and looked at: with a GPU at work all the time, as
    long as a step."""


class StepReporter:
    """Reads what steps did, one after another, and tells it."""

    def __init__(
        self,
        settings: RunSettings,
        plan: StepPlan,
        group: ProcessGroup,
        run_log: RunLog | None,
        progress: Callable[[StepMetrics], None] | None,
    ) -> None:
        self.log = run_log
        self.last_loss: float | None = None
        self.stop_asked = False
        """Whether any process was asked to stop."""
        self._settings, self._group, self._progress = settings, group, progress
        scenes = plan.groups
        tokens = condition_tokens(settings.conditioner)
        instances = scenes * settings.data.instances_per_scene
        self._flops = step_flops(settings.model, tokens, scenes=scenes, instances=instances)

    def show(self, pending: PendingStep) -> str:
        """Wait for a step and tell it, unless it is not finite: then `loss` or, if the loss is, `gradient`; else ""."""
        norm, waited, stop, *by_time = pending.values.tolist()
        scene, instance = branch_means(by_time)
        processes = self._group.size
        if not (math.isfinite(scene) and math.isfinite(instance)):
            return "loss"
        if not math.isfinite(norm):
            return "gradient"
        self.stop_asked = stop > 0
        seconds = pending.seconds
        self.last_loss = self._settings.optimiser.scene_weight * scene + instance
        if self.log is not None:
            metrics = StepMetrics(
                step=pending.step,
                loss=self.last_loss,
                loss_scene=scene,
                loss_instance=instance,
                grad_norm=norm / processes,
                lr=pending.rate,
                samples_per_s=self._settings.data.scenes_per_step / seconds,
                data_wait_s=waited / processes,
                step_s=seconds,
                model_tflops_per_s=self._flops / seconds / 1e12,
            )
            self.log.write(metrics, LossByTime.from_vector(by_time))
            if self._progress is not None:
                self._progress(metrics)
        return ""

    def close(self) -> None:
        if self.log is not None:
            self.log.close()
