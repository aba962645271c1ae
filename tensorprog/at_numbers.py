"""What sympy asks of a function at a number: its digits, and whether it is real.

Max and Min refuse what is not known to be real, and powers, signs and comparisons of numbers ask for digits.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from tensorprog.errors import ProgramError, shortly

X = sp.Symbol("x", real=True)
# of families that are these, and have no definition of their own
ELEMENTARY = {"exp": sp.exp(X), "sin": sp.sin(X), "cos": sp.cos(X), "softplus": sp.log(1 + sp.exp(X))}


class AtNumbers(sp.Function):  # type: ignore[misc]
    """Digits from the formulas of a family; mpmath may have another function of that name, such as phi or zeta."""

    family: Any
    order: int

    @property
    def is_number(self) -> bool:
        """Whether it has digits: not where it is abstract or a Dirac delta."""
        family = self.family
        known = family.pieces or family.definition is not None or family.name in ELEMENTARY
        return bool(self.args[0].is_number and (known or family.numeric(self.order) is not None))

    def formula_at(self, x: sp.Expr) -> sp.Expr | None:
        """The expression in ``X`` that has this function's values around a number; None without one."""
        family = self.family
        if family.pieces:
            below = sum(_above(x, k) for k in family.kinks)
            generalised = x in family.kinks and any(family.jump(k, family.kinks.index(x)) for k in range(self.order))
            return None if generalised else sp.diff(family.pieces[below], X, self.order)
        smooth = ELEMENTARY.get(family.name) if family.definition is None else family.definition
        return None if smooth is None or family.kinks else sp.diff(smooth, X, self.order)

    def _eval_evalf(self, prec: int) -> sp.Expr | None:
        x = self.args[0]
        if not x.is_comparable:
            return None
        rule = self.family.numeric(self.order)
        formula = None if rule is not None and x in self.family.kinks else self.formula_at(x)
        if formula is None:
            return None if rule is None else sp.Float(float(rule(float(x))))
        if not formula.has(X):
            return formula
        try:
            return formula.subs(X, x)._eval_evalf(prec)
        except OverflowError as error:  # of mpmath, at exp(exp(1e308))
            raise ProgramError(f"{self.family.name} at {shortly(x)} has no digits; use smaller numbers") from error

    def _eval_is_extended_real(self) -> bool | None:
        return True if self.args[0].is_number and self.evalf(2).is_Number else None


def _above(x: sp.Expr, kink: sp.Expr) -> bool:
    """Whether x > kink; by its digits where sympy leaves the comparison, as that of a function at its own kink."""
    above = x > kink
    return bool(above if above in (sp.true, sp.false) else x.evalf(30) > kink)
