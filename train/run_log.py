"""What a run says about itself: `metrics.jsonl`, one line a step, and TensorBoard scalars where it is installed."""

import dataclasses
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randscene.errors import CheckpointError
from randscene.files import explain_os_errors, write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One optimiser step, over all ranks."""

    step: int
    """Steps done after it."""
    loss: float
    loss_scene: float
    """Mean squared error of the scene branch's velocity."""
    loss_instance: float
    grad_norm: float
    """Before clipping."""
    lr: float
    samples_per_s: float
    """Views, all ranks together."""
    data_wait_s: float
    """Time that a rank waited for its batch and built its tensors, mean over ranks."""


class RunLog:
    """Appends to a run's logs; lines after `step` (of a run that died before its next checkpoint) are dropped first.

    Parameters
    ----------
    run : Path
        Run folder.
    step : int
        Steps done so far.

    Raises
    ------
    CheckpointError
        If the existing metrics are not readable.
    RandsceneError
        If the folder cannot be written.
    """

    def __init__(self, run: Path, step: int) -> None:
        path = run / "metrics.jsonl"
        if path.exists():
            write_atomic(path, "".join(line for line in _whole_lines(path) if json.loads(line)["step"] <= step))
        self._path = path
        self._board = _summary_writer(run / "tensorboard", step)

    def write(self, metrics: StepMetrics) -> None:
        """Add one step."""
        values = dataclasses.asdict(metrics)
        with explain_os_errors(self._path), open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if name != "step":
                    self._board.add_scalar(name, value, metrics.step)

    def close(self) -> None:
        """Flush what TensorBoard still holds back."""
        if self._board is not None:
            self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The steps of a run's `metrics.jsonl`, fields as in `StepMetrics`.

    Raises
    ------
    CheckpointError
        If it is missing or not readable.
    """
    path = run / "metrics.jsonl"
    if not path.exists():
        raise CheckpointError(f"{run} has no metrics.jsonl: it is no run, or has not done a step")
    return [json.loads(line) for line in _whole_lines(path)]


def _summary_writer(folder: Path, step: int) -> "SummaryWriter | None":
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def _whole_lines(path: Path) -> list[str]:
    """Lines with their ends; a last line that was cut off by a kill is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    for line in lines:
        try:
            if isinstance(json.loads(line)["step"], int):
                continue
        except (json.JSONDecodeError, KeyError, TypeError):
            pass
        raise CheckpointError(f"{path} is damaged: delete it to go on without the earlier steps' metrics")
    return lines
