"""BlockPackers: Ray actors that pack blocks. One stays for the next block; more come while several wait."""

import logging
from collections.abc import Mapping
from typing import Any

from randscene.generator.block_state import BlockState
from randscene.generator.block_task import PackedBlock, pack_block
from randscene.ray_session import deaths

log = logging.getLogger(__name__)


class BlockPacker:
    """`pack_block` as an actor. The process of a Ray task ends before the next block is there, and to start one for
    each block takes a second of a processor."""

    def pack(self, *arguments: Any) -> PackedBlock:
        """See `pack_block`."""
        return pack_block(*arguments)


class BlockPackers:
    """The packers of a build.

    Parameters
    ----------
    ray : module
        A connected Ray.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remote = ray.remote(num_cpus=0)(BlockPacker)
        self._idle: list[Any] = []
        self._packing: dict[Any, tuple[BlockState, Any]] = {}

    @property
    def at_work(self) -> int:
        """Blocks that are being packed."""
        return len(self._packing)

    @property
    def refs(self) -> Mapping[Any, Any]:
        """What Ray has to answer yet."""
        return self._packing

    def pack(self, state: BlockState, *arguments: Any) -> None:
        """Let a packer pack a block; see `pack_block` for the arguments."""
        packer = self._idle.pop() if self._idle else self._remote.remote()
        self._packing[packer.pack.remote(*arguments)] = state, packer

    def take(self, ref: Any) -> tuple[BlockState, PackedBlock | None]:
        """The block that one of `refs` is about and what became of it; None when its packer died."""
        state, packer = self._packing[ref]
        try:
            packed: PackedBlock = self._ray.get(ref)
        except deaths(self._ray) as error:
            log.warning("a packer died: %s", error)
            del self._packing[ref]
            self._ray.kill(packer)  # it may only be out of reach
            return state, None
        del self._packing[ref]
        if self._idle:
            self._ray.kill(packer)
        else:
            self._idle.append(packer)
        return state, packed

    def close(self) -> None:
        """End all packers, at work or not."""
        for packer in [*self._idle, *(packer for _, packer in self._packing.values())]:
            self._ray.kill(packer)
        self._idle, self._packing = [], {}
