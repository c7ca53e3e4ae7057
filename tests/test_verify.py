"""randscene verify: every check fires on a scene made for it, and on none that is sound; folders that are not whole are
named; the report is the same on any number of workers."""

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import trimesh
from layout_fixtures import body, box, make_asset, moved, pose, recipe, square
from PIL import Image

from randscene.cli.main import main
from randscene.errors import DatasetError, LockError, RandsceneError
from randscene.generator import LayoutReport, verify
from randscene.generator.layout_plots import draw_layouts
from randscene.generator.layout_report import Offender, describe, write_report
from randscene.generator.plan_folder import open_layouts, write_plan
from randscene.generator.scene_check import CHECKS, check_scene
from randscene.manifests import load_lock, load_spec, lock_hash, with_overrides, write_lock
from randscene.manifests.spec_sections import VerifySpec

HOLE = ((-0.05, -0.05), (0.05, -0.05), (0.05, 0.05), (-0.05, 0.05))


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handmade")
    table = moved(box(1, 1, 0.5), 0, 0, 0.25)
    made = {
        "ball": make_asset(folder, "ball", moved(trimesh.creation.icosphere(radius=0.5), 0, 0, 0.5)),
        "cube": make_asset(folder, "cube", moved(box(1, 1, 1), 0, 0, 0.5)),
        "holed": make_asset(folder, "holed", table, square(0.5, 0.5, holes=(HOLE,))),
        "table": make_asset(folder, "table", table, square(0.5, 0.5)),
    }
    return made


@pytest.fixture
def lock_of_assets(assets):
    return sorted(assets.values(), key=lambda record: record.uid)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, stdout, lines on stderr)."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["randscene", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err.strip().splitlines()

    return call


def counts(report: LayoutReport) -> dict[str, int]:
    return {check: count for check, count in report.violations.items() if count}


def only(report: LayoutReport, check: str):
    assert counts(report) == {check: 1}
    (violation,) = report.worst[check]
    assert report.worst_violation == violation and not report.ok
    return violation


def on_table(assets, scale: float = 0.3, x: float = 0.2, z: float = 0.5, thing: str = "cube", table: str = "table"):
    return recipe((assets[table], pose(yaw=0.3), None), (assets[thing], pose(x, 0.1, z, scale=scale), 1))


def test_sound_scenes_have_no_violation(assets, lock_of_assets):
    scenes = [
        recipe((assets["cube"], pose(), None), (assets["ball"], pose(2), None)),
        on_table(assets),
        on_table(assets, thing="ball"),
        recipe(  # two layers
            (assets["table"], pose(scale=2), None),
            (assets["table"], pose(0.1, 0, 1, scale=0.5, yaw=1), 1),
            (assets["cube"], pose(0.1, 0, 1.25, scale=0.1), 2),
        ),
    ]
    report = verify([dataclasses.replace(item, scene=n) for n, item in enumerate(scenes)], lock_of_assets)
    assert counts(report) == {} and report.ok and report.worst_violation is None
    assert report.scenes == 4
    assert report.checked == {
        "penetration": 1 + 1 + 1 + 3,
        "floating": 9,
        "sunk": 5,
        "overhang": 4,
        "disc_distance": 1,
        "disc_cover": 5,
    }
    assert report.statistics.layers == {0: 5, 1: 3, 2: 1}


def test_two_meshes_inside_one_another_are_a_violation_with_its_depth(assets, lock_of_assets):
    scene = recipe((assets["cube"], pose(scale=2), None), (assets["cube"], pose(1.5 - 2e-3, 0, 0), None))
    scene = dataclasses.replace(scene, layout=dataclasses.replace(scene.layout, centres=((0.0, 0.0), (9.0, 9.0))))
    report = verify([scene], lock_of_assets)
    (found,) = report.worst["penetration"]
    assert found.instances == (1, 2) and found.uids == ("cube", "cube")
    assert found.tolerance == pytest.approx(1e-3)  # of the smaller object
    assert found.value == pytest.approx(2e-3, rel=0.03)
    assert verify([scene], lock_of_assets, tolerances=VerifySpec(penetration=2.5e-3)).violations["penetration"] == 0


