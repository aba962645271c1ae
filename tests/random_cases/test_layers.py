"""Random networks of norms, attention, gates and recurrences: every way to their numbers gives that number."""

import inspect
from collections import Counter

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.dsl import net
from tests.random_cases import layers
from tests.random_cases.hold_layers import agree, finite, sampled
from tests.random_cases.layers import OPTIONS, Layers, inputs, random_layers, written


def steps_of(steps):
    for step in steps:
        yield step
        if step[0] == "residual":
            yield from steps_of(step[1])


CASES = [random_layers(seed) for seed in range(1200)]
CHEAP = [seed for seed in range(60) if not sampled(CASES[seed])][:4]


@pytest.mark.parametrize("seed", range(20))
def test_outputs_and_gradients_are_those_of_torch(seed):
    for way, distance in finite(CASES[seed]):
        assert distance < 1e-9, (way, CASES[seed])


@pytest.mark.parametrize("seed", CHEAP)
def test_the_ways_to_a_kernel_agree(seed):
    assert agree(seed) == [], CASES[seed]


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1400, 50))
def test_the_ways_to_many_kernels_agree(start):
    found = {seed: agree(seed) for seed in range(start, start + 50)}
    assert not {seed: ways for seed, ways in found.items() if ways}


def test_networks_use_every_step():
    used = Counter(step[0] for case in CASES for step in steps_of(case.steps))
    made = {n for n in vars(layers.Plain) if not n.startswith("_")} - {"fn", "add"}
    assert set(used) == made | {"residual"} and min(used.values()) > 15
    assert Counter(case.form for case in CASES).keys() == {"tokens", "graph", "times"}


def test_networks_use_every_option_of_every_layer(monkeypatch):
    """What the traced networks give to ``net``."""
    given = {}

    def noted(name, layer):
        signature = inspect.signature(layer)

        def call(*args, **options):
            for key, value in signature.bind(*args, **options).arguments.items():
                given.setdefault((name, key), set()).add(str(value))
            return layer(*args, **options)

        return call

    for name in OPTIONS:
        monkeypatch.setattr(net.Net, name, noted(name, getattr(net.Net, name)))
    for case in CASES[:400]:
        written(case).trace(_lengths(case))
    assert {(n, o) for n, os in OPTIONS.items() for o in os.split()} <= set(given)


def _lengths(case):
    return read_inputs(inputs(case, 1), "X", written(case).form).lengths


def test_crops_of_what_moments_normalise_are_what_is_cropped_normalised():
    """Views commute with functions whose scalars belong to positions, too."""

    @tp.network
    def after(net, x, *, norm=None):
        return net.flatten("V", net.crop(norm(net, net.embed("U", x) + net.bias("b")), 1, 0))

    @tp.network
    def before(net, x, *, norm=None):
        return net.flatten("V", norm(net, net.crop(net.embed("U", x) + net.bias("b"), 1, 0)))

    X = np.random.default_rng(0).normal(size=(2, 4, 2))
    for norm in (lambda net, h: net.layer_norm(h, 0.3), lambda net, h: net.rms_norm(h, 0.3)):
        for kind in (tp.nngp, tp.ntk):
            np.testing.assert_allclose(kind(after(norm=norm))(X), kind(before(norm=norm))(X), rtol=1e-13)


@pytest.mark.parametrize("place", ["at", "beside"])
def test_one_normalised_position_is_read_and_positions_put_side_by_side(place):
    @tp.network
    def network(net, x):
        h = net.layer_norm(net.embed("U", x), 0.3)
        return net.readout("V", net.at(h, 1)) if place == "at" else net.flatten("V", net.beside(h, h))

    X = np.random.default_rng(0).normal(size=(1, 3, 2))
    q = (X[0] ** 2).sum(1) / 2
    wanted = q / (q + 0.3)
    np.testing.assert_allclose(tp.nngp(network())(X), wanted[1] if place == "at" else wanted.mean(), rtol=1e-13)


def test_functions_at_every_position_are_flattened():
    @tp.network
    def network(net, x):
        return net.flatten("V", tp.relu(net.embed("U", x)))

    assert tp.nngp(network())([[[1.0], [3.0]]]) == pytest.approx((1 + 9) / 4)


def test_grams_of_untied_attention_below_other_scores():
    """Compiled kernels have no rule for softmax weights that are numbers; named equations do."""
    steps = (("embed", "U", 1), ("attention", "A", 1, "1/n", False, True, 1, 1, 1), ("layer_norm", 0.1),
             ("conv", "C", "circular", 1), ("flatten", "V", 1))  # fmt: skip
    K, X = tp.ntk(written(Layers("tokens", 3, steps))), inputs(Layers("tokens", 3, steps))
    np.testing.assert_allclose(K.gram(X), K(X), rtol=1e-13)
