"""Dataset: random access to the samples of one split, and their stateless order."""

import contextlib
import json
import logging
import operator
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.shards.dataset_info import read_info
from randscene.shards.filters import Filters
from randscene.shards.latent_sidecar import MEMBER as LATENTS
from randscene.shards.latent_sidecar import LatentSet, choose_latents, latent_sets, sidecar_folder
from randscene.shards.order import permute
from randscene.shards.shard_cache import ShardCache
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, read_indices
from randscene.shards.store import Store, open_store
from randscene.shards.view_sample import ViewSample, decode_sample

log = logging.getLogger(__name__)

_SHARD = re.compile(r"([a-z][a-z0-9_]*)-\d{6,}(\.tar|\.index\.json)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """One committed shard of a dataset."""

    name: str
    """File name of the tar."""
    index: ShardIndex


def open_dataset(
    url: str | Path,
    *,
    split: str | None = "train",
    min_visible_pixels: int | None = None,
    min_visible_ratio: float | None = None,
    min_instances: int | None = None,
    max_instances: int | None = None,
    scenes: str | None = None,
    views: str | None = None,
    frame: str | None = None,
    latents: str | None = None,
    cache: str | Path | None = None,
    cache_limit: int | None = None,
) -> "Dataset":
    """Open one split of a dataset for reading.

    Filters read the shards' indexes alone, and all of them must hold.

    Parameters
    ----------
    url : str or path
        The dataset folder: a local path, or a URL that fsspec knows (`s3://...`, `gs://...`).
    split : str or None
        Name of the split; None for all splits together, in the order of their names.
    min_visible_pixels : int, optional
        Keep views in which every instance shows at least so many pixels.
    min_visible_ratio : float, optional
        Keep views in which every instance shows at least this share of the pixels that it would show alone, 0 to 1.
    min_instances, max_instances : int, optional
        Keep scenes of at least, of at most so many instances.
    scenes : str, optional
        `first:N` keeps the first N scenes of the split, by scene index; `A:B` keeps those at places A to B - 1.
        Scenes that were given up count, so the same words name the same scenes in every build of the dataset, and
        the samples come sorted by scene and view, whatever shards they lie in: a subset of a larger build is the
        same list.
    views : str, optional
        `first:N` or `A:B`: keep these views of each scene, by the number of the view, from 0.
    frame : str, optional
        `yaw`, `full` or `canonical`: refuse a dataset whose voxels and latents are in another frame.
    latents : str, optional
        Join the latents that `randscene encode` put beside the shards: the name of their encoder, or the first digits
        of the SHA-256 of its weights. Latents stored in the samples need no word.
    cache : path, optional
        Local folder for whole copies of the shards, each fetched when first read and compared with the SHA-256 of its
        index; any number of processes and datasets may share it. See `ShardCache`.
    cache_limit : int, optional
        Bytes to which the cache is kept, by removing the copies that were used longest ago; no limit by default.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        If there is no dataset, no committed shard of the split, a tar is missing or cut, shards of different builds
        are mixed, latents are asked for that are not there, the frame is another, or nothing passes the filters.
    """
    store = open_store(url)
    info = read_info(store)
    shards = committed_shards(store, split)
    _same_build(store.url, info, shards)
    _all_there(store.url, info, split, shards)
    if frame is not None:
        _same_frame(store, info, shards, frame)
    filters = Filters(
        min_visible_pixels=min_visible_pixels,
        min_visible_ratio=min_visible_ratio,
        min_instances=min_instances,
        max_instances=max_instances,
        scenes=scenes,
        views=views,
    )
    keep = filters.select([shard.index for shard in shards], where=f"{store.url}, split {split}")
    chosen = None
    if latents is not None:
        indices = {shard.name.removesuffix(".tar"): shard.index for shard in shards}
        chosen = choose_latents(store.url, latent_sets(store), latents, indices)
    copies = ShardCache(cache, limit=cache_limit) if cache is not None else None
    dataset = Dataset(store, info, shards, keep, chosen, copies)
    if cache_limit is not None and dataset.tar_bytes > cache_limit:
        log.warning(
            "%s: its shards take %d bytes and the cache only %d: reading in shuffled order fetches them again and "
            "again; give the cache more room, or read without it",
            store.url,
            dataset.tar_bytes,
            cache_limit,
        )
    return dataset


class Dataset:
    """The samples of a split; made by `open_dataset`.

    Indices run over the samples in the order of the shards' names and of the samples in each; where scenes were
    chosen, by scene and view. An instance is safe to use from several threads, forked or spawned processes.
    """

    def __init__(
        self,
        store: Store,
        info: dict[str, Any],
        shards: list[Shard],
        keep: NDArray[Any],
        latents: LatentSet | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        self._store = store
        self._latents = latents
        self._cache = cache
        self._keep = keep
        """Numbers of the samples that passed the filters, in index order, counted over all shards."""
        self._starts = np.cumsum([0, *(len(shard.index) for shard in shards)])
        self.info = info
        """Content of `dataset.json`."""
        self.shards = shards
        self.url = store.url

    def __len__(self) -> int:
        return len(self._keep)

    def __repr__(self) -> str:
        return f"Dataset({self.url!r}, {len(self)} samples in {len(self.shards)} shards)"

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the samples, in index order."""
        every = [key for shard in self.shards for key in shard.index.keys]
        return tuple(every[number] for number in self._keep.tolist())

    @property
    def tar_bytes(self) -> int:
        """Bytes of the shards that hold the samples, and of the latents beside them."""
        return sum(index.tar_bytes for _, index in self._tars())

    def fetch(self, *, threads: int = 4) -> None:
        """Bring all shards into the cache now; does nothing where the dataset was opened without one.

        Raises
        ------
        DatasetError
            If a shard has gone, or does not arrive as its index describes it.
        RandsceneError
            If the disk is full or not writable.
        """
        cache = self._cache
        if cache is not None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda item: cache.path(self._store, *item), self._tars()))

    def _tars(self) -> list[tuple[str, ShardIndex]]:
        """Path and index of each tar that samples are read from."""
        used = np.unique(np.searchsorted(self._starts, self._keep, side="right") - 1)
        return [tar for number in used.tolist() for tar in self._tars_of(self.shards[number])]

    def _tars_of(self, shard: Shard) -> list[tuple[str, ShardIndex]]:
        tars = [(f"shards/{shard.name}", shard.index)]
        if self._latents is not None:
            beside = self._latents.shards[shard.name.removesuffix(".tar")]
            tars.append((f"{sidecar_folder(self._latents.sha256)}/{shard.name}", beside))
        return tars

    def members(self, index: int, names: Collection[str] | None = None) -> dict[str, bytes]:
        """The stored bytes of sample `index`, by member name.

        Parameters
        ----------
        index : int
        names : collection of str, optional
            Read only these members, where the sample has them; all by default.

        Raises
        ------
        IndexError
            If there is no such index.
        DatasetError
            If the shard has gone or become shorter since the dataset was opened.
        """
        shard, row = self._place(index)
        index_of = shard.index
        places = list(zip(index_of.members, index_of.offsets[row].tolist(), index_of.sizes[row].tolist()))
        path = f"shards/{shard.name}"
        if names is not None:
            found = {
                name: self._read(path, index_of, start, start + size) for name, start, size in places if name in names
            }
        else:
            # Members lie side by side: one read for all.
            first = places[0][1]
            data = self._read(path, index_of, first, places[-1][1] + places[-1][2])
            found = {name: data[start - first : start - first + size] for name, start, size in places}
        if self._latents is not None and (names is None or LATENTS in names):
            beside = self._latents.shards[shard.name.removesuffix(".tar")]
            start = int(beside.offsets[row, 0])
            end = start + int(beside.sizes[row, 0])
            found[LATENTS] = self._read(f"{sidecar_folder(self._latents.sha256)}/{shard.name}", beside, start, end)
        return found

    def _read(self, path: str, index: ShardIndex, start: int, end: int) -> bytes:
        try:
            if self._cache is not None:
                return self._cache.read_range(self._store, path, index, start, end - start)
            data = self._store.read_range(path, start, end - start)
        except FileNotFoundError as error:
            raise DatasetError(
                f"{self.url}: {path} has gone since the dataset was opened; copy or build it again"
            ) from error
        if len(data) < end - start:
            raise DatasetError(f"{self.url}: {path} is cut; copy or build it again")
        return data

    def __getitem__(self, index: int) -> ViewSample:
        """Sample `index`.

        Raises
        ------
        IndexError
            If there is no such index.
        TypeError
            If it is no whole number: the key of a sample is looked up in `keys`.
        DatasetError
            If the sample cannot be read or is not what it should be.
        """
        shard, row = self._place(index)
        key = shard.index.key(row)
        where = f"{shard.name}: {key}"
        try:
            sample = decode_sample(self.members(index), where=where)
        except DatasetError:
            if self._cache is None:
                raise
            # The copy may have been damaged after it was proved: prove it again, then believe it.
            for path, tar in self._tars_of(shard):
                self._cache.doubt(path, tar)
            sample = decode_sample(self.members(index), where=where)
        if sample.key != key:
            raise DatasetError(
                f"{shard.name}: the index says {key}, the sample says {sample.key}; build the shard again"
            )
        if self._latents is not None:
            sample.meta["encoder"] = {"name": self._latents.name, "sha256": self._latents.sha256}
        return sample

    def ordered(self, seed: int, epoch: int = 0) -> Iterator[ViewSample]:
        """All samples once, in the shuffled order that belongs to (seed, epoch)."""
        for position in range(len(self)):
            yield self[int(permute(seed, epoch, len(self), position))]

    def _place(self, index: int) -> tuple[Shard, int]:
        try:
            index = operator.index(index)
        except TypeError as error:
            hint = f"dataset.keys.index({index!r}) is the index of a key" if isinstance(index, str) else "one at a time"
            raise TypeError(f"samples are numbered from 0, and {index!r} is no whole number: {hint}") from error
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = int(self._keep[index])
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.shards[shard], number - int(self._starts[shard])


