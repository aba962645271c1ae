"""The lock that derivations and compilations of the whole process take."""

from __future__ import annotations

import gc
import threading


class _Compiling:
    """One thread derives and compiles at a time: a derivation reads and grows tables of the whole process.

    What it makes stays, and has no cycles: the collector, which would look through all of it again and again as it
    grows, waits meanwhile.
    """

    def __init__(self) -> None:
        self._lock, self._depth, self._collects = threading.RLock(), 0, False

    def __enter__(self) -> None:
        self._lock.acquire()
        if not self._depth:
            self._collects = gc.isenabled()
            gc.disable()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._collects:
            gc.enable()
        self._lock.release()


COMPILING = _Compiling()
