"""Files and bytes as users name them: paths, sizes, arrays and JSON read from disk, with every problem named."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import ComputeError, DataError, shortly

UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**k for k, p in enumerate("KMGTP", 1)},
         **{f"{p}IB": 1024**k for k, p in enumerate("KMGTP", 1)}}  # fmt: skip
MOST = 2**62  # bytes: more than any machine has
MAGIC = {(1, 0), (2, 0), (3, 0)}  # versions of .npy


def read_memory(memory: Any) -> int:
    """A number of bytes, or a text such as "4GB".

    Raises:
        DataError: what is no positive number of bytes.

    >>> read_memory("4GB"), read_memory("1.5 KiB"), read_memory(2.0**31)
    (4000000000, 1536, 2147483648)
    """
    value: Any = memory
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d{0,30})?(?:[eE]\+?\d{1,2})?)\s*([A-Za-z]{0,3})\s*", memory, re.ASCII)
        unit = UNITS.get(match[2].upper()) if match else None
        value = None if match is None or unit is None else float(match[1]) * unit
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, complex, np.complexfloating))
    if not number or not value > 0 or value == math.inf:
        raise DataError(f'memory must be a positive number of bytes, or a text such as "4GB", got {shortly(memory)}')
    return max(1, int(min(value, MOST)))


def said_bytes(count: float) -> str:
    """A number of bytes as one says it.

    >>> said_bytes(8e12), said_bytes(999), said_bytes(1536), said_bytes(10**600)
    ('8.0 TB', '999 bytes', '1.5 KB', '10^600 bytes')
    """
    if count >= 10**24:
        return f"10^{math.log10(count):.0f} bytes"
    if count < 1000:
        return f"{count:.0f} bytes"
    k = min(5, int(math.log10(count)) // 3)
    return f"{count / 1000**k:.1f} {' KMGTP'[k]}B"


def plain_file(path: Path) -> Path:
    """The path, where it can be that of a file, and is one if there is anything.

    Raises:
        DataError: no path of a file, a folder, or a pipe or a device, which would be waited for.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise DataError(f"{shortly(str(path))} cannot be used: {_reason(error)}; give the path of a file") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise DataError(f"{path} is {what}; give the path of a file")
    return path


def read_json(line: str) -> Any:
    """One value.

    Raises:
        ValueError: no JSON, JSON nested too deeply, or a number too long.
    """
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file of any version.

    Raises:
        DataError: no file, no array of numbers, one cut short, or one that memory does not hold.
    """
    try:
        with open(plain_file(path), "rb") as file:
            version = np.lib.format.read_magic(file)
        if version not in MAGIC:
            raise DataError(f"it is .npy of version {'.'.join(map(str, version))}, which NumPy {np.__version__} cannot")
        with np.errstate(all="raise"):
            mapped = np.lib.format.open_memmap(path, mode="r")  # which reads no more than the header
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        ArithmeticError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as error:
        raise DataError(_reason(error).replace("mmap length is", "its header claims an array that is")) from error
    most = _physical()
    if mapped.nbytes > most:
        raise DataError(f"it holds {said_bytes(mapped.nbytes)}, and this machine's memory {said_bytes(most)}")
    return np.array(mapped)


def _physical() -> int:
    """Bytes of memory of the machine; more than it has where they are not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return MOST


def check_memory(needed: int, what: str, instead: str) -> None:
    """Refuse arrays that this machine's memory cannot hold.

    Raises:
        DataError: what is needed and what there is.
    """
    if needed > _physical():
        raise DataError(
            f"{what} needs {said_bytes(needed)} of memory, and this machine has {said_bytes(_physical())}; {instead}"
        )


def check_space(new: Iterable[tuple[Path, int]], advice: str = "") -> None:
    """Refuse files that their disks have no room for.

    Args:
        new: files and how many bytes each will hold in all; what they hold already counts as free.
        advice: what to do instead, where ``{free}`` is what there is.

    Raises:
        ComputeError: says what is needed and what is free.
    """
    disks: dict[int, list[tuple[Path, int]]] = {}
    for path, size in new:
        folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
        disks.setdefault(folder.stat().st_dev, []).append((path, size))
    for files in disks.values():
        free = free_space(files[0][0])
        needed = sum(max(0, size - held(path)) for path, size in files)
        if needed > free:
            names = ", ".join(str(path) for path, _ in files)
            raise ComputeError(
                f"{names} would take {said_bytes(needed)}, and {said_bytes(free)} are free there{advice}"
            )


def free_space(path: Path) -> int:
    """Bytes that are free where a file is or will be."""
    return shutil.disk_usage(next(p for p in path.absolute().parents if p.is_dir())).free


def held(path: Path) -> int:
    """Bytes that a file or the files of a folder take on disk."""
    files = path.rglob("*") if path.is_dir() else [path]
    sizes = [os.stat(f) for f in files if f.is_file()]
    return sum(s.st_blocks * 512 if hasattr(s, "st_blocks") else s.st_size for s in sizes)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
