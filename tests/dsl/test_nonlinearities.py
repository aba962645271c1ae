"""Every named nonlinearity: its values, derivatives and behaviour far out, and its names."""

import math
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from scipy import special

import tensorprog as tp
from tensorprog import functions
from tensorprog.dsl.nonlinearities import Nonlinearity, by_name
from tensorprog.errors import NoRuleError, ProgramError
from tensorprog.functions import FAMILIES, Fn, evaluate, from_sympy, has_deltas, in_steps, is_delta, jumps, member

X = sp.Symbol("x", real=True)
REFERENCE = {
    "identity": lambda x: x,
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "sign": np.sign,
    "abs": np.abs,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "erf": special.erf,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "gelu": lambda x: x * special.ndtr(x),
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "gauss": lambda x: np.exp(-(x**2) / 2),
    "hard_tanh": lambda x: F.hardtanh(torch.as_tensor(x)).numpy(),
    "relu6": lambda x: F.relu6(torch.as_tensor(x)).numpy(),
    "elu": lambda x: F.elu(torch.as_tensor(x)).numpy(),
    "selu": lambda x: F.selu(torch.as_tensor(x)).numpy(),
}
FAR = {  # the values at -1000 and 1000
    "identity": (-1000, 1000), "relu": (0, 1000), "step": (0, 1), "sign": (-1, 1), "abs": (1000, 1000),
    "leaky_relu": (-10, 1000), "erf": (-1, 1), "tanh": (-1, 1), "sigmoid": (0, 1), "gelu": (0, 1000),
    "silu": (0, 1000), "softplus": (0, 1000), "exp": (0, math.inf), "sin": (-math.sin(1000), math.sin(1000)),
    "cos": (math.cos(1000), math.cos(1000)), "gauss": (0, 0),
    "hard_tanh": (-1, 1), "relu6": (0, 6), "elu": (-1, 1000), "selu": (-1.7580993408473766, 1050.7009873554805),
}  # fmt: skip
NAMES = sorted(tp.NONLINEARITIES)
AWAY_FROM_KINKS = np.array([-3.1, -1.7, -0.8, -0.3, 0.2, 0.6, 1.4, 2.9])


DERIVATIVES = [(name, k, sp.diff(f(X), X, k)) for name, f in sorted(tp.NONLINEARITIES.items()) for k in range(1, 4)]


def has_delta(expr):
    return any(is_delta(type(a)) or has_deltas(type(a)) for a in expr.atoms(Fn))


def of(cases):
    """Parameters (name, order, derivative) with readable ids."""
    return pytest.mark.parametrize("name, order, derivative", [pytest.param(*c, id=f"{c[0]}-{c[1]}") for c in cases])


def value(expr, x):
    return np.broadcast_to(evaluate(sp.sympify(expr), {X: np.asarray(x, dtype=float)}), np.shape(x))


def central(f, x, h=1e-3):
    """f' by the seven-point central difference, of error O(h⁶)."""
    weights = {1: 45, 2: -9, 3: 1}
    return sum(w * (f(x + k * h) - f(x - k * h)) for k, w in weights.items()) / (60 * h)


def test_every_nonlinearity_has_a_reference():
    assert set(REFERENCE) == set(FAR) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_the_reference(name):
    x = np.concatenate([np.linspace(-6, 6, 241), [0.0, -0.0, 1e-300, -1e-300]])
    np.testing.assert_allclose(value(tp.NONLINEARITIES[name](X), x), REFERENCE[name](x), rtol=1e-14, atol=1e-15)


@of(c for c in DERIVATIVES if not has_delta(c[2]))
def test_derivatives_equal_central_differences(name, order, derivative):
    lower = sp.diff(tp.NONLINEARITIES[name](X), X, order - 1)
    expected = central(lambda x: value(lower, x), AWAY_FROM_KINKS)
    np.testing.assert_allclose(value(derivative, AWAY_FROM_KINKS), expected, rtol=1e-10, atol=1e-11)


@of(c for c in DERIVATIVES if has_delta(c[2]))
def test_derivatives_of_jumps_are_deltas(name, order, derivative):
    def delta(k, at=0):
        return member(FAMILIES["delta"], k)(X - at) if k >= 0 else 0

    at_0 = {"relu": 1, "step": 1, "sign": 2, "abs": 2, "leaky_relu": sp.Rational(99, 100)}
    scale, alpha = sp.Rational("1.0507009873554804934193349852946"), sp.Rational("1.6732632423543772848170429916717")
    tail = tp.exp(X) * tp.step(-X)
    piecewise = {
        "hard_tanh": delta(order - 2, -1) - delta(order - 2, 1),
        "relu6": delta(order - 2) - delta(order - 2, 6),
        "elu": tail - delta(order - 3),
        "selu": scale * alpha * tail + scale * (1 - alpha) * delta(order - 2) - scale * alpha * delta(order - 3),
    }
    if name in at_0:
        assert derivative == at_0[name] * delta(order - (1 if name in {"step", "sign"} else 2))
    else:
        assert sp.expand(in_steps(type(derivative)) - piecewise[name]) == 0


