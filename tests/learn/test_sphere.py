"""The spectrum on the sphere: closed forms, integrals in many digits, sampled inputs, learning curves."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy import special

import tensorprog as tp
from tensorprog.learn import NTKRegressor
from tensorprog.learn.sphere import multiplicity, spectrum

ONE = tp.programs.mlp(depth=1, phi=tp.relu)


def kappa0(t):
    return (mp.pi - mp.acos(t)) / mp.pi


def kappa1(t):
    return (mp.sqrt(1 - t * t) + t * (mp.pi - mp.acos(t))) / mp.pi


def two_layers(t):
    """The NTK of two hidden layers by Bietti and Mairal's recursion, Eq. 6."""
    first = kappa1(t) + t * kappa0(t)
    return kappa1(kappa1(t)) + kappa0(kappa1(t)) * first


def exact(k, degree, dim):
    """λ_k on S² and S³, in 40 digits, by Legendre's and Chebyshev's polynomials."""
    with mp.workdps(40):

        def at(θ):
            if dim == 3:
                return k(mp.cos(θ)) * mp.legendre(degree, mp.cos(θ)) * mp.sin(θ) / 2
            return k(mp.cos(θ)) * mp.sin((degree + 1) * θ) * mp.sin(θ) / (degree + 1) * 2 / mp.pi

        return float(mp.quad(at, mp.linspace(0, mp.pi, 5)))


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize(("depth", "k"), [(1, lambda t: kappa1(t) + t * kappa0(t)), (2, two_layers)])
def test_relu_ntk_against_integrals_in_forty_digits(dim, depth, k):
    found = spectrum(tp.ntk(tp.programs.mlp(depth=depth, phi=tp.relu)), dim, degrees=9)
    wanted = [exact(k, j, dim) for j in range(10)]
    np.testing.assert_allclose(found.values, wanted, atol=1e-12)
    np.testing.assert_allclose(found.total, depth + 1, rtol=1e-12)
    assert found.errors.max() < 1e-12


def test_eigenvalues_of_the_arc_cosine_kernel_on_the_circle():
    """κ_0 = 1 − θ/π: λ_0 = 1/2, λ_k = 2/(π k)² for odd k, 0 for even ones."""
    found = spectrum(lambda t: 1 - np.arccos(t) / np.pi, 2, degrees=9)
    k = np.arange(1, 10)
    np.testing.assert_allclose(found.values, [0.5, *np.where(k % 2, 2 / (np.pi * k) ** 2, 0)], atol=1e-12)
    assert found.null.tolist() == [False, *(k % 2 == 0)]


@pytest.mark.parametrize("dim", [2, 3, 5, 8])
def test_relu_sees_even_degrees_and_the_first_and_decays(dim):
    nngp, ntk = (spectrum(make(ONE), dim, degrees=60 if dim < 8 else 30) for make in (tp.nngp, tp.ntk))
    assert nngp.null[3::2].all() and ntk.null[3::2].all() and not ntk.null[:2].any()
    assert abs(ntk.decay(parity=0) - dim) < 0.2  # k^(−d), Bietti and Mairal, proposition 5
    assert abs(nngp.decay(parity=0) - dim - 2) < 0.4  # k^(−d−2), Bach, appendix D.2


def test_all_eigenvalues_together_are_the_diagonal():
    net = tp.programs.mlp(depth=2, phi=tp.erf, sigma_w=1.2, sigma_b=0.3)
    found = spectrum(tp.nngp(net), 3, degrees=60, radius=1.0)
    x = np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(found.total, tp.nngp(net)(x)[0, 0], rtol=1e-13)
    np.testing.assert_allclose(found.kept.sum(), found.total, rtol=1e-9)


def test_multiplicities():
    assert [multiplicity(3, k) for k in range(4)] == [1, 3, 5, 7]
    for d in (2, 4, 7):  # all polynomials of degree k on the sphere: those of degree k and k − 1
        total = sum(multiplicity(d, k) for k in range(6))
        assert total == special.comb(d + 4, d - 1) + special.comb(d + 3, d - 1)


