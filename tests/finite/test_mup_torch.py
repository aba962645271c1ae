"""The unrolled program trains in any stable abc-parametrization: against torch, whose weights carry the powers of n.

In torch layer l is W = σ n^(−a_l) w with w = n^(−b_l) N(0, 1) and the learning rate is η n^(−c), nothing else.
"""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.passes.rates import Rates

STEPS, WIDTH, D = 3, 24, 3
SEEDS = [3, 4]
RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((4, D)), RNG.choice([-1.0, 1.0], (3, 1))
PHI = {"tanh": torch.tanh, "relu": torch.relu}


@tp.network
def shallow(net, x, *, phi=tp.tanh):
    h = net.embed("U", x, std=1.2) + net.bias("b1", std=0.4)
    return net.readout("V", phi(h), std=1.3, bias=0.7)


def shallow_torch(p, x, phi):
    h = 1.2 * p["U"] @ x / D**0.5 + 0.4 * p["b1"]
    return 1.3 * p["V"] @ phi(h) + 0.7 * p["V.bias"]


@tp.network
def deep(net, x, *, phi=tp.tanh):
    h = net.embed("U", x, std=1.2) + net.bias("b1", std=0.4)
    h = net.dense("W2", phi(h), std=1.5) + net.bias("b2", std=0.3)
    h = net.dense("W3", phi(h), std=0.9)
    return net.readout("V", phi(h), std=1.3, bias=0.7)


def deep_torch(p, x, phi):
    h = 1.2 * p["U"] @ x / D**0.5 + 0.4 * p["b1"]
    h = 1.5 * p["W2"] @ phi(h) + 0.3 * p["b2"]
    return 1.3 * p["V"] @ phi(0.9 * p["W3"] @ phi(h)) + 0.7 * p["V.bias"]


@tp.network
def tied(net, x, *, phi=tp.tanh):
    """W, Wᵀ and W again, and a residual branch."""
    W, h = net.weight("W2", std=1.1), net.embed("U", x)
    h = h + W.T @ phi(W @ phi(h))
    return net.readout("V", phi(net.dense("W2", phi(h), std=1.1)))


def tied_torch(p, x, phi):
    h = p["U"] @ x / D**0.5
    h = h + 1.1 * p["W2"].T @ phi(1.1 * p["W2"] @ phi(h))
    return p["V"] @ phi(1.1 * p["W2"] @ phi(h))


@tp.network
def normalised(net, x, *, phi=tp.tanh):
    """A layer normalisation and two outputs, which share a readout."""
    h = net.dense("W2", phi(net.embed("U", x)), std=1.4)
    m = tp.moment(lambda a: a**2, h)
    z = tp.nonlin(lambda a, s: a / (1 + s), h, params=[m])
    return net.readout("V", phi(z)), net.readout("A", phi(h), bias=0.5) + net.readout("V", phi(h))


def normalised_torch(p, x, phi):
    h = 1.4 * p["W2"] @ phi(p["U"] @ x / D**0.5)
    z = h / (1 + (h**2).mean())
    return torch.stack([p["V"] @ phi(z), p["A"] @ phi(h) + 0.5 * p["A.bias"][0] + p["V"] @ phi(h)])


NETS = {f.network.__name__: f for f in (shallow, deep, tied, normalised)}
DEEP = tp.abc(a=["-1/2", "1/3", 0, "1/4"], b=["1/2", "1/6", "1/2", "3/4"], c="1/2", output_bias=["1/8", "1/8"])
PARAMETRIZATIONS = {
    "mup": tp.mup(),
    "mup shifted": tp.mup().shift("1/3"),
    "ntk": tp.ntk_parametrization(),
    "standard": tp.standard(c=1),
    "small readout": tp.abc(["-1/2", 0, "1/4"], ["1/2", "1/2", "1/2"], "1/2"),
    "between": tp.abc([0, "1/2", "1/2"], [0, 0, "1/4"], 0),
    "slow hidden layers": tp.abc(["-1/4", "1/4", "1/2"], ["1/4", "1/4", "1/2"], 0),
    "vanishing readout": tp.abc(["-1/2", 0, "1/2"], ["1/2", "1/2", 1], 0),
}


