"""One layer of a network, or one step of time, as a map of covariances: read off the network's own folded recursion.

For two inputs of equal norms the state is q = Σ(x,x) = Σ(x',x') and c = Σ(x,x') of every vector that the recursion is
about, (q, c) ↦ (F(q), G(q, c)).  Its derivatives are exact: of V = E f(u), u ~ N(0, Σ),

    ∂V/∂Σ_ij = E ∂_i ∂_j f  (i < j),    ∂V/∂Σ_ii = (E u_i ∂_i f − Σ_{j≠i} Σ_ij E ∂_i ∂_j f)/(2 Σ_ii),

in which no second derivative by one variable stands, so that kinks do no harm, nor does c = q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, monomial
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import AssumptionError, DataError, ProgramError, nearest, shortly
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Fn, evaluate, jumps
from tensorprog.kernels.methods import nngp
from tensorprog.learn.duals import Dual, chain
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import evaluate_all
from tensorprog.recursions.folding import At, Case, Folded
from tensorprog.recursions.sizes import DEPTHS
from tensorprog.recursions.straight import GRAM, Family, Index

FAR, GENERIC = 60, 30  # a size, and a layer or time of it that is far from both ends
DRIVE = sp.Symbol("⟨x,x⟩", positive=True)
SMALLEST = 1e-14  # for variances of 0, at which the slope is that of a small one
State = np.ndarray


@dataclass(frozen=True)
class Equation:
    """One quantity of the state: its family, the equation that repeats, and its symbol."""

    family: Family
    case: Case
    symbol: sp.Symbol


class LayerMap:
    """The map of a network whose equations repeat from layer to layer, or from time to time.

    Args:
        net: an architecture.
        free: hyperparameters that become symbols, whose values are given with each question.
        over: ``"depth"`` or ``"lengths"``; lengths for networks that take sequences when None.

    Raises:
        AssumptionError: a function jumps, so that nearby inputs are torn apart at once, or equations of more than one
            kind repeat.
        FoldError: equations do not repeat.
    """

    def __init__(self, net: Network, free: Sequence[str] = (), over: str | None = None) -> None:
        check_network(net)
        if net.takes_axes:
            raise AssumptionError(
                f"the covariances of {net.name} are arrays over positions, not the numbers of a layer map"
            )
        for name in free:
            if not isinstance(name, str) or name not in net.hyperparameters:
                raise ProgramError(
                    f"{net.name} has no hyperparameter {shortly(name)}; {nearest(name, net.hyperparameters)}"
                )
        self.symbols = {name: sp.Symbol(name, positive=True) for name in free}
        self.net = Network(net.fn, {**net.hyperparameters, **self.symbols}, net.name)
        depth = next((k for k in DEPTHS if type(net.hyperparameters.get(k)) is int), None)
        chosen = ("lengths" if net.takes_sequences else "depth") if over is None else over
        if chosen not in ("depth", "lengths"):
            raise ProgramError(f"over must be 'depth' or 'lengths', got {shortly(over)}")
        self.size = "T" if chosen == "lengths" else "L"
        self.recursion = nngp(self.net).recursion(over=depth if chosen == "depth" else "lengths")
        part = next(p for p in self.recursion._parts if p.over.related in ("", "="))
        self._folded: Folded = part.folded
        self._sizes = dict.fromkeys(("L", "T", "T'"), FAR)
        found = [Equation(c.family, c, sp.Symbol(f"state{k}", positive=True))
                 for k, c in enumerate(self._folded.cases) if self._repeats(c)]  # fmt: skip
        self._states = [e for e in found if self._is_about_one(e.family) or len({*e.family.pair}) == 2]
        self.variances = [e for e in self._states if self._is_about_one(e.family)]
        self.covariances = [e for e in self._states if not self._is_about_one(e.family)]
        self._refuse_jumps(net)
        self._check(net)
        self._polys = {e.symbol: self._placed(e.case.form, self._generic(e.case)) for e in self._states}

    # ---- reading the recursion ---------------------------------------------------------------------

    def _is_about_one(self, family: Family) -> bool:
        return family.pair[0] == family.pair[1] == self._first

    @property
    def _first(self) -> str:
        return next(c.family.pair[0] for c in self._folded.cases)

    def _bounds(self, case: Case) -> list[tuple[int, int]]:
        bounds: list[tuple[int, int]] = []
        for lower, upper in zip(case.box.lower, case.box.upper, strict=True):
            before = [a for a, _ in bounds]
            bounds.append((lower(self._sizes, before), upper(self._sizes, before)))
        return bounds

    def _repeats(self, case: Case) -> bool:
        return any(a != b for a, b in self._bounds(case))

    def _check(self, net: Network) -> None:
        families = [(e.family, tuple(b for b in self._bounds(e.case) if b[0] == b[1])) for e in self._states]
        moving = max((sum(a != b for a, b in self._bounds(e.case)) for e in self._states), default=0)
        if moving != 1 or len({*families}) < len(families):
            raise AssumptionError(
                f"the equations of {net.name} are not one map that every {'time' if self.size == 'T' else 'layer'} "
                "repeats (some are about pairs of layers, or differ on the way), so that it has no fixed points"
            )
        if not self.variances or not self.covariances:
            raise AssumptionError(f"the recursion of {net.name} has no covariances that repeat")

    def _generic(self, case: Case) -> Index:
        point = tuple(a if a == b else GENERIC for a, b in self._bounds(case))
        return self._folded.layouts[case.family].index(point, self._sizes)

    def _case_at(self, family: Family, index: Index) -> tuple[Case, int | None]:
        """The equation at an index, and how far it is from the generic one; None for one that does not repeat."""
        point = tuple(index[k] or 0 for k in self._folded.layouts[family].free)
        for case in self._folded.cases:
            bounds = self._bounds(case) if case.family == family else []
            if bounds and all(a <= p <= b for p, (a, b) in zip(point, bounds, strict=True)):
                moved = [p - GENERIC for p, (a, b) in zip(point, bounds, strict=True) if a != b]
                return case, moved[0] if moved else None
        raise AssumptionError(f"{family.head}{index} has no equation")  # pragma: no cover

    def _placed(self, form: Poly, own: Index) -> Poly:
        """An equation in the state before it."""

        def leaf(g: Gen) -> Poly | None:
            if not isinstance(g, At):
                return None
            index, family = g.locate(own, self._sizes), g.family
            if family.head == GRAM[0]:
                return monomial(Scalar(DRIVE))
            if {*family.pair} != {self._first} and family.pair[0] == family.pair[1]:  # x' is such as x
                family = replace(family, pair=(self._first, self._first))
            case, moved = self._case_at(family, index)
            if moved in (None, 0):
                return self._placed(case.form, index)
            state = next((e for e in self._states if e.case is case), None)
            if state is None or moved != -1:
                raise AssumptionError(f"{self.net.name} reads two layers back, which is no map of one layer")
            return monomial(Scalar(state.symbol))

        return self.recursion._store.rebuild(form, leaf)

    def _refuse_jumps(self, net: Network) -> None:
        bodies = [g.body for g in reachable([c.form for c in self._folded.cases]) if isinstance(g, Expect)]
        jumping = sorted({type(f).__name__ for body in bodies for f in body.atoms(Fn) if jumps(type(f))})
        if jumping:
            raise AssumptionError(
                f"{', '.join(jumping)} jumps: inputs that are nearly equal are torn apart by √(1 − ρ), so that χ₁ is "
                f"infinite and {net.name} is chaotic wherever it is initialised"
            )

    # ---- numbers -----------------------------------------------------------------------------------

    def step(
        self, q: State, c: State | None, values: Mapping[str, Any], slopes: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next q, or with c the next c, and its derivatives by them.

        Args:
            q: the variances, (k, ..).
            c: the covariances, (m, ..), or None for the map of variances.
            values: of the free hyperparameters, arrays that broadcast with the rest, and ``drive``, ⟨x,x⟩ (1).
            slopes: whether derivatives are wanted; else they are 0.

        Returns:
            (k, ..) and (k, k, ..), or (m, ..) and (m, m, ..).
        """
        asked = self.variances if c is None else self.covariances
        known = {e.symbol: np.maximum(x, SMALLEST) for e, x in zip(self.variances, q, strict=True)}
        if c is not None:
            known |= {e.symbol: x for e, x in zip(self.covariances, c, strict=True)}
        numbers = {self.symbols.get(k, DRIVE): np.asarray(v, float) for k, v in {"drive": 1.0, **values}.items()}
        by = [e.symbol for e in asked] if slopes else []
        found = _duals([self._polys[e.symbol] for e in asked], {**numbers, **known}, by)
        shape = np.broadcast_shapes(q.shape[1:], *(np.shape(v) for v in numbers.values()))
        zero = np.zeros(shape)
        slope = [np.stack([zero if t is None else zero + t for t in d.tangents or (zero,)]) for d in found]
        return np.stack([np.broadcast_to(d.value, shape) for d in found]), np.stack(slope)


