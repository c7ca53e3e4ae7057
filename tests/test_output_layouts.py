"""Other methods' folders: a perfect prediction is perfect in each, and what is wrong is refused or scores badly."""

import dataclasses
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
import typer
from output_fixtures import (
    STATED,
    WRITERS,
    changed,
    glb_of,
    similar,
    solids,
    write_dataset,
    write_gen3dsr,
    write_glbs,
    write_iscene,
    write_midi,
    write_partcrafter,
    write_scenegen,
    y_up,
)
from test_evaluate import KEYS, SMALL, dataset_source, predict
from typer.testing import CliRunner

from randscene.cli.evaluate import evaluate as command
from randscene.cli.evaluate import read_as
from randscene.errors import DatasetError, PredictionError, SpecError
from randscene.files import write_atomic
from randscene.train.evaluate import evaluate
from randscene.train.output_layouts import LAYOUTS, prediction_reading
from randscene.train.protocols import PROTOCOLS
from randscene.train.scene_scores import penalty
from randscene.train.triangle_mesh import glb_header, read_glb, read_glb_geometries
from randscene.train.worst_cases import write_worst_cases

__all__ = ["dataset_source"]  # a fixture

KEY = KEYS[0]
UNALIGNED = dataclasses.replace(PROTOCOLS["gen3dsr"], points_per_object=1500)
NAN = (np.where(np.arange(9).reshape(3, 3) == 4, np.nan, 0.1), np.array([[0, 1, 2]]))
FAILED = (np.zeros((1, 3)), np.zeros((1, 3), np.int64))
"""What PartCrafter writes where it made nothing."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("truth") / "dataset")


def reading(layout: str, **stated):
    return prediction_reading(layout, **(STATED.get(layout, {}) | stated))


def one_row(predictions: Path, dataset: Path, layout: str, **stated) -> dict:
    report = evaluate(predictions, dataset, SMALL, reading=reading(layout, **stated), workers=1)
    assert len(report.scenes) == 1
    return report.rows()[0]


def assert_perfect(row: dict) -> None:
    assert row["scene_cd_squared"] < 1e-3
    assert row["scene_f_score"] == row["object_f_score"] == 1
    assert row["object_realigned_f_score"] > 0.95
    assert row["scene_aabb_iou"] > 0.95
    assert row["object_aabb_iou"] > 0.9
    assert (row["n_missing"], row["problems"], row["surplus"], row["unusable"]) == (0, "", 0, "")


@pytest.mark.parametrize("match", ["default", "hungarian"])
@pytest.mark.parametrize("layout", WRITERS)
def test_a_perfect_prediction_is_perfect_in_every_layout(dataset, tmp_path, layout, match):
    assert set(WRITERS) == set(LAYOUTS)
    WRITERS[layout](tmp_path / "p", KEY, solids())
    row = one_row(tmp_path / "p", dataset, layout, **({} if match == "default" else {"match": match}))
    assert_perfect(row)
    assert row["part_overlap"] < 0.05


@pytest.mark.parametrize("layout", ["midi", "scenegen", "glb", "iscene"])
def test_instances_in_a_wrong_order_score_badly_as_objects_and_hungarian_finds_them(dataset, tmp_path, layout):
    WRITERS[layout](tmp_path / "p", KEY, solids()[::-1])
    row = one_row(tmp_path / "p", dataset, layout)
    assert row["scene_f_score"] == 1
    assert row["object_f_score"] < 0.6
    report = evaluate(tmp_path / "p", dataset, SMALL, reading=reading(layout, match="hungarian"), workers=1)
    assert_perfect(report.rows()[0])
    assert [one.partner for one in report.scenes[0].instances] == [3, 2, 1]


@pytest.mark.parametrize("layout", ["midi", "scenegen", "partcrafter", "iscene", "glb"])
def test_another_up_axis_than_stated_scores_badly(dataset, tmp_path, layout):
    WRITERS[layout](tmp_path / "p", KEY, solids())
    wrong = "Y" if layout == "glb" else "Z"
    row = one_row(tmp_path / "p", dataset, layout, up_axis=wrong)
    assert row["scene_f_score"] < 0.9
    assert row["scene_aabb_iou"] < 0.75


def test_another_frame_than_stated_scores_badly(dataset, tmp_path):
    write_gen3dsr(tmp_path / "p", KEY, solids())
    assert one_row(tmp_path / "p", dataset, "gen3dsr", frame="free", up_axis="Y")["scene_f_score"] < 0.9


@pytest.mark.parametrize("degrees", [37, 143])
def test_a_free_heading_changes_the_boxs_size_and_a_searched_one_does_not(dataset, tmp_path, degrees):
    turned = changed(solids(), similar(np.radians(degrees), 3.0, (1, 2, 3)))
    write_midi(tmp_path / "p", KEY, turned)
    write_scenegen(tmp_path / "p2", KEY, turned)
    assert_perfect(one_row(tmp_path / "p", dataset, "midi"))
    assert_perfect(one_row(tmp_path / "p2", dataset, "scenegen"))
    assert one_row(tmp_path / "p", dataset, "midi", frame="free")["scene_cd_squared"] > 2e-3


def test_world_coordinates_and_a_stated_scale_reach_the_cube(dataset, tmp_path):
    write_glbs(tmp_path / "world", KEY, solids(None))
    assert_perfect(one_row(tmp_path / "world", dataset, "glb", frame="world"))
    write_glbs(tmp_path / "twice", KEY, changed(solids(), lambda v: 2 * v))
    placed = reading("glb", scale=0.5)
    report = evaluate(tmp_path / "twice", dataset, UNALIGNED, reading=placed, workers=1)
    assert report.rows()[0]["scene_f_score"] == 1
    unscaled = evaluate(tmp_path / "twice", dataset, UNALIGNED, reading=reading("glb"), workers=1)
    assert unscaled.rows()[0]["scene_f_score"] < 0.9


def test_a_camera_prediction_stands_in_the_cube_without_any_alignment(dataset, tmp_path):
    write_gen3dsr(tmp_path / "p", KEY, solids())
    for match in ("hungarian", "id"):
        report = evaluate(tmp_path / "p", dataset, UNALIGNED, reading=reading("gen3dsr", match=match), workers=1)
        assert report.rows()[0]["scene_f_score"] == 1
    # Its numbers count from 0 in its own order, which is not that of the masks here.
    assert report.rows()[0]["object_f_score"] < 0.6
    path = tmp_path / "p" / KEY / "cam_params.json"
    pose = np.eye(4)
    pose[:3, 3] = [3, 1, -2]
    path.write_text(json.dumps({"c2w": pose.tolist()}))
    for file in (tmp_path / "p" / KEY / "reconstruction").glob("*.glb"):
        file.write_bytes(glb_of(*[(m.vertices + pose[:3, 3], m.faces) for m in read_glb_geometries(file)]))
    report = evaluate(tmp_path / "p", dataset, UNALIGNED, reading=reading("gen3dsr"), workers=1)
    assert report.rows()[0]["scene_f_score"] == 1
    path.write_text("{}")
    with pytest.raises(PredictionError, match=r"cam_params\.json"):
        evaluate(tmp_path / "p", dataset, UNALIGNED, reading=reading("gen3dsr"), workers=1)


def test_other_meshes_of_iscene_need_an_up_axis_and_faces(dataset, tmp_path):
    for kind in ("ply", "obj"):
        folder = tmp_path / kind / KEY
        folder.mkdir(parents=True)
        for number, (vertices, faces) in enumerate(solids(), start=1):
            trimesh.Trimesh(vertices, faces, process=False).export(folder / f"instance_{number:02d}.{kind}")
        (folder / "instance_01_scene_rgb.png").write_bytes(b"not ours")
        assert_perfect(one_row(tmp_path / kind, dataset, "iscene", up_axis="Z"))
        with pytest.raises(PredictionError, match="does not say which axis is up; give --up-axis"):
            one_row(tmp_path / kind, dataset, "iscene")
    trimesh.PointCloud(solids()[0][0]).export(tmp_path / "ply" / KEY / "instance_02.ply")
    with pytest.raises(PredictionError, match="holds points and no faces"):
        one_row(tmp_path / "ply", dataset, "iscene", up_axis="Z")


@pytest.mark.parametrize("problem", ["missing", "nan_mesh", "zero_area"])
def test_an_instance_without_geometry_is_penalised_and_named(dataset, tmp_path, problem):
    write_iscene(tmp_path / "p", KEY, solids())
    path = tmp_path / "p" / KEY / "instance_02.glb"
    path.unlink()
    if problem != "missing":
        write_atomic(path, glb_of(NAN if problem == "nan_mesh" else FAILED))
    row = one_row(tmp_path / "p", dataset, "iscene")
    assert (row["n_missing"], row["problems"]) == (1, f"2:{problem}")
    assert row["object_f_score"] == pytest.approx(2 / 3)
    assert row["scene_f_score"] < 0.95


def test_an_empty_mesh_keeps_its_place_in_the_order(dataset, tmp_path):
    parts = changed(solids(), y_up)
    parts[1] = (np.array([[0.0, 0, 0], [0.1, 0, 0]]), np.zeros((0, 3), np.int64))
    scene = trimesh.Scene()
    for number, (vertices, faces) in enumerate(parts):
        shown = trimesh.PointCloud(vertices) if number == 1 else trimesh.Trimesh(vertices, faces, process=False)
        scene.add_geometry(shown)
    write_atomic(tmp_path / "p" / f"{KEY}.glb", scene.export(file_type="glb"))
    row = one_row(tmp_path / "p", dataset, "midi")
    assert (row["n_missing"], row["problems"]) == (1, "2:empty_mesh")


def test_a_failed_part_leaves_an_instance_missing_and_is_named(dataset, tmp_path):
    write_partcrafter(tmp_path / "p", KEY, solids())
    write_atomic(tmp_path / "p" / KEY / "part_00.glb", glb_of(FAILED))
    row = one_row(tmp_path / "p", dataset, "partcrafter")
    # Part 0 would have been instance 2.
    assert (row["n_missing"], row["problems"], row["unusable"], row["surplus"]) == (1, "2:missing", "1:zero_area", 0)
    assert row["object_f_score"] < 0.7


def test_surplus_instances_are_counted_and_stay_in_the_scene(dataset, tmp_path):
    far = changed([solids()[1]], lambda v: np.add(v, [0, 0, 0.45]))
    write_partcrafter(tmp_path / "p", KEY, [*solids(), *far])
    report = evaluate(tmp_path / "p", dataset, SMALL, reading=reading("partcrafter"), workers=1)
    row = report.rows()[0]
    assert (row["n_missing"], row["surplus"], row["n_instances"]) == (0, 1, 3)
    assert row["scene_f_score"] < 0.97
    assert json.loads(report.to_json())["n_surplus_instances"] == 1
    paths = write_worst_cases(report, tmp_path / "p", dataset, tmp_path / "worst", 1, size=60)
    assert [path.name for path in paths] == [f"01_{KEY}.png"]


def test_fewer_instances_than_the_truth_leave_the_others_missing(dataset, tmp_path):
    write_midi(tmp_path / "p", KEY, solids()[:2])
    row = one_row(tmp_path / "p", dataset, "midi", match="hungarian")
    assert (row["n_missing"], row["problems"], row["surplus"]) == (1, "3:missing", 0)


@pytest.mark.parametrize("layout", ["midi", "scenegen", "glb"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_count_is_refused_where_order_is_all_that_tells(dataset, tmp_path, layout, count):
    WRITERS[layout](tmp_path / "p", KEY, [*solids(), solids()[0]][:count])
    with pytest.raises(PredictionError, match=f"has {count} instances, the truth 3; .*--match hungarian") as caught:
        one_row(tmp_path / "p", dataset, layout)
    assert "\n" not in str(caught.value)


def test_ids_that_the_truth_does_not_have_are_refused(dataset, tmp_path):
    write_iscene(tmp_path / "p", KEY, [*solids(), solids()[0]])
    with pytest.raises(PredictionError, match="names instance 4, the truth has 1 to 3"):
        one_row(tmp_path / "p", dataset, "iscene")


def test_an_instance_or_a_scene_that_is_there_twice_is_refused(dataset, tmp_path):
    write_iscene(tmp_path / "p", KEY, solids())
    write_atomic(tmp_path / "p" / KEY / "instance_002.glb", glb_of(solids()[1]))
    with pytest.raises(PredictionError, match=r"one instance twice, as instance_002\.glb and instance_02\.glb"):
        one_row(tmp_path / "p", dataset, "iscene")
    for layout in ("midi", "glb"):
        WRITERS[layout](tmp_path / layout, KEY, solids())
        write_scenegen(tmp_path / layout, KEY, solids())
        with pytest.raises(PredictionError, match=f"{KEY} both as a file and as a folder"):
            one_row(tmp_path / layout, dataset, layout)


@pytest.mark.parametrize("layout", WRITERS)
def test_a_link_out_of_the_folder_is_refused(dataset, tmp_path, layout):
    WRITERS[layout](tmp_path / "p", KEY, solids())
    some = next(path for path in sorted((tmp_path / "p").rglob("*.glb")) if path.name not in ("object.glb",))
    shutil.copy(some, tmp_path / "outside.glb")
    for target in ("outside.glb", "nowhere.glb"):
        some.unlink()
        some.symlink_to(tmp_path / target)
        with pytest.raises(PredictionError, match="is a link"):
            one_row(tmp_path / "p", dataset, layout)


def test_a_folder_that_is_a_link_is_refused(dataset, tmp_path):
    write_iscene(tmp_path / "elsewhere", KEY, solids())
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / KEY).symlink_to(tmp_path / "elsewhere" / KEY)
    with pytest.raises(PredictionError, match="lies behind one"):
        one_row(tmp_path / "p", dataset, "iscene")


@pytest.mark.parametrize("layout", WRITERS)
def test_a_cut_file_is_refused_before_anything_is_scored(dataset, tmp_path, layout):
    WRITERS[layout](tmp_path / "p", KEY, solids())
    some = next(path for path in sorted((tmp_path / "p").rglob("*.glb")) if path.name not in ("object.glb",))
    some.write_bytes(some.read_bytes()[:-9])
    with pytest.raises(PredictionError, match="cut off"):
        evaluate(tmp_path / "p", dataset, SMALL, reading=reading(layout), progress=lambda *state: pytest.fail("scored"))


def test_a_scene_of_another_dataset_or_no_scene_is_refused(dataset, tmp_path):
    write_scenegen(tmp_path / "p", "000099_000", solids())
    with pytest.raises(DatasetError, match="no sample 000099_000"):
        one_row(tmp_path / "p", dataset, "scenegen")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictionError, match=r"no scene in the layout midi \(KEY.glb or KEY/output.glb\)"):
        one_row(tmp_path / "empty", dataset, "midi")
    with pytest.raises(PredictionError, match="no folder of predictions"):
        one_row(tmp_path / "nowhere", dataset, "midi")


def test_a_scene_folder_without_instances_scores_as_failed(dataset, tmp_path):
    (tmp_path / "p" / KEY).mkdir(parents=True)
    row = one_row(tmp_path / "p", dataset, "partcrafter")
    assert row["n_missing"] == 3
    assert row["scene_cd_squared"] == penalty(SMALL).cd_squared
    with pytest.raises(PredictionError, match="has 0 instances"):
        one_row(tmp_path / "p", dataset, "midi")


def test_a_camera_frame_needs_a_camera(dataset_source, tmp_path):
    write_gen3dsr(tmp_path / "p", KEY, solids())
    with pytest.raises(PredictionError, match="the truth has no camera"):
        one_row(tmp_path / "p", dataset_source, "gen3dsr")


def test_our_own_predictions_can_be_matched_by_shape(dataset, tmp_path):
    folder = predict(tmp_path / "p")
    path = folder / "prediction.json"
    content = json.loads(path.read_text())
    content["instances"] = [{"id": 5 - entry["id"], "file": entry["file"]} for entry in content["instances"]]
    path.write_text(json.dumps(content))
    with pytest.raises(PredictionError, match="names instance 4"):
        one_row(tmp_path / "p", dataset, "randscene")
    assert_perfect(one_row(tmp_path / "p", dataset, "randscene", match="hungarian"))


STATEMENTS = {
    "an unknown layout": ("mine", {}, "known: randscene, midi"),
    "an unknown match": ("midi", {"match": "nearest"}, "known: id, hungarian"),
    "an unknown frame": ("glb", {"frame": "room", "up_axis": "Y"}, "known: view, world, camera, free, heading"),
    "an unknown up axis": ("midi", {"up_axis": "X"}, "known: Y, Z"),
    "a frame that is not stated": ("glb", {"frame": None, "up_axis": "Y"}, "give --frame"),
    "an up axis that is not stated": ("glb", {"frame": "free", "up_axis": None}, "give --up-axis"),
    "an up axis of a camera": ("gen3dsr", {"up_axis": "Y"}, "leave out the up axis"),
    "a frame of our own": ("randscene", {"frame": "view"}, "state their frame themselves"),
    "a scale without a cube": ("midi", {"scale": 0.5}, "--scale is for the frame view"),
    "no scale": ("iscene", {"scale": 0.0}, "is no length"),
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_what_is_not_known_has_to_be_stated_and_nothing_else(case):
    layout, stated, message = STATEMENTS[case]
    with pytest.raises(SpecError, match=message):
        prediction_reading(layout, **stated)


NONE: dict[str, list[str]] = {option: [] for option in ("--match", "--frame", "--up-axis", "--scale")}


def test_options_hold_for_all_folders_or_for_each():
    once = read_as(["a", "b"], ["randscene", "midi"], NONE | {"--frame": ["world"], "--match": ["hungarian"]})
    assert [one.frame for one in once.values()] == [None, "world"]
    assert [one.match for one in once.values()] == ["hungarian"] * 2
    each = read_as(
        ["a", "b"], ["glb", "iscene"], NONE | {"--frame": ["free", "default"], "--up-axis": ["Z", "default"]}
    )
    assert [(one.frame, one.up_axis) for one in each.values()] == [("free", "Z"), ("view", "Y")]
    with pytest.raises(SpecError, match="--layout was given 2 times for 3 folders"):
        read_as(["a", "b", "c"], ["midi", "glb"], NONE)
    with pytest.raises(SpecError, match="--scale half is no number"):
        read_as(["a"], ["iscene"], NONE | {"--scale": ["half"]})


def test_geometries_come_in_the_order_of_the_file_whatever_their_names(tmp_path):
    some = [(solids()[0][0] + [number, 0, 0], solids()[0][1]) for number in range(12)]
    path = tmp_path / "a.glb"
    path.write_bytes(glb_of(*some))
    found = [mesh.vertices[:, 0].mean() for mesh in read_glb_geometries(path)]
    np.testing.assert_allclose(np.diff(found), 1, atol=1e-6)


def test_files_come_in_the_order_of_their_numbers(dataset, tmp_path):
    for number, part in enumerate(solids()):
        write_atomic(tmp_path / "p" / KEY / f"{9 + number}.glb", glb_of(part))
    assert_perfect(one_row(tmp_path / "p", dataset, "glb"))


def test_a_node_of_several_primitives_is_one_geometry_the_same_at_each_reading(tmp_path):
    path = tmp_path / "a.glb"
    path.write_bytes(glb_of(*solids()))
    header = glb_header(path)
    first, second, third = header["meshes"]
    header["meshes"] = [third, {"primitives": first["primitives"] + second["primitives"]}]
    header["nodes"] = [{"mesh": 1, "name": "two"}, {"mesh": 0, "name": "two"}]
    header["scenes"] = [{"nodes": [0, 1]}]
    content = path.read_bytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + struct.unpack_from("<I", content, 12)[0] :]
    path.write_bytes(
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    )
    alone, both = read_glb_geometries(path)
    np.testing.assert_allclose(alone.vertices, solids()[2][0], atol=1e-6)
    np.testing.assert_allclose(both.vertices, np.concatenate([part[0] for part in solids()[:2]]), atol=1e-6)
    assert [len(mesh.faces) for mesh in (alone, both)] == [12, 24]
    assert list(read_glb(path)) == ["two"]
    for _ in range(3):
        np.testing.assert_array_equal(read_glb(path)["two"].vertices, read_glb(path)["two"].vertices)


def test_the_command_compares_methods_of_different_layouts(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "iscene", SMALL)
    predict(tmp_path / "ours")
    write_midi(tmp_path / "midi", KEY, solids())
    write_partcrafter(tmp_path / "parts", KEY, solids())
    app = typer.Typer()
    app.command()(command)
    arguments = ["--layout", "randscene", "--layout", "midi", "--layout", "partcrafter", "--by-split", "--worst", "1"]
    arguments += ["--frame", "default", "--frame", "free", "--frame", "default"]
    folders = [str(tmp_path / name) for name in ("ours", "midi", "parts")]
    done = CliRunner().invoke(
        app, [*folders, "--dataset", str(dataset), "--out", str(tmp_path / "out"), "--workers", "1", *arguments]
    )
    assert done.exit_code == 0, done.output
    for name, layout in (("ours", "randscene"), ("midi", "midi"), ("parts", "partcrafter")):
        content = json.loads((tmp_path / "out" / "iscene" / name / "scores.json").read_text())
        assert content["predictions"]["layout"] == layout
        assert content["means"]["object_f_score"] == 1
    assert "By split." in (tmp_path / "out" / "iscene" / "table.md").read_text()
    assert "midi: scenes that look another way than the truth" in done.output
    assert "ours: scenes that" not in done.output and "parts: scenes that" not in done.output
