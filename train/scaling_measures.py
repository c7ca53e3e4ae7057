"""What the report of a study shows of all that is measured: in which order, under which name, in which unit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from randscene.train.evaluation_tables import paper_columns
from randscene.train.protocols import load_protocol
from randscene.train.scaling_statistics import Interval

_DIGITS = {"loss": 4, "yaw_error_deg": 1}
_PLAIN_DIGITS, _PERCENT_DIGITS = 3, 1
_MOST_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measured column as tables and curves show it. None is ever negative."""

    title: str
    """With its unit."""
    paper: bool = False
    """Whether it is a column of I-Scene's tables."""
    factor: int = 1
    """From the measured value to the one that is shown: 100 for percent."""
    ceiling: float = math.inf
    """No measured value lies above it: 1 for a share."""
    digits: int | None = None
    """After the point; None for what spans orders of magnitude: three digits of the smallest."""

    @property
    def top(self) -> float:
        """`ceiling` in the unit that is shown."""
        return self.factor * self.ceiling

    def digits_of(self, values: Sequence[float]) -> int:
        """Digits after the point for a column of `values`, in the unit that is measured."""
        if self.digits is not None:
            return self.digits
        return _digits(min((abs(self.factor * value) for value in values if value), default=1.0), 3)

    def text(self, interval: Interval, digits: int) -> str:
        """`3.17 ± 0.42`, `3.17 [2.90, 4.01]` if that is not symmetric, or the value alone; in the unit shown."""
        value, low, high = interval.value, interval.low, interval.high
        shown = f"{self.factor * value:.{digits}f}"
        if low is None or high is None:
            return shown
        if math.isclose(high - value, value - low, rel_tol=1e-9, abs_tol=1e-15):
            return f"{shown} ± {self.factor * (high - low) / 2:.{digits}f}"
        return f"{shown} [{self.factor * low:.{digits}f}, {self.factor * high:.{digits}f}]"

    def difference_text(self, interval: Interval) -> str:
        """The same of a difference, with digits enough to tell its ends apart."""
        width = self.factor * ((interval.high or 0.0) - (interval.low or 0.0)) or abs(self.factor * interval.value)
        wanted = _digits(width or 1.0, 3) if self.digits is None else max(self.digits, _digits(width or 1.0, 2))
        return self.text(interval, wanted)


def measures(kind: str) -> dict[str, Measure]:
    """What is shown of a kind, `loss` or a protocol, by column and in the order of the report.

    Of a protocol: CD-S, F-S, CD-O, F-O and IoU-B as it defines them, where instances stand, how many were predicted as
    nothing, and voxel IoU.
    """
    if kind == "loss":
        return {"total": Measure(title="loss", digits=_DIGITS["loss"])}
    shown = {}
    for column in paper_columns(load_protocol(kind)):
        if column.factor == 100:
            shown[column.name] = _share(column.title, paper=True)
        elif column.lower_is_better:
            shown[column.name] = Measure(title=column.title, paper=True)
        else:
            shown[column.name] = Measure(title=column.title, paper=True, ceiling=1.0, digits=_PLAIN_DIGITS)
    return shown | {
        "centre_error": Measure(title="centre", digits=_PLAIN_DIGITS),
        "yaw_error_deg": Measure(title="yaw, degrees", digits=_DIGITS["yaw_error_deg"]),
        "duplicate_rate": _share("duplicates"),
        "missing": _share("missing"),
        "voxel_iou": Measure(title="voxel IoU", ceiling=1.0, digits=_PLAIN_DIGITS),
    }


def measure_of(metric: str) -> Measure | None:
    """How the report shows `KIND/COLUMN`; None if `table.json` alone has it."""
    kind, _, column = metric.partition("/")
    return measures(kind).get(column)


def title(metric: str) -> str:
    """A shown metric's title, with its protocol."""
    kind, found = metric.partition("/")[0], measure_of(metric)
    name = found.title if found else metric
    return name if kind == "loss" else f"{kind} {name}"


def _share(name: str, *, paper: bool = False) -> Measure:
    return Measure(title=f"{name}, %", paper=paper, factor=100, ceiling=1.0, digits=_PERCENT_DIGITS)


def _digits(size: float, figures: int) -> int:
    """Digits after the point that show so many significant figures of `size` > 0."""
    return min(max(figures - 1 - math.floor(math.log10(size)), 0), _MOST_DIGITS)
