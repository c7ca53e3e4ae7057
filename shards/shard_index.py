"""ShardIndex: where each member of each sample lies in a tar. Its file is the mark that the shard is committed."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import canonical_json
from randscene.errors import DatasetError
from randscene.files import sha256_of
from randscene.shards.store import Store

INDEX_SCHEMA = 1
INDEX_ENDING = ".index.json"
KEY = re.compile(r"[0-9A-Za-z_-]+")
"""A sample's key. WebDataset ends the key at the first dot of a name and would take a slash for a folder."""
_KEYS = re.compile(rf"(?:{KEY.pattern},)*")
READERS = 16
"""Indexes of a remote dataset that are fetched at a time."""
RATIO_DIGITS = 4
"""Decimals to which `min_visible_ratio` is rounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry:
    """Where one sample lies in its tar."""

    key: str
    members: dict[str, tuple[int, int]]
    """Member name to (offset of its first byte in the tar, size), bytes."""
    n_instances: int
    min_visible_pixels: int
    """Visible pixels of the instance that shows least."""
    min_visible_ratio: float | None
    """Smallest visible share of any instance: visible over unoccluded pixels; None where the shard does not say."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """Content of a shard's `.index.json`, column by column. S samples with the same M members each.

    Kept as arrays, since a dataset holds one for each of its shards: 64 bytes a sample instead of some 200.
    """

    header: dict[str, Any]
    """What the shard is: `split`, `block`, `scenes`, `attempts`, `fingerprint`."""
    members: tuple[str, ...]
    """Names of the members, in the order in which they lie in the tar."""
    key_column: NDArray[Any]
    """(S,) bytes, ASCII: keys of the samples, in the order in which they lie in the tar."""
    offsets: NDArray[Any]
    """(S, M) uint32, int64 where the tar has 4 GiB or more: first byte of each member in the tar."""
    sizes: NDArray[Any]
    """(S, M), dtype of `offsets`: bytes of each member."""
    n_instances: NDArray[Any]
    """(S,) int32."""
    min_visible_pixels: NDArray[Any]
    """(S,) int32: visible pixels of the instance that shows least."""
    min_visible_ratio: NDArray[Any] | None
    """(S,) float64 in [0, 1]: smallest share of any instance's own pixels that is visible (visible over unoccluded),
    rounded to `RATIO_DIGITS` decimals. None in shards whose samples do not say, and in those written before it was."""
    tar_bytes: int
    tar_sha256: str

    def __len__(self) -> int:
        return len(self.key_column)

    @property
    def n_samples(self) -> int:
        """Number of samples S."""
        return len(self.key_column)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the samples, in the order in which they lie in the tar; made anew at each call."""
        return tuple(self.key_column.astype(str).tolist())

    def key(self, row: int) -> str:
        """Key of one sample."""
        return bytes(self.key_column[row]).decode()

    @cached_property
    def samples(self) -> Sequence[SampleEntry]:
        """The same, sample by sample."""
        ratios = [None] * len(self) if self.min_visible_ratio is None else self.min_visible_ratio.tolist()
        rows = zip(
            self.keys,
            self.offsets.tolist(),
            self.sizes.tolist(),
            self.n_instances.tolist(),
            self.min_visible_pixels.tolist(),
            ratios,
        )
        return tuple(
            SampleEntry(
                key=key,
                members=dict(zip(self.members, zip(offsets, sizes))),
                n_instances=count,
                min_visible_pixels=least,
                min_visible_ratio=ratio,
            )
            for key, offsets, sizes, count, least, ratio in rows
        )

    def to_json(self) -> str:
        """Canonical JSON, one line."""
        content = {
            "schema": INDEX_SCHEMA,
            "header": self.header,
            "n_samples": self.n_samples,
            "tar": {"bytes": self.tar_bytes, "sha256": self.tar_sha256},
            "members": self.members,
            "keys": self.keys,
            "offsets": self.offsets,
            "sizes": self.sizes,
            "n_instances": self.n_instances,
            "min_visible_pixels": self.min_visible_pixels,
        }
        if self.min_visible_ratio is not None:
            content["min_visible_ratio"] = self.min_visible_ratio
        return canonical_json.dumps(content) + "\n"


