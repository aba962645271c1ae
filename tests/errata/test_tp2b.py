"""Misprints in Tensor Programs IIb (Yang & Littwin)."""

import numpy as np

import tensorprog as tp


def test_remark_b6_has_the_variance_of_the_matrix(judge):
    """a = (σ_W² C)⁺ b; printed is C⁺ b, right for σ_W = 1 only.  Compared in E Z^x Z^y, y = Wᵀ tanh(W x)."""
    variance = 2
    p = tp.Program()
    W, x = p.matrix("W", variance=variance), p.vector("x")
    y = W.T @ tp.tanh(W @ x)
    lim = tp.limit(p)
    derived = lim.evaluate(lim.E(lambda a, b: a * b, x, y))
    samples = []
    for seed in range(60):
        run = tp.sample(p, width=1000, seed=seed)
        samples.append(np.mean(run[x] * run[y]))
    judge("TP2b B.6", variance * derived, derived, samples)
