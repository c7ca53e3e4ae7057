"""The sections of a dataset spec, one model each: every field with its range and what it means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field, field_validator, model_validator

PositiveRange = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
NonNegativeRange = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _field_of_view(value: Any) -> float | tuple[float, float]:
    low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    if not all(isinstance(angle, int | float) for angle in (low, high)) or not 1 < low <= high < 170:
        raise ValueError(f"an angle between 1 and 170 degrees, or two as [low, high], not {value}")
    return float(low) if low is value else (float(low), float(high))


FieldOfView = Annotated[float | tuple[float, float], BeforeValidator(_field_of_view)]


class Section(pydantic.BaseModel):
    """Fields of a spec: none but the known, none that changes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SplitSpec(Section):
    """A run of scene indices. Indices are unique in the dataset, so a scene's split follows from its index."""

    first: int = Field(ge=0, lt=1_000_000)
    """Index of its first scene."""
    scenes: int = Field(ge=0)
    """How many scenes; their indices follow the first."""
    held_out_assets: bool = False
    """Draw from the assets that no other split uses (see `AssetSpec.held_out_fraction`)."""
    arrangement: Literal[
        "random", "around_table", "row", "small_on_large", "behind", "identical", "outdoor", "rooms"
    ] = "random"
    """How its scenes are arranged: `random` is the Poisson-disk layout, the others are structured."""


class AssetSpec(Section):
    """Which of the lock's assets are drawn from."""

    held_out_fraction: Fraction = 0.0
    """Share of the assets, chosen by a hash of their geometry, that only `held_out_assets` splits may use."""
    kinds: Annotated[int, Field(ge=1)] | None = None
    """At most so many different shapes for the splits that use held-out assets, and as many for the others, chosen by
    a hash of their geometry; fewer are among more. Null for all."""


