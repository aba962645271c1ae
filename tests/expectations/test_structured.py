"""Expectations over three and more dimensions against closed forms, dense grids and each other."""

import itertools

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import tensorprog as tp
from tensorprog.errors import AccuracyError, DataError
from tensorprog.expectations.many.factors import Product, factor
from tensorprog.expectations.many.lowrank import lowrank_expectation, splittings
from tensorprog.expectations.many.markov import find_tree, tree_expectation
from tensorprog.expectations.many.sobol import RANDOMISATIONS, conditioned, plain
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Abs, Cos, Exp, Gelu, Relu, Sigmoid, Sign, Silu, Step, Tanh, evaluate

US = sp.symbols("u1:9", real=True)
X = sp.Symbol("x", real=True)
NORMAL_CDF = (1 + sp.erf(X / sp.sqrt(2))) / 2


def of(phi, k):
    """Π φ(u_i) over the first k variables."""
    return sp.Mul(*((phi.subs(X, u) if isinstance(phi, sp.Expr) else phi(u)) for u in US[:k]))


def value(body, cov, mean=None, **options):
    cov = np.asarray(cov)
    return expectation(body, US[: len(cov)], cov.tolist(), mean, **options)


def by_variable(phi, correlation):
    """Π φ(u_i) as factors of standard normals."""
    return Product((factor(phi(X), X, 0.0, 1.0, {}),) * len(correlation), correlation)


def chain(k, rho):
    return rho ** np.abs(np.subtract.outer(range(k), range(k)))


def equal(k, rho):
    return np.full((k, k), rho) + (1 - rho) * np.eye(k)


