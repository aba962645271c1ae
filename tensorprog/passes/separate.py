"""A network over positions as one whose inputs are sequences of them: at given sizes, a vector for every position.

h[p] = (1/√|w|) Σ_k W_k x[m_k(p)] becomes a sum of products by matrices of their own, W_k with std/√|w|.  The program
grows with the number of positions; it is what programs with positions are checked against, and what certificates,
path sums and limits by sampling are derived from at small sizes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial, singledispatch
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.trace import Datum, Output, Readout, Trace
from tensorprog.errors import AssumptionError, DataError, NoRuleError, ProgramError
from tensorprog.ir.axes import Axes, Pairs, Reading, Sizes, ndims_of, table
from tensorprog.ir.instructions import (
    Copied,
    Covariances,
    Difference,
    Gathered,
    InitMatrix,
    InitScalar,
    InitVector,
    Kept,
    Mask,
    MatMul,
    Mix,
    Moment,
    Nonlin,
    Outer,
    Place,
    RowSum,
    Score,
    Softmax,
    Var,
    Weigh,
    scalar_slot,
    vector_slot,
)
from tensorprog.ir.maps import Given

SMALL = 3  # positions along each axis where no sizes are given
LARGEST = 12
TRAINING = (  # of attention scores over √n: with finitely, and with infinitely many heads
    "with finitely many heads attention scores over √n are random and move by O(1) in training, so that no constant "
    "kernel describes it; with heads='infinite' they move by 1/√H, and the kernel is constant",
    "training with infinitely many heads is not written as a program: no SGD step, no path sums; its kernel, tp.ntk, "
    "is one that training leaves as it is, since the scores of each of H heads move by 1/√H",
)
Term = tuple[sp.Expr, Var]
Matrix = Callable[[Given, str], np.ndarray]


class Separated(Network):
    """A network over positions at given sizes, whose inputs are the sequences of their positions, row by row.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def pooled(net, x):
    ...     return net.readout("V", net.global_pool(tp.relu(net.conv("U", x))))
    >>> apart = Separated(pooled(), [(3,)])
    >>> X = [[[1.0], [2.0], [-1.0]]]
    >>> bool(abs(tp.ntk(apart)(X) - tp.ntk(pooled())(X)) < 1e-12)
    True
    """

    takes_sequences = True
    takes_axes = False
    form = "sequences"

    def __init__(self, net: Network, sizes: Iterable[Sizes]) -> None:
        check_network(net)
        if net.form != "positions":
            raise ProgramError(f"{net.name} does not take one array with positions, so that there is none to separate")
        super().__init__(net.fn, net.hyperparameters, net.name)
        self.net = net
        self.of_length: dict[int, Sizes] = {}
        for n in dict.fromkeys(tuple(n) for n in sizes):
            if self.of_length.setdefault(math.prod(n), n) != n:
                known = self.of_length[math.prod(n)]
                raise DataError(f"sizes {n} and {known} have equally many positions; take one of them at a time")

    @property
    def shown(self) -> str:
        """The sizes in words."""
        return ", ".join("×".join(map(str, n)) for n in self.of_length.values())

    def __repr__(self) -> str:
        return f"{self.net!r} on {self.shown}"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        return Separated, (self.net, list(self.of_length.values()))

    def named(self, given: Iterable[str]) -> dict[str, str]:
        """The parameters here that each of some names or kinds of the network stands for, with it."""
        return named(self.trace([self.fitting_length()]), given)

    def fitting_length(self, wanted: int = 3) -> int:
        """The number of positions."""
        return next(iter(self.of_length))

    def trace(self, lengths: Sequence[int | None], labels: Sequence[str] | None = None) -> Trace:
        """The network traced over positions, with these taken apart."""
        known = {length: self.of_length.get(length) for length in lengths if length is not None}
        for length in lengths:
            if known.get(length) is None:  # type: ignore[arg-type]
                raise ProgramError(f"{self!r}: an input has {length} positions")
        traced = self.net.trace([known[t] for t in lengths], labels)  # type: ignore[index]
        names = (data[0].label for data in traced.inputs)
        return separate(traced, {n: known[t] for n, t in zip(names, lengths, strict=True)})  # type: ignore


def named(trace: Trace, given: Iterable[str]) -> dict[str, str]:
    """The parameters of a network taken apart that each of some names of the whole stands for, with it."""
    found = {m: g for g in given for m in trace.trainable if m == g or re.fullmatch(rf"{re.escape(g)}(\.\d+)+", m)}
    return found | {g: g for g in given if g not in found.values()}


def axes_count(net: Network) -> int | None:
    """How many axes the positions of an input have, as far as windows of a network say so."""
    program = net.trace([None]).program
    given = (by.map for _, op in program if isinstance(by := getattr(op, "by", None), Reading))
    maps = (*given, *(m for v, _ in program if isinstance(a := program.axes(v), Axes) for m in a.maps))
    return next(iter(ndims_of(maps)), None)


def small(net: Network, ndim: int | None = None) -> Separated:
    """A network over positions on the smallest sizes from ``SMALL`` on that its windows fit into, along all axes.

    Raises:
        ProgramError: none up to ``LARGEST`` does.
    """
    ndim = ndim or axes_count(net) or 1
    for n in range(SMALL, LARGEST + 1):
        found = Separated(net, [(n,) * ndim])
        try:
            found.trace([found.fitting_length()])
        except DataError as error:
            failure = error
        else:
            return found
    raise ProgramError(f"{net.name} does not fit into images of up to {LARGEST} positions along each axis: {failure}")


def apart_first() -> AssumptionError:
    """The refusal to write training over positions as a program, where updates are sums over pairs of positions."""
    return AssumptionError(
        "training over positions is not derived for all sizes at once; tp.unroll(net, .., lengths=) derives it at "
        "given sizes, with a vector for every position"
    )


def separate(trace: Trace, sizes: Mapping[str, Sizes]) -> Trace:
    """The trace of the same network, with a vector for every position of inputs of these sizes, by label."""
    return taken_apart(trace, sizes)[0]


def taken_apart(trace: Trace, sizes: Mapping[str, Sizes],
                matrix: Matrix | None = None) -> tuple[Trace, dict[tuple[Var, int | None], Var]]:  # fmt: skip
    """The same, and where the vectors of the trace are in it, by position; None for one without positions.

    ``matrix`` gives those that come with an input, by its label.
    """
    done = _Separate(trace, sizes, matrix)
    return done.new, done.at


class _Separate:
    """The trace that is built, and where the vectors of the old one are in it."""

    def __init__(self, trace: Trace, sizes: Mapping[str, Sizes], matrix: Matrix | None) -> None:
        self.old, self.new, self.sizes, self.matrix_of = (
            trace,
            Trace(bias_stds=trace.bias_stds, narrow=trace.narrow),
            sizes,
            matrix,
        )
        self.at: dict[tuple[Var, int | None], Var] = {}
        self.placed = {r.v for heads in trace.heads for f in heads for r in f.readouts if r.by is not None}
        self.placed |= {op.x for _, op in trace.program if isinstance(op, Place)}
        self.name = {p.var: n for n, p in trace.parameters.items() if p.var is not None}
        for data in trace.inputs:
            count = math.prod(sizes[data[0].label])
            self.new.inputs.append(tuple(Datum(data[0].owner, data[0].label, q + 1) for q in range(count)))
        for var, op in trace.program:
            apart(op, var, self)
        self.new.heads = [tuple(map(self.output, heads)) for heads in trace.heads]
        self.new.outputs = [self.output(f) for f in trace.outputs]
        self.new.states = dict(trace.states)
        self.new.ends = [len(self.new.program)] * len(trace.heads)

    # ---- positions -------------------------------------------------------------------------------------

    def rows(self, by: Reading) -> np.ndarray:
        """The table of a map."""
        return table(by.map, () if by.axes is None else by.axes.at(self.sizes[by.axes.source]))

    def weight(self, by: Reading) -> sp.Expr:
        """1/|w|, or 1 for a sum."""
        return sp.Rational(1, len(self.rows(by))) if by.map.is_mean else sp.S.One

    def positions(self, var: Var) -> list[int | None]:
        """The positions of a vector; [None] of one without."""
        axes = self.old.program.axes(var)
        return [None] if axes is None else list(range(math.prod(axes.at(self.sizes[axes.source]))))

    def grid(self, pairs: Pairs) -> list[tuple[int, int]]:
        """All pairs of positions, row by row."""
        rows, columns = (math.prod(a.at(self.sizes[a.source])) for a in (pairs.left, pairs.right))
        return [(p, q) for p in range(rows) for q in range(columns)]

    def of(self, var: Var, p: int | None) -> Var:
        """A vector at a position, or that without positions."""
        return self.at[var, p] if (var, p) in self.at else self.at[var, None]

    def pairs(self, by: Reading, transpose: bool, p: int | None) -> list[tuple[Any, int | None]]:
        """Which (index of a weight, position) the result at p reads."""
        rows = self.rows(by)
        if transpose:
            offsets, places = np.nonzero(rows == (0 if p is None else p))
            found = [(k, q, q) for k, q in zip(offsets.tolist(), places.tolist(), strict=True)]
        else:
            found = [(k, int(q), p or 0) for k, q in enumerate(rows[:, p or 0]) if q >= 0]
        source = by.axes if not transpose else by.result(False)
        return [(k if by.map.is_tied else (at, k), None if source is None else q) for k, q, at in found]

    def add(self, var: Var, p: int | None, terms: list[Term]) -> None:
        """The sum of vectors as a vector at a position."""
        if len(terms) == 1 and terms[0][0] == 1:
            self.at[var, p] = terms[0][1]
            return
        args = tuple(dict.fromkeys(v for _, v in terms))
        body = sp.Add(*(c * vector_slot(args.index(v)) for c, v in terms))
        self.at[var, p] = self.new.program.append(self.named(var, p), Nonlin(body, args))

    @staticmethod
    def named(var: Var, p: int | None) -> str:
        """The name of a vector at a position."""
        return var.name if p is None else f"{var}[{p + 1}]"

    # ---- parameters --------------------------------------------------------------------------------------

    def parameter(self, name: str, index: Any, scale: sp.Expr) -> str:
        """The name of one weight of a family, which is declared."""
        if index is None:
            self.new.parameters.setdefault(name, replace(self.old.parameters[name], var=None))
            return name
        index = index if isinstance(index, tuple) else (index,)
        own = ".".join([name, *(str(k + 1) for k in index)])
        p = self.old.parameters[name]
        key = (*(p.key if isinstance(p.key, tuple) else (p.key,)), *(k + 1 for k in index))
        self.new.parameters.setdefault(own, replace(p, key=key, std=p.std * sp.sqrt(scale), var=None))
        return own

    def initial(self, name: str, var: Var, op: Any) -> Var:
        """The initial matrix or vector of a parameter, once."""
        p = self.new.parameters[name]
        if p.var is None:
            if isinstance(op, InitMatrix):
                made: Any = InitMatrix(p.variance)
            else:
                made = replace(op, cov=tuple((Var(name, "vector") if v == var else v, c) for v, c in op.cov))
            p = self.new.parameters[name] = replace(p, var=self.new.program.append(name, made))
        assert p.var is not None
        return p.var

    def matrix(self, var: Var, index: Any, scale: sp.Expr) -> Var:
        """One matrix of a family."""
        name = self.parameter(self.name[var], index, scale)
        return self.initial(name, var, self.old.program.op(var))

    def embedded(self, name: str, datum: Datum) -> Var:
        """One input vector times a matrix."""
        t = self.new
        var = Var(f"{name}({datum})", "vector")
        if var not in t.embeddings:
            zero = t.parameters[name].variance == 0
            partners = [] if zero else [*(v for v, (n, _) in t.embeddings.items() if n == name), var]
            t.program.append(var.name, InitVector(sp.S.Zero, Covariances(partners, partial(t.covariance, var))))
            t.embeddings[var] = (name, datum)
        return var

    def output(self, f: Output) -> Output:
        """An output, with a readout for each position that one reads."""
        return Output(tuple(part for r in f.readouts for part in self._readouts(r)), f.biases)

    def _readouts(self, r: Readout) -> Iterable[Readout]:
        if r.by is None:
            yield Readout(r.name, self.of(r.v, None), self.of(r.x, None), r.std, r.trained, of_input=r.of_input)
            return
        scale = self.weight(r.by)
        for k, q in self.pairs(r.by, False, None):
            name = self.parameter(r.name, k, scale)
            v = self.initial(name, r.v, self.old.program.op(r.v))
            yield Readout(name, v, self.of(r.x, q), r.std * sp.sqrt(scale), r.trained)


@singledispatch
def apart(op: Any, var: Var, s: _Separate) -> None:
    """Add what ``var := op`` is at every position; register a rule for a new instruction."""
    raise NoRuleError(f"no rule to separate {type(op).__name__}: register one with tensorprog.passes.separate.apart")


@apart.register(InitMatrix)
def _(op: InitMatrix, var: Var, s: _Separate) -> None:
    return  # made where it is used, for every offset


@apart.register(InitScalar)
def _(op: InitScalar, var: Var, s: _Separate) -> None:
    s.at[var, None] = s.new.program.append(var.name, op)


@apart.register(InitVector)
def _(op: InitVector, var: Var, s: _Separate) -> None:
    if var in s.old.embeddings:
        _embedding(var, s)
    elif var in s.placed:
        return
    elif var in s.name:
        s.at[var, None] = s.initial(s.parameter(s.name[var], None, sp.S.One), var, op)
    else:
        s.at[var, None] = s.new.program.append(var.name, op)


def _embedding(var: Var, s: _Separate) -> None:
    name, datum = s.old.embeddings[var]
    scale = sp.S.One if datum.by is None else s.weight(datum.by)
    for p in s.positions(var):
        read = [(None, p)] if datum.by is None else s.pairs(datum.by, False, p)
        data = s.new.inputs[datum.owner]
        s.add(var, p, [(sp.S.One, s.embedded(s.parameter(name, k, scale), data[q or 0])) for k, q in read])


@apart.register(MatMul)
def _(op: MatMul, var: Var, s: _Separate) -> None:
    for p in s.positions(var):
        if op.by is None:
            matrix = s.matrix(op.matrix, None, sp.S.One)
            s.at[var, p] = s.new.program.append(s.named(var, p), MatMul(matrix, op.transpose, s.of(op.x, p)))
            continue
        terms: list[Term] = []
        for k, q in s.pairs(op.by, op.transpose, p):
            matrix = s.matrix(op.matrix, k, s.weight(op.by))
            shown = k if isinstance(k, tuple) else (k,)
            name = ".".join([s.named(var, p), *(str(i + 1) for i in shown)])
            made = MatMul(matrix, op.transpose, s.of(op.x, q))
            name = s.new.program.fresh(f"{name}_") if name in s.new.program else name
            terms.append((sp.S.One, s.new.program.append(name, made)))
        s.add(var, p, terms)


@apart.register(Mix)
def _(op: Mix, var: Var, s: _Separate) -> None:
    if isinstance(op.by.map, Given):
        if s.matrix_of is None or op.by.axes is None:
            raise ProgramError(f"`{var}` is a sum by {op.by.map.name!r}, which comes with inputs that are not given")
        a = s.matrix_of(op.by.map, op.by.axes.source)
        for p in s.positions(var):
            row = (a.T if op.transpose else a)[p or 0].tolist()
            s.add(var, p, [(sp.Float(c), s.of(op.x, q)) for q, c in enumerate(row) if c])
        return
    for p in s.positions(var):
        s.add(var, p, [(s.weight(op.by), s.of(op.x, q)) for _, q in s.pairs(op.by, op.transpose, p)])


@apart.register(Place)
def _(op: Place, var: Var, s: _Separate) -> None:
    for p in s.positions(var):
        weights = [s.initial(s.parameter(s.name[op.x], k, sp.S.One), op.x, s.old.program.op(op.x))
                   for k, _ in s.pairs(op.by, op.transpose, p)]  # fmt: skip
        s.add(var, p, [(sp.sqrt(s.weight(op.by)), v) for v in weights])


@apart.register(Outer)
def _(op: Outer, var: Var, s: _Separate) -> None:
    for i, (p, q) in enumerate(s.grid(s.old.program.axes(var))):
        x, y = s.of(op.x, p), s.of(op.y, q)
        body, args = (vector_slot(0) ** 2, (x,)) if x == y else (vector_slot(0) * vector_slot(1), (x, y))
        s.at[var, i] = s.new.program.append(f"{var}[{p + 1},{q + 1}]", Moment(body, args))


@apart.register(Score)
@apart.register(Softmax)
@apart.register(Copied)
@apart.register(Gathered)
def _(op: Any, var: Var, s: _Separate) -> None:
    raise AssumptionError(TRAINING[isinstance(op, Copied)])


@apart.register(Kept)
def _(op: Kept, var: Var, s: _Separate) -> None:
    for p in s.positions(var):
        s.at[var, p] = s.new.program.append(s.named(var, p), Kept(s.of(op.x, p), op.rate))


@apart.register(RowSum)
def _(op: RowSum, var: Var, s: _Separate) -> None:
    grid = s.grid(s.old.program.axes(var))
    for i, (p, q) in enumerate(grid):
        read = tuple(s.of(op.s, j) for j, (row, _) in enumerate(grid) if row == p)
        body = sp.Add(*map(scalar_slot, range(len(read))))
        s.at[var, i] = s.at[var, i - 1] if q else s.new.program.append(f"{var}[{p + 1}]", Moment(body, (), read))


@apart.register(Mask)
def _(op: Mask, var: Var, s: _Separate) -> None:
    values = [s.new.program.append(f"{var}.{k}", InitScalar(sp.Integer(k))) for k in (0, 1)]
    for i, (p, q) in enumerate(s.grid(op.axes)):
        s.at[var, i] = values[q <= p]


@apart.register(Weigh)
def _(op: Weigh, var: Var, s: _Separate) -> None:
    read: dict[int, list[tuple[Var, Var]]] = defaultdict(list)
    for i, pair in enumerate(s.grid(s.old.program.axes(op.weights))):
        p, q = reversed(pair) if op.transpose else pair
        read[p].append((s.of(op.weights, i), s.of(op.x, q)))
    for p, terms in read.items():
        params, args = (tuple(dict.fromkeys(column)) for column in zip(*terms, strict=True))
        body = sp.Add(*(scalar_slot(params.index(a)) * vector_slot(args.index(x)) for a, x in terms))
        s.at[var, p] = s.new.program.append(s.named(var, p), Nonlin(body, args, params))


@apart.register(Nonlin)
@apart.register(Moment)
@apart.register(Difference)
def _(op: Any, var: Var, s: _Separate) -> None:
    places = s.positions(var)
    for p in places:
        changed = {
            field: tuple(v if v is None else s.of(v, p) for v in getattr(op, field))
            for field in ("args", "params", "arg_deltas", "param_deltas")
            if hasattr(op, field)
        }
        if isinstance(op, Difference):
            changed["theta"] = s.of(op.theta, None)  # type: ignore[assignment]
        s.at[var, p] = s.new.program.append(s.named(var, p), replace(op, **changed))
