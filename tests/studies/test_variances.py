"""E Θ²/(E Θ)² against the exact law of relu networks, values known from elsewhere, and PyTorch's gradients."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.studies import variance
from tensorprog.studies.exact_relu import relu_moments, relu_ratio
from tensorprog.studies.variances import ratio

mlp = tp.programs.mlp
HE = np.sqrt(2)


def test_one_layer_by_hand():
    """Θ = (1/n) Σ_α (x_α² + v_α² step_α σ²), with x_α² = σ² g_α² step_α: a mean of n independent terms."""
    n, first, second = 7, 2.0, 2 * (3 + 2 + 3)  # E t, and E t² of t = 2 step (g² + v²): 4·(E g⁴ + 2 + E v⁴)/2
    mean, square = relu_moments(1, n, HE)
    assert mean == pytest.approx(first, abs=2 * 0.5**n)
    assert square == pytest.approx(first**2 + (second - first**2) / n, rel=1e-2)


def test_depth_does_not_change_the_mean_beyond_the_limit():
    for depth in (2, 5):
        mean, _ = relu_moments(depth, 200, HE)
        assert mean == pytest.approx(float(tp.ntk(mlp(depth=depth, phi=tp.relu))([[1.0]])[0, 0]), rel=1e-10)


def test_the_exact_error_is_that_of_repetition():
    """Θ drawn by the recursion of the module's head, layer by layer, many times."""
    rng, n, count, depth = np.random.default_rng(0), 12, 400_000, 3
    s, g = np.ones(count), rng.standard_normal(count) ** 2
    b = np.full(count, 0.5)
    for _ in range(depth):
        k = np.maximum(rng.binomial(n, 0.5, count), 1)
        x, y = rng.chisquare(k), np.where(k > 1, rng.chisquare(np.maximum(k - 1, 1)), 0.0)
        b = g / n + 2 / n * y * b
        s, g = 2 / n * x * s + 2 * b, 2 / n * x * g
    exact, error = relu_ratio(100, depth, n, HE)
    moments = relu_moments(depth, n, HE, order=4)
    for p, m in enumerate(moments[:3], start=1):
        assert abs((s**p).mean() - m) < 4 * (s**p).std() / np.sqrt(count)
    chunks = np.array([ratio(t)[1] for t in s.reshape(-1, 100, 1)])
    assert chunks.std() == pytest.approx(error, rel=0.35)  # the spread of a heavy-tailed estimate, itself one
    assert abs((s**2).mean() / s.mean() ** 2 - exact) < 4 * error / np.sqrt(count / 100)


@pytest.mark.parametrize("trained", ["w", "W"])
def test_networks_have_the_exact_ratio(trained):
    study = variance(mlp(depth=3, phi=tp.relu), widths=(8, 32), seeds=2000, trained=trained)
    assert study.passed and np.isfinite(study.numbers["exact"]).all(), study.text()
    wrong = study.numbers["exact"] - relu_moments(2, 32, HE)[1] / relu_moments(2, 32, HE)[0] ** 2
    assert np.abs(wrong[0] / study.numbers["exact_stderr"][1]) > 4  # another depth would be noticed


@tp.network
def biased(net, x, *, depth=10):
    """The network of the source, whose output has a bias."""
    h = net.embed("U", x, std=1) + net.bias(("b", 1), std=1)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), tp.relu(h), std=1) + net.bias(("b", l), std=1)
    return net.readout("V", tp.relu(h), bias=1)


@pytest.mark.parametrize("trained, known", [("w", 1.067), pytest.param("W", 1.134, marks=pytest.mark.slow)])
def test_the_network_of_the_source_at_width_50(trained, known):
    study = variance(biased(), widths=(50,), seeds=600, trained=trained)
    assert abs(study.numbers["ratio"][0] - known) < 4 * study.numbers["stderr"][0] + 0.005


def test_gradients_by_W_are_those_of_torch():
    """Of Σ (∂f/∂W)²/n, up to rounding, on the same weights."""
    from tensorprog.studies.variances import Sampled

    n, sampled = (
        16,
        Sampled(mlp(depth=2, phi=tp.tanh, sigma_w=1.3, sigma_b=0.4, sigma_v=0.7), [[1.0, -2.0, 0.5]], "W", None, 0),
    )
    drawn = {k: torch.tensor(v[0]) for k, v in sampled.kernel.draw(n, [5]).items()}
    scale = {"U": 1.3 / 3**0.5, "b1": 0.4, "W2": 1.3 / n**0.5, "b2": 0.4, "V": 0.7 / n**0.5}
    U, b1, W, b2, V = ((s * drawn[k]).requires_grad_() for k, s in scale.items())
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    f = V @ torch.tanh(W @ torch.tanh(U @ x + b1) + b2)
    total = sum((g**2).sum() for g in torch.autograd.grad(f, (U, b1, W, b2, V))) / n
    assert sampled._run(n, [5])[0].theta[0] == pytest.approx(float(total), rel=1e-9)


def test_the_error_of_the_ratio_is_that_of_repetition():
    theta = np.exp(0.3 * np.random.default_rng(1).standard_normal((400, 200, 1)))
    found = np.array([ratio(t) for t in theta])
    assert found[:, 2].mean() == pytest.approx(found[:, 1].std(), rel=0.15)


def test_a_standard_error_is_reached_and_the_study_resumes(tmp_path):
    settings = {"widths": (8,), "seeds": 10, "error": 0.004, "out": tmp_path}
    study = variance(mlp(depth=1, phi=tp.tanh), {"sigma_w": [1.0]}, **settings)
    assert study.passed and study.numbers["networks"][0, 0] > 10
    lines = (tmp_path / "variance-0-8.jsonl").read_text()
    again = variance(mlp(depth=1, phi=tp.tanh), {"sigma_w": [1.0]}, **settings)
    assert (tmp_path / "variance-0-8.jsonl").read_text() == lines
    assert np.array_equal(again.numbers["ratio"], study.numbers["ratio"])
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))


@pytest.mark.slow
def test_the_spread_grows_with_depth_in_chaos():
    grid = {"sigma_w": [1.0, 2.0], "depth": [2, 8]}
    study = variance(mlp(phi=tp.tanh, sigma_b=0.5), grid, widths=(24,), seeds=150)
    claim = next(c for c in study.claims if "chaos" in c.name)
    assert claim.passed, study.text()
    assert study.numbers["chi"][0, 0] < 1 < study.numbers["chi"][1, 0]
    assert study.numbers["ratio"][0].max() < 1.3


BAD = {
    "a grid": (lambda: variance(mlp(), [1]), "grid must map"),
    "a hyperparameter": (lambda: variance(mlp(), {"sigma": [1]}), "no hyperparameter 'sigma'"),
    "seeds": (lambda: variance(mlp(), seeds=1), "seeds must be"),
    "trained": (lambda: variance(mlp(), trained="v"), "trained is 'w'"),
    "a jump": (lambda: variance(mlp(phi=tp.sign)), "jumps"),
    "inputs": (lambda: variance(tp.programs.cnn()), "give inputs X"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
