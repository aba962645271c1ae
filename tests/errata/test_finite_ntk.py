"""Misprints in "Analyzing Finite Neural Networks" (Seleznova & Kutyniok): h^l = W^l φ(h^(l-1)) + b^l, M_L = 1."""

import numpy as np
import pytest
import sympy as sp
from scipy.special import erf

import tensorprog as tp

WIDTH, SEEDS = 1000, 40
X = np.random.default_rng(0).normal(size=(2, 3))


def relu(h):
    return np.maximum(h, 0)


def forward(X, widths, sigma_w, sigma_b=0.0, seed=0, phi=relu):
    """Weights and preactivations of every layer: W^l_ij ~ N(0, σ_w²/M_(l-1)), the first layer reads x itself."""
    rng = np.random.default_rng(seed)
    weights, layers = [], []
    x = X.T
    for m in widths:
        weights.append(sigma_w * rng.normal(size=(m, len(x))) / np.sqrt(len(x)))
        layers.append(weights[-1] @ x + sigma_b * rng.normal(size=(m, 1)))
        x = phi(layers[-1])
    return weights, layers


def variances(depth, sigma_w, sigma_b=0.0):
    """E h^l(x)², l = 1..depth, of the first input, by the engine."""
    s = [float(np.mean(X[0] ** 2)) * sigma_w**2 + sigma_b**2]
    p = tp.Program()
    h = p.vector("h1", variance=s[0])
    for l in range(2, depth + 1):
        h = p.matrix(f"W{l}", variance=sigma_w**2) @ tp.relu(h) + sigma_b * p.vector(f"b{l}")
        lim = tp.limit(p)
        s.append(lim.evaluate(lim.cov(h, h)))
    return s


def test_eq_1_divides_by_the_width_below(judge):
    """W^l_ij has variance σ_w²/M_(l-1); with M_l, the first layer would vanish as the width grows."""
    samples = [np.mean(forward(X, [WIDTH], 1.0, seed=s)[1][0][:, 0] ** 2) for s in range(SEEDS)]
    judge("FIN (1)", (X[0] ** 2).sum() / WIDTH, variances(1, 1.0)[0], samples)


def test_eq_8_has_no_ratio_of_widths(judge):
    """p^l = σ_w² p^(l+1) E φ'²: the factor M_(l+1)/M_(l+2) is absent when widths differ (also in Eq. 9 and App. E)."""
    sigma_w, samples = 1.3, []
    for s in range(400):
        weights, layers = forward(X[:1], [300, 200, 100, 1], sigma_w, seed=s)
        delta = np.ones((1, 1))
        for l in (2, 1):
            delta = (layers[l] > 0) * (weights[l + 1].T @ delta)
        samples.append((delta**2).sum())
    p = tp.Program()
    g, v, W = p.vector("g"), p.vector("v"), p.matrix("W", variance=sigma_w**2)
    d3 = tp.step(W @ tp.relu(g)) * (sigma_w * v)
    d2 = tp.step(g) * (W.T @ d3)
    lim = tp.limit(p)
    derived = lim.evaluate(lim.E(lambda d: d**2, d2))
    judge("FIN (8)", derived * (200 / 100) * (100 / 1), derived, samples)


def test_lemma_5_2_multiplies_the_variance_of_activations(judge):
    """Appendix A: Θ = Σ α_(l-1) M p^l q̂^(l-1); printed is q^(l-1), of the preactivations.  L = 2, p^2 = 1."""
    derived = tp.nngp(tp.programs.mlp(depth=1, phi=tp.relu, sigma_w=1.3))(X)[0, 1]
    samples = [np.prod(relu(forward(X, [WIDTH], 1.3, seed=s)[1][0]), axis=1).mean() for s in range(SEEDS)]
    judge("FIN Lemma 5.2", 1.3**2 * X[0] @ X[1] / 3, derived, samples)


def test_the_critical_relu_network_has_variance_two(judge):
    """σ_w² = 2 keeps q^l; "σ_w = 2", as printed, doubles it at every layer."""
    samples = [np.mean(forward(X, [WIDTH] * 4, 2**0.5, seed=s)[1][3][:, 0] ** 2) for s in range(SEEDS)]
    q = variances(4, 2**0.5)
    assert q == pytest.approx([q[0]] * 4)
    judge("FIN 1.2", variances(4, 2.0)[3], q[3], samples)


def test_the_input_does_not_pass_through_phi(judge):
    """App. E sets q⁰ = 1 and applies q^l = σ_w² q^(l-1)/2 + σ_b² from l = 1 on: the first layer is linear in x."""
    samples = [np.mean(forward(X, [WIDTH], 1.3, 0.2, seed=s)[1][0][:, 0] ** 2) for s in range(SEEDS)]
    judge("FIN App. E, q⁰", 1.3**2 * np.mean(X[0] ** 2) / 2 + 0.04, variances(1, 1.3, 0.2)[0], samples)


A2, AB = 1.7, 0.6  # variance a² and covariance a·b of the pair (a z1, b z1 + √(a² − b²) z2)
A, B, C = A2**0.5, AB / A2**0.5, AB / A2
CASES = {
    "E.1, ReLU": (tp.relu, relu, A / (2 * np.pi) * (np.sqrt(1 - C**2) + C * (np.pi / 2 + np.arcsin(C)))),
    "E.2, erf": (tp.erf, erf, 2 / np.pi * np.arctan(2 * B / np.sqrt((1 + 2 * A) ** 2 - 4 * B**2))),
    "E.2, erf'": (
        lambda h: 2 / sp.sqrt(sp.pi) * tp.gauss(sp.sqrt(2) * h),
        lambda h: 2 / np.sqrt(np.pi) * np.exp(-(h**2)),
        4 / np.pi / np.sqrt((1 + 2 * A) ** 2 - 4 * B**2),
    ),
}  # printed: a for a² and b for ab


