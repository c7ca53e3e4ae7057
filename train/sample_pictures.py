"""Pictures of what a model generates: one sheet, a row a scene, beside the image that it was given and the truth."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randscene.shards import ViewSample
from randscene.train.batch import GroupBatch, LatentSource, build_batch
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.generation import generate_latents
from randscene.train.metrics import voxel_iou
from randscene.train.picture_sheet import picture_sheet, scaled
from randscene.train.settings import RunSettings
from randscene.train.structure_encoder import LoadedDecoder, decode_latents
from randscene.train.validation import evaluating
from randscene.train.voxel_picture import instance_colours, voxel_picture

SCENE_COLOUR = (201, 206, 214)
"""Of the scene branch's voxels, which belong to no instance."""
COLUMNS = ("image", "truth", "generated instances", "generated scene")


def whole_scenes(samples: Sequence[ViewSample], settings: RunSettings, source: LatentSource) -> GroupBatch:
    """A batch of `samples` with all their instances, each once and in id order: groups of different sizes.

    Raises
    ------
    DatasetError
        If a sample has another frame or encoder than the run's, or cannot be used.
    """
    groups = []
    for view in samples:
        data = dataclasses.replace(settings.data, instances_per_scene=view.n_instances)
        batch = build_batch([view], dataclasses.replace(settings, data=data), source, positions=[0])
        order = batch.instances.argsort()
        groups.append(
            dataclasses.replace(
                batch,
                instance_latents=batch.instance_latents[order],
                instances=batch.instances[order],
                images=torch.cat([batch.images[:1], batch.images[1:][order]]),
            )
        )
    return GroupBatch(
        scene_latents=torch.cat([group.scene_latents for group in groups]),
        instance_latents=torch.cat([group.instance_latents for group in groups]),
        images=torch.cat([*(group.images[:1] for group in groups), *(group.images[1:] for group in groups)]),
        scene_of=torch.cat([torch.full((len(group.instances),), number) for number, group in enumerate(groups)]),
        instances=torch.cat([group.instances for group in groups]),
        keys=tuple(group.keys[0] for group in groups),
        positions=tuple(range(len(groups))),
    )


def sample_sheet(
    model: ConditionedFlow,
    decoder: LoadedDecoder,
    batch: GroupBatch,
    settings: RunSettings,
    *,
    views: Sequence[ViewSample] | None = None,
    seed: int = 0,
    size: int = 256,
) -> NDArray[Any]:
    """What the model generates for the groups of a batch, as a sheet: a row a group.

    A row shows the image, the true voxels, the generated instances, and the generated scene; below the last two the
    overlap with the truth: IoU of the voxels of all instances together, and of the scene.

    Parameters
    ----------
    model : ConditionedFlow
        Computed where it lies. Put in evaluation mode, and back to its own at the end.
    decoder : LoadedDecoder
        Of the run's latents.
    batch : GroupBatch
        Of different groups, best of whole scenes (`whole_scenes`). An instance that is given twice is generated once.
    settings : RunSettings
        Of the run: its `sampling`, and its precision on CUDA.
    views : sequence of ViewSample, optional
        The groups' samples: their voxels are the truth then. By default it is the batch's latents, decoded: as well
        as a perfect model would do, but the work of a decoder once more.
    seed : int
        Of the initial noise, which follows from it and the sample's key as in `randscene predict`.
    size : int
        Pixels along a side of each picture.

    Returns
    -------
    (H, W, 3) uint8
        Equal on a CPU for equal arguments.
    """
    rows = []
    for group, key in enumerate(batch.keys):
        ids, members = _members(batch, group)
        images = batch.images[[group, *(len(batch.keys) + row for row in members)]]
        with evaluating(model):
            latents = generate_latents(
                model,
                [images],
                keys=[key],
                seed=seed,
                sampling=settings.sampling,
                precision=settings.optimiser.precision,
            )[0]
        if views is not None:
            truth = [views[group].scene_coords(), *map(views[group].instance_coords, ids)]
        else:
            true_latents = [batch.scene_latents[group : group + 1], batch.instance_latents[members]]
            truth = _voxels(decoder, torch.cat(true_latents))
        rows.append(_row(images[0], key, ids, truth, _voxels(decoder, latents), size))
    return picture_sheet(COLUMNS, rows, size)


def _members(batch: GroupBatch, group: int) -> tuple[list[int], list[int]]:
    """Rising ids of a group's instances, each once, and their rows among the batch's instances."""
    rows = (batch.scene_of == group).nonzero()[:, 0].tolist()
    first = {int(batch.instances[row]): row for row in reversed(rows)}
    return sorted(first), [first[identity] for identity in sorted(first)]


def _row(
    image: Tensor, key: str, ids: list[int], truth: list[NDArray[Any]], made: list[NDArray[Any]], size: int
) -> list[tuple[NDArray[Any], str]]:
    """The four pictures of a group and the words below them; voxels of the scene come first."""
    colours = instance_colours(max(ids, default=0))
    tints = [colours[identity - 1] for identity in ids]
    return [
        (scaled(image.permute(1, 2, 0).contiguous().numpy(), size), key),
        (voxel_picture(truth[1:], size, colours=tints), f"{len(ids)} instances"),
        (voxel_picture(made[1:], size, colours=tints), _overlap(made[1:], truth[1:])),
        (voxel_picture(made[:1], size, colours=[SCENE_COLOUR]), _overlap(made[:1], truth[:1])),
    ]


def _voxels(decoder: LoadedDecoder, latents: Tensor) -> list[NDArray[Any]]:
    """(V, 3) uint8 voxels of each latent."""
    return [np.argwhere(logits > 0).astype(np.uint8) for logits in decode_latents(decoder, latents.numpy())]


def _overlap(made: Sequence[NDArray[Any]], truth: Sequence[NDArray[Any]]) -> str:
    """In words: IoU of the unions of grids, (V, 3) uint8 each."""
    nothing = np.zeros((0, 3), np.uint8)
    first, second = (np.concatenate([nothing, *grids]) for grids in (made, truth))
    return f"IoU {voxel_iou(first, second):.2f}"
