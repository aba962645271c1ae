"""Whatever a network or program can say is among the pieces, and cases use all of them."""

import inspect
from collections import Counter

import pytest

import tensorprog as tp
from tensorprog.dsl import net, network, nonlinearities, program
from tests.random_cases import batches, layers, positions
from tests.random_cases.case import pieces_of
from tests.random_cases.examine import made
from tests.random_cases.pieces import POOLS, TABLE

COVERED = {name for piece in TABLE for name in piece.covers} | positions.COVERS | batches.COVERS | layers.COVERS
# public names that are no line of a network or program, and where they are checked
ELSEWHERE = {
    "Program.to_json": "every program is written and read again",
    "Program.from_json": "every program is written and read again",
    "tp.abstract": "has no numbers",
    "tp.Nonlinearity": "the class of all nonlinearities",
    "tp.network": "every network",
}


BINARY = "add", "sub", "mul", "truediv", "pow", "matmul", "mod", "floordiv", "and", "or", "xor"
OPERATORS = {"neg", "pos", "abs", "invert", "getitem", *(r + op for r in ("", "r", "i") for op in BINARY)}


def own(cls):
    """The public methods, properties and operators that a class or its bases in the package define."""
    names = {}
    for base in cls.__mro__:
        if base.__module__ in (program.__name__, network.__name__):
            names |= {n: getattr(cls, n) for n in vars(base) if not n.startswith("_") or _operator(n)}
    return {n: f for n, f in names.items() if (callable(f) or isinstance(f, property)) and not refused(f)}


def refused(f):
    """Whether an operator is there to say what to write instead."""
    return getattr(f, "__annotations__", {}).get("return") == "NoReturn"


def _operator(name):
    return name.startswith("__") and name.strip("_") in OPERATORS


def keywords(function):
    """The arguments that may be left out."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty]


@pytest.mark.parametrize("label, cls", [("Vec", program.Vec), ("Scal", program.Scal), ("Mat", program.Mat),
                                        ("Output", network.Output)])  # fmt: skip
def test_every_operator_is_a_piece(label, cls):
    fields = set(getattr(cls, "__dataclass_fields__", ()))
    names = {f"{label}.{name}" for name in own(cls)} - {f"{label}.{name}" for name in fields}
    assert names <= COVERED


@pytest.mark.parametrize("label, cls", [("net", network.Net), ("p", program.Program)])
def test_every_method_and_each_of_its_options_is_a_piece(label, cls):
    for name, method in own(cls).items():
        if callable(method) and f"Program.{name}" not in ELSEWHERE:
            assert {c.split("(")[0] for c in COVERED} >= {f"{label}.{name}"}
            options = {f"{label}.{name}({k})" for k in keywords(method) if k not in ("self", "name")}
            assert options <= COVERED


def test_every_layer_and_each_of_its_options_is_a_piece():
    """Of ``net``, whose layers are functions of files of their own."""
    names = {f"net.{name}" for name in net.LAYERS}
    names |= {f"net.{name}({k})" for name, layer in net.LAYERS.items() for k in keywords(layer)}
    assert names - COVERED - set(positions.ELSEWHERE) == set()


def test_networks_over_positions_use_every_step_and_option():
    stacks = [positions.random_stack(seed) for seed in range(300)]
    steps = [step for stack in stacks for step in stack.steps]
    inner = [step for kind, *given in steps if kind == "residual" for step in given[0]]
    used = Counter(step[0] for step in (*steps, *inner))
    assert set(positions.LAYERS) | {"residual"} == set(used) and min(used.values()) > 5
    windows = [step for step in steps if step[0] in ("conv", "local", "conv_transpose")]
    assert {(s[0], s[5]) for s in windows} >= {(k, p) for k in ("conv", "local") for p in positions.PADDINGS}
    assert {(s[2], s[3], s[4]) for s in windows} >= {(3, 2, 2), (2, 1, 2), (1, 1, 1)}
    assert {(s[0], s[-1]) for s in inner} >= {(k, i) for k in ("conv", "local", "conv_transpose") for i in (None, 0)}


def test_every_nonlinearity_and_every_maker_of_them_is_a_piece():
    names = {n: getattr(tp, n) for n in dir(tp)}
    public = {n for n, f in names.items() if getattr(f, "__module__", "") == nonlinearities.__name__}
    public |= {n for n, f in names.items() if isinstance(f, nonlinearities.Nonlinearity)}
    public |= {
        n for n, f in names.items() if getattr(f, "__module__", "") == program.__name__ and inspect.isfunction(f)
    }
    assert {f"tp.{n}" for n in {*public, "network"}} <= COVERED | set(ELSEWHERE)
    assert {f"tp.{n}" for n in tp.NONLINEARITIES} <= COVERED


def test_operands_stand_on_either_side_and_are_numbers_symbols_vectors_and_scalars():
    operators = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow"}
    both = {op: (name, f"r{name}") for op, name in operators.items()}
    for cls in ("Vec", "Scal"):
        for names in both.values():
            assert {f"{cls}.__{n}__" for n in names} <= COVERED
    for kinds in ("vv", "vs", "ss"):
        assert {op for op in both if any(p.args == kinds and op in p.text for p in TABLE)} >= {"+", "-", "*", "/"}
    for pool in ("any", "nonzero", "small", "base", "std", "covariance", "means"):
        texts = [text for text, _ in POOLS[pool]]
        assert any("c" in text.replace("sp.sqrt", "") for text in texts), pool


def test_hyperparameters_reach_from_0_to_a_million():
    for pool in ("any", "std"):
        assert {"0", "1e-8", "1e6"} <= {text for text, _ in POOLS[pool]}


def test_cases_use_every_piece():
    used = Counter(p.text for seed in range(1500) for kind in ("net", "program") for p in pieces_of(made(kind, seed)))
    assert {p.text for p in TABLE} - set(used) == set()


def test_inputs_repeat_are_parallel_opposite_and_zero():
    found = Counter()
    for seed in range(200):
        X = made("net", seed).X
        first, last = X[0].ravel(), X[-1].ravel()
        for name, same in (("equal", first), ("parallel", 2 * first), ("opposite", -first), ("zero", 0 * first)):
            found[name] += bool((last == same).all())
    assert min(found[name] for name in ("equal", "parallel", "opposite", "zero")) > 5
