"""What the theorems on kernels and training ask of a network, checked before anything is compared.

- The outputs have a limit at the start: Σ_readouts σ E Z^v Z^x = 0; else f_0 ≈ √n Σ σ E Z^v Z^x.
- Derivatives are functions: what trained parameters move passes through no φ that jumps, whose derivative is a Dirac δ.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import ZERO, Poly, Scalar, add_all, to_sympy
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derivation import Derivation, Length
from tensorprog.derivation.exact import values
from tensorprog.derivation.over_positions import over_positions
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import AssumptionError, NoRuleError
from tensorprog.functions import Fn, has_deltas, is_delta, jumps
from tensorprog.ir.axes import Sizes
from tensorprog.ir.instructions import MatMul, Mix, Moment, Nonlin, Place, Var, slots_of
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import same
from tensorprog.limit.master import Interpreter
from tensorprog.printing import Shown, text

ROUNDING = 1e-9
SAMPLES = 16
REPAIR = ("read out what has mean 0 (an odd φ, or x − E x as a number), use net.readout, or train f − f_0 "
          "(subtract_start=True)")  # fmt: skip


@dataclass(frozen=True, repr=False)
class Hypothesis(Shown):
    """One thing that a theorem asks for; ``holds`` is None where it is an assumption on inputs or functions.

    Only what does not hold as a matter of course is listed.

    Attributes:
        name: of what is asked for.
        holds: whether it does.
        detail: in words, with the figures.
    """

    name: str
    holds: bool | None
    detail: str

    def text(self) -> str:
        """Whether it is met, and in words."""
        return f"{'assumed' if self.holds is None else 'NOT MET'}: {self.name}: {self.detail}"


def refuse_unmet(hypotheses: Iterable[Hypothesis], what: str) -> None:
    """Refuse what needs every hypothesis.

    Raises:
        AssumptionError: the first that does not hold, in words.
    """
    for h in hypotheses:
        if h.holds is False:
            raise AssumptionError(f"{what} asks that {h.name}: {h.detail}")


# ---- outputs have a limit ------------------------------------------------------------------------------


def mean_of_output(output: Output, limit: Interpreter) -> Poly:
    """lim f_0/√n = Σ σ E Z^v Z^x, which is 0 where the readout is random and read by nothing else."""
    return add_all(limit.moment(r.v, r.x) * limit.algebra.from_sympy(r.std, {}) for r in output.readouts)


def outputs_on_data(net: Network, inputs: Inputs, hyper: Mapping[sp.Symbol, float]) -> list[Hypothesis]:
    """The outputs that diverge on these inputs."""
    worst: dict[int, tuple[float, int]] = {}
    for length, rows in inputs.groups.items():
        for k, (d, scale) in enumerate(_means(net, length)):
            if d.poly:
                sizes = length if isinstance(length, tuple) else None
                mean, size = (_numbers(q, inputs.data[length], hyper, sizes) for q in (d, scale))
                mean = np.abs(mean)
                far = np.where(mean > ROUNDING * np.sqrt(np.abs(size)), mean, 0.0)
                worst[k] = max(worst.get(k, (0.0, 0)), (float(far.max()), int(rows[far.argmax()])))
    count = len(net.trace([next(iter(inputs.groups))]).heads[0])
    return [_diverges(k, count, f"{value:.4g} at input {i}") for k, (value, i) in sorted(worst.items()) if value > 0]


def outputs_in_general(net: Network, length: Length) -> list[Hypothesis]:
    """The same without data: outputs whose mean is 0 for some inputs only are an assumption."""
    found, means = [], _means(net, length)
    for k, (d, _) in enumerate(means):
        if same(d.poly, ZERO):
            continue
        formula = text(to_sympy(d.poly))
        try:
            means_found = _numbers(d, _random_inputs(length), _random_hyper(d))
        except NoRuleError:  # an abstract φ
            means_found = np.array([-1.0, 1.0])
        if (means_found > 0).all() or (means_found < 0).all():
            found.append(_diverges(k, len(means), formula))
        else:
            detail = f"f_0/√n tends to {formula}, which has to be 0 for the inputs at hand"
            found.append(Hypothesis(f"{_name(k, len(means))} has a limit at the start", None, detail))
    return found


def _diverges(k: int, count: int, value: str) -> Hypothesis:
    detail = (f"it diverges like √n, f_0/√n tends to {value}, and with it the derivative of the loss; "
              f"to mend it, {REPAIR}")  # fmt: skip
    return Hypothesis(f"{_name(k, count)} has a limit at the start", False, detail)


def _name(k: int, count: int) -> str:
    return f"output {k}" if count > 1 else "the output"


def _means(net: Network, length: Length) -> list[tuple[Derivation, Derivation]]:
    """Of every output lim f_0/√n, and a square of its scale, Σ σ² E (Z^v Z^x)²'s bound Σ σ² E (Z^v)² E (Z^x)²."""
    trace = net.trace([length] * (2 if net.takes_axes else 1))  # over positions, an input is one of two
    limit = Interpreter(trace.program)
    found = []
    for output in trace.heads[0]:
        sizes = (limit.moment(r.v, r.v) * limit.moment(r.x, r.x) * limit.algebra.from_sympy(r.std**2, {})
                 for r in output.readouts)  # fmt: skip
        mean = Derivation(trace, limit, mean_of_output(output, limit))
        found.append((mean, Derivation(trace, limit, add_all(sizes))))
    return found


