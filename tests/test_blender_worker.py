"""The renderer process with real Blender, and the parts of it that need none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from randscene.blender_scripts import protocol
from randscene.blender_scripts.framing import scene_window
from randscene.blender_scripts.scene_description import Viewpoint, scene_description
from randscene.convex_hull import hull_points
from randscene.display import srgb_on_black
from randscene.errors import RenderError
from randscene.generator.blender_process import WORKER, BlenderProcess, RenderedView
from randscene.generator.recipe import (
    Background,
    Camera,
    Instance,
    LayoutFacts,
    Light,
    Matrix4,
    SceneRecipe,
)

RESOLUTION = 96
FOV = 40.0
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Z-up coordinates to those of a glTF file."""

FILL = Light(
    kind="area", position=(2.0, -3.0, 5.0), target=(0.0, 0.0, 0.0), power=300.0, size=2.0, color=(1.0, 1.0, 1.0)
)


def rows(matrix: np.ndarray) -> Matrix4:
    return tuple(tuple(row) for row in matrix.tolist())


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, yaw: float = 0.0, scale: float = 1.0) -> np.ndarray:
    c, s = scale * np.cos(yaw), scale * np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, scale, z], [0, 0, 0, 1]])


def camera(position: Sequence[float], target: Sequence[float] = (0.0, 0.0, 0.0), fov: float = FOV) -> Camera:
    back = np.subtract(position, target).astype(float)
    back /= np.linalg.norm(back)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([right, np.cross(back, right), back, position])
    return Camera(camera_to_world=rows(matrix), fov_deg=fov)


AROUND = tuple(camera((6 * np.cos(a), 6 * np.sin(a), h)) for a, h in ((0.3, 3.0), (2.1, -2.0), (4.4, 5.0)))


def scene(
    instances: Sequence[tuple[str, np.ndarray]],
    *,
    cameras: Sequence[Camera] = AROUND,
    lights: Sequence[Light] = (FILL,),
    ambient: float = 0.3,
) -> SceneRecipe:
    return SceneRecipe(
        version=1,
        scene=0,
        split="train",
        attempt=0,
        seed=0,
        instances=tuple(
            Instance(uid=uid, sha256="0" * 64, scale=1.0, pose=rows(matrix), support_parent=None)
            for uid, matrix in instances
        ),
        lights=tuple(lights),
        background=Background(color=(1.0, 1.0, 1.0), strength=ambient),
        look_at=(0.0, 0.0, 0.0),
        cameras=tuple(cameras),
        resolution=RESOLUTION,
        layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
    )


def painted(mesh: trimesh.Trimesh, *, color: tuple[int, int, int] = (200, 200, 200), texture: bool = False):
    picture = Image.fromarray(np.full((16, 16, 3), color, np.uint8)) if texture else None
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=picture,
        baseColorFactor=None if texture else [*color, 255],
        metallicFactor=0.0,
        roughnessFactor=0.9,
    )
    uv = np.linspace(0, 1, 2 * len(mesh.vertices)).reshape(-1, 2)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


def save_glb(path: Path, parts: Sequence[tuple[trimesh.Trimesh, np.ndarray]]) -> trimesh.Trimesh:
    """Write Z-up parts as a Y-up file; returns the asset as one Z-up mesh."""
    document = trimesh.Scene()
    for mesh, matrix in parts:
        document.add_geometry(mesh, transform=Y_UP @ matrix)
    document.export(path)
    return trimesh.util.concatenate([bare(mesh).apply_transform(matrix) for mesh, matrix in parts])


def save_nested_glb(path: Path, mesh: trimesh.Trimesh, chain: Sequence[np.ndarray]) -> trimesh.Trimesh:
    """Write a mesh below a chain of nodes, outermost first; returns the asset as one Z-up mesh."""
    document = trimesh.Scene()
    parent, total = document.graph.base_frame, np.eye(4)
    for depth, matrix in enumerate([Y_UP, *chain]):
        document.graph.update(frame_from=parent, frame_to=f"node{depth}", matrix=matrix)
        parent, total = f"node{depth}", total @ matrix
    document.add_geometry(mesh, parent_node_name=parent)
    document.export(path)
    return bare(mesh).apply_transform(np.linalg.inv(Y_UP) @ total)


