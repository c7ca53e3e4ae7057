"""From what a probe measured to what the whole build takes: scenes, bytes, hours, money."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from randscene.generator.build import MAX_STAGED_BYTES
from randscene.generator.build_driver import PACKERS
from randscene.generator.dataset_folder import blocks
from randscene.generator.estimate_probe import FailedAttempt, ProbeOutcome, SceneCost, WarmUp
from randscene.generator.estimate_statistics import CONFIDENCE, Interval, Sampled, share
from randscene.manifests import DatasetSpec
from randscene.shards.shard_writer import BLOCK, RECORD

PADDING = 2 * BLOCK + RECORD / 2
"""Bytes at the end of a shard that belong to no sample: the end mark, and on average half a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A scene that a probe may make."""

    scene: int
    attempt: int
    """The first that has a plan."""
    objects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Planned scenes, spread evenly over the indices of the spec."""

    planned: tuple[Candidate, ...]
    plans_tried: int
    plans_failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What the build will run on: machines like the one that was probed."""

    workers: int
    """Scenes made at the same time."""
    cores: float
    cards: int
    """Graphics cards that render; 0 where processors do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """What it took to pack the scenes of the probe into one shard."""

    bytes: int
    """Of the shard."""
    index_bytes: int
    samples: int
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What was measured."""

    candidates: Candidates
    outcomes: tuple[ProbeOutcome, ...]
    warm_ups: tuple[WarmUp, ...]
    machine: Machine
    packing: Packing
    start_s: float
    """Until the workers ran."""
    at_once: int
    """Scenes that were made at the same time."""

    @property
    def costs(self) -> list[SceneCost]:
        return [outcome.cost for outcome in self.outcomes if outcome.cost is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a build takes; every interval is at `confidence`."""

    name: str
    engine: str
    device: str
    confidence: float
    scenes: int
    """Asked for."""
    scenes_made: Interval
    """Without those that fail every attempt."""
    failing_attempts: Interval
    """Share of the attempts that become no scene."""
    failures: dict[str, int]
    """Failed attempts of the probe by reason, plans included."""
    samples: Interval
    shard_bytes: Interval
    disk_bytes: Interval
    """Of all that stays: shards, their indices, recipes, geometry of the splits that keep it."""
    staging_bytes: Interval
    """Beside these while the build runs: scenes that wait for their block, and shards that are being written."""
    core_hours: Interval
    """Processor time of workers, renderers and packers."""
    hours: Interval
    """From start to end."""
    gpu_hours: Interval | None
    """Hours of `cards` cards; None where processors render."""
    money: Interval | None
    """`price` times `hours`; None without a price."""
    price: float | None
    """Of one hour of all that runs `workers` workers."""
    workers: int
    cores: float
    cards: int
    start_s: float
    """Of `hours`, what passes before the first scene is begun."""
    stages: dict[str, float]
    """Share of a worker's time that each stage of a scene takes. `render` is the wait for the renderer."""
    probe: tuple[SceneCost, ...]
    probed_at_once: int
    """Scenes of the probe that were made at the same time."""

    def to_json(self) -> str:
        """One object, for other programs."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)


def whole_build(spec: DatasetSpec, probe: Probe, price: float | None) -> Estimate:
    """The cost of the whole build.

    Parameters
    ----------
    spec : DatasetSpec
    probe : Probe
        With two scenes or more that were made.
    price : float, optional
        Of one hour of `probe.machine`.
    """
    costs, machine, packing = probe.costs, probe.machine, probe.packing
    total = len(spec.indices())
    fates = Fates.of(probe, spec.attempts, total)
    sampled = Sampled(
        objects=[cost.objects for cost in costs],
        candidates=[candidate.objects for candidate in probe.candidates.planned],
        population=total,
    )
    views = sampled.mean([cost.views for cost in costs], repeats=True)
    size = sampled.mean(
        [cost.shard_bytes for cost in costs], repeats=True, within=[cost.bytes_variance for cost in costs]
    )
    wall = sampled.mean([cost.wall_s for cost in costs], repeats=False)
    cpu = sampled.mean([cost.cpu_s for cost in costs], repeats=False)

    samples = fates.total(views)
    shards = blocks(spec)
    shard_bytes = fates.total(size).map(lambda value: value + PADDING * len(shards))
    recipe = _mean([cost.recipe_bytes for cost in costs])
    kept = sum(split.scenes for name, split in spec.splits.items() if name in spec.scene_glb)
    beside = total * recipe + kept * _mean([cost.glb_bytes for cost in costs])
    index = packing.index_bytes / packing.samples
    disk = _added(shard_bytes, samples.map(lambda value: value * index + beside))

    pack_s = packing.cpu_s / packing.bytes
    worked = fates.total(wall, _failed_cost(probe, lambda item: item.wall_s, lambda cost: cost.before_wall_s))
    computed = _added(
        fates.total(cpu, _failed_cost(probe, lambda item: item.cpu_s, lambda cost: cost.before_cpu_s)),
        shard_bytes.map(lambda value: value * pack_s),
    )
    start_s = probe.start_s + _mean([warm_up.wall_s for warm_up in probe.warm_ups])
    start_cpu_s = machine.workers * _mean([warm_up.cpu_s for warm_up in probe.warm_ups])
    computed = computed.map(lambda value: value + start_cpu_s)
    hours = Interval(
        **{
            end: (start_s + build_seconds(getattr(worked, end), getattr(computed, end), total, machine)) / 3600
            for end in ("value", "low", "high")
        }
    )
    return Estimate(
        name=spec.name,
        engine=spec.render.engine,
        device=spec.render.device,
        confidence=CONFIDENCE,
        scenes=total,
        scenes_made=fates.scenes,
        failing_attempts=fates.failing,
        failures=_reasons(probe),
        samples=samples,
        shard_bytes=shard_bytes,
        disk_bytes=disk,
        staging_bytes=size.map(lambda value: staging_bytes(spec, value, machine.workers)),
        core_hours=computed.map(lambda value: value / 3600),
        hours=hours,
        gpu_hours=hours.map(lambda value: value * machine.cards) if machine.cards else None,
        money=hours.map(lambda value: value * price) if price is not None else None,
        price=price,
        workers=machine.workers,
        cores=machine.cores,
        cards=machine.cards,
        start_s=start_s,
        stages=_stages(costs),
        probe=tuple(costs),
        probed_at_once=probe.at_once,
    )


def build_seconds(worked: float, computed: float, scenes: int, machine: Machine) -> float:
    """How long the scenes take on a machine.

    Parameters
    ----------
    worked : float
        Wall seconds of all scenes, one after the other.
    computed : float
        Processor seconds of all that is done.
    scenes : int
    machine : Machine

    Returns
    -------
    float
        Wall seconds: the work shared out among the workers, or what the cores need for it where that is more; and at
        the end, on average half a scene while there are fewer scenes left than workers.
    """
    workers = min(machine.workers, scenes)
    shared = max(worked / workers, computed / machine.cores)
    a_scene = shared * workers / scenes
    return shared + (1 - 1 / workers) * a_scene / 2


def staging_bytes(spec: DatasetSpec, scene_bytes: float, workers: int) -> float:
    """Bytes that a build needs beside its finished shards, for scenes of so many bytes each."""
    shards = blocks(spec)
    total, largest = len(spec.indices()), max(len(block.scenes) for block in shards)
    waiting = min(total, largest + workers) * scene_bytes
    return min(waiting, MAX_STAGED_BYTES + workers * scene_bytes) + min(PACKERS, len(shards)) * largest * scene_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Fates:
    """How many of a build's scenes come to be, and how many attempts fail on the way."""

    scenes: Interval
    failing: Interval
    """Share of attempts that fail."""
    wasted: Interval
    """Failed attempts that had a plan."""

    @classmethod
    def of(cls, probe: Probe, attempts: int, total: int) -> "Fates":
        """What the scenes of the probe became, and what that says of the others.

        Parameters
        ----------
        probe : Probe
        attempts : int
            That a build makes at a scene.
        total : int
            Scenes of the build.
        """
        made, wasted = len(probe.costs), sum(len(outcome.failed) for outcome in probe.outcomes)
        planning = share(probe.candidates.plans_failed, probe.candidates.plans_tried)
        making = share(wasted, made + wasted)
        others = total - len(probe.outcomes)
        ends = {}
        for end in ("value", "low", "high"):
            unplanned, unmade = getattr(planning, end), getattr(making, end)
            fails = 1 - (1 - unplanned) * (1 - unmade)
            tries = attempts if fails == 1 else (1 - fails**attempts) / (1 - fails)
            ends[end] = (
                fails,
                made + others * (1 - fails**attempts),
                wasted + others * tries * (1 - unplanned) * unmade,
            )
        return cls(
            failing=Interval(**{end: found[0] for end, found in ends.items()}),
            scenes=Interval(value=ends["value"][1], low=ends["high"][1], high=ends["low"][1]),
            wasted=Interval(**{end: found[2] for end, found in ends.items()}),
        )

    def total(self, mean: Interval, wasted: float = 0.0) -> Interval:
        """Of all scenes, where one takes `mean` and a failed attempt `wasted`.

        What is not known of the mean and what is not known of the failures add up as independent errors do.
        """

        def of(scenes: float, failed: float) -> float:
            return scenes * mean.value + failed * wasted

        value = of(self.scenes.value, self.wasted.value)
        # Few failures mean many scenes and little waste, so either end can be the dear one.
        ends = (of(self.scenes.high, self.wasted.low), of(self.scenes.low, self.wasted.high))
        less = math.hypot(self.scenes.value * (mean.value - mean.low), max(0.0, value - min(ends)))
        more = math.hypot(self.scenes.value * (mean.high - mean.value), max(0.0, max(ends) - value))
        return Interval(value=value, low=max(0.0, value - less), high=value + more)