def orthant3(cov):
    scale = np.sqrt(np.diag(cov))
    rho = (cov / np.outer(scale, scale))[np.triu_indices(3, 1)]
    return 0.125 + np.arcsin(rho).sum() / (4 * np.pi)


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def legendre(low, high, count):
    """Panels of 20 nodes each: numpy's weights of higher order are off by 1e-14."""
    x, w = np.polynomial.legendre.leggauss(20)
    ends = np.linspace(low, high, count // 20 + 1)
    half = np.diff(ends)[:, None] / 2
    return (ends[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


# E φ(t + s ξ), ξ standard normal
SMOOTHED = {
    Relu: lambda t, s: t * special.ndtr(t / s) + s * density(t / s),
    Step: lambda t, s: special.ndtr(t / s),
    Sign: lambda t, s: 2 * special.ndtr(t / s) - 1,
    Abs: lambda t, s: t * (2 * special.ndtr(t / s) - 1) + 2 * s * density(t / s),
}


def check(got, want, tolerance, method):
    """The error is small, is a bound, and the method is the one meant."""
    assert got.method == method
    assert got.value == pytest.approx(want, rel=tolerance, abs=1e-15)
    assert np.all(np.abs(got.value - want) <= got.error + 2e-15 * np.abs(want))


@pytest.mark.parametrize("rho", [-0.9, 0.3, 0.99, 1 - 1e-6])
def test_chains_of_three_steps(rho):
    check(value(of(Step, 3), chain(3, rho)), orthant3(chain(3, rho)), 1e-13, "transfer matrices")


@pytest.mark.parametrize("rho", [0.3, 0.6, -0.8, 0.95])
@pytest.mark.parametrize("k", [4, 8])
def test_chains_of_exponentials(k, rho):
    got = value(of(Exp, k) * sp.exp(-US[0]), chain(k, rho))  # u2 to uk, and u1 not at all
    cov = chain(k, rho)[1:, 1:]
    check(got, np.exp(cov.sum() / 2), 2e-13, "closed form")
    links = tree_expectation(by_variable(Exp, cov), find_tree(cov), 1e-12, 0.0)
    assert links.value == pytest.approx(float(got.value), rel=2e-13)


@pytest.mark.parametrize("phi", [Tanh, Sigmoid, Cos])
@pytest.mark.parametrize("rho", [0.5, -0.7])
def test_smooth_chains_of_eight_against_the_hermite_basis(phi, rho):
    """In the Hermite basis the transfer is diag(ρ^n), and φ a matrix of E he_m φ he_n."""
    x, w = np.polynomial.hermite_e.hermegauss(180)
    size = 140
    basis = np.ones((size, len(x)))
    basis[1] = x
    for n in range(1, size - 1):
        basis[n + 1] = (x * basis[n] - np.sqrt(n) * basis[n - 1]) / np.sqrt(n + 1)
    weighted = basis * np.sqrt(w / w.sum())
    matrix = (weighted * evaluate(phi(X), {X: x})) @ weighted.T
    vector = matrix[0]
    for _ in range(7):
        vector = matrix @ (rho ** np.arange(size) * vector)
    cov = chain(8, rho)
    check(value(of(phi, 8), cov), vector[0], 1e-11, "closed form" if phi is Cos else "transfer matrices")
    links = tree_expectation(by_variable(phi, cov), find_tree(cov), 1e-12, 0.0)
    assert links.value == pytest.approx(vector[0], rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("phi", [Relu, Step, Abs])
@pytest.mark.parametrize("rho", [0.4, -0.6])
def test_kinked_chains_of_four_against_a_dense_grid(phi, rho):
    """The ends are integrated out in closed form; what is left is smooth in each quadrant of the middle."""
    total, s = 0.0, np.sqrt(1 - rho**2)
    for signs in itertools.product((1, -1), repeat=2):
        x, w = legendre(0, 11, 300)
        a, b = signs[0] * x[:, None], signs[1] * x
        joint = density(a) * density((b - rho * a) / s) / s
        inner = (
            evaluate(phi(X), {X: a}) * evaluate(phi(X), {X: b}) * SMOOTHED[phi](rho * a, s) * SMOOTHED[phi](rho * b, s)
        )
        total += w @ (joint * inner) @ w
    check(value(of(phi, 4), chain(4, rho)), total, 1e-13, "transfer matrices")


def test_a_tree_of_kinked_and_smooth_functions_with_means():
    """A star with the centre u2: independent given it."""
    loads, mean = np.array([0.5, 1.0, -0.7, 0.3]), [0.2, -0.1, 0.5, 0.0]
    cov = np.outer(loads, loads)
    np.fill_diagonal(cov, 1.0)
    spread = np.sqrt(1 - loads**2)
    body = Relu(US[0]) * Tanh(US[1]) * Step(US[2]) * Abs(US[3] - 1)
    x, w = legendre(-10, 10, 400)
    inner = np.tanh(x - 0.1) * SMOOTHED[Relu](0.2 + 0.5 * x, spread[0])
    inner *= SMOOTHED[Step](0.5 - 0.7 * x, spread[2]) * SMOOTHED[Abs](-1 + 0.3 * x, spread[3])
    check(value(body, cov, mean), w @ (density(x) * inner), 1e-12, "transfer matrices")


@pytest.mark.parametrize("k", [3, 4, 8])
def test_equicorrelated_orthants(k):
    check(value(of(Step, k), equal(k, 0.5)), 1 / (k + 1), 1e-14, "low rank plus diagonal")


@pytest.mark.parametrize("k", [3, 4, 6])
def test_products_of_normal_distribution_functions_are_orthants(k):
    """E Π Φ(u_i) = P(ξ_i ≤ u_i for all i), the orthant of C + I: 1/(k + 1) where its correlations are 1/2."""
    got = value(of(NORMAL_CDF, k), 1.5 + 0.5 * np.eye(k))
    assert got.value == pytest.approx(1 / (k + 1), rel=2e-14)
    assert got.error < 1e-12


@pytest.mark.parametrize("phi, rho", [(Relu, 0.1), (Relu, 0.99), (Step, 0.7)])
def test_equicorrelated_kinks_with_means(phi, rho):
    k, mean = 6, np.linspace(-0.5, 0.5, 6)

    def integrand(z):
        s = mpmath.sqrt(1 - mpmath.mpf(rho))
        t = [mpmath.mpf(float(m)) + mpmath.sqrt(mpmath.mpf(rho)) * z for m in mean]
        each = [mpmath.ncdf(a / s) for a in t]
        if phi is Relu:
            each = [a * c + s * mpmath.npdf(a / s) for a, c in zip(t, each, strict=True)]
        return mpmath.npdf(z) * mpmath.fprod(each)

    want = float(mpmath.quad(integrand, np.linspace(-9, 9, 37).tolist()))
    check(value(of(phi, k), equal(k, rho), list(mean)), want, 1e-11, "low rank plus diagonal")


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("phi", [Relu, Abs])
def test_low_rank_plus_diagonal_of_eight(rank, phi):
    rng = np.random.default_rng(rank)
    loads = rng.normal(size=(8, rank)) * 0.5
    d = rng.uniform(0.5, 1.0, 8)
    x = 0.25 * np.arange(-36, 37)
    weight = 0.25 * density(x)
    grid = np.meshgrid(*[x] * rank, indexing="ij")
    t = np.tensordot(loads, np.stack(grid), axes=1)
    inner = np.prod([SMOOTHED[phi](a, np.sqrt(s)) for a, s in zip(t, d, strict=True)], axis=0)
    for _ in range(rank):
        inner = inner @ weight
    check(value(of(phi, 8), loads @ loads.T + np.diag(d)), inner, 1e-12, "low rank plus diagonal")


@pytest.mark.parametrize("cov", [equal(3, -0.3), [[1, 0.5, -0.2], [0.5, 2, 0.3], [-0.2, 0.3, 0.5]]])
def test_every_three_by_three_has_rank_two_plus_diagonal(cov):
    check(value(of(Step, 3), cov), orthant3(np.asarray(cov)), 1e-12, "low rank plus diagonal")


def random_correlation(k, seed):
    a = np.random.default_rng(seed).normal(size=(k, k + 3))
    cov = a @ a.T
    return cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))


@pytest.mark.parametrize("k, accuracy", [(4, 1e-4), (5, 1e-4), (8, 1e-2)])
def test_kinked_products_of_general_covariances_against_an_extended_orthant(k, accuracy):
    """Π step(u_i - m_i) against the same probability by scipy's integration of the distribution."""
    cov, mean = random_correlation(k, k), np.linspace(-0.3, 0.8, k)
    got = value(of(Step, k), cov, list(mean))
    want = stats.multivariate_normal(np.zeros(k), cov, maxpts=10**6, abseps=1e-7).cdf(mean)
    assert abs(got.value - want) <= got.error + 1e-6
    assert got.error <= accuracy * got.value


def wick(cov, indices):
    """E Π u_i over a list of indices, by pairing the first with each other (Isserlis)."""
    if not indices:
        return 1.0
    first, *rest = indices
    return sum(cov[first, j] * wick(cov, rest[:n] + rest[n + 1 :]) for n, j in enumerate(rest))


def factors_of(bodies, cov):
    correlation = np.asarray(cov, float)
    scale = np.sqrt(np.diag(correlation))
    functions = [factor(b, X, 0.0, float(s), {}) for b, s in zip(bodies, scale, strict=True)]
    return Product(tuple(functions), correlation / np.outer(scale, scale))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.floats(-0.95, 0.95), min_size=3, max_size=3), st.permutations(range(4)),
       st.lists(st.integers(1, 2), min_size=4, max_size=4))  # fmt: skip
