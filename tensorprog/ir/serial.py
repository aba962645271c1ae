"""Programs as JSON: expressions are nested lists with a fixed set of heads; no string is ever evaluated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import sympy as sp

from tensorprog.ceilings import check_ceiling
from tensorprog.errors import ProgramError, nearest, shortly
from tensorprog.functions import FAMILIES, Fn, abstract, member
from tensorprog.ir.axes import Axes, Pairs, Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    Copied,
    Covariances,
    Difference,
    Gathered,
    InitMatrix,
    InitScalar,
    InitVector,
    Instruction,
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
    Slot,
    Softmax,
    Var,
    Weigh,
)
from tensorprog.ir.spec import covariance_violations
from tensorprog.ir.written_maps import axes_in, axes_out, reading_in, reading_out
from tensorprog.printing import NameSymbol, inner

FORMAT, VERSION = "tensorprog-program", 1
MAX_EXPONENT, MAX_BITS = 1000, 20_000  # of a power of numbers: 10^(10^10) must not fill the memory
MAX_ORDER = 12  # of a derivative: an expectation takes 3 seconds then, and 20 with 16
LEAST = sp.Float("1e-308")
_SYMBOL = re.compile(r"[^\W\d][\w']*(\.\d+)?|⟨[\w'\[\]]+,[\w'\[\]]+⟩")
_PATCHES = re.compile(r"⟨[\w'\[\]·×=(),. -]+⟩")  # of what two inputs hold in a window
_OUTPUT = re.compile(r"(f_0(\^\d+)?|y)\([\w'\[\]]+\)(\.\d+)?")  # initial scalars of a training run
_CONSTANTS = {"pi": sp.pi, "e": sp.E}
_CALLS: dict[str, Any] = {
    f.__name__: f for f in (sp.log, sp.sinh, sp.cosh, sp.tan, sp.atan, sp.asin, sp.acos, sp.asinh, sp.erfc)
}


def encode(expr: sp.Expr) -> Any:
    """A sympy expression as nested lists, e.g. ``["+", 1, ["fn", "relu", 0, ["slot", "x0"]]]``.

    Raises:
        ProgramError: ``decode`` would not read the same expression.
    """
    if expr.is_Integer:
        return _written(int(expr))
    if expr.is_Rational:
        return ["rational", _written(int(expr.p)), _written(int(expr.q))]
    if expr.is_Float and expr == sp.Float(float(expr)):
        return float(expr)
    if isinstance(expr, Slot):
        return ["slot", expr.name]
    if expr.is_Symbol:
        facts = sorted(f for f in ("real", "positive", "nonnegative") if expr.assumptions0.get(f))
        if _symbol(expr.name, *facts) != expr:
            raise ProgramError(f"symbol {expr} cannot be written to JSON: it has assumptions other than {facts}")
        return ["symbol", expr.name, *facts]
    for name, constant in _CONSTANTS.items():
        if expr == constant:
            return ["constant", name]
    if isinstance(expr, Fn):
        head = "fn" if expr.family.name in FAMILIES else "abstract"
        return [head, expr.family.name, expr.order, encode(expr.args[0])]
    if isinstance(expr, (sp.Pow, sp.exp)) and not (expr.exp.is_Number and abs(expr.exp) > MAX_EXPONENT):
        return ["^", encode(expr.base), encode(expr.exp)]  # sympy's exp(u) is e^u
    for head, cls in _OPERATORS.items():
        if isinstance(expr, cls):
            return [head, *map(encode, expr.args)]
    if expr.func.__name__ in _CALLS:
        return ["call", expr.func.__name__, *map(encode, expr.args)]
    raise ProgramError(f"{expr} cannot be written to JSON: no encoding for {expr.func}")


def _written(number: int) -> int:
    """An integer of no more digits than Python reads."""
    check_ceiling("integer", abs(number).bit_length() * 30103 // 100000, f"{shortly(number)} cannot be written to JSON")
    return number


_OPERATORS: dict[str, Any] = {"+": sp.Add, "*": sp.Mul}


def decode(data: Any) -> sp.Expr:
    """The inverse of ``encode``.

    Raises:
        ProgramError: anything but the nested lists that ``encode`` writes.
    """
    if isinstance(data, bool) or data is None:
        raise ProgramError(f"expected an expression, got {shortly(data)}")
    if isinstance(data, int):
        return sp.Integer(data)
    if isinstance(data, float):
        if not math.isfinite(data):
            raise ProgramError(f"{data} is not a number that a program may hold")
        return sp.Float(data)
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ProgramError(
            f"expected a number or a list such as ['+', 1, ['slot', 'x0']], got {shortly(data)}; "
            "text is never evaluated"
        )
    rule = _DECODERS.get(data[0])
    if rule is None:
        raise ProgramError(f"unknown expression head {shortly(data[0])}; {nearest(data[0], _DECODERS)}")
    try:
        expr: sp.Expr = rule(*data[1:])
        if expr.is_Float and not (expr == 0 or LEAST < abs(expr) < 1 / LEAST):
            raise ProgramError(f"{_short(expr)} is not a number that a program may hold")
        return expr
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"malformed expression {shortly(data)}: {error}") from error


def _symbol(name: str, *facts: str) -> sp.Symbol:
    if isinstance(name, str) and _OUTPUT.fullmatch(name):
        return NameSymbol(name)
    parts = name[1:-1].split(",") if isinstance(name, str) and _PATCHES.fullmatch(name) else []
    if not isinstance(name, str) or not (_SYMBOL.fullmatch(name) or (parts and len(parts) % 2 == 0)):
        raise ProgramError(f"{shortly(name)} is not a symbol name")
    if not set(facts) <= {"real", "positive", "nonnegative"}:
        raise ProgramError(f"unknown assumptions {facts} of symbol {shortly(name)}")
    if name.startswith("⟨"):
        half = len(parts) // 2
        return inner(",".join(parts[:half]), ",".join(parts[half:]))
    return sp.Symbol(name, **dict.fromkeys(facts, True))


def _slot(name: str) -> Slot:
    if not re.fullmatch(r"[xs]\d+", name):
        raise ProgramError(f"{shortly(name)} is not a placeholder such as 'x0' or 's1'")
    return Slot(name)


def _order(order: Any) -> int:
    if not isinstance(order, int) or isinstance(order, bool) or not 0 <= order <= MAX_ORDER:
        raise ProgramError(f"a derivative order must be an integer from 0 to {MAX_ORDER}, got {shortly(order)}")
    return order


def _fn(name: str, order: int, argument: Any) -> sp.Expr:
    if name not in FAMILIES:
        raise ProgramError(f"unknown function {shortly(name)}; {nearest(name, FAMILIES)}")
    return member(FAMILIES[name], _order(order))(decode(argument))


def _abstract(name: str, order: int, argument: Any) -> sp.Expr:
    if not isinstance(name, str) or not name.isidentifier():
        raise ProgramError(f"{shortly(name)} is not the name of a function")
    return member(abstract(name).family, _order(order))(decode(argument))


def _product(*args: Any) -> sp.Expr:
    factors = [decode(a) for a in args]
    if len(factors) == 2 and isinstance(factors[1], sp.Add) and factors[0].is_Rational and factors[0] not in (0, 1):
        return sp.Mul(*factors, evaluate=False)  # as sympy's diff leaves it; Mul would expand it
    return sp.Mul(*factors)


def _power(base: Any, exponent: Any) -> sp.Expr:
    b, e = decode(base), decode(exponent)
    if e.is_Number:
        for factor in sp.Mul.make_args(b):  # sympy takes powers of products and of powers at once
            inner, power = factor.as_base_exp()
            total = power * e if power.is_Number else e
            if not abs(total) <= MAX_EXPONENT:
                raise ProgramError(f"the exponent {_short(total)} is not between -{MAX_EXPONENT} and {MAX_EXPONENT}")
            if inner.is_Float and inner and abs(sp.log(abs(inner), 10)) * abs(total) > 400:
                raise ProgramError(f"the power {_short(inner)}^{total} is not a number that a program may hold")
            if inner.is_Rational and max(inner.p.bit_length(), inner.q.bit_length()) * abs(total) > MAX_BITS:
                raise ProgramError(f"the power {_short(inner)}^{total} has more than {MAX_BITS} bits")
    return sp.Pow(b, e)


def _short(number: sp.Expr) -> str:
    return str(number if number.is_Integer and number.p.bit_length() < 100 else sp.N(number, 6))


def _rational(p: Any, q: Any) -> sp.Expr:
    if not (isinstance(p, int) and isinstance(q, int) and q != 0):
        raise ProgramError(f"a rational needs two integers, got {shortly(p)} and {shortly(q)}")
    return sp.Rational(p, q)


_DECODERS: dict[str, Callable[..., sp.Expr]] = {
    "rational": _rational,
    "slot": _slot,
    "symbol": _symbol,
    "constant": lambda name: _CONSTANTS[name],
    "fn": _fn,
    "abstract": _abstract,
    "call": lambda name, *args: _CALLS[name](*map(decode, args)),
    "+": lambda *args: sp.Add(*map(decode, args)),
    "*": _product,
    "^": _power,
}

_INSTRUCTIONS: dict[str, type] = {
    c.__name__: c
    for c in (
        InitMatrix, InitVector, InitScalar, MatMul, Mix, Place, Outer, RowSum, Mask, Weigh, Score, Softmax, Copied,
        Gathered, Kept, Nonlin, Moment, Difference,
    )
}  # fmt: skip
OPTIONAL = ("axes", "source", "by", "gradient", "law")  # left out where they are None


def to_json(program: ProgramGraph) -> str:
    """The program as JSON text, one object per instruction."""
    rows = [{"name": v.name, "op": type(op).__name__, **_fields(v.name, op)} for v, op in program]
    return json.dumps({"format": FORMAT, "version": VERSION, "instructions": rows}, indent=1)


def _fields(name: str, op: Instruction) -> dict[str, Any]:
    found = {key: getattr(op, key) for key in op.__dataclass_fields__}
    if found.get("law") is not None:
        raise ProgramError(f"`{name}` is made of weights of a law of their own, which a file does not hold")
    try:
        fields = {key: _field_out(v) for key, v in found.items() if key not in OPTIONAL or v is not None}
    except RecursionError as error:
        raise ProgramError(f"an expression of `{name}` is nested too deeply to be written") from error
    _check_size(fields, name)
    return fields


def _field_out(value: Any) -> Any:
    if isinstance(value, Var):
        return value.name
    if isinstance(value, (tuple, Covariances)):
        return [_field_out(v) for v in value]
    if isinstance(value, (Axes, Pairs)):
        return axes_out(value)
    if isinstance(value, Reading):
        return reading_out(value)
    return value if value is None or isinstance(value, (bool, str)) else encode(value)


def load_json(text: str, program: ProgramGraph) -> None:
    """Read the instructions of ``text`` into an empty program.

    Raises:
        ProgramError: not JSON, another format, an unknown instruction or field, an operand that is not
            defined before it is read (a cycle is named as such), or anything that is not a program.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"this is not a JSON program: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ProgramError(f'expected a JSON object with "format": "{FORMAT}"')
    if data.get("version") != VERSION:
        raise ProgramError(
            f"version {shortly(data.get('version'))} of the format is not known; this is version {VERSION}"
        )
    rows = data.get("instructions")
    if not isinstance(rows, list):
        raise ProgramError('"instructions" must be a list')
    reads = {
        row["name"]: set(_names_in(row)) for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)
    }
    for i, row in enumerate(rows):
        _load_row(i, row, program, reads)
    _check_covariance(program)


