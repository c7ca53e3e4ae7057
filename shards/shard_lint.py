"""lint of one tar: every byte hashed, every sample decoded, every word of it compared."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from randscene.errors import DatasetError
from randscene.shards.latent_sidecar import MEMBER as LATENTS
from randscene.shards.sample_codec import MemberError, npy_array
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, check_size, parse_index
from randscene.shards.shard_writer import samples_in, visible_ratio
from randscene.shards.store import Store
from randscene.shards.view_sample import LATENT_SHAPE, ViewSample, decode_sample

MEND = "remove its .index.json and run the build again, or copy the shard again"
"""How to come by a whole shard: a build writes every shard anew that has no index."""


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

    def merge(self, part: "LintReport") -> None:
        """Take over what was found in a part of the dataset, its scenes apart: parts may share them."""
        self.problems += part.problems
        self.notes += part.notes
        self.samples += part.samples
        self.shards += part.shards
        self.bytes += part.bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardJob:
    """One tar to check."""

    name: str
    """Name of the shard, without ending."""
    tar_bytes: int | None
    """Size of the tar as the folder lists it; None when it is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFindings:
    """What became of one shard."""

    report: LintReport
    index: ShardIndex | None = None
    """None when it cannot be read."""
    whole: bool = False
    """The tar could be read from its first byte to its last."""
    scenes: frozenset[int] = frozenset()
    keys: tuple[str, ...] = ()
    """Of the samples that decode."""


def lint_shard(
    store: Store,
    job: ShardJob,
    info: Mapping[str, Any],
    recipes: Mapping[int, Mapping[str, Any]] | None,
) -> ShardFindings:
    """Read one shard whole.

    Parameters
    ----------
    store : Store
    job : ShardJob
    info : mapping
        Content of `dataset.json`.
    recipes : mapping or None
        By scene: `split` and `uids` of the recipe.
    """
    name, report = job.name, LintReport()
    index = None
    scenes, seen = set[int](), set[str]()
    try:
        index = _index(store, job)
        split = str(index.header.get("split"))
        _header(index, name, split, info, report)
        for sample in _samples(store, name, index, report):
            check_sample(sample, f"{name}: {sample.key}", split, info, recipes, seen, report)
            scenes.add(sample.meta["scene"])
    except DatasetError as error:
        report.add(f"shards/{name}", str(error).removeprefix(f"{name}.tar: "))
        return ShardFindings(report=report, index=index)
    except FileNotFoundError:
        report.add(f"shards/{name}", "has gone since the folder was listed: is the dataset being built?")
        return ShardFindings(report=report, index=index)
    if not scenes.issubset(index.header.get("scenes", ())):
        report.add(f"shards/{name}{INDEX_ENDING}", f"does not name all scenes of its samples; {MEND}")
    report.shards, report.samples, report.bytes = 1, len(index), index.tar_bytes
    return ShardFindings(report=report, index=index, whole=True, scenes=frozenset(scenes), keys=tuple(seen))


def lint_latents(store: Store, where: str, sidecar: ShardIndex, n_instances: Sequence[int]) -> LintReport:
    """Read the latents of one shard: whole, and one for every scene and instance.

    Parameters
    ----------
    store : Store
    where : str
        Path of the tar in the dataset, without ending.
    sidecar : ShardIndex
        Its index.
    n_instances : sequence of int
        Of the samples of the shard, in order.
    """
    report = LintReport()
    keys = []
    try:
        with store.open(f"{where}.tar") as stream:
            reader = _HashingReader(stream)
            for row, (key, members, offsets) in enumerate(samples_in(reader, where=f"{where}.tar")):
                keys.append(key)
                if row < len(sidecar):
                    _check_latents(sidecar, row, members, offsets, n_instances[row], f"{where}: {key}", report)
            if reader.digest_of_all() != sidecar.tar_sha256:
                report.add(f"{where}.tar", "its SHA-256 is not the one in its index; remove it and encode again")
    except DatasetError as error:
        report.add(where, str(error))
    else:
        if tuple(keys) != sidecar.keys:
            report.add(f"{where}{INDEX_ENDING}", "its keys are not those of the tar; remove it and encode again")
    report.bytes = sidecar.tar_bytes
    return report


