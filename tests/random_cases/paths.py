"""Every way to one number: each takes a case and gives arrays, or a named error, or breaks."""

from __future__ import annotations

import math
import re
import signal
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.derivation.ntk import ntk_terms
from tensorprog.errors import DataError, TensorProgramError
from tensorprog.finite.empirical import FiniteNetwork, hyper_values
from tensorprog.finite.layerwise import layerwise_ntk
from tensorprog.functions import evaluate
from tensorprog.limit.sampling import REPLICATES, Replicate, SampledLimit
from tensorprog.passes.backprop import backprop
from tests.random_cases import plain
from tests.random_cases.case import Case

Array = Any


EXPECTED = "AccuracyWarning", "FrozenWarning"  # warnings that say what is so; others are faults
BLAME = "no value for", "semidefinite", "exceeds", "NaN", "internal"  # all inputs of these cases are good


@dataclass
class Outcome:
    """What a way gave: an array, with its errors where it states some, or an exception.

    Attributes:
        value: None where it was refused.
        stated: what it says of its own accuracy, or a function that does; 0 where it says nothing.
        refusal: the error that was raised.
    """

    value: Array = None
    stated: Any = 0.0
    refusal: BaseException | None = None

    @cached_property
    def error(self) -> Array:
        """What it says of its own accuracy, which may take a while."""
        return self.stated() if callable(self.stated) else self.stated

    @property
    def named(self) -> bool:
        """Whether it is refused by an error of the package, which does not blame inputs for what they are not."""
        blamed = any(words in str(self.refusal) for words in BLAME)
        return isinstance(self.refusal, (TensorProgramError, TooDear)) and not blamed

    @property
    def overflow(self) -> bool:
        """Whether it broke by numbers that are not finite."""
        return isinstance(self.refusal, RuntimeError) and any(
            words in str(self.refusal) for words in ("overflow", "invalid value")
        )

    @property
    def kind(self) -> str:
        """ "value", or the class of the error."""
        return "value" if self.refusal is None else type(self.refusal).__name__

    @property
    def reason(self) -> str:
        """The class of the error and its message without what differs from case to case."""
        words = re.split(r"[(:;,]", str(self.refusal))[0].split()
        return f"{self.kind}: {' '.join(w for w in words if re.fullmatch(r'[A-Za-z][a-z]+', w))[:70]}"

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"{self.kind}: {str(self.refusal)[:300]}"
        error = np.max(self.error, initial=0)
        return np.array2string(np.asarray(self.value), precision=15) + (f"  ± {error:.2g}" if error else "")


WHOLE = "numba", "llvmlite", "importlib"


