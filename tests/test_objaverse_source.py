"""The objaverse source, against a local server of the same layout: choice, licences, faults, resumption, kills."""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from objaverse_server import LICENCES, Objaverse, glb_of, layout, serving, uid_of
from typer.testing import CliRunner

from randscene.cli.assets import app
from randscene.errors import LockError, RandsceneError
from randscene.manifests import (
    AssetRecord,
    LicencePolicy,
    LockReport,
    NetworkLimits,
    ObjaverseOptions,
    build_lock,
    load_lock,
)
from randscene.manifests import build as build_module

COUNT = 16
QUICK = NetworkLimits(downloads=4, timeout_s=0.4, attempts=2, pause_s=0.01)


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Objaverse]:
    with serving(layout(COUNT)) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield state


def build(out: Path, *, lvis=None, metadata=None, min_aesthetic=None, **changes) -> LockReport:
    options = ObjaverseOptions(lvis=lvis, metadata=metadata, min_aesthetic=min_aesthetic, network=QUICK)
    return build_lock("objaverse", out=out, objaverse=options, **({"workers": 1} | changes))


def by_number(lock: Path) -> dict[int, AssetRecord]:
    numbers = {uid_of(number): number for number in range(COUNT)}
    return {numbers[record.uid]: record for record in load_lock(lock)}


def test_objects_arrive_with_their_licence_credit_and_place(server, tmp_path):
    report = build(tmp_path / "lock.jsonl")
    records = by_number(tmp_path / "lock.jsonl")
    assert (report.n, report.counts, report.left_out) == (COUNT, {"ok": COUNT}, {})
    uid = uid_of(1)
    assert (
        records[1].attribution
        == f'"Thing 1 with a line" by Person 1 (https://sketchfab.com/3d-models/{uid}), CC-BY-4.0'
    )
    assert [records[number].licence for number in range(2, 8)] == [
        "CC-BY-NC-4.0", "CC0-1.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC-BY-4.0", "NOASSERTION",
    ]  # fmt: skip
    assert {record.category for record in records.values()} == {"furniture-home"}
    assert records[1].sha256 == hashlib.sha256(glb_of(1)).hexdigest()
    assert sorted(path.name for path in (tmp_path / "lock.assets").iterdir()) == sorted(
        f"{uid_of(number)}.glb" for number in range(COUNT)
    )
    assert f'"locator":"lock.assets/{uid}.glb"' in (tmp_path / "lock.jsonl").read_text()


def test_lvis_chooses_by_category_and_records_it(server, tmp_path):
    build(tmp_path / "all.jsonl", lvis=())
    build(tmp_path / "tables.jsonl", lvis=("table",))
    every, tables = by_number(tmp_path / "all.jsonl"), by_number(tmp_path / "tables.jsonl")
    assert {number: record.category for number, record in every.items()} == {
        number: "chair" if number % 4 == 0 else "table" for number in range(0, COUNT, 2)
    }
    assert sorted(tables) == [2, 6, 10, 14]
    with pytest.raises(LockError, match="'tabel' is no LVIS category; did you mean table"):
        build(tmp_path / "tabel.jsonl", lvis=("tabel",))


def test_a_smaller_choice_is_part_of_a_larger_one_and_the_seed_decides(server, tmp_path):
    chosen = {}
    for name, count, seed in (("few", 4, 0), ("more", 9, 0), ("other", 4, 1)):
        build(tmp_path / f"{name}.jsonl", count=count, seed=seed)
        chosen[name] = set(by_number(tmp_path / f"{name}.jsonl"))
    assert [len(numbers) for numbers in chosen.values()] == [4, 9, 4]
    assert chosen["few"] < chosen["more"]
    assert chosen["few"] != chosen["other"]


