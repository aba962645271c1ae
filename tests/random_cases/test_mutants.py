"""Mistakes planted in the package are found by the comparison that is there for them, and by few cases."""

from functools import partial

import numpy as np
import pytest

from tensorprog.compile import arrays
from tensorprog.finite import execute
from tensorprog.ir.instructions import MatMul, Moment, Nonlin, slots_of, vector_slot
from tensorprog.kernels import methods
from tensorprog.limit.master import INITIAL, Interpreter
from tensorprog.passes import backprop, canonicalize
from tests.random_cases.compare import Effort
from tests.random_cases.examine import check, made, smallest

CASES = 60


def found(kind, what, way):
    """The first fault of one comparison."""
    effort = Effort(only=(what, way), seconds=3.0)
    return next((f for seed in range(CASES) for f in check(made(kind, seed), effort).faults), None)


def registered(rule, cls, change):
    """A rule of a pass with a mistake, and how to take it back."""
    right = rule.dispatch(cls)
    rule.register(cls, partial(change, right))
    return lambda: rule.register(cls, right)


def sum_for_a_factor(limit, var, op):
    """The number of a sum taken for a factor."""
    c, rest = op.body.as_independent(*slots_of(op))
    if len(op.args) == 1 and not op.params and c != 0 and rest.has(vector_slot(0)):
        limit._multiples[var] = (limit.algebra.from_sympy(c, {}), op.args[0])


@pytest.mark.parametrize("way", ["fused", "sampled", "simulated", "canonical"])
def test_a_sum_taken_for_a_factor_is_found(monkeypatch, way):
    monkeypatch.setattr(Interpreter, "note_multiple", sum_for_a_factor)
    assert found("program", "limit", way)


@pytest.mark.parametrize("way", ["sampled", "simulated"])
def test_a_variance_that_all_exact_ways_share_is_found_by_samples(monkeypatch, way):
    right = Interpreter._base_cov

    def wrong(self, a, b):
        value = right(self, a, b)
        return value if a.block == INITIAL else value.scale(2)

    monkeypatch.setattr(Interpreter, "_base_cov", wrong)
    assert found("program", "limit", way)


@pytest.mark.parametrize("way", ["paths", "sampled", "simulated"])
def test_a_term_that_is_left_out_is_found(monkeypatch, way):
    right = methods.ntk_terms
    monkeypatch.setattr(methods, "ntk_terms", lambda *args, **kw: list(right(*args, **kw))[1:])
    assert found("net", "ntk", way)


@pytest.mark.parametrize("way", ["gram numpy"])
def test_an_angle_of_the_array_machine_is_found(monkeypatch, way):
    right = arrays._arc
    monkeypatch.setattr(arrays, "_arc", lambda m, op, gap: tuple(1.0001 * x for x in right(m, op, gap)))
    assert found("net", "nngp", way)


def test_a_moment_over_n_minus_1_is_found_at_finite_width():
    def wrong(right, op, values, hyper, sizes):
        return right(op, values, hyper, sizes) * 64 / 63

    undo = registered(execute.run, Moment, wrong)
    try:
        assert found("program", "finite", "sample")
    finally:
        undo()


@pytest.mark.parametrize("cls", [Nonlin, MatMul])
def test_a_wrong_rule_of_the_backward_pass_is_found_by_autograd(cls):
    undo = registered(backprop.pull, cls, lambda right, op, d, tape: right(op, 2 * d, tape))
    try:
        fault = found("net", "finite", "program")
        assert fault
        assert found("net", "ntk", "paths")
    finally:
        undo()


def test_a_rule_of_a_pass_that_forgets_the_transpose_is_found():
    def wrong(right, op, var, build):
        return right(MatMul(op.matrix, False, op.x), var, build)

    undo = registered(canonicalize.rewrite, MatMul, wrong)
    try:
        assert found("program", "limit", "canonical")
    finally:
        undo()


def test_a_fault_is_made_smaller(monkeypatch):
    monkeypatch.setattr(Interpreter, "note_multiple", sum_for_a_factor)
    fault = found("program", "limit", "sampled")
    small = smallest(fault, 10.0)
    assert len(small.case.lines) <= 2 < len(fault.case.lines)
    assert small.label == fault.label
    names = small.case.run()
    assert names["p"] and np.isfinite(small.found[0].value).all()
    assert "p = tp.Program()" in str(small)
