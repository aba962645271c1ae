"""The unrolled program, executed, is the training run: five steps against torch.optim.SGD on the same weights.

Every network is written here a second time, as a torch function of its N(0, 1) parameters that knows
nothing of programs; all errors are relative to the largest output.
"""

import numpy as np
import pytest
import sympy as sp
import torch
from torch.nn import functional

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining

STEPS, WIDTH, DIMENSION = 5, 128, 3
SEEDS = [3, 4]
TRAINED, FOLLOWED = 3, 1
PROBES = (0, 1, STEPS)
TORCH_PHI = {"relu": torch.relu, "erf": torch.erf, "tanh": torch.tanh, "gelu": functional.gelu}


# ---- the networks, as programs and in torch ------------------------------------------------------


def embed(p, key, x, std=1.0):
    return std * p[key] @ x / x.shape[0] ** 0.5


def dense(p, key, h, std=1.0, transpose=False):
    return std * (p[key].T if transpose else p[key]) @ h / h.shape[0] ** 0.5


def readout(p, key, h, std=1.0):
    return std * p[key] @ h / h.shape[0] ** 0.5


@tp.network
def biased(net, x, *, phi=tp.tanh):
    """An MLP with a standard deviation of its own for everything, biases and a readout bias among them."""
    h = net.embed("U", x, std=1.2) + net.bias("b1", std=0.4)
    h = net.dense("W2", phi(h), std=1.5) + net.bias("b2", std=0.3)
    h = net.dense("W3", phi(h), std=0.9) + net.bias("b3", std=0.5)
    return net.readout("V", phi(h), std=1.3, bias=0.7)


def biased_torch(p, x, i, phi):
    h = embed(p, "U", x, 1.2) + 0.4 * p["b1"]
    h = dense(p, "W2", phi(h), 1.5) + 0.3 * p["b2"]
    h = dense(p, "W3", phi(h), 0.9) + 0.5 * p["b3"]
    return readout(p, "V", phi(h), 1.3) + 0.7 * p["V.bias"]


def tied_mlp_torch(p, x, i, phi, depth=3, sigma_w=1.0, sigma_b=0.0):
    bias = sigma_b * p["b"]
    h = embed(p, "U", x) + bias
    for _ in range(depth - 1):
        h = dense(p, "W", phi(h), sigma_w) + bias
    return readout(p, "V", phi(h))


@tp.network
def back_and_forth(net, x, *, phi=tp.tanh):
    """W, then Wᵀ, then W again."""
    W = net.weight("W", std=1.3)
    return net.readout("V", phi(W @ phi(W.T @ phi(W @ phi(net.embed("U", x))))))


def back_and_forth_torch(p, x, i, phi):
    h = dense(p, "W", phi(embed(p, "U", x)), 1.3)
    h = dense(p, "W", phi(h), 1.3, transpose=True)
    return readout(p, "V", phi(dense(p, "W", phi(h), 1.3)))


@tp.network
def normalised(net, x):
    """Layer normalisations: scalars of scalars, a gate, two readouts and a readout bias."""
    h = net.embed("U", x, std=1.2)
    s = tp.moment(lambda a: a**2, h)
    z = tp.nonlin(lambda a, m: sp.tanh(a / sp.sqrt(m + 1)), h, params=[s])
    g = net.dense("W", z, std=1.4) + net.bias("b", std=0.3)
    mean = tp.moment(lambda a: a, g)
    variance = tp.moment(lambda a, m: (a - m) ** 2, g, params=[mean])
    y = tp.nonlin(lambda a, m, v: sp.erf((a - m) / sp.sqrt(v + 1)), g, params=[mean, variance])
    gate = s * variance + mean
    back = net.weight("W", std=1.4).T @ (gate * y)
    overlap = tp.moment(lambda a, c, q: a * c * q, back, h, params=[gate])
    last = tp.nonlin(lambda a, c, q: sp.tanh(a) + c * sp.sin(q), back, y, params=[overlap])
    return net.readout("V", last, std=0.9, bias=0.7) + net.readout("V2", y, std=2)


def normalised_torch(p, x, i, phi):
    h = embed(p, "U", x, 1.2)
    s = (h**2).mean()
    z = torch.tanh(h / (s + 1) ** 0.5)
    g = dense(p, "W", z, 1.4) + 0.3 * p["b"]
    mean, variance = g.mean(), g.var(correction=0)
    y = torch.erf((g - mean) / (variance + 1) ** 0.5)
    gate = s * variance + mean
    back = dense(p, "W", gate * y, 1.4, transpose=True)
    overlap = (back * h * gate).mean()
    last = torch.tanh(back) + y * torch.sin(overlap)
    return readout(p, "V", last, 0.9) + 0.7 * p["V.bias"] + readout(p, "V2", y, 2)


