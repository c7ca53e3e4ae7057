"""Toys: blocks, ball, car, rocket."""

import math
from collections.abc import Callable

import numpy as np

from randscene.manifests.procedural import curves, materials, patterns
from randscene.manifests.procedural.furniture_parts import Piece
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model, Surface, Texture
from randscene.manifests.procedural.primitives import ball, box, lathe, prism, rod, torus, tube


def toy_blocks(rng: np.random.Generator) -> Model:
    """A tower of cubes, bricks, cylinders, arches, cones and wedges in a few bright paints and prints."""
    unit = uniform(rng, 0.03, 0.07)
    prints = patterns.scheme(rng, 3)
    coats = [materials.plastic(rng), materials.wood(rng), materials.paint(rng)]
    coats.append(
        Material(name="print", texture=patterns.cover(rng, prints[0], prints[1], prints[2]), tile=None, roughness=0.5)
    )
    coats.append(Material(name="print", texture=patterns.checker(rng, prints[:2], 4), tile=None, roughness=0.5))
    pieces: list[Piece] = []
    columns = count(rng, 1, 3)
    heights = [0.0] * columns
    pitch = unit * 1.06

    def upright(kind: int) -> tuple[Surface, float]:
        if kind == 0:
            return box((unit, unit, unit), unit * 0.06), unit
        if kind == 1:
            profile = curves.round_corners(np.array([[unit / 2, 0.0], [unit / 2, unit]]), 0.0, closed=False)
            return lathe(profile, 40).moved(0, 0, -unit / 2), unit
        if kind == 2:
            return box((unit, unit, unit / 2), unit * 0.05), unit / 2
        sides = pick(rng, (3, 5, 6, 8))
        return prism(curves.regular_polygon(sides, unit * 0.56, unit * 0.06), -unit / 2, unit / 2, unit * 0.05), unit

    for i in range(columns):
        for _ in range(count(rng, 1, 4)):
            block, tall = upright(count(rng, 0, 3))
            x = (i - (columns - 1) / 2) * pitch
            turned = block.rotated("z", uniform(rng, -0.12, 0.12)) if columns == 1 else block
            pieces.append((turned.moved(x, 0, heights[i] + tall / 2), pick(rng, coats)))
            heights[i] += tall
    level = min(heights)
    if columns > 1 and max(heights) - level < 1e-6:
        pieces.append(
            (box((columns * pitch, unit, unit / 2), unit * 0.05).moved(0, 0, level + unit / 4), pick(rng, coats))
        )
        heights = [level + unit / 2] * columns
    peak = heights.index(max(heights))
    level_top = heights.count(heights[peak]) == columns > 1
    x, z, coat = (peak - (columns - 1) / 2) * pitch, heights[peak], pick(rng, coats)
    cap = count(rng, 0, 3)
    if cap == 0:
        cone = curves.round_corners(
            np.array([[unit / 2, 0.0], [unit * 0.04, unit * 1.1], [0.0, unit * 1.12]]), unit * 0.03, closed=False
        )
        pieces.append((lathe(cone, 40).moved(x, 0, z), coat))
    elif cap == 1:
        roof = prism(
            curves.Outline(
                corners=np.array([[-unit * 0.55, 0.0], [unit * 0.55, 0.0], [0.0, unit * 0.7]]), radius=unit * 0.08
            ),
            -unit / 2,
            unit / 2,
            unit * 0.05,
        )
        pieces.append((roof.rotated("x", math.pi / 2).moved(x, 0, z), coat))
    elif cap == 2:
        pieces.append((ball(unit * 0.45, 36, 18).moved(x, 0, z + unit * 0.44), coat))
    else:
        half_circle = np.linspace(0, math.pi, 17)
        span = unit if level_top else unit * 0.5
        path = 0.75 * span * np.stack([np.cos(half_circle), np.zeros(17), np.sin(half_circle)], axis=1)
        section = curves.rectangle(3.6, 2.0, 0.15).points
        bow = tube(path, span * 0.25, section=section, up=(0.0, 1.0, 0.0))
        pieces.append((bow.moved(0 if level_top else x, 0, z), coat))
    return Model.standing(pieces)


