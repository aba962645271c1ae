"""Where Gram matrices go: arrays that fit, files that may be written and have room on their disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import ComputeError, DataError, shortly
from tensorprog.files import check_space, free_space, held, plain_file, said_bytes
from tensorprog.grams.blocks import ENDINGS

Shape = tuple[int, int]


def arrays_for(shape: Shape, dtype: Any, count: int) -> list[np.ndarray]:
    """New arrays.

    Raises:
        ComputeError: memory does not hold them.
    """
    try:
        return [np.empty(shape, dtype) for _ in range(count)]
    except (MemoryError, ValueError) as error:
        size = count * shape[0] * shape[1] * np.dtype(dtype).itemsize
        raise ComputeError(
            f"{_matrices(shape, dtype, count)} would take {said_bytes(size)}, which memory does not hold; give "
            "path='k.npy' to write to a disk, or compute some rows at a time, K.gram(X[i:j], X)"
        ) from error


def outputs(out: Any, shape: Shape, dtype: Any, count: int, several: bool,
            data: Sequence[np.ndarray]) -> list[np.ndarray]:  # fmt: skip
    """The arrays to write to: those given, one for each of ``count`` kernels, or new ones."""
    if out is None:
        return arrays_for(shape, dtype, count)
    arrays = list(out) if several else [out]
    if len(arrays) != count:
        raise DataError(f"out must hold one array for each of the {count} kernels, got {len(arrays)}")
    for a in arrays:
        fits = isinstance(a, np.ndarray) and a.shape == shape and a.dtype == dtype
        if not fits or not a.flags.c_contiguous or not a.flags.writeable:
            have = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
            raise DataError(f"out must be a writeable C-contiguous {np.dtype(dtype)} array {shape}, got {have}")
    for a, others in ((a, [*data, *arrays[:k]]) for k, a in enumerate(arrays)):
        if any(np.may_share_memory(a, other) for other in others):
            raise DataError("out must be arrays of their own: one shares its memory with inputs or with another")
    return arrays


def paths_of(path: Any, count: int, several: bool, data: Sequence[np.ndarray]) -> list[Path]:
    """The files to write to, one for each of ``count`` kernels, none that of an input."""
    named = path if several and isinstance(path, Sequence) and not isinstance(path, str) else [path]
    if not all(isinstance(p, str | Path) for p in named):
        raise DataError(f"path must be a file name, got {shortly(path)}")
    paths = [Path(p) for p in named]
    if len(paths) != count:
        raise DataError(f"path must hold one path for each of the {count} kernels, got {len(paths)}")
    for p in paths:
        if p.suffix not in ENDINGS:
            raise DataError(f"path must end in .npy (memory-mapped) or .zarr, got {p}")
        for file in [journal_of(p)] if p.suffix == ".zarr" else [p, journal_of(p)]:
            plain_file(file)
    places = [p.resolve() for p in paths]
    if len({*places}) < len(places):
        raise DataError(f"every kernel needs a file of its own, got the paths {', '.join(map(str, paths))}")
    for file in filter(None, map(_mapped, data)):
        if file.resolve() in places:
            raise DataError(f"path must be another file than that of the inputs, got {file}")
    return paths


def journal_of(path: Path) -> Path:
    """The journal beside a file."""
    return path.with_name(path.name + ".journal")


def check_room(paths: Sequence[Path], shape: Shape, dtype: Any) -> None:
    """Refuse matrices that the disk has no room for, before anything is written.

    Raises:
        ComputeError: says what they need, what is free, and what would fit.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    free = free_space(paths[0]) + sum(held(p) for p in paths)
    single = np.dtype(dtype).itemsize == 8 and len(paths) * size // 2 <= free
    rows = free // (len(paths) * shape[1] * np.dtype(dtype).itemsize)
    ways = ["give a path on a larger disk"]
    ways += [f"take dtype='float32', which needs {said_bytes(len(paths) * size // 2)}"] if single else []
    ways += [f"compute some rows at a time, as in K.gram(X[:{rows}], X, path=..)"] if rows else []
    check_space([(p, size) for p in paths], f" for {_matrices(shape, dtype, len(paths))}; {', or '.join(ways)}")


def _matrices(shape: Shape, dtype: Any, count: int) -> str:
    what = f"{shape[0]}×{shape[1]} {np.dtype(dtype)}"
    return f"a {what} matrix" if count == 1 else f"{count} {what} matrices"


def _mapped(x: Any) -> Path | None:
    """The file that an array maps."""
    while x is not None and not isinstance(x, np.memmap):
        x = getattr(x, "base", None)
    return None if x is None or x.filename is None else Path(x.filename)
