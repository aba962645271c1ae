"""NNGP and NTK of the MLP against the textbook recursion, written here a second time.

Σ^1 = σ_w² x·x'/d + σ_b², Θ^1 = Σ^1, Σ^{l+1} = σ_w² V_φ[Σ^l] + σ_b², Θ^{l+1} = Σ^{l+1} + σ_w² V_φ'[Σ^l] Θ^l, and the
output layer the same with σ_v and without bias (Jacot et al. 2018).
"""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy import special

import tensorprog as tp

METHODS = ["backprop", "paths"]
SIGMA_W, SIGMA_B, SIGMA_V = 1.3, 0.4, 0.8
RNG = np.random.default_rng(7)
X = RNG.standard_normal((6, 5))
Y = RNG.standard_normal((4, 5))


# ---- the reference -------------------------------------------------------------------------------


def relu_pair(q, c, r):
    """(E φ(u)φ(v), E φ'(u)φ'(v)) for ReLU, to 40 digits."""
    root = mp.sqrt(q * r)
    cosine = min(c / root, mp.mpf(1))
    angle = mp.acos(cosine)
    return root * (mp.sin(angle) + (mp.pi - angle) * cosine) / (2 * mp.pi), (mp.pi - angle) / (2 * mp.pi)


def erf_pair(q, c, r):
    """The same for erf."""
    outer = (1 + 2 * q) * (1 + 2 * r)
    return 2 * mp.asin(2 * c / mp.sqrt(outer)) / mp.pi, 4 / (mp.pi * mp.sqrt(outer - 4 * c**2))


def by_trapezoid(phi, dphi, step=0.08, reach=9.5):
    """The same for a function analytic near the real axis: a two-dimensional trapezoidal rule.

    Its error decays like exp(−2π a/step), a the distance of the nearest pole in units of a standard deviation.
    """
    z = step * np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1)
    weight = step * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    def pair(q, c, r):
        slope = float(c / mp.sqrt(q))
        rest = float(mp.sqrt(max(r - c**2 / q, mp.mpf(0))))
        u, v = np.sqrt(float(q)) * z, slope * z[:, None] + rest * z
        return [mp.mpf(weight * f(u) @ f(v) @ weight) for f in (phi, dphi)]

    return pair


def _sech2(x):
    return 1 / np.cosh(x) ** 2


def _gelu(x):
    return x * special.ndtr(x)


def _gelu_prime(x):
    return special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


CLOSED = {"relu": relu_pair, "erf": erf_pair}
ANALYTIC = {"tanh": (np.tanh, _sech2), "gelu": (_gelu, _gelu_prime)}


def layer(pair, state, weight, bias):
    """(Σ(x,x), Σ(x,x'), Σ(x',x'), Θ(x,x')) after one more layer."""
    q, c, r, theta = state
    v, dv = pair(q, c, r)
    w, b = mp.mpf(weight) ** 2, mp.mpf(bias) ** 2
    c = w * v + b
    return w * pair(q, q, q)[0] + b, c, w * pair(r, r, r)[0] + b, c + w * dv * theta


def recursion(pair, x, y, weights, biases, sigma_v):
    """(NNGP, NTK) of two inputs for networks of depth 1, 2, .., len(weights)."""
    w, b, d = mp.mpf(weights[0]) ** 2, mp.mpf(biases[0]) ** 2, len(x)
    dots = [mp.fdot(map(mp.mpf, s), map(mp.mpf, t)) for s, t in ((x, x), (x, y), (y, y))]
    first = [w * dot / d + b for dot in dots]
    state = (*first, first[1])
    result = []
    for l in range(len(weights)):
        if l:
            state = layer(pair, state, weights[l], biases[l])
        result.append(tuple(map(float, layer(pair, state, sigma_v, 0)[1::2])))
    return result


def gram(pair, X1, X2, depth, weights=SIGMA_W, biases=SIGMA_B, sigma_v=SIGMA_V):
    """Arrays (depth, N1, N2) of the NNGP and the NTK of depth 1, 2, .., depth."""
    weights, biases = (list(np.broadcast_to(s, depth)) for s in (weights, biases))
    with mp.workdps(40):
        rows = [[recursion(pair, x, y, weights, biases, sigma_v) for y in X2] for x in X1]
    return np.moveaxis(np.array(rows, float), (2, 3), (1, 0))


@pytest.fixture(scope="module")
def closed_reference():
    return {name: gram(pair, X, X, 10) for name, pair in CLOSED.items()}


@pytest.fixture(scope="module")
def quadrature_reference():
    return {name: gram(by_trapezoid(*f), X[:4], X[:4], 10) for name, f in ANALYTIC.items()}


def network(name, depth, **hyperparameters):
    given = {"sigma_w": SIGMA_W, "sigma_b": SIGMA_B, "sigma_v": SIGMA_V, **hyperparameters}
    return tp.programs.mlp(depth=depth, phi=tp.NONLINEARITIES[name], **given)


def kernels(net):
    """The NNGP, then the NTK by every method."""
    return [tp.nngp(net), *(tp.ntk(net, method=m) for m in METHODS)]


def assert_close(actual, expected, rtol):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


# ---- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", range(1, 11))
@pytest.mark.parametrize("name", CLOSED)
def test_kernels_of_depth_1_to_10_obey_the_recursion(name, depth, closed_reference):
    nngp, theta = (k[depth - 1] for k in closed_reference[name])
    for kernel, expected in zip(kernels(network(name, depth)), (nngp, theta, theta), strict=True):
        assert_close(kernel(X), expected, 1e-12)