def test_what_the_policy_refuses_is_counted_and_never_fetched(server, tmp_path):
    report = build(tmp_path / "lock.jsonl", policy=LicencePolicy(commercial_only=True))
    good = [number for number in range(COUNT) if LICENCES[number % len(LICENCES)] in ("by", "by-sa", "cc0")]
    assert sorted(by_number(tmp_path / "lock.jsonl")) == good
    assert report.left_out == {"licence_refused": COUNT - len(good)}
    assert {Path(place).stem for place in server.gets()} == {uid_of(number) for number in good}
    counted = build(tmp_path / "five.jsonl", policy=LicencePolicy(commercial_only=True), count=5)
    assert counted.n == 5
    with pytest.raises(LockError, match=r"no Objaverse object is left to take .16 licence_refused"):
        build(tmp_path / "none.jsonl", policy=LicencePolicy(allow=frozenset({"MIT"})))


FAULTS = {
    0: ("404*", "dead_link"),
    1: ("500*", "download_failed"),
    2: ("slow*", "download_failed"),
    3: ("wrong*", "hash_mismatch"),
    4: ("busy*", "download_failed"),
    5: ("403*", "download_failed"),
}


def test_faults_are_typed_and_a_later_run_fetches_only_what_is_missing(server, tmp_path):
    build(tmp_path / "undisturbed" / "lock.jsonl")
    places = {number: f"glbs/000-{number // 4:03d}/{uid_of(number)}.glb" for number in range(COUNT)}
    for number, (fault, _) in FAULTS.items():
        server.faults[places[number]] = [fault]
    server.files[places[6]] = server.files[places[6]][:-30]  # whole on the wire, but no mesh
    out = tmp_path / "disturbed" / "lock.jsonl"
    report = build(out)
    found = {number: record.status for number, record in by_number(out).items() if record.status != "ok"}
    assert found == {number: reason for number, (_, reason) in FAULTS.items()} | {6: "unreadable"}
    assert report.counts == {"ok": 9, "dead_link": 1, "download_failed": 4, "hash_mismatch": 1, "unreadable": 1}

    server.faults.clear()
    server.asked.clear()
    assert build(out).counts == {"ok": COUNT - 1, "unreadable": 1}
    assert sorted(server.gets()) == sorted(places[number] for number in FAULTS)
    server.files[places[6]] = glb_of(6)
    (out.parent / "lock.assets" / f"{uid_of(6)}.glb").unlink()
    assert build(out, force=True).counts == {"ok": COUNT}
    assert out.read_bytes() == (tmp_path / "undisturbed" / "lock.jsonl").read_bytes()


def test_a_run_of_failures_stops_the_build_and_keeps_what_is_done(server, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "FAILED_IN_A_ROW", 3)
    healthy = uid_of(0)
    for place in server.files:
        if place.endswith(".glb") and healthy not in place:
            server.faults[place] = ["503*"]
    with pytest.raises(RandsceneError, match=r"3 downloads in a row failed.*503.*run the same command again"):
        build(tmp_path / "lock.jsonl", lvis=("chair", "table"))
    assert not (tmp_path / "lock.jsonl").exists()
    server.faults.clear()
    assert build(tmp_path / "lock.jsonl", lvis=("chair", "table")).counts == {"ok": 8}


