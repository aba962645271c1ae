"""Kernels of recurrent networks against the RNTK recursions (Alemohammad et al. 2021), written here a second time.

The forward recursion is Eq. 11-16 and, for several layers, App. B.3; the backward one Eq. 17-19 and 33-34;
Θ = Σ_l Σ_t Π^{(l,t,t+τ)} Σ^{(l,t,t+τ)} + K, Eq. 9.  All of them with the misprints corrected: inner products
are divided by the dimension of the input, and the kernels of the first step read the layer below.
"""

import numpy as np
import pytest

import tensorprog as tp

METHODS = ["backprop", "paths"]
PAIRS = {
    "relu": (
        lambda q, c, r: _relu(np.sqrt(q * r), np.clip(c / np.sqrt(q * r), -1, 1)),
        lambda q, c, r: (np.pi - np.arccos(np.clip(c / np.sqrt(q * r), -1, 1))) / (2 * np.pi),
    ),
    "erf": (
        lambda q, c, r: 2 / np.pi * np.arcsin(2 * c / np.sqrt((1 + 2 * q) * (1 + 2 * r))),
        lambda q, c, r: 4 / (np.pi * np.sqrt((1 + 2 * q) * (1 + 2 * r) - 4 * c**2)),
    ),
}
LENGTHS = [(5, 5), (3, 2), (6, 3), (2, 3), (1, 1), (1, 4)]
DIMENSION = 4


