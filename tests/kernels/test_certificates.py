"""The NTKTRAIN certificate: it passes on every architecture with an abstract φ, and fails when anything is wrong."""

import math

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.finite.training import FiniteTraining
from tensorprog.ir.instructions import Difference
from tensorprog.kernels.data import read_inputs
from tensorprog.limit.evaluate import same
from tensorprog.passes import unroll as unroller
from tensorprog.printing import inner

PHI = tp.abstract("phi")
PROGRAMS = tp.programs
ETA = sp.Symbol("eta", positive=True)
MU, LAMBDA, SIGMA = sp.symbols("mu lambda sigma", positive=True)
RATES = sp.symbols("eta_0:3", positive=True)


# ---- networks that are not in the gallery --------------------------------------------------------


@tp.network
def tied(net, x, *, layers=4, phi=PHI):
    """One matrix and one bias in all layers."""
    h = net.embed("U", x)
    for _ in range(layers - 1):
        h = net.dense("W", phi(h), std=SIGMA) + net.bias("b")
    return net.readout("V", phi(h))


@tp.network
def back_and_forth(net, x, *, phi=PHI):
    """W, then Wᵀ, then W again."""
    W = net.weight("W", std=SIGMA)
    return net.readout("V", phi(W @ phi(W.T @ phi(W @ phi(net.embed("U", x))))))


@tp.network
def two_outputs(net, x, *, phi=PHI):
    """Two outputs of one body with a readout in common."""
    h = net.embed("U", x) + net.bias("b")
    g = net.dense("W", phi(h))
    return net.readout("A", phi(g), bias=2), net.readout("B", phi(h)) + net.readout("A", phi(h))


@tp.network
def normalised(net, x, *, phi=PHI):
    """A layer normalisation after each layer: scalars, and scalars of scalars."""
    h = net.embed("U", x)
    size = tp.moment(lambda a: a**2, h)
    z = tp.nonlin(lambda a, s: a / sp.sqrt(s + 1), h, params=[size])
    g = net.dense("W", phi(z))
    mean = tp.moment(lambda a: a, g)
    variance = tp.moment(lambda a, m: (a - m) ** 2, g, params=[mean])
    y = tp.nonlin(lambda a, m, v: (a - m) / sp.sqrt(v + 1), g, params=[mean, variance])
    return net.readout("V", phi(y))


@tp.network
def output_bias(net, x, *, phi=PHI):
    """A readout bias."""
    return net.readout("V", phi(net.embed("U", x)), bias=SIGMA)


def mlp(depth=2, **options):
    return PROGRAMS.mlp(**{"depth": depth, "phi": PHI, **options})


def numbers_of(certificate):
    """The verdicts of the rows."""
    return [row.equal for row in certificate.rows]


# ---- it passes -----------------------------------------------------------------------------------

