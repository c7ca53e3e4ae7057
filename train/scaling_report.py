"""What a study found, for people and programs: `results.csv`, `table.md`, `table.json`, `scaling.png`, and pictures
of predictions where an evaluation set asks for them.

Everything is a function of the pieces that `scaling_run` wrote: the same pieces give the same bytes.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from randscene.errors import RandsceneError
from randscene.files import write_atomic
from randscene.train.scaling_findings import Findings, Result, findings, read_results
from randscene.train.scaling_pictures import draw_predictions
from randscene.train.scaling_plan import StudyFolder
from randscene.train.scaling_plot import draw_curves
from randscene.train.scaling_statistics import CONFIDENCE, RESAMPLES, Interval
from randscene.train.scaling_study import Study
from randscene.train.scaling_tables import table_markdown
from randscene.train.scaling_units import Plan

REPORT_SCHEMA = 1


def write_report(folder: StudyFolder, plan: Plan) -> tuple[Path, ...]:
    """Write the report into the study's folder, replacing older files; returns their paths.

    Raises
    ------
    CheckpointError
        If a piece is damaged.
    RandsceneError
        If nothing is measured yet, or the folder cannot be written.
    """
    results = read_results(folder, plan)
    if not results:
        raise RandsceneError(f"nothing is measured in {folder.out} yet: run the study first")
    found = findings(folder.study, plan, results)
    contents: dict[str, bytes | str] = {
        "results.csv": results_csv(results),
        "table.json": table_json(folder.study, found),
        "table.md": table_markdown(folder.study, found),
        "scaling.png": draw_curves(folder.study, found),
    }
    for wanted in folder.study.evaluation:
        if (sheet := draw_predictions(folder, plan, wanted)) is not None:
            contents[f"pictures-{wanted.name}.png"] = sheet
    for name, content in contents.items():
        write_atomic(folder.out / name, content)
    return tuple(folder.out / name for name in contents)


def results_csv(results: Sequence[Result]) -> str:
    """One line for each arm, seed, set and metric; `value` is the mean over `views`, empty where none has one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "scenes", "steps", "sequences", "seed", "set", "metric", "views", "value"])
    for result in results:
        unit = result.unit
        writer.writerow(
            [
                *(unit.arm.name, unit.scenes, unit.steps, unit.sequences, unit.seed),
                *(result.set, result.metric, len(result.by_view), result.value),
            ]
        )
    return text.getvalue()


def table_json(study: Study, found: Findings) -> str:
    """Everything as JSON: `cells` of all metrics, `comparisons`, `power_laws`, and what is `lacking` yet."""
    content = {
        "schema": REPORT_SCHEMA,
        "study": study.name,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "runs": found.units,
        "runs_done": found.units_done,
        "lacking": [dataclasses.asdict(gap) for gap in found.gaps],
        "cells": [
            {
                "arm": cell.arm.name,
                "scenes": cell.scenes,
                "set": cell.set,
                "metric": cell.metric,
                "seeds": len(cell.values),
                **_plain(cell.mean, "mean"),
                "values": list(cell.values),
            }
            for cell in found.cells
        ],
        "comparisons": [
            {
                "first": one.first,
                "second": one.second,
                "set": one.set,
                "metric": one.metric,
                "seeds": one.seeds,
                "scenes": one.scenes,
                **_plain(one.difference, "difference"),
            }
            for one in found.comparisons
        ],
        "power_laws": [
            {
                "family": curve.family,
                "set": curve.set,
                "metric": curve.metric,
                "scenes": [cell.scenes for cell in curve.cells],
                "a": _parameter(curve.fit.a),
                "b": _parameter(curve.fit.b),
                "c": _parameter(curve.fit.c),
                "determined": not curve.fit.undetermined,
                "why_not": curve.fit.undetermined,
                "note": curve.fit.note,
            }
            for curve in found.curves
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(interval: Interval, name: str) -> dict[str, Any]:
    return {name: interval.value, "low": interval.low, "high": interval.high}


def _parameter(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else dataclasses.asdict(interval)
