"""`randscene evaluate`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from randscene.cli.console import console, progress_bar, stops_cleanly

if TYPE_CHECKING:
    from randscene.train.evaluation_report import EvaluationReport

TITLES = {
    "scene": "scene",
    "object": "object",
    "object_matched": "object, matched",
    "object_realigned": "object, realigned",
}


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder that `randscene predict` wrote.")],
    dataset: Annotated[Path, typer.Option("--dataset", help="Dataset folder with the ground truth.")],
    protocol: Annotated[str, typer.Option(help="What the numbers mean: iscene.")] = "iscene",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for scores.json and scores.csv.")] = None,
    split: Annotated[str | None, typer.Option(help="Only samples of this split.")] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="A sample without a prediction counts as one that failed.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes scored at once; default: all cores.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the surface points.")] = 0,
) -> None:
    """Score predictions: Chamfer distance, F-score and IoU after robust alignment, by scene and by object.

    Example: randscene evaluate predictions --dataset dataset --out scores
    """
    from randscene.train.evaluate import evaluate as score

    begun = time.monotonic()
    bar = progress_bar()
    with stops_cleanly("nothing was written; run the same command again"), bar:
        task = bar.add_task("evaluate", total=None)
        report = score(
            predictions,
            dataset,
            protocol,
            split=split,
            require_all=require_all,
            workers=workers,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    show(report)
    console.print(f"{time.monotonic() - begun:.1f} s for {len(report.scenes)} scenes")
    if out is not None:
        console.print("written: " + ", ".join(str(path) for path in report.write(out)))


def show(report: "EvaluationReport") -> None:
    """Print the means as a table, F-scores in percent."""
    means = report.means()
    table = Table(title=f"{report.protocol.name}: {len(report.scenes)} scenes, {report.n_instances} instances")
    for name in ("level", "CD squared", "CD unsquared", f"F@{report.protocol.tau:g} %", "box IoU", "voxel IoU"):
        table.add_column(name, justify="left" if name == "level" else "right", no_wrap=True)
    for level, title in TITLES.items():
        voxels = {"scene": "voxel_iou", "object": "object_voxel_iou"}.get(level)
        percent = means[f"{level}_f_score"]
        table.add_row(
            title,
            _text(means[f"{level}_cd_squared"]),
            _text(means[f"{level}_cd_unsquared"]),
            _text(None if percent is None else 100 * percent, 2),
            _text(means[f"{level}_aabb_iou"]),
            _text(means[voxels]) if voxels else "",
        )
    console.print(table)
    if report.n_missing:
        console.print(
            f"{report.n_missing} instances are missing: each counts with Chamfer distances "
            f"{2 * report.protocol.missing_distance**2:.4g} (squared) and {2 * report.protocol.missing_distance:.4g}, "
            f"F-score and IoU 0"
        )
    if report.n_fell_back:
        console.print(f"{report.n_fell_back} alignments fell back to an earlier stage")


def _text(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
