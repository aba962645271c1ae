"""The NTK as a sum over pairs of equal paths (TP2b Def. 5.5, Prop. D.3), by dynamic programming.

Θ(Wx, Wx') = σ_W² (E Z^x Z^x' + Σ_ij E[∂_iψ ∂_jψ'] Θ(h_i, h'_j)) for x = ψ(h..), x' = ψ'(h'..); 0 for
different matrices.  No backward pass is built, and gradient independence is assumed.

With W and Wᵀ in the forward pass a path may also run along Ż: Z^{Wᵀx} = Ẑ + Σ a_i Z^{y_i} passes the
tangent of y_i on with weight a_i and without a matrix.  (The source's path formula leaves these out; its
backpropagation formula contains them.)
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.algebra import ONE, ZERO, Poly, add_all
from tensorprog.derivation.ntk import group, rate
from tensorprog.dsl.trace import Output, Readout, Trace
from tensorprog.errors import AssumptionError, NoRuleError
from tensorprog.ir.instructions import InitVector, Kept, MatMul, Nonlin, Var, slots_of
from tensorprog.limit.deep import Nested
from tensorprog.limit.master import Interpreter
from tensorprog.limit.standardised import BETWEEN


class PathSum:
    """Sums ⟨p,q⟩ over pairs of equal paths of a traced network.

    Args:
        trace: the traced network.
        limit: a limit that contains its forward program.
        trained: names of the parameters that count, with factors if it is a mapping; all when None.
    """

    def __init__(self, trace: Trace, limit: Interpreter, trained: Container[str] | None = None) -> None:
        if not trace.passes_gia_check:
            raise AssumptionError(
                "path sums assume gradient independence, and this network fails the simple GIA check "
                "(its readout vector is not random, or is used inside the network); use method='backprop'"
            )
        if trace.program.has_axes and not trace.batched:
            raise AssumptionError("path sums over positions are not derived; use method='backprop'")
        self.trace, self.limit, self.program = trace, limit, trace.program
        self._theta = Nested(self._find_theta)
        self._rate = {n: factor for n in trace.trainable if (factor := rate(n, trained))}
        self._name = {p.var: n for n, p in trace.parameters.items() if p.var is not None}
        self._weight: dict[Var, sp.Expr] = {p.var: p.std**2 for p in trace.parameters.values() if p.var is not None}
        self._spread = {p.var: p.variance for p in trace.parameters.values() if p.var is not None}
        self._partials = Nested(self._find_partials)

    def kernel(self, i: int, j: int) -> Poly:
        """K of two inputs' outputs."""
        return self.heads(self.trace.outputs[i], self.trace.outputs[j])

    def heads(self, f: Output, f2: Output) -> Poly:
        """K = Σ_readouts σ_v² (E Z^x Z^x' + E Z^v Z^v Σ E[∂_iψ ∂_jψ'] Θ(h_i, h'_j)) of two outputs."""
        total = [
            self.scalar(r.std * r2.std) * (self.readout(r, r2) + self.passes(r) * self.through(r.x, r2.x))
            for r in f.readouts
            for r2 in f2.readouts
            if r.v == r2.v
        ]
        return add_all([*total, self.output_biases(f, f2)])

    def readout(self, r: Readout, r2: Readout) -> Poly:
        """E Z^x Z^x' where the readout vector is trained."""
        factor = self._rate.get(r.name)
        return self.scalar(factor) * self.limit.moment(r.x, r2.x) if factor else ZERO

    def passes(self, r: Readout) -> Poly:
        """E Z^v Z^v of a readout vector, 1, or 0 where it starts at 0 and passes nothing on."""
        return self.limit.moment(r.v, r.v)

    def output_biases(self, f: Output, f2: Output) -> Poly:
        """σσ' of every trained output bias that both outputs have."""
        return add_all(
            self.scalar(std * std2 * self._rate[name])
            for name, std in f.biases
            for name2, std2 in f2.biases
            if name == name2 and name in self._rate
        )

    def through(self, x: Var, y: Var) -> Poly:
        """Σ_ij E[∂_iψ ∂_jψ'] Θ(h_i, h'_j) of two vectors."""
        pairs = [(h, dh, h2, dh2) for h, dh in self.partials(x) for h2, dh2 in self.partials(y)]
        batches = self.limit.spatial.standards if self.limit.spatial else ()
        normal = [pair for pair in pairs if pair[0] in batches or pair[2] in batches]
        plain = ((dh * dh2, self.theta(h, h2)) for h, dh, h2, dh2 in pairs if (h, dh, h2, dh2) not in normal)
        found = group(((self.limit.expect(weight), theta) for weight, theta in plain if theta), self.limit)
        return add_all([found, *(self._over_batches(*pair) for pair in normal)])

    def _over_batches(self, y: Var, df: Poly, z: Var, dg: Poly) -> Poly:
        """Σ_kl E[∂_k f(y[p]) ∂_l g(z[q])] Θ(h,h')[k,l] of batches y and z that h and h' are normalised to."""
        assert self.limit.spatial is not None
        standards = self.limit.spatial.standards
        if y not in standards or z not in standards:
            raise AssumptionError(f"`{y}` and `{z}` are read side by side, and one is a normalised batch: {BETWEEN}")
        h, h2 = standards.of[y][0], standards.of[z][0]
        theta = self.limit.system.shortened(self.through(h, h2), standards.covariance(h, h2))
        return standards.pushed(df, y, dg, z, self.limit.system.define(theta, "theta", h, h2))

    def theta(self, g: Var, h: Var) -> Poly:
        """Θ(g, g') of two G-vars, named."""
        return self._theta(h, g) if (h, g) in self._theta.known else self._theta(g, h)

    def _find_theta(self, g: Var, h: Var) -> Poly:
        value = self._sum(g, h)
        named = isinstance(self.program.op(g), MatMul) and not self.trace.batched  # there named where it is read
        return self.limit.system.define(value, "theta", g, h) if named else value

    def _sum(self, g: Var, h: Var) -> Poly:
        a, b = self.program.op(g), self.program.op(h)
        factor = self.factor(g, h)
        if factor and isinstance(a, MatMul) and isinstance(b, MatMul):
            return self.start(g, h) + factor * self.through(a.x, b.x)
        return self.start(g, h)

    def factor(self, g: Var, h: Var, trained: bool = False) -> Poly:
        """The variance of the matrix, or the square of its trained scale, when both are MatMuls by it; else 0."""
        a, b = self.program.op(g), self.program.op(h)
        if isinstance(a, MatMul) and isinstance(b, MatMul) and (a.matrix, a.transpose) == (b.matrix, b.transpose):
            return self.scalar((self._weight if trained else self._spread)[a.matrix])
        return ZERO

    def start(self, g: Var, h: Var) -> Poly:
        """What the parameter read by both G-vars contributes itself: σ_W² E Z^x Z^x', σ_u² ⟨ξ,ξ'⟩, σ_b²."""
        a, b = self.program.op(g), self.program.op(h)
        if isinstance(a, MatMul) and isinstance(b, MatMul):
            trained = self._rate.get(self._name[a.matrix])
            factor = self.factor(g, h, trained=True) * self.scalar(trained) if trained else ZERO
            return factor * self.limit.moment(a.x, b.x) if factor else ZERO
        return self._initial(g, h)

    def _initial(self, g: Var, h: Var) -> Poly:
        embedded = self.trace.embeddings
        if g in embedded and h in embedded:
            (name, datum), (other, datum2) = embedded[g], embedded[h]
            std = self.trace.parameters[name].std
            common = self._rate.get(name) if name == other else None
            return self.scalar(std**2 * self.trace.gram(datum, datum2) * common) if common else ZERO
        trained = self._rate.get(self._name.get(g, "")) if g == h else None
        return self.scalar(self._weight[g] * trained) if trained else ZERO

    def partials(self, x: Var) -> list[tuple[Var, Poly]]:
        """The G-vars whose tangents reach x through Nonlins and Ż's, each with its derivative at the Z's."""
        return self._partials(x)

    def _find_partials(self, x: Var) -> list[tuple[Var, Poly]]:
        total: dict[Var, list[Poly]] = {}
        normal = self.limit.spatial is not None and x in self.limit.spatial.standards
        through = None if normal else derivatives(self.program.op(x), self)
        if through is None:
            total[x] = [ONE]
        for outer, v in [*self.limit.zdot_terms.get(x, ()), *(through or ())]:
            for g, inner in self.partials(v):
                total.setdefault(g, []).append(outer * inner)
        return [(g, add_all(parts)) for g, parts in total.items()]

    def scalar(self, expr: sp.Expr) -> Poly:
        """A hyperparameter expression as a polynomial."""
        return self.limit.algebra.from_sympy(sp.sympify(expr), {})


