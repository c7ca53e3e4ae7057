"""What is built around the assets, seen through the renderer: pictures that light a scene, and the floor."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from randscene.errors import RenderError
from randscene.generator.blender_process import BlenderProcess, RenderedView
from randscene.generator.cameras import Directions, look_at_matrices
from randscene.generator.exr_file import is_whole_exr
from randscene.generator.recipe import (
    RECIPE_VERSION,
    Background,
    Camera,
    EnvironmentMap,
    Ground,
    Instance,
    LayoutFacts,
    Light,
    SceneRecipe,
)

RESOLUTION = 64
ROWS = 64

WRITE_PICTURES = """
import sys, numpy as np, bpy
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    pixels = np.load(source)
    image = bpy.data.images.new("x", pixels.shape[1], pixels.shape[0], float_buffer=True, is_data=True)
    image.pixels.foreach_set(np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=2)[::-1].ravel())
    image.file_format = "HDR" if target.endswith(".hdr") else "OPEN_EXR"
    image.filepath_raw = target
    image.save()
"""

pytestmark = pytest.mark.blender


def elevation() -> np.ndarray:
    """(ROWS, 1) sine of the elevation of each row's middle, the top row first."""
    return np.sin(np.pi * (0.5 - (np.arange(ROWS)[:, None] + 0.5) / ROWS))


