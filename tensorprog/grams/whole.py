"""Gram matrices that depend on all of their inputs: computed whole, whatever blocks they are stored in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.kernel_account import warn
from tensorprog.derivation.route import is_sampled
from tensorprog.errors import NoRuleError


def any_sampled(job: Any) -> bool:
    """Whether the numbers of some kernel are found for all pairs at once: sampled, or of weights with other laws."""
    return any(
        isinstance(k, DerivedKernel) and (k._has_laws or is_sampled(k, job.first, job.second, job.hyper))
        for k in job.kernels
    )


def wholes(job: Any) -> tuple[np.ndarray, ...]:
    """All pairs of each kernel of a job, with a warning for each whose errors are above 1e-9."""
    found: list[np.ndarray] = []
    for kernel in job.kernels:
        own = replace(job, kernels=(kernel,))
        if any_sampled(own):
            reference = kernel if isinstance(kernel, DerivedKernel) else kernel.derived
            account = reference._found(job.first, job.second, job.hyper)
            warn(account, repr(kernel), reference._advice(account))
            found.append(account.value.astype(job.dtype))
        else:
            found += own.arrays()
    return tuple(found)


def of_inputs(kernels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The kernels, refused where they are between the members of inputs and no Gram matrices of inputs.

    Raises:
        NoRuleError: what to call instead.
    """
    for k in kernels:
        if k.net.takes_batches:
            raise NoRuleError(
                f"the kernel of {k.net.name} is between the members of batches, (N1, N2, B1, B2): it is computed by "
                "K(X1, X2), and there is no Gram matrix of batches"
            )
    return kernels
