"""Misprints in the NTK derivation note (Chen), L = 2: f = W¹ σ(W⁰ x/√d + β b⁰)/√n + β b¹."""

import numpy as np

import tensorprog as tp

BETA, WIDTH, SEEDS = 0.5, 1000, 60
X = np.random.default_rng(0).normal(size=(2, 3))


@tp.network
def net(net, x, *, beta=BETA):
    h = net.embed("W0", x) + net.bias("b0", std=beta)
    return net.readout("W1", tp.relu(h), bias=beta)


def hidden(X, seed):
    """Preactivations and activations of the hidden layer, n coordinates of both inputs."""
    rng = np.random.default_rng(seed)
    h = X @ rng.normal(size=(X.shape[1], WIDTH)) / np.sqrt(X.shape[1]) + BETA * rng.normal(size=WIDTH)
    return h, np.maximum(h, 0)


def test_eq_3_starts_at_l_1(judge):
    """As printed, l = 0 included, the input would pass through σ, against Eq. 1."""
    K = tp.nngp(net())
    samples = [np.prod(hidden(X, s)[1], axis=0).mean() + BETA**2 for s in range(SEEDS)]
    judge("NOTE (3)", K(np.maximum(X, 0))[0, 1], K(X)[0, 1], samples)


def test_eq_11_is_about_the_next_layer(judge):
    """Σ̃^(l+1) is the covariance of α̃^(l+1); as printed, of α̃^(l)."""
    printed = X[0] @ X[1] / 3 + BETA**2  # Σ^(1), l = 1
    samples = [np.prod(hidden(X, s)[1], axis=0).mean() + BETA**2 for s in range(SEEDS)]
    judge("NOTE (11)", printed, tp.nngp(net())(X)[0, 1], samples)


def test_eq_16_has_beta_squared(judge):
    """∂f/∂b = β, hence β² in the kernel, in every layer; with β instead, the bias terms are wrong."""
    K, untrained = tp.ntk(net())(X), tp.ntk(net(beta=0))
    assert untrained(X)[0, 1] != K[0, 1]
    slopes = [np.prod(hidden(X, s)[0] > 0, axis=0).mean() for s in range(400)]
    printed = K[0, 1] + (BETA - BETA**2) * (1 + np.mean(slopes))  # output bias, and hidden bias times Σ̇
    judge("NOTE (16)", printed, K[0, 1], tp.empirical_ntk(net(), X, width=WIDTH, seed=0, seeds=SEEDS)[:, 0, 1])


def test_eq_20_has_a_bias_of_its_own(judge):
    """With b^(0) in the output too, f would be correlated with the first layer: E f h¹ᵢ = β², not 0."""
    p = tp.Program()
    h, b0, b1 = p.vector("h"), p.vector("b0"), p.vector("b1")
    W = p.matrix("W")
    first, second = h + BETA * b0, W @ tp.relu(h + BETA * b0) + BETA * b1
    lim = tp.limit(p)
    samples = []
    for s in range(SEEDS):
        run = tp.sample(p, width=WIDTH, seed=s)
        samples.append(np.mean(run[first] * run[second]))
    judge("NOTE (20)", BETA**2, lim.evaluate(lim.E(lambda a, b: a * b, first, second)), samples)


def test_eq_25_sums_over_the_units(judge):
    """α^(L) is the whole vector; with one unit α_i alone, the term would vanish like 1/n."""
    one = [hidden(X, s)[1][:, 0].prod() / WIDTH for s in range(SEEDS)]
    samples = [np.prod(hidden(X, s)[1], axis=0).mean() + BETA**2 for s in range(SEEDS)]
    judge("NOTE (25)", np.mean(one) + BETA**2, tp.nngp(net())(X)[0, 1], samples)
