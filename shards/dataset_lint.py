"""lint: does a dataset hold what it says? Every byte is hashed, every sample decoded, every count compared."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from randscene.errors import DatasetError
from randscene.shards.dataset import read_info, shard_files
from randscene.shards.latent_sidecar import MEMBER as LATENTS
from randscene.shards.latent_sidecar import belongs, latent_sets, sidecar_folder
from randscene.shards.sample_codec import MemberError, npy_array
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, check_size, parse_index
from randscene.shards.shard_writer import samples_in
from randscene.shards.store import Store, open_store
from randscene.shards.view_sample import LATENT_SHAPE, ViewSample, decode_sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong."""

    where: str
    """File or sample."""
    message: str


@dataclass(kw_only=True)
class LintReport:
    """What `lint` found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Things that are worth knowing and are no fault of the data, such as an unfinished build."""
    scenes: int = 0
    samples: int = 0
    shards: int = 0
    bytes: int = 0
    """Bytes of tar that were read."""

    @property
    def ok(self) -> bool:
        """True when there is no problem."""
        return not self.problems

    def add(self, where: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(where=where, message=message))


def lint(url: str | Path, *, progress: Callable[[int, int], None] | None = None) -> LintReport:
    """Read a whole dataset and list everything that is wrong with it; stops at nothing that it can get past.

    Checked: `dataset.json`; that every committed shard belongs to it, has the size and SHA-256 of its index, and
    agrees with the index in keys, places and filter columns; that every sample decodes and is what `ViewSample`
    states, shows each instance, counts its visible pixels right, and names its licence and credit; that no key comes
    twice; that latents beside the shards are whole and theirs; and that shards, samples, scenes and recipes agree in
    number and content.

    Parameters
    ----------
    url : str or path
        Dataset folder or URL.
    progress : callable, optional
        Called with (shards read, shards in all) after each shard.

    Returns
    -------
    LintReport

    Raises
    ------
    DatasetError
        Only if there is no dataset to look at.
    """
    store = open_store(url)
    info = read_info(store)
    report = LintReport()
    names, uncommitted, sizes = shard_files(store, None)
    recipes = _recipes(store, report)
    indices: dict[str, ShardIndex] = {}
    scenes: dict[str, set[int]] = {split: set() for split in info["splits"]}
    found: dict[str, Counter[str]] = {split: Counter() for split in info["splits"]}
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        try:
            indices[name] = index = _index(store, name, sizes)
            split = str(index.header.get("split"))
            _header(index, name, split, info, report)
            for sample in _samples(store, name, index, report):
                _sample(sample, f"{name}: {sample.key}", split, info, recipes, seen, report)
                if split in scenes:
                    scenes[split].add(sample.meta["scene"])
        except DatasetError as error:
            report.add(f"shards/{name}", str(error).removeprefix(f"{name}.tar: "))
            continue
        if split in found:
            found[split].update(shards=1, samples=len(index))
        report.shards += 1
        report.samples += len(index)
        report.bytes += index.tar_bytes
        if progress is not None:
            progress(number, len(names))
    report.scenes = sum(map(len, scenes.values()))
    _latents(store, indices, report)
    for name in uncommitted:
        report.notes.append(f"shards/{name}.tar has no index: it was never committed, and readers ignore it")
    if not info.get("complete"):
        report.notes.append("the build is not finished")
    else:
        _counts(info, found, scenes, recipes, report)
    return report


