"""Sampling a program at width n."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import sympy as sp
from scipy import special

from tensorprog.dsl.parameters import Parameter
from tensorprog.dsl.program import Mat, Vec
from tensorprog.errors import AssumptionError, DataError, ProgramError, nearest, shortly
from tensorprog.files import check_memory, read_memory
from tensorprog.finite.execute import Values, execute
from tensorprog.functions import evaluate
from tensorprog.given import MANY
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.graph import ProgramGraph, Variable, as_var, check_program
from tensorprog.ir.hyper import program_symbols, symbol_values
from tensorprog.ir.instructions import InitMatrix, InitVector, Var
from tensorprog.limit.covariance import cholesky
from tensorprog.printing import Shown, counted, shortened
from tensorprog.types import Data, HyperValues

MOST = {"width": 10**9, "seeds": MANY}
MEMORY = 2**30


def stream(seed: int, name: str, width: int) -> np.random.Generator:
    """The random stream of one named initial variable: independent of other names, seeds and widths."""
    return np.random.default_rng(np.random.SeedSequence([seed, width, *name.encode()]))


class Run(Shown):
    """Values of a program's variables: ``run[x]`` is an array (n,) or, for many seeds, (S, n)."""

    def __init__(self, values: Values, single: bool) -> None:
        self._values, self._single = values, single

    def text(self) -> str:
        """Width and seeds; of every vector the mean and the root mean square of its coordinates; every scalar."""
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return shortened(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.title
        yield from (f"  {name}: {words}" for name, words in self.rows())

    @property
    def title(self) -> str:
        """The width, and how many seeds."""
        vectors = [v for k, v in self._values.items() if k.kind == "vector"]
        width = f" at width {vectors[0].shape[-1]}" if vectors else ""
        seeds = "" if self._single else f", {counted(len(next(iter(self._values.values()), ())), 'seed')}"
        return f"run of a program{width}{seeds}"

    def rows(self) -> Iterator[tuple[str, str]]:
        """Vectors and scalars by name, with what they are in words."""
        for var, value in self._values.items():
            if var.kind == "vector":
                size = np.sqrt(np.mean(np.square(value, dtype=float)))
                yield var.name, f"mean {np.mean(value):+.4g}, root mean square {size:.4g}"
            elif var.kind == "scalar":
                spread = "" if self._single else f", standard deviation {np.std(value):.2g}"
                yield var.name, f"{np.mean(value):.6g}{spread}"

    @overload
    def __getitem__(self, x: Mat | Vec) -> np.ndarray: ...
    @overload
    def __getitem__(self, x: Variable) -> Any: ...
    def __getitem__(self, x: Variable) -> Any:
        var = as_var(x)
        if var not in self._values:
            raise ProgramError(f"{var} has no value in this run (matrices are not kept when there are many seeds)")
        value = self._values[var]
        if var.kind == "scalar":
            return float(value[0, 0]) if self._single else value[:, 0]
        return value[0] if self._single else value


def sample(
    program: ProgramGraph,
    width: int,
    seed: int = 0,
    values: HyperValues | None = None,
    dtype: npt.DTypeLike = np.float64,
    seeds: int | None = None,
    memory: float | str = MEMORY,
    initial: Mapping[str, Data] | Mapping[Vec, Data] | Mapping[Mat, Data] | None = None,
) -> Run:
    """Run a program at width n with freshly drawn initial matrices and vectors, or with given ones.

    Args:
        program: the program.
        width: n.
        seed: of the random streams; one program, width and seed always give the same numbers.
        values: numbers for hyperparameter symbols, by symbol or by name.
        dtype: ``float64`` or ``float32``.
        seeds: None for one run; a number S for S runs (seeds seed, .., seed+S−1) at once.
        memory: bound in bytes on the matrices held at a time, as a number or such as "4GB".
        initial: arrays by name or handle, for a matrix (n, n) as it multiplies, for a vector (n,): orthogonal or
            uniform matrices, say; with ``seeds``, also one for each seed, (S, n, n) or (S, n). The others are drawn
            as if all were, so that a given vector is not correlated with them.

    Returns:
        ``run[x]``: array (n,) or (S, n) for a vector, a float or (S,) for a scalar.

    Raises:
        DataError: a hyperparameter has no value, a covariance is not positive semidefinite, or a given array has
            no place in the program or another shape.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W @ x
    >>> tp.sample(p, width=256, seed=1)[x].shape
    (256,)
    >>> run = tp.sample(p, width=256, seed=1, initial={"W": np.eye(256)})
    >>> bool((run[y] == run[x]).all())
    True
    """
    check_program(program, "tp.sample")
    if program.has_axes:
        raise AssumptionError(
            "tp.sample draws single vectors, and this program has one at every position of its inputs; "
            "tp.empirical_ntk(net, X, ..) runs networks on images"
        )
    check_settings(width, seed, seeds, dtype)
    memory = read_memory(memory)
    hyper = symbol_values(values, lambda: program_symbols(program))
    given = _given(program, initial, width, seeds, dtype)
    parts, run = [], dependent_products(program)
    matrices = sum(v.kind == "matrix" for v, _ in program)
    each = matrices * width**2 + (len(program) - matrices) * width
    for batch in batches(each, width, seed, seeds or 1, dtype, memory):
        start = _initial(program, width, batch, hyper, dtype, given)
        rows = slice(batch[0] - seed, batch[-1] - seed + 1)
        start |= {
            v: a[rows] if len(a) > 1 else np.broadcast_to(a, (len(batch), *a.shape[1:])) for v, a in given.items()
        }
        parts.append((len(batch), execute(run, start, hyper)))
    if seeds is None:
        return Run(parts[0][1], single=True)
    kept = (v for v, _ in program if v.kind != "matrix")
    return Run({v: _join([(count, part[v]) for count, part in parts]) for v in kept}, single=False)


def _given(
    program: ProgramGraph, initial: Mapping[Any, Any] | None, width: int, seeds: int | None, dtype: Any
) -> Values:
    """The arrays of ``initial``, checked, with a leading axis of one entry for all seeds or one for each."""
    if initial is not None and not isinstance(initial, Mapping):
        raise DataError(f"initial must map names to arrays, got {type(initial).__name__}")
    places = {v.name: v for v, op in program if isinstance(op, InitMatrix | InitVector)}
    result: Values = {}
    for key, value in (initial or {}).items():
        name = key if isinstance(key, str) else str(getattr(key, "var", key))
        if name not in places or getattr(key, "transpose", False):
            raise DataError(
                f"initial: the program has no initial matrix or vector {shortly(name)}; {nearest(name, places)}"
            )
        shape = (width,) * (2 if places[name].kind == "matrix" else 1)
        allowed = [shape] if seeds is None else [shape, (seeds, *shape)]
        try:
            array = np.asarray(value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"initial: {shortly(name)} is not an array of numbers: {error}") from error
        if array.shape not in allowed:
            raise DataError(
                f"initial: {shortly(name)} has shape {array.shape}; it must be {' or '.join(map(str, allowed))}"
            )
        if not np.isfinite(array).all():
            raise DataError(f"initial: {shortly(name)} has entries that are not finite")
        result[places[name]] = array if array.ndim > len(shape) else array[None]
    return result


def check_settings(width: Any, seed: Any, seeds: Any, dtype: Any) -> None:
    """Refuse widths, seeds and dtypes that cannot be run.

    Raises:
        DataError: naming the one that cannot.
    """
    for what, value, least in (("width", width, 1), ("seed", seed, 0), ("seeds", seeds, 1)):
        if what == "seeds" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise DataError(f"{what} must be a {'positive' if least else 'nonnegative'} integer, got {shortly(value)}")
        if value > MOST.get(what, value):
            raise DataError(f"{what} must be at most {MOST[what]}, got {value}")
    try:
        known = np.dtype(dtype) in (np.dtype("float32"), np.dtype("float64"))
    except TypeError:
        known = False
    if dtype is None or not known:
        raise DataError(f"dtype must be float64 or float32, got {shortly(dtype)}")


def at_once(numbers: int, width: int, dtype: Any, memory: int = MEMORY) -> int:
    """How many runs at width n fit into ``memory`` bytes, where one holds so many numbers; at least one.

    Raises:
        DataError: one alone is more than this machine's memory.
    """
    each = numbers * np.dtype(dtype).itemsize
    check_memory(each, f"a run at width {shortly(width)}", "give a smaller width")
    return max(1, int(memory // max(each, 1)))


def batches(numbers: int, width: int, seed: int, seeds: int, dtype: Any, memory: int = MEMORY) -> Iterator[list[int]]:
    """The seeds in batches that fit into ``memory`` bytes."""
    size = at_once(numbers, width, dtype, memory)
    for start in range(0, seeds, size):
        yield [seed + s for s in range(start, min(start + size, seeds))]


def _join(parts: list[tuple[int, Any]]) -> Any:
    return np.concatenate([np.broadcast_to(value, (count, *value.shape[1:])) for count, value in parts])


def _initial(
    program: ProgramGraph,
    width: int,
    seeds: list[int],
    hyper: Mapping[sp.Symbol, float],
    dtype: Any,
    given: Collection[Var] = (),
) -> Values:
    values: Values = {}
    for var, op in program:
        if isinstance(op, InitMatrix) and var not in given:
            std = np.sqrt(_checked(op.variance, hyper, f"the variance of {var}") / width)
            values[var] = normal(seeds, var.name, (width, width), dtype) * np.asarray(std, dtype)
    values.update(_vectors(program, width, seeds, hyper, dtype))
    return values


def normal(seeds: list[int], name: str, shape: tuple[int, ...], dtype: Any, width: int | None = None) -> np.ndarray:
    """Standard normal draws (S, *shape) from the stream of ``name`` for each seed, at width shape[0] unless given."""
    out = np.empty((len(seeds), *shape), dtype)
    for k, s in enumerate(seeds):
        stream(s, name, width or shape[0]).standard_normal(dtype=np.dtype(dtype).type, out=out[k])
    return out


def draw_parameter(
    name: str, p: Parameter, shape: tuple[int, ...], seeds: list[int], hyper: Mapping[sp.Symbol, float], dtype: Any,
    width: int | None = None,
) -> np.ndarray:  # fmt: skip
    """w of W = W_0 + std · w/√n at first, (S, *shape): N(0, 1), or what its given start says; width as for ``normal``.

    Raises:
        DataError: a start that is not 0 and a std that is.
    """
    if p.start is None:
        drawn = normal(seeds, name, shape, dtype, width)
        return drawn if p.law is None else p.law.entries(special.ndtr(drawn)).astype(dtype)
    start = float(evaluate(p.start, hyper)) if p.kind == "bias" else 0.0
    std = float(evaluate(p.std, hyper))
    if start and not std:
        raise DataError(f"{name} starts at {start:g} and has std 0, so that it does not train: add the number instead")
    return np.full((len(seeds), *shape), start / std if start else 0.0, dtype)


def _vectors(
    program: ProgramGraph, width: int, seeds: list[int], hyper: Mapping[sp.Symbol, float], dtype: Any
) -> Values:
    initial = [(v, op) for v, op in program if isinstance(op, InitVector)]
    root = cholesky(initial, lambda expr: evaluate(expr, hyper))
    noise = [normal(seeds, v.name, (width,), dtype) for v, _ in initial]
    result: Values = {}
    for i, (v, op) in enumerate(initial):
        total = np.full((len(seeds), width), evaluate(op.mean, hyper), dtype)
        for coefficient, draws in zip(root[i], noise, strict=True):
            if coefficient:
                total += np.asarray(coefficient, dtype) * draws
        result[v] = total
    return result


def _checked(expr: sp.Expr, hyper: Mapping[sp.Symbol, float], what: str) -> float:
    value = float(evaluate(expr, hyper))
    if not (np.isfinite(value) and value >= 0):
        raise DataError(f"{what} is {value}; it must be finite and not negative")
    return value
