"""What a study still has to do: its runs and scores, what decides each, and what of them is there already.

OUT/arms/ARM.json, OUT/evaluation/SET.json   what the study was begun with; a change is refused, an addition is not
OUT/runs/ARM-seedN/                          ordinary run folders
OUT/scores/SET/ARM-seedN/                    predictions/, one folder a protocol, and one `KIND.json` for each measured
                                             thing, written last: its presence is what a rerun looks at
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from randscene.canonical_json import digest
from randscene.errors import CheckpointError, DatasetError, SpecError
from randscene.files import write_atomic
from randscene.shards import Dataset, open_dataset
from randscene.shards.dataset_info import read_info
from randscene.shards.store import open_store
from randscene.train.batch import check_frame, same_frame
from randscene.train.checkpoint import (
    check_run_folder,
    checkpoint_sha256,
    list_checkpoints,
    load_run_settings,
    read_state,
)
from randscene.train.evaluation_statistics import scene_of
from randscene.train.initial_weights import check_source
from randscene.train.prediction_view import choose_views
from randscene.train.protocols import load_protocol
from randscene.train.scaling_study import Arm, EvaluationSet, Study, arm_settings, with_data
from randscene.train.scaling_units import Piece, Plan, Unit, unit_name
from randscene.train.settings import RunSettings
from randscene.train.training_data import unused_name

SCHEMA = 1


class StudyFolder:
    """A study in its folder.

    Parameters
    ----------
    study : Study
    out : Path
    """

    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out = study, out
        self._datasets: dict[tuple[str, str | None, str], Dataset] = {}
        self._infos: dict[str, dict[str, Any]] = {}
        self._frames: dict[str, dict[str, Any]] = {}

    def run(self, unit: Unit) -> Path:
        return self.out / "runs" / unit.name

    def scores(self, unit: Unit, name: str) -> Path:
        """Of one run on the evaluation set `name`."""
        return self.out / "scores" / name / unit.name

    def lock(self, name: str) -> Path:
        return self.out / "locks" / f"{name}.lock"

    def plan(self, part: tuple[int, int] = (1, 1)) -> Plan:
        """What there is and what is left; writes nothing.

        Every arm keeps its place whatever is done already, and an arm goes to the part of the one that it begins
        from: parts agree on who does what without a word, and none waits for another.

        Parameters
        ----------
        part : (int, int)
            The i-th of n, counted from 1.

        Raises
        ------
        SpecError
            If the part is none, the settings of an arm are refused, or an evaluation set cannot be scored where it
            lies.
        DatasetError
            If a dataset cannot be read, has fewer scenes than asked for, or lacks the true meshes that are still to be
            scored against.
        CheckpointError
            If the folder holds another study: the message names what differs.
        """
        number, count = part
        if not 1 <= number <= count:
            raise SpecError(f"part {number}/{count}: give i/n with i from 1 to n")
        self._check()
        units = tuple(self._unit(arm, seed) for arm in self.study.arms for seed in self.study.seeds)
        for wanted in self.study.evaluation:
            if any(unit.lacks_scores(wanted.name) for unit in units):
                self._check_truth(wanted)
        order = {name: place for place, name in enumerate(self._roots)}
        chosen = [
            unit for unit in units if order[unit_name(self._root(unit.arm).name, unit.seed)] % count == number - 1
        ]
        return Plan(units=units, mine=tuple(sorted(chosen, key=lambda unit: self._depth(unit.arm))))

    def open(self) -> None:
        """Write down what the study is, if it is not there yet; `plan` has found that it fits."""
        for path, record in self._records:
            if not path.exists():
                write_atomic(path, json.dumps({"schema": SCHEMA, **record}, indent=1, sort_keys=True) + "\n")

    def check_beginnings(self, units: Iterable[Unit]) -> None:
        """Refuse, before the first is trained, what `train` would refuse when its turn comes.

        Raises
        ------
        CheckpointError
            If an arm begins from weights that are not there.
        DatasetError
            If an arm's dataset is of another frame than its settings.
        """
        for arm, settings in {unit.arm.name: (unit.arm, unit.settings) for unit in units if not unit.trained}.values():
            try:
                if arm.init and arm.parent is None:
                    check_source(self._initial(arm))
                for name in arm.mixture:
                    first = self._dataset(name, settings.data.split, arm.scenes)[0]
                    check_frame(first.meta, settings.data, where=f"dataset {name}")
            except (CheckpointError, DatasetError) as error:
                raise type(error)(f"arm {arm.name}: {error}") from error

    def chosen_keys(self, wanted: EvaluationSet) -> list[str]:
        """Keys of an evaluation set's views, sorted."""
        data = self.evaluation_data(wanted)
        return sorted(data.keys[index] for index in choose_views(data, views=wanted.views or None))

    def evaluation_data(self, wanted: EvaluationSet) -> Dataset:
        """The dataset of an evaluation set, its split and scenes alone."""
        return self._dataset(wanted.dataset, wanted.only_split, wanted.scenes)

    def kinds(self, unit: Unit, wanted: EvaluationSet) -> tuple[str, ...]:
        """What is measured of a run on an evaluation set: the loss only where both are of one frame."""
        same = same_frame(self._frame_of(wanted), unit.settings.data)
        return tuple(kind for kind in wanted.kinds if same or kind != "loss")

    def data(self, arm: Arm) -> list[str]:
        """Where an arm's datasets lie."""
        return [self.study.url(name) for name in arm.mixture]

    def run_settings(self, unit: Unit) -> RunSettings:
        """The settings to train a unit with.

        Raises
        ------
        CheckpointError
            If it begins from a run that is not there.
        """
        if unit.arm.parent is not None:
            run = self.out / "runs" / unit_name(unit.arm.parent, unit.seed)
            found = list_checkpoints(run)
            if not found:
                raise CheckpointError(f"{run} has no checkpoint for {unit.name} to begin from: train it first")
            init = str(found[-1])
        else:
            init = self._initial(unit.arm)
        return self._settings(unit.arm, unit.seed, init=init)

    def _initial(self, arm: Arm) -> str:
        """An arm's first weights: a path as the study file means it, or else a name on the hub.

        As everywhere, text whose first part is a folder is a path.
        """
        folder = self.study.folder.absolute()
        first = Path(arm.init).parts[:1]
        return str(folder / arm.init) if first and folder.joinpath(*first).exists() else arm.init

    def piece_digest(self, unit: Unit, name: str, kind: str) -> str | None:
        """What decides one measured thing; None while the run has no checkpoint."""
        checkpoints = list_checkpoints(self.run(unit))
        if not checkpoints:
            return None
        wanted = next(one for one in self.study.evaluation if one.name == name)
        return digest(
            {
                "schema": SCHEMA,
                "checkpoint": checkpoint_sha256(checkpoints[-1]),
                "set": self._set_record(wanted),
                "kind": kind if kind == "loss" else load_protocol(kind),
                "sampling": None if kind == "loss" else unit.settings.sampling,
            }
        )

    def piece_path(self, unit: Unit, name: str, kind: str) -> Path:
        return self.scores(unit, name) / f"{kind}.json"

    def _unit(self, arm: Arm, seed: int) -> Unit:
        settings = self._settings(arm, seed)
        opened = [self._dataset(name, settings.data.split, arm.scenes) for name in arm.mixture]
        run = self.out / "runs" / unit_name(arm.name, seed)
        unit = Unit(
            arm=arm,
            seed=seed,
            settings=settings,
            scenes=sum(map(_scene_count, opened)),
            samples=sum(map(len, opened)),
            steps_done=self._steps_done(run, settings),
            pieces=(),
        )
        pieces = [
            Piece(
                set=wanted.name,
                kind=kind,
                views=len(self.chosen_keys(wanted)),
                done=unit.trained and self.has_piece(unit, wanted.name, kind),
            )
            for wanted in self.study.evaluation
            for kind in self.kinds(unit, wanted)
        ]
        return dataclasses.replace(unit, pieces=tuple(pieces))

    def has_piece(self, unit: Unit, name: str, kind: str) -> bool:
        """Whether a thing is measured already.

        Raises
        ------
        CheckpointError
            If what is there was measured of another checkpoint, or is damaged.
        """
        path = self.piece_path(unit, name, kind)
        if not path.exists():
            return False
        if read_piece(path)["digest"] != self.piece_digest(unit, name, kind):
            raise CheckpointError(
                f"{path} was measured of another checkpoint or by another version: delete {path.parent} to do it again"
            )
        return True

    def _steps_done(self, run: Path, settings: RunSettings) -> int:
        if not (run / "settings.json").is_file():
            check_run_folder(run, settings)
            return 0
        there, wanted = (_facts(found) for found in (load_run_settings(run), settings))
        if different := differing(there, wanted):
            raise CheckpointError(f"{run} holds a run of other settings ({', '.join(different)}): choose another --out")
        checkpoints = list_checkpoints(run)
        return read_state(checkpoints[-1]).step if checkpoints else 0

    def _settings(self, arm: Arm, seed: int, init: str = "") -> RunSettings:
        names = self._member_names(arm)
        mixture = {names[dataset]: share for dataset, share in arm.mixture.items()}
        return with_data(arm_settings(self.study, arm, seed=seed), mixture=mixture, scenes=arm.scenes, init=init)

    def _member_names(self, arm: Arm) -> dict[str, str]:
        """What the trainer calls the arm's datasets: by their own names, numbered where two have the same."""
        names: dict[str, str] = {}
        for dataset in arm.mixture:
            names[dataset] = unused_name(str(self._info(dataset)["name"]), names.values())
        return names

    def _check_truth(self, wanted: EvaluationSet) -> None:
        """Refuse a set that could not be scored: now, not after hours of training."""
        url = self.study.url(wanted.dataset)
        if "://" in url:
            raise SpecError(
                f"evaluation.{wanted.name}: {url}: true meshes are read from a folder only; copy the dataset to score "
                "on it"
            )
        for scene in dict.fromkeys(scene_of(key) for key in self.chosen_keys(wanted)):
            path = Path(url) / "scenes" / f"{scene}.glb"
            if not path.is_file():
                raise DatasetError(
                    f"evaluation.{wanted.name}: {path} is missing: only splits made for evaluation carry true meshes; "
                    "name such a split, or measure the loss alone"
                )

    def _check(self) -> None:
        """Refuse a folder that holds something else."""
        begun = (self.out / "arms").is_dir()
        if self.out.exists() and not begun and (not self.out.is_dir() or any(self.out.iterdir())):
            raise CheckpointError(f"{self.out} is not empty and not a study: choose a new folder for --out")
        # A setting that is younger than the study had its default in it.
        younger = json.loads(json.dumps(_facts(RunSettings(name="defaults"))))
        for path, record in self._records:
            if not path.exists():
                continue
            what = "arm" if path.parent.name == "arms" else "evaluation set"
            there = read_piece(path)
            if what == "arm":
                there = {name: younger[name] for name in record.keys() & younger.keys()} | there
            if different := differing(there, {"schema": SCHEMA, **record}):
                raise CheckpointError(
                    f"{what} {path.stem} is not the one that {self.out} holds ({', '.join(different)} differs): "
                    "give it another name, or choose another --out"
                )

    @cached_property
    def _records(self) -> list[tuple[Path, dict[str, Any]]]:
        arms = [(self.out / "arms" / f"{arm.name}.json", self._arm_record(arm)) for arm in self.study.arms]
        sets = [(self.out / "evaluation" / f"{s.name}.json", self._set_record(s)) for s in self.study.evaluation]
        return [*arms, *sets]

    def _arm_record(self, arm: Arm) -> dict[str, Any]:
        """What decides an arm's runs, the seed apart."""
        facts = _facts(self._settings(arm, seed=0))
        for name in ("seed", "name", "data.mixture"):  # the mixture stands below, by the study's own names
            facts.pop(name, None)
        return {
            **facts,
            "init": arm.init,
            **{f"mixture.{name}": share / sum(arm.mixture.values()) for name, share in arm.mixture.items()},
            **{f"data.{name}.fingerprint": self._info(name)["fingerprint"] for name in arm.mixture},
        }

    def _set_record(self, wanted: EvaluationSet) -> dict[str, Any]:
        """What decides which views are scored, and from which noise."""
        return {
            "fingerprint": self._info(wanted.dataset)["fingerprint"],
            "split": wanted.split,
            "scenes": wanted.scenes,
            "views": wanted.views,
            "seed": wanted.seed,
        }

    def _frame_of(self, wanted: EvaluationSet) -> dict[str, Any]:
        """What the set's first view says of its frame: not every dataset's spec does."""
        if wanted.name not in self._frames:
            self._frames[wanted.name] = self.evaluation_data(wanted)[0].meta
        return self._frames[wanted.name]

    def _info(self, dataset: str) -> dict[str, Any]:
        url = self.study.url(dataset)
        if url not in self._infos:
            self._infos[url] = read_info(open_store(url))
        return self._infos[url]

    def _dataset(self, dataset: str, split: str | None, scenes: str) -> Dataset:
        at = (self.study.url(dataset), split, scenes)
        if at not in self._datasets:
            self._datasets[at] = open_dataset(at[0], split=split, scenes=scenes or None)
        return self._datasets[at]

    @cached_property
    def _roots(self) -> list[str]:
        return list(
            dict.fromkeys(unit_name(self._root(arm).name, seed) for arm in self.study.arms for seed in self.study.seeds)
        )

    def _root(self, arm: Arm) -> Arm:
        return arm if arm.parent is None else self._root(self.study.arm(arm.parent))

    def _depth(self, arm: Arm) -> int:
        return 0 if arm.parent is None else 1 + self._depth(self.study.arm(arm.parent))


def read_piece(path: Path) -> dict[str, Any]:
    """A JSON file of the study's own.

    Raises
    ------
    CheckpointError
        If it is damaged or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: delete it to have it made again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is of another version, or not of a study: choose another --out")
    return content


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Names whose values differ or are on one side only."""
    plain = json.loads(json.dumps(dict(here)))
    return [name for name in sorted(there.keys() | plain.keys()) if there.get(name) != plain.get(name)]


def _facts(settings: RunSettings) -> dict[str, Any]:
    """A run's identity, its length and its sampler, as flat names."""
    sampling = settings.to_dict()["sampling"]
    return {
        **settings.identity(),
        "optimiser.steps": settings.optimiser.steps,
        **{f"sampling.{name}": value for name, value in sampling.items()},
    }


def _scene_count(data: Dataset) -> int:
    return len({scene_of(key) for key in data.keys})