CASES = {
    **{f"mlp-{d}-layers-{s}-steps": (mlp(d), {"steps": s}) for d in range(1, 6) for s in (1, 3, 5)},
    "mlp-with-biases": (mlp(3, sigma_b=SIGMA, sigma_w=[1, 2, SIGMA]), {"steps": 3}),
    "mlp-with-three-tests": (mlp(3, sigma_b=1), {"steps": 2, "tests": 3}),
    "mlp-batch-3": (mlp(3, sigma_b=1), {"steps": 3, "batch": 3}),
    "mlp-changing-rate": (mlp(3), {"steps": 3, "optimizer": tp.SGD(RATES)}),
    "mlp-rate-function": (mlp(2), {"steps": 3, "optimizer": tp.SGD(lambda t: ETA / (t + 1))}),
    "mlp-matrices-only": (mlp(3, sigma_b=1), {"steps": 3, "trainable": ["matrix"]}),
    "mlp-one-matrix-only": (mlp(3, sigma_b=1), {"steps": 3, "trainable": ["W2"]}),
    "mlp-embedding-only": (mlp(3, sigma_b=1), {"steps": 3, "trainable": ["embedding"]}),
    "mlp-biases-only": (mlp(3, sigma_b=1), {"steps": 3, "trainable": ["bias"]}),
    "mlp-readout-only": (mlp(3, sigma_b=1), {"steps": 3, "trainable": ["readout"]}),
    "mlp-everything-by-kind": (mlp(3), {"steps": 3, "trainable": ["matrix", "embedding", "readout"]}),
    "mlp-mse": (mlp(3), {"steps": 3, "loss": "mse"}),
    "mlp-mse-batch": (mlp(2, sigma_b=1), {"steps": 2, "loss": "mse", "batch": 2, "tests": 2}),
    "mlp-logistic": (mlp(3), {"steps": 3, "loss": "logistic"}),
    "mlp-custom-loss": (mlp(2), {"steps": 2, "loss": lambda f, y: (f - y) ** 4 / 4}),
    "mlp-momentum": (mlp(3), {"steps": 3, "optimizer": tp.SGD(ETA, MU)}),
    "mlp-momentum-changing-rate": (mlp(2), {"steps": 3, "optimizer": tp.SGD(RATES, MU), "batch": 2}),
    "tied": (tied(), {"steps": 3}),
    "tied-matrix-only": (tied(), {"steps": 2, "trainable": ["W"]}),
    "rnn": (PROGRAMS.rnn(phi=PHI, sigma_b=1), {"steps": 3}),
    "rnn-initial-state": (PROGRAMS.rnn(phi=PHI, sigma_w=SIGMA, sigma_h=1), {"steps": 3}),
    "rnn-ragged": (PROGRAMS.rnn(phi=PHI, sigma_h=1), {"steps": 3, "lengths": [2, 1, 3, 2]}),
    "rnn-ragged-batch": (PROGRAMS.rnn(phi=PHI), {"steps": 2, "batch": 2, "lengths": [3, 1, 2, 3, 2]}),
    "rnn-two-layers": (PROGRAMS.rnn(phi=PHI, layers=2, sigma_h=1, sigma_b=1), {"steps": 2}),
    "rnn-two-layers-ragged": (PROGRAMS.rnn(phi=PHI, layers=2), {"steps": 2, "lengths": [2, 3, 1]}),
    "rnn-untied": (PROGRAMS.rnn(phi=PHI, tied=False), {"steps": 2, "lengths": [2, 3, 1]}),
    "rnn-momentum": (PROGRAMS.rnn(phi=PHI), {"steps": 2, "optimizer": tp.SGD(ETA, MU)}),
    "residual": (PROGRAMS.residual_mlp(phi=PHI, depth=4, alpha=sp.Symbol("alpha")), {"steps": 3}),
    "deep-linear": (PROGRAMS.deep_linear(depth=4), {"steps": 3}),
    "tied-autoencoder": (PROGRAMS.tied_autoencoder(phi=PHI, sigma_w=SIGMA), {"steps": 3}),
    "tied-autoencoder-matrix-only": (PROGRAMS.tied_autoencoder(phi=PHI), {"steps": 2, "trainable": ["W"]}),
    "tied-autoencoder-momentum-mse": (
        PROGRAMS.tied_autoencoder(phi=PHI), {"steps": 2, "optimizer": tp.SGD(RATES, MU), "loss": "mse"}),
    "back-and-forth": (back_and_forth(), {"steps": 2}),
    "two-outputs": (two_outputs(), {"steps": 3}),
    "two-outputs-batch-and-tests": (two_outputs(), {"steps": 2, "batch": 2, "tests": 2}),
    "two-outputs-mse": (two_outputs(), {"steps": 3, "loss": "mse"}),
    "normalised": (normalised(), {"steps": 3}),
    "normalised-momentum": (normalised(), {"steps": 2, "optimizer": tp.SGD(ETA, MU)}),
    "output-bias": (output_bias(), {"steps": 3}),
    "mean-readout": (PROGRAMS.mean_readout(phi=PHI), {"steps": 2}),
    **{f"mlp-{phi}": (mlp(3, phi=phi, sigma_b=1), {"steps": 3}) for phi in (tp.relu, tp.erf)},
    "normalised-relu": (normalised(phi=tp.relu), {"steps": 2}),
    "tied-autoencoder-erf": (PROGRAMS.tied_autoencoder(phi=tp.erf), {"steps": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_f_moves_by_kernel_gradient_descent(name):
    net, options = CASES[name]
    training = tp.unroll(net, **options)
    certificate = training.certify()
    assert certificate.passed is True, certificate.text()
    assert len(certificate.rows) == options["steps"] * options.get("tests", 1) * len(training.trace.heads[0])
    assert "NOT EQUAL" not in certificate.text()
    assert any(row.change for row in certificate.rows)


@pytest.mark.parametrize("name", ["mlp-3-layers-3-steps", "rnn-ragged", "tied-autoencoder", "two-outputs"])
def test_every_step_moves_f(name):
    net, options = CASES[name]
    assert all(row.change and row.prediction for row in tp.unroll(net, **options).certify().rows)


def test_a_network_certifies_against_its_own_kernel_given_from_outside():
    net = mlp(3, sigma_b=1)
    assert tp.unroll(net, steps=2).certify(kernel=net).passed is True
    assert tp.unroll(net, steps=2).certify(kernel=tp.ntk(net)).passed is True


def test_untied_layers_have_the_kernel_of_a_tied_mlp():
    assert tp.unroll(tied(layers=3), steps=2).certify(kernel=mlp(3, sigma_w=[1, SIGMA, SIGMA])).passed is False
    untied = mlp(3, sigma_w=[1, SIGMA, SIGMA], sigma_b=[0, 1, 1])
    assert tp.unroll(untied, steps=2).certify(kernel=untied).passed is True


# ---- it fails ------------------------------------------------------------------------------------

WRONG = {
    "a-missing-layer": (mlp(3), mlp(2)),
    "an-extra-layer": (mlp(2), mlp(3)),
    "a-wrong-variance": (mlp(3, sigma_w=SIGMA), mlp(3, sigma_w=SIGMA**2)),
    "a-slightly-wrong-variance": (mlp(3, sigma_w=1), mlp(3, sigma_w=[1, sp.Rational(1000001, 1000000), 1])),
    "a-missing-bias": (mlp(3, sigma_b=1), mlp(3, sigma_b=[1, 1, 0])),
    "another-nonlinearity": (mlp(2), mlp(2, phi=tp.abstract("psi"))),
    "a-shorter-residual": (PROGRAMS.residual_mlp(phi=PHI), mlp(3, sigma_w=1)),
    "an-rnn-with-a-bias": (PROGRAMS.rnn(phi=PHI), PROGRAMS.rnn(phi=PHI, sigma_b=1)),
    "untied-autoencoder": (PROGRAMS.tied_autoencoder(phi=PHI), mlp(3, sigma_w=1)),
    "a-missing-output-bias": (output_bias(), mlp(1, sigma_w=1)),
}


def assert_fails_with_terms(certificate):
    """The verdict is False, and the text shows terms that have no partner."""
    assert certificate.passed is False
    text = certificate.text()
    assert "NOT EQUAL" in text
    shown = [line.strip() for line in text.splitlines() if line.strip().startswith(("only derived", "only predicted"))]
    assert shown
    assert any(not line.endswith(": nothing") for line in shown)


@pytest.mark.parametrize("name", WRONG)
def test_the_kernel_of_another_network_is_refused(name):
    net, other = WRONG[name]
    lengths = {"lengths": [3, 2, 3]} if net.takes_sequences else {}
    assert_fails_with_terms(tp.unroll(net, steps=2, **lengths).certify(kernel=other))


def test_both_sides_of_a_difference_are_shown():
    text = tp.unroll(mlp(1, sigma_w=1), steps=1).certify(kernel=mlp(1, sigma_w=1, sigma_v=2)).text()
    derived, predicted = text.partition("only derived: ")[2].split("only predicted: ")
    assert " -V[φ'](⟨x,x⟩, ⟨x,ξ0⟩, ⟨ξ0,ξ0⟩)·⟨x,ξ0⟩·η·χ₀" in " " + derived
    assert " -4·V[φ'](⟨x,x⟩, ⟨x,ξ0⟩, ⟨ξ0,ξ0⟩)·⟨x,ξ0⟩·η·χ₀" in " " + predicted


def drop_kind(monkeypatch, kind):
    """The update of one kind of initial vector is forgotten."""
    original = unroller.Unroller.initial_update

    def mutant(self, t, var):
        forgotten = var in self.parameter and self.parameter[var][1].kind == kind
        return sp.S.Zero if forgotten else original(self, t, var)

    monkeypatch.setattr(unroller.Unroller, "initial_update", mutant)


def drop_uses(monkeypatch, keep):
    """Some uses of the matrices are forgotten."""
    original = unroller.Unroller.__init__

    def mutant(self, u):
        original(self, u)
        self.uses = {matrix: keep(uses) for matrix, uses in self.uses.items()}

    monkeypatch.setattr(unroller.Unroller, "__init__", mutant)


def change_past(monkeypatch, fn):
    """Other coefficients or loss derivatives in the updates."""
    original = unroller.Unroller.past

    def mutant(self, t, name):
        for c, chi, j, l, key in original(self, t, name):
            yield *fn(self, name, c, chi, key), j, l, key

    monkeypatch.setattr(unroller.Unroller, "past", mutant)


MUTANTS = {
    "readout": (mlp(2), lambda m: drop_kind(m, "readout")),
    "embedding": (mlp(2), lambda m: drop_kind(m, "embedding")),
    "bias": (mlp(2, sigma_b=1), lambda m: drop_kind(m, "bias")),
    "all-uses-of-a-matrix": (mlp(2), lambda m: drop_uses(m, lambda uses: [])),
    "one-use-of-a-tied-matrix": (tied(layers=3), lambda m: drop_uses(m, lambda uses: uses[::2])),
    "the-use-of-a-transpose": (
        PROGRAMS.tied_autoencoder(phi=PHI),
        lambda m: drop_uses(m, lambda uses: [u for u in uses if not u[1].transpose])),
    "one-step-of-an-rnn": (PROGRAMS.rnn(phi=PHI), lambda m: drop_uses(m, lambda uses: uses[1::2])),
    "chi-of-the-first-step": (
        mlp(2), lambda m: change_past(m, lambda run, name, c, chi, key: (c, run.u.chi[0, *key[1:]]))),
    "chi-doubled": (mlp(2), lambda m: change_past(m, lambda run, name, c, chi, key: (2 * c, chi))),
    "chi-doubled-for-one-matrix": (
        mlp(3), lambda m: change_past(m, lambda run, name, c, chi, key: (c * (1 + int(name == "W3")), chi))),
    "chi-of-the-other-output": (
        two_outputs(), lambda m: change_past(m, lambda run, name, c, chi, key: (c, run.u.chi[*key[:2], 0]))),
    "readout-bias": (
        output_bias(), lambda m: change_past(m, lambda run, name, c, chi, key: (c * int(name != "V.bias"), chi))),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_update_is_refused(name, monkeypatch):
    net, mutate = MUTANTS[name]
    assert tp.unroll(net, steps=2).certify().passed is True
    mutate(monkeypatch)
    assert_fails_with_terms(tp.unroll(net, steps=2).certify())


def test_a_change_of_a_nonlinearity_that_is_forgotten_is_refused(monkeypatch):
    net = PROGRAMS.residual_mlp(phi=PHI)
    rule = unroller.change.registry[unroller.Nonlin]

    def mutant(op, var, run, t):
        return None if run.trace.program.op(op.args[0]).__class__.__name__ == "InitVector" else rule(op, var, run, t)

    dispatch = unroller.change
    monkeypatch.setattr(
        unroller, "change",
        lambda op, var, run, t: (mutant if isinstance(op, unroller.Nonlin) else dispatch)(op, var, run, t),
    )  # fmt: skip
    assert_fails_with_terms(tp.unroll(net, steps=1).certify())


# ---- if Wᵀ were independent of W -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-3-layers-3-steps", "tied", "rnn", "residual", "tied-autoencoder", "deep-linear"])
def test_an_independent_transpose_gives_the_wrong_training(name):
    net, options = CASES[name]
    training = tp.unroll(net, **options)
    assert training.certify().passed is True
    certificate = training.certify(gia=True)
    assert_fails_with_terms(certificate)
    assert "independent" in certificate.text()


def test_with_an_independent_transpose_f_would_not_move_when_only_the_embedding_is_trained():
    training = tp.unroll(mlp(2), steps=3, trainable=["U"])
    assert training.certify().passed is True
    certificate = training.certify(gia=True)
    assert numbers_of(certificate) == [False] * 3
    for row in certificate.rows:
        assert not row.change
        assert row.prediction
    assert "only derived: nothing" in certificate.text()


def test_with_an_independent_transpose_the_upper_layers_still_move_f():
    for names, moves in ((["U"], False), (["W2"], False), (["W3"], True), (["V"], True)):
        certificate = tp.unroll(mlp(3), steps=2, trainable=names).certify(gia=True)
        assert [bool(row.change) for row in certificate.rows] == [moves] * 2
        assert certificate.passed is moves


# ---- by hand -------------------------------------------------------------------------------------


def slope(a):
    return sp.diff(PHI(a), a)


def gram(a, b):
    return inner(a, b)


def test_one_hidden_layer_moves_f_by_the_covariance_of_phi_prime():
    """TP2b Eq. 10: −η χ_t ⟨x,ξ_t⟩ E φ'(Z^h(x)) φ'(Z^h(ξ_t)) when only U is trained."""
    training = tp.unroll(mlp(1, sigma_w=1), steps=3, trainable=["U"])
    for t in range(3):
        expected = training.limit.E(lambda a, b: slope(a) * slope(b), *map(training.trace.program.named, ("U(x)", f"U(ξ{t})")))  # noqa: E501  # fmt: skip
        (chi,) = training.program.op(training.unrolled.chi[t, 0, 0]).value.free_symbols
        assert sp.expand(training.delta_f(t) + ETA * chi * gram("x", f"ξ{t}") * expected) == 0
        assert str(expected) == f"V[φ'](⟨x,x⟩, ⟨x,ξ{t}⟩, ⟨ξ{t},ξ{t}⟩)"


def test_one_hidden_relu_layer_moves_f_by_the_arc_cosine_formula():
    training = tp.unroll(PROGRAMS.mlp(depth=1, phi=tp.relu, sigma_w=1), steps=1, trainable=["U"])
    chi = training.program.op(training.unrolled.chi[0, 0, 0]).value
    a, b, c = 1.3, 0.6, 0.8  # ⟨x,x⟩, ⟨x,ξ⟩, ⟨ξ,ξ⟩
    values = {gram("x", "x"): a, gram("x", "ξ0"): b, gram("ξ0", "ξ0"): c, ETA: 0.7, chi: -1.9}
    angle = math.acos(b / math.sqrt(a * c))
    expected = -0.7 * -1.9 * b * (math.pi - angle) / (2 * math.pi)
    assert training.limit.evaluate(training.delta_f(0), values) == pytest.approx(expected, rel=1e-12)


def test_two_hidden_layers_carry_the_gradient_through_w_and_its_transpose():
    """TP2b Eq. 17-19: Z^{Wδx} = Ẑ + c φ'(Z^h(ξ)) Z^v with c = −η χ ⟨x,ξ⟩ E φ'(Z^g(x)) φ'(Z^g(ξ)), only U trained."""
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["U"])
    program, limit = training.program, training.limit
    z = training.zdelta(1, "W2(x)")
    product = training.unrolled.delta[1, program.named("W2(x)")]
    assert sp.expand(z - limit.zhat(product) - limit.zdot(product)) == 0

    gradient = limit.Z(training.unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0])
    z_h, z_v = limit.Z(program.named("W2(ξ0)")), limit.Z(program.named("V"))
    assert sp.expand(gradient - slope(sp.Symbol("h", real=True)).subs(sp.Symbol("h", real=True), z_h) * z_v) == 0

    coefficient = sp.cancel(limit.zdot(product) / gradient)
    (name,) = coefficient.free_symbols
    definition = {e.lhs: e.rhs for e in limit.equations}[name]
    chi = program.op(training.unrolled.chi[0, 0, 0]).value
    v = limit.E(lambda a, b: slope(a) * slope(b), program.named("U(x)"), program.named("U(ξ0)"))
    assert coefficient == name
    assert sp.expand(definition + ETA * chi * gram("x", "ξ0") * v) == 0


def test_the_gaussian_part_is_independent_of_the_gradient():
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["U"])
    limit, program = training.limit, training.program
    delta = training.unrolled.delta[1, program.named("W2(x)")]
    zhat = limit.zhat(delta)
    (gaussian,) = zhat.free_symbols
    assert zhat == gaussian
    gradient = training.unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0]
    assert gaussian not in limit.Z(gradient).free_symbols
    # E Z^δh Z^v φ'(Z^h(x)) is all of the change of f: the Gaussian part contributes nothing
    change = limit.E(lambda d, v, h: d * v * slope(h), delta, program.named("V"), program.named("W2(x)"))
    coefficients = {e.lhs: e.rhs for e in limit.equations if str(e.lhs).startswith("a(")}
    assert sp.expand(change.xreplace(coefficients) - training.delta_f(0)) == 0


