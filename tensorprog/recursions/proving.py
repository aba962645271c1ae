"""Whether folded equations are those derived at a size."""

from __future__ import annotations

from tensorprog.errors import FoldError
from tensorprog.recursions.folding import describe, describe_poly
from tensorprog.recursions.ranges import Sizes
from tensorprog.recursions.straight import Straight


def at(sizes: Sizes) -> str:
    return ", ".join(f"{k} = {v}" for k, v in sizes)


def compare(derived: Straight, unrolled: Straight, sizes: Sizes) -> None:
    """Equation by equation."""
    for r, p in derived.equations.items():
        mine = unrolled.equations.get(r)
        if mine != p:
            found = "nothing" if mine is None else describe_poly(mine)
            raise FoldError(f"at {at(sizes)} the fold gives {describe(r)} = {found}; derived is {describe_poly(p)}")
    extra = next((r for r in unrolled.equations if r not in derived.equations), None)
    if extra is not None:
        raise FoldError(f"at {at(sizes)} the fold has {describe(extra)}, which the derivation does not")
    if derived.kernel != unrolled.kernel:
        difference = describe_poly(unrolled.kernel + derived.kernel.scale(-1))
        raise FoldError(f"at {at(sizes)} the kernel of the fold exceeds the derived one by {difference}")
