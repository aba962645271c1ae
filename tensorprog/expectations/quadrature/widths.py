"""How narrow the features of an argument of several variables are: curves and points where it is small."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

Array = Any
REACH = 6.0  # half-width of the box in which features are looked for
NODES = {2: 25, 3: 9, 4: 5}  # of the grid that the search starts from, per axis
STARTS = 24  # lowest nodes from which it goes down
ROUNDS = 48  # of a search; double roots are approached by halves
HALVINGS = 40  # of the distance at which an argument has changed by one
DISTANT = 8.0  # values of an argument beyond which there is no feature


def slope(f: Callable[..., Array], count: int, rank: int, base: bool) -> Array:
    """1 / the least width of the features of f(z_1 .. z_r), (N, S) from r arrays (N, S), of N entries at once.

    A feature is where |f| is below 8 (or, of a base, least), and its width the distance in which f changes by 1 (or by
    its own size).  It is looked for by Newton's steps from the lowest nodes of a grid.

    >>> ring = lambda x, y: 1e4 * (x**2 + y**2 - 1)**2
    >>> bool(100 < slope(ring, 1, 2, False)[0] < 300)
    True
    """
    axis = np.linspace(-REACH, REACH, NODES[rank]) + 0.01  # off the axes, where arguments are often 0 or even
    grid = np.stack(np.meshgrid(*[axis] * rank, indexing="ij")).reshape(rank, 1, -1)
    with np.errstate(all="ignore"):
        size = _size(f, np.broadcast_to(grid, (rank, count, grid.shape[2])))
        lowest = np.argsort(size, axis=1)[:, :STARTS]
        z = _lowered(f, np.take_along_axis(np.broadcast_to(grid, (rank, *size.shape)), lowest[None], axis=2))
        low = _size(f, z)
        inside = (np.abs(z).max(axis=0) <= REACH + 1) & np.isfinite(low)
        inside &= low <= (2 * np.nanmin(np.where(inside, low, np.inf), axis=1, keepdims=True) if base else DISTANT)
        least = low if base else np.ones_like(low)
        width = np.where(inside & (least > 0), _distance(f, z, least), np.inf)
    return np.asarray(1 / width.min(axis=1))


def _size(f: Callable[..., Array], z: Array) -> Array:
    found = np.abs(f(*z))
    return np.where(np.isnan(found), np.inf, found)


def _lowered(f: Callable[..., Array], z: Array) -> Array:
    """Points with smaller |f|: steps −f ∇f/|∇f|², halved where |f| grows."""
    now, pace = _size(f, z), np.ones(z.shape[1:])
    for _ in range(ROUNDS):
        step = 1e-6
        value = f(*z)
        gradient = np.stack([(f(*_moved(z, i, step)) - f(*_moved(z, i, -step))) / (2 * step) for i in range(len(z))])
        move = -pace * value * gradient / (gradient**2).sum(axis=0)
        length = np.sqrt((move**2).sum(axis=0))
        move = np.where(np.isfinite(length) & (length > 0), move / np.maximum(1.0, length), 0.0)
        size = _size(f, z + move)
        better = size < now
        z, now, pace = (
            z + move * better,
            np.where(better, size, now),
            np.where(better, np.minimum(1, 2 * pace), pace / 2),
        )
    return z


def _moved(z: Array, axis: int, step: float) -> Array:
    return np.concatenate([z[:axis], z[axis : axis + 1] + step, z[axis + 1 :]])


def _distance(f: Callable[..., Array], z: Array, change: Array) -> Array:
    """The least distance from z, along some directions, in which f changes by so much; infinite where it does not."""
    value, best = f(*z), np.full(z.shape[1:], np.inf)
    for k in range(HALVINGS):
        t = 2.0 ** (1 - k)
        moved = [np.abs(f(*(z + t * d[:, None, None])) - value) >= change for d in _directions(len(z))]
        far = np.any(moved, axis=0)
        best = np.where(far, t, best)
        if not far.any():
            break
    return best


@cache
def _directions(rank: int) -> tuple[Array, ...]:
    if rank == 2:
        return tuple(np.array([np.cos(a), np.sin(a)]) for a in np.arange(8) * np.pi / 4)
    signs = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * rank, indexing="ij")).reshape(rank, -1).T
    return tuple(s / np.linalg.norm(s) for s in signs if s.any())
