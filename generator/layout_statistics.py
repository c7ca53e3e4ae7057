"""What the layouts of many scenes look like in numbers: counts, sizes, densities, distances, the sampler's toil."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from randscene.generator.scene_check import SceneCheck

QUANTILES = {"p1": 0.01, "p50": 0.5, "p99": 0.99}


class LayoutStatistics:
    """Collects checked scenes; keeps numbers only, some hundred bytes a scene."""

    def __init__(self) -> None:
        self.samples: dict[str, array[float]] = {name: array("d") for name in UNITS}
        """Every value of each quantity of `UNITS`, in the order of the scenes."""
        self.layers: Counter[int] = Counter()
        """Instances by layer; 0 is the ground."""
        self.uses: Counter[str] = Counter()
        """Instances by asset uid."""
        self.scenes = 0
        self.pairs = 0
        self.pairs_near = 0
        self.with_stack = 0
        self.with_repeats = 0
        self.replanned = 0

    def add(self, check: SceneCheck) -> None:
        """Take up one scene."""
        layout, instances = check.layout, check.instances
        uids = [item.uid for item in instances]
        self.scenes += 1
        self.pairs += check.pairs
        self.pairs_near += check.pairs_near
        self.with_stack += any(item.layer for item in instances)
        self.with_repeats += len(set(uids)) < len(uids)
        self.replanned += check.attempt > 0
        self.layers.update(item.layer for item in instances)
        self.uses.update(uids)
        stacked = [item for item in instances if item.layer]
        # Structured arrangements may have kept rectangles apart, not discs.
        discs = len(layout.radii)
        added: dict[str, Sequence[float]] = {
            "objects": [len(instances)],
            "stacked": [len(stacked)],
            "carriers": [sum(item.carries > 0 for item in instances)],
            "size": [item.size for item in instances],
            "radius": layout.radii,
            "distance_over_radii": check.disc_ratios,
            "nearest_distance_over_radii": [min(check.disc_ratios)] if check.disc_ratios else [],
            "density": [check.density] if discs else [],
            "region": [layout.region],
            "gap": [layout.gap] if discs else [],
            "ground_gap_over_size": [item.gap / item.size for item in instances if not item.layer],
            "rest_gap_over_size": [item.gap / item.size for item in stacked],
            "clearance_over_size": [(item.clearance or -(item.overhang or 0.0)) / item.size for item in stacked],
            "margin_over_size": [item.margin / item.size for item in instances],
            "tries": [layout.tries],
            "tries_over_objects": [layout.tries / (discs or len(instances))],
            "expansions": [layout.expansions],
        }
        for name, values in added.items():
            self.samples[name].extend(values)

    def summary(self) -> dict[str, Any]:
        """Plain data for a report: the spread of each quantity, and counts."""
        uses = sorted(self.uses.values())
        return {
            "quantities": {
                name: {"unit": unit, **spread(self.samples[name])} for name, unit in UNITS.items() if self.samples[name]
            },
            "instances": sum(uses),
            "instances_by_layer": {str(layer): self.layers[layer] for layer in sorted(self.layers)},
            "scenes_with_a_stack": self.with_stack,
            "scenes_with_an_asset_twice": self.with_repeats,
            "assets": {"distinct": len(uses), "uses": spread(uses)},
            "pairs": self.pairs,
            "pairs_near": self.pairs_near,
            "sampler": {
                "tries": int(sum(self.samples["tries"])),
                "expansions": int(sum(self.samples["expansions"])),
                "scenes_with_expansions": sum(value > 0 for value in self.samples["expansions"]),
                "scenes_planned_again": self.replanned,
            },
        }


UNITS = {
    "objects": "a scene",
    "stacked": "a scene",
    "carriers": "a scene",
    "size": "m",
    "radius": "m",
    "distance_over_radii": "",
    "nearest_distance_over_radii": "",
    "density": "",
    "region": "m",
    "gap": "m",
    "ground_gap_over_size": "",
    "rest_gap_over_size": "",
    "clearance_over_size": "",
    "margin_over_size": "",
    "tries": "a scene",
    "tries_over_objects": "a scene",
    "expansions": "a scene",
}
"""What is collected, and in which unit; empty for plain ratios.

`size` is the largest extent of an object; `radius`, `gap`, `region` and `density` (area of the discs over the region's)
belong to the discs; `distance_over_radii` is taken over all pairs of discs, the nearest over the closest pair of each
scene. `ground_gap` and `rest_gap` are heights above what carries an object on the ground or on another object,
`clearance` is from a stacked object's outline to the polygon's edge (negative: overhang), `margin` from the centre of
mass to the edge of the footing (negative: a rigid body would topple).
"""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, extremes and quantiles, to six significant digits; the count alone when there are no values."""
    data = np.asarray(values, np.float64)
    if not len(data):
        return {"count": 0}
    found = {"mean": data.mean(), "min": data.min(), "max": data.max()}
    found |= {name: np.quantile(data, share, method="inverted_cdf") for name, share in QUANTILES.items()}
    return {"count": len(data), **{name: float(f"{value:.6g}") + 0.0 for name, value in found.items()}}
