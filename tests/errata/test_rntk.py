"""Misprints in the RNTK paper: its recursion, written once with a switch for every misprint."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.special import erf

import tensorprog as tp

SW, SU, SB, SV = 0.7, 1.2, 0.6, 1.1
D, WIDTH, SEEDS = 3, 400, 200
STD = {"sigma_w": SW, "sigma_u": SU, "sigma_b": SB, "sigma_v": SV}


def v_relu(a, c, b):
    rho = np.clip(c / np.sqrt(a * b), -1, 1)
    return np.sqrt(a * b) * (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)


def v_step(a, c, b):
    return (np.pi - np.arccos(np.clip(c / np.sqrt(a * b), -1, 1))) / (2 * np.pi)


def recursion(x, y, layers=1, misprint=""):
    """(K, Θ) for φ = relu and sequences (T, d) with T ≤ T': Eq. 11-19, 33 and 34, with at most one misprint."""
    sequences, tau, T = (x, y), len(y) - len(x), len(x)

    @cache
    def sigma(l, i, t, j, s):
        recurrent = t > 1 and s > 1
        scale = 1 if misprint == "13" and not recurrent and (t, s) != (1, 1) else 1 / D
        below = scale * sequences[i][t - 1] @ sequences[j][s - 1] if l == 1 else v(l - 1, i, t, j, s)
        if misprint == "first step" and l > 1 and not recurrent:  # K^(l,2,2): Σ = σ_u² Σ/2 + σ_b²
            return SB**2 / (1 - SU**2 / 2)
        weight = 1 if misprint == "V" else SW**2
        return SU**2 * below + SB**2 + (weight * v(l, i, t - 1, j, s - 1) if recurrent else 0)

    def v(l, i, t, j, s, function=v_relu):
        return function(sigma(l, i, t, i, t), sigma(l, i, t, j, s), sigma(l, j, s, j, s))

    @cache
    def pi(l, t):
        if (l, t) == (layers, T) or misprint == "boundary":
            return SV**2 * v(l, 0, t, 1, t + tau, v_step)
        above = t + 1 if misprint == "34" and t < T else t
        back = (SW**2 * pi(l, t + 1) if t < T else 0) + (SU**2 * pi(l + 1, above) if l < layers else 0)
        return back * v(l, 0, t, 1, t + tau, v_step)

    def term(l, t):
        other = 1 if misprint == "32" else 0
        return pi(l, t) * sigma(l, other, t + (tau if other else 0), 1, t + tau)

    K = SV**2 * v(layers, 0, T, 1, T + tau)
    return K, sum(term(l, t) for l in range(1, layers + 1) for t in range(1, T + 1)) + K


def sequences(T, T2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, D)), rng.normal(size=(T2, D))


def last_state(x, seed):
    """φ(g^T) of a one-layer network of the given seed."""
    rng = np.random.default_rng(seed)
    W, U = rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH), rng.normal(size=(WIDTH, D)) / np.sqrt(D)
    b, h = rng.normal(size=WIDTH), np.zeros(WIDTH)
    for x_t in x:
        h = np.maximum(SW * W @ h + SU * U @ x_t + SB * b, 0)
    return h


def derived(kernel, x, y, layers=1):
    return kernel(tp.programs.rnn(layers=layers, phi=tp.relu, **STD))([x], [y])[0, 0]


def empirical(x, y, layers=1):
    net = tp.programs.rnn(layers=layers, phi=tp.relu, **STD)
    return tp.empirical_ntk(net, [x], [y], width=WIDTH, seed=0, seeds=SEEDS)[:, 0, 0]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(1, 1), (2, 2), (2, 3), (4, 4)])
def test_without_misprints_the_recursion_is_what_the_engine_derives(layers, lengths):
    x, y = sequences(*lengths)
    K, theta = recursion(x, y, layers)
    engine = [derived(kernel, x, y, layers) for kernel in (tp.nngp, tp.ntk)]
    assert [K, theta] == pytest.approx(engine, rel=1e-12)


def test_eq_13_divides_every_input_product_by_m(judge):
    """Σ^(1,t') has σ_u²/m, as Eq. 11 and 12 do (B.2 drops the 1/m in several places)."""
    x, y = sequences(1, 2, seed=1)
    samples = [SV**2 * np.mean(last_state(x, s) * last_state(y, s)) for s in range(SEEDS)]
    judge("RNTK (13)", recursion(x, y, misprint="13")[0], derived(tp.nngp, x, y), samples)


def test_b2_drops_sigma_w_squared(judge):
    """In B.2 "V_φ[K]" stands for Cov(σ_w W h, σ_w W h') = σ_w² V_φ[K]."""
    x, y = sequences(3, 3)
    samples = [SV**2 * np.mean(last_state(x, s) * last_state(y, s)) for s in range(SEEDS)]
    judge("RNTK B.2, V", recursion(x, y, misprint="V")[0], derived(tp.nngp, x, y), samples)


