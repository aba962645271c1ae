"""Training reports: exponents of error and drift, resuming, wrong kernels, bad settings."""

import json

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.train import train

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 3)), RNG.normal(size=4)
SEQUENCES = [RNG.normal(size=(t, 3)) for t in (3, 2, 3, 3)]
SMALL = {"widths": (32, 64, 128), "seeds": 8, "steps": 3}
NETS = {
    "mlp tanh": (tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.5), X),
    "mlp relu": (tp.programs.mlp(depth=2, phi=tp.relu, sigma_b=0.5), X),
    "rnn tanh": (tp.programs.rnn(phi=tp.tanh), SEQUENCES),
    "rnn relu": (tp.programs.rnn(phi=tp.relu, sigma_b=0.3), SEQUENCES),
}


@pytest.mark.parametrize("name", NETS)
def test_networks_follow_their_kernel(name):
    net, inputs = NETS[name]
    report = train(net, inputs, Y, **SMALL)
    assert report.passed, report.text()
    assert report.f[128].shape == report.prediction[128].shape == (8, 4, 4, 1)
    assert (
        np.abs(report.f[128] - report.prediction[128]).max() < np.abs(report.f[128][:, 1:] - report.f[128][:, :1]).max()
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [tp.SGD(0.5), tp.SGD(0.3, momentum=0.5)], ids=["plain", "momentum"])
@pytest.mark.parametrize("name", NETS)
def test_error_and_drift_shrink_with_their_exponents_up_to_width_4096(name, optimizer):
    net, inputs = NETS[name]
    report = train(net, inputs, Y, steps=10, optimizer=optimizer, widths=[128 * 2**k for k in range(6)], seeds=32)
    print(report.text())
    assert report.passed, report.text()
    if "tanh" in name:
        assert all(fit.compatible(-1.0, 0.1) for (what, _), fit in report.errors.items() if what == "kernel drift")


MUP = {
    f"{depth} hidden, {phi}": tp.programs.mlp(depth=depth, phi=tp.NONLINEARITIES[phi])
    for depth in (1, 2)
    for phi in ("tanh", "relu")
}


