"""Pieces that furniture shares: legs, plate edges, stretchers, drawers, knobs. Metres, Z up."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from randscene.manifests.procedural import curves, materials
from randscene.manifests.procedural.materials import chance, count, pick, uniform
from randscene.manifests.procedural.model import FloatArray, Material, Surface
from randscene.manifests.procedural.primitives import ball, box, lathe, loft, rod, torus, tube

Piece = tuple[Surface, Material]
Point = tuple[float, float]
LegMaker = Callable[[Point, Point, float], list[Piece]]
"""(foot x, y), (top x, y), height -> the pieces of one leg from z = 0 up to `height`."""


def between(surface: Surface, start: Sequence[float], end: Sequence[float]) -> Surface:
    """Lay a surface that was built from z = 0 upwards along the line from `start` towards `end`."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    direction = (b - a) / np.linalg.norm(b - a)
    tilt = math.acos(max(-1.0, min(1.0, float(direction[2]))))
    heading = math.atan2(float(direction[1]), float(direction[0])) if tilt > 1e-9 else 0.0
    turned = surface.rotated("z", -heading).rotated("y", tilt).rotated("z", heading)
    return turned.moved(float(a[0]), float(a[1]), float(a[2]))


def turned_profile(rng: np.random.Generator, length: float, radius: float, beads: int) -> FloatArray:
    """(K, 2) profile of a turned post: a chain of beads, hollows and collars between plain ends."""
    knots: list[tuple[float, float]] = [(0.6, 0.0), (uniform(rng, 0.5, 0.9), 0.06)]
    for i in range(beads):
        low = 0.08 + 0.8 * i / beads
        span = 0.8 / beads
        kind = count(rng, 0, 2)
        wide = uniform(rng, 0.75, 1.0)
        if kind == 0:
            knots += [(0.5, low), (wide, low + span * 0.5), (0.5, low + span * 0.92)]
        elif kind == 1:
            knots += [(wide, low), (uniform(rng, 0.4, 0.6), low + span * 0.55), (wide * 0.9, low + span * 0.92)]
        else:
            knots += [(0.55, low), (wide, low + span * 0.1), (wide, low + span * 0.2), (0.55, low + span * 0.32)]
    knots += [(0.8, 0.93), (0.9, 1.0)]
    points = curves.smooth(np.array(knots) * np.array([radius, length]), 10 + 12 * beads)
    points[:, 0] = np.clip(points[:, 0], radius * 0.3, radius * 1.05)
    points[:, 1] = np.maximum.accumulate(np.clip(points[:, 1], 0.0, length))
    keep = np.concatenate([[True], np.diff(points[:, 1]) > length * 1e-3])
    return points[keep]


def leg_maker(rng: np.random.Generator, material: Material, thickness: float) -> LegMaker:
    """One style of leg, drawn once and used for all legs of a piece of furniture."""
    style = pick(rng, ("square", "square", "turned", "turned", "round", "round", "hairpin", "cabriole", "capped"))
    foot = uniform(rng, 0.45, 1.0) * thickness
    corner = uniform(rng, 0.08, 0.45)
    beads = count(rng, 2, 5)
    seed_profile = turned_profile(rng, 1.0, thickness / 2, beads)
    wire = uniform(rng, 0.005, 0.009)
    bow = uniform(rng, 0.6, 1.4) * thickness
    cap_metal = materials.metal(rng)
    caps = chance(rng, 0.4)

    def make(a: Point, b: Point, height: float) -> list[Piece]:
        low, high = (a[0], a[1], 0.0), (b[0], b[1], height)
        if style == "square":
            t = np.linspace(0.0, 1.0, 5)
            outlines = [
                curves.rectangle(s, s, s * corner).points + (np.array(a) * (1 - f) + np.array(b) * f)
                for f, s in ((f, foot * (1 - f) + thickness * f) for f in t)
            ]
            return [(loft(outlines, list(t * height)), material)]
        if style == "turned":
            profile = seed_profile * np.array([1.0, math.dist(low, high)])
            return [(between(lathe(profile, 20), low, high), material)]
        if style == "hairpin":
            out = np.array(b) - np.array(a)
            side = np.array([-b[1], b[0]]) / max(math.hypot(*b), 1e-6) * thickness * 1.1
            top_a, top_b, base = np.array(b) + side, np.array(b) - side, np.array(a) - out * 0.2
            corners = np.array([[*top_a, height], [*base, wire], [*top_b, height]])
            first, foot_point, last = corners
            bends = [first, (first + foot_point) / 2, first * 0.06 + foot_point * 0.94]
            bends += [last * 0.06 + foot_point * 0.94, (last + foot_point) / 2, last]
            path = curves.smooth(np.array(bends), 24)
            path[:, 2] = np.maximum(path[:, 2], wire)
            return [(tube(path, wire, 10), cap_metal)]
        if style == "cabriole":
            direction = np.array(b) / max(math.hypot(*b), 1e-6)
            t = np.linspace(0.0, 1.0, 14)
            swing = bow * (np.sin(t * math.pi * 2 - 0.4) * 0.5 * t + (1 - t) ** 4 * 0.6)
            path = np.empty((14, 3))
            path[:, :2] = np.array(b) + direction * swing[:, None]
            path[:, 2] = t * height
            width = thickness / 2 * (0.45 + 0.6 * t**1.5 + 0.3 * (1 - t) ** 6)
            return [(tube(path, width, 14), material)]
        t = np.linspace(0.0, 1.0, 6)
        radius = (foot * (1 - t) + thickness * t) / 2
        path = np.array(low) * (1 - t)[:, None] + np.array(high) * t[:, None]
        pieces = [(tube(path, radius, 18), material)]
        if style == "capped" or caps:
            end = path[0] * 0.9 + path[-1] * 0.1
            pieces.append((tube(np.array([path[0], end]), foot / 2 * 1.12, 18), cap_metal))
        return pieces

    return make