@tp.network
def two_outputs(net, x, *, phi=tp.tanh):
    """Two outputs of one body, which share a readout vector and have a bias each."""
    h = net.embed("U", x) + net.bias("b", std=0.2)
    g = net.dense("W", phi(h), std=1.3)
    first = net.readout("A", phi(g), std=1.1, bias=0.4)
    second = net.readout("B", phi(h), std=0.8, bias=0.6) + net.readout("A", phi(h), std=1.1)
    return first, second


def two_outputs_torch(p, x, i, phi):
    h = embed(p, "U", x) + 0.2 * p["b"]
    g = dense(p, "W", phi(h), 1.3)
    first = readout(p, "A", phi(g), 1.1) + 0.4 * p["A.bias"]
    second = readout(p, "B", phi(h), 0.8) + 0.6 * p["B.bias"] + readout(p, "A", phi(h), 1.1)
    return torch.stack([first.reshape(()), second.reshape(())])


@tp.network
def reread(net, x, *, phi=tp.tanh, scales=(0.5, 0.5)):
    """An output that reads one readout vector and one readout bias twice."""
    h = net.embed("U", x)
    g = net.dense("W", phi(h))
    return net.readout("V", phi(h), bias=scales[0]) + net.readout("V", phi(g), bias=scales[1])


def reread_torch(p, x, i, phi, scales=(0.5, 0.5)):
    h = embed(p, "U", x)
    g = dense(p, "W", phi(h))
    return readout(p, "V", phi(h)) + readout(p, "V", phi(g)) + sum(scales) * p["V.bias"]


def mlp_torch(p, x, i, phi, depth=3, sigma_w=2**0.5, sigma_b=0.0):
    h = embed(p, "U", x, sigma_w)
    for l in range(1, depth + 1):
        h = dense(p, f"W{l}", phi(h), sigma_w) if l > 1 else h
        h = h + sigma_b * p[f"b{l}"] if sigma_b else h
    return readout(p, "V", phi(h))


def deep_linear_torch(p, x, i, phi, depth=3, sigma_w=1.0):
    return mlp_torch(p, x, i, lambda h: h, depth, sigma_w)


def residual_mlp_torch(p, x, i, phi, depth=3, alpha=1.0):
    h = embed(p, "U", x)
    for l in range(2, depth + 1):
        h = h + alpha * dense(p, f"W{l}", phi(h))
    return readout(p, "V", phi(h))


def mean_readout_torch(p, x, i, phi, depth=2):
    h = embed(p, "U", x)
    for l in range(2, depth + 1):
        h = dense(p, f"W{l}", phi(h))
    return phi(h).sum() / h.shape[0] ** 0.5


def tied_autoencoder_torch(p, x, i, phi, sigma_w=1.0):
    code = phi(dense(p, "W", embed(p, "U", x), sigma_w))
    return readout(p, "V", phi(dense(p, "W", code, sigma_w, transpose=True)))


def rnn_torch(p, x, i, phi, layers=1, sigma_w=1.0, sigma_b=0.0, sigma_h=0.0):
    state = {}
    for below in x:
        for l in range(1, layers + 1):
            index = "" if layers == 1 else str(l)
            h = (embed if l == 1 else dense)(p, f"U{index}", below)
            if sigma_b:
                h = h + sigma_b * p[f"b{index}"]
            if l in state:
                h = h + dense(p, f"W{index}", state[l], sigma_w)
            elif sigma_h:
                h = h + dense(p, f"W{index}", sigma_h * p[f"h{l}(x[{i}])"], sigma_w)
            below = state[l] = phi(h)
    return readout(p, "V", below)


OWN = {f.network.__name__: f for f in (biased, back_and_forth, normalised, two_outputs, reread)}
WITHOUT_PHI = {"deep_linear", "normalised"}

