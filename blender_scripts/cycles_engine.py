"""Cycles: settings, and one picture (or what one is made from) with ids from one render."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.capture import MemoryCapture
from randscene.blender_scripts.compat import apply_settings, object_index_pass
from randscene.blender_scripts.denoiser import Denoiser
from randscene.blender_scripts.framing import Window
from randscene.blender_scripts.guide_pass import PASS as GUIDE
from randscene.blender_scripts.guide_pass import add_guide_pass
from randscene.blender_scripts.render_settings import set_cycles, set_picture
from randscene.blender_scripts.scene_builder import BuiltScene
from randscene.blender_scripts.scene_description import Viewpoint
from randscene.demodulation import illumination, modulator
from randscene.display import srgb_on_black

NORMAL = "Denoising Normal"

_LARGEST_HALF = np.float32(65504)

DENOISER_QUALITY = {"fast": 8, "balanced": 1 << 30}
"""The filter's quality for up to so many samples a pixel. With few samples the quick one is as good as the others."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What a picture is made from, in the window of it that the scene can reach. Row 0 is the top."""

    window: Window
    light: NDArray[Any]
    """(h, w, 3) float32: denoised illumination, see `demodulation`."""
    guide: NDArray[Any]
    """(h, w, 3) float32: mean base colour of the pixel's samples, times their alpha."""
    alpha: NDArray[Any]
    """(h, w) float32 in [0, 1]."""

    def stacked(self) -> NDArray[Any]:
        """(7, h, w) float16: light, guide, alpha."""
        planes = np.concatenate([self.light, self.guide, self.alpha[..., None]], axis=2)
        return np.ascontiguousarray(np.minimum(planes, _LARGEST_HALF).astype(np.float16).transpose(2, 0, 1))

    def picture(self, resolution: int) -> NDArray[Any]:
        """(R, R, 3) uint8, sRGB on black: the picture that these samples alone give."""
        alpha = self.alpha[..., None]
        color = np.concatenate([self.light * modulator(self.guide, alpha), alpha], axis=2)
        return self.window.place(srgb_on_black(color)[::-1], resolution)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One view. Row 0 is the top."""

    rgb: NDArray[Any] | None = None
    """(R, R, 3) uint8, sRGB on black. None where `layers` were asked for."""
    layers: Layers | None = None
    """None where `rgb` was asked for, and where there is nothing to see."""
    ids: NDArray[Any] | None
    """(R, R) uint8: Cycles' object index at the pixel centres, 0 where it hit nothing. None from other engines."""


class CyclesEngine:
    """Renders built scenes. Same scene, view, samples and resolution: same bits, in whatever order views come."""

    def __init__(self) -> None:
        self._index_pass = object_index_pass()
        self._capture = MemoryCapture(["Combined", NORMAL, GUIDE, self._index_pass])
        self._denoiser: Denoiser | None = None
        self._denoiser_threads = 0
        self._quality = "fast"

    def prepare(self, scene: Any, *, resolution: int, samples: int, threads: int, device: str) -> None:
        """Apply every setting to a scene that has not been rendered yet.

        Raises
        ------
        RenderError
            `device_missing` if Cycles cannot render on the device here, `denoiser_missing` without a denoiser.
        """
        if self._denoiser is None or self._denoiser_threads != threads:
            if self._denoiser is not None:
                self._denoiser.close()
            self._denoiser, self._denoiser_threads = Denoiser(threads), threads
        self._quality = next(name for name, most in DENOISER_QUALITY.items() if samples <= most)
        set_picture(scene, "CYCLES", resolution=resolution, threads=threads, crop=False)
        set_cycles(scene, samples=samples, device=device)
        # Its errors are spread so that a filter removes them better.
        apply_settings(scene.cycles, sampling_pattern="BLUE_NOISE")
        layer = scene.view_layers[0]
        layer.cycles.denoising_store_passes = True
        add_guide_pass(layer)

    def render(self, built: BuiltScene, viewpoint: Viewpoint, *, layers: bool = False) -> Picture:
        """Render one view of a prepared scene.

        Parameters
        ----------
        built : BuiltScene
        viewpoint : Viewpoint
        layers : bool
            Give what a picture is made from in place of the picture.

        Raises
        ------
        RenderError
            With reason `render_failed` or `denoiser_failed`.
        """
        resolution = built.scene.render.resolution_x
        window = built.aim(viewpoint)
        if window is None:
            empty = np.zeros((resolution, resolution, 4), np.uint8)
            return Picture(rgb=None if layers else empty[..., :3], ids=empty[..., 3])
        passes = self._capture.render(built.scene, window.shape)
        combined, index = passes["Combined"], passes[self._index_pass][..., 0]
        assert self._denoiser is not None
        light = illumination(combined, passes[GUIDE][..., :3])
        parts = Layers(
            window=window,
            light=self._denoiser.denoise(light, passes[NORMAL], self._quality)[::-1],
            guide=passes[GUIDE][::-1, :, :3],
            alpha=np.clip(combined[::-1, :, 3], 0, 1),
        )
        return Picture(
            rgb=None if layers else parts.picture(resolution),
            layers=parts if layers else None,
            ids=window.place(np.rint(index).astype(np.uint8), resolution),
        )
