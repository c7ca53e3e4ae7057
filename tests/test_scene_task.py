"""One attempt at one scene, from files to files: whatever goes wrong has a name, and the next scene is served."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from mesh_fixtures import box_draft

from randscene.generator.dataset_folder import DatasetFolder
from randscene.generator.scene_maker import SceneFailedError, SceneMaker
from randscene.generator.scene_task import SceneActor, SceneOutcome
from randscene.manifests import AssetRecord, load_asset_mesh, load_spec, with_overrides

SMALL = [
    *("splits.train.scenes=30", "cameras.views=2", "layout.objects=[2, 2]", "latents.encoder=null"),
    *("assets.held_out_fraction=0", "splits.val.held_out_assets=false", "render.resolution=64"),
]


def odd(record: AssetRecord, folder: Path) -> AssetRecord:
    """The record of a file that inspection accepts and that Blender's importer stumbles over."""
    draft = box_draft(material=0)
    draft.header["materials"] = [{"name": record.uid, "extensions": {"KHR_materials_ior": {"ior": "much"}}}]
    path = draft.save(folder / f"{record.uid}.glb")
    load_asset_mesh(path)
    return replace(record, locator=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def samples_of(outcome: SceneOutcome) -> int:
    return outcome.staged.samples if outcome.staged is not None else 0


@pytest.mark.blender
def test_an_asset_that_blender_cannot_import_fails_its_scene_alone(lock, tmp_path):
    records = [odd(record, tmp_path) if i % 3 == 0 else record for i, record in enumerate(lock)]
    spec = with_overrides(load_spec("demo"), [*SMALL, "render.engine=cycles", "render.samples=1"])
    actor = SceneActor(spec, records, str(tmp_path / "dataset"), "f" * 64)
    outcomes = [actor.make(scene, 0) for scene in range(8)]
    failed = [outcome for outcome in outcomes if outcome.reason not in ("", "no_valid_view")]
    assert 0 < len(failed) < len(outcomes)
    for outcome in failed:
        assert (outcome.reason, outcome.stage) == ("import_failed", "render")
        assert not outcome.fatal and not outcome.transient and "expected a float" in outcome.message
    for outcome in outcomes:
        assert (tmp_path / "dataset" / DatasetFolder.done_name(outcome.scene)).exists() == (outcome.reason == "")
    assert any(outcome.reason == "" for outcome in outcomes[outcomes.index(failed[0]) :])


@pytest.mark.blender
def test_a_scene_over_the_memory_limit_is_planned_anew_and_one_over_its_time_is_tried_again(lock, tmp_path):
    base = [*SMALL, "render.engine=cycles", "render.samples=4000", "render.resolution=512", "layout.objects=[2, 3]"]
    cases = {"memory_limit_gib=0.01": ("memory_limit", False), "scene_timeout_s=2": ("timeout", True)}
    for limit, (reason, transient) in cases.items():
        spec = with_overrides(load_spec("demo"), [*base, f"render.{limit}"])
        outcome = SceneActor(spec, lock, str(tmp_path / "dataset"), "f" * 64).make(0, 0)
        assert (outcome.reason, outcome.stage) == (reason, "render")
        assert outcome.transient == transient and not outcome.fatal


def test_a_scene_that_fails_half_way_leaves_nothing_and_can_be_made_again(lock, tmp_path, monkeypatch):
    spec = with_overrides(load_spec("demo"), [*SMALL, "render.engine=raycast", 'scene_glb=["train"]'])
    root, broken = tmp_path / "dataset", SceneFailedError("label_mismatch", "render", "half way")
    whole = SceneMaker.make

    def half(self, recipe):
        made = whole(self, recipe)

        def first_only():
            yield next(made.samples)
            raise broken

        return replace(made, samples=first_only())

    actor = SceneActor(spec, lock, str(root), "f" * 64)
    scene = next(number for number in range(30) if samples_of(actor.make(number, 0)) == 2)
    fresh = SceneActor(spec, lock, str(tmp_path / "other"), "f" * 64)
    monkeypatch.setattr(SceneMaker, "make", half)
    outcome = fresh.make(scene, 0)
    assert (outcome.reason, outcome.stage, outcome.staged) == ("label_mismatch", "render", None)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert samples_of(fresh.make(scene, 0)) == 2
    for name in (DatasetFolder.scene_name(scene), DatasetFolder.done_name(scene), DatasetFolder.glb_name(scene)):
        assert (tmp_path / "other" / name).read_bytes() == (root / name).read_bytes()
