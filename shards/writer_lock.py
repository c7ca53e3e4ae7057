"""One writer a dataset folder: a lock that does not outlive its owner, on local disks and on object stores.

Locally it is the operating system's own file lock. An object store has none, so there the owner keeps an object alive:
it rewrites it every few seconds. Who finds the object watches it; once it has not changed for a while by the watcher's
own clock (so that no two clocks are compared), its owner is dead, or cut off, and then stops by itself when it sees
that the object is no longer its own.

The owner's workers write too, and may outlive it by seconds. Each names the owner that it works for whenever it writes:
who works for a former one is refused, and locally a new owner waits until the last of those has let go.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from randscene.errors import RandsceneError
from randscene.files import exclusive, explain_os_errors, unique_token
from randscene.shards.store import Store

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""How often an owner rewrites its object."""
DEAD_AFTER_S = 30.0
"""An object that has not changed for so long has no owner any more."""
LET_GO_S = 120.0
"""How long to wait for workers of a dead owner: they end seconds after it."""
WRITERS_ENDING = ".writers"
"""The file beside a lock that says whose workers may write; they share it while they do."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A lock that this process holds."""

    token: str
    """Names this owner to its workers, for `worker_turn`."""
    check: Callable[[], None]
    """To be called now and then: raises a RandsceneError when the lock was lost to another."""


@contextlib.contextmanager
def sole_writer(store: Store, name: str, *, busy: str) -> Iterator[Hold]:
    """Hold the lock `name` of a store for the time of the context.

    Yields
    ------
    Hold

    Raises
    ------
    RandsceneError
        `busy`, if another holds it; if workers of a dead owner do not end; or if it cannot be written.
    """
    if store.local is not None:
        with exclusive(store.local / name, busy=busy):
            token = unique_token()
            writers = store.local / f"{name}{WRITERS_ENDING}"
            _shut_out_others(writers, token)
            try:
                yield Hold(token, _nothing)
            finally:
                _shut_out_all(writers)
        return
    lease = _Lease(store, name)
    lease.acquire(busy)
    try:
        yield Hold(lease.token, lease.check)
    finally:
        lease.release()


@contextlib.contextmanager
def worker_turn(store: Store, name: str, token: str) -> Iterator[None]:
    """The time in which a worker of the owner `token` writes; it may be on another machine than the owner. Without a
    token, of who writes alone, nothing is asked.

    On a local disk no new owner comes to hold the lock meanwhile. On an object store one can, when this worker was cut
    off for long: what it writes then is whole, and of the same dataset.

    Raises
    ------
    RandsceneError
        If another owner holds the lock, or nobody.
    """
    if not token:
        yield
        return
    with contextlib.ExitStack() as held:
        if store.local is not None:
            path = store.local / f"{name}{WRITERS_ENDING}"
            present = ""
            with explain_os_errors(path), contextlib.suppress(FileNotFoundError):
                handle = held.enter_context(open(path, "rb"))
                fcntl.flock(handle, fcntl.LOCK_SH)
                present = handle.read().decode("ascii", "replace")
        else:
            owner = _Lease(store, name).holder()
            present = str(owner.get("token")) if isinstance(owner, dict) else ""
        if present != token:
            raise RandsceneError(f"{store.url}: the build that this worker belongs to is over")
        yield


def _shut_out_others(path: Path, token: str) -> None:
    """Wait until no worker writes, and let only those that know `token` write from now on."""
    until = time.monotonic() + LET_GO_S
    with explain_os_errors(path), open(path, "a+b") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise RandsceneError(
                        f"{path.parent}: workers of an earlier build that was killed still write here; stop them "
                        "(their command lines begin with ray::), then run the same command again"
                    ) from error
                time.sleep(0.05)
        handle.truncate(0)
        handle.write(token.encode())


def _shut_out_all(path: Path) -> None:
    """Remove the file, emptied first: a worker that waits for it shall find no name there. Where one still writes, the
    file stays, and the next owner waits for it."""
    with contextlib.suppress(OSError), open(path, "r+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        handle.truncate(0)
        path.unlink()


def is_held(store: Store, name: str) -> bool:
    """Whether somebody holds the lock now, as far as can be told at once: on an object store, whether it changes."""
    if store.local is not None:
        try:
            # For reading only: who may look at a folder need not be allowed to write there.
            with open(store.local / name, "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no such file, none that may be opened, or a disk without locks: nobody is known to hold it
            return False
        return False
    lease = _Lease(store, name)
    found = lease.read()
    return found is not None and not lease.died(found, BEAT_S * 2)


def _nothing() -> None:
    pass


class _Lease:
    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self.token = unique_token()
        self._owner = {
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid": os.getpid(),
            "since": _process_start(),
            "token": self.token,
        }
        self._beats = 0
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)

    def acquire(self, busy: str) -> None:
        while not self._store.create(self._name, self._content()):
            found = self.read()
            if found is None:
                continue  # given back in between
            if not self.died(found, DEAD_AFTER_S):
                raise RandsceneError(busy)
            log.warning("%s/%s: its owner is dead; taking over", self._store.url, self._name)
            self._store.remove(self._name)
        if self.holder() != self._owner:  # another took over at the same time
            raise RandsceneError(busy)
        self._thread.start()

    def check(self) -> None:
        if self._lost:
            raise RandsceneError(self._lost)

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(RandsceneError):
            if self.holder() == self._owner:
                self._store.remove(self._name)

    def _content(self) -> str:
        return json.dumps({"owner": self._owner, "beat": self._beats})

    def read(self) -> bytes | None:
        try:
            return self._store.read(self._name)
        except FileNotFoundError:
            return None

    def holder(self) -> object:
        return _owner_in(self.read() or b"")

    def died(self, found: bytes, patience_s: float) -> bool:
        """Whether the owner of the object is dead; on its own machine that is known at once."""
        owner = _owner_in(found)
        here = isinstance(owner, dict) and all(owner.get(part) == self._owner[part] for part in ("host", "boot"))
        if isinstance(owner, dict) and here and self._owner["boot"]:
            return _process_start(owner.get("pid")) != owner.get("since")
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            time.sleep(BEAT_S / 5)
            if self.read() != found:
                return False
        return True

    def _keep_alive(self) -> None:
        while not self._ended.wait(BEAT_S):
            self._beats += 1
            try:
                if self.holder() != self._owner:
                    self._lost = (
                        f"{self._store.url}: another build took this one for dead and writes here now; what is done "
                        "is kept: wait for it, then run the same command again"
                    )
                    return
                self._store.write(self._name, self._content())
            except RandsceneError as error:  # the next beat may get through
                log.warning("%s", error)


def _owner_in(content: bytes) -> object:
    try:
        return json.loads(content)["owner"]
    except (ValueError, KeyError, TypeError):
        return None


def _boot_id() -> str:
    """What tells one start of this machine, or container, from the next."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return ""


def _process_start(pid: object = "self") -> str:
    """Start time of a process in clock ticks; empty when there is none, so that a reused number is no one else."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
