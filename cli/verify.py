"""`randscene verify`: the layout report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from randscene.cli.console import check_folder, console, progress_bar, stops_cleanly
from randscene.errors import DatasetError
from randscene.worker_pool import usable_cores

if TYPE_CHECKING:
    from randscene.generator import LayoutReport


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of `randscene plan`, or a dataset.")],
    scenes: Annotated[int | None, typer.Option("--scenes", min=1, help="Only the first scenes.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report, instead of FOLDER/verify.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another tolerance than the spec's: verify.contact=0.002.")
    ] = None,
) -> None:
    """Check planned layouts on the real meshes; exit 1 if anything is beyond the spec's tolerances.

    Penetration, floating and sunk contact, overhang and discs are tested; counts, sizes, densities and distances are
    summed up. Writes report.json, report.md and plots.

    Example: randscene verify plans/rand-15k
    """
    from randscene.generator import verify as verify_layouts
    from randscene.generator.layout_report import describe, write_report
    from randscene.generator.plan_folder import open_layouts
    from randscene.manifests import with_overrides

    target = out or folder / "verify"
    check_folder(target)
    layouts = open_layouts(folder)
    spec = with_overrides(layouts.spec, set_ or [])
    total = layouts.scenes if scenes is None else min(scenes, layouts.scenes)
    with stops_cleanly("no report was written; run the same command again"), progress_bar("{task.fields[rate]}") as bar:
        task = bar.add_task("verify", total=total, rate="")

        def show(done: int) -> None:
            seconds = bar.tasks[task].elapsed
            bar.update(task, completed=done, rate=f"{_rate(done, seconds)} scenes/s" if done and seconds else "")

        report = verify_layouts(
            layouts.recipes(scenes),
            layouts.records,
            tolerances=spec.verify,
            workers=workers or usable_cores(),
            failures=layouts.failures,
            notes=lambda: layouts.notes,
            progress=show,
        )
    write_report(report, target)
    _show(report)
    worst = report.worst_violation
    if worst is not None:
        count = sum(report.violations.values())
        raise DatasetError(
            f"{folder}: {count} violation{'s' * (count > 1)} in {report.scenes} scenes; worst: {describe(worst)}; "
            f"see {target / 'report.md'}"
        )
    console.print(f"{folder}: all is within tolerance in {report.scenes} scenes; see {target}")


def _rate(scenes: int, seconds: float) -> str:
    return f"{scenes / seconds:.{1 if scenes < 10 * seconds else 0}f}"


def _show(report: "LayoutReport") -> None:
    summary = report.statistics.summary()
    for note in report.notes:
        console.print(f"note: {note}")
    table = Table("check", "checked", "violations", "worst")
    for check, count in report.violations.items():
        worst = f"{report.worst[check][0].ratio:.3g} x tolerance" if count else "-"
        table.add_row(check.replace("_", " "), str(report.checked[check]), str(count), worst)
    console.print(table)
    found, sampler = summary["quantities"], summary["sampler"]
    objects, tries, expansions = (found[name] for name in ("objects", "tries", "expansions"))
    console.print(
        f"{report.scenes} scenes in {report.seconds:.0f} s ({_rate(report.scenes, report.seconds)} scenes/s): "
        f"{objects['mean']:.2f} objects a scene, {summary['scenes_with_a_stack']} scenes with a stack, "
        f"{summary['assets']['distinct']} assets"
    )
    console.print(
        f"sampler: {sampler['tries']} tries (mean {tries['mean']:.1f}, p99 {tries['p99']:.0f}, most {tries['max']:.0f} "
        f"a scene), {sampler['expansions']} expansions (most {expansions['max']:.0f}), "
        f"{sampler['scenes_planned_again']} scenes planned again"
    )
