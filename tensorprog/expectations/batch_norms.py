r"""Expectations of functions of a normalised batch, y = √B u/√(‖u‖² + Bε) with Gaussian u, by closed forms' integrals.

With 1/‖u‖² = ∫ e^{−s‖u‖²} ds the norm becomes a factor of the density: u has the covariance Γ_s = Γ (I + 2sΓ)⁻¹ and
the weight det(I + 2sΓ)^(−1/2).  For f = a x + α|x|, g = b x + β|x|, which the norm passes through,

    E f(y_i) g(y_j) = B ∫ e^{−sBε} det(I + 2sΓ)^(−1/2) V_fg(Γ_s)_ij ds,

and the products of two Jacobians are polynomials in s times such terms, taken together since each alone may diverge.
Two batches have a parameter each, 1/‖u‖ = π^(−1/2) ∫ s^(−1/2) e^{−s‖u‖²} ds.  Trapezoids in log s and in
s = (c sinh y)² converge like e^{−π²/h}; h shrinks until the value stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.errors import AccuracyError
from tensorprog.functions import Abs, Relu, Sign, Step

Array = np.ndarray
NEGLIGIBLE = 1e-12  # eigenvalues, relative to the largest, that are rounding
FLAT = 4e-15  # of q q' that q q' − c² may be rounding of
TAIL = 1e-15  # what is left out of an integral, relative to its largest term
AGREED = 1e-9  # by how much the last step may change a value, relative to the largest entry
STEPS = tuple(0.35 / 2 ** (k / 2) for k in range(8))  # the error of one is that of the one before, to the power √2


@dataclass(frozen=True)
class Forms:
    """Of two functions a x + α|x| and b x + β|x|, the products a b and α β."""

    linear: float
    absolute: float


HALVES = (0.5, 0.5)
VALUES: dict[Any, tuple[float, float]] = {None: (1.0, 0.0), Relu: HALVES, Abs: (0.0, 1.0)}
SLOPES: dict[Any, tuple[float, float]] = {None: (1.0, 0.0), Step: HALVES, Sign: (0.0, 1.0)}


def forms_of(first: Any, second: Any, slopes: bool) -> Forms | None:
    """Those of two functions of the table, given by their derivatives if ``slopes``; None where one is no such."""
    known = SLOPES if slopes else VALUES
    if first not in known or second not in known:
        return None
    (a, alpha), (b, beta) = known[first], known[second]
    return Forms(a * b, alpha * beta)


@dataclass(frozen=True)
class Batch:
    """The centred covariance of one batch by its eigenvalues, none of which is rounding.

    Attributes:
        cov: Γ = PΣP.
        values, vectors: its eigenvalues above rounding, and their vectors (B, rank).
        offset: B ε.
    """

    cov: Array
    values: Array
    vectors: Array
    offset: float

    @classmethod
    def of(cls, cov: Array, eps: float) -> Batch:
        """Of the covariance Σ of the members before their mean is taken off."""
        cov = centred(centred(cov).T)
        cov = (cov + cov.T) / 2
        values, vectors = np.linalg.eigh(cov)
        kept = values > NEGLIGIBLE * max(values[-1], 0.0)
        return cls(cov, values[kept], vectors[:, kept], len(cov) * eps)

    @property
    def size(self) -> int:
        """B."""
        return len(self.cov)

    @property
    def rank(self) -> int:
        """How many dimensions u moves in, B − 1 at most."""
        return len(self.values)

    def log_weight(self, s: Array) -> Array:
        """log of e^{−sBε} det(I + 2sΓ)^(−1/2)."""
        return -s * self.offset - np.log1p(2 * np.multiply.outer(s, self.values)).sum(axis=-1) / 2

    def tilted(self, s: Array) -> Array:
        """Γ_s, (.., B, B)."""
        scaled = self.values / (1 + 2 * np.multiply.outer(s, self.values))
        return (self.vectors * scaled[..., None, :]) @ self.vectors.T  # type: ignore[no-any-return]


def centred(x: Array) -> Array:
    """P x, P = I − 11ᵀ/B."""
    return x - x.mean(axis=0)  # type: ignore[no-any-return]


def _angles(q: Array, c: Array, q2: Array) -> tuple[Array, Array]:
    """(2/π) asin ρ and (2/π) √(q q' − c²) of all pairs."""
    product = q[..., :, None] * q2[..., None, :]
    det = product - c * c
    root = np.sqrt(np.where(det > FLAT * product, det, 0.0))
    return 2 / np.pi * np.arctan2(c, root), 2 / np.pi * root


# ---- one batch ---------------------------------------------------------------------------------------------


def single(batch: Batch, forms: Forms) -> Array:
    """E f(y_i) g(y_j), (B, B)."""

    def integrand(s: Array) -> Array:
        _, c, angle, root = _one(batch, s)
        return forms.linear * c + forms.absolute * (c * angle + root)

    return batch.size * _over_log(batch, integrand, 1)


def pushed(batch: Batch, theta: Array, forms: Forms) -> Array:
    """E Σ_kl ∂_k f(y_i) Θ_kl ∂_l g(y_j), (B, B): the derivative of the above in the direction Θ."""
    g = centred(centred(theta).T).T

    def integrand(s: Array) -> Array:
        q, c, angle, root = _one(batch, s)
        s = s[:, None, None]
        left = g - s * (c @ g)
        both = left - s * (left @ c)
        own = np.einsum("sij,ji->si", c, g), np.einsum("sij,jk,ski->si", c, g, c, optimize=True)
        trace = own[0].sum(axis=1)[:, None, None]
        inner = s[:, 0] * (s[:, 0] / 2 * own[1] - own[0]) / np.where(q > 0, q, 1.0)
        at_kinks = root * (inner[:, :, None] + inner[:, None, :])
        value = forms.linear * c + forms.absolute * (c * angle + root)
        return (forms.linear + forms.absolute * angle) * both + forms.absolute * at_kinks + s * s / 2 * trace * value

    return batch.size * _over_log(batch, integrand, 0)


def _one(batch: Batch, s: Array) -> tuple[Array, Array, Array, Array]:
    """Variances, covariances, angles and √det under Γ_s; a variable with itself has the angle 1."""
    c = batch.tilted(s)
    q = np.einsum("sii->si", c)
    angle, root = _angles(q, c, q)
    here = np.arange(batch.size)
    angle[:, here, here], root[:, here, here] = 1.0, 0.0
    return q, c, angle, root


def _over_log(batch: Batch, integrand: Callable[[Array], Array], decay: int) -> Array:
    """∫ weight · integrand ds by a trapezoid in log s, where the integrand is O(s^(−decay))."""
    largest = batch.values[-1]
    unit = 1 / (2 * largest)

    def size(t: Array) -> Array:
        s = unit * np.exp(t)
        return t + batch.log_weight(s) - decay * np.log1p(2 * s * largest)

    low, high = _range(size, np.log(TAIL), 200.0)

    def trapezoid(h: float) -> Array:
        s = unit * np.exp(h * np.arange(np.floor(low / h), np.ceil(high / h) + 1))
        weights = h * s * np.exp(batch.log_weight(s))
        step = max(1, 2**20 // batch.size**2)
        parts = (slice(i, i + step) for i in range(0, len(s), step))
        return sum(np.einsum("s,sij->ij", weights[p], integrand(s[p])) for p in parts)  # type: ignore[return-value]

    return _settled(trapezoid)


def _range(log_size: Callable[[Array], Array], low: float, high: float) -> tuple[float, float]:
    """Where an integrand is not negligible."""
    t = np.linspace(low, high, 1024)
    size = log_size(t)
    inside = t[size > size.max() + np.log(TAIL)]
    return float(inside[0]), float(inside[-1])


def _settled(trapezoid: Callable[[float], Array]) -> Array:
    """The value at the step from which on it stays.

    Raises:
        AccuracyError: it still changes at the smallest one.
    """
    value = trapezoid(STEPS[0])
    for h in STEPS[1:]:
        before, value = value, trapezoid(h)
        change = float(np.abs(value - before).max())
        if change <= AGREED * float(np.abs(value).max()) or not np.isfinite(value).all():
            return value
    raise AccuracyError(f"an integral over the norm of a batch still changes by {change:.1e} at a step of {STEPS[-1]}")


# ---- two batches -------------------------------------------------------------------------------------------


def double(first: Batch, cross: Array, second: Batch, forms: Forms) -> Array:
    """E f(y_i) g(y'_j) of two batches whose members have the covariances ``cross``, (B, B')."""
    if first.rank == second.rank == 1 and not first.offset:
        return _signs(first, cross, second, forms)

    def integrand(s: float, s2: Array, of: _Given) -> Array:
        c, q, q2 = of.tilted(s2)
        angle, root = _angles(q, c, q2)
        return forms.linear * c + forms.absolute * (c * angle + root)

    return _over_both(first, cross, second, integrand, 1)


def _signs(first: Batch, cross: Array, second: Batch, forms: Forms) -> Array:
    """The same where each batch moves along one line, u = v g and y = √B v sign(g)."""
    (v,), (w,) = first.vectors.T, second.vectors.T
    c = v @ centred(centred(cross).T).T @ w
    angle, _ = _angles(first.values, np.array([[c]]), second.values)
    size = np.sqrt(first.size * second.size)
    return size * (forms.linear * angle * np.outer(v, w) + forms.absolute * np.abs(np.outer(v, w)))  # type: ignore[no-any-return]


def pushed_double(first: Batch, cross: Array, second: Batch, theta: Array, forms: Forms) -> Array:
    """E Σ_kl ∂_k f(y_i) Θ_kl ∂_l g(y'_j) of two batches, (B, B')."""
    g = centred(centred(theta).T).T

    def integrand(s: float, s2: Array, of: _Given) -> Array:
        c, q, q2 = of.tilted(s2)
        one, two = of.own(s2)
        angle, root = _angles(q, c, q2)
        s2 = s2[:, None, None]
        left, right = g - 2 * s * (one @ g), g - 2 * s2 * (g @ two)
        both = left - 2 * s2 * (left @ two) + 4 * s * s2 * (c @ g.T @ c)
        rows = -2 * s2[:, 0] * np.einsum("sij,sij->si", left, c) / np.where(q > 0, q, 1.0)
        columns = -2 * s * np.einsum("sij,sij->sj", right, c) / np.where(q2 > 0, q2, 1.0)
        at_kinks = root * (rows[:, :, None] + columns[:, None, :])
        trace = np.einsum("sij,ij->s", c, g)[:, None, None]
        value = forms.linear * c + forms.absolute * (c * angle + root)
        return (forms.linear + forms.absolute * angle) * both + forms.absolute * at_kinks + 4 * s * s2 * trace * value

    return _over_both(first, cross, second, integrand, 0)


@dataclass(frozen=True)
class _Given:
    """Both batches under e^{−s‖u‖²}, and what another factor e^{−s'‖u'‖²} makes of them.

    With the covariance LLᵀ of both it is L (I + 2s L₁ᵀL₁ + 2s' L₂ᵀL₂)⁻¹ Lᵀ, in which nothing cancels.

    Attributes:
        log_det: log det(I + 2s L₁ᵀL₁).
        values: λ of L₂ᵀL₂ beside I + 2s L₁ᵀL₁.
        left, right: L₁ and L₂ in that basis, so that covariances are sums over 1/(1 + 2s'λ).
    """

    log_det: float
    values: Array
    left: Array
    right: Array

    @classmethod
    def of(cls, roots: tuple[Array, Array], s: float) -> _Given:
        left, right = roots
        values, vectors = np.linalg.eigh(left.T @ left)
        grown = 1 + 2 * s * np.maximum(values, 0.0)
        basis = vectors / np.sqrt(grown)
        again = right @ basis
        values, vectors = np.linalg.eigh(again.T @ again)
        return cls(float(np.log(grown).sum()), np.maximum(values, 0.0), left @ basis @ vectors, again @ vectors)

    def log_weight(self, s2: Array) -> Array:
        """log of det(I + 2s L₁ᵀL₁ + 2s' L₂ᵀL₂)^(−1/2)."""
        return -self.log_det / 2 - np.log1p(2 * np.multiply.outer(s2, self.values)).sum(axis=-1) / 2

    def _shrunk(self, s2: Array) -> Array:
        return 1 / (1 + 2 * np.multiply.outer(s2, self.values))

    def tilted(self, s2: Array) -> tuple[Array, Array, Array]:
        """Cov(u, u'), Var u, Var u', for several s'."""
        shrunk = self._shrunk(s2)
        cross = (self.left * shrunk[:, None, :]) @ self.right.T
        return cross, shrunk @ (self.left**2).T, shrunk @ (self.right**2).T

    def own(self, s2: Array) -> tuple[Array, Array]:
        """Cov(u, u), Cov(u', u'), for several s'."""
        shrunk = self._shrunk(s2)[:, None, :]
        return (self.left * shrunk) @ self.left.T, (self.right * shrunk) @ self.right.T


def _roots(first: Batch, cross: Array, second: Batch) -> tuple[Array, Array]:
    """L₁ and L₂ of the covariance LLᵀ of both batches."""
    values, vectors = np.linalg.eigh(np.block([[first.cov, cross], [cross.T, second.cov]]))
    kept = values > NEGLIGIBLE * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    return root[: first.size], root[first.size :]


def _over_both(first: Batch, cross: Array, second: Batch, integrand: Callable[[float, Array, _Given], Array],
               decay: int) -> Array:  # fmt: skip
    """√(BB')/π ∫∫ (ss')^(−1/2) weight · integrand ds ds'."""
    roots = _roots(first, centred(centred(cross).T).T, second)
    both = np.linalg.eigvalsh(roots[0].T @ roots[0] + roots[1].T @ roots[1])
    sides = _Nodes(first, both, decay), _Nodes(second, both, decay)

    def trapezoid(h: float) -> Array:
        (s, weights), (s2, weights2) = (side.at(h) for side in sides)
        total = np.zeros(cross.shape)
        for one, weight in zip(s, weights, strict=True):
            given = _Given.of(roots, one)
            inner = weight * weights2 * np.exp(given.log_weight(s2))
            total += np.einsum("s,sij->ij", inner, integrand(one, s2, given))
        return total

    return np.sqrt(first.size * second.size) / np.pi * _settled(trapezoid)  # type: ignore[no-any-return]


class _Nodes:
    """Nodes of one of two batches, s = (c sinh y)², for integrals over s^(−1/2) ds.

    Args:
        batch: whose norm it is.
        both: the eigenvalues of the covariance of both batches.
        decay: an integrand is O(s^(−decay/2)), and O(s^(−decay)) as s and s' grow together.
    """

    def __init__(self, batch: Batch, both: Array, decay: int) -> None:
        self.batch = batch
        self.unit = 1 / (2 * batch.values[-1])

        def alone(y: Array) -> Array:
            s = self.unit * np.sinh(y) ** 2
            return np.log(np.cosh(y)) + batch.log_weight(s) - decay / 2 * np.log1p(2 * s * batch.values[-1])

        def together(y: Array) -> Array:
            s = self.unit * np.sinh(y) ** 2
            det = np.log1p(2 * np.multiply.outer(s, both)).sum(axis=-1)
            return 2 * np.log(np.cosh(y)) - s * batch.offset - det / 2 - decay * np.log1p(2 * s * both[-1])

        self.high = max(_range(size, 0.0, 60.0)[1] for size in (alone, together))

    def at(self, h: float) -> tuple[Array, Array]:
        """The nodes s at a step in y, and their weights with e^{−sBε}."""
        y = h * np.arange(np.ceil(self.high / h) + 1)
        s = self.unit * np.sinh(y) ** 2
        weights = 2 * np.sqrt(self.unit) * h * np.cosh(y) * np.exp(-s * self.batch.offset)
        weights[0] /= 2
        return s, weights
