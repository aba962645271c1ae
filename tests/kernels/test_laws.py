"""First layers whose weights are not Gaussian: against integrals in NumPy, sums, and simulation."""

import numpy as np
import pytest
from scipy import special

import tensorprog as tp

X = np.array([[1.0], [3.0]])
ROOT = 3**-0.5  # the standard deviation of entries uniform on (-1, 1)


@tp.network
def net_of(net, x, *, phi=tp.tanh, law="uniform", std=ROOT, bias=ROOT, bias_law="uniform", depth=1, sigma_w=1.2):
    h = net.embed("U", x, std=std, law=law) + (net.bias("b", std=bias, law=bias_law) if bias else 0)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(h), std=sigma_w)
    return net.readout("V", phi(h))


def by_hand(f, X, count=120):
    """E f(w·x/√d + b) f(w·x'/√d + b) of w, b uniform on (-1, 1), d = 1, by a product rule of its own."""
    n, w = np.polynomial.legendre.leggauss(count)
    a, b = np.meshgrid(n, n, indexing="ij")
    values = [f(a * x + b) for x in np.ravel(X)]
    return np.array([[np.sum(np.outer(w, w) / 4 * u * v) for v in values] for u in values])


def test_one_tanh_layer_of_uniform_weights_and_biases():
    K = tp.nngp(net_of())
    expected = [[0.33750, 0.39919], [0.39919, 0.66964]]
    assert np.allclose(K(X), expected, atol=5e-6)
    assert np.abs(K(X) - by_hand(np.tanh, X)).max() < 1e-12
    assert np.abs(K.gram(X) - K(X)).max() < 1e-14
    gaussian = tp.nngp(net_of(law=None, bias_law="gaussian"))(X)
    assert np.allclose(gaussian, [[0.32203, 0.37969], [0.37969, 0.60660]], atol=5e-6)
    assert "{U uniform, b uniform}" in K.text() and K.account(X).error.max() < 1e-12


def test_the_ntk_of_one_layer_is_that_of_its_integrals():
    """Θ = E φφ' + (⟨x,x'⟩/3 + 1/3) E φ'φ'', each term with its σ²; the readout's first."""
    expected = by_hand(np.tanh, X) + (X @ X.T / 3 + 1 / 3) * by_hand(lambda h: 1 - np.tanh(h) ** 2, X)
    for method in ("backprop", "paths", "sgd"):
        assert np.abs(tp.ntk(net_of(), method)(X) - expected).max() < 1e-12


def test_layers_above_are_gaussian_with_the_covariance_of_the_first():
    S = 1.44 * by_hand(np.tanh, X)
    z, w = np.polynomial.hermite_e.hermegauss(60)
    root = np.linalg.cholesky(S)
    u, v = (z[:, None] * root[i, 0] + z * root[i, 1] for i in (0, 1))
    weight = np.outer(w, w) / w.sum() ** 2
    assert abs(tp.nngp(net_of(depth=2))(X)[0, 1] - np.sum(weight * np.tanh(u) * np.tanh(v))) < 1e-10


def test_a_kinked_function_of_one_weight_is_exact():
    """E relu(w)² = 1/6 for w uniform on (-1, 1), E relu(w) relu(3w) = 1/2, E relu(w) relu(-w) = 0."""
    K = tp.nngp(net_of(phi=tp.relu, bias=0))
    assert np.abs(K([[1.0], [3.0], [-1.0]]) - [[1 / 6, 1 / 2, 0], [1 / 2, 3 / 2, 0], [0, 0, 1 / 6]]).max() < 1e-14


def test_signs_are_summed():
    """d = 2, w = ±1: tanh((±1 ± 2)/√2) is tanh(3/√2) or tanh(1/√2), up to a sign."""
    K = tp.nngp(net_of(law="rademacher", std=1, bias=0))
    expected = (np.tanh(3 / 2**0.5) ** 2 + np.tanh(1 / 2**0.5) ** 2) / 2
    assert abs(K([[1.0, 2.0]]).item() - expected) < 1e-15
    three = tp.nngp(net_of(law=tp.law([-1, 0, 1], [0.25, 0.5, 0.25]), std=0.5**0.5, bias=0))
    assert abs(three([[1.0]]).item() - np.tanh(1) ** 2 / 2) < 1e-15