@pytest.mark.parametrize("name", ["hard_tanh", "relu6", "elu", "selu"])
def test_values_between_kinks_agree_with_autograd(name):
    x = torch.linspace(-8, 8, 331, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad({"hard_tanh": F.hardtanh}.get(name, getattr(F, name, None))(x).sum(), x)
    got = value(sp.diff(tp.NONLINEARITIES[name](X), X), x.detach().numpy())
    np.testing.assert_allclose(got, slope.numpy(), rtol=1e-14)


def test_what_jumps_is_declared_once():
    ours = {name: f for name, f in FAMILIES.items() if name in tp.NONLINEARITIES and f.pieces}
    jumping = {name for name, f in ours.items() for k in (0, 1, 2) if jumps(member(f, k))}
    assert jumping == {"relu", "step", "sign", "abs", "hard_tanh", "relu6", "elu", "selu"}
    assert [jumps(member(FAMILIES["elu"], k)) for k in range(3)] == [False, False, True]
    assert [jumps(member(FAMILIES["selu"], k)) for k in range(2)] == [False, True]


@pytest.mark.parametrize("name", NAMES)
def test_far_out_values_are_right_and_silent(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = value(tp.NONLINEARITIES[name](X), [-1e3, 1e3])
    np.testing.assert_allclose(far, FAR[name], rtol=1e-12, atol=0)


@of(c for c in DERIVATIVES if not has_delta(c[2]))
def test_far_out_derivatives_are_numbers_and_silent(name, order, derivative):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = value(derivative, [-1e3, 1e3])
    assert not np.isnan(far).any()
    if name in {"tanh", "erf", "sigmoid", "gauss"} or (name in {"gelu", "silu", "softplus"} and order > 1):
        np.testing.assert_allclose(far, 0, atol=1e-300)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_of_a_program_gives_a_nonlin(name):
    p = tp.Program()
    v = p.vector("v")
    y = tp.NONLINEARITIES[name](v)
    run = tp.sample(p, width=50, seed=1)
    np.testing.assert_allclose(run[y], REFERENCE[name](run[v]), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_back_to_the_function(name):
    assert by_name(name) is tp.NONLINEARITIES[name]
    assert getattr(tp, name) is tp.NONLINEARITIES[name] or name == "leaky_relu"
    assert tp.NONLINEARITIES[name].__doc__.strip()


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ProgramError, match=r"'rellu'.*did you mean 'relu'"):
        by_name("rellu")
    assert repr(by_name("phi")) == "phi" and by_name("phi")(X) == tp.abstract("phi")(X)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"delta", "exp"}))
def test_a_declared_parity_holds(name):
    f, parity = member(FAMILIES[name], 0)(X), FAMILIES[name].parity
    x = AWAY_FROM_KINKS
    even, odd = (np.allclose(value(f, -x), s * value(f, x), rtol=1e-14) for s in (1, -1))
    assert (even, odd) == (parity == 1, parity == -1)


FROM_SYMPY = {
    "tanh": (sp.tanh(X), tp.tanh(X)),
    "erf": (sp.erf(X), tp.erf(X)),
    "exp": (sp.exp(2 * X), tp.exp(2 * X)),
    "sin": (sp.sin(X), tp.sin(X)),
    "cos": (sp.cos(X), tp.cos(X)),
    "abs": (sp.Abs(X), tp.abs(X)),
    "sign": (sp.sign(X), tp.sign(X)),
    "Heaviside": (sp.Heaviside(X), tp.step(X)),
    "DiracDelta": (sp.DiracDelta(X), member(FAMILIES["delta"], 0)(X)),
    "Max with 0": (sp.Max(X, 0), tp.relu(X)),
    "Max with 1": (sp.Max(X, 1), 1 + tp.relu(X - 1)),
    "Min with 0": (sp.Min(X, 0), -tp.relu(-X)),
    "root of a square": (sp.sqrt(X**2), tp.abs(X)),
    "nested": (sp.tanh(sp.Max(0, sp.sin(X))), tp.tanh(tp.relu(tp.sin(X)))),
}  # fmt: skip


