"""import-3dfront: the guarantees of an import, and that what it writes is a dataset like any other."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from front3d_fixtures import SIDE, WrittenRoom, write_bomb, write_front3d

from randscene.errors import DatasetError, RandsceneError
from randscene.files import exclusive
from randscene.generator import front3d_import
from randscene.generator.front3d_import import ImportReport, import_3dfront
from randscene.generator.front3d_settings import LICENCE, Front3dSettings
from randscene.generator.plan_folder import open_layouts
from randscene.generator.status import build_status
from randscene.manifests import load_spec, with_overrides
from randscene.shards import Mixture, lint, open_dataset
from randscene.shards.preview import write_preview
from randscene.train.ground_truth import read_ground_truth

pytestmark = pytest.mark.usefixtures("one_ray")

SETTINGS = Front3dSettings(resolution=SIDE, rooms_per_shard=2)
SPLITS = ("train=:-1", "val=-1:")
COMMAND = [sys.executable, "-m", "randscene.cli.main", "import-3dfront"]
OPTIONS = ["--resolution", str(SIDE), "--rooms-per-shard", "2", "--split", SPLITS[0], "--split", SPLITS[1]]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, list[WrittenRoom]]:
    root = tmp_path_factory.mktemp("source") / "3d-front"
    return root, write_front3d(root, rooms=5)


@pytest.fixture
def copy(source, tmp_path) -> tuple[Path, list[WrittenRoom]]:
    shutil.copytree(source[0], tmp_path / "3d-front")
    return tmp_path / "3d-front", source[1]


def run(root: Path, out: Path | str, **options) -> ImportReport:
    """An import with one worker unless more are asked for: starting them is what takes time."""
    return import_3dfront(root, out, **{"settings": SETTINGS, "splits": SPLITS, "workers": 1, **options})


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "dataset"
    report = run(source[0], out, workers=1)
    assert (report.rooms, report.scenes, report.samples, report.shards) == (5, 5, 15, 3)
    assert not report.left_out and not report.views_left_out
    return out


def content(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a dataset but the lock."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".build.lock"
    }


@pytest.mark.ray
def test_an_import_is_a_whole_dataset(undisturbed, source):
    assert lint(undisturbed).ok
    info = json.loads((undisturbed / "dataset.json").read_text())
    assert info["complete"] and info["spec"]["import"]["axes"] == "x,-z,y"
    assert info["splits"] == {
        "train": {"scenes": 4, "samples": 12, "shards": 2},
        "val": {"scenes": 1, "samples": 3, "shards": 1},
    }
    train, val = (open_dataset(undisturbed, split=split) for split in ("train", "val"))
    assert {train[i].meta["scene"] for i in range(len(train))} == {0, 1, 2, 3} and len(val) == 3
    for i in range(len(train)):
        sample = train[i]
        assert np.array_equal(sample.ids, source[1][sample.meta["scene"]].ids[sample.meta["view"]])
    lines = [json.loads(line) for line in (undisturbed / "rooms.jsonl").read_text().splitlines()]
    assert [line["room"] for line in lines] == [room.room_id for room in source[1]]
    assert all(line["iou"] > 0.99 and not line["left_out"] for line in lines)
    assert (undisturbed / "failures.jsonl").read_text() == ""
    assert [path.name for path in (undisturbed / "scenes").iterdir()] == ["000004.glb"]
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=undisturbed, check=False)
    assert checked.returncode == 0


@pytest.mark.ray
def test_who_asks_for_a_build_or_for_layouts_hears_that_this_is_an_import(undisturbed):
    for ask in (build_status, open_layouts):
        with pytest.raises(DatasetError, match=r"was imported \(3d-front\)"):
            ask(undisturbed)


@pytest.mark.ray
def test_licence_and_credit_are_written_where_people_look(undisturbed):
    text = (undisturbed / "ATTRIBUTION.md").read_text()
    assert "CC-BY-NC-4.0" in text and "creativecommons.org/licenses/by-nc/4.0" in text and "15 assets" in text
    assert "MIDI" in text and "terms" in text.lower()
    dataset = open_dataset(undisturbed, split=None)
    assert {item["licence"] for i in range(len(dataset)) for item in dataset[i].meta["instances"]} == {LICENCE}


@pytest.mark.ray
def test_two_workers_write_the_bytes_of_one(undisturbed, source, tmp_path):
    run(source[0], tmp_path / "dataset", workers=2)
    assert content(tmp_path / "dataset") == content(undisturbed)


@pytest.mark.ray
def test_a_finished_import_is_left_alone(undisturbed, source, tmp_path):
    out = tmp_path / "dataset"
    shutil.copytree(undisturbed, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("shards/*.tar")}
    report = run(source[0], out)
    assert (report.shards_made, report.samples) == (0, 15)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("shards/*.tar")}
    assert content(out) == content(undisturbed)


def stopped_when(root: Path, out: Path, shards: int, stop: Callable[[subprocess.Popen[bytes]], None]) -> bytes:
    """Start an import in a process group of its own and stop it once so many shards are committed."""
    process = subprocess.Popen(
        [*COMMAND, str(root), "--out", str(out), *OPTIONS, "--workers", "1"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    until = time.monotonic() + 120
    while len(list(out.glob("shards/*.index.json"))) < shards and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    stop(process)
    output, _ = process.communicate(timeout=60)
    return output


@pytest.mark.ray
def test_killed_imports_end_in_the_same_bytes(undisturbed, source, tmp_path):
    out = tmp_path / "dataset"
    for shards in (1, 2):
        stopped_when(source[0], out, shards, lambda process: os.killpg(process.pid, signal.SIGKILL))
    (out / "shards" / ".train-000001.tar.1.tmp").write_bytes(b"left over")
    run(source[0], out, workers=2)
    assert content(out) == content(undisturbed)


@pytest.mark.ray
def test_ctrl_c_ends_an_import_within_seconds_without_a_traceback(undisturbed, source, tmp_path):
    out = tmp_path / "dataset"
    output = stopped_when(source[0], out, 1, lambda process: os.killpg(process.pid, signal.SIGINT))
    if b"samples in 3 shards" not in output:  # it may have been faster
        assert b"stopped: " in output
    assert b"Traceback" not in output
    run(source[0], out)
    assert content(out) == content(undisturbed)


@pytest.mark.ray
def test_a_lost_or_cut_shard_is_made_again(undisturbed, source, tmp_path):
    out = tmp_path / "dataset"
    shutil.copytree(undisturbed, out)
    (out / "shards" / "train-000000.index.json").unlink()
    cut = out / "shards" / "val-000000.tar"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert run(source[0], out).shards_made == 2
    assert content(out) == content(undisturbed)


@pytest.mark.ray
def test_broken_rooms_are_named_and_nothing_else_is_lost(undisturbed, copy, tmp_path):
    root, rooms = copy
    whole = root / "3D-FRONT-SCENE" / rooms[1].room_id / f"{rooms[1].names[0]}.glb"
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    shutil.rmtree(root / "3D-FRONT-RENDER" / rooms[2].room_id)
    out = tmp_path / "dataset"
    report = run(root, out, workers=2)
    assert sum(report.faults.values()) == 2 and report.faults["missing_file"] == 1 and report.scenes == 3
    assert lint(out).ok
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["scene"] for failure in failures] == [1, 2]
    assert rooms[1].room_id in failures[0]["message"] and str(root) not in failures[0]["message"]
    ours, theirs = (open_dataset(path, split=None) for path in (out, undisturbed))
    others = {key: theirs.members(i) for i, key in enumerate(theirs.keys)}
    for i, key in enumerate(ours.keys):
        mine, other = ours.members(i, ("ids.png", "voxels.npz")), others[key]
        assert mine == {name: other[name] for name in mine}
    # The same command leaves it at that; with retry, mended files are read again.
    whole.write_bytes(data)
    assert run(root, out).shards_made == 0
    again = run(root, out, retry=True)
    assert again.shards_made == 2 and again.faults == {"missing_file": 1} and again.scenes == 4


@pytest.mark.ray
def test_a_mended_view_is_read_again_with_retry(undisturbed, copy, tmp_path):
    root, rooms = copy
    picture = root / "3D-FRONT-RENDER" / rooms[0].room_id / "render_0001.webp"
    data = picture.read_bytes()
    picture.write_bytes(data[:-50])
    out = tmp_path / "dataset"
    report = run(root, out)
    assert (report.samples, report.views_left_out, report.faults) == (14, {"bad_image": 1}, {})
    picture.write_bytes(data)
    assert run(root, out, retry=True).shards_made == 1
    assert content(out) == content(undisturbed)


@pytest.mark.ray
def test_a_malicious_cloud_costs_its_room_and_is_not_run(copy, tmp_path):
    root, rooms = copy
    trace = tmp_path / "was-run"
    write_bomb(root / "3D-FRONT-SURFACE" / rooms[0].room_id / f"{rooms[0].names[0]}.npy", trace)
    settings = Front3dSettings(resolution=SIDE, rooms_per_shard=2, surfaces=True)
    report = run(root, tmp_path / "dataset", settings=settings)
    assert report.faults == {"unsafe_pickle": 1} and report.scenes == 4 and not trace.exists()
    assert len(list((tmp_path / "dataset" / "surfaces").glob("*.npz"))) == 4
    assert run(root, tmp_path / "other").faults == {}


@pytest.mark.ray
def test_files_that_do_not_fit_together_are_refused_before_anything_is_written(copy, tmp_path):
    root, rooms = copy
    for room in rooms:
        meta = root / "3D-FRONT-RENDER" / room.room_id / "meta.json"
        described = json.loads(meta.read_text())
        for item in described["locations"]:
            item["transform_matrix"][2][3] += 1.0
        meta.write_text(json.dumps(described))
    with pytest.raises(DatasetError, match="do not fit together: of 5 rooms"):
        run(root, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


@pytest.mark.ray
def test_another_writer_another_dataset_and_other_files_are_refused(undisturbed, source, tmp_path):
    out = tmp_path / "dataset"
    shutil.copytree(undisturbed, out)
    with exclusive(out / ".build.lock", busy="mine"), pytest.raises(RandsceneError, match="is writing here"):
        run(source[0], out)
    for changes in ({"splits": ()}, {"settings": Front3dSettings(resolution=64)}, {"axes": "z-up"}):
        with pytest.raises(DatasetError):
            run(source[0], out, **changes)
    assert content(out) == content(undisturbed)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "keep.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty and holds no dataset"):
        run(source[0], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["keep.txt"]


@pytest.mark.ray
def test_it_mixes_with_a_generated_dataset(undisturbed, lock_path, tmp_path):
    from randscene.generator import generate

    spec = with_overrides(
        load_spec("demo"),
        [
            "splits.train.scenes=2",
            "splits.val.scenes=1",
            "cameras.views=3",
            f"render.resolution={SIDE}",
            "render.engine=raycast",
            "latents.encoder=null",
        ],
    )
    generate(spec, lock_path, tmp_path / "random", workers=2)
    front, other = open_dataset(undisturbed), open_dataset(tmp_path / "random")
    mixture = Mixture({"front": (front, 1.0), "random": (other, 1.0)}, seed=3)
    assert 127 <= sum(mixture.locate(position)[0] == "front" for position in range(256)) <= 129
    drawn = [mixture.sample(position) for position in range(24)]
    assert {name for name, _ in drawn} == {"front", "random"}
    for _, sample in drawn:
        assert sample.rgb.shape == (SIDE, SIDE, 3) and sample.meta["frame"] == "yaw"
        low, high = sample.scene_coords().min(axis=0), sample.scene_coords().max(axis=0)
        assert (high - low).max() == 63 and (np.diff(sample.offsets) > 0).all()
    same = {"schema", "intrinsics", "camera_to_world", "look_at", "world_to_view", "instances", "split", "attempt"}
    assert same <= set(front[0].meta) & set(other[0].meta) and set(other[0].meta) <= set(front[0].meta)
    assert set(front[0].meta["instances"][0]) == set(other[0].meta["instances"][0])


@pytest.mark.ray
def test_evaluation_finds_the_true_meshes_in_the_frame_of_each_view(undisturbed):
    for truth in read_ground_truth(undisturbed, split="val"):
        assert len(truth.meshes()) == truth.n_instances == 3


@pytest.mark.ray
def test_the_preview_page_shows_an_import(undisturbed, tmp_path):
    page = write_preview(undisturbed, tmp_path / "page.html").read_text()
    assert "midi-render" in page and "CC-BY-NC-4.0" in page


@pytest.mark.ray
def test_any_url_can_be_written_to(undisturbed, source, tmp_path):
    pytest.importorskip("fsspec")
    out = tmp_path / "remote"
    report = run(source[0], f"file://{out}")
    assert report.samples == 15
    names = {name for name in content(undisturbed) if name.startswith(("shards/", "scenes/", "rooms"))}
    assert {name: content(out)[name] for name in names} == {name: content(undisturbed)[name] for name in names}
    assert run(source[0], f"file://{out}").shards_made == 0


@pytest.mark.ray
def test_a_worker_that_dies_is_replaced(undisturbed, source, tmp_path):
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "dataset"
    killed = []

    def kill_one(state: object) -> None:
        """Once the first block is done, its worker is at the next."""
        workers = [process for process in psutil.process_iter(["name", "cmdline"]) if is_worker(process)]
        if list(out.glob("shards/*.index.json")) and workers and not killed:
            killed.append(workers[0].pid)
            workers[0].kill()

    def is_worker(process: "psutil.Process") -> bool:
        return any("BlockActor" in word for word in process.info["cmdline"] or [])

    run(source[0], out, workers=1, progress=kill_one)
    assert killed and content(out) == content(undisturbed)


def test_a_users_mistake_is_one_line(source, tmp_path):
    for arguments in (
        [str(tmp_path / "none"), "--out", str(tmp_path / "out")],
        [str(tmp_path), "--out", str(tmp_path / "out")],
        [str(source[0]), "--out", str(tmp_path / "out"), "--split", "train"],
        [str(source[0]), "--out", str(tmp_path / "out"), "--axes", "sideways"],
        [str(source[0]), "--out", str(tmp_path / "out"), "--ids", "others.json"],
    ):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
        assert not (tmp_path / "out" / "shards").exists()


class Death(Exception):
    """Of an actor."""


def dies() -> None:
    raise Death("killed")


class FakeRay:
    """Ray as the driver sees it, in this process; actors die where they are told to."""

    class exceptions:
        class RayTaskError(Exception):
            cause = None

        RayActorError = WorkerCrashedError = NodeDiedError = OutOfMemoryError = Death

    def __init__(self, killers: set[int]) -> None:
        self.killers = killers
        self.actors = 0
        self.killed: list[object] = []

    def put(self, value: object) -> object:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def remote(self, **_: object) -> Callable[[type], "FakeRay.Maker"]:
        return lambda kind: FakeRay.Maker(self, kind)

    def wait(self, references: list[object], *, num_returns: int) -> tuple[list[object], list[object]]:
        return references[:1], references[1:]

    def get(self, reference: Callable[[], object]) -> object:
        return reference()

    def kill(self, actor: "FakeRay.Actor") -> None:
        self.killed.append(actor)

    class Maker:
        def __init__(self, ray: "FakeRay", kind: type) -> None:
            self.ray, self.kind = ray, kind

        def remote(self, *arguments: object) -> "FakeRay.Actor":
            self.ray.actors += 1
            return FakeRay.Actor(self.ray, self.kind(*arguments))

    class Actor:
        def __init__(self, ray: "FakeRay", inner: object) -> None:
            self.ray, self.inner = ray, inner

        def __getattr__(self, name: str) -> "FakeRay.Method":
            return FakeRay.Method(self.ray, getattr(self.inner, name))

    class Method:
        def __init__(self, ray: "FakeRay", call: Callable[..., object]) -> None:
            self.ray, self.call = ray, call

        def remote(self, work: object, *more: object) -> Callable[[], object]:
            def run() -> object:
                rooms = getattr(work, "rooms", (work,))
                left_alone = more[0] if more else frozenset()
                if self.ray.killers & {room.scene for room in rooms} - set(left_alone):
                    raise Death("killed")
                return self.call(work, *more)

            return run


def test_a_room_that_kills_its_process_is_given_up_and_nothing_else_is_lost(source, tmp_path, monkeypatch):
    fake = FakeRay(killers={1, 4})
    monkeypatch.setattr(front3d_import, "ray_session", lambda *_, **__: contextlib.nullcontext(fake))
    out = tmp_path / "dataset"
    report = run(source[0], out)
    assert report.faults == {"worker_died": 2} and (report.scenes, report.samples) == (3, 9)
    assert len(fake.killed) == 2 * 2 * 2  # each death leaves its place to the next: of a block twice, of a room twice
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["scene"] for failure in failures] == [1, 4]
    assert lint(out).ok  # with a shard that is empty
    fake.killers = set()
    assert run(source[0], out, retry=True).faults == {}


def test_no_worker_is_started_that_would_wait_for_a_cpu_for_ever(source, tmp_path, monkeypatch):
    fake = FakeRay(killers=set())
    monkeypatch.setattr(front3d_import, "ray_session", lambda *_, **__: contextlib.nullcontext(fake))
    assert run(source[0], tmp_path / "dataset", workers=3).shards_made == 3
    assert fake.actors == fake.cluster_resources()["CPU"]


def test_workers_that_keep_dying_end_the_import_with_one_line(source, tmp_path, monkeypatch):
    fake = FakeRay(killers={1})
    monkeypatch.setattr(FakeRay.Method, "remote", lambda *_: dies)
    monkeypatch.setattr(front3d_import, "ray_session", lambda *_, **__: contextlib.nullcontext(fake))
    with pytest.raises(RandsceneError, match="keep dying in train-000000"):
        run(source[0], tmp_path / "dataset")