def _integer(text: str) -> int:
    check_ceiling("integer", len(text), f"the integer {shortly(text)}")
    return int(text)


def _check_size(row: dict[str, Any], name: str) -> None:
    """Refuse expressions of an instruction that are nested too deeply or too long, before they are built."""
    level, parts, depth = [v for v in row.values() if isinstance(v, list)], 0, 0
    while level:
        level = [item for part in level for item in part if isinstance(item, list)]
        parts, depth = parts + sum(map(len, level)), depth + 1
        check_ceiling("nested", depth, f"an expression of `{name}` is nested too deeply")
        check_ceiling("parts", parts, f"an expression of `{name}` has {parts} parts")


def _no_constant(text: str) -> Any:
    raise ProgramError(f"{text} is not a number that a program may hold")


def _names_in(row: dict[str, Any]) -> Iterator[str]:
    for key in ("matrix", "x", "y", "s", "weights", "theta"):
        if isinstance(row.get(key), str):
            yield row[key]
    for key in ("args", "params", "arg_deltas", "param_deltas"):
        if isinstance(row.get(key), list):
            yield from (v for v in row[key] if isinstance(v, str))


def _load_row(i: int, row: Any, program: ProgramGraph, reads: dict[str, set[str]]) -> None:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise ProgramError(f'instruction {i} must be an object with a "name", got {shortly(row)}')
    name, kind = row["name"], row.get("op")
    cls = _INSTRUCTIONS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ProgramError(f"`{name}` has the unknown instruction {shortly(kind)}; {nearest(kind, _INSTRUCTIONS)}")
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    needed = {"name", "op", *(key for key in fields if key not in OPTIONAL or kind in ("Mix", "Place", "Mask"))}
    if not needed <= set(row) <= {"name", "op", *fields}:
        raise ProgramError(f"`{name}` := {kind} needs the fields {', '.join(fields)}; got {', '.join(row)}")
    _check_size(row, name)
    try:
        given = {key: _FIELD_IN[key](row[key], name, program, reads) for key in fields if key in row}
        program.append(name, cls(**given))
    except RecursionError as error:
        raise ProgramError(f"an expression of `{name}` is nested too deeply") from error
    except ProgramError as error:
        if f"`{name}`" in str(error) or repr(name) in str(error):
            raise
        raise ProgramError(f"`{name}`: {error}") from error


