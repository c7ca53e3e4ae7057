"""`randscene export`."""

from pathlib import Path
from typing import Annotated

import typer

from randscene.cli.console import console, stops_cleanly


def export(
    source: Annotated[Path, typer.Argument(help="A run, or one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the weights.")],
    best: Annotated[bool, typer.Option("--best", help="The run's checkpoint of the lowest validation loss.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Round to float16, as released models are.")] = False,
) -> None:
    """Write a run's averaged weights alone, to predict with, begin from, or publish.

    Example: randscene export runs/small --best --half --out small-weights
    """
    from randscene.train.export import export_weights

    with stops_cleanly("nothing was written"):
        checkpoint = export_weights(source, out, best=best, half=half)
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    console.print(f"{out}: step {int(checkpoint.name.removeprefix('step_'))}, {size / 1e6:.1f} MB")