# (architecture, nonlinearity, hyperparameters, learning rate)
NETWORKS = [
    ("mlp", "relu", {"depth": 3, "sigma_b": 0.3}, 0.2),
    ("mlp", "tanh", {"depth": 1}, 0.5),
    ("mlp", "tanh", {"depth": 4, "sigma_w": 1.5, "sigma_b": 0.2}, 0.2),
    ("biased", "tanh", {}, 0.2),
    ("biased", "relu", {}, 0.2),
    ("tied_mlp", "tanh", {"depth": 4, "sigma_w": 1.4, "sigma_b": 0.3}, 0.1),
    ("tied_mlp", "relu", {"depth": 4, "sigma_w": 1.4, "sigma_b": 0.3}, 0.05),
    ("residual_mlp", "tanh", {"depth": 4, "alpha": 0.5}, 0.2),
    ("residual_mlp", "gelu", {"depth": 3}, 0.1),
    ("tied_autoencoder", "erf", {"sigma_w": 1.3}, 0.2),
    ("tied_autoencoder", "relu", {}, 0.2),
    ("back_and_forth", "tanh", {}, 0.1),
    ("rnn", "tanh", {"sigma_w": 1.2, "sigma_b": 0.3, "sigma_h": 0.6}, 0.1),
    ("rnn", "relu", {"sigma_h": 1}, 0.1),
    ("rnn", "tanh", {"layers": 2, "sigma_b": 0.3, "sigma_h": 0.5}, 0.1),
    ("deep_linear", None, {"depth": 3, "sigma_w": 1.1}, 0.1),
    ("normalised", None, {}, 0.03),
    ("mean_readout", "tanh", {"depth": 3}, 0.05),
    ("mean_readout", "relu", {}, 0.05),
    ("two_outputs", "tanh", {}, 0.2),
    ("reread", "tanh", {}, 0.1),
]
IDS = [f"{name}-{phi or 'linear'}-{k}" for k, (name, phi, *_) in enumerate(NETWORKS)]
SLOW = ("rnn-tanh-14",)
RAGGED = (2, 3, 1, 2)


def build(name, phi, hyperparameters):
    """The network and its torch function of (parameters, input, number of the input)."""
    given = {} if name in WITHOUT_PHI else {"phi": tp.NONLINEARITIES[phi]}
    net = (OWN.get(name) or tp.programs.GALLERY[name])(**given, **hyperparameters)
    function = globals()[f"{name}_torch"]
    return net, lambda p, x, i: function(p, x, i, TORCH_PHI.get(phi), **hyperparameters)


# ---- losses and training in torch ----------------------------------------------------------------


def quartic(f, y):
    """A loss that the package does not know by name; of several outputs it gets tuples."""
    return sum((a - b) ** 4 / 4 for a, b in zip(f, y, strict=True)) if isinstance(f, tuple) else (f - y) ** 4 / 4


LOSSES = {
    "mse": ("mse", lambda f, y: ((f - y) ** 2 / 2).sum()),
    "logistic": ("logistic", lambda f, y: torch.logaddexp(torch.zeros_like(f), -y * f).sum()),
    "quartic": (quartic, lambda f, y: ((f - y) ** 4 / 4).sum()),
}


def data(net):
    """Inputs, and labels of ±1 (so that every loss takes them) for all but the last."""
    rng = np.random.default_rng(23)
    count = TRAINED + FOLLOWED
    X = rng.standard_normal((count, DIMENSION))
    if net.takes_sequences:
        X = [rng.standard_normal((t, DIMENSION)) for t in RAGGED]
    heads = len(net.trace([1] if net.takes_sequences else [None]).heads[0])
    return X, rng.choice([-1.0, 1.0], (TRAINED, heads))


