"""Tables that say what the scores say: order, bold, brackets, and refusals in place of unfair comparisons."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from test_evaluate import KEYS, dataset_source, predict
from test_evaluation_statistics import keys, scene_scores
from typer.testing import CliRunner

from randscene.cli.evaluate import evaluate as command
from randscene.errors import PredictionError, SpecError
from randscene.train.compared_methods import check_methods, name_methods
from randscene.train.evaluate import evaluate
from randscene.train.evaluation_ranks import rank_changes, rank_rows, ranks_markdown
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.evaluation_tables import Comparison
from randscene.train.protocols import ISCENE, PROTOCOLS

__all__ = ["dataset_source"]  # a fixture

UNALIGNED = dataclasses.replace(
    ISCENE, name="unaligned", points_per_object=600, registration=None, realigned_objects=False
)
FIXED = dataclasses.replace(UNALIGNED, name="fixed", normalisations=("fixed_range",), chamfer="cd_unsquared")


def report(chamfers: list[float], protocol=ISCENE) -> EvaluationReport:
    scenes = tuple(scene_scores(key, value) for key, value in zip(keys(len(chamfers)), chamfers))
    return EvaluationReport(protocol=protocol, seed=0, scenes=scenes)


def body(latex: str) -> list[list[str]]:
    inner = latex.split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [[cell.strip() for cell in line.removesuffix("\\\\").split(" & ")] for line in inner.splitlines()]


def balanced(latex: str) -> bool:
    depth = 0
    for sign in re.sub(r"\\[{}]", "", latex):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


def test_latex_has_the_papers_columns_and_the_best_in_bold():
    text = Comparison(reports={"ours_50%": report([0.1, 0.2]), "theirs {a&b}": report([0.3, 0.4])}).to_latex()
    head = text.split("\\toprule\n")[1].splitlines()[0]
    titles = [cell.strip() for cell in head.removesuffix("\\\\").split(" & ")]
    down, up = "$\\downarrow$", "$\\uparrow$"
    assert titles == ["Method", f"CD-S {down}", f"F-S {up}", f"CD-O {down}", f"F-O {up}", f"IoU-B {up}"]
    first, second = body(text)
    best = ("0.1500", "85.00", "0.1500", "85.00", "0.9250")
    assert first == ["ours\\_50\\%", *(f"\\textbf{{{value}}}" for value in best)]
    assert second == ["theirs \\{a\\&b\\}", "0.3500", "65.00", "0.3500", "65.00", "0.8250"]
    assert balanced(text)
    assert "\\begin{tabular}{lccccc}" in text
    for line in text.splitlines():
        if " & " in line and not line.startswith("%"):
            assert len(re.findall(r"(?<!\\)&", line)) == 5
            assert line.endswith("\\\\")


def test_latex_bolds_what_prints_alike_and_nothing_of_a_single_method():
    close = Comparison(reports={"a": report([0.1, 0.2]), "b": report([0.1, 0.200001])}).to_latex()
    assert [row[1] for row in body(close)] == ["\\textbf{0.1500}"] * 2
    assert "textbf" not in Comparison(reports={"a": report([0.1, 0.2])}).to_latex()


def test_markdown_shows_intervals_and_the_paired_tests():
    comparison = Comparison(reports={"a|b": report([0.1, 0.2, 0.3]), "c": report([0.2, 0.3, 0.4])})
    text = comparison.to_markdown()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables[:4]}) == 1
    assert "| CD-S ↓ | F-S ↑ | CD-O ↓ | F-O ↑ | IoU-B ↑ |" in text
    assert re.search(r"a\\\|b \| 0\.2000 \[0\.1\d{3}, 0\.[23]\d{3}\] \| 80\.00 \[\d\d\.\d\d, 9\d\.\d\d\]", text)
    # Each scene is worse by the same: 2 of 8 sign patterns reach the sum.
    assert "c - a\\|b | 0.1000 [0.1000, 0.1000], p = 0.250 | -10.00 [-10.00, -10.00], p = 0.250" in text
    content = json.loads(comparison.to_json())["tests"]
    assert [(test["first"], test["second"]) for test in content] == [("a|b", "c")]
    assert content[0]["second_minus_first"]["scene_f_score"]["difference"]["value"] == pytest.approx(-0.1)
    assert content[0]["second_minus_first"]["scene_cd_squared"]["exact"] is True


def test_missing_instances_are_told_beside_the_means():
    scene = scene_scores("000001_000", 0.1)
    lost = dataclasses.replace(scene, instances=(dataclasses.replace(scene.instances[0], problem="missing"),))
    text = Comparison(
        reports={
            "whole": EvaluationReport(protocol=ISCENE, seed=0, scenes=(scene,)),
            "holes": EvaluationReport(protocol=ISCENE, seed=0, scenes=(lost,)),
        }
    )
    assert "penalty: holes 1." in text.to_markdown()
    assert "% Missing instances, which count with the penalty: holes 1." in text.to_latex()


def test_a_change_of_order_between_protocols_is_named():
    other = dataclasses.replace(ISCENE, name="other")
    comparisons = [
        Comparison(reports={"a": report([0.1]), "b": report([0.2]), "c": report([0.2])}),
        Comparison(reports={"a": report([0.3], other), "b": report([0.2], other), "c": report([0.4], other)}),
    ]
    rows = {(title, method): ranks for title, method, ranks in rank_rows(comparisons)}
    assert [rows["CD-S", method] for method in "abc"] == [[1, 2], [2, 1], [2, 3]]
    assert [rows["F-O", method] for method in "abc"] == [[1, 2], [2, 1], [2, 3]]
    changes = rank_changes(comparisons)
    # b and c only leave a tie; a and b change places.
    assert {(one.better, one.worse, one.under, one.not_under) for one in changes} == {("a", "b", "iscene", "other")}
    assert [one.column for one in changes] == ["CD-S", "F-S", "CD-O", "F-O", "IoU-B"]
    text = ranks_markdown(comparisons)
    assert "| measure | method | iscene | other |" in text
    assert "CD-S: a is better than b under iscene, worse under other" in text
    assert "No two methods change places" in ranks_markdown([comparisons[0], comparisons[0]])


def test_methods_take_their_folders_names_or_given_ones():
    a, b = Path("/runs/a/predictions"), Path("/runs/b/predictions")
    assert name_methods([a, b.parent]) == {"predictions": a, "b": b.parent}
    assert name_methods([a, b], ["x", "y"]) == {"x": a, "y": b}
    for folders, names, message in (
        ([a, b], [], "both named 'predictions'"),
        ([a, b], ["x"], "1 names for 2 folders"),
        ([a], ["../x"], "cannot name a method"),
        ([a], [".."], "cannot name a method"),
        ([a], [" "], "cannot name a method"),
    ):
        with pytest.raises(SpecError, match=message):
            name_methods(folders, names)


def test_methods_that_predicted_other_views_are_named_and_refused(tmp_path):
    for view in (0, 1):
        predict(tmp_path / "all", view)
    predict(tmp_path / "one", 1)
    methods = {"all": tmp_path / "all", "one": tmp_path / "one"}
    with pytest.raises(PredictionError, match=f"one lacks {KEYS[0]}; .*--require-all") as caught:
        check_methods(methods, same_views=True)
    assert "all lacks" not in str(caught.value)
    check_methods(methods, same_views=False)
    with pytest.raises(PredictionError, match="other views"):
        Comparison(reports={"a": report([0.1]), "b": report([0.1, 0.2])})
    (tmp_path / "one" / KEYS[1] / "prediction.json").write_text("{")
    with pytest.raises(PredictionError, match="cannot be read"):
        check_methods(methods, same_views=False)


@pytest.fixture(scope="module")
def setup(dataset_source, tmp_path_factory) -> Path:
    """A dataset of two views, a good method for both, a worse one for both, and one that has only the first."""
    root = tmp_path_factory.mktemp("methods")
    shutil.copytree(dataset_source, root / "dataset")
    for view in (0, 1):
        predict(root / "good", view)
        predict(root / "flat", view, change=lambda vertices: vertices * [1, 1, 0.3])
    predict(root / "partial", 0)
    return root


def run(*arguments: object):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_method_under_one_protocol_keeps_its_layout_and_gains_tables(setup, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "iscene", UNALIGNED)
    done = run(setup / "flat", "--dataset", setup / "dataset", "--out", tmp_path / "one", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert set(files(tmp_path / "one")) == {"scores.json", "scores.csv", "table.md", "table.tex"}
    library = evaluate(setup / "flat", setup / "dataset", UNALIGNED, workers=1)
    assert (tmp_path / "one" / "scores.json").read_text() == library.to_json()
    with (tmp_path / "one" / "scores.csv").open(newline="") as text:
        assert [row["key"] for row in csv.DictReader(text)] == list(KEYS)


def test_several_methods_and_protocols_write_a_folder_each(setup, tmp_path, monkeypatch):
    for protocol in (UNALIGNED, FIXED):
        monkeypatch.setitem(PROTOCOLS, protocol.name, protocol)
    several = [setup / "good", setup / "flat", "--dataset", setup / "dataset", "--name", "A", "--name", "B"]
    several += ["--protocol", "fixed", "--protocol", "unaligned", "--worst", 1, "--workers", 1]
    done = run(*several, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    written = files(tmp_path / "out")
    own = [f"{protocol}/{method}" for protocol in ("fixed", "unaligned") for method in "AB"]
    tables = ("table.md", "table.tex", "comparison.json")
    expected = {f"{folder}/{name}" for folder in own for name in ("scores.json", "scores.csv")}
    expected |= {f"{protocol}/{name}" for protocol in ("fixed", "unaligned") for name in tables}
    drawn = {name for name in written if "/worst/" in name}
    assert set(written) - drawn == expected | {"ranks.md"}
    assert sorted(name.rpartition("/")[0] for name in drawn) == [f"{folder}/worst" for folder in own]
    assert "p = 1.000" in done.output  # one scene: both sign patterns reach the sum
    assert "no two methods change places" in done.output
    good, flat = body(written["fixed/table.tex"].decode())
    assert (good[0], flat[0]) == ("A", "B")
    assert all(cell.startswith("\\textbf{") for cell in good[1:])
    assert not any("textbf" in cell for cell in flat)
    means = json.loads(written["fixed/A/scores.json"])["means"]
    assert good[1] == f"\\textbf{{{means['scene_cd_unsquared']:.4f}}}"  # the protocol's own form


def test_no_file_depends_on_the_number_of_workers(setup, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "iscene", UNALIGNED)
    for workers in (1, 2):
        done = run(
            setup / "flat",
            "--dataset",
            setup / "dataset",
            "--worst",
            2,
            "--out",
            tmp_path / str(workers),
            "--workers",
            workers,
        )
        assert done.exit_code == 0, done.output
    alone, shared = files(tmp_path / "1"), files(tmp_path / "2")
    assert len(alone) == 4 + 2
    assert alone == shared


def test_every_named_protocol_has_its_columns():
    for protocol in PROTOCOLS.values():
        comparison = Comparison(reports={"a": report([0.1, 0.2], protocol)})
        names = {column.name for column in comparison.columns}
        assert len(names) == 5
        assert names <= set(comparison.reports["a"].means())
        assert balanced(comparison.to_latex())


def test_a_method_that_lacks_views_is_refused_or_counted_as_failed(setup, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "iscene", UNALIGNED)
    both = [setup / "good", setup / "partial", "--dataset", setup / "dataset", "--workers", 1]
    refused = run(*both, "--out", tmp_path / "refused")
    assert isinstance(refused.exception, PredictionError)
    assert f"partial lacks {KEYS[1]}" in str(refused.exception)
    assert not (tmp_path / "refused").exists()
    done = run(*both, "--out", tmp_path / "out", "--require-all")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "unaligned" / "table.md").read_text()
    assert "partial 3" in text
    assert "| 3 of 6 |" in text


def test_pictures_need_a_folder(setup):
    refused = run(setup / "good", "--dataset", setup / "dataset", "--worst", 2)
    assert isinstance(refused.exception, SpecError)
    assert "give --out" in str(refused.exception)


def test_scores_that_mean_something_else_are_not_replaced(setup, tmp_path, monkeypatch):
    for protocol in (UNALIGNED, FIXED):
        monkeypatch.setitem(PROTOCOLS, protocol.name, protocol)
    same = [setup / "flat", "--dataset", setup / "dataset", "--out", tmp_path, "--workers", 1]
    assert run(*same, "--protocol", "fixed").exit_code == 0
    before = files(tmp_path)
    assert run(*same, "--protocol", "fixed").exit_code == 0
    assert files(tmp_path) == before
    for other, told in (
        (["--protocol", "fixed", "--seed", 1], "(seed)"),
        (["--protocol", "unaligned"], "(protocol)"),
        (["--protocol", "fixed", "--match", "hungarian"], "(predictions)"),
    ):
        refused = run(*same, *other)
        assert isinstance(refused.exception, SpecError), refused.output
        assert told in str(refused.exception)
        assert "another --out" in str(refused.exception)
    assert files(tmp_path) == before
    (tmp_path / "scores.json").write_text("[1, 2")
    assert "is no report" in str(run(*same, "--protocol", "fixed").exception)
