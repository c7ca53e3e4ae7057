"""estimate: what a whole build will cost, from a probe of a few of its scenes."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from randscene import seeding
from randscene.errors import PlanError, RandsceneError, SpecError, first_line
from randscene.generator.block_task import pack_block
from randscene.generator.dataset_folder import Block, DatasetFolder
from randscene.generator.estimate_probe import FINGERPRINT, FailedAttempt, ProbeActor, ProbeOutcome, WarmUp
from randscene.generator.estimate_statistics import spread_choice
from randscene.generator.estimate_total import (
    Candidate,
    Candidates,
    Estimate,
    Machine,
    Packing,
    Probe,
    whole_build,
)
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.render_device import PROCESSES_PER_GPU, actor_options, settle_device
from randscene.manifests import AssetRecord, DatasetSpec, load_lock
from randscene.ray_session import deaths, ray_session
from randscene.scratch_folder import ScratchFolder
from randscene.shards.shard_index import INDEX_ENDING
from randscene.shards.store import open_store

MOST_CANDIDATES = 256
"""Scenes that are planned to choose the probe from."""
CLOSE_S = 10.0
"""Longest wait for renderers to end of themselves, with their files."""


def estimate(
    spec: DatasetSpec,
    lock: Sequence[AssetRecord] | str | Path,
    *,
    scenes: int = 8,
    budget_s: float = 120.0,
    workers: int | None = None,
    price: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Make a few scenes of a build on this machine, and say what the whole build takes on machines like it.

    Nothing is kept. The scenes are made by as many workers at once as the build would have here, up to one a scene:
    what they take from one another is measured, too.

    Parameters
    ----------
    spec : DatasetSpec
    lock : sequence of AssetRecord, or path of a lock file
    scenes : int
        How many to make, at least 2; all where the spec has no more.
    budget_s : float
        About how many wall seconds that may take, start and warm-up not counted; where it is short, scenes are made in
        part. Two views of each are made in any case.
    workers : int, optional
        Scenes that the build will make at the same time, by default those that it would make on this machine. More
        than that stand for several machines like it.
    price : float, optional
        Of one hour of all that runs these workers, in any currency.
    progress : callable, optional
        Called with the scenes that are done and their number, whenever one is.

    Returns
    -------
    Estimate

    Raises
    ------
    SpecError, LockError
        If the spec cannot be met with these assets, an asset does not match its lock, or an argument is out of range.
    RenderError
        If this machine has no such device.
    RandsceneError
        If fewer than two scenes of the probe could be made.
    """
    if scenes < 2:
        raise SpecError(f"an estimate needs at least 2 scenes to tell how they differ, not {scenes}")
    if budget_s <= 0 or (workers is not None and workers < 1) or (price is not None and price < 0):
        raise SpecError("an estimate's budget and workers must be above zero, and its price not below")
    if len(spec.indices()) < 2:
        raise SpecError(f"{spec.name} asks for {len(spec.indices())} scenes; there is nothing to estimate below 2")
    records = load_lock(lock) if isinstance(lock, str | Path) else list(lock)
    context = PlanContext.of(spec, records)
    spec = settle_device(spec, cluster=False)
    candidates = plan_candidates(context)
    sizes = [candidate.objects for candidate in candidates.planned]
    chosen = [candidates.planned[i] for i in spread_choice(sizes, scenes, seeding.generator(spec.seed, "estimate"))]
    scratch = ScratchFolder("randscene-estimate-")
    try:
        begun = time.monotonic()
        with ray_session(None) as ray:
            options, room = actor_options(spec.render, ray.cluster_resources())
            at_once = min(room, workers or room, len(chosen))
            shared = [ray.put(spec), ray.put(records)]
            remote = ray.remote(**options)(ProbeActor)

            def start() -> Any:
                return remote.remote(*shared, str(scratch.path), context.pictures)

            machine = machine_of(spec, workers or room, room, ray.cluster_resources().get("CPU", 1))
            actors = [start() for _ in range(at_once)]
            try:
                ray.get([actor.ready.remote() for actor in actors])
                start_s = time.monotonic() - begun
                warm_ups = _warm_ups(ray, actors, chosen)
                outcomes = _outcomes(ray, actors, start, chosen, budget_s, progress)
                ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=CLOSE_S)
            finally:
                for actor in actors:
                    ray.kill(actor)
        made = [outcome for outcome in outcomes if outcome.cost is not None]
        if len(made) < 2:
            raise RandsceneError(_nothing_made(outcomes))
        packing = pack_probe(str(scratch.path), spec, made)
    finally:
        scratch.remove()
    probe = Probe(
        candidates=candidates,
        outcomes=tuple(outcomes),
        warm_ups=tuple(warm_ups),
        machine=machine,
        packing=packing,
        start_s=start_s,
        at_once=len(actors),
    )
    return whole_build(spec, probe, price)


