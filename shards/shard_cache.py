"""ShardCache: whole local copies of shards that lie far away, each fetched once a machine and proved by its hash.

A copy is a file called by the SHA-256 that the shard's index states, so that a shard that was built again is another
file, and datasets that hold the same shard share it. Beside the copy stands its mark: the size and the time of change
of the file whose bytes were hashed. A copy without a mark, or one that was changed since, is hashed again before it
is read, and fetched again when it is not what it should be.
"""

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from randscene.errors import DatasetError
from randscene.files import explain_os_errors, sha256_of, temporary_name, write_atomic
from randscene.shards.shard_index import ShardIndex
from randscene.shards.store import Store, open_store

log = logging.getLogger(__name__)

TRIES = 3
"""How often a shard is fetched that arrives damaged, or that another process's limit removes before it is read."""
_STALE_S = 60.0
"""Copies that are in use are marked so at most this often."""


class ShardCache:
    """Local copies of remote shards.

    Any number of threads, processes and datasets may share a folder: the first that needs a shard fetches it, the
    others wait for it. They agree by locks of the operating system, which die with their owner. An instance may be
    pickled and forked.

    Parameters
    ----------
    folder : path
        Made when needed. Best on a local disk.
    limit : int, optional
        Bytes of copies to keep. After each fetch, those used longest ago are removed until the rest fits; a process
        that reads one of them still holds its bytes, and they go when it closes the file.

    Raises
    ------
    DatasetError
        If the limit is not positive, or the folder is a file or has no name.
    """

    def __init__(self, folder: str | os.PathLike[str], *, limit: int | None = None) -> None:
        if limit is not None and limit <= 0:
            raise DatasetError(f"a cache of {limit} bytes holds nothing; cache_limit must be a number above 0")
        if not os.fspath(folder):
            raise DatasetError("cache='' is no folder; leave it out to read without one")
        self.folder = Path(folder).absolute()
        if self.folder.is_file():
            raise DatasetError(f"{self.folder} is a file, and the cache a folder; choose another one")
        self.limit = limit
        self._files = open_store(self.folder)
        self._seen: dict[str, float] = {}
        """When this process last marked a copy as used, by name."""

    def read_range(self, store: Store, name: str, index: ShardIndex, start: int, size: int) -> bytes:
        """`size` bytes from byte `start` of the tar called `name` in `store`; fetches the whole of it first if need be.

        Raises
        ------
        FileNotFoundError
            If the store does not have it.
        DatasetError
            If it does not arrive as its index describes it.
        RandsceneError
            If the disk is full or not writable.
        """
        copy = self._copy(index, name)
        for _ in range(TRIES):
            last = self._seen.get(copy)
            if last is None or time.monotonic() - last > _STALE_S:
                self.path(store, name, index)
            with suppress(FileNotFoundError):  # another process's limit may remove it in between
                data = self._files.read_range(copy, start, size)
                if len(data) == size:
                    return data
            self._seen.pop(copy, None)
        raise DatasetError(
            f"{store.url}: the copy of {name} in the cache {self.folder} goes or is cut as soon as it is there; "
            "raise the limit of the cache"
        )

    def doubt(self, name: str, index: ShardIndex) -> None:
        """Have a copy hashed again before it is next read: its bytes made no sense to a reader."""
        copy = self._copy(index, name)
        _mark(self.folder / copy).unlink(missing_ok=True)
        self._seen.pop(copy, None)

    def path(self, store: Store, name: str, index: ShardIndex) -> Path:
        """The local copy of a tar, whole and proved; fetched if need be. Parameters and errors as in `read_range`."""
        copy = self._copy(index, name)
        target = self.folder / copy
        if not self._is_proved(target, index.tar_bytes):
            with self._lock(f"locks/{index.tar_sha256[:2]}"):
                if not self._is_proved(target, index.tar_bytes):
                    self._bring(store, name, index, target)
        self._seen[copy] = time.monotonic()
        with suppress(FileNotFoundError):  # removed since: who reads it will find out
            os.utime(_mark(target))
        return target

    def _copy(self, index: ShardIndex, name: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{64}", index.tar_sha256):
            raise DatasetError(f"{name}: its index states no SHA-256, so no copy of it can be proved")
        return f"{index.tar_sha256[:2]}/{index.tar_sha256}.tar"

    def _is_proved(self, target: Path, size: int) -> bool:
        """Whether a copy is the very file that was hashed last."""
        try:
            stat = target.stat()
            mark = json.loads(_mark(target).read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        return bool(mark == {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns} and stat.st_size == size)

    def _bring(self, store: Store, name: str, index: ShardIndex, target: Path) -> None:
        """Fetch or prove a copy; only while holding its lock."""
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):
            leftover.unlink(missing_ok=True)  # of fetches that were killed: who lives would hold the lock
        expected = index.tar_bytes, index.tar_sha256
        with suppress(FileNotFoundError):  # there is none, or another process's limit removes it in between
            if (target.stat().st_size, sha256_of(target)) == expected:
                self._admit(target, target)
                return
            log.warning("%s: the copy of %s/%s is damaged; it is fetched again", target, store.url, name)
        temporary = target.with_name(temporary_name(target.name))
        with explain_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                for attempt in range(TRIES):
                    store.get(name, temporary)
                    found = temporary.stat().st_size, sha256_of(temporary)
                    if found == expected:
                        with open(temporary, "rb") as copy:
                            os.fsync(copy.fileno())
                        self._admit(temporary, target)
                        return
                    log.warning("%s/%s did not arrive as its index describes it (try %d)", store.url, name, attempt + 1)
            finally:
                temporary.unlink(missing_ok=True)
        raise DatasetError(
            f"{store.url}: {name} has {found[0]} bytes and SHA-256 {found[1][:12]}, its index says "
            f"{index.tar_bytes} and {index.tar_sha256[:12]}; `randscene lint` tells which shards to build again"
        )

    def _admit(self, proved: Path, target: Path) -> None:
        """Put a proved file to its place and mark it, in one turn: who makes room takes what has no mark first."""
        with self._lock("locks/room"):
            if proved != target:
                os.replace(proved, target)
            stat = target.stat()
            write_atomic(_mark(target), json.dumps({"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}))
            if self.limit is not None:
                self._make_room(target, self.limit)

    def _make_room(self, newest: Path, limit: int) -> None:
        """Remove the copies that were used longest ago, as far as the limit asks, but never the newest."""
        copies = []
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*.tar"):
            try:
                size, mark = path.stat().st_size, _mark(path)
                copies.append((mark.stat().st_mtime_ns if mark.exists() else 0, size, path))
            except FileNotFoundError:  # a reader doubts it just now
                continue
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= limit:
                return
            if path != newest:
                # The mark goes first: a copy without a mark is never read unproved.
                _mark(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                total -= size

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        path = self.folder / name
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with explain_os_errors(path):
                fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                # Closing alone would leave the lock with a child that was forked meanwhile.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)


def _mark(copy: Path) -> Path:
    return copy.with_suffix(".json")
