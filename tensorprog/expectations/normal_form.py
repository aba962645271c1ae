"""E of a polynomial in base Gaussians and function atoms: split, Stein, name what is left.

1. expand (a Poly is expanded), take sign(u)² as the constant that it is and products such as |u| sign(u) = u; 2. split
each monomial into independent blocks; 3. remove a bare Gaussian b by Stein, E[b F] = Σ_b' Cov(b, b') E[∂_b' F], where
that ends; 4. what remains, E Π φ_i(u_i), is one atom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Set
from fractions import Fraction
from functools import reduce
from operator import mul
from typing import Any

from tensorprog.algebra import (
    ONE,
    ZERO,
    Algebra,
    Apply,
    Blend,
    Gaussian,
    Gen,
    Poly,
    Scalar,
    add_all,
    affine,
    drop,
    linear_parts,
    merge,
    monomial,
    nonzero,
)
from tensorprog.ceilings import check_ceiling
from tensorprog.errors import AssumptionError
from tensorprog.expectations.atoms import Expect, body_of, random_arguments, smoothness, stein_ends
from tensorprog.expectations.lawful import Lawful, Part
from tensorprog.functions import Abs, Delta, Fn, Relu, Sign, Step, X, vanishes_at_0
from tensorprog.ir.instructions import Entries
from tensorprog.products import product
from tensorprog.rationals import times

Mono = tuple[Any, ...]
TIMES_ARGUMENT: dict[Any, Any] = {Step: Relu, Sign: Abs}

HIGH = 20  # power of a Gaussian, even
FEW = 10_000  # products of terms that are not worth counting powers for


class Expectation:
    """The expectation of polynomials under the law of the base Gaussians.

    Args:
        algebra: the interning algebra of all polynomials involved.
        cov: covariance of two base Gaussians of the same block.
        name: gives a covariance of two affine forms a name, or returns it as it is when it is simple.
        positive: whether a polynomial in scalars is positive for all their values.
        related: whether two base Gaussians may be correlated.
        blended: the expectation of a monomial that holds a ``Blend``.
        law: of what weights that are not Gaussian a base variable is made, None where it is Gaussian.
    """

    def __init__(
        self,
        algebra: Algebra,
        cov: Callable[[Gaussian, Gaussian], Poly],
        name: Callable[[Poly, Poly, Poly], Poly],
        positive: Callable[[Poly], bool] = lambda p: False,
        related: Callable[[Gaussian, Gaussian], bool] = lambda a, b: bool(a.block == b.block),
        blended: Callable[[Mono], Poly] | None = None,
        law: Callable[[Gaussian], Entries | None] = lambda g: None,
    ) -> None:
        self._law = law
        self._related, self._blended = related, blended
        self.algebra, self._base_cov, self._name, self._positive = algebra, cov, name, positive
        self._nonzero: dict[Gen, Poly] = {}
        self._moments: dict[Mono, Poly] = {}
        self._form_cov: dict[tuple[Poly, Poly], Poly] = {}
        self._atoms: dict[Any, Poly] = {}

    def __call__(self, p: Poly) -> Poly:
        """E p."""
        parts = []
        for mono, c in p.terms.items():  # as in ``_correlated``
            moment = self._moment(tuple([f for f in mono if f[0].support]))
            parts.append(Poly({tuple([f for f in mono if not f[0].support]): c}) * moment)
        return add_all(parts)

    def know(self, p: Poly, value: Poly) -> None:
        """Remember the expectation of a monomial, which no formula finds."""
        ((mono, _),) = p.terms.items()
        self._moments[mono] = value

    def product(self, p: Poly, q: Poly) -> Poly:
        """E p q; what vanishes is dropped at once and not kept: in an RNN's NTK almost all T² products do."""
        pairs = len(p.terms) * len(q.terms)
        if pairs > FEW:
            check_ceiling("pairs", pairs, "the expectation of a product of polynomials")
            check_ceiling("power", _degree(p) + _degree(q), "the expectation of a product of powers")
        products = ((merge(m, n), times(c, d)) for m, c in p.terms.items() for n, d in q.terms.items())
        kept = [Poly({mono: c}) for mono, c in products if not self._isolated(mono)]
        return self(add_all(kept)) if kept else ZERO

    def reduced(self, p: Poly) -> Poly:
        """p without the factors sign(u)² that are 1 for all values of the hyperparameters and data."""
        if not any(nonzero(f) and self.nonzero(f[0]) == ONE for mono in p.terms for f in mono):
            return p
        return add_all(
            Poly({tuple(f for f in mono if not (nonzero(f) and self.nonzero(f[0]) == ONE)): c})
            for mono, c in p.terms.items()
        )

    def nonzero(self, sign: Gen) -> Poly:
        """sign(u)², the probability of u ≠ 0, which is 0 or 1: the number where it is known."""
        if sign not in self._nonzero:
            u = sign.args[0]  # type: ignore[attr-defined]
            mean = linear_parts(u)[0] if affine(u) else ZERO
            known = affine(u) and (set(mean.terms) == {()} or self._positive(self.covariance(u, u)))
            self._nonzero[sign] = ONE if known else self._atom(((sign, 2),))
        return self._nonzero[sign]

    def cov(self, a: Gaussian, b: Gaussian) -> Poly:
        """Covariance of two base Gaussians."""
        return self._base_cov(a, b) if self._related(a, b) else ZERO

    def covariance(self, u: Poly, v: Poly) -> Poly:
        """Cov(u, v) of two affine forms, named."""
        key = (u, v)
        if key not in self._form_cov:
            left, right = linear_parts(u)[1], linear_parts(v)[1]
            parts = []
            for a, x in left.items():
                for b, y in right.items():
                    if self._related(a, b):
                        parts.append(x * y * self.cov(a, b))
            value = add_all(parts)
            self._form_cov[key] = self._form_cov[v, u] = self._name(u, v, value)
        return self._form_cov[key]

    def _moment(self, mono: Mono) -> Poly:
        if not mono:
            return ONE
        if mono not in self._moments:
            check_ceiling("power", max(e for _, e in mono), "the expectation of a power")
            for g, e in mono:  # Stein takes two off a power at a time: lower powers first, so that none recurses far
                for lower in range(e % HIGH, e, HIGH) if isinstance(g, Gaussian) and e > HIGH else ():
                    self._moment(tuple((h, lower if h is g else d) for h, d in mono if h is not g or lower))
            squares = [f for f in mono if nonzero(f)]
            if self._isolated(mono):
                self._moments[mono] = ZERO
            elif squares:
                rest = self._moment(tuple(f for f in mono if not nonzero(f)))
                self._moments[mono] = reduce(mul, (self.nonzero(g) for g, _ in squares), rest) if rest else ZERO
            else:
                joined = self._joined(mono)
                self._moments[mono] = self._product(self._blocks(mono)) if joined is None else self(joined)
        return self._moments[mono]

    def _joined(self, mono: Mono) -> Poly | None:
        """The monomial with two functions of one variable written as one function or as the variable itself."""
        kinked = [f for f, _ in mono if isinstance(f, Apply) and f.kinked]
        for i, f in enumerate(kinked):
            for g in kinked[i + 1 :]:
                formula = product(f.fn, g.fn) if f.args == g.args else None
                if formula is not None:
                    one = f.args[0] if formula == X else self.algebra.apply(type(formula), f.args)
                    return Poly({drop(drop(mono, f), g): 1}) * one
        return None

    def _isolated(self, mono: Mono) -> bool:
        """Whether some Gaussian factor is independent of all others, so that its mean 0 ends the matter.

        Asked first because it is cheap: gradients of unaligned time steps vanish here, before any
        covariance of the forward pass is derived for them.
        """
        for g, e in mono:
            if e == 1 and isinstance(g, Gaussian):
                for f, _ in mono:
                    if f is not g and (g in f.support or self.correlated([g], f.support)):
                        break
                else:
                    return True
        return False

    def _product(self, blocks: list[Mono]) -> Poly:
        result = ONE
        for block in sorted(blocks, key=_cost):  # a lone Gaussian first: its mean 0 saves all the rest
            value = self._moments.get(block)
            if value is None:
                value = self._moments[block] = self._block(block)
            result = result * value
            if not result:
                break
        return result

    def _blocks(self, mono: Mono) -> list[Mono]:
        """Connected components of the factors under nonzero covariance."""
        groups: list[tuple[set[Gaussian], list[Any]]] = []
        for factor in mono:
            support, members = set(factor[0].support), [factor]
            rest = []
            for other_support, others in groups:
                if self.linked(support, other_support):
                    support, members = support | other_support, others + members
                else:
                    rest.append((other_support, others))
            groups = [*rest, (support, members)]
        return [tuple(sorted(members, key=lambda f: f[0].index)) for _, members in groups]

    def linked(self, a: Set[Gaussian], b: Set[Gaussian]) -> bool:
        """Whether two sets of Gaussians share one or are correlated."""
        return not a.isdisjoint(b) or self.correlated(a, b)

    def correlated(self, a: Collection[Gaussian], b: Collection[Gaussian]) -> bool:
        """Whether some base Gaussian of the first is correlated with one of the second."""
        related = [(x, y) for x in a for y in b if self._related(x, y)]
        if len(related) > 1:  # by age: what is derived first, and so the order of equations, must not depend on hashes
            related.sort(key=lambda pair: (pair[0].index, pair[1].index))
        for x, y in related:  # noqa: SIM110 - a generator is one more frame on the stack of every layer
            if self._base_cov(x, y):
                return True
        return False

    def _block(self, mono: Mono) -> Poly:
        if self._blended is not None and any(map(_holds_blend, (g for g, _ in mono))):
            return self._blended(mono)
        bare = [g for g, _ in mono if isinstance(g, Gaussian)]
        if any(self._law(g) for f, _ in mono for g in f.support) and not self._second(mono):
            return self._lawful(mono)
        if bare and all(stein_ends(f) for f, _ in mono if isinstance(f, Apply)) and not _collides(mono):
            return self._stein(bare[-1], drop(mono, bare[-1]))
        taken_in = self._taken_in(mono)
        if taken_in is not None:
            return self(taken_in)
        return ZERO if _odd(mono) or _killed(mono) else self._atom(mono)

    def _second(self, mono: Mono) -> bool:
        """Whether a monomial is of second order, whose mean is a covariance under any law."""
        return all(isinstance(g, Gaussian) for g, _ in mono) and sum(e for _, e in mono) <= 2

    def _taken_in(self, mono: Mono) -> Poly | None:
        """The monomial with u·step(u) = relu(u) or u·sign(u) = |u| written as one function."""
        for f, _ in mono:
            if isinstance(f, Apply) and f.fn in TIMES_ARGUMENT:
                b = next((g for g, _ in mono if isinstance(g, Gaussian) and f.args[0] == monomial(g)), None)
                if b is not None:
                    return Poly({drop(drop(mono, f), b): 1}) * self.algebra.apply(TIMES_ARGUMENT[f.fn], f.args)
        return None

    def _stein(self, b: Gaussian, rest: Mono) -> Poly:
        p, (f, e) = Poly({rest: 1}), rest[0] if len(rest) == 1 else (None, 0)
        if isinstance(f, Apply) and f.fn is Relu and e == 1 and affine(f.args[0]) and not linear_parts(f.args[0])[0]:
            parts = linear_parts(f.args[0])[1]  # Cov(b, u) E step(u) = Cov(b, u)/2, also where u is 0 almost surely
            return add_all(self.cov(b, x) * a for x, a in parts.items()).scale(Fraction(1, 2))
        related = [(x, self.cov(b, x)) for x in sorted(p.support, key=lambda x: x.index)]
        return add_all(c * self(self.algebra.derivative(p, x)) for x, c in related if c)

    def _atom(self, mono: Mono) -> Poly:
        forms = sorted(random_arguments([f for f, _ in mono]), key=_age)
        scalars: dict[Any, Any] = {}
        body = body_of(list(mono), forms, scalars)
        entries = []
        for i, u in enumerate(forms):
            for v in forms[i:]:
                entries.append(self.covariance(u, v))
        cov = tuple(entries)
        mean = tuple(linear_parts(u)[0] for u in forms)
        key = (body, cov, mean)
        if key not in self._atoms:
            self._atoms[key] = monomial(Expect(body, cov, mean, scalars, tuple(forms)))
        return self._atoms[key]

    def _lawful(self, mono: Mono) -> Poly:
        """The same where weights have other laws: no rule of Gaussians applies, all of it is one atom."""
        if any(isinstance(f, Apply) and f.fn is Delta for f, _ in mono):
            raise AssumptionError("a Dirac δ of an embedding whose weights are not Gaussian is not derived")
        forms = sorted(random_arguments([f for f, _ in mono]), key=_age)
        scalars: dict[Any, Any] = {}
        body = body_of(list(mono), forms, scalars)
        linear = [linear_parts(u) for u in forms]
        parts: list[tuple[Part, ...]] = []
        for _, own in linear:
            found = []
            for g, c in own.items():
                if (e := self._law(g)) is not None:
                    found.append(Part(c, e.parameter, e.law, e.std, e.data))
                    scalars.update({h.symbol: h for m in c.terms for h, _ in m})
                    scalars.update({s: Scalar(s) for s in (e.data, *e.std.free_symbols) if s is not None})
            parts.append(tuple(found))
        rest = [{g: c for g, c in own.items() if self._law(g) is None} for _, own in linear]
        pairs = [(i, j) for i in range(len(forms)) for j in range(i, len(forms))]
        gaussian = tuple(
            add_all(x * y * self.cov(a, b) for a, x in rest[i].items() for b, y in rest[j].items()) for i, j in pairs
        )
        scalars.update({h.symbol: h for p in gaussian for m in p.terms for h, _ in m})
        cov = tuple(self.covariance(forms[i], forms[j]) for i, j in pairs)
        mean = tuple(c for c, _ in linear)
        key = (body, cov, mean, tuple(parts))
        if key not in self._atoms:
            self._atoms[key] = monomial(Lawful(body, (cov, mean), scalars, tuple(forms), key[3], gaussian))
        return self._atoms[key]


