"""Things on a laid table: mug, bowl, pot, kettle, goblet."""

import math

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.furniture_parts import Piece, between
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model, Surface
from randscene.manifests.procedural.primitives import ball, lathe, torus, tube
from randscene.manifests.procedural.textures import hsv
from randscene.manifests.procedural.vessel_parts import handle_tube, hollow, radius_at, shell


def mug(rng: np.random.Generator) -> Model:
    """A cup with one ear, straight, conical, bellied or waisted; a saucer now and then."""
    radius, height = uniform(rng, 0.033, 0.05), uniform(rng, 0.06, 0.13)
    shape = pick(rng, ((1.0, 1.0, 1.0), (0.7, 0.85, 1.0), (0.7, 1.05, 0.85), (1.0, 0.82, 1.0), (0.6, 0.95, 1.05)))
    knots = [
        (radius * shape[0] * 0.9, 0.0),
        (radius * shape[0], height * 0.06),
        (radius * shape[1], height * 0.5),
        (radius * shape[2], height),
    ]
    outer = curves.smooth(knots, 22)
    glaze = materials.glaze(rng)
    section = curves.polar_polygon(48, count(rng, 6, 10)) if chance(rng, 0.2) else None
    pieces: list[Piece] = [(hollow(outer, uniform(rng, 0.003, 0.005), 0.006, 48, section), glaze)]
    low, high, out = height * uniform(rng, 0.12, 0.3), height * uniform(rng, 0.7, 0.88), uniform(rng, 0.022, 0.036)
    a, b = radius_at(outer, low) - 0.002, radius_at(outer, high) - 0.002
    top = (b + out, high * uniform(rng, 0.9, 1.02))
    ear = [(a, low), (a + out * 0.7, low * 0.9), ((a + b) / 2 + out * 1.05, (low + high) / 2), top, (b, high)]
    handle = handle_tube(ear, uniform(rng, 0.0035, 0.0055), uniform(rng, 1.0, 1.9))
    pieces.append((handle, glaze if chance(rng, 0.4) else any_of(rng, materials.paint, materials.plastic)))
    if chance(rng, 0.3):
        plate = curves.smooth([(radius * 0.8, 0.0), (radius * 1.3, 0.006), (radius * 1.7, 0.014)], 10)
        pieces = [(surface.moved(0, 0, 0.008), material) for surface, material in pieces]
        pieces.append((hollow(plate, 0.003, 0.006, 48), glaze))
    return Model.standing(pieces)


def bowl(rng: np.random.Generator) -> Model:
    """Shallow dish to deep bowl on a foot ring; plain, scalloped or many-sided; fruit now and then."""
    radius = uniform(rng, 0.07, 0.18)
    height = radius * uniform(rng, 0.35, 1.0)
    foot = radius * uniform(rng, 0.3, 0.55)
    belly = uniform(rng, 0.72, 1.0)
    rise = height * uniform(rng, 0.06, 0.12)
    outer = curves.smooth(
        [(foot, rise), (radius * belly * 0.85, height * 0.4), (radius * belly, height * 0.7), (radius, height)], 22
    )
    ring = np.array([[foot * 0.94, 0.0], [foot, rise * 0.5]])
    profile = shell(np.concatenate([ring, outer]), uniform(rng, 0.003, 0.006), rise + 0.005)
    lobes = count(rng, 5, 14)
    section = pick(
        rng, (None, None, curves.polar_flutes(6 * lobes, lobes, uniform(rng, 0.05, 0.14)), curves.polar_polygon(72, 8))
    )
    body = any_of(rng, materials.glaze, materials.glaze, materials.wood, materials.metal)
    pieces: list[Piece] = [(lathe(profile, 48 if section is None else len(section), section=section), body)]
    if chance(rng, 0.4):
        fruits = count(rng, 2, 5)
        size = min(radius * 0.32, 0.04)
        skin = Material(name="fruit", color=hsv(uniform(rng, 0.0, 0.33), 0.8, uniform(rng, 0.5, 0.9)), roughness=0.45)
        for i in range(fruits):
            a, at = 2 * math.pi * i / fruits, size / math.sin(math.pi / max(fruits, 2)) * 1.02
            at = min(at, radius * 0.55)
            z = max(float(np.interp(at + size * 0.5, outer[:, 0], outer[:, 1])), rise + 0.005) + size * 0.95
            pieces.append((_fruit(rng, size).moved(at * math.cos(a), at * math.sin(a), z), skin))
    return Model.standing(pieces)


def _fruit(rng: np.random.Generator, size: float) -> Surface:
    tall = uniform(rng, 0.85, 1.3)
    knots = [
        (0.0, -size * tall * 0.8),
        (size * 0.6, -size * tall * 0.75),
        (size, 0.0),
        (size * 0.6, size * tall * 0.8),
        (0.0, size * tall * 0.68),
    ]
    return lathe(curves.smooth(knots, 16), 20)


