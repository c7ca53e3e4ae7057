"""Evaluation of prediction folders: good ones score well, bad ones are penalised or refused, none is dropped."""

import csv
import dataclasses
import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from randscene import canonical_json
from randscene.errors import DatasetError, PredictionError, SpecError
from randscene.files import write_atomic
from randscene.generator.scene_glb import scene_glb
from randscene.shards import ViewSample, encode_members, write_shard
from randscene.shards.sample_codec import npz_bytes
from randscene.train.evaluate import evaluate, score_scene
from randscene.train.ground_truth import ground_truth, read_ground_truth
from randscene.train.metrics import chamfer
from randscene.train.prediction_reader import read_prediction
from randscene.train.protocols import ISCENE, PROTOCOLS, load_protocol
from randscene.train.scene_scores import penalty
from randscene.train.triangle_mesh import TriangleMesh, face_areas, read_glb, sample_surface

SMALL = dataclasses.replace(ISCENE, points_per_object=1500)
SCENE = 7
KEYS = ("000007_000", "000007_001")
BOXES = (((0.0, 0.0, 0.2), (1.6, 0.9, 0.4)), ((0.5, 0.1, 0.7), (0.3, 0.5, 0.6)), ((-1.1, 0.9, 0.15), (0.4, 0.2, 0.3)))
"""Centre and sides in world metres, Z-up."""


def box(centre, sides) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.box(sides)
    return np.asarray(mesh.vertices) + centre, np.asarray(mesh.faces)


def about_z(angle: float) -> np.ndarray:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


