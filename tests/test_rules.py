"""Every instruction has a rule in every pass, or is known to need none."""

import typing

import pytest

from tensorprog.derivation import paths
from tensorprog.finite import execute
from tensorprog.ir import instructions, serial, spec
from tensorprog.ir.instructions import (
    Copied,
    Difference,
    Gathered,
    InitMatrix,
    InitScalar,
    InitVector,
    Mask,
    MatMul,
    Mix,
    Moment,
    Outer,
    Place,
    RowSum,
    Score,
    Softmax,
    Weigh,
)
from tensorprog.limit import master, sampling
from tensorprog.passes import backprop, canonicalize, feature, separate, unroll

OVER_POSITIONS = (Mix, Place, Outer, RowSum, Mask, Weigh, Score, Softmax, Copied, Gathered)
INSTRUCTIONS = typing.get_args(instructions.Instruction)
# the functions to register a rule with, and the instructions that never reach them
TABLES = {
    spec.violations: (),
    backprop.pull: (Difference,),  # programs are unrolled after they are differentiated
    unroll.change: (Difference, *OVER_POSITIONS),  # networks with positions are taken apart first
    feature.advance: (Difference, *OVER_POSITIONS),
    canonicalize.rewrite: (),
    master.interpret: (),
    sampling.draw: (InitVector, *OVER_POSITIONS),  # jointly, by ``Replicate``; programs with positions are refused
    paths.derivatives: (
        InitMatrix,
        InitScalar,
        Moment,
        Difference,
        *OVER_POSITIONS,
    ),  # of vectors in a forward pass without positions
    execute.run: (MatMul,),  # many at a time, by ``execute``
    separate.apart: (),
}


@pytest.mark.parametrize("table", TABLES, ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_every_instruction_has_a_rule(table):
    needed = [c for c in INSTRUCTIONS if c not in TABLES[table]]
    missing = [c.__name__ for c in needed if table.dispatch(c) is table.dispatch(object)]
    assert missing == [], f"register rules with {table.__module__}.{table.__name__}"
    assert all(c not in table.registry for c in TABLES[table])


def test_every_instruction_has_a_result_and_is_written_and_read():
    assert set(instructions.RESULT_KIND) == set(INSTRUCTIONS) == set(serial._INSTRUCTIONS.values())