@pytest.mark.parametrize("case", FROM_SYMPY)
def test_sympy_functions_become_members_of_the_table(case):
    theirs, ours = FROM_SYMPY[case]
    assert from_sympy(theirs) == ours
    p = tp.Program()
    y = tp.nonlin(lambda u: theirs.subs(X, u), p.vector("v"))
    body = p.op(y.var).body
    assert all(isinstance(f, Fn) for f in body.atoms(sp.Function)) and body.atoms(sp.Function)


def test_max_and_min_of_several_arguments_keep_their_values():
    y, z = sp.symbols("y z", real=True)
    numbers = np.random.default_rng(0).standard_normal((3, 200))
    at = dict(zip((X, y, z), numbers, strict=True))
    largest, smallest = from_sympy(sp.Max(X, y, z, 0.25)), from_sympy(sp.Min(X, y, z))
    np.testing.assert_allclose(evaluate(largest, at), np.maximum(numbers.max(0), 0.25), atol=1e-15)
    np.testing.assert_allclose(evaluate(smallest, at), numbers.min(0), atol=1e-15)


@pytest.mark.parametrize("slope", [0, 0.2, 1, -1, sp.Rational(1, 3)])
def test_leaky_relu_has_its_slope(slope):
    x = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(value(tp.leaky_relu(slope)(X), x), [-2 * float(slope), 0, 3], rtol=1e-15)


def test_leaky_relu_takes_a_symbol_and_refuses_text():
    a = sp.Symbol("a")
    assert tp.leaky_relu(a)(X).subs(a, 0) == tp.relu(X)
    for bad in ("steep", None, float("nan")):
        with pytest.raises(ProgramError, match="slope"):
            tp.leaky_relu(bad)


def test_polynomials_have_their_coefficients():
    assert sp.expand(tp.polynomial(1, 0, sp.Rational(1, 2), -2)(X) - (1 + X**2 / 2 - 2 * X**3)) == 0
    assert tp.polynomial(7)(X) == 7 and tp.polynomial()(X) == 0
    with pytest.raises(ProgramError, match="coefficient"):
        tp.polynomial(1, "x")


def test_monomials_and_hermite_polynomials():
    assert tp.monomial(4)(X) == X**4 and tp.monomial(0)(X) == 1
    x, w = np.polynomial.hermite_e.hermegauss(20)
    he = [value(tp.hermite(k, normalised=True)(X), x) for k in range(6)]
    np.testing.assert_allclose(np.array(he) * (w / w.sum()) @ np.array(he).T, np.eye(6), atol=1e-13)
    np.testing.assert_allclose(value(tp.hermite(5)(X), x), np.polynomial.hermite_e.hermeval(x, [0] * 5 + [1]))
    for bad in (-1, 1.5, True, "2"):
        with pytest.raises(ProgramError, match="integer ≥ 0"):
            tp.hermite(bad)


def test_polynomial_of_degree_0_is_a_constant_vector():
    p = tp.Program()
    y = tp.polynomial(3)(p.vector("v"))
    assert tp.limit(p).mean(y) == 3


def test_an_abstract_function_is_carried_symbolically():
    phi = tp.abstract("phi")
    assert phi(X).diff(X) != phi(X) and str(phi(X).diff(X, 2).func(0)).startswith("phi''")
    assert tp.abstract("phi")(X) == phi(X) != tp.abstract("psi")(X)
    assert sp.latex(phi(X)) == r"\phi\left(x\right)" and sp.latex(phi(X).diff(X)).startswith(r"\phi'")
    p = tp.Program()
    y = phi(p.vector("v", variance=2))
    lim = tp.limit(p)
    assert lim.cov(y, y).free_symbols and lim.E(lambda a: a, y) == lim.mean(y)
    with pytest.raises(NoRuleError, match=r"phi|φ"):
        lim.evaluate(lim.mean(y))


def test_an_abstract_function_has_no_numbers_and_says_so():
    with pytest.raises(NoRuleError, match=r"abstract.*tp\.relu"):
        evaluate(tp.abstract("phi")(X), {X: 1.0})
    with pytest.raises(NoRuleError, match="delta"):
        evaluate(sp.diff(tp.relu(X), X, 2), {X: 1.0})


@pytest.mark.parametrize("name", ["", "two words", "1st", "a.b"])
def test_an_abstract_function_needs_a_name(name):
    with pytest.raises(NoRuleError, match="identifier"):
        tp.abstract(name)


@pytest.mark.parametrize("bad", ["x", None, [1, 2], float("inf")])
def test_arguments_are_vectors_or_expressions(bad):
    with pytest.raises(ProgramError, match="the argument of relu"):
        tp.relu(bad)


def test_numbers_are_exact():
    assert isinstance(tp.relu, Nonlinearity) and tp.relu(0.5) == member(FAMILIES["relu"], 0)(sp.Rational(1, 2))


