"""Blender's settings that engines share."""

from typing import Any

from randscene.blender_scripts.compat import apply_settings
from randscene.blender_scripts.devices import use_device
from randscene.gltf_scene import BLEND_CUTOFF


def set_picture(scene: Any, engine: str, *, resolution: int, threads: int, crop: bool) -> None:
    """A square picture on a transparent film, nothing after the engine, what it keeps of a scene kept between views.

    Parameters
    ----------
    scene : bpy.types.Scene
    engine : str
        Blender's name of it.
    resolution : int
        Side of the picture, pixels.
    threads : int
    crop : bool
        Whether the result holds the window alone.
    """
    apply_settings(
        scene.render,
        engine=engine,
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
        use_crop_to_border=crop,
    )


def set_cycles(scene: Any, *, samples: int, device: str) -> None:
    """Light paths, samples and labels of Cycles; denoising is left to others.

    Bounces are TRELLIS's (`dataset_toolkits/blender_script/render.py::init_render`).

    Parameters
    ----------
    scene : bpy.types.Scene
    samples : int
        Paths a pixel.
    device : str
        See `devices.use_device`.

    Raises
    ------
    RenderError
        `device_missing` if Cycles cannot render on the device here.
    """
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
        # Behind as many holes of leaf cards as this a ray would end in black, and without an index.
        transparent_max_bounces=64,
        transmission_bounces=3,
        use_auto_tile=False,
    )
    use_device(scene, device)
    # The index is that of the first surface of at least this alpha: cut-outs have holes, glass is its object.
    apply_settings(scene.view_layers[0], use_pass_object_index=True, pass_alpha_threshold=BLEND_CUTOFF)
