"""Intel Open Image Denoise, called in the copy that comes with Blender. Imports no bpy."""

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import RenderError

LIBRARY = "libOpenImageDenoise.so.2"

_CPU = 1
_FLOAT3 = 3
_QUALITIES = {"fast": 4, "balanced": 5, "high": 6}


class Denoiser:
    """The ray tracing filter `RT` of Open Image Denoise 2, on the processor.

    Blender runs the same filter inside a render, but only on the finished colours; here it is wanted on illumination.
    The same input gives the same bits, whatever the number of threads.

    Parameters
    ----------
    threads : int

    Raises
    ------
    RenderError
        `denoiser_missing` if the library cannot be loaded.
    """

    def __init__(self, threads: int) -> None:
        self._library = _load()
        self._device = self._library.oidnNewDevice(_CPU)
        self._library.oidnSetDeviceInt(self._device, b"numThreads", threads)
        # Several renderers share a machine: none may claim the first cores for itself.
        self._library.oidnSetDeviceInt(self._device, b"setAffinity", 0)
        self._library.oidnCommitDevice(self._device)
        self._check()

    def close(self) -> None:
        """Give the device's memory back."""
        if self._device is not None:
            self._library.oidnReleaseDevice(self._device)
            self._device = None

    def denoise(self, color: NDArray[Any], normal: NDArray[Any], quality: str) -> NDArray[Any]:
        """Filter a picture.

        Parameters
        ----------
        color : (H, W, 3) float32
            Linear, of any brightness.
        normal : (H, W, 3) float32
            As noisy as the colour.
        quality : str
            `fast`, `balanced` or `high`.

        Returns
        -------
        (H, W, 3) float32

        Raises
        ------
        RenderError
            `denoiser_failed` with the library's own words.
        """
        height, width = color.shape[:2]
        out = np.empty((height, width, 3), np.float32)
        # The filter takes a normal only together with an albedo; the colour has been divided by its own already.
        images = {
            b"color": np.ascontiguousarray(color, np.float32),
            b"albedo": np.ones((height, width, 3), np.float32),
            b"normal": np.ascontiguousarray(normal, np.float32),
            b"output": out,
        }
        task = self._library.oidnNewFilter(self._device, b"RT")
        try:
            for name, image in images.items():
                self._library.oidnSetSharedFilterImage(
                    task, name, image.ctypes.data, _FLOAT3, width, height, 0, 12, 12 * width
                )
            self._library.oidnSetFilterBool(task, b"hdr", True)
            self._library.oidnSetFilterInt(task, b"quality", _QUALITIES[quality])
            self._library.oidnCommitFilter(task)
            self._library.oidnExecuteFilter(task)
        finally:
            self._library.oidnReleaseFilter(task)
        self._check()
        return out

    def _check(self) -> None:
        message = ctypes.c_char_p()
        if self._library.oidnGetDeviceError(self._device, ctypes.byref(message)):
            raise RenderError("denoiser_failed", f"the denoiser: {(message.value or b'').decode(errors='replace')}")


def _load() -> Any:
    found = importlib.util.find_spec("bpy")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    for folder in folders:
        path = Path(folder) / "lib" / LIBRARY
        if path.exists():
            try:
                return _declared(ctypes.CDLL(str(path)))
            except OSError as error:
                raise RenderError("denoiser_missing", f"Blender's denoiser cannot be loaded: {error}") from error
    raise RenderError("denoiser_missing", f"Blender came without its denoiser, lib/{LIBRARY}: reinstall bpy")


def _declared(library: Any) -> Any:
    handle, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "oidnNewDevice": (handle, [number]),
        "oidnSetDeviceInt": (None, [handle, text, number]),
        "oidnCommitDevice": (None, [handle]),
        "oidnReleaseDevice": (None, [handle]),
        "oidnGetDeviceError": (number, [handle, ctypes.POINTER(text)]),
        "oidnNewFilter": (handle, [handle, text]),
        "oidnSetSharedFilterImage": (None, [handle, text, handle, number, size, size, size, size, size]),
        "oidnSetFilterBool": (None, [handle, text, ctypes.c_bool]),
        "oidnSetFilterInt": (None, [handle, text, number]),
        "oidnCommitFilter": (None, [handle]),
        "oidnExecuteFilter": (None, [handle]),
        "oidnReleaseFilter": (None, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