class TooDear(BaseException):
    """A way took longer than a case may."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise ``TooDear`` after so many seconds of processor time; what compiles or imports is let finish."""

    def stop(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            if any(name in frame.f_code.co_filename for name in WHOLE):
                signal.setitimer(signal.ITIMER_PROF, 0.1)
                return
            frame = frame.f_back
        raise TooDear

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def attempt(way: Callable[[], Any], seconds: float = 60.0) -> Outcome:
    """Run one way; whatever it raises or warns of is kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with at_most(seconds):
                found = way()
        except (Exception, TooDear) as error:
            return Outcome(refusal=error)
    for w in caught:
        if w.category.__name__ not in EXPECTED:
            return Outcome(refusal=RuntimeError(f"{w.category.__name__}: {w.message}"))
    value, stated = found if isinstance(found, tuple) else (found, 0.0)
    return Outcome(value, stated)


Z = 6.5  # of some 10^5 comparisons none should reach it; one that does is repeated on fresh and more samples


def told(K: Any, number: Callable[[], Array], X: Array, values: Any) -> Any:
    """What a way gives, with the errors that its kernel states where it warned of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = number()
    warned = [w for w in caught if issubclass(w.category, tp.AccuracyWarning)]
    for w in caught:
        if w not in warned:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return (value, lambda: _stated(K.account(X, values=values))) if warned else value


def _stated(account: Any) -> Array:
    return account.error * (Z if account.statistical else 1)


# ---- kernels by samples -----------------------------------------------------------------------------


def sampled(case: Case, kind: str, seed: int, samples: int = 2**15) -> Any:
    """The kernel by the sampling interpreter of its gradient program: values and standard errors.

    A delta has no samples, so programs with one are refused by ``NoRuleError``.
    """
    found = _sampled_matrices(case, kind, SampledLimit, seed, samples, REPLICATES)
    return found.mean(0), found.std(0, ddof=1) / math.sqrt(REPLICATES)


def rounding(case: Case, kind: str, seed: int = 0, samples: int = 2**10) -> Array:
    """What some roundings of every variable of the program do to the kernel by samples, beyond what samples cost.

    Every function of coordinates is off by up to two last digits, at random; 10 times the largest change of three.
    """
    value = _sampled_matrices(case, kind, SampledLimit, seed, samples, 1)
    shaken = [_sampled_matrices(case, kind, _shaken(k), seed, samples, 1) for k in range(3)]
    return 10 * np.max([np.abs(other - value)[0] for other in shaken], axis=0)


def _shaken(turn: int) -> type[SampledLimit]:
    class Off(Replicate):
        def apply(self, op: Any) -> Array:
            found = super().apply(op)
            key = zlib.crc32(repr((turn, op)).encode())  # what is computed alike is rounded alike
            return found * (1 + EPSILON * np.random.default_rng(key).uniform(-2, 2, found.shape))

    class Shaken(SampledLimit):
        def _replicate(self, k: int) -> Replicate:
            return Off(self._drawn, self._gaussians(k), self._hyper)

    return Shaken


def _sampled_matrices(case: Case, kind: str, make: type[SampledLimit], seed: int, samples: int, count: int) -> Array:
    """The kernel by each of some randomisations, (count, N, N)."""
    net, X = case.network(), case.X
    inputs = read_inputs(X, "X", net.form)
    trace = net.trace(inputs.lengths)
    program, gradients = backprop(trace) if kind == "ntk" else (trace.program, [])
    if kind == "nngp" and not trace.passes_gia_check:
        raise tp.AssumptionError("no covariance without random readouts")
    hyper = hyper_values(trace, inputs, case.symbols)
    limit = make(program, samples=samples, seed=seed, values=hyper)
    answers = []
    for k in range(count):
        run = limit._replicate(k)
        answers.append(np.array([[_one(trace, gradients, run, hyper, kind, i, j) for j in range(len(X))]
                                 for i in range(len(X))]))  # fmt: skip
    return np.array(answers)


def _one(trace: Any, gradients: Any, run: Any, hyper: Any, kind: str, i: int, j: int) -> float:
    if kind == "ntk":
        terms = ntk_terms(trace, gradients, i, j)
    else:
        from tensorprog.derivation.ntk import readout_terms

        terms = readout_terms(trace, i, j)
    total = 0.0
    for t in terms:
        part = float(evaluate(t.factor, hyper))
        for pair in (t.gradient, t.activation):
            if pair is not None and part:
                part *= run.mean(run.values[pair[0]] * run.values[pair[1]])
        total += part
    return total


def sampling_kernel(case: Case, kind: str, seed: int, samples: int) -> Any:
    """The kernel of the package that is a sample: values and standard errors."""
    make = {"ntk": tp.ntk, "nngp": tp.nngp}[kind]
    account = make(case.network(), method="sampling", samples=samples, seed=seed).account(case.X, values=case.symbols)
    return account.value, account.error


# ---- exact ways to a kernel of a network ------------------------------------------------------------


def kernel_ways(case: Case, kind: str) -> dict[str, Callable[[], Any]]:
    """The ways that need the network only, and promise all digits."""
    net, X = case.network(), case.X
    values = {s: v for s, v in case.symbols.items() if s in (net.symbols or ())}  # others cancel where ops are fused
    K = tp.nngp(net) if kind == "nngp" else tp.ntk(net)
    n = len(X)
    order = np.arange(n)[::-1]

    def reordered() -> Array:
        result = np.empty((n, n))
        result[np.ix_(order, order)] = K.gram(X[order], values=values)
        return result

    def pair() -> Array:
        """Blocks off the diagonal, by the kernel of two sets; the rest is taken over."""
        result = K.gram(X, values=values)
        result[:1, 1:] = K(X[:1], X[1:], values=values)
        result[1:, :1] = K.gram(X[1:], X[:1], values=values)
        return result

    exact: dict[str, Callable[[], Array]] = {
        "K(X)": lambda: K(X, values=values),
        "gram numpy": lambda: K.gram(X, values=values, backend="numpy"),
        "gram numba": lambda: K.gram(X, values=values, backend="numba"),
        "gram": lambda: K.gram(X, values=values),
        "reordered": reordered,
        "blocks": lambda: K.gram(X, values=values, block=2),
        "two sets": pair,
        "recursion": lambda: _recursion(K, X, values),
    }
    ways: dict[str, Callable[[], Any]] = {name: lambda way=way: told(K, way, X, values) for name, way in exact.items()}
    if kind == "ntk":
        for method in ("paths", "sgd", "enumeration"):
            ways[method] = lambda method=method: _by(tp.ntk(net, method=method), X, values)
    return ways


def _by(K: Any, X: Array, values: Any) -> Any:
    return told(K, lambda: K(X, values=values), X, values)


def _recursion(K: Any, X: Array, values: Any) -> Array:
    R = K.recursion()
    return R(X, values=values)


def single(case: Case, kind: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The gram matrix in single precision, and what it is the rounding of."""
    net, X, values = case.network(), case.X.astype(np.float32), case.symbols
    K = tp.nngp(net) if kind == "nngp" else tp.ntk(net)
    return (lambda: K.gram(X, values=values, dtype="float32").astype(float)), lambda: _in_float32(K, X, values)


def _in_float32(K: Any, X: Array, values: Any) -> Array:
    """K(X), refused where single precision has no such numbers."""
    value = K(X.astype(float), values=values)
    if np.abs(value).max(initial=0) > np.finfo(np.float32).max:
        raise DataError("beyond the range of float32")
    return value


# ---- at finite width --------------------------------------------------------------------------------


WIDTH = 12
EPSILON = float(np.finfo(float).eps)


def _finite_network(case: Case) -> tuple[FiniteNetwork, dict[str, Array]]:
    net = case.network()
    finite = FiniteNetwork.of(net, read_inputs(case.X, "X", net.form), case.symbols)
    return finite, finite.draw(WIDTH, [case.seed])


def by_autograd(case: Case) -> Any:
    """Outputs (N,) and products of gradients (N, N) of one network, as the text says, in PyTorch; in one row.

    With their errors by rounding: 50 times what a rounding of the parameters changes, as sin(1e12 u) has few digits
    whoever computes it, and 100 roundings of the terms of an output, which may cancel.
    """
    network, parameters = _finite_network(case)
    arrays, states = {name: a[0] for name, a in parameters.items()}, {v.name for v in network.trace.states}
    rng = np.random.default_rng([5, case.seed])

    def found(by: float) -> tuple[Array, Array]:
        near = {name: a * (1 + by * rng.choice([-1.0, 1.0], np.shape(a))) for name, a in arrays.items()}
        f, theta, size, sizes = plain.outputs_and_ntk(case, near, WIDTH, states)
        return np.concatenate([f, theta.ravel()]), np.concatenate([size, sizes.ravel()])

    value, size = found(0.0)
    if not np.isfinite(value).all():
        return value
    changed = np.max([np.abs(found(EPSILON)[0] - value) for _ in range(3)], axis=0)
    return value, 50 * changed + 100 * EPSILON * size


def finite(case: Case, name: str) -> Array:
    """The same by the package."""
    network, parameters = _finite_network(case)
    values = network.run(parameters, network.used)
    theta = network.ntk(values)
    if name == "layerwise":
        net = case.network()
        theta = layerwise_ntk(net, network.inputs, None, WIDTH, [case.seed], case.symbols, np.float64)
    return np.concatenate([network.outputs(values, parameters)[0], theta[0].ravel()])


def empirical(case: Case, width: int, seeds: list[int]) -> Array:
    """The empirical NTK of networks, (S, N, N)."""
    return tp.empirical_ntk(case.network(), case.X, width=width, seed=seeds[0], seeds=len(seeds), values=case.symbols)
