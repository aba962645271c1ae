"""What an architecture sees as ``net``: one method per kind of layer."""

from __future__ import annotations

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers import constants, linear, readouts


class Net(Builder):
    """The layers: parameters by name, shared where the name is."""

    embed = linear.embed
    weight = linear.weight
    dense = linear.dense
    bias = constants.bias
    state = constants.state
    readout = readouts.readout
    average = readouts.average


LAYERS = {name: layer for name, layer in vars(Net).items() if not name.startswith("_")}
