"""scikit-learn estimators: regression and classification with the kernel of an infinitely wide network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tensorprog import programs
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, nearest
from tensorprog.kernels.data import read_inputs
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.learn.gaussian import GaussianProcess, draw
from tensorprog.learn.spectrum import Spectrum

KINDS: dict[str, Callable[[Network], Kernel]] = {"ntk": ntk, "nngp": nngp}


@functools.cache
def default_network() -> Network:
    """The network of an estimator that was given none: a ReLU MLP with two hidden layers and biases."""
    return programs.mlp(depth=2, sigma_b=0.1)


def kernel_of(network: Network | None, kind: str) -> Kernel:
    """The kernel of a network, derived once.

    Raises:
        ProgramError: not a network, or an unknown kind.
    """
    if network is not None and not isinstance(network, Network):
        raise ProgramError(f"network must be an architecture such as tp.programs.mlp(), got {network!r}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ProgramError(f"unknown kind of kernel {kind!r}; {nearest(str(kind), KINDS)}")
    return _derived(network or default_network(), kind)


@functools.lru_cache(maxsize=64)
def _derived(network: Network, kind: str) -> Kernel:
    return KINDS[kind](network)


def values_by_symbol(network: Network | None, values: Mapping[Any, Any] | None) -> dict[sp.Symbol, Any]:
    """Hyperparameter values by symbol, also from the names of symbols.

    Raises:
        DataError: a name that is no symbol of the network.
    """
    symbols = {s.name: s for s in symbols_of(network)}
    result: dict[sp.Symbol, Any] = {}
    for key, value in (values or {}).items():
        name = key.name if isinstance(key, sp.Symbol) else key
        if name not in symbols:
            known = nearest(str(name), symbols) if symbols else "it has none: all of its hyperparameters are numbers"
            raise DataError(f"the network has no hyperparameter symbol {name!r}; {known}")
        result[symbols[name]] = value
    return result


def symbols_of(network: Network | None) -> list[sp.Symbol]:
    """The symbols among a network's hyperparameters, by name."""
    given = (network or default_network()).hyperparameters.values()
    items = [e for v in given for e in (v if isinstance(v, (list, tuple)) else [v])]
    symbols = {s for e in items if isinstance(e, sp.Expr) for s in e.free_symbols}
    return sorted(symbols, key=lambda s: s.name)  # type: ignore[no-any-return]


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
        return self.kernel(X, Y, values=values_by_symbol(self.network, self.values))

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
        if len(target) != len(data):
            raise DataError(f"y has {len(target)} rows for {len(data)} inputs")
        return X, target

    def _fit_process(self, X: Any, targets: np.ndarray) -> None:
        self.X_fit_ = X
        process = GaussianProcess(Spectrum.of(self._gram(X)), targets, self.alpha)
        self.process_, self.dual_coef_ = process, process.weights
        self.log_marginal_likelihood_ = process.log_marginal_likelihood

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self._takes_sequences
        return tags


class NTKRegressor(RegressorMixin, _KernelEstimator):  # type: ignore[misc]
    """Kernel ridge regression with the NTK or NNGP of a network: f(x) = K(x, X)(K(X, X) + α)⁻¹ y.

    With ``kind="ntk"`` and small α this is the network trained to the end, averaged over its initialization;
    with ``kind="nngp"`` it is Bayesian inference with the network as prior and noise variance α.

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
        cross, own = self._gram(data, self.X_fit_), self._gram(data)
        mean, cov = cross @ self.dual_coef_, self.process_.cov(cross, own)
        return (mean, cov) if return_cov else (mean, np.sqrt(np.maximum(np.diag(cov), 0.0)))

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
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"a classifier needs at least two classes, y holds one class: {self.classes_[0]!r}")
        indicators = 2.0 * (codes[:, None] == np.arange(len(self.classes_))) - 1
        self._fit_process(data, indicators[:, 1] if len(self.classes_) == 2 else indicators)
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