def moved(transform: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    return vertices @ transform[:3, :3].T + transform[:3, 3]


def view_frame(view: int) -> np.ndarray:
    """World to cube: turned by an angle of the view's own, then centred and scaled by the scene's box."""
    turn = about_z(0.4 + 1.3 * view)
    points = np.concatenate([moved(turn, box(*one)[0]) for one in BOXES])
    low, high = points.min(axis=0), points.max(axis=0)
    frame = turn / (high - low).max()
    frame[:3, 3] = -(low + high) / 2 / (high - low).max()
    frame[3] = [0, 0, 0, 1]
    return frame


def voxels(vertices: np.ndarray) -> np.ndarray:
    mesh = TriangleMesh(vertices=vertices, faces=box(*BOXES[0])[1])
    points = sample_surface(mesh, 20_000, np.random.default_rng(0))
    return np.unique(np.clip((points + 0.5) * 64, 0, 63).astype(np.uint8), axis=0)


def sample_of(view: int) -> ViewSample:
    grids = [voxels(moved(view_frame(view), box(*one)[0])) for one in BOXES]
    ids = np.zeros((8, 8), np.uint8)
    ids[:3, 0] = [1, 2, 3]
    meta = {
        "schema": 1,
        "scene": SCENE,
        "view": view,
        "split": "val",
        "frame": "yaw",
        "world_to_view": view_frame(view).tolist(),
        "instances": [{"uid": f"box-{number}", "visible_pixels": 1} for number in (1, 2, 3)],
        "fingerprint": "f00d",
    }
    return ViewSample(
        rgb=np.zeros((8, 8, 3), np.uint8),
        ids=ids,
        coords=np.concatenate(grids),
        offsets=np.cumsum([0, *map(len, grids)]).astype(np.int32),
        meta=meta,
    )


@pytest.fixture(scope="module")
def dataset_source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("truth") / "dataset"
    members = [(sample.key, encode_members(sample)) for sample in map(sample_of, (0, 1))]
    header = {"split": "val", "block": 0, "scenes": [SCENE], "attempts": {str(SCENE): 0}, "fingerprint": "f00d"}
    write_shard(root / "shards" / "val-000000.tar", members, header=header)
    info = {
        "schema": 1,
        "name": "boxes",
        "fingerprint": "f00d",
        "splits": {"val": {"scenes": 1, "samples": 2, "shards": 1}},
        "complete": True,
    }
    write_atomic(root / "dataset.json", canonical_json.dumps(info))
    write_atomic(root / "scenes" / f"{SCENE:06d}.glb", scene_glb([box(*one) for one in BOXES]))
    return root


@pytest.fixture
def dataset(dataset_source, tmp_path) -> Path:
    return Path(shutil.copytree(dataset_source, tmp_path / "dataset"))


def predict(root: Path, view: int = 0, change=None, about=None, meshes=None, occupancy: bool = False) -> Path:
    """Write a prediction: the truth, its vertices passed through `change`, its json's fields replaced by `about`."""
    folder = root / KEYS[view]
    folder.mkdir(parents=True)
    entries, grids = [], []
    for number, one in enumerate(BOXES, start=1):
        vertices, faces = box(*one)
        vertices = moved(view_frame(view), vertices)
        vertices = vertices if change is None else change(vertices)
        override = (meshes or {}).get(number, "keep")
        name = f"instance_{number:02d}.glb"
        if override is None:
            entries.append({"id": number, "file": None, "n_voxels": 0})
            grids.append(np.zeros((0, 3), np.uint8))
            continue
        if override == "keep":
            write_atomic(folder / name, scene_glb([(vertices, faces)]))
        else:
            write_atomic(folder / name, override)
        grids.append(voxels(vertices))
        entries.append({"id": number, "file": name, "n_voxels": len(grids[-1])})
    content = {
        "schema": 1,
        "key": KEYS[view],
        "scene": SCENE,
        "view": view,
        "frame": "yaw",
        "up_axis": "Y",
        "world_to_view": view_frame(view).tolist(),
        "instances": entries,
        "checkpoint": "none",
        "steps": 25,
        "cfg": 3.0,
        "seconds": 1.5,
    }
    write_atomic(folder / "prediction.json", json.dumps(content | (about or {})))
    if occupancy:
        offsets = np.cumsum([0, *map(len, grids)]).astype(np.int32)
        np.savez(folder / "occupancy.npz", coords=np.concatenate(grids), offsets=offsets)
    return folder


def glb_of(vertices, faces) -> bytes:
    return trimesh.Trimesh(vertices, faces, process=False).export(file_type="glb")


def one_row(predictions: Path, dataset: Path, **settings) -> dict:
    report = evaluate(predictions, dataset, SMALL, workers=1, **settings)
    assert len(report.scenes) == 1
    return report.rows()[0]


def test_a_perfect_prediction_scores_sampling_noise(dataset, tmp_path):
    predict(tmp_path / "p", occupancy=True)
    report = evaluate(tmp_path / "p", dataset, workers=1)
    row = report.rows()[0]
    # Two independent draws of 20,480 points an object on the same surface.
    assert row["scene_cd_squared"] < 2e-4
    assert row["scene_cd_unsquared"] < 0.02
    assert row["object_cd_squared"] < 2e-4
    assert row["object_realigned_cd_squared"] < 1e-3
    for level in ("scene", "object", "object_matched", "object_realigned"):
        assert row[f"{level}_f_score"] == 1
        assert row[f"{level}_aabb_iou"] > 0.97
    assert row["voxel_iou"] == row["object_voxel_iou"] == 1
    assert (row["n_missing"], row["problems"], row["fell_back"]) == (0, "", False)
    assert row["prediction_seconds"] == 1.5
    assert report.protocol is ISCENE


@pytest.mark.parametrize("degrees", [37, 112, -165])
def test_a_turned_and_shifted_prediction_is_aligned_back(dataset, tmp_path, degrees):
    motion = about_z(np.radians(degrees))
    motion[:3, 3] = [0.1, -0.05, 0.07]
    predict(tmp_path / "p", change=lambda vertices: moved(motion, vertices), occupancy=True)
    row = one_row(tmp_path / "p", dataset)
    assert row["scene_cd_squared"] < 1e-3
    assert row["scene_f_score"] == 1
    assert row["object_aabb_iou"] > 0.9
    assert row["voxel_iou"] < 0.6  # voxels are compared where they stand


def test_a_uniformly_smaller_prediction_is_judged_after_recentring(dataset, tmp_path):
    predict(tmp_path / "p", change=lambda vertices: 0.7 * vertices)
    row = one_row(tmp_path / "p", dataset)
    assert row["normalisation"] == "recentred"
    assert row["scene_cd_squared"] < 1e-3


def test_a_wrong_shape_scores_worse(dataset, tmp_path):
    predict(tmp_path / "p", change=lambda vertices: vertices * [1, 1, 0.3])
    row = one_row(tmp_path / "p", dataset)
    assert row["scene_cd_squared"] > 5e-3
    assert row["scene_f_score"] < 1
    assert row["scene_aabb_iou"] < 0.7


BROKEN = {
    "missing": None,
    "empty_mesh": trimesh.Trimesh().export(file_type="glb"),
    "nan_mesh": glb_of(np.where(np.arange(9).reshape(3, 3) == 4, np.nan, 0.1), [[0, 1, 2]]),
    "zero_area": glb_of(np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0.0]]), [[0, 1, 2]]),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_an_instance_without_geometry_is_penalised_and_named(dataset, tmp_path, problem):
    predict(tmp_path / "p", meshes={2: BROKEN[problem]})
    row = one_row(tmp_path / "p", dataset)
    stated = penalty(SMALL)
    assert (row["n_instances"], row["n_missing"], row["problems"]) == (3, 1, f"2:{problem}")
    assert row["object_matched_f_score"] == 1
    assert row["object_f_score"] == pytest.approx(2 / 3)
    assert row["object_cd_squared"] == pytest.approx((2 * row["object_matched_cd_squared"] + stated.cd_squared) / 3)
    assert row["object_cd_unsquared"] == pytest.approx(
        (2 * row["object_matched_cd_unsquared"] + stated.cd_unsquared) / 3
    )
    assert row["object_realigned_f_score"] == pytest.approx(2 / 3, abs=0.02)
    # The scene is short of one box: precision stays, recall falls.
    assert row["scene_f_score"] < 0.95