@pytest.mark.parametrize("where", CASES)
def test_two_input_integrals_have_variances_where_standard_deviations_are_printed(where, judge):
    phi, function, printed = CASES[where]
    p = tp.Program()
    u, w = p.gaussian("u w", cov=[[A2, AB], [AB, A2]])
    product = phi(u) * phi(w)
    lim = tp.limit(p)
    z = np.random.default_rng(1).multivariate_normal([0, 0], [[A2, AB], [AB, A2]], size=(100, 4000))
    samples = function(z).prod(axis=-1).mean(axis=1)
    judge(f"FIN {where}", printed, lim.evaluate(lim.mean(product)), samples)


def test_the_mixed_backward_variance_reads_itself(judge):
    """p_sr^(l-1) = σ_w² p_sr^l E φ'φ'; printed is p^l, of one input."""
    sigma_w, samples = 1.2, []
    for s in range(400):
        weights, layers = forward(X, [400, 400, 1], sigma_w, seed=s)
        d2 = (layers[1] > 0) * weights[2].T
        samples.append(((layers[0] > 0) * (weights[1].T @ d2)).prod(axis=1).sum())
    net = tp.programs.mlp(depth=2, phi=tp.relu, sigma_w=sigma_w, sigma_v=sigma_w)
    K = tp.ntk(net, method="backprop")
    names = {str(e.lhs): e.lhs for e in K.equations}
    d = K._derive()
    grams = {s: X[a.owner] @ X[b.owner] / 3 for s, (a, b) in d.trace.grams.items()}
    pi = d.limit.evaluate(names["Π^(1)(x,x')"], grams)
    own = sigma_w**2 / 2  # p^2(x) of one input
    p = tp.Program()
    c = [[sigma_w**2 * a @ b / 3 for a in X] for b in X]
    u, w = p.gaussian("u w", cov=c)
    lim = tp.limit(p)
    slopes = lim.evaluate(lim.E(lambda a, b: tp.step(a) * tp.step(b), u, w))
    judge("FIN App. E, p_sr", sigma_w**2 * own * slopes, pi, samples)


@pytest.mark.parametrize(("phi", "limit"), [("relu", 4), ("erf", 3)])
def test_the_condition_ratio_saturates_at_the_edge_of_chaos(phi, limit):
    """κ₁/κ₂ tends to 4 (ReLU) or 3 (erf) with depth L; printed: it grows.

    At the edge of chaos the ratio is limit + (A log L + B)/L + O((log L/L)²): 1 - ρ falls like a power of L, with a
    relative correction log L/L.  Three depths give limit, A and B; what is neglected is the square of the gap.
    """
    if phi == "relu":
        std = {"sigma_w": 2**0.5}
    else:  # a fixed point q = 1/2 with σ_w² E φ'² = 1
        q = 0.5
        sigma_w2 = np.pi * np.sqrt(1 + 4 * q) / 4
        std = {"sigma_w": sigma_w2**0.5, "sigma_b": (q - sigma_w2 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))) ** 0.5}
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    ratios = []
    depths = np.array([60, 104, 180])
    for depth in depths.tolist():
        K = tp.ntk(tp.programs.mlp(depth=depth, phi=getattr(tp, phi), **std), method="paths")(x)
        ratios.append(K[0, 0] / K[0, 1])
    print(f"FIN 5, {phi}: printed: grows with depth; derived at depths {depths}: {np.round(ratios, 3)} -> {limit}")
    gaps = np.abs(limit - np.array(ratios))
    model = np.stack([np.ones(3), np.log(depths) / depths, 1 / depths], axis=1)
    found = np.linalg.solve(model, ratios)[0]
    assert np.all(np.diff(gaps) < 0) and abs(found - limit) <= gaps[0] ** 2 / limit
    runs = tp.empirical_ntk(tp.programs.mlp(depth=4, phi=getattr(tp, phi), **std), x, width=200, seed=0, seeds=60)
    shallow = tp.ntk(tp.programs.mlp(depth=4, phi=getattr(tp, phi), **std))(x)
    ratio = runs[:, 0, 0].mean() / runs[:, 0, 1].mean()
    assert ratio == pytest.approx(shallow[0, 0] / shallow[0, 1], rel=0.1)


def test_relu_inputs_align_in_the_chaotic_phase(judge):
    """ReLU with (σ_w², σ_b²) = (3, 1): printed q >> q_sr; the correlation q_sr/q tends to 1."""
    net = tp.programs.mlp(depth=8, phi=tp.relu, sigma_w=3**0.5, sigma_b=1)
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    K = tp.nngp(net)(x)
    deep = tp.nngp(tp.programs.mlp(depth=60, phi=tp.relu, sigma_w=3**0.5, sigma_b=1))(x)
    assert deep[0, 1] / deep[0, 0] > 0.98
    ratios = []
    for s in range(20):
        h = relu(forward(x, [600] * 8, 3**0.5, 1.0, seed=s)[1][-1])
        ratios.append((h[:, 0] @ h[:, 1]) / (h[:, 0] @ h[:, 0]))
    judge("FIN 5, ReLU (3, 1)", 0.0, K[0, 1] / K[0, 0], ratios)
