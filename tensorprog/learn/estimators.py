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
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, unknown_keywords
from tensorprog.given import flag
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.derivatives import diagonal
from tensorprog.learn.gaussian import GaussianProcess, draw
from tensorprog.learn.gaussian import targets as checked_targets
from tensorprog.learn.networks import equal_inputs, kernel_of, matrices, sampled_together, values_by_symbol
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import Rates
from tensorprog.types import Data, HyperValues, Number, Pattern


class _KernelEstimator(BaseEstimator):  # type: ignore[misc]
    """What regressor and classifier share: reading inputs, the kernel, the fitted process."""

    def __init__(self, network: Network | None = None, *, kind: str = "ntk", alpha: float = 1e-3,
                 values: HyperValues | None = None, match_equal: bool = False,
                 trainable: Sequence[Pattern] | None = None, rates: Mapping[Pattern, Number] | None = None,
                 parametrization: ParametrizationChoice | None = None) -> None:  # fmt: skip
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
        again, ridge = together[-count:, -count:], self.alpha * np.eye(count)
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
            return validate_data(self, X, reset=False, dtype=np.float64)
        read_inputs(X, "X", self._form)
        return X

    def _read_training(self, X: Data, y: Data, **options: Any) -> tuple[Any, np.ndarray]:
        refuse_masked(X, "X")
        refuse_masked(y, "y")
        if self._form == "vectors":
            return validate_data(self, X, y, dtype=np.float64, **options)  # type: ignore[no-any-return]
        data = read_inputs(X, "X", self._form)
        self.n_features_in_ = data.dimension
        target = np.asarray(y)
        if y is None or target.ndim == 0:
            raise DataError(f"y must hold a target for each of the {len(data)} inputs, got {y!r}")
        if len(target) != len(data):
            raise DataError(f"y has {len(target)} rows for {len(data)} inputs")
        return X, target

    def _fit_process(self, X: Data, targets: np.ndarray) -> None:
        flag(self.match_equal, "match_equal")
        K = self._gram(X)
        self._own_, self._fitted_ = np.diag(K).copy(), K
        process = GaussianProcess(K, targets, self.alpha)
        self.X_fit_, self.process_, self.dual_coef_ = X, process, process.weights
        self.log_marginal_likelihood_ = process.log_marginal_likelihood

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
            f"{name} has one noise variance alpha for all samples and takes no sample_weight; give a "
            "sample more weight by repeating it, or leave out what should have none"
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
        alpha: ridge, at least 0; with 0 the kernel matrix must not be singular.
        values: numbers for hyperparameter symbols of the network, by symbol or by name.
        normalize_y: regress (y − mean)/deviation, each output by its own, as scikit-learn's Gaussian processes do.
            α is then in units of the variance of y; predictions and their deviations are in those of y.
        match_equal: take inputs with equal numbers for one input, K(x, x') + 1(x = x') Var.  A network with ``state``
            gives each input a vector of its own, equal ones too: K(x, x) of one input is more than K between two
            equal ones, and without this option training inputs given to ``predict`` are new ones.
        trainable, rates, parametrization: with ``kind="ntk"``, which parameters train, and how fast, as for ``tp.ntk``.

    Attributes:
        X_fit_: the training inputs.
        n_features_in_: their dimension.
        dual_coef_: (K + α)⁻¹ y, of the shape of y; of the normalized y with ``normalize_y``.
        log_marginal_likelihood_: of the targets, normalized ones likewise, under the Gaussian process with this kernel.
        process_: the fitted ``GaussianProcess``, with leave-one-out predictions and the spectrum of the kernel.

    Inputs are (N, d); for networks over sequences (N, T, d) or lists of (T_i, d).

    >>> from tensorprog.learn import NTKRegressor
    >>> NTKRegressor(alpha=1e-6).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0]).predict([[1.0]]).round(3)
    array([1.])
    """

    def __init__(self, network: Network | None = None, *, kind: str = "ntk", alpha: float = 1e-3,
                 values: HyperValues | None = None, normalize_y: bool = False, match_equal: bool = False,
                 trainable: Sequence[Pattern] | None = None, rates: Mapping[Pattern, Number] | None = None,
                 parametrization: ParametrizationChoice | None = None) -> None:  # fmt: skip
        super().__init__(network, kind=kind, alpha=alpha, values=values, match_equal=match_equal, trainable=trainable,
                         rates=rates, parametrization=parametrization)  # fmt: skip
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
        """Predictions at X; with ``kind="nngp"`` also their posterior standard deviations or covariance.

        Deviations are (N,), the covariance (N, N); with ``normalize_y`` and several outputs, which differ then,
        (N, outputs) and (N, N, outputs).
        """
        data = self._read(X)
        if not (flag(return_std, "return_std") | flag(return_cov, "return_cov")):
            return self._scaled(self._cross(data) @ self.dual_coef_)
        if self.kind != "nngp":
            raise ProgramError(
                "a posterior deviation needs kind='nngp'; for trained networks see tensorprog.learn.Dynamics"
            )
        cross = self._cross(data)
        mean = self._scaled(cross @ self.dual_coef_)
        if return_cov:
            return mean, self._spread(self.process_.cov(cross, self._gram(data)), 2)
        own = diagonal(self.kernel, data, self._numbers(data))
        return mean, self._spread(np.sqrt(self.process_.cov(cross, own)), 1)

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
        """Draws from the posterior (``kind="nngp"``) at X, (N, n_samples) or (N, outputs, n_samples)."""
        data = self._read(X)
        cross = self._cross(data)
        cov = self.process_.cov(cross, self._gram(data))
        draws = draw(cross @ self.dual_coef_, cov, n_samples, random_state)
        return np.moveaxis(self._scaled(draws), 0, -1)


class NTKClassifier(ClassifierMixin, _KernelEstimator):  # type: ignore[misc]
    """Classification by kernel regression on one indicator (1 against −1) for each class; the largest wins.

    Args:
        network, kind, alpha, values, match_equal, trainable, rates, parametrization: as for ``NTKRegressor``.

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
            raise DataError(f"a classifier needs at least two classes, y holds one class: {classes[0]!r}")
        indicators = 2.0 * (codes[:, None] == np.arange(len(classes))) - 1
        self._fit_process(data, indicators[:, 1] if len(classes) == 2 else indicators)
        self.classes_ = classes
        return self

    def decision_function(self, X: Data) -> np.ndarray:
        """The regressed indicators (N, classes); of the second class (N,) when there are two."""
        data = self._read(X)
        return self._cross(data) @ self.dual_coef_  # type: ignore[no-any-return]

    def predict(self, X: Data) -> np.ndarray:
        """The labels of X."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[chosen]  # type: ignore[no-any-return]
