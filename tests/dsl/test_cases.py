"""Functions given by cases: losses have their numbers, nonlinearities are declared with their kinks."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.functions import evaluate

X, Y = np.array([[1.0, 0.5], [0.3, -1.0]]), np.array([1.0, -1.0])
NET = tp.programs.mlp(depth=1, phi=tp.tanh)
HALF = sp.Rational(1, 2)


def huber(f, y):
    return sp.Piecewise(((f - y) ** 2 / 2, abs(f - y) < 1), (abs(f - y) - HALF, True))


def test_numbers_of_cases():
    x, y = sp.symbols("x y", real=True)
    at = {x: np.array([-2.0, 0.0, 0.5, 2.0]), y: 0.5}
    f = sp.Piecewise((x**2, sp.And(x >= 0, x < 1)), (y, sp.Or(x < -1, sp.Eq(x, 7))), (3, sp.Ne(x, 2)), (4, True))
    assert np.array_equal(evaluate(f, at), [0.5, 0.0, 0.25, 4.0])
    assert np.isnan(evaluate(sp.Piecewise((x, x > 0)), {x: -1.0}))


def test_a_loss_by_cases_is_certified_and_trained_alike():
    assert tp.unroll(NET, steps=2, loss=huber).certify().passed
    result = tp.train(NET, X, Y, steps=2, loss=huber, widths=(16, 32), seeds=4)
    squares = tp.train(NET, X, Y, steps=2, loss="mse", widths=(16, 32), seeds=4)
    f = result.f[16]
    assert np.isfinite(f).all() and f.shape == squares.f[16].shape


def test_the_derivative_of_a_loss_by_cases():
    """Huber's loss is the square where |f − y| < 1, so that nearby labels train as with mse."""
    near = np.zeros(2)
    runs = [tp.train(NET, 0.1 * X, near, steps=2, loss=loss, widths=(16, 32), seeds=2) for loss in (huber, "mse")]
    small = np.abs(runs[1].f[16]) < 1
    assert small.any() and np.allclose(runs[0].f[16][small], runs[1].f[16][small], rtol=1e-12, atol=1e-14)


def test_a_loss_without_numbers_is_refused_where_it_is_given():
    for call in (lambda loss: tp.unroll(NET, steps=1, loss=loss),
                 lambda loss: tp.train(NET, X, Y, steps=1, loss=loss, widths=(8, 16), seeds=2)):  # fmt: skip
        with pytest.raises(ProgramError, match="polygamma has no numeric rule"):
            call(lambda f, y: sp.loggamma(2 + (f - y) ** 2))


def by_cases(a):
    return sp.Piecewise((a, a > 0), (0, True))


@pytest.mark.parametrize("call", [tp.nonlin, tp.moment], ids=["nonlin", "moment"])
def test_nonlinearities_by_cases_are_declared(call):
    with pytest.raises(ProgramError, match=r"given by cases, .* tp.declare\('name', kinks=\(0,\), pieces="):
        call(by_cases, tp.Program().vector("x"))


def test_a_function_without_numbers_is_refused_where_it_is_written():
    with pytest.raises(ProgramError, match="gamma has no numeric rule; use functions of .*tanh"):
        tp.nonlin(lambda a: sp.gamma(a**2), tp.Program().vector("x"))
