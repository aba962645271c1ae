"""The unrolled program, executed, is the training run: five steps against torch.optim.SGD on the same weights.

All errors are relative to the largest output.
"""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tests.finite import gates_in_torch
from tests.finite.trained_in_torch import IDS, NETWORKS, PROBES, SEEDS, STEPS, TRAINED, WIDTH, Both, assert_close

SLOW = ("rnn-tanh-14",)


def test_every_entry_of_the_gallery_of_vectors_or_sequences_is_held_against_torch():
    plain = {name for name, build in tp.programs.GALLERY.items() if build().form in ("vectors", "sequences")}
    gated = {name for name, *_ in gates_in_torch.CASES}  # their gradients are torch's: test_torch
    assert {name for name, *_ in NETWORKS} | gated >= plain  # layers over positions: test_positions_training_torch


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
