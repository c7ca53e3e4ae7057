"""Furniture that holds or lights: shelf, cabinet, lamp."""

import itertools
import math

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.furniture_parts import (
    Piece,
    Point,
    between,
    corners,
    drawer_stack,
    edge,
    knob_maker,
    leg_maker,
    turned_profile,
)
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model
from randscene.manifests.procedural.patterns import spine, stripes, zigzag
from randscene.manifests.procedural.primitives import ball, box, lathe, rod, slab, tube
from randscene.manifests.procedural.textures import hsv, shade


def shelf(rng: np.random.Generator) -> Model:
    """Boards between sides: columns, uneven rows, an open or closed back, and a few books or boxes."""
    columns, rows = count(rng, 1, 3), count(rng, 2, 6)
    wide, deep, tall = columns * uniform(rng, 0.3, 0.55), uniform(rng, 0.22, 0.4), rows * uniform(rng, 0.24, 0.34)
    t = uniform(rng, 0.015, 0.03)
    body = any_of(rng, materials.wood, materials.planks, materials.paint, materials.wood)
    inner = body if chance(rng, 0.6) else any_of(rng, materials.paint, materials.wood)
    foot = pick(rng, (0.0, 0.0, 0.06, 0.12))
    pieces: list[Piece] = []
    posts = chance(rng, 0.25)
    metal = any_of(rng, materials.metal, materials.iron)
    for side in (-1, 1):
        x = side * wide / 2
        if posts:
            pieces += [
                (tube([(x, y, 0.0), (x, y, tall + foot)], 0.014, 14), metal)
                for y in (-deep / 2 + 0.015, deep / 2 - 0.015)
            ]
        else:
            upright = tall + foot - t / 2  # ends inside the top board, so that no two faces share a plane
            pieces.append((box((t, deep, upright), 0.003).moved(x, 0, upright / 2), body))
    cuts = np.concatenate([[0.0], np.cumsum([uniform(rng, 0.8, 1.25) for _ in range(rows)])])
    levels = [float(foot + t / 2 + c / cuts[-1] * (tall - t)) for c in cuts]
    board, top = box((wide - t, deep * 0.98, t), 0.003), box((wide + t + 0.004, deep + 0.004, t), 0.003)
    pieces += [(board.moved(0, 0, z), body) for z in levels[:-1]]
    pieces.append((top.moved(0, 0, levels[-1]), body))
    if not posts and chance(rng, 0.75):
        pieces.append((box((wide, 0.008, tall - 0.01), 0.002).moved(0, deep / 2 - 0.006, foot + tall / 2), inner))
    for c in range(1, columns):
        x = -wide / 2 + wide * c / columns
        if not posts:
            pieces.append((box((t, deep * 0.96, tall - 0.01), 0.003).moved(x, 0, foot + tall / 2), body))
    inks = [hsv(uniform(rng, 0, 1), uniform(rng, 0.3, 0.9), uniform(rng, 0.25, 0.9)) for _ in range(3)]
    covers = [Material(name="book", texture=spine(rng, ink, shade(ink, 1.6)), tile=None, roughness=0.6) for ink in inks]
    fill = pick(rng, (0.0, 0.3, 0.6))
    for low, high in itertools.pairwise(levels):
        for c in range(columns):
            if not chance(rng, fill):
                continue
            x = -wide / 2 + wide * c / columns + t
            room = high - low - t
            for _ in range(count(rng, 2, 6)):
                width, height = uniform(rng, 0.02, 0.045), room * uniform(rng, 0.6, 0.92)
                if x + width > -wide / 2 + wide * (c + 1) / columns - t:
                    break
                book = box((width, deep * uniform(rng, 0.55, 0.75), height), 0.003)
                pieces.append((book.moved(x + width / 2, -deep * 0.08, low + t / 2 + height / 2), pick(rng, covers)))
                x += width + 0.002
    return Model.standing(pieces)


