"""Training reports: exponents of error and drift, resuming, wrong kernels, bad settings."""

import json

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.finite.training import FiniteTraining
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
    assert report.passed and ", -0.5 as n grows" in report.text()
    drift = report.errors["kernel drift", 1]
    assert drift.compatible(-0.5, 0.1) and not drift.compatible(-1.0, 0.1)


def test_momentum_batches_tests_and_subsets_of_parameters():
    net, _ = NETS["mlp tanh"]
    options = {"optimizer": tp.SGD(0.3, momentum=0.5), "batch": 2, "trainable": ["matrix"], "X_test": X[:2] + 1}
    report = train(net, X, Y, **SMALL, **options)
    assert report.passed and report.f[32].shape == (8, 4, 6, 1)


def test_weight_decay_has_no_prediction():
    report = train(NETS["mlp tanh"][0], X, Y, optimizer=tp.SGD(0.3, weight_decay=0.1), **SMALL)
    assert not report.prediction and report.claims[0].passed is None and "no fixed kernel" in report.text()


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
