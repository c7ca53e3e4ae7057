"""What one scene costs: made as a build makes it, views left out where time is short, and measured meanwhile."""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil  # type: ignore[import-untyped]

from randscene.errors import PlanError, RandsceneError, RenderError
from randscene.generator.dataset_folder import DatasetFolder, StagedScene
from randscene.generator.light_pictures import Picture
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.recipe import SceneRecipe
from randscene.generator.scene_glb import scene_glb
from randscene.generator.scene_maker import MadeScene, SceneFailedError, SceneMaker
from randscene.generator.stage_clock import StageClock
from randscene.manifests import AssetRecord, DatasetSpec
from randscene.shards.shard_writer import BLOCK
from randscene.shards.store import open_store
from randscene.shards.view_sample import encode_members

LEAST_VIEWS = 2
"""Views of a scene that are made however long they take: a scene's first view also pays for its assets."""
WARM_UP_VIEWS = 3
FINGERPRINT = "0" * 64
"""As long as that of a dataset, which no probe becomes."""

Reading = dict[str, float]
"""Seconds since a scene was begun: `wall`, `cpu` (of this process and its renderer), and `wall` of each stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneCost:
    """What a whole scene costs, as far as it was made."""

    scene: int
    attempt: int
    objects: int
    views: int
    """Samples that the scene would have."""
    views_made: int
    wall_s: float
    cpu_s: float
    spent_wall_s: float
    """On the views that were made, with all that the scene costs once."""
    spent_cpu_s: float
    view_wall_s: float
    """Of one more view."""
    view_cpu_s: float
    before_wall_s: float
    """Until the first view is asked for: plan, meshes, which views show everything."""
    before_cpu_s: float
    shard_bytes: float
    """Of all its samples in a shard."""
    recipe_bytes: int
    """Of its line in `recipes.jsonl`."""
    glb_bytes: int
    """Of its geometry as GLB, which some splits keep."""
    bytes_variance: float
    """Of `shard_bytes` (square bytes), because some views were not made."""
    stages: dict[str, float]
    """Wall seconds of each stage, of the whole scene."""
    staged: StagedScene
    """Of the views that were made."""

    @property
    def once_wall_s(self) -> float:
        """What the scene costs however few its views are."""
        return self.wall_s - self.views * self.view_wall_s

    @property
    def once_cpu_s(self) -> float:
        return self.cpu_s - self.views * self.view_cpu_s


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedAttempt:
    """An attempt that a build would make and that becomes no scene."""

    reason: str
    message: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """What a process pays once, before its first scene: imports, kernels, the renderer's start."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    error: str = ""
    """Why the probe must stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeOutcome:
    """What became of one scene of a probe."""

    scene: int
    cost: SceneCost | None = None
    """None where every attempt failed."""
    failed: tuple[FailedAttempt, ...] = ()
    error: str = ""
    """Why the probe must stop. Errors travel as words: Ray would wrap an exception in a page of its own."""


class ProbeActor:
    """Makes the scenes of a probe, one at a time. Ray turns this class into an actor; it also works without Ray."""

    def __init__(
        self,
        spec: DatasetSpec,
        lock: Sequence[AssetRecord],
        url: str,
        pictures: tuple[Picture, ...] | None = None,
    ) -> None:
        self._spec = spec
        self._folder = DatasetFolder(open_store(url))
        self._context = PlanContext.of(spec, lock, pictures)
        self._clocks = Clocks(lambda: self._maker.renderer_pid)
        self._maker = SceneMaker(spec, {record.uid: record for record in lock}, FINGERPRINT, self._clocks)
        self._usual: SceneCost | None = None
        self._start_cpu_s = time.process_time()

    def ready(self) -> int:
        """Process id. Answers once the actor has a place and has started."""
        return os.getpid()

    def close(self) -> None:
        """End the renderer."""
        self._maker.close()

    def warm_up(self, scene: int) -> WarmUp:
        """Make two scenes that no build makes, the first for what a process pays once, the second to tell that from
        what every scene costs. Never raises.

        Both are attempts at `scene` beyond those that a build makes.
        """
        most = self._spec.attempts
        first = self._attempts(scene, range(most, 2 * most), lambda: 1)
        second = self._attempts(scene, range(2 * most, 3 * most), lambda: WARM_UP_VIEWS)
        for outcome in (first, second):
            if outcome.error:
                return WarmUp(error=outcome.error)
        self._folder.unstage(scene)
        if first.cost is None or second.cost is None:
            return WarmUp(cpu_s=self._start_cpu_s)
        self._usual = second.cost
        return WarmUp(
            wall_s=max(0.0, first.cost.spent_wall_s - second.cost.once_wall_s - second.cost.view_wall_s),
            cpu_s=self._start_cpu_s
            + max(0.0, first.cost.spent_cpu_s - second.cost.once_cpu_s - second.cost.view_cpu_s),
        )

    def probe(self, scene: int, attempt: int, seconds: float) -> ProbeOutcome:
        """Make some views of a scene, from its first attempt that has a plan. Never raises.

        Parameters
        ----------
        scene, attempt : int
        seconds : float
            Wall seconds that it should not exceed; `LEAST_VIEWS` are made in any case.
        """
        outcome = self._attempts(scene, range(attempt, self._spec.attempts), lambda: self._views_within(seconds))
        self._usual = outcome.cost or self._usual
        return outcome

    def _views_within(self, seconds: float) -> int:
        """How many views can be made in a time, judged by the scene before."""
        if self._usual is None:
            return LEAST_VIEWS
        left = seconds - self._usual.once_wall_s
        return max(LEAST_VIEWS, int(left / max(self._usual.view_wall_s, 1e-6)))

    def _attempts(self, scene: int, attempts: range, most_views: Callable[[], int]) -> ProbeOutcome:
        failed: list[FailedAttempt] = []
        for attempt in attempts:
            self._clocks.restart()
            try:
                return ProbeOutcome(scene=scene, cost=self._make(scene, attempt, most_views()), failed=tuple(failed))
            except SceneFailedError as error:
                reason, message = error.reason, str(error)
            except PlanError as error:
                reason, message = "no_layout", str(error)
            except RenderError as error:
                if not error.transient:
                    return ProbeOutcome(scene=scene, error=str(error))
                reason, message = error.reason, str(error)
            except RandsceneError as error:
                return ProbeOutcome(scene=scene, error=str(error))
            except Exception as error:
                return ProbeOutcome(scene=scene, error=f"fault of the program: {type(error).__name__}: {error}")
            spent = self._clocks.read()
            failed.append(FailedAttempt(reason=reason, message=message, wall_s=spent["wall"], cpu_s=spent["cpu"]))
        return ProbeOutcome(scene=scene, failed=tuple(failed))

    def _make(self, scene: int, attempt: int, most_views: int) -> SceneCost:
        with self._clocks.stage("plan"):
            recipe = plan_scene(self._context, scene, attempt)
        made = self._maker.make(recipe, most_views=most_views)
        before = self._clocks.read()
        sizes: list[int] = []

        def members() -> Iterator[tuple[str, dict[str, bytes]]]:
            for sample in made.samples:
                with self._clocks.stage("encode"):
                    content = encode_members(sample, webp_quality=self._spec.shards.webp_quality)
                sizes.append(sum(BLOCK + math.ceil(len(data) / BLOCK) * BLOCK for data in content.values()))
                yield sample.key, content
            if recipe.split in self._spec.scene_glb:
                self._folder.store.write(self._folder.glb_name(scene), scene_glb(made.instances))

        staged = self._folder.stage(scene, members(), attempt, FINGERPRINT)
        return scene_cost(recipe, made, staged, before, self._clocks.pictures, self._clocks.read(), sizes)


class Clocks(StageClock):
    """A stage clock that reads all clocks whenever a picture has come.

    From one picture to the next passes what a view costs, with all that goes on beside it; what comes before the first
    picture and after the last belongs to the scene.

    Parameters
    ----------
    renderer : callable
        Process id of the renderer, or None when none runs.
    """

    def __init__(self, renderer: Callable[[], int | None]) -> None:
        super().__init__()
        self.pictures: list[Reading] = []
        self._renderer = renderer
        self._pid: int | None = None
        self._ended_cpu = 0.0
        self._running_cpu = 0.0
        self._begun: tuple[float, float] = (0.0, 0.0)

    def restart(self) -> None:
        """Begin another scene."""
        self.stages.clear()
        self.pictures = []
        self._begun = (time.perf_counter(), self._cpu())

    def read(self) -> Reading:
        """All clocks, since `restart`."""
        wall, cpu = self._begun
        stages = {name: spent.wall for name, spent in self.stages.items()}
        return {**stages, "wall": time.perf_counter() - wall, "cpu": self._cpu() - cpu}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the context for the stage `name`."""
        with super().stage(name):
            yield
        if name == "render":
            self.pictures.append(self.read())

    def _cpu(self) -> float:
        """Processor seconds of this process and of every renderer that it has had."""
        pid = self._renderer()
        if pid != self._pid:
            self._pid, self._ended_cpu, self._running_cpu = pid, self._ended_cpu + self._running_cpu, 0.0
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended since; its last reading stands
                times = psutil.Process(pid).cpu_times()
                self._running_cpu = times.user + times.system
        return time.process_time() + self._ended_cpu + self._running_cpu


