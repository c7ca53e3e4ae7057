"""Prediction: files in their stated layout, whole or absent, resumable, and true to what the model said."""

import functools
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from shard_fixtures import make_dataset, make_sample, solids_of
from tiny_model import TINY_MODEL
from typer.testing import CliRunner

from randscene.cli.main import app
from randscene.errors import CheckpointError, DatasetError, PredictionError, RandsceneError, SpecError
from randscene.generator.view_centric import world_to_view
from randscene.shards import open_dataset
from randscene.train import prediction_folder
from randscene.train.masked_image import folder_name, read_masked_image
from randscene.train.predict import Predictor
from randscene.train.prediction_reader import read_prediction
from randscene.train.prediction_view import View, choose_views, read_world_rotation
from randscene.train.settings import DataSettings, SamplingSettings, load_settings, with_overrides
from randscene.train.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = with_overrides(
    load_settings("mini"),
    [
        "data.scenes_per_step=1",
        "data.instances_per_scene=1",
        *TINY_MODEL,
        "optimiser.steps=1",
        "sampling.steps=2",
    ],
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return make_dataset(folder, scenes=2, views=3, resolution=32, splits=("train", "val"))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train([dataset], TINY, folder, device="cpu")
    return folder


def truth(view):
    """Logits of the view's true voxels; instance 2 is left empty."""
    logits = np.full((view.image.n_instances, 64, 64, 64), -4.0, np.float32)
    for instance in range(1, view.image.n_instances + 1):
        if instance != 2:
            logits[instance - 1][tuple(view.image.instance_coords(instance).T)] = 4.0
    return logits


@pytest.fixture
def predictor(run, monkeypatch):
    """Predicts the truth instead of what the model says."""
    predictor = Predictor(run, device="cpu")
    predictor.calls = 0

    def logits(views):
        predictor.calls += 1
        return [truth(view) for view in views]

    monkeypatch.setattr(predictor, "logits", logits)
    return predictor


def everywhere(views):
    """Logits of cubes that are full."""
    return [np.ones((view.image.n_instances, 64, 64, 64), np.float32) for view in views]


VIEW = View.of_sample(make_sample(5, 1, objects=(3, 3)))


def test_the_files_have_the_stated_layout_and_the_readers_agree(predictor, tmp_path):
    done = predictor.predict(VIEW, tmp_path)
    assert (done.key, done.n_instances, done.empty, done.skipped) == ("000005_001", 3, (2,), False)
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "instance_01.glb",
        "instance_03.glb",
        "occupancy.npz",
        "prediction.json",
        "scene.glb",
        "scene_world.glb",
    ]
    about = json.loads((done.folder / "prediction.json").read_text())
    assert about["schema"] == 1 and about["up_axis"] == "Y" and about["frame"] == "yaw"
    assert (about["scene"], about["view"], about["steps"], about["cfg"]) == (5, 1, 2, TINY.sampling.cfg_strength)
    assert about["checkpoint"] == predictor.loaded.sha256
    counts = [len(VIEW.image.instance_coords(1)), 0, len(VIEW.image.instance_coords(3))]
    assert [entry["n_voxels"] for entry in about["instances"]] == counts
    read = read_prediction(done.folder)
    np.testing.assert_array_equal(read.world_to_view, VIEW.world_to_view)
    assert read.mesh(2) == "missing"
    for instance in (1, 3):
        coords = VIEW.image.instance_coords(instance)
        np.testing.assert_array_equal(read.occupancy()[instance], coords)
        vertices = read.mesh(instance).vertices
        np.testing.assert_allclose(vertices.min(axis=0), coords.min(axis=0) / 64 - 0.5, atol=1e-5)
        np.testing.assert_allclose(vertices.max(axis=0), (coords.max(axis=0) + 1) / 64 - 0.5, atol=1e-5)
    scene = trimesh.load_scene(io.BytesIO((done.folder / "scene.glb").read_bytes()), file_type="glb")
    assert set(scene.graph.nodes_geometry) == {"instance_01", "instance_03"}


