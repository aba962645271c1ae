"""Integer tokens as vectors: one-hot, with ⟨ξ,ξ'⟩ = 1 where tokens are equal and 0 where they are not.

An embedding of N(0, std²) entries then gives every token a vector of its own, with entries of variance std².
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.errors import DataError


def is_tokens(X: Any) -> bool:
    """Whether inputs are integers: (N, T), or a list of (T_i,).

    >>> is_tokens([[0, 3, 1], [2, 2, 1]]), is_tokens([[0.5, 1.0]]), is_tokens(np.ones((2, 3, 1), int))
    (True, False, False)
    """
    if isinstance(X, (list, tuple)):
        return len(X) > 0 and all(_is_row(x) for x in X)
    return getattr(X, "ndim", None) == 2 and np.asarray(X).dtype.kind in "iu"


def _is_row(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(t, (int, np.integer)) and not isinstance(t, bool) for t in x)
    return getattr(x, "ndim", None) == 1 and np.asarray(x).dtype.kind in "iu"


def encoded(sets: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Sets of inputs whose tokens, where they are tokens, are vectors of one dimension, the largest token plus 1.

    Raises:
        DataError: negative tokens; one set of tokens beside one that is not.

    >>> encoded([np.array([[1, 0]])], ["X"])[0] ** 2
    array([[[0., 2.],
            [2., 0.]]])
    """
    found = [is_tokens(X) for X in sets]
    if not any(found):
        return list(sets)
    if not all(found):
        raise DataError(f"{names[found.index(True)]} holds integer tokens and {names[found.index(False)]} does not")
    rows = [[np.asarray(x, int) for x in X] for X in sets]
    for name, of in zip(names, rows, strict=True):
        for i, x in enumerate(of):
            if x.size and x.min() < 0:
                raise DataError(f"{name}[{i}] holds the token {x.min()}; tokens are integers from 0")
    count = max((int(x.max()) + 1 for of in rows for x in of if x.size), default=1)
    vectors = [[np.sqrt(count) * (x[:, None] == np.arange(count)) for x in of] for of in rows]
    return [
        v if isinstance(X, (list, tuple)) else np.stack(v) if v else np.empty((0, X.shape[1], count))
        for v, X in zip(vectors, sets, strict=True)
    ]