def scene_cost(
    recipe: SceneRecipe,
    made: MadeScene,
    staged: StagedScene,
    before: Reading,
    pictures: Sequence[Reading],
    end: Reading,
    sizes: Sequence[int],
) -> SceneCost:
    """The cost of a whole scene from that of some of its views.

    Parameters
    ----------
    recipe : SceneRecipe
    made : MadeScene
    staged : StagedScene
    before, end : Reading
        When the first view was asked for, and when all was done.
    pictures : sequence of Reading
        When each picture came; one more may follow, of the time in which no other did.
    sizes : sequence of int
        Bytes of each sample in a tar.
    """
    count, views = len(sizes), len(made.views)
    steps = [
        {name: later[name] - earlier.get(name, 0.0) for name in later}
        for earlier, later in itertools.pairwise(pictures[:count])
    ] or [{name: end[name] - before.get(name, 0.0) for name in end}]

    def a_view(name: str) -> float:
        return float(np.mean([step.get(name, 0.0) for step in steps]))

    def whole(name: str) -> float:
        return end[name] + a_view(name) * (views - count)

    spread = float(np.var(sizes, ddof=1)) if count > 1 else 0.0
    return SceneCost(
        scene=recipe.scene,
        attempt=recipe.attempt,
        objects=len(recipe.instances),
        views=views,
        views_made=count,
        wall_s=whole("wall"),
        cpu_s=whole("cpu"),
        spent_wall_s=end["wall"],
        spent_cpu_s=end["cpu"],
        view_wall_s=a_view("wall"),
        view_cpu_s=a_view("cpu"),
        before_wall_s=before["wall"],
        before_cpu_s=before["cpu"],
        shard_bytes=float(np.mean(sizes)) * views,
        recipe_bytes=len(recipe.to_json().encode()) + 1,
        glb_bytes=len(scene_glb(made.instances)),
        bytes_variance=views * (views - count) / count * spread,
        stages={name: whole(name) for name in end if name not in ("wall", "cpu")},
        staged=staged,
    )
