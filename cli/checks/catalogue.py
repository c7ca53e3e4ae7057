"""The list of checks, in the order in which they are made. Imports none of them: each is loaded in its own process."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from randscene.cli.checks.finding import Finding, Options
from randscene.extras import install_command

Use = Literal["generate", "train"]
_AGAIN = install_command("generate,train", again=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    function: str
    """`module.function` below `randscene.cli.checks`; takes `Options`, returns a `Finding`."""
    use: Use | None = None
    """What it is needed for; None: for everything. Also the name of the extra that brings its libraries."""
    optional: bool = False
    """Whether everything works without it: then its failure is a warning."""
    device: str = ""
    """Kind of card that must be among those that Blender names; empty: none."""
    blender: bool = False
    """Whether there is nothing to look at when Blender does not start."""
    slow: bool = False
    """Whether `--quick` leaves it out."""
    timeout_s: float = 60.0
    cure: str = f"reinstall randscene's libraries: {_AGAIN}"
    """What to do when its process dies."""


_RENDERS = "see docs/troubleshooting.md, A renderer that dies"


def _frame(name: str, function: str, *, device: str = "", optional: bool = False, slow: bool = False) -> Check:
    """A check that Blender renders a frame."""
    return Check(
        name=name,
        function=function,
        use="generate",
        optional=optional,
        device=device,
        blender=True,
        slow=slow,
        timeout_s=240.0,
        cure=_RENDERS,
    )


CHECKS: tuple[Check, ...] = (
    Check(name="python", function="installation.python"),
    Check(name="core libraries", function="installation.core_libraries"),
    Check(name="libraries to generate", function="installation.generate_libraries", use="generate", timeout_s=120.0),
    Check(name="libraries to train", function="installation.train_libraries", use="train", timeout_s=120.0),
    Check(name="optional libraries", function="installation.optional_libraries", optional=True),
    Check(name="processors, memory", function="machine.processors_and_memory", optional=True),
    Check(name="disk", function="machine.disk"),
    Check(name="temporary folder", function="machine.temporary_folder"),
    Check(name="shared memory", function="machine.shared_memory", optional=True),
    Check(name="open files", function="machine.open_files", optional=True),
    Check(name="locale", function="machine.text_encoding", optional=True),
    Check(name="numba cache", function="machine.numba_cache", optional=True, timeout_s=120.0),
    Check(name="graphics cards", function="cards.graphics_cards", optional=True),
    Check(name="blender", function="rendering.blender", use="generate", timeout_s=240.0, cure=_RENDERS),
    Check(name="ray caster", function="rendering.ray_caster", use="generate", slow=True, timeout_s=180.0),
    _frame("cycles, processor", "rendering.cycles_on_processor", slow=True),
    *(
        _frame(f"cycles, {kind}", "rendering.cycles_on_card", device=kind.upper(), optional=True, slow=True)
        for kind in ("CUDA", "OptiX", "HIP", "oneAPI", "Metal")
    ),
    _frame("eevee, EGL", "rendering.eevee", optional=True),
    Check(name="ray", function="services.ray", use="generate", timeout_s=120.0),
    Check(name="torch", function="training.torch_and_card", use="train", timeout_s=180.0),
    Check(name="model step", function="training.model_step", use="train", slow=True, timeout_s=240.0),
    Check(name="torch.compile", function="training.compiler", use="train", optional=True, slow=True, timeout_s=240.0),
    Check(name="public weights", function="services.public_weights", optional=True),
)

SHOWN_WHEN_ABSENT = ("CUDA", "OPTIX")
"""Kinds of card that get a line even where there is none."""


def function_of(check: Check) -> Callable[[Options], Finding]:
    """Load what a check calls."""
    module, _, name = check.function.rpartition(".")
    function: Callable[[Options], Finding] = getattr(importlib.import_module(f"randscene.cli.checks.{module}"), name)
    return function


def by_name(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)