def cabinet(rng: np.random.Generator) -> Model:
    """A chest of drawers or a cupboard with doors, on legs, a plinth or the ground, with a projecting top."""
    wide, deep, tall = uniform(rng, 0.45, 1.3), uniform(rng, 0.35, 0.5), uniform(rng, 0.5, 1.1)
    body = any_of(rng, materials.wood, materials.paint, materials.planks)
    front = body if chance(rng, 0.5) else any_of(rng, materials.wood, materials.paint)
    knob = knob_maker(rng)
    foot = pick(rng, (0.0, 0.08, 0.16))
    t = uniform(rng, 0.015, 0.035)
    over = uniform(rng, 0.0, 0.03)
    pieces: list[Piece] = []
    columns = max(1, round(wide / uniform(rng, 0.38, 0.7)))
    part = wide / columns
    for i in range(columns):
        x = (i - (columns - 1) / 2) * part
        if chance(rng, 0.55):
            block = drawer_stack(rng, (part, deep, tall), count(rng, 2, 5), body, front, knob)
        else:
            leaves = 2 if part > 0.5 else 1
            block = [(box((part, deep, tall), 0.004).moved(0, 0, tall / 2), body)]
            for leaf in range(leaves):
                w = part / leaves
                cx = (leaf - (leaves - 1) / 2) * w
                block.append(
                    (box((w - 0.008, 0.02, tall - 0.014), 0.004).moved(cx, -deep / 2 - 0.006, tall / 2), front)
                )
                block.append((box((w - 0.1, 0.016, tall - 0.11), 0.006).moved(cx, -deep / 2 - 0.012, tall / 2), body))
                hinge = 1 if leaves == 2 and leaf == 0 else -1 if leaves == 2 else pick(rng, (-1, 1))
                block += knob(cx + hinge * (w / 2 - 0.03), -deep / 2 - 0.016, tall * 0.55)
        pieces += [(surface.moved(x, 0, foot), material) for surface, material in block]
    pieces.append(
        (
            slab(curves.rectangle(wide + 2 * over, deep + 0.03 + over, 0.008), edge(rng, t)).moved(
                0, -0.008, foot + tall - 0.001
            ),
            front if chance(rng, 0.5) else body,
        )
    )
    if foot:
        make = leg_maker(rng, any_of(rng, lambda _: body, materials.metal), 0.045)
        for at in corners(wide / 2 - 0.05, deep / 2 - 0.05):
            pieces += make(at, at, foot + 0.01)
    return Model.standing(pieces)


