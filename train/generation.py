"""Latents of one view from its images: the same for predictions, pictures during training, and studies."""

import torch
from torch import Tensor

from randscene import seeding
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.sampler import sample
from randscene.train.settings import SamplingSettings


def generate_latents(
    model: ConditionedFlow, images: Tensor, *, key: str, seed: int, sampling: SamplingSettings, precision: str
) -> tuple[Tensor, Tensor]:
    """Generate a scene and its instances.

    The scene branch is run along once for all instances; every instance starts from the same noise (I-Scene's released
    inference), which follows from `seed` and `key`.

    Parameters
    ----------
    model : ConditionedFlow
        In evaluation mode; its device is where it is computed.
    images : (1 + N, 3, size, size) uint8 or float
        The scene's, then the instances'.
    key : str
        The view's.
    seed : int
    sampling : SamplingSettings
    precision : str
        The run's; `bfloat16` is heeded on CUDA alone.

    Returns
    -------
    scene : (1, 8, 16, 16, 16) float32 tensor, on the CPU
    instances : (N, 8, 16, 16, 16) float32 tensor, on the CPU
    """
    device = model.flow.pos_emb.device
    half = precision == "bfloat16" and device.type == "cuda"
    generator = torch.Generator().manual_seed(seeding.integer(seed, key, "sampling"))
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        tokens = model.conditioner(images.to(device))
        scene, instances = sample(
            model.flow,
            tokens[:1],
            tokens[1:],
            torch.zeros(len(tokens) - 1, dtype=torch.int64, device=device),
            generators=[generator],
            settings=sampling,
        )
    return scene.float().cpu(), instances.float().cpu()
