"""Building an asset lock: list a source, make or fetch or find each file, inspect it, write the lock."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randscene.errors import AssetError, LockError, RandsceneError
from randscene.files import explain_os_errors
from randscene.manifests.asset_record import AssetRecord, UpAxis
from randscene.manifests.candidate_record import WORTH_ANOTHER_TRY, record_of, still_true, task_of, under_policy
from randscene.manifests.guarded_workers import GuardedWorkers
from randscene.manifests.in_threads import in_threads
from randscene.manifests.inspection import MEMORY_BYTES, TIMEOUT_S
from randscene.manifests.licences import LicencePolicy
from randscene.manifests.lock import load_lock, lock_text, write_lock
from randscene.manifests.lock_journal import LockJournal
from randscene.manifests.lock_report import LockProgress, LockReport, ProgressTeller
from randscene.manifests.ray_workers import RayWorkers
from randscene.manifests.source_choice import SourceChoice
from randscene.manifests.sources import Candidate, Listing
from randscene.ray_session import ray_session

if TYPE_CHECKING:
    from randscene.manifests.objaverse_source import ObjaverseOptions

logger = logging.getLogger(__name__)

FAILED_IN_A_ROW = 25
"""Downloads that may fail one after the other before a build stops: more is a network that is gone."""
_CHECKING_THREADS = 8


def build_lock(
    source: str,
    *,
    out: str | Path,
    path: str | Path | None = None,
    count: int | None = None,
    seed: int = 0,
    up_axis: UpAxis = "Y",
    licence: str = "",
    attribution: str = "",
    objaverse: "ObjaverseOptions | None" = None,
    assets_dir: str | Path | None = None,
    policy: LicencePolicy | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    force: bool = False,
    progress: Callable[[LockProgress], None] | None = None,
) -> LockReport:
    """Build the asset lock `out` from a source.

    An interrupted build leaves a journal beside the lock; the same call goes on from there. Called again on a finished
    lock, it tries again what failed in a way that may pass (a dead link, a crash) and completes the lock. A lock of
    other content is replaced only with `force`. The lock's bytes depend on neither workers nor interruptions.

    Parameters
    ----------
    source : {"procedural", "directory", "objaverse"}
    out : str or Path
        The lock, `*.jsonl`. Meshes that are made, converted or fetched are written to `<stem>.assets/` beside it.
    path : str or Path, optional
        Folder of meshes (`directory`: required), or of Objaverse files that are here already (`objaverse`).
    count : int, optional
        Number of assets (`procedural`: required; all of them by default).
    seed : int
        Seed of the procedural assets, or of the order in which Objaverse's objects are taken.
    up_axis : {"Y", "Z"}
        Up direction of `.obj`, `.ply`, `.stl` files in a directory.
    licence, attribution : str
        Of files in a directory for which no manifest states it.
    objaverse : ObjaverseOptions, optional
        Which objects of Objaverse.
    assets_dir : str or Path, optional
        Another folder for meshes that are made, converted or fetched.
    policy : LicencePolicy, optional
        Assets that it refuses get the status `licence_refused`; those of Objaverse are not even fetched, and left out.
        Accepts everything by default.
    workers : int, optional
        Child processes; as many as processors (of the cluster) by default.
    ray_address : str, optional
        Inspect on this Ray cluster (`auto`, `local`, `host:port`), whose machines must share the file system. Without
        it, in child processes of this one.
    timeout_s, memory_bytes : float, int
        Limits of one asset.
    force : bool
        Replace a lock or mesh files of other content.
    progress : callable, optional
        Called with a `LockProgress` after every change.

    Raises
    ------
    LockError
        If the source is unknown or empty, `out` exists with other content, or two assets share a uid.
    RandsceneError
        If a file cannot be written, the network is gone, or Ray cannot be used.
    """
    began = time.monotonic()
    out = Path(out)
    if workers is not None and workers < 1:
        raise LockError(f"--workers must be at least 1, not {workers}")
    if out.is_dir():
        raise LockError(f"{out} is a folder: name a file, such as {out / 'assets.lock.jsonl'}")
    chosen = SourceChoice(
        source=source,
        path=None if path is None else Path(path),
        count=count,
        seed=seed,
        up_axis=up_axis,
        licence=licence,
        attribution=attribution,
        objaverse=objaverse,
    )
    assets = Path(assets_dir) if assets_dir is not None else out.with_name(f"{_stem(out)}.assets")
    policy = policy or LicencePolicy()
    tell = ProgressTeller(progress)
    listing = chosen.listing(assets.resolve(), policy, tell.listed)
    _check_uids(listing.candidates)
    build = _Build(out, listing, policy, force=force, tell=tell)
    with explain_os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    journal = LockJournal(out)
    build.take_over(journal)
    reused = len(build.records)
    with _workers(ray_address, workers, len(build.todo), timeout_s, memory_bytes, out) as pool, journal:
        build.inspect(pool, journal)
    build.write()
    journal.remove()
    return LockReport.of(out, build.records.values(), listing, reused=reused, seconds=time.monotonic() - began)


class _Build:
    """The state of one build between the list of a source and its lock."""

    def __init__(
        self, out: Path, listing: Listing, policy: LicencePolicy, *, force: bool, tell: ProgressTeller
    ) -> None:
        self.records: dict[str, AssetRecord] = {}
        self.todo: list[Candidate] = []
        self._out = out
        self._listing = listing
        self._policy = policy
        self._force = force
        self._tell = tell
        self._existing = self._read_existing()

    def take_over(self, journal: LockJournal) -> None:
        """Sort the candidates into those with a record that still stands, and those that are to be done."""
        known = {**journal.read(), **self._existing}

        def stands(candidate: Candidate) -> bool:
            record = known.get(candidate.uid)
            try:
                return record is not None and still_true(record, candidate)
            except OSError:  # a file that cannot be read now: its inspection says why
                return False

        checked = in_threads(stands, self._listing.candidates, threads=_CHECKING_THREADS)
        standing = set()
        for number, (candidate, holds) in enumerate(checked, start=1):
            if isinstance(holds, RandsceneError):
                raise holds
            if holds:
                standing.add(candidate.uid)
            if known:
                self._tell.tell("check", number, len(self._listing.candidates))
        for candidate in self._listing.candidates:
            if candidate.uid in standing:
                self._book(known[candidate.uid])
            else:
                self.todo.append(candidate)

    def inspect(self, pool: "GuardedWorkers | RayWorkers", journal: LockJournal) -> None:
        """Do what is to be done; every finished record goes to the journal at once."""
        given: list[Candidate] = []
        self._told()
        try:
            for position, answer in pool.run(self._tasks(given, journal)):
                self._settle(given[position], answer, journal)
        finally:
            if self._listing.stop is not None:
                self._listing.stop()

    def _tasks(self, given: list[Candidate], journal: LockJournal) -> Iterator[dict[str, Any]]:
        """The tasks of files that are in their place; the others are fetched meanwhile, a few ahead of the workers."""
        remote: list[Candidate] = []
        for candidate in self.todo:
            if candidate.fault is not None:
                self._settle(candidate, {"status": candidate.fault, "message": "not as its source says"}, journal)
            elif candidate.remote is not None:
                remote.append(candidate)
            else:
                given.append(candidate)
                yield task_of(candidate, force=self._force)
        if self._listing.fetch is None:
            return
        in_a_row = 0
        for candidate, failure in in_threads(self._listing.fetch, remote, threads=self._listing.fetches):
            if isinstance(failure, AssetError):
                self._settle(candidate, {"status": failure.reason, "message": str(failure)}, journal)
                in_a_row = in_a_row + 1 if failure.reason == "download_failed" else 0
                if in_a_row >= FAILED_IN_A_ROW:
                    raise RandsceneError(
                        f"{in_a_row} downloads in a row failed, the last one: {failure}; what is done is kept: "
                        "check the network, then run the same command again"
                    )
            elif isinstance(failure, RandsceneError):
                raise failure
            else:
                in_a_row = 0
                given.append(candidate)
                yield task_of(candidate, force=self._force)

    def _settle(self, candidate: Candidate, answer: dict[str, Any], journal: LockJournal) -> None:
        if answer["status"] == "refused":
            raise LockError(answer["message"])
        record = record_of(candidate, answer)
        journal.append(record)
        if record.status != "ok":
            logger.warning("asset %s: %s: %s", record.uid, record.status, answer["message"] or "other bytes")
        self._book(record)
        self._told()

    def _book(self, record: AssetRecord) -> None:
        self.records[record.uid] = booked = under_policy(record, self._policy)
        if booked.status != "ok":
            self._tell.failed(booked.status)

    def _told(self) -> None:
        self._tell.tell("inspect", len(self.records), len(self._listing.candidates))

    def _read_existing(self) -> dict[str, AssetRecord]:
        """The records of a lock that is there already, once it is clear that it may be about the same assets."""
        if self._force or not self._out.exists():
            return {}
        try:
            records = {record.uid: record for record in load_lock(self._out)}
        except LockError as error:
            raise LockError(
                f"{self._out} exists and is no valid asset lock: choose another --out, or use --force"
            ) from error
        if records.keys() != {candidate.uid for candidate in self._listing.candidates}:
            raise self._other_content()
        return records

    def write(self) -> None:
        """Write the lock, unless that would replace a finished record of an existing one unasked."""
        records = list(self.records.values())
        if self._out.exists():
            if self._out.read_text(encoding="utf-8", errors="replace") == lock_text(self._out, records):
                return
            kept = [record for record in self._existing.values() if record.status not in WORTH_ANOTHER_TRY]
            if not self._force and any(self.records[record.uid] != record for record in kept):
                raise self._other_content()
        write_lock(self._out, records)

    def _other_content(self) -> LockError:
        return LockError(f"{self._out} exists with other content: choose another --out, or replace it with --force")


@contextlib.contextmanager
def _workers(
    address: str | None, workers: int | None, tasks: int, timeout_s: float, memory_bytes: int, out: Path
) -> "Iterator[GuardedWorkers | RayWorkers]":
    if address is None or tasks == 0:
        number = max(1, min(workers if workers is not None else os.cpu_count() or 1, tasks))
        with GuardedWorkers(number, timeout_s=timeout_s, memory_bytes=memory_bytes) as local:
            yield local
        return
    with ray_session(address, cpus=workers) as ray:
        number = tasks if workers is None else min(workers, tasks)
        folder = out.resolve().parent
        with RayWorkers(ray, number, timeout_s=timeout_s, memory_bytes=memory_bytes, folder=folder) as remote:
            yield remote


def _check_uids(candidates: list[Candidate]) -> None:
    paths: dict[str, Path] = {}
    for candidate in candidates:
        other = paths.setdefault(candidate.uid, candidate.path)
        if other != candidate.path:
            raise LockError(f"two assets share the uid {candidate.uid}: {other} and {candidate.path}; rename one")


def _stem(out: Path) -> str:
    return out.name.removesuffix(".jsonl").removesuffix(".lock")
