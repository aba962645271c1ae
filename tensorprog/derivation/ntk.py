"""The NTK as a sum over uses of parameters, exact at every width (TP2b Eq. 99-100).

Θ(ξ,ξ') = Σ_W σ_W² Σ_{g=Wh, g'=Wh'} Moment(dg dg') Moment(h h') + embeddings + biases + readouts.
One list of terms serves both the limit (Moments become expectations) and finite width (averages).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import sympy as sp

from tensorprog.algebra import ONE, ZERO, Poly, add_all, monomial
from tensorprog.dsl.parameters import Parameter
from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import AssumptionError
from tensorprog.ir.axes import TOTAL, Axes, Reading
from tensorprog.ir.instructions import MatMul, Var
from tensorprog.limit.equations import Name
from tensorprog.limit.master import Interpreter
from tensorprog.limit.positions import Along
from tensorprog.limit.twins import alike
from tensorprog.passes.backprop import Gradients

Counts = Callable[[Var, Var], bool]
Uses = dict[Var | None, list[tuple[Var, Var, bool, Reading | None]]]  # (gradient, what is multiplied, transposed, map)


@dataclass(frozen=True)
class Term:
    """factor · Moment(gradient pair) · Moment(activation pair); a missing pair counts 1.

    Over positions, the sum of all pairs of them, with the map ``by``, or its transpose, applied to the activations as
    Σ_k x[m_k] x'[m_k].
    """

    factor: sp.Expr
    gradient: tuple[Var, Var] | None = None
    activation: tuple[Var, Var] | None = None
    by: Reading | None = None
    transpose: bool = False


def every(d: Var, d2: Var) -> bool:
    """All pairs of gradients count."""
    return True


def rate(name: str, trained: Container[str] | None) -> sp.Expr:
    """The factor of a parameter in the NTK: 1, 0 where it is not trained, or what a mapping of ``trained`` says."""
    if trained is None:
        return sp.S.One
    if name not in trained:
        return sp.S.Zero
    return sp.sympify(trained[name]) if isinstance(trained, Mapping) else sp.S.One


def ntk_terms(
    trace: Trace, gradients: list[Gradients], i: int, j: int, counts: Counts = every,
    trained: Container[str] | None = None,
) -> Iterator[Term]:  # fmt: skip
    """The terms of Θ(ξ_i, ξ_j) whose pair of gradients ``counts``: in the limit few of an RNN's T T' are not 0."""
    yield from body_terms(trace, gradients[i], gradients[j], trained, counts)
    yield from readout_terms(trace, i, j, trained)


def body_terms(
    trace: Trace, a: Gradients, b: Gradients, trained: Container[str] | None = None, counts: Counts = every
) -> Iterator[Term]:
    """The terms of matrices, biases and embeddings (all, or those ``trained``), for outputs with these gradients."""
    uses = _uses(trace, a), _uses(trace, b)
    embedded = defaultdict(list)
    for var, (name, _) in trace.embeddings.items():
        embedded[name].append(var)
    for name, p in trace.parameters.items():
        if factor := rate(name, trained):
            for term in chain(_matrix_terms(p, *uses, counts) if p.kind == "matrix" else (),
                              _initial_terms(trace, a, b, p, embedded.get(name, ()), counts)):  # fmt: skip
                yield replace(term, factor=term.factor * factor)


def _matrix_terms(p: Parameter, left: Uses, right: Uses, counts: Counts) -> Iterator[Term]:
    for dg, h, transpose, by in left.get(p.var, ()):
        for dg2, h2, transpose2, by2 in right.get(p.var, ()):
            if by != by2 and not (by and by2 and alike(by, by2) and transpose == transpose2):
                raise AssumptionError(f"the convolution by {p.var} is used in two ways, whose NTK is not derived")
            # the gradient of W is dg hᵀ for g = Wh and h dgᵀ for g = Wᵀh
            pairs = ((dg, dg2), (h, h2)) if transpose == transpose2 else ((dg, h2), (h, dg2))
            if counts(*pairs[0]):
                yield Term(p.std**2, *pairs, by=by)


def _uses(trace: Trace, g: Gradients) -> Uses:
    """Of each matrix, the gradients where it is used, what it multiplies there, whether transposed, and its map."""
    found: Uses = defaultdict(list)
    for var, op in trace.program:
        if isinstance(op, MatMul):
            found[op.matrix] += [(d, op.x, op.transpose, op.by) for d in g.of.get(var, ())]
    return found


def _initial_terms(
    trace: Trace, a: Gradients, b: Gradients, p: Parameter, embedded: Sequence[Var], counts: Counts
) -> Iterator[Term]:
    if p.kind == "bias" and p.var is not None:
        for place, d in a.places.get(p.var, ()):
            for place2, d2 in b.places.get(p.var, ()):
                if counts(d, d2) and (place.by.map, place.transpose) == (place2.by.map, place2.transpose):
                    yield Term(p.std**2, (d, d2), by=place.by, transpose=place.transpose)
        for d in a.of.get(p.var, ()):
            for d2 in b.of.get(p.var, ()):
                if counts(d, d2):
                    yield Term(p.std**2, (d, d2))
    for var in embedded:
        for d in a.of.get(var, ()):
            for var2 in embedded:
                for d2 in b.of.get(var2, ()):
                    if counts(d, d2):
                        yield Term(trace.covariance(var, var2), (d, d2))


def readout_terms(trace: Trace, i: int, j: int, trained: Container[str] | None = None) -> Iterator[Term]:
    """σ_v² Moment(x x') of the readouts, and the output biases (all, or those ``trained``)."""
    return output_terms(trace.outputs[i], trace.outputs[j], trained)


def output_terms(f: Output, f2: Output, trained: Container[str] | None = None) -> Iterator[Term]:
    """The same between any two outputs."""
    for r in f.readouts:
        for r2 in f2.readouts:
            if r.trained and r2.trained and r.v == r2.v and (factor := rate(r.name, trained)):
                yield Term(r.std * r2.std * factor, activation=(r.x, r2.x), by=r.by)
    for name, std in f.biases:
        for name2, std2 in f2.biases:
            if name == name2 and (factor := rate(name, trained)):
                yield Term(std * std2 * factor)


def sum_terms(terms: Iterator[Term], limit: Interpreter) -> Poly:
    """The limit of a sum of terms, as Σ Π·(...) with a named cofactor wherever one is known."""
    products: dict[tuple[Axes | None, Axes | None], list[tuple[Poly, Poly]]] = defaultdict(list)
    for t in terms:
        gradient = limit.moment(*t.gradient) if t.gradient else ONE
        activation = limit.moment(*t.activation) if gradient and t.activation else ONE
        if t.by is not None and limit.spatial:
            activation = limit.spatial.along(t.by, "shared", t.transpose, activation, None)
        axes = _axes(t.gradient, limit) if t.gradient else (None, None)
        if axes == (None, None) and t.activation is None and (total := _summed(gradient)) is not None:
            axes, gradient = (total.by.axes, total.by.axes), total.inner
        products[axes].append((gradient, limit.algebra.from_sympy(t.factor, {}) * activation))
    return limit.averaged(add_all(_total(*axes, group(of, limit), limit) for axes, of in products.items()))


def _summed(p: Poly) -> Along | None:
    """The sum over all pairs of positions that p is: as the gradient of a bias, which all positions share."""
    gens = [g for mono in p.terms for g, _ in mono]
    total = gens[0] if len(gens) == 1 and p == monomial(gens[0]) else None
    if isinstance(total, Name):
        return _summed(total.definition)
    if isinstance(total, Along) and (total.by.map, total.how, total.transpose) == (TOTAL, "both", False):
        return total
    return None


def _axes(pair: tuple[Var, Var], limit: Interpreter) -> tuple[Axes | None, Axes | None]:
    """The axes of two vectors; twice those of the first where they differ by the input alone."""
    left, right = map(limit.program.axes, pair)
    return (left, left) if alike(Reading(TOTAL, left), Reading(TOTAL, right)) else (left, right)


def _total(left: Axes | None, right: Axes | None, p: Poly, limit: Interpreter) -> Poly:
    """The sum over all positions of what has axes."""
    if limit.spatial is None or not p:
        return p
    by, by2 = (None if axes is None else Reading(TOTAL, axes) for axes in (left, right))
    if by and by2 and alike(by, by2):
        return limit.spatial.along(by, "both", False, p, None)
    p = p if by is None else limit.spatial.along(by, "left", False, p, None)
    return p if by2 is None else limit.spatial.along(by2, "right", False, p, None)


def group(products: Iterable[tuple[Poly, Poly]], limit: Interpreter) -> Poly:
    """Σ a·b with the b of equal a added up first, and their sum named where it is a known quantity."""
    cofactors: dict[Poly, list[Poly]] = defaultdict(list)
    for a, b in products:
        if a and b:
            cofactors[a].append(b)
    sums = ((a, add_all(parts)) for a, parts in cofactors.items())
    return add_all(a * limit.known(total) for a, total in sums)


def nngp(trace: Trace, limit: Interpreter, i: int, j: int) -> Poly:
    """The NNGP kernel: the limiting covariance of the outputs, σ_v² E Z^x Z^x' summed over random readouts.

    Raises:
        AssumptionError: an output is read by a constant vector; it has no Gaussian-process limit given by
            second moments.
    """
    if not trace.passes_gia_check:
        raise AssumptionError(
            "this network's readout is not an independent random vector, so its output is no Gaussian process "
            "with a covariance given by the program's limit; use net.readout for an NNGP kernel"
        )
    return nngp_between(trace, trace.outputs[i], trace.outputs[j], limit) if trace.outputs else ZERO


def nngp_between(trace: Trace, f: Output, f2: Output, limit: Interpreter) -> Poly:
    """The same between any two outputs."""
    return sum_terms(nngp_terms(trace, f, f2), limit)


def nngp_terms(trace: Trace, f: Output, f2: Output) -> Iterator[Term]:
    """Its terms: random readouts, random readouts of the input, and output biases."""
    yield from output_terms(f, f2, trace.random)
    for r in f.readouts:
        for r2 in f2.readouts:
            if r.of_input and r2.of_input:
                yield Term(r.std * r2.std, activation=(r.x, r2.x))
