"""The supervisor of the renderer process, against a stand-in that speaks the protocol without Blender."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randscene.errors import RenderError
from randscene.generator import blender_process
from randscene.generator.blender_process import BlenderProcess
from randscene.generator.recipe import Background, Camera, Instance, LayoutFacts, SceneRecipe
from randscene.scratch_folder import ScratchFolder

IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
RECIPE = SceneRecipe(
    version=1,
    scene=0,
    split="train",
    attempt=0,
    seed=0,
    instances=(Instance(uid="a", sha256="0" * 64, scale=1.0, pose=IDENTITY, support_parent=None),),
    lights=(),
    background=Background(color=(1.0, 1.0, 1.0), strength=1.0),
    look_at=(0.0, 0.0, 0.0),
    cameras=(Camera(camera_to_world=IDENTITY, fov_deg=40.0),) * 4,
    resolution=4,
    layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
)

FAKE = """
import json, os, signal, subprocess, sys, time
import numpy as np
mode, once = sys.argv[1], sys.argv[2]
def say(**message):
    os.write(1, (json.dumps(message) + "\\n").encode())
def hello():
    say(type="hello", bpy="0.0", python="3", protocol=1, devices=[])
first = not os.path.exists(once)
open(once, "a").write("x")
print("the log speaks", file=sys.stderr, flush=True)
if mode == "no_hello":
    time.sleep(60)
if mode == "no_library":
    say(type="error", job="", reason="blender_import_failed",
        message="libX11.so.6: cannot open shared object file: No such file or directory")
    sys.exit(3)
if mode == "no_bpy":
    say(type="error", job="", reason="blender_import_failed", message="No module named 'bpy'")
    sys.exit(3)
hello()
if mode == "deaf" and first:
    time.sleep(60)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "quit":
        if mode == "stubborn":
            time.sleep(60)
        break
    job, out, size = request["job"], request["out"], request["resolution"]
    if mode == "refuse":
        say(type="error", job=job, reason="import_failed", message="a.glb: no such mesh")
        continue
    if mode == "swell":
        ballast = bytearray(300 << 20)
        time.sleep(60)
    if mode in ("brood", "lonely_brood") and first:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open(os.path.join(os.environ["TMPDIR"], "unfinished"), "w").close()
        open(once + ".child", "w").write(str(child.pid))
    for view in request["views"]:
        if mode == "slow":
            time.sleep(0.4)
        if view == 2 and first:
            if mode == "brood":
                time.sleep(60)
            if mode == "lonely_brood":
                os.kill(os.getpid(), signal.SIGSEGV)
            if mode == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if mode == "exit":
                sys.exit(7)
            if mode == "hang":
                time.sleep(60)
            if mode == "babble":
                os.write(1, b"Fra:1 not json\\n")
        names = [f"{out}/{view:03d}.{kind}.npy" for kind in ("rgb", "ids")]
        np.save(names[0], np.full((size, size, 3), view, np.uint8))
        np.save(names[1], np.full((size, size), 1, np.uint8))
        if mode == "elsewhere":
            names[0] = once
        say(type="view", job=job, view=view, rgb=names[0], ids=names[1], seconds=0.1, cpu_seconds=0.1)
    say(type="done", job=job, build_seconds=0.1)
