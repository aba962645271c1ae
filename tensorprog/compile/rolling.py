"""Loops over time: the operations of one time step, found by comparing the steps of a short unrolled tape.

Times are counted from the end, where two sequences of different lengths are aligned.  An operation belongs to the
latest time of its data; what later times read of it is carried.  The steps must be equal, operation by operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tensorprog.compile.tape import Op, Tape
from tensorprog.errors import NoRuleError

MARGIN = 2  # how far into the past an operation is told apart by what it reads


@dataclass(frozen=True)
class Step:
    """The operations of one time: reads ``carry`` number k, gives the next ones (k, operation), or the results."""

    tape: Tape
    outs: tuple[tuple[int, int], ...]

    @property
    def key(self) -> Any:
        """Equal for equal steps."""
        return tuple(self.tape.ops), self.outs


class Unrolled:
    """A tape of sequences of given lengths, cut into times.

    Args:
        tape: operations with data (owner, time), time from 0.
        roots: the results.
        lengths: of the inputs.
    """

    def __init__(self, tape: Tape, roots: Sequence[int], lengths: Sequence[int]) -> None:
        self.tape, self.roots, self.lengths = tape, tuple(roots), tuple(lengths)
        self.count = max(lengths)
        self.known = {op: i for i, op in enumerate(tape.ops)}
        self.level: dict[int, int] = {}
        for i in tape.needed(roots):
            own = [self._time(d) for d in self._data(i)]
            self.level[i] = max([*own, *(self.level[a] for a in tape.ops[i].args), -1])
        self.cuts: list[set[int]] = [set() for _ in range(self.count)]
        for i in self.level:
            for a in tape.ops[i].args:
                for t in range(max(self.level[a], 0), self.level[i]):
                    if self.level[a] >= 0:
                        self.cuts[t].add(a)

    def _data(self, i: int) -> tuple[tuple[int, int], ...]:
        op = self.tape.ops[i]
        return op.data if op.kind in ("gram", "unit") else ()

    def _time(self, datum: tuple[int, int]) -> int:
        owner, time = datum
        return time + self.count - self.lengths[owner]

    def signature(self, i: int, t: int, back: int = MARGIN) -> Any:
        """What an operation of time t does, down to the times before t − back."""
        if 0 <= self.level[i] < t - back:
            return "past", self.tape.sides[i]
        kind, args, data = self.tape.ops[i]
        own = self._data(i)
        data = tuple((o, self._time((o, s)) - t) for o, s in own) if own else data
        return kind, self.tape.sides[i], data, tuple(self.signature(a, t, back) for a in args)

    def align(self, a: int, b: int, t: int, found: dict[int, int]) -> None:
        """Match what operation a at time t and operation b at time t − 1 read of earlier times."""
        if 0 <= self.level[a] < t:
            if found.setdefault(a, b) != b:
                raise NoRuleError("the equations of neighbouring times do not match")
            return
        x, y = self.tape.ops[a], self.tape.ops[b]
        if x.kind != y.kind or len(x.args) != len(y.args):
            raise NoRuleError("the equations of neighbouring times differ")
        for p, q in zip(x.args, y.args, strict=True):
            self.align(p, q, t, found)

    def matched(self, t: int, wanted: Sequence[Any]) -> list[int]:
        """The operations carried beyond t with these signatures."""
        known: dict[Any, list[int]] = {}
        for i in self.cuts[t]:
            known.setdefault(self.signature(i, t), []).append(i)
        if len(known) != len(self.cuts[t]) or set(known) != set(wanted):
            raise NoRuleError("what is carried from one time to the next is not the same at all times")
        return [known[s][0] for s in wanted]

    def step(self, t: int, before: Sequence[int], after: Sequence[tuple[int, int]]) -> Step:
        """The operations of time t that lead from what is carried to (number, operation) pairs."""
        tape, at = Tape(), {}
        for k, i in enumerate(before):
            if i >= 0:
                at[i] = tape.add("carry", data=k, side=self.tape.sides[i])
        todo = [i for _, i in reversed(after)]
        while todo:  # in an order that does not depend on when the operations were made
            i = todo[-1]
            kind, args, _ = self.tape.ops[i]
            if i not in at and (missing := [a for a in args if a not in at]):
                todo += reversed(missing)
                continue
            todo.pop()
            if i not in at:
                at[i] = tape.add(kind, *(at[a] for a in args), data=self._now(i, t), side=self.tape.sides[i])
        return Step(tape, tuple((k, at[i]) for k, i in after))

    def replay(self, step: Step, before: Sequence[int], t: int) -> list[int]:
        """What a step gives at time t, by number: its operations here, −1 for those that there are not."""
        at: list[int] = []
        for kind, args, data in step.tape.ops:
            if kind == "carry":
                at.append(before[data])
                continue
            if kind in ("gram", "unit"):
                data = tuple((owner, t + self.lengths[owner] - self.count) for owner, _ in data)
            at.append(self.known.get(Op(kind, tuple(at[a] for a in args), data), -1))
        results = dict(step.outs)
        return [at[results[k]] for k in range(len(results))]

    def _now(self, i: int, t: int) -> Any:
        """The data of an operation of time t, without the time."""
        own = self._data(i)
        if any(self._time(d) != t for d in own):
            raise NoRuleError("inner products of different times are read together")
        return tuple((o, 0) for o, _ in own) if own else self.tape.ops[i].data


def roll(unrolled: Unrolled) -> tuple[Step, Step, Step, list[Any]]:
    """First, repeated and last step of a kernel of equal lengths, and the signatures of what is carried.

    Raises:
        NoRuleError: the steps differ.
    """
    u, n = unrolled, unrolled.count
    wanted = sorted((u.signature(i, n - 2) for i in u.cuts[n - 2]), key=repr)
    orders = {n - 2: u.matched(n - 2, wanted), n - 3: u.matched(n - 3, wanted)}
    _descend(u, orders, n - 2, 0)
    steps = [u.step(t, orders[t - 1], list(enumerate(orders[t]))) for t in range(1, n - 1)]
    if any(s.key != steps[0].key for s in steps):
        raise NoRuleError("the equations differ from time to time")
    first = u.step(0, (), list(enumerate(orders[0])))
    return first, steps[0], u.step(n - 1, orders[n - 2], list(enumerate(u.roots))), wanted


def start(unrolled: Unrolled, wanted: Sequence[Any], first: Step, body: Step) -> Step:
    """The step that starts a pair while the longer input is under way."""
    u, n, begin = unrolled, unrolled.count, max(unrolled.lengths) - min(unrolled.lengths)
    orders = {n - 2: u.matched(n - 2, wanted), n - 3: u.matched(n - 3, wanted)}
    _descend(u, orders, n - 2, begin)
    if any(u.step(t, orders[t - 1], list(enumerate(orders[t]))).key != body.key for t in range(begin + 1, n - 1)):
        raise NoRuleError("the equations of different lengths differ")
    return u.step(begin, _alone(u, first, body, begin), list(enumerate(orders[begin])))


def finish(unrolled: Unrolled, first: Step, body: Step) -> Step:
    """The results of a pair with a sequence of length 1, which starts at the last time."""
    u, n = unrolled, unrolled.count
    before = _alone(u, first, body, n - 1) if n > 1 else []
    return u.step(n - 1, before, list(enumerate(u.roots)))


def _alone(u: Unrolled, first: Step, body: Step, begin: int) -> list[int]:
    """What is carried of the longer input, by number, when the other one starts; −1 for what is of pairs."""
    running, before = 2 if u.lengths[0] < u.lengths[1] else 1, u.replay(first, [], 0)
    for t in range(1, begin):
        before = u.replay(body, before, t)
    return [i if i >= 0 and u.tape.sides[i] == running else -1 for i in before]


def _descend(u: Unrolled, orders: dict[int, list[int]], top: int, bottom: int) -> None:
    """The order of what is carried beyond earlier times, from that of later ones."""
    for t in range(top, bottom + 1, -1):
        found: dict[int, int] = {}
        for a, b in zip(orders[t], orders[t - 1], strict=True):
            u.align(a, b, t, found)
        if any(i not in found for i in orders[t - 1]):
            raise NoRuleError("what is carried is not read at every time")
        orders[t - 2] = [found[i] for i in orders[t - 1]]
