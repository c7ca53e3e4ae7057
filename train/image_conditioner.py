"""From a view to condition tokens: the scene's crop, the instances' masked crops, and the image encoder."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from randscene.errors import DatasetError, SpecError
from randscene.train.attention import FeedForward, SelfAttention
from randscene.train.layers import Linear, fan_in_normal, fill
from randscene.train.settings import ConditionerSettings

if TYPE_CHECKING:
    from randscene.train.dinov2_conditioner import DinoV2Conditioner

CROP_MARGIN = 1.2
"""Side of the crop over the larger side of the box around all instances."""


class MaskedImage(Protocol):
    """What `prepare_images` needs of a view: `randscene.shards.ViewSample` has it."""

    @property
    def rgb(self) -> NDArray[Any]: ...

    @property
    def ids(self) -> NDArray[Any]: ...

    @property
    def n_instances(self) -> int: ...


def scene_box(ids: NDArray[Any]) -> tuple[int, int, int, int]:
    """The square crop of a scene: the box around every instance's pixels, its larger side times 1.2.

    The rule and its rounding are the release's (I-Scene, section 3.4): the side is
    `int(1.2 * max(x1 - x0, y1 - y0))` over pixel indices, about the middle, edges rounded half to even.

    Parameters
    ----------
    ids : (H, W) uint8
        0 background, i = instance i.

    Returns
    -------
    tuple of int
        (left, top, right, bottom) in pixels, right and bottom exclusive; may reach over the image's border.

    Raises
    ------
    DatasetError
        If no pixel belongs to an instance.
    """
    rows, columns = np.flatnonzero(ids.any(axis=1)), np.flatnonzero(ids.any(axis=0))
    if not len(rows):
        raise DatasetError("the id map shows no instance: there is nothing to crop to")
    left, right, top, bottom = int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])
    half = max(int(CROP_MARGIN * max(right - left, bottom - top)) // 2, 1)
    x, y = (left + right) / 2, (top + bottom) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


def prepare_images(sample: MaskedImage, size: int, instances: NDArray[Any] | None = None) -> NDArray[Any]:
    """`crop_images` as (K + 1, 3, size, size) float32 in [0, 1]."""
    return crop_images(sample, size, instances).astype(np.float32) / np.float32(255)


def crop_images(sample: MaskedImage, size: int, instances: NDArray[Any] | None = None) -> NDArray[Any]:
    """The images that condition a scene and its instances (I-Scene, section 3.4).

    All are the same crop, so that an instance's place in the image tells identical objects apart: the scene image
    shows the pixels of every instance, an instance image those of that instance, each on black.

    Parameters
    ----------
    sample : MaskedImage
        `rgb` (H, W, 3) uint8 sRGB and `ids` (H, W) uint8.
    size : int
        Side of the result, pixels; resized with an antialiasing Lanczos filter.
    instances : (K,) int, optional
        1-based ids, in the order wanted; all in id order by default.

    Returns
    -------
    (K + 1, 3, size, size) uint8
        The scene first.

    Raises
    ------
    DatasetError
        If the id map is empty or of another size than the image.
    """
    rgb, ids = sample.rgb, sample.ids
    if ids.shape != rgb.shape[:2]:
        raise DatasetError(
            f"the id map is {ids.shape[1]} x {ids.shape[0]} but the image is {rgb.shape[1]} x {rgb.shape[0]}"
        )
    chosen = np.arange(1, sample.n_instances + 1) if instances is None else instances
    box = scene_box(ids)
    # Pillow crops beyond the border with zeros: black, and background.
    crop = np.asarray(Image.fromarray(rgb).crop(box))
    crop_ids = np.asarray(Image.fromarray(ids).crop(box))
    masks = [crop_ids > 0, *(crop_ids == instance for instance in chosen)]
    images = np.empty((len(masks), 3, size, size), np.uint8)
    for image, mask in zip(images, masks):
        cut = Image.fromarray(crop * mask[:, :, None]).resize((size, size), Image.Resampling.LANCZOS)
        image[:] = np.asarray(cut).transpose(2, 0, 1)
    return images


def unit_range(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; others as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


class MiniConditioner(nn.Module):
    """A small trainable patch encoder: a convolution stem, transformer blocks, one token a patch.

    Parameters
    ----------
    image_size, patch_size : int
        Pixels; the patch size is a power of two, each stem convolution halves the image.
    channels, num_blocks, num_heads : int
        Of the transformer; `channels` is also the width of the tokens.
    seed : int
        Of the initial weights.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        patch_size: int = 16,
        channels: int = 128,
        num_blocks: int = 2,
        num_heads: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        halvings = round(math.log2(patch_size))
        if 2**halvings != patch_size or halvings < 1 or channels % 2 ** (halvings - 1):
            raise SpecError(
                f"conditioner.patch_size: the mini conditioner needs a power of two that, halved, divides "
                f"{channels} channels, not {patch_size}"
            )
        self.image_size = image_size
        side = image_size // patch_size
        widths = [3, *(channels >> (halvings - 1 - level) for level in range(halvings))]
        self.stem = nn.ModuleList(
            nn.utils.skip_init(nn.Conv2d, low, high, kernel_size=3, stride=2, padding=1)
            for low, high in pairwise(widths)
        )
        self.blocks = nn.ModuleList(_Block(channels, num_heads) for _ in range(num_blocks))
        self.position: Tensor
        self.register_buffer("position", _grid_positions(side, channels), persistent=False)
        self.reset_parameters(torch.Generator().manual_seed(seed))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights from `generator`; the second layer of each residual branch starts small."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | Linear):
                fill(module.weight, fan_in_normal(2**0.5 if isinstance(module, nn.Conv2d) else 1.0), generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, _Block)
            # Logits of at most 4, not 8: sharp attention has learnt switches from one token to another.
            nn.init.constant_(block.attn.q_rms_norm.gamma, 0.5)
            for layer in (block.attn.to_out, block.mlp.mlp[2]):
                assert isinstance(layer, Linear)
                fill(layer.weight, fan_in_normal(0.2), generator)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of images.

        Parameters
        ----------
        images : (B, 3, image_size, image_size) float or uint8
            sRGB in [0, 1], or 0 to 255.

        Returns
        -------
        (B, L, channels) float
            L = (image_size / patch_size)^2 tokens, row by row, normalised to zero mean and unit variance each
            (as the frozen encoder's are), so that all-zero tokens can stand for "no image".
        """
        x = unit_range(images) * 2 - 1
        for level, convolution in enumerate(self.stem):
            x = convolution(x)
            if level + 1 < len(self.stem):
                x = F.gelu(F.group_norm(x, 1), approximate="tanh")
        x = x.flatten(2).transpose(1, 2)
        x = F.layer_norm(x, x.shape[-1:]) + self.position
        for block in self.blocks:
            x = block(x)
        return F.layer_norm(x.float(), x.shape[-1:]).to(x.dtype)


class _Block(nn.Module):
    """Pre-norm self-attention and MLP.

    Queries and keys are normalised: without it logits of 160 have been seen after 4,500 steps, where the least change
    moves the attention from one token to another, and single images had gradients a thousand times the usual.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm=True)
        self.mlp = FeedForward(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _grid_positions(side: int, channels: int) -> Tensor:
    """(side^2, channels) float32: sine and cosine of each patch's row and column (NumPy: exact on every machine)."""
    bands = channels // 4
    frequencies = 100.0 ** -(np.arange(bands) / bands)
    angles = np.arange(side)[:, None] * frequencies
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    table = np.zeros((side, side, channels), np.float32)
    table[:, :, : 2 * bands] = axis[:, None]
    table[:, :, 2 * bands : 4 * bands] = axis[None, :]
    return torch.from_numpy(table.reshape(side * side, channels))


def build_conditioner(settings: ConditionerSettings, seed: int) -> "MiniConditioner | DinoV2Conditioner":
    """The image encoder that `settings` names: `mini` with initial weights from `seed`, or the frozen `dinov2`.

    Raises
    ------
    SpecError
        If the sizes do not fit the encoder, or the weights that `settings.source` names.
    CheckpointError
        If those weights cannot be had; the message says what to do.
    """
    if settings.kind == "dinov2":
        from randscene.train.dinov2_conditioner import build_dinov2

        return build_dinov2(settings, seed)
    return MiniConditioner(
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        channels=settings.channels,
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
        seed=seed,
    )
