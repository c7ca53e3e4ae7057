"""Furniture whose top carries things: tables and desks. Every top is one closed plate with a plane upper face."""

import math

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.curves import Outline
from randscene.manifests.procedural.furniture_parts import (
    Piece,
    Point,
    apron,
    corners,
    drawer_stack,
    edge,
    knob_maker,
    leg_maker,
    pedestal,
    splayed,
    stretchers,
)
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import FloatArray, Material, Model
from randscene.manifests.procedural.primitives import box, lathe, loft, prism, rod, slab, torus, tube


def _top_material(rng: np.random.Generator) -> Material:
    return any_of(
        rng, materials.wood, materials.planks, materials.wood, materials.stone, materials.tiled, materials.paint
    )


def _plate(
    rng: np.random.Generator, outline: Outline | FloatArray, z: float, thickness: float, material: Material
) -> Piece:
    return slab(outline, edge(rng, thickness)).moved(0, 0, z), material


def table_rectangular(rng: np.random.Generator) -> Model:
    """Four or six legs or panel ends, with or without apron, stretchers and drawers."""
    long, wide, height = uniform(rng, 0.9, 2.2), uniform(rng, 0.6, 1.05), uniform(rng, 0.66, 0.8)
    thickness = uniform(rng, 0.02, 0.055)
    top, frame = _top_material(rng), materials.frame(rng)
    outline = curves.rectangle(long, wide, pick(rng, (0.006, 0.03, 0.1)), steps=5)
    pieces = [_plate(rng, outline, height - thickness, thickness, top)]
    inset_x, inset_y = uniform(rng, 0.06, 0.18), uniform(rng, 0.06, 0.12)
    half_x, half_y = long / 2 - inset_x, wide / 2 - inset_y
    under = height - thickness * 0.7
    if chance(rng, 0.15):
        panel = box((uniform(rng, 0.025, 0.06), wide - 0.1, under), 0.006)
        pieces += [(panel.moved(side * half_x, 0, under / 2), frame) for side in (-1, 1)]
        pieces.append((box((2 * half_x, 0.03, 0.16), 0.005).moved(0, 0, under - 0.1), frame))
        return Model.standing(pieces)
    size = uniform(rng, 0.045, 0.09)
    make = leg_maker(rng, frame, size)
    posts = splayed(corners(half_x, half_y), uniform(rng, 1.0, 1.07) if chance(rng, 0.5) else 1.0)
    if long > 1.7 and chance(rng, 0.6):
        posts += splayed([(0.0, -half_y), (0.0, half_y)], 1.0)
    for foot, head in posts:
        pieces += make(foot, head, under)
    if chance(rng, 0.65):
        drop = uniform(rng, 0.05, 0.12)
        pieces += [(board, frame) for board in apron(half_x, half_y, under - drop, under, 0.022)]
        if drop > 0.08 and chance(rng, 0.6):
            knob = knob_maker(rng)
            number = count(rng, 1, 3)
            for i in range(number):
                x = (i - (number - 1) / 2) * 2 * half_x / number
                front = box((1.6 * half_x / number, 0.018, drop - 0.025), 0.004)
                pieces.append((front.moved(x, -half_y - 0.014, under - drop / 2 - 0.004), top))
                pieces += knob(x, -half_y - 0.022, under - drop / 2)
    if chance(rng, 0.4):
        feet = [foot for foot, _ in posts[:4]]
        pieces += [(bar, frame) for bar in stretchers(rng, feet, uniform(rng, 0.1, 0.25), size * 0.3)]
    return Model.standing(pieces)


def table_round(rng: np.random.Generator) -> Model:
    """A disc on three to five legs or on a pedestal."""
    radius, height = uniform(rng, 0.35, 0.8), uniform(rng, 0.5, 0.8)
    thickness = uniform(rng, 0.018, 0.05)
    top, frame = _top_material(rng), materials.frame(rng)
    pieces = [_plate(rng, curves.circle(64, radius), height - thickness, thickness, top)]
    under = height - thickness * 0.7
    if chance(rng, 0.5):
        return Model.standing(pieces + pedestal(rng, radius, under, frame))
    legs = count(rng, 3, 5)
    size = uniform(rng, 0.035, 0.07)
    ring = radius * uniform(rng, 0.55, 0.8)
    points = [(float(x), float(y)) for x, y in curves.circle(legs, ring, -math.pi / 2 + math.pi / legs)]
    make = leg_maker(rng, frame, size)
    posts = splayed(points, uniform(rng, 1.0, 1.25))
    for foot, head in posts:
        pieces += make(foot, head, under)
    if chance(rng, 0.5):
        collar = ring + 0.012
        profile = [(collar - 0.025, under - 0.07), (collar, under - 0.07), (collar, under), (collar - 0.025, under)]
        pieces.append((lathe(profile, 48, loop=True), frame))
    if chance(rng, 0.3):
        shelf_z = height * uniform(rng, 0.2, 0.4)
        factor = posts[0][0][0] / points[0][0] if abs(points[0][0]) > 1e-6 else 1.0
        at = ring * (factor + (1 - factor) * shelf_z / under)
        pieces.append((prism(curves.circle(48, at), shelf_z, shelf_z + 0.02, 0.005), top))
    return Model.standing(pieces)


