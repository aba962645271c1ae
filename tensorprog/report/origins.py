"""The Z of every vector of a network and its backward pass, and where each term of its Ż comes from."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tensorprog.algebra import to_sympy
from tensorprog.derivation.names import NetworkNames
from tensorprog.dsl.network import Network
from tensorprog.ir.instructions import InitVector, MatMul, Var
from tensorprog.limit.master import Limit
from tensorprog.passes.backprop import backprop
from tensorprog.printing import latex
from tensorprog.report.formulas import formula
from tensorprog.report.subject import Subject, subject


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
    program, gradients = backprop(s.trace)
    limit = Limit(program, NetworkNames(s.trace, gradients))
    original: dict[Var, Var] = {}
    for var, kept in s.kept.items():
        original.setdefault(kept, var)
    for var in s.drawn:
        old, op = original.get(var), s.program.op(var)
        if isinstance(op, InitVector):
            yield Row(shown(var.name), "initial vector", _law(op, var), tuple(_correlations(op, var, s.drawn)))
        elif old is not None and var.kind == "vector":
            lines = tuple(_origins(limit, old)) if old in limit.zdot_terms else ()
            yield Row(shown(var.name), f"= {_how(s, var)}", rf"{_z(var)} = {latex(to_sympy(limit.z[old]))}", lines)


def _how(s: Subject, var: Var) -> str:
    op: Any = s.program.op(var)
    if isinstance(op, MatMul):
        return f"{matrix_name(op)} {shown(s.alias.get(op.x, op.x).name)}"
    return formula(var, op, s.alias).partition(" = ")[2]


def _z(var: Var) -> str:
    return f"Z^{{{_tex(var)}}}"


def _tex(var: Var) -> str:
    return str(sp.latex(sp.Symbol(var.name)))


def _law(op: InitVector, var: Var) -> str:
    variance = dict(op.cov).get(var, sp.S.Zero)
    if variance == 0:
        return rf"{_z(var)} = {latex(op.mean)}"
    return rf"{_z(var)} \sim \mathcal{{N}}\left({latex(op.mean)}, {latex(variance)}\right)"


def _correlations(op: InitVector, var: Var, drawn: Container[Var]) -> Iterator[Line]:
    for other, cov in op.cov:
        if other != var and other in drawn:
            yield Line(rf"\operatorname{{Cov}}({_z(var)}, {_z(other)}) = {latex(cov)}")


def _origins(limit: Limit, var: Var) -> Iterator[Line]:
    """Ż^{Wx} = Σ a_i Z^{y_i}, with one y_i for each earlier product Wᵀy that Z^x depends on."""
    op = limit.program.op(var)
    assert isinstance(op, MatMul)
    x, product, back = shown(op.x.name), matrix_name(op), matrix_name(MatMul(op.matrix, not op.transpose, op.x))
    terms = limit.zdot_terms[var]
    names = ["a"] if len(terms) == 1 else [f"a_{{{k + 1}}}" for k in range(len(terms))]
    if terms:
        total = " + ".join(rf"{a} \, {_z(y)}" for a, (_, y) in zip(names, terms, strict=True))
        yield Line(rf"\dot {_z(var)} = {total}")
    for name, (a, y) in zip(names, terms, strict=True):
        variance = latex(to_sympy(limit.variance[op.matrix]))
        factor = "" if variance == "1" else rf"{variance} \cdot "
        yield Line(
            rf"{name} = {factor}\mathbb{{E}}{_derivative(op, y)} = {latex(to_sympy(a))}",
            f"{back} {shown(y.name)} was computed before, and {x} depends on it"
            + (f"; the factor is the variance of {op.matrix}" if factor else ""),
        )
    if not terms:
        earlier = list(dict.fromkeys(_earlier(limit, var, op)))
        for y in earlier:
            yield Line(
                rf"\mathbb{{E}}{_derivative(op, y)} = 0",
                f"{back} {shown(y.name)} was computed before, but the mean derivative of {x} in it is 0: no Ż from it",
            )
        if not earlier:
            yield Line(rf"\dot {_z(var)} = 0", f"{back} has not been used before {product} {x}")


def _derivative(op: MatMul, y: Var) -> str:
    """∂Z^x/∂Ẑ^{Wᵀy} for the product Wx."""
    matrix = str(sp.latex(sp.Symbol(op.matrix.name))) + ("" if op.transpose else r"^\top")
    return rf"\frac{{\partial {_z(op.x)}}}{{\partial \hat Z^{{{matrix}\,{_tex(y)}}}}}"


def _earlier(limit: Limit, var: Var, op: MatMul) -> list[Var]:
    """The y of earlier products Wᵀy whose Ẑ is not a combination of others."""
    field = limit.fields.get((op.matrix, not op.transpose))
    independent = {g.source for g in field.z} if field else set()
    found = []
    for v, o in limit.program:
        if v == var:
            break
        if isinstance(o, MatMul) and o.matrix == op.matrix and o.transpose != op.transpose:
            found.extend([o.x] if o.x in independent else [])
    return found
