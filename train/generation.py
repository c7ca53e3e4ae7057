"""Latents of views from their images: the same for predictions, pictures during training, and studies."""

from collections.abc import Sequence

import torch
from torch import Tensor

from randscene import seeding
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.sampler import sample
from randscene.train.settings import SamplingSettings


def generate_latents(
    model: ConditionedFlow,
    images: Sequence[Tensor],
    *,
    keys: Sequence[str],
    seed: int,
    sampling: SamplingSettings,
    precision: str,
) -> list[Tensor]:
    """Generate the instances of several views together, each along with its scene.

    A view's scene branch is run along once for all of its instances, which start from the same noise (I-Scene's
    released inference). That noise follows from `seed` and the view's key.

    Parameters
    ----------
    model : ConditionedFlow
        In evaluation mode; its device is where it is computed.
    images : sequence of (1 + N, 3, size, size) uint8 or float tensors
        Of each view: the scene's, then the instances'.
    keys : sequence of str
        The views'.
    seed : int
    sampling : SamplingSettings
    precision : str
        The run's; `bfloat16` is heeded on CUDA alone.

    Returns
    -------
    list of (1 + N, 8, 16, 16, 16) float32 tensors, on the CPU
        Of each view: the scene's, then the instances'.
    """
    device = model.flow.pos_emb.device
    half = precision == "bfloat16" and device.type == "cuda"
    counts = [len(view) - 1 for view in images]
    generators = [torch.Generator().manual_seed(seeding.integer(seed, key, "sampling")) for key in keys]
    pixels = torch.cat([*(view[:1] for view in images), *(view[1:] for view in images)])
    scene_of = torch.repeat_interleave(torch.arange(len(images)), torch.tensor(counts)).to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        tokens = model.conditioner(pixels.to(device))
        scenes, instances = sample(
            model.flow,
            tokens[: len(images)],
            tokens[len(images) :],
            scene_of,
            generators=generators,
            settings=sampling,
        )
    parts = instances.float().cpu().split(counts)
    return [torch.cat([scene[None], part]) for scene, part in zip(scenes.float().cpu(), parts)]
