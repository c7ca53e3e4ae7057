"""Encoding many grids fast: the encoder's finer levels are computed only around what is occupied.

Most grids are single instances, small in their scene's cube. Far from every occupied voxel a layer's response is that
of an empty grid, which is computed once. Each grid therefore gets a window at each of the two finer levels, wide enough
for all that its voxels can influence there, and one cell more on every side: that outermost shell always holds the
empty response, put back after every convolution, so that the next one sees beside the window what it would see in the
whole grid. Where a window ends at the border of the cube there is no shell: the zeros that a convolution pads with are
right there. The coarsest level is computed whole. The result is exact up to the rounding of convolutions of another
shape.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from randscene.errors import DatasetError
from randscene.lookahead import lookahead
from randscene.train.sparse_structure_vae import Downsample, ResBlock, SparseStructureEncoder

RESOLUTION = 64
SIDES = (24, 28, 32, 40, 48, 64)
"""Sides of the finest level's windows, voxels. A grid takes the smallest that will do; each is compiled once."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Where the windows of one grid lie."""

    side: int
    """Of the finest level's window, voxels; one of `SIDES`."""
    start: tuple[NDArray[Any], NDArray[Any]]
    """First cell of the window at the finest and at the second level, (3,) int64 each, even."""


class ActiveBoxEncoder:
    """An encoder for inference on many grids.

    Parameters
    ----------
    module : SparseStructureEncoder
        Of three levels, on its device and in its torso type; its memory layout is changed to channels last.
    batch_size : int
        Grids a pass. Every pass has exactly so many, the last ones filled up with empty grids.
    compile : bool
        Whether to compile the passes (`torch.compile`): half a minute once, worth it from some ten thousand grids.
    """

    def __init__(self, module: SparseStructureEncoder, *, batch_size: int = 64, compile: bool = True) -> None:
        self._module = module.eval().requires_grad_(False)
        self._module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._batch = batch_size
        self._device = next(module.parameters()).device
        blocks = list(module.blocks)
        cuts = [index for index, block in enumerate(blocks) if isinstance(block, Downsample)]
        if len(cuts) != 2:
            raise ValueError(f"ActiveBoxEncoder is for encoders of three levels, not {len(cuts) + 1}")
        self._levels = [blocks[: cuts[0] + 1], blocks[cuts[0] + 1 : cuts[1] + 1]]
        self._last = [*blocks[cuts[1] + 1 :], *module.middle_block]
        # Every convolution carries influence one cell further: two in each block, and the input's.
        self._reach = (1 + 2 * cuts[0], 2 * (cuts[1] - cuts[0] - 1))
        self._empty: list[list[Tensor]] = [[], []]
        """Per level, the empty grid's response after every convolution that has a shell, then after the halving;
        (X, Y, Z, C)."""
        with _inference():
            h = module.input_layer(torch.zeros((1, 1, *[RESOLUTION] * 3), device=self._device)).to(module.torso_dtype)
            _remember(self._empty[0], h)
            for part, empty in zip(self._levels, self._empty):
                h = self._level(h, part, functools.partial(_remember, empty))
                _remember(empty, h)
        if compile:  # six windows of three functions, and perhaps another encoder in this process
            torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)

        def wrap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return torch.compile(function, dynamic=False, fullgraph=True) if compile else function

        self._passes = tuple(wrap(part) for part in (self._finest, self._second, self._coarsest))

    def encode(self, grids: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Latents of occupancy grids: the posterior means. Equal grids are encoded once.

        Parameters
        ----------
        grids : sequence of (V, 3) uint8 arrays
            Occupied voxels (x, y, z) below 64; V may be 0.

        Returns
        -------
        (n, C, 16, 16, 16) float16, in the order of `grids`; C is the encoder's number of latent channels.

        Raises
        ------
        DatasetError
            If an array is not (V, 3) uint8 below 64.
        """
        first: dict[bytes, int] = {}
        same_as = []
        for number, coords in enumerate(grids):
            if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype != np.uint8:
                raise DatasetError(f"voxels must be a (V, 3) uint8 array, not {coords.dtype} {coords.shape}")
            same_as.append(first.setdefault(coords.tobytes(), number))
        latents = np.empty((len(grids), self._module.latent_channels, 16, 16, 16), np.float16)
        running: list[tuple[list[int], _Copy]] = []
        for numbers, index, windows in lookahead(self._batches(grids, list(first.values()))):
            running.append((numbers, _Copy(self._encode(index, windows))))
            if len(running) > 2:
                _collect(latents, *running.pop(0))
        for done in running:
            _collect(latents, *done)
        for number, original in enumerate(same_as):
            if number != original:
                latents[number] = latents[original]
        return latents

    def windows(self, coords: NDArray[Any]) -> Windows:
        """The windows of one grid, (V, 3) uint8: the smallest that hold all that its voxels can influence.

        Raises
        ------
        DatasetError
            If a voxel lies outside the cube.
        """
        if not len(coords):
            return Windows(side=SIDES[0], start=(np.zeros(3, np.int64), np.zeros(3, np.int64)))
        low, high = coords.min(axis=0).astype(np.int64), coords.max(axis=0).astype(np.int64) + 1
        if high.max() > RESOLUTION:
            raise DatasetError(f"voxels must lie below {RESOLUTION}, not at {high.max() - 1}")
        low, high = low - self._reach[0], high + self._reach[0]
        least = np.maximum((low - 1) // 2 * 2, 0)
        side = next(side for side in SIDES if side >= (np.minimum(high + 1, RESOLUTION) - least).max())
        start = np.minimum(least, RESOLUTION - side)
        second = np.maximum((low // 2 - self._reach[1] - 1) // 2 * 2, 0)
        return Windows(side=side, start=(start, np.minimum(second, RESOLUTION // 2 - self.second_side(side))))

    def second_side(self, side: int) -> int:
        """Side of the second level's window, cells, for one of `SIDES`."""
        # What a window of that side can hold, halved, its reach and a shell on both sides; even.
        most = (side - 2) // 2 + 1 + 2 * (self._reach[1] + 1)
        return min(most + most % 2, RESOLUTION // 2)

    def _batches(
        self, grids: Sequence[NDArray[Any]], numbers: Sequence[int]
    ) -> Iterator[tuple[list[int], Tensor, list[Windows]]]:
        """Passes of grids whose windows have the same side: their numbers, where to put ones, and the windows."""
        waiting: dict[int, list[tuple[int, Windows]]] = {side: [] for side in SIDES}
        for number in numbers:
            windows = self.windows(grids[number])
            group = waiting[windows.side]
            group.append((number, windows))
            if len(group) == self._batch:
                yield self._batch_of(grids, group)
                waiting[windows.side] = []
        for group in waiting.values():
            if group:
                yield self._batch_of(grids, group)

    def _batch_of(
        self, grids: Sequence[NDArray[Any]], group: Sequence[tuple[int, Windows]]
    ) -> tuple[list[int], Tensor, list[Windows]]:
        side = group[0][1].side
        parts = [
            np.ravel_multi_index(tuple((grids[number] - at.start[0]).T), (side, side, side)) + row * side**3
            for row, (number, at) in enumerate(group)
        ]
        index = torch.from_numpy(np.concatenate(parts))
        pinned = index.pin_memory() if self._device.type == "cuda" else index
        return [number for number, _ in group], pinned, [at for _, at in group]

    def _encode(self, index: Tensor, windows: Sequence[Windows]) -> Tensor:
        side = windows[0].side
        starts = np.zeros((2, self._batch, 3), np.int64)
        for row, at in enumerate(windows):
            starts[:, row] = at.start
        first, second = torch.from_numpy(starts).to(self._device, non_blocking=True)
        x = torch.zeros(self._batch * side**3, device=self._device)
        x[index.to(self._device, non_blocking=True)] = 1
        finest, middle, coarsest = self._passes
        with _inference():
            h = finest(x.view(self._batch, 1, side, side, side), first)
            h = middle(h, first // 2, second, self.second_side(side))
            return coarsest(h, second // 2)

    def _finest(self, x: Tensor, start: Tensor) -> Tensor:
        empty = iter(self._empty[0])
        shell = _Shell(start, x.shape[2], RESOLUTION)
        h = shell(self._module.input_layer(x).to(self._module.torso_dtype), next(empty))
        return self._level(h, self._levels[0], lambda h: shell(h, next(empty)))

    def _second(self, h: Tensor, lies_at: Tensor, start: Tensor, side: int) -> Tensor:
        h = _placed(h, lies_at, self._empty[0][-1], start, side)
        empty = iter(self._empty[1])
        shell = _Shell(start, side, RESOLUTION // 2)
        return self._level(h, self._levels[1], lambda h: shell(h, next(empty)))

    def _coarsest(self, h: Tensor, lies_at: Tensor) -> Tensor:
        h = _placed(h, lies_at, self._empty[1][-1], torch.zeros_like(lies_at), RESOLUTION // 4)
        for block in self._last:
            h = block(h)
        norm, silu, conv = (cast(Any, part) for part in self._module.out_layer)
        # The last convolution in the torso's type: in float32 it alone would cost as much as one of the others.
        h = silu(norm(h.float())).to(self._module.torso_dtype)
        weight, bias = (part.to(h.dtype) for part in (conv.weight, conv.bias))
        return F.conv3d(h, weight, bias, padding=1).chunk(2, dim=1)[0].to(torch.float16)

    @staticmethod
    def _level(h: Tensor, blocks: Sequence[torch.nn.Module], after: Callable[[Tensor], Tensor]) -> Tensor:
        """One level's blocks and its halving; `after` sees the stream after each convolution but the halving one's."""
        for block in blocks[:-1]:
            block = cast(ResBlock, block)
            inner = after(block.conv1(F.silu(block.norm1(h))))
            h = after(h + block.conv2(F.silu(block.norm2(inner))))
        halved: Tensor = blocks[-1](h)
        return halved


def _remember(empty: list[Tensor], h: Tensor) -> Tensor:
    empty.append(_cells(h)[0])
    return h


class _Shell:
    """The outermost cells of windows, but for sides that lie on the cube's border."""

    def __init__(self, start: Tensor, side: int, size: int) -> None:
        at = torch.arange(side, device=start.device)
        self._index = start[:, :, None] + at  # (B, 3, S)
        edge = ((at == 0) & (start[:, :, None] > 0)) | ((at == side - 1) & (start[:, :, None] + side < size))
        x, y, z = edge.unbind(1)
        self._mask = (x[:, :, None, None] | y[:, None, :, None] | z[:, None, None, :])[..., None]

    def __call__(self, h: Tensor, empty: Tensor) -> Tensor:
        """`h` (B, C, S, S, S) with the empty response (X, Y, Z, C) in its shell."""
        return torch.where(self._mask, _window(empty, self._index), _cells(h)).movedim(-1, 1)


def _placed(h: Tensor, lies_at: Tensor, empty: Tensor, start: Tensor, side: int) -> Tensor:
    """Windows of `side` cells from `start` on: `h`, which begins at `lies_at`, within the empty response."""
    index = start[:, :, None] + torch.arange(side, device=start.device)
    local = index - lies_at[:, :, None]
    inside = (local >= 0) & (local < h.shape[2])
    x, y, z = inside.unbind(1)
    mask = (x[:, :, None, None] & y[:, None, :, None] & z[:, None, None, :])[..., None]
    jx, jy, jz = local.clamp(0, h.shape[2] - 1).unbind(1)
    row = torch.arange(len(h), device=h.device)[:, None, None, None]
    there = _cells(h)[row, jx[:, :, None, None], jy[:, None, :, None], jz[:, None, None, :]]
    return torch.where(mask, there, _window(empty, index)).movedim(-1, 1)


def _window(empty: Tensor, index: Tensor) -> Tensor:
    x, y, z = index.unbind(1)
    return empty[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]]


def _cells(h: Tensor) -> Tensor:
    return h.movedim(1, -1).contiguous()


class _Copy:
    """A result on its way to the host, behind the passes that are still running."""

    def __init__(self, result: Tensor) -> None:
        self._event = None
        self._host = result
        if result.device.type == "cuda":
            self._host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            self._host.copy_(result, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> NDArray[Any]:
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


def _collect(latents: NDArray[Any], numbers: list[int], copy: _Copy) -> None:
    latents[numbers] = copy.wait()[: len(numbers)]


@contextlib.contextmanager
def _inference() -> Iterator[None]:
    # TF32 has float16's precision; it touches the first convolution alone, which is held in float32.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        yield
