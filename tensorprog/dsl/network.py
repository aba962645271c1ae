"""Architectures in NTK parametrization: a function of (net, x), traced once per input."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sympy as sp

from tensorprog.dsl.parameters import Parameter, frozen_words, start_of
from tensorprog.dsl.program import Mat, Vec, exact
from tensorprog.dsl.trace import Datum, NeedsSequence, Output, Readout, SequenceLengthError, Trace
from tensorprog.errors import FrozenWarning, ProgramError, TensorProgramError, nearest
from tensorprog.ir.instructions import Covariances, InitVector, Var

LONGEST = 16  # the longest sequence that is tried where no length is given


class Net:
    """What an architecture sees: parameters by name, one method per kind of layer."""

    def __init__(self, trace: Trace, label: str) -> None:
        self._trace, self._label = trace, label

    def embed(self, key: Any, x: Datum, std: Any = 1, initial: Any = None) -> Vec:
        """The input layer U ξ = std · u ξ/√d, u ~ N(0, 1) of shape n×d; u starts at 0 with ``initial=0``."""
        if not isinstance(x, Datum):
            if isinstance(x, tuple):
                raise ProgramError(f"embed({key!r}, ..) takes one vector of the sequence: write `for x_t in x`")
            raise ProgramError(f"embed({key!r}, ..) takes an input vector, got {type(x).__name__} {x!r}")
        t, std = self._trace, _std(key, std)
        name = self._declare(key, "embedding", std, initial)
        var = Var(f"{name}({x})", "vector")
        if t.embeddings.get(var) != (name, x):
            partners = (
                []
                if t.parameters[name].variance == 0
                else [*(v for v, (n, _) in t.embeddings.items() if n == name), var]
            )
            t.program.append(var.name, InitVector(sp.S.Zero, Covariances(partners, partial(t.covariance, var))))
            t.embeddings[var] = (name, x)
        return Vec(t.program, var)

    def weight(self, key: Any, std: Any = 1, initial: Any = None) -> Mat:
        """The matrix W = W_0 + std · w/√n of shape n×n; use ``W @ h`` and ``W.T @ h``.

        Args:
            key: its name.
            std: the scale of w.
            initial: None for W_0 = 0 and w ~ N(0, 1) at first; 0 or ``"identity"`` for W_0 = 0 or I and w = 0 at
                first.  w is what trains, and what decays under weight decay.
        """
        t, std = self._trace, _std(key, std)
        name = self._declare(key, "matrix", std, initial)
        p = t.parameters[name]
        if p.var is None:
            p = t.parameters[name] = replace(p, var=t.program.matrix(name, p.variance).var)
        return Mat(t.program, t.program.named(name), identity=p.start or 0)

    def dense(self, key: Any, h: Vec, std: Any = 1, initial: Any = None) -> Vec:
        """The hidden layer W h; see ``weight``.

        >>> import tensorprog as tp
        >>> @tp.network
        ... def residual_branch_at_zero(net, x):
        ...     h = net.embed("U", x)
        ...     return net.readout("V", h + net.dense("W", tp.relu(h), initial=0))
        >>> tp.nngp(residual_branch_at_zero())([[1.0]]), tp.ntk(residual_branch_at_zero())([[1.0]])
        (array([[1.]]), array([[2.5]]))
        """
        weight = self.weight(key, std, initial)
        stem, program = f"{weight}({self._label})", self._trace.program
        return weight.apply(h, program.fresh(f"{stem}_") if stem in program else stem)

    def bias(self, key: Any, std: Any = 1, initial: Any = None) -> Any:
        """The bias vector std · b, b ~ N(0, 1), or a number ``initial`` in all coordinates at first, plus std · b.

        It is the number 0, or ``initial``, when std is 0.
        """
        t, std = self._trace, _std(key, std)
        if std == 0:
            return start_of(key, "bias", initial) or sp.S.Zero
        name = self._declare(key, "bias", std, initial)
        p = t.parameters[name]
        if p.var is None:
            vector = t.program.vector(name, p.variance, p.start or 0)
            t.parameters[name] = replace(p, var=vector.var)
        return Vec(t.program, t.program.named(name))

    def state(self, key: Any, std: Any = 1) -> Vec:
        """An untrained initial vector with rows N(0, std²): its own copy for each input.

        One that all inputs share is a bias left out of ``trainable``.
        """
        t, name = self._trace, _name(key)
        vec = t.program.vector(f"{name}({self._label})", _std(key, std) ** 2)
        t.states[vec.var] = name
        return vec

    def readout(self, key: Any, x: Vec, std: Any = 1, bias: Any = 0, initial: Any = None) -> Output:
        """The output std · v·x/√n, v ~ N(0, 1), plus ``bias`` · c with a trained scalar c ~ N(0, 1).

        With ``initial=0``, v starts at 0.
        """
        self._check_vector(key, x)
        t, std, bias = self._trace, _std(key, std), exact(bias, f"bias of {key!r}")
        name = self._declare(key, "readout", std, initial)
        p = t.parameters[name]
        if p.var is None:
            t.parameters[name] = replace(p, var=t.program.vector(name, 1 if p.start is None else 0).var)
        biases = ((f"{name}.bias", bias),) if bias != 0 else ()
        return Output((Readout(name, t.program.named(name), x.var, std),), biases)

    def average(self, x: Vec, scale: Any = 1) -> Output:
        """The output scale · Σ_α x_α/√n, i.e. √n times the mean coordinate: a readout by the constant vector 1.

        No random readout vector stands between output and body, so gradient independence fails.
        """
        self._check_vector("average", x)
        t = self._trace
        if "ones" not in t.program:
            t.program.append("ones", InitVector(sp.S.One, ()))
        return Output((Readout("ones", t.program.named("ones"), x.var, exact(scale, "scale"), trained=False),))

    def _check_vector(self, key: Any, x: Any) -> None:
        if not isinstance(x, Vec):
            raise ProgramError(f"the readout {key!r} takes a vector of the network, got {type(x).__name__} {x!r}")

    def _declare(self, key: Any, kind: str, std: sp.Expr, initial: Any) -> str:
        name, start = _name(key), start_of(key, kind, initial)
        known = self._trace.parameters.setdefault(name, Parameter(key, kind, std, start=start))
        if known.kind != kind:
            raise ProgramError(f"parameter {name!r} is a {known.kind} and cannot be used as a {kind}")
        for what, first, now in (("std", known.std, std), ("initial", known.start, start)):
            if first != now:
                raise ProgramError(f"parameter {name!r} is shared, but its {what} is {first} here and {now} there")
        return name


def _std(key: Any, std: Any) -> sp.Expr:
    std = exact(std, f"std of {key!r}")
    if std.is_negative:
        raise ProgramError(f"std of {key!r} is {std}; a standard deviation cannot be negative")
    return std


def _name(key: Any) -> str:
    """("W", 2) ↦ "W2", ("W", 1, 3) ↦ "W1_3", "U" ↦ "U"."""
    if isinstance(key, str) and key:
        return key
    if isinstance(key, tuple) and key and isinstance(key[0], str) and all(isinstance(k, int) for k in key[1:]):
        return key[0] + "_".join(map(str, key[1:]))
    raise ProgramError(f"a parameter is named by a string or by (string, int, ..), got {key!r}")


class Network:
    """An architecture with its hyperparameters."""

    def __init__(self, fn: Callable[..., Any], hyperparameters: dict[str, Any], name: str) -> None:
        self.fn, self.hyperparameters, self.name = fn, hyperparameters, name
        self._noticed = False

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.hyperparameters.items())
        return f"{self.name}({shown})"

    def __deepcopy__(self, memo: Any) -> Network:
        return self  # nothing in it changes, and what was derived from it is found by its identity

    def __reduce__(self) -> Any:
        owner: Any = getattr(sys.modules.get(self.fn.__module__), self.fn.__qualname__, None)
        if getattr(owner, "network", None) is not self.fn:
            raise pickle.PicklingError(
                f"{self.name} cannot be pickled: define it with @tp.network at the top level of a module"
            )
        return functools.partial(owner, **self.hyperparameters), ()

    @functools.cached_property
    def takes_sequences(self) -> bool:
        """Whether inputs are sequences, found by tracing."""
        try:
            self.trace([None])
        except NeedsSequence:
            return True
        return False

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
        failure: ProgramError | None = None
        for length in sorted(range(1, LONGEST + 1), key=lambda t: (abs(t - wanted), t)):
            try:
                self.trace([length])
            except SequenceLengthError as error:
                failure = failure or error
            else:
                return length
        raise ProgramError(f"{failure}; no length up to {LONGEST} fits: give lengths=") from failure

    def trace(self, lengths: Sequence[int | None], labels: Sequence[str] | None = None) -> Trace:
        """The forward program on several inputs.

        Args:
            lengths: for each input, the length of the sequence, or None for a single vector.
            labels: for each input, its printed name; x, x', x'', .. when None.

        Raises:
            ProgramError: what the architecture does cannot be expressed, with its own words.
        """
        labels = labels or ["x" + "'" * i if i < 3 else f"x[{i}]" for i in range(len(lengths))]
        t = Trace()
        for i, (length, label) in enumerate(zip(lengths, labels, strict=True)):
            if length is not None and length < 1:
                raise ProgramError(f"input {label} is an empty sequence; its length must be at least 1")
            single = length is None
            data = (Datum(i, label),) if single else tuple(Datum(i, label, s + 1) for s in range(length or 0))
            t.inputs.append(data)
            returned = self._build(Net(t, label), data[0] if single else data)
            heads = returned if isinstance(returned, tuple) else (returned,)
            if not heads or not all(isinstance(f, Output) and f.readouts for f in heads):
                raise ProgramError(
                    f"{self.name} must return net.readout(..) or net.average(..), or a tuple of them; got {returned!r}"
                )
            t.heads.append(heads)
            t.outputs.append(heads[0])
            t.ends.append(len(t.program))
        self._notice_frozen(t)
        return t

    def _build(self, net: Net, x: Datum | tuple[Datum, ...]) -> Any:
        try:
            return self.fn(net, x, **self.hyperparameters)
        except (ValueError, IndexError) as error:
            if isinstance(x, Datum) or isinstance(error, TensorProgramError):
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


def check_network(net: Any) -> None:
    """Refuse what is no network.

    Raises:
        ProgramError: saying what was given.
    """
    if isinstance(net, Network):
        return
    if callable(net) and hasattr(net, "network"):
        raise ProgramError(f"{net.__name__} makes networks from hyperparameters: call it, {net.__name__}()")
    raise ProgramError(f"expected a network such as tp.programs.mlp(depth=2), got {type(net).__name__} {net!r}")


def network(fn: Callable[..., Any]) -> Callable[..., Network]:
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
    if not callable(fn):
        raise ProgramError(f"tp.network takes a function (net, x, *, hyperparameters), got {type(fn).__name__} {fn!r}")
    signature = inspect.signature(fn)
    names = list(signature.parameters)[2:]
    defaults = {k: p.default for k, p in signature.parameters.items() if p.default is not p.empty}

    @functools.wraps(fn)
    def build(**hyperparameters: Any) -> Network:
        for key in hyperparameters:
            if key not in names:
                raise ProgramError(f"{fn.__name__} has no hyperparameter {key!r}; {nearest(key, names)}")
        missing = [k for k in names if k not in hyperparameters and k not in defaults]
        if missing:
            raise ProgramError(f"{fn.__name__} needs a value for {', '.join(missing)}")
        for key, value in hyperparameters.items():
            if callable(defaults.get(key)) and not callable(value):
                given = f"the string {value!r}" if isinstance(value, str) else repr(value)
                raise ProgramError(f"{key} of {fn.__name__} is a function such as tp.relu, not {given}")
        return Network(fn, {k: hyperparameters.get(k, defaults.get(k)) for k in names}, fn.__name__)

    build.network = fn  # type: ignore[attr-defined]
    return build
