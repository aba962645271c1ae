"""What trains, and how fast: networks of the gallery at width n against autograd, in the limit against sums."""

import functools

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tests.finite.forward_in_torch import Torch
from tests.gallery import inputs_of, names

WIDTH, SEED = 6, 3
SAMPLED = ("gru", "lstm")  # kernels by sampling: of all parameters and of some by the same single-precision numbers
DEAR = (*SAMPLED, "bidirectional_rnn", "squeeze_excite", "glu_mlp", "mixture_of_experts", "deq", "hopfield")
STATED = {"sigma_w": 1.3, "sigma_b": 0.4, "sigma_v": 0.7, "sigma_u": 0.8}


@functools.cache
def case(name):
    """A network of the gallery with scales that are not 1, its inputs, and its autograd kernels by parameter."""
    torch.set_default_dtype(torch.float64)
    build = tp.programs.GALLERY[name]
    known = build().hyperparameters
    net = build(**{k: v for k, v in STATED.items() if k in known} | ({"depth": 2} if "depth" in known else {}))
    X = inputs_of(build())
    if X is None:
        rng = np.random.default_rng(1)
        X = [rng.standard_normal((t, 3)) for t in (3, 2)] if net.form == "sequences" else rng.standard_normal((2, 3))
    run = Torch(net, read_inputs(X, "X", net.form), WIDTH, SEED)
    return net, X, run, run.kernels()


@pytest.fixture(autouse=True)
def doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def empirical(net, X, **chosen):
    return tp.empirical_ntk(net, X, width=WIDTH, seed=SEED, **chosen)


def limit(net, X, **chosen):
    if net.name in SAMPLED:
        return tp.ntk(net, "sampling", samples=2**12, **chosen).account(X).value
    return tp.ntk(net, **chosen)(X)


def gallery():
    """Those of ``names``, with what takes seconds marked slow."""
    known = [(p.values[0], list(p.marks)) for p in names()]
    return [pytest.param(n, marks=marks or [pytest.mark.slow] * (n in DEAR)) for n, marks in known]


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", gallery())
def test_frozen_parameters_rates_and_the_weights_themselves_are_those_of_autograd(name):
    net, X, run, own = case(name)
    ntk = {n: run.stds[n] ** 2 / run.fans[n] * k for n, k in own.items()}  # of w in W = σ w/√(inputs)
    assert_close(empirical(net, X), sum(ntk.values()), 1e-9)
    kinds = net.trace([None if net.form != "sequences" else 3]).trainable
    for some in ({n} for n in kinds):
        assert_close(empirical(net, X, trainable=sorted(some)), sum(ntk[n] for n in some), 1e-9)
    rates = {n: k + 0.5 for k, n in enumerate(kinds)}
    assert_close(empirical(net, X, rates=rates), sum(rates[n] * ntk[n] for n in kinds), 1e-9)
    assert_close(empirical(net, X, parametrization="standard"), sum(own[n] / run.fans[n] for n in kinds), 1e-9)


@pytest.mark.parametrize("name", gallery())
def test_in_the_limit_kernels_are_sums_over_parameters(name):
    net, X, run, _ = case(name)
    tolerance = 1e-5 if name in SAMPLED else 1e-12
    parts = {n: limit(net, X, trainable=[n]) for n in run.stds}
    rates = {n: k + 0.5 for k, n in enumerate(parts)}
    assert_close(limit(net, X), sum(parts.values()), tolerance)
    assert_close(limit(net, X, rates=rates), sum(rates[n] * k for n, k in parts.items()), tolerance)
    own = sum(k / run.stds[n] ** 2 for n, k in parts.items())
    assert_close(limit(net, X, parametrization="standard"), own, tolerance)
