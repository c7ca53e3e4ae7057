"""What things are made of: random materials of a kind, each drawn from a seeded generator."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from randscene.manifests.procedural import patterns
from randscene.manifests.procedural.model import Color, Material, Texture
from randscene.manifests.procedural.textures import hsv, shade

T = TypeVar("T")

_WOODS: tuple[Color, ...] = (
    (0.80, 0.62, 0.42),
    (0.70, 0.48, 0.28),
    (0.58, 0.36, 0.20),
    (0.44, 0.26, 0.15),
    (0.33, 0.21, 0.15),
    (0.86, 0.74, 0.56),
    (0.62, 0.30, 0.19),
    (0.60, 0.56, 0.50),
)
_METALS: tuple[tuple[str, Color], ...] = (
    ("steel", (0.76, 0.77, 0.78)),
    ("chrome", (0.88, 0.89, 0.90)),
    ("brass", (0.86, 0.71, 0.40)),
    ("copper", (0.86, 0.56, 0.42)),
    ("bronze", (0.60, 0.45, 0.28)),
    ("gold", (0.98, 0.80, 0.42)),
    ("gunmetal", (0.30, 0.31, 0.34)),
)
_STONES: tuple[Color, ...] = (
    (0.90, 0.88, 0.85),
    (0.62, 0.60, 0.58),
    (0.26, 0.27, 0.29),
    (0.70, 0.58, 0.46),
    (0.36, 0.44, 0.40),
    (0.60, 0.36, 0.32),
)


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of `choices`, each as likely."""
    return choices[int(rng.integers(0, len(choices)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return float(rng.random()) < probability


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A float in [low, high)."""
    return float(rng.uniform(low, high))


def count(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer in [low, high], both ends included."""
    return int(rng.integers(low, high + 1))


def paint_color(rng: np.random.Generator) -> Color:
    """A colour that things are painted in: strong, muted, pale or dark."""
    saturation, value = pick(
        rng,
        (((0.6, 0.95), (0.5, 0.95)), ((0.2, 0.5), (0.4, 0.8)), ((0.03, 0.2), (0.8, 0.97)), ((0.1, 0.6), (0.12, 0.3))),
    )
    return hsv(uniform(rng, 0, 1), uniform(rng, *saturation), uniform(rng, *value))


def wood(rng: np.random.Generator) -> Material:
    """Grained wood, raw to varnished."""
    base = pick(rng, _WOODS)
    tone = shade(base, uniform(rng, 0.82, 1.12))
    return Material(
        name="wood", texture=patterns.wood(rng, tone), tile=uniform(rng, 0.35, 0.8), roughness=uniform(rng, 0.3, 0.75)
    )


def planks(rng: np.random.Generator) -> Material:
    """Boards glued side by side."""
    texture = patterns.planks(rng, shade(pick(rng, _WOODS), uniform(rng, 0.9, 1.15)))
    return Material(name="planks", texture=texture, tile=uniform(rng, 0.6, 1.1), roughness=uniform(rng, 0.4, 0.8))


def metal(rng: np.random.Generator) -> Material:
    """Bare metal, polished to brushed."""
    name, color = pick(rng, _METALS)
    return Material(name=name, color=color, metallic=1.0, roughness=uniform(rng, 0.12, 0.5))


def iron(rng: np.random.Generator) -> Material:
    """Painted or rusty iron."""
    tone = hsv(uniform(rng, 0, 1), uniform(rng, 0.0, 0.5), uniform(rng, 0.1, 0.6))
    if chance(rng, 0.5):
        return Material(name="coated_metal", color=tone, metallic=0.6, roughness=uniform(rng, 0.35, 0.6))
    return Material(
        name="rusty_metal", texture=patterns.rust(rng, tone), tile=0.5, metallic=0.4, roughness=uniform(rng, 0.5, 0.8)
    )


def paint(rng: np.random.Generator) -> Material:
    """A plain coat of paint, matt to glossy."""
    return Material(name="paint", color=paint_color(rng), roughness=uniform(rng, 0.25, 0.85))


def plastic(rng: np.random.Generator) -> Material:
    """Coloured plastic."""
    color = hsv(uniform(rng, 0, 1), uniform(rng, 0.4, 0.95), uniform(rng, 0.4, 0.95))
    return Material(name="plastic", color=color, roughness=uniform(rng, 0.15, 0.5))


def stone(rng: np.random.Generator) -> Material:
    """Marble, granite, terrazzo or concrete."""
    base = pick(rng, _STONES)
    drawn: Callable[[], Texture] = pick(
        rng,
        (
            lambda: patterns.marble(rng, base, shade(base, pick(rng, (0.45, 0.7)))),
            lambda: patterns.granite(rng, base),
            lambda: patterns.terrazzo(rng, base, patterns.scheme(rng, 3)),
            lambda: patterns.stone(rng, base),
        ),
    )
    return Material(name="stone", texture=drawn(), tile=uniform(rng, 0.4, 0.8), roughness=uniform(rng, 0.1, 0.6))


def tiled(rng: np.random.Generator) -> Material:
    """Glazed tiles or a painted checker."""
    colors = patterns.scheme(rng, count(rng, 2, 4))
    if chance(rng, 0.5):
        texture = patterns.tiles(rng, colors, hsv(0.1, 0.08, uniform(rng, 0.5, 0.85)))
    else:
        texture = patterns.checker(rng, colors[:2])
    return Material(name="tiles", texture=texture, tile=uniform(rng, 0.35, 0.7), roughness=uniform(rng, 0.1, 0.4))


def brick(rng: np.random.Generator) -> Material:
    """Brickwork."""
    base = hsv(uniform(rng, 0.0, 0.09), uniform(rng, 0.35, 0.65), uniform(rng, 0.45, 0.8))
    texture = patterns.brick(rng, base, hsv(0.1, 0.1, uniform(rng, 0.6, 0.85)))
    return Material(name="brick", texture=texture, tile=uniform(rng, 0.25, 0.5), roughness=0.9)


def fabric(rng: np.random.Generator, tile: float | None = None) -> Material:
    """Woven, checked, striped, zigzag or dotted cloth."""
    colors = patterns.scheme(rng, count(rng, 2, 4))
    drawn: Callable[[], Texture] = pick(
        rng,
        (
            lambda: patterns.weave(rng, colors),
            lambda: patterns.weave(rng, colors[:2]),
            lambda: patterns.stripes(rng, colors),
            lambda: patterns.zigzag(rng, colors[:2]),
            lambda: patterns.dots(rng, colors[0], colors[1:]),
        ),
    )
    return Material(name="fabric", texture=drawn(), tile=tile or uniform(rng, 0.15, 0.35), roughness=0.9)


def leather(rng: np.random.Generator) -> Material:
    """Creased leather."""
    tone = hsv(uniform(rng, 0.0, 0.12), uniform(rng, 0.2, 0.7), uniform(rng, 0.15, 0.6))
    return Material(name="leather", texture=patterns.leather(rng, tone), tile=0.12, roughness=uniform(rng, 0.35, 0.6))


def wicker(rng: np.random.Generator) -> Material:
    """Basket work."""
    tone = pick(rng, _WOODS)
    return Material(name="wicker", texture=patterns.wicker(rng, tone), tile=uniform(rng, 0.08, 0.16), roughness=0.8)


def clay(rng: np.random.Generator) -> Material:
    """Terracotta, unglazed or mottled."""
    tone = hsv(uniform(rng, 0.02, 0.1), uniform(rng, 0.3, 0.65), uniform(rng, 0.45, 0.85))
    return Material(name="clay", texture=patterns.stone(rng, tone), tile=0.3, roughness=uniform(rng, 0.7, 0.95))


def glaze(rng: np.random.Generator) -> Material:
    """Glazed pottery: speckled, ringed, zigzag, dotted, poured or plain; drawn once over each part."""
    colors = patterns.scheme(rng, count(rng, 2, 4))
    roughness = uniform(rng, 0.06, 0.4)
    kind = count(rng, 0, 7)
    if kind == 0:
        return Material(name="glaze", color=colors[0], roughness=roughness)
    drawn: Callable[[], Texture] = (
        lambda: patterns.speckle(rng, colors[0], colors[1:]),
        lambda: patterns.stripes(rng, colors),
        lambda: patterns.zigzag(rng, colors),
        lambda: patterns.dots(rng, colors[0], colors[1:]),
        lambda: patterns.glaze(rng, colors[0], colors[1]),
        lambda: patterns.marble(rng, colors[0], colors[1]),
        lambda: patterns.checker(rng, colors[:2], 2 * count(rng, 3, 9)),
    )[kind - 1]
    return Material(name="glaze", texture=drawn(), tile=None, roughness=roughness)


def glow(rng: np.random.Generator, color: Color) -> Material:
    """A surface lit from within, such as a lamp shade."""
    strength = uniform(rng, 0.4, 1.0)
    emissive = (color[0] * strength, color[1] * strength, color[2] * strength)
    return Material(name="glow", color=color, roughness=0.8, emissive=emissive)


def leaf(rng: np.random.Generator) -> Material:
    """Green of a plant, seldom red or purple."""
    hue = uniform(rng, 0.2, 0.42) if chance(rng, 0.85) else uniform(rng, 0.8, 1.02)
    tone = hsv(hue, uniform(rng, 0.4, 0.8), uniform(rng, 0.25, 0.65))
    texture = patterns.stripes(rng, [tone, shade(tone, uniform(rng, 0.7, 1.3))], along_u=False, bands=count(rng, 3, 9))
    return Material(name="leaf", texture=texture, tile=None, roughness=uniform(rng, 0.4, 0.7))


def any_of(rng: np.random.Generator, *makers: Callable[[np.random.Generator], Material]) -> Material:
    """A material by one of `makers`, each as likely."""
    return pick(rng, makers)(rng)


def solid(rng: np.random.Generator) -> Material:
    """What a solid, abstract thing may be made of."""
    return any_of(
        rng,
        wood,
        metal,
        stone,
        glaze,
        plastic,
        clay,
        brick,
        leather,
        tiled,
    )


def frame(rng: np.random.Generator) -> Material:
    """What the legs and frames of furniture are made of."""
    return any_of(rng, wood, wood, paint, metal, iron)
