"""Changes during training, against formulas worked out by hand (TP2b section 3)."""

import math

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.printing import inner

PHI = tp.abstract("phi")
PROGRAMS = tp.programs
ETA = sp.Symbol("eta", positive=True)


def mlp(depth=2, **options):
    return PROGRAMS.mlp(**{"depth": depth, "phi": PHI, **options})


def slope(a):
    return sp.diff(PHI(a), a)


def test_one_hidden_layer_moves_f_by_the_covariance_of_phi_prime():
    """TP2b Eq. 10: −η χ_t ⟨x,ξ_t⟩ E φ'(Z^h(x)) φ'(Z^h(ξ_t)) when only U is trained."""
    training = tp.unroll(mlp(1, sigma_w=1), steps=3, trainable=["U"])
    for t in range(3):
        expected = training.limit.E(lambda a, b: slope(a) * slope(b), *map(training.trace.program.named, ("U(x)", f"U(ξ{t})")))  # noqa: E501  # fmt: skip
        (chi,) = training.program.op(training._unrolled.chi[t, 0, 0]).value.free_symbols
        assert sp.expand(training.delta_f(t) + ETA * chi * inner("x", f"ξ{t}") * expected) == 0
        assert str(expected) == f"V[φ'](⟨x,x⟩, ⟨x,ξ{t}⟩, ⟨ξ{t},ξ{t}⟩)"


def test_one_hidden_relu_layer_moves_f_by_the_arc_cosine_formula():
    training = tp.unroll(PROGRAMS.mlp(depth=1, phi=tp.relu, sigma_w=1), steps=1, trainable=["U"])
    chi = training.program.op(training._unrolled.chi[0, 0, 0]).value
    a, b, c = 1.3, 0.6, 0.8  # ⟨x,x⟩, ⟨x,ξ⟩, ⟨ξ,ξ⟩
    values = {inner("x", "x"): a, inner("x", "ξ0"): b, inner("ξ0", "ξ0"): c, ETA: 0.7, chi: -1.9}
    angle = math.acos(b / math.sqrt(a * c))
    expected = -0.7 * -1.9 * b * (math.pi - angle) / (2 * math.pi)
    assert training.limit.evaluate(training.delta_f(0), values) == pytest.approx(expected, rel=1e-12)


def test_two_hidden_layers_carry_the_gradient_through_w_and_its_transpose():
    """TP2b Eq. 17-19: Z^{Wδx} = Ẑ + c φ'(Z^h(ξ)) Z^v with c = −η χ ⟨x,ξ⟩ E φ'(Z^g(x)) φ'(Z^g(ξ)), only U trained."""
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["U"])
    program, limit = training.program, training.limit
    z = training.zdelta(1, "W2(x)")
    product = training._unrolled.delta[1, program.named("W2(x)")]
    assert sp.expand(z - limit.zhat(product) - limit.zdot(product)) == 0

    gradient = limit.Z(training._unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0])
    z_h, z_v = limit.Z(program.named("W2(ξ0)")), limit.Z(program.named("V"))
    assert sp.expand(gradient - slope(sp.Symbol("h", real=True)).subs(sp.Symbol("h", real=True), z_h) * z_v) == 0

    coefficient = sp.cancel(limit.zdot(product) / gradient)
    (name,) = coefficient.free_symbols
    definition = {e.lhs: e.rhs for e in limit.equations}[name]
    chi = program.op(training._unrolled.chi[0, 0, 0]).value
    v = limit.E(lambda a, b: slope(a) * slope(b), program.named("U(x)"), program.named("U(ξ0)"))
    assert coefficient == name
    assert sp.expand(definition + ETA * chi * inner("x", "ξ0") * v) == 0


def test_the_gaussian_part_is_independent_of_the_gradient():
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["U"])
    limit, program = training.limit, training.program
    delta = training._unrolled.delta[1, program.named("W2(x)")]
    zhat = limit.zhat(delta)
    (gaussian,) = zhat.free_symbols
    assert zhat == gaussian
    gradient = training._unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0]
    assert gaussian not in limit.Z(gradient).free_symbols
    # E Z^δh Z^v φ'(Z^h(x)) is all of the change of f: the Gaussian part contributes nothing
    change = limit.E(lambda d, v, h: d * v * slope(h), delta, program.named("V"), program.named("W2(x)"))
    coefficients = {e.lhs: e.rhs for e in limit.equations if str(e.lhs).startswith("a(")}
    assert sp.expand(change.xreplace(coefficients) - training.delta_f(0)) == 0


def test_a_trained_second_layer_adds_its_own_term():
    """The change of h = Wx gains −η χ E[Z^x(ξ) Z^x(x)] Z^dh(ξ) (TP2b Eq. 12 and 55)."""
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["W2"])
    limit, program = training.limit, training.program
    chi = program.op(training._unrolled.chi[0, 0, 0]).value
    gradient = limit.Z(training._unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0])
    moment = limit.E(lambda a, b: PHI(a) * PHI(b), program.named("U(x)"), program.named("U(ξ0)"))
    z = training.zdelta(1, "W2(x)").xreplace({e.lhs: e.rhs for e in limit.equations})
    assert sp.expand(z + ETA * chi * moment * gradient) == 0


def test_vectors_that_nothing_moves_have_no_change():
    training = tp.unroll(mlp(2), steps=2, trainable=["W2"])
    assert training.zdelta(2, "U(x)") == 0
    assert training.at(2, "U(x)") == training.at(0, "U(x)")
    assert training.zdelta(2, "W2(x)") != 0
