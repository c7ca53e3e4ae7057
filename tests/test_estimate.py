"""estimate: what it foretells of bytes and samples holds; its intervals cover what they promise; its sums are right."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import psutil
import pytest
from test_build import FAST, unreadable

from randscene import seeding
from randscene.cli.main import main
from randscene.errors import RandsceneError, SpecError
from randscene.generator import estimate
from randscene.generator.block_task import pack_block
from randscene.generator.build_driver import PACKERS
from randscene.generator.dataset_folder import StagedScene, blocks
from randscene.generator.estimate_build import MOST_CANDIDATES, machine_of, plan_candidates
from randscene.generator.estimate_probe import (
    FINGERPRINT,
    Clocks,
    FailedAttempt,
    ProbeActor,
    ProbeOutcome,
    SceneCost,
    WarmUp,
    scene_cost,
)
from randscene.generator.estimate_statistics import Interval, Sampled, share, spread_choice
from randscene.generator.estimate_total import (
    PADDING,
    Candidate,
    Candidates,
    Fates,
    Machine,
    Packing,
    Probe,
    build_seconds,
    staging_bytes,
    whole_build,
)
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_maker import MadeScene
from randscene.generator.scene_task import SceneActor
from randscene.manifests import DatasetSpec, load_spec, with_overrides
from randscene.shards.shard_writer import RECORD


def exactly(value):
    """An interval without width."""
    return Interval(value=value, low=value, high=value)


SPEC = with_overrides(load_spec("demo"), [*FAST, "splits.train.scenes=21", "splits.val.scenes=3", "cameras.views=6"])
AMPLE = 3600.0
"""A budget in which every view of these small scenes is made, on whatever machine."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, lock) -> tuple[int, int]:
    """Samples and bytes of the shards of a whole build of SPEC, made without Ray."""
    url = str(tmp_path_factory.mktemp("real") / "dataset")
    actor = SceneActor(SPEC, lock, url, FINGERPRINT)
    samples, size = 0, 0
    for block in blocks(SPEC):
        staged = {}
        for scene in block.scenes:
            outcomes = (actor.make(scene, attempt) for attempt in range(SPEC.attempts))
            staged[scene] = next(outcome.staged for outcome in outcomes if outcome.staged is not None)
        packed = pack_block(url, block, staged, {}, SPEC.seed, FINGERPRINT)
        samples, size = samples + packed.samples, size + packed.bytes
    return samples, size


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
@pytest.mark.parametrize("budget_s", [AMPLE, 1e-6])
def test_the_real_builds_samples_and_bytes_lie_in_the_intervals(budget_s, real, lock, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    steps = []
    found = estimate(SPEC, lock, scenes=8, budget_s=budget_s, progress=lambda *step: steps.append(step))
    samples, size = real
    assert steps == [(done, 8) for done in range(1, 9)]
    assert found.scenes == 24 and found.workers == found.probed_at_once == 2 and found.gpu_hours is found.money is None
    made = [cost.views_made for cost in found.probe]
    assert made == [cost.views if budget_s == AMPLE else min(2, cost.views) for cost in found.probe]
    assert found.samples.low <= samples <= found.samples.high
    assert found.shard_bytes.low <= size <= found.shard_bytes.high
    assert 0.5 * size < found.shard_bytes.low < found.shard_bytes.high < 2 * size
    assert found.disk_bytes.value > found.shard_bytes.value
    assert 0 < found.core_hours.low < found.core_hours.high and 0 < found.hours.low < found.hours.high
    assert sum(found.stages.values()) == pytest.approx(1) and {"label", "render", "encode"} <= set(found.stages)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_where_every_scene_was_made_bytes_are_known(real, lock):
    found = estimate(SPEC, lock, scenes=100, budget_s=AMPLE)
    samples, size = real
    assert len(found.probe) == 24
    assert found.samples == exactly(samples)
    assert found.shard_bytes.low == found.shard_bytes.high
    assert abs(found.shard_bytes.value - size) <= RECORD * len(blocks(SPEC))
    assert found.hours.low < found.hours.high


def test_a_probed_scene_has_the_bytes_that_a_build_gives_it(lock, tmp_path):
    spec = with_overrides(SPEC, ['scene_glb=["train"]'])
    probe = ProbeActor(spec, lock, str(tmp_path / "probe"))
    build = SceneActor(spec, lock, str(tmp_path / "build"), FINGERPRINT)
    assert probe.warm_up(4).error == "" and not list((tmp_path / "probe").glob("work/*"))
    outcome, made = probe.probe(4, 0, AMPLE), build.make(4, 0)
    assert outcome.cost is not None and outcome.cost.staged == made.staged and made.staged is not None
    assert outcome.cost.views == outcome.cost.views_made == made.staged.samples
    assert 0 <= made.staged.bytes - outcome.cost.shard_bytes <= 2 * 512 + RECORD
    assert (tmp_path / "probe/scenes/000004.glb").read_bytes() == (tmp_path / "build/scenes/000004.glb").read_bytes()
    assert outcome.cost.glb_bytes == (tmp_path / "build/scenes/000004.glb").stat().st_size


@pytest.mark.blender
def test_the_time_of_a_scene_counts_its_renderer(lock, tmp_path):
    spec = with_overrides(SPEC, ["render.engine=cycles", "render.samples=1"])
    actor = ProbeActor(spec, lock, str(tmp_path / "probe"))
    try:
        assert actor.warm_up(1).error == ""
        pid = actor._maker.renderer_pid
        before = psutil.Process(pid).cpu_times()
        cost = actor.probe(0, 0, AMPLE).cost
        after = psutil.Process(pid).cpu_times()
    finally:
        actor.close()
    assert cost is not None and cost.views_made == cost.views > 2
    assert cost.cpu_s >= 0.9 * (after.user + after.system - before.user - before.system) > 0
    assert {"load", "label", "render", "reconstruct", "voxelise", "encode"} <= set(cost.stages)


def test_processor_time_of_a_renderer_that_was_replaced_is_kept():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    running: list[subprocess.Popen[bytes]] = []
    clocks = Clocks(lambda: running[-1].pid if running else None)
    clocks.restart()
    for count in (1, 2):
        running.append(subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert running[-1].stdout is not None and running[-1].stdout.readline() == b"done\n"
        assert clocks.read()["cpu"] >= 0.29 * count
    for process in running:
        process.communicate(b"\n")
    assert clocks.read()["cpu"] >= 0.58
    clocks.restart()
    assert clocks.read()["cpu"] < 0.29


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_probe_that_mostly_fails_says_so_and_one_that_always_does_says_why(lock, tmp_path, monkeypatch):
    easy = with_overrides(SPEC, ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", "attempts=8"])
    some = [unreadable(record, tmp_path) if i % 5 == 4 else record for i, record in enumerate(lock)]
    found = estimate(easy, some, scenes=6, budget_s=1e-6)
    assert found.failures and sum(found.failures.values()) > 0
    assert 0 < found.failing_attempts.low < found.failing_attempts.value < found.failing_attempts.high < 1
    assert found.scenes_made.low < found.scenes_made.value <= found.scenes_made.high <= 24

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    none = [unreadable(record, tmp_path) for record in lock]
    with pytest.raises(RandsceneError, match=r"0 of 3 scenes could be made.*\(.+ 24\); the last: .+"):
        estimate(easy, none, scenes=3)
    assert not list(scratch.iterdir())


def test_what_cannot_be_estimated_is_refused(lock):
    with pytest.raises(SpecError, match="at least 2 scenes"):
        estimate(SPEC, lock, scenes=1)
    with pytest.raises(SpecError, match="asks for 1 scenes"):
        estimate(with_overrides(SPEC, ["splits.train.scenes=1", "splits.val.scenes=0"]), lock)
    for wrong in ({"budget_s": 0.0}, {"workers": 0}, {"price": -1.0}):
        with pytest.raises(SpecError, match="budget and workers"):
            estimate(SPEC, lock, **wrong)
    with pytest.raises(SpecError, match=r"layout\.objects"):
        estimate(with_overrides(SPEC, ["layout.objects=[50, 60]"]), lock)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["randscene", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


SETS = [word for assignment in FAST for word in ("--set", assignment)]


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_the_command_prints_a_table_or_one_json_object(run, lock_path):
    command = ["estimate", "demo", "--assets", lock_path, "--scenes", 9, "--probes", 3, "--budget", 1, *SETS]
    code, text, _ = run(*command, "--workers", 4, "--price", 1.5)
    assert code == 0
    for words in ("4 workers, 4 cores", "95 % interval", "samples", "bytes in shards", "core-hours", "1.5 an hour"):
        assert words in text
    assert "of 3 scenes, 2 at a time" in text and "GPU-hours" not in text
    code, text, _ = run(*command, "--json")
    found = json.loads(text)
    assert code == 0 and found["scenes"] == 10 and found["money"] is None and found["workers"] == 2
    assert len(found["probe"]) == 3 and set(found["hours"]) == {"value", "low", "high"}


def test_a_users_mistake_is_one_line(run, lock_path, tmp_path):
    code, _, errors = run("estimate", "demo", "--assets", tmp_path / "none.jsonl")
    assert code == 1 and errors.count("\n") == 1 and "none.jsonl" in errors
    code, _, errors = run("estimate", "demo", "--assets", lock_path, "--set", "layout.objects=[50, 60]")
    assert code == 1 and errors.count("\n") == 1 and "layout.objects" in errors
    assert run("estimate", "demo", "--assets", lock_path, "--probes", 1)[0] == 2


# Statistics


def test_a_mean_has_students_interval_narrowed_by_what_is_known():
    few = Sampled(objects=[4, 4, 4], candidates=[4] * 9, population=9)
    half = 4.302653 / 3**0.5  # t of 2 degrees of freedom, standard deviation 1
    for repeats, factor in ((True, (1 - 3 / 9) ** 0.5), (False, (1 + 3 / 9) ** 0.5)):
        found = few.mean([9.0, 10.0, 11.0], repeats=repeats)
        assert found.value == 10 and found.high - 10 == pytest.approx(10 - found.low)
        assert found.high - 10 == pytest.approx(half * factor, rel=1e-6)
    everything = replace(few, population=3)
    assert everything.mean([9.0, 10.0, 11.0], repeats=True) == exactly(10.0)
    part = everything.mean([9.0, 10.0, 11.0], repeats=True, within=[3.0, 3.0, 3.0])
    assert part.high - 10 == pytest.approx(4.302653, rel=1e-6)  # the mean of three with variance 3 each has variance 1
    assert few.mean([0.0, 0.0, 30.0], repeats=True).low == 0


def test_a_line_over_object_counts_is_used_where_it_foretells_better():
    x = [2, 3, 5, 6, 8, 9]
    wiggle = np.array([0.1, -0.1, 0.05, -0.05, 0.1, -0.1])
    sampled = Sampled(objects=x, candidates=list(range(2, 13)) * 20, population=220)
    values = list(10 + 5 * np.array(x) + wiggle)
    line = sampled.mean(values, repeats=True)
    assert line.value == pytest.approx(10 + 5 * 7, abs=0.2) and line.high - line.low < 1
    # Where the candidates are only some of the scenes, their mean object count is not that of all either.
    some = replace(sampled, population=1000).mean(values, repeats=True)
    assert some.value == line.value and some.high - some.low > 4
    flat = sampled.mean([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], repeats=True)
    assert flat.value == 1.5
    too_few = replace(sampled, objects=x[:5]).mean(values[:5], repeats=True)
    assert too_few.value == pytest.approx(np.mean(values[:5]))


@pytest.mark.parametrize("slope", [0.0, 5.0])
@pytest.mark.parametrize(("population", "repeats"), [(12, True), (1000, True), (12, False), (1000, False)])
def test_nineteen_of_twenty_intervals_hold_the_truth(slope, population, repeats):
    held, width, plain = 0, 0.0, 0.0
    for trial in range(400):
        rng = seeding.generator(trial, "coverage")
        objects = rng.integers(2, 13, population)
        usual = 40 + slope * (objects - 7)
        truth = usual * np.exp(0.2 * rng.normal(size=population))
        candidates = rng.permutation(population)[:MOST_CANDIDATES]
        chosen = candidates[spread_choice(objects[candidates].tolist(), 8, rng)]
        # What does not repeat is another time each time that it is measured.
        measured = truth[chosen] if repeats else usual[chosen] * np.exp(0.2 * rng.normal(size=8))
        sampled = Sampled(
            objects=objects[chosen].tolist(), candidates=objects[candidates].tolist(), population=population
        )
        found = sampled.mean(measured.tolist(), repeats=repeats)
        held += found.low <= truth.mean() <= found.high
        width += found.high - found.low
        alone = replace(sampled, objects=[7] * 8).mean(measured.tolist(), repeats=repeats)
        plain += alone.high - alone.low
    assert 0.91 <= held / 400 <= 0.99
    assert width < (0.75 if slope else 1.05) * plain


def test_shares_have_clopper_pearson_intervals():
    none, all_, two = share(0, 8), share(8, 8), share(2, 10)
    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 8)))
    assert (all_.value, all_.high, all_.low) == (1, 1, pytest.approx(0.025 ** (1 / 8)))
    assert (two.low, two.high) == (pytest.approx(0.0252, abs=1e-4), pytest.approx(0.5561, abs=1e-4))
    assert share(0, 0) == Interval(value=0.0, low=0.0, high=1.0)


def test_a_probes_sizes_are_spread_as_those_of_all():
    rng = seeding.generator(0, "spread")
    sizes = rng.integers(2, 13, 256).tolist()
    chosen = spread_choice(sizes, 8, seeding.generator(1))
    assert chosen == spread_choice(sizes, 8, seeding.generator(1)) != spread_choice(sizes, 8, seeding.generator(2))
    ordered = sorted(sizes)
    assert [sizes[i] for i in chosen] == [ordered[16 + 32 * i] for i in range(8)]
    assert sorted(spread_choice([3, 3, 3], 8, rng)) == [0, 1, 2]


def test_candidates_are_spread_over_the_splits_and_planned_as_a_build_does(lock):
    spec = with_overrides(SPEC, ["splits.train.scenes=900", "splits.val.scenes=100"])
    found = plan_candidates(PlanContext.of(spec, lock))
    scenes = [candidate.scene for candidate in found.planned]
    assert len(set(scenes)) == MOST_CANDIDATES == found.plans_tried - found.plans_failed
    assert sum(scene >= 900_000 for scene in scenes) == pytest.approx(MOST_CANDIDATES / 10, abs=1)
    assert len(plan_candidates(PlanContext.of(SPEC, lock)).planned) == 24


# Sums


def cost(spec: DatasetSpec = SPEC, **changes: object) -> SceneCost:
    usual = SceneCost(
        scene=0, attempt=0, objects=3, views=10, views_made=10, wall_s=100.0, cpu_s=90.0, spent_wall_s=100.0,
        spent_cpu_s=90.0, view_wall_s=9.0, view_cpu_s=8.0, before_wall_s=1.0, before_cpu_s=1.0, shard_bytes=1e6,
        recipe_bytes=1000, glb_bytes=5000, bytes_variance=0.0, stages={"render": 80.0},
        staged=StagedScene(attempt=0, samples=10, bytes=10**6, sha256=""),
    )  # fmt: skip
    return replace(usual, **changes)


def probe(machine: Machine, outcomes: list[ProbeOutcome]) -> Probe:
    return Probe(
        candidates=Candidates(
            planned=tuple(Candidate(scene=i, attempt=0, objects=3) for i in range(24)), plans_tried=24, plans_failed=0
        ),
        outcomes=tuple(outcomes),
        warm_ups=(WarmUp(wall_s=4.0, cpu_s=3.0), WarmUp(wall_s=6.0, cpu_s=5.0)),
        machine=machine,
        packing=Packing(bytes=8 * 10**6, index_bytes=8000, samples=80, cpu_s=0.0),
        start_s=15.0,
        at_once=2,
    )


def test_hours_cards_and_money_of_a_build_add_up():
    machine = machine_of(with_overrides(SPEC, ["render.engine=eevee", "render.device=gpu"]), 16, 16, 32.0)
    assert machine == Machine(workers=16, cores=32.0, cards=2)
    same = [ProbeOutcome(scene=i, cost=cost(scene=i)) for i in range(24)]
    found = whole_build(SPEC, probe(machine, same), price=3.0)
    # 24 scenes of 100 s on 16 workers, then half a scene by those that still work; start and warm-up once.
    seconds = 24 * 100 / 16 + (1 - 1 / 16) * 100 / 2 + 15 + 5
    assert found.hours == exactly(pytest.approx(seconds / 3600))
    assert found.gpu_hours is not None and found.gpu_hours.value == pytest.approx(2 * seconds / 3600)
    assert found.money is not None and found.money.value == pytest.approx(3 * seconds / 3600)
    assert found.core_hours.value == pytest.approx((24 * 90 + 16 * 4) / 3600)
    assert found.samples == exactly(240)
    assert found.shard_bytes.value == pytest.approx(24e6 + PADDING * len(blocks(SPEC)))
    # val keeps the geometry of its three scenes; 240 samples have 100 bytes each in an index.
    assert found.disk_bytes.value - found.shard_bytes.value == pytest.approx(24 * 1000 + 3 * 5000 + 240 * 100)
    assert found.stages == {"render": pytest.approx(0.8), "other": pytest.approx(0.2)}


def test_a_build_takes_as_long_as_the_scarcer_of_workers_and_cores():
    machine = Machine(workers=4, cores=4.0, cards=0)
    assert build_seconds(4000, 1000, 1000, machine) == pytest.approx(1000 + 0.75 * 4 / 2)
    assert build_seconds(4000, 6000, 1000, machine) == pytest.approx(1500 + 0.75 * 6 / 2)
    assert build_seconds(100, 0, 10, replace(machine, workers=1)) == 100
    # Two scenes keep two workers busy, however many there are.
    assert build_seconds(20, 0, 2, machine) == pytest.approx(10 + 0.5 * 10 / 2)


def test_more_workers_than_there_is_room_for_stand_for_more_machines():
    assert machine_of(SPEC, 4, 16, 16.0) == Machine(workers=4, cores=16.0, cards=0)
    assert machine_of(SPEC, 64, 16, 16.0) == Machine(workers=64, cores=64.0, cards=0)
    gpu = with_overrides(SPEC, ["render.engine=cycles", "render.device=cuda", "render.processes_per_gpu=6"])
    assert [machine_of(gpu, workers, 6, 16.0).cards for workers in (1, 6, 7, 60)] == [1, 1, 2, 10]


def test_staging_has_room_for_the_scenes_at_work_and_the_shards_being_packed():
    spec = with_overrides(SPEC, ["splits.train.scenes=1000", "shards.scenes_per_shard=16"])
    assert staging_bytes(spec, 10.0, 8) == (16 + 8) * 10 + PACKERS * 16 * 10
    few = with_overrides(SPEC, ["splits.train.scenes=4", "splits.val.scenes=0", "shards.scenes_per_shard=16"])
    assert staging_bytes(few, 10.0, 8) == 4 * 10 + 4 * 10


def test_failed_attempts_cost_time_and_scenes():
    machine = Machine(workers=1, cores=1.0, cards=0)
    failed = FailedAttempt(reason="no_valid_view", message="", wall_s=10.0, cpu_s=10.0)
    mixed = [ProbeOutcome(scene=i, cost=cost(scene=i), failed=(failed,)) for i in range(4)]
    fates = Fates.of(probe(machine, mixed), attempts=2, total=24)
    # Half of the attempts fail: a quarter of the 20 other scenes fails twice, and each makes 1.5 attempts.
    assert fates.failing.value == 0.5
    assert fates.scenes.value == pytest.approx(4 + 20 * 0.75) and fates.wasted.value == pytest.approx(4 + 20 * 0.75)
    total = fates.total(exactly(100.0), 10.0)
    assert total.value == pytest.approx(19 * 100 + 19 * 10) and total.low < total.value < total.high
    sure = Fates.of(probe(machine, [ProbeOutcome(scene=i, cost=cost()) for i in range(24)]), attempts=1, total=24)
    assert sure.total(Interval(value=10.0, low=9.0, high=12.0)) == Interval(value=240.0, low=216.0, high=288.0)


def test_a_scene_made_in_part_is_extended_by_views_alone(lock):
    recipe = plan_scene(PlanContext.of(SPEC, lock), 0)
    made = MadeScene(samples=iter(()), instances=[(np.eye(3), np.array([[0, 1, 2]], np.int32))], views=tuple(range(10)))
    staged = StagedScene(attempt=0, samples=3, bytes=0, sha256="")
    # 1 s of preparation and 4 s for the first picture; then a picture every 2 s, with 0.5 s of labels beside it.
    pictures = [
        {"wall": 5.0 + 2 * i, "cpu": 6.0 + 3 * i, "render": 4.0 + 2 * i, "label": 0.5 + 0.5 * i} for i in range(3)
    ]
    end = {"wall": 9.8, "cpu": 12.9, "render": 8.0, "label": 2.0, "encode": 0.3}
    before = {"wall": 1.0, "cpu": 1.0, "label": 0.5}
    found = scene_cost(recipe, made, staged, before, [*pictures, end], end, [100, 200, 300])
    assert (found.views, found.views_made, found.shard_bytes) == (10, 3, 2000.0)
    assert found.wall_s == pytest.approx(9.8 + 7 * 2) and found.cpu_s == pytest.approx(12.9 + 7 * 3)
    assert found.stages["label"] == pytest.approx(2.0 + 7 * 0.5)
    assert found.bytes_variance == pytest.approx(10 * 7 / 3 * 100**2)
    whole = scene_cost(recipe, replace(made, views=(0, 1, 2)), staged, before, pictures, end, [100, 200, 300])
    assert (whole.wall_s, whole.cpu_s, whole.shard_bytes, whole.bytes_variance) == (9.8, 12.9, 600.0, 0.0)
