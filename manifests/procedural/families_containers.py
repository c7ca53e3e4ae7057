"""Boxes, casks and other household things: crate, barrel, gift box, book stack, clock."""

import math
from collections.abc import Callable

import numpy as np

from randscene.manifests.procedural import curves, materials, patterns
from randscene.manifests.procedural.furniture_parts import Piece, between
from randscene.manifests.procedural.materials import any_of, chance, count, pick, uniform
from randscene.manifests.procedural.model import Material, Model, Texture
from randscene.manifests.procedural.primitives import ball, box, lathe, prism, rod, torus, tube
from randscene.manifests.procedural.textures import hsv, shade


def crate(rng: np.random.Generator) -> Model:
    """A box of boards: open or lidded, with corner posts, diagonal braces or handles cut out between boards."""
    wide, deep, tall = uniform(rng, 0.3, 0.7), uniform(rng, 0.25, 0.5), uniform(rng, 0.18, 0.5)
    t = uniform(rng, 0.012, 0.022)
    wood = any_of(rng, materials.wood, materials.wood, materials.paint)
    trim = wood if chance(rng, 0.6) else any_of(rng, materials.wood, materials.iron)
    boards, fill = count(rng, 2, 6), uniform(rng, 0.72, 0.97)
    pieces: list[Piece] = []
    h = tall / boards
    long, short = box((wide, t, h * fill), 0.003), box((t, deep - 2 * t, h * fill), 0.003)
    for i in range(boards):
        z = (i + 0.5) * h
        pieces += [(long.moved(0, s * (deep - t) / 2, z), wood) for s in (-1, 1)]
        pieces += [(short.moved(s * (wide - t) / 2, 0, z), wood) for s in (-1, 1)]
    floor_boards = count(rng, 3, 6)
    plank = box((wide - 2.2 * t, (deep - 2 * t) / floor_boards * 0.94, t), 0.003)
    pieces += [
        (plank.moved(0, (deep - 2 * t) * ((i + 0.5) / floor_boards - 0.5), t * 0.7), wood) for i in range(floor_boards)
    ]
    post = box((t * 1.6, t * 1.6, tall * 0.995), 0.002)
    outside = chance(rng, 0.5)
    off = 0.5 if outside else -1.5
    for sx in (-1, 1):
        for sy in (-1, 1):
            pieces.append(
                (post.moved(sx * (wide / 2 + off * t * 0.8), sy * (deep / 2 + off * t * 0.8), tall / 2), trim)
            )
    if chance(rng, 0.4):
        angle, width = math.atan2(tall, wide), min(h * 0.45, 0.05)
        reach = (wide * 0.97 - width * math.sin(angle)) / math.cos(angle)
        length = min(reach, (tall * 0.98 - width * math.cos(angle)) / math.sin(angle))
        brace = box((length, t * 0.8, width), 0.003)
        for s in (-1, 1):
            leaning = brace.rotated("y", pick(rng, (-angle, angle)))
            pieces.append((leaning.moved(0, s * (deep / 2 + t * 0.35), tall / 2), trim))
    if chance(rng, 0.45):
        lid = count(rng, 3, 6)
        plank = box((wide * 1.02, deep / lid * 0.96, t), 0.003)
        pieces += [(plank.moved(0, deep * ((i + 0.5) / lid - 0.5), tall + t / 2), wood) for i in range(lid)]
        pieces += [
            (box((t * 2.5, deep * 0.96, t * 0.8), 0.003).moved(x, 0, tall + t * 1.35), trim)
            for x in (-wide * 0.3, wide * 0.3)
        ]
    elif chance(rng, 0.4):
        grip = curves.smooth([(0, -0.06, 0), (0.03, -0.05, 0), (0.035, 0, -0.01), (0.03, 0.05, 0), (0, 0.06, 0)], 18)
        rope = tube(grip, 0.006, 10)
        pieces += [
            (
                rope.rotated("z", 0 if s > 0 else math.pi).moved(s * (wide / 2 - 0.002), 0, tall * 0.7),
                materials.fabric(rng, 0.03),
            )
            for s in (-1, 1)
        ]
    return Model.standing(pieces)


