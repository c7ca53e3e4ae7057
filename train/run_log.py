"""What a run says about itself: `metrics.jsonl`, one line a step, `validation.jsonl`, one a checkpoint, pictures, and
the same in TensorBoard where it is installed."""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL import Image

from randscene.errors import CheckpointError
from randscene.files import explain_os_errors, write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"


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
    """Time that a rank waited for its batch, mean over ranks."""
    step_s: float
    """Of this process's clock; the first two of a call also compile."""
    model_tflops_per_s: float
    """Of one rank; see `model_flops`."""


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
        self._run = run
        for path in (run / METRICS, run / VALIDATION):
            if path.exists():
                write_atomic(path, "".join(line for line in _whole_lines(path) if json.loads(line)["step"] <= step))
        self._board = _summary_writer(run / "tensorboard", step)

    def write(self, metrics: StepMetrics, by_time: Mapping[str, float]) -> None:
        """Add one step; `by_time` are its losses in parts of t (`LossByTime`), which only TensorBoard shows."""
        values = dataclasses.asdict(metrics)
        self._append(METRICS, values)
        self._show({name: value for name, value in values.items() if name != "step"} | dict(by_time), metrics.step)

    def write_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Add what was measured at a checkpoint; a step that is there already is left as it is."""
        path = self._run / VALIDATION
        if path.exists() and any(json.loads(line)["step"] == step for line in _whole_lines(path)):
            return
        self._append(VALIDATION, {"step": step, **values})
        self._show({f"validation/{name}": value for name, value in values.items()}, step)

    def write_picture(self, step: int, sheet: NDArray[Any]) -> None:
        """Keep a picture (H, W, 3) uint8 of what the model generates, as `pictures/step_0000300.png`."""
        path = self._run / "pictures" / f"step_{step:07d}.png"
        with explain_os_errors(path):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(sheet).save(path)
        if self._board is not None:
            self._board.add_image("generated", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flush what TensorBoard still holds back."""
        if self._board is not None:
            self._board.close()

    def _append(self, name: str, values: Mapping[str, Any]) -> None:
        path = self._run / name
        with explain_os_errors(path), open(path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def _show(self, values: Mapping[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The steps of a run's `metrics.jsonl`, fields as in `StepMetrics`.

    Raises
    ------
    CheckpointError
        If it is missing or not readable.
    """
    path = run / METRICS
    if not path.exists():
        raise CheckpointError(f"{run} has no {METRICS}: it is no run, or has not done a step")
    return [json.loads(line) for line in _whole_lines(path)]


def read_validation(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `validation.jsonl`: step, loss, loss_scene, loss_instance, and the losses in parts of t.

    Raises
    ------
    CheckpointError
        If it is not readable.
    """
    path = run / VALIDATION
    return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []


def _summary_writer(folder: Path, step: int) -> "SummaryWriter | None":
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file, where TensorBoard's folder belongs: move it away")
    return SummaryWriter(str(folder), purge_step=step + 1)


def _whole_lines(path: Path) -> list[str]:
    """Lines with their ends; a last line that was cut off by a kill is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        whole = all(isinstance(json.loads(line)["step"], int) for line in lines)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} is damaged: delete it to go on without the earlier steps' metrics")
    return lines
