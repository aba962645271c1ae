"""Variables and instructions of NETSOR⊤⁺ programs: frozen, flat, hashable (TP2b Def. B.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import sympy as sp

from tensorprog.ir.axes import Axes, Pairs, Reading

Kind = Literal["matrix", "vector", "scalar"]


@dataclass(frozen=True, slots=True)
class Var:
    """A named variable of a program; its instruction is found in the program graph."""

    name: str
    kind: Kind

    def __hash__(self) -> int:
        return hash(self.name)  # asked for hundreds of times for every variable

    def __repr__(self) -> str:
        return self.name


class Slot(sp.Symbol):  # type: ignore[misc]
    """A placeholder of a Nonlin or Moment body; never equal to a user's symbol of the same name."""

    def __new__(cls, name: str) -> Slot:
        return sp.Symbol.__xnew__(cls, name, real=True)  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, bool]]:
        return (self.name,), {}


@cache
def vector_slot(i: int) -> Slot:
    """The placeholder of the i-th vector operand (0-based)."""
    return Slot(f"x{i}")


@cache
def scalar_slot(j: int) -> Slot:
    """The placeholder of the j-th scalar operand (0-based)."""
    return Slot(f"s{j}")


@dataclass(frozen=True, slots=True)
class InitMatrix:
    """n×n matrix with entries iid N(0, variance/n)."""

    variance: sp.Expr

    @property
    def operands(self) -> tuple[Var, ...]:
        return ()


class Covariances:
    """The pairs (v, Cov(x, v)) of an initial vector x, each made when it is first asked for.

    T embedded data have T² covariances, of which most limits read few.  For a network's own vectors: what it
    lists is not checked.
    """

    def __init__(self, partners: Iterable[Var], make: Callable[[Var], sp.Expr]) -> None:
        self._known: dict[Var, sp.Expr | None] = dict.fromkeys(partners)
        self._make = make

    def of(self, v: Var) -> sp.Expr:
        """Cov(x, v); 0 when it is not among the pairs."""
        if v not in self._known:
            return sp.S.Zero
        if self._known[v] is None:
            self._known[v] = self._make(v)
        return self._known[v]

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[tuple[Var, sp.Expr]]:
        return ((v, self.of(v)) for v in self._known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, Covariances)) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True)
class Entries:
    """std · w·ξ/√d: the parameter w, the law of its entries, of variance 1, and the symbol that stands for ξ; None for
    std · w, a bias."""

    parameter: str
    law: Any
    std: sp.Expr
    data: sp.Symbol | None


@dataclass(frozen=True, slots=True)
class InitVector:
    """A vector whose rows are iid; ``cov`` holds its covariances with itself and earlier vectors.

    ``axes`` are those of a family.  ``source`` is the input that a vector without axes belongs to, in a program over
    positions; None where all inputs share it.  ``law`` says of what weights that are not Gaussian it is made.
    """

    mean: sp.Expr
    cov: tuple[tuple[Var, sp.Expr], ...] | Covariances
    axes: Axes | None = None
    source: str | None = None
    law: Entries | None = None

    @property
    def operands(self) -> tuple[Var, ...]:
        return ()

    def covariance(self, v: Var) -> sp.Expr:
        """The covariance with itself or an earlier vector; 0 when it is not listed."""
        if isinstance(self.cov, Covariances):
            return self.cov.of(v)
        return next((c for w, c in self.cov if w == v), sp.S.Zero)


@dataclass(frozen=True, slots=True)
class InitScalar:
    """A scalar with the deterministic limit ``value``."""

    value: sp.Expr

    @property
    def operands(self) -> tuple[Var, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class MatMul:
    """``matrix @ x``, or ``matrix.T @ x`` when ``transpose``.

    With a map, a family of matrices shared by positions: h[p] = (1/√|w|) Σ_k W_k x[m_k(p)], whose transpose is
    x[q] = (1/√|w|) Σ_k Σ_{p: m_k(p) = q} W_kᵀ h[p].
    """

    matrix: Var
    transpose: bool
    x: Var
    by: Reading | None = None

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.matrix, self.x)


@dataclass(frozen=True, slots=True)
class Mix:
    """Weighted sums over positions: y[p] = (1/|w|) Σ_k x[m_k(p)], or the transpose of that map."""

    by: Reading
    transpose: bool
    x: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class Place:
    """An initial vector drawn anew for each offset k of a map: y[p] = (1/√|w|) Σ_k v_k over the m_k(p) that are
    present; the transpose is y[q] = (1/√|w|) Σ_k Σ_{p: m_k(p) = q} v_k."""

    by: Reading
    transpose: bool
    x: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class Outer:
    """Scalars for all pairs of positions of an input: s[p,q] = (1/n) Σ_α x_α[p] y_α[q]."""

    x: Var
    y: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x, self.y)


@dataclass(frozen=True, slots=True)
class RowSum:
    """r[p,q] = Σ_q' s[p,q'] of scalars for pairs of positions: the same for all q."""

    s: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.s,)


@dataclass(frozen=True, slots=True)
class Mask:
    """1 where position q of an input is not after p, in the order of its positions, and else 0."""

    axes: Pairs

    @property
    def operands(self) -> tuple[Var, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Weigh:
    """Sums over positions weighted by scalars of the program: y[p] = Σ_q a[p,q] x[q], or with a[q,p]."""

    weights: Var
    transpose: bool
    x: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.weights, self.x)


