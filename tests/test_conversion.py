"""Files that only Blender reads: converted once, the same way each time, in a process that cannot be left behind."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from mesh_fixtures import box_draft, picture

from randscene.blender_scripts.importer_errors import what_failed
from randscene.errors import AssetError, RandsceneError
from randscene.files import sha256_of
from randscene.manifests import asset_worker, build_lock, inspect_asset, load_asset_mesh
from randscene.manifests.conversion import convert, is_conversion
from randscene.manifests.gltf_header import read_gltf
from randscene.manifests.guarded_workers import GuardedWorkers
from randscene.manifests.lock_journal import LockJournal

EXPORT = """
import sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.mesh.primitive_cube_add(size=2, location=(1, 2, 3))
cube = bpy.context.object
cube.scale, cube.rotation_euler = (1, 2, 0.5), (0, 0, 0.5)
material = bpy.data.materials.new("red")
material.use_nodes = True
shader = material.node_tree.nodes["Principled BSDF"]
shader.inputs["Base Color"].default_value = (1, 0, 0, 1)
if len(sys.argv) > 2:
    image = material.node_tree.nodes.new("ShaderNodeTexImage")
    image.image = bpy.data.images.load(sys.argv[2])
    material.node_tree.links.new(image.outputs["Color"], shader.inputs["Base Color"])
cube.data.materials.append(material)
cube.shape_key_add(name="Basis")
key = cube.shape_key_add(name="long")
for point in key.data:
    point.co *= 3
key.value = 1.0
bpy.ops.object.armature_add()
armature = bpy.context.object
cube.modifiers.new("Armature", "ARMATURE").object = armature
cube.vertex_groups.new(name="Bone").add(list(range(8)), 1.0, "REPLACE")
armature.pose.bones[0].location = (5, 0, 0)
armature.keyframe_insert("location", frame=1)
bpy.ops.object.light_add()
bpy.ops.object.camera_add()
bpy.ops.export_scene.fbx(filepath=sys.argv[1], path_mode="RELATIVE")
"""


def write_fbx(path: Path, picture_path: Path | None = None) -> Path:
    more = [] if picture_path is None else [str(picture_path)]
    subprocess.run([sys.executable, "-c", EXPORT, str(path), *more], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def fbx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fbx(tmp_path_factory.mktemp("fbx") / "cube.fbx")


def reason(original: Path, path: Path, **options) -> str:
    with pytest.raises(AssetError) as caught:
        convert(original, path, **options)
    assert "\n" not in str(caught.value)
    assert not path.exists()
    return caught.value.reason


@pytest.mark.blender
def test_meshes_at_rest_and_their_materials_are_kept_and_nothing_else(tmp_path, fbx):
    convert(fbx, tmp_path / "cube.glb")
    mesh = load_asset_mesh(tmp_path / "cube.glb")
    cosine, sine = np.cos(0.5), np.sin(0.5)
    half = (cosine + 2 * sine, sine + 2 * cosine, 0.5)
    assert np.allclose(mesh.bounds, [np.subtract((1, 2, 3), half), np.add((1, 2, 3), half)], atol=1e-5)
    assert len(mesh.faces) == 12
    assert np.allclose(mesh.surfaces[0].base_color, [1, 0, 0, 1], atol=1e-3)
    header, _ = read_gltf(tmp_path / "cube.glb")
    assert not {"skins", "animations", "cameras", "extensions"} & header.keys()
    assert len(header["nodes"]) == 1


@pytest.mark.blender
def test_the_same_file_gives_the_same_bytes_and_is_known_again(tmp_path, fbx):
    for name in ("a.glb", "b.glb"):
        convert(fbx, tmp_path / name)
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    assert is_conversion(tmp_path / "a.glb", fbx)
    (tmp_path / "other.fbx").write_bytes(b"other")
    assert not is_conversion(tmp_path / "a.glb", tmp_path / "other.fbx")
    assert not is_conversion(box_draft().save(tmp_path / "c.glb"))


@pytest.mark.blender
def test_pictures_come_along_unless_they_lie_elsewhere(tmp_path):
    (tmp_path / "in").mkdir()
    inside, outside = tmp_path / "in" / "wood.png", tmp_path / "wood.png"
    for path in (inside, outside):
        path.write_bytes(picture(np.full((4, 4, 3), (10, 200, 90))))
    original = write_fbx(tmp_path / "in" / "a.fbx", inside)
    convert(original, tmp_path / "a.glb")
    assert load_asset_mesh(tmp_path / "a.glb").surfaces[0].texture[0, 0].tolist() == [10, 200, 90, 255]
    inside.unlink()
    assert reason(original, tmp_path / "b.glb") == "missing_file"
    assert reason(write_fbx(tmp_path / "in" / "b.fbx", outside), tmp_path / "b.glb") == "unsafe_path"
    film = outside.rename(tmp_path / "wood.avi")  # by its ending Blender takes it for another kind of picture
    assert reason(write_fbx(tmp_path / "in" / "b.fbx", film), tmp_path / "b.glb") == "unsafe_path"


@pytest.mark.blender
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"; FBX 7.3.0 project file\n", "conversion_failed"),
        (b"", "conversion_failed"),
        (b"Kaydara", "conversion_failed"),
    ],
)
def test_what_blender_cannot_read_has_a_typed_reason(tmp_path, content, expected):
    (tmp_path / "a.fbx").write_bytes(content)
    assert reason(tmp_path / "a.fbx", tmp_path / "a.glb") == expected


def test_the_line_that_says_what_is_wrong_is_told_and_no_place_in_blender():
    text = "Error: Python: Traceback (most recent call last):\nValueError: no layers\nLocation: /x/bpy/ops.py:109\n"
    assert what_failed(RuntimeError(text)) == "ValueError: no layers"
    assert what_failed(RuntimeError("Error: Couldn't open file 'a.fbx'")) == "Error: Couldn't open file 'a.fbx'"
    assert what_failed(KeyError()) == "KeyError"


def test_an_absent_original_is_missing(tmp_path):
    assert reason(tmp_path / "gone.fbx", tmp_path / "a.glb") == "missing_file"


def test_without_blender_the_reason_says_so(tmp_path, monkeypatch):
    (tmp_path / "bpy.py").write_text("raise ImportError('no libGL')\n")
    (tmp_path / "a.fbx").write_bytes(b"Kaydara")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert reason(tmp_path / "a.fbx", tmp_path / "a.glb") == "needs_blender"


def test_a_converter_that_dies_or_takes_too_long_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a.fbx").write_bytes(b"Kaydara")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "bpy.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    assert reason(tmp_path / "a.fbx", tmp_path / "a.glb") == "conversion_failed"
    (tmp_path / "bpy.py").write_text("import time\ntime.sleep(60)\n")
    assert reason(tmp_path / "a.fbx", tmp_path / "a.glb", timeout_s=2.0) == "timeout"


FULL_DISKS = {
    "the exporter finds no room": f"""