def _numbers(d: Derivation, data: np.ndarray, hyper: Mapping[sp.Symbol, Any], sizes: Sizes | None = None) -> np.ndarray:
    """A quantity of one input, for each of the rows of data."""
    if sizes is not None:
        return over_positions(d, data, data, (sizes, sizes), hyper)
    return np.broadcast_to(values(d, (data,), hyper), len(data))


def _random_inputs(length: Length) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((SAMPLES, length or 1, 4)) * np.geomspace(0.2, 5, SAMPLES)[:, None, None]


def _random_hyper(d: Derivation) -> dict[sp.Symbol, Any]:
    rng = np.random.default_rng(1)
    free = {s for g in reachable([d.poly]) if isinstance(g, Scalar) for s in sp.sympify(g.symbol).free_symbols}
    return {s: rng.uniform(0.5, 2, SAMPLES) for s in sorted(free - d.trace.grams.keys(), key=str)}


# ---- derivatives are functions -------------------------------------------------------------------------


def derivatives(net: Network, length: Length, trained: Container[str] | None = None) -> list[Hypothesis]:
    """The functions that jump and that gradients of trained parameters pass through."""
    found = jumping(net.trace([length]), trained)
    if not found:
        return []
    names = " and ".join(found)
    jump, its = ("jumps", "its derivative is") if len(found) == 1 else ("jump", "their derivatives are")
    detail = (
        f"{names} {jump}. Here {its} the Dirac δ, "
        "the limit of the derivatives of steep smooth functions; the derivative that SGD by automatic differentiation "
        "uses is 0 almost everywhere, which gives another kernel. Take a smooth function such as erf(c·h), or train "
        "only what comes after the jump (trainable=)"
    )
    return [Hypothesis("derivatives are functions", False, detail)]


def jumping(trace: Trace, trained: Container[str] | None = None) -> list[str]:
    """Names of functions that jump in an operand which depends on a trained parameter and reaches an output."""
    reached = _reached(trace)
    moved: set[Var] = _trained_vectors(trace, trained)
    names: dict[str, None] = {}
    for var, op in trace.program:
        if isinstance(op, MatMul) and (op.x in moved or _is_trained(trace, op.matrix, trained)):
            moved.add(var)
        if isinstance(op, Mix | Place) and op.x in moved:
            moved.add(var)
        if isinstance(op, Nonlin | Moment):
            slots = {s: v for s, v in slots_of(op).items() if v in moved}
            if slots:
                moved.add(var)
            if var in reached:
                names |= dict.fromkeys(name for s in slots for name in _jumps(op.body, s))
    return list(names)


def _jumps(body: sp.Expr, slot: sp.Symbol) -> list[str]:
    """The functions of a body whose derivative in a slot is a Dirac δ."""
    derivative = sp.diff(body, slot)
    if not any(is_delta(type(f)) or has_deltas(type(f)) for f in derivative.atoms(Fn)):
        return []
    return sorted({str(f.func) for f in body.atoms(Fn) if f.has(slot) and jumps(type(f))})


def _reached(trace: Trace) -> set[Var]:
    ends: Collection[Var] = [v for heads in trace.heads for f in heads for r in f.readouts for v in (r.x, r.v)]
    return {v for v, _ in trace.program.part(ends)}


def _trained_vectors(trace: Trace, trained: Container[str] | None) -> set[Var]:
    named = {p.var: n for n, p in trace.parameters.items() if p.var is not None}
    named |= {var: name for var, (name, _) in trace.embeddings.items()}
    return {v for v, n in named.items() if trained is None or n in trained}


def _is_trained(trace: Trace, matrix: Var, trained: Container[str] | None) -> bool:
    return any(p.var == matrix and (trained is None or n in trained) for n, p in trace.parameters.items())


def derivatives_of(net: Network, lengths: Iterable[Length], trained: Container[str] | None = None) -> list[Hypothesis]:
    """The same for inputs of several lengths."""
    return list({h.detail: h for t in dict.fromkeys(lengths) for h in derivatives(net, t, trained)}.values())


def outputs_of(net: Network, lengths: Iterable[Length]) -> list[Hypothesis]:
    """Outputs that diverge, or may, for inputs of several lengths."""
    return list({h.name: h for t in dict.fromkeys(lengths) for h in outputs_in_general(net, t)}.values())