def instances_by_scene(indices: Iterable[ShardIndex]) -> dict[int, int]:
    """Number of instances of each scene that has a sample, by scene index."""
    pairs = ((key, count) for index in indices for key, count in zip(index.keys, index.n_instances.tolist()))
    return {int(key.partition("_")[0]): count for key, count in pairs}


def index_path(tar: str | Path) -> Path:
    """The path of the index beside a tar: `x.tar` to `x.index.json`."""
    return Path(tar).with_suffix(INDEX_ENDING)


def load_index(path: str | Path, *, verify: bool = False) -> ShardIndex:
    """The index of a local shard.

    Parameters
    ----------
    path : path
        The tar; the index lies beside it.
    verify : bool
        Also read the whole tar and compare its SHA-256.

    Raises
    ------
    DatasetError
        If the index or the tar is missing, the index is corrupt, or the tar is not the one that it describes.
    """
    tar = Path(path)
    try:
        data = index_path(tar).read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f"{index_path(tar)}: no such index; the shard was never committed") from error
    try:
        size = tar.stat().st_size
    except FileNotFoundError as error:
        raise DatasetError(f"{tar} is missing though its index is there; copy or build it again") from error
    index = parse_index(data, where=str(index_path(tar)))
    check_size(index, size, where=str(tar))
    if verify and sha256_of(tar) != index.tar_sha256:
        raise DatasetError(f"{tar}: its SHA-256 is not the one in its index; copy or build it again")
    return index


def read_index(store: Store, tar: str) -> ShardIndex:
    """The index beside a tar of a store, by the tar's name there; whether the tar is whole is not asked.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DatasetError
        If it is corrupt or cannot be had.
    """
    name = tar.removesuffix(".tar") + INDEX_ENDING
    return parse_index(store.read(name), where=f"{store.url}/{name}")


def read_indices(store: Store, folder: str, names: Sequence[str], sizes: Mapping[str, int]) -> list[ShardIndex]:
    """The indexes of committed shards.

    Parameters
    ----------
    store : Store
    folder : str
        Where they lie, e.g. `shards`.
    names : sequence of str
        Names of the shards, without ending.
    sizes : mapping of str to int
        Name to bytes, of all files of the folder.

    Raises
    ------
    DatasetError
        If a tar is missing or not whole, or an index is corrupt or gone.
    """
    for name in names:
        if f"{name}.tar" not in sizes:
            raise DatasetError(f"{store.url}: {folder}/{name}.tar is missing though its index is there; copy it again")

    def read(name: str) -> ShardIndex:
        where = f"{store.url}/{folder}/{name}"
        try:
            index = read_index(store, f"{folder}/{name}.tar")
        except FileNotFoundError as error:
            raise DatasetError(f"{where}{INDEX_ENDING} has gone meanwhile; is the dataset being built?") from error
        check_size(index, sizes[f"{name}.tar"], where=f"{where}.tar")
        return index

    if store.local is not None:
        return [read(name) for name in names]
    with ThreadPoolExecutor(READERS) as pool:  # each answer of an object store takes its time
        return list(pool.map(read, names))


def check_size(index: ShardIndex, size: int, *, where: str) -> None:
    """Raise a DatasetError unless the tar called `where` has the `size` in bytes that its index states."""
    if size != index.tar_bytes:
        raise DatasetError(
            f"{where}: has {size} bytes, its index says {index.tar_bytes}; it is not whole: copy or build it again"
        )


