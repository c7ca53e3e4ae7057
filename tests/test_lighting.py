"""Lights: exposure that does not depend on the size of the scene, and seeded variety."""

import math

import pytest

from randscene import seeding
from randscene.errors import SpecError
from randscene.generator.lighting import blackbody, make_lights
from randscene.generator.recipe import Light


def rig(kind: str, seed: int, size: float = 1.0) -> tuple[tuple[Light, ...], float]:
    lights, background = make_lights(
        kind, seeding.generator(seed, "lights"), look_at=(0.0, 0.0, size / 2), radius=size, extent=1.2 * size
    )
    return lights, background.strength


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
