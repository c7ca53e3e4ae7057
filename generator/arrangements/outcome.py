"""Outcome: what an arrangement hands back, from items that have places to a centred scene with its facts."""

from collections.abc import Sequence
from dataclasses import dataclass

from randscene.generator.layout import centred
from randscene.generator.placement import PlacedAsset, bounds
from randscene.generator.recipe import DECIMALS, LayoutFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Instances in id order, and what it took to place them."""

    placed: Sequence[PlacedAsset]
    tries: int
    """Candidate places looked at."""
    expansions: int = 0

    def scene(self) -> tuple[list[PlacedAsset], LayoutFacts]:
        """The instances centred above the origin, and facts without discs: rectangles, not discs, kept them apart."""
        placed = centred(list(self.placed))
        low, high = bounds(placed)
        return placed, LayoutFacts(
            disc_instances=(),
            radii=(),
            centres=(),
            gap=0.0,
            region=round(max(high[0] - low[0], high[1] - low[1]), DECIMALS),
            expansions=self.expansions,
            tries=self.tries,
        )
