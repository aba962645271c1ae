"""Recurrent layers with gates, as loops over a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tensorprog.dsl.builder import Builder, index_of, part_of
from tensorprog.dsl.layers.constants import bias as bias_of
from tensorprog.dsl.layers.linear import dense, embed
from tensorprog.dsl.nonlinearities import sigmoid, tanh
from tensorprog.dsl.program import Vec, nonlin
from tensorprog.dsl.trace import Datum
from tensorprog.errors import ProgramError, shortly
from tensorprog.given import flag
from tensorprog.types import Key, Number


@dataclass(frozen=True)
class _Cell:
    """The weights of a recurrent layer at one time: W, U and b of every gate."""

    net: Builder
    key: Key
    scales: tuple[Number, Number, Number]  # of W, U and b
    tied: bool
    time: int = 1

    def _part(self, letter: str, gate: str) -> tuple[Any, ...]:
        stem, *index = (self.key,) if isinstance(self.key, str) else self.key
        return part_of((f"{letter}{stem}", *index), gate if self.tied else f"{gate}_{self.time}")

    def reads(self, gate: str, x: Datum | Vec) -> Any:
        """U x + b."""
        layer: Any = embed if isinstance(x, Datum) else dense
        return layer(self.net, self._part("U", gate), x, self.scales[1]) + self.bias("b", gate)

    def bias(self, letter: str, gate: str) -> Any:
        """A bias of its own, or 0."""
        return bias_of(self.net, self._part(letter, gate), self.scales[2])

    def recurs(self, gate: str, state: Vec | None) -> Any:
        """W h, or 0 where there is no state yet."""
        return 0 if state is None else dense(self.net, self._part("W", gate), state, self.scales[0])

    def pre(self, gate: str, x: Datum | Vec, state: Vec | None) -> Vec:
        """U x + b + W h."""
        return self.reads(gate, x) + self.recurs(gate, state)  # type: ignore[no-any-return]

    def name(self, gate: str) -> str:
        """Of a vector at this time."""
        stem = self.key if isinstance(self.key, str) else self.key[0]
        return self.net._called(f"{stem}{gate}", *index_of(self.key), time=self.time)


def rnn(net: Builder, key: Key, x: Sequence[Datum] | Sequence[Vec], phi: Any = tanh, std: Number = 1, std_u: Number = 1,
        bias: Number = 0, tied: bool = True, reverse: bool = False, start: Vec | None = None) -> list[Vec]:  # fmt: skip
    """The recurrent layer h ← φ(W h + U x + b) (Elman 1990): its states at all times; arguments are those of ``gru``.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def last(net, x):
    ...     return net.readout("V", net.rnn("R", x, tp.relu)[-1])
    >>> S = [[[1.0], [2.0]]]
    >>> bool(tp.ntk(last())(S) == tp.ntk(tp.programs.rnn(phi=tp.relu))(S))
    True
    """
    if not callable(phi):
        raise ProgramError(f"phi of rnn is a function such as tp.tanh, got {shortly(phi)}")
    state, states = start, []
    for x_t, at in _times(net, key, x, (std, std_u, bias), tied, reverse, start):
        state = phi(at.pre("", x_t, state))
        states.append(state)
    return states[::-1] if reverse else states


def gru(net: Builder, key: Key, x: Sequence[Datum] | Sequence[Vec], std: Number = 1, std_u: Number = 1,
        bias: Number = 0, tied: bool = True, reset: Literal["after", "before"] = "after", reverse: bool = False,
        start: Vec | None = None) -> list[Vec]:  # fmt: skip
    """The gated recurrent unit (Cho et al. 2014): its states at all times, h ← (1 − z) n + z h.

    r = σ(U_r x + b_r + W_r h), z = σ(U_z x + b_z + W_z h), and n = tanh(U_n x + b_n + r (W_n h + c_n)) with the reset
    after the matrix, as ``torch.nn.GRU`` has it, or tanh(U_n x + b_n + W_n (r h)) before it, as in the paper.  There is
    no h before the first time unless ``start`` is given.

    Args:
        key: of the weights "WGr", "UGr", "bGr", .. of "G", and "cGn".
        x: a sequence, of inputs or of vectors such as the states of another layer.
        std, std_u: scales of the W and of the U.
        bias: scale of the biases; 0 for none.
        tied: whether all times share their weights.  Where they do not, a reset before the matrix has kernels by an
            exact recursion.
        reset: whether the reset gate acts after the matrix or before it.
        reverse: whether to read the sequence from its end; states are in the order of x.
        start: the state before the first time, such as ``net.state("h0")``.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def last(net, x, *, tied=False):
    ...     return net.readout("V", net.gru("G", x, tied=tied, reset="before")[-1])
    >>> tp.nngp(last())([[[1.0], [2.0]]]).round(6)
    array([[0.263271]])
    """
    if reset not in ("after", "before"):
        raise ProgramError(f"reset must be 'after' the matrix or 'before' it, got {shortly(reset)}")
    state, states = start, []
    for x_t, at in _times(net, key, x, (std, std_u, bias), tied, reverse, start):
        keep = at.pre("z", x_t, state)
        if reset == "before":
            new = tanh(at.pre("n", x_t, None if state is None else sigmoid(at.pre("r", x_t, state)) * state))
        else:
            gated = at.recurs("n", state) + at.bias("c", "n")
            gate = sigmoid(at.pre("r", x_t, state)) if isinstance(gated, Vec) else 0
            new = tanh(at.reads("n", x_t) + gate * gated)
        name = at.name("h")
        if state is None:
            state = nonlin(lambda z, n: sigmoid(-z) * n, keep, new, name=name)
        else:
            state = nonlin(lambda z, n, h: sigmoid(-z) * n + sigmoid(z) * h, keep, new, state, name=name)
        states.append(state)
    return states[::-1] if reverse else states


def lstm(net: Builder, key: Key, x: Sequence[Datum] | Sequence[Vec], std: Number = 1, std_u: Number = 1,
         bias: Number = 0, tied: bool = True, phi: Any = tanh, reverse: bool = False,
         start: tuple[Vec, Vec] | None = None) -> list[Vec]:  # fmt: skip
    """Long short-term memory (Hochreiter and Schmidhuber 1997): its states at all times, h = o φ(c), c ← f c + i g.

    i, f, o = σ(U x + b + W h) and g = tanh(U x + b + W h), each with weights of its own, as in ``torch.nn.LSTM``.

    Args:
        key, x, std, std_u, bias, reverse: see ``gru``.
        tied: whether all times share their weights.  Where they do not, φ = ``tp.identity`` has kernels by an exact
            recursion; the cell below another φ is not Gaussian.
        phi: what the cell is read by.
        start: state and cell before the first time.
    """
    if not callable(phi):
        raise ProgramError(f"phi of lstm is a function such as tp.tanh, got {shortly(phi)}")
    state, cell = (None, None) if start is None else _two(start)
    states = []
    for x_t, at in _times(net, key, x, (std, std_u, bias), tied, reverse, state):
        i, g, name = sigmoid(at.pre("i", x_t, state)), tanh(at.pre("g", x_t, state)), at.name("c")
        if cell is None:
            cell = nonlin(lambda i, g: i * g, i, g, name=name)
        else:
            f = sigmoid(at.pre("f", x_t, state))
            cell = nonlin(lambda f, c, i, g: f * c + i * g, f, cell, i, g, name=name)
        o = sigmoid(at.pre("o", x_t, state))
        state = nonlin(lambda o, c: o * c, o, phi(cell), name=at.name("h"))
        states.append(state)
    return states[::-1] if reverse else states


def _times(net: Builder, key: Key, x: Any, scales: tuple[Number, Number, Number], tied: bool, reverse: bool,
           start: Any) -> Iterator[tuple[Any, _Cell]]:  # fmt: skip
    """The vectors of a sequence in the order in which they are read, with the weights that read them."""
    cell = _Cell(net, key, scales, flag(tied, "tied"))
    read = list(x) if not isinstance(x, Vec) else []
    if not read or not all(isinstance(x_t, Datum | Vec) for x_t in read):
        raise ProgramError(
            f"{shortly(key)} reads a sequence: the input of the network or a list of vectors; got {shortly(x)}"
        )
    if start is not None and not isinstance(start, Vec):
        raise ProgramError(f"start of {shortly(key)} is a vector such as net.state('h0'), got {shortly(start)}")
    times = range(len(read), 0, -1) if flag(reverse, "reverse") else range(1, len(read) + 1)
    yield from ((read[t - 1], replace(cell, time=t)) for t in times)


def _two(start: Any) -> tuple[Vec, Vec]:
    if not isinstance(start, (tuple, list)) or len(start) != 2 or not all(isinstance(v, Vec) for v in start):
        raise ProgramError(f"start of lstm is a pair of vectors, state and cell, got {shortly(start)}")
    return start[0], start[1]
