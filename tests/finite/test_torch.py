"""Networks at finite width against PyTorch: outputs, gradients and empirical NTK on the same weights.

Every architecture is written here a second time, as a torch function of its N(0, 1) parameters.
"""

import numpy as np
import pytest
import sympy as sp
import torch
from torch.nn import functional

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.ir.instructions import MatMul
from tests.finite import gates_in_torch

PHI = {"relu": torch.relu, "erf": torch.erf, "tanh": torch.tanh, "gelu": functional.gelu}
DIMENSION = 3
SEEDS = [5, 6]


# ---- the architectures in torch ------------------------------------------------------------------


def embed(p, key, x, std):
    return std * p[key] @ x / x.shape[0] ** 0.5


def dense(p, key, h, std):
    return std * p[key] @ h / h.shape[0] ** 0.5


def readout(p, key, h, std):
    return std * p[key] @ h / h.shape[0] ** 0.5


def at(value, l):
    """The hyperparameter of layer l, from 1."""
    return value[l - 1] if isinstance(value, list) else value


def mlp(p, x, i, phi, *, depth=3, sigma_w=2**0.5, sigma_b=0, sigma_v=1):
    h = embed(p, "U", x, at(sigma_w, 1))
    for l in range(1, depth + 1):
        if l > 1:
            h = dense(p, f"W{l}", phi(h), at(sigma_w, l))
        if at(sigma_b, l):
            h = h + at(sigma_b, l) * p[f"b{l}"]
    return readout(p, "V", phi(h), sigma_v)


def deep_linear(p, x, i, phi, *, depth=3, sigma_w=1, sigma_v=1):
    return mlp(p, x, i, lambda h: h, depth=depth, sigma_w=sigma_w, sigma_v=sigma_v)


def tied_mlp(p, x, i, phi, *, depth=3, sigma_w=1, sigma_u=1, sigma_b=0, sigma_v=1):
    h = embed(p, "U", x, sigma_u)
    for l in range(1, depth + 1):
        h = h if l == 1 else dense(p, "W", phi(h), sigma_w)
        if sigma_b:
            h = h + sigma_b * p["b"]
    return readout(p, "V", phi(h), sigma_v)


def residual_mlp(p, x, i, phi, *, depth=3, sigma_w=1, sigma_v=1, alpha=1):
    h = embed(p, "U", x, sigma_w)
    for l in range(2, depth + 1):
        h = h + alpha * dense(p, f"W{l}", phi(h), sigma_w)
    return readout(p, "V", phi(h), sigma_v)


def mean_readout(p, x, i, phi, *, depth=2, sigma_w=1):
    h = embed(p, "U", x, sigma_w)
    for l in range(2, depth + 1):
        h = dense(p, f"W{l}", phi(h), sigma_w)
    return phi(h).sum() / h.shape[0] ** 0.5


def tied_autoencoder(p, x, i, phi, *, sigma_w=1, sigma_u=1, sigma_v=1):
    code = phi(dense(p, "W", embed(p, "U", x, sigma_u), sigma_w))
    back = sigma_w * p["W"].T @ code / code.shape[0] ** 0.5
    return readout(p, "V", phi(back), sigma_v)


def rnn(p, x, i, phi, *, layers=1, sigma_w=1, sigma_u=1, sigma_b=0, sigma_h=0, sigma_v=1, tied=True):
    state = [None] * layers
    for t, below in enumerate(x, start=1):
        for l in range(1, layers + 1):
            index = "_".join(map(str, ([l] if layers > 1 else []) + ([] if tied else [t])))
            h = (embed if l == 1 else dense)(p, f"U{index}", below, at(sigma_u, l))
            if at(sigma_b, l):
                h = h + at(sigma_b, l) * p[f"b{index}"]
            past = state[l - 1]
            if t == 1 and sigma_h:
                past = sigma_h * p[f"h{l}(x[{i}])"]
            if past is not None:
                h = h + dense(p, f"W{index}", past, at(sigma_w, l))
            below = state[l - 1] = phi(h)
    return readout(p, "V", below, sigma_v)


def layer_norm_mlp(p, x, i, phi, *, depth=2, sigma_w=1, sigma_b=0, sigma_v=1, eps=0):
    h = embed(p, "U", x, sigma_w) + (sigma_b * p["b1"] if sigma_b else 0)
    for l in range(2, depth + 1):
        h = dense(p, f"W{l}", phi(functional.layer_norm(h, h.shape, eps=eps)), sigma_w)
        h = h + (sigma_b * p[f"b{l}"] if sigma_b else 0)
    return readout(p, "V", phi(functional.layer_norm(h, h.shape, eps=eps)), sigma_v)


