"""Learning with kernels that are sampled: one matrix of all inputs, one warning."""

import warnings

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.learn import Dynamics, NTKClassifier, NTKRegressor
from tensorprog.learn.derivatives import gram_with_gradient
from tests.gates import lstm

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((5, 2, 3)), RNG.standard_normal((2, 2, 3))
y = np.array([1.0, -1.0, 0.5, 2.0, 0.0])


def _joint(kind, alpha):
    K = kind(lstm()).account(np.concatenate([Y, X])).value
    return K[:2, 2:] @ np.linalg.solve(K[2:, 2:] + alpha * np.eye(5), y), K


@pytest.mark.parametrize(("name", "kind"), [("ntk", tp.ntk), ("nngp", tp.nngp)])
def test_fitting_warns_once_and_predictions_are_those_of_one_matrix(name, kind):
    with pytest.warns(tp.AccuracyWarning) as caught:
        model = NTKRegressor(lstm(), kind=name, alpha=1e-4).fit(X, y)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, again = model.predict(Y), model.predict(X)
    np.testing.assert_allclose(found, _joint(kind, 1e-4)[0], atol=1e-6)
    K = kind(lstm()).account(X).value
    np.testing.assert_allclose(again, K @ np.linalg.solve(K + 1e-4 * np.eye(5), y), atol=0.05)


def test_deviations_and_classes_of_sampled_kernels():
    with pytest.warns(tp.AccuracyWarning):
        model = NTKRegressor(lstm(), kind="nngp", alpha=1e-3).fit(X, y)
    mean, deviation = model.predict(Y, return_std=True)
    assert mean.shape == deviation.shape == (2,) and (deviation > 0).all()
    with pytest.warns(tp.AccuracyWarning):
        classes = NTKClassifier(lstm(), alpha=1e-4).fit(X, y > 0.2)
    assert (classes.predict(X) == (y > 0.2)).all()


def test_dynamics_take_one_matrix():
    with pytest.warns(tp.AccuracyWarning):
        d = Dynamics.of(lstm(), X, y, Y)
    np.testing.assert_allclose(d.test_mean(np.inf), _joint(tp.ntk, 0.0)[0], rtol=1e-6)
    assert np.linalg.eigvalsh(d.test_cov(np.inf))[0] > -1e-12


def test_derivatives_of_samples_are_refused_and_fixed_hyperparameters_need_none():
    s = sp.Symbol("s", positive=True)

    @tp.network
    def gated(net, x):
        T, h = net.weight("T", std=s), net.embed("U", x)
        return net.readout("V", T @ tp.sigmoid((h + T.T @ tp.tanh(h)) / 2 + net.bias("b")))

    data, K = X[:3, 0], tp.nngp(gated(), method="sampling", samples=2**13)
    with pytest.raises(tp.NoRuleError, match=r"is sampled and has no derivatives by s; fix these"):
        gram_with_gradient(K, data, [s], {s: 1.0})
    value, slope = gram_with_gradient(K, data, [], {s: 1.0})
    np.testing.assert_array_equal(value, K.account(data, values={s: 1.0}).value)
    assert slope.shape == (3, 3, 0)
