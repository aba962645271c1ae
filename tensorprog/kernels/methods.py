"""``tp.ntk`` and ``tp.nngp``: the ways to derive a kernel, as a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tensorprog.derivation.derivation import Derivation, Length
from tensorprog.derivation.heads import kernels_of
from tensorprog.derivation.names import EveryName, NetworkNames
from tensorprog.derivation.ntk import nngp as nngp_value
from tensorprog.derivation.ntk import nngp_between, ntk_terms, sum_terms
from tensorprog.derivation.over_positions import NO_MEMBERS
from tensorprog.derivation.paths import PathSum, enumerate_kernel
from tensorprog.derivation.route import ROUTES, How
from tensorprog.derivation.sampled.randomised import Sampling
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import AssumptionError, ProgramError, nearest, shortly
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.outputs import OutputKernels, chosen_outputs, one_output, printed_lengths, refuse_members
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import backprop
from tensorprog.passes.decouple import decouple
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import ALL, Rates
from tensorprog.recursions.layered import Layered, LayerNames
from tensorprog.recursions.stepwise import StepNames, Stepwise
from tensorprog.sgd.training import one_step_kernel
from tensorprog.types import Number, Pattern


def _by_backprop(
    net: Network, lengths: Sequence[Length], chosen: Rates = ALL, assume_gia: bool = False,
    names: type[NetworkNames] = NetworkNames, limits: type[Interpreter] = Interpreter,
) -> Derivation:  # fmt: skip
    trace = net.trace(lengths)
    if trace.batched:
        raise AssumptionError(NO_MEMBERS)
    program, gradients = backprop(trace)
    if assume_gia:
        program = decouple(program, lambda var, op: var not in trace.program)
    limit = limits(program, names(trace, gradients))
    terms = ntk_terms(trace, gradients, 0, len(lengths) - 1, limit.correlated, chosen.moving(trace))
    return Derivation(trace, limit, sum_terms(terms, limit))


def _by_paths(net: Network, lengths: Sequence[Length], chosen: Rates = ALL,
              names: type[NetworkNames] = NetworkNames) -> Derivation:  # fmt: skip
    trace = net.trace(lengths)
    limit = Interpreter(trace.program, names(trace, []))
    return Derivation(trace, limit, PathSum(trace, limit, chosen.moving(trace)).kernel(0, len(lengths) - 1))


def _by_enumeration(net: Network, lengths: Sequence[Length], chosen: Rates = ALL) -> Derivation:
    trace = net.trace(lengths)
    limit = Interpreter(trace.program, NetworkNames(trace, []))
    return Derivation(trace, limit, enumerate_kernel(PathSum(trace, limit, chosen.moving(trace)), 0, len(lengths) - 1))


def _by_sgd(net: Network, lengths: Sequence[Length], chosen: Rates = ALL) -> Derivation:
    found = chosen.moving(net.trace(lengths))
    only = ALL if found is None else Rates(tuple(found), tuple(found.items()))
    return Derivation(*one_step_kernel(net, lengths, only))


def _nngp(net: Network, lengths: Sequence[Length], names: type[NetworkNames] = NetworkNames,
          limits: type[Interpreter] = Interpreter) -> Derivation:  # fmt: skip
    trace = net.trace(lengths)
    limit = limits(trace.program, names(trace, []))
    return Derivation(trace, limit, nngp_value(trace, limit, 0, len(lengths) - 1))


NTK_METHODS: dict[str, Callable[..., Derivation]] = {
    "backprop": _by_backprop,
    "paths": _by_paths,
    "sgd": _by_sgd,
    "enumeration": _by_enumeration,
}


def _cross_ntk(chosen: Rates, net: Network, lengths: Sequence[Length], k: int, l: int) -> Derivation:
    trace = net.trace(lengths)
    source = kernels_of(trace, chosen.moving(trace))
    return Derivation(trace, source.limit, source(0, len(lengths) - 1, k, l))


def _cross_nngp(net: Network, lengths: Sequence[Length], k: int, l: int) -> Derivation:
    trace = net.trace(lengths)
    limit = Interpreter(trace.program, NetworkNames(trace, []))
    return Derivation(trace, limit, nngp_between(trace, trace.heads[0][k], trace.heads[-1][l], limit))


def ntk(net: Network, method: str = "auto", lengths: Sequence[int] | None = None, *, rtol: float | None = None,
        samples: int | None = None, seed: int = 0, outputs: int | Sequence[int] | None = None,
        trainable: Sequence[Pattern] | None = None, rates: Mapping[Pattern, Number] | None = None,
        parametrization: ParametrizationChoice | None = None) -> Kernel:  # fmt: skip
    """The neural tangent kernel of a network in the infinite-width limit (TP2b Eq. 100).

    Args:
        net: an architecture.
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
        outputs: of a network with several: the number of one, or several numbers; None for all, an ``OutputKernels``
            with K(X) of shape (N1, N2, outputs, outputs).
        trainable: the parameters that train; all when None.  The others keep their initial values: gradients pass
            through them, and the sum over parameters leaves them out.  Names such as ``"V"`` or ``("W", 2)``, families
            such as ``"W"`` for all ``("W", l)``, or kinds: embedding, matrix, bias, readout, output bias.
        rates: factors of their learning rates, by the same names, which multiply their terms of the kernel; a name
            counts more than a family, and that more than a kind.
        parametrization: which parameter is trained and which layers move.  ``"ntk"``, or None: the w ~ N(0, 1) of
            W = σ w/√n.  ``"standard"``: W itself, as autograd on a framework's layers does, at the rate η/(its number
            of inputs), η for biases: a factor 1/σ² of every term.  Or an object such as ``tp.standard(c=1,
            trained="W")``, the single rate η/n for all layers; ``tp.standard(c=1)``; ``tp.abc(..)``.  ``"mup"`` learns
            features and has no kernel.

    Raises:
        ProgramError: no network, an unknown method, output or parameter, or lengths that do not fit.
        DataError: an ``rtol``, ``samples`` or ``seed`` that makes no sense.
        AssumptionError: path sums were asked for where gradient independence fails; a parametrization without a kernel.

    >>> import tensorprog as tp
    >>> K = tp.ntk(tp.programs.mlp(depth=1, phi=tp.abstract("phi"), sigma_w=1, sigma_b=0))
    >>> print(K.equations[-1].rhs)
    V[φ'](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)*⟨x,x'⟩ + V[φ](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)
    >>> print(tp.ntk(K.net, trainable=["V"]).equations[-1].rhs)
    V[φ](⟨x,x⟩, ⟨x,x'⟩, ⟨x',x'⟩)
    """
    check_network(net)
    refuse_members(net, outputs)
    sampling = Sampling(samples, rtol, seed)
    how, formulas = _how(method, NTK_METHODS, "backprop", "the NTK", sampling)
    chosen = Rates.of(trainable, rates, parametrization)
    which = chosen_outputs(net, outputs, printed_lengths(net, lengths))
    if chosen != ALL:
        length = net.fitting_length() if net.takes_sequences else None
        trace = net.trace(lengths or [length])
        chosen.check(trace).moving(trace)
    if len(which) > 1:
        how_one: dict[str, Any] = {"method": method, "lengths": lengths, "rtol": rtol, "samples": samples, "seed": seed}
        one = functools.partial(ntk, **how_one, trainable=trainable, rates=rates, parametrization=parametrization)
        return OutputKernels(net, "ntk", formulas, lengths, which, one, functools.partial(_cross_ntk, chosen))
    net = one_output(net, which[0])
    if net.takes_batches:
        return _of_members(net, method, how, chosen)
    under_gia = functools.partial(_by_backprop, chosen=chosen, assume_gia=True) if formulas == "backprop" else None
    straight = functools.partial(_by_backprop, chosen=chosen, names=EveryName)
    stepwise = functools.partial(_by_backprop, chosen=chosen, names=StepNames, limits=Stepwise)
    layered = functools.partial(_by_backprop, chosen=chosen, names=LayerNames, limits=Layered)
    derive = functools.partial(NTK_METHODS[formulas], chosen=chosen)
    return Kernel(
        net,
        "ntk",
        formulas,
        derive,
        lengths,
        under_gia,
        derive_straight=straight,
        derive_stepwise=stepwise,
        derive_layered=layered,
        how=how,
        trained=chosen if chosen != ALL else None,
        derive_by_paths=functools.partial(_by_paths, chosen=chosen),
    )


def _of_members(net: Network, method: str, how: How, chosen: Rates) -> Kernel:
    """The NTK between the members of batches, by path sums.

    Raises:
        ProgramError: another derivation is asked for.
    """
    if method in NTK_METHODS and method != "paths":
        raise ProgramError(
            f"the NTK between members of batches is derived by path sums, not by {shortly(method)}: "
            "leave method= at 'auto'"
        )
    derive, straight = (functools.partial(_by_paths, chosen=chosen, names=n) for n in (NetworkNames, EveryName))
    trained = chosen if chosen != ALL else None
    return Kernel(net, "ntk", "paths", derive, derive_straight=straight, how=how, trained=trained)


def _how(method: Any, derivations: Collection[str], formulas: str, what: str, sampling: Sampling) -> tuple[How, str]:
    """How numbers are found, and by which derivation formulas are."""
    known = [*ROUTES, *derivations]
    if not isinstance(method, str) or method not in known:
        raise ProgramError(f"unknown method {shortly(method)} for {what}; {nearest(method, known)}")
    return (How("exact", sampling), method) if method in derivations else (How(method, sampling), formulas)


def nngp(net: Network, lengths: Sequence[int] | None = None, method: str = "auto", *, rtol: float | None = None,
         samples: int | None = None, seed: int = 0, outputs: int | Sequence[int] | None = None) -> Kernel:  # fmt: skip
    """The NNGP kernel of a network: the limiting covariance of its outputs, σ_v² E Z^x Z^x'.

    Args:
        net: an architecture.
        lengths, outputs: as in ``ntk``.
        method: ``"auto"`` and ``"sampling"`` as in ``ntk``; ``"forward"``, the limit of the forward program.
        rtol, samples, seed: as in ``ntk``.

    >>> import tensorprog as tp
    >>> K = tp.nngp(tp.programs.mlp(depth=1, phi=tp.relu, sigma_w=1, sigma_b=0))
    >>> K([[1.0, 1.0]])
    array([[0.5]])
    """
    check_network(net)
    refuse_members(net, outputs)
    how, formulas = _how(method, ("forward",), "forward", "the NNGP kernel", Sampling(samples, rtol, seed))
    which = chosen_outputs(net, outputs, printed_lengths(net, lengths))
    if len(which) > 1:
        one = functools.partial(nngp, lengths=lengths, method=method, rtol=rtol, samples=samples, seed=seed)
        return OutputKernels(net, "nngp", formulas, lengths, which, one, _cross_nngp)
    net = one_output(net, which[0])
    straight = functools.partial(_nngp, names=EveryName)
    stepwise = functools.partial(_nngp, names=StepNames, limits=Stepwise)
    layered = functools.partial(_nngp, names=LayerNames, limits=Layered)
    return Kernel(
        net,
        "nngp",
        formulas,
        _nngp,
        lengths,
        derive_straight=straight,
        derive_stepwise=stepwise,
        derive_layered=layered,
        how=how,
    )
