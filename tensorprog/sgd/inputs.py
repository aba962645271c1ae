"""What a training run is written down for: the lengths of its inputs, or the sizes of their positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tensorprog.derivation.derivation import Length
from tensorprog.dsl.network import Network, refuse_lengths
from tensorprog.errors import ProgramError
from tensorprog.passes.separate import Separated, small


def to_unroll(net: Network, lengths: Any, count: int) -> tuple[Network, list[Length]]:
    """The network to unroll, and the lengths of its inputs."""
    if not net.takes_axes:
        return net, _of_sequences(net, lengths, count)
    if lengths is None:
        net = small(net)
        return net, [net.fitting_length()] * count
    if not isinstance(lengths, (list, tuple)) or len(lengths) != count or not all(map(_are_sizes, lengths)):
        raise ProgramError(
            f"lengths must give sizes such as (3, 3) for each of the {count} tests and samples, got {lengths}"
        )
    return Separated(net, lengths), [math.prod(n) for n in lengths]


def _are_sizes(n: Any) -> bool:
    return isinstance(n, tuple) and len(n) > 0 and all(isinstance(k, int) and k >= 1 for k in n)


def _of_sequences(net: Network, lengths: Sequence[int] | None, count: int) -> list[Length]:
    if not net.takes_sequences:
        if lengths is not None:
            refuse_lengths(net, f"lengths={lengths}")
        return [None] * count
    if lengths is None:
        return [net.fitting_length()] * count
    if not isinstance(lengths, (list, tuple)) or len(lengths) != count or not all(isinstance(n, int) for n in lengths):
        raise ProgramError(f"lengths must give one length for each of the {count} tests and samples, got {lengths}")
    return list(lengths)
