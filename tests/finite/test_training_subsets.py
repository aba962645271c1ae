"""Some parameters are trained, the others stay: five steps against torch.optim.SGD on the same weights."""

import numpy as np
import pytest

from tests.finite.trained_in_torch import DIMENSION, PROBES, STEPS, Both, assert_close

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
