"""Architectures in NTK parametrization: a function of (net, x), traced once per input."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any, Concatenate, Literal, NoReturn, ParamSpec, TypeVar

import numpy as np
import sympy as sp

from tensorprog.dsl.layers.member_outputs import axes_of_outputs, outputs_of_members
from tensorprog.dsl.net import Net
from tensorprog.dsl.parameters import frozen_words
from tensorprog.dsl.parts import Named, Parts
from tensorprog.dsl.trace import Datum, NeedsAxes, NeedsNames, NeedsSequence, Output, SequenceLengthError, Trace
from tensorprog.errors import FrozenWarning, ProgramError, TensorProgramError, integer, listed, nearest, shortly
from tensorprog.ir.axes import Axes
from tensorprog.printing import Shown, text

P = ParamSpec("P")  # the hyperparameters of an architecture
X = TypeVar("X")  # its input: a Datum, or a tuple of them

Form = Literal["vectors", "sequences", "positions"] | Parts
LONGEST = 16  # the longest sequence that is tried where no length is given
LONG = 10**9  # a length that no program is written out to


class Network(Shown):
    """An architecture with its hyperparameters.

    Attributes:
        name: of the function.
        hyperparameters: by name.
        fn: the function, of net, x and hyperparameters by name.
    """

    def __init__(self, fn: Callable[..., Any], hyperparameters: dict[str, Any], name: str) -> None:
        self.fn, self.hyperparameters, self.name = fn, hyperparameters, name
        self._noticed = False

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{k}={text(v) if isinstance(v, sp.Rational) else v}" for k, v in self.hyperparameters.items()
        )
        return f"{self.name}({shown})"

    __str__ = __repr__

    def text(self) -> str:
        """Its name and its hyperparameters."""
        return repr(self)

    def __deepcopy__(self, memo: Any) -> Network:
        return self  # nothing in it changes, and what was derived from it is found by its identity

    def __reduce__(self) -> Any:
        """By name where a module has it; else with its function, which cloudpickle can write and pickle cannot."""
        owner: Any = getattr(sys.modules.get(self.fn.__module__), self.fn.__qualname__, None)
        if getattr(owner, "network", None) is self.fn:
            return functools.partial(owner, **self.hyperparameters), ()
        return Network, (self.fn, self.hyperparameters, self.name)

    @property
    def takes_sequences(self) -> bool:
        """Whether inputs are sequences; named vectors are read as one."""
        return not self.form.over if isinstance(self.form, Parts) else self.form == "sequences"

    @property
    def takes_axes(self) -> bool:
        """Whether inputs have positions (images, signals, graphs)."""
        return bool(self.form.over) if isinstance(self.form, Parts) else self.form == "positions"

    @functools.cached_property
    def takes_batches(self) -> bool:
        """Whether inputs are batches, each member of which has an output."""
        if not self.takes_axes:
            return False
        t = self.trace([None])
        return axes_of_outputs(t, t.heads[0]) is not None

    @functools.cached_property
    def form(self) -> Form:
        """What an input is, found by tracing: a vector, a sequence of vectors, a vector at every position, or a
        dictionary of named arrays."""
        try:
            self._traced([(None, "x")], "vectors")
        except NeedsAxes:
            return "positions"
        except NeedsSequence:
            return "sequences"
        except NeedsNames:
            return self._parts(Parts())
        return "vectors"

    def _parts(self, known: Parts) -> Parts:
        """The named arrays of an input, given some that have positions."""
        found = Parts(known.over)
        try:
            self._traced([(None, "x")], found)
        except NeedsAxes as error:
            more = known.over | {name for name in error.parts if name is not None}
            if more == known.over:
                raise
            return self._parts(Parts(more))
        except NeedsSequence as error:
            raise ProgramError(f"{self.name} reads sequences within dictionaries, which is not supported") from error
        return found

    @functools.cached_property
    def symbols(self) -> set[sp.Symbol] | None:
        """The hyperparameters that are symbols; None where nothing can be traced."""
        given = [e for v in self.hyperparameters.values() for e in (v if isinstance(v, (list, tuple)) else [v])]
        found = {s for e in given if isinstance(e, sp.Expr) for s in e.free_symbols}
        with contextlib.suppress(ProgramError, ValueError):
            return found | self.trace([self.fitting_length(1) if self.takes_sequences else None]).symbols
        return None

    def fitting_length(self, wanted: int = 3) -> int:
        """A length of sequences that the network can be built with: ``wanted``, or the nearest one that does.

        Raises:
            ProgramError: none of the lengths up to ``LONGEST`` does.

        >>> import tensorprog as tp
        >>> @tp.network
        ... def branches(net, x):
        ...     u, y = x
        ...     return net.readout("V", tp.relu(net.embed("U", u)) + tp.relu(net.embed("Y", y)))
        >>> branches().fitting_length(), tp.programs.rnn().fitting_length()
        (2, 3)
        """
        failure, wanted = None, integer(wanted, "a length", 1, LONG)
        for length in sorted(range(1, LONGEST + 1), key=lambda t: (abs(t - wanted), t)):
            try:
                self.trace([length])
            except SequenceLengthError as error:
                failure = failure or error
            else:
                return length
        raise ProgramError(f"{failure}; no length up to {LONGEST} fits: give lengths=") from failure

    def trace(self, lengths: Sequence[Any], labels: Sequence[str] | None = None) -> Trace:
        """The forward program on several inputs.

        Args:
            lengths: for each input, the length of the sequence, or None for a single vector; inputs with positions have
                one program for all sizes, which are not looked at.
            labels: for each input, its printed name; x, x', x'', .. when None.

        Raises:
            ProgramError: what the architecture does cannot be expressed, with its own words.
        """
        found = _inputs(lengths, labels)
        return self._traced(found, self._form_at([t for t, _ in found]))

    def _form_at(self, lengths: Sequence[Any]) -> Form:
        """What an input is; a sequence where that cannot be found out and lengths are given."""
        try:
            return self.form
        except ProgramError:
            if any(isinstance(t, int) for t in lengths):
                return "sequences"
            raise

    def _traced(self, inputs: Iterable[tuple[Any, str]], form: Form) -> Trace:
        parts = form if isinstance(form, Parts) else Parts()
        t = Trace(parts=parts, placed=form == "positions" or bool(parts.over))
        for i, (length, label) in enumerate(inputs):
            if isinstance(length, int) and length < 1:
                raise ProgramError(f"input {label} is an empty sequence; its length must be at least 1")
            data, x = self._data(i, label, length, form)
            t.inputs.append(data)
            returned = self._build(Net(t, label), x)
            heads = returned if isinstance(returned, tuple) else (returned,)
            if not heads or not all(isinstance(f, Output) and f.readouts for f in heads):
                raise ProgramError(
                    f"{self.name} must return net.readout(..) or net.average(..), or a tuple of "
                    f"them; got {shortly(returned)}"
                )
            axes = axes_of_outputs(t, heads)
            if axes is not None and isinstance(length, tuple):
                heads = outputs_of_members(t, heads[0], axes, length)
            t.heads.append(heads)
            t.outputs.append(heads[0])
            t.ends.append(len(t.program))
        self._notice_frozen(t)
        return t

    def _data(self, i: int, label: str, length: Any, form: Form) -> tuple[tuple[Datum, ...], Any]:
        """The vectors of an input, and what the architecture is given for them."""
        if isinstance(form, Parts):
            names = form.vectors if form.vectors and not form.over else []
            if isinstance(length, int) and length != len(names):
                raise SequenceLengthError(f"{self.name} reads the arrays {', '.join(names)}, and {length} were given")
            axes = Axes(label)
            make = lambda name: Datum(  # noqa: E731
                i,
                label,
                names.index(name) + 1 if name in names else None,
                axes if name in form.over else None,
                part=name,
            )
            return tuple(make(name) for name in form.vectors) or (Datum(i, label),), Named(make, label)
        if isinstance(length, int):
            data = tuple(Datum(i, label, s + 1) for s in range(length))
            return data, data
        single = Datum(i, label, axes=Axes(label) if form == "positions" else None)
        return (single,), single

    def _build(self, net: Net, x: Any) -> Any:
        try:
            return self.fn(net, x, **self.hyperparameters)
        except TypeError as error:
            words = no_integers(self, error)
            if words is None:
                raise
            raise ProgramError(words) from error
        except (ValueError, IndexError) as error:
            if not isinstance(x, tuple) or isinstance(error, TensorProgramError):
                raise
            raise SequenceLengthError(
                f"{self.name} cannot be built with a sequence of length {len(x)}: {error}"
            ) from error

    def _notice_frozen(self, t: Trace) -> None:
        """Say once that a layer is 0 and stays 0."""
        words = None if self._noticed else frozen_words(t.parameters.items())
        if words is not None:
            self._noticed = True
            warnings.warn(f"{self.name}: {words}", FrozenWarning, stacklevel=3)


def refuse_lengths(net: Network, given: str) -> NoReturn:
    """Refuse lengths for a network whose inputs are no sequences."""
    taken = "vectors at positions" if net.takes_axes else "single vectors"
    raise ProgramError(f"{net.name} takes {taken}; leave out {given}")


def _inputs(lengths: Any, labels: Any) -> list[tuple[Any, str]]:
    """The length and the printed name of each input.

    Raises:
        ProgramError: what is no list of lengths, or not as many names.
    """
    of = listed(lengths, "lengths", "lengths of sequences, each None for a single vector")
    for t in of:
        if not isinstance(t, (tuple, NoneType)) and (isinstance(t, bool) or not isinstance(t, (int, np.integer))):
            raise ProgramError(f"the length of a sequence is an integer, None of a single vector, got {shortly(t)}")
    if labels is None:
        labels = ["x" + "'" * i if i < 3 else f"x[{i}]" for i in range(len(of))]
    names = listed(labels, "labels", "names, one for each input")
    if len(names) != len(of) or not all(isinstance(n, str) for n in names):
        raise ProgramError(f"labels must be {len(of)} names, one for each input, got {shortly(labels)}")
    return list(zip(of, names, strict=True))


def no_integers(net: Network, error: TypeError) -> str | None:
    """What to say where Python wants an integer and a hyperparameter is none; None where something else is wrong."""
    found = re.fullmatch(r"'([\w.]+)' object cannot be interpreted as an integer", str(error))
    if found is None:
        return None
    kind, given = found[1].rpartition(".")[2], net.hyperparameters.items()
    symbolic = {k: v for k, v in given if isinstance(v, sp.Expr) and v.free_symbols}
    symbolic = symbolic if hasattr(sp, kind) else {}  # of depth + 1 the kind is that of a sum
    wrong = {k: v for k, v in given if type(v).__name__ == kind} | symbolic
    if not wrong:
        return None
    shown = " and ".join(f"{k} = {v!r}" for k, v in wrong.items())
    name = next(iter(wrong))
    what = "is no integer" if len(wrong) == 1 else "are no integers"
    words = f"{net.name} counts with an integer, as range does, and {shown} {what}"
    if not symbolic:
        return f"{words}; write it as an integer, such as {net.name}({name}=2)"
    return f"{words}; for a recursion in {name}, derive with an integer: tp.ntk({net.name}({name}=2)).recursion()"


def check_called(net: Any) -> None:
    """Refuse what makes networks where a network is wanted.

    Raises:
        ProgramError: a function decorated with ``@tp.network``.
    """
    if callable(net) and hasattr(net, "network"):
        raise ProgramError(f"{net.__name__} makes networks from hyperparameters: call it, {net.__name__}()")


def check_network(net: Any) -> None:
    """Refuse what is no network.

    Raises:
        ProgramError: saying what was given.
    """
    if isinstance(net, Network):
        return
    check_called(net)
    raise ProgramError(f"expected a network such as tp.programs.mlp(depth=2), got {type(net).__name__} {shortly(net)}")


def _check_arguments(fn: Callable[..., Any], signature: inspect.Signature) -> None:
    try:
        signature.bind_partial(None, None)
        fits = list(signature.parameters)[1:2] != ["net"]
    except TypeError:
        fits = False
    if not fits:
        first = ", ".join(list(signature.parameters)[:2])
        words = "the arguments of a network are (net, x), in this order, and then its hyperparameters"
        raise ProgramError(f"{fn.__name__}({first}, ..): {words}")


def _by_name(name: str, names: Sequence[str], defaults: dict[str, Any]) -> str:
    """What to say where a network is called with positional arguments."""
    numbers = [k for k in names if isinstance(defaults.get(k), (int, float, sp.Expr))]
    first = next(iter([*numbers, *names]), None)
    how = "it has no hyperparameters"
    if first is not None:
        how = f"hyperparameters are given by name, such as {name}({first}={defaults.get(first, '..')})"
    return f"{name}: {how}; data go to a kernel: tp.ntk({name}())(X)"


def network(fn: Callable[Concatenate[Net, X, P], Output | tuple[Output, ...]]) -> Callable[P, Network]:
    """Turn a function ``(net, x, *, hyperparameters)`` into an architecture.

    Args:
        fn: builds the network of one input with ``net.embed``, ``net.dense``, ``net.bias``,
            ``net.state`` and ``net.readout``; parameters of the same name are shared.

    Returns:
        A function of the hyperparameters that gives a ``Network``.

    Raises:
        ProgramError: when called with an unknown hyperparameter (the nearest name is suggested).

    >>> import tensorprog as tp
    >>> @tp.network
    ... def one_hidden_layer(net, x, *, phi=tp.relu, sigma_w=1):
    ...     return net.readout("V", phi(net.embed("U", x, std=sigma_w)))
    >>> one_hidden_layer(sigma_w=2)
    one_hidden_layer(phi=relu, sigma_w=2)
    """
    if not callable(fn) or not hasattr(fn, "__name__"):
        raise ProgramError(
            f"tp.network takes a function (net, x, *, hyperparameters), got {type(fn).__name__} {shortly(fn)}"
        )
    signature = inspect.signature(fn)
    _check_arguments(fn, signature)
    names = list(signature.parameters)[2:]
    defaults = {k: p.default for k, p in signature.parameters.items() if p.default is not p.empty}

    @functools.wraps(fn)
    def build(*positional: Any, **hyperparameters: Any) -> Network:
        if positional:
            raise ProgramError(_by_name(fn.__name__, names, defaults))
        for key in hyperparameters:
            if key not in names:
                raise ProgramError(f"{fn.__name__} has no hyperparameter {shortly(key)}; {nearest(key, names)}")
        missing = [k for k in names if k not in hyperparameters and k not in defaults]
        if missing:
            raise ProgramError(f"{fn.__name__} needs a value for {', '.join(missing)}")
        for key, value in hyperparameters.items():
            if callable(defaults.get(key)) and not callable(value):
                given = f"the string {value!r}" if isinstance(value, str) else repr(value)
                raise ProgramError(f"{key} of {fn.__name__} is a function such as tp.relu, not {given}")
        return Network(fn, {k: hyperparameters.get(k, defaults.get(k)) for k in names}, fn.__name__)

    build.network = fn  # type: ignore[attr-defined]
    return build  # type: ignore[return-value]  # only keywords are taken, and they are looked at