"""


def fake(folder: Path, mode: str, *, view_timeout_s: float = 30.0, **limits: Any) -> BlenderProcess:
    script = folder / "fake_worker.py"
    script.write_text(FAKE)
    command = [sys.executable, str(script), mode, str(folder / "started")]
    return BlenderProcess(view_timeout_s=view_timeout_s, scratch=folder, command=command, **limits)


def views(process: BlenderProcess, wanted: tuple[int, ...] = (0, 1, 2, 3)) -> list[int]:
    return [item.view for item in process.render(RECIPE, {"a": "a.glb"}, wanted, resolution=4, samples=1)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_views_arrive_in_order_with_their_pixels(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        pictures = list(process.render(RECIPE, {"a": "a.glb"}, [3, 1], resolution=4, samples=1))
    assert [picture.view for picture in pictures] == [3, 1]
    assert pictures[0].rgb.shape == (4, 4, 3) and (pictures[0].rgb == 3).all() and (pictures[1].ids == 1).all()


def test_one_process_serves_many_scenes(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        pids = set()
        for _ in range(3):
            assert views(process) == [0, 1, 2, 3]
            pids.add(process.pid)
    assert len(pids) == 1


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        views(process)
        pid = process.pid
        assert pid is not None
        assert not list(tmp_path.rglob("*.npy"))
    assert is_gone(pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake_worker.py", "started"]


@pytest.mark.parametrize("mode", ["die", "exit"])
def test_a_dead_worker_is_a_transient_error_with_its_log_and_is_replaced(tmp_path: Path, mode: str) -> None:
    with fake(tmp_path, mode) as process:
        with pytest.raises(RenderError) as caught:
            views(process)
        assert caught.value.reason == "worker_died" and caught.value.transient
        assert "the log speaks" in caught.value.log_tail
        assert ("signal 9" if mode == "die" else "status 7") in str(caught.value)
        assert process.pid is None
        assert views(process) == [0, 1, 2, 3]


def test_a_hanging_view_is_ended_and_the_next_render_works(tmp_path: Path) -> None:
    with fake(tmp_path, "hang", view_timeout_s=1.5) as process:
        pid = process.pid
        start = time.monotonic()
        with pytest.raises(RenderError) as caught:
            views(process)
        assert caught.value.reason == "timeout" and caught.value.transient
        assert time.monotonic() - start < 10
        assert pid is not None and is_gone(pid)
        assert views(process) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("wanted", "device", "told"), [((2,), "CUDA", True), ((2,), "CPU", False), ((0, 2), "CUDA", False)]
)
def test_a_card_without_a_first_picture_in_time_is_said_to_lack_kernels(
    tmp_path: Path, wanted: tuple[int, ...], device: str, told: bool
) -> None:
    with fake(tmp_path, "hang", view_timeout_s=1.0) as process, pytest.raises(RenderError) as caught:
        list(process.render(RECIPE, {"a": "a.glb"}, wanted, resolution=4, samples=1, device=device))
    assert caught.value.reason == "timeout"
    assert ("no kernels for (H100, H200)" in str(caught.value)) == told


def test_a_scene_whose_views_all_come_but_too_slowly_is_ended(tmp_path: Path) -> None:
    with fake(tmp_path, "slow", view_timeout_s=5.0, scene_timeout_s=1.0) as process:
        pid, seen = process.pid, []
        with pytest.raises(RenderError, match="1 s for a scene of 4 views, of which 2 came") as caught:
            for item in process.render(RECIPE, {"a": "a.glb"}, range(4), resolution=4, samples=1):
                seen.append(item.view)
        assert seen == [0, 1] and caught.value.reason == "timeout" and caught.value.transient
        assert pid is not None and is_gone(pid)
        assert views(process, (0, 1)) == [0, 1]


def test_the_scenes_time_out_counts_neither_the_callers_time_nor_other_scenes(tmp_path: Path) -> None:
    with fake(tmp_path, "slow", scene_timeout_s=1.2) as process:
        pid = process.pid
        for _ in range(2):
            for _ in process.render(RECIPE, {"a": "a.glb"}, (0, 1), resolution=4, samples=1):
                time.sleep(0.7)
        assert process.pid == pid


def test_a_fresh_process_takes_over_after_the_stated_number_of_scenes(tmp_path: Path) -> None:
    with fake(tmp_path, "good", recycle_scenes=2) as process:
        pids = []
        for _ in range(5):
            assert views(process) == [0, 1, 2, 3]
            pids.append(process.pid)
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert all(is_gone(pid) for pid in pids[:4] if pid is not None)
        assert len(list(tmp_path.glob("randscene-*"))) == 1


def test_scenes_that_failed_count_for_the_replacement(tmp_path: Path) -> None:
    with fake(tmp_path, "refuse", recycle_scenes=2) as process:
        pids = []
        for _ in range(3):
            with pytest.raises(RenderError):
                views(process)
            pids.append(process.pid)
    assert pids[0] == pids[1] != pids[2]


def test_a_worker_that_ignores_the_request_to_quit_is_killed(tmp_path: Path) -> None:
    process = fake(tmp_path, "stubborn")
    assert views(process) == [0, 1, 2, 3]
    pid, start = process.pid, time.monotonic()
    process.close()
    assert pid is not None and is_gone(pid) and time.monotonic() - start < 10
    assert not list(tmp_path.glob("randscene-*"))


@pytest.mark.parametrize("mode", ["brood", "lonely_brood"])
def test_what_a_worker_has_started_goes_with_it_and_its_files_too(tmp_path: Path, mode: str) -> None:
    with fake(tmp_path, mode, view_timeout_s=1.5) as process:
        with pytest.raises(RenderError) as caught:
            views(process)
        assert caught.value.reason == ("timeout" if mode == "brood" else "worker_died")
        child = int((tmp_path / "started.child").read_text())
        assert wait_until(lambda: is_gone(child), 5.0)
        assert not list(tmp_path.glob("randscene-*"))
        assert views(process) == [0, 1, 2, 3]


def test_what_a_killed_supervisor_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    script = (
        "import os, sys; from randscene.scratch_folder import ScratchFolder\n"
        "folder = ScratchFolder('kind-', sys.argv[1]); (folder.path / 'picture').write_bytes(b'x')\n"
        "print(folder.path, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    left, used, other = Path(done.stdout.strip()), ScratchFolder("kind-", tmp_path), tmp_path / "kindly"
    other.mkdir()
    assert left.exists()  # too young: its owner may not have locked it yet
    for folder in (left, used.path, other):
        os.utime(folder, (1e9, 1e9))
    new = ScratchFolder("kind-", tmp_path)
    assert not left.exists() and used.path.exists() and other.exists()
    used.remove()
    assert not used.path.exists() and new.path.exists()
    path = new.path
    del new
    gc.collect()
    assert not path.exists()


def test_a_worker_that_takes_no_request_is_ended(tmp_path: Path) -> None:
    long_recipe = replace(RECIPE, cameras=RECIPE.cameras * 1000)
    with fake(tmp_path, "deaf", view_timeout_s=1.0) as process:
        with pytest.raises(RenderError, match="took no request") as caught:
            list(process.render(long_recipe, {"a": "a.glb"}, [0], resolution=4, samples=1))
        assert caught.value.reason == "timeout" and caught.value.transient and process.pid is None
        assert len(list(process.render(long_recipe, {"a": "a.glb"}, [0], resolution=4, samples=1))) == 1


def test_a_worker_that_is_ahead_of_its_reader_waits(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        stream = process.render(RECIPE, {"a": "a.glb"}, range(250), resolution=4, samples=1)
        assert next(stream).view == 0
        time.sleep(1.0)
        assert 1 <= len(list(tmp_path.rglob("*.rgb.npy"))) <= 80
        assert [item.view for item in stream] == list(range(1, 250))


def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    with fake(tmp_path, "hang", view_timeout_s=1.5) as process:
        before = time.process_time()
        with pytest.raises(RenderError):
            views(process)
        assert time.process_time() - before < 0.3


def test_time_that_the_caller_takes_is_not_held_against_the_worker(tmp_path: Path) -> None:
    with fake(tmp_path, "good", view_timeout_s=1.0) as process:
        seen = []
        for item in process.render(RECIPE, {"a": "a.glb"}, [0, 1], resolution=4, samples=1):
            seen.append(item.view)
            time.sleep(1.2)
    assert seen == [0, 1]


def test_a_worker_that_never_says_hello_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blender_process, "START_TIMEOUT_S", 0.5)
    process = fake(tmp_path, "no_hello")
    with pytest.raises(RenderError) as caught:
        process.start()
    assert caught.value.reason == "timeout" and process.pid is None


def test_a_missing_system_library_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(RenderError) as caught:
        fake(tmp_path, "no_library").start()
    assert caught.value.reason == "missing_library" and not caught.value.transient
    assert "libX11.so.6" in str(caught.value)
    assert "apt-get install -y --no-install-recommends libxrender1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_bpy_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RenderError) as caught:
        fake(tmp_path, "no_bpy").start()
    assert caught.value.reason == "blender_missing" and "[generate]" in str(caught.value)


def test_an_error_answer_keeps_the_worker(tmp_path: Path) -> None:
    with fake(tmp_path, "refuse") as process:
        pid = process.pid
        for _ in range(2):
            with pytest.raises(RenderError, match="no such mesh") as caught:
                views(process)
            assert caught.value.reason == "import_failed" and not caught.value.transient
        assert process.pid == pid


def test_lines_that_are_no_answer_end_the_worker(tmp_path: Path) -> None:
    with fake(tmp_path, "babble") as process:
        with pytest.raises(RenderError) as caught:
            views(process)
        assert caught.value.reason == "bad_answer" and process.pid is None


def test_a_picture_outside_the_jobs_folder_is_refused(tmp_path: Path) -> None:
    with fake(tmp_path, "elsewhere") as process, pytest.raises(RenderError, match="outside") as caught:
        views(process)
    assert caught.value.reason == "bad_answer"
    assert (tmp_path / "started").exists()


def test_a_swelling_worker_is_ended(tmp_path: Path) -> None:
    with fake(tmp_path, "swell", memory_limit_bytes=200 << 20) as process:
        with pytest.raises(RenderError) as caught:
            views(process)
        assert caught.value.reason == "memory_limit"
        assert not caught.value.transient  # the process was fresh: the scene itself is too large
        assert "0.2 GiB" in str(caught.value) and "render.memory_limit_gib" in str(caught.value)
        assert process.pid is None


def test_leaving_half_way_ends_the_job_and_leaves_no_files(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        first = process.pid
        for item in process.render(RECIPE, {"a": "a.glb"}, [0, 1, 2], resolution=4, samples=1):
            assert item.view == 0
            break
        gc.collect()
        assert first is not None and is_gone(first)
        assert not list(tmp_path.rglob("*.npy"))
        assert views(process) == [0, 1, 2, 3]


def test_an_iterator_left_open_does_not_disturb_the_next_render(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        old = process.render(RECIPE, {"a": "a.glb"}, [0, 1, 2], resolution=4, samples=1)
        next(old)
        new = process.render(RECIPE, {"a": "a.glb"}, [1, 2, 3], resolution=4, samples=1)
        assert next(new).view == 1
        with pytest.raises(RenderError) as caught:
            next(old)
        assert caught.value.reason == "abandoned"
        assert [item.view for item in new] == [2, 3]


def test_a_forgotten_process_is_ended(tmp_path: Path) -> None:
    process = fake(tmp_path, "good")
    process.start()
    pid = process.pid
    assert pid is not None
    del process
    gc.collect()
    assert wait_until(lambda: is_gone(pid))


def test_a_worker_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    with fake(tmp_path, "good") as process:
        process.close()
        thread = threading.Thread(target=process.start)
        thread.start()
        thread.join()
        time.sleep(0.2)
        pid = process.pid
        assert pid is not None and views(process) == [0, 1, 2, 3] and process.pid == pid


def test_a_command_that_does_not_exist_is_one_clear_error(tmp_path: Path) -> None:
    process = BlenderProcess(command=["/nowhere/blender"], scratch=tmp_path)
    with pytest.raises(RenderError, match="/nowhere/blender"):
        process.start()
    assert not list(tmp_path.iterdir())


@pytest.mark.blender
def test_the_renderer_dies_with_its_supervisor_even_in_the_middle_of_a_render(tmp_path: Path) -> None:
    import trimesh

    trimesh.creation.icosphere().export(tmp_path / "a.glb")
    script = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from dataclasses import replace
        from test_blender_process import RECIPE
        from randscene.generator.blender_process import BlenderProcess
        from randscene.generator.recipe import Camera
        m = ((1., 0., 0., 0.), (0., 1., 0., 0.), (0., 0., 1., 5.), (0., 0., 0., 1.))
        recipe = replace(RECIPE, cameras=(Camera(camera_to_world=m, fov_deg=40.0),) * 2)
        process = BlenderProcess(scratch={str(tmp_path)!r})
        process.start()
        for view, samples in ((0, 1), (1, 60000)):
            print(process.pid, view, flush=True)
            list(process.render(recipe, {{"a": {str(tmp_path / "a.glb")!r}}}, [view], resolution=512, samples=samples))
        """
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    supervisor.stdout.readline()
    pid = int(supervisor.stdout.readline().split()[0])
    time.sleep(0.7)
    assert not is_gone(pid)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    assert wait_until(lambda: is_gone(pid), 5.0)


@pytest.mark.blender
def test_a_killed_renderer_is_reported_and_replaced(tmp_path: Path) -> None:
    import trimesh

    trimesh.creation.box().export(tmp_path / "a.glb")
    paths = {"a": tmp_path / "a.glb"}
    with BlenderProcess(scratch=tmp_path) as process:
        stream = process.render(RECIPE, paths, [0, 1, 2], resolution=64, samples=1)
        assert next(stream).rgb.shape == (64, 64, 3)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RenderError) as caught:
            list(stream)
        assert caught.value.reason == "worker_died" and caught.value.transient
        pictures = list(process.render(RECIPE, paths, [0], resolution=64, samples=1))
    assert len(pictures) == 1 and isinstance(pictures[0].ids, np.ndarray)
