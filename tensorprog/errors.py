"""The exceptions of the package: every message names what was given and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from os import PathLike
from pathlib import Path
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
    """A derivation has no recursion over its size; the message says why, such as the first equations that differ."""


class AccuracyError(TensorProgramError, ArithmeticError):
    """A number could not be computed to the accuracy asked for."""


class AccuracyWarning(UserWarning):
    """A number is given whose relative error is above 1e-9; the message says how large, and how to get more digits."""


class ComputeError(TensorProgramError):
    """The machine could not do it: a full disk, a lost worker, a missing optional package."""


class FrozenWarning(UserWarning):
    """A layer is 0 and stays 0, since its std is 0."""


class MixtureWarning(UserWarning):
    """A Gaussian process, or a kernel that training leaves as it is, is assumed of a network that has neither."""


@contextmanager
def writing(path: Any) -> Iterator[None]:
    """Name the file or folder where writing fails, and what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError) and "embedded null" not in str(error):
            raise
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise DataError(
            f"cannot write {path}: {reason}; give a path in an existing folder that you may write"
        ) from error


def a(word: str) -> str:
    """The word with its article.

    >>> a("matrix"), a("embedding")
    ('a matrix', 'an embedding')
    """
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


LONGEST = 100  # characters of what was given


def shortly(value: Any) -> str:
    """What was given, cut where it is long: whole numbers of thousands of digits have no text of their own.

    >>> shortly("9" * 1000), shortly(10**5000), shortly(0.5)
    ("'999999999999999999999999999...99999999999999999' (1002 characters)", 'an integer of some 5001 digits', '0.5')
    """
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return f"an integer of some {abs(value).bit_length() * 30103 // 100000 + 1} digits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # such an integer, or lists within lists, inside
        return f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= LONGEST else f"{text[:28]}...{text[-18:]} ({len(text)} characters)"


def integer(value: Any, what: str, least: int, most: int) -> int:
    """An integer of an interval.

    Raises:
        ProgramError: anything else, True and False among it.
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if number is None or not least <= number <= most:
        raise ProgramError(f"{what} must be an integer from {least} to {most}, got {shortly(value)}")
    return number


def listed(value: Any, what: str, of: str) -> list[Any]:
    """The members of a list, tuple or other iterable that is no text.

    Raises:
        ProgramError: saying what was given.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError("a text has no members")
        return list(value)
    except TypeError:
        raise ProgramError(f"{what} must be a list of {of}, got the {type(value).__name__} {shortly(value)}") from None


OF_FILES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".html", ".txt", ".tex")  # endings that no folder has


def folder(out: Any) -> Path:
    """The folder that ``out`` names.

    Raises:
        DataError: no path, or one that ends as files do.
    """
    if not isinstance(out, (str, PathLike)):
        raise DataError(f"out must be the path of a folder, got the {type(out).__name__} {shortly(out)}")
    path = Path(out)
    if path.suffix.lower() in OF_FILES and not path.is_dir():
        raise DataError(f"{path} is the name of a file; give the name of a folder, in which several files are written")
    return path


def unknown_keywords(call: str, unknown: Iterable[str], known: Iterable[str]) -> ProgramError:
    """The error for keywords that a call does not have."""
    first = min(unknown)
    return ProgramError(f"{call} has no argument {shortly(first)}; {nearest(first, known)}")


def nearest(name: Any, known: Iterable[str]) -> str:
    """A hint naming the known names closest to ``name``, or to the text of what stands where a name belongs.

    >>> nearest("sigma_q", ["sigma_w", "depth"])
    "did you mean 'sigma_w'? known: depth, sigma_w"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name if isinstance(name, str) else shortly(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