def edge(rng: np.random.Generator, thickness: float) -> list[tuple[float, float]]:
    """(inset, z) rows of a plate's edge from its underside at z = 0 to its top: square, round, cut under or stepped."""
    t = thickness
    style = count(rng, 0, 4)
    b = min(0.2 * t, 0.004)
    if style == 0:
        return [(b, 0.0), (0.0, b), (0.0, t - b), (b, t)]
    if style == 1:
        angle = np.linspace(-math.pi / 2, math.pi / 2, 9)
        return [(float(t / 2 * (1 - math.cos(a))), float(t / 2 * (1 + math.sin(a)))) for a in angle]
    if style == 2:
        cut = uniform(rng, 0.8, 2.5) * t
        return [(cut, 0.0), (b, t * 0.6), (0.0, t * 0.7), (0.0, t - b), (b, t)]
    if style == 3:
        step = uniform(rng, 0.25, 0.6) * t
        return [(step, 0.0), (step, t * 0.35), (step * 0.5, t * 0.4), (0.0, t * 0.5), (0.0, t - b), (b, t)]
    angle = np.linspace(0, math.pi / 2, 6)
    r = uniform(rng, 0.4, 0.8) * t
    return [(b, 0.0), (0.0, b)] + [(float(r * (1 - math.cos(a))), float(t - r + r * math.sin(a))) for a in angle]


def corners(half_x: float, half_y: float) -> list[Point]:
    """The four corners of a rectangle, counter-clockwise from the front left."""
    return [(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)]


def splayed(points: Sequence[Point], factor: float) -> list[tuple[Point, Point]]:
    """(foot, top) of legs whose feet stand further out by `factor` than their tops at `points`."""
    return [((x * factor, y * factor), (x, y)) for x, y in points]


def apron(half_x: float, half_y: float, low: float, high: float, thickness: float) -> list[Surface]:
    """Four boards under a plate, between legs at (+-half_x, +-half_y)."""
    z, h = (low + high) / 2, high - low
    front, side = box((2 * half_x, thickness, h)), box((thickness, 2 * half_y, h))
    return [
        front.moved(0, -half_y, z),
        front.moved(0, half_y, z),
        side.moved(-half_x, 0, z),
        side.moved(half_x, 0, z),
    ]


def stretchers(rng: np.random.Generator, feet: Sequence[Point], z: float, radius: float) -> list[Surface]:
    """Bars between four feet: an H, a cross or a ring of four, round or square."""
    square = chance(rng, 0.5)
    style = count(rng, 0, 2)

    def bar(a: Point, b: Point) -> Surface:
        if not square:
            return rod((*a, z), (*b, z), radius, 12, 5)
        length = math.dist(a, b)
        angle = math.atan2(b[1] - a[1], b[0] - a[0])
        beam = box((length, radius * 1.8, radius * 2.4)).rotated("z", angle)
        return beam.moved((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, z)

    n = len(feet)
    if style == 0 and n == 4:
        left, right = _middle(feet[0], feet[3]), _middle(feet[1], feet[2])
        return [bar(feet[0], feet[3]), bar(feet[1], feet[2]), bar(left, right)]
    if style == 1 and n == 4:
        return [bar(feet[0], feet[2]), bar(feet[1], feet[3]).moved(0, 0, radius * 0.4)]
    return [bar(feet[i], feet[(i + 1) % n]) for i in range(n)]


def _middle(a: Point, b: Point) -> Point:
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)


