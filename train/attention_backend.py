"""Which kernels softmax attention runs on: PyTorch's own choices, or FlashAttention-4 where it is installed.

FlashAttention-4 (the package `flash-attn-4`, extra `flash`) is the fastest for heads of 64 channels on Hopper and
Blackwell GPUs. cuDNN's attention comes next but is used only where it is asked for: its backward pass in 16 bits may
return huge or infinite gradients while the loss looks healthy, e.g. for 64 keys (pytorch/pytorch#196678), and PyTorch
picks it by itself on these GPUs.
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from randscene.errors import SpecError
from randscene.extras import install_command

_TORCH = {
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "math": [SDPBackend.MATH],
}
BACKENDS = ("default", "flash4", *_TORCH)
"""`default` is PyTorch's own choice."""
_HALF = (torch.float16, torch.bfloat16)
_kernel: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
"""What `attend` calls instead of PyTorch's function; set by `attention_backend` alone."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, scale `1 / sqrt(D)`: q (B, Lq, H, D), k and v (B, Lk, H, D) to (B, Lq, H, D)."""
    if _kernel is not None and q.is_cuda and q.dtype in _HALF:
        return _kernel(q, k, v)
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


@contextlib.contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Let `attend` use a backend of `BACKENDS` while inside. Tensors that it does not take go to the next in `_TORCH`.

    Raises
    ------
    SpecError
        If there is no such backend, or `flash4` is asked for and not installed.
    """
    global _kernel
    if name not in BACKENDS:
        raise SpecError(f"attention backend {name}: known are {', '.join(BACKENDS)}")
    if name == "flash4" and not flash4_installed():
        raise SpecError(f"attention backend flash4: install it with {install_command('flash')}, or choose flash")
    before, _kernel = _kernel, _flash4() if name == "flash4" else None
    try:
        # What does not go to FlashAttention-4 must not reach cuDNN's backward pass either.
        kernels = _TORCH["flash" if name == "flash4" else name] if name != "default" else None
        with sdpa_kernel(kernels, set_priority=True) if kernels else contextlib.nullcontext():
            yield
    finally:
        _kernel = before


def best_backend(device: torch.device, *, half: bool, deterministic: bool) -> str:
    """The fastest backend to train heads of 64 channels with on a device, as far as measured and trusted.

    Parameters
    ----------
    device : torch.device
    half : bool
        Whether attention runs in a 16-bit type.
    deterministic : bool
        Whether the backward pass must give the same bits each time.
    """
    if device.type != "cuda":
        return "default"
    hopper_or_newer = torch.cuda.get_device_capability(device)[0] in (9, 10)
    return "flash4" if half and not deterministic and hopper_or_newer and flash4_installed() else "flash"


@lru_cache(maxsize=1)
def flash4_installed() -> bool:
    """Whether the package `flash-attn-4` is there; it is not imported."""
    try:
        return importlib.util.find_spec("flash_attn.cute.interface") is not None and bool(
            importlib.util.find_spec("cutlass")
        )
    except ImportError:
        return False


@lru_cache(maxsize=1)
def _flash4() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """FlashAttention-4 as an operator with a gradient, opaque to `torch.compile`."""
    kernels = importlib.import_module("flash_attn.cute.interface")

    @torch.library.custom_op("randscene::flash4_forward", mutates_args=())
    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = kernels._flash_attn_fwd(q, k, v, softmax_scale=q.shape[-1] ** -0.5, return_lse=True)[:2]
        return out, lse

    @forward.register_fake
    def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, heads, _ = q.shape
        out = q.new_empty((batch, length, heads, v.shape[-1]))
        return out, q.new_empty((batch, heads, length), dtype=torch.float32)

    @torch.library.custom_op("randscene::flash4_backward", mutates_args=())
    def backward(
        gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale = q.shape[-1] ** -0.5
        dq, dk, dv = kernels._flash_attn_bwd(q, k, v, out, gradient, lse, softmax_scale=scale)[:3]
        return dq, dk, dv

    @backward.register_fake
    def _(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)

    def save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)

    def differentiate(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        gradients: tuple[Tensor, Tensor, Tensor] = backward(gradient.contiguous(), *ctx.saved_tensors)
        return gradients

    forward.register_autograd(differentiate, setup_context=save)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = forward(q, k, v)[0]
        return out

    return attention