def ball_toy(rng: np.random.Generator) -> Model:
    """A ball: smooth, lobed, grooved, squarish or studded; round or oblong; capped or on a ring at times."""
    radius = uniform(rng, 0.05, 0.2)
    colors = patterns.scheme(rng, count(rng, 2, 5))
    kind = count(rng, 0, 5)
    drawn: tuple[Callable[[], Texture], ...] = (
        lambda: patterns.gores(rng, colors, len(colors) * count(rng, 2, 4)),
        lambda: patterns.honeycomb(rng, colors[:2], (0.08, 0.08, 0.08)),
        lambda: patterns.patches(rng, [(0.12, 0.25, 0.55), (0.15, 0.35, 0.6), (0.3, 0.5, 0.2), (0.7, 0.6, 0.4)]),
        lambda: patterns.stripes(rng, colors),
        lambda: patterns.zigzag(rng, colors),
        lambda: patterns.speckle(rng, colors[0], colors[1:]),
    )
    texture = drawn[kind]()
    skin = Material(
        name="skin",
        texture=texture,
        tile=None,
        roughness=uniform(rng, 0.1, 0.7),
        metallic=pick(rng, (0.0, 0.0, 0.0, 0.9)),
    )
    stretch = pick(rng, (1.0, 1.0, uniform(rng, 1.15, 1.6), uniform(rng, 0.75, 0.9)))
    angle = np.linspace(-math.pi / 2, math.pi / 2, 33)
    latitude = np.ones(33)
    form, lobes = count(rng, 0, 4), count(rng, 5, 14)
    section = np.ones(60)
    if form == 1:  # bulging gores
        section = curves.polar_flutes(6 * lobes, lobes, uniform(rng, 0.04, 0.12))
    elif form == 2:  # grooves around
        latitude = 1 - uniform(rng, 0.02, 0.05) * (0.5 + 0.5 * np.cos(2 * angle * count(rng, 2, 5)))
    elif form == 3:  # rounded cube
        section = curves.polar_superellipse(60, uniform(rng, 2.4, 4.0)) * 0.9
    profile = np.stack([radius * latitude * np.cos(angle), radius * latitude * stretch * np.sin(angle)], axis=1)
    profile[[0, -1], 0] = 0.0
    pieces: list[Piece] = [(lathe(profile, len(section), section=section), skin)]
    if form == 4:  # studs, spread evenly over the ball
        number, stud = count(rng, 24, 60), any_of(rng, lambda _: skin, materials.plastic, materials.metal)
        for i in range(number):
            z = 1 - 2 * (i + 0.5) / number
            r = math.sqrt(1 - z * z)
            x, y = r * math.cos(2.399963 * i), r * math.sin(2.399963 * i)
            bump = ball(radius * 0.11, 12, 6)
            pieces.append((bump.moved(radius * x, radius * y, radius * stretch * z), stud))
    elif chance(rng, 0.4):
        cap = curves.smooth([(radius * 0.2, -radius * 0.05), (radius * 0.16, 0.0), (0.0, radius * 0.03)], 8)
        pieces.append(
            (lathe(cap, 24).moved(0, 0, radius * stretch * float(latitude[-1]) * 0.99), materials.plastic(rng))
        )
        if chance(rng, 0.4):
            loop = torus(radius * 0.1, radius * 0.022, 24, 8).rotated("x", math.pi / 2)
            pieces.append((loop.moved(0, 0, radius * stretch * 1.1), materials.metal(rng)))
    if chance(rng, 0.3):
        low = -radius * stretch * 0.88
        ring = torus(radius * 0.55, radius * uniform(rng, 0.08, 0.14), 44, 12).moved(0, 0, low)
        pieces.append((ring, any_of(rng, materials.metal, materials.wood)))
    elif chance(rng, 0.5):
        turn = uniform(rng, -1.2, 1.2)
        pieces = [(surface.rotated("x", turn), material) for surface, material in pieces]
    return Model.standing(pieces)


