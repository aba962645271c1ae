"""Kernels of all inputs at once by sampling: independent randomisations, their mean and their standard error.

Every randomisation draws common random numbers for all inputs, taken once each in a canonical order.  Its matrix is a
Gram matrix, so that the mean is symmetric and positive semidefinite; it does not depend on the order of inputs, and
equal inputs have equal rows.  It does depend on which inputs there are: a part is cut out of the whole.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile.blas import one_thread
from tensorprog.dsl.network import Network
from tensorprog.errors import AssumptionError, DataError
from tensorprog.kernels.data import Inputs
from tensorprog.kernels.outer import Pair, gram
from tensorprog.kernels.sampled.noise import DIMENSIONS, Noise
from tensorprog.kernels.sampled.rows import Law, RowsLimit

REPLICATES = 8
SAMPLES = 2**17
MOST = 2**26  # samples in all, beyond which an rtol that is not met is given up
LEAST = 2**10  # samples of a randomisation: its bias is of the order of their inverse
MEMORY = 2**30
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How to sample: ``samples`` in all, or as many as ``rtol`` takes; with ``seed``."""

    samples: int | None = None
    rtol: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, least in (("samples", self.samples, 1), ("seed", self.seed, 0)):
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not (whole and value >= least) and not (what == "samples" and value is None):  # type: ignore[operator]
                raise DataError(f"{what} must be an integer of at least {least}, got {value!r}")
        if self.rtol is not None and not (np.isscalar(self.rtol) and np.isreal(self.rtol) and 0 < self.rtol < 1):  # type: ignore[operator]
            raise DataError(f"rtol must be a number between 0 and 1, got {self.rtol!r}")


@dataclass(frozen=True)
class Sampled:
    """A matrix of all inputs, the standard error of each entry, and how many samples it took."""

    value: np.ndarray
    stderr: np.ndarray
    samples: int


