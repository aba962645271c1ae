"""The NTKTRAIN certificate: it passes on every architecture with an abstract φ, and fails when anything is wrong."""

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.ir.instructions import Difference
from tensorprog.limit.evaluate import same
from tensorprog.passes import unroll as unroller

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


# ---- hypotheses are said first ---------------------------------------------------------------------


def test_a_jump_passes_nothing_and_the_derivative_that_is_meant_is_named():
    certificate = tp.unroll(mlp(1, phi=tp.sign), steps=1).certify()
    assert certificate.passed is None and all(row.equal for row in certificate.rows)
    assert certificate.text().splitlines()[1].startswith("  NOT MET: derivatives are functions: sign jumps.")
    assert "Dirac δ" in certificate.text() and "0 almost everywhere" in certificate.text()
    assert certificate.latex().startswith("% NOT MET: derivatives are functions")
    assert tp.unroll(mlp(1, phi=tp.sign), steps=1, trainable=["readout"]).certify().passed is True


def test_a_gate_that_jumps_in_an_untrained_vector_needs_no_derivative():
    def gated(net, x):
        return net.readout("V", tp.relu(net.dense("W", tp.relu(net.embed("U", x)) * tp.step(net.state("m")))))

    assert tp.unroll(tp.network(gated)(), steps=1).certify().hypotheses == []


def test_an_output_that_diverges_passes_nothing_where_the_loss_depends_on_it():
    run = tp.unroll(PROGRAMS.mean_readout(phi=tp.relu), steps=1, loss="mse")
    certificate = run.certify()
    assert certificate.passed is None
    first = certificate.text().splitlines()[1]
    assert first.startswith("  NOT MET: the output has a limit at the start: it diverges like √n")
    assert "E[relu]" in first and "net.readout" in first
    given = tp.unroll(PROGRAMS.mean_readout(phi=tp.relu), steps=1).certify()
    assert given.passed is True and "assumed is that χ_t stays bounded" in given.text()


def test_a_mean_that_depends_on_the_inputs_is_an_assumption():
    for phi in (PHI, tp.polynomial(-0.5, 1, 0.5)):
        certificate = tp.unroll(PROGRAMS.mean_readout(phi=phi, depth=1), steps=1, loss="mse").certify()
        assert certificate.passed is True and [h.holds for h in certificate.hypotheses] == [None]
        assert "assumed: the output has a limit at the start" in certificate.text()
    assert tp.unroll(PROGRAMS.mean_readout(phi=tp.erf), steps=1, loss="mse").certify().hypotheses == []


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


# ---- coordinate distributions do not move --------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-3-layers-5-steps", "tied", "rnn-ragged", "tied-autoencoder", "normalised",
                                  "mlp-momentum", "two-outputs-mse"])  # fmt: skip
def test_every_vector_has_the_same_limit_at_every_time(name):
    """TP2b Eq. 94."""
    net, options = CASES[name]
    training = tp.unroll(net, **options)
    held = [(t, v) for t, v in training._unrolled.state if v.kind == "vector" and t > 0]
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
    f1, f2 = (training._unrolled.f[t, 0, 0] for t in (1, 2))
    assert same(limit._interpreter.z[f2], training.limit._interpreter.z[f2])
    assert not same(limit._interpreter.z[f1], training.limit._interpreter.z[f2])


# ---- a readout read twice, and parts of a network -------------------------------------------------


@tp.network
def two_reads_of_one_readout(net, x):
    h = net.embed("U", x)
    return net.readout("V", PHI(h), bias=0.4) + net.readout("V", PHI(net.dense("W", h)), bias=0.9)


def test_a_readout_bias_read_twice_adds_up():
    """f has the bias (0.4 + 0.9) c: the kernel gains 1.3², in every derivation."""
    net = two_reads_of_one_readout()
    kernels = [tp.ntk(net, method)._derive().poly for method in ("backprop", "paths", "sgd")]
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
