"""status, failures and retry: a build seen from outside, and the scenes that it gave up."""

import json
import shutil
from pathlib import Path

import pytest
from test_build import DAMAGED_HEADERS, FAST, damage_header, promised_bytes, unreadable

from randscene.cli.status import failures, retry, status
from randscene.errors import DatasetError, RandsceneError
from randscene.generator import generate
from randscene.generator.build_driver import PROGRESS
from randscene.generator.failures import read_failures
from randscene.generator.status import build_status
from randscene.manifests import load_spec, with_overrides
from randscene.shards import lint
from randscene.shards.store import open_store

pytestmark = pytest.mark.usefixtures("one_ray")

SPEC = with_overrides(load_spec("demo"), [*FAST, "splits.train.scenes=3"])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, lock_path: Path) -> Path:
    root = tmp_path_factory.mktemp("calm") / "dataset"
    assert generate(SPEC, lock_path, root, workers=2).complete
    return root


@pytest.mark.ray
def test_status_tells_a_finished_build_from_one_with_a_scene_staged(calm, tmp_path, capsys):
    whole = build_status(calm)
    assert whole.complete and not whole.running and whole.scenes_packed == whole.scenes_total == 4
    assert whole.last is not None and whole.last["scenes_done"] == 4 and whole.failures == {}
    status(str(calm), as_json=True)
    assert json.loads(capsys.readouterr().out)["samples"] == whole.samples
    root = tmp_path / "dataset"
    shutil.copytree(calm, root)
    (root / "shards" / "val-000000.index.json").unlink()
    found = build_status(root)
    assert (found.scenes_packed, found.shards_done, found.uncommitted) == (3, 2, ["val-000000"])
    with pytest.raises(DatasetError, match="not a dataset"):
        build_status(tmp_path / "nothing")


@pytest.mark.ray
@pytest.mark.parametrize("shard", ["train-000000", "train-000001"])
def test_status_names_an_index_that_no_build_wrote_and_the_cure(shard, calm, tmp_path):
    root = tmp_path / "dataset"
    shutil.copytree(calm, root)
    path = damage_header(root, shard)
    with pytest.raises(DatasetError) as caught:
        status(str(root))
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and line.endswith("`randscene generate` builds it again")
    assert DAMAGED_HEADERS[shard][1] in line and "\n" not in line


@pytest.mark.ray
@pytest.mark.parametrize("seconds, words", [(9.0, "9 s left"), (150.0, "2.5 min left"), (5400.0, "1.5 h left")])
def test_status_tells_the_time_left_in_a_unit_that_fits_and_no_workers_that_have_ended(
    calm, tmp_path, capsys, seconds, words
):
    root = tmp_path / "dataset"
    shutil.copytree(calm, root)
    info = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(info | {"complete": False}))
    lines = (root / PROGRESS).read_text().splitlines()
    last = json.loads(lines[-1]) | {"seconds_left": seconds, "workers": 0}
    (root / PROGRESS).write_text("".join(f"{line}\n" for line in [*lines, json.dumps(last)]))
    status(str(root))
    shown = capsys.readouterr().out
    assert words in shown and "workers" not in shown
    failures(str(root))
    assert capsys.readouterr().out.strip() == f"{root}: no attempt has failed"


@pytest.mark.ray
def test_a_url_gets_the_bytes_of_a_local_folder(calm, lock_path, tmp_path):
    root = tmp_path / "dataset"
    assert generate(SPEC, lock_path, f"file://{root}", workers=2).complete
    assert promised_bytes(root) == promised_bytes(calm)
    assert lint(f"file://{root}").ok and not list(root.rglob("*.tmp")) and not (root / ".build.lock").exists()
    (root / "shards" / "train-000001.tar").write_bytes(b"cut")
    assert generate(SPEC, lock_path, f"file://{root}", workers=1).scenes_made == 1
    assert promised_bytes(root) == promised_bytes(calm)


@pytest.mark.ray
def test_scenes_that_were_given_up_can_be_tried_again_without_making_the_others(lock, tmp_path, capsys):
    records = [unreadable(record, tmp_path) if number % 3 == 0 else record for number, record in enumerate(lock)]
    root = tmp_path / "dataset"
    spec = with_overrides(SPEC, ["attempts=1", "assets.held_out_fraction=0", "splits.val.held_out_assets=false"])
    report = generate(spec, records, root, workers=2)
    assert 0 < len(report.given_up) < 4 and not report.complete
    lost = len(report.given_up)
    assert build_status(root).given_up == report.given_up
    assert {item.scene for item in read_failures(open_store(root))} == set(report.given_up)
    failures(str(root))
    assert f"given up: {lost} scenes" in capsys.readouterr().out
    before = promised_bytes(root)
    again = generate(spec, records, root, workers=2, retry={"timeout"})
    assert again.scenes_made == 0 and len(read_failures(open_store(root))) == lost
    # The files are still broken: the same scenes fail once more, and nothing else is lost or made again.
    with pytest.raises(RandsceneError, match=f"{lost} scenes failed every attempt"):
        retry(str(root), workers=2)
    assert len(read_failures(open_store(root))) == 2 * lost
    assert promised_bytes(root) == before and lint(root).ok
