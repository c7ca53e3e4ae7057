"""One picture as the renderer process hands it over, read from its files and checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.protocol import ViewAnswer
from randscene.errors import RenderError


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadingLayers:
    """What a picture is made from, inside a window of it. Row 0 is the top."""

    top: int
    left: int
    light: NDArray[Any]
    """(3, h, w) float16: denoised light over base colour, see `randscene.demodulation`."""
    guide: NDArray[Any]
    """(3, h, w) float16: mean linear base colour of the samples that the light was traced with, times their alpha."""
    alpha: NDArray[Any]
    """(h, w) float16: of the same samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedView:
    """One picture. Row 0 is the top."""

    view: int
    rgb: NDArray[Any] | None
    """(H, W, 3) uint8, sRGB on black. None where layers were asked for."""
    layers: ShadingLayers | None
    """None where pictures were asked for, and where there is nothing to see."""
    ids: NDArray[Any] | None
    """(H, W) uint8: the engine's own object index, to check the labels against; 0 background, i = instance i. None
    from an engine that has no such index."""
    cpu_seconds: float
    """Processor time that the renderer took for it."""


def read_view(answer: ViewAnswer, folder: Path, resolution: int) -> RenderedView:
    """The picture that an answer names; its files are removed once read.

    Parameters
    ----------
    answer : ViewAnswer
    folder : Path
        Where the job's files have to be.
    resolution : int
        Side of the picture, pixels.

    Raises
    ------
    RenderError
        `bad_answer` if a file lies elsewhere, cannot be read, or holds something else.
    """
    return RenderedView(
        view=answer.view,
        rgb=_load(folder, answer.rgb, (resolution, resolution, 3)) if answer.rgb else None,
        layers=_layers(answer, folder, resolution) if answer.layers else None,
        ids=_load(folder, answer.ids, (resolution, resolution)) if answer.ids else None,
        cpu_seconds=answer.cpu_seconds,
    )


def _layers(answer: ViewAnswer, folder: Path, resolution: int) -> ShadingLayers:
    edges = answer.window
    if len(edges) != 4 or not (0 <= edges[0] < edges[1] <= resolution and 0 <= edges[2] < edges[3] <= resolution):
        raise RenderError("bad_answer", f"the renderer named an impossible window, {edges}")
    top, bottom, left, right = edges
    planes = _load(folder, answer.layers, (7, bottom - top, right - left), np.float16)
    return ShadingLayers(top=top, left=left, light=planes[:3], guide=planes[3:6], alpha=planes[6])


def _load(folder: Path, name: str, shape: tuple[int, ...], dtype: type = np.uint8) -> NDArray[Any]:
    path = Path(name)
    try:
        if path.parent != folder or path.name in ("", ".", ".."):
            raise ValueError("it lies outside the job's folder")
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
        path.unlink()
    except (OSError, ValueError, EOFError) as error:
        raise RenderError("bad_answer", f"cannot use the picture {name}: {error}") from error
    return array
