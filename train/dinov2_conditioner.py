"""The released image encoder: DINOv2 ViT-L/14 with four registers, frozen (TRELLIS, I-Scene).

Tokens are the backbone's last hidden states before its final layer normalisation, class token first, then the
registers, then the patches row by row; each is normalised without learned scale or shift. The network itself comes from
the package `transformers`, its weights from a Hugging Face repository, a folder, or the file of `torch.hub`.

At the size that the weights were made for (518 px: 37 x 37 patches) the position table is used as it is; for any other
size it is interpolated (bicubic, antialiased).
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randscene import seeding
from randscene.errors import CheckpointError, SpecError
from randscene.extras import install_command
from randscene.files import sha256_of
from randscene.train.image_conditioner import unit_range
from randscene.train.layers import fan_in_normal, fill, stream_dtype
from randscene.train.published import fetch, is_repository, read_config
from randscene.train.settings import ConditionerSettings
from randscene.train.state_dict import SUFFIXES, load_strict, read_tensors, read_torch_file

SOURCE = "facebook/dinov2-with-registers-large"
RANDOM = "random"
"""The source that stands for random weights: right shapes and costs, nothing learned."""
REGISTERS = 4
HEAD_CHANNELS = 64
"""Of every DINOv2 model; the file of `torch.hub` does not say it."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB."""
EPS = 1e-5
"""Of the normalisation of tokens; the backbone's own is 1e-6."""

_FILES = ("config.json", "model.safetensors")
_TORCH_HUB = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
_NEEDED = {
    "use_swiglu_ffn": False,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "num_channels": 3,
    "layer_norm_eps": 1e-6,
}
"""What a `config.json` may also say; ViT-S to ViT-L all say so."""
_OWN_NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}
"""How newer versions of `transformers` call what released files, and older versions, call otherwise."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a DINOv2 with registers (ViT-S to ViT-L: plain feed-forward with GELU)."""

    channels: int
    num_blocks: int
    num_heads: int
    patch_size: int
    image_size: int
    """Side of the image that the position table belongs to, pixels."""
    mlp_ratio: int = 4
    registers: int = REGISTERS

    @property
    def fault(self) -> str | None:
        """What makes the sizes impossible; None if they are not."""
        for name, value in dataclasses.asdict(self).items():
            if type(value) is not int or value < (0 if name == "num_blocks" else 1):
                return f"{name} is {value!r}"
        if self.channels % self.num_heads:
            return f"{self.num_heads} heads do not divide {self.channels} channels"
        if self.image_size % self.patch_size:
            return f"patches of {self.patch_size} do not divide {self.image_size} pixels"
        return None


