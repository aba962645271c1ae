"""The Z of every vector of a network and its backward pass, and where each term of its Ż comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tensorprog.algebra import Blend, Gaussian, Gen, Poly, to_sympy
from tensorprog.derivation.names import NetworkNames
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.formulas.spelling import Windows, read_by, reads
from tensorprog.formulas.typeset import TEX
from tensorprog.ir.axes import Everywhere
from tensorprog.ir.instructions import InitVector, MatMul, Mix, Place, Var
from tensorprog.ir.maps import Given
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import backprop
from tensorprog.printing import NameSymbol, latex
from tensorprog.report.formulas import formula
from tensorprog.report.subject import Subject, subject
from tensorprog.report.tikz import math


@dataclass(frozen=True)
class Line:
    """A formula in LaTeX, and a sentence about it."""

    tex: str
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """A vector: its printed name, how it is computed, its Z, and what is to be said about that."""

    name: str
    how: str
    z: str
    lines: tuple[Line, ...] = ()


def distributions(net: Network, lengths: Sequence[int] | None = None) -> Iterator[Row]:
    """A row for every vector in the drawing of a network's forward and backward pass, in order.

    Args:
        net: an architecture.
        lengths: the length of the sequence, for networks that take one.
    """
    s = subject(net, backprop=True, lengths=lengths)
    assert s.trace is not None
    trace = s.trace
    program, gradients = backprop(trace)
    limit = Interpreter(program, NetworkNames(s.trace, gradients))
    names = Called(s, limit)
    original: dict[Var, Var] = {}
    for var, kept in s.kept.items():
        original.setdefault(kept, var)
    for var in s.drawn:
        old, op = original.get(var), s.op(var)
        if isinstance(op, InitVector):
            how = _initial(s, var)
            yield Row(
                s.name(var),
                how,
                _law(op, var, names.z(var), lambda: _patches(trace)),
                tuple(_correlations(op, var, s, names)),
            )
        elif old is not None and var.kind == "vector":
            lines = tuple(_origins(names, old)) if old in limit.zdot_terms else ()
            z = _summed(names, old) or f"{names.z(old)} = {names.latex(limit.z[old])}"
            yield Row(s.name(var), f"= {_how(s, var)}", z, lines)


class Called:
    """Variables and base Gaussians as the drawing calls them, in LaTeX."""

    def __init__(self, s: Subject, limit: Interpreter) -> None:
        self.s, self.limit = s, limit
        self._products: dict[Any, Var] = {}
        for var, op in limit.program:
            if isinstance(op, MatMul):
                self._products.setdefault((op.matrix, op.transpose, op.x), var)

    def text(self, var: Var) -> str:
        """The name of a variable of the program that the drawing was made from."""
        kept = self.s.kept.get(var, var)
        return self.s.name(kept)

    def z(self, var: Var) -> str:
        """Z^x."""
        return f"Z^{{{math(self.text(var))}}}"

    def zhat(self, matrix: Var, transpose: bool, x: Var) -> str:
        """Ẑ of a product."""
        return rf"\hat {self.z(self._products[matrix, transpose, x])}"

    def latex(self, p: Poly) -> str:
        """A Z, or a mean."""
        return latex(to_sympy(p, self._renamed), dots=True)

    def _renamed(self, g: Gen) -> sp.Expr | None:
        if isinstance(g, Blend):
            return NameSymbol(str(g.symbol), self.z(g.source))
        if not isinstance(g, Gaussian):
            return None
        if isinstance(g.block, tuple) and g.block[0] == "shared":  # along positions, where each product has its own
            return NameSymbol(str(g.symbol), rf"\hat {self.z(g.source)}")
        product = self._products.get((*g.block, g.source)) if isinstance(g.block, tuple) else None
        return NameSymbol(str(g.symbol), self.z(g.source) if product is None else rf"\hat {self.z(product)}")


def _summed(names: Called, var: Var) -> str | None:
    """The Z of a weighted sum over positions, Z^y[p] = (1/|w|) Σ_k Z^x[p + k], or of vectors drawn for each."""
    op = names.limit.program.op(var)
    if isinstance(op, Place) and isinstance(op.by.map, Everywhere):
        return rf"{names.z(var)}[p] = \frac{{1}}{{\sqrt{{P}}}} Z^{{{math(names.text(op.x))}[p]}}"
    if not isinstance(op, Mix):
        return None
    m, y, x = op.by.map, names.z(var), names.z(op.x)
    windows = Windows.of([m])
    if isinstance(m, Everywhere):
        over = r"\frac{1}{P} " if m.is_mean else ""
        return rf"{y}[p] = {over}{x}" if op.transpose else rf"{y} = {over}\sum_{{p}} {x}[p]"
    if isinstance(m, Given):
        entry = "r" if m.pooled else "r,p" if op.transpose else "p,r"
        if m.pooled and op.transpose:
            return rf"{y}[p] = {m.name}[p] \, {x}"
        return rf"{y}{'' if m.pooled else '[p]'} = \sum_{{r}} {m.name}[{entry}] \, {x}[r]"
    at = (read_by if op.transpose else reads)(m, "p", "k")
    over = rf"\frac{{1}}{{{windows.size(m, TEX)}}} " if m.is_mean else ""
    return rf"{y}[p] = {over}\sum_{{k}} {x}[{at}]"


def _initial(s: Subject, var: Var) -> str:
    """= U(x) where an embedding has another name."""
    assert s.labels is not None and s.trace is not None
    embedded = str(s.labels.embedded(var)) if var in s.trace.embeddings else s.name(var)
    return "initial vector" if embedded == s.name(var) else f"= {embedded}, initial vector"


def _how(s: Subject, var: Var) -> str:
    op: Any = s.op(var)
    return f"{s.matrix(op)} {s.name(op.x)}" if isinstance(op, MatMul) else formula(s, var)


def _patches(trace: Trace) -> dict[sp.Symbol, sp.Symbol]:
    """Inner products of what windows read of the inputs, at positions p and q."""
    found: dict[sp.Symbol, sp.Symbol] = {}
    for symbol, (a, b) in trace.grams.items():
        if a.by is not None and b.by is not None:
            over = Windows.of([a.by.map]).size(a.by.map, TEX)
            at = [reads(d.by.map, "pq"[d.owner], "k") for d in (a, b) if d.by is not None]
            inside = rf"\langle {a.label}[{at[0]}],{b.label}[{at[1]}]\rangle"
            found[symbol] = NameSymbol(f"{symbol}[p,q]", rf"\left(\frac{{1}}{{{over}}} \sum_{{k}} {inside}\right)")
    return found


def _law(op: InitVector, var: Var, z: str, patches: Callable[[], dict[sp.Symbol, sp.Symbol]]) -> str:
    variance = op.covariance(var).xreplace(patches())
    if variance == 0:
        return f"{z} = {latex(op.mean)}"
    return rf"{z} \sim \mathcal{{N}}\left({latex(op.mean)}, {latex(variance)}\right)"


def _correlations(op: InitVector, var: Var, s: Subject, names: Called) -> Iterator[Line]:
    """The covariance matrix of correlated initial vectors, at the last of them."""
    related = [v for v, _ in op.cov if v in s.drawn and v != var]
    later = (s.op(v) for v in s.drawn[s.drawn.index(var) + 1 :])
    if not related or any(isinstance(o, InitVector) and o.covariance(var) != 0 for o in later):
        return
    vectors = [*related, var]
    z = r" \\ ".join(map(names.z, vectors))
    rows = r" \\ ".join(" & ".join(latex(_covariance(s, a, b)) for b in vectors) for a in vectors)
    yield Line(rf"\operatorname{{Cov}}\begin{{pmatrix}} {z} \end{{pmatrix}} = \begin{{pmatrix}} {rows} \end{{pmatrix}}")


def _covariance(s: Subject, a: Var, b: Var) -> sp.Expr:
    """Of two initial vectors: the later one knows it."""
    return s.op(b).covariance(a) or s.op(a).covariance(b)


def _origins(names: Called, var: Var) -> Iterator[Line]:
    """Ż^{Wx} = Σ a_i Z^{y_i}, with one y_i for each earlier product Wᵀy that Z^x depends on."""
    limit, s = names.limit, names.s
    op = limit.program.op(var)
    assert isinstance(op, MatMul)
    x, product = names.text(op.x), s.matrix(op)
    back = s.matrix(MatMul(op.matrix, not op.transpose, op.x))
    terms = limit.zdot_terms[var]
    factors = ["a"] if len(terms) == 1 else [f"a_{{{k + 1}}}" for k in range(len(terms))]
    if terms:
        total = " + ".join(rf"{a} \, {names.z(y)}" for a, (_, y) in zip(factors, terms, strict=True))
        yield Line(rf"\dot {names.z(var)} = {total}")
    for name, (a, y) in zip(factors, terms, strict=True):
        variance = names.latex(limit.variance[op.matrix])
        factor = "" if variance == "1" else rf"{variance} \cdot "
        yield Line(
            rf"{name} = {factor}\mathbb{{E}}{_derivative(names, op, y)} = {names.latex(a)}",
            f"{back} {names.text(y)} was computed before, and {x} depends on it"
            + (f"; the factor is the variance of {product.removesuffix('ᵀ')}" if factor else ""),
        )
    if not terms:
        earlier = list(dict.fromkeys(_earlier(limit, var, op)))
        for y in earlier:
            yield Line(
                rf"\mathbb{{E}}{_derivative(names, op, y)} = 0",
                f"{back} {names.text(y)} was computed before, but the mean derivative of {x} in it is 0: no Ż from it",
            )
        if not earlier:
            yield Line(rf"\dot {names.z(var)} = 0", f"{back} has not been used before {product} {x}")


def _derivative(names: Called, op: MatMul, y: Var) -> str:
    """∂Z^x/∂Ẑ^{Wᵀy} for the product Wx."""
    return rf"\frac{{\partial {names.z(op.x)}}}{{\partial {names.zhat(op.matrix, not op.transpose, y)}}}"


def _earlier(limit: Interpreter, var: Var, op: MatMul) -> list[Var]:
    """The y of earlier products Wᵀy whose Ẑ is not a combination of others."""
    field = limit.fields.get((op.matrix, not op.transpose))
    spatial = limit.spatial is not None and limit.program.axes(op.x) is not None  # no field: every product is its own
    independent = {g.source for g in field.z} if field else set()
    found = []
    for v, o in limit.program:
        if v == var:
            break
        if isinstance(o, MatMul) and o.matrix == op.matrix and o.transpose != op.transpose:
            found.extend([o.x] if spatial or o.x in independent else [])
    return found
