"""Truths that are no dataset of ours: MIDI's test rooms and plain GLB files, in the frame that the importer gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
import typer
from output_fixtures import camera_of, changed, glb_of, similar, solids, write_gen3dsr, write_glbs, write_iscene, y_up
from test_evaluate import SMALL
from test_output_layouts import assert_perfect
from typer.testing import CliRunner

from randscene.cli.evaluate import evaluate as command
from randscene.errors import DatasetError, PredictionError, SpecError
from randscene.files import write_atomic
from randscene.generator.front3d_cameras import look_at_point
from randscene.generator.recipe import Camera
from randscene.generator.view_centric import world_to_view
from randscene.train.evaluate import evaluate
from randscene.train.file_truth import heading_rotation
from randscene.train.output_layouts import prediction_reading
from randscene.train.protocols import PROTOCOLS
from randscene.train.truth_layouts import read_truths, truth_reading
from randscene.train.worst_cases import write_worst_cases

MIDI = truth_reading("midi")
GLB_Z = truth_reading("glb", up_axis="Z")
HOUSE, ROOM = "0a8d471a", "Bed_room-81726"
KEY = f"{HOUSE}/{ROOM}"
NAMES = ("Table_ab_3", "Chair_cd_1", "Lamp_ef_12")
"""The boxes in the order of the furniture list; without it 1, 3 and 12 order them."""


def write_rooms(root: Path, rooms=(KEY,), *, furniture: bool = True) -> Path:
    """The boxes as rooms of MIDI's test set: a GLB an object, Y-up, and a camera."""
    for room in rooms:
        scene, render = root / "3D-FRONT-TEST-SCENE" / room, root / "3D-FRONT-TEST-RENDER" / room
        parts = changed(solids(None), y_up)
        for name, part in zip(NAMES, parts):
            write_atomic(scene / f"{name}.glb", glb_of(part))
        for whole in (Path(room).name, f"{Path(room).name}_full"):
            write_atomic(scene / f"{whole}.glb", glb_of(*parts))
        places = [{"index": f"{number:04d}", "transform_matrix": camera_of(number).tolist()} for number in (1, 0)]
        write_atomic(render / "meta.json", json.dumps({"camera_angle_x": 0.7, "locations": places}))
    if furniture:
        write_atomic(root / "midi_test_room_ids.json", json.dumps(list(rooms)))
        write_atomic(root / "midi_test_furniture_ids.json", json.dumps([list(NAMES) for _ in rooms]))
    return root


def row_of(predictions: Path, dataset: Path, truth, layout: str, **stated) -> dict:
    reading = prediction_reading(layout, **stated)
    report = evaluate(predictions, dataset, SMALL, reading=reading, truth=truth, workers=1)
    assert len(report.scenes) == 1
    return report.rows()[0]


def test_a_room_stands_in_the_frame_that_the_importer_gives_it(tmp_path):
    (truth,) = read_truths(write_rooms(tmp_path / "midi"), MIDI)
    scene = truth.scene()
    vertices = np.concatenate([part[0] for part in solids(None)])
    camera = Camera(camera_to_world=tuple(map(tuple, camera_of(0).tolist())), fov_deg=40.0)
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    expected = world_to_view(camera_of(0), np.asarray(look_at_point(camera, middle)), vertices, frame="yaw")
    np.testing.assert_allclose(scene.world_to_view, expected, atol=1e-6)
    for mesh, (points, _) in zip(scene.meshes, solids(0), strict=True):
        np.testing.assert_allclose(mesh.vertices, points, atol=1e-6)
    assert (truth.key, truth.n_instances, truth.has_camera) == (KEY, 3, True)