def test_where_instances_stand_is_told_apart_from_their_shape(dataset, tmp_path):
    predict(tmp_path / "right")
    row = one_row(tmp_path / "right", dataset)
    assert row["centre_error"] < 0.03 and row["yaw_error_deg"] == 0 and row["duplicate_rate"] is None
    # The third box is shown where the second one stands.
    vertices, faces = box(*BOXES[2])
    there = moved(view_frame(0), vertices + (box(*BOXES[1])[0].mean(axis=0) - vertices.mean(axis=0)))
    predict(tmp_path / "wrong", meshes={3: scene_glb([(there, faces)])})
    assert one_row(tmp_path / "wrong", dataset)["centre_error"] > 0.1


@pytest.mark.parametrize("equal", [False, True])
def test_equal_objects_in_one_place_are_counted_as_duplicates(dataset_source, tmp_path, equal):
    root = Path(shutil.copytree(dataset_source, tmp_path / "dataset"))
    sample = sample_of(0)
    for number, instance in enumerate(sample.meta["instances"]):
        instance["uid"] = "box" if equal else f"box-{number}"
    truth = dataclasses.replace(ground_truth(sample, root), glb=root / "scenes" / f"{SCENE:06d}.glb")
    faces = box(*BOXES[0])[1]
    one = scene_glb([(moved(view_frame(0), box(*BOXES[0])[0]), faces)])
    predict(tmp_path / "p", meshes={1: one, 2: one, 3: one})
    unaligned = dataclasses.replace(SMALL, registration=None, normalisations=("fixed_range",))
    scores = score_scene(truth, read_prediction(tmp_path / "p" / KEYS[0]), unaligned)
    assert scores.duplicate_rate == (1 if equal else None)


def test_a_prediction_in_canonical_space_is_moved_into_the_truths_frame(dataset, tmp_path):
    from randscene.train.triangle_mesh import cube_transform

    world = np.concatenate([box(*one)[0] for one in BOXES])
    canonical = cube_transform(world, np.eye(3))
    back = canonical @ np.linalg.inv(view_frame(0))
    about = {"frame": "canonical", "world_to_view": None, "dataset_fingerprint": "f00d"}
    predict(tmp_path / "p", change=lambda vertices: moved(back, vertices), about=about, occupancy=True)
    unaligned = dataclasses.replace(SMALL, registration=None, normalisations=("fixed_range",))
    row = evaluate(tmp_path / "p", dataset, unaligned, workers=1).rows()[0]
    assert row["scene_f_score"] == row["object_f_score"] == 1 and row["centre_error"] < 0.03
    assert row["voxel_iou"] is None, "its grid is another"
    predict(tmp_path / "not-moved", about=about)
    wrong = evaluate(tmp_path / "not-moved", dataset, unaligned, workers=1).rows()[0]
    assert wrong["scene_f_score"] < 0.9
    predict(tmp_path / "full", about=about | {"frame": "full"})
    with pytest.raises(PredictionError, match="only from canonical space can it be moved"):
        evaluate(tmp_path / "full", dataset, unaligned, workers=1)


