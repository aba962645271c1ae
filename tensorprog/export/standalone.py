"""A kernel as a standalone file: equations as assignments in loops, with the functions that they call."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, FoldError, NoRuleError, TensorProgramError, nearest
from tensorprog.export.helpers import LIBRARIES, Library, written
from tensorprog.export.integrals import Integrals
from tensorprog.export.layout_of_lines import broken
from tensorprog.export.looped import looped
from tensorprog.export.onebyone import one_by_one
from tensorprog.export.phrases import Speller
from tensorprog.export.placing import PlacedWriter
from tensorprog.recursions.folded import FoldedKernel
from tensorprog.recursions.ranges import T2, TAU, L, T
from tensorprog.recursions.sizes import DEPTHS

PAPERS = {
    "ntk": "Jacot, Gabriel and Hongler, NeurIPS 2018; Yang and Littwin, Tensor Programs IIb, ICML 2021, Eq. (100)",
    "nngp": "Yang, Tensor Programs I, NeurIPS 2019; Lee et al., ICLR 2018",
}
RECURRENT = "Alemohammad et al., The Recurrent Neural Tangent Kernel, ICLR 2021"
LONGEST = 34  # lines of equations in a docstring


@dataclass
class Body:
    """The statements of a function, and what is said of it.

    Attributes:
        lines: its statements, the last of which returns.
        equations: what they compute, as text.
        takes: the sizes that are arguments, with defaults.
        notes: sentences about where it holds.
    """

    lines: list[str]
    equations: str
    takes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def standalone(kernel: Any, language: str, values: Mapping[sp.Symbol, float]) -> str:
    """A file of code that computes a kernel of two inputs and imports nothing of this package.

    Args:
        kernel: the kernel.
        language: "numpy", "torch" or "jax".
        values: defaults for hyperparameters that are symbols.

    Raises:
        DataError: an unknown language.
        NoRuleError: the kernel has no such code; says what of it.
    """
    if not isinstance(language, str) or language not in LIBRARIES:
        raise DataError(f"unknown language {language!r} for a standalone file; {nearest(language, LIBRARIES)}")
    library = LIBRARIES[language]
    if kernel._has_laws:
        raise NoRuleError(f"{kernel!r} has weights that are not Gaussian, whose integrals have no standalone code")
    if kernel._how.route == "sampling":
        raise NoRuleError(f"{kernel!r} is computed by sampling, which has no standalone code")
    failure: Exception | None = None
    for net, defaults in _versions(kernel):
        symbols = {L: kernel_depth(net) or "depth", T: "T1", T2: "T2", TAU: "tau"}
        speller = Speller(library.module, symbols)
        integrals = Integrals(speller)
        try:
            body = _body(kernel if net is kernel.net else kernel._of(net), speller, integrals, library)
        except (FoldError, NoRuleError) as error:
            failure = failure or error
            continue
        given = {**defaults, **{str(s): v for s, v in values.items()}}
        return _file(kernel, body, integrals, library, _arguments(kernel, net, given, body))
    assert failure is not None
    raise NoRuleError(f"{kernel.net.name} has no standalone code: {failure}") from failure


def kernel_depth(net: Network) -> str | None:
    """The hyperparameter that counts layers."""
    return next((k for k in DEPTHS if type(net.hyperparameters.get(k)) is int), None)


def _versions(kernel: Any) -> Iterable[tuple[Network, dict[str, float]]]:
    """The network with symbols for its numbers, and as it is."""
    net, found, defaults = kernel.net, dict(kernel.net.hyperparameters), dict[str, float]()
    for name, value in net.hyperparameters.items():
        number = _number(value)
        if number and name not in DEPTHS:
            symbol = sp.Symbol(name, positive=True) if number > 0 else sp.Symbol(name, real=True)
            if _builds(Network(net.fn, {**found, name: symbol}, net.name)):
                found[name], defaults[name] = symbol, number
    if defaults:
        yield Network(net.fn, found, net.name), defaults
    yield net, {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or getattr(value, "is_number", False)):
        return None
    return int(value) if isinstance(value, int) or getattr(value, "is_Integer", False) else float(value)


def _builds(net: Network) -> bool:
    try:
        net.trace([net.fitting_length() if net.takes_sequences else None])
    except (TensorProgramError, TypeError, ValueError, RecursionError):
        return False
    return True


def _body(kernel: Any, speller: Speller, integrals: Integrals, library: Library) -> Body:
    """As loops where the equations fold, else one by one."""
    if not kernel.net.takes_axes:
        try:
            folded = FoldedKernel(kernel, "forward" if kernel.kind == "ntk" else None, one_layer(kernel.net))
            if not _left_out(folded, kernel):
                lines = looped(folded, speller, integrals)
                return Body(lines, folded.text().split("\n\n", 1)[1], _sizes(folded, kernel), _limits(folded))
        except (FoldError, NoRuleError):
            integrals.functions.clear()
            integrals.helpers.clear()
            integrals.forget()
    if kernel.net.takes_axes:
        writer = PlacedWriter(kernel._derive(), speller, integrals)
        lines = writer.lines()
        integrals.helpers |= writer.helpers
        return Body(lines, kernel.text().split("\n\n", 1)[1])
    lines, notes = one_by_one(kernel, speller, integrals), []
    if kernel.net.form == "sequences":
        notes = [f"For sequences of {kernel.lengths[0]} and {kernel.lengths[1]} steps."]
    return Body(lines, kernel.text().split("\n\n", 1)[1], {}, notes)


def one_layer(net: Network) -> str | None:
    """What a network of one layer over a sequence is folded over; None for all that there is."""
    name = kernel_depth(net)
    return "lengths" if name and net.takes_sequences and net.hyperparameters[name] == 1 else None


def _sizes(folded: FoldedKernel, kernel: Any) -> dict[str, int]:
    name = folded._over.depth
    return {name: kernel.net.hyperparameters[name]} if name else {}


def _left_out(folded: FoldedKernel, kernel: Any) -> bool:
    """Whether the fold does not hold for the network as it is."""
    sizes = {"L": kernel.net.hyperparameters.get(folded._over.depth or "")}
    return any(
        all(isinstance(sizes.get(k), int) and sizes[k] <= v for k, v in small) and small for small in folded.excluded
    )


def _limits(folded: FoldedKernel) -> list[str]:
    found = [" and ".join(f"{k} <= {v}" for k, v in small) for small in sorted(folded.excluded)]
    return [f"It does not hold where {' or '.join(found)}."] if found else []


def _arguments(kernel: Any, net: Network, defaults: Mapping[str, float], body: Body) -> str:
    names = {str(s) for s in (kernel._of(net) if net is not kernel.net else kernel)._symbols() or ()}
    required = sorted(names - defaults.keys())
    given = {**body.takes, **{k: v for k, v in defaults.items() if k in names}}
    words = [*(identifierless(n) for n in required), *(f"{k}={v!r}" for k, v in given.items())]
    return ", ".join(["x1, x2", *(["*", *words] if words else [])])


def identifierless(name: str) -> str:
    """A hyperparameter's name as an argument."""
    if not name.isidentifier():
        raise NoRuleError(f"the hyperparameter {name!r} is no name of an argument; call its symbol otherwise")
    return name


