"""What Cycles can render on here, and how a scene is told to use it."""

from typing import Any

import bpy

from randscene.blender_scripts.protocol import ENGINE_DEVICES
from randscene.errors import RenderError

CYCLES_KINDS = ENGINE_DEVICES["cycles"]


def cycles_devices() -> tuple[dict[str, str], ...]:
    """`{"type", "name", "ray_tracing"}` of each device of each kind that Cycles finds here, processors first.

    A card of NVIDIA's appears as CUDA and, where the driver brings the library, as OPTIX. `ray_tracing` is `yes` where
    a card has hardware for it and this kind uses it.
    """
    return tuple(
        {"type": kind, "name": name, "ray_tracing": "yes" if rays else "no"}
        for kind in CYCLES_KINDS
        for name, rays in _devices(kind)
    )


def use_device(scene: Any, kind: str) -> None:
    """Let a scene render on every visible device of one kind and on nothing else.

    Cycles takes a card only when the add-on's preferences name its kind and switch it on; otherwise it renders on the
    processor without a word. So everything is set here, read back and compared.

    Parameters
    ----------
    scene : bpy.types.Scene
    kind : str
        One of `CYCLES_KINDS`.

    Raises
    ------
    RenderError
        `device_missing` if this machine has no such device, or Cycles does not take it.
    """
    if not _devices(kind):
        raise RenderError("device_missing", f"Cycles finds no {kind} device on this machine, {_in_words()}")
    if kind == "CPU":
        scene.cycles.device = "CPU"
        return
    preferences = bpy.context.preferences.addons["cycles"].preferences
    preferences.compute_device_type = kind
    preferences.refresh_devices()
    for entry in preferences.devices:
        # With the processor switched on as well, Cycles would share each picture between the two.
        entry.use = entry.type == kind
    scene.cycles.device = "GPU"
    active = [entry for entry in preferences.devices if entry.use]
    taken = preferences.compute_device_type == kind and scene.cycles.device == "GPU" and preferences.has_active_device()
    if not taken or not active or any(entry.type != kind for entry in active):
        raise RenderError("device_missing", f"Cycles does not take the {kind} device on this machine, {_in_words()}")


def _in_words() -> str:
    return "which has " + ", ".join(f"{device['type']} ({device['name']})" for device in cycles_devices())


def _devices(kind: str) -> list[tuple[str, bool]]:
    """(name, whether it has hardware for ray tracing) of each device of a kind."""
    import _cycles

    # Whatever kind is asked for, the processor is listed as well.
    found = _cycles.available_devices(kind)
    return [(str(name), bool(hardware)) for name, its_kind, _, _, hardware, *_ in found if its_kind == kind]
