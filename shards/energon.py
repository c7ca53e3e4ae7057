"""The `.nv-meta` folder, with which NVIDIA's Megatron-Energon reads a dataset's shards as they are.

Format: https://nvidia.github.io/Megatron-Energon, dataset format on disk; files as release 7 of the package reads them:

* `.nv-meta/.info.json`: samples of each shard; `.nv-meta/split.yaml`: shards of each split;
  `.nv-meta/dataset.yaml`: what a sample is: its members as bytes, which a cooker makes something of.
* `shards/*.tar.idx`: where each sample begins, one little-endian uint64 a sample, then where the last one ends.
* `.nv-meta/index.sqlite`, on request: place of each sample and member by key, which Energon needs to join datasets or
  to fetch samples by their keys; `.nv-meta/index.uuid`: names the state of the dataset.

All of it follows from the shard indexes: no tar is read, and the same shards give the same bytes (the SQLite file:
with the same release of SQLite).
"""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.shards.dataset import Shard, committed_shards
from randscene.shards.dataset_info import read_info
from randscene.shards.shard_index import ShardIndex
from randscene.shards.shard_writer import BLOCK
from randscene.shards.store import Store, open_store

FOLDER = ".nv-meta"
OFFSETS_ENDING = ".tar.idx"
WRITERS = 16
"""Small files that are written at a time."""

_TABLES = """
CREATE TABLE samples (
    tar_file_id INTEGER NOT NULL,
    sample_key TEXT NOT NULL UNIQUE,
    sample_index INTEGER NOT NULL,
    byte_offset INTEGER,
    byte_size INTEGER
);
CREATE TABLE sample_parts (
    tar_file_id INTEGER,
    sample_index INTEGER,
    part_name TEXT,
    content_byte_offset INTEGER,
    content_byte_size INTEGER
);
"""
_INDEXES = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples (tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq ON sample_parts (tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full
    ON sample_parts (tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size);
"""


def write_energon(url: str | Path, *, by_key: bool = False) -> None:
    """Add the files to a dataset that `megatron-energon` needs to read it; run again, it writes the same files.

    `.info.json`, without which Energon sees no dataset, comes last.

    Parameters
    ----------
    url : str or path
        Dataset folder or URL that can be written.
    by_key : bool
        Also write `index.sqlite`; some 600 bytes a sample, and a minute or two for a large dataset.

    Raises
    ------
    DatasetError
        If there is no dataset, no committed shard, or an index is corrupt.
    RandsceneError
        If the disk is full or not writable.
    """
    store = open_store(url)
    info = read_info(store)
    # Energon takes a shard without samples for a broken one.
    shards = [shard for shard in committed_shards(store, None) if len(shard.index)]

    def write_offsets(shard: Shard) -> None:
        name = f"shards/{shard.name.removesuffix('.tar')}{OFFSETS_ENDING}"
        store.write(name, sample_offsets(shard.index).tobytes())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write_offsets, shards))
    splits: dict[str, list[str]] = {split: [] for split in info["splits"]}
    for shard in shards:
        splits.setdefault(str(shard.index.header.get("split")), []).append(f"shards/{shard.name}")
    sample = {
        "__module__": "megatron.energon",
        "__class__": "CrudeWebdataset",
        "decoder": None,
        "subflavors": {"dataset": info["name"], "schema": info["schema"]},
    }
    identity = _identity(shards)
    # JSON is YAML, too, and needs no package.
    store.write(f"{FOLDER}/dataset.yaml", _json(sample))
    store.write(f"{FOLDER}/split.yaml", _json({"split_parts": splits, "exclude": []}))
    if by_key:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "index.sqlite"
            _write_database(path, shards)
            store.put(f"{FOLDER}/index.sqlite", path)
    elif not _is_of(store, identity):
        store.remove(f"{FOLDER}/index.sqlite")  # of another state of the dataset
    store.write(f"{FOLDER}/index.uuid", identity)
    counts = {f"shards/{shard.name}": len(shard.index) for shard in shards}
    store.write(f"{FOLDER}/.info.json", _json({"energon_version": None, "shard_counts": counts}))


def sample_offsets(index: ShardIndex) -> NDArray[Any]:
    """Content of a shard's `.tar.idx`.

    Returns
    -------
    np.ndarray
        (S + 1,) little-endian uint64: first byte in the tar of each sample's first header, then of the end mark.
    """
    starts = index.offsets[:, 0].astype("<u8") - BLOCK
    last = int(index.offsets[-1, -1]) + int(index.sizes[-1, -1])
    return np.append(starts, np.array([last + -last % BLOCK], "<u8"))


def _is_of(store: Store, identity: str) -> bool:
    """Whether the files by Energon's name that lie there were written for these very shards."""
    try:
        return store.read(f"{FOLDER}/index.uuid").decode() == identity
    except (FileNotFoundError, ValueError):
        return False


def _write_database(path: Path, shards: list[Shard]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TABLES)
        database.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", _samples(shards))
        database.executemany("INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)", _parts(shards))
        database.executescript(_INDEXES)


def _samples(shards: list[Shard]) -> Iterator[tuple[int, str, int, int, int]]:
    for number, shard in enumerate(shards):
        offsets = sample_offsets(shard.index)
        for row, (key, start, end) in enumerate(zip(shard.index.keys, offsets[:-1].tolist(), offsets[1:].tolist())):
            yield number, key, row, start, end - start


def _parts(shards: list[Shard]) -> Iterator[tuple[int, int, str, int, int]]:
    for number, shard in enumerate(shards):
        index = shard.index
        for row, (offsets, sizes) in enumerate(zip(index.offsets.tolist(), index.sizes.tolist())):
            for name, start, size in zip(index.members, offsets, sizes):
                yield number, row, name, start, size


def _identity(shards: list[Shard]) -> str:
    """A UUID (version 8, RFC 9562) that follows from the shards' hashes."""
    digest = hashlib.sha256("".join(shard.index.tar_sha256 for shard in shards).encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
