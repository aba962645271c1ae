"""One writer at a time: a lock on a file, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from tensorprog.errors import ComputeError

KNOWN = importlib.util.find_spec("fcntl") is not None  # not on Windows, where nothing is locked


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file, made where there is none, against all others that ask for it here or in other processes.

    A file that is still empty in the end is removed again.

    Raises:
        ComputeError: it is held already.
        OSError: it cannot be opened for writing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with alone(Path(folder) / "k.journal"):
    ...         print(os.listdir(folder))
    ...     print(os.listdir(folder))
    ['k.journal']
    []
    """
    handle = _held(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.fstat(handle).st_size == 0:
                os.unlink(path)
        os.close(handle)


def _held(path: Path) -> int:
    """The locked file, which still is the one of that name."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # removed between opening and locking it


def _lock(handle: int, path: Path) -> None:
    if not KNOWN:
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ComputeError(
            f"another computation is writing {path}: wait until it has finished, or give another path"
        ) from error
    except OSError:
        warnings.warn(f"{path} cannot be locked on this file system: let one process at a time write it", stacklevel=4)
