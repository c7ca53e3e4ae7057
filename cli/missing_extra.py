"""Turn the failed import of a library that an extra brings into the line that says which extra."""

import importlib.metadata
import re
import traceback

from randscene.extras import EXTRAS, install_command

MODULES = {
    "DracoPy": "dracopy",
    "PIL": "pillow",
    "fcl": "python-fcl",
    "google": "protobuf",
    "huggingface_hub": "huggingface-hub",
    "license_expression": "license-expression",
    "mapbox_earcut": "mapbox-earcut",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""Modules that are called otherwise than the distribution that brings them."""


def missing_extra(error: ImportError) -> str | None:
    """One line for people, or None where the import failed for another reason than a library that is not installed.

    A library that two extras bring is asked for by the one whose code wanted it.
    """
    module = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module in ("", "randscene"):
        return None
    extras = [extra for extra in EXTRAS if MODULES.get(module, module.lower()) in _libraries(extra)]
    if not extras:
        return f"the library {module} is missing; reinstall: {install_command(again=True)}"
    training = any(
        "train" in frame.filename.replace("\\", "/").split("/") for frame in traceback.extract_tb(error.__traceback__)
    )
    extra = "train" if training and "train" in extras else extras[0]
    return f"this needs {module}, which is not installed; install it with: {install_command(extra)}"


def _libraries(extra: str) -> set[str]:
    """Distributions that an extra asks for, by their normal names."""
    try:
        lines = importlib.metadata.requires("randscene") or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    mine = [line for line in lines if f'extra == "{extra}"' in line]
    return {re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0].lower().replace("_", "-") for line in mine}
