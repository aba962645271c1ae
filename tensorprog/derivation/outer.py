"""Sums of outer products: the NTK from rows of gradients and activations, without a Jacobian.

Θ = Σ_W σ_W² Σ_{uses u, v} (D_u D_vᵀ/n) ∘ (H_u H_vᵀ/n), the Gram matrix of Σ_u d_u ⊗ h_u: positive semidefinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Pair = tuple[Array, Array | None]  # rows (S, N, ·) whose outer products are the gradients of one use of a parameter


def gram(left: list[Pair], right: list[Pair], symmetric: bool) -> Array:
    """Σ over uses u, v of (L_u L_vᵀ) ∘ (R_u R_vᵀ), (S, N, N'); with ``symmetric``, both lists are the same one."""
    if len(left) == len(right) == 1:
        return _use(left[0], right[0])
    inner, outer = (_stack([pair[k] for pair in right]) for k in (0, 1))
    step = inner.shape[1] // len(right)
    total: Array = 0.0
    for k, rows in enumerate(left):
        start = k * step if symmetric else 0
        product = _use(rows, (inner[:, start:], None if outer is None else outer[:, start:]))
        blocks = product.reshape(*product.shape[:2], -1, step)
        if symmetric and blocks.shape[2] > 1:
            later = blocks[:, :, 1:].sum(axis=2)
            total = total + blocks[:, :, 0] + later + np.swapaxes(later, 1, 2)
        else:
            total = total + (blocks[:, :, 0] if blocks.shape[2] == 1 else blocks.sum(axis=2))
    return total


def _stack(parts: list[Array | None]) -> Array:
    """Rows of all uses one after the other; a single use stays the array it is, so that its Gram matrix is one."""
    arrays = [a for a in parts if a is not None]
    if len(arrays) < 2:
        return arrays[0] if arrays else None
    seeds = max(len(a) for a in arrays)
    return np.concatenate([np.broadcast_to(a, (seeds, *a.shape[1:])) for a in arrays], axis=1)


def _use(rows: Pair, columns: Pair) -> Array:
    product = rows[0] @ columns[0].swapaxes(1, 2)
    if rows[1] is not None and columns[1] is not None:
        product *= rows[1] @ columns[1].swapaxes(1, 2)
    return product
