"""Processor time and memory of the driver of a large build, with workers that answer at once.

    python benchmarks/driver_load.py [--scenes 15000 900000] [--workers 256] [--answers 4000]

The real `BuildDriver` runs over a build of so many scenes; in Ray's place stands a stub that hands every scene back as
made, and every block as packed, without making anything: what is measured is the driver's own work for a scene, Ray's
messages excluded. `idle` counts scenes while nothing waits, `half` with half of the scenes in shards already, `full`
with more bytes staged than are allowed, so that no new block may begin. The run is stopped after so many answers.
A driver that spends s seconds a scene keeps up with at most t / s workers whose scenes take t seconds. `snapshot` is
the work for a progress display, four times a second.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from small_builds import RAY_CAST, small_lock, small_spec

from randscene.generator.block_state import BlockState
from randscene.generator.block_task import PackedBlock
from randscene.generator.build_driver import BuildDriver, Progress
from randscene.generator.dataset_folder import DatasetFolder, StagedScene, blocks, versions
from randscene.generator.planning import PlanContext
from randscene.generator.scene_task import SceneOutcome
from randscene.manifests import load_lock
from randscene.shards.store import open_store
from randscene.shards.writer_lock import Hold

SCENE_BYTES = 3 * 2**20
"""Of a staged scene: 150 views at 512 px."""
SNAPSHOTS = 10


class _EnoughError(Exception):
    pass


class StubRay:
    """What the driver asks of Ray. Scenes are answered in the order in which they were handed out."""

    exceptions = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in (
        "RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")})  # fmt: skip

    def __init__(self, workers: int, answers: int, versions: Mapping[str, str]) -> None:
        self._versions = versions
        self._workers = workers
        self._left = answers
        self._numbers = itertools.count()
        self._answers: dict[int, Any] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self._workers)}

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        pass

    def remote(self, **options: Any) -> Any:
        def made(actor: Any) -> Any:
            methods = {"ready": lambda: self._versions, "make": self._made, "pack": self._packed}
            handles = {name: SimpleNamespace(remote=self._asked(call)) for name, call in methods.items()}
            return SimpleNamespace(remote=lambda *_: SimpleNamespace(**handles))

        return made

    def wait(self, refs: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        if self._left == 0:
            raise _EnoughError
        return [refs[0]], []

    def get(self, ref: int) -> Any:
        return self._answers.pop(ref)

    def _asked(self, call: Any) -> Any:
        def ask(*arguments: Any) -> int:
            number = next(self._numbers)
            self._answers[number] = call(*arguments)
            return number

        return ask

    def _made(self, scene: int, attempt: int) -> SceneOutcome:
        self._left -= self._left > 0
        staged = StagedScene(attempt=attempt, samples=150, bytes=SCENE_BYTES, sha256="0" * 64)
        return SceneOutcome(scene=scene, attempt=attempt, staged=staged)

    def _packed(self, url: str, block: Any, *others: Any) -> PackedBlock:
        return PackedBlock(samples=150, bytes=SCENE_BYTES, sha256="0" * 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs="+", default=[15_000, 900_000])
    parser.add_argument("--block", type=int, help="scenes in a shard; by default the spec's")
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--answers", type=int, default=4000)
    parser.add_argument("--states", nargs="+", choices=("idle", "half", "full"), default=["idle", "half", "full"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lock = small_lock(Path(folder), assets=10)
        print(f"{'scenes':>9} {'state':>6} {'ms a scene':>11} {'snapshot ms':>12} {'driver MiB':>11}", flush=True)
        context = multiprocessing.get_context("spawn")
        for scenes, state in itertools.product(args.scenes, args.states):
            # In a process of its own, so that memory is its own.
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                root = Path(folder) / f"{scenes}-{state}"
                print(pool.submit(measure, scenes, lock, root, state, args).result(), flush=True)


def measure(scenes: int, lock_path: Path, root: Path, state: str, args: argparse.Namespace) -> str:
    """A line of the table."""
    assignments = [*RAY_CAST, f"splits.train.scenes={scenes}"]
    if args.block:
        assignments.append(f"shards.scenes_per_shard={args.block}")
    spec, lock = small_spec(assignments), load_lock(lock_path)
    before = psutil.Process().memory_info().rss
    states = [BlockState(block) for block in blocks(spec)]
    if state == "half":
        for block in states[: len(states) // 2]:
            block.commit(len(block.block.scenes), 150, SCENE_BYTES, "0" * 64)
    if state == "full":
        # As a run finds them that goes on: every block but for one of its scenes, until the limit is reached.
        for block in states[: args.answers]:
            block.staged = {
                scene: StagedScene(attempt=0, samples=150, bytes=SCENE_BYTES, sha256="0" * 64)
                for scene in block.block.scenes[1:]
            }
    root.mkdir()
    snapshots = 0

    def note(_: Progress) -> None:
        nonlocal snapshots
        snapshots += 1

    allowed = SCENE_BYTES if state == "full" else 2**62
    folder = DatasetFolder(open_store(root))
    hold = Hold("", lambda: None)
    driver = BuildDriver(folder, spec, PlanContext.of(spec, lock), "0" * 64, states, allowed, hold, note)
    begun = time.process_time()
    for _ in range(SNAPSHOTS):
        driver._snapshot()
    snapshot = (time.process_time() - begun) / SNAPSHOTS
    begun = time.process_time()
    with contextlib.suppress(_EnoughError):
        driver.run(StubRay(args.workers, args.answers, versions(spec)), lock, args.workers)
    spent = (time.process_time() - begun) / driver.scenes_made
    memory = (psutil.Process().memory_info().rss - before) / 2**20
    return f"{scenes:>9,} {state:>6} {1000 * spent:>11.3f} {1000 * snapshot:>12.2f} {memory:>11.0f}"


if __name__ == "__main__":
    main()
