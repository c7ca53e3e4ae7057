"""A study of training runs, read strictly from one YAML file: arms, sizes, seeds, and what they are scored on.

An arm is one way to train; with a seed it is one ordinary run. `sizes` is shorthand for arms that differ only in how
many scenes they see. A subset is always the first N scenes of a dataset, so every smaller one lies in every larger one.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from randscene.errors import SpecError
from randscene.settings_file import yaml_fault
from randscene.train.protocols import PROTOCOLS
from randscene.train.settings import RunSettings, load_settings, parse_settings, preset_names, with_overrides
from randscene.train.settings_record import FieldError, record, require

ARM = "arm:"
"""Begins an `init` that names another arm of the study."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SCENES = re.compile(r"first:[1-9]\d{0,8}|(0|[1-9]\d{0,8}):[1-9]\d{0,8}")
_OWN = {
    "name": "the arm's name",
    "seed": "`seeds`",
    "init": "`init`",
    "data.scenes": "`scenes`",
    "data.mixture": "`mixture`",
}
"""Settings that a study gives itself, and where."""


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """One way to train."""

    mixture: dict[str, float]
    """Names of `data` and the shares of what is drawn from each; they need not add up to 1."""
    preset: str = "mini"
    """A training preset, or the path of a YAML file of settings."""
    set: tuple[str, ...] = ()
    """Settings to replace, each `section.field=value`."""
    scenes: str = ""
    """`first:N` or `A:B`: only these scenes of each dataset; all if empty."""
    init: str = ""
    """First weights: `arm:NAME` (that arm's last checkpoint of the same seed), a path, or a Hugging Face id."""

    def __post_init__(self) -> None:
        _check_mixture(self.mixture)
        _check_scenes(self.scenes)


@dataclass(frozen=True, kw_only=True)
class Arm(ArmSettings):
    """One way to train, with its name."""

    name: str
    family: str = ""
    """The entry of `sizes` that the arm comes from, if it does."""

    @property
    def parent(self) -> str | None:
        """The arm whose last checkpoint this one begins with."""
        return self.init.removeprefix(ARM) if self.init.startswith(ARM) else None


@dataclass(frozen=True, kw_only=True)
class SizesSettings:
    """Arms that differ in their number of scenes alone; NAME-N sees the first N scenes of each dataset."""

    mixture: dict[str, float]
    scenes: tuple[int, ...]
    preset: str = "mini"
    set: tuple[str, ...] = ()
    init: str = ""

    def __post_init__(self) -> None:
        _check_mixture(self.mixture)
        counts = self.scenes
        fits = bool(counts) and min(counts) >= 1 and len({*counts}) == len(counts)
        require(fits, "scenes: give different whole numbers of at least 1")

    def arms(self, name: str) -> list[Arm]:
        """The arms, by rising number of scenes."""
        shared = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "scenes"}
        return [
            Arm(name=f"{name}-{count}", family=name, scenes=f"first:{count}", **shared) for count in sorted(self.scenes)
        ]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Views that every run is scored on."""

    dataset: str
    """One of `data`, or a dataset folder."""
    split: str = "val"
    """`all` for all splits together."""
    scenes: str = ""
    """`first:N` or `A:B`; all if empty."""
    views: int = 0
    """So many views, spread evenly; 0 is all."""
    protocols: tuple[str, ...] = ()
    """What `randscene evaluate` measures after `randscene predict`."""
    loss: bool = False
    """Whether to measure the flow-matching loss, too."""
    pictures: int = 0
    """Of so many views, spread evenly, what each arm's first seed predicts is drawn; needs a protocol."""
    seed: int = 0
    """Of the initial noise, of the surface points and of the loss's noise."""

    def __post_init__(self) -> None:
        _check_scenes(self.scenes)
        require(self.views >= 0, "views: must not be negative")
        require(self.seed >= 0, "seed: must not be negative")
        require(self.pictures >= 0, "pictures: must not be negative")
        require(bool(self.protocols) or not self.pictures, "pictures: only what a protocol scores is predicted")
        require(bool(self.protocols) or self.loss, "protocols: name at least one, or set loss: true")
        require(len({*self.protocols}) == len(self.protocols), "protocols: name each once")
        for name in self.protocols:
            require(name in PROTOCOLS, f"protocols: unknown protocol {name!r}; known: {', '.join(sorted(PROTOCOLS))}")


