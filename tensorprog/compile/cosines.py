"""1 − ρ of covariances, carried beside them: ρ alone has lost the angle where it is near 1.

A covariance is a sum of positive semidefinite parts, c = Σ α_k c_k and q = Σ α_k q_k.  With û_k = √(α_k q_k/q), a
unit vector per input, ρ = Σ û_k v̂_k ρ_k, and so, in terms that are all positive,

    1 − ρ = ½ Σ (û_k − v̂_k)² + Σ û_k v̂_k (1 − ρ_k).

A part of one variance alone, such as a state of its own, is û_k with v̂_k = 0.

The gap of data alone, which may be antiparallel, is signed: −(1 + ρ) where ρ < 0.
"""

from __future__ import annotations

from collections.abc import Container

from tensorprog.compile.tape import Tape

MANY = 64  # sums in a variance from which its parts are looked for at its surface first
FEW = 8  # in a part that is looked into as a whole
OPENED = 6  # layers of operations of that


def gap(t: Tape, q1: int, q2: int, c: int) -> int:
    """1 − c/√(q1 q2) of a covariance per pair: from its parts where they are known, else from c itself."""
    if c in t.gaps and t.gaps[c][:2] == (q1, q2):
        return t.gaps[c][2]
    parts = _parts(t, c)
    rests = [_rest(t, q, [(a, part[side]) for a, part in parts]) for side, q in enumerate((q1, q2))] if parts else []
    known = [r for r in rests if r is not None]
    if parts and len(known) == 2:
        found = _combined(t, q1, q2, parts, known)
        t.gaps.setdefault(c, (q1, q2, found))  # a sum that c is part of asks no further
        return found
    return t.add("gap", c, t.add("rsqrt", q1), t.add("rsqrt", q2))


def _rest(t: Tape, q: int, parts: list[tuple[float, int]]) -> int | None:
    """The part of a variance that the other input has no share in; None where the parts are not parts of it."""
    if (few := _opened(t, q, parts)) is not None:
        return few
    for whole in ({p for _, p in parts}, set[int]()):  # the variances of parts as they stand, or taken apart too
        terms = _terms(t, q, whole)
        for a, p in parts:
            for atom, b in _terms(t, p, whole).items():
                terms[atom] = terms.get(atom, 0.0) - a * b
                if abs(terms[atom]) <= 1e-14 * abs(a * b):
                    del terms[atom]
        if all(a > 0 for a in terms.values()):
            return t.sum([(a, [i]) for i, a in terms.items()])
    return None


def _opened(t: Tape, q: int, parts: list[tuple[float, int]]) -> int | None:
    """The same of a variance of very many terms, whose first few operations show the parts, as in .8 E + ⟨x,x⟩."""
    if _count(t, q, MANY) < MANY:
        return None
    terms = {q: 1.0}
    for _ in range(OPENED):
        left = dict(terms)
        for a, p in parts:
            for i, b in ({p: 1.0} if p in terms or _count(t, p, FEW) == FEW else _terms(t, p, ())).items():
                left[i] = left.get(i, 0.0) - a * b
                if abs(left[i]) <= 1e-14 * abs(a * b):
                    del left[i]
        if all(a >= 0 for a in left.values()):
            return t.sum([(a, [i]) for i, a in left.items() if a])
        opened: dict[int, float] = {}
        for i, a in terms.items():
            for j, b in _operands(t, i) or [(i, 1.0)]:
                opened[j] = opened.get(j, 0.0) + a * b
        terms = {i: a for i, a in opened.items() if t.value(i) != 0.0}
    return None


def _operands(t: Tape, i: int) -> list[tuple[int, float]] | None:
    """A sum with a number as a coefficient, as Σ b · operation; None for any other operation."""
    kind, args, _ = t.ops[i]
    if i in t.variances or t.value(i) is not None:
        return None
    if kind == "lin" and (b := t.value(args[0])) is not None:
        return [(args[1], b), (args[2], 1.0)]
    if kind == "axpy" and (b := t.value(args[1])) is not None:
        return [(args[0], 1.0), (args[2], b)]
    return None


def _count(t: Tape, q: int, most: int) -> int:
    """How many sums a variance is made of, up to ``most``."""
    todo, count = [q], 0
    while todo and count < most:
        found = _operands(t, todo.pop()) or []
        count += bool(found)
        todo += [j for j, _ in found]
    return count


def _terms(t: Tape, q: int, whole: Container[int]) -> dict[int, float]:
    """A variance as Σ a · operation, not looking into the variances of functions and what is ``whole``."""
    found: dict[int, float] = {}
    todo = [(q, 1.0)]
    while todo:
        i, a = todo.pop()
        kind, args, _ = t.ops[i]
        number = t.value(i)
        opaque = i in t.variances or i in whole
        if number is not None:
            one = t.const(1.0)
            found[one] = found.get(one, 0.0) + a * number
        elif not opaque and kind == "lin" and (b := t.value(args[0])) is not None:
            todo += [(args[1], a * b), (args[2], a)]
        elif not opaque and kind == "axpy" and (b := t.value(args[1])) is not None:
            todo += [(args[0], a), (args[2], a * b)]
        else:
            found[i] = found.get(i, 0.0) + a
    return {i: a for i, a in found.items() if a}


def _parts(t: Tape, c: int) -> list[tuple[float, tuple[int, int, int]]] | None:
    """c as Σ α (q1, q2, gap), None where a part is unknown."""
    one, parts, todo = t.const(1.0), list[tuple[float, tuple[int, int, int]]](), [(c, 1.0)]
    while todo:
        i, scale = todo.pop()
        kind, args, _ = t.ops[i]
        value = t.value(i)
        if value is not None:
            parts.append((scale * value, (one, one, t.const(0.0))))
        elif i in t.gaps:
            parts.append((scale, t.gaps[i]))
        elif kind == "lin" and (a := t.value(args[0])) is not None:
            todo += [(args[2], scale), (args[1], scale * a)]
        elif kind == "axpy" and (a := t.value(args[1])) is not None:
            todo += [(args[2], scale * a), (args[0], scale)]
        else:
            return None
    return [p for p in parts if p[0] > 0] if all(p[0] >= 0 for p in parts) else None


def _combined(t: Tape, q1: int, q2: int, parts: list[tuple[float, tuple[int, int, int]]], rests: list[int]) -> int:
    zero = t.const(0.0)
    if len(parts) == 1 and rests == [zero, zero]:
        return parts[0][1][2]
    r1, r2 = t.add("rsqrt", q1), t.add("rsqrt", q2)
    shares = [
        (
            t.product([t.add("sqrt", t.product([p1], a)), r1]),
            t.product([t.add("sqrt", t.product([p2], a)), r2]),
            _plain(t, g),
        )
        for a, (p1, p2, g) in parts
    ]
    total = t.sum([(1.0, [u, v, g]) for u, v, g in shares if t.value(g) != 0.0])
    for u, v, _ in shares:
        total = t.add("spread", total, u, v)
    if rests[0] != zero:
        total = t.add("spread", total, t.product([t.add("sqrt", rests[0]), r1]), zero)
    if rests[1] != zero:
        total = t.add("spread", total, zero, t.product([t.add("sqrt", rests[1]), r2]))
    return total


def _plain(t: Tape, g: int) -> int:
    return t.add("plain", g) if t.ops[g].kind == "apart" else g
