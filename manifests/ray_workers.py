"""The guarded child processes of `guarded_workers`, one on each CPU of a Ray cluster.

Only tasks and answers travel, small dicts of JSON; the meshes lie on a file system that all machines share.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from randscene.errors import RandsceneError, first_line
from randscene.manifests.guarded_workers import GuardedWorkers
from randscene.ray_session import deaths

log = logging.getLogger(__name__)

RETRIES = 1
"""How often a task is tried again after the machine or actor that had it died."""
_FAILED_STARTS = 3
"""Actors in a row that may die before their first word."""
_PATIENCE_S = 2.0
"""How long actors may take to end their children before they are killed."""


class InspectionActor:
    """The Ray actor: owns one guarded child process."""

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self._child = _OneChild(timeout_s, memory_bytes)

    def hello(self, folder: str) -> str:
        """Nothing if this machine can see `folder`, else the name of the machine."""
        return "" if Path(folder).is_dir() else os.uname().nodename

    def perform(self, task: dict[str, Any]) -> dict[str, Any]:
        """The answer to one task."""
        return self._child.perform(task)

    def end(self) -> None:
        """End the child."""
        self._child.end()


class RayWorkers:
    """A pool of Ray actors with the face of `GuardedWorkers`: a context manager whose `run` carries out tasks.

    At most one task an actor is under way. An actor that dies is replaced and its task tried once more, elsewhere;
    a task that loses two actors is answered `crashed`.

    Parameters
    ----------
    ray : module
        A connected Ray.
    workers : int, optional
        Number of actors, at most one for each CPU of the cluster, which is also the default.
    timeout_s, memory_bytes : float, int
        Limits of one task, as in `GuardedWorkers`.
    folder : Path
        A folder that every machine must see.
    """

    def __init__(self, ray: Any, workers: int | None, *, timeout_s: float, memory_bytes: int, folder: Path) -> None:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._ray = ray
        self._limit = cpus if workers is None else min(workers, cpus)
        self._folder = str(folder)
        remote = ray.remote(num_cpus=1, max_restarts=0)(InspectionActor)
        self._new: Callable[[], Any] = lambda: remote.remote(timeout_s, memory_bytes)
        self._actors: list[Any] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        ends = [actor.end.remote() for actor in self._actors]
        if ends:  # one that is in the middle of a task does not hear it
            self._ray.wait(ends, num_returns=len(ends), timeout=_PATIENCE_S)
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()

    def run(self, tasks: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Carry out the tasks; yields (position, answer) in order of completion.

        Raises
        ------
        RandsceneError
            If actors cannot start, or a machine does not see the folder.
        """
        waiting = ((position, task, 0) for position, task in enumerate(tasks))
        again: deque[tuple[int, dict[str, Any], int]] = deque()
        starting = dict(self._start() for _ in range(self._limit))
        running: dict[Any, tuple[Any, int, dict[str, Any], int]] = {}
        idle: list[Any] = []
        while True:
            while idle and (given := again.popleft() if again else next(waiting, None)) is not None:
                actor = idle.pop()
                running[actor.perform.remote(given[1])] = (actor, *given)
            if idle and not running:  # an actor has nothing to do: nothing is left
                return
            (finished,), _ = self._ray.wait([*running, *starting], num_returns=1)
            if finished in starting:
                actor = starting.pop(finished)
                if self._greets(finished):
                    idle.append(actor)
                else:
                    starting.update([self._replace(actor)])
                continue
            actor, position, task, tries = running.pop(finished)
            try:
                answer = self._ray.get(finished)
            except deaths(self._ray) as error:
                log.warning("a Ray actor died while it read %s: %s", task["path"], first_line(error))
                starting.update([self._replace(actor)])
                if tries < RETRIES:
                    again.append((position, task, tries + 1))
                    continue
                answer = {"status": "crashed", "message": f"the machine that read {task['path']} died, twice"}
            except self._ray.exceptions.RayTaskError as error:
                raise RandsceneError(f"a Ray worker failed on {task['path']}: {_last_line(error)}") from error
            else:
                idle.append(actor)
            yield position, answer

    def _start(self) -> tuple[Any, Any]:
        actor = self._new()
        self._actors.append(actor)
        return actor.hello.remote(self._folder), actor

    def _replace(self, actor: Any) -> tuple[Any, Any]:
        self._ray.kill(actor)  # one that is only out of reach would keep its CPU from the next
        self._actors.remove(actor)
        return self._start()

    def _greets(self, greeting: Any) -> bool:
        """Whether an actor has started; False if it died, which may happen to some but not to every one."""
        try:
            blind = self._ray.get(greeting)
        except (*deaths(self._ray), self._ray.exceptions.RayTaskError) as error:
            self._failed_starts += 1
            log.warning("a Ray actor did not start: %s", first_line(error))
            if self._failed_starts < _FAILED_STARTS:
                return False
            raise RandsceneError(
                f"Ray workers cannot start; install this release of randscene on every machine ({_last_line(error)})"
            ) from error
        if blind:
            raise RandsceneError(f"{blind} does not see {self._folder}: every machine must share its file system")
        self._failed_starts = 0
        return True


class _OneChild:
    """A guarded child process that answers task by task and lives on in between."""

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self._task: dict[str, Any] = {}
        self._pool = GuardedWorkers(1, timeout_s=timeout_s, memory_bytes=memory_bytes)
        self._answers = self._pool.run(self._tasks())

    def perform(self, task: dict[str, Any]) -> dict[str, Any]:
        self._task = task
        for position, answer in self._answers:
            if position % 2 == 0:
                return answer
        raise AssertionError("the tasks never end")

    def end(self) -> None:
        self._pool.__exit__()

    def _tasks(self) -> Iterator[dict[str, Any]]:
        # The pool hands out an answer once it has the next task: behind each real one comes one that costs nothing.
        while True:
            yield self._task
            yield {"path": os.devnull, "up_axis": "Y"}


def _last_line(error: BaseException) -> str:
    return next(reversed(str(error).strip().splitlines()), type(error).__name__).strip()[:200]
