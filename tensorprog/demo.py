"""The demonstration: derive, print and verify an MLP and an RNN on random data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tensorprog.commands import show
from tensorprog.dsl.network import Network
from tensorprog.dsl.nonlinearities import relu
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.programs import mlp, rnn
from tensorprog.types import Data
from tensorprog.verify import verify


def main(out: Path = Path("out")) -> int:
    """Run the demonstration; returns 0 when all claims hold."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 4))
    sequences = [rng.standard_normal((t, 4)) for t in (3, 2, 3)]
    jobs: list[tuple[Network, Data]] = [
        (mlp(depth=3, phi=relu, sigma_b=0.3), vectors),
        (rnn(phi=relu, sigma_b=0.2, sigma_h=0.5), sequences),
    ]
    return max(demonstrate(net, inputs, out) for net, inputs in jobs)


def demonstrate(net: Network, inputs: Data, out: Path) -> int:
    """Print the kernel of a network, its values on the inputs, and what verification says."""
    kernel = ntk(net, lengths=(3, 2) if net.takes_sequences else None)
    print(kernel.text())
    with np.printoptions(precision=6, suppress=True):
        print(f"\nNTK of {'sequences of lengths 3, 2, 3' if net.takes_sequences else 'three random inputs'}:")
        print(kernel(inputs))
        print("NNGP:")
        print(nngp(net)(inputs))
    result = verify(net, inputs, out=out / net.name)
    show(result)
    print(f"wrote {result.save(out / net.name / 'error.png')}\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
