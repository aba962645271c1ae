"""The Master Theorem as an interpreter: one rule per instruction (TP2b Def. B.3, Thm B.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, singledispatch
from typing import Any, overload

import numpy as np
import sympy as sp

from tensorprog.algebra import ZERO, Algebra, Apply, Gaussian, Gen, Poly, add_all, monomial, to_sympy
from tensorprog.dsl.decimals import exact
from tensorprog.dsl.program import trace
from tensorprog.errors import AssumptionError, NoRuleError, ProgramError
from tensorprog.expectations.normal_form import Expectation
from tensorprog.functions import Step
from tensorprog.ir.graph import ProgramGraph, Variable, as_var
from tensorprog.ir.hyper import by_symbol, program_symbols
from tensorprog.ir.instructions import (
    Copied,
    Difference,
    Entries,
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
    slots_of,
    vector_slot,
)
from tensorprog.limit.accounts import Account, account
from tensorprog.limit.deep import Nested
from tensorprog.limit.equations import Equations, Namer, as_equations, plain_names, positive, reachable
from tensorprog.limit.evaluate import numbers
from tensorprog.limit.fields import Field
from tensorprog.limit.gap import Gaps, Structure
from tensorprog.limit.gated import factored
from tensorprog.limit.generic_points import Spatial
from tensorprog.limit.zdot import zdot_terms
from tensorprog.printing import NameSymbol, Shown, counted, shortened, text
from tensorprog.rationals import check_digits
from tensorprog.types import Number

INITIAL = "initial vectors"


class Interpreter(Shown):
    """A program with what its variables converge to, as the rooms use it; ``limit.answers.Limit`` is what users hold.

    Args:
        program: the program.
        namer: how covariances and moments are called.
    """

    def __init__(self, program: ProgramGraph, namer: Namer = plain_names) -> None:
        self.program = program
        self.algebra = Algebra()
        self.system = Equations(namer)
        known: dict[Gen, int | None] = {}
        self.spatial = Spatial(self) if program.has_axes else None
        over: dict[str, Any] = {"law": self._law}
        if self.spatial:
            over |= {"related": self.spatial.related, "blended": self.spatial.blended}
        self.expect = Expectation(
            self.algebra, self._base_cov, self._name_covariance, lambda p: positive(p, known), **over
        )
        self.z: dict[Var, Poly] = {}
        self.zhats: dict[Var, Poly] = {}
        self.zdots: dict[Var, Poly] = {}
        self.zdot_terms: dict[Var, list[tuple[Poly, Var]]] = {}
        self.variance: dict[Var, Poly] = {}
        self.fields: dict[Any, Field] = {}
        self._cov = Nested(self._find_cov)
        self._form_var: dict[Poly, Var] = {}
        self._argument_of: dict[Poly, Var] = {}  # sums that stand inside a nonlinearity only, as φ(a + b)
        self._asked: list[Poly] = []
        self._moments: dict[tuple[Poly, Poly], Poly] = {}
        self._multiples: dict[Var, tuple[Poly, Var]] = {}
        self.structure = Structure(
            self.fields, self.expect.cov, *((self.spatial.reads, self.spatial.related) if self.spatial else ())
        )
        for var, op in self.spatial.twins.in_turn() if self.spatial else program:
            interpret(op, var, self)
            if var.kind == "vector":
                self._form_var.setdefault(self.z[var], var)

    def __copy__(self) -> Interpreter:
        return self  # it answers the same questions in the same way for ever

    def __deepcopy__(self, memo: Any) -> Interpreter:
        return self

    def __reduce__(self) -> Any:
        """Derived again from the program; a name given to a later question here is unknown there."""
        return type(self), (self.program, self.system.namer), self.system.meanings()

    def __setstate__(self, meanings: dict[str, str]) -> None:
        self.system.avoid(meanings)

    def text(self) -> str:
        """Z of every vector, the limits of scalars, and the named equations."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"limit of a program of {counted(len(self.program), 'instruction')}"
        yield from (f"  {f'Z({v})' if v.kind == 'vector' else v} = {text(to_sympy(z))}" for v, z in self.z.items())
        yield from (f"  {e.lhs} = {text(e.rhs)}" for e in self.equations)

    def __repr__(self) -> str:
        return shortened(self._lines())

    # ---- questions in sympy ------------------------------------------------------------------------

    def Z(self, x: Variable) -> sp.Expr:
        """Z^x as a sympy expression in base Gaussians and names."""
        return to_sympy(self._z(x))

    def zhat(self, x: Variable) -> sp.Expr:
        """Ẑ^{Wy} of a MatMul x = W y."""
        return to_sympy(self._of_matmul(self.zhats, x))

    def zdot(self, x: Variable) -> sp.Expr:
        """Ż^{Wy} of a MatMul x = W y."""
        return to_sympy(self._of_matmul(self.zdots, x))

    def mean(self, x: Variable) -> sp.Expr:
        """E Z^x."""
        return self._ask(lambda: self.expect(self._z(x)))

    def cov(self, x: Variable, y: Variable) -> sp.Expr:
        """Cov(Z^x, Z^y) = E Z^x Z^y − E Z^x E Z^y."""
        zx, zy = self._z(x), self._z(y)
        return self._ask(lambda: self.moment(x, y) + (self.expect(zx) * self.expect(zy)).scale(-1))

    def E(self, fn: Callable[..., Any], *vectors: Variable) -> sp.Expr:
        """E ψ(Z^{x¹}, .., Z^{x^k}) for a sympy-traceable ψ."""
        body = trace(fn, len(vectors))
        env = {vector_slot(i): self._z(v) for i, v in enumerate(vectors)}
        return self._ask(lambda: self.expect(self.algebra.from_sympy(body, env)))

    def value(self, scalar: Variable) -> sp.Expr:
        """The limit θ̊ of a scalar of the program."""
        var = as_var(scalar)
        if var.kind != "scalar" or var not in self.z:
            raise ProgramError(f"{var} is not a scalar of this program")
        return to_sympy(self.z[var])

    @property
    def equations(self) -> list[sp.Eq]:
        """All named equations defined so far, in dependency order."""
        return as_equations(monomial(n) for n in self.system.names)

    @overload
    def evaluate(self, expr: Number, values: None = None) -> float: ...
    @overload
    def evaluate(self, expr: Number, values: Mapping[sp.Symbol, float] | Mapping[str, float]) -> float: ...
    @overload
    def evaluate(self, expr: Number, values: Mapping[Any, float | np.ndarray]) -> float | np.ndarray: ...
    def evaluate(self, expr: Number, values: Mapping[Any, Any] | None = None) -> float | np.ndarray:
        """The number that an expression in names, atoms and hyperparameters stands for; see ``account`` for its error.

        Args:
            expr: what ``cov``, ``mean``, ``E`` or ``value`` returned, or any formula in those.
            values: hyperparameters by symbol or by name, floats or arrays.

        Raises:
            DataError: a hyperparameter has no value.
            NoRuleError: an atom holds an abstract function.
        """
        p = self._poly(expr)
        result = numbers([p], self._by_symbol(values), Gaps(self.structure))[0]
        return result if isinstance(result, np.ndarray) and result.ndim else float(result)

    def account(self, expr: Number, values: Mapping[Any, Any] | None = None) -> Account:
        """The number with the value, error and method of every expectation it is made of, as ``evaluate`` takes it.

        >>> import tensorprog as tp
        >>> p = tp.Program()
        >>> x = p.vector("x")
        >>> account = (lim := tp.limit(p)).account(lim.E(lambda a: tp.tanh(a) ** 2, x))
        >>> account.atoms[0].method, account.statistical, bool(account.error < 1e-12)
        ('trapezoid', False, True)
        """
        return account(self._poly(expr), self._by_symbol(values), lambda: Gaps(self.structure))

    def _by_symbol(self, values: Mapping[Any, Any] | None) -> dict[sp.Symbol, Any]:
        return by_symbol(values, lambda: self._symbols, more=True)

    @cached_property
    def _symbols(self) -> set[sp.Symbol]:
        return program_symbols(self.program)

    def _poly(self, expr: Number) -> Poly:
        expr = exact(expr, "the expression") if not isinstance(expr, sp.Expr) else expr
        known = {g.symbol: monomial(g) for g in self._generators() if g.symbol is not None}
        return self.algebra.from_sympy(expr, known)

    # ---- the working level: polynomials ----------------------------------------------------------------

    def moment(self, x: Variable, y: Variable) -> Poly:
        """E Z^x Z^y, named."""
        return self._moment(self._z(x), self._z(y), as_var(x), as_var(y))

    def known(self, p: Poly) -> Poly:
        """The name whose definition is p, or p."""
        return self.system.lookup(p) or p

    def averaged(self, p: Poly) -> Poly:
        """E p over scores that stay random; p where there are none."""
        return self.spatial.chance.averaged(p) if self.spatial else p

    def correlated(self, x: Var, y: Var) -> bool:
        """Whether E Z^x Z^y is not 0."""
        return bool(self._moment(self.z[x], self.z[y], x, y))

    def mean_of(self, op: Moment) -> Poly:
        """The limit E ψ(Z..; θ) of a moment."""
        return self.expect(self.algebra.from_sympy(op.body, {s: self.z[v] for s, v in slots_of(op).items()}))

    def define(self, p: Poly, var: Var) -> Poly:
        """A name for the limit of a scalar variable."""
        return self.system.define(p, "value", var)

    def derivative_mean(self, derivative: Poly, var: Var, g: Gaussian) -> Poly:
        """E of a derivative of Z^var with respect to Ẑ^{W source}, named."""
        return self.system.define(self.expect(derivative), "zdot", var, g.source)

    def _moment(self, zx: Poly, zy: Poly, x: Var, y: Var) -> Poly:
        for a, b in ((x, y), (y, x)):
            if a in self._multiples:  # E (c u) v = c E u v: one name for both
                c, u = self._multiples[a]
                return c * self._moment(self.z[u], self.z[b], u, b)
        key = (zx, zy)
        value = self._moments.get(key)
        if value is None:
            over = self.spatial.moment(x, y) if self.spatial else factored(self, x, y)
            value = self.system.define(self.expect.product(zx, zy) if over is None else over, "moment", x, y)
            self._moments[key] = self._moments[zy, zx] = value
        return value

    def note_multiple(self, var: Var, op: Nonlin) -> None:
        """Remember that a vector is a multiple of another one."""
        c, rest = op.body.as_independent(*slots_of(op), as_Add=False)
        if len(op.args) == 1 and not op.params and rest == vector_slot(0) and c != 0:
            self._multiples[var] = (self.algebra.from_sympy(c, {}), op.args[0])

    def _base_cov(self, a: Gaussian, b: Gaussian) -> Poly:
        return self._cov(a, b) if a.index <= b.index else self._cov(b, a)

    def _find_cov(self, a: Gaussian, b: Gaussian) -> Poly:
        if self.spatial and (over := self.spatial.covariance(a, b)) is not None:
            return over
        if a.block == INITIAL:
            return self._initial_cov(a, b)
        field = self.fields[a.block]
        value = self._moment(field.z[a], field.z[b], a.source, b.source)
        return field.variance * value if value else ZERO

    def _law(self, g: Gaussian) -> Entries | None:
        """Of what weights that are not Gaussian a base variable is made."""
        return getattr(self.program.op(g.source), "law", None) if g.block == INITIAL else None

    def _initial_cov(self, a: Gaussian, b: Gaussian) -> Poly:
        op = self.program.op(b.source)  # the later of the two lists their covariance
        assert isinstance(op, InitVector)
        return self.algebra.from_sympy(op.covariance(a.source), {})

    def _name_covariance(self, u: Poly, v: Poly, value: Poly) -> Poly:
        if not {u, v} & self._form_var.keys() and {back := u.scale(-1), v.scale(-1)} <= self._form_var.keys():
            u, v = back, v.scale(-1)  # E (-u)(-v) = E u v
        return self.system.define(value, "cov", self._named_by(u), self._named_by(v))

    def _named_by(self, u: Poly) -> Var | None:
        """The vector that a linear form is, or for names by place the one whose nonlinearity reads it."""
        known = self._form_var.get(u)
        return known if known or not hasattr(self.system.namer, "places") else self._argument_of.get(u)

    def note_arguments(self, var: Var) -> None:
        """Remember what the nonlinearities of a vector read."""
        for g in {g for m in self.z[var].terms for g, _ in m if isinstance(g, Apply)}:
            for argument in g.args:
                self._argument_of.setdefault(argument, var)

    def _generators(self) -> list[Gen]:
        roots = [monomial(n) for n in self.system.names]
        roots += [*self.z.values(), *self._asked]
        return [g for g in reachable(roots) if not g.support]

    def _ask(self, question: Callable[[], Poly]) -> sp.Expr:
        answer = question()
        check_digits(answer.terms.values(), "this expectation")
        self._asked.append(answer)
        return to_sympy(answer)

    def _z(self, x: Variable) -> Poly:
        var = as_var(x)
        if var.kind != "vector" or var not in self.z:
            raise ProgramError(f"{var} is not a vector of this program")
        return self.z[var]

    def _of_matmul(self, table: dict[Var, Poly], x: Variable) -> Poly:
        var = as_var(x)
        if var not in table:
            raise ProgramError(f"{var} is not the result of a MatMul of this program")
        return table[var]


