"""Objects at random places by the Poisson-disk sampler, as random layouts have them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from randscene.generator.layout import centred, disc_facts
from randscene.generator.placement import PlacedAsset
from randscene.generator.poisson_disk import DiscLayout, poisson_disk
from randscene.generator.recipe import DECIMALS, LayoutFacts
from randscene.manifests.spec_sections import LayoutSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Scattered:
    """Instances in id order, and the discs that keep those on the ground apart."""

    placed: Sequence[PlacedAsset]
    radii: tuple[float, ...]
    gap: float
    discs: DiscLayout
    tries: int = 0
    """Beside the discs' own."""

    def with_more(self, above: Sequence[PlacedAsset], tries: int) -> "Scattered":
        """The same with objects on top of others."""
        return replace(self, placed=[*self.placed, *above], tries=self.tries + tries)

    def scene(self) -> tuple[list[PlacedAsset], LayoutFacts]:
        """The instances centred above the origin, with the facts of their discs."""
        placed = centred(list(self.placed))
        facts = disc_facts(placed, list(self.radii), self.gap, self.discs)
        return placed, replace(facts, tries=facts.tries + self.tries)


def scatter(
    items: Sequence[PlacedAsset],
    rules: LayoutSpec,
    rng: np.random.Generator,
    *,
    gap: float,
    density: float | None = None,
) -> Scattered:
    """Give objects on the ground places whose discs keep their distance.

    Parameters
    ----------
    items : sequence of PlacedAsset
        Turned and scaled; where they stand is not used.
    rules : LayoutSpec
    rng : numpy.random.Generator
    gap : float
        Free distance of two discs over the mean radius.
    density : float, optional
        In place of `rules.density`.

    Raises
    ------
    PlanError
        If the discs do not fit within their budget.
    """
    radii = [round(item.scale * item.posture.radius, DECIMALS) for item in items]
    free = round(math.fsum(radii) / len(radii) * gap, DECIMALS)
    discs = poisson_disk(
        radii,
        free,
        rng,
        density=rules.density if density is None else density,
        tries=rules.tries,
        expansion=rules.expansion,
        max_expansions=rules.max_expansions,
        max_region=rules.max_region,
    )
    placed = [replace(item, centre=(x, y)) for item, (x, y) in zip(items, discs.centres.tolist())]
    return Scattered(placed=placed, radii=tuple(radii), gap=free, discs=discs)
