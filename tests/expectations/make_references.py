"""Reference values of E f(u) g(v), computed without the package, into references_*.npz.

Run ``python tests/expectations/make_references.py [set ...]`` (some fifteen minutes of one core, of them eight for
the set ``large``; needs python-flint).  Three ways:
textbook formulas with 50 digits of mpmath; rigorous one-dimensional integrals (ball arithmetic, 40 digits) of exact
conditional expectations for functions with kinks; grids of 64-bit mantissas in two independent normals for smooth
functions, whose coordinates come from 50 digits.  Every value belongs to the covariance as rounded to float64.
"""

import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import mpmath as mp
import numpy as np

HERE = Path(__file__).parent
LONG = np.longdouble
mp.mp.dps = 50


def covariances(count, seed, low, high):
    """q log-uniform; half of the correlations uniform, a quarter each at ±(1 - 10^-u), u in [1, 15]."""
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(low), np.log(high), (2, count)))
    q2[::10] = q1[::10]
    near = 1 - 10.0 ** -rng.uniform(1, 15, count)
    rho = np.choose(np.arange(count) % 4, [rng.uniform(-1, 1, count), rng.uniform(-1, 1, count), near, -near])
    bound = np.maximum(np.sqrt(q1) * np.sqrt(q2), np.sqrt(q1 * q2))
    return q1, q2, np.clip(rho * bound, -bound, bound)


def exact(q1, q2, c):
    """The covariance in 50 digits: q1, q2, c and q1 q2 - c²."""
    q1, q2, c = (mp.mpf(float(x)) for x in (q1, q2, c))
    return q1, q2, c, max(q1 * q2 - c * c, mp.mpf(0))


# -- textbook formulas ------------------------------------------------------------------------------------------------


def arc_cosine(m, n, q1, q2, c, det):
    """E relu(u)^m relu(v)^n by polar coordinates: q1^(m/2) q2^(n/2) Γ((m+n)/2 + 1) 2^((m+n)/2) ∫ cos^m cos^n / 2π."""
    theta = mp.atan2(mp.sqrt(det), c)
    angle = mp.quad(lambda t: mp.cos(t) ** m * mp.cos(t - theta) ** n, [theta - mp.pi / 2, mp.pi / 2])
    half = mp.mpf(m + n) / 2
    return mp.sqrt(q1) ** m * mp.sqrt(q2) ** n * 2**half * mp.gamma(half + 1) * angle / (2 * mp.pi)


