"""Textures by name of what they show: wood, marble, brick, weave, glaze, rings, book spines, ...

u runs along the length of a part (the grain of wood, the axis of a vessel), v across or around it.
Every pattern repeats without a seam, save those meant to be stretched once over a part (`spine`, `label`).
"""

import math
from collections.abc import Sequence

import numpy as np

from randscene.manifests.procedural.model import Color, FloatArray, Texture
from randscene.manifests.procedural.textures import cells, grid, hsv, layers, noise, ramp, shade, smoothstep

_TAU = 2 * math.pi


def _stops(base: Color, low: float, high: float) -> list[Color]:
    return [shade(base, low), shade(base, (low + high) / 2), shade(base, high)]


def wood(rng: np.random.Generator, tone: Color) -> Texture:
    """Long grain along u with growth rings, fibres and now and then a knot; (128, 256)."""
    u, v = grid(128, 256)
    warp: FloatArray = noise(rng, 128, 256, (3, 2), 3) * rng.uniform(0.6, 1.8)
    for _ in range(int(rng.integers(0, 3))):
        cu, cv, size = rng.random(), rng.random(), rng.uniform(0.02, 0.05)
        du, dv = np.abs(u - cu), np.abs(v - cv)
        near = np.minimum(du, 1 - du) ** 2 * 4 + np.minimum(dv, 1 - dv) ** 2
        warp = warp + 0.9 * np.exp(-near / size**2 / 2)
    ring = (v * int(rng.integers(3, 9)) + warp) % 1.0
    late = smoothstep(0.3, 0.95, ring) * (1 - smoothstep(0.96, 1.0, ring))
    fibre = noise(rng, 128, 256, (64, 4), 2, 0.7)
    value = 1.0 - (0.55 * late + 0.45 * fibre)
    return ramp(value, _stops(tone, 0.5, rng.uniform(1.0, 1.12)))


def planks(rng: np.random.Generator, tone: Color) -> Texture:
    """Boards side by side across v, of differing tone, with dark joints; (256, 256)."""
    u, v = grid(256, 256)
    count = int(rng.integers(4, 9))
    board = np.floor(v * count).astype(np.int64)
    tones = rng.uniform(0.3, 1.0, count)[board]
    along = (u * 2 + rng.random(count)[board]) % 1.0
    inside = (v * count) % 1.0
    joint = (np.minimum(inside, 1 - inside) < 0.035) | (np.minimum(along, 1 - along) < 0.006)
    grain = noise(rng, 256, 256, (96, 4), 2, 0.7)
    return ramp(np.where(joint, 0.0, 0.12 + 0.45 * tones + 0.43 * grain * tones), _stops(tone, 0.35, 1.08))


def marble(rng: np.random.Generator, base: Color, vein: Color) -> Texture:
    """Veins bent by turbulence; (256, 256)."""
    u, v = grid(256, 256)
    bend = noise(rng, 256, 256, (3, 3), 5) * rng.uniform(2.0, 4.0)
    phase = int(rng.integers(1, 3)) * u + int(rng.integers(-2, 3)) * v + bend
    veins = np.abs(np.sin(math.pi * phase)) ** rng.uniform(0.3, 0.6)
    return ramp(np.clip(veins * 0.85 + 0.15 * noise(rng, 256, 256, (16, 16), 3), 0, 1), [vein, base, shade(base, 1.1)])


def granite(rng: np.random.Generator, base: Color) -> Texture:
    """Fine grains of three tones; (192, 192)."""
    fine = noise(rng, 192, 192, (64, 64), 2, 0.8)
    coarse = noise(rng, 192, 192, (24, 24), 2)
    classes = np.where(fine > 0.66, 1, np.where(coarse < 0.3, 2, 0))
    colors = [base, shade(base, 1.45), shade(base, 0.4)]
    return layers(classes, noise(rng, 192, 192, (96, 96), 1), colors, 0.25)


def terrazzo(rng: np.random.Generator, base: Color, chips: Sequence[Color]) -> Texture:
    """Stone chips of several colours in a plain ground; (256, 256)."""
    nearest, first, second = cells(rng, 256, 256, 110)
    gap = second - first
    chip = (gap > 0.016) & (first < 0.05) & (rng.random(110)[nearest] < 0.75)
    kind = rng.integers(1, len(chips) + 1, 110)[nearest]
    return layers(np.where(chip, kind, 0), noise(rng, 256, 256, (48, 48), 2), [base, *chips], 0.15)


