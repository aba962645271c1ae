"""Gram matrices whose expectations cancel, or are known to few digits: their errors, which machines do not carry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tensorprog.compile.arrays import UNSURE
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.kernel_account import TOLERANCE, warn

FEW = 8  # inputs whose errors are computed first
MANY = 256  # and then, where those are above the tolerance


def warn_of_errors(job: Any, noted: int) -> None:
    """Warn, as for K(X), where a kernel of a job has relative errors above 1e-9.

    Machines carry values alone.  What their errors do is computed again where it can matter: some expectation
    since ``noted`` was known to few digits, or the kernel subtracts; for a few inputs first.
    """
    if job.known is not None or not (UNSURE.count != noted or _subtracts(job)):
        return
    for kernel in job.kernels:
        if not isinstance(kernel, DerivedKernel):
            continue
        for count in (FEW, MANY):
            account = kernel._found(_part(job.first, count), _part(job.second, count), job.hyper)
            if not account.relative.max(initial=0.0) > TOLERANCE:
                break
        else:
            warn(account, repr(kernel), kernel._advice(account))


def _part(inputs: Inputs | None, count: int) -> Any:
    """The first inputs, in double precision."""
    if inputs is None:
        return None
    part = inputs.take(0, min(count, len(inputs)))
    return replace(part, data={t: x.astype(np.float64, copy=False) for t, x in part.data.items()})


def _subtracts(job: Any) -> bool:
    """Whether a kernel has a negative number in it."""
    if job.loop() is not None:
        return False
    lengths = next(iter(job.first.groups)), next(iter((job.second or job.first).groups))
    program: Any = getattr(job.evaluator(lengths), "program", None)
    if not hasattr(program, "order"):  # over positions
        return False
    return any(program.tape.value(i) is not None and program.tape.value(i) < 0 for i in program.order)
