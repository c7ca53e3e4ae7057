"""`randscene assets`: find, check and lock the meshes that a dataset is made of."""

import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from randscene.cli.console import console, progress_bar, stops_cleanly

app = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


class Source(StrEnum):
    """Where assets come from."""

    PROCEDURAL = "procedural"
    DIRECTORY = "directory"
    OBJAVERSE = "objaverse"


class Axis(StrEnum):
    """Up direction of a file."""

    Y = "Y"
    Z = "Z"


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="The lock to write, such as assets.lock.jsonl.")],
    source: Annotated[Source, typer.Option(help="Where the meshes come from.")] = Source.PROCEDURAL,
    path: Annotated[Path | None, typer.Option(help="Folder of meshes (directory).")] = None,
    count: Annotated[int | None, typer.Option(help="How many assets (procedural: required).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the procedural assets.")] = 0,
    up_axis: Annotated[Axis, typer.Option(help="Up direction of obj, ply and stl files.")] = Axis.Y,
    commercial_safe: Annotated[
        bool, typer.Option("--commercial-safe", help="Refuse licences that forbid commercial use, and unknown ones.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a lock of other content.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as processors by default.")] = None,
) -> None:
    """Make or find meshes, inspect each in its own process, and write the asset lock.

    Stopped half way, the same command goes on from there.

    Example: randscene assets build --source procedural --count 200 --out assets.lock.jsonl
    """
    from randscene.manifests import LicencePolicy, build_lock

    with (
        stops_cleanly("what is done is kept; run the same command again to go on"),
        progress_bar("{task.fields[rate]}") as bar,
    ):
        task = bar.add_task("assets", total=None, rate="")
        began = time.monotonic()
        start: list[int] = []

        def progress(done: int, total: int) -> None:
            start[:] = start or [done]
            seconds = time.monotonic() - began
            rate = f"{(done - start[0]) / seconds:.1f}/s" if done > start[0] else ""
            bar.update(task, completed=done, total=total, rate=rate)

        report = build_lock(
            source.value,
            out=out,
            path=path,
            count=count,
            seed=seed,
            up_axis=up_axis.value,
            policy=LicencePolicy(commercial_only=commercial_safe),
            workers=workers,
            force=force,
            progress=progress,
        )
    statuses = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    extra = f", {report.duplicates} duplicate files left out" if report.duplicates else ""
    console.print(f"{escape(str(report.path))}: {report.n} assets ({statuses}{extra}) in {report.seconds:.1f} s")


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Mesh files.")],
    up_axis: Annotated[Axis, typer.Option(help="Up direction of obj, ply and stl files.")] = Axis.Y,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one file may take.")] = 60.0,
) -> None:
    """Say what each mesh file is, or why it cannot be used.

    Example: randscene assets inspect chair.glb meshes/*.glb
    """
    from randscene.manifests import inspect_assets

    with stops_cleanly("nothing was written"):
        found = dict(inspect_assets(files, up_axis=up_axis.value, workers=workers, timeout_s=timeout))
    table = Table("file", "status", "faces", "size (x, y, z)", "texture", "support", "sha256")
    for position, path in enumerate(files):
        facts = found[position]
        support = "" if facts.support is None else f"z {facts.support.height:.3g}, area {facts.support.area:.3g}"
        table.add_row(
            escape(path.name),
            facts.status,
            str(facts.n_faces),
            " x ".join(f"{length:.3g}" for length in facts.extents),
            "yes" if facts.has_texture else "",
            support,
            facts.sha256[:12],
        )
    console.print(table)
    for position in range(len(files)):
        if found[position].status != "ok":
            console.print(f"{found[position].status}: {escape(found[position].message)}")


@app.command()
def licences(lock: Annotated[Path, typer.Argument(help="An asset lock.")]) -> None:
    """List the licences in an asset lock, and whether each allows commercial use.

    Example: randscene assets licences assets.lock.jsonl
    """
    from randscene.manifests import commercial_safe, load_lock, usable

    records = load_lock(lock)
    every = Counter(record.licence for record in records)
    good = Counter(record.licence for record in usable(records))
    table = Table("licence", "assets", "usable", "commercial use")
    for licence in sorted(every):
        table.add_row(
            escape(licence), str(every[licence]), str(good[licence]), "yes" if commercial_safe(licence) else "no"
        )
    console.print(table)