def barrel(rng: np.random.Generator) -> Model:
    """Bulging staves with hoops and sunk ends, or a ribbed metal drum."""
    height = uniform(rng, 0.5, 0.95)
    radius = height * uniform(rng, 0.26, 0.38)
    pieces: list[Piece] = []
    if chance(rng, 0.7):
        staves = count(rng, 14, 26)
        end, sunk = radius * uniform(rng, 0.72, 0.9), height * 0.04
        bulge = curves.smooth([(end, 0.0), (radius, height / 2), (end, height)], 17)
        inner = end - 0.02
        profile = np.concatenate([[[inner, sunk], [inner, 0.0]], bulge, [[inner, height], [inner, height - sunk]]])
        angle = np.arange(4 * staves) % 4
        section = np.where(angle == 0, 0.975, 1.0)
        wood = materials.wood(rng)
        pieces.append((lathe(profile, 4 * staves, section=section, planar_ends=True), wood))
        metal = any_of(rng, materials.iron, materials.metal)
        for f in pick(rng, ((0.1, 0.3, 0.7, 0.9), (0.07, 0.2, 0.8, 0.93), (0.05, 0.18, 0.35, 0.65, 0.82, 0.95))):
            z, half = f * height, height * 0.02
            r = [float(np.interp(z + d, bulge[:, 1], bulge[:, 0])) for d in (-half, half)]
            hoop = [
                (r[0] - 0.006, z - half),
                (r[0] + 0.004, z - half),
                (r[1] + 0.004, z + half),
                (r[1] - 0.006, z + half),
            ]
            pieces.append((lathe(hoop, 56, loop=True), metal))
        if chance(rng, 0.4):
            tap = [(0.014, 0.0), (0.011, 0.04), (0.018, 0.05), (0.018, 0.07)]
            pieces.append(
                (between(lathe(tap, 20), (0, -end * 0.98, height * 0.16), (0, -end * 2, height * 0.16)), metal)
            )
    else:
        knots: list[tuple[float, float]] = [(radius, 0.0), (radius, height * 0.02)]
        for i in range(count(rng, 1, 4)):
            z = height * (0.2 + 0.2 * i)
            knots += [(radius, z - 0.02), (radius * 1.04, z - 0.008), (radius * 1.04, z + 0.008), (radius, z + 0.02)]
        knots += [
            (radius, height * 0.98),
            (radius * 1.02, height * 0.985),
            (radius * 1.02, height),
            (radius * 0.97, height),
            (radius * 0.97, height * 0.975),
        ]
        body = any_of(rng, materials.iron, materials.iron, materials.paint)
        pieces.append((lathe(knots, 56, planar_ends=True), body))
        cap = lathe([(0.035, 0.0), (0.035, 0.012), (0.028, 0.016)], 24)
        pieces.append((cap.moved(radius * 0.6, 0, height * 0.972), materials.metal(rng)))
    return Model.standing(pieces)


def gift_box(rng: np.random.Generator) -> Model:
    """A wrapped box with lid, crossed ribbons and a bow of loops."""
    wide, deep, tall = uniform(rng, 0.12, 0.4), uniform(rng, 0.12, 0.35), uniform(rng, 0.06, 0.3)
    colors = patterns.scheme(rng, count(rng, 2, 4))
    printed: tuple[Callable[[], Texture], ...] = (
        lambda: patterns.zigzag(rng, colors),
        lambda: patterns.dots(rng, colors[0], colors[1:]),
        lambda: patterns.stripes(rng, colors),
        lambda: patterns.checker(rng, colors[:2]),
    )
    paper = Material(
        name="paper", texture=pick(rng, printed)(), tile=uniform(rng, 0.1, 0.25), roughness=uniform(rng, 0.3, 0.7)
    )
    ribbon = any_of(rng, materials.plastic, materials.paint)
    lid_height = min(tall * 0.3, 0.05)
    lid = paper if chance(rng, 0.5) else materials.paint(rng)
    pieces: list[Piece] = [(box((wide, deep, tall), 0.004).moved(0, 0, tall / 2), paper)]
    pieces.append(
        (box((wide + 0.012, deep + 0.012, lid_height), 0.004).moved(0, 0, tall - lid_height / 2 + 0.003), lid)
    )
    band, top = uniform(rng, 0.015, 0.035), tall + 0.003
    shift_x, shift_y = uniform(rng, -0.2, 0.2) * wide, uniform(rng, -0.2, 0.2) * deep
    pieces.append((box((band, deep + 0.016, top + 0.002), 0.001).moved(shift_x, 0, (top + 0.002) / 2), ribbon))
    pieces.append((box((wide + 0.016, band, top + 0.003), 0.001).moved(0, shift_y, (top + 0.003) / 2), ribbon))
    loops, size = count(rng, 2, 8), min(wide, deep) * uniform(rng, 0.2, 0.32)
    flat = curves.superellipse(1.0, 0.12, 12, 2.0)
    for i in range(loops):
        path = np.array([(0.0, 0.0, 0.0), (0.6, 0, 0.45), (1.0, 0, 0.35), (0.95, 0, 0.05), (0.4, 0, 0.0)]) * size
        bow = tube(curves.smooth(path, 24), band * 0.5, section=flat, up=(0.0, 1.0, 0.0))
        pieces.append((bow.rotated("z", 2 * math.pi * i / loops + 0.4).moved(shift_x, shift_y, top + 0.006), ribbon))
    pieces.append((ball(band * 0.45, 18, 10).moved(shift_x, shift_y, top + band * 0.35), ribbon))
    return Model.standing(pieces)