class DinoV2Conditioner(nn.Module):
    """Images to condition tokens, without gradients and always in evaluation mode.

    Parameters
    ----------
    backbone : nn.Module
        `transformers.Dinov2WithRegistersModel` with its weights; its final layer normalisation is taken off.
    weights_sha256 : str, optional
        Of the file that the weights came from; None for random ones.
    """

    frozen = True
    """Not trained: no gradients, no moving average, no part of a checkpoint."""
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, *, weights_sha256: str | None = None) -> None:
        super().__init__()
        config: Any = backbone.config
        self.image_size = int(config.image_size)
        """Side for which the position table needs no interpolation, pixels."""
        self.patch_size, self.channels = int(config.patch_size), int(config.hidden_size)
        self.num_blocks, self.num_heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.registers = int(config.num_register_tokens)
        self.weights_sha256 = weights_sha256
        backbone.layernorm = nn.Identity()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "DinoV2Conditioner":
        """Stays in evaluation mode, whatever the model around it does."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of images.

        Parameters
        ----------
        images : (B, 3, size, size) float or uint8
            sRGB in [0, 1], or 0 to 255; `size` is a multiple of the patch size (14).

        Returns
        -------
        (B, 1 + 4 + (size / patch_size)^2, channels) float
            Zero mean and unit variance each. Of autocast's type inside autocast, else float32.

        Raises
        ------
        ValueError
            If the images are not of that form.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(f"images must be (B, 3, size, size), not {tuple(images.shape)}")
        if images.shape[-1] % self.patch_size:
            raise ValueError(f"the side of images must be a multiple of {self.patch_size}, not {images.shape[-1]}")
        with torch.no_grad():
            hidden = self.backbone(pixel_values=(unit_range(images).float() - self.mean) / self.std).last_hidden_state
            tokens = F.layer_norm(hidden.float(), hidden.shape[-1:], eps=EPS)
        return tokens.to(stream_dtype(torch.float32, images.device))


def load_dinov2(source: str = SOURCE) -> DinoV2Conditioner:
    """The encoder with released weights, on the CPU.

    Parameters
    ----------
    source : str
        A Hugging Face id; a folder in that layout (`config.json` and `model.safetensors`); or a file of `torch.hub`
        such as `dinov2_vitl14_reg4_pretrain.pth`, from which tensors alone are read.

    Returns
    -------
    DinoV2Conditioner

    Raises
    ------
    CheckpointError
        If the files are missing, cannot be fetched, are damaged or do not describe such a network, or if `transformers`
        is not installed.
    """
    path, wanted = Path(source), f"{_FILES[0]} and {_FILES[1]}"
    if path.suffix in SUFFIXES and not path.is_dir():
        tensors = from_torch_hub(read_torch_file(path))
        return _conditioner(_implied(tensors, path), tensors, path)
    if path.is_dir():
        config_file, weights = (path / name for name in _FILES)
        if not (config_file.is_file() and weights.is_file()):
            raise CheckpointError(f"{path} does not hold {wanted}: copy both of {SOURCE} there, or name another folder")
    elif is_repository(source):
        config_file, weights = (fetch(source, name, wanted) for name in _FILES)
    else:
        raise CheckpointError(
            f'no folder or file "{source}": give a folder that holds {wanted}, a .pth file of torch.hub, '
            f"or a Hugging Face id such as {SOURCE}"
        )
    return _conditioner(_described(read_config(config_file), config_file), read_tensors(weights), weights)


def random_dinov2(settings: ConditionerSettings, seed: int) -> DinoV2Conditioner:
    """The same architecture at any size with random weights, for tests and for benchmarks without the released ones.

    Parameters
    ----------
    settings : ConditionerSettings
        Its sizes; `image_size` is that of the position table.
    seed : int
        The weights depend on it and on their own names alone.
    """
    architecture = Architecture(
        channels=settings.channels,
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
        patch_size=settings.patch_size,
        image_size=settings.image_size,
    )
    backbone = empty_backbone(architecture).to_empty(device="cpu")
    for own, parameter in backbone.named_parameters():
        name = _released_name(own)
        fill(parameter, _init_of(name), torch.Generator().manual_seed(seeding.integer(seed, name)))
    return DinoV2Conditioner(backbone)


def build_dinov2(settings: ConditionerSettings, seed: int) -> DinoV2Conditioner:
    """The encoder that `settings` names: `settings.source` as `load_dinov2` takes it, or `random` (with `seed`).

    Raises
    ------
    CheckpointError
        See `load_dinov2`.
    SpecError
        If the weights are of other sizes than the settings say.
    """
    if settings.source == RANDOM:
        return random_dinov2(settings, seed)
    conditioner = load_dinov2(settings.source)
    for name in ("channels", "num_blocks", "num_heads", "patch_size"):
        wanted, found = getattr(settings, name), getattr(conditioner, name)
        if wanted != found:
            raise SpecError(f"conditioner.{name}: {settings.source} has {found}, not {wanted}")
    return conditioner


def empty_backbone(architecture: Architecture) -> nn.Module:
    """`transformers.Dinov2WithRegistersModel` on the meta device: nothing drawn, no memory taken.

    Raises
    ------
    CheckpointError
        If `transformers` is not installed or too old.
    """
    try:
        transformers = importlib.import_module("transformers")
        config_class, model_class = transformers.Dinov2WithRegistersConfig, transformers.Dinov2WithRegistersModel
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"the image encoder dinov2 needs the package transformers, 4.57 or newer: {install_command('train')}"
        ) from error
    config = config_class(
        hidden_size=architecture.channels,
        num_hidden_layers=architecture.num_blocks,
        num_attention_heads=architecture.num_heads,
        mlp_ratio=architecture.mlp_ratio,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        num_register_tokens=architecture.registers,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        backbone: nn.Module = model_class(config)
    return backbone


def load_released(backbone: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors, named as in Hugging Face's files, into `backbone`: every one of them, and nothing else.

    Raises
    ------
    CheckpointError
        Naming the first tensor that is missing, unexpected or of another shape.
    """
    own = {_released_name(name): name for name in backbone.state_dict()}
    load_strict(backbone, {own.get(name, name): tensor for name, tensor in tensors.items()}, origin)


