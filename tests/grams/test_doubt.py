"""Gram matrices carry the errors of their expectations to a warning, as K(X) does."""

import warnings

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

X = np.array([[1.0, 0.5], [0.2, -0.7], [0.3, 1.0]])


def _network(phi):
    @tp.network
    def shallow(net, x):
        return net.readout("V", tp.nonlin(phi, net.embed("U", x)))

    return shallow()


def _almost_flat(size):
    """√(1 + (size u)²) - 1, whose mean square is a small difference of large expectations."""
    return _network(lambda u: sp.sqrt(1 + size**2 * u**2) - 1)


@pytest.mark.parametrize("options", [{}, {"backend": "numpy"}, {"block": 2}, {"dtype": "float32"}])
def test_a_gram_matrix_of_differences_that_lost_their_digits_is_marked(options):
    with pytest.warns(tp.AccuracyWarning, match="account"):
        tp.nngp(_almost_flat(sp.Rational(1, 100))).gram(X, **options)


def test_the_kernel_of_differences_that_lost_their_digits_is_marked():
    """E (√(1 + s²u²) - 1)² = s⁴ (3q²/4 - 15 s² q³/8 + ..), of terms 2: errors of 1e-14 are 1e-5 of it."""
    K = tp.nngp(_almost_flat(sp.Rational(1, 100)))
    with pytest.warns(tp.AccuracyWarning):
        value = K(X)
    q, s = (X**2).sum(1) / 2, 1e-2
    want = s**4 * (3 * q**2 / 4 - 15 * s**2 * q**3 / 8)
    error = np.diag(K.account(X).error)
    assert (np.abs(np.diag(value) - want) <= error + 100 * s**8).all()
    assert (error > 1e-9 * want).all()


def test_differences_that_keep_their_digits_are_not_marked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for phi in (tp.elu, lambda u: tp.tanh(u) - 1, lambda u: u - tp.relu(u) / 2):
            for make in (tp.nngp, tp.ntk):
                K = make(_network(phi))
                K(X), K.gram(X), K.gram(X[:1], X[1:])


def test_tiny_inputs_alone_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        K = tp.ntk(_network(tp.tanh))
        K(1e-8 * X), K.gram(1e-8 * X)
