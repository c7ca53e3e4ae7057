"""What commands share: the console, progress bars, and a clean end on Ctrl-C."""

import contextlib
import logging
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from randscene.errors import SpecError
from randscene.files import explain_os_errors

# Brackets and colons are what they are: names of files, scenes and methods hold them, and so do libraries' words.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def progress_bar(*extra: str) -> Progress:
    """A bar with count, elapsed time and time left; `extra` are format strings for further columns."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *(TextColumn(text, markup=False) for text in extra),
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


def check_folder(out: Path) -> None:
    """Refuse a file where results shall go into a folder: at once, not after the work.

    Raises
    ------
    SpecError
    """
    if out.exists() and not out.is_dir():
        raise SpecError(f"--out {out} is a file: give a folder")


def log_file(dataset: str) -> Path:
    """Where to log work on a dataset or lock: beside it; for a URL in the current folder."""
    if "://" in dataset:
        return Path(f"{dataset.rstrip('/').rpartition('/')[2] or 'dataset'}.log")
    folder = Path(dataset)
    if folder.name in ("", ".."):  # `.` is no name to put something beside
        folder = folder.resolve()
    return folder.with_name(f"{folder.name}.log") if folder.name else Path("dataset.log")


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Append what randscene logs meanwhile to `path`; the file, and its folder, are made with the first line."""
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("randscene")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return super()._open()
