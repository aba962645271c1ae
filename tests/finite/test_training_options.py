"""Every option of training, on two networks: five steps against torch.optim.SGD on the same weights."""

import time

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tests.finite.trained_in_torch import TRAINED, Both


def decreasing(t):
    """A learning rate as a function of time."""
    return 0.3 / (t + 1)


OPTIONS = {
    "batch-2": {"batch": 2},
    "full-batch": {"batch": TRAINED},
    "momentum-0.5": {"momentum": 0.5},
    "momentum-0.9": {"momentum": 0.9, "batch": TRAINED},
    "weight-decay": {"weight_decay": 0.1},
    "both": {"momentum": 0.9, "weight_decay": 0.1},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "nesterov-with-both": {"momentum": 0.5, "weight_decay": 0.1, "nesterov": True, "batch": 2},
    "lr-list": {"lr": [0.3, 0.0, 0.1, 0.2, 0.05]},
    "lr-list-with-both": {"lr": [0.3, 0.0, 0.1, 0.2, 0.05], "momentum": 0.5, "weight_decay": 0.1, "batch": 2},
    "lr-function": {"lr": decreasing},
    "lr-function-with-momentum": {"lr": decreasing, "momentum": 0.9},
    "logistic": {"loss": "logistic"},
    "logistic-with-both": {"loss": "logistic", "momentum": 0.5, "weight_decay": 0.1, "batch": TRAINED},
    "quartic": {"loss": "quartic", "lr": 0.05},
    "quartic-with-both": {"loss": "quartic", "lr": 0.05, "momentum": 0.5, "weight_decay": 0.1, "batch": 2},
}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["biased", "two_outputs"])
def test_every_option_equals_torch(name, option):
    Both(name, "tanh", {}, **{"lr": 0.1, "probes": (2,), **option}).check()


# ---- long runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_coefficients_as_numbers_are_those_of_the_exact_expressions(nesterov):
    o = tp.SGD([0.3, 0.2, 0.1, 0.25], momentum=0.5, weight_decay=0.1, nesterov=nesterov)
    for t, (a, c) in enumerate(o._numbers(4, {})):
        assert a == pytest.approx(float(o.decay(t)), abs=1e-15)
        assert c == pytest.approx([float(o.weight(t, s)) for s in range(t)], abs=1e-15)


def small_run(lr, steps=6, **options):
    X = np.random.default_rng(2).standard_normal((4, 3))
    net = tp.programs.mlp(depth=2, phi=tp.relu, sigma_b=0.3)
    return FiniteTraining(net, read_inputs(X, "X", net.form), [1.0, -1.0, 0.5], steps, tp.SGD(lr, **options), 2)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_predictions_by_steps_are_the_sum_over_all_earlier_steps(options):
    run = small_run(0.2, **options)
    [found] = run.run(64, [3])
    f = run.predict(found.f[None, 0], found.chi[None])[0]
    kernel = run.kernel()[:, 0, :, 0]
    for t in range(7):
        c = [float(run.plan.optimizer.weight(t, s)) / 2 for s in range(t)]
        pushes = [c[s] * kernel[:, list(run.plan.schedule[s])] @ found.chi[s, :, 0] for s in range(t)]
        assert np.abs(found.f[0, :, 0] - sum(pushes, np.zeros(4)) - f[t, :, 0]).max() < 1e-12


def test_a_run_ends_where_its_outputs_explode_whatever_runs_beside_it():
    with pytest.warns(RuntimeWarning, match=r"reaches .* at step \d, where the run ends; lower the learning rate"):
        together = small_run(60.0).run(32, [0, 1, 2])
    with pytest.warns(RuntimeWarning):
        alone = small_run(60.0).run(32, [1])[0]
    np.testing.assert_allclose(together[1].f, alone.f, rtol=1e-9)
    ends = [int(np.isfinite(r.f).all(axis=(1, 2)).sum()) for r in together]
    assert all(1 < end < 7 and np.isnan(r.f[end:]).all() for end, r in zip(ends, together, strict=True))
    assert all(np.abs(r.f[end - 1]).max() > 1e6 for end, r in zip(ends, together, strict=True))


@pytest.mark.slow
def test_steps_at_width_512_take_less_than_thrice_their_matrix_products():
    n, count, steps = 512, 64, 150
    rng = np.random.default_rng(0)
    X, net = rng.standard_normal((count, 10)), tp.programs.mlp(depth=3, phi=tp.tanh, sigma_w=1.2, sigma_b=0.3)
    run = FiniteTraining(net, read_inputs(X, "X", net.form), np.sin(X[:, 0]), steps, tp.SGD(0.1, momentum=0.5), count)
    W, H, U = rng.standard_normal((n, n)), rng.standard_normal((n, count)), rng.standard_normal((n, 10))
    start = time.process_time()
    for _ in range(steps):
        products = [U @ X.T, W @ H, W @ H, W.T @ H, W.T @ H, H @ H.T, H @ H.T, H @ X]
    middle = time.process_time()
    [found] = run.run(n, [0])
    taken = time.process_time() - middle
    assert len(products) == 8 and taken < 3 * (middle - start), (taken, middle - start)
    assert np.abs(found.f[-1] - found.f[0]).max() > 0.1
