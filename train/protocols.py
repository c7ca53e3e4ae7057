"""Evaluation protocols: what exactly a published number means, one named definition each.

`docs/protocols.md` lists them with their sources, and says what is open in the public record and was chosen here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from randscene.errors import SpecError
from randscene.train.filter_registration import FilterRegistrationParams
from randscene.train.legacy_icp import LegacyIcpParams
from randscene.train.robust_icp import RobustIcpParams

Normalisation = Literal["fixed_range", "recentred"]
"""How clouds come from the view-centric cube [-0.5, 0.5]^3 into the space of the metrics, [-1, 1]^3.

* `fixed_range`: times two, prediction and truth alike: the output range of the model.
* `recentred`: each scene's own bounding box is centred at the origin and scaled, alike in all directions, to touch
  [-1, 1]^3; the prediction by its box, the truth by its own.
"""

ObjectNormalisation = Literal["isotropic", "per_axis"]
"""How an instance is scaled before it is aligned by itself, the predicted one by its own box, the true one by its own.

* `isotropic`: centred at the origin, scaled alike in all directions to touch [-1, 1]^3.
* `per_axis`: each axis by itself to [-0.95, 0.95]; an axis without extent is only moved. Errors of size and of
  proportion disappear.
"""

BoxIou = Literal["scene", "objects", "objects_before_alignment"]
"""Whose axis-aligned boxes a scene's box IoU compares.

* `scene`: the box around all predicted and the box around all true instances, after alignment.
* `objects`: mean over all true instances of their own boxes' IoU, after the scene's alignment; 0 for a missing one.
* `objects_before_alignment`: the same where the prediction stood before.
"""

ChamferMeasure = Literal["cd_squared", "cd_unsquared", "cd_half"]
ObjectLevel = Literal["object", "object_realigned"]

CUBE_DIAGONAL = 2 * 3**0.5
"""Of [-1, 1]^3: no point in it is farther from another."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The settings that make two evaluations comparable.

    Every measure is computed at every level under every protocol; `chamfer` and `object_level` tell which of them the
    method's own tables show.
    """

    name: str
    about: str
    """One line: what it measures and after whom."""
    points_per_object: int
    """Surface points drawn from each instance, by area; the scene's cloud is their union."""
    normalisations: tuple[Normalisation, ...]
    """Each is tried; the one with the smallest scene Chamfer distance (squared) gives all of the scene's numbers."""
    registration: RobustIcpParams | LegacyIcpParams | FilterRegistrationParams | None
    """Alignment of the predicted scene to the true one; None scores it where it stands."""
    tau: float
    """Distance of the F-score, in the space of the metrics. A tenth and a hundredth of it are scored, too."""
    realigned_objects: bool
    """Also score each instance after a normalisation (`object_normalisation`) and alignment of its own."""
    missing_distance: float
    """Distance at which a missing instance's points count, in the space of the metrics: its Chamfer distances are
    twice this (unsquared) and twice its square, its F-score and IoU are 0."""
    object_normalisation: ObjectNormalisation = "isotropic"
    box_iou: BoxIou = "scene"
    """What the scene's box IoU, the tables' IoU-B, means."""
    chamfer: ChamferMeasure = "cd_squared"
    """Which of the Chamfer distances the method publishes: a field of `Scores`."""
    object_level: ObjectLevel = "object"
    """Which level of a report the method's object columns, CD-O and F-O, are."""


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

ISCENE_QUICK = replace(
    ISCENE,
    name="iscene-quick",
    about="iscene with a fifth of the points and without the level of realigned objects: for studies of many runs, not "
    "to compare with published numbers",
    points_per_object=4_096,
    realigned_objects=False,
)

MIDI_FIXED = Protocol(
    name="midi-fixed",
    about="MIDI's evaluation with its ICP corrected: plain ICP of the scene, objects scaled by axis with their own ICP",
    points_per_object=20_480,
    normalisations=("fixed_range",),
    registration=LegacyIcpParams(wrong_transpose=False),
    tau=0.1,
    realigned_objects=True,
    missing_distance=CUBE_DIAGONAL,
    object_normalisation="per_axis",
    box_iou="objects_before_alignment",
    object_level="object_realigned",
)

MIDI_LEGACY = replace(
    MIDI_FIXED,
    name="midi-legacy",
    about="MIDI's evaluation with the public ICP as it is, which takes the transpose of the wrong SVD factor and turns "
    "even a perfect prediction away; only to compare with numbers made with that code",
    registration=LegacyIcpParams(wrong_transpose=True),
)

SCENEGEN = Protocol(
    name="scenegen",
    about="SceneGen's evaluation: FilterReg of the scene, objects scaled by axis with a FilterReg of their own, "
    "boxes of aligned objects",
    points_per_object=10_240,
    normalisations=("fixed_range",),
    registration=FilterRegistrationParams(),
    tau=0.1,
    realigned_objects=True,
    missing_distance=CUBE_DIAGONAL,
    object_normalisation="per_axis",
    box_iou="objects",
    object_level="object_realigned",
)

GEN3DSR = Protocol(
    name="gen3dsr",
    about="Gen3DSR's evaluation: no alignment, half the unsquared Chamfer sum, F-scores at 0.1, 0.01 and 0.001, "
    "a million points a scene",
    # The published million is one scene's; eight instances are a scene of ours.
    points_per_object=125_000,
    normalisations=("fixed_range",),
    registration=None,
    tau=0.1,
    realigned_objects=False,
    missing_distance=CUBE_DIAGONAL,
    chamfer="cd_half",
)

PARTCRAFTER = Protocol(
    name="partcrafter",
    about="PartCrafter's evaluation: each side's scene box scaled to [-1, 1], no alignment, unsquared Chamfer sum",
    points_per_object=10_000,
    normalisations=("recentred",),
    registration=None,
    tau=0.1,
    realigned_objects=False,
    missing_distance=CUBE_DIAGONAL,
    chamfer="cd_unsquared",
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (ISCENE, ISCENE_QUICK, MIDI_FIXED, MIDI_LEGACY, SCENEGEN, GEN3DSR, PARTCRAFTER)
}


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
