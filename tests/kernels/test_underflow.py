"""Inputs so small or large that kernels leave the range of float64: a warning or an error says where."""

import warnings

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

X = np.array([[1.0, 0.5], [0.2, -1.0], [-0.4, 0.3]])
RELU = tp.nngp(tp.programs.mlp(depth=2))  # K(x, x) = |x|²/d: two layers of gain 2 · 1/2
WAYS = {"K": lambda K, X: K(X), "gram": lambda K, X: K.gram(X), "recursion": lambda K, X: K.recursion()(X)}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
def test_inputs_of_1e_160_leave_three_digits_and_a_warning(way):
    with pytest.warns(tp.AccuracyWarning, match="underflow: entry .*scale the inputs up"):
        K = way(RELU, X * 1e-160)
    assert K[0, 0] == pytest.approx(0.625e-320, rel=1e-2)


@each_way
def test_inputs_whose_squares_vanish_warn_of_zeros(way):
    with pytest.warns(tp.AccuracyWarning, match="underflow"):
        assert not way(RELU, X * 1e-170).any()


@each_way
@pytest.mark.parametrize("scale", [1e-150, 1e-16, 1.0])
def test_normal_numbers_have_all_digits_and_no_warning(way, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error", tp.AccuracyWarning)
        K = way(RELU, X * scale)
    assert K[0, 0] == pytest.approx(0.625 * scale**2, rel=1e-13)


def test_what_is_0_in_exact_arithmetic_warns_of_nothing():
    """Zeros, orthogonal inputs of a linear network, and small inputs of a network with biases."""
    linear = tp.nngp(tp.programs.deep_linear(depth=1))
    biased = tp.nngp(tp.programs.mlp(depth=2, sigma_b=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", tp.AccuracyWarning)
        for way in (WAYS["K"], WAYS["gram"]):
            assert not way(RELU, np.zeros((2, 2))).any()
            assert way(linear, np.eye(2) * 1e-100)[0, 1] == 0
            assert way(biased, X * 1e-160)[0, 0] == pytest.approx(0.01, rel=1e-12)  # (2 · 0.01/2 + 0.01)/2


def test_the_error_of_an_account_holds_what_underflow_took():
    found, exact = RELU.account(X * 1e-160), RELU(X)
    scaled = [[float(k) * 1e-20 for k in row] for row in exact]  # 1e-300 times smaller
    missed = np.abs(found.value * 1e300 - np.array(scaled))
    assert found.methods[-1] == "underflow" and (missed <= found.error * 1e300).all() and missed.max() > 0


def test_single_precision_has_a_range_of_its_own():
    with pytest.warns(tp.AccuracyWarning, match="underflow"):
        RELU.gram((X * 1e-21).astype("float32"), dtype="float32")


def test_blocks_on_disk_warn_too(tmp_path):
    with pytest.warns(tp.AccuracyWarning, match="underflow"):
        RELU.gram(X * 1e-160, path=tmp_path / "k.npy", block=2)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("way", [WAYS["K"], WAYS["gram"]], ids=["K", "gram"])
def test_overflow_names_the_layer(way, depth):
    """E u⁶ = 15 q³: q = 1e100 has 1e300 after one layer and no number after the second, whatever follows."""
    K = tp.nngp(tp.programs.mlp(depth=depth, phi=tp.monomial(3)))
    with pytest.raises(tp.DataError, match=r"the value of \S*\^\(2\)\(\S+ the first that leaves the range of float64"):
        way(K, X * 1e50)


@pytest.mark.parametrize("small", [{"sigma_w": 1e-300}, {"sigma_w": sp.Symbol("s", positive=True)}])
def test_scales_that_underflow_are_named(small):
    net, values = tp.programs.mlp(**small), {"s": 1e-300} if isinstance(small["sigma_w"], sp.Symbol) else None
    for compute in (tp.ntk(net), tp.ntk(net).gram, tp.ntk(net).recursion()):
        with pytest.warns(tp.AccuracyWarning, match="underflow"):
            assert (compute([[1.0, 2.0]], values=values) == 0).all()
