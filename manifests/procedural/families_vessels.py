"""Tall and wide vessels about the house: bottle, vase, basket, candlestick."""

import math

import numpy as np

from randscene.manifests.procedural import curves, materials, patterns
from randscene.manifests.procedural.furniture_parts import Piece, turned_profile
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model
from randscene.manifests.procedural.primitives import cushion, lathe, torus, tube
from randscene.manifests.procedural.textures import hsv
from randscene.manifests.procedural.vessel_parts import handle_tube, hollow, radius_at, shell


def bottle(rng: np.random.Generator) -> Model:
    """Shoulders from sloping to square, round, square or ribbed body, neck ring and a stopper, cap or nothing."""
    height, radius = uniform(rng, 0.14, 0.34), uniform(rng, 0.028, 0.05)
    neck = radius * uniform(rng, 0.28, 0.5)
    shoulder, collar = height * uniform(rng, 0.45, 0.68), height * uniform(rng, 0.72, 0.84)
    if chance(rng, 0.5):
        corners = np.array([[radius * 0.9, 0.0], [radius, 0.006], [radius, shoulder], [neck, collar], [neck, height]])
        outer = curves.round_corners(corners, [0, 0.008, radius * 0.7, radius * 0.7, 0], steps=7, closed=False)
    else:
        waist = uniform(rng, 0.75, 1.15)
        knots = [
            (radius * 0.85, 0.0),
            (radius, height * 0.05),
            (radius * waist, shoulder * 0.55),
            (radius * 0.95, shoulder),
            (neck * 1.1, collar),
            (neck, height),
        ]
        outer = curves.smooth(knots, 34)
    tone = hsv(uniform(rng, 0, 1), uniform(rng, 0.3, 0.8), uniform(rng, 0.15, 0.6))
    paper = hsv(uniform(rng, 0, 1), uniform(rng, 0.02, 0.4), uniform(rng, 0.8, 0.97))
    glass = Material(name="glass", color=tone, roughness=uniform(rng, 0.04, 0.2))
    if chance(rng, 0.6):
        texture = patterns.label(rng, tone, paper, hsv(uniform(rng, 0, 1), 0.7, 0.4))
        glass = Material(name="labelled_glass", texture=texture, tile=None, roughness=uniform(rng, 0.05, 0.3))
    elif chance(rng, 0.4):
        glass = materials.glaze(rng)
    section = pick(
        rng,
        (
            None,
            None,
            curves.polar_superellipse(48, uniform(rng, 3.0, 6.0)) * 0.85,
            curves.polar_polygon(48, count(rng, 5, 8)),
        ),
    )
    pieces: list[Piece] = [(hollow(outer, min(0.004, neck * 0.3), 0.006, 48, section), glass)]
    for i in range(count(rng, 0, 2)):
        pieces.append(
            (
                torus(neck * 1.02, neck * 0.16, 32, 10).moved(0, 0, height - 0.012 - 0.012 * i),
                glass if section is None else materials.metal(rng),
            )
        )
    stop = count(rng, 0, 2)
    if stop == 0:
        cork = [(neck * 0.55, height - 0.02), (neck * 0.75, height + 0.001), (neck * 0.85, height + 0.016)]
        pieces.append(
            (
                lathe(cork, 24),
                Material(name="cork", texture=patterns.stone(rng, (0.74, 0.56, 0.38)), tile=0.08, roughness=0.9),
            )
        )
    elif stop == 1:
        cap_height = uniform(rng, 0.015, 0.035)
        cap = np.array([[neck * 1.25, height - cap_height * 0.7], [neck * 1.25, height + cap_height * 0.3]])
        ribs = curves.polar_flutes(72, 18, 0.08)
        pieces.append((lathe(cap, 72, section=ribs), any_of(rng, materials.metal, materials.plastic)))
    return Model.standing(pieces)


