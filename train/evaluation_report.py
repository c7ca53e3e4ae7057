"""The outcome of an evaluation: one row a scene, their means, as JSON and CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.files import write_atomic
from randscene.train.evaluation_statistics import mean_interval
from randscene.train.protocols import Protocol
from randscene.train.scaling_statistics import CONFIDENCE, Interval
from randscene.train.scene_scores import SceneScores, Scores

REPORT_SCHEMA = 2
MEASURES = tuple(field.name for field in dataclasses.fields(Scores))
LEVELS = ("scene", "object", "object_matched", "object_realigned")
"""Of a row's columns `{level}_{measure}`:

* `scene`: the union of all instances.
* `object`: mean over all true instances after the scene's alignment, missing ones with the penalty.
* `object_matched`: the same over the instances that were predicted only; empty if none was.
* `object_realigned`: mean over all true instances, each aligned by itself, missing ones with the penalty.
"""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All scores of one folder of predictions under one protocol."""

    protocol: Protocol
    seed: int
    scenes: tuple[SceneScores, ...]

    @property
    def n_instances(self) -> int:
        return sum(len(scene.instances) for scene in self.scenes)

    @property
    def n_missing(self) -> int:
        return sum(scene.n_missing for scene in self.scenes)

    @property
    def n_fell_back(self) -> int:
        return sum(scene.fell_back for scene in self.scenes)

    def rows(self) -> list[dict[str, Any]]:
        """One flat record a scene: see `row`."""
        return [row(scene) for scene in self.scenes]

    def means(self) -> dict[str, float | None]:
        """Mean over scenes of every numeric column, by column; None where no scene has a value.

        A scene counts once, whatever its number of instances. A scene without a value in a column (no matched
        instance, no predicted voxels, no time told) does not take part in that column's mean.
        """
        rows = self.rows()
        return {name: _mean(one[name] for one in rows) for name in _numeric_columns()}

    def intervals(self) -> dict[str, Interval | None]:
        """Mean of every numeric column with its 95 % bootstrap interval over scenes, by column.

        None where no scene has a value; ends that are None where there are fewer than two scenes. The draws follow
        from the report's seed.
        """
        rows, keys = self.rows(), [scene.key for scene in self.scenes]
        return {name: mean_interval([one[name] for one in rows], keys, self.seed) for name in _numeric_columns()}

    def to_json(self) -> str:
        """The whole report, instances included, as JSON text."""
        content = {
            "schema": REPORT_SCHEMA,
            "protocol": dataclasses.asdict(self.protocol),
            "seed": self.seed,
            "n_scenes": len(self.scenes),
            "n_instances": self.n_instances,
            "n_missing_instances": self.n_missing,
            "n_fell_back": self.n_fell_back,
            "means": self.means(),
            "confidence": CONFIDENCE,
            "intervals": {name: _ends(interval) for name, interval in self.intervals().items()},
            "scenes": [
                row(scene)
                | {
                    "transform": None if scene.transform is None else scene.transform.tolist(),
                    "instances": [dataclasses.asdict(instance) for instance in scene.instances],
                }
                for scene in self.scenes
            ],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """One line a scene under a line of column names; a value that does not exist is empty."""
        text = io.StringIO()
        rows = self.rows()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["key"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write(self, out: Path) -> tuple[Path, Path]:
        """Write `scores.json` and `scores.csv` into folder `out`, replacing older ones; returns their paths."""
        paths = out / "scores.json", out / "scores.csv"
        for path, text in zip(paths, (self.to_json(), self.to_csv()), strict=True):
            write_atomic(path, text)
        return paths


def row(scene: SceneScores) -> dict[str, Any]:
    """One scene as a flat record: `key`, counts, `{level}_{measure}` (see `LEVELS`), voxels, alignment, time."""
    instances = scene.instances
    levels: dict[str, list[Scores]] = {
        "scene": [scene.scene],
        "object": [one.in_scene for one in instances],
        "object_matched": [one.in_scene for one in instances if one.problem is None],
        "object_realigned": [one.realigned for one in instances if one.realigned is not None],
    }
    return {
        "key": scene.key,
        "n_instances": len(instances),
        "n_missing": scene.n_missing,
        "problems": " ".join(f"{one.id}:{one.problem}" for one in instances if one.problem),
        **{
            f"{level}_{measure}": _mean(getattr(scores, measure) for scores in levels[level])
            for level in LEVELS
            for measure in MEASURES
        },
        "voxel_iou": scene.voxel_iou,
        "object_voxel_iou": _mean(one.voxel_iou for one in instances),
        "normalisation": scene.normalisation,
        "fitness": scene.fitness,
        "rmse": scene.rmse,
        "fell_back": scene.fell_back,
        "prediction_seconds": scene.prediction_seconds,
    }


def _numeric_columns() -> list[str]:
    return [
        *(f"{level}_{measure}" for level in LEVELS for measure in MEASURES),
        *("voxel_iou", "object_voxel_iou", "fitness", "rmse", "prediction_seconds"),
    ]


def _ends(interval: Interval | None) -> list[float] | None:
    """Both ends, or None where there are none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return [interval.low, interval.high]


def _mean(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None
