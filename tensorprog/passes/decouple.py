"""Replacing matrices by independent copies in chosen places: what an independence assumption would mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitMatrix, MatMul, Var


def decouple(program: ProgramGraph, where: Callable[[Var, MatMul], bool]) -> ProgramGraph:
    """The program in which the MatMuls that ``where`` selects use an independent copy of their matrix.

    With ``where`` true on the backward pass this is the gradient independence assumption (Yang 2020a).
    All variables keep their names.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W.T @ (W @ x)
    >>> tp.limit(p).zdot(y), tp.limit(decouple(p, lambda var, op: op.transpose)).zdot(y)
    (Z(x), 0)
    """
    result = type(program)()
    copies: dict[Var, Var] = {}
    for var, op in program:
        if isinstance(op, MatMul) and where(var, op):
            if op.matrix not in copies:
                original = program.op(op.matrix)
                assert isinstance(original, InitMatrix)
                copies[op.matrix] = result.append(f"{op.matrix}~", original)
            op = replace(op, matrix=copies[op.matrix])
        result.append(var.name, op)
    return result
