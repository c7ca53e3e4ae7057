"""Studies: strict to read, resumed after any kill to the same bytes, honest about what the numbers determine."""

import csv
import dataclasses
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml
from PIL import Image
from shard_fixtures import make_dataset, solids_of
from tiny_model import TINY_MODEL

from randscene import seeding
from randscene.cli.main import main
from randscene.errors import CheckpointError, DatasetError, RandsceneError, SpecError
from randscene.files import exclusive, write_atomic
from randscene.generator.scene_glb import scene_glb
from randscene.shards import open_dataset
from randscene.train.batch import LatentSource
from randscene.train.checkpoint import latest_checkpoint, load_run_settings, read_state
from randscene.train.conditioned_flow import load_conditioned_flow
from randscene.train.flow_matching import grouped_flow_loss
from randscene.train.held_out_loss import T_MEAN, T_STD, TIMES, held_out_loss
from randscene.train.image_conditioner import prepare_images
from randscene.train.predict import Predictor
from randscene.train.protocols import ISCENE, PROTOCOLS
from randscene.train.scaling_plan import StudyFolder
from randscene.train.scaling_report import write_report
from randscene.train.scaling_run import run_study
from randscene.train.scaling_statistics import PowerLaw, fit_power_law, over_seeds, paired_difference, power_law
from randscene.train.scaling_study import arm_settings, load_study, parse_study
from randscene.train.training_data import open_split
from randscene.train.validation import stratified_times

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    "data.encoder=synthetic",
    "data.scenes_per_step=1",
    "data.instances_per_scene=1",
    *TINY_MODEL,
    "optimiser.steps=3",
    "checkpoint_every=2",
    "sampling.steps=2",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return make_dataset(folder, scenes=5, views=2, resolution=32, latents=True, splits=("train", "val"))


def content(dataset, **changes):
    """A study of two arms of the same data."""
    first = {"set": TINY, "mixture": {"set": 1}}
    second = {"set": [*TINY, "optimiser.lr=0.001"], "mixture": {"set": 1}}
    return {
        "name": "trial",
        "data": {"set": str(dataset)},
        "arms": {"small": first, "more": second},
        "seeds": [0, 1],
        "evaluation": {"held": {"dataset": "set", "split": "val", "views": 3, "loss": True}},
        "comparisons": [["small", "more"]],
        **changes,
    }


def study_of(data, folder=Path()):
    return parse_study(data, where="study", folder=folder)


def rows(out):
    return list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))


