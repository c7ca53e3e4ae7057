"""Means of each split: of its own scenes alone, in JSON, CSV, table and on the screen."""

import csv
import dataclasses
import io
import json

import pytest
import typer
from output_fixtures import write_dataset
from test_evaluate import KEYS, SMALL, predict
from test_evaluation_statistics import keys, scene_scores
from typer.testing import CliRunner

from randscene.cli.evaluate import evaluate as command
from randscene.train.evaluate import evaluate
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.evaluation_tables import Comparison
from randscene.train.protocols import ISCENE, PROTOCOLS

VALUES = {"row": [0.1, 0.3], "around_table": [0.5], None: [0.7]}


def report(factor: float = 1.0) -> EvaluationReport:
    scenes, names = [], iter(keys(4))
    for split, chamfers in VALUES.items():
        scenes += [dataclasses.replace(scene_scores(next(names), factor * one), split=split) for one in chamfers]
    return EvaluationReport(protocol=ISCENE, seed=0, scenes=tuple(scenes), by_split=True)


def test_every_split_has_the_means_of_its_own_scenes():
    parts = report().splits()
    assert list(parts) == ["-", "around_table", "row"]
    assert {name: one.means()["scene_cd_squared"] for name, one in parts.items()} == pytest.approx(
        {"-": 0.7, "around_table": 0.5, "row": 0.2}
    )
    content = json.loads(report().to_json())
    assert content["splits"]["row"]["means"]["scene_cd_squared"] == pytest.approx(0.2)
    assert content["splits"]["row"]["n_scenes"] == 2
    assert content["splits"]["row"]["intervals"]["scene_cd_squared"][0] >= 0.1
    assert [scene["split"] for scene in content["scenes"]] == ["row", "row", "around_table", None]
    rows = list(csv.DictReader(io.StringIO(report().splits_csv())))
    assert [(row["split"], row["n_scenes"]) for row in rows] == [("-", "1"), ("around_table", "1"), ("row", "2")]
    assert float(rows[2]["scene_cd_squared"]) == pytest.approx(0.2)


def test_the_table_has_a_row_a_split_and_method(tmp_path):
    comparison = Comparison(reports={"ours": report(), "theirs": report(0.5)})
    table = comparison.to_markdown().split("By split.")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert rows[0][:4] == ["split", "method", "views", "CD-S ↓"]
    assert [row[:3] for row in rows[2:]] == [
        [split, method, views]
        for split, views in (("-", "1"), ("around_table", "1"), ("row", "2"))
        for method in ("ours", "theirs")
    ]
    assert rows[-2][3].startswith("0.2000 [")
    assert rows[-1][3].startswith("0.1000 [")
    quiet = Comparison(reports={"ours": dataclasses.replace(report(), by_split=False)})
    assert "By split" not in quiet.to_markdown()
    assert "splits" not in json.loads(dataclasses.replace(report(), by_split=False).to_json())


def test_the_command_tells_the_splits_of_a_dataset(tmp_path, monkeypatch):
    fast = dataclasses.replace(SMALL, registration=None, realigned_objects=False)
    monkeypatch.setitem(PROTOCOLS, "iscene", fast)
    dataset = write_dataset(tmp_path / "dataset", ("row", "behind"))
    predict(tmp_path / "p", 0)
    predict(tmp_path / "p", 1, change=lambda vertices: 0.5 * vertices + [0.2, 0, 0])
    scored = evaluate(tmp_path / "p", dataset, fast, workers=1, by_split=True)
    assert {scene.key: scene.split for scene in scored.scenes} == {KEYS[0]: "row", KEYS[1]: "behind"}
    app = typer.Typer()
    app.command()(command)
    arguments = [str(tmp_path / "p"), "--dataset", str(dataset), "--out", str(tmp_path / "out"), "--workers", "1"]
    done = CliRunner().invoke(app, [*arguments, "--by-split"])
    assert done.exit_code == 0, done.output
    assert "iscene: by split" in done.output
    rows = {row["split"]: row for row in csv.DictReader((tmp_path / "out" / "splits.csv").open())}
    assert float(rows["row"]["scene_f_score"]) == 1
    assert rows.keys() == {"row", "behind"}