def table_l_shaped(rng: np.random.Generator) -> Model:
    """An L of two arms of unlike length and width, either way round, on legs or panels."""
    long_x, long_y = uniform(rng, 1.2, 2.0), uniform(rng, 1.0, 1.8)
    arm_x, arm_y = uniform(rng, 0.45, 0.7), uniform(rng, 0.45, 0.7)
    height, thickness = uniform(rng, 0.68, 0.78), uniform(rng, 0.02, 0.045)
    top, frame = _top_material(rng), materials.frame(rng)
    outline = curves.l_shape(long_x, long_y, arm_x, arm_y, uniform(rng, 0.01, 0.09))
    pieces = [_plate(rng, outline, height - thickness, thickness, top)]
    under, m = height - thickness * 0.7, uniform(rng, 0.05, 0.09)
    spots: list[Point] = [
        (m, m),
        (long_x - m, m),
        (long_x - m, arm_y - m),
        (arm_x - m, long_y - m),
        (m, long_y - m),
        (arm_x - m * 0.6, arm_y - m * 0.6),
    ]
    size = uniform(rng, 0.04, 0.07)
    middle = np.array([long_x / 2, long_y / 2])
    if chance(rng, 0.3):
        t = uniform(rng, 0.02, 0.04)
        pieces.append((box((t, arm_y - 2 * m, under)).moved(long_x - m, arm_y / 2, under / 2), frame))
        pieces.append((box((arm_x - 2 * m, t, under)).moved(arm_x / 2, long_y - m, under / 2), frame))
        pieces.append((box((arm_x - 2 * m, t, under)).moved(arm_x / 2, m, under / 2), frame))
    else:
        make = leg_maker(rng, frame, size)
        for x, y in spots[: 6 if chance(rng, 0.7) else 5]:
            pieces += [
                (surface.moved(float(middle[0]), float(middle[1]), 0), material)
                for surface, material in make((x - middle[0], y - middle[1]), (x - middle[0], y - middle[1]), under)
            ]
    if chance(rng, 0.6):
        drop = uniform(rng, 0.05, 0.1)
        pieces.append((box((long_x - 2 * m, 0.02, drop)).moved(long_x / 2, m, under - drop / 2), frame))
        pieces.append((box((0.02, long_y - 2 * m, drop)).moved(m, long_y / 2, under - drop / 2), frame))
    if chance(rng, 0.35):
        block = drawer_stack(
            rng, (arm_x * 0.75, arm_y - 0.12, under - 0.1), count(rng, 2, 4), frame, top, knob_maker(rng)
        )
        x = long_x - m - arm_x * 0.45
        pieces += [(surface.moved(x, arm_y / 2, 0.1), material) for surface, material in block]
        wheel = torus(0.03, 0.018, 16, 8).rotated("x", math.pi / 2)
        pieces += [
            (wheel.moved(x + sx * arm_x * 0.28, arm_y / 2 + sy * (arm_y / 2 - 0.14), 0.048), frame)
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
    if chance(rng, 0.5):
        pieces = [(surface.rotated("z", math.pi / 2), material) for surface, material in pieces]
    return Model.standing(pieces)


def table_oval(rng: np.random.Generator) -> Model:
    """An oval, boat-shaped or many-sided top on legs, on two columns or on crossed boards."""
    half_x, half_y = uniform(rng, 0.5, 1.05), uniform(rng, 0.32, 0.5)
    height, thickness = uniform(rng, 0.4, 0.78), uniform(rng, 0.02, 0.05)
    top, frame = _top_material(rng), materials.frame(rng)
    shape = count(rng, 0, 2)
    if shape == 0:
        board: Outline | FloatArray = curves.superellipse(half_x, half_y, 64, uniform(rng, 1.9, 3.0))
    elif shape == 1:
        sides = count(rng, 5, 8)
        board = curves.regular_polygon(sides, half_y * 1.3, uniform(rng, 0.01, 0.06), steps=5)
        half_x = half_y
    else:
        bulge = uniform(rng, 0.75, 0.9)
        front = curves.smooth([(-half_x, -half_y * bulge), (0, -half_y), (half_x, -half_y * bulge)], 13)
        board = np.concatenate([front, -front])
    pieces = [_plate(rng, board, height - thickness, thickness, top)]
    under = height - thickness * 0.7
    style = count(rng, 0, 2)
    if style == 0 and half_x > half_y * 1.4:
        column = pedestal(rng, half_y, under, frame)
        for side in (-1, 1):
            pieces += [(surface.moved(side * half_x * 0.5, 0, 0), material) for surface, material in column]
        pieces.append((rod((-half_x * 0.5, 0, under * 0.5), (half_x * 0.5, 0, under * 0.5), 0.02, 14, 4), frame))
    elif style == 1:
        t = uniform(rng, 0.025, 0.05)
        pieces.append((box((half_x * 1.2, t, under), 0.005).moved(0, 0, under / 2), frame))
        pieces.append((box((t, half_y * 1.2, under - 0.002), 0.005).moved(0, 0, under / 2), frame))
    else:
        make = leg_maker(rng, frame, uniform(rng, 0.035, 0.07))
        for foot, head in splayed(corners(half_x * 0.62, half_y * 0.55), uniform(rng, 1.0, 1.2)):
            pieces += make(foot, head, under)
    return Model.standing(pieces)


def table_trestle(rng: np.random.Generator) -> Model:
    """A board on two trestles (A, X or T) that a beam may join."""
    long, wide, height = uniform(rng, 1.1, 2.2), uniform(rng, 0.6, 0.95), uniform(rng, 0.68, 0.8)
    thickness = uniform(rng, 0.025, 0.06)
    top, frame = _top_material(rng), materials.frame(rng)
    pieces = [
        _plate(
            rng, curves.rectangle(long, wide, uniform(rng, 0.005, 0.06), steps=4), height - thickness, thickness, top
        )
    ]
    under, at = height - thickness * 0.7, long * uniform(rng, 0.28, 0.4)
    size, style = uniform(rng, 0.04, 0.07), count(rng, 0, 2)
    high = under - size * 0.4  # a leaning beam's end must not come up through the top
    spread, narrow = wide * uniform(rng, 0.38, 0.45), wide * uniform(rng, 0.08, 0.3)

    def beam(x: float, y0: float, z0: float, y1: float, z1: float) -> Piece:
        section = curves.rectangle(2.0, 2.0, 0.3).points
        path = [(x, y0, z0), (x, (y0 + y1) / 2, (z0 + z1) / 2), (x, y1, z1)]
        return tube(path, size / 2, section=section, up=(1.0, 0.0, 0.0)), frame

    for x in (-at, at):
        if style == 0:
            pieces += [beam(x, -spread, 0.0, -narrow, high), beam(x, spread, 0.0, narrow, high)]
            pieces.append(beam(x, -spread * 0.8, under * 0.3, spread * 0.8, under * 0.3))
        elif style == 1:
            pieces += [beam(x - size / 4, -spread, 0.0, spread, high), beam(x + size / 4, spread, 0.0, -spread, high)]
        else:
            pieces.append((box((size, 2 * spread, size), 0.006).moved(x, 0, size / 2), frame))
            pieces.append(
                (
                    loft(
                        [
                            curves.rectangle(size, s * wide, size / 4).points + np.array([x, 0.0])
                            for s in (0.35, 0.2, 0.22, 0.4)
                        ],
                        [size * 0.6, under * 0.4, under * 0.7, under],
                    ),
                    frame,
                )
            )
        pieces.append((box((size, wide * 0.85, size), 0.006).moved(x, 0, under - size / 2), frame))
    if chance(rng, 0.75):
        z = under * uniform(rng, 0.3, 0.6)
        pieces.append((box((2 * at + size * 2, size * 0.7, size), 0.006).moved(0, 0, z), frame))
        if chance(rng, 0.5):
            pieces += [
                (
                    rod((s * (at + size * 0.75), 0, z - size), (s * (at + size * 0.75), 0, z + size), size * 0.2, 10),
                    frame,
                )
                for s in (-1, 1)
            ]
    return Model.standing(pieces)


def table_side(rng: np.random.Generator) -> Model:
    """A small or low table: square, round or six-sided, with lower shelves, a drawer or a box base."""
    half, height = uniform(rng, 0.2, 0.45), uniform(rng, 0.35, 0.65)
    thickness = uniform(rng, 0.015, 0.04)
    top, frame = _top_material(rng), materials.frame(rng)
    sides = pick(rng, (4, 4, 6, 8, 40))
    outline = (
        curves.rectangle(2 * half, 2 * half * uniform(rng, 0.7, 1.0), 0.02, steps=5)
        if sides == 4
        else curves.regular_polygon(sides, half, 0.012 if sides < 10 else 0.0, steps=4)
    )
    pieces = [_plate(rng, outline, height - thickness, thickness, top)]
    under = height - thickness * 0.7
    span_y = float(np.abs(outline.points[:, 1]).max())
    legs = 4 if sides == 4 else pick(rng, (3, 4, 6))
    if legs == 4:
        points = corners(half * (0.85 if sides == 4 else 0.55), span_y * (0.82 if sides == 4 else 0.55))
    else:
        points = [(float(x), float(y)) for x, y in curves.circle(legs, half * 0.72, -math.pi / 2)]
    if sides == 4 and chance(rng, 0.25):
        block = drawer_stack(
            rng, (1.8 * half, 1.8 * span_y, under - 0.08), count(rng, 1, 3), frame, top, knob_maker(rng)
        )
        pieces += [(surface.moved(0, 0, 0.08), material) for surface, material in block]
        make = leg_maker(rng, frame, 0.04)
        for foot, head in splayed(points, 1.0):
            pieces += make(foot, head, 0.09)
        return Model.standing(pieces)
    make = leg_maker(rng, frame, uniform(rng, 0.025, 0.05))
    for foot, head in splayed(points, uniform(rng, 1.0, 1.12)):
        pieces += make(foot, head, under)
    for i in range(count(rng, 0, 2)):
        z = under * (0.18 + 0.32 * i)
        shelf = outline.shrunk(half * 0.12)
        pieces.append((prism(shelf, z, z + 0.016, 0.004), top if i else frame))
    return Model.standing(pieces)


def desk(rng: np.random.Generator) -> Model:
    """A writing desk: drawers at one side, at both or under the top, panels or legs, a back panel."""
    long, wide, height = uniform(rng, 1.0, 1.8), uniform(rng, 0.5, 0.8), uniform(rng, 0.7, 0.78)
    thickness = uniform(rng, 0.02, 0.04)
    top, frame = _top_material(rng), any_of(rng, materials.wood, materials.wood, materials.paint, materials.iron)
    front = any_of(rng, lambda _: top, lambda _: frame, materials.paint)
    pieces = [
        _plate(
            rng, curves.rectangle(long, wide, uniform(rng, 0.004, 0.04), steps=4), height - thickness, thickness, top
        )
    ]
    under, block_width = height - thickness * 0.7, uniform(rng, 0.28, 0.42)
    plinth = pick(rng, (0.0, 0.0, 0.08, 0.14))
    knob, drawers = knob_maker(rng), count(rng, 2, 4)
    block = drawer_stack(rng, (block_width, wide - 0.08, under - plinth), drawers, frame, front, knob)
    make = leg_maker(rng, frame, uniform(rng, 0.035, 0.06))
    sides = pick(rng, ((1,), (-1,), (-1, 1)))
    x = long / 2 - block_width / 2 - 0.03
    for side in (-1, 1):
        if side in sides:
            pieces += [(surface.moved(side * x, 0, plinth), material) for surface, material in block]
            if plinth:
                for px, py in corners(block_width / 2 - 0.04, wide / 2 - 0.08):
                    leg = make((px, py), (px, py), plinth + 0.01)
                    pieces += [(surface.moved(side * x, 0, 0), material) for surface, material in leg]
        elif chance(rng, 0.5):
            pieces.append((box((0.03, wide - 0.08, under)).moved(side * (long / 2 - 0.05), 0, under / 2), frame))
        else:
            for y in (-wide / 2 + 0.07, wide / 2 - 0.07):
                at = (side * (long / 2 - 0.07), y)
                pieces += make(at, at, under)
    if chance(rng, 0.6):
        deep = uniform(rng, 0.2, 0.5)
        pieces.append((box((long - 0.1, 0.02, deep)).moved(0, wide / 2 - 0.06, under - deep / 2), frame))
    if len(sides) == 1 and chance(rng, 0.5):
        width = long - block_width - 0.2
        middle = -sides[0] * block_width / 2
        pieces.append((box((width, wide - 0.12, 0.08)).moved(middle, 0, under - 0.04), frame))
        pieces.append((box((width * 0.94, 0.02, 0.064)).moved(middle, -wide / 2 + 0.05, under - 0.042), front))
        pieces += knob(middle, -wide / 2 + 0.04, under - 0.042)
    return Model.standing(pieces)
