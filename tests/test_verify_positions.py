"""Verification and training of networks over positions."""

import importlib

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.limit.mixing import value_of
from tests.convolutions import flattened, pooled

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 3, 3, 2))
SIGNALS = RNG.standard_normal((4, 4, 2))


@pytest.fixture(scope="module", params=[pooled(), flattened()], ids=lambda net: net.name)
def verified(request):
    return tp.verify(request.param, IMAGES, widths=(32, 64, 128), seeds=24)


def test_every_claim_about_images_holds(verified):
    assert [c.text() for c in verified.claims if c.passed is not True] == []
    assert len(verified.claims) == 6


def test_it_says_at_which_sizes_derivations_were_compared(verified):
    assert "on 3×3 with a vector for every position" in verified.claims[0].detail


def test_the_limit_is_that_of_the_program_with_a_vector_for_every_position(verified):
    assert verified.claims[1].passed and float(verified.claims[1].detail.split()[2]) < 1e-13


def test_larger_images_are_compared_with_runs_alone():
    v = tp.verify(flattened(), RNG.standard_normal((2, 6, 7, 1)), widths=(16, 32, 64), seeds=16)
    found = {c.name: c for c in v.claims}
    assert v.passed and found["NTK = empirical NTK"].passed
    assert found["K(X) = limit of the traced program"].passed is None
    assert "84 positions" in found["K(X) = limit of the traced program"].detail


def test_a_wrong_kernel_is_noticed(monkeypatch):
    of_pairs = importlib.import_module("tensorprog.derivation.over_positions")
    monkeypatch.setattr(of_pairs, "value_of", lambda *given: 0.9 * value_of(*given))
    v = tp.verify(pooled(), IMAGES, widths=(4, 8), seeds=4)
    assert {c.name: c.passed for c in v.claims}["K(X) = limit of the traced program"] is False


@pytest.mark.parametrize("net", [pooled(phi=tp.tanh), flattened()], ids=lambda net: net.name)
def test_training_on_signals_is_predicted_by_the_kernel(net):
    y = [1.0, -1.0, 0.5]
    report = tp.train(net, SIGNALS[:3], y, X_test=SIGNALS[3:], steps=3, widths=(16, 32, 64, 128), seeds=12, batch=2)
    assert report.passed
    assert all(c.passed for c in report.claims)


def test_so_is_training_with_weight_decay():
    report = tp.train(pooled(phi=tp.tanh), SIGNALS[:2, :3], [1.0, -1.0], steps=2, widths=(16, 32, 64, 128), seeds=16,
                      optimizer=tp.SGD(0.4, weight_decay=0.3))  # fmt: skip
    assert report.passed and any("by weight decay" in c.detail for c in report.claims)


def test_coordinates_of_every_layer_are_measured():
    check = tp.coordinate_check(pooled(), SIGNALS, [1.0, -1.0, 0.5, 0.2], [tp.mup()], widths=(16, 32), seeds=2, steps=1)
    assert check.sizes and all(np.isfinite(s).all() for s in check.sizes.values())
