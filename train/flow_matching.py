"""Conditional flow matching for groups of one scene and its instances (I-Scene, section 3.3; TRELLIS, `flow_matching`).

A straight path from data to noise, x_t = (1 - t) x0 + (s + (1 - s) t) eps with a tiny s; its velocity is the target.
The scene and the instances of a group share t; their noise is independent. Every draw takes an explicit generator and
is made on that generator's device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

SIGMA_MIN = 1e-5


@dataclass(frozen=True, kw_only=True)
class GroupedLoss:
    """Mean squared error of the velocity by branch: scalars with gradients, and each sequence's without."""

    scene: Tensor
    """Mean over the scenes."""
    instance: Tensor
    """Mean over the instances; zero if there are none."""
    per_scene: Tensor
    """(S,) float32, detached: each scene's own."""
    per_instance: Tensor
    """(M,) float32, detached."""

    def total(self, scene_weight: float = 1.0) -> Tensor:
        """`scene_weight * scene + instance`: at 1, a scene counts as much as the mean of the instances."""
        return scene_weight * self.scene + self.instance


def diffuse(x0: Tensor, noise: Tensor, t: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """x_t of data `x0` (B, ...) and standard normal `noise` of the same shape at times `t` (B,) in [0, 1]."""
    t = t.view(-1, *(1,) * (x0.ndim - 1))
    return (1 - t) * x0 + (sigma_min + (1 - sigma_min) * t) * noise


def velocity_target(x0: Tensor, noise: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """The velocity of `diffuse`'s path, (1 - sigma_min) noise - x0; it does not depend on t."""
    return (1 - sigma_min) * noise - x0


def predicted_data(x_t: Tensor, velocity: Tensor, t: float | Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """The x0 that `velocity` at `x_t` (B, ...) points to; `t` is a number or (B,)."""
    if isinstance(t, Tensor):
        t = t.view(-1, *(1,) * (x_t.ndim - 1))
    return (1 - sigma_min) * x_t - (sigma_min + (1 - sigma_min) * t) * velocity


def logit_normal_times(count: int, generator: torch.Generator, *, mean: float = 1.0, std: float = 1.0) -> Tensor:
    """(count,) float32 times in (0, 1), t = sigmoid(normal(mean, std)); TRELLIS's defaults favour noisy times."""
    return (mean + std * torch.randn(count, generator=generator, device=generator.device)).sigmoid()


def keep_condition(count: int, dropout: float, generator: torch.Generator) -> Tensor:
    """(count,) bool: the groups that keep their condition; False with probability `dropout`.

    A dropped group loses the condition of its scene and of all its instances, which is what guidance calls the
    unconditional velocity.
    """
    return torch.rand(count, generator=generator, device=generator.device) >= dropout


def drop_condition(cond_scene: Tensor, cond_inst: Tensor, keep: Tensor, scene_of: Tensor) -> tuple[Tensor, Tensor]:
    """Zero all condition tokens of the groups that are not kept.

    `cond_scene` (S, L, C), `cond_inst` (M, L, C), `keep` (S,) bool, `scene_of` (M,) int64; results have their
    shapes.
    """
    kept = keep.view(-1, 1, 1)
    return cond_scene.where(kept, torch.zeros_like(cond_scene[:1])), cond_inst.where(
        kept[scene_of], torch.zeros_like(cond_inst[:1])
    )


def grouped_loss(v_scene: Tensor, v_inst: Tensor, target_scene: Tensor, target_inst: Tensor) -> GroupedLoss:
    """Losses of predicted velocities (S, ...) and (M, ...) against their targets, in float32."""
    scene = (v_scene.float() - target_scene.float()).square()
    instance = (v_inst.float() - target_inst.float()).square()
    return GroupedLoss(
        scene=scene.mean(),
        instance=instance.mean() if len(instance) else instance.sum(),
        per_scene=scene.detach().flatten(1).mean(1),
        per_instance=instance.detach().flatten(1).mean(1),
    )


def grouped_flow_loss(
    model: nn.Module,
    x_scene: Tensor,
    x_instance: Tensor,
    noise_scene: Tensor,
    noise_instance: Tensor,
    t: Tensor,
    images: Tensor,
    keep: Tensor,
    scene_of: Tensor,
    *,
    half: bool,
) -> GroupedLoss:
    """The loss of a model on groups whose every draw is given; all tensors on the model's device.

    Parameters
    ----------
    model : nn.Module
        Called as `ConditionedFlow.forward` is.
    x_scene, noise_scene : (S, 8, 16, 16, 16) float32
    x_instance, noise_instance : (M, 8, 16, 16, 16) float32
    t : (S,) float32
        In [0, 1]; the instances of a group share it.
    images : (S + M, 3, size, size)
        Scenes first.
    keep : (S,) bool
        The groups that keep their images.
    scene_of : (M,) int64
    half : bool
        Whether the model computes in bfloat16 (autocast); the loss is float32 either way.
    """
    with torch.autocast(x_scene.device.type, torch.bfloat16, enabled=half):
        v_scene, v_instance = model(
            diffuse(x_scene, noise_scene, t),
            diffuse(x_instance, noise_instance, t[scene_of]),
            t,
            images,
            keep,
            scene_of,
        )
    return grouped_loss(
        v_scene, v_instance, velocity_target(x_scene, noise_scene), velocity_target(x_instance, noise_instance)
    )
