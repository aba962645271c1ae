"""Training at width n by running the unrolled program, beside what kernel gradient descent predicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.dsl.network import Network
from tensorprog.errors import AssumptionError, DataError, ProgramError
from tensorprog.finite.empirical import FiniteNetwork, Hyper, hyper_values
from tensorprog.finite.execute import Values, execute
from tensorprog.functions import evaluate
from tensorprog.ir.instructions import Var
from tensorprog.kernels.data import Inputs
from tensorprog.kernels.feature import FeatureLimit
from tensorprog.kernels.ntk import Term, body_terms, readout_terms
from tensorprog.kernels.training import FeatureTraining, Training, check_counts, plan_training
from tensorprog.limit.evaluate import numbers
from tensorprog.limit.master import Limit
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.parametrization import Parametrization

DIVERGED = 1e6


@dataclass(frozen=True)
class Trajectory:
    """One training run: outputs of all inputs at all times (steps + 1, N, heads), loss derivatives
    (steps, B, heads), and the tests' NTK at the probed times (probes, N, N).
    """

    f: np.ndarray
    chi: np.ndarray
    ntk: np.ndarray


class FiniteTraining:
    """A training run on data, ready to execute at any width.

    All inputs are followed as tests; step t trains on the samples (t B + b) mod N, b < B.

    Args:
        net: an architecture.
        inputs: the N training inputs, followed by ``len(inputs) − len(y)`` inputs that are only followed.
        y: labels (N,) or (N, heads).
        steps, optimizer, batch, loss, trainable: as in ``unroll``; a loss is needed.
        probes: times at which the NTK is computed too.
        values: numbers for hyperparameter symbols.
        parametrization: as in ``unroll``.
    """

    def __init__(
        self,
        net: Network,
        inputs: Inputs,
        y: Any,
        steps: int,
        optimizer: SGD,
        batch: int = 1,
        loss: Any = "mse",
        trainable: Sequence[str] | None = None,
        probes: Sequence[int] = (),
        values: Mapping[Any, Any] | None = None,
        parametrization: Parametrization | None = None,
    ) -> None:
        check_counts(steps=steps, batch=batch)
        self.net, self.inputs, self.steps, self.batch = net, inputs, steps, batch
        labels = read_labels(y, len(inputs))
        if batch > len(labels):
            raise DataError(f"a batch of {batch} needs as many samples, there are {len(labels)}")
        schedule = [[(t * batch + b) % len(labels) for b in range(batch)] for t in range(steps)]
        names = [f"x[{i}]" for i in range(len(inputs))]
        self.training: Training = plan_training(
            net, inputs.lengths, names, range(len(inputs)), schedule, optimizer, loss, trainable, probes,
            parametrization,
        )  # fmt: skip
        self.u = self.training.unrolled
        self.heads = len(self.training.trace.heads[0])
        if labels.shape[1] != self.heads:
            raise DataError(f"the network has {self.heads} outputs, but y has {labels.shape[1]} columns")
        if not self.training.plan.loss.uses_labels:
            raise ProgramError("training needs a loss: 'mse', 'logistic' or a function of (f, y)")
        self.y = labels
        hyper: Hyper = hyper_values(self.training.trace, inputs, values, self.u.program.symbols)
        self.finite = FiniteNetwork(self.training.trace, self.u.program, [], inputs, hyper)

    def run(self, width: int, seeds: list[int], dtype: Any = np.float64) -> list[Trajectory]:
        """Train networks of width n, one per seed."""
        parameters = self.finite.draw(width, seeds, dtype)
        values = self.execute(parameters, overwrite=True)
        f, chi = self.outputs(values), self.chi(values)
        if diverges(f):
            size = np.abs(f).max(initial=0.0)
            warnings.warn(f"training diverges at width {width}: |f| reaches {size:.3g}; lower the learning rate",
                          RuntimeWarning, stacklevel=2)  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore"):
            theta = [self.ntk(values, t) for t in self.training.plan.probes]
        return [Trajectory(f[s], chi[s], np.stack([k[s] for k in theta]) if theta else np.zeros((0, 0, 0)))
                for s in range(len(seeds))]  # fmt: skip

    def execute(self, parameters: Mapping[str, np.ndarray], overwrite: bool = False) -> Values:
        """All variables of the unrolled program at these initial parameters; see ``FiniteNetwork.initial``."""
        program, hyper = self.u.program, self.finite.hyper
        values = self.finite.initial(parameters, overwrite)
        width = next(v.shape[-1] for k, v in values.items() if k.kind == "vector")
        dtype = next(iter(parameters.values())).dtype
        scaling = self.training.plan.scaling
        for var, p in [(self.u.theta, scaling.theta), *((var, p) for p, var in self.u.powers.items())]:
            values[var] = np.full((1, 1), width ** -float(p), dtype)
        for name, var in self.u.biases0.items():
            values[var] = parameters[name] * np.asarray(width ** -float(scaling.initial[name]), dtype)
        for (i, k), var in self.u.labels.items():
            values[var] = np.full((1, 1), self.y[i, k], dtype)
        reads = [self._base(t, r.x) for t, i, k in self.u.outputs0 for r in self._readouts(i, k)]
        reads += [self._base(t, r.v) for t, i, k in self.u.outputs0 for r in self._readouts(i, k)]
        with np.errstate(over="ignore", invalid="ignore"):
            values |= execute(program, values, hyper, only=reads)
            for (t, i, k), var in self.u.outputs0.items():
                output = self.finite.output(
                    self.training.trace.heads[i][k], values, parameters,
                    at=lambda v, t=t: self._base(t, v),  # type: ignore[misc]
                    scale=lambda name, t=t: self._start(t, name, width),  # type: ignore[misc]
                )  # fmt: skip
                values[var] = output[:, None].astype(dtype)
            return execute(program, values, hyper)

    def outputs(self, values: Values) -> np.ndarray:
        """f_t of all inputs, (S, steps + 1, N, heads)."""
        n = len(self.inputs)
        count = max(v.shape[0] for v in values.values())
        f = np.empty((count, self.steps + 1, n, self.heads))
        for (t, i, k), var in self.u.f.items():
            f[:, t, i, k] = values[var][:, 0]
        return f

    def chi(self, values: Values) -> np.ndarray:
        """χ_t of the batches, (S, steps, B, heads)."""
        count = max(v.shape[0] for v in values.values())
        chi = np.empty((count, self.steps, self.batch, self.heads))
        for (t, b, k), var in self.u.chi.items():
            chi[:, t, b, k] = values[var][:, 0]
        return chi

    def ntk(self, values: Values, t: int) -> np.ndarray:
        """The NTK of the first output at time t, (S, N, N), of the trained parameters."""
        n, trace, trained = len(self.inputs), self.training.trace, self.training.plan.moving
        count = max(v.shape[0] for v in values.values())
        theta = np.zeros((count, n, n))
        for i in range(n):
            for j in range(i, n):
                body = body_terms(trace, self.u.probes[t, i], self.u.probes[t, j], trained)
                total: Any = sum(self._term(term, values, t) for term in body)
                total = total + sum(self._term(term, values, t) for term in readout_terms(trace, i, j, trained))
                theta[:, i, j] = theta[:, j, i] = total
        return theta

    def _term(self, term: Term, values: Values, t: int) -> Any:
        result: Any = evaluate(term.factor, self.finite.hyper)
        for pair in (term.gradient, term.activation):
            if pair is not None:
                a, b = (values[self._at(t, v)] for v in pair)
                result = result * np.einsum("sn,sn->s", a, b) / a.shape[-1]
        return result

    def _at(self, t: int, var: Var) -> Var:
        return self.training.at(t, var) if var in self.training.trace.program else var

    def _start(self, t: int, name: str, width: int) -> float:
        """The factor of an initial readout or output bias in f̂_t: its decay (of biases), its power of n."""
        initial = float(self.training.plan.scaling.initial.get(name, 0))
        decay = 1.0 if name in self.training.trace.parameters else self.u.decay(t, name)
        return float(evaluate(decay, self.finite.hyper)) * width**-initial

    def _base(self, t: int, var: Var) -> Var:
        return self.u.base.get((t, var), var) if t else var

    def _readouts(self, i: int, k: int) -> Any:
        return self.training.trace.heads[i][k].readouts

    # ---- the limit of feature learning ----------------------------------------------------------------

    def limit(self, method: str = "auto", samples: int = 2**16, seed: int = 0) -> FeatureLimit:
        """The infinite-width limit of this run, where its parametrization learns features.

        Raises:
            AssumptionError: it does not; the kernel predicts the run then.
        """
        if not isinstance(self.training, FeatureTraining):
            raise AssumptionError(
                "the parametrization is a kernel regime: features do not move and the NTK predicts the run; "
                "compare them by tp.train(.., parametrization=..)"
            )
        values = self.finite.hyper | {self._symbol(var): self.y[key] for key, var in self.u.labels.items()}
        return FeatureLimit(self.training, values, method, samples, seed)

    def _symbol(self, var: Var) -> Any:
        return self.u.program.op(var).value  # type: ignore[union-attr]

    # ---- the prediction ------------------------------------------------------------------------------

    def kernel(self) -> np.ndarray:
        """The limiting NTK of the trained parameters, (N, heads, N, heads).

        Raises:
            AssumptionError: features may move, so that no fixed kernel describes the run.
        """
        if isinstance(self.training, FeatureTraining):
            raise AssumptionError("no fixed kernel describes a run whose features may move: ask for .limit()")
        trace = self.training.trace
        kernel = self.training.kernels(Limit(trace.program))
        n = range(len(self.inputs))
        keys = [(i, k, j, l) for i in n for k in range(self.heads) for j in n for l in range(self.heads)]
        polys = [kernel(i, j, k, l) for i, k, j, l in keys]
        values = numbers(polys, self.finite.hyper)
        return np.array(values, float).reshape(len(self.inputs), self.heads, len(self.inputs), self.heads)

    def predict(self, f0: np.ndarray, chi: np.ndarray | None = None) -> np.ndarray:
        """Kernel gradient descent from f_0, for all runs at once.

        f_{t+1} = f_t − Σ_s (c_{t+1,s} − c_{t,s}) Σ_b χ_s K(·, ξ_s)/B, with c_{t+1,t} = η_t for plain SGD.

        Args:
            f0: outputs at initialization, (S, N, heads).
            chi: realised χ_t (S, steps, B, heads); None takes those of the prediction itself.

        Raises:
            ProgramError: weight decay, where no fixed kernel exists.
        """
        optimizer, plan = self.training.plan.optimizer, self.training.plan
        if optimizer.decays:
            raise ProgramError("with weight decay training does not follow a fixed kernel")
        K = self.kernel()
        f = np.empty((len(f0), self.steps + 1, *f0.shape[1:]))
        f[:, 0] = f0
        pushes = []
        for t in range(self.steps):
            samples = list(plan.schedule[t])
            current = self._derivative(f[:, t], samples) if chi is None else chi[:, t]
            pushes.append(np.einsum("sbl,ikbl->sik", current, K[:, :, samples]) / self.batch)
            f[:, t + 1] = f[:, t]
            for s, push in enumerate(pushes):
                f[:, t + 1] -= float(evaluate(optimizer.increment(t, s), self.finite.hyper)) * push
        return f

    def _derivative(self, f: np.ndarray, samples: list[int]) -> np.ndarray:
        """χ of samples (S, B, heads) at outputs f (S, N, heads)."""
        loss = self.training.plan.loss
        fs, ys = (np.moveaxis(a[..., samples, :], -1, 0) for a in (f, self.y))
        return np.stack([loss.values(k, fs, ys, self.finite.hyper) for k in range(self.heads)], axis=-1)


def diverges(f: np.ndarray) -> bool:
    """Whether outputs (S, steps + 1, ..) explode: not finite, or 10⁶ times what they were at first."""
    return not np.isfinite(f).all() or bool(np.abs(f).max() > DIVERGED * max(1.0, np.abs(f[:, 0]).max()))


def read_labels(y: Any, inputs: int) -> np.ndarray:
    """Labels as (N, outputs), checked."""
    try:
        labels = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y is not an array of numbers: {error}") from error
    if labels.ndim not in (1, 2) or not 1 <= len(labels) <= inputs:
        raise DataError(f"y must have shape (N,) or (N, outputs) with one row for each of the samples, "
                        f"got {labels.shape} for {inputs} inputs")  # fmt: skip
    if not np.isfinite(labels).all():
        raise DataError("y has values that are not finite")
    return labels.reshape(len(labels), -1)
