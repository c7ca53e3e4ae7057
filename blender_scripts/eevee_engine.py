"""EEVEE, Blender's rasteriser, on a graphics card without a display: settings, and one picture a view."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.compat import apply_settings, eevee_engine
from randscene.blender_scripts.cycles_engine import Picture
from randscene.blender_scripts.opengl import OpenGLRenderer, probe_opengl, require_device
from randscene.blender_scripts.render_settings import set_picture
from randscene.blender_scripts.scene_builder import BuiltScene
from randscene.blender_scripts.scene_description import Viewpoint
from randscene.display import srgb_on_black
from randscene.errors import RenderError


class EeveeEngine:
    """Renders built scenes by OpenGL. It has no object index: `Picture.ids` is None.

    Raises
    ------
    RenderError
        `engine_missing` where EGL gives no OpenGL context.
    """

    def __init__(self) -> None:
        self._renderer: OpenGLRenderer = probe_opengl()
        # The supervisor names a folder for temporary files that ends with this process.
        self._picture = Path(tempfile.mkdtemp(prefix="eevee-")) / "picture.exr"

    def prepare(self, scene: Any, *, resolution: int, samples: int, threads: int, device: str) -> None:
        """Apply every setting to a scene that has not been rendered yet.

        What a picture costs on a card is mostly pixels shaded, once a sample and light; so only the window that the
        scene can reach is drawn, and nothing is traced in screen space. Blender captures the world anew for each
        picture, in six squares of `probe_resolution`: at its default of 1024 that alone costs more than the picture.

        Raises
        ------
        RenderError
            `device_missing` if OpenGL draws on something else than `device`.
        """
        require_device(self._renderer, device)
        set_picture(scene, eevee_engine(), resolution=resolution, threads=threads, crop=True)
        apply_settings(scene.render, filter_size=1.5)
        apply_settings(
            scene.eevee,
            taa_render_samples=samples,
            use_shadows=True,
            shadow_ray_count=1,
            shadow_step_count=6,
            shadow_resolution_scale=1.0,
            shadow_pool_size="512",
            light_threshold=0.001,
            use_raytracing=False,
            use_fast_gi=False,
            use_overscan=False,
            use_volumetric_shadows=False,
        )
        apply_settings(scene.render.image_settings, file_format="OPEN_EXR", color_mode="RGBA", color_depth="16")
        apply_settings(scene.render.image_settings, exr_codec="NONE")
        # A uniform world needs few pixels, a photograph of one needs those that its reflections show.
        apply_settings(scene.world, probe_resolution="1024" if _has_picture(scene.world) else "128")
        for item in scene.collection.all_objects:
            if item.type == "LIGHT":
                apply_settings(item.data, use_shadow=True)
            for slot in item.material_slots:
                if slot.material is not None:
                    # The labels' rays, like Cycles, see both sides of every surface.
                    apply_settings(slot.material, use_backface_culling=False, use_backface_culling_shadow=False)

    def render(self, built: BuiltScene, viewpoint: Viewpoint, *, layers: bool = False) -> Picture:
        """Render one view of a prepared scene; it has no layers, whatever is asked.

        Raises
        ------
        RenderError
            With reason `render_failed`.
        """
        scene = built.scene
        resolution = scene.render.resolution_x
        window = built.aim(viewpoint)
        if window is None:
            return Picture(rgb=np.zeros((resolution, resolution, 3), np.uint8), ids=None)
        _fit_depth_range(built, viewpoint)
        try:
            bpy.ops.render.render(scene=scene.name)
        except RuntimeError as error:
            raise RenderError("render_failed", f"Blender could not render: {str(error).strip()}") from error
        combined = self._combined(scene)
        if combined.shape != (*window.shape, 4):
            raise RenderError(
                "render_failed", f"EEVEE drew {combined.shape} where {window.shape} pixels were asked for"
            )
        return Picture(rgb=window.place(srgb_on_black(combined), resolution), ids=None)

    def _combined(self, scene: Any) -> NDArray[Any]:
        """(rows, columns, 4) float32, linear, premultiplied, row 0 at the bottom.

        Without a window a render has no pixels that Python can see; only saving it works. An uncompressed file of half
        floats takes a few milliseconds there and back.
        """
        image = None
        try:
            bpy.data.images["Render Result"].save_render(str(self._picture), scene=scene)
            image = bpy.data.images.load(str(self._picture))
            width, height = image.size
            flat = np.empty(width * height * image.channels, np.float32)
            image.pixels.foreach_get(flat)
        except (RuntimeError, KeyError, OSError) as error:
            raise RenderError("render_failed", f"no picture came back: {str(error).strip()}") from error
        finally:
            if image is not None:
                bpy.data.images.remove(image)
            with contextlib.suppress(OSError):
                self._picture.unlink()
        return flat.reshape(height, width, -1)


def _fit_depth_range(built: BuiltScene, viewpoint: Viewpoint) -> None:
    """Bring the camera's clip planes close to the scene: a depth buffer is only so fine."""
    axis, position = -viewpoint.camera_to_world[:3, 2], viewpoint.camera_to_world[:3, 3]
    depth = (built.points - position) @ axis
    far = 1e5 if built.covers_picture(viewpoint) else 1.5 * max(float(depth.max()), 1e-2)
    near = min(max(0.5 * float(depth.min()), 1e-3), far / 2)
    apply_settings(built.camera.data, clip_start=near, clip_end=far)


def _has_picture(world: Any) -> bool:
    tree = world.node_tree
    return tree is not None and any(node.type == "TEX_ENVIRONMENT" for node in tree.nodes)
