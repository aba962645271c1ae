"""Feature learning at t = 0: what is known exactly carries no sampling error."""

import numpy as np
import pytest

import tensorprog as tp

X = np.array([[1.0, 0.2], [-0.5, 0.8]])
Y = np.array([1.0, -1.0])
NET = tp.programs.mlp(depth=2, phi=tp.relu)


@pytest.fixture(scope="module")
def limit():
    return tp.feature_limit(NET, X, Y, steps=1, samples=2**10)


def test_the_outputs_of_mup_start_at_0_exactly(limit):
    assert limit.method == "sampling" and limit.exact_start and "sampling, exact at t = 0" in repr(limit)
    assert not limit.f[0].any() and not limit.stderr[0].any()
    assert (limit.stderr[1] > 0).all() and (np.abs(limit.f[1]) > 5 * limit.stderr[1]).any()


def test_kernels_at_the_start_are_those_of_the_initialized_network(limit):
    found, error = limit.kernel(0)
    assert not error.any()
    assert np.allclose(found, tp.nngp(NET)(X), rtol=1e-12)  # σ_v = 1: the last features are what the readout sums
    sampled, error = limit.kernel(1)
    assert (error > 0).all() and np.isfinite(sampled).all()
    assert limit.change(0)[0].max() == 0


def test_a_method_that_was_asked_for_is_taken_as_it_is():
    limit = tp.feature_limit(NET, X, Y, steps=1, samples=2**8, method="sampling")
    assert not limit.exact_start and limit.stderr[0].all()


def test_a_linear_network_is_exact_at_all_times():
    limit = tp.feature_limit(tp.programs.deep_linear(depth=2), X, Y, steps=2)
    assert limit.method == "linear" and not limit.stderr.any() and not limit.f[0].any()


def test_the_report_says_what_is_exact():
    report = tp.train(NET, X, Y, widths=(8, 16), steps=1, seeds=2, parametrization=tp.mup(), samples=2**8)
    assert "f, limit by sampling, exact at t = 0 and mean over seeds" in report.text()
