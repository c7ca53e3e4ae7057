"""Plain data, as YAML gives it, read strictly as a frozen record: no unknown field, no wrong type."""

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from randscene.errors import SpecError
from randscene.settings_file import did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

_EXPONENT = re.compile(r"[+-]?[0-9]{1,15}e[+-]?[0-9]{1,2}", re.IGNORECASE)


class FieldError(ValueError):
    """A value that a settings record refuses; the message begins with the field's name."""


def require(condition: bool, message: str) -> None:
    """For a record's `__post_init__`; the message begins with the field's name."""
    if not condition:
        raise FieldError(message)


def record(cls: type[Record], data: object, at: tuple[str, ...], where: str) -> Record:
    """Plain data as a record: a dataclass whose fields are scalars, Literals, tuples, mappings or records.

    Parameters
    ----------
    cls : type
    data : object
    at : tuple of str
        Where in the file it stands, for messages.
    where : str
        The file.

    Raises
    ------
    SpecError
        Naming the file, the field and what is wrong with it.
    """
    if not isinstance(data, dict):
        place = f"{'.'.join(at)}: " if at else ""
        raise SpecError(f"{where}: {place}expected a mapping of settings, not {_kind(data)}")
    hints = get_type_hints(cls)
    known = {item.name: item for item in dataclasses.fields(cls)}
    for name in data:
        if name not in known:
            place, hint = ".".join((*at, str(name))), did_you_mean(str(name), known)
            raise SpecError(f"{where}: {place}: unknown setting; known are {', '.join(known)}{hint}")
    for name, item in known.items():
        needed = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if needed and name not in data:
            raise SpecError(f"{where}: {'.'.join((*at, name))}: missing")
    values = {name: _value(hints[name], value, (*at, name), where) for name, value in data.items()}
    try:
        return cls(**values)
    except FieldError as error:
        raise SpecError(f"{where}: {'.'.join((*at, str(error)))}") from error


def _value(hint: Any, value: object, at: tuple[str, ...], where: str) -> object:
    """`value` as type `hint`: a settings record, Literal, tuple or scalar."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return record(hint, value, at, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        wanted = "one of " + ", ".join(str(argument) for argument in arguments)
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_value(kind, part, at, where) for kind, part in zip(kinds, value))
        wanted = f"a list of {len(kinds)}"
    elif origin is dict and isinstance(value, dict):
        return {str(name): _value(arguments[1], part, (*at, str(name)), where) for name, part in value.items()}
    elif origin is dict:
        wanted = "a mapping"
    elif origin is tuple:
        wanted = "a list"
    elif hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)  # YAML 1.1 reads 1e-3, without a point, as text
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    else:
        wanted = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}[hint]
    raise SpecError(f"{where}: {'.'.join(at)}: expected {wanted}, not {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return repr(value)
