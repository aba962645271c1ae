"""A claimed formula put to the test against what is derived."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.algebra import Poly, Scalar
from tensorprog.appendix.evaluating import Circular, Evaluation, NoValue, ascii_name
from tensorprog.appendix.quantities import Engine, Key, Setting, engine, key_of, shown
from tensorprog.appendix.reading import read
from tensorprog.appendix.repairs import guesses, of_function, of_numbers
from tensorprog.appendix.terms import Mean, Node, Quantity, Rule, Sym, addends, walk, written
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.errors import DataError, TensorProgramError, integer, shortly
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.formulas.typeset import ATOM, QUANTITY, SCALAR, TEXT, terms
from tensorprog.kernels.kernel import Kernel
from tensorprog.limit.equations import Name
from tensorprog.limit.evaluate import numbers
from tensorprog.printing import NameSymbol, Shown, counted

TIGHT = 1e-10  # relative: two numbers that agree to fewer digits are different
SETTINGS = 5


@dataclass(frozen=True, repr=False)
class FormulaCheck(Shown):
    """What ``tp.check_formula`` found.

    Attributes:
        equal: whether the claim agrees with what is derived.
        digits: to how many digits, over all settings and quantities.
        settings: on how many random settings of data and hyperparameters.
        compared: the quantities that were compared.
        quantity: the first one that differs, None where none does.
        claimed: its claimed value at a setting where it differs.
        derived: its derived value there.
        missing: derived terms that the claim lacks.
        extra: claimed terms that are not derived.
        repairs: changes that make the claim right, in words.
    """

    equal: bool
    digits: int
    settings: int
    compared: tuple[str, ...]
    quantity: str | None = None
    claimed: float = math.nan
    derived: float = math.nan
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    def text(self) -> str:
        """The verdict, and for a claim that differs where, by how much, and what would repair it."""
        on = f"on {counted(self.settings, 'random setting')}"
        if self.equal:
            names = ", ".join(self.compared[:6]) + (", .." if len(self.compared) > 6 else "")
            return f"equal to {self.digits} digits {on}: {names}"
        lines = [f"different: {self.quantity} is the first that differs", f"  claimed {self.claimed:.12g}",
                 f"  derived {self.derived:.12g}"]  # fmt: skip
        lines += [f"  missing: {t}" for t in self.missing] + [f"  too many: {t}" for t in self.extra]
        lines += [f"  repaired by: {r}" for r in self.repairs] or ["  no simple change repairs it"]
        return "\n".join(lines)


def check_formula(K: Kernel, claimed: Any, *, settings: int = SETTINGS, seed: int = 0) -> FormulaCheck:
    r"""Compare a claimed formula with the derived kernel, at random data and hyperparameters.

    A claim is equations in the printed names, as text, as LaTeX or as sympy equations, for one size or with indices and
    ranges; or a Python function of Gram entries, ``f(q, c, p, sigma_w=.., depth=..)`` with q = ⟨x,x⟩, c = ⟨x,x'⟩ and
    p = ⟨x',x'⟩: numbers for vectors, arrays indexed by times for sequences, whose other arguments are hyperparameters
    of the network by name.  Every equation is tested by itself, with derived values for what it reads, and the kernel
    as a whole.  Hyperparameters that the claim names take random values.

    LaTeX is read, never evaluated: numbers, + - · / ^, \frac, \sqrt, \sum, brackets, \Sigma^{(l)}(x,x'), \langle x_t,
    x'_t \rangle, V_{\phi}[..], E_{\phi}[..], hyperparameters such as \sigma_w, \pi, exp, log, \arcsin, \arccos,
    \arctan, \max; V[φ](q, c, q') = .. claims a closed form.

    Args:
        K: the kernel.
        claimed: the claim.
        settings: how many random settings.
        seed: of these.

    Returns:
        What was found.

    Raises:
        DataError: a claim that cannot be read or has no value; says where.
        NoRuleError: a network over positions.

    >>> import tensorprog as tp
    >>> K = tp.ntk(tp.programs.mlp(depth=2, phi=tp.relu, sigma_w=1.3, sigma_b=0.2))
    >>> print(check_formula(K, r"\Sigma^{(2)}(x,x') = \sigma_w V_{\phi}[\Sigma^{(1)}(x,x')] + \sigma_b^2"))
    different: Σ^(2)(x,x') is the first that differs
      claimed 2.03233984171
      derived 1.92925526349
      missing: σ_w²·V[relu](Σ^(1)(x,x), Σ^(1)(x,x'), Σ^(1)(x',x'))
      too many: σ_w·V[φ](Σ^(1)(x,x'))
      repaired by: σ_w² for σ_w
      repaired by: a factor σ_w in σ_w·V[φ](Σ^(1)(x,x'))
    """
    if not isinstance(K, DerivedKernel):
        raise DataError(f"check_formula compares with a kernel such as tp.ntk(net), got {shortly(K)}")
    count = integer(settings, "settings", 1, 1000)
    seed = integer(seed, "seed", 0, 2**32 - 1)
    if callable(claimed):
        return _function(K, claimed, count, seed)
    rules = read(claimed)
    named = {ascii_name(s.name) for r in rules for n in (r.left, r.right) for s in walk(n) if isinstance(s, Sym)}
    quantities = {q for r in rules for n in (r.left, r.right) for q in walk(n) if isinstance(q, Quantity)}
    index = {(q.head, len(q.index)) for q in quantities}
    indexed = any(map(_open_indices, rules))
    found = engine(K, named, index if indexed else None)
    if not indexed and any(_unknown(q, found, rules) for q in quantities):  # such as layers that K has no names for
        found = engine(K, named, index, indexed=False)
    return _Claim(K, found, rules, found.settings(count, seed)).check()


def _unknown(q: Quantity, found: Engine, rules: list[Rule]) -> bool:
    """Whether a quantity is neither claimed nor known."""
    claimed = any(
        isinstance(r.left, Quantity) and r.left.head == q.head and len(r.left.index) == len(q.index) for r in rules
    )
    return key_of(q) not in found.polys and not (claimed and not any(r.left == q for r in rules))


def _open_indices(r: Rule) -> bool:
    index = [s for n in (r.left, *walk(r.right)) if isinstance(n, Quantity) for i in n.index for s in walk(i)]
    return any(isinstance(s, Sym) for s in index)


def close(a: float, b: float, scale: float = 0.0) -> bool:
    """Whether two numbers agree."""
    return abs(a - b) <= TIGHT * max(abs(a), abs(b), scale) or a == b


def digits_of(pairs: list[tuple[float, float]]) -> int:
    """To how many digits pairs of numbers agree."""
    worst = max(
        (abs(a - b) / max(abs(a), abs(b), 1e-300) for a, b in pairs if a != b and not math.isnan(a)), default=0.0
    )
    return 15 if worst == 0 else max(0, min(15, int(-math.log10(worst))))


def _or_nan(e: Evaluation, n: Node, env: dict[str, Any]) -> float:
    """The value of a formula, NaN where it has none, such as a root of what is negative."""
    try:
        return e.value(n, env)
    except NoValue:
        return math.nan


class _Claim:
    """Claimed equations against an engine."""

    def __init__(self, K: Any, found: Engine, rules: list[Rule], settings: list[Setting]) -> None:
        self.K, self.engine, self.rules, self.settings = K, found, rules, settings
        self.local = [Evaluation(found, s, rules) for s in settings]
        self.compared: dict[str, None] = {}
        self.pairs: list[tuple[float, float]] = []

    def check(self) -> FormulaCheck:
        for n, rule in enumerate(self.rules):
            bad = self._closed_form(rule) if isinstance(rule.left, Mean) else self._equation(n, rule)
            if bad is not None:
                return bad
        whole = self._whole()
        if whole is not None:
            return whole
        if not self.compared:
            raise DataError(
                "none of the claimed quantities is one of the kernel, which has "
                + ", ".join(shown(k) for k in list(self.engine.polys)[-6:])
            )
        return FormulaCheck(True, digits_of(self.pairs), len(self.settings), tuple(self.compared))

    # ---- one equation ----------------------------------------------------------------------------

    def keys(self, rule: Rule) -> Iterator[tuple[Key, dict[str, int]]]:
        """The quantities of the kernel that a rule is about, with its indices, unless a more special rule is."""
        for key in sorted(self.engine.polys, key=lambda k: (k[1], k[0])):
            found = self.local[0].rule_for(key)
            if found is not None and found[0] is rule:
                yield key, found[1]

    def _equation(self, n: int, rule: Rule) -> FormulaCheck | None:
        for key, env in self.keys(rule):
            values = [(e.value(rule.right, env), s.values[key]) for e, s in zip(self.local, self.settings, strict=True)]
            self.compared[shown(key)] = None
            self.pairs += values
            bad = next((pair for pair in values if not close(*pair)), None)
            if bad is not None:
                return self._different(rule, key, env, bad)
        return None

    def _different(self, rule: Rule, key: Key, env: dict[str, int], pair: tuple[float, float]) -> FormulaCheck:
        missing, extra = self._terms(rule, key, env)
        right = [s.values[key] for s in self.settings]

        def holds(changed: Node) -> bool:
            try:
                return all(close(e.value(changed, env), v) for e, v in zip(self.local, right, strict=True))
            except (DataError, TensorProgramError):
                return False

        names = [*self.settings[0].hyper, "d"]
        repairs = list(
            itertools.islice(dict.fromkeys(w for w, changed in guesses(rule.right, env, names) if holds(changed)), 4)
        )
        claimed = [e.value(rule.right, env) for e in self.local]
        hyper = [s.hyper for s in self.settings]
        repairs += [] if repairs else of_numbers(claimed, right, hyper, close)
        if missing and not extra and not repairs and self._from_zdot(key, missing):
            repairs = [f"the term of Ż, {' and '.join(missing)}"]
        return FormulaCheck(False, digits_of(self.pairs), len(self.settings), tuple(self.compared), shown(key), *pair,
                            missing=missing, extra=extra, repairs=tuple(repairs))  # fmt: skip

    def _terms(self, rule: Rule, key: Key, env: dict[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Derived terms without a claimed one of the same values, and the other way round."""
        poly = self.engine.terms.get(key)
        if poly is None:
            return (), ()
        derived = [(self._term_text(m, c), self._term_values(m, c)) for m, c in poly.terms.items()]
        claimed = [(written(t), [e.value(t, env) for e in self.local]) for t in addends(rule.right)]
        left = list(derived)
        extra = []
        for words, values in claimed:
            match = next((d for d in left if all(close(a, b) for a, b in zip(d[1], values, strict=True))), None)
            if match is None:
                extra.append(words)
            else:
                left.remove(match)
        return tuple(words for words, _ in left), tuple(extra)

    def _term_text(self, mono: Any, c: Any) -> str:
        [(sign, factors)] = terms(Poly({mono: c}), TEXT, _show)
        return ("-" if sign == "-" else "") + TEXT.times.join(factors)

    def _term_values(self, mono: Any, c: Any) -> list[float]:
        return [float(numbers([Poly({mono: c})], _by_symbol(self.engine, s))[0]) for s in self.settings]

    def _from_zdot(self, key: Key, missing: tuple[str, ...]) -> bool:
        """Whether missing terms are those that a Ż brings: with mean derivatives, E of one variable, or their names."""
        terms = {self._term_text(m, c): m for m, c in self.engine.terms[key].terms.items()}
        return all(any(_is_mean_derivative(g) for g, _ in terms[words]) for words in missing)

    # ---- closed forms ----------------------------------------------------------------------------

    def _closed_form(self, rule: Rule) -> FormulaCheck | None:
        left = rule.left
        rng = np.random.default_rng(1)
        values = []
        laws = []
        for e in self.local:
            q, p = rng.uniform(0.3, 2, 2)
            law = (q,) if len(left.args) == 1 else (q, rng.uniform(-0.9, 0.9) * math.sqrt(q * p), p)
            laws.append({a.name: v for a, v in zip(left.args, law, strict=True)})
            derived = self.engine.expectation(left.letter, left.functions, law)
            values.append((_or_nan(e, rule.right, laws[-1]), derived))
        name = written(left)
        self.compared[name] = None
        self.pairs += values
        bad = next((pair for pair in sorted(values, key=lambda v: math.isnan(v[0])) if not close(*pair)), None)
        if bad is None:
            return None

        def holds(changed: Node) -> bool:
            try:
                return all(close(e.value(changed, law), v) for e, law, (_, v) in
                           zip(self.local, laws, values, strict=True))  # fmt: skip
            except DataError:
                return False

        arguments = {a.name for a in left.args}
        repairs = dict.fromkeys(words for words, changed in guesses(rule.right, {}, arguments) if holds(changed))
        found = list(repairs) or of_numbers([c for c, _ in values], [d for _, d in values], laws, close)
        return FormulaCheck(False, digits_of(self.pairs), len(self.settings), tuple(self.compared), name, *bad,
                            repairs=tuple(found))  # fmt: skip

    # ---- all of it -------------------------------------------------------------------------------

    def _whole(self) -> FormulaCheck | None:
        """The kernel by the claim alone."""
        key = next((k for k in self.engine.polys if not k[1] and k[0] in ("Θ", "K")), None)
        if key is None or self.local[0].rule_for(key) is None:
            return None
        own = [Evaluation(self.engine, s, self.rules, local=False) for s in self.settings]
        try:
            values = [(e.quantity(key), s.values[key]) for e, s in zip(own, self.settings, strict=True)]
        except Circular as error:
            raise DataError(f"the claim has no value: {error}") from error
        self.pairs += values
        bad = next((pair for pair in values if not close(*pair)), None)
        if bad is None:
            return None
        claimed, right = (list(v) for v in zip(*values, strict=True))
        repairs = of_numbers(claimed, right, [s.hyper for s in self.settings], close)
        return FormulaCheck(False, digits_of(self.pairs), len(self.settings), tuple(self.compared), shown(key), *bad,
                            repairs=tuple(repairs))  # fmt: skip


def _is_mean_derivative(g: Any) -> bool:
    """Whether a generator is E of one variable, or the name of a coefficient of Ż."""
    single = isinstance(g, Expect) and len(g.mean) == 1 and head_of(g, False).startswith("E")
    return single or (isinstance(g, Name) and g.kind == "zdot")


def _show(g: Any) -> tuple[int, str]:
    """How a generator prints among missing terms."""
    if isinstance(g, Expect):
        return ATOM, TEXT.expr(g.symbol)
    return (SCALAR, "") if type(g) is Scalar and not str(g.symbol).startswith("⟨") else (QUANTITY, TEXT.expr(g.symbol))


def _by_symbol(found: Engine, s: Setting) -> dict[Any, float]:
    hyper = {symbol: s.hyper[str(symbol)] for symbol in found.kernel._symbols() or ()}
    return {**hyper, **{NameSymbol(name): v for name, v in s.grams.items()}}


# ---- functions -----------------------------------------------------------------------------------


def _function(K: Any, claimed: Callable[..., Any], count: int, seed: int) -> FormulaCheck:
    """A Python function of Gram entries and hyperparameters."""
    try:
        parameters = list(inspect.signature(claimed).parameters.values())
    except (TypeError, ValueError) as error:
        raise DataError(f"the claimed function has no signature: {shortly(claimed)}") from error
    named = [p.name for p in parameters[3:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(parameters) < 3:
        raise DataError("a claimed function takes three Gram entries first, f(q, c, p, ..), and then hyperparameters")
    optional = {p.name for p in parameters if p.default is not p.empty}
    named = [n for n in named if n in K.net.hyperparameters or n not in optional]
    unknown = [n for n in named if n not in K.net.hyperparameters]
    if unknown:
        raise DataError(
            f"the claimed function takes {', '.join(unknown)}; the hyperparameters of {K.net.name} are "
            f"{', '.join(K.net.hyperparameters) or 'none'}"
        )
    found = engine(K, set(named))
    settings = found.settings(count, seed)
    fixed = {n: K.net.hyperparameters[n] for n in named}

    def call(s: Setting, change: dict[str, Any] | None = None, scale: float = 1.0) -> float:
        given = {**fixed, **{n: s.hyper[n] for n in named if n in s.hyper}, **(change or {})}
        grams = [g * scale for g in _entries(s, K)]
        try:
            return float(claimed(*grams, **given))
        except Exception as error:
            raise DataError(f"the claimed function fails at {given}: {type(error).__name__}: {error}") from error

    values = [(call(s), s.kernel) for s in settings]
    name = f"{'Θ' if K.kind == 'ntk' else 'K'}(x,x')"
    bad = next((pair for pair in values if not close(*pair)), None)
    if bad is None:
        return FormulaCheck(True, digits_of(values), count, (name,))
    claims, right = (list(v) for v in zip(*values, strict=True))
    repairs = of_function(call, settings, right, fixed, close)
    repairs = repairs or of_numbers(claims, right, [s.hyper for s in settings], close)
    return FormulaCheck(False, digits_of(values), count, (name,), name, *bad, repairs=tuple(dict.fromkeys(repairs)))


def _entries(s: Setting, K: Any) -> list[Any]:
    x, y = s.inputs
    d = x.shape[-1]
    found = [x @ x.T / d, x @ y.T / d, y @ y.T / d]
    return found if K.net.takes_sequences else [float(g[0, 0]) for g in found]