class LayoutSpec(Section):
    """Poisson-disk layout (I-Scene, section 3.2). Lengths are metres; an asset's unit is its largest extent."""

    objects: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (2, 12)
    """Range of N, the number of instances, a table and a stacked object included."""
    scale: PositiveRange = (0.5, 1.5)
    """Range of the largest extent of an object."""
    table_scale: PositiveRange = (1.2, 2.0)
    """Range of the largest extent of a table."""
    gap: NonNegativeRange = (0.05, 0.5)
    """Range of s in gap = mean(radius) * s."""
    table_probability: Fraction = 0.5
    """Probability that a scene has a table, where an asset can be one."""
    stack_probability: Fraction = 0.5
    """Probability that a table, once drawn, carries an object."""
    stack_fill: PositiveRange = (0.4, 0.9)
    """Range of a stacked object's radius over the distance from the anchor to the polygon's edge."""
    layers: int = Field(default=1, ge=1, le=2)
    """Objects above a table: 1, or 2 for an object on an object where the lower one has a support surface itself."""
    repeat_assets: bool = False
    """Whether an asset may occur more than once in a scene."""
    pose: Literal["yaw", "so3"] = "yaw"
    """Upright and turned about Z, or (`so3`) turned at random and standing on the lowest vertex. What carries an object
    stays upright."""
    max_region: Annotated[float, Field(gt=0)] | None = None
    """Largest side of the square region, metres; None for no limit."""
    density: float = Field(default=0.45, gt=0, le=1)
    """Share of the first region that the discs, each widened by half a gap, cover."""
    tries: int = Field(default=64, ge=1)
    """Candidate positions for an object before the region grows."""
    expansion: float = Field(default=1.1, gt=1)
    """Factor by which the region's side grows."""
    max_expansions: int = Field(default=64, ge=0)
    """How often it may grow before the scene is planned again."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("objects", "scale", "table_scale", "gap", "stack_fill"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"layout.{name}: the first number must not exceed the second, not [{low}, {high}]")
        return self


class CameraSpec(Section):
    """Where a scene's views are taken from. Every camera is square and looks at the middle of the scene's box."""

    kind: Literal["uniform", "trellis", "upper", "random", "front"] = "uniform"
    """How directions are chosen: see `docs/cameras_and_lights.md`."""
    views: int = Field(default=150, ge=1, le=1000)
    """Cameras a scene; views in which an object has no pixel are left out."""
    framing: Literal["tight", "sphere", "trellis"] = "tight"
    """How far a camera stands: as near as every box of the scene fits the picture of this view (`tight`), as the
    scene's bounding sphere fits (`sphere`), or at two times the scene's largest extent (`trellis`)."""
    fov_deg: FieldOfView = 40.0
    """Field of view over the whole width, degrees; two numbers are a range to draw from, view by view."""
    margin: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of the half frame left free around the scene; `trellis` framing heeds none."""
    look_at_jitter: Fraction = 0.0
    """How far off the scene's middle a view may look, over the radius of the scene's bounding sphere."""
    distance_jitter: PositiveRange = (1.0, 1.0)
    """Range of a factor on each view's distance, at least 1."""
    roll_deg: tuple[float, float] = (0.0, 0.0)
    """Range of each view's turn about its own axis, degrees; positive turns the camera counter-clockwise."""
    azimuth_deg: float = Field(default=60.0, ge=0, le=180)
    """For `front`: how far off the -Y side a camera may stand, degrees, either way."""
    elevation_deg: tuple[float, float] = (5.0, 45.0)
    """For `front`: range of the height above the horizon, degrees."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        ranges = (("distance_jitter", 1, 100), ("roll_deg", -360, 360), ("elevation_deg", -90, 90))
        for name, lowest, highest in ranges:
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"cameras.{name}: two numbers from {lowest} to {highest}, in ascending order, not [{low}, {high}]"
                )
        return self


class LightSpec(Section):
    """What lights a scene."""

    kind: Literal["random", "trellis", "hdri"] = "random"
    """`random` draws a key light, weak ones and an ambient, `trellis` has its fixed ones, `hdri` takes pictures."""
    folder: str | None = None
    """For `hdri`: folder of equirectangular pictures, `.hdr` or `.exr`."""
    strength: PositiveRange = (0.4, 0.8)
    """For `hdri`: range of the mean luminance that a scene's picture is scaled to; a white surface has that value on
    average over all directions that it may face."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        # Workers may run in another folder.
        return None if value is None else str(Path(value).expanduser().absolute())

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "hdri") != (self.folder is not None):
            raise ValueError("lights.folder: a folder of .hdr or .exr pictures, with lights.kind hdri and no other")
        low, high = self.strength
        if not low <= high <= 1000:
            raise ValueError(f"lights.strength: two numbers up to 1000, in ascending order, not [{low}, {high}]")
        return self


class GroundSpec(Section):
    """A grey floor to stand on, in no label and no voxel. Ranges are drawn from once a scene."""

    kind: Literal["none", "plane"] = "none"
    """`plane`: very large, at z = 0, and hidden in views from below it."""
    albedo: tuple[Fraction, Fraction] = (0.2, 0.8)
    """Range of the share of light that it throws back."""
    roughness: tuple[Fraction, Fraction] = (0.5, 1.0)
    """Range of its roughness: 0 is a polished floor, 1 a dull one."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("albedo", "roughness"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"ground.{name}: the first number must not exceed the second, not [{low}, {high}]")
        return self


QUALITY_SAMPLES: Mapping[str, Mapping[str, int]] = {
    "cycles": {"fast": 6, "standard": 12, "high": 32},
    "cycles card": {"fast": 16, "standard": 32, "high": 128},
    "eevee": {"fast": 4, "standard": 8, "high": 16},
}
"""Samples a pixel of each engine's qualities; those of `cycles` are denoised, those of a card are not."""


