"""Graph classification with planted classes: kernels of GCN and GIN beside a Gaussian kernel that ignores edges.

    python benchmarks/graphs.py [--count N] [--tiny]

Half of the nodes of every graph are red, half are blue.  In one class edges join nodes of one colour more often, in
another nodes of different colours, in the third both alike; numbers of nodes and mean degrees are the same.  A node
knows its colour, with noise.  NTK and NNGP by ``K.gram``, support vector machines with five stratified folds, their C
by three-fold cross-validation inside; the baseline knows the mean features and how many nodes have each degree.  Then
the time of all pairs against the number of nodes, all graphs of one size, as CPU time of all threads divided by two.
"""

from __future__ import annotations

import argparse
import time
import warnings
from math import log
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

import tensorprog as tp

THREADS, DEGREE, NOISE, MIXED = 2, 4.0, 0.5, 0.8
COSTS = {"C": [0.1, 1.0, 10.0, 100.0]}
NETS = {"GCN, depth 3": tp.programs.gcn(depth=3, sigma_w=2**0.5), "GIN, depth 2": tp.programs.gin(depth=2)}


def graphs(sizes: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Graphs of these sizes and classes: noisy colours of nodes and 1, and edges."""
    nodes, matrices = [], []
    for n, kind in zip(sizes, y, strict=True):
        colour = np.where(np.arange(n) < n // 2, 1.0, -1.0)
        p = DEGREE / (n - 1) * (1 + MIXED * (kind - 1) * colour[:, None] * colour)
        a = np.triu(rng.random((n, n)) < p, 1)
        matrices.append((a | a.T).astype(float))
        nodes.append(np.stack([colour + NOISE * rng.normal(size=n), np.ones(n)], axis=1))
    return {"nodes": nodes, "A": matrices}


def score(predicted: list[np.ndarray], y: np.ndarray, folds: list[Any]) -> str:
    """Accuracy with its standard error over the folds."""
    right = [100 * float(np.mean(p == y[test])) for p, (_, test) in zip(predicted, folds, strict=True)]
    return f"{np.mean(right):.1f} ± {np.std(right, ddof=1) / len(right) ** 0.5:.1f} %"


def by_kernel(K: np.ndarray, y: np.ndarray, folds: list[Any]) -> str:
    """Of machines with a kernel divided by the roots of its diagonal."""
    scale = np.sqrt(np.diag(K))
    K = K / scale[:, None] / scale
    fits = (GridSearchCV(SVC(kernel="precomputed"), COSTS, cv=3).fit(K[np.ix_(a, a)], y[a]) for a, _ in folds)
    return score([fit.predict(K[np.ix_(b, a)]) for fit, (a, b) in zip(fits, folds, strict=True)], y, folds)


def without_edges(X: dict[str, list[np.ndarray]], y: np.ndarray, folds: list[Any]) -> str:
    """Of machines that know mean features, and how many nodes have each degree."""
    known = np.array([[*x.mean(axis=0), *np.bincount(a.sum(axis=1).astype(int), minlength=40) / len(a)]
                      for x, a in zip(X["nodes"], X["A"], strict=True)])  # fmt: skip
    grid = {**COSTS, "gamma": [0.1, 1.0, 10.0]}
    fits = (GridSearchCV(SVC(), grid, cv=3).fit(known[a], y[a]) for a, _ in folds)
    return score([fit.predict(known[b]) for fit, (_, b) in zip(fits, folds, strict=True)], y, folds)


def accuracies(count: int) -> None:
    """Graphs of 12 to 24 nodes."""
    rng = np.random.default_rng(0)
    y, sizes = np.arange(count) % 3, rng.integers(6, 13, size=count) * 2
    X = graphs(sizes, y, rng)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(sizes, y))
    print(f"| without edges, RBF | {without_edges(X, y, folds)} |", flush=True)
    for name, net in NETS.items():
        start = time.process_time()
        found = tp.gram([tp.nngp(net), tp.ntk(net)], X)
        taken = (time.process_time() - start) / THREADS
        shown = " / ".join(by_kernel(K, y, folds) for K in found)
        print(f"| {name}: NNGP / NTK | {shown} | {taken:.1f} s of CPU a thread |", flush=True)


def growth(sizes: tuple[int, ...], count: int) -> None:
    """Time of all pairs of graphs of one size."""
    for name, net in NETS.items():
        kernels, taken = [tp.nngp(net), tp.ntk(net)], []
        for n in sizes:
            X = graphs(np.full(count, n), np.arange(count) % 3, np.random.default_rng(n))
            tp.gram(kernels, {k: v[:2] for k, v in X.items()})
            start = time.process_time()
            tp.gram(kernels, X)
            taken.append((time.process_time() - start) / THREADS)
        exponent = log(taken[-1] / taken[-2]) / log(sizes[-1] / sizes[-2])
        shown = ", ".join(f"{n}: {t:.2f} s" for n, t in zip(sizes, taken, strict=True))
        print(f"{name}, {count} graphs, nodes: {shown}; nodes^{exponent:.1f}", flush=True)


def main() -> None:
    """Accuracies, then growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--tiny", action="store_true", help="seconds")
    given = parser.parse_args()
    warnings.simplefilter("error")
    accuracies(30 if given.tiny else given.count)
    growth((4, 6) if given.tiny else (8, 16, 32, 64), 4 if given.tiny else 40)


if __name__ == "__main__":
    main()
