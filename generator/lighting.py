"""Lights of a scene: random three-point style rigs, TRELLIS's fixed one, and the user's own pictures.

Powers follow Blender: a point light of P watts gives the irradiance P / (4 pi d^2) at distance d, an area light
P / (pi d^2) straight ahead, a sun its strength; a white diffuse surface under irradiance E has the linear value E / pi.
"""

import math
from collections.abc import Sequence

import numpy as np

from randscene.errors import SpecError
from randscene.generator.light_pictures import Picture
from randscene.generator.recipe import DECIMALS, Background, EnvironmentMap, Light, Vector3
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.spec_sections import LightSpec

TRELLIS_EXPOSURE = 0.26
"""Factor on all of TRELLIS's lights. Its powers are made for Blender's Filmic curve: without it a white surface that
faces up has the linear value 3.8, which Standard clips; with it 0.99."""


def make_lights(
    rules: LightSpec,
    rng: np.random.Generator,
    *,
    look_at: Vector3,
    radius: float,
    extent: float,
    pictures: Sequence[Picture] = (),
) -> tuple[tuple[Light, ...], Background]:
    """Lights and ambient of the kind that a spec names.

    Parameters
    ----------
    rules : LightSpec
    rng : numpy.random.Generator
        Only its `random()` is used.
    look_at : (float, float, float)
        Centre of the scene, metres.
    radius : float
        Of the scene's bounding sphere around `look_at`, metres.
    extent : float
        Largest side of the scene's bounding box, metres.
    pictures : sequence of Picture
        What `hdri` draws from; see `light_pictures`.

    Raises
    ------
    SpecError
        If there is no such kind.
    """
    if rules.kind == "random":
        return random_lights(rng, look_at, radius)
    if rules.kind == "trellis":
        return trellis_lights(look_at, extent)
    if rules.kind == "hdri":
        return (), picture_light(rng, pictures, rules.strength)
    raise SpecError(f"lights.kind: {rules.kind!r} is none of random, trellis, hdri")


def picture_light(rng: np.random.Generator, pictures: Sequence[Picture], strength: tuple[float, float]) -> Background:
    """One of the user's pictures, turned about Z, as the only light.

    The picture, the turn and the strength are drawn in this order. The uniform light that an engine without pictures
    takes instead is neutral and as strong.

    Parameters
    ----------
    rng : numpy.random.Generator
    pictures : sequence of Picture
        One or more.
    strength : (float, float)
        Range of the mean luminance that the picture is scaled to.
    """
    picture = pictures[int(rng.random() * len(pictures))]
    turns = round(rng.random(), DECIMALS)
    low, high = strength
    return Background(
        color=(1.0, 1.0, 1.0),
        strength=round(low + (high - low) * rng.random(), DECIMALS),
        image=EnvironmentMap(sha256=picture.sha256, name=picture.name, turns=turns),
    )


