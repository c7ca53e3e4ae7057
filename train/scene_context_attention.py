"""Scene-context attention (I-Scene, section 3.2): instances attend to themselves and to their scene.

In a block with scene context, instance i of scene s uses K~ = [K_i; K_s] and V~ = [V_i; V_s]; the scene branch is plain
self-attention. Both branches share all weights, so equal inputs give plain self-attention. Every sequence has the same
length, so a group of any size is only rows of a batch: one scene row serves all of its instances, nothing is padded.
"""

from typing import Any

import torch
from torch import Tensor

from randscene.train.attention_backend import attend


def scene_context_attention(
    scene: tuple[Tensor, Tensor, Tensor],
    instance: tuple[Tensor, Tensor, Tensor],
    scene_of: Tensor,
    *,
    detach_scene_kv: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention of both branches of a scene-context block.

    Parameters
    ----------
    scene : (q, k, v), each (S, L, H, D)
    instance : (q, k, v), each (M, L, H, D)
    scene_of : (M,) int64
        The row of `scene` that each instance belongs to, in any order.
    detach_scene_kv : bool
        Stop the gradient of the instances' loss at the scene's keys and values. The paper lets it flow.

    Returns
    -------
    (S, L, H, D) and (M, L, H, D). The first does not depend on `instance` at all.
    """
    q, k, v = instance
    _, k_scene, v_scene = scene
    if detach_scene_kv:
        k_scene, v_scene = k_scene.detach(), v_scene.detach()
    k = torch.cat([k, gather_rows(k_scene, scene_of)], dim=1)
    v = torch.cat([v, gather_rows(v_scene, scene_of)], dim=1)
    return attend(*scene), attend(q, k, v)


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """`rows[index]` for rows (S, ...) and index (M,) int64, with a backward pass that is deterministic on every device.

    The gradient of plain indexing adds rows with atomics on a GPU, in an order that changes from run to run and in the
    rows' own (perhaps 16-bit) type. Here it is one matrix product with the (S, M) membership matrix.
    """
    gathered: Tensor = _GatherRows.apply(rows, index)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = rows.shape[0]
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        (gradient,) = gradients
        member = torch.arange(ctx.count, device=index.device).unsqueeze(1) == index
        summed = member.to(gradient.dtype) @ gradient.flatten(1)
        return summed.reshape(ctx.count, *gradient.shape[1:]), None