text = "Error: Python: Traceback:\\nOSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}\\nLocation: /x/ops.py:1"
ops.export_scene.gltf.side_effect = RuntimeError(text)
""",
    "the exporter exceeds a quota": f"""
ops.export_scene.gltf.side_effect = OSError({errno.EDQUOT}, "{os.strerror(errno.EDQUOT)}")
""",
    "the copy does not fit": f"""
def export(filepath, **_):
    with open(filepath, "wb") as handle:
        handle.write(struct.pack("<4sIIII", b"glTF", 2, 36, 16, 0) + b'{{"asset": {{}} }}')
    def full(handle):
        raise OSError({errno.ENOSPC}, "{os.strerror(errno.ENOSPC)}")
    os.fsync = full
ops.export_scene.gltf = export
""",
    "nothing temporary can be written": """
raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
""",
}
"""What a stand-in for Blender, with one mesh in its scene, comes to."""
STAND_IN = """
import os, struct
from types import SimpleNamespace
from unittest.mock import MagicMock
import numpy as np
ops, context, data = MagicMock(), MagicMock(), MagicMock()
data.images, data.armatures = [], []
matrix = SimpleNamespace(copy=lambda: np.eye(4))
mesh = SimpleNamespace(polygons=[0], copy=MagicMock())
context.view_layer.objects = [SimpleNamespace(name="box", type="MESH", data=mesh, matrix_world=matrix)]
"""


@pytest.mark.parametrize("kind", FULL_DISKS)
def test_a_full_disk_is_no_verdict_on_the_file(tmp_path, monkeypatch, kind):
    (tmp_path / "bpy.py").write_text(STAND_IN + FULL_DISKS[kind])
    (tmp_path / "a.fbx").write_bytes(b"Kaydara")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = asset_worker.perform(
        {"path": str(tmp_path / "a.glb"), "original": str(tmp_path / "a.fbx"), "up_axis": "Y"}
    )
    assert answer["status"] == "refused"
    assert re.fullmatch(r"cannot write .*: .*(full|used up|no room).*; free some space, .*", answer["message"])
    assert not (tmp_path / "a.glb").exists()


def test_a_full_disk_stops_a_build_that_records_nothing_as_broken(tmp_path, monkeypatch):
    (tmp_path / "bpy.py").write_text(STAND_IN + FULL_DISKS["the exporter finds no room"])
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "a.fbx").write_bytes(b"Kaydara")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "assets.lock.jsonl"
    with pytest.raises(RandsceneError, match="the disk is full; free some space, then run the same command again"):
        build_lock("directory", path=tmp_path / "meshes", out=out, workers=1)
    assert not out.exists() and LockJournal(out).read() == {}
    with pytest.raises(RandsceneError, match="the disk is full"):
        inspect_asset(tmp_path / "meshes" / "a.fbx")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EIO, "broken")])
def test_a_disk_that_fills_up_while_a_file_is_read_is_no_verdict_either(tmp_path, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asset_worker, "sha256_of", fail)
    answer = asset_worker.perform({"path": str(tmp_path / "a.glb"), "up_axis": "Y"})
    assert answer["status"] == ("refused" if error.errno == errno.ENOSPC else "unreadable")
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with (
        pytest.raises(RandsceneError if error.errno == errno.ENOSPC else OSError, match=r"the disk is full|broken"),
        GuardedWorkers(1, timeout_s=1.0, memory_bytes=1 << 30) as pool,
    ):
        list(pool.run([{}]))


@pytest.mark.blender
def test_a_worker_converts_once_and_reuses_what_is_there(tmp_path, fbx):
    task = {"path": str(tmp_path / "cube.glb"), "original": str(fbx), "up_axis": "Y"}
    with GuardedWorkers(1, timeout_s=60, memory_bytes=1 << 30) as pool:  # Blender itself needs more than that
        answers = [answer for _, answer in pool.run([task, task])]
    assert [answer["status"] for answer in answers] == ["ok", "ok"]
    assert [answer["reused"] for answer in answers] == [False, True]
    assert answers[0]["sha256"] == sha256_of(tmp_path / "cube.glb")


@pytest.mark.blender
def test_inspection_looks_into_the_file_and_leaves_nothing(tmp_path, fbx, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    facts = inspect_asset(fbx, up_axis="Z")
    assert (facts.status, facts.n_faces) == ("ok", 12)
    assert facts.extents[2] == pytest.approx(1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.blender
def test_a_changed_original_is_converted_again_and_foreign_files_are_spared(tmp_path, fbx):
    path = tmp_path / "cube.glb"
    original = tmp_path / "cube.fbx"
    original.write_bytes(b"not what it will be")
    task = {"path": str(path), "original": str(original), "up_axis": "Y"}
    assert asset_worker.perform(task)["status"] == "conversion_failed"
    original.write_bytes(fbx.read_bytes())
    assert asset_worker.perform(task)["reused"] is False
    original.write_bytes(fbx.read_bytes() + b"\0")
    assert not is_conversion(path, original)
    assert asset_worker.perform(task)["reused"] is False
    assert is_conversion(path, original)
    box_draft().save(path)
    answer = asset_worker.perform(task)
    assert answer["status"] == "refused" and "--force" in answer["message"]
    assert asset_worker.perform(task | {"replace": True})["status"] == "ok"


def test_blender_ends_with_the_worker_that_started_it_and_leaves_nothing(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    mark = tmp_path / "started"
    (tmp_path / "bpy.py").write_text(
        f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    (tmp_path / "a.fbx").write_bytes(b"Kaydara")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    task = {"path": str(tmp_path / "a.glb"), "original": str(tmp_path / "a.fbx"), "up_axis": "Y"}
    with GuardedWorkers(1, timeout_s=4.0, memory_bytes=1 << 30) as pool:
        (_, answer), *_ = pool.run([task])
    assert answer["status"] == "timeout"
    process = int(mark.read_text())
    end = time.monotonic() + 10
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not (tmp_path / "a.glb").exists()
    assert list(scratch.iterdir()) == []


def test_nothing_but_the_answer_is_printed(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    command = [sys.executable, "-m", "randscene.blender_scripts.convert_mesh", "--parent", str(os.getpid())]
    done = subprocess.run([*command, str(tmp_path / "a.obj"), str(tmp_path / "a.glb")], capture_output=True, check=True)
    assert json.loads(done.stdout)["status"] == "unsupported_format"