def parse_index(data: bytes, *, where: str) -> ShardIndex:
    """Read the bytes of an `.index.json`.

    Raises
    ------
    DatasetError
        If they are not an index of this schema, or its columns do not fit together.
    """
    try:
        tables: dict[str, NDArray[Any]] = {}
        for name in ("offsets", "sizes"):
            data = _take_table(data, name, tables)
        content = json.loads(data) | tables
        if content["schema"] != INDEX_SCHEMA:
            raise DatasetError(
                f"{where}: index schema {content['schema']} is not {INDEX_SCHEMA}: use the release that wrote it"
            )
        keys = content["keys"]
        if not _KEYS.fullmatch(",".join([*keys, ""])):
            raise ValueError("a key is malformed")
        shape = (len(keys), len(content["members"]))
        header = dict(content["header"])
        if not all(isinstance(scene, int) for scene in header.get("scenes", ())):
            raise ValueError("a scene is no number")
        index = ShardIndex(
            header=header,
            members=tuple(content["members"]),
            key_column=key_column(keys),
            offsets=_column(content["offsets"], shape, np.int64),
            sizes=_column(content["sizes"], shape, np.int64),
            n_instances=_column(content["n_instances"], shape[:1], np.int32),
            min_visible_pixels=_column(content["min_visible_pixels"], shape[:1], np.int32),
            min_visible_ratio=(
                _column(content["min_visible_ratio"], shape[:1], np.float64) if "min_visible_ratio" in content else None
            ),
            tar_bytes=int(content["tar"]["bytes"]),
            tar_sha256=str(content["tar"]["sha256"]),
        )
        if int(content["n_samples"]) != len(set(keys)) or len(set(keys)) != len(keys):
            raise ValueError("keys are missing or double")
        _check_places(index)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{where}: not a readable shard index ({error}); build the shard again") from error
    kind = place_dtype(index.tar_bytes)
    return dataclasses.replace(index, offsets=index.offsets.astype(kind), sizes=index.sizes.astype(kind))


def key_column(keys: Sequence[str]) -> NDArray[Any]:
    """(S,) bytes: keys as an index holds them."""
    return np.array(keys, "S") if keys else np.empty(0, "S1")


def place_dtype(tar_bytes: int) -> type:
    """The smallest dtype that holds every offset and size of a tar."""
    return np.uint32 if tar_bytes < 2**32 else np.int64


def _take_table(data: bytes, name: str, tables: dict[str, NDArray[Any]]) -> bytes:
    """Read the rows of numbers called `name` into `tables` and return the JSON without them.

    A shard has some 10,000 numbers in each of its two tables, and the JSON parser makes a Python object of every one.
    Anything that is not in the canonical form is left to it.
    """
    mark = b'"%s":[[' % name.encode()
    start = data.find(mark)
    end = data.find(b"]]", start)
    if start < 0 or end < 0:
        return data
    text = data[start + len(mark) : end]
    rows = text.count(b"],[") + 1
    flat = text.replace(b"],[", b",")
    if not flat[-1:].isdigit() or flat.translate(None, b"0123456789,") or b",," in b"," + flat:
        return data
    values = np.fromstring(flat, np.int64, sep=",")
    if values.size != flat.count(b",") + 1 or values.size % rows:
        return data
    tables[name] = values.reshape(rows, -1)
    return data[:start] + b'"%s":null' % name.encode() + data[end + 2 :]


def _column(values: Any, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    array = np.asarray(values, np.int64).reshape(shape) if not shape[0] else np.asarray(values, dtype)
    if array.shape != shape:
        raise ValueError(f"a column has shape {array.shape}, not {shape}")
    return array.astype(dtype, copy=False)


def _check_places(index: ShardIndex) -> None:
    starts, ends = index.offsets.ravel(), (index.offsets + index.sizes).ravel()
    if (index.sizes < 0).any() or (starts < 512).any() or (starts[1:] < ends[:-1]).any():
        raise ValueError("members overlap")
    if len(ends) and (ends[-1] > index.tar_bytes or (ends < starts).any()):
        raise ValueError("a member ends behind the tar")
    ratio = index.min_visible_ratio
    if ratio is not None and not ((ratio >= 0) & (ratio <= 1)).all():
        raise ValueError("min_visible_ratio is not between 0 and 1")