class _HashingReader:
    """Hashes a stream while it is read, so that a shard of any size is read once and never held whole."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest_of_all(self) -> str:
        while self.read(1 << 20):
            pass
        return self._hash.hexdigest()


def _index(store: Store, name: str, sizes: dict[str, int]) -> ShardIndex:
    if f"{name}.tar" not in sizes:
        raise DatasetError("the tar is missing though its index is there")
    index = parse_index(store.read(f"shards/{name}{INDEX_ENDING}"), where=f"{name}{INDEX_ENDING}")
    check_size(index, sizes[f"{name}.tar"], where=f"{name}.tar")
    return index


def _samples(store: Store, name: str, index: ShardIndex, report: LintReport) -> Iterator[ViewSample]:
    """Read one shard whole; problems of single samples go to the report, of the tar into a DatasetError."""
    keys = []
    with store.open(f"shards/{name}.tar") as stream:
        reader = _HashingReader(stream)
        for row, (key, members, offsets) in enumerate(samples_in(reader, where=f"{name}.tar")):
            keys.append(key)
            try:
                sample = decode_sample(members, where=key)
            except DatasetError as error:
                report.add(f"{name}: {key}", str(error).removeprefix(f"{key}: "))
                continue
            if sample.key != key:
                report.add(f"{name}: {key}", f"its json says {sample.key}")
            if row < len(index):
                _row(index, row, members, offsets, sample, f"{name}: {key}", report)
            yield sample
        if reader.digest_of_all() != index.tar_sha256:
            report.add(f"shards/{name}.tar", "its SHA-256 is not the one in its index")
    if tuple(keys) != index.keys:
        report.add(f"shards/{name}{INDEX_ENDING}", "its keys are not those of the tar")


def _row(
    index: ShardIndex,
    row: int,
    members: dict[str, bytes],
    offsets: list[int],
    sample: ViewSample,
    where: str,
    report: LintReport,
) -> None:
    places = [(name, offset, len(data)) for offset, (name, data) in zip(offsets, members.items())]
    if places != list(zip(index.members, index.offsets[row].tolist(), index.sizes[row].tolist())):
        report.add(where, "the index places its members elsewhere")
    visible = min(int(item["visible_pixels"]) for item in sample.meta["instances"])
    if (index.n_instances[row], index.min_visible_pixels[row]) != (sample.n_instances, visible):
        report.add(where, "the index has other counts of instances or visible pixels")


def _latents(store: Store, indices: dict[str, ShardIndex], report: LintReport) -> None:
    """Latents beside the shards: made of these very shards, whole, and one for every scene and instance."""
    try:
        sets = latent_sets(store)
    except DatasetError as error:
        report.add("latents", str(error))
        return
    for item in sets:
        folder = sidecar_folder(item.sha256)
        lacking = sum(name not in item.shards for name in indices)
        if lacking:
            report.notes.append(f"{folder} lacks {lacking} of {len(indices)} shards: run `randscene encode` again")
        for name, sidecar in item.shards.items():
            where = f"{folder}/{name}"
            if name not in indices or not belongs(sidecar, indices[name]):
                report.add(where, "was made of another shard: run `randscene encode` again")
                continue
            counts = iter(indices[name].n_instances)
            try:
                with store.open(f"{where}.tar") as stream:
                    reader = _HashingReader(stream)
                    for key, members, _ in samples_in(reader, where=f"{where}.tar"):
                        latents = npy_array(members[LATENTS])
                        wanted = (int(next(counts)) + 1, *LATENT_SHAPE)
                        if latents.shape != wanted or latents.dtype != np.float16 or not np.isfinite(latents).all():
                            report.add(f"{where}: {key}", f"latents are not finite float16 of shape {wanted}")
                    if reader.digest_of_all() != sidecar.tar_sha256:
                        report.add(f"{where}.tar", "its SHA-256 is not the one in its index")
            except (DatasetError, MemberError, KeyError) as error:
                report.add(where, str(error))
            report.bytes += sidecar.tar_bytes


def _header(index: ShardIndex, name: str, split: str, info: dict[str, Any], report: LintReport) -> None:
    if index.header.get("fingerprint") != info["fingerprint"]:
        report.add(f"shards/{name}{INDEX_ENDING}", "belongs to another build: its fingerprint is not the dataset's")
    if split not in info["splits"] or not name.startswith(f"{split}-"):
        report.add(f"shards/{name}{INDEX_ENDING}", f"its split {split} is not in dataset.json or not in its name")


def _sample(
    sample: ViewSample,
    where: str,
    split: str,
    info: dict[str, Any],
    recipes: dict[int, dict[str, Any]] | None,
    seen: set[str],
    report: LintReport,
) -> None:
    meta = sample.meta
    if sample.key in seen:
        report.add(where, "the key comes twice in the dataset")
    seen.add(sample.key)
    if meta.get("fingerprint") != info["fingerprint"]:
        report.add(where, "its fingerprint is not the dataset's")
    if meta.get("split") != split:
        report.add(where, f"its json says split {meta.get('split')}, its shard is of split {split}")
    for number, item in enumerate(meta["instances"], start=1):
        silent = [name for name in ("uid", "licence", "attribution") if not isinstance(item.get(name), str)]
        if silent:
            report.add(where, f"instance {number} does not state its {' and '.join(silent)}")
    told = [int(item["visible_pixels"]) for item in meta["instances"]]
    counted = np.bincount(sample.ids.ravel(), minlength=sample.n_instances + 1)[1:].tolist()
    if told != counted:
        report.add(where, f"visible_pixels says {told}, the ids have {counted}")
    if min(counted) == 0:
        report.add(where, f"instance {counted.index(0) + 1} has no visible pixel")
    if (np.diff(sample.offsets) == 0).any():
        report.add(where, f"instance {int(np.argmin(np.diff(sample.offsets))) + 1} has no voxel")
    if recipes is None:
        return
    recipe = recipes.get(meta["scene"])
    if recipe is None:
        report.add(where, "recipes.jsonl has no such scene")
    elif [item["uid"] for item in recipe["instances"]] != [item["uid"] for item in meta["instances"]]:
        report.add(where, "its instances are not those of its recipe")


def _recipes(store: Store, report: LintReport) -> dict[int, dict[str, Any]] | None:
    try:
        lines = store.read("recipes.jsonl").decode().splitlines()
    except FileNotFoundError:
        report.notes.append("there is no recipes.jsonl to compare with")
        return None
    recipes = {}
    for number, line in enumerate(lines, start=1):
        try:
            recipe = json.loads(line)
            recipes[int(recipe["scene"])] = {"split": recipe["split"], "instances": list(recipe["instances"])}
        except (ValueError, KeyError, TypeError):
            report.add(f"recipes.jsonl, line {number}", "is not a recipe")
    return recipes


def _counts(
    info: dict[str, Any],
    found: dict[str, Counter[str]],
    scenes: dict[str, set[int]],
    recipes: dict[int, dict[str, Any]] | None,
    report: LintReport,
) -> None:
    for split, told in info["splits"].items():
        have = {"shards": found[split]["shards"], "samples": found[split]["samples"], "scenes": len(scenes[split])}
        for what, count in have.items():
            if told.get(what) != count:
                report.add("dataset.json", f"says {told.get(what)} {what} in split {split}, found {count}")
        if recipes is not None:
            planned = {scene for scene, recipe in recipes.items() if recipe["split"] == split}
            if planned != scenes[split]:
                report.add(
                    "recipes.jsonl", f"has {len(planned)} scenes of split {split}, the shards have {len(scenes[split])}"
                )
