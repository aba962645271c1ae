"""Polynomials times exponentials of quadratic forms: exact for any covariance, with a bound that holds."""

from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import DataError
from tensorprog.expectations import numeric
from tensorprog.expectations.closed.pieces import terms
from tensorprog.expectations.closed.tilted import Tilted, tilted
from tensorprog.expectations.law import Law
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Cos, Exp, Gauss, Sin, Tanh

U = sp.symbols("u1:6", real=True)
BODIES = [
    U[0] ** 2 * U[1] * U[2] ** 2 * U[3] * Exp(-(U[0] ** 2) / 2) * Exp(-(U[2] ** 2) / 2),
    U[0] * U[1] * U[2] * Gauss(U[0]) ** 2 * Gauss(2 * U[1] - 1),
    Gauss(U[0]) * Gauss(U[1]) * Gauss(U[2]) * Gauss(U[3]) * Gauss(U[4]),
    Exp(U[0] / 2) * Exp(-3 * U[1] ** 2) * U[2] ** 4 * (1 + U[2]) * U[1],
    Sin(U[0]) * Cos(2 * U[1]) * Sin(U[2] + 1) * Gauss(U[3]),
    Sin(U[0]) * U[0] * Exp(-U[1] ** 2 / 2 - U[1] / 3) * U[2] ** 3 * Cos(U[3] / 2) * Exp(U[3] / 5),
    (U[0] ** 2 - 1) * (U[1] ** 3 - 3 * U[1]) * Gauss(U[2]) * U[2],
]  # fmt: skip
KINDS = ("ordinary", "nearly singular", "singular", "of all sizes")


def _law(kind, k, count, seed):
    """Covariances: |ρ| up to 1 - 1e-12, of rank one or two, or variances from 1e-8 to 1e3; every other with means."""
    rng = np.random.default_rng(seed)
    rank = rng.integers(1, 3) if kind == "singular" else k
    a = rng.standard_normal((count, k, rank))
    if kind == "nearly singular":
        noise = 10.0 ** -rng.uniform(1, 6, (count, 1, 1))
        a = rng.standard_normal((count, 1, k)) + noise * a
    cov = a @ np.swapaxes(a, 1, 2)
    if kind in ("of all sizes", "nearly singular"):
        low = -8 if kind == "of all sizes" else -1
        size = np.sqrt(10.0 ** rng.uniform(low, 3, (count, k)) / np.einsum("nii->ni", cov))
        cov = cov * size[:, :, None] * size[:, None, :]
    mean = rng.uniform(-2, 2, (count, k)) * (np.arange(count) % 2)[:, None]
    entries = {(i, j): cov[:, i, j] for i in range(k) for j in range(i, k)}
    return Law(U[:k], entries, tuple(mean.T), {}, 1e-12, 1e-14)


def _reference(sums, mean, cov):
    """Σ of products of terms by dense linear algebra with 60 digits: (1 + ΣA)⁻¹, its determinant, and moments."""
    k = len(mean)
    S, m, total = mpmath.matrix(cov.tolist()), mpmath.matrix(mean.tolist()), mpmath.mpf(0)
    for chosen in np.ndindex(*map(len, sums)):
        picked = [s[c] for s, c in zip(sums, chosen, strict=True)]
        A, b = mpmath.diag([t.damping for t in picked]), mpmath.matrix([t.rate for t in picked])
        solve = mpmath.inverse(mpmath.eye(k) + S * A)
        Q, tilt = solve * S, b - A * m
        mu = m + Q * tilt
        exponent = sum(b[i] * m[i] - A[i, i] * m[i] ** 2 / 2 + tilt[i] * (mu[i] - m[i]) / 2 for i in range(k))

        @cache
        def moment(orders, mu=mu, Q=Q):
            if not any(orders):
                return mpmath.mpf(1)
            i = next(j for j, n in enumerate(orders) if n)
            rest = tuple(n - (j == i) for j, n in enumerate(orders))
            found = mu[i] * moment(rest)
            for j, n in enumerate(rest):
                if n:
                    found += n * Q[i, j] * moment(tuple(c - (l == j) for l, c in enumerate(rest)))
            return found

        value = moment(tuple(t.power.order for t in picked)) * mpmath.exp(exponent) * mpmath.sqrt(mpmath.det(solve))
        for t in picked:
            value *= mpmath.mpmathify(t.coefficient) / mpmath.factorial(t.power.order)
        total += value
    return mpmath.re(total)


def _factors(body):
    split = {u: sp.Mul(*(f for f in sp.Mul.make_args(body) if u in f.free_symbols)) for u in U}
    return [terms(f, u) for u, f in split.items() if f != 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES, ids=str)
def test_the_bound_holds_and_is_small(body, kind):
    k = len(body.free_symbols)
    law = _law(kind, k, 24, seed=BODIES.index(body))
    value, error, size = tilted(body, law)
    cov = np.stack([np.stack([law.get(i, j) for j in range(k)], -1) for i in range(k)], 1)
    with mpmath.workdps(60):
        want = [_reference(_factors(body), m, c) for m, c in zip(np.stack(law.mean, -1), cov, strict=True)]
        off = np.array([float(abs(mpmath.mpf(v) - w)) for v, w in zip(value, want, strict=True)])
    finite = np.isfinite(error)
    assert np.all(off[finite] <= error[finite]) and finite.mean() > 0.5
    damped = 1 + sum(law.get(i, i) for i in range(k))
    assert np.median((error / np.where(size > 0, size, 1.0) / damped)[finite]) < 1e-13


