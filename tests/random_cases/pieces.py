"""Everything the language can say, as a table: one row for each way to write a line of a network or program.

A row is a template of Python text: ``{0}``, ``{1}`` stand for names of earlier variables, ``{a}``, ``{b}`` for
numbers.  The text that is printed is the text that is run, so what is seen is what was checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import tensorprog as tp
from tensorprog.dsl.network import Net

WILD = 50.0  # the degree of what grows like an exponential of a Gaussian
HIGHEST = 4.0  # the degree up to which polynomials are made


def most(*degrees: float) -> float:
    return max(degrees)


def total(*degrees: float) -> float:
    return min(WILD, sum(degrees))


def bounded(*degrees: float) -> float:
    return 0.0


def exponential(degree: float) -> float:
    """Of exp: what is bounded stays so, what is Gaussian becomes wild, and anything larger may have no moments."""
    return 0.0 if degree == 0 else WILD if degree <= 1 else float("inf")


def times(power: float) -> Callable[..., float]:
    return lambda degree, *_: float("inf") if degree == WILD and power > 1 else degree * power


LINEAR = {
    "-{0}",
    "+{0}",
    *(f"{a} {op} {b}" for op in "+-" for a, b in (("{0}", "{1}"), ("{1}", "{0}"), ("{0}", "{a}"), ("{a}", "{0}"))),
    "{0} * {a}",
    "{a} * {0}",
    "{0} / {a}",
}
HARD = "/ (", ") ** (", ") ** 0", "sp.exp", "sp.log", "sp.atan", '"wave"', "sp.Max(u, v"


@dataclass(frozen=True)
class Piece:
    """One way to write a line.

    Attributes:
        text: the template.
        args: the kinds of its variables: v vector, s scalar, m matrix, x datum.
        result: the kind of what it makes; f is an output.
        numbers: the pools its numbers are drawn from, by place.
        covers: the public names that it shows.
        degree: how fast the result grows, from how fast the vectors do.
        inline: the same on expressions, where it is not the same text; None where it is no function of coordinates.
        commuted: a template with its operands in another order.
        place: "net", "program", or both.
        weight: how often it is taken.
        keyed: whether it names a parameter, as ``{key}`` with its ``{std}``.
    """

    text: str
    args: str
    result: str = "v"
    numbers: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    degree: Callable[..., float] = most
    inline: str | None = ""
    commuted: str | None = None
    place: str = "net program"
    weight: float = 1.0
    keyed: str = ""

    @property
    def linear(self) -> bool:
        """Whether the result is affine in its vectors."""
        return self.text in LINEAR or self.text.startswith(("{0} + net.bias", "tp.identity"))

    @property
    def hard(self) -> bool:
        """Whether expectations of it take quadrature without a series."""
        return any(part in self.text for part in HARD)

    @property
    def expression(self) -> str | None:
        """The template on expressions of coordinates; None where there is none."""
        return self.text if self.inline == "" else self.inline


def operators() -> list[Piece]:
    """+ - * / ** and unary minus, of vectors, scalars and numbers on either side."""
    c, v, s = ("any",), "Vec.", "Scal."
    rows = [
        Piece("{0} + {a}", "v", "v", c, (v + "__add__",), commuted="{a} + {0}", weight=3),
        Piece("{a} + {0}", "v", "v", c, (v + "__radd__",), commuted="{0} + {a}"),
        Piece("{0} - {a}", "v", "v", c, (v + "__sub__",)),
        Piece("{a} - {0}", "v", "v", c, (v + "__rsub__",), commuted="-{0} + {a}"),
        Piece("{0} * {a}", "v", "v", c, (v + "__mul__",), commuted="{a} * {0}"),
        Piece("{a} * {0}", "v", "v", c, (v + "__rmul__",), commuted="{0} * {a}"),
        Piece("{0} / {a}", "v", "v", ("nonzero",), (v + "__truediv__",)),
        Piece("{a} / (2 + tp.tanh({0}))", "v", "v", c, (v + "__rtruediv__",), bounded, weight=0.2),
        Piece("{a} / (1 + {0} ** 2)", "v", "v", c, (v + "__rtruediv__",), bounded, weight=0.1),
        Piece("{0} ** 2", "v", "v", (), (v + "__pow__",), times(2), commuted="{0} * {0}"),
        Piece("{0} ** 3", "v", "v", (), (v + "__pow__",), times(3), weight=0.5),
        Piece("(1 + {0} ** 2) ** 0.5", "v", "v", (), (v + "__pow__",), weight=0.15),
        Piece("{a} ** {0}", "v", "v", ("base",), (v + "__rpow__",), exponential, weight=0.5),
        Piece("(1 + {0} ** 2) ** (1 / (1 + {1} ** 2))", "vs", "v", (), (v + "__pow__",), times(2), weight=2),
        Piece("-{0}", "v", "v", (), (v + "__neg__",)),
        Piece("+{0}", "v", "v", (), (v + "__pos__",), weight=0.3),
        Piece("abs({0})", "v", "v", (), (v + "__abs__",)),
        Piece("{0} + {1}", "vv", "v", (), (v + "__add__",), commuted="{1} + {0}", weight=4),
        Piece("{0} - {1}", "vv", "v", (), (v + "__sub__",), commuted="-{1} + {0}", weight=2),
        Piece("{0} * {1}", "vv", "v", (), (v + "__mul__",), total, commuted="{1} * {0}", weight=3),
        Piece("{0} / (2 + tp.tanh({1}))", "vv", "v", (), (v + "__truediv__",), lambda a, b: a, weight=0.15),
        Piece("{0} + {1}", "vs", "v", (), (v + "__add__",), lambda a: a, commuted="{1} + {0}"),
        Piece("{1} + {0}", "vs", "v", (), (s + "__add__",), lambda a: a, commuted="{0} + {1}"),
        Piece("{0} - {1}", "vs", "v", (), (v + "__sub__",), lambda a: a),
        Piece("{1} - {0}", "vs", "v", (), (s + "__sub__",), lambda a: a),
        Piece("{0} * {1}", "vs", "v", (), (v + "__mul__",), lambda a: a, commuted="{1} * {0}", weight=2),
        Piece("{1} * {0}", "vs", "v", (), (s + "__mul__",), lambda a: a, commuted="{0} * {1}"),
        Piece("{0} / (1 + {1} ** 2)", "vs", "v", (), (v + "__truediv__",), lambda a: a),
        Piece("{1} / (2 + tp.erf({0}))", "vs", "v", (), (s + "__truediv__",), bounded, weight=0.6),
        Piece("{0} + {a}", "s", "s", c, (s + "__add__",), commuted="{a} + {0}"),
        Piece("{a} + {0}", "s", "s", c, (s + "__radd__",), commuted="{0} + {a}"),
        Piece("{0} - {a}", "s", "s", c, (s + "__sub__",)),
        Piece("{a} - {0}", "s", "s", c, (s + "__rsub__",)),
        Piece("{0} * {a}", "s", "s", c, (s + "__mul__",), commuted="{a} * {0}"),
        Piece("{a} * {0}", "s", "s", c, (s + "__rmul__",), commuted="{0} * {a}"),
        Piece("{0} / {a}", "s", "s", ("nonzero",), (s + "__truediv__",)),
        Piece("{a} / (1 + {0} ** 2)", "s", "s", c, (s + "__rtruediv__", s + "__pow__")),
        Piece("(0.1 + {0} ** 2) ** 0.5", "s", "s", (), (s + "__pow__",)),
        Piece("{a} ** (1 / (1 + {0} ** 2))", "s", "s", ("base",), (s + "__rpow__",)),
        Piece("-{0}", "s", "s", (), (s + "__neg__",)),
        Piece("+{0}", "s", "s", (), (s + "__pos__",), weight=0.3),
        Piece("abs({0})", "s", "s", (), (s + "__abs__",)),
        Piece("tp.tanh({0})", "s", "s", (), ("tp.tanh",), weight=0.5),
        Piece("tp.relu({0})", "s", "s", (), ("tp.relu",), weight=0.5),
        Piece("{0} - {1}", "ss", "s", (), (s + "__sub__",)),
        Piece("{0} / (1 + {1} ** 2)", "ss", "s", (), (s + "__truediv__",)),
        Piece("(0.1 + {0} ** 2) ** (1 / (1 + {1} ** 2))", "ss", "s", (), (s + "__pow__",)),
        Piece("{0} * {1}", "ss", "s", (), (s + "__mul__",), commuted="{1} * {0}"),
        Piece("{0} + {1}", "ss", "s", (), (s + "__add__",), commuted="{1} + {0}"),
    ]
    return rows


BOUNDED = {"step", "sign", "erf", "tanh", "sigmoid", "sin", "cos", "gauss", "hard_tanh", "relu6"}
OFTEN = {"relu": 8, "erf": 4, "tanh": 3, "step": 2, "sin": 2, "abs": 2, "sigmoid": 2}
SELDOM = {"silu": 0.5, "softplus": 0.5, "selu": 0.7, "elu": 0.7, "relu6": 0.5, "hard_tanh": 0.5}


def nonlinearities() -> list[Piece]:
    """Every named nonlinearity and every function that makes one."""
    rows = []
    for name in tp.NONLINEARITIES:
        grows = bounded if name in BOUNDED else exponential if name == "exp" else most
        weight = OFTEN.get(name, SELDOM.get(name, 1.0))
        if name != "leaky_relu":
            rows.append(Piece(f"tp.{name}({{0}})", "v", "v", (), (f"tp.{name}",), grows, weight=weight))
    sigmoid = 'tp.declare("hard_sigmoid", kinks=(-3, 3), pieces=(lambda x: 0, lambda x: x / 6 + 0.5, lambda x: 1))'
    shrink = 'tp.declare("shrunk", kinks=(-1, 1), pieces=(lambda x: x + 1, lambda x: 0, lambda x: x - 1), parity=-1)'
    return [
        *rows,
        Piece("tp.leaky_relu({a})({0})", "v", "v", ("any",), ("tp.leaky_relu",), weight=2),
        Piece("tp.polynomial({a}, {b}, 0.5)({0})", "v", "v", ("any", "any"), ("tp.polynomial",), times(2)),
        Piece("tp.monomial({a})({0})", "v", "v", ("degree",), ("tp.monomial",), times(3)),
        Piece("tp.hermite({a})({0})", "v", "v", ("degree",), ("tp.hermite",), times(3)),
        Piece("tp.hermite({a}, normalised=True)({0})", "v", "v", ("degree",), ("tp.hermite",), times(3), weight=0.5),
        Piece(sigmoid + "({0})", "v", "v", (), ("tp.declare",), bounded, weight=0.5),
        Piece(shrink + "({0})", "v", "v", (), ("tp.declare",), weight=0.5),
        Piece('tp.declare("wave", lambda x: sp.sin(x) + x / 2)({0})', "v", "v", (), ("tp.declare",), weight=0.5),
    ]


def _nonlin(body: str, degree: Callable[..., float], weight: float, numbers: tuple[str, ...] = (), scalars: int = 0,
            commuted: str | None = None) -> Piece:  # fmt: skip
    """A row for ``tp.nonlin`` of a body in a, b, c (vectors) and s, t (scalars); its numbers are p and q."""
    vectors = [v for v in "uvw" if f"{v}" in _letters(body)] or ["u"]
    params = ["s", "t"][:scalars]
    lambda_ = f"lambda {', '.join([*vectors, *params])}: {body}"
    places = [f"{{{i}}}" for i in range(len(vectors) + len(params))]
    given = f", params=[{', '.join(places[len(vectors) :])}]" if params else ""
    text = f"tp.nonlin({lambda_}, {', '.join(places[: len(vectors)])}{given})"
    inline = f"({lambda_})({', '.join(places)})"
    kinds = "v" * len(vectors) + "s" * scalars
    return Piece(text, kinds, "v", numbers, ("tp.nonlin",), degree, inline, weight=weight)


def _letters(body: str) -> set[str]:
    """The names of one letter in a text."""
    words = "".join(ch if ch.isalnum() or ch in "._" else " " for ch in body).split()
    return {word for word in words if len(word) == 1}


def functions() -> list[Piece]:
    """``tp.nonlin`` of lambdas, with functions of sympy and of tensorprog, of several vectors and with scalars."""
    c = ("any",)
    first = lambda *degrees: degrees[0]  # noqa: E731
    return [
        _nonlin("sp.tanh(u) + {a}", bounded, 1, c),
        _nonlin("sp.Max(u, {a})", most, 1, c),
        _nonlin("sp.Min(u, {a})", most, 1, c),
        _nonlin("sp.exp(-u**2) * u", bounded, 0.5),
        _nonlin("sp.exp(-u**2) * sp.sin(u)", bounded, 0.1),
        _nonlin("sp.Abs(u) - {a}", most, 1, c),
        _nonlin("u * sp.sign(u - {a})", most, 0.5, c),
        _nonlin("sp.Heaviside(u, 0) * u**2", times(2), 0.5),
        _nonlin("sp.cos({a} * u)", bounded, 1, ("small",)),
        _nonlin("sp.log(1 + u**2)", bounded, 0.1),
        _nonlin("sp.atan(u)", bounded, 0.1),
        _nonlin("tp.relu(u) ** 2 + {a} * u", times(2), 1, c),
        _nonlin("{a}", bounded, 0.3, c),
        _nonlin("u * sp.tanh(v)", first, 0.5),
        _nonlin("sp.Max(u, v)", most, 1),
        _nonlin("u * v + {a} * u", total, 1, c),
        _nonlin("sp.sin(u + v)", bounded, 1),
        _nonlin("tp.relu(u) * tp.step(v)", first, 1),
        _nonlin("tp.erf(u) * v", lambda a, b: b, 1),
        _nonlin("sp.Max(u, v, w)", most, 0.1),
        _nonlin("sp.erf(u) + s", lambda a: 0.0, 1, scalars=1),
        _nonlin("tp.relu(u - s)", lambda a: a, 1, scalars=1),
        _nonlin("(u - s) / sp.sqrt(0.1 + t**2)", lambda a: a, 1, scalars=2),
        _nonlin("u * s + v * t", most, 1, scalars=2),
    ]


def moments() -> list[Piece]:
    """``tp.moment``, with and without scalars."""
    rows = [
        ("lambda u: u", "v", ""),
        ("lambda u: u**2", "v", ""),
        ("lambda u: tp.relu(u)", "v", ""),
        ("lambda u: sp.Abs(u) + 0.5", "v", ""),
        ("lambda u, v: u * v", "vv", ""),
        ("lambda u, v: sp.erf(u) * v", "vv", ""),
        ("lambda u, s: (u - s)**2", "v", "s"),
        ("lambda u, s: u * tp.sin(u) + s", "v", "s"),
    ]
    found = []
    for body, vectors, scalars in rows:
        places = [f"{{{i}}}" for i in range(len(vectors + scalars))]
        given = f", params=[{', '.join(places[len(vectors) :])}]" if scalars else ""
        text = f"tp.moment({body}, {', '.join(places[: len(vectors)])}{given})"
        found.append(Piece(text, vectors + scalars, "s", (), ("tp.moment",), bounded, None, weight=0.6))
    return found


def parameters() -> list[Piece]:
    """The methods of ``net``, and those of a program that make its initial variables."""
    net, program = {"place": "net", "inline": None}, {"place": "program", "inline": None}
    one = lambda *_: 1.0  # noqa: E731
    return [
        Piece("net.embed({key}, {0}, std={std})", "x", "v", (), ("net.embed(std)",), one, keyed="U", **net, weight=3),
        Piece("net.embed({key}, {0})", "x", "v", (), ("net.embed",), one, keyed="E", **net),
        Piece("net.weight({key}, std={std})", "", "m", (), ("net.weight(std)",), keyed="W", **net, weight=4),
        Piece("net.weight({key})", "", "m", (), ("net.weight",), keyed="M", **net),
        Piece("net.dense({key}, {0}, std={std})", "v", "v", (), ("net.dense(std)",), one, keyed="W", **net, weight=10),
        Piece("net.dense({key}, {0})", "v", "v", (), ("net.dense",), one, keyed="M", **net, weight=2),
        Piece("net.low_rank({key}, {0}, std={std})", "v", "v", (), ("net.low_rank", "net.low_rank(std)"), one,
              keyed="A", **net, weight=0.5),
        Piece("net.low_rank({key}, {0}, rank=1)", "v", "v", (), ("net.low_rank(rank)",), one, keyed="C", **net,
              weight=0.3),
        Piece("{0} + net.bias({key}, std={std})", "v", "v", (), ("net.bias(std)",), most, keyed="b", **net, weight=4),
        Piece("net.bias({key})", "", "v", (), ("net.bias",), one, keyed="c", **net),
        Piece("net.state({key}, std={std})", "", "v", (), ("net.state(std)",), one, keyed="m", **net, weight=2),
        Piece("net.state({key}) + {a}", "", "v", ("any",), ("net.state",), one, keyed="n", **net),
        Piece("net.dropout({0}, 0.3)", "v", "v", (), ("net.dropout",), most, **net),
        Piece("{0} @ {1}", "mv", "v", (), ("Mat.__matmul__",), one, inline=None, weight=6),
        Piece("{0}.T @ {1}", "mv", "v", (), ("Mat.__matmul__", "Mat.T"), one, inline=None, weight=5),
        Piece("{0}.apply({1})", "mv", "v", (), ("Mat.apply",), one, inline=None, weight=0.5),
        Piece("p.matrix({key}, variance={std})", "", "m", (), ("p.matrix(variance)",), keyed="B", **program),
        Piece("p.matrix()", "", "m", (), ("p.matrix",), **program),
        Piece("p.vector({key}, variance={std}, mean={a})", "", "v", ("any",), ("p.vector(variance)", "p.vector(mean)"),
              one, keyed="y", **program),
        Piece("p.vector()", "", "v", (), ("p.vector",), one, **program),
        Piece("p.gaussian({key}, {a}, {b})", "", "vv", ("covariance", "means"), ("p.gaussian", "p.gaussian(mean)"),
              one, keyed="g", **program),
        Piece("p.scalar({key}, value={a})", "", "s", ("any",), ("p.scalar(value)", "p.scalar"), keyed="t", **program),
    ]  # fmt: skip


def starts() -> list[Piece]:
    """Parameters that start at 0, the identity or a number, and train."""
    if "initial" not in inspect.signature(Net.embed).parameters:
        return []
    net = {"place": "net", "inline": None, "weight": 0.5}
    one = lambda *_: 1.0  # noqa: E731
    rows = [
        ("embed", "K", "x", "{0}, ", "0", one),
        ("weight", "I", "", "", '"identity"', most),
        ("dense", "J", "v", "{0}, ", '"identity"', most),
        ("dense", "L", "v", "{0}, ", "0", one),
        ("low_rank", "A", "v", "{0}, ", "0", one),
        ("readout", "O", "v", "{0}, ", "0", most),
    ]
    kinds = {"weight": "m", "readout": "f"}
    made = [
        Piece(f"net.{name}({{key}}, {of}std={{std}}, initial={start})", args, kinds.get(name, "v"), (),
              (f"net.{name}(initial)",), degree, keyed=stem, **net)
        for name, stem, args, of, start, degree in rows
    ]  # fmt: skip
    bias = "{0} + net.bias({key}, std={std}, initial={a})"
    return [*made, Piece(bias, "v", "v", ("any",), ("net.bias(initial)",), keyed="a", **net)]


def outputs() -> list[Piece]:
    """What a network returns."""
    net = {"place": "net", "inline": None, "result": "f"}
    return [
        Piece("net.readout({key}, {0})", "v", covers=("net.readout",), keyed="R", weight=2, **net),
        Piece("net.readout({key}, {0}, std={std})", "v", covers=("net.readout(std)",), keyed="V", weight=4, **net),
        Piece("net.readout({key}, {0}, std={std}, bias={a})", "v", numbers=("any",), covers=("net.readout(bias)",),
              keyed="V", **net),
        Piece("net.readout({key}, {0}, std={std}) + net.readout({key}, {1}, std={std})", "vv",
              covers=("Output.__add__",), keyed="V", **net),
        Piece("sum([net.readout({key}, {0}, std={std}), net.average({1})])", "vv", covers=("Output.__radd__",),
              keyed="V", weight=0.5, **net),
        Piece("{a} * net.readout({key}, {0}, std={std}) - net.readout({key}, {1}, std={std}) / {b}", "vv",
              numbers=("any", "nonzero"), covers=("Output.__rmul__", "Output.__sub__", "Output.__truediv__"), keyed="V",
              **net),
        Piece("0 - net.readout({key}, {0}, std={std}, bias={a}) * {b}", "v", numbers=("any", "any"),
              covers=("Output.__rsub__", "Output.__mul__"), keyed="V", weight=0.5, **net),
        Piece("-net.readout({key}, {0}, std={std})", "v", covers=("Output.__neg__",), keyed="V", weight=0.3, **net),
        Piece("net.average({0})", "v", covers=("net.average",), weight=0.7, **net),
        Piece("net.average({0}, scale={a})", "v", numbers=("any",), covers=("net.average(scale)",), weight=0.3, **net),
    ]  # fmt: skip


TABLE: tuple[Piece, ...] = (
    *operators(),
    *nonlinearities(),
    *functions(),
    *moments(),
    *parameters(),
    *starts(),
    *outputs(),
)
BY_TEXT = {(p.text, p.args): p for p in TABLE}

POOLS: dict[str, tuple[tuple[str, float], ...]] = {
    "any": (("0.2", 3), ("0.5", 3), ("2", 2), ("-1", 2), ("1", 2), ("-0.7", 2), ("sp.Rational(1, 3)", 1),
            ("sp.sqrt(2)", 1), ("np.float64(0.3)", 1), ("c", 2), ("0", 0.4), ("1e-8", 0.3), ("1e6", 0.3)),
    "nonzero": (("2", 2), ("0.5", 2), ("-1.5", 2), ("sp.sqrt(3)", 1), ("c", 1), ("1e6", 0.2), ("1e-3", 0.2)),
    "small": (("2", 2), ("0.5", 2), ("-1.5", 2), ("c", 1)),
    "base": (("2", 2), ("0.5", 2), ("1.5", 1), ("c", 1)),
    "degree": (("2", 2), ("3", 1), ("1", 1)),
    "std": (("1", 4), ("0.8", 3), ("1.3", 3), ("2**0.5", 3), ("c", 1), ("d", 1), ("0", 0.5), ("1e-8", 0.3),
            ("1e6", 0.3)),
    "covariance": (("[[1, 0.5], [0.5, 1.5]]", 2), ("[[1, -1], [-1, 1]]", 1), ("[[1, 0], [0, 2]]", 1),
                   ("[[1, 1], [1, 1]]", 0.5), ("[[1, c / 4], [c / 4, 2]]", 1), ("[[1, 0.3], [0.3, 0.09]]", 0.5),
                   ("[[0, 0], [0, 1]]", 0.4)),
    "means": (("0", 3), ("[0, 0.25]", 2), ("-0.5", 1), ("[c, 0]", 1)),
}  # fmt: skip
SYMBOLS = {"c": 0.7, "d": 1.1}
