"""The exact law of Θ(x,x) of a relu network without biases at any width, by its first four moments.

Given what is before, rows of W x are iid, so that X_l = Σ g² over the k_l ~ Bin(n, 1/2) active coordinates of layer l
is χ² with k_l degrees of freedom whatever came before.  Given W x, the rest of W is as it was: of Wᵀ dh the part along
x is f √n/|x|, since h·dh = √n f for a homogeneous network, and the part across is Gaussian, of which k_l − 1
coordinates stay.  In units of |x^{l−1}|²/n, with s = σ²/n, X ~ χ²_k and Y ~ χ²_{k−1},

    S_{l−1} = s X S_l + ρ σ² b_{l−1},  G_{l−1} = s X G_l,  b_{l−1} = G_l/n + s Y b_l,

for the kernel S of the layers above, G = f² and b = |dh|²/n: linear maps that are independent from layer to layer, so
that the moments of (S, G, b) are mapped linearly too.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import stats


def relu_moments(depth: int, width: int, sigma_w: float, sigma_v: float = 1.0,
                 factors: tuple[float, float, float] = (1.0, 1.0, 1.0), order: int = 2) -> list[float]:  # fmt: skip
    """E Θ^p, p = 1 .. order, of ``programs.mlp(depth, relu, sigma_w, 0, sigma_v)`` at an input with |x|²/d = 1.

    Args:
        depth, width, sigma_w, sigma_v: the network.
        factors: by which the embedding, the matrices and the readout count in Θ.
        order: at most 4.

    >>> first, second = relu_moments(1, 10**5, 2**0.5)
    >>> round(first, 6), round(second / first**2, 4)
    (2.0, 1.0)
    """
    n, s = width, sigma_w**2 / width
    embedding, matrix, readout = factors
    known = _chi_squares(n, order)
    start = np.array([readout * sigma_v**2, sigma_v**2, sigma_v**2 / sigma_w**2])
    moments = [_start(start, p) for p in range(1, order + 1)]
    for layer in range(depth, 0, -1):
        r = sigma_w**2 * (embedding if layer == 1 else matrix)
        parts = (np.array([[0, r / n, 0], [0, 0, 0], [0, 1 / n, 0]]),
                 s * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
                 s * np.array([[0, 0, r], [0, 0, 0], [0, 0, 1]]))  # fmt: skip
        moments = [_mapped(m, parts, known) for m in moments]
    return [float(m[(0,) * m.ndim]) for m in moments]


def _chi_squares(n: int, order: int) -> dict[tuple[int, int], float]:
    """E X^i Y^j over k ~ Bin(n, 1/2), for i + j ≤ order; without active coordinates both are 0."""
    k = np.arange(1.0, n + 1)
    weight = stats.binom.pmf(k, n, 0.5)
    x, y = ([np.prod([d + 2.0 * m for m in range(i)], axis=0) for i in range(order + 1)] for d in (k, k - 1))
    found = {(i, j): float(weight @ (x[i] * y[j] * np.ones(n))) for i in range(order + 1) for j in range(order + 1 - i)}
    return found | {(0, 0): 1.0}


def _start(v: np.ndarray, p: int) -> np.ndarray:
    """E v⊗..⊗v, whose second entry has a factor ζ², ζ ~ N(0, 1)."""
    found = np.ones((3,) * p)
    for index in itertools.product(range(3), repeat=p):
        powers = index.count(1)
        found[index] = np.prod(v[list(index)]) * np.prod(np.arange(1.0, 2 * powers, 2))
    return found


def _mapped(moment: np.ndarray, parts: tuple[np.ndarray, ...], known: dict[tuple[int, int], float]) -> np.ndarray:
    """E (M v)⊗..⊗(M v), M = A + X B + Y C independent of v."""
    total = np.zeros_like(moment)
    for chosen in itertools.product(range(3), repeat=moment.ndim):
        term = moment
        for axis, which in enumerate(chosen):
            term = np.moveaxis(np.tensordot(parts[which], term, axes=(1, axis)), 0, axis)
        total = total + known[chosen.count(1), chosen.count(2)] * term
    return total


def relu_ratio(networks: int, depth: int, width: int, sigma_w: float, sigma_v: float = 1.0,
               factors: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[float, float]:  # fmt: skip
    """E Θ²/(E Θ)², and the standard error of its estimate from so many networks."""
    a, b, c, d = relu_moments(depth, width, sigma_w, sigma_v, factors, 4)
    spread = (d - b * b) / a**4 - 4 * b * (c - a * b) / a**5 + 4 * b * b * (b - a * a) / a**6
    return b / a**2, math.sqrt(spread / networks)
