"""Inspection: every file ends `ok` or with a typed reason, whatever it does to the process that reads it."""

import json
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
from mesh_pack import PACK, write_pack

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
    assert [found[i].status for i in range(4)] == ["ok", "unreadable", "missing_file", "unreadable"]
    assert found[0].sha256 == sha256_of(cube)
    assert np.allclose(found[0].extents, (1, 3, 2))
    assert np.allclose(found[0].bounds_min, (-0.5, -1.5, -1))
    assert (found[0].n_faces, found[0].has_texture) == (12, False)
    assert found[0].support is not None
    assert found[1].sha256 == sha256_of(tmp_path / "broken.glb")
    assert all("\n" not in facts.message for facts in found.values())


def test_every_kind_of_file_has_its_verdict(tmp_path):
    verdicts = write_pack(tmp_path)
    found = {}
    for axis in ("Y", "Z"):
        names = [name for name in verdicts if (Path(name).suffix in (".ply", ".stl")) == (axis == "Z")]
        for position, facts in inspect_assets([tmp_path / name for name in names], up_axis=axis):
            found[names[position]] = facts
    assert {name: facts.status for name, facts in found.items()} == verdicts
    for name, facts in found.items():
        assert (facts.message == "") == (facts.status == "ok")
        assert (facts.geometry != "") == (facts.status == "ok")
        assert "\n" not in facts.message and "Traceback" not in facts.message
        assert facts.status == "ok" or Path(name).name in facts.message


def test_every_verdict_is_explained():
    text = (Path(__file__).parents[1] / "docs" / "assets.md").read_text(encoding="utf-8")
    for verdict in {verdict for verdict, _ in PACK.values()} | {"timeout", "crashed", "out_of_memory", "too_large"}:
        assert f"| `{verdict}` |" in text, verdict


REAL_VERDICTS = {
    "00_empty_file.glb": "unreadable",
    "02_invalid_magic.glb": "unreadable",
    "04_length_mismatch.glb": "unreadable",
    "06_no_header.glb": "unreadable",
    "08_node_loop_scene.glb": "malformed",
    "10_infinite_transform.glb": "unreadable",  # its JSON says Infinity, which is no JSON
    "12_AllIndicesOutOfRange.glb": "bad_index",
    "14_primitive_no_position.glb": "empty",  # no node shows the mesh
    "16_invalid_elements_float.glb": "empty",  # accessors alone, no mesh
    "18_not_found.gltf": "missing_file",
    "20_BoxBadNormals.glb": "ok",  # normals are the renderer's, and it makes its own where these are zero
    "22_BoxTextured.gltf": "missing_file",
    "24_empty_nodes.glb": "empty",
    "26_Mesh_PrimitiveMode_00.glb": "empty",  # points
    "28_Mesh_PrimitiveMode_04.glb": "ok",  # a strip, flat
    "30_points_bin.ply": "empty",
    "32_notenoughindices.obj": "ok",  # the face with two corners shows nothing; another one is whole
    "34_box_UTF16BE.obj": "unreadable",
    "36_no_indices_3storybuilding.glb": "ok",
    "38_many-cubes.glb": "ok",
    "40_Box_Draco.glb": "ok",
    "42_Spaceship_BarbaraTheBee-transformed.glb": "ok",
    "44_006_mustard_bottle_textured.glb": "missing_file",  # the plain fallback of its KTX2 texture
    "46_valid.glb": "empty",  # no node shows the mesh
    "48_singleBlendshapeCube_sparse.glb": "ok",
    "50_MorphStressTest.glb": "ok",
    "52_batch-four-squares-deep-hierarchy-whole-file.glb": "unsupported_texture",  # KHR_texture_ktx
    "54_one_face_123_mirror.glb": "ok",
    "56_ZeroLengthBufferView.glb": "degenerate",  # 2147483648 wide, 1 high
    "58_22_vertex_color.glb": "ok",
    "60_Lights.glb": "ok",
    "62_assimp_oob_fridge.glb": "bad_index",
    "64_missing_texture_windows_path.glb": "unsafe_path",
    "66_tree_198k_tris.glb": "ok",
    "68_far_from_origin.glb": "ok",
    "70_x_up.glb": "ok",  # which way is up cannot be told from the geometry
    "Unicode \u2764\u267b Test.glb": "ok",
}


@pytest.mark.shared
def test_real_broken_files_have_their_verdicts():
    pack = Path(__file__).parents[2] / "shared" / "assets" / "nasty"
    if not pack.is_dir():
        pytest.skip("the pack of broken meshes is not here")
    names = [json.loads(line)["file"] for line in (pack / "manifest.jsonl").read_text().splitlines()]
    found = {names[position]: facts.status for position, facts in inspect_assets([pack / name for name in names])}
    assert found == REAL_VERDICTS


@pytest.mark.shared
@pytest.mark.parametrize("pack", ["dev", "large"])
def test_all_real_everyday_meshes_can_be_used(pack):
    folder = Path(__file__).parents[2] / "shared" / "assets" / pack
    if not folder.is_dir():
        pytest.skip("the packs of real meshes are not here")
    files = sorted(folder.glob("*.glb"))
    assert {files[i].name: f.message for i, f in inspect_assets(files, workers=2) if f.status != "ok"} == {}


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


def test_a_missing_library_is_one_line_and_no_verdict_on_a_mesh(tmp_path, cube, monkeypatch):
    (tmp_path / "shapely.py").write_text("raise ModuleNotFoundError(\"No module named 'shapely'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RandsceneError, match=r"do not start: .*No module named 'shapely'; .*install .*\[generate\]"):
        inspect_asset(cube)
