"""Compiled kernels of inputs of any size: what scaling inputs does to a kernel is known exactly."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

X = np.random.default_rng(0).standard_normal((5, 3))
SIZES = [1e-155, 1e-100, 1e-8, 1e8, 1e100, 1e150]
MACHINES = pytest.mark.parametrize("backend", [None, "numpy"])
KERNELS = pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])


@MACHINES
@KERNELS
@pytest.mark.parametrize("phi", ["relu", "abs"])
@pytest.mark.parametrize("scale", SIZES)
def test_kernels_of_homogeneous_functions_scale_with_their_inputs(phi, scale, kernel, backend):
    K = kernel(tp.programs.mlp(depth=3, phi=getattr(tp, phi)))
    want = K.gram(X, backend=backend)
    found = K.gram(X * scale, backend=backend) / scale / scale
    assert np.abs(found / want - 1).max() < 1e-12


@MACHINES
@KERNELS
def test_inputs_of_very_different_sizes_keep_their_angles(kernel, backend):
    sizes = np.array([1e-130, 1e-20, 1.0, 1e60, 1e120])
    K = kernel(tp.programs.mlp(depth=2))
    found = K.gram(X * sizes[:, None], backend=backend) / sizes[:, None] / sizes
    assert np.abs(found / K.gram(X, backend=backend) - 1).max() < 1e-12


@MACHINES
@KERNELS
@pytest.mark.parametrize("phi", ["erf", "tanh", "sin"])
def test_kernels_of_small_inputs_are_those_of_the_linear_network(phi, kernel, backend):
    """φ(0) = 0: K(s x, s x')/s² has a limit, to which the next term adds a multiple of s²."""
    K = kernel(tp.programs.mlp(depth=2, phi=getattr(tp, phi)))
    near, tiny = (K.gram(X * s, backend=backend) / s / s for s in (1e-7, 1e-120))
    assert np.abs(tiny / near - 1).max() < 1e-11


@MACHINES
@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
def test_the_nngp_of_large_inputs_is_that_of_signs_behind_the_first_layer(sigma_b, backend):
    """erf(s u) → sign u, so that only cosines are left."""
    K = tp.nngp(tp.programs.mlp(depth=3, phi=tp.erf, sigma_b=sigma_b))
    want = K.gram(X * 1e12, backend=backend)
    for scale in (1e50, 1e100, 1e150):
        for found in (K.gram(X * scale, backend=backend), K(X * scale)):
            assert np.abs(found - want).max() < 1e-10


@MACHINES
@KERNELS
@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "sin", "cos", "sigmoid"])
@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
@pytest.mark.filterwarnings("ignore:.*underflow:tensorprog.AccuracyWarning")  # tested in kernels/test_underflow
def test_zero_inputs_and_those_whose_squares_vanish_are_alike(phi, sigma_b, kernel, backend):
    K = kernel(tp.programs.mlp(depth=2, phi=getattr(tp, phi), sigma_b=sigma_b))
    zero, tiny = X.copy(), X.copy()
    zero[2], tiny[2] = 0.0, tiny[2] * 1e-200
    want = K(zero)
    for inputs in (zero, tiny):
        assert np.abs(K.gram(inputs, backend=backend) - want).max() < 1e-10 * want.max()


def test_a_coefficient_beyond_floats_is_refused_in_words():
    @tp.network
    def square(net, x):
        h = net.embed("U", x, std=sp.Integer(10) ** 160)
        return net.readout("V", h * tp.relu(h))

    with pytest.raises(tp.DataError, match="coefficient of the formula is beyond 1.8e"):
        tp.nngp(square()).gram(np.eye(2))
