"""Evaluation of a folder of predictions against a dataset's ground truth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import PredictionError
from randscene.seeding import generator
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.metrics import voxel_iou
from randscene.train.output_layouts import OWN, Match, PredictionReading
from randscene.train.output_scene import Predicted, Truth, check_predicted, predicted_keys, read_predicted
from randscene.train.part_overlap import part_overlap
from randscene.train.placement import InstancePlacement, duplicate_rate, instance_placement
from randscene.train.protocols import Protocol, load_protocol
from randscene.train.scene_scores import AlignedScene, InstanceScores, SceneScores, penalty, score_clouds
from randscene.train.triangle_mesh import TriangleMesh, sample_surface
from randscene.train.truth_layouts import DATASET, TruthReading, read_truths
from randscene.worker_pool import usable_cores, worker_pool


@dataclass(frozen=True, kw_only=True)
class _Job:
    truth: Truth
    prediction: Predicted | None
    protocol: Protocol
    seed: int
    match: Match


def evaluate(
    predictions: Path,
    dataset: Path,
    protocol: str | Protocol = "iscene",
    *,
    reading: PredictionReading = OWN,
    truth: TruthReading = DATASET,
    split: str | None = None,
    require_all: bool = False,
    by_split: bool = False,
    workers: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Score every prediction in a folder.

    All predictions are checked before the first is scored, so that a folder which must be refused is refused at once.
    Each scene is scored by one process with one thread; the result does not depend on their number. With more than
    one worker, a script must guard its entry with `if __name__ == "__main__"` (processes are spawned).

    Parameters
    ----------
    predictions : Path
        Folder with one sub-folder a view, as `randscene predict` writes it, or as `reading` says.
    dataset : Path
        Dataset folder with true meshes (`scenes/{scene:06d}.glb`) for the views that were predicted, or what `truth`
        says.
    protocol : str or Protocol
        A named protocol (see `randscene.train.protocols`) or one of your own.
    reading : PredictionReading
        The layout of the predictions; see `prediction_reading`.
    truth : TruthReading
        The kind of the truth; see `truth_reading`.
    split : str, optional
        Only this split's samples count.
    require_all : bool
        Every sample of the dataset (or of `split`) must have been predicted: one that was not scores as a scene
        whose every instance is missing. By default the predictions that are there are the evaluation.
    by_split : bool
        The report also tells the means of each split.
    workers : int, optional
        Processes; by default one for each usable core.
    seed : int
        Of the surface points.
    progress : callable, optional
        Called with (scenes done, scenes in all).

    Returns
    -------
    EvaluationReport
        Scenes in the order of their keys.

    Raises
    ------
    SpecError
        If there is no such protocol.
    PredictionError
        If a prediction cannot be compared with the ground truth as it stands: see `prediction_reader`, `output_scene`.
    DatasetError
        If the dataset cannot be read, or lacks the ground truth of a prediction.
    """
    rules = protocol if isinstance(protocol, Protocol) else load_protocol(protocol)
    found = {
        key: read_predicted(predictions, key, reading)
        for key in predicted_keys(predictions, reading, depth=truth.depth)
    }
    truths = read_truths(dataset, truth, None if require_all else found, split)
    by_key: dict[str, Truth] = {one.key: one for one in truths}
    for key, prediction in found.items():
        if key not in by_key:
            raise PredictionError(
                f"prediction {key} is of no sample of {dataset}; give the dataset that it was made for"
            )
        check_predicted(prediction, by_key[key], reading)
    for one in truths:
        one.check_file()
    jobs = [
        _Job(truth=by_key[key], prediction=found.get(key), protocol=rules, seed=seed, match=reading.match)
        for key in sorted(by_key)
    ]
    rows = []
    for row in _run(jobs, workers or usable_cores()):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(jobs))
    return EvaluationReport(
        protocol=rules, seed=seed, scenes=tuple(rows), by_split=by_split, reading=reading, truth=truth
    )


@dataclass(frozen=True, kw_only=True)
class SampledScene:
    """The surface points of both sides of one view, in the view-centric cube, and what could not be sampled."""

    true: list[NDArray[Any]]
    """(P, 3) float64 of every true instance in id order."""
    predicted: dict[int, NDArray[Any]]
    """(P, 3) float64 of each predicted instance that has a surface, by its number."""
    problems: dict[int, str]
    """Why the others have none."""
    meshes: list[TriangleMesh]
    """Of the predicted instances that have a surface, by number."""


