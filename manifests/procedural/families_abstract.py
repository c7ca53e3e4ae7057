"""Shapes for their own sake: knot, gear, dumbbell, sculpture, ring tower."""

import math

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.furniture_parts import Piece, between, turned_profile
from randscene.manifests.procedural.materials import any_of, chance, count, pick, solid, uniform
from randscene.manifests.procedural.model import FloatArray, Material, Model
from randscene.manifests.procedural.primitives import ball, box, cushion, lathe, loft, prism, rod, slab, torus, tube
from randscene.manifests.procedural.textures import hsv


def knot(rng: np.random.Generator) -> Model:
    """A closed torus knot with a round, flat or star-shaped section, lying or standing on a base."""
    p, q = pick(rng, ((2, 3), (3, 2), (2, 5), (3, 4), (3, 5), (2, 7), (5, 2)))
    radius = uniform(rng, 0.08, 0.22)
    wave = radius * uniform(rng, 0.3, 0.5)
    path = curves.torus_knot(p, q, radius, wave, 40 * max(p, 3))
    thick = wave * uniform(rng, 0.22, 0.42)
    section = pick(
        rng,
        (
            curves.circle(16),
            curves.circle(16),
            curves.superellipse(1.0, 0.45, 20, 2.5),
            curves.toothed(1.0, 5, 0.35, per_tooth=4, sharpness=1.0),
        ),
    )
    band = tube(path, thick, section=section, closed=True)
    material = solid(rng)
    if chance(rng, 0.5):
        return Model.standing([(band, material)])
    standing = band.rotated("x", math.pi / 2)
    low = float(standing.vertices[:, 2].min())
    base = any_of(rng, materials.stone, materials.wood, materials.metal)
    tall, wide = uniform(rng, 0.03, 0.1), radius * uniform(rng, 0.6, 0.9)
    plinth = curves.rectangle(2 * wide, 1.4 * wide, 0.01) if chance(rng, 0.5) else curves.circle(48, wide)
    return Model.standing(
        [(standing, material), (prism(plinth, low - tall + thick * 0.3, low + thick * 0.3, 0.006), base)]
    )


def gear(rng: np.random.Generator) -> Model:
    """Toothed wheels on a base or leaning pile: teeth, spokes as raised bars, hubs, one to three sizes."""
    number = count(rng, 1, 3)
    z = 0.0
    pieces: list[Piece] = []
    radius = uniform(rng, 0.08, 0.2)
    for _ in range(number):
        teeth, tall = count(rng, 8, 22), radius * uniform(rng, 0.15, 0.35)
        material = any_of(rng, materials.metal, materials.iron, materials.wood, materials.plastic)
        rim = slab(
            curves.toothed(radius, teeth, radius * uniform(rng, 0.1, 0.2), per_tooth=10),
            [(0.002, 0.0), (0.0, 0.002), (0.0, tall - 0.002), (0.002, tall)],
        )
        turn = uniform(rng, 0, 1)
        pieces.append((rim.rotated("z", turn).moved(0, 0, z), material))
        hub, rise = radius * uniform(rng, 0.22, 0.35), tall * uniform(rng, 0.15, 0.5)
        ring = [
            (radius * 0.62, tall - 0.001),
            (radius * 0.76, tall - 0.001),
            (radius * 0.76, tall + rise * 0.5),
            (radius * 0.62, tall + rise * 0.5),
        ]
        pieces.append((lathe(ring, 56, loop=True).moved(0, 0, z), material))
        spokes = count(rng, 3, 8)
        bar = box((radius * 0.7, radius * 0.1, rise * 0.8), 0.002).moved(radius * 0.33, 0, tall + rise * 0.2)
        pieces += [(bar.rotated("z", 2 * math.pi * i / spokes + turn).moved(0, 0, z), material) for i in range(spokes)]
        post = curves.round_corners(np.array([[hub, tall - 0.001], [hub, tall + rise]]), 0.0, closed=False)
        pieces.append((lathe(post, 40).moved(0, 0, z), materials.metal(rng) if chance(rng, 0.5) else material))
        z += tall + rise
        radius *= uniform(rng, 0.6, 0.85)
    if chance(rng, 0.4):
        pieces.append((rod((0, 0, 0.0), (0, 0, z + 0.03), radius * 0.1, 20, 3), materials.metal(rng)))
    if number == 1 and chance(rng, 0.5):
        pieces = [(surface.rotated("x", math.pi / 2), material) for surface, material in pieces]
        low = min(float(surface.vertices[:, 2].min()) for surface, _ in pieces)
        width = max(float(np.abs(surface.vertices[:, 1]).max()) for surface, _ in pieces)
        block = box((-low * 1.1, 2.4 * width, 0.03), 0.004).moved(0, -width * 0.4, low - 0.003)
        pieces.append((block, any_of(rng, materials.wood, materials.stone)))
    return Model.standing(pieces)


