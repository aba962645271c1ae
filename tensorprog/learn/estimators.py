"""scikit-learn estimators: regression and classification with the kernel of an infinitely wide network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import sympy as sp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tensorprog.derivation.data import Form, read_inputs, refuse_masked
from tensorprog.derivation.route import is_sampled
from tensorprog.dsl.network import Network
from tensorprog.errors import AssumptionError, DataError, ProgramError, nearest, shortly, unknown_keywords
from tensorprog.given import flag
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.derivatives import diagonal
from tensorprog.learn.gaussian import SLACK, GaussianProcess, covariance, draw, noise_variance, variances
from tensorprog.learn.gaussian import targets as checked_targets
from tensorprog.learn.iterative import STRIP, GramStrips, Iterative
from tensorprog.learn.networks import equal_inputs, kernel_of, matrices, sampled_together, trace_of, values_by_symbol
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import Rates
from tensorprog.progress import Progress, telling
from tensorprog.types import Data, HyperValues, Number, Pattern

SOLVERS = ("auto", "cholesky", "cg")
MANY_INPUTS = 20_000  # from here on, conjugate gradients


class _KernelEstimator(BaseEstimator):  # type: ignore[misc]
    """What regressor and classifier share: reading inputs, the kernel, the fitted process."""

    _own_: Any
    _fitted_: Any
    _initial_: Any
    process_: Any
    iterative_: Any
    log_marginal_likelihood_: Any

    def __init__(self, network: Network | None = None, *, kind: str = "ntk", alpha: float | Data = 1e-3,
                 values: HyperValues | None = None, match_equal: bool = False,
                 trainable: Sequence[Pattern] | None = None, rates: Mapping[Pattern, Number] | None = None,
                 parametrization: ParametrizationChoice | None = None, solver: str = "auto",
                 progress: Progress = None) -> None:  # fmt: skip
        self.solver, self.progress = solver, progress
        self.network, self.kind, self.alpha, self.values = network, kind, alpha, values
        self.match_equal = match_equal
        self.trainable, self.rates, self.parametrization = trainable, rates, parametrization

    @property
    def kernel(self) -> Kernel:
        """The kernel that is used, with its formulas."""
        return kernel_of(self.network, self.kind, Rates.of(self.trainable, self.rates, self.parametrization))

    @property
    def _form(self) -> Form:
        return "vectors" if self.network is None else self.kernel.net.form

    def _gram(self, X: Data) -> np.ndarray:
        """K(X, X)."""
        K = matrices([self.kernel], X, None, self._numbers(X))[0]
        return self._matched(K, X, X, np.diag(K)) if self.match_equal else K

    def _cross(self, X: Data) -> np.ndarray:
        """K(X, training inputs); of a sampled kernel in terms of the matrix of the fit, for ``dual_coef_``."""
        together = sampled_together(self.kernel, X, self.X_fit_, self._numbers(X))
        if together is not None:
            return self._translated(together.value)
        K = matrices([self.kernel], X, self.X_fit_, self._numbers(X))[0]
        return self._matched(K, X, self.X_fit_, self._own_) if self.match_equal else K

    def _translated(self, together: np.ndarray) -> np.ndarray:
        """C with C (K + α)⁻¹ y = K'(X, ·) (K' + α)⁻¹ y, for K of the fit and K' of all inputs together."""
        count = len(self._fitted_)
        again, ridge = together[-count:, -count:], np.diag(np.broadcast_to(np.asarray(self.alpha, float), count))
        return together[:-count, -count:] @ np.linalg.lstsq(again + ridge, self._fitted_ + ridge, rcond=None)[0]

    def _matched(self, K: np.ndarray, X: Data, Y: Any, own: np.ndarray) -> np.ndarray:
        """K with ``own``, K(y, y), for every pair of equal inputs."""
        i, j = equal_inputs(X, Y, self._form)
        K[i, j] = own[j]
        return K

    def _numbers(self, X: Any) -> dict[sp.Symbol, Any]:
        return values_by_symbol(self.kernel, self.values, len(X[0]) if self._form == "sequences" else None)

    def _read(self, X: Data) -> Any:
        """Inputs at prediction time."""
        check_is_fitted(self)
        refuse_masked(X, "X")
        if self._form == "vectors":
            return self._vectors(X, reset=False)
        read_inputs(X, "X", self._form)
        return X

    def _vectors(self, *given: Any, **options: Any) -> Any:
        """What scikit-learn makes of an array of inputs, and of targets beside it."""
        try:
            return validate_data(self, *given, dtype=np.float64, **options)
        except OverflowError as error:  # whole numbers of hundreds of digits
            raise DataError(f"X and y hold numbers up to {np.finfo(float).max:.2g}: {error}") from error

    def _read_training(self, X: Data, y: Data, **options: Any) -> tuple[Any, np.ndarray]:
        refuse_masked(X, "X")
        refuse_masked(y, "y")
        if self._form == "vectors":
            return self._vectors(X, y, **options)  # type: ignore[no-any-return]
        data = read_inputs(X, "X", self._form)
        self.n_features_in_ = data.dimension
        try:
            target = np.asarray(y)
        except ValueError as error:  # rows of several lengths
            raise DataError(f"y must be one array, (N,) or (N, outputs): {error}; got {shortly(y)}") from error
        if y is None or target.ndim == 0:
            raise DataError(f"y must hold a target for each of the {len(data)} inputs, got {shortly(y)}")
        if len(target) != len(data):
            raise DataError(f"y has {len(target)} rows for {len(data)} inputs")
        return X, target

    def _fit_process(self, X: Data, targets: np.ndarray) -> None:
        flag(self.match_equal, "match_equal")
        if self._iterates(X):
            self._fit_iterative(X, targets)
            return
        K = self._gram(X)
        process = GaussianProcess(K, targets, self.alpha)
        self._own_, self._fitted_, self._initial_ = np.diag(K).copy(), K, None
        self.X_fit_, self.process_, self.dual_coef_ = X, process, process.weights
        self.log_marginal_likelihood_, self.iterative_ = process.log_marginal_likelihood, None

    def _iterates(self, X: Any) -> bool:
        """Whether conjugate gradients are asked for, or are the choice for so many inputs."""
        if not isinstance(self.solver, str) or self.solver not in SOLVERS:
            raise ProgramError(f"unknown solver {shortly(self.solver)}; {nearest(self.solver, SOLVERS)}")
        if self.solver == "cholesky" or (self.solver == "auto" and len(X) < MANY_INPUTS):
            return False
        first = read_inputs(X[:2], "X", self._form)
        sampled = is_sampled(self.kernel, first, None, symbol_values(self._numbers(X), lambda: self.kernel.net.symbols))
        least = float(np.min(noise_variance(self.alpha, len(X))))
        if self.solver == "auto":
            return not (sampled or self.match_equal or least == 0)
        if sampled or self.match_equal or least == 0:
            raise ProgramError(
                "solver='cg' needs alpha > 0, a kernel that is not sampled and match_equal=False; take 'cholesky'"
            )
        return True

    def _fit_iterative(self, X: Data, targets: np.ndarray) -> None:
        strips = GramStrips(self.kernel, X, self._numbers(X))
        with telling(self.progress):
            solver = Iterative(strips, len(targets), noise_variance(self.alpha, len(targets)))
            weights = solver.solve(targets)
        self._own_, self._fitted_, self._initial_ = None, None, None
        self.X_fit_, self.process_, self.dual_coef_ = X, None, weights
        self.log_marginal_likelihood_, self.iterative_ = None, solver

    def _regressed(self, X: Any) -> np.ndarray:
        """K(X, training inputs) (K + α)⁻¹ y; of many training inputs, some rows at a time."""
        if self.iterative_ is None:
            return self._cross(X) @ self.dual_coef_  # type: ignore[no-any-return]
        return np.concatenate([self._cross(X[i : i + STRIP]) @ self.dual_coef_ for i in range(0, len(X), STRIP)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self._form != "vectors"
        return tags


def refuse_options(estimator: Any, options: Mapping[str, Any]) -> None:
    """Refuse what ``fit`` is given beside inputs and targets; a ``sample_weight`` of None says nothing.

    Raises:
        ProgramError: weights, with what to do instead; something unknown.
    """
    name = type(estimator).__name__
    unknown = {k for k, v in options.items() if not (k == "sample_weight" and v is None)}
    if "sample_weight" in unknown:
        raise ProgramError(
            f"{name} takes no sample_weight; a sample of weight w is one of noise variance alpha/w: give alpha as an "
            "array, one for each sample, or repeat samples, and leave out what should have no weight"
        )
    if unknown:
        raise unknown_keywords(f"{name}.fit", unknown, ["X", "y"])


class NTKRegressor(RegressorMixin, _KernelEstimator):  # type: ignore[misc]
    """Kernel ridge regression with the NTK or NNGP of a network: f(x) = K(x, X)(K(X, X) + α)⁻¹ y.

    With ``kind="ntk"`` and small α this is the network, if its readout is random, trained to the end and averaged over
    its initialization; with ``kind="nngp"`` it is Bayesian inference with the network as prior and noise variance α.
    The prior knows no scale of y but that of K(x, x): for standard deviations in the units of y set the network's
    sigma_v, or ``normalize_y``.

    Args:
        network: an architecture; when None, because scikit-learn wants estimators that need no argument,
            ``tp.programs.mlp(depth=2, sigma_b=0.1)``: a ReLU MLP with two hidden layers and small biases.
        kind: ``"ntk"`` or ``"nngp"``.
        alpha: ridge, at least 0, or one for each training input, (N,); with 0 the kernel matrix must not be singular.
        values: numbers for hyperparameter symbols of the network, by symbol or by name.
        normalize_y: regress (y − mean)/deviation, each output by its own, as scikit-learn's Gaussian processes do.
            α is then in units of the variance of y; predictions and their deviations are in those of y.
        match_equal: take inputs with equal numbers for one input, K(x, x') + 1(x = x') Var.  A network with ``state``
            gives each input a vector of its own, equal ones too: K(x, x) of one input is more than K between two
            equal ones, and without this option training inputs given to ``predict`` are new ones.
        trainable, rates, parametrization: with ``kind="ntk"``, which parameters train, and how fast, as for ``tp.ntk``.
        solver: ``"cholesky"`` factors K + α; ``"cg"`` takes conjugate gradients to a relative residual of 1e-8, with K
            in single precision in memory, 4N² bytes; ``"auto"`` takes those from 20 000 inputs on, where α > 0.
        progress: True for a bar, False for none, None for one where the work is long and somebody looks on.

    Attributes:
        X_fit_: the training inputs.
        n_features_in_: their dimension.
        dual_coef_: (K + α)⁻¹ y, of the shape of y; of the normalized y with ``normalize_y``.
        log_marginal_likelihood_: of the targets, normalized ones likewise, under the Gaussian process with this kernel.
        process_: the fitted ``GaussianProcess``, with leave-one-out predictions and the spectrum of the kernel.
        iterative_: with conjugate gradients, their ``iterations`` and ``residual``; ``process_`` and the likelihood
            are None then.

    Inputs are (N, d); for networks over sequences (N, T, d) or lists of (T_i, d).

    >>> from tensorprog.learn import NTKRegressor
    >>> NTKRegressor(alpha=1e-6).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0]).predict([[1.0]]).round(3)
    array([1.])
    """

    def __init__(self, network: Network | None = None, *, kind: str = "ntk", alpha: float | Data = 1e-3,
                 values: HyperValues | None = None, normalize_y: bool = False, match_equal: bool = False,
                 trainable: Sequence[Pattern] | None = None, rates: Mapping[Pattern, Number] | None = None,
                 parametrization: ParametrizationChoice | None = None, solver: str = "auto",
                 progress: Progress = None) -> None:  # fmt: skip
        super().__init__(network, kind=kind, alpha=alpha, values=values, match_equal=match_equal, trainable=trainable,
                         rates=rates, parametrization=parametrization, solver=solver, progress=progress)  # fmt: skip
        self.normalize_y = normalize_y

    def fit(self, X: Data, y: Data, **unknown: Any) -> NTKRegressor:
        """Fit to inputs X and targets y, (N,) or (N, outputs)."""
        refuse_options(self, unknown)
        data, targets = self._read_training(X, y, multi_output=True, y_numeric=True)
        targets = checked_targets(targets, len(targets))
        self._center, self._unit = np.zeros(targets.shape[1:]), np.ones(targets.shape[1:])
        if flag(self.normalize_y, "normalize_y"):
            self._center, deviation = targets.mean(axis=0), targets.std(axis=0)
            self._unit = np.where(deviation > 0, deviation, 1.0)
        self._fit_process(data, (targets - self._center) / self._unit)
        return self

    @overload
    def predict(self, X: Data) -> np.ndarray: ...
    @overload
    def predict(self, X: Data, return_std: bool, return_cov: bool = False) -> Any: ...
    @overload
    def predict(self, X: Data, *, return_cov: bool) -> Any: ...
    def predict(self, X: Data, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predictions at X, also with standard deviations or the covariance.

        With ``kind="nngp"`` these are the posterior's.  With ``kind="ntk"`` they are those of networks over their
        initialization, trained to the end with the ridge α‖θ − θ₀‖²: 𝒦_** − A 𝒦_*ᵀ − 𝒦_* Aᵀ + A 𝒦 Aᵀ with
        A = Θ_*(Θ + α)⁻¹ and the NNGP kernel 𝒦 (J. Lee et al., *Wide Neural Networks of Any Depth Evolve as Linear
        Models*, 2019, Eq. 16).  Deviations are (N,), the covariance (N, N); with ``normalize_y`` and several outputs,
        which differ then, (N, outputs) and (N, N, outputs).

        Raises:
            AssumptionError: with ``kind="ntk"``, of a network whose readout is not random.
        """
        data = self._read(X)
        if not (flag(return_std, "return_std") | flag(return_cov, "return_cov")):
            return self._scaled(self._regressed(data))
        cross = self._cross(data)
        mean = self._scaled(cross @ self.dual_coef_)
        if return_cov:
            return mean, self._spread(self._covariance(data, cross, whole=True), 2)
        return mean, self._spread(np.sqrt(self._covariance(data, cross, whole=False)), 1)

    def _covariance(self, X: Any, cross: np.ndarray, whole: bool) -> np.ndarray:
        """The covariance at X, or its diagonal."""
        if self.kind != "nngp":
            return self._of_trained(X, cross, whole)
        own = self._gram(X) if whole else diagonal(self.kernel, X, self._numbers(X))
        if self.iterative_ is None:
            return self.process_.cov(cross, own)
        solved = self.iterative_.solve(cross.T)
        if whole:
            return covariance(own - cross @ solved, own, "K(X, X)", SLACK)
        return variances(own - np.sum(cross.T * solved, axis=0), own, "K(X, X)", SLACK)

    def _of_trained(self, X: Any, cross: np.ndarray, whole: bool) -> np.ndarray:
        """The covariance over initializations of trained networks, or its diagonal."""
        numbers, prior = self._numbers(X), kernel_of(self.network, "nngp")
        kept: Any = self.X_fit_
        if not trace_of(prior.net, len(X[0]) if self._form == "sequences" else None).passes_gia_check:
            raise AssumptionError("the readout is not random, so outputs do not start as a Gaussian process of mean 0")
        if self.match_equal or sampled_together(self.kernel, X[:1], kept[:1], numbers) is not None:
            raise ProgramError("deviations of trained networks of this kernel: see tensorprog.learn.Dynamics.of")
        if self._initial_ is None:
            self._initial_ = matrices([prior], self.X_fit_, None, numbers)[0]
        mixed = matrices([prior], X, self.X_fit_, numbers)[0]
        own = matrices([prior], X, None, numbers)[0] if whole else diagonal(prior, X, numbers)
        A = (self.process_._factor if self.iterative_ is None else self.iterative_).solve(cross.T).T
        if whole:
            found = own - A @ mixed.T - mixed @ A.T + A @ self._initial_ @ A.T
            return covariance((found + found.T) / 2, own, "K(X, X)", SLACK)
        found = own - 2 * np.sum(A * mixed, axis=1) + np.sum((A @ self._initial_) * A, axis=1)
        return variances(found, own, "K(X, X)", SLACK)

    def _scaled(self, found: np.ndarray) -> np.ndarray:
        """Regressed values in the units of y."""
        return self._center + self._unit * found  # type: ignore[no-any-return]

    def _spread(self, found: np.ndarray, power: int) -> np.ndarray:
        """A deviation or a covariance in the units of y, one for each output where they differ."""
        return np.multiply.outer(found, self._unit**power) if self.normalize_y else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def sample_y(self, X: Data, n_samples: int = 1, random_state: int | np.random.Generator = 0) -> np.ndarray:
        """Draws at X, (N, n_samples) or (N, outputs, n_samples): of the posterior, or of trained networks."""
        data = self._read(X)
        cross = self._cross(data)
        cov = self._covariance(data, cross, whole=True)
        draws = draw(cross @ self.dual_coef_, cov, n_samples, random_state)
        return np.moveaxis(self._scaled(draws), 0, -1)


class NTKClassifier(ClassifierMixin, _KernelEstimator):  # type: ignore[misc]
    """Classification by kernel regression on one indicator (1 against −1) for each class; the largest wins.

    Args:
        network, kind, alpha, values, match_equal, trainable, rates, parametrization, solver, progress: as for
            ``NTKRegressor``.

    Attributes:
        X_fit_, n_features_in_: as for ``NTKRegressor``.
        classes_: the labels.
        dual_coef_: (K + α)⁻¹ of the indicators.

    >>> from tensorprog.learn import NTKClassifier
    >>> X = [[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]
    >>> NTKClassifier().fit(X, ["up", "right", "up", "right"]).predict([[0.1, 5.0]])
    array(['up'], dtype='<U5')
    """

    def fit(self, X: Data, y: Data, **unknown: Any) -> NTKClassifier:
        """Fit to inputs X and labels y, (N,)."""
        refuse_options(self, unknown)
        data, labels = self._read_training(X, y)
        labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"a classifier needs at least two classes, y holds one class: {shortly(classes[0])}")
        indicators = 2.0 * (codes[:, None] == np.arange(len(classes))) - 1
        self._fit_process(data, indicators[:, 1] if len(classes) == 2 else indicators)
        self.classes_ = classes
        return self

    def decision_function(self, X: Data) -> np.ndarray:
        """The regressed indicators (N, classes); of the second class (N,) when there are two."""
        data = self._read(X)
        return self._regressed(data)

    def predict(self, X: Data) -> np.ndarray:
        """The labels of X."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[chosen]  # type: ignore[no-any-return]
