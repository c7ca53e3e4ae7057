"""`row`: objects of like size in one or two straight rows, at equal distances, all turned alike."""

import numpy as np

from randscene.generator.arrangements.chooser import Chooser, standing
from randscene.generator.arrangements.footprint import Footprint
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.placement import PlacedAsset
from randscene.generator.trigonometry import cos_sin

OBJECTS = (3, 8)
LONGEST = 5
"""Objects in a row; more make a second one, and so do half of the scenes from four objects on."""
YAW_JITTER_DEG = 4.0
HEADING_DEG = 20.0
"""How far a row may run off the direction of X, either way."""
_SPREAD = 0.2
"""How far sizes differ from the scene's own, over it, either way."""


def row(choose: Chooser, rng: np.random.Generator) -> Outcome:
    """Three to eight objects; rows run along X but for a small turn of the whole."""
    count = choose.count(OBJECTS)
    two = (choose.chance(0.5) and count >= 4) or count > LONGEST
    size = choose.between(*choose.rules.scale)
    items = [(choose.asset(), size * choose.between(1 - _SPREAD, 1 + _SPREAD)) for _ in range(count)]
    gap = size / 2 * choose.between(*choose.rules.gap)
    yaw, heading = rng.random(), HEADING_DEG / 360 * (2 * rng.random() - 1)
    # Turned as they will stand, but for the heading, which turns the whole.
    turns = [yaw + YAW_JITTER_DEG / 360 * (2 * rng.random() - 1) for _ in items]
    boxes = [Footprint.of(standing(*item, turn)).box() for item, turn in zip(items, turns)]
    split = (count + 1) // 2 if two else count
    neighbours = [index for index in range(1, count) if index != split]
    step = max(boxes[index - 1][0] + boxes[index][0] for index in neighbours) + gap
    second = max(depth for _, depth in boxes[:split]) + max((depth for _, depth in boxes[split:]), default=0.0) + gap
    cosine, sine = cos_sin(heading)
    placed: list[PlacedAsset] = []
    for index, (item, turn) in enumerate(zip(items, turns)):
        x = (index if index < split else index - split) * step
        y = 0.0 if index < split else second
        placed.append(standing(*item, turn + heading, (cosine * x - sine * y, sine * x + cosine * y)))
    return Outcome(placed=placed, tries=count)
