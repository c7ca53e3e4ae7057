"""Compile numeric functions with numba, at first use."""

from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled without the interpreter's lock; the machine code is kept on disk where that can be.

    Floating-point operations stay as they are written, one by one, so that results have the same bits on every machine.
    """
    # Imported here: it takes a while, and a reader of datasets never needs it.
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Numba finds no folder for its cache (a read-only installation without a home): compile in every process.
        return numba.njit(**options)(function)
