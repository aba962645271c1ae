"""The forward pass of any traced network in torch, an instruction at a time, on leaves that autograd differentiates.

It shares with the package the program, the tables of its maps and the inputs, and nothing of gradients.
"""

import math

import numpy as np
import sympy as sp
import torch

from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.families import At, is_untied
from tensorprog.functions import evaluate
from tensorprog.ir.instructions import (
    InitScalar,
    Mask,
    MatMul,
    Mix,
    Moment,
    Nonlin,
    Outer,
    Place,
    RowSum,
    Weigh,
    slots_of,
)
from tensorprog.ir.maps import Given

NAMED = {name: getattr(torch, name) for name in ("relu", "erf", "tanh", "exp", "sin", "cos", "abs", "sigmoid")}
NAMED |= {name: getattr(torch.nn.functional, name) for name in ("gelu", "silu", "softplus")}
NAMED["step"] = lambda x: (x > 0) * 1.0


def value(expr, env):
    """A sympy expression of tensors."""
    if expr in env:
        return env[expr]
    if expr.is_number:
        return torch.tensor(float(expr))
    parts = [value(a, env) for a in expr.args]
    if isinstance(expr, sp.Add):
        return sum(parts[1:], parts[0])
    if isinstance(expr, sp.Mul):
        return math.prod(parts[1:], start=parts[0])
    if isinstance(expr, sp.Pow):
        return parts[0] ** parts[1]
    return NAMED[expr.func.__name__](*parts)


def gather(x, at):
    """x[m_k(p)], (P, |w|, n)."""
    rows = torch.tensor(at.rows.T)
    return x[rows.clamp(min=0)] * (rows >= 0)[..., None]


class Torch:
    """A network at width n, with its weights themselves as leaves: W = σ w/√(number of inputs), b = σ b̃.

    ``fans`` are the numbers of inputs, ``stds`` the σ, by name of the parameter.
    """

    def __init__(self, net, inputs, width, seed=3):
        self.f = FiniteNetwork.of(net, inputs)
        self.trace, self.width = self.f.trace, width
        drawn = {n: torch.tensor(w[0]) for n, w in self.f.draw(width, [seed]).items()}
        states = {v.name for v in self.trace.states}
        self.states = {n: w for n, w in drawn.items() if n in states}
        self.fans, self.stds = self._fans(drawn), {n: float(p.std) for n, p in self.trace.parameters.items()}
        self.stds |= {n: float(std) for n, std in self.trace.bias_stds.items()}
        self.leaves = {
            n: (w * self.stds[n] / self.fans[n] ** 0.5).requires_grad_() for n, w in drawn.items() if n not in states
        }
        self.run()

    def _fans(self, drawn):
        fans = dict.fromkeys(self.trace.trainable, 1)
        kinds = self.trace.trainable
        for n, w in drawn.items():
            if kinds.get(n) in ("embedding", "matrix"):
                fans[n] = w.shape[-1]
            if kinds.get(n) == "readout":
                fans[n] = w.numel()
        for _, op in self.trace.program:
            if isinstance(op, MatMul) and op.by is not None:
                name = next(n for n, p in self.trace.parameters.items() if p.var == op.matrix)
                fans[name] = self.width / self.f.at(op.by).weight
        return fans

    def run(self):
        """Values of all variables of the forward program."""
        self.values = {}
        for name, p in self.trace.parameters.items():
            if p.var is not None:
                w = self.leaves[name]
                if p.kind == "readout":
                    w = w / self.stds[name] * self.fans[name] ** 0.5  # v itself; outputs are scaled
                self.values[p.var] = self.spread(w) if p.kind != "matrix" else w
        for var, (name, datum) in self.trace.embeddings.items():
            xi = torch.tensor(self.f.read(datum))
            u = self.leaves[name]
            self.values[var] = torch.einsum("pnc,pc->pn", u, xi) if is_untied(datum) else xi @ u.T
        for var in self.trace.states:
            variance = float(evaluate(self.trace.program.op(var).covariance(var), {}))
            self.values[var] = self.spread(self.states[var.name] * variance**0.5)
        if "ones" in self.trace.program:
            self.values[self.trace.program.named("ones")] = self.spread(torch.ones(self.width))
        for var, op in self.trace.program:
            if var not in self.values and not type(op).__name__.startswith("InitMatrix"):
                self.values[var] = self.step(op)

    def spread(self, x):
        return x[None] if self.f.sizes and x.ndim == 1 else x

    def step(self, op):
        v = self.values
        if isinstance(op, MatMul):
            return self.product(op)
        if isinstance(op, Mix) and isinstance(op.by.map, Given):
            a = torch.tensor(self.f.sizes.matrix(op.by.map, op.by.axes.source))
            return (a.T if op.transpose else a) @ v[op.x]
        if isinstance(op, Mix):
            assert not op.transpose
            at = self.f.at(op.by)
            return gather(v[op.x], at).sum(1) * at.weight
        if isinstance(op, Place):
            at = self.f.at(op.by)
            assert op.transpose and at.rows.shape[1] == 1
            return v[op.x]
        if isinstance(op, Outer):
            return (v[op.x] @ v[op.y].T / self.width)[..., None]
        if isinstance(op, RowSum):
            return v[op.s].sum(-2, keepdim=True)
        if isinstance(op, Mask):
            sizes = (math.prod(a.at(self.f.sizes[a.source])) for a in (op.axes.left, op.axes.right))
            return torch.tensor(np.tri(*sizes)[..., None])
        if isinstance(op, Weigh):
            a = v[op.weights][..., 0]
            return (a.T if op.transpose else a) @ v[op.x]
        if isinstance(op, InitScalar):
            return torch.tensor([float(op.value)])
        assert isinstance(op, (Nonlin, Moment))
        found = value(op.body, {s: v[x] for s, x in slots_of(op).items()})
        if isinstance(op, Nonlin):
            return found
        vectors = [v[x] for x in op.args]
        found = found.expand(np.broadcast_shapes(found.shape, *(x.shape for x in vectors))) if vectors else found
        return found.mean(-1, keepdim=True)

    def product(self, op):
        w, x = self.values[op.matrix], self.values[op.x]
        if op.by is None:
            return x @ (w if op.transpose else w.T)
        assert not op.transpose
        at = At.of(op.by, self.f.sizes)
        return torch.einsum("kab,pkb->pa" if at.tied else "pkab,pkb->pa", w, gather(x, at))

    def outputs(self):
        """f of every input and head, as tensors."""
        return [[self.output(f) for f in heads] for heads in self.trace.heads]

    def output(self, f):
        total = torch.zeros(())
        for r in f.readouts:
            v, x = self.values[r.v], self.values[r.x]
            if r.by is not None:
                at = self.f.at(r.by)
                x = gather(x, at)[0] * (at.weight * len(at.rows)) ** 0.5
            total = total + float(r.std) * (v * x.reshape(v.shape)).sum() / v.numel() ** 0.5
        return total + sum(float(std) / self.stds[name] * self.leaves[name][0] for name, std in f.biases)

    def kernels(self, k=0, l=0):
        """Σ ∂f_k/∂W ∂f_l/∂W of every parameter by name, of the weights themselves."""
        outputs = self.outputs()

        def gradients(f):
            leaves = list(self.leaves.values())
            found = torch.autograd.grad(f, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            return {n: g.numpy().ravel() for n, g in zip(self.leaves, found, strict=True)}

        left, right = ([gradients(heads[h]) for heads in outputs] for h in (k, l))
        return {n: np.array([[a[n] @ b[n] for b in right] for a in left]) for n in self.leaves}
