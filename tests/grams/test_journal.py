"""A journal goes on with its own computation only: whatever numbers depend on is in its first line."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog import functions, programs
from tensorprog.grams import blocks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6))
RAGGED = [RNG.normal(size=(t, 3)) for t in (1, 2, 3, 1, 2, 3)]
LONG = [RNG.normal(size=(t, 3)) for t in (8, 9, 10, 8, 9, 10)]
S = sp.Symbol("s", positive=True)


class Stopped(Exception):
    pass


@pytest.fixture
def refuses(tmp_path, monkeypatch):
    """Whether a call on a path that another one, stopped after a block, has begun is refused for a reason."""
    path, add = tmp_path / "k.npy", blocks.Journal.add

    def stop(self, block):
        add(self, block)
        raise Stopped

    def check(begun, other, what):
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(blocks.Journal, "add", stop)
            begun(path=path, resume=False)
        with pytest.raises(tp.DataError, match=f"another computation: .*{what}"):
            other(path=path)
        assert begun(path=path).shape  # its own computation goes on

    return check


def call(net, *data, kernel=tp.ntk, **kw):
    K = kernel(net)
    return lambda **more: K.gram(*data, block=3 if len(data[0]) < 10 else 16, **kw, **more)


def mlp(**kw):
    return programs.mlp(**{"depth": 2, "sigma_b": 0.1, **kw})


@pytest.mark.parametrize("net", [
    mlp(sigma_b=0.1 + 1e-15), mlp(sigma_w=1.5), mlp(phi=tp.erf), mlp(depth=3), programs.residual_mlp(depth=2),
])  # fmt: skip
def test_another_network_of_the_same_shapes(refuses, net):
    refuses(call(mlp(), X), call(net, X), "kernel")


def test_another_kernel_or_value_of_a_symbol(refuses):
    refuses(call(mlp(), X), call(mlp(), X, kernel=tp.nngp), "kernel")
    net = mlp(sigma_w=S)
    refuses(call(net, X, values={S: 1.0}), call(net, X, values={S: 1.0 + 1e-15}), "kernel")


def test_other_inputs_of_the_same_shapes(refuses):
    changed = X.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], 9)
    for other in (changed, X[::-1], -X):
        refuses(call(mlp(), X), call(mlp(), other), "inputs")
    refuses(call(mlp(), X), call(mlp(), X, X), "inputs")  # the diagonal of X with itself is exact
    refuses(call(mlp(), X, X[:9]), call(mlp(), X, X[1:10]), "inputs")


@pytest.mark.parametrize("data", [RAGGED, LONG], ids=["short", "long"])
def test_ragged_inputs_of_the_same_total_length(refuses, data):
    moved = [*data[:4], data[5], data[4]]
    recut = np.split(np.concatenate(data), np.cumsum([len(x) for x in moved])[:-1])  # equal numbers, cut elsewhere
    for other in (moved, recut):
        refuses(call(programs.rnn(), data), call(programs.rnn(), other), "inputs")


@pytest.mark.parametrize("data", [RAGGED, LONG], ids=["short", "long"])
def test_hyperparameters_that_only_long_sequences_read(refuses, data):
    """The recurrent weight is not read at T = 1."""
    refuses(call(programs.rnn(sigma_w=1), data), call(programs.rnn(sigma_w=1 + 1e-12), data), "kernel")


def test_another_function_declared_by_the_same_name(refuses, monkeypatch):
    monkeypatch.setattr(functions, "FAMILIES", functions.FAMILIES)

    def declared(slope):
        monkeypatch.delitem(functions.FAMILIES, "bent", raising=False)
        return mlp(phi=tp.declare("bent", kinks=(0,), pieces=(lambda x: slope * x, lambda x: x)), depth=1)

    first = declared(sp.Rational(1, 3))
    begun = call(first, X[:9])
    family = functions.FAMILIES["bent"]
    second = declared(sp.Rational(1, 2))
    other, new = call(second, X[:9]), functions.FAMILIES["bent"]

    def under(found, run):
        def named(**kw):
            monkeypatch.setitem(functions.FAMILIES, "bent", found)
            return run(**kw)

        return named

    refuses(under(family, begun), under(new, other), "kernel")
    monkeypatch.delitem(functions.FAMILIES, "bent")
