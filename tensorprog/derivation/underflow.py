"""What is left of a kernel's digits where it leaves the range of normal numbers, as for inputs of size 1e-160."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.kernel_account import KernelAccount, warn
from tensorprog.dsl.network import Network

SMALL = 1e-15  # the largest entry of an input, below which results are looked at
STEPS = 8  # of the smallest number, by which each may be off
UNDERFLOW = "underflow"
ADVICE = "its numbers are below the normal ones: scale the inputs up, or what multiplies them"


def tiny(scales: Iterable[Any]) -> bool:
    """Whether one of a network's numbers is so small that products of it leave the range of normal numbers."""
    return any(isinstance(s, (float, sp.Rational)) and 0 < abs(s) < SMALL for s in scales)


def underflow(value: np.ndarray, first: Inputs, other: Inputs | None, scales: Iterable[Any] = ()) -> np.ndarray | None:
    """The errors that underflow leaves in K(X1, X2), (N1, N2); None where there are none.

    An input of zeros has a kernel of 0, and orthogonal inputs have 0 beside entries that are not: both are exact.

    Args:
        value: the matrix.
        first, other: its inputs.
        scales: the numbers of the network, its hyperparameters.
    """
    rows = _sizes(first)
    columns = rows if other is None else _sizes(other)
    limit = np.inf if tiny(scales) else SMALL
    small = [(x > 0) & (x < limit) for x in (rows, columns)]
    if not any(s.any() for s in small):
        return None
    near, both = small[0][:, None] | small[1], small[0][:, None] & small[1]
    size, some = np.abs(value), (rows > 0)[:, None] & (columns > 0)
    info = np.finfo(value.dtype)
    lost = some & (size < info.tiny) & np.where(size > 0, near, both)
    return np.where(lost, STEPS * float(info.smallest_subnormal), 0.0) if lost.any() else None


def with_underflow(account: KernelAccount, first: Inputs, other: Inputs | None,
                   scales: Iterable[Any] = ()) -> KernelAccount:  # fmt: skip
    """The account with what underflow adds to its errors."""
    error = underflow(account.value, first, other, scales)
    if error is None:
        return account
    return replace(account, error=np.maximum(account.error, error), methods=(*account.methods, UNDERFLOW))


def scales_of(net: Network, hyper: Mapping[sp.Symbol, float]) -> list[Any]:
    """The numbers of a network, those of its symbols among them."""
    return [*net.hyperparameters.values(), *hyper.values()]


def warn_of_underflow(value: np.ndarray, kernel: Any, first: Inputs, other: Inputs | None,
                      hyper: Mapping[sp.Symbol, float]) -> None:  # fmt: skip
    """Warn where numbers of a kernel (or recursion) that come without errors have lost digits."""
    error = underflow(value, first, other, scales_of(kernel.net, hyper))
    if error is not None:
        warn(KernelAccount(value.astype(float), error, False, (UNDERFLOW,)), repr(kernel), ADVICE)


def _sizes(inputs: Inputs) -> np.ndarray:
    """The largest entry of each input."""
    found = np.zeros(len(inputs))
    for t, rows in inputs.groups.items():
        found[rows] = np.abs(inputs.data[t]).reshape(len(rows), -1).max(axis=1)
    return found
