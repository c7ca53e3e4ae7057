"""Lights: exposure that does not depend on the size of the scene, and seeded variety."""

import math
from pathlib import Path

import pytest

from randscene import seeding
from randscene.errors import SpecError
from randscene.generator.light_pictures import Picture
from randscene.generator.lighting import blackbody, make_lights
from randscene.generator.recipe import Background, Light
from randscene.manifests.spec_sections import LightSpec


def rig(kind: str, seed: int, size: float = 1.0) -> tuple[tuple[Light, ...], float]:
    rules = LightSpec.model_construct(kind=kind)
    lights, background = make_lights(
        rules, seeding.generator(seed, "lights"), look_at=(0.0, 0.0, size / 2), radius=size, extent=1.2 * size
    )
    return lights, background.strength


def irradiance_on_top(light: Light, place: tuple[float, float, float]) -> float:
    """On a surface at `place` that faces up: W/m2."""
    offset = [a - b for a, b in zip(light.position, place)]
    distance = math.hypot(*offset)
    if light.kind == "point":
        return light.power / (4 * math.pi * distance**2) * offset[2] / distance
    # A square straight above or below that shines down: radiosity times the form factor of its four quarters.
    if offset[2] < 0:
        return 0.0
    x = light.size / 2 / offset[2]
    factor = 4 / math.pi * x / math.sqrt(1 + x * x) * math.atan(x / math.sqrt(1 + x * x))
    return light.power / light.size**2 * factor


def white_value(light: Light, look_at: tuple[float, float, float]) -> float:
    """Linear value of a white surface at the scene's centre that faces the light."""
    if light.kind == "sun":
        return light.power / math.pi
    square = math.dist(light.position, look_at) ** 2
    return light.power / ((4 if light.kind == "point" else 1) * math.pi * square) / math.pi


@pytest.mark.parametrize("size", [0.05, 1.0, 40.0])
def test_random_rigs_expose_a_white_surface_about_right_at_any_scale(size):
    values, kinds = [], set()
    for seed in range(200):
        lights, ambient = rig("random", seed, size)
        assert 2 <= len(lights) <= 4
        key, *fills = (white_value(light, (0.0, 0.0, size / 2)) for light in lights)
        assert 0.4 < key < 0.9 and all(0.05 < fill < 0.35 for fill in fills)
        assert lights[0].position[2] > size / 2
        assert 0.15 < ambient < 0.5
        values.append(key + ambient)
        kinds |= {light.kind for light in lights}
    assert kinds == {"sun", "area"}
    assert 0.8 < sum(values) / len(values) < 1.2


def test_trellis_lights_keep_their_exposure_when_the_scene_grows():
    (small, _), (large, _) = rig("trellis", 0, 1.0), rig("trellis", 0, 3.0)
    assert [light.kind for light in small] == ["point", "area", "area"]
    for a, b in zip(small, large):
        assert white_value(a, (0.0, 0.0, 0.5)) == pytest.approx(white_value(b, (0.0, 0.0, 1.5)))
    assert small[2].target[2] < small[2].position[2]


@pytest.mark.parametrize("size", [0.1, 1.0, 25.0])
def test_trellis_lights_bring_white_that_faces_up_to_just_below_one(size):
    rules, look_at = LightSpec(kind="trellis"), (0.0, 0.0, size / 2)
    lights, world = make_lights(rules, seeding.generator(0, "lights"), look_at=look_at, radius=size, extent=size)
    white = sum(irradiance_on_top(light, look_at) for light in lights) / math.pi + world.color[0] * world.strength
    assert 0.95 < white < 1.0


def test_the_ratios_of_the_trellis_lights_are_the_original_s():
    lights, world = make_lights(
        LightSpec(kind="trellis"), seeding.generator(0, "lights"), look_at=(0.0, 0.0, 0.0), radius=1.0, extent=1.0
    )
    scale = lights[0].power / 1000
    assert [light.power / scale for light in lights] == pytest.approx([1000, 10000, 1000])
    assert world.strength == pytest.approx(scale)


PICTURES = tuple(Picture(sha256=f"{n:064x}", name=f"{n}.hdr", path=Path(f"/nowhere/{n}.hdr")) for n in range(5))


def picture_light(seed: int, **changes: object) -> Background:
    rules = LightSpec(**{"kind": "hdri", "folder": "/nowhere", "strength": (0.5, 0.8), **changes})
    rng = seeding.generator(seed, "lights")
    lights, background = make_lights(rules, rng, look_at=(0.0, 0.0, 1.0), radius=1.0, extent=1.0, pictures=PICTURES)
    assert lights == ()
    return background


def test_pictures_turns_and_strengths_are_drawn_from_their_whole_range():
    drawn = [picture_light(seed) for seed in range(300)]
    images = [background.image for background in drawn]
    assert {(image.sha256, image.name) for image in images} == {(p.sha256, p.name) for p in PICTURES}
    assert min(image.turns for image in images) < 0.02 and 0.98 < max(image.turns for image in images) < 1
    strengths = [background.strength for background in drawn]
    assert 0.5 <= min(strengths) < 0.51 and 0.79 < max(strengths) <= 0.8
    assert picture_light(3) == picture_light(3) != picture_light(4)


def test_the_range_of_strengths_moves_neither_picture_nor_turn():
    for seed in range(20):
        assert picture_light(seed).image == picture_light(seed, strength=(1.0, 2.0)).image


def test_the_seed_decides_the_rig():
    assert rig("random", 1) == rig("random", 1) != rig("random", 2)


def test_colour_temperature_runs_from_orange_over_white_to_blue():
    assert blackbody(6500) == pytest.approx((1, 1, 1), abs=0.06)
    for kelvin in range(1700, 12_000, 100):
        assert max(blackbody(kelvin)) == 1.0 and min(blackbody(kelvin)) >= 0
    red = [blackbody(kelvin)[2] / blackbody(kelvin)[0] for kelvin in range(2000, 12_000, 250)]
    assert red == sorted(red)


def test_an_unknown_kind_is_refused():
    with pytest.raises(SpecError, match="disco"):
        rig("disco", 0)
