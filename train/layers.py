"""Layers with explicit precision and explicit initialisation, shared by the sparse-structure models.

Two rules hold for all of them:

* Normalisation is always computed in float32, whatever the type of its input, and returns the input's type.
* Constructing a layer draws nothing from the global random stream: linear and convolution weights are left
  unset until the model's `reset_parameters(generator)` fills them.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """`nn.Linear` whose weights are set by the model that owns it."""

    def reset_parameters(self) -> None:
        """Leave the weights unset; see the module's first lines."""


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` whose weights are set by the model that owns it.

    Inference on a CPU calls oneDNN itself: for small inputs on one thread PyTorch's own choice is an im2col path that
    is four times slower and rounds differently, so that results would depend on the number of threads.
    """

    def reset_parameters(self) -> None:
        """Leave the weights unset; see the module's first lines."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_grad_enabled() and _onednn():
            padding, stride, dilation = (list(map(int, v)) for v in (self.padding, self.stride, self.dilation))
            return torch.mkldnn_convolution(input, self.weight, self.bias, padding, stride, dilation, self.groups)
        return super().forward(input)


def _onednn() -> bool:
    return not torch.compiler.is_compiling() and torch.backends.mkldnn.is_available()


class LayerNorm32(nn.LayerNorm):
    """Layer normalisation over the last dimension, in float32.

    Input `(..., C)` of any floating type; output has the same shape and type. `affine` adds a learned scale and shift.
    """

    def __init__(self, channels: int, *, affine: bool, eps: float = 1e-6) -> None:
        super().__init__(channels, elementwise_affine=affine, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class ChannelLayerNorm32(nn.LayerNorm):
    """Layer normalisation over the channels of each cell, in float32, with a learned scale and shift.

    Input `(B, C, ...)`; output has the same shape and type, channels last in memory (the layout that the
    convolutions around it run fastest in).
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1).float()).to(input.dtype).movedim(-1, 1)


class MultiHeadRMSNorm(nn.Module):
    """Root-mean-square normalisation of each head's vector, with one learned gain per head and channel.

    Input `(..., H, D)`; computed in float32 as `x / max(|x|, 1e-12) * gamma * sqrt(D)`; output of the input's type.
    """

    def __init__(self, heads: int, head_channels: int) -> None:
        super().__init__()
        self.scale = math.sqrt(head_channels)
        self.gamma = nn.Parameter(torch.ones(heads, head_channels))

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(x.float(), dim=-1) * self.gamma * self.scale).to(x.dtype)


def fill(parameter: Tensor, init: Callable[..., Tensor], generator: torch.Generator) -> None:
    """Set `parameter` in place by `init(tensor, generator=...)`, drawn in float32 on the generator's device.

    The values therefore do not depend on where the parameter lives or on its type. Meta tensors are left alone.
    """
    if parameter.is_meta:
        return
    drawn = init(torch.empty(parameter.shape, device=generator.device), generator=generator)
    with torch.no_grad():
        parameter.copy_(drawn)


def fan_in_normal(gain: float = 1.0) -> Callable[..., Tensor]:
    """An `init` for `fill`: zero mean, variance `gain^2 / fan_in` (inputs of one output unit)."""

    def init(tensor: Tensor, *, generator: torch.Generator) -> Tensor:
        fan_in = tensor[0].numel()
        return tensor.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)

    return init


def zero(*layers: nn.Module) -> None:
    """Set every parameter of `layers` to zero, in place."""
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()


def weighted_layers(model: nn.Module) -> Iterator[Linear | Conv3d]:
    """The linear and convolution layers of `model`, in definition order."""
    for layer in model.modules():
        if isinstance(layer, Linear | Conv3d):
            yield layer


def stream_dtype(held: torch.dtype, device: torch.device) -> torch.dtype:
    """Type of the activations between layers: the type that the weights are held in, or autocast's where it is on.

    Without this a float32 model under bfloat16 autocast would keep its residual stream, and so most of its memory
    traffic, in float32.
    """
    if held == torch.float32 and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return held
