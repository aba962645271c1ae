"""A verification as Python code that runs as it is pasted: imports, the network, the inputs, the call."""

from __future__ import annotations

import ast
import base64
import builtins
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.network import Network
from tensorprog.dsl.nonlinearities import NONLINEARITIES, Nonlinearity, _declared
from tensorprog.functions import Fn, X
from tensorprog.kernels.outputs import OneOutput

LONGEST = 600  # numbers that are written in decimals; more are packed
GALLERY = "tensorprog.programs"


def snippet(v: Any) -> str:
    """The code that makes a verification again, with its inputs to the last digit.

    Args:
        v: a ``Verification`` with evidence.
    """
    e = v.evidence
    net, one = (e.net.whole, f", outputs={e.net.k}") if isinstance(e.net, OneOutput) else (e.net, "")
    values = f", values={code({str(k): x for k, x in e.values.items()})}" if e.values else ""
    body = [
        *network(net),
        f"X = {inputs(e)}",
        f"v = tp.verify(net, X, widths={list(v.widths)}, seeds={v.seeds}{values}{one}{_trains(e)})",
        "print(v.text())",
        'v.save("report.html")',
    ]
    text = "\n".join(body)
    packages = {"base64": "base64", "np": "numpy as np", "sp": "sympy as sp"}
    found = [f"import {full}" for name, full in packages.items() if re.search(rf"(?<![\w.]){name}\.", text)]
    return "\n".join([*found, "import tensorprog as tp", "", text])


def _trains(e: Any) -> str:
    """What trains, as arguments."""
    chosen = next(iter(e.kernels.values()))._trained
    if chosen is None:
        return ""
    scheme = "" if chosen.parametrization is None else f", parametrization=tp.{chosen.parametrization!r}"
    rest = {k: v for k, v in chosen.given.items() if v is not None and k != "parametrization"}
    return "".join(f", {k}={code(v)}" for k, v in rest.items()) + scheme


# ---- the inputs ----------------------------------------------------------------------------------------


def inputs(e: Any) -> str:
    """The data of a verification as an expression."""
    if e.net.form not in ("vectors", "sequences"):
        return _nested(e.given)
    items = [e.data[i] if e.net.takes_sequences else e.data[i][0] for i in range(len(e.data))]
    if sum(item.size for item in items) > LONGEST:
        rows = [_packed(item) for item in items]
    else:
        rows = [_array(item) if e.net.takes_sequences else f"{item.tolist()}" for item in items]
    return "[\n" + "".join(f"    {row},\n" for row in rows) + "]"


def _nested(given: Any) -> str:
    """Arrays over positions: one, or a list or a dictionary of such; of more than a few numbers packed."""
    if isinstance(given, Mapping):
        return "{\n" + "".join(f"    {name!r}: {_nested(x)},\n" for name, x in given.items()) + "}"
    if isinstance(given, (list, tuple)):
        return "[" + ", ".join(map(_nested, given)) + "]"
    item = np.asarray(given.toarray() if hasattr(given, "toarray") else given, float)
    return _packed(item) if item.size > LONGEST else f"np.array({item.tolist()})"


def _array(item: np.ndarray) -> str:
    """A sequence, a time step a line."""
    return "np.array([\n" + "".join(f"        {step},\n" for step in item.tolist()) + "    ])"


def _packed(item: np.ndarray) -> str:
    text = base64.b64encode(np.ascontiguousarray(item, "<f8").tobytes()).decode()
    return f'np.frombuffer(base64.b64decode("{text}")).reshape({item.shape})'


# ---- the network ---------------------------------------------------------------------------------------


def network(net: Network) -> list[str]:
    """Lines that end with ``net = ..``."""
    module, name = net.fn.__module__, net.fn.__name__
    written = {k: code(value) for k, value in net.hyperparameters.items()}
    defaults = {k: p.default for k, p in inspect.signature(net.fn).parameters.items()}
    unknown = [k for k, value in net.hyperparameters.items() if written[k] is None and value is not defaults.get(k)]
    given = ", ".join(f"{k}={x or '...'}" for k, x in written.items() if x is not None or k in unknown)
    notes = [f"# put for {k}: {net.hyperparameters[k]!r}" for k in unknown]
    if f"{module}.".startswith(f"{GALLERY}.") and hasattr(sys.modules.get(GALLERY), name):
        return [*notes, f"net = tp.programs.{name}({given})"]
    return [*_Definitions(net.fn).lines, *notes, f"net = {name}({given})"]


