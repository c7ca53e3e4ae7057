"""Sparse-structure flow transformer with scene context (TRELLIS, `SparseStructureFlowModel`; I-Scene, section 3.2).

A diffusion transformer over the cells of a latent: one token a cell (or patch of cells), absolute positions, adaptive
layer normalisation from the time, cross-attention to image tokens. Parameter names and shapes are those of the
published checkpoint, which loads with `strict=True`; scene context adds no parameters.

Precision: the torso (the blocks) runs in one type, everything that is small or delicate in float32: time embedding,
input layer, output layer, position table, and every normalisation inside the torso. The torso's type is

* float16 with `use_fp16=True`: linear layers of the blocks are held in float16, as in the published file (inference);
* else autocast's type inside `torch.autocast`, weights staying float32 (training: bfloat16);
* else float32.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.init import normal_, xavier_uniform_
from torch.utils.checkpoint import checkpoint

from randscene.errors import SpecError
from randscene.train.attention import CrossAttention, FeedForward, SelfAttention, check_rows
from randscene.train.attention_backend import attend
from randscene.train.layers import LayerNorm32, Linear, fill, stream_dtype, weighted_layers, zero
from randscene.train.scene_context_attention import scene_context_attention

FREQUENCIES = 256


class TimestepEmbedder(nn.Module):
    """Time `t` (B,) in [0, 1000] to (B, channels): 256 sinusoids, cosines first, then two linear layers in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(FREQUENCIES, channels), nn.SiLU(), Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        # The phase is rounded to float32 like the published model's; its cosine is exact to float32.
        phase = (t.float().unsqueeze(-1) * _frequencies(t.device)).double()
        return self.mlp(torch.cat([phase.cos(), phase.sin()], dim=-1).float())


@functools.lru_cache(maxsize=8)
def _frequencies(device: torch.device) -> Tensor:
    """Of the sinusoids, on a device; a copy to a GPU at every call would wait for all that is still running there."""
    half = FREQUENCIES // 2
    values = np.exp(-np.log(10000.0) * np.arange(half) / half).astype(np.float32)
    with torch.inference_mode(False):  # one made for a prediction shall serve training, too
        return torch.from_numpy(values).to(device)


class FlowBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, the first and last modulated by the time."""

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        heads: int,
        mlp_ratio: float,
        *,
        qk_rms_norm: bool,
        qk_rms_norm_cross: bool,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, affine=False)
        self.norm2 = LayerNorm32(channels, affine=True)
        self.norm3 = LayerNorm32(channels, affine=False)
        self.self_attn = SelfAttention(channels, heads, qk_rms_norm=qk_rms_norm)
        self.cross_attn = CrossAttention(channels, cond_channels, heads, qk_rms_norm=qk_rms_norm_cross)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(channels, channels * 6))

    def forward(
        self, x: Tensor, t_emb: Tensor, cond: Tensor, scene_of: Tensor | None = None, detach_scene_kv: bool = False
    ) -> Tensor:
        """x (B, L, C), t_emb (B, C), cond (B, Lc, Cc) to (B, L, C).

        With `scene_of` (M,), the last M rows of the batch are instances, the rows before them scenes, and instances
        also attend to their scene.
        """
        modulation = self.adaLN_modulation(t_emb).unsqueeze(1).chunk(6, dim=-1)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation
        q, k, v = self.self_attn.project(self.norm1(x) * (1 + scale_attn) + shift_attn)
        if scene_of is None:
            h = attend(q, k, v)
        else:
            parts = [len(x) - len(scene_of), len(scene_of)]
            # One split a tensor: its backward pass is one copy, that of two slices three.
            (q_s, q_i), (k_s, k_i), (v_s, v_i) = q.split(parts), k.split(parts), v.split(parts)
            context = scene_context_attention(
                (q_s, k_s, v_s), (q_i, k_i, v_i), scene_of, detach_scene_kv=detach_scene_kv
            )
            h = torch.cat(context)
        x = x + gate_attn * self.self_attn.merge(h)
        x = x + self.cross_attn(self.norm2(x), cond)
        return x + gate_mlp * self.mlp(self.norm3(x) * (1 + scale_mlp) + shift_mlp)


class SparseStructureFlow(nn.Module):
    """The velocity field of sparse-structure latents, for single objects and for scenes with their instances.

    Parameters
    ----------
    resolution, in_channels, out_channels : int
        Edge of the latent grid (16) and its channels (8).
    model_channels, cond_channels : int
        Width of the torso and of the condition tokens.
    num_blocks, num_heads, num_head_channels, mlp_ratio, patch_size
        Depth and shape of the torso; `num_heads` wins over `num_head_channels`. One token is a patch of cells.
    pe_mode, share_mod
        Only `ape` and `False` exist in the published first-stage model.
    qk_rms_norm, qk_rms_norm_cross : bool
        Normalise queries and keys of self- and of cross-attention.
    use_fp16, use_checkpoint : bool
        See the module's first lines; recompute each block in the backward pass to save memory.
    sca_blocks : sequence of int
        Blocks with scene context; I-Scene uses 10 to 14 of 24. Only `grouped` is affected.
    detach_scene_kv : bool
        Stop instance gradients at the scene's keys and values; the paper does not.

    Raises
    ------
    SpecError
        If the arguments do not fit together or ask for what is not supported.
    """

    pos_emb: Tensor

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: float = 4,
        patch_size: int = 2,
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        sca_blocks: Sequence[int] = (),
        detach_scene_kv: bool = False,
    ) -> None:
        super().__init__()
        heads = num_heads or model_channels // num_head_channels
        if pe_mode != "ape" or share_mod:
            raise SpecError(
                f'only pe_mode "ape" without share_mod is supported, not "{pe_mode}", share_mod={share_mod}'
            )
        if model_channels % heads or resolution % patch_size:
            raise SpecError(
                f"model_channels {model_channels} must be a multiple of {heads} heads, and resolution {resolution} of "
                f"patch_size {patch_size}"
            )
        if not set(sca_blocks) <= set(range(num_blocks)):
            raise SpecError(f"sca_blocks {tuple(sca_blocks)} must name blocks 0 to {num_blocks - 1}")
        self.resolution, self.patch_size, self.in_channels, self.out_channels = (
            resolution,
            patch_size,
            in_channels,
            out_channels,
        )
        self.cond_channels = cond_channels
        self.sca_blocks = frozenset(sca_blocks)
        self.detach_scene_kv = detach_scene_kv
        self.checkpoint_blocks = frozenset(range(num_blocks) if use_checkpoint else ())
        """Blocks that are computed again in the backward pass, to save memory."""
        self.torso_dtype = torch.float32
        self.t_embedder = TimestepEmbedder(model_channels)
        self.register_buffer("pos_emb", position_table(resolution // patch_size, model_channels))
        self.input_layer = Linear(in_channels * patch_size**3, model_channels)
        self.blocks = nn.ModuleList(
            FlowBlock(
                model_channels,
                cond_channels,
                heads,
                mlp_ratio,
                qk_rms_norm=qk_rms_norm,
                qk_rms_norm_cross=qk_rms_norm_cross,
            )
            for _ in range(num_blocks)
        )
        self.out_layer = Linear(model_channels, out_channels * patch_size**3)
        self.reset_parameters(torch.Generator().manual_seed(0))
        if use_fp16:
            self.set_torso_dtype(torch.float16)

    def set_torso_dtype(self, dtype: torch.dtype) -> None:
        """Hold the linear layers of the blocks in `dtype` and run the torso in it (float32, float16 or bfloat16)."""
        self.torso_dtype = dtype
        for layer in weighted_layers(self.blocks):
            layer.to(dtype)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh weights (TRELLIS's recipe): Xavier, biases zero; modulation and output zero: it predicts 0.

        `generator` may live on any device; the values depend on its state alone.
        """
        for layer in weighted_layers(self):
            zero(layer)
            fill(layer.weight, xavier_uniform_, generator)
        for layer in weighted_layers(self.t_embedder):
            fill(layer.weight, lambda tensor, generator: normal_(tensor, std=0.02, generator=generator), generator)
        for block in self.blocks:
            assert isinstance(block, FlowBlock)
            zero(block.adaLN_modulation)
        zero(self.out_layer)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The velocity of single latents, without scene context.

        Parameters
        ----------
        x : (B, in_channels, R, R, R) float32
        t : (B,) float32, time in [0, 1] times 1000
        cond : (B, L, cond_channels) float

        Returns
        -------
        (B, out_channels, R, R, R) float32
        """
        return self._run(x, t, cond, None)

    def grouped(
        self, x_scene: Tensor, x_inst: Tensor, t: Tensor, cond_scene: Tensor, cond_inst: Tensor, scene_of: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The velocities of S scenes and of their M instances, all of a scene at the same time.

        Parameters
        ----------
        x_scene, x_inst : (S, in_channels, R, R, R) and (M, in_channels, R, R, R) float32
        t : (S,) float32, time in [0, 1] times 1000; an instance has the time of its scene
        cond_scene, cond_inst : (S, L, cond_channels) and (M, L, cond_channels) float
        scene_of : (M,) int64, the scene of each instance in 0 .. S - 1, in any order; a scene may have none

        Returns
        -------
        (S, out_channels, R, R, R) and (M, out_channels, R, R, R) float32. The first does not depend on the instances.

        Raises
        ------
        ValueError
            If shapes do not fit the model or one another.
        """
        check_rows("scene_of", scene_of, len(x_scene))
        if len(scene_of) != len(x_inst) or len(t) != len(x_scene):
            raise ValueError(
                f"{len(x_inst)} instances need as many entries in scene_of, not {len(scene_of)}, and {len(x_scene)} "
                f"scenes as many times, not {len(t)}"
            )
        x = torch.cat([x_scene, x_inst])
        t = torch.cat([t, t[scene_of]])
        out = self._run(x, t, torch.cat([cond_scene, cond_inst]), scene_of)
        return out[: len(x_scene)], out[len(x_scene) :]

    def _run(self, x: Tensor, t: Tensor, cond: Tensor, scene_of: Tensor | None) -> Tensor:
        expected = (self.in_channels, *(self.resolution,) * 3)
        if x.shape[1:] != expected or cond.shape[-1] != self.cond_channels:
            raise ValueError(
                f"x must be (B, {', '.join(map(str, expected))}) with condition tokens of {self.cond_channels} "
                f"channels, not {tuple(x.shape)} with {cond.shape[-1]}"
            )
        dtype = stream_dtype(self.torso_dtype, x.device)
        with torch.autocast(x.device.type, enabled=False):
            t_emb = self.t_embedder(t).to(dtype)
            h = (self.input_layer(patchify(x.float(), self.patch_size)) + self.pos_emb).to(dtype)
        cond = cond.to(dtype)
        for index, block in enumerate(self.blocks):
            context = scene_of if index in self.sca_blocks else None
            if index in self.checkpoint_blocks and torch.is_grad_enabled():
                h = checkpoint(block, h, t_emb, cond, context, self.detach_scene_kv, use_reentrant=False)
            else:
                h = block(h, t_emb, cond, context, self.detach_scene_kv)
        with torch.autocast(x.device.type, enabled=False):
            out = self.out_layer(F.layer_norm(h.float(), h.shape[-1:]))
            return unpatchify(out, self.patch_size, self.resolution)