def _check_latents(
    sidecar: ShardIndex,
    row: int,
    members: dict[str, bytes],
    offsets: list[int],
    n_instances: int,
    where: str,
    report: LintReport,
) -> None:
    if not _placed(sidecar, row, members, offsets):
        report.add(where, "the index places its members elsewhere")
    try:
        latents = npy_array(members.get(LATENTS, b""))
    except MemberError as error:
        report.add(where, f"{LATENTS} {error}")
        return
    wanted = (n_instances + 1, *LATENT_SHAPE)
    if latents.shape != wanted or latents.dtype != np.float16 or not np.isfinite(latents).all():
        report.add(where, f"latents are not finite float16 of shape {wanted}")


def _placed(index: ShardIndex, row: int, members: dict[str, bytes], offsets: list[int]) -> bool:
    """Whether the index has the members of a sample, where they lie in the tar and of their sizes."""
    places = [(name, offset, len(data)) for offset, (name, data) in zip(offsets, members.items())]
    return places == list(zip(index.members, index.offsets[row].tolist(), index.sizes[row].tolist()))


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


def _index(store: Store, job: ShardJob) -> ShardIndex:
    name = job.name
    if job.tar_bytes is None:
        raise DatasetError(f"the tar is missing though its index is there; {MEND}")
    index = parse_index(store.read(f"shards/{name}{INDEX_ENDING}"), where=f"{name}{INDEX_ENDING}")
    check_size(index, job.tar_bytes, where=f"{name}.tar")
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
            report.add(f"shards/{name}.tar", f"its SHA-256 is not the one in its index; {MEND}")
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
    if not _placed(index, row, members, offsets):
        report.add(where, "the index places its members elsewhere")
    instances = sample.meta["instances"]
    visible = min(item["visible_pixels"] for item in instances)
    if (index.n_instances[row], index.min_visible_pixels[row]) != (sample.n_instances, visible):
        report.add(where, "the index has other counts of instances or visible pixels")
    if index.min_visible_ratio is not None and index.min_visible_ratio[row] != visible_ratio(instances):
        report.add(where, "the index has another smallest visible ratio")


def _header(index: ShardIndex, name: str, split: str, info: Mapping[str, Any], report: LintReport) -> None:
    if index.header.get("fingerprint") != info["fingerprint"]:
        report.add(f"shards/{name}{INDEX_ENDING}", "belongs to another build: its fingerprint is not the dataset's")
    if split not in info["splits"] or not name.startswith(f"{split}-"):
        report.add(f"shards/{name}{INDEX_ENDING}", f"its split {split} is not in dataset.json or not in its name")


def check_sample(
    sample: ViewSample,
    where: str,
    split: str,
    info: Mapping[str, Any],
    recipes: Mapping[int, Mapping[str, Any]] | None,
    seen: set[str],
    report: LintReport,
) -> None:
    """Report what a decoded sample says of itself that does not hold.

    Parameters
    ----------
    sample : ViewSample
    where : str
        What the report calls it.
    split : str
        Split of its shard.
    info : mapping
        Content of `dataset.json`.
    recipes : mapping or None
        By scene: `split` and `uids` of the recipe.
    seen : set of str
        Keys so far; its own is added.
    report : LintReport
    """
    meta = sample.meta
    if sample.key in seen:
        report.add(where, "the key comes twice in the dataset")
    seen.add(sample.key)
    if meta.get("fingerprint") != info["fingerprint"]:
        report.add(where, "its fingerprint is not the dataset's")
    if meta.get("split") != split:
        report.add(where, f"its json says split {meta.get('split')}, its shard is of split {split}")
    for number, item in enumerate(meta["instances"], start=1):
        silent = [name for name in ("licence", "attribution") if not isinstance(item.get(name), str)]
        if silent:
            report.add(where, f"instance {number} does not state its {' and '.join(silent)}")
    told = [item["visible_pixels"] for item in meta["instances"]]
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
    elif recipe["uids"] != [item["uid"] for item in meta["instances"]]:
        report.add(where, "its instances are not those of its recipe")
