"""Which parameters train, and how fast: one list of rates, resolved from the parameters of a trace.

Everything that asks ``trainable=``, ``rates=`` and ``parametrization=`` reads them here, so that a kernel in the limit,
one at width n, a training run and its prediction mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, ProgramError, listed, nearest, shortly
from tensorprog.passes.parametrization import Parametrization, chosen_parametrization
from tensorprog.passes.scaling import scaling

Pattern = Any  # of names: see ``matching``


@dataclass(frozen=True)
class Rates:
    """What is trained, and how fast: ``trainable``, ``rates`` and ``parametrization`` as they were given.

    The factor of a parameter is what its rate says, over σ² where W itself is trained; 0 where it does not train, and
    in the limit where a parametrization's updates of it vanish.  A kernel is the sum of the kernels of its parameters
    with these factors.
    """

    trainable: tuple[Pattern, ...] | None = None
    rates: tuple[tuple[Pattern, sp.Expr], ...] | None = None
    parametrization: Parametrization | None = None

    @classmethod
    def of(cls, trainable: Any = None, rates: Any = None, parametrization: Any = None) -> Rates:
        """What users gave.

        Raises:
            ProgramError: no list, no mapping, no parametrization, a factor that is no number or symbol, or negative.
        """
        return cls(
            None if trainable is None else tuple(listed(trainable, "trainable", "names")),
            None if rates is None else factors_of(rates, "rates", "the rate of"),
            chosen_parametrization(parametrization),
        )

    def check(self, trace: Trace) -> Rates:
        """Itself, where all names are those of a network.

        Raises:
            ProgramError: an unknown parameter; the nearest is suggested.
            AssumptionError: a parametrization that is not stable.
        """
        for what, patterns in (("trainable", self.trainable), ("rates", [p for p, _ in self.rates or ()])):
            for pattern in patterns or ():
                if not matching(trace, pattern):
                    raise unknown(trace, pattern, what)
        scaling(trace, self.parametrization)
        return self

    def trained(self, trace: Trace) -> frozenset[str]:
        """The names of the parameters of a trace that train."""
        if self.trainable is None:
            return frozenset(trace.trainable)
        return frozenset().union(*(matching(trace, pattern) for pattern in self.trainable))

    def factors(self, trace: Trace) -> dict[str, sp.Expr]:
        """The factors of the learning rates of parameters, by name, where they are not 1."""
        found = dict.fromkeys(trace.trainable, sp.S.One) | resolved(trace, self.rates or ())
        if self.parametrization is not None and self.parametrization.trained == "W":
            stds = stds_of(trace)
            found = {n: factor / stds[n] ** 2 if stds[n] != 0 else factor for n, factor in found.items()}
        return {n: factor for n, factor in found.items() if factor != 1}

    def with_learning_rates(self, trace: Trace, given: Iterable[tuple[Pattern, sp.Expr]] | None) -> dict[str, sp.Expr]:
        """The factors, times the learning rates of ``SGD(lr={..})``.

        Raises:
            ProgramError: an unknown parameter, or one that trains without a rate.
        """
        if given is None:
            return self.factors(trace)
        for pattern, _ in given:
            if not matching(trace, pattern):
                raise unknown(trace, pattern, "lr")
        rates, factors = resolved(trace, given), self.factors(trace)
        if missing := sorted(self.trained(trace) - rates.keys()):
            raise ProgramError(
                f"lr has no learning rate for {', '.join(missing)}; give one, or leave them out by trainable="
            )
        return {n: rate * factors.get(n, sp.S.One) for n, rate in rates.items()}

    def moving(self, trace: Trace) -> dict[str, sp.Expr] | None:
        """The factors of what trains in the limit; None where every parameter has the factor 1.

        Raises:
            AssumptionError: a parametrization without a kernel.
        """
        if self == Rates():
            return None
        scale, factors = scaling(trace, self.parametrization), self.factors(trace)
        if scale.r == 0:
            raise AssumptionError(
                f"{shortly(self.parametrization)} learns features, which no fixed kernel describes; "
                "see tp.feature_limit"
            )
        kept = (n for n in sorted(self.trained(trace)) if scale.update.get(n, 0) == 0)
        return {n: factors.get(n, sp.S.One) for n in kept}

    def at(self, trace: Trace, width: int) -> dict[str, sp.Expr] | None:
        """The same at width n, where what vanishes in the limit has a factor n^(−p)."""
        if self == Rates():
            return None
        scale, factors = scaling(trace, self.parametrization), self.factors(trace)
        powers = {n: scale.update.get(n, sp.S.Zero) for n in sorted(self.trained(trace))}
        return {n: factors.get(n, sp.S.One) * (width ** -float(p) if p else 1) for n, p in powers.items()}

    def of_names(self, trace: Trace, named: Mapping[str, str]) -> Rates:
        """The same for a network whose parameters stand for those of this trace, as ``named`` says of each."""
        trained, factors = self.trained(trace), resolved(trace, self.rates or ())
        return Rates(
            None if self.trainable is None else tuple(n for n, whole in named.items() if whole in trained),
            None if self.rates is None else tuple((n, factors[w]) for n, w in named.items() if w in factors),
            self.parametrization,
        )

    @property
    def given(self) -> dict[str, Any]:
        """As arguments of ``tp.ntk``."""
        rates = None if self.rates is None else dict(self.rates)
        return {"trainable": self.trainable, "rates": rates, "parametrization": self.parametrization}

    @property
    def words(self) -> str:
        """What is not as usual."""
        said = [] if self.trainable is None else [f"trained: {', '.join(map(str, self.trainable)) or 'nothing'}"]
        said += [] if self.rates is None else [f"rates: {dict(self.rates)}"]
        said += [] if self.parametrization is None else [repr(self.parametrization)]
        return "".join(f", {x}" for x in said)


ALL = Rates()


def factors_of(rates: Any, what: str, of: str) -> tuple[tuple[Pattern, sp.Expr], ...]:
    """A mapping of patterns to factors, as pairs.

    Raises:
        ProgramError: no mapping; a factor that is no number or symbol, or negative.
    """
    if not isinstance(rates, Mapping):
        raise ProgramError(f"{what} must be a mapping such as {{'V': 2}}, got {shortly(rates)}")
    found = []
    for key, value in rates.items():
        factor = exact(value, f"{of} {shortly(key)}")
        if factor.is_negative or factor.is_real is False:
            raise ProgramError(f"{of} {shortly(key)} must not be negative, got {value}")
        found.append((key, factor))
    return tuple(found)


def resolved(trace: Trace, factors: Iterable[tuple[Pattern, sp.Expr]]) -> dict[str, sp.Expr]:
    """The factors of the parameters that patterns name; a name counts more than a family, and that than a kind."""
    found: dict[str, sp.Expr] = {}
    for pattern, factor in sorted(factors, key=lambda item: _rank(trace, item[0])):
        found |= dict.fromkeys(sorted(matching(trace, pattern)), factor)
    return found


def _rank(trace: Trace, pattern: Pattern) -> int:
    if pattern in trace.trainable:
        return 2
    if pattern in trace.trainable.values():
        return 0
    return 2 if len(matching(trace, pattern)) == 1 else 1


def matching(trace: Trace, pattern: Pattern) -> frozenset[str]:
    """The parameters that a pattern names: a name, a key, a kind, or the beginning of a key, for a family.

    ``"V"`` and ``"W2"`` are names, ``("W", 2)`` is the key of the second; ``"matrix"`` is a kind (embedding, matrix,
    bias, readout, output bias); ``"W"`` are all ``("W", l)`` where no parameter is called W, and ``("W", 1)`` all
    ``("W", 1, t)``.
    """
    kinds = trace.trainable
    if isinstance(pattern, tuple):
        head, *rest = pattern or (None,)
        keys = {n: _whole(p.key) for n, p in trace.parameters.items()}
        return frozenset(n for n, k in keys.items() if head in _families(k) and list(k[1 : len(pattern)]) == rest)
    if not isinstance(pattern, str):
        return frozenset()
    if pattern in kinds:
        return frozenset([pattern])
    if pattern in kinds.values():
        return frozenset(n for n, kind in kinds.items() if kind == pattern)
    return frozenset(n for n, p in trace.parameters.items() if pattern in _families(p.key))


def _whole(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _families(key: Any) -> set[str]:
    """What a parameter of this key belongs to: ("A.q", 1) to "A.q" and "A"."""
    parts = str(_whole(key)[0]).split(".")
    return {".".join(parts[:k]) for k in range(1, len(parts) + 1)}


def unknown(trace: Trace, pattern: Pattern, what: str) -> ProgramError:
    """The error for a name that is none, with those there are."""
    families = {f for p in trace.parameters.values() for f in _families(p.key)}
    known = dict.fromkeys([*trace.trainable, *trace.trainable.values(), *sorted(families)])
    return ProgramError(f"{what} names the unknown parameter {shortly(pattern)}; {nearest(pattern, list(known))}")


def stds_of(trace: Trace) -> dict[str, sp.Expr]:
    """The scale of every parameter."""
    return {n: p.std for n, p in trace.parameters.items()} | trace.bias_stds
