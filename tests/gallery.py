"""The gallery in tests: inputs for each of its networks, and which of its tests are slow."""

import importlib

import numpy as np
import pytest

import tensorprog as tp

SAMPLED = ("gru", "lstm")  # whose equations hold expectations of many variables, and are long
DEAR = (*SAMPLED, "bidirectional_rnn", "mixture_of_experts")  # whose programs are long
QUICK = ("cnn", "gcn", "two_branch")  # of those with arrays that are no vectors or sequences
NO_STEP = {  # networks of which one step of SGD is not drawn, and why
    **dict.fromkeys(("gcn", "gin"), "does not take one array with positions"),
    **dict.fromkeys(("transformer", "wide_resnet"), "at most 300 vectors and scalars in a drawing"),
}
BUILT = {name: build() for name, build in sorted(tp.programs.GALLERY.items())}
PLAIN = [name for name, net in BUILT.items() if net.form in ("vectors", "sequences")]


def inputs_of(net, count=2, seed=0):
    """What ``inputs(rng, count)`` beside the network gives, of images 3×3 where they fit; None for plain networks."""
    own = getattr(importlib.import_module(net.fn.__module__), "inputs", None)
    found = own(np.random.default_rng(seed), count) if own is not None else None
    return found[:, :3, :3] if net.name == "cnn" else found


def two(net):
    """Two inputs for ``tp.draw``."""
    return {"lengths": [3, 2]} if net.form == "sequences" else {"inputs": 2}


def names(quick=QUICK):
    """The names of the gallery; of networks that take neither vectors nor sequences all but some are slow."""
    fast = {*PLAIN, *quick} - set(DEAR)
    return [pytest.param(n, marks=[] if n in fast else pytest.mark.slow) for n in BUILT]
