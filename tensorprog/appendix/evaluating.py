"""Values of claimed formulas at one setting: rules are matched to indices, nothing else is looked up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tensorprog.appendix.quantities import Engine, Key, Setting, key_of, shown
from tensorprog.appendix.terms import (
    Gram,
    Mean,
    Node,
    Num,
    Op,
    Quantity,
    Rule,
    Sum,
    Sym,
    mapped,
    relabelled,
    walk,
    written,
)
from tensorprog.errors import DataError
from tensorprog.printing import GREEK

Look = Callable[[Key], float | None]
INDICES = ("l", "t", "s", "k", "j", "i", "l'", "t'", "s'", "m")
MOST = 100_000  # quantities of a claim at one setting
FUNCTIONS: dict[str, Any] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "sin": math.sin, "cos": math.cos, "tanh": math.tanh,
    "erf": math.erf, "acos": math.acos, "asin": math.asin, "atan": math.atan, "max": max, "abs": abs,
}  # fmt: skip


class Circular(DataError):
    """A claimed quantity is defined by itself."""


class NoValue(DataError):
    """A claimed formula has no value, such as the root of a negative number."""


class Evaluation:
    """A claim at a setting.

    Args:
        engine: the kernel.
        setting: data and hyperparameters.
        rules: the claim.
        local: whether quantities that are derived have their derived values, so that every equation is about itself.
    """

    def __init__(self, engine: Engine, setting: Setting, rules: list[Rule], local: bool = True) -> None:
        self.engine, self.setting, self.rules, self.local = engine, setting, rules, local
        self._known: dict[Key, float] = {}
        self._open: set[Key] = set()

    # ---- quantities ------------------------------------------------------------------------------

    def quantity(self, key: Key) -> float:
        """The value of a quantity: derived, or else claimed."""
        if self.local and key in self.setting.values:
            return self.setting.values[key]
        if key not in self._known:
            if key in self._open:
                raise Circular(f"{shown(key)} is claimed to be made of itself")
            if len(self._known) > MOST:
                raise DataError("the claim has too many quantities")
            self._open.add(key)
            self._known[key] = self._claimed(key)
            self._open.discard(key)
        return self._known[key]

    def _claimed(self, key: Key) -> float:
        found = self.rule_for(key)
        if found is not None:
            rule, env = found
            return self.value(rule.right, env)
        if key in self.setting.values:
            return self.setting.values[key]
        turned = (key[0], (*key[1][:-2], *key[1][:-3:-1]) if len(key[1]) > 1 else key[1], key[2][::-1], key[3])
        if key[2][0] != key[2][1] and (turned in self.setting.values or self.rule_for(turned)):
            return self.quantity(turned)
        raise DataError(f"the claim reads {shown(key)}, which none of its equations gives and the kernel has not")

    def rule_for(self, key: Key) -> tuple[Rule, dict[str, int]] | None:
        """The rule for a quantity and the values of its indices; that with fewest free ones."""
        found = []
        for n, rule in enumerate(self.rules):
            for own in self._versions(rule, key):
                env = self.match(own, key)
                if env is not None:
                    found.append((len(env), n, own, env))
                    break
        return min(found, key=lambda f: f[:2])[2:] if found else None

    def _versions(self, rule: Rule, key: Key) -> list[Rule]:
        """The rule, and for one input with itself the rule for two inputs taken for it."""
        left = rule.left
        if not isinstance(left, Quantity) or left.head != key[0] or left.copy != key[3]:
            return []
        if left.pair == key[2]:
            return [rule]
        labels = ("x", "x'")
        about = any(
            isinstance(r.left, Quantity) and r.left.pair == key[2] and r.left.head == key[0] for r in self.rules
        )
        if key[2][0] != key[2][1] or about:
            return []
        if left.pair not in (labels, ("x", "x")):
            return []
        to = key[2]
        ranges = tuple((i, *(relabelled(b, to, labels) for b in (a, c))) for i, a, c in rule.ranges)
        return [Rule(relabelled(left, to, labels), relabelled(rule.right, to, labels), ranges, rule.text)]

    def match(self, rule: Rule, key: Key) -> dict[str, int] | None:
        """The values of the free indices of a rule at a key, None where it is not about it."""
        assert isinstance(rule.left, Quantity)
        if len(rule.left.index) != len(key[1]):
            return None
        env: dict[str, int] = {}
        sizes = self.engine.sizes
        for node, value in zip(rule.left.index, key[1], strict=True):
            free = [s.name for s in walk(node) if isinstance(s, Sym) and s.name not in {*sizes, *env, "τ"}]
            if not free:
                if self.index(node, env) != value:
                    return None
            else:
                at0, at1 = (self.index(node, {**env, free[0]: v}) for v in (0, 1))
                if at1 - at0 != 1:
                    return None
                env[free[0]] = value - at0
        for index, low, high in rule.ranges:
            if index in env and not self.index(low, env) <= env[index] <= self.index(high, env):
                return None
        return env

    def index(self, n: Node, env: Mapping[str, int]) -> int:
        """An index as a number."""
        value = self.value(n, env)
        if value != int(value):
            raise DataError(f"the index {written(n)} is {value}, no integer")
        return int(value)

    # ---- formulas --------------------------------------------------------------------------------

    def value(self, n: Node, env: Mapping[str, Any]) -> float:
        """A formula, given its indices."""
        if isinstance(n, Num):
            return float(n.value) if n.value.denominator != 1 else int(n.value)
        if isinstance(n, Sym):
            return self._symbol(n.name, env)
        if isinstance(n, Quantity):
            key = key_of(Quantity(n.head, tuple(Num(Fraction(self.index(i, env))) for i in n.index), n.pair, n.copy))
            assert key is not None
            return self.quantity(key)
        if isinstance(n, Gram):
            return self._gram(n, env)
        if isinstance(n, Mean):
            return self._mean(n, env)
        if isinstance(n, Sum):
            low, high = self.index(n.low, env), self.index(n.high, env)
            return sum(self.value(n.body, {**env, n.index: i}) for i in range(low, high + 1))
        return self._operation(n, env)

    def _symbol(self, name: str, env: Mapping[str, Any]) -> float:
        if name in env:
            return env[name]
        sizes = self.engine.sizes
        if name == "τ" and "T" in sizes:
            return sizes["T'"] - sizes["T"]
        if name in sizes:
            return sizes[name]
        if name == "π":
            return math.pi
        if name == "d":
            return self.setting.inputs[0].shape[-1]
        for spelled in (name, *([word] if (word := ascii_name(name)) else [])):
            if spelled in self.setting.hyper:
                return self.setting.hyper[spelled]
        known = ", ".join([*self.setting.hyper, *sizes])
        raise DataError(f"the claim has a symbol {name}, which the network has not; it has {known or 'none'}")

    def _gram(self, n: Gram, env: Mapping[str, Any]) -> float:
        times = ["" if t is None else str(self.index(t, env)) for t in n.times]
        a, b = (f"{label}{t}" for label, t in zip(n.labels, times, strict=True))
        for name in (f"⟨{a},{b}⟩", f"⟨{b},{a}⟩"):
            if name in self.setting.grams:
                return self.setting.grams[name]
        raise DataError(f"the claim has ⟨{a},{b}⟩, and there are {', '.join(list(self.setting.grams)[:4])}, ..")

    def _mean(self, n: Mean, env: Mapping[str, Any]) -> float:
        args = n.args
        if n.letter == "V" and len(args) == 1:
            args = (relabelled_to(args[0], 0), args[0], relabelled_to(args[0], 1))
        law = tuple(float(self.value(a, env)) for a in args)
        own = next((r for r in self.rules if isinstance(r.left, Mean) and r.left.functions == n.functions
                    and r.left.letter == n.letter and len(r.left.args) == len(law)), None)  # fmt: skip
        if own is not None and not self.local:
            names = {a.name: v for a, v in zip(own.left.args, law, strict=True) if isinstance(a, Sym)}
            return self.value(own.right, {**env, **names})
        return self.engine.expectation(n.letter, n.functions, law)

    def _operation(self, n: Op, env: Mapping[str, Any]) -> float:
        parts = [self.value(p, env) for p in n.parts]
        try:
            if n.kind == "add":
                return sum(parts)
            if n.kind == "mul":
                return math.prod(parts)
            if n.kind == "neg":
                return -parts[0]
            if n.kind == "div":
                return parts[0] / parts[1]
            if n.kind == "pow":
                return float(parts[0] ** parts[1])
            return float(FUNCTIONS[n.kind](*parts)) if n.kind != "max" else max(parts)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError) as error:
            raise NoValue(f"the claimed {written(n)} has no value at {parts}: {error}") from error


def relabelled_to(n: Node, side: int) -> Node:
    """A covariance as the variance of its first (0) or second (1) variable."""
    if isinstance(n, Quantity):
        index = n.index
        if len(index) >= 2:
            index = (*index[:-2], index[-2:][side], index[-2:][side])
        return Quantity(n.head, index, (n.pair[side],) * 2, n.copy)
    if isinstance(n, Gram):
        return Gram((n.labels[side],) * 2, (n.times[side],) * 2)
    return mapped(n, lambda m: relabelled_to(m, side) if isinstance(m, (Quantity, Gram)) else None)


def ascii_name(name: str) -> str:
    """sigma_w of σ_w."""
    stem, mark, rest = name.partition("_")
    word = GREEK.get(stem, stem).replace("var", "")
    return f"{word}{mark}{rest}"
