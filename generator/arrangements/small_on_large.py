"""`small_on_large`: carriers here and there, with several small objects on each."""

import math

import numpy as np

from randscene.generator.arrangements.chooser import Chooser, standing
from randscene.generator.arrangements.scattered import Scattered, scatter
from randscene.generator.arrangements.tabletop import Topping, stand_on

OBJECTS = (2, 12)
CARRIERS = 3
ON_EACH = 4
SHARE = (0.3, 0.7)
"""Radius of a small object over the room that its carrier's anchor has."""


def small_on_large(choose: Chooser, rng: np.random.Generator) -> Scattered:
    """One to three carriers, each with one to four small objects."""
    count = choose.count(OBJECTS)
    carriers = choose.whole(math.ceil(count / (1 + ON_EACH)), min(CARRIERS, count // 2))
    loads = [1] * carriers
    for _ in range(count - 2 * carriers):
        open_ones = [index for index, load in enumerate(loads) if load < ON_EACH]
        loads[open_ones[choose.whole(0, len(open_ones) - 1)]] += 1
    large = [
        standing(choose.asset(choose.pool.carriers), choose.between(*choose.rules.table_scale), rng.random())
        for _ in loads
    ]
    toppings = [[Topping(asset=choose.asset(), share=choose.between(*SHARE)) for _ in range(load)] for load in loads]
    scene = scatter(large, choose.rules, rng, gap=choose.between(*choose.rules.gap))
    for number, (carrier, items) in enumerate(zip(list(scene.placed), toppings), start=1):
        above, tries = stand_on(carrier, number, items, rng, tries=choose.rules.tries)
        scene = scene.with_more(above, tries)
    return scene
