"""A stateless shuffle: the i-th element of a keyed permutation of 0..n-1, computed alone.

The permutation is a Feistel network over the smallest even number of bits that holds n, with cycle walking: a result
that falls outside 0..n-1 is fed in again until it falls inside, which keeps the map a bijection for every n.
Nothing is stored, so a reader can begin at any position at once, and readers need not know of one another.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from randscene import seeding

ROUNDS = 8
_MIN_HALF_BITS = 3
"""A network of one bit a side mixes badly; below 64 elements a wider domain costs little."""
_FEW = 16
"""Up to so many positions are computed one by one, which is faster than arrays."""
_WORD = 2**64 - 1
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def permute(seed: int, epoch: int, n: int, positions: npt.ArrayLike) -> NDArray[Any]:
    """Elements at `positions` of the permutation of 0..n-1 that belongs to (seed, epoch).

    Parameters
    ----------
    seed, epoch : int
        Non-negative; each pair has its own permutation.
    n : int
        Length, 1 to 2^62.
    positions : array_like of int
        Any shape, values in [0, n).

    Returns
    -------
    np.ndarray
        int64, shape of `positions`, values in [0, n). Asking for positions together or apart makes no difference.

    Raises
    ------
    ValueError
        If n or a position is out of range.
    """
    if not 1 <= n <= 2**62:
        raise ValueError(f"n is {n}, not 1 to 2^62")
    places = np.asarray(positions, np.int64)
    if places.size and (places.min() < 0 or places.max() >= n):
        raise ValueError(f"positions must lie in [0, {n})")
    half = max(_MIN_HALF_BITS, ((n - 1).bit_length() + 1) // 2)
    keys = _round_keys(seed, epoch)
    if places.size <= _FEW:
        few = [_walk(int(place), n, half, keys) for place in places.ravel()]
        return np.array(few, np.int64).reshape(places.shape)
    values = places.astype(np.uint64).ravel()
    walking = np.arange(values.size)
    array_keys = tuple(map(np.uint64, keys))
    while walking.size:
        values[walking] = _feistel(values[walking], half, array_keys)
        walking = walking[values[walking] >= n]
    return values.astype(np.int64).reshape(places.shape)


def endless(seed: int, n: int, positions: npt.ArrayLike) -> NDArray[Any]:
    """Elements at `positions` of the sequence epoch 0, epoch 1, ..., each its own permutation of 0..n-1.

    Parameters
    ----------
    seed : int
    n : int
    positions : array_like of int
        Any shape, values from 0 without end.

    Returns
    -------
    np.ndarray
        int64, shape of `positions`.
    """
    places = np.asarray(positions, np.int64)
    epochs, rest = np.divmod(places, n)
    result = np.empty(places.shape, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = permute(seed, int(epoch), n, rest[here])
    return result


@lru_cache(maxsize=4096)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(seeding.generator(seed, epoch, "order").integers(0, 2**64, ROUNDS, dtype=np.uint64).tolist())


def _walk(value: int, n: int, half: int, keys: tuple[int, ...]) -> int:
    """What `_feistel` with cycle walking gives for one value, without the cost of arrays."""
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for key in keys:
            mixed = right ^ key
            mixed = ((mixed ^ (mixed >> 30)) * _MIX_1) & _WORD
            mixed = ((mixed ^ (mixed >> 27)) * _MIX_2) & _WORD
            left, right = right, left ^ ((mixed ^ (mixed >> 31)) & mask)
        value = (left << half) | right
        if value < n:
            return value


def _feistel(values: NDArray[Any], half: int, keys: tuple[np.uint64, ...]) -> NDArray[Any]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_hash(right ^ key) & mask)
    return (left << shift) | right


def _hash(values: NDArray[Any]) -> NDArray[Any]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX_2)
    return values ^ (values >> np.uint64(31))