def brick(rng: np.random.Generator, base: Color, mortar: Color) -> Texture:
    """Courses in running bond, each brick with its own tone; (256, 256)."""
    u, v = grid(256, 256)
    courses, across = 2 * int(rng.integers(3, 6)), int(rng.integers(3, 6))
    row = np.floor(v * courses).astype(np.int64)
    shifted = u * across + 0.5 * (row % 2)
    column = np.floor(shifted).astype(np.int64) % across
    fu, fv = shifted % 1.0, (v * courses) % 1.0
    joint = (np.minimum(fu, 1 - fu) < 0.045) | (np.minimum(fv, 1 - fv) < 0.09)
    tone = rng.random((courses, across))[row, column]
    grain = noise(rng, 256, 256, (48, 48), 3)
    return layers(np.where(joint, 1, 0), np.where(joint, grain, 0.6 * tone + 0.4 * grain), [base, mortar], 0.5)


def checker(rng: np.random.Generator, colors: Sequence[Color], count: int | None = None) -> Texture:
    """Squares of alternating colours with a faint grain; (128, 128)."""
    u, v = grid(128, 128)
    n = 2 * int(rng.integers(1, 5)) if count is None else count
    classes = (np.floor(u * n) + np.floor(v * n)).astype(np.int64) % len(colors)
    return layers(classes, noise(rng, 128, 128, (32, 32), 2), colors, 0.12)


def tiles(rng: np.random.Generator, colors: Sequence[Color], grout: Color) -> Texture:
    """Square tiles, each drawn from `colors`, with grout between; (192, 192)."""
    u, v = grid(192, 192)
    n = int(rng.integers(3, 7))
    column, row = np.floor(u * n).astype(np.int64), np.floor(v * n).astype(np.int64)
    fu, fv = (u * n) % 1.0, (v * n) % 1.0
    joint = np.minimum(np.minimum(fu, 1 - fu), np.minimum(fv, 1 - fv)) < 0.05
    kind = rng.integers(1, len(colors) + 1, (n, n))[row, column]
    return layers(np.where(joint, 0, kind), noise(rng, 192, 192, (24, 24), 3), [grout, *colors], 0.2)


def stripes(rng: np.random.Generator, colors: Sequence[Color], *, along_u: bool = True, bands: int = 0) -> Texture:
    """Bands of uneven width: across the length when `along_u` (rings on a vessel), else lengthwise; (128, 128)."""
    u, v = grid(128, 128)
    n = bands or int(rng.integers(4, 13))
    cuts = np.cumsum(rng.uniform(0.3, 1.0, n))
    band = np.searchsorted(cuts / cuts[-1], u if along_u else v)
    order = np.array([(i + int(rng.integers(0, 2)) * (i % 3 == 2)) % len(colors) for i in range(n)])
    return layers(order[np.minimum(band, n - 1)], noise(rng, 128, 128, (24, 24), 3), colors, 0.15)


def gores(rng: np.random.Generator, colors: Sequence[Color], count: int) -> Texture:
    """`count` equal stripes along the length, as on a beach ball; (128, 128)."""
    _, v = grid(128, 128)
    classes = np.floor(v * count).astype(np.int64) % len(colors)
    return layers(classes, noise(rng, 128, 128, (8, 8), 2), colors, 0.08)


def zigzag(rng: np.random.Generator, colors: Sequence[Color]) -> Texture:
    """Chevron bands; (192, 192)."""
    u, v = grid(192, 192)
    teeth, bands = int(rng.integers(4, 11)), int(rng.integers(2, 6)) * len(colors)
    wave = np.abs(((v * teeth) % 1.0) - 0.5) * rng.uniform(0.8, 2.0)
    classes = np.floor((u * bands + wave) % bands).astype(np.int64) % len(colors)
    return layers(classes, noise(rng, 192, 192, (32, 32), 2), colors, 0.15)


def dots(rng: np.random.Generator, ground: Color, colors: Sequence[Color]) -> Texture:
    """Round dots in a staggered lattice; (192, 192)."""
    u, v = grid(192, 192)
    n = 2 * int(rng.integers(2, 6))
    row = np.floor(v * n).astype(np.int64)
    shifted = u * n + 0.5 * (row % 2)
    column = np.floor(shifted).astype(np.int64) % n
    d = np.hypot((shifted % 1.0) - 0.5, (v * n) % 1.0 - 0.5)
    kind = rng.integers(1, len(colors) + 1, (n, n))[row, column]
    inside = d < rng.uniform(0.2, 0.4)
    return layers(np.where(inside, kind, 0), noise(rng, 192, 192, (16, 16), 2), [ground, *colors], 0.1)


def speckle(rng: np.random.Generator, ground: Color, specks: Sequence[Color]) -> Texture:
    """A glaze with drops of colour of many sizes; (256, 256)."""
    nearest, first, _ = cells(rng, 256, 256, 150)
    size = rng.random(150) ** 3 * 0.028 + 0.003
    kind = rng.integers(1, len(specks) + 1, 150)[nearest]
    light = noise(rng, 256, 256, (6, 6), 4)
    return layers(np.where(first < size[nearest], kind, 0), light, [ground, *specks], 0.22)


