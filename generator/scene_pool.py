"""ScenePool: Ray actors that make scenes. They come and go with the machines; no scene waits on one without a place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from randscene.errors import RandsceneError, first_line
from randscene.generator.scene_task import SceneOutcome
from randscene.ray_session import deaths

FAILED_STARTS = 5
"""Actors that may die in a row before any has started: then the machine, not chance, is at fault."""


@dataclass(frozen=True, slots=True)
class _Job:
    actor: Any
    scene: int
    attempt: int


class ScenePool:
    """A pool of `SceneActor`s.

    An actor is given a scene only once it runs: where a node has gone, its actors' successors wait for a place, and
    must not keep scenes waiting with them.

    Parameters
    ----------
    ray : module
        A connected Ray.
    start : callable
        Starts one more actor and returns its handle.
    versions : dict
        Of the software that decides bytes, as the driver has it: no actor may have others.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], versions: Mapping[str, str]) -> None:
        self._ray = ray
        self._start = start
        self._versions = versions
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, _Job] = {}
        self._failed_starts = 0

    @property
    def at_work(self) -> int:
        """Actors that have a scene."""
        return len(self._running)

    @property
    def ready(self) -> int:
        """Actors that run, with or without a scene."""
        return len(self._idle) + len(self._running)

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    @property
    def refs(self) -> list[Any]:
        """What Ray has to answer yet."""
        return [*self._running, *self._starting]

    def grow(self, size: int) -> None:
        """Start actors until there are `size`, those that wait for a place included."""
        while len(self._starting) + self.ready < size:
            actor = self._start()
            self._starting[actor.ready.remote()] = actor

    def close(self) -> None:
        """End all actors, at work or not. Left to itself Ray ends them once nobody holds them, and an error that was
        caught holds them, through its traceback, against the next build of the process."""
        for actor in [*self._idle, *self._starting.values(), *(job.actor for job in self._running.values())]:
            self._ray.kill(actor)
        self._idle, self._starting, self._running = [], {}, {}

    def assign(self, scene: int, attempt: int) -> None:
        """Let an idle actor make a scene."""
        actor = self._idle.pop()
        self._running[actor.make.remote(scene, attempt)] = _Job(actor, scene, attempt)

    def take(self, ref: Any) -> SceneOutcome | None:
        """The answer of one of `refs`: what became of a scene, or None where an actor has started or died doing so.

        Raises
        ------
        RandsceneError
            If actors die one after the other before any has started, or one has other versions than the driver.
        """
        if ref in self._starting:
            actor = self._starting.pop(ref)
            try:
                found = self._ray.get(ref)
            except deaths(self._ray) as error:
                self._failed_starts += 1
                if self._failed_starts >= FAILED_STARTS:
                    raise RandsceneError(
                        f"{self._failed_starts} workers died while they started: {first_line(error)}; see that every "
                        "machine has the same randscene, and memory to spare"
                    ) from error
                return None
            if found != self._versions:
                names = [name for name in {**self._versions, **found} if found.get(name) != self._versions.get(name)]
                differing = ", ".join(f"{name} {found.get(name)}, not {self._versions.get(name)}" for name in names)
                raise RandsceneError(
                    f"a worker has {differing}: its scenes would have other bytes; give every machine the same versions"
                )
            self._failed_starts = 0
            self._idle.append(actor)
            return None
        job = self._running.pop(ref)
        try:
            outcome: SceneOutcome = self._ray.get(ref)
        except deaths(self._ray) as error:
            # It may only be out of reach; what it still writes is what its successor will write.
            self._ray.kill(job.actor)
            return SceneOutcome(
                scene=job.scene,
                attempt=job.attempt,
                reason="actor_died",
                stage="ray",
                message=first_line(error),
                transient=True,
            )
        self._idle.append(job.actor)
        return outcome
