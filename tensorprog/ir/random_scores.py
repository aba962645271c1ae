"""Scalars that stay random in the limit, in a program: which they are, and what they are made of.

The derivative of an output by a scalar that converges is √n times a moment, and by a random one a moment times √n
over √n: ``backprop`` keeps the first over √n and the second as it is, and both never meet in one scalar.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from tensorprog.errors import NoRuleError
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    Copied,
    Gathered,
    InitScalar,
    Mask,
    Moment,
    RowSum,
    Score,
    Softmax,
    Var,
    scalar_slot,
)


def drawn_from(program: ProgramGraph, scalar: Var) -> frozenset[Var]:
    """The random scores that a scalar is a function of, through scalars alone."""
    op = program.op(scalar)
    if isinstance(op, Score):
        return frozenset([scalar])
    return frozenset().union(*(drawn_from(program, v) for v in op.operands if v.kind == "scalar"))


def are_random(program: ProgramGraph, ends: Iterable[Var]) -> bool:
    """Whether some of these vectors depend on random scores, but for those of infinitely many heads."""
    touched: set[Var] = set()
    for var, op in program:
        if isinstance(op, Score) or (not isinstance(op, Gathered) and not touched.isdisjoint(op.operands)):
            touched.add(var)
    return not touched.isdisjoint(ends)


def entrances(program: ProgramGraph, var: Var) -> set[Var]:
    """What is copied into the heads that a vector is made by."""
    found, seen, todo = set(), set(), [var]
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        op = program.op(v)
        if isinstance(op, Copied):
            found.add(op.x)
        else:
            todo.extend(op.operands)
    return found


def check_drawn(op: Moment, program: ProgramGraph) -> None:
    """Refuse the gradient of a function of random scores and of scalars that converge.

    Raises:
        NoRuleError: names them.
    """
    random = [v for v in op.params if drawn_from(program, v)]
    for v in op.params:
        if random and v not in random and not isinstance(program.op(v), (InitScalar, Mask)):
            raise NoRuleError(
                f"`{random[0]}` is a random score and `{v}` a mean over coordinates; the gradient of a function of "
                "both is not derived"
            )


def behind(program: ProgramGraph, var: Var) -> set[Var]:
    """What a variable depends on, with itself."""
    return {var, *nx.ancestors(program.graph, var)}


def softmax_gradient(program: ProgramGraph, var: Var) -> tuple[Var, Var] | None:
    """The weights a and the random da of a gradient a (da − Σ a da) of scores, as ``backprop`` writes it."""
    op = program.op(var)
    if not isinstance(op, Moment) or len(op.params) != 3 or op.args:
        return None
    slot = {type(program.op(v)): (v, scalar_slot(j)) for j, v in enumerate(op.params)}
    if slot.keys() != {Softmax, Score, RowSum}:
        return None
    (a, sa), (d, sd), (rows, sr) = (slot[kind] for kind in (Softmax, Score, RowSum))
    product = program.op(program.op(rows).s)  # type: ignore[union-attr]
    if op.body != sa * (sd - sr) or not isinstance(product, Moment) or set(product.params) != {a, d}:
        return None
    return (a, d) if product.body == scalar_slot(0) * scalar_slot(1) and not product.args else None
