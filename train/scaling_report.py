"""What a study found, for people and programs: `results.csv`, `table.md`, `table.json`, `scaling.png`, and pictures
of predictions where an evaluation set asks for them.

Everything is a function of the pieces that `scaling_run` wrote: the same pieces give the same bytes.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from randscene.errors import RandsceneError
from randscene.files import write_atomic
from randscene.train.scaling_findings import Cell, Findings, Result, findings, headline, read_results, title
from randscene.train.scaling_pictures import draw_predictions
from randscene.train.scaling_plan import StudyFolder
from randscene.train.scaling_plot import draw_curves
from randscene.train.scaling_statistics import CONFIDENCE, RESAMPLES, Interval
from randscene.train.scaling_study import Study
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
    """Everything as JSON: `cells` of all metrics, `comparisons`, `power_laws`."""
    content = {
        "schema": REPORT_SCHEMA,
        "study": study.name,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "runs": found.units,
        "runs_done": found.units_done,
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


def table_markdown(study: Study, found: Findings) -> str:
    """The headline metrics for people: a table a set, then comparisons and curves."""
    lines = [f"# {study.name}", ""]
    if found.units_done < found.units:
        lines += [f"**Not finished: {found.units_done} of {found.units} runs are there.**", ""]
    lines += [
        f"Mean over n seeds with its {100 * CONFIDENCE:g} % interval (Student's t over seeds; none for one seed). "
        "A seed's value is the mean over the set's views.",
        "",
    ]
    for name in dict.fromkeys(cell.set for cell in found.cells):
        inside = [cell for cell in found.cells if cell.set == name and headline(cell.metric)]
        metrics = list(dict.fromkeys(cell.metric for cell in inside))
        lines += [f"## {name}", "", _row(["arm", "scenes", "n", *map(title, metrics)])]
        lines.append(_row(["---", "---:", "---:", *("---:" for _ in metrics)]))
        for arm in study.arms:
            own = {cell.metric: cell for cell in inside if cell.arm.name == arm.name}
            if own:
                one = next(iter(own.values()))
                values = [interval_text(own[metric].mean) if metric in own else "" for metric in metrics]
                lines.append(_row([arm.name, str(one.scenes), _counts(own), *values]))
        lines.append("")
    if found.comparisons:
        lines += [
            "## Comparisons",
            "",
            "Second less first on the same scenes and seeds, with the "
            f"{100 * CONFIDENCE:g} % interval of a bootstrap over seeds and scenes.",
            "",
            _row(["first", "second", "set", "metric", "seeds", "scenes", "difference"]),
            _row(["---", "---", "---", "---", "---:", "---:", "---:"]),
        ]
        for item in found.comparisons:
            facts = [item.first, item.second, item.set, title(item.metric), str(item.seeds), str(item.scenes)]
            lines.append(_row([*facts, interval_text(item.difference)]))
        lines.append("")
    if found.curves:
        lines += [
            "## Curves",
            "",
            "y = a + b N^-c through the means, N scenes; intervals of a bootstrap over seeds and scenes.",
            "",
            _row(["sizes", "set", "metric", "a", "b", "c", "determined"]),
            _row(["---", "---", "---", "---:", "---:", "---:", "---"]),
        ]
        for curve in found.curves:
            # Parameters of a law that is none say nothing; `table.json` has them.
            fitted = [] if curve.fit.undetermined else [curve.fit.a, curve.fit.b, curve.fit.c]
            parameters = [interval_text(part) for part in fitted if part] or ["", "", ""]
            answer = f"no: {curve.fit.undetermined}" if curve.fit.undetermined else "yes"
            answer += f" ({curve.fit.note})" if curve.fit.note else ""
            lines.append(_row([curve.family, curve.set, title(curve.metric), *parameters, answer]))
        lines.append("")
    return "\n".join(lines)


def interval_text(interval: Interval) -> str:
    """`0.123 [0.101, 0.145]`, or the value alone."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4g}"
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _counts(cells: Mapping[str, Cell]) -> str:
    counts = sorted({len(cell.values) for cell in cells.values()})
    return "-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(interval: Interval, name: str) -> dict[str, Any]:
    return {name: interval.value, "low": interval.low, "high": interval.high}


def _parameter(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else dataclasses.asdict(interval)