def from_torch_hub(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of `torch.hub`'s files as Hugging Face's files name them; queries, keys and values apart.

    A name that is no part of such a file stays as it is, so that loading names it as a fault.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = re.match(r"blocks\.(\d+)\.", name)
        prefix, inner = (f"encoder.layer.{match[1]}.", name[match.end() :]) if match else ("", name)
        stem, _, kind = inner.rpartition(".")
        if match and stem == "attn.qkv":
            for part, value in zip(("query", "key", "value"), tensor.chunk(3)):
                renamed[f"{prefix}attention.attention.{part}.{kind}"] = value
        elif inner in _TORCH_HUB:
            renamed[prefix + _TORCH_HUB[inner]] = tensor
        else:
            renamed[f"{prefix}{_TORCH_HUB[stem]}.{kind}" if stem in _TORCH_HUB else prefix + inner] = tensor
    return renamed


def _conditioner(architecture: Architecture, tensors: Mapping[str, Tensor], weights: Path) -> DinoV2Conditioner:
    if architecture.fault:
        raise CheckpointError(f"{weights} is of no possible DINOv2 with registers: {architecture.fault}")
    backbone = empty_backbone(architecture).to_empty(device="cpu")
    load_released(backbone, tensors, str(weights))
    return DinoV2Conditioner(backbone, weights_sha256=sha256_of(weights))


def _released_name(own: str) -> str:
    """The name in released files of what this version of `transformers` calls `own`."""
    stem, dot, kind = own.rpartition(".")
    for new, released in _OWN_NAMES.items():
        stem = stem.removesuffix(new) + released if stem.endswith(new) else stem
    return f"{stem}{dot}{kind}"


def _described(config: Mapping[str, Any], path: Path) -> Architecture:
    """The architecture that a `config.json` describes."""
    if config.get("model_type") != "dinov2_with_registers":
        raise CheckpointError(f"{path} describes {config.get('model_type')!r}, not a DINOv2 with registers")
    for name, needed in _NEEDED.items():
        if config.get(name, needed) != needed:
            raise CheckpointError(f"{path}: {name} is {config[name]!r}; only {needed!r} is supported (ViT-S to ViT-L)")
    try:
        return Architecture(
            channels=config["hidden_size"],
            num_blocks=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            patch_size=config["patch_size"],
            image_size=config["image_size"],
            mlp_ratio=config.get("mlp_ratio", 4),
            registers=config.get("num_register_tokens", REGISTERS),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} does not say {error}: fetch or copy it again") from error


def _implied(tensors: Mapping[str, Tensor], path: Path) -> Architecture:
    """The architecture that weights without a configuration are of."""
    try:
        channels, _, _, patch_size = tensors["embeddings.patch_embeddings.projection.weight"].shape
        positions = tensors["embeddings.position_embeddings"].shape[1] - 1
        registers = tensors["embeddings.register_tokens"].shape[1]
        hidden = tensors["encoder.layer.0.mlp.fc1.weight"].shape[0]
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not hold a DINOv2 with registers ({error}): give dinov2_vitl14_reg4_pretrain.pth"
        ) from error
    blocks = {match[1] for name in tensors if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    return Architecture(
        channels=channels,
        num_blocks=len(blocks),
        num_heads=channels // HEAD_CHANNELS,
        patch_size=patch_size,
        image_size=math.isqrt(max(positions, 0)) * patch_size,
        mlp_ratio=hidden // channels,
        registers=registers,
    )


def _init_of(name: str) -> Callable[..., Tensor]:
    """How the parameter called `name` is drawn: matrices by fan-in, tables large enough to tell places apart."""
    if name.endswith(("_token", "_tokens", "position_embeddings")):
        return lambda tensor, *, generator: tensor.normal_(0.0, 0.5, generator=generator)
    if name.endswith("bias"):
        return lambda tensor, *, generator: tensor.zero_()
    if "norm" in name or name.endswith("lambda1"):
        return lambda tensor, *, generator: tensor.fill_(1.0)
    return fan_in_normal()
