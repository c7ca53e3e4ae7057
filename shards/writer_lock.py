"""One writer a dataset folder: a lock that does not outlive its owner, on local disks and on object stores.

Locally it is the operating system's own file lock. An object store has none, so there the owner keeps an object alive:
it rewrites it every few seconds. Who finds the object watches it; once it has not changed for a while by the watcher's
own clock (so that no two clocks are compared), its owner is dead, or cut off, and then stops by itself when it sees
that the object is no longer its own.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from randscene.errors import RandsceneError
from randscene.files import exclusive
from randscene.shards.store import Store

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""How often an owner rewrites its object."""
DEAD_AFTER_S = 30.0
"""An object that has not changed for so long has no owner any more."""
Check = Callable[[], None]


@contextlib.contextmanager
def sole_writer(store: Store, name: str, *, busy: str) -> Iterator[Check]:
    """Hold the lock `name` of a store for the time of the context.

    Yields
    ------
    callable
        To be called now and then by who writes: raises a RandsceneError when the lock was lost to another.

    Raises
    ------
    RandsceneError
        `busy`, if another holds it; or if it cannot be written.
    """
    if store.local is not None:
        with exclusive(store.local / name, busy=busy):
            yield _nothing
        return
    lease = _Lease(store, name)
    lease.acquire(busy)
    try:
        yield lease.check
    finally:
        lease.release()


def is_held(store: Store, name: str) -> bool:
    """Whether somebody holds the lock now, as far as can be told at once: on an object store, whether it changes."""
    if store.local is not None:
        path = store.local / name
        if not path.exists():
            return False
        try:
            with exclusive(path, busy=""):
                return False
        except RandsceneError:
            return True
    lease = _Lease(store, name)
    found = lease.read()
    return found is not None and not lease.died(found, BEAT_S * 2)


def _nothing() -> None:
    pass


class _Lease:
    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._owner = {"host": socket.gethostname(), "boot": _boot_id(), "pid": os.getpid(), "since": _process_start()}
        self._beats = 0
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)

    def acquire(self, busy: str) -> None:
        while not self._store.create(self._name, self._content()):
            found = self.read()
            if found is None:
                continue  # given back in between
            if not self.died(found):
                raise RandsceneError(busy)
            log.warning("%s/%s: its owner is dead; taking over", self._store.url, self._name)
            self._store.remove(self._name)
        if self._holder() != self._owner:  # another took over at the same time
            raise RandsceneError(busy)
        self._thread.start()

    def check(self) -> None:
        if self._lost:
            raise RandsceneError(self._lost)

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(RandsceneError):
            if self._holder() == self._owner:
                self._store.remove(self._name)

    def _content(self) -> str:
        return json.dumps({"owner": self._owner, "beat": self._beats})

    def read(self) -> bytes | None:
        try:
            return self._store.read(self._name)
        except FileNotFoundError:
            return None

    def _holder(self) -> object:
        return _owner_in(self.read() or b"")

    def died(self, found: bytes, patience_s: float = DEAD_AFTER_S) -> bool:
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
                if self._holder() != self._owner:
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