def vase(rng: np.random.Generator) -> Model:
    """A random swelling profile, smooth, fluted, twisted or many-sided, with ears now and then."""
    height = uniform(rng, 0.14, 0.5)
    wide = height * uniform(rng, 0.16, 0.42)
    inner_knots = count(rng, 2, 4)
    knots = [(wide * uniform(rng, 0.45, 0.8), 0.0)]
    knots += [(wide * uniform(rng, 0.4, 1.0), height * (i + 1) / (inner_knots + 1)) for i in range(inner_knots)]
    knots += [(wide * uniform(rng, 0.35, 0.9), height)]
    widest = max(range(1, len(knots) - 1), key=lambda i: knots[i][0])
    knots[widest] = (wide, knots[widest][1])
    outer = curves.smooth(knots, 36)
    outer[:, 0] = np.maximum(outer[:, 0], wide * 0.25)
    profile = shell(outer, uniform(rng, 0.004, 0.007), 0.01)
    style, flutes = count(rng, 0, 4), count(rng, 5, 16)
    section, twist, segments = None, None, 48
    if style in (1, 2):
        segments = 6 * flutes if flutes < 12 else 4 * flutes
        section = curves.polar_flutes(segments, flutes, uniform(rng, 0.06, 0.2))
    elif style == 3:
        segments = 12 * pick(rng, (4, 5, 6))
        section = curves.polar_polygon(segments, segments // 12)
    if style in (2, 3) and chance(rng, 0.7):
        twist = profile[:, 1] / height * uniform(rng, -1.6, 1.6)
    material = any_of(rng, materials.glaze, materials.glaze, materials.clay, materials.metal, materials.stone)
    pieces: list[Piece] = [(lathe(profile, segments, section=section, twist=twist), material)]
    if section is None and chance(rng, 0.4):
        low, high = height * uniform(rng, 0.4, 0.6), height * uniform(rng, 0.75, 0.92)
        a, b = radius_at(outer, low) - 0.003, radius_at(outer, high) - 0.003
        out = wide * uniform(rng, 0.3, 0.6)
        ear = handle_tube(
            [
                (a, low),
                (max(a, b) + out * 0.7, low * 1.05),
                (max(a, b) + out, (low + high) / 2),
                (b + out * 0.7, high),
                (b, high * 0.99),
            ],
            wide * 0.07,
            1.3,
        )
        pieces += [(ear.rotated("z", math.pi * i), material) for i in range(2)]
    if chance(rng, 0.3):
        at = uniform(rng, 0.15, 0.9) * height
        if section is None:
            pieces.append(
                (
                    torus(radius_at(outer, at), wide * 0.05, 44, 10).moved(0, 0, at),
                    any_of(rng, materials.metal, materials.paint),
                )
            )
    return Model.standing(pieces)


def basket(rng: np.random.Generator) -> Model:
    """An open basket, round, oval or square, of wicker, wood strips or wire, with ears or a bail."""
    radius = uniform(rng, 0.12, 0.24)
    height = radius * uniform(rng, 0.7, 1.6)
    flare = uniform(rng, 0.75, 1.0)
    material = any_of(rng, materials.wicker, materials.wicker, materials.fabric)
    rim = any_of(rng, lambda _: material, materials.wood, materials.leather)
    section = pick(rng, (curves.polar_superellipse(56, 2.0), curves.polar_superellipse(56, 5.0) * 0.85))
    outer = curves.smooth(
        [
            (radius * flare * 0.94, 0.0),
            (radius * flare, height * 0.06),
            (radius * uniform(rng, 0.95, 1.1), height * 0.6),
            (radius, height),
        ],
        20,
    )
    stretch = uniform(rng, 0.7, 1.0)
    body = hollow(outer, 0.008, 0.012, 56, section)
    pieces: list[Piece] = [(body.scaled(1, stretch, 1), material)]
    lip = curves.circle(10, 0.011) + np.array([radius - 0.004, height])
    band = lathe(lip, 56, loop=True, section=section).scaled(1, stretch, 1)
    pieces.append((band, rim))
    at = radius * float(section[0])
    thick = uniform(rng, 0.006, 0.011)
    if chance(rng, 0.5):
        rise = height + radius * uniform(rng, 0.6, 1.1)
        pieces.append(
            (
                handle_tube(
                    [
                        (-at, height * 0.9),
                        (-at * 0.9, rise * 0.86),
                        (0, rise),
                        (at * 0.9, rise * 0.86),
                        (at, height * 0.9),
                    ],
                    thick,
                    1.5,
                    32,
                ),
                rim,
            )
        )
    else:
        for side in (-1, 1):
            wide, rise = radius * 0.32, radius * uniform(rng, 0.25, 0.4)
            arch = curves.smooth(
                [
                    (side * at, -wide, height - 0.005),
                    (side * at, -wide * 0.7, height + rise * 0.85),
                    (side * at, 0, height + rise),
                    (side * at, wide * 0.7, height + rise * 0.85),
                    (side * at, wide, height - 0.005),
                ],
                24,
            )
            pieces.append((tube(arch, thick, 10), rim))
    if chance(rng, 0.3):
        wide = 2 * radius * flare * 0.8 * float(section.min())
        heap = cushion((wide, wide * stretch, height), puff=2.6).moved(0, 0, height * uniform(rng, 0.55, 0.75))
        pieces.append((heap, materials.fabric(rng)))
    return Model.standing(pieces)


def candlestick(rng: np.random.Generator) -> Model:
    """One to five candles on a turned post with arms, or each on a cup; flames glow when lit."""
    height = uniform(rng, 0.1, 0.32)
    material = any_of(rng, materials.metal, materials.metal, materials.wood, materials.iron, materials.glaze)
    wax = Material(
        name="wax", color=hsv(uniform(rng, 0, 1), pick(rng, (0.05, 0.1, 0.6)), uniform(rng, 0.7, 0.97)), roughness=0.5
    )
    flame = Material(name="flame", color=(1.0, 0.8, 0.4), emissive=(1.0, 0.62, 0.2))
    lit = chance(rng, 0.5)
    base = uniform(rng, 0.035, 0.06)
    foot = curves.round_corners(
        np.array([[base, 0.0], [base, 0.008], [base * 0.55, 0.018], [0.012, 0.026]]), 0.005, closed=False
    )
    post = turned_profile(rng, height - 0.02, 0.016, count(rng, 2, 5)) + np.array([0.0, 0.02])
    pieces: list[Piece] = [(lathe(foot, 36), material), (lathe(post, 24), material)]
    arms = pick(rng, (0, 0, 2, 3, 4))
    reach, drop = uniform(rng, 0.06, 0.11), uniform(rng, 0.2, 0.5) * height
    tips = [(0.0, 0.0, height)]
    for i in range(arms):
        a = 2 * math.pi * i / arms
        bent = curves.smooth(
            [
                (0.005, height - drop),
                (reach * 0.55, height - drop * 1.15),
                (reach, height - drop * 0.7),
                (reach, height - drop * 0.2),
            ],
            16,
        )
        path = np.stack([bent[:, 0], np.zeros(16), bent[:, 1]], axis=1)
        pieces.append((tube(path, 0.005, 10).rotated("z", a), material))
        tips.append((reach * math.cos(a), reach * math.sin(a), height - drop * 0.2))
    thick, tall = uniform(rng, 0.008, 0.013), uniform(rng, 0.05, 0.18)
    cup = [(0.006, -0.004), (thick * 1.9, 0.006), (thick * 2.0, 0.009), (thick * 1.1, 0.009)]
    for x, y, z in tips:
        long = tall * uniform(rng, 0.6, 1.0)
        pieces.append((lathe(cup, 24).moved(x, y, z), material))
        candle = curves.round_corners(
            np.array([[thick, 0.004], [thick, long], [0.0, long - 0.003]]), 0.003, closed=False
        )
        pieces.append((lathe(candle, 20).moved(x, y, z), wax))
        if lit:
            drop_shape = curves.smooth([(0.0, 0.0), (thick * 0.5, 0.008), (thick * 0.35, 0.02), (0.0, 0.034)], 12)
            pieces.append((lathe(drop_shape, 14).moved(x, y, z + long - 0.002), flame))
    return Model.standing(pieces)
