"""Processes that work beside this one: none outlives its parent, and Ctrl-C and a kill end in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from randscene.errors import RandsceneError
from randscene.worker_pool import worker_pool

SCRIPT = """
import os, sys, time
from randscene.worker_pool import worker_pool
def work(seconds):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece: both write to one pipe
    time.sleep(seconds)
    return seconds
if __name__ == "__main__":
    try:
        with worker_pool(2, does="sleeping") as pool:
            list(pool.map(work, [float(sys.argv[1])] * 2))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def begun(folder: Path, seconds: float) -> tuple[subprocess.Popen, list[int]]:
    """A parent, and its two children at work."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    return process, [int(process.stdout.readline()) for _ in range(2)]


def test_a_killed_worker_is_one_line():
    told = pytest.raises(RandsceneError, match=r"a counting process was killed.*fewer --workers")
    with told, worker_pool(1, does="counting") as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()


def test_every_worker_calls_its_start_and_computes_on_one_thread(tmp_path, monkeypatch):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with worker_pool(1, does="counting", start=os.chdir, arguments=(tmp_path,)) as pool:
        assert pool.submit(os.getcwd).result() == str(tmp_path)
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_ctrl_c_interrupts_the_parent_alone(tmp_path):
    process, _ = begun(tmp_path, 1.5)
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=30)
    assert said == "interrupted\n" and errors == "" and process.returncode == 0


def test_no_worker_outlives_a_killed_parent(tmp_path):
    process, children = begun(tmp_path, 60)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, children))
