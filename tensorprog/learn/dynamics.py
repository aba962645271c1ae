"""Training of infinitely wide networks under squared loss: mean and covariance of the ensemble at any time.

A wide network moves by f_{t+1} = f_t − (η/N) Θ (f_t − y) from f_0 ~ GP(0, 𝒦), hence, with one eigendecomposition,

    f_t(x) = f_0(x) + Θ(x, X) g_t(Θ) (y − f_0(X)),   g_t(λ) = (1 − (1 − ηλ/N)^t)/λ,

and g_t(λ) = (1 − e^(−tλ/N))/λ for gradient flow.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize

from tensorprog.derivation.data import read_inputs
from tensorprog.derivation.route import is_sampled
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import AccuracyError, AssumptionError, DataError, ProgramError, shortly, unknown_keywords
from tensorprog.given import flag
from tensorprog.ir.hyper import symbol_values
from tensorprog.learn.gaussian import SLACK, covariance, draw, targets
from tensorprog.learn.networks import kernel_of, matrices, on_host, parts, trace_of, values_by_symbol
from tensorprog.learn.spectrum import Spectrum, kernel_matrix, symmetric_matrix
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import Rates
from tensorprog.printing import Shown, to_html
from tensorprog.report.shown import dynamics
from tensorprog.types import Data, HyperValues, Number, Pattern

MATRICES = ("theta", "y", "theta_test", "nngp", "nngp_test", "nngp_test_test", "average")
TRAINED = ("trainable", "rates", "parametrization")
OPTIONS = ("net", "X", "y", "X_test", "kind", "ensemble", "values", "average", *TRAINED)
GRID = 400  # times tried by early stopping before the best is refined
HUGE = 1e100  # times y, beyond which outputs are not followed


@dataclass(frozen=True, repr=False)
class Stop(Shown):
    """The time at which the loss on held-out data is least, and that loss.

    Attributes:
        time: of the least loss.
        loss: the least loss.
    """

    time: float
    loss: float

    def text(self) -> str:
        """The time and the loss."""
        return f"least loss {self.loss:.6g} at time {self.time:.6g}"


class Dynamics(Shown):
    """Full-batch training on the loss Σ (f − y)²/2 averaged over the N samples, as ``tp.train(..., batch=N)`` does.

    Times count steps of learning rate ``rate``; with ``rate=None`` they are times of gradient flow.  ``t`` may be
    ``np.inf``.  Directions whose eigenvalues are 0 to rounding (``Spectrum.null``) never move.  With 𝒦 and
    A_t = Θ(·, X) g_t(Θ) the ensemble over initializations is Gaussian with

        mean A_t y,   covariance 𝒦(x, x') − A_t 𝒦(X, x') − 𝒦(x, X) A_tᵀ + A_t 𝒦(X, X) A_tᵀ.

    Args:
        theta: the NTK of the N training inputs (the NNGP kernel where only the readout is trained), (N, N).
        y: targets (N,) or (N, outputs); the outputs of a network train independently.
        theta_test: the same kernel of M test inputs with the training inputs, (M, N).
        nngp: the covariance 𝒦 of the outputs at initialization, (N, N); needed for covariances.
        nngp_test, nngp_test_test: 𝒦 of test with training inputs, (M, N), and of test inputs, (M, M).
        average: False takes the sum of the samples' losses: f_{t+1} = f_t − η Θ (f_t − y).

    Attributes:
        spectrum: of Θ(X, X).
        y: the targets.

    Raises:
        DataError: bad matrices or targets.
        ProgramError: an unknown keyword.

    Reference: J. Lee et al., *Wide Neural Networks of Any Depth Evolve as Linear Models*, 2019, Eq. 8–16.

    >>> d = Dynamics([[2.0]], [1.0], average=False)
    >>> d.mean(1, rate=0.25), d.mean(np.inf), d.max_rate
    (array([0.5]), array([1.]), 1.0)
    """

    def __init__(self, theta: Data, y: Data, theta_test: Data | None = None, nngp: Data | None = None,
                 nngp_test: Data | None = None, nngp_test_test: Data | None = None, *, average: bool = True,
                 **unknown: Any) -> None:  # fmt: skip
        if unknown:
            raise unknown_keywords("Dynamics", unknown, MATRICES)
        self.spectrum = Spectrum.of(theta, "theta")
        n = len(self.spectrum.values)
        self.y = targets(y, n)
        average = flag(average, "average")
        self._average, self._weight = average, 1 / n if average else 1.0
        self._test = None if theta_test is None else kernel_matrix(theta_test, "theta_test", (None, n))
        m = None if self._test is None else len(self._test)
        self._nngp = None if nngp is None else symmetric_matrix(nngp, "nngp", (n, n))
        self._nngp_test = None if nngp_test is None else kernel_matrix(nngp_test, "nngp_test", (m, n))
        self._nngp_own = None if nngp_test_test is None else symmetric_matrix(nngp_test_test, "nngp_test_test", (m, m))
        Q = self.spectrum.vectors
        self._rows = Q * self.spectrum.values  # Θ(X, X) Q
        self._test_rows = None if self._test is None else self._test @ Q
        self._centred = True

    @classmethod
    def of(cls, net: Network, X: Data, y: Data, X_test: Data | None = None, *, kind: str = "ntk", ensemble: bool = True,
           values: HyperValues | None = None, average: bool = True, trainable: Sequence[Pattern] | None = None,
           rates: Mapping[Pattern, Number] | None = None, parametrization: ParametrizationChoice | None = None,
           **unknown: Any) -> Dynamics:  # fmt: skip
        """The training of a network on data.

        Args:
            net: an architecture with one output.
            X, X_test: inputs as for ``tp.ntk(net)(X)``.
            y: targets.
            kind: ``"ntk"`` trains all parameters, ``"nngp"`` the readout only.
            ensemble: whether the covariances are wanted; they need a network whose readout is random.  Without a random
                readout outputs do not start with mean 0; ``follow`` tells how they move from where they start, as
                long as f − y stays bounded in the width.
            values: numbers for hyperparameter symbols, by symbol or by name.
            average: as in ``Dynamics``.
            trainable, rates, parametrization: with ``kind="ntk"``, which parameters train, and how fast, as for
                ``tp.ntk``.
        """
        check_network(net)
        if unknown:
            raise unknown_keywords("Dynamics.of", unknown, OPTIONS)
        if not isinstance(kind, str) or kind not in ("ntk", "nngp"):
            raise ProgramError(
                f"kind must be 'ntk' (all parameters are trained) or 'nngp' (the readout), got {shortly(kind)}"
            )
        ensemble = flag(ensemble, "ensemble")
        X, X_test, y = on_host(X), on_host(X_test), on_host(y)
        kernel, form = kernel_of(net, kind, Rates.of(trainable, rates, parametrization)), net.form
        first = read_inputs(X, "X", form)
        length = next(iter(first.groups))
        targets(y, len(first))
        if X_test is not None and (other := read_inputs(X_test, "X_test", form).dimension) != first.dimension:
            raise DataError(f"X has feature dimension {first.dimension} and X_test {other}; they must agree")
        given = values_by_symbol(kernel, values, length)
        kernels = [kernel, kernel_of(net, "nngp")] if ensemble else [kernel]
        if X_test is not None and any(
            is_sampled(k, first, None, symbol_values(given, lambda: net.symbols)) for k in kernels
        ):
            (theta, cross, _), *others = (parts(k, X_test, X, given) for k in kernels)
            made = cls(theta, y, cross, *(others[0] if ensemble else ()), average=average)
            made._centred = trace_of(net, length).passes_gia_check
            return made
        theta, *prior = matrices(kernels, X, None, given)
        if X_test is None:
            made = cls(theta, y, None, *prior, average=average)
        else:
            cross, *prior_cross = matrices(kernels, X_test, X, given)
            own = matrices(kernels[1:], X_test, None, given) if ensemble else ()
            made = cls(theta, y, cross, *prior, *prior_cross, *own, average=average)
        made._centred = trace_of(net, length).passes_gia_check
        return made

    def __repr__(self) -> str:
        tests = "" if self._test is None else f", {len(self._test)} test inputs"
        outputs = "" if self.y.ndim == 1 else f", {self.y.shape[1]} outputs"
        prior = "" if self._nngp is None else ", with covariances"
        loss = "averaged" if self._average else "summed"
        count = f"{len(self.y)} training input{'s' if len(self.y) != 1 else ''}"
        return f"<training dynamics of {count}{outputs}{tests}{prior}, loss {loss}, steps below {self.max_rate:.6g}>"

    def text(self) -> str:
        """What is trained, and the spectrum of its kernel, which says how fast."""
        return f"{repr(self)[1:-1]}\n  {self.spectrum.describe()}"

    @property
    def max_rate(self) -> float:
        """The learning rate 2/λ_max (times N when the loss is averaged) above which steps diverge."""
        largest = self.spectrum.largest * self._weight
        return 2 / largest if largest > 0 else float("inf")

    # ---- means -----------------------------------------------------------------------------------

    def mean(self, t: float, rate: float | None = None) -> np.ndarray:
        """The ensemble's mean on the training inputs at time t, of the shape of y."""
        self._require_centred()
        return self._push(self._rows, self._gain(t, rate), self.y)

    def test_mean(self, t: float, rate: float | None = None) -> np.ndarray:
        """The ensemble's mean on the test inputs at time t, (M,) or (M, outputs)."""
        self._require_centred()
        return self._push(self._tested(), self._gain(t, rate), self.y)

    def follow(
        self, t: float, f0: Data, f0_test: Data | None = None, rate: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The outputs at time t of one network that starts at f0 (of the shape of y), on training and test inputs."""
        start = targets(f0, len(self.y), "f0", self.y.shape[1:])
        gain = self._gain(t, rate)
        train = start + self._push(self._rows, gain, self.y - start)
        if f0_test is None:
            return train, None
        rows = self._tested()
        start_test = targets(f0_test, len(rows), "f0_test", self.y.shape[1:])
        return train, start_test + self._push(rows, gain, self.y - start)

    # ---- covariances -----------------------------------------------------------------------------

    def cov(self, t: float, rate: float | None = None) -> np.ndarray:
        """The ensemble's covariance on the training inputs at time t, (N, N), the same for every output."""
        K = self._needed(self._nngp, "nngp")
        left = self._operator(self._rows, self._gain(t, rate))
        rest = np.eye(len(K)) - left
        return covariance(rest @ K @ rest.T, K, "nngp", self._slack)

    def test_cov(self, t: float, rate: float | None = None) -> np.ndarray:
        """The ensemble's covariance on the test inputs at time t, (M, M), the same for every output."""
        K, cross = self._needed(self._nngp, "nngp"), self._needed(self._nngp_test, "nngp_test")
        own = self._needed(self._nngp_own, "nngp_test_test")
        A = self._operator(self._tested(), self._gain(t, rate))
        mixed = A @ cross.T
        return covariance(own - mixed - mixed.T + A @ K @ A.T, own, "nngp_test_test", self._slack)

    def sample(self, t: float, size: int = 1, rate: float | None = None,
               seed: int | np.random.Generator = 0) -> np.ndarray:  # fmt: skip
        """Outputs on the test inputs at time t of ``size`` random networks, (size, M) or (size, M, outputs)."""
        return draw(self.test_mean(t, rate), self.test_cov(t, rate), size, seed)

    # ---- early stopping --------------------------------------------------------------------------

    def early_stopping(self, y_test: Data, rate: float | None = None, spread: bool = False,
                       most: float | None = None) -> Stop:  # fmt: skip
        """The time of least loss Σ_outputs (f − y)²/2, averaged over the test inputs.

        Args:
            y_test: targets of the test inputs.
            rate: learning rate; None for gradient flow.
            spread: the loss expected of one network of the ensemble, instead of that of the mean.
            most: the longest time looked at; None for any, ∞ included.

        Returns:
            The best of 400 times spaced geometrically, 0 and the end, refined between its neighbours.
        """
        self._require_centred()
        goal = targets(y_test, len(self._tested()), "y_test", self.y.shape[1:])
        longest, spread = (
            np.inf if most is None else _time(most, "most must be a time, at least 0"),
            flag(spread, "spread"),
        )
        rate = None if rate is None else _rate(rate)

        def loss(t: float) -> float:
            try:
                gain = self._gain(t, rate, warn=False)
            except AccuracyError:  # steps that diverge
                return np.inf
            value = float(np.sum((self._push(self._tested(), gain, self.y) - goal) ** 2))
            if spread:
                value += self._total_variance(gain) * (goal.size // len(goal))
            return value / (2 * len(goal))

        times = self._times(rate, longest)
        losses = [loss(t) for t in times]
        k = int(np.argmin(losses))
        best = Stop(times[k], losses[k])
        low, high = times[max(k - 1, 0)], times[min(k + 1, len(times) - 1)]
        if not np.isfinite(high):
            return best
        if rate is not None:
            steps = np.unique(np.linspace(low, high, GRID).round())
            return min([best, *(Stop(float(t), loss(t)) for t in steps)], key=lambda s: s.loss)
        found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9 * high})
        return min(best, Stop(float(found.x), float(found.fun)), key=lambda s: s.loss)

    def _times(self, rate: float | None, most: float) -> list[float]:
        """0, times from well before the fastest mode moves to well after the slowest has settled, and the end."""
        moving = self.spectrum.values[~self.spectrum.null] * self._weight * (1.0 if rate is None else rate)
        if not len(moving):
            return [0.0]
        if rate is not None and rate > self.max_rate and not np.isfinite(most):
            raise DataError(f"steps of {rate} diverge: the largest stable learning rate is {self.max_rate:.6g}")
        times = np.geomspace(0.01 / moving[-1], 40 / moving[0], GRID)
        times = np.unique(np.ceil(times)) if rate is not None else times
        return [0.0, *(float(t) for t in times if t < most), most]

    @cached_property
    def _quadratic(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The trace of the test covariance as a polynomial in the gains: constant, linear, quadratic part."""
        Q, rows = self.spectrum.vectors, self._tested()
        cross, own = (
            self._needed(self._nngp_test, "nngp_test"),
            self._needed(self._nngp_own, "nngp_test_test"),
        )
        square = (rows.T @ rows) * (Q.T @ self._needed(self._nngp, "nngp") @ Q)
        return float(np.trace(own)), np.sum(rows * (cross @ Q), axis=0), square

    def _total_variance(self, gain: np.ndarray) -> float:
        constant, linear, square = self._quadratic
        return constant - 2 * float(linear @ gain) + float(gain @ square @ gain)

    # ---- one eigendecomposition ------------------------------------------------------------------

    def _gain(self, t: float, rate: float | None, warn: bool = True) -> np.ndarray:
        """g_t at the eigenvalues; 0 where they vanish, since Θ(x, X) vanishes there too."""
        t, rate = _time(t, "a time must be at least 0"), None if rate is None else _rate(rate)
        if rate is not None and np.isfinite(t) and t != round(t):
            raise DataError(f"with a learning rate t counts steps and must be an integer, got {shortly(t)}")
        speed = self.spectrum.values * self._weight * (1.0 if rate is None else rate)
        if np.isfinite(t):
            return self._finite_gain(t, rate, speed)
        if rate is not None and speed[-1] >= 2:
            raise DataError(f"steps of {rate} never settle: the largest stable learning rate is {self.max_rate:.6g}")
        if warn and self.spectrum.null.any():
            warnings.warn(f"at t = ∞ the residual stays where the kernel is singular ({self.spectrum.describe()})",
                          RuntimeWarning, stacklevel=3)  # fmt: skip
        return np.where(self.spectrum.null, 0.0, 1 / np.where(self.spectrum.null, 1.0, self.spectrum.values))

    def _finite_gain(self, t: float, rate: float | None, speed: np.ndarray) -> np.ndarray:
        if rate is None:
            done = -np.expm1(-speed * t)
        else:
            with np.errstate(over="ignore"):
                small = speed < 0.5  # where 1 − (1 − s)^t would cancel
                done = np.where(small, -np.expm1(t * np.log1p(-np.where(small, speed, 0.0))), 1 - (1 - speed) ** t)
        if not (np.abs(done) < HUGE).all():
            raise AccuracyError(f"after {t} steps of {rate} the outputs overflow: the largest stable learning rate is "
                                f"{self.max_rate:.6g}")  # fmt: skip
        null = self.spectrum.null
        return np.where(null, 0.0, done / np.where(null, 1.0, self.spectrum.values))  # type: ignore[no-any-return]

    def _push(self, rows: np.ndarray, gain: np.ndarray, residual: np.ndarray) -> np.ndarray:
        return rows @ (gain * (self.spectrum.vectors.T @ residual).T).T  # type: ignore[no-any-return]

    def _operator(self, rows: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return (rows * gain) @ self.spectrum.vectors.T  # type: ignore[no-any-return]

    @property
    def _slack(self) -> float:
        """By how much of the prior's a variance may be negative: rounding over the least eigenvalue that moves."""
        moving = self.spectrum.values[~self.spectrum.null]
        return max(SLACK, 4 * self.spectrum.tolerance / float(moving[0])) if len(moving) else SLACK

    def _require_centred(self) -> None:
        if not self._centred:
            raise AssumptionError("the readout is not random, so outputs do not start with mean 0: use follow(t, f0)")

    def _tested(self) -> np.ndarray:
        return self._needed(self._test_rows, "theta_test")

    @staticmethod
    def _needed(matrix: np.ndarray | None, name: str) -> np.ndarray:
        if matrix is None:
            wanted = "ensemble=True and X_test" if "nngp_test" in name else "ensemble=True"
            wanted = "X_test" if name == "theta_test" else wanted
            raise AssumptionError(f"this needs {name}: give it, or {wanted} to Dynamics.of")
        return matrix


def _time(t: Any, words: str) -> float:
    """A time, ∞ among them."""
    found: Any = t if isinstance(t, numbers.Real) and not isinstance(t, bool) else -1
    if not found >= 0:
        raise DataError(f"{words}, got {shortly(t)}")
    return np.inf if found > HUGE else float(found)


def _rate(rate: Any) -> float:
    """A learning rate."""
    found: Any = rate if isinstance(rate, numbers.Real) and not isinstance(rate, bool) else -1
    if not 0 < found < HUGE:
        raise DataError(f"a learning rate must be a positive number, got {shortly(rate)}")
    return float(found)


to_html.register(Dynamics, dynamics)
