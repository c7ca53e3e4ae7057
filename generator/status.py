"""status: how far a build is, read from its folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.generator.block_header import read_header
from randscene.generator.build_driver import PROGRESS
from randscene.generator.dataset_folder import LOCK, DatasetFolder, blocks
from randscene.generator.failures import read_failures, reasons
from randscene.generator.journal import read_journal
from randscene.manifests.spec import parse_spec
from randscene.shards.dataset import shard_files
from randscene.shards.shard_index import INDEX_ENDING, read_indices
from randscene.shards.store import open_store
from randscene.shards.writer_lock import is_held


@dataclass(frozen=True, kw_only=True)
class BuildStatus:
    """Where a build stands."""

    url: str
    name: str
    fingerprint: str
    running: bool
    """Whether a process holds the folder's lock."""
    complete: bool
    scenes_total: int
    scenes_packed: int
    scenes_staged: int
    given_up: dict[int, str]
    """Scenes that failed every attempt, with the reason of the last one; only of committed shards."""
    shards_total: int
    shards_done: int
    uncommitted: list[str]
    """Tars that stand without an index."""
    samples: int
    bytes: int
    staged_bytes: int
    failures: dict[str, int]
    """Failed attempts of all runs, by reason."""
    last: dict[str, Any] | None
    """Last line of the progress journal."""


def build_status(url: str | Path) -> BuildStatus:
    """Read how far the build of a dataset is. Changes nothing, and may be asked at any time.

    Parameters
    ----------
    url : path or URL
        Dataset folder.

    Raises
    ------
    DatasetError
        If it is no dataset folder, or an index is corrupt or was not written by a build.
    """
    store = open_store(url)
    info = DatasetFolder(store).read_info()
    spec = parse_spec(info["spec"], where=f"{store.url}/dataset.json")
    names, uncommitted, sizes = shard_files(store, None)
    indices = read_indices(store, "shards", names, sizes)
    headers = [
        read_header(index, where=f"{store.url}/shards/{name}{INDEX_ENDING}") for name, index in zip(names, indices)
    ]
    packed = {scene for header in headers for scene in header.attempts}
    given_up = {scene: reason for header in headers for scene, reason in header.given_up.items()}
    staged = DatasetFolder(store).staged(info["fingerprint"])
    waiting = {scene: mark for scene, mark in staged.items() if scene not in packed}
    journal = read_journal(store, PROGRESS)
    return BuildStatus(
        url=store.url,
        name=str(info["name"]),
        fingerprint=str(info["fingerprint"]),
        running=is_held(store, LOCK),
        complete=bool(info["complete"]),
        scenes_total=len(spec.indices()),
        scenes_packed=len(packed),
        scenes_staged=len(waiting),
        given_up=dict(sorted(given_up.items())),
        shards_total=len(blocks(spec)),
        shards_done=len(indices),
        uncommitted=uncommitted,
        samples=sum(len(index) for index in indices),
        bytes=sum(index.tar_bytes for index in indices),
        staged_bytes=sum(mark.bytes for mark in waiting.values()),
        failures=reasons(read_failures(store)),
        last=journal[-1] if journal else None,
    )


def status_json(status: BuildStatus) -> str:
    """The same as JSON, for other programs."""
    content: Mapping[str, Any] = vars(status)
    return json.dumps(content, indent=2, sort_keys=True)
