"""NTKTRAIN on one page: the certificate, trajectories at several widths beside the kernel's, and exponents (TP2b)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import AssumptionError, DataError, NoRuleError, ProgramError, shortly
from tensorprog.finite.estimate import Exponent
from tensorprog.given import count
from tensorprog.passes.optimizer import SGD
from tensorprog.progress import Progress, telling
from tensorprog.sgd.training import unroll
from tensorprog.studies.settings import random_inputs
from tensorprog.studies.study import Study, measured
from tensorprog.train import train
from tensorprog.types import Data
from tensorprog.verify import Claim

SAMPLES, CERTIFIED = 3, 2
WORDS = (
    "Theorem: as n grows, f_{t+1}(ξ) − f_t(ξ) tends to −η χ_t K(ξ, ξ_t) (TP2b, Eq. 22). The certificate compares "
    "the two sides as formulas; "
    "the networks are compared with kernel gradient descent from their own f_0."
)


def ntktrain(net: Network, X: Data | None = None, y: Data | None = None, *, steps: int = 10,
             optimizer: SGD | None = None, batch: int = 1, widths: Sequence[int] = (64, 128, 256, 512),
             seeds: int = 16, seed: int = 0, out: str | Path | None = None,
             progress: Progress = None) -> Study:  # fmt: skip
    """Whether training is kernel gradient descent in the limit: symbolically, and by networks of several widths.

    Args:
        net: an architecture.
        X, y: inputs and labels; three random ones, of ``seed``, when None.
        steps, optimizer, batch, widths, seeds: as in ``tp.train``.
        seed: of random data.
        out: a folder for the runs; an interrupted study resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: f and prediction by width (seeds, steps + 1, N), the exponents of f − prediction and of the
        kernel's drift; claims of the certificate and of the exponents.

    Raises:
        DataError, ProgramError, AssumptionError: settings that cannot be used, functions that jump.

    Reference:
        Yang & Littwin 2021, Algorithm 1, Setup 5.2, Theorem 5.4.
    """
    check_network(net)
    data: Any = random_inputs(net, SAMPLES, seed) if X is None else X
    samples = len(read_inputs(data, "X", net.form))
    given: Any = y
    if given is not None and np.ndim(given) != 1:
        raise DataError(f"y must have shape (N,), got {np.shape(given)}")
    if given is None:
        given = np.sign(np.random.default_rng([count(seed, "seed", 0), 1]).standard_normal(samples))
    chosen = SGD(0.2) if optimizer is None else optimizer
    if not isinstance(chosen, SGD):
        raise ProgramError(f"unsupported optimizer {shortly(chosen)}; use tp.SGD(lr, momentum, weight_decay)")
    with telling(progress) as tell:
        tell(0, 2, "the certificate")
        claims = [_certified(net, chosen)]
        tell(1, 2, "networks")
        report = train(
            net, data, given, steps=steps, optimizer=chosen, batch=batch, widths=widths, seeds=seeds, out=out
        )
    claims += report.claims
    claims += [Claim(h.name, False, h.detail) for h in report.hypotheses if h.holds is False]
    fits = report.named_errors
    numbers = {
        "widths": report.widths,
        "f": [report.f[w][..., 0] for w in report.widths],
        "prediction": [report.prediction[w][..., 0] for w in report.widths if w in report.prediction],
        "exponents": {name: _plain(fit) for name, fit in fits.items()},
    }
    rows = [[name, *(measured(*pair) for pair in f.sizes), str(f)] for name, f in fits.items()]
    head = ["size", *(f"n = {w}" for w in report.widths), "exponent"]
    return Study("ntktrain", f"NTKTRAIN of {report.heading}", numbers, claims, [WORDS], head, rows)


def _plain(f: Exponent) -> dict[str, Any]:
    return {"slope": f.slope, "low": f.low, "high": f.high, "size": f.errors, "stderr": f.stderrs}


def _certified(net: Network, optimizer: SGD) -> Claim:
    """Two steps, each on a sample of its own, as formulas."""
    name = "the certificate: f_{t+1} − f_t = −η χ_t K as formulas"
    plain = SGD(0.5, optimizer.momentum, optimizer.weight_decay, optimizer.nesterov)
    try:
        found = unroll(net, CERTIFIED, plain).certify()
    except (AssumptionError, NoRuleError) as error:
        return Claim(name, None, f"no certificate: {error}")
    told: Any = [r for r in found.rows if r.equal is not None]
    if not told:
        return Claim(name, None, "with weight decay there is no fixed kernel")
    equal = f"{sum(r.equal for r in told)} of {len(told)} changes of f equal"
    detail = f"{equal} (60 digits at random points), on a sample for each step"
    return Claim(name, found.passed, detail)
