"""`randscene assets`: find, check and lock the meshes that a dataset is made of."""

import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from randscene.cli.console import console, log_file, logs_to, progress_bar, stops_cleanly
from randscene.errors import LockError

if TYPE_CHECKING:
    from randscene.manifests import LockReport, ObjaverseOptions

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
    path: Annotated[
        Path | None, typer.Option(help="Folder of meshes (directory); of Objaverse files already here (objaverse).")
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many assets (procedural: required).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of procedural assets, and of the order of Objaverse's.")] = 0,
    up_axis: Annotated[Axis, typer.Option(help="Up direction of obj, ply and stl files.")] = Axis.Y,
    licence: Annotated[str, typer.Option(help="SPDX licence of files that no manifest describes (directory).")] = "",
    attribution: Annotated[str, typer.Option(help="Credit of files that no manifest describes (directory).")] = "",
    lvis: Annotated[
        str | None, typer.Option(help="Only objects of these LVIS categories, as chair,table; or all (objaverse).")
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="Only objects in this metadata csv of TRELLIS-500K (objaverse).")
    ] = None,
    min_aesthetic: Annotated[
        float | None, typer.Option(help="Lowest aesthetic score in the metadata (objaverse).")
    ] = None,
    downloads: Annotated[int, typer.Option(min=1, help="Files fetched at the same time (objaverse).")] = 8,
    allow: Annotated[
        list[str] | None, typer.Option(help="Use only this SPDX licence; may be given several times.")
    ] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Never use this SPDX licence; may be given several times.")] = (
        None
    ),
    commercial_safe: Annotated[
        bool, typer.Option("--commercial-safe", help="Refuse licences that forbid commercial use, and unknown ones.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a lock of other content.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as processors by default.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Inspect on this Ray cluster: auto, local or host:port.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List the groups of equal shape.")] = False,
) -> None:
    """Make, find or fetch meshes, inspect each in its own process, and write the asset lock.

    Stopped half way, the same command goes on from there; run again, it tries again what could not be fetched.

    Example: randscene assets build --source procedural --count 200 --out assets.lock.jsonl

    Example: randscene assets build --source objaverse --lvis all --count 5000 --commercial-safe --out lvis.lock.jsonl
    """
    from randscene.manifests import LicencePolicy, LockProgress, build_lock
    from randscene.manifests.licences import nearest_name, unknown_names

    policy = LicencePolicy(
        allow=frozenset(allow) if allow else None, deny=frozenset(deny or ()), commercial_only=commercial_safe
    )
    for name in dict.fromkeys([*policy.unknown_names(), *(unknown_names(licence) if licence else ())]):
        near = nearest_name(name)
        asked = f"did you mean {near}?" if near else "is it spelled right?"
        console.print(f"warning: {name} is not on SPDX's list of licences: {asked}")
    log = log_file(str(out))
    with (
        logs_to(log),
        stops_cleanly("what is done is kept; run the same command again to go on"),
        progress_bar("{task.fields[note]}") as bar,
    ):
        task = bar.add_task("assets", total=None, note="")
        stage, begun_at, began = "", 0, 0.0

        def show(state: LockProgress) -> None:
            nonlocal stage, begun_at, began
            if state.stage != stage:
                stage, begun_at, began = state.stage, state.done, time.monotonic()
                bar.reset(task, total=state.total, completed=state.done, note="", description=f"assets: {stage}")
            done, seconds = state.done - begun_at, time.monotonic() - began
            notes = [f"{done / seconds:.1f}/s"] if done and seconds else []
            notes += [f"{status} {number}" for status, number in sorted(state.failures.items())]
            bar.update(task, completed=state.done, total=state.total, note=", ".join(notes))

        report = build_lock(
            source.value,
            out=out,
            path=path,
            count=count,
            seed=seed,
            up_axis=up_axis.value,
            licence=licence,
            attribution=attribution,
            objaverse=_objaverse_options(source, lvis, metadata, min_aesthetic, downloads),
            policy=policy,
            workers=workers,
            ray_address=ray_address,
            force=force,
            progress=show,
        )
    _print_report(report, log, verbose=verbose)


