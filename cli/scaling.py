"""`randscene scaling`."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from randscene.cli.completion import torch_devices
from randscene.cli.console import console, progress_bar, stops_cleanly
from randscene.errors import SpecError

if TYPE_CHECKING:
    from randscene.train.scaling_units import Plan, Unit


def scaling(
    study: Annotated[Path, typer.Argument(help="Study file: data, arms, sizes, seeds, evaluation.")],
    out: Annotated[Path, typer.Option("--out", help="The study's folder; run again to go on or to add to it.")],
    part: Annotated[str, typer.Option(help="i/n: only the i-th of n parts, for n machines.")] = "1/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only report on the scores that are there.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes scored at once; default: all cores.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or gpu (cuda); a GPU where there is one by default.", autocompletion=torch_devices),
    ] = None,
) -> None:
    """Train, predict and score every arm of a study with every seed; then tables, comparisons and scaling curves.

    What is done already is kept: the same command goes on after a stop, and a new arm or seed costs only itself.
    On several GPUs start it with torchrun: torchrun --nproc-per-node 8 -m randscene.cli.main scaling ...

    Example: randscene scaling study.yaml --out studies/scaling --dry-run
    """
    from randscene.train.scaling_plan import StudyFolder
    from randscene.train.scaling_report import write_report
    from randscene.train.scaling_run import run_study
    from randscene.train.scaling_study import load_study

    loaded, which = load_study(study), _part(part)
    folder = StudyFolder(loaded, out)
    plan = folder.plan(which)
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        _show(plan, which)
    if dry_run:
        folder.check_beginnings(plan.mine)
        return
    if report:
        _written(write_report(folder, plan))
        return
    if not is_main:
        run_study(loaded, out, part=which, device=device, workers=workers)
        return
    bar = progress_bar()
    with stops_cleanly("run the same command again to go on"), bar:
        task = bar.add_task("study", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        outcome = run_study(loaded, out, part=which, device=device, workers=workers, progress=show)
    if outcome.interrupted:
        console.print("stopped: run the same command again to go on")
        raise typer.Exit(130)
    if not outcome.report:
        left = sum(not unit.done for unit in outcome.plan.units)
        console.print(f"part {part} is done; {left} runs of other parts are not: the last one writes the report")
        return
    console.print((out / "table.md").read_text(encoding="utf-8"))
    _written(outcome.report)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})/([1-9]\d{0,4})", text)
    if not match or int(match[1]) > int(match[2]):
        raise SpecError(f"--part {text}: write it as i/n with i from 1 to n, e.g. 2/4")
    return int(match[1]), int(match[2])


def _show(plan: "Plan", part: tuple[int, int]) -> None:
    """Print what is done and what is left, arm by arm."""
    table = Table(title=f"{len(plan.units)} runs" + (f", {len(plan.mine)} in part {part[0]}/{part[1]}" * (part[1] > 1)))
    for name in ("arm", "scenes", "samples", "steps", "sequences", "runs", "trained", "scored"):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    by_arm: dict[str, list[Unit]] = {}
    for unit in plan.units:
        by_arm.setdefault(unit.arm.name, []).append(unit)
    for name, units in by_arm.items():
        one, pieces = units[0], [piece for unit in units for piece in unit.pieces]
        begun = [unit for unit in units if 0 < unit.steps_done < unit.steps]
        trained = f"{sum(unit.trained for unit in units)}" + (f" (+{len(begun)} begun)" if begun else "")
        table.add_row(
            *(name, f"{one.scenes:,}", f"{one.samples:,}", f"{one.steps:,}", f"{one.sequences:,}"),
            *(str(len(units)), trained, f"{sum(piece.done for piece in pieces)} of {len(pieces)}"),
        )
    console.print(table)
    steps = sum(max(unit.steps - unit.steps_done, 0) for unit in plan.mine)
    each = [(unit, unit.sequences // unit.steps) for unit in plan.mine]
    sequences = sum(max(unit.steps - unit.steps_done, 0) * per_step for unit, per_step in each)
    views = sum(piece.views for unit in plan.mine for piece in unit.pieces if not piece.done)
    console.print(f"left to do: {steps:,} steps, {sequences:,} sequences; {views:,} views to measure")


def _written(paths: tuple[Path, ...]) -> None:
    console.print("written: " + ", ".join(str(path) for path in paths))
