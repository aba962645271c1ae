"""What studies are given: grids of hyperparameters, inputs, and how they are named."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, nearest, shortly
from tensorprog.given import count

LENGTH, DIMENSION = 3, 4  # of random inputs


def read_grid(net: Network, grid: Any, most: int = 2) -> dict[str, list[Any]]:
    """Values of some hyperparameters of a network, as lists.

    Raises:
        DataError, ProgramError: no mapping to lists, too many, or a hyperparameter that the network does not have.
    """
    if grid is None:
        return {}
    if not isinstance(grid, Mapping) or len(grid) > most:
        raise DataError(f"grid must map at most {most} of the hyperparameters to lists of values, got {shortly(grid)}")
    for name, values in grid.items():
        if name not in net.hyperparameters:
            raise ProgramError(
                f"{net.name} has no hyperparameter {shortly(name)}; {nearest(name, net.hyperparameters)}"
            )
        if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)) or not len(values):
            raise DataError(f"grid[{shortly(name)}] must be a list of values, got {shortly(values)}")
    return {name: [v.item() if isinstance(v, np.generic) else v for v in values] for name, values in grid.items()}


def at_points(net: Network, grid: Any, most: int = 2) -> Iterator[tuple[dict[str, Any], Network]]:
    """The points of a grid, and the network there; the network as it is without a grid."""
    given = read_grid(net, grid, most)
    for values in itertools.product(*given.values()):
        point = dict(zip(given, values, strict=True))
        yield point, Network(net.fn, {**net.hyperparameters, **point}, net.name)


def said(point: Mapping[str, Any]) -> str:
    """A point in words.

    >>> said({"sigma_w": 1.5, "depth": 3})
    'sigma_w = 1.5, depth = 3'
    """
    return ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in point.items())


def random_inputs(net: Network, number: int, seed: int) -> Any:
    """Standard normal inputs: vectors of dimension 4, or sequences of 3 such.

    Raises:
        DataError: a network that takes something else.
    """
    rng = np.random.default_rng(count(seed, "seed", 0))
    if net.form not in ("vectors", "sequences"):
        raise DataError(f"{net.name} takes neither vectors nor sequences: give inputs X")
    return rng.standard_normal((number, LENGTH, DIMENSION) if net.takes_sequences else (number, DIMENSION))


def fingerprint(inputs: Inputs) -> str:
    """A hash of data."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(inputs[i]).tobytes() for i in range(len(inputs)))).hexdigest()[
        :16
    ]