def exponents(name, parametrization):
    """(a, b) of a parameter of the networks above."""
    a, b = parametrization.a, parametrization.b
    if name.endswith(".bias"):
        return parametrization.output_bias
    number = 0 if name[0] in "Ub" else -1 if name[0] in "VA" else (int(name[1:]) - 1 if len(a) > 3 else 1)
    return a[number], b[number]


def run_torch(name, phi, parametrization, parameters, k, *, lr, batch, momentum=0, weight_decay=0, loss="mse"):
    """f_t of all inputs and the final parameters, by autograd and torch's SGD on the weights w."""
    n, fn = WIDTH, globals()[f"{name}_torch"]
    size = {p: [float(n) ** -float(e) for e in exponents(p, parametrization)] for p in parameters}
    w = {p: torch.tensor(size[p][1] * value[k], requires_grad=True) for p, value in parameters.items()}
    rate = lr * float(n) ** -float(parametrization.c)
    optimizer = torch.optim.SGD(list(w.values()), lr=rate, momentum=momentum, weight_decay=weight_decay)

    def outputs():
        scaled = {p: size[p][0] * value for p, value in w.items()}
        return [fn(scaled, torch.tensor(x), PHI[phi]).reshape(-1) for x in X]

    history = []
    for t in range(STEPS + 1):
        f = outputs()
        history.append(np.stack([v.detach().numpy() for v in f]))
        samples = [(t * batch + b) % len(Y) for b in range(batch)]
        y = torch.tensor(Y[samples])
        g = torch.stack([f[j] for j in samples])
        each = (g - y) ** 2 / 2 if loss == "mse" else torch.logaddexp(torch.zeros(()), -y * g)
        if t < STEPS:
            optimizer.zero_grad()
            (each.sum() / batch).backward()
            optimizer.step()
    return np.stack(history)


def compare(name, phi, parametrization, *, lr=0.2, batch=1, momentum=0, weight_decay=0, loss="mse"):
    net = NETS[name](phi=tp.NONLINEARITIES[phi])
    labels = np.tile(Y, len(net.trace([None]).heads[0]))
    run = FiniteTraining(net, read_inputs(X, "X", "vectors"), labels, STEPS, tp.SGD(lr, momentum, weight_decay), batch,
                         loss, Rates.of(parametrization=parametrization))  # fmt: skip
    parameters = run.finite.draw(WIDTH, SEEDS)
    f = run.outputs(run.execute(parameters))
    options = {"lr": lr, "batch": batch, "momentum": momentum, "weight_decay": weight_decay, "loss": loss}
    expected = np.stack([run_torch(name, phi, parametrization, parameters, k, **options) for k in range(len(SEEDS))])
    assert f.shape == expected.shape
    assert np.abs(expected[:, -1] - expected[:, 0]).max() > 0.01 * np.abs(expected).max()
    assert np.abs(f - expected).max() <= 1e-9 * np.abs(expected).max()
    moved = np.stack([r.f for r in run.run(WIDTH, SEEDS)])
    assert np.abs(moved - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("which", PARAMETRIZATIONS)
def test_training_equals_torch(which, name):
    compare(name, "tanh", PARAMETRIZATIONS[which])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("which", ["mup", "standard"])
def test_training_with_kinks_equals_torch(which, name):
    compare(name, "relu", PARAMETRIZATIONS[which])


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_exponents_of_every_layer_equal_torch(phi):
    compare("deep", phi, DEEP)


OPTIONS = {
    "batch": {"batch": 2},
    "full batch with momentum": {"batch": 3, "momentum": 0.7},
    "momentum": {"momentum": 0.5},
    "weight decay": {"weight_decay": 0.1},
    "all": {"batch": 2, "momentum": 0.9, "weight_decay": 0.1, "loss": "logistic"},
    "logistic": {"loss": "logistic"},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("which", ["mup", "between"])
@pytest.mark.parametrize("name", ["deep", "tied"])
def test_options_equal_torch(name, which, option):
    compare(name, "tanh", PARAMETRIZATIONS[which], **OPTIONS[option])


def test_weight_decay_with_a_rate_that_depends_on_the_width_is_refused():
    with pytest.raises(tp.ProgramError, match="shift"):
        compare("deep", "tanh", tp.mup().shift("1/2"), weight_decay=0.1)
