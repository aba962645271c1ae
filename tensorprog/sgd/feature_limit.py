"""The limit of a training run that learns features, on data: outputs, features and their kernels at every time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.trace import Trace
from tensorprog.errors import AccuracyError, DataError, NoRuleError, ProgramError, nearest, shortly
from tensorprog.functions import Fn
from tensorprog.given import count
from tensorprog.ir.instructions import MatMul, Moment, Nonlin, Var
from tensorprog.limit.evaluate import numbers
from tensorprog.limit.grid import GridLimit
from tensorprog.limit.linear_programs import LinearLimit
from tensorprog.limit.master import Interpreter
from tensorprog.limit.sampling import Estimate, SampledLimit
from tensorprog.printing import Shown
from tensorprog.sgd.training import FeatureTraining

TOLERANCE = 1e-6
METHODS = ("auto", "linear", "quadrature", "sampling", "exact")


class FeatureLimit(Shown):
    """The infinite-width limit of a training run whose features move.

    Args:
        training: the unrolled run.
        values: numbers for all symbols, inner products of the data and labels among them.
        method: ``"linear"`` for linear networks, ``"quadrature"`` for one hidden layer, ``"sampling"`` for every
            network, ``"exact"`` for polynomial networks and few steps; ``"auto"`` takes the first that applies
            (quadrature where it reaches 10⁻⁶, or is nearer than sampling would be), and the exact limit at t = 0.
        samples, seed: of sampling.

    Attributes:
        method: the one that was used.
        exact_start: whether outputs and kernels at t = 0 are those of the exact limit, without sampling errors.
        f, stderr: outputs (steps + 1, N, heads) and their standard errors (for quadrature, estimated errors).

    >>> import tensorprog as tp
    >>> limit = tp.feature_limit(tp.programs.mlp(depth=1, phi=tp.tanh), [[1.0]], [1.0], steps=1)
    >>> limit.method, limit.change(1)[0].round(6), limit.kernel(1)[0].round(6)
    ('quadrature', array([0.373497]), array([[0.608788]]))
    """

    def __init__(
        self,
        training: FeatureTraining,
        values: Mapping[sp.Symbol, float],
        method: str = "auto",
        samples: int = 2**16,
        seed: int = 0,
    ) -> None:
        if not isinstance(method, str) or method not in METHODS:
            raise NoRuleError(f"method={shortly(method)} is not available; {nearest(method, METHODS)}")
        self.training, self.values = training, dict(values)
        self._sampling = {"samples": samples, "seed": seed}
        self.exact_start = False
        self.method = method if method != "auto" else self._choose()
        self.f, self.stderr = self._outputs()
        if method == "auto" and self.method in ("quadrature", "sampling"):
            self._start_exactly()

    @property
    def how(self) -> str:
        """The method, and what is exact."""
        return self.method + (", exact at t = 0" if self.exact_start else "")

    def text(self) -> str:
        """What it is the limit of, and f_t of every input with its error."""
        steps, inputs, heads = self.f.shape
        rows = ["   t " + "".join(f"{f'input {i}':>24}" for i in range(inputs))]
        for t in range(steps):
            for k in range(heads):
                cells = "".join(f"{self.shown(t, i, k):>24}" for i in range(inputs))
                rows.append(f"  {t:>2} {cells}" + (f"  output {k}" if heads > 1 else ""))
        return "\n".join([f"limit of {self.training.title} by {self.how}; f and its error:", *rows])

    def shown(self, t: int, i: int, head: int = 0) -> str:
        """f_t of input i with its error."""
        steps, inputs, heads = self.f.shape
        key = count(t, "t", 0, steps - 1), count(i, "i", 0, inputs - 1), count(head, "head", 0, heads - 1)
        return f"{self.f[key]:+.5f} ± {self.stderr[key]:.0e}"

    def kernel(self, t: int, layer: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """E Z^{x_t(ξ)} Z^{x_t(ξ')} of the features that a layer reads, (N, N), with standard errors.

        Args:
            t: the time.
            layer: the name of a matrix or readout; the last when None.
        """
        rows = [self._feature(t, i, layer) for i in self._inputs]
        return self._table(
            rows, rows, lambda a, b: a * b, self._initial if t == 0 and self.exact_start else self._limit
        )

    def change(self, t: int, layer: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """√E (Z^{x_t} − Z^{x_0})² of each input's features, (N,), with standard errors."""
        pairs = [(self._feature(t, i, layer), self._feature(0, i, layer)) for i in self._inputs]
        squares = [self._limit.E(lambda a, b: (a - b) ** 2, *pair) for pair in pairs]
        value = np.sqrt(np.maximum(_plain(squares, self._number), 0.0))
        return value, _errors(squares) / np.maximum(2 * value, 1e-150)

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose features can be asked for."""
        return list(features(self.training.trace, 0))

    @property
    def _inputs(self) -> tuple[int, ...]:
        return self.training.plan.tests

    def _feature(self, t: int, i: int, layer: str | None) -> Var:
        known = features(self.training.trace, i)
        name = list(known)[-1] if layer is None else layer
        if not isinstance(name, str) or name not in known:
            raise ProgramError(f"no layer {shortly(layer)}; {nearest(layer, known)}")
        return self.training.at(count(t, "t", 0, self.training.plan.steps), known[name])

    def _table(self, rows: list[Var], columns: list[Var], fn: Callable[..., Any],
               limit: Any) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        answers = [limit.E(fn, a, b) for a in rows for b in columns]
        shape = (len(rows), len(columns))
        return _plain(answers, self._number).reshape(shape), _errors(answers).reshape(shape)

    def _number(self, answer: Any) -> float:
        limit = self._initial if self.exact_start else self._limit
        return float(answer if isinstance(answer, Estimate) else limit.evaluate(answer, self.values))

    @functools.cached_property
    def _limit(self) -> Any:
        if self.method == "exact":
            return self.training._interpreter
        if self.method in ("linear", "quadrature"):
            return {"linear": LinearLimit, "quadrature": GridLimit}[self.method](self.training.program, self.values)
        return SampledLimit(self.training.program, values=self.values, **self._sampling)

    def _outputs(self) -> tuple[np.ndarray, np.ndarray]:
        u, tests = self.training._unrolled, self._inputs
        heads = len(self.training.trace.heads[0])
        keys = [(t, i, k) for t in range(self.training.plan.steps + 1) for i in tests for k in range(heads)]
        shape = (self.training.plan.steps + 1, len(tests), heads)
        if self.method == "exact":
            limit: Interpreter = self._limit
            values = numbers([limit.z[u.f[key]] for key in keys], self.values)
            return np.array([float(v) for v in values]).reshape(shape), np.zeros(shape)
        with np.errstate(over="ignore", invalid="ignore"):
            answers = [self._limit.value(u.f[key]) for key in keys]
        f = np.array([float(a) for a in answers]).reshape(shape)
        if not np.isfinite(f).all():
            raise DataError("training diverges in the limit: outputs are not finite; lower the learning rate")
        return f, _errors(answers).reshape(shape)

    @functools.cached_property
    def _initial(self) -> Interpreter:
        """The exact limit of the network as it is initialized, which is cheap whatever its training costs."""
        outputs = [var for (t, *_), var in self.training._unrolled.f.items() if t == 0]
        inputs = [var for i in self._inputs for var in features(self.training.trace, i).values()]
        return Interpreter(self.training.program.part([*outputs, *inputs]))

    def _start_exactly(self) -> None:
        """Put the exact outputs at t = 0, such as the 0 of µP, in the place of sampled ones."""
        keys = [(0, i, k) for i in self._inputs for k in range(self.f.shape[2])]
        try:
            found = [
                self._initial.account(self._initial.value(self.training._unrolled.f[k]), self.values) for k in keys
            ]
        except (NoRuleError, AccuracyError):
            return
        if not any(a.statistical for a in found):
            self.exact_start = True
            self.f[0] = np.array([float(a.value) for a in found]).reshape(self.f.shape[1:])
            self.stderr[0] = 0.0

    def _choose(self) -> str:
        """The first method that applies."""
        bodies = (op.body for _, op in self.training.program if isinstance(op, (Nonlin, Moment)))
        kinks = any(f.family.kinks for body in bodies for f in body.atoms(Fn))
        coarse = None
        for self.method in ("linear", "quadrature") if not kinks else ():
            try:
                f, error = self._outputs()
                if error.max() <= TOLERANCE * max(1.0, np.abs(f).max()):
                    return self.method
                coarse = self.__dict__.pop("_limit"), error.max()
            except NoRuleError:
                continue
        self.method = "sampling"
        if coarse is not None and coarse[1] < self._outputs()[1].max():
            self.method, self._limit = "quadrature", coarse[0]
        return self.method


def features(trace: Trace, i: int) -> dict[str, Var]:
    """The vectors of input i that its matrices and readouts read, by the name of the layer (W, W², .. when reused)."""
    reads: dict[str, Var] = {}

    def add(name: str, var: Var) -> None:
        while name in reads and reads[name] != var:
            name += "'"
        reads[name] = var

    needed: set[Var] = set()
    todo = [r.x for f in trace.heads[i] for r in f.readouts]
    while todo:
        var = todo.pop()
        if var not in needed:
            needed.add(var)
            todo.extend(trace.program.op(var).operands)
    for var, op in trace.program:
        if var in needed and isinstance(op, MatMul):
            add(op.matrix.name + ("ᵀ" if op.transpose else ""), op.x)
    for f in trace.heads[i]:
        for r in f.readouts:
            add(r.name, r.x)
    return reads


def _plain(answers: list[Any], number: Callable[[Any], float]) -> np.ndarray:
    return np.array([number(a) for a in answers])


def _errors(answers: list[Any]) -> np.ndarray:
    return np.array([a.stderr if isinstance(a, Estimate) else 0.0 for a in answers])
