"""Values of hyperparameters by name, and names that mean nothing."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import DataError

X, Y = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([1.0, -1.0])
S = sp.Symbol("sigma_w", positive=True)
NET = tp.programs.mlp(depth=1, sigma_w=S, sigma_b=0, phi=tp.erf)
SMALL = {"widths": (8, 16), "seeds": 2}


def sampled(values):
    p = tp.Program()
    z = tp.relu(p.vector("v", variance=S**2))
    return tp.sample(p, 8, values=values)[z]


WAYS = {
    "K": lambda values: tp.ntk(NET)(X, values=values),
    "account": lambda values: tp.ntk(NET).account(X, values=values).value,
    "gram": lambda values: tp.ntk(NET).gram(X, values=values),
    "gram of two": lambda values: tp.gram([tp.nngp(NET), tp.ntk(NET)], X, values=values)[1],
    "recursion": lambda values: tp.ntk(NET).recursion()(X, values=values),
    "source": lambda values: tp.ntk(NET).source(values=values),
    "program": sampled,
    "empirical": lambda values: tp.empirical_ntk(NET, X, width=8, values=values),
    "train": lambda values: tp.train(NET, X, Y, steps=1, values=values, **SMALL).f[8],
    "verify": lambda values: str(tp.verify(NET, X, values=values, **SMALL)),
    "coordinate check": lambda values: str(tp.coordinate_check(NET, X, Y, [tp.mup()], steps=1, values=values, **SMALL)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_name_stands_for_its_symbol(way):
    by_symbol, by_name = WAYS[way]({S: 1.5}), WAYS[way]({"sigma_w": 1.5})
    assert str(by_symbol) == str(by_name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["sigma_W", sp.Symbol("sigma_W", positive=True)], ids=repr)
def test_unknown_names_are_refused_with_those_that_are_known(way, key):
    with pytest.raises(DataError, match=r"'sigma_W', which is no hyperparameter .* did you mean 'sigma_w'\?"):
        WAYS[way]({S: 1.5, key: 3})


def test_a_network_of_numbers_takes_no_values():
    with pytest.raises(DataError, match="there is none: all hyperparameters are numbers"):
        tp.nngp(tp.programs.mlp(depth=1))(X, values={"sigma_w": 3})


def test_a_symbol_inside_a_function_is_known():
    c = sp.Symbol("c", real=True)

    @tp.network
    def net(net, x):
        return net.readout("V", tp.relu(net.embed("U", x)) + c)

    assert np.allclose(tp.nngp(net())(X, values={"c": 0.2}), tp.nngp(net())(X, values={c: 0.2}), rtol=0)


def test_symbols_of_the_learning_rate_and_loss_are_known_in_training():
    eta, k = sp.Symbol("eta", positive=True), sp.Symbol("k", real=True)
    found = [
        tp.train(
            NET, X, Y, steps=1, optimizer=tp.SGD(eta), loss=lambda f, y: k * (f - y) ** 2, values=values, **SMALL
        ).f[8]
        for values in ({S: 1.5, eta: 0.1, k: 2}, {"sigma_w": 1.5, "eta": 0.1, "k": 2})
    ]
    assert np.array_equal(*found)


def test_one_symbol_has_one_number():
    with pytest.raises(DataError, match="two numbers for sigma_w"):
        tp.nngp(NET)(X, values={S: 1, "sigma_w": 2})
