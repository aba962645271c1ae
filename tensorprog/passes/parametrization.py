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
from typing import Any, Literal, TypeAlias

import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.errors import ProgramError, nearest, shortly
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
        a, b, c, output_bias: of the layers, from the input to the readout; of the learning rate, one for all layers or
            one for each; (a, b) of the output's biases.
    """

    name: str
    a: tuple[sp.Rational, ...]
    b: tuple[sp.Rational, ...]
    c: sp.Rational | tuple[sp.Rational, ...]
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
            raise ProgramError(
                f"hidden is the number of hidden matrices, an integer of at least 0, got {shortly(hidden)}"
            )
        if count != known and known != 1:
            raise ProgramError(
                f"{self.name} has exponents for {known} hidden matrices, the network has {count}; "
                "give one for each layer 1 .. L+1, or three: input, hidden, readout"
            )
        middle = [1] * count if count != known else list(range(1, known + 1))
        rows = [0, *middle, len(self.a) - 1]
        roles = ["input", *["hidden"] * count, "readout"]
        pairs = enumerate(zip(rows, roles, strict=True), start=1)
        return [Layer(number, role, self.a[k], self.b[k], self.rates[k]) for number, (k, role) in pairs]

    @property
    def rates(self) -> tuple[sp.Rational, ...]:
        """The exponent c of every layer."""
        return self.c if isinstance(self.c, tuple) else (self.c,) * len(self.a)

    def shift(self, theta: Exponent) -> Parametrization:
        """The same training with other exponents: a + θ, b − θ, c − 2θ.

        >>> mup().shift(HALF).r == mup().r
        True
        """
        theta = rational(theta, "θ")
        a, b = tuple(x + theta for x in self.a), tuple(x - theta for x in self.b)
        bias = (self.output_bias[0] + theta, self.output_bias[1] - theta)
        c = tuple(x - 2 * theta for x in self.c) if isinstance(self.c, tuple) else self.c - 2 * theta
        return Parametrization(f"{self.name} shifted by {theta}", a, b, c, bias, self.trained)

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
        own = isinstance(self.c, tuple)
        rows = [f"{self.name}: learning rate {'of every layer' if own else _times(-self.rates[0], 'η')}"]
        rows += [
            f"  {x}: W = {_times(-x.a, 'w')}, w ~ N(0, {_times(-2 * x.b, '1')})"
            + (f", learning rate {_times(-x.c, 'η')}" if own else "")
            for x in self.layers()
        ]
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
    a: Sequence[Exponent],
    b: Sequence[Exponent],
    c: Exponent | Sequence[Exponent] = 0,
    output_bias: Sequence[Exponent] | None = None,
) -> Parametrization:
    """An abc-parametrization W^l = σ_l n^(−a_l) w^l, w^l ~ N(0, n^(−2b_l)), learning rate η n^(−c_l).

    The input layer, whose fan-in d is not n, has a factor 1/√d besides.

    Args:
        a, b: rational exponents of the layers 1 .. L+1, or (input, hidden, readout) for any depth.
        c: of the learning rate: one for all layers, or one for each.
        output_bias: (a, b) of output biases; (a_{L+1} − 1/2, b_{L+1}) when None, which makes it move as much as
            the readout does.

    Raises:
        ProgramError: exponents that are not rational, or not one for each layer.

    Reference:
        Yang & Hu 2021, Definition 3.1.

    >>> abc(a=[0, "1/2", "1/2"], b=[0, 0, 0]).classify().regime
    'kernel regime'
    """
    xs, ys = (_exponents(v, name) for v, name in ((a, "a"), (b, "b")))
    rate = _exponents(c, "c") if _is_list(c) else rational(c, "c")
    if len(xs) != len(ys):
        raise ProgramError(f"a has {len(xs)} exponents and b {len(ys)}; give one of each for every layer")
    if isinstance(rate, tuple) and len(rate) != len(xs):
        raise ProgramError(f"a has {len(xs)} exponents and c {len(rate)}; give one c for all layers, or one for each")
    pair = (xs[-1] - HALF, ys[-1]) if output_bias is None else _exponents(output_bias, "output_bias")
    if len(pair) != 2:
        raise ProgramError(f"output_bias must be the pair (a, b), got {shortly(output_bias)}")
    name = f"abc(a = {_shown(xs)}, b = {_shown(ys)}, c = {_shown(rate)})"
    return Parametrization(name, xs, ys, rate, (pair[0], pair[1]))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _shown(exponents: Any) -> str:
    return f"({', '.join(map(str, exponents))})" if isinstance(exponents, tuple) else str(exponents)


def ntk_parametrization() -> Parametrization:
    """W = σ w/√n behind the input layer, w ~ N(0, 1), learning rate η: the kernel regime, r = 1/2.

    >>> ntk_parametrization().classify().regime
    'kernel regime'
    """
    return replace(abc([0, HALF, HALF], [0, 0, 0]), name="ntk_parametrization()")


def standard(c: Exponent | Sequence[Exponent] = 0, trained: str = "w") -> Parametrization:
    """W = σ w, w ~ N(0, 1/n), U = σ u/√d, learning rate η n^(−c): unstable below c = 1, a kernel regime from there.

    By default w is trained: its kernel has the factors σ² of the NTK parametrization, without layers that do not move.
    ``trained="W"`` trains W itself, W ~ N(0, σ²/n), as autograd does on a framework's layers: the rate of every layer
    is divided by σ², and each term of the kernel too.  Inputs are ξ/√d in both.

    With one learning rate for all layers, autograd's kernel Σ J Jᵀ grows like n: terms of hidden matrices and readouts
    are n times, those of embeddings and biases once what the NTK's are, over σ².  At the rate η/n (c = 1) it is finite,
    and embeddings and biases stand still in the limit.  ``parametrization="standard"`` is c = (0, 1, 1),
    ``trained="W"``: the rate η/(number of inputs of a weight), η for biases, at which every layer moves.

    Args:
        c: of the learning rate, one or (input, hidden, readout).
        trained: ``"w"`` or ``"W"``.

    Raises:
        ProgramError: neither of the two.

    >>> standard().classify().stable, standard(c=1).classify().regime, standard(1, trained="W")
    (False, 'kernel regime', standard(c=1, trained='W'))
    """
    if not isinstance(trained, str) or trained not in ("w", "W"):
        raise ProgramError(
            f"trained is 'w' (W = σ w, w is trained) or 'W' (W itself is trained), got {shortly(trained)}"
        )
    which = "" if trained == "w" else ", trained='W'"
    own = _is_list(c)  # biases of the output have one input, as those of layer 1
    found = abc([0, 0, 0], [0, HALF, HALF], c, output_bias=(-HALF, HALF) if own else (0, 0))
    return replace(found, name=f"standard(c={_shown(found.c)}{which})", trained=trained)


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
            raise ProgramError(f"{what} must be a rational number such as 1/2, got {shortly(value)}") from None
    result = exact(value, what)
    if not result.is_Rational:
        raise ProgramError(f"{what} must be a rational number such as 1/2, got {shortly(value)}")
    return result


def _exponents(values: Any, what: str) -> tuple[sp.Rational, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) < 2:
        raise ProgramError(
            f"{what} must list the exponents of the layers, (input, hidden, readout), got {shortly(values)}"
        )
    return tuple(rational(v, f"{what}[{l}]") for l, v in enumerate(values, start=1))


# ---- what users give ------------------------------------------------------------------------------------


BY_NAME = {"ntk": None, "standard": standard((0, 1, 1), "W"), "mup": mup()}  # what ``parametrization=`` calls so


ParametrizationChoice: TypeAlias = 'Parametrization | Literal["ntk", "standard", "mup"]'


def chosen_parametrization(given: Any) -> Parametrization | None:
    """What ``parametrization=`` means: one of these objects or its name; None for that of the NTK.

    Raises:
        ProgramError: saying what was given.
    """
    if isinstance(given, str):
        if given not in BY_NAME:
            raise ProgramError(
                f"unknown parametrization {shortly(given)}; {nearest(given, BY_NAME)}; or give tp.abc(..)"
            )
        return BY_NAME[given]
    if given is not None:
        check_parametrization(given)
    return given  # type: ignore[no-any-return]


def check_parametrization(chosen: Any) -> None:
    """Refuse what is no parametrization.

    Raises:
        ProgramError: saying what was given.
    """
    if not isinstance(chosen, Parametrization):
        names = ", ".join(map(repr, BY_NAME))
        raise ProgramError(
            f"parametrization must be tp.mup(), tp.standard(c), tp.abc(..), .. or one of {names}, got {shortly(chosen)}"
        )
