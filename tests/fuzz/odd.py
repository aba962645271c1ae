"""Values that are odd wherever they stand."""

import numpy as np
import sympy as sp

import tensorprog as tp

TEXTS = ["", "a", "nan", "٣", "x0", "v0", "W" * 300, "__import__('os')", "\0", "⟨x,x'⟩", "\ud800", "a b", "1e999", "{}"]
NUMBERS = [0, 1, 2, -1, 0.5, 1e-300, 1e300, 10**30, 10**5000, float("nan"), float("inf"), True, 3 + 4j, sp.oo, sp.nan,
           sp.zoo, sp.Rational(1, 3), sp.sqrt(2), sp.I, sp.Symbol("c"), sp.Symbol("c", positive=True),
           sp.Symbol("k", negative=True), np.float32(2), np.int8(3), np.float64("nan")]  # fmt: skip
OTHERS = [None, [], {}, (), [1, 2], [[1]], (None,), {"sigma_w": "a"}, object(), np.ones((2, 2)), np.array("a"), tp, int,
          lambda *a: a, [np.zeros((2, 3)), np.zeros((1, 3))], b"a", {1}, range(3)]  # fmt: skip
ODD = [*NUMBERS, *TEXTS, *OTHERS]
NETS = [tp.programs.mlp(depth=1), tp.programs.rnn(), tp.programs.mlp]


def anything(c):
    """A value of any kind."""
    return c.among([*ODD, *NETS])