def shard_files(store: Store, split: str | None) -> tuple[list[str], list[str], dict[str, int]]:
    """What lies in `shards/`: names of committed shards, names of tars without an index, and the sizes of all files.

    Names of shards are without ending, sorted. An index without its tar counts as committed.
    """
    sizes = store.sizes("shards")
    found: dict[str, set[str]] = {".tar": set(), INDEX_ENDING: set()}
    for name in sizes:
        match = _SHARD.fullmatch(name)
        if match and split in (None, match[1]):
            found[match[2]].add(name.removesuffix(match[2]))
    return sorted(found[INDEX_ENDING]), sorted(found[".tar"] - found[INDEX_ENDING]), sizes


def committed_shards(store: Store, split: str | None) -> list[Shard]:
    names, uncommitted, sizes = shard_files(store, split)
    if uncommitted:
        log.warning(
            "%s: %d shards without an index are ignored (%s): they were never committed; "
            "run the command that built the dataset again",
            store.url,
            len(uncommitted),
            uncommitted[0],
        )
    if not names:
        others = sorted({match[1] for name in sizes if (match := _SHARD.fullmatch(name))})
        held = f"it has {', '.join(others)}" if others and split not in others else "the build has not got that far"
        which = "" if split is None else f" of split {split}"
        raise DatasetError(f"{store.url} has no committed shard{which}: {held}")
    indices = read_indices(store, "shards", names, sizes)
    return [Shard(name=f"{name}.tar", index=index) for name, index in zip(names, indices)]