def plan_candidates(context: PlanContext) -> Candidates:
    """Plan up to `MOST_CANDIDATES` scenes, evenly spread over the indices of the spec, as a build would.

    Raises
    ------
    RandsceneError
        If fewer than two have a plan.
    """
    indices = context.spec.indices()
    count = min(MOST_CANDIDATES, len(indices))
    planned, tried, failed, last = [], 0, 0, ""
    for index in (indices[(2 * i + 1) * len(indices) // (2 * count)] for i in range(count)):
        for attempt in range(context.spec.attempts):
            tried += 1
            try:
                recipe = plan_scene(context, index, attempt)
            except PlanError as error:
                failed, last = failed + 1, str(error)
                continue
            planned.append(Candidate(scene=index, attempt=attempt, objects=len(recipe.instances)))
            break
    if len(planned) < 2:
        raise RandsceneError(f"{len(planned)} of {count} scenes could be planned: {last}; see `randscene plan --help`")
    return Candidates(planned=tuple(planned), plans_tried=tried, plans_failed=failed)


def machine_of(spec: DatasetSpec, workers: int, room: int, cores: float) -> Machine:
    """What so many workers run on, where one machine has room for `room` of them and `cores` cores."""
    cards = 0
    if spec.render.device != "cpu":
        cards = math.ceil(workers / (spec.render.processes_per_gpu or PROCESSES_PER_GPU[spec.render.engine]))
    return Machine(workers=workers, cores=cores * max(1.0, workers / room), cards=cards)


def pack_probe(url: str, spec: DatasetSpec, made: Sequence[ProbeOutcome]) -> Packing:
    """Pack what the probe staged into a shard, as a build packs a block.

    Raises
    ------
    RandsceneError
        If the disk for temporary files is full.
    """
    staged = {outcome.scene: outcome.cost.staged for outcome in made if outcome.cost is not None}
    block = Block(split="probe", number=0, scenes=tuple(sorted(staged)))
    begun = time.process_time()
    packed = pack_block(url, block, staged, {}, spec.seed, FINGERPRINT)
    spent = time.process_time() - begun
    if packed.error or packed.damaged:
        raise RandsceneError(packed.error or next(iter(packed.damaged.values())))
    index = DatasetFolder.shard_name(block).removesuffix(".tar") + INDEX_ENDING
    return Packing(
        bytes=packed.bytes,
        index_bytes=len(open_store(url).read(index)),
        samples=packed.samples,
        cpu_s=spent,
    )


def _warm_ups(ray: Any, actors: Sequence[Any], chosen: Sequence[Candidate]) -> list[WarmUp]:
    """Warm all workers up, at the same time."""
    try:
        found: list[WarmUp] = ray.get(
            [actor.warm_up.remote(chosen[i % len(chosen)].scene) for i, actor in enumerate(actors)]
        )
    except deaths(ray) as error:
        raise RandsceneError(f"a worker died while it made its first scene: {first_line(error)}") from error
    for warm_up in found:
        if warm_up.error:
            raise RandsceneError(warm_up.error)
    return found


def _outcomes(
    ray: Any,
    actors: list[Any],
    start: Callable[[], Any],
    chosen: Sequence[Candidate],
    budget_s: float,
    progress: Callable[[int, int], None] | None,
) -> list[ProbeOutcome]:
    """Make the chosen scenes. A worker that dies has failed at its scene; another takes its place."""
    rounds = math.ceil(len(chosen) / len(actors))
    todo, outcomes = list(chosen), []
    idle = list(actors)
    running: dict[Any, tuple[Any, Candidate]] = {}
    while todo or running:
        while todo and idle:
            actor, item = idle.pop(), todo.pop()
            running[actor.probe.remote(item.scene, item.attempt, budget_s / rounds)] = actor, item
        for ref in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
            actor, item = running.pop(ref)
            try:
                outcome: ProbeOutcome = ray.get(ref)
            except deaths(ray) as error:
                actors.remove(actor)
                actor = start()
                actor.warm_up.remote(item.scene)
                actors.append(actor)
                died = FailedAttempt(reason="actor_died", message=first_line(error), wall_s=0.0, cpu_s=0.0)
                outcome = ProbeOutcome(scene=item.scene, failed=(died,))
            if outcome.error:
                raise RandsceneError(f"scene {item.scene}: {outcome.error}")
            idle.append(actor)
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), len(chosen))
    return sorted(outcomes, key=lambda outcome: outcome.scene)


def _nothing_made(outcomes: Sequence[ProbeOutcome]) -> str:
    failed = [item for outcome in outcomes for item in outcome.failed]
    told = ", ".join(f"{reason} {count}" for reason, count in Counter(item.reason for item in failed).most_common())
    made = sum(outcome.cost is not None for outcome in outcomes)
    return (
        f"{made} of {len(outcomes)} scenes could be made, too few to judge by ({told}); the last: {failed[-1].message}"
    )
