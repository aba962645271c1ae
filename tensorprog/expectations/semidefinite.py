"""Covariances of three and more variables: positive semidefinite up to rounding, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.errors import DataError

Array = Any
NEGATIVE = 1e-9  # how negative an eigenvalue may be, relative to the variances


def semidefinite(cov: Array, slack: float, variables: Sequence[Any], body: Any) -> Array:
    """Covariances (..., k, k), those whose negative eigenvalues are more than rounding without them.

    Args:
        cov: symmetric.
        slack: how negative eigenvalues may be at all, relative to the sum of the variances.
        variables, body: what an error names.

    Raises:
        DataError: an eigenvalue is more negative than ``slack`` allows.

    >>> semidefinite(np.array([[1.0, 1.01], [1.01, 1.0]]), 0.1, "uv", "u v").round(12)
    array([[1., 1.],
           [1., 1.]])
    """
    smallest, trace = np.linalg.eigvalsh(cov)[..., 0], np.trace(cov, axis1=-2, axis2=-1)
    if np.any(smallest < -slack * trace):
        at = np.unravel_index(int(np.argmin(np.where(smallest < -slack * trace, smallest, 0.0))), smallest.shape)
        k = cov.shape[-1]
        raise DataError(
            f"E {body}: the {k}x{k} covariance of {tuple(variables)} is not positive semidefinite: "
            f"it has the eigenvalue {smallest[at]:.3g}"
        )
    off = smallest < -NEGATIVE * trace
    return np.where(off[..., None, None], _nearest(cov), cov) if np.any(off) else cov


def _nearest(cov: Array) -> Array:
    """The covariances without their negative eigenvalues, and of the same variances."""
    values, vectors = np.linalg.eigh(cov)
    found = (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    variances = np.einsum("...ii->...i", cov)
    left = np.maximum(np.einsum("...ii->...i", found), np.finfo(float).tiny)
    shrink = np.sqrt(variances / left)
    found = found * shrink[..., :, None] * shrink[..., None, :]
    np.einsum("...ii->...i", found)[...] = variances
    return found
