"""Training at width n, by the weights or by the unrolled program, beside what kernel gradient descent predicts."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs, as_sequences
from tensorprog.derivation.heads import ntk_of_heads
from tensorprog.derivation.ntk import Term, body_terms, readout_terms
from tensorprog.dsl.network import Network
from tensorprog.errors import AssumptionError, DataError, ProgramError
from tensorprog.finite.descent import Descent, exploded
from tensorprog.finite.empirical import FiniteNetwork, Hyper, hyper_values
from tensorprog.finite.execute import Values, execute
from tensorprog.functions import evaluate
from tensorprog.ir.hyper import symbol_values
from tensorprog.ir.instructions import Var
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.rates import ALL, Rates
from tensorprog.passes.separate import Separated
from tensorprog.passes.unroll import Unrolled
from tensorprog.sgd.decayed import DecayedNTK
from tensorprog.sgd.feature_limit import FeatureLimit
from tensorprog.sgd.training import FeatureTraining, Training, check_counts, make_plan, plan_training


@dataclass(frozen=True)
class Trajectory:
    """One training run: outputs of all inputs at all times (steps + 1, N, heads), loss derivatives
    (steps, B, heads), the tests' NTK at the probed times (probes, N, N), and with weight decay the outputs at the
    decayed initial weights at all times (steps + 1, N, heads), else nothing.
    """

    f: np.ndarray
    chi: np.ndarray
    ntk: np.ndarray
    start: np.ndarray


class FiniteTraining:
    """A training run on data, ready to execute at any width.

    All inputs are followed as tests; step t trains on the samples (t B + b) mod N, b < B.

    Args:
        net: an architecture.
        inputs: the N training inputs, followed by ``len(inputs) − len(y)`` inputs that are only followed.
        y: labels (N,) or (N, heads).
        steps, optimizer, batch, loss: as in ``unroll``; a loss is needed.
        chosen: what is trained, and how fast.
        probes: times at which the NTK is computed too.
        values: numbers for hyperparameter symbols.
        subtract_start: whether the networks that ``run`` trains are f − f_0.
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
        chosen: Rates = ALL,
        probes: Sequence[int] = (),
        values: Mapping[Any, Any] | None = None,
        subtract_start: bool = False,
    ) -> None:
        check_counts(steps=steps, batch=batch)
        self.net, self.inputs, self.steps, self.batch = net, inputs, steps, batch
        labels = read_labels(y, len(inputs))
        if batch > len(labels):
            raise DataError(f"a batch of {batch} needs as many samples, there are {len(labels)}")
        schedule = [[(t * batch + b) % len(labels) for b in range(batch)] for t in range(steps)]
        self.trace = net.trace(list(dict.fromkeys(inputs.lengths)))
        self._options = (optimizer, loss, chosen, probes)
        self.plan = make_plan(self.trace, range(len(inputs)), schedule, *self._options)
        self.heads = len(self.trace.heads[0])
        if labels.shape[1] != self.heads:
            raise DataError(f"the network has {self.heads} outputs, but y has {labels.shape[1]} columns")
        if not self.plan.loss.uses_labels:
            raise ProgramError("training needs a loss: 'mse', 'logistic' or a function of (f, y)")
        self.y, self.values, self.parametrization = labels, values, chosen.parametrization
        self.hyper: Hyper = symbol_values(values, lambda: self.trace.symbols | self.plan.symbols)
        self.subtract_start = subtract_start

    @functools.cached_property
    def training(self) -> Training:
        """The run as one unrolled program."""
        names = [f"x[{i}]" for i in range(len(self.inputs))]
        net, inputs = self._apart
        optimizer, loss, chosen, probes = self._options
        if isinstance(net, Separated):
            chosen = chosen.of_names(self.trace, net.named(self.trace.trainable))
        return plan_training(net, inputs.lengths, names, self.plan.tests, self.plan.schedule, optimizer, loss, chosen,
                             probes)  # fmt: skip

    @functools.cached_property
    def _apart(self) -> tuple[Network, Inputs]:
        """The network and its inputs, with a vector for every position where they have such."""
        if not self.net.takes_axes:
            return self.net, self.inputs
        return Separated(self.net, self.inputs.groups), as_sequences(self.inputs)

    @property
    def u(self) -> Unrolled:
        """The unrolled program, and where to find things in it."""
        return self.training._unrolled

    @functools.cached_property
    def finite(self) -> FiniteNetwork:
        """The networks that run the unrolled program."""
        trace = self.training.trace
        hyper = hyper_values(trace, self.inputs, self.values, self.plan.symbols)
        return FiniteNetwork(trace, self.u.program, [], self._apart[1], hyper)

    @functools.cached_property
    def descent(self) -> Descent:
        """The same run by moving the weights themselves."""
        return Descent(self.net, self.inputs, self.y, self.plan, self.hyper, self.parametrization, self.subtract_start)

    def run(self, width: int, seeds: list[int], dtype: Any = np.float64) -> list[Trajectory]:
        """Train networks of width n, one per seed, by moving their weights (``descent``)."""
        parts = list(self.descent.run(width, seeds, dtype))
        f, chi, theta, start = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if (end := divergence(f)) is not None:
            size = np.nanmax(np.abs(f))
            warnings.warn(f"training diverges at width {width}: |f| reaches {size:.3g} at step {end}, where the run "
                          "ends; lower the learning rate", RuntimeWarning, stacklevel=2)  # fmt: skip
        return [Trajectory(f[s], chi[s], theta[s], start[s]) for s in range(len(seeds))]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays of a ``Trajectory``."""
        n, probes = len(self.inputs), len(self.plan.probes)
        f = (self.steps + 1, n, self.heads)
        start = f if self.plan.optimizer.decays else (0,)
        ntk = (probes, n, n) if probes else (0, 0, 0)
        return {"f": f, "chi": (self.steps, self.batch, self.heads), "ntk": ntk, "start": start}

    def execute(self, parameters: Mapping[str, np.ndarray], overwrite: bool = False) -> Values:
        """All variables of the unrolled program at these initial parameters; see ``FiniteNetwork.initial``."""
        program, hyper = self.u.program, self.finite.hyper
        values = self.finite.initial(parameters, overwrite)
        width = next(v.shape[-1] for k, v in values.items() if k.kind == "vector")
        dtype = next(iter(parameters.values())).dtype
        scaling = self.plan.scaling
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
        n, trace, trained = len(self.inputs), self.training.trace, self.plan.moving
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
        initial = float(self.plan.scaling.initial.get(name, 0))
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
        if self.plan.scaling.keeps_changes:
            raise AssumptionError("no fixed kernel describes a run whose features may move: ask for .limit()")
        return self._kernel

    @functools.cached_property
    def _kernel(self) -> np.ndarray:
        return ntk_of_heads(self.net, self.inputs, self.plan.moving, self.hyper)

    def predict(self, f0: np.ndarray, chi: np.ndarray | None = None) -> np.ndarray:
        """The limit of training from the start of finite networks, for all runs at once.

        Without weight decay it is kernel gradient descent from f_0; with weight decay

            f_t = f̂_t − Σ_{s<t} c_{t,s} Σ_b χ_{s,b} Θ_{a_t,a_s}(·, ξ_{s,b})/B    (``kernels.decayed``).

        Args:
            f0: outputs at time 0, (S, N, heads); with weight decay f̂_t at all times, (S, steps + 1, N, heads).
            chi: realised loss derivatives (S, steps, B, heads); when None the loss at the prediction itself.

        Returns:
            Outputs (S, steps + 1, N, heads).

        Raises:
            DataError: f_0 alone where weights decay.
        """
        decays = self.plan.optimizer.decays
        if f0.ndim != 3 + decays:
            raise DataError(f"with weight decay f0 holds f̂_t at every time, (S, steps + 1, N, heads); got {f0.shape}"
                            if decays else f"f0 must be (S, N, heads), got {f0.shape}")  # fmt: skip
        return self._predict_decaying(f0, chi) if decays else self._predict(f0, chi)

    def _predict(self, f0: np.ndarray, chi: np.ndarray | None) -> np.ndarray:
        """The optimizer's own steps, on outputs in the place of weights: m ← μ m + Θ χ/B, f ← f − η m."""
        plan, o, f = self.plan, self.plan.optimizer, [f0.astype(float)]
        kernel, mu = self.kernel(), float(evaluate(self.plan.optimizer.momentum, self.hyper))
        momentum = np.zeros_like(f[0])
        for t, samples in enumerate(plan.schedule):
            used = chi[:, t] if chi is not None else self._derivative(f[-1], list(samples))
            push = np.einsum("sbl,ikbl->sik", used, kernel[:, :, list(samples)]) / self.batch
            momentum = mu * momentum + push
            step = push + mu * momentum if o.nesterov else momentum
            f.append(f[-1] - float(evaluate(o.rate(t), self.hyper)) * step)
        return np.stack(f, axis=1)

    def _predict_decaying(self, f0: np.ndarray, chi: np.ndarray | None) -> np.ndarray:
        """Every step anew, since the kernels between two times are others at every time."""
        f, used = f0.astype(float), []
        coefficients = self.plan.optimizer._numbers(self.plan.steps, self.hyper)
        next(coefficients)
        for t, ((_, weights), samples) in enumerate(zip(coefficients, self.plan.schedule, strict=True)):
            used.append(chi[:, t] if chi is not None else self._derivative(f[:, t], list(samples)))
            for s, (c, current) in enumerate(zip(weights, used, strict=True)):
                between = self._kernel_between(t + 1, s)[:, :, list(self.plan.schedule[s])]
                f[:, t + 1] -= c / self.batch * np.einsum("sbl,ikbl->sik", current, between)
        return f

    def _kernel_between(self, t: int, s: int) -> np.ndarray:
        """Θ_{a_t,a_s}, (N, heads, N, heads); the NTK without weight decay."""
        if not self.plan.optimizer.decays:
            return self.kernel()
        a, b = (float(evaluate(self.plan.optimizer.decay(time), self.hyper)) for time in (t, s))
        return self._decayed(a, b)

    @functools.cached_property
    def _decayed(self) -> DecayedNTK:
        net, inputs = self._apart
        trained, moving = self.plan.trained, self.plan.moving
        if isinstance(net, Separated):
            trained, moving = frozenset(net.named(trained)), {m: moving[g] for m, g in net.named(moving).items()}
        return DecayedNTK(net, inputs, trained, moving, self.hyper)

    def drift(self, t: int) -> float:
        """lim ‖Θ_t − Θ_0‖/‖Θ_0‖ of the first output: 0 without weight decay."""
        if not self.plan.optimizer.decays or not self.plan.moving:
            return 0.0
        start, now = (self._kernel_between(time, time)[:, 0, :, 0] for time in (0, t))
        return float(np.linalg.norm(now - start) / np.linalg.norm(start))

    def _derivative(self, f: np.ndarray, samples: list[int]) -> np.ndarray:
        """χ of samples (S, B, heads) at outputs f (S, N, heads)."""
        loss = self.plan.loss
        fs, ys = (np.moveaxis(a[..., samples, :], -1, 0) for a in (f, self.y))
        return np.stack([loss.values(k, fs, ys, self.hyper) for k in range(self.heads)], axis=-1)


def divergence(f: np.ndarray) -> int | None:
    """The first step at which outputs (S, steps + 1, ..) of a run explode, where they do."""
    return next((t for t in range(f.shape[1]) if exploded(f[:, t], f[:, 0]).any()), None)


def read_labels(y: Any, inputs: int) -> np.ndarray:
    """Labels as (N, outputs), checked."""
    try:
        labels = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"y is not an array of numbers: {error}") from error
    if labels.ndim not in (1, 2) or not 1 <= len(labels) <= inputs:
        raise DataError(f"y must have shape (N,) or (N, outputs) with one row for each of the samples, "
                        f"got {labels.shape} for {inputs} inputs")  # fmt: skip
    if not np.isfinite(labels).all():
        raise DataError("y has values that are not finite")
    return labels.reshape(len(labels), -1)
