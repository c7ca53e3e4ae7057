"""The floor that a scene may stand on: what it looks like. Labels, voxels and framing know nothing of it."""

from collections.abc import Callable

import numpy as np

from randscene.generator.recipe import DECIMALS, Ground
from randscene.manifests.spec_sections import GroundSpec


def make_ground(rules: GroundSpec, stream: Callable[[str], np.random.Generator]) -> Ground | None:
    """The ground of one scene, a neutral grey, or None where the spec asks for none.

    Parameters
    ----------
    rules : GroundSpec
    stream : callable
        From a purpose to its own generator; only `random()` of each is used.
    """
    if rules.kind == "none":
        return None
    rng = stream("ground")
    grey, roughness = (
        round(low + (high - low) * rng.random(), DECIMALS) for low, high in (rules.albedo, rules.roughness)
    )
    return Ground(color=(grey, grey, grey), roughness=roughness)
