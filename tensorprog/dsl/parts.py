"""Inputs that are dictionaries of named arrays: which there are, and what a network does with each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

from tensorprog.dsl.refusals import NotAnArray
from tensorprog.errors import ProgramError, shortly
from tensorprog.printing import Shown

SHAPES = {
    "vector": "(N, d), a vector for every input",
    "positions": "(N, P, C) or (N, H, W, C), a vector at every position, or (N, P) integers; a list where sizes differ",
    "matrix": "(N, P, P), a matrix between the positions of every input, or a list of them, dense or scipy.sparse",
    "weights": "(N, P), a number for every position, or a list",
}


class Parts(Shown):
    """The named arrays of an input, found by tracing.

    Attributes:
        uses: of each name one of ``SHAPES``, in the order of first use.
        over: the names that have a vector at every position.
        embedded: the names that each embedding reads, whose vectors have one dimension.
    """

    def __init__(self, over: Collection[str] = ()) -> None:
        self.over = frozenset(over)
        self.uses: dict[str, str] = {}
        self.embedded: dict[str, list[str]] = {}

    def note(self, name: str, use: str) -> None:
        """Remember what an array is used for.

        Raises:
            ProgramError: it is used for something else too.
        """
        known = self.uses.setdefault(name, use)
        if known != use:
            raise ProgramError(f"x[{shortly(name)}] is used as {known} and as {use}; give two arrays")

    def note_embedded(self, key: str, name: str) -> None:
        """Remember that a vector, or one at every position, is embedded by a matrix."""
        self.note(name, "positions" if name in self.over else "vector")
        names = self.embedded.setdefault(key, [])
        if name not in names:
            names.append(name)

    @property
    def vectors(self) -> list[str]:
        """The names of what is embedded."""
        return [name for name, use in self.uses.items() if use in ("vector", "positions")]

    def text(self) -> str:
        """The names with the shapes of what is given for them."""
        return "\n".join(["inputs are dictionaries", *(f"  {n!r}: {SHAPES[use]}" for n, use in self.uses.items())])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self.uses == other.uses

    def __hash__(self) -> int:
        return hash(tuple(self.uses.items()))


class Named(NotAnArray):
    """An input that is a dictionary of named arrays: ``x["u"]`` is one of them."""

    WHAT = "an input of named arrays"

    def __init__(self, make: Any, label: str) -> None:
        self._make, self._label = make, label

    def __repr__(self) -> str:
        return self._label

    def __getitem__(self, name: Any) -> Any:
        if not isinstance(name, str) or not name.isidentifier():
            raise ProgramError(
                f"an array of the input is named by a word, such as {self._label}['u'], got {shortly(name)}"
            )
        return self._make(name)

    def _instead(self, name: str) -> str:
        return f"{self}['u'] for the array named u"

    def __iter__(self) -> NoReturn:
        raise ProgramError(f"{self} is a dictionary of named arrays; write {self}['u'] for one of them")