def lamp(rng: np.random.Generator) -> Model:
    """A table or floor lamp: turned, round or jointed stand; a shade that glows: cone, drum, globe, bell or pleats."""
    floor = chance(rng, 0.4)
    height = uniform(rng, 1.2, 1.7) if floor else uniform(rng, 0.35, 0.65)
    shade_radius = uniform(rng, 0.16, 0.26) if floor else uniform(rng, 0.1, 0.19)
    shade_height = shade_radius * uniform(rng, 0.9, 1.7)
    stand = any_of(rng, materials.metal, materials.wood, materials.glaze, materials.stone)
    metal = materials.metal(rng)
    base, post_top = shade_radius * uniform(rng, 0.55, 0.85), height - shade_height * 0.55
    foot: list[Point] = [(base, 0.0), (base, 0.012), (base * 0.8, 0.024), (0.012, 0.034), (0.012, 0.05)]
    pieces: list[Piece] = []
    style = count(rng, 0, 3)
    if style == 3:
        legs = count(rng, 3, 4)
        hub = (0.0, 0.0, post_top * uniform(rng, 0.8, 0.95))
        reach = shade_radius * uniform(rng, 0.8, 1.2)
        for i in range(legs):
            a = 2 * math.pi * i / legs
            pieces.append(
                (
                    rod((reach * math.cos(a), reach * math.sin(a), 0.004), hub, 0.009 if not floor else 0.014, 14, 4),
                    stand,
                )
            )
        pieces.append((ball(0.022, 20, 10).moved(*hub), metal))
        pieces.append((rod(hub, (0, 0, height - shade_height * 0.2), 0.008, 12), metal))
    else:
        pieces.append((lathe(curves.round_corners(np.array(foot), 0.008, closed=False), 40), stand if style else metal))
        pieces.append((rod((0, 0, 0.03), (0, 0, height - shade_height * 0.2), 0.008, 14, 3), metal))
        if style == 0 and not floor:
            body = shade_radius * uniform(rng, 0.5, 0.9)
            knots = [
                (body * uniform(rng, 0.4, 0.8), 0.028),
                (body, post_top * uniform(rng, 0.35, 0.6)),
                (body * 0.4, post_top * 0.85),
                (0.014, post_top),
            ]
            pieces.append((lathe(curves.smooth(knots, 28), 36), stand))
        elif style == 1:
            profile = turned_profile(rng, post_top - 0.03, 0.03 if floor else 0.04, count(rng, 2, 6)) + np.array(
                [0.0, 0.03]
            )
            pieces.append((lathe(profile, 28), stand))
        else:
            balls = count(rng, 2, 5)
            r = min(post_top / balls / 2, 0.07) * uniform(rng, 0.7, 1.0)
            pieces += [(ball(r, 28, 14).moved(0, 0, post_top * (i + 0.5) / balls + 0.02), stand) for i in range(balls)]
    tone = hsv(uniform(rng, 0.02, 0.16), uniform(rng, 0.05, 0.45), uniform(rng, 0.85, 1.0))
    cover = materials.glow(rng, tone)
    if chance(rng, 0.35):
        texture = pick(rng, (stripes, zigzag))(rng, [tone, shade(tone, 0.6), hsv(uniform(rng, 0, 1), 0.5, 0.8)])
        cover = Material(name="shade", texture=texture, tile=None, roughness=0.85, emissive=shade(tone, 0.25))
    kind, low = count(rng, 0, 3), height - shade_height
    if kind == 3:
        pieces.append((ball(shade_radius * 0.85, 40, 20).moved(0, 0, low + shade_height / 2), cover))
        return Model.standing(pieces)
    neck = shade_radius * (uniform(rng, 0.35, 0.7) if kind == 0 else uniform(rng, 0.9, 1.0) if kind == 1 else 0.35)
    bend = 0.5 if kind != 2 else uniform(rng, 0.25, 0.4)
    outer = curves.smooth(
        [(shade_radius, low), (shade_radius * bend + neck * (1 - bend), low + shade_height * 0.5), (neck, height)], 12
    )
    inner = outer[::-1] - np.array([0.004, 0.0])
    pleats = count(rng, 12, 28)
    section, sides = pick(
        rng,
        (
            (np.ones(48), 48),
            (curves.polar_flutes(4 * pleats, pleats, 0.07), 4 * pleats),
            (curves.polar_polygon(72, 6), 72),
            (curves.polar_superellipse(72, 8.0) * 0.75, 72),
        ),
    )
    pieces.append((lathe(np.concatenate([outer, inner]), sides, loop=True, section=section), cover))
    for i in range(3):
        a = 2 * math.pi * i / 3
        reach = neck * float(section[round(i * sides / 3)]) * 0.98
        end = (reach * math.cos(a), reach * math.sin(a), height - shade_height * 0.04)
        pieces.append((rod((0, 0, height - shade_height * 0.2), end, 0.003, 8), metal))
    bulb = between(
        lathe(curves.smooth([(0.012, 0.0), (0.014, 0.02), (0.03, 0.055), (0.0, 0.09)], 14), 20),
        (0, 0, height - shade_height * 0.22),
        (0, 0, height - shade_height * 0.6),
    )
    pieces.append((bulb, cover if cover.texture is None else materials.glow(rng, tone)))
    return Model.standing(pieces)
