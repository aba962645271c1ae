"""Gaussian-process regression on kernel matrices, and what is said about singular ones."""

import numpy as np
import pytest
from scipy import stats

import tensorprog as tp
from tensorprog.learn import GaussianProcess, Spectrum

rng = np.random.default_rng(2)
X, X_TEST, Y = rng.normal(size=(9, 3)), rng.normal(size=(4, 3)), rng.normal(size=(9, 2))
KERNEL = tp.nngp(tp.programs.mlp(depth=2, phi=tp.relu, sigma_b=0.3))
K, CROSS, OWN = KERNEL(X), KERNEL(X_TEST, X), KERNEL(X_TEST)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 2.0])
@pytest.mark.parametrize("y", [Y, Y[:, 0]], ids=["two outputs", "one output"])
def test_posterior_and_marginal_likelihood(alpha, y):
    gp = GaussianProcess(K, y, alpha)
    noisy = K + alpha * np.eye(9)
    np.testing.assert_allclose(gp.mean(CROSS), CROSS @ np.linalg.solve(noisy, y), rtol=1e-9, atol=1e-9)
    cov = OWN - CROSS @ np.linalg.solve(noisy, CROSS.T)
    np.testing.assert_allclose(gp.cov(CROSS, OWN), cov, rtol=0, atol=1e-11)
    np.testing.assert_allclose(gp.cov(CROSS, np.diag(OWN)), np.diag(cov), rtol=0, atol=1e-11)
    expected = sum(stats.multivariate_normal(np.zeros(9), noisy).logpdf(c) for c in y.reshape(9, -1).T)
    assert gp.log_marginal_likelihood == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_leave_one_out_is_fitting_again_without_the_input(alpha):
    gp = GaussianProcess(K, Y, alpha)
    for i in range(9):
        rest = np.arange(9) != i
        again = GaussianProcess(K[np.ix_(rest, rest)], Y[rest], alpha).mean(K[i : i + 1, rest])
        np.testing.assert_allclose(gp.leave_one_out[i], again[0], rtol=1e-8, atol=1e-9)


def test_samples_are_from_the_posterior():
    gp = GaussianProcess(K, Y, 0.1)
    draws, cov = gp.sample(CROSS, OWN, size=20000, seed=1), gp.cov(CROSS, OWN)
    assert draws.shape == (20000, 4, 2)
    z = (draws.mean(axis=0) - gp.mean(CROSS)) / np.sqrt(np.diag(cov) / 20000)[:, None]
    assert np.abs(z).max() < 4
    both = np.cov(draws.reshape(20000, -1).T)
    expected = np.kron(cov, np.eye(2))  # outputs are independent
    spread = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 20000)
    assert (np.abs(both - expected) / spread).max() < 4.5


def test_samples_pass_through_noiseless_data():
    gp = GaussianProcess(K, Y, 0.0)
    draws = gp.sample(K, K, size=3)
    np.testing.assert_allclose(draws, np.broadcast_to(Y, draws.shape), atol=1e-5)


def test_a_singular_kernel_is_explained_and_a_ridge_mends_it():
    twice = np.concatenate([X, X[[4, 4, 7]]])
    K = KERNEL(twice)
    y = np.concatenate([Y, Y[[4, 4, 7]]])
    for alpha in (0.0, 1e-18):
        with pytest.raises(tp.DataError, match=r"rank 9 of 12.*4, 9, 10; 7, 11.*alpha > .*e-1.*repeated"):
            GaussianProcess(K, y, alpha)
    mended = GaussianProcess(K, y, 1e-8).mean(KERNEL(X_TEST, twice))
    np.testing.assert_allclose(mended, GaussianProcess(KERNEL(X), Y).mean(CROSS), rtol=0, atol=1e-5)


def test_single_precision_is_judged_as_such():
    twice = np.concatenate([rng.normal(size=(60, 5))] * 2)
    s = Spectrum.of(KERNEL.gram(twice, dtype="float32"))
    assert s.rank == 60 and len(s.duplicates) == 60
    with pytest.raises(tp.DataError, match="rank 60 of 120"):
        GaussianProcess(s, np.ones(120))
    assert Spectrum.of(KERNEL(twice)).rank == 60


def test_the_most_negative_eigenvalue_is_the_noise():
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    s = Spectrum.of(Q @ np.diag([-1e-8, 1e-9, 0.5, 1.0]) @ Q.T)
    assert s.rank == 2 and s.tolerance == pytest.approx(1e-8, rel=1e-6)


def test_zero_inputs_without_biases_are_named():
    kernel = tp.ntk(tp.programs.mlp(depth=2))
    K = kernel(np.concatenate([X[:3], np.zeros((1, 3))]))
    with pytest.raises(tp.DataError, match="inputs of zero kernel: 3.*add biases"):
        GaussianProcess(K, np.ones(4))


def test_the_spectrum_knows_rank_condition_and_duplicates():
    s = Spectrum.of(K)
    assert s.rank == 9 and s.duplicates == []
    assert s.condition == pytest.approx(np.linalg.cond(K), rel=1e-8)
    assert s.largest == pytest.approx(np.linalg.norm(K, 2))
    linear = Spectrum.of(X @ X.T)  # rank 3, no two inputs equal
    assert linear.rank == 3 and linear.condition == np.inf and linear.duplicates == []


def test_one_decomposition_serves_many_ridges():
    s = Spectrum.of(K)
    for alpha in (0.1, 1.0):
        a, b = GaussianProcess(s, Y, alpha), GaussianProcess(K, Y, alpha)
        assert a.spectrum is s and a.log_marginal_likelihood == pytest.approx(b.log_marginal_likelihood, rel=1e-13)


@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, "much", [[1.0, 2.0]], None])
def test_bad_noise_is_refused(alpha):
    with pytest.raises(tp.DataError, match="alpha is a noise variance"):
        GaussianProcess(K, Y, alpha)


def test_bad_test_kernels_are_refused():
    gp = GaussianProcess(K, Y, 0.1)
    with pytest.raises(tp.DataError, match=r"K_test must be a matrix of shape \(any, 9\)"):
        gp.mean(CROSS.T)
    with pytest.raises(tp.DataError, match=r"K_test_test must be a matrix of shape \(4, 4\)"):
        gp.cov(CROSS, OWN[:3])
    for bad in ([5.0], [np.nan] * 4, ["a"] * 4):
        with pytest.raises(tp.DataError, match="K_test_test"):
            gp.cov(CROSS, bad)
    with pytest.raises(tp.DataError, match="not of one network"):
        gp.sample(CROSS, 0.01 * OWN)


def test_a_zero_kernel_and_a_tiny_ridge():
    with pytest.raises(tp.DataError, match="singular"):
        GaussianProcess([[0.0]], [1.0], 1e-309)
