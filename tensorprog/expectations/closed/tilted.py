"""E Π x_i^n_i exp(b_i x_i - a_i x_i²/2) of any number of Gaussian variables: exact, whatever their covariance.

A Gaussian factor damps the law and an exponential one shifts its mean; what is left are moments.  Damping by
exp(-a x_i²/2) is the rank-one update

    Σ ↦ Σ - a Σ_i Σ_iᵀ/w,    m ↦ m - a Σ_i m_i/w,    E exp(-a x_i²/2) = exp(-a m_i²/2w)/√w,    w = 1 + a Σ_ii,

so that Σ is never inverted and may be singular.  Each number carries a bound of its rounding: an update multiplies
what is unknown of Σ and m by P = 1 - a Σ_i e_iᵀ/w from both sides, and Isserlis' recursion takes it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import factorial, prod
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.closed.pieces import Term, terms
from tensorprog.expectations.law import Law
from tensorprog.expectations.semidefinite import semidefinite
from tensorprog.functions import Exp

Array = Any
EPS, TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)
MOST = 256  # products of terms
DEGREE = 40  # of a polynomial
ROWS = 1 << 13  # laws at once


@dataclass
class Tilted:
    """Laws of k variables whose density is multiplied by factors, and E of all factors so far.

    Attributes:
        mean: (N, k), complex after an imaginary rate.
        cov: (N, k, k).
        factor: (N,), E of the factors is factor · exp(exponent).
        exponent: (N,).
        off_mean, off_cov: bounds of their rounding, of the same shapes.
        off: bound of the relative rounding of factor · exp(exponent).
    """

    mean: Array
    cov: Array
    factor: Array
    exponent: Array
    off_mean: Array
    off_cov: Array
    off: Array

    @classmethod
    def of(cls, mean: Array, cov: Array) -> Tilted:
        """The laws as they are given, exactly.

        >>> law = Tilted.of(np.zeros((1, 2)), np.ones((1, 2, 2))).damped(0, 1.0)
        >>> law.cov[0], round(float(law.factor[0]) ** 2, 15)
        (array([[0.5, 0.5],
               [0.5, 0.5]]), 0.5)
        """
        one, zero = np.ones(len(mean)), np.zeros(len(mean))
        return cls(mean, cov, one, zero, np.zeros(mean.shape), np.zeros(cov.shape), zero)

    def damped(self, i: int, a: float) -> Tilted:
        """With the density factor exp(-a x_i²/2)."""
        q, m = self.cov[:, i, i], self.mean[:, i]
        w = 1 + a * q
        row, at = self.cov[:, i] / w[:, None], a * m / w
        gain = a * np.abs(row)  # |P| = 1 + gain e_iᵀ, whose row i is e_i/w
        gain[:, i] = 1 / w - 1
        lost = a * row[:, :, None] * self.cov[:, i, None, :]
        cov = self.cov - lost
        cov[:, i], cov[:, :, i] = row, row
        local = EPS * (np.abs(self.cov) + 6 * np.abs(lost))
        local[:, i] = local[:, :, i] = 4 * EPS * np.abs(row)
        left = self.off_cov + gain[:, :, None] * self.off_cov[:, i, None, :]
        off_cov = left + gain[:, None, :] * left[:, :, i, None] + local
        taken = row * (a * m)[:, None]
        mean = self.mean - taken
        mean[:, i] = m / w
        known = self.off_mean + np.abs(at)[:, None] * self.off_cov[:, i]
        local = EPS * (np.abs(self.mean) + 6 * np.abs(taken))
        local[:, i] = 4 * EPS * np.abs(mean[:, i])
        off_mean = known + gain * known[:, i, None] + local
        size = np.abs(at * m) / 2
        off = a * self.off_cov[:, i, i] / (2 * w) + 4 * EPS
        off = off + np.abs(at) * (self.off_mean[:, i] + np.abs(at) * self.off_cov[:, i, i] / 2) + 6 * EPS * size
        return Tilted(mean, cov, self.factor / np.sqrt(w), self.exponent - size, off_mean, off_cov, self.off + off)

    def shifted(self, rates: tuple[complex, ...]) -> Tilted:
        """With the density factor exp(b·x)."""
        if not any(rates):
            return self
        real = not any(np.imag(rates))
        b = np.array(np.real(rates) if real else rates)
        size = np.abs(b)
        shift, spread = self.cov @ b, np.abs(self.cov) @ size
        unit = (len(b) + 2) * EPS
        off = self.off_mean @ size + (self.off_cov @ size) @ size / 2
        off = off + unit * (np.abs(self.mean) @ size + spread @ size)
        off_mean = self.off_mean + self.off_cov @ size + unit * (np.abs(self.mean) + spread)
        exponent = self.exponent + self.mean @ b + shift @ b / 2
        return Tilted(self.mean + shift, self.cov, self.factor, exponent, off_mean, self.off_cov, self.off + off)


class Moments:
    """E Π x_i^n_i with sizes of their terms and bounds of their rounding, by Isserlis' recursion

    E x_i F = m_i E F + Σ_j Σ_ij E ∂_j F.
    """

    def __init__(self, law: Tilted) -> None:
        self.law, self.centred = law, not np.any(law.mean)
        one = np.ones(len(law.mean))
        self.known: dict[tuple[int, ...], tuple[Array, Array, Array]] = {(0,) * law.cov.shape[1]: (one, one, 0 * one)}

    def __call__(self, orders: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """The moment, the sum of the sizes of its terms, and the bound, all (N,).

        >>> law = Tilted.of(np.zeros((1, 2)), np.array([[[1.0, 0.5], [0.5, 2.0]]]))
        >>> float(Moments(law)((2, 2))[0][0])  # q1 q2 + 2 c²
        2.5
        """
        if orders not in self.known:
            self.known[orders] = self._found(orders)
        return self.known[orders]

    def _found(self, orders: tuple[int, ...]) -> tuple[Array, Array, Array]:
        law, zero = self.law, np.zeros(len(self.law.mean))
        if self.centred and sum(orders) % 2:
            return zero, zero, zero
        i = next(j for j, n in enumerate(orders) if n)
        lower = _less(orders, i)
        parts = [] if self.centred else [(1, law.mean[:, i], law.off_mean[:, i], self(lower))]
        for j, n in enumerate(lower):
            if n:
                parts.append((n, law.cov[:, i, j], law.off_cov[:, i, j], self(_less(lower, j))))
        value, size, error = zero, zero, zero
        for n, a, off, (v, s, e) in parts:
            value, size = value + n * a * v, size + n * np.abs(a) * s
            error = error + n * (np.abs(a) * e + off * (s + e))
        return value, size, error + (len(parts) + 2) * EPS * size


def _less(orders: tuple[int, ...], i: int) -> tuple[int, ...]:
    return (*orders[:i], orders[i] - 1, *orders[i + 1 :])


def tilted(body: sp.Expr, law: Law) -> tuple[Array, Array, Array] | None:
    """E of a product of functions of one variable each that are polynomials times exponentials and Gaussians.

    Args:
        body: the product; sines and cosines are exponentials of imaginary rate.
        law: of its variables, entries that broadcast.

    Returns:
        value, bound of its rounding, and size of its terms of real rates, of one shape; None for another body.

    Raises:
        DataError: the covariance is not positive semidefinite.

    Reference: L. Isserlis, 1918, for the moments; R. H. Cameron, W. T. Martin, 1944, for the shift.

    >>> u, v, w = variables = sp.symbols("u v w", real=True)
    >>> one = np.ones(())
    >>> law = Law(variables, {(i, j): one for i in range(3) for j in range(i, 3)}, (0 * one,) * 3, {}, 0.0, 0.0)
    >>> value, error, size = tilted(u * v * Exp(-(w**2) / 2), law)
    >>> abs(float(value) - 2**-1.5) <= float(error) <= 1e-14  # of equal variables: E u² e^(-u²/2)
    True
    """
    read = law.read(body)
    sums = _sums(body, tuple(law.variables[i] for i in read))
    if sums is None:
        return None
    shape, k = law.shape(body), len(read)
    mean = np.stack([np.broadcast_to(law.mean[i], shape).reshape(-1) for i in read], -1)
    entries = [np.broadcast_to(law.get(i, j), shape).reshape(-1) for i in read for j in read]
    cov = semidefinite(np.stack(entries, -1).reshape(-1, k, k), law.slack, [law.variables[i] for i in read], body)
    parts = [_expected(sums, mean[n : n + ROWS], cov[n : n + ROWS]) for n in range(0, len(mean), ROWS)]
    value, error, size = (np.concatenate([np.zeros(0), *column]) for column in zip(*parts, strict=True))
    return value.reshape(shape), error.reshape(shape), size.reshape(shape)


@lru_cache(maxsize=4096)
def _sums(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[tuple[Term, ...], ...] | None:
    """The factors by variable as sums of terms, none of which is cut."""
    factors = dict.fromkeys(variables, sp.S.One)
    for f in (g for h in sp.Mul.make_args(body) for g in _split(h)):
        symbols = f.free_symbols
        if len(symbols) > 1 or not symbols <= factors.keys():
            return None
        u = symbols.pop() if symbols else variables[0]
        factors[u] *= f
    found = []
    for u, f in factors.items():
        sum_ = terms(f, u)
        if sum_ is None or any(t.width or t.power.side or t.power.kink for t in sum_):
            return None
        found.append(sum_)
    few = prod(map(len, found)) <= MOST and sum(max((t.power.order for t in s), default=0) for s in found) <= DEGREE
    return tuple(found) if few else None


def _split(factor: sp.Expr) -> list[sp.Expr]:
    """exp(x + y) as exp(x) exp(y)."""
    base, power = factor.as_base_exp()
    if isinstance(base, Exp) and len(base.free_symbols) > 1 and power.is_Integer:
        return [Exp(t) ** power for t in sp.Add.make_args(sp.expand(base.args[0]))]
    return [factor]


def _expected(sums: tuple[tuple[Term, ...], ...], mean: Array, cov: Array) -> tuple[Array, Array, Array]:
    """What ``tilted`` gives, from all products of terms; of two that are conjugate one is computed."""
    damped: dict[tuple[float, ...], Tilted] = {}
    moments: dict[Any, Moments] = {}
    value, error, size = (np.zeros(len(mean)) for _ in range(3))
    with np.errstate(all="ignore"):
        for chosen in product(*sums):
            rates, dampings = tuple(t.rate for t in chosen), tuple(t.damping for t in chosen)
            turning = next((r.imag for r in rates if r.imag), 0.0)
            if turning < 0:
                continue
            if (rates, dampings) not in moments:
                if dampings not in damped:
                    damped[dampings] = _damped(Tilted.of(mean, cov), dampings)
                moments[rates, dampings] = Moments(damped[dampings].shifted(rates))
            of, orders = moments[rates, dampings], tuple(t.power.order for t in chosen)
            weight = (2 if turning else 1) * prod(t.coefficient for t in chosen) / prod(map(factorial, orders))
            v, s, e = of(orders)
            law = of.law
            scale = abs(weight) * law.factor * np.exp(np.real(law.exponent))
            turn = np.exp(1j * np.imag(law.exponent)) if turning else 1.0
            value = value + np.real(weight / abs(weight) * turn * v) * scale
            unit = (8 + len(sums) + prod(map(len, sums))) * EPS
            error = error + scale * (e + (s + e) * np.expm1(law.off + unit)) + TINY
            size = size if turning else size + s * scale
    error = np.where(np.isfinite(value + error), error, np.inf)
    return np.where(np.isfinite(value), value, 0.0), error, size


def _damped(law: Tilted, dampings: tuple[float, ...]) -> Tilted:
    for i, a in enumerate(dampings):
        law = law.damped(i, a) if a else law
    return law
