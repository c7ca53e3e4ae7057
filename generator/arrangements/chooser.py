"""Chooser: what a structured scene is made of. Counts, assets and sizes, drawn from one stream."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from randscene.errors import PlanError
from randscene.generator.asset_pool import AssetPool
from randscene.generator.placement import PlacedAsset
from randscene.generator.posture import upright
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec_sections import LayoutSpec

LOOKS = 16
"""How many assets are looked at for one of the shape that is wanted, before any will do."""
_LN_2 = 0.6931471805599453

Item = TypeVar("Item")


class Chooser:
    """Draws for one scene; only `random()` of the stream is used, once a draw.

    Parameters
    ----------
    rules : LayoutSpec
    pool : AssetPool
    rng : numpy.random.Generator
    """

    def __init__(self, rules: LayoutSpec, pool: AssetPool, rng: np.random.Generator) -> None:
        self.rules = rules
        self.pool = pool
        self.rng = rng
        self._used: set[str] = set()

    def between(self, low: float, high: float) -> float:
        """Uniform."""
        return low + (high - low) * self.rng.random()

    def log_between(self, low: float, high: float) -> float:
        """Log-uniform: as likely from 1 to 2 as from 2 to 4."""
        octaves = 0
        while low * 2.0 ** (octaves + 1) <= high:
            octaves += 1
        # The range in octaves, a whole number and a fraction; bisection, since a library's log may differ by a bit.
        bottom, top = 0.0, 1.0
        for _ in range(52):
            middle = (bottom + top) / 2
            bottom, top = (middle, top) if low * 2.0**octaves * power_of_two(middle) <= high else (bottom, middle)
        return min(low * power_of_two((octaves + bottom) * self.rng.random()), high)

    def whole(self, low: int, high: int) -> int:
        """A whole number, uniform, both ends included."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in any order, each equally likely."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.whole(0, last)
            result[last], result[other] = result[other], result[last]
        return result

    def count(self, own: tuple[int, int]) -> int:
        """How many objects: uniform over an arrangement's own range, cut to `layout.objects`."""
        return self.whole(*cut_range(own, self.rules.objects))

    def asset(
        self, records: Sequence[AssetRecord] | None = None, like: Callable[[AssetRecord], bool] | None = None
    ) -> AssetRecord:
        """An asset that the scene does not hold yet (any, with `layout.repeat_assets`).

        Parameters
        ----------
        records : sequence of AssetRecord, optional
            What to draw from; the whole pool by default, and when all of `records` are taken.
        like : callable, optional
            The shape that is wanted, if one of `LOOKS` draws has it.
        """
        for source in (records or (), self.pool.assets):
            if any(self._is_free(record) for record in source):
                found = self._free_one(source)
                for _ in range(LOOKS - 1 if like is not None else 0):
                    if like is None or like(found):
                        break
                    found = self._free_one(source)
                self._used.add(found.uid)
                return found
        raise PlanError(
            f"a scene needs more than the {len(self.pool.assets)} assets there are: set layout.repeat_assets"
        )

    def _is_free(self, record: AssetRecord) -> bool:
        return self.rules.repeat_assets or record.uid not in self._used

    def _free_one(self, source: Sequence[AssetRecord]) -> AssetRecord:
        while True:
            record = source[int(self.rng.random() * len(source))]
            if self._is_free(record):
                return record


def cut_range(own: tuple[int, int], asked: tuple[int, int]) -> tuple[int, int]:
    """What two ranges have in common; empty when the first number exceeds the second."""
    return max(own[0], asked[0]), min(own[1], asked[1])


def power_of_two(exponent: float) -> float:
    """2 to a power that is not negative, with the same bits on every machine: additions and multiplications alone."""
    whole = int(exponent)
    x = (exponent - whole) * _LN_2
    result = 1.0
    for k in range(20, 0, -1):
        result = 1.0 + x / k * result
    return result * 2.0**whole


def standing(asset: AssetRecord, size: float, turns: float, centre: tuple[float, float] = (0.0, 0.0)) -> PlacedAsset:
    """An upright asset on the ground.

    Parameters
    ----------
    asset : AssetRecord
    size : float
        Its largest extent, metres.
    turns : float
        Yaw, in turns; at 0 its front looks along -Y.
    centre : (float, float)
        Of its horizontal box, metres.
    """
    return PlacedAsset(
        asset=asset,
        posture=upright(asset),
        scale=size / max(asset.extents),
        turn=cos_sin(turns),
        centre=centre,
        base=0.0,
        parent=None,
    )


def is_tall(asset: AssetRecord) -> bool:
    """Clearly higher than wide and deep: a wardrobe, a standing lamp, no ball."""
    return asset.extents[2] >= 1.2 * max(asset.extents[:2])


def is_slab(asset: AssetRecord) -> bool:
    """Lower than half its horizontal diagonal: a thing that hides little of what is behind it."""
    return asset.extents[2] < math.sqrt(asset.extents[0] ** 2 + asset.extents[1] ** 2) / 2
