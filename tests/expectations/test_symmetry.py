"""Estimates do not depend on what variables are called: Gram matrices of sampled kernels have no order of rows."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.symmetry import namings
from tensorprog.functions import Relu, Sigmoid, Tanh

u = sp.symbols("u1:6", real=True)
BODY = Tanh(u[0] * Sigmoid(u[1]) + Relu(u[2])) * Tanh(u[3] * Sigmoid(u[1]) + Relu(u[4]))


def gates(net, x):
    """One step of gates by vectors of their own: expectations of five and more variables, which are sampled."""
    h = net.embed("U", x)
    c = tp.sigmoid(net.embed("F", x)) * tp.relu(h) + tp.tanh(net.embed("G", x))
    return net.readout("V", tp.sigmoid(net.embed("O", x)) * tp.tanh(c))


@pytest.mark.parametrize("seed", range(4))
def test_an_estimate_does_not_depend_on_the_names_of_variables(seed):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((5, 5))
    cov, order = root @ root.T, rng.permutation(5)
    want = expectation(BODY, u, cov).value
    renamed = BODY.xreplace({u[k]: sp.Symbol(f"v{n}", real=True) for n, k in enumerate(order)})
    found = expectation(renamed, sp.symbols("v0:5", real=True), cov[np.ix_(order, order)]).value
    assert float(found) == float(want)


def test_the_namings_of_a_body_are_its_symmetries():
    body, orders = namings(BODY, u)
    assert len(orders) == 2
    for order in orders:
        names = dict(zip([u[k] for k in order], u, strict=True))
        assert BODY.xreplace(names) == body


@pytest.mark.filterwarnings("ignore::tensorprog.AccuracyWarning")
@pytest.mark.parametrize("method", ["auto", "forward"])
def test_a_sampled_kernel_is_symmetric_and_has_no_order_of_rows(method):
    X = np.random.default_rng(1).standard_normal((3, 3))
    K = tp.nngp(tp.network(gates)(), method=method)
    found, turned, gram = K(X), K(X[::-1])[::-1, ::-1], K.gram(X)
    assert np.abs(found - turned).max() < 1e-12 * found.max()
    assert np.abs(found - found.T).max() < 1e-15
    assert np.abs(K(X, X) - found).max() < 1e-12 * found.max()
    assert np.abs(gram - found).max() < 1e-12 * found.max()
    assert np.abs(K.gram(X, block=2) - gram).max() < 1e-12 * found.max()
