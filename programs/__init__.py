"""The gallery: one architecture per file, each a file to copy and change."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp


def per_layer(name: str, value: Any, layers: int) -> list[Any]:
    """A hyperparameter that is one number, or one per layer, as a list.

    >>> per_layer("sigma_w", 2, 3)
    [2, 2, 2]
    """
    from tensorprog.ceilings import check_program_size
    from tensorprog.errors import ProgramError

    if isinstance(layers, bool) or not isinstance(layers, (int, np.integer)) or layers < 1:
        raise ProgramError(f"the number of layers must be a positive integer, got {layers!r}")
    check_program_size(int(layers))
    if np.ndim(value) and isinstance(value, (list, tuple, np.ndarray)) and not isinstance(value, sp.Basic):
        if len(value) != layers:
            raise ProgramError(f"{name} has {len(value)} values for {layers} layers")
        return list(value)
    return [value] * layers


def check_tied(tied: Any) -> None:
    """Refuse what is neither True nor False: "no" would count as True."""
    from tensorprog.errors import ProgramError

    if not isinstance(tied, (bool, np.bool_)):
        raise ProgramError(f"tied must be True or False, got {tied!r}")


def chosen(name: str, value: Any, *known: str) -> str:
    """A hyperparameter that is one of a few words.

    >>> chosen("pool", "flatten", "global", "flatten")
    'flatten'
    """
    from tensorprog.errors import ProgramError

    if value not in known:
        raise ProgramError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
    return str(value)


def __getattr__(name: str) -> Any:
    from tensorprog.lazy import closest

    close = closest(name, GALLERY)
    hint = f"did you mean {close!r}? " if close else ""
    raise AttributeError(f"the gallery has no network {name!r}; {hint}known: {', '.join(sorted(GALLERY))}")


GALLERY: dict[str, Callable[..., Any]] = {}
for _module in pkgutil.iter_modules(__path__):
    _found = getattr(importlib.import_module(f"{__name__}.{_module.name}"), _module.name)
    GALLERY[_module.name] = globals()[_module.name] = _found
