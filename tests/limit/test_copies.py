"""Programs, traces and limits can be copied and pickled, and the copies answer as the originals do."""

import copy
import pickle
import subprocess
import sys

import cloudpickle
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import DataError
from tensorprog.functions import FAMILIES
from tensorprog.ir.instructions import scalar_slot, vector_slot

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x)), "copy": copy.copy}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def example():
    """The second moment of relu(W x) is 1/2."""
    program = tp.Program()
    y = tp.relu(program.matrix("W") @ program.vector("x"))
    return program, y


@each_copy
def test_slots_are_their_own_symbols(copied):
    assert copied(vector_slot(0)) == vector_slot(0) and copied(scalar_slot(2)) == scalar_slot(2)
    assert copied(vector_slot(0)) != sp.Symbol("x0", real=True)


@pytest.mark.parametrize("copied", [COPIES["deepcopy"], COPIES["pickle"]], ids=["deepcopy", "pickle"])
def test_a_copied_program_grows_alone(copied):
    program, y = example()
    other, z = copied((program, y))
    assert other.to_json() == program.to_json()
    count = len(program)
    twice = z * 2
    assert len(program) == count and len(other) == count + 1
    limit = tp.limit(other)
    assert limit.evaluate(limit.E(lambda a: a**2, twice)) == pytest.approx(2, rel=1e-14)


@each_copy
@pytest.mark.parametrize("kind", ["hand-written", "network", "training"])
def test_a_copied_limit_has_the_same_equations(copied, kind):
    net = tp.programs.mlp(depth=2, phi=tp.tanh)
    if kind == "hand-written":
        limit = tp.limit(example()[0])
    elif kind == "network":
        limit = tp.ntk(net)._derive().limit
    else:
        limit = tp.unroll(net, steps=1).limit
    other = copied(limit)
    last = [v for v, _ in limit.program if v.kind == "vector"][-1]
    assert str(other.cov(last, last)) == str(limit.cov(last, last))
    names, others = (
        [(str(n.symbol), str(n.definition)) for n in getattr(x, "_interpreter", x).system.names] for x in (limit, other)
    )
    assert set(others) <= set(names) and (others or kind == "hand-written")


@each_copy
def test_a_copied_limit_answers(copied):
    program, y = example()
    limit = copied(tp.limit(program))
    assert limit.evaluate(limit.E(lambda a: a**2, y)) == pytest.approx(0.5, rel=1e-14)


def test_names_of_later_questions_mean_nothing_else_in_a_copy():
    """Forms such as u + v have numbered variances; the first that a copy names is no other one's."""
    program = tp.Program()
    u, v = (program.matrix(W) @ tp.tanh(program.matrix(A) @ program.vector(x)) for W, A, x in ("WAx", "VBy"))
    limit = tp.limit(program)
    asked = limit.E(lambda a, b: tp.tanh(a + b) ** 2, u, v)
    other = COPIES["pickle"](limit)
    mine, theirs = (z.E(lambda a, b: tp.tanh(a - 2 * b) ** 2, u, v) for z in (limit, other))
    assert other.evaluate(theirs) == pytest.approx(limit.evaluate(mine), rel=1e-14)
    assert asked.free_symbols and not asked.free_symbols & theirs.free_symbols
    with pytest.raises(DataError, match="no value"):
        other.evaluate(asked)


def test_in_another_process(tmp_path):
    (tmp_path / "limit.pkl").write_bytes(pickle.dumps((tp.limit(example()[0]), tp.abstract("phi")(sp.Symbol("u")))))
    code = """
import pickle, sys, sympy as sp
limit, phi = pickle.load(open(sys.argv[1], "rb"))
y = list(limit.program)[-1][0]
print(limit.evaluate(limit.E(lambda a: a**2, y)), phi.diff(sp.Symbol("u")))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "limit.pkl"], capture_output=True, text=True)
    assert done.stdout.split() == ["0.5", "phi'(u)"], done.stderr


SECOND = """
import pickle, sys
limit = pickle.load(sys.stdin.buffer)
y = list(limit.program)[-1][0]
print(float(limit.evaluate(limit.E(lambda a: a**2, y))).hex())
"""


@pytest.mark.parametrize("by", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("phi", ["derivative", "formula", "pieces"])
def test_functions_of_a_program_are_the_same_in_another_process(phi, by, no_trace):
    """Members of the table keep their numbers to the last bit, and what was declared here is declared there."""
    declared = {
        "derivative": lambda: tp.tanh,
        "formula": lambda: tp.declare("bump", lambda x: x * sp.exp(-(x**2)), parity=-1),
        "pieces": lambda: tp.declare("bend", kinks=(-1, 2), pieces=(lambda x: -1, lambda x: x, lambda x: 2)),
    }
    f, p = declared[phi](), tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y = tp.nonlin(lambda a: f(a) + a, W.T @ f(W @ x))
    limit = tp.limit(p)
    ours = float(limit.evaluate(limit.E(lambda a: a**2, y))).hex()
    done = subprocess.run([sys.executable, "-c", SECOND], input=by.dumps(limit), capture_output=True)
    assert done.stdout.decode().strip() == ours, done.stderr.decode()


@pytest.fixture
def no_trace():
    """What a test declares is forgotten."""
    known = set(FAMILIES)
    yield
    for name in set(FAMILIES) - known:
        del FAMILIES[name]