def dumbbell(rng: np.random.Generator) -> Model:
    """A bar with discs, hexagonal heads or globes at both ends; or a ring-shaped kettle weight."""
    heavy = any_of(rng, materials.iron, materials.plastic, materials.metal, materials.paint)
    bar = materials.metal(rng)
    if chance(rng, 0.3):
        r = uniform(rng, 0.07, 0.12)
        globe = curves.smooth([(r * 0.65, -r * 0.85), (r, 0.0), (r * 0.7, r * 0.75), (0.0, r * 0.95)], 18)
        grip = curves.smooth(
            [
                (-r * 0.5, 0, r * 0.6),
                (-r * 0.72, 0, r * 1.3),
                (-r * 0.4, 0, r * 1.75),
                (r * 0.4, 0, r * 1.75),
                (r * 0.72, 0, r * 1.3),
                (r * 0.5, 0, r * 0.6),
            ],
            32,
        )
        band = torus(r * 0.985, r * 0.05, 44, 8)
        return Model.standing(
            [(lathe(globe, 44), heavy), (tube(grip, r * 0.16, 16), bar), (band, materials.plastic(rng))]
        )
    half, radius = uniform(rng, 0.06, 0.12), uniform(rng, 0.035, 0.09)
    pieces: list[Piece] = [(rod((-half - 0.01, 0, 0), (half + 0.01, 0, 0), 0.014, 18, 6), bar)]
    style, plates = count(rng, 0, 2), count(rng, 1, 4)
    for s in (-1, 1):
        start, end = (s * half, 0.0, 0.0), (s * (half + 1), 0.0, 0.0)
        if style == 0:
            at = 0.0
            for i in range(plates):
                r, w = radius * (1 - 0.16 * i), 0.02
                disc = curves.round_corners(
                    np.array([[r * 0.85, at], [r, at], [r, at + w], [r * 0.85, at + w]]), 0.005, closed=False
                )
                pieces.append((between(lathe(disc, 40), start, end), heavy))
                at += w + 0.001
            nut = lathe(
                [(0.022, at), (0.022, at + 0.015), (0.016, at + 0.022)], 36, section=curves.polar_flutes(36, 6, 0.15)
            )
            pieces.append((between(nut, start, end), bar))
            pieces.append((rod((s * half, 0, 0), (s * (half + at + 0.03), 0, 0), 0.013, 16), bar))
        elif style == 1:
            head = curves.round_corners(
                np.array([[radius * 0.6, 0.0], [radius, 0.015], [radius, 0.07], [radius * 0.6, 0.085]]),
                0.006,
                closed=False,
            )
            pieces.append(
                (
                    between(lathe(head, 48, section=curves.polar_polygon(48, 6)).rotated("z", math.pi / 6), start, end),
                    heavy,
                )
            )
        else:
            pieces.append((ball(radius * 0.8, 36, 18).moved(s * (half + radius * 0.6), 0, 0), heavy))
    return Model.standing(pieces)