@pytest.mark.parametrize("name", MUP)
def test_mup_follows_its_limit(name, tmp_path):
    options = {"parametrization": tp.mup(), "samples": 2**14, "optimizer": tp.SGD(0.25)}
    report = train(MUP[name], X[:3], Y[:3], **SMALL, **options, out=tmp_path)
    assert isinstance(report, tp.FeatureReport) and report.passed, report.text()
    assert report.limit.f.shape == (4, 3, 1) and "n = ∞" in report.text()
    again = train(MUP[name], X[:3], Y[:3], **SMALL, **options, out=tmp_path)
    assert all(np.array_equal(report.f[w], again.f[w]) for w in report.widths)
    assert all(path.stat().st_size > 100 for path in report.save(tmp_path))
    with pytest.raises(tp.DataError, match="other settings"):
        train(MUP[name], X[:3], Y[:3], **SMALL, out=tmp_path, parametrization=tp.standard(c=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUP)
def test_the_error_of_mup_shrinks_like_the_root_of_the_width_up_to_8192(name):
    widths = [256 * 2**k for k in range(6)]
    report = train(MUP[name], X[:3], Y[:3], steps=10, optimizer=tp.SGD(0.25), widths=widths, seeds=16, samples=2**17,
                   parametrization=tp.mup())  # fmt: skip
    print(report.text())
    assert report.passed and len(report.errors) == 3, report.text()
    assert all(claim.passed for claim in report.claims)


def test_a_wrong_limit_is_refused(monkeypatch):
    right = FiniteTraining.limit

    def wrong(self, *args):
        limit = right(self, *args)
        limit.f = limit.f + 0.1
        return limit

    monkeypatch.setattr(FiniteTraining, "limit", wrong)
    report = train(MUP["1 hidden, tanh"], X[:3], Y[:3], widths=(64, 256, 1024), seeds=8, steps=1,
                   parametrization=tp.mup(), samples=2**14)  # fmt: skip
    assert not report.passed and "FAILED |f − limit|" in report.text()


def test_a_limit_that_is_not_known_well_enough_passes_nothing():
    report = train(MUP["2 hidden, tanh"], X[:3], Y[:3], **SMALL, parametrization=tp.mup(), samples=2**6)
    assert all(claim.passed is None for claim in report.claims) and "raise samples" in report.text()


@pytest.mark.parametrize("which", [tp.standard(c=1), tp.abc([0, "1/2", "1/2"], [0, 0, "1/4"])], ids=repr)
def test_other_kernel_regimes_follow_the_kernel_of_the_layers_that_move(which):
    report = train(NETS["mlp tanh"][0], X, Y, **SMALL, parametrization=which)
    assert report.passed and not isinstance(report, tp.FeatureReport), report.text()


def test_an_unstable_parametrization_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(tp.AssumptionError, match=r"layer 3 \(readout\): 2a \+ c = 0, must be at least 1"):
        train(NETS["mlp tanh"][0], X, Y, **SMALL, parametrization=tp.standard(), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wrong_kernel_is_refused(monkeypatch):
    right = FiniteTraining.kernel
    monkeypatch.setattr(FiniteTraining, "kernel", lambda self: 1.5 * right(self))
    report = train(NETS["mlp tanh"][0], X, Y, widths=(64, 256, 1024), seeds=8, steps=3)
    assert not report.passed and "FAILED |f − prediction|" in report.text()


def test_a_mean_readout_drifts_more():
    """Without a random readout the kernel's change of order n^(−1/2) does not cancel."""
    centred = tp.polynomial(-0.5, 1, 0.5)  # E φ = 0 at unit variance, so that f_0 has a limit
    unit = X * np.sqrt(3) / np.linalg.norm(X, axis=1, keepdims=True)
    report = train(tp.programs.mean_readout(depth=1, phi=centred), unit, Y, widths=(64, 256, 1024), seeds=16, steps=3,
                   optimizer=tp.SGD(0.1))  # fmt: skip
    assert report.passed and "; -0.5 as n grows" in report.text()
    drift = report.errors["kernel drift", 1]
    assert drift.compatible(-0.5, 0.1) and not drift.compatible(-1.0, 0.1)


def test_momentum_batches_tests_and_subsets_of_parameters():
    net, _ = NETS["mlp tanh"]
    options = {"optimizer": tp.SGD(0.3, momentum=0.5), "batch": 2, "trainable": ["matrix"], "X_test": X[:2] + 1}
    report = train(net, X, Y, **SMALL, **options)
    assert report.passed and report.f[32].shape == (8, 4, 6, 1)


DECAY = tp.SGD(0.5, weight_decay=0.12)


def test_with_weight_decay_the_drift_of_a_relu_layer_is_one_minus_the_square_of_the_decay():
    """Θ(a w_0) = a² Θ(w_0) for one layer of ReLUs: the drift tends to 1 − a^(2t), a = 1 − ηλ = 0.94."""
    net = tp.programs.mlp(depth=1, phi=tp.relu, sigma_b=0)
    run = FiniteTraining(net, read_inputs(X[:2], "X", "vectors"), [1.0, -1.0], 3, DECAY, 2)
    assert [run.drift(t) for t in (0, 1, 3)] == pytest.approx([0, 1 - 0.94**2, 1 - 0.94**6], abs=1e-9)
    report = train(net, X[:2], [1.0, -1.0], steps=3, batch=2, optimizer=DECAY, widths=(128, 512, 2048), seeds=12)
    assert report.passed and [c.verdict for c in report.claims] == ["ok"] * 4, report.text()
    assert "kernel drift − 0.1164" in report.text() and "kernel drift − 0.3101" in report.text()


def test_with_weight_decay_f_of_a_relu_layer_is_its_decayed_start_minus_decayed_steps():
    """f_t = a^(2t) f_0 − Σ_s c a^(t+s) Θ χ_s/B, c_{t,s} = η a^(t−s−1)."""
    net, a, eta = tp.programs.mlp(depth=1, phi=tp.relu, sigma_b=0), 0.94, 0.5
    run = FiniteTraining(net, read_inputs(X[:2], "X", "vectors"), [1.0, -1.0], 3, DECAY, 2)
    f0, chi = np.array([[[0.3], [-0.2]]]), RNG.standard_normal((1, 3, 2, 1))
    start = np.stack([a ** (2 * t) * f0 for t in range(4)], axis=1)
    theta = tp.ntk(net)(X[:2])
    for t in range(4):
        pushes = [eta * a ** (t - s - 1) * a ** (t + s) * theta @ chi[0, s] / 2 for s in range(t)]
        expected = start[0, t] - sum(pushes)
        assert run.predict(start, chi)[0, t] == pytest.approx(expected, abs=1e-8)


LONG = pytest.mark.slow


@pytest.mark.parametrize(
    "name, momentum",
    [
        pytest.param(n, m, marks=() if (n[:3] == "rnn") == (m > 0) and "tanh" in n else LONG)
        for n in NETS
        for m in (0, 0.5)
    ],
)
def test_with_weight_decay_networks_follow_their_derived_limit(name, momentum):
    net, inputs = NETS[name]
    optimizer = tp.SGD(0.3, momentum, weight_decay=0.1)
    report = train(net, inputs, Y, optimizer=optimizer, **{**SMALL, "widths": (64, 256, 1024)})
    assert report.passed and any(c.passed for c in report.claims), report.text()
    assert "FAILED" not in report.text() and "weight decay" in report.text()
    moved = np.abs(report.f[1024][:, 1:] - report.f[1024][:, :1]).max()
    assert np.abs(report.f[1024] - report.prediction[1024]).max() < 0.3 * moved


def test_a_wrong_limit_with_weight_decay_is_refused(monkeypatch):
    right = FiniteTraining._kernel_between
    monkeypatch.setattr(FiniteTraining, "_kernel_between", lambda self, t, s: 1.5 * right(self, t, s))
    report = train(NETS["mlp tanh"][0], X, Y, widths=(64, 256, 1024), seeds=8, steps=3, optimizer=DECAY)
    assert not report.passed and "FAILED |f − prediction|" in report.text()


def test_a_kernel_that_does_not_move_has_drift_zero_in_words():
    report = train(NETS["mlp tanh"][0], X, Y, **SMALL, trainable=["readout"])
    claims = [c for c in report.claims if "drift" in c.name]
    assert [c.name for c in claims] == ["kernel drift = 0 at t = 1", "kernel drift = 0 at t = 3"]
    assert all(
        c.passed and c.detail.startswith("the kernel does not move at any width: equal up to rounding") for c in claims
    )
    assert "nan" not in report.text()


def test_a_prediction_that_is_exact_is_said_to_be():
    """Only the output bias trains: its kernel σ² is the same at every width."""
    net = tp.network(lambda net, x: net.readout("V", tp.tanh(net.embed("U", x)), bias=0.5))()
    report = train(net, X, Y, **SMALL, trainable=["output bias"])
    assert report.passed and "f = prediction at t = 3  equal up to rounding" in report.text()
    assert "nan" not in report.text()


# ---- hypotheses ----------------------------------------------------------------------------------


def test_outputs_that_diverge_are_named_and_nothing_is_compared():
    report = train(tp.programs.mean_readout(phi=tp.relu), X, Y, **SMALL, optimizer=tp.SGD(0.1))
    assert report.passed is None and not report.claims and report.f[64].shape == (8, 4, 4, 1)
    first = report.text().splitlines()[1]
    assert first.startswith("  NOT MET: the output has a limit at the start: it diverges like √n")
    assert "subtract_start=True" in first and "net.readout" in first


def test_the_output_minus_its_start_follows_the_kernel_where_the_output_diverges():
    options = {"widths": (64, 256, 1024), "seeds": 16, "steps": 3, "optimizer": tp.SGD(0.05)}
    report = train(tp.programs.mean_readout(phi=tp.relu), X, Y, **options, subtract_start=True)
    assert report.passed and not report.hypotheses, report.text()
    assert any(c.passed for c in report.claims if "prediction" in c.name), report.text()
    assert all(np.abs(f[:, 0]).max() < 1e-12 for f in report.f.values())


def test_odd_functions_of_a_mean_readout_have_nothing_to_say():
    report = train(tp.programs.mean_readout(phi=tp.erf), X, Y, **SMALL, optimizer=tp.SGD(0.1))
    assert not report.hypotheses and "NOT MET" not in report.text()


def test_a_jump_is_refused_unless_only_what_comes_after_it_trains():
    net = tp.programs.mlp(depth=1, phi=tp.sign)
    with pytest.raises(tp.AssumptionError, match="sign jumps.*Dirac δ.*0 almost everywhere"):
        train(net, X, Y, **SMALL)
    assert train(net, X, Y, **SMALL, trainable=["readout"]).passed


def test_a_diverging_run_warns_and_fails():
    with pytest.warns(RuntimeWarning, match="diverges at width") as caught:
        report = train(NETS["mlp relu"][0], X, Y, optimizer=tp.SGD(1e4), widths=(32, 64), seeds=2, steps=6)
    assert [str(w.message).split(":")[0][-2:] for w in caught] == ["32", "64"]
    assert not report.passed and "lower the learning rate" in report.text()


def test_a_series_resumes_and_writes_its_pictures(tmp_path):
    net, _ = NETS["mlp tanh"]

    def interrupt(done, total, what):
        if what == "width 64":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(net, X, Y, out=tmp_path, progress=interrupt, **SMALL)
    kept = (tmp_path / "training.jsonl").read_text().splitlines()
    assert len(kept) == 1 + 16 and json.loads(kept[1])["width"] == 32
    report = train(net, X, Y, out=tmp_path, **SMALL)
    assert (tmp_path / "training.jsonl").read_text().splitlines()[:17] == kept
    fresh = train(net, X, Y, **SMALL)
    assert all(np.array_equal(report.f[w], fresh.f[w]) for w in report.widths)
    assert all(path.stat().st_size > 100 for path in report.save(tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"y": Y[:3]}, "X has 4 inputs and y 3 labels"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"times": [7]}, "times must lie between 1 and 3"),
        ({"widths": [64]}, "two or more widths"),
        ({"seeds": 1}, "two or more widths and seeds"),
        ({"batch": 5}, "a batch of 5"),
        ({"loss": None}, "training needs a loss"),
        ({"trainable": ["W9"]}, "W9"),
        ({"optimizer": "adam"}, "unsupported optimizer"),
        ({"X": [[np.nan, 0.0]], "y": [0.0]}, "nan"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_by_name(options, culprit):
    settings = {"X": X, "y": Y, **SMALL, **options}
    with pytest.raises(tp.TensorProgramError, match=culprit):
        train(NETS["mlp tanh"][0], settings.pop("X"), settings.pop("y"), **settings)
