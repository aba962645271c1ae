"""How averages over random scores are written: S(A; B) = E a[p,r] a'[q,s], with scores of covariance A[p,q] B[r,s]."""

from __future__ import annotations

from collections.abc import Collection

from tensorprog.algebra import Gen
from tensorprog.limit.positions import Contracted, Drawn, Mean

HEADS = {  # by whether it is of a gradient, and causal: text and LaTeX
    (False, False): ("S", r"\mathsf{S}"),
    (False, True): ("S≤", r"\mathsf{S}_{\le}"),
    (True, False): ("Ṡ", r"\dot{\mathsf{S}}"),
    (True, True): ("Ṡ≤", r"\dot{\mathsf{S}}_{\le}"),
}
COV = ("Cov(s[p,r], s'[q,s]) = A[p,q]·B[r,s]", r"$\mathrm{Cov}(s[p,r], s'[q,s]) = A[p,q]\,B[r,s]$")
SLOPES = ("Cov(da[p,r], da'[q,s]) = G[p,q]·H[r,s]", r"$\mathrm{Cov}(da[p,r], da'[q,s]) = G[p,q]\,H[r,s]$")


def head(g: Contracted, tex: bool) -> str:
    """S, or Ṡ of the gradient, with ≤ where position p attends to those up to p."""
    return HEADS[g.slope_rows is not None, g.causal][tex]


def said(gens: Collection[Gen], tex: bool) -> list[str]:
    """What S, Ṡ, N and E[..] stand for: sentences."""
    kinds = sorted({(g.slope_rows is not None, g.causal) for g in gens if isinstance(g, Contracted)})
    lines = [_meaning(*kind, tex) for kind in kinds]
    if any(isinstance(g, Drawn) for g in gens):
        law = r"$\mathcal{N}(A; B)$" if tex else "N(A; B)"
        lines.append(f"{law} are random scores of x, independent of the rest, with {COV[tex]} between all inputs")
    if any(isinstance(g, Mean) for g in gens):
        lines.append("E[..] is the expectation over random scores")
    return lines


def _meaning(slopes: bool, causal: bool, tex: bool) -> str:
    name, upto = HEADS[slopes, causal][tex], (r"r \le p" if tex else "r≤p") if causal else ""
    soft = rf"\mathrm{{softmax}}_{{{upto or 'r'}}}\, s[p,r]" if tex else f"softmax_{upto or 'r'} s[p,r]"
    scores = f"scores of {COV[tex]}"
    if not slopes:
        body = f"${name}(A; B) = \\mathsf{{E}}\\,a[p,r]\\,a'[q,s]$" if tex else f"{name}(A; B) = E a[p,r] a'[q,s]"
        return f"{body} with {'$' if tex else ''}a[p,r] = {soft}{'$' if tex else ''} of random {scores}"
    body = (
        f"${name}(A; B; G; H) = \\mathsf{{E}}\\,ds[p,r]\\,ds'[q,s]$"
        if tex
        else f"{name}(A; B; G; H) = E ds[p,r] ds'[q,s]"
    )
    slope = (
        r"$ds[p,r] = a[p,r] (da[p,r] - \sum_t a[p,t]\,da[p,t])$"
        if tex
        else "ds[p,r] = a[p,r]·(da[p,r] − Σ_t a[p,t]·da[p,t])"
    )
    return f"{body} with {slope} and {SLOPES[tex]}"
