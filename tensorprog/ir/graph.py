"""The program: append-only single assignment over a networkx.MultiDiGraph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, TypeAlias

import networkx as nx
import sympy as sp

from tensorprog.ceilings import check_program_size
from tensorprog.errors import ProgramError, listed, shortly
from tensorprog.ir.axes import Axes, Pairs
from tensorprog.ir.instructions import RESULT_KIND, Instruction, Var, symbols_of
from tensorprog.ir.listing import definition
from tensorprog.ir.spec import axes_of, violations
from tensorprog.printing import Shown, counted, shortened


class HasVar(Protocol):
    """A handle of a variable, such as a vector of a program."""

    @property
    def var(self) -> Var: ...


Variable: TypeAlias = Var | HasVar


def as_var(x: Variable) -> Var:
    """The variable behind a handle, or the variable itself."""
    var = getattr(x, "var", x)
    if not isinstance(var, Var):
        raise ProgramError(f"expected a variable of a program, got {type(x).__name__} {shortly(x)}")
    return var


def check_program(program: Any, call: str) -> None:
    """Refuse what is no program.

    Raises:
        ProgramError: the call, and what was given.
    """
    if not isinstance(program, ProgramGraph):
        raise ProgramError(f"{call} takes a program (tp.Program()), got {type(program).__name__} {shortly(program)}")


class ProgramGraph(Shown):
    """An ordered list of instructions, each defining one new variable.

    Attributes:
        graph: a node per variable (attribute ``op``) and an edge per operand, keyed by its position.
    """

    def __init__(self) -> None:
        self.graph = nx.MultiDiGraph()
        self._names: dict[str, Var] = {}
        self._axes: dict[Var, Axes | Pairs] = {}

    def append(self, name: str | None, op: Instruction, prefix: str = "x") -> Var:
        """Add an instruction and return the variable it defines.

        Args:
            name: unique name, or None for a fresh one starting with ``prefix``.
            op: the instruction; its operands must be defined already.

        Raises:
            ProgramError: the name is taken, or the instruction is not well formed.
        """
        check_program_size(len(self._names) + 1)
        if name is None:
            name = self.fresh(prefix)
        if not isinstance(name, str) or not name:
            raise ProgramError(f"a variable's name must be a non-empty string, got {shortly(name)}")
        if not name.isprintable():
            raise ProgramError(f"the name {shortly(name)} cannot be printed; use letters, digits and signs")
        if name in self._names:
            raise ProgramError(f"{shortly(name)} is already defined in this program; choose another name")
        problem = next(iter(violations(op, name, self)), None)
        if problem is not None:
            raise ProgramError(f"{problem}\n{self._listing(name, op)}")
        var = Var(name, RESULT_KIND[type(op)])
        self.graph.add_node(var, op=op)
        if (axes := axes_of(op, self)) is not None:
            self._axes[var] = axes
        self.graph.add_edges_from((v, var, i) for i, v in enumerate(op.operands))
        self._names[name] = var
        return var

    def fresh(self, prefix: str) -> str:
        """A name that is not taken yet."""
        i = len(self._names)
        while f"{prefix}{i}" in self._names:
            i += 1
        return f"{prefix}{i}"

    def op(self, var: Var) -> Instruction:
        """The instruction that defines ``var``."""
        try:
            return self.graph.nodes[var]["op"]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            raise ProgramError(f"{shortly(var)} is not a variable of this program") from None

    def axes(self, var: Var) -> Any:
        """The axes of a family, those of pairs of positions for scores; None for a single vector or scalar."""
        self.op(var)  # refuses what is not defined here
        return self._axes.get(var)

    @property
    def has_axes(self) -> bool:
        """Whether some vectors are families."""
        return bool(self._axes)

    def named(self, name: str) -> Var:
        """The variable called ``name``."""
        if not isinstance(name, str) or name not in self._names:
            raise ProgramError(f"this program defines no {shortly(name)}; it has {', '.join(self._names) or 'nothing'}")
        return self._names[name]

    @property
    def symbols(self) -> set[sp.Symbol]:
        """The hyperparameters that the instructions read; inner products of embedded data are not among them."""
        return {s for _, op in self for s in symbols_of(op)}

    def __contains__(self, var: object) -> bool:
        """Whether a variable, or a name, is defined."""
        return var in self._names if isinstance(var, str) else var in self.graph

    def __iter__(self) -> Iterator[tuple[Var, Instruction]]:
        yield from self.graph.nodes(data="op")

    def __len__(self) -> int:
        return len(self._names)

    def copy(self) -> Self:
        """A copy that can be extended without touching this program."""
        other = type(self)()
        other.graph = self.graph.copy()
        other._names, other._axes = dict(self._names), dict(self._axes)
        return other

    def part(self, variables: Iterable[Var]) -> Self:
        """The program of these variables alone: what they depend on, and nothing else."""
        roots = {as_var(v) for v in listed(variables, "variables", "variables of this program")}
        for v in roots:
            self.op(v)
        needed = roots.union(*(nx.ancestors(self.graph, v) for v in roots))
        other = type(self)()
        for var, op in self:
            if var in needed:
                other.append(var.name, op)
        return other

    def text(self) -> str:
        """How many instructions there are, and what each computes; ``str`` gives them as they are written."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"program of {counted(len(self), 'instruction')}"
        yield from (f"  {v} = {definition(op)}" for v, op in self)

    def __repr__(self) -> str:
        return shortened(self._lines())

    def __str__(self) -> str:
        return "\n".join(_line(v.name, op) for v, op in self)

    def _listing(self, name: str, op: Instruction) -> str:
        tail = list(self)[-3:]
        lines = ["    " + _line(v.name, o) for v, o in tail]
        return "\n".join([*lines, "--> " + _line(name, op)])


def _line(name: str, op: Instruction) -> str:
    given = ((k, getattr(op, k)) for k in op.__dataclass_fields__)
    fields = ", ".join(f"{k}={v}" for k, v in given if v is not None)
    return f"{name} := {type(op).__name__}({fields})"
