"""The correction Ż of a MatMul (TP2b Def. B.3, Remark B.6)."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tensorprog.algebra import Algebra, Gaussian, Poly
from tensorprog.ir.instructions import Var


def zdot_terms(
    zx: Poly,
    opposite: Hashable,
    variance: Poly,
    algebra: Algebra,
    mean: Callable[[Poly, Gaussian], Poly],
) -> list[tuple[Poly, Var]]:
    """The terms (a_i, y_i) of Ż^{Wx} = Σ_i a_i Z^{y_i}, a_i = σ_W² E ∂Z^x/∂Ẑ^{Wᵀy_i}.

    The derivative is that of generalized functions (step' = δ), which makes a_i equal to the Stein form
    (C⁺b)_i for kinked ψ too; where C is singular both give the same Ż, because Ẑ's that are linearly
    dependent were expressed in independent ones before (see ``Field``).

    Args:
        zx: Z^x.
        opposite: the block of the Ẑ^{Wᵀy}.
        variance: σ_W².
        algebra: takes the derivatives.
        mean: the named E of a derivative with respect to a Gaussian.
    """
    relevant = sorted((g for g in zx.support if g.block == opposite), key=lambda g: g.index)
    means = ((mean(algebra.derivative(zx, g), g), g.source) for g in relevant)
    return [(variance * m, y) for m, y in means if m]