def _relu(root, cosine):
    return root * (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / (2 * np.pi)


class Sigmas:
    """Hyperparameters of a network of so many layers, each layer with its own numbers."""

    def __init__(self, layers, h=0.7):
        self.w = [1.2, 0.9, 1.4][:layers]
        self.u = [0.8, 1.1, 0.6][:layers]
        self.b = [0.3, 0.5, 0.2][:layers]
        self.h, self.v = h, 1.3

    def network(self, name, **options):
        return tp.programs.rnn(layers=len(self.w), phi=tp.NONLINEARITIES[name], sigma_w=self.w, sigma_u=self.u,
                               sigma_b=self.b, sigma_h=self.h, sigma_v=self.v, **options)  # fmt: skip


class Rntk:
    """The recursions for two sequences (T, d) and (T', d); ``same`` when they are one input."""

    def __init__(self, name, s, x, y, same=False):
        self.pair, self.s, self.same = PAIRS[name], s, same
        self.layers, self.lengths = len(s.w), (len(x), len(y))
        self.dots = x @ y.T / x.shape[1]
        self.variances = [self._variances(z) for z in (x, y)]
        self.sigma = {}
        for l in range(1, self.layers + 1):
            for t in range(1, len(x) + 1):
                for t2 in range(1, len(y) + 1):
                    self.sigma[l, t, t2] = self._next(l, t, t2)

    def _variances(self, z):
        """Σ^{(l,t,t)}(z,z) by (l, t), layers and times counted from 1."""
        q = {}
        for l in range(1, self.layers + 1):
            for t in range(1, len(z) + 1):
                below = z[t - 1] @ z[t - 1] / z.shape[1] if l == 1 else self.pair[0](*3 * [q[l - 1, t]])
                past = self.pair[0](*3 * [q[l, t - 1]]) if t > 1 else self.s.h**2
                q[l, t] = self._affine(l, past, below)
        return q

    def _next(self, l, t, t2):
        """Σ^{(l,t,t')}(x,x') by Eq. 11-14."""
        if self.same and t == t2:
            return self.variances[0][l, t]
        past = self.v(l, t - 1, t2 - 1) if t > 1 and t2 > 1 else 0.0
        return self._affine(l, past, self.dots[t - 1, t2 - 1] if l == 1 else self.v(l - 1, t, t2))

    def _affine(self, l, past, below):
        s = self.s
        return s.w[l - 1] ** 2 * past + s.u[l - 1] ** 2 * below + s.b[l - 1] ** 2

    def _covariance(self, l, t, t2):
        return self.variances[0][l, t], self.sigma[l, t, t2], self.variances[1][l, t2]

    def v(self, l, t, t2):
        """V_φ at the covariance of the pre-activations (l, t) of x and (l, t') of x'."""
        return self.pair[0](*self._covariance(l, t, t2))

    def dv(self, l, t, t2):
        """V_φ' at the same."""
        return self.pair[1](*self._covariance(l, t, t2))

    def nngp(self):
        """K = σ_v² V_φ[K^{(L,T+1,T'+1)}]."""
        return self.s.v**2 * self.v(self.layers, *self.lengths)

    def pi(self, l, t):
        """Π^{(l,t,t+τ)}, τ = T' − T."""
        t2 = t + self.lengths[1] - self.lengths[0]
        if l == self.layers and t == self.lengths[0]:
            return self.s.v**2 * self.dv(l, t, t2)
        total = 0.0
        if t < self.lengths[0]:
            total += self.s.w[l - 1] ** 2 * self.pi(l, t + 1)
        if l < self.layers:
            total += self.s.u[l] ** 2 * self.pi(l + 1, t)
        return total * self.dv(l, t, t2)

    def ntk(self):
        """Θ = Σ_l Σ_t Π Σ + K over the times that exist on both sides."""
        tau = self.lengths[1] - self.lengths[0]
        times = range(max(1, 1 - tau), self.lengths[0] + 1)
        pairs = [(l, t) for l in range(1, self.layers + 1) for t in times]
        return self.nngp() + sum(self.pi(l, t) * self.sigma[l, t, t + tau] for l, t in pairs)


def sequences(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((t, DIMENSION)) for t in lengths]


def kernels(net):
    return [(tp.nngp(net), "nngp"), *((tp.ntk(net, method=m), "ntk") for m in METHODS)]


def expected_gram(name, s, X1, X2, kind):
    return np.array([[getattr(Rntk(name, s, x, y), kind)() for y in X2] for x in X1])


def assert_close(actual, expected, rtol=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=rtol)


# ---- the recursions ------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_kernels_of_two_sequences_obey_the_recursions(name, lengths, layers):
    s = Sigmas(layers)
    x, y = sequences(*lengths)
    for kernel, kind in kernels(s.network(name)):
        assert_close(kernel([x], [y]), expected_gram(name, s, [x], [y], kind))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("name", PAIRS)
def test_an_input_shares_its_initial_state_with_itself_only(name, length, layers):
    s = Sigmas(layers)
    [x] = sequences(length)
    for kernel, kind in kernels(s.network(name)):
        itself = getattr(Rntk(name, s, x, x, same=True), kind)()
        another = getattr(Rntk(name, s, x, x.copy()), kind)()
        assert abs(itself - another) > 1e-3 * itself
        assert_close(kernel([x]), [[itself]])
        assert_close(kernel([x], [x]), [[another]])


@pytest.mark.parametrize("layers", [1, 2])
def test_without_an_initial_state_an_input_meets_itself_as_another(layers):
    s = Sigmas(layers, h=0)
    [x] = sequences(4)
    for kernel, kind in kernels(s.network("erf")):
        expected = getattr(Rntk("erf", s, x, x), kind)()
        assert_close(kernel([x]), [[expected]])
        assert_close(kernel([x], [x]), [[expected]])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_ragged_sequences_give_the_gram_matrix_of_their_pairs(name, layers):
    s = Sigmas(layers)
    X1, X2 = sequences(3, 1, 3, 5), sequences(2, 3, 5, seed=1)
    for kernel, kind in kernels(s.network(name)):
        assert_close(kernel(X1, X2), expected_gram(name, s, X1, X2, kind))


@pytest.mark.parametrize("name", PAIRS)
def test_the_gram_matrix_of_ragged_sequences_is_symmetric_with_its_own_diagonal(name):
    s = Sigmas(2)
    X = sequences(3, 1, 3, 5)
    for kernel, kind in kernels(s.network(name)):
        expected = expected_gram(name, s, X, X, kind)
        np.fill_diagonal(expected, [getattr(Rntk(name, s, x, x, same=True), kind)() for x in X])
        K = kernel(X)
        np.testing.assert_array_equal(K, K.T)
        assert_close(K, expected)
        assert np.linalg.eigvalsh(K)[0] >= -1e-12 * np.trace(K)


def test_an_array_of_sequences_is_a_list_of_them():
    X = np.stack(sequences(4, 4, 4))
    kernel = tp.ntk(Sigmas(1).network("erf"))
    np.testing.assert_array_equal(kernel(X), kernel(list(X)))


# ---- untied weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", PAIRS)
def test_untied_weights_change_nothing_for_equal_lengths(name, layers, method):
    s = Sigmas(layers)
    x, y = sequences(5, 5)
    tied, untied = (tp.ntk(s.network(name, tied=t), method=method) for t in (True, False))
    assert_close(untied([x], [y]), tied([x], [y]), 1e-13)
    assert_close(untied([x, y]), tied([x, y]), 1e-13)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", [(3, 2), (6, 3), (1, 2)], ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_untied_weights_forget_everything_for_different_lengths(name, lengths, layers):
    s = Sigmas(layers)
    x, y = sequences(*lengths)
    reference = Rntk(name, s, x, y)
    q, r = (v[layers, len(z)] for v, z in zip(reference.variances, (x, y), strict=True))
    expected = s.v**2 * PAIRS[name][0](q, 0.0, r)
    tied = reference.ntk()
    assert abs(tied - expected) > 1e-3 * tied
    for kernel, _ in kernels(s.network(name, tied=False)):
        assert_close(kernel([x], [y]), [[expected]])


def test_untied_relu_kernels_of_different_lengths_are_the_product_of_means():
    s = Sigmas(1, h=0)
    x, y = sequences(2, 1)
    q2 = s.u[0] ** 2 * x[1] @ x[1] / DIMENSION + s.b[0] ** 2
    q2 += s.w[0] ** 2 / 2 * (s.u[0] ** 2 * x[0] @ x[0] / DIMENSION + s.b[0] ** 2)
    r = s.u[0] ** 2 * y[0] @ y[0] / DIMENSION + s.b[0] ** 2
    expected = s.v**2 * np.sqrt(q2 * r) / (2 * np.pi)
    assert_close(tp.ntk(s.network("relu", tied=False))([x], [y]), [[expected]], 1e-13)