def test_an_object_two_tolerances_above_the_ground_floats(assets, lock_of_assets):
    found = only(verify([recipe((assets["ball"], pose(0, 0, 4e-3, scale=2), None))], lock_of_assets), "floating")
    assert found.value == pytest.approx(4e-3, rel=1e-3) and found.tolerance == pytest.approx(2e-3, rel=1e-3)
    assert "floats 0.004 m above the ground, 2 times" in describe(found)
    assert verify([recipe((assets["ball"], pose(0, 0, 1e-3, scale=2), None))], lock_of_assets).ok


def test_an_object_two_tolerances_below_the_ground_is_sunk(assets, lock_of_assets):
    found = only(verify([recipe((assets["ball"], pose(0, 0, -4e-3, scale=2), None))], lock_of_assets), "sunk")
    assert found.value == pytest.approx(4e-3, rel=1e-3) and found.instances == (1,)


def test_a_stacked_object_that_floats_is_told_from_one_that_stands(assets, lock_of_assets):
    found = only(verify([on_table(assets, z=0.5 + 0.6e-3)], lock_of_assets), "floating")
    assert found.instances == (2, 1) and found.value == pytest.approx(0.6e-3, rel=0.02)


def test_a_stacked_object_beside_its_table_floats_over_nothing_and_overhangs(assets, lock_of_assets):
    report = verify([on_table(assets, x=3)], lock_of_assets)
    assert counts(report) == {"floating": 1, "overhang": 1}
    assert "instance 2 (cube) has nothing of instance 1 (table) below it" in describe(report.worst["floating"][0])


def test_a_stacked_object_that_is_sunk_penetrates(assets, lock_of_assets):
    found = only(verify([on_table(assets, z=0.5 - 0.9e-3)], lock_of_assets), "penetration")
    assert found.value == pytest.approx(0.9e-3, rel=0.03)


def test_an_outline_that_leaves_the_polygon_is_a_violation(assets, lock_of_assets):
    scene = recipe((assets["table"], pose(), None), (assets["cube"], pose(0.35 + 1e-6, 0, 0.5, scale=0.3), 1))
    found = only(verify([scene], lock_of_assets), "overhang")
    assert found.value == pytest.approx(1e-6, rel=1e-2) and found.tolerance == pytest.approx(0.3e-6)


def test_an_outline_over_a_hole_of_the_polygon_is_a_violation(assets, lock_of_assets):
    assert verify([on_table(assets, x=0.28, table="holed")], lock_of_assets).ok
    only(verify([on_table(assets, x=0.1, table="holed")], lock_of_assets), "overhang")


def test_discs_that_are_too_near_or_too_small_are_violations(assets, lock_of_assets):
    scene = recipe((assets["ball"], pose(), None), (assets["ball"], pose(1.5), None), gap=0.1)
    found = only(verify([scene], lock_of_assets), "disc_distance")
    assert found.value == pytest.approx(2 * 0.7071 + 0.1 - 1.5, rel=1e-3)
    scene = recipe((assets["cube"], pose(), None))
    small = dataclasses.replace(scene.layout, radii=(0.7,))
    found = only(verify([dataclasses.replace(scene, layout=small)], lock_of_assets), "disc_cover")
    assert found.value == pytest.approx(2**0.5 / 2 - 0.7, rel=1e-4)


def test_the_worst_violation_of_all_comes_first(assets, lock_of_assets):
    scenes = [recipe((assets["ball"], pose(0, 0, z), None), scene=n) for n, z in enumerate((2e-3, 9e-3, 0.0, 4e-3))]
    report = verify(scenes, lock_of_assets)
    assert [item.scene for item in report.worst["floating"]] == [1, 3, 0]
    assert report.violating_scenes["floating"] == 3
    assert [item.scene for item in report.drawn] == [1, 3, 0, 2]
    assert report.offenders == (Offender(check="floating", uid="ball", file="ball.glb", violations=3),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": "unknown"}, "scene 7, instance 2: asset unknown is not in the asset lock"),
        ({"sha256": "0" * 64}, "asset cube has another sha256"),
        ({"support_parent": 2}, "instance 2: stands on 2"),
        ({"support_parent": 9}, "instance 2: stands on 9"),
        ({"pose": ((1.0, 0.0, 0.0, 0.0),) * 4}, "instance 2: the pose is not a rotation"),
    ],
)
def test_a_recipe_that_fits_no_lock_or_is_no_scene_is_one_clear_error(assets, lock_of_assets, change, words):
    scene = dataclasses.replace(on_table(assets), scene=7)
    bad = dataclasses.replace(scene.instances[1], **change)
    with pytest.raises(DatasetError, match=words):
        verify([dataclasses.replace(scene, instances=(scene.instances[0], bad))], lock_of_assets)


