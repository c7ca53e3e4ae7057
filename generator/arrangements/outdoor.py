"""`outdoor`: sizes from half a metre to six, far apart."""

import numpy as np

from randscene.generator.arrangements.chooser import Chooser, standing
from randscene.generator.arrangements.scattered import Scattered, scatter

OBJECTS = (4, 12)
SIZE = (0.5, 6.0)
"""Range of the largest extent, metres, log-uniform: more than one order of magnitude in one scene."""
GAP = (0.2, 0.8)
"""Free distance over the mean radius."""
_DENSITY = 0.4


def outdoor(choose: Chooser, rng: np.random.Generator) -> Scattered:
    """Four to twelve objects of very different size."""
    count = choose.count(OBJECTS)
    items = [standing(choose.asset(), choose.log_between(*SIZE), rng.random()) for _ in range(count)]
    return scatter(items, choose.rules, rng, gap=choose.between(*GAP), density=_DENSITY)