@singledispatch
def derivatives(op: Any, s: PathSum) -> list[tuple[Poly, Var]] | None:
    """Derivatives of an instruction's result by its vectors; None for a G-var. Register a rule for a new one."""
    raise NoRuleError(
        f"no path rule for {type(op).__name__}: register one with tensorprog.derivation.paths.derivatives"
    )


@derivatives.register(InitVector)
@derivatives.register(MatMul)
def _(op: Any, s: PathSum) -> None:
    return None


@derivatives.register(Kept)
def _(op: Kept, s: PathSum) -> list[tuple[Poly, Var]]:
    return []


@derivatives.register(Nonlin)
def _(op: Nonlin, s: PathSum) -> list[tuple[Poly, Var]]:
    env = {slot: s.limit.z[v] for slot, v in slots_of(op).items()}
    vectors = ((v, sp.diff(op.body, slot)) for slot, v in slots_of(op).items() if v.kind == "vector")
    # under GIA scalars pass on no gradient (TP2b D.4.5)
    return [(s.limit.algebra.from_sympy(partial, env), v) for v, partial in vectors if partial != 0]


Path = tuple[tuple[Var, Poly], ...]


def paths(s: PathSum, end: Var) -> Iterator[Path]:
    """Every path to a vector: (g_1, P_1), (g_2, P_2), .. with g_{k+1} = W x_k and P_k = ∂x_k/∂g_k.

    A path may start at any G-var.  There can be exponentially many: for small programs only.
    """
    for g, partial in s.partials(end):
        op = s.program.op(g)
        yield ((g, partial),)
        if isinstance(op, MatMul):
            yield from ((*p, (g, partial)) for p in paths(s, op.x))


