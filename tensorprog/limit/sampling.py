"""The sampling interpreter: the limit of any program, by drawing iid copies of its base Gaussians.

For each orientation of a matrix, the vectors y it has multiplied span a space with an orthonormal basis e_k
in L², and independent standard Gaussians ε_k go with it.  Then

    Ẑ^{Wy} = σ_W Σ_k E[Z^y e_k] ε_k      and, with e_k, ε_k those of Wᵀ,      Ż^{Wx} = σ_W Σ_k E[ε_k Z^x] e_k,

which is the Stein form Σ_i (C⁺b)_i Z^{y_i} of the correction, for singular C and kinked functions too.  Expectations
are means over the samples.  Everything is repeated on independent randomisations, whose spread is the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import sympy as sp
from scipy import special

from tensorprog.dsl.program import trace
from tensorprog.errors import AssumptionError, DataError, NoRuleError, ProgramError, shortly
from tensorprog.expectations.many.points import sobol_points
from tensorprog.files import read_memory
from tensorprog.functions import evaluate
from tensorprog.given import count
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.graph import ProgramGraph, Variable, as_var
from tensorprog.ir.hyper import program_symbols, symbol_values
from tensorprog.ir.instructions import (
    Difference,
    InitMatrix,
    InitScalar,
    InitVector,
    Kept,
    MatMul,
    Moment,
    Nonlin,
    Var,
    slots_of,
    vector_slot,
)
from tensorprog.limit.covariance import cholesky, refuse_laws
from tensorprog.printing import Shown, counted
from tensorprog.progress import telling
from tensorprog.types import HyperValues

REPLICATES = 16
SOBOL_DIMENSIONS = 512
MEMORY = 2**30
MOST = 2**40  # samples
DEPENDENT = 1e-12  # a vector this close to the span of earlier ones brings no new Gaussian


class Estimate(Shown, float):
    """A number with its standard error, and how it was found: ``"exact"`` or ``"sampled"``.

    Attributes:
        stderr: the standard error.
        method: ``"exact"``, ``"sampled"`` or ``"quadrature"``.
    """

    stderr: float
    method: str

    def __new__(cls, value: float, stderr: float = 0.0, method: str = "exact") -> Estimate:
        if not all(isinstance(x, Real) for x in (value, stderr)):
            raise DataError(
                f"an estimate is a number with a standard error, got {shortly(value)} and {shortly(stderr)}"
            )
        self = super().__new__(cls, value)
        self.stderr, self.method = float(stderr), method
        return self

    def text(self) -> str:
        """The number, its standard error, and how it was found."""
        return f"{self!r} ({self.method})"

    def __repr__(self) -> str:
        return f"{float(self):.6g} ± {self.stderr:.2g}"

    __str__ = __repr__


class _Field:
    """The orthonormal basis e_k of what a matrix orientation has multiplied, with its Gaussians ε_k."""

    def __init__(self, mean: Callable[[np.ndarray], float]) -> None:
        self.mean = mean
        self.e: list[np.ndarray] = []
        self.eps: list[np.ndarray] = []
        self.products: list[tuple[np.ndarray, np.ndarray]] = []

    def gaussian(self, z: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """Σ_k E[z e_k] ε_k, extending the basis by what is new in z."""
        size = np.sqrt(self.mean(z * z))
        result, rest = np.zeros_like(z), z.copy()
        for _ in range(2):  # twice is enough (Gram–Schmidt)
            for e, eps in zip(self.e, self.eps, strict=True):
                c = self.mean(rest * e)
                rest -= c * e
                result += c * eps
        norm = np.sqrt(self.mean(rest * rest))
        if norm > DEPENDENT * size:
            self.e.append(rest / norm)
            self.eps.append(fresh)
            result = result + norm * fresh
        return result

    def correction(self, z: np.ndarray) -> np.ndarray:
        """Σ_k E[ε_k z] e_k."""
        result = np.zeros_like(z)
        for e, eps in zip(self.e, self.eps, strict=True):
            result += self.mean(eps * z) * e
        return result


class Replicate:
    """One randomisation: samples (m,) of every vector, numbers for scalars and matrix variances."""

    def __init__(
        self,
        program: ProgramGraph,
        noise: np.ndarray,
        hyper: Mapping[sp.Symbol, float],
        weights: np.ndarray | None = None,
    ) -> None:
        self.program, self.hyper, self.weights = program, hyper, weights
        self.values: dict[Var, Any] = {}
        self.fields: dict[tuple[Var, bool], _Field] = {}
        self._noise = iter(noise)
        self.samples = noise.shape[1]
        self._initial()
        with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges gives inf or nan
            for var, op in program:
                if var not in self.values:
                    self.values[var] = draw(op, var, self)

    def fresh(self) -> np.ndarray:
        """New standard Gaussian samples."""
        return next(self._noise)

    def mean(self, z: Any) -> float:
        """The mean over the samples, or over weighted nodes."""
        return float(np.mean(z) if self.weights is None else self.weights @ np.broadcast_to(z, (self.samples,)))

    def number(self, expr: sp.Expr) -> float:
        """The value of a hyperparameter expression."""
        return float(evaluate(expr, self.hyper))

    def apply(self, op: Any) -> np.ndarray:
        """The body of a Nonlin or Moment on the samples."""
        point = {**self.hyper, **{s: self.values[v] for s, v in slots_of(op).items()}}
        return np.broadcast_to(np.asarray(evaluate(op.body, point), float), (self.samples,))

    def _initial(self) -> None:
        vectors = [(v, op) for v, op in self.program if isinstance(op, InitVector)]
        refuse_laws(vectors)
        root = cholesky(vectors, self.number)
        noise = np.stack([self.fresh() for _ in vectors]) if vectors else np.zeros((0, self.samples))
        for (var, op), row in zip(vectors, root, strict=True):
            self.values[var] = self.number(op.mean) + row @ noise


@singledispatch
def draw(op: Any, var: Var, run: Replicate) -> Any:
    """Samples of ``var := op``; register a rule for a new instruction."""
    raise NoRuleError(f"no sampling rule for {type(op).__name__}: register one with tensorprog.limit.sampling.draw")


@draw.register(InitMatrix)
def _(op: InitMatrix, var: Var, run: Replicate) -> float:
    return run.number(op.variance)


@draw.register(InitScalar)
def _(op: InitScalar, var: Var, run: Replicate) -> float:
    return run.number(op.value)


@draw.register(Kept)
def _(op: Kept, var: Var, run: Replicate) -> np.ndarray:
    return kept(run.values[op.x], run.number(op.rate))


def kept(g: np.ndarray, rate: float) -> np.ndarray:
    """1/(1 − rate) where N(0, 1) entries are above their quantile, else 0.

    Raises:
        DataError: a rate that is none.
    """
    if not 0 <= rate < 1:
        raise DataError(f"a rate of dropout is {rate:g}; it must be at least 0 and less than 1")
    return np.where(g > special.ndtri(rate), np.asarray(1 / (1 - rate), g.dtype), np.asarray(0, g.dtype))


@draw.register(MatMul)
def _(op: MatMul, var: Var, run: Replicate) -> np.ndarray:
    z, sigma, fresh = run.values[op.x], np.sqrt(run.values[op.matrix]), run.fresh()
    own = run.fields.setdefault((op.matrix, op.transpose), _Field(run.mean))
    for y, known in own.products:  # the same to the last digit, so that W x − W x is 0, where sign is
        if y[0] == z[0] and np.array_equal(y, z):
            return known
    opposite = run.fields.get((op.matrix, not op.transpose))
    result = own.gaussian(z, fresh)
    if opposite is not None:
        result = result + opposite.correction(z)
    own.products.append((z, np.asarray(sigma * result)))
    return own.products[-1][1]


@draw.register(Nonlin)
def _(op: Nonlin, var: Var, run: Replicate) -> np.ndarray:
    return run.apply(op)


@draw.register(Moment)
def _(op: Moment, var: Var, run: Replicate) -> float:
    return run.mean(run.apply(op)) if op.args else float(run.apply(op)[0])


@draw.register(Difference)
def _(op: Difference, var: Var, run: Replicate) -> np.ndarray:
    if run.values[op.theta] != 0:
        raise AssumptionError(f"`{var}` divides by `{op.theta}`, whose limit is {run.values[op.theta]} and not 0")
    total = np.zeros(run.samples)
    point = {**run.hyper, **{s: run.values[v] for s, v in slots_of(op).items()}}
    for s, delta in op.changes.items():
        total = total + evaluate(sp.diff(op.body, s), point) * run.values[delta]
    return total


Answer = TypeVar("Answer")


class SampledLimit(Shown):
    """The limit of a program by sampling: the questions of ``Limit``, answered by numbers with standard errors.

    Attributes:
        program: the program.
        replicates: independent randomisations, whose spread is the standard error.
        seed: of the randomisations.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W.T @ tp.step(W @ x)
    >>> lim = tp.limit(p, method="sampling", samples=2**16)
    >>> abs(lim.cov(x, y) - 0.39894) < 5 * lim.stderr(lim.cov(x, y))
    True

    Args:
        program: any program.
        samples: how many in all, rounded up to ``REPLICATES`` powers of two.
        seed: of the randomisations.
        values: numbers for hyperparameter symbols, by symbol or by name.
        memory: bound in bytes, or such as "4GB", on the samples that are held; beyond it they are drawn again for
            each question.
    """

    def __init__(
        self,
        program: ProgramGraph,
        samples: int = 2**18,
        seed: int = 0,
        values: HyperValues | None = None,
        memory: float | str = MEMORY,
    ) -> None:
        samples, seed = count(samples, "samples", most=math.inf), count(seed, "seed", 0, math.inf)
        if samples > MOST:
            raise DataError(f"samples must be at most {MOST}, got {samples}")
        memory = read_memory(memory)
        if program.has_axes:
            raise AssumptionError("limits by sampling are not taken over positions; tp.ntk and tp.nngp are exact there")
        self.program, self.seed, self._drawn = program, seed, dependent_products(program)
        self._hyper = symbol_values(values, lambda: program_symbols(program), more=True)
        vectors = sum(v.kind == "vector" for v, _ in program)
        each = max(4, (max(1, samples // REPLICATES) - 1).bit_length())
        while each > 10 and 8 * 3 * vectors * 2**each > memory:
            each -= 1
        self._log2 = each
        self.replicates = max(REPLICATES, -(-samples // 2**each))
        keep = 8 * vectors * 2**each * self.replicates <= memory
        self._cache: dict[int, Replicate] | None = {} if keep else None

    def text(self) -> str:
        """What is sampled, and how."""
        return f"limit of a program of {counted(len(self.program), 'instruction')} by {self._how}"

    @property
    def _how(self) -> str:
        return f"sampling: {self.samples} samples in {self.replicates} randomisations, seed {self.seed}"

    @property
    def samples(self) -> int:
        """Samples used in all."""
        return self.replicates * 2**self._log2

    def mean(self, x: Variable) -> Estimate:
        """E Z^x."""
        return self._estimate(lambda r: r.mean(self._z(r, x)))

    def cov(self, x: Variable, y: Variable) -> Estimate:
        """Cov(Z^x, Z^y)."""

        def question(run: Replicate) -> Any:
            a, b = self._z(run, x), self._z(run, y)
            return run.mean(a * b) - run.mean(a) * run.mean(b)

        return self._estimate(question)

    def E(self, fn: Callable[..., Any], *vectors: Variable) -> Estimate:
        """E ψ(Z^{x¹}, .., Z^{x^k}) for a sympy-traceable ψ."""
        body = trace(fn, len(vectors))

        def question(run: Replicate) -> Any:
            point = {vector_slot(i): self._z(run, v) for i, v in enumerate(vectors)}
            return run.mean(evaluate(body, {**self._hyper, **point}))

        return self._estimate(question)

    def value(self, scalar: Variable) -> Estimate:
        """The limit of a scalar of the program."""
        var = as_var(scalar)
        if var.kind != "scalar" or var not in self.program:
            raise ProgramError(f"{var} is not a scalar of this program")
        return self._estimate(lambda r: r.values[var])

    def evaluate(self, expr: Answer, values: HyperValues | None = None) -> Answer:
        """The number itself: answers are numbers already, at the values given when the limit was made.

        Raises:
            DataError: values are given only now.
        """
        if values is not None and not (isinstance(values, Mapping) and not values):
            raise DataError("a sampled limit takes its values when it is made: tp.limit(p, 'sampling', values=...)")
        return expr

    @staticmethod
    def stderr(answer: Estimate) -> float:
        """The standard error of an answer."""
        if not isinstance(answer, Estimate):
            raise DataError(
                f"what this limit answered has a standard error, not the {type(answer).__name__} {shortly(answer)}"
            )
        return answer.stderr

    def _z(self, run: Replicate, x: Variable) -> np.ndarray:
        var = as_var(x)
        if var.kind != "vector" or var not in self.program:
            raise ProgramError(f"{var} is not a vector of this program")
        return np.asarray(run.values[var])

    def _estimate(self, question: Callable[[Replicate], Any]) -> Estimate:
        answers = np.empty(self.replicates)
        with telling() as tell:
            for k in range(self.replicates):
                answers[k] = float(question(self._replicate(k)))
                tell(k + 1, self.replicates, "sampling")
        return Estimate(answers.mean(), answers.std(ddof=1) / np.sqrt(self.replicates), "sampled")

    def _replicate(self, k: int) -> Replicate:
        if self._cache is not None and k in self._cache:
            return self._cache[k]
        run = Replicate(self._drawn, self._gaussians(k), self._hyper)
        if self._cache is not None:
            self._cache[k] = run
        return run

    def _gaussians(self, k: int) -> np.ndarray:
        """Standard Gaussians (dimensions, m): scrambled Sobol points where there are few dimensions."""
        dimensions = sum(isinstance(op, (InitVector, MatMul)) for _, op in self._drawn)
        rng = np.random.default_rng([self.seed, k])
        if dimensions > SOBOL_DIMENSIONS or not dimensions:
            return rng.standard_normal((dimensions, 2**self._log2))
        return np.asarray(special.ndtri(sobol_points(dimensions, self._log2, rng).T))
