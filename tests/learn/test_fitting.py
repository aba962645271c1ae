"""Fitting: its time, the units of y, equal inputs, and the factors that stand for an eigendecomposition."""

import time

import numpy as np
import pytest
from scipy import linalg
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from sklearn.utils.estimator_checks import check_estimator

import tensorprog as tp
from tensorprog.learn import GaussianProcess, NTKClassifier, NTKRegressor, Spectrum
from tensorprog.learn.ridge import Cholesky, Eigen, factor

rng = np.random.default_rng(7)
X, X_TEST, Y = rng.normal(size=(40, 3)), rng.normal(size=(6, 3)), rng.normal(size=(40, 2))
SEQUENCES, TARGETS = rng.normal(size=(5, 3, 2)), np.array([1.0, -1.0, 0.5, 2.0, 0.0])
RNN = tp.programs.rnn(sigma_w=2**0.5, sigma_h=1)
LINEAR = tp.programs.deep_linear(depth=1, sigma_w=1)


def test_fitting_takes_little_more_than_the_kernel_and_one_factor():
    net, wide = tp.programs.mlp(depth=2), rng.normal(size=(1200, 8))
    NTKRegressor(net).fit(wide[:20], wide[:20, 0])
    start = time.process_time()
    K = tp.ntk(net).gram(wide)
    linalg.cho_factor(K + 1e-3 * np.eye(1200))
    base = time.process_time() - start
    start = time.process_time()
    model = NTKRegressor(net, alpha=1e-3).fit(wide, wide[:, 0])
    assert time.process_time() - start < 4 * base + 0.3
    want = linalg.solve(K + 1e-3 * np.eye(1200), wide[:, 0], assume_a="pos")
    assert np.abs(model.dual_coef_ - want).max() < 1e-8 * np.abs(want).max()


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 3.0])
def test_both_factors_give_the_same(alpha):
    K = tp.nngp(tp.programs.mlp(depth=2, sigma_b=0.3))(X)
    a, b = factor(K, alpha), Eigen(Spectrum.of(K), alpha)
    assert isinstance(a, Cholesky)
    dense = np.linalg.inv(K + alpha * np.eye(40))
    for f in (a, b):
        np.testing.assert_allclose(f.solve(Y), dense @ Y, rtol=1e-7, atol=1e-7 * np.abs(dense @ Y).max())
        np.testing.assert_allclose(f.whiten(K) @ f.whiten(K).T, K @ dense @ K, atol=1e-8)
        np.testing.assert_allclose(f.inverse_diagonal, np.diag(dense), rtol=1e-7)
        assert f.log_determinant == pytest.approx(-np.linalg.slogdet(dense)[1], rel=1e-9)
    assert 0.3 * b.loss < a.loss < 3 * b.loss


def test_what_a_ridge_cannot_carry_is_left_to_the_eigendecomposition():
    twice = tp.nngp(tp.programs.mlp(depth=2, sigma_b=0.3))(np.concatenate([X, X]))
    assert factor(twice, 0.0) is None and factor(twice, 1e-15) is None
    assert factor(twice, 1e-6) is not None
    assert factor(twice, 1e-6, eps=2.0**-23) is None
    assert factor(np.array([[1.0, 2.0], [2.0, 1.0]]), 2.0) is None
    with pytest.raises(tp.DataError, match="not positive semidefinite"):
        GaussianProcess([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0], 2.0)


def test_the_spectrum_is_there_when_asked_for_and_does_not_follow_the_matrix():
    K = tp.nngp(LINEAR)(X)
    gp = GaussianProcess(K, Y, 0.5)
    want = np.linalg.eigvalsh(K)
    K[:] = 0
    np.testing.assert_allclose(gp.spectrum.values, want, atol=1e-12)
    assert gp.spectrum.rank == 3


@pytest.mark.parametrize("y", [2e4 * np.sin(X[:, 0]) + 300, 5 + Y * [3.0, 1e-3]], ids=["one output", "two outputs"])
def test_normalized_targets_give_deviations_in_their_units_as_in_scikit_learn(y):
    """A linear network of d inputs has the kernel ⟨x, x'⟩/d: DotProduct of inputs divided by √d."""
    model = NTKRegressor(LINEAR, kind="nngp", alpha=0.1, normalize_y=True).fit(X, y)
    other = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=0.1, normalize_y=True, optimizer=None)
    other.fit(X / np.sqrt(3), y)
    for options in ({"return_std": True}, {"return_cov": True}):
        got, want = model.predict(X_TEST, **options), other.predict(X_TEST / np.sqrt(3), **options)
        for a, b in zip(got, want, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max())
    np.testing.assert_allclose(model.predict(X_TEST), got[0], rtol=1e-12)
    assert model.log_marginal_likelihood_ == pytest.approx(other.log_marginal_likelihood_value_, rel=1e-9)


