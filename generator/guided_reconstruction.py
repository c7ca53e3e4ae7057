"""A clean picture from a render with a few samples a pixel: denoised light times the exact guide.

`randscene.demodulation` says why. The guide, mean base colour and coverage of each pixel, comes from rays
(`guide_sampler`), and is checked against the renderer's own, whose few samples estimate the same: a surface on which
the two differ by more than chance reads differently in the two programs, and there the renderer's is kept.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.compiled import compiled
from randscene.demodulation import modulator
from randscene.display import srgb_on_black
from randscene.generator.guide_sampler import MISS, GuidePixels, GuideSampler
from randscene.generator.recipe import Camera
from randscene.generator.rendered_view import ShadingLayers

RAYS = 16
"""Rays through a pixel whose guide is not plain."""

PLAIN = 0.004
"""Range of the guide over a pixel and its neighbours below which its own few samples are exact enough."""

AGREEMENT = 3.0
"""How much larger the squares of the differences between the two guides may be than sampling explains, as a mean over a
surface's pixels."""

TOLERANCE = 0.02
"""Difference of the two guides that is never held against a surface: rounding, texture filters."""

ENOUGH_PIXELS = 8
"""Pixels that show one surface alone and suffice to judge it by."""


def reconstruct(
    layers: ShadingLayers, sampler: GuideSampler, camera: Camera, resolution: int, samples: int, *, floor: bool = False
) -> NDArray[Any]:
    """The picture of a view.

    Parameters
    ----------
    layers : ShadingLayers
        Of that view.
    sampler : GuideSampler
        Of that scene.
    camera : Camera
    resolution : int
        Side of the picture, pixels.
    samples : int
        Samples a pixel that the layers were traced with.
    floor : bool
        Whether the view shows something that the sampler does not know (a ground plane): outlines before it are then
        as the renderer has them.

    Returns
    -------
    (R, R, 3) uint8, sRGB on black, row 0 at the top.
    """
    light = np.ascontiguousarray(layers.light.transpose(1, 2, 0), np.float32)
    guide = np.ascontiguousarray(layers.guide.transpose(1, 2, 0), np.float32)
    alpha = layers.alpha.astype(np.float32)
    rows, columns = np.nonzero(_compiled()(guide, alpha, np.float32(PLAIN)))
    if len(rows):
        met = sampler.sample(camera, resolution, rows + layers.top, columns + layers.left, RAYS)
        own = guide[rows, columns]
        good = ~met.clear & _agreeing(met, own, samples, sampler.n_surfaces)
        if floor:
            good &= met.coverage == 1
        # Both are means of independent samples: together they are better than either.
        share = np.float32(RAYS / (RAYS + samples))
        guide[rows[good], columns[good]] += share * (met.color[good] - own[good])
        alpha[rows[good], columns[good]] += share * (met.coverage[good] - alpha[rows[good], columns[good]])
    color = np.concatenate([light * modulator(guide, alpha[..., None]), alpha[..., None]], axis=2)
    picture = np.zeros((resolution, resolution, 3), np.uint8)
    height, width = alpha.shape
    picture[layers.top : layers.top + height, layers.left : layers.left + width] = srgb_on_black(color)
    return picture


def _agreeing(met: GuidePixels, own: NDArray[Any], samples: int, n_surfaces: int) -> NDArray[Any]:
    """(K,) bool: every surface in the pixel looks the same to the rays and to the renderer, `own` (K, 3)."""
    chance = met.variance * np.float32(1 / samples + 1 / len(met.surfaces))
    excess = ((own - met.color) ** 2).mean(axis=1) / (chance + np.float32(TOLERANCE**2))
    alone = (met.surfaces == met.surfaces[0]).all(axis=0)
    doubted = np.zeros(n_surfaces, np.bool_)
    # Where a surface nowhere fills a pixel, the pixels that it shares judge it.
    for pixels, least in ((np.ones_like(alone), 1), (alone, ENOUGH_PIXELS)):
        first = met.surfaces[0][pixels] + 1

        def total(values: NDArray[Any], first: NDArray[Any] = first, pixels: NDArray[Any] = pixels) -> NDArray[Any]:
            return np.bincount(first, values[pixels].astype(np.float64), minlength=n_surfaces + 1)[1:]

        count = total(np.ones(len(own)))
        judged = count >= least
        count = np.maximum(count, 1)
        shift = np.max([np.abs(total(own[:, i] - met.color[:, i])) for i in range(3)], axis=0) / count
        by_chance = 4 * np.sqrt(total(chance)) / count
        differs = (total(excess) / count > AGREEMENT) | (shift > TOLERANCE / 2 + by_chance)
        doubted[judged] = differs[judged]
    if not doubted.any():
        return np.ones(len(own), np.bool_)
    return ~(doubted[met.surfaces] & (met.surfaces != MISS)).any(axis=0)


@cache
def _compiled() -> Callable[..., NDArray[Any]]:
    return compiled(_needs_rays)


def _needs_rays(guide: NDArray[Any], alpha: NDArray[Any], plain: np.float32) -> NDArray[Any]:
    """(H, W) bool: something is there, and the guide (H, W, 3) or the alpha (H, W) of the surroundings is not even."""
    height, width = alpha.shape
    needed = np.zeros((height, width), np.bool_)
    for row in range(height):
        top, bottom = max(row - 1, 0), min(row + 2, height)
        for column in range(width):
            left, right = max(column - 1, 0), min(column + 2, width)
            most = np.float32(0)
            least = np.float32(1)
            spread = np.float32(0)
            for i in range(top, bottom):
                for j in range(left, right):
                    most, least = max(most, alpha[i, j]), min(least, alpha[i, j])
                    for channel in range(3):
                        spread = max(spread, abs(guide[i, j, channel] - guide[row, column, channel]))
            needed[row, column] = most > 0 and (least < np.float32(0.999) or spread > plain)
    return needed
