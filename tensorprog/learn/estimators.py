"""scikit-learn estimators: regression and classification with the kernel of an infinitely wide network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError
from tensorprog.kernels.data import read_inputs
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.derivatives import diagonal
from tensorprog.learn.gaussian import GaussianProcess, draw
from tensorprog.learn.networks import kernel_of, matrices, values_by_symbol
from tensorprog.learn.spectrum import Spectrum


class _KernelEstimator(BaseEstimator):  # type: ignore[misc]
    """What regressor and classifier share: reading inputs, the kernel, the fitted process."""

    def __init__(self, network: Network | None = None, *, kind: str = "ntk", alpha: float = 1e-3,
                 values: Mapping[Any, Any] | None = None) -> None:  # fmt: skip
        self.network, self.kind, self.alpha, self.values = network, kind, alpha, values

    @property
    def kernel(self) -> Kernel:
        """The kernel that is used, with its formulas."""
        return kernel_of(self.network, self.kind)

    @property
    def _takes_sequences(self) -> bool:
        return self.network is not None and self.kernel.net.takes_sequences

    def _gram(self, X: Any, Y: Any = None) -> np.ndarray:
        return matrices([self.kernel], X, Y, self._numbers(X))[0]

    def _numbers(self, X: Any) -> dict[sp.Symbol, Any]:
        return values_by_symbol(self.kernel, self.values, len(X[0]) if self._takes_sequences else None)

    def _read(self, X: Any) -> Any:
        """Inputs at prediction time."""
        check_is_fitted(self)
        if not self._takes_sequences:
            return validate_data(self, X, reset=False, dtype=np.float64)
        read_inputs(X, "X", True)
        return X

    def _read_training(self, X: Any, y: Any, **options: Any) -> tuple[Any, np.ndarray]:
        if not self._takes_sequences:
            return validate_data(self, X, y, dtype=np.float64, **options)  # type: ignore[no-any-return]
        data = read_inputs(X, "X", True)
        self.n_features_in_ = data.dimension
        target = np.asarray(y)
        if y is None or target.ndim == 0:
            raise DataError(f"y must hold a target for each of the {len(data)} inputs, got {y!r}")
        if len(target) != len(data):
            raise DataError(f"y has {len(target)} rows for {len(data)} inputs")
        return X, target

    def _fit_process(self, X: Any, targets: np.ndarray) -> None:
        process = GaussianProcess(Spectrum.of(self._gram(X)), targets, self.alpha)
        self.X_fit_, self.process_, self.dual_coef_ = X, process, process.weights
        self.log_marginal_likelihood_ = process.log_marginal_likelihood

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self._takes_sequences
        return tags


class NTKRegressor(RegressorMixin, _KernelEstimator):  # type: ignore[misc]
    """Kernel ridge regression with the NTK or NNGP of a network: f(x) = K(x, X)(K(X, X) + α)⁻¹ y.

    With ``kind="ntk"`` and small α this is the network, if its readout is random, trained to the end and averaged over
    its initialization; with ``kind="nngp"`` it is Bayesian inference with the network as prior and noise variance α.

    Args:
        network: an architecture; when None, because scikit-learn wants estimators that need no argument,
            ``tp.programs.mlp(depth=2, sigma_b=0.1)``: a ReLU MLP with two hidden layers and small biases.
        kind: ``"ntk"`` or ``"nngp"``.
        alpha: ridge, at least 0; with 0 the kernel matrix must not be singular.
        values: numbers for hyperparameter symbols of the network, by symbol or by name.

    Attributes:
        dual_coef_: (K + α)⁻¹ y, of the shape of y.
        log_marginal_likelihood_: of the targets under the Gaussian process with this kernel.
        process_: the fitted ``GaussianProcess``, with leave-one-out predictions and the spectrum of the kernel.

    Inputs are (N, d); for networks over sequences (N, T, d) or lists of (T_i, d).

    >>> from tensorprog.learn import NTKRegressor
    >>> NTKRegressor(alpha=1e-6).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0]).predict([[1.0]]).round(3)
    array([1.])
    """

    def fit(self, X: Any, y: Any) -> NTKRegressor:
        """Fit to inputs X and targets y, (N,) or (N, outputs)."""
        data, targets = self._read_training(X, y, multi_output=True, y_numeric=True)
        self._fit_process(data, targets)
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predictions at X; with ``kind="nngp"`` also their posterior standard deviations or covariance."""
        data = self._read(X)
        if not (return_std or return_cov):
            return self._gram(data, self.X_fit_) @ self.dual_coef_
        if self.kind != "nngp":
            raise ProgramError(
                "a posterior deviation needs kind='nngp'; for trained networks see tensorprog.learn.Dynamics"
            )
        cross = self._gram(data, self.X_fit_)
        mean = cross @ self.dual_coef_
        if return_cov:
            return mean, self.process_.cov(cross, self._gram(data))
        own = diagonal(self.kernel, data, self._numbers(data))
        return mean, np.sqrt(self.process_.cov(cross, own))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draws from the posterior (``kind="nngp"``) at X, (N, n_samples) or (N, outputs, n_samples)."""
        mean, cov = self.predict(X, return_cov=True)
        return np.moveaxis(draw(mean, cov, n_samples, random_state), 0, -1)


class NTKClassifier(ClassifierMixin, _KernelEstimator):  # type: ignore[misc]
    """Classification by kernel regression on one indicator (1 against −1) for each class; the largest wins.

    Args:
        network, kind, alpha, values: as for ``NTKRegressor``.

    Attributes:
        classes_: the labels.
        dual_coef_: (K + α)⁻¹ of the indicators.

    >>> from tensorprog.learn import NTKClassifier
    >>> X = [[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]
    >>> NTKClassifier().fit(X, ["up", "right", "up", "right"]).predict([[0.1, 5.0]])
    array(['up'], dtype='<U5')
    """

    def fit(self, X: Any, y: Any) -> NTKClassifier:
        """Fit to inputs X and labels y, (N,)."""
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

    def decision_function(self, X: Any) -> np.ndarray:
        """The regressed indicators (N, classes); of the second class (N,) when there are two."""
        data = self._read(X)
        return self._gram(data, self.X_fit_) @ self.dual_coef_

    def predict(self, X: Any) -> np.ndarray:
        """The labels of X."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[chosen]  # type: ignore[no-any-return]
