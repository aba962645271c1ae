"""Numbers of a kernel between the members of batches: (N, N', B, B'), by integrals or by sampling."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.kernel_account import SAMPLING, KernelAccount
from tensorprog.derivation.over_positions import Pair, known_at
from tensorprog.derivation.route import How
from tensorprog.derivation.sampled.randomised import REPLICATES, SAMPLES
from tensorprog.errors import AssumptionError, DataError
from tensorprog.expectations.batch_norms import FLAT, Batch, Forms, double, forms_of, pushed, pushed_double, single
from tensorprog.expectations.sampled_batches import Draws, drawn, drawn_pushed
from tensorprog.ir.axes import Sizes
from tensorprog.limit.equations import reachable
from tensorprog.limit.positions import Batched
from tensorprog.progress import telling

Array = Any
METHOD = "integrals over the norm of a batch"
ROUNDING = 1e-12  # of integrals, relative to the largest entries
NEAR, EPSILON = 1e-4, float(np.finfo(float).eps)
FINITE = 3  # dimensions from which on E 1/‖u‖² is finite
MOST = 2**22  # samples of a randomisation, beyond which an rtol that is not met is given up
KEPT = 256  # batches whose own integrals are kept


class Members(Pair):
    """Batches whose pairs are taken; of a batch with itself the members are one and the same."""

    def __init__(self, d: Derivation, a: np.ndarray, b: np.ndarray, sizes: tuple[Sizes, Sizes],
                 draws: Draws | None = None) -> None:  # fmt: skip
        super().__init__(d, a, b, sizes)
        self.draws = draws

    def with_itself(self, point: int) -> Members:
        return Members(self.d, self.sides[point], self.sides[point], (self.sizes[point],) * 2, self.draws)

    def batched(self, g: Batched, values: Sequence[Array]) -> Array:
        """E f(y[p]) g(y'[q]) of every pair, or its derivative in a direction."""
        eps, *arrays = values
        shape = (len(self.equal), *map(int, map(np.prod, self.sizes)))
        whole = [shape[:1] + (shape[i],) * 2 for i in (1, 2)]
        found = [np.broadcast_to(c, n) for c, n in zip(arrays, (whole[0], shape, whole[1], shape), strict=False)]
        return np.array([self._one(g, float(eps), self.equal[i], *(c[i] for c in found)) for i in range(shape[0])])

    def _one(self, g: Batched, eps: float, equal: bool, one: Array, cross: Array, two: Array,
             theta: Array | None = None) -> Array:  # fmt: skip
        batches = [_batch(c, eps) for c in (one, two)]
        if theta is not None:
            for batch in batches:
                _check_finite(batch)
        forms = forms_of(g.first, g.second, theta is not None) if self.draws is None else None
        if forms is None:
            return self._drawn(g, eps, equal, one, cross, two, theta)
        if equal:
            return _alone(*map(_Key, (one, theta)), eps, forms)
        if theta is None:
            return double(batches[0], cross, batches[1], forms)
        return pushed_double(batches[0], cross, batches[1], theta, forms)

    def _drawn(self, g: Batched, eps: float, equal: bool, one: Array, cross: Array, two: Array,
               theta: Array | None) -> Array:  # fmt: skip
        assert self.draws is not None
        cov = (one, one, one) if equal else (one, cross, two)
        if theta is None:
            return drawn(*cov, eps, g.first, g.second, self.draws)
        return drawn_pushed(*cov, eps, g.first, g.second, theta, self.draws)


class _Key:
    """An array as the key of what is kept."""

    def __init__(self, x: Array | None) -> None:
        self.x = x
        self._bytes = None if x is None else x.tobytes()

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._bytes == other._bytes


@functools.lru_cache(maxsize=KEPT)
def _alone(cov: _Key, theta: _Key, eps: float, forms: Forms) -> Array:
    batch = _batch(cov.x, eps)
    return single(batch, forms) if theta.x is None else pushed(batch, theta.x, forms)


def _batch(cov: Array, eps: float) -> Batch:
    batch = Batch.of(cov, eps)
    if not batch.rank and not batch.offset:
        raise DataError("all members of a batch are the same: nothing is left to be normalised; give eps > 0 or others")
    return batch


def _check_finite(batch: Batch) -> None:
    """Refuse an NTK that is infinite.

    Raises:
        AssumptionError: says how many dimensions a batch moves in.
    """
    if batch.offset or batch.rank >= FINITE:
        return
    rank, size = batch.rank, batch.size
    words = "y jumps between two values" if rank == 1 else "E 1/‖u‖² is infinite"
    raise AssumptionError(
        f"the NTK of a batch normalisation is finite for batches that span {FINITE} dimensions or more about their "
        f"mean, with 4 members at least; this one has {size} members and spans {rank}: {words}; take larger batches, "
        "or eps > 0"
    )


def members_account(d: Derivation, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float],
                    how: How) -> KernelAccount:  # fmt: skip
    """The kernel of all members of all batches, (N, N', B, B').

    Raises:
        DataError: batches of several sizes in one set.
    """
    batched = [g for g in reachable([d.poly]) if isinstance(g, Batched)]
    exact = how.route != "sampling" and all(forms_of(g.first, g.second, g.theta is not None) for g in batched)
    if exact:
        lost = _lost(first, other) if any(g.theta is not None for g in batched) else 0.0
        return KernelAccount(K := _matrix(d, first, other, hyper, None), _rounding(K, lost), False, (METHOD,))
    return _sampled(d, first, other, hyper, how)


