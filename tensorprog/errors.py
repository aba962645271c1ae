"""The exceptions of the package: every message names what was given and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class TensorProgramError(Exception):
    """Base class of every error raised on purpose by this package."""


class ProgramError(TensorProgramError, ValueError):
    """A program, network or file is not well formed."""


class DataError(TensorProgramError, ValueError):
    """Numbers given to a program or kernel cannot be used (shape, NaN, not positive semidefinite)."""


class NoRuleError(TensorProgramError, NotImplementedError):
    """No rule is registered for an instruction, function or expectation."""


class AssumptionError(TensorProgramError, ValueError):
    """A formula was asked for outside the assumptions under which it holds."""


class FoldError(TensorProgramError, ValueError):
    """The equations of a derivation do not repeat with its size; the message shows the first that differ."""


class AccuracyError(TensorProgramError, ArithmeticError):
    """A number could not be computed to the accuracy asked for."""


class AccuracyWarning(UserWarning):
    """A number is given whose relative error is above 1e-9; the message says how large, and how to get more digits."""


class ComputeError(TensorProgramError):
    """The machine could not do it: a full disk, a lost worker, a missing optional package."""


class FrozenWarning(UserWarning):
    """A layer is 0 and stays 0, since its std is 0."""


@contextmanager
def writing(path: Any) -> Iterator[None]:
    """Name the file or folder where writing fails, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"cannot write {path}: {reason}; give a path in an existing folder that you may write"
        ) from error


def unknown_keywords(call: str, unknown: Iterable[str], known: Iterable[str]) -> ProgramError:
    """The error for keywords that a call does not have."""
    first = min(unknown)
    return ProgramError(f"{call} has no argument {first!r}; {nearest(first, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known names closest to ``name``.

    >>> nearest("sigma_q", ["sigma_w", "depth"])
    "did you mean 'sigma_w'? known: depth, sigma_w"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