def glaze(rng: np.random.Generator, top: Color, bottom: Color) -> Texture:
    """A glaze that runs from one colour to another along u and back, with drips; (192, 192)."""
    u, _ = grid(192, 192)
    drip = noise(rng, 192, 192, (16, 2), 3)
    edge = smoothstep(-0.12, 0.12, 0.5 - np.abs(u - 0.5) * 2 + 0.5 * (drip - 0.5))
    value = np.clip(0.85 * edge + 0.15 * noise(rng, 192, 192, (8, 8), 3), 0, 1)
    return ramp(value, [bottom, shade(bottom, 1.15), top])


def weave(rng: np.random.Generator, colors: Sequence[Color]) -> Texture:
    """Plain weave whose threads take colours in runs: cloth, tartan, ticking; (192, 192)."""
    u, v = grid(192, 192)
    n = 48
    runs = np.repeat(rng.integers(0, len(colors), 12), 4)
    warp_runs = runs if rng.random() < 0.5 else np.zeros_like(runs)
    column, row = np.floor(u * n).astype(np.int64), np.floor(v * n).astype(np.int64)
    over = (row + column) % 2 == 0
    classes = np.where(over, runs[row], warp_runs[column])
    fu, fv = (u * n) % 1.0 - 0.5, (v * n) % 1.0 - 0.5
    light = np.clip(1 - 1.6 * np.where(over, np.abs(fv), np.abs(fu)), 0, 1)
    return layers(classes, 0.7 * light + 0.3 * noise(rng, 192, 192, (12, 12), 3), colors, 0.4)


def wicker(rng: np.random.Generator, tone: Color) -> Texture:
    """Basket work: strands over and under; (128, 128)."""
    u, v = grid(128, 128)
    rows, columns = 12, 8
    row = np.floor(u * rows).astype(np.int64)
    x = (v * columns + 0.5 * (row % 2)) % 1.0
    y = (u * rows) % 1.0
    light = np.sin(math.pi * x) ** 0.7 * np.sin(math.pi * y) ** 0.5
    return ramp(np.clip(light * 0.85 + 0.15 * noise(rng, 128, 128, (32, 32), 2), 0, 1), _stops(tone, 0.25, 1.1))


def leather(rng: np.random.Generator, tone: Color) -> Texture:
    """Small cells with dark creases; (128, 128)."""
    _, first, second = cells(rng, 128, 128, 220)
    value = smoothstep(0.0, 0.03, second - first) * 0.6 + 0.4 * noise(rng, 128, 128, (4, 4), 3)
    return ramp(value, _stops(tone, 0.6, 1.05))


def stone(rng: np.random.Generator, tone: Color) -> Texture:
    """Clouded, pitted stone, clay or concrete; (192, 192)."""
    value = 0.7 * noise(rng, 192, 192, (4, 4), 5, 0.65) + 0.3 * noise(rng, 192, 192, (96, 96), 1)
    return ramp(value, _stops(tone, 0.62, 1.12))


def patches(rng: np.random.Generator, colors: Sequence[Color]) -> Texture:
    """Blots of several colours: camouflage, maps, a planet; (256, 256)."""
    field = noise(rng, 256, 256, (4, 4), 5)
    classes = np.minimum((field * len(colors)).astype(np.int64), len(colors) - 1)
    return layers(classes, noise(rng, 256, 256, (12, 12), 4), colors, 0.35)


def rust(rng: np.random.Generator, metal: Color) -> Texture:
    """Metal or paint with brown blotches; (192, 192)."""
    field = noise(rng, 192, 192, (4, 4), 5, 0.7)
    classes = np.where(field > rng.uniform(0.6, 0.75), 1, 0)
    return layers(classes, noise(rng, 192, 192, (48, 48), 3), [metal, (0.42, 0.22, 0.11)], 0.45)


def honeycomb(rng: np.random.Generator, colors: Sequence[Color], joint: Color) -> Texture:
    """Cells in a loose, irregular net, as on a ball or a shell; (192, 192)."""
    nearest, first, second = cells(rng, 192, 192, int(rng.integers(16, 40)))
    kind = rng.integers(1, len(colors) + 1, 40)[nearest]
    light = np.clip(1 - first * 3, 0, 1)
    return layers(np.where(second - first < 0.012, 0, kind), light, [joint, *colors], 0.3)


