"""The program graph: append-only, single assignment, a networkx.MultiDiGraph with documented attributes."""

import networkx as nx
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.ir.graph import ProgramGraph, as_var
from tensorprog.ir.instructions import (
    InitMatrix,
    InitScalar,
    InitVector,
    MatMul,
    Moment,
    Nonlin,
    Slot,
    Var,
    scalar_slot,
    slots_of,
    vector_slot,
)


@pytest.fixture
def program():
    """Every instruction once: W, x, s, y = W x, z = tanh(y) + s x, m = mean z·x."""
    p = tp.Program()
    W, x, s = p.matrix("W"), p.vector("x"), p.scalar("s", 2)
    y = W.apply(x, "y")
    z = tp.nonlin(lambda a, b, t: sp.tanh(a) + t * b, y, x, params=[s], name="z")
    tp.moment(lambda a, b: a * b, z, x, name="m")
    return p


def test_graph_is_a_multidigraph_with_a_node_per_variable(program):
    assert type(program.graph) is nx.MultiDiGraph
    kinds = {v.name: v.kind for v in program.graph.nodes}
    assert kinds == {"W": "matrix", "x": "vector", "s": "scalar", "y": "vector", "z": "vector", "m": "scalar"}
    for v, attributes in program.graph.nodes(data=True):
        assert attributes == {"op": program.op(v)}


def test_edges_are_operands_keyed_by_position(program):
    edges = {(u.name, v.name, k) for u, v, k in program.graph.edges(keys=True)}
    assert edges == {
        ("W", "y", 0), ("x", "y", 1), ("y", "z", 0), ("x", "z", 1), ("s", "z", 2), ("z", "m", 0), ("x", "m", 1),
    }  # fmt: skip


def test_a_repeated_operand_has_parallel_edges():
    p = tp.Program()
    x = p.vector("x")
    m = tp.moment(lambda a, b: a * b, x, x)
    assert sorted(p.graph[x.var][m.var]) == [0, 1]


def test_order_of_definition_is_a_topological_order(program):
    position = {v: i for i, (v, _) in enumerate(program)}
    assert all(position[u] < position[v] for u, v in program.graph.edges())
    assert nx.is_directed_acyclic_graph(program.graph)


def test_lookup_by_variable_and_by_name(program):
    z = program.named("z")
    assert isinstance(program.op(z), Nonlin) and z in program and len(program) == 6
    assert Var("z", "scalar") not in program
    with pytest.raises(ProgramError, match=r"defines no 'q'; it has W, x"):
        program.named("q")
    with pytest.raises(ProgramError, match="q is not a variable"):
        program.op(Var("q", "vector"))


def test_a_name_is_defined_once(program):
    before = list(program)
    for again in (lambda: program.matrix("x"), lambda: program.vector("m"), lambda: program.scalar("W", 1)):
        with pytest.raises(ProgramError, match="is already defined"):
            again()
    assert list(program) == before


@pytest.mark.parametrize("name", ["", 3, b"x"])
def test_a_name_is_a_nonempty_string(name):
    with pytest.raises(ProgramError, match="non-empty string"):
        ProgramGraph().append(name, InitScalar(sp.S.One))


def test_fresh_names_are_free():
    p = tp.Program()
    p.vector("v1")
    assert p.fresh("v") not in {"v1"} and p.vector().var.name != p.vector().var.name


def test_a_refused_instruction_leaves_no_trace(program):
    nodes, edges = set(program.graph.nodes), set(program.graph.edges(keys=True))
    with pytest.raises(ProgramError, match="`bad`"):
        program.append("bad", MatMul(program.named("W"), False, Var("nowhere", "vector")))
    assert set(program.graph.nodes) == nodes and set(program.graph.edges(keys=True)) == edges
    assert "bad" not in {v.name for v, _ in program}


def test_a_copy_can_be_extended_alone(program):
    other = program.copy()
    other.vector("extra")
    assert type(other) is tp.Program and len(other) == 7 and len(program) == 6
    assert list(other)[:6] == list(program)


BAD = {
    "undefined vector": (MatMul(Var("W", "matrix"), False, Var("q", "vector")), "`bad` reads `q`"),
    "undefined matrix": (MatMul(Var("Q", "matrix"), False, Var("x", "vector")), "`bad` reads `Q`"),
    "itself": (Nonlin(vector_slot(0), (Var("bad", "vector"),)), "`bad` reads `bad`"),
    "scalar as vector": (Nonlin(vector_slot(0), (Var("s", "scalar"),)), "the scalar `s` where a vector"),
    "vector as scalar": (Moment(scalar_slot(0), (), (Var("x", "vector"),)), "the vector `x` where a scalar"),
    "vector as matrix": (MatMul(Var("x", "vector"), False, Var("x", "vector")), "the vector `x` where a matrix"),
    "slot out of range": (Nonlin(vector_slot(1), (Var("x", "vector"),)), "reads x1, but there are 1 vectors"),
    "body is text": (Nonlin("x0", (Var("x", "vector"),)), "must be a sympy expression, got 'x0'"),
    "body is infinite": (Nonlin(vector_slot(0) + sp.oo, (Var("x", "vector"),)), "must be finite"),
    "negative variance": (InitMatrix(sp.Integer(-1)), "variance of `bad` is -1"),
    "imaginary variance": (InitMatrix(sp.I), "must be real"),
    "infinite value": (InitScalar(sp.oo), "value of `bad` is oo"),
    "nan mean": (InitVector(sp.nan, ()), "mean of `bad` is nan"),
    "value is a float": (InitScalar(0.5), "sympy expression, got 0.5"),
    "covariance with a product": (
        InitVector(sp.S.Zero, ((Var("y", "vector"), sp.S.One),)), "`y`, which is not an initial vector"),
    "covariance listed twice": (
        InitVector(sp.S.Zero, ((Var("x", "vector"), sp.S.One),) * 2), "covariance with `x` twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_every_malformed_instruction_is_refused_by_name(program, case):
    op, message = BAD[case]
    with pytest.raises(ProgramError) as caught:
        program.append("bad", op)
    assert message in str(caught.value) and "--> bad :=" in str(caught.value)


def test_an_unknown_instruction_names_the_function_to_register_with():
    with pytest.raises(tp.NoRuleError, match=r"object.*tensorprog\.ir\.spec\.violations"):
        ProgramGraph().append("x", object())


def test_slots_are_never_symbols_of_the_user():
    assert vector_slot(0) == vector_slot(0) != sp.Symbol("x0", real=True)
    assert sp.Symbol("x0", real=True) != Slot("x0")
    p = tp.Program()
    x = p.vector("x")
    user = sp.Symbol("x0", real=True)
    op = p.op((x + user).var)
    assert op.body == vector_slot(0) + user
    assert slots_of(op) == {vector_slot(0): x.var}


def test_instructions_are_hashable_and_compare_by_content(program):
    again = Nonlin(program.op(program.named("z")).body, *[program.op(program.named("z")).args],
                   program.op(program.named("z")).params)  # fmt: skip
    assert again == program.op(program.named("z")) and hash(again) == hash(program.op(program.named("z")))


def test_as_var_takes_handles_and_variables_only(program):
    z = program.named("z")
    assert as_var(z) == z == as_var(tp.dsl.program.Vec(program, z))
    with pytest.raises(ProgramError, match="got str 'z'"):
        as_var("z")


def test_the_listing_shows_every_instruction(program):
    assert str(program).splitlines()[3] == "y := MatMul(matrix=W, transpose=False, x=x)"
    assert len(str(program).splitlines()) == 6