@pytest.mark.parametrize(
    "change",
    [
        {"disc_instances": (1, 9)},
        {"disc_instances": (0, 1)},
        {"disc_instances": (1, 1)},
        {"radii": (0.5,)},
        {"radii": (0.5, 0.0)},
        {"radii": (math.nan, math.nan)},
        {"gap": math.nan},
        {"region": 0.0},
        {"centres": ((0.0, 0.0), (math.inf, 0.0))},
    ],
)
def test_discs_that_could_not_be_checked_do_not_pass(assets, lock_of_assets, change):
    scene = recipe((assets["cube"], pose(), None), (assets["ball"], pose(2), None), scene=7)
    assert verify([scene], lock_of_assets).ok
    with pytest.raises(DatasetError, match="scene 7: its layout is not one of its instances"):
        verify([dataclasses.replace(scene, layout=dataclasses.replace(scene.layout, **change))], lock_of_assets)
    with pytest.raises(DatasetError, match="scene 7: its layout"):
        verify([dataclasses.replace(scene, instances=())], lock_of_assets)


def test_an_upright_panel_without_thickness_is_drawn_as_a_line(assets):
    panel = body(trimesh.Trimesh([[-1, 0, 0], [1, 0, 0], [0, 0, 1]], [[0, 1, 2]], process=False))
    scene = recipe((assets["cube"], pose(), None))
    records = {"cube": assets["cube"]}
    (item,) = check_scene(scene, records, lambda _: panel, VerifySpec(), outlines=True).instances
    assert sorted(item.outline) == [(-1.0, 0.0), (1.0, 0.0)]


