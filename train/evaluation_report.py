"""The outcome of an evaluation: one row a scene, their means, as JSON and CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import SpecError
from randscene.files import write_atomic
from randscene.train.evaluation_statistics import mean_interval
from randscene.train.output_layouts import OWN, PredictionReading
from randscene.train.prediction_reader import SAMPLE_KEY
from randscene.train.protocols import Protocol
from randscene.train.scaling_statistics import CONFIDENCE, Interval
from randscene.train.scene_scores import SceneScores, Scores
from randscene.train.truth_layouts import DATASET, TruthReading

REPORT_SCHEMA = 3
MEASURES = tuple(field.name for field in dataclasses.fields(Scores))
PLACEMENT = ("centre_error", "yaw_error_deg", "duplicate_rate")
"""Columns of where instances stand (see `placement`): means over those that were predicted."""
NO_SPLIT = "-"
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
    by_split: bool = False
    """Whether the output also tells the means of each split."""
    reading: PredictionReading = OWN
    """How the predictions were read."""
    truth: TruthReading = DATASET
    """How the truth was read."""

    @property
    def n_instances(self) -> int:
        return sum(len(scene.instances) for scene in self.scenes)

    @property
    def n_missing(self) -> int:
        return sum(scene.n_missing for scene in self.scenes)

    @property
    def n_surplus(self) -> int:
        return sum(scene.surplus for scene in self.scenes)

    @property
    def n_fell_back(self) -> int:
        return sum(scene.fell_back for scene in self.scenes)

    def splits(self) -> dict[str, "EvaluationReport"]:
        """The scenes of each split as a report of their own, by its name, sorted; `-` where a truth has none."""
        names = sorted({scene.split or NO_SPLIT for scene in self.scenes})
        return {
            name: dataclasses.replace(
                self, scenes=tuple(scene for scene in self.scenes if (scene.split or NO_SPLIT) == name), by_split=False
            )
            for name in names
        }

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
        rows, keys = self.rows(), self.statistics_keys()
        return {name: mean_interval([one[name] for one in rows], keys, self.seed) for name in _numeric_columns()}

    def statistics_keys(self) -> list[str]:
        """The keys as `evaluation_statistics` takes scenes out of them.

        Views of one scene are drawn together; a key that is not a sample's, such as `house/room` or `chair_2`, is a
        scene by itself.
        """
        return [scene.key if SAMPLE_KEY.fullmatch(scene.key) else f"{scene.key}_" for scene in self.scenes]

    def summary(self) -> dict[str, Any]:
        """Counts, means and intervals, as JSON has them."""
        return {
            "n_scenes": len(self.scenes),
            "n_instances": self.n_instances,
            "n_missing_instances": self.n_missing,
            "n_surplus_instances": self.n_surplus,
            "n_fell_back": self.n_fell_back,
            "means": self.means(),
            "confidence": CONFIDENCE,
            "intervals": {name: _ends(interval) for name, interval in self.intervals().items()},
        }

    def to_json(self) -> str:
        """The whole report, instances included, as JSON text."""
        content = {
            "schema": REPORT_SCHEMA,
            "protocol": dataclasses.asdict(self.protocol),
            "seed": self.seed,
            "predictions": dataclasses.asdict(self.reading),
            "truth": dataclasses.asdict(self.truth),
            **self.summary(),
            **({"splits": {name: one.summary() for name, one in self.splits().items()}} if self.by_split else {}),
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

    def splits_csv(self) -> str:
        """One line a split under a line of column names: its counts and the mean of every numeric column."""
        lines = [
            {
                "split": name,
                "n_scenes": len(one.scenes),
                "n_instances": one.n_instances,
                "n_missing": one.n_missing,
                "n_surplus": one.n_surplus,
                **one.means(),
            }
            for name, one in self.splits().items()
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else ["split"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def write(self, out: Path) -> tuple[Path, ...]:
        """Write `scores.json`, `scores.csv` and, if asked for, `splits.csv` into folder `out`, replacing older ones;
        returns their paths."""
        texts = {"scores.json": self.to_json(), "scores.csv": self.to_csv()}
        if self.by_split:
            texts["splits.csv"] = self.splits_csv()
        for name, text in texts.items():
            write_atomic(out / name, text)
        return tuple(out / name for name in texts)


def check_replaceable(
    out: Path, protocol: Protocol, seed: int, *, reading: PredictionReading = OWN, truth: TruthReading = DATASET
) -> None:
    """Refuse to replace the scores in folder `out` by such as do not mean the same. The same again, after new
    predictions for example, may replace them; so may any where `out` holds no `scores.json`.

    Raises
    ------
    SpecError
        If `out` has scores of another protocol, seed, or reading of predictions or truth, or a `scores.json` that is
        none of ours.
    """
    path = out / "scores.json"
    if not path.exists():
        return
    mine = {
        "protocol": dataclasses.asdict(protocol),
        "seed": seed,
        "predictions": dataclasses.asdict(reading),
        "truth": dataclasses.asdict(truth),
    }
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        told = {name: theirs[name] for name in mine}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{path} is no report of `randscene evaluate`: move it away, or give another --out") from error
    other = [name for name, value in mine.items() if json.loads(json.dumps(value)) != told[name]]
    if other:
        raise SpecError(
            f"{out} holds scores with other settings ({', '.join(other)}): give another --out, or delete {path} "
            "to replace them"
        )


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
        "split": scene.split,
        "n_instances": len(instances),
        "n_missing": scene.n_missing,
        "problems": " ".join(f"{one.id}:{one.problem}" for one in instances if one.problem),
        "surplus": scene.surplus,
        "unusable": scene.unusable,
        **{
            f"{level}_{measure}": _mean(getattr(scores, measure) for scores in levels[level])
            for level in LEVELS
            for measure in MEASURES
        },
        "voxel_iou": scene.voxel_iou,
        "object_voxel_iou": _mean(one.voxel_iou for one in instances),
        "centre_error": _mean(one.placement.centre_error for one in instances if one.placement),
        "yaw_error_deg": _mean(one.placement.yaw_error_deg for one in instances if one.placement),
        "duplicate_rate": scene.duplicate_rate,
        "part_overlap": scene.part_overlap,
        "normalisation": scene.normalisation,
        "fitness": scene.fitness,
        "rmse": scene.rmse,
        "fell_back": scene.fell_back,
        "prediction_seconds": scene.prediction_seconds,
    }


def _numeric_columns() -> list[str]:
    return [
        *(f"{level}_{measure}" for level in LEVELS for measure in MEASURES),
        *("voxel_iou", "object_voxel_iou", *PLACEMENT, "part_overlap", "fitness", "rmse", "prediction_seconds"),
    ]


def _ends(interval: Interval | None) -> list[float] | None:
    """Both ends, or None where there are none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return [interval.low, interval.high]


def _mean(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None
