"""All 1797 digits of scikit-learn as 8×8 images: a convolutional network with global pooling beside MLPs.

    python benchmarks/digits.py [--count N] [--path FOLDER]

NNGP and NTK of 3×3 convolutions, relu, depth 3, biases, all pairs in one pass: seconds, and CPU time of all threads
divided by two.  Then accuracies in five stratified folds, chosen as in ``accuracy.py``, whose kernels of MLPs are
computed here too.  With ``--path`` the matrices are kept in files, and the computation goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from accuracy import SIGMA_B, compare, grams
from positions import THREADS, cnn
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

import tensorprog as tp

BIASES = 0.1, 0.5


def images_of(X: np.ndarray, folder: Path | None) -> list[np.ndarray]:
    """NNGP and NTK of the convolutional network, with the time they took."""
    net = cnn(sigma_b=BIASES[0])
    kernels, start, wall = [tp.nngp(net), tp.ntk(net)], time.process_time(), time.perf_counter()
    files = None if folder is None else [folder / f"{k.kind}{len(X)}.npy" for k in kernels]
    found = tp.gram(kernels, X.reshape(-1, 8, 8, 1), path=files)
    taken, wall = time.process_time() - start, time.perf_counter() - wall
    print(f"{len(X)} digits, NNGP and NTK: {wall:.1f} s, {taken / THREADS:.1f} s of CPU a thread", flush=True)
    return [np.asarray(K) for K in found]


def main() -> None:
    """Time and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1797)
    parser.add_argument("--path", type=Path, default=None)
    given = parser.parse_args()
    warnings.simplefilter("error")
    X, y = (part[: given.count] for part in load_digits(return_X_y=True))
    X = X / 16
    nngp, ntk = images_of(X, given.path)
    families = {"CNN NNGP": {"cnn": nngp}, "CNN NTK": {"cnn": ntk}}
    nets = {f"depth {l}": tp.programs.mlp(depth=l, sigma_b=SIGMA_B) for l in (1, 3)}
    for kind in (tp.nngp, tp.ntk):
        families[f"MLP {kind.__name__.upper()}"] = grams(kind, nets, X, [{SIGMA_B: b} for b in BIASES])
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    compare(f"{len(X)} digits, 5 folds", X, y, splits, families)


if __name__ == "__main__":
    main()