class _Definitions:
    """The source of a function, after that of what it needs from its module."""

    def __init__(self, fn: Any) -> None:
        self.module = fn.__module__
        self.known: set[str] = set()
        self.imports: list[str] = []
        self.sources: list[str] = []
        self._source(fn)

    @property
    def lines(self) -> list[str]:
        return [*self.imports, *(line for source in self.sources for line in ("", *source.split("\n"), ""))]

    def _source(self, thing: Any) -> None:
        try:
            source = textwrap.dedent(inspect.getsource(thing)).strip()
        except (OSError, TypeError):
            self.sources.append(f"# define {getattr(thing, '__name__', thing)} here: its source is not available")
            return
        variables = getattr(inspect.unwrap(thing), "__globals__", vars(sys.modules.get(self.module, builtins)))
        closed = inspect.getclosurevars(inspect.unwrap(thing)).nonlocals if inspect.isfunction(thing) else {}
        for name in _names(source):
            if name not in self.known and (name in closed or name in variables) and name != thing.__name__:
                self.known.add(name)
                self._needed(name, closed.get(name, variables.get(name)))
        self.sources.append(source)

    def _needed(self, name: str, value: Any) -> None:
        """An import, an assignment or a definition of a name."""
        home = getattr(value, "__module__", None)
        if isinstance(value, ModuleType):
            if name != "tp":
                found = value.__name__
                self.imports.append(f"import {found}" if found == name else f"import {found} as {name}")
        elif home == self.module and (inspect.isfunction(value) or isinstance(value, type)):
            self._source(value)
        elif (written := code(value)) is not None:
            self.imports.append(f"{name} = {written}")
        elif home and getattr(sys.modules.get(home), getattr(value, "__name__", name), None) is value:
            own = getattr(value, "__name__", name)
            self.imports.append(f"from {home} import {own}" + (f" as {name}" if own != name else ""))
        else:
            self.imports.append(f"# define {name} here: {value!r}")


def _names(source: str) -> Iterator[str]:
    """The names that a piece of source reads, each once."""
    found = (node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    return iter(dict.fromkeys(name for name in found if not hasattr(builtins, name)))


# ---- values --------------------------------------------------------------------------------------------


@functools.singledispatch
def code(value: Any) -> str | None:
    """A value as an expression in np, sp and tp; None where there is none.

    >>> code([1, 0.5, sp.sqrt(2), sp.Rational(1, 3), sp.Symbol("a", positive=True)])
    "[1, 0.5, sp.sqrt(2), sp.Rational(1, 3), sp.Symbol('a', positive=True)]"
    """
    return None


@code.register(type(None))
@code.register(bool)
@code.register(int)
@code.register(float)
@code.register(str)
def _(value: Any) -> str | None:
    return repr(value)


@code.register(np.generic)
def _(value: np.generic) -> str | None:
    return repr(value.item())


@code.register(np.ndarray)
def _(value: np.ndarray) -> str | None:
    return f"np.array({value.tolist()})"


@code.register(list)
@code.register(tuple)
def _(value: Any) -> str | None:
    parts = [code(x) for x in value]
    if any(part is None for part in parts):
        return None
    joined = ", ".join(map(str, parts))
    return f"[{joined}]" if isinstance(value, list) else f"({joined}{',' * (len(parts) == 1)})"


@code.register(dict)
def _(value: dict[Any, Any]) -> str | None:
    parts = [(code(k), code(x)) for k, x in value.items()]
    return None if any(None in part for part in parts) else "{" + ", ".join(f"{k}: {x}" for k, x in parts) + "}"


@code.register(sp.Basic)
def _(value: sp.Basic) -> str | None:
    if isinstance(value, sp.Integer):
        return str(value)
    if isinstance(value, sp.Pow) and value.exp == sp.S.Half:
        return f"sp.sqrt({code(value.base)})"
    written = sp.srepr(value)
    return re.sub(r"('[^']*')|(?<![\w.])([A-Za-z]\w*)(?!\w)(?!=)", lambda m: m[1] or _qualified(m[2]), written)


def _qualified(name: str) -> str:
    return name if name in ("True", "False", "None") else f"sp.{name}"


@code.register(Nonlinearity)
def _(value: Nonlinearity) -> str | None:
    public = sys.modules["tensorprog"]
    name = next((k for k, known in NONLINEARITIES.items() if known is value), None)
    if name is not None:
        return f"tp.{name}" if getattr(public, name, None) is value else f"tp.NONLINEARITIES[{name!r}]"
    maker, arguments = value.__reduce__()
    if maker is _declared:
        return _declaration(*arguments)
    given = [code(x) for x in arguments]
    known = hasattr(public, maker.__name__) and None not in given
    return f"tp.{maker.__name__}({', '.join(map(str, given))})" if known else None


def _declaration(name: str, smooth: Any, kinks: Any, parity: int, pieces: Any, ends: Any) -> str | None:
    """The call of ``tp.declare``, where its functions are elementary."""
    if any(e.atoms(Fn) for e in (*pieces, *ends, smooth) if e is not None):
        return None
    given = [repr(name)] + ([] if smooth is None else [f"formula={_of_x(smooth)}"])
    for key, found in (("pieces", pieces), ("ends", ends)):
        given += [f"{key}=[{', '.join(map(_of_x, found))}]"] if found else []
    given += [f"kinks={code(list(kinks))}"] if kinks else []
    return f"tp.declare({', '.join([*given, *([f'parity={parity}'] if parity else [])])})"


def _of_x(e: sp.Expr) -> str:
    return f"lambda x: {code(e)}".replace(str(code(X)), "x")