ELSEWHERE = """
import pickle, sys, numpy as np, tensorprog as tp
net = pickle.load(sys.stdin.buffer)
print(net, tp.nngp(net)([[1.0, 2.0]])[0, 0].hex())
"""
MADE = {
    "named": lambda: tp.relu,
    "default slope": tp.leaky_relu,
    "slope": lambda: tp.leaky_relu(0.3),
    "polynomial": lambda: tp.polynomial(1, 2, 0.5),
    "monomial": lambda: tp.monomial(3),
    "hermite": lambda: tp.hermite(3, normalised=True),
    "pieces": lambda: tp.declare("bend", kinks=(-1, 2), pieces=(lambda x: -1, lambda x: x, lambda x: 2)),
    "formula": lambda: tp.declare("bump", lambda x: x * sp.exp(-(x**2)), parity=-1),
}


@pytest.fixture
def no_trace():
    """What a test declares is forgotten."""
    known = set(FAMILIES)
    yield
    for name in set(FAMILIES) - known:
        del FAMILIES[name]


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_nonlinearities_travel_to_another_process(make, no_trace):
    net = tp.programs.mlp(depth=1, phi=make())
    found = subprocess.run([sys.executable, "-c", ELSEWHERE], input=pickle.dumps(net), capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout.decode().strip() == f"{net} {tp.nngp(net)([[1.0, 2.0]])[0, 0].hex()}"
    assert repr(pickle.loads(pickle.dumps(net))) == repr(net)


def test_a_declared_name_means_one_function(no_trace):
    made = tp.declare("crease", kinks=(0,), pieces=(lambda x: 0, lambda x: 2 * x))
    call, arguments = made.__reduce__()
    assert repr(call(*arguments)) == "crease"
    again = tp.declare("crease", kinks=(0,), pieces=(lambda x: 0, lambda x: 2 * x))
    assert again.formula is made.formula
    assert repr(pickle.loads(pickle.dumps(tp.abstract("psi")))) == "psi"
    with pytest.raises(tp.ProgramError, match="another nonlinearity was declared as crease"):
        tp.declare("crease", kinks=(0,), pieces=(lambda x: 0, lambda x: 3 * x))
    with pytest.raises(tp.ProgramError, match="another nonlinearity was declared as crease"):
        call(*arguments[:2], (1,), *arguments[3:])


@pytest.mark.parametrize("phi", [tp.abs, tp.relu, tp.sign, tp.step, tp.gelu, tp.softplus, tp.hard_tanh, tp.elu])
def test_functions_of_numbers_stand_beside_variables_in_max(phi):
    for x in (0, sp.Rational(1, 3), -2):
        p = tp.Program()
        zero = (a := p.vector("a")) - a
        y = tp.nonlin(lambda u, x=x: sp.Max(phi(sp.Integer(x) if x == int(x) else x), u) - phi(u + x), zero)
        assert tp.limit(p).evaluate(tp.limit(p).mean(y)) == pytest.approx(max(0, -evaluate(phi(X), {X: float(x)})))


def test_an_abstract_function_has_no_digits_whatever_its_name():
    for name in ("zeta", "phi", "euler", "erf_inv"):
        at_2 = functions.abstract(name)(sp.Integer(2))
        assert at_2.evalf(20).has(type(at_2)) and sp.Max(at_2, 1).has(type(at_2))


def test_formulas_without_a_real_value_are_refused_in_our_words():
    p = tp.Program()
    a = p.vector("a")
    with pytest.raises(tp.ProgramError, match="real number everywhere"):
        tp.nonlin(lambda u: sp.Max(u, sp.I), a)

    def mean(formula, spread=0):
        p = tp.Program()
        a = p.vector("a")
        y = tp.nonlin(formula, a if spread else a - a)
        lim = tp.limit(p)
        return lim.evaluate(lim.mean(y), {c: 0})

    c = sp.Symbol("c", real=True)
    for formula in (lambda u: 1 / u, lambda u: (u - 1) ** sp.Rational(1, 3), sp.log, lambda u: 1 / tp.relu(u)):
        with pytest.raises(tp.DataError, match="at the constant a0 = 0 is .*; it must be a finite real number"):
            mean(formula)
    with pytest.raises(tp.DataError, match="divides by a constant 0"):
        mean(lambda u: 1 / (u + c))
    with pytest.raises(tp.AccuracyError):
        mean(sp.log, spread=1)


def test_formulas_of_constants_are_numbers():
    p = tp.Program()
    a = p.vector("a")
    y = tp.nonlin(lambda u: 2 / (1 + u**2), a - a + 1)
    assert tp.limit(p).mean(y) == 1
