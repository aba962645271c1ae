"""The quadrature interpreter: a program without matrix products is a map of its few initial Gaussians.

Each vector is its values at the nodes of a tensor rule in the independent initial Gaussians, and each expectation a
weighted sum.  One hidden layer that learns features is such a program.  The rule is the trapezoidal one, whose error
for a function that is analytic within ±d of the real line is exp(−2π d/h) (Trefethen & Weideman 2014, Thm 5.1): of
tanh(σz), d = π/(2σ), Gauss–Hermite needs the square of the number of nodes.  The error of an answer is estimated by
its difference from that of a coarser rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tensorprog.errors import NoRuleError
from tensorprog.functions import evaluate
from tensorprog.given import count
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.hyper import program_symbols, symbol_values
from tensorprog.ir.instructions import InitVector, MatMul
from tensorprog.limit.covariance import cholesky, refuse_laws
from tensorprog.limit.sampling import MEMORY, Estimate, Replicate, SampledLimit

DIMENSIONS = 5
LARGEST, COARSER = 320, 0.8
NODES = 2**19
REACH = 8.3


class GridLimit(SampledLimit):
    """The limit of a program without MatMuls, by quadrature over its initial Gaussians.

    ``answer.stderr`` is the difference from a coarser rule, an estimate of the error (large where a nonlinearity
    has kinks), and ``answer.method`` is ``"quadrature"``.

    Args:
        program: without MatMuls, of at most ``DIMENSIONS`` independent initial Gaussians.
        values: numbers for hyperparameter symbols, by symbol or by name.
        nodes: of the rule in each Gaussian; as many as memory allows, up to 320, when None.

    Raises:
        NoRuleError: the program has matrix products or too many Gaussians.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> m = tp.moment(lambda a, b: tp.tanh(a + b) ** 2, p.vector("a"), p.vector("b"))
    >>> tp.limit(p, method="quadrature").value(m).stderr < 1e-6
    True
    """

    def __init__(
        self, program: ProgramGraph, values: Mapping[Any, float] | None = None, nodes: int | None = None
    ) -> None:
        self.program, self._hyper = program, symbol_values(values, lambda: program_symbols(program), more=True)
        products = [v for v, op in program if isinstance(op, MatMul)]
        if products:
            raise NoRuleError(f"quadrature is for programs without matrix products, this one has {products[0]}")
        vectors = [(v, op) for v, op in program if isinstance(op, InitVector)]
        refuse_laws(vectors)
        root = cholesky(vectors, lambda expr: float(evaluate(expr, self._hyper)))
        self._active = np.flatnonzero(np.abs(root).max(axis=0, initial=0.0))
        if len(self._active) > DIMENSIONS:
            raise NoRuleError(f"quadrature is for up to {DIMENSIONS} Gaussians, this program has {len(self._active)}")
        self._rows = len(vectors)
        self.nodes = self._affordable() if nodes is None else count(nodes, "nodes", most=NODES)
        self._runs: list[Replicate] = []

    @property
    def samples(self) -> int:
        """None: nodes are no samples."""
        return 0

    @property
    def _how(self) -> str:
        return f"quadrature: {self.nodes} nodes in each of {len(self._active)} Gaussians"

    def _affordable(self) -> int:
        vectors = sum(v.kind == "vector" for v, _ in self.program)
        most = min(NODES, MEMORY // (16 * max(1, vectors)))
        return int(min(LARGEST, max(4.0, most ** (1 / max(1, len(self._active))))))

    def _estimate(self, question: Callable[[Replicate], Any]) -> Estimate:
        if not self._runs:
            self._runs = [self._run(self.nodes), self._run(max(2, int(COARSER * self.nodes)))]
        fine, coarse = (float(question(run)) for run in self._runs)
        return Estimate(fine, abs(fine - coarse), "quadrature")

    def _run(self, nodes: int) -> Replicate:
        reach = min(REACH, np.sqrt(np.pi * nodes))  # truncation no smaller than discretisation
        x = np.linspace(-reach, reach, nodes)
        w = np.exp(-(x**2) / 2)
        k = len(self._active)
        noise = np.zeros((self._rows, nodes**k))
        noise[self._active] = np.stack(np.meshgrid(*[x] * k, indexing="ij")).reshape(k, -1) if k else 0.0
        weights = np.ones(1)
        for _ in range(k):
            weights = np.multiply.outer(weights, w / w.sum()).ravel()
        return Replicate(self.program, noise, self._hyper, weights)
