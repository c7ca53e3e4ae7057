"""Sources: what a folder of meshes says of itself, what it leaves open, and what is left out of it."""

import json
import os
import shutil
from pathlib import Path

import pytest
import trimesh

from randscene.errors import LockError
from randscene.files import sha256_of
from randscene.manifests import build_lock, load_lock
from randscene.manifests.sources import Candidate, Listing, directory


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    folder = tmp_path / "meshes"
    folder.mkdir()
    trimesh.creation.box((1, 2, 3)).export(folder / "box.glb")
    trimesh.creation.icosphere().export(folder / "ball.ply")
    return folder


def listing(folder: Path, **options) -> Listing:
    return directory(folder, assets=folder.parent / "lock.assets", **options)


def by_name(found: Listing) -> dict[str, Candidate]:
    return {(candidate.original or candidate.path).name: candidate for candidate in found.candidates}


def describe(folder: Path, *rows: dict[str, object]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_default_licence_and_credit_fill_what_no_manifest_states(meshes):
    describe(meshes, {"file": "box.glb", "licence": "mit", "attribution": "Ann"}, {"file": "ball.ply", "licence": None})
    found = by_name(listing(meshes, licence="cc-by-4.0", attribution="Bob"))
    assert (found["box.glb"].licence, found["box.glb"].attribution) == ("MIT", "Ann")
    assert (found["ball.ply"].licence, found["ball.ply"].attribution) == ("CC-BY-4.0", "Bob")
    plain = by_name(listing(meshes))
    assert (plain["ball.ply"].licence, plain["ball.ply"].attribution) == ("NOASSERTION", "")


def test_an_author_becomes_a_credit(meshes):
    describe(
        meshes,
        {"file": "box.glb", "name": "A box", "author": "Ann\nLee", "license": "CC-BY-4.0", "source_repo": "ann/boxes"},
        {"file": "ball.ply", "author": "Bob", "attribution": "as Bob wants it"},
    )
    found = by_name(listing(meshes))
    assert found["box.glb"].attribution == '"A box" by Ann Lee (ann/boxes), CC-BY-4.0'
    assert found["ball.ply"].attribution == "as Bob wants it"


def test_links_out_of_the_folder_are_left_out_and_counted(tmp_path, meshes):
    trimesh.creation.cylinder(1, 2).export(tmp_path / "elsewhere.glb")
    (meshes / "out.glb").symlink_to(tmp_path / "elsewhere.glb")
    (meshes / "inside.glb").symlink_to(meshes / "box.glb")
    (meshes / "dangling.glb").symlink_to(tmp_path / "gone.glb")
    found = listing(meshes)
    assert sorted(by_name(found)) == ["ball.ply", "box.glb"]
    assert (found.duplicates, found.left_out) == (1, {"link_out_of_folder": 1})
    only_links = tmp_path / "links"
    only_links.mkdir()
    (only_links / "out.glb").symlink_to(tmp_path / "elsewhere.glb")
    with pytest.raises(LockError, match="only 1 links that lead out of it"):
        listing(only_links)


def test_names_that_no_lock_could_hold_are_left_out_and_counted(tmp_path, meshes):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    shutil.copy(meshes / "box.glb", foreign / os.fsdecode(b"St\xfchle.glb"))  # as an archive from elsewhere unpacks
    with pytest.raises(LockError, match="only 1 files whose names are no UTF-8"):
        listing(foreign)
    (meshes / "ball.ply").rename(foreign / "St\u00fchle.ply")
    found = listing(foreign)
    assert list(by_name(found)) == ["St\u00fchle.ply"] and found.left_out == {"name_not_utf8": 1}


def test_rows_without_a_file_are_counted(meshes):
    describe(meshes, {"file": "gone.glb"}, {"file": "../elsewhere.glb"}, {"file": "box.glb"})
    assert listing(meshes).left_out == {"manifest_row_without_file": 2}


def test_a_file_to_convert_is_named_by_the_hash_of_its_original(tmp_path, meshes):
    original = meshes / "chair.FBX"
    original.write_bytes(b"Kaydara FBX Binary  one")
    first = by_name(listing(meshes, up_axis="Z"))["chair.FBX"]
    assert first.original == original
    assert first.path == tmp_path / "lock.assets" / f"{first.uid}.glb"
    assert (first.uid, first.up_axis, first.sha256) == (sha256_of(original)[:32], "Y", None)
    describe(meshes, {"file": "chair.FBX", "uid": "chair", "sha256": sha256_of(original)})
    named = by_name(listing(meshes))["chair.FBX"]
    assert (named.uid, named.path, named.fault) == ("chair", first.path, None)
    original.write_bytes(b"Kaydara FBX Binary  two")
    changed = by_name(listing(meshes))["chair.FBX"]
    assert changed.path != first.path
    assert changed.fault == "hash_mismatch"


def test_what_a_lock_makes_inside_its_folder_is_not_taken_for_a_source(meshes):
    own = meshes / "lock.assets"
    own.mkdir()
    trimesh.creation.cylinder(1, 2).export(own / "converted.glb")
    assert sorted(by_name(directory(meshes, assets=own))) == ["ball.ply", "box.glb"]


def test_every_file_is_hashed_once_and_reported(meshes):
    calls: list[tuple[int, int]] = []
    listing(meshes, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert len(listing(meshes, count=1).candidates) == 1


def test_a_file_that_vanishes_while_it_is_listed_is_typed(tmp_path, meshes, monkeypatch):
    from randscene.manifests import sources

    def gone(path: Path) -> str:
        if path.name == "box.glb":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return sha256_of(path)

    monkeypatch.setattr(sources, "sha256_of", gone)
    build_lock("directory", path=meshes, out=tmp_path / "lock.jsonl", workers=1)
    assert {Path(record.locator).name: record.status for record in load_lock(tmp_path / "lock.jsonl")} == {
        "ball.ply": "ok",
        "box.glb": "unreadable",
    }


def test_an_axis_that_is_none_is_refused(meshes):
    describe(meshes, {"file": "ball.ply", "up_axis": "x"})
    with pytest.raises(LockError, match="up_axis 'X' is neither Y nor Z"):
        listing(meshes)
    describe(meshes, {"file": "ball.ply", "up_axis": "z"}, {"file": "box.glb", "up_axis": "z"})
    assert {name: found.up_axis for name, found in by_name(listing(meshes)).items()} == {
        "ball.ply": "Z",
        "box.glb": "Y",
    }
