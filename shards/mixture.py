"""Mixture: one endless sample sequence drawn from several datasets in fixed proportions, addressed by position.

Which dataset a position belongs to, and which of its samples, are closed formulas of (seed, position); there is no
state, and resuming is knowing the position. Positions are cut into windows and shuffled inside each by the keyed
permutation, then dealt out by integer rounding of the running share: of the first p dealt positions a dataset with
weight w holds floor(p w + phase). Any stretch of the sequence therefore holds each dataset in its proportion, give or
take a window's worth, while neighbours stay as good as random: the ranks of a job, which take every k-th position,
see no pattern.
"""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path

import numpy as np

from randscene import seeding
from randscene.errors import DatasetError
from randscene.shards.dataset import Dataset
from randscene.shards.order import endless, permute
from randscene.shards.view_sample import ViewSample

WINDOW = 256
_BITS = 32
"""Shares are rounded to multiples of 2^-32, and all counts are exact integers from there on."""


class Mixture:
    """An endless sequence of samples from named datasets.

    Parameters
    ----------
    members : mapping of str to (Dataset, float)
        Name to (dataset, weight). Weights are positive and need not add up to 1; a weight is the share of positions,
        whatever the sizes of the datasets. Each dataset is walked through epoch by epoch in its own shuffled order.
    seed : int
        Seed of the order; the sequence depends on the seed, the names, the weights and the datasets' sizes, and not
        on the order in which the members are given.

    Raises
    ------
    DatasetError
        If there is no member, one is not a dataset with its weight, a weight or dataset is empty, or the seed is no
        whole number from 0.
    """

    def __init__(self, members: Mapping[str, tuple[Dataset, float]], seed: int = 0) -> None:
        if not members:
            raise DatasetError("a mixture needs at least one dataset")
        for name, member in members.items():
            # A path is the likely mistake; what else has samples is taken.
            if not isinstance(member, tuple | list) or len(member) != 2 or isinstance(member[0], str | Path):
                raise DatasetError(f"mixture: {name} must be a pair, (open_dataset(...), weight)")
            if not isinstance(member[1], Real):
                raise DatasetError(f"mixture: the weight of {name} is {member[1]!r}; it must be a number above 0")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise DatasetError(f"mixture: the seed is {seed!r}; it must be a whole number from 0")
        self.names = tuple(sorted(members))
        self.seed = int(seed)
        self.datasets = {name: members[name][0] for name in self.names}
        weights = [float(members[name][1]) for name in self.names]
        for name, weight in zip(self.names, weights):
            if not (np.isfinite(weight) and weight > 0):
                raise DatasetError(f"mixture: the weight of {name} is {weight}; it must be a number above 0")
            if len(self.datasets[name]) == 0:
                raise DatasetError(f"mixture: {name} is empty: leave it out")
        # Dealing is nested: the first dataset against all others, the second against those after it, and so on.
        self._shares = [round(weight / sum(weights[place:]) * 2**_BITS) for place, weight in enumerate(weights[:-1])]
        for name, share in zip(self.names, self._shares):
            if not 0 < share < 2**_BITS:
                raise DatasetError(f"mixture: the weight of {name} is out of proportion to the others")
        self._phases = [
            int(seeding.generator(seed, "mixture phase", name).integers(2**_BITS)) for name in self.names[:-1]
        ]
        self._seeds = {name: seeding.integer(seed, "mixture order", name) for name in self.names}

    def locate(self, position: int) -> tuple[str, int]:
        """The dataset at `position` and the index of the sample in it; reads nothing.

        Raises
        ------
        ValueError
            If the position is negative.
        """
        name, count = self.deal(position)
        return name, int(endless(self._seeds[name], len(self.datasets[name]), count))

    def deal(self, position: int) -> tuple[str, int]:
        """The dataset at `position` and how many earlier draws it gave in dealing order, counted from 0.

        Every count of every dataset belongs to exactly one position.

        Raises
        ------
        ValueError
            If the position is negative.
        """
        if position < 0:
            raise ValueError(f"position is {position}, not from 0")
        window, place = divmod(position, WINDOW)
        rest = window * WINDOW + int(permute(self.seed, window, WINDOW, place))
        for name, share, phase in zip(self.names, self._shares, self._phases):
            before = (rest * share + phase) >> _BITS
            if ((rest + 1) * share + phase) >> _BITS > before:
                return name, before
            rest -= before
        return self.names[-1], rest

    def sample(self, position: int) -> tuple[str, ViewSample]:
        """The dataset's name and the sample at `position` (from 0, without end).

        Raises
        ------
        DatasetError
            If the sample cannot be read.
        """
        name, index = self.locate(position)
        return name, self.datasets[name][index]