def toy_car(rng: np.random.Generator) -> Model:
    """A wooden or tin car, bus or truck: hull, cabin, windows, four or six wheels, lamps, a load."""
    long = uniform(rng, 0.14, 0.3)
    wide, hull = long * uniform(rng, 0.38, 0.5), long * uniform(rng, 0.14, 0.22)
    paint, second = (
        any_of(rng, materials.plastic, materials.paint, materials.wood),
        any_of(rng, materials.plastic, materials.paint),
    )
    tyre = Material(name="tyre", color=(0.05, 0.05, 0.055), roughness=0.85)
    hub, glass = (
        any_of(rng, materials.metal, lambda _: second),
        Material(name="window", color=(0.12, 0.17, 0.22), roughness=0.08),
    )
    wheel = long * uniform(rng, 0.085, 0.12)
    floor = wheel * 0.9
    kind = count(rng, 0, 2)
    cabin_long = long * (0.34 if kind == 2 else uniform(rng, 0.42, 0.55) if kind == 0 else 0.92)
    cabin_x = {0: -long * 0.06, 1: -long * 0.02, 2: long * 0.22}[kind]
    side = [
        (-long / 2, 0.0),
        (long / 2, 0.0),
        (long / 2, hull * uniform(rng, 0.55, 0.9)),
        (min(cabin_x + cabin_long / 2, long * 0.47), hull),
        (-long / 2, hull),
    ]
    body = prism(curves.Outline(corners=np.array(side), radius=hull * 0.3, steps=5), -wide / 2, wide / 2, hull * 0.12)
    pieces: list[Piece] = [(body.rotated("x", math.pi / 2).moved(0, 0, floor), paint)]
    cabin_tall, slope = hull * uniform(rng, 0.8, 1.4), cabin_long * (0.2 if kind == 0 else 0.05)
    roof = np.array(
        [
            (-cabin_long / 2, 0.0),
            (cabin_long / 2, 0.0),
            (cabin_long / 2 - slope, cabin_tall),
            (-cabin_long / 2 + slope * 0.6, cabin_tall),
        ]
    )
    house = prism(curves.Outline(corners=roof, radius=hull * 0.18, steps=4), -wide * 0.44, wide * 0.44, hull * 0.1)
    pieces.append(
        (house.rotated("x", math.pi / 2).moved(cabin_x, 0, floor + hull * 0.97), second if chance(rng, 0.4) else paint)
    )
    panes = {0: 2, 1: count(rng, 3, 5), 2: 1}[kind]
    clear = (cabin_long - 2 * slope) / panes
    for s in (-1, 1):
        for i in range(panes):
            x = cabin_x + (i - (panes - 1) / 2) * clear - slope * 0.15
            pieces.append(
                (
                    box((clear * 0.8, 0.002, cabin_tall * 0.55), 0.0005).moved(
                        x, s * wide * 0.44, floor + hull + cabin_tall * 0.5
                    ),
                    glass,
                )
            )
    tilt = math.atan2(slope, cabin_tall)
    screen = box((0.002, wide * 0.72, cabin_tall * 0.6), 0.0005).rotated("y", -tilt)
    pieces.append((screen.moved(cabin_x + cabin_long / 2 - slope * 0.5, 0, floor + hull + cabin_tall * 0.46), glass))
    axles = (-0.3, 0.3) if kind != 2 else (-0.36, -0.1, 0.32)
    profile = curves.round_corners(np.array([[wheel, 0.0], [wheel, wheel * 0.6]]), 0.0, closed=False)
    rim = [(wheel * 0.55, 0.0), (wheel * 0.55, wheel * 0.66), (wheel * 0.3, wheel * 0.7)]
    round_tyre = np.concatenate([[[wheel * 0.8, 0.0]], profile + np.array([0.0, 0.0]), [[wheel * 0.8, wheel * 0.6]]])
    tyre_profile = curves.round_corners(round_tyre, wheel * 0.15, closed=False)
    for f in axles:
        for s in (-1, 1):
            for shape, material in ((tyre_profile, tyre), (rim, hub)):
                turned = lathe(shape, 36).rotated("x", -s * math.pi / 2)
                pieces.append((turned.moved(f * long, s * (wide / 2 - wheel * 0.15), wheel), material))
    lamp = Material(name="headlamp", color=(1.0, 0.95, 0.75), emissive=(0.5, 0.45, 0.3), roughness=0.3)
    pieces += [(ball(hull * 0.16, 16, 8).moved(long / 2, s * wide * 0.32, floor + hull * 0.45), lamp) for s in (-1, 1)]
    if kind == 2:
        load, bed = materials.wood(rng), long * 0.52
        pieces += [
            (box((bed, 0.004, hull * 0.7), 0.001).moved(-long * 0.22, s * wide * 0.47, floor + hull * 1.3), second)
            for s in (-1, 1)
        ]
        pieces += [
            (
                box((0.004, wide * 0.94, hull * 0.7), 0.001).moved(-long * 0.22 + s * bed / 2, 0, floor + hull * 1.3),
                second,
            )
            for s in (-1, 1)
        ]
        log = wide * 0.14
        pieces += [
            (
                rod(
                    (-long * 0.46, (i - 1) * log * 2.05, floor + hull + log),
                    (long * 0.02, (i - 1) * log * 2.05, floor + hull + log),
                    log,
                    18,
                ),
                load,
            )
            for i in range(3)
        ]
    elif chance(rng, 0.3):
        pieces.append((ball(hull * 0.2, 18, 9).moved(cabin_x, 0, floor + hull + cabin_tall), lamp))
    return Model.standing(pieces)