@pytest.mark.parametrize("killing", [0, 1])
def test_a_build_that_is_killed_ends_in_the_same_bytes(server, tmp_path, killing):
    build(tmp_path / "undisturbed" / "lock.jsonl")
    command = [
        *(sys.executable, "-m", "randscene.cli.main", "assets", "build", "--source", "objaverse"),
        *("--out", str(tmp_path / "killed" / "lock.jsonl"), "--workers", "2", "--downloads", "2"),
    ]
    for place in server.files:
        if place.endswith(".glb"):
            server.faults[place] = ["cut"]
    instants = random.Random(killing)
    for time_killed in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
        begun = len(server.gets())
        deadline = time.monotonic() + 60
        while process.poll() is None and len(server.gets()) < begun + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(instants.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert time_killed or not (tmp_path / "killed" / "lock.jsonl").exists()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = ((tmp_path / name / "lock.jsonl").read_bytes() for name in ("undisturbed", "killed"))
    assert first == second
    assert not [path.name for path in (tmp_path / "killed").rglob(".*")]


def test_ctrl_c_ends_at_once_even_while_the_server_keeps_it_waiting(server, tmp_path):
    for place in server.files:
        if place.endswith(".glb"):
            server.faults[place] = ["busy100*"]
    command = [sys.executable, "-m", "randscene.cli.main", "assets", "build", "--source", "objaverse", "--out"]
    out = tmp_path / "lock.jsonl"
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not server.gets() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "stopped: what is done is kept" in output
    assert not out.exists()


def test_files_of_the_objaverse_package_are_used_and_not_fetched_again(server, tmp_path):
    folder = tmp_path / "home" / ".objaverse" / "hf-objaverse-v1"
    for place, data in server.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    torn = folder / "glbs" / "000-000" / f"{uid_of(2)}.glb"
    torn.write_bytes(torn.read_bytes()[:-20])
    assert build(tmp_path / "lock.jsonl").counts == {"ok": COUNT}
    assert [place for _, place, _ in server.asked] == [f"glbs/000-000/{uid_of(2)}.glb"]
    mesh = tmp_path / "lock.assets" / f"{uid_of(1)}.glb"
    assert mesh.read_bytes() == glb_of(1)
    assert mesh.stat().st_nlink == 2


def test_annotations_are_fetched_once_and_meshes_once(server, tmp_path):
    build(tmp_path / "one.jsonl")
    asked = [place for _, place, _ in server.asked]
    assert len(asked) == len(set(asked)) == COUNT + 1 + COUNT // 4
    server.asked.clear()
    assert build(tmp_path / "one.jsonl").reused == COUNT
    assert server.asked == []


def test_offline_with_a_folder_needs_no_server(server, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    for place, data in server.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    (folder / "glbs" / "000-000" / f"{uid_of(2)}.glb").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = build(tmp_path / "lock.jsonl", path=folder)
    assert report.counts == {"ok": COUNT - 1, "download_failed": 1}
    assert server.asked == []
    with pytest.raises(LockError, match=r"object-paths.json.gz is not here, and HF_HUB_OFFLINE is set.*--path"):
        build(tmp_path / "other.jsonl")


def test_no_network_is_one_line_that_says_what_to_do(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        LockError, match=r"cannot fetch Objaverse's object-paths.json.gz.*HF_ENDPOINT.*--path"
    ) as caught:
        build(tmp_path / "lock.jsonl")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", "127.0.0.1:9")
    with pytest.raises(LockError, match=r"HF_ENDPOINT is .127\.0\.0\.1:9"):
        build(tmp_path / "lock.jsonl")
    with pytest.raises(LockError, match="no such folder"):
        build(tmp_path / "lock.jsonl", path=tmp_path / "gone")


def packed(data: object) -> bytes:
    return gzip.compress(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("place", "data"),
    [
        ("object-paths.json.gz", b"no gzip"),
        ("object-paths.json.gz", packed(["a"])),
        ("object-paths.json.gz", packed({"a": "glbs/000-000/../../../a.glb"})),
        ("object-paths.json.gz", packed({"a": "glbs/000-000/b.glb"})),
        ("object-paths.json.gz", packed({uid_of(0): f"/glbs/000-000/{uid_of(0)}.glb"})),
        ("metadata/000-001.json.gz", gzip.compress(b"{}" * 999)[:-9]),
        ("lvis-annotations.json.gz", packed({"chair": 3})),
    ],
)
def test_damaged_lists_are_refused_with_their_place(server, tmp_path, place, data):
    server.files[place] = data
    with pytest.raises(LockError, match=f"{place} is damaged.*delete it") as caught:
        build(tmp_path / "lock.jsonl", lvis=("chair", "table"))
    assert "\n" not in str(caught.value)


def test_odd_annotations_do_no_harm(server, tmp_path):
    odd = [
        {"name": None, "license": 3, "user": [], "viewerUrl": "javascript:alert(1)", "categories": [7]},
        {"name": "x" * 999, "license": "BY", "user": {"username": "a\x00b\u202e"}, "viewerUrl": "", "categories": "no"},
        "not an object",
    ]
    server.files["metadata/000-000.json.gz"] = packed({uid_of(number): data for number, data in enumerate(odd)})
    build(tmp_path / "lock.jsonl")
    records = by_number(tmp_path / "lock.jsonl")
    assert [(records[n].licence, records[n].category) for n in range(4)] == [
        ("NOASSERTION", ""), ("CC-BY-4.0", ""), ("NOASSERTION", ""), ("NOASSERTION", ""),
    ]  # fmt: skip
    assert [records[n].attribution for n in (0, 2, 3)] == ["", "", ""]
    assert records[1].attribution.startswith('"xxx')
    assert records[1].attribution.endswith(f'..." by a b (https://sketchfab.com/3d-models/{uid_of(1)}), CC-BY-4.0')


def table(path: Path, *rows: tuple[str, str, str]) -> Path:
    lines = ["sha256,file_identifier,aesthetic_score,captions", *(",".join([*row, '"[""a, b""]"']) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def row(number: int, score: str, sha256: str = "") -> tuple[str, str, str]:
    uid = uid_of(number)
    return sha256 or hashlib.sha256(glb_of(number)).hexdigest(), f"https://sketchfab.com/3d-models/{uid}", score


def test_a_metadata_table_chooses_by_score_and_states_the_hashes(server, tmp_path):
    metadata = table(
        tmp_path / "ObjaverseXL_sketchfab.csv",
        row(1, "6.5"),
        row(2, "5.5"),
        row(3, "5.4999"),
        row(5, "7", "0" * 64),
        ("1" * 64, "https://github.com/a/b/blob/c/d.glb", "8"),
        ("2" * 64, "https://sketchfab.com/3d-models/" + "0" * 32, "8"),
    )
    report = build(tmp_path / "lock.jsonl", metadata=metadata, min_aesthetic=5.5)
    assert {n: record.status for n, record in by_number(tmp_path / "lock.jsonl").items()} == {
        1: "ok", 2: "ok", 5: "hash_mismatch",
    }  # fmt: skip
    assert report.left_out == {"below_min_aesthetic": 1, "no_sketchfab_model": 1, "not_in_objaverse": 1}
    lvis = build(tmp_path / "lvis.jsonl", metadata=metadata, lvis=())
    assert (lvis.n, lvis.left_out["not_in_lvis"]) == (1, 3)
    with pytest.raises(LockError, match="--min-aesthetic needs --metadata"):
        build(tmp_path / "other.jsonl", min_aesthetic=5.0)


def test_a_mesh_of_other_content_is_neither_used_nor_overwritten(server, tmp_path):
    mesh = tmp_path / "lock.assets" / f"{uid_of(1)}.glb"
    mesh.parent.mkdir()
    mesh.write_bytes(b"mine")
    assert build(tmp_path / "lock.jsonl").counts == {"ok": COUNT - 1, "hash_mismatch": 1}
    assert mesh.read_bytes() == b"mine"
    mesh.unlink()
    assert build(tmp_path / "lock.jsonl").counts == {"ok": COUNT}


def test_the_command_says_what_was_left_out_and_where_the_reasons_are(server, tmp_path):
    server.faults[f"glbs/000-000/{uid_of(0)}.glb"] = ["404*"]
    out = tmp_path / "lock.jsonl"
    arguments = ["build", "--source", "objaverse", "--lvis", "chair, table", "--commercial-safe", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--allow", "cc-by-4.0", "--deny", "CC BY SA", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "warning: CC BY SA is not on SPDX's list" in result.output
    assert "1 dead_link" in result.output
    assert "left out: 4 licence_refused" in result.output
    assert "dead_link" in (tmp_path / "lock.jsonl.log").read_text()
