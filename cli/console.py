"""What commands share: the console, progress bars, and a clean end on Ctrl-C."""

import contextlib
import logging
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from randscene.errors import SpecError
from randscene.files import explain_os_errors

# Brackets and colons are what they are: names of files, scenes and methods hold them, and so do libraries' words.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


TOLD_EVERY_S = 30.0
"""Where the output is no terminal and shows no bar: how often a line tells the same."""


class _Bar(Progress):
    """A bar; on what is no terminal (a pipe, a log) a line now and then, and the bar's last state at the end."""

    _told = 0.0

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        super().update(task_id, *args, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if self.console.is_terminal or not self.live.is_started:
            return
        self._told = self._told or now
        if now - self._told < TOLD_EVERY_S:
            return
        self._told = now
        task = self.tasks[self.task_ids.index(task_id)]
        notes = [column.text_format.format(task=task) for column in self.columns[5:] if isinstance(column, TextColumn)]
        total = "?" if task.total is None else f"{task.total:g}"
        self.console.print(", ".join([f"{task.description} {task.completed:g}/{total}", *filter(None, notes)]))


def progress_bar(*extra: str) -> Progress:
    """A bar with count, elapsed time and time left; `extra` are format strings for further columns.

    On a narrow terminal the bar gets shorter and the further columns go on below: no number is cut.
    """
    width = min(40, max(6, console.width - 90)) if extra else 40
    return _Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=width, table_column=Column(min_width=6)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        *(TextColumn(text, markup=False, table_column=Column()) for text in extra),
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
    """Refuse a file or a dataset where results shall go into a folder: at once, not after the work.

    Raises
    ------
    SpecError
    """
    if out.exists() and not out.is_dir():
        raise SpecError(f"--out {out} is a file: give a folder")
    if (out / "dataset.json").is_file():
        raise SpecError(f"--out {out} is a dataset: give another folder")


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
