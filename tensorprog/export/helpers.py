"""What the functions of a standalone file call: safe roots, angles, and Gaussian quadrature."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """A library of arrays: its short name, what a file imports, and what it calls differently."""

    module: str
    imports: str
    erf: str
    array: str
    aliases: str
    convert: str = ""
    known: str = ""
    traced: str = ""
    passed: str = "q"


LIBRARIES = {
    "numpy": Library("np", "import numpy as np", "from scipy.special import erf", "np.array",
                     "cat, sort = np.concatenate, np.sort"),
    "torch": Library("torch", "import torch", "erf = torch.erf", "torch.tensor",
                     "cat, sort = torch.cat, lambda x, axis: torch.sort(x, axis).values",
                     "    x = torch.as_tensor(x, dtype=None if torch.is_tensor(x) else torch.float64)\n"),
    "jax": Library("jnp", "import jax\nimport jax.numpy as jnp", "from jax.scipy.special import erf", "jnp.array",
                   "cat, sort = jnp.concatenate, jnp.sort", "", "not isinstance(q, jax.core.Tracer) and ",
                   "; under jit, vmap and grad others are NaN", "jnp.where(q > most, jnp.nan, q)"),
}  # fmt: skip
IMPORTED = {"np": "import numpy as np\n"}
HELPERS = {
    "root": '''def root(x):
    """The square root of a variance, 0 at 0 (where its slope is taken as 0 too)."""
{convert}    return {m}.where(x > 0, {m}.sqrt({m}.where(x > 0, x, 1 + 0 * x)), 0 * x)
''',
    "sine": '''def sine(q, c, p):
    """sqrt(q p - c^2), taken as 0 at angles below 1e-7 (in double precision), where rounding hides it."""
    c = c + 0 * root(q) * root(p)
    apart = q * p - c**2
    return root({m}.where(apart > 64 * {m}.finfo(c.dtype).eps * q * p, apart, 0 * apart))
''',
    "angle": '''def angle(q, c, p):
    """The angle of u and v, cos = c / sqrt(q p); pi/2 where one is 0."""
    theta = {m}.arctan2(sine(q, c, p), {m}.where(q * p > 0, c, 1 + 0 * c))
    return {m}.where(q * p > 0, theta, pi / 2 + 0 * c)
''',
    "narrow": '''def narrow(q, most=16.0):
    """A variance for which the quadratures have their digits{traced}."""
    if {known}({array}(1.0) * q > most).any():
        raise ValueError(f"a variance is above {most}, where this quadrature has no digits: scale the inputs down")
    return {passed}
''',
    "smooth_mean1": '''def smooth_mean1(f, q, m=0.0):
    """E f(u), u ~ N(m, q), by the trapezoid rule: 1e-13 for built-in functions and q up to 16."""
    z = {linspace}
    w = (18 / 256) * {m}.exp(-z**2 / 2) / (2 * pi)**0.5
    q, m = {array}(1.0) * q + 0 * m, m + 0 * {array}(1.0) * q
    return (w * f(m[..., None] + root(q)[..., None] * z)).sum(-1)
''',
    "smooth_mean2": '''def smooth_mean2(f, q, c, p, m=0.0, n=0.0):
    """E f(u, v), Cov = [[q, c], [c, p]], by the trapezoid rule: 1e-13 for built-in functions, q and p up to 16."""
    z = {linspace}
    w, q = (18 / 256) * {m}.exp(-z**2 / 2) / (2 * pi)**0.5, {array}(1.0) * q
    q, c, p = (a[..., None, None] for a in (q + 0 * (c + p), c + 0 * (q + p), p + 0 * (q + c)))
    a = {m}.where(q > 0, root(q), 1 + 0 * q)
    u, v = root(q) * z[:, None], c / a * z[:, None] + {m}.where(q > 0, sine(q, c, p) / a, root(p)) * z
    return (w[:, None] * w * f(m + 0 * v + u, n + v)).sum((-1, -2))
''',
    "panels": '''def panels(*breaks):
    """Nodes and weights of N(0, 1), 16 on each panel between breaks: 1e-13 for functions that change on scale 1."""
    t, s = ({array}(a) for a in np.polynomial.legendre.leggauss(16))
    grid = {array}(np.arange(-9.0, 10.0, 1.5)) + 0 * breaks[0][..., :1]
    b = sort(cat([grid, *({m}.clip(x, -9, 9) for x in breaks)], -1), -1)[..., None]
    z = (b[..., 1:, :] + b[..., :-1, :]) / 2 + (b[..., 1:, :] - b[..., :-1, :]) / 2 * t
    w = (b[..., 1:, :] - b[..., :-1, :]) / 2 * s * {m}.exp(-z**2 / 2) / (2 * pi)**0.5
    return z.reshape(*z.shape[:-2], -1), w.reshape(*w.shape[:-2], -1)


def breaks(slope, offset, at):
    """Where slope z + offset is one of the numbers ``at``."""
    slope = {m}.where({m}.abs(slope) < 1e-6, 1e-6 + 0 * slope, slope)
    return ({array}([0.0, *at])[len(at) > 0:] - offset[..., None]) / slope[..., None]
''',
    "kinked_mean1": '''def kinked_mean1(f, kinks, q, m=0.0):
    """E f(u), u ~ N(m, q), by Gauss-Legendre panels between kinks."""
    q, m = {array}(1.0) * q + 0 * m, m + 0 * {array}(1.0) * q
    z, w = panels(breaks(root(q), m, [-4.0, -1.0, 1.0, 4.0, *kinks]))
    return (w * f(m[..., None] + root(q)[..., None] * z)).sum(-1)
''',
    "kinked_mean2": '''def kinked_mean2(f, kinks, others, q, c, p, m=0.0, n=0.0):
    """E f(u, v), Cov = [[q, c], [c, p]], by Gauss-Legendre panels between kinks of u and of v."""
    q = {array}(1.0) * q + 0 * (c + p)
    c, p, n = c + 0 * q, p + 0 * q, n + 0 * q
    a, near, m = root(q), [-4.0, -1.0, 1.0, 4.0], m + 0 * q
    there = {m}.where(q > 0, a, 1 + 0 * a)
    along, s = c / there, {m}.where(q > 0, sine(q, c, p) / there, root(p))
    steps = [breaks(along, n + k * s, others) for k in (-6, -4, -2, 2, 4, 6)]
    z, w = panels(breaks(a, m, [*near, *kinks]), breaks(along, n, [*near, *others]), *steps)
    v = n[..., None] + along[..., None] * z
    y, x = panels(breaks(s[..., None] + 0 * z, v, [*near, *others]))
    u, v = (m[..., None] + a[..., None] * z)[..., None] + 0 * y, v[..., None] + s[..., None, None] * y
    return (w[..., None] * x * f(u, v)).sum((-1, -2))
''',
}
HELPERS |= {
    "window": '''def window(shape, kernel, stride=1, dilation=1, padding="same"):
    """What every position reads, a matrix (positions after, before) for every offset; and the shape after."""
    found, after = np.ones((1, 1, 1)), ()
    each = (v if isinstance(v, tuple) else (v,) * len(shape) for v in (kernel, stride, dilation))
    for n, k, s, d in zip(shape, *each):
        start, m = -((k - 1) // 2) * d, -(-n // s)
        if padding == "valid":
            start, m = 0, (n - (k - 1) * d - 1) // s + 1
        at = start + d * np.arange(k)[:, None] + s * np.arange(m)
        axis = ((at % n if padding == "circular" else at)[..., None] == np.arange(n)) * 1.0
        found = np.einsum("kpr,lqs->klpqrs", found, axis).reshape(len(found) * k, -1, found.shape[2] * n)
        after += (m,)
    return {array}(found), after
''',
    "diagonal": '''def diagonal(C):
    """The numbers at p = q."""
    return {m}.broadcast_to(C, (max(C.shape), max(C.shape))).diagonal()
''',
    "everywhere": '''def everywhere(shape):
    """The same of one position after, which reads all."""
    return {array}(np.eye(int(np.prod(shape)))[:, None, :]), ()
''',
    "shared": '''def shared(A, C, B):
    """(1/|w|) sum_k C[m_k(p), m_k(q)], what position p reads at offset k being m_k(p)."""
    return sum(a @ C @ b.T for a, b in zip(A, B)) / len(A)
''',
    "back": '''def back(A, C, B):
    """The transpose of ``shared``."""
    return sum(a.T @ C @ b for a, b in zip(A, B)) / len(A)
''',
    "graph": '''def graph(a, normalise="none", loops=0.0):
    """A matrix that comes with an input, loops added, normalised."""
    a = a[None, :] if a.ndim == 1 else a + loops * {m}.diag({m}.ones_like(a[0]))
    rows, columns = a.sum(1)[:, None], a.sum(0)[None, :]
    inverse = lambda x: {m}.where(x > 0, 1 / {m}.where(x > 0, x, 1 + 0 * x), 0 * x)
    if normalise == "mean":
        return a * inverse(rows)
    return a if normalise == "none" else a * inverse(root(rows)) * inverse(root(columns))
''',
}
ORDER = list(HELPERS)
LINSPACE = {"np": "np.linspace(-9, 9, 257)", "torch": "torch.linspace(-9, 9, 257, dtype=q.dtype)",
            "jnp": "jnp.linspace(-9, 9, 257)"}  # fmt: skip


def written(library: Library, wanted: Container[str]) -> list[str]:
    """The helpers that are wanted, each as text."""
    found = []
    for name in ORDER:
        if name in wanted:
            text = HELPERS[name].replace("{linspace}", LINSPACE[library.module])
            for word in ("convert", "array", "known", "traced", "passed"):
                text = text.replace("{" + word + "}", getattr(library, word))
            found.append(text.replace("{m}", library.module))
    return found
