"""Networks at the edges of float64, whose kernels are known by hand."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_tangent_kernel_of_a_steep_sigmoid_at_opposite_inputs(backend):
    """Θ(x, −x) = E σ(u)σ(−u) − 1e12 q E σ'(u)σ'(−u), and σ(−u) = 1 − σ(u), σ'(−u) = σ'(u): Θ(x, x) + Θ(x, −x) = 1/2."""

    @tp.network
    def net(net, x):
        return net.readout("V", tp.sigmoid(net.embed("U", x, std=1e6)))

    x = np.array([0.03, -0.74])
    K = tp.ntk(net())
    found = K.gram([x, -x], backend=backend)
    s = 1e6 * np.linalg.norm(x) / np.sqrt(2)
    assert found[0, 0] == pytest.approx(s / (6 * np.sqrt(2 * np.pi)) + 0.5, rel=1e-6)  # ∫ σ'² = 1/6
    assert found[0, 0] + found[0, 1] == pytest.approx(0.5, abs=1e-8)
    np.testing.assert_allclose(found, K([x, -x]), rtol=1e-9)


def test_a_variance_that_cancels_to_zero_is_zero():
    """min(0, 0.2) = 0 at the zero input, so nothing but 0 comes out, though the pieces of E min(u, 0.2)² are not 0."""

    @tp.network
    def net(net, x):
        h = tp.nonlin(lambda u: sp.Min(u, 0.2), net.embed("U", x))
        return net.readout("V", tp.tanh(net.weight("W").T @ h))

    assert tp.nngp(net())([[0.0]]) == 0
    with pytest.warns(tp.AccuracyWarning):  # of 0 up to rounding no digit is known
        assert tp.ntk(net())([[0.0]]) == pytest.approx(0, abs=1e-15)
    assert tp.nngp(net()).gram([[0.0], [0.0]], backend="numpy") == pytest.approx(np.zeros((2, 2)), abs=1e-15)


def test_a_gate_by_a_multiple_of_its_own_input():
    """E relu(u)² step(u/3)² = q/2, q = x·x'/d, where u and u/3 are parallel on the diagonal of a Gram matrix too."""

    @tp.network
    def net(net, x):
        h = net.embed("U", x)
        return net.readout("V", tp.nonlin(lambda u, v: tp.relu(u) * tp.step(v), h, h * sp.Rational(1, 3)))

    assert tp.nngp(net()).gram([[1.0, -0.92]]) == pytest.approx((1 + 0.92**2) / 4, rel=1e-12)


def test_an_even_function_of_the_absolute_value():
    """φ(|u|) of φ(t) = t exp(−t²): E u² exp(−2u²) = (1 + 4)^(−3/2); at zero inputs both kernels are 0."""

    @tp.network
    def net(net, x):
        return net.readout("V", tp.nonlin(lambda u: sp.exp(-(u**2)) * u, tp.abs(net.embed("U", x))))

    assert tp.nngp(net())([[1.0]]) == pytest.approx(5**-1.5, rel=1e-12)
    assert tp.ntk(net())([[0.0]]) == 0


def test_factors_of_outputs_without_readouts_are_hyperparameters():
    c = sp.Symbol("c", positive=True)

    @tp.network
    def net(net, x):
        h = net.embed("U", x)
        return c * net.readout("V", h, std=0) - net.readout("V", h, std=0) / 2

    with pytest.warns(tp.FrozenWarning):
        built = net()
        assert c in built.symbols
        assert tp.empirical_ntk(built, [[1.0]], width=8, values={c: 0.7}) == 0


def test_samples_of_inputs_that_are_nearly_parallel():
    """A linear network: Θ = 2 x·x'/d; two of three inputs are nearly parallel and the third is made of both."""
    X = np.array([[1.05, -0.47], [1.27, -0.56], [0.0, 1.0]])

    @tp.network
    def net(net, x):
        return net.readout("V", net.embed("U", x))

    account = tp.ntk(net(), method="sampling", samples=2**12).account(X)
    assert np.all(np.abs(account.value - X @ X.T) <= 6 * account.error + 1e-9)