@pytest.mark.parametrize(("law", "dimension"), [("uniform", 2), ("uniform", 3), ("uniform", 6), ("rademacher", 5)])
def test_more_inputs_are_those_of_a_simulation(law, dimension):
    rng = np.random.default_rng(dimension)
    Y, count = rng.standard_normal((2, dimension)), 200_000
    shape = (count, dimension)
    u = rng.uniform(-(3**0.5), 3**0.5, shape) if law == "uniform" else rng.choice([-1.0, 1.0], shape)
    h = np.tanh(0.8 * u @ Y.T / dimension**0.5)
    products = h[:, :, None] * h[:, None, :]
    found = tp.nngp(net_of(law=law, std=0.8, bias=0)).account(Y)
    error = products.std(axis=0) / count**0.5 + found.error
    assert (np.abs(found.value - products.mean(axis=0)) < 4 * error).all()
    assert found.statistical == (law == "uniform" and dimension == 6) and found.error.max() < 1e-3


@pytest.mark.slow
def test_laws_by_quantiles_are_the_named_ones():
    own = tp.law(quantile=lambda p: 3**0.5 * (2 * p - 1), name="flat")
    assert np.abs(tp.nngp(net_of(law=own, bias_law=own))(X) - tp.nngp(net_of())(X)).max() < 1e-14
    normal = tp.law(quantile=special.ndtri)
    found = tp.nngp(net_of(law=normal, bias=0)).account(X)
    assert (np.abs(found.value - tp.nngp(net_of(law=None, bias=0))(X)) <= found.error + 1e-9).all()


@pytest.mark.slow
def test_networks_of_finite_width_converge_to_it():
    v = tp.verify(net_of(depth=2), X, widths=(64, 128, 256), seeds=16)
    assert v.passed, v.text()
    found = tp.empirical_ntk(net_of(depth=2), X, width=512, seeds=24)
    z = (found.mean(axis=0) - tp.ntk(net_of(depth=2))(X)) / (found.std(axis=0, ddof=1) / 24**0.5)
    assert np.abs(z).max() < 4.5
    assert np.abs(tp.empirical_ntk(net_of(bias=0, law="rademacher"), X, width=4)).max() < 10


@pytest.mark.slow
def test_training_is_certified_and_sequences_have_laws_too():
    assert tp.unroll(net_of(phi=tp.abstract("phi"), depth=2), steps=1).certify().passed

    @tp.network
    def recurrent(net, x, *, law="uniform"):
        h = None
        for x_t in x:
            z = net.embed("U", x_t, law=law)
            h = tp.tanh(z if h is None else z + net.dense("W", h))
        return net.readout("V", h)

    S = np.random.default_rng(0).standard_normal((2, 2, 1))
    K = tp.nngp(recurrent()).account(S)
    found = [r.mean(axis=0) for r in np.split(_products(recurrent(), S, 400), 20)]
    error = np.std(found, axis=0, ddof=1) / 20**0.5
    assert (np.abs(np.mean(found, axis=0) - K.value) < 4.5 * error + K.error + 0.01).all()


def _products(net, S, seeds):
    """E x x' of the last layer at width 128, by the kernel of the readout alone."""
    return tp.empirical_ntk(net, S, width=128, seeds=seeds, trainable=["V"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tp.nngp(net_of(law="unform")), "unknown law 'unform' of 'U'; did you mean 'uniform'"),
        (lambda: tp.nngp(net_of(law=3)), r"law of 'U' is 'gaussian', 'uniform', 'rademacher' or tp.law\(..\), got 3"),
        (lambda: tp.law([1, 2]), "mean 0"),
        (lambda: tp.law([1, -1], [0.5, 0.6]), "probabilities"),
        (lambda: tp.law(), "values of a discrete law, or quantile="),
        (lambda: tp.law(quantile=lambda p: p), "mean 0 and variance 1; of these quantiles they are 0.5"),
        (lambda: tp.law(quantile=lambda p: -p), "ascending"),
        (lambda: tp.ntk(net_of()).recursion(), "no recursion holds"),
        (lambda: tp.ntk(net_of()).source(), "are not compiled"),
        (lambda: tp.ntk(net_of()).source("numpy"), "no standalone code"),
        (lambda: tp.nngp(net_of(), method="sampling")(X), "are not sampled"),
        (lambda: tp.limit(net_of().trace([None]).program, "sampling", samples=64).mean("U(x)"), "not Gaussian"),
        (lambda: net_of().trace([None]).program.to_json(), "a law of their own"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call, words):
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
