"""The exact law of Θ(x,x) of a relu network without biases at any width, by its first two moments.

Given what is before, rows of W x are iid, so that X_l = Σ g² over the k_l ~ Bin(n, 1/2) active coordinates of layer
l is χ² with k_l
degrees of freedom whatever came before.  Given W x, the rest of W is as it was: of W dh the part along x is f√n/|x|,
since
h·dh = √n f for a homogeneous network, and the part across is Gaussian, of which k_l − 1 coordinates stay.  In units
of |x^{l−1}|²/n,

    S_{l−1} = s X S_l + ρσ² b_{l−1},  G_{l−1} = s X G_l,  b_{l−1} = G_l/n + s Y b_l,   s = σ²/n,  X ~ χ²_k,  Y ~
    χ²_{k−1},

for the kernel of the layers above, f² and |dh|²/n: a linear map with independent coefficients in every layer.
"""

from __future__ import annotations

import numpy as np


def relu_moments(depth: int, width: int, sigma_w: float, sigma_v: float = 1.0,
                 factors: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[float, float]:  # fmt: skip
    """E Θ and E Θ² of ``programs.mlp(depth, relu, sigma_w, 0, sigma_v)`` at an input with |x|²/d = 1.

    Args:
        depth, width, sigma_w, sigma_v: the network.
        factors: by which the embedding, the matrices and the readout count in Θ.

    >>> first, second = relu_moments(1, 10**6, 2**0.5)
    >>> round(first, 6), round(second / first**2, 5)
    (2.0, 1.0)
    """
    n, s = width, sigma_w**2 / width
    none = 0.5**n  # that no coordinate is active
    k, kk = n / 2, n / 4 + n * n / 4
    ex, ey = k, k - 1 + none
    exx, exy, eyy = kk + 2 * k, kk - k, kk - 1 + none
    embedding, matrix, readout = factors
    mean = np.array([readout * sigma_v**2, sigma_v**2, sigma_v**2 / sigma_w**2])
    second = np.outer(mean, mean)
    second[1, 1] *= 3  # f² has a normal factor squared, ζ²
    for layer in range(depth, 0, -1):
        r = sigma_w**2 * (embedding if layer == 1 else matrix)
        parts = [np.array([[0, r / n, 0], [0, 0, 0], [0, 1 / n, 0]]),
                 s * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
                 s * np.array([[0, 0, r], [0, 0, 0], [0, 0, 1]])]  # fmt: skip
        moments = np.array([[1, ex, ey], [ex, exx, exy], [ey, exy, eyy]])
        second = sum(moments[i, j] * a @ second @ b.T for i, a in enumerate(parts) for j, b in enumerate(parts))
        mean = sum(m * a @ mean for m, a in zip(moments[0], parts, strict=True))
    return float(mean[0]), float(second[0, 0])
