"""ShardIndex: where each member of each sample lies in a tar. Its file is the mark that the shard is committed."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from randscene import canonical_json
from randscene.errors import DatasetError
from randscene.files import sha256_of

log = logging.getLogger(__name__)

INDEX_SCHEMA = 1
INDEX_ENDING = ".index.json"
KEY = re.compile(r"[0-9A-Za-z_-]+")
"""A sample's key. WebDataset ends the key at the first dot of a name and would take a slash for a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry:
    """Where one sample lies in its tar."""

    key: str
    members: dict[str, tuple[int, int]]
    """Member name to (offset of its first byte in the tar, size), bytes."""
    n_instances: int
    min_visible_pixels: int
    """Visible pixels of the instance that shows least."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """Content of a shard's `.index.json`, column by column. S samples with the same M members each."""

    header: dict[str, Any]
    """What the shard is: `split`, `block`, `scenes`, `attempts`, `fingerprint`."""
    members: tuple[str, ...]
    """Names of the members, in the order in which they lie in the tar."""
    keys: tuple[str, ...]
    """Keys of the samples, in the order in which they lie in the tar."""
    offsets: np.ndarray
    """(S, M) int64: first byte of each member in the tar."""
    sizes: np.ndarray
    """(S, M) int64: bytes of each member."""
    n_instances: np.ndarray
    """(S,) int32."""
    min_visible_pixels: np.ndarray
    """(S,) int32: visible pixels of the instance that shows least."""
    tar_bytes: int
    tar_sha256: str

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_samples(self) -> int:
        """Number of samples S."""
        return len(self.keys)

    @cached_property
    def samples(self) -> Sequence[SampleEntry]:
        """The same, sample by sample."""
        rows = zip(
            self.keys,
            self.offsets.tolist(),
            self.sizes.tolist(),
            self.n_instances.tolist(),
            self.min_visible_pixels.tolist(),
        )
        return tuple(
            SampleEntry(
                key=key,
                members=dict(zip(self.members, zip(offsets, sizes))),
                n_instances=count,
                min_visible_pixels=least,
            )
            for key, offsets, sizes, count, least in rows
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
        return canonical_json.dumps(content) + "\n"


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
        content = json.loads(data)
        if content["schema"] != INDEX_SCHEMA:
            raise DatasetError(
                f"{where}: index schema {content['schema']} is not {INDEX_SCHEMA}: use the release that wrote it"
            )
        shape = (len(content["keys"]), len(content["members"]))
        index = ShardIndex(
            header=dict(content["header"]),
            members=tuple(content["members"]),
            keys=tuple(content["keys"]),
            offsets=_column(content["offsets"], shape, np.int64),
            sizes=_column(content["sizes"], shape, np.int64),
            n_instances=_column(content["n_instances"], shape[:1], np.int32),
            min_visible_pixels=_column(content["min_visible_pixels"], shape[:1], np.int32),
            tar_bytes=int(content["tar"]["bytes"]),
            tar_sha256=str(content["tar"]["sha256"]),
        )
        _check_places(index, int(content["n_samples"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: not a readable shard index ({error}); build the shard again") from error
    return index


def _column(values: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    array = np.asarray(values, np.int64).reshape(shape) if not shape[0] else np.asarray(values, dtype)
    if array.shape != shape:
        raise ValueError(f"a column has shape {array.shape}, not {shape}")
    return array.astype(dtype, copy=False)


def _check_places(index: ShardIndex, n_samples: int) -> None:
    if n_samples != len(index.keys) or len(set(index.keys)) != len(index.keys):
        raise ValueError("keys are missing or double")
    if not all(isinstance(key, str) and KEY.fullmatch(key) for key in index.keys):
        raise ValueError("a key is malformed")
    starts, ends = index.offsets.ravel(), (index.offsets + index.sizes).ravel()
    if (index.sizes < 0).any() or (starts < 512).any() or (starts[1:] < ends[:-1]).any():
        raise ValueError("members overlap")
    if len(ends) and ends[-1] > index.tar_bytes:
        raise ValueError("a member ends behind the tar")
