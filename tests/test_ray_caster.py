"""Embree rays: pixel centres of Blender's camera, holes, occlusion, and a picture that follows the lights."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_fixtures import ABOVE, BOX, DARK, TWELVE, TWO, box, camera, checker, mesh, square

from randscene.errors import AssetError
from randscene.generator import ray_caster
from randscene.generator.cameras import intrinsics
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Background, Camera, Light
from randscene.manifests.asset_mesh import AssetMesh


def covered(triangle_mesh: AssetMesh, view: Camera, resolution: int, grow: float) -> np.ndarray:
    """(H, W) bool: pixel centres inside the projection of a convex mesh, grown by `grow` pixels."""
    from shapely import MultiPoint, contains_xy

    matrix = np.asarray(view.camera_to_world)
    local = (triangle_mesh.vertices - matrix[:3, 3]) @ matrix[:3, :3] * (1, -1, -1)
    pixels = local @ intrinsics(view.fov_deg, resolution).T
    outline = MultiPoint(pixels[:, :2] / pixels[:, 2:]).convex_hull.buffer(grow)
    centres = np.arange(resolution) + 0.5
    return contains_xy(outline, *np.meshgrid(centres, centres))


@given(turns=st.floats(0, 1), height=st.floats(-1, 1), resolution=st.integers(5, 60), fov=st.floats(20, 100))
@settings(max_examples=60, deadline=None)
def test_a_pixel_belongs_to_an_object_exactly_when_its_centre_does(turns, height, resolution, fov):
    solid, view = box((0.1, -0.2, 0.15)), camera(turns, height, fov_deg=fov)
    ids, depth = RayScene([solid]).ids_and_depth(view, resolution)
    assert ids.dtype == np.uint8 and depth.dtype == np.float32 and ids.shape == depth.shape == (resolution, resolution)
    assert (ids[covered(solid, view, resolution, -1e-3)] == 1).all()
    assert (ids[~covered(solid, view, resolution, 1e-3)] == 0).all()
    assert np.array_equal(np.isfinite(depth), ids > 0)


def test_row_zero_is_the_top_and_columns_run_to_the_right():
    scene = RayScene([box((1, 0, 0), 0.2), box((0, 1, 0), 0.2)])
    ids, _ = scene.ids_and_depth(ABOVE, 64)
    right, top = np.argwhere(ids == 1).mean(axis=0), np.argwhere(ids == 2).mean(axis=0)
    assert right[1] > 40 and right[0] == pytest.approx(31.5)
    assert top[0] < 24 and top[1] == pytest.approx(31.5)


@pytest.mark.parametrize("resolution", [1, 7, 64])
def test_depth_is_measured_along_the_cameras_axis(resolution):
    ids, depth = RayScene([square(z=1.0, half=3.0)]).ids_and_depth(ABOVE, resolution)
    assert (ids == 1).all()
    np.testing.assert_allclose(depth, 4.0, rtol=1e-6)


def test_the_nearest_object_wins_and_both_sides_are_solid():
    scene = RayScene([square(z=0.0), square(z=1.0, half=0.3)])
    for view, middle in ((ABOVE, 2), (camera(0.75, -1.0), 1)):
        ids, _ = scene.ids_and_depth(view, 33)
        assert ids[16, 16] == middle
    assert set(np.unique(scene.ids_and_depth(ABOVE, 33)[0])) == {0, 1, 2}


@pytest.mark.parametrize("layers", [1, 5])
def test_rays_go_on_through_the_holes_of_masked_surfaces(layers):
    masked = [square(z=0.01 * (k + 1), texture=checker(), alpha_mode="MASK") for k in range(layers)]
    scene = RayScene([*masked, square(z=0.0)])
    ids, depth = scene.ids_and_depth(ABOVE, 64)
    floor = layers + 1
    assert ids[24, 24] == layers and ids[40, 40] == layers
    assert ids[24, 40] == floor and ids[40, 24] == floor
    assert depth[24, 40] == pytest.approx(5.0, abs=1e-4)
    assert depth[24, 24] == pytest.approx(5.0 - 0.01 * layers, abs=1e-4)
    solid = scene.unoccluded_pixels(ABOVE, 64, floor)
    assert scene.unoccluded_pixels(ABOVE, 64, 1) == pytest.approx(solid / 2, rel=0.1)


@pytest.mark.parametrize("alpha", [0, 3, 8, 255])
@pytest.mark.parametrize("mode", ["OPAQUE", "BLEND"])
def test_blended_surfaces_have_holes_where_they_are_as_good_as_clear_and_opaque_ones_nowhere(mode, alpha):
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:, 4:, 3] = alpha
    ids, _ = RayScene([square(texture=texture, alpha_mode=mode), square(z=-1.0)]).ids_and_depth(ABOVE, 64)
    assert ids[32, 24] == 1
    assert ids[32, 40] == (2 if mode == "BLEND" and alpha < 5 else 1)


@pytest.mark.parametrize(("alpha", "shown"), [(0.0, 2), (0.05, 1), (1.0, 1)])
def test_glass_counts_as_its_object_unless_nothing_of_it_can_be_seen(alpha, shown):
    glass = square(base_color=np.array([1, 1, 1, alpha], np.float32), alpha_mode="BLEND")
    scene = RayScene([glass, square(z=-1.0)])
    assert scene.ids_and_depth(ABOVE, 64)[0][32, 32] == shown
    assert (scene.unoccluded_pixels(ABOVE, 64, 1) > 0) == (shown == 1)


def test_the_cutoff_applies_to_factor_texture_and_vertex_colour_together():
    base = np.array([1, 1, 1, 0.8], np.float32)
    whole = square(base_color=base, alpha_mode="MASK", alpha_cutoff=0.7)
    faded = replace(whole, corner_color=np.full((2, 3, 4), 0.5, np.float32))
    assert (RayScene([whole]).ids_and_depth(ABOVE, 16)[0] == 1).any()
    assert not (RayScene([faded]).ids_and_depth(ABOVE, 16)[0] == 1).any()


def test_unoccluded_pixels_ignore_what_stands_in_front():
    scene = RayScene([square(z=0.0), square(z=1.0, half=0.5), square(z=-1.0, half=0.2)])
    ids, _ = scene.ids_and_depth(ABOVE, 100)
    alone = [int((RayScene([square(z=z, half=h)]).ids_and_depth(ABOVE, 100)[0]).sum()) for z, h in ((0, 1), (-1, 0.2))]
    assert scene.unoccluded_pixels(ABOVE, 100, 1) == alone[0] > (ids == 1).sum()
    assert scene.unoccluded_pixels(ABOVE, 100, 2) == (ids == 2).sum()
    assert scene.unoccluded_pixels(ABOVE, 100, 3) == alone[1] > 0 == (ids == 3).sum()


def soup(seed: int) -> list[AssetMesh]:
    rng = np.random.default_rng(seed)
    faces = np.arange(120, dtype=np.int32).reshape(40, 3)
    return [mesh(rng.normal(size=3) * 0.6 + rng.normal(size=(120, 3)) * 0.3, faces) for _ in range(4)]


def test_labels_are_the_same_each_time_and_do_not_depend_on_the_window(monkeypatch):
    views = [camera(turns, height) for turns, height in ((0.1, 0.2), (0.6, -0.7), (0.9, 1.0))]
    first = [RayScene(soup(0)).ids_and_depth(view, 90) for view in views]
    whole = ray_caster.Window(top=0, bottom=90, left=0, right=90, resolution=90)
    monkeypatch.setattr(ray_caster, "_window", lambda *_: whole)
    scene = RayScene(soup(0))
    for view, (ids, depth) in zip(views, first):
        again = scene.ids_and_depth(view, 90)
        assert np.array_equal(ids, again[0]) and np.array_equal(depth, again[1])


def test_a_camera_inside_the_scene_sees_all_around():
    inside = Camera(camera_to_world=tuple(map(tuple, np.eye(4).tolist())), fov_deg=90.0)
    ids, depth = RayScene([box((0, 0, 0), 2.0)]).ids_and_depth(inside, 16)
    assert (ids == 1).all()
    np.testing.assert_allclose(depth, 2.0, rtol=1e-6)


def test_objects_without_faces_and_scenes_out_of_sight_are_empty():
    nothing = mesh(np.empty((0, 3)), np.empty((0, 3), np.int32))
    away = box((0, 0, 50))
    for meshes in ([nothing], [away], [nothing, away]):
        scene = RayScene(meshes)
        assert not scene.ids_and_depth(ABOVE, 16)[0].any()
        assert scene.unoccluded_pixels(ABOVE, 16, 1) == 0
        assert not scene.shade(ABOVE, 16, [], DARK).any()


def test_broken_and_too_many_meshes_are_refused():
    with pytest.raises(AssetError) as caught:
        RayScene([mesh(np.full((3, 3), np.nan), TWO[:1])])
    assert caught.value.reason == "non_finite"
    with pytest.raises(ValueError, match="one byte"):
        RayScene([square()] * 256)


def lamp(kind: str, position: tuple[float, float, float], power: float, size: float = 0.1) -> Light:
    return Light(kind=kind, position=position, target=(0.0, 0.0, 0.0), power=power, size=size, color=(1.0, 1.0, 1.0))


def test_ambient_light_alone_gives_the_base_colour_on_black():
    picture = RayScene([square()]).shade(ABOVE, 32, [], Background(color=(1.0, 0.5, 0.0), strength=1.0))
    assert picture.dtype == np.uint8 and picture.shape == (32, 32, 3)
    assert picture[16, 16].tolist() == [188, 137, 0]  # sRGB of 0.5, 0.25, 0
    assert not picture[0, 0].any()


@pytest.mark.parametrize(
    ("light", "irradiance"),
    [
        (lamp("point", (0, 0, 2), 50.0), 50.0 / (4 * math.pi * 4)),
        (lamp("area", (0, 0, 2), 10.0), 10.0 / (math.pi * 4)),
        (lamp("sun", (0, 0, 2), 1.5), 1.5),
    ],
)
def test_lights_have_blenders_units(light, irradiance):
    dull = RayScene([square(metallic=0.0, roughness=1.0)])
    picture = dull.shade(ABOVE, 33, [light], DARK)
    value = picture[16, 16, 0] / 255
    linear = ((value + 0.055) / 1.055) ** 2.4
    # Lambert's half of the base colour, and a faint highlight on top.
    assert 0.5 * irradiance / math.pi <= linear * 1.02 and linear <= 0.5 * irradiance / math.pi * 1.15


def test_objects_cast_shadows_unless_told_not_to():
    scene, sun = RayScene([square(half=2.0), square(z=1.0, half=0.3)]), lamp("sun", (3, 0, 3), 2.0)
    shadowed, open_ = (scene.shade(ABOVE, 65, [sun], DARK, shadows=on) for on in (True, False))
    # The shadow falls one unit to the left of the small square, which lies a unit above.
    column = round(32.5 - 65 / (2 * 5 * math.tan(math.radians(20))))
    assert shadowed[32, column, 0] == 0 < open_[32, column, 0]
    assert shadowed[10, 50, 0] == open_[10, 50, 0] > 0


def test_what_lies_behind_a_light_casts_no_shadow():
    floor, ceiling, bulb = square(half=1.0), square(z=3.0, half=1.0), lamp("point", (0, 0, 2), 50.0)
    low = camera(0.75, 0.3)
    alone = RayScene([floor]).shade(low, 64, [bulb], DARK)
    below = RayScene([floor]).ids_and_depth(low, 64)[0] == 1
    roofed = RayScene([floor, ceiling]).shade(low, 64, [bulb], DARK)
    assert alone[below].min() > 0
    hidden = RayScene([floor, ceiling]).ids_and_depth(low, 64)[0] == 2
    np.testing.assert_array_equal(roofed[below & ~hidden], alone[below & ~hidden])


def test_light_passes_the_holes_of_masked_surfaces():
    leaf = square(z=1.0, half=1.0, texture=checker(), alpha_mode="MASK")
    picture = RayScene([square(half=3.0), leaf]).shade(camera(0.75, -1.0), 64, [lamp("sun", (0, 0, 5), 2.0)], DARK)
    assert not picture.any()  # from below, the floor's lit side is not seen
    above = RayScene([square(half=3.0), leaf]).shade(ABOVE, 64, [lamp("sun", (0, 0, 5), 2.0)], DARK)
    assert (above[26, 38] > 60).all()  # through a hole, the lit floor


def test_textures_are_read_upright_in_srgb():
    colors = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [90, 90, 90]]], np.uint8)
    texture = np.full((16, 16, 4), 255, np.uint8)
    texture[..., :3] = colors.repeat(8, axis=0).repeat(8, axis=1)
    plain = square(texture=texture, base_color=np.ones(4, np.float32))
    picture = RayScene([plain]).shade(ABOVE, 64, [], Background(color=(1.0, 1.0, 1.0), strength=1.0))
    left, right = 32 - 8, 32 + 8
    assert picture[left, left].tolist() == [200, 0, 0] and picture[left, right].tolist() == [0, 200, 0]
    assert picture[right, left].tolist() == [0, 0, 200] and picture[right, right].tolist() == [90, 90, 90]


def test_round_things_are_shaded_smoothly_and_edges_stay_sharp():
    from randscene.generator.shading import corner_normals

    cube = corner_normals(BOX, TWELVE)
    np.testing.assert_allclose(np.abs(cube).max(axis=2), 1, atol=1e-6)
    rows, columns = np.meshgrid(np.arange(1, 12), np.arange(24), indexing="ij")
    theta, phi = np.pi * rows / 12, 2 * np.pi * columns / 24
    ball = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1).reshape(-1, 3)
    first = (np.arange(10)[:, None] * 24 + np.arange(24)).ravel()
    after = (np.arange(10)[:, None] * 24 + (np.arange(24) + 1) % 24).ravel()
    faces = np.concatenate(
        [np.stack([first, first + 24, after], axis=1), np.stack([after, first + 24, after + 24], axis=1)]
    )
    normals = corner_normals(ball, faces)
    inner = np.isin(faces, np.flatnonzero((rows.ravel() > 1) & (rows.ravel() < 11)))
    assert (np.einsum("fcx,fcx->fc", normals, ball[faces])[inner] > 0.999).all()
