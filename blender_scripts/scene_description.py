"""What the renderer needs of a SceneRecipe, read and checked once. Imports no bpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.protocol import MAX_INSTANCES
from randscene.errors import RenderError

LIGHT_KINDS = ("point", "sun", "area")


@dataclass(frozen=True, kw_only=True)
class PlacedAsset:
    """One instance. Its id is its position in the scene, counted from 1."""

    uid: str
    pose: NDArray[Any]
    """(4, 4) float64: asset frame (Z up, own units) to world (metres, Z up)."""


@dataclass(frozen=True, kw_only=True)
class LightSource:
    """A light, world frame, metres. See `Light` in the recipe for what `power` and `size` mean for each kind."""

    kind: str
    position: NDArray[Any]
    """(3,) float64."""
    target: NDArray[Any]
    """(3,) float64."""
    power: float
    size: float
    color: tuple[float, float, float]
    """Linear RGB."""


@dataclass(frozen=True, kw_only=True)
class WorldImage:
    """An equirectangular picture that lights the scene. See `EnvironmentMap` in the recipe."""

    sha256: str
    name: str
    turns: float


@dataclass(frozen=True, kw_only=True)
class GroundSurface:
    """What the floor looks like."""

    color: tuple[float, float, float]
    """Linear RGB."""
    roughness: float


@dataclass(frozen=True, kw_only=True)
class Viewpoint:
    """A square pinhole camera that looks down -Z with +Y up."""

    camera_to_world: NDArray[Any]
    """(4, 4) float64, metres."""
    fov_deg: float


@dataclass(frozen=True, kw_only=True)
class SceneDescription:
    """One scene: what stands in it, what lights it, from where it is seen."""

    assets: tuple[PlacedAsset, ...]
    lights: tuple[LightSource, ...]
    world_color: tuple[float, float, float]
    world_strength: float
    """Factor on `world_color`, or the mean luminance of `world_image`."""
    world_image: WorldImage | None
    ground: GroundSurface | None
    viewpoints: tuple[Viewpoint, ...]


def scene_description(recipe: Mapping[str, Any]) -> SceneDescription:
    """Read a recipe's plain JSON.

    Raises
    ------
    RenderError
        With reason `bad_request` and the field that is missing or out of range.
    """
    try:
        scene = SceneDescription(
            assets=tuple(
                PlacedAsset(uid=_text(item["uid"], "uid"), pose=_matrix(item["pose"], "pose"))
                for item in recipe["instances"]
            ),
            lights=tuple(_light(item) for item in recipe["lights"]),
            world_color=_triple(recipe["background"]["color"], "background color"),
            world_strength=_number(recipe["background"]["strength"], "background strength", low=0.0),
            world_image=_world_image(recipe["background"]["image"]),
            ground=_ground(recipe["ground"]),
            viewpoints=tuple(_viewpoint(item) for item in recipe["cameras"]),
        )
    except KeyError as error:
        raise RenderError("bad_request", f"the recipe lacks the field {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise RenderError("bad_request", f"the recipe is malformed: {error}") from error
    if not 1 <= len(scene.assets) <= MAX_INSTANCES:
        raise RenderError("bad_request", f"a scene holds 1 to {MAX_INSTANCES} instances, not {len(scene.assets)}")
    return scene


def _light(item: Mapping[str, Any]) -> LightSource:
    light = LightSource(
        kind=_text(item["kind"], "light kind"),
        position=np.array(_triple(item["position"], "light position")),
        target=np.array(_triple(item["target"], "light target")),
        power=_number(item["power"], "light power", low=0.0),
        size=_number(item["size"], "light size", low=0.0),
        color=_triple(item["color"], "light color"),
    )
    if light.kind not in LIGHT_KINDS:
        raise ValueError(f"light kind {light.kind} is not one of {', '.join(LIGHT_KINDS)}")
    if light.kind != "point" and np.linalg.norm(light.target - light.position) < 1e-9:
        raise ValueError(f"a light of kind {light.kind} must have a target away from its position")
    return light


def _world_image(item: Mapping[str, Any] | None) -> WorldImage | None:
    if item is None:
        return None
    return WorldImage(
        sha256=_text(item["sha256"], "background image sha256"),
        name=_text(item["name"], "background image name"),
        turns=_number(item["turns"], "background image turns"),
    )


def _ground(item: Mapping[str, Any] | None) -> GroundSurface | None:
    if item is None:
        return None
    return GroundSurface(
        color=_triple(item["color"], "ground color"), roughness=_number(item["roughness"], "ground roughness", low=0.0)
    )


def _viewpoint(item: Mapping[str, Any]) -> Viewpoint:
    fov = _number(item["fov_deg"], "fov_deg")
    if not 0.1 <= fov <= 175.0:
        raise ValueError(f"fov_deg must be from 0.1 to 175, not {fov}")
    return Viewpoint(camera_to_world=_matrix(item["camera_to_world"], "camera_to_world"), fov_deg=fov)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def _number(value: Any, name: str, low: float = -np.inf) -> float:
    number = float(value)
    if not np.isfinite(number) or number < low:
        raise ValueError(f"{name} is out of range: {value}")
    return number


def _triple(value: Sequence[Any], name: str) -> tuple[float, float, float]:
    x, y, z = (_number(item, name) for item in value)
    return x, y, z


def _matrix(value: Any, name: str) -> NDArray[Any]:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise ValueError(f"{name} must be a finite 4x4 matrix with last row 0 0 0 1")
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
        raise ValueError(f"{name} is singular")
    return matrix