@pytest.mark.parametrize("case", ["ahead", "behind", "from above", "aside"])
def test_the_heading_is_the_importers_for_every_camera(case):
    camera = camera_of(1)
    if case == "behind":
        camera[:3, 3] *= -1
    if case == "from above":
        camera = np.eye(4)
        camera[:3, :2] = [[0.6, -0.8], [0.8, 0.6], [0, 0]]
        camera[2, 3] = 5
    middle = np.array([0.3, -0.2, 0.4]) if case == "aside" else np.array([0.0, 0, 0])
    look_at = look_at_point(Camera(camera_to_world=tuple(map(tuple, camera.tolist())), fov_deg=40.0), middle)
    expected = world_to_view(camera, np.asarray(look_at), np.array([[0.0, 0, 0], [1, 1, 1]]), frame="yaw")[:3, :3]
    np.testing.assert_allclose(heading_rotation(camera, middle), expected / np.linalg.norm(expected[0]), atol=1e-6)


def test_a_camera_without_a_heading_is_refused():
    straight_down = np.array([[0.0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 9], [0, 0, 0, 1]])
    with pytest.raises(DatasetError, match="no heading"):
        heading_rotation(straight_down, np.zeros(3))


@pytest.mark.parametrize("furniture", [True, False])
def test_predictions_of_rooms_are_perfect_in_world_camera_and_view(tmp_path, furniture):
    dataset = write_rooms(tmp_path / "midi", furniture=furniture)
    order = (0, 1, 2) if furniture else (1, 0, 2)
    some = [solids(0)[i] for i in order]
    room = glb_of(*changed([solids(None)[i] for i in order], y_up))
    write_atomic(tmp_path / "midi_out" / KEY / "output.glb", room)
    assert_perfect(row_of(tmp_path / "midi_out", dataset, MIDI, "midi", frame="world"))
    write_atomic(tmp_path / "single" / f"{KEY}.glb", room)
    assert_perfect(row_of(tmp_path / "single", dataset, MIDI, "scenegen", frame="world"))
    write_iscene(tmp_path / "iscene", KEY, some)
    assert_perfect(row_of(tmp_path / "iscene", dataset, MIDI, "iscene"))
    write_gen3dsr(tmp_path / "gen3dsr", KEY, some)
    assert_perfect(row_of(tmp_path / "gen3dsr", dataset, MIDI, "gen3dsr"))


def test_rooms_of_one_house_are_scenes_of_their_own_and_have_pictures(tmp_path):
    rooms = (KEY, f"{HOUSE}/Bed_room-2")
    dataset = write_rooms(tmp_path / "midi", rooms)
    for room in rooms:
        write_iscene(tmp_path / "p", room, solids(0))
    report = evaluate(tmp_path / "p", dataset, SMALL, reading=prediction_reading("iscene"), truth=MIDI, workers=1)
    assert sorted(scene.key for scene in report.scenes) == sorted(rooms)
    interval = report.intervals()["scene_cd_squared"]
    assert interval is not None
    assert interval.low is not None  # two scenes, not one
    paths = write_worst_cases(report, tmp_path / "p", dataset, tmp_path / "worst", 2, size=60)
    assert sorted(path.name[3:] for path in paths) == sorted(room.replace("/", "_") + ".png" for room in rooms)
    write_worst_cases(report, tmp_path / "p", dataset, tmp_path / "worst", 1, size=60)
    assert len(list((tmp_path / "worst").iterdir())) == 1


def test_a_room_without_a_prediction_counts_when_all_are_required(tmp_path):
    rooms = (KEY, f"{HOUSE}/Bed_room-2")
    dataset = write_rooms(tmp_path / "midi", rooms)
    write_iscene(tmp_path / "p", KEY, solids(0))
    reading = prediction_reading("iscene")
    report = evaluate(tmp_path / "p", dataset, SMALL, reading=reading, truth=MIDI, require_all=True, workers=1)
    assert (len(report.scenes), report.n_missing) == (2, 3)


