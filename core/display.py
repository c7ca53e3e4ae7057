"""From a linear render to 8-bit pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def srgb_on_black(combined: NDArray[Any]) -> NDArray[Any]:
    """The picture that a transparent sRGB image gives when it is laid on black.

    The colour is un-premultiplied, put through the sRGB curve (Blender's view transform `Standard`), and only
    then multiplied with alpha: edges blend in display space, as image tools blend an RGBA file.

    Parameters
    ----------
    combined : (H, W, 4) float32
        Linear Rec. 709 colour, premultiplied with alpha.

    Returns
    -------
    (H, W, 3) uint8
    """
    # Doubles: rounding must not depend on how wide the vector units of a processor are.
    alpha = np.clip(combined[..., 3].astype(np.float64), 0.0, 1.0)
    covered = alpha > 0
    coverage = alpha[covered][:, None]
    straight = np.clip(combined[covered][:, :3].astype(np.float64) / coverage, 0.0, 1.0)
    out = np.zeros((*combined.shape[:2], 3), np.uint8)
    out[covered] = np.floor(srgb_curve(straight) * coverage * 255.0 + 0.5).astype(np.uint8)
    return out


def srgb_curve(linear: NDArray[Any]) -> NDArray[Any]:
    """Linear light in [0, 1] to the sRGB signal in [0, 1] (IEC 61966-2-1), float64 of the same shape."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
