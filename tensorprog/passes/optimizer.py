"""Optimizers, losses and what is trained, as the coefficients and derivatives that unrolled programs need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.errors import ProgramError, nearest, shortly
from tensorprog.functions import Softplus, evaluate, from_sympy, no_numbers, without_rule
from tensorprog.given import count
from tensorprog.passes.rates import factors_of
from tensorprog.types import Number, Rate


class SGD:
    """Stochastic gradient descent, as in torch.optim.SGD: m_t = μ m_{t−1} + G_t + λ w_t, w_{t+1} = w_t − η_t m_t.

    With Nesterov's momentum the step is w_{t+1} = w_t − η_t (G_t + λ w_t + μ m_t).  All parameters are those of the NTK
    parametrization (w ~ N(0, 1)).

    Args:
        lr: η: a number, a sympy expression, a list with one for each step, or a function of t; or a mapping with one
            for every parameter that trains, such as {"U": 0.1, "matrix": 0.2, "V": 0.5}, by name or pattern as in
            ``tp.ntk``.
        momentum: μ, in [0, 1).
        weight_decay: λ ≥ 0.
        nesterov: whether the momentum is Nesterov's.

    >>> SGD(lr=0.5, momentum=0.5).weight(2, 0)
    3/4
    """

    def __init__(self, lr: Rate, momentum: Number = 0, weight_decay: Number = 0, nesterov: bool = False) -> None:
        self._rates = factors_of(lr, "lr", "the learning rate of") if isinstance(lr, Mapping) else None
        self.lr = sp.S.One if self._rates is not None else lr
        if not callable(self.lr) and not isinstance(self.lr, (list, tuple)):
            self.lr = exact(self.lr, "lr")
        self.momentum, self.weight_decay = exact(momentum, "momentum"), exact(weight_decay, "weight_decay")
        if self._rates is not None and self.weight_decay != 0:
            raise ProgramError("weight_decay needs one learning rate for all parameters: lr is a mapping")
        if self.momentum.is_number and not (self.momentum.is_real and 0 <= self.momentum < 1):
            raise ProgramError(f"momentum must be in [0, 1), got {momentum}")
        if self.weight_decay.is_negative or self.weight_decay.is_real is False:
            raise ProgramError(f"weight_decay must not be negative, got {weight_decay}")
        if not isinstance(nesterov, bool):
            raise ProgramError(f"nesterov must be True or False, got {shortly(nesterov)}")
        if nesterov and self.momentum == 0:
            raise ProgramError("nesterov=True is a kind of momentum; give momentum= too, such as 0.9")
        self.nesterov = nesterov

    def __repr__(self) -> str:
        kind = ", nesterov=True" if self.nesterov else ""
        lr = self.lr if self._rates is None else dict(self._rates)
        return f"SGD(lr={lr}, momentum={self.momentum}, weight_decay={self.weight_decay}{kind})"

    @property
    def plain(self) -> bool:
        """Neither momentum nor weight decay."""
        return self.momentum == 0 and self.weight_decay == 0

    @property
    def decays(self) -> bool:
        """Whether there is weight decay."""
        return bool(self.weight_decay != 0)

    def rate(self, t: int) -> sp.Expr:
        """η_t."""
        t = count(t, "t", 0)
        if callable(self.lr):
            try:
                rate = self.lr(t)
            except TypeError as error:
                raise ProgramError(f"lr must be a number, a list or a function of t: {error}") from error
            return exact(rate, f"lr({t})")
        if isinstance(self.lr, (list, tuple)):
            if t >= len(self.lr):
                raise ProgramError(f"lr lists {len(self.lr)} rates; step {t} has none")
            return exact(self.lr[t], f"lr[{t}]")
        return self.lr

    def decay(self, t: int) -> sp.Expr:
        """a_t in w_t = a_t w_0 − Σ_s c_{t,s} G_s."""
        return self._coefficients(count(t, "t", 0))[0]

    def weight(self, t: int, s: int) -> sp.Expr:
        """c_{t,s} in w_t = a_t w_0 − Σ_s c_{t,s} G_s."""
        t = count(t, "t")
        return self._coefficients(t)[1][count(s, "s", 0, t - 1)]

    def increment(self, t: int, s: int) -> sp.Expr:
        """c_{t+1,s} − c_{t,s}, by which step t moves along G_s; η_t for s = t and 0 before without momentum."""
        t = count(t, "t", 0)
        return self.weight(t + 1, s) - (self.weight(t, s) if s < t else 0)

    def _numbers(self, steps: int, hyper: Mapping[Any, Any]) -> Iterator[tuple[float, np.ndarray]]:
        """(a_t, c_t) for t = 0 .. steps as numbers: O(t) work for each, where ``weight`` makes exact expressions.

        >>> [(a, c.tolist()) for a, c in SGD(0.5, momentum=0.5)._numbers(2, {})]
        [(1.0, []), (1.0, [0.5]), (1.0, [0.75, 0.5])]
        """
        mu, decay = (float(evaluate(x, hyper)) for x in (self.momentum, self.weight_decay))
        a, alpha, c, beta = 1.0, 0.0, np.zeros(0), np.zeros(0)
        yield a, c
        for t in range(steps):
            eta = float(evaluate(self.rate(t), hyper))
            alpha, beta = mu * alpha + decay * a, np.append(mu * beta - decay * c, 1.0)
            step, pushes = alpha, beta
            if self.nesterov:
                step, pushes = decay * a + mu * alpha, np.append(-decay * c, 1.0) + mu * beta
            a, c = a - eta * step, np.append(c, 0.0) + eta * pushes
            yield a, c

    @cache  # noqa: B019  (one optimizer, few steps)
    def _coefficients(self, t: int) -> tuple[sp.Expr, list[sp.Expr], sp.Expr, list[sp.Expr]]:
        """(a_t, c_t, α_t, β_t), where the momentum buffer is m_{t−1} = α_t w_0 + Σ_s β_{t,s} G_s."""
        if t == 0:
            return sp.S.One, [], sp.S.Zero, []
        a, c, alpha, beta = self._coefficients(t - 1)
        eta, mu, decay = self.rate(t - 1), self.momentum, self.weight_decay
        alpha = sp.expand(mu * alpha + decay * a)
        beta = [sp.expand(mu * b - decay * w) for b, w in zip(beta, c, strict=True)] + [sp.S.One]
        step, pushes = alpha, beta  # w_t − w_{t+1} = η (step w_0 + Σ_s pushes_s G_s)
        if self.nesterov:
            now = [*(-decay * w for w in c), sp.S.One]
            step, pushes = decay * a + mu * alpha, [g + mu * b for g, b in zip(now, beta, strict=True)]
        c = [sp.expand(w + eta * b) for w, b in zip([*c, sp.S.Zero], pushes, strict=True)]
        return sp.expand(a - eta * step), c, alpha, beta


class Loss:
    """A loss L(f, y) by name, as a function of (f, y), or None, which leaves χ_t = L'(f_t) a symbol.

    ``"mse"`` is (f − y)²/2 and ``"logistic"`` log(1 + exp(−y f)), summed over outputs.

    Raises:
        ProgramError: unknown name, or a function whose derivative sympy cannot take.
    """

    def __init__(self, loss: Any, heads: int) -> None:
        self.name = loss if isinstance(loss, str) else getattr(loss, "__name__", str(loss))
        self._f = [sp.Dummy(f"f{k}", real=True) for k in range(heads)]
        self._y = [sp.Dummy(f"y{k}", real=True) for k in range(heads)]
        self._derivatives = None if loss is None else self._differentiate(loss)

    def __str__(self) -> str:
        return f"{self.name}: {self._derivatives}"

    @property
    def symbols(self) -> set[sp.Symbol]:
        """Those of a loss of one's own that are no outputs or labels."""
        return {s for d in self._derivatives or () for s in d.free_symbols} - {*self._f, *self._y}

    @property
    def uses_labels(self) -> bool:
        """Whether χ is computed from labels."""
        return self._derivatives is not None

    def derivative(self, k: int, f: Sequence[sp.Expr], y: Sequence[sp.Expr]) -> sp.Expr | None:
        """χ = ∂L/∂f_k; None when it stays a symbol."""
        if self._derivatives is None:
            return None
        return self._derivatives[k].xreplace(dict(zip([*self._f, *self._y], [*f, *y], strict=True)))

    def values(self, k: int, f: Any, y: Any, hyper: Any) -> Any:
        """Numbers of ∂L/∂f_k on arrays, one of f and one of y for each output."""
        if self._derivatives is None:
            raise ProgramError("the loss is None: its derivative is a symbol")
        point = dict(zip([*self._f, *self._y], [*f, *y], strict=True))
        return evaluate(self._derivatives[k], {**hyper, **point})

    def _differentiate(self, loss: Any) -> list[sp.Expr]:
        if isinstance(loss, str) and loss not in _LOSSES:
            raise ProgramError(f"unknown loss {shortly(loss)}; {nearest(loss, _LOSSES)}; or give a function of (f, y)")
        fn: Callable[..., Any] = _LOSSES[loss] if isinstance(loss, str) else loss
        if not callable(fn):
            raise ProgramError(f"loss must be a name, a function of (f, y) or None, got {shortly(loss)}")
        named = isinstance(loss, str)
        single = len(self._f) == 1
        try:
            total = (
                sum(fn(f, y) for f, y in zip(self._f, self._y, strict=True)) if named
                else fn(self._f[0], self._y[0]) if single else fn(tuple(self._f), tuple(self._y))
            )  # fmt: skip
        except TypeError as error:
            of = "(f, y) of sympy symbols" if single else f"(f, y), tuples of {len(self._f)} sympy symbols"
            raise ProgramError(f"the loss {self.name} must be a function of {of}: {error}") from error
        if not isinstance(total, sp.Expr) or not total.free_symbols & set(self._f):
            raise ProgramError(f"the loss {self.name} must return a sympy expression of f, got {shortly(total)}")
        derivatives = [from_sympy(sp.diff(from_sympy(exact(total, "the loss")), f)) for f in self._f]
        for d in derivatives:
            if (unknown := without_rule(d)) is not None and not d.has(sp.Derivative, sp.Subs):
                raise ProgramError(f"the loss {self.name}: {no_numbers(unknown)}")
            if d.has(sp.Derivative, sp.Subs, sp.nan) or any(g.func.__name__ == "delta" for g in d.atoms(sp.Function)):
                raise ProgramError(f"the loss {self.name} has no derivative that can be computed: {d}")
        return derivatives


_LOSSES: dict[str, Callable[[sp.Expr, sp.Expr], sp.Expr]] = {
    "mse": lambda f, y: (f - y) ** 2 / 2,
    "logistic": lambda f, y: Softplus(-y * f),
}