@singledispatch
def interpret(op: Any, var: Var, limit: Interpreter) -> None:
    """Add what ``var := op`` converges to; register a rule for a new instruction."""
    raise NoRuleError(f"no limit rule for {type(op).__name__}: register one with tensorprog.limit.master.interpret")


@interpret.register(InitMatrix)
def _(op: InitMatrix, var: Var, limit: Interpreter) -> None:
    limit.variance[var] = limit.algebra.from_sympy(op.variance, {})


@interpret.register(InitVector)
def _(op: InitVector, var: Var, limit: Interpreter) -> None:
    z = limit.algebra.from_sympy(op.mean, {})
    if op.covariance(var) != 0:
        g = Gaussian(NameSymbol(f"Z({var})", rf"Z^{{{sp.latex(sp.Symbol(var.name))}}}"), INITIAL, var)
        z = z + monomial(g)
        if limit.spatial:
            limit.spatial.made_by[g] = var
    limit.z[var] = z


@interpret.register(InitScalar)
def _(op: InitScalar, var: Var, limit: Interpreter) -> None:
    limit.z[var] = limit.algebra.from_sympy(op.value, {})


@interpret.register(MatMul)
def _(op: MatMul, var: Var, limit: Interpreter) -> None:
    zx, variance = limit.z[op.x], limit.variance[op.matrix]
    if limit.spatial and op.matrix in limit.spatial.matrices:
        _over_positions(op, var, limit)
        return
    block, opposite = (op.matrix, op.transpose), (op.matrix, not op.transpose)
    field = limit.fields.setdefault(block, Field(block, variance))
    zhat = field.gaussian(zx, op.x, f"{op.matrix}{'ᵀ' if op.transpose else ''} {op.x}") if variance else ZERO
    terms = zdot_terms(zx, opposite, variance, limit.algebra, lambda d, g: limit.derivative_mean(d, op.x, g))
    limit.zdot_terms[var] = terms
    limit.zhats[var], limit.zdots[var] = zhat, add_all(c * limit.z[y] for c, y in terms)
    limit.z[var] = zhat + limit.zdots[var]


