"""The limit of families of vectors: one point p of the input x, one point q of the input x', both generic.

A vector at a point has a Z as any other; what mixes positions is read off the program.  With h = conv(W, x),
Cov(h[p], h'[q]) = σ² (1/|w|) Σ_k E x[m_k(p)] x'[m_k(q)]; with y = A z, E y[p] v'[q] = Σ_r A[p,r] E z[r] v'[q].
Within one input, two positions are those of two inputs, taken for x' = x.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy as sp

from tensorprog.algebra import ONE, ZERO, Apply, Blend, Gaussian, Gen, Poly, add_all, affine, linear_parts, monomial
from tensorprog.errors import AssumptionError
from tensorprog.ir.axes import Reading
from tensorprog.ir.instructions import (
    Gathered,
    Mask,
    MatMul,
    Mix,
    Nonlin,
    Outer,
    Place,
    RowSum,
    Var,
    Weigh,
    slots_of,
)
from tensorprog.limit.chance import Chance
from tensorprog.limit.positions import Along, At, Causal, How, Rows, Standard, Weighed, Whole
from tensorprog.limit.standardised import Standards
from tensorprog.limit.twins import Twins, alike
from tensorprog.printing import NameSymbol

SIDES: tuple[How, How] = ("left", "right")  # of an array, the index of each input


class Spatial:
    """What the limit asks about positions.

    Args:
        limit: whose Z, moments and names are used.
    """

    def __init__(self, limit: Any) -> None:
        self.limit = limit
        self.twins = Twins(limit.program)
        self.matrices = {op.matrix for _, op in limit.program if isinstance(op, MatMul) and self._is_over(op)}
        self.made_by: dict[Gaussian, Var] = {}
        self.covers: dict[Gen, frozenset[Any]] = {}  # blocks that a mixed vector depends on at any position
        self.standards = Standards(self)
        self.chance = Chance(self)
        self._gens: dict[Any, Poly] = {}
        self._linear: dict[Var, bool] = {}

    def _is_over(self, op: MatMul) -> bool:
        return op.by is not None or self.limit.program.axes(op.x) is not None

    def twin(self, x: Var | None) -> Var | None:
        """The same vector of the other input; itself where it belongs to both, None where there is none."""
        point = None if x is None else self.twins.input[x]
        if x is None or point is None:
            return x
        try:
            return self.twins.of(x, 1 - point)
        except AssumptionError:
            return None

    # ---- instructions ----------------------------------------------------------------------------------

    def product(self, op: MatMul, var: Var, variance: Poly, name: str) -> Poly:
        """Ẑ of a product shared by positions."""
        if not variance or not self.limit.z[op.x]:
            return ZERO
        return self._fresh(var, ("shared", op.matrix, op.transpose, op.by and op.by.map), f"Ẑ({name})")

    def reads(self, g: Gaussian) -> tuple[Reading | None, Poly] | None:
        """The map of a product shared by positions, and Z of what it multiplies; None for any other Gaussian."""
        var = self.made_by.get(g)
        op = self.limit.program.op(var) if var is not None else None
        return (op.by, self.limit.z[op.x]) if isinstance(op, MatMul) else None

    def place(self, op: Place, var: Var) -> Poly:
        """Z of an initial vector drawn anew for every offset.

        Raises:
            AssumptionError: its mean is not 0.
        """
        z = self.limit.z[op.x]
        if z and linear_parts(z)[0]:
            raise AssumptionError(f"`{op.x}` has a mean, and is placed at every position")
        return self._fresh(var, ("place", op.x, op.transpose, op.by.map), f"Z({var})") if z else ZERO

    def mix(self, op: Mix | Weigh, var: Var) -> Poly:
        """Z of a weighted sum over positions: Gaussian where what it sums is, else known by its second moments."""
        z = self.limit.z[op.x]
        if isinstance(op, Weigh):
            self.chance.note(op)
            if not self.limit.z[op.weights]:
                return ZERO
        if not z.support:
            return self.summed(op, SIDES[self.twins.input[op.x] or 0], z, self.twins.input[op.x]) if z else ZERO
        point = self.twins.input[op.x]
        if affine(z):
            mean = linear_parts(z)[0]
            return self.fresh_sum(var, z) + (self.summed(op, SIDES[point or 0], mean, point) if mean else ZERO)
        blend = Blend(NameSymbol(f"Z({var})"), z.support, var)
        self.covers[blend] = self.covered(z.support)
        return monomial(blend)

    def fresh_sum(self, var: Var, z: Poly) -> Poly:
        """A centred Gaussian that is correlated with what the summands z are correlated with."""
        centred = self._fresh(var, ("mixed", var), f"Z({var})")
        (g,) = centred.support
        self.covers[g] = self.covered(z.support)
        return centred

    def _fresh(self, var: Var, block: Any, name: str) -> Poly:
        g = Gaussian(NameSymbol(name, _latex(name)), block, var)
        self.made_by[g] = var
        return monomial(g)

    def covered(self, support: Iterable[Gaussian]) -> frozenset[Any]:
        """The blocks that vectors with this support depend on at any position."""
        return frozenset().union(*(self.covers.get(g, frozenset([g.block])) for g in support))

    def check_zdot(self, zx: Poly, x: Var, opposite: Any) -> None:
        """Refuse a Ż that runs over positions; where gradients are independent there is none.

        Raises:
            AssumptionError: names the product.
        """
        limit, derivative = self.limit, self.limit.algebra.derivative
        words = f"the product with `{x}` has a correction Ż over positions, which is not derived"
        blends = {mono: [g for g, _ in mono if isinstance(g, Blend)] for mono in zx.terms}
        normal = [mono for mono in zx.terms if any(map(_of_standard, (g for g, _ in mono)))]
        if any(opposite in self.covered(g.support) for mono in normal for g, _ in mono):
            raise AssumptionError(words)
        plain = Poly({mono: c for mono, c in zx.terms.items() if not blends[mono] and mono not in normal})
        for g in sorted(plain.support, key=lambda g: g.index):
            if opposite in self.covers.get(g, (g.block,)) and limit.expect(derivative(plain, g)):
                raise AssumptionError(words)
        for mono, found in blends.items():
            for blend in found:
                if opposite in self.covers[blend]:
                    if sum(e for g, e in mono if g.support) > 1:
                        raise AssumptionError(words)
                    source = limit.program.op(blend.source).x
                    self.check_zdot(limit.z[source], source, opposite)

    # ---- covariances -----------------------------------------------------------------------------------

    def related(self, a: Gaussian, b: Gaussian) -> bool:
        """Whether two base Gaussians may be correlated."""
        if a.block == b.block:
            return True
        left, right = self.covers.get(a), self.covers.get(b)
        if left is None and right is None:
            return False
        return not (left or frozenset([a.block])).isdisjoint(right or frozenset([b.block]))

    def covariance(self, a: Gaussian, b: Gaussian) -> Poly | None:
        """Cov of two base Gaussians; None where it has nothing to do with positions."""
        if a in self.covers or b in self.covers:
            return self._mixed_covariance(a, b)
        if not isinstance(a.block, tuple) or a.block[0] not in ("shared", "place"):
            return None
        x, y = self.made_by[a], self.made_by[b]
        op, op2 = self.limit.program.op(x), self.limit.program.op(y)
        if op.by is not None and not alike(op.by, op2.by):
            raise AssumptionError(
                f"`{x}` and `{y}` share weights and read different axes; give them names of their own"
            )
        point = self._point(x, y)
        if isinstance(op, Place):
            variance = self.limit.expect.cov(*(next(iter(self.limit.z[o.x].support)) for o in (op, op2)))
            return self.along(op.by, "shared", op.transpose, variance, point)
        value = self.limit.moment(op.x, op2.x)
        if not value:
            return ZERO
        over = value if op.by is None else self.along(op.by, "shared", op.transpose, value, point)
        return self.limit.variance[op.matrix] * over  # type: ignore[no-any-return]

    def _point(self, x: Var, y: Var) -> int | None:
        """The input of both, None where they differ."""
        a, b = self.twins.input[x], self.twins.input[y]
        return a if a == b else None

    def _is_turned(self, x: Var, y: Var) -> bool:
        """Whether x is of the second input and y is not, or y of the first and x is not: p of the first comes first."""
        a, b = self.twins.input[x], self.twins.input[y]
        return a != b and (a == 1 or b == 0)

    def _mixed_covariance(self, a: Gaussian, b: Gaussian) -> Poly:
        x, y = self.made_by.get(a), self.made_by.get(b)
        if x is None or y is None:
            raise AssumptionError(f"the covariance of {a} and {b}, a sum over positions, is not derived")
        if self._is_turned(x, y):
            return self._mixed_covariance(b, a)
        first = self.limit.program.op(x) if a in self.covers else None
        second = self.limit.program.op(y) if b in self.covers else None
        if isinstance(first, Gathered) != isinstance(second, Gathered):  # a sum over heads is opened with another one
            first, second = (None if isinstance(op, Gathered) else op for op in (first, second))
            if first is second:
                raise AssumptionError(f"the covariance of {a} and {b}, a sum over heads, is not derived")
        u = linear_parts(self.limit.z[first.x])[1] if first else {a: ONE}
        v = linear_parts(self.limit.z[second.x])[1] if second else {b: ONE}
        if not self.limit.expect.correlated(u, v):  # asked first: the same vector of the other input may come later
            return ZERO
        point = self._point(x, y)
        if point is not None:
            left, right = (self.limit.z[self.twins.of(v, k)] for v, k in ((x, 0), (y, 1)))
            g, h = (max(z.support, key=lambda g: g.index) for z in (left, right))
            return self.at(self._mixed_covariance(g, h), point)
        inner = add_all(c * d * self.limit.expect.cov(g, h) for g, c in u.items() for h, d in v.items())
        return self._applied(first, second, inner)

    def _applied(self, first: Any, second: Any, inner: Poly) -> Poly:
        if not inner:
            return ZERO
        if isinstance(first, Gathered):
            return self.chance.averaged(inner)
        if isinstance(first, Mix) and isinstance(second, Mix):  # noqa: SIM102
            if first.transpose == second.transpose and alike(first.by, second.by):
                return self.along(first.by, "both", first.transpose, inner, None)
        if first:
            inner = self.summed(first, "left", inner, None)
        return self.summed(second, "right", inner, None) if second else inner

    def summed(self, op: Mix | Weigh, how: How, inner: Poly, point: int | None) -> Poly:
        """The sum over positions of an instruction, applied to one side of an array."""
        if isinstance(op, Mix):
            return self.along(op.by, how, op.transpose, inner, point)
        weights, axes = self.limit.z[op.weights], self.limit.program.axes(op.weights)
        return self.gen(Weighed, weights, axes, how, op.transpose, inner) if weights else ZERO

    # ---- moments ---------------------------------------------------------------------------------------

    def moment(self, x: Var, y: Var) -> Poly | None:
        """E Z^x Z^y where one of them is a sum over positions, or a linear combination of such; else None."""
        if not (self._is_linear(x) or self._is_linear(y)):
            return None
        if self._is_turned(x, y):
            return self.moment(y, x)
        point = self._point(x, y)
        if point is not None:
            return self.at(self.limit.moment(self.twins.of(x, 0), self.twins.of(y, 1)), point)
        parts = []
        for c, u in self._split(x):
            for d, v in self._split(y):
                first, second = (
                    op if isinstance(op := self.limit.program.op(w), (Mix, Weigh)) else None for w in (u, v)
                )
                inner = self.limit.moment(first.x if first else u, second.x if second else v)
                parts.append(c * d * self._applied(first, second, inner))
        return add_all(parts)

    def _is_linear(self, x: Var) -> bool:
        """Whether a vector is a linear combination in which sums over positions occur."""
        if x not in self._linear:
            op = self.limit.program.op(x)
            mixed = isinstance(op, Nonlin) and any(map(self._is_linear, op.args))
            self._linear[x] = isinstance(op, (Mix, Weigh)) or bool(mixed and self._coefficients(op) is not None)
        return self._linear[x]

    def _coefficients(self, op: Nonlin) -> list[tuple[Poly, Var]] | None:
        slots = {s: v for s, v in slots_of(op).items() if v.kind == "vector"}
        found = {s: op.body.diff(s) for s in slots}
        constant = op.body.xreplace(dict.fromkeys(slots, sp.S.Zero))
        if constant != 0 or any(c.free_symbols & slots.keys() for c in found.values()):
            return None
        env = {s: self.limit.z[v] for s, v in slots_of(op).items() if v.kind == "scalar"}
        return [(self.limit.algebra.from_sympy(c, env), slots[s]) for s, c in found.items()]

    def _split(self, x: Var) -> list[tuple[Poly, Var]]:
        op = self.limit.program.op(x)
        if not self._is_linear(x) or isinstance(op, (Mix, Weigh)):
            return [(ONE, x)]
        found = self._coefficients(op)
        assert found is not None
        return [(c * d, v) for c, u in found for d, v in self._split(u)]

    def blended(self, mono: Any) -> Poly:
        """E of a product of sums over positions.

        Raises:
            AssumptionError: they stand beside something else, so that three positions would be needed.
        """
        if any(_of_standard(g) for g, _ in mono):
            return self.standards.expectation(mono)
        found = [g for g, e in mono for _ in range(e)]
        if not all(isinstance(g, Blend) for g in found) or len(found) > 2:
            names = " · ".join(map(str, found))
            raise AssumptionError(
                f"E {names}: a weighted sum over positions of what is not Gaussian stands inside a nonlinearity or a "
                "product, where its second moments are not enough; put a dense layer or a convolution in between"
            )
        if len(found) == 2:
            return self.limit.moment(found[0].source, found[1].source)  # type: ignore[no-any-return]
        op = self.limit.program.op(found[0].source)
        point = self.twins.input[op.x]
        mean = self.limit.expect(self.limit.z[op.x])
        return self.summed(op, SIDES[point or 0], mean, point) if mean else ZERO

    # ---- arrays ----------------------------------------------------------------------------------------

    def along(self, by: Reading, how: How, transpose: bool, inner: Poly, point: int | None) -> Poly:
        """A map applied to an array."""
        return self.gen(Along, by, how, transpose, inner, point)

    def at(self, inner: Poly, point: int) -> Poly:
        """An array of pairs at x' = x and q = p."""
        if not any(isinstance(g, Gen) for mono in inner.terms for g, _ in mono):
            return inner
        return self.gen(At, inner, point)

    def gen(self, cls: Any, *arguments: Any) -> Poly:
        """A generator of what runs over positions, the same for the same arguments."""
        key = (cls, *arguments)
        if key not in self._gens:
            self._gens[key] = monomial(cls(*arguments))
        return self._gens[key]

    # ---- scalars for pairs of positions ----------------------------------------------------------------

    def outer(self, op: Outer, var: Var) -> Poly:
        """The limit E Z^{x[p]} Z^{y[q]} of scores.

        Raises:
            AssumptionError: one that is not 0 is asked for between gradients.
        """
        point = self.twins.input[var]
        if point is None:
            raise AssumptionError(f"`{var}` belongs to no input")
        for a, b in ((0, 1), (1, 0)):
            try:
                x, y = self.twins.of(op.x, a), self.twins.of(op.y, b)
            except AssumptionError:
                continue
            value = self.limit.moment(x, y)
            if not value:
                return ZERO
            if a == 0:
                return self.gen(Whole, value, point)
        raise AssumptionError(f"`{var}` is a product of gradients over positions, whose limit is not derived")

    def row_sum(self, op: RowSum, var: Var) -> Poly:
        """The limit of sums over q."""
        z = self.limit.z[op.s]
        return self.gen(Rows, z, self.limit.program.axes(op.s), self.twins.input[var]) if z else ZERO

    def mask(self, op: Mask, var: Var) -> Poly:
        """Which positions come before which."""
        return self.gen(Causal, op.axes, self.twins.input[var])


def _of_standard(g: Gen) -> bool:
    """Whether a factor is a normalised batch, or a function of one."""
    inside = (h for p in (g.args if isinstance(g, Apply) else ()) for mono in p.terms for h, _ in mono)
    return isinstance(g, Standard) or any(map(_of_standard, inside))


def _latex(name: str) -> str:
    return sp.latex(sp.Symbol(name))
