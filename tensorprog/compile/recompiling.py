"""Whether numba compiles again: it keeps what it compiled until the file of a function changes, and reads no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba.core.dispatcher import Dispatcher


def compile_again(stamped: Any, stamp: int, functions: Iterable[Any]) -> None:
    """Compile the loops among ``functions`` again, where they were compiled with other numbers or functions of others.

    Args:
        stamped: a compiled function that gives the stamp that it was compiled with.
        stamp: what all sources have in common now.
        functions: all values of a file, of which those compiled are taken.
    """
    if stamped() != stamp:
        for compiled in [f for f in functions if isinstance(f, Dispatcher) and f is not stamped]:
            compiled.recompile()
        stamped.recompile()
