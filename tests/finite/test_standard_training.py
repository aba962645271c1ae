"""Training W itself: networks at width n against gradient descent written out in NumPy, and their kernel."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.passes.rates import Rates

X, Y = np.array([[1.0, 0.5], [0.3, -1.0], [-0.4, 0.8]]), np.array([1.0, -1.0, 0.5])
SIGMA_W, SIGMA_V, ETA, STEPS, WIDTH = 1.4, 0.8, 0.6, 4, 48


def by_hand(run, seed, trained):
    """f = V tanh(U ξ/√d), V = σ_v v, v ~ N(0, 1/n), U = σ_w u, learning rate η/n, full batch, squared loss."""
    drawn = run.finite.draw(WIDTH, [seed])
    u, v = drawn["U"][0], drawn["V"][0] / np.sqrt(WIDTH)
    s, t = (SIGMA_W, SIGMA_V) if trained == "w" else (1.0, 1.0)
    u, v = (u, v) if trained == "w" else (SIGMA_W * u, SIGMA_V * v)
    xi, rate, f = X / np.sqrt(2), ETA / WIDTH, []
    for _ in range(STEPS + 1):
        x = np.tanh(s * xi @ u.T)
        f.append(t * x @ v)
        chi = (f[-1] - Y) / len(Y)
        du = s * t * (chi[:, None] * (1 - x**2) * v).T @ xi
        v, u = v - rate * t * chi @ x, u - rate * du
    return np.array(f)


@pytest.mark.parametrize("trained", ["w", "W"])
def test_training_w_or_its_multiple_is_gradient_descent_on_it(trained):
    net = tp.programs.mlp(depth=1, phi=tp.tanh, sigma_w=SIGMA_W, sigma_b=0, sigma_v=SIGMA_V)
    scheme = tp.standard(1, trained)
    chosen = Rates.of(parametrization=scheme)
    run = FiniteTraining(net, read_inputs(X, "X", "vectors"), Y, STEPS, tp.SGD(ETA), 3, chosen=chosen,
                         probes=(0, 2))  # fmt: skip
    expected = np.stack([by_hand(run, seed, trained) for seed in (0, 1)])
    moved = run.run(WIDTH, [0, 1])
    unrolled = run.execute(run.finite.draw(WIDTH, [0, 1]))
    for f in (np.stack([r.f for r in moved]), run.outputs(unrolled)):
        assert np.abs(f[..., 0] - expected).max() < 1e-10
    for k, t in enumerate((0, 2)):
        assert np.allclose(np.stack([r.ntk[k] for r in moved]), run.ntk(unrolled, t), rtol=1e-10)
    assert np.allclose(run.kernel()[:, 0, :, 0], tp.ntk(net, parametrization=scheme)(X), rtol=1e-12)


def test_networks_whose_own_weights_train_follow_their_kernel():
    net = tp.programs.mlp(depth=2, phi=tp.tanh, sigma_w=SIGMA_W, sigma_v=SIGMA_V)
    options = {"widths": (64, 256, 1024), "seeds": 12, "steps": 3, "batch": 3, "optimizer": tp.SGD(0.5)}
    report = tp.train(net, X, Y, parametrization=tp.standard(1, "W"), **options)
    assert report.passed and any(c.passed for c in report.claims if "prediction" in c.name), report.text()
