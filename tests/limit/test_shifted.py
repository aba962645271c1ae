"""Vectors with a number added: φ(h) + c, W(g + c), embedded data and initial vectors with a mean."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

X2 = np.array([[1.0, 0.0], [0.6, 0.8]]) * np.sqrt(2)
C = sp.Symbol("c", real=True)
FIFTH = sp.Rational(1, 5)


@tp.network
def shifted_readout(net, x, *, phi=tp.relu, c=0.2):
    return net.readout("V", phi(net.embed("U", x)) + c)


@tp.network
def written_by_hand(net, x, *, phi=tp.relu, c=0.2):
    return net.readout("V", tp.nonlin(lambda a: phi(a) + sp.nsimplify(c), net.embed("U", x)))


@tp.network
def shifted_hidden(net, x, *, c=0.2):
    return net.readout("V", tp.relu(net.dense("W", tp.relu(net.embed("U", x)) + c)))


@tp.network
def shifted_data(net, x, *, std=0):
    return net.readout("V", tp.relu(net.dense("W", net.embed("U", x) + net.bias("b", std=std) + 0.3)))


def limit_of_readout(net):
    t = net.trace([None, None])
    xs = [f.readouts[0].x for f in t.outputs]
    lim = tp.limit(t.program)
    moments = [[lim.cov(a, b) + lim.mean(a) * lim.mean(b) for b in xs] for a in xs]
    values = {s: float(X2[a.owner] @ X2[b.owner]) / 2 for s, (a, b) in t.grams.items()}
    return np.array([[lim.evaluate(m, values) for m in row] for row in moments])


WAYS = {
    "kernel": lambda net: tp.nngp(net)(X2),
    "in memory": lambda net: tp.nngp(net).gram(X2),
    "limit": limit_of_readout,
}


@pytest.mark.parametrize("way", WAYS)
def test_relu_plus_a_number(way):
    own, cross = 0.5 + 0.4 / np.sqrt(2 * np.pi) + 0.04, 0.53835070
    found = WAYS[way](shifted_readout())
    assert np.allclose(found, [[own, cross], [cross, own]], rtol=0, atol=5e-9)
    assert abs(found[0, 0] - own) < 1e-14


@pytest.mark.parametrize("phi", [tp.relu, tp.erf, tp.tanh, tp.step, tp.sign, tp.sin, tp.gelu], ids=str)
@pytest.mark.parametrize("c", [0.2, -3, sp.sqrt(2)], ids=str)
def test_a_number_added_is_part_of_the_function(phi, c):
    for kernel in (tp.nngp, tp.ntk):
        if kernel is tp.ntk and phi in (tp.step, tp.sign):
            continue
        one, other = kernel(shifted_readout(phi=phi, c=c)), kernel(written_by_hand(phi=phi, c=c))
        assert np.allclose(one(X2), other(X2), rtol=1e-13, atol=0)
        assert np.allclose(one.gram(X2), other(X2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("c", [-0.7, 0.2, 2.0])
def test_a_symbol_takes_the_value_of_a_number(c):
    symbolic, number = tp.ntk(shifted_hidden(c=C)), tp.ntk(shifted_hidden(c=c))
    assert np.allclose(symbolic(X2, values={C: c}), number(X2), rtol=1e-13, atol=0)


@pytest.mark.parametrize("net", [shifted_readout(), shifted_hidden(), shifted_data(), shifted_data(std=1)], ids=str)
def test_every_way_to_the_kernel_agrees(net):
    ways = [tp.ntk(net, method=method)(X2) for method in ("backprop", "paths", "sgd")] + [tp.ntk(net).gram(X2)]
    assert all(np.allclose(K, ways[0], rtol=1e-12, atol=0) for K in ways)
    assert tp.unroll(net, steps=1).certify().passed


def test_a_wide_network_has_the_kernel_of_a_shifted_vector():
    draws = tp.empirical_ntk(shifted_hidden(), X2, width=512, seeds=64)
    z = (draws.mean(0) - tp.ntk(shifted_hidden())(X2)) / (draws.std(0, ddof=1) / 8)
    assert np.abs(z).max() < 4.5


def test_embedded_data_plus_a_number():
    assert np.allclose(tp.nngp(shifted_data())(X2[:1] / np.sqrt(2)), 0.295, rtol=1e-14)
    assert np.allclose(tp.nngp(shifted_data())(X2)[0, 0], 0.545, rtol=1e-14)


@pytest.mark.parametrize("std", [0, 1])
@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-9])
def test_nearly_equal_data_plus_a_number_keep_their_angle(std, small):
    net = shifted_data(std=std)
    with mp.workdps(50):
        q = mp.mpf("0.59") + std
        other = q + mp.mpf(small) ** 2 / 2
        angle = mp.acos(q / mp.sqrt(q * other))
        step = (mp.pi - angle) / (2 * mp.pi)
        value = mp.sqrt(q * other) / (2 * mp.pi) * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle))
        ntk = value + step * (2 * q - mp.mpf("0.09"))
    K, X = tp.ntk(net), np.array([[1.0, 0.0], [1.0, small]])
    assert abs(K(X)[0, 1] / ntk - 1) < 1e-15 and abs(K.gram(X)[0, 1] / ntk - 1) < 1e-15
    assert abs(tp.nngp(net)(X)[0, 1] / value - 1) < 1e-15


# ---- programs ------------------------------------------------------------------------------------------------


AT = {C: 0.7}


def numbers_of(program, *vectors):
    """E Z and Cov(Z, Z') at c = 0.7."""
    lim = tp.limit(program)
    covs = [[lim.evaluate(lim.cov(a, b), AT) for b in vectors] for a in vectors]
    return np.array([lim.evaluate(lim.mean(a), AT) for a in vectors]), np.array(covs)


@pytest.mark.parametrize("shift", [lambda z: z + C, lambda z: C + z, lambda z: z - C, lambda z: C - z,
                                   lambda z: z + 3, lambda z: 0.1 - z, lambda z: np.float64(0.1) + z])  # fmt: skip
def test_a_shift_moves_means_and_no_variances(shift):
    p = tp.Program()
    x = p.vector("x")
    z, mean = shift(tp.relu(x)), 1 / np.sqrt(2 * np.pi)
    means, covs = numbers_of(p, z, x)
    turned = shift(0.0) - shift(1.0)
    assert abs(covs[0, 0] - (0.5 - 1 / (2 * np.pi))) < 1e-14 and abs(covs[0, 1] + turned / 2) < 1e-14
    assert abs(means[0] - float(sp.N(shift(0.0) - turned * mean, subs=AT))) < 1e-14


def test_shifts_of_correlated_vectors():
    p = tp.Program()
    x, y = p.gaussian("x y", [[1, FIFTH], [FIFTH, 2]], mean=[0, sp.Rational(1, 2)])
    means, covs = numbers_of(p, x + C, 2 * y - 1, y)
    assert np.allclose(means, [0.7, 0, 0.5], rtol=0, atol=1e-15)
    assert np.allclose(covs, [[1, 0.4, 0.2], [0.4, 8, 4], [0.2, 4, 2]], rtol=1e-14)


@pytest.mark.parametrize("factor", [3, -0.2, C, C + 1, C * (C + 1), sp.sqrt(2)], ids=str)
def test_products_with_numbers_are_multiples(factor):
    p = tp.Program()
    x = p.vector("x", mean=sp.Rational(1, 2))
    means, covs = numbers_of(p, factor * x, x * factor + C, x)
    k = float(sp.N(factor, subs=AT))
    assert np.allclose(means, [k / 2, k / 2 + 0.7, 0.5], rtol=1e-14)
    assert np.allclose(covs, [[k * k, k * k, k], [k * k, k * k, k], [k, k, 1]], rtol=1e-13)


@pytest.mark.parametrize("mean", [0.5, -1])
def test_initial_vectors_with_a_mean(mean):
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x", mean=mean)
    y = W @ (x + 1)
    z = W.T @ tp.relu(y)
    lim = tp.limit(p)
    q = 1 + (mean + 1) ** 2
    assert lim.cov(y, y) == sp.nsimplify(q)
    assert abs(lim.evaluate(lim.cov(z, x)) - 0.5) < 1e-14  # Ż = E step · (Z^x + 1)
    assert abs(lim.evaluate(lim.mean(z)) - (mean + 1) / 2) < 1e-14
    assert abs(lim.evaluate(lim.cov(z, z)) - (q / 2 + 0.25)) < 1e-14


def test_a_shift_by_a_moment_differs_from_input_to_input():
    """h = E relu(u) − u has E h h' = ⟨x,x'⟩ + √(⟨x,x⟩⟨x',x'⟩)/2π, and E |g||g'| of it is that of an angle."""

    @tp.network
    def below_its_mean(net, x):
        u = net.embed("U", x)
        return net.readout("V", tp.abs(net.dense("W", tp.moment(tp.relu, u) - u)))

    X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1e-9], [1.0, 0.0]])
    norms = np.linalg.norm(X, axis=1)
    q = (X @ X.T + np.outer(norms, norms) / (2 * np.pi)) / 2
    size = np.sqrt(np.outer(np.diag(q), np.diag(q)))
    theta = np.arccos(np.clip(q / size, -1, 1))
    want = 2 / np.pi * size * (np.sin(theta) + (np.pi / 2 - theta) * np.cos(theta))
    K = tp.nngp(below_its_mean())
    assert np.allclose(K(X), want, rtol=1e-13) and np.allclose(K.gram(X), want, rtol=1e-13)


def test_a_shift_that_differs_by_input_narrows_the_angle():
    """E sign(g) sign(g') = 1 − 2θ/π, θ the angle with the shift: at ε = 1e-8 it is lost in the covariance."""

    @tp.network
    def signs(net, x):
        u = net.embed("U", x)
        return net.readout("V", tp.sign(net.dense("W", tp.moment(tp.relu, u) - u)))

    with mp.workdps(50):
        e = mp.mpf(1e-8)
        q = [[(a + b) / 2 for a, b in zip(r, s, strict=True)]
             for r, s in zip([[1, 1], [1, 1 + e**2]],
                             [[mp.sqrt(a * b) / (2 * mp.pi) for b in (1, 1 + e**2)] for a in (1, 1 + e**2)],
                             strict=True)]  # fmt: skip
        theta = mp.asin(mp.sqrt((q[0][0] * q[1][1] - q[0][1] ** 2) / (q[0][0] * q[1][1])))
    found = tp.nngp(signs())([[1.0, 0.0], [1.0, 1e-8]])[0, 1]
    assert 1 - found == pytest.approx(float(2 * theta / mp.pi), rel=1e-6, abs=0)
