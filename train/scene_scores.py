"""The scores of one scene under a protocol: normalise, align, measure; at scene and at object level."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train.filter_registration import FilterRegistrationParams, filter_registration
from randscene.train.instance_matching import match_instances
from randscene.train.legacy_icp import LegacyIcpParams, legacy_icp
from randscene.train.metrics import aabb_iou, nearest_distances
from randscene.train.output_layouts import Match
from randscene.train.placement import InstancePlacement
from randscene.train.protocols import BoxIou, Normalisation, Protocol
from randscene.train.registration_steps import apply, similarity
from randscene.train.robust_icp import Registration, RobustIcpParams, robust_icp

PER_AXIS_HALF = 0.95
"""`per_axis` puts an instance's sides at plus and minus this."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One comparison of two clouds, or a mean of several."""

    cd_squared: float
    """Chamfer distance, sum of the two means of squared distances; space of the metrics, [-1, 1]^3."""
    cd_unsquared: float
    """Chamfer distance, sum of the two means of distances."""
    f_score: float
    """At the protocol's tau, in [0, 1]."""
    aabb_iou: float
    """In [0, 1]."""
    cd_half: float
    """Half of `cd_unsquared`."""
    f_score_tenth: float
    """At a tenth of tau, in [0, 1]."""
    f_score_hundredth: float
    """At a hundredth of tau, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class InstanceScores:
    """One true instance."""

    id: int
    """1-based."""
    problem: str | None
    """Why the instance counts as missing (see `prediction_reader`), or None if it was scored."""
    in_scene: Scores
    """Where it stands after the scene's alignment."""
    realigned: Scores | None
    """After its own normalisation and alignment; None if the protocol does not ask for it."""
    voxel_iou: float | None
    """In the view-centric cube, before any alignment; None if the prediction holds no voxels."""
    placement: InstancePlacement | None = None
    """How it stands after the scene's alignment; None if it is missing."""
    partner: int | None = None
    """Number of the predicted instance that it was compared with: its own id where ids match instances."""


@dataclass(frozen=True, kw_only=True)
class SceneScores:
    """One predicted view."""

    key: str
    scene: Scores
    """The union of all instances; the boxes of `aabb_iou` are those that the protocol's `box_iou` names."""
    instances: tuple[InstanceScores, ...]
    """Every true instance in id order, missing ones with the protocol's penalty."""
    voxel_iou: float | None
    """Of the scenes' voxels in the view-centric cube, before any alignment; None without predicted voxels."""
    normalisation: str | None
    """Which of the protocol's normalisations the numbers are from; None if nothing was predicted."""
    transform: NDArray[Any] | None
    """(4, 4): the alignment, in the space of the metrics."""
    fitness: float | None
    rmse: float | None
    fell_back: bool
    """True if the alignment's last stage was not believed."""
    prediction_seconds: float | None
    split: str | None = None
    """The split of the truth, if it has one."""
    surplus: int = 0
    """Predicted instances without a partner: more than there are true ones. They count in the scene's cloud."""
    unusable: str = ""
    """Predicted instances that could not be scored where no id says which true one they are: `3:zero_area`."""
    duplicate_rate: float | None = None
    """Share of the pairs of equal objects that were put in one place (see `placement`), in [0, 1]; None without a pair,
    or where the truth does not say what is equal."""
    part_overlap: float | None = None
    """How much the predicted instances overlap (see `part_overlap`), in [0, 1]; None with fewer than two."""

    @property
    def n_missing(self) -> int:
        return sum(instance.problem is not None for instance in self.instances)


@dataclass(frozen=True, kw_only=True)
class AlignedScene:
    """Both sides of one scene in the space of the metrics, aligned."""

    normalisation: Normalisation
    registration: Registration | None
    """None if the protocol does not align."""
    predicted: dict[int, NDArray[Any]]
    """By the id of the true instance; surplus ones follow from `len(true) + 1` on."""
    true: list[NDArray[Any]]
    partners: dict[int, int]
    """Id of each true instance that has one to its partner's number in the prediction."""
    scores: Scores
    """Of the unions; the box IoU of what the protocol's `box_iou` names."""


def penalty(protocol: Protocol) -> Scores:
    """What a missing instance, or a scene without any, scores."""
    return Scores(
        cd_squared=2 * protocol.missing_distance**2,
        cd_unsquared=2 * protocol.missing_distance,
        f_score=0.0,
        aabb_iou=0.0,
        cd_half=protocol.missing_distance,
        f_score_tenth=0.0,
        f_score_hundredth=0.0,
    )


def compare(predicted: NDArray[Any], true: NDArray[Any], tau: float) -> Scores:
    """All scores of two clouds (N, 3) and (M, 3), neither empty, as they lie."""
    distances = nearest_distances(predicted, true)
    chamfer = distances.chamfer()
    return Scores(
        cd_squared=chamfer.squared_sum,
        cd_unsquared=chamfer.unsquared_sum,
        f_score=distances.f_score(tau),
        aabb_iou=aabb_iou(predicted, true),
        cd_half=chamfer.unsquared_half,
        f_score_tenth=distances.f_score(tau / 10),
        f_score_hundredth=distances.f_score(tau / 100),
    )


