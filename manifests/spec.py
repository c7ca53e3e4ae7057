"""DatasetSpec: everything that decides what a dataset contains, read from YAML and validated at the edge."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from randscene import settings_file
from randscene.errors import SpecError

PRESETS = Path(__file__).parent / "presets"

PositiveRange = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
NonNegativeRange = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _field_of_view(value: Any) -> float | tuple[float, float]:
    low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    if not all(isinstance(angle, int | float) for angle in (low, high)) or not 1 < low <= high < 170:
        raise ValueError(f"an angle between 1 and 170 degrees, or two as [low, high], not {value}")
    return float(low) if low is value else (float(low), float(high))


FieldOfView = Annotated[float | tuple[float, float], BeforeValidator(_field_of_view)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SplitSpec(_Section):
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


class AssetSpec(_Section):
    """Which of the lock's assets are drawn from."""

    held_out_fraction: Fraction = 0.0
    """Share of the assets, chosen by a hash of their geometry, that only `held_out_assets` splits may use."""
    kinds: Annotated[int, Field(ge=1)] | None = None
    """At most so many different shapes for the splits that use held-out assets, and as many for the others, chosen by
    a hash of their geometry; fewer are among more. Null for all."""


class LayoutSpec(_Section):
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


class CameraSpec(_Section):
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


class LightSpec(_Section):
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


class GroundSpec(_Section):
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


class RenderSpec(_Section):
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


class FrameSpec(_Section):
    """The frame of the voxels."""

    name: Literal["yaw", "full", "canonical"] = "yaw"
    """Turned with the camera about the vertical (`yaw`), with its whole rotation (`full`), or not (`canonical`)."""
    azimuth_offset_deg: float = 0.0
    """The azimuth that counts as zero, degrees."""


class LatentSpec(_Section):
    """The latents beside the voxels."""

    encoder: str | None = "mini"
    """`mini` (embedded), a folder or a Hugging Face id with TRELLIS's encoder, or null for none."""


class ShardSpec(_Section):
    """How samples are packed."""

    scenes_per_shard: int = Field(default=16, ge=1)
    """Scenes of one tar file."""
    webp_quality: int = Field(default=95, ge=0, le=100)
    """WebP quality of `rgb.webp`; 0 means lossless."""
    depth: bool = False
    """Whether samples have a picture of depth."""


class VerifySpec(_Section):
    """Tolerances of `randscene verify`, as shares of an object's largest extent. They decide no bytes of a dataset."""

    penetration: Annotated[float, Field(gt=0)] = 1e-3
    """How deep two meshes may pass into one another, over the smaller one's extent."""
    contact: Annotated[float, Field(gt=0)] = 1e-3
    """How far an object may float above, or be sunk into, what carries it."""
    overhang: Annotated[float, Field(gt=0)] = 1e-6
    """How far a stacked object's outline may leave the supporting polygon."""


class DatasetSpec(_Section):
    """One dataset, as in `presets/*.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Of the dataset."""
    version: int = Field(default=1, ge=1)
    """For the dataset's makers to count; part of its identity."""
    seed: int = Field(default=0, ge=0)
    """Every draw follows from it."""
    splits: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], SplitSpec]
    scene_glb: tuple[str, ...] = ("val",)
    """Splits whose ground-truth geometry is written to `scenes/{index}.glb`."""
    attempts: int = Field(default=5, ge=1)
    """How often a scene is planned, each time from its own seed, before it is given up."""
    assets: AssetSpec = AssetSpec()
    layout: LayoutSpec = LayoutSpec()
    cameras: CameraSpec = CameraSpec()
    lights: LightSpec = LightSpec()
    ground: GroundSpec = GroundSpec()
    render: RenderSpec = RenderSpec()
    frame: FrameSpec = FrameSpec()
    latents: LatentSpec = LatentSpec()
    shards: ShardSpec = ShardSpec()
    verify: VerifySpec = VerifySpec()

    @model_validator(mode="after")
    def _splits_apart(self) -> Self:
        if not self.splits:
            raise ValueError("splits: name at least one")
        runs = sorted((split.first, split.first + split.scenes, name) for name, split in self.splits.items())
        for (_, end, name), (start, _, other) in itertools.pairwise(runs):
            if end > start:
                raise ValueError(f"splits: {name} and {other} share scene indices")
        if runs[-1][1] > 1_000_000:
            raise ValueError("splits: scene indices must stay below 1,000,000")
        return self

    def split_of(self, scene: int) -> str:
        """Name of the split that scene index `scene` belongs to.

        Raises
        ------
        SpecError
            If no split holds it.
        """
        for name, split in self.splits.items():
            if split.first <= scene < split.first + split.scenes:
                return name
        raise SpecError(f"scene {scene} belongs to no split of {self.name}: check the spec's splits")

    def indices(self) -> list[int]:
        """All scene indices, split by split in ascending order of their first index."""
        runs = sorted(self.splits.values(), key=lambda split: split.first)
        return [index for split in runs for index in range(split.first, split.first + split.scenes)]

    def with_scenes(self, count: int) -> "DatasetSpec":
        """The same spec with `count` scenes in its first split (the one with the lowest index)."""
        name = min(self.splits, key=lambda key: self.splits[key].first)
        data = self.model_dump()
        data["splits"][name]["scenes"] = count
        return parse_spec(data, where=self.name)