def random_lights(rng: np.random.Generator, look_at: Vector3, radius: float) -> tuple[tuple[Light, ...], Background]:
    """A key light from above (a sun or an area light), one to three weak area lights from anywhere, grey ambient.

    A white surface that faces the key reaches about 0.6 to 1.2 in linear light, whatever the size of the scene, so that
    common materials are well exposed under Blender's Standard view transform; fills and ambient keep the sides that
    the key does not reach, the underside included, above black.

    Parameters
    ----------
    rng : numpy.random.Generator
    look_at : (float, float, float)
        Centre of the scene, metres.
    radius : float
        Of the scene's bounding sphere, metres.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    def area(towards: Vector3, value: float) -> Light:
        distance = between(4, 6) * radius
        return _light(
            "area",
            position=_along(look_at, towards, distance),
            target=look_at,
            power=math.pi * distance * distance * math.pi * value,
            size=between(0.5, 2) * radius,
            color=blackbody(between(3000, 8000)),
        )

    overhead = _direction(rng.random(), cos_sin(between(25, 75) / 360)[1])
    strength = between(0.45, 0.85)
    if rng.random() < 0.4:
        key = _light(
            "sun",
            position=_along(look_at, overhead, 5 * radius),
            target=look_at,
            power=math.pi * strength,
            size=between(0.01, 0.2),
            color=blackbody(between(4000, 7000)),
        )
    else:
        key = area(overhead, strength)
    fills = [
        area(_direction(rng.random(), between(-1, 1)), between(0.08, 0.3)) for _ in range(1 + int(3 * rng.random()))
    ]
    ambient = Background(color=_rounded(blackbody(between(5000, 9000))), strength=round(between(0.2, 0.45), DECIMALS))
    return (key, *fills), ambient


def trellis_lights(look_at: Vector3, extent: float) -> tuple[tuple[Light, ...], Background]:
    """TRELLIS's lights (`dataset_toolkits/blender_script/render.py::init_lighting`), scaled from its unit cube.

    A point light of 1000 W at (4, 1, 6), an area light of 25 m and 10000 W above, one of 1000 W below; lengths grow
    with `extent` and powers with its square, which keeps the exposure. The lower light faces down there, away from the
    scene, and is kept so. The ambient is Blender's default world. `TRELLIS_EXPOSURE` scales all alike.

    Parameters
    ----------
    look_at : (float, float, float)
        Centre of the scene, metres.
    extent : float
        Largest side of the scene's bounding box, metres; TRELLIS scales it to 1.
    """

    def at(x: float, y: float, z: float) -> Vector3:
        return (look_at[0] + x * extent, look_at[1] + y * extent, look_at[2] + z * extent)

    white, power = (1.0, 1.0, 1.0), TRELLIS_EXPOSURE * extent * extent
    lights = (
        _light("point", position=at(4, 1, 6), target=look_at, power=1000 * power, size=0.0, color=white),
        _light("area", position=at(0, 0, 10), target=look_at, power=10000 * power, size=25 * extent, color=white),
        _light("area", position=at(0, 0, -10), target=at(0, 0, -20), power=1000 * power, size=25 * extent, color=white),
    )
    return lights, Background(color=(0.050876, 0.050876, 0.050876), strength=TRELLIS_EXPOSURE)


def blackbody(kelvin: float) -> Vector3:
    """Linear sRGB of a black body, its largest channel 1; 1,667 to 25,000 K.

    The Planckian locus in CIE xy by the cubic fit of Kim et al. (2002), then the sRGB primaries.
    """
    t = 1000 / kelvin
    if kelvin < 4000:
        x = ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910
    else:
        x = ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390
    if kelvin < 2222:
        y = ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683
    elif kelvin < 4000:
        y = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    else:
        y = ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483
    tristimulus = (x / y, 1.0, (1 - x - y) / y)
    rows = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
    channels = [max(0.0, math.fsum(weight * value for weight, value in zip(row, tristimulus))) for row in rows]
    largest = max(channels)
    return (channels[0] / largest, channels[1] / largest, channels[2] / largest)


def _direction(turns: float, height: float) -> Vector3:
    """Unit vector with its azimuth in turns and `height` as its z."""
    flat = math.sqrt(max(0.0, 1 - height * height))
    cosine, sine = cos_sin(turns)
    return (flat * cosine, flat * sine, height)


def _along(start: Vector3, direction: Vector3, distance: float) -> Vector3:
    return (
        start[0] + distance * direction[0],
        start[1] + distance * direction[1],
        start[2] + distance * direction[2],
    )


def _light(kind: str, *, position: Vector3, target: Vector3, power: float, size: float, color: Vector3) -> Light:
    return Light(
        kind=kind,
        position=_rounded(position),
        target=_rounded(target),
        power=round(power, DECIMALS),
        size=round(size, DECIMALS),
        color=_rounded(color),
    )


def _rounded(vector: Vector3) -> Vector3:
    # Adding zero turns -0.0 into 0.0.
    return (round(vector[0], DECIMALS) + 0.0, round(vector[1], DECIMALS) + 0.0, round(vector[2], DECIMALS) + 0.0)