def score_clouds(
    predicted: Mapping[int, NDArray[Any]], true: Sequence[NDArray[Any]], protocol: Protocol, match: Match = "id"
) -> tuple[AlignedScene | None, list[Scores], list[Scores | None]]:
    """Score the surface points of one scene.

    Parameters
    ----------
    predicted : mapping of int to (P, 3) float64
        Points of each predicted instance by its 1-based id, in the view-centric cube; missing ones are left out.
    true : sequence of (P, 3) float64
        Points of every true instance in id order, in the same cube.
    protocol : Protocol
    match : {"id", "hungarian"}
        `hungarian` takes the numbers of the predicted instances for names alone: once the scene is aligned, partners
        are chosen by the protocol's Chamfer distance (see `match_instances`).

    Returns
    -------
    aligned : the chosen normalisation's clouds and scene scores; None if nothing was predicted
    in_scene : for each true instance its scores after the scene's alignment, penalised if missing
    realigned : for each true instance its scores after its own alignment; None where the protocol asks for none
    """
    missing = penalty(protocol)
    own_missing = missing if protocol.realigned_objects else None
    if not predicted:
        return None, [missing] * len(true), [own_missing] * len(true)
    tried = [_align(predicted, true, normalisation, protocol, match) for normalisation in protocol.normalisations]
    best = min(tried, key=lambda one: one.scores.cd_squared)
    in_scene: list[Scores] = []
    realigned: list[Scores | None] = []
    for number, truth in enumerate(best.true, start=1):
        cloud = best.predicted.get(number)
        if cloud is None:
            in_scene.append(missing)
            realigned.append(own_missing)
            continue
        in_scene.append(compare(cloud, truth, protocol.tau))
        realigned.append(_score_alone(cloud, truth, protocol) if protocol.realigned_objects else None)
    return best, in_scene, realigned


def _align(
    predicted: Mapping[int, NDArray[Any]],
    true: Sequence[NDArray[Any]],
    normalisation: Normalisation,
    protocol: Protocol,
    match: Match,
) -> AlignedScene:
    ids = sorted(predicted)
    to_unit = [_normaliser(np.concatenate(clouds), normalisation) for clouds in ([predicted[i] for i in ids], true)]
    placed = {i: apply(to_unit[0], predicted[i]) for i in ids}
    fixed = [apply(to_unit[1], cloud) for cloud in true]
    whole = np.concatenate(fixed)
    moved, registration = placed, None
    if protocol.registration is not None:
        registration = _register(np.concatenate([placed[i] for i in ids]), whole, protocol.registration)
        moved = {i: apply(registration.transform, placed[i]) for i in ids}
    scores = compare(np.concatenate([moved[i] for i in ids]), whole, protocol.tau)
    partners = {i: i for i in ids}
    if match == "hungarian":
        partners = match_instances(moved, fixed, squared=protocol.chamfer == "cd_squared")
        named = _by_truth(partners, ids, len(fixed))
        placed, moved = ({name: clouds[i] for name, i in named.items()} for clouds in (placed, moved))
    if protocol.box_iou != "scene":
        scores = dataclasses.replace(scores, aabb_iou=_objects_box_iou(placed, moved, fixed, protocol.box_iou))
    return AlignedScene(
        normalisation=normalisation,
        registration=registration,
        predicted=moved,
        true=fixed,
        partners=partners,
        scores=scores,
    )


def _by_truth(partners: Mapping[int, int], numbers: Sequence[int], n_true: int) -> dict[int, int]:
    """Names for predicted instances, to their numbers: the partner's id, surplus ones from `n_true + 1` on."""
    surplus = sorted(set(numbers) - set(partners.values()))
    return {**partners, **dict(enumerate(surplus, start=n_true + 1))}


def _register(
    source: NDArray[Any], target: NDArray[Any], params: RobustIcpParams | LegacyIcpParams | FilterRegistrationParams
) -> Registration:
    if isinstance(params, RobustIcpParams):
        return robust_icp(source, target, params)
    if isinstance(params, LegacyIcpParams):
        return legacy_icp(source, target, params)
    return filter_registration(source, target, params)


def _objects_box_iou(
    placed: Mapping[int, NDArray[Any]], moved: Mapping[int, NDArray[Any]], true: Sequence[NDArray[Any]], boxes: BoxIou
) -> float:
    """Mean over all true instances of their boxes' IoU; a missing one's is 0."""
    clouds = moved if boxes == "objects" else placed
    return sum(aabb_iou(clouds[i], truth) for i, truth in enumerate(true, start=1) if i in clouds) / len(true)


def _score_alone(predicted: NDArray[Any], true: NDArray[Any], protocol: Protocol) -> Scores:
    """One instance after its own normalisation and its own alignment."""
    predicted, true = (apply(_object_normaliser(cloud, protocol), cloud) for cloud in (predicted, true))
    if protocol.registration is not None:
        predicted = apply(_register(predicted, true, protocol.registration).transform, predicted)
    return compare(predicted, true, protocol.tau)


def _object_normaliser(points: NDArray[Any], protocol: Protocol) -> NDArray[Any]:
    """(4, 4) of one instance's cloud to the box that it is scored in."""
    if protocol.object_normalisation == "isotropic":
        return _normaliser(points, "recentred")
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    scale = 2 * PER_AXIS_HALF / np.where(extent > 0, extent, 1.0)
    transform = np.diag([*scale, 1.0])
    transform[:3, 3] = -PER_AXIS_HALF - scale * low
    return transform


def _normaliser(points: NDArray[Any], normalisation: Normalisation) -> NDArray[Any]:
    """(4, 4) from the view-centric cube to the space of the metrics."""
    if normalisation == "fixed_range":
        return similarity(2.0, np.eye(3), np.zeros(3))
    low, high = points.min(axis=0), points.max(axis=0)
    # A cloud without extent is only moved: there is nothing to scale.
    scale = 2 / float((high - low).max()) if (high > low).any() else 1.0
    return similarity(scale, np.eye(3), -scale * (low + high) / 2)
