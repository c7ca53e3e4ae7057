"""SIGKILL at random instants, over the driver and its actors: the same command ends in the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_build import BUILD, FAST, promised_bytes

from randscene.generator.failures import read_failures
from randscene.shards.store import open_store

KILLS = 30
SCENES = [*FAST, "splits.train.scenes=24", "render.resolution=160", "cameras.views=12"]


def start(lock_path: Path, root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", BUILD, str(lock_path), str(root), *SCENES]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_thirty_kills_at_random_instants_end_in_the_same_bytes(lock_path, tmp_path):
    psutil = pytest.importorskip("psutil")
    assert start(lock_path, tmp_path / "calm").wait(120) == 0
    chance = random.Random(11)
    struck = {"driver": 0, "actor": 0}
    builds = 0
    while sum(struck.values()) < KILLS:
        root = tmp_path / f"stormy-{builds}"
        builds += 1
        process, code = start(lock_path, root), None
        while code is None:
            with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
                actors = [
                    child
                    for child in psutil.Process(process.pid).children(recursive=True)
                    if child.name().startswith("ray::SceneActor") or "ray::SceneActor" in " ".join(child.cmdline()[:1])
                ]
                if actors and sum(struck.values()) < KILLS:
                    if chance.random() < 0.2:
                        process.kill()
                        struck["driver"] += 1
                    else:
                        chance.choice(actors).send_signal(signal.SIGKILL)
                        struck["actor"] += 1
                code = process.wait(0.05 + chance.random() * 0.8)
            if code == -signal.SIGKILL:  # run the same command again, as its user would
                process, code = start(lock_path, root), None
        assert code == 0
        assert promised_bytes(root) == promised_bytes(tmp_path / "calm")
        for failure in read_failures(open_store(root)):
            assert (failure.reason, failure.attempt, failure.transient) == ("actor_died", 0, True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert min(struck.values()) > 0
