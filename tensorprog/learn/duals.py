"""Dual numbers: arrays with their derivatives, which NumPy's functions pass on (forward mode).

Only the functions that covariances and angles are computed by are known; any other raises TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Array = Any


class Dual(np.lib.mixins.NDArrayOperatorsMixin):
    """A value with its derivatives; None for a derivative that is 0.

    >>> x = Dual(np.array([4.0, 0.0]), (np.array([1.0, 0.0]),))
    >>> root = np.sqrt(3 * x + x)
    >>> root.value, root.tangents
    (array([4., 0.]), (array([0.5, 0. ]),))
    """

    __slots__ = ("tangents", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Array, tangents: Iterable[Array | None]) -> None:
        self.value, self.tangents = value, tuple(tangents)

    @property
    def moves(self) -> bool:
        """Whether some derivative may not be 0."""
        return any(t is not None for t in self.tangents)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        """Of the value."""
        return np.ndim(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def each(self, change: Callable[[Array], Array]) -> Dual:
        """A linear map that keeps the shape of neither, such as a choice of entries, of value and derivatives."""
        parts = (None if t is None else change(np.broadcast_to(t, self.shape)) for t in self.tangents)
        return Dual(change(np.asarray(self.value)), parts)

    def __getitem__(self, rows: Any) -> Dual:
        return self.each(lambda a: a[rows])

    def __setitem__(self, rows: Any, new: Any) -> None:
        new = new if isinstance(new, Dual) else Dual(new, (None,) * len(self.tangents))
        self.value[rows] = new.value
        self.tangents = tuple(self._replaced(t, rows, n) for t, n in zip(self.tangents, new.tangents, strict=True))

    def _replaced(self, tangent: Array | None, rows: Any, new: Array | None) -> Array | None:
        if tangent is None and new is None:
            return None
        result = np.array(np.broadcast_to(0.0 if tangent is None else tangent, self.shape))
        result[rows] = 0.0 if new is None else new
        return result

    def __pow__(self, n: int) -> Dual:
        return chain(self.value**n, len(self.tangents), [(n * self.value ** (n - 1), self)])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            return NotImplemented
        values = [a.value if isinstance(a, Dual) else a for a in args]
        if ufunc in PLAIN:
            return ufunc(*values)
        if ufunc not in PARTIALS:
            return NotImplemented
        value = ufunc(*values)
        partials = PARTIALS[ufunc](value, *values)
        moving = [(p, a) for p, a in zip(partials, args, strict=True) if isinstance(a, Dual)]
        return chain(value, len(self.tangents), moving)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        rule = FUNCTIONS.get(function)
        return NotImplemented if rule is None else rule(*args, **options)


def chain(value: Array, count: int, parts: Sequence[tuple[Array, Dual]]) -> Dual:
    """The Dual of a function of Duals with these partial derivatives."""
    tangents: list[Array | None] = [None] * count
    for partial, argument in parts:
        for k, t in enumerate(argument.tangents):
            if t is not None:
                tangents[k] = t * partial if tangents[k] is None else tangents[k] + t * partial
    return Dual(value, tangents)


def inverse(x: Array) -> Array:
    """1/x, and 0 at 0.

    >>> inverse(np.array([4.0, 0.0]))
    array([0.25, 0.  ])
    """
    x = np.asarray(x)
    return np.where(x != 0, 1 / np.where(x != 0, x, 1.0), 0.0)


# A root of 0 has slope 0: a variance or an angle of 0 is a minimum, so that its own derivative vanishes.
PARTIALS: dict[np.ufunc, Callable[..., tuple[Array, ...]]] = {
    np.add: lambda r, x, y: (1.0, 1.0),
    np.subtract: lambda r, x, y: (1.0, -1.0),
    np.multiply: lambda r, x, y: (y, x),
    np.true_divide: lambda r, x, y: (1 / np.asarray(y), -r / y),
    np.negative: lambda r, x: (-1.0,),
    np.positive: lambda r, x: (1.0,),
    np.absolute: lambda r, x: (np.where(np.asarray(x) < 0, -1.0, 1.0),),
    np.sqrt: lambda r, x: (inverse(r) / 2,),
    np.arcsin: lambda r, x: (inverse(np.sqrt(1 - x * x)),),
    np.maximum: lambda r, x, y: (np.where(np.asarray(x) >= y, 1.0, 0.0), np.where(np.asarray(x) >= y, 0.0, 1.0)),
    np.minimum: lambda r, x, y: (np.where(np.asarray(x) <= y, 1.0, 0.0), np.where(np.asarray(x) <= y, 0.0, 1.0)),
}
PLAIN = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isfinite}


def _where(condition: Array, x: Any, y: Any) -> Dual:
    sides = [a if isinstance(a, Dual) else None for a in (x, y)]
    count = next(len(a.tangents) for a in sides if a is not None)
    values = [a.value if isinstance(a, Dual) else a for a in (x, y)]
    columns = zip(*(a.tangents if a else (None,) * count for a in sides), strict=True)
    tangents = (
        None if s is None and t is None else np.where(condition, 0.0 if s is None else s, 0.0 if t is None else t)
        for s, t in columns
    )
    return Dual(np.where(condition, *values), tangents)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.broadcast_to: lambda x, shape: Dual(np.broadcast_to(x.value, shape), x.tangents),
    np.copy: lambda x: x.each(np.copy),
    np.zeros_like: lambda x: np.zeros(x.shape),
    np.ndim: lambda x: x.ndim,
    np.shape: lambda x: x.shape,
}
