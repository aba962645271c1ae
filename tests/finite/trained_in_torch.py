"""Networks as programs and as torch functions, and training runs of both from the same parameters.

Every network is written here a second time, as a torch function of its N(0, 1) parameters that knows
nothing of programs.
"""

import numpy as np
import sympy as sp
import torch
from torch.nn import functional

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.passes.rates import Rates

STEPS, WIDTH, DIMENSION = 5, 128, 3
SEEDS = [3, 4]
TRAINED, FOLLOWED = 3, 1
PROBES = (0, 1, STEPS)
TORCH_PHI = {"relu": torch.relu, "erf": torch.erf, "tanh": torch.tanh, "gelu": functional.gelu}


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


def layer_norm_mlp_torch(p, x, i, phi, *, depth=2, sigma_w=1, sigma_b=0, sigma_v=1, eps=0):
    h = embed(p, "U", x, sigma_w) + (sigma_b * p["b1"] if sigma_b else 0)
    for l in range(2, depth + 1):
        h = dense(p, f"W{l}", phi(functional.layer_norm(h, h.shape, eps=eps)), sigma_w)
        h = h + (sigma_b * p[f"b{l}"] if sigma_b else 0)
    return readout(p, "V", phi(functional.layer_norm(h, h.shape, eps=eps)), sigma_v)


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
    ("layer_norm_mlp", "tanh", {"depth": 2, "sigma_b": 0.3, "eps": 0.1}, 0.1),
    ("two_outputs", "tanh", {}, 0.2),
    ("reread", "tanh", {}, 0.1),
]
IDS = [f"{name}-{phi or 'linear'}-{k}" for k, (name, phi, *_) in enumerate(NETWORKS)]
RAGGED = (2, 3, 1, 2)


def build(name, phi, hyperparameters):
    """The network and its torch function of (parameters, input, number of the input)."""
    given = {} if name in WITHOUT_PHI else {"phi": tp.NONLINEARITIES[phi]}
    net = (OWN.get(name) or tp.programs.GALLERY[name])(**given, **hyperparameters)
    function = globals()[f"{name}_torch"]
    return net, lambda p, x, i: function(p, x, i, TORCH_PHI.get(phi), **hyperparameters)


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
            tp.SGD(lr, momentum, weight_decay, nesterov), batch, self.loss, Rates.of(trainable), probes,
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