def position_table(size: int, channels: int) -> Tensor:
    """(size^3, channels) float32 sinusoids of the token's integer coordinates, cells in C order (x, y, z).

    For each axis `channels // 6` sines, then as many cosines, of frequencies `10000^(-j / (channels // 6))`; zeros fill
    up to `channels`. Computed in float64 with NumPy: some CPU builds of torch have got the first multi-threaded sine of
    a process wrong by up to 1e-4.
    """
    count = channels // 6
    frequencies = 10000.0 ** (-np.arange(count) / count)
    coordinates = np.stack(np.meshgrid(*(np.arange(size),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    phases = coordinates[:, :, None] * frequencies
    table = np.zeros((size**3, channels), np.float32)
    table[:, : 6 * count] = np.concatenate([np.sin(phases), np.cos(phases)], axis=-1).reshape(size**3, -1)
    return torch.tensor(table)


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, R, R, R) to tokens (B, (R / p)^3, C p^3): cells of a patch in C order within each channel."""
    batch, channels, size = x.shape[0], x.shape[1], x.shape[2] // patch
    x = x.reshape(batch, channels, size, patch, size, patch, size, patch)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, size**3, channels * patch**3)


def unpatchify(tokens: Tensor, patch: int, resolution: int) -> Tensor:
    """The inverse of `patchify`: (B, (R / p)^3, C p^3) to (B, C, R, R, R)."""
    batch, size = tokens.shape[0], resolution // patch
    x = tokens.reshape(batch, size, size, size, -1, patch, patch, patch)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(batch, -1, resolution, resolution, resolution)
