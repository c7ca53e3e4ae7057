"""Deterministic WebDataset tars: the same samples give the same bytes, and a shard is either committed or not there."""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.files import atomic_writer, write_atomic
from randscene.shards.shard_index import (
    KEY,
    RATIO_DIGITS,
    SampleEntry,
    ShardIndex,
    index_path,
    key_column,
    place_dtype,
)

BLOCK = 512
RECORD = 20 * BLOCK
"""Tars end on a multiple of this size, as tar has always written them."""


class _TarStream:
    """Writes members one after the other and hashes what it writes."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self.position = 0

    def _write(self, data: bytes) -> None:
        self._handle.write(data)
        self._hash.update(data)
        self.position += len(data)

    def add(self, name: str, data: bytes) -> int:
        """Append one file; returns the offset of its first byte."""
        info = tarfile.TarInfo(name)  # its defaults: mtime 0, uid and gid 0, no names, a regular file, mode 0644
        info.size = len(data)
        self._write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        start = self.position
        self._write(data)
        self._write(bytes(-len(data) % BLOCK))
        return start

    def close(self) -> str:
        """Append the end mark; returns the SHA-256 of everything."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.position % RECORD))
        return self._hash.hexdigest()


def write_tar(path: str | Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> tuple[int, str]:
    """Write samples as a WebDataset tar (USTAR): files `{key}.{member}`, members sorted by name, fixed headers.

    The file appears under its name only once it is whole.

    Parameters
    ----------
    path : path
    samples : iterable of (key, members)
        Keys may hold letters, digits, `_` and `-`; members map a name such as `rgb.webp` to its bytes.

    Returns
    -------
    (int, str)
        Bytes and SHA-256 of the tar.

    Raises
    ------
    ValueError
        If a key is malformed or comes twice.
    RandsceneError
        If the disk is full or not writable.
    """
    _, size, sha256 = _write(path, samples)
    return size, sha256


def write_shard(
    path: str | Path, samples: Iterable[tuple[str, Mapping[str, bytes]]], *, header: Mapping[str, Any]
) -> ShardIndex:
    """Write a shard: first the tar, then the index beside it, which commits it.

    An index of another tar is removed before this one takes its place, so that no index ever stands beside another tar.

    Parameters
    ----------
    path : path
        The tar, `{split}-{number:06d}.tar`.
    samples : iterable of (key, members)
        As `encode_members` gives them; all samples of a shard have the same members.
    header : mapping
        Stored in the index: `split`, `block`, `scenes`, `attempts`, `fingerprint`.

    Raises
    ------
    ValueError
        If a key is malformed or comes twice, or the samples differ in their members.
    RandsceneError
        If the disk is full or not writable.
    """
    place = index_path(path)

    def before_commit(sha256: str) -> None:
        if place.exists() and not is_index_of(place.read_bytes(), sha256):
            place.unlink()

    entries, size, sha256 = _write(path, samples, before_commit)
    names = tuple(entries[0].members) if entries else ()
    for entry in entries:
        if tuple(entry.members) != names:
            raise ValueError(f"{path}: {entry.key} has members {tuple(entry.members)}, the first sample has {names}")
    places: NDArray[Any] = np.array([list(entry.members.values()) for entry in entries], place_dtype(size))
    places = places.reshape(len(entries), len(names), 2)
    ratios = [entry.min_visible_ratio for entry in entries if entry.min_visible_ratio is not None]
    index = ShardIndex(
        header=dict(header),
        members=names,
        key_column=key_column([entry.key for entry in entries]),
        offsets=places[..., 0],
        sizes=places[..., 1],
        n_instances=np.array([entry.n_instances for entry in entries], np.int32),
        min_visible_pixels=np.array([entry.min_visible_pixels for entry in entries], np.int32),
        min_visible_ratio=np.array(ratios, np.float64) if len(ratios) == len(entries) else None,
        tar_bytes=size,
        tar_sha256=sha256,
    )
    write_atomic(place, index.to_json())
    return index


def is_index_of(content: bytes, sha256: str) -> bool:
    """Whether the content of an index file is of the tar with this hash."""
    try:
        return str(json.loads(content)["tar"]["sha256"]) == sha256
    except (ValueError, KeyError, TypeError):
        return False


def _write(
    path: str | Path,
    samples: Iterable[tuple[str, Mapping[str, bytes]]],
    before_commit: Callable[[str], None] | None = None,
) -> tuple[list[SampleEntry], int, str]:
    """The tar; `before_commit` is called with its SHA-256 just before it appears under its name."""
    entries: dict[str, SampleEntry] = {}
    with atomic_writer(path) as handle:
        stream = _TarStream(handle)
        for key, members in samples:
            if not KEY.fullmatch(key):
                raise ValueError(f"{path}: {key!r} is not a sample key")
            if key in entries:
                raise ValueError(f"{path}: key {key} comes twice")
            count, least, ratio = _facts(members)
            entries[key] = SampleEntry(
                key=key,
                members={
                    name: (stream.add(f"{key}.{name}", members[name]), len(members[name])) for name in sorted(members)
                },
                n_instances=count,
                min_visible_pixels=least,
                min_visible_ratio=ratio,
            )
        sha256 = stream.close()
        if before_commit is not None:
            before_commit(sha256)
        return list(entries.values()), stream.position, sha256


def _facts(members: Mapping[str, bytes]) -> tuple[int, int, float | None]:
    """Number of instances, the least visible pixels and the least visible ratio of any, which readers filter by."""
    instances = json.loads(members["json"])["instances"] if "json" in members else []
    return len(instances), min((item["visible_pixels"] for item in instances), default=0), visible_ratio(instances)


def visible_ratio(instances: Sequence[Mapping[str, Any]]) -> float | None:
    """Smallest visible share of any instance of a sample's json, rounded to `RATIO_DIGITS` decimals.

    Returns
    -------
    float or None
        In [0, 1]; None where an instance does not say how many pixels it would show alone, or there is no instance.
    """
    told = [item.get("unoccluded_pixels") for item in instances]
    if not told or None in told:
        return None
    shares = [item["visible_pixels"] / alone if alone else 0.0 for item, alone in zip(instances, told)]
    return round(min(1.0, *shares), RATIO_DIGITS)


def read_tar(path: str | Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a tar, in its order, as (key, members).

    Raises
    ------
    DatasetError
        If the file is missing, cut, corrupt, or holds anything but regular files called `{key}.{member}`.
    """
    try:
        with open(path, "rb") as handle:
            for key, members, _ in samples_in(handle, where=str(path)):
                yield key, members
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such shard") from error


class Readable(Protocol):
    """Anything with a binary `read`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""


def samples_in(handle: Readable, *, where: str) -> Iterator[tuple[str, dict[str, bytes], list[int]]]:
    """The samples of an open tar as (key, members, offset of each member); errors as in `read_tar`."""
    key, members, offsets = "", dict[str, bytes](), list[int]()
    for name, start, data in _files_in(handle, where):
        prefix, _, member = name.partition(".")
        if prefix != key:
            if members:
                yield key, members, offsets
            key, members, offsets = prefix, {}, []
        if member in members:
            raise DatasetError(f"{where}: holds {name} twice")
        members[member] = data
        offsets.append(start)
    if members:
        yield key, members, offsets


def _files_in(handle: Readable, where: str) -> Iterator[tuple[str, int, bytes]]:
    position = 0
    while True:
        block = handle.read(BLOCK)
        position += BLOCK
        if len(block) < BLOCK:
            raise DatasetError(f"{where}: is cut: it has no end mark; copy or build it again")
        if block.count(0) == BLOCK:
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise DatasetError(f"{where}: is corrupt at byte {position - BLOCK}; copy or build it again") from error
        key, dot, member = info.name.partition(".")
        if not (info.isreg() and dot and member and KEY.fullmatch(key)) or "/" in member:
            raise DatasetError(f"{where}: {info.name!r} is not a member of a sample")
        data = handle.read(info.size)
        padding = handle.read(-info.size % BLOCK)
        if len(data) + len(padding) < info.size + -info.size % BLOCK:
            raise DatasetError(f"{where}: is cut inside {info.name}; copy or build it again")
        yield info.name, position, data
        position += len(data) + len(padding)