BROKEN_ROOMS = {
    "no pictures": (lambda root: shutil.rmtree(root / "3D-FRONT-TEST-RENDER"), "has no 3D-FRONT-TEST-RENDER"),
    "an object that is not there": (
        lambda root: (root / "3D-FRONT-TEST-SCENE" / KEY / f"{NAMES[1]}.glb").unlink(),
        f"{NAMES[1]}.glb is missing",
    ),
    "a path in the list": (
        lambda root: (root / "midi_test_furniture_ids.json").write_text('[["../../x"]]'),
        "not the name of a file",
    ),
    "a room out of the folder": (
        lambda root: (root / "midi_test_room_ids.json").write_text('["../x"]'),
        "no scene 0a8d471a",
    ),
    "lists of two lengths": (
        lambda root: (root / "midi_test_furniture_ids.json").write_text("[]"),
        "not a list of object",
    ),
    "a list that is none": (lambda root: (root / "midi_test_room_ids.json").write_text("{}"), "not a list of rooms"),
    "no camera": (
        lambda root: (root / "3D-FRONT-TEST-RENDER" / KEY / "meta.json").write_text('{"locations": []}'),
        "no camera 0000",
    ),
    "a camera that is none": (
        lambda root: (root / "3D-FRONT-TEST-RENDER" / KEY / "meta.json").write_text(
            json.dumps({"locations": [{"index": "0000", "transform_matrix": np.zeros((4, 4)).tolist()}]})
        ),
        "no rotation and position",
    ),
    "a mesh that is cut off": (
        lambda root: (root / "3D-FRONT-TEST-SCENE" / KEY / f"{NAMES[1]}.glb").write_bytes(b"glTF"),
        "not a GLB",
    ),
    "a mesh without area": (
        lambda root: (root / "3D-FRONT-TEST-SCENE" / KEY / f"{NAMES[1]}.glb").write_bytes(
            glb_of((np.zeros((1, 3)), np.zeros((1, 3), np.int64)))
        ),
        "instance 2 .* zero_area",
    ),
}


@pytest.mark.parametrize("case", BROKEN_ROOMS)
def test_a_broken_room_is_refused_with_one_line(tmp_path, case):
    change, message = BROKEN_ROOMS[case]
    dataset = write_rooms(tmp_path / "midi")
    write_iscene(tmp_path / "p", KEY, solids(0))
    change(dataset)
    with pytest.raises(DatasetError, match=message) as caught:
        row_of(tmp_path / "p", dataset, MIDI, "iscene")
    assert "\n" not in str(caught.value)


def test_a_truth_of_glb_files_that_is_not_there_is_called_a_truth(tmp_path):
    with pytest.raises(DatasetError, match="is no folder; give the one that holds the true GLB files"):
        read_truths(tmp_path / "nowhere", GLB_Z)


def test_unlisted_objects_need_numbers_of_their_own(tmp_path):
    dataset = write_rooms(tmp_path / "midi", furniture=False)
    write_iscene(tmp_path / "p", KEY, solids(0))
    folder = dataset / "3D-FRONT-TEST-SCENE" / KEY
    shutil.copy(folder / f"{NAMES[0]}.glb", folder / "Sofa_3.glb")
    with pytest.raises(DatasetError, match="two objects end in one number"):
        row_of(tmp_path / "p", dataset, MIDI, "iscene")
    (folder / "Sofa_3.glb").rename(folder / "Sofa.glb")
    with pytest.raises(DatasetError, match=r"Sofa\.glb does not end in a number"):
        row_of(tmp_path / "p", dataset, MIDI, "iscene")


@pytest.mark.parametrize("single", [True, False])
def test_a_truth_of_glb_files_is_centred_in_the_cube_and_compared_by_order(tmp_path, single):
    some = changed(solids(0), similar(0.0, 3.0, (5, 1, 2)))
    if single:
        write_atomic(tmp_path / "truth" / "chair_2.glb", glb_of(*some))
    else:
        write_glbs(tmp_path / "truth", "chair_2", some)
    (truth,) = read_truths(tmp_path / "truth", GLB_Z)
    vertices = np.concatenate([mesh.vertices for mesh in truth.scene().meshes])
    np.testing.assert_allclose(vertices.min(axis=0) + vertices.max(axis=0), 0, atol=1e-6)
    assert np.ptp(vertices, axis=0).max() == pytest.approx(1)
    write_glbs(tmp_path / "p", "chair_2", some)
    for frame in ("world", "free"):
        assert_perfect(row_of(tmp_path / "p", tmp_path / "truth", GLB_Z, "glb", frame=frame, up_axis="Z"))
    write_glbs(tmp_path / "reverse", "chair_2", some[::-1])
    row = row_of(tmp_path / "reverse", tmp_path / "truth", GLB_Z, "glb", frame="world", up_axis="Z")
    assert row["object_f_score"] < 0.6
    row = row_of(
        tmp_path / "p", tmp_path / "truth", truth_reading("glb", up_axis="Y"), "glb", frame="free", up_axis="Z"
    )
    assert row["scene_f_score"] < 0.9


