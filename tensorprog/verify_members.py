"""Checking kernels between the members of batches: integrals against samples, both against finite-width runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.kernel_account import KernelAccount
from tensorprog.dsl.network import Network
from tensorprog.finite.estimate import exponent, extrapolate
from tensorprog.finite.layerwise import Layerwise
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.passes.rates import Rates
from tensorprog.progress import Progress, telling
from tensorprog.report.claims import ROUNDING, SLACK, Claim, Verification, claim_within
from tensorprog.types import Data, HyperValues

ERRORS = 6  # standard errors that an integral and its samples may be apart
FEWEST = 6  # members from which on an empirical NTK has a variance
HELD = 2**25  # numbers of a run that are held at a time


def verify_members(net: Network, data: Inputs, inputs: Data, widths: Sequence[int], seeds: int, *,
                   values: HyperValues | None, members: Sequence[int], chosen: Rates,
                   progress: Progress) -> Verification:  # fmt: skip
    """The claims about the kernels between the members of batches; arguments as for ``tp.verify``."""
    result = Verification(f"{net!r}{chosen.words}", widths=sorted(widths), seeds=seeds)
    with telling(progress):
        theta = ntk(net, **chosen.given).account(inputs, values=values)
        K = nngp(net).account(inputs, values=values)
        result.claims.append(_sampled(net, inputs, values, chosen, theta))
        runs = [_runs(net, data, n, range(seeds), values, chosen, members) for n in result.widths]
    part = np.ix_(range(len(data)), range(len(data)), members, members)
    if min(x.shape[1] for x in data.data.values()) < FEWEST and not _is_bounded(net):
        words = f"the empirical NTK of batches of fewer than {FEWEST} members has no variance: its mean is not compared"
        result.claims.append(Claim("NTK = empirical NTK", None, words))
    else:
        _ntk_claims(result, theta.value[part], theta.error[part], [t for t, _ in runs])
    outputs = [f for _, f in runs]
    products = [np.einsum("sik,sjl->sijkl", f, f) for f in outputs]
    V = K.value[part]
    own = np.einsum("iikk->ik", V)
    variance = own[:, None, :, None] * own[None, :, None, :] + V**2  # of f f' for Gaussian f
    fit = extrapolate(result.widths, products, variance)
    result.claims.append(claim_within("NNGP = output covariance", fit, V, K.error[part]))
    return result


def _is_bounded(net: Network) -> bool:
    """Whether what is divided by never vanishes: every normalisation adds an eps."""
    spatial = ntk(net)._derive().limit.spatial
    return spatial is not None and all(eps for _, eps in spatial.standards.of.values())


def _sampled(
    net: Network, inputs: Data, values: HyperValues | None, chosen: Rates, exact: KernelAccount
) -> Claim:  # fmt: skip
    name = "NTK by integrals = NTK by random draws"
    if exact.statistical:
        return Claim(
            name, None, f"both are sampled; it is known to {exact.relative.max():.1e}, a relative standard error"
        )
    drawn = ntk(net, "sampling", **chosen.given).account(inputs, values=values)
    gap = float((np.abs(drawn.value - exact.value) / np.maximum(drawn.error, 1e-300)).max())
    return Claim(name, gap <= ERRORS, f"largest of {exact.value.size} deviations {gap:.2f} standard errors of {ERRORS}")


def _ntk_claims(result: Verification, theta: np.ndarray, error: np.ndarray, runs: list[np.ndarray]) -> None:
    result.claims.append(claim_within("NTK = empirical NTK", extrapolate(result.widths, runs), theta, error))
    name, scale = "NTK error ~ n^(-1/2)", float(np.abs(theta).max()) or 1.0
    deviations = [(t - theta) / scale for t in runs]
    if max(float(np.abs(d).max()) for d in deviations) <= ROUNDING:
        result.claims.append(Claim(name, None, "the empirical NTK equals its limit at every width"))
        return
    fit = result.errors["NTK"] = exponent(result.widths, deviations)
    result.claims.append(Claim(name, fit.verdict(-0.5, SLACK), fit.words(-0.5, SLACK)))


def _runs(net: Network, data: Inputs, width: int, seeds: range, values: HyperValues | None, chosen: Rates,
          members: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The empirical NTK (S, N, N, members, members) and the outputs (S, N, members) of networks of one width."""
    trained = chosen.at(net.trace([next(iter(data.groups))]), width)
    kernel = Layerwise(net, data, None, symbol_values(values, lambda: net.symbols), True, trained)
    step = max(1, HELD // (kernel.volume * len(data) * width))
    found, outputs = [], []
    for start in range(0, len(seeds), step):
        some = list(seeds[start : start + step])
        drawn = kernel.draw(width, some), kernel.states(width, some)
        found.append(kernel.between(*drawn, members, trained))
        outputs.append(kernel.outputs(*drawn)[..., members])
    return np.concatenate(found), np.concatenate(outputs)
