"""Architectures by name: those of the gallery, and those of a Python file of the user's."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorprog.errors import ProgramError, TensorProgramError, nearest, shortly
from tensorprog.programs import GALLERY


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Whatever a user's code raises, as a ProgramError."""
    try:
        yield
    except (TensorProgramError, KeyboardInterrupt):  # an interrupt is the user's own
        raise
    except BaseException as error:  # a file may call sys.exit, and raise what is no Exception
        raise ProgramError(f"{what}: {type(error).__name__}: {error}") from error


def builder(spec: str) -> Callable[..., Any]:
    """What makes the networks of a name of the gallery, of ``path.py`` or of ``path.py:network``.

    Raises:
        ProgramError: no such network or file (the nearest name is suggested), or a file that cannot be run.

    >>> builder("mlp") is GALLERY["mlp"]
    True
    """
    path, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    if not path.endswith(".py"):
        if spec not in GALLERY:
            raise ProgramError(
                f"no network {shortly(spec)} in the gallery; {nearest(spec, GALLERY)}; or give path.py:network"
            )
        return GALLERY[spec]
    if not Path(path).is_file():
        raise ProgramError(f"there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    with blaming(f"{path} cannot be run"):
        module_spec.loader.exec_module(module)
    found = {k: v for k, v in vars(module).items() if inspect.isfunction(v) and hasattr(v, "network")}
    if not found:
        raise ProgramError(f"{path} defines no network; decorate a function with @tp.network")
    if name and name not in found:
        raise ProgramError(f"{path} defines no network {shortly(name)}; {nearest(name, found)}")
    if not name and len(found) != 1:
        raise ProgramError(f"{path} defines {len(found)} networks ({', '.join(found)}); choose one with {path}:NAME")
    return found[name] if name else next(iter(found.values()))  # type: ignore[no-any-return]