def test_all_methods_give_the_moments_of_a_chain(links, order, powers):
    cov = np.eye(4)
    for i, j in itertools.combinations(range(4), 2):
        cov[i, j] = cov[j, i] = np.prod(links[i:j])
    cov = cov[np.ix_(order, order)] * np.outer([1, 2, 0.5, 1], [1, 2, 0.5, 1])
    problem = factors_of([X**e for e in powers], cov)
    want = wick(cov, [i for i, e in enumerate(powers) for _ in range(e)])
    tree = find_tree(problem.correlation)
    assert tree is not None
    found = tree_expectation(problem, tree, 1e-13, 1e-15)
    assert abs(found.value - want) <= max(found.error, 1e-15) and found.error <= 1e-11
    for loads, diagonal in splittings(problem.correlation):
        np.testing.assert_allclose(loads @ loads.T + np.diag(diagonal), problem.correlation, atol=1e-13)
        low = lowrank_expectation(problem, loads, diagonal, 1e-12, 1e-15) if loads.shape[1] < 3 else None
        assert low is None or abs(low.value - want) <= max(low.error, 1e-15)
    points = conditioned(problem, 2**13, seed=1)
    assert abs(points.value - want) <= 5 * points.stderr + 1e-12


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([Relu, Step, Abs, Sign, Tanh, Gelu, Silu]), st.integers(3, 5))
def test_methods_agree_on_random_covariances(seed, phi, k):
    rng = np.random.default_rng(seed)
    loads = rng.normal(size=(k, 1))
    cov = loads @ loads.T + np.diag(rng.uniform(0.3, 1, k))
    body = of(phi, k) * Sigmoid(US[0])
    exact = value(body, cov)
    assert exact.error <= 1e-9 and "Sobol" not in exact.method
    bodies = [phi(X) * (Sigmoid(X) if i == 0 else 1) for i in range(k)]
    points = conditioned(factors_of(bodies, cov), 2**12, seed)
    assert abs(points.value - exact.value) <= 6 * points.stderr + exact.error


