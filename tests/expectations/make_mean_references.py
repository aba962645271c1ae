"""Reference values of E f(u) g(v) with means, computed without the package, into references_means.npz.

Run ``python tests/expectations/make_mean_references.py`` (some minutes; needs python-flint): rigorous integrals over u
(ball arithmetic, 40 digits) of f(u) times the exact conditional expectation of g(v), for the covariances and means as
rounded to float64.  Covariances as in ``make_references.py``; means within two standard deviations, or within ±2.
"""

from itertools import pairwise
from pathlib import Path

import mpmath as mp
import numpy as np

HERE = Path(__file__).parent
DRAWN, COUNT, SEED = 400, 250, 5  # laws drawn, and how many of them are used
PAIRS = """
    gelu gelu, gelu erf, erf erf, gelu' gelu', gelu' gelu, gelu'' gelu, erf' erf, erf' gelu', erf(2x-1) gelu,
    erf(2x-1) erf(2x-1), x erf, x^2 erf, x gelu, x^2 gelu, He3 gelu, x^2 gelu',
    step erf, sign erf, relu erf, relu^2 erf, abs erf, leaky erf, hard_tanh erf, relu6 erf, elu erf, selu erf,
    step gelu, sign gelu, relu gelu, abs gelu, leaky gelu, hard_tanh gelu, relu6 gelu, elu gelu, selu gelu,
    step gelu', relu gelu', hard_tanh' gelu', relu6' erf, elu' gelu', selu' gelu'', relu erf(2x-1),
    exp erf, sin erf, cos erf, gauss erf, exp gelu, sin gelu, cos gelu, gauss gelu, gauss' gelu', exp gelu', sin gelu',
    step sin, sign sin, relu sin, relu^2 sin, abs sin, leaky sin, hard_tanh sin, relu6 sin, elu sin, selu sin,
    step cos, sign cos, relu cos, relu^2 cos, abs cos, leaky cos, hard_tanh cos, relu6 cos, elu cos, selu cos,
    hard_tanh' sin, relu6' cos, elu' sin, selu' cos, relu^3 sin, sin*relu x, cos*step x^2, sin*gelu x, sin*relu cos,
    gauss relu, exp step, relu^2 gelu, relu relu, step step, elu elu, relu6 hard_tanh
"""


