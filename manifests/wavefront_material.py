"""Materials of Wavefront files (`.mtl`), understood as Blender understands them."""

from pathlib import Path

import numpy as np

from randscene.errors import AssetError
from randscene.manifests.gltf_header import resolve_inside
from randscene.manifests.mesh_part import Surface, plain_surface
from randscene.manifests.texture import TextureRules, open_picture, pixels

_OPTION_WORDS = {"-bm": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-texres": 1, "-blendu": 1, "-blendv": 1,
                 "-type": 1, "-mm": 2}  # fmt: skip
"""Options before the name of a picture, and how many words follow each."""
_TURNING = ("-o", "-s", "-t")
"""Options followed by one to three numbers."""


def read_materials(path: Path, libraries: list[str], wanted: set[str], rules: TextureRules) -> dict[str, Surface]:
    """The materials that an `.obj` uses, by name.

    A library that does not exist is passed over, and materials that are nowhere described are grey. Of the pictures,
    the base colour's is read (`map_Kd`); the others, where they exist, are Blender's alone.

    Parameters
    ----------
    path : Path
        The `.obj`.
    libraries : list of str
        Its `mtllib` names.
    wanted : set of str
        Names of the materials that it uses.
    rules : TextureRules

    Raises
    ------
    AssetError
        `unsafe_path` for a library or picture outside the folder, `missing_file` for a picture that does not exist, and
        those of `open_picture`.
    """
    surfaces: dict[str, Surface] = {}
    for library in libraries:
        try:
            target = resolve_inside(path.parent, library, quoted=False)
        except AssetError as error:
            if error.reason != "missing_file":
                raise
            continue
        for name, entries in _entries(target).items():
            if name in wanted:
                surfaces.setdefault(name, _surface(entries, path.parent, target.parent, rules))
    missing = plain_surface(roughness=1.0)
    return {name: surfaces.get(name, missing) for name in wanted if name}


def _entries(path: Path) -> dict[str, dict[str, list[str]]]:
    """Statements of each material, by lower-case keyword."""
    materials: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].lower() == "newmtl":
            current = materials.setdefault(" ".join(words[1:]), {})
        else:
            current.setdefault(words[0].lower(), words[1:])
    return materials


def _surface(entries: dict[str, list[str]], folder: Path, beside: Path, rules: TextureRules) -> Surface:
    lighting = _number(entries, "illum", 1)
    shininess = _number(entries, "ns", 1000.0 if lighting == 2 else 0.0)
    rough = _number(entries, "pr", 1 - (float(np.clip(shininess, 0, 1000)) / 1000) ** 0.5)
    mirror = sum(_color(entries, "ka", 1.0)) / 3 if lighting >= 3 else 0.0
    red, green, blue = _color(entries, "kd", 0.8)
    texture = None
    if "map_kd" in entries:
        name = _picture_name(entries["map_kd"])
        target = resolve_inside(folder, name, quoted=False, base=beside)
        texture = pixels(open_picture(target.read_bytes(), name, rules), name, rules)
        red = green = blue = 1.0  # a picture replaces the colour
    return plain_surface(
        (red, green, blue, float(np.clip(_number(entries, "d", 1.0), 0, 1))),
        texture=texture,
        roughness=float(np.clip(rough, 0, 1)),
        metallic=float(np.clip(_number(entries, "pm", mirror), 0, 1)),
        emissive=_color(entries, "ke", 0.0),
    )


def _number(entries: dict[str, list[str]], key: str, default: float) -> float:
    try:
        value = float(entries[key][0])
    except (KeyError, IndexError, ValueError):
        return default
    return value if np.isfinite(value) else default


def _color(entries: dict[str, list[str]], key: str, default: float) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(word) for word in entries[key][:3])
    except (KeyError, ValueError):
        return (default, default, default)
    if not np.isfinite((red, green, blue)).all():
        return (default, default, default)
    return (red, green, blue)


def _picture_name(words: list[str]) -> str:
    """The name at the end of a `map_` statement, options left out."""
    while words and words[0] in (*_OPTION_WORDS, *_TURNING):
        if words[0] in _TURNING:
            count = 0
            while count < 3 and count + 2 < len(words) and _is_number(words[count + 1]):
                count += 1
        else:
            count = _OPTION_WORDS[words[0]]
        words = words[count + 1 :]
    return " ".join(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
