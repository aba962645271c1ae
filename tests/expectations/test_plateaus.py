"""Steps and signs of piecewise linear arguments that are 0 in a whole region: there they are step(0) and sign(0)."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.plateaus import resolved
from tensorprog.functions import Abs, HardTanh, Relu, Sign, Step

U, V, S = sp.symbols("u v s", real=True)
Q, P, C = 1.3, 0.8, 0.4
third, tenth = sp.Rational(1, 3), sp.Rational(1, 10)


def below(k, q=Q):
    """P(u < k)."""
    return float(sp.N((1 + sp.erf(k / sp.sqrt(2 * q))) / 2))


FLAT = {  # the value of each: what is left where the argument is not 0
    "step(relu(u) - u)": (Step(Relu(U) - U), 0.5),
    "step(u - relu(u))": (Step(U - Relu(U)), 0.0),
    "sign(relu(u) - u)": (Sign(Relu(U) - U), 0.5),
    "sign(u - relu(u))": (Sign(U - Relu(U)), -0.5),
    "step(|u| - u)": (Step(Abs(U) - U), 0.5),
    "step(relu(u + 1/3) - u - 1/3)": (Step(Relu(U + third) - U - third), below(-third)),
    "sign(|u - 1/3| + 1/3 - u)": (Sign(Abs(U - third) + third - U), below(third)),
    "sign(relu(u/3) - u/3)": (Sign(Relu(U / 3) - U / 3), 0.5),
    "step(relu(u - √2) - u + √2)": (Step(Relu(U - sp.sqrt(2)) - U + sp.sqrt(2)), below(sp.sqrt(2))),
    "sign(hard_tanh(u) - u)": (Sign(HardTanh(U) - 3 * U / 3), 0.0),
    "step(hard_tanh(u) - u)": (Step(HardTanh(U) - U), below(-1)),
    "u² step(relu(u/10) - u/10)": (U**2 * Step(tenth * Relu(U) - U / 10), Q / 2),
    "step(u - relu(u) + relu(-u) + v)": (Step(U - Relu(U) + Relu(-U) + V), 0.5),
    "step(relu(relu(u) - u) - relu(-u))": (Step(Relu(Relu(U) - U) - Relu(-U)), 0.0),
    "sign(relu(u - v) - u + v)": (Sign(Relu(U - V) - U + V), 0.5),
    "step(relu(u) - u) relu(v)": (
        Step(Relu(U) - U) * Relu(V),
        float(np.sqrt(P / (2 * np.pi)) * (1 - C / np.sqrt(Q * P)) / 2),
    ),
    "step(relu(u) + relu(v) - u - v)": (
        Step(Relu(U) + Relu(V) - U - V),
        1 - (np.pi - np.arccos(C / np.sqrt(Q * P))) / (2 * np.pi),
    ),
}


@pytest.mark.parametrize("body, value", FLAT.values(), ids=FLAT)
def test_a_jump_stands_at_its_value(body, value):
    found = expectation(body, (U, V), [[Q, C], [C, P]])
    assert abs(found.value - value) <= 1e-13 and found.error <= 1e-12


@pytest.mark.parametrize("slope", [0.1, 0.3, 1.7])
def test_a_symbol_cancels_as_a_number_does(slope):
    body = Step(S * Relu(U + S) - S * U - S**2)
    found = expectation(body, (U,), [[Q]], scalars={S: np.array([slope, 2 * slope])})
    np.testing.assert_allclose(found.value, [below(-slope), below(-2 * slope)], rtol=1e-13)


def test_at_zero_variance_all_is_at_the_jump():
    for body in (Step(Relu(U) - U), Sign(Abs(U) - U)):
        assert expectation(body, (U,), [[0.0]]).value == 0


@pytest.mark.parametrize(
    "body", [Step(Relu(U)), Step(Relu(U) - U + 1), Sign(Relu(U) + Relu(V) + 1), Relu(Relu(U) - U), Step(U - V)]
)
def test_what_stands_at_no_jump_is_left_alone(body):
    assert resolved(body, (U, V)) == body


def test_kernels_of_a_plateau():
    """relu(u) - u is -u below 0 and 0 above, so that its sign is that of relu(-u)."""

    def net(net, x, phi):
        return net.readout("V", phi(net.embed("U", x)))

    flat = tp.network(net)(phi=lambda h: tp.sign(tp.relu(h) - h))
    plain = tp.network(net)(phi=lambda h: tp.step(-h))
    X = np.array([[1.0, 0.5], [0.2, -1.0], [2.0, 1.0], [0.0, 0.0]])
    assert np.abs(tp.nngp(flat)(X) - tp.nngp(plain)(X)).max() < 1e-13
    assert np.abs(tp.nngp(flat).gram(X) - tp.nngp(plain)(X)).max() < 1e-13
