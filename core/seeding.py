"""Explicit randomness: every stream is derived from the numbers and words that name its purpose."""

import hashlib

import numpy as np


def generator(*parts: int | str) -> np.random.Generator:
    """A `numpy.random.Generator` (PCG64) for one purpose.

    Parameters
    ----------
    parts : int or str
        What the stream is for, e.g. `(dataset_seed, scene, attempt, "layout")`. Ints are taken as they are
        (non-negative, any size), words by the first 8 bytes of their SHA-256. Different parts give independent streams.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([_word(part) for part in parts])))


def integer(*parts: int | str) -> int:
    """One 63-bit non-negative integer for the purpose named by `parts`, e.g. a seed for another library."""
    return int(generator(*parts).integers(0, 2**63 - 1))


def _word(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big")
    if part < 0:
        raise ValueError(f"seed parts must be non-negative, not {part}")
    return int(part)