class RenderSpec(Section):
    """What pictures are drawn with, and how renderers are supervised."""

    resolution: int = Field(default=512, ge=16, le=4096)
    """Side of a picture, pixels."""
    engine: Literal["cycles", "eevee", "raycast"] = "cycles"
    """`cycles` traces paths, `eevee` rasterises on a graphics card, `raycast` needs no Blender (previews, tests)."""
    device: Literal["cpu", "gpu", "cuda", "optix", "hip", "oneapi", "metal"] = "cpu"
    """What renders. For Cycles `gpu` is the best kind that this machine has, and is recorded under that kind's name;
    EEVEE knows `cpu` (OpenGL in software) and `gpu` only. What is missing is refused, never replaced."""
    processes_per_gpu: int | None = Field(default=None, ge=1, le=64)
    """Renderers that share a graphics card; null for the engine's own number. Decides no bytes."""
    quality: Literal["fast", "standard", "high"] = "standard"
    """Samples a pixel, by name: see `QUALITY_SAMPLES`; `docs/rendering.md` states what each costs and is worth."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Cycles' paths a pixel before denoising, or EEVEE's antialiasing samples, in place of the quality's own number."""
    threads: int = Field(default=1, ge=1)
    """CPUs of each worker. Part of a dataset's identity: Cycles' last bits depend on it."""
    view_timeout_s: float = Field(default=300.0, gt=0)
    """Longest wait for one view; a scene's first one includes importing its assets."""
    scene_timeout_s: float = Field(default=7200.0, gt=0)
    """Longest wait for all views of a scene together."""
    memory_limit_gib: float | None = Field(default=8.0, gt=0)
    """Memory of one renderer process above which it is ended; null for no limit."""
    recycle_scenes: int | None = Field(default=50, ge=1)
    """Scenes after which a renderer process is replaced by a fresh one; null for never."""

    @property
    def samples_a_pixel(self) -> int:
        """`samples`, or the number that `quality` stands for with this engine (1 for `raycast`, which has none)."""
        engine = "cycles card" if self.engine == "cycles" and self.device != "cpu" else self.engine
        return self.samples or QUALITY_SAMPLES.get(engine, {}).get(self.quality, 1)

    @model_validator(mode="after")
    def _device_of_engine(self) -> Self:
        allowed = {"raycast": ("cpu",), "eevee": ("cpu", "gpu")}.get(self.engine)
        if allowed is not None and self.device not in allowed:
            raise ValueError(f"render.device: {self.engine} runs on {' or '.join(allowed)}, not on {self.device}")
        return self


class FrameSpec(Section):
    """The frame of the voxels."""

    name: Literal["yaw", "full", "canonical"] = "yaw"
    """Turned with the camera about the vertical (`yaw`), with its whole rotation (`full`), or not (`canonical`)."""
    azimuth_offset_deg: float = 0.0
    """The azimuth that counts as zero, degrees."""


class LatentSpec(Section):
    """The latents beside the voxels."""

    encoder: str | None = "mini"
    """`mini` (embedded), a folder or a Hugging Face id with TRELLIS's encoder, or null for none."""


class ShardSpec(Section):
    """How samples are packed."""

    scenes_per_shard: int = Field(default=16, ge=1)
    """Scenes of one tar file."""
    webp_quality: int = Field(default=95, ge=0, le=100)
    """WebP quality of `rgb.webp`; 0 means lossless."""
    depth: bool = False
    """Whether samples have a picture of depth."""


class VerifySpec(Section):
    """Tolerances of `randscene verify`, as shares of an object's largest extent. They decide no bytes of a dataset."""

    penetration: Annotated[float, Field(gt=0)] = 1e-3
    """How deep two meshes may pass into one another, over the smaller one's extent."""
    contact: Annotated[float, Field(gt=0)] = 1e-3
    """How far an object may float above, or be sunk into, what carries it."""
    overhang: Annotated[float, Field(gt=0)] = 1e-6
    """How far a stacked object's outline may leave the supporting polygon."""
