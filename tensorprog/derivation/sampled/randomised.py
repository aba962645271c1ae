"""Kernels of all inputs at once by sampling: independent randomisations, their mean and their standard error.

Every randomisation draws common random numbers for all inputs, taken once each in a canonical order.  Its matrix is a
Gram matrix, so that the mean is symmetric and positive semidefinite; it does not depend on the order of inputs, and
equal inputs have equal rows.  It does depend on which inputs there are: a part is cut out of the whole.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile.blas import one_thread
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.kernel_account import relative, scale_of
from tensorprog.derivation.outer import Pair
from tensorprog.derivation.sampled.grams import Grams
from tensorprog.derivation.sampled.matrices import Choices, Span
from tensorprog.derivation.sampled.noise import DIMENSIONS, Noise
from tensorprog.derivation.sampled.order import Order
from tensorprog.derivation.sampled.rows import Law, RowsLimit
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, DataError, shortly
from tensorprog.functions import evaluate
from tensorprog.progress import telling

REPLICATES = 16
SAMPLES = 2**17
MOST = 2**28  # samples in all, beyond which an rtol that is not met is given up
LEAST = 10  # log2 of the samples of a randomisation
BIAS = 0.5  # of a randomisation of m samples, relative to the kernel, times m: measured, at most
MEMORY = 2**30
Trained = Callable[[Trace], Mapping[str, sp.Expr] | None]


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
                raise DataError(f"{what} must be an integer of at least {least}, got {shortly(value)}")
        if self.rtol is not None and not (np.isscalar(self.rtol) and np.isreal(self.rtol) and 0 < self.rtol < 1):  # type: ignore[operator]
            raise DataError(f"rtol must be a number between 0 and 1, got {shortly(self.rtol)}")


@dataclass(frozen=True)
class Sampled:
    """A matrix of all inputs, the standard error of each entry, and how many samples it took."""

    value: np.ndarray
    stderr: np.ndarray
    samples: int


def sampled_gram(net: Network, kind: str, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float],
                 how: Sampling, trained: Trained | None = None) -> Sampled:  # fmt: skip
    """K(X1, X2) of a network by sampling.

    Args:
        net: an architecture.
        kind: ``"ntk"`` or ``"nngp"``.
        first, second: inputs; ``second`` is None for the first with themselves.
        hyper: numbers for hyperparameter symbols.
        how: samples, tolerance, seed.
        trained: gives the factors of the parameters of a trace in the NTK; all are 1 when it is None or gives None.

    Returns:
        Sampled (N1, N2).

    Raises:
        AssumptionError: the NNGP kernel of a network whose readout is not random.
        DataError: a value is not finite.
    """
    order = Order(net, first, second)
    sampler = _Sampler(net, kind, order, hyper, trained)
    log2, count = sampler.sizes(how)
    found: list[np.ndarray] = []
    with one_thread, telling() as tell:
        rounding = order.restore(sampler.rounding(how.seed))
        while len(found) < count:
            for matrix in sampler.randomised(range(len(found), count), log2, how.seed):
                found.append(order.restore(matrix))
                tell(len(found), count, "sampling")
            result = mean_of(found, 2**log2, rounding)
            if how.samples is None and how.rtol is not None:
                count = wanted(result, how.rtol, len(found), max(REPLICATES, MOST >> log2))
    return result


def mean_of(found: list[np.ndarray], samples: int, rounding: np.ndarray | float = 0.0) -> Sampled:
    """The mean of randomisations of so many samples each, and its standard error, with what ``rounding`` adds to it.

    Raises:
        DataError: it is not finite.
    """
    K = np.array(found)
    if not np.isfinite(K).all():
        raise DataError("the kernel by sampling is not finite on the data; check the scale of inputs")
    value, spread = K.mean(axis=0), K.std(axis=0, ddof=1) / np.sqrt(len(K))
    bias = BIAS / samples * scale_of(value)
    error = np.where(scale_of(value) > 0, np.hypot(spread, bias), 0.0) + rounding
    return Sampled(value, error, samples * len(K))


def wanted(result: Sampled, rtol: float, have: int, most: int) -> int:
    """How many randomisations a tolerance takes: at most four times as many as there are."""
    excess = float(relative(result.value, result.stderr).max(initial=0.0)) / rtol
    if excess <= 1:
        return have
    return max(have, min(int(have * min(4.0, 1.1 * excess**2)) + 1, most))


class _Sampler:
    """The programs of all lengths, run together."""

    def __init__(self, net: Network, kind: str, order: Order, hyper: Mapping[sp.Symbol, float],
                 trained: Trained | None) -> None:  # fmt: skip
        self.kind, self.order = kind, order
        self.programs = {t: RowsLimit(net, t, hyper, kind == "ntk") for t in order.data}
        some = next(iter(self.programs.values()))
        rates = [trained(p.trace) for p in self.programs.values()] if trained is not None else [None]
        found = None if None in rates else {n: r for some in rates if some for n, r in some.items()}
        self.rates = None if found is None else {n: float(evaluate(r, hyper)) for n, r in found.items()}
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
        """log2 of the samples of a randomisation, which fit into memory, and how many randomisations.

        A small tolerance asks for large ones: their bias must be smaller still.
        """
        total = how.samples or SAMPLES
        log2 = max(LEAST, (total // REPLICATES).bit_length() - 1)
        if how.samples is None and how.rtol is not None:
            log2 = max(LEAST, math.ceil(math.log2(4 * BIAS / how.rtol)))
            total = REPLICATES * 2**log2
        rows = sum(p.vectors() * len(self.order.data[t]) for t, p in self.programs.items())
        rows += 4 * min(self.dimensions, DIMENSIONS)
        while log2 > LEAST and 4 * rows * 2**log2 * _threads() > MEMORY:
            log2 -= 1
        return log2, max(REPLICATES, -(-total // 2**log2))

    def randomised(self, which: range, log2: int, seed: int) -> Iterator[np.ndarray]:
        """The matrices of some randomisations in canonical order, in turn."""
        pool = ThreadPoolExecutor(_threads())
        try:
            waiting: deque[Any] = deque()
            for k in which:
                waiting.append(pool.submit(self.once, log2, (seed, k)))
                if len(waiting) > _threads():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an interrupt does not wait for what is queued
            pool.shutdown(wait=True, cancel_futures=True)

    def once(self, log2: int, seed: tuple[int, ...]) -> np.ndarray:
        """One randomisation, in single precision where its range is enough."""
        try:
            found = self._once(log2, seed, np.float32)
        except OverflowError:
            return self._in_double(log2, seed)
        return found if np.isfinite(found).all() else self._in_double(log2, seed)

    def _in_double(self, log2: int, seed: tuple[int, ...]) -> np.ndarray:
        try:
            return self._once(log2, seed, np.float64)
        except OverflowError as error:
            raise DataError(f"{error}; check the scale of inputs and hyperparameters") from error

    def rounding(self, seed: int) -> np.ndarray:
        """What single precision changes of a small randomisation: all there is of a kernel whose terms cancel.

        The second time the same vectors are taken for new; 0 where double precision has fewer of them.
        """
        law = Law(self._small(seed, np.float32), self.basis)
        try:
            single = self._matrix(law)
            again = Span(choices=Choices(law.start.choices.made))
            double = self._matrix(Law(self._small(seed, np.float64), self.basis, start=again))
        except (OverflowError, np.linalg.LinAlgError):  # the first is computed in double precision anyway
            return np.zeros((len(self.order), len(self.order)))
        finite = np.isfinite(single).all() and np.isfinite(double).all()
        return np.abs(single - double) if finite else np.zeros(single.shape)

    def _small(self, seed: int, dtype: Any) -> Noise:
        return Noise(self.dimensions, LEAST, (seed, 0), dtype, np.float32)

    def _once(self, log2: int, seed: tuple[int, ...], dtype: Any) -> np.ndarray:
        return self._matrix(Law(Noise(self.dimensions, log2, seed, dtype), self.basis))

    def _matrix(self, law: Law) -> np.ndarray:
        found: list[tuple[RowsLimit, int, dict[str, list[Pair]]]] = []
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused in the end
            for t, program in self.programs.items():
                data = self.order.data[t]
                values = program.run(data, law)
                random = program.trace.random
                pairs = program.outputs(values, random) if self.kind == "nngp" else program.pairs(data, values)
                whole = {n: [_rows(p, len(data)) for p in uses] for n, uses in pairs.items() if self._rate(n)}
                found.append((program, len(data), whole))
            return _assembled(found, self._rate)

    def _rate(self, name: str) -> float:
        """The factor of a parameter."""
        return 1.0 if self.rates is None else self.rates.get(name, 0.0)


def _assembled(
    found: list[tuple[RowsLimit, int, dict[str, list[Pair]]]], rate: Callable[[str], float]
) -> np.ndarray:  # fmt: skip
    ends = np.cumsum([0, *(count for _, count, _ in found)])
    K = np.empty((ends[-1], ends[-1]))
    for i, (program, _, left) in enumerate(found):
        for k, (_, _, right) in enumerate(found[: i + 1]):
            block = np.zeros((ends[i + 1] - ends[i], ends[k + 1] - ends[k]))
            grams = Grams()
            for name in sorted((n for n in left if n in right), key=lambda n: -len(left[n])):  # part of them are others
                l, r = left[name][0]
                size = l.shape[-1] * (1 if r is None else r.shape[-1])
                factor = rate(name) * program.std[name] ** 2 / size
                block += factor * grams.of(left[name], right[name])
            block = (block + block.T) / 2 if i == k else block
            K[ends[i] : ends[i + 1], ends[k] : ends[k + 1]] = block
            K[ends[k] : ends[k + 1], ends[i] : ends[i + 1]] = block.T
    return K


def _rows(pair: Pair, count: int) -> Pair:
    """One row for each input, also of a vector that is the same for all of them."""
    left, right = (None if x is None else (x if x.shape[1] == count else np.repeat(x, count, axis=1)) for x in pair)
    return left, right


def _threads() -> int:
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
