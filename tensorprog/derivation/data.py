"""Reading data: vectors, sequences, ragged lists; every problem named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorprog.derivation.named import Layout, at_positions, check_names, vectors_in_a_row
from tensorprog.derivation.tokens import encoded
from tensorprog.dsl.network import Form
from tensorprog.dsl.parts import Parts
from tensorprog.errors import DataError, shortly
from tensorprog.expectations.angles.gaps import gap, near, stretch
from tensorprog.expectations.determinants import two_product
from tensorprog.given import count
from tensorprog.printing import Shown, counted

SHARE = 1e-4  # of the largest float that inner products of inputs may be
ROUNDED = 1e-56  # squares of sines below this may be rounding of parallel vectors
CHUNK = 2**15  # entries of input vectors compared together, which stay in cache


@dataclass(frozen=True, repr=False)
class Inputs(Shown):
    """Inputs grouped by length: ``data[T]`` is (N_T, T, d), ``groups[T]`` which they are; T is None for vectors.

    Of inputs with positions the key is their sizes, such as (H, W), and the positions are flat: (N, H W, C).  Where
    they have several named arrays, ``layout`` says which columns are whose.

    Attributes:
        data, groups: as above.
        dimension: d.
        layout: of named arrays.
    """

    data: dict[Any, np.ndarray]
    groups: dict[Any, np.ndarray]
    dimension: int
    layout: Layout | None = None

    def text(self) -> str:
        """How many inputs there are, of which lengths and dimension."""
        lengths = ", ".join(f"{len(rows)} of {_size(t)}" for t, rows in self.groups.items() if t is not None)
        return f"{counted(len(self), 'input')} of dimension {self.dimension}" + (f": {lengths}" if lengths else "")

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    @property
    def lengths(self) -> list[Any]:
        """The length of each input, or its sizes, in order."""
        result: list[Any] = [None] * len(self)
        for t, rows in self.groups.items():
            for r in rows:
                result[r] = t
        return result

    def take(self, start: int, stop: int) -> Inputs:
        """Inputs start..stop, in order."""
        stop = count(stop, "stop", 0, len(self))
        start = count(start, "start", 0, stop)
        inside = {t: (rows >= start) & (rows < stop) for t, rows in self.groups.items()}
        groups = {t: rows[inside[t]] - start for t, rows in self.groups.items() if inside[t].any()}
        return replace(self, data={t: self.data[t][inside[t]] for t in groups}, groups=groups)

    def __getitem__(self, i: int) -> np.ndarray:
        """Input number i as (T, d)."""
        if isinstance(i, bool) or not isinstance(i, (int, np.integer)):
            raise DataError(f"an input is chosen by its number, got {shortly(i)}")
        for t, rows in self.groups.items():
            where = int(np.searchsorted(rows, i))
            if where < len(rows) and rows[where] == i:
                return self.data[t][where]  # type: ignore[no-any-return]
        raise IndexError(f"there are {counted(len(self), 'input')}, none has the number {i}")


def as_sequences(inputs: Inputs) -> Inputs:
    """Inputs with positions as the sequences of them, row by row."""
    lengths = {t: math.prod(t) if isinstance(t, tuple) else t for t in inputs.groups}
    data, groups = ({lengths[t]: x for t, x in of.items()} for of in (inputs.data, inputs.groups))
    return Inputs(data, groups, inputs.dimension)


def _size(t: Any) -> str:
    return "sizes " + "×".join(map(str, t)) if isinstance(t, tuple) else f"length {t}"


def read_inputs(X: Any, name: str, form: Form, dtype: Any = np.float64, copy: bool = True) -> Inputs:
    """Check data and group it by length.

    Args:
        X: (N, d) for vectors; (N, T, d) or a list of (T_i, d) for sequences; (N, L, C), (N, H, W, C), (N, D, H, W, C)
            or a list of such without the N for inputs with positions; (N, T) integers, or a list, for tokens in either;
            a dictionary for a network of named arrays.
        name: how errors call it.
        form: what the network takes.
        dtype: of inner products; data of it stay in it, others become double.
        copy: False where the data are not kept.

    Raises:
        DataError: wrong number of axes, no inputs, empty sequences, NaN, infinite or masked entries, not numbers,
            entries whose squares overflow.
    """
    (X,) = _encoded([X], [name], form)
    return _read(X, name, form, dtype, copy)


def _encoded(sets: list[Any], names: list[str], form: Form) -> list[Any]:
    """Inputs whose tokens are vectors."""
    if not isinstance(form, Parts):
        return sets if form == "vectors" else encoded(sets, names)
    for name, X in zip(names, sets, strict=True):
        if form.over or isinstance(X, Mapping):
            check_names(X, name, form)
    if not form.over:
        return sets
    columns = {key: encoded([X[key] for X in sets], [f"{n}[{key!r}]" for n in names]) for key in form.over}
    return [{**X, **{key: column[i] for key, column in columns.items()}} for i, X in enumerate(sets)]


def _read(X: Any, name: str, form: Form, dtype: Any, copy: bool) -> Inputs:
    inputs = _grouped(X, name, form, copy, np.dtype(dtype))
    check_scale(inputs, name, dtype)
    return inputs


def _grouped(X: Any, name: str, form: Form, copy: bool, dtype: Any) -> Inputs:
    if isinstance(form, Parts):
        return _named(X, name, form, lambda x, called: _array(x, called, copy, dtype))
    if form != "vectors" and isinstance(X, (list, tuple)):
        items = [_array(x, f"{name}[{i}]", copy, dtype) for i, x in enumerate(X)]
        return _ragged(items, name) if form == "sequences" else _of_sizes(items, name)
    x = _array(X, name, copy, dtype)
    if form == "positions":
        return _of_sizes(x, name)
    if form == "vectors":
        if x.ndim != 2:
            raise DataError(f"{name} must have shape (N, d), got {x.shape}; this network takes single vectors")
        _nonempty(x, name)
        return Inputs({None: x[:, None, :]}, {None: np.arange(len(x))}, x.shape[1])
    if x.ndim != 3:
        raise DataError(
            f"{name} must have shape (N, T, d) or be a list of (T_i, d) arrays, got {x.shape}; "
            "this network takes sequences"
        )
    _nonempty(x, name)
    return Inputs({x.shape[1]: x}, {x.shape[1]: np.arange(len(x))}, x.shape[2])


def _named(X: Any, name: str, parts: Parts, read: Callable[[Any, str], np.ndarray]) -> Inputs:
    if parts.over:
        grouped, layout = at_positions(X, name, parts, read)
        return Inputs(*grouped, layout)
    x = vectors_in_a_row(X, name, parts, read) if isinstance(X, Mapping) else read(X, name)  # a row already
    if x.ndim != 3 or x.shape[1] != len(parts.vectors):
        check_names(X, name, parts)
    return Inputs({x.shape[1]: x}, {x.shape[1]: np.arange(len(x))}, x.shape[2])


def _of_sizes(items: Any, name: str) -> Inputs:
    """Inputs with positions, grouped by their sizes."""
    if len(items) == 0:
        raise DataError(f"{name} holds no inputs")
    for i, x in enumerate(items):
        if not 2 <= x.ndim <= 4 or 0 in x.shape:
            raise DataError(
                f"{name}[{i}] has shape {x.shape}; this network reads positions and takes signals (L, C), images "
                f"(H, W, C), volumes (D, H, W, C) or batches (B, d): {name} is an array (N, H, W, C), or a list"
            )
        if x.shape[-1] != items[0].shape[-1] or x.ndim != items[0].ndim:
            raise DataError(
                f"{name}[{i}] has shape {x.shape} and {name}[0] {items[0].shape}: channels and axes must agree"
            )
    keys = [x.shape[:-1] for x in items]
    groups = {k: np.array([i for i, other in enumerate(keys) if other == k]) for k in sorted(set(keys))}
    data = {k: np.stack([items[i].reshape(-1, items[i].shape[-1]) for i in rows]) for k, rows in groups.items()}
    return Inputs(data, groups, items[0].shape[-1])


def read_pair(X1: Any, X2: Any, form: Form, dtype: Any = np.float64,
              copy: bool = True) -> tuple[Inputs, Inputs | None]:  # fmt: skip
    """Both sets of inputs, None for an X2 that is None; arguments as for ``read_inputs``.

    Raises:
        DataError: as for ``read_inputs``, or different feature dimensions.
    """
    if X2 is None:
        return read_inputs(X1, "X1", form, dtype, copy), None
    X1, X2 = _encoded([X1, X2], ["X1", "X2"], form)
    first, second = _read(X1, "X1", form, dtype, copy), _read(X2, "X2", form, dtype, copy)
    if first.dimension != second.dimension:
        raise DataError(f"X1 has feature dimension {first.dimension} and X2 {second.dimension}; they must agree")
    return first, second


def by_lengths(first: Inputs, second: Inputs | None,
               block: Callable[[int | None, int | None], np.ndarray]) -> np.ndarray:  # fmt: skip
    """The matrix of all pairs, from blocks of a first and a second length; of one set with itself it is mirrored."""
    other = first if second is None else second
    result = np.empty((len(first), len(other)))
    for t1, rows in first.groups.items():
        for t2, columns in other.groups.items():
            if second is not None or (t1 or 0) <= (t2 or 0):
                result[np.ix_(rows, columns)] = found = block(t1, t2)
                if second is None and t1 != t2:
                    result[np.ix_(columns, rows)] = found.T
    return result


def check_scale(inputs: Inputs, name: str, dtype: Any = np.float64) -> None:
    """Refuse inputs whose inner products leave the range of a precision.

    Raises:
        DataError: names the first such input.
    """
    most = SHARE * float(np.finfo(dtype).max)
    for t, rows in inputs.groups.items():
        with np.errstate(over="ignore"):
            size = np.einsum("ntd,ntd->nt", inputs.data[t], inputs.data[t])
        if not (size <= most).all():
            i, k = np.argwhere(~(size <= most))[0]
            which = f"{name}[{rows[i]}]" + ("" if t is None else f"[{k}]")
            largest = np.abs(inputs.data[t][i, k]).max()
            raise DataError(
                f"{which} has entries of size {largest:.3g}, and its inner product with itself leaves the range of "
                f"{np.dtype(dtype)}; scale the inputs, for instance by {1 / largest:.0e}"
            )


def _ragged(items: list[np.ndarray], name: str) -> Inputs:
    if not items:
        raise DataError(f"{name} holds no inputs")
    for i, x in enumerate(items):
        if x.ndim != 2:
            raise DataError(f"{name}[{i}] must have shape (T, d), got {x.shape}")
        _nonempty(x[None], f"{name}[{i}]")
        if x.shape[1] != items[0].shape[1]:
            raise DataError(f"{name}[{i}] has feature dimension {x.shape[1]}, {name}[0] has {items[0].shape[1]}")
    lengths = np.array([len(x) for x in items])
    groups: dict[int | None, np.ndarray] = {int(t): np.flatnonzero(lengths == t) for t in np.unique(lengths)}
    return Inputs({t: np.stack([items[i] for i in rows]) for t, rows in groups.items()}, groups, items[0].shape[1])


def refuse_masked(X: Any, name: str) -> None:
    """Refuse what hides entries: an array with a mask, or a list of arrays one of which has one.

    Raises:
        DataError: names the first masked entry.

    >>> refuse_masked([[1.0, 2.0], np.ma.array([3.0, 4.0], mask=[False, True])], "X")
    Traceback (most recent call last):
    tensorprog.errors.DataError: X is a masked array whose entry (1, 1) is masked; ...
    """
    found = _masked(X)
    if found is not None:
        raise DataError(
            f"{name} is a masked array whose entry {found} is masked; a network has no missing inputs: fill the "
            "entries (numpy.ma.filled) or leave their rows out"
        )


def _masked(X: Any) -> tuple[int, ...] | None:
    """Where the first masked entry is."""
    if isinstance(X, np.ma.MaskedArray):
        where = np.argwhere(np.ma.getmaskarray(X))
        return tuple(int(k) for k in where[0]) if len(where) else None
    inner = ((i, _masked(x)) for i, x in enumerate(X)) if isinstance(X, (list, tuple)) else ()
    return next(((i, *at) for i, at in inner if at is not None), None)


def _array(X: Any, name: str, copy: bool, dtype: Any) -> np.ndarray:
    refuse_masked(X, name)
    try:
        x = np.asarray(X)
        if x.dtype.kind not in "fiub":
            raise DataError(f"{name} must hold real numbers, got dtype {x.dtype}")
        x = x.astype(dtype if x.dtype == dtype else np.float64, copy=copy)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_uneven(X, name) or f"{name} is not an array of numbers: {error}") from error
    if not np.isfinite(x).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(x))[0])
        raise DataError(f"{name} has the value {x[where]} at index {where}; clean the data first")
    return x


def _uneven(X: Any, name: str) -> str | None:
    """Which member of nested lists has another length than the first."""
    if not isinstance(X, (list, tuple)):
        return None
    within = next(filter(None, (_uneven(x, f"{name}[{i}]") for i, x in enumerate(X))), None)
    if within is not None:
        return within
    shapes = [np.shape(x) for x in X]
    i = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if i is None:
        return None
    return f"{name}[{i}] has shape {shapes[i]} and {name}[0] has {shapes[0]}: the rows of an array have one length"


def _nonempty(x: np.ndarray, name: str) -> None:
    if x.shape[0] == 0:
        raise DataError(f"{name} holds no inputs (shape {x.shape})")
    if x.ndim == 3 and x.shape[1] == 0:
        raise DataError(f"{name} is an empty sequence; its length must be at least 1")
    if x.shape[-1] == 0:
        raise DataError(f"{name} has feature dimension 0 (shape {x.shape})")


def gram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ξ·ξ'/d of vectors along the last axis; the other axes broadcast."""
    with np.errstate(over="ignore"):
        if a.shape[:-1] == b.shape[:-1] or a.ndim != 3:
            return np.einsum("...d,...d->...", a, b) / a.shape[-1]  # type: ignore[no-any-return]
        return a[:, 0] @ b[0].T / a.shape[-1]  # type: ignore[no-any-return]


