"""Results larger than memory: .npy and zarr files written block by block, and a journal of what is finished."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tensorprog.errors import ComputeError, DataError
from tensorprog.files import read_json

Block = tuple[int, int, int, int]  # rows i0..i1, columns j0..j1
ENDINGS = (".npy", ".zarr")


class Store(Protocol):
    """A matrix that takes blocks."""

    def write(self, block: Block, value: np.ndarray) -> None: ...
    def flush(self) -> None: ...
    def open(self) -> Any: ...


class ArrayStore:
    """A matrix in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def write(self, block: Block, value: np.ndarray) -> None:
        i0, i1, j0, j1 = block
        self.array[i0:i1, j0:j1] = value

    def flush(self) -> None:
        pass

    def open(self) -> np.ndarray:
        return self.array


class NpyStore:
    """A .npy file, written through the file system: a full disk is an error, not a crash of a mapped page."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Any, fresh: bool) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        if fresh:
            with on_disk(path):
                self._create()
        else:
            _must_exist(path)
        found, self.offset = self._header()
        size = self.offset + shape[0] * shape[1] * self.dtype.itemsize
        if found != (shape, False, self.dtype) or path.stat().st_size != size:
            raise DataError(
                f"{path} is not the {shape[0]}×{shape[1]} {self.dtype} matrix that its journal belongs to, or was cut "
                "short; delete it and its journal, or pass resume=False"
            )

    def _header(self) -> tuple[Any, int]:
        """Shape, order and dtype, None where they cannot be read; and how long the header is."""
        with on_disk(self.path), open(self.path, "rb") as file:
            try:
                if np.lib.format.read_magic(file) != (1, 0):  # that of ``_create``
                    return None, 0
                return np.lib.format.read_array_header_1_0(file), file.tell()
            except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
                return None, 0

    def _create(self) -> None:
        with open(self.path, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            size = file.tell() + self.shape[0] * self.shape[1] * self.dtype.itemsize
            file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)

    def write(self, block: Block, value: np.ndarray) -> None:
        i0, _, j0, j1 = block
        value = np.ascontiguousarray(value, self.dtype)
        with on_disk(self.path), open(self.path, "r+b") as file:
            whole = (j0, j1) == (0, self.shape[1])
            for i, part in [(i0, value)] if whole else enumerate(value, start=i0):
                file.seek(self.offset + (i * self.shape[1] + j0) * self.dtype.itemsize)
                file.write(part.data)

    def flush(self) -> None:
        with on_disk(self.path), open(self.path, "r+b") as file:
            os.fsync(file.fileno())

    def open(self) -> np.ndarray:
        return np.lib.format.open_memmap(self.path, mode="r+")


class ZarrStore:
    """A zarr array whose chunks are the blocks."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Any, finished: Collection[Block],
                 block: int) -> None:  # fmt: skip
        try:
            import zarr
        except ImportError as error:
            raise ComputeError("a path that ends in .zarr needs zarr: pip install 'tensorprog[zarr]'") from error
        chunks = (min(block, shape[0]), min(block, shape[1]))
        self.path = path
        with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk of zeros is finished too
            if not finished:
                with on_disk(path):
                    self.array: Any = zarr.create_array(store=str(path), shape=shape, chunks=chunks,
                                                        dtype=np.dtype(dtype), overwrite=True)  # fmt: skip
            else:
                self.array = self._opened(zarr.open_array)
        if tuple(self.array.shape) != shape or self.array.dtype != np.dtype(dtype) or self.array.chunks != chunks:
            raise DataError(f"{path} is not the matrix that its journal belongs to; pass resume=False to start again")
        keys = [self.array.metadata.encode_chunk_key((i // block, j // block)) for i, _, j, _ in finished]
        held = sum((path / key).exists() for key in keys)
        if held < len(keys):
            raise DataError(
                f"{path} holds {held} of the {len(keys)} chunks that its journal has finished; pass resume=False to "
                "start again"
            )

    def _opened(self, open_array: Any) -> Any:
        _must_exist(self.path)
        try:
            with on_disk(self.path, PermissionError):
                return open_array(store=str(self.path), mode="r+")
        except ComputeError:
            raise
        except Exception as error:  # what a damaged zarr.json makes of itself is not one class
            raise DataError(
                f"{self.path} is no zarr array or was damaged ({error}); delete it and its journal, or pass "
                "resume=False to start again"
            ) from error

    def write(self, block: Block, value: np.ndarray) -> None:
        i0, i1, j0, j1 = block
        with on_disk(self.path):
            self.array[i0:i1, j0:j1] = value

    def flush(self) -> None:
        if hasattr(os, "sync"):
            os.sync()

    def open(self) -> Any:
        return self.array


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} is missing, but its journal has finished blocks; pass resume=False to start again")


@contextmanager
def on_disk(path: Path, kind: type[OSError] = OSError) -> Iterator[None]:
    """Name the file where writing fails."""
    try:
        yield
    except kind as error:
        raise ComputeError(
            f"writing {path} failed: {error.strerror or error}; finished blocks are kept, and the same call goes on "
            "from there once the file can be written"
        ) from error


class Journal:
    """The finished blocks of a matrix on disk, one line each after a line that tells what is computed.

    Args:
        path: of the journal.
        identity: what the blocks depend on; a journal of another computation is refused.
        resume: go on from finished blocks; False starts again.
    """

    def __init__(self, path: Path, identity: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.done: set[Block] = set()
        self.identity = identity
        if resume and path.exists():
            self._read(identity)

    def begin(self) -> None:
        """Start a new journal where nothing is finished, before there is a new file."""
        if not self.done:
            with on_disk(self.path), open(self.path, "w", encoding="utf-8") as file:
                self._append(file, self.identity)

    def _read(self, identity: dict[str, Any]) -> None:
        """Read finished blocks; a last line cut short by a crash is dropped."""
        try:
            whole, end, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
            header, *rows = [read_json(line) for line in whole.splitlines()] or [identity]
            blocks = [_block(row, header) for row in rows] if _same(header, identity) else []
        except ValueError as error:
            raise DataError(
                f"{self.path} is damaged ({error}); delete it or pass resume=False to start again"
            ) from error
        if not _same(header, identity):
            different = sorted(k for k in identity if not isinstance(header, dict) or header.get(k) != identity[k])
            raise DataError(
                f"{self.path} belongs to another computation: {', '.join(different)} differ; choose another path, or "
                "pass resume=False to overwrite it"
            )
        self.done = set(blocks)
        if self.done:
            with on_disk(self.path):
                os.truncate(self.path, len((whole + end).encode()))

    def add(self, block: Block) -> None:
        """Note a block as finished, after it is on disk."""
        if block in self.done:
            return
        with on_disk(self.path), open(self.path, "a", encoding="utf-8") as file:
            self._append(file, list(block))
        self.done.add(block)

    @staticmethod
    def _append(file: Any, row: Any) -> None:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _same(header: Any, identity: dict[str, Any]) -> bool:
    return isinstance(header, dict) and all(header.get(k) == v for k, v in identity.items())


def _block(row: Any, header: dict[str, Any]) -> Block:
    """A line of a journal as one of the blocks that ``cut`` makes.

    Raises:
        ValueError: it is none.
    """
    whole = isinstance(row, list) and len(row) == 4 and all(type(i) is int and i >= 0 for i in row)
    size, ends = header["block"], header["shape"]
    pairs = zip(row[::2], row[1::2], ends, strict=True) if whole else ()
    if not whole or not all(i % size == 0 and i < n and k == min(i + size, n) for i, k, n in pairs):
        raise ValueError(f"it names {row!r:.60}, which is no block of {size} of a {ends[0]}×{ends[1]} matrix")
    return row[0], row[1], row[2], row[3]


def fingerprint(*parts: Any) -> str:
    """A hash of arrays, as double, and of texts, and of where one ends and the next begins."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape}:".encode())
            ready = part.flags.c_contiguous and part.dtype == np.float64
            for piece in [part] if ready else part:  # a whole copy would take the inputs' memory again
                digest.update(np.ascontiguousarray(piece, np.float64).view(np.uint8).data)
        else:
            text = part.encode()
            digest.update(f"{len(text)}:".encode() + text)
    return digest.hexdigest()


def cut(shape: tuple[int, int], block: int, symmetric: bool) -> list[Block]:
    """The blocks of a matrix, those on and below the diagonal of a symmetric one."""
    return [
        (i, min(i + block, shape[0]), j, min(j + block, shape[1]))
        for i in range(0, shape[0], block)
        for j in range(0, shape[1], block)
        if not symmetric or j <= i
    ]


def mirrored(blocks: Collection[Block]) -> set[Block]:
    """Blocks of a symmetric matrix and their mirror images.

    >>> sorted(mirrored([(0, 2, 0, 2), (2, 3, 0, 2)]))
    [(0, 2, 0, 2), (0, 2, 2, 3), (2, 3, 0, 2)]
    """
    return {*blocks, *((j0, j1, i0, i1) for i0, i1, j0, j1 in blocks)}


def store_at(path: Path, shape: tuple[int, int], dtype: Any, finished: Collection[Block], block: int) -> Store:
    """The store that a path's ending asks for; a new one where nothing is ``finished``."""
    if path.suffix == ".npy":
        return NpyStore(path, shape, dtype, not finished)
    return ZarrStore(path, shape, dtype, finished, block)


def version() -> str:
    """Of this package, as installed."""
    try:
        return importlib.metadata.version("tensorprog")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