@dataclass(frozen=True, kw_only=True)
class EvaluationSet(EvaluationSettings):
    """Views that every run is scored on, with their name."""

    name: str

    @property
    def only_split(self) -> str | None:
        """The split, or None for all of them."""
        return None if self.split == "all" else self.split

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is measured: `loss` if it is, then the protocols."""
        return (*(["loss"] if self.loss else []), *self.protocols)


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """A study as its file has it."""

    name: str
    data: dict[str, str]
    """Name to dataset folder (from where the study file lies) or URL."""
    evaluation: dict[str, EvaluationSettings]
    arms: dict[str, ArmSettings] = field(default_factory=dict)
    sizes: dict[str, SizesSettings] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    comparisons: tuple[tuple[str, str], ...] = ()
    """Pairs of arms; the second is compared with the first on the same views."""

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        for section in ("data", "evaluation", "arms", "sizes"):
            for name in getattr(self, section):
                _check_name(section, name)
        require(bool(self.arms or self.sizes), "arms: name at least one, or give sizes")
        require(bool(self.evaluation), "evaluation: name at least one set")
        require(
            bool(self.seeds) and min(self.seeds) >= 0 and len({*self.seeds}) == len(self.seeds),
            "seeds: give different whole numbers, none negative",
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that a study computes."""

    name: str
    data: dict[str, str]
    """Name to absolute dataset folder or URL."""
    arms: tuple[Arm, ...]
    """Those of `sizes` included, after the others."""
    seeds: tuple[int, ...]
    evaluation: tuple[EvaluationSet, ...]
    comparisons: tuple[tuple[str, str], ...]
    folder: Path
    """Where the study file lies: relative paths begin here."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        for name in names:
            require(names.count(name) == 1, f"sizes: there are two arms called {name}")
        for arm in self.arms:
            at = f"sizes.{arm.family}" if arm.family else f"arms.{arm.name}"
            for dataset in arm.mixture:
                known = ", ".join(self.data)
                require(dataset in self.data, f"{at}.mixture: there is no dataset {dataset}; data has {known}")
            self._check_parents(arm, at)
        for pair in self.comparisons:
            require(len({*pair} & {*names}) == 2, f"comparisons: [{', '.join(pair)}] are not two arms of the study")

    def _check_parents(self, arm: Arm, at: str) -> None:
        chain = [arm]
        while (parent := chain[-1].parent) is not None:
            found = [other for other in self.arms if other.name == parent]
            require(bool(found), f"{at}.init: there is no arm {parent}")
            told = " -> ".join(one.name for one in [*chain, *found])
            require(found[0] not in chain, f"{at}.init: {told} is a circle")
            chain += found

    def arm(self, name: str) -> Arm:
        """The arm of this name, which must exist."""
        return next(arm for arm in self.arms if arm.name == name)

    def families(self) -> dict[str, list[Arm]]:
        """The arms of each entry of `sizes`, by rising number of scenes."""
        found: dict[str, list[Arm]] = {}
        for arm in self.arms:
            if arm.family:
                found.setdefault(arm.family, []).append(arm)
        return found

    def url(self, dataset: str) -> str:
        """Where a dataset lies: one of `data`, or a folder that an evaluation set names."""
        return self.data.get(dataset) or _place(dataset, self.folder)


def load_study(path: Path) -> Study:
    """The study of a YAML file.

    Raises
    ------
    SpecError
        With one line that names the file, the field and what is wrong with it.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506 -- a SafeLoader
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise SpecError(f"there is no study file {path}") from error
    except FieldError as error:
        raise SpecError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not readable as YAML: {yaml_fault(error)}") from error
    return parse_study(data, where=str(path), folder=path.parent)


def parse_study(data: object, *, where: str, folder: Path) -> Study:
    """Validate plain data (as read from YAML) as a Study; `folder` is where its relative paths begin.

    Raises
    ------
    SpecError
        With one line that names `where`, the field and what is wrong with it.
    """
    read = record(StudySettings, data, (), where)
    try:
        return Study(
            name=read.name,
            data={name: _place(place, folder) for name, place in read.data.items()},
            arms=(
                *(Arm(name=name, **vars(arm)) for name, arm in read.arms.items()),
                *(arm for name, sizes in read.sizes.items() for arm in sizes.arms(name)),
            ),
            seeds=read.seeds,
            evaluation=tuple(EvaluationSet(name=name, **vars(one)) for name, one in read.evaluation.items()),
            comparisons=read.comparisons,
            folder=folder,
        )
    except FieldError as error:
        raise SpecError(f"{where}: {error}") from error


def arm_settings(study: Study, arm: Arm, *, seed: int) -> RunSettings:
    """The settings of one run, but for its data and first weights, which depend on what lies on disk.

    Raises
    ------
    SpecError
        Naming the arm, if its preset or one of its overrides is refused, or the study itself gives that setting.
    """
    at = f"sizes.{arm.family}" if arm.family else f"arms.{arm.name}"
    for override in arm.set:
        name = override.partition("=")[0].strip()
        if name in _OWN:
            raise SpecError(f"{at}.set: {name} is given by {_OWN[name]}, not by set")
    preset = arm.preset if arm.preset in preset_names() else _place(arm.preset, study.folder)
    try:
        settings = with_overrides(load_settings(preset), arm.set)
    except SpecError as error:
        raise SpecError(f"{at}: {error}") from error
    return dataclasses.replace(settings, name=arm.name, seed=seed)


def with_data(settings: RunSettings, *, mixture: Mapping[str, float], scenes: str, init: str) -> RunSettings:
    """`settings` with what an arm says about data and first weights.

    `mixture` is by the trainer's names of the datasets; of a single one it says nothing and is left out.
    """
    data: dict[str, Any] = settings.to_dict()
    data["data"] |= {"mixture": dict(mixture) if len(mixture) > 1 else {}, "scenes": scenes}
    return parse_settings(data | {"init": init}, where=settings.name)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a name that stands twice in a mapping, of which YAML would keep the last alone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            require(names.count(name) == 1, f"{name} is there twice, near line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _check_name(section: str, name: str) -> None:
    fits = _NAME.fullmatch(name) is not None
    require(fits, f"{section}: {name!r} must be letters, digits, '-', '_' and '.', as it names folders")


def _check_mixture(mixture: Mapping[str, float]) -> None:
    require(bool(mixture), "mixture: name at least one dataset")
    for name, share in mixture.items():
        require(share > 0, f"mixture.{name}: must be positive; leave a dataset without a share out")


def _check_scenes(scenes: str) -> None:
    require(not scenes or _SCENES.fullmatch(scenes) is not None, f"scenes: expected first:N or A:B, not {scenes!r}")


def _place(text: str, folder: Path) -> str:
    """A path that a study file gives, from where the file lies; URLs stay."""
    return text if "://" in text else str((folder / text).absolute())