def _operand(value: Any, name: str, program: ProgramGraph, reads: dict[str, set[str]]) -> Var:
    if not isinstance(value, str):
        raise ProgramError(f"`{name}` must name its operand by a string, got {shortly(value)}")
    if value not in program:
        if name in _reachable(value, reads):
            raise ProgramError(f"`{name}` reads `{value}`, which itself depends on `{name}`: a cycle")
        raise ProgramError(f"`{name}` reads `{value}`, which no earlier instruction defines")
    return program.named(value)


def _reachable(start: str, reads: dict[str, set[str]]) -> set[str]:
    seen, todo = set(), [start]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo.extend(reads.get(current, ()))
    return seen


def _operands(value: Any, name: str, *context: Any) -> tuple[Var, ...]:
    if not isinstance(value, list):
        raise ProgramError(f"`{name}` needs a list of operand names, got {shortly(value)}")
    return tuple(_operand(v, name, *context) for v in value)


def _changes(value: Any, name: str, *context: Any) -> tuple[Var | None, ...]:
    if not isinstance(value, list):
        raise ProgramError(f"`{name}` needs a list of operand names or nulls, got {shortly(value)}")
    return tuple(None if v is None else _operand(v, name, *context) for v in value)


def _cov(value: Any, name: str, program: ProgramGraph, reads: Any) -> tuple[tuple[Var, sp.Expr], ...]:
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise ProgramError(f'"cov" of `{name}` must be a list of [name, covariance] pairs, got {shortly(value)}')
    return tuple((Var(name, "vector") if v == name else _operand(v, name, program, reads), decode(c)) for v, c in value)


