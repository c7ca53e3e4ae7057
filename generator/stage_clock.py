"""StageClock: how long each stage of making a scene takes, in wall and processor seconds."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class StageTime:
    """Seconds of one stage."""

    wall: float = 0.0
    cpu: float = 0.0
    """Of this process, all its threads."""


class StageClock:
    """Adds up the time of named stages. Stages must not be nested: what runs inside one counts for that one alone."""

    def __init__(self) -> None:
        self.stages: dict[str, StageTime] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the context for the stage `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            spent = self.stages.setdefault(name, StageTime())
            spent.wall += time.perf_counter() - wall
            spent.cpu += time.process_time() - cpu