def test_a_trained_second_layer_adds_its_own_term():
    """The change of h = Wx gains −η χ E[Z^x(ξ) Z^x(x)] Z^dh(ξ) (TP2b Eq. 12 and 55)."""
    training = tp.unroll(mlp(2, sigma_w=1), steps=1, trainable=["W2"])
    limit, program = training.limit, training.program
    chi = program.op(training.unrolled.chi[0, 0, 0]).value
    gradient = limit.Z(training.unrolled.gradients[0, 0, 0].of[program.named("W2(ξ0)")][0])
    moment = limit.E(lambda a, b: PHI(a) * PHI(b), program.named("U(x)"), program.named("U(ξ0)"))
    z = training.zdelta(1, "W2(x)").xreplace({e.lhs: e.rhs for e in limit.equations})
    assert sp.expand(z + ETA * chi * moment * gradient) == 0


def test_vectors_that_nothing_moves_have_no_change():
    training = tp.unroll(mlp(2), steps=2, trainable=["W2"])
    assert training.zdelta(2, "U(x)") == 0
    assert training.at(2, "U(x)") == training.at(0, "U(x)")
    assert training.zdelta(2, "W2(x)") != 0


# ---- coordinate distributions do not move --------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-3-layers-5-steps", "tied", "rnn-ragged", "tied-autoencoder", "normalised",
                                  "mlp-momentum", "two-outputs-mse"])  # fmt: skip