def test_eq_34_keeps_the_time_when_it_goes_up_a_layer(judge):
    """Π^(l,t,t') reads Π^(l+1,t,t') through U; printed is Π^(l+1,t+1,t'+1)."""
    x, _ = sequences(3, 3)
    judge("RNTK (34)", recursion(x, x, 2, "34")[1], derived(tp.ntk, x, x, 2), empirical(x, x, 2))


def test_first_step_kernels_read_the_layer_below(judge):
    """B.3: Σ^(l,1,1) reads K^(l-1,2,2); the printed K^(l,2,2) contains Σ^(l,1,1) itself."""
    x, _ = sequences(1, 1)
    judge("RNTK B.3, t = 1", recursion(x, x, 2, "first step")[1], derived(tp.ntk, x, x, 2), empirical(x, x, 2))


def test_eq_32_multiplies_the_mixed_covariance(judge):
    """Θ = Σ Π Σ(x,x') + K; printed is Σ(x',x')."""
    x, y = sequences(2, 3)
    judge("RNTK (32)", recursion(x, y, misprint="32")[1], derived(tp.ntk, x, y), empirical(x, y))


def test_b4_ends_the_backward_recursion_at_t_only(judge):
    """B.4: σ_v² V_φ' is Π^(T,T); printed for every Π^(t,t)."""
    x, _ = sequences(4, 4)
    judge("RNTK B.4", recursion(x, x, misprint="boundary")[1], derived(tp.ntk, x, x), empirical(x, x))


def test_gradients_are_masked_after_the_transpose(judge):
    """δ^t = φ'(g^t) ⊙ σ_w Wᵀδ^(t+1); printed is σ_w Wᵀ(φ'(g^t) ⊙ δ^(t+1)).  Compared in E δ² φ'(g)."""
    p = tp.Program()
    W, g1, u2, v = p.matrix("W"), p.vector("g1"), p.vector("u2"), p.vector("v")
    g2 = W @ tp.relu(g1) + u2
    d2 = v * tp.step(g2)
    right, printed = tp.step(g1) * (W.T @ d2), W.T @ (tp.step(g1) * d2)
    lim = tp.limit(p)
    masked = [lim.evaluate(lim.E(lambda d, g: d**2 * tp.step(g), d, g1)) for d in (printed, right)]
    samples = []
    for seed in range(60):
        run = tp.sample(p, width=WIDTH, seed=seed)
        w, g, u, readout = (torch.tensor(run[a]) for a in (W, g1, u2, v))
        g.requires_grad_()
        (readout @ torch.relu(w @ torch.relu(g) + u)).backward()
        samples.append(float((g.grad**2 * (g > 0)).mean()))
    judge("RNTK B.2, δ", *masked, samples)


def test_b5_erf_has_both_variances(judge):
    """B.5: √((1 + 2K1)(1 + 2K2)); printed is K3 in place of K2."""
    k1, k2, k3 = 0.7, 1.5, 0.4
    p = tp.Program()
    a, b = p.gaussian("a b", cov=[[k1, k3], [k3, k2]])
    product = tp.erf(a) * tp.erf(b)
    printed = 2 / np.pi * np.arcsin(2 * k3 / np.sqrt((1 + 2 * k1) * (1 + 2 * k3)))
    z = np.random.default_rng(0).multivariate_normal([0, 0], [[k1, k3], [k3, k2]], size=(100, 2000))
    samples = (erf(z[..., 0]) * erf(z[..., 1])).mean(axis=1)
    lim = tp.limit(p)
    judge("RNTK B.5", printed, lim.evaluate(lim.mean(product)), samples)


def test_a1_last_slope_carries_sigma_v(judge):
    """A.1, NTK of an MLP: Σ̇ of the last layer is σ_v² V_φ'; printed is σ_w² for every layer."""
    X = np.stack([s[0] for s in sequences(1, 1)])
    net = tp.programs.mlp(depth=2, phi=tp.relu, sigma_w=SW, sigma_b=SB, sigma_v=SV)

    def theta(last):
        own, c = SW**2 * (X**2).sum(1) / D + SB**2, SW**2 * X[0] @ X[1] / D + SB**2
        first = c * SW**2 * v_step(own[0], c, own[1])
        own, c = SW**2 * own / 2 + SB**2, SW**2 * v_relu(own[0], c, own[1]) + SB**2
        return (first + c) * last**2 * v_step(own[0], c, own[1]) + SV**2 * v_relu(own[0], c, own[1])

    engine = tp.ntk(net)(X)[0, 1]
    assert theta(SV) == pytest.approx(engine, rel=1e-12)
    judge("RNTK A.1", theta(SW), engine, tp.empirical_ntk(net, X, width=WIDTH, seed=0, seeds=SEEDS)[:, 0, 1])
