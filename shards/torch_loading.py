"""The PyTorch side of reading: a DataLoader whose batches are a pure function of the step.

The job's sequence of samples is the mixture's: positions 0, 1, 2, ... Step s of a job takes the `global_batch`
positions from s * global_batch on; rank r takes every world_size-th of them, beginning with the r-th. Workers only
read ahead. So the union over ranks is the same sequence for any number of ranks and workers as long as the global
batch stays the same, and a job resumes from one integer.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from randscene.errors import DatasetError
from randscene.shards.mixture import Mixture
from randscene.shards.view_sample import ViewSample

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


def torch_loader(
    mixture: Mixture,
    *,
    step: int = 0,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    steps: int | None = None,
    collate: Callable[[list[ViewSample]], Any] | None = None,
    collate_at: Callable[[list[ViewSample], range], Any] | None = None,
    prefetch_factor: int = 2,
    pin_memory: bool = False,
    worker_init_fn: Callable[[int], None] | None = None,
) -> "DataLoader[Any]":
    """Batches of this rank, in order, from `step` on.

    Parameters
    ----------
    mixture : Mixture
        Its seed decides the order.
    step : int
        First step; a resumed run passes the number of steps that it has done.
    batch_size : int
        Samples a rank takes in a step; the global batch is `batch_size * world_size`. To go on with another number
        of ranks, change `batch_size` so that the global batch stays the same.
    rank, world_size : int
        This process and the number of processes.
    num_workers : int
        Reading processes; 0 reads in this one.
    steps : int, optional
        Number of batches; endless by default.
    collate : callable, optional
        Turns the list of samples into a batch, in the worker; must be picklable where workers are spawned.
        The default gives the list itself.
    collate_at : callable, optional
        Instead of `collate`: also gets the samples' positions in the mixture (`positions_of`), which is what random
        numbers should depend on.
    prefetch_factor : int
        Batches that each worker reads ahead.
    pin_memory : bool
        Put tensors in page-locked memory, and whatever has a method `pin_memory`, as PyTorch's loader does.
    worker_init_fn : callable, optional
        Called with its number in each reading process.

    Returns
    -------
    torch.utils.data.DataLoader
        Iterating gives `list[ViewSample]` (or what `collate` makes of it), one batch a step. No global random state
        is read or changed.

    Raises
    ------
    DatasetError
        If the numbers do not fit together, or a dataset is given in place of a mixture.
    """
    import torch
    from torch.utils.data import DataLoader

    check_mixture(mixture)
    check_place(
        batch_size=batch_size, step=step, rank=rank, world_size=world_size, steps=steps, num_workers=num_workers
    )
    return DataLoader(
        cast(Any, _Batches(mixture, collate, collate_at, batch_size=batch_size, rank=rank, world_size=world_size)),
        sampler=_Steps(step, steps),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=worker_init_fn,
        # DataLoader draws a seed for its workers; without a generator of its own it would take it from the global one.
        generator=torch.Generator().manual_seed(0),
    )


def check_mixture(mixture: Mixture) -> None:
    """Raise a DatasetError where something else, a dataset most likely, was given in place of a mixture."""
    if not hasattr(mixture, "sample"):
        raise DatasetError(f"{mixture!r} is no mixture: give Mixture({{'data': (dataset, 1.0)}})")


def check_place(
    *, batch_size: int, step: int, rank: int, world_size: int, steps: int | None = None, num_workers: int = 0
) -> None:
    """Raise a DatasetError unless these numbers name a reader's place in a job."""
    numbers = {
        "batch_size": batch_size,
        "step": step,
        "steps": 0 if steps is None else steps,
        "rank": rank,
        "world_size": world_size,
        "num_workers": num_workers,
    }
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer):
            raise DatasetError(f"{name}={value!r} is not a whole number")
    if numbers["steps"] < 0:
        raise DatasetError(f"steps={steps} is below 0; leave it out to read without end")
    if batch_size < 1 or step < 0 or num_workers < 0 or not 0 <= rank < world_size:
        raise DatasetError(
            f"batch_size {batch_size}, step {step}, rank {rank} of {world_size}, {num_workers} workers: "
            "batch_size must be at least 1, step and workers at least 0, and rank below world_size"
        )


def positions_of(step: int, *, batch_size: int, rank: int, world_size: int) -> range:
    """The mixture positions that `rank` takes in `step`."""
    first = step * batch_size * world_size
    return range(first + rank, first + batch_size * world_size, world_size)


class _Batches:
    """Maps a step to this rank's batch. DataLoader hands the steps to its workers and keeps their order."""

    def __init__(
        self,
        mixture: Mixture,
        collate: Callable[[list[ViewSample]], Any] | None,
        collate_at: Callable[[list[ViewSample], range], Any] | None,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self._mixture = mixture
        self._collate, self._collate_at = collate, collate_at
        self._place = {"batch_size": batch_size, "rank": rank, "world_size": world_size}

    def __getitem__(self, step: int) -> Any:
        positions = positions_of(step, **self._place)
        samples = [self._mixture.sample(position)[1] for position in positions]
        if self._collate_at is not None:
            return self._collate_at(samples, positions)
        return samples if self._collate is None else self._collate(samples)


class _Steps:
    def __init__(self, first: int, count: int | None) -> None:
        self._first = first
        self._count = count

    def __iter__(self) -> Iterator[int]:
        if self._count is None:
            return itertools.count(self._first)
        return iter(range(self._first, self._first + self._count))


def _as_it_is(batch: Any) -> Any:
    return batch