def test_the_picture_of_one_layout_is_blank_beside_it(assets, lock_of_assets):
    report = verify([recipe((assets["cube"], pose(), None))], lock_of_assets)
    picture = np.array(Image.open(io.BytesIO(draw_layouts(report))).convert("L"))
    height, width = picture.shape
    below_the_title = picture[height // 4 :]
    assert below_the_title[:, : width // 4].min() < 100 and below_the_title[:, width // 4 + 10 :].min() == 255


def test_a_carrier_without_a_supporting_polygon_is_named(assets, lock_of_assets):
    scene = recipe((assets["cube"], pose(), None), (assets["ball"], pose(0, 0, 1, scale=0.2), 1))
    with pytest.raises(DatasetError, match="stands on instance 1, to which the asset lock gives no supporting polygon"):
        verify([scene], lock_of_assets)


def test_nothing_to_check_and_a_scene_twice_are_refused(assets, lock_of_assets):
    with pytest.raises(DatasetError, match="no recipes"):
        verify([], lock_of_assets)
    with pytest.raises(DatasetError, match="scene 0 appears twice"):
        verify([on_table(assets), on_table(assets)], lock_of_assets)
    with pytest.raises(RandsceneError, match="workers must be at least 1"):
        verify([on_table(assets)], lock_of_assets, workers=0)


def test_an_asset_file_that_changed_or_is_gone_is_named(assets, lock_of_assets, tmp_path):
    for record, words in ((make_asset(tmp_path, "cube", box(1, 1, 2)), "has changed"), (None, "is missing")):
        locator = record.locator if record else str(tmp_path / "gone.glb")
        lock = [dataclasses.replace(item, locator=locator) if item.uid == "cube" else item for item in lock_of_assets]
        with pytest.raises(LockError, match=f"asset cube: .*{words}"):
            verify([on_table(assets)], lock)


def test_the_report_is_the_same_on_any_number_of_workers_and_has_its_schema(assets, lock_of_assets, tmp_path):
    rng = np.random.default_rng(3)
    places = zip(rng.uniform(0, 0.5, 70).tolist(), rng.uniform(0.499, 0.501, 70).tolist())
    scenes = [dataclasses.replace(on_table(assets, x=x, z=z), scene=n) for n, (x, z) in enumerate(places)]
    lines = [scene.to_json() for scene in scenes]
    seen = []
    one = verify(scenes, lock_of_assets, progress=seen.append)
    two = verify(iter(lines), lock_of_assets, workers=2)
    assert seen == list(range(1, 71))
    first, second = one.data(), two.data()
    assert first.pop("seconds") >= 0 and second.pop("seconds") >= 0
    assert json.dumps(first) == json.dumps(second) and one.markdown() == two.markdown()
    assert counts(one).keys() == {"penetration", "floating", "overhang"}

    paths = write_report(one, tmp_path)
    assert [path.name for path in paths] == ["report.json", "report.md", "histograms.png", "layouts.png"]
    data = json.loads(paths[0].read_text())
    assert data.keys() == {
        "schema", "ok", "scenes", "tolerances", "checks", "offenders", "statistics", "failures", "notes", "seconds"
    }  # fmt: skip
    assert data["schema"] == 1 and data["ok"] is False and data["scenes"] == 70
    assert data["tolerances"] == {"penetration": 1e-3, "contact": 1e-3, "overhang": 1e-6}
    assert list(data["checks"]) == sorted(CHECKS)
    entry = data["checks"]["floating"]
    assert entry.keys() == {"meaning", "checked", "violations", "scenes", "worst"}
    assert entry["worst"][0].keys() == {"scene", "instances", "uids", "value_m", "tolerance_m", "ratio"}
    assert data["statistics"]["quantities"]["objects"] == {
        "unit": "a scene", "count": 70, "mean": 2.0, "min": 2.0, "max": 2.0, "p1": 2.0, "p50": 2.0, "p99": 2.0
    }  # fmt: skip
    assert data["statistics"]["sampler"] == {
        "tries": 490, "expansions": 70, "scenes_with_expansions": 70, "scenes_planned_again": 0
    }  # fmt: skip
    for path in paths[2:]:
        assert path.read_bytes().startswith(b"\x89PNG")
    write_report(two, tmp_path / "again")
    for path in paths[2:]:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_broken_recipe_is_named_by_its_place_also_from_a_worker(assets, lock_of_assets):
    lines = [on_table(assets).to_json(), '{"version": 3, "scene": 1}', '{"version": 99}']
    with pytest.raises(DatasetError, match="recipe 2: not a scene recipe"):
        verify(lines, lock_of_assets)
    with pytest.raises(DatasetError, match="recipe 2: recipe version 99"):
        verify([lines[0], lines[2]], lock_of_assets, workers=2)


# Folders


@pytest.fixture(scope="module")
def planned(lock, tmp_path_factory):
    """40 scenes of the demo preset on procedural assets."""
    folder = tmp_path_factory.mktemp("plan")
    spec = with_overrides(load_spec("demo"), ["splits.train.scenes=40", "splits.val.scenes=0", "cameras.views=2"])
    write_plan(spec, lock, folder)
    return folder


@pytest.fixture
def folder(planned, tmp_path):
    """A copy of the plan that a test may spoil."""
    for name in ("recipes.jsonl", "assets.lock.jsonl", "plan.json"):
        (tmp_path / name).write_bytes((planned / name).read_bytes())
    return tmp_path


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "recipes.jsonl").read_text().splitlines()]


def test_a_plan_on_procedural_assets_passes_and_a_moved_object_fails(run, folder):
    code, out, errors = run("verify", folder, "--workers", 1)
    assert code == 0 and not errors, errors
    report = json.loads((folder / "verify" / "report.json").read_text())
    assert report["ok"] and report["scenes"] == 40 and not report["notes"]
    assert report["statistics"]["instances_by_layer"]["1"] > 0
    assert "within tolerance in 40 scenes" in out
    facts = [line["layout"] for line in lines_of(folder)]
    plan = json.loads((folder / "plan.json").read_text())
    for name in ("tries", "expansions"):
        total = sum(item[name] for item in facts)
        assert report["statistics"]["sampler"][name] == plan["statistics"][name] == total

    recipes = lines_of(folder)
    recipes[5]["instances"][0]["pose"][2][3] += 0.05
    (folder / "recipes.jsonl").write_text("".join(json.dumps(item) + "\n" for item in recipes))
    code, out, errors = run("verify", folder, "--workers", 1)
    assert code == 1 and len(errors) == 1
    assert "scene 5" in errors[0] and "report.md" in errors[0]
    assert "recipes.jsonl is not as it was planned" in out


