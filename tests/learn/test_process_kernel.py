"""The kernel for scikit-learn's Gaussian processes."""

import numpy as np
import pytest
import sympy as sp
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import tensorprog as tp
from tensorprog.learn import GaussianProcess, NetworkKernel

rng = np.random.default_rng(6)
X = rng.normal(size=(24, 2))
Y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=24)
W, B = sp.symbols("sigma_w sigma_b", positive=True)
AT_BOUNDS = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NET = tp.programs.mlp(depth=2, sigma_w=W, sigma_b=B)


def test_values_are_those_of_the_kernel():
    k = NetworkKernel(NET, "ntk", values={"sigma_w": 1.5, B: 0.2})
    K = tp.ntk(NET)
    values = {W: 1.5, B: 0.2}
    np.testing.assert_array_equal(k(X), K(X, values=values))
    np.testing.assert_array_equal(k(X, X[:5]), K(X, X[:5], values=values))
    np.testing.assert_allclose(k.diag(X), np.diag(k(X)), rtol=1e-13)
    np.testing.assert_allclose(k.theta, np.log([0.2, 1.5]))  # by name
    assert [h.name for h in k.hyperparameters] == ["sigma_b", "sigma_w"] and not k.is_stationary()


@pytest.mark.parametrize(
    "make",
    [lambda k: k, lambda k: k + WhiteKernel(0.1), lambda k: ConstantKernel(2.0) * k + RBF(0.5)],
    ids=["alone", "sum", "product"],
)
def test_gradients_in_sums_and_products_are_by_logarithms(make):
    k = make(NetworkKernel(NET, values={"sigma_w": 1.5, "sigma_b": 0.2}))
    value, gradient = k(X[:6], eval_gradient=True)
    np.testing.assert_allclose(value, k(X[:6]), rtol=1e-14)
    h = 1e-5
    for p in range(k.n_dims):
        up, down = (k.clone_with_theta(k.theta + s * h * np.eye(k.n_dims)[p])(X[:6]) for s in (1, -1))
        np.testing.assert_allclose(gradient[..., p], (up - down) / (2 * h), rtol=0, atol=1e-8)


@AT_BOUNDS
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_a_gaussian_process_learns_the_hyperparameters(kind):
    gp = GaussianProcessRegressor(NetworkKernel(NET, kind) + WhiteKernel(0.1), random_state=0).fit(X, Y)
    start = GaussianProcessRegressor(NetworkKernel(NET, kind) + WhiteKernel(0.1), optimizer=None).fit(X, Y)
    assert gp.log_marginal_likelihood_value_ > start.log_marginal_likelihood_value_ + 1
    slope = gp.log_marginal_likelihood(gp.kernel_.theta, eval_gradient=True)[1]
    free = np.abs(gp.kernel_.bounds - gp.kernel_.theta[:, None]).min(axis=1) > 1e-6
    assert np.abs(slope[free]).max() < 0.05  # a stationary point
    numeric = approx_fprime(start.kernel_.theta, start.log_marginal_likelihood, 1e-6)
    exact = start.log_marginal_likelihood(start.kernel_.theta, eval_gradient=True)[1]
    np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=1e-4)
    ours = GaussianProcess(start.kernel_.k1(X), Y, 0.1)
    assert ours.log_marginal_likelihood == pytest.approx(start.log_marginal_likelihood_value_, rel=1e-9)
    np.testing.assert_allclose(ours.mean(start.kernel_.k1(X[:3], X)), start.predict(X[:3]), rtol=1e-7)


@AT_BOUNDS
def test_classification_and_the_default_network():
    gp = GaussianProcessClassifier(NetworkKernel()).fit(X, X[:, 0] > 0)
    assert gp.score(X, X[:, 0] > 0) > 0.9 and gp.kernel_.n_dims == 2


@AT_BOUNDS
def test_fixed_values_and_ranges():
    k = NetworkKernel(NET, values={"sigma_w": 1.5}, ranges={"sigma_w": "fixed", "sigma_b": (0.1, 2.0)})
    assert k.theta.tolist() == [0.0] and np.allclose(k.bounds, np.log([[0.1, 2.0]]))
    assert k(X[:3], eval_gradient=True)[1].shape == (3, 3, 1)
    gp = GaussianProcessRegressor(k, alpha=0.01).fit(X, Y)
    assert gp.kernel_.values["sigma_w"] == 1.5 and 0.1 <= gp.kernel_.values["sigma_b"] <= 2.0


def test_clones_are_equal_and_share_the_derivation():
    k = NetworkKernel(NET, values={"sigma_w": 1.5})
    assert clone(k) == k and clone(k).network is NET and NetworkKernel(NET) != k
    theta = [0.0, np.log(np.exp(1.0))]  # not 1 with every NumPy
    assert k.clone_with_theta([0.0, 1.0]).theta.tolist() == theta and k.values == {"sigma_w": 1.5}
    assert repr(k) == "NNGP[mlp](sigma_b=1, sigma_w=1.5)"


@AT_BOUNDS
def test_sequences_as_object_arrays():
    net = tp.programs.rnn(sigma_w=W, sigma_b=B)
    sequences = np.empty(8, dtype=object)
    for i in range(8):
        sequences[i] = rng.normal(size=(2 + i % 2, 1)).tolist()
    target = np.array([np.sum(s) for s in sequences])
    gp = GaussianProcessRegressor(NetworkKernel(net), alpha=1e-4).fit(sequences, target)
    np.testing.assert_allclose(gp.predict(sequences), target, atol=0.1)


def test_bad_settings_are_refused():
    for value in (0.0, -1.0, np.nan, "a"):
        with pytest.raises(tp.DataError, match="sigma_w is searched on a logarithmic scale"):
            NetworkKernel(NET, values={"sigma_w": value})(X)
    with pytest.raises(tp.DataError, match="no hyperparameter symbol 'sigma_x'"):
        NetworkKernel(NET, values={"sigma_x": 1.0})(X)
    with pytest.raises(tp.DataError, match="no hyperparameter symbol 'sigma_x'"):
        NetworkKernel(NET, ranges={"sigma_x": "fixed"}).hyperparameters  # noqa: B018
    with pytest.raises(tp.ProgramError, match="unknown kind"):
        NetworkKernel(NET, "rbf")(X)
    with pytest.raises(tp.ProgramError, match="expected a network"):
        GaussianProcessRegressor(NetworkKernel("mlp")).fit(X, Y)
    assert repr(NetworkKernel("mlp", None)) == "NetworkKernel('mlp', None, None)"
