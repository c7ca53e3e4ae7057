"""Pictures of the scenes that a method did worst on: prediction and truth as they were compared, aligned."""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from randscene.errors import DatasetError
from randscene.files import write_atomic
from randscene.shards.view_sample import RESOLUTION
from randscene.train.evaluate import sample_scene
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.output_layouts import Match
from randscene.train.output_scene import Predicted, Truth, predicted_keys, read_predicted
from randscene.train.picture_sheet import INK, PAPER, SOFT
from randscene.train.prediction_reader import SAMPLE_KEY
from randscene.train.protocols import Protocol
from randscene.train.scene_scores import SceneScores, score_clouds
from randscene.train.truth_layouts import read_truths
from randscene.train.voxel_picture import instance_colours, voxel_picture

TRUTH_COLOUR, PREDICTION_COLOUR = (150, 156, 166), (242, 142, 43)
FARTHEST = 1.5
"""Points of the prediction with a coordinate beyond this, in the space of the metrics, are left out of the picture."""
_NAME = re.compile(r"\d{2,}_(.+)\.png")


@dataclass(frozen=True, kw_only=True)
class ComparedClouds:
    """One scene's surface points in the space of the metrics, [-1, 1]^3, after alignment."""

    predicted: dict[int, NDArray[Any]]
    """(P, 3) float64 of each predicted instance by the true one's id, surplus ones behind the last; empty if nothing
    was predicted."""
    true: list[NDArray[Any]]
    """(P, 3) float64 of every true instance in id order."""


def worst_scenes(report: EvaluationReport, count: int) -> list[SceneScores]:
    """The `count` scenes of the largest scene Chamfer distance (the protocol's form), the worst first, then by key."""
    return sorted(report.scenes, key=lambda scene: (-_chamfer(scene, report.protocol), scene.key))[:count]


