"""Recursive definitions evaluated with bounded nesting, however deep a network is."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
NESTED = 32  # calls within calls before what lies deeper is computed first; each is some 14 frames of Python's 1000


class _DeeperError(Exception):
    """What has to be known first."""

    def __init__(self, of: Any, key: Hashable) -> None:
        super().__init__(key)
        self.of, self.key = of, key


class Nested(Generic[Value]):
    """A function that is defined by its values at other keys, kept once computed.

    What is asked for ``NESTED`` calls below is computed first, from the outside, and what asked for it then again. So
    Python's stack stays as it is at any depth, and no recursion limit is raised.

    >>> height = Nested(lambda n: 1 + height(n - 1) if n else 0)
    >>> height(10**4)
    10000
    """

    def __init__(self, compute: Callable[..., Value]) -> None:
        self._compute = compute
        self.known: dict[Any, Value] = {}
        self._nesting = 0

    def __call__(self, *key: Any) -> Value:
        if key not in self.known:
            if self._nesting == 0:
                self._from_outside(key)
            elif self._nesting < NESTED:
                self._find(key)
            else:
                raise _DeeperError(self, key)
        return self.known[key]

    def _find(self, key: Any) -> None:
        self._nesting += 1
        try:
            self.known[key] = self._compute(*key)
        finally:
            self._nesting -= 1

    def _from_outside(self, key: Any) -> None:
        todo = [key]
        while todo:
            try:
                self._find(todo[-1])
                todo.pop()
            except _DeeperError as error:
                if error.of is not self:
                    raise
                todo.append(error.key)