def test_effective_dimension_is_that_of_the_matrix_of_many_inputs():
    """Σ λ/(λ + α) of K/N at uniform inputs, whose bias of order 1/N two sizes take away."""
    alpha, rng, draws = 0.05, np.random.default_rng(0), 24

    def drawn(N):
        X = rng.normal(size=(N, 3))
        X *= np.sqrt(3) / np.linalg.norm(X, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(tp.ntk(ONE)(X) / N)
        return np.sum(values / (values + alpha))

    few, many = ([drawn(N) for _ in range(draws)] for N in (100, 200))
    error = np.sqrt((4 * np.var(many, ddof=1) + np.var(few, ddof=1)) / draws)
    found = spectrum(tp.ntk(ONE), 3, degrees=80).effective_dimension(alpha)
    assert error < 0.02 and abs(2 * np.mean(many) - np.mean(few) - found) < 4 * error


def test_learning_curves_beside_measured_ones():
    """Target √5 P_2(x₁) + noise on S²: mean square 1, all of degree 2. The theory is a mean field's: to 5 %."""
    dim, noise, alpha, counts = 3, 0.1, 0.05, [10, 40, 160]
    curve = spectrum(tp.ntk(ONE), dim, degrees=60).learning_curve([0, 0, 1], counts, alpha=alpha, noise=noise)
    rng = np.random.default_rng(1)

    def draw(n):
        X = rng.normal(size=(n, dim))
        X *= np.sqrt(dim) / np.linalg.norm(X, axis=1, keepdims=True)
        return X, np.sqrt(5) * (X[:, 0] ** 2 / 2 - 0.5)

    for P, predicted in zip(counts, curve, strict=True):
        errors = []
        for _ in range(25):
            (X, f), (new, goal) = draw(P), draw(400)
            model = NTKRegressor(ONE, alpha=alpha).fit(X, f + np.sqrt(noise) * rng.normal(size=P))
            errors.append(np.mean((model.predict(new) - goal) ** 2))
        spread = np.std(errors, ddof=1) / np.sqrt(len(errors))
        assert abs(np.mean(errors) - predicted) < 4 * spread + 0.05 * predicted, (P, np.mean(errors), predicted)
    assert curve[0] > curve[1] > curve[2]


def test_a_learning_curve_of_nothing_learned_and_of_one_eigenvalue():
    """K = t on S² has three eigenvalues 1/3; with P λ ≫ κ the error is σ² 3/(P − 3)."""
    found = spectrum(lambda t: t, 3, degrees=3)
    curve = found.learning_curve([0, 1.0], [100], alpha=1e-9, noise=0.5)
    np.testing.assert_allclose(curve, 0.5 * 3 / 97, rtol=1e-4)
    large = found.learning_curve([0, 1.0], [1], alpha=1e9)
    np.testing.assert_allclose(large, 1.0, rtol=1e-6)


def test_symbols_take_values():
    b = sp.Symbol("sigma_b", positive=True)
    net = tp.programs.mlp(depth=1, phi=tp.relu, sigma_b=b)
    found = spectrum(tp.ntk(net), 3, degrees=4, values={"sigma_b": 0.5})
    same = spectrum(tp.ntk(tp.programs.mlp(depth=1, phi=tp.relu, sigma_b=0.5)), 3, degrees=4)
    np.testing.assert_allclose(found.values, same.values, atol=1e-13)


def test_what_does_not_fit_is_refused():
    with pytest.raises(tp.DataError, match="at least 2"):
        spectrum(tp.ntk(ONE), 1)
    with pytest.raises(tp.DataError, match="radius must be a positive number"):
        spectrum(tp.ntk(ONE), 3, radius=0)
    with pytest.raises(tp.ProgramError, match="takes a kernel such as"):
        spectrum(np.eye(3), 3)
    with pytest.raises(tp.DataError, match="the sphere is one of vectors"):
        spectrum(tp.ntk(tp.programs.rnn()), 3)
    with pytest.raises(tp.DataError, match="finite number"):
        spectrum(lambda t: t / 0.0 if np.isscalar(t) else np.full_like(t, np.nan), 3)
    found = spectrum(tp.ntk(ONE), 3, degrees=3)
    for bad in ([-1.0], [[1.0]], np.ones(9)):
        with pytest.raises(tp.DataError, match="powers are mean squares"):
            found.learning_curve(bad, [10])
    with pytest.raises(tp.DataError, match="alpha must be a positive"):
        found.effective_dimension(0)
    with pytest.raises(tp.DataError, match="parity is 0"):
        found.decay(parity=2)