def input_relation(
    a: np.ndarray, b: np.ndarray, aa: np.ndarray, bb: np.ndarray, ab: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """1 - |cos| of the angle of input vectors x, y, and |x|/|y| - 1: from the vectors where ab is too coarse.

    With y's part orthogonal to x, y⊥ = y - x (x·y)/(x·x): sin = |y⊥|/|y| and 1 - |cos| = sin²/(1 + √(1 - sin²));
    |x|²/|y|² - 1 = (x - y)·(x + y)/|y|².

    Args:
        a, b: vectors along the last axis, whose other axes, at least one, broadcast.
        aa, bb, ab: their inner products, divided by any common factor.

    Returns:
        Two arrays of the broadcast shape; the first is 0 for repeated vectors, 1 where one is 0.

    >>> x, y = np.array([[1.0, 1.0]]), np.array([[1.0, 1.0 + 2**-30]])
    >>> one = np.array([2.0])
    >>> [bool(abs(v[0] / w - 1) < 1e-8) for v, w in zip(input_relation(x, y, one, one, one), (2**-63, -(2**-31)))]
    [True, True]
    """
    angles = gap(aa, bb, ab)
    lengths = np.array(np.broadcast_to(stretch(aa, bb), angles.shape))
    where = np.nonzero(near(aa, bb, ab))
    if not len(where[0]):
        return angles, lengths
    columns = [*_scaled(a), *_scaled(b)]
    width = max(1, CHUNK // a.shape[-1])
    for start in range(0, len(where[0]), width):
        rows = tuple(w[start : start + width] for w in where)
        angles[rows], found = _compare(*(np.broadcast_to(v, (*angles.shape, v.shape[-1]))[rows] for v in columns))
        lengths[rows] = np.where(np.isfinite(found), found, lengths[rows])
    return angles, lengths


def _compare(
    x: np.ndarray, xx: np.ndarray, size: np.ndarray, y: np.ndarray, yy: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of rows; y⊥ is taken twice: first with products in two floats, then of what is left."""
    product, error = two_product(x, _dot(x, y) / xx)
    rest = (y - product) - error
    rest -= x * (_dot(rest, x) / xx)
    sine = _dot(rest, rest) / yy
    if np.any(sine < ROUNDED):
        sine = np.where((sine < ROUNDED) & _parallel(x, y), 0.0, sine)
    with np.errstate(over="ignore", invalid="ignore"):
        x = x * np.ldexp(1.0, size - other)
        growth = _dot(x - y, x + y) / yy
        return (sine / (1 + np.sqrt(1 - sine)))[..., 0], (growth / (1 + np.sqrt(1 + growth)))[..., 0]


def _parallel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether rows are exactly parallel: x_i y = y_i x at the largest x_i, with products in two floats."""
    i = np.abs(x).argmax(axis=-1)[..., None]
    first = two_product(np.take_along_axis(x, i, -1), y)
    other = two_product(np.take_along_axis(y, i, -1), x)
    same = (first[0] == other[0]) & (first[1] == other[1])
    return np.all(same, axis=-1, keepdims=True)  # type: ignore[no-any-return]


def _scaled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors divided by powers of two, so that squares neither over- nor underflow; squares and exponents."""
    exponent = np.frexp(np.abs(x).max(axis=-1, keepdims=True))[1]
    x = np.ldexp(x, -exponent)
    return x, _dot(x, x), exponent


def _dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("...d,...d->...", x, y)[..., None]  # type: ignore[no-any-return]
