"""Evaluation protocols: what exactly a published number means, one named definition each."""

from dataclasses import dataclass
from typing import Literal

from randscene.errors import SpecError
from randscene.train.robust_icp import RobustIcpParams

Normalisation = Literal["fixed_range", "recentred"]
"""How clouds come from the view-centric cube [-0.5, 0.5]^3 into the space of the metrics, [-1, 1]^3.

* `fixed_range`: times two, prediction and truth alike: the output range of the model.
* `recentred`: each scene's own bounding box is centred at the origin and scaled, alike in all directions, to touch
  [-1, 1]^3; the prediction by its box, the truth by its own.
"""

CUBE_DIAGONAL = 2 * 3**0.5
"""Of [-1, 1]^3: no point in it is farther from another."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The settings that make two evaluations comparable."""

    name: str
    about: str
    """One line: what it measures and after whom."""
    points_per_object: int
    """Surface points drawn from each instance, by area; the scene's cloud is their union."""
    normalisations: tuple[Normalisation, ...]
    """Each is tried; the one with the smallest scene Chamfer distance (squared) gives all of the scene's numbers."""
    registration: RobustIcpParams | None
    """Alignment of the predicted scene to the true one; None scores it where it stands."""
    tau: float
    """Distance of the F-score, in the space of the metrics."""
    realigned_objects: bool
    """Also score each instance after its own recentring, scaling to [-1, 1]^3 and alignment."""
    missing_distance: float
    """Distance at which a missing instance's points count, in the space of the metrics: its Chamfer distances are
    twice this (unsquared) and twice its square, its F-score and IoU are 0."""


ISCENE = Protocol(
    name="iscene",
    about="I-Scene's evaluation: robust ICP, Chamfer distance, F-score at 0.1, box IoU, at scene and object level",
    points_per_object=20_480,
    normalisations=("fixed_range", "recentred"),
    registration=RobustIcpParams(),
    tau=0.1,
    realigned_objects=True,
    # Nothing inside the cube can score worse, so that leaving an object out never pays.
    missing_distance=CUBE_DIAGONAL,
)

PROTOCOLS = {protocol.name: protocol for protocol in (ISCENE,)}


def load_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises
    ------
    SpecError
        If there is none.
    """
    if name not in PROTOCOLS:
        raise SpecError(f"unknown protocol {name!r}; known: {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]
