"""Gram matrices of arrays that live elsewhere: torch, CuPy and JAX, by the Array API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorprog.compile.arrays import NEAR, host
from tensorprog.compile.tape import LEFT, RIGHT
from tensorprog.compile.vectors import Vectors
from tensorprog.derivation.data import SHARE, Inputs, check_scale, read_pair
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.kernel_account import warn
from tensorprog.derivation.route import is_sampled
from tensorprog.errors import ComputeError, DataError, NoRuleError
from tensorprog.grams.evaluator import AnyKernel, Evaluator, infinite

ROWS = 2**24  # pairs computed at once
LIST = 2**22  # numbers of a list of pairs that are read at once


def namespace(X: Any) -> Any:
    """The library of an array that is not NumPy's; None for everything else."""
    module = type(X).__module__.split(".")[0]
    if module == "numpy" or not (module in ("torch", "cupy") or hasattr(X, "__array_namespace__")):
        return None
    try:
        from array_api_compat import array_namespace
    except ImportError as error:
        raise ComputeError(f"arrays of {module} need array-api-compat: pip install 'tensorprog[arrays]'") from error
    return array_namespace(X)


def gram_on_device(make: Callable[..., Evaluator], kernels: Sequence[AnyKernel], hyper: dict[Any, float], xp: Any,
                   X1: Any, X2: Any, dtype: Any, again: Callable[..., Any]) -> list[Any]:  # fmt: skip
    """The kernels between arrays of one library, as arrays of it on the same device; over positions by way of the host.

    Args:
        make: compiles kernels; those that are sampled are computed on the host.
        kernels, hyper: what to compute, with numbers for hyperparameters.
        xp: the library.
        X1, X2: inputs; X2 is None for X1 with itself.
        dtype: to which inputs and results are rounded.
        again: computes the kernels of NumPy arrays.

    Raises:
        NoRuleError: the network takes sequences or named vectors.
    """
    if X2 is not None and namespace(X2) is not xp:
        raise DataError(f"X1 is a {_kind(X1)} and X2 a {_kind(X2)}; both must be arrays of one library")
    if kernels[0].net.takes_axes:
        return _by_host(again, xp, X1, X2)
    if kernels[0].net.form != "vectors":
        raise NoRuleError(f"{kernels[0].net.form} are computed from NumPy arrays only")
    a = _read(xp, X1, "X1", dtype)
    b = a if X2 is None else _read(xp, X2, "X2", dtype)
    if a.device != b.device:
        raise DataError(f"X1 is on {a.device} and X2 on {b.device}; both must be on one device")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"X1 has feature dimension {a.shape[1]} and X2 {b.shape[1]}; they must agree")
    ends = read_pair(host(a[:1, :]), host(b[-1:, :]), "vectors")
    drawn = {k for k in kernels if isinstance(k, DerivedKernel) and is_sampled(k, *ends, hyper)}
    others = tuple(k for k in kernels if k not in drawn)
    compiled = make(others, (None, None), hyper, "numpy") if others else None
    found = iter(_compiled(compiled, xp, a, None if X2 is None else b, dtype) if compiled else [])
    return [_drawn(k, hyper, xp, a, None if X2 is None else b, dtype) if k in drawn else next(found) for k in kernels]


def _by_host(again: Callable[..., Any], xp: Any, X1: Any, X2: Any) -> list[Any]:
    for X, name in ((X1, "X1"), (X2, "X2")):
        _refuse_gradients(X, name)
    found = again(host(X1), None if X2 is None else host(X2))
    return [xp.asarray(value, device=X1.device) for value in found]


def _drawn(kernel: DerivedKernel, hyper: dict[Any, float], xp: Any, a: Any, b: Any, dtype: Any) -> Any:
    """A sampled kernel, on the host, with its warning."""
    account = kernel._found(*read_pair(host(a), None if b is None else host(b), "vectors"), hyper)
    warn(account, repr(kernel), kernel._advice(account))
    return xp.asarray(account.value.astype(dtype), device=a.device)


