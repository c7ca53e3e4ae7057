"""Render views of a scene in one process with settings as people use them, straight with bpy.

    python benchmarks/plain_render.py JOB.json

The job names a recipe, the files of its assets, views, a folder, and `settings`: `trellis` (128 samples, adaptive
threshold 0.01, Blackman-Harris filter, accurate prefiltered denoising, nothing kept between views, the whole picture:
what TRELLIS's `dataset_toolkits/blender_script/render.py` ends up with) or `reference` (2,048 samples, box filter, no
denoising). Each view is written as `VIEW.npy`, (R, R, 4) float32 linear premultiplied, row 0 at the top, and one line
of JSON on standard output says how many processor seconds it took.
"""

import json
import os
import sys
import time
from pathlib import Path

from randscene.blender_scripts import process_setup

with process_setup.visible_processors(1):
    import bpy  # noqa: F401

import numpy as np

from randscene.blender_scripts.capture import MemoryCapture
from randscene.blender_scripts.compat import apply_settings
from randscene.blender_scripts.scene_builder import SceneBuilder
from randscene.blender_scripts.scene_description import scene_description

BOUNCES = {"diffuse_bounces": 1, "glossy_bounces": 1, "transparent_max_bounces": 3, "transmission_bounces": 3}

SETTINGS = {
    "trellis": dict(
        samples=128,
        use_adaptive_sampling=True,
        adaptive_threshold=0.01,
        use_denoising=True,
        denoiser="OPENIMAGEDENOISE",
        denoising_input_passes="RGB_ALBEDO_NORMAL",
        denoising_prefilter="ACCURATE",
        denoising_quality="HIGH",
        pixel_filter_type="BLACKMAN_HARRIS",
        filter_width=1.0,
    ),
    "reference": dict(samples=2048, use_adaptive_sampling=False, use_denoising=False, pixel_filter_type="BOX"),
}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    # Blender prints its progress to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    description = scene_description(job["recipe"])
    built = SceneBuilder().build(description, job["paths"], {}, {})
    scene, resolution, reference = built.scene, job["resolution"], job["settings"] == "reference"
    apply_settings(
        scene.render,
        engine="CYCLES",
        resolution_x=resolution,
        resolution_y=resolution,
        resolution_percentage=100,
        film_transparent=True,
        threads_mode="FIXED",
        threads=1,
        use_persistent_data=reference,
    )
    apply_settings(scene.cycles, device="CPU", seed=0, **BOUNCES, **SETTINGS[job["settings"]])
    capture = MemoryCapture(["Combined"])
    for view in job["views"]:
        viewpoint = description.viewpoints[view]
        window = built.aim(viewpoint)
        assert window is not None
        rows, columns = slice(window.bottom, window.top), slice(window.left, window.right)
        if not reference:
            scene.render.use_border = False
            rows = columns = slice(0, resolution)
        shape = rows.stop - rows.start, columns.stop - columns.start
        begun = time.process_time()
        combined = capture.render(scene, shape)["Combined"]
        seconds = time.process_time() - begun
        picture = np.zeros((resolution, resolution, 4), np.float32)
        picture[rows, columns] = combined
        np.save(Path(job["out"]) / f"{view}.npy", picture[::-1])
        print(json.dumps({"view": view, "cpu_seconds": seconds}), file=answers, flush=True)
    process_setup.exit_now(0)


if __name__ == "__main__":
    main()