def _objaverse_options(
    source: Source, lvis: str | None, metadata: Path | None, min_aesthetic: float | None, downloads: int
) -> "ObjaverseOptions | None":
    if source is not Source.OBJAVERSE and lvis is None and metadata is None and min_aesthetic is None:
        return None
    from randscene.manifests import NetworkLimits, ObjaverseOptions

    names = None if lvis is None else tuple(name.strip() for name in lvis.split(",") if name.strip())
    return ObjaverseOptions(
        lvis=() if names == ("all",) else names,
        metadata=metadata,
        min_aesthetic=min_aesthetic,
        network=NetworkLimits(downloads=downloads),
    )


def _print_report(report: "LockReport", log: Path, *, verbose: bool) -> None:
    statuses = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    extra = f", {report.duplicates} duplicate files left out" if report.duplicates else ""
    console.print(f"{report.path}: {report.n} assets ({statuses}{extra}) in {report.seconds:.1f} s")
    if report.left_out:
        reasons = ", ".join(f"{number} {reason}" for reason, number in report.left_out.items())
        console.print(f"left out: {reasons}")
    name = str(report.path)
    if report.same_shape:
        copies = sum(map(len, report.same_shape)) - len(report.same_shape)
        console.print(f"same shape as another asset: {copies} (randscene assets duplicates {name} lists them)")
        if verbose:
            _print_groups(report.same_shape)
    if report.uncredited:
        console.print(f"credit asked for but not known: {report.uncredited} (see randscene assets licences {name})")
    if set(report.counts) - {"ok", "licence_refused"}:
        console.print(f"why each could not be used: {log}")


def _print_groups(groups: tuple[tuple[str, ...], ...]) -> None:
    for uids in groups:
        console.print(f"  {' '.join(uids)}")


@app.command()
def merge(
    locks: Annotated[list[Path], typer.Argument(help="Asset locks.")],
    out: Annotated[Path, typer.Option(help="The lock to write.")],
) -> None:
    """Write one lock of several; a file that two of them have is taken once.

    Example: randscene assets merge shop.lock.jsonl scans.lock.jsonl --out all.lock.jsonl
    """
    from randscene.manifests import merge_locks, write_lock
    from randscene.manifests.lock import lock_text

    if out.is_dir():
        raise LockError(f"{out} is a folder: name a file, such as {out / 'assets.lock.jsonl'}")
    records, left_out = merge_locks(locks)
    if out.exists() and out.read_text(encoding="utf-8") != lock_text(out, records):
        raise LockError(f"{out} exists with other content: delete it or choose another --out")
    write_lock(out, records)
    extra = f", {left_out} files that an earlier lock has left out" if left_out else ""
    console.print(f"{out}: {len(records)} assets of {len(locks)} locks{extra}")


@app.command()
def duplicates(lock: Annotated[Path, typer.Argument(help="An asset lock.")]) -> None:
    """List the usable assets of a lock that are the same shape in another guise, a group a line.

    Example: randscene assets duplicates assets.lock.jsonl
    """
    from randscene.manifests import load_lock, same_shape, usable

    groups = same_shape(usable(load_lock(lock)))
    console.print(f"{len(groups)} groups of equal shape, {sum(map(len, groups))} assets in them")
    _print_groups(groups)


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
            path.name,
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
            console.print(f"{found[position].status}: {found[position].message}")


@app.command()
def licences(lock: Annotated[Path, typer.Argument(help="An asset lock.")]) -> None:
    """List the licences in an asset lock, whether each allows commercial use, and whether it asks for a credit.

    Example: randscene assets licences assets.lock.jsonl
    """
    from randscene.manifests import load_lock, usable
    from randscene.manifests.licences import asks_for_credit, commercial_safe, lacks_credit

    records = load_lock(lock)
    every = Counter(record.licence for record in records)
    good = Counter(record.licence for record in usable(records))
    without = Counter(record.licence for record in usable(records) if lacks_credit(record))
    table = Table("licence", "assets", "usable", "commercial use", "credit")
    for name in sorted(every):
        credit = "asked for" if asks_for_credit(name) else ""
        table.add_row(
            name,
            str(every[name]),
            str(good[name]),
            "yes" if commercial_safe(name) else "no",
            f"missing for {without[name]}" if without[name] else credit,
        )
    console.print(table)
