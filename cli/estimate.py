"""`randscene estimate`: what a build will cost, before it is begun."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from randscene.cli.console import console, progress_bar, stops_cleanly
from randscene.cli.generate import Assets, Device, Engine, Scenes, Set, Spec, read_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from randscene.generator import Estimate
    from randscene.generator.estimate_statistics import Interval


def estimate(
    spec: Spec,
    assets: Assets,
    scenes: Scenes = None,
    probes: Annotated[int, typer.Option("--probes", min=2, help="Scenes to make as a sample of all.")] = 8,
    budget: Annotated[
        float, typer.Option(min=1.0, help="Seconds for these, start not counted; scenes are made in part to keep it.")
    ] = 120.0,
    engine: Engine = None,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Scenes that the build makes at the same time; by default as here."),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of one hour of all that runs these workers, in any currency.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    set_: Set = None,
) -> None:
    """Make a few scenes of a build, keep nothing, and say what the whole build takes: time, processors, cards, bytes.

    Run it on a machine like those that will build.

    Example: randscene estimate rand-15k --assets assets.lock.jsonl --workers 64 --price 2.40
    """
    from randscene.generator import estimate as estimate_build

    dataset_spec, records = read_inputs(spec, assets, scenes, set_, engine=engine, device=device)
    options: dict[str, Any] = {"scenes": probes, "budget_s": budget, "workers": workers, "price": price}
    with stops_cleanly("nothing was written"):
        if as_json:  # a bar would mix with what is read by another program
            print(estimate_build(dataset_spec, records, **options).to_json())  # noqa: T201
            return
        with progress_bar() as bar:
            task = bar.add_task("estimate", total=min(probes, len(dataset_spec.indices())))
            found = estimate_build(
                dataset_spec,
                records,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                **options,
            )
    _show(found)


def _show(found: "Estimate") -> None:
    from randscene.shards.dataset_card import human_bytes

    on = f"{found.engine} on {found.device}, {found.workers} workers, {found.cores:g} cores"
    cards = f", {found.cards} cards" if found.cards else ""
    table = Table("", "", f"{100 * found.confidence:g} % interval", title=f"{found.name}: {on}{cards}")

    def row(name: str, interval: "Interval", text: "Callable[[float], str]") -> None:
        value, low, high = (text(end) for end in (interval.value, interval.low, interval.high))
        table.add_row(name, value, "" if value == low == high else f"{low} to {high}")

    if found.scenes_made.value != found.scenes:
        row(f"scenes, of {found.scenes}", found.scenes_made, _count)
    else:
        row("scenes", found.scenes_made, _count)
    row("samples", found.samples, _count)
    row("bytes in shards", found.shard_bytes, human_bytes)
    row("bytes on disk", found.disk_bytes, human_bytes)
    row("more while it builds", found.staging_bytes, human_bytes)
    unit, size = _unit(found.hours.value)
    row("time", found.hours, lambda hours: f"{_number(hours / size)} {unit}")
    row("core-hours", found.core_hours, _number)
    if found.gpu_hours is not None:
        row("GPU-hours", found.gpu_hours, _number)
    if found.money is not None:
        row(f"price, at {found.price:g} an hour", found.money, _number)
    console.print(table)
    stages = ", ".join(f"{name} {100 * part:.0f} %" for name, part in found.stages.items() if part >= 0.005)
    made = sum(cost.views_made for cost in found.probe)
    console.print(
        f"from {made} of {sum(cost.views for cost in found.probe)} views of {len(found.probe)} scenes, "
        f"{found.probed_at_once} at a time; "
        f"a worker's time: {stages}; start {found.start_s:.0f} s"
    )
    if found.failures:
        told = ", ".join(f"{reason} {count}" for reason, count in found.failures.items())
        share = found.failing_attempts
        console.print(
            f"failed attempts: {told}; {100 * share.value:.1f} % of all "
            f"({100 * share.low:.1f} to {100 * share.high:.1f} %)"
        )


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(hours: float) -> tuple[str, float]:
    """The unit of time that gives a small number, and its length in hours."""
    units = (("days", 24.0), ("h", 1.0), ("min", 1 / 60), ("s", 1 / 3600))
    return next((unit for unit in units if hours >= 2 * unit[1]), units[-1])
