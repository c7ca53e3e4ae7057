"""Cycles on a graphics card: many plain samples, since there they cost less than a denoiser."""

from typing import Any

import numpy as np

from randscene.blender_scripts.capture import MemoryCapture
from randscene.blender_scripts.compat import apply_settings, object_index_pass
from randscene.blender_scripts.cycles_engine import Picture
from randscene.blender_scripts.devices import use_device
from randscene.blender_scripts.framing import Window, scene_window
from randscene.blender_scripts.scene_builder import BuiltScene
from randscene.blender_scripts.scene_description import Viewpoint
from randscene.display import srgb_on_black
from randscene.errors import RenderError
from randscene.gltf_scene import BLEND_CUTOFF


class CyclesCardEngine:
    """Renders built scenes on CUDA, OptiX, HIP, oneAPI or Metal devices.

    The processor keeps nothing to do but to hand scenes over: a filter on the processor takes ten times as long as
    the card takes for the samples that would make it unnecessary.
    """

    def __init__(self) -> None:
        self._index_pass = object_index_pass()
        self._capture = MemoryCapture(["Combined", self._index_pass])

    def prepare(self, scene: Any, *, resolution: int, samples: int, threads: int, device: str) -> None:
        """Apply every setting to a scene that has not been rendered yet; light takes the same ways as on the processor.

        Raises
        ------
        RenderError
            `device_missing` if Cycles cannot render on the device here.
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
            # Without it every view copies the scene to the card again, which takes longer than the view.
            use_persistent_data=True,
            use_compositing=False,
            use_sequencer=False,
            use_motion_blur=False,
            use_crop_to_border=False,
        )
        apply_settings(
            scene.cycles,
            samples=samples,
            seed=0,
            use_animated_seed=False,
            use_adaptive_sampling=False,
            use_denoising=False,
            pixel_filter_type="BOX",
            diffuse_bounces=1,
            glossy_bounces=1,
            transparent_max_bounces=64,
            transmission_bounces=3,
            use_auto_tile=False,
        )
        use_device(scene, device)
        apply_settings(scene.view_layers[0], use_pass_object_index=True, pass_alpha_threshold=BLEND_CUTOFF)

    def render(self, built: BuiltScene, viewpoint: Viewpoint, *, layers: bool = False) -> Picture:
        """Render one view of a prepared scene; there are no layers.

        Raises
        ------
        RenderError
            With reason `render_failed`, or `bad_request` if layers are asked for.
        """
        if layers:
            raise RenderError("bad_request", "layers: on a graphics card cycles makes pictures only")
        scene = built.scene
        resolution = scene.render.resolution_x
        whole = Window(left=0, right=resolution, bottom=0, top=resolution)
        window = whole if built.covers_picture(viewpoint) else scene_window(built.points, viewpoint, resolution)
        if window is None:
            empty = np.zeros((resolution, resolution, 4), np.uint8)
            return Picture(rgb=empty[..., :3], ids=empty[..., 3])
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
