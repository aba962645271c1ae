"""Every option of training, on two networks: five steps against torch.optim.SGD on the same weights."""

import pytest

from tests.finite.trained_in_torch import TRAINED, Both


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
