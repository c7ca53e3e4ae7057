"""Prediction in two stages: each instance with its own image, whole folders, right resuming, and the command."""

import json

import numpy as np
import pytest
import trimesh
from shard_fixtures import make_dataset, make_sample
from test_predict import TINY, truth
from test_stage_two import Pipeline, install, write_source
from typer.testing import CliRunner

from randscene.cli.main import app
from randscene.errors import PredictionError, SpecError
from randscene.train.image_conditioner import crop_images
from randscene.train.predict import Predictor
from randscene.train.prediction_reader import read_prediction
from randscene.train.prediction_view import View
from randscene.train.stage_two_predictor import load_two_stages
from randscene.train.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp("data") / "set", scenes=1, views=1, resolution=32, splits=("train", "val")
    )


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train([dataset], TINY, folder, device="cpu")
    return folder


@pytest.fixture
def source(tmp_path, monkeypatch):
    install(monkeypatch, TrellisImageTo3DPipeline=Pipeline)
    return write_source(tmp_path / "source")


def two_stages(run, source, monkeypatch, **arguments):
    """Stage 1 says the truth, of which instance 2 is left empty."""
    predictor = load_two_stages(run, source, device="cpu", **arguments)
    monkeypatch.setattr(predictor, "logits", lambda views: [truth(view) for view in views])
    return predictor


VIEW = View.of_sample(make_sample(5, 1, objects=(3, 3)))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "prediction.json"}


def test_every_instance_with_voxels_is_coloured_by_its_own_image_in_place(run, source, tmp_path, monkeypatch):
    predictor = two_stages(run, source, monkeypatch)
    done = predictor.predict(VIEW, tmp_path / "out")
    assert (done.empty, done.untextured) == ((2,), ())
    names = {"instance_01_textured.glb", "instance_03_textured.glb", "scene_textured.glb"}
    assert names <= set(files(done.folder)) and "instance_02_textured.glb" not in files(done.folder)
    images = crop_images(VIEW.image, 518).transpose(0, 2, 3, 1)
    for given, expected in zip(predictor.stage_two.pipeline.images, images[[1, 3]], strict=True):
        np.testing.assert_array_equal(given, expected)
    about = json.loads((done.folder / "prediction.json").read_text())
    assert about["stage_two"] == predictor.stage_two.about() and about["stage_two"]["source"] == source
    assert [entry["textured"] for entry in about["instances"]] == [
        "instance_01_textured.glb",
        None,
        "instance_03_textured.glb",
    ]
    scene = trimesh.load_scene(done.folder / "scene_textured.glb", process=False)
    plain = read_prediction(done.folder)
    for instance in (1, 3):
        x, y, z = scene.geometry[f"instance_{instance:02d}_textured"].vertices.T
        coords = VIEW.image.instance_coords(instance)
        in_cube = np.stack([x, -z, y], axis=1)
        np.testing.assert_allclose(in_cube.min(axis=0), coords.min(axis=0) / 64 - 0.5, atol=1e-5)
        np.testing.assert_allclose(in_cube.max(axis=0), (coords.max(axis=0) + 1) / 64 - 0.5, atol=1e-5)
        np.testing.assert_allclose(in_cube.min(axis=0), plain.mesh(instance).vertices.min(axis=0), atol=1e-5)


def test_stage_one_is_what_it_is_alone_and_two_runs_agree_to_the_byte(run, source, tmp_path, monkeypatch):
    first = files(two_stages(run, source, monkeypatch).predict(VIEW, tmp_path / "first").folder)
    again = files(two_stages(run, source, monkeypatch).predict(VIEW, tmp_path / "again").folder)
    assert first == again and len(first) == 8
    alone = Predictor(run, device="cpu")
    monkeypatch.setattr(alone, "logits", lambda views: [truth(view) for view in views])
    without = files(alone.predict(VIEW, tmp_path / "alone").folder)
    assert without == {name: data for name, data in first.items() if "textured" not in name}
    other = files(two_stages(run, source, monkeypatch, seed=1).predict(VIEW, tmp_path / "other").folder)
    assert other["instance_01_textured.glb"] != first["instance_01_textured.glb"]