def knob_maker(rng: np.random.Generator) -> Callable[[float, float, float], list[Piece]]:
    """A style of handle for drawers and doors that face -Y; called with the point (x, y, z) on the front."""
    material = materials.any_of(rng, materials.metal, materials.metal, materials.paint, materials.wood)
    style = count(rng, 0, 3)
    size = uniform(rng, 0.011, 0.02)
    width = uniform(rng, 0.03, 0.07)

    def make(x: float, y: float, z: float) -> list[Piece]:
        if style == 0:
            return [(ball(size, 16, 8).moved(x, y - size * 0.8, z), material)]
        if style == 1:
            profile = [(size * 0.5, 0.0), (size * 0.45, size * 0.8), (size, size), (size * 0.9, size * 1.5)]
            return [
                (
                    lathe(curves.round_corners(np.array(profile), size * 0.2, closed=False), 16)
                    .rotated("x", math.pi / 2)
                    .moved(x, y + 0.001, z),
                    material,
                )
            ]
        if style == 2:
            path = np.array([[-width, 0.002, 0], [-width, -size * 1.6, 0], [width, -size * 1.6, 0], [width, 0.002, 0]])
            bent = curves.round_corners(path[:, :2], size, steps=4, closed=False)
            path = np.concatenate([bent, np.zeros((len(bent), 1))], axis=1)
            return [(tube(path, size * 0.35, 8).moved(x, y, z), material)]
        ring = torus(size * 1.2, size * 0.25, 20, 8).rotated("x", math.pi / 2)
        plate = lathe([(size * 0.7, 0.0), (size * 0.7, size * 0.3), (size * 0.3, size * 0.6)], 14).rotated(
            "x", math.pi / 2
        )
        return [(ring.moved(x, y - size * 0.5, z - size), material), (plate.moved(x, y + 0.001, z), material)]

    return make


def drawer_stack(
    rng: np.random.Generator,
    size: Sequence[float],
    drawers: int,
    body: Material,
    front: Material,
    knob: Callable[[float, float, float], list[Piece]],
    *,
    gap: float = 0.006,
) -> list[Piece]:
    """A block of drawers facing -Y, standing on z = 0 around x = y = 0."""
    width, depth, height = size
    pieces = [(box(size, 0.004).moved(0, 0, height / 2), body)]
    shares = [uniform(rng, 0.7, 1.3) for _ in range(drawers)]
    z = gap
    usable = height - gap * (drawers + 1)
    for share in shares:
        h = usable * share / sum(shares)
        pieces.append((box((width - 2 * gap, 0.02, h), 0.005).moved(0, -depth / 2 - 0.006, z + h / 2), front))
        pieces += knob(0.0, -depth / 2 - 0.016, z + h / 2)
        z += h + gap
    return pieces


def pedestal(rng: np.random.Generator, reach: float, height: float, material: Material) -> list[Piece]:
    """A central column on a disc, on bent feet, or a drum."""
    style = count(rng, 0, 3)
    radius = uniform(rng, 0.035, 0.07)
    if style == 0:
        drum = uniform(rng, 0.35, 0.6) * reach
        waist = uniform(rng, 0.5, 1.1)
        knots = [(drum, 0.0), (drum * waist, height * uniform(rng, 0.3, 0.7)), (drum * uniform(rng, 0.7, 1.2), height)]
        flutes = count(rng, 8, 24)
        section = curves.polar_flutes(4 * flutes, flutes, pick(rng, (0.0, 0.05, 0.12)))
        return [(lathe(curves.smooth(knots, 16), 4 * flutes, section=section), material)]
    column = turned_profile(rng, height - 0.02, radius, count(rng, 2, 5)) + np.array([0.0, 0.02])
    pieces: list[Piece] = [(lathe(column, 28), material)]
    if style == 1:
        base = uniform(rng, 0.5, 0.75) * reach
        rise = uniform(rng, 0.02, 0.06)
        profile = [(base, 0.0), (base, 0.015), (base * 0.8, 0.02 + rise * 0.3), (radius, 0.02 + rise)]
        rounded = curves.round_corners(np.array(profile), 0.01, closed=False)
        return [*pieces, (lathe(rounded, 48), material)]
    feet = count(rng, 3, 5)
    out, bend = uniform(rng, 0.55, 0.8) * reach, uniform(rng, 0.15, 0.4) * height
    path = curves.smooth([(0.0, 0.0, bend), (out * 0.5, 0.0, bend * 0.8), (out, 0.0, 0.025)], 12)
    width = np.linspace(radius * 0.75, radius * 0.45, 12)
    limb = tube(path, width, 14)
    return pieces + [(limb.rotated("z", 2 * math.pi * i / feet), material) for i in range(feet)]
