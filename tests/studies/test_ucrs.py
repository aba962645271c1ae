"""The study ``ucr``: series as packages ship them, the protocol, and machines trained in another way."""

import importlib
import io
import json
import zipfile

import numpy as np
import pytest
import sympy as sp
from sklearn.svm import SVC

import tensorprog as tp
from tensorprog.errors import DataError, NoRuleError
from tensorprog.studies.series import read_series
from tensorprog.studies.ucrs import folds, mcnemar

ROOM = importlib.import_module("tensorprog.studies.ucrs")
NET = tp.programs.rnn(phi=tp.relu)
GRID = {"sigma_w": [1.2, 1.5], "sigma_h": [0.5]}


def waves(seed, number=12, length=9):
    """Sines of two frequencies with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 2
    t = np.linspace(0, 1, length)
    X = np.sin(2 * np.pi * (1 + y[:, None]) * t + rng.uniform(0, 1, (number, 1))) + 0.3 * rng.standard_normal(
        (number, length)
    )
    return X, y + 1


@pytest.fixture
def folder(tmp_path):
    for part, seed in (("TRAIN", 0), ("TEST", 1)):
        X, y = waves(seed)
        np.savetxt(tmp_path / f"Waves_{part}.txt", np.column_stack([y, X]))
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(ROOM, "DENSE", {"depth": [1], "sigma_w": [1.0, 2.0], "sigma_b": [0.1]})
    monkeypatch.setattr(ROOM, "RATES", (0.1, 1.0, 5.0))
    monkeypatch.setattr(ROOM, "SHIFTS", (0.5, 1.0))


def test_every_form_of_a_data_set_is_read_alike(tmp_path, folder):
    (X, y), (Z, z) = waves(0), waves(1)
    wheel = tmp_path / "wheels"
    wheel.mkdir()
    with zipfile.ZipFile(wheel / "some-1.0-py3-none-any.whl", "w") as archive:
        for part, (values, labels) in (("TRAIN", (X, y)), ("TEST", (Z, z))):
            rows = [",".join(map(repr, map(float, v))) + f":{k}" for v, k in zip(values, labels, strict=True)]
            archive.writestr(f"data/Waves_{part}.ts", "# said\n@problemName Waves\n@data\n" + "\n".join(rows) + "\n")
    other = tmp_path / "archive"
    other.mkdir()
    buffer = io.BytesIO()
    np.savez(buffer, X_train=X[:, :, None], y_train=y, X_test=Z[:, :, None], y_test=z)
    (other / "Waves.npz").write_bytes(buffer.getvalue())
    for place in (folder, wheel, other):
        found = read_series("Waves", place)
        np.testing.assert_allclose(found.X, X, rtol=1e-14)
        np.testing.assert_allclose(found.X_test, Z, rtol=1e-14)
        assert found.y.tolist() == (y - 1).tolist() and found.y_test.tolist() == (z - 1).tolist()


def test_what_cannot_be_read_is_said(folder):
    with pytest.raises(DataError, match="pip download"):
        read_series("Nothing", folder)
    with pytest.raises(DataError, match="is no folder"):
        read_series("Waves", folder / "none")
    (folder / "Waves_TEST.txt").write_text("1 2 3\n1 2\n")
    with pytest.raises(DataError, match="equally long"):
        read_series("Waves", folder)
    (folder / "Waves_TEST.txt").write_text("1 nan 3\n")
    with pytest.raises(DataError, match="missing values"):
        read_series("Waves", folder)


def test_folds_deal_out_every_class():
    y = np.array([0] * 10 + [1] * 20)
    parts = folds(y, 10, 3)
    assert sorted(np.concatenate([v for _, v in parts]).tolist()) == list(range(30))
    for train, held in parts:
        assert not {*train.tolist()} & {*held.tolist()} and len(train) + len(held) == 30
        assert sorted(y[held].tolist()) == [0, 1, 1]


def test_mcnemar_is_the_binomial_test_of_what_differs():
    first = np.array([True] * 5 + [False] + [True] * 9)
    second = np.array([False] * 5 + [True] + [True] * 9)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(first, first) == 1.0


def test_machines_are_those_of_other_ways_and_a_study_resumes(folder, small, tmp_path):
    out = tmp_path / "out"
    study = tp.studies.ucr(NET, grid=GRID, sets=["Waves", "Nothing"], folder=folder, out=out)
    found = study.numbers["sets"]["Waves"]["kernels"]
    assert [c.passed for c in study.claims] == [None] and "Nothing" in study.claims[0].name
    (X, y), (Z, z) = waves(0), waves(1)
    X, Z = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (X, Z))
    at = found["RBF"]["setting"]
    other = SVC(C=at["C"], kernel="rbf", gamma=at["alpha"]).fit(X, y).predict(Z) == z
    assert other.tolist() == found["RBF"]["right"]
    at = found["polynomial"]["setting"]
    other = SVC(C=at["C"], kernel="poly", gamma=1.0, coef0=at["r"], degree=at["degree"]).fit(X, y).predict(Z) == z
    assert other.tolist() == found["polynomial"]["right"]
    at = dict(found["RNTK"]["setting"])
    cost = at.pop("C")
    K = tp.ntk(tp.programs.rnn(phi=tp.relu, **at))
    machine = SVC(C=cost, kernel="precomputed").fit(K(X[:, :, None]), y)
    assert (machine.predict(K(Z[:, :, None], X[:, :, None])) == z).tolist() == found["RNTK"]["right"]
    for one in found.values():
        assert one["low"] <= one["accuracy"] <= one["high"] and np.mean(one["right"]) == one["accuracy"]

    path = out / "ucr-Waves-RBF.json"
    known = json.loads(path.read_text())
    known["found"]["validation"] = 0.125
    path.write_text(json.dumps(known))
    (out / "ucr-Waves-NTK.json").write_text("{")
    again = tp.studies.ucr(NET, grid=GRID, sets=["Waves"], folder=folder, out=out).numbers["sets"]["Waves"]["kernels"]
    assert again["RBF"]["validation"] == 0.125 and again["NTK"] == found["NTK"] and again["RNTK"] == found["RNTK"]
    other = tp.studies.ucr(NET, grid=GRID, sets=["Waves"], folder=folder, seed=1, out=out)
    assert other.numbers["sets"]["Waves"]["kernels"]["RBF"]["validation"] != 0.125


def test_bad_input(folder):
    with pytest.raises(NoRuleError, match="sequences"):
        tp.studies.ucr(tp.programs.mlp(), folder=folder)
    with pytest.raises(DataError, match="list of names"):
        tp.studies.ucr(NET, sets="Waves", folder=folder)
    with pytest.raises(DataError, match="Nothing"):
        tp.studies.ucr(NET, sets=["Nothing"], folder=folder)


def test_a_loop_found_at_one_setting_serves_others():
    w, b = sp.symbols("w b", nonnegative=True)
    K = tp.ntk(tp.programs.rnn(phi=tp.relu, sigma_w=w, sigma_b=b))
    X = np.random.default_rng(0).standard_normal((4, 9, 2))
    for values in ({w: 1.3, b: 0.2}, {w: 1.5, b: 0.7}, {w: 1.4, b: 0.0}, {w: 1.0, b: 1.0}):
        fresh = tp.ntk(tp.programs.rnn(phi=tp.relu, sigma_w=values[w], sigma_b=values[b]))
        np.testing.assert_allclose(K.gram(X, values=values), fresh.gram(X), rtol=1e-13)
        np.testing.assert_allclose(K.gram(X, values=values), K(X, values=values), rtol=1e-12)
