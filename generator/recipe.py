"""SceneRecipe: everything that decides one scene, as plain values with one canonical JSON form."""

import json
from dataclasses import dataclass

from randscene import canonical_json
from randscene.errors import DatasetError, first_line
from randscene.generator.json_records import record_reader

RECIPE_VERSION = 3

DECIMALS = 9
"""Lengths in a recipe are rounded to 1e-9 m."""

MAX_INSTANCES = 255
"""Ids are stored in one byte, and 0 is the background."""

Vector3 = tuple[float, float, float]
Matrix4 = tuple[tuple[float, float, float, float], ...]
"""Four rows of a 4x4 matrix that acts on column vectors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One placed asset; its id in every label is its position in the recipe, counted from 1."""

    uid: str
    sha256: str
    scale: float
    """Uniform factor from the asset's own units to metres."""
    pose: Matrix4
    """Asset frame (Z up, own units) to world (metres, Z up); includes `scale`."""
    support_parent: int | None
    """Id (1-based) of the instance that carries this one, or None for the ground."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """A light. Positions and sizes are in metres, world frame."""

    kind: str
    """`point`, `sun` or `area` (a square)."""
    position: Vector3
    target: Vector3
    """Point it faces (`sun`, `area`); a sun shines along target - position."""
    power: float
    """Watts (`point`, `area`), or irradiance in W/m2 (`sun`), as in Blender."""
    size: float
    """Side of an area light, radius of a point light (metres), angle of a sun (radians)."""
    color: Vector3
    """Linear RGB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentMap:
    """An equirectangular picture that lights the scene from all sides, named by its content."""

    sha256: str
    name: str
    """File name, for people; the content decides."""
    turns: float
    """The picture's middle column lies in the direction +X turned by this towards +Y, in turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """Ambient light of the world. The film is transparent: it is never seen directly."""

    color: Vector3
    """Linear RGB of a uniform light; with an `image` it is what an engine without pictures takes instead."""
    strength: float
    """Factor on `color`. With an `image`: the mean luminance, by solid angle, that it is scaled to."""
    image: EnvironmentMap | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """A floor at z = 0 without an end, in no label; not there for cameras below it."""

    color: Vector3
    """Linear RGB of what it throws back."""
    roughness: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """A square pinhole camera, Blender/OpenGL convention (looks down -Z, +Y up)."""

    camera_to_world: Matrix4
    fov_deg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutFacts:
    """How the layout came about. Radii are in metres, in the order of the instances that stand on the ground."""

    disc_instances: tuple[int, ...]
    """Ids (1-based) of the instances that own a disc: all but the stacked ones, and none where an arrangement kept
    rectangles apart instead."""
    radii: tuple[float, ...]
    centres: tuple[tuple[float, float], ...]
    gap: float
    region: float
    """Side of the square region at the end, metres; without discs, of the square that holds the scene."""
    expansions: int
    tries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRecipe:
    """A pure function of (spec, asset lock, dataset seed, scene index, attempt)."""

    version: int
    scene: int
    split: str
    attempt: int
    seed: int
    """Dataset seed."""
    instances: tuple[Instance, ...]
    lights: tuple[Light, ...]
    background: Background
    look_at: Vector3
    cameras: tuple[Camera, ...]
    resolution: int
    layout: LayoutFacts
    ground: Ground | None = None

    def to_json(self) -> str:
        """Canonical JSON, one line, no newline at the end."""
        return canonical_json.dumps(self)


def recipe_from_json(text: str) -> SceneRecipe:
    """Read a recipe back; `recipe_from_json(r.to_json()) == r`.

    Raises
    ------
    DatasetError
        If the text is not a recipe of this version.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not a scene recipe: {first_line(error)}") from error
    if not isinstance(data, dict) or "version" not in data:
        raise DatasetError("not a scene recipe: it names no version")
    if data["version"] != RECIPE_VERSION:
        raise DatasetError(f"recipe version {data['version']} is not {RECIPE_VERSION}: use the release that wrote it")
    try:
        recipe: SceneRecipe = record_reader(SceneRecipe)(data)
    except ValueError as error:
        raise DatasetError(f"not a scene recipe: {error}") from error
    return recipe