def test_it_is_what_a_sum_over_a_grid_gives():
    body = U[0] * U[1] ** 2 * Gauss(U[0]) * Sin(U[2])
    q = np.array([[1.0, 0.3, 0.5], [0.3, 2.0, -0.4], [0.5, -0.4, 0.7]])
    z = np.arange(-36, 37) / 4
    w = np.exp(-(z**2) / 2) / 4 / np.sqrt(2 * np.pi)
    x = np.linalg.cholesky(q) @ np.stack(np.meshgrid(z, z, z, indexing="ij")).reshape(3, -1)
    weights = np.einsum("i,j,k->ijk", w, w, w).ravel()
    want = np.sum(weights * x[0] * x[1] ** 2 * np.exp(-(x[0] ** 2) / 2) * np.sin(x[2]))
    got = expectation(body, U[:3], q.tolist())
    assert got.method == "closed form" and float(got.value) == pytest.approx(want, rel=1e-12)


def test_variables_that_are_equal_or_constant_need_no_care():
    ones = [[1.0] * 3] * 3
    body = U[0] * U[1] * sp.exp(-(U[2] ** 2) / 2)
    assert float(expectation(body, U[:3], ones).value) == pytest.approx(2**-1.5, rel=1e-15)
    still = expectation(U[0] ** 2 * Gauss(U[1]) * U[2] ** 2, U[:3], np.diag([1.0, 0.0, 2.0]).tolist(), [0.0, 1.0, 0.0])
    assert float(still.value) == pytest.approx(2 * np.exp(-0.5), rel=1e-15)


def test_an_exponent_of_two_variables_is_two_factors():
    q = [[1.0, 0.3, 0.2], [0.3, 2.0, 0.4], [0.2, 0.4, 0.5]]
    one = expectation(Exp(-(U[0] ** 2) / 2 - U[1] ** 2) * U[2] ** 2, U[:3], q)
    two = expectation(Exp(-(U[0] ** 2) / 2) * Exp(-(U[1] ** 2)) * U[2] ** 2, U[:3], q)
    assert one.method == "closed form" and float(one.value) == float(two.value)


def test_pairs_with_gaussians_written_out_have_closed_forms():
    got = expectation(U[0] * U[1] * sp.exp(-(U[0] ** 2) / 2), U[:2], [[1.0, 0.6], [0.6, 3.0]])
    assert got.method == "closed form" and float(got.value) == pytest.approx(0.6 * 2**-1.5, rel=1e-15)


def test_waves_of_small_variance_keep_their_digits():
    q = 1e-8 * (np.eye(4) + 1)
    got = expectation(sp.Mul(*map(Sin, U[:4])), U[:4], q.tolist())
    assert float(got.value) == pytest.approx(3e-16, rel=1e-7)  # that of the product of the variables, up to O(q)
    assert float(got.error) <= 1e-10 * float(got.value)


def test_the_order_of_dampings_does_not_matter():
    cov = np.array([[[2.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 0.7]]])
    law = Tilted.of(np.array([[0.3, -0.1, 0.2]]), cov)
    one, two = law.damped(0, 1.5).damped(2, 0.5), law.damped(2, 0.5).damped(0, 1.5)
    assert np.allclose(one.cov, two.cov, rtol=1e-14) and np.allclose(one.mean, two.mean, rtol=1e-13)
    assert np.allclose(one.factor * np.exp(one.exponent), two.factor * np.exp(two.exponent), rtol=1e-14)


def test_other_bodies_are_left_to_other_rules():
    law = _law("ordinary", 3, 2, 0)
    assert tilted(Tanh(U[0]) * U[1] * U[2], law) is None
    assert tilted(tp.relu(U[0]) * U[1] * U[2], law) is None
    assert tilted(U[0] * Sin(U[1] * U[2]), law) is None
    assert tilted(U[0] ** 30 * U[1] ** 30 * U[2] ** 2, law) is None


def test_a_covariance_that_is_none_is_refused():
    with pytest.raises(DataError, match="not positive semidefinite"):
        expectation(Gauss(U[0]) * U[1] * U[2], U[:3], [[1.0, -0.9, -0.9], [-0.9, 1.0, -0.9], [-0.9, -0.9, 1.0]])


def test_many_laws_are_one_call():
    laws = _law("ordinary", 4, 20_000, 3)
    value = tilted(BODIES[0], laws)[0]
    few = tilted(BODIES[0], laws.flat(range(4), (20_000,), np.array([0, 9_000, 19_999])))[0]
    assert np.array_equal(value[[0, 9_000, 19_999]], few)


@tp.network
def slope_of_gauss(n, x):
    a, e = x
    h, dh = n.embed("U", a), n.embed("U", e)
    z = tp.nonlin(lambda u: sp.exp(-(u**2) / 2), h)
    dz = tp.nonlin(lambda u, v: -u * sp.exp(-(u**2) / 2) * v, h, dh)
    h, dh = n.dense("W", z), n.dense("W", dz)
    return n.readout("V", tp.nonlin(lambda u, v: -u * sp.exp(-(u**2) / 2) * v, h, dh))


def test_kernels_of_derivatives_of_gaussian_networks_are_closed_forms(monkeypatch):
    X = np.random.default_rng(0).standard_normal((3, 2, 2))
    kernel = tp.ntk(slope_of_gauss(), lengths=(2, 2))
    monkeypatch.setattr(numeric, "_quadrature", None)
    account = kernel.account(X)
    assert account.methods == ("closed form",) and np.allclose(kernel.gram(X), account.value, rtol=1e-12, atol=0)
