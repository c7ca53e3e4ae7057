"""Prediction: a picture with instance masks to one mesh an instance, all in place in the view-centric cube.

`prediction_view` says what is predicted, `prediction_folder` what is written.
"""

import collections
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from randscene.canonical_json import digest
from randscene.train.batch import check_frame, same_frame
from randscene.train.devices import choose_device
from randscene.train.generation import generate_latents
from randscene.train.image_conditioner import prepare_images
from randscene.train.prediction_folder import PredictedView, finished_prediction, write_prediction
from randscene.train.prediction_source import PredictionSource, find_source
from randscene.train.prediction_view import View
from randscene.train.settings import SamplingSettings
from randscene.train.structure_encoder import decode_latents
from randscene.worker_pool import usable_cores, worker_pool

if TYPE_CHECKING:
    from randscene.shards import ViewSample

_Job = Callable[[], PredictedView]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many views go through a model together, and how many processes write what comes out."""

    at_once: int
    workers: int


def usual_pace(device: torch.device, views: int) -> Pace:
    """One view after the other on a CPU, where nothing else is free to write; on a GPU eight, and all cores write."""
    if device.type == "cpu":
        return Pace(at_once=1, workers=1)
    return Pace(at_once=min(8, max(views, 1)), workers=min(usable_cores(), max(views, 1)))


class Predictor:
    """Trained or published weights, ready to predict.

    Parameters
    ----------
    source : Path or str or PredictionSource
        As `find_source` takes it. Of a run, the newest checkpoint; of a checkpoint, the averaged weights.
    sampling : SamplingSettings, optional
        The source's own by default.
    seed : int
        Of the initial noise; a view's noise follows from it and the view's key.
    smoothing : int
        Passes of Taubin smoothing over the meshes.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.

    Raises
    ------
    CheckpointError, SpecError
        See `find_source`, `choose_device` and `PredictionSource.load`.
    """

    def __init__(
        self,
        source: Path | str | PredictionSource,
        *,
        sampling: SamplingSettings | None = None,
        seed: int = 0,
        smoothing: int = 0,
        device: str | None = None,
    ) -> None:
        found = source if isinstance(source, PredictionSource) else find_source(source)
        self.settings = found.settings
        self.sampling = sampling or found.settings.sampling
        self.seed, self.smoothing = seed, smoothing
        self.device = choose_device(device)
        self.loaded = found.load(str(self.device))
        self.model, self.decoder = self.loaded.flow.to(self.device), self.loaded.decoder

    def view(self, sample: "ViewSample", *, any_frame: bool = False) -> View:
        """A dataset's sample as a view to predict.

        Parameters
        ----------
        sample : ViewSample
        any_frame : bool
            Take it even if it is of another frame than the model's: picture and masks are the same in all. The
            prediction is in the model's frame then, and names no place in the world.

        Raises
        ------
        DatasetError
            If it is of another frame, unless `any_frame`.
        """
        data = self.settings.data
        if not any_frame:
            check_frame(sample.meta, data, where=f"sample {sample.key}")
        return View.of_sample(sample, same_frame=same_frame(sample.meta, data))

    def logits(self, views: Sequence[View]) -> list[NDArray[Any]]:
        """Occupancy logits of the instances of several views, computed together.

        The scene branch is run along once for all instances of a view, which all start from the same noise (I-Scene's
        released inference); it depends on the view's key alone. Other views beside it change a view's logits by
        rounding only: kernels add up in another order for another number of sequences.

        Returns
        -------
        list of (N, 64, 64, 64) float32
            Of each view, index (x, y, z), in the view-centric cube.

        Raises
        ------
        DatasetError
            If a view shows no instance.
        """
        images = [torch.from_numpy(prepare_images(view.image, self.settings.conditioner.image_size)) for view in views]
        latents = generate_latents(
            self.model,
            images,
            keys=[view.key for view in views],
            seed=self.seed,
            sampling=self.sampling,
            precision=self.settings.optimiser.precision,
        )
        instances = [part[1:] for part in latents]
        logits = decode_latents(self.decoder, torch.cat(instances).numpy())
        return np.split(logits, np.cumsum([len(part) for part in instances])[:-1])

    def settings_digest(self) -> str:
        """Identity of everything but the view that a prediction depends on."""
        return digest(
            {
                "checkpoint": self.loaded.identity,
                "sampling": self.sampling,
                "seed": self.seed,
                "smoothing": self.smoothing,
            }
        )

    def predict(self, view: View, out: Path) -> PredictedView:
        """Predict one view into `out/{view.key}`, whole or not at all; a finished one of equal settings is kept.

        Raises
        ------
        DatasetError
            If the view shows no instance.
        PredictionError
            If the folder holds something else, or a prediction with other settings or of another view.
        RandsceneError
            If the disk is full or not writable.
        """
        return next(self.predict_all([lambda: view], out))

    def predict_all(
        self, views: Sequence[Callable[[], View]], out: Path, *, at_once: int = 1, workers: int = 1
    ) -> Iterator[PredictedView]:
        """Predict views into `out`, several at once; raises what `predict` does.

        Views go through the model in the same groups whatever is finished already, so that a call that goes on ends in
        what an uninterrupted one does.

        Parameters
        ----------
        views : sequence of callables
            Each gives its view when called; so a dataset is not read before it is needed.
        out : Path
        at_once : int
            Views that go through the model together; their memory is that of all their instances.
        workers : int
            Processes that mesh and write beside the model; 1 does both here, in turns. With more, a script must guard
            its entry with `if __name__ == "__main__"` (processes are spawned).

        Yields
        ------
        PredictedView
            In the order of `views`.
        """
        jobs: collections.deque[_Job] = collections.deque()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(worker_pool(workers, does="writing")) if workers > 1 else None
            most = 0 if pool is None else 2 * max(workers, at_once)
            for first in range(0, len(views), at_once):
                for job in self._jobs([load() for load in views[first : first + at_once]], out):
                    jobs.append(job if pool is None else pool.submit(job).result)
                while len(jobs) > most:
                    yield jobs.popleft()()
            while jobs:
                yield jobs.popleft()()

    def _jobs(self, views: list[View], out: Path) -> list[_Job]:
        """What is left to do of a group of views, once the model has done its part."""
        finished = [finished_prediction(view, out / view.key, self.settings_digest()) for view in views]
        if None not in finished:
            return [functools.partial(_same, done) for done in finished if done is not None]
        begun = time.monotonic()
        logits = self.logits(views)
        share = (time.monotonic() - begun) / len(views)
        jobs: list[_Job] = []
        for done, view, fields in zip(finished, views, logits):
            if done is not None:
                jobs.append(functools.partial(_same, done))
                continue
            begun = time.monotonic()
            more = self._beside(view, fields)
            words = more | {"seconds": share + time.monotonic() - begun, "smoothing": self.smoothing}
            jobs.append(functools.partial(write_prediction, view, out / view.key, fields, self._about(), **words))
        return jobs

    def _beside(self, view: View, logits: NDArray[Any]) -> dict[str, Any]:
        """Further arguments of `write_prediction` for a view, for predictors that make more of it."""
        return {}

    def _about(self) -> dict[str, Any]:
        return {
            "frame": self.settings.data.frame,
            "checkpoint": self.loaded.sha256,
            "checkpoint_step": self.loaded.step,
            "source": self.loaded.about,
            "steps": self.sampling.steps,
            "cfg": self.sampling.cfg_strength,
            "seed": self.seed,
            "settings_digest": self.settings_digest(),
        }


def _same(done: PredictedView) -> PredictedView:
    return done
