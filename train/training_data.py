"""What a run reads: its mixture of datasets, its held-out views, and the micro-batches that loader processes build."""

import contextlib
import itertools
import signal
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from randscene import seeding
from randscene.errors import DatasetError, RandsceneError, SpecError, first_line
from randscene.shards import Dataset, Mixture, ViewSample, open_dataset, torch_loader
from randscene.shards.dataset_info import read_info
from randscene.shards.latent_sidecar import MEMBER as LATENTS
from randscene.shards.latent_sidecar import latent_sets
from randscene.shards.store import open_store
from randscene.train.batch import GroupBatch, GroupDraws, LatentSource, build_batch, group_draws
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.process_group import ProcessGroup
from randscene.train.settings import RunSettings
from randscene.train.step_plan import StepPlan
from randscene.worker_pool import usable_cores

MicroBatch = tuple[GroupBatch, GroupDraws]


def open_mixture(data: Sequence[str | Path], settings: RunSettings) -> Mixture:
    """The run's datasets by name, with the shares of `data.mixture`, or else by their numbers of samples.

    Raises
    ------
    DatasetError
        If a dataset is missing, broken, empty or given twice, or the mixture names others.
    """
    members = _members(data, settings, settings.data.split, settings.data.scenes or None)
    shares = settings.data.mixture
    if shares and shares.keys() != members.keys():
        raise DatasetError(
            f"data.mixture names {', '.join(sorted(shares))} but the datasets are {', '.join(sorted(members))}: "
            "give a share to each, by the name in its dataset.json"
        )
    weighted = {name: (dataset, shares.get(name, len(dataset))) for name, dataset in members.items()}
    return Mixture(weighted, seed=seeding.integer(settings.seed, "data"))


def open_validation(data: Sequence[str | Path], settings: RunSettings) -> Mixture | None:
    """The held-out views of the datasets that have some; None if the run measures nothing.

    Raises
    ------
    SpecError
        If no dataset has views of that split.
    """
    if settings.validation.groups == 0:
        return None
    split = settings.validation.split
    held_out = [url for url in data if _count(url, split) > 0]
    if not held_out:
        raise SpecError(
            f"validation.split: no dataset has views of a split called {split}; name another, or set "
            "validation.groups=0"
        )
    members = _members(held_out, settings, split, None)
    return Mixture({name: (dataset, len(dataset)) for name, dataset in members.items()}, seed=settings.seed)


def data_facts(mixture: Mixture, settings: RunSettings, source: LatentSource) -> dict[str, Any]:
    """What of the data a run depends on; looks at one sample of each dataset and refuses what does not fit.

    Raises
    ------
    DatasetError
        If a dataset is of another frame or encoder than the run's.
    """
    for name in mixture.names:
        sample = mixture.datasets[name][0]
        source.check(sample.meta, has_latents=sample.latents is not None, where=f"{name}, sample {sample.key}")
    return {
        "frame": settings.data.frame,
        "encoder": {"name": settings.data.encoder, "sha256": source.encoder_sha256},
        "datasets": {
            name: {"fingerprint": dataset.info["fingerprint"], "samples": len(dataset)}
            for name, dataset in mixture.datasets.items()
        },
    }


def conditioner_facts(model: ConditionedFlow) -> dict[str, Any]:
    """The weights of a frozen image encoder, which a run depends on as it does on its data."""
    return {"conditioner": model.conditioner.weights_sha256} if model.frozen_conditioner else {}


def micro_batches(
    mixture: Mixture, settings: RunSettings, source: LatentSource, plan: StepPlan, group: ProcessGroup, step: int
) -> "DataLoader[list[MicroBatch]]":
    """This rank's steps from `step` on, each a list of micro-batches, built where they are read."""
    return torch_loader(
        mixture,
        step=step,
        steps=max(settings.optimiser.steps - step, 0),
        batch_size=plan.groups,
        rank=group.rank,
        world_size=group.size,
        # More than there are cores for read no faster; how many there are changes nothing of what is read.
        num_workers=min(settings.data.loader_workers, usable_cores()),
        collate_at=_MicroBatches(settings, source, plan.groups_at_once),
        pin_memory=group.device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_trainer,
    )