TORCH = {f.__name__: f for f in (mlp, deep_linear, tied_mlp, residual_mlp, mean_readout, tied_autoencoder, rnn,
                                 layer_norm_mlp, *gates_in_torch.ARCHITECTURES)}  # fmt: skip
RAGGED = (3, 1, 4)

# (architecture, nonlinearity, hyperparameters)
CASES = [
    ("mlp", "relu", {"sigma_b": 0.3}),
    ("mlp", "erf", {"depth": 1, "sigma_b": 0.3, "sigma_v": 1.5}),
    ("mlp", "tanh", {"depth": 4, "sigma_w": [0.7, 1.4, 1.1, 1.3], "sigma_b": [0.5, 0, 0.2, 0.1]}),
    ("mlp", "gelu", {"depth": 3, "sigma_b": 0.1}),
    ("deep_linear", None, {"depth": 4, "sigma_w": 1.1, "sigma_v": 0.6}),
    ("residual_mlp", "relu", {"depth": 4, "sigma_w": 1.2, "alpha": 0.5}),
    ("residual_mlp", "gelu", {"sigma_v": 1.7}),
    ("tied_mlp", "erf", {"depth": 4, "sigma_w": 1.2, "sigma_u": 0.7, "sigma_b": 0.3, "sigma_v": 1.1}),
    ("mean_readout", "tanh", {"depth": 3, "sigma_w": 1.4}),
    ("mean_readout", "relu", {}),
    ("tied_autoencoder", "erf", {"sigma_w": 1.3, "sigma_u": 0.8, "sigma_v": 1.1}),
    ("tied_autoencoder", "relu", {}),
    ("rnn", "relu", {"sigma_w": 1.3, "sigma_u": 0.8, "sigma_b": 0.2, "sigma_h": 0.6, "sigma_v": 1.2}),
    ("rnn", "tanh", {"sigma_b": 0.2}),
    ("rnn", "erf", {"layers": 2, "sigma_w": [1.2, 0.9], "sigma_u": [0.7, 1.5], "sigma_b": [0.1, 0.4], "sigma_h": 0.5}),
    ("rnn", "gelu", {"layers": 2, "sigma_b": 0.3, "tied": False}),
    ("rnn", "erf", {"tied": False, "sigma_h": 1, "sigma_b": 0.3}),
    ("layer_norm_mlp", "tanh", {"depth": 3, "sigma_w": 1.3, "sigma_b": 0.2, "sigma_v": 1.1, "eps": 0.1}),
    ("layer_norm_mlp", "relu", {}),
    *gates_in_torch.CASES,
]
IDS = [f"{name}-{phi or 'linear'}-{k}" for k, (name, phi, _) in enumerate(CASES)]


# ---- both sides ----------------------------------------------------------------------------------


def data(net, lengths=RAGGED):
    rng = np.random.default_rng(11)
    if net.takes_sequences:
        return [rng.standard_normal((t, DIMENSION)) for t in lengths]
    return rng.standard_normal((len(lengths), DIMENSION))


def build(name, phi, hyperparameters):
    """The network, and its torch function of (parameters, input, number of the input)."""
    given = {} if phi is None else {"phi": tp.NONLINEARITIES[phi]}
    net = tp.programs.GALLERY[name](**given, **hyperparameters)
    return net, lambda p, x, i: TORCH[name](p, x, i, PHI.get(phi), **hyperparameters)