def _flag(value: Any, name: str, *_: Any) -> bool:
    if not isinstance(value, bool):
        raise ProgramError(f"a flag of `{name}` must be true or false, got {shortly(value)}")
    return value


def _expr(value: Any, *_: Any) -> sp.Expr:
    return decode(value)


def _source(value: Any, name: str, *_: Any) -> str:
    if not isinstance(value, str):
        raise ProgramError(f'"source" of `{name}` must be the name of an input, got {shortly(value)}')
    return value


_FIELD_IN: dict[str, Callable[..., Any]] = {
    "variance": _expr, "mean": _expr, "value": _expr, "rate": _expr, "body": _expr, "cov": _cov,
    "matrix": _operand, "x": _operand, "y": _operand, "s": _operand, "weights": _operand,
    "transpose": _flag, "args": _operands, "params": _operands,
    "gradient": _operand, "causal": _flag,
    "arg_deltas": _changes, "param_deltas": _changes, "theta": _operand, "source": _source,
    "axes": lambda value, *_: axes_in(value), "by": lambda value, *_: reading_in(value),
}  # fmt: skip


def _check_covariance(program: ProgramGraph) -> None:
    """Initial vectors linked by covariances form blocks; each block of numbers must be PSD."""
    entries = {(v, w): c for v, op in program if isinstance(op, InitVector) for w, c in op.cov}
    linked = nx.Graph(entries.keys())
    for members in nx.connected_components(linked):
        block = [v for v, _ in program if v in members]
        cov = [[entries.get((v, w), entries.get((w, v), sp.S.Zero)) for w in block] for v in block]
        problem = next(covariance_violations([v.name for v in block], cov), None)
        if problem:
            raise ProgramError(problem)