def parse_spec(data: object, *, where: str) -> DatasetSpec:
    """Validate plain data (as read from YAML) as a DatasetSpec.

    Raises
    ------
    SpecError
        With one line that names the field and what is wrong with it.
    """
    try:
        return DatasetSpec.model_validate(data)
    except pydantic.ValidationError as error:
        raise SpecError(f"{where}: {_what_is_wrong(error)}") from error


def _what_is_wrong(error: pydantic.ValidationError) -> str:
    """The field that is wrong and how, in one line; a field that does not exist before all else, since its right name
    may be the one that is missing."""
    found = error.errors()
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    kind, place = first["type"], first["loc"]
    in_pair = kind == "missing" and isinstance(place[-1], int)
    field = ".".join(str(part) for part in (place[:-1] if in_pair else place))
    if kind == "extra_forbidden":
        return f"{field}: a dataset spec has no such field{_meant(field, place)}"
    if kind == "missing" and not in_pair:
        return f"{field}: missing"
    if in_pair or kind in ("tuple_type", "too_long"):
        wanted = "a list of splits' names" if field == "scene_glb" else "two numbers, [least, most]"
        return f"{field}: {wanted}, not {first['input']!r}"
    if kind in ("dict_type", "model_type"):
        value = "nothing" if first["input"] is None else repr(first["input"])
        return f"{field}: a mapping of fields, not {value}" if field else f"a mapping of fields, not {value}"
    message = first["msg"].removeprefix("Value error, ")
    return message if not field or message.startswith(f"{field}.") else f"{field}: {message}"


def _meant(field: str, place: tuple[int | str, ...]) -> str:
    split = SplitSpec(first=0, scenes=0)
    known = DatasetSpec(name="any", splits={"train": split}).model_dump()
    if place[0] == "splits":
        known["splits"] = {str(place[1]): split.model_dump()}
    return settings_file.did_you_mean(field, settings_file.dotted_names(known))


def preset_names() -> list[str]:
    """Names of the dataset presets that come with the package."""
    return settings_file.preset_names(PRESETS)


def load_spec(name_or_path: str | Path) -> DatasetSpec:
    """A DatasetSpec from a preset's name (`demo`, `rand-15k`, ...) or the path of a YAML file.

    Raises
    ------
    SpecError
        If there is no such preset or file, or it is not a valid spec.
    """
    data = settings_file.read_settings_file(name_or_path, presets=PRESETS, kind="spec")
    return parse_spec(data, where=str(name_or_path))


def with_overrides(spec: DatasetSpec, assignments: Sequence[str]) -> DatasetSpec:
    """The same spec with single fields replaced, each written `section.field=value` (value as YAML).

    Example: `with_overrides(spec, ["cameras.views=24", "layout.gap=[0.1, 0.2]"])`.

    Raises
    ------
    SpecError
        If an assignment is malformed, names no field, or its value is not valid there.
    """
    data = spec.model_dump()
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        *sections, field = path.strip().split(".")
        if not separator or not field:
            raise SpecError(f"{assignment!r} is not of the form section.field=value")
        place: Any = data
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or field not in place:
            hint = settings_file.did_you_mean(path.strip(), settings_file.dotted_names(data))
            raise SpecError(f"{assignment!r}: a dataset spec has no field {path.strip()}{hint}")
        try:
            place[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(f"{assignment!r}: the value is not readable as YAML") from error
    return parse_spec(data, where=spec.name)
