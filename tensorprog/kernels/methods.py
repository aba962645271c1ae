"""``tp.ntk`` and ``tp.nngp``: the ways to derive a kernel, as a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import ProgramError, nearest
from tensorprog.kernels.kernel import Derivation, Kernel, Length
from tensorprog.kernels.names import EveryName, NetworkNames
from tensorprog.kernels.ntk import nngp as nngp_value
from tensorprog.kernels.ntk import ntk_terms, sum_terms
from tensorprog.kernels.paths import PathSum, enumerate_kernel
from tensorprog.kernels.route import ROUTES, How
from tensorprog.kernels.sampled.estimate import Sampling
from tensorprog.kernels.training import one_step_kernel
from tensorprog.limit.master import Limit
from tensorprog.passes.backprop import backprop
from tensorprog.passes.decouple import decouple
from tensorprog.passes.optimizer import among, trained_names

Trainable = Collection[str] | None


def _by_backprop(net: Network, lengths: Sequence[Length], assume_gia: bool = False,
                 names: type[NetworkNames] = NetworkNames, trainable: Trainable = None) -> Derivation:  # fmt: skip
    trace = net.trace(lengths)
    program, gradients = backprop(trace)
    if assume_gia:
        program = decouple(program, lambda var, op: var not in trace.program)
    limit = Limit(program, names(trace, gradients))
    terms = ntk_terms(trace, gradients, 0, len(lengths) - 1, limit.correlated, among(trace, trainable))
    return Derivation(trace, limit, sum_terms(terms, limit))


def _by_paths(net: Network, lengths: Sequence[Length], trainable: Trainable = None) -> Derivation:
    trace = net.trace(lengths)
    limit = Limit(trace.program, NetworkNames(trace, []))
    return Derivation(trace, limit, PathSum(trace, limit, among(trace, trainable)).kernel(0, len(lengths) - 1))


def _by_enumeration(net: Network, lengths: Sequence[Length], trainable: Trainable = None) -> Derivation:
    trace = net.trace(lengths)
    limit = Limit(trace.program, NetworkNames(trace, []))
    sums = PathSum(trace, limit, among(trace, trainable))
    return Derivation(trace, limit, enumerate_kernel(sums, 0, len(lengths) - 1))


def _by_sgd(net: Network, lengths: Sequence[Length], trainable: Trainable = None) -> Derivation:
    return Derivation(*one_step_kernel(net, lengths, among(net.trace(lengths), trainable)))


def _nngp(net: Network, lengths: Sequence[Length], names: type[NetworkNames] = NetworkNames) -> Derivation:
    trace = net.trace(lengths)
    limit = Limit(trace.program, names(trace, []))
    return Derivation(trace, limit, nngp_value(trace, limit, 0, len(lengths) - 1))


NTK_METHODS: dict[str, Callable[..., Derivation]] = {
    "backprop": _by_backprop,
    "paths": _by_paths,
    "sgd": _by_sgd,
    "enumeration": _by_enumeration,
}


def ntk(net: Network, method: str = "auto", lengths: Sequence[int] | None = None, *, rtol: float | None = None,
        samples: int | None = None, seed: int = 0, trainable: Sequence[str] | None = None) -> Kernel:  # fmt: skip
    """The neural tangent kernel of a network in the infinite-width limit (TP2b Eq. 100).

    Args:
        net: an architecture; of several outputs the kernel is that of the first.
        method: ``"auto"``, formulas by ``"backprop"``, and numbers from their expectations where these can be
            computed, by sampling where they would be estimates themselves; ``"sampling"``, numbers by sampling;
            ``"backprop"``, the limit of the gradient program, always right; ``"paths"``, path sums
            by dynamic programming; ``"sgd"``, read off one step of training; ``"enumeration"``, all pairs
            of paths, for small networks.
        lengths: for sequences, the (T, T') of the printed formulas; when None (3, 3), or the nearest length that the
            network can be built with. ``K(X1, X2)`` derives every pair of lengths it meets.
        rtol: of sampling, the relative standard error to reach.
        samples: of sampling, how many in all; 2^17 when neither is given.
        seed: of sampling.
        trainable: names or kinds (embedding, matrix, bias, readout) of the parameters that train; all when None.  The
            others keep their initial values: gradients pass through them, and the sum over parameters leaves them out.

    Raises:
        ProgramError: no network, an unknown method or parameter, or lengths that do not fit.
        DataError: an ``rtol``, ``samples`` or ``seed`` that makes no sense.
        AssumptionError: path sums were asked for where gradient independence fails.

    >>> import tensorprog as tp
    >>> K = tp.ntk(tp.programs.mlp(depth=1, phi=tp.abstract("phi"), sigma_w=1, sigma_b=0))
    >>> print(K.equations[-1].rhs)
    V[φ'](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)*⟨x,x'⟩ + V[φ](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)
    >>> print(tp.ntk(K.net, trainable=["V"]).equations[-1].rhs)
    V[φ](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)
    """
    check_network(net)
    how, method = _how(method, NTK_METHODS, "backprop", "the NTK", Sampling(samples, rtol, seed))
    some: dict[str, Any] = {}
    if trainable is not None:
        length = net.fitting_length() if net.takes_sequences else None
        trained_names(net.trace(lengths or [length]), trainable)
        some["trainable"] = tuple(trainable)
    under_gia = functools.partial(_by_backprop, assume_gia=True, **some) if method == "backprop" else None
    straight = functools.partial(_by_backprop, names=EveryName, **some)
    derive = functools.partial(NTK_METHODS[method], **some)
    return Kernel(net, "ntk", method, derive, lengths, under_gia, derive_straight=straight, how=how, **some)


def _how(method: Any, derivations: Collection[str], formulas: str, what: str, sampling: Sampling) -> tuple[How, str]:
    """How numbers are found, and by which derivation formulas are."""
    known = [*ROUTES, *derivations]
    if not isinstance(method, str) or method not in known:
        raise ProgramError(f"unknown method {method!r} for {what}; {nearest(str(method), known)}")
    return (How("exact", sampling), method) if method in derivations else (How(method, sampling), formulas)


def nngp(net: Network, lengths: Sequence[int] | None = None, method: str = "auto", *, rtol: float | None = None,
         samples: int | None = None, seed: int = 0) -> Kernel:  # fmt: skip
    """The NNGP kernel of a network: the limiting covariance of its outputs, σ_v² E Z^x Z^x'.

    Args:
        net: an architecture; of several outputs the kernel is that of the first.
        lengths: as in ``ntk``.
        method: ``"auto"`` and ``"sampling"`` as in ``ntk``; ``"forward"``, the limit of the forward program.
        rtol, samples, seed: as in ``ntk``.

    >>> import tensorprog as tp
    >>> K = tp.nngp(tp.programs.mlp(depth=1, phi=tp.relu, sigma_w=1, sigma_b=0))
    >>> K([[1.0, 1.0]])
    array([[0.5]])
    """
    check_network(net)
    how, method = _how(method, ("forward",), "forward", "the NNGP kernel", Sampling(samples, rtol, seed))
    straight = functools.partial(_nngp, names=EveryName)
    return Kernel(net, "nngp", method, _nngp, lengths, derive_straight=straight, how=how)