def laws():
    """q log-uniform in [0.1, 10]; half of the correlations uniform, a quarter each at ±(1 - 10^-u), u in [1, 15]."""
    rng = np.random.default_rng(SEED)
    q1, q2 = np.exp(rng.uniform(np.log(0.1), np.log(10.0), (2, DRAWN)))
    near = 1 - 10.0 ** -rng.uniform(1, 15, DRAWN)
    rho = np.choose(np.arange(DRAWN) % 4, [rng.uniform(-1, 1, DRAWN), rng.uniform(-1, 1, DRAWN), near, -near])
    m1, m2 = np.where(np.arange(DRAWN) // 4 % 2, 1, np.sqrt([q1, q2])) * rng.uniform(-2, 2, (2, DRAWN))
    m1[::16] = m2[8::16] = 0.0
    drawn = {"q1": q1, "q2": q2, "c": rho * np.sqrt(q1) * np.sqrt(q2), "m1": m1, "m2": m2}
    return {key: a[:COUNT] for key, a in drawn.items()}


def reference(q1, q2, c, m1, m2):
    """E f(u) g(v) of all pairs, panel by panel."""
    import flint

    mp.mp.dps, flint.ctx.dps = 50, 40
    q1, q2, c, m1, m2 = (mp.mpf(float(x)) for x in (q1, q2, c, m1, m2))
    real = lambda x: flint.acb(flint.arb(mp.nstr(x, 48)))  # noqa: E731
    slope, variance, root = real(c / q1), real(max(q2 - c * c / q1, mp.mpf(0))), real(mp.sqrt(q1))
    here, given = functions(flint), conditional(flint, variance)
    spread = float(mp.sqrt(q1))
    low, high = float(m1) - 14 * spread, float(m1) + 14 * spread + float(q1) + abs(float(c))
    density = lambda x: (-(((x - real(m1)) / root) ** 2) / 2).exp() / ((2 * flint.acb.pi()).sqrt() * root)  # noqa: E731
    out, fine = {}, flint.arb(2) ** -80
    for f, g in (pair.split() for pair in PAIRS.split(",")):
        kinks, pieces = here[f]
        inner = [float(m1 + (k - m2) * q1 / c) for k in given[g][0]] if c else []
        ends = sorted({low, high, *(x for x in [*map(float, kinks), *inner, float(m1)] if low < x < high)})
        total = flint.acb(0)
        for a, b in pairwise(ends):
            piece = pieces[sum(k <= (a + b) / 2 for k in kinks)]
            at = real(m2) + slope * (flint.acb((a + b) / 2) - real(m1))

            def integrand(x, _, piece=piece, g=g, at=at):
                return piece(x) * given[g][1](real(m2) + slope * (x - real(m1)), at) * density(x)

            ball = flint.acb.integral(integrand, flint.acb(a), flint.acb(b), rel_tol=fine, abs_tol=fine)
            total += ball
        assert float(total.real.rad()) < 1e-18 * max(1.0, abs(float(total.real.mid()))), (f, g, q1, q2, c, m1, m2)
        out[f"{f} {g}"] = float(total.real.mid())
    return out


def functions(flint):
    """Kinks of f, and the functions between them."""
    zero, one = flint.acb(0), flint.acb(1)
    scale, alpha = flint.acb("1.0507009873554804934193349852946"), flint.acb("1.6732632423543772848170429916717")
    bump = lambda x: (-x * x / 2).exp() / (2 * flint.acb.pi()).sqrt()  # noqa: E731
    ndtr = lambda x: (-x / flint.acb(2).sqrt()).erfc() / 2  # noqa: E731
    nothing = lambda x: zero  # noqa: E731
    smooth = {
        "x": lambda x: x, "x^2": lambda x: x * x, "He3": lambda x: x**3 - 3 * x, "exp": lambda x: x.exp(),
        "sin": lambda x: x.sin(), "cos": lambda x: x.cos(), "gauss": lambda x: (-x * x / 2).exp(),
        "gauss'": lambda x: -x * (-x * x / 2).exp(), "erf": lambda x: x.erf(), "gelu": lambda x: x * ndtr(x),
        "erf'": lambda x: 2 * (-x * x).exp() / flint.acb.pi().sqrt(), "gelu'": lambda x: ndtr(x) + x * bump(x),
        "gelu''": lambda x: (2 - x * x) * bump(x), "erf(2x-1)": lambda x: (2 * x - 1).erf(),
        "sin*gelu": lambda x: x.sin() * x * ndtr(x),
    }  # fmt: skip
    kinked = {
        "step": ([0], [nothing, lambda x: one]), "sign": ([0], [lambda x: -one, lambda x: one]),
        "relu": ([0], [nothing, lambda x: x]), "relu^2": ([0], [nothing, lambda x: x * x]),
        "relu^3": ([0], [nothing, lambda x: x**3]), "abs": ([0], [lambda x: -x, lambda x: x]),
        "leaky": ([0], [lambda x: x / 10, lambda x: x]), "relu6": ([0, 6], [nothing, lambda x: x, lambda x: 6 * one]),
        "relu6'": ([0, 6], [nothing, lambda x: one, nothing]),
        "hard_tanh": ([-1, 1], [lambda x: -one, lambda x: x, lambda x: one]),
        "hard_tanh'": ([-1, 1], [nothing, lambda x: one, nothing]),
        "elu": ([0], [lambda x: x.exp() - 1, lambda x: x]), "elu'": ([0], [lambda x: x.exp(), lambda x: one]),
        "selu": ([0], [lambda x: scale * alpha * (x.exp() - 1), lambda x: scale * x]),
        "selu'": ([0], [lambda x: scale * alpha * x.exp(), lambda x: scale]),
        "sin*relu": ([0], [nothing, lambda x: x.sin() * x]), "cos*step": ([0], [nothing, lambda x: x.cos()]),
    }  # fmt: skip
    return {name: ([], [f]) for name, f in smooth.items()} | kinked


def conditional(flint, s):
    """Kinks of E g(v) at variance 0, and E g(v) for v ~ N(m, s); ``at`` is a point of the panel."""
    pi, one = flint.acb.pi(), flint.acb(1)

    def bump(m, t):
        return (-m * m / (2 * t)).exp() / (2 * pi * t).sqrt()

    def ndtr(m, t):
        return (-m / (2 * t).sqrt()).erfc() / 2

    def side(m, k, at):
        """Φ((m - k)/√s) and s φ_s(m - k); a step and 0 at s = 0."""
        if s == 0:
            return flint.acb(1 if (at - k).real > 0 else 0), flint.acb(0)
        return ndtr(m - k, s), s * bump(m - k, s)

    def ramp(m, k, at):
        p, d = side(m, k, at)
        return (m - k) * p + d

    def below(m, at):
        """E exp(v) 1[v < 0]."""
        return (m + s / 2).exp() * (1 - side(m + s, 0, at)[0])

    smooth = {
        "x": lambda m, at: m, "x^2": lambda m, at: m * m + s,
        "sin": lambda m, at: m.sin() * (-s / 2).exp(), "cos": lambda m, at: m.cos() * (-s / 2).exp(),
        "erf": lambda m, at: (m / (one + 2 * s).sqrt()).erf(),
        "erf(2x-1)": lambda m, at: ((2 * m - 1) / (one + 8 * s).sqrt()).erf(),
        "gelu": lambda m, at: m * ndtr(m, 1 + s) + s * bump(m, 1 + s),
        "gelu'": lambda m, at: ndtr(m, 1 + s) + bump(m, 1 + s) * m / (1 + s),
        "gelu''": lambda m, at: bump(m, 1 + s) * (2 - (m / (1 + s)) ** 2 - s / (1 + s)),
    }  # fmt: skip
    kinked = {
        "step": ([0], lambda m, at: side(m, 0, at)[0]), "relu": ([0], lambda m, at: ramp(m, 0, at)),
        "hard_tanh": ([-1, 1], lambda m, at: ramp(m, -1, at) - ramp(m, 1, at) - 1),
        "elu": ([0], lambda m, at: ramp(m, 0, at) + below(m, at) - 1 + side(m, 0, at)[0]),
    }  # fmt: skip
    return {name: ([0], g) for name, g in smooth.items()} | kinked


def references(rows=slice(None)):
    """Values of all pairs at some of the laws."""
    found = [reference(*row) for row in list(zip(*laws().values(), strict=True))[rows]]
    return {name: np.array([f[name] for f in found]) for name in found[0]}


if __name__ == "__main__":
    np.savez_compressed(HERE / "references_means.npz", **laws(), **references())