def test_deviations_are_of_the_size_of_the_errors():
    train, test = rng.normal(size=(200, 4)), rng.normal(size=(300, 4))
    target = lambda x: 2e4 * np.sin(x[:, 0]) - 1e5  # noqa: E731
    model = NTKRegressor(kind="nngp", alpha=1e-3, normalize_y=True).fit(train, target(train))
    mean, deviation = model.predict(test, return_std=True)
    error = np.sqrt(np.mean((mean - target(test)) ** 2))
    assert error / 4 < np.median(deviation) < 4 * error
    draws = model.sample_y(test[:5], 4000)
    assert draws.shape == (5, 4000)
    z = (draws.mean(axis=1) - mean[:5]) / (deviation[:5] / np.sqrt(4000))
    assert np.abs(z).max() < 4
    assert (np.abs(draws.std(axis=1) / deviation[:5] - 1) < 0.1).all()


def test_constant_targets_are_predicted():
    model = NTKRegressor(alpha=0.1, normalize_y=True).fit(X, np.full(40, 7.0))
    np.testing.assert_allclose(model.predict(X_TEST), 7.0, rtol=1e-14)


def test_equal_sequences_are_one_input_where_that_is_asked_for():
    """K(x, x') + 1(x = x')(K(x, x) − K between two equal inputs), which interpolates without a ridge."""
    apart = NTKRegressor(RNN, alpha=0).fit(SEQUENCES, TARGETS).predict(SEQUENCES)
    assert np.abs(apart - TARGETS).max() > 0.1  # each input has an initial state of its own
    model = NTKRegressor(RNN, alpha=0, match_equal=True).fit(SEQUENCES, TARGETS)
    np.testing.assert_allclose(model.predict(SEQUENCES), TARGETS, atol=1e-12)
    np.testing.assert_allclose(model.predict([*SEQUENCES[3:], SEQUENCES[0]]), TARGETS[[3, 4, 0]], atol=1e-12)
    K, new = tp.ntk(RNN), SEQUENCES[:2] + 1
    want = K(new, SEQUENCES) @ np.linalg.solve(K(SEQUENCES), TARGETS)
    np.testing.assert_allclose(model.predict(new), want, rtol=1e-9)


def test_repeated_training_inputs_are_one_input():
    twice, targets = np.concatenate([SEQUENCES, SEQUENCES[:1]]), np.append(TARGETS, 3.0)
    model = NTKRegressor(RNN, alpha=1e-6, match_equal=True).fit(twice, targets)
    np.testing.assert_allclose(model.predict(SEQUENCES[:1]), 2.0, atol=1e-5)
    with pytest.raises(tp.DataError, match="cannot tell apart: 0, 5"):
        NTKRegressor(RNN, alpha=0, match_equal=True).fit(twice, targets)
    labels = np.where(targets > 0.7, "up", "down")
    classifier = NTKClassifier(RNN, alpha=1e-6, match_equal=True).fit(twice, labels)
    assert (classifier.predict(SEQUENCES) == labels[:5]).all()


def test_matched_posteriors_have_no_deviation_at_training_inputs():
    model = NTKRegressor(RNN, kind="nngp", alpha=1e-10, match_equal=True).fit(SEQUENCES, TARGETS)
    mean, cov = model.predict(SEQUENCES, return_cov=True)
    assert np.abs(cov).max() < 1e-8 and np.abs(mean - TARGETS).max() < 1e-8
    assert model.predict(SEQUENCES, return_std=True)[1].max() < 1e-4


def test_scikit_learn_accepts_the_options():
    check_estimator(NTKRegressor(normalize_y=True, match_equal=True), on_skip=None)


@pytest.mark.parametrize("estimator", [NTKRegressor, NTKClassifier])
def test_masked_data_are_refused(estimator):
    hidden = np.ma.array(X, mask=X > 2)
    labels = (X[:, 0] > 0).astype(float)
    with pytest.raises(tp.DataError, match="X is a masked array"):
        estimator().fit(hidden, labels)
    with pytest.raises(tp.DataError, match="y is a masked array"):
        estimator().fit(X, np.ma.array(labels, mask=labels > 0))
    with pytest.raises(tp.DataError, match="X is a masked array"):
        estimator().fit(X, labels).predict(hidden)
    with pytest.raises(tp.DataError, match="K is a masked array"):
        GaussianProcess(np.ma.array(np.eye(2), mask=[[0, 1], [1, 0]]), [1.0, 2.0])
