"""Files of settings: YAML, named by a preset that comes with the package or by a path."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from randscene.errors import SpecError, first_line


def preset_names(presets: Path) -> list[str]:
    """Names of the presets in the folder `presets`, sorted."""
    return sorted(path.stem for path in presets.glob("*.yaml"))


def read_settings_file(name_or_path: str | Path, *, presets: Path, kind: str) -> object:
    """What a file of settings holds, not yet validated.

    Parameters
    ----------
    name_or_path : str or Path
        A preset's name; else the path of a YAML file.
    presets : Path
        Folder of the presets.
    kind : str
        What the file is called in messages, e.g. `spec`.

    Returns
    -------
    object
        Plain data: dicts, lists and scalars, or None for an empty file.

    Raises
    ------
    SpecError
        If there is no such preset or file, or it is no YAML.
    """
    preset = presets / f"{name_or_path}.yaml"
    path = preset if Path(name_or_path).name == str(name_or_path) and preset.is_file() else Path(name_or_path)
    try:
        data: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        known = ", ".join(preset_names(presets))
        hint = did_you_mean(str(name_or_path), preset_names(presets))
        raise SpecError(f"no preset or {kind} file called {name_or_path}: presets are {known}{hint}") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not readable as YAML: {yaml_fault(error)}") from error
    return data


def yaml_fault(error: Exception) -> str:
    """One line of what a reader of YAML says, with the place in the file where it knows that."""
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is None:
        return first_line(error)
    said = getattr(error, "problem", None) or "not understood"
    if context := getattr(error, "context", None):
        # What is left open began further up.
        since = f" of line {begun.line + 1}" if begun is not None and begun.line != mark.line else ""
        said = f"{said} {context}{since}"
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a name that does not exist: the known one that is most like it, if any is."""
    close = difflib.get_close_matches(word, [name for name in known if name != word], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def dotted_names(settings: dict[str, Any]) -> Iterator[str]:
    """Names of all fields of nested settings, each written `section.field`."""
    for name, value in settings.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in dotted_names(value))


def first_difference(held: dict[str, Any], asked: dict[str, Any]) -> str | None:
    """The first field in which nested settings differ, with both values, as the middle of a message; None if in none.

    Fields are compared in the order of `asked`, then those that only `held` has.
    """
    for name in (*asked, *(name for name in held if name not in asked)):
        mine, yours = held.get(name), asked.get(name)
        if isinstance(mine, dict) and isinstance(yours, dict):
            if inner := first_difference(mine, yours):
                return f"{name}.{inner}"
        elif mine != yours:
            return f"{name} is {_shown(mine)} there, {_shown(yours)} here"
    return None


def _shown(value: object) -> str:
    if value is None or isinstance(value, dict):
        return "nothing" if value is None else "something"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
