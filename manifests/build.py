"""Building an asset lock: list a source, make or find each file, inspect it, write the lock."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from randscene.errors import LockError
from randscene.files import explain_os_errors, sha256_of
from randscene.manifests.asset_record import AssetRecord, UpAxis
from randscene.manifests.guarded_workers import GuardedWorkers
from randscene.manifests.inspection import MEMORY_BYTES, TIMEOUT_S, facts_from
from randscene.manifests.licences import LicencePolicy
from randscene.manifests.lock import load_lock, lock_text, write_lock
from randscene.manifests.lock_journal import LockJournal
from randscene.manifests.sources import SOURCES, Candidate, directory, procedural

logger = logging.getLogger(__name__)

_WORTH_ANOTHER_TRY = ("crashed", "timeout", "out_of_memory", "needs_draco", "hash_mismatch", "licence_refused")
"""Statuses that may come out otherwise next time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockReport:
    """What a lock build did."""

    path: Path
    n: int
    """Assets in the lock, usable or not."""
    counts: dict[str, int]
    """Number of assets by status; `ok` first, then by name."""
    duplicates: int
    """Files left out because another path holds the same bytes."""
    reused: int
    """Assets that an earlier, interrupted or equal build had finished."""
    seconds: float


def build_lock(
    source: str,
    *,
    out: str | Path,
    path: str | Path | None = None,
    count: int | None = None,
    seed: int = 0,
    up_axis: UpAxis = "Y",
    assets_dir: str | Path | None = None,
    policy: LicencePolicy | None = None,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LockReport:
    """Build the asset lock `out` from a source.

    An interrupted build leaves a journal beside the lock; the same call goes on from there. A lock that exists already
    is written again only if its content is the same, or with `force`.

    Parameters
    ----------
    source : {"procedural", "directory"}
    out : str or Path
        The lock, `*.jsonl`. Procedural meshes are written to `<stem>.assets/` beside it.
    path : str or Path, optional
        Folder of meshes (`directory`).
    count : int, optional
        Number of assets (`procedural`: required; `directory`: all of them by default).
    seed : int
        Seed of the procedural assets.
    up_axis : {"Y", "Z"}
        Up direction of `.obj`, `.ply`, `.stl` files in a directory.
    assets_dir : str or Path, optional
        Another folder for the procedural meshes.
    policy : LicencePolicy, optional
        Assets that it refuses get the status `licence_refused`. Accepts everything by default.
    workers : int, optional
        Child processes; as many as processors by default.
    timeout_s, memory_bytes : float, int
        Limits of one asset.
    force : bool
        Replace a lock or mesh files of other content.
    progress : callable, optional
        Called with (done, total) after every asset.

    Raises
    ------
    LockError
        If the source is unknown or empty, `out` exists with other content, or two assets share a uid.
    RandsceneError
        If a file cannot be written.
    """
    began = time.monotonic()
    out = Path(out)
    if workers is not None and workers < 1:
        raise LockError(f"--workers must be at least 1, not {workers}")
    if out.is_dir():
        raise LockError(f"{out} is a folder: name a file, such as {out / 'assets.lock.jsonl'}")
    folder = Path(assets_dir) if assets_dir is not None else out.with_name(f"{_stem(out)}.assets")
    candidates, duplicates = _candidates(source, folder.resolve(), path=path, count=count, seed=seed, up_axis=up_axis)
    _check_uids(candidates)
    existing = _existing_records(out, candidates, force=force)
    with explain_os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    journal = LockJournal(out)
    known = {**journal.read(), **existing}
    records: dict[str, AssetRecord] = {}
    todo: list[Candidate] = []
    policy = policy or LicencePolicy()
    for candidate in candidates:
        record = known.get(candidate.uid)
        if record is not None and _still_true(record, candidate):
            records[candidate.uid] = _with_policy(record, policy)
        else:
            todo.append(candidate)
    reused = len(records)
    if progress is not None:
        progress(reused, len(candidates))
    pool = GuardedWorkers(
        max(1, min(workers if workers is not None else os.cpu_count() or 1, len(todo))),
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
    )
    with pool, journal:
        for position, answer in pool.run([_task(candidate, replace=force) for candidate in todo]):
            if answer["status"] == "refused":
                raise LockError(answer["message"])
            record = _record(todo[position], answer)
            journal.append(record)
            records[record.uid] = _with_policy(record, policy)
            if record.status != "ok":
                logger.info("asset %s: %s: %s", record.uid, record.status, answer["message"])
            if progress is not None:
                progress(len(records), len(candidates))
    _write(out, list(records.values()), force=force)
    journal.remove()
    statuses = Counter(record.status for record in records.values())
    return LockReport(
        path=out,
        n=len(records),
        counts={status: statuses[status] for status in sorted(statuses, key=lambda name: (name != "ok", name))},
        duplicates=duplicates,
        reused=reused,
        seconds=time.monotonic() - began,
    )


def _candidates(
    source: str, folder: Path, *, path: str | Path | None, count: int | None, seed: int, up_axis: UpAxis
) -> tuple[list[Candidate], int]:
    if source == "procedural":
        if count is None:
            raise LockError("the procedural source is endless: say how many assets with --count")
        return procedural(folder, count=count, seed=seed), 0
    if source == "directory":
        if path is None:
            raise LockError("the directory source needs --path, the folder that holds the meshes")
        return directory(Path(path), up_axis=up_axis, count=count)
    if source == "objaverse":
        raise LockError(
            "the objaverse source is not available in this release yet: "
            "download the meshes and use --source directory --path DIR"
        )
    raise LockError(f"unknown asset source {source!r}: it is one of {', '.join(SOURCES)}")


def _check_uids(candidates: list[Candidate]) -> None:
    paths: dict[str, Path] = {}
    for candidate in candidates:
        other = paths.setdefault(candidate.uid, candidate.path)
        if other != candidate.path:
            raise LockError(f"two assets share the uid {candidate.uid}: {other} and {candidate.path}; rename one")


def _existing_records(out: Path, candidates: list[Candidate], *, force: bool) -> dict[str, AssetRecord]:
    """The records of a lock that is there already, once it is clear that this build may be about the same assets."""
    if force or not out.exists():
        return {}
    try:
        records = {record.uid: record for record in load_lock(out)}
    except LockError as error:
        raise LockError(f"{out} exists and is no valid asset lock: choose another --out, or use --force") from error
    if records.keys() != {candidate.uid for candidate in candidates}:
        raise _other_content(out)
    return records


def _write(out: Path, records: list[AssetRecord], *, force: bool) -> None:
    text = lock_text(out, records)
    if out.exists():
        if out.read_text(encoding="utf-8") == text:
            return
        if not force:
            raise _other_content(out)
    write_lock(out, records)


def _other_content(out: Path) -> LockError:
    return LockError(f"{out} exists with other content: choose another --out, or replace it with --force")


def _still_true(record: AssetRecord, candidate: Candidate) -> bool:
    """Whether a finished record stands for this candidate: same description, same place, same bytes."""
    return (
        record.sha256 != ""
        and record.locator == str(candidate.path)
        and record.source == candidate.source
        and record.licence == candidate.licence
        and record.attribution == candidate.attribution
        and record.category == candidate.category
        and record.up_axis == candidate.up_axis
        and record.status not in _WORTH_ANOTHER_TRY
        and candidate.path.is_file()
        and sha256_of(candidate.path) == record.sha256
        and candidate.sha256 in (None, record.sha256)
    )


def _task(candidate: Candidate, *, replace: bool) -> dict[str, Any]:
    task: dict[str, Any] = {"path": str(candidate.path), "up_axis": candidate.up_axis}
    if candidate.family is not None:
        task.update(family=candidate.family, seed=candidate.seed, replace=replace)
    return task


def _record(candidate: Candidate, answer: dict[str, Any]) -> AssetRecord:
    facts = facts_from(answer)
    status = facts.status
    if candidate.sha256 is not None and facts.sha256 and facts.sha256 != candidate.sha256:
        status = "hash_mismatch"
    return AssetRecord(
        uid=candidate.uid,
        source=candidate.source,
        locator=str(candidate.path),
        sha256=facts.sha256,
        geometry=facts.geometry,
        licence=candidate.licence,
        attribution=candidate.attribution,
        up_axis=candidate.up_axis,
        extents=facts.extents,
        bounds_min=facts.bounds_min,
        n_faces=facts.n_faces,
        has_texture=facts.has_texture,
        category=candidate.category,
        support=facts.support,
        status=status,
    )


def _with_policy(record: AssetRecord, policy: LicencePolicy) -> AssetRecord:
    refused = record.status == "ok" and not policy.accepts(record.licence)
    return replace(record, status="licence_refused") if refused else record


def _stem(out: Path) -> str:
    return out.name.removesuffix(".jsonl").removesuffix(".lock")
