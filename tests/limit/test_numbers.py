"""Functions of vectors that are numbers."""

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.functions import FAMILIES, member


@pytest.mark.parametrize(
    ("phi", "value"),
    [(tp.relu, 0), (tp.tanh, 0), (tp.erf, 0), (tp.gelu, 0), (tp.step, 0), (tp.cos, 1), (tp.sigmoid, sp.Rational(1, 2))],
    ids=str,
)
def test_a_function_of_0_is_its_value(phi, value):
    p = tp.Program()
    x = p.vector("x", variance=0)
    y = phi(x)
    assert tp.limit(p).Z(y) == value
    assert tp.limit(p).cov(y, y) == 0


def test_the_kernel_of_a_network_without_weights_is_0():
    net = tp.programs.mlp(depth=2, sigma_w=0)
    with pytest.warns(tp.FrozenWarning):
        assert "Θ(x,x') = 0" in tp.ntk(net).text()


def test_a_function_of_a_function_at_its_kink_has_a_number():
    p, at_kink = tp.Program(), member(FAMILIES["abs"], 1)(sp.S.Zero)
    y = tp.nonlin(lambda a: tp.hard_tanh(3 * at_kink), p.vector("x"))
    lim = tp.limit(p)
    assert lim.evaluate(lim.mean(y)) == float(at_kink.evalf()) in (-1, 1)


def test_a_formula_that_divides_by_a_number_below_all_floats_is_refused():
    p = tp.Program()
    tp.nonlin(lambda a: a / sp.erfc(1000), p.vector("x"))
    with pytest.raises(tp.DataError, match="divides by a constant 0"):
        tp.sample(p, width=4)
