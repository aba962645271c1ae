"""Which line of a network's function made each instruction of its program."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Var

APPEND = ProgramGraph.append.__code__


def traced_with_lines(net: Network, lengths: list[Any]) -> tuple[Trace, dict[Var, int]]:
    """A trace, and of its variables the line of the network's file where each was made."""
    found: dict[Var, int] = {}
    own = net.fn.__code__

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event != "return" or frame.f_code is not APPEND or not isinstance(argument, Var):
            return
        at: FrameType | None = frame
        while at is not None and at.f_code is not own:
            at = at.f_back
        if at is not None:
            found[argument] = at.f_lineno

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        trace = net.trace(lengths)
    finally:
        sys.setprofile(before)
    return trace, found