def t_interval(estimate, level=0.95):
    return stats.t.ppf(0.5 + level / 2, RANDOMISATIONS - 1) * estimate.stderr


def covered(draw, want, repeats):
    hits = sum(abs((e := draw(seed)).value - want) <= t_interval(e) for seed in range(repeats))
    return stats.binomtest(hits, repeats, 0.95).pvalue


COVERAGE = {
    "orthant": lambda n: (lambda seed: conditioned(factors_of([Step(X)] * 4, equal(4, 0.5)), n, seed), 0.2),
    "absolute values": lambda n: (
        lambda seed: conditioned(factors_of([Abs(X)] * 3, equal(3, -0.3)), n, seed),
        float(value(of(Abs, 3), equal(3, -0.3)).value),
    ),
    "relu": lambda n: (
        lambda seed: conditioned(factors_of([Relu(X)] * 5, chain(5, 0.5)), n, seed),
        float(value(of(Relu, 5), chain(5, 0.5)).value),
    ),
    "cosine": lambda n: (lambda seed: plain(lambda z: np.cos(z.sum(axis=1)) * np.exp(z[:, 0]), 5, n, seed), None),
}


@pytest.mark.parametrize("case", ["orthant", "cosine"])
def test_standard_errors_cover_at_95_percent(case):
    draw, want = COVERAGE[case](2**10)
    want = np.exp(-2.0) * np.cos(1.0) if want is None else want
    assert covered(draw, want, 40) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("case", COVERAGE)
def test_standard_errors_cover_at_95_percent_in_200_repeats(case):
    draw, want = COVERAGE[case](2**11)
    want = np.exp(-2.0) * np.cos(1.0) if want is None else want
    assert covered(draw, want, 200) > 1e-2


def test_points_are_the_last_resort_and_follow_the_seed():
    body = Relu(US[0] * US[1] + US[2]) * Step(US[2])
    cov = random_correlation(3, 0)
    first, again, other = (value(body, cov, seed=s) for s in (0, 0, 1))
    assert first.method == "Sobol points" and first.value == again.value != other.value
    assert abs(first.value - other.value) <= first.error + other.error
    more = value(body, cov, samples=2**19)
    assert more.error < first.error / 2 and abs(more.value - first.value) <= more.error + first.error