def _failed_cost(
    probe: Probe,
    of_failed: Callable[[FailedAttempt], float],
    of_made: Callable[[SceneCost], float],
) -> float:
    """Mean cost of a failed attempt; where none failed, what an attempt costs before its first view."""
    failed = [of_failed(item) for outcome in probe.outcomes for item in outcome.failed]
    return _mean(failed) if failed else _mean([of_made(cost) for cost in probe.costs])


def _stages(costs: Sequence[SceneCost]) -> dict[str, float]:
    worked = sum(cost.wall_s for cost in costs)
    spent: Counter[str] = Counter()
    for cost in costs:
        spent.update(cost.stages)
    shares: Mapping[str, float] = {name: seconds / worked for name, seconds in spent.most_common()}
    return {**shares, "other": max(0.0, 1 - sum(shares.values()))}


def _reasons(probe: Probe) -> dict[str, int]:
    found = Counter(item.reason for outcome in probe.outcomes for item in outcome.failed)
    found["no_layout"] += probe.candidates.plans_failed
    return {reason: count for reason, count in found.most_common() if count}


def _added(one: Interval, other: Interval) -> Interval:
    """The sum of two that rise and fall together."""
    return Interval(value=one.value + other.value, low=one.low + other.low, high=one.high + other.high)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