class Both:
    """One network on the same data and weights as a program and in torch, seeds stacked first."""

    def __init__(self, net, fn, width=64, dtype=np.float64):
        self.net, self.X = net, data(net)
        self.finite = FiniteNetwork.of(net, read_inputs(self.X, "X", net.form))
        self.parameters = self.finite.draw(width, SEEDS, dtype)
        self.values = self.finite.run(self.parameters)
        self.outputs = self.finite.outputs(self.values, self.parameters)
        self.runs = [self._torch(fn, k) for k in range(len(SEEDS))]

    def _torch(self, fn, k):
        """(outputs, [gradients of each output by parameter]) with the weights of seed k."""
        states = {v.name for v in self.finite.trace.states}
        p = {n: torch.tensor(w[k].astype(float), requires_grad=n not in states) for n, w in self.parameters.items()}
        trained = {n: w for n, w in p.items() if n not in states}
        outputs, gradients = [], []
        for i, x in enumerate(self.X):
            f = fn(p, torch.tensor(x), i).reshape(())
            grads = torch.autograd.grad(f, list(trained.values()), allow_unused=True, materialize_grads=True)
            outputs.append(f.item())
            gradients.append({n: g.numpy() for n, g in zip(trained, grads, strict=True)})
        return outputs, gradients

    @property
    def torch_outputs(self):
        return np.array([outputs for outputs, _ in self.runs])

    @property
    def torch_ntk(self):
        def gram(gradients):
            flat = np.stack([np.concatenate([g.ravel() for g in grads.values()]) for grads in gradients])
            return flat @ flat.T

        return np.stack([gram(gradients) for _, gradients in self.runs])

    def gradients(self, i, k):
        """∂f_i/∂(w, u, b, v) from the program's dx = √n ∂f/∂x, at seed k."""
        trace, states = self.finite.trace, {v.name for v in self.finite.trace.states}
        total = {n: np.zeros(w.shape[1:]) for n, w in self.parameters.items() if n not in states}
        for var, terms in self.finite.gradients[i].of.items():
            d = sum(self.values[t][k] for t in terms) / np.sqrt(len(self.values[var][k]))
            for name, gradient in self._parameter(var, d, k):
                total[name] += float(trace.parameters[name].std) * gradient
        for r in trace.outputs[i].readouts:
            if r.trained:
                total[r.name] += float(r.std) * self.values[r.x][k] / np.sqrt(len(self.values[r.x][k]))
        for name, std in trace.outputs[i].biases:
            total[name] += float(std)
        return total

    def _parameter(self, var, d, k):
        """What ∂f/∂var = d contributes to the parameter that makes var, before its standard deviation."""
        trace, op = self.finite.trace, self.finite.trace.program.op(var)
        owner = {p.var: n for n, p in trace.parameters.items()}
        if isinstance(op, MatMul):
            outer = np.outer(d, self.values[op.x][k]) / np.sqrt(len(d))
            yield owner[op.matrix], outer.T if op.transpose else outer
        elif var in trace.embeddings:
            name, datum = trace.embeddings[var]
            xi = np.atleast_2d(self.X[datum.owner])[(datum.time or 1) - 1]
            yield name, np.outer(d, xi) / np.sqrt(len(xi))
        elif var in owner:
            yield owner[var], d


def assert_close(actual, expected, rtol=1e-9):
    """The largest error relative to the largest entry."""
    assert np.shape(actual) == np.shape(expected)
    assert np.max(np.abs(np.asarray(actual) - expected)) <= rtol * np.max(np.abs(expected))


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def both(request):
    return Both(*build(*request.param))


# ---- the gallery ---------------------------------------------------------------------------------


def test_every_entry_of_the_gallery_of_vectors_or_sequences_is_compared():
    plain = {name for name, build in tp.programs.GALLERY.items() if build().form in ("vectors", "sequences")}
    assert {name for name, *_ in CASES} == plain


def test_outputs_equal_those_of_torch(both):
    assert_close(both.outputs, both.torch_outputs)


def test_gradients_of_every_parameter_equal_those_of_autograd(both):
    for k, (_, expected) in enumerate(both.runs):
        for i, by_name in enumerate(expected):
            actual = both.gradients(i, k)
            assert actual.keys() == by_name.keys()
            for n in by_name:
                assert_close(actual[n], by_name[n])


def test_the_empirical_ntk_is_the_gram_matrix_of_torch_gradients(both):
    assert_close(both.finite.ntk(both.values), both.torch_ntk)


def test_so_is_the_layerwise_formula(both):
    theta = tp.empirical_ntk(both.net, both.X, width=64, seed=SEEDS[0], seeds=len(SEEDS))
    assert_close(theta, both.torch_ntk)


@pytest.mark.parametrize("case", [CASES[2], CASES[9], CASES[13]], ids=lambda c: c[0])
def test_it_is_so_at_another_width(case):
    both = Both(*build(*case), width=128)
    assert_close(both.outputs, both.torch_outputs)
    assert_close(both.finite.ntk(both.values), both.torch_ntk)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_float32_agrees_to_single_precision(case):
    both = Both(*build(*case), dtype=np.float32)
    assert_close(both.outputs, both.torch_outputs, 1e-4)
    assert_close(both.finite.ntk(both.values), both.torch_ntk, 1e-4)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_float32_weights_give_float32_vectors(case):
    both = Both(*build(*case), dtype=np.float32)
    wrong = {v.name: a.dtype for v, a in both.values.items() if a.dtype != np.float32}
    assert not wrong


# ---- tp.empirical_ntk ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", [CASES[0], CASES[11]], ids=lambda c: c[0])
def test_empirical_ntk_of_many_seeds_stacks_single_ones(case):
    net, fn = build(*case)
    both = Both(net, fn)
    many = tp.empirical_ntk(net, both.X, width=64, seed=SEEDS[0], seeds=len(SEEDS))
    assert_close(many, both.torch_ntk)
    for k, seed in enumerate(SEEDS):
        assert_close(tp.empirical_ntk(net, both.X, width=64, seed=seed), many[k], 1e-13)


