"""Furniture to sit on: bench, stool, chair, sofa."""

import math

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.furniture_parts import Piece, corners, edge, leg_maker, splayed, stretchers
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import FloatArray, Material, Model
from randscene.manifests.procedural.primitives import box, cushion, lathe, rod, slab, torus, tube


def _cloth(rng: np.random.Generator) -> Material:
    return any_of(rng, materials.fabric, materials.fabric, materials.leather)


def bench(rng: np.random.Generator) -> Model:
    """A seat for several: solid or slatted, with or without a back; legs, panels or stone blocks below."""
    long, deep, height = uniform(rng, 0.9, 1.8), uniform(rng, 0.32, 0.48), uniform(rng, 0.38, 0.5)
    wood, frame = any_of(rng, materials.wood, materials.planks, materials.paint), materials.frame(rng)
    thickness = uniform(rng, 0.025, 0.06)
    pieces: list[Piece] = []
    if chance(rng, 0.5):
        slats = count(rng, 3, 7)
        width = deep / slats * uniform(rng, 0.7, 0.9)
        slat = box((long, width, thickness), 0.006)
        pieces += [
            (slat.moved(0, (i + 0.5) / slats * deep - deep / 2, height - thickness / 2), wood) for i in range(slats)
        ]
    else:
        pieces.append(
            (slab(curves.rectangle(long, deep, 0.03), edge(rng, thickness)).moved(0, 0, height - thickness), wood)
        )
    under, at = height - thickness * 0.9, long * uniform(rng, 0.36, 0.44)
    if chance(rng, 0.4):
        base = any_of(rng, materials.stone, materials.brick, materials.iron, lambda _: wood)
        block = box((uniform(rng, 0.05, 0.2), deep * 0.92, under), 0.01)
        pieces += [(block.moved(x, 0, under / 2), base) for x in (-at, at)]
    else:
        make = leg_maker(rng, frame, uniform(rng, 0.035, 0.06))
        posts = splayed(corners(at, deep / 2 - 0.05), uniform(rng, 1.0, 1.08))
        for foot, head in posts:
            pieces += make(foot, head, under)
        pieces += [(box((0.03, deep * 0.9, 0.04)).moved(x, 0, under - 0.018), frame) for x in (-at, at)]
        if chance(rng, 0.5):
            pieces += [(bar, frame) for bar in stretchers(rng, [f for f, _ in posts], height * 0.3, 0.014)]
    if chance(rng, 0.45):
        lean, top = uniform(rng, 0.03, 0.12), height + uniform(rng, 0.28, 0.45)
        rails = count(rng, 1, 4)
        pieces += [
            (tube([(x, deep / 2 - 0.02, under - 0.06), (x, deep / 2 + lean, top)], 0.018, 12), frame)
            for x in (-at, 0.0, at)
        ]
        rail = box((long, 0.022, (top - height) / rails * 0.7), 0.006)
        for i in range(rails):
            f = (i + 0.65) / rails
            pieces.append((rail.moved(0, deep / 2 - 0.04 + lean * f, height + (top - height) * f), wood))
    return Model.standing(pieces)


def stool(rng: np.random.Generator) -> Model:
    """A round, square or many-sided seat on three to five legs, a swivel foot or a drum; low to bar height."""
    radius = uniform(rng, 0.15, 0.22)
    height = pick(rng, (uniform(rng, 0.28, 0.5), uniform(rng, 0.6, 0.8)))
    thickness = uniform(rng, 0.025, 0.06)
    seat, frame = (
        any_of(rng, materials.wood, materials.paint, materials.plastic, materials.leather),
        materials.frame(rng),
    )
    outlines: tuple[curves.Outline | FloatArray, ...] = (
        curves.circle(48, radius),
        curves.rectangle(2 * radius, 2 * radius * 0.8, 0.04, steps=6),
        curves.regular_polygon(count(rng, 3, 7), radius * 1.15, 0.05, steps=5),
    )
    outline = pick(rng, outlines)
    pieces: list[Piece] = [(slab(outline, edge(rng, thickness)).moved(0, 0, height - thickness), seat)]
    under = height - thickness * 0.7
    style = count(rng, 0, 5)
    if style == 0:
        base = uniform(rng, 0.8, 1.1) * radius
        profile = [(base, 0.0), (base, 0.012), (base * 0.5, 0.03), (0.025, 0.06), (0.025, under)]
        pieces.append((lathe(curves.round_corners(np.array(profile), 0.02, closed=False), 36), frame))
        ring_z = under * 0.4
        pieces.append((torus(radius * 0.75, 0.01, 36, 10).moved(0, 0, ring_z), frame))
        pieces += [
            (rod((0, 0, ring_z), (radius * 0.75 * math.cos(a), radius * 0.75 * math.sin(a), ring_z), 0.007, 10), frame)
            for a in (0.0, 2.1, 4.2)
        ]
    elif style == 1:
        waist = uniform(rng, 0.55, 1.0)
        knots = [(radius * 0.85, 0.0), (radius * waist * 0.85, under / 2), (radius * 0.85, under)]
        ribs = count(rng, 8, 20)
        section = curves.polar_flutes(4 * ribs, ribs, uniform(rng, 0.0, 0.12))
        drum = lathe(curves.smooth(knots, 14), 4 * ribs, section=section)
        pieces.append((drum, any_of(rng, materials.wicker, materials.glaze, materials.wood, materials.clay)))
    else:
        legs = count(rng, 3, 5)
        points = [(float(x), float(y)) for x, y in curves.circle(legs, radius * 0.62, -math.pi / 2 + math.pi / legs)]
        posts = splayed(points, uniform(rng, 1.0, 1.6))
        make = leg_maker(rng, frame, uniform(rng, 0.022, 0.045))
        for foot, head in posts:
            pieces += make(foot, head, under)
        for i in range(count(rng, 0, 2)):
            f = 0.3 + 0.25 * i
            at = [(a[0] * (1 - f) + b[0] * f, a[1] * (1 - f) + b[1] * f) for a, b in posts]
            if chance(rng, 0.5):
                pieces.append((torus(math.hypot(*at[0]), 0.009, 36, 10).moved(0, 0, under * f), frame))
            else:
                pieces += [(bar, frame) for bar in stretchers(rng, at, under * f, 0.01)]
    if chance(rng, 0.3):
        pad = cushion((radius * 1.7, radius * 1.5, 0.07), puff=uniform(rng, 2.5, 5.0), segments=32, rows=10)
        pieces.append((pad.moved(0, 0, height + 0.015), _cloth(rng)))
    return Model.standing(pieces)


