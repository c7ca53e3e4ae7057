"""AssetRecord: one line of an asset lock."""

from dataclasses import dataclass
from typing import Literal

UpAxis = Literal["Y", "Z"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """The top surface of an asset that can carry objects.

    All lengths and coordinates are in the asset's own frame after its conversion to Z-up, in its own units.
    """

    height: float
    """Z of the supporting plane."""
    area: float
    """Area of the polygon."""
    clearance: float
    """Distance from `anchor` to the nearest edge of the polygon."""
    anchor: tuple[float, float]
    """Point (x, y) where an object is put: the centroid when it lies well inside, else the most interior point."""
    polygon: tuple[tuple[float, float], ...]
    """Outer ring (x, y), counter-clockwise, first point not repeated."""
    holes: tuple[tuple[tuple[float, float], ...], ...]
    """Rings (x, y) inside the polygon on which nothing may stand: openings, and whatever rises above the plane."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetRecord:
    """What a build knows of one asset; generation reads only this, and checks `sha256`.

    `extents`, `bounds_min` and `support` are in the asset frame: right-handed, Z up, the file's own units
    (a Y-up file, such as any glTF, is converted by (x, y, z) -> (x, -z, y)).
    """

    uid: str
    source: str
    """`procedural`, `directory` or `objaverse`."""
    locator: str
    """Path or URL of the file; a relative path is relative to the lock's folder."""
    sha256: str
    geometry: str
    """Hash of the triangles alone (see `geometry_hash.geometry_hash`): copies that differ in materials, names, units or
    vertex order share it. Empty when the file could not be read."""
    licence: str
    """SPDX identifier, or `NOASSERTION` when none is known."""
    attribution: str
    """Author and origin, as the licence asks for it; may be empty."""
    up_axis: UpAxis
    extents: tuple[float, float, float]
    """Size of the axis-aligned bounding box (x, y, z)."""
    bounds_min: tuple[float, float, float]
    """Lower corner of the axis-aligned bounding box."""
    n_faces: int
    has_texture: bool
    category: str
    """Family or class name when the source knows one; may be empty. Never used to decide what a mesh can do."""
    support: Support | None
    status: str
    """`ok`, or the typed reason why the asset cannot be used."""
