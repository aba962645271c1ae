"""The exact limit of a linear program, by numbers: vectors are their coordinates in orthonormal base Gaussians.

In a program whose Nonlins are linear in the vectors and whose Moments are quadratic forms, every Z is a combination
of the base Gaussians g_k, so that E Z^x Z^y is the inner product of coordinates.  This is the sampling interpreter
with the Gaussian g_k "sampled" as the k-th unit vector and means replaced by sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.program import trace
from tensorprog.errors import NoRuleError
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.hyper import program_symbols, symbol_values
from tensorprog.ir.instructions import InitVector, MatMul, Moment, Nonlin, vector_slot
from tensorprog.limit.sampling import Estimate, Replicate, SampledLimit


class LinearLimit(SampledLimit):
    """The limit of a program that is linear in its vectors, exact to rounding.

    Args:
        program: without constants among its vectors; Nonlins linear, Moments quadratic in them.
        values: numbers for hyperparameter symbols, by symbol or by name.

    Raises:
        NoRuleError: the program is not linear, with the instruction that is not.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W.T @ (W @ x)
    >>> float(tp.limit(p, method="linear").cov(y, y))
    2.0
    """

    def __init__(self, program: ProgramGraph, values: Mapping[Any, float] | None = None) -> None:
        self.program, self._hyper = program, symbol_values(values, lambda: program_symbols(program), more=True)
        for var, op in program:
            if isinstance(op, (Nonlin, Moment)) and op.args:
                _check(op.body, len(op.args), 1 if isinstance(op, Nonlin) else 2, var.name)
            elif isinstance(op, InitVector) and op.mean != 0:
                raise NoRuleError(f"`{var}` has the mean {op.mean}; linear programs have centred vectors")
        count = sum(isinstance(op, (InitVector, MatMul)) for _, op in program)
        self._run = Replicate(program, np.eye(count), self._hyper, np.ones(count))

    @property
    def samples(self) -> int:
        """None: the limit is exact."""
        return 0

    @property
    def _how(self) -> str:
        return "linear algebra, exact to rounding"

    def mean(self, x: Any) -> Estimate:
        """E Z^x, which is 0."""
        self._z(self._run, x)
        return Estimate(0.0)

    def cov(self, x: Any, y: Any) -> Estimate:
        """Cov(Z^x, Z^y)."""
        return self.E(lambda a, b: a * b, x, y)

    def E(self, fn: Any, *vectors: Any) -> Estimate:
        """E ψ(Z^{x¹}, .., Z^{x^k}) for a quadratic form ψ."""
        _check(trace(fn, len(vectors)), len(vectors), 2, "the function")
        return super().E(fn, *vectors)

    def _estimate(self, question: Callable[[Replicate], Any]) -> Estimate:
        return Estimate(float(question(self._run)))


def _check(body: sp.Expr, operands: int, degree: int, name: str) -> None:
    slots = [vector_slot(i) for i in range(operands)]
    try:
        degrees = {sum(m) for m in sp.Poly(body, *slots).monoms()} if body != 0 else {degree}
    except sp.PolynomialError:
        degrees = set()
    if degrees != {degree}:
        raise NoRuleError(f"`{name}` := {body} is not {'linear' if degree == 1 else 'a quadratic form'} in its vectors")