def bare(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, trimesh.Trimesh]]:
    """Files by uid, and the same assets as Z-up meshes."""
    folder = tmp_path_factory.mktemp("glb")
    paths = {uid: folder / f"{uid}.glb" for uid in ("red", "green", "tall", "sheared")}
    box = trimesh.creation.box
    # A turn below a stretch shears: no translation, rotation and scale of one object alone can say this.
    turn = trimesh.transformations.rotation_matrix(0.6, [1, 1, 0])
    chain = [pose(0.3, 0, 0.2, yaw=0.7), np.diag([1.0, 2.0, 0.5, 1.0]), turn]
    meshes = {
        "red": save_glb(paths["red"], [(painted(box((1, 1, 1)), color=(220, 30, 30)), np.eye(4))]),
        "green": save_glb(paths["green"], [(painted(box((1, 1, 1)), color=(20, 210, 40), texture=True), np.eye(4))]),
        "tall": save_glb(
            paths["tall"], [(painted(box((0.5, 0.8, 2.0))), pose(z=1.0)), (painted(box((0.2, 0.2, 0.2))), pose(0.9))]
        ),
        "sheared": save_nested_glb(paths["sheared"], painted(trimesh.creation.cone(0.5, 1.0)), chain),
    }
    return paths, meshes


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(scratch=tmp_path_factory.mktemp("scratch"), view_timeout_s=60.0) as process:
        yield process


def render(
    process: BlenderProcess, recipe: SceneRecipe, paths: dict[str, Path], views: Sequence[int] | None = None
) -> dict[int, RenderedView]:
    wanted = range(len(recipe.cameras)) if views is None else views
    pictures = process.render(recipe, paths, wanted, resolution=RESOLUTION, samples=4)
    return {picture.view: picture for picture in pictures}


def ray_ids(recipe: SceneRecipe, meshes: dict[str, trimesh.Trimesh], view: int) -> np.ndarray:
    """(R, R) ids by casting one ray through each pixel's centre."""
    placed = [meshes[item.uid].copy().apply_transform(np.array(item.pose)) for item in recipe.instances]
    owner = np.repeat(np.arange(1, len(placed) + 1), [len(mesh.faces) for mesh in placed])
    matrix, fov = np.array(recipe.cameras[view].camera_to_world), recipe.cameras[view].fov_deg
    step = (np.arange(RESOLUTION) + 0.5) / RESOLUTION * 2 - 1
    x, y = np.meshgrid(step, -step)
    local = np.stack([x, y, np.full_like(x, -1 / np.tan(np.radians(fov) / 2))], axis=-1).reshape(-1, 3)
    directions = local @ matrix[:3, :3].T
    origins = np.tile(matrix[:3, 3], (len(directions), 1))
    hits = trimesh.util.concatenate(placed).ray.intersects_first(origins, directions)
    return np.where(hits >= 0, owner[hits], 0).reshape(RESOLUTION, RESOLUTION)


@pytest.mark.blender
def test_ids_agree_with_rays_through_pixel_centres(blender: BlenderProcess, assets) -> None:
    paths, meshes = assets
    recipe = scene(
        [("red", pose(-1, 0, 0.2, yaw=0.4)), ("tall", pose(0.9, 0.3, yaw=1.1)), ("red", pose(0, -1.5, scale=0.6))]
    )
    for view, picture in render(blender, recipe, paths).items():
        expected = ray_ids(recipe, meshes, view)
        assert set(np.unique(expected)) == {0, 1, 2, 3}
        assert (picture.ids != expected).sum() <= 4


@pytest.mark.blender
def test_matrices_with_shear_are_kept(blender: BlenderProcess, assets) -> None:
    paths, meshes = assets
    recipe = scene([("sheared", pose(0.2, 0.1, yaw=0.5, scale=1.5))])
    for view, picture in render(blender, recipe, paths).items():
        expected = ray_ids(recipe, meshes, view)
        assert (expected == 1).sum() > 150
        assert (picture.ids != expected).sum() <= 4


