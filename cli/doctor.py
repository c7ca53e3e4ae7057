"""`randscene doctor`: does everything that is installed work here, and what to do where it does not."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import randscene
from randscene.cli.console import console

STATES = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "problem": ("problem", "bold red"),
    "absent": ("not here", "dim"),
}


class Use(StrEnum):
    """What a machine is for."""

    generate = "generate"
    train = "train"


def doctor(
    out: Annotated[str, typer.Option("--out", help="Folder or URL where datasets shall go: is there room?")] = ".",
    quick: Annotated[bool, typer.Option("--quick", help="Render, start and multiply nothing: seconds.")] = False,
    use: Annotated[
        list[Use] | None, typer.Option("--for", help="What must work here; else only what is installed must.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Check this machine: Python, libraries, Blender, cards, Ray, disk, weights; each engine renders one real frame.

    Exit 1 if something that is needed, or installed, does not work. A card that is not here is no problem.

    Example: randscene doctor --out /data/datasets --for generate
    """
    from randscene.cli.checks.finding import Options
    from randscene.cli.checks.runner import make_checks

    rows = []
    options = Options(out=out, quick=quick)
    with console.status("checking", spinner="line") as shown:
        for check, finding in make_checks(options, {one.value for one in use or []}, on_begin=shown.update):
            rows.append({"name": check.name, **asdict(finding)})
    failed = [row["name"] for row in rows if row["status"] == "problem"]
    if as_json:
        report = {"randscene": randscene.__version__, "checks": rows, "problems": failed}
        print(json.dumps(report, indent=2))  # noqa: T201
    else:
        _show(rows, failed)
    if failed:
        raise typer.Exit(1)


def _show(rows: Sequence[dict[str, Any]], failed: list[str]) -> None:
    table = Table("check", "", "seconds", "found", title=f"randscene {randscene.__version__}", box=None)
    table.columns[2].justify = "right"
    for row in rows:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        table.add_row(row["name"], Text(*STATES[row["status"]]), seconds, row["found"])
    console.print(table)
    cures = [(row["name"], row["status"], row["cure"]) for row in rows if row["cure"]]
    for name, status, cure in cures:
        console.print(Text.assemble(STATES[status], f"  {name}: {cure}"))
    if failed:
        console.print(Text.assemble(("does not work:", "bold red"), f" {', '.join(failed)}"))
    else:
        warnings = sum(row["status"] == "warning" for row in rows)
        told = f"; {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
        console.print(f"everything that is installed works{told}")
