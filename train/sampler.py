"""Euler sampling, guided in an interval of time (TRELLIS, `FlowEulerGuidanceIntervalSampler`; I-Scene, section 3.4).

From noise at t = 1 to data at t = 0. Guided velocity: (1 + w) v_cond - w v_uncond, so "w = 3" is what others call
a guidance scale of 4. The unconditional velocity of a group has zero condition tokens for the scene and every instance.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randscene.train.flow_matching import SIGMA_MIN, predicted_data
from randscene.train.settings import SamplingSettings
from randscene.train.sparse_structure_flow import SparseStructureFlow

Velocity = Callable[[Tensor, Tensor, bool], Tensor]
"""`velocity(x, t, conditional)`: x (B, ...), t (B,) float32 already times 1000; returns a tensor like x."""


@dataclass(frozen=True, kw_only=True)
class EulerStep:
    """The state after one step."""

    t: float
    """The time that was stepped to."""
    x: Tensor
    """The sample at `t`."""
    x0: Tensor
    """The data that the velocity of this step pointed to."""
    guided: bool
    """Whether the step made two velocity calls."""


def time_steps(steps: int, rescale_t: float) -> NDArray[Any]:
    """(steps + 1,) float64 falling times from 1 to 0: r t / (1 + (r - 1) t) of evenly spaced t."""
    t = np.linspace(1, 0, steps + 1)
    return rescale_t * t / (1 + (rescale_t - 1) * t)


def euler_steps(velocity: Velocity, noise: Tensor, settings: SamplingSettings) -> Iterator[EulerStep]:
    """Integrate from `noise` (B, ...), yielding each step's state; the last one's `x` is the sample.

    Guidance is on while the time that a step starts from lies in `cfg_interval`, ends included, and its strength is not
    0.
    """
    x, w = noise, settings.cfg_strength
    low, high = settings.cfg_interval
    times = time_steps(settings.steps, settings.rescale_t).tolist()
    for t, t_next in itertools.pairwise(times):
        scaled = torch.full((len(x),), 1000 * t, dtype=torch.float32, device=x.device)
        guided = w != 0 and low <= t <= high  # without guidance the second velocity would count for nothing
        v = velocity(x, scaled, True)
        if guided:
            v = (1 + w) * v - w * velocity(x, scaled, False)
        x0 = predicted_data(x, v, t, SIGMA_MIN)
        x = x - (t - t_next) * v
        yield EulerStep(t=t_next, x=x, x0=x0, guided=guided)


def initial_noise(flow: SparseStructureFlow, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Noise of each scene, and the one noise that all instances of that scene start from.

    Two float32 tensors (S, C, R, R, R), drawn on the generators' device. One generator a scene makes a scene's sample
    independent of what else is in the batch.
    """
    shape = (flow.in_channels, *(flow.resolution,) * 3)
    drawn = [torch.randn((2, *shape), generator=generator, device=generator.device) for generator in generators]
    scene, instance = torch.stack(drawn).unbind(1)
    return scene, instance


@torch.no_grad()
def sample(
    flow: SparseStructureFlow,
    cond_scene: Tensor,
    cond_inst: Tensor,
    scene_of: Tensor,
    *,
    generators: Sequence[torch.Generator],
    settings: SamplingSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents of scenes and of their instances, integrated together.

    The scene branch is computed once a step and serves all instances; the instances of a scene start from the same
    noise, so that they follow the same scene.

    Parameters
    ----------
    flow : SparseStructureFlow
        On the conditions' device. Wrap the call in `torch.autocast` to sample in half precision.
    cond_scene, cond_inst : (S, L, Cc) and (M, L, Cc) float
    scene_of : (M,) int64, the scene of each instance
    generators : sequence of S torch.Generator
        One a scene; see `initial_noise`.
    settings : SamplingSettings, optional
        The paper's 25 steps and w = 3 by default.
    progress : callable, optional
        Called with (steps done, steps in all) after each step.

    Returns
    -------
    (S, C, R, R, R) and (M, C, R, R, R) float32, on the conditions' device

    Raises
    ------
    ValueError
        If there is not one generator a scene.
    """
    settings = settings or SamplingSettings()
    scenes = len(cond_scene)
    if len(generators) != scenes:
        raise ValueError(f"{scenes} scenes need as many generators, not {len(generators)}")
    noise_scene, noise_instance = (noise.to(cond_scene.device) for noise in initial_noise(flow, generators))
    conditions = {
        True: (cond_scene, cond_inst),
        False: (torch.zeros_like(cond_scene), torch.zeros_like(cond_inst)),
    }

    def velocity(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
        return torch.cat(flow.grouped(x[:scenes], x[scenes:], t[:scenes], *conditions[conditional], scene_of))

    x = torch.cat([noise_scene, noise_instance[scene_of]])
    for done, step in enumerate(euler_steps(velocity, x, settings), start=1):
        x = step.x
        if progress is not None:
            progress(done, settings.steps)
    return x[:scenes], x[scenes:]
