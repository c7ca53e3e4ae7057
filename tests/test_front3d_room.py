"""One room of MIDI's 3D-FRONT: its samples are what its geometry says, and what does not fit together is refused."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from front3d_fixtures import (
    HOUSE,
    SIDE,
    WrittenRoom,
    cameras,
    furniture,
    placed,
    write_front3d,
    write_lists,
    write_room,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ray_fixtures import box

from randscene.errors import AssetError, DatasetError
from randscene.generator import voxelize, world_to_view
from randscene.generator.front3d_axes import Y_UP, Z_UP, Reading, all_axes, pixel_values, rotation, turned
from randscene.generator.front3d_cameras import look_at_point, read_views
from randscene.generator.front3d_images import read_semantic
from randscene.generator.front3d_layout import (
    Front3dFolder,
    Room,
    default_splits,
    find_lists,
    parse_splits,
    read_lists,
)
from randscene.generator.front3d_probe import find_reading
from randscene.generator.front3d_room import ImportedRoom, import_room
from randscene.generator.front3d_settings import LICENCE, Front3dSettings
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Camera
from randscene.generator.scene_maker import SceneFailedError
from randscene.generator.view_centric import apply_transform
from randscene.manifests import commercial_safe
from randscene.shards.view_sample import ViewSample, encode_members

SETTINGS = Front3dSettings(resolution=SIDE)
GLTF = Reading(axes=Y_UP, numbering="position")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, list[WrittenRoom]]:
    root = tmp_path_factory.mktemp("3d-front")
    return root, write_front3d(root, rooms=2)


@pytest.fixture
def copy(source, tmp_path) -> tuple[Path, list[WrittenRoom]]:
    root, rooms = source
    shutil.copytree(root, tmp_path / "3d-front")
    return tmp_path / "3d-front", rooms


def room_of(written: WrittenRoom, scene: int = 0) -> Room:
    return Room(scene=scene, split="train", room_id=written.room_id, furniture=tuple(written.names))


def imported(root: Path, written: WrittenRoom, *, reading: Reading = GLTF, **changes) -> ImportedRoom:
    return import_room(Front3dFolder(root), room_of(written), reading, replace(SETTINGS, **changes), "f" * 64)


def samples(root: Path, written: WrittenRoom, **changes) -> list[ViewSample]:
    return list(imported(root, written, **changes).samples)


def failure(root: Path, written: WrittenRoom, **changes) -> SceneFailedError:
    with pytest.raises(SceneFailedError) as caught:
        imported(root, written, **changes)
    assert written.room_id in str(caught.value) or caught.value.reason == "unsafe_path"
    assert str(root) not in str(caught.value)
    return caught.value


def test_samples_are_what_the_geometry_says(source):
    root, rooms = source
    for written in rooms:
        made = samples(root, written)
        assert len(made) == len(written.cameras)
        rays = RayScene(written.meshes)
        vertices = np.concatenate([mesh.vertices for mesh in written.meshes])
        middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        for number, (sample, camera) in enumerate(zip(made, written.cameras)):
            assert np.array_equal(sample.ids, written.ids[number])
            meta = sample.meta
            assert (meta["view"], meta["scene"], meta["split"]) == (number, 0, "train")
            assert np.allclose(meta["camera_to_world"], camera.camera_to_world, atol=1e-12)
            assert meta["fov_deg"] == pytest.approx(camera.fov_deg, abs=1e-9)
            assert np.allclose(meta["look_at"], look_at_point(camera, middle), atol=1e-6)
            expected = world_to_view(np.asarray(camera.camera_to_world), np.asarray(meta["look_at"]), vertices)
            assert np.allclose(sample.world_to_view, expected, atol=1e-6)
            for place, mesh in enumerate(written.meshes):
                # A file holds 32-bit coordinates: a voxel whose side a vertex just touches may differ.
                cubes = voxelize(apply_transform(expected, mesh.vertices), mesh.faces)
                ours, theirs = (set(map(tuple, grid)) for grid in (sample.instance_coords(place + 1), cubes))
                assert len(ours ^ theirs) <= 0.01 * len(theirs)
                item = meta["instances"][place]
                assert item["visible_pixels"] == (written.ids[number] == place + 1).sum() > 0
                assert item["unoccluded_pixels"] >= item["visible_pixels"]
                assert abs(item["unoccluded_pixels"] - rays.unoccluded_pixels(camera, SIDE, place + 1)) <= 2
                assert item["pose"] == np.eye(4).tolist() and item["support_parent"] is None
                assert item["uid"] == f"3d-front/{written.room_id}/{written.names[place]}"


def test_pictures_are_black_but_for_the_kept_objects(source):
    root, rooms = source
    sample = samples(root, rooms[0])[0]
    assert np.array_equal(sample.rgb, rooms[0].pictures[0] * (rooms[0].ids[0] > 0)[..., None])
    kept = samples(root, rooms[0], max_instances=2)[0]
    assert kept.n_instances == 2 and not kept.rgb[kept.ids == 0].any()
    assert (kept.ids > 0).sum() < (sample.ids > 0).sum()


def test_a_camera_in_front_sees_right_as_plus_x_and_away_as_plus_y(source):
    root, rooms = source
    for sample in samples(root, rooms[0]):
        matrix = np.asarray(sample.meta["camera_to_world"])
        turn = sample.world_to_view[:3, :3] / np.cbrt(np.linalg.det(sample.world_to_view[:3, :3]))
        assert np.allclose(turn @ matrix[:3, 0], (1, 0, 0), atol=1e-9)
        ahead = turn @ -matrix[:3, 2]
        assert abs(ahead[0]) < 1e-9 and ahead[1] > 0


def test_the_licence_is_recorded_as_not_for_commercial_use(source):
    root, rooms = source
    item = samples(root, rooms[0])[0].meta["instances"][0]
    assert item["licence"] == LICENCE and "CC-BY-NC-4.0" in LICENCE and not commercial_safe(LICENCE)
    assert "3D-FRONT" in item["attribution"] and "MIDI" in item["attribution"]


@pytest.mark.parametrize(("y_up", "axes"), [(True, Y_UP), (False, Z_UP)])
def test_the_axes_of_the_files_are_found_out(tmp_path, y_up, axes):
    root = tmp_path / "3d-front"
    written = write_front3d(root, rooms=2, y_up=y_up)
    reading, verdicts = find_reading(Front3dFolder(root), [room_of(room) for room in written], SETTINGS)
    assert reading == Reading(axes=axes, numbering="position")
    assert len(verdicts) == 2 and min(verdict.iou for verdict in verdicts) > 0.99
    made = samples(root, written[0], reading=reading)
    assert np.array_equal(made[0].ids, written[0].ids[0])


def test_the_other_reading_is_refused(source):
    root, rooms = source
    assert failure(root, rooms[0], reading=Reading(axes=Z_UP, numbering="position")).reason == "label_mismatch"


def test_a_copy_that_lacks_most_rooms_still_tells_its_axes(source):
    root, rooms = source
    absent = [replace(room_of(rooms[0], n), room_id=f"{HOUSE}/Bedroom-{5000 + n}") for n in range(3000)]
    listed = [*absent[:1234], room_of(rooms[0], 1234), *absent[1234:]]
    assert find_reading(Front3dFolder(root), listed, SETTINGS)[0] == GLTF
    with pytest.raises(DatasetError, match="none of the 3000 rooms listed"):
        find_reading(Front3dFolder(root), absent, SETTINGS)


def test_pixel_values_that_follow_the_names_are_found_out(tmp_path):
    root = tmp_path / "3d-front"
    meshes = placed(furniture(3, tmp_path / "furniture"))
    written = write_room(root, f"{HOUSE}/Bedroom-1", meshes, cameras(3), numbers=[3, 1, 2])
    reading, _ = find_reading(Front3dFolder(root), [room_of(written)], SETTINGS)
    assert reading == Reading(axes=Y_UP, numbering="suffix")
    assert np.array_equal(samples(root, written, reading=reading)[0].ids, written.ids[0])
    assert failure(root, written).reason == "label_mismatch"


def test_rooms_that_either_numbering_reads_alike_do_not_outvote_one_that_tells_them_apart(tmp_path):
    root = tmp_path / "3d-front"
    meshes = placed(furniture(2, tmp_path / "furniture"))
    written = [
        write_room(root, f"{HOUSE}/Bedroom-{number}", meshes, cameras(2), numbers=numbers)
        for number, numbers in enumerate([(1, 2), (1, 2), (2, 1)])
    ]
    rooms = [room_of(room) for room in written]
    assert find_reading(Front3dFolder(root), rooms, SETTINGS)[0] == Reading(axes=Y_UP, numbering="suffix")
    assert find_reading(Front3dFolder(root), rooms[:2], SETTINGS)[0] == GLTF
    assert find_reading(Front3dFolder(root), rooms, SETTINGS, numbering="position")[0] == GLTF


def test_a_wrong_camera_is_refused(copy):
    root, rooms = copy
    meta = root / "3D-FRONT-RENDER" / rooms[0].room_id / "meta.json"
    content = json.loads(meta.read_text())
    for item in content["locations"]:
        item["transform_matrix"][0][3] += 0.8
    meta.write_text(json.dumps(content))
    error = failure(root, rooms[0])
    assert error.reason == "label_mismatch" and "0.90 is needed" in str(error)
    with pytest.raises(DatasetError, match="do not fit together: of 1 rooms") as caught:
        find_reading(Front3dFolder(root), [room_of(rooms[0])], SETTINGS)
    assert "\n" not in str(caught.value)
    # The other room is fine, and decides.
    assert find_reading(Front3dFolder(root), [room_of(room) for room in rooms], SETTINGS)[0] == GLTF


def test_one_wrong_view_is_left_out_and_no_other(copy):
    root, rooms = copy
    meta = root / "3D-FRONT-RENDER" / rooms[0].room_id / "meta.json"
    shutil.copy(meta.with_name("semantic_0001.png"), meta.with_name("semantic_0002.png"))
    made = imported(root, rooms[0])
    assert [sample.meta["view"] for sample in made.samples] == [0, 1]
    assert [(item["view"], item["reason"]) for item in made.record["left_out"]] == [(2, "label_mismatch")]
    shutil.copy(meta.with_name("semantic_0001.png"), meta.with_name("semantic_0000.png"))
    assert failure(root, rooms[0]).reason == "label_mismatch"  # a room that is mostly wrong is not believed at all


def test_a_view_in_which_an_instance_is_hidden_is_no_sample(tmp_path):
    root = tmp_path / "3d-front"
    # The second box stands behind the first as seen from one of the two cameras.
    meshes = [box((0, 0, 0), half=0.5), box((0.9, 0, 0), half=0.2)]
    views = cameras(4, height=0.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], float)  # from -X, looking along +X
    matrix[:3, 3] = (-4, 0, 0)
    hidden = Camera(camera_to_world=tuple(map(tuple, matrix.tolist())), fov_deg=views[0].fov_deg)
    written = write_room(root, f"{HOUSE}/Bedroom-1", meshes, [views[0], hidden])
    made = imported(root, written)
    assert [sample.meta["view"] for sample in made.samples] == [0]
    (left_out,) = made.record["left_out"]
    assert (left_out["view"], left_out["reason"]) == (1, "hidden_instance") and written.names[1] in left_out["message"]
    # MIDI's own rule leaves the object out instead, and its geometry with it.
    both = samples(root, written, skip_small_objects=True)
    assert [sample.n_instances for sample in both] == [2, 1]
    low, high = both[1].scene_coords().min(axis=0), both[1].scene_coords().max(axis=0)
    assert ((high - low) == 63).all()  # a single cube fills the frame


def test_a_room_of_too_many_objects_keeps_the_same_few_in_every_view(source):
    root, rooms = source
    made = samples(root, rooms[0], max_instances=2)
    kept = {tuple(item["uid"] for item in sample.meta["instances"]) for sample in made}
    assert len(kept) == 1 and len(*kept) == 2
    again = samples(root, rooms[0], max_instances=2, seed=5) + samples(root, rooms[0], max_instances=2, seed=2)
    assert len({tuple(item["uid"] for item in sample.meta["instances"]) for sample in again} | kept) > 1


def test_rerendered_views_are_numbered_from_100_and_share_labels(tmp_path):
    root = tmp_path / "3d-front"
    (written,) = write_front3d(root, rooms=1, views=2, rerender=True)
    made = samples(root, written, images=("render", "rerender"))
    assert [sample.key for sample in made] == ["000000_000", "000000_001", "000000_100", "000000_101"]
    assert np.array_equal(made[0].ids, made[2].ids) and np.array_equal(made[0].coords, made[2].coords)
    assert np.array_equal(made[2].rgb[made[2].ids > 0], 255 - made[0].rgb[made[0].ids > 0])
    assert not made[2].rgb[made[2].ids == 0].any()
    assert made[2].meta["source"]["image"] == "rerender_0000.webp" and made[2].meta["engine"] == "midi-rerender"


@pytest.mark.parametrize("resolution", [48, 64, 128])
def test_another_resolution_keeps_pictures_labels_and_cameras_together(source, resolution):
    root, rooms = source
    sample = samples(root, rooms[0], resolution=resolution, min_iou=0.5)[0]
    assert sample.rgb.shape[:2] == sample.ids.shape == (resolution, resolution)
    expected, _ = RayScene(rooms[0].meshes).ids_and_depth(rooms[0].cameras[0], resolution)
    either = (expected > 0) | (sample.ids > 0)
    assert (expected == sample.ids)[either].mean() > 0.85
    assert sample.meta["intrinsics"][0][2] == resolution / 2
    encode_members(sample)


def test_depth_is_the_distance_along_the_camera_axis(source):
    root, rooms = source
    sample = samples(root, rooms[0], depth=True)[0]
    _, depth = RayScene(rooms[0].meshes).ids_and_depth(rooms[0].cameras[0], SIDE)
    code = sample.meta["depth"]
    found = sample.depth * code["scale"] + code["offset"]
    assert np.allclose(found[sample.ids > 0], depth[sample.ids > 0], atol=1e-3)
    assert (sample.depth[sample.ids == 0] == 0).all()


BROKEN = {
    "no meta": ("3D-FRONT-RENDER/{room}/meta.json", None, "missing_file"),
    "bad meta": ("3D-FRONT-RENDER/{room}/meta.json", b"{", "bad_meta"),
    "meta of another kind": ("3D-FRONT-RENDER/{room}/meta.json", b"[]", "bad_meta"),
    "lens of no length": (
        "3D-FRONT-RENDER/{room}/meta.json",
        b'{"camera_lens": 0, "sensor_width": 32, "locations": []}',
        "bad_meta",
    ),
    "no mesh": ("3D-FRONT-SCENE/{room}/{object}.glb", None, "missing_file"),
    "cut mesh": ("3D-FRONT-SCENE/{room}/{object}.glb", b"glTF\2\0\0\0\1\2", "unreadable"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_missing_or_broken_file_of_a_room_is_typed(copy, what):
    root, rooms = copy
    name, content, reason = BROKEN[what]
    path = root / name.format(room=rooms[0].room_id, object=rooms[0].names[1])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    error = failure(root, rooms[0])
    assert error.reason == reason and path.name in str(error)
    assert len(samples(root, rooms[1])) == 3


@pytest.mark.parametrize("name", ["render_0001.webp", "semantic_0001.png"])
@pytest.mark.parametrize("change", ["missing_file", "bad_image", "not_square"])
def test_a_missing_or_broken_picture_costs_its_view_alone(copy, name, change):
    root, rooms = copy
    path = root / "3D-FRONT-RENDER" / rooms[0].room_id / name
    if change == "missing_file":
        path.unlink()
    elif change == "bad_image":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        Image.fromarray(np.array(Image.open(path))[:50]).save(path, lossless=True)
    made = imported(root, rooms[0])
    assert [sample.meta["view"] for sample in made.samples] == [0, 2]
    assert [(item["view"], item["reason"]) for item in made.record["left_out"]] == [(1, change)]
    assert name in made.record["left_out"][0]["message"]


def test_a_room_without_a_sample_is_given_up_for_a_fault_where_there_is_one(tmp_path):
    root = tmp_path / "3d-front"
    nested = [box((0, 0, 0), half=0.5), box((0, 0, 0), half=0.1)]  # the second is never seen
    written = write_room(root, f"{HOUSE}/Bedroom-1", nested, cameras(2))
    picture = root / "3D-FRONT-RENDER" / written.room_id / "semantic_0001.png"
    assert failure(root, written).reason == "no_valid_view"
    picture.unlink()
    assert failure(root, written).reason == "missing_file"


def test_what_may_not_be_read_is_named_without_the_folder(source, monkeypatch):
    root, rooms = source

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(AssetError) as caught:
        read_semantic(root / "3D-FRONT-RENDER" / rooms[0].room_id / "semantic_0001.png")
    assert str(caught.value) == f"{rooms[0].room_id}/semantic_0001.png: Permission denied"
    folder = Front3dFolder(root)
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(AssetError) as caught:
        folder.meta(room_of(rooms[0]))
    assert caught.value.reason == "unreadable" and str(root) not in str(caught.value)


@pytest.mark.parametrize(
    "room_id",
    ["../../etc/passwd", "..", "house", "a/b/c", "/etc/passwd", "a/..", "./b", "a/b\0", "a/b\\c", "", "a/", "~/x:y"],
)
def test_room_ids_never_lead_out_of_the_folder(source, room_id):
    room = Room(scene=0, split="train", room_id=room_id, furniture=("x",))
    folder = Front3dFolder(source[0])
    for reach in (folder.mesh, folder.surface):
        with pytest.raises(AssetError) as caught:
            reach(room, "x")
        assert caught.value.reason == "unsafe_path"
    with pytest.raises(SceneFailedError) as failed:
        import_room(folder, room, GLTF, SETTINGS, "")
    assert failed.value.reason == "unsafe_path"


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "..", "x/y", "x\0", "a" * 300, "C:x", "\\server\\x", "\ud800"]
)
def test_names_of_objects_never_lead_out_of_the_folder(source, name):
    root, rooms = source
    if name == "..":
        (root / "outside.glb").write_bytes(b"")
        name = "../../../outside"
    written = replace(rooms[0], names=[name, *rooms[0].names[1:]])
    assert failure(root, written).reason == "unsafe_path"


def test_a_camera_that_is_no_rigid_motion_is_refused(copy):
    root, rooms = copy
    meta = root / "3D-FRONT-RENDER" / rooms[0].room_id / "meta.json"
    good = json.loads(meta.read_text())
    for matrix in (np.eye(4) * 2, np.diag([1.0, 1, -1, 1]), np.full((4, 4), np.nan), np.eye(3)):
        good["locations"][0]["transform_matrix"] = matrix.tolist()
        meta.write_text(json.dumps(good))
        with pytest.raises(AssetError) as caught:
            read_views(meta)
        assert caught.value.reason in ("bad_camera", "bad_meta")
    del good["camera_angle_x"]
    good["locations"][0]["transform_matrix"] = np.eye(4).tolist()
    meta.write_text(json.dumps(good))
    assert read_views(meta)[0].camera.fov_deg == pytest.approx(45)


def test_point_clouds_are_checked_against_their_meshes_and_kept_without_pickles(copy):
    root, rooms = copy
    made = imported(root, rooms[0], surfaces=True, surface_points=100)
    assert made.surfaces is not None
    import io

    with np.load(io.BytesIO(made.surfaces), allow_pickle=False) as arrays:
        points, normals = arrays["points"], arrays["normals"]
    assert points.shape == normals.shape == (3, 100, 3) and points.dtype == np.float32
    for mesh, cloud in zip(rooms[0].meshes, points):
        assert (cloud >= mesh.bounds[0] - 1e-5).all() and (cloud <= mesh.bounds[1] + 1e-5).all()
    folder = root / "3D-FRONT-SURFACE" / rooms[0].room_id
    first, second = (folder / f"{name}.npy" for name in rooms[0].names[:2])
    shutil.copy(first, second)
    assert failure(root, rooms[0], surfaces=True).reason == "surface_mismatch"
    second.unlink()
    assert failure(root, rooms[0], surfaces=True).reason == "missing_file"
    assert len(samples(root, rooms[0])) == 3  # not looked at unless asked for


def test_the_24_axes_are_proper_turns_that_keep_every_bit():
    axes = all_axes()
    assert len(set(axes)) == 24 and axes[:2] == [Y_UP, Z_UP]
    points = np.random.default_rng(3).normal(size=(5, 3))
    for text in axes:
        matrix = rotation(text)
        assert np.linalg.det(matrix) == pytest.approx(1)
        assert np.array_equal(turned(points, text), points @ matrix.T)
    for wrong in ("x,y", "x,x,y", "x,y,-z", "up", "", "x,y,z,x", "xx,y,z"):
        with pytest.raises(DatasetError):
            rotation(wrong)


def test_names_without_numbers_of_their_own_give_no_numbering():
    assert pixel_values(["a_2", "b_1"], "suffix") == [2, 1]
    for names in (["a_1", "b_1"], ["a", "b_1"], ["a_0"], ["a_256"]):
        with pytest.raises(AssetError):
            pixel_values(names, "suffix")
    with pytest.raises(AssetError):
        pixel_values([], "position")


@given(x=st.floats(-3, 3), y=st.floats(-3, 3), z=st.floats(-3, 3), angle=st.floats(0, 6.28))
def test_the_look_at_point_lies_on_the_axis_of_the_camera(x, y, z, angle):
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    matrix[:3, 3] = (x, y, z)
    point = np.asarray(look_at_point(Camera(camera_to_world=tuple(map(tuple, matrix)), fov_deg=40), np.full(3, 0.5)))
    ahead = -matrix[:3, 2]
    if (np.full(3, 0.5) - matrix[:3, 3]) @ ahead > 1e-6:
        assert np.abs(np.cross(point - matrix[:3, 3], ahead)).max() < 1e-7
        assert abs((np.full(3, 0.5) - point) @ ahead) < 1e-7


def test_midis_own_split_is_the_default():
    assert default_splits("midi_room_ids.json", 9000) == {"train": (0, 8000), "test": (8000, 9000)}
    assert default_splits("midi_test_room_ids.json", 1000) == {"test": (0, 1000)}
    assert default_splits("midi_room_ids.json", 12) == {"train": (0, 12)}
    assert parse_splits(["train=:-2", "val=-2:-1"], 10) == {"train": (0, 8), "val": (8, 9)}
    for wrong in ("train", "train=a:b", "train=5:5", "train=:6 val=5:", "a=:1 a=1:2", "T=:", "a=-:"):
        with pytest.raises(DatasetError):
            parse_splits(wrong.split(), 10)


def test_lists_that_are_no_lists_are_one_clear_line(copy):
    root, rooms = copy
    names, objects = find_lists(root)
    assert read_lists(names, objects)[0] == (rooms[0].room_id, tuple(rooms[0].names))
    for room_text, furniture_text in (
        ("[", "[]"),
        ("{}", "[]"),
        ("[]", "[]"),
        ('["a/b"]', "[]"),
        ("[1]", '[["x"]]'),
        ('["a/b"]', '["x"]'),
        ('["a/b", "a/b"]', '[["x"], ["x"]]'),
        ('["a/b"]', '[["\\ud800"]]'),
    ):
        names.write_text(room_text)
        objects.write_text(furniture_text)
        with pytest.raises(DatasetError) as caught:
            read_lists(names, objects)
        assert "\n" not in str(caught.value)
    objects.unlink()
    with pytest.raises(DatasetError, match="furniture"):
        find_lists(root)
    names.unlink()
    with pytest.raises(DatasetError, match="none of the lists"):
        find_lists(root)
    with pytest.raises(DatasetError, match="no such list"):
        find_lists(root, "other.json")


def test_the_test_archives_are_read_the_same(tmp_path):
    root = tmp_path / "3d-front"
    trees = tuple(f"3D-FRONT-TEST-{kind}" for kind in ("RENDER", "SCENE", "SURFACE"))
    meshes = placed(furniture(2, tmp_path / "furniture"))
    written = write_room(root, f"{HOUSE}/Bedroom-1", meshes, cameras(2), trees=trees)
    write_lists(root, [written], name="midi_test")
    assert find_lists(root)[0].name == "midi_test_room_ids.json"
    assert len(samples(root, written)) == 2
    with pytest.raises(DatasetError, match="no 3D-FRONT-RENDER"):
        Front3dFolder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 4},
        {"images": ()},
        {"images": ("photo",)},
        {"max_instances": 0},
        {"min_iou": 0.0},
        {"frame": "pitch"},
        {"licence": " "},
        {"rooms_per_shard": 0},
        {"small_image_proportion": 1.0},
        {"azimuth_offset_deg": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(DatasetError):
        Front3dSettings(**change)