def test_a_finished_view_is_kept_and_one_with_another_stage_two_or_none_is_refused(run, source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    two_stages(run, source, monkeypatch).predict(VIEW, out)
    before = files(out / VIEW.key)
    predictor = two_stages(run, source, monkeypatch)
    assert predictor.predict(VIEW, out).skipped and predictor.stage_two.pipeline.images == []
    other = two_stages(run, write_source(tmp_path / "other", weights=2), monkeypatch)
    for refused in (other, Predictor(run, device="cpu")):
        with pytest.raises(PredictionError, match="predicted with another checkpoint or sampler"):
            refused.predict(VIEW, out)
    Predictor(run, device="cpu").predict(VIEW, tmp_path / "one")
    with pytest.raises(PredictionError, match="predicted with another checkpoint or sampler"):
        predictor.predict(VIEW, tmp_path / "one")
    assert files(out / VIEW.key) == before


def test_writers_beside_the_model_end_in_the_same_files(run, source, tmp_path, monkeypatch):
    views = [VIEW, View.of_sample(make_sample(6, 0, objects=(2, 2)))]
    predictor = two_stages(run, source, monkeypatch)
    jobs = [lambda: views[0], lambda: views[1]]
    alone = [files(predictor.predict(view, tmp_path / "alone").folder) for view in views]
    done = list(predictor.predict_all(jobs, tmp_path / "beside", at_once=2, workers=2))
    assert [files(item.folder) for item in done] == alone
    assert all("scene_textured.glb" in names for names in alone)


def test_an_instance_of_which_stage_two_makes_nothing_is_told(run, source, tmp_path, monkeypatch):
    predictor = two_stages(run, source, monkeypatch)
    textured = predictor.stage_two.textured
    calls = []

    def first_only(coords, image, *, seed):
        calls.append(seed)
        return textured(coords, image, seed=seed) if len(calls) == 1 else None

    monkeypatch.setattr(predictor.stage_two, "textured", first_only)
    done = predictor.predict(VIEW, tmp_path)
    assert done.empty == (2,) and done.untextured == (3,) and len(set(calls)) == 2
    assert "instance_03.glb" in files(done.folder) and "instance_03_textured.glb" not in files(done.folder)
    assert two_stages(run, source, monkeypatch).predict(VIEW, tmp_path).untextured == (3,)


def test_the_command_runs_both_stages_and_says_what_is_missing(dataset, run, source, tmp_path, monkeypatch):
    def command(*options):
        arguments = ["predict", run, "--dataset", dataset, "--device", "cpu", "--out", tmp_path / "out", *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    def two_voxels(self, views):
        fields = [np.full((view.image.n_instances, 64, 64, 64), -1.0, np.float32) for view in views]
        for field in fields:
            field[:, [1, 4], [2, 5], [3, 6]] = 1.0
        return fields

    monkeypatch.setattr(Predictor, "logits", two_voxels)
    done = command("--stage-two", source)
    assert done.exception is None, done.output
    (told,) = (tmp_path / "out").glob("*/prediction.json")
    assert json.loads(told.read_text())["stage_two"]["colour"] == "vertex"
    assert (told.parent / "scene_textured.glb").stat().st_size > 0
    for options, message in (
        (["--stage-two-texture"], "--stage-two-texture belongs to --stage-two"),
        (["--stage-two", source, "--stage-two-texture"], "bakes with CUDA"),
    ):
        failure = command(*options).exception
        assert isinstance(failure, SpecError) and message in str(failure)
    install(monkeypatch)
    failure = command("--stage-two", source).exception
    assert isinstance(failure, SpecError) and "github.com/microsoft/TRELLIS" in str(failure)
