"""What sizes a recursion is over, and the sizes that it is found, proved and tried at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tensorprog.dsl.network import Network
from tensorprog.errors import FoldError, ProgramError, listed, nearest, shortly
from tensorprog.recursions.ranges import Sizes

DEPTHS = ("depth", "layers", "n_layers", "num_layers", "blocks")
FORMS = ("sum", "forward")
FOLDED = (3, 4)  # lengths that a fold over lengths needs at least
PLAIN = 3  # variables of an expectation that may be reached by growing
SMALL = 2  # the largest size below those folded at
ANY, EQUAL, UNEQUAL = "", "=", "≠"  # how T and T' are related
EXAMPLES = [(3, 3), (4, 4), (4, 3), (3, 4), (4, 2), (2, 4)]
LARGER = [(6, 6), (7, 4), (4, 7)]
SMALLER = [(1, 1), (1, 2), (2, 1)]


@dataclass(frozen=True)
class Over:
    """What sizes a network is varied over: a hyperparameter that counts layers, and the lengths of its inputs.

    Attributes:
        depth: the hyperparameter's name.
        lengths: whether lengths are varied.
        related: ANY lengths of two inputs, or only EQUAL or UNEQUAL ones.
        depths: the depths to fold at.
        proofs: those to prove the fold at.
    """

    depth: str | None
    lengths: bool
    related: str = ANY
    depths: tuple[int, ...] = (3, 4, 5)
    proofs: tuple[int, ...] = (6, 9)

    def stepwise(self) -> Over | None:
        """Depths for equations of two layers each, which take more of them to tell apart; None with lengths."""
        return None if self.lengths else replace(self, depths=(4, 5, 6, 7), proofs=(8, 10))

    def parts(self, inputs: int) -> list[Over]:
        """Equal and different lengths apart, where two lengths are varied."""
        apart = self.lengths and inputs == 2 and self.related == ANY
        return [replace(self, related=r) for r in (EQUAL, UNEQUAL)] if apart else []

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether sizes are among those that this is about."""
        return self.related in (ANY, EQUAL if sizes.get("T") == sizes.get("T'") else UNEQUAL)

    def examples(self, inputs: int) -> list[Sizes]:
        """Sizes to fold at: equal lengths, and either one the longer."""
        pairs = EXAMPLES
        if self.depth:
            pairs = {ANY: [(3, 3), (4, 2), (2, 4)], EQUAL: [(3, 3), (4, 4)], UNEQUAL: EXAMPLES[3:]}[self.related]
        return self._sizes((2, 3, 4) if self.lengths else self.depths, pairs, inputs)

    def larger(self, inputs: int) -> list[Sizes]:
        """Sizes to prove the fold at."""
        pairs = [(5, 5), (6, 4), (4, 6)] if self.depth else LARGER
        return self._sizes((5,) if self.lengths else self.proofs, pairs, inputs)

    def smaller(self, inputs: int) -> list[Sizes]:
        """Sizes below those folded at, in one direction or several, where the fold may still hold."""
        large = [(3, 3), (4, 2), (2, 4)]
        if not (self.depth and self.lengths):
            return self._sizes((1, SMALL), SMALLER, inputs)
        return [*self._sizes((1, SMALL), SMALLER + large, inputs), *self._sizes((4,), SMALLER, inputs)]

    def _sizes(self, depths: Iterable[int], pairs: list[tuple[int, int]], inputs: int) -> list[Sizes]:
        layers = [(("L", l),) for l in depths] if self.depth else [()]
        found = [(("T", t), ("T'", t2)) for t, t2 in pairs if self.holds({"T": t, "T'": t2})]
        times = list(dict.fromkeys(pair[:inputs] for pair in found)) if self.lengths else [()]
        return [(*a, *b) for a, b in product(layers, times)]


def form_of(kind: str, form: str | None, batches: bool = False) -> str | None:
    if kind != "ntk":
        if form is not None:
            raise ProgramError(f"form={shortly(form)} is for the NTK; the recursion of an NNGP kernel has one form")
        return None
    if form is not None and not (isinstance(form, str) and form in FORMS):
        raise ProgramError(f"unknown form {shortly(form)}; {nearest(form, FORMS)}")
    if batches and form == "sum":
        raise FoldError("the NTK between members of batches is derived forward and is no sum of gradient covariances")
    return form or ("forward" if batches else "sum")


def over_of(net: Network, over: Any) -> Over:
    depths = [k for k in DEPTHS if type(net.hyperparameters.get(k)) is int]
    known = depths[:1] + (["lengths"] if net.takes_sequences and not _of_one_length(net) else [])
    if not known:
        raise FoldError(
            f"{net!r} has no size to fold over: a recursion needs an integer hyperparameter {', '.join(DEPTHS)}, "
            "or inputs that are sequences of any length"
        )
    chosen = known if over is None else [over] if isinstance(over, str) else listed(over, "over", "sizes")
    for key in chosen:
        if not isinstance(key, str) or key not in known:
            raise ProgramError(f"{net.name} has no size {shortly(key)} to fold over; {nearest(key, known)}")
    return Over(next((k for k in chosen if k != "lengths"), None), "lengths" in chosen)


def _of_one_length(net: Network) -> bool:
    """Whether a network of sequences cannot be built with the lengths that a fold is found at."""
    return any(net.fitting_length(t) != t for t in FOLDED)


class Growing(FoldError):
    """Equations that grow with depth, however they are written."""


def refuse_growing(name: str, variables: Mapping[Sizes, int]) -> None:
    """Refuse equations whose expectations have more variables at every next depth: they have no constant length.

    Args:
        name: of the network.
        variables: of each size that was derived, the most Gaussian variables of one expectation.

    Raises:
        Growing: they did at three depths in a row, to more than ``PLAIN``.
    """
    by_depth: dict[int, int] = {}
    for sizes, count in variables.items():
        depth = dict(sizes).get("L", 0)
        by_depth[depth] = max(count, by_depth.get(depth, 0))
    depths = sorted(by_depth)[-3:]
    counts = [by_depth[depth] for depth in depths]
    if len(depths) == 3 and counts[0] < counts[1] < counts[2] > PLAIN:
        grown = ", ".join(f"{count} at L = {depth}" for depth, count in zip(depths, counts, strict=True))
        raise Growing(
            f"{name} does not fold: its expectations have more and more variables, {grown}, since what one matrix "
            "makes of one layer stands inside the functions of all later ones; numbers, K(X), are computed at any depth"
        )