@dataclass(frozen=True, slots=True)
class Score:
    """Scalars for all pairs of positions of an input that stay random: s[p,q] = (1/√n) Σ_α x_α[p] y_α[q].

    In the limit they are jointly Gaussian, Cov(s[p,q], s'[r,t]) = E x[p] x'[r] · E y[q] y'[t].  ``gradient`` is the one
    of the two that a backward pass made, where the scalars are the derivatives of an output by weights.
    """

    x: Var
    y: Var
    gradient: Var | None = None

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x, self.y)


@dataclass(frozen=True, slots=True)
class Softmax:
    """exp s[p,q] / Σ_q exp s[p,q] of scalars for pairs of positions, over all q, or those up to p where ``causal``."""

    s: Var
    causal: bool = False

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.s,)


@dataclass(frozen=True, slots=True)
class Copied:
    """A vector as each of infinitely many heads reads it, all with random matrices of their own."""

    x: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What these heads make, added up: (1/√H) Σ_h x_h, H → ∞; the transpose of ``Copied``."""

    x: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class Kept:
    """A mask made of a Gaussian vector: entries 1/(1 − rate) where its own are above their quantile, else 0.

    So they are independent, 0 with probability ``rate``, and of mean 1.  No gradient passes.
    """

    x: Var
    rate: sp.Expr

    @property
    def operands(self) -> tuple[Var, ...]:
        return (self.x,)

    @property
    def threshold(self) -> sp.Expr:
        """m with P(g + m > 0) = 1 − rate for g ~ N(0, 1)."""
        return sp.sqrt(2) * sp.erfinv(1 - 2 * self.rate)


@dataclass(frozen=True, slots=True)
class Nonlin:
    """Coordinatewise ``body`` in ``vector_slot(i)`` for args and ``scalar_slot(j)`` for params."""

    body: sp.Expr
    args: tuple[Var, ...]
    params: tuple[Var, ...] = ()

    @property
    def operands(self) -> tuple[Var, ...]:
        return self.args + self.params


@dataclass(frozen=True, slots=True)
class Moment:
    """The scalar (1/n) Σ_α body of the operands' coordinates."""

    body: sp.Expr
    args: tuple[Var, ...]
    params: tuple[Var, ...] = ()

    @property
    def operands(self) -> tuple[Var, ...]:
        return self.args + self.params


@dataclass(frozen=True, slots=True)
class Difference:
    """(ψ(x + θ·δx; s + θ·δs) − ψ(x; s))/θ coordinatewise; Σ ∂ψ·δ where θ = 0 (TP2b Eq. 84).

    ``arg_deltas`` and ``param_deltas`` go with ``args`` and ``params``; None where nothing changes.
    """

    body: sp.Expr
    args: tuple[Var, ...]
    arg_deltas: tuple[Var | None, ...]
    params: tuple[Var, ...]
    param_deltas: tuple[Var | None, ...]
    theta: Var

    @property
    def operands(self) -> tuple[Var, ...]:
        changes = (*self.arg_deltas, *self.param_deltas)
        return (*self.args, *self.params, *(v for v in changes if v is not None), self.theta)

    @property
    def changes(self) -> dict[sp.Symbol, Var]:
        """The deltas by the placeholder that they change."""
        slots = [vector_slot(i) for i in range(len(self.args))] + [scalar_slot(j) for j in range(len(self.params))]
        deltas = (*self.arg_deltas, *self.param_deltas)
        return {s: d for s, d in zip(slots, deltas, strict=True) if d is not None}


Instruction = (
    InitMatrix | InitVector | InitScalar | MatMul | Mix | Place | Outer | RowSum | Mask | Weigh | Score | Softmax
    | Copied | Gathered | Kept | Nonlin | Moment | Difference
)  # fmt: skip
RESULT_KIND: dict[type, Kind] = {
    InitMatrix: "matrix", InitVector: "vector", InitScalar: "scalar",
    MatMul: "vector", Mix: "vector", Place: "vector", Outer: "scalar", RowSum: "scalar", Mask: "scalar",
    Weigh: "vector", Score: "scalar", Softmax: "scalar", Copied: "vector", Gathered: "vector", Kept: "vector",
    Nonlin: "vector", Moment: "scalar", Difference: "vector",
}  # fmt: skip


def slots_of(op: Any) -> dict[sp.Symbol, Var]:
    """Map from the placeholders of a Nonlin or Moment to the operands they stand for."""
    pairs = {vector_slot(i): v for i, v in enumerate(op.args)}
    return pairs | {scalar_slot(j): v for j, v in enumerate(op.params)}


def symbols_of(op: Instruction) -> Iterator[sp.Symbol]:
    """The symbols of an instruction that are no placeholders; those of inner products of data are left out."""
    fields = [getattr(op, name) for name in ("variance", "mean", "value", "body", "rate") if hasattr(op, name)]
    if isinstance(op, InitVector) and isinstance(op.cov, tuple):
        fields += [c for _, c in op.cov]
    return (s for e in fields for s in e.free_symbols if not isinstance(s, Slot))
