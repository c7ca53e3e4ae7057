"""generate: the guarantees of a build, with the fast engine; one of them with Blender."""

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from randscene.errors import DatasetError, RandsceneError
from randscene.generator import generate
from randscene.generator.dataset_folder import fingerprint
from randscene.manifests import AssetRecord, load_lock, load_spec, with_overrides, write_lock
from randscene.manifests.spec_sections import QUALITY_SAMPLES
from randscene.shards import lint, open_dataset

if TYPE_CHECKING:
    import psutil

pytestmark = pytest.mark.usefixtures("one_ray")

FAST = [
    "splits.train.scenes=5",
    "splits.val.scenes=1",
    "cameras.views=5",
    "render.resolution=64",
    "render.engine=raycast",
    "layout.objects=[2, 4]",
    "latents.encoder=null",
    "shards.scenes_per_shard=2",
    "assets.held_out_fraction=0.3",
]
SPEC = with_overrides(load_spec("demo"), FAST)

BUILD = """
import sys
from randscene.generator import generate
from randscene.manifests import load_spec, with_overrides
generate(with_overrides(load_spec("demo"), sys.argv[3:]), sys.argv[1], sys.argv[2], workers=2)
"""
NOT_PROMISED = ("failures.jsonl", "progress.jsonl", ".build.lock")


def promised_bytes(root: Path) -> dict[str, str]:
    """SHA-256 of every file that a rebuild must reproduce."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in NOT_PROMISED
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, lock_path: Path) -> Path:
    root = tmp_path_factory.mktemp("undisturbed") / "dataset"
    report = generate(SPEC, lock_path, root, workers=1)
    assert report.complete and report.scenes == 6
    return root


@pytest.mark.ray
def test_a_build_ends_with_every_scene_and_a_clean_folder(undisturbed):
    assert lint(undisturbed).ok
    info = json.loads((undisturbed / "dataset.json").read_text())
    assert info["complete"] and info["splits"]["train"]["scenes"] == 5 and info["splits"]["val"]["shards"] == 1
    assert not (undisturbed / "work").exists()
    assert (undisturbed / "scenes" / "900000.glb").exists()
    dataset = open_dataset(undisturbed, split="train")
    assert {dataset[i].meta["scene"] for i in range(len(dataset))} == set(range(5))
    for sample in (dataset[i] for i in range(len(dataset))):
        visible = [instance["visible_pixels"] for instance in sample.meta["instances"]]
        assert visible == [(sample.ids == i + 1).sum() for i in range(sample.n_instances)]
        assert min(visible) >= 1


@pytest.mark.ray
def test_two_workers_write_the_bytes_of_one(undisturbed, lock_path, tmp_path):
    generate(SPEC, lock_path, tmp_path / "dataset", workers=2)
    assert promised_bytes(tmp_path / "dataset") == promised_bytes(undisturbed)


@pytest.mark.ray
def test_killed_builds_end_in_the_same_bytes(undisturbed, lock_path, tmp_path):
    root = tmp_path / "dataset"
    chance = random.Random(7)
    for _ in range(3):
        kill_build_at(root, lock_path, FAST, scenes=chance.randint(1, 4), delay=chance.random() * 0.3)
    generate(SPEC, lock_path, root, workers=2)
    assert promised_bytes(root) == promised_bytes(undisturbed)


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_build_within_seconds_and_it_goes_on_from_there(number, undisturbed, lock_path, tmp_path):
    root = tmp_path / "dataset"
    sets = [word for assignment in FAST for word in ("--set", assignment)]
    command = [sys.executable, "-m", "randscene.cli.main", "generate", "demo"]
    command += ["--assets", str(lock_path), "--out", str(root), "--workers", "2", *sets]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for_scenes(process, root, 1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends it to the whole group
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output.decode()
    assert b"stopped: " in output and b"Traceback" not in output
    generate(SPEC, lock_path, root, workers=2)
    assert promised_bytes(root) == promised_bytes(undisturbed)


def kill_build_at(root: Path, lock_path: Path, overrides: list[str], *, scenes: int, delay: float) -> None:
    """Start a build in a process group of its own and SIGKILL all of it soon after `scenes` scenes came to be."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(lock_path), str(root), *overrides],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_scenes(process, root, scenes)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_scenes(process: subprocess.Popen[bytes], root: Path, scenes: int) -> None:
    """Return once `scenes` scenes or shards came to be, or the process ended."""
    seen: set[str] = set()
    until = time.monotonic() + 120
    while len(seen) < scenes and process.poll() is None and time.monotonic() < until:
        seen |= {path.name for path in root.glob("work/*.tar")} | {path.name for path in root.glob("shards/*.json")}
        time.sleep(0.01)


