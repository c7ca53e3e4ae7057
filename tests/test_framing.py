"""Framing: nothing is cut, nothing is farther away than it must be, and jitter is fitted after it is drawn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene import seeding
from randscene.errors import SpecError
from randscene.generator.cameras import camera_axes, directions
from randscene.generator.framing import CLEARANCE, Subject, fitted_distances, make_cameras
from randscene.generator.planning import plan
from randscene.generator.recipe import Camera
from randscene.generator.view_centric import apply_transform, world_to_view
from randscene.manifests import build_lock, load_asset_mesh, load_lock, load_spec, with_overrides
from randscene.manifests.spec_sections import CameraSpec


def subject(corners: np.ndarray) -> Subject:
    """About the middle of its box, wherever that is."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle = (low + high) / 2
    return Subject(
        corners=corners,
        look_at=tuple(middle.tolist()),
        radius=float(np.linalg.norm(corners - middle, axis=1).max()),
        extent=float((high - low).max()),
    )


def scene(seed: int = 0, boxes: int = 5) -> Subject:
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.1, 0.6, (boxes, 1, 3)) * rng.choice((-1, 1), (boxes, 8, 3))
    return subject((rng.uniform(-2, 2, (boxes, 1, 3)) + sides).reshape(-1, 3))


def cameras(what: Subject, seed: int = 0, **rules: object) -> tuple[Camera, ...]:
    return make_cameras(CameraSpec(**rules), seeding.generator(seed, "cameras"), what)


def projected(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) in half frames from the picture's centre, and (P,) depth in metres."""
    matrix = np.asarray(camera.camera_to_world)
    local = (points - matrix[:3, 3]) @ matrix[:3, :3]
    slope = math.tan(math.radians(camera.fov_deg) / 2)
    return local[:, :2] / -local[:, 2:] / slope, -local[:, 2]


CORNERS = st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=2, max_size=40).map(np.array)
VIEWS = 12


@given(
    corners=CORNERS,
    kind=st.sampled_from(["uniform", "trellis", "upper", "random", "front"]),
    seed=st.integers(0, 1000),
    fov=st.floats(3, 160),
    margin=st.floats(0, 0.49),
    jitter=st.sampled_from([0.0, 0.3, 2.0]),
    roll=st.sampled_from([0.0, 1.0]),
)
@settings(deadline=None, max_examples=200)
def test_tight_views_cut_nothing_and_touch_the_margin(corners, kind, seed, fov, margin, jitter, roll):
    what = subject(corners)
    if what.radius < 1e-3:
        return
    rng = seeding.generator(seed, "cameras")
    axes = camera_axes(directions(kind, VIEWS, rng), roll * rng.random(VIEWS))
    offsets = jitter * what.radius * (2 * rng.random((VIEWS, 3)) - 1)
    slope = math.tan(math.radians(fov) / 2)
    distances = fitted_distances("tight", axes, offsets, np.full(VIEWS, slope), margin, what)
    for rotation, offset, distance in zip(axes, offsets, distances):
        local = (corners - what.look_at - offset) @ rotation
        depth = distance - local[:, 2]
        reach = np.abs(local[:, :2]).max(axis=1) / (depth * slope)
        nearest = min(depth.min(), distance) / what.radius
        # All of the scene is ahead of the camera, so the camera is outside of it, and so is what it looks at.
        assert nearest >= CLEARANCE - 1e-9
        assert reach.max() <= 1 - margin + 1e-9
        assert reach.max() >= 1 - margin - 1e-6 or nearest <= CLEARANCE + 1e-9


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("jitter", [{}, {"look_at_jitter": 0.5, "fov_deg": (20.0, 70.0), "roll_deg": (-180.0, 180.0)}])
def test_the_cameras_of_a_recipe_hold_the_margin(margin, jitter):
    for seed in range(10):
        what = scene(seed)
        for camera in cameras(what, seed, views=20, margin=margin, **jitter):
            places, depth = projected(camera, what.corners)
            assert depth.min() > 0
            assert np.abs(places).max() == pytest.approx(1 - margin, abs=1e-6)


@pytest.mark.parametrize("fov_deg", [5.0, 40.0, 120.0])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_the_bounding_sphere_touches_the_margin(fov_deg, margin):
    what = scene()
    for camera in cameras(what, framing="sphere", fov_deg=fov_deg, margin=margin, views=4):
        distance = math.dist(np.asarray(camera.camera_to_world)[:3, 3], what.look_at)
        outline = math.tan(math.asin(what.radius / distance))
        assert outline == pytest.approx((1 - margin) * math.tan(math.radians(fov_deg) / 2), rel=1e-6)


def test_the_sphere_stays_whole_when_the_view_looks_past_its_middle():
    what = scene()
    for camera in cameras(what, framing="sphere", look_at_jitter=1.0, views=50):
        matrix = np.asarray(camera.camera_to_world)
        x, y, z = (what.look_at - matrix[:3, 3]) @ matrix[:3, :3]
        # The sphere is inside the cone of the margin.
        half = math.atan(0.95 * math.tan(math.radians(camera.fov_deg) / 2))
        angle = math.atan2(math.hypot(x, y), -z) + math.asin(what.radius / math.dist((x, y, z), (0, 0, 0)))
        assert angle <= half + 1e-6


def test_trellis_framing_stands_at_two_extents():
    what = scene()
    for camera in cameras(what, framing="trellis", views=10):
        distance = math.dist(np.asarray(camera.camera_to_world)[:3, 3], what.look_at)
        assert distance == pytest.approx(2 * what.extent, abs=1e-8)


