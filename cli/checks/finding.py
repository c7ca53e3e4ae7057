"""What a check is told, and what it answers: plain values that travel between processes."""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "problem", "absent"]
"""`warning`: works, but slowly, or not for long. `problem`: what is needed, or installed, does not work.
`absent`: something optional is not here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What every check is told."""

    out: str = "."
    """Folder or URL that a dataset shall be written to; it need not exist."""
    work: str = ""
    """A folder for files that several checks share; it exists, and goes with the run."""
    quick: bool = False
    """Look, but render, start and multiply nothing."""
    device: str = ""
    """For checks of a card: its kind, as Cycles calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check saw."""

    status: Status
    found: str
    """One line for people."""
    cure: str = ""
    """One line that says what to do, a command where there is one."""
    seconds: float | None = None
    """Wall time of the frame, the step or the start that was tried."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For programs; JSON values."""


def ok(found: str, *, seconds: float | None = None, **facts: Any) -> Finding:
    return Finding(status="ok", found=found, seconds=seconds, facts=facts)


def warning(found: str, cure: str, *, seconds: float | None = None, **facts: Any) -> Finding:
    return Finding(status="warning", found=found, cure=cure, seconds=seconds, facts=facts)


def problem(found: str, cure: str, **facts: Any) -> Finding:
    return Finding(status="problem", found=found, cure=cure, facts=facts)


def failed(found: str, cure: str, *, optional: bool) -> Finding:
    """What does not work: a warning where everything else works without it."""
    return warning(found, cure) if optional else problem(found, cure)


def absent(found: str, cure: str = "", **facts: Any) -> Finding:
    return Finding(status="absent", found=found, cure=cure, facts=facts)
