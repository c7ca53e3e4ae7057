"""Poisson-disk layout: discs of given radii in a square region that grows when too tight (I-Scene, section 3.2)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import PlanError
from randscene.generator.recipe import DECIMALS


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscLayout:
    """Where the discs went, and what it took."""

    centres: NDArray[Any]
    """(N, 2) float64, metres, in the order of the radii; the region is centred on the origin."""
    region: float
    """Side of the square region at the end, metres; every disc lies inside it."""
    expansions: int
    tries: int
    """Candidate positions drawn, over all discs."""


def poisson_disk(
    radii: Sequence[float],
    gap: float,
    rng: np.random.Generator,
    *,
    leading: int = 0,
    density: float = 0.45,
    tries: int = 64,
    expansion: float = 1.1,
    max_expansions: int = 64,
    max_region: float | None = None,
) -> DiscLayout:
    """Place discs at random so that any two keep `r_i + r_j + gap` between their centres (I-Scene, section 3.2).

    Discs are placed from the largest to the smallest. Each draws up to `tries` positions, uniform over those that keep
    it inside the region; when none is free the region's side grows by the factor `expansion` about its centre, placed
    discs stay, and the disc draws again.

    Parameters
    ----------
    radii : sequence of float
        N radii, metres, positive.
    gap : float
        Free distance between any two discs, metres, non-negative.
    rng : numpy.random.Generator
        Only its `random()` is used.
    leading : int
        The first `leading` discs are placed before all others (a table), in their own order.
    density : float
        Share of the first region that the discs, each widened by half a gap, cover. Random placement of equal discs
        jams near 0.55; starting below it, most layouts need few expansions and none a needlessly empty region.
    tries, expansion, max_expansions
        Candidates a disc before an expansion; factor of an expansion; how many there may be.
    max_region : float, optional
        Largest side of the region, metres.

    Returns
    -------
    DiscLayout
        With centres in the order of `radii`.

    Raises
    ------
    PlanError
        If neither `max_expansions` nor a region of `max_region` made room.
    ValueError
        If a radius is not positive or the gap is negative.
    """
    if not radii or min(radii) <= 0 or gap < 0:
        raise ValueError("poisson_disk needs at least one disc, positive radii and a gap that is not negative")
    by_size = sorted(range(leading, len(radii)), key=lambda index: -radii[index])
    limit = math.inf if max_region is None else max_region
    if 2 * max(radii) > limit:
        raise PlanError(
            f"an object {2 * max(radii):.3g} m across is wider than the region may be ({limit:g} m): "
            "raise layout.max_region, or lower layout.scale or layout.table_scale"
        )
    region = min(_first_region(radii, gap, density), limit)
    grid = _Grid(radii, gap)
    drawn = expansions = 0
    for index in [*range(leading), *by_size]:
        radius = radii[index]
        placed = False
        while not placed:
            reach = region / 2 - radius
            for _ in range(tries):
                drawn += 1
                # On the grid of the recipe's decimals, so that its text holds the centre exactly.
                x = round((2 * rng.random() - 1) * reach, DECIMALS)
                y = round((2 * rng.random() - 1) * reach, DECIMALS)
                if grid.is_free(x, y, radius):
                    grid.add(index, x, y)
                    placed = True
                    break
            else:
                if expansions == max_expansions or region >= limit:
                    raise PlanError(
                        f"no room for {len(radii)} objects within {region:.3g} m after {expansions} expansions of it: "
                        "raise layout.max_region, layout.max_expansions or layout.tries, or lower layout.gap, "
                        "layout.scale or layout.objects"
                    )
                expansions += 1
                region = min(region * expansion, limit)
    centres = np.array([grid.centres[index] for index in range(len(radii))], np.float64)
    return DiscLayout(centres=centres, region=region, expansions=expansions, tries=drawn)


def _first_region(radii: Sequence[float], gap: float, density: float) -> float:
    covered = math.pi * math.fsum((radius + gap / 2) ** 2 for radius in radii)
    return max(math.sqrt(covered / density), 2 * max(radii))


class _Grid:
    """Uniform grid whose cell, (min radius + gap) / sqrt 2, is too small for the centres of two accepted discs."""

    def __init__(self, radii: Sequence[float], gap: float) -> None:
        self.centres: dict[int, tuple[float, float]] = {}
        self._radii = radii
        self._gap = gap
        self._cell = (min(radii) + gap) / math.sqrt(2)
        self._at: dict[tuple[int, int], int] = {}
        self._largest = 0.0

    def add(self, index: int, x: float, y: float) -> None:
        self.centres[index] = (x, y)
        self._at[self._key(x, y)] = index
        self._largest = max(self._largest, self._radii[index])

    def is_free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc at (x, y) keeps its distance from all placed ones."""
        return all(self._apart(x, y, radius, other) for other in self._near(x, y, radius))

    def _near(self, x: float, y: float, radius: float) -> list[int]:
        span = math.ceil((radius + self._largest + self._gap) / self._cell)
        # With few discs, or radii of very different size, there are more cells in reach than discs to look at.
        if (2 * span + 1) ** 2 >= len(self.centres):
            return list(self.centres)
        column, row = self._key(x, y)
        around = itertools.product(range(column - span, column + span + 1), range(row - span, row + span + 1))
        return [self._at[key] for key in around if key in self._at]

    def _apart(self, x: float, y: float, radius: float, other: int) -> bool:
        dx, dy = x - self.centres[other][0], y - self.centres[other][1]
        # math.sqrt is rounded the same way on every machine; math.hypot need not be.
        return math.sqrt(dx * dx + dy * dy) >= radius + self._radii[other] + self._gap

    def _key(self, x: float, y: float) -> tuple[int, int]:
        return math.floor(x / self._cell), math.floor(y / self._cell)
