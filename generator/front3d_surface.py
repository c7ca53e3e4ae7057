"""MIDI's point clouds: a pickled dict in a `.npy` file, read without unpickling anything.

`numpy.load(allow_pickle=True)` runs whatever a file tells it to. Here the pickle's instructions are read one by one
(`pickletools.genops`), and only those are obeyed that numpy itself writes for a dict of arrays of numbers. What numpy
would build is kept as plain values and checked before an array is made of it: no function that a file names is called.
"""

import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError

MAX_BYTES = 1 << 28
"""Most bytes of a file; half a million points with normals take 24 MB."""
FIELDS = ("surface_points", "surface_normals")

_HEAD = re.compile(rb"\x93NUMPY([\1-\3])\0")
_ONE_OBJECT = re.compile(rb"\{'descr': '\|?O', 'fortran_order': (?:False|True), 'shape': \(\), \} *\n")
_LONGEST_HEADER = 1024
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_NDARRAY, _DTYPE = "numpy ndarray", "numpy dtype"
_ADMITTED = frozenset({*_RECONSTRUCT, _NDARRAY, _DTYPE})
"""All that may be named: what numpy 1 and numpy 2 name for an array."""
_NUMBERS = ("f2", "f4", "f8")
_VALUES = frozenset(
    {
        "BINFLOAT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    }
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceCloud:
    """Points on the surface of one object, in the axes and units of its mesh file."""

    points: NDArray[Any]
    """(P, 3) float64."""
    normals: NDArray[Any]
    """(P, 3) float64."""


@dataclass(frozen=True)
class _Name:
    """A name in the pickle; nothing is looked up or imported."""

    text: str


class _Built:
    """An array or a dtype as the pickle describes it: its arguments, and the state given afterwards."""

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind = kind
        self.arguments = arguments
        self.state: tuple[Any, ...] | None = None


class _Refused(Exception):
    """The file is not what numpy writes for such a dict; reason and message."""


def read_surface(path: Path) -> SurfaceCloud:
    """The point cloud in a `.npy` file, as `numpy.save` writes `{"surface_points": ..., "surface_normals": ...}`.

    Raises
    ------
    AssetError
        `missing_file`, `too_large`, `unsafe_pickle` (the file names or asks for something else than numpy's arrays; the
        message says what), `bad_surface` (no such dict, or its arrays are not (P, 3) finite numbers).
    """
    try:
        with open(path, "rb") as handle:
            if handle.seek(0, 2) > MAX_BYTES:
                raise AssetError("too_large", f"{path.name}: is larger than {MAX_BYTES >> 20} MiB")
            handle.seek(0)
            content = _content(handle)
        points, normals = (_array(content, field) for field in FIELDS)
    except FileNotFoundError as error:
        raise AssetError("missing_file", f"{path.name}: no such file") from error
    except _Refused as error:
        raise AssetError(error.args[0], f"{path.name}: {error.args[1]}") from error
    if points.shape != normals.shape:
        raise AssetError("bad_surface", f"{path.name}: has {len(points)} points and {len(normals)} normals")
    return SurfaceCloud(points=points, normals=normals)


def _content(handle: BinaryIO) -> dict[Any, Any]:
    """The dict inside the one object of the file."""
    start = _HEAD.fullmatch(handle.read(8))
    if start is None:
        raise _Refused("bad_surface", "is not a .npy file")
    width = 2 if start[1] == b"\1" else 4
    header = handle.read(min(int.from_bytes(handle.read(width), "little"), _LONGEST_HEADER))
    # Compared as text: numpy evaluates it.
    if not _ONE_OBJECT.fullmatch(header):
        raise _Refused("bad_surface", "does not hold one Python object")
    outer = _run(handle.read())
    if not isinstance(outer, _Built) or outer.kind != "array" or outer.state is None or len(outer.state) != 5:
        raise _Refused("bad_surface", "does not hold an array")
    inner = outer.state[4]
    if not (isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict)):
        raise _Refused("bad_surface", "does not hold one dict")
    content: dict[Any, Any] = inner[0]
    return content


def _array(content: dict[Any, Any], field: str) -> NDArray[Any]:
    """(P, 3) float64 of one entry."""
    built = content.get(field)
    if not isinstance(built, _Built) or built.kind != "array" or built.state is None or len(built.state) != 5:
        raise _Refused("bad_surface", f"has no array {field}")
    _, shape, dtype, fortran, data = built.state
    kind, order = _number(dtype)
    whole = isinstance(shape, tuple) and len(shape) == 2 and all(type(side) is int and side >= 0 for side in shape)
    if not (whole and shape[1] == 3 and kind in _NUMBERS and isinstance(data, bytes)):
        raise _Refused("bad_surface", f"{field} is not an array of points (P, 3) of numbers")
    if len(data) != shape[0] * 3 * int(kind[1:]) or not shape[0]:
        raise _Refused("bad_surface", f"{field} has not the size that its shape says")
    flat = np.frombuffer(data, np.dtype(order + kind)).astype(np.float64)
    points = flat.reshape(shape[::-1]).T if fortran is True else flat.reshape(shape)
    if not np.isfinite(points).all():
        raise _Refused("bad_surface", f"{field} has numbers that are not finite")
    return np.ascontiguousarray(points)


def _number(dtype: Any) -> tuple[str, str]:
    """Kind such as `f4` and byte order of a described dtype; empty where it is none of a number."""
    if isinstance(dtype, _Built) and dtype.kind == "dtype" and dtype.arguments and dtype.state is not None:
        name, state = dtype.arguments[0], dtype.state
        plain = len(state) >= 5 and state[2:5] == (None, None, None)
        if isinstance(name, str) and name in _NUMBERS and plain and state[1] in ("<", ">"):
            return name, state[1]
    return "", ""


def _run(data: bytes) -> Any:
    """Follow a pickle's instructions as far as numpy's arrays need them; returns what it describes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for name, argument in _instructions(data):
            if name == "STOP":
                return stack.pop()
            _step(name, argument, stack, memo)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise _Refused("bad_surface", "is cut or corrupt") from error
    raise _Refused("bad_surface", "is cut: its pickle has no end")


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    try:
        for code, argument, _ in pickletools.genops(data):
            yield code.name, argument
    except (UnicodeDecodeError, ValueError, EOFError) as error:
        raise _Refused("bad_surface", "is cut or corrupt") from error


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in ("PROTO", "FRAME"):
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in _TUPLES:
        count = _TUPLES[name]
        last = tuple(stack[-count:])
        del stack[-count:]
        stack.append(last)
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
        _expect(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        pairs = _since_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        _expect(stack[-1], dict).update(zip(pairs[::2], pairs[1::2]))
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        stack.append(_admitted(argument))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_admitted(f"{module} {attribute}"))
    elif name == "REDUCE":
        arguments, callee = stack.pop(), stack.pop()
        stack.append(_called(callee, arguments))
    elif name == "BUILD":
        state = stack.pop()
        _expect(stack[-1], _Built).state = _expect(state, tuple)
    else:
        raise _Refused(
            "unsafe_pickle", f"its pickle asks for {name}, which numpy's arrays do not need; it was not read"
        )


def _admitted(text: str) -> _Name:
    if text not in _ADMITTED:
        raise _Refused("unsafe_pickle", f"its pickle names {text.replace(' ', '.')!r}; nothing of it was run or read")
    return _Name(text)


def _called(callee: Any, arguments: Any) -> _Built:
    name = callee.text if isinstance(callee, _Name) else ""
    if name in _RECONSTRUCT and _expect(arguments, tuple)[:1] == (_Name(_NDARRAY),):
        return _Built("array", arguments)
    if name == _DTYPE:
        return _Built("dtype", _expect(arguments, tuple))
    raise _Refused("unsafe_pickle", f"its pickle calls {name or 'a value'}; nothing of it was run or read")


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
        if place < 0:
            raise IndexError
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value
