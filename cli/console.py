"""What commands share: the console, progress bars, and a clean end on Ctrl-C."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from randscene.files import explain_os_errors

console = Console(highlight=False, soft_wrap=True)


def progress_bar(*extra: str) -> Progress:
    """A bar with count, elapsed time and time left; `extra` are format strings for further columns."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *(TextColumn(text) for text in extra),
        console=console,
    )


@contextlib.contextmanager
def stops_cleanly(advice: str) -> Iterator[None]:
    """On Ctrl-C or SIGTERM print one line with `advice` and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"stopped: {advice}")
        raise typer.Exit(130) from None


def log_file(dataset: str) -> Path:
    """Where to log work on a dataset: beside a local folder; for a URL in the current folder."""
    name = dataset.rstrip("/").rpartition("/")[2] or "dataset"
    return Path(f"{name}.log") if "://" in dataset else Path(dataset).with_name(f"{Path(dataset).name}.log")


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Append what randscene logs meanwhile to `path`; the file is made with the first line."""
    with explain_os_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("randscene")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
