"""Gram matrices of nearly opposite inputs, whose angle 1 − ρ has lost, against 60-digit formulas."""

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp
from tests.kernels.test_near_inputs import dot, relu

X = np.array([[1.0, 0.5], [-1.0, -0.5], [-1.0, -0.5 + 1e-9], [-1.0, -0.500001], [-1.0, -0.51], [-1.0, -0.7]])


def _wanted(X, sigma_b):
    """NNGP and NTK of one layer of relu with σ_w² = 2."""
    with mp.workdps(60):
        b = mp.mpf(sigma_b) ** 2
        values = np.empty((2, len(X), len(X)))
        for i, x in enumerate(X):
            for j, y in enumerate(X):
                q, c, r = (2 * s + b for s in (dot(x, x), dot(x, y), dot(y, y)))
                value, slope = relu(q, c, r)
                values[:, i, j] = float(value), float(value + slope * c)
    return values


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5, 1e10])
@pytest.mark.parametrize("sigma_b", [0, 0.3, 1])
def test_opposite_inputs_beside_a_bias(sigma_b, scale, backend):
    net = tp.programs.mlp(depth=1, sigma_b=sigma_b)
    for kind, want in zip((tp.nngp, tp.ntk), _wanted(scale * X, sigma_b), strict=True):
        root = np.sqrt(np.diag(want))
        found = kind(net).gram(scale * X, backend=backend)
        assert (np.abs(found - want) / np.outer(root, root)).max() < 1e-14


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("scale", [1.0, 1e10])
def test_the_small_kernel_of_nearly_opposite_inputs_keeps_its_digits(scale, backend):
    """V[relu] is √(q q') δ³/6π at an angle π − δ, which 1 − (1 − ..) would round to 0."""
    (want, _), X_ = _wanted(scale * X, 0), scale * X
    found = tp.nngp(tp.programs.mlp(depth=1)).gram(X_, backend=backend)
    np.testing.assert_allclose(found[0, 3:], want[0, 3:], rtol=1e-9)


def test_kernels_keep_them_too():
    want, _ = _wanted(X, 0)
    np.testing.assert_allclose(tp.nngp(tp.programs.mlp(depth=1))(X)[0, 3:], want[0, 3:], rtol=1e-9)
