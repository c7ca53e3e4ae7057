"""What keeps a run's folder and its user safe: one process group at a time, and plain words when a machine fails."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from randscene.errors import RandsceneError
from randscene.files import exclusive
from randscene.train.checkpoint import list_checkpoints, open_run
from randscene.train.process_group import ProcessGroup, explain_lost_processes
from randscene.train.settings import RunSettings


@contextlib.contextmanager
def claimed_run(out: Path, settings: RunSettings, group: ProcessGroup) -> Iterator[None]:
    """Make `out` the run's folder and keep other runs out of it; the main process does so for all."""
    if not group.is_main:
        yield
        return
    open_run(out, settings)
    with exclusive(out / ".lock", busy=f"another process trains in {out}: wait for it, or choose another --out"):
        yield


@contextlib.contextmanager
def explained_faults(out: Path, settings: RunSettings) -> Iterator[None]:
    """Say in one line what to do when memory runs out or another process of the run has gone.

    Raises
    ------
    RandsceneError
        In place of the library's error.
    """
    try:
        with explain_lost_processes(out):
            yield
    except torch.OutOfMemoryError as error:
        kept = list_checkpoints(out)
        raise RandsceneError(
            f"the GPU's memory is full: set hardware.groups_at_once below "
            f"{settings.hardware.groups_at_once or settings.data.scenes_per_step}, or "
            f"hardware.checkpointing=every_block, and run the same command again "
            f"({f'it goes on from {kept[-1]}' if kept else 'there is no checkpoint yet'})"
        ) from error