def _book(rng: np.random.Generator, long: float, wide: float, thick: float) -> list[Piece]:
    """A closed book lying on z = 0: its back along x at the front."""
    ground = hsv(uniform(rng, 0, 1), uniform(rng, 0.2, 0.9), uniform(rng, 0.15, 0.85))
    ink = hsv(uniform(rng, 0, 1), uniform(rng, 0.05, 0.6), uniform(rng, 0.7, 1.0))
    roughness = uniform(rng, 0.3, 0.8)
    board = 0.003
    face = Material(
        name="cover", texture=patterns.cover(rng, ground, ink, shade(ink, 0.6)), tile=None, roughness=roughness
    )
    back = Material(name="spine", texture=patterns.spine(rng, ground, ink), tile=None, roughness=roughness)
    leaves = Material(name="pages", texture=patterns.paper(rng), tile=0.1, roughness=0.9)
    cover = box((long, wide, board), 0.0008)
    pieces: list[Piece] = [(cover.moved(0, 0, board / 2), face), (cover.moved(0, 0, thick - board / 2), face)]
    pieces.append(
        (box((long * 0.97, wide - 0.008, thick - 2 * board + 0.0004), 0.0005).moved(0, -0.001, thick / 2), leaves)
    )
    bulge = uniform(rng, 0.15, 0.5) * thick
    arc = np.linspace(-math.pi / 2, math.pi / 2, 11)
    half = np.stack([-wide / 2 + 0.003 - bulge * np.cos(arc), thick / 2 * (1 + np.sin(arc))], axis=1)
    ring = np.concatenate([half, [[-wide / 2 + 0.006, thick], [-wide / 2 + 0.006, 0.0]]])
    centre = -wide / 2 + 0.005 - bulge / 2
    section = ring - np.array([centre, thick / 2])
    bar = tube(
        [(-long / 2, centre, thick / 2), (long / 2, centre, thick / 2)],
        1.0,
        section=section[::-1],
        up=(0.0, 1.0, 0.0),
    )
    pieces.append((bar, back))
    return pieces


def book_stack(rng: np.random.Generator) -> Model:
    """Two to six books that lie on each other, turned and shifted, the largest below."""
    books = count(rng, 2, 6)
    pieces: list[Piece] = []
    z, size = 0.0, uniform(rng, 0.22, 0.32)
    for _ in range(books):
        thick, wide = uniform(rng, 0.015, 0.055), size * uniform(rng, 0.62, 0.78)
        turn = uniform(rng, -0.5, 0.5) + (math.pi if chance(rng, 0.3) else 0.0)
        x, y = uniform(rng, -0.015, 0.015), uniform(rng, -0.015, 0.015)
        pieces += [(s.rotated("z", turn).moved(x, y, z), m) for s, m in _book(rng, size, wide, thick)]
        z += thick
        size *= uniform(rng, 0.88, 0.99)
    return Model.standing(pieces)