def test_smooth_bodies_beyond_the_tensor_are_estimated():
    cov = random_correlation(6, 1)
    got = value(Tanh(US[0] * US[1]) * Cos(US[2] * US[3] + US[4] * US[5]), cov)
    assert got.method == "Sobol points" and 0 < got.error < 1e-2
    z = np.random.default_rng(0).normal(size=(10**6, 6)) @ np.linalg.cholesky(cov).T
    f = np.tanh(z[:, 0] * z[:, 1]) * np.cos(z[:, 2] * z[:, 3] + z[:, 4] * z[:, 5])
    assert abs(got.value - f.mean()) <= got.error + 5 * f.std() / 1000


def test_singular_covariances():
    """u4 = u1, u5 = -2 u2 and u6 constant: three variables are left."""
    base = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, -0.2], [0.5, -0.2, 1.0]])
    a = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, -2, 0], [0, 0, 0]])
    got = value(of(Step, 5).subs(US[4], -US[4]) * Sigmoid(US[5]), a @ base @ a.T, [0, 0, 0, 0, 0, 0.7])
    assert got.value == pytest.approx(orthant3(base) * special.expit(0.7), rel=1e-13)
    assert "low rank plus diagonal" in got.method and "Sobol" not in got.method


def test_a_nearly_singular_covariance_is_near_the_singular_one():
    at = value(of(Abs, 3), equal(3, -0.5))
    near = value(of(Abs, 3), equal(3, -0.5 + 1e-9))
    assert at.error < 1e-12 and abs(near.value - at.value) <= near.error + 1e-7 < 1e-3


def test_a_singular_covariance_without_twins():
    """u4 = (u1 + u2 + u3)/√3 is positive where the others are."""
    a = np.concatenate([np.eye(3), np.full((1, 3), 3**-0.5)])
    got = value(of(Step, 4), a @ a.T)
    assert abs(got.value - 0.125) <= got.error <= 1e-3


@pytest.mark.parametrize("where", [0, 1, 2])
def test_zero_variance_is_the_mean(where):
    cov = chain(3, 0.5)
    cov[where] = cov[:, where] = 0.0
    mean = [0.3, -0.2, 0.4]
    got = value(of(Relu, 3) + of(Exp, 3), cov, mean)
    others = [i for i in range(3) if i != where]
    pair = cov[np.ix_(others, others)].tolist()
    u, v = (US[i] for i in others)
    inside = [expectation(f(u) * f(v), (u, v), pair, [mean[i] for i in others]).value for f in (Relu, Exp)]
    want = max(mean[where], 0) * inside[0] + np.exp(mean[where]) * inside[1]
    assert got.value == pytest.approx(want, rel=1e-12)


def test_affine_arguments_become_variables():
    a = np.array([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]])
    body = Step(US[0] + US[1]) * Step(US[1] + US[2]) * Step(US[2] + US[0])
    check(value(body, np.eye(3)), orthant3(a @ a.T), 1e-13, "low rank plus diagonal")
    b = np.array([[1.0, 0, 0], [0.3, 0.7, 0], [1.3, 0.7, 0], [0, 0.6, 0.8]])  # u3 = u1 + u2
    constant = Sigmoid(US[0] + US[1] - US[2] + 1) * Relu(US[0]) * Relu(US[2]) * Relu(US[3])
    rest = value(Relu(US[0]) * Relu(US[1]) * Relu(US[2]), b[[0, 2, 3]] @ b[[0, 2, 3]].T)
    assert value(constant, b @ b.T).value == pytest.approx(special.expit(1.0) * rest.value, rel=1e-12)
    got = value(Cos(US[0] + 2 * US[1] - US[2]), equal(3, 0.2))
    assert got.value == pytest.approx(np.exp(-0.5 * np.array([1, 2, -1]) @ equal(3, 0.2) @ [1, 2, -1]), rel=1e-13)