def sculpture(rng: np.random.Generator) -> Model:
    """An abstract piece on a plinth: twisted column, lumpy figure, nested hoops, spiral or stacked solids."""
    stone, second = solid(rng), solid(rng)
    wide, plinth = uniform(rng, 0.06, 0.16), uniform(rng, 0.03, 0.15)
    outlines: tuple[curves.Outline | FloatArray, ...] = (
        curves.rectangle(2 * wide, 2 * wide, 0.008),
        curves.circle(48, wide),
        curves.regular_polygon(6, wide * 1.1, 0.01),
    )
    pieces: list[Piece] = [
        (
            prism(pick(rng, outlines), -plinth, 0.002, 0.006),
            any_of(rng, materials.stone, materials.wood, materials.brick),
        )
    ]
    style, tall = count(rng, 0, 4), wide * uniform(rng, 2.5, 5.0)
    if style == 0:
        t = np.linspace(0, 1, 30)
        sides, turn = count(rng, 3, 6), uniform(rng, -3.0, 3.0)
        shape = curves.regular_polygon(sides, wide * 0.7, wide * 0.12).points
        scale = 1 - uniform(rng, 0.0, 0.6) * t + uniform(rng, 0.0, 0.3) * np.sin(math.pi * t)
        c, s = np.cos(turn * t), np.sin(turn * t)
        sections = [k * shape @ np.array([[ci, si], [-si, ci]]) for k, ci, si in zip(scale, c, s)]
        pieces.append((loft(sections, list(t * tall)), stone))
    elif style == 1:
        knots = (
            [(wide * 0.6, 0.0)]
            + [(wide * uniform(rng, 0.2, 0.9), tall * f) for f in (0.2, 0.4, 0.6, 0.8)]
            + [(0.0, tall)]
        )
        outer = curves.smooth(knots, 40)
        outer[:-1, 0] = np.maximum(outer[:-1, 0], wide * 0.1)
        pieces.append((lathe(outer, 44), stone))
    elif style == 2:
        size = tall * 0.42
        for i in range(count(rng, 2, 4)):
            r = size * 0.8**i
            hoop = torus(r, r * uniform(rng, 0.06, 0.12), 56, 14).rotated("x", math.pi / 2).rotated("z", 1.0 * i)
            pieces.append((hoop.moved(0, 0, size * 1.05), pick(rng, (stone, second))))
        pieces.append((ball(size * 0.25, 32, 16).moved(0, 0, size * 1.05), second))
        pieces.append((rod((0, 0, -0.005), (0, 0, size * 1.1), size * 0.05, 16, 3), second))
    elif style == 3:
        turns = uniform(rng, 1.5, 4.0)
        path = curves.helix(wide * 0.6, tall, turns, 110)
        path[:, :2] *= np.linspace(1.0, uniform(rng, 0.2, 1.0), 110)[:, None]
        thick = wide * uniform(rng, 0.12, 0.22) * np.minimum(1.0, np.linspace(8, 0.3, 110))
        pieces.append((tube(path, thick, 16), stone))
        pieces.append((lathe(turned_profile(rng, tall * 0.9, wide * 0.22, 3), 28), second))
    else:
        z = 0.0
        for _ in range(count(rng, 2, 5)):
            size = wide * uniform(rng, 0.5, 0.95)
            kind = count(rng, 0, 3)
            if kind == 0:
                piece, half = ball(size, 40, 20), size
            elif kind == 1:
                piece, half = (
                    box((1.5 * size, 1.5 * size, 1.3 * size), 0.01).rotated("z", uniform(rng, 0, 1.5)),
                    0.65 * size,
                )
            elif kind == 2:
                piece, half = cushion((2 * size, 2 * size, 1.1 * size), puff=uniform(rng, 2.2, 6.0)), 0.55 * size
            else:
                piece, half = torus(size * 0.65, size * 0.32, 44, 16), size * 0.32
            pieces.append((piece.moved(0, 0, z + half - 0.003), pick(rng, (stone, second))))
            z += 2 * half - 0.006
    return Model.standing(pieces)


def ring_tower(rng: np.random.Generator) -> Model:
    """Rings of falling size on a post with a knob: round, wavy or square ones, in turning colours."""
    rings, radius = count(rng, 3, 8), uniform(rng, 0.06, 0.12)
    hue, step = uniform(rng, 0, 1), uniform(rng, 0.05, 0.2)
    rough = uniform(rng, 0.2, 0.6)
    wood = materials.wood(rng)
    pieces: list[Piece] = [
        (
            lathe(
                curves.round_corners(np.array([[radius, 0.0], [radius, 0.015], [0.012, 0.018]]), 0.004, closed=False),
                44,
            ),
            wood,
        )
    ]
    z, thin = 0.015, uniform(rng, 0.75, 0.92)
    waves = count(rng, 5, 9)
    style = count(rng, 0, 2)
    section = (np.ones(48), curves.polar_flutes(6 * waves, waves, 0.15), curves.polar_superellipse(48, 5.0) * 0.85)[
        style
    ]
    for i in range(rings):
        r = radius * thin**i
        half = r * 0.24
        coat = Material(name="ring", color=hsv(hue + i * step, 0.75, 0.85), roughness=rough)
        if i == 0 or chance(rng, 0.2):
            coat = solid(rng)
        loop = curves.superellipse(r * 0.36, half, 18, 2.6) + np.array([r * 0.6, 0.0])
        pieces.append(
            (
                lathe(loop, len(section), loop=True, section=section)
                .rotated("z", uniform(rng, -0.3, 0.3))
                .moved(0, 0, z + half),
                coat,
            )
        )
        z += 2 * half
    pieces.append((rod((0, 0, 0.01), (0, 0, z + 0.01), radius * thin**rings * 0.3, 20, 3), wood))
    pieces.append((ball(radius * thin**rings * 0.45, 28, 14).moved(0, 0, z + radius * 0.1), solid(rng)))
    return Model.standing(pieces)
