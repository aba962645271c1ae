"""The linear part of a kernel turned round: ⟨A Π, Θ⟩ = ⟨Π, Aᵀ Θ⟩, where Π, Θ are numbers or arrays over positions.

⟨a, b⟩ is a b for numbers and Σ_{p,q} a[p,q] b[p,q] for arrays.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from tensorprog.algebra import Gen, Poly, add_all, drop, monomial
from tensorprog.errors import FoldError
from tensorprog.ir.axes import TOTAL, Everywhere, Reading
from tensorprog.limit.positions import Along, Weighed
from tensorprog.recursions.straight import Ref, Store, refs_of

SUM = Along(Reading(TOTAL, None), "both", False, Poly({}), None)


def is_linear(g: Gen) -> TypeGuard[Ref]:
    """Whether a generator is a quantity that kernels are linear in."""
    return isinstance(g, Ref) and g.family.linear


def adjoint(p: Poly, paired: Poly, spatial: bool, store: Store) -> tuple[Poly, list[tuple[Ref, Poly]]]:
    """⟨p, paired⟩ = rest + Σ ⟨r, a⟩ over the linear quantities r of p.

    Args:
        p: linear in them.
        paired: what it is paired with.
        spatial: whether both are arrays.
        store: of the equations.

    Returns:
        The rest, and pairs (r, a).

    Raises:
        FoldError: p is not linear.
    """
    rest: list[Poly] = []
    found: list[tuple[Ref, Poly]] = []
    for mono, c in p.terms.items():
        carrier = next(
            (g for g, _ in mono if is_linear(g) or (isinstance(g, Along | Weighed) and _holds(g.inner))), None
        )
        if carrier is None:
            _refuse(mono)
            rest.append(_sum(mono, c, paired, spatial, store))
            continue
        cofactor = drop(mono, carrier)
        if any(_holds(monomial(g)) for g, _ in cofactor):
            raise FoldError("the kernel is not linear in the gradient covariances Π, so its sum has no transposed form")
        outside = Poly({cofactor: c}) * paired
        if is_linear(carrier):
            found.append((carrier, outside))
            continue
        if isinstance(carrier, Weighed):
            more, inside = adjoint(carrier.inner, store.weighed(carrier, outside), True, store)
            rest.append(more)
            found += inside
            continue
        assert isinstance(carrier, Along)
        inner_spatial = not (isinstance(carrier.by.map, Everywhere) and carrier.transpose)
        more, inside = adjoint(carrier.inner, store.along(carrier, outside, turned=True), inner_spatial, store)
        rest.append(more)
        found += inside
    return add_all(rest), found


def gathered(p: Poly, store: Store) -> Poly:
    """M(a) + M(b) as M(a + b), where linear quantities stand in a and b: what has one factor stands together."""
    plain: dict[Any, Any] = {}
    groups: dict[Any, tuple[Along, list[Poly]]] = {}
    for mono, c in p.terms.items():
        carrier = next((g for g, e in mono if isinstance(g, Along) and e == 1 and _holds(g.inner)), None)
        if carrier is None:
            plain[mono] = c
            continue
        key = (*carrier.key, carrier.point, drop(mono, carrier))
        groups.setdefault(key, (carrier, []))[1].append(carrier.inner.scale(c))
    found = [store.along(like, add_all(inner)) * Poly({key[-1]: 1}) for key, (like, inner) in groups.items()]
    return add_all([Poly(plain), *found])


def _holds(p: Poly) -> bool:
    return any(r.family.linear for r in refs_of(p))


def _refuse(mono: Any) -> None:
    if _holds(Poly({mono: 1})):
        raise FoldError("an expectation depends on a gradient covariance Π, so the kernel has no transposed form")


def _sum(mono: Any, c: Any, paired: Poly, spatial: bool, store: Store) -> Poly:
    """⟨c mono, paired⟩; what is given to all positions alike is taken out of the sum over them."""
    whole = Poly({mono: c}) * paired
    if not spatial:
        return whole
    for g, e in mono:
        if isinstance(g, Along) and isinstance(g.by.map, Everywhere) and g.transpose and e == 1:
            return store.along(g, Poly({drop(mono, g): c}) * paired, turned=True) * g.inner
    return store.along(SUM, whole)