def test_arrays_of_covariances_and_scalars():
    rho, s = np.array([[0.1], [0.5], [-0.4]]), sp.Symbol("s")
    scale = np.array([1.0, 2.0])
    cov = [[scale**2, rho * scale, rho**2 * scale], [0, 1.0, rho], [0, 0, 1.0]]
    got = expectation(s * of(Step, 3), US[:3], cov, scalars={s: scale})
    want = scale * [[orthant3(chain(3, r))] for r in rho[:, 0]]
    np.testing.assert_allclose(got.value, want, rtol=1e-13)
    assert got.error.shape == (3, 2) and got.method == "transfer matrices"
    empty = expectation(of(Step, 3), US[:3], [[np.ones(0), 0.5, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]])
    assert empty.value.shape == (0,)


def test_steep_functions_are_not_skipped():
    """tanh(60 u) is the sign up to a layer of width 1/60, and its square 1."""
    cov = chain(3, 0.5)
    got = value(Tanh(60 * US[0]) * Tanh(60 * US[1]) * Step(US[2]), cov)
    sharp = value(Sign(US[0]) * Sign(US[1]) * Step(US[2]), cov)
    assert got.error < 1e-12 and got.method == "transfer matrices"
    assert 1e-5 < abs(got.value - sharp.value) < 1e-2
    narrow = value((1 - Tanh(60 * US[1]) ** 2) * Step(US[0]) * Step(US[2]), cov)
    assert narrow.value == pytest.approx(2 / 60 * density(0.0) / 4, rel=1e-3)


@pytest.mark.parametrize("body", [of(Relu, 3), Tanh(US[0] * US[1] + US[2]), of(Tanh, 3) * US[0]])
def test_indefinite_covariances_are_refused(body):
    with pytest.raises(DataError, match=r"positive semidefinite.*eigenvalue -0\.8"):
        value(body, np.array([[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]]))


def test_functions_without_an_expectation_are_refused():
    with pytest.raises(AccuracyError, match="not be integrable"):
        value(1 / (US[0] * US[1] + US[2]) ** 4 * Relu(US[0] + US[1] * US[2]), random_correlation(3, 0))


def program(correlation):
    """The limit of E Π relu(u_i), as a mean inside tanh's variance too."""
    p = tp.Program()
    k = len(correlation)
    exact = [[sp.Rational(str(round(float(c), 6))) for c in row] for row in correlation]
    vectors = p.gaussian(" ".join(f"v{i}" for i in range(k)), exact)
    moment = tp.moment(lambda *u: sp.prod([tp.relu(t) for t in u]), *vectors)
    x = p.matrix("W") @ (moment * tp.tanh(vectors[0]))
    return p, moment, x


def test_accounts_carry_statistical_errors_through_a_limit():
    p, moment, x = program(np.round(random_correlation(5, 3), 3))
    lim = tp.limit(p)
    inner = lim.account(lim.value(moment))
    assert inner.statistical and inner.error == pytest.approx(inner.atoms[0].error, rel=1e-9)
    assert inner.value == lim.evaluate(lim.value(moment))
    outer = lim.account(lim.cov(x, x) * 3 + 1)
    square = lim.evaluate(lim.E(lambda a: tp.tanh(a) ** 2, p_first(p)))
    assert outer.error == pytest.approx(6 * inner.value * square * inner.atoms[0].error, rel=1e-2)
    nested = lim.account(lim.E(lambda a: tp.tanh(a) ** 2, x))
    assert [a.statistical for a in nested.atoms] == [True, False, False]
    assert nested.error == pytest.approx(2 * inner.value * square * inner.atoms[0].error, rel=0.1)


def p_first(p):
    return next(v for v, _ in p if v.kind == "vector")


def test_automatic_limits_say_that_a_number_is_estimated():
    p, moment, _ = program(np.round(random_correlation(5, 3), 3))
    auto = tp.limit(p, "auto")
    got = auto.value(moment)
    assert got.method == "sampled" and 0 < got.stderr < 1e-4
    direct = tp.limit(p, "sampling", samples=2**16).value(moment)
    assert abs(got - direct) <= 4 * np.hypot(got.stderr, direct.stderr)
    p, moment, _ = program(chain(5, 0.5))
    assert tp.limit(p, "auto").value(moment).method == "exact"
