"""What the scores of a study say: means over seeds, paired comparisons, curves over sizes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import seeding
from randscene.train.evaluation_statistics import scene_of
from randscene.train.scaling_measures import measure_of, measures
from randscene.train.scaling_plan import StudyFolder, read_piece
from randscene.train.scaling_statistics import Interval, PowerLawFit, fit_power_law, over_seeds, paired_difference
from randscene.train.scaling_study import Arm, Study
from randscene.train.scaling_units import Plan, Unit

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
class Gap:
    """What an arm still lacks."""

    arm: str
    set: str | None
    """The evaluation set; None where the run itself is not trained to its end."""
    kind: str | None
    """`loss` or a protocol; None with the set."""
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the report says."""

    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    gaps: tuple[Gap, ...]
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
    shown = shown_places(study, measured)
    comparisons = (
        _comparison(first, second, place, of(first, place), of(second, place))
        for first, second in study.comparisons
        for place in shown
    )
    curves = (
        _curve(family, place, [(cells[arm.name, place], of(arm.name, place)) for arm in arms if of(arm.name, place)])
        for family, arms in study.families().items()
        for place in shown
    )
    return Findings(
        cells=tuple(cells.values()),
        comparisons=tuple(one for one in comparisons if one is not None),
        curves=tuple(one for one in curves if one is not None),
        gaps=gaps(study, plan),
        units=len(plan.units),
        units_done=sum(unit.done for unit in plan.units),
    )


def shown_places(study: Study, measured: Collection[Place]) -> list[Place]:
    """What tables and curves show of what is measured: set by set, protocols in the study's order, then the loss."""
    return [
        place
        for wanted in study.evaluation
        for kind in (*wanted.protocols, "loss")
        for place in ((wanted.name, f"{kind}/{column}") for column in measures(kind))
        if place in measured
    ]


def gaps(study: Study, plan: Plan) -> tuple[Gap, ...]:
    """What is not there yet, arm by arm: runs that are not trained, then what trained ones are not scored by."""
    seeds: dict[tuple[str, str | None, str | None], list[int]] = {}
    for arm in study.arms:
        units = [unit for unit in plan.units if unit.arm.name == arm.name]
        for unit in units:
            if not unit.trained:
                seeds.setdefault((arm.name, None, None), []).append(unit.seed)
        for unit in units:
            for piece in unit.pieces:
                if unit.trained and not piece.done:
                    seeds.setdefault((arm.name, piece.set, piece.kind), []).append(unit.seed)
    return tuple(Gap(arm=arm, set=name, kind=kind, seeds=tuple(of)) for (arm, name, kind), of in seeds.items())


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
    measure = measure_of(place[1])
    if not table.size or measure is None:
        return None
    ends = np.cumsum([len(found) for _, found in runs])[:-1]
    rng = seeding.generator(0, "power law", family, *place)
    numbers = [cell.scenes for cell, _ in runs]
    fit = fit_power_law(numbers, np.split(table, ends), rng, ceiling=measure.ceiling, views=views)
    return Curve(family=family, set=place[0], metric=place[1], cells=tuple(cell for cell, _ in runs), fit=fit)


def _same_views(results: Sequence[Result]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(results, scenes) float64 means over the views of a scene that all results have, and (scenes,) their numbers."""
    if not results:
        return np.zeros((0, 0)), np.zeros(0)
    scenes: dict[str, list[str]] = {}
    for key in sorted(set.intersection(*(set(one.by_view) for one in results))):
        scenes.setdefault(scene_of(key), []).append(key)
    table = [[sum(one.by_view[key] for key in keys) / len(keys) for keys in scenes.values()] for one in results]
    return np.array(table, np.float64).reshape(len(results), -1), np.array([len(keys) for keys in scenes.values()])
