"""Checks of the renderers: each makes one sample of a small scene the way a build does, labels and voxels included."""

import dataclasses
import importlib.util
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from randscene.cli.checks.cards import nvidia_cards
from randscene.cli.checks.finding import Finding, Options, absent, failed, ok, warning
from randscene.errors import RenderError
from randscene.extras import install_command

if TYPE_CHECKING:
    from randscene.shards.view_sample import ViewSample

ASSETS, OBJECTS, RESOLUTION = 6, 3, 128
FRAME_TIMEOUT_S = 120
SCENE = (
    f"render.resolution={RESOLUTION}",
    f"layout.objects=[{OBJECTS}, {OBJECTS}]",
    "cameras.views=8",
    "assets.held_out_fraction=0",
    "splits.val.held_out_assets=false",
    "latents.encoder=null",
    f"render.view_timeout_s={FRAME_TIMEOUT_S}",
)
DARK = 8.0
"""Mean of the pixels on objects, of 255, below which a picture is taken to be black."""

_HOPPER = "compile it once, nine minutes without a card: docs/rendering.md, Kernels for Hopper"


def blender(options: Options) -> Finding:
    """Start a renderer, and let it say what it can render on."""
    from randscene.generator.blender_process import BlenderProcess

    if importlib.util.find_spec("bpy") is None:
        if sys.version_info[:2] != (3, 11):
            return absent("Blender's module comes for Python 3.11 alone", "python3.11 -m venv .venv")
        return absent("bpy is not installed", install_command("generate"))
    begun = time.monotonic()
    try:
        with BlenderProcess() as process:
            hello = process.hello
    except RenderError as error:
        return _refused(error, optional=False)
    devices = [dict(device) for device in hello.devices]
    named = ", ".join(f"{device['type']} ({device['name']})" for device in devices)
    return ok(f"{hello.bpy}: {named}", seconds=time.monotonic() - begun, devices=devices, version=hello.bpy)


def ray_caster(options: Options) -> Finding:
    """Embree, which makes every label, and pictures without Blender."""
    return _frame(options, "raycast", "cpu", optional=False)


def cycles_on_processor(options: Options) -> Finding:
    return _frame(options, "cycles", "cpu", optional=False)


def cycles_on_card(options: Options) -> Finding:
    """One kind of card; one for which Blender has no kernels is not tried, since that takes longer than a time-out."""
    if options.device == "CUDA":
        lacking = [card for card in nvidia_cards() if not has_kernel(card.capability, _kernels())]
        if lacking:
            number = lacking[0].capability.replace(".", "")
            return warning(f"Blender has no kernels for {lacking[0].name} (sm_{number}); not tried", _HOPPER)
    return _frame(options, "cycles", options.device.lower(), optional=True)


def eevee(options: Options) -> Finding:
    """EEVEE without a display, on whatever EGL draws with."""
    from randscene.blender_scripts.opengl import probe_opengl

    cards = nvidia_cards()
    try:
        renderer = probe_opengl()
    except RenderError as error:
        found, _, cure = str(error).partition("; ")
        return warning(found, cure) if cards else absent(found, cure)
    software = renderer.device == "CPU"
    if software and cards:
        return warning(
            f"EGL draws in software ({renderer.name}) though there is {cards[0].name}",
            "make the driver's vendor file visible: NVIDIA_DRIVER_CAPABILITIES=all, or "
            "__EGL_VENDOR_LIBRARY_FILENAMES=.../glvnd/egl_vendor.d/10_nvidia.json",
        )
    named = f"{renderer.name.partition(' (')[0]}{' (software, slow)' if software else ''}"
    if options.quick:
        return ok(named, renderer=renderer.name)
    finding = _frame(options, "eevee", "cpu" if software else "gpu", optional=True)
    if finding.status == "ok":
        finding = dataclasses.replace(finding, found=f"{finding.found} on {named}")
    return finding


def has_kernel(capability: str, kernels: set[int]) -> bool:
    """Whether kernels, by the two digits of their name, hold code for a card: that of its generation, not a newer."""
    major, minor = map(int, capability.split("."))
    return any(kernel // 10 == major and kernel % 10 <= minor for kernel in kernels)


def _kernels() -> set[int]:
    spec = importlib.util.find_spec("bpy")
    roots = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    names = [
        path.name for root in roots for path in root.glob("*/scripts/addons_core/cycles/lib/kernel_sm_*.cubin.zst")
    ]
    return {int(match[1]) for name in names if (match := re.match(r"kernel_sm_(\d+)\.", name))}


def _frame(options: Options, engine: str, device: str, *, optional: bool) -> Finding:
    """Make one sample, and look at it."""
    from randscene.generator.planning import PlanContext, plan_scene
    from randscene.generator.scene_maker import SceneFailedError, SceneMaker
    from randscene.manifests import build_lock, load_lock, load_spec, usable, with_overrides

    path = Path(options.work) / "assets.lock.jsonl"
    if not path.exists():
        build_lock("procedural", count=ASSETS, out=path, workers=1)
    lock = usable(load_lock(path))
    spec = with_overrides(load_spec("demo"), [*SCENE, f"render.engine={engine}", f"render.device={device}"])
    recipe = plan_scene(PlanContext.of(spec, lock), 0, 0)
    maker = SceneMaker(spec, {record.uid: record for record in lock}, "0" * 64)
    begun = time.monotonic()
    try:
        sample = next(maker.make(recipe, most_views=1).samples)
    except RenderError as error:
        return _refused(error, optional=optional)
    except SceneFailedError as error:
        return failed(f"{error.reason}: {error}", "see docs/rendering.md, What can go wrong", optional=optional)
    finally:
        maker.close()
    seconds = time.monotonic() - begun
    fault = fault_of(sample)
    if fault:
        return failed(fault, "update the card's driver, or render on another device", optional=optional)
    return ok(f"one view of {OBJECTS} objects at {RESOLUTION} px", seconds=seconds)


def fault_of(sample: "ViewSample") -> str:
    """What is wrong with the sample of the small scene; empty if nothing."""
    seen = int(sample.ids.max())
    if sample.n_instances != OBJECTS or seen != OBJECTS:
        return f"the picture shows {seen} of {OBJECTS} objects"
    light = float(sample.rgb[sample.ids > 0].mean())
    if light < DARK:
        return f"the picture is black (mean {light:.1f} of 255 on the objects)"
    return "" if len(sample.coords) else "the scene has no voxels"


def _refused(error: RenderError, *, optional: bool) -> Finding:
    found, _, cure = str(error).partition("; ")
    words = last_words(error.log_tail)
    if error.reason in ("worker_died", "timeout") and words:
        found = f"{found}: {words}"
    if error.reason in ("device_missing", "engine_missing"):
        return absent(found, cure)
    return failed(found, cure or "see docs/troubleshooting.md, A renderer that dies", optional=optional)


def last_words(log: str) -> str:
    """The last line that a renderer wrote itself, before Python's own report of a fault; empty if there is none."""
    lines = log.strip().splitlines()
    fault = next((place for place, line in enumerate(lines) if line.startswith("Fatal Python error")), len(lines))
    return lines[fault - 1][:160] if fault else ""
