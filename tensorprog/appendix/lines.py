"""The lines of a derivation about single vectors: instructions, Z, Ż with its reasons, and their checks."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import sympy as sp

from tensorprog.algebra import Apply, Gaussian, Poly, add_all, to_sympy
from tensorprog.appendix.document import Statement
from tensorprog.functions import Fn, X
from tensorprog.ir.instructions import InitMatrix, InitScalar, InitVector, MatMul, Moment, Nonlin, Var, slots_of
from tensorprog.ir.listing import definition
from tensorprog.limit.evaluate import same
from tensorprog.limit.master import Interpreter
from tensorprog.printing import latex, text
from tensorprog.report.tikz import math

KINDS = {InitMatrix: "matrix", InitVector: "initial vector", InitScalar: "initial scalar", MatMul: "MatMul",
         Nonlin: "Nonlin", Moment: "Moment"}  # fmt: skip
NUMBER = re.compile(r"[0-9⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉]+")


def grouped(found: list[Statement]) -> list[Statement]:
    """Lines that differ in their numbers alone are told once."""
    first: dict[tuple[str, str], Statement] = {}
    for s in found:
        key = NUMBER.sub("#", s.text.split(" at ")[0]), NUMBER.sub("#", s.reason)
        if key in first:
            first[key].others.append(s)
        else:
            first[key] = s
    return list(first.values())


class Names:
    """What variables are called: as in the drawing of a network, or by their own names.

    Args:
        drawn: own name ↦ that of the drawing.
        tex: the LaTeX of a Z, where the drawing has one.
    """

    def __init__(self, drawn: dict[str, str] | None = None, tex: Callable[[Poly], str] | None = None) -> None:
        self.drawn = drawn or {}
        names = sorted(self.drawn, key=len, reverse=True)
        inside = "|".join(map(re.escape, names))
        self._pattern = re.compile(rf"⟨[^⟩]*⟩|(?<!\w)(?:{inside})(?=ᵀ|[^\w(]|$)") if names else None
        self._tex = tex

    def __call__(self, var: Any) -> str:
        """The name of a variable."""
        return self.drawn.get(str(var), str(var))

    def within(self, words: str) -> str:
        """A text with names put in."""
        return words if self._pattern is None else self._pattern.sub(lambda m: self.drawn.get(m[0], m[0]), words)

    def tex(self, p: Poly) -> str:
        """A Z as LaTeX."""
        return self._tex(p) if self._tex is not None else latex(to_sympy(p))


def instruction(var: Var, op: Any, where: str, names: Names) -> Statement | None:
    """A row of the program: name, formula, kind, place, and the line that it comes from; None of a mere copy."""
    kind = KINDS.get(type(op), type(op).__name__)
    what, name = names.within(definition(op)), names(var)
    if what == name:
        return None
    tail = f"{kind}{', ' if where else ''}{where}"
    tex = f"{math(name)} := {math(what)}"
    if isinstance(op, InitMatrix):
        tex = rf"{math(name)}_{{ij}} \sim \mathcal{{N}}({latex(sp.S.Zero)}, {latex(op.variance)} / n)"
    if isinstance(op, InitVector):
        tex = rf"{math(name)}_{{i}} \sim \mathcal{{N}}({latex(op.mean)}, {latex(op.covariance(var))})"
    return Statement(name, f"{name} := {what}   ({tail})", tex, tail)


class Limits:
    """Z of the vectors of a program, as lines.

    Args:
        limit: of the program.
    """

    def __init__(self, limit: Interpreter, names: Names) -> None:
        self.limit, self.names = limit, names

    def about(self, var: Var) -> Iterator[Statement]:
        """The lines about one vector or scalar."""
        op: Any = self.limit.program.op(var)
        z = self.limit.z.get(var)
        if z is None or isinstance(op, InitMatrix):
            return
        if isinstance(op, MatMul) and var in self.limit.zdot_terms:
            yield from self._matmul(var, op, z)
            return
        called = self.names(var)
        name = f"Z({called})" if var.kind == "vector" else f"lim {called}"
        tex = f"Z^{{{math(called)}}}" if var.kind == "vector" else rf"\mathring{{{math(called)}}}"
        if isinstance(op, InitVector):
            variance = op.covariance(var)
            if variance == 0:
                yield Statement(name, f"{name} = {text(op.mean)}", f"{tex} = {latex(op.mean)}")
                return
            yield Statement(name, f"{name} ~ N({text(op.mean)}, {text(variance)})",
                            rf"{tex} \sim \mathcal{{N}}({latex(op.mean)}, {latex(variance)})")  # fmt: skip
            return
        check = self._nonlin if isinstance(op, Nonlin) and self.limit.spatial is None else None
        check = self._moment if isinstance(op, Moment) else check
        said = self.names.within(text(to_sympy(z)))
        shown = f"{name} = {said}"
        if isinstance(op, Nonlin) and op.body.is_Symbol:
            return  # a copy
        yield Statement(name, shown, f"{tex} = {self.names.tex(z)}", "", (var, z), check)

    # ---- Nonlin ----------------------------------------------------------------------------------

    def _nonlin(self, s: Statement, digits: int) -> bool:
        """Z^ψ(x..) = ψ(Z^x..), both evaluated at random values of the Gaussians."""
        var, claimed = s.right
        op: Any = self.limit.program.op(var)
        slots = {slot: to_sympy(self.limit.z[v]) for slot, v in slots_of(op).items()}
        for seed in range(3):
            point = Point(seed)
            with mpmath.workdps(60):
                inner = {slot: point.value(e) for slot, e in slots.items()}
                mine = point.value(op.body, inner)
                theirs = point.value(to_sympy(claimed))
                if abs(mine - theirs) > mpmath.mpf(10) ** -digits * (1 + abs(mine)):
                    return False
        return True

    def _moment(self, s: Statement, digits: int) -> bool:
        var, claimed = s.right
        op: Any = self.limit.program.op(var)
        body = self.limit.algebra.from_sympy(op.body, {slot: self.limit.z[v] for slot, v in slots_of(op).items()})
        return same(self.limit.expect(body), claimed)

    # ---- MatMul ----------------------------------------------------------------------------------

    def _matmul(self, var: Var, op: MatMul, z: Poly) -> Iterator[Statement]:
        t, back = ("ᵀ", "") if op.transpose else ("", "ᵀ")
        terms = self.limit.zdot_terms[var]
        called, names = self.names(var), self.names
        name, tex = f"Z({called})", f"Z^{{{math(called)}}}"
        zdot = " + ".join(f"({names.within(text(to_sympy(a)))})·Z({names(y)})" for a, y in terms) or "0"
        zdot_tex = " + ".join(rf"\bigl({names.tex(a)}\bigr) Z^{{{math(names(y))}}}" for a, y in terms) or "0"
        said = f"{name} = Ẑ({names(op.matrix)}{t} {names(op.x)}) + Ż,  Ż = {zdot}"
        yield Statement(name, said, rf"{tex} = \hat {tex} + \dot {tex},\quad \dot {tex} = {zdot_tex}",
                        names.within(self.reason(var, op, back)), (var, list(terms)), self._stein)  # fmt: skip

    def reason(self, var: Var, op: MatMul, back: str) -> str:
        """Why Ż is what it is."""
        terms = self.limit.zdot_terms[var]
        if terms:
            uses = ", ".join(f"{op.matrix}{back} {y}" for _, y in terms)
            return (
                f"{uses} came before, and {op.x} depends on it: the coefficient is the variance of {op.matrix} times "
                "the mean derivative"
            )
        earlier = self.earlier(var, op)
        if not earlier:
            return f"no earlier use of {op.matrix}{back}"
        found = dict.fromkeys(self._why(op, g) for g in earlier)
        return "; ".join(w for w in found)

    def earlier(self, var: Var, op: MatMul) -> list[Gaussian]:
        """The Ẑ^{Wᵀy} that there were before."""
        field = self.limit.fields.get((op.matrix, not op.transpose))
        before = set()
        for v, o in self.limit.program:
            if v == var:
                break
            if isinstance(o, MatMul) and o.matrix == op.matrix and o.transpose != op.transpose:
                before.add(o.x)
        return [g for g in (field.z if field else ()) if g.source in before]

    def _why(self, op: MatMul, g: Gaussian) -> str:
        derivative = self.limit.algebra.derivative(self.limit.z[op.x], g)
        if not derivative:
            return f"{op.x} does not depend on {g.symbol}: the derivative of a constant is 0"
        odd = self.odd(derivative)
        if odd is not None:
            return (
                f"the derivative of {op.x} by {g.symbol} is odd in {odd.symbol}, which is centred and independent of "
                "the rest"
            )
        return f"the mean derivative of {op.x} by {g.symbol} is 0"

    def odd(self, p: Poly) -> Gaussian | None:
        """A centred Gaussian, independent of all others in p, in which p is odd."""
        gaussians = sorted((g for g in p.support), key=lambda g: -g.index)
        inside = {g for m in p.terms for f, _ in m if isinstance(f, Apply) for g in f.support}
        for g in gaussians:
            odd = all(dict(m).get(g, 0) % 2 == 1 for m in p.terms)
            free = all(h is g or not self.limit.expect.cov(g, h) for h in p.support)
            if odd and g not in inside and free:
                return g
        return None

    def _stein(self, s: Statement, digits: int) -> bool:
        """E Z^x Z^{Wᵀy} = E Z^{Wx} Z^y for every earlier y, with the claimed Ż."""
        var, terms = s.right
        limit = self.limit
        op: Any = limit.program.op(var)
        zhat, zx = limit.zhats[var], limit.z[op.x]
        claimed = zhat + add_all(a * limit.z[y] for a, y in terms)
        if limit.spatial is not None:
            return not terms and not limit.zdots[var]
        for g in self.earlier(var, op):
            y = g.source
            product = next(v for v, o in limit.program if isinstance(o, MatMul) and o.x == y and o.matrix == op.matrix
                           and o.transpose != op.transpose)  # fmt: skip
            left = limit.expect(zx * limit.z[product])
            right = limit.expect(claimed * limit.z[y])
            if not same(left, right):
                return False
        return bool(terms) or not limit.zdots[var] or same(limit.zdots[var], claimed + zhat.scale(-1))


class Point:
    """Random values of Gaussians and hyperparameters, and of functions that are abstract, to 60 digits."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def draw(self, *key: Any) -> Any:
        """A random number that a key stands for."""
        bits = random.Random(repr((self.seed, key))).getrandbits(200)
        return 2 * mpmath.mpf(bits) / 2**200 - 0.9

    def value(self, e: sp.Expr, known: dict[Any, Any] | None = None) -> Any:
        """An expression at this point."""
        if known and e in known:
            return known[e]
        if e.is_Symbol:
            drawn = self.draw(str(e))
            return drawn if str(e).startswith(("Z", "Ẑ")) else abs(drawn) + 0.1  # variances have roots
        if e.is_number and not e.has(Fn):
            return mpmath.mpf(str(sp.N(e, 60)))
        parts = [self.value(a, known) for a in e.args]
        if e.is_Add:
            return mpmath.fsum(parts)
        if e.is_Mul:
            return mpmath.fprod(parts)
        if e.is_Pow:
            return mpmath.power(*parts)
        if isinstance(e, Fn):
            return self.function(type(e), parts[0])
        if any(isinstance(p, mpmath.mpc) for p in parts):
            return self.draw(str(e.func), *map(str, parts))
        found = e.func(*(sp.Float(str(p), 60) for p in parts))
        return mpmath.mpf(str(sp.N(found, 60))) if found.is_number else self.draw(str(e.func), *map(str, parts))

    def function(self, cls: type[Fn], x: Any) -> Any:
        """A member of the table: by its pieces or definition; an abstract one, or a δ, is a random function."""
        if isinstance(x, mpmath.mpc):
            return self.draw(cls.family.name, cls.order, mpmath.nstr(x, 40))
        family, at = cls.family, sp.Float(str(x), 60)
        if family.pieces and not (cls.order and family.name in ("step", "sign")):
            piece = family.pieces[sum(bool(at > k) for k in family.kinks)]
            return mpmath.mpf(str(sp.N(sp.diff(piece, X, cls.order).subs(X, at), 60)))
        simple = {"exp": mpmath.exp, "sin": mpmath.sin, "cos": mpmath.cos}.get(family.name)
        if simple is not None and not cls.order:
            return simple(x)
        if family.definition is not None:
            return mpmath.mpf(str(sp.N(sp.diff(family.definition, X, cls.order).subs(X, at), 60)))
        return self.draw(family.name, cls.order, mpmath.nstr(x, 40))
