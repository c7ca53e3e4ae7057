"""Canonical JSON: the same value gives the same bytes on every machine.

Keys are sorted, separators carry no spaces, floats are printed as the shortest text that reads back as the
same double, and NaN or infinity is refused. Records that are hashed or compared byte for byte use this form.
"""

import dataclasses
import hashlib
import json
from typing import Any


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # One level at a time: the encoder comes back for what is inside, and `asdict` would copy every number.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def dumps(value: Any) -> str:
    """Canonical JSON text of `value` (dicts, lists, scalars, dataclasses, NumPy arrays).

    Raises
    ------
    ValueError
        If a float is NaN or infinite.
    TypeError
        If a value has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()
