"""What OpenGL draws with on this machine when there is no display. Imports no bpy."""

import json
import subprocess
import sys
from dataclasses import dataclass

from randscene.errors import RenderError

PROBE = (sys.executable, "-P", "-m", "randscene.blender_scripts.egl_probe")
PROBE_TIMEOUT_S = 60.0
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software")

_HINTS = {
    "library": "install it: apt-get install -y --no-install-recommends libegl1",
    "display": "no driver of EGL's opens a display: a container needs the graphics part of the driver "
    "(NVIDIA_DRIVER_CAPABILITIES=all) and its vendor file; where that lies in an unusual place, name it in "
    "__EGL_VENDOR_LIBRARY_FILENAMES (.../glvnd/egl_vendor.d/10_nvidia.json)",
    "context": "the driver offers no OpenGL 4.3, which EEVEE needs: update it, or install libgl1-mesa-dri to draw in "
    "software",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenGLRenderer:
    """Who draws."""

    name: str
    """E.g. `NVIDIA H200/PCIe/SSE2` or `llvmpipe (LLVM 15.0.6, 256 bits)`."""
    version: str

    @property
    def device(self) -> str:
        """`CPU` when OpenGL is emulated in software, otherwise `OPENGL`."""
        return "CPU" if any(word in self.name.lower() for word in _SOFTWARE) else "OPENGL"


def probe_opengl() -> OpenGLRenderer:
    """Ask in a process of its own, because Blender aborts where EGL is missing.

    Raises
    ------
    RenderError
        `engine_missing`, with what to install or to set.
    """
    try:
        result = subprocess.run(
            PROBE, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"EEVEE cannot be used here: EGL did not answer within {PROBE_TIMEOUT_S:g} s; look at the driver"
        raise RenderError("engine_missing", message) from error
    try:
        found = json.loads(result.stdout)
    except ValueError as error:
        how = f"the program that asked EGL for a context ended with status {result.returncode}"
        raise RenderError("engine_missing", f"EEVEE cannot be used here: {how}; look at the driver") from error
    if "missing" in found:
        message = f"EEVEE cannot be used here ({found['detail']}); {_HINTS[found['missing']]}"
        raise RenderError("engine_missing", message)
    return OpenGLRenderer(name=found["renderer"], version=found["version"])


def require_device(renderer: OpenGLRenderer, device: str) -> None:
    """Refuse a renderer that is not what was asked for.

    Raises
    ------
    RenderError
        `device_missing` if `device` is `OPENGL` and only software draws, or `CPU` and a card does.
    """
    if renderer.device == device:
        return
    if device == "OPENGL":
        hint = "run where a card and its EGL driver are visible, or set render.device to cpu (slow)"
        raise RenderError("device_missing", f"EEVEE finds no graphics card here, only {renderer.name}; {hint}")
    raise RenderError(
        "device_missing",
        f"EEVEE draws on {renderer.name} here and not on the processor; set render.device to gpu",
    )
