"""Graph classification with planted classes: kernels of GCN and GIN beside a Gaussian kernel of counts of degrees.

    python benchmarks/graphs.py [--count N] [--tiny]

Every graph has one of three make-ups, all with the same numbers of nodes and the same mean degree: edges at random, two
communities, or a ring with a few shortcuts.  A node knows noise and its degree.  NTK and NNGP by ``K.gram``, support
vector machines with five stratified folds, their C by three-fold cross-validation inside.  Then the time of all pairs
against the number of nodes, all graphs of one size, as CPU time of all threads divided by two.
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

THREADS, DEGREE, NOISE = 2, 4.0, 0.5
COSTS = {"C": [0.1, 1.0, 10.0, 100.0]}
NETS = {"GCN, depth 3": tp.programs.gcn(depth=3, sigma_w=2**0.5), "GIN, depth 2": tp.programs.gin(depth=2)}


def edges(kind: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """The adjacency of a graph of n nodes with mean degree ``DEGREE``."""
    p = np.full((n, n), DEGREE / (n - 1))
    if kind == 1:
        side = np.arange(n) < n // 2
        inside = side[:, None] == side
        p = np.where(inside, 1.8, 0.2) * p
    if kind == 2:
        apart = np.abs(np.arange(n)[:, None] - np.arange(n))
        p = np.where(np.isin(np.minimum(apart, n - apart), (1, 2)), 0.85, 0.15 * p)
    a = np.triu(rng.random((n, n)) < p, 1)
    return (a | a.T).astype(float)


def graphs(sizes: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Graphs of these sizes and classes: their edges, and noise, 1 and the degree of every node."""
    A = [edges(kind, n, rng) for kind, n in zip(y, sizes, strict=True)]
    nodes = [np.stack([NOISE * rng.normal(size=len(a)), np.ones(len(a)), a.sum(axis=1) / DEGREE], axis=1) for a in A]
    return {"nodes": nodes, "A": A}


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


def by_degrees(A: list[np.ndarray], y: np.ndarray, folds: list[Any]) -> str:
    """Of machines that know how many nodes have each degree."""
    counts = np.array([np.bincount(a.sum(axis=1).astype(int), minlength=40) / len(a) for a in A])
    grid = {**COSTS, "gamma": [1.0, 10.0, 100.0]}
    fits = (GridSearchCV(SVC(), grid, cv=3).fit(counts[a], y[a]) for a, _ in folds)
    return score([fit.predict(counts[b]) for fit, (_, b) in zip(fits, folds, strict=True)], y, folds)


def accuracies(count: int) -> None:
    """Graphs of 12 to 24 nodes."""
    rng = np.random.default_rng(0)
    y, sizes = np.arange(count) % 3, rng.integers(6, 13, size=count) * 2
    X = graphs(sizes, y, rng)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(sizes, y))
    print(f"| counts of degrees, RBF | {by_degrees(X['A'], y, folds)} |", flush=True)
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