@pytest.fixture(scope="module")
def straight(dataset, tmp_path_factory):
    """A study that nothing interrupted."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("study") / "out"
    run_study(study_of(content(dataset)), out, device="cpu")
    return out


def report_bytes(out):
    return {name: (out / name).read_bytes() for name in ("results.csv", "table.json", "table.md", "scaling.png")}


@pytest.mark.parametrize("when", [("train more-seed0", 3), ("loss of more-seed0 on held", 2)])
def test_a_study_killed_in_the_middle_resumes_to_the_same_bytes(dataset, straight, tmp_path, when):
    def kill(what, done, total):
        if (what, done) == when:
            os.kill(os.getpid(), signal.SIGKILL)

    study, out = study_of(content(dataset)), tmp_path / "out"
    options = {"device": "cpu", "progress": kill}
    child = multiprocessing.get_context("fork").Process(target=run_study, args=(study, out), kwargs=options)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert not (out / "results.csv").exists()
    made = []
    outcome = run_study(study, out, device="cpu", progress=lambda what, done, total: made.append(what))
    assert outcome.plan.done and not outcome.interrupted
    assert not {name for name in made if "small-seed" in name and "train" in name}  # finished before the kill
    assert report_bytes(out) == report_bytes(straight)


def test_a_signal_ends_the_study_after_the_step_and_the_next_call_goes_on(dataset, straight, tmp_path):
    told = []

    def stop(what, done, total):
        if not told:  # a second signal would interrupt at once
            os.kill(os.getpid(), signal.SIGTERM)
        told.append(what)

    study, out = study_of(content(dataset)), tmp_path / "out"
    outcome = run_study(study, out, device="cpu", progress=stop)
    assert outcome.interrupted and outcome.report == () and {*told} == {"train small-seed0"}
    with pytest.raises(RandsceneError, match="nothing is measured"):
        write_report(StudyFolder(study, out), outcome.plan)
    assert run_study(study, out, device="cpu").plan.done
    assert report_bytes(out) == report_bytes(straight)


def test_the_results_have_one_row_for_each_arm_seed_set_and_metric(straight):
    found = rows(straight)
    assert len({(row["arm"], row["seed"], row["set"], row["metric"]) for row in found}) == len(found) == 2 * 2 * 3
    assert {row["metric"] for row in found} == {"loss/total", "loss/scene", "loss/instance"}
    assert {(row["scenes"], row["steps"], row["sequences"], row["views"]) for row in found} == {("5", "3", "6", "3")}
    table = json.loads((straight / "table.json").read_text())
    cell = next(cell for cell in table["cells"] if (cell["arm"], cell["metric"]) == ("more", "loss/total"))
    values = [float(row["value"]) for row in found if (row["arm"], row["metric"]) == ("more", "loss/total")]
    assert cell["values"] == values and cell["mean"] == pytest.approx(np.mean(values))
    # Student's t with one degree of freedom
    assert cell["high"] - cell["mean"] == pytest.approx(12.7062 * np.std(values, ddof=1) / np.sqrt(2), rel=1e-4)
    [comparison] = table["comparisons"]
    other = [float(row["value"]) for row in found if (row["arm"], row["metric"]) == ("small", "loss/total")]
    assert comparison["seeds"] == 2 and comparison["scenes"] == len({0, 1, 2})
    assert comparison["difference"] == pytest.approx(np.mean(values) - np.mean(other), abs=1e-9)
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    assert "| small | 5 | 2 |" in (straight / "table.md").read_text()
    assert Image.open(straight / "scaling.png").size[0] > 300


def test_the_held_out_loss_is_that_of_its_times_one_by_one(dataset, straight):
    checkpoint = latest_checkpoint(straight / "runs" / "small-seed0")
    settings, model = load_run_settings(checkpoint.parent.parent), load_conditioned_flow(checkpoint)
    source = LatentSource(settings, sha256=read_state(checkpoint).data["encoder"]["sha256"], device="cpu")
    sample = max(open_split(dataset, "val", settings.data.encoder), key=lambda sample: sample.n_instances)
    count = sample.n_instances
    assert count > 1
    latents = torch.from_numpy(source.latents(sample, np.arange(1, count + 1)))
    images = torch.from_numpy(prepare_images(sample, settings.conditioner.image_size))
    totals = []
    for number, time in enumerate(stratified_times(TIMES, mean=T_MEAN, std=T_STD)):
        generator = torch.Generator().manual_seed(seeding.integer(3, sample.key, number, "held-out loss"))
        noise = torch.randn(latents.shape, generator=generator)
        with torch.no_grad():
            loss = grouped_flow_loss(
                model,
                latents[:1],
                latents[1:],
                noise[:1],
                noise[1:],
                time.reshape(1),
                images,
                torch.ones(1, dtype=torch.bool),
                torch.zeros(count, dtype=torch.int64),
                half=False,
            )
        totals.append(loss.total().item())
    found = held_out_loss(checkpoint, dataset, split="val", keys=[sample.key], seed=3, device="cpu")[sample.key]
    assert found["total"] == pytest.approx(np.mean(totals), rel=1e-5)
    assert found["total"] == found["scene"] + found["instance"]


def test_the_held_out_loss_says_in_one_line_what_is_not_there(dataset, straight, tmp_path):
    checkpoint = latest_checkpoint(straight / "runs" / "small-seed0")
    with pytest.raises(DatasetError, match=r"split val of .* has no view 000012_999: a key is scene and view, such as"):
        held_out_loss(checkpoint, dataset, split="val", keys=["000012_999"], device="cpu")
    with pytest.raises(SpecError, match="device foo"):
        held_out_loss(checkpoint, dataset, split="val", keys=[], device="foo")
    with pytest.raises(CheckpointError, match="does not lie in the checkpoints folder of a run"):
        held_out_loss(tmp_path / "step_0000001", dataset, split="val", keys=[], device="cpu")


def test_a_finished_study_does_nothing_and_an_added_arm_or_seed_costs_only_itself(dataset, straight, tmp_path):
    made = []

    def tell(what, done, total):
        made.append(what)

    run_study(study_of(content(dataset)), straight, device="cpu", progress=tell)
    assert made == []
    out = Path(shutil.copytree(straight, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.safetensors")}
    data = content(dataset, seeds=[0, 1, 2])
    data["arms"]["third"] = {"set": TINY, "mixture": {"set": 1}, "scenes": "first:2"}
    run_study(study_of(data), out, device="cpu", progress=tell)
    assert {what.split()[-1] for what in made if "train" in what} == {
        *("small-seed2", "more-seed2", "third-seed0", "third-seed1", "third-seed2")
    }
    assert before == {path: path.stat().st_mtime_ns for path in before}
    new = {(row["arm"], row["seed"]): row for row in rows(out) if row["metric"] == "loss/total"}
    old = {(row["arm"], row["seed"]): row for row in rows(straight) if row["metric"] == "loss/total"}
    assert len(new) == 9 and all(new[key] == row for key, row in old.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data["arms"]["small"]["set"].append("optimiser.lr=0.5"), "arm small .*optimiser.lr differs"),
        (lambda data: data["arms"]["more"]["set"].append("optimiser.steps=9"), "arm more .*optimiser.steps differs"),
        (lambda data: data["arms"]["more"].update(scenes="first:2"), "arm more .*data.scenes differs"),
        (lambda data: data["arms"]["more"].update(init="arm:small"), r"arm more .*\(init differs\)"),
        (lambda data: data["evaluation"]["held"].update(views=2), r"evaluation set held .*\(views differs\)"),
    ],
)
def test_a_changed_arm_or_set_is_refused_with_its_field_named(dataset, straight, change, named):
    data = content(dataset)
    for arm in data["arms"].values():
        arm["set"] = [*arm["set"]]
    change(data)
    before = report_bytes(straight)
    with pytest.raises(CheckpointError, match=named):
        run_study(study_of(data), straight, device="cpu")
    assert report_bytes(straight) == before


def test_a_study_is_read_by_a_version_that_has_more_settings(dataset, straight, tmp_path):
    """One that its study does not know had its default then; another value is another arm."""
    out = Path(shutil.copytree(straight, tmp_path / "out"))
    for path in (out / "arms").iterdir():
        record = json.loads(path.read_text())
        assert record.pop("optimiser.weight_decay") == 0.0 and record.pop("optimiser.betas")
        path.write_text(json.dumps(record))
    assert StudyFolder(study_of(content(dataset)), out).plan().done
    data = content(dataset)
    data["arms"]["small"] |= {"set": [*data["arms"]["small"]["set"], "optimiser.weight_decay=0.1"]}
    with pytest.raises(CheckpointError, match=r"arm small .*weight_decay differs"):
        StudyFolder(study_of(data), out).plan()


def test_other_data_under_the_same_name_and_scores_of_another_checkpoint_are_refused(dataset, straight, tmp_path):
    other = make_dataset(
        tmp_path / "other",
        scenes=5,
        views=2,
        resolution=32,
        latents=True,
        splits=("train", "val"),
        fingerprint="beef" * 16,
    )
    with pytest.raises(CheckpointError, match=r"data\.set\.fingerprint differs"):
        run_study(study_of(content(other)), straight, device="cpu")
    out = Path(shutil.copytree(straight, tmp_path / "out"))
    piece = out / "scores" / "held" / "more-seed1" / "loss.json"
    told = json.loads(piece.read_text())
    piece.write_text(json.dumps({**told, "digest": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"loss\.json was measured of another checkpoint .*: delete"):
        run_study(study_of(content(dataset)), out, device="cpu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty and not a study"):
        run_study(study_of(content(dataset)), tmp_path / "full", device="cpu")


def test_parts_together_are_the_whole_and_the_last_one_writes_the_report(dataset, straight, tmp_path):
    study, out, whole = study_of(content(dataset)), tmp_path / "out", []
    for number in (2, 3, 1):
        made = []
        options = {"part": (number, 3), "device": "cpu"}
        outcome = run_study(study, out, **options, progress=lambda what, *_, made=made: made.append(what))
        trained = {what for what in made if what.startswith("train")}
        assert len(trained) == (2 if number == 1 else 1) and not trained & {*whole}
        whole += trained
        assert bool(outcome.report) == (number == 1) == (out / "results.csv").exists()
    assert report_bytes(out) == report_bytes(straight)


def test_an_arm_goes_to_the_part_of_the_arm_that_it_begins_from_and_after_it(dataset, tmp_path):
    data = content(dataset, seeds=[0, 1, 2])
    root = {"set": TINY, "mixture": {"set": 1}}
    chain = {"last": {**root, "init": "arm:middle"}, "middle": {**root, "init": "arm:root"}}
    data["arms"] = {**chain, "root": root, "other": root}
    del data["comparisons"]
    folder = StudyFolder(study_of(data), tmp_path / "out")
    parts = [[unit.name for unit in folder.plan((number, 2)).mine] for number in (1, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(unit.name for unit in folder.plan().units)
    for mine in parts:
        for seed in range(3):
            order = [f"{name}-seed{seed}" for name in ("root", "middle", "last")]
            assert [name for name in mine if name in order] in ([], order)
    data["arms"]["root"] = {**root, "init": "arm:last"}
    with pytest.raises(SpecError, match=r"arms\.last\.init: last -> middle -> root -> last is a circle"):
        study_of(data)


def test_two_processes_never_work_on_the_same_run(dataset, tmp_path):
    study, out = study_of(content(dataset)), tmp_path / "out"
    folder = StudyFolder(study, out)
    folder.open()
    with (
        exclusive(folder.lock("small-seed0"), busy="mine"),
        pytest.raises(RandsceneError, match="another process works on small-seed0"),
    ):
        run_study(study, out, device="cpu")


def test_a_mixture_reaches_the_trainer_under_its_own_names_of_the_datasets(dataset, tmp_path):
    options = {"scenes": 2, "views": 1, "resolution": 32, "latents": True}
    other = make_dataset(tmp_path / "other", fingerprint="beef" * 16, **options)  # of the same name as the first
    data = content(dataset, seeds=[0], data={"other": str(other), "set": str(dataset)})
    tiny = [*TINY, "optimiser.steps=1"]
    data["arms"] = {"both": {"set": tiny, "mixture": {"other": 3, "set": 1}, "scenes": "first:2"}}
    del data["comparisons"]
    run_study(study_of(data), tmp_path / "out", device="cpu")
    run = tmp_path / "out" / "runs" / "both-seed0"
    assert load_run_settings(run).data.mixture == {"synthetic": 3.0, "synthetic-2": 1.0}
    facts = read_state(latest_checkpoint(run)).data["datasets"]
    assert facts["synthetic"]["fingerprint"] == "beef" * 16 and facts["synthetic"]["samples"] == 2
    assert {row["scenes"] for row in rows(tmp_path / "out")} == {"4"}
    data["arms"]["both"]["mixture"] = {"other": 1, "set": 1}
    with pytest.raises(CheckpointError, match=r"mixture\.other, mixture\.set differs"):
        run_study(study_of(data), tmp_path / "out", device="cpu")


def test_the_page_shows_a_study_that_can_be_read():
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    [block] = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    study = study_of(yaml.safe_load(block), folder=Path("/data/studies"))
    assert [arm.name for arm in study.arms][-1] == "rand-3000" and study.url(
        "rand"
    ) == "/data/studies/../datasets/rand-25k"
    assert {arm_settings(study, arm, seed=1).optimiser.steps for arm in study.arms} == {5000, 20_000}


def test_sizes_are_nested_and_every_run_sees_the_scenes_of_the_smaller_one(dataset, tmp_path):
    data = content(dataset, seeds=[0])
    del data["arms"], data["comparisons"]
    data["sizes"] = {"rand": {"set": TINY, "mixture": {"set": 1}, "scenes": [4, 1, 2]}}
    study = study_of(data)
    assert [arm.name for arm in study.arms] == ["rand-1", "rand-2", "rand-4"]
    seen = [{*open_dataset(dataset, scenes=arm.scenes).keys} for arm in study.arms]
    assert seen[0] < seen[1] < seen[2]
    units = StudyFolder(study, tmp_path / "out").plan().units
    assert [unit.scenes for unit in units] == [1, 2, 4]
    assert [unit.samples for unit in units] == [len(keys) for keys in seen]
    # The subset is what the trainer is told, in its own setting.
    assert [unit.settings.data.scenes for unit in units] == [arm.scenes for arm in study.arms]
    data["sizes"]["rand"]["scenes"] = [4, 99]
    with pytest.raises(DatasetError, match="has 5 scenes, fewer than scenes=first:99"):
        StudyFolder(study_of(data), tmp_path / "out").plan()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arm": {}}, r"study: arm: unknown setting; known are name, data"),
        ({"seeds": [0, 0]}, "study: seeds: give different whole numbers"),
        ({"seeds": ["a"]}, "study: seeds: expected a whole number, not 'a'"),
        ({"data": {"set": 3}}, r"study: data\.set: expected text"),
        ({"arms": []}, "study: arms: expected a mapping"),
        ({"arms": {}}, "study: arms: name at least one, or give sizes"),
        ({"arms": {"a": {"mixture": {"set": 1}, "lr": 1}}}, r"study: arms\.a\.lr: unknown setting"),
        ({"arms": {"a/b": {"mixture": {"set": 1}}}}, r"study: arms: 'a/b' must be letters"),
        ({"arms": {"a": {"mixture": {"set": 0}}}}, r"study: arms\.a\.mixture\.set: must be positive"),
        ({"arms": {"a": {"mixture": {"sett": 1}}}}, r"study: arms\.a\.mixture: there is no dataset sett; data has set"),
        ({"arms": {"a": {"mixture": {"set": 1}, "scenes": "7"}}}, r"arms\.a\.scenes: expected first:N or A:B"),
        ({"arms": {"a": {"mixture": {"set": 1}, "init": "arm:b"}}}, r"arms\.a\.init: there is no arm b"),
        ({"sizes": {"s": {"mixture": {"set": 1}, "scenes": [0]}}}, r"sizes\.s\.scenes: give different"),
        ({"comparisons": [["small", "none"]]}, r"comparisons: \[small, none\] are not two arms"),
        ({"evaluation": {"v": {"dataset": "set"}}}, r"evaluation\.v\.protocols: name at least one"),
        ({"evaluation": {"v": {"dataset": "set", "protocols": ["x"]}}}, r"evaluation\.v\.protocols: unknown protocol"),
    ],
)
def test_a_wrong_study_file_is_one_line_that_names_the_field(dataset, change, named):
    with pytest.raises(SpecError, match=named) as caught:
        study_of(content(dataset, **change))
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_in_the_file_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: s\ndata: {a: x}\narms:\n  one: {mixture: {a: 1}}\n  one: {mixture: {a: 2}}\n")
    with pytest.raises(SpecError, match=r"study\.yaml: one is there twice, near line 4"):
        load_study(path)
    path.write_text("name: [")
    with pytest.raises(SpecError, match="not readable as YAML"):
        load_study(path)
    with pytest.raises(SpecError, match="there is no study file"):
        load_study(tmp_path / "none.yaml")


def test_a_set_that_could_not_be_scored_is_refused_before_anything_is_trained(dataset, tmp_path):
    data = content(dataset)
    for place, message in (
        (f"file://{dataset}", r"evaluation\.more: file://.*: true meshes are read from a folder only"),
        ("set", r"evaluation\.more: .*/scenes/900\d+\.glb is missing: only splits made for evaluation"),
    ):
        data["evaluation"]["more"] = {"dataset": place, "protocols": ["iscene"]}
        with pytest.raises(RandsceneError, match=message):
            run_study(study_of(data), tmp_path / "out", device="cpu")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["run", "dry run"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"init": "runs/gone"}, "arm late: no run or weights at .*/runs/gone"),
        ({"init": "empty"}, "arm late: .*empty holds no weights"),
        ({"init": "gone.safetensors"}, "arm late: gone.safetensors does not exist"),
        ({"set": [*TINY, "data.frame=canonical"]}, "arm late: dataset set is in frame yaw .* the run is in canonical"),
    ],
    ids=["no run", "no weights", "no file", "another frame"],
)
def test_an_arm_that_cannot_begin_is_refused_before_any_other_is_trained(
    dataset, tmp_path, monkeypatch, capsys, how, change, said
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "runs").mkdir()
    data = content(dataset)
    data["arms"]["late"] = {"set": TINY, "mixture": {"set": 1}, **change}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    words = ["randscene", "scaling", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, *(["--dry-run"] if how == "dry run" else [])])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 1 and re.search(said, printed), printed
    assert not (tmp_path / "out").exists()


def test_settings_that_the_study_gives_itself_cannot_be_set(dataset, tmp_path):
    for override in ("seed=3", "name=x", "data.scenes=first:2"):
        data = content(dataset)
        data["arms"]["small"]["set"] = [*TINY, override]
        with pytest.raises(SpecError, match=r"arms\.small\.set: .* is given by"):
            StudyFolder(study_of(data), tmp_path / "out").plan()
    data["arms"]["small"]["set"] = ["optimiser.lr=-1"]
    with pytest.raises(SpecError, match=r"arms\.small: --set: optimiser\.lr: must be positive"):
        StudyFolder(study_of(data), tmp_path / "out").plan()


def test_the_command_plans_without_writing_then_runs_scores_meshes_and_begins_one_arm_from_another(
    tmp_path, monkeypatch, capsys
):
    folder = make_dataset(tmp_path / "set", scenes=2, views=1, resolution=32, splits=("train", "val"), objects=(2, 2))
    for scene in (900_000, 900_001):
        write_atomic(folder / "scenes" / f"{scene:06d}.glb", balls(scene))
    quick = dataclasses.replace(ISCENE, points_per_object=200, registration=None, realigned_objects=False)
    monkeypatch.setitem(PROTOCOLS, "iscene", quick)
    tiny = [*TINY, "data.encoder=mini", "optimiser.steps=1"]
    first = {"set": tiny, "mixture": {"set": 1}}
    held = {"dataset": "set", "split": "all", "protocols": ["iscene"], "loss": True, "pictures": 2}
    held["scenes"] = "2:4"  # those of val come after those of train
    data = content("set", seeds=[0], arms={"first": first, "next": {**first, "init": "arm:first"}})
    data["evaluation"], data["comparisons"] = {"held": held}, [["first", "next"]]
    path = tmp_path / "study.yaml"  # whose own folder is where `set` lies
    path.write_text(yaml.safe_dump(data))

    def command(*options):
        monkeypatch.setattr(sys, "argv", ["randscene", "scaling", str(path), "--out", str(tmp_path / "out"), *options])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    code, said = command("--dry-run")
    assert not code and not (tmp_path / "out").exists()
    assert "left to do: 2 steps, 4 sequences; 8 views to measure" in said.out
    code, said = command("--device", "cpu", "--workers", "1")
    assert not code, said.err
    found = {(row["arm"], row["metric"]): float(row["value"]) for row in rows(tmp_path / "out") if row["value"]}
    assert 0 <= found["first", "iscene/voxel_iou"] <= 1 and found["next", "iscene/scene_cd_squared"] > 0
    assert not any("seconds" in metric for _, metric in found)
    with Image.open(tmp_path / "out" / "pictures-held.png") as sheet:
        assert sheet.width // 165 == 4 and sheet.height // 165 == 2, "two rows of image, truth and two arms"
    runs = tmp_path / "out" / "runs"
    assert "first-seed0/checkpoints/step_0000001" in load_run_settings(runs / "next-seed0").init
    code, said = command("--dry-run")
    assert not code and "left to do: 0 steps, 0 sequences; 0 views to measure" in said.out
    # The folder is the study, wherever it lies.
    (tmp_path / "out").rename(tmp_path / "moved")
    again = run_study(load_study(path), tmp_path / "moved", device="cpu", workers=1)
    assert again.plan.done


def test_an_arm_in_canonical_space_is_scored_on_the_same_views_and_only_its_loss_is_left_out(tmp_path, monkeypatch):
    shape = {"scenes": 1, "views": 1, "resolution": 32, "objects": (2, 2)}
    evaluated = make_dataset(tmp_path / "set", splits=("train", "val"), **shape)
    canonical = make_dataset(tmp_path / "canonical", frame="canonical", fingerprint="cafe" * 16, **shape)
    info = json.loads((evaluated / "dataset.json").read_text())
    del info["spec"]["frame"]  # as imported datasets are, whose samples alone tell their frame
    write_atomic(evaluated / "dataset.json", json.dumps(info))
    write_atomic(evaluated / "scenes" / "900000.glb", balls(900_000))
    quick = dataclasses.replace(ISCENE, points_per_object=200, registration=None, realigned_objects=False)
    monkeypatch.setitem(PROTOCOLS, "iscene", quick)
    tiny = [*TINY, "data.encoder=mini", "optimiser.steps=1"]
    study = study_of(
        {
            "name": "frames",
            "data": {"set": str(evaluated), "canonical": str(canonical)},
            "arms": {
                "view": {"set": tiny, "mixture": {"set": 1}},
                "canonical": {"set": [*tiny, "data.frame=canonical"], "mixture": {"canonical": 1}},
            },
            "seeds": [0],
            "evaluation": {"held": {"dataset": "set", "protocols": ["iscene"], "loss": True}},
            "comparisons": [["canonical", "view"]],
        }
    )
    full = np.full((64, 64, 64), -4.0, np.float32)
    full[20:44, 20:44, 20:44] = 4.0
    monkeypatch.setattr(
        Predictor, "logits", lambda self, views: [np.stack([full] * view.image.n_instances) for view in views]
    )
    assert run_study(study, tmp_path / "out", device="cpu", workers=1).plan.done
    found = {(row["arm"], row["metric"]): row["value"] for row in rows(tmp_path / "out")}
    assert float(found["view", "iscene/scene_f_score"]) > 0 and float(found["canonical", "iscene/scene_f_score"]) > 0
    assert ("view", "loss/total") in found and ("canonical", "loss/total") not in found
    assert "canonical" in (tmp_path / "out" / "table.md").read_text()


def balls(scene):
    """True meshes of a synthetic scene whose boxes are those that its frame was made for."""
    solids = solids_of(scene, (2, 2))
    meshes = []
    for solid in solids:
        ball = trimesh.creation.icosphere(subdivisions=3, radius=max(solid.radius, solid.half))
        meshes.append((np.asarray(ball.vertices) + solid.centre, np.asarray(ball.faces)))
    return scene_glb(meshes)


SIZES = (100, 300, 1000, 3000, 10_000)


def noisy(law, noise, *, seeds=3, scenes=40, sizes=SIZES, seed=0):
    """Values of runs: a spread between seeds, and one between scenes that all runs share."""
    rng = seeding.generator(seed, "noisy")
    hardness = rng.normal(0, 0.05, scenes)
    spread = rng.normal(0, noise, (len(sizes), seeds, 1))
    return [law(np.array([n]))[0] + spread[i] + hardness - hardness.mean() for i, n in enumerate(sizes)]


@pytest.mark.parametrize("law", [PowerLaw(a=0.2, b=3.0, c=0.4), PowerLaw(a=0.7, b=-2.0, c=0.5)])
def test_a_known_power_law_is_found(law):
    exact = power_law(SIZES, law(SIZES))
    np.testing.assert_allclose([exact.a, exact.b, exact.c], [law.a, law.b, law.c], rtol=1e-4)
    fit = fit_power_law(SIZES, noisy(law, 2e-3, seed=1), seeding.generator(0))
    assert fit.undetermined == "" and fit.note == ""
    for name in ("a", "b", "c"):
        interval = getattr(fit, name)
        assert interval.contains(getattr(law, name)), (name, interval)
    assert fit.c.high - fit.c.low < 0.2


def test_the_bounds_hold():
    steep = power_law(SIZES, [3 * n**-0.3 - 0.05 for n in SIZES])
    assert steep.a == pytest.approx(0, abs=1e-6)
    share = power_law(SIZES, [1.05 - 3 * n**-0.4 for n in SIZES], ceiling=1.0)
    assert share.a == pytest.approx(1, abs=1e-6)


def test_a_fit_says_when_the_data_do_not_determine_it():
    law = PowerLaw(a=0.2, b=3.0, c=0.4)
    few = fit_power_law(SIZES[:3], noisy(law, 1e-3)[:3], seeding.generator(0))
    assert few.law is None and few.undetermined == "3 sizes; 4 are needed"
    flat = fit_power_law(SIZES, noisy(PowerLaw(a=0.5, b=0.0, c=1.0), 0.02, seed=1), seeding.generator(0))
    assert "no trend" in flat.undetermined
    line = fit_power_law(SIZES, noisy(lambda n: 1.0 - 0.06 * np.log(n), 0.02, seed=1), seeding.generator(0))
    assert line.undetermined == "the interval of c holds 0" and line.c.contains(0)
    single = fit_power_law(SIZES, noisy(law, 1e-3, seeds=1, scenes=1), seeding.generator(0))
    assert "tell no spread" in single.undetermined
    one_seed = fit_power_law(SIZES, noisy(law, 1e-3, seeds=1), seeding.generator(0))
    assert not one_seed.undetermined and "one seed" in one_seed.note


def test_the_interval_of_a_law_covers_the_truth_about_as_often_as_it_says():
    law = PowerLaw(a=0.2, b=3.0, c=0.4)
    hits = [
        fit_power_law(SIZES, noisy(law, 0.01, seed=trial), seeding.generator(trial)).c.contains(law.c)
        for trial in range(12)
    ]
    assert np.mean(hits) >= 0.8


def test_pairs_see_a_difference_that_means_do_not():
    rng = seeding.generator(1)
    hard = rng.normal(0, 1.0, 60)
    first = np.stack([hard + rng.normal(0, 0.02, 60) for _ in range(3)])
    second = first + 0.1 + rng.normal(0, 0.02, (3, 60))
    found = paired_difference(first, second, seeding.generator(0))
    assert found.value == pytest.approx(0.1, abs=0.01) and 0.08 < found.low < found.high < 0.12
    means = over_seeds([row.mean() for row in first])
    assert means.contains(float(second.mean())) or abs(second.mean() - first.mean()) < hard.std() / np.sqrt(60)
    assert over_seeds([1.0]).low is None
    assert paired_difference(np.ones((1, 1)), np.zeros((1, 1)), rng).low is None


def test_a_scene_counts_as_often_as_it_has_views():
    law, views = PowerLaw(a=0.2, b=3.0, c=0.4), np.array([1, 3])
    values = [np.array([[law(np.array([n]))[0] - 0.3, law(np.array([n]))[0] + 0.1]]) for n in SIZES]
    fit = fit_power_law(SIZES, values, seeding.generator(0), views=views)
    np.testing.assert_allclose([fit.law.a, fit.law.b, fit.law.c], [law.a, law.b, law.c], rtol=1e-3)
    difference = paired_difference(np.zeros((1, 2)), np.array([[1.0, 2.0]]), seeding.generator(0), views=views)
    assert difference.value == pytest.approx(7 / 4)
