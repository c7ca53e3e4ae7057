"""The `randscene` command: puts the command groups together and turns errors into one clear line."""

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

import randscene
from randscene.cli import assets
from randscene.cli.demo import demo
from randscene.cli.doctor import doctor
from randscene.cli.encode import encode
from randscene.cli.estimate import estimate
from randscene.cli.evaluate import evaluate
from randscene.cli.export import export
from randscene.cli.generate import generate, plan
from randscene.cli.import_3dfront import import_3dfront
from randscene.cli.lint import lint
from randscene.cli.predict import predict
from randscene.cli.preview import preview
from randscene.cli.scaling import scaling
from randscene.cli.status import failures, retry, status
from randscene.cli.train import train
from randscene.cli.verify import verify
from randscene.errors import RandsceneError
from randscene.files import explain_os_errors


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"randscene {randscene.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="randscene",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Random-scene datasets for view-centric 3D scene generation: make, read, train on, score.

    Begin with `randscene doctor`: does this machine have what it takes? Then `randscene demo --out demo`.
    """


_MAKE = "Make a dataset"
_PANELS = {
    "Begin": (doctor, demo),
    _MAKE: (plan, verify, estimate, generate, status, failures, retry, encode),
    "Look at it": (lint, preview),
    "Train and score": (train, export, predict, evaluate, scaling),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command("import-3dfront", rich_help_panel=_MAKE)(import_3dfront)
app.add_typer(
    assets.app, name="assets", rich_help_panel=_MAKE, help="Find, check and lock the meshes that a dataset is made of."
)


def main() -> None:
    """Entry point: exit 1 and one line on an error that a user can mend, 130 on Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    _wait_briefly()
    try:
        with explain_os_errors("the output"):
            app(standalone_mode=True)
    except RandsceneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except ImportError as error:
        from randscene.cli.missing_extra import missing_extra

        line = missing_extra(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _wait_briefly() -> None:
    """Let PyTorch's threads sleep sooner while they wait for one another; before PyTorch is imported, for this process
    and those that it starts.

    OpenMP (GNU's, which PyTorch for Linux brings) lets them spin for milliseconds, and where any other process wants
    the processor, the thread that is waited for cannot run meanwhile: steps of training then take ten times as long.
    A fraction of a millisecond covers the waits of a machine that has nothing else to do.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "5000"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