def test_tolerances_come_from_the_spec_of_the_folder_and_can_be_replaced(run, folder):
    recipes = lines_of(folder)
    for item in recipes:
        for instance in item["instances"]:
            instance["pose"][2][3] += 1e-3  # every size is at least 0.1 m, so this is within a hundredth
    (folder / "recipes.jsonl").write_text("".join(json.dumps(item) + "\n" for item in recipes))
    layouts = open_layouts(folder)
    report = verify(layouts.recipes(), layouts.records, tolerances=layouts.spec.verify)
    assert counts(report).keys() == {"floating"}
    other = ["--scenes", 9, "--out", folder / "other", "--set", "verify.contact=0.01"]
    assert run("verify", folder, "--workers", 1, *other)[0] == 0
    assert json.loads((folder / "other" / "report.json").read_text())["scenes"] == 9
    assert not (folder / "verify").exists()
    plan = json.loads((folder / "plan.json").read_text())
    plan["spec"]["verify"]["contact"] = 0.01
    (folder / "plan.json").write_text(json.dumps(plan))
    layouts = open_layouts(folder)
    assert verify(layouts.recipes(), layouts.records, tolerances=layouts.spec.verify).ok


def test_a_dataset_folder_is_read_too_with_its_failures(run, folder):
    plan = json.loads((folder / "plan.json").read_text())
    info = {key: plan[key] for key in ("spec", "name", "lock_sha256")}
    info |= {"fingerprint": "0" * 64, "complete": True, "splits": {"train": {"scenes": 40}}}
    (folder / "plan.json").rename(folder / "dataset.json")
    (folder / "dataset.json").write_text(json.dumps(info))
    rest = {"scene": 3, "attempt": 0, "stage": "make", "message": "", "transient": False}
    failures = [{**rest, "reason": reason} for reason in ("no_layout", "timeout", "no_layout")]
    cut = '{"scene": 3, "rea'  # by a kill
    (folder / "failures.jsonl").write_text("".join(json.dumps(item) + "\n" for item in failures) + cut)
    assert run("verify", folder, "--workers", 1, "--scenes", 3)[0] == 0
    report = json.loads((folder / "verify" / "report.json").read_text())
    assert report["failures"] == {"no_layout": 2, "timeout": 1}
    (folder / "recipes.jsonl").unlink()
    code, _, errors = run("verify", folder)
    assert code == 1 and "finish that first" in errors[0]


def test_folders_that_are_not_whole_are_named_in_one_line(run, folder, tmp_path):
    def fails(*words: str) -> None:
        code, _, errors = run("verify", folder, "--workers", 1)
        assert code == 1 and len(errors) == 1, errors
        assert errors[0].startswith("error: ") and all(word in errors[0] for word in words), errors[0]
        assert not (folder / "verify").exists()

    recipes, lock = (folder / "recipes.jsonl").read_bytes(), (folder / "assets.lock.jsonl").read_bytes()
    plan = (folder / "plan.json").read_bytes()
    (folder / "recipes.jsonl").write_bytes(recipes[:-100])
    fails("recipes.jsonl, line 40", "ends within a recipe")
    (folder / "recipes.jsonl").write_bytes(b"".join(recipes.splitlines(keepends=True)[:-1]))
    fails("holds 39 recipes, not the 40")
    (folder / "recipes.jsonl").write_bytes(recipes.replace(b'"version":3', b'"version":2'))
    fails("recipe 1: recipe version 2 is not 3")
    (folder / "recipes.jsonl").write_bytes(b"\xff\xfe\n" + recipes)
    fails("line 1", "not UTF-8")
    (folder / "recipes.jsonl").unlink()
    fails("holds no recipes.jsonl", "randscene plan")
    (folder / "recipes.jsonl").write_bytes(recipes)
    (folder / "assets.lock.jsonl").write_bytes(b"".join(lock.splitlines(keepends=True)[:-1]))
    fails("assets.lock.jsonl is not the lock")
    (folder / "assets.lock.jsonl").unlink()
    fails("holds no assets.lock.jsonl")
    (folder / "assets.lock.jsonl").write_bytes(lock)
    (folder / "plan.json").write_bytes(plan[:50])
    fails("plan.json", "not readable as JSON")
    (folder / "plan.json").write_bytes(b'{"spec": {}}')
    fails("plan.json")
    (folder / "plan.json").unlink()
    fails("no plan.json and no dataset.json")