@pytest.mark.blender
def test_a_camera_among_the_objects_and_one_that_sees_nothing_are_right(blender: BlenderProcess, assets) -> None:
    paths, meshes = assets
    recipe = scene(
        [("red", pose(2)), ("red", pose(-2)), ("red", pose(0, 2.5))],
        cameras=[camera((-0.5, -0.2, 0.1), (2, 0.4, 0), fov=90.0), camera((0, -9, 1), (0, -20, 1))],
    )
    pictures = render(blender, recipe, paths)
    assert (pictures[0].ids != ray_ids(recipe, meshes, 0)).sum() <= 4 and (pictures[0].ids == 1).any()
    assert not pictures[1].rgb.any() and not pictures[1].ids.any()


@pytest.mark.blender
def test_pictures_are_the_same_bits_in_any_process_order_and_history(
    blender: BlenderProcess, assets, tmp_path: Path
) -> None:
    paths, _ = assets
    recipe = scene([("green", pose(-1)), ("tall", pose(1)), ("sheared", pose(0, -1.3))])
    other = scene([("tall", pose()), ("red", pose(-1)), ("green", pose(1.5, yaw=0.3))])
    render(blender, other, paths, [1])
    shared = render(blender, recipe, paths, [2, 0, 1])
    with BlenderProcess(scratch=tmp_path) as fresh:
        alone = render(fresh, recipe, paths, [0, 1, 2])
    for view, picture in alone.items():
        assert np.array_equal(picture.rgb, shared[view].rgb)
        assert np.array_equal(picture.ids, shared[view].ids)


@pytest.mark.blender
def test_colour_and_texture_appear_on_black(blender: BlenderProcess, assets) -> None:
    paths, _ = assets
    picture = render(blender, scene([("red", pose(y=-1)), ("green", pose(y=1))]), paths, [0])[0]
    red, green = (np.median(picture.rgb[picture.ids == number], axis=0) for number in (1, 2))
    assert red[0] > 2 * max(red[1], red[2]) and red[0] > 60
    assert green[1] > 2 * max(green[0], green[2]) and green[1] > 60
    # Antialiased edges reach no farther than the next pixel.
    assert not picture.rgb[~grown_by_one_pixel(picture.ids > 0)].any()


