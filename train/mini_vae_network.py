"""The embedded mini sparse-structure VAE: its network, its loss, and the grids it learns from.

The published family at about 1/90 of its size. Almost all of its work happens at 16^3: the encoder gathers each 4^3
block by two strided convolutions and thinks at 16^3, so that encoding is cheap on one CPU core; the decoder has the
larger half of the weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randscene.train.layers import Conv3d
from randscene.train.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from randscene.train.voxel_pack import RESOLUTION, VoxelPack

ENCODER_ARGS: dict[str, Any] = {
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 0,
    "num_res_blocks_middle": 2,
    "channels": [8, 32, 64],
}
DECODER_ARGS: dict[str, Any] = {
    "out_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [64, 24, 12],
}
EMPTY_LOGIT = -4.0
"""Logit of every voxel before training: most voxels are empty."""


class MiniVae(nn.Module):
    """Both halves, under the names of the weights file (`encoder.*`, `decoder.*`)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SparseStructureEncoder(**ENCODER_ARGS)
        self.decoder = SparseStructureDecoder(**DECODER_ARGS)

    def forward(self, grid: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, mean and log-variance of `grid` (B, 1, R, R, R); `noise` (B, 8, R/4, R/4, R/4) is standard normal."""
        mean, logvar = self.encoder.moments(grid)
        mean, logvar = mean.float(), logvar.float().clamp(-20, 10)
        return self.decoder(mean + noise * (0.5 * logvar).exp()), mean, logvar


class Grids:
    """All grids of a pack on one device as bits, unpacked, turned and cropped there."""

    def __init__(self, pack: VoxelPack, device: torch.device) -> None:
        self.bits = torch.from_numpy(pack.bits).to(device)
        self.shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)

    def __getitem__(self, index: Tensor) -> Tensor:
        """(B, 64, 64, 64) uint8 occupancy of the grids `index` (B,) int64."""
        return (self.bits[index].unsqueeze(-1) >> self.shifts & 1).flatten(-2)

    def batch(self, index: Tensor, crop: int, generator: torch.Generator) -> Tensor:
        """(B, 1, crop, crop, crop) float32: `index` in eight equal parts, each under its own symmetry about z."""
        parts = [_symmetry(part, k) for k, part in enumerate(self[index].chunk(8))]
        grids = torch.cat(parts)
        if crop < RESOLUTION:
            grids = _crop(grids, crop, generator)
        return grids.unsqueeze(1).float()


def _symmetry(grids: Tensor, k: int) -> Tensor:
    turned = grids.rot90(k % 4, (1, 2))
    return turned.flip(1) if k >= 4 else turned


def _crop(grids: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a cube of edge `size` that holds a random occupied voxel of each grid; its corner is a multiple of 4."""
    flat = grids.flatten(1).float()
    voxel = torch.multinomial(flat, 1, generator=generator).squeeze(1)
    centre = torch.stack([voxel // RESOLUTION**2, voxel // RESOLUTION % RESOLUTION, voxel % RESOLUTION], 1)
    # Rounding the corner down moves it by up to 3 voxels, which must not push the chosen voxel out.
    shift = torch.randint(0, size - 3, centre.shape, generator=generator, device=grids.device)
    corner = ((centre - shift).clamp(0, RESOLUTION - size) // 4 * 4).tolist()
    return torch.stack(
        [grid[x : x + size, y : y + size, z : z + size] for grid, (x, y, z) in zip(grids, corner, strict=True)]
    )


def vae_loss(logits: Tensor, mean: Tensor, logvar: Tensor, grid: Tensor, kl_weight: float) -> Tensor:
    """Dice + cross-entropy + KL, averaged over the batch; all arguments float, `logits` and `grid` of one shape."""
    logits, grid = logits.float().flatten(1), grid.flatten(1)
    occupied = grid.sum(1).clamp_min(1)
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * grid).sum(1) + 1) / (probability.sum(1) + grid.sum(1) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, grid, reduction="none").sum(1) / occupied
    kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()
    return (dice + entropy).mean() + kl_weight * kl


@torch.no_grad()
def fold_latent_affine(vae: MiniVae, mean: Tensor, std: Tensor) -> None:
    """Make `(z - mean) / std` the latent, in place; `mean` and `std` are (8,), one value a latent channel.

    The encoder's map is exact. The decoder's is exact inside the cube; in the outermost layer of latent cells its
    convolution pads with zeros, which now stand for `mean`: no change where `mean` is zero, and otherwise one that
    training evens out, which is why folding also happens before the end.
    """
    weight, bias = _with_bias(vae.encoder.out_layer[2])
    into_weight, into_bias = _with_bias(vae.decoder.input_layer)
    channels = len(mean)
    weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / std
    bias[channels:] -= 2 * std.log()
    into_bias += (into_weight * mean.view(1, -1, 1, 1, 1)).sum((1, 2, 3, 4))
    into_weight *= std.view(1, -1, 1, 1, 1)


def fresh_vae(device: torch.device, seed: int) -> MiniVae:
    """A mini VAE with weights drawn from `seed`, whose logits begin near `EMPTY_LOGIT`."""
    vae = MiniVae()
    generator = torch.Generator().manual_seed(seed)
    vae.encoder.reset_parameters(generator)
    vae.decoder.reset_parameters(generator)
    nn.init.constant_(_with_bias(vae.decoder.out_layer[2])[1], EMPTY_LOGIT)
    for parameter in vae.parameters():
        if parameter.ndim == 5:  # the layout that convolutions on channels-last activations want
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return vae.to(device)


def _with_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, Conv3d)
    assert layer.bias is not None
    return layer.weight, layer.bias