class Both:
    """A training run as a program and in torch, from the same parameters."""

    def __init__(self, name, phi, hyperparameters, lr, *, batch=1, momentum=0, weight_decay=0, nesterov=False,
                 loss="mse", trainable=None, width=WIDTH, seeds=SEEDS, probes=PROBES):  # fmt: skip
        self.net, self.fn = build(name, phi, hyperparameters)
        self.X, self.y = data(self.net)
        self.batch, self.probes, self.width, self.seeds = batch, probes, width, seeds
        self.loss, self.torch_loss = LOSSES[loss]
        rates = lr if callable(lr) else (lambda t: lr[t]) if isinstance(lr, list) else (lambda t: lr)
        self.options = [{"lr": rates(t), "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
                        for t in range(STEPS)]  # fmt: skip
        self.run = FiniteTraining(
            self.net, read_inputs(self.X, "X", self.net.form), self.y, STEPS,
            tp.SGD(lr, momentum, weight_decay, nesterov), batch, self.loss, trainable, probes,
        )  # fmt: skip
        self.parameters = self.run.finite.draw(width, seeds)
        self.values = self.run.execute(self.parameters)
        self.f = self.run.outputs(self.values)
        self.trainable = trainable
        self.torch_runs = [self._torch(k) for k in range(len(seeds))]
        self.torch_f = np.stack([f for f, _, _ in self.torch_runs])

    def trained(self):
        """Names of the parameters that torch trains: chosen by name, or by what the name starts with."""
        kinds = {"matrix": "W", "embedding": "U", "bias": "b", "readout": ("V", "A", "B")}
        names = [n for n in self.parameters if not n.startswith("h")]
        if self.trainable is None:
            return names
        chosen = [n for n in names if n in self.trainable]
        for kind in {*self.trainable} & {*kinds}:
            chosen += [n for n in names if n.startswith(kinds[kind]) and not n.endswith(".bias")]
        return chosen

    def _torch(self, k):
        """(outputs at all times, NTK of the trained parameters at the probes, final parameters) of seed k."""
        names = self.trained()
        p = {n: torch.tensor(w[k], requires_grad=n in names) for n, w in self.parameters.items()}
        trained = [p[n] for n in names]
        optimizer = torch.optim.SGD(trained, **self.options[0])
        X, y = [torch.tensor(x) for x in self.X], torch.tensor(self.y)
        outputs, kernels = [self._outputs(p, X)], {}
        for t in range(STEPS + 1):
            if t in self.probes:
                kernels[t] = self._ntk(p, X, trained)
            if t == STEPS:
                break
            samples = [(t * self.batch + b) % TRAINED for b in range(self.batch)]
            losses = [self.torch_loss(self.fn(p, X[j], j).reshape(-1), y[j]) for j in samples]
            optimizer.param_groups[0].update(self.options[t])
            optimizer.zero_grad()
            (sum(losses) / self.batch).backward()
            optimizer.step()
            outputs.append(self._outputs(p, X))
        return np.stack(outputs), kernels, {n: w.detach().numpy() for n, w in p.items()}

    def _outputs(self, p, X):
        with torch.no_grad():
            return np.stack([self.fn(p, x, i).reshape(-1).numpy() for i, x in enumerate(X)])

    def _ntk(self, p, X, trained):
        rows = []
        for i, x in enumerate(X):
            first = self.fn(p, x, i).reshape(-1)[0]
            grads = torch.autograd.grad(first, trained, allow_unused=True, materialize_grads=True)
            rows.append(np.concatenate([g.numpy().ravel() for g in grads]))
        return np.stack(rows) @ np.stack(rows).T

    def now(self, t, name):
        """A vector of the forward program at time t: x̂_t + θ δx_t."""
        var, u = self.run.training.trace.program.named(name), self.run.u
        delta = u.delta.get((t, var))
        moved = self.values[u.theta] * self.values[delta] if delta is not None else 0.0
        return self.values[u.base.get((t, var), var)] + moved

    def check(self):
        """Outputs and probed NTKs of the program and of the moved weights are torch's, and torch's outputs move."""
        assert np.abs(self.torch_f[:, -1] - self.torch_f[:, 0]).max() > 0.02 * np.abs(self.torch_f).max()
        assert_close(self.f, self.torch_f)
        moved = self.run.run(self.width, self.seeds)
        assert_close(np.stack([r.f for r in moved]), self.torch_f)
        for i, t in enumerate(self.probes):
            expected = np.stack([kernels[t] for _, kernels, _ in self.torch_runs])
            assert_close(self.run.ntk(self.values, t), expected)
            assert_close(np.stack([r.ntk[i] for r in moved]), expected)


def assert_close(actual, expected, rtol=1e-9):
    """The largest error relative to the largest entry."""
    assert np.shape(actual) == np.shape(expected)
    assert np.max(np.abs(np.asarray(actual) - expected)) <= rtol * np.max(np.abs(expected))


# ---- every architecture --------------------------------------------------------------------------


def test_every_entry_of_the_gallery_is_trained():
    assert {name for name, *_ in NETWORKS} >= set(tp.programs.GALLERY)


@pytest.mark.parametrize("case", NETWORKS, ids=IDS)
def test_plain_sgd_equals_torch(case):
    Both(*case).check()


WITH_SLOW = [pytest.param(c, id=i, marks=[pytest.mark.slow] * (i in SLOW)) for c, i in zip(NETWORKS, IDS, strict=True)]


@pytest.mark.parametrize("case", WITH_SLOW)
def test_momentum_and_weight_decay_on_batches_equal_torch(case):
    *network, lr = case
    Both(*network, lr / 2, batch=2, momentum=0.5, weight_decay=0.1).check()


@pytest.mark.parametrize("case", [NETWORKS[3], NETWORKS[11]], ids=lambda c: c[0])
@pytest.mark.parametrize("width", [1, 7, 512])
def test_it_is_exact_at_every_width(case, width):
    *network, lr = case
    Both(*network, lr / 2, width=width, seeds=[9], momentum=0.5, probes=(STEPS,)).check()


def test_a_readout_bias_may_be_read_with_two_scales():
    Both("reread", "tanh", {"scales": (0.4, 0.9)}, 0.1, probes=()).check()


# ---- every option --------------------------------------------------------------------------------


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


# ---- subsets of the parameters -------------------------------------------------------------------

SUBSETS = {
    "matrices": ["matrix"],
    "embedding": ["embedding"],
    "biases": ["bias"],
    "readout": ["readout"],
    "readout-bias": ["V.bias"],
    "two-names": ["W2", "b1"],
    "a-name-and-a-kind": ["W3", "embedding", "V.bias"],
}
FIXED = ["U(x[0])", "U(x[3])", "b1", "b2", "b3", "V"]


@pytest.mark.parametrize("probes", [(), PROBES], ids=["outputs", "kernels-too"])
@pytest.mark.parametrize("decay", [0, 0.1], ids=["plain", "weight-decay"])
@pytest.mark.parametrize("subset", SUBSETS.values(), ids=SUBSETS)
def test_training_some_parameters_equals_torch(subset, decay, probes):
    Both("biased", "tanh", {}, 0.3, trainable=subset, weight_decay=decay, probes=probes).check()


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "momentum": 0.5}], ids=["plain", "both"])
@pytest.mark.parametrize("subset", [None, *SUBSETS.values()], ids=["all", *SUBSETS])
def test_vectors_of_trained_parameters_are_those_of_torch_and_untrained_ones_stay(subset, options):
    both = Both("biased", "tanh", {}, 0.2, trainable=subset, probes=(), **options)
    std = {"U": 1.2, "b1": 0.4, "b2": 0.3, "b3": 0.5, "V": 1.0}
    trained = both.trained()
    for name in FIXED:
        parameter = name.partition("(")[0]
        if parameter not in trained:
            np.testing.assert_array_equal(both.now(STEPS, name), both.now(0, name))
            continue
        for k, (_, _, final) in enumerate(both.torch_runs):
            w = final[parameter]
            if parameter == "U":
                w = w @ both.X[int(name[4])] / DIMENSION**0.5
            assert_close(both.now(STEPS, name)[k], std[parameter] * w)
            assert np.abs(both.now(STEPS, name)[k] - both.now(0, name)[k]).max() > 1e-3


