"""Dropout: masks by their limit, exact at finite width, through training, and refused where they are not derived."""

import math

import numpy as np
import pytest
import sympy as sp
import torch

import tensorprog as tp
from tensorprog.errors import DataError, ProgramError
from tensorprog.ir.instructions import Kept

X = np.random.default_rng(0).normal(size=(3, 2))


@tp.network
def dropped(net, x, *, rate=0.25, phi=tp.relu, sigma_b=0.3):
    h = net.dropout(phi(net.embed("U", x)), rate)
    h = phi(net.dense("W", h) + net.bias("b", std=sigma_b))
    return net.readout("V", net.dropout(h, rate))


@tp.network
def sequence(net, x, *, rate=0.25):
    s = net.state("h0")
    for v in x:
        s = tp.erf(net.dense("W", net.dropout(s, rate)) + net.embed("U", v))
    return net.readout("V", s)


def arc_cosine(q, c, r):
    size = np.sqrt(q * r)
    rho = np.clip(c / size, -1, 1)
    return size * (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)


def test_kernels_by_hand():
    """Moments between inputs are those without dropout, of an input with itself they are times 1/(1 − rate)."""
    rate, C = 0.25, X @ X.T / 2
    own = np.diag(C)
    V = arc_cosine(own[:, None], C, own)
    S = np.where(np.eye(3), V / (1 - rate), V) + 0.09
    q = np.diag(S)
    K = arc_cosine(q[:, None], S, q)
    np.testing.assert_allclose(tp.nngp(dropped())(X), np.where(np.eye(3), K / (1 - rate), K), rtol=1e-13)


def test_equal_inputs_have_masks_of_their_own():
    twice = np.concatenate([X[:1], X[:1]])
    K = tp.nngp(dropped())(twice)
    assert K[0, 0] == pytest.approx(K[1, 1], rel=1e-14) and K[0, 1] < 0.8 * K[0, 0]


@pytest.mark.parametrize("method", ["paths", "sgd"])
def test_ways_to_the_ntk_agree(method):
    np.testing.assert_allclose(tp.ntk(dropped(), method=method)(X), tp.ntk(dropped())(X), rtol=1e-13)


def test_the_ntk_is_that_of_finite_networks_and_of_sampling():
    limit = tp.ntk(dropped())(X)
    found = np.stack([tp.empirical_ntk(dropped(), X, width=256, seed=s) for s in range(60)])
    error = found.std(0, ddof=1) / np.sqrt(60)
    assert (np.abs(found.mean(0) - limit) < 4 * error).all()
    sampled = tp.ntk(dropped(), method="sampling", samples=2**15).account(X)
    assert (np.abs(sampled.value - limit) < 4 * sampled.error).all()


def test_gradients_at_finite_width_are_those_of_torch():
    from tensorprog.derivation.data import read_inputs
    from tensorprog.finite.layerwise import Layerwise

    n, kernel = 16, Layerwise(dropped(), read_inputs(X, "X", "vectors"), None, {})
    w, states = kernel.draw(n, [3], float), kernel.states(n, [3], float)
    t = {k: torch.tensor(v[0], requires_grad=True) for k, v in w.items()}
    masks = [torch.tensor((states[f"dropout{k}"][0] > -0.6744897501960817) / 0.75) for k in (1, 2)]
    outputs = []
    for i, x in enumerate(torch.tensor(X)):
        h = torch.relu(t["U"] @ x / 2**0.5) * masks[0][i]
        h = torch.relu(t["W"] @ h / n**0.5 + 0.3 * t["b"]) * masks[1][i]
        outputs.append(t["V"] @ h / n**0.5)
    rows = [torch.autograd.grad(f, list(t.values()), retain_graph=True) for f in outputs]
    J = np.stack([np.concatenate([g.numpy().ravel() for g in row]) for row in rows])
    np.testing.assert_allclose(kernel(w, states)[0], J @ J.T, rtol=1e-11)


def test_training_with_fixed_masks_follows_the_kernel():
    assert tp.unroll(dropped(phi=tp.abstract("phi")), steps=2).certify().passed


def test_masks_are_bernoulli():
    p = tp.Program()
    g = p.vector("g")
    m = tp.Program.append(p, "m", Kept(g.var, sp.Rational(1, 5)))
    entries = tp.sample(p, width=40_000, seed=1)[m]
    assert set(np.unique(entries)) == {0.0, 1.25}
    assert abs((entries > 0).mean() - 0.8) < 4 * (0.16 / 40_000) ** 0.5
    lim = tp.limit(p)
    assert lim.mean(m) == 1 and lim.E(lambda a: a**3, m) == sp.Rational(25, 16)
    assert lim.evaluate(lim.E(lambda a: sp.erf(a), m)) == pytest.approx(0.8 * math.erf(1.25), rel=1e-13)
    assert tp.Program.from_json(p.to_json()).to_json() == p.to_json()


def test_sequences_with_a_mask_for_every_step():
    S = np.random.default_rng(2).normal(size=(2, 3, 2))
    limit = tp.ntk(sequence())(S)
    found = np.stack([tp.empirical_ntk(sequence(), S, width=192, seed=s) for s in range(50)])
    assert (np.abs(found.mean(0) - limit) < 4 * found.std(0, ddof=1) / np.sqrt(50) + 4 / 192 * np.abs(limit)).all()


def test_rates():
    r = sp.Symbol("r")
    np.testing.assert_allclose(tp.nngp(dropped(rate=r))(X, values={"r": 0.25}), tp.nngp(dropped())(X), rtol=1e-13)
    assert tp.nngp(dropped(rate=0)).net.trace([None]).states == {}
    for rate in (1, -0.1, 1.5):
        with pytest.raises(ProgramError, match="at least 0 and less than 1"):
            dropped(rate=rate).trace([None])
    with pytest.raises(DataError, match="a rate of dropout is 2"):
        tp.empirical_ntk(dropped(rate=r), X, width=4, values={"r": 2})


def test_what_dropout_refuses():
    @tp.network
    def over_positions(net, x):
        return net.readout("V", net.global_pool(net.dropout(net.conv("U", x), 0.5)))

    @tp.network
    def state_over_positions(net, x):
        return net.readout("V", net.global_pool(net.conv("U", x) + net.state("s")))

    @tp.network
    def of_data(net, x):
        return net.readout("V", net.dropout(x, 0.5))

    with pytest.raises(ProgramError, match="vectors without positions"):
        tp.nngp(over_positions())
    with pytest.raises(ProgramError, match="is derived for vectors and sequences"):
        tp.nngp(state_over_positions())
    with pytest.raises(ProgramError, match=r"dropout\(..\) takes a vector"):
        tp.nngp(of_data())
    p = tp.Program()
    with pytest.raises(ProgramError, match="no initial vector"):
        p.append("m", Kept(tp.relu(p.vector("x")).var, sp.Rational(1, 2)))
