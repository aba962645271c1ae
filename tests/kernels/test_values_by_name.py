"""Values of hyperparameters by name, and names that mean nothing."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import DataError

X, Y = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([1.0, -1.0])
S = sp.Symbol("sigma_w", positive=True)
NET = tp.programs.mlp(depth=1, sigma_w=S, sigma_b=0, phi=tp.erf)
CONTRACTING = tp.nngp(tp.programs.mlp(sigma_w=S, sigma_b=1, phi=tp.erf))
SMALL = {"widths": (8, 16), "seeds": 2}


def small_program():
    p = tp.Program()
    return p, tp.relu(p.vector("v", variance=S**2))


def sampled(values):
    p, z = small_program()
    return tp.sample(p, 8, values=values)[z]


def by_limit(method):
    def way(values):
        p, z = small_program()
        return tp.limit(p, method, values=values).mean(z)

    return way


def evaluated(values):
    p, z = small_program()
    lim = tp.limit(p)
    return lim.evaluate(lim.mean(z), values), lim.account(lim.mean(z), values).value


WAYS = {
    "K": lambda values: tp.ntk(NET)(X, values=values),
    "account": lambda values: tp.ntk(NET).account(X, values=values).value,
    "gram": lambda values: tp.ntk(NET).gram(X, values=values),
    "gram of two": lambda values: tp.gram([tp.nngp(NET), tp.ntk(NET)], X, values=values)[1],
    "recursion": lambda values: tp.ntk(NET).recursion()(X, values=values),
    "source": lambda values: tp.ntk(NET).source(values=values),
    "program": sampled,
    "evaluate": evaluated,
    **{method: by_limit(method) for method in ("sampling", "quadrature", "auto")},
    "fixed point": lambda values: CONTRACTING.recursion().fixed_point(X, values=values),
    "feature limit": lambda values: tp.feature_limit(NET, X, Y, steps=1, values=values).f,
    "dynamics": lambda values: tp.learn.Dynamics.of(NET, X, Y, values=values).mean(1),
    "regressor": lambda values: tp.learn.NTKRegressor(NET, values=values).fit(X, Y).dual_coef_,
    "empirical": lambda values: tp.empirical_ntk(NET, X, width=8, values=values),
    "train": lambda values: tp.train(NET, X, Y, steps=1, values=values, **SMALL).f[8],
    "verify": lambda values: str(tp.verify(NET, X, values=values, **SMALL)),
    "coordinate check": lambda values: str(tp.coordinate_check(NET, X, Y, [tp.mup()], steps=1, values=values, **SMALL)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_name_stands_for_its_symbol(way):
    by_symbol, by_name = WAYS[way]({S: 1.5}), WAYS[way]({"sigma_w": 1.5})
    assert str(by_symbol) == str(by_name)


OPEN = {"evaluate", "sampling", "quadrature", "auto"}  # functions asked about may hold symbols of their own


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["sigma_W", sp.Symbol("sigma_W", positive=True)], ids=repr)
def test_unknown_names_are_refused_with_those_that_are_known(way, key):
    if way in OPEN and not isinstance(key, str):
        assert str(WAYS[way]({S: 1.5, key: 3})) == str(WAYS[way]({S: 1.5}))
        return
    with pytest.raises(DataError, match=r"'sigma_W'.*; did you mean 'sigma_w'\?"):
        WAYS[way]({S: 1.5, key: 3})


@pytest.mark.parametrize("method", ["exact", "sampling", "auto"])
def test_a_function_that_is_asked_about_may_hold_a_symbol_of_its_own(method):
    c = sp.Symbol("c", positive=True)
    p, z = small_program()
    values = {"sigma_w": 1, c: 2}
    lim = tp.limit(p) if method == "exact" else tp.limit(p, method, values=values)
    found = lim.E(lambda a: c * a**2, z)
    found = lim.evaluate(found, values) if method == "exact" else found
    assert abs(found - 1) < 1e-2  # c E relu(u)^2 = 2/2


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
