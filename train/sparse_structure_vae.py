"""Sparse-structure VAE: 64^3 occupancy to an 8 x 16^3 latent and back (TRELLIS, `ss_{enc,dec}_conv3d_16l8`).

Both halves are plain 3D convolution networks that halve or double the grid once per change of channels. Parameter
names and shapes are those of the published checkpoints, so a published file loads with `strict=True`.

Precision: `use_fp16=True` holds the convolutions of `blocks` and `middle_block` in float16, as the published files
do, and runs them on float16 activations; the input layer, the output layer and every normalisation stay float32.
`set_torso_dtype` changes that afterwards (float32 on a CPU, for instance).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randscene.errors import SpecError
from randscene.train.layers import ChannelLayerNorm32, Conv3d, fan_in_normal, fill, stream_dtype, weighted_layers, zero


class ResBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus the input: `(B, C, X, Y, Z)` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm32(channels)
        self.norm2 = ChannelLayerNorm32(channels)
        self.conv1 = Conv3d(channels, channels, 3, padding=1)
        self.conv2 = Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Downsample(nn.Module):
    """Halve the grid with a convolution of kernel 2 and stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double the grid: a convolution to eight times the channels, then `pixel_shuffle_3d`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, out_channels * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle_3d(self.conv(x), 2)


def pixel_shuffle_3d(x: Tensor, factor: int) -> Tensor:
    """Move channels into space: `(B, C * f^3, X, Y, Z)` to `(B, C, f X, f Y, f Z)`.

    Input channel `((c * f + i) * f + j) * f + k` lands in output channel `c` at offset `(i, j, k)` of its cell.
    """
    batch, channels, *size = x.shape
    x = x.reshape(batch, channels // factor**3, factor, factor, factor, *size)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // factor**3, *(n * factor for n in size))


class _Half(nn.Module):
    """What both halves share: the torso's type and initialisation."""

    input_layer: Conv3d
    blocks: nn.ModuleList
    middle_block: nn.Sequential
    out_layer: nn.Sequential
    """Norm, SiLU, convolution."""

    def _finish(self, use_fp16: bool) -> None:
        self.torso_dtype = torch.float32
        self.reset_parameters(torch.Generator().manual_seed(0))
        self.set_torso_dtype(torch.float16 if use_fp16 else torch.float32)

    def set_torso_dtype(self, dtype: torch.dtype) -> None:
        """Hold and run the convolutions between input and output layer in `dtype` (float32, float16 or bfloat16)."""
        self.torso_dtype = dtype
        for part in (self.blocks, self.middle_block):
            for layer in weighted_layers(part):
                layer.to(dtype)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh weights: fan-in normal, biases zero, and each residual branch zero at the start."""
        for layer in weighted_layers(self):
            zero(layer)
            fill(layer.weight, fan_in_normal(), generator)
        for module in self.modules():
            if isinstance(module, ResBlock):
                zero(module.conv2)

    def _run(self, x: Tensor, *stages: nn.Module) -> Tensor:
        h = self.input_layer(x).to(stream_dtype(self.torso_dtype, x.device))
        for stage in stages:
            for block in stage.children():
                h = block(h)
        return self.out_layer(h.to(x.dtype))


class SparseStructureEncoder(_Half):
    """Occupancy grid to latent (TRELLIS, `models/sparse_structure_vae.py::SparseStructureEncoder`).

    Parameters
    ----------
    in_channels, latent_channels : int
        1 and 8 in the public model.
    num_res_blocks, num_res_blocks_middle : int
        Residual blocks at each resolution, and after the last.
    channels : sequence of int
        Channels at each resolution, finest first; the grid is halved `len(channels) - 1` times.
    norm_type : str
        Only `layer` exists in public checkpoints.
    use_fp16 : bool
        See the module's first lines.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        _check_norm(norm_type)
        self.latent_channels = latent_channels
        self.input_layer = Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock(width) for _ in range(num_res_blocks))
            if level + 1 < len(channels):
                self.blocks.append(Downsample(width, channels[level + 1]))
        self.middle_block = nn.Sequential(*(ResBlock(channels[-1]) for _ in range(num_res_blocks_middle)))
        self.out_layer = _out_layer(channels[-1], latent_channels * 2)
        self._finish(use_fp16)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each `(B, latent_channels, R/4, R/4, R/4)` for three levels.

        `x`: `(B, in_channels, R, R, R)` float32, 1 where a voxel is occupied, else 0.
        """
        mean, logvar = self._run(x, self.blocks, self.middle_block).chunk(2, dim=1)
        return mean, logvar

    def forward(self, x: Tensor) -> Tensor:
        """The posterior mean: the latent that data sets store and the flow model learns. See `moments`."""
        return self.moments(x)[0]


class SparseStructureDecoder(_Half):
    """Latent to occupancy logits (TRELLIS, `models/sparse_structure_vae.py::SparseStructureDecoder`).

    Parameters are those of `SparseStructureEncoder`, with `channels` coarsest first, and `out_channels`
    in place of `in_channels`.
    """

    def __init__(
        self,
        *,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        _check_norm(norm_type)
        self.latent_channels = latent_channels
        self.input_layer = Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock(channels[0]) for _ in range(num_res_blocks_middle)))
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock(width) for _ in range(num_res_blocks))
            if level + 1 < len(channels):
                self.blocks.append(Upsample(width, channels[level + 1]))
        self.out_layer = _out_layer(channels[-1], out_channels)
        self._finish(use_fp16)

    def forward(self, z: Tensor) -> Tensor:
        """Logits `(B, out_channels, 4 r, 4 r, 4 r)` of latents `(B, latent_channels, r, r, r)`; occupied where > 0."""
        return self._run(z, self.middle_block, self.blocks)


def _out_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(ChannelLayerNorm32(in_channels), nn.SiLU(), Conv3d(in_channels, out_channels, 3, padding=1))


def _check_norm(norm_type: str) -> None:
    if norm_type != "layer":
        raise SpecError(f'norm_type "{norm_type}" is not supported: sparse-structure checkpoints use "layer"')
