"""Checks of what is installed: Python, and the libraries of each extra, imported one by one."""

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from randscene.cli.checks.cards import nvidia_cards
from randscene.cli.checks.finding import Finding, Options, absent, ok, problem, warning
from randscene.cli.missing_extra import MODULES
from randscene.errors import first_line
from randscene.extras import install_command

OLDEST, NEWEST = (3, 11), (3, 13)
BLENDER_PYTHON = (3, 11)
"""The Python that Blender's module comes for."""

_MODULES = {distribution: module for module, distribution in MODULES.items()}
_TELLING = {"generate": ("bpy", "ray", "embreex"), "train": ("torch",)}
"""Distributions without which nobody has asked for an extra."""
_NOT_IMPORTED = ("bpy",)
"""Blender has a check of its own, in the process that renders."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)")


def python(options: Options) -> Finding:
    """The interpreter, and whether Blender's module comes for it."""
    version = sys.version_info[:2]
    found = f"{platform.python_version()} in {sys.prefix}"
    if not OLDEST <= version <= NEWEST:
        return problem(found, "use Python 3.11 (to generate), or 3.12 or 3.13 (to train): python3.11 -m venv .venv")
    if version != BLENDER_PYTHON:
        return warning(
            f"{found}; Blender comes for 3.11 alone, so cycles and eevee cannot render here",
            "to generate with Blender: python3.11 -m venv .venv; reading, training and scoring work as it is",
        )
    return ok(found, version=platform.python_version(), prefix=sys.prefix)


def core_libraries(options: Options) -> Finding:
    """What every installation needs, and that it is found from any folder."""
    finding = _libraries(None, install_command(again=True))
    if finding.status == "ok" and (hidden := _hidden_by_a_folder()):
        return hidden
    return finding


def _hidden_by_a_folder() -> Finding | None:
    """Whether Python finds randscene where a folder of that name lies; an editable install may come second to it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "randscene").mkdir()
        code = "import randscene; randscene.__version__"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode == 0:
        return None
    return problem(
        "from a folder that holds one called randscene, such as where the clone lies, that one is imported instead",
        "install it again, in the clone: pip install --no-deps -e .",
    )


def generate_libraries(options: Options) -> Finding:
    return _libraries("generate", install_command("generate"))


def train_libraries(options: Options) -> Finding:
    return _libraries("train", install_command("train"))


def optional_libraries(options: Options) -> Finding:
    """Extras that add something, named by what they add."""
    extras = {
        "remote": ("fsspec", "datasets on object stores"),
        "hub": ("huggingface_hub", "fetching public weights"),
    }
    if nvidia_cards():
        extras["flash"] = ("flash_attn.cute", "FlashAttention-4")
    here = {extra: _is_here(module) for extra, (module, _) in extras.items()}
    missing = [f"{extra} ({extras[extra][1]})" for extra, there in here.items() if not there]
    named = ", ".join(extra for extra, there in here.items() if there) or "none"
    if not missing:
        return ok(named, extras=here)
    wanted = ",".join(extra for extra, there in here.items() if not there)
    return absent(f"here: {named}; not here: {', '.join(missing)}", install_command(wanted), extras=here)


def _libraries(extra: str | None, cure: str) -> Finding:
    try:
        wanted = _requirements(extra)
    except importlib.metadata.PackageNotFoundError:
        return problem("randscene is imported from a folder, not installed", "pip install .")
    versions = {name: _version(name) for name, _ in wanted}
    telling = _TELLING.get(extra or "", ())
    if telling and not any(versions.get(name) for name in telling):
        return absent(f"not installed: {', '.join(telling)} and what goes with them", cure)
    broken = []
    for name, _ in wanted:
        if versions[name] and name not in _NOT_IMPORTED:
            print(f"importing {name}", file=sys.stderr, flush=True)  # noqa: T201 -- the last word, should this crash
            try:
                importlib.import_module(_module(name))
            except Exception as error:  # whatever a broken library raises is the finding
                broken.append(f"{name} {versions[name]} cannot be imported ({first_line(error)})")
    if broken:
        return problem("; ".join(broken), cure, versions=versions)
    missing = [name for name, version in versions.items() if version is None]
    odd = [
        f"{name} is {versions[name]}, not {bounds}" for name, bounds in wanted if _is_outside(versions[name], bounds)
    ]
    if missing or odd:
        said = [f"{', '.join(missing)} not installed"] if missing else []
        finding = "; ".join([*said, *odd])
        return (
            problem(finding, cure)
            if extra is None and missing
            else warning(finding, cure, versions=versions, missing=missing)
        )
    shown = {None: ("numpy", "pillow"), "generate": ("bpy", "ray", "embreex"), "train": ("torch", "transformers")}[
        extra
    ]
    named = ", ".join(f"{name} {versions[name]}" for name in shown if versions.get(name))
    return ok(f"{len(wanted)}: {named}, ...", versions=versions)


def _requirements(extra: str | None) -> list[tuple[str, str]]:
    """(distribution, version bounds) of what an extra asks for on this Python; None: what is always asked for."""
    found: dict[str, str] = {}
    for line in importlib.metadata.requires("randscene") or []:
        text, _, marker = line.partition(";")
        match = _REQUIREMENT.match(text.strip())
        mine = f'extra == "{extra}"' in marker if extra else "extra" not in marker
        python = re.search(r'python_version == "([0-9.]+)"', marker)
        here = python is None or python[1] == "{}.{}".format(*sys.version_info[:2])
        if match and mine and here:
            name = match[1].lower().replace("_", "-")
            found[name] = ",".join(filter(None, (found.get(name, ""), match[2].strip(" ()"))))
    return list(found.items())


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, distribution.replace("-", "_"))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _is_outside(version: str | None, bounds: str) -> bool:
    """Whether a version is outside the bounds; False where nothing here can tell."""
    try:
        specifiers: Any = importlib.import_module("packaging.specifiers")
    except ImportError:
        return False
    return bool(version and bounds) and not specifiers.SpecifierSet(bounds).contains(version, prereleases=True)
