"""Gram matrices of arrays that live elsewhere: torch, CuPy and JAX, by the Array API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.compile.arrays import NEAR, host
from tensorprog.compile.tape import LEFT, RIGHT
from tensorprog.errors import ComputeError, DataError, NoRuleError
from tensorprog.kernels.gram.evaluator import Evaluator

ROWS = 2**24  # pairs computed at once


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


def gram_on_device(kernels: Sequence[Any], xp: Any, X1: Any, X2: Any, hyper: Any, dtype: Any) -> list[Any]:
    """The kernels between arrays (N, d) of one library, as arrays of it on the same device."""
    if kernels[0].net.takes_sequences:
        raise NoRuleError("sequences are computed from NumPy arrays only")
    if X2 is not None and namespace(X2) is not xp:
        raise DataError(f"X1 is a {_kind(X1)} and X2 a {_kind(X2)}; both must be arrays of one library")
    a = _read(xp, X1, "X1", dtype)
    b = a if X2 is None else _read(xp, X2, "X2", dtype)
    if a.device != b.device:
        raise DataError(f"X1 is on {a.device} and X2 on {b.device}; both must be on one device")
    evaluator = Evaluator(kernels, (None, None), hyper, "numpy")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"X1 has feature dimension {a.shape[1]} and X2 {b.shape[1]}; they must agree")
    left, right = _values(evaluator, xp, a, LEFT, (-1, 1)), _values(evaluator, xp, b, RIGHT, (1, -1))
    exact = a.dtype if evaluator.program.closed else xp.float64  # quadrature checks covariances in double
    u, v = _directions(xp, a, exact), _directions(xp, b, exact)
    width = max(1, ROWS // b.shape[0])
    blocks = [_block(evaluator, xp, i, min(i + width, a.shape[0]), (a, b), (u, v), (left, right), X2 is None)
              for i in range(0, a.shape[0], width)]  # fmt: skip
    return [xp.concat([xp.astype(part[k], getattr(xp, dtype.name)) for part in blocks]) for k in range(len(kernels))]


def _kind(X: Any) -> str:
    return f"{type(X).__module__}.{type(X).__name__}"


def _read(xp: Any, X: Any, name: str, dtype: Any) -> Any:
    if X.ndim != 2 or 0 in X.shape:
        raise DataError(f"{name} must have shape (N, d) with N, d > 0, got {tuple(X.shape)}")
    if not xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
        raise DataError(f"{name} must hold real numbers, got dtype {X.dtype}")
    if getattr(X, "requires_grad", False):
        raise DataError(f"{name} tracks gradients, which Gram matrices have none of; pass {name}.detach()")
    if "float64" not in xp.__array_namespace_info__().dtypes(device=X.device, kind="real floating"):
        raise ComputeError(
            f"{xp.__name__} has no float64 on {X.device}, and kernels are computed in it (dtype='float32' too: only "
            "inputs and results are single then); for JAX: jax.config.update('jax_enable_x64', True)"
        )
    with np.errstate(over="ignore"):
        x = xp.astype(X, getattr(xp, dtype.name))
    if not bool(xp.all(xp.isfinite(x))):
        raise DataError(f"{name} holds a NaN or an infinity as {dtype.name}; clean the data first")
    return x


def _values(evaluator: Evaluator, xp: Any, x: Any, side: int, shape: tuple[int, int]) -> dict[int, Any]:
    wide = xp.astype(x, xp.float64)
    own = host(xp.sum(wide * wide, axis=1))[:, None] ** 0.5  # per input only the size matters
    values = evaluator.program.per_input((own / x.shape[1] ** 0.5)[:, None], side)
    return {i: xp.asarray(np.reshape(v, shape), device=x.device) if np.ndim(v) else float(v) for i, v in values.items()}


def _directions(xp: Any, x: Any, dtype: Any) -> Any:
    wide = xp.astype(x, xp.float64)
    size = xp.sqrt(xp.sum(wide * wide, axis=1, keepdims=True))
    return xp.astype(wide / xp.where(size > 0, size, size * 0 + 1), dtype)


def _block(evaluator: Evaluator, xp: Any, start: int, stop: int, data: Any, units: Any, tables: Any, own: bool) -> Any:
    cosines = xp.astype(units[0][start:stop, :] @ units[1].T, xp.float64)
    left = {i: v[start:stop, :] if getattr(v, "ndim", 0) and v.shape[0] > 1 else v for i, v in tables[0].items()}
    kind = np.dtype(str(data[0].dtype).split(".")[-1])
    near = NEAR[np.dtype(np.float64)], 0.0 if data[0].shape[1] == 1 else NEAR[kind]
    known = dict.fromkeys(evaluator.program.units, cosines)
    values = evaluator.program.on_pairs(known, left, tables[1], near, xp)
    values = [v + 0 * cosines for v in values]
    if own:
        values = _with_diagonal(evaluator, xp, start, values, data[0])
    if any(bool(xp.any(xp.isnan(v))) for v in values):
        values = _mended(evaluator, values, data[0][start:stop, :], data[1])
    return [xp.asarray(v, device=data[0].device) for v in values]


def _with_diagonal(evaluator: Evaluator, xp: Any, start: int, values: Sequence[Any], x: Any) -> list[Any]:
    """The values of each input with itself, from the host, in their places."""
    count, width = values[0].shape
    rows, columns = (xp.arange(first, last, device=x.device) for first, last in ((start, start + count), (0, width)))
    place = rows[:, None] == columns[None, :]
    own = evaluator.own_values(host(x[start : start + count, :])[:, None].astype(np.float64))
    columns_of = [xp.asarray(np.ascontiguousarray(d)[:, None], device=x.device) for d in own]
    return [xp.where(place, d, v) for d, v in zip(columns_of, values, strict=True)]


def _mended(evaluator: Evaluator, values: Sequence[Any], a: Any, b: Any) -> list[np.ndarray]:
    """Pairs of almost parallel inputs, on the host."""
    arrays = [host(v).copy() for v in values]
    rows, columns = np.nonzero(np.any([np.isnan(v) for v in arrays], axis=0))
    evaluator.mend_list(host(a)[rows][:, None], host(b)[columns][:, None], (rows, columns), arrays)
    return arrays