def moment(m, n, q1, q2, c):
    """E u^m v^n by pairings: j mixed pairs."""
    total = mp.mpf(0)
    for j in range(m % 2, min(m, n) + 1, 2):
        pairs = mp.binomial(m, j) * mp.binomial(n, j) * mp.factorial(j)
        total += pairs * mp.fac2(m - j - 1) * mp.fac2(n - j - 1) * c**j * q1 ** ((m - j) // 2) * q2 ** ((n - j) // 2)
    return total if (m + n) % 2 == 0 else mp.mpf(0)


def soft(t1, t2, q1, q2, c):
    """E S(u)S(v) and E uS(u) vS(v) for S the sign of u plus noise of variance t."""
    p = (t1 + q1) * (t2 + q2)
    alpha = mp.asin(max(min(c / mp.sqrt(p), 1), -1))
    top = q1 * q2 + c * c * (t1 / (t1 + q1) + t2 / (t2 + q2) - 1)
    root = mp.sqrt(max(p - c * c, mp.mpf(0)))
    return 2 * alpha / mp.pi, 2 / mp.pi * (c * alpha + (top / root if root else 0))


def tilt(a, b, q1, q2, c):
    """E exp(a u + b v)."""
    return mp.exp((a * a * q1 + 2 * a * b * c + b * b * q2) / 2)


def textbook(q1, q2, c, det):
    half, zero, one = mp.mpf(1) / 2, mp.mpf(0), mp.mpf(1)
    i, bump = mp.mpc(0, 1), 1 / mp.sqrt(1 + q1 + q2 + det)
    theta = mp.atan2(mp.sqrt(det), c)
    out = {f"relu^{m} relu^{n}": arc_cosine(m, n, q1, q2, c, det) for m, n in ((2, 2), (3, 3), (1, 3))}
    out["relu^2 step"] = arc_cosine(2, 0, q1, q2, c, det)
    out["relu relu"] = mp.sqrt(q1 * q2) * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    out["step step"] = (mp.pi - theta) / (2 * mp.pi)
    out["relu step"] = mp.sqrt(q1) * (1 + c / mp.sqrt(q1 * q2)) / mp.sqrt(8 * mp.pi)
    out["sign sign"], out["abs abs"] = soft(zero, zero, q1, q2, c)
    out["erf erf"] = soft(half, half, q1, q2, c)[0]
    out["gelu gelu"] = c / 4 + soft(one, one, q1, q2, c)[1] / 4
    out["erf step"] = soft(half, zero, q1, q2, c)[0] / 2
    out["erf sign"] = soft(half, zero, q1, q2, c)[0]
    out["gelu relu"] = c / 4 + soft(one, zero, q1, q2, c)[1] / 4
    out["gelu abs"] = soft(one, zero, q1, q2, c)[1] / 2
    out["erf gelu"] = c / mp.sqrt(mp.pi * (1 + 2 * q1))
    out["x^2 x^2"], out["x^3 x^5"] = moment(2, 2, q1, q2, c), moment(3, 5, q1, q2, c)
    he3 = moment(3, 3, q1, q2, c) - 3 * moment(3, 1, q1, q2, c) - 3 * moment(1, 3, q1, q2, c) + 9 * c
    out["He3 He3"] = he3
    out["exp exp"] = tilt(1, 1, q1, q2, c)
    out["sin sin"] = mp.re(tilt(i, -i, q1, q2, c) - tilt(i, i, q1, q2, c)) / 2
    out["cos cos"] = mp.re(tilt(i, -i, q1, q2, c) + tilt(i, i, q1, q2, c)) / 2
    out["exp cos"] = mp.re(tilt(1, i, q1, q2, c))
    out["gauss gauss"], out["gauss' gauss'"] = bump, c * bump**3
    return out


# -- functions with kinks: integrals over u of exact conditional expectations ----------------------------------------


def kinked(q1, q2, c, det):
    """E f(u) g(v), panel by panel, in ball arithmetic."""
    import flint

    flint.ctx.dps = 40
    real = lambda x: flint.acb(flint.arb(mp.nstr(x, 48)))  # noqa: E731
    slope, sigma, root = real(c / q1), real(mp.sqrt(det / q1)), real(mp.sqrt(q1))
    two_pi = flint.acb(2) * flint.acb.pi()
    scale, alpha = flint.acb("1.0507009873554804934193349852946"), flint.acb("1.6732632423543772848170429916717")

    def phi(x):
        return (-(x * x) / 2).exp() / two_pi.sqrt()

    def ndtr(x):
        return (-x / flint.acb(2).sqrt()).erfc() / 2

    def side(m, k, at):
        """Φ((m - k)/σ) and σ φ((m - k)/σ); step and 0 at σ = 0, where ``at`` is a point of the panel."""
        if not det:
            return flint.acb(1 if (slope * at - k).real > 0 else 0), flint.acb(0)
        return ndtr((m - k) / sigma), sigma * phi((m - k) / sigma)

    def power(n, k):
        def value(m, at):
            s, d = side(m, k, at)
            return (s, (m - k) * s + d, ((m - k) ** 2 + sigma**2) * s + (m - k) * d)[n]

        return value

    def tail(m, at):
        """E exp(v) 1[v < 0]."""
        return (m + sigma**2 / 2).exp() * (1 - side(m + sigma**2, 0, at + 0 * sigma)[0])

    p = {
        (n, k): power(n, flint.acb(k))
        for n, k in ((0, 0), (1, 0), (2, 0), (0, 6), (1, 6), (0, 1), (1, 1), (0, -1), (1, -1))
    }
    given = {
        "relu6": lambda m, at: p[1, 0](m, at) - p[1, 6](m, at),
        "relu6'": lambda m, at: p[0, 0](m, at) - p[0, 6](m, at),
        "hard_tanh": lambda m, at: p[1, -1](m, at) - p[1, 1](m, at) - 1,
        "hard_tanh'": lambda m, at: p[0, -1](m, at) - p[0, 1](m, at),
        "elu": lambda m, at: p[1, 0](m, at) + tail(m, at) - 1 + p[0, 0](m, at),
        "elu'": lambda m, at: p[0, 0](m, at) + tail(m, at),
        "selu": lambda m, at: scale * (p[1, 0](m, at) + alpha * (tail(m, at) - 1 + p[0, 0](m, at))),
        "selu'": lambda m, at: scale * (p[0, 0](m, at) + alpha * tail(m, at)),
        "relu": p[1, 0], "step": p[0, 0], "relu^2": p[2, 0], "relu(x-1)": p[1, 1],
    }  # fmt: skip
    zero, one = flint.acb(0), flint.acb(1)
    here = {  # pieces of f between its kinks
        "relu6": ([0, 6], [lambda x: zero, lambda x: x, lambda x: 6 * one]),
        "relu6'": ([0, 6], [lambda x: zero, lambda x: one, lambda x: zero]),
        "hard_tanh": ([-1, 1], [lambda x: -one, lambda x: x, lambda x: one]),
        "hard_tanh'": ([-1, 1], [lambda x: zero, lambda x: one, lambda x: zero]),
        "elu": ([0], [lambda x: x.exp() - 1, lambda x: x]),
        "elu'": ([0], [lambda x: x.exp(), lambda x: one]),
        "selu": ([0], [lambda x: scale * alpha * (x.exp() - 1), lambda x: scale * x]),
        "selu'": ([0], [lambda x: scale * alpha * x.exp(), lambda x: scale]),
        "relu(x-1)": ([1], [lambda x: zero, lambda x: x - 1]),
        "exp": ([], [lambda x: x.exp()]), "gauss": ([], [lambda x: (-x * x / 2).exp()]),
        "tanh": ([], [lambda x: x.tanh()]), "sigmoid'": ([], [lambda x: (1 - (x / 2).tanh() ** 2) / 4]),
        "silu": ([], [lambda x: x * (1 + (x / 2).tanh()) / 2]),
    }  # fmt: skip
    pairs = [
        (f, f) for f in ("relu6", "relu6'", "hard_tanh", "hard_tanh'", "elu", "elu'", "selu", "selu'", "relu(x-1)")
    ]
    pairs += [("elu", "relu6"), ("hard_tanh", "relu^2"), ("exp", "relu"), ("gauss", "relu(x-1)"), ("tanh", "relu"),
              ("sigmoid'", "step"), ("silu", "hard_tanh"), ("tanh", "elu")]  # fmt: skip
    reach, out = 12 * float(mp.sqrt(q1)), {}
    for f, g in pairs:
        own, pieces = here[f]
        centres = {"relu6": [0, 6], "hard_tanh": [-1, 1], "relu(x-1)": [1]}.get(g.rstrip("'"), [0])
        steep = [float(k / (c / q1)) for k in centres] if c else []
        ends = sorted({x for x in [*map(float, own), *steep, -reach, reach] if abs(x) <= reach})
        total = flint.acb(0)
        for a, b in pairwise(ends):
            middle = flint.acb((a + b) / 2)
            piece = pieces[sum(k <= (a + b) / 2 for k in own)]
            low, high = (flint.acb(flint.arb(x)) for x in (a, b))

            def integrand(x, _, piece=piece, middle=middle, g=g):
                return piece(x) * given[g](slope * x, middle) * phi(x / root) / root

            fine = flint.arb(2) ** -80
            total += flint.acb.integral(integrand, low, high, rel_tol=fine, abs_tol=fine)
        assert float(total.real.rad()) < 1e-17 * max(1.0, abs(float(total.real.mid()))), (f, g, q1, q2, c, total)
        out[f"{f} {g}"] = float(total.real.mid())
    return out


# -- smooth functions: grids of 64-bit mantissas ---------------------------------------------------------------------


def functions(x):
    """The smooth functions and derivatives on an array."""
    t, s = np.tanh(x), 1 / (1 + np.exp(-x))
    d = s * (1 - s)
    e = d * (1 - 2 * s)
    return {
        "tanh": t, "tanh'": 1 / np.cosh(x) ** 2, "tanh''": -2 * t / np.cosh(x) ** 2,
        "sigmoid": s, "sigmoid'": d, "sigmoid''": e, "silu": x * s, "silu'": s + x * d, "silu''": 2 * d + x * e,
        "softplus": np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    }  # fmt: skip


def grid(step, reach=10.5):
    count = int(np.ceil(reach / step))
    x = LONG(step) * np.arange(-count, count + 1)
    weight = np.exp(-x * x / 2)
    return x, weight / weight.sum()


def smooth(q1, q2, c, det, spacing=0.14):
    """By a trapezoid rule whose nodes lie at most ``spacing`` apart in the functions' own units.

    Its error is that of poles π/2 away, some 10⁴ exp(-π²/spacing): at 0.17, 1e-21.
    """
    root, slope, sigma = (LONG(mp.nstr(x, 30)) for x in (mp.sqrt(q1), c / mp.sqrt(q1), mp.sqrt(det / q1)))
    steep = max(float(root), abs(float(slope)))
    x, wx = grid(min(0.3, spacing / steep))
    z, wz = grid(min(0.3, spacing / max(float(sigma), 1e-9)))
    first, total = functions(root * x), {}
    names = [(f, f) for f in first] + [("tanh", "silu"), ("softplus", "tanh'"), ("silu''", "sigmoid")]
    for start in range(0, len(x), 256):
        rows = slice(start, start + 256)
        second = functions(slope * x[rows, None] + sigma * z)
        for f, g in names:
            total[f"{f} {g}"] = total.get(f"{f} {g}", LONG(0)) + (wx[rows] * first[f][rows]) @ (second[g] @ wz)
    return total


SETS = {  # name: covariances and what is computed on them
    "closed": ((1000, 1, 0.1, 10.0), textbook),
    "kinked": ((1000, 2, 0.1, 10.0), kinked),
    "smooth": ((1000, 3, 0.1, 10.0), smooth),
    "large": ((1000, 4, 10.0, 1000.0), partial(smooth, spacing=0.17)),
}


def reference(name, rows=slice(None)):
    """Values of one set at some of its covariances."""
    arguments, rule = SETS[name]
    found = [rule(*exact(*row)) for row in list(zip(*covariances(*arguments), strict=True))[rows]]
    return {key: np.array([float(f[key]) for f in found]) for key in found[0]}


if __name__ == "__main__":
    for name in sys.argv[1:] or SETS:
        law = dict(zip(("q1", "q2", "c"), covariances(*SETS[name][0]), strict=True))
        np.savez_compressed(HERE / f"references_{name}.npz", **law, **reference(name))
