"""Growing and found things: potted plant, cactus, mushroom, stones."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.manifests.procedural import curves, materials, patterns
from randscene.manifests.procedural.furniture_parts import Piece
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model, Surface
from randscene.manifests.procedural.primitives import ball, cushion, lathe, rod, torus, tube
from randscene.manifests.procedural.textures import hsv, shade
from randscene.manifests.procedural.vessel_parts import shell


def _blade(rng: np.random.Generator, length: float, width: float, droop: float) -> Surface:
    """A leaf from the origin along +X: a flat, closed blade that rises and bends over."""
    t = np.linspace(0.0, 1.0, 10)
    rise = uniform(rng, 0.4, 1.1)
    path = np.stack([length * t, np.zeros(10), length * (rise * t - droop * t**2)], axis=1)
    shape = np.sin(math.pi * np.clip(t, 0.02, 0.98) ** uniform(rng, 0.6, 0.9)) ** uniform(rng, 0.6, 1.0)
    size = np.stack([np.maximum(width / 2 * shape, width * 0.03), np.full(10, max(width * 0.02, 0.0008))], axis=1)
    return tube(path, size, section=curves.superellipse(1.0, 1.0, 8, 1.4), up=(0.0, 1.0, 0.0))


def _planter(rng: np.random.Generator, radius: float, height: float) -> list[Piece]:
    flare = uniform(rng, 0.65, 1.0)
    outer = curves.smooth(
        [(radius * flare, 0.0), (radius * uniform(rng, 0.85, 1.1), height * 0.6), (radius, height)], 18
    )
    material = any_of(
        rng, materials.clay, materials.clay, materials.glaze, materials.wicker, materials.stone, materials.metal
    )
    sides = pick(rng, (None, None, curves.polar_superellipse(48, 6.0) * 0.85, curves.polar_polygon(48, 6)))
    pieces: list[Piece] = [(lathe(shell(outer, radius * 0.08, height * 0.1), 48, section=sides), material)]
    if chance(rng, 0.4) and sides is None:
        pieces.append((torus(radius, radius * 0.09, 44, 10).moved(0, 0, height * 0.97), material))
    soil = Material(name="soil", texture=patterns.stone(rng, (0.24, 0.17, 0.12)), tile=0.12, roughness=1.0)
    level = height * 0.85
    inside = float(np.interp(level, outer[:, 1], outer[:, 0])) - radius * 0.04
    pieces.append(
        (
            lathe(
                [(inside, level - height * 0.2), (inside, level), (inside * 0.4, level + radius * 0.05)],
                48,
                section=sides,
            ),
            soil,
        )
    )
    return pieces


def plant(rng: np.random.Generator) -> Model:
    """A potted plant: a rosette of blades, leaves on stems, a palm or a ball tree; flowers now and then."""
    radius = uniform(rng, 0.06, 0.16)
    pot_height = radius * uniform(rng, 1.1, 2.0)
    pieces = _planter(rng, radius, pot_height)
    green, ground = materials.leaf(rng), pot_height * 0.86
    stem = Material(name="stem", color=shade((0.3, 0.42, 0.18), uniform(rng, 0.6, 1.1)), roughness=0.7)
    style = count(rng, 0, 3)
    if style == 0:
        blades, length = count(rng, 9, 22), radius * uniform(rng, 2.0, 4.0)
        for i in range(blades):
            tilt = -uniform(rng, 0.2, 0.9)
            leaf = _blade(rng, length * uniform(rng, 0.7, 1.0), length * uniform(rng, 0.1, 0.2), uniform(rng, 0.2, 1.1))
            leaf = leaf.rotated("y", tilt).moved(radius * 0.1, 0, 0).rotated("z", 2.399963 * i)
            pieces.append((leaf.moved(0, 0, ground), green))
    elif style == 1:
        stems, tall = count(rng, 3, 6), radius * uniform(rng, 3.0, 5.5)
        petals = Material(name="petals", color=materials.paint_color(rng), roughness=0.6)
        flowers = chance(rng, 0.5)
        for i in range(stems):
            a, out = 2.399963 * i, radius * uniform(rng, 0.2, 0.9)
            tip = np.array([out * math.cos(a), out * math.sin(a), tall * uniform(rng, 0.7, 1.0)])
            start = np.array([radius * 0.25 * math.cos(a), radius * 0.25 * math.sin(a), 0.0])
            path = curves.smooth(np.array([start, (start + tip) * np.array([0.4, 0.4, 0.5]), tip]), 9)
            pieces.append((tube(path, np.linspace(0.006, 0.003, 9), 8).moved(0, 0, ground), stem))
            for k in range(count(rng, 3, 6)):
                x, y, z = path[3 + k % 6]
                leaf = _blade(
                    rng, radius * uniform(rng, 0.8, 1.4), radius * uniform(rng, 0.35, 0.7), uniform(rng, 0.5, 1.2)
                )
                pieces.append((leaf.rotated("z", a + 2.4 * k).moved(x, y, z + ground), green))
            if flowers:
                x, y, z = tip
                head = uniform(rng, 0.2, 0.35) * radius
                for k in range(count(rng, 5, 8)):
                    petal = ball(head, 12, 6).scaled(1.0, 0.5, 0.18).moved(head * 0.95, 0, 0).rotated("y", -0.35)
                    pieces.append((petal.rotated("z", 2 * math.pi * k / 6.5).moved(x, y, z + ground), petals))
                pieces.append((ball(head * 0.55, 14, 8).moved(x, y, z + ground), stem))
    elif style == 2:
        tall = radius * uniform(rng, 2.5, 4.5)
        sway = uniform(rng, -0.5, 0.5) * radius
        path = curves.smooth(
            [(0, 0, ground - 0.01), (sway, 0, ground + tall * 0.5), (sway * 0.6, 0, ground + tall)], 12
        )
        trunk = tube(path, np.linspace(radius * 0.16, radius * 0.1, 12), 16)
        pieces.append((trunk, materials.wood(rng)))
        length = tall * uniform(rng, 0.55, 0.85)
        x, y, z = path[-1]
        for i in range(count(rng, 8, 16)):
            leaf = _blade(
                rng, length * uniform(rng, 0.8, 1.0), length * uniform(rng, 0.14, 0.22), uniform(rng, 0.9, 1.6)
            )
            pieces.append(
                (leaf.rotated("y", 0.35 - 0.5 * (i % 3)).rotated("z", 2.399963 * i).moved(x, y, z - 0.004), green)
            )
    else:
        tall, crown = radius * uniform(rng, 1.5, 3.0), radius * uniform(rng, 0.9, 1.5)
        pieces.append((rod((0, 0, ground - 0.01), (0, 0, ground + tall), radius * 0.11, 14, 4), materials.wood(rng)))
        bush = Material(
            name="bush",
            texture=patterns.speckle(rng, (0.18, 0.36, 0.14), [(0.3, 0.5, 0.2), (0.1, 0.24, 0.1)]),
            tile=0.15,
            roughness=0.9,
        )
        for i in range(count(rng, 1, 3)):
            size = crown * 0.78**i
            z = ground + tall + size * 0.6 + sum(1.5 * crown * 0.78**k for k in range(i))
            lumps = ball(size, 36, 18)
            bumps = 1 + 0.05 * np.sin(lumps.normals @ np.array([9.0, 7.0, 11.0])) * np.cos(
                lumps.normals @ np.array([-8.0, 12.0, 6.0])
            )
            pieces.append((_displaced(lumps, bumps).moved(0, 0, z), bush))
            pieces.append((rod((0, 0, z - size), (0, 0, z + size * 0.5), radius * 0.09, 12), stem))
    return Model.standing(pieces)


def _displaced(sphere: Surface, factor: NDArray[Any]) -> Surface:
    """A sphere around the origin with its radius multiplied vertex by vertex; the shading keeps the round normals."""
    return Surface(
        vertices=sphere.vertices * factor[:, None],
        normals=sphere.normals,
        uv=sphere.uv,
        faces=sphere.faces,
        period=sphere.period,
    )


def cactus(rng: np.random.Generator) -> Model:
    """Ribbed columns with arms, or stacked flat pads, or a globe; in a pot, with flowers on top now and then."""
    radius = uniform(rng, 0.05, 0.12)
    pot_height = radius * uniform(rng, 1.0, 1.7)
    pieces = _planter(rng, radius, pot_height)
    tone = hsv(uniform(rng, 0.22, 0.42), uniform(rng, 0.3, 0.7), uniform(rng, 0.3, 0.6))
    skin = Material(
        name="cactus", texture=patterns.dots(rng, tone, [shade(tone, 1.5)]), tile=radius * 0.8, roughness=0.6
    )
    bloom = Material(name="bloom", color=hsv(uniform(rng, 0.8, 1.15), 0.7, 0.95), roughness=0.5)
    ground, style = pot_height * 0.84, count(rng, 0, 2)
    tops: list[tuple[float, float, float]] = []
    ribs = count(rng, 7, 14)
    section = curves.polar_flutes(6 * ribs, ribs, uniform(rng, 0.12, 0.25))
    if style == 0:
        thick, tall = radius * uniform(rng, 0.3, 0.5), radius * uniform(rng, 3.0, 5.0)
        tops.append((0.0, 0.0, ground + tall))
        body = [(thick * 0.85, 0.0), (thick, tall * 0.3), (thick, tall * 0.8), (thick * 0.75, tall * 0.95), (0.0, tall)]
        pieces.append((lathe(curves.smooth(body, 26), 6 * ribs, section=section).moved(0, 0, ground), skin))
        for i in range(count(rng, 0, 3)):
            a, low, reach, rise = 2.1 * i, tall * uniform(rng, 0.3, 0.55), thick * 2.4, tall * uniform(rng, 0.2, 0.4)
            bent = curves.smooth(
                [
                    (0, 0, low),
                    (reach * 0.75, 0, low + 0.1 * rise),
                    (reach, 0, low + rise * 0.5),
                    (reach, 0, low + rise),
                ],
                20,
            )
            width = thick * 0.62 * np.minimum(1.0, np.sqrt(np.clip((1 - np.linspace(0, 1, 20)) * 8, 0.02, 1)))
            star = curves.toothed(1.0, 8, 0.2, per_tooth=4, sharpness=1.0)
            pieces.append((tube(bent, width, section=star).rotated("z", a).moved(0, 0, ground), skin))
            tops.append((reach * math.cos(a), reach * math.sin(a), ground + low + rise))
    elif style == 1:
        size, z, x = radius * uniform(rng, 0.8, 1.1), ground - radius * 0.1, 0.0
        pads = [(0.0, 0.0, size, 0.0)]
        for side in (-1, 1)[: count(rng, 1, 2)]:
            pads.append(
                (side * size * 0.55, size * 1.55, size * uniform(rng, 0.55, 0.75), side * uniform(rng, 0.3, 0.7))
            )
        pads.append((0.0, size * 1.85, size * uniform(rng, 0.5, 0.8), uniform(rng, -0.2, 0.2)))
        for x, up, r, tilt in pads:
            pad = ball(r, 28, 14).scaled(0.72, 0.24, 1.0).moved(0, 0, r * 0.92).rotated("y", tilt)
            pieces.append((pad.moved(x, 0, z + up), skin))
            tops.append((x + 1.9 * r * math.sin(tilt), 0.0, z + up + 1.9 * r * math.cos(tilt)))
        tops = tops[1:]
    else:
        r = radius * uniform(rng, 0.75, 0.95)
        squash = uniform(rng, 0.8, 1.4)
        angle = np.linspace(-math.pi / 2, math.pi / 2, 21)
        globe = lathe(np.stack([r * np.cos(angle), r * squash * np.sin(angle)], axis=1), 6 * ribs, section=section)
        pieces.append((globe.moved(0, 0, ground + r * squash * 0.85), skin))
        tops.append((0.0, 0.0, ground + r * squash * 1.85))
    if chance(rng, 0.6):
        for x, y, z in tops:
            for k in range(6):
                petal = ball(radius * 0.16, 10, 6).scaled(0.45, 0.3, 1.0).moved(0, 0, radius * 0.1).rotated("y", 0.6)
                pieces.append((petal.rotated("z", math.pi / 3 * k).moved(x, y, z - radius * 0.03), bloom))
    return Model.standing(pieces)


def mushroom(rng: np.random.Generator) -> Model:
    """One to four toadstools on a mossy mound, caps from flat to bell-shaped, with raised spots now and then."""
    size = uniform(rng, 0.05, 0.14)
    tone = hsv(uniform(rng, 0.95, 1.15), uniform(rng, 0.4, 0.9), uniform(rng, 0.4, 0.9))
    cap_skin = Material(
        name="cap",
        texture=patterns.speckle(rng, tone, [shade(tone, 1.7), shade(tone, 0.7)]),
        tile=size * 1.5,
        roughness=0.5,
    )
    flesh = Material(name="flesh", color=(0.92, 0.88, 0.78), roughness=0.8)
    moss = Material(
        name="moss",
        texture=patterns.patches(rng, [(0.2, 0.3, 0.1), (0.3, 0.42, 0.15), (0.24, 0.2, 0.12)]),
        tile=0.2,
        roughness=1.0,
    )
    number = count(rng, 1, 4)
    mound = size * (1.2 + 0.35 * number)
    profile = [(mound, 0.0), (mound * 0.9, size * 0.18), (mound * 0.5, size * 0.34), (0.0, size * 0.4)]
    pieces: list[Piece] = [(lathe(curves.smooth(profile, 14), 40), moss)]
    belly, curl = uniform(rng, 0.5, 1.3), uniform(rng, 0.1, 0.3)
    raised = chance(rng, 0.5)
    for i in range(number):
        s = size * (1.0 if i == 0 else uniform(rng, 0.4, 0.8))
        a, out = 2.1 * i, 0.0 if number == 1 else mound * 0.5
        x, y, z = out * math.cos(a), out * math.sin(a), size * 0.22
        tall = s * uniform(rng, 1.2, 2.2)
        stalk = curves.smooth(
            [(s * 0.32, 0.0), (s * 0.2, tall * 0.4), (s * 0.18, tall * 0.9), (s * 0.2, tall * 1.1)], 12
        )
        pieces.append((lathe(stalk, 20).moved(x, y, z), flesh))
        dome = curves.smooth(
            [(s * 0.96, -s * curl), (s, -s * curl * 0.4), (s * 0.72, s * belly * 0.55), (0.0, s * belly)], 16
        )
        under = np.array([[0.0, -s * 0.02], [s * 0.5, -s * curl * 0.4], [s * 0.9, -s * curl]])
        pieces.append((lathe(np.concatenate([under, dome]), 36).moved(x, y, z + tall), cap_skin))
        if raised:
            for k in range(count(rng, 5, 9)):
                f, turn = uniform(rng, 0.15, 0.85), 2.399963 * k
                r, h = s * f, float(np.interp(s * f, dome[::-1, 0], dome[::-1, 1]))
                wart = (
                    ball(s * 0.1, 12, 6)
                    .scaled(1, 1, 0.6)
                    .moved(x + r * math.cos(turn), y + r * math.sin(turn), z + tall + h)
                )
                pieces.append((wart, flesh))
    return Model.standing(pieces)


def stones(rng: np.random.Generator) -> Model:
    """A cairn of rounded stones, or one boulder."""
    number = count(rng, 1, 6)
    size, z = uniform(rng, 0.08, 0.25), 0.0
    pieces: list[Piece] = []
    kinds = [materials.stone(rng) for _ in range(2)]
    for _ in range(number):
        wide, deep, tall = (
            size * uniform(rng, 0.85, 1.15),
            size * uniform(rng, 0.7, 1.0),
            size * uniform(rng, 0.35, 0.75),
        )
        lump = cushion((2 * wide, 2 * deep, 2 * tall), puff=uniform(rng, 2.0, 3.2), segments=48, rows=24, folded=False)
        waves = rng.uniform(-3.0, 3.0, (4, 3))
        swell = 1 + 0.06 * np.sin(lump.vertices / size @ waves.T).sum(axis=1) / 2
        dented = _displaced(lump, swell)
        low, high = float(dented.vertices[:, 2].min()), float(dented.vertices[:, 2].max())
        pieces.append(
            (
                dented.rotated("z", uniform(rng, 0, 6.28)).moved(uniform(rng, -0.1, 0.1) * size, 0, z - low),
                pick(rng, kinds),
            )
        )
        z += (high - low) * 0.95
        size *= uniform(rng, 0.65, 0.9)
    return Model.standing(pieces)
