"""The loss as a function of t: which noise levels a model has learnt, and which it has not.

A mean over t hides more than it shows: near t = 1 the loss is almost the data's variance whatever the model knows of
the image, near t = 0 it is mostly the noise that no model can tell from detail.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_BINS = 100
BRANCHES = ("scene", "instance")


class LossByTime:
    """Sums and counts of per-sequence losses in equal bins of t.

    Adding is made of tensor operations of fixed shapes on one device: it never waits for a GPU, and has no atomic
    addition whose order could change a sum. Non-finite losses stay in their own bin.

    Parameters
    ----------
    bins : int
        Equal parts of [0, 1], 1 to 100; a t on a border belongs to the bin above it, t = 1 to the last one.
    device : str or torch.device
        Where the losses are.

    Raises
    ------
    ValueError
        If `bins` is out of range.
    """

    def __init__(self, bins: int = 10, device: str | torch.device = "cpu") -> None:
        _check_bins(bins)
        self.bins = bins
        self._numbers = torch.arange(bins, device=device)
        self._totals = torch.zeros((2 * len(BRANCHES), bins), dtype=torch.float64, device=device)
        """Rows: sum and count of the scenes, sum and count of the instances."""

    def add(self, t: Tensor, scene_loss: Tensor, instance_loss: Tensor, scene_of: Tensor) -> None:
        """Count the losses of one batch, all on the accumulator's device.

        Parameters
        ----------
        t : (S,) float
            Times of the groups, in [0, 1].
        scene_loss, instance_loss : (S,) and (M,) float
            Of each sequence (`GroupedLoss.per_scene`, `per_instance`); gradients are not followed.
        scene_of : (M,) int64
            The group of each instance.
        """
        with torch.no_grad():
            place = (t * self.bins).long().clamp(0, self.bins - 1)
            for row, (losses, places) in enumerate(((scene_loss, place), (instance_loss, place[scene_of]))):
                hit = places[:, None] == self._numbers
                # Chosen, not multiplied: 0 * NaN would spoil every bin.
                chosen = torch.where(hit, losses.double()[:, None], 0.0)
                self._totals[2 * row] += chosen.sum(0)
                self._totals[2 * row + 1] += hit.sum(0)

    def as_vector(self) -> Tensor:
        """(4 * bins,) float64, a copy: sums and counts of the scenes' bins, then of the instances'.

        Vectors of several processes or stretches of time add up element by element.
        """
        return self._totals.flatten().clone()

    def clear(self) -> None:
        """Begin anew."""
        self._totals.zero_()

    @staticmethod
    def from_vector(values: Tensor | Sequence[float]) -> dict[str, float]:
        """Mean losses by name, such as `loss_scene/t_0.3_0.4`, of the bins that hold any.

        Parameters
        ----------
        values : (4 * bins,) tensor or sequence of float
            `as_vector`, or a sum of such vectors. Reading a tensor waits for its device.

        Raises
        ------
        ValueError
            If the length is that of no such vector.
        """
        totals = _rows(values)
        bins = len(totals[0])
        digits = next((digits for digits in (1, 2) if 10**digits % bins == 0), 3)
        return {
            f"loss_{branch}/t_{number / bins:.{digits}f}_{(number + 1) / bins:.{digits}f}": total / count
            for row, branch in enumerate(BRANCHES)
            for number, (total, count) in enumerate(zip(totals[2 * row], totals[2 * row + 1]))
            if count
        }


def branch_means(values: Tensor | Sequence[float]) -> tuple[float, float]:
    """Mean loss of all scenes and of all instances of a vector of `LossByTime`; zero where there are none.

    Raises
    ------
    ValueError
        If the length is that of no such vector.
    """
    scene, scenes, instance, instances = (sum(row) for row in _rows(values))
    return scene / max(scenes, 1), instance / max(instances, 1)


def _rows(values: Tensor | Sequence[float]) -> list[list[float]]:
    numbers = [float(value) for value in (values.tolist() if isinstance(values, Tensor) else values)]
    bins, rest = divmod(len(numbers), 2 * len(BRANCHES))
    if rest:
        raise ValueError(f"{len(numbers)} numbers are no vector of losses by time: it has four a bin")
    _check_bins(bins)
    return [numbers[row * bins : (row + 1) * bins] for row in range(2 * len(BRANCHES))]


def _check_bins(bins: int) -> None:
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"losses by time need 1 to {MAX_BINS} bins, not {bins}")
