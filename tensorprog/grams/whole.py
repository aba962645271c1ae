"""Gram matrices that depend on all of their inputs: computed whole, whatever blocks they are stored in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.kernel_account import warn
from tensorprog.derivation.route import is_sampled


def any_sampled(job: Any) -> bool:
    """Whether the numbers of some kernel are found for all pairs at once: sampled, or of named arrays at positions."""
    return job.first.layout is not None or any(
        isinstance(k, DerivedKernel)
        and (k.net.trace(k.lengths[:1]).has_laws or is_sampled(k, job.first, job.second, job.hyper))
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
