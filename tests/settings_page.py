"""`docs/settings.md`, drawn from the code: every field of a dataset's spec and of a training run's settings.

python tests/settings_page.py      writes the page again
"""

import ast
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic.fields import FieldInfo

from randscene.manifests.spec import DatasetSpec
from randscene.train.settings import RunSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
REQUIRED = "required"
HEAD = """# Settings

Every field of a dataset's spec and of a training run's settings, with what it takes and its default. A YAML file
states what differs from the defaults; on the command line `--set section.field=value` replaces one (the value is
YAML). `[a, b]` is a list of two, mostly the least and the most.
This page is drawn from the code, and a test compares the two.

"""
SPEC = """## A dataset

For `randscene plan`, `generate` and `estimate`; [Recipes](recipes.md) has the presets and a file of one's own.
`splits` maps the name of each split to its fields, as in `splits.train.scenes=100`; at least one is required.

"""
RUN = """## A training run

For `randscene train`; the presets are told in [Train](training.md). The defaults are the paper's where it states them.

"""
PLURALS = {"number": "numbers", "whole number": "whole numbers", "text": "texts"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field as the page tells it."""

    name: str
    """Dotted; without a section at the top."""
    takes: str
    default: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A record of settings: its dotted name (empty at the top), the docstring, and its own fields."""

    name: str
    about: str
    fields: list[Field]


def sections(record: type, name: str = "") -> Iterator[Section]:
    """A record and then the records in it."""
    meanings, inner, fields = field_docstrings(record), [], []
    for field, (hint, metadata, default) in described(record).items():
        dotted = f"{name}.{field}" if name else field
        below = next((one for one in (hint, *typing.get_args(hint)) if is_record(one)), None)
        if below is None:
            told = "" if default is dataclasses.MISSING else f"`{in_yaml(default)}`"
            fields.append(
                Field(name=dotted, takes=takes(hint, metadata), default=told or REQUIRED, meaning=meanings[field])
            )
        else:
            inner.append((below, dotted if below is hint else f"{dotted}.NAME"))
    yield Section(name=name, about=record.__dict__.get("__doc__") or "", fields=fields)
    for below, dotted in inner:
        yield from sections(below, dotted)


def is_record(hint: Any) -> bool:
    return isinstance(hint, type) and (issubclass(hint, pydantic.BaseModel) or dataclasses.is_dataclass(hint))


def described(record: type) -> dict[str, tuple[Any, tuple[Any, ...], Any]]:
    """Type, constraints and default of each field; `dataclasses.MISSING` where it must be given."""
    if issubclass(record, pydantic.BaseModel):
        return {
            name: (
                info.annotation,
                tuple(info.metadata),
                dataclasses.MISSING if info.is_required() else info.get_default(call_default_factory=True),
            )
            for name, info in record.model_fields.items()
        }
    hints = typing.get_type_hints(record)
    return {
        one.name: (
            hints[one.name],
            (),
            one.default if one.default_factory is dataclasses.MISSING else one.default_factory(),
        )
        for one in dataclasses.fields(record)
    }


def field_docstrings(record: type) -> dict[str, str]:
    """The text below each field in the source; empty where there is none."""
    (body,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(record))).body
    found = {}
    for node, below in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            found[node.target.id] = " ".join(str(below.value.value).split()) if told else ""
    return found


def takes(hint: Any, metadata: tuple[Any, ...] = ()) -> str:
    """A type and its limits in words."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        limits = [limit for one in inner[1:] for limit in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return takes(inner[0], tuple(limits))
    if kind in (typing.Union, types.UnionType):
        return " or ".join(takes(one, metadata if one is not types.NoneType else ()) for one in inner)
    if kind is Literal:
        words = [f"`{word}`" for word in inner]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if kind is tuple:
        each = takes(inner[0])
        word = next(word for word in sorted(PLURALS, key=len, reverse=True) if each.startswith(word))
        many = PLURALS[word] + each.removeprefix(word)
        return f"list of {many}" if inner[-1] is Ellipsis else f"[a, b]: {many}"
    if kind is dict:
        return f"mapping of names to {PLURALS[takes(inner[1])]}"
    plain = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", types.NoneType: "`null`"}
    return plain[hint] + limits_of(metadata)


def limits_of(metadata: tuple[Any, ...]) -> str:
    """What `annotated_types` and pydantic say of a value, in words."""
    at = {
        name: getattr(one, name)
        for one in metadata
        for name in ("ge", "gt", "le", "lt", "pattern")
        if hasattr(one, name)
    }
    at = {name: value for name, value in at.items() if value is not None}
    least = f"≥ {at['ge']:,}" if "ge" in at else f"> {at['gt']:,}" if "gt" in at else ""
    most = f"≤ {at['le']:,}" if "le" in at else f"< {at['lt']:,}" if "lt" in at else ""
    if "ge" in at and "le" in at:
        least, most = f"{at['ge']} to {at['le']}", ""
    form = f"of the form `{at['pattern']}`" if "pattern" in at else ""
    told = ", ".join(part for part in (least, most, form) if part)
    return f" {told}" if told else ""


def in_yaml(value: Any) -> str:
    """A default as a YAML file would state it."""
    plain = list(value) if isinstance(value, tuple) else value
    return '""' if value == "" else yaml.safe_dump(plain, default_flow_style=True, width=1000).split("\n")[0]


def page() -> str:
    """The whole page."""
    spec, run = list(sections(DatasetSpec)), list(sections(RunSettings))
    names = {type(None): ""} | section_names(DatasetSpec) | section_names(RunSettings)
    text = HEAD + SPEC + "".join(map(section_text, spec)) + RUN + "".join(map(section_text, run))
    for record, name in names.items():
        text = text.replace(f"`{record.__name__}.", f"`{name}." if name else "`")
    return re.sub(r"`docs/(\w+)\.md`", r"[\1](\1.md)", text).rstrip("\n") + "\n"


def section_names(record: type, name: str = "") -> dict[type, str]:
    found = {record: name}
    for field, (hint, _, _) in described(record).items():
        if is_record(hint):
            found |= section_names(hint, f"{name}.{field}" if name else field)
    return found


def section_text(section: Section) -> str:
    """A heading, the record's own words, and a table of its fields."""
    about = " ".join(section.about.split())
    lines = [f"### {section.name}", "", *([about, ""] if about else [])] if section.name else []
    lines += ["| field | takes | default | meaning |", "|---|---|---|---|"]
    for one in section.fields:
        cells = (f"`{one.name}`", one.takes, one.default, one.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace("|  |", "| |"))
    return "\n".join([*lines, "", ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
