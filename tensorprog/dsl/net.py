"""What an architecture sees as ``net``: one method per kind of layer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers import attention as attending
from tensorprog.dsl.layers import (
    channels,
    constants,
    gates,
    graphs,
    linear,
    norms,
    readouts,
    recurrent,
    resizing,
    spatial,
)
from tensorprog.dsl.refusals import NoAttribute
from tensorprog.errors import ProgramError, shortly
from tensorprog.lazy import closest


class Net(Builder):
    """The layers: parameters by name, shared where the name is."""

    embed = linear.embed
    weight = linear.weight
    dense = linear.dense
    low_rank = linear.low_rank
    bias = constants.bias
    state = constants.state
    dropout = constants.dropout
    readout = readouts.readout
    average = readouts.average
    flatten = readouts.flatten
    attention = attending.attention
    scores = attending.scores
    softmax = attending.softmax
    normalised = attending.normalised
    weighted = attending.weighted
    layer_norm = norms.layer_norm
    rms_norm = norms.rms_norm
    batch_norm = norms.batch_norm
    rnn = recurrent.rnn
    gru = recurrent.gru
    lstm = recurrent.lstm
    glu = gates.glu
    squeeze_excite = gates.squeeze_excite
    conv = spatial.conv
    local = spatial.local
    avg_pool = spatial.avg_pool
    conv_transpose = spatial.conv_transpose
    global_pool = spatial.global_pool
    at = resizing.at
    crop = resizing.crop
    pad = resizing.pad
    beside = resizing.beside
    concat = channels.concat
    aggregate = graphs.aggregate
    weighted_pool = graphs.weighted_pool

    if not TYPE_CHECKING:  # for type checkers there are the layers above and no others

        def __getattr__(self, name: str) -> NoReturn:
            close = closest(name, LAYERS)
            hint = f"did you mean {close!r}? " if close else ""
            raise NoAttribute(f"net has no layer {shortly(name)}; {hint}known: {', '.join(sorted(LAYERS))}")


def _told(name: str, layer: Callable[..., Any]) -> Callable[..., Any]:
    """A layer that says which arguments it takes, where it is called with others."""

    @functools.wraps(layer)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return layer(*args, **options)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:  # of something within the layer
                raise
            _, *takes = inspect.signature(layer).parameters.values()
            shown = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in takes)
            scale = "; std is the scale of what is N(0, 1)" if any(p.name == "std" for p in takes) else ""
            raise ProgramError(f"net.{error}; write net.{name}({shown}){scale}") from error

    return call


LAYERS = {name: layer for name, layer in vars(Net).items() if not name.startswith("_")}
for _name, _layer in LAYERS.items():
    setattr(Net, _name, _told(_name, _layer))