def patch() -> np.ndarray:
    """A small light in the middle of the picture, near the horizon."""
    value = np.full((ROWS, 2 * ROWS, 3), 0.01, np.float32)
    value[ROWS // 2 - 6 : ROWS // 2 + 2, ROWS - 4 : ROWS + 4] = 50.0
    return value


def cap() -> np.ndarray:
    """Light from more than 45 degrees above the horizon alone."""
    above = np.broadcast_to(elevation() > np.sqrt(0.5), (ROWS, 2 * ROWS))
    return np.repeat(np.where(above, 11.0, 0.0).astype(np.float32)[..., None], 3, axis=2)


PICTURES = {
    "patch.hdr": patch(),
    "patch.exr": patch(),
    "cap.exr": cap(),
    "even.hdr": np.full((8, 16, 3), 7.0, np.float32),
    "black.exr": np.zeros((8, 16, 3), np.float32),
    "infinite.exr": np.full((8, 16, 3), np.inf, np.float32),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white cube of side 1 about the origin, `cube.glb`, a flat sheet `sheet.glb`, and the pictures."""
    folder = tmp_path_factory.mktemp("look")
    arguments = []
    for name, pixels in PICTURES.items():
        np.save(folder / f"{name}.npy", pixels)
        arguments += [str(folder / f"{name}.npy"), str(folder / name)]
    subprocess.run([sys.executable, "-c", WRITE_PICTURES, *arguments], check=True, capture_output=True)
    material = trimesh.visual.material.PBRMaterial(
        baseColorFactor=[255, 255, 255, 255], metallicFactor=0.0, roughnessFactor=1.0
    )
    for name, extents in (("cube", (1, 1, 1)), ("sheet", (1, 1e-9, 1))):
        mesh = trimesh.creation.box(extents)
        mesh.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(mesh.vertices), 2)), material=material)
        mesh.export(folder / f"{name}.glb")
    return folder


def test_what_blender_writes_passes_for_whole(folder):
    for name in PICTURES:
        if name.endswith(".exr"):
            with open(folder / name, "rb") as handle:
                assert is_whole_exr(handle)


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(scratch=tmp_path_factory.mktemp("scratch"), view_timeout_s=60.0) as process:
        yield process


def cameras(*places: tuple[float, float], distance: float = 4.0) -> tuple[Camera, ...]:
    """Cameras at (azimuth in turns, sine of the elevation) about the origin."""
    turns, height = np.array(places).T
    matrices = look_at_matrices(Directions(turns=turns, height=height), (0.0, 0.0, 0.0), distance)
    return tuple(Camera(camera_to_world=tuple(map(tuple, matrix.tolist())), fov_deg=40.0) for matrix in matrices)


def recipe(
    views: tuple[Camera, ...],
    *,
    background: Background,
    height: float = 0.0,
    uid: str = "cube",
    lights: tuple[Light, ...] = (),
    ground: Ground | None = None,
) -> SceneRecipe:
    pose = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, height), (0.0, 0.0, 0.0, 1.0))
    return SceneRecipe(
        version=RECIPE_VERSION,
        scene=0,
        split="train",
        attempt=0,
        seed=0,
        instances=(Instance(uid=uid, sha256="0" * 64, scale=1.0, pose=pose, support_parent=None),),
        lights=lights,
        background=background,
        look_at=(0.0, 0.0, 0.0),
        cameras=views,
        resolution=RESOLUTION,
        layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
        ground=ground,
    )


def uniform(strength: float) -> Background:
    return Background(color=(1.0, 1.0, 1.0), strength=strength)


def lit_by(path: Path, *, strength: float = 0.3, turns: float = 0.0) -> Background:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(uniform(strength), image=EnvironmentMap(sha256=sha256, name=path.name, turns=turns))


def render(process: BlenderProcess, scene: SceneRecipe, folder: Path, **images: str) -> list[RenderedView]:
    image = scene.background.image
    given = {image.sha256: str(folder / image.name)} if image is not None else {}
    paths = {name: folder / f"{name}.glb" for name in ("cube", "sheet")}
    pictures = process.render(
        scene, paths, range(len(scene.cameras)), resolution=RESOLUTION, samples=8, images=images or given
    )
    return sorted(pictures, key=lambda picture: picture.view)


def linear(picture: RenderedView) -> float:
    """Median linear value of the pixels on the asset."""
    code = np.median(picture.rgb[picture.ids > 0]) / 255
    return float(((code + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(("name", "eighths"), [("patch.hdr", 0), ("patch.exr", 2), ("patch.hdr", 3), ("patch.exr", 6)])
def test_a_bright_patch_lights_the_sides_that_its_picture_is_turned_to(blender, folder, name, eighths):
    around = cameras(*((turn / 4, 0.0) for turn in range(4)))
    pictures = render(blender, recipe(around, background=lit_by(folder / name, turns=eighths / 8)), folder)
    values = [linear(picture) for picture in pictures]
    facing = [np.cos(2 * np.pi * (side / 4 - eighths / 8)) for side in range(4)]
    for value, cosine in zip(values, facing):
        assert value == pytest.approx(max(cosine, 0) * max(values) / max(facing), abs=0.1 * max(values))
    assert max(values) > 0.2


def test_an_even_picture_is_the_uniform_light_of_its_strength(blender, folder):
    views = cameras((0.1, 0.5), (0.6, -0.5))
    expected = render(blender, recipe(views, background=uniform(0.4)), folder)
    found = render(blender, recipe(views, background=lit_by(folder / "even.hdr", strength=0.4)), folder)
    for a, b in zip(expected, found, strict=True):
        assert linear(a) > 0.3
        assert b.rgb[b.ids > 0].mean() == pytest.approx(a.rgb[a.ids > 0].mean(), rel=0.01)


def test_the_mean_luminance_counts_solid_angle_not_rows(blender, folder):
    # A cap of 45 degrees about the zenith fills (1 - sin 45) / 2 of the sphere and half of the cosine-weighted sky.
    strength = 0.2
    expected = 0.5 * strength / ((1 - np.sqrt(0.5)) / 2)
    above = cameras((0.0, 1.0))
    found = linear(render(blender, recipe(above, background=lit_by(folder / "cap.exr", strength=strength)), folder)[0])
    reference = linear(render(blender, recipe(above, background=uniform(expected)), folder)[0])
    assert found == pytest.approx(reference, rel=0.04)


def test_a_picture_leaves_the_background_black(blender, folder):
    picture = render(blender, recipe(cameras((0.1, 0.5)), background=lit_by(folder / "even.hdr")), folder)[0]
    assert not picture.rgb[0].any() and not picture.rgb[:, 0].any()


@pytest.mark.parametrize(("name", "word"), [("black.exr", "black"), ("infinite.exr", "number"), ("torn.exr", "torn")])
def test_a_picture_without_usable_light_is_named(blender, folder, name, word):
    if name == "torn.exr":
        (folder / name).write_bytes(b"\x76\x2f\x31\x01" + bytes(range(256)))
    with pytest.raises(RenderError, match=word) as caught:
        render(blender, recipe(cameras((0.0, 0.0)), background=lit_by(folder / name)), folder)
    assert caught.value.reason == "image_unreadable" and name in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_that_changed_since_planning_is_refused(blender, folder, tmp_path):
    scene = recipe(cameras((0.0, 0.0)), background=lit_by(folder / "even.hdr"))
    sha256 = scene.background.image.sha256
    for path, reason in (
        (folder / "patch.hdr", "image_changed"),
        (tmp_path / "gone.hdr", "image_unreadable"),
        (None, "bad_request"),
    ):
        images = {sha256: str(path)} if path is not None else {"another": "x"}
        with pytest.raises(RenderError) as caught:
            render(blender, scene, folder, **images)
        assert caught.value.reason == reason and "\n" not in str(caught.value)


GROUND = Ground(color=(0.5, 0.5, 0.5), roughness=1.0)
SUN = Light(kind="sun", position=(3.0, 0.0, 3.0), target=(0.0, 0.0, 0.0), power=3.0, size=0.01, color=(1.0, 1.0, 1.0))
VIEWS = cameras((0.05, 0.6), (0.3, -0.6), (0.55, 0.2), (0.8, -0.1))
"""Above and below the ground in turn."""


def test_seen_from_below_the_scene_is_as_without_ground(blender, folder):
    with_floor, without = (
        render(blender, recipe(VIEWS, background=uniform(0.3), height=0.5, lights=(SUN,), ground=ground), folder)
        for ground in (GROUND, None)
    )
    for view in (1, 3):
        assert with_floor[view].ids.any()
        assert np.array_equal(with_floor[view].rgb, without[view].rgb)
        assert np.array_equal(with_floor[view].ids, without[view].ids)


@pytest.mark.parametrize("uid", ["cube", "sheet"])
def test_the_ground_is_in_the_picture_and_in_no_label(blender, folder, uid):
    height = 0.5 if uid == "cube" else 0.0
    with_floor, without = (
        render(
            blender,
            recipe(VIEWS, background=uniform(0.3), height=height, uid=uid, lights=(SUN,), ground=ground),
            folder,
        )
        for ground in (GROUND, None)
    )
    for view in (0, 2):
        assert (without[view].ids == 1).any()
        assert np.array_equal(with_floor[view].ids, without[view].ids)
        floor = with_floor[view].rgb[with_floor[view].ids == 0]
        assert (floor > 30).all(axis=1).mean() > 0.4
    # From above, the floor reaches every border of the picture.
    assert (with_floor[0].rgb[[0, -1]] > 30).all() and (with_floor[0].rgb[:, [0, -1]] > 30).all()


def test_the_ground_catches_shadows_and_throws_light_back(blender, folder):
    above = cameras((0.25, 0.9), distance=6.0)
    picture = render(blender, recipe(above, background=uniform(0.0), height=0.5, lights=(SUN,), ground=GROUND), folder)
    floor = picture[0].rgb.max(axis=2)[picture[0].ids == 0]
    # In the sun, or in the cube's shadow, which is not much smaller than the cube.
    assert (floor > 100).mean() > 0.5
    assert (floor < 40).sum() > 0.3 * (picture[0].ids == 1).sum()
    side = cameras((0.5, 0.05))
    lit, unlit = (
        linear(render(blender, recipe(side, background=uniform(0.0), height=0.5, lights=(SUN,), ground=g), folder)[0])
        for g in (GROUND, None)
    )
    assert lit > unlit + 0.01