def test_an_instance_that_is_not_listed_counts_as_missing(dataset, tmp_path):
    entry = {"id": 2, "file": "instance_02.glb", "n_voxels": 9}
    predict(tmp_path / "p", about={"instances": [entry]})
    row = one_row(tmp_path / "p", dataset)
    assert row["problems"] == "1:missing 3:missing"


def test_no_prediction_can_score_worse_than_leaving_it_out(dataset, tmp_path):
    corner = np.array([[1, 1, 1], [1, 1, 0.999], [1, 0.999, 1.0]])
    other = -corner
    stated = penalty(ISCENE)
    worst = chamfer(corner, other)
    assert worst.squared_sum < stated.cd_squared
    assert worst.unsquared_sum < stated.cd_unsquared


def test_a_prediction_of_nothing_scores_the_penalty_everywhere(dataset, tmp_path):
    predict(tmp_path / "p", meshes={1: None, 2: None, 3: None}, occupancy=True)
    row = one_row(tmp_path / "p", dataset)
    stated = dataclasses.asdict(penalty(SMALL))
    for level in ("scene", "object", "object_realigned"):
        assert {name: row[f"{level}_{name}"] for name in stated} == pytest.approx(stated)
    assert row["object_matched_cd_squared"] is None
    assert row["voxel_iou"] == row["object_voxel_iou"] == 0


def test_a_sample_that_was_not_predicted_counts_when_all_are_required(dataset, tmp_path):
    predict(tmp_path / "p")
    assert len(evaluate(tmp_path / "p", dataset, SMALL, workers=1).scenes) == 1
    report = evaluate(tmp_path / "p", dataset, SMALL, workers=1, require_all=True)
    assert [scene.key for scene in report.scenes] == list(KEYS)
    assert report.n_missing == 3
    assert report.means()["scene_f_score"] == pytest.approx(0.5)