def test_an_unknown_framing_is_refused():
    rules = CameraSpec.model_construct(**{**CameraSpec().model_dump(), "framing": "loose"})
    with pytest.raises(SpecError, match="loose"):
        make_cameras(rules, seeding.generator(0, "cameras"), scene())


@pytest.mark.parametrize("framing", ["tight", "sphere", "trellis"])
def test_a_scene_twice_as_large_is_seen_the_same(framing):
    small = scene()
    large = Subject(
        corners=2 * small.corners,
        look_at=tuple(2 * v for v in small.look_at),
        radius=2 * small.radius,
        extent=2 * small.extent,
    )
    for a, b in zip(cameras(small, framing=framing), cameras(large, framing=framing), strict=True):
        np.testing.assert_allclose(projected(a, small.corners)[0], projected(b, large.corners)[0], atol=1e-7)


def test_jitter_stays_in_its_range_and_fills_it():
    what = scene()
    plain = cameras(what, framing="trellis")
    moved = {"fov_deg": (30.0, 50.0), "distance_jitter": (1.0, 1.5), "look_at_jitter": 0.2, "roll_deg": (-10, 20)}
    made = cameras(what, framing="trellis", **moved)
    angles = [camera.fov_deg for camera in made]
    assert 30 <= min(angles) < 31 and 49 < max(angles) <= 50
    rolls, offsets = [], []
    for a, b in zip(plain, made, strict=True):
        before, after = np.asarray(a.camera_to_world), np.asarray(b.camera_to_world)
        np.testing.assert_allclose(before[:3, 2], after[:3, 2], atol=1e-8)
        rolls.append(math.degrees(math.atan2(after[:3, 0] @ before[:3, 1], after[:3, 0] @ before[:3, 0])))
        across = (after[:3, 3] - what.look_at) @ before[:3, :2]
        offsets.append(math.hypot(*across) / what.radius)
    assert -10 <= min(rolls) < -9 and 19 < max(rolls) <= 20
    assert 0.1 < max(offsets) <= 0.2
    still = cameras(what, framing="trellis", distance_jitter=(1.0, 1.5))
    factors = [math.dist(np.asarray(c.camera_to_world)[:3, 3], what.look_at) / (2 * what.extent) for c in still]
    assert 1 <= min(factors) < 1.01 and 1.49 < max(factors) <= 1.5 + 1e-8


@pytest.mark.parametrize("kind", ["uniform", "trellis", "upper", "random"])
def test_one_setting_moves_no_other_s_draws(kind):
    what = scene()
    plain = cameras(what, kind=kind)
    turned = cameras(what, kind=kind, roll_deg=(0.0, 90.0))
    both = cameras(what, kind=kind, roll_deg=(0.0, 90.0), fov_deg=(30.0, 50.0))
    for a, b, c in zip(plain, turned, both, strict=True):
        rotations = [np.asarray(camera.camera_to_world)[:3, :3] for camera in (a, b, c)]
        np.testing.assert_array_equal(rotations[0][:, 2], rotations[1][:, 2])
        np.testing.assert_array_equal(rotations[1], rotations[2])
        assert b.fov_deg == 40.0 != c.fov_deg


def test_every_vertex_of_real_meshes_is_in_the_picture_and_the_frame_turns_to_the_camera(tmp_path):
    path = tmp_path / "assets.lock.jsonl"
    build_lock("procedural", count=30, out=path)
    lock = load_lock(path)
    overrides = ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", "cameras.views=20"]
    for changes in ([], ["layout.pose=so3", "cameras.look_at_jitter=0.1", "cameras.roll_deg=[-20, 20]"]):
        spec = with_overrides(load_spec("demo"), [*overrides, *changes])
        margin = spec.cameras.margin
        paths = {record.uid: (record.locator, record.up_axis) for record in lock}
        fullest = []
        for recipe in plan(spec, lock, range(4)):
            vertices = np.concatenate(
                [
                    apply_transform(np.asarray(item.pose), load_asset_mesh(file, up_axis=up).vertices)
                    for item in recipe.instances
                    for file, up in [paths[item.uid]]
                ]
            )
            for camera in recipe.cameras:
                places, depth = projected(camera, vertices)
                assert depth.min() > 0 and np.abs(places).max() <= 1 - margin + 1e-6
                fullest.append(np.abs(places).max())
                position = np.asarray(camera.camera_to_world)[:3, 3]
                transform = world_to_view(np.asarray(camera.camera_to_world), np.asarray(recipe.look_at), vertices)
                seen = transform[:3, :3] @ (position - recipe.look_at)
                assert abs(seen[0]) < 1e-6 * np.linalg.norm(seen) and seen[1] < 0
        # Boxes are larger than what is in them, the more so for turned meshes; not by much.
        assert np.mean(fullest) > (0.85 if changes == [] else 0.75) * (1 - margin)


def test_front_views_are_taken_within_the_angles_that_the_spec_names():
    what = scene()
    made = cameras(what, kind="front", views=200, azimuth_deg=10, elevation_deg=(20, 30))
    towards = np.array([camera.camera_to_world for camera in made])[:, :3, 2]
    sideways = np.degrees(np.arctan2(towards[:, 0], -towards[:, 1]))
    heights = np.degrees(np.arcsin(towards[:, 2]))
    assert -10 <= sideways.min() < -9 and 9 < sideways.max() <= 10
    assert 20 <= heights.min() < 21 and 29 < heights.max() <= 30
