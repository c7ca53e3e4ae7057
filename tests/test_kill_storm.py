"""SIGKILL in the midst of work, over the driver and its actors: the same command ends in the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_process_ray import in_process_ray
from test_build import BUILD, FAST, NOT_PROMISED, promised_bytes

from randscene.generator import generate
from randscene.generator.failures import read_failures
from randscene.manifests import load_spec, with_overrides
from randscene.shards.store import open_store

KILLS = 10
"""Each struck while files appear. `benchmarks/kill_storm.py` goes on for as long as one likes, at blind instants."""
SCENES = [*FAST, "splits.train.scenes=11", "render.resolution=96", "cameras.views=8"]


def start(lock_path: Path, root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", BUILD, str(lock_path), str(root), *SCENES]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def written(root: Path) -> set[str]:
    """The files that there are, unfinished ones too, but for the journals, which speak of the kills themselves."""
    return {name for _, _, names in os.walk(root) for name in names} - set(NOT_PROMISED)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_kills_at_random_instants_of_work_end_in_the_same_bytes(lock_path, tmp_path):
    psutil = pytest.importorskip("psutil")
    with in_process_ray():
        generate(with_overrides(load_spec("demo"), SCENES), lock_path, tmp_path / "calm")
    chance = random.Random(11)
    struck = {"driver": 0, "actor": 0}
    builds = 0
    while sum(struck.values()) < KILLS:
        root = tmp_path / f"stormy-{builds}"
        builds += 1
        process, code, seen = start(lock_path, root), None, set()
        while code is None:
            with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
                if sum(struck.values()) < KILLS and written(root) != seen:
                    time.sleep(0.3 * chance.random())
                    actors = [
                        child
                        for child in psutil.Process(process.pid).children(recursive=True)
                        if child.name().startswith("ray::SceneActor")
                        or "ray::SceneActor" in " ".join(child.cmdline()[:1])
                    ]
                    if actors and sum(struck.values()) % 4 == 2:
                        process.kill()
                        struck["driver"] += 1
                    elif actors:
                        chance.choice(actors).send_signal(signal.SIGKILL)
                        struck["actor"] += 1
                    seen = written(root)
                code = process.wait(0.05)
            if code == -signal.SIGKILL:  # run the same command again, as its user would
                process, code = start(lock_path, root), None
        assert code == 0
        assert promised_bytes(root) == promised_bytes(tmp_path / "calm")
        for failure in read_failures(open_store(root)):
            assert (failure.reason, failure.attempt, failure.transient) == ("actor_died", 0, True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert struck == {"driver": 2, "actor": 8}