def relative(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Errors relative to √(largest of the row · largest of the column), at most √(K_ii K_jj) of a Gram matrix."""
    size = np.abs(value)
    scale = np.sqrt(size.max(axis=1, keepdims=True) * size.max(axis=0, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, error / scale, 0.0)  # type: ignore[no-any-return]


def sampled_gram(net: Network, kind: str, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float],
                 how: Sampling, told: Told | None = None) -> Sampled:  # fmt: skip
    """K(X1, X2) of a network by sampling.

    Args:
        net: an architecture.
        kind: ``"ntk"`` or ``"nngp"``.
        first, second: inputs; ``second`` is None for the first with themselves.
        hyper: numbers for hyperparameter symbols.
        how: samples, tolerance, seed.
        told: called with (randomisations done, of how many).

    Returns:
        Sampled (N1, N2).

    Raises:
        AssumptionError: the NNGP kernel of a network whose readout is not random.
        DataError: a value is not finite.
    """
    order = _Order(net, first, second)
    sampler = _Sampler(net, kind, order, hyper)
    log2, count = sampler.sizes(how)
    found: list[np.ndarray] = []
    with one_thread:
        while len(found) < count:
            for k in sampler.randomised(range(len(found), count), log2, how.seed):
                found.append(order.restore(k))
                if told is not None:
                    told(len(found), count)
            result = _mean(found, 2**log2)
            if how.samples is None and how.rtol is not None:
                count = _wanted(result, how.rtol, len(found), MOST >> log2)
    return result


def _mean(found: list[np.ndarray], samples: int) -> Sampled:
    K = np.array(found)
    if not np.isfinite(K).all():
        raise DataError("the kernel by sampling is not finite on the data; check the scale of inputs")
    return Sampled(K.mean(axis=0), K.std(axis=0, ddof=1) / np.sqrt(len(K)), samples * len(K))


def _wanted(result: Sampled, rtol: float, have: int, most: int) -> int:
    """How many randomisations a tolerance takes: at most four times as many as there are."""
    excess = float(relative(result.value, result.stderr).max(initial=0.0)) / rtol
    if excess <= 1:
        return have
    return max(have, min(int(have * min(4.0, 1.1 * excess**2)) + 1, most))


class _Order:
    """All inputs in canonical order, equal ones once, and the way back.

    Where a network has states, each input has its own, so that equal ones are kept apart and averaged in the end.
    """

    def __init__(self, net: Network, first: Inputs, second: Inputs | None) -> None:
        lengths = sorted({*first.groups, *(second.groups if second else ())}, key=lambda t: t or 0)
        self.size = (len(first), len(second or first))
        self.symmetric, self.apart = second is None, bool(net.trace(lengths[:1]).states)
        self.data: dict[int | None, np.ndarray] = {}
        classes = np.empty(len(first) + (len(second) if second else 0), int)
        row_of = classes.copy()
        start = group = 0
        for t in lengths:
            parts = [(x, offset) for x, offset in ((first, 0), (second, len(first))) if x is not None and t in x.groups]
            data = np.concatenate([np.asarray(x.data[t], float) for x, _ in parts]) + 0.0
            rows = np.concatenate([x.groups[t] + offset for x, offset in parts])
            flat, inverse = np.unique(data.reshape(len(data), -1), axis=0, return_inverse=True)
            inverse = inverse.reshape(-1)
            classes[rows] = group + inverse
            group += len(flat)
            if self.apart:
                sort = np.argsort(inverse, kind="stable")
                row_of[rows[sort]] = start + np.arange(len(rows))
                self.data[t] = data[sort]
            else:
                row_of[rows] = start + inverse
                self.data[t] = flat.reshape(-1, *data.shape[1:])
            start += len(self.data[t])
        self.classes, self.row_of = classes, row_of

    def __len__(self) -> int:
        return sum(map(len, self.data.values()))

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal rows that span all data vectors, the directions that they share first."""
        rows = np.concatenate([x.reshape(-1, x.shape[-1]) for x in self.data.values()])
        size = np.abs(rows).max(axis=1, keepdims=True)
        rows = rows / np.where(size > 0, size, 1.0)
        _, values, directions = np.linalg.svd(rows, full_matrices=False)
        return directions[values > 1e-13 * max(values.max(initial=0.0), 1e-300)]  # type: ignore[no-any-return]

    def restore(self, K: np.ndarray) -> np.ndarray:
        """From canonical order to that of the inputs."""
        full = K[np.ix_(self.row_of, self.row_of)]
        if self.apart:
            full = self._averaged(full)
        return full if self.symmetric else full[: self.size[0], self.size[0] :]

    def _averaged(self, K: np.ndarray) -> np.ndarray:
        """The mean over permutations of equal inputs: a mean of positive semidefinite matrices."""
        of = self.classes
        chosen = (of[:, None] == np.arange(of.max() + 1)).astype(float)
        count = chosen.sum(axis=0)
        if count.max() == 1:
            return K
        sums, own = chosen.T @ K @ chosen, chosen.T @ K.diagonal()
        pairs = np.outer(count, count) - np.diag(count)
        means = (sums - np.diag(own)) / np.where(pairs > 0, pairs, 1.0)
        result = means[np.ix_(of, of)]
        np.fill_diagonal(result, (own / count)[of])
        return result  # type: ignore[no-any-return]


class _Sampler:
    """The programs of all lengths, run together."""

    def __init__(self, net: Network, kind: str, order: _Order, hyper: Mapping[sp.Symbol, float]) -> None:
        self.kind, self.order = kind, order
        self.programs = {t: RowsLimit(net, t, hyper, kind == "ntk") for t in order.data}
        some = next(iter(self.programs.values()))
        if kind == "nngp" and not some.trace.passes_gia_check:
            raise AssumptionError(
                "this network's readout is not an independent random vector, so its output is no Gaussian process "
                "with a covariance given by the program's limit; use net.readout for an NNGP kernel"
            )
        self.basis = order.basis
        inits = sum(p.kind != "matrix" for p in some.trace.parameters.values())
        products = sum(p.products() * len(order.data[t]) for t, p in self.programs.items())
        states = sum(len(p.trace.states) * len(order.data[t]) for t, p in self.programs.items())
        self.dimensions = inits * max(1, len(self.basis)) + products + states

    def sizes(self, how: Sampling) -> tuple[int, int]:
        """log2 of the samples of a randomisation, which fit into memory, and how many randomisations."""
        total = how.samples or SAMPLES
        log2 = max(LEAST.bit_length() - 1, (max(1, total // REPLICATES)).bit_length() - 1)
        rows = sum(p.vectors() * len(self.order.data[t]) for t, p in self.programs.items())
        rows += 2 * min(self.dimensions, DIMENSIONS)
        while log2 > LEAST.bit_length() - 1 and 8 * rows * 2**log2 * _threads() > MEMORY:
            log2 -= 1
        return log2, max(REPLICATES, -(-total // 2**log2))

    def randomised(self, which: range, log2: int, seed: int) -> Iterator[np.ndarray]:
        """The matrices of some randomisations in canonical order, in turn."""
        with ThreadPoolExecutor(_threads()) as pool:
            waiting: deque[Any] = deque()
            for k in which:
                waiting.append(pool.submit(self.once, log2, (seed, k)))
                if len(waiting) > _threads():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def once(self, log2: int, seed: tuple[int, ...]) -> np.ndarray:
        """One randomisation."""
        law = Law(Noise(self.dimensions, log2, seed), self.basis)
        found: list[tuple[RowsLimit, int, dict[str, list[Pair]]]] = []
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused in the end
            for t, program in self.programs.items():
                data = self.order.data[t]
                values = program.run(data, law)
                pairs = program.outputs(values) if self.kind == "nngp" else program.pairs(data, values)
                found.append((program, len(data), {n: [_rows(p, len(data)) for p in uses] for n, uses in pairs.items()}))
            return _assembled(found)


def _assembled(found: list[tuple[RowsLimit, int, dict[str, list[Pair]]]]) -> np.ndarray:
    ends = np.cumsum([0, *(count for _, count, _ in found)])
    K = np.empty((ends[-1], ends[-1]))
    for i, (program, _, left) in enumerate(found):
        for k, (_, _, right) in enumerate(found[: i + 1]):
            block = np.zeros((ends[i + 1] - ends[i], ends[k + 1] - ends[k]))
            for name in (n for n in left if n in right):
                l, r = left[name][0]
                size = l.shape[-1] * (1 if r is None else r.shape[-1])
                block += program.std[name] ** 2 / size * gram(left[name], right[name], i == k)[0]
            block = (block + block.T) / 2 if i == k else block
            K[ends[i] : ends[i + 1], ends[k] : ends[k + 1]] = block
            K[ends[k] : ends[k + 1], ends[i] : ends[i + 1]] = block.T
    return K


def _rows(pair: Pair, count: int) -> Pair:
    """One row for each input, also of a vector that is the same for all of them."""
    left, right = (None if x is None else x if x.shape[1] == count else np.repeat(x, count, axis=1) for x in pair)
    return left, right


def _threads() -> int:
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def with_seed(how: Sampling, seed: int) -> Sampling:
    """The same with another seed."""
    return replace(how, seed=seed)