@pytest.mark.ray
def test_a_killed_build_left_no_process_behind(lock_path, tmp_path):
    root = tmp_path / "dataset"
    kill_build_at(root, lock_path, FAST, scenes=1, delay=0)
    psutil = pytest.importorskip("psutil")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(root) in " ".join(p.info["cmdline"] or [])]
        if not left:
            return
        time.sleep(0.2)
    pytest.fail(f"still running: {left}")


@pytest.mark.ray
def test_what_a_packer_left_that_died_between_commit_and_clean_up_is_removed(undisturbed, lock_path, tmp_path):
    root = tmp_path / "dataset"
    shutil.copytree(undisturbed, root)
    (root / "work").mkdir()
    (root / "work" / "000001.tar").write_bytes(b"its done mark went first")
    assert generate(SPEC, lock_path, root, workers=1).scenes_made == 0
    assert promised_bytes(root) == promised_bytes(undisturbed)


@pytest.mark.ray
def test_a_finished_build_is_left_alone_and_can_grow(undisturbed, lock_path, tmp_path):
    root = tmp_path / "dataset"
    shutil.copytree(undisturbed, root)
    before = {path: path.stat().st_mtime_ns for path in root.glob("shards/*")}
    assert generate(SPEC, lock_path, root).scenes_made == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.glob("shards/*")}

    report = generate(SPEC.with_scenes(7), lock_path, root, workers=2)
    assert report.scenes == 8
    grown = promised_bytes(root)
    for name, value in promised_bytes(undisturbed).items():
        if name.startswith("shards/train-00000") and name[len("shards/train-00000")] in "01":
            assert grown[name] == value
    with pytest.raises(DatasetError, match="can grow, not shrink"):
        generate(SPEC, lock_path, root)


@pytest.mark.ray
def test_a_lost_or_damaged_shard_is_built_again(undisturbed, lock_path, tmp_path):
    root = tmp_path / "dataset"
    shutil.copytree(undisturbed, root)
    # With its hash known, a whole tar needs no scene made again to get its index back.
    (root / "shards" / "train-000000.index.json").unlink()
    truncated = root / "shards" / "train-000001.tar"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    assert generate(SPEC, lock_path, root, workers=1).scenes_made == 2
    assert promised_bytes(root) == promised_bytes(undisturbed)


DAMAGED_HEADERS = {
    "train-000000": ({}, "no fingerprint and no scenes and no attempts"),
    "train-000001": ({"attempts": [0, 1]}, "list"),
    "train-000002": ({"attempts": {"3": 0}}, "not the shard's"),
    "val-000000": ({"attempts": {"900000": None}}, "NoneType"),
}
"""Of a shard: what its header is, or has in place of what a build wrote, and what is said of it."""


def damage_header(root: Path, shard: str) -> Path:
    """Make the index of a shard one that is readable, but that no build wrote."""
    path, change = root / "shards" / f"{shard}.index.json", DAMAGED_HEADERS[shard][0]
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"header": content["header"] | change if change else {}}))
    return path


@pytest.mark.ray
def test_a_shard_whose_index_another_tool_wrote_or_damaged_is_named_and_built_again(
    undisturbed, lock_path, tmp_path, caplog
):
    root = tmp_path / "dataset"
    shutil.copytree(undisturbed, root)
    paths = [damage_header(root, shard) for shard in DAMAGED_HEADERS]
    assert generate(SPEC, lock_path, root, workers=1).scenes_made == 0  # the tars are whole
    assert promised_bytes(root) == promised_bytes(undisturbed)
    for path, (_, told) in zip(paths, DAMAGED_HEADERS.values()):
        (line,) = [line for line in caplog.messages if str(path) in line]
        assert told in line and line.endswith("the shard is built again")


def unreadable(record: AssetRecord, folder: Path) -> AssetRecord:
    """The record of a file that is no mesh at all, though the lock vouches for its bytes."""
    broken = folder / f"{record.uid}.glb"
    broken.write_bytes(f"not a mesh: {record.uid}".encode())
    return replace(record, locator=str(broken), sha256=hashlib.sha256(broken.read_bytes()).hexdigest())