def _rounding(K: Array, lost: float) -> Array:
    return (ROUNDING + lost) * np.abs(K).max(axis=(2, 3), keepdims=True) + np.zeros_like(K)


def _lost(first: Inputs, other: Inputs | None) -> float:
    """How well the angles of members are known that are nearly the same, or opposite, in their batches."""
    (_, a), (_, b) = _one_size(first, "X1"), _one_size(other or first, "X2")
    u, v = ((x - x.mean(axis=1, keepdims=True)).reshape(-1, x.shape[-1]) for x in (a, b))
    u, v = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (u, v))
    c = u @ v.T
    angle = np.sqrt(np.maximum(1 - c * c, 0.0))
    for i, j in np.argwhere(angle < NEAR):
        angle[i, j] = min(np.linalg.norm(u[i] - v[j]), np.linalg.norm(u[i] + v[j]))
    return 2 * float(np.where(angle < np.sqrt(FLAT), angle, EPSILON / np.maximum(angle, np.sqrt(FLAT))).max())


def _sampled(d: Derivation, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float],
             how: How) -> KernelAccount:  # fmt: skip
    """Independent randomisations: their mean, and its standard error; of as many samples as a tolerance takes."""
    wish = how.sampling
    samples = max(1, (wish.samples or SAMPLES) // REPLICATES)
    while True:
        found = list[Array]()
        with telling() as tell:
            for k in range(REPLICATES):
                found.append(_matrix(d, first, other, hyper, Draws(samples, (wish.seed, k))))
                tell(k + 1, REPLICATES, "sampling")
        K = np.array(found)
        error = K.std(axis=0, ddof=1) / np.sqrt(len(K))
        account = KernelAccount(K.mean(axis=0), error, True, (SAMPLING,), samples * REPLICATES)
        excess = 0.0 if wish.samples or wish.rtol is None else float(account.relative.max(initial=0.0)) / wish.rtol
        if excess <= 1 or samples >= MOST:
            return account
        samples = min(MOST, int(samples * min(16.0, 1.3 * excess**2)) + 1)


def _matrix(d: Derivation, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float],
            draws: Draws | None) -> Array:  # fmt: skip
    (n, a), (m, b) = (_one_size(x, name) for x, name in ((first, "X1"), (other or first, "X2")))
    pairs = [(i, j) for i in range(len(a)) for j in range(i if other is None else 0, len(b))]
    K = np.empty((len(a), len(b), a.shape[1], b.shape[1]))
    for i, j in pairs:
        K[i, j] = _between(d, a[i : i + 1], b[j : j + 1], (n, m), hyper, draws)
        if other is None:
            K[j, i] = K[i, j].T
    return K


def _one_size(x: Inputs, name: str) -> tuple[Sizes, np.ndarray]:
    if len(x.data) > 1:
        sizes = " and ".join("×".join(map(str, n)) for n in x.data)
        raise DataError(
            f"{name} holds batches of sizes {sizes}, whose kernels fit into no array; give one size at a time"
        )
    ((sizes_, data),) = x.data.items()
    if data.shape[1] < 2:
        raise DataError(f"{name} holds batches of 1 member, which have no variance to be normalised by: give 2 or more")
    return sizes_, data


def _between(d: Derivation, a: np.ndarray, b: np.ndarray, sizes: tuple[Sizes, Sizes], hyper: Mapping[sp.Symbol, float],
             draws: Draws | None) -> Array:  # fmt: skip
    """The kernel of the members of two batches, (B, B')."""
    pair = Members(d, a, b, sizes, draws)
    known = known_at(pair, d.poly, hyper, lambda point: None)
    value = pair.values([d.poly], hyper, None, lambda g, value: known[g])[0]
    return np.broadcast_to(value, (1, a.shape[1], b.shape[1]))[0]