def test_every_vector_has_the_same_limit_at_every_time(name):
    """TP2b Eq. 94."""
    net, options = CASES[name]
    training = tp.unroll(net, **options)
    held = [(t, v) for t, v in training.unrolled.state if v.kind == "vector" and t > 0]
    assert len(held) > 5
    moved = [(t, v) for t, v in held if training.at(t, v) != v]
    assert moved
    for t, v in moved:
        assert sp.expand(training.Z(t, v) - training.Z(0, v)) == 0
    assert sum(training.zdelta(t, v) != 0 for t, v in moved) > len(moved) / 2


def test_followed_vectors_have_their_limit_at_the_last_time_too():
    training = tp.unroll(mlp(2), steps=2)
    for v, op in training.trace.program:
        if v.kind == "vector" and v.name in ("U(x)", "W2(x)", "V"):
            assert [sp.expand(training.Z(t, v) - training.Z(0, v)) for t in range(3)] == [0, 0, 0], op
            assert training.zdelta(2, v) != 0


def test_samples_are_not_followed_beyond_their_step():
    with pytest.raises(tp.ProgramError, match=r"does not hold W2\(ξ0\) at time 1; it holds it at \[0.*\]"):
        tp.unroll(mlp(2), steps=2).Z(1, "W2(ξ0)")