def test_a_finished_view_is_kept_and_one_made_otherwise_is_refused(predictor, run, tmp_path):
    first = predictor.predict(VIEW, tmp_path)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    again = predictor.predict(VIEW, tmp_path)
    assert again.skipped and predictor.calls == 1 and again.empty == first.empty
    for change in ({"seed": 1}, {"sampling": SamplingSettings(steps=3)}, {"smoothing": 1}):
        other = Predictor(run, device="cpu", **change)
        with pytest.raises(PredictionError, match="predicted with another checkpoint or sampler"):
            other.predict(VIEW, tmp_path)
    sample = make_sample(5, 1, objects=(3, 3), fingerprint="beef" * 16)
    with pytest.raises(PredictionError, match="predicted with another dataset"):
        predictor.predict(View.of_sample(sample), tmp_path)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    (tmp_path / "000009_000").mkdir()
    with pytest.raises(PredictionError, match="exists and is not a prediction"):
        predictor.predict(View.of_sample(make_sample(9, 0)), tmp_path)


def test_a_write_that_fails_leaves_no_folder_behind(predictor, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("randscene.train.prediction_folder.write_atomic", full)
    with pytest.raises(RandsceneError, match="the disk is full"):
        predictor.predict(VIEW, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_one_view_do_not_spoil_each_other_and_the_later_one_is_told(predictor, tmp_path, monkeypatch):
    # Processes of two containers may have one id.
    theirs = tmp_path / f".{VIEW.key}.{os.getpid()}.tmp" / "instance_01.glb"
    real = prediction_folder.npz_bytes

    def meanwhile(arrays):
        theirs.parent.rename(tmp_path / VIEW.key)
        return real(arrays)

    theirs.parent.mkdir()
    theirs.write_bytes(b"half written")
    monkeypatch.setattr(prediction_folder, "npz_bytes", meanwhile)
    with pytest.raises(PredictionError, match="written by another process"):
        predictor.predict(VIEW, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [VIEW.key]
    assert [path.read_bytes() for path in (tmp_path / VIEW.key).iterdir()] == [b"half written"]


def test_nothing_predicted_at_all_is_still_a_whole_prediction(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "logits", lambda views: [np.full((3, 64, 64, 64), -1.0, np.float32)])
    done = predictor.predict(VIEW, tmp_path)
    assert done.empty == (1, 2, 3)
    assert sorted(path.name for path in done.folder.iterdir()) == ["occupancy.npz", "prediction.json"]
    assert all(len(coords) == 0 for coords in read_prediction(done.folder).occupancy().values())


def test_the_models_own_logits_repeat_and_depend_on_seed_and_key_alone(run):
    view = View.of_sample(make_sample(5, 1, objects=(1, 1)))
    first, again, other = (Predictor(run, seed=seed, device="cpu").logits([view])[0] for seed in (0, 0, 1))
    assert first.shape == (1, 64, 64, 64) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_views_computed_together_are_what_each_is_alone(run):
    views = [View.of_sample(make_sample(scene, 1, objects=(count, count))) for scene, count in ((5, 1), (6, 3), (7, 2))]
    predictor = Predictor(run, device="cpu")
    together = predictor.logits(views)
    assert [len(part) for part in together] == [1, 3, 2]
    for part, view in zip(together, views):
        np.testing.assert_allclose(part, predictor.logits([view])[0], rtol=1e-3, atol=1e-3)


def test_several_at_once_and_writers_beside_end_in_the_same_files_whatever_was_there(run, tmp_path):
    views = [View.of_sample(make_sample(scene, 1, objects=(2, 2))) for scene in range(5)]
    jobs = [functools.partial(_itself, view) for view in views]
    predictor = Predictor(run, device="cpu")
    done = list(predictor.predict_all(jobs, tmp_path / "one", at_once=2))
    assert [item.key for item in done] == [view.key for view in views] and not any(item.skipped for item in done)
    (tmp_path / "two").mkdir()
    shutil.copytree(tmp_path / "one" / views[0].key, tmp_path / "two" / views[0].key)
    done = list(predictor.predict_all(jobs, tmp_path / "two", at_once=2, workers=2))
    assert [item.key for item in done] == [view.key for view in views]
    assert [item.skipped for item in done] == [True, False, False, False, False]
    for view in views:
        folders = [tmp_path / name / view.key for name in ("one", "two")]
        names = {path.name for path in folders[0].iterdir()}
        assert names == {path.name for path in folders[1].iterdir()} and "occupancy.npz" in names
        for name in names - {"prediction.json"}:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
        told = [json.loads((folder / "prediction.json").read_text()) for folder in folders]
        assert told[0] | {"seconds": 0} == told[1] | {"seconds": 0}


def _itself(view):
    return view


def test_views_are_spread_evenly_or_taken_by_key(dataset):
    data = open_dataset(dataset, split="val")
    ordered = sorted(data.keys)
    assert sorted(data.keys[index] for index in choose_views(data)) == ordered
    two = [data.keys[index] for index in choose_views(data, views=2)]
    assert [key[:6] for key in two] == ["900000", "900001"]
    assert len(choose_views(data, views=100)) == len(data)
    assert [data.keys[index] for index in choose_views(data, keys=[ordered[3], ordered[0]])] == [ordered[3], ordered[0]]
    with pytest.raises(DatasetError, match="has no sample 000000_000 in this split: keys are such as 900000_00"):
        choose_views(data, keys=["000000_000"])


def test_a_sample_of_another_frame_is_refused_unless_any_will_do_and_so_is_a_folder_without_a_run(predictor, tmp_path):
    sample = make_sample(0, 0)
    sample.meta["frame"] = "canonical"
    with pytest.raises(DatasetError, match=r"sample 000000_000 is in frame canonical .* but the run is in yaw"):
        predictor.view(sample)
    placed, elsewhere = predictor.view(make_sample(0, 0)), predictor.view(sample, any_frame=True)
    assert placed.world_to_view is not None and elsewhere.world_to_view is None
    about = json.loads((predictor.predict(elsewhere, tmp_path / "out").folder / "prediction.json").read_text())
    assert (about["frame"], about["world_to_view"], about["scene"]) == ("yaw", None, 0)
    with pytest.raises(CheckpointError, match=r"holds no weights of a flow: a run has settings\.json"):
        Predictor(tmp_path)


def save(path, array):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_a_photo_with_masks_is_read_in_both_forms(tmp_path):
    rgb = save(tmp_path / "room.png", np.full((20, 30, 3), 90, np.uint8))
    values = np.zeros((20, 30), np.uint8)
    values[2:5, 3:9], values[10:15, 20:25] = 200, 40
    from_ids = read_masked_image(rgb, save(tmp_path / "ids.png", values))
    assert from_ids.n_instances == 2 and from_ids.rgb.shape == (20, 30, 3)
    assert from_ids.ids[3, 4] == 2 and from_ids.ids[12, 22] == 1
    for name, value in (("mask_10.png", 200), ("mask_9.png", 40)):
        save(tmp_path / "masks" / name, ((values == value) * 255).astype(np.uint8))
    np.testing.assert_array_equal(read_masked_image(rgb, tmp_path / "masks").ids, from_ids.ids)


def test_a_picture_is_read_upright_as_viewers_show_it_and_masks_of_16_bits_by_their_own_half(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5] = 250  # a bright top edge
    turned = Image.fromarray(np.rot90(pixels, 1))  # the sensor stood on its side: EXIF 6 says "turn right to show"
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "phone.png", exif=exif)
    for number, place in enumerate((slice(0, 5), slice(10, 20))):
        mask = np.full((20, 30), 300, np.uint16)  # next to black
        mask[place] = 65535
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    read = read_masked_image(tmp_path / "phone.png", tmp_path / "masks")
    np.testing.assert_array_equal(read.rgb, pixels)
    assert read.ids[:5].min() == read.ids[:5].max() == 1 and (read.ids[10:] == 2).all() and not read.ids[5:10].any()


def test_a_grey_picture_of_16_bits_keeps_its_shades_and_one_of_floats_is_refused(tmp_path):
    shades = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369
    ids = save(tmp_path / "ids.png", np.ones((4, 4), np.uint8))
    Image.fromarray(shades).save(tmp_path / "deep.png")
    read = read_masked_image(tmp_path / "deep.png", ids)
    np.testing.assert_array_equal(read.rgb, np.repeat((shades // 256)[..., None], 3, axis=2))
    Image.fromarray(shades.astype(np.float32) / 65535).save(tmp_path / "floats.tif")
    with pytest.raises(PredictionError, match=r"floats\.tif has pixels of 32 bits: save the picture with 8 or 16 bits"):
        read_masked_image(tmp_path / "floats.tif", ids)


def test_masks_go_by_the_numbers_in_their_names_which_other_signs_for_numbers_do_not_disturb(tmp_path):
    rgb = save(tmp_path / "room.png", np.zeros((4, 4, 3), np.uint8))
    for place, name in enumerate(("²9.png", "²10.png")):
        mask = np.zeros((4, 4), np.uint8)
        mask[place] = 255
        save(tmp_path / "masks" / name, mask)
    assert read_masked_image(rgb, tmp_path / "masks").ids[:2, 0].tolist() == [1, 2]


def test_bad_masks_are_refused_with_the_file_named(tmp_path):
    rgb = save(tmp_path / "room.png", np.zeros((20, 30, 3), np.uint8))
    blank = save(tmp_path / "masks" / "1.png", np.zeros((20, 30), np.uint8))
    small = save(tmp_path / "small" / "1.png", np.ones((10, 10), np.uint8))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for masks, message in (
        (blank, "has 0 instance ids"),
        (blank.parent, r"1\.png leaves no pixel to its instance"),
        (small, "is 10 x 10 but .* is 30 x 20"),
        (small.parent, r"1\.png is 10 x 10, the image 30 x 20"),
        (rgb, "has mode RGB"),
        (text, r"text\.png is not a readable image"),
        (tmp_path / "none.png", "does not exist"),
    ):
        with pytest.raises(PredictionError, match=message):
            read_masked_image(rgb, masks)


@pytest.mark.parametrize("name", ["../../etc.png", "..png", "a b/ü.png", ".png", "plain_1.jpg"])
def test_a_photos_folder_cannot_leave_the_output(tmp_path, name):
    made = folder_name(tmp_path / name)
    assert made and (tmp_path / made).resolve().parent == tmp_path.resolve()


def test_a_device_that_is_not_there_or_a_guidance_that_is_none_is_one_line(run, dataset, tmp_path):
    arguments = ["predict", str(run), "--dataset", str(dataset), "--out", str(tmp_path / "out"), "--device", "foo"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SpecError) and "device foo: there is no such kind" in str(result.exception)
    with pytest.raises(SpecError, match="device foo: there is no such kind"):
        Predictor(run, device="foo")
    result = CliRunner().invoke(app, [*arguments[:-2], "--cfg", "inf"])
    assert isinstance(result.exception, SpecError) and "cfg_strength: expected a finite" in str(result.exception)
    assert not (tmp_path / "out").exists()


def photo(folder, grey=90):
    rgb = save(folder / "room.png", np.full((20, 30, 3), grey, np.uint8))
    return rgb, save(folder / "ids.png", np.ones((20, 30), np.uint8))


def test_a_photo_is_predicted_without_a_camera(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "logits", everywhere)
    view = View.of_picture(*photo(tmp_path), camera=None, data=TINY.data)
    done = predictor.predict(view, tmp_path / "out")
    about = json.loads((done.folder / "prediction.json").read_text())
    assert (about["key"], about["world_to_view"], about["world"]) == ("room", None, None)
    assert not (done.folder / "scene_world.glb").exists()
    assert torch.get_default_dtype() == torch.float32


def world_boxes(path):
    """{node: (low, high)} of a GLB, its Y-up points (x, z, -y) read back as Z-up ones."""
    scene = trimesh.load_scene(io.BytesIO(path.read_bytes()), file_type="glb")
    boxes = {}
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        np.testing.assert_array_equal(transform, np.eye(4))  # the vertices themselves are in the world
        x, y, z = scene.geometry[name].vertices.T
        points = np.stack([x, -z, y], axis=1)
        boxes[node] = points.min(axis=0), points.max(axis=0)
    return boxes


@pytest.mark.parametrize("view", [0, 1, 2])
def test_the_scene_in_the_world_lies_where_the_datasets_solids_do_in_metres(predictor, tmp_path, view):
    sample = make_sample(5, view, views=3, objects=(3, 3))
    done = predictor.predict(View.of_sample(sample), tmp_path)
    boxes = world_boxes(done.folder / "scene_world.glb")
    assert sorted(boxes) == ["instance_01", "instance_03"]
    cell = 1 / (64 * np.linalg.norm(np.asarray(sample.meta["world_to_view"])[0, :3]))
    for number in (1, 3):
        solid = solids_of(5, (3, 3))[number - 1]
        low, high = boxes[f"instance_{number:02d}"]
        np.testing.assert_allclose((low + high) / 2, solid.centre, atol=1.5 * cell)
        np.testing.assert_allclose(high[2] - low[2], 2 * solid.half, atol=4 * cell)
    told = json.loads((done.folder / "prediction.json").read_text())["world"]
    assert (told["file"], told["unit"], told["up_axis"]) == ("scene_world.glb", "metre", "Y")
    product = np.asarray(told["view_to_world"]) @ np.asarray(sample.meta["world_to_view"])
    np.testing.assert_allclose(product, np.eye(4), atol=1e-12)


def camera_at(position, target, roll=0.0):
    """(4, 4) of a camera that looks from `position` at `target`; straight down, `roll` turns it about its axis."""
    back = (position - target) / np.linalg.norm(position - target)
    side = np.array([-np.sin(roll), np.cos(roll), 0.0]) if abs(back[2]) > 0.999 else np.cross([0, 0, 1.0], back)
    side = side / np.linalg.norm(side)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([side, np.cross(back, side), back], axis=1)
    matrix[:3, 3] = position
    return matrix


def camera_file(path, matrix, target):
    path.write_text(json.dumps({"camera_to_world": np.asarray(matrix).tolist(), "look_at": list(target), "fov_deg": 4}))
    return path


@pytest.mark.parametrize("arm", [(4, 1, 2), (-3, 2, 0.1), (-1, -5, -2), (0, 3, 1), (2, 0, 0), (0, 0, 5), (0, 0, -5)])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_a_cameras_turn_is_the_one_of_the_datasets_frame(arm, offset, tmp_path):
    target = np.array([0.3, -0.2, 0.7])
    matrix = camera_at(target + arm, target, roll=0.6)
    scene = np.random.default_rng(0).normal(size=(50, 3))
    found = read_world_rotation(
        camera_file(tmp_path / "camera.json", matrix, target), DataSettings(azimuth_offset_deg=offset)
    )
    wanted = world_to_view(matrix, target, scene, "yaw", offset)[:3, :3]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted[0]), atol=1e-12)


def test_a_photo_with_a_camera_is_turned_into_the_world_and_neither_scaled_nor_moved(predictor, tmp_path, monkeypatch):
    logits = np.full((1, 64, 64, 64), -4.0, np.float32)
    logits[0, 40:60, 10:14, 20:30] = 4.0  # right, near the camera
    monkeypatch.setattr(predictor, "logits", lambda views: [logits])
    target = np.array([5.0, 6.0, 1.0])
    # The camera stands at +X of the scene and looks towards -X: picture right is the world's +Y.
    camera = camera_file(tmp_path / "camera.json", camera_at(target + np.array([3.0, 0, 2.0]), target), target)
    view = View.of_picture(*photo(tmp_path), camera=camera, data=TINY.data)
    done = predictor.predict(view, tmp_path / "out")
    low, high = world_boxes(done.folder / "scene_world.glb")["instance_01"]
    np.testing.assert_allclose(low, [0.5 - 14 / 64, 40 / 64 - 0.5, 20 / 64 - 0.5], atol=1e-6)
    np.testing.assert_allclose(high, [0.5 - 10 / 64, 60 / 64 - 0.5, 30 / 64 - 0.5], atol=1e-6)
    about = json.loads((done.folder / "prediction.json").read_text())
    assert about["world_to_view"] is None and about["world"]["unit"] is None
    with pytest.raises(PredictionError, match="has no world_to_view"):
        read_prediction(done.folder)
    assert predictor.predict(view, tmp_path / "out").skipped
    for other in (
        View.of_picture(*photo(tmp_path), camera=None, data=TINY.data),
        View.of_picture(*photo(tmp_path, grey=91), camera=camera, data=TINY.data),
    ):
        with pytest.raises(PredictionError, match="predicted with another picture, masks or camera"):
            predictor.predict(other, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no camera"),
        ("[]", "is no camera"),
        ({"camera_to_world": np.eye(4).tolist()}, "is no camera"),
        ({"camera_to_world": np.eye(3).tolist(), "look_at": [0, 0, 1]}, "must be 4x4"),
        ({"camera_to_world": np.eye(4).tolist(), "look_at": [0, float("nan"), 1]}, "finite numbers"),
        ({"camera_to_world": (2 * np.eye(4)).tolist(), "look_at": [1, 0, 1]}, "take scale and mirroring out"),
        ({"camera_to_world": np.diag([-1.0, 1, 1, 1]).tolist(), "look_at": [1, 0, 1]}, "take scale and mirroring out"),
        ({"camera_to_world": np.eye(4).tolist(), "look_at": [0, 0, 0]}, "stands on its look-at point"),
    ],
)
def test_a_file_without_a_usable_camera_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PredictionError, match=message) as caught:
        read_world_rotation(path, DataSettings())
    assert "\n" not in str(caught.value)
    with pytest.raises(PredictionError, match="was trained in full"):
        read_world_rotation(path, DataSettings(frame="full"))


def test_the_command_predicts_views_of_a_dataset_and_a_picture_with_its_camera(dataset, run, tmp_path):
    def command(*options):
        arguments = ["predict", run, "--device", "cpu", "--steps", "1", "--out", tmp_path / "out", *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    rgb, ids = photo(tmp_path)
    camera = camera_file(tmp_path / "camera.json", camera_at(np.array([3.0, 1, 2]), np.zeros(3)), [0.0, 0, 0])
    assert command("--dataset", dataset, "--views", "2").exception is None
    assert command("--image", rgb, "--masks", ids, "--camera", camera).exception is None
    told = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/prediction.json")}
    assert len(told) == 3 and all(about["steps"] == 1 and about["checkpoint_step"] == 1 for about in told.values())
    for key, about in told.items():
        known = about["world_to_view"] is not None
        assert known == (key != "room") and about["world"]["unit"] == ("metre" if known else None)
        assert (about["world_rotation"] is None) == known
    everything = ["--dataset", dataset, "--split", "all", "--at-once", "3", "--workers", "2", "--out", tmp_path / "all"]
    assert command(*everything).exception is None
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(open_dataset(dataset, split=None).keys)
    for options, message in (
        (["--dataset", dataset, "--camera", camera], "--camera belongs to --image"),
        (["--image", rgb], "give either --dataset, or --image together with --masks"),
    ):
        failure = command(*options).exception
        assert isinstance(failure, SpecError) and message in str(failure)
