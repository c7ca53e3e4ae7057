"""Cycles on a graphics card: many plain samples, since there they cost less than a denoiser."""

from typing import Any

import numpy as np

from randscene.blender_scripts.capture import MemoryCapture
from randscene.blender_scripts.compat import object_index_pass
from randscene.blender_scripts.cycles_engine import Picture
from randscene.blender_scripts.render_settings import set_cycles, set_picture
from randscene.blender_scripts.scene_builder import BuiltScene
from randscene.blender_scripts.scene_description import Viewpoint
from randscene.display import srgb_on_black
from randscene.errors import RenderError


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
        # The scene stays on the card between views: copying it takes longer than a view.
        set_picture(scene, "CYCLES", resolution=resolution, threads=threads, crop=False)
        set_cycles(scene, samples=samples, device=device)

    def render(self, built: BuiltScene, viewpoint: Viewpoint, *, layers: bool = False) -> Picture:
        """Render one view of a prepared scene; there are no layers.

        Raises
        ------
        RenderError
            With reason `render_failed`, or `bad_request` if layers are asked for.
        """
        if layers:
            raise RenderError("bad_request", "layers: on a graphics card cycles makes pictures only")
        resolution = built.scene.render.resolution_x
        window = built.aim(viewpoint)
        if window is None:
            empty = np.zeros((resolution, resolution, 4), np.uint8)
            return Picture(rgb=empty[..., :3], ids=empty[..., 3])
        passes = self._capture.render(built.scene, window.shape)
        combined, index = passes["Combined"], passes[self._index_pass][..., 0]
        return Picture(
            rgb=window.place(srgb_on_black(combined), resolution),
            ids=window.place(np.rint(index).astype(np.uint8), resolution),
        )
