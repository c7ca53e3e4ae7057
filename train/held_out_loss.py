"""The flow-matching loss of any run on the same views: what tells runs apart before their scenes can be measured.

Unlike a run's own validation it depends on no setting of the run but its frame and encoder: the same views, all of
their instances, the same noise and the same times for every run, and one figure a view, so that runs can be compared
view by view.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from randscene import seeding
from randscene.errors import DatasetError
from randscene.train.batch import LatentSource
from randscene.train.checkpoint import load_run_settings, read_state
from randscene.train.conditioned_flow import ConditionedFlow, load_conditioned_flow, run_of
from randscene.train.devices import choose_device
from randscene.train.flow_matching import grouped_flow_loss
from randscene.train.image_conditioner import prepare_images
from randscene.train.settings import RunSettings
from randscene.train.training_data import open_split
from randscene.train.validation import stratified_times

if TYPE_CHECKING:
    from randscene.shards import ViewSample

TIMES = 8
"""Times at which a view's loss is taken: the middles of equal parts of the distribution of t."""
T_MEAN, T_STD = 1.0, 1.0
"""t = sigmoid(normal(mean, std)), the released trainer's, whatever the run learnt with."""
COLUMNS = ("total", "scene", "instance")
"""Of a view: the scene's loss, the mean of its instances', and their sum."""


def held_out_loss(
    checkpoint: Path,
    url: str | Path,
    *,
    split: str | None,
    keys: Sequence[str],
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Loss of a checkpoint's averaged weights on views of a dataset, conditions never dropped.

    Parameters
    ----------
    checkpoint : Path
        `RUN/checkpoints/step_...`.
    url : str or Path
        The dataset. Its latents are taken where it has those of the run's encoder; else its voxels are encoded.
    split : str or None
        Of the dataset, as `open_dataset` takes it.
    keys : sequence of str
        The views.
    seed : int
        Of the noise, which otherwise depends on the view alone.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.
    progress : callable, optional
        Called with (views done, views in all).

    Returns
    -------
    dict
        By key, then by the names in `COLUMNS`.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged or lies in no run, or latents must be encoded and the encoder cannot be loaded.
    DatasetError
        If the dataset is of another frame or encoder than the run's, has no such view, or cannot be read.
    SpecError
        If there is no such device.
    """
    settings = load_run_settings(run_of(checkpoint))
    place = choose_device(device)
    data = open_split(url, split, settings.data.encoder)
    index = {key: number for number, key in enumerate(data.keys)}
    unknown = next((key for key in keys if key not in index), None)
    if unknown is not None:
        where = url if split is None else f"split {split} of {url}"
        raise DatasetError(f"{where} has no view {unknown}: a key is scene and view, such as {data.keys[0]}")
    model = load_conditioned_flow(checkpoint).to(place)
    source = LatentSource(settings, sha256=read_state(checkpoint).data["encoder"]["sha256"], device=str(place))
    losses = {}
    for done, key in enumerate(keys, start=1):
        losses[key] = _loss(model, data[index[key]], source, settings, seed=seed, device=place)
        if progress is not None:
            progress(done, len(keys))
    return losses


def _loss(
    model: ConditionedFlow,
    sample: "ViewSample",
    source: LatentSource,
    settings: RunSettings,
    *,
    seed: int,
    device: torch.device,
) -> dict[str, float]:
    count = sample.n_instances
    half = settings.optimiser.precision == "bfloat16" and device.type == "cuda"  # as in prediction
    latents = torch.from_numpy(source.latents(sample, np.arange(1, count + 1)))
    images = torch.from_numpy(prepare_images(sample, settings.conditioner.image_size))
    generators = [
        torch.Generator().manual_seed(seeding.integer(seed, sample.key, number, "held-out loss"))
        for number in range(TIMES)
    ]
    noise = torch.stack([torch.randn(latents.shape, generator=generator) for generator in generators])
    # All times in one pass, as groups of their own: a small model is bound by its launches, not by its arithmetic.
    repeated = latents.expand(TIMES, *latents.shape)
    with torch.no_grad():
        loss = grouped_flow_loss(
            model,
            repeated[:, 0].to(device),
            repeated[:, 1:].flatten(0, 1).to(device),
            noise[:, 0].to(device),
            noise[:, 1:].flatten(0, 1).to(device),
            stratified_times(TIMES, mean=T_MEAN, std=T_STD).to(device),
            torch.cat([images[:1].expand(TIMES, *images[:1].shape[1:]), images[1:].repeat(TIMES, 1, 1, 1)]).to(device),
            torch.ones(TIMES, dtype=torch.bool, device=device),
            torch.arange(TIMES, device=device).repeat_interleave(count),
            half=half,
        )
    scene, instance = loss.scene.item(), loss.instance.item()
    return {"total": scene + instance, "scene": scene, "instance": instance}
