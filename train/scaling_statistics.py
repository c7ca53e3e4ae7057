"""What a few seeds and some dozen scenes allow to say: intervals, paired differences, power laws.

Runs of different seeds and scenes of an evaluation set are two samples, each with its own spread. Where both count,
both are drawn again (a bootstrap over seeds and scenes), a scene with all of its views: they are not independent.
Means over n seeds that are drawn again from those n vary too little, by (n - 1) / n, and tell too little of how badly
n seeds know their own spread; both matter for three. So deviations between seeds are stretched: by sqrt(n / (n - 1)),
and by the ratio of Student's t to the normal quantile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
FEWEST_SIZES = 4
"""A curve of three parameters goes through any three points."""
EXPONENTS = (-2.0, 4.0)
"""Bounds of c. Negative ones are no saturating law, but must be possible to be refuted."""
_COARSE, _FINE = 60, 8
"""Steps of the grid of c that the bootstrap begins with, and how much finer each further one is."""
_STARTS = (-0.5, 0.1, 0.3, 0.6, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the ends of its 95 % interval; the ends are None where one observation tells no spread."""

    value: float
    low: float | None
    high: float | None

    def contains(self, value: float) -> bool:
        """Whether `value` lies between the ends."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """y = a + b n^-c."""

    a: float
    """Where more scenes lead, if c > 0."""
    b: float
    c: float

    def __call__(self, n: NDArray[Any]) -> NDArray[Any]:
        """y at numbers of scenes `n`."""
        return self.a + self.b * np.asarray(n, np.float64) ** -self.c


@dataclass(frozen=True, kw_only=True)
class PowerLawFit:
    """A fitted law, and whether the data determine it."""

    law: PowerLaw | None
    """None with fewer than `FEWEST_SIZES` sizes."""
    a: Interval | None
    b: Interval | None
    c: Interval | None
    undetermined: str
    """Why the law says nothing beyond the points it was fitted to; empty if it does."""
    note: str = ""
    """What the intervals leave out."""


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean and Student's t interval of one value a seed."""
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Interval(value=mean, low=None, high=None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(value=mean, low=mean - half, high=mean + half)


def paired_difference(
    first: NDArray[Any], second: NDArray[Any], rng: np.random.Generator, *, views: NDArray[Any] | None = None
) -> Interval:
    """Mean of `second - first` with its bootstrap interval over seeds and scenes.

    Parameters
    ----------
    first, second : (seeds, scenes) float64
        Means over the views of each scene; the same scenes, and runs of the same seeds, in the same order.
    rng : numpy.random.Generator
    views : (scenes,) int, optional
        Views of each scene, as which it counts; one each by default.
    """
    difference = second - first
    counts = np.ones(difference.shape[1]) if views is None else views
    value = _mean(difference, counts)
    if difference.size < 2:
        return Interval(value=value, low=None, high=None)
    return _interval(value, _redrawn_means(difference, rng, _scene_weights(counts, rng), _stretch([len(difference)])))


def power_law(n: Sequence[float], y: Sequence[float], *, ceiling: float = math.inf) -> PowerLaw:
    """The least-squares law through points, with a in [0, ceiling] and c in `EXPONENTS`.

    Parameters
    ----------
    n, y : sequence of float
        At least three points, n positive.
    ceiling : float
        1 for what is a share.
    """
    from scipy.optimize import least_squares

    counts, values = np.asarray(n, np.float64), np.asarray(y, np.float64)
    unit = math.exp(float(np.log(counts).mean()))  # the scale of n on which b and c have least to do with each other
    scaled = counts / unit
    size = max(float(np.abs(values).max()), 1e-300)
    found = []
    for start in _STARTS:
        a, b, _ = (
            float(part[0, 0]) for part in _linear(scaled, values[None] / size, np.array([[start]]), ceiling / size)
        )
        fit = least_squares(
            lambda p: p[0] + p[1] * scaled ** -p[2] - values / size,
            (min(max(a, 1e-9), ceiling / size - 1e-9), b, start),
            bounds=((0, -np.inf, EXPONENTS[0]), (ceiling / size, np.inf, EXPONENTS[1])),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        found.append((float(fit.cost), tuple(map(float, fit.x))))
    a, b, c = min(found)[1]
    return PowerLaw(a=a * size, b=b * size * unit**c, c=c)


def fit_power_law(
    n: Sequence[float],
    values: Sequence[NDArray[Any]],
    rng: np.random.Generator,
    *,
    ceiling: float = math.inf,
    views: NDArray[Any] | None = None,
) -> PowerLawFit:
    """A power law of means over seeds and scenes, with bootstrap intervals of its parameters.

    Parameters
    ----------
    n : sequence of float
        Numbers of training scenes.
    values : sequence of (seeds, scenes) float64
        Means over the views of each scene, for each n; the scenes are the same and are drawn together, the seeds of
        each n on their own.
    rng : numpy.random.Generator
    ceiling : float
        1 for what is a share.
    views : (scenes,) int, optional
        Views of each scene, as which it counts; one each by default.
    """
    if len({*n}) < FEWEST_SIZES:
        return PowerLawFit(
            law=None, a=None, b=None, c=None, undetermined=f"{len({*n})} sizes; {FEWEST_SIZES} are needed"
        )
    counts = np.ones(values[0].shape[1]) if views is None else views
    law = power_law(n, [_mean(each, counts) for each in values], ceiling=ceiling)
    scenes = _scene_weights(counts, rng)
    stretch = _stretch([len(each) for each in values])
    redrawn = np.stack([_redrawn_means(each, rng, scenes, stretch) for each in values], axis=1)
    unit = math.exp(float(np.log(n).mean()))
    scaled = np.asarray(n, np.float64) / unit
    a, b, c = _best_laws(scaled, redrawn, ceiling)
    change = b * (scaled.max() ** -c - scaled.min() ** -c)
    intervals = {
        "a": _interval(law.a, a),
        "b": _interval(law.b, b * unit**c),
        "c": _interval(law.c, c),
    }
    step = (EXPONENTS[1] - EXPONENTS[0]) / _COARSE
    low, high = intervals["c"].low, intervals["c"].high
    assert low is not None and high is not None
    why = ""
    if max(each.size for each in values) < 2:
        why = "one seed and one scene tell no spread"
    elif _interval(0.0, change).contains(0):
        why = "no trend: between fewest and most scenes, the interval of the change holds 0"
    elif low <= 0 <= high:
        why = "the interval of c holds 0"
    elif low <= EXPONENTS[0] + step or high >= EXPONENTS[1] - step:
        why = "the interval of c reaches its bounds"
    few = min(map(len, values)) < 2
    return PowerLawFit(
        law=law, **intervals, undetermined=why, note="intervals over scenes alone: one seed" if few and not why else ""
    )


def _best_laws(n: NDArray[Any], y: NDArray[Any], ceiling: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(R,) a, b and c of the least-squares law through each row of `y` (R, N), by ever finer grids of c."""
    width = (EXPONENTS[1] - EXPONENTS[0]) / _COARSE
    exponents = np.linspace(*EXPONENTS, _COARSE + 1)[None] + 1e-6  # at 0 itself, a and b are the same
    rows = np.arange(len(y))
    for last in (False, False, True):
        a, b, error = _linear(n, y, exponents, ceiling)
        best = error.argmin(axis=1)
        c = np.broadcast_to(exponents, error.shape)[rows, best]
        if last:
            break
        finer = c[:, None] + np.linspace(-width, width, 2 * _FINE + 1)
        exponents, width = np.clip(finer, *EXPONENTS), width / _FINE
    return a[rows, best], b[rows, best], c


def _linear(
    n: NDArray[Any], y: NDArray[Any], exponents: NDArray[Any], ceiling: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Best a in [0, ceiling] and b, and their squared error, each (R, K).

    `y` is (R, N), `exponents` (R, K) or (1, K) for all rows.
    """
    x = n ** -exponents[:, :, None]  # (R or 1, K, N)
    values = y[:, None]
    centred = x - x.mean(axis=2, keepdims=True)
    slope = (values * centred).sum(axis=2) / np.maximum(np.square(centred).sum(axis=2), 1e-300)
    a = np.clip(values.mean(axis=2) - slope * x.mean(axis=2), 0, ceiling)
    # With a at its bound the best slope is another one; inside, it is the same.
    slope = ((values - a[:, :, None]) * x).sum(axis=2) / np.square(x).sum(axis=2)
    return a, slope, np.square(values - a[:, :, None] - slope[:, :, None] * x).sum(axis=2)


def _stretch(seeds: Sequence[int]) -> float:
    """Student's t over the normal quantile, of as many degrees of freedom as groups of `seeds` have together."""
    from scipy.stats import norm, t

    freedom = sum(count - 1 for count in seeds)
    upper = (1 + CONFIDENCE) / 2
    return float(t.ppf(upper, freedom) / norm.ppf(upper)) if freedom else 1.0


def _mean(values: NDArray[Any], views: NDArray[Any]) -> float:
    """Over seeds and views, of means over the views of each scene."""
    return float((values @ views).mean() / views.sum())


def _scene_weights(views: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """(RESAMPLES, scenes): how much each scene counts when as many are drawn again, all with their views."""
    scenes = len(views)
    drawn = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=RESAMPLES) * views
    return drawn / drawn.sum(axis=1, keepdims=True)


def _redrawn_means(
    values: NDArray[Any], rng: np.random.Generator, weights: NDArray[Any], stretch: float
) -> NDArray[Any]:
    """(RESAMPLES,) means of `values` (seeds, scenes) over seeds that are drawn again, and scenes that were."""
    by_seed = weights @ values.T  # (RESAMPLES, seeds)
    mean, count = by_seed.mean(axis=1), len(values)
    if count < 2:
        return mean
    picks = rng.integers(count, size=(RESAMPLES, count))
    drawn = np.take_along_axis(by_seed, picks, axis=1).mean(axis=1)
    return mean + stretch * math.sqrt(count / (count - 1)) * (drawn - mean)


def _interval(value: float, redrawn: NDArray[Any]) -> Interval:
    low, high = np.quantile(redrawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=value, low=float(low), high=float(high))
