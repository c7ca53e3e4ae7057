"""From a few scenes to all of them: means and shares with their intervals, and which few to take."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Share of the probes, were they drawn again and again, whose interval holds the true value."""

LEAST_FOR_A_LINE = 6
"""Scenes below which a line is not tried: it would be taken by chance, and its interval too narrow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and the ends of its interval, at `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval of a function of the value that never falls where the value rises."""
        return Interval(value=function(self.value), low=function(self.low), high=function(self.high))


def spread_choice(sizes: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Pick candidates so that their sizes are spread as those of all: the middle one of each of `count` equal strata.

    Parameters
    ----------
    sizes : sequence of int
        Of the candidates.
    count : int
        How many to pick; all where there are no more.
    rng : numpy.random.Generator
        Decides among candidates of one size.

    Returns
    -------
    list of int
        Positions in `sizes`, in ascending order of size.
    """
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(np.asarray(sizes)[shuffled], kind="stable")]
    count = min(count, len(sizes))
    return [int(order[(2 * i + 1) * len(sizes) // (2 * count)]) for i in range(count)]


def share(failed: int, tried: int) -> Interval:
    """A share with its Clopper-Pearson interval; nothing is known of it where nothing was tried."""
    from scipy.stats import beta

    if tried == 0:
        return Interval(value=0.0, low=0.0, high=1.0)
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, failed, tried - failed + 1)) if failed else 0.0
    high = float(beta.ppf(1 - tail, failed + 1, tried - failed)) if failed < tried else 1.0
    return Interval(value=failed / tried, low=low, high=high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Some scenes of a finite number, and the object counts of many more."""

    objects: Sequence[int]
    """Of the scenes that were made; at least two."""
    candidates: Sequence[int]
    """Object counts of a fair choice of all scenes."""
    population: int
    """How many scenes there are."""

    def mean(self, values: Sequence[float], *, repeats: bool, within: Sequence[float] | None = None) -> Interval:
        """The mean over all scenes of what was measured on some, never below zero.

        A straight line over the object count takes the place of the plain mean where it foretells each scene from the
        others better than their mean does.

        Parameters
        ----------
        values : sequence of float
            Of the scenes that were made.
        repeats : bool
            Whether a scene has the same value whenever it is made, as bytes are. Then only the scenes that were not
            made are unknown (finite-population correction). Seconds are spent anew, and differ: all scenes are unknown.
        within : sequence of float, optional
            Variance of each value itself, where it was found from a part of the scene.

        Returns
        -------
        Interval
            From Student's t.
        """
        from scipy.stats import t

        y, x = np.asarray(values, float), np.asarray(self.objects, float)
        n = len(y)
        made = min(1.0, n / self.population)
        unknown = 1 - made if repeats else 1 + made
        # How scenes differ includes the variance within; where all scenes were made, only that is left.
        inner = made * float(np.mean(within)) / n if within is not None else 0.0
        slope, better = _line(x, y)
        if better:
            many = np.asarray(self.candidates, float)
            shift = float(many.mean() - x.mean())
            residuals = y - y.mean() - slope * (x - x.mean())
            s2, freedom = float(residuals @ residuals) / (n - 2), n - 2
            around = float(((x - x.mean()) ** 2).sum())
            variance = s2 * (unknown / n + shift**2 / around)
            spread = float(many.var(ddof=1)) if len(many) > 1 else 0.0
            variance += slope**2 * spread / len(many) * max(0.0, 1 - len(many) / self.population)
            value = float(y.mean()) + slope * shift
        else:
            freedom = n - 1
            variance, value = unknown * float(y.var(ddof=1)) / n, float(y.mean())
        half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance + inner)
        return Interval(value=max(0.0, value), low=max(0.0, value - half), high=max(0.0, value + half))


def _line(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, bool]:
    """Slope of the least-squares line, and whether it foretells each point from the others better than their mean."""
    n, off = len(x), x - x.mean()
    around = float((off**2).sum())
    if n < LEAST_FOR_A_LINE or around == 0:
        return 0.0, False
    slope = float((off * y).sum()) / around
    leverage = 1 / n + off**2 / around
    if leverage.max() > 1 - 1e-9:  # without this point there is no line
        return 0.0, False
    by_line = (y - y.mean() - slope * off) / (1 - leverage)
    by_mean = (y - y.mean()) * n / (n - 1)
    return slope, bool((by_line**2).sum() < (by_mean**2).sum())
