"""Cycles on the processor: settings, and one picture with ids from one render."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from randscene.blender_scripts.capture import MemoryCapture
from randscene.blender_scripts.compat import apply_settings, object_index_pass
from randscene.blender_scripts.display import srgb_on_black
from randscene.blender_scripts.framing import scene_window
from randscene.blender_scripts.scene_builder import BuiltScene
from randscene.blender_scripts.scene_description import Viewpoint
from randscene.errors import RenderError


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One view. Row 0 is the top."""

    rgb: np.ndarray
    """(R, R, 3) uint8, sRGB on black."""
    ids: np.ndarray
    """(R, R) uint8: Cycles' object index at the pixel centres, 0 where it hit nothing."""


def cycles_devices() -> tuple[dict[str, str], ...]:
    """`{"type", "name"}` of each device that renders here."""
    import _cycles

    return tuple({"type": str(kind), "name": str(name)} for name, kind, *_ in _cycles.available_devices("CPU"))


class CyclesEngine:
    """Renders built scenes. Same scene, view, samples and resolution: same bits, in whatever order views come."""

    def __init__(self) -> None:
        self._index_pass = object_index_pass()
        self._capture = MemoryCapture(["Combined", self._index_pass])

    def prepare(self, scene: Any, *, resolution: int, samples: int, threads: int) -> None:
        """Apply every setting to a scene that has not been rendered yet.

        Bounces are TRELLIS's (`dataset_toolkits/blender_script/render.py::init_render`); samples and denoising are
        chosen anew: 16 denoised samples look close to its 128 for a sixth of the time.
        """
        apply_settings(
            scene.render,
            engine="CYCLES",
            resolution_x=resolution,
            resolution_y=resolution,
            resolution_percentage=100,
            pixel_aspect_x=1.0,
            pixel_aspect_y=1.0,
            film_transparent=True,
            threads_mode="FIXED",
            threads=threads,
            use_persistent_data=True,
            use_compositing=False,
            use_sequencer=False,
            use_motion_blur=False,
            use_crop_to_border=False,
        )
        apply_settings(
            scene.cycles,
            device="CPU",
            samples=samples,
            seed=0,
            use_animated_seed=False,
            use_adaptive_sampling=False,
            use_denoising=True,
            denoiser="OPENIMAGEDENOISE",
            denoising_input_passes="RGB_ALBEDO_NORMAL",
            denoising_prefilter="NONE",
            denoising_quality="BALANCED",
            pixel_filter_type="BOX",
            diffuse_bounces=1,
            glossy_bounces=1,
            transparent_max_bounces=3,
            transmission_bounces=3,
            use_auto_tile=False,
        )
        scene.view_layers[0].use_pass_object_index = True

    def render(self, built: BuiltScene, viewpoint: Viewpoint) -> Picture:
        """Render one view of a prepared scene.

        Only the window that the scene can reach is traced; it follows from the view alone.

        Raises
        ------
        RenderError
            With reason `render_failed`.
        """
        scene = built.scene
        resolution = scene.render.resolution_x
        window = scene_window(built.points, viewpoint, resolution)
        if window is None:
            return Picture(
                rgb=np.zeros((resolution, resolution, 3), np.uint8), ids=np.zeros((resolution, resolution), np.uint8)
            )
        built.look_from(viewpoint)
        # Blender truncates the border to whole pixels: aim at their middle.
        apply_settings(
            scene.render,
            use_border=True,
            border_min_x=(window.left + 0.25) / resolution,
            border_max_x=min((window.right + 0.25) / resolution, 1.0),
            border_min_y=(window.bottom + 0.25) / resolution,
            border_max_y=min((window.top + 0.25) / resolution, 1.0),
        )
        passes = self._capture.render(scene)
        combined, index = passes["Combined"], passes[self._index_pass][..., 0]
        if combined.shape[:2] != window.shape:
            raise RenderError(
                "render_failed", f"Cycles traced {combined.shape[:2]} pixels where {window.shape} were asked for"
            )
        return Picture(
            rgb=window.place(srgb_on_black(combined), resolution),
            ids=window.place(np.rint(index).astype(np.uint8), resolution),
        )
