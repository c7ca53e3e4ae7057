"""Evaluation of a folder of predictions against a dataset's ground truth."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from randscene.errors import PredictionError, RandsceneError
from randscene.seeding import generator
from randscene.train.evaluation_report import EvaluationReport
from randscene.train.ground_truth import GroundTruth, read_ground_truth
from randscene.train.metrics import voxel_iou
from randscene.train.prediction_reader import Prediction, check_against, list_predictions, read_prediction
from randscene.train.protocols import Protocol, load_protocol
from randscene.train.scene_scores import InstanceScores, SceneScores, penalty, score_clouds
from randscene.train.triangle_mesh import sample_surface

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class _Job:
    truth: GroundTruth
    prediction: Prediction | None
    protocol: Protocol
    seed: int


def evaluate(
    predictions: Path,
    dataset: Path,
    protocol: str | Protocol = "iscene",
    *,
    split: str | None = None,
    require_all: bool = False,
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
        Folder with one sub-folder a view, as `randscene predict` writes it.
    dataset : Path
        Dataset folder with true meshes (`scenes/{scene:06d}.glb`) for the views that were predicted.
    protocol : str or Protocol
        A named protocol (see `randscene.train.protocols`) or one of your own.
    split : str, optional
        Only this split's samples count.
    require_all : bool
        Every sample of the dataset (or of `split`) must have been predicted: one that was not scores as a scene
        whose every instance is missing. By default the predictions that are there are the evaluation.
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
        If a prediction cannot be compared with the ground truth as it stands: see `prediction_reader`.
    DatasetError
        If the dataset cannot be read, or lacks the ground truth of a prediction.
    """
    rules = protocol if isinstance(protocol, Protocol) else load_protocol(protocol)
    found = {key: read_prediction(predictions / key) for key in list_predictions(predictions)}
    truths = read_ground_truth(dataset, None if require_all else found, split)
    by_key = {truth.key: truth for truth in truths}
    for key, prediction in found.items():
        if key not in by_key:
            raise PredictionError(
                f"prediction {key} is of no sample of {dataset}; give the dataset that it was made for"
            )
        check_against(prediction, by_key[key])
    for truth in truths:
        truth.check_file()
    jobs = [_Job(truth=by_key[key], prediction=found.get(key), protocol=rules, seed=seed) for key in sorted(by_key)]
    rows = []
    for row in _run(jobs, workers or usable_cores()):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(jobs))
    return EvaluationReport(protocol=rules, seed=seed, scenes=tuple(rows))


def score_scene(truth: GroundTruth, prediction: Prediction | None, protocol: Protocol, seed: int = 0) -> SceneScores:
    """Score one view.

    Parameters
    ----------
    truth : GroundTruth
    prediction : Prediction or None
        None scores as a prediction without any instance.
    protocol : Protocol
    seed : int
        Of the surface points, which also depend on key, instance and side.

    Raises
    ------
    PredictionError
        If a file of the prediction is broken.
    DatasetError
        If the true meshes are missing or broken.
    """
    scene_voxels, instance_voxels = _voxel_scores(truth, prediction)
    true, predicted, problems = [], {}, {}
    for number, mesh in enumerate(truth.meshes(), start=1):
        rng = generator(seed, "surface", truth.key, number, "truth")
        true.append(sample_surface(mesh, protocol.points_per_object, rng))
        mesh_or_problem = "missing" if prediction is None else prediction.mesh(number)
        if isinstance(mesh_or_problem, str):
            problems[number] = mesh_or_problem
            continue
        rng = generator(seed, "surface", truth.key, number, "prediction")
        predicted[number] = sample_surface(mesh_or_problem, protocol.points_per_object, rng)
    aligned, in_scene, realigned = score_clouds(predicted, true, protocol)
    registration = aligned.registration if aligned else None
    return SceneScores(
        key=truth.key,
        scene=aligned.scores if aligned else penalty(protocol),
        instances=tuple(
            InstanceScores(
                id=number,
                problem=problems.get(number),
                in_scene=in_scene[number - 1],
                realigned=realigned[number - 1],
                voxel_iou=instance_voxels[number - 1],
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
    )


def _voxel_scores(truth: GroundTruth, prediction: Prediction | None) -> tuple[float | None, list[float | None]]:
    """Scene's and instances' voxel IoU; 0 for what was not predicted, None if the prediction holds no voxels."""
    occupancy = {} if prediction is None else prediction.occupancy()
    if occupancy is None:
        return None, [None] * truth.n_instances
    nothing = np.zeros((0, 3), np.uint8)
    scene = voxel_iou(np.concatenate([nothing, *occupancy.values()]), truth.coords)
    each: list[float | None] = [
        voxel_iou(occupancy.get(i, nothing), truth.coords[truth.offsets[i - 1] : truth.offsets[i]])
        for i in range(1, truth.n_instances + 1)
    ]
    return scene, each


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[SceneScores]:
    if min(workers, len(jobs)) <= 1:
        yield from map(_score, jobs)
        return
    with _single_threaded_children():
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=spawn, initializer=_leave_interrupts_to_parent)
        try:
            yield from pool.map(_score, jobs)
        except BrokenProcessPool as error:
            raise RandsceneError(
                "a scoring process was killed, most likely for want of memory; run again with fewer workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _score(job: _Job) -> SceneScores:
    return score_scene(job.truth, job.prediction, job.protocol, job.seed)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    # Numeric libraries read these when they are first imported, which in a spawned child is before any of our code.
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
