"""Generators of what sums over positions give: arrays of numbers indexed by a position p of x and a position q of x'.

A quantity of a limit is a number for every pair of positions, Σ(x,x')[p,q], or for every position of one input,
Σ(x,x)[p,p].  Functions act on each; maps between positions (``ir.axes``) act on whole arrays:

    shared      (M C)[p,q] = (1/|w|) Σ_k C[m_k(p), m_k(q)]        of products with one matrix for every offset
    left        (A C)[p,q] = (1/|w|) Σ_k C[m_k(p), q]
    right       (C Aᵀ)[p,q]
    both        A C Aᵀ
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tensorprog.algebra import Blend, Gen, Poly, to_sympy
from tensorprog.ir.axes import Pairs, Reading
from tensorprog.printing import NameSymbol, text

How = Literal["shared", "left", "right", "both"]


class Positional(Gen):
    """A generator whose value is found from whole arrays; ``FIELDS`` are its arguments, but for its symbol."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[str, ...]] = ()

    def printed(self) -> NameSymbol:
        """Its kind, and what it is found from."""
        said = ", ".join(str(v) for v in self.key[1:])
        arrays = ", ".join(text(to_sympy(p)) for p in self.reads)
        return NameSymbol(f"[{self.key[0]} {said} of {getattr(self, 'point', '')}]({arrays})")

    def made_of(self) -> tuple[Any, ...]:
        return (*(getattr(self, name) for name in self.FIELDS), self._symbol)

    @property
    def reads(self) -> tuple[Poly, ...]:
        """The arrays that it is found from."""
        return tuple(v for name in self.FIELDS if isinstance(v := getattr(self, name), Poly))

    @property
    def key(self) -> tuple[Any, ...]:
        """What is done to them, whichever of the inputs it is done to."""
        fields = (getattr(self, name) for name in self.FIELDS if name != "point")
        return (
            type(self).__name__,
            *(v.map if isinstance(v, Reading) else v for v in fields if not isinstance(v, Poly)),
        )


class Along(Positional):
    """A map applied to the array that a polynomial stands for.

    Args:
        by: the map.
        how: to which index it is applied.
        transpose: whether it is the transposed map.
        inner: the array.
        point: None for one indexed by two positions; of one indexed by a single position, the number of the input.
        symbol: what it prints as; made of the above where it is None.
    """

    __slots__ = FIELDS = ("by", "how", "transpose", "inner", "point")  # type: ignore[misc]

    def __init__(
        self, by: Reading, how: How, transpose: bool, inner: Poly, point: int | None, symbol: NameSymbol | None = None
    ) -> None:
        super().__init__(symbol)
        self.by, self.how, self.transpose, self.inner, self.point = by, how, transpose, inner, point

    def printed(self) -> NameSymbol:
        """[map how](array); ``formulas.summing`` writes it with indices."""
        to = "" if self.point is None else f" of input {self.point}"
        by = f"{self.by.map}{'ᵀ' if self.transpose else ''} {self.how}{to}"
        return NameSymbol(f"[{by}]({text(to_sympy(self.inner))})")


class At(Positional):
    """The array of two inputs, taken for one input with itself at p = q: number ``point`` of the inputs."""

    __slots__ = FIELDS = ("inner", "point")  # type: ignore[misc]

    def __init__(self, inner: Poly, point: int, symbol: NameSymbol | None = None) -> None:
        super().__init__(symbol)
        self.inner, self.point = inner, point


class Whole(At):
    """The same at all p and q: scalars of one input for all pairs of positions."""

    __slots__ = ()


class Rows(Positional):
    """Σ_q' s[p,q'] of scalars of one input for pairs of positions with these axes, the same at every q."""

    __slots__ = FIELDS = ("inner", "axes", "point")  # type: ignore[misc]

    def __init__(self, inner: Poly, axes: Pairs, point: int, symbol: NameSymbol | None = None) -> None:
        super().__init__(symbol)
        self.inner, self.axes, self.point = inner, axes, point


class Causal(Positional):
    """1 where position q of an input is not after p, else 0."""

    __slots__ = FIELDS = ("axes", "point")  # type: ignore[misc]

    def __init__(self, axes: Pairs, point: int, symbol: NameSymbol | None = None) -> None:
        super().__init__(symbol)
        self.axes, self.point = axes, point


class Standard(Blend):
    """A vector normalised over the members of a batch, at one of them: a function of Gaussians at all."""

    __slots__ = ()


