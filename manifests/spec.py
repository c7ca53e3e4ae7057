"""DatasetSpec: everything that decides what a dataset contains, read from YAML and validated at the edge."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
import yaml
from pydantic import Field, model_validator

from randscene import settings_file
from randscene.errors import SpecError
from randscene.manifests.spec_sections import (
    AssetSpec,
    CameraSpec,
    FrameSpec,
    GroundSpec,
    LatentSpec,
    LayoutSpec,
    LightSpec,
    RenderSpec,
    Section,
    ShardSpec,
    SplitSpec,
    VerifySpec,
)

PRESETS = Path(__file__).parent / "presets"


class DatasetSpec(Section):
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