def test_empirical_ntk_of_two_sets_is_a_block_of_that_of_their_union():
    net, _ = build(*CASES[0])
    X = data(net, range(1, 6))
    block = tp.empirical_ntk(net, X[:2], X[2:], width=32, seed=4)
    assert_close(block, tp.empirical_ntk(net, X, width=32, seed=4)[:2, 2:], 1e-13)


def test_empirical_ntk_takes_values_of_symbols():
    w, b = sp.symbols("w b", positive=True)
    symbolic = tp.programs.mlp(sigma_w=w, sigma_b=b)
    numeric = tp.programs.mlp(sigma_w=1.25, sigma_b=0.5)
    X = data(numeric)
    value = tp.empirical_ntk(symbolic, X, width=32, values={w: 1.25, b: 0.5})
    assert_close(value, tp.empirical_ntk(numeric, X, width=32), 1e-13)


def test_empirical_ntk_names_a_symbol_without_a_value():
    with pytest.raises(tp.DataError, match=r"no value .*w.*values="):
        tp.empirical_ntk(tp.programs.mlp(sigma_w=sp.Symbol("w", positive=True)), [[1.0]], width=8)


@pytest.mark.parametrize(
    "option", [{"width": 0}, {"width": -1}, {"width": 8.0}, {"seeds": 0}, {"seeds": 2.5}, {"seed": -1},
               {"dtype": np.int32}, {"dtype": "foo"}], ids=str)  # fmt: skip
def test_empirical_ntk_refuses_bad_options(option):
    name = next(iter(option))
    with pytest.raises(tp.DataError, match=f"{name} must be"):
        tp.empirical_ntk(tp.programs.mlp(), [[1.0, 2.0]], **{"width": 8, **option})


# ---- scalars inside a network --------------------------------------------------------------------


@tp.network
def normalised(net, x, *, sigma_b=0.3):
    """Layer normalisations, scalars of scalars, a transposed matrix, two readouts and output biases."""
    h = net.embed("U", x, std=1.2)
    s = tp.moment(lambda a: a**2, h)
    z = tp.nonlin(lambda a, m: sp.tanh(a / sp.sqrt(m + 1)), h, params=[s])
    g = net.dense("W", z, std=1.4) + net.bias("b", std=sigma_b)
    mean = tp.moment(lambda a: a, g)
    variance = tp.moment(lambda a, m: (a - m) ** 2, g, params=[mean])
    y = tp.nonlin(lambda a, m, v: sp.erf((a - m) / sp.sqrt(v + 1)), g, params=[mean, variance])
    gate = s * variance + mean
    back = net.weight("W", std=1.4).T @ (gate * y)
    overlap = tp.moment(lambda a, c, q: a * c * q, back, h, params=[gate])
    last = tp.nonlin(lambda a, c, q: sp.Max(a, 0) + c * sp.sin(q), back, y, params=[overlap])
    return net.readout("V", last, std=0.9, bias=0.7) + net.readout("V2", y, std=2)


def normalised_torch(p, x, i):
    h = embed(p, "U", x, 1.2)
    s = (h**2).mean()
    z = torch.tanh(h / (s + 1) ** 0.5)
    g = dense(p, "W", z, 1.4) + 0.3 * p["b"]
    mean, variance = g.mean(), g.var(correction=0)
    y = torch.erf((g - mean) / (variance + 1) ** 0.5)
    gate = s * variance + mean
    back = 1.4 * p["W"].T @ (gate * y) / len(y) ** 0.5
    overlap = (back * h * gate).mean()
    last = torch.relu(back) + y * torch.sin(overlap)
    return readout(p, "V", last, 0.9) + 0.7 * p["V.bias"] + readout(p, "V2", y, 2)


@pytest.mark.parametrize("width", [64, 128])
def test_networks_with_moments_inside_equal_torch(width):
    both = Both(normalised(), normalised_torch, width)
    assert_close(both.outputs, both.torch_outputs)
    assert_close(both.finite.ntk(both.values), both.torch_ntk)
    assert_close(tp.empirical_ntk(both.net, both.X, width=width, seed=SEEDS[0], seeds=len(SEEDS)), both.torch_ntk)
    for k, (_, expected) in enumerate(both.runs):
        for i, by_name in enumerate(expected):
            actual = both.gradients(i, k)
            assert actual.keys() == by_name.keys()
            for n in by_name:
                assert_close(actual[n], by_name[n])


def test_networks_with_moments_inside_agree_in_float32():
    both = Both(normalised(), normalised_torch, dtype=np.float32)
    assert_close(both.outputs, both.torch_outputs, 1e-4)
    assert_close(both.finite.ntk(both.values), both.torch_ntk, 1e-4)
