"""E Π φ_i(x_i) where the variables form a tree: transfer matrices between neighbours.

The correlations of a Gaussian tree multiply along its paths, which makes it a maximum spanning tree of |ρ| and is
well conditioned where the inverse of the covariance is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from tensorprog.expectations.many.factors import Found, Product, graded, line, refine, rounding, smoothed
from tensorprog.expectations.quadrature.trapezoid import SPACING, blocks

Array = Any
NODES = 1 << 14  # of a variable whose neighbours are all leaves
LINKED = 1 << 12  # of one with inner neighbours
TREE = 5e-15  # how far the correlations may be from products along paths, times the number of variables
WIDE = 0.25  # features this many standard deviations wide need no panels of their own


@dataclass(frozen=True)
class Tree:
    """Parents (-1 at the root), an order with children first, and the largest deviation from a tree."""

    parent: tuple[int, ...]
    order: tuple[int, ...]
    deviation: float

    def children(self, i: int) -> list[int]:
        """The variables whose parent is i."""
        return [c for c, p in enumerate(self.parent) if p == i]


def find_tree(correlation: Array) -> Tree | None:
    """The tree that a correlation matrix belongs to, or None.

    >>> find_tree(0.5 ** np.abs(np.subtract.outer(range(3), range(3)))).parent
    (1, -1, 1)
    """
    count = len(correlation)
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        (i, j, abs(correlation[i, j])) for i in range(count) for j in range(i + 1, count)
    )  # fmt: skip
    tree = nx.maximum_spanning_tree(graph)
    root = max(tree, key=lambda i: (tree.degree[i], -i))
    parent, paths = [-1] * count, np.eye(count)
    known = [root]
    for p, c in nx.bfs_edges(tree, root):
        parent[c] = p
        paths[c, known] = paths[known, c] = paths[p, known] * correlation[p, c]
        known.append(c)
    deviation = float(np.abs(paths - correlation).max())
    return Tree(tuple(parent), tuple(reversed(known)), deviation) if deviation <= TREE * count else None


def tree_expectation(product: Product, tree: Tree, rtol: float, atol: float) -> Found | None:
    """E Π φ_i by messages from the leaves to the root; None where the nodes are too many.

    m_c(x_p) = ∫ N(x_c; ρ x_p, 1 - ρ²) φ_c(x_c) Π_{children of c} m(x_c) dx_c, on fixed nodes between inner variables
    and on nodes that move with x_p at the leaves.

    Reference: J. Pearl, Probabilistic Reasoning in Intelligent Systems, 1988, chapter 4.

    >>> from tensorprog.expectations.many.factors import Factor
    >>> cosine = Factor(np.cos, np.zeros(0), 1.0)
    >>> chain = Product((cosine,) * 3, 0.5 ** np.abs(np.subtract.outer(range(3), range(3))))
    >>> found = tree_expectation(chain, find_tree(chain.correlation), 1e-12, 0.0)
    >>> from itertools import product
    >>> signs = [np.array(s) for s in product([-1, 1], repeat=3)]
    >>> bool(abs(found.value - np.mean([np.exp(-s @ chain.correlation @ s / 2) for s in signs])) < 1e-15)
    True
    """
    links = _links(product, tree)
    noise = rounding(product, np.array([s for _, s in links]), tree.deviation)
    return refine(lambda step, reach: _messages(product, tree, links, step, reach), noise, rtol, atol)


def _links(product: Product, tree: Tree) -> list[tuple[float, float]]:
    """ρ and √(1 - ρ²) between each variable and its parent; 0 and 1 at the root."""
    rho = [product.correlation[i, p] if p >= 0 else 0.0 for i, p in enumerate(tree.parent)]
    return [(float(r), float(np.sqrt((1 - r) * (1 + r)))) for r in rho]


def _messages(
    product: Product, tree: Tree, links: list[tuple[float, float]], step: float, reach: float
) -> Array | None:
    lines = {}
    for i in tree.order:
        if tree.children(i):
            breaks, scale = _resolution(product, tree, links, i, reach)
            linked = tree.parent[i] >= 0 or any(tree.children(c) for c in tree.children(i))
            most = LINKED if linked else NODES
            if 2 * reach / (step * scale) > most:
                return None
            lines[i] = line(breaks, scale, step, reach)
            if len(lines[i][0]) > most:
                return None
    arrived: dict[int, Array] = {}
    for c in tree.order:
        rho, s = links[c]
        f, p = product.factors[c], tree.parent[c]
        if c not in lines:
            message = smoothed(f, rho * lines[p][0], s, step, reach)
        else:
            x, weight = lines[c]
            values = f.phi(x)
            inner = np.stack([values, np.abs(values)], axis=-1) * arrived.get(c, 1.0)
            centre = rho * lines[p][0] if p >= 0 else np.zeros(1)
            inner *= (weight / (np.sqrt(2 * np.pi) * s))[:, None]
            message = np.empty((len(centre), 2))
            for rows in blocks(len(centre), len(x)):
                message[rows] = np.exp(-(((x - centre[rows, None]) / s) ** 2) / 2) @ inner
        if p < 0:
            return message[0]
        arrived[p] = arrived.get(p, 1.0) * message
    raise AssertionError("the order of a tree ends at its root")


def _resolution(
    product: Product, tree: Tree, links: list[tuple[float, float]], i: int, reach: float
) -> tuple[Array, float]:
    """Breaks and length scale of the integrand over variable i."""
    f = product.factors[i]
    breaks, scale = list(f.kinks), min(1.0, links[i][1], SPACING / max(f.steep, 1e-300))
    for c in tree.children(i):
        g, (rho, s) = product.factors[c], links[c]
        if rho == 0:
            continue
        width = s / abs(rho)
        leaf = not tree.children(c)
        if leaf and g.kinked and width < WIDE:
            breaks += [b for k in g.kinks for b in graded(k / rho, width, reach)]
        elif g.kinked or not leaf:
            scale = min(scale, width)
        if leaf and g.steep:
            scale = min(scale, max(SPACING / (abs(rho) * g.steep), width))
    return np.array(breaks), scale
