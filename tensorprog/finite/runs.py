"""Many finite-width runs, streamed to disk line by line so that an interrupted series resumes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np

from tensorprog.errors import DataError, shortly, writing
from tensorprog.files import plain_file, read_json
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.sample import at_once
from tensorprog.ir.instructions import Var
from tensorprog.locks import alone

MEMORY = 2**28
ALL_PAIRS = 40
SHOWN = 60  # bytes of a file that is none of ours


@dataclass(frozen=True)
class Record:
    """One run: the empirical NTK (N, N), the outputs (N,), means (k,) of the G-vars and their second moments:
    all pairs (k, k), or the squares (k,) when there are more than ``ALL_PAIRS`` G-vars.
    """

    ntk: np.ndarray
    outputs: np.ndarray
    first: np.ndarray
    second: np.ndarray


Records = dict[tuple[int, int], Record]
R = TypeVar("R")
Shapes = Mapping[str, tuple[int, ...]]


def collect(
    finite: FiniteNetwork,
    gvars: list[Var],
    widths: list[int],
    seeds: int,
    header: dict[str, Any],
    path: Path | None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Records:
    """Run every (width, seed) that is not on disk yet.

    Args:
        finite: the network on its inputs.
        gvars: whose coordinate moments to take.
        widths, seeds: seeds 0 .. seeds−1 at every width.
        header: what identifies the series; a file with another header is refused.
        path: a JSON-lines file, which one process at a time may write; None to keep results in memory only.
        progress: called with (done, total, what) after every batch.

    Raises:
        DataError: the file holds other settings or is damaged before its last line.
        ComputeError: another process is writing the file.
    """
    inputs, k = len(finite.inputs), sum(map(finite.positions, gvars))
    second = (k, k) if k <= ALL_PAIRS else (k,)
    shapes: Shapes = {"ntk": (inputs, inputs), "outputs": (inputs,), "first": (k,), "second": second}
    return stream(
        lambda width, batch: _run(finite, gvars, width, batch), Record, shapes, finite.numbers, widths, seeds, header,
        path, progress,
    )  # fmt: skip


def stream(
    run: Callable[[int, list[int]], list[R]],
    kind: type[R],
    shapes: Shapes,
    numbers: Callable[[int], int],
    widths: list[int],
    seeds: int,
    header: dict[str, Any],
    path: Path | None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[tuple[int, int], R]:
    """Records of ``run(width, seeds)`` for all widths and seeds, resumed from ``path``; see ``collect``.

    Args:
        run: gives one record of class ``kind``, a dataclass of arrays, for each seed.
        kind: that class.
        shapes: of its arrays, by name.
        numbers: how many a run of one seed holds at a width, for the memory bound.
        widths, seeds, header, path, progress: as in ``collect``.
    """
    total = len(widths) * seeds
    with _series(path, header, kind, shapes) as (file, records):
        for width in widths:
            todo = [s for s in range(seeds) if (width, s) not in records]
            for batch in _consecutive(numbers(width), width, todo):
                for seed, record in zip(batch, run(width, batch), strict=True):
                    records[width, seed] = record
                    if file is not None:
                        row = {"width": width, "seed": seed, **{k: v.tolist() for k, v in vars(record).items()}}
                        file.write(_line(row))
                if file is not None:
                    file.flush()
                if progress is not None:
                    progress(sum((w, s) in records for w in widths for s in range(seeds)), total, f"width {width}")
    return records


def _consecutive(numbers: int, width: int, todo: list[int]) -> list[list[int]]:
    size = at_once(numbers, width, float, MEMORY)
    return [todo[i : i + size] for i in range(0, len(todo), size)]


def _run(finite: FiniteNetwork, gvars: list[Var], width: int, seeds: list[int]) -> list[Record]:
    parameters = finite.draw(width, seeds)
    values = finite.run(parameters, {*finite.used, *gvars})
    theta, outputs = finite.ntk(values), finite.outputs(values, parameters)
    rows = [values[v].reshape(len(values[v]), -1, width) for v in gvars]
    none = np.zeros((len(seeds), 0, width))  # of a network without matrices
    g = np.concatenate([none, *(np.broadcast_to(x, (len(seeds), *x.shape[1:])) for x in rows)], axis=1)
    few = g.shape[1] <= ALL_PAIRS
    second = g @ np.swapaxes(g, 1, 2) / width if few else np.mean(g * g, axis=2)
    return [Record(theta[k], outputs[k], g[k].mean(axis=1), second[k]) for k in range(len(seeds))]


@contextlib.contextmanager
def _series(path: Path | None, header: dict[str, Any],
            kind: type[R], shapes: Shapes) -> Iterator[tuple[TextIO | None, dict[tuple[int, int], R]]]:  # fmt: skip
    """The file, open for appending and this process's alone, and the records in it; None and none without a path."""
    if path is None:
        yield None, {}
        return
    with contextlib.ExitStack() as held:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(plain_file(path)))
        records = _read(path, header, kind, shapes)
        with writing(path):
            file = held.enter_context(path.open("a"))
        if file.tell() == 0:
            file.write(_line(header))
        yield file, records


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _record(row: Any, kind: type[R], shapes: Shapes) -> tuple[tuple[int, int], R]:
    """One run from its line.

    Raises:
        ValueError: it lacks a field, or one is no array of real numbers of its shape.
    """
    lacking = sorted({"width", "seed", *shapes} - row.keys()) if isinstance(row, dict) else ["width"]
    if lacking:
        raise ValueError(f"a line has no {shortly(lacking[0])}")
    place = row["width"], row["seed"]
    if not all(type(k) is int and k >= 0 for k in place):
        raise ValueError(f"a width and a seed are {place!r:.60}")
    arrays = {}
    for name, shape in shapes.items():
        array = np.array(row[name])
        empty = 0 in shape and array.size == 0  # lists have lost where the other axes were
        if not empty and (array.dtype.kind not in "fi" or array.shape != shape):
            raise ValueError(
                f"{shortly(name)} of width {place[0]}, seed {place[1]} are not real numbers of shape {shape}"
            )
        arrays[name] = array.astype(float).reshape(shape)
    return place, kind(**arrays)


def _read(path: Path, header: dict[str, Any], kind: type[R], shapes: Shapes) -> dict[tuple[int, int], R]:
    """The records on disk; a last line that an interruption cut short is cut off the file, the rest is not touched."""
    raw = path.read_bytes()
    complete = raw[: raw.rfind(b"\n") + 1]
    try:
        found, *rows = [read_json(line) for line in complete.decode(errors="replace").splitlines()] or [header]
        other = found != header or not (complete or _line(header).encode().startswith(raw))
        rows = [] if other else rows
        records = dict(_record(row, kind, shapes) for row in rows)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); move it away to start again") from error
    if other:
        network = found.get("network") if isinstance(found, dict) and complete else repr(raw[:SHOWN])
        raise DataError(f"{path} holds runs of other settings ({network}); give another folder")
    if len(complete) < len(raw):
        with writing(path):
            os.truncate(path, len(complete))
    return records
