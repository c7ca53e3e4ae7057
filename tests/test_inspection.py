"""Inspection: every file ends `ok` or with a typed reason, whatever it does to the process that reads it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import trimesh

from randscene.errors import RandsceneError
from randscene.files import sha256_of
from randscene.manifests import inspect_asset, inspect_assets
from randscene.manifests.guarded_workers import GuardedWorkers


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    path = tmp_path / "cube.glb"
    trimesh.creation.box((1, 2, 3)).export(path)
    return path


def test_good_and_bad_files_each_have_their_verdict(tmp_path, cube):
    (tmp_path / "broken.glb").write_bytes(b"glTF")
    (tmp_path / "empty.glb").write_bytes(b"")
    found = dict(inspect_assets([cube, tmp_path / "broken.glb", tmp_path / "gone.glb", tmp_path / "empty.glb"]))
    assert [found[i].status for i in range(4)] == ["ok", "unreadable", "unreadable", "unreadable"]
    assert found[0].sha256 == sha256_of(cube)
    assert np.allclose(found[0].extents, (1, 3, 2))
    assert np.allclose(found[0].bounds_min, (-0.5, -1.5, -1))
    assert (found[0].n_faces, found[0].has_texture) == (12, False)
    assert found[0].support is not None
    assert found[1].sha256 == sha256_of(tmp_path / "broken.glb")
    assert all("\n" not in facts.message for facts in found.values())


def test_a_file_that_takes_too_long_times_out_and_the_next_is_read(tmp_path, cube):
    os.mkfifo(tmp_path / "endless.glb")  # reading it never ends
    found = dict(inspect_assets([tmp_path / "endless.glb", cube], timeout_s=1.5))
    assert found[0].status == "timeout"
    assert found[1].status == "ok"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_death_of_the_process_is_a_crash_of_its_file_only(tmp_path, cube, number):
    os.mkfifo(tmp_path / "endless.glb")

    def strike() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:  # opens only once the worker is reading the other end
                writer = os.open(tmp_path / "endless.glb", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.02)
                continue
            _workers()[0].send_signal(number)
            os.close(writer)
            return

    thread = threading.Thread(target=strike)
    thread.start()
    found = dict(inspect_assets([tmp_path / "endless.glb", cube], timeout_s=60))
    thread.join()
    assert found[0].status == "crashed"
    assert str(int(number)) in found[0].message
    assert found[1].status == "ok"


def _workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "asset_worker" in " ".join(child.cmdline())]


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path):
    path = tmp_path / "large.stl"
    trimesh.creation.icosphere(subdivisions=6).export(path)
    assert inspect_asset(path, memory_bytes=4 << 20).status == "out_of_memory"
    assert inspect_asset(path).status == "ok"


def test_no_process_is_left_behind(cube):
    found = inspect_assets([cube] * 6, workers=2)
    next(found)
    found.close()
    assert _workers() == []


def test_workers_end_by_themselves_when_their_parent_is_killed(tmp_path):
    script = (
        "import time\n"
        "from randscene.manifests.guarded_workers import GuardedWorkers\n"
        "pool = GuardedWorkers(1, timeout_s=60, memory_bytes=1 << 30)\n"
        "run = pool.run({'path': 'gone.glb', 'up_axis': 'Y'} for _ in range(10**9))\n"
        "next(run)\n"
        "print(pool._children[0]._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([worker], timeout=20)
    assert not alive


def test_a_pool_without_workers_is_refused():
    with pytest.raises(RandsceneError, match="at least 1"):
        GuardedWorkers(0, timeout_s=1, memory_bytes=1 << 30)
