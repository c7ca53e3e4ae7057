"""`randscene lint`: check a dataset from the first byte to the last."""

from typing import Annotated

import typer

from randscene.cli.console import console, progress_bar
from randscene.errors import DatasetError

SHOWN = 20


def lint(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URL.")],
    workers: Annotated[int, typer.Option(help="Processes that read shards.", min=1)] = 1,
) -> None:
    """Check a dataset: every sample decodes, every hash holds, all counts agree. Exit 1 if anything is wrong.

    Example: randscene lint demo/dataset --workers 4
    """
    from randscene.shards import lint as lint_dataset
    from randscene.shards.dataset_card import human_bytes

    with progress_bar() as bar:
        task = bar.add_task("shards", total=None)
        report = lint_dataset(
            dataset, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    for note in report.notes:
        console.print(f"note: {note}")
    for problem in report.problems[:SHOWN]:
        console.print(f"{problem.where}: {problem.message}")
    if len(report.problems) > SHOWN:
        console.print(f"... and {len(report.problems) - SHOWN} more")
    read = f"{report.scenes} scenes, {report.samples} samples, {report.shards} shards, {human_bytes(report.bytes)}"
    if not report.ok:
        count = len(report.problems)
        raise DatasetError(f"{dataset}: {count} problem{'s' * (count > 1)} found in {read}")
    console.print(f"{dataset}: all is well in {read}")
