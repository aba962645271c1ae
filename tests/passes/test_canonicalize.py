"""The canonical form: reduced, idempotent, and equal to the program in the limit and at every width."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.errors import NoRuleError
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.execute import execute
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitVector, MatMul, Moment, Nonlin, Var, vector_slot
from tensorprog.ir.spec import canonical_violations
from tensorprog.limit.evaluate import fingerprint
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import backprop
from tensorprog.passes.canonicalize import rewrite
from tests.convolutions import flattened, pooled, strided, untied

C = sp.Symbol("c", real=True)
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=list(HealthCheck)
)
UNARY = [tp.relu, tp.tanh, tp.identity, lambda x: 3 * x, lambda x: 0 * x, lambda x: tp.erf(x) / 2 + 1]
BINARY = [lambda x, y: x + 2 * y, lambda x, y: x - y, lambda x, y: tp.relu(x) + tp.relu(y)]


@st.composite
def programs(draw):
    """A program over two matrices, two correlated vectors and one scalar, with chains of every kind."""
    p = tp.Program()
    matrices = [p.matrix("W", 2), p.matrix("V")]
    vectors, scalars = p.gaussian("a b", [[1, C], [C, 2]], mean=[0, 1]), [p.scalar("s", 0.5)]
    for _ in range(draw(st.integers(2, 7))):
        x, y = draw(st.sampled_from(vectors)), draw(st.sampled_from(vectors))
        s, kind = draw(st.sampled_from(scalars)), draw(st.integers(0, 5))
        if kind <= 1:
            W = draw(st.sampled_from(matrices))
            vectors.append((W.T if draw(st.booleans()) else W) @ x)
        elif kind == 2:
            vectors.append(tp.nonlin(draw(st.sampled_from(UNARY)), x))
        elif kind == 3:
            vectors.append(tp.nonlin(draw(st.sampled_from(BINARY)), x, y))
        elif kind == 4:
            vectors.append(tp.nonlin(lambda a, t: t * a + t, x, params=[s]))
        else:
            scalars.append(tp.moment(lambda a, b, t: a * b + t, x, y, params=[s]))
    return p


def limits(program, variables):
    """Every E Z^x, E Z^x Z^y and scalar of the variables, as numbers equal exactly when the limits are."""
    lim = Interpreter(program)
    vectors = [v for v in variables if v.kind == "vector"]
    polys = [lim.expect(lim.z[v]) for v in vectors]
    polys += [lim.moment(v, w) for i, v in enumerate(vectors) for w in vectors[i:]]
    polys += [lim.z[v] for v in variables if v.kind == "scalar"]
    return [float(x) for x in fingerprint(polys)]


def assert_same_limits(p, variables, q, images):
    np.testing.assert_allclose(limits(q, images), limits(p, variables), rtol=1e-14, atol=1e-14)


def assert_same_values(p, q, kept, values, width=24):
    old, new = (tp.sample(program, width=width, seed=3, values=values) for program in (p, q))
    for v, w in kept.items():
        if v.kind != "matrix":
            scale = 1 + np.abs(old[v]).max()
            np.testing.assert_allclose(new[w], old[v], rtol=0, atol=1e-12 * scale, err_msg=f"{v} -> {w}")


def instructions(program):
    return list(program)


@given(programs())
@PROPERTY
def test_result_is_canonical_and_canonicalization_is_idempotent(p):
    q, kept = tp.canonicalize(p)
    assert list(canonical_violations(q)) == []
    again, same = tp.canonicalize(q)
    assert instructions(again) == instructions(q)
    assert all(v == w for v, w in same.items())
    assert set(kept) == {v for v, _ in p} and set(kept.values()) <= {v for v, _ in q}


@given(programs())
@PROPERTY
def test_input_is_unchanged_and_names_survive(p):
    before = instructions(p)
    q, kept = tp.canonicalize(p)
    assert instructions(p) == before and type(q) is tp.Program
    assert all(w == v or v not in q for v, w in kept.items())
    assert all(kept.get(w, w) == w for w in kept.values())
    assert all(kept[v] == v for v, op in p if isinstance(op, InitVector))


@given(programs())
@PROPERTY
def test_limits_are_unchanged(p):
    q, kept = tp.canonicalize(p)
    variables = [v for v, _ in p if v.kind != "matrix"]
    assert_same_limits(p, variables, q, [kept[v] for v in variables])


@given(programs())
@PROPERTY
def test_finite_width_values_are_unchanged(p):
    q, kept = tp.canonicalize(p)
    assert_same_values(p, q, kept, {C: 0.3})


@given(programs())
@PROPERTY
def test_renaming_all_variables_leaves_limits_unchanged(p):
    names = {v: Var(f"q{len(p) - i}", v.kind) for i, (v, _) in enumerate(p)}
    q = ProgramGraph()
    for v, op in p:
        q.append(names[v].name, renamed(op, names))
    variables = [v for v, _ in p if v.kind != "matrix"]
    assert_same_limits(p, variables, q, [names[v] for v in variables])


def renamed(op, names):
    if isinstance(op, InitVector):
        return replace(op, cov=tuple((names[v], c) for v, c in op.cov))
    if isinstance(op, MatMul):
        return replace(op, matrix=names[op.matrix], x=names[op.x])
    if isinstance(op, (Nonlin, Moment)):
        args, params = (tuple(names[v] for v in vs) for vs in (op.args, op.params))
        return replace(op, args=args, params=params)
    return op


@pytest.mark.parametrize("name", ["mlp", "residual_mlp", "rnn", "tied_autoencoder", "mean_readout"])
def test_gradient_programs_of_the_gallery_keep_their_limits_and_values(name):
    net = getattr(tp.programs, name)()
    p, _ = backprop(net.trace([2, 1] if net.takes_sequences else [None, None]))
    q, kept = tp.canonicalize(p)
    assert list(canonical_violations(q)) == []
    assert instructions(tp.canonicalize(q)[0]) == instructions(q)
    grams = {s: 2.0 if s.name.count("'") != 1 else 0.5 for _, op in p for s in free_symbols(op)}
    assert_same_values(p, q, kept, grams)
    variables = [v for v, _ in p if v.kind == "vector"][-3:]
    assert_same_limits(p, variables, q, [kept[v] for v in variables])


def free_symbols(op):
    return {s for _, c in op.cov for s in c.free_symbols} if isinstance(op, InitVector) else set()


def program():
    p = tp.Program()
    return p, p.matrix("W"), p.vector("a"), p.vector("b")


def op_of(q, kept, x):
    return q.op(kept[x.var])


def test_a_chain_of_nonlins_becomes_one_nonlin_of_g_vars():
    p, W, a, b = program()
    g = W @ a
    x = tp.nonlin(lambda u, v: u * v, tp.tanh(g), tp.relu(b) + 1, name="x")
    q, kept = tp.canonicalize(p)
    x0, x1 = vector_slot(0), vector_slot(1)
    assert op_of(q, kept, x) == Nonlin((tp.relu(x0) + 1) * tp.tanh(x1), (b.var, g.var))


def test_parameters_of_a_chain_are_flattened():
    p, _, a, _ = program()
    s, m = p.scalar("s", 2), tp.moment(lambda u: u**2, a, name="m")
    x = (tp.relu(a) * s) * m + s
    q, kept = tp.canonicalize(p)
    assert op_of(q, kept, x).params == (s.var, m.var) and op_of(q, kept, x).args == (a.var,)


def test_moments_read_g_vars():
    p, _, a, b = program()
    m = tp.moment(lambda u, v: u * v, tp.tanh(a), b)
    q, kept = tp.canonicalize(p)
    assert op_of(q, kept, m) == Moment(tp.tanh(vector_slot(0)) * vector_slot(1), (a.var, b.var))


def test_one_identity_stands_between_a_g_var_and_its_matmuls():
    p, W, a, _ = program()
    y, z = W @ a, W.T @ a
    q, kept = tp.canonicalize(p)
    assert op_of(q, kept, y).x == op_of(q, kept, z).x
    assert q.op(op_of(q, kept, y).x) == Nonlin(vector_slot(0), (a.var,))


def test_an_identity_of_the_user_merges_with_the_inserted_one():
    p, W, a, _ = program()
    y = W @ a
    x = tp.nonlin(lambda u: u, a, name="x")
    z = W @ x
    q, kept = tp.canonicalize(p)
    assert kept[z.var] == kept[y.var] == y.var
    assert kept[x.var] == op_of(q, kept, y).x and x.var not in q


def test_inserted_names_avoid_every_name_of_the_program():
    p, W, a, _ = program()
    y = W @ a
    taken = tp.nonlin(lambda u: u**2, a, name="id(a)")
    q, kept = tp.canonicalize(p)
    assert kept[taken.var] == taken.var
    assert op_of(q, kept, y).x.name == "id(a)'"


def test_equal_instructions_merge_after_normalising_the_operands():
    p, W, a, b = program()
    pairs = [
        (tp.nonlin(lambda u, v: u - v, a, b), tp.nonlin(lambda u, v: v - u, b, a)),
        (tp.nonlin(lambda u, v: u * v, a, a), tp.nonlin(lambda u: u**2, a)),
        (tp.nonlin(lambda u, v: u + 0 * v, a, b), tp.nonlin(lambda u: u, a)),
        (tp.moment(lambda u, v: u * v, a, b), tp.moment(lambda u, v: u * v, b, a)),
        (W @ tp.relu(a), W @ tp.relu(a)),
        (0 * a, 0 * b),
    ]
    _, kept = tp.canonicalize(p)
    for x, y in pairs:
        assert kept[x.var] == kept[y.var] == x.var


def test_merging_goes_through_matmuls():
    p, W, a, _ = program()
    y, z = (W.T @ tp.tanh(W @ tp.relu(a) + 1) for _ in range(2))
    q, kept = tp.canonicalize(p)
    assert kept[z.var] == kept[y.var] == y.var
    assert sum(isinstance(op, MatMul) for _, op in q) == 2


def test_different_instructions_stay_apart():
    p, W, a, b = program()
    c = p.vector("c")
    s, t = p.scalar("s", 1), p.scalar("t", 1)
    xs = [W @ a, W.T @ a, W @ b, W @ c, a + s, a + t, a - b, b - a]
    _, kept = tp.canonicalize(p)
    assert len({kept[x.var] for x in xs}) == len(xs)


def test_initial_scalars_and_vectors_of_equal_law_are_not_merged():
    p = tp.Program()
    a, b, s, t = p.vector("a"), p.vector("b"), p.scalar("s", 1), p.scalar("t", 1)
    assert tp.canonicalize(p)[1] == {h.var: h.var for h in (a, b, s, t)}


def test_a_constant_vector_can_be_multiplied_and_run():
    p, W, a, _ = program()
    one = tp.nonlin(lambda u: 1, a)
    m = tp.moment(lambda u: 2, one)
    y = W @ (one * m)
    q, kept = tp.canonicalize(p)
    assert list(canonical_violations(q)) == []
    assert_same_values(p, q, kept, {})
    lim = tp.limit(q)
    assert lim.value(kept[m.var]) == 2 and lim.cov(kept[y.var], kept[y.var]) == 4


def test_nonlins_and_moments_without_vectors_are_handled():
    p = ProgramGraph()
    s = p.append("s", tp.Program().scalar("s", 3).program.op(Var("s", "scalar")))
    x = p.append("x", Nonlin(sp.Integer(2), (), (s,)))
    m = p.append("m", Moment(sp.Integer(2), ()))
    q, kept = tp.canonicalize(p)
    assert list(canonical_violations(q)) == []
    assert Interpreter(q).value(kept[m]) == 2 and Interpreter(q).mean(kept[x]) == 2


def test_functions_that_simplify_when_fused_keep_their_values():
    p, W, a, _ = program()
    g = W @ a
    root = tp.nonlin(lambda u: sp.sqrt(u), g**2)
    ratio = 1 / (1 + tp.tanh(g) ** 2)
    step = tp.step(tp.relu(g) * 2)
    q, kept = tp.canonicalize(p)
    assert op_of(q, kept, root).body == tp.abs(vector_slot(0))
    assert_same_values(p, q, kept, {})
    old, new = tp.limit(p), tp.limit(q)
    for x in (root, ratio, step):
        expected = old.evaluate(old.mean(x))
        assert new.evaluate(new.mean(kept[x.var])) == pytest.approx(expected, rel=1e-10)


def test_an_unknown_instruction_names_the_function_to_register_with():
    with pytest.raises(NoRuleError, match=r"int.*canonicalize\.rewrite"):
        rewrite(3, Var("x", "vector"), None)


@pytest.mark.parametrize("net", [pooled(), flattened(), strided(), untied()], ids=lambda net: net.name)
def test_canonical_programs_over_positions_have_the_same_values(net):
    inputs = read_inputs(np.random.default_rng(1).standard_normal((1, 4, 5, 2)), "X", net.form)
    finite = FiniteNetwork.of(net, inputs)
    reduced, of = tp.canonicalize(finite.program)
    assert not list(canonical_violations(reduced))
    start = finite.initial(finite.draw(6, [1]))
    values = execute(finite.program, start, finite.hyper, sizes=finite.sizes)
    same = execute(reduced, start, finite.hyper, sizes=finite.sizes)
    for var, value in values.items():
        assert np.abs(same[of[var]] - value).max() <= 1e-12 * np.abs(value).max()
        assert reduced.axes(of[var]) == finite.program.axes(var)