def write_worst_cases(
    report: EvaluationReport,
    predictions: Path,
    dataset: Path,
    out: Path,
    count: int,
    *,
    size: int = 480,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw the worst scenes of a report into `out`, as `{place:02d}_{key}.png`; they are aligned once more for it.

    Pictures of an earlier call are removed from `out`.

    Parameters
    ----------
    report : EvaluationReport
        Of `predictions` against `dataset`.
    predictions, dataset, out : Path
    count : int
        Scenes; all if there are fewer.
    size : int
        Pixels along a side of each of the three pictures of a scene.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    list of Path
        The worst first.

    Raises
    ------
    PredictionError, DatasetError
        If a file cannot be read.
    """
    worst, reading, truth = worst_scenes(report, count), report.reading, report.truth
    there = set(predicted_keys(predictions, reading, depth=truth.depth))
    truths: dict[str, Truth] = {one.key: one for one in read_truths(dataset, truth, [scene.key for scene in worst])}
    names = {scene.key: scene.key.replace("/", "_") for scene in report.scenes}
    for old in out.glob("*.png"):
        found = _NAME.fullmatch(old.name)
        if found and (found.group(1) in names.values() or SAMPLE_KEY.fullmatch(found.group(1))):
            old.unlink()
    paths = []
    for place, scene in enumerate(worst, start=1):
        prediction = read_predicted(predictions, scene.key, reading) if scene.key in there else None
        clouds = compared_clouds(truths[scene.key], prediction, report.protocol, report.seed, reading.match)
        picture = io.BytesIO()
        Image.fromarray(worst_case_sheet(scene, clouds, report.protocol, size)).save(picture, format="PNG")
        paths.append(out / f"{place:02d}_{names[scene.key]}.png")
        write_atomic(paths[-1], picture.getvalue())
        if progress is not None:
            progress(place, len(worst))
    return paths


def compared_clouds(
    truth: Truth, prediction: Predicted | None, protocol: Protocol, seed: int, match: Match = "id"
) -> ComparedClouds:
    """The points that `score_scene` compares for one view, where the protocol's alignment leaves them.

    Where nothing was predicted, the truth lies in the model's output range times two.
    """
    # The same streams as where they were scored: the same points, and so the same alignment.
    sampled = sample_scene(truth, prediction, protocol.points_per_object, seed)
    alone = dataclasses.replace(protocol, realigned_objects=False)
    aligned, _, _ = score_clouds(sampled.predicted, sampled.true, alone, match)
    if aligned is None:
        return ComparedClouds(predicted={}, true=[2 * cloud for cloud in sampled.true])
    return ComparedClouds(predicted=aligned.predicted, true=aligned.true)


def worst_case_sheet(scene: SceneScores, clouds: ComparedClouds, protocol: Protocol, size: int) -> NDArray[Any]:
    """Three pictures beside each other under a line of scores.

    They are the prediction over the truth (orange, grey), the predicted instances and the true instances, an instance
    in the same colour in both.

    Parameters
    ----------
    scene : SceneScores
    clouds : ComparedClouds
        Of the same scene. Their common box fills the pictures.
    protocol : Protocol
        Under which it was scored.
    size : int
        Pixels along a side of a picture.

    Returns
    -------
    (H, W, 3) uint8
        sRGB. Equal for equal arguments.

    Raises
    ------
    DatasetError
        If the truth has no instance.
    """
    if not clouds.true:
        raise DatasetError(f"{scene.key} has no true instance to draw")
    ids = sorted(clouds.predicted)
    parts = [clouds.predicted[number] for number in ids]
    shown = [cloud[np.abs(cloud).max(axis=1) <= FARTHEST] for cloud in parts]
    outside = 1 - sum(map(len, shown)) / sum(map(len, parts)) if parts else 0.0
    # One window for all three pictures: the common box of what is shown.
    whole = np.concatenate([*shown, *clouds.true])
    low, high = whole.min(axis=0), whole.max(axis=0)
    centre, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6)
    predicted, true = ([_voxels((cloud - centre) / half) for cloud in side] for side in (shown, clouds.true))
    colours = instance_colours(max([len(true), *ids]))
    overlay = voxel_picture([_union(predicted), _union(true)], size, colours=[PREDICTION_COLOUR, TRUTH_COLOUR])
    panels = [
        (overlay, "prediction (orange) over truth (grey)"),
        (voxel_picture(predicted, size, colours=[colours[number - 1] for number in ids]), _predicted_title(scene)),
        (voxel_picture(true, size, colours=colours), f"truth: {_count(len(true))}"),
    ]
    if not parts:
        panels[0] = (overlay, "truth (grey); nothing was predicted")
    elif outside >= 0.001:
        panels[1] = (panels[1][0], f"{panels[1][1]}; {100 * outside:.1f} % lies outside")
    return _sheet(panels, _score_line(scene, protocol), size)


def _predicted_title(scene: SceneScores) -> str:
    title = f"prediction: {_count(len(scene.instances) - scene.n_missing)}"
    if scene.surplus:
        title += f" and {scene.surplus} surplus"
    missing = [str(one.id) for one in scene.instances if one.problem is not None]
    return f"{title}; without {', '.join(missing)}" if missing else title


def _count(instances: int) -> str:
    return f"{instances} instance{'' if instances == 1 else 's'}"


def _chamfer(scene: SceneScores, protocol: Protocol) -> float:
    return float(getattr(scene.scene, protocol.chamfer))


def _score_line(scene: SceneScores, protocol: Protocol) -> str:
    scores = scene.scene
    line = f"{scene.key}   {protocol.name}   CD {_chamfer(scene, protocol):.4f}"
    line += f"   F@{protocol.tau:g} {100 * scores.f_score:.1f} %   box IoU {scores.aabb_iou:.3f}"
    if scene.voxel_iou is not None:
        line += f"   voxel IoU {scene.voxel_iou:.3f}"
    return f"{line}   alignment fell back" if scene.fell_back else line


def _voxels(points: NDArray[Any]) -> NDArray[Any]:
    """(V, 3) uint8 cells of the drawn grid that hold one of the points (P, 3) in [-1, 1]^3."""
    cells = np.floor((points + 1) / 2 * RESOLUTION)
    return np.unique(np.clip(cells, 0, RESOLUTION - 1).astype(np.uint8), axis=0).reshape(-1, 3)


def _union(grids: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.unique(np.concatenate([np.zeros((0, 3), np.uint8), *grids]), axis=0)


def _sheet(panels: Sequence[tuple[NDArray[Any], str]], words: str, size: int) -> NDArray[Any]:
    """Pictures side by side under one line, each with its own line above it."""
    gap, text = max(2, size // 40), max(10, size // 24)
    head, line = ImageFont.load_default(text), ImageFont.load_default(max(9, size // 30))
    top = 4 * text
    canvas = Image.new("RGB", (len(panels) * (size + gap) + gap, top + size + gap), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((gap, text), words, fill=INK, font=head, anchor="lm")
    for column, (picture, title) in enumerate(panels):
        left = gap + column * (size + gap)
        canvas.paste(Image.fromarray(picture), (left, top))
        pen.text((left, top - text), title, fill=SOFT, font=line, anchor="lm")
    return np.asarray(canvas)