def rocket(rng: np.random.Generator) -> Model:
    """A toy rocket: bellied hull with rings, portholes, three to five fins and a nozzle."""
    tall = uniform(rng, 0.2, 0.5)
    radius = tall * uniform(rng, 0.11, 0.18)
    colors = patterns.scheme(rng, count(rng, 2, 4))
    drawn: tuple[Callable[[], Texture], ...] = (
        lambda: patterns.stripes(rng, colors),
        lambda: patterns.checker(rng, colors),
        lambda: patterns.zigzag(rng, colors),
    )
    printed = Material(name="print", texture=pick(rng, drawn)(), tile=None, roughness=0.35)
    hull = any_of(
        rng,
        materials.metal,
        materials.paint,
        lambda _: printed,
    )
    accent, trim = materials.plastic(rng), materials.metal(rng)
    low = tall * 0.1
    knots = [
        (radius * uniform(rng, 0.5, 0.8), low),
        (radius, tall * uniform(rng, 0.35, 0.5)),
        (radius * uniform(rng, 0.65, 0.85), tall * 0.72),
    ]
    outer = curves.smooth([*knots, (radius * 0.3, tall * 0.93), (0.0, tall)], 32)
    pieces: list[Piece] = [(lathe(outer, 40), hull)]
    tip = outer[outer[:, 1] > tall * 0.84] + np.array([0.0015, 0.0015])
    pieces.append(
        (
            lathe(np.concatenate([[[max(tip[0, 0] - 0.006, 0.001), tip[0, 1]]], tip[:-1], [[0.0, tall + 0.004]]]), 40),
            accent,
        )
    )
    nozzle = [
        (radius * 0.55, tall * 0.03),
        (radius * 0.6, tall * 0.03),
        (radius * 0.35, low + 0.006),
        (radius * 0.3, low + 0.004),
    ]
    pieces.append((lathe(nozzle, 32), trim))
    fins, out = count(rng, 3, 5), radius * uniform(rng, 0.8, 1.3)
    at = float(np.interp(low + tall * 0.05, outer[:, 1], outer[:, 0])) * 0.85
    sweep = uniform(rng, 0.2, 0.4) * tall
    plate = np.array(
        [
            [at, low + 0.01],
            [at + out * 0.6, -tall * 0.0],
            [at + out, 0.0],
            [at + out * 0.9, tall * 0.12],
            [at, low + sweep],
        ]
    )
    fin = prism(curves.Outline(corners=plate, radius=radius * 0.1), -radius * 0.06, radius * 0.06, 0.002).rotated(
        "x", math.pi / 2
    )
    pieces += [(fin.rotated("z", 2 * math.pi * i / fins), accent) for i in range(fins)]
    ports = count(rng, 1, 3)
    glass = Material(name="porthole", color=(0.1, 0.2, 0.3), roughness=0.05)
    for i in range(ports):
        z = tall * (0.66 - 0.15 * i)
        r = float(np.interp(z, outer[:, 1], outer[:, 0]))
        pieces.append(
            (torus(radius * 0.26, radius * 0.06, 28, 8).rotated("x", math.pi / 2).moved(0, -r * 0.97, z), trim)
        )
        pieces.append((ball(radius * 0.25, 20, 10).scaled(1, 0.35, 1).moved(0, -r * 0.95, z), glass))
    pieces.append(
        (
            torus(float(np.interp(low + tall * 0.08, outer[:, 1], outer[:, 0])), radius * 0.06, 40, 8).moved(
                0, 0, low + tall * 0.08
            ),
            trim,
        )
    )
    return Model.standing(pieces)