def paper(rng: np.random.Generator) -> Texture:
    """The cut edges of many leaves, lines along u; (128, 128)."""
    lines = np.repeat(rng.random((128, 1)), 128, axis=1)
    value = np.clip(0.75 * lines + 0.25 * noise(rng, 128, 128, (8, 8), 2), 0, 1)
    return ramp(value, [(0.72, 0.66, 0.54), (0.95, 0.92, 0.84)])


def spine(rng: np.random.Generator, cover: Color, ink: Color) -> Texture:
    """Back of a book along u: bands near the ends and blocks of lines where a title stands; (64, 256), stretched."""
    u, v = grid(64, 256)
    classes = np.zeros(u.shape, dtype=np.int64)
    for at in rng.uniform(0.04, 0.2, int(rng.integers(1, 4))):
        width = rng.uniform(0.004, 0.02)
        classes[(np.abs(u - at) < width) | (np.abs(u - 1 + at) < width)] = 1
    start, stop = rng.uniform(0.26, 0.34), rng.uniform(0.55, 0.74)
    letters = rng.random(48)[np.floor(u * 48).astype(np.int64)] < 0.72
    classes[(u > start) & (u < stop) & (np.abs(v - 0.5) < rng.uniform(0.08, 0.16)) & letters] = 1
    return layers(classes, noise(rng, 64, 256, (16, 32), 2), [cover, ink], 0.2)


def cover(rng: np.random.Generator, ground: Color, ink: Color, accent: Color) -> Texture:
    """Face of a book or a box: a frame, bars and a disc; (192, 192), stretched."""
    u, v = grid(192, 192)
    classes = np.zeros(u.shape, dtype=np.int64)
    rim = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    at = rng.uniform(0.03, 0.1)
    classes[(rim > at) & (rim < at + rng.uniform(0.008, 0.03))] = 1
    classes[np.hypot(u - rng.uniform(0.35, 0.65), v - rng.uniform(0.35, 0.65)) < rng.uniform(0.1, 0.22)] = 2
    for _ in range(int(rng.integers(1, 4))):
        cu, width = rng.uniform(0.18, 0.82), rng.uniform(0.01, 0.04)
        classes[(np.abs(u - cu) < width) & (rim > at + 0.05)] = 1
    return layers(classes, noise(rng, 192, 192, (32, 32), 2), [ground, ink, accent], 0.18)


def label(rng: np.random.Generator, glass: Color, paper_color: Color, ink: Color) -> Texture:
    """A bottle's skin along u: glass, with a paper label, its border and lines of print; (192, 256), stretched."""
    u, v = grid(192, 256)
    classes = np.zeros(u.shape, dtype=np.int64)
    low, high = rng.uniform(0.12, 0.18), rng.uniform(0.28, 0.38)
    inside = (u > low) & (u < high) & (np.abs(v - 0.5) < rng.uniform(0.3, 0.52))
    classes[inside] = 1
    x = (u - low) / (high - low)
    classes[inside & ((np.abs(x - 0.08) < 0.02) | (np.abs(x - 0.92) < 0.02))] = 2
    letters = rng.random(40)[np.floor(v * 40).astype(np.int64)] < 0.7
    for at in (0.28, 0.5, 0.66, 0.76):
        print_here = inside & (np.abs(x - at) < rng.uniform(0.02, 0.07)) & (np.abs(v - 0.5) < rng.uniform(0.1, 0.25))
        classes[print_here & letters] = 2
    return layers(classes, noise(rng, 192, 256, (8, 8), 2), [glass, paper_color, ink], 0.1)


def sunburst(rng: np.random.Generator, colors: Sequence[Color]) -> Texture:
    """Rings and rays about the middle, for round faces; (192, 192), stretched."""
    u, v = grid(192, 192)
    r, angle = np.hypot(u - 0.5, v - 0.5), np.arctan2(v - 0.5, u - 0.5) / _TAU + 0.5
    rays = np.floor(angle * 2 * int(rng.integers(4, 13))).astype(np.int64)
    rings = np.floor(r * rng.uniform(3, 9)).astype(np.int64)
    classes = (rays * int(rng.integers(0, 2)) + rings) % len(colors)
    return layers(classes, noise(rng, 192, 192, (32, 32), 2), colors, 0.15)


def scheme(rng: np.random.Generator, count: int) -> list[Color]:
    """`count` colours that go together: steps around the colour circle with one light and one dark among them."""
    hue, step = rng.random(), rng.uniform(0.08, 0.38)
    colors = [hsv(hue + i * step, rng.uniform(0.35, 0.9), rng.uniform(0.35, 0.95)) for i in range(count)]
    if count > 1:
        colors[int(rng.integers(0, count))] = hsv(hue, rng.uniform(0.03, 0.2), rng.uniform(0.82, 0.97))
    return colors