def pot(rng: np.random.Generator) -> Model:
    """A cooking pot or pan: two ears or one long grip, a lid with a knob or none."""
    radius = uniform(rng, 0.08, 0.16)
    height = radius * uniform(rng, 0.5, 1.5)
    body = any_of(rng, materials.metal, materials.paint, materials.metal, materials.glaze, materials.iron)
    grip = any_of(rng, materials.metal, materials.plastic, materials.wood)
    flare = uniform(rng, 0.85, 1.1)
    corners = np.array([[radius * 0.8, 0.0], [radius, height * 0.15], [radius * flare, height]])
    outer = curves.smooth(curves.round_corners(corners, radius * 0.15, steps=5, closed=False), 20)
    pieces: list[Piece] = [(hollow(outer, 0.003, 0.005, 48), body)]
    rim = radius * flare
    pieces.append((torus(rim, 0.003, 48, 8).moved(0, 0, height), body))
    z = height * uniform(rng, 0.7, 0.85)
    at = radius_at(outer, z)
    if chance(rng, 0.35) and height < radius * 1.1:
        long = uniform(rng, 0.14, 0.22)
        path = curves.smooth(
            [(at - 0.004, 0, z), (at + long * 0.3, 0, z + 0.008), (at + long, 0, z + uniform(rng, 0.01, 0.04))], 14
        )
        width = np.stack([np.linspace(0.008, 0.012, 14), np.linspace(0.006, 0.007, 14)], axis=1)
        pieces.append((tube(path, width, 14, up=(0.0, 1.0, 0.0)), grip))
        pieces.append(
            (
                torus(0.009, 0.003, 18, 8)
                .rotated("y", math.pi / 2)
                .rotated("z", math.pi / 2)
                .moved(float(path[-1, 0]) + 0.008, 0, float(path[-1, 2])),
                grip,
            )
        )
    else:
        wide, out = radius * uniform(rng, 0.3, 0.45), uniform(rng, 0.02, 0.035)
        inside = math.sqrt(at**2 - wide**2) - 0.003
        flat = curves.smooth(
            [
                (inside, -wide),
                (at + out * 0.8, -wide * 0.9),
                (at + out, 0.0),
                (at + out * 0.8, wide * 0.9),
                (inside, wide),
            ],
            22,
        )
        path = np.concatenate([flat, np.full((22, 1), z)], axis=1)
        ear = tube(path, uniform(rng, 0.004, 0.007), 10)
        pieces += [(ear.rotated("z", math.pi * i), grip) for i in range(2)]
    if chance(rng, 0.65):
        dome = uniform(rng, 0.1, 0.35) * radius
        lid = curves.smooth(
            [
                (rim * 1.01, height + 0.003),
                (rim * 0.85, height + 0.003 + dome * 0.5),
                (rim * 0.4, height + dome * 0.92),
                (0.0, height + dome),
            ],
            14,
        )
        under = lid[::-1] - np.array([0.0, 0.003])
        under[:, 0] = np.minimum(under[:, 0], rim * 0.99)
        profile = np.concatenate([under, lid])
        pieces.append((lathe(profile, 48), body if chance(rng, 0.6) else any_of(rng, materials.metal, materials.glaze)))
        knob = curves.smooth([(0.006, 0.0), (0.006, 0.012), (0.016, 0.02), (0.014, 0.03), (0.0, 0.034)], 16)
        pieces.append((lathe(knob, 24).moved(0, 0, height + dome - 0.003), grip))
    return Model.standing(pieces)