def clock(rng: np.random.Generator) -> Model:
    """A standing clock: round on feet, in an arched case or a block; bells on an alarm clock; hands at any hour."""
    radius, deep = uniform(rng, 0.05, 0.12), uniform(rng, 0.03, 0.06)
    case = any_of(rng, materials.metal, materials.wood, materials.plastic, materials.paint)
    trim = materials.metal(rng)
    colors = patterns.scheme(rng, 2)
    if chance(rng, 0.5):
        dial = Material(
            name="dial", texture=patterns.sunburst(rng, [(0.95, 0.94, 0.9), colors[0]]), tile=None, roughness=0.5
        )
    else:
        dial = Material(name="dial", color=pick(rng, ((0.96, 0.95, 0.9), (0.08, 0.08, 0.1), colors[1])), roughness=0.5)
    dark = sum(dial.color) < 1.5
    ink = Material(name="ink", color=(0.95, 0.95, 0.9) if dark else (0.05, 0.05, 0.07), roughness=0.4)
    pieces: list[Piece] = []
    front = -deep / 2
    style = count(rng, 0, 2)
    if style == 0:
        drum = curves.round_corners(np.array([[radius * 1.04, 0.0], [radius * 1.04, deep]]), 0.004, closed=False)
        pieces.append((lathe(drum, 56).rotated("x", math.pi / 2).moved(0, deep / 2, 0), case))
        for x in (-0.6, 0.6):
            foot = rod((x * radius, 0, -radius * 0.75), (x * radius * 1.25, 0, -radius * 1.25), radius * 0.07, 14)
            pieces += [(foot, trim), (ball(radius * 0.1, 16, 8).moved(x * radius * 1.25, 0, -radius * 1.25), trim)]
        if chance(rng, 0.6):
            for x in (-0.55, 0.55):
                bell = curves.smooth([(0.0, radius * 0.28), (radius * 0.3, radius * 0.2), (radius * 0.4, 0.0)], 10)[
                    ::-1
                ]
                pieces.append(
                    (
                        between(lathe(bell, 28), (x * radius, 0, radius * 0.98), (x * radius * 1.8, 0, radius * 1.9)),
                        trim,
                    )
                )
                pieces.append(
                    (
                        rod(
                            (x * radius * 0.8, 0, radius * 0.8), (x * radius * 1.1, 0, radius * 1.1), radius * 0.05, 10
                        ),
                        trim,
                    )
                )
    else:
        w, low = radius * uniform(rng, 1.25, 1.6), radius * uniform(rng, 1.2, 1.9)
        top = (
            [(w * math.cos(a), w * math.sin(a)) for a in np.linspace(0, math.pi, 20)]
            if style == 1
            else [(w, w), (-w, w)]
        )
        corners = np.array([(-w, -low), (w, -low), *top])
        outline = curves.Outline(corners=corners, radius=radius * 0.15 if style == 2 else 0.0)
        pieces.append((prism(outline, -deep / 2, deep / 2, 0.004).rotated("x", math.pi / 2), case))
        pieces.append(
            (
                box((2.3 * w, deep * 1.4, radius * 0.16), 0.004).moved(0, 0, -low - radius * 0.06),
                case if chance(rng, 0.6) else trim,
            )
        )
    face = lathe([(radius * 0.94, 0.0), (radius * 0.94, 0.003)], 56, planar_ends=True).rotated("x", math.pi / 2)
    pieces.append((face.moved(0, front + 0.001, 0), dial))
    pieces.append((torus(radius, radius * 0.07, 56, 10).rotated("x", math.pi / 2).moved(0, front - 0.001, 0), trim))
    at = front - 0.003
    for i in range(12):
        a = 2 * math.pi * i / 12
        mark = box((radius * (0.05 if i % 3 else 0.09), 0.002, radius * 0.14), 0.0004).moved(0, 0, radius * 0.78)
        pieces.append((mark.rotated("y", a).moved(0, at, 0), ink))
    hour, minute = uniform(rng, 0, 2 * math.pi), uniform(rng, 0, 2 * math.pi)
    for angle, long, width in ((hour, 0.5, 0.08), (minute, 0.74, 0.05)):
        hand = box((radius * width, 0.0016, radius * long), 0.0004).moved(0, 0, radius * long * 0.4)
        pieces.append((hand.rotated("y", angle).moved(0, at - (0.0015 if width < 0.06 else 0.0), 0), ink))
    pieces.append(
        (lathe([(radius * 0.06, -0.004), (radius * 0.06, 0.004)], 18).rotated("x", math.pi / 2).moved(0, at, 0), trim)
    )
    return Model.standing(pieces)