def _degree(p: Poly) -> int:
    """The highest exponent of any generator."""
    return max((e for mono in p.terms for _, e in mono), default=0)


def _age(form: Poly) -> list[int]:
    """One order of variables for all atoms: by the Gaussians they are made of, oldest first."""
    return sorted(g.index for g in form.support)


def _holds_blend(g: Gen) -> bool:
    """Whether a sum over positions of what is not Gaussian stands in a factor."""
    if isinstance(g, Apply):
        return any(_holds_blend(h) for p in g.args for m in p.terms for h, _ in m)
    return isinstance(g, Blend)


def _cost(mono: Mono) -> tuple[int, int]:
    return (any(isinstance(g, Apply) for g, _ in mono), len(mono))


def _killed(mono: Mono) -> bool:
    """Whether δ(u) meets a function of u that is continuous and 0 at 0."""
    deltas = {f.args for f, _ in mono if isinstance(f, Apply) and f.fn is Delta}
    return bool(deltas) and any(isinstance(f, Apply) and f.args in deltas and vanishes_at_0(f.fn) for f, _ in mono)


def _collides(mono: Mono) -> bool:
    """Whether Stein's lemma could bring a product of two Dirac deltas, or a derivative of one beside a jump, or one
    of an argument that is not affine.

    The expectations of the first two are infinite where the variables are proportional, though the sum of all is not;
    those of the last are integrals along a curve.
    """
    count = sum(e for g, e in mono if isinstance(g, Gaussian))
    if any(count > smoothness(g) and not all(map(affine, g.args)) for g, _ in mono if isinstance(g, Apply)):
        return True
    steps = sorted(e * smoothness(g) + 1 for g, e in mono if isinstance(g, Apply))  # derivatives until there is a delta
    return len(steps) > 1 and steps[1] < math.inf and (steps[0] < count or steps[0] + steps[1] <= count)


def _odd(mono: Mono) -> bool:
    """Whether the product is odd under u ↦ -u for jointly centred Gaussians."""
    sign = 1
    for f, e in mono:
        parity = _parity(f) if isinstance(f, Apply) else -1
        if not parity:
            return False
        sign *= parity**e
    return sign < 0


def _parity(f: Apply) -> int:
    if not (isinstance(f.fn, type) and issubclass(f.fn, Fn)):
        return 0
    argument = _poly_parity(f.args[0])
    family = f.fn.family.parity * (-1) ** f.fn.order if f.fn.family.parity else 0
    return {1: 1, -1: family}.get(argument, 0)


def _poly_parity(p: Poly) -> int:
    """+1, -1 or 0 (mixed) under a change of sign of all base Gaussians."""
    found = set()
    for mono in p.terms:
        sign = 1
        for g, e in mono:
            if isinstance(g, Gaussian):
                sign *= (-1) ** e
            elif isinstance(g, Apply) and g.support:
                sign *= _parity(g) ** e
        found.add(sign)
    return found.pop() if len(found) == 1 else 0
