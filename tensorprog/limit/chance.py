"""Scores over √n: Gaussian scalars that stay random, on which a limit is conditioned, and averages over them.

s[p,q] = ⟨Q x[p], K x[q]⟩/√n, with a matrix Q that nothing else reads, is Gaussian given everything else, with the
covariance E Q x[p] Q x'[r] · E K x[q] K x'[t], and what does not read s does not depend on it.  So the equations of a
limit hold given s.  Infinitely many heads give averages over s; everything else is averaged at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tensorprog.algebra import ZERO, Gen, Poly, add_all, affine, linear_parts, monomial
from tensorprog.errors import AssumptionError
from tensorprog.ir.instructions import Copied, Gathered, MatMul, Score, Softmax, Var, Weigh
from tensorprog.ir.random_scores import are_random, behind, drawn_from, entrances, softmax_gradient
from tensorprog.limit.equations import Name, children
from tensorprog.limit.positions import Along, At, Contracted, Drawn, Mean, Soft, Weighed, Whole

ELSEWHERE = (
    "scores over √n are Gaussian where one of their vectors is a product with a matrix that nothing else reads and the "
    "other does not depend on it"
)
DOWNSTREAM = (
    "with finitely many heads the gradient of scores over √n is derived where nothing but dense layers and averages "
    "over positions reads what attention makes; heads='infinite' has no such restriction"
)


class Law(NamedTuple):
    """What weights made of random scores are: their softmax, or its gradient a (da − Σ a da).

    Attributes:
        scores: rows and columns of the covariance of s.
        slopes: those of the covariance of da; None of a softmax.
        causal: whether position p reads those up to p only.
    """

    scores: tuple[Poly, Poly]
    slopes: tuple[Poly, Poly] | None
    causal: bool


class Chance:
    """What a limit knows of random scores.

    Args:
        spatial: what it knows of positions.
    """

    def __init__(self, spatial: Any) -> None:
        self.spatial, self.limit = spatial, spatial.limit
        self.laws: dict[Poly, Law] = {}
        self._random: dict[Gen, bool] = {}

    # ---- instructions ----------------------------------------------------------------------------------

    def found(self, op: Score | Softmax | Gathered, var: Var) -> Poly:
        """What an instruction converges to."""
        if isinstance(op, Gathered):
            return self.gathered(op, var)
        value = self.score(op, var) if isinstance(op, Score) else self.softmax(op, var)
        return self.limit.define(value, var)  # type: ignore[no-any-return]

    def score(self, op: Score, var: Var) -> Poly:
        """Random scores.

        Raises:
            AssumptionError: their law is not known.
        """
        twins = self.spatial.twins
        self._check(op, var)
        rows, columns = (self.limit.moment(*(twins.of(v, k) for k in (0, 1))) for v in (op.x, op.y))
        if not rows or not columns:
            return ZERO
        axes = self.limit.program.axes(var)
        return self.spatial.gen(Drawn, twins.shape(var), rows, columns, axes, twins.input[var])  # type: ignore[no-any-return]

    def softmax(self, op: Softmax, var: Var) -> Poly:
        """The softmax of scores."""
        axes = self.limit.program.axes(var)
        return self.spatial.gen(Soft, self.limit.z[op.s], axes, op.causal, self.spatial.twins.input[var])  # type: ignore[no-any-return]

    def gathered(self, op: Gathered, var: Var) -> Poly:
        """Z of the sum of what infinitely many heads make: Gaussian, by the central limit theorem.

        Raises:
            AssumptionError: what they make is not centred, or no sum of products with matrices.
        """
        z, program = self.limit.z[op.x], self.limit.program
        if are_random(program, entrances(program, op.x)):
            raise AssumptionError(
                f"`{op.x}`: infinitely many heads read, or are read by, finitely many with scores over √n: take either"
            )
        if z and (not affine(z) or linear_parts(z)[0]):
            raise AssumptionError(
                f"`{op.x}` is added up over heads and is no product with a matrix of every head; put a dense layer at "
                "the end of each head"
            )
        return self.spatial.fresh_sum(var, z) if z else ZERO

    def note(self, op: Weigh) -> None:
        """Remember what random weights are."""
        weights = self.limit.z[op.weights]
        if weights not in self.laws and self.is_random(weights):
            law = self._law(op.weights)
            if law is not None:
                self.laws[weights] = law

    def _law(self, weights: Var) -> Law | None:
        op, gradient = self.limit.program.op(weights), softmax_gradient(self.limit.program, weights)
        if isinstance(op, Softmax):
            scores = _drawn(self.limit.z[op.s])
            return None if scores is None else Law((scores.rows, scores.columns), None, op.causal)
        if gradient is None:
            return None
        law, slopes = self._law(gradient[0]), _drawn(self.limit.z[gradient[1]])
        return None if law is None or slopes is None else law._replace(slopes=(slopes.rows, slopes.columns))

    # ---- hypotheses ------------------------------------------------------------------------------------

    def _check(self, op: Score, var: Var) -> None:
        if op.gradient is None:
            if not (self._is_private(op.x, op.y, var) or self._is_private(op.y, op.x, var)):
                raise AssumptionError(f"`{var}`: {ELSEWHERE}")
            return
        program = self.limit.program
        made = program.op(op.gradient)
        source = made.x if isinstance(made, MatMul) else op.gradient
        before = behind(program, source)
        if isinstance(program.op(source), Copied):
            return
        other = op.x if op.gradient == op.y else op.y
        if other in before or any(isinstance(program.op(v), Score) for v in before):
            raise AssumptionError(f"`{var}`: {DOWNSTREAM}")

    def _is_private(self, v: Var, other: Var, score: Var) -> bool:
        """Whether v is a product with a matrix that is read by these scores, and by their gradients, alone."""
        program, twins = self.limit.program, self.spatial.twins
        made = program.op(v)
        if not isinstance(made, MatMul) or made.matrix in behind(program, other):
            return False
        uses = [
            w for w, o in program
            if isinstance(o, MatMul) and (o.matrix, o.transpose) == (made.matrix, made.transpose)
        ]  # fmt: skip
        return all(
            twins.shape(w) == twins.shape(v) and all(self._is_own(r, score) for r in program.graph.successors(w))
            for w in uses
        )

    def _is_own(self, reader: Var, score: Var) -> bool:
        program, twins = self.limit.program, self.spatial.twins
        op = program.op(reader)
        if isinstance(op, Score):
            return bool(twins.shape(reader) == twins.shape(score))
        return isinstance(op, Weigh) and any(
            program.op(s).gradient is not None for s in drawn_from(program, op.weights)
        )

    # ---- averages --------------------------------------------------------------------------------------

    def is_random(self, p: Poly) -> bool:
        """Whether a quantity depends on scores that are not averaged over."""
        return any(self._is_drawn(g) for mono in p.terms for g, _ in mono)

    def _is_drawn(self, g: Gen) -> bool:
        if g not in self._random:
            known = isinstance(g, (Drawn, Mean, Contracted))
            self._random[g] = isinstance(g, Drawn) if known else any(map(self.is_random, children(g)))
        return self._random[g]

    def averaged(self, p: Poly) -> Poly:
        """E p over random scores, as sums over positions weighted by E a[p,q] a'[r,t] where p is one of a a'."""
        return add_all(self._term(mono, c) for mono, c in p.terms.items())

    def _term(self, mono: Any, c: Any) -> Poly:
        random = tuple(f for f in mono if self._is_drawn(f[0]))
        fixed = Poly({tuple(f for f in mono if f not in random): c})
        if not random:
            return fixed
        alone = len(random) == 1 and random[0][1] == 1
        return fixed * (self._mean(random[0][0]) if alone else self._gen(Mean, Poly({random: 1})))

    def _mean(self, g: Gen) -> Poly:
        if isinstance(g, Name):
            return self.averaged(g.definition)
        if isinstance(g, Along):
            return self.spatial.along(g.by, g.how, g.transpose, self.averaged(g.inner), g.point)  # type: ignore[no-any-return]
        if isinstance(g, At):
            inner = self.averaged(g.inner)
            return self._gen(Whole, inner, g.point) if isinstance(g, Whole) else self.spatial.at(inner, g.point)  # type: ignore[no-any-return]
        found = self._contracted(g) if isinstance(g, Weighed) else None
        return self._gen(Mean, monomial(g)) if found is None else found

    def _contracted(self, g: Weighed) -> Poly | None:
        first = _only(g.inner)
        if not isinstance(first, Weighed) or (g.how, first.how) != ("right", "left") or self.is_random(first.inner):
            return None
        left, right = self.laws.get(first.weights), self.laws.get(g.weights)
        if left is None or right is None or first.transpose != g.transpose:
            return None
        if left != right:
            return ZERO if (left.slopes is None) != (right.slopes is None) else None
        parts = (*left.scores, *(left.slopes or ()))
        if any(map(self.is_random, parts)):
            return None
        rows, columns = left.scores
        of_each = [self.spatial.at(rows, k) for k in (0, 1)], [self._whole(columns, k) for k in (0, 1)]
        return self._gen(
            Contracted, rows, *of_each[0], columns, *of_each[1], *(left.slopes or (None, None)), left.causal,
            first.axes, g.transpose, first.inner,
        )  # fmt: skip

    def _whole(self, p: Poly, point: int) -> Poly:
        return self._gen(Whole, p, point) if p.terms.keys() - {()} else p

    def _gen(self, cls: Any, *arguments: Any) -> Poly:
        return self.spatial.gen(cls, *arguments)  # type: ignore[no-any-return]


def _only(p: Poly) -> Gen | None:
    """The generator that a polynomial is, by whatever name."""
    (mono, c), *more = [*p.terms.items(), ((), 0)]
    if len(more) != 1 or c != 1 or len(mono) != 1 or mono[0][1] != 1:
        return None
    g = mono[0][0]
    return _only(g.definition) if isinstance(g, Name) else g


def _drawn(p: Poly) -> Drawn | None:
    found = _only(p)
    return found if isinstance(found, Drawn) else None
