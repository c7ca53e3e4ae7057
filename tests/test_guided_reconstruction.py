"""Pictures from few samples: better than these alone, and never worse where two programs read a mesh differently."""

from dataclasses import replace

import numpy as np
import pytest
from ray_fixtures import ABOVE, checkers, square
from test_blender_worker import camera as blender_camera
from test_blender_worker import pose, scene

from randscene.demodulation import modulator
from randscene.display import srgb_on_black
from randscene.generator.blender_process import BlenderProcess
from randscene.generator.guide_sampler import GuideSampler
from randscene.generator.guided_reconstruction import reconstruct
from randscene.generator.ray_caster import RayScene
from randscene.generator.rendered_view import ShadingLayers
from randscene.generator.scene_maker import SceneMaker
from randscene.manifests import load_asset_mesh

RESOLUTION = 48
SAMPLES = 3
LIGHT = 0.8
TOP, LEFT = 4, 5
SHAPE = (RESOLUTION - 9, RESOLUTION - 11)
"""A window that holds the square and is not the whole picture."""


def render(rays: RayScene, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Guide (h, w, 3) and alpha (h, w, 1) of the window from random places in each pixel, as a renderer has them."""
    rng = np.random.default_rng(seed)
    matrix, step = np.array(ABOVE.camera_to_world), 2 * np.tan(np.radians(20)) / RESOLUTION
    rows, columns = (item.ravel() for item in np.mgrid[TOP : TOP + SHAPE[0], LEFT : LEFT + SHAPE[1]])
    origins = np.tile(np.float32(matrix[:3, 3]), (len(rows), 1))
    guide, alpha = np.zeros((len(rows), 3)), np.zeros((len(rows), 1))
    for _ in range(samples):
        across, down = rng.random((2, len(rows), 1))
        place = (columns[:, None] + across - RESOLUTION / 2) * step * matrix[:3, 0]
        place = place - (rows[:, None] + down - RESOLUTION / 2) * step * matrix[:3, 1] - matrix[:3, 2]
        triangles, u, v = rays.first_hits(origins, place.astype(np.float32))
        hit = triangles >= 0
        weights = np.stack([1 - u - v, u, v], axis=1)[hit]
        guide[hit] += rays.surfaces.color(triangles[hit], weights)[:, :3] / samples
        alpha[hit] += 1 / samples
    return guide.reshape(*SHAPE, 3).astype(np.float32), alpha.reshape(*SHAPE, 1).astype(np.float32)


def layers(guide: np.ndarray, alpha: np.ndarray) -> ShadingLayers:
    light = np.full(guide.shape, LIGHT, np.float16)
    return ShadingLayers(
        top=TOP,
        left=LEFT,
        light=light.transpose(2, 0, 1),
        guide=guide.astype(np.float16).transpose(2, 0, 1),
        alpha=alpha[..., 0].astype(np.float16),
    )


def picture(guide: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(R, R, 3) uint8 that samples of that guide and alpha give under even light."""
    out = np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)
    color = np.concatenate([np.float32(LIGHT) * modulator(guide, alpha), alpha], axis=2)
    out[TOP : TOP + SHAPE[0], LEFT : LEFT + SHAPE[1]] = srgb_on_black(color)
    return out


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(float) - b) ** 2).mean()))


@pytest.fixture(scope="module")
def textured():
    return RayScene([square(half=0.9, texture=checkers(32)), square(z=-0.5, half=1.1)])


def test_a_few_samples_give_nearly_the_picture_of_a_thousand(textured):
    few, many = render(textured, SAMPLES), render(textured, 1000, seed=1)
    made = reconstruct(layers(*few), GuideSampler(textured), ABOVE, RESOLUTION, SAMPLES)
    assert error(made, picture(*many)) < 0.25 * error(picture(*few), picture(*many))
    assert not made[:TOP].any() and not made[:, :LEFT].any()