@pytest.mark.ray
def test_a_scene_that_fails_is_planned_again_and_recorded(lock, lock_path, tmp_path):
    records = [unreadable(record, tmp_path) if i % 5 == 4 else record for i, record in enumerate(lock)]
    spec = with_overrides(SPEC, ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", "attempts=8"])
    report = generate(spec, records, tmp_path / "dataset", workers=2)
    assert report.complete and report.failures
    assert {failure.stage for failure in report.failures} == {"load"}
    lines = [json.loads(line) for line in (tmp_path / "dataset" / "failures.jsonl").read_text().splitlines()]
    assert len(lines) == len(report.failures)
    uids = {i["uid"] for s in open_dataset(tmp_path / "dataset").ordered(0, 0) for i in s.meta["instances"]}
    assert uids.isdisjoint(record.uid for i, record in enumerate(lock) if i % 5 == 4)


@pytest.mark.ray
def test_a_scene_that_always_fails_is_named_and_blocks_nothing(lock, tmp_path):
    records = [unreadable(record, tmp_path) for record in lock]
    spec = with_overrides(SPEC, ["attempts=2", "splits.train.scenes=2"])
    report = generate(spec, records, tmp_path / "dataset", workers=1)
    assert not report.complete and list(report.given_up) == [0, 1, 900000]
    assert not json.loads((tmp_path / "dataset" / "dataset.json").read_text())["complete"]


@pytest.mark.ray
def test_an_asset_that_changed_since_the_lock_stops_the_build(lock_path, tmp_path):
    moved = tmp_path / lock_path.name
    shutil.copy(lock_path, moved)
    meshes = Path(load_lock(lock_path)[0].locator).parent
    shutil.copytree(meshes, tmp_path / meshes.name)
    for record in load_lock(moved):
        with open(record.locator, "ab") as handle:
            handle.write(b"changed")
    with pytest.raises(RandsceneError, match="sha256"):
        generate(SPEC, moved, tmp_path / "dataset", workers=1)


def test_a_folder_with_other_things_in_it_is_refused(undisturbed, lock_path, lock, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DatasetError, match="not empty"):
        generate(SPEC, lock_path, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    before = promised_bytes(undisturbed)
    for other, difference in (("seed=1", "seed is 0"), ("shards.webp_quality=90", "shards.webp_quality is 95")):
        wanted = other.partition("=")[2]
        with pytest.raises(DatasetError, match=rf"another dataset \(.*: {difference} there, {wanted} here\)"):
            generate(with_overrides(SPEC, [other]), lock_path, undisturbed)
    write_lock(tmp_path / "fewer.lock.jsonl", lock[:-1])
    with pytest.raises(DatasetError, match=r"another dataset \(.*: in its asset lock"):
        generate(SPEC, tmp_path / "fewer.lock.jsonl", undisturbed)
    assert promised_bytes(undisturbed) == before


def test_a_second_build_in_the_same_folder_is_refused(lock_path, tmp_path):
    from randscene.generator.dataset_folder import DatasetFolder
    from randscene.shards.store import open_store

    out = tmp_path / "dataset"
    with DatasetFolder(open_store(out)).claim(SPEC, "x" * 64), pytest.raises(RandsceneError, match="another build"):
        generate(SPEC, lock_path, out)


def test_what_supervises_a_renderer_is_no_part_of_a_datasets_identity(lock):
    assignments = ["scene_timeout_s=9", "view_timeout_s=9", "memory_limit_gib=null", "recycle_scenes=3"]
    other = with_overrides(SPEC, [f"render.{assignment}" for assignment in assignments])
    assert fingerprint(other, lock, None) == fingerprint(SPEC, lock, None)
    assert fingerprint(with_overrides(SPEC, ["render.samples=3"]), lock, None) != fingerprint(SPEC, lock, None)
    named, counted = (
        with_overrides(SPEC, ["render.engine=cycles", change])
        for change in ("render.quality=high", f"render.samples={QUALITY_SAMPLES['cycles']['high']}")
    )
    assert fingerprint(named, lock, None) == fingerprint(counted, lock, None)


def is_rendering(process: "psutil.Process") -> bool:
    """Whether a process is a renderer that has a job: its pictures have a folder."""
    command = " ".join(process.cmdline())
    return "randscene.blender_scripts.worker" in command and any(Path(process.environ()["TMPDIR"]).glob("tmp*"))


@pytest.mark.ray
@pytest.mark.blender
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_blender_builds_end_in_the_same_bytes_though_their_renderers_die(number, lock_path, tmp_path):
    psutil = pytest.importorskip("psutil")
    overrides = [*FAST, "render.engine=cycles", "render.samples=200", "splits.train.scenes=2", "splits.val.scenes=0"]
    generate(with_overrides(load_spec("demo"), overrides), lock_path, tmp_path / "calm", workers=1)
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(lock_path), str(tmp_path / "stormy"), *overrides])
    seen: dict[int, float] = {}
    struck = set()
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True) if len(struck) < 2 else []:
                began = seen.setdefault(child.pid, time.monotonic()) if is_rendering(child) else math.inf
                # Importing takes a part of a second, the views take several.
                if child.pid not in struck and time.monotonic() - began > 0.7:
                    child.send_signal(number)
                    struck.add(child.pid)
        time.sleep(0.01)
    assert process.returncode == 0 and struck
    assert promised_bytes(tmp_path / "stormy") == promised_bytes(tmp_path / "calm")
    lines = [json.loads(line) for line in (tmp_path / "stormy" / "failures.jsonl").read_text().splitlines()]
    assert {(line["stage"], line["reason"], line["attempt"]) for line in lines} == {("render", "worker_died", 0)}
    assert all(f"signal {number:d}" in line["message"] for line in lines)
    if number == signal.SIGSEGV:
        assert all("Segmentation fault" in line["log_tail"] for line in lines)
