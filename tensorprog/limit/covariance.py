"""Drawing jointly Gaussian initial vectors: the Cholesky factor of their covariance, singular ones included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError, NoRuleError
from tensorprog.ir.instructions import InitVector, Var

TOLERANCE = 1e-12  # of correlations
ROUNDING = 16 * float(np.finfo(float).eps)  # of a variance given nearly equal vectors, divided by what tells them apart


def refuse_laws(vectors: list[tuple[Var, InitVector]]) -> None:
    """Refuse to draw initial vectors from their covariances where these do not say their law.

    Raises:
        NoRuleError: weights that are not Gaussian.
    """
    for v, op in vectors:
        if op.law is not None:
            raise NoRuleError(f"{v} is made of weights that are not Gaussian, and limits by sampling are of Gaussians")


def cholesky(vectors: list[tuple[Var, InitVector]], number: Callable[[sp.Expr], Any]) -> np.ndarray:
    """A lower-triangular root of the covariance of initial vectors: no vector depends on later ones.

    Equal vectors get equal rows, and a combination of earlier vectors gets no noise of its own.

    Args:
        vectors: the initial vectors in program order.
        number: the value of a covariance expression.

    Raises:
        DataError: the covariance is not finite or not positive semidefinite.
    """
    position = {v: i for i, (v, _) in enumerate(vectors)}
    cov = np.zeros((len(vectors), len(vectors)))
    for v, op in vectors:
        for w, c in op.cov:
            i, j = position[v], position[w]
            cov[i, j] = cov[j, i] = number(c)
    if not np.isfinite(cov).all():
        raise DataError("a covariance of the initial vectors is not finite")
    size = np.sqrt(np.abs(np.diag(cov)))  # small vectors stand beside large ones: correlations are compared
    size[size == 0.0] = 1.0
    root, least = np.zeros_like(cov), 1.0
    for j in range(len(cov)):
        column = cov[j:, j] / (size[j:] * size[j]) - root[j:, :j] @ root[j, :j]
        if column[0] > TOLERANCE:
            root[j:, j] = column / np.sqrt(column[0])
            least = min(least, column[0])
        elif column[0] < -TOLERANCE - ROUNDING / least or np.abs(column).max() > 1e6 * TOLERANCE:
            column *= size[j:] * size[j]
            raise DataError(
                f"the covariance of {', '.join(str(v) for v, _ in vectors)} is not positive semidefinite: "
                f"{vectors[j][0]} is left with variance {column[0]:.3g} and covariance {np.abs(column).max():.3g} "
                "given the vectors before it"
            )
    return size[:, None] * root