def _duals(polys: Sequence[Poly], values: Mapping[sp.Symbol, Any], by: Sequence[sp.Symbol]) -> list[Dual]:
    count = len(by)

    def leaf(g: Gen, value: Any) -> Dual:
        if isinstance(g, Scalar):
            if g.symbol in by:
                return Dual(values[g.symbol], (1.0 if s == g.symbol else None for s in by))
            return Dual(evaluate(g.symbol, values), [None] * count)
        if isinstance(g, Expect):
            return _expectation(g, value, count)
        assert isinstance(g, Apply)
        return _function(g, [value(a) for a in g.args], count)

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return evaluate_all(polys, leaf, lambda number: Dual(float(number), [None] * count))


def _function(g: Apply, arguments: list[Dual], count: int) -> Dual:
    us = g.fn.variables if isinstance(g.fn, sp.Lambda) else variables(1)
    body = g.fn.expr if isinstance(g.fn, sp.Lambda) else g.fn(us[0])
    at = dict(zip(us, (a.value for a in arguments), strict=True))
    parts = [(evaluate(sp.diff(body, u), at), a) for u, a in zip(us, arguments, strict=True) if a.moves]
    return chain(evaluate(body, at), count, parts)


def _expectation(g: Expect, value: Any, count: int) -> Dual:
    """E f(u) with its derivatives, by the formulas above."""
    k, us = len(g.mean), g.variables
    cov = {(i, j): value(g.entry(i, j)) for i in range(k) for j in range(i, k)}
    mean, scalars = [value(m) for m in g.mean], {s: value(monomial(h)) for s, h in g.scalars.items()}
    if any(d.moves for d in (*mean, *scalars.values())) or (any(g.mean) and any(d.moves for d in cov.values())):
        raise AssumptionError("functions whose mean or scalars change from layer to layer have no derivative here")

    def of(body: sp.Expr) -> Any:
        if body == 0:
            return 0.0
        numbers = [[cov[min(i, j), max(i, j)].value for j in range(k)] for i in range(k)]
        centre = [m.value for m in mean] if any(g.mean) else None
        return expectation(body, us, numbers, centre, {s: d.value for s, d in scalars.items()}).value

    cross = {(i, j): of(sp.diff(g.body, us[i], us[j])) for i in range(k) for j in range(i + 1, k)
             if any(cov[pair].moves for pair in ((i, i), (i, j), (j, j)))}  # fmt: skip
    parts = [(cross[pair], cov[pair]) for pair in cross if cov[pair].moves]
    for i in range(k):
        if cov[i, i].moves:
            radial = of(us[i] * sp.diff(g.body, us[i]))
            radial = radial - sum(
                cov[min(i, j), max(i, j)].value * cross[min(i, j), max(i, j)] for j in range(k) if j != i
            )
            parts.append((radial / (2 * cov[i, i].value), cov[i, i]))
    return chain(of(g.body), count, parts)


def spectral_radius(jacobian: np.ndarray) -> np.ndarray:
    """The largest |eigenvalue| of matrices (k, k, ..)."""
    moved = np.moveaxis(jacobian, (0, 1), (-2, -1))
    finite = np.isfinite(moved).all(axis=(-2, -1))
    found = np.abs(np.linalg.eigvals(np.where(finite[..., None, None], moved, 0.0))).max(axis=-1)
    return np.where(finite, found, np.nan)  # type: ignore[no-any-return]


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse what is no positive number.

    Raises:
        DataError: naming it.
    """
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or (array < 0).any():
            raise DataError(f"{name} must be finite numbers that are not negative, got {shortly(value)}")
