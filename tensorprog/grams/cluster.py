"""Calls on a Dask cluster, some more of them submitted than its workers have threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from tensorprog.errors import ComputeError, DataError, TensorProgramError, shortly


def pack(value: Any) -> bytes:
    """A value as bytes for the workers, where ``pickle.loads`` reads it.

    Raises:
        ComputeError: it cannot be sent, such as a network with a function that exists in this process only.
    """
    try:
        from cloudpickle import dumps
    except ImportError as error:
        raise _missing() from error
    try:
        return dumps(value)  # type: ignore[no-any-return]
    except Exception as error:
        raise ComputeError(
            f"the kernels cannot be sent to a cluster: {error}; leave out client to compute them here"
        ) from error


def results(client: Any, function: Callable[..., Any], calls: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Results of calls as they come; a worker that is lost in a call is replaced by another.

    Args:
        client: a ``distributed.Client``.
        function: of the calls, known to the workers.
        calls: a name for each, and its arguments.

    Returns:
        The name and the result of each call.

    Raises:
        DataError: not a client.
        ComputeError: Dask is not installed, the cluster is gone, or a call was lost more often than Dask allows.
        TensorProgramError: of the calls, as it is.
    """
    try:
        from distributed import as_completed
    except ImportError as error:
        raise _missing() from error
    if not (hasattr(client, "submit") and hasattr(client, "nthreads")):
        raise DataError(f"client must be a distributed.Client, got {shortly(client)}")
    names: dict[Any, Any] = {}
    waiting = iter(calls)

    def submit(count: int) -> list[Any]:
        new = {_submit(client, function, arguments): name for name, arguments in islice(waiting, count)}
        names.update(new)
        return list(new)

    running = as_completed(submit(2 * max(1, _threads(client))))
    for future in running:
        name = names.pop(future)
        yield name, _result(future, name)
        for new in submit(max(0, 2 * max(1, _threads(client)) - len(names))):
            running.add(new)


def _threads(client: Any) -> int:
    try:
        return sum(client.nthreads().values())
    except Exception as error:
        raise _unreachable(error) from error


def _submit(client: Any, function: Callable[..., Any], arguments: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the inputs of a block travel with it, so that it can move
            return client.submit(function, *arguments, pure=False)
    except Exception as error:
        raise _unreachable(error) from error


def _result(future: Any, name: Any) -> Any:
    from distributed import KilledWorker
    from distributed.client import CancelledError

    try:
        return future.result()
    except TensorProgramError:
        raise
    except CancelledError as error:
        raise _unreachable(error) from error
    except KilledWorker as error:
        raise ComputeError(
            f"block {name} lost its worker more than {error.allowed_failures} times, out of memory perhaps: pass a "
            "smaller block, give workers more memory, or raise distributed.scheduler.allowed-failures in Dask's "
            "configuration"
        ) from error
    except Exception as error:
        raise ComputeError(f"block {name} failed on the cluster: {type(error).__name__}: {error}") from error


def _missing() -> ComputeError:
    return ComputeError("client=.. needs Dask: pip install 'tensorprog[cluster]'")


def _unreachable(error: Exception) -> ComputeError:
    return ComputeError(
        f"the cluster of the client does not take work ({type(error).__name__}: {error}); was the client closed, or "
        "the scheduler lost?"
    )
