"""What trains, and how fast: names, families and kinds, the standard parametrization, and the same list everywhere."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.learn import Dynamics, NTKRegressor

X = np.random.default_rng(0).standard_normal((4, 3))
SIGMAS = {"sigma_w": 1.3, "sigma_b": 0.4, "sigma_v": 0.7}
NET = tp.programs.mlp(depth=3, phi=tp.relu, **SIGMAS)
STDS = {"U": 1.3, "W2": 1.3, "W3": 1.3, "b1": 0.4, "b2": 0.4, "b3": 0.4, "V": 0.7}
PARTS = {n: tp.ntk(NET, trainable=[n])(X) for n in STDS}


def standard_by_hand(depth=3, sigma_w=1.3, sigma_b=0.4, sigma_v=0.7):
    """Θ = E φφ' + 1 + σ_w² E φ'φ'' Θ, layer by layer, for relu: gradients of W and b themselves."""
    S = sigma_w**2 * X @ X.T / 3 + sigma_b**2
    theta = X @ X.T / 3 + 1
    for l in range(1, depth + 1):
        r = np.sqrt(np.outer(np.diag(S), np.diag(S)))
        angle = np.arccos(np.clip(S / r, -1, 1))
        phi, step = r * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)
        if l == depth:
            return phi + sigma_v**2 * step * theta
        S, theta = sigma_w**2 * phi + sigma_b**2, phi + 1 + sigma_w**2 * step * theta
    return None


def close(found, expected, tolerance=1e-12):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("method", ["backprop", "paths", "sgd"])
def test_weights_themselves_have_the_kernel_of_the_recursion_by_hand(method):
    K = tp.ntk(NET, method, parametrization="standard")
    assert close(K(X), standard_by_hand()) and close(K.gram(X), standard_by_hand())
    if method == "backprop":
        assert close(K(X), sum(PARTS[n] / STDS[n] ** 2 for n in STDS))


def test_recursions_and_texts_say_what_trains():
    R = tp.ntk(tp.programs.mlp(phi=tp.relu, **SIGMAS), parametrization="standard").recursion(form="forward")
    assert close(R(X, depth=5), standard_by_hand(5)) and "standard" in R.text().splitlines()[0]
    K = tp.ntk(NET, trainable=["W", ("b", 2)], rates={"V": 2})
    assert "trained: W, ('b', 2), rates: {'V': 2}" in K.text() and "trained: W" in repr(K)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["W"], {"W2", "W3"}),
        ([("W", 2)], {"W2"}),
        (["b", "V"], {"b1", "b2", "b3", "V"}),
        (["bias"], {"b1", "b2", "b3"}),
        (["matrix", "embedding"], {"U", "W2", "W3"}),
        ([("b",)], {"b1", "b2", "b3"}),
        ([], set()),
    ],
)
def test_names_keys_families_and_kinds(given, names):
    assert close(tp.ntk(NET, trainable=given)(X), sum(PARTS[n] for n in names) if names else 0 * X @ X.T)
    found = tp.empirical_ntk(NET, X, width=8, trainable=given)
    assert np.allclose(found, tp.empirical_ntk(NET, X, width=8, trainable=sorted(names)), rtol=1e-14)


def test_a_name_counts_more_than_a_family_and_that_more_than_a_kind():
    rates = {"W3": 7, "matrix": 5, "W": 2, ("b", 1): 3, "bias": 0.5}
    factors = {"U": 1, "W2": 2, "W3": 7, "b1": 3, "b2": 0.5, "b3": 0.5, "V": 1}
    assert close(tp.ntk(NET, rates=rates)(X), sum(factors[n] * PARTS[n] for n in STDS))


def test_a_name_that_is_a_parameter_is_no_family():
    @tp.network
    def net(net, x):
        h = net.dense("W", tp.relu(net.embed("U", x))) + net.bias(("W", 2))
        return net.readout("V", tp.relu(h), bias=0.5)

    parts = {n: tp.ntk(net(), trainable=[n])(X) for n in ("U", "W", "W2", "V", "V.bias")}
    assert close(tp.ntk(net(), trainable=["output bias", "W"])(X), parts["W"] + parts["V.bias"])
    assert np.allclose(parts["V.bias"], 0.25) and close(sum(parts.values()), tp.ntk(net())(X))
    own = {"U": 1, "W": 1, "W2": 1, "V": 1, "V.bias": 4}
    assert close(tp.ntk(net(), parametrization="standard")(X), sum(own[n] * k for n, k in parts.items()))


def test_symbols_may_be_rates():
    eta = sp.Symbol("eta", positive=True)
    K = tp.ntk(NET, rates={"W": eta})
    assert "eta" in str(K.equations[-1].rhs)
    expected = sum(PARTS[n] * (3 if n[0] == "W" else 1) for n in STDS)
    assert close(K(X, values={"eta": 3}), expected)
    found = tp.empirical_ntk(NET, X, width=16, rates={"W": eta}, values={eta: 3})
    assert close(found, tp.empirical_ntk(NET, X, width=16, rates={"W": 3}))


def test_the_rate_that_all_layers_share_leaves_powers_of_the_width_at_finite_width():
    parts = {n: tp.empirical_ntk(NET, X, width=16, trainable=[n]) for n in STDS}
    found = tp.empirical_ntk(NET, X, width=16, parametrization=tp.standard(1, "W"))
    expected = sum(parts[n] / STDS[n] ** 2 * (1 if n[0] in "WV" else 1 / 16) for n in STDS)
    assert close(found, expected)
    assert close(tp.ntk(NET, parametrization=tp.standard(1, "W"))(X),
                 sum(PARTS[n] / STDS[n] ** 2 for n in ("W2", "W3", "V")))  # fmt: skip
    own = tp.abc([0, 0, 0], [0, "1/2", "1/2"], c=[0, 1, 1])
    assert own.classify().regime == "kernel regime" and close(tp.ntk(NET, parametrization=own)(X), tp.ntk(NET)(X))
    assert close(tp.ntk(NET, parametrization="ntk")(X), tp.ntk(NET)(X))


def test_training_with_a_rate_for_every_parameter_is_gradient_descent_by_hand():
    """f = σ_v v·relu(U ξ/√d)/√n, ∂f/∂v = σ_v relu/√n, both moved at rates of their own; one step, one sample."""
    from tensorprog.derivation.data import read_inputs
    from tensorprog.finite.trajectories import FiniteTraining
    from tensorprog.passes.rates import Rates

    net = tp.programs.mlp(depth=1, phi=tp.tanh, sigma_w=1.3, sigma_v=0.7)
    data = read_inputs(X[:2], "X", "vectors")
    run = FiniteTraining(net, data, [1.0], 2, tp.SGD(lr={"U": 0.2, "readout": 0.5}))
    drawn = run.finite.draw(24, [0])
    u, v, xi, f = drawn["U"][0], drawn["V"][0], X[:2] / np.sqrt(3), []
    for _ in range(3):
        x = np.tanh(1.3 * xi @ u.T)
        f.append(0.7 * x @ v / np.sqrt(24))
        chi = f[-1][0] - 1
        du = 1.3 * 0.7 * np.outer((1 - x[0] ** 2) * v, xi[0]) / np.sqrt(24)
        v, u = v - 0.5 * chi * 0.7 * x[0] / np.sqrt(24), u - 0.2 * chi * du
    assert np.abs(run.run(24, [0])[0].f[..., 0] - f).max() < 1e-12
    assert np.abs(run.outputs(run.execute(drawn))[0, ..., 0] - f).max() < 1e-12
    same = FiniteTraining(net, data, [1.0], 2, tp.SGD(0.1), chosen=Rates.of(rates={"U": 2, "V": 5}))
    assert np.abs(same.run(24, [0])[0].f[..., 0] - f).max() < 1e-12


def test_training_is_certified_and_predicted_with_the_rates_of_its_parameters():
    net = tp.programs.mlp(depth=2, phi=tp.abstract("phi"))
    run = tp.unroll(net, steps=2, rates={"U": 3, "V": 0}, parametrization="standard")
    assert run.certify().passed and "rates: {" in run.text()
    assert not run.certify(kernel=tp.programs.mlp(depth=2, phi=tp.abstract("phi"), sigma_w=1)).passed
    assert tp.unroll(net, 1, tp.SGD({"U": 0.1, "matrix": 0.2, "V": 0.3})).certify().passed


def test_learning_knows_what_trains():
    y = X[:, 0]
    only = {"trainable": ["V"]}
    assert np.allclose(
        NTKRegressor(NET, **only).fit(X, y).predict(X), NTKRegressor(NET, kind="nngp").fit(X, y).predict(X)
    )
    K = tp.ntk(NET, parametrization="standard")(X)
    found = Dynamics.of(NET, X, y, parametrization="standard")
    assert np.allclose(found.mean(2.0), Dynamics(K, y).mean(2.0), rtol=1e-10)
    assert NTKRegressor(NET, rates={"V": 2}).get_params()["rates"] == {"V": 2}
    with pytest.raises(tp.ProgramError, match="NNGP kernel is that of networks before training"):
        Dynamics.of(NET, X, y, kind="nngp", **only)


@pytest.mark.slow
def test_verification_is_of_what_trains():
    net = tp.programs.mlp(depth=2, phi=tp.tanh)
    v = tp.verify(net, X[:2], widths=(32, 64, 128), seeds=8, trainable=["W", "V"], rates={"V": 0.5})
    assert v.passed and "trained: W, V, rates: {'V': 1/2}" in v.text()
    K = tp.ntk(net, trainable=["W", "V"], rates={"V": 0.5})(X[:2])
    assert np.allclose(v.evidence.runs["NTK"][0], K, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tp.ntk(NET, trainable=["W", "Q"]), "trainable names the unknown parameter 'Q'; known: .*W2"),
        (
            lambda: tp.empirical_ntk(NET, X, width=8, rates={("W", 9): 2}),
            r"rates names the unknown parameter \('W', 9\)",
        ),
        (lambda: tp.unroll(NET, 1, rates={"V": -1}), "the rate of 'V' must not be negative"),
        (lambda: tp.ntk(NET, parametrization="standrd"), "unknown parametrization 'standrd'; did you mean 'standard'"),
        (lambda: tp.empirical_ntk(NET, X, width=8, parametrization=3), "parametrization must be"),
        (lambda: tp.verify(NET, X, parametrization=tp.standard()), "is unstable"),
        (lambda: tp.unroll(NET, 1, tp.SGD({"V": 1})), "lr has no learning rate for U, W2, W3, b1, b2, b3"),
        (lambda: tp.unroll(NET, 1, tp.SGD({"Q": 1})), "lr names the unknown parameter 'Q'"),
        (lambda: tp.SGD({"V": 1}, weight_decay=0.1), "weight_decay needs one learning rate"),
        (lambda: tp.abc([0, 0, 0], [0, 0, 0], [0, 1]), "one c for all layers, or one for each"),
    ],
)
def test_wrong_names_and_rates_are_refused_with_those_there_are(call, words):
    with pytest.raises(tp.TensorProgramError, match=words):
        call()


# ---- adapters ------------------------------------------------------------------------------------------


@tp.network
def adapted(net, x, *, rank=0.25, key="L", start=0):
    h = tp.tanh(net.embed("U", x))
    g = net.dense("W", h, std=1.3) + net.low_rank(key, h, rank, std=0.6, initial=start)
    return net.readout("V", tp.tanh(g))


def test_adapters_that_start_at_zero_have_the_kernel_of_the_layer_they_adapt():
    """B = 0: ∂f/∂A = 0, ∂f/∂B = σ_B dg (A h)ᵀ/√k, so that K = σ_B² E h h' E dg dg', as W's with σ_B for σ_W."""
    base = tp.ntk(adapted(), trainable=["W"])(X) / 1.3**2
    for name, key in (("L", "L"), (("L", 3), ("L", 3))):
        K = tp.ntk(adapted(key=key), trainable=[name])
        assert close(K(X), 0.6**2 * base) and close(K.gram(X), 0.6**2 * base)
        assert close(tp.ntk(adapted(key=key), trainable=["L.B"])(X), 0.6**2 * base)
    assert not tp.ntk(adapted(), trainable=["L.A"])(X).any()
    assert close(tp.nngp(adapted())(X), tp.nngp(adapted(start=0, rank=1))(X))


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, None])
def test_adapters_of_a_quarter_of_the_width_have_the_kernel_of_the_limit(start):
    """Rectangular matrices by hand, width 512 and rank 128: all four gradients in NumPy, within 4 standard errors."""
    n, k, rows = 512, 128, []
    for seed in range(12):
        draw = np.random.default_rng(seed).standard_normal
        u, w, a, v = draw((n, 3)), draw((n, n)), draw((k, n)), draw(n)
        b = np.zeros((n, k)) if start == 0 else draw((n, k))
        h = np.tanh(X[:2] @ u.T / np.sqrt(3))
        z = h @ a.T / np.sqrt(n)
        g = 1.3 * h @ w.T / np.sqrt(n) + 0.6 * z @ b.T / np.sqrt(k)
        dg = (1 - np.tanh(g) ** 2) * v / np.sqrt(n)
        dz = 0.6 * dg @ b / np.sqrt(k)
        rows.append(0.36 * (dg @ dg.T) * (z @ z.T) / k + (dz @ dz.T) * (h @ h.T) / n)
    expected = tp.ntk(adapted(start=start), trainable=["L"])(X[:2])
    error = np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))
    assert (np.abs(np.mean(rows, axis=0) - expected) < 4 * error + 2 * np.abs(expected) / n).all()


@pytest.mark.parametrize("rank", [0, 2, 4, -0.5, "8", True])
def test_ranks_that_are_no_share_are_refused(rank):
    if rank is True:
        rank = (1,)
    with pytest.raises(tp.ProgramError, match="a share of the width"):
        tp.ntk(adapted(rank=rank))


@pytest.mark.slow
def test_shares_below_one_are_not_run_at_finite_width():
    with pytest.raises(tp.NoRuleError, match=r"L.B \(rank = 0.25\)"):
        tp.empirical_ntk(adapted(), X, width=8)
    found = np.mean(tp.empirical_ntk(adapted(rank=1), X[:2], width=512, seeds=8, trainable=["L"]), axis=0)
    assert np.allclose(found, tp.ntk(adapted(), trainable=["L"])(X[:2]), atol=0.03)
