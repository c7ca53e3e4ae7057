"""`identical`: one or two assets, each several times at one size."""

import math

import numpy as np

from randscene.generator.arrangements.chooser import Chooser, standing
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.arrangements.scattered import Scattered, scatter

OBJECTS = (3, 8)


def identical(choose: Chooser, rng: np.random.Generator) -> Outcome | Scattered:
    """Three to eight copies at random places and yaws, or in a regular grid and all turned alike."""
    count = choose.count(OBJECTS)
    two, regular = choose.chance(0.3) and count >= 4, choose.chance(0.5)
    kinds = [(choose.asset(), choose.between(*choose.rules.scale)) for _ in range(1 + two)]
    first = choose.whole(2, count - 2) if two else count
    items = choose.shuffled([kinds[0]] * first + [kinds[-1]] * (count - first))
    gap = choose.between(*choose.rules.gap)
    if not regular:
        return scatter([standing(*item, rng.random()) for item in items], choose.rules, rng, gap=gap)
    yaw = rng.random()
    turned = [standing(*item, yaw) for item in items]
    radii = [item.scale * item.posture.radius for item in turned]
    step = 2 * max(radii) + gap * math.fsum(radii) / count
    columns = math.ceil(math.sqrt(count))
    return Outcome(
        placed=[item.moved(index % columns * step, index // columns * step) for index, item in enumerate(turned)],
        tries=count,
    )
