"""Makes what a study lacks: trains its runs, predicts and scores the evaluation sets, then writes the report.

Every run is an ordinary one, by `train`, and goes on from its last checkpoint; every prediction and score is kept once
it is there. So the same call ends in the same results after any interruption, and computes only what is new.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.files import exclusive, write_atomic
from randscene.shards import Dataset, open_dataset
from randscene.train.checkpoint import latest_checkpoint
from randscene.train.evaluate import evaluate
from randscene.train.evaluation_report import LEVELS, MEASURES, PLACEMENT, EvaluationReport
from randscene.train.held_out_loss import held_out_loss
from randscene.train.predict import Predictor, usual_pace
from randscene.train.prediction_view import View, choose_views
from randscene.train.process_group import joined_process_group
from randscene.train.scaling_plan import SCHEMA, StudyFolder
from randscene.train.scaling_report import write_report
from randscene.train.scaling_study import EvaluationSet, Study
from randscene.train.scaling_units import Plan, Unit
from randscene.train.trainer import train

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps or views done, of how many)."""


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """How a call of `run_study` ended."""

    plan: Plan
    """As it is now."""
    interrupted: bool
    """Whether a signal ended it; the same call goes on."""
    report: tuple[Path, ...]
    """What was written of results, table and plot; empty while a part of the study is not there."""