REFUSED = {
    "another frame": ({"frame": "canonical"}, "frame 'canonical'"),
    "another view": ({"world_to_view": np.eye(4).tolist()}, "another world_to_view"),
    "no camera": ({"world_to_view": None}, "no world_to_view"),
    "broken matrix": ({"world_to_view": [[1, 2]]}, "4x4"),
    "another up axis": ({"up_axis": "Z"}, "up_axis is 'Z'"),
    "another schema": ({"schema": 99}, "schema is 99"),
    "another key": ({"key": "000001_000"}, "was the folder renamed"),
    "too many instances": ({"instances": [{"id": 4, "file": None}]}, "names instance 4"),
    "an instance twice": ({"instances": [{"id": 1, "file": None}] * 2}, "instance 1 twice"),
    "a file that is not there": ({"instances": [{"id": 1, "file": "gone.glb"}]}, "gone.glb"),
    "a path that escapes": ({"instances": [{"id": 1, "file": "../../x.glb"}]}, "not the name of a file"),
    "a field that lacks": ({"instances": [{"file": None}]}, "lacks a field"),
    "instances of no sense": ({"instances": 3}, "lacks a field"),
    "a time that is none": ({"seconds": float("nan")}, "seconds is nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_with_one_line(dataset, tmp_path, case):
    about, message = REFUSED[case]
    predict(tmp_path / "p", about=about)
    with pytest.raises(PredictionError, match=message) as caught:
        evaluate(tmp_path / "p", dataset, SMALL, workers=1)
    assert "\n" not in str(caught.value)


def test_broken_folders_are_refused(dataset, tmp_path):
    with pytest.raises(PredictionError, match="no folder of predictions"):
        evaluate(tmp_path / "nowhere", dataset, SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictionError, match="holds no prediction"):
        evaluate(tmp_path / "empty", dataset, SMALL)
    folder = predict(tmp_path / "p")
    (folder / "prediction.json").write_text("{")
    with pytest.raises(PredictionError, match="cannot be read"):
        evaluate(tmp_path / "p", dataset, SMALL)
    (folder / "prediction.json").unlink()
    with pytest.raises(PredictionError, match="not finished"):
        evaluate(tmp_path / "p", dataset, SMALL)


def test_a_cut_or_foreign_mesh_file_is_refused_before_anything_is_scored(dataset, tmp_path):
    folder = predict(tmp_path / "p")
    mesh = folder / "instance_02.glb"
    whole = mesh.read_bytes()
    odd = json.dumps({"buffers": None}).encode()
    odd += b" " * (-len(odd) % 4)
    no_gltf = struct.pack("<4sIIII", b"glTF", 2, 20 + len(odd), len(odd), 0x4E4F534A) + odd
    for data, message in (
        (whole[:-9], "cut off"),
        (b"solid nothing but text here", "not a GLB"),
        (b"", "not a GLB"),
        (no_gltf, "is no glTF"),
    ):
        mesh.write_bytes(data)
        with pytest.raises(PredictionError, match=message):
            evaluate(tmp_path / "p", dataset, SMALL, progress=lambda done, total: pytest.fail("scored"))


def test_a_link_out_of_the_folder_is_refused(dataset, tmp_path):
    folder = predict(tmp_path / "p")
    outside = tmp_path / "outside.glb"
    (folder / "instance_02.glb").rename(outside)
    (folder / "instance_02.glb").symlink_to(outside)
    with pytest.raises(PredictionError, match=r"instance_02\.glb"):
        evaluate(tmp_path / "p", dataset, SMALL)


def test_voxels_that_do_not_fit_are_refused(dataset, tmp_path):
    folder = predict(tmp_path / "p", occupancy=True)
    for wrong in (
        {"coords": np.zeros((4, 3), np.uint8), "offsets": np.array([0, 2, 4])},
        {"coords": np.zeros((4, 3)), "offsets": np.array([0, 1, 2, 4])},
        {"coords": np.full((4, 3), 64, np.uint8), "offsets": np.array([0, 1, 2, 4])},
        {"coords": np.zeros((4, 3), np.uint8)},
    ):
        np.savez(folder / "occupancy.npz", **wrong)
        with pytest.raises(PredictionError, match=r"occupancy\.npz"):
            evaluate(tmp_path / "p", dataset, SMALL, workers=1)


def test_voxels_that_do_not_unpack_are_refused_in_one_line(dataset, tmp_path):
    path = predict(tmp_path / "p", occupancy=True) / "occupancy.npz"
    with np.load(path) as whole:
        data = bytearray(npz_bytes(dict(whole)))
    data[60:90] = bytes(255 - byte for byte in data[60:90])
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    for broken in (data, alone.getvalue(), b""):
        path.write_bytes(broken)
        with pytest.raises(PredictionError, match=r"occupancy\.npz is not a readable"):
            evaluate(tmp_path / "p", dataset, SMALL, workers=1)


def test_a_prediction_of_another_dataset_is_refused(dataset, tmp_path):
    folder = predict(tmp_path / "p")
    folder.rename(folder.with_name("000099_000"))
    path = folder.with_name("000099_000") / "prediction.json"
    path.write_text(path.read_text().replace(KEYS[0], "000099_000"))
    with pytest.raises(DatasetError, match="no sample 000099_000"):
        evaluate(tmp_path / "p", dataset, SMALL)


def test_ground_truth_stands_in_the_cube_of_its_view(dataset):
    for view, truth in enumerate(read_ground_truth(dataset)):
        meshes = truth.meshes()
        for mesh, one in zip(meshes, BOXES, strict=True):
            np.testing.assert_allclose(mesh.vertices, moved(view_frame(view), box(*one)[0]), atol=1e-6)
        assert np.abs(np.concatenate([mesh.vertices for mesh in meshes])).max() == pytest.approx(0.5, abs=1e-6)


def test_broken_ground_truth_is_refused(dataset, tmp_path):
    predict(tmp_path / "p")
    glb = dataset / "scenes" / f"{SCENE:06d}.glb"
    write_atomic(glb, scene_glb([box(*one) for one in BOXES[:2]]))
    with pytest.raises(DatasetError, match="not of one scene"):
        evaluate(tmp_path / "p", dataset, SMALL, workers=1)
    tipped = [(vertices[:, [0, 2, 1]], faces) for vertices, faces in (box(*one) for one in BOXES)]
    write_atomic(glb, scene_glb(tipped))
    with pytest.raises(DatasetError, match="does not fill the cube"):
        evaluate(tmp_path / "p", dataset, SMALL, workers=1)
    glb.unlink()
    with pytest.raises(DatasetError, match="made for evaluation"):
        evaluate(tmp_path / "p", dataset, SMALL, workers=1)


def test_the_scores_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    for view in (0, 1):
        predict(tmp_path / "p", view, change=lambda vertices: 0.95 * vertices, occupancy=True)
    seen = []
    alone = evaluate(tmp_path / "p", dataset, SMALL, workers=1)
    shared = evaluate(tmp_path / "p", dataset, SMALL, workers=2, progress=lambda *state: seen.append(state))
    assert alone.to_json() == shared.to_json()
    assert seen == [(1, 2), (2, 2)]


def test_json_and_csv_hold_every_scene(dataset, tmp_path):
    predict(tmp_path / "p", 0)
    predict(tmp_path / "p", 1, meshes={1: None})
    report = evaluate(tmp_path / "p", dataset, SMALL, workers=1)
    json_path, csv_path = report.write(tmp_path / "scores")
    content = json.loads(json_path.read_text())
    assert [scene["key"] for scene in content["scenes"]] == list(KEYS)
    assert (content["n_scenes"], content["n_instances"], content["n_missing_instances"]) == (2, 6, 1)
    assert content["protocol"]["registration"]["voxel"] == 0.03
    assert content["scenes"][1]["instances"][0]["problem"] == "missing"
    rows = list(csv.DictReader(io.StringIO(csv_path.read_text())))
    assert [row["key"] for row in rows] == list(KEYS)
    mean = np.mean([float(row["scene_cd_squared"]) for row in rows])
    assert content["means"]["scene_cd_squared"] == pytest.approx(mean)
    assert rows[0]["voxel_iou"] == ""


def test_an_unknown_protocol_is_named_with_the_known_ones():
    with pytest.raises(SpecError, match="iscene"):
        load_protocol("mine")
    assert set(PROTOCOLS) >= {"iscene"}


def test_the_command_prints_percent_and_writes_the_files(dataset, tmp_path, monkeypatch):
    import typer

    from randscene.cli.evaluate import evaluate as command

    monkeypatch.setitem(PROTOCOLS, "iscene", SMALL)
    predict(tmp_path / "p", meshes={2: None})
    app = typer.Typer()
    app.command()(command)
    arguments = [str(tmp_path / "p"), "--dataset", str(dataset), "--out", str(tmp_path / "scores"), "--workers", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "66.67" in done.output
    assert "1 of 3 instances have no predicted mesh" in done.output
    assert (tmp_path / "scores" / "scores.json").is_file()


def test_surface_points_lie_on_the_surface_evenly_and_by_seed():
    vertices, faces = box((0, 0, 0), (2.0, 1.0, 0.5))
    mesh = TriangleMesh(vertices=vertices, faces=faces)
    points = sample_surface(mesh, 40_000, np.random.default_rng(1))
    assert np.isclose(np.abs(points / [1.0, 0.5, 0.25]).max(axis=1), 1).all()
    top = np.isclose(points[:, 2], 0.25).mean()
    assert top == pytest.approx(2.0 / face_areas(mesh).sum(), abs=0.01)
    on_top = points[np.isclose(points[:, 2], 0.25)]
    assert np.histogram2d(on_top[:, 0], on_top[:, 1], bins=4)[0].std() / (len(on_top) / 16) < 0.1
    assert np.array_equal(points, sample_surface(mesh, 40_000, np.random.default_rng(1)))


def test_glb_nodes_are_placed_and_turned_z_up(tmp_path):
    scene = trimesh.Scene()
    place = np.eye(4)
    place[:3, 3] = [1, 2, 3]
    scene.add_geometry(trimesh.creation.box((0.2, 0.2, 0.2)), node_name="a", geom_name="a", transform=place)
    path = tmp_path / "a.glb"
    path.write_bytes(scene.export(file_type="glb"))
    np.testing.assert_allclose(read_glb(path)["a"].vertices.mean(axis=0), [1, -3, 2], atol=1e-6)