def test_a_symmetric_object_scores_as_perfect_in_any_of_its_poses(tmp_path):
    post, bar = trimesh.creation.cylinder(0.3, 1.0, sections=64), trimesh.creation.box((0.2, 2.0, 0.3))
    true = [
        (np.asarray(post.vertices), np.asarray(post.faces)),
        (np.add(bar.vertices, [1.2, 0, -0.35]), np.asarray(bar.faces)),
    ]
    turned = [(similar(0.61, 1, (0, 0, 0))(true[0][0]), true[0][1]), true[1]]
    assert np.abs(turned[0][0] - true[0][0]).max() > 0.1
    write_glbs(tmp_path / "truth", "a", true)
    write_glbs(tmp_path / "p", "a", turned)
    assert_perfect(row_of(tmp_path / "p", tmp_path / "truth", GLB_Z, "glb", frame="world", up_axis="Z"))


def test_what_another_truth_cannot_give_is_refused(tmp_path):
    write_glbs(tmp_path / "truth", "a", solids(0))
    write_gen3dsr(tmp_path / "p", "a", solids(0))
    with pytest.raises(PredictionError, match="the truth has no camera"):
        row_of(tmp_path / "p", tmp_path / "truth", GLB_Z, "gen3dsr")
    write_glbs(tmp_path / "other", "b", solids(0))
    with pytest.raises(DatasetError, match="no scene b"):
        row_of(tmp_path / "other", tmp_path / "truth", GLB_Z, "glb", frame="world", up_axis="Z")
    with pytest.raises(SpecError, match="no splits"):
        read_truths(tmp_path / "truth", GLB_Z, split="val")
    for words, message in (
        (("room",), "known: dataset, midi, glb"),
        (("glb",), "give --truth-up-axis"),
        (("midi", "Y"), "leave out --truth-up-axis"),
        (("glb", "X"), "known: Y, Z"),
    ):
        with pytest.raises(SpecError, match=message):
            truth_reading(words[0], up_axis=words[1] if len(words) > 1 else None)


def test_our_own_layout_belongs_to_our_own_datasets(tmp_path):
    from test_evaluate import KEYS, predict

    predict(tmp_path / "p")
    write_glbs(tmp_path / "truth", KEYS[0], solids(0))
    with pytest.raises(PredictionError, match="--layout iscene"):
        row_of(tmp_path / "p", tmp_path / "truth", GLB_Z, "randscene")
    assert_perfect(row_of(tmp_path / "p", tmp_path / "truth", GLB_Z, "iscene"))


def test_the_command_scores_rooms(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "iscene", SMALL)
    dataset = write_rooms(tmp_path / "midi")
    write_atomic(tmp_path / "p" / f"{KEY}.glb", glb_of(*changed(solids(None), y_up)))
    app = typer.Typer()
    app.command()(command)
    arguments = [
        str(tmp_path / "p"),
        "--layout",
        "midi",
        "--frame",
        "world",
        "--dataset",
        str(dataset),
        "--truth",
        "midi",
    ]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--workers", "1", "--worst", "1"])
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (content["truth"]["kind"], content["predictions"]["frame"]) == ("midi", "world")
    assert content["means"]["object_f_score"] == 1
    assert "mean overlap between the instances" in done.output
