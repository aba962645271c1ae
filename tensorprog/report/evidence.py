"""What a verification was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.dsl.network import Network
from tensorprog.kernels.kernel import Kernel
from tensorprog.printing import Shown
from tensorprog.types import HyperValues


@dataclass(repr=False)
class Evidence(Shown):
    """What a verification was made from.

    Attributes:
        net, data, values: the network, its inputs, and numbers for its symbols.
        kernels: the NTK by every way to derive it that applies.
        runs: what was simulated: by name the limit (N, N), and for each width the values (S, N, N).
        fingerprint: a hash of program and data.
        command: the command line that it was made by, if it was.
        given: a copy of inputs over positions or of named arrays, as they were given.
    """

    net: Network
    data: Inputs
    values: HyperValues | None
    kernels: dict[str, Kernel]
    fingerprint: str
    runs: dict[str, tuple[np.ndarray, list[np.ndarray]]] = field(default_factory=dict)
    command: str | None = None
    given: Any = None

    def text(self) -> str:
        """What there is."""
        ways, runs = ", ".join(self.kernels), ", ".join(self.runs) or "nothing"
        return f"evidence on {self.net!r} at {len(self.data)} inputs: the NTK by {ways}; runs of {runs}"