def test_a_plan_folder_is_whole_and_can_be_moved(planned, lock, tmp_path):
    moved_to = tmp_path / "elsewhere"
    moved_to.mkdir()
    for path in planned.iterdir():
        if path.is_file():
            (moved_to / path.name).write_bytes(path.read_bytes())
    layouts = open_layouts(moved_to)
    assert layouts.scenes == len(list(layouts.recipes())) == 40
    assert [Path(record.locator).is_file() for record in layouts.records] == [True] * len(lock)
    assert layouts.spec.name == "demo" and not layouts.notes


def test_planning_again_changes_nothing_and_another_plan_is_refused(planned, lock, folder):
    spec = open_layouts(folder).spec
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_plan(with_overrides(spec, ["verify.contact=0.5"]), lock, folder)  # tolerances decide nothing
    write_plan(spec, lock, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for other, records, difference in (
        (with_overrides(spec, ["layout.gap=[0, 9]"]), lock, r"layout\.gap is .* there, \[0\.0, 9\.0\] here"),
        (spec, lock[:-1], "its asset lock is another"),
    ):
        with pytest.raises(DatasetError, match=rf"holds another plan \({difference}\)"):
            write_plan(other, records, folder)
    # Nor if the description is gone, by the lock's and the recipes' own content.
    (folder / "plan.json").unlink()
    for other, records in ((with_overrides(spec, ["seed=1"]), lock), (spec, lock[:-1])):
        with pytest.raises(DatasetError, match="holds another plan"):
            write_plan(other, records, folder)
    assert {path.name for path in folder.iterdir()} == {"recipes.jsonl", "assets.lock.jsonl"}
    write_plan(spec, lock, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match="holds a dataset"):
        write_plan(spec, lock, folder)


def test_a_layout_that_does_not_fit_is_planned_again_and_counted(lock, tmp_path):
    tight = ["splits.train.scenes=30", "splits.val.scenes=0", "cameras.views=1", "layout.objects=[6, 6]", "attempts=20"]
    tight += ["layout.density=0.6", "layout.max_expansions=1", "layout.table_probability=0"]
    spec = with_overrides(load_spec("demo"), tight)
    failures = write_plan(spec, lock, tmp_path)["failures"]
    again = [line["attempt"] for line in lines_of(tmp_path)]
    assert failures == {"no_layout": sum(again)} and sum(again) > 0
    layouts = open_layouts(tmp_path)
    report = verify(layouts.recipes(), layouts.records, failures=layouts.failures)
    assert report.data()["failures"] == failures
    assert report.data()["statistics"]["sampler"]["scenes_planned_again"] == sum(attempt > 0 for attempt in again)


@pytest.mark.parametrize("early", [0.1, 2.0], ids=["while the workers start", "while they work"])
def test_ctrl_c_leaves_no_report_and_no_process(assets, tmp_path, early):
    text = on_table(assets).to_json()
    write_lock(tmp_path / "assets.lock.jsonl", assets.values())
    with open(tmp_path / "recipes.jsonl", "w") as handle:
        for number in range(20000):
            handle.write(text.replace('"scene":0', f'"scene":{number}') + "\n")
    content = {"spec": load_spec("demo").model_dump(mode="json"), "splits": {}, "scenes": 20000, "failures": {}}
    content |= {"lock_sha256": lock_hash(load_lock(tmp_path / "assets.lock.jsonl")), "recipes_sha256": ""}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "randscene.cli.main", "verify", str(tmp_path), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    while len(psutil.Process(process.pid).children()) < 3:  # two workers, and one that watches over what they share
        time.sleep(0.02)
    time.sleep(early)
    os.killpg(process.pid, signal.SIGINT)
    out = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, out
    assert "stopped: no report was written" in out and "Traceback" not in out
    assert not (tmp_path / "verify").exists()
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.killpg(process.pid, 0)
            time.sleep(0.02)
