"""Folded recursions at infinite depth: the limit of a kernel in the number of layers, with its error.

Near a fixed point the kernel moves by increments d_{l+1} = r d_l: of an NTK, Θ^{l+1} = σ_w² Σ̇ Θ^l + S^l is affine with
slope r = σ_w² Σ̇ once the Σ's stand still, and its fixed point is Θ^l + d_l r/(1 − r) at any such l (Aitken 1926).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from tensorprog.derivation.kernel_account import KernelAccount
from tensorprog.errors import AccuracyError, AssumptionError, DataError, shortly

DEPTHS = (16, 32, 64, 128, 256, 512)
SETTLED = 256  # depth from which the ratio of increments, extrapolated in 1/depth, decides
STILL = 1e-14  # increments that are rounding, relative to the largest entry
ROUNDING = 64 * 2.0**-52


@dataclass(frozen=True)
class _Step:
    """The kernel at a depth, its extrapolated fixed point, and the ratio of its last increments by entry."""

    value: np.ndarray
    last: np.ndarray
    ratio: np.ndarray


def fixed_point(kernel_at: Callable[[int], np.ndarray], rtol: float) -> KernelAccount:
    """The limit of ``kernel_at(depth)``, found at two depths, of which the second is twice the first.

    Args:
        kernel_at: the Gram matrix at a depth.
        rtol: how far, relative to the largest entry, the limits found from the two depths may be apart.

    Raises:
        AssumptionError: the increments do not contract, so that there is no fixed point.
        AccuracyError: they contract too slowly for the tolerance.
    """
    if not isinstance(rtol, Real) or not 0 < rtol < 1:
        raise DataError(f"rtol must be a number between 0 and 1, got {shortly(rtol)}")
    before, rate = None, 0.0
    for depth in DEPTHS:
        now = _step(kernel_at, depth)
        rate = float(now.ratio.max()) or rate
        if before is not None:
            _check(now, before, depth)
            error = np.abs(now.value - before.value) + ROUNDING * np.abs(now.last) / (1 - min(rate, 0.999))
            if np.all(error <= rtol * np.abs(now.value).max()):
                return KernelAccount(now.value, error, False, (f"recursion to depth {depth}, contraction {rate:.3g}",))
        before = now
    raise AccuracyError(
        f"the kernel has not come to rest at depth {DEPTHS[-1]}: its increments shrink by {rate:.6f} a layer, more "
        "slowly than a fixed point with this tolerance asks for; give a larger rtol, or look at finite depths"
    )


def _step(kernel_at: Callable[[int], np.ndarray], depth: int) -> _Step:
    """Aitken's extrapolation from three depths; where increments are rounding, the kernel as it is."""
    try:
        a, b, c = (kernel_at(depth + k) for k in range(3))
    except DataError as error:
        raise AssumptionError(f"the kernel diverges with depth, it has no fixed point: {error}") from error
    first, second = b - a, c - b
    moves = np.abs(first) > STILL * np.abs(c).max()
    ratio = np.where(moves, second / np.where(moves, first, 1.0), 0.0)
    slope = np.where(ratio < 1, ratio / np.where(ratio < 1, 1 - ratio, 1.0), 0.0)
    return _Step(c + second * slope, c, np.abs(ratio))


def _check(now: _Step, before: _Step, depth: int) -> None:
    """Refuse increments that do not shrink; their ratio tends to its limit like 1/depth at the slowest."""
    limit = 2 * now.ratio - before.ratio
    if not (limit > (1 - 1e-6 if depth >= SETTLED else 1.02)).any() or depth <= DEPTHS[1]:
        return
    i, j = (int(k) for k in np.unravel_index(int(np.argmax(limit)), limit.shape))
    raise AssumptionError(
        f"the recursion does not contract: the increments of entry [{i}, {j}] change by {now.ratio[i, j]:.6g} a layer "
        f"at depth {depth} (the slope σ_w² E φ'φ' of Θ, or that of Σ, is 1 or more), so that there is no fixed "
        "point; take smaller weights, or a finite depth"
    )
