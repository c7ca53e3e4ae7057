"""Multi-head attention of the flow transformer (TRELLIS, `modules/attention`), with the published parameter names.

Sequences are `(B, L, C)`; queries, keys and values `(B, L, H, D)` with `C = H * D`.
"""

import torch
from torch import Tensor, nn

from randscene.train.attention_backend import attend
from randscene.train.layers import Linear, MultiHeadRMSNorm


class SelfAttention(nn.Module):
    """Self-attention whose three stages can be called apart, so that scene context can enter between them."""

    def __init__(self, channels: int, heads: int, *, qk_rms_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = Linear(channels, channels * 3)
        self.to_out = Linear(channels, channels)
        self.qk_rms_norm = qk_rms_norm
        if qk_rms_norm:
            self.q_rms_norm = MultiHeadRMSNorm(heads, channels // heads)
            self.k_rms_norm = MultiHeadRMSNorm(heads, channels // heads)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both normalised where the model does so) and values, each (B, L, H, D)."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        if self.qk_rms_norm:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        return q, k, v

    def merge(self, h: Tensor) -> Tensor:
        """Join the heads of `h` (B, L, H, D) and project: (B, L, C)."""
        return self.to_out(h.flatten(-2))

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(attend(*self.project(x)))


class CrossAttention(nn.Module):
    """Attention of `x` (B, L, C) to the condition tokens `cond` (B, Lc, Cc)."""

    def __init__(self, channels: int, cond_channels: int, heads: int, *, qk_rms_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(channels, channels)
        self.to_kv = Linear(cond_channels, channels * 2)
        self.to_out = Linear(channels, channels)
        self.qk_rms_norm = qk_rms_norm
        if qk_rms_norm:
            self.q_rms_norm = MultiHeadRMSNorm(heads, channels // heads)
            self.k_rms_norm = MultiHeadRMSNorm(heads, channels // heads)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(cond).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        if self.qk_rms_norm:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        return self.to_out(attend(q, k, v).flatten(-2))


class FeedForward(nn.Module):
    """Two linear layers around a tanh-approximated GELU."""

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(Linear(channels, hidden), nn.GELU(approximate="tanh"), Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def check_rows(name: str, rows: Tensor, count: int) -> None:
    """`ValueError` unless `rows` is a (M,) int64 tensor; `count` is the number of rows that it points into.

    Values are not read: on a GPU that would wait for the device.
    """
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise ValueError(f"{name} must be a (M,) int64 tensor, not {rows.dtype} {tuple(rows.shape)}")
    if count == 0 and len(rows) > 0:
        raise ValueError(f"{name} has {len(rows)} entries but there is nothing that it could point to")
