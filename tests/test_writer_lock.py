"""One writer a dataset folder, its workers included; the lock does not outlive its owner."""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from randscene.errors import RandsceneError
from randscene.shards import writer_lock
from randscene.shards.store import open_store
from randscene.shards.writer_lock import is_held, sole_writer, worker_turn

WORKER = """
import sys, time
from randscene.shards.store import open_store
from randscene.shards.writer_lock import worker_turn
with worker_turn(open_store(sys.argv[1]), ".lock", sys.argv[2]):
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    """A local folder, and a store that is driven as object stores are: by a lease."""
    if request.param == "local":
        return open_store(tmp_path)
    pytest.importorskip("fsspec")
    return open_store(f"memory://{tmp_path.name}")


def other_owner(content: bytes) -> bytes:
    """The lock object as another machine would write it."""
    lease = json.loads(content)
    return json.dumps({**lease, "owner": {**lease["owner"], "host": "elsewhere", "token": "0" * 16}}).encode()


def test_workers_of_the_present_owner_write_at_the_same_time(store):
    with sole_writer(store, ".lock", busy="busy") as hold:
        assert is_held(store, ".lock")
        with worker_turn(store, ".lock", hold.token), worker_turn(store, ".lock", hold.token):
            hold.check()
    assert not is_held(store, ".lock")
    assert [*store.sizes("")] == ([".lock"] if store.local is not None else [])


def test_a_worker_of_a_former_owner_is_refused(store):
    with sole_writer(store, ".lock", busy="busy") as former:
        pass
    with pytest.raises(RandsceneError, match="is over"), worker_turn(store, ".lock", former.token):
        pass
    with (
        sole_writer(store, ".lock", busy="busy"),
        pytest.raises(RandsceneError, match="the build that this worker belongs to is over"),
        worker_turn(store, ".lock", former.token),
    ):
        pass


def test_a_new_owner_waits_for_the_last_worker_of_a_killed_one(tmp_path):
    store = open_store(tmp_path)
    with sole_writer(store, ".lock", busy="busy") as former:
        orphan = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), former.token], stdout=subprocess.PIPE)
        assert orphan.stdout is not None and orphan.stdout.readline() == b"writing\n"
    held = threading.Event()

    def take() -> None:
        with sole_writer(store, ".lock", busy="busy"):
            held.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not held.wait(0.5)
    orphan.kill()
    orphan.communicate()
    assert held.wait(10)
    waiting.join()


def test_workers_that_do_not_end_are_named_and_the_lock_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_lock, "LET_GO_S", 0.2)
    store = open_store(tmp_path)
    with sole_writer(store, ".lock", busy="busy") as former:
        orphan = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), former.token], stdout=subprocess.PIPE)
        assert orphan.stdout is not None and orphan.stdout.readline() == b"writing\n"
    with pytest.raises(RandsceneError, match="workers of an earlier build"), sole_writer(store, ".lock", busy="busy"):
        pass
    assert not is_held(store, ".lock")
    orphan.kill()
    orphan.communicate()


@pytest.fixture
def quick_lease(monkeypatch):
    monkeypatch.setattr(writer_lock, "BEAT_S", 0.05)
    monkeypatch.setattr(writer_lock, "DEAD_AFTER_S", 0.5)
    pytest.importorskip("fsspec")


def test_a_lease_that_another_machine_keeps_alive_is_refused_and_one_that_it_lost_is_taken(tmp_path, quick_lease):
    store = open_store(f"memory://{tmp_path.name}")
    with sole_writer(store, ".lock", busy="busy"):
        content = other_owner(store.read(".lock"))
    store.write(".lock", content)
    ended = threading.Event()

    def beat() -> None:
        lease = json.loads(content)
        while not ended.wait(0.05):
            lease["beat"] += 1
            store.write(".lock", json.dumps(lease))

    owner = threading.Thread(target=beat)
    owner.start()
    try:
        with pytest.raises(RandsceneError, match="busy"), sole_writer(store, ".lock", busy="busy"):
            pass
    finally:
        ended.set()
        owner.join()
    with sole_writer(store, ".lock", busy="busy") as hold:
        hold.check()


def test_an_owner_whose_lease_was_taken_stops_and_leaves_the_new_owners_alone(tmp_path, quick_lease):
    store = open_store(f"memory://{tmp_path.name}")
    with sole_writer(store, ".lock", busy="busy") as hold:
        taken = other_owner(store.read(".lock"))
        with pytest.raises(RandsceneError, match="another build took this one for dead"):
            until = time.monotonic() + 10
            while time.monotonic() < until:
                store.write(".lock", taken)  # more than once: a beat may be on its way
                hold.check()
                time.sleep(0.02)
    assert store.read(".lock") == taken


def test_who_may_only_read_a_folder_sees_whether_its_lock_is_held(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    opened = os.open

    def read_only(path, flags, *mode, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode, **more)

    with sole_writer(store, ".lock", busy="busy"), monkeypatch.context() as reader:
        reader.setattr(os, "open", read_only)
        assert is_held(store, ".lock")
    monkeypatch.setattr(os, "open", read_only)
    assert (tmp_path / ".lock").exists() and not is_held(store, ".lock")
    assert not is_held(store, ".other")
