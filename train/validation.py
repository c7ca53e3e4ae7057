"""The loss on fixed groups of a held-out split: one number that falls as long as a run learns what is new to it.

What is measured never changes within a run: the same views, instances, noise and times at every call. Times are not
drawn but stratified, the (i + 0.5) / groups quantiles of the run's own distribution of t: the loss depends on t more
than on anything else, so a few dozen groups tell as much as far more drawn ones.
"""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from randscene import seeding
from randscene.shards import Dataset, Mixture, ViewSample
from randscene.shards.preview_data import scenes_of
from randscene.train.batch import GroupBatch, LatentSource, build_batch, group_draws
from randscene.train.flow_matching import grouped_flow_loss
from randscene.train.loss_by_time import LossByTime, branch_means
from randscene.train.settings import RunSettings

_DEALT = 4096
"""Positions of a mixture that are counted to learn its proportions: whole windows, so each is exact to 1/4096."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, kw_only=True)
class ValidationLoss:
    """Means over all groups; the parts are those of `GroupedLoss`."""

    scene: float
    instance: float
    by_time: dict[str, float]
    """Mean losses in parts of t, by name: see `LossByTime.from_vector`."""

    @classmethod
    def from_vector(cls, values: Tensor | Sequence[float]) -> "ValidationLoss":
        """From `Validation.sums`, added up over the processes."""
        scene, instance = branch_means(values)
        return cls(scene=scene, instance=instance, by_time=LossByTime.from_vector(values))

    def total(self, scene_weight: float = 1.0) -> float:
        """`scene_weight * scene + instance`, as training weighs them."""
        return scene_weight * self.scene + self.instance


class Validation:
    """Fixed groups of a held-out split.

    Group i shows view i of an even choice (`spread_views`; of a mixture, each dataset gets its share of the groups).
    Its instances and noise follow from (run seed, "validation", i), its t from i and the number of groups. No
    condition is dropped.

    Parameters
    ----------
    data : Mixture or Dataset
        The held-out samples.
    settings : RunSettings
        Of the run.
    source : LatentSource
        Of the run.
    groups : int
        How many. More than there are views take them again, with other instances, noise and t.
    groups_at_once : int
        Groups that go through the model together. Processes share out whole micro-batches, so a sum does not depend
        on their number; another `groups_at_once` may change the last digits of float32.
    bins : int
        Parts of t that are told apart.

    Raises
    ------
    ValueError
        If a number is below 1.
    """

    def __init__(
        self,
        data: Mixture | Dataset,
        settings: RunSettings,
        source: LatentSource,
        groups: int,
        *,
        groups_at_once: int = 4,
        bins: int = 10,
    ) -> None:
        if min(groups, groups_at_once) < 1:
            raise ValueError(f"{groups} groups of validation, {groups_at_once} at once: both must be at least 1")
        self.groups, self.groups_at_once = groups, groups_at_once
        self._settings, self._source, self._bins = settings, source, bins
        self._places = _places(data, groups)
        self._times = stratified_times(groups, mean=settings.optimiser.t_mean, std=settings.optimiser.t_std)
        self._built: dict[int, GroupBatch] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """The views of the groups, in their order."""
        return tuple(place.dataset.keys[place.index] for place in self._places)

    @property
    def names(self) -> tuple[str, ...]:
        """The mixture's name of each group's dataset; the dataset's own where there is no mixture."""
        return tuple(place.name for place in self._places)

    @property
    def times(self) -> Tensor:
        """(groups,) float32, the rising t of the groups."""
        return self._times

    def loss(self, model: nn.Module, device: str | torch.device, precision: str) -> ValidationLoss:
        """The loss of all groups, computed by this process alone; parameters are those of `sums`."""
        return ValidationLoss.from_vector(self.sums(model, device, precision))

    def sums(
        self,
        model: nn.Module,
        device: str | torch.device,
        precision: str,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> Tensor:
        """This process's part: to be added up over all processes, then given to `ValidationLoss.from_vector`.

        Batches are built at the first call and kept in memory: about 1 MB for each scene or instance of a
        518-pixel encoder.

        Parameters
        ----------
        model : nn.Module
            Called as `ConditionedFlow.forward` is. Put in evaluation mode, and back to its own at the end.
        device : str or torch.device
            Where the model is.
        precision : str
            `float32` or `bfloat16` (autocast).
        rank, world_size : int
            This process takes every world_size-th micro-batch, beginning with the rank-th.

        Returns
        -------
        (4 * bins,) float64 tensor on `device`
            Sums and counts of losses, see `LossByTime.as_vector`.

        Raises
        ------
        DatasetError
            If a sample cannot be read, or has another frame or encoder than the run's.
        """
        device = torch.device(device)
        by_time = LossByTime(self._bins, device)
        with evaluating(model):
            for number in range(rank, -(-self.groups // self.groups_at_once), world_size):
                self._add(by_time, model, device, precision, number)
        return by_time.as_vector()

    def samples(self, count: int) -> list[ViewSample]:
        """The first `count` different views, read now; fewer if there are fewer."""
        different = {(place.name, place.index): place for place in self._places}
        return [place.dataset[place.index] for place in list(different.values())[:count]]

    def _add(self, by_time: LossByTime, model: nn.Module, device: torch.device, precision: str, number: int) -> None:
        batch = self._batch(number)
        draws = group_draws(self._settings, batch)
        first = number * self.groups_at_once
        t = self._times[first : first + len(batch.keys)].to(device)
        x_scene, x_instance, noise_scene, noise_instance, images, scene_of = (
            tensor.to(device, non_blocking=True)
            for tensor in (
                batch.scene_latents,
                batch.instance_latents,
                draws.noise_scene,
                draws.noise_instance,
                batch.images,
                batch.scene_of,
            )
        )
        keep = torch.ones(len(t), dtype=torch.bool, device=device)
        losses = grouped_flow_loss(
            model,
            x_scene,
            x_instance,
            noise_scene,
            noise_instance,
            t,
            images,
            keep,
            scene_of,
            half=precision == "bfloat16",
        )
        by_time.add(t, losses.per_scene, losses.per_instance, scene_of)

    def _batch(self, number: int) -> GroupBatch:
        if number not in self._built:
            first = number * self.groups_at_once
            numbers = range(first, min(first + self.groups_at_once, self.groups))
            samples = [place.dataset[place.index] for place in self._places[numbers.start : numbers.stop]]
            # Places beyond any that training reaches: a batch's random numbers follow from its positions.
            positions = [seeding.integer(self._settings.seed, "validation", group) for group in numbers]
            self._built[number] = build_batch(samples, self._settings, self._source, positions=positions)
        return self._built[number]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode and without gradients while inside; then each of its modules in its own mode again.

    A frozen image encoder stays in evaluation mode while the rest of its model is trained.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def stratified_times(count: int, *, mean: float, std: float) -> Tensor:
    """(count,) float32 rising times: the (i + 0.5) / count quantiles of sigmoid(normal(mean, std))."""
    normal = statistics.NormalDist(mean, std)
    quantiles = (normal.inv_cdf((number + 0.5) / count) for number in range(count))
    return torch.tensor([1 / (1 + math.exp(-value)) for value in quantiles], dtype=torch.float32)


def spread_views(dataset: Dataset, count: int) -> list[int]:
    """Indices of `count` samples, the same ones at every call: all different scenes first, each from another side.

    As many scenes as possible, evenly spread over the dataset; then a second view of each, and so on. Only when there
    is no other view left does the list begin again.
    """
    views = list(scenes_of(dataset).values())
    taken = [0] * len(views)
    rounds: list[list[int]] = []
    left = min(count, len(dataset))
    while left:
        able = [scene for scene, places in enumerate(views) if taken[scene] < len(places)]
        wanted = min(left, len(able))
        rounds.append([able[(2 * place + 1) * len(able) // (2 * wanted)] for place in range(wanted)])
        for scene in rounds[-1]:
            taken[scene] += 1
        left -= wanted
    chosen = []
    for number, scenes in enumerate(rounds):
        for scene in scenes:
            # Which view a scene begins with walks around the circle; further ones are evenly spread after it.
            place = int((scene * _GOLDEN % 1 + number / taken[scene]) * len(views[scene]))
            chosen.append(views[scene][place % len(views[scene])])
    return [chosen[number % len(chosen)] for number in range(count)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """Where a group's view is found."""

    name: str
    dataset: Dataset
    index: int


def _places(data: Mixture | Dataset, groups: int) -> list[_Place]:
    """Each group's view; a mixture's datasets take turns, each in its proportion."""
    if isinstance(data, Dataset):
        name = str(data.info["name"])
        return [_Place(name=name, dataset=data, index=index) for index in spread_views(data, groups)]
    dealt = Counter(data.deal(position)[0] for position in range(_DEALT))
    counts: Counter[str] = Counter()
    turns = []
    for number in range(1, groups + 1):
        # The next one is the dataset whose share is furthest ahead of what it has got.
        behind = {name: number * dealt[name] - _DEALT * counts[name] for name in data.names}
        turns.append(max(data.names, key=behind.__getitem__))
        counts[turns[-1]] += 1
    indices = {name: iter(spread_views(data.datasets[name], counts[name])) for name in data.names}
    return [_Place(name=name, dataset=data.datasets[name], index=next(indices[name])) for name in turns]