def _same_build(url: str, info: dict[str, Any], shards: list[Shard]) -> None:
    for shard in shards:
        fingerprint = shard.index.header.get("fingerprint")
        if fingerprint != info["fingerprint"]:
            raise DatasetError(
                f"{url}: shards/{shard.name} belongs to another build (fingerprint {str(fingerprint)[:12]}, "
                f"the dataset's is {info['fingerprint'][:12]}); remove it or build it again"
            )


def _all_there(url: str, info: dict[str, Any], split: str | None, shards: list[Shard]) -> None:
    """A finished dataset says how many shards it has; one that lost some must not be read as if it were whole."""
    if not info.get("complete"):
        log.warning("%s is not finished: only the shards that are committed so far are read", url)
        return
    splits = [split] if split is not None else list(info["splits"])
    counts = [info["splits"].get(name, {}) for name in splits]
    shards_told, samples_told = (sum(int(count.get(what, 0)) for count in counts) for what in ("shards", "samples"))
    samples = sum(len(shard.index) for shard in shards)
    if (shards_told, samples_told) != (len(shards), samples):
        raise DatasetError(
            f"{url}: dataset.json says {samples_told} samples in {shards_told} shards for {', '.join(splits)}, "
            f"found {samples} in {len(shards)}; copy the missing shards or build the dataset again"
        )


def _same_frame(store: Store, info: dict[str, Any], shards: list[Shard], frame: str) -> None:
    spec = info.get("spec")
    stated = spec.get("frame") if isinstance(spec, dict) else None
    own = stated.get("name") if isinstance(stated, dict) else None
    if own is None:  # a dataset that was not planned here: its samples say
        for shard in shards:
            if len(shard.index):
                first = shard.index.samples[0].members["json"]
                with contextlib.suppress(ValueError, AttributeError):  # reading it will say what is wrong with it
                    own = json.loads(store.read_range(f"shards/{shard.name}", *first)).get("frame")
                break
    if own != frame:
        raise DatasetError(
            f"{store.url}: its views are in frame {own}, not {frame}: open it with frame={own!r} or none"
        )
