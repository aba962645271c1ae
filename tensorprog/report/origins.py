"""The Z of every vector of a network and its backward pass, and where each term of its Ż comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy as sp

from tensorprog.algebra import to_sympy
from tensorprog.dsl.network import Network
from tensorprog.ir.instructions import Difference, InitVector, MatMul, Moment, Nonlin, Var
from tensorprog.kernels.names import NetworkNames
from tensorprog.limit.master import Limit, deep_recursion
from tensorprog.passes.backprop import backprop
from tensorprog.printing import latex
from tensorprog.report.glyphs import formula, matrix_name, shown
from tensorprog.report.subject import subject


@dataclass(frozen=True)
class Origin:
    """One term of a Ż, or the reason why there is none: a formula in LaTeX and a sentence."""

    tex: str
    reason: str


@dataclass(frozen=True)
class Row:
    """A vector: its printed name, how it is computed, and its Z."""

    name: str
    how: str
    lhs: str
    z: sp.Expr
    origins: tuple[Origin, ...] = ()


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
    with deep_recursion(len(program)):
        for var in s.drawn:
            if var in original and var.kind == "vector":
                old = original[var]
                origins = tuple(_origins(limit, old)) if old in limit.zdot_terms else ()
                yield Row(shown(var.name), _how(s.program.op(var), var), _z(var), to_sympy(limit.z[old]), origins)


def _how(op: object, var: Var) -> str:
    if isinstance(op, MatMul):
        return f"= {matrix_name(op)} {shown(op.x.name)}"
    if isinstance(op, Nonlin | Moment | Difference):
        return "= " + formula(var, op).partition(" = ")[2]
    return "initial vector" if isinstance(op, InitVector) else ""


def _z(var: Var) -> str:
    return f"Z^{{{sp.latex(sp.Symbol(var.name))}}}"


def _origins(limit: Limit, var: Var) -> Iterator[Origin]:
    """The terms a·Z^y of Ż^{Wx}, one for each earlier g = Wᵀy that Z^x depends on."""
    op = limit.program.op(var)
    assert isinstance(op, MatMul)
    name, back = matrix_name(op), matrix_name(MatMul(op.matrix, not op.transpose, op.x))
    terms = limit.zdot_terms[var]
    x = sp.latex(sp.Symbol(op.x.name))
    for a, y in terms:
        derivative = rf"\frac{{\partial Z^{{{x}}}}}{{\partial \hat Z^{{{_product(op, y)}}}}}"
        coefficient = rf"\sigma^2 \, \mathbb{{E}}{derivative} = {latex(to_sympy(a))}"
        yield Origin(
            rf"\dot Z \ni a \, {_z(y)} ,\quad a = {coefficient}",
            f"because {back} {shown(y.name)} was computed before, and {shown(op.x.name)} depends on it "
            f"(σ² = {latex_free(limit, op)}, the variance of {op.matrix})",
        )
    if not terms:
        earlier = _earlier(limit, var, op)
        why = (
            f"although {back} was used before, in {', '.join(shown(v.name) for v in earlier)}: "
            f"E ∂Z({shown(op.x.name)})/∂Ẑ is 0 for each"
            if earlier
            else f"since {back} has not been used before"
        )
        yield Origin(r"\dot Z = 0", f"{why}; {name} {shown(op.x.name)} is Gaussian")


def latex_free(limit: Limit, op: MatMul) -> str:
    """The variance of a matrix as text."""
    return str(to_sympy(limit.variance[op.matrix]))


def _product(op: MatMul, y: Var) -> str:
    matrix = sp.latex(sp.Symbol(op.matrix.name))
    return (matrix if op.transpose else rf"{{{matrix}}}^\top") + rf"\,{sp.latex(sp.Symbol(y.name))}"


def _earlier(limit: Limit, var: Var, op: MatMul) -> list[Var]:
    """Earlier products with the transpose."""
    found = []
    for v, o in limit.program:
        if v == var:
            break
        if isinstance(o, MatMul) and o.matrix == op.matrix and o.transpose != op.transpose:
            found.append(v)
    return found
