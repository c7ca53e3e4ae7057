"""Messages between the renderer process and its supervisor: one JSON object a line. Imports no bpy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from randscene import canonical_json
from randscene.errors import RenderError

PROTOCOL_VERSION = 1

ENGINE_DEVICES: Mapping[str, tuple[str, ...]] = {
    "cycles": ("CPU", "CUDA", "OPTIX", "HIP", "ONEAPI", "METAL"),
    "eevee": ("CPU", "OPENGL"),
}
"""Engines, and what each can render on. EEVEE's `CPU` is OpenGL in software, its `OPENGL` a graphics card."""

MAX_INSTANCES = 255
"""Instance ids share one byte with the background, 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderRequest:
    """Render some views of one scene."""

    type: ClassVar[str] = "render"
    job: str
    """Name that the answers carry."""
    recipe: Mapping[str, Any]
    """A SceneRecipe as plain JSON."""
    assets: Mapping[str, str]
    """Absolute path of the file of each uid that the recipe names."""
    views: tuple[int, ...]
    """Indices into the recipe's cameras, in the order in which they shall come."""
    resolution: int
    """Side of the square picture, pixels."""
    samples: int
    """Cycles: paths traced a pixel, before denoising. EEVEE: shifts within the pixel that are averaged."""
    threads: int
    out: str
    """Absolute path of an existing folder for the pictures."""
    engine: str = "cycles"
    """A key of `ENGINE_DEVICES`."""
    device: str = "CPU"
    """What that engine shall render on. If it is not there the job fails: another is never taken in its place."""
    up_axes: Mapping[str, str] = field(default_factory=dict)
    """`Y` or `Z` for uids whose file's up axis is not the usual one of its format."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Absolute path of the file of each SHA-256 that the recipe's background names."""
    layers: bool = False
    """Answer with what pictures are made from in place of pictures (`cycles` only)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuitRequest:
    """End the process."""

    type: ClassVar[str] = "quit"


@dataclass(frozen=True, kw_only=True, slots=True)
class HelloAnswer:
    """First line of a worker that is ready."""

    type: ClassVar[str] = "hello"
    bpy: str
    """Blender's version, e.g. `4.5.15`."""
    python: str
    protocol: int
    devices: tuple[Mapping[str, str], ...]
    """`{"type": "CPU", "name": ...}` for each device of each kind that Cycles can use; pictures may depend on it in the
    last bit. A card that two kinds can use stands there twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewAnswer:
    """One picture is on disk."""

    type: ClassVar[str] = "view"
    job: str
    view: int
    rgb: str
    """Path of an npy file, (H, W, 3) uint8: sRGB on black, row 0 on top. Empty where layers were asked for."""
    ids: str
    """Path of an npy file, (H, W) uint8: the engine's own object index. Empty where the engine has none (EEVEE)."""
    seconds: float
    """Wall time of this view."""
    cpu_seconds: float
    """Processor time of this view, all threads."""
    layers: str = ""
    """Path of an npy file, (7, h, w) float16: light RGB, guide RGB, alpha (see `cycles_engine.Layers`), row 0 on top,
    inside `window`. Empty where a picture was asked for, and where there is nothing to see."""
    window: tuple[int, ...] = ()
    """First row, row behind the last one, first column, column behind the last one of the layers in the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoneAnswer:
    """Every view of the job has been sent."""

    type: ClassVar[str] = "done"
    job: str
    build_seconds: float
    """Wall time of importing assets and building the scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorAnswer:
    """The job (empty when the request named none that could be read) has failed; the worker waits for the next."""

    type: ClassVar[str] = "error"
    job: str
    reason: str
    message: str


Request = RenderRequest | QuitRequest
Answer = HelloAnswer | ViewAnswer | DoneAnswer | ErrorAnswer

_REQUESTS: dict[str, type[Any]] = {kind.type: kind for kind in (RenderRequest, QuitRequest)}
_ANSWERS: dict[str, type[Any]] = {kind.type: kind for kind in (HelloAnswer, ViewAnswer, DoneAnswer, ErrorAnswer)}


def encode(message: Request | Answer) -> bytes:
    """One line of canonical JSON with its newline.

    Raises
    ------
    ValueError
        If a number is NaN or infinite.
    """
    values = {item.name: getattr(message, item.name) for item in fields(message)}
    return canonical_json.dumps({"type": message.type, **values}).encode() + b"\n"


def parse_request(line: bytes) -> Request:
    """Read a line that the supervisor sent.

    Raises
    ------
    RenderError
        With reason `bad_request` if it is not a well-formed request.
    """
    message: Request = _parse(line, _REQUESTS, "bad_request")
    if isinstance(message, RenderRequest):
        for name, low, high in (("resolution", 1, 8192), ("samples", 1, 65536), ("threads", 1, 1024)):
            if not low <= getattr(message, name) <= high:
                raise RenderError("bad_request", f"{name} must be from {low} to {high}, not {getattr(message, name)}")
        if message.device not in ENGINE_DEVICES.get(message.engine, ()):
            known = "; ".join(f"{engine} on {', '.join(devices)}" for engine, devices in ENGINE_DEVICES.items())
            raise RenderError("bad_request", f"{message.engine} on {message.device} is none of: {known}")
        if not message.views:
            raise RenderError("bad_request", "views: name at least one")
        if message.layers and message.engine != "cycles":
            raise RenderError("bad_request", f"layers: {message.engine} makes pictures only")
    return message


def parse_answer(line: bytes) -> Answer:
    """Read a line that the worker sent.

    Raises
    ------
    RenderError
        With reason `bad_answer` if it is not a well-formed answer.
    """
    answer: Answer = _parse(line, _ANSWERS, "bad_answer")
    return answer


def job_of(line: bytes) -> str:
    """The job that a (perhaps malformed) request names, or an empty string."""
    try:
        job = json.loads(line)["job"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return job if isinstance(job, str) else ""


def _parse(line: bytes, kinds: Mapping[str, type[Any]], reason: str) -> Any:
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RenderError(reason, f"not one line of JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("type"), str) or data["type"] not in kinds:
        raise RenderError(reason, f"not a message of a known type ({', '.join(kinds)}): {line[:80]!r}")
    kind = kinds[data.pop("type")]
    known = {item.name: item.type for item in fields(kind)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise RenderError(reason, f"{kind.type}: unknown field {unknown[0]}")
    try:
        return kind(**{name: _CHECKS[known[name]](value, name) for name, value in data.items()})
    except (TypeError, ValueError, OverflowError) as error:
        raise RenderError(reason, f"{kind.type}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _exactly(kind: type, words: str) -> Any:
    def check(value: Any, name: str) -> Any:
        # bool is an int in Python, not in JSON.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} must be {words}")
        return value

    return check


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value


def _strings(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"{name} must map names to strings")
    return value


def _integers(value: Any, name: str) -> Any:
    if not isinstance(value, list) or not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        raise ValueError(f"{name} must be a list of integers")
    return tuple(value)


def _list_of_strings(value: Any, name: str) -> Any:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    return tuple(_strings(item, name) for item in value)


def _seconds(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number")
    return float(value)


_CHECKS: dict[Any, Any] = {
    str: _exactly(str, "a string"),
    bool: _flag,
    int: _exactly(int, "an integer"),
    float: _seconds,
    Mapping[str, Any]: _exactly(dict, "an object"),
    Mapping[str, str]: _strings,
    tuple[int, ...]: _integers,
    tuple[Mapping[str, str], ...]: _list_of_strings,
}
"""How each annotation of the messages above is read from JSON."""