@contextlib.contextmanager
def steps_of(loader: "DataLoader[list[MicroBatch]]") -> Iterator[Iterator[list[MicroBatch]]]:
    """A loader's steps while inside; afterwards its processes are gone, whatever has happened.

    Raises
    ------
    RandsceneError
        What a loader process raised, in that error's own line; or if one was killed.
    """
    steps = iter(loader)
    try:
        yield steps
    except RandsceneError as error:
        if not str(error).startswith("Caught "):
            raise
        # PyTorch makes the other process's traceback the message; the error's own words come last.
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(str(error).rpartition(name)[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise RandsceneError(
            f"a loader process has died ({first_line(error).strip(' .')}), most likely for want of memory, or of room "
            "in /dev/shm: lower data.loader_workers (at 0 the trainer reads itself), or give a container more with "
            "docker run --shm-size=8g; then start the same command again to go on"
        ) from error
    finally:
        _end_loader(steps)


def _end_loader(steps: Any) -> None:
    # PyTorch does so once the iterator is deleted, which an error's traceback keeps; at the interpreter's exit it sends
    # SIGTERM instead, to which these processes are deaf, and would wait for them without end.
    if hasattr(steps, "_shutdown_workers"):
        steps._shutdown_workers()
        for process in steps._workers:
            if process.is_alive():
                process.kill()


class _MicroBatches:
    """Samples to micro-batches; voxels are left to be encoded on the trainer's device."""

    def __init__(self, settings: RunSettings, source: LatentSource, at_once: int) -> None:
        self._settings, self._source, self._at_once = settings, source, at_once

    def __call__(self, samples: list[ViewSample], positions: range) -> list[MicroBatch]:
        parts = []
        for first in range(0, len(samples), self._at_once):
            chosen = slice(first, first + self._at_once)
            batch = build_batch(
                samples[chosen], self._settings, self._source, positions=positions[chosen], encode=False
            )
            parts.append((batch, group_draws(self._settings, batch)))
        return parts


def _leave_signals_to_the_trainer(worker: int) -> None:
    """A terminal's Ctrl-C reaches every process; the step at hand shall still be finished."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _members(data: Sequence[str | Path], settings: RunSettings, split: str, scenes: str | None) -> dict[str, Dataset]:
    members: dict[str, Dataset] = {}
    for url in data:
        dataset = open_split(url, split, settings.data.encoder, scenes)
        if any(dataset.info["fingerprint"] == other.info["fingerprint"] for other in members.values()):
            raise DatasetError(f"{url} is given twice, or is a copy of another one of the datasets: leave it out")
        members[unused_name(str(dataset.info["name"]), members)] = dataset
    return members


def unused_name(own: str, taken: Collection[str]) -> str:
    """What a run calls a dataset: by its own name, numbered from 2 on where an earlier one has it."""
    numbered = itertools.chain([own], (f"{own}-{number}" for number in itertools.count(2)))
    return next(name for name in numbered if name not in taken)


def open_split(url: str | Path, split: str | None, encoder: str, scenes: str | None = None) -> Dataset:
    """A split, with latents from beside its shards where it has them of the run's encoder and none inside."""
    dataset = open_dataset(url, split=split, scenes=scenes)
    inside = LATENTS in dataset.shards[0].index.members
    beside = [] if inside else [item.name for item in latent_sets(open_store(url))]
    return open_dataset(url, split=split, scenes=scenes, latents=encoder) if encoder in beside else dataset


def _count(url: str | Path, split: str) -> int:
    """Views of a split, by the dataset's own account."""
    return int(read_info(open_store(url))["splits"].get(split, {}).get("samples", 0))
