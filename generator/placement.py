"""An asset standing somewhere: its pose, and what is known of its place from its bounding box alone."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from randscene.generator.posture import Posture
from randscene.generator.recipe import DECIMALS, Instance, Vector3
from randscene.manifests.asset_record import AssetRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedAsset:
    """An asset in some posture, turned about Z, its box centred over a point and its lowest vertex on a plane."""

    asset: AssetRecord
    posture: Posture
    scale: float
    """Uniform factor from the asset's own units to metres."""
    turn: tuple[float, float]
    """Cosine and sine of the yaw."""
    centre: tuple[float, float]
    """Of the horizontal bounding box, metres, world."""
    base: float
    """Height of its lowest point, metres."""
    parent: int | None
    """Id (1-based) of the instance that carries it, or None for the ground."""

    def turned(self, x: float, y: float) -> tuple[float, float]:
        """A horizontal vector (metres) of the posture's frame, in the world."""
        cosine, sine = self.turn
        return cosine * x - sine * y, sine * x + cosine * y

    def moved(self, x: float, y: float) -> "PlacedAsset":
        """The same, shifted horizontally (metres)."""
        return replace(self, centre=(self.centre[0] + x, self.centre[1] + y))

    def corners(self) -> list[Vector3]:
        """The eight corners of the turned bounding box, metres, world."""
        width, depth, height = (self.scale * extent for extent in self.posture.extents)
        flat = [self.turned(x * width / 2, y * depth / 2) for x, y in itertools.product((-1, 1), (-1, 1))]
        return [
            (self.centre[0] + x, self.centre[1] + y, self.base + z)
            for (x, y), z in itertools.product(flat, (0.0, height))
        ]

    def instance(self) -> Instance:
        """The recipe's entry: asset frame to world."""
        (left, front, bottom), (width, depth, _) = self.posture.bounds_min, self.posture.extents
        rows = self.posture.rotation
        # An asset's own unit may be a millimetre or a mile, so what multiplies it keeps digits rather than decimals.
        cosine, sine = (_significant(self.scale * value) for value in self.turn)
        scale = _significant(self.scale)
        x, y = left + width / 2, front + depth / 2
        linear = (
            [_significant(cosine * a - sine * b) for a, b in zip(rows[0], rows[1])],
            [_significant(sine * a + cosine * b) for a, b in zip(rows[0], rows[1])],
            [_significant(scale * c) for c in rows[2]],
        )
        shift = (
            _length(self.centre[0] - (cosine * x - sine * y)),
            _length(self.centre[1] - (sine * x + cosine * y)),
            _length(self.base - scale * bottom),
        )
        return Instance(
            uid=self.asset.uid,
            sha256=self.asset.sha256,
            scale=scale,
            pose=(*((a, b, c, t) for (a, b, c), t in zip(linear, shift)), (0.0, 0.0, 0.0, 1.0)),
            support_parent=self.parent,
        )


def bounds(placed: Sequence[PlacedAsset]) -> tuple[Vector3, Vector3]:
    """Lower and upper corner of the axis-aligned box around all turned bounding boxes, metres."""
    columns = list(zip(*(corner for item in placed for corner in item.corners())))
    low, high = [min(column) for column in columns], [max(column) for column in columns]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _significant(value: float) -> float:
    """Rounded to 12 significant digits; adding zero turns -0.0 into 0.0."""
    return float(f"{value:.11e}") + 0.0


def _length(value: float) -> float:
    return round(value, DECIMALS) + 0.0
