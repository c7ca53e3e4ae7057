"""Asset locks: what is locked is what is read, builds go on where they stopped, and nothing is overwritten unasked."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh
from typer.testing import CliRunner

from randscene.cli.assets import app
from randscene.errors import LockError
from randscene.files import sha256_of
from randscene.manifests import (
    AssetRecord,
    LicencePolicy,
    LockProgress,
    ObjaverseOptions,
    Support,
    build_lock,
    load_lock,
    lock_hash,
    merge_locks,
    same_shape,
    usable,
    verified_path,
    write_lock,
)


def record(uid: str = "a", **changes) -> AssetRecord:
    support = Support(
        height=1.0, area=2.0, clearance=0.5, anchor=(0.1, 0.2), polygon=((0, 0), (1, 0), (0, 1)), holes=()
    )
    values = {
        "uid": uid, "source": "directory", "locator": f"/meshes/{uid}.glb", "sha256": "0" * 64, "geometry": "1" * 32,
        "licence": "CC0-1.0", "attribution": "", "up_axis": "Y", "extents": (1.0, 2.0, 0.1),
        "bounds_min": (0.0, -1.0, 0.0), "n_faces": 12, "has_texture": False, "category": "",
        "support": support, "status": "ok",
    }  # fmt: skip
    return AssetRecord(**(values | changes))


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    folder = tmp_path / "meshes"
    (folder / "below").mkdir(parents=True)
    trimesh.creation.box((1, 2, 3)).export(folder / "box.glb")
    trimesh.creation.icosphere().export(folder / "below" / "ball.ply")
    (folder / "notes.txt").write_text("no mesh")
    return folder


def test_a_lock_reads_back_as_it_was_written(tmp_path):
    records = [record("b", support=None), record("a", attribution="Ünï \u2028 code"), record("c", status="empty")]
    write_lock(tmp_path / "lock.jsonl", records)
    assert load_lock(tmp_path / "lock.jsonl") == sorted(records, key=lambda item: item.uid)
    assert [item.uid for item in usable(load_lock(tmp_path / "lock.jsonl"))] == ["a", "b"]


def test_the_bytes_do_not_depend_on_the_order_of_records(tmp_path):
    write_lock(tmp_path / "one.jsonl", [record("a"), record("b")])
    write_lock(tmp_path / "two.jsonl", [record("b"), record("a")])
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_a_lock_and_its_meshes_can_move_together(tmp_path, meshes):
    build_lock("directory", path=meshes, out=tmp_path / "meshes" / "lock.jsonl", workers=1)
    before = load_lock(meshes / "lock.jsonl")
    shutil.move(meshes, tmp_path / "elsewhere")
    after = load_lock(tmp_path / "elsewhere" / "lock.jsonl")
    assert lock_hash(after) == lock_hash(before)
    assert all(verified_path(item).is_relative_to(tmp_path / "elsewhere") for item in after)


def test_the_hash_says_what_the_assets_are_not_where_they_lie():
    assert lock_hash([record("a"), record("b")]) == lock_hash([record("b", locator="/other.glb"), record("a")])
    assert lock_hash([record("a")]) != lock_hash([record("a", sha256="1" * 64)])
    assert lock_hash([record("a")]) != lock_hash([record("a", licence="MIT")])


def test_meshes_that_changed_or_went_are_refused(tmp_path, meshes):
    build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1)
    first, second = load_lock(tmp_path / "lock.jsonl")
    Path(first.locator).write_bytes(b"other")
    with pytest.raises(LockError, match=f"{first.uid}.*changed since it was locked"):
        verified_path(first)
    Path(second.locator).unlink()
    with pytest.raises(LockError, match=f"{second.uid}.*missing"):
        verified_path(second)


LINE = json.dumps(dataclasses.asdict(record("b")))
FAULTS = {
    "empty": ("", "empty"),
    "torn": (LINE + "\n" + LINE[:50], "line 2: not a line of JSON"),
    "no object": (LINE + "\n[]", "line 2: not an asset record"),
    "missing field": (json.dumps({"uid": "a"}), "line 1: not an asset record .*sha256"),
    "unknown field": (json.dumps({**json.loads(LINE), "colour": 1}), "line 1: .*colour"),
    "wrong type": (json.dumps({**json.loads(LINE), "n_faces": "many"}), "line 1: n_faces"),
    "wrong axis": (json.dumps({**json.loads(LINE), "up_axis": "X"}), "line 1: up_axis"),
    "not finite": (LINE.replace("0.5", "NaN"), "line 1: .*NaN is not a finite number"),
    "twice": (LINE + "\n" + LINE, "line 2: asset b appears twice"),
    "unsorted": (LINE + "\n" + LINE.replace('"uid": "b"', '"uid": "a"'), "line 2: asset a comes after b"),
    "escaping": (LINE.replace("/meshes/b.glb", "../b.glb"), "line 1: the locator '../b.glb' leaves"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_lock_is_refused_with_the_line_and_what_to_do(tmp_path, fault):
    text, expected = FAULTS[fault]
    (tmp_path / "lock.jsonl").write_text(text)
    with pytest.raises(LockError, match=expected) as caught:
        load_lock(tmp_path / "lock.jsonl")
    assert "randscene assets build" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folders_and_binary_files_are_no_locks(tmp_path):
    with pytest.raises(LockError, match="no asset lock there; make one with"):
        load_lock(tmp_path / "gone.jsonl")
    with pytest.raises(LockError, match="cannot be read"):
        load_lock(tmp_path)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LockError, match="not UTF-8"):
        load_lock(tmp_path / "binary.jsonl")
    pytest.importorskip("fsspec")
    with pytest.raises(LockError, match="cannot be read: Protocol not known"):
        load_lock("nowhere://folder/lock.jsonl")
    with pytest.raises(LockError, match="no asset lock there"):
        load_lock("memory://gone/lock.jsonl")


def test_two_records_of_one_uid_are_not_written(tmp_path):
    with pytest.raises(LockError, match="share the uid a"):
        write_lock(tmp_path / "lock.jsonl", [record("a"), record("a", locator="/other.glb")])
    assert not (tmp_path / "lock.jsonl").exists()


def test_a_directory_becomes_a_lock(tmp_path, meshes):
    shutil.copy(meshes / "box.glb", meshes / "below" / "same.glb")
    (meshes / "broken.glb").write_bytes(b"glTF")
    calls: list[LockProgress] = []
    report = build_lock(
        "directory", path=meshes, out=tmp_path / "lock.jsonl", up_axis="Z", workers=2, progress=calls.append
    )
    records = {Path(item.locator).name: item for item in load_lock(tmp_path / "lock.jsonl")}
    assert (report.n, report.counts, report.duplicates) == (3, {"ok": 2, "unreadable": 1}, 1)
    assert [(call.done, call.total) for call in calls if call.stage == "inspect"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [call.done for call in calls if call.stage == "list"] == [1, 2, 3, 4]
    assert calls[-1].failures == {"unreadable": 1}
    assert records["ball.ply"].up_axis == "Z"
    assert records["same.glb"].up_axis == "Y"
    assert records["same.glb"].extents == pytest.approx((1, 3, 2))
    assert {item.licence for item in records.values()} == {"NOASSERTION"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_manifest_in_the_folder_says_more(tmp_path, meshes, kind):
    rows = [
        {"file": "box.glb", "uid": "my-box", "licence": "CC-BY-4.0", "attribution": "A. Author", "sha256": ""},
        {"file": "below/ball.ply", "uid": "ball", "licence": "MIT", "attribution": "", "sha256": "0" * 64},
    ]
    with (meshes / f"manifest.{kind}").open("w", newline="") as handle:
        if kind == "jsonl":
            handle.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            table = csv.DictWriter(handle, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
    report = build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1)
    ball, box = load_lock(tmp_path / "lock.jsonl")
    assert (box.uid, box.licence, box.attribution, box.status) == ("my-box", "CC-BY-4.0", "A. Author", "ok")
    assert (ball.uid, ball.status) == ("ball", "hash_mismatch")
    assert report.counts == {"ok": 1, "hash_mismatch": 1}


@pytest.mark.parametrize("line", ["{", "[]", '{"uid": "a"}', '{"file": "box.glb", "uid": "../../a"}'])
def test_a_malformed_manifest_is_refused(tmp_path, meshes, line):
    (meshes / "manifest.jsonl").write_text(line)
    with pytest.raises(LockError, match=r"manifest\.jsonl"):
        build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1)


def test_copies_of_a_shape_are_found_under_any_name_and_size(tmp_path, meshes):
    trimesh.creation.box((2, 4, 6)).export(meshes / "double.obj")
    report = build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1)
    ((first, second),) = report.same_shape
    records = {item.uid: Path(item.locator).name for item in load_lock(tmp_path / "lock.jsonl")}
    assert {records[first], records[second]} == {"box.glb", "double.obj"}
    listed = CliRunner().invoke(app, ["duplicates", str(tmp_path / "lock.jsonl")]).output
    assert f"  {first} {second}" in listed.splitlines()


def test_groups_of_equal_shape_come_largest_first():
    shapes = {"a": "1", "b": "2", "c": "1", "d": "2", "e": "2", "f": "3", "g": "", "h": ""}
    assert same_shape(record(uid, geometry=shape) for uid, shape in shapes.items()) == (("b", "d", "e"), ("a", "c"))


EXPORT = """
import sys, bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.mesh.primitive_cube_add(size=2)
bpy.ops.export_scene.fbx(filepath=sys.argv[1])
"""


@pytest.mark.blender
def test_a_converted_file_is_locked_by_its_copy_and_follows_its_original(tmp_path, meshes):
    original, out = meshes / "cube.fbx", tmp_path / "lock.jsonl"
    subprocess.run([sys.executable, "-c", EXPORT, str(original)], check=True, capture_output=True)
    assert build_lock("directory", path=meshes, out=out, workers=1).counts == {"ok": 3}
    (cube,) = (item for item in load_lock(out) if "lock.assets" in item.locator)
    assert verified_path(cube) == tmp_path / "lock.assets" / f"{cube.uid}.glb"
    assert cube.uid == sha256_of(original)[:32]
    assert build_lock("directory", path=meshes, out=out, workers=1).reused == 3
    original.write_bytes(original.read_bytes() + b"\0")
    with pytest.raises(LockError, match=r"other content.*--force"):
        build_lock("directory", path=meshes, out=out, workers=1)
    build_lock("directory", path=meshes, out=out, workers=1, force=True)
    assert sha256_of(original)[:32] in {item.uid for item in load_lock(out)}


def test_a_lock_is_completed_when_what_failed_is_there_but_finished_records_stay(tmp_path, meshes):
    (meshes / "manifest.jsonl").write_text('{"file": "box.glb", "uid": "box", "sha256": "' + "0" * 64 + '"}\n')
    out = tmp_path / "lock.jsonl"
    assert build_lock("directory", path=meshes, out=out, workers=1).counts == {"ok": 1, "hash_mismatch": 1}
    (meshes / "manifest.jsonl").write_text('{"file": "box.glb", "uid": "box"}\n')
    report = build_lock("directory", path=meshes, out=out, workers=1)
    assert (report.counts, report.reused) == ({"ok": 2}, 1)
    (meshes / "manifest.jsonl").write_text('{"file": "box.glb", "uid": "box", "licence": "MIT"}\n')
    with pytest.raises(LockError, match=r"other content.*--force"):
        build_lock("directory", path=meshes, out=out, workers=1)


def test_a_journal_is_whole_at_every_instant(tmp_path):
    from randscene.manifests.lock_journal import LockJournal

    journal = LockJournal(tmp_path / "lock.jsonl")
    with journal:
        journal.append(record("a"))
    (path,) = tmp_path.iterdir()
    with path.open("a") as handle:
        handle.write('{"uid": "half a li')
    with journal:
        assert [*LockJournal(tmp_path / "lock.jsonl").read()] == ["a"]
        journal.append(record("b"))
        assert [*LockJournal(tmp_path / "lock.jsonl").read()] == ["a", "b"]
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_a_policy_marks_what_it_refuses(tmp_path, meshes):
    policy = LicencePolicy(commercial_only=True)
    report = build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1, policy=policy)
    assert report.counts == {"licence_refused": 2}
    assert usable(load_lock(tmp_path / "lock.jsonl")) == []


def test_procedural_builds_are_the_same_for_any_number_of_workers(tmp_path):
    build_lock("procedural", count=6, out=tmp_path / "one" / "assets.lock.jsonl", workers=1)
    build_lock("procedural", count=6, out=tmp_path / "two" / "assets.lock.jsonl", workers=2)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 7


def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path):
    class Stopped(Exception):
        pass

    def stop(state: LockProgress) -> None:
        if state.done == 3:
            raise Stopped

    out = tmp_path / "assets.lock.jsonl"
    with pytest.raises(Stopped):
        build_lock("procedural", count=5, out=out, workers=1, progress=stop)
    assert not out.exists()
    journal = next(tmp_path.glob(".*.journal"))
    with journal.open("a") as handle:
        handle.write('{"uid": "half a li')
    kept = sorted((tmp_path / "assets.assets").glob("*.glb"))
    kept[0].write_bytes(b"torn")
    report = build_lock("procedural", count=5, out=out, workers=1, force=True)
    assert report.reused == 2
    assert not journal.exists()
    build_lock("procedural", count=5, out=tmp_path / "fresh" / "assets.lock.jsonl", workers=1)
    assert out.read_bytes() == (tmp_path / "fresh" / "assets.lock.jsonl").read_bytes()


def test_a_lock_of_other_content_is_never_overwritten_unasked(tmp_path, meshes):
    out = tmp_path / "assets.lock.jsonl"
    build_lock("procedural", count=3, out=out, workers=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert build_lock("procedural", count=3, out=out, workers=1).reused == 3
    for other in ({"source": "procedural", "count": 4}, {"source": "directory", "path": meshes}):
        with pytest.raises(LockError, match=r"other content.*--force"):
            build_lock(other.pop("source"), out=out, workers=1, **other)
    assert {path: path.read_bytes() for path in before} == before
    assert build_lock("directory", path=meshes, out=out, workers=1, force=True).n == 2
    (tmp_path / "words.jsonl").write_text("not a lock")
    with pytest.raises(LockError, match="no valid asset lock"):
        build_lock("procedural", count=3, out=tmp_path / "words.jsonl", workers=1)


def test_mesh_files_of_other_content_are_never_overwritten_unasked(tmp_path):
    out = tmp_path / "assets.lock.jsonl"
    build_lock("procedural", count=1, out=out, workers=1)
    (path,) = (tmp_path / "assets.assets").glob("*.glb")
    path.write_bytes(b"mine")
    with pytest.raises(LockError, match=r"other content.*--force"):
        build_lock("procedural", count=1, out=out, workers=1)
    assert path.read_bytes() == b"mine"


def test_merged_locks_hold_every_file_once_and_refuse_another_file_under_a_known_uid(tmp_path):
    shop, scans = tmp_path / "shop" / "lock.jsonl", tmp_path / "scans" / "lock.jsonl"
    for path in (shop, scans):
        path.parent.mkdir()
    write_lock(shop, [record("b", sha256="b" * 64, locator="b.glb"), record("lost", sha256="", status="dead_link")])
    write_lock(scans, [record("a", sha256="a" * 64, locator="a.glb"), record("copy", sha256="b" * 64, locator="c.glb")])
    merged, left_out = merge_locks([shop, scans])
    assert [item.uid for item in merged] == ["a", "b", "lost"] and left_out == 1
    out = tmp_path / "all.jsonl"
    for _ in range(2):
        result = CliRunner().invoke(app, ["merge", str(shop), str(scans), "--out", str(out)])
        assert result.exit_code == 0 and "3 assets of 2 locks, 1 files" in result.output.replace("\n", "")
    assert [item.locator for item in load_lock(out)][:2] == [str(scans.parent / "a.glb"), str(shop.parent / "b.glb")]
    with pytest.raises(LockError, match="exists with other content"):
        CliRunner().invoke(app, ["merge", str(shop), "--out", str(out)], catch_exceptions=False)
    write_lock(scans, [record("b", sha256="c" * 64)])
    with pytest.raises(LockError, match="asset b is another file in a lock before it"):
        merge_locks([shop, scans])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"source": "procedural", "count": 1, "licence": "MIT"}, "--licence .* are for --source directory"),
        ({"source": "procedural", "count": 1, "objaverse": ObjaverseOptions()}, "--lvis, .* for --source objaverse"),
        ({"source": "procedural", "count": 1, "path": "."}, "--path is for"),
        ({"source": "directory", "path": ".", "seed": 3}, "--seed is for"),
        ({"source": "objaverse", "count": 0}, "--count must be at least 1"),
        ({"source": "attic"}, "unknown asset source 'attic'"),
        ({"source": "procedural"}, "--count"),
        ({"source": "procedural", "count": 0}, "--count must be at least 1"),
        ({"source": "procedural", "count": 1, "workers": 0}, "--workers"),
        ({"source": "directory"}, "--path"),
        ({"source": "directory", "path": "gone"}, "no such folder"),
        ({"source": "directory", "path": "."}, "no .*glb.* file in it"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=expected):
        build_lock(out=tmp_path / "lock.jsonl", **arguments)
    with pytest.raises(LockError, match="is a folder"):
        build_lock("procedural", count=1, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_do_what_they_say(tmp_path, meshes):
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    lock = str(tmp_path / "lock.jsonl")
    built = run("build", "--source", "directory", "--path", str(meshes), "--out", lock, "--workers", "1")
    assert "2 assets (2 ok)" in built
    (meshes / "broken.glb").write_bytes(b"glTF")
    inspected = run("inspect", str(meshes / "box.glb"), str(meshes / "broken.glb"))
    assert "unreadable" in inspected
    assert "too short for a GLB file" in inspected
    assert "NOASSERTION" in run("licences", lock)
    assert "0 groups of equal shape" in run("duplicates", lock)
    for command in ("build", "inspect", "licences", "duplicates", "merge"):
        assert "Example: randscene assets" in run(command, "--help")
