"""Regression at scale: conjugate gradients against direct solutions, noise for each point, ensembles of networks."""

import pickle

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

import tensorprog as tp
from tensorprog.learn import Dynamics, GaussianProcess, NTKClassifier, NTKRegressor
from tensorprog.learn.iterative import GramStrips, Iterative, LowRank

rng = np.random.default_rng(5)
X, NEW = rng.normal(size=(60, 4)), rng.normal(size=(9, 4))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
NET = tp.programs.mlp(depth=2, phi=tp.relu, sigma_b=0.3)


def test_conjugate_gradients_reach_the_residual_of_the_kernel_in_double_precision():
    many = rng.normal(size=(700, 4))  # two strips
    y, K = np.stack([np.sin(many[:, 0]), many[:, 1]], axis=1), tp.ntk(NET)(many)
    solver = Iterative(GramStrips(tp.ntk(NET), many, {}), 700, 1e-2, rank=50)
    x = solver.solve(y)
    residual = np.linalg.norm(y - K @ x - 1e-2 * x, axis=0) / np.linalg.norm(y, axis=0)
    assert residual.max() < 1e-8 and abs(residual.max() - solver.residual) < 1e-10
    rounded = K.astype(np.float32).astype(float) + 1e-2 * np.eye(700)
    assert np.linalg.norm(y - K @ np.linalg.solve(rounded, y) - 1e-2 * np.linalg.solve(rounded, y)) > 1e-8
    exact = np.linalg.solve(K + 1e-2 * np.eye(700), y)
    np.testing.assert_allclose(x, exact, atol=1e-6 * abs(exact).max())
    assert solver.K.dtype == np.float32


@pytest.mark.parametrize("rank", [1, 20, 60])
def test_the_preconditioner_is_the_inverse_of_what_it_factors(rank):
    noise = rng.uniform(0.1, 1, size=60)
    near = LowRank(tp.ntk(NET)(X), noise, rank)
    M = near.L @ near.L.T + np.diag(noise)
    np.testing.assert_allclose(near.solve(Y), np.linalg.solve(M, Y), atol=1e-10)
    assert near.L.shape == (60, rank)
    left = np.diag(tp.ntk(NET)(X)) - np.sum(near.L**2, axis=1)
    assert left.min() > -1e-10 and (rank < 60 or left.max() < 1e-8)


def test_repeated_inputs_are_no_new_pivots():
    twice = np.tile(tp.ntk(NET)(X), (2, 2))
    near = LowRank(twice, np.ones(120), 120)
    assert near.L.shape[1] == 60
    np.testing.assert_allclose(near.L @ near.L.T, twice, atol=1e-8)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_both_solvers_predict_the_same(kind):
    alpha = rng.uniform(0.05, 0.2, size=60)
    direct, by_steps = (
        NTKRegressor(NET, kind=kind, alpha=alpha, normalize_y=True, solver=s).fit(X, Y) for s in ("cholesky", "cg")
    )
    assert by_steps.iterative_.residual < 1e-8 and by_steps.process_ is None and direct.iterative_ is None
    np.testing.assert_allclose(by_steps.predict(NEW), direct.predict(NEW), atol=1e-6)
    for option in ("return_std", "return_cov"):
        found, wanted = (m.predict(NEW, **{option: True}) for m in (by_steps, direct))
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-6)
    again = pickle.loads(pickle.dumps(by_steps))
    np.testing.assert_allclose(again.predict(NEW), by_steps.predict(NEW), atol=1e-12)


def test_classes_by_conjugate_gradients():
    labels = np.argmax(X[:, :3], axis=1)
    direct, by_steps = (NTKClassifier(NET, alpha=0.1, solver=s).fit(X, labels) for s in ("auto", "cg"))
    np.testing.assert_allclose(by_steps.decision_function(NEW), direct.decision_function(NEW), atol=1e-6)