def _compiled(evaluator: Evaluator, xp: Any, a: Any, other: Any, dtype: Any) -> list[Any]:
    b = a if other is None else other
    left, right = _values(evaluator, xp, a, LEFT, (-1, 1)), _values(evaluator, xp, b, RIGHT, (1, -1))
    u = _directions(xp, a)
    v = u if other is None else _directions(xp, b)
    width = max(1, ROWS // b.shape[0])
    blocks = [_block(evaluator, xp, i, min(i + width, a.shape[0]), (a, b), (u, v), (left, right), other is None)
              for i in range(0, a.shape[0], width)]  # fmt: skip
    kind, results = getattr(xp, dtype.name), []
    for k, kernel in enumerate(evaluator.kernels):
        with np.errstate(over="ignore"):
            results.append(xp.concat([xp.astype(block[k], kind) for block in blocks]))
        if not bool(xp.all(xp.isfinite(results[-1]))):
            raise infinite(kernel, dtype)
    return results


def _kind(X: Any) -> str:
    return f"{type(X).__module__}.{type(X).__name__}"


def _refuse_gradients(X: Any, name: str) -> None:
    if getattr(X, "requires_grad", False):
        raise DataError(f"{name} tracks gradients, which Gram matrices have none of; pass {name}.detach()")


def _read(xp: Any, X: Any, name: str, dtype: Any) -> Any:
    if X.ndim != 2 or 0 in X.shape:
        raise DataError(f"{name} must have shape (N, d) with N, d > 0, got {tuple(X.shape)}")
    if not xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
        raise DataError(f"{name} must hold real numbers, got dtype {X.dtype}")
    _refuse_gradients(X, name)
    if "float64" not in xp.__array_namespace_info__().dtypes(device=X.device, kind="real floating"):
        raise ComputeError(
            f"{xp.__name__} has no float64 on {X.device}, and kernels are computed in it (dtype='float32' too: only "
            "inputs and results are single then); for JAX: jax.config.update('jax_enable_x64', True)"
        )
    with np.errstate(over="ignore"):
        x = xp.astype(xp.astype(X, getattr(xp, dtype.name)), xp.float64)
        if not bool(xp.all(xp.isfinite(x))):
            raise DataError(f"{name} holds a NaN or an infinity as {dtype.name}; clean the data first")
        large = host(xp.sum(x * x, axis=1)) > SHARE * float(np.finfo(dtype).max)
    if large.any():
        i = np.flatnonzero(large)[:1]
        check_scale(Inputs({None: host(x)[i, None]}, {None: i}, x.shape[1]), name, dtype)
    return x


def _values(evaluator: Evaluator, xp: Any, x: Any, side: int, shape: tuple[int, int]) -> dict[int, Any]:
    own = host(xp.sum(x * x, axis=1))[:, None] ** 0.5  # per input only the size matters
    values = evaluator.program.per_input(Vectors((own / x.shape[1] ** 0.5)[:, None]), side)
    return {i: xp.asarray(np.reshape(v, shape), device=x.device) if np.ndim(v) else float(v) for i, v in values.items()}


def _directions(xp: Any, x: Any) -> Any:
    """Rows divided by their lengths, by their largest entries first, whose squares do not underflow."""
    for size in (lambda r: xp.max(xp.abs(r), axis=1, keepdims=True),
                 lambda r: xp.sqrt(xp.sum(r * r, axis=1, keepdims=True))):  # fmt: skip
        s = size(x)
        x = x / xp.where(s > 0, s, s * 0 + 1)
    return x


def _block(evaluator: Evaluator, xp: Any, start: int, stop: int, data: Any, units: Any, tables: Any, own: bool) -> Any:
    """Rows start..stop; the cosines are of float64, since libraries round factors of float32 on GPUs (TF32)."""
    cosines = units[0][start:stop, :] @ units[1].T
    left = {i: v[start:stop, :] if getattr(v, "ndim", 0) and v.shape[0] > 1 else v for i, v in tables[0].items()}
    known = dict.fromkeys(evaluator.program.units, cosines)
    near = NEAR, 0.0 if data[0].shape[1] == 1 else NEAR
    values = [v + 0 * cosines for v in evaluator.program.on_pairs(known, left, tables[1], near, xp)]
    if own:
        values = _with_diagonal(evaluator, xp, start, values, data[0])
    if not all(bool(xp.all(xp.isfinite(v))) for v in values):
        values = _mended(evaluator, values, data[0][start:stop, :], data[1])
    return [xp.asarray(v, device=data[0].device) for v in values]


def _with_diagonal(evaluator: Evaluator, xp: Any, start: int, values: Sequence[Any], x: Any) -> list[Any]:
    """The values of each input with itself, from the host, in their places."""
    count, width = values[0].shape
    rows, columns = (xp.arange(first, last, device=x.device) for first, last in ((start, start + count), (0, width)))
    place = rows[:, None] == columns[None, :]
    own = evaluator.own_values(Vectors(host(x[start : start + count, :])[:, None]))
    columns_of = [xp.asarray(np.array(d)[:, None], device=x.device) for d in own]
    return [xp.where(place, d, v) for d, v in zip(columns_of, values, strict=True)]


def _mended(evaluator: Evaluator, values: Sequence[Any], a: Any, b: Any) -> list[np.ndarray]:
    """Pairs that cosines leave open, such as almost parallel inputs, on the host."""
    arrays = [host(v).copy() for v in values]
    rows, columns = np.nonzero(~np.all([np.isfinite(v) for v in arrays], axis=0))
    a, b = host(a), host(b)
    width = max(1, LIST // a.shape[1])
    for i, j in ((rows[k : k + width], columns[k : k + width]) for k in range(0, len(rows), width)):
        evaluator.mend_list(a[i][:, None], b[j][:, None], (i, j), arrays)
    return arrays
