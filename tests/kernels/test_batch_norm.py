"""Batch normalisation: kernels between members by hand, against integrals written here, samples and simulation."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from scipy import integrate

import tensorprog as tp
from tensorprog.errors import AccuracyWarning, AssumptionError, DataError, FoldError, NoRuleError, ProgramError
from tensorprog.kernels.kernel import Kernel


@tp.network
def normed(net, x, *, phi=tp.relu, eps=0):
    return net.readout("V", phi(net.batch_norm(net.embed("U", x), eps)))


@tp.network
def deep(net, x, *, depth=2, phi=tp.relu, sigma_w=2**0.5, sigma_b=0.3, eps=0):
    h = net.embed("U", x, std=sigma_w) + net.bias("b1", std=sigma_b)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(net.batch_norm(h, eps)), std=sigma_w) + net.bias(("b", l), std=sigma_b)
    return net.readout("V", phi(net.batch_norm(h, eps)))


def batches(count, size, dimension, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, dimension))


def centre(size):
    return np.eye(size) - 1 / size


# ---- by hand ---------------------------------------------------------------------------------------------


def test_of_two_members_one_is_1_and_the_other_is_minus_1():
    X = batches(1, 2, 3)
    assert np.abs(tp.nngp(normed(phi=tp.identity))(X)[0, 0] - [[1, -1], [-1, 1]]).max() < 1e-14
    assert np.abs(tp.nngp(normed())(X)[0, 0] - np.eye(2) / 2).max() < 1e-14


def test_two_batches_of_two_members_agree_in_sign_as_their_differences_do():
    X = batches(2, 2, 3)
    a, b = X[:, 0] - X[:, 1]
    angle = 2 / np.pi * np.arcsin(a @ b / np.sqrt(a @ a * (b @ b)))
    found = tp.nngp(normed(phi=tp.identity))(X)[0, 1]
    assert np.abs(found - angle * np.array([[1, -1], [-1, 1]])).max() < 1e-14
    relu = (np.ones((2, 2)) + angle * np.array([[1, -1], [-1, 1]])) / 4
    assert np.abs(tp.nngp(normed())(X)[0, 1] - relu).max() < 1e-14


@pytest.mark.parametrize("size", [4, 9, pytest.param(128, marks=pytest.mark.slow)])
def test_members_with_orthogonal_inputs_are_uniform_on_a_sphere(size):
    """u/‖u‖ is uniform in B − 1 dimensions and independent of ‖u‖², a χ² with E 1/‖u‖² = 1/(B − 3)."""
    X, P = np.sqrt(size) * np.eye(size)[None], centre(size)
    V = size / (size - 1) * P
    assert np.abs(tp.nngp(normed(phi=tp.identity))(X)[0, 0] - V).max() < 1e-12
    T = size / (size - 3) * (size - 2) / (size - 1) * P  # B E 1/‖u‖² E (P − ûûᵀ), for Θ = Σ = 1
    assert np.abs(tp.ntk(normed(phi=tp.identity))(X)[0, 0] - V - T).max() < 1e-11
    rho = -1 / (size - 1)
    angle, root = 2 / np.pi * np.arcsin(rho), 2 / np.pi * np.sqrt(1 - rho**2)
    off = 1 - np.eye(size)
    A = np.eye(size) + off * (rho * angle + root)  # E |u_i u_j| and E sign u_i sign u_j, of unit variances
    S = np.eye(size) + off * angle
    assert np.abs(tp.nngp(normed(phi=tp.abs))(X)[0, 0] - A).max() < 1e-12
    T = size / (size - 3) * (P * S - A / size)
    assert np.abs(tp.ntk(normed(phi=tp.abs))(X)[0, 0] - A - T).max() < 1e-11


# ---- one-dimensional integrals, written anew -------------------------------------------------------------


def weighted(integrand, eigenvalues, offset=0.0):
    """∫ e^{−s offset} Π (1 + 2sλ)^(−1/2) integrand(s) ds, in s = t/(1 − t)² on panels."""

    def inner(t):
        s = t / (1 - t) ** 2 / eigenvalues.max()
        return (1 + t) / (1 - t) ** 3 / eigenvalues.max() * np.exp(-s * offset) * np.prod(
            (1 + 2 * s * eigenvalues) ** -0.5
        ) * integrand(s)  # fmt: skip

    return integrate.quad_vec(inner, 0, 1, epsabs=1e-13, epsrel=1e-12, limit=2000)[0]


def arccos_kernel(c):
    """E relu(u) relu(v), as Cho and Saul write it."""
    q = np.sqrt(np.outer(np.diag(c), np.diag(c)))
    theta = np.arccos(np.clip(c / q, -1, 1))
    return q / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * np.cos(theta))


def own_kernel(x, phi, eps=0.0):
    """The NNGP kernel of one batch by an integral of inverse matrices."""
    B, (d,) = len(x), x.shape[1:]
    G = centre(B) @ (x @ x.T / d) @ centre(B)
    tilted = lambda s: np.linalg.solve(np.eye(B) + 2 * s * G, G)  # noqa: E731
    value = (lambda s: arccos_kernel(tilted(s))) if phi is tp.relu else tilted
    return B * weighted(value, np.linalg.eigvalsh(G)[1:].clip(0), B * eps)


@pytest.mark.parametrize("size", [2, 3, 5, 16, 64])
@pytest.mark.parametrize("phi", [tp.relu, tp.identity], ids=str)
def test_the_nngp_kernel_is_an_integral_of_inverse_matrices(phi, size):
    X = batches(1, size, 10)
    found = tp.nngp(normed(phi=phi))(X)[0, 0]
    assert np.abs(found - own_kernel(X[0], phi)).max() < 1e-9


def test_eps_is_added_to_the_variance():
    X = batches(1, 4, 5)
    assert np.abs(tp.nngp(normed(eps=0.3))(X)[0, 0] - own_kernel(X[0], tp.relu, 0.3)).max() < 1e-9


@pytest.mark.parametrize("size", [4, 8, pytest.param(32, marks=pytest.mark.slow), 64])
def test_the_linear_ntk_is_made_of_integrals_of_its_eigenvalues(size):
    """In the eigenbasis of Γ, with Θ = Σ: B E (λ_a/r² − 2λ_a u_a²/r⁴ + u_a² Σ_b λ_b u_b²/r⁶)."""
    X = batches(1, size, 70)
    G = centre(size) @ (X[0] @ X[0].T / 70) @ centre(size)
    values, vectors = np.linalg.eigh(G)
    lam, basis = values[1:], vectors[:, 1:]

    def entries(s):
        tau = lam / (1 + 2 * s * lam)
        fourth = np.outer(tau, tau) + 2 * np.diag(tau**2)  # E u_a² u_b²
        return lam - 2 * s * lam * tau + s * s / 2 * fourth @ lam

    T = basis * (size * weighted(entries, lam)) @ basis.T
    found = tp.ntk(normed(phi=tp.identity))(X)[0, 0]
    assert np.abs(found - own_kernel(X[0], tp.identity) - T).max() < 1e-8 * np.abs(found).max()


def relu_pair(x, i, j):
    """E Σ_kl ∂_k relu(y_i) Σ_kl ∂_l relu(y_j): over angles of (u_i, u_j), and the rest given these two."""
    B, d = x.shape
    P = centre(B)
    G = P @ (x @ x.T / d) @ P
    angles, weights = np.polynomial.legendre.leggauss(60)

    def integrand(s):
        C = np.linalg.solve(np.eye(B) + 2 * s * G, G)
        pair = C[np.ix_([i, j], [i, j])]
        root = np.linalg.cholesky(pair)
        given = C[:, [i, j]] @ np.linalg.inv(pair)  # E[u | u_i, u_j]
        left = C - given @ C[[i, j]]
        # where both are positive, a sector of the plane
        edges = np.sort(
            [np.arctan2(-root[1, 0], root[1, 1]), np.pi / 2, -np.pi / 2, np.arctan2(root[1, 0], -root[1, 1])]
        )
        total = 0.0
        for a, b in zip(edges, np.roll(edges, -1) + [0, 0, 0, 2 * np.pi], strict=True):
            t = (a + b) / 2 + (b - a) / 2 * angles
            w = root @ np.array([np.cos(t), np.sin(t)])
            inside = (w > 0).all(axis=0)
            u = given @ w  # times the radius, whose square has the mean 2 and the fourth power the mean 8
            Gu = G @ u
            both = np.einsum("km,km->m", u, Gu)
            f = G[i, j] - s * 2 * (w[0] * Gu[j] + Gu[i] * w[1])
            f = f + s * s / 2 * w[0] * w[1] * (8 * both + 2 * np.trace(G @ left))
            total += (b - a) / 2 * (weights * inside * f).sum() / (2 * np.pi)
        return total

    return B * weighted(integrand, np.linalg.eigvalsh(G)[1:])


@pytest.mark.parametrize(("size", "i", "j"), [(4, 0, 1), (6, 2, 5), (20, 3, 4)])
def test_the_relu_ntk_is_an_integral_over_angles(size, i, j):
    X = batches(1, size, 30)
    found = tp.ntk(normed())(X)[0, 0] - tp.nngp(normed())(X)[0, 0]
    assert abs(found[i, j] - relu_pair(X[0], i, j)) < 1e-8 * np.abs(found).max()


def test_two_independent_batches_multiply_their_means():
    """E relu(y_i) = √B E relu(u_i)/‖u‖, one integral over s^(−1/2), where inputs of two batches are orthogonal."""
    X = batches(2, 6, 20)
    X[0, :, 10:], X[1, :, :10] = 0, 0

    def mean(x):
        G = centre(6) @ (x @ x.T / 20) @ centre(6)

        def integrand(r):  # s = r²
            return 2 * np.sqrt(np.diag(np.linalg.solve(np.eye(6) + 2 * r * r * G, G)) / (2 * np.pi))

        lam = np.linalg.eigvalsh(G)[1:]
        return np.sqrt(6 / np.pi) * integrate.quad_vec(
            lambda r: np.prod((1 + 2 * r * r * lam) ** -0.5) * integrand(r), 0, np.inf, epsabs=1e-13, epsrel=1e-12
        )[0]  # fmt: skip

    wanted = np.outer(mean(X[0]), mean(X[1]))
    assert np.abs(tp.nngp(normed())(X)[0, 1] - wanted).max() < 1e-9
    assert np.abs(tp.ntk(normed())(X)[0, 1] - wanted).max() < 1e-9  # Θ between them is 0


# ---- identities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk], ids=["nngp", "ntk"])
@pytest.mark.parametrize("phi", [tp.relu, pytest.param(tp.leaky_relu(0.2), marks=pytest.mark.slow), tp.abs], ids=str)
def test_a_batch_and_the_same_members_in_another_order(kind, phi):
    """Two parameters of integration, for a batch and its permutation, give what one does for the batch alone."""
    X, order = batches(1, 5, 7), [3, 0, 4, 1, 2]
    K = kind(deep(phi=phi))(np.concatenate([X, X[:, order]]))
    assert np.abs(K[0, 1] - K[0, 0][:, order]).max() < 1e-10 * np.abs(K).max()
    assert np.abs(K[1, 1] - K[0, 0][np.ix_(order, order)]).max() < 1e-10 * np.abs(K).max()


def test_the_kernel_is_symmetric_and_positive_and_takes_batches_of_two_sizes():
    X, Y, K = batches(2, 6, 6), batches(1, 4, 6, seed=1), tp.ntk(deep())
    full = K(X)
    matrix = full.transpose(0, 2, 1, 3).reshape(12, 12)
    assert np.abs(matrix - matrix.T).max() < 1e-13 and np.linalg.eigvalsh(matrix).min() > 0
    found = K(X, Y)
    assert found.shape == (2, 1, 6, 4)
    assert np.abs(found - K(Y, X).transpose(1, 0, 3, 2)).max() < 1e-10


@pytest.mark.parametrize("scale", [1e-4, 1e5])
def test_the_scale_of_the_first_layer_drops_out(scale):
    """y does not depend on it, and the NTK below it neither: Jacobians shrink as it grows."""
    X = batches(1, 6, 4)
    for kind in (tp.nngp, tp.ntk):
        assert np.abs(kind(normed())(scale * X) - kind(normed())(X)).max() < 1e-9


def test_recursions_give_the_kernels_of_every_depth():
    X = batches(2, 5, 4)
    for kernel, form in ((tp.nngp, None), (tp.ntk, "forward")):
        R = kernel(deep()).recursion(form)
        assert np.array_equal(R(X, depth=3), kernel(deep(depth=3))(X))
    assert "Θ^(l)(x,x')[p,q] = Σ^(l)(x,x')[p,q] + 2·N[step](Σ^(l-1)(x,x'); Θ^(l-1)(x,x'))[p,q]" in R.text()
    with pytest.raises(FoldError, match="derived forward"):
        tp.ntk(deep()).recursion("sum")


def test_residual_networks_have_kernels():
    @tp.network
    def residual(net, x):
        h = net.embed("U", x)
        h = h + net.dense("W", tp.relu(net.batch_norm(h)))
        return net.readout("V", tp.relu(net.batch_norm(h)))

    X = batches(1, 7, 5)
    below = X[0] @ X[0].T / 5
    V = tp.nngp(normed())(X)[0, 0]
    last = lambda cov, kind: kind(normed())(np.linalg.cholesky(cov)[None] * np.sqrt(7))[0, 0]  # noqa: E731
    assert np.abs(tp.nngp(residual())(X)[0, 0] - last(below + V, tp.nngp)).max() < 1e-10
    found = tp.empirical_ntk(residual(), X, width=128, seeds=24)[:, 0, 0]
    error = found.std(axis=0) / np.sqrt(24)
    limit = tp.ntk(residual())(X)[0, 0]
    assert (np.abs(found.mean(axis=0) - limit) < 4 * error + 4 / 128 * np.abs(limit).max()).all()


def test_a_certificate_holds_with_a_vector_for_every_member():
    """One step of SGD, derived by backpropagation through the batch: −η Σ χ K between all members."""
    found = tp.unroll(normed(phi=tp.identity), steps=1).certify()
    assert found.passed and len(found.rows) == 3


# ---- samples and simulation ------------------------------------------------------------------------------


@functools.cache
def by_numpy(size, samples):
    """E tanh(y_i) tanh(y_j) and its standard error, drawn here."""
    X = batches(1, size, 6)
    h = np.random.default_rng(5).normal(size=(samples, 6)) @ X[0].T
    u = h - h.mean(axis=1, keepdims=True)
    z = np.tanh(u / np.sqrt((u**2).mean(axis=1, keepdims=True)))
    products = z[:, :, None] * z[:, None]
    return products.mean(axis=0), products.std(axis=0) / np.sqrt(samples)


def test_smooth_functions_are_sampled_and_state_their_errors():
    X = batches(1, 6, 6)
    found = tp.nngp(normed(phi=tp.tanh)).account(X)
    wanted, error = by_numpy(6, 50_000)
    assert found.statistical and found.methods == ("sampling",) and 0 < found.relative.max() < 0.01
    assert (np.abs(found.value[0, 0] - wanted) < 5 * np.hypot(found.error[0, 0], error)).all()
    with pytest.warns(AccuracyWarning, match="standard error"):
        tp.nngp(normed(phi=tp.tanh), samples=2**10)(X)
    better = tp.nngp(normed(phi=tp.tanh), rtol=1e-3).account(X)
    assert better.relative.max() <= 1e-3 and better.samples > found.samples


@pytest.mark.parametrize("phi", [tp.relu, pytest.param(tp.leaky_relu(0.3), marks=pytest.mark.slow)], ids=str)
def test_samples_agree_with_integrals(phi):
    X = batches(2, 6, 5)
    for kernel in (tp.nngp, tp.ntk):
        drawn = kernel(deep(phi=phi), method="sampling", samples=2**13).account(X)
        exact = kernel(deep(phi=phi)).account(X)
        assert not exact.statistical and exact.relative.max() < 1e-11
        assert (np.abs(drawn.value - exact.value) < 6 * drawn.error).all()


@pytest.mark.parametrize("phi", [tp.relu, tp.tanh], ids=str)
def test_the_empirical_ntk_converges_to_the_limit(phi):
    X = batches(2, 8, 5)
    limit = tp.ntk(deep(phi=phi), samples=2**14).account(X)
    found = tp.empirical_ntk(deep(phi=phi), X, width=256, seeds=16)
    error = np.hypot(found.std(axis=0, ddof=1) / 4, limit.error)
    assert found.shape == (16, 2, 2, 8, 8)
    assert (np.abs(found.mean(axis=0) - limit.value) < 5 * error + 4 / 256 * np.abs(limit.value).max()).all()


def test_verification_passes_and_says_what_it_compared():
    found = tp.verify(deep(), batches(1, 8, 5), widths=(32, 64, 128), seeds=16, outputs=[0, 5])
    assert found.passed and [c.verdict for c in found.claims] == ["ok"] * 4
    few = tp.verify(normed(), batches(1, 4, 5), widths=(32, 64), seeds=8)
    assert few.passed and few.claims[1].passed is None and "no variance" in few.claims[1].detail


def test_a_wrong_kernel_is_caught(monkeypatch):
    account = Kernel.account

    def wrong(self, *args, **options):
        found = account(self, *args, **options)
        return found if found.statistical else replace(found, value=1.3 * found.value)

    monkeypatch.setattr(Kernel, "account", wrong)
    found = tp.verify(normed(), batches(1, 8, 5), widths=(32, 64), seeds=32, outputs=[0, 1])
    assert [c.passed for c in found.claims[:2]] == [False, False]


def test_training_has_a_label_for_every_member():
    X, Y = batches(2, 6, 5), np.sign(np.random.default_rng(1).normal(size=(2, 6)))
    found = tp.train(normed(), X, Y, steps=2, times=[2], widths=(64, 128), seeds=4)
    assert found.passed
    with pytest.raises(DataError, match="6 outputs"):
        tp.train(normed(), X, np.ones(2), steps=1, times=[1], widths=(64, 128), seeds=2)


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "dimension", "why"), [(2, 5, "jumps"), (3, 5, "infinite"), (6, 2, "infinite")])
def test_an_infinite_ntk_is_refused_in_words(size, dimension, why):
    with pytest.raises(AssumptionError, match=f"spans {min(size - 1, dimension)}: .*{why}.*eps > 0"):
        tp.ntk(normed())(batches(1, size, dimension))
    assert np.isfinite(tp.ntk(normed(eps=0.1))(batches(1, size, dimension))).all()


def test_batches_that_cannot_be_normalised_are_refused():
    K = tp.nngp(normed())
    with pytest.raises(DataError, match="X1 holds batches of 1 member"):
        K(batches(2, 1, 3))
    with pytest.raises(DataError, match="1 member"):
        tp.empirical_ntk(normed(), batches(2, 1, 3), width=8)
    with pytest.raises(DataError, match="all members of a batch are the same"):
        K(np.ones((1, 4, 3)))
    with pytest.raises(DataError, match="sizes 3 and 4"):
        K([batches(1, 3, 2)[0], batches(1, 4, 2)[0]])
    with pytest.raises(DataError, match=r"\(5,\).*batches \(B, d\)"):
        K(np.ones((4, 5)))
    for eps in (-1, "0.1"):
        with pytest.raises(ProgramError, match="eps of batch_norm"):
            tp.nngp(normed(eps=eps))


def test_what_is_not_derived_is_refused_in_words():
    y = lambda net, x, eps=0: net.batch_norm(net.embed("U", x), eps)  # noqa: E731

    def refused(build, match, error=AssumptionError, kernel=tp.nngp):
        with pytest.raises(error, match=match):
            kernel(tp.network(build)())(batches(1, 4, 3))

    def squared(net, x):
        return net.readout("V", y(net, x) ** 2)

    def beside(net, x):
        return net.readout("V", net.embed("U", x) + tp.relu(y(net, x)))

    def unlike(net, x):
        return net.readout("V", tp.relu(y(net, x)) + tp.relu(y(net, x, 0.1)))

    def pooled(net, x):
        return net.readout("V", net.global_pool(tp.relu(y(net, x))))

    def several(net, x):
        return net.readout("V", y(net, x)), net.readout("Z", y(net, x))

    def both_ways(net, x):
        W = net.weight("W")
        return net.readout("V", W.T @ tp.relu(net.batch_norm(W @ tp.relu(y(net, x)))))

    refused(squared, "one function of it")
    refused(beside, "put a dense layer in between")
    refused(beside, "put a dense layer in between", kernel=tp.ntk)
    refused(unlike, "different eps")
    refused(pooled, "outputs of their members", NoRuleError)
    refused(pooled, "outputs of their members", kernel=tp.ntk)
    refused(several, "has one output", ProgramError)
    refused(both_ways, "Ż over positions")


def test_questions_that_are_about_one_output_are_refused_in_words():
    net, X = normed(), batches(1, 4, 5)
    with pytest.raises(ProgramError, match=r"K\(X\), \(N1, N2, B1, B2\)"):
        tp.ntk(net, outputs=1)
    with pytest.raises(ProgramError, match="by path sums, not by 'backprop'"):
        tp.ntk(net, "backprop")
    with pytest.raises(NoRuleError, match="no Gram matrix of batches"):
        tp.ntk(net).gram(X)
    with pytest.raises(NoRuleError, match="derived forward"):
        tp.derivation(net)
    assert tp.empirical_ntk(net, X, width=16, outputs=2).shape == (1, 1)


def test_formulas_name_the_members_and_say_the_integral_once():
    w = sp.Symbol("sigma_w", positive=True)
    text = tp.ntk(deep(sigma_w=w, sigma_b=0)).text()
    assert "Σ^(1)(x,x')[p,q] = σ_w²·⟨x[p],x'[q]⟩" in text
    assert "Θ(x,x')[p,q]     = N[relu](Σ^(2)(x,x'))[p,q] + N[step](Σ^(2)(x,x'); Θ^(2)(x,x'))[p,q]" in text
    assert text.count("∫") == 1 and "p is a member of the batch x" in text
    smooth = tp.nngp(deep(phi=tp.abstract("phi"), eps=sp.Rational(1, 100)))
    assert "N[φ](Σ^(2)(x,x'), 1/100)[p,q]" in smooth.text() and "∫" not in smooth.text()
    assert r"\mathsf{N}_{\varphi}\bigl[\Sigma^{(2)}(x,x'), \frac{1}{100}\bigr][p,q]" in smooth.latex().replace(
        r"\phi", r"\varphi"
    )
    assert str(smooth.equations[-1].lhs) == "K(x,x')[p,q]"


def test_networks_that_differ_in_eps_are_told_apart():
    found = tp.compare(normed(), normed(eps=0.1))
    assert not found.equal
    assert "1/10" in found.text()
