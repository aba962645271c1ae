"""Training of networks over positions at width n against PyTorch's SGD on the same weights, step by step."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.direct import DirectTraining
from tensorprog.finite.trajectories import FiniteTraining
from tests.convolutions import CASES, assert_close

WIDTH, STEPS, SEEDS = 16, 4, [3, 4]
TRAINED = {"conv1d", "conv2d", "conv2d, valid", "flatten, 2 axes", "strides, 2 axes", "untied", "pixels"}
OPTIMIZERS = {"plain": {}, "momentum and decay": {"momentum": 0.6, "weight_decay": 0.02}}


def data(sizes):
    rng = np.random.default_rng(8)
    return rng.standard_normal((4, *sizes, 2)), np.array([0.5, -1.0, 0.8])


def trained_by_torch(fn, start, X, y, lr, momentum=0, weight_decay=0, batch=2):
    """Outputs of all inputs at times 0 .. STEPS, by torch.optim.SGD."""
    p = {n: torch.tensor(w.astype(float), requires_grad=True) for n, w in start.items()}
    optimizer = torch.optim.SGD(p.values(), lr=lr, momentum=momentum, weight_decay=weight_decay)

    def f(i):
        return fn(p, torch.tensor(X[i]).movedim(-1, 0)) + 0.5 * p.get("V.bias", torch.zeros(1))[0]

    found = []
    for t in range(STEPS + 1):
        found.append([f(i).item() for i in range(len(X))])
        optimizer.zero_grad()
        samples = [(t * batch + b) % len(y) for b in range(batch)]
        sum(((f(j) - y[j]) ** 2 / 2 for j in samples), start=torch.zeros(())).div(batch).backward()
        optimizer.step()
    return np.array(found)


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_sgd_moves_the_outputs_as_torch_does(name, options):
    net, fn, sizes = CASES[name]
    X, y = data(sizes)
    run = FiniteTraining(net, read_inputs(X, "X", net.form), y, STEPS, tp.SGD(0.3, **options), batch=2)
    ((f, *_),) = run.descent.run(WIDTH, SEEDS)
    start = run.descent.draw(WIDTH, SEEDS)[0]
    for k in range(len(SEEDS)):
        one = {n: w[k] for n, w in start.items()}
        assert_close(f[k, :, :, 0], trained_by_torch(fn, one, X, y, 0.3, **options))


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_so_does_training_in_any_parametrization(name):
    net, fn, sizes = CASES[name]
    X, y = data(sizes)
    direct = DirectTraining(net, read_inputs(X, "X", net.form), y, tp.ntk_parametrization(), tp.SGD(0.3), batch=2)
    f = np.stack([f for _, f in direct.run(WIDTH, SEEDS, STEPS)], axis=1)
    start = direct.finite.draw(WIDTH, SEEDS)
    for k in range(len(SEEDS)):
        assert_close(f[k], trained_by_torch(fn, {n: w[k] for n, w in start.items()}, X, y, 0.3))
