"""Take the passes of a Cycles render from memory."""

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.errors import RenderError


class MemoryCapture:
    """Reads render passes straight after Cycles has made them, without a file between.

    The bundled Cycles add-on is a Python class, and its `render` method is wrapped: once the original returns, the
    engine's result still holds every pass. (`Render Result` itself has no pixels without a window.)

    Parameters
    ----------
    passes : sequence of str
        Names of the passes to take.
    """

    def __init__(self, passes: Sequence[str]) -> None:
        self._wanted = tuple(passes)
        self._taken: dict[str, NDArray[Any]] = {}
        self._failure: Exception | None = None
        engine: Any = bpy.types.RenderEngine.bl_rna_get_subclass_py("CYCLES")
        original = engine.render

        def render_and_take(this: Any, depsgraph: Any) -> None:
            original(this, depsgraph)
            # Blender prints an exception raised in here and goes on, so it is kept for the caller.
            try:
                self._take(this.get_result())
            except Exception as error:
                self._failure = error

        engine.render = render_and_take

    def render(self, scene: Any, shape: tuple[int, int]) -> dict[str, NDArray[Any]]:
        """Render a scene (Cycles must be its engine).

        Parameters
        ----------
        scene : bpy.types.Scene
        shape : (int, int)
            Rows and columns that must come back.

        Returns
        -------
        dict
            Pass name to (rows, columns, channels) float32, row 0 at the bottom; only the render border, if one is set.

        Raises
        ------
        RenderError
            With reason `render_failed` if Blender reports an error, a pass is missing or of another shape.
        """
        self._taken, self._failure = {}, None
        try:
            bpy.ops.render.render(scene=scene.name)
        except RuntimeError as error:
            raise RenderError("render_failed", f"Blender could not render: {str(error).strip()}") from error
        if self._failure is not None:
            raise RenderError("render_failed", f"no passes came back: {self._failure}") from self._failure
        missing = [name for name in self._wanted if name not in self._taken]
        if missing:
            raise RenderError("render_failed", f"the render has no pass {missing[0]}")
        for name, values in self._taken.items():
            if values.shape[:2] != shape:
                raise RenderError("render_failed", f"{name} has {values.shape[:2]} pixels, not the {shape} asked for")
        return self._taken

    def _take(self, result: Any) -> None:
        width, height = result.resolution_x, result.resolution_y
        for layer_pass in result.layers[0].passes:
            if layer_pass.name in self._wanted:
                flat = np.empty(width * height * layer_pass.channels, np.float32)
                layer_pass.rect.foreach_get(flat)
                self._taken[layer_pass.name] = flat.reshape(height, width, layer_pass.channels)