def chair(rng: np.random.Generator) -> Model:
    """Seat, four legs and a back of slats, rungs, a panel or hoops; arms now and then."""
    wide, deep = uniform(rng, 0.38, 0.5), uniform(rng, 0.38, 0.48)
    height, top = uniform(rng, 0.42, 0.48), uniform(rng, 0.75, 1.1)
    wood, frame, thickness = (
        any_of(rng, materials.wood, materials.wood, materials.paint),
        materials.frame(rng),
        uniform(rng, 0.02, 0.045),
    )
    lean = uniform(rng, 0.04, 0.14)
    outline = curves.rectangle(wide, deep, uniform(rng, 0.02, 0.18), steps=9)
    seat = pick(rng, (wood, wood, frame))
    pieces: list[Piece] = [(slab(outline, edge(rng, thickness)).moved(0, 0, height - thickness), seat)]
    under = height - thickness * 0.7
    points = corners(wide * 0.4, deep * 0.4)
    posts = splayed(points, uniform(rng, 1.0, 1.15))
    make = leg_maker(rng, frame, uniform(rng, 0.028, 0.045))
    for foot, head in posts:
        pieces += make(foot, head, under)
    if chance(rng, 0.5):
        pieces += [
            (bar, frame) for bar in stretchers(rng, [f for f, _ in posts], under * uniform(rng, 0.25, 0.5), 0.011)
        ]

    y0, x0 = deep * 0.4, wide * 0.42

    def back(x: float, f: float) -> tuple[float, float, float]:
        return (x, y0 + lean * f, height - 0.02 + (top - height + 0.02) * f)

    post_radius = uniform(rng, 0.012, 0.02)
    uprights = [tube(np.array([back(x, f) for f in np.linspace(0, 1, 5)]), post_radius, 12) for x in (-x0, x0)]
    style = count(rng, 0, 4)
    if style == 4:
        hoop = curves.smooth(
            [
                back(-x0, 0),
                back(-x0 * 1.05, 0.6),
                back(-x0 * 0.6, 0.95),
                back(0, 1.0),
                back(x0 * 0.6, 0.95),
                back(x0 * 1.05, 0.6),
                back(x0, 0),
            ],
            32,
        )
        pieces.append((tube(hoop, post_radius, 12), frame))
        rods = count(rng, 3, 8)
        for i in range(rods):
            x = x0 * 0.8 * (2 * (i + 0.5) / rods - 1)
            pieces.append((rod(back(x, 0), back(x, 0.97 - 0.35 * (x / x0) ** 2), 0.007, 10), frame))
    else:
        pieces += [(post, frame) for post in uprights]
        tall = math.hypot(lean, top - height)
        angle = math.atan2(lean, top - height)

        def board(w: float, h: float, f: float) -> Piece:
            x, y, z = back(0.0, f)
            curve = curves.smooth([(-w / 2, 0.0, 0.0), (0.0, 0.022, 0.0), (w / 2, 0.0, 0.0)], 11)
            section = curves.rectangle(h, 0.018, 0.006).points
            ribbon = tube(curve, 1.0, section=section, up=(0.0, 0.0, 1.0))
            return ribbon.rotated("x", -angle).moved(x, y, z), wood

        if style == 0:
            pieces += [board(2 * x0, tall * 0.16, 0.93), board(2 * x0, tall * 0.1, 0.25)]
            slats = count(rng, 3, 8)
            for i in range(slats):
                x = x0 * (2 * (i + 0.5) / slats - 1) * 0.92
                slat = box((x0 / slats * uniform(rng, 0.6, 1.2), 0.012, tall * 0.66), 0.003).rotated("x", -angle)
                px, py, pz = back(x, 0.58)
                pieces.append((slat.moved(px, py + 0.018 * (1 - (x / x0) ** 2), pz), wood))
        elif style == 1:
            rungs = count(rng, 2, 5)
            pieces += [
                board(2 * x0, tall / rungs * uniform(rng, 0.3, 0.6), 0.22 + 0.74 * (i + 0.5) / rungs)
                for i in range(rungs)
            ]
        elif style == 2:
            pieces.append(board(2.1 * x0, tall * 0.72, 0.6))
        else:
            pad = cushion((2 * x0, 0.06, tall * 0.62), puff=uniform(rng, 3, 6), segments=28, rows=12).rotated(
                "x", -angle
            )
            pieces.append((pad.moved(*back(0, 0.62)), _cloth(rng)))
            pieces.append(
                (cushion((wide * 0.95, deep * 0.92, 0.07), puff=5.0).moved(0, 0, height + 0.012), pieces[-1][1])
            )
    if chance(rng, 0.3):
        rise, front = uniform(rng, 0.17, 0.24), -deep * 0.36
        for side in (-1, 1):
            x = side * (x0 + 0.012)
            end_y = y0 + lean * (rise / (top - height))
            arm = curves.smooth(
                [
                    (x, front, height - 0.02),
                    (x, front, height + rise * 0.8),
                    (x, front + 0.08, height + rise),
                    (x, end_y, height + rise),
                ],
                18,
            )
            pieces.append((tube(arm, 0.013, 10), frame))
    return Model.standing(pieces)