def sample_scene(truth: Truth, prediction: Predicted | None, points: int, seed: int) -> SampledScene:
    """Draw `points` points from the surface of every instance of both sides; streams depend on key, number and side.

    Raises
    ------
    PredictionError
        If a file of the prediction is broken.
    DatasetError
        If the true meshes are missing or broken.
    """
    scene = truth.scene()
    true, predicted, problems, meshes = [], {}, {}, []
    for number, mesh in enumerate(scene.meshes, start=1):
        true.append(sample_surface(mesh, points, generator(seed, "surface", truth.key, number, "truth")))
    found = {} if prediction is None else prediction.meshes(scene)
    for number in sorted(found):
        mesh_or_problem = found[number]
        if isinstance(mesh_or_problem, str):
            problems[number] = mesh_or_problem
            continue
        rng = generator(seed, "surface", truth.key, number, "prediction")
        predicted[number] = sample_surface(mesh_or_problem, points, rng)
        meshes.append(mesh_or_problem)
    return SampledScene(true=true, predicted=predicted, problems=problems, meshes=meshes)


def score_scene(
    truth: Truth, prediction: Predicted | None, protocol: Protocol, seed: int = 0, match: Match = "id"
) -> SceneScores:
    """Score one view.

    Parameters
    ----------
    truth : GroundTruth or FileTruth
    prediction : Prediction, OutputScene or None
        None scores as a prediction without any instance.
    protocol : Protocol
    seed : int
        Of the surface points, which also depend on key, instance and side.
    match : {"id", "hungarian"}
        How predicted instances find the true ones; see `output_layouts.Match`.

    Raises
    ------
    PredictionError
        If a file of the prediction is broken.
    DatasetError
        If the true meshes are missing or broken.
    """
    scene_voxels, instance_voxels = _voxel_scores(truth, prediction, by_id=match == "id")
    sampled = sample_scene(truth, prediction, protocol.points_per_object, seed)
    aligned, in_scene, realigned = score_clouds(sampled.predicted, sampled.true, protocol, match)
    partners = aligned.partners if aligned else {}
    # Without ids, nothing says which true instance a broken one was meant for.
    by_id = sampled.problems if match == "id" else {}
    registration = aligned.registration if aligned else None
    placed = _placements(aligned)
    return SceneScores(
        key=truth.key,
        scene=aligned.scores if aligned else penalty(protocol),
        instances=tuple(
            InstanceScores(
                id=number,
                problem=None if number in partners else by_id.get(number, "missing"),
                in_scene=in_scene[number - 1],
                realigned=realigned[number - 1],
                voxel_iou=instance_voxels[number - 1],
                placement=placed.get(number),
                partner=partners.get(number),
            )
            for number in range(1, truth.n_instances + 1)
        ),
        voxel_iou=scene_voxels,
        normalisation=aligned.normalisation if aligned else None,
        transform=registration.transform if registration else None,
        fitness=registration.fitness if registration else None,
        rmse=registration.rmse if registration else None,
        fell_back=bool(registration and registration.fell_back),
        prediction_seconds=prediction.seconds if prediction else None,
        split=truth.split,
        surplus=len(sampled.predicted) - len(partners),
        unusable=" ".join(f"{number}:{why}" for number, why in sampled.problems.items() if match != "id"),
        duplicate_rate=duplicate_rate(aligned.predicted, aligned.true, truth.uids) if aligned and truth.uids else None,
        part_overlap=part_overlap(sampled.meshes),
    )


def _placements(aligned: AlignedScene | None) -> dict[int, InstancePlacement]:
    """Of every instance that was predicted, by its id."""
    if aligned is None:
        return {}
    return {
        number: instance_placement(aligned.predicted[number], cloud)
        for number, cloud in enumerate(aligned.true, start=1)
        if number in aligned.predicted
    }


def _voxel_scores(
    truth: Truth, prediction: Predicted | None, *, by_id: bool
) -> tuple[float | None, list[float | None]]:
    """Scene's and instances' voxel IoU; 0 for what was not predicted, None where a side holds no voxels, and for
    instances that no id matches."""
    unknown: list[float | None] = [None] * truth.n_instances
    occupancy = {} if prediction is None else prediction.occupancy()
    if occupancy is None or truth.coords is None:
        return None, unknown
    nothing = np.zeros((0, 3), np.uint8)
    scene = voxel_iou(np.concatenate([nothing, *occupancy.values()]), truth.coords)
    if not by_id:
        return scene, unknown
    each: list[float | None] = [
        voxel_iou(occupancy.get(i, nothing), truth.coords[truth.offsets[i - 1] : truth.offsets[i]])
        for i in range(1, truth.n_instances + 1)
    ]
    return scene, each


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[SceneScores]:
    if min(workers, len(jobs)) <= 1:
        yield from map(_score, jobs)
        return
    with worker_pool(min(workers, len(jobs)), does="scoring") as pool:
        yield from pool.map(_score, jobs)


def _score(job: _Job) -> SceneScores:
    return score_scene(job.truth, job.prediction, job.protocol, job.seed, job.match)
