"""BLAS on one thread while threads of our own share the work: idle ones of BLAS would spin beside them."""

from __future__ import annotations

from threading import Lock
from typing import Any


class _OneThread:
    """The limit holds for the whole process: the first to enter sets it, the last to leave restores it."""

    def __init__(self) -> None:
        self.lock, self.users = Lock(), 0
        self.controller: Any = None
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.limit = self._set()
            self.users += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users and self.limit is not None:
                self.limit.restore_original_limits()

    def _set(self) -> Any:
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:  # slower, not wrong
            return None
        self.controller = self.controller or ThreadpoolController()
        return self.controller.limit(limits=1, user_api="blas")


one_thread = _OneThread()