def sofa(rng: np.random.Generator) -> Model:
    """One to three seats between arms, with cushions on a base, on feet or on the ground."""
    seats = count(rng, 1, 3)
    seat_width, deep = uniform(rng, 0.52, 0.68), uniform(rng, 0.75, 0.95)
    wide, feet = seats * seat_width, uniform(rng, 0.05, 0.16)
    base_height, pad = uniform(rng, 0.16, 0.24), uniform(rng, 0.14, 0.2)
    arm_width, arm_top = uniform(rng, 0.1, 0.22), uniform(rng, 0.5, 0.66)
    back_top, lean = uniform(rng, 0.72, 1.0), uniform(rng, 0.05, 0.16)
    body = _cloth(rng)
    accent = body if chance(rng, 0.5) else _cloth(rng)
    puff = uniform(rng, 4.0, 9.0)
    pieces: list[Piece] = [(box((wide + 0.02, deep, base_height), 0.02).moved(0, 0, feet + base_height / 2), body)]
    z = feet + base_height
    back_tilt = math.atan2(lean, back_top - z)
    pieces.append(
        (
            cushion((wide + 0.02, 0.2, back_top - feet), puff=10.0, segments=40, rows=16)
            .rotated("x", -back_tilt)
            .moved(0, deep / 2 - 0.06, feet + (back_top - feet) / 2),
            body,
        )
    )
    for i in range(seats):
        x = (i - (seats - 1) / 2) * seat_width
        pieces.append(
            (cushion((seat_width * 0.99, deep * 0.8, pad), puff=puff).moved(x, -deep * 0.1, z + pad * 0.42), accent)
        )
        rest = cushion((seat_width * 0.97, 0.17, back_top - z - pad * 0.4), puff=puff * 0.8).rotated(
            "x", -back_tilt - 0.1
        )
        pieces.append((rest.moved(x, deep / 2 - 0.22, (back_top + z + pad * 0.6) / 2), accent))
    round_arm = chance(rng, 0.5)
    for side in (-1, 1):
        x = side * (wide / 2 + arm_width / 2)
        if round_arm:
            roll = tube(
                [(x, -deep / 2, arm_top - arm_width / 2), (x, deep / 2, arm_top - arm_width / 2)], arm_width * 0.62, 28
            )
            pieces.append((roll, body))
            pieces.append(
                (
                    box((arm_width * 0.9, deep * 0.98, arm_top - arm_width / 2 - feet), 0.02).moved(
                        x, 0, (arm_top - arm_width / 2 + feet) / 2
                    ),
                    body,
                )
            )
        else:
            tall = arm_top - feet
            pieces.append((cushion((arm_width, deep, tall), puff=12.0, rows=14).moved(x, 0, feet + tall / 2), body))
    leg = any_of(rng, materials.wood, materials.metal)
    make = leg_maker(rng, leg, uniform(rng, 0.035, 0.06))
    for foot, head in splayed(corners(wide / 2 - 0.02, deep / 2 - 0.09), 1.0):
        pieces += make(foot, head, feet + 0.03)
    for _ in range(count(rng, 0, seats)):
        x = uniform(rng, -wide / 2 + 0.2, wide / 2 - 0.2)
        size = uniform(rng, 0.32, 0.42)
        pillow = (
            cushion((size, size * 0.8, 0.14), puff=2.6, segments=32)
            .rotated("z", uniform(rng, -0.4, 0.4))
            .rotated("x", 1.15)
        )
        pieces.append((pillow.moved(x, deep / 2 - 0.38, z + pad + size * 0.34), materials.fabric(rng)))
    return Model.standing(pieces)
