"""Footprint: the rectangle that an object covers on the ground, and the distance that two of them keep."""

from dataclasses import dataclass

from randscene.generator.placement import PlacedAsset

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """An object's horizontal box, turned as the object is; metres, world."""

    centre: Point
    half: Point
    """Half the sides along the rectangle's own axes."""
    turn: Point
    """Cosine and sine of the yaw."""

    @classmethod
    def of(cls, item: PlacedAsset) -> "Footprint":
        width, depth, _ = item.posture.extents
        return cls(centre=item.centre, half=(item.scale * width / 2, item.scale * depth / 2), turn=item.turn)

    def axes(self) -> tuple[Point, Point]:
        """Unit vectors along the two sides."""
        cosine, sine = self.turn
        return (cosine, sine), (-sine, cosine)

    def reach(self, axis: Point) -> float:
        """Half the rectangle's length as seen along a unit vector, metres."""
        return sum(abs(_dot(side, axis)) * half for side, half in zip(self.axes(), self.half))

    def box(self) -> Point:
        """Half the sides of the axis-aligned box around the rectangle, metres."""
        return self.reach((1.0, 0.0)), self.reach((0.0, 1.0))

    def apart(self, other: "Footprint", gap: float) -> bool:
        """Whether a strip of width `gap` separates the two (the separating-axis theorem: one along a side suffices)."""
        between = (other.centre[0] - self.centre[0], other.centre[1] - self.centre[1])
        return any(
            abs(_dot(between, axis)) >= self.reach(axis) + other.reach(axis) + gap
            for axis in (*self.axes(), *other.axes())
        )

    def distance_along(self, direction: Point, other: "Footprint", gap: float) -> float:
        """The least distance from this centre, along a unit vector, at which `other` is apart, wherever it is now."""
        least = [
            (self.reach(axis) + other.reach(axis) + gap) / abs(_dot(direction, axis))
            for axis in (*self.axes(), *other.axes())
            if abs(_dot(direction, axis)) > 1e-6
        ]
        return min(least)


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1]
