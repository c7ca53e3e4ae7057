"""Split a noisy render into illumination and guide, so that each is cleaned by what suits it.

A pixel is the mean of a few samples, each the product of a surface's base colour and the light that it gets. Most of
the error of a render with few samples comes from *where* these samples fell: on which side of an outline, on which
texel. The guide pass is the mean base colour of the very same samples, so that in colour / guide this error cancels
out; what stays is illumination, which is smooth, and which a denoiser cleans well. Multiplied by the exact mean base
colour of the pixel (`generator.guided_reconstruction` takes it from rays), it gives the picture back without the error.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECULAR = 0.04
"""Added to every base colour: what a black surface still reflects, and what keeps the quotient finite."""


def illumination(combined: NDArray[Any], guide: NDArray[Any]) -> NDArray[Any]:
    """Light per base colour.

    Where nothing was hit, the picture's mean stands in, which gives the denoiser outlines that are not too hard.

    Parameters
    ----------
    combined : (H, W, 4) float32
        Linear colour, premultiplied with alpha.
    guide : (H, W, 3) float32
        Mean base colour of the same samples, nothing counting as black.

    Returns
    -------
    (H, W, 3) float32
    """
    alpha = combined[..., 3:]
    light = combined[..., :3] / np.maximum(modulator(guide, alpha), np.float32(1e-6))
    hit = alpha[..., 0] > 0
    light[~hit] = light[hit].mean(axis=0, dtype=np.float64) if hit.any() else 0.0
    return light


def modulator(guide: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """What illumination is multiplied with: (..., 3), for a guide (..., 3) and an alpha (..., 1)."""
    return np.maximum(guide, 0) + np.float32(SPECULAR) * np.clip(alpha, 0, 1)
