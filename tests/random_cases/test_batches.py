"""Random networks of batches: integrals, samples, other orders of members, and networks of finite width agree."""

from collections import Counter

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.layerwise import Layerwise
from tests.random_cases.batches import PHI, VALUES, computed, random_steps, written

FEW = range(2)
MANY = range(100, 160)


def inputs(seed):
    rng = np.random.default_rng((1, seed))
    return rng.normal(size=(2, int(rng.integers(4, 8)), 6))


def agree(seed):
    """Every way to the kernels of one network."""
    net, X, order = written(random_steps(seed, exact=True)), inputs(seed), slice(None, None, -1)
    for kernel in (tp.nngp, tp.ntk):
        K = kernel(net)(X)
        size = np.abs(K).max()
        assert np.abs(kernel(net)(X[:1], X[1:])[0, 0] - K[0, 1]).max() < 1e-10 * size
        turned = kernel(net)(np.stack([X[0], X[0, order]]))
        assert np.abs(turned[0, 1] - K[0, 0][:, order]).max() < 1e-8 * size
        drawn = kernel(net, method="sampling", samples=2**13, seed=seed).account(X)
        assert (np.abs(drawn.value - K) < 6 * drawn.error + 1e-3 * size).all()


@pytest.mark.parametrize("seed", FEW)
def test_the_ways_to_a_kernel_agree(seed):
    agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_the_ways_to_many_kernels_agree(seed):
    agree(seed)


@pytest.mark.parametrize("seed", range(8))
def test_outputs_are_those_of_numpy(seed):
    steps = [(*s[:3], s[3] if s[3] in VALUES else "tanh", *s[4:]) if len(s) > 3 else s for s in random_steps(seed)]
    net, X = written(steps), inputs(seed)
    kernel = Layerwise(net, read_inputs(X, "X", net.form), None, {}, every_head=True)
    w = kernel.draw(9, [seed])
    wanted = np.stack([computed(steps, {k: v[0] for k, v in w.items()}, x) for x in X])
    assert np.abs(kernel.outputs(w, {})[0] - wanted).max() < 1e-11 * np.abs(wanted).max()


def test_steps_use_every_function_option_and_kind():
    steps = [s for seed in range(60) for s in random_steps(seed)]
    used = Counter(s[0] for s in steps)
    assert set(used) == {"embed", "bias", "block", "residual", "last"} and min(used.values()) > 5
    normed = [s for s in steps if len(s) > 3]
    assert {s[3] for s in normed} == set(PHI) and {bool(s[2]) for s in normed} == {True, False}
