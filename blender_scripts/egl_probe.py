"""Ask EGL for an OpenGL context as Blender does without a display, and print what draws there: one JSON object.

A program of its own, since a missing or broken driver can end the process that asks. Imports no bpy.
"""

import ctypes
import json
import sys

_EGL_OPENGL_API = 0x30A2
_EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT, _EGL_NONE = 0x3040, 0x0008, 0x3038
_EGL_CONTEXT_MAJOR_VERSION, _EGL_CONTEXT_MINOR_VERSION = 0x3098, 0x30FB
_EGL_PLATFORM_SURFACELESS_MESA = 0x31DD
_GL_VENDOR, _GL_RENDERER, _GL_VERSION = 0x1F00, 0x1F01, 0x1F02

VERSION = (4, 3)
"""OpenGL that EEVEE needs."""


def main() -> None:
    """Print `{"vendor", "renderer", "version"}`, or `{"missing": "library" | "display" | "context", "detail"}`."""
    json.dump(_probe(), sys.stdout)


def _probe() -> dict[str, str]:
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        return {"missing": "library", "detail": str(error)}
    address = ctypes.c_void_p
    egl.eglGetProcAddress.restype = address
    for function in (egl.eglGetDisplay, egl.eglCreateContext):
        function.restype = address
    display = address(egl.eglGetDisplay(None))
    if not egl.eglInitialize(display, None, None):
        create = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
        if not create:
            return {"missing": "display", "detail": _error(egl)}
        get_display = ctypes.CFUNCTYPE(address, ctypes.c_uint, address, address)(create)
        display = address(get_display(_EGL_PLATFORM_SURFACELESS_MESA, None, None))
        if not egl.eglInitialize(display, None, None):
            return {"missing": "display", "detail": _error(egl)}
    config, count = address(), ctypes.c_int()
    wanted = (ctypes.c_int * 3)(_EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT, _EGL_NONE)
    egl.eglBindAPI(_EGL_OPENGL_API)
    egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count))
    version = (ctypes.c_int * 5)(
        _EGL_CONTEXT_MAJOR_VERSION, VERSION[0], _EGL_CONTEXT_MINOR_VERSION, VERSION[1], _EGL_NONE
    )
    context = address(egl.eglCreateContext(display, config, None, version))
    if not context or not egl.eglMakeCurrent(display, None, None, context):
        return {"missing": "context", "detail": _error(egl)}
    get_string = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(egl.eglGetProcAddress(b"glGetString"))
    names = {"vendor": _GL_VENDOR, "renderer": _GL_RENDERER, "version": _GL_VERSION}
    return {name: (get_string(number) or b"").decode(errors="replace") for name, number in names.items()}


def _error(egl: ctypes.CDLL) -> str:
    return f"EGL error 0x{egl.eglGetError():04X}"


if __name__ == "__main__":
    main()
