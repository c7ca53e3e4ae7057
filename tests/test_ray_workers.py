"""Inspection on Ray: the same lock as without, a dead actor costs its task one retry, no start-up fault is hidden."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import trimesh

from randscene.errors import RandsceneError
from randscene.manifests import build_lock
from randscene.manifests.ray_workers import RayWorkers
from randscene.ray_session import ray_session

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def ray():
    pytest.importorskip("ray")
    with ray_session("local", cpus=2) as module:
        yield module


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meshes")
    for number in range(8):
        trimesh.creation.box((1, 2, 3 + number)).export(folder / f"box{number}.glb")
    (folder / "broken.glb").write_bytes(b"glTF")
    return folder


MEMORY = (2 << 30) + os.getpid()
"""A limit that tells the children of this test run from those of any other."""


def workers(ray, folder: Path, number: int = 2) -> RayWorkers:
    return RayWorkers(ray, number, timeout_s=20.0, memory_bytes=MEMORY, folder=folder)


def tasks(folder: Path) -> list[dict[str, str]]:
    return [{"path": str(path), "up_axis": "Y"} for path in sorted(folder.glob("*.glb"))]


def children() -> set[int]:
    """Processes of the guarded children that run now."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"randscene.manifests.asset_worker" in words and str(MEMORY).encode() in words:
                found.add(int(entry.name))
    return found


def test_every_task_is_answered_once(ray, meshes):
    with workers(ray, meshes) as pool:
        answers = dict(pool.run(tasks(meshes)))
    assert sorted(answers) == list(range(9))
    assert [answers[position]["status"] for position in range(9)] == ["ok"] * 8 + ["unreadable"]
    with workers(ray, meshes) as pool:
        assert list(pool.run([])) == []


def test_the_lock_is_the_same_on_ray_and_on_any_number_of_workers(ray, meshes, tmp_path):
    for name, options in (
        ("one", {"workers": 1}),
        ("two", {"workers": 2}),
        ("ray", {"ray_address": "local", "workers": 2}),
    ):
        (tmp_path / name).mkdir()
        shutil.copytree(meshes, tmp_path / name / "meshes")
        build_lock("directory", path=tmp_path / name / "meshes", out=tmp_path / name / "lock.jsonl", **options)
        build_lock("procedural", count=3, out=tmp_path / name / "made.jsonl", **options)
    for lock in ("lock.jsonl", "made.jsonl"):
        assert len({(tmp_path / name / lock).read_bytes() for name in ("one", "two", "ray")}) == 1


def test_a_child_lives_on_from_task_to_task_and_ends_with_the_pool(ray, meshes):
    seen: set[int] = set()
    with workers(ray, meshes, 1) as pool:
        for _ in pool.run(tasks(meshes)):
            seen |= children()
    assert len(seen) == 1
    deadline = time.monotonic() + 20
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not children()


def test_a_dead_actor_costs_its_task_a_retry(ray, meshes):
    with workers(ray, meshes, 1) as pool:
        answers = {}
        for position, answer in pool.run(tasks(meshes)):
            answers[position] = answer["status"]
            if len(answers) == 2:
                ray.kill(pool._actors[0])
    assert [answers[position] for position in range(9)] == ["ok"] * 8 + ["unreadable"]


def test_a_task_that_ends_every_actor_is_answered_as_crashed(ray, meshes, monkeypatch):
    from randscene.manifests import ray_workers

    class Fragile(ray_workers.InspectionActor):
        def perform(self, task):
            if task["path"].endswith("box3.glb"):
                os.kill(os.getpid(), signal.SIGKILL)
            return {"status": "ok", "message": ""}

    monkeypatch.setattr(ray_workers, "InspectionActor", Fragile)
    with workers(ray, meshes) as pool:
        answers = dict(pool.run(tasks(meshes)))
    assert [answers[position]["status"] for position in range(9)] == ["ok"] * 3 + ["crashed"] + ["ok"] * 5
    assert "died, twice" in answers[3]["message"]


def test_actors_that_cannot_start_are_one_line(ray, meshes, monkeypatch):
    from randscene.manifests import ray_workers

    class Absent(ray_workers.InspectionActor):
        def __init__(self, timeout_s, memory_bytes):
            raise ModuleNotFoundError("No module named 'randscene'")

    monkeypatch.setattr(ray_workers, "InspectionActor", Absent)
    with workers(ray, meshes) as pool, pytest.raises(RandsceneError, match="Ray workers cannot start") as caught:
        list(pool.run(tasks(meshes)))
    assert "\n" not in str(caught.value)


def test_a_machine_that_does_not_see_the_folder_is_named(ray, meshes, tmp_path):
    with workers(ray, tmp_path / "gone") as pool, pytest.raises(RandsceneError, match=r"does not see .*gone.*share"):
        list(pool.run(tasks(meshes)))