def kettle(rng: np.random.Generator) -> Model:
    """A teapot or kettle: spout, ear or arched bail, lid and knob, on a foot or not."""
    radius = uniform(rng, 0.065, 0.11)
    height = radius * uniform(rng, 1.0, 1.8)
    belly, mouth = uniform(rng, 0.3, 0.55), uniform(rng, 0.4, 0.62)
    body = any_of(rng, materials.glaze, materials.glaze, materials.metal, materials.paint)
    grip = body if chance(rng, 0.4) else any_of(rng, materials.wood, materials.plastic, materials.metal)
    knots = [
        (radius * uniform(rng, 0.6, 0.95), 0.0),
        (radius, height * belly),
        (radius * uniform(rng, 0.75, 0.95), height * 0.8),
        (radius * mouth, height),
    ]
    outer = curves.smooth(knots, 24)
    lobes = count(rng, 6, 12)
    section = curves.polar_flutes(6 * lobes, lobes, 0.05) if chance(rng, 0.3) else None
    pieces: list[Piece] = [(hollow(outer, 0.004, 0.006, 48 if section is None else len(section), section), body)]
    lid_radius = radius * mouth * 1.04
    dome = radius * uniform(rng, 0.12, 0.4)
    lid = curves.smooth(
        [
            (lid_radius, height - 0.002),
            (lid_radius * 0.9, height + dome * 0.45),
            (lid_radius * 0.4, height + dome * 0.92),
            (0.0, height + dome),
        ],
        14,
    )
    pieces.append((lathe(lid, 40), body))
    knob_size = uniform(rng, 0.008, 0.014)
    pieces.append((ball(knob_size, 20, 10).moved(0, 0, height + dome + knob_size * 0.7), grip))
    z = height * uniform(rng, 0.25, 0.45)
    start = radius_at(outer, z) * (0.93 if section is None else 0.88)
    long = radius * uniform(rng, 0.55, 0.85)
    end_z = height * uniform(rng, 0.9, 1.05)
    spout = curves.smooth(
        [
            (start, 0, z),
            (start + long * 0.5, 0, z + (end_z - z) * 0.3),
            (start + long * 0.75, 0, z + (end_z - z) * 0.75),
            (start + long * 1.1, 0, end_z),
        ],
        20,
    )
    taper = np.linspace(radius * uniform(rng, 0.2, 0.28), radius * 0.1, 20)
    pieces.append((tube(spout, taper, 20, up=(0.0, 1.0, 0.0)), body))
    hole = between(
        lathe([(float(taper[-1]) * 0.72, 0.0), (float(taper[-1]) * 0.72, 0.0012)], 16),
        spout[-1],
        spout[-1] * 2 - spout[-2],
    )
    pieces.append((hole, Material(name="spout_hole", color=(0.03, 0.03, 0.03), roughness=0.9)))
    thick = uniform(rng, 0.005, 0.008)
    if chance(rng, 0.5):
        low, high, out = height * 0.22, height * 0.78, radius * uniform(rng, 0.45, 0.7)
        a, b = radius_at(outer, low) * 0.95, radius_at(outer, high) * 0.95
        if section is not None:
            a, b = a * 0.96, b * 0.96
        ear = handle_tube(
            [
                (a, low),
                (max(a, b) + out * 0.75, low * 1.1),
                (max(a, b) + out, (low + high) / 2),
                (b + out * 0.8, high),
                (b, high),
            ],
            thick,
            1.4,
        )
        pieces.append((ear.rotated("z", math.pi), grip))
    else:
        at, rise = radius * 0.8, height + radius * uniform(rng, 0.7, 1.1)
        base = height * 0.78
        pieces.append(
            (
                handle_tube(
                    [
                        (-at, base),
                        (-at * 1.05, rise * 0.8),
                        (-at * 0.5, rise),
                        (at * 0.5, rise),
                        (at * 1.05, rise * 0.8),
                        (at, base),
                    ],
                    thick,
                    1.5,
                    32,
                ),
                grip,
            )
        )
    if chance(rng, 0.3):
        foot = radius * 0.7
        pieces.append((torus(foot, 0.006, 40, 8), body))
    return Model.standing(pieces)


def goblet(rng: np.random.Generator) -> Model:
    """A cup on a stem with beads and a foot; as a trophy it has two ears and a block below."""
    height, radius = uniform(rng, 0.13, 0.3), uniform(rng, 0.032, 0.06)
    stem, cup = height * uniform(rng, 0.3, 0.55), uniform(rng, 0.7, 1.15)
    material = any_of(rng, materials.metal, materials.metal, materials.glaze, materials.wood, materials.plastic)
    base = radius * uniform(rng, 0.7, 1.1)
    thin = radius * uniform(rng, 0.1, 0.2)
    foot = [(base, 0.0), (base, 0.004), (base * 0.5, 0.012), (thin, 0.03)]
    beads: list[tuple[float, float]] = []
    for i in range(count(rng, 0, 3)):
        z = 0.035 + (stem - 0.04) * (i + 0.5) / 3
        beads += [(thin, z - 0.012), (thin * uniform(rng, 1.6, 2.6), z), (thin, z + 0.012)]
    knots = [
        *foot,
        *beads,
        (thin, stem),
        (radius * 0.6, stem + (height - stem) * 0.12),
        (radius * max(cup, 0.85), stem + (height - stem) * 0.5),
        (radius, height),
    ]
    rows = sorted(knots, key=lambda k: k[1])
    outer = np.concatenate([np.array(rows[:2]), curves.smooth(rows[1:], 46)[1:]])
    lobes = count(rng, 6, 12)
    section = curves.polar_flutes(4 * lobes, lobes, 0.08) if chance(rng, 0.3) else None
    pieces: list[Piece] = [
        (hollow(outer, 0.0025, stem + (height - stem) * 0.14, 40 if section is None else 4 * lobes, section), material)
    ]
    if chance(rng, 0.35):
        low, high = stem + (height - stem) * 0.35, stem + (height - stem) * 0.88
        a, b, out = radius_at(outer, low) * 0.95, radius_at(outer, high) * 0.95, radius * uniform(rng, 0.5, 0.9)
        ear = handle_tube(
            [(a, low), (a + out * 0.6, low), (b + out, (low + high) / 2), (b + out * 0.8, high), (b, high)], 0.0035
        )
        pieces += [(ear.rotated("z", math.pi * i), material) for i in range(2)]
        tall = uniform(rng, 0.03, 0.08)
        block = lathe(
            curves.round_corners(np.array([[base * 1.2, -tall], [base * 1.1, 0.001]]), 0.0, closed=False),
            48,
            section=curves.polar_superellipse(48, 8.0),
        )
        pieces.append((block, any_of(rng, materials.stone, materials.wood)))
    return Model.standing(pieces)
