"""What the scores of a study say: means over seeds, paired comparisons, curves over sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import seeding
from randscene.train.evaluation_statistics import scene_of
from randscene.train.scaling_plan import StudyFolder, read_piece
from randscene.train.scaling_statistics import Interval, PowerLawFit, fit_power_law, over_seeds, paired_difference
from randscene.train.scaling_study import Arm, Study
from randscene.train.scaling_units import Plan, Unit

HEADLINES = {
    "loss": {"total": "loss"},
    "protocol": {
        "scene_cd_squared": "scene CD²",
        "scene_f_score": "scene F",
        "scene_aabb_iou": "scene box IoU",
        "object_cd_squared": "object CD²",
        "object_f_score": "object F",
        "voxel_iou": "voxel IoU",
        "centre_error": "centre error",
        "yaw_error_deg": "yaw error, degrees",
        "duplicate_rate": "duplicates",
    },
}
"""What tables, curves and comparisons show of each kind, and how it is called; `table.json` has the means of all."""
SHARES = ("f_score", "iou", "missing", "_rate")
"""Endings of metrics that lie in [0, 1]."""
Place = tuple[str, str]
"""An evaluation set and a metric."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric of one run on one evaluation set."""

    unit: Unit
    set: str
    kind: str
    column: str
    by_view: Mapping[str, float]
    """By key; views without a value are left out."""

    @property
    def metric(self) -> str:
        return f"{self.kind}/{self.column}"

    @property
    def value(self) -> float | None:
        """Mean over views."""
        return sum(self.by_view.values()) / len(self.by_view) if self.by_view else None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one arm on one evaluation set, over its seeds."""

    arm: Arm
    scenes: int
    set: str
    metric: str
    values: tuple[float, ...]
    """One a seed."""
    mean: Interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two arms on the same scenes, with the same seeds."""

    first: str
    second: str
    set: str
    metric: str
    seeds: int
    scenes: int
    difference: Interval
    """Second less first."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of the arms of one entry of `sizes` against their numbers of scenes."""

    family: str
    set: str
    metric: str
    cells: tuple[Cell, ...]
    fit: PowerLawFit


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the report says."""

    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    units: int
    units_done: int


def read_results(folder: StudyFolder, plan: Plan) -> list[Result]:
    """All that is measured, arm by arm, seed by seed, set by set, metric by metric."""
    results = []
    for unit in plan.units:
        for piece in (piece for piece in unit.pieces if piece.done):
            views = read_piece(folder.piece_path(unit, piece.set, piece.kind))["views"]
            columns = list(dict.fromkeys(column for values in views.values() for column in values))
            for column in columns:
                by_view = {key: views[key][column] for key in sorted(views) if views[key][column] is not None}
                results.append(Result(unit=unit, set=piece.set, kind=piece.kind, column=column, by_view=by_view))
    return results


def findings(study: Study, plan: Plan, results: Sequence[Result]) -> Findings:
    """Means over seeds, comparisons and curves."""
    named = {(one.unit.arm.name, one.unit.seed, one.set, one.metric): one for one in results}
    measured = list(dict.fromkeys((one.set, one.metric) for one in results))
    scenes = {unit.arm.name: unit.scenes for unit in plan.units}

    def of(arm: str, place: Place) -> list[Result]:
        found = (named.get((arm, seed, *place)) for seed in study.seeds)
        return [one for one in found if one is not None and one.by_view]

    cells = {}
    for arm in study.arms:
        for place in measured:
            values = tuple(one.value for one in of(arm.name, place) if one.value is not None)
            if values:
                mean = over_seeds(values)
                cells[arm.name, place] = Cell(
                    arm=arm, scenes=scenes[arm.name], set=place[0], metric=place[1], values=values, mean=mean
                )
    headlines = [place for place in measured if headline(place[1])]
    comparisons = (
        _comparison(first, second, place, of(first, place), of(second, place))
        for first, second in study.comparisons
        for place in headlines
    )
    curves = (
        _curve(family, place, [(cells[arm.name, place], of(arm.name, place)) for arm in arms if of(arm.name, place)])
        for family, arms in study.families().items()
        for place in headlines
    )
    return Findings(
        cells=tuple(cells.values()),
        comparisons=tuple(one for one in comparisons if one is not None),
        curves=tuple(one for one in curves if one is not None),
        units=len(plan.units),
        units_done=sum(unit.done for unit in plan.units),
    )


def _comparison(
    first: str, second: str, place: Place, ours: Sequence[Result], theirs: Sequence[Result]
) -> Comparison | None:
    """Two arms by the seeds that both have; None if they share none, or no view."""
    by_seed = {one.unit.seed: one for one in theirs}
    pairs = [(one, by_seed[one.unit.seed]) for one in ours if one.unit.seed in by_seed]
    table, views = _same_views([one for pair in pairs for one in pair])
    if not table.size:
        return None
    rng = seeding.generator(0, "comparison", first, second, *place)
    return Comparison(
        first=first,
        second=second,
        set=place[0],
        metric=place[1],
        seeds=len(pairs),
        scenes=table.shape[1],
        difference=paired_difference(table[::2], table[1::2], rng, views=views),
    )


def _curve(family: str, place: Place, runs: Sequence[tuple[Cell, Sequence[Result]]]) -> Curve | None:
    """The law through the arms of an entry of `sizes`, each with its runs; None if they share no view."""
    table, views = _same_views([one for _, found in runs for one in found])
    if not table.size:
        return None
    ends = np.cumsum([len(found) for _, found in runs])[:-1]
    ceiling = 1.0 if place[1].endswith(SHARES) else math.inf
    rng = seeding.generator(0, "power law", family, *place)
    numbers = [cell.scenes for cell, _ in runs]
    fit = fit_power_law(numbers, np.split(table, ends), rng, ceiling=ceiling, views=views)
    return Curve(family=family, set=place[0], metric=place[1], cells=tuple(cell for cell, _ in runs), fit=fit)


def headline(metric: str) -> str | None:
    """How tables call a metric; None if they leave it out."""
    kind, _, column = metric.partition("/")
    return HEADLINES["loss" if kind == "loss" else "protocol"].get(column)


def title(metric: str) -> str:
    """A headline metric's name, with its protocol."""
    kind, name = metric.partition("/")[0], headline(metric) or metric
    return name if kind == "loss" else f"{kind} {name}"


def _same_views(results: Sequence[Result]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(results, scenes) float64 means over the views of a scene that all results have, and (scenes,) their numbers."""
    if not results:
        return np.zeros((0, 0)), np.zeros(0)
    scenes: dict[str, list[str]] = {}
    for key in sorted(set.intersection(*(set(one.by_view) for one in results))):
        scenes.setdefault(scene_of(key), []).append(key)
    table = [[sum(one.by_view[key] for key in keys) / len(keys) for keys in scenes.values()] for one in results]
    return np.array(table, np.float64).reshape(len(results), -1), np.array([len(keys) for keys in scenes.values()])
