"""Recursions evaluated at sizes that were never derived, against recursions written here a second time.

The references run in 40-digit arithmetic (MLPs) or by plain loops over layers and time steps.
"""

import importlib.util
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.recursions.plan import plan


def beside(name):
    """A module of this folder, for the references in it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mlp, rntk = beside("test_mlp_recursion"), beside("test_rntk")
gram, erf_pair, relu_pair = mlp.gram, mlp.erf_pair, mlp.relu_pair
PAIRS, Rntk, Sigmas, sequences = rntk.PAIRS, rntk.Rntk, rntk.Sigmas, rntk.sequences
RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 4))
PAIR = {"relu": relu_pair, "erf": erf_pair}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def assert_close(actual, expected, rtol=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=rtol)


# ---- depth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "w", "b"), [slow("relu", np.sqrt(2), 0.0), ("erf", 1.3, 0.4)])
def test_mlps_of_200_layers(name, w, b):
    net = tp.programs.mlp(phi=tp.NONLINEARITIES[name], sigma_w=w, sigma_b=b, sigma_v=0.8)
    reference = gram(PAIR[name], X[:2], X[:2], 200, w, b, 0.8)
    nngp, ntk, paths = tp.nngp(net).recursion(), tp.ntk(net).recursion(), tp.ntk(net, "paths").recursion("forward")
    for depth in (1, 2, 11, 200):
        assert_close(nngp(X[:2], depth=depth), reference[0][depth - 1])
        assert_close(ntk(X[:2], depth=depth), reference[1][depth - 1])
    assert_close(paths(X[:2], X[1:2], depth=50), reference[1][49][:, 1:])


def test_the_weight_tied_mlp_has_the_kernels_of_the_mlp():
    net = tp.programs.tied_mlp(phi=tp.erf, sigma_u=1.3, sigma_w=1.3, sigma_b=0.4, sigma_v=0.8)
    reference = gram(erf_pair, X[:2], X[:2], 60, 1.3, 0.4, 0.8)
    for kernel, k in ((tp.nngp(net), 0), (tp.ntk(net), 1)):
        assert_close(kernel.recursion()(X[:2], depth=60), reference[k][-1])


@pytest.mark.parametrize("name", [slow("relu"), "erf"])
def test_residual_mlps_of_200_layers(name):
    """Θ^l = (1 + α² σ_w² V_φ') Θ^{l−1} + α² σ_w² V_φ, Σ^l = Σ^{l−1} + α² σ_w² V_φ, Σ^1 = Θ^1 = σ_w² x·x'/d."""
    w2, v2, a2 = mp.mpf("1.21"), mp.mpf("0.64"), mp.mpf("0.09")
    net = tp.programs.residual_mlp(phi=tp.NONLINEARITIES[name], sigma_w=1.1, sigma_v=0.8, alpha=0.3)

    def reference(x, y):
        q, c, r = (w2 * mp.fdot(map(mp.mpf, s), map(mp.mpf, t)) / len(x) for s, t in ((x, x), (x, y), (y, y)))
        theta = c
        for _ in range(199):
            v, dv = PAIR[name](q, c, r)
            theta = (1 + a2 * w2 * dv) * theta + a2 * w2 * v
            q, c, r = q + a2 * w2 * PAIR[name](q, q, q)[0], c + a2 * w2 * v, r + a2 * w2 * PAIR[name](r, r, r)[0]
        v, dv = PAIR[name](q, c, r)
        return float(v2 * (v + dv * theta))

    with mp.workdps(40):
        expected = [[reference(x, y) for y in X[:2]] for x in X[:2]]
    assert_close(tp.ntk(net).recursion()(X[:2], depth=200), expected)


def test_lemma_5_2_of_the_finite_ntk_paper():
    """κ = Σ_l q̂^{l−1} p^l with p^l = σ_w² p^{l+1} ∫φ'φ', p^L = 1, q̂⁰ = x·x'/d: the NTK without biases over σ_w²."""
    s2, depth = 1.69, 120
    net = tp.programs.mlp(phi=tp.erf, sigma_w=1.3, sigma_v=1.3)
    v, dv = PAIRS["erf"]
    q, c, r = np.sum(X**2, axis=1)[:, None] / 4, X @ X.T / 4, np.sum(X**2, axis=1) / 4
    hats, slopes = [c], []
    for _ in range(depth):
        q, c, r = s2 * q, s2 * c, s2 * r
        hats.append(v(q, c, r))
        slopes.append(dv(q, c, r))
        q, c, r = v(q, q, q), hats[-1], v(r, r, r)
    p, kappa = 1.0, hats[-1]
    for hat, slope in zip(hats[-2::-1], slopes[::-1], strict=True):
        p = s2 * p * slope
        kappa = kappa + hat * p
    assert_close(tp.ntk(net).recursion()(X, depth=depth), s2 * kappa)


def test_deep_linear_networks_have_their_closed_form():
    net = tp.programs.deep_linear(sigma_w=sp.Rational(101, 100), sigma_v=2)
    for kernel, factor in ((tp.ntk(net), 151), (tp.nngp(net), 1)):
        assert_close(kernel.recursion()(X, depth=150), factor * 4 * 1.01**300 * X @ X.T / 4, 1e-12)


@pytest.mark.parametrize("form", ["sum", "forward"])
def test_networks_without_gradient_independence(form):
    R = tp.ntk(tp.programs.mean_readout(phi=tp.erf, sigma_w=1.4)).recursion(form)
    for depth in (1, 2, 7, 8):
        assert_close(
            R(X, depth=depth), tp.ntk(tp.programs.mean_readout(depth=depth, phi=tp.erf, sigma_w=1.4))(X), 1e-13
        )


# ---- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [slow("relu"), "erf"])
def test_rnns_of_200_steps(name):
    s = Sigmas(1)
    net = s.network(name)
    ntk, nngp = tp.ntk(net).recursion(over="lengths"), tp.nngp(net).recursion(over="lengths")
    for lengths in ((200, 170), (33, 60), (1, 20)):
        x, y = sequences(*lengths)
        reference = Rntk(name, s, x, y)
        assert_close(ntk([x], [y]), [[reference.ntk()]])
        assert_close(nngp([x], [y]), [[reference.nngp()]])
    [x] = sequences(60)
    itself = Rntk(name, s, x, x, same=True)
    assert_close(ntk([x]), [[itself.ntk()]])
    assert_close(nngp([x]), [[itself.nngp()]])


@pytest.mark.slow
def test_rnns_of_several_layers():
    s = Sigmas(1)
    net = tp.programs.rnn(layers=2, phi=tp.erf, sigma_w=1.2, sigma_u=0.8, sigma_b=0.3, sigma_h=s.h, sigma_v=s.v)
    R = tp.ntk(net).recursion("forward")
    (x, y), [z] = sequences(14, 9), sequences(11, seed=1)
    for layers in (1, 2, 6):
        s.w, s.u, s.b = ([value] * layers for value in (1.2, 0.8, 0.3))
        assert_close(R([x, y], [z], layers=layers), [[Rntk("erf", s, a, z).ntk()] for a in (x, y)])
    assert_close(R([x], layers=6), [[Rntk("erf", s, x, x, same=True).ntk()]])


def test_ragged_sequences_give_the_gram_matrix_of_the_kernel():
    K = tp.ntk(Sigmas(1).network("erf"))
    S = sequences(3, 1, 3, 5)
    R = K.recursion(over="lengths")
    assert_close(R(S), K(S), 1e-13)
    assert_close(R(S, S[1:]), K(S, S[1:]), 1e-13)


# ---- how it runs ---------------------------------------------------------------------------------


def test_symbols_get_values():
    w = sp.Symbol("w", positive=True)
    R = tp.ntk(tp.programs.mlp(phi=tp.erf, sigma_w=w)).recursion()
    for value in (0.9, 1.4):
        assert_close(R(X, values={w: value}, depth=9), tp.ntk(tp.programs.mlp(depth=9, phi=tp.erf, sigma_w=value))(X))
    with pytest.raises(tp.DataError, match="no value for w"):
        R(X)


@pytest.mark.parametrize(
    ("net", "over", "small", "large"),
    [
        (tp.programs.mlp(), "depth", {"L": 30}, {"L": 300}),
        (tp.programs.residual_mlp(alpha=sp.Rational(1, 2)), "depth", {"L": 30}, {"L": 300}),
        (tp.programs.rnn(phi=tp.erf), "lengths", {"T": 30, "T'": 20}, {"T": 300, "T'": 40}),
        (tp.programs.rnn(phi=tp.erf), "lengths", {"T": 30, "T'": 20}, {"T": 30, "T'": 300}),
    ],
)
def test_memory_does_not_grow_with_the_size(net, over, small, large):
    """The number of arrays held at once, at most."""
    R = tp.ntk(net).recursion(over=over)
    assert plan(*R._system(large, 2)).width == plan(*R._system(small, 2)).width <= 10


def test_blocks_of_rows_give_the_same_numbers(monkeypatch):
    R = tp.ntk(tp.programs.mlp(phi=tp.erf)).recursion()
    whole = R(X, X, depth=4)
    monkeypatch.setattr("tensorprog.recursions.folded.BLOCK_BYTES", 1)
    assert_close(R(X, X, depth=4), whole, 1e-14)


@pytest.mark.slow
def test_depth_1000_and_length_1000():
    assert np.isfinite(tp.ntk(tp.programs.mlp()).recursion()(X, depth=1000)).all()
    R = tp.ntk(Sigmas(1).network("erf")).recursion(over="lengths")
    x, y = sequences(1000, 990)
    assert_close(R([x], [y]), [[_long(x, y)]], 1e-10)


def _long(x, y):
    """The NTK of two long sequences by the forward recursion along their common diagonal."""
    s, (v, dv) = Sigmas(1), PAIRS["erf"]
    tau = len(y) - len(x)
    q, r = ([s.w[0] ** 2 * s.h**2], [s.w[0] ** 2 * s.h**2])
    for z, found in ((x, q), (y, r)):
        for z_t in z:
            found.append(s.u[0] ** 2 * z_t @ z_t / len(z_t) + s.b[0] ** 2 + (found[0] if len(found) == 1 else
                         s.w[0] ** 2 * v(found[-1], found[-1], found[-1])))  # fmt: skip
    c = theta = None
    for t in range(max(1, 1 - tau), len(x) + 1):
        fresh = s.u[0] ** 2 * x[t - 1] @ y[t + tau - 1] / x.shape[1] + s.b[0] ** 2
        old = (q[t - 1], c, r[t + tau - 1])
        c = fresh if c is None else fresh + s.w[0] ** 2 * v(*old)
        theta = c if theta is None else c + s.w[0] ** 2 * dv(*old) * theta
    end = (q[-1], c, r[-1])
    return s.v**2 * (v(*end) + dv(*end) * theta)


def test_a_fold_over_layers_and_lengths_holds_for_one_layer_too():
    net = tp.programs.rnn()  # V[φ](⟨x1,x1⟩) is Σ^(2,1,1) from two layers on, and a name of its own for one
    R = tp.ntk(net).recursion()
    for T in (1, 2, 5):
        X = np.random.default_rng(T).normal(size=(3, T, 2))
        np.testing.assert_allclose(R(X), tp.ntk(net)(X), rtol=1e-13)


def test_a_thousand_layers_keep_the_angle():
    """The NTK of a relu network by 60 digits: ρ tends to 1, and a thousand angles add their errors."""
    x, y = [1.0, 0.3], [0.6, 0.8]
    R = tp.ntk(tp.programs.mlp(phi=tp.relu, sigma_b=sp.Rational(1, 10))).recursion()
    with mp.workdps(60):
        q1, c, q2 = (sum(mp.mpf(s) * mp.mpf(t) for s, t in zip(*p, strict=True)) + mp.mpf("0.01")
                     for p in ((x, x), (x, y), (y, y)))  # fmt: skip
        ntk = c
        for l in range(1, 1001):
            w, b = (1, 0) if l == 1000 else (2, mp.mpf("0.01"))
            size, t = mp.sqrt(q1 * q2), mp.acos(c / mp.sqrt(q1 * q2))
            slope = (mp.pi - t) / (2 * mp.pi)
            q1, c, q2 = w * q1 / 2 + b, w * (size * mp.sin(t) / (2 * mp.pi) + slope * c) + b, w * q2 / 2 + b
            ntk = c + w * slope * ntk
    assert_close(R([x], [y], depth=1000), [[float(ntk)]], 1e-13)


def test_nearly_parallel_inputs_whose_angle_the_recursion_loses():
    """Those of sign are computed by the kernel derived at that depth."""
    R, near = tp.nngp(tp.programs.mlp(phi=tp.sign)).recursion(), np.concatenate([X, X + 1e-7])
    assert_close(R(near, near, depth=3), tp.nngp(tp.programs.mlp(phi=tp.sign, depth=3))(near, near), 1e-13)


def test_every_size_is_derived_once_whatever_form_is_printed_and_evaluated():
    K = tp.ntk(tp.programs.mlp(depth=3, sigma_b=0.1))
    derive, seen = K._derive_straight, []

    def counted(net, lengths):
        seen.append((net.hyperparameters["depth"], len(lengths)))
        return derive(net, lengths)

    K._derive_straight = counted
    K.recursion(form="sum")(np.eye(2), depth=50)
    assert len(seen) == len(set(seen)) > 2
