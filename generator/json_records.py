"""Frozen dataclasses read back from plain JSON: every field there, of its annotated type, and every number finite."""

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable
from typing import Any

Reader = Callable[[Any], Any]


@functools.cache
def record_reader(kind: Any) -> Reader:
    """What makes a value of a type of what `json.loads` gives.

    Parameters
    ----------
    kind : type
        A dataclass whose fields are of types that are taken here too, a tuple of those (`tuple[X, ...]` or of a fixed
        length), `X | None`, float, int or str.

    Returns
    -------
    callable
        Raises a ValueError that names the field where a value is not of its type.
    """
    parts = typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        readers = {field.name: record_reader(hints[field.name]) for field in dataclasses.fields(kind)}
        return functools.partial(_record, kind, readers)
    if typing.get_origin(kind) is tuple and parts[-1] is Ellipsis:
        return functools.partial(_list, record_reader(parts[0]))
    if typing.get_origin(kind) is tuple:
        return functools.partial(_row, [record_reader(part) for part in parts])
    if type(None) in parts:
        return functools.partial(_optional, record_reader(next(part for part in parts if part is not type(None))))
    return _float if kind is float else functools.partial(_plain, kind)


def _record(kind: type[Any], readers: dict[str, Reader], value: Any) -> Any:
    if not isinstance(value, dict) or value.keys() != readers.keys():
        raise ValueError(f"{_short(value)} has not the fields {', '.join(readers)}")
    found = {}
    for name, read in readers.items():
        try:
            found[name] = read(value[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return kind(**found)


def _list(read: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{_short(value)} is not a list")
    return tuple(map(read, value))


def _row(readers: list[Reader], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(readers):
        raise ValueError(f"{_short(value)} is not a list of {len(readers)}")
    return tuple(read(item) for read, item in zip(readers, value))


def _optional(read: Reader, value: Any) -> Any:
    return None if value is None else read(value)


def _float(value: Any) -> float | int:
    # A bool is a number in Python, not in JSON; and Python's JSON knows NaN and Infinity.
    if type(value) not in (float, int) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{_short(value)} is not a finite number")
    number: float | int = value
    return number


def _plain(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{_short(value)} is not of type {kind.__name__}")
    return value


def _short(value: Any) -> str:
    return repr(value)[:80]