def _over_positions(op: MatMul, var: Var, limit: Interpreter) -> None:
    """A product shared by positions has no Ż, or is refused."""
    assert limit.spatial is not None
    map_ = None if op.by is None else op.by.map
    limit.spatial.check_zdot(limit.z[op.x], op.x, ("shared", op.matrix, not op.transpose, map_))
    name = f"{op.matrix}{'ᵀ' if op.transpose else ''} {op.x}"
    limit.zdot_terms[var], limit.zdots[var] = [], ZERO
    limit.zhats[var] = limit.z[var] = limit.spatial.product(op, var, limit.variance[op.matrix], name)


@interpret.register(Mix)
@interpret.register(Weigh)
def _(op: Mix | Weigh, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.spatial.mix(op, var)


@interpret.register(Place)
def _(op: Place, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.spatial.place(op, var)


@interpret.register(Outer)
def _(op: Outer, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.define(limit.spatial.outer(op, var), var)


@interpret.register(Score)
@interpret.register(Softmax)
@interpret.register(Gathered)
def _(op: Any, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.spatial.chance.found(op, var)


@interpret.register(Copied)
def _(op: Copied, var: Var, limit: Interpreter) -> None:
    limit.z[var] = limit.z[op.x]


@interpret.register(Kept)
def _(op: Kept, var: Var, limit: Interpreter) -> None:
    step = limit.algebra.apply(Step, (limit.z[op.x] + limit.algebra.scalar(op.threshold),))
    limit.expect.know(step, limit.algebra.from_sympy(1 - op.rate, {}))
    limit.z[var] = step * limit.algebra.from_sympy(1 / (1 - op.rate), {})


@interpret.register(RowSum)
def _(op: RowSum, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.define(limit.spatial.row_sum(op, var), var)


@interpret.register(Mask)
def _(op: Mask, var: Var, limit: Interpreter) -> None:
    assert limit.spatial is not None
    limit.z[var] = limit.spatial.mask(op, var)


@interpret.register(Nonlin)
def _(op: Nonlin, var: Var, limit: Interpreter) -> None:
    if limit.spatial and (standard := limit.spatial.standards.note(var, op)) is not None:
        limit.z[var] = standard
        return
    z = limit.algebra.from_sympy(op.body, {s: limit.z[v] for s, v in slots_of(op).items()})
    check_digits(z.terms.values(), f"`{var}`")
    limit.z[var] = limit.expect.reduced(z)
    limit.note_multiple(var, op)
    limit.note_arguments(var)


@interpret.register(Difference)
def _(op: Difference, var: Var, limit: Interpreter) -> None:
    if limit.z[op.theta]:
        raise AssumptionError(f"`{var}` divides by `{op.theta}`, whose limit is {limit.value(op.theta)} and not 0")
    env = {s: limit.z[v] for s, v in slots_of(op).items()}
    limit.z[var] = add_all(
        limit.algebra.from_sympy(sp.diff(op.body, s), env) * limit.z[d] for s, d in op.changes.items()
    )


@interpret.register(Moment)
def _(op: Moment, var: Var, limit: Interpreter) -> None:
    limit.z[var] = limit.define(limit.mean_of(op), var)