def test_with_weight_decay_the_limits_do_move():
    training = tp.unroll(mlp(2), steps=1, optimizer=tp.SGD(ETA, weight_decay=LAMBDA))
    for name, exponent in (("U(x)", 1), ("V", 1)):
        assert sp.expand(training.Z(1, name) - (1 - ETA * LAMBDA) ** exponent * training.Z(0, name)) == 0
    assert sp.expand(training.Z(1, "W2(x)") - training.Z(0, "W2(x)")) != 0


# ---- the program ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-2-layers-3-steps", "rnn-ragged", "tied-autoencoder-momentum-mse", "normalised",
                                  "two-outputs-mse", "mlp-logistic"])  # fmt: skip
def test_the_program_of_a_run_survives_json(name):
    net, options = CASES[name]
    program = tp.unroll(net, **options).program
    again = tp.Program.from_json(program.to_json())
    assert list(again) == list(program)
    assert str(again) == str(program)
    assert any(isinstance(op, Difference) for _, op in again)


def test_a_run_read_from_json_has_the_same_limit():
    training = tp.unroll(mlp(2), steps=2, loss="mse")
    limit = tp.limit(tp.Program.from_json(training.program.to_json()))
    f1, f2 = (training.unrolled.f[t, 0, 0] for t in (1, 2))
    assert same(limit.z[f2], training.limit.z[f2])
    assert not same(limit.z[f1], training.limit.z[f2])


