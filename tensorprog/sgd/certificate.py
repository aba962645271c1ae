"""The certificate of NTKTRAIN: derived changes of f beside what a kernel predicts, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp

from tensorprog.algebra import Poly, to_sympy
from tensorprog.given import flag
from tensorprog.limit.equations import HEADS, as_equations, reachable, unfold
from tensorprog.limit.evaluate import DIGITS, fingerprint
from tensorprog.printing import NameSymbol, Shown, latex, text
from tensorprog.sgd.hypotheses import Hypothesis


@dataclass(frozen=True)
class Row:
    """One line of a certificate: the change of f at a step, the predicted one, and whether they are equal.

    ``formula`` is the prediction in terms of the kernel, such as −η χ₀ K(x,ξ0); None where there is none.
    """

    symbol: NameSymbol
    change: Poly
    prediction: Poly | None
    formula: sp.Expr | None
    equal: bool | None


class Certificate(Shown):
    """The verdict on f_{t+1} − f_t = −Σ c χ K for every step and test input.

    Attributes:
        title: what was trained, and how.
        statement: what is compared.
        rows: one for each step, test input and output.
        kernels: the K's of the predictions, by their symbols.
        hypotheses: what the theorem asks for and the network lacks, or has for some inputs only.
    """

    def __init__(
        self,
        title: str,
        rows: list[Row],
        kernels: dict[NameSymbol, Poly],
        statement: str,
        hypotheses: Sequence[Hypothesis] = (),
    ) -> None:
        self.title, self.rows, self.kernels, self.statement = title, rows, kernels, statement
        self.hypotheses = list(hypotheses)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: generators before what depends on them, so that no depth of equations is a depth of calls."""
        polys = [p for r in self.rows for p in (r.change, r.prediction) if p is not None]
        return {"_generators": reachable([*self.kernels.values(), *polys]), **self.__dict__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({k: v for k, v in state.items() if k != "_generators"})

    @property
    def passed(self) -> bool | None:
        """Whether the change of f was equal to the prediction at every step.

        None where there is no prediction, and where the equations agree but a hypothesis of the theorem is not met.
        """
        if any(r.equal is False for r in self.rows):
            return False
        unmet = any(h.holds is False for h in self.hypotheses)
        return None if unmet or any(r.equal is None for r in self.rows) else True

    @property
    def equations(self) -> list[sp.Eq]:
        """The named equations behind changes and kernels, the kernels, and the derived changes."""
        results = [(s, p) for s, p in self.kernels.items()] + [(r.symbol, r.change) for r in self.rows]
        return [
            *as_equations([p for _, p in results]),
            *(sp.Eq(symbol, to_sympy(p), evaluate=False) for symbol, p in results),
        ]

    @property
    def heading(self) -> str:
        """What is compared, and how."""
        compared = any(r.equal is not None for r in self.rows)
        return f"{self.statement.removesuffix(':')} ({DIGITS}):" if compared else self.statement

    def text(self, equations: bool = False) -> str:
        """Hypotheses first, then verdicts and differing terms of all rows; with ``equations``, the formulas too."""
        lines = [self.title, *(f"  {h}" for h in self.hypotheses), self.heading]
        if flag(equations, "equations"):
            lines += ["", *(f"  {e.lhs} = {text(e.rhs)}" for e in self.equations), ""]
        for r in self.rows:
            verdict = {True: "equal", False: "NOT EQUAL", None: "derived"}[r.equal]
            shown = to_sympy(r.change) if r.formula is None else r.formula
            lines.append(f"  {verdict:<10} {r.symbol} {'≠' if r.equal is False else '='} {text(shown)}")
            if r.equal is False and r.prediction is not None:
                lines += [f"      {line}" for line in differing_terms(r.change, r.prediction)]
        return "\n".join(lines)

    def latex(self) -> str:
        r"""Equations, changes and predictions as an ``align*`` environment; hypotheses are comments before it."""
        lines = [rf"{latex(e.lhs)} &= {latex(e.rhs)}" for e in self.equations]
        relation = {True: "=", False: r"\neq"}
        lines += [
            rf"{latex(r.symbol)} &{relation[r.equal]} {latex(r.formula)}" for r in self.rows if r.equal is not None
        ]
        said = "".join(f"% {h}\n" for h in self.hypotheses)
        return said + "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"

    def _repr_latex_(self) -> str:
        return self.latex()


def differing_terms(p: Poly, q: Poly, most: int = 6) -> list[str]:
    """The terms of two unequal quantities that have no equal partner on the other side."""
    sides = [_terms(p), _terms(q)]
    keys = [[mpmath.nstr(value, 40) for value in fingerprint(side)] for side in sides]
    lines = []
    for name, own, other in (("derived", 0, 1), ("predicted", 1, 0)):
        alone = [t for t, key in zip(sides[own], keys[own], strict=True) if key not in keys[other]]
        shown = [text(to_sympy(t)) for t in alone[:most]]
        more = [f"and {len(alone) - most} more"] if len(alone) > most else []
        lines.append(f"only {name}: " + ("; ".join([*shown, *more]) or "nothing"))
    return lines


def _terms(p: Poly) -> list[Poly]:
    """The monomials of a quantity, with all names but those of covariances unfolded while that stays short."""
    return [Poly({mono: c}) for mono, c in unfold(p, HEADS.keys() - {"cov"}, most=500).terms.items()]
