"""Numbers of a derived kernel on data: its expectations on blocks of pairs, with their errors where they matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Scalar
from tensorprog.derivation.data import Inputs, by_lengths, gram, input_relation
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.kernel_account import KernelAccount, Recorder, spread
from tensorprog.derivation.named import Layout
from tensorprog.derivation.over_positions import over_positions
from tensorprog.dsl.trace import Datum
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.law import Value
from tensorprog.expectations.many.sobol import ERRORS
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import Atom, numbers
from tensorprog.limit.gap import Data, Gaps
from tensorprog.limit.rounded import rounding, subtracts

BLOCK_BYTES = 2**27
Array = Any


@dataclass
class _Notes:
    """What was noted while blocks were computed; errors are found where they matter, or always if ``accounted``."""

    accounted: bool
    methods: Counter[str] = field(default_factory=Counter)
    statistical: bool = False

    def values(self, d: Derivation, sides: Sequence[np.ndarray], hyper: Any, shape: tuple[int, ...]) -> np.ndarray:
        """The kernel of pairs and its errors, (2, *shape)."""
        grams, data = products(d, sides)

        def evaluate(atom: Atom) -> Array:
            return numbers([d.poly], {**hyper, **grams}, Gaps(d.limit.structure, data), atom)[0]

        def rounded(found: Mapping[Expect, Value]) -> Array:
            return rounding(d.poly, {**hyper, **grams}, found)

        return self.accounts(evaluate, shape, rounded if subtracts(d.poly) else None)

    def accounts(self, evaluate: Callable[[Atom], Array], shape: tuple[int, ...],
                 rounded: Callable[[Mapping[Expect, Value]], Array] | None = None) -> np.ndarray:  # fmt: skip
        """A value, given how expectations are found, and its errors, that of terms that cancel among them."""
        recorder = Recorder()
        total = evaluate(recorder.atom)
        self.methods.update(recorder.methods)
        self.statistical |= recorder.statistical
        error = (
            spread(evaluate, total, recorder) if self.accounted or recorder.noticed or recorder.cancels(total) else 0.0
        )
        if rounded is not None:
            lost = rounded({g: v for (g, _), v in recorder.found.items()})
            error = error + (lost if self.accounted else np.where(total != 0, lost, 0.0))  # a 0 is no reason to warn
        return np.stack([np.broadcast_to(x, shape) for x in (total, error)])


def exact_account(derive: Callable[..., Derivation], first: Inputs, other: Inputs | None, hyper: Any,
                  accounted: bool) -> KernelAccount:  # fmt: skip
    """K(X1, X2) by its expectations.

    Args:
        derive: (lengths, same) ↦ the derivation for two inputs of these lengths, or for one with itself.
        first, other: inputs; ``other`` is None for the first with themselves.
        hyper: numbers for hyperparameters, by symbol.
        accounted: whether small errors are computed too; else they are 0.
    """
    notes, second = _Notes(accounted), first if other is None else other
    blocks: dict[Any, np.ndarray] = {}

    def block(t1: Any, t2: Any) -> np.ndarray:
        if isinstance(t1, tuple):
            d, a, b = derive((None, None)), first.data[t1], second.data[t2]
            blocks[t1, t2] = _over_positions(notes, d, a, b, (t1, t2), hyper, first.layout)
            return blocks[t1, t2][0]
        d, a, b = derive((t1, t2)), first.data[t1], second.data[t2]
        width = max(1, int(BLOCK_BYTES / (8 * len(b) * (1 + len(reachable([d.poly]))))))
        parts = (a[start : start + width, None] for start in range(0, len(a), width))
        blocks[t1, t2] = np.concatenate([notes.values(d, (p, b[None]), hyper, (len(p), len(b))) for p in parts], axis=1)
        return blocks[t1, t2][0]

    K = by_lengths(first, other, block)
    error = by_lengths(first, other, lambda t1, t2: blocks[t1, t2][1])
    if other is None:
        for matrix in (K, error):
            matrix[:] = np.tril(matrix) + np.tril(matrix, -1).T
        for t, rows in first.groups.items():
            if isinstance(t, tuple):
                continue
            K[rows, rows], error[rows, rows] = notes.values(
                derive((t, t), same=True), (first.data[t],), hyper, (len(rows),)
            )
    error = error / ERRORS if notes.statistical else error
    return KernelAccount(K, error, notes.statistical, tuple(m for m, _ in notes.methods.most_common()))


def _over_positions(notes: _Notes, d: Derivation, a: np.ndarray, b: np.ndarray, sizes: Any, hyper: Any,
                    layout: Layout | None) -> np.ndarray:  # fmt: skip
    """The kernel of all pairs of inputs with positions, and its errors."""
    i, j = (k.ravel() for k in np.indices((len(a), len(b))))
    width = max(1, int(BLOCK_BYTES / (8 * a.shape[1] * b.shape[1] * (1 + len(reachable([d.poly]))))))

    def part(of: slice) -> np.ndarray:
        x, y = a[i[of]], b[j[of]]
        return notes.accounts(lambda atom: over_positions(d, x, y, sizes, hyper, atom, layout), (len(x),))

    found = [part(slice(s, s + width)) for s in range(0, len(i), width)]
    return np.concatenate(found, axis=1).reshape(2, len(a), len(b))


def values(d: Derivation, sides: Sequence[np.ndarray], hyper: Any, atom: Atom | None = None) -> Array:
    """The kernel of all pairs of inputs of the sides, (.., T, d) each, whose leading axes broadcast."""
    grams, data = products(d, sides)
    return numbers([d.poly], {**hyper, **grams}, Gaps(d.limit.structure, data), atom)[0]


def grams_of(d: Derivation) -> dict[sp.Symbol, tuple[Datum, Datum]]:
    """The inner products of data that a kernel reads, by symbol."""
    scalars = {g.symbol for g in reachable([d.poly]) if isinstance(g, Scalar)}
    return {s: pair for s, pair in d.trace.grams.items() if s in scalars}


def products(d: Derivation, sides: Sequence[np.ndarray]) -> tuple[dict[sp.Symbol, np.ndarray], Data]:
    """The inner products that a kernel reads, and what ``Gaps`` asks about their angles; ``sides`` as above."""
    rows = {s: tuple(sides[p.owner][..., at(p), :] for p in pair) for s, pair in grams_of(d).items()}
    grams = {s: gram(*pair) for s, pair in rows.items()}
    grams |= {s: sides[p.owner][..., at(p), :] for s, p in d.trace.vectors.items() if p.owner < len(sides)}

    def data(aa: sp.Symbol, ab: sp.Symbol, bb: sp.Symbol) -> tuple[np.ndarray, np.ndarray] | None:
        known = d.trace.grams
        if not {aa, ab, bb} <= grams.keys() or {known[aa], known[bb]} != {(datum, datum) for datum in known[ab]}:
            return None
        a, b = rows[ab]
        return input_relation(a, b, grams[aa], grams[bb], grams[ab])

    return grams, data


def at(d: Datum) -> int:
    """The position of an input vector in its sequence."""
    return 0 if d.time is None else d.time - 1
