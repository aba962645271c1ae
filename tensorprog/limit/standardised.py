"""Batch normalisation in the limit: what is normalised over the members of a batch, read off the program.

With y = (h − mean h)/√(mean (h − mean h)² + ε), means over the members, E f(y[p]) g(y'[q]) is a function of the whole
arrays Cov(h,h), Cov(h,h') and Cov(h',h'): one quantity (``positions.Batched``).  So is
E Σ_kl ∂_k f(y[p]) Θ[k,l] ∂_l g(y'[q]), its derivative in the direction Θ of Cov(h,h'), by which the NTK of f(y) follows
from that of h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, add_all, affine, monomial
from tensorprog.errors import AssumptionError
from tensorprog.ir.axes import Everywhere
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Mix, Nonlin, Var, vector_slot
from tensorprog.limit.positions import Batched, Standard, Whole
from tensorprog.printing import NameSymbol

BETWEEN = "put a dense layer in between"
U, V = vector_slot(0), vector_slot(1)


def normalised(program: ProgramGraph, op: Nonlin) -> tuple[Var, sp.Expr] | None:
    """h and ε of an instruction that is the last of a batch normalisation; None of any other."""
    if len(op.args) != 2 or op.params or not op.body.has(V):
        return None
    eps = (U / op.body) ** 2 - V
    if eps.free_symbols & {U, V}:
        return None
    u, square = op.args[0], _averaged(program, op.args[1])
    centred = program.op(u)
    if square is None or program.op(square) != Nonlin(U**2, (u,)):
        return None
    if not isinstance(centred, Nonlin) or centred.body != U - V or len(centred.args) != 2 or centred.params:
        return None
    h, mean = centred.args
    return (h, eps) if _averaged(program, mean) == h else None


def _averaged(program: ProgramGraph, var: Var) -> Var | None:
    """What a vector is the mean of, over all positions."""
    op = program.op(var)
    return op.x if isinstance(op, Mix) and op.by.map == Everywhere() and not op.transpose else None


class Standards:
    """The normalised batches of a limit over positions.

    Args:
        spatial: what the limit asks about positions.
    """

    def __init__(self, spatial: Any) -> None:
        self.spatial, self.limit = spatial, spatial.limit
        self.of: dict[Var, tuple[Var, Poly]] = {}

    def __contains__(self, var: Var) -> bool:
        return var in self.of

    def note(self, var: Var, op: Nonlin) -> Poly | None:
        """Z of a normalised batch; None of any other vector."""
        found = normalised(self.limit.program, op)
        if found is None:
            return None
        h, eps = found
        self.of[var] = (h, self.limit.algebra.from_sympy(eps, {}))
        z = Standard(NameSymbol(f"Z({var})"), self.limit.z[h].support, var)
        self.spatial.covers[z] = self.spatial.covered(z.support)
        return monomial(z)

    def expectation(self, mono: Any) -> Poly:
        """E of a product of a function of a normalised batch at p and one at q.

        Raises:
            AssumptionError: any other product.
        """
        factors = [self._read(g) for g, e in mono for _ in range(e)]
        if len(factors) != 2:
            raise self._refusal(mono)
        (f, y), (g, z) = sorted(factors, key=lambda factor: self.spatial.twins.input[factor[1]] or 0)
        return self._batched(f, y, g, z)

    def pushed(self, df: Poly, y: Var, dg: Poly, z: Var, theta: Poly) -> Poly:
        """E Σ_kl ∂_k f(y[p]) Θ[k,l] ∂_l g(z[q]), with the derivatives df and dg of f and g by y and z.

        Raises:
            AssumptionError: they are no functions of y alone and z alone.
        """
        pairs = [(c * d, f, g) for c, f in self._terms(df, y) for d, g in self._terms(dg, z)]
        return add_all(c * self._batched(f, y, g, z, theta) for c, f, g in pairs) if theta else theta

    def _terms(self, p: Poly, y: Var) -> Iterator[tuple[Poly, Any]]:
        """A polynomial as coefficients times functions of a normalised vector, None for the constant 1."""
        for mono, c in p.terms.items():
            random = [(g, e) for g, e in mono if g.support]
            coefficient = Poly({tuple(factor for factor in mono if not factor[0].support): c})
            if not random:
                yield coefficient, None
                continue
            (g, e), *others = random
            if others or e > 1 or not isinstance(g, Apply) or self._read(g)[1] != y:
                raise self._refusal(mono)
            yield coefficient, g.fn

    def _read(self, g: Gen) -> tuple[Any, Var]:
        """The function of a normalised vector that a factor is, None for itself, and the vector."""
        if isinstance(g, Standard):
            return None, g.source
        argument = g.args[0] if isinstance(g, Apply) and len(g.args) == 1 else None
        found = [h for mono in (argument.terms if argument is not None else ()) for h, _ in mono]
        if len(found) == 1 and isinstance(found[0], Standard) and argument == monomial(found[0]):
            return g.fn, found[0].source  # type: ignore[attr-defined]
        raise self._refusal(((g, 1),))

    def _refusal(self, mono: Any) -> AssumptionError:
        names = " · ".join(str(g) for g, e in mono for _ in range(e))
        return AssumptionError(
            f"E {names}: what follows a batch normalisation is one function of it, as phi(net.batch_norm(h)), and then "
            f"a layer; products with anything else are not derived: {BETWEEN}"
        )

    def _batched(self, f: Any, y: Var, g: Any, z: Var, theta: Poly | None = None) -> Poly:
        twins, (h, eps), (k, eps2) = self.spatial.twins, self.of[y], self.of[z]
        if eps != eps2:
            raise AssumptionError(f"`{y}` and `{z}` are normalised with different eps: {BETWEEN}")
        if twins.input[y] == twins.input[z]:
            own = self._batched(f, twins.of(y, 0), g, twins.of(z, 1), theta)
            return self.spatial.at(own, twins.input[y])  # type: ignore[no-any-return]
        if twins.of(h, 0) != twins.of(k, 0):
            raise AssumptionError(f"`{y}` and `{z}` are normalised by different vectors, `{h}` and `{k}`: {BETWEEN}")
        cross = self.covariance(h, k)
        one, two = (self.spatial.gen(Whole, cross, point) for point in (0, 1))
        return self.spatial.gen(Batched, f, g, eps, one, cross, two, theta)  # type: ignore[no-any-return]

    def covariance(self, h: Var, k: Var) -> Poly:
        """Cov(h,h') of what is normalised, named.

        Raises:
            AssumptionError: it is not Gaussian.
        """
        u, v = self.limit.z[h], self.limit.z[k]
        if not (affine(u) and affine(v)):
            raise AssumptionError(f"`{h}` is normalised over a batch and is not Gaussian in the limit: {BETWEEN}")
        return self.limit.expect.covariance(u, v)  # type: ignore[no-any-return]