# ---- weight decay --------------------------------------------------------------------------------


def test_with_weight_decay_the_derived_change_is_stated_without_a_verdict():
    certificate = tp.unroll(mlp(1, sigma_w=1), steps=2, optimizer=tp.SGD(ETA, weight_decay=LAMBDA)).certify()
    assert certificate.passed is None
    assert numbers_of(certificate) == [None, None]
    text = certificate.text()
    assert "no fixed kernel" in text
    assert text.count("derived    f") == 2
    for part in ("f_0^1(x)", "f_0(x)", "λ", "χ₀", "V[φ']"):
        assert part in text


def test_the_first_step_with_weight_decay_by_hand():
    """f_1 = f̂_1 − η χ (E φ(a Z^h) φ(Z^ξ) + a ⟨x,ξ⟩ E φ'(a Z^h) φ'(Z^ξ)), a = 1 − ηλ, one hidden layer."""
    training = tp.unroll(mlp(1, sigma_w=1), steps=1, optimizer=tp.SGD(ETA, weight_decay=LAMBDA))
    limit, program = training.limit, training.program
    a = 1 - ETA * LAMBDA
    hs = program.named("U(x)"), program.named("U(ξ0)")
    values = limit.E(lambda p, q: PHI(a * p) * PHI(q), *hs)
    slopes = limit.E(lambda p, q: sp.diff(PHI(p), p).subs(p, a * p) * slope(q), *hs)
    chi = program.op(training.unrolled.chi[0, 0, 0]).value
    scalars = {key: program.op(v).value for key, v in training.unrolled.outputs0.items()}
    i = training.plan.tests[0]
    expected = scalars[1, i, 0] - scalars[0, i, 0] - ETA * chi * (values + a * gram("x", "ξ0") * slopes)
    difference = training.delta_f(0) - expected
    definitions = {e.lhs: e.rhs for e in limit.equations}
    assert sp.expand(difference.xreplace(definitions)) == 0