@pytest.mark.parametrize("change", ["brighter", "turned", "plain"])
def test_where_the_renderer_reads_a_surface_differently_its_own_samples_are_kept(change):
    coarse = RayScene([square(half=0.9, texture=checkers(8)), square(z=-0.5, half=1.1)])
    few = render(coarse, SAMPLES)
    texture = {
        "brighter": np.clip(checkers(8).astype(int) + np.array([90, 90, 90, 0]), 0, 255).astype(np.uint8),
        "turned": np.roll(checkers(8), 1, axis=0),
        "plain": np.full((1, 1, 4), 255, np.uint8),
    }[change]
    other = RayScene([square(half=0.9, texture=texture), square(z=-0.5, half=1.1)])
    made = reconstruct(layers(*few), GuideSampler(other), ABOVE, RESOLUTION, SAMPLES)
    # A level more or less from the half floats.
    inside = np.s_[16:32, 16:32]
    assert np.abs(made[inside].astype(int) - picture(*few)[inside]).max() <= 1
    assert error(made, picture(*few)) < error(picture(*render(other, 64)), picture(*few))


def test_light_through_a_surface_is_the_renderers():
    glass = RayScene([square(base_color=np.float32([0.2, 0.6, 0.9, 0.5]), alpha_mode="BLEND")])
    guide, alpha = render(glass, 2)
    guide, alpha = guide * 0.5, alpha * 0.5
    made = reconstruct(layers(guide, alpha), GuideSampler(glass), ABOVE, RESOLUTION, 2)
    assert np.abs(made.astype(int) - picture(guide, alpha)).max() <= 1


def test_before_a_floor_that_rays_do_not_know_nothing_turns_black(textured):
    guide, alpha = render(textured, SAMPLES)
    alpha, bare = np.ones_like(alpha), alpha
    guide = np.where(bare < 1, guide + (1 - bare) * 0.5, guide).astype(np.float32)
    floored = reconstruct(layers(guide, alpha), GuideSampler(textured), ABOVE, RESOLUTION, SAMPLES, floor=True)
    assert floored[TOP : TOP + SHAPE[0], LEFT : LEFT + SHAPE[1]].min() > 20
    without = reconstruct(layers(guide, alpha), GuideSampler(textured), ABOVE, RESOLUTION, SAMPLES)
    assert not without[TOP + 1, LEFT + 1].any() or (floored == without).all()


def test_the_same_layers_give_the_same_bytes_and_an_empty_window_a_black_picture(textured):
    few = layers(*render(textured, SAMPLES))
    first, second = (reconstruct(few, GuideSampler(textured), ABOVE, RESOLUTION, SAMPLES) for _ in range(2))
    assert np.array_equal(first, second)
    nothing = replace(few, guide=np.zeros_like(few.guide), alpha=np.zeros_like(few.alpha))
    assert not reconstruct(nothing, GuideSampler(textured), ABOVE, RESOLUTION, SAMPLES).any()


@pytest.mark.blender
def test_three_samples_in_blender_come_closer_to_a_thousand_than_twice_as_many_alone(tmp_path):
    import trimesh
    from PIL import Image

    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.6)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(checkers(32)[..., :3]), metallicFactor=0.0, roughnessFactor=0.8
    )
    mesh.visual = trimesh.visual.TextureVisuals(uv=mesh.vertices[:, :2] + 0.5, material=material)
    path = tmp_path / "ball.glb"
    mesh.export(path)
    recipe = scene([("ball", pose(-0.5)), ("ball", pose(0.6, 0.4, yaw=1.0))], cameras=[blender_camera((3, -3, 2))])
    asset = load_asset_mesh(path)
    rays = RayScene([SceneMaker.place(asset, np.array(item.pose)) for item in recipe.instances])
    view = recipe.cameras[0]
    with BlenderProcess(scratch=tmp_path) as blender:

        def render_with(samples: int, **options: bool):
            (only,) = blender.render(recipe, {"ball": path}, [0], resolution=96, samples=samples, **options)
            return only

        truth = render_with(1000).rgb
        alone = render_with(6).rgb
        made = reconstruct(render_with(3, layers=True).layers, GuideSampler(rays), view, 96, 3)
    assert error(made, truth) < 0.9 * error(alone, truth)
