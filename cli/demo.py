"""`randscene demo`: the whole way from assets to scores at toy size, with the time of each stage."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from randscene.cli.assets import Source
from randscene.cli.assets import build as build_assets
from randscene.cli.console import console
from randscene.cli.evaluate import evaluate
from randscene.cli.generate import generate
from randscene.cli.predict import predict
from randscene.cli.preview import preview
from randscene.cli.train import train
from randscene.files import write_atomic

SMALL = [
    "splits.val.scenes=1",
    "cameras.views=6",
    "render.resolution=128",
    "render.quality=fast",
    "layout.objects=[2, 4]",
]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that the demo makes.")] = Path("demo"),
    small: Annotated[bool, typer.Option("--small", help="A shorter run, for continuous integration.")] = False,
) -> None:
    """Make assets, scenes and shards; show them on a page; train, predict and score a toy model. Resumes by itself.

    Example: randscene demo --out demo
    """
    lock, dataset, run, predictions = out / "assets.lock.jsonl", out / "dataset", out / "run", out / "predictions"
    stages: list[tuple[str, Callable[[], object]]] = [
        ("assets", lambda: build_assets(source=Source.PROCEDURAL, count=60 if small else 200, out=lock)),
        (
            "generate",
            lambda: generate(
                "demo", assets=lock, out=str(dataset), scenes=3 if small else None, set_=SMALL if small else None
            ),
        ),
        ("preview", lambda: preview(str(dataset))),
        ("train", lambda: train([str(dataset)], preset="mini", out=run, steps=20 if small else 700)),
        ("predict", lambda: predict(str(run), dataset=dataset, split="val", views=1 if small else 2, out=predictions)),
        ("evaluate", lambda: evaluate([predictions], dataset=dataset, out=out / "scores")),
    ]
    seconds = {}
    for name, stage in stages:
        console.rule(name)
        begun = time.monotonic()
        stage()
        seconds[name] = round(time.monotonic() - begun, 1)
    write_atomic(out / "timings.json", json.dumps(seconds, indent=2) + "\n")
    table = Table("stage", "seconds, this time", title="demo")
    for name, value in [*seconds.items(), ("total", round(sum(seconds.values()), 1))]:
        table.add_row(name, f"{value:.1f}")
    console.print(table)
    console.print(f"scores: {out / 'scores'}   page: {(dataset / 'preview' / 'index.html').absolute()}")
    console.print("The model saw a handful of scenes for a few minutes: its scores prove the thread, not the method.")
