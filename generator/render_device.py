"""Which device a spec's renderer runs on, settled before a build begins, and how many renderers share a card."""

from collections.abc import Iterable, Mapping

from randscene.errors import RenderError, SpecError
from randscene.generator.blender_process import BlenderProcess
from randscene.manifests.spec import DatasetSpec
from randscene.manifests.spec_sections import RenderSpec

PROCESSES_PER_GPU = {"eevee": 8, "cycles": 4}
"""Renderers that keep a graphics card busy, by engine; `docs/rendering.md` has what was measured."""

_RAY_GRAIN = 10_000
"""Ray counts resources in parts of so many."""


def protocol_device(render: RenderSpec) -> str:
    """What the renderer process calls the device of a spec; `gpu` of Cycles must be settled before."""
    if render.engine == "eevee":
        return "OPENGL" if render.device == "gpu" else "CPU"
    return render.device.upper()


def actor_options(render: RenderSpec, resources: Mapping[str, float]) -> tuple[dict[str, float], int]:
    """What Ray shall reserve for each renderer, and how many renderers there is room for.

    Ray shows an actor with a share of a card that card alone (`CUDA_VISIBLE_DEVICES`), and the renderer, its child,
    inherits that. OpenGL does not heed the variable: see `docs/rendering.md` for EEVEE on machines of several cards.

    Parameters
    ----------
    render : RenderSpec
    resources : mapping
        Of the whole cluster: `CPU`, `GPU`.

    Raises
    ------
    RenderError
        `device_missing` if a card is asked for and Ray knows of none.
    """
    cpus = int(resources.get("CPU", 0))
    # Where there are fewer processors than one renderer has threads, it takes them all: it must not wait for more.
    options: dict[str, float] = {"num_cpus": min(render.threads, cpus or render.threads)}
    room = max(1, cpus // render.threads)
    if render.device == "cpu":
        return options, room
    processes = render.processes_per_gpu or PROCESSES_PER_GPU[render.engine]
    cards = int(resources.get("GPU", 0))
    if not cards:
        hint = "start its nodes with: ray start --num-gpus=N"
        raise RenderError("device_missing", f"render.device is {render.device}, but Ray knows of no GPU; {hint}")
    options["num_gpus"] = _RAY_GRAIN // processes / _RAY_GRAIN
    return options, min(room, cards * processes)


def settle_device(spec: DatasetSpec, *, cluster: bool) -> DatasetSpec:
    """The spec with `gpu` replaced by the kind that Cycles would use on this machine.

    Starts Blender once when the spec asks for a card on this machine, so that a missing one is refused before anything
    is written. EEVEE's `gpu` has no kinds; whether there is a card is checked by the renderer itself.

    Parameters
    ----------
    spec : DatasetSpec
    cluster : bool
        Whether the work runs on other machines than this one.

    Raises
    ------
    RenderError
        `device_missing` if this machine has no such device.
    SpecError
        If the work runs elsewhere and the kind is not named.
    """
    render = spec.render
    if render.engine != "cycles" or render.device == "cpu":
        return spec
    if cluster:
        if render.device == "gpu":
            raise SpecError("render.device: gpu is settled on this machine; on a cluster name the kind, e.g. cuda")
        return spec
    with BlenderProcess() as blender:
        devices = blender.hello.devices
    kind = best_kind(devices) if render.device == "gpu" else render.device
    if kind is None or all(device["type"] != kind.upper() for device in devices):
        asked = "graphics card that Cycles can use" if render.device == "gpu" else f"{render.device.upper()} device"
        has = ", ".join(f"{device['type']} ({device['name']})" for device in devices)
        raise RenderError("device_missing", f"render.device: this machine has no {asked}; it has {has}")
    return spec.model_copy(update={"render": render.model_copy(update={"device": kind})})


def best_kind(devices: Iterable[Mapping[str, str]]) -> str | None:
    """The kind of card to prefer, in lower case, or None when there is only a processor.

    OPTIX is CUDA plus the ray tracing hardware of the card; without such hardware it gains nothing.
    """
    found = list(devices)
    if any(device["type"] == "OPTIX" and device.get("ray_tracing") == "yes" for device in found):
        return "optix"
    for kind in ("CUDA", "HIP", "ONEAPI", "METAL"):
        if any(device["type"] == kind for device in found):
            return kind.lower()
    return None
