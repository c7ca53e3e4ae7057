"""What the index of a built shard says of its block: which scenes it was to hold and what became of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from randscene.errors import DatasetError
from randscene.shards.shard_index import ShardIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockHeader:
    """The part of a shard's header that a build goes on from."""

    fingerprint: str
    """Of the dataset."""
    scenes: tuple[int, ...]
    """All scenes of the block, in its order."""
    attempts: Mapping[int, int]
    """The scenes that the shard holds, and which attempt each one came of."""
    given_up: Mapping[int, str]
    """The others, with the reason of their last failure."""

    def as_written(self, *, split: str, block: int) -> dict[str, Any]:
        """The header as a shard's index holds it, with the block's split and number."""
        return {
            "split": split,
            "block": block,
            "scenes": list(self.scenes),
            "attempts": {str(scene): self.attempts[scene] for scene in sorted(self.attempts)},
            "given_up": {str(scene): self.given_up[scene] for scene in sorted(self.given_up)},
            "fingerprint": self.fingerprint,
        }


def read_header(index: ShardIndex, *, where: str) -> BlockHeader:
    """The header of a shard that a build committed.

    Parameters
    ----------
    index : ShardIndex
    where : str
        The index file, for messages.

    Raises
    ------
    DatasetError
        If the index was not written by a build, or is damaged.
    """
    header = index.header
    try:
        lacking = [name for name in ("fingerprint", "scenes", "attempts") if name not in header]
        if lacking:
            raise ValueError(f"its header has no {' and no '.join(lacking)}")
        found = BlockHeader(
            fingerprint=str(header["fingerprint"]),
            scenes=tuple(header["scenes"]),
            attempts={int(scene): int(attempt) for scene, attempt in header["attempts"].items()},
            given_up={int(scene): str(reason) for scene, reason in header.get("given_up", {}).items()},
        )
        if not found.attempts.keys() | found.given_up.keys() <= set(found.scenes):
            raise ValueError("its header tells of scenes that are not the shard's")
        if min(found.attempts.values(), default=0) < 0:
            raise ValueError("its header has a negative attempt")
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{where}: not the index of a shard that a build made ({error}); `randscene generate` builds it again"
        ) from error
    return found