def test_noise_for_each_point_is_scikit_learns():
    alpha = rng.uniform(0.1, 1, size=60)
    K, cross, own = RBF()(X), RBF()(NEW, X), RBF()(NEW)
    ours, theirs = GaussianProcess(K, Y[:, 0], alpha), GaussianProcessRegressor(RBF(), alpha=alpha, optimizer=None)
    theirs.fit(X, Y[:, 0])
    mean, cov = theirs.predict(NEW, return_cov=True)
    np.testing.assert_allclose(ours.mean(cross), mean, atol=1e-12)
    np.testing.assert_allclose(ours.cov(cross, own), cov, atol=1e-12)
    np.testing.assert_allclose(ours.log_marginal_likelihood, theirs.log_marginal_likelihood(), rtol=1e-12)
    assert "noise variances from" in ours.text()
    keep = np.arange(60) != 7
    left = GaussianProcess(K[np.ix_(keep, keep)], Y[keep, 0], alpha[keep]).mean(K[7:8, keep])
    np.testing.assert_allclose(ours.leave_one_out[7], left[0], rtol=1e-10)


def test_noise_of_some_points_may_be_zero():
    alpha = np.where(np.arange(60) < 30, 0.0, 0.5)
    found = NTKRegressor(NET, alpha=alpha).fit(X, Y)
    np.testing.assert_allclose(found.predict(X[:30]), Y[:30], atol=1e-9)
    assert abs(found.predict(X[30:]) - Y[30:]).max() > 1e-2


def test_a_sample_repeated_is_one_of_half_the_noise():
    alpha = np.full(60, 0.2)
    alpha[:10] = 0.1
    once = NTKRegressor(NET, alpha=alpha).fit(X, Y).predict(NEW)
    twice = NTKRegressor(NET, alpha=0.2).fit(np.concatenate([X, X[:10]]), np.concatenate([Y, Y[:10]])).predict(NEW)
    np.testing.assert_allclose(once, twice, atol=1e-9)


def test_deviations_of_trained_networks_are_those_of_training_to_the_end():
    model = NTKRegressor(NET, alpha=1e-9).fit(X, Y)
    mean, cov = model.predict(NEW, return_cov=True)
    dynamics = Dynamics.of(NET, X, Y, NEW)
    np.testing.assert_allclose(mean, dynamics.test_mean(np.inf), atol=1e-6)
    np.testing.assert_allclose(cov, dynamics.test_cov(np.inf), atol=1e-6)
    np.testing.assert_allclose(model.predict(NEW, return_std=True)[1], np.sqrt(np.diag(cov)), rtol=1e-9)
    assert model.predict(X, return_std=True)[1].max() < 1e-3
    assert model.sample_y(NEW, 3).shape == (9, 2, 3)


def test_deviations_with_a_ridge_are_those_of_linear_models():
    """One weight and output: f = w x, w ~ N(0, 1): min (w x − y)² + α (w − w₀)² has w = w₀ + x (y − w₀ x)/(x² + α)."""

    @tp.network
    def linear(net, x):
        return net.readout("V", net.embed("U", x))

    x, alpha, new = 2.0, 0.5, 3.0
    model = NTKRegressor(linear(), alpha=alpha, trainable=["V"]).fit([[x]], [1.0])
    mean, std = model.predict([[new]], return_std=True)
    assert abs(mean[0] - new * x / (x**2 + alpha)) < 1e-12
    assert abs(std[0] - new * alpha / (x**2 + alpha)) < 1e-12  # what is left of w₀: 1 − x²/(x² + α)


def test_what_does_not_fit_is_refused():
    with pytest.raises(tp.ProgramError, match="unknown solver 'chol'"):
        NTKRegressor(NET, solver="chol").fit(X, Y)
    with pytest.raises(tp.ProgramError, match="solver='cg' needs alpha > 0"):
        NTKRegressor(NET, solver="cg", alpha=0).fit(X, Y)
    with pytest.raises(tp.DataError, match="3 noise variances for 60 training inputs"):
        NTKRegressor(NET, alpha=[1.0, 2.0, 3.0]).fit(X, Y)
    with pytest.raises(tp.DataError, match="one for each training input"):
        NTKRegressor(NET, alpha=[[1.0]]).fit(X, Y)
    with pytest.raises(tp.AccuracyError, match="too small for a matrix in single precision"):
        NTKRegressor(NET, solver="cg", alpha=1e-13).fit(np.concatenate([X, X + 1e-7]), np.arange(120.0))
    with pytest.raises(tp.ProgramError, match="progress is True"):
        NTKRegressor(NET, solver="cg", progress=3).fit(X, Y)


def test_progress_is_told():
    told = []
    NTKRegressor(NET, solver="cg", progress=lambda *a: told.append(a)).fit(X, Y)
    assert told[0] == (60, 60, "kernel matrix") and "conjugate gradients, residual" in told[-1][2]
