"""How far the scenes of an evaluation tell a mean, and whether they tell two methods apart.

Views of one scene show the same objects and are not independent. So it is scenes that are drawn again, or change
sign, each with all of its views; the mean itself counts every view once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import seeding
from randscene.train.scaling_statistics import Interval, paired_difference

EXACT_SCENES = 14
"""Up to so many scenes, all 2^n signs are tried."""
RANDOM_FLIPS = 9_999
"""With more scenes, so many are drawn; the p-value is then at least 1 / 10,000."""
_AT_ONCE = 500
"""Random flips held in memory together."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """What the same views say of the difference between two methods."""

    difference: Interval
    """Mean of second minus first, with its 95 % interval."""
    p: float
    """Two-sided, of the hypothesis that the two could change places in any scene; not corrected for other tests."""
    exact: bool
    """Whether all signs were tried."""
    n_views: int
    n_scenes: int


def scene_of(key: str) -> str:
    """The scene's part of a view's key `{scene:06d}_{view:03d}`."""
    return key.rpartition("_")[0] or key


def mean_interval(values: Sequence[float | None], keys: Sequence[str], seed: int) -> Interval | None:
    """The mean over views and its 95 % percentile bootstrap interval over scenes.

    Parameters
    ----------
    values : sequence of float or None
        One a view; a view without a value does not take part.
    keys : sequence of str
        The views' keys.
    seed : int
        Of the draws. Equal scenes are drawn for every column.

    Returns
    -------
    Interval or None
        None without any value. Its ends are None with fewer than two scenes.
    """
    kept = [(value, key) for value, key in zip(values, keys, strict=True) if value is not None]
    if not kept:
        return None
    means, counts = _by_scene(np.array([value for value, _ in kept]), [key for _, key in kept])
    return _interval(means, counts, seed)


def paired_test(
    first: Sequence[float | None], second: Sequence[float | None], keys: Sequence[str], seed: int
) -> PairedTest | None:
    """Compare two methods on the same views.

    Parameters
    ----------
    first, second : sequence of float or None
        Both methods' values, one a view. A view that has no value in either does not take part.
    keys : sequence of str
        The views' keys.
    seed : int
        Of the draws. With the methods exchanged, the difference changes sign and p stays.

    Returns
    -------
    PairedTest or None
        None if no view has a value in both.
    """
    pairs = [(b - a, key) for a, b, key in zip(first, second, keys, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    means, counts = _by_scene(np.array([difference for difference, _ in pairs]), [key for _, key in pairs])
    return PairedTest(
        difference=_interval(means, counts, seed),
        p=sign_flip_p(means * counts, seeding.generator(seed, "sign flips")),
        exact=len(means) <= EXACT_SCENES,
        n_views=len(pairs),
        n_scenes=len(means),
    )


def sign_flip_p(differences: NDArray[Any], rng: np.random.Generator) -> float:
    """Two-sided p-value of a sign-flip permutation test of the sum of `differences`.

    The share of sign patterns whose sum is, without its sign, at least as large as the one that was seen: over all of
    them with up to `EXACT_SCENES` scenes, otherwise over `RANDOM_FLIPS` random ones and the one that was seen.

    Parameters
    ----------
    differences : (n,) float64
        One a scene, n at least 1.
    rng : numpy.random.Generator
        Not used where all patterns are tried.
    """
    # Sums that are equal on paper differ in their last bits, by the order of their terms.
    limit = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    n = len(differences)
    if n <= EXACT_SCENES:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ differences) >= limit).mean())
    reached = 1
    for begin in range(0, RANDOM_FLIPS, _AT_ONCE):
        signs = 1.0 - 2.0 * rng.integers(2, size=(min(_AT_ONCE, RANDOM_FLIPS - begin), n))
        reached += int((np.abs(signs @ differences) >= limit).sum())
    return reached / (RANDOM_FLIPS + 1)


def _by_scene(values: NDArray[Any], keys: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean over views of each scene, (S,) float64, and its number of views, (S,) int64; scenes in rising order."""
    _, place = np.unique([scene_of(key) for key in keys], return_inverse=True)
    counts = np.bincount(place)
    return np.bincount(place, weights=values) / counts, counts


def _interval(means: NDArray[Any], counts: NDArray[Any], seed: int) -> Interval:
    rng = seeding.generator(seed, "bootstrap over scenes")
    # A mean is its paired difference from nothing; one row, as there is one run.
    return paired_difference(np.zeros((1, len(means))), means[None], rng, views=counts)