def _file(kernel: Any, body: Body, integrals: Integrals, library: Library, arguments: str) -> str:
    functions = ["\n".join(broken(f.splitlines())) for f in integrals.functions.values()]
    text = "\n".join(functions + body.lines)
    helpers = written(library, integrals.helpers)
    whole = "\n".join([*helpers, text])
    parts = [f'"""{_title(kernel)}, at infinite width."""', "", "from math import pi", "", library.imports]
    if "np." in whole and library.module != "np":
        parts.append("import numpy as np")
    if "erf(" in whole:
        parts.append(library.erf)
    if "sort(" in whole:
        parts.append(library.aliases)
    dot = 'def dot(a, b):\n    """x.x\'/d."""\n    return (a * b).sum(-1) / a.shape[-1]\n'
    used = [dot] if "dot(" in text else []
    main = [
        f"def {kernel.kind}({arguments}):",
        *_docstring(kernel, body),
        *broken(f"    {line}" for line in body.lines),
    ]
    blocks = ["\n".join(parts), *(b.rstrip("\n") for b in (*used, *helpers, *functions)), "\n".join(main)]
    found = "\n\n\n".join(blocks) + "\n"
    return found if "pi" in whole.replace("Pi", "") else found.replace("from math import pi\n\n", "")


def _title(kernel: Any) -> str:
    return f"The {kernel.kind.upper()} of {kernel.net!r}"


def _docstring(kernel: Any, body: Body) -> list[str]:
    shapes = {"vectors": "(.., d)", "sequences": "(.., T, d)", "positions": "(*sizes, d)"}
    form = kernel.net.form
    takes = shapes.get(form, "dictionaries of named arrays") if isinstance(form, str) else "dictionaries of arrays"
    equations = body.equations.splitlines()
    if len(equations) > LONGEST:
        equations = [*equations[: LONGEST - 2], "  ..", *equations[-1:]]
    paper = PAPERS[kernel.kind] + (f"; {RECURRENT}" if form == "sequences" else "")
    lines = [
        f'"""{"Θ" if kernel.kind == "ntk" else "K"}(x,x\') of two different inputs x1 = x and x2 = x\', {takes}.',
        "",
    ]
    lines += [*equations, "", *body.notes, *textwrap.wrap(paper + ".", 100), '"""']
    return [f"    {line}".rstrip() for line in lines]