def grown_by_one_pixel(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    rolled = [np.roll(padded, (dy, dx), (0, 1))[1:-1, 1:-1] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.any(rolled, axis=0)


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["point", "sun", "area"])
def test_a_light_brightens_the_side_that_faces_it(blender: BlenderProcess, assets, kind: str) -> None:
    paths, _ = assets
    power = {"point": 800.0, "sun": 4.0, "area": 800.0}[kind]
    light = Light(
        kind=kind, position=(6.0, 0.0, 0.5), target=(0.0, 0.0, 0.0), power=power, size=0.2, color=(1.0, 1.0, 1.0)
    )
    recipe = scene([("tall", pose())], cameras=[camera((5, 0.1, 1)), camera((-5, 0.1, 1))], lights=[light], ambient=0.0)
    lit, dark = (picture.rgb[picture.ids == 1].mean() for picture in render(blender, recipe, paths).values())
    assert lit > 60 and dark < 5


@pytest.mark.blender
def test_without_any_light_the_picture_is_black(blender: BlenderProcess, assets) -> None:
    paths, _ = assets
    picture = render(blender, scene([("red", pose())], lights=[], ambient=0.0), paths, [0])[0]
    assert picture.ids.any() and not picture.rgb.any()


@pytest.mark.blender
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("garbage.glb", b"no mesh at all" * 20, "import_failed"),
        ("absent.glb", None, "import_failed"),
        ("points.ply", trimesh.PointCloud(np.eye(3)).export(file_type="ply"), "no_geometry"),
        ("mesh.blend", b"BLENDER", "import_failed"),
    ],
)
def test_an_unusable_asset_fails_its_job_and_the_worker_lives_on(
    blender: BlenderProcess, assets, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    paths, _ = assets
    if content is not None:
        (tmp_path / name).write_bytes(content)
    pid = blender.pid
    with pytest.raises(RenderError) as caught:
        render(blender, scene([("red", pose()), ("bad", pose(1))]), {**paths, "bad": tmp_path / name})
    assert caught.value.reason == reason and not caught.value.transient
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert render(blender, scene([("red", pose())]), paths, [0])[0].ids.any()
    assert blender.pid == pid


@pytest.mark.blender
@pytest.mark.parametrize(
    ("recipe", "views", "word"),
    [
        (scene([("red", pose())]), [7], "view 7"),
        (scene([("unknown", pose())]), [0], "unknown"),
        (scene([("red", pose())], lights=[replace(FILL, kind="laser")]), [0], "laser"),
        (scene([("red", np.diag([1.0, 1.0, 0.0, 1.0]))]), [0], "singular"),
        (scene([("red", pose())] * 256), [0], "255"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_reason(
    blender: BlenderProcess, assets, recipe: SceneRecipe, views: list[int], word: str
) -> None:
    pid = blender.pid
    with pytest.raises(RenderError, match=word) as caught:
        render(blender, recipe, assets[0], views)
    assert caught.value.reason == "bad_request" and blender.pid == pid


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["obj", "ply", "stl"])
@pytest.mark.parametrize("up", ["Y", "Z"])
def test_other_formats_stand_upright(blender: BlenderProcess, assets, tmp_path: Path, kind: str, up: str) -> None:
    mesh = assets[1]["tall"]
    path = tmp_path / f"tall.{kind}"
    mesh.copy().apply_transform(Y_UP if up == "Y" else np.eye(4)).export(path)
    recipe = scene([("tall", pose())])
    pictures = blender.render(recipe, {"tall": path}, [0], resolution=RESOLUTION, samples=1, up_axes={"tall": up})
    assert (next(pictures).ids != ray_ids(recipe, {"tall": mesh}, 0)).sum() <= 4
    assert next(pictures, None) is None


@pytest.mark.blender
def test_standard_output_carries_the_protocol_alone_and_bad_lines_are_refused(tmp_path: Path, assets) -> None:
    request = protocol.RenderRequest(
        job="7",
        recipe=json.loads(scene([("red", pose())]).to_json()),
        assets={"red": str(assets[0]["red"])},
        views=(1,),
        resolution=32,
        samples=1,
        threads=1,
        out=str(tmp_path),
    )
    command = [*WORKER, "--parent", str(os.getpid())]
    silent = subprocess.run(command, input=b"", stdout=subprocess.PIPE, timeout=60, check=False)
    assert silent.returncode == 0  # the end of its input is the end of the worker
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in (b"not json\n", b'{"type":"dance","job":"3"}\n', protocol.encode(request)):
            process.stdin.write(line)
        process.stdin.write(protocol.encode(protocol.QuitRequest()))
        process.stdin.flush()
        answers = [protocol.parse_answer(line) for line in process.stdout]
        assert process.wait(10) == 0
    hello, *refusals, view, done = answers
    assert isinstance(hello, protocol.HelloAnswer) and hello.devices[0]["type"] == "CPU"
    assert [(item.job, item.reason) for item in refusals] == [("", "bad_request"), ("3", "bad_request")]
    assert isinstance(view, protocol.ViewAnswer) and (view.job, view.view) == ("7", 1)
    assert np.load(view.rgb, allow_pickle=False).shape == (32, 32, 3)
    assert isinstance(done, protocol.DoneAnswer)


def test_packages_beside_the_worker_import_no_bpy() -> None:
    code = (
        "import sys\n"
        "import randscene.generator.blender_process, randscene.blender_scripts.worker\n"
        "assert not {'bpy', 'torch', 'ray'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_srgb_on_black_gives_known_values() -> None:
    combined = np.array([[[0, 0, 0, 0], [0.5, 1.0, 0.18, 1], [0.3, 4.0, 0.0012, 0.6], [0.1, 0.1, 0.1, 0]]], np.float32)
    # 0.5 -> 188, 0.18 -> 118; partly covered: the same signal times alpha; covered by nothing: black.
    assert srgb_on_black(combined).tolist() == [[[0, 0, 0], [188, 255, 118], [113, 153, 4], [0, 0, 0]]]


@given(
    hnp.arrays(np.float64, (5, 3), elements=st.floats(-3, 3)),
    st.floats(5, 120),
    st.integers(16, 512),
    st.tuples(st.floats(1, 6), st.floats(-6, 6), st.floats(-6, 6)),
)
@settings(deadline=None, max_examples=200)
def test_no_point_of_the_scene_projects_outside_its_window(points, fov, resolution, position) -> None:
    view = camera(position, fov=fov)
    viewpoint = Viewpoint(camera_to_world=np.array(view.camera_to_world), fov_deg=fov)
    window = scene_window(hull_points(points), viewpoint, resolution)
    local = (np.column_stack([points, np.ones(5)]) @ np.linalg.inv(viewpoint.camera_to_world).T)[:, :3]
    front = local[local[:, 2] < -1e-6]
    pixels = resolution / 2 * (1 + front[:, :2] / (-front[:, 2:] * np.tan(np.radians(fov) / 2)))
    seen = pixels[((pixels >= 0) & (pixels < resolution)).all(axis=1)]
    if window is None:
        assert not len(seen)
        return
    assert 0 <= window.left < window.right <= resolution and 0 <= window.bottom < window.top <= resolution
    assert (seen[:, 0] >= window.left).all() and (seen[:, 0] <= window.right).all()
    assert (seen[:, 1] >= window.bottom).all() and (seen[:, 1] <= window.top).all()


@given(
    job=st.text(),
    views=st.lists(st.integers(0, 999), min_size=1).map(tuple),
    assets=st.dictionaries(st.text(), st.text()),
    numbers=st.tuples(st.integers(1, 8192), st.integers(1, 65536), st.integers(1, 1024)),
)
def test_requests_survive_the_wire(job, views, assets, numbers) -> None:
    resolution, samples, threads = numbers
    request = protocol.RenderRequest(
        job=job, recipe={"x": [1.5, None]}, assets=assets, views=views, resolution=resolution, samples=samples,
        threads=threads, out="/tmp", up_axes={"a": "Z"},
    )  # fmt: skip
    line = protocol.encode(request)
    assert line.count(b"\n") == 1 and protocol.parse_request(line) == request and protocol.job_of(line) == job


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"type":[]}',
        b'{"type":"hello"}',
        b'{"type":"quit","now":true}',
        b'{"type":"render","job":"1"}',
        b'{"type":"render","job":"1","recipe":{},"assets":{},"views":[0],"resolution":0,"samples":1,"threads":1,"out":"/"}',
        b'{"type":"render","job":"1","recipe":{},"assets":{},"views":[],"resolution":8,"samples":1,"threads":1,"out":"/"}',
        b'{"type":"render","job":1,"recipe":{},"assets":{},"views":[0],"resolution":8,"samples":1,"threads":1,"out":"/"}',
        b'{"type":"render","job":"1","recipe":{"a":NaN},"assets":{},"views":[0],"resolution":8,"samples":1,"threads":1,"out":"/"}',
        b'{"type":"render","job":"1","recipe":{},"assets":{},"views":[true],"resolution":8,"samples":1,"threads":1,"out":"/"}',
    ],
)
def test_malformed_requests_are_refused(line: bytes) -> None:
    with pytest.raises(RenderError) as caught:
        protocol.parse_request(line)
    assert caught.value.reason == "bad_request"
    assert protocol.job_of(line) in ("", "1")


@pytest.mark.parametrize("field", ["instances", "lights", "background", "cameras"])
def test_a_recipe_without_a_field_is_refused_by_name(field: str) -> None:
    recipe = json.loads(scene([("red", pose())]).to_json())
    assert len(scene_description(recipe).assets) == 1
    del recipe[field]
    with pytest.raises(RenderError, match=field):
        scene_description(recipe)
