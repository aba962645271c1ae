"""Inputs that are zero, or so small or large that products of variances are no floating point numbers."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import DataError
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Abs, Elu, Relu, Sign, Step

U, V = sp.symbols("u v", real=True)
ZERO_BESIDE = [("sin", "cos"), ("tanh", "cos"), ("erf", "cos"), ("tanh", "sigmoid"), ("sin", "exp")]


def _beside(first, second):
    @tp.network
    def f(net, x):
        h = net.embed("B", x)
        return net.readout("V", tp.relu(net.dense("A", getattr(tp, first)(h)) + net.dense("C", getattr(tp, second)(h))))

    return tp.nngp(f())


@pytest.mark.parametrize(("first", "second"), ZERO_BESIDE)
def test_a_zero_input_beside_a_function_that_is_not_zero_there(first, second):
    kernel = _beside(first, second)
    want = kernel.gram(np.array([[0.0], [1.0]]))
    for small in (0.0, 1e-200, 1e-160, 1e-30):
        assert kernel(np.array([[small], [1.0]])) == pytest.approx(want, abs=1e-12)
    if (first, second) == ("sin", "cos"):
        assert want[0, 1] == pytest.approx(0.3410795465, abs=1e-10)


def test_a_skip_past_a_zero_input():
    @tp.network
    def f(net, x):
        h = net.embed("U", x)
        return net.readout("V", tp.relu(h + net.dense("T", tp.tanh(h)) + net.bias("b")))

    kernel = tp.ntk(f())
    want = kernel.gram(np.array([[0.0], [1.0]]))
    for small in (0.0, 1e-200):
        assert kernel(np.array([[small], [1.0]])) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-120, 1e-100, 1e-80, 1e80, 1e100, 1e120])
def test_relu_kernels_are_homogeneous_at_any_scale(scale):
    x = np.array([[1.0, 0.5], [0.2, -0.7]])
    kernel = tp.ntk(tp.programs.mlp(depth=2, phi=tp.relu, sigma_b=0))
    assert kernel(x * scale) / scale / scale == pytest.approx(kernel(x), rel=1e-13)
    assert kernel.gram(x * scale) / scale / scale == pytest.approx(kernel(x), rel=1e-13)


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
@pytest.mark.parametrize(
    ("first", "second", "degree"), [(Relu, Relu, 2), (Abs, Relu, 2), (Step, Relu, 1), (Sign, Sign, 0), (Step, Step, 0)]
)
def test_pairs_of_homogeneous_functions_at_any_variance(scale, first, second, degree):
    def at(q):
        return expectation(first(U) * second(V), (U, V), [[q, 0.6 * q], [None, q]])

    want, got = at(1.0), at(scale)
    assert float(got.value) == pytest.approx(float(want.value) * scale ** (degree / 2), rel=1e-13)
    assert float(got.error) <= 1e-13 * scale ** (degree / 2)


def test_pairs_of_one_variable_at_a_variance_whose_square_overflows():
    assert float(expectation(Relu(U) * Step(U), (U,), [[1e200]]).value) == pytest.approx(1e100 / np.sqrt(2 * np.pi))


def test_kinked_functions_of_variances_whose_product_underflows():
    q, tiny = 1e-200, np.sqrt(1e-200)
    shape = np.sqrt(1 - 0.36) + 0.6 * (np.pi - np.arccos(0.6))  # E relu relu = q shape/2π; elu(u) is u up to u²
    got = expectation(Relu(U) * Elu(V), (U, V), [[q, 0.6 * q], [None, q]])
    assert abs(float(got.value) - 0.3 * q) <= float(got.error) + 1e-13 * q  # E relu(u) v = c/2
    both = expectation(Relu(U) * Relu(V), (U, V), [[q, 0.6 * q], [None, q]])
    assert float(both.value) == pytest.approx(q * shape / (2 * np.pi), rel=1e-13)
    assert tiny > 0


def test_a_variance_that_underflows_is_no_contradiction():
    assert float(expectation(U * V, (U, V), [[0.0, 1e-200], [None, 1.0]]).value) == 0.0
    with pytest.raises(DataError, match="not positive semidefinite"):
        expectation(U * V, (U, V), [[0.0, 1e-100], [None, 1.0]])


def test_erf_networks_of_large_inputs():
    x = np.array([[1.0, 0.5], [0.2, -0.7]])
    kernel = tp.nngp(tp.programs.mlp(depth=3, phi=tp.erf))
    want = kernel.gram(x * 1e7)
    assert kernel(x * 1e50) == pytest.approx(want, rel=1e-6)
    assert kernel.gram(x * 1e50) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [(tp.leaky_relu(0.1), tp.elu), (tp.relu, tp.selu), (tp.abs, tp.elu)])
@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30])
def test_extreme_inputs_of_mixed_networks(first, second, scale):
    @tp.network
    def f(net, x):
        return net.readout("V", second(net.dense("W", first(net.embed("U", x)))))

    x = scale * np.array([[1.0, 0.5], [0.2, -0.7], [2.0, 1.0]])
    kernel = tp.nngp(f())
    assert kernel.gram(x) / scale**2 == pytest.approx(kernel(x) / scale**2, rel=1e-9)
