"""BuildDriver: what it books and hands out, with a stub in Ray's place whose actors and packers fail by a seed."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_build import FAST

from randscene import seeding
from randscene.errors import RandsceneError
from randscene.generator import build_driver
from randscene.generator.block_state import BlockState, Totals
from randscene.generator.block_task import PackedBlock
from randscene.generator.build_driver import BuildDriver
from randscene.generator.dataset_folder import DatasetFolder, StagedScene, blocks, versions
from randscene.generator.planning import PlanContext
from randscene.generator.scene_task import SceneOutcome
from randscene.manifests import load_spec, with_overrides
from randscene.shards.store import open_store
from randscene.shards.writer_lock import Hold

SPEC = with_overrides(load_spec("demo"), [*FAST, "splits.train.scenes=60", "shards.scenes_per_shard=3", "attempts=2"])
DEATHS = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")


class StubRay:
    """Answers in any order. `watch` is called whenever the driver waits, `begin` with each scene that it hands out."""

    exceptions = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in DEATHS})

    def __init__(self, seed: int, workers: int) -> None:
        self.rng = seeding.generator(seed, "stub")
        self.versions = versions(SPEC)
        self.watch: Callable[[], None] = lambda: None
        self.begin: Callable[[int], None] = lambda scene: None
        self._workers = workers
        self._answers: dict[int, Any] = {}
        self._numbers = itertools.count()

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self._workers}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        pass

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        def made(what: Any) -> Any:
            ready = SimpleNamespace(remote=lambda: self._answer(self.versions))
            make = SimpleNamespace(remote=lambda *asked: self._answer(self._make(*asked)))
            pack = SimpleNamespace(remote=lambda *asked: self._answer(self._pack(*asked)))
            return SimpleNamespace(remote=lambda *asked: SimpleNamespace(ready=ready, make=make, pack=pack))

        return made

    def wait(self, refs: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        self.watch()
        return [refs[int(self.rng.integers(len(refs)))]], []

    def get(self, ref: int) -> Any:
        answer = self._answers.pop(ref)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer(self, answer: Any) -> int:
        number = next(self._numbers)
        self._answers[number] = answer
        return number

    def _make(self, scene: int, attempt: int) -> Any:
        self.begin(scene)
        chance = self.rng.random()
        if chance < 0.1:
            return self.exceptions.RayActorError("killed")
        if chance < 0.3:
            reason, transient = ("worker_died", True) if chance < 0.2 else ("no_view", False)
            return SceneOutcome(scene=scene, attempt=attempt, reason=reason, transient=transient)
        size = int(self.rng.integers(1, 1000))
        staged = StagedScene(attempt=attempt, samples=3, bytes=size, sha256="")
        return SceneOutcome(scene=scene, attempt=attempt, staged=staged)

    def _pack(self, url: str, block: Any, staged: dict[int, StagedScene], *others: Any) -> Any:
        chance = self.rng.random()
        if chance < 0.1:
            return self.exceptions.WorkerCrashedError("killed")
        if chance < 0.3 and staged:
            return PackedBlock(damaged={min(staged): "cut"})
        return PackedBlock(samples=3 * len(staged), bytes=sum(scene.bytes for scene in staged.values()))


def driver_of(root: Path, states: list[BlockState], lock: Any, most: int = 2**40) -> BuildDriver:
    folder = DatasetFolder(open_store(root))
    return BuildDriver(folder, SPEC, PlanContext.of(SPEC, lock), "", states, most, Hold("", lambda: None), None)


@pytest.mark.parametrize("seed", range(4))
def test_the_running_sums_are_those_of_a_recount_whatever_fails(seed, lock, tmp_path):
    states = [BlockState(block) for block in blocks(SPEC)]
    states[1].staged = {scene: StagedScene(attempt=0, samples=3, bytes=70, sha256="") for scene in (3, 4)}
    states[2].given_up = dict.fromkeys(states[2].block.scenes, "no_view")
    states[3].commit(3, 9, 500, "")
    ray, driver = StubRay(seed, workers=5), driver_of(tmp_path, states, lock)
    counted = 0

    def recount() -> None:
        nonlocal counted
        counted += 1
        fresh = Totals.of(states)
        fresh.largest = driver._totals.largest
        assert driver._totals == fresh

    ray.watch = recount
    driver.run(ray, lock, None)
    assert counted > 60 and driver._totals.shards == len(states)
    for state in states:
        assert state.committed and state.scenes + len(state.given_up) == len(state.block.scenes)
    assert {failure.reason for failure in driver.failures} == {"actor_died", "worker_died", "no_view", "damaged"}


def test_while_too_much_waits_only_blocks_that_are_begun_go_on(lock, tmp_path):
    states = [BlockState(block) for block in blocks(SPEC)]
    home = {scene: state.block.number for state in states for scene in state.block.scenes if scene < 900_000}
    ray, driver = StubRay(1, workers=5), driver_of(tmp_path, states, lock, most=1500)
    begun: set[int] = set()

    def begin(scene: int) -> None:
        block = home.get(scene, -1)
        if block not in begun and driver._totals.staged_bytes > 1500:
            assert driver._pool is not None and driver._pool.at_work == 0
        begun.add(block)

    ray.begin = begin
    highest = 0

    def watch() -> None:
        nonlocal highest
        highest = max(highest, driver._totals.staged_bytes)

    ray.watch = watch
    driver.run(ray, lock, None)
    assert all(state.committed for state in states) and highest > 1500 and len(begun) == 21


def test_what_killed_writers_left_half_written_is_gone_when_a_build_ends(lock, tmp_path):
    left = [tmp_path / folder / ".000000.tar.00ff.tmp" for folder in ("shards", "scenes", "work")]
    for path in left:
        path.parent.mkdir()
        path.write_bytes(b"half")
    kept = tmp_path / "shards" / "train-000000.tar"
    kept.write_bytes(b"whole")
    driver_of(tmp_path, [BlockState(block) for block in blocks(SPEC)], lock).run(StubRay(0, workers=2), lock, None)
    assert not any(path.exists() for path in left) and kept.exists()


def test_who_waits_for_a_machine_that_can_hold_a_worker_hears_so_once(lock, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(build_driver, "PATIENCE_S", 0.0)
    monkeypatch.setattr(build_driver, "RESIZE_S", 0.0)
    states, ray = [BlockState(block) for block in blocks(SPEC)], StubRay(0, workers=2)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 0.0}}])
    rounds, wait = itertools.count(), ray.wait
    monkeypatch.setattr(ray, "wait", lambda refs, **how: wait(refs, **how) if next(rounds) >= 5 else ([], refs))
    driver_of(tmp_path, states, lock).run(ray, lock, None)
    told = [record.getMessage() for record in caplog.records if record.name == build_driver.__name__]
    assert told == [
        "no worker can start yet: waiting for a machine with 1 CPU (render.threads); the largest has 0 CPUs"
    ]
    assert all(state.committed for state in states)


def test_a_worker_with_other_software_is_refused_by_name(lock, tmp_path):
    states = [BlockState(block) for block in blocks(SPEC)]
    ray = StubRay(0, workers=2)
    ray.versions = {**versions(SPEC), "pillow": "1.0"}
    with pytest.raises(
        RandsceneError, match=r"a worker has pillow 1\.0, not [0-9.]+: its scenes would have other bytes"
    ):
        driver_of(tmp_path, states, lock).run(ray, lock, None)