def run_study(
    study: Study,
    out: Path,
    *,
    part: tuple[int, int] = (1, 1),
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> StudyOutcome:
    """Do all of a study that is not done, or one part of it; write the report once everything is there.

    Under torchrun every process must call it: all of them train, and the first alone predicts and scores, after the
    last run.

    Parameters
    ----------
    study : Study
    out : Path
        The study's folder.
    part : (int, int)
        The i-th of n parts, counted from 1. Parts share no run: n machines that see the same folder may each do one,
        or do them in folders of their own that are copied together afterwards.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.
    workers : int, optional
        Scenes scored at once; by default one for each usable core.
    progress : callable, optional

    Returns
    -------
    StudyOutcome

    Raises
    ------
    RandsceneError
        What `StudyFolder.plan` and `check_beginnings`, `train`, `Predictor` and `evaluate` raise; or if another process
        is at a run.
    """
    rank, world_size = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    folder, is_main = StudyFolder(study, out), rank == 0
    plan = folder.plan(part)
    # Decided before the first run is joined, which no process can finish without the others: all decide alike.
    missing = [unit for unit in plan.mine if not unit.done]
    folder.check_beginnings(missing)
    tell = progress if progress is not None and is_main else _silent
    work = _Work(folder, device=device, workers=workers, tell=tell)
    # One group for all runs: torchrun's processes can be joined only once. Without a run left, nobody needs it.
    with joined_process_group(device) if world_size > 1 and missing else contextlib.nullcontext():
        if is_main and missing:  # the others have looked at the folder by now
            folder.open()
        for unit in missing:
            with work.alone(unit) if is_main else contextlib.nullcontext():
                if not unit.trained and not work.train(unit):
                    return StudyOutcome(plan=StudyFolder(study, out).plan(part), interrupted=True, report=())
                if world_size == 1:
                    work.measure(unit)
    if not is_main:
        return StudyOutcome(plan=plan, interrupted=False, report=())
    for unit in missing if world_size > 1 else ():
        with work.alone(unit):
            work.measure(unit)
    plan = StudyFolder(study, out).plan(part)
    return StudyOutcome(plan=plan, interrupted=False, report=write_report(folder, plan) if plan.done else ())


class _Work:
    """How a unit is made."""

    def __init__(self, folder: StudyFolder, *, device: str | None, workers: int | None, tell: Progress) -> None:
        self._folder, self._device, self._workers, self._tell = folder, device, workers, tell

    @contextlib.contextmanager
    def alone(self, unit: Unit) -> Iterator[None]:
        """Refuse to work on a unit that another process is at."""
        busy = f"another process works on {unit.name} in {self._folder.out}: give each its own --part, or wait for it"
        with exclusive(self._folder.lock(unit.name), busy=busy):
            yield

    def train(self, unit: Unit) -> bool:
        """Train up to the last step; False if a signal came first."""
        report = train(
            self._folder.data(unit.arm),
            self._folder.run_settings(unit),
            self._folder.run(unit),
            device=self._device,
            progress=lambda metrics: self._tell(f"train {unit.name}", metrics.step, unit.steps),
        )
        return not report.interrupted

    def measure(self, unit: Unit) -> None:
        """Measure what is not measured yet."""
        for wanted in self._folder.study.evaluation:
            missing = [
                kind for kind in self._folder.kinds(unit, wanted) if not self._folder.has_piece(unit, wanted.name, kind)
            ]
            if "loss" in missing:
                self._write(unit, wanted, "loss", self._losses(unit, wanted))
            protocols = [kind for kind in missing if kind != "loss"]
            if protocols:
                self._predict(unit, wanted)
            for protocol in protocols:
                self._write(unit, wanted, protocol, self._scores(unit, wanted, protocol))

    def _losses(self, unit: Unit, wanted: EvaluationSet) -> dict[str, dict[str, float]]:
        return held_out_loss(
            latest_checkpoint(self._folder.run(unit)),
            self._folder.study.url(wanted.dataset),
            split=wanted.only_split,
            keys=self._folder.chosen_keys(wanted),
            seed=wanted.seed,
            device=self._device,
            progress=lambda done, total: self._tell(f"loss of {unit.name} on {wanted.name}", done, total),
        )

    def _predict(self, unit: Unit, wanted: EvaluationSet) -> None:
        predictor = Predictor(self._folder.run(unit), seed=wanted.seed, device=self._device)
        data = open_dataset(self._folder.study.url(wanted.dataset), split=wanted.only_split)
        chosen = choose_views(data, keys=self._folder.chosen_keys(wanted))
        pace = usual_pace(predictor.device, len(chosen))
        jobs = [functools.partial(_view, predictor, data, index) for index in chosen]
        made = predictor.predict_all(
            jobs, self._predictions(unit, wanted), at_once=pace.at_once, workers=self._workers or pace.workers
        )
        for done, _ in enumerate(made, start=1):
            self._tell(f"predict {wanted.name} with {unit.name}", done, len(chosen))

    def _scores(self, unit: Unit, wanted: EvaluationSet, protocol: str) -> dict[str, dict[str, float | None]]:
        report = evaluate(
            self._predictions(unit, wanted),
            Path(self._folder.study.url(wanted.dataset)),
            protocol,
            split=wanted.only_split,
            workers=self._workers,
            seed=wanted.seed,
            progress=lambda done, total: self._tell(f"{protocol} of {unit.name} on {wanted.name}", done, total),
        )
        report.write(self._folder.scores(unit, wanted.name) / protocol)
        return scores_by_view(report)

    def _predictions(self, unit: Unit, wanted: EvaluationSet) -> Path:
        return self._folder.scores(unit, wanted.name) / "predictions"

    def _write(self, unit: Unit, wanted: EvaluationSet, kind: str, views: dict[str, Any]) -> None:
        content = {"schema": SCHEMA, "digest": self._folder.piece_digest(unit, wanted.name, kind), "views": views}
        write_atomic(self._folder.piece_path(unit, wanted.name, kind), json.dumps(content, indent=1) + "\n")


def scores_by_view(report: EvaluationReport) -> dict[str, dict[str, float | None]]:
    """Scores by key and column: those of `scores.csv` that the same predictions always get, and `missing`, the share
    of instances that count as missing."""
    columns = [
        *(f"{level}_{measure}" for level in LEVELS for measure in MEASURES),
        "voxel_iou",
        "object_voxel_iou",
        *PLACEMENT,
    ]
    return {
        row["key"]: {
            **{column: row[column] for column in columns},
            "missing": row["n_missing"] / row["n_instances"],
        }
        for row in report.rows()
    }


def _view(predictor: Predictor, data: Dataset, index: int) -> View:
    return predictor.view(data[index], any_frame=True)


def _silent(what: str, done: int, total: int) -> None:
    pass
