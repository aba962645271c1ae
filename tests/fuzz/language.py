"""Networks and programs written in the language: layers, operators, hyperparameters, some of them odd."""

import numpy as np
import sympy as sp

import tensorprog as tp
from tests.fuzz.choices import Choices
from tests.fuzz.files import tried, use
from tests.fuzz.odd import anything

FUNCTIONS = [
    *(tp.relu, tp.tanh, tp.erf, tp.step, tp.sign, tp.elu, tp.exp, tp.cos, tp.sin, tp.gelu, tp.identity, tp.sigmoid),
    *(tp.hermite(3), tp.leaky_relu(0.1), tp.relu6, tp.monomial(2), tp.abstract("phi")),
]
STDS = [1, 2, 0, 0.5, sp.sqrt(2), sp.Symbol("sigma", positive=True), sp.Rational(1, 3), 1e-160, 1e160]


def std(c):
    return anything(c) if c.rarely(15) else c.among(STDS[:7]) if c.rarely(3) else c.among(STDS[:2])


def key(c, i):
    return anything(c) if c.rarely(30) else c.among([("W", i), f"W{i}", "W"])


def step(c, net, x, values, i):
    """One more vector."""
    h, g = c.among(values), c.among(values)
    how = c.below(9)
    if how < 2:
        return net.dense(key(c, i), h, std(c))
    if how < 4:
        return c.among(FUNCTIONS)(h)
    if how == 4:
        return c.among(
            [
                *(lambda: h + g, lambda: h * g, lambda: h - g, lambda: h / 2, lambda: h**2, lambda: 2 * h, lambda: -h),
                *(lambda: h / g, lambda: 2**h, lambda: abs(h), lambda: h**0.5, lambda: h @ g, lambda: h > g),
            ]
        )()
    if how == 5:
        return net.weight(key(c, i), std(c)).T @ h if c.below(2) else net.weight(key(c, i), std(c)) @ h
    if how == 6:
        return h + net.bias(("b", i), std(c))
    if how == 7:
        return tp.nonlin(lambda a, b: c.among([a * b, tp.tanh(a + b), a**3 + b, sp.Max(a, b), sp.Abs(a) + b]), h, g)
    if c.below(2):
        return h * anything(c)
    return c.among(FUNCTIONS)(anything(c)) if c.rarely(5) else net.embed(key(c, i), x, std(c))


def build(given):
    """The network of a list of choices, which every trace takes again."""

    def odd(net, x):
        c = Choices(given=given)
        values = [net.embed("U", x, std(c))]
        for i in range(c.below(6)):
            values.append(step(c, net, x, values, i))
        h = values[-1]
        read = [lambda: net.readout("V", h, std(c))] * 2 + [lambda: net.readout("V", h, bias=std(c))]
        return c.among([*read, lambda: net.average(h), lambda: h])()

    return tp.network(odd)()


def network_case(c):
    given = [c.below(10**6) for _ in range(40)]
    asked = c.among(["text", "numbers", "verify", "draw", "recursion", "latex", "train", "empirical", "gram"])
    X = np.array([[1.0, 0.5], [-0.3, 2.0]])

    def run():
        net = build(given)
        program = tried(lambda: net.trace([None]).program)
        values = dict.fromkeys(net.symbols, 1.3) if program is not None else {}
        kernel = (tp.ntk if given[0] % 2 else tp.nngp)(net)
        {
            "text": kernel.text, "latex": kernel.latex, "numbers": lambda: kernel(X, values=values),
            "gram": lambda: kernel.gram(X, values=values), "draw": lambda: tp.draw(net, backprop=bool(given[1] % 2)),
            "recursion": lambda: kernel.recursion().text(), "empirical": lambda: tp.empirical_ntk(net, X, width=8),
            "train": lambda: tp.unroll(net, 2).certify(), "verify": lambda: tp.verify(net, X, (8, 16, 32), 2),
        }[asked]()  # fmt: skip

    return f"{asked} of build({given})", run


def program_case(c):
    given = [c.below(10**6) for _ in range(30)]

    def run():
        d = Choices(given=given)
        p, q = tp.Program(), tp.Program()
        W, x, y = p.matrix(None, std(d)), p.vector(None, std(d)), p.vector("y", 1, std(d))
        s, foreign, values = p.scalar("s", std(d)), q.vector("z"), [x, y]
        for _ in range(d.below(7)):
            a, b = d.among(values), d.among([*values, *values, s, foreign]) if not d.rarely(8) else anything(d)
            tried(lambda a=a, b=b: values.append(one(d, p, W, a, b)))
        if not d.rarely(3):
            use(p)
        else:
            limit = tp.limit(p, d.among(["sampling", "quadrature", "linear", "auto"]))
            tried(lambda: limit.cov(values[-1], values[-1]))

    return f"program of {given}", run


def one(c, p, W, a, b):
    """One more vector of a program."""
    value = c.among(
        [
            *(lambda: W @ a, lambda: W.T @ a, lambda: c.among(FUNCTIONS)(a), lambda: a + b, lambda: a * b),
            *(lambda: a - b, lambda: b * a, lambda: a / b, lambda: a**b, lambda: b**a, lambda: W @ b, lambda: a @ b),
            *(lambda: c.among(FUNCTIONS)(b), lambda: tp.nonlin(lambda u: tp.tanh(u) * 2, a)),
            *(lambda: a * tp.moment(lambda u: u**2, a), lambda: tp.nonlin(lambda u, v: u * v**2, a, b)),
            *(
                lambda: tp.nonlin(lambda u: b, a),
                lambda: p.vector(b, 1),
                lambda: p.gaussian("g h", [[1, b], [b, 1]])[0],
            ),
        ]
    )()
    if not isinstance(value, tp.Vec):
        raise tp.ProgramError("no vector")
    return value