@pytest.mark.parametrize("momentum", [0, 0.5])
@pytest.mark.parametrize(("phi", "power"), [(tp.tanh, 1), (tp.relu, 0.5)], ids=["tanh", "relu"])
def test_finite_networks_with_weight_decay_approach_the_limit(phi, power, momentum):
    """The mean of f_t minus its limit at the run's own initial scalars extrapolates to 0 at every t and input.

    It is a series in 1/n, or in n^(−1/2) for ReLU: the O(n^(1/2)) units that an update takes across 0 are those
    that were active, so their contributions do not cancel.
    """
    rng = np.random.default_rng(3)
    X = read_inputs(rng.standard_normal((3, 2)), "X", False)
    net = PROGRAMS.mlp(depth=1, phi=phi, sigma_w=1.2)
    run = FiniteTraining(net, X, [1.0, -1.0], 2, tp.SGD(0.4, momentum, weight_decay=0.5))
    widths, seeds = (64, 128, 256, 512), 4000
    gaps, moves = {}, {}
    for k, n in enumerate(widths):
        gaps[n], moves[n] = gap_to_limit(run, n, list(range(seeds * k, seeds * (k + 1))))
    means = np.stack([gaps[n].mean(axis=0) for n in widths])
    errors = np.stack([gaps[n].std(axis=0, ddof=1) / math.sqrt(seeds) for n in widths])
    design = np.array([[1, n**-power, n ** (-2 * power)] for n in widths])
    weights = np.linalg.pinv(design)[0]
    limit = np.tensordot(weights, means, 1)
    error = np.sqrt(np.tensordot(weights**2, errors**2, 1))
    assert (10 * error < np.abs(moves[512].mean(axis=0)).max()).all()
    assert (np.abs(limit) < 4 * error + 1e-12).all()
    # the spread of a single run is the fluctuation of the kernel, of order n^(−1/2)
    spread = [gaps[n].std(axis=0).max() for n in widths]
    assert spread[3] / spread[1] == pytest.approx(0.5, rel=0.2)