@pytest.mark.parametrize("depth", [1, 3, 10])
@pytest.mark.parametrize("name", ANALYTIC)
def test_kernels_without_closed_form_obey_the_recursion(name, depth, quadrature_reference):
    nngp, theta = (k[depth - 1] for k in quadrature_reference[name])
    for kernel, expected in zip(kernels(network(name, depth)), (nngp, theta, theta), strict=True):
        assert_close(kernel(X[:4]), expected, 1e-10)


@pytest.mark.parametrize("name", ANALYTIC)
def test_the_reference_quadrature_has_converged(name, quadrature_reference):
    finer = gram(by_trapezoid(*ANALYTIC[name], step=0.05, reach=11), X[:2], X[:2], 10)
    assert_close(finer, quadrature_reference[name][:, :, :2, :2], 1e-13)


def test_the_reference_quadrature_agrees_with_a_closed_form(closed_reference):
    pair = by_trapezoid(special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2)))
    assert_close(gram(pair, X[:2], X[:2], 10), closed_reference["erf"][:, :, :2, :2], 1e-13)


@pytest.mark.parametrize("name", CLOSED)
def test_a_rectangular_gram_matrix_obeys_the_recursion(name):
    nngp, theta = (k[-1] for k in gram(CLOSED[name], X, Y, 4))
    for kernel, expected in zip(kernels(network(name, 4)), (nngp, theta, theta), strict=True):
        value = kernel(X, Y)
        assert value.shape == (6, 4) and value.dtype == np.float64
        assert_close(value, expected, 1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_each_layer_has_its_own_standard_deviations(name):
    weights, biases = [0.7, 1.5, 1.1], [0.3, 0.0, 0.9]
    net = network(name, 3, sigma_w=weights, sigma_b=biases)
    nngp, theta = (k[-1] for k in gram(CLOSED[name], X, Y, 3, weights, biases))
    for kernel, expected in zip(kernels(net), (nngp, theta, theta), strict=True):
        assert_close(kernel(X, Y), expected, 1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_symbols_with_values_give_the_same_numbers(name):
    w, b, v = sp.symbols("sigma_w sigma_b sigma_v", positive=True)
    numbers = kernels(network(name, 3))
    symbols = kernels(network(name, 3, sigma_w=w, sigma_b=b, sigma_v=v))
    values = {w: SIGMA_W, b: SIGMA_B, v: SIGMA_V}
    for number, symbol in zip(numbers, symbols, strict=True):
        assert_close(symbol(X, values=values), number(X), 1e-14)


def test_one_derivation_serves_all_values_of_its_symbols():
    w = sp.Symbol("w", positive=True)
    kernel = tp.ntk(network("relu", 2, sigma_w=w))
    for sigma_w in (0.5, 2.0):
        expected = gram(relu_pair, X[:2], X[:2], 2, weights=sigma_w)[1, -1]
        assert_close(kernel(X[:2], values={w: sigma_w}), expected, 1e-12)


def test_a_symbol_without_a_value_is_an_error():
    w = sp.Symbol("w", positive=True)
    with pytest.raises(tp.DataError, match="no value for w"):
        tp.ntk(network("relu", 2, sigma_w=w))(X)


# ---- the Gram matrix -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLOSED, *ANALYTIC])
def test_a_gram_matrix_is_symmetric_and_positive_semidefinite(name):
    for kernel in kernels(network(name, 3)):
        K = kernel(X)
        np.testing.assert_array_equal(K, K.T)
        eigenvalues = np.linalg.eigvalsh(K)
        assert eigenvalues[0] >= -1e-12 * eigenvalues[-1]


@pytest.mark.parametrize("name", [*CLOSED, *ANALYTIC])
def test_one_argument_equals_two_equal_ones_off_the_diagonal(name):
    off = ~np.eye(len(X), dtype=bool)
    for kernel in kernels(network(name, 3)):
        assert_close(kernel(X, X)[off], kernel(X)[off], 1e-14)


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_the_diagonal_of_a_relu_network_is_a_polynomial(depth):
    q = theta = SIGMA_W**2 * np.sum(X**2, axis=1) / 5 + SIGMA_B**2
    for _ in range(1, depth):
        q = SIGMA_W**2 * q / 2 + SIGMA_B**2
        theta = q + SIGMA_W**2 * theta / 2
    nngp = SIGMA_V**2 * q / 2
    expected = [nngp, nngp + SIGMA_V**2 * theta / 2, nngp + SIGMA_V**2 * theta / 2]
    for kernel, value in zip(kernels(network("relu", depth)), expected, strict=True):
        assert_close(np.diag(kernel(X)), value, 1e-14)


def test_inputs_are_not_normalised():
    kernel = tp.ntk(network("relu", 3, sigma_b=0))
    assert_close(kernel(3 * X), 9 * kernel(X), 1e-13)


@pytest.mark.parametrize("name", CLOSED)
def test_a_zero_input_without_bias_has_zero_kernels(name):
    net = network(name, 2, sigma_b=0)
    for kernel in kernels(net):
        K = kernel(np.vstack([np.zeros(5), X[:1]]))
        np.testing.assert_array_equal(K[0], 0.0)
        assert K[1, 1] > 0