def inner_product(s: PathSum, p: Path, q: Path) -> Poly:
    """⟨p,q⟩ = start · Π σ_W² E[∂x/∂g ∂x'/∂g'] along two paths (TP2b Eq. 95); 0 unless p ≅ q."""
    value = s.start(p[0][0], q[0][0]) if len(p) == len(q) else ZERO
    for k, ((g, dx), (g2, dx2)) in enumerate(zip(p, q, strict=False)):
        value = value * s.limit.expect(dx * dx2) * (s.factor(g, g2) if k else ONE) if value else ZERO
    return value


def enumerate_kernel(s: PathSum, i: int, j: int) -> Poly:
    """The same kernel by listing all pairs of paths, for small networks: the check on the recursion."""
    f, f2 = s.trace.outputs[i], s.trace.outputs[j]
    pairs = [(r, r2) for r in f.readouts for r2 in f2.readouts if r.v == r2.v]
    total = [s.scalar(r.std * r2.std) * s.readout(r, r2) for r, r2 in pairs]
    total += [
        s.scalar(r.std * r2.std) * s.passes(r) * inner_product(s, p, q)
        for r, r2 in pairs
        for p in paths(s, r.x)
        for q in paths(s, r2.x)
    ]
    return add_all([*total, s.output_biases(f, f2)])