def test_only_the_recurrent_matrix_of_an_rnn_moves():
    Both("rnn", "tanh", {"layers": 2, "sigma_b": 0.3, "sigma_h": 0.5}, 0.3, trainable=["W1", "W2"]).check()


# ---- what run returns ----------------------------------------------------------------------------


def test_run_gives_the_outputs_the_derivatives_and_the_kernels_of_every_seed():
    both = Both("two_outputs", "tanh", {}, 0.1, batch=2)
    runs = both.run.run(WIDTH, SEEDS)
    assert len(runs) == len(SEEDS)
    for k, run in enumerate(runs):
        f, kernels, _ = both.torch_runs[k]
        assert_close(run.f, f)
        assert_close(run.ntk, np.stack([kernels[t] for t in PROBES]))
        samples = [[(t * 2 + b) % TRAINED for b in range(2)] for t in range(STEPS)]
        assert_close(run.chi, np.stack([f[t, rows] - both.y[rows] for t, rows in enumerate(samples)]))


def test_single_precision_agrees_to_single_precision():
    both = Both("biased", "tanh", {}, 0.1, batch=2, momentum=0.5, weight_decay=0.1)
    parameters = {n: w.astype(np.float32) for n, w in both.parameters.items()}
    values = both.run.execute(parameters)
    assert {v.dtype for v in values.values()} == {np.dtype(np.float32)}
    assert_close(both.run.outputs(values), both.torch_f, 1e-4)


def test_symbols_take_the_given_values():
    eta, s = sp.symbols("eta sigma", positive=True)
    X = read_inputs(np.eye(2), "X", "vectors")
    symbolic = FiniteTraining(tp.programs.mlp(depth=2, phi=tp.tanh, sigma_w=s), X, [1, -1], 3, tp.SGD(eta),
                              values={eta: 0.25, s: 1.5})  # fmt: skip
    numeric = FiniteTraining(tp.programs.mlp(depth=2, phi=tp.tanh, sigma_w=1.5), X, [1, -1], 3, tp.SGD(0.25))
    assert_close(symbolic.run(32, [1])[0].f, numeric.run(32, [1])[0].f, 1e-13)
