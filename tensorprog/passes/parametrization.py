"""abc-parametrizations: powers of the width, which of them train stably, and which learn features (Yang & Hu 2021).

Layer l of L + 1 has W^l = σ_l n^(−a_l) w^l with w^l ~ N(0, n^(−2b_l)) and learning rate η n^(−c).  What training
does depends on A_l = a_l + b_l, the size of the initial weights, and C_l = 2a_l + c, that of their updates:

    G   = min(A_{L+1}, C_{L+1})                      gradients ∂f/∂x are of size n^(−G),
    r_l = C_l + G − 1 + 1[l = 1],  r = min_{l ≤ L} r_l    an update of layer l moves the features by n^(−r_l).

Stable: A_1 = 0, A_l = 1/2, A_{L+1} ≥ 1/2 (features O(1), outputs bounded at the start), r ≥ 0, A_{L+1} + r ≥ 1 and
C_{L+1} ≥ 1 (steps move features and outputs by O(1)).  Then r = 0 learns features and r > 0 is a kernel regime.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, ProgramError
from tensorprog.given import MANY
from tensorprog.printing import Shown
from tensorprog.types import Exponent

HALF = sp.Rational(1, 2)


@dataclass(frozen=True, repr=False)
class Layer(Shown):
    """The exponents of one layer: of its multiplier, its initial weights and its learning rate.

    Attributes:
        number: 1 for the first.
        role: input, hidden or readout.
        a, b, c: the exponents.
    """

    number: int
    role: str
    a: sp.Rational
    b: sp.Rational
    c: sp.Rational

    @property
    def init(self) -> sp.Rational:
        """A = a + b: entries of the initial weights are of size n^(−A)."""
        return self.a + self.b

    @property
    def rate(self) -> sp.Rational:
        """C = 2a + c: the weights move by n^(−C) times the gradient."""
        return 2 * self.a + self.c

    def text(self) -> str:
        """Which layer, and its exponents."""
        return f"{self}: a = {self.a}, b = {self.b}, c = {self.c}"

    def __str__(self) -> str:
        return f"layer {self.number} ({self.role})"


@dataclass(frozen=True, repr=False)
class Classification(Shown):
    """What a parametrization does as the width grows.

    Attributes:
        regime: ``"unstable"``, ``"feature learning"``, ``"kernel regime"`` or ``"trivial"`` (outputs do not move).
        r: features move by n^(−r) in a step.
        reasons: what decides it, naming layers and exponents.
    """

    regime: str
    r: sp.Rational
    reasons: tuple[str, ...]

    @property
    def stable(self) -> bool:
        """Whether features and outputs stay bounded as the width grows."""
        return self.regime != "unstable"

    def text(self) -> str:
        """The regime and what decides it."""
        return "\n".join([f"{self.regime} (r = {self.r})", *(f"  {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Parametrization(Shown):
    """Exponents (a_l, b_l) of every layer and c of the learning rate; ``abc`` and its named cases make them.

    Embeddings are layer 1, matrices the hidden layers in the order in which they are declared, readouts the last
    layer.  A bias is a layer with the one input 1: it has the exponents of layer 1.  ``output_bias`` are (a, b) of
    biases of the output.  ``trained`` says where σ stands: ``"w"`` trains w in W = σ n^(−a) w; ``"W"`` trains
    W = n^(−a) w with w ~ N(0, σ² n^(−2b)), whose gradient has no σ².

    Attributes:
        name, trained: how it prints, and ``"w"`` or ``"W"``.
        a, b, c, output_bias: of the layers, from the input to the readout; of the learning rate; (a, b) of its biases.
    """

    name: str
    a: tuple[sp.Rational, ...]
    b: tuple[sp.Rational, ...]
    c: sp.Rational
    output_bias: tuple[sp.Rational, sp.Rational] = field(default=(sp.S.Zero, sp.S.Zero))
    trained: str = "w"

    def __repr__(self) -> str:
        return self.name

    def layers(self, hidden: int | None = None) -> list[Layer]:
        """The layers of a network with so many hidden matrices; three exponents serve any number of them.

        Raises:
            ProgramError: the exponents are those of a network of another depth.
        """
        known = len(self.a) - 2
        count = known if hidden is None else hidden
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MANY:
            raise ProgramError(f"hidden is the number of hidden matrices, an integer of at least 0, got {hidden!r}")
        if count != known and known != 1:
            raise ProgramError(
                f"{self.name} has exponents for {known} hidden matrices, the network has {count}; "
                "give one for each layer 1 .. L+1, or three: input, hidden, readout"
            )
        middle = [1] * count if count != known else list(range(1, known + 1))
        rows = [0, *middle, len(self.a) - 1]
        roles = ["input", *["hidden"] * count, "readout"]
        pairs = enumerate(zip(rows, roles, strict=True), start=1)
        return [Layer(number, role, self.a[k], self.b[k], self.c) for number, (k, role) in pairs]

    def shift(self, theta: Exponent) -> Parametrization:
        """The same training with other exponents: a + θ, b − θ, c − 2θ.

        >>> mup().shift(HALF).r == mup().r
        True
        """
        theta = rational(theta, "θ")
        a, b = tuple(x + theta for x in self.a), tuple(x - theta for x in self.b)
        bias = (self.output_bias[0] + theta, self.output_bias[1] - theta)
        return Parametrization(f"{self.name} shifted by {theta}", a, b, self.c - 2 * theta, bias, self.trained)

    @property
    def keeps_changes(self) -> bool:
        """Whether the readout starts at n^(−1) or below, as feature learning needs; see ``Scaling``."""
        return bool(self.a[-1] + self.b[-1] >= 1)

    @property
    def r(self) -> sp.Rational:
        """Features move by n^(−r)."""
        return self.classify().r

    def classify(self, hidden: int | None = None) -> Classification:
        """Whether training is stable as the width grows, and whether it learns features.

        Args:
            hidden: number of hidden matrices; as many as exponents were given when None.

        >>> print(mup().classify())
        feature learning (r = 0)
          layer 1 (input): 2a + c + G = 0: its update moves the features by O(1)
          layer 2 (hidden): 2a + c + G - 1 = 0: its update moves the features by O(1)
        """
        layers = self.layers(hidden)
        moves = _moves(layers)
        r = min(moves.values())
        problems = tuple(_violations(layers, moves, r, self.output_bias))
        if problems:
            return Classification("unstable", r, problems)
        last = layers[-1]
        if last.init + r > 1 and last.rate > 1:
            why = (
                f"{last}: a + b + r = {last.init + r} and 2a + c = {last.rate}, both above 1: no step moves the outputs"
            )
            return Classification("trivial", r, (why,))
        deciding = [layer for layer, move in moves.items() if move == r]
        reasons = tuple(f"{x}: {_RULE[x.role]} = {r}: its update moves the features by {_power(-r)}" for x in deciding)
        return Classification("kernel regime" if r > 0 else "feature learning", r, reasons)

    def text(self) -> str:
        """The exponents of every layer, and the classification."""
        rows = [f"{self.name}: learning rate {_times(-self.c, 'η')}"]
        rows += [f"  {x}: W = {_times(-x.a, 'w')}, w ~ N(0, {_times(-2 * x.b, '1')})" for x in self.layers()]
        last = self.layers()[-1]
        rows.append(f"  G = min(a + b, 2a + c) of the readout = {min(last.init, last.rate)}: ∂f/∂x is of size n^(-G)")
        return "\n".join([*rows, str(self.classify())])


def _moves(layers: Sequence[Layer]) -> dict[Layer, sp.Rational]:
    """r_l of the layers before the readout."""
    last = layers[-1]
    gradient = min(last.init, last.rate)
    return {x: x.rate + gradient - (0 if x.role == "input" else 1) for x in layers[:-1]}


def _violations(
    layers: Sequence[Layer], moves: dict[Layer, sp.Rational], r: sp.Rational, output_bias: tuple[Any, Any]
) -> Iterator[str]:
    """Every condition of stability that fails, with the layer and the exponent."""
    *body, last = layers
    for x in body:
        needed = sp.S.Zero if x.role == "input" else HALF
        if x.init != needed:
            does = "grow" if x.init < needed else "vanish"
            yield f"{x}: a + b = {x.init}, must be {needed}: pre-activations {does} like {_power(needed - x.init)}"
    if last.init < HALF:
        yield f"{last}: a + b = {last.init}, must be at least 1/2: outputs start like {_power(HALF - last.init)}"
    if last.rate < 1:
        moved = _power(1 - last.rate)
        yield f"{last}: 2a + c = {last.rate}, must be at least 1: its update moves the outputs by {moved}"
    bound = max(sp.S.Zero, 1 - last.init)
    for x, move in moves.items():
        if move < bound:
            yield (
                f"{x}: {_RULE[x.role]} = {move}, must be at least {bound}: its update moves the features by "
                f"{_power(-move)} and, through them, the outputs by {_power(1 - last.init - move)}"
            )
    size, step = sum(output_bias), 2 * output_bias[0] + last.c
    if size < 0:
        yield f"output bias: a + b = {size}, must be at least 0: outputs start like {_power(-size)}"
    if step < 0:
        yield f"output bias: 2a + c = {step}, must be at least 0: its update moves the outputs by {_power(-step)}"


_RULE = {"input": "2a + c + G", "hidden": "2a + c + G - 1"}


def _power(exponent: Any) -> str:
    return "O(1)" if exponent == 0 else f"n^({exponent})" if exponent != 1 else "n"


def _times(exponent: Any, what: str) -> str:
    return what if exponent == 0 else _power(exponent) if what == "1" else f"{_power(exponent)}·{what}"


# ---- making them ---------------------------------------------------------------------------------------


def abc(
    a: Sequence[Exponent], b: Sequence[Exponent], c: Exponent = 0, output_bias: Sequence[Exponent] | None = None
) -> Parametrization:
    """An abc-parametrization W^l = σ_l n^(−a_l) w^l, w^l ~ N(0, n^(−2b_l)), learning rate η n^(−c).

    The input layer, whose fan-in d is not n, has a factor 1/√d besides.

    Args:
        a, b: rational exponents of the layers 1 .. L+1, or (input, hidden, readout) for any depth.
        c: of the learning rate.
        output_bias: (a, b) of output biases; (a_{L+1} − 1/2, b_{L+1}) when None, which makes it move as much as
            the readout does.

    Raises:
        ProgramError: exponents that are not rational, or not one for each layer.

    Reference:
        Yang & Hu 2021, Definition 3.1.

    >>> abc(a=[0, "1/2", "1/2"], b=[0, 0, 0]).classify().regime
    'kernel regime'
    """
    (xs, ys), rate = (_exponents(v, name) for v, name in ((a, "a"), (b, "b"))), rational(c, "c")
    if len(xs) != len(ys):
        raise ProgramError(f"a has {len(xs)} exponents and b {len(ys)}; give one of each for every layer")
    pair = (xs[-1] - HALF, ys[-1]) if output_bias is None else _exponents(output_bias, "output_bias")
    if len(pair) != 2:
        raise ProgramError(f"output_bias must be the pair (a, b), got {output_bias!r}")
    shown = (", ".join(map(str, v)) for v in (xs, ys))
    return Parametrization("abc(a = ({}), b = ({}), c = {})".format(*shown, rate), xs, ys, rate, (pair[0], pair[1]))


def ntk_parametrization() -> Parametrization:
    """W = σ w/√n behind the input layer, w ~ N(0, 1), learning rate η: the kernel regime, r = 1/2.

    >>> ntk_parametrization().classify().regime
    'kernel regime'
    """
    return replace(abc([0, HALF, HALF], [0, 0, 0]), name="ntk_parametrization()")


def standard(c: Exponent = 0, trained: str = "w") -> Parametrization:
    """W = σ w, w ~ N(0, 1/n), U = σ u/√d, learning rate η n^(−c): unstable below c = 1, a kernel regime from there.

    By default w is trained: its kernel has the factors σ² of the NTK parametrization, without layers that do not move.
    ``trained="W"`` trains W itself, W ~ N(0, σ²/n), as a framework does with layers initialised so: the rate of every
    layer is divided by σ², and each term of the kernel too.  Inputs are ξ/√d in both.

    Args:
        c: of the learning rate.
        trained: ``"w"`` or ``"W"``.

    Raises:
        ProgramError: neither of the two.

    >>> standard().classify().stable, standard(c=1).classify().regime, standard(1, trained="W")
    (False, 'kernel regime', standard(c=1, trained='W'))
    """
    if not isinstance(trained, str) or trained not in ("w", "W"):
        raise ProgramError(f"trained is 'w' (W = σ w, w is trained) or 'W' (W itself is trained), got {trained!r}")
    which = "" if trained == "w" else ", trained='W'"
    name = f"standard(c={rational(c, 'c')}{which})"
    return replace(abc([0, 0, 0], [0, HALF, HALF], c, output_bias=(0, 0)), name=name, trained=trained)


def mup() -> Parametrization:
    """Maximal update: every layer moves the features by Θ(1), r = 0.

    >>> mup().classify().regime
    'feature learning'
    """
    return replace(abc([-HALF, 0, HALF], [HALF, HALF, HALF]), name="mup()")


NAMED = {"ntk": ntk_parametrization, "standard": standard, "mup": mup}


def rational(value: Any, what: str) -> sp.Rational:
    """An exponent: an integer, a fraction, a decimal, or one written as text.

    Raises:
        ProgramError: not rational.
    """
    if isinstance(value, (str, Fraction)):
        try:
            value = sp.Rational(*Fraction(value).as_integer_ratio())
        except (ValueError, ZeroDivisionError):
            raise ProgramError(f"{what} must be a rational number such as 1/2, got {value!r}") from None
    result = exact(value, what)
    if not result.is_Rational:
        raise ProgramError(f"{what} must be a rational number such as 1/2, got {value!r}")
    return result


def _exponents(values: Any, what: str) -> tuple[sp.Rational, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) < 2:
        raise ProgramError(f"{what} must list the exponents of the layers, (input, hidden, readout), got {values!r}")
    return tuple(rational(v, f"{what}[{l}]") for l, v in enumerate(values, start=1))


# ---- what a training program needs of them --------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """The powers of n in a training run that is written with O(1) vectors; p stands for the factor n^(−p).

    Attributes:
        theta: changes x_t − x_0 are θ δx_t with θ = n^(−theta); 0 where they are kept whole.
        update: of every trained parameter.
        initial: what starts smaller than in the NTK parametrization's network: readouts, output biases.
        output: of the whole output.
        r: features move by n^(−r).
    """

    theta: sp.Rational
    update: dict[str, sp.Rational]
    initial: dict[str, sp.Rational]
    output: sp.Rational
    r: sp.Rational

    @property
    def keeps_changes(self) -> bool:
        """Whether vectors are x_t and not x_0 + θ δx_t, as r = 0 needs: the readout starts at 1/n or below."""
        return bool(self.theta == 0)

    @property
    def error(self) -> sp.Rational:
        """The p of |finite width − limit| ~ n^(−p): 1/2, unless something that vanishes in the limit does so slower.

        That is an update of a layer, or in the kernel regime the change of f of third order, n^(1 − A − 3r): the
        second is odd in the readout.
        """
        slow = [p for p in (self.theta and 3 * self.r - self.theta, *self.update.values()) if p > 0]
        return min([HALF, *slow])


def check_parametrization(chosen: Any) -> None:
    """Refuse what is no parametrization.

    Raises:
        ProgramError: saying what was given.
    """
    if not isinstance(chosen, Parametrization):
        raise ProgramError(f"parametrization must be tp.mup(), tp.standard(c), tp.abc(..), .., got {chosen!r}")


def scaling(trace: Trace, parametrization: Parametrization | None) -> Scaling:
    """The powers of n for a network's parameters, by name.

    With A = A_{L+1} < 1, θ = n^(A−1), and the powers are those by which updates are smaller than in the kernel
    regime with r = 1 − A; from A = 1 on, dx = n^G ∂f/∂x and the powers are r_l.

    Raises:
        AssumptionError: the parametrization is unstable or trivial, with the layer and the exponent.
    """
    if parametrization is None:
        return Scaling(HALF, dict.fromkeys(trace.trainable, sp.S.Zero), {}, sp.S.Zero, HALF)
    chosen = parametrization
    check_parametrization(chosen)
    layers = assign(trace, chosen)
    r = _check(trace, chosen).r
    last = next(x for x in layers.values() if x.role == "readout")
    theta = max(sp.S.Zero, 1 - last.init)
    gradient = min(last.init, last.rate)
    offset = {
        "input": gradient - theta,
        "hidden": gradient - 1 - theta,
        "readout": -1 if theta else -gradient,
        "output bias": 0,
    }
    update = {name: x.rate + offset[x.role] for name, x in layers.items()}
    start = HALF if theta else gradient
    offset_initial = {"readout": start, "output bias": sp.S.Zero}
    initial = {name: x.init - offset_initial[x.role] for name, x in layers.items() if x.role in offset_initial}
    return Scaling(theta, update, initial, sp.S.Zero if theta else gradient - 1, r)


def assign(trace: Trace, parametrization: Parametrization) -> dict[str, Layer]:
    """The layer that each trainable parameter of a network is, by name.

    Raises:
        ProgramError: an output that averages coordinates, or another number of hidden matrices than of exponents.
    """
    matrices = [name for name, p in trace.parameters.items() if p.kind == "matrix"]
    layers = parametrization.layers(len(matrices))
    result = {}
    for name, p in trace.parameters.items():
        number = {"embedding": 0, "bias": 0, "readout": -1}.get(p.kind)
        result[name] = layers[1 + matrices.index(name) if number is None else number]
    a, b = parametrization.output_bias
    for name, kind in trace.trainable.items():
        if kind == "output bias":
            result[name] = Layer(len(layers), kind, a, b, parametrization.c)
    if not all(r.trained for heads in trace.heads for f in heads for r in f.readouts):
        raise ProgramError(
            f"{parametrization.name} needs a readout that is trained; net.average has the fixed weights 1/√n, "
            "which is for the NTK parametrization only: use net.readout"
        )
    return result


def _check(trace: Trace, parametrization: Parametrization) -> Classification:
    verdict = parametrization.classify(sum(p.kind == "matrix" for p in trace.parameters.values()))
    if verdict.regime in ("unstable", "trivial"):
        advice = "see its .text(); tp.mup() learns features, tp.ntk_parametrization() is a kernel regime"
        raise AssumptionError("\n  ".join([f"{parametrization.name} is {verdict.regime}:", *verdict.reasons, advice]))
    return verdict
