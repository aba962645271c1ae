"""The limit by whatever works: exact where a formula can be computed, sampled elsewhere, and saying which."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tensorprog.errors import AccuracyError, NoRuleError
from tensorprog.expectations.many.sobol import ERRORS
from tensorprog.ir.graph import ProgramGraph, Variable
from tensorprog.ir.hyper import program_symbols, symbol_values
from tensorprog.limit.answers import Limit
from tensorprog.limit.sampling import Estimate, SampledLimit
from tensorprog.printing import Shown, counted
from tensorprog.types import HyperValues


class AutoLimit(Shown):
    """The questions of ``Limit`` answered by numbers; ``answer.method`` is ``"exact"`` or ``"sampled"``.

    Args are those of ``SampledLimit``.

    Attributes:
        program: the program.
        values: of the hyperparameters, by symbol.
    """

    def __init__(self, program: ProgramGraph, values: HyperValues | None = None, **sampling: Any) -> None:
        self.program, self.values = program, symbol_values(values, lambda: program_symbols(program), more=True)
        self._sampling = sampling

    def text(self) -> str:
        """What it is the limit of; which method answers is seen in the answer."""
        return f"limit of a program of {counted(len(self.program), 'instruction')}, exact where it can be computed"

    @functools.cached_property
    def exact(self) -> Limit | None:
        """The exact limit; None where the program has no rule for it."""
        try:
            return Limit(self.program)
        except (NoRuleError, AccuracyError):
            return None

    @functools.cached_property
    def sampled(self) -> SampledLimit:
        """The sampled limit."""
        return SampledLimit(self.program, values=self.values, **self._sampling)

    def mean(self, x: Variable) -> Estimate:
        """E Z^x."""
        return self._answer(lambda lim: lim.mean(x))

    def cov(self, x: Variable, y: Variable) -> Estimate:
        """Cov(Z^x, Z^y)."""
        return self._answer(lambda lim: lim.cov(x, y))

    def E(self, fn: Callable[..., Any], *vectors: Variable) -> Estimate:
        """E ψ(Z^{x¹}, .., Z^{x^k})."""
        return self._answer(lambda lim: lim.E(fn, *vectors))

    def value(self, scalar: Variable) -> Estimate:
        """The limit of a scalar."""
        return self._answer(lambda lim: lim.value(scalar))

    def _answer(self, question: Callable[[Any], Any]) -> Estimate:
        try:
            if self.exact is not None:
                found = self.exact.account(question(self.exact), self.values)
                if not found.statistical:
                    return Estimate(float(found.value))
                return Estimate(float(found.value), float(found.error) / ERRORS, "sampled")
        except (NoRuleError, AccuracyError):
            pass
        return question(self.sampled)  # type: ignore[no-any-return]
