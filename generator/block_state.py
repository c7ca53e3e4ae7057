"""What a build knows of its blocks: each one's scenes and shard, and the sums over all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from randscene.generator.dataset_folder import Block, StagedScene


@dataclass
class BlockState:
    """What is known of a block: first its scenes, in the end its shard."""

    block: Block
    staged: dict[int, StagedScene] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    committed: bool = False
    scenes: int = 0
    samples: int = 0
    bytes: int = 0
    sha256: str = ""

    @property
    def ready(self) -> bool:
        """Whether the block can be packed."""
        return len(self.staged) + len(self.given_up) == len(self.block.scenes)

    @property
    def missing(self) -> list[int]:
        """Scenes that nothing has come of yet."""
        return [scene for scene in self.block.scenes if scene not in self.staged and scene not in self.given_up]

    def commit(self, scenes: int, samples: int, size: int, sha256: str) -> None:
        """Note that the shard is there."""
        self.committed, self.staged = True, {}
        self.scenes, self.samples, self.bytes, self.sha256 = scenes, samples, size, sha256


@dataclass
class Totals:
    """Sums over all blocks, kept up as they change: a build has more blocks than can be counted after every scene."""

    scenes: int = 0
    given_up: int = 0
    shards: int = 0
    bytes: int = 0
    staged_bytes: int = 0
    largest: int = 0
    """Bytes of the largest staged scene that this run has met."""

    @classmethod
    def of(cls, states: Iterable[BlockState]) -> Self:
        """Count what is there."""
        totals = cls()
        for state in states:
            totals.scenes += state.scenes
            totals.given_up += len(state.given_up)
            totals.shards += state.committed
            totals.bytes += state.bytes
            for scene in state.staged.values():
                totals.stage(scene)
        return totals

    def stage(self, scene: StagedScene) -> None:
        self.scenes += 1
        self.staged_bytes += scene.bytes
        self.largest = max(self.largest, scene.bytes)

    def unstage(self, scene: StagedScene) -> None:
        self.scenes -= 1
        self.staged_bytes -= scene.bytes

    def commit(self, staged: Iterable[StagedScene], size: int) -> None:
        """A shard of `size` bytes takes the place of its staged scenes."""
        self.shards += 1
        self.bytes += size
        self.staged_bytes -= sum(scene.bytes for scene in staged)
