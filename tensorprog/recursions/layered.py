"""The limit with sums and rescaled vectors taken one instruction at a time, so that equations stay as short as layers.

The covariance of h + r is that of h plus that of r, where the two are independent, and that of c h is c c' times that
of h, where c is made of scalars: 1/√v of a layer norm.  ``Limit`` writes all of them in what the first layer embeds and
in products with matrices, so that the stream of a residual network is a sum that grows with depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

import sympy as sp

from tensorprog.algebra import ONE, Apply, Gaussian, Gen, Poly, Scalar, add_all, affine, linear_parts, monomial
from tensorprog.derivation.names import EveryName, Place
from tensorprog.dsl.trace import Trace
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Moment, Nonlin, Var, Weigh, slots_of
from tensorprog.limit.equations import HEADS, Name, summed
from tensorprog.limit.master import Interpreter
from tensorprog.limit.positions import At
from tensorprog.printing import reads_data

HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"
Sum = tuple[tuple[Poly, Var], ...]  # with coefficients


class LayerNames(EveryName):
    """The same names; what is another quantity, or one at equal inputs, has none of its own, and scalars have places.

    ``original`` is the vector that another one is a multiple of, by functions of scalars; itself where it is none.
    """

    original: Callable[[Var], Var] = staticmethod(lambda var: var)

    def _scan(self) -> None:
        super()._scan()
        count: dict[str, int] = {}
        self._ordinal: dict[Var, int] = {}
        for var, op in self.trace.program:
            placed = [v for v in op.operands if v in self._depth and v in self._owner]
            if var.kind == "scalar" and placed:
                latest = max(reversed(placed), key=self._reach.__getitem__)
                self._reach[var], self._depth[var] = self._reach[latest], self._depth[latest]
                self._time[var], self._owner[var] = self._time[latest], self._owner[latest]
            if var in self._owner:
                self._ordinal[var] = count[self._owner[var]] = count.get(self._owner[var], 0) + 1

    @property
    def count(self) -> int:
        """How many vectors and scalars the program of one input has."""
        return max(self._ordinal.values(), default=0)

    def role(self, a: Var | None, b: Var | None, period: int) -> tuple[int, ...]:
        """Where in a layer of so many instructions two vectors stand, or what they are gradients of."""
        primals = [self.primal.get(v, v) for v in (a, b) if v is not None]
        return tuple(sorted(self._ordinal[v] - period * (self._depth[v] or 0) for v in primals))

    def letters(self, a: Var | None, b: Var | None) -> str:
        """What may stand below the letter of a quantity: of which matrix, or of which head."""
        a = self.primal.get(a, a) if a is not None else None
        if a is None or (b is not None and self._ordinal[self.primal.get(b, b)] != self._ordinal[a]):
            return ""
        if a.kind == "scalar":
            return ",".join(map(str, self.trace.called.get(a.name, ("", ()))[1][1:]))
        return self._below.get(self.original(a), "")

    def stem(self, a: Var) -> str:
        """The letter of a scalar."""
        return self.trace.called.get(a.name, ("m", ()))[0]

    def _place_embedding(self, var: Var, has_layers: bool) -> None:
        """What is embedded without a layer of its own is a matrix of the first that lacks one, else stands below it."""
        super()._place_embedding(var, has_layers)
        count = Counter(l for l in self._layers.values() if l is not None)
        if count and not self.trace.parameters[self.trace.embeddings[var][0]].indices:
            first = min(count)
            self._depth[var] = first if count[first] < count.get(first + 1, 0) else first - 1

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        return _known(p) or (kind == "moment" and self.identity(kind, a, b) is not None and _atom(p))

    def identity(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, Place, Place] | None:
        """Scalars of different layers are told apart as well."""
        if kind == "value" and a is not None and (place := self.place(a)) is not None:
            return self.stem(a), place, place
        return super().identity(kind, a, b)

    def head(self, kind: str, a: Var, b: Var) -> tuple[str, str]:
        """The letter of a quantity, with nothing below it; with a hat for what norms give."""
        gradients = kind == "moment" and a in self.primal and b in self.primal
        head, tex = ("Π", r"\Pi") if gradients else HEADS[kind]
        rescaled = all(self.original(v) != v for v in (self.primal.get(a, a), self.primal.get(b, b)))
        return (f"{head}{HAT}", rf"\hat{{{tex}}}") if rescaled else (head, tex)


def _one(p: Poly) -> Gen | None:
    """The generator that a polynomial is."""
    gens = [g for mono in p.terms for g, _ in mono]
    return gens[0] if len(gens) == 1 and p == monomial(gens[0]) else None


def _known(p: Poly) -> bool:
    """Whether p is made of hyperparameters, or a name, of two inputs or taken for one with itself."""
    g = _one(p)
    return (
        all(_is_constant(h) for mono in p.terms for h, _ in mono)
        or isinstance(g, Name)
        or (isinstance(g, At) and _known(g.inner))
    )


def _is_constant(g: Gen) -> bool:
    return type(g) is Scalar and not reads_data(g.symbol)


def _rescaled(p: Poly) -> bool:
    """Whether p is a name times functions of scalars."""
    gens = [g for mono in p.terms for g, _ in mono if not isinstance(g, Apply)]
    return len(p.terms) == 1 and len(gens) == 1 and isinstance(gens[0], Name)


def _atom(p: Poly) -> bool:
    return summed(p) or isinstance(_one(p), Expect)


def period(smaller: Trace, larger: Trace) -> int:
    """How many vectors and scalars one more layer has."""
    return LayerNames(larger, []).count - LayerNames(smaller, []).count


class Layered(Interpreter):
    """A limit whose moments of linear combinations are made of named moments.

    Args:
        program: a network's program, with its backward pass or without.
        namer: names by place.
    """

    def __init__(self, program: ProgramGraph, namer: LayerNames) -> None:
        self._far: dict[Var, int] = {}
        self._sums: dict[Var, Sum] = {}
        self._steps: dict[tuple[Var, Var], Poly] = {}
        self._weights: set[Var] = set()
        self._forward = {var for var, _ in namer.trace.program}
        namer.original = self._original
        for var, op in program:
            self._far[var] = 1 + max((self._far[v] for v in op.operands), default=0)
            if isinstance(op, (Nonlin, Weigh)):
                self._weights |= {v for v in op.operands if v.kind == "scalar"}
        super().__init__(program, namer)

    # ---- what vectors are made of ----------------------------------------------------------------------

    def sum_of(self, var: Var) -> Sum:
        """The terms of a vector that is a linear combination of others; nothing where it is none.

        Coefficients are made of scalars, those of gradients of functions of the forward pass too.
        """
        if var not in self._sums:
            op = self.program.op(var)
            self._sums[var] = self._read(op) if isinstance(op, Nonlin) else ()
        return self._sums[var]

    def _read(self, op: Nonlin) -> Sum:
        slots = slots_of(op)
        vectors = {s: v for s, v in slots.items() if v.kind == "vector"}
        if self._is_backward(op):  # functions of forward vectors are coefficients
            vectors = {s: v for s, v in vectors.items() if v not in self._forward}
        env = {s: self.z[v] for s, v in slots.items() if s not in vectors}
        found = {s: op.body.diff(s) for s in vectors}
        if any(c.free_symbols & vectors.keys() for c in found.values()):
            return ()
        if self.algebra.from_sympy(op.body.xreplace(dict.fromkeys(vectors, sp.S.Zero)), env):
            return ()
        parts = ((self.algebra.from_sympy(c, env), vectors[s]) for s, c in found.items())
        return tuple((c, v) for c, v in parts if c)

    def _is_backward(self, op: Nonlin) -> bool:
        return any(v not in self._forward for v in op.operands)

    def _original(self, var: Var) -> Var:
        parts = self.sum_of(var)
        rescaled = len(parts) == 1 and not all(_is_constant(g) for mono in parts[0][0].terms for g, _ in mono)
        return parts[0][1] if rescaled else var

    # ---- moments ---------------------------------------------------------------------------------------

    def _moment(self, zx: Poly, zy: Poly, x: Var, y: Var) -> Poly:
        key = (x, y) if (y, x) not in self._steps else (y, x)
        if key not in self._steps:
            self._steps[key] = self._named(self._step(*key), *key)
        return self._steps[key]

    def _step(self, x: Var, y: Var) -> Poly:
        """A moment in those of what the later of two vectors is made of."""
        turned = self._is_later(y, x)
        own, other = (y, x) if turned else (x, y)
        found: list[Poly] = []
        for c, v in self.sum_of(own):
            if c.support:
                part = self._of_products(c, v, self.sum_of(other) or ((ONE, other),), turned)
                if part is None:
                    break
            else:
                part = c * self._part(*((other, v) if turned else (v, other)), len(self.sum_of(own)) == 1)
            found.append(part)
        else:
            if found:
                return add_all(found)
        over = self.spatial.moment(x, y) if self.spatial else None
        return self.expect.product(self.z[x], self.z[y]) if over is None else over

    def _of_products(self, c: Poly, v: Var, terms: Sum, turned: bool) -> Poly | None:
        """E (c v)(Σ d w) = Σ E c d · E v w; None where c, d and v, w are not independent."""
        found: list[Poly] = []
        for d, w in terms:
            if self._is_alone(v, c.support | d.support | self.z[w].support):
                continue
            if self._is_alone(w, c.support | d.support | self.z[v].support):
                continue
            outer, inner = self.z[v].support | self.z[w].support, c.support | d.support
            if not outer.isdisjoint(inner) or self.expect.correlated(outer, inner):
                return None
            if moment := self.moment(*((w, v) if turned else (v, w))):
                found.append(moment * self.expect.product(c, d))
        return add_all(found)

    def _is_alone(self, var: Var, rest: Set[Gaussian]) -> bool:
        """Whether a vector is a centred Gaussian that is independent of all else."""
        z = self.z[var]
        return affine(z) and not linear_parts(z)[0] and not self.expect.correlated(z.support, rest)

    def _part(self, x: Var, y: Var, alone: bool) -> Poly:
        """The moment of a term; of one that is ``alone``, without a name where the other vector is taken apart."""
        later = y if self._is_later(y, x) else x
        return self._step(x, y) if alone and len(self.sum_of(later)) == 1 else self.moment(x, y)

    def _is_later(self, x: Var, y: Var) -> bool:
        """Whether x is to be taken apart before y."""
        return (bool(self.sum_of(x)), self._far[x]) > (bool(self.sum_of(y)), self._far[y])

    def _named(self, value: Poly, x: Var, y: Var) -> Poly:
        """A name for a moment, but for what sums leave of another one, where two vectors are not rescaled alike."""
        terms = [len(self.sum_of(v)) for v in (x, y)]
        if any(terms) and terms != [1, 1] and _rescaled(value):
            return value
        gaussian = all(affine(self.z[v]) and v in self._forward for v in (x, y))
        return self.system.define(value, "cov" if gaussian else "moment", x, y)

    def _name_covariance(self, u: Poly, v: Poly, value: Poly) -> Poly:
        x, y = self._named_by(u), self._named_by(v)
        if x is None or y is None or linear_parts(u)[0] or linear_parts(v)[0]:
            return self.system.define(value, "cov", x, y)
        return (
            self._moment(self.z[x], self.z[y], x, y)
            if u == self.z[x] and v == self.z[y]
            else super()._name_covariance(u, v, value)
        )

    def known(self, p: Poly) -> Poly:
        """The name of p, as it is or with names for its terms; p where it has none."""
        named = add_all(self.system.lookup(term) or term for term in (Poly({m: c}) for m, c in p.terms.items()))
        return self.system.lookup(named) or super().known(p)

    # ---- scalars ---------------------------------------------------------------------------------------

    def mean_of(self, op: Moment) -> Poly:
        """E of a body that is a quadratic form in vectors, by their moments."""
        slots = slots_of(op)
        vectors = [s for s, v in slots.items() if v.kind == "vector"]
        form = op.body.as_poly(*vectors) if vectors else None
        if form is None or form.total_degree() > 2:
            return super().mean_of(op)
        env = {s: self.z[v] for s, v in slots.items() if v.kind == "scalar"}
        parts = []
        for powers, c in form.terms():
            read = [slots[s] for s, e in zip(vectors, powers, strict=True) for _ in range(e)]
            if factor := self.algebra.from_sympy(c, env):
                parts.append(factor * (self.moment(*read) if len(read) == 2 else self.expect(self._product(read))))
        return add_all(parts)

    def _product(self, read: list[Var]) -> Poly:
        return self.z[read[0]] if read else Poly({(): 1})

    def define(self, p: Poly, var: Var) -> Poly:
        """A name for a scalar that vectors read; what scalars alone read stands in them."""
        return super().define(p, var) if var in self._weights else p
