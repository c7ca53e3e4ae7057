"""IterableSamples: this rank's samples for a plain `DataLoader`, with any number of workers, in the mixture's order.

`torch_loader` gives whole batches and is the shorter way. This is for code that builds its own `DataLoader`, or that
wants single samples: each of W workers gives every W-th batch, and `DataLoader` takes their batches in turn, so that
what comes out is the same sequence with 0, 1 or 8 workers.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from randscene.errors import DatasetError
from randscene.shards.mixture import Mixture
from randscene.shards.torch_loading import check_mixture, check_place, positions_of
from randscene.shards.view_sample import ViewSample

if TYPE_CHECKING:
    from torch.utils.data import IterableDataset
else:
    try:
        from torch.utils.data import IterableDataset
    except ImportError:  # reading works without torch; then there is no worker to ask for either

        class IterableDataset:
            def __class_getitem__(cls, item: Any) -> Any:
                return cls


class IterableSamples(IterableDataset[ViewSample]):
    """The samples of one rank, one after the other, from a step on.

    Parameters
    ----------
    mixture : Mixture
        Its seed decides the order.
    batch_size : int
        Samples that a rank takes in a step; give the `DataLoader` the same number (1 where it is given
        `batch_size=None`). With another one, all samples still come once, but workers give them in another order.
    step : int
        First step; a resumed run passes the number of steps that it has done.
    rank, world_size : int
        This process and the number of processes.
    steps : int, optional
        Number of steps; endless by default.

    Raises
    ------
    DatasetError
        If the numbers do not fit together, or a dataset is given in place of a mixture.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        batch_size: int = 1,
        step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        steps: int | None = None,
    ) -> None:
        check_mixture(mixture)
        check_place(batch_size=batch_size, step=step, rank=rank, world_size=world_size, steps=steps)
        self._mixture = mixture
        self._place = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        self._first = self._next = step
        self._end = None if steps is None else step + steps

    def __iter__(self) -> Iterator[ViewSample]:
        worker, workers = _worker()
        step = self._first + worker
        while self._end is None or step < self._end:
            *others, last = positions_of(step, **self._place)
            for position in others:
                yield self._mixture.sample(position)[1]
            sample = self._mixture.sample(last)[1]
            step += workers
            self._next = step
            yield sample

    def state_dict(self) -> dict[str, int]:
        """`{"step": n}`: the step that reading goes on with.

        Without workers it moves on with each whole batch that was read. Workers read ahead in processes of their own,
        so that the loop that takes their batches is the one that knows: keep its count of steps, and pass it to
        `load_state_dict` or as `step`.
        """
        return {"step": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next iterator, and all after it, at `state["step"]`.

        Raises
        ------
        DatasetError
            If there is no such number in it.
        """
        step = state.get("step")
        if not isinstance(step, int) or step < 0:
            raise DatasetError(f"the state of reading is {dict(state)!r}, not a step from 0")
        self._first = self._next = step


def _worker() -> tuple[int, int]:
    """This process among the workers of a `DataLoader`: (number, count); (0, 1) outside."""
    try:
        from torch.utils.data import get_worker_info
    except ImportError:
        return 0, 1
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
