"""Public names of a package that are loaded on first use, so that importing the package costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, home: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Type checkers are to see the names' imports in place of these two, under `TYPE_CHECKING`: to them a `__getattr__`
    would make every name of the package known, misspelt ones too, and of no type.

    Parameters
    ----------
    package : str
        Its `__name__`.
    home : mapping of str to str
        The module, inside the package, of each public name.
    """

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return get, names