class Batched(Positional):
    """E f(y[p]) g(y'[q]) of normalised batches y, y'; with ``theta`` E Σ_kl ∂_k f(y[p]) Θ[k,l] ∂_l g(y'[q]).

    Args:
        first, second: f and g as members of the table of functions, or their derivatives where there is a ``theta``;
            None for the identity, or the constant 1.
        eps: what is added to the variance.
        one, cross, two: the covariances of what is normalised, of x with itself, of x and x', of x' with itself.
        theta: the NTK of it, where derivatives are asked for.
        symbol: what it prints as; made of the above where it is None.
    """

    __slots__ = FIELDS = ("first", "second", "eps", "one", "cross", "two", "theta")  # type: ignore[misc]

    def __init__(self, first: Any, second: Any, eps: Poly, one: Poly, cross: Poly, two: Poly,
                 theta: Poly | None = None, symbol: NameSymbol | None = None) -> None:  # fmt: skip
        super().__init__(symbol)
        self.first, self.second, self.eps = first, second, eps
        self.one, self.cross, self.two, self.theta = one, cross, two, theta

    def printed(self) -> NameSymbol:
        """N[f, g](Cov(h,h')); ``formulas.batches`` writes it with its positions."""
        names = ", ".join("id" if fn is None else str(fn) for fn in (self.first, self.second))
        eps = f", {text(to_sympy(self.eps))}" if self.eps else ""
        along = "" if self.theta is None else f"; {text(to_sympy(self.theta))}"
        return NameSymbol(f"N[{names}]({text(to_sympy(self.cross))}{eps}{along})")


class Weighed(Positional):
    """A C, or C Aᵀ where ``how`` is "right", with the scalars A of one input for pairs of positions, or Aᵀ for A."""

    __slots__ = FIELDS = ("weights", "axes", "how", "transpose", "inner")  # type: ignore[misc]

    def __init__(
        self, weights: Poly, axes: Pairs, how: How, transpose: bool, inner: Poly, symbol: NameSymbol | None = None
    ) -> None:
        super().__init__(symbol)
        self.weights, self.axes, self.how, self.transpose, self.inner = weights, axes, how, transpose, inner


class Drawn(Positional):
    """Random scores s[p,q] of one input: Gaussian over all inputs, Cov(s[p,q], s'[r,t]) = rows[p,r] · columns[q,t].

    Args:
        which: a number for each kind of score; those of other kinds are independent.
        rows, columns: arrays of two inputs.
        axes: of the scores.
        point: the number of the input.
        symbol: what they print as.
    """

    __slots__ = FIELDS = ("which", "rows", "columns", "axes", "point")  # type: ignore[misc]

    def __init__(
        self, which: int, rows: Poly, columns: Poly, axes: Pairs, point: int, symbol: NameSymbol | None = None
    ) -> None:
        super().__init__(symbol)
        self.which, self.rows, self.columns, self.axes, self.point = which, rows, columns, axes, point


class Soft(Positional):
    """The softmax of scores along their second index, over those up to the first where ``causal``."""

    __slots__ = FIELDS = ("inner", "axes", "causal", "point")  # type: ignore[misc]

    def __init__(self, inner: Poly, axes: Pairs, causal: bool, point: int, symbol: NameSymbol | None = None) -> None:
        super().__init__(symbol)
        self.inner, self.axes, self.causal, self.point = inner, axes, causal, point


class Mean(Positional):
    """The expectation of an array over random scores."""

    __slots__ = FIELDS = ("inner",)  # type: ignore[misc]

    def __init__(self, inner: Poly, symbol: NameSymbol | None = None) -> None:
        super().__init__(symbol)
        self.inner = inner


class Contracted(Positional):
    """E Σ a[p,q] a'[r,t] C[q,t] with random weights a, or Σ over p and r of C[p,r] where ``transpose``.

    Args:
        rows, columns: of the covariance of the scores s whose softmax a is, as in ``Drawn``; of each input with itself
            too, rows at p = q.
        slope_rows, slope_columns: of the covariance of da, where a stands for the gradient a (da − Σ a da); else None.
        causal: whether position p reads those up to p only.
        axes: of the weights.
        transpose: which indices are summed over.
        inner: C.
    """

    __slots__ = FIELDS = (  # type: ignore[misc]
        "rows", "rows0", "rows1", "columns", "columns0", "columns1", "slope_rows", "slope_columns", "causal", "axes",
        "transpose", "inner",
    )  # fmt: skip

    def __init__(
        self, rows: Poly, rows0: Poly, rows1: Poly, columns: Poly, columns0: Poly, columns1: Poly,
        slope_rows: Poly | None, slope_columns: Poly | None, causal: bool, axes: Pairs, transpose: bool, inner: Poly,
        symbol: NameSymbol | None = None,
    ) -> None:  # fmt: skip
        super().__init__(symbol)
        self.rows, self.rows0, self.rows1 = rows, rows0, rows1
        self.columns, self.columns0, self.columns1 = columns, columns0, columns1
        self.slope_rows, self.slope_columns, self.causal = slope_rows, slope_columns, causal
        self.axes, self.transpose, self.inner = axes, transpose, inner