def gap_to_limit(run, width, seeds):
    """f_t − lim f_t and f_t − f_0 for every seed, (S, steps, N), with the initial scalars and labels of the run."""
    values = run.execute(run.finite.draw(width, seeds))
    program, training = run.training.program, run.training
    scalars = {program.op(v).value: values[v][:, 0] for v in run.u.outputs0.values()}
    scalars |= {program.op(v).value: run.y[i, k] for (i, k), v in run.u.labels.items()}
    f = run.outputs(values)[..., 0]
    limits = [[training.limit.evaluate(training.f(t, i), {**run.finite.hyper, **scalars})
               for i in range(len(run.inputs))] for t in range(1, run.steps + 1)]  # fmt: skip
    limit = np.moveaxis(np.array([[np.broadcast_to(v, len(seeds)) for v in row] for row in limits]), -1, 0)
    return f[:, 1:] - limit, f[:, 1:] - f[:, :1]


@tp.network
def two_reads_of_one_readout(net, x):
    h = net.embed("U", x)
    return net.readout("V", PHI(h), bias=0.4) + net.readout("V", PHI(net.dense("W", h)), bias=0.9)


def test_a_readout_bias_read_twice_adds_up():
    """f has the bias (0.4 + 0.9) c: the kernel gains 1.3², in every derivation."""
    net = two_reads_of_one_readout()
    kernels = [tp.ntk(net, method).derive().poly for method in ("backprop", "paths", "sgd")]
    assert all(same(kernels[0], k) for k in kernels[1:])
    assert tp.unroll(net, steps=2).certify().passed
    assert "1.69" in tp.ntk(net).text() or "169/100" in tp.ntk(net).text()


def test_a_foreign_kernel_is_restricted_to_what_is_trained():
    net = tp.programs.mlp(depth=2, phi=PHI, sigma_w=1)
    assert tp.unroll(net, steps=1, trainable=["matrix"]).certify(kernel=net).passed
    assert (
        not tp.unroll(net, steps=1, trainable=["matrix"])
        .certify(kernel=tp.programs.mlp(depth=1, phi=PHI, sigma_w=1))
        .passed
    )
