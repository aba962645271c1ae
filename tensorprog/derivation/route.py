"""Which way to the numbers of a kernel: exact expectations or sampling, chosen before time is spent.

Two things make the exact way useless.  Products of gates, expanded, have exponentially many terms: they are counted
on the program, without expanding them; moments of gates that are independent are products (``limit.gated``).  And an
expectation of many correlated variables is itself computed from random points: one pair of inputs is tried, up to the
first such expectation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.kernel_account import is_statistical
from tensorprog.derivation.sampled.randomised import Sampling
from tensorprog.derivation.sampled.rows import DRAWN
from tensorprog.derivation.sampled.scores import is_drawn, is_random
from tensorprog.dsl.network import Network
from tensorprog.errors import AccuracyError, FoldError, NoRuleError, ProgramError, TensorProgramError
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.instructions import Nonlin, Slot, Var, slots_of
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import expected
from tensorprog.passes.backprop import backprop

ROUTES = ("auto", "sampling")
FEW = 12  # of them in one vector, up to which equations of both inputs are derived to be read
TERMS = 100  # products of nonlinear functions in one vector, beyond which their pairs are not expanded
COUNTED = 12  # time steps on which terms are counted
TRIED = 3  # time steps on which expectations are tried
DERIVED = 32  # time steps up to which they are tried on the data as they are, where nothing is multiplied
SAMPLED = "expectations of products of gates are out of reach"  # why, in words
Counts = tuple[float, float, float]  # terms with no, one, and more nonlinear factors


@dataclass(frozen=True)
class How:
    """How a kernel finds its numbers: ``"auto"``, ``"exact"`` or ``"sampling"``, and how it samples."""

    route: str = "auto"
    sampling: Sampling = field(default_factory=Sampling)


class _Statistical(Exception):
    """An expectation was computed from random points."""


def is_sampled(kernel: Any, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float]) -> bool:
    """Whether the numbers of a kernel on inputs are to be sampled."""
    if kernel.net.takes_axes:
        if kernel._how.route == "exact":
            return False
        drawn = is_drawn(kernel._derive(), (*first.groups, *(second or first).groups))
        if drawn or (kernel._how.route == "sampling" and is_random(kernel._derive())):
            return True
        if kernel._how.route == "sampling":
            raise ProgramError("kernels of networks over positions are not sampled; leave method= at 'auto'")
        return False
    if kernel._has_laws:
        if kernel._how.route == "sampling":
            raise ProgramError("kernels of weights that are not Gaussian are not sampled; leave method= at 'auto'")
        return False
    if kernel._how.route != "auto":
        return bool(kernel._how.route == "sampling")
    longest = (max(t or 0 for t in x.groups) for x in (first, second or first))
    key = (*(min(t, COUNTED) for t in longest), *hyper.items())
    if key not in kernel._chosen:
        kernel._chosen[key] = _decide(kernel, first, second, hyper)
    return bool(kernel._chosen[key])


def gates_are_sampled(kernel: Any, inputs: Inputs, hyper: Mapping[sp.Symbol, float]) -> bool:
    """Whether the kernel of inputs is sampled because of products of gates, with expectations out of reach."""
    if kernel.net.takes_axes:
        return is_sampled(kernel, inputs, None, hyper)
    longest = shortened(kernel.net, (max(inputs.groups, key=lambda t: t or 0),), COUNTED)[0]
    return bool(terms(kernel.net, longest, kernel.kind == "ntk")) and is_sampled(kernel, inputs, None, hyper)


def _decide(kernel: Any, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float]) -> bool:
    a, b = (max(x.groups, key=lambda t: t or 0) for x in (first, second or first))
    longest = shortened(kernel.net, (max(a or 0, b or 0) or None,), COUNTED)[0]
    products = terms(kernel.net, longest, kernel.kind == "ntk")
    short = shortened(kernel.net, (a, b), TRIED)
    if products > TERMS:
        return not (short != (a, b) and _in_pairs(kernel, short)) and _can_sample(kernel)
    plain = not products and max(a or 0, b or 0) <= DERIVED  # what is derived anyway will do
    lengths = (a, b) if plain else short
    if _in_pairs(kernel, lengths):
        return False
    pairs = [_pair(first.data[a], (second or first).data[b], lengths, last) for last in (0, -1)]
    return any(_drawn(kernel, pair, lengths, hyper) for pair in pairs) and _can_sample(kernel)


def _in_pairs(kernel: Any, lengths: tuple[Any, ...]) -> bool:
    """Whether expectations are of two variables at most, as of gates that are independent of each other."""
    atoms = [g for g in reachable([kernel._derive(lengths).poly]) if isinstance(g, Expect)]
    return all(len(g.mean) < 3 for g in atoms)


def shortened(net: Network, lengths: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """Lengths of at most so many steps, if the network takes them: it may read fixed positions."""
    short = tuple(t and min(t, most) for t in lengths)
    try:
        net.trace(short)
    except (TensorProgramError, LookupError, ValueError):
        return lengths
    return short


def _pair(x: np.ndarray, y: np.ndarray, lengths: tuple[Any, ...], last: int) -> tuple[np.ndarray, np.ndarray]:
    return x[:1, : lengths[0] or 1], y[last, None][:, : lengths[1] or 1]


def _drawn(kernel: Any, pair: tuple[np.ndarray, np.ndarray], lengths: Any, hyper: Any) -> bool:
    """Whether random points are behind the kernel of a pair; stops at the first."""

    def atom(g: Expect, value: Callable[[Poly], Any], gap: Any) -> Any:
        found = expected(g, value, gap)
        if is_statistical(found.method):
            raise _Statistical
        return found.value

    try:
        kernel._on_pairs(*pair, lengths, hyper, atom)
    except (_Statistical, NoRuleError, AccuracyError):
        return True
    return False


def _can_sample(kernel: Any) -> bool:
    trace = kernel.net.trace(kernel.lengths[:1])
    return all(isinstance(op, DRAWN) for _, op in trace.program) and (kernel.kind == "ntk" or trace.passes_gia_check)


def refuse_expanding(net: Network, lengths: Iterable[int | None], backward: bool) -> None:
    """Refuse to derive equations whose products of gates expand to too many terms.

    Raises:
        FoldError: with the number of terms.
    """
    longest = max(lengths, key=lambda t: t or 0)
    products = terms(net, longest, backward)
    at = f" at T = {longest}" if longest else ""
    if products > FEW:
        raise FoldError(
            f"{net.name} does not fold: a recursion is read off larger sizes, and{at} products of gates expand to "
            f"{products} terms in one vector (at most {FEW} are derived); numbers, K(X), are computed at any size"
        )
    if longest and products >= longest > 2:
        raise FoldError(
            f"{net.name} does not fold: every step multiplies the state by gates, so that its first steps are other "
            f"equations than the later ones ({products} products{at}); numbers, K(X), are computed at any size"
        )


# ---- how many terms ------------------------------------------------------------------------------


def terms(net: Any, length: int | None, backward: bool) -> float:
    """The largest number of products of two and more nonlinear functions that one vector expands to.

    >>> import tensorprog as tp
    >>> terms(tp.programs.rnn(), 5, True), terms(tp.programs.mlp(depth=4), None, True)
    (0, 0)
    """
    trace = net.trace([length])
    most = _largest(trace.program)
    return max(most, _largest(backprop(trace)[0])) if most and backward else most


def _largest(program: Iterable[tuple[Var, Any]]) -> float:
    counts: dict[Var, Counts] = {}
    for var, op in program:
        if isinstance(op, Nonlin):
            counts[var] = _count(op.body, {s: counts[v] for s, v in slots_of(op).items() if v in counts})
        elif var.kind == "vector":
            counts[var] = (1, 0, 0)
    return max((many for _, _, many in counts.values()), default=0)


def _count(body: sp.Expr, of: Mapping[Slot, Counts]) -> Counts:
    if body in of:
        return of[body]
    if not any(s in of for s in body.free_symbols):
        return (1, 0, 0)
    if body.is_Add:
        return tuple(map(sum, zip(*(_count(a, of) for a in body.args), strict=True)))  # type: ignore[return-value]
    if body.is_Mul:
        return functools.reduce(_times, (_count(a, of) for a in body.args))
    if body.is_Pow and body.exp.is_Integer and body.exp > 0:
        return functools.reduce(_times, [_count(body.base, of)] * int(body.exp))
    return (0, 1, 0)


def _times(a: Counts, b: Counts) -> Counts:
    total = sum(a) * sum(b)
    none, one = a[0] * b[0], a[0] * b[1] + a[1] * b[0]
    return none, one, total - none - one
